//! Several nodes on one Redis: whatever happens to one of them or to the store, the others go on, nothing acknowledged is lost and
//! nothing is applied twice.
//!
//! Real processes: the built program, a Redis server, real HTTP, the sandbox's ledger. The moments come from a seed that is printed.
//!
//! ```text
//! CLUSTER_SEED=n      repeats one
//! CLUSTER_ROUNDS=n    more faults
//! CLUSTER_KILLS=n     more takeovers in the test that measures them
//! ```

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use syncline::clock::{Clock as _, SystemClock};
use syncline::sandbox::opportunity::Opportunity;
use syncline_actors::id::{EntityId, region_shards};
use tokio::sync::watch;
use tokio::time::Instant;

#[path = "processes/balancer.rs"]
mod balancer;
#[path = "processes/checker.rs"]
mod checker;
#[path = "processes/history.rs"]
mod history;
#[path = "processes/node.rs"]
mod node;
#[path = "processes/promotion.rs"]
mod promotion;
#[path = "redis/server.rs"]
#[expect(dead_code, reason = "tests/redis.rs says more to servers")]
mod server;
#[path = "processes/store.rs"]
mod store;
#[path = "processes/world.rs"]
mod world;

use history::{Client, Load, What as Message};
use node::{Node, PATIENCE};
use store::Store;
use world::{Kind, World, all_ends_well, knob, orders, sandbox};

/// Orders between two faults, at most.
const ORDERS_EACH: u64 = 12;

/// After a fault all shards must be served again by then.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);

/// After a SIGKILL, 99 of 100 times, with the leases of the defaults; measured where there are enough kills (`CLUSTER_KILLS=20`).
const TAKEOVER_P99_MAX: Duration = Duration::from_secs(6);
const MEASURED_FROM: usize = 20;

#[derive(Debug, Clone, Copy)]
enum What {
    /// A working node is killed, and started again.
    Kill,
    /// It is stopped for longer than its lease, and goes on as if nothing had happened.
    Pause,
    /// It is asked to end, as in a rolling restart.
    Restart,
    /// A Redis server, the only one or one of the masters, is killed, and started again.
    KillStore,
    /// The primary is killed, and its replica takes over; then the former primary comes back as a replica.
    Promote,
    /// The same with one of the masters of a Redis Cluster, which sees to it by itself.
    KillMaster,
}

const ALL: [What; 4] = [What::Kill, What::Pause, What::Restart, What::KillStore];

/// Does it to `node`, and returns how long it took until every shard was served again.
async fn fault(world: &World, what: What, node: &Node) -> Duration {
    let names: Vec<_> = world.nodes.iter().map(|node| &*node.name).collect();
    let others: Vec<_> = names.iter().copied().filter(|name| *name != node.name).collect();
    let mut began = Instant::now();
    match what {
        What::Kill => {
            node.kill().await;
            world.until_served_by(&others).await;
            let took = began.elapsed();
            node.start().await;
            return took;
        }
        What::Pause => {
            node.signal("-STOP").await;
            world.until_served_by(&others).await;
            let took = began.elapsed();
            node.signal("-CONT").await;
            return took;
        }
        What::Restart => {
            let ended = node.terminate().await;
            say(&format!("  ended after {} ms", began.elapsed().as_millis()));
            assert_eq!(ended, Some(0), "{}", world.told());
            // Until it has ended all is served: it hands over what it has.
            began = Instant::now();
            node.start().await;
        }
        What::KillStore => {
            let mut store = world.store.lock().await;
            let server = store.servers.last_mut().unwrap();
            server.kill();
            world.balancer.until(Vec::is_empty).await;
            server.restart();
        }
        What::Promote => {
            let mut store = world.store.lock().await;
            store.promote();
            world.balancer.until(Vec::is_empty).await;
            store.bring_back();
            say(&format!("  a replica again after {} ms", began.elapsed().as_millis()));
            began = Instant::now();
        }
        What::KillMaster => {
            let mut store = world.store.lock().await;
            let killed = store.kill_a_master();
            say(&format!("  another master after {} ms", began.elapsed().as_millis()));
            store.bring_back_to_cluster(killed);
            say(&format!("  a replica again after {} ms", began.elapsed().as_millis()));
            began = Instant::now();
        }
    }
    world.until_served_by(&names).await;
    began.elapsed()
}

/// For whoever repeats or looks at a run.
#[expect(clippy::print_stderr, reason = "the runner shows it when the test fails")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Orders come in while one fault follows another.
async fn under_load(store: Store, kind: Kind, names: &[&str], faults: &[What]) {
    let seed = knob("CLUSTER_SEED", SystemClock.now().0.unsigned_abs());
    let rounds = knob("CLUSTER_ROUNDS", faults.len() as u64);
    say(&format!("CLUSTER_SEED={seed}"));
    let mut rng = StdRng::seed_from_u64(seed);
    let sandbox = sandbox(seed).await;
    let world = World::on(store, kind, names, &sandbox, &["cluster.linger=100ms"]).await;
    let client = Client::new(&world.balancer.url());
    let load = Load::new();
    let failing = async {
        for round in 0..rounds {
            load.more(rng.random_range(1..=ORDERS_EACH)).await;
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..150_000))).await;
            let what = faults[usize::try_from(round).unwrap() % faults.len()];
            world.balancer.until(|ready| !ready.is_empty()).await;
            let ready = world.balancer.ready();
            let working: Vec<_> = world.nodes.iter().filter(|node| ready.contains(&node.listen)).collect();
            let node = working[rng.random_range(0..working.len())];
            say(&format!("{what:?} {}", node.name));
            let took = fault(&world, what, node).await;
            say(&format!("  served after {} ms", took.as_millis()));
            assert!(took < TAKEOVER_MAX, "CLUSTER_SEED={seed}: {what:?}: {took:?}\n{}", world.told());
        }
        load.end();
    };
    let all = async { tokio::join!(client.send_orders(&load), failing) };
    let all = tokio::time::timeout(PATIENCE, all).await;
    let (orders, ()) = all.unwrap_or_else(|_elapsed| {
        panic!("CLUSTER_SEED={seed}: {} are acknowledged\n{}", load.acked(), world.told())
    });
    all_ends_well(seed, &sandbox, &world, &orders, &client.history()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_nodes_goes_on_whatever_happens_to_the_other_or_to_the_store() {
    under_load(Store::single(), Kind::Standby, &["a", "b"], &ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_share_the_work_and_go_on_whatever_happens_to_one_of_them_or_to_the_store() {
    under_load(Store::single(), Kind::Cluster, &["a", "b", "c"], &ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_on_a_redis_cluster_go_on_whatever_happens_to_one_of_them_or_to_one_of_its_masters() {
    under_load(Store::cluster(), Kind::Cluster, &["a", "b", "c"], &ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_primary_and_replica_have_acknowledged_survives_the_promotion_of_either() {
    let faults = [What::Promote, What::Kill, What::Promote];
    under_load(Store::group("redis-replicated"), Kind::Cluster, &["a", "b", "c"], &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_masters_and_replicas_of_a_redis_cluster_have_acknowledged_survives_the_end_of_masters() {
    let faults = [What::KillMaster, What::Kill, What::KillMaster];
    under_load(Store::cluster_with_replicas(), Kind::Cluster, &["a", "b", "c"], &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_three_nodes_fails_no_request() {
    one_after_the_other(&[None]).await;
}

/// Nodes of two releases work together, and either may be given up for the other.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it needs the program of the next release: scripts/upgrade builds one and runs this"]
async fn a_rolling_upgrade_and_the_way_back_fail_no_request() {
    let next = std::env::var("SYNCLINE_NEXT").expect("SYNCLINE_NEXT is the program of the next release");
    one_after_the_other(&[Some(&next), Some(env!("CARGO_BIN_EXE_syncline"))]).await;
}

/// Under load, one node after the other is asked to end and started again, in each round as the program that is given for it.
async fn one_after_the_other(programs: &[Option<&str>]) {
    let seed = knob("CLUSTER_SEED", SystemClock.now().0.unsigned_abs());
    let sandbox = sandbox(seed).await;
    let names = ["a", "b", "c"];
    let world = World::start(Kind::Cluster, &names, &sandbox, &["cluster.linger=1s"]).await;
    let (stop, stopped) = watch::channel(false);
    let orders = orders(100_000);
    let client = Client::new(&world.balancer.url());
    // Each request is sent once: what is not answered 200 has failed.
    let send = async |order: &Opportunity| {
        if *stopped.borrow() {
            return false;
        }
        let answer = client.send(order, Message::Confirmed).await;
        assert_eq!(answer, Some(200), "{}\n{}", order.order_number(), world.told());
        true
    };
    let sending = async {
        use futures::StreamExt as _;
        let all = futures::stream::iter(&orders).map(send).buffered(4);
        all.take_while(|sent| std::future::ready(*sent)).count().await
    };
    let restarting = async {
        for program in programs {
            for node in &world.nodes {
                assert_eq!(node.terminate().await, Some(0), "{}", node.log());
                if let Some(program) = program {
                    node.becomes(program);
                }
                node.start().await;
                world.balancer.until(|ready| ready.len() == names.len()).await;
                if program.is_some() {
                    even(&world).await; // Both releases hold shards, and pass on to each other.
                    say(&format!("{} is {}", node.name, release(node).await));
                }
            }
            world.until_served_by(&names).await;
        }
        stop.send_replace(true);
    };
    let both = tokio::time::timeout(PATIENCE, async { tokio::join!(sending, restarting) }).await;
    let (sent, ()) = both.unwrap_or_else(|_elapsed| panic!("it takes too long\n{}", world.told()));
    say(&format!("{sent} requests, none failed"));
    assert!(sent > 50, "{sent} requests are no load");
    all_ends_well(seed, &sandbox, &world, &orders[..sent], &client.history()).await;
}

/// The release that a node tells of itself.
async fn release(node: &Node) -> String {
    let metrics = node.text("/metrics").await.unwrap_or_default();
    let line = metrics.lines().find_map(|line| line.strip_prefix("syncline_build_info{version=\""));
    line.and_then(|rest| rest.split('"').next()).unwrap_or("not known").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_slept_past_its_lease_tells_nothing_that_is_old() {
    let sandbox = sandbox(1).await;
    let names = ["a", "b", "c"];
    let world = World::start(Kind::Cluster, &names, &sandbox, &[]).await;
    even(&world).await;
    let [a, b, _] = &world.nodes[..] else { panic!("there are three") };
    // Orders of shards that a holds; each has one record, of a command that was rejected.
    let held = shards_of(&world, "a").await;
    let order = |n: u64| EntityId::new("order", &format!("SLEPT-{n}")).unwrap();
    let of_a = (0..).map(order).filter(|order| held.contains(&u64::from(order.shard().0)));
    let orders: Vec<_> = of_a.take(20).collect();
    for order in &orders {
        assert_eq!(cancel(a, order.clone()).await, 409);
    }
    let seq = async |node: &Node, order: &EntityId| {
        node.ask(&format!("/v1/entities/order/{}", order.key()))
            .await
            .map(|page| page["seq"].as_u64().unwrap())
    };
    assert_eq!(seq(a, &orders[0]).await, Some(1), "it is in the memory of a");

    a.signal("-STOP").await;
    world.until_served_by(&["b", "c"]).await;
    for order in &orders {
        let again =
            json!({"entity": order.to_string(), "command": "order.cancel", "data": {"reason": "again"}});
        assert_eq!(b.tell_as("again", "/v1/commands", &again).await, Err(409), "the second record");
    }
    // Questions that wait for a to wake up: what it is asked first it answers before it has heard of anything.
    let asked = futures::future::join_all(orders.iter().map(|order| seq(a, order)));
    let woken = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        a.signal("-CONT").await;
    };
    let (answers, ()) = tokio::join!(asked, woken);
    let old = answers.iter().filter(|seq| **seq == Some(1)).count();
    assert_eq!(old, 0, "{answers:?}\n{}", world.told());
    eprintln!("{} of {} answered, none with what was", answers.iter().flatten().count(), answers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_has_its_shards_taken_over_within_seconds_and_gets_its_share_back() {
    let sandbox = sandbox(1).await;
    let names = ["a", "b", "c"];
    // The leases of the defaults: what is measured is what a user gets.
    let defaults = ["journal.lease.ttl=4s", "journal.lease.renew=1s", "journal.lease.give_up=2500ms"];
    let world = World::start(Kind::Cluster, &names, &sandbox, &defaults).await;
    let mut took = Vec::new();
    for n in 0..knob("CLUSTER_KILLS", 2) {
        even(&world).await;
        let node = &world.nodes[usize::try_from(n).unwrap() % names.len()];
        took.push(fault(&world, What::Kill, node).await);
        say(&format!("{} is taken over after {} ms", node.name, took.last().unwrap().as_millis()));
    }
    even(&world).await;
    took.sort_unstable();
    let p99 = took[(took.len() * 99).div_ceil(100) - 1];
    eprintln!("{} kills: p50 {:?}, p99 {p99:?}, all {took:?}", took.len(), took[took.len() / 2]);
    let most = if took.len() < MEASURED_FROM { TAKEOVER_MAX } else { TAKEOVER_P99_MAX };
    assert!(p99 <= most, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_drains_a_node_moves_a_shard_and_stops_all_moving() {
    let sandbox = sandbox(1).await;
    let names = ["a", "b", "c"];
    let world = World::start(Kind::Cluster, &names, &sandbox, &[]).await;
    even(&world).await;
    let [a, b, c] = &world.nodes[..] else { panic!("there are three") };
    let order = async |order: Value| a.tell("/v1/cluster/orders", &order).await;

    order(json!({"order": "drain", "node": "b", "reason": "a new kernel"})).await.unwrap();
    world.until_served_by(&["a", "c"]).await;
    let status = c.ask("/v1/cluster").await.unwrap();
    assert_eq!(status["orders"][0]["order"], "b drains", "{status}");
    assert!(
        b.ask("/readyz").await.is_none() || world.balancer.ready().contains(&b.listen),
        "it still passes on"
    );
    order(json!({"order": "undrain", "node": "b", "reason": "done"})).await.unwrap();
    even(&world).await;

    order(json!({"order": "pause", "reason": "a look"})).await.unwrap();
    let held = shards_of(&world, "a").await;
    let shard = *held.first().unwrap();
    order(json!({"order": "move", "shard": shard, "node": "c", "reason": "a closer look"})).await.unwrap();
    let moved = async {
        while !shards_of(&world, "c").await.contains(&shard) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.expect("it moves, also while nothing else does");
    assert_eq!(shards_of(&world, "a").await.len(), held.len() - 1, "and nothing comes for it");
    for (wrong, status) in [
        (json!({"order": "move", "shard": 256, "node": "c", "reason": "x"}), 400),
        (json!({"order": "move", "shard": 1, "node": "z", "reason": "x"}), 404),
        (json!({"order": "drain", "node": "z", "reason": "x"}), 404),
        (json!({"order": "pause", "reason": " "}), 400),
        (json!({"order": "dance", "reason": "x"}), 400),
    ] {
        assert_eq!(order(wrong.clone()).await, Err(status), "{wrong}");
    }

    // A connector that is paused at one node is paused at all, and stays so.
    a.tell("/v1/connectors/erp/pause", &json!({"reason": "the ERP is moved"})).await.unwrap();
    for node in [b, c] {
        until_paused(node).await;
    }
    b.kill().await;
    b.start().await;
    until_paused(b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_to_a_region_waits_for_a_node_there_and_goes_nowhere_else() {
    let sandbox = sandbox(1).await;
    let served = ["cluster.regions=[\"a\", \"b\"]", "cluster.linger=100ms"];
    let world = World::start(Kind::Cluster, &["a", "b", "c"], &sandbox, &served).await;
    let [a, b, c] = &world.nodes[..] else { panic!("there are three") };
    let id = |key: &str| EntityId::parse(&format!("order/{key}")).unwrap();
    let held = |node: &'static str| {
        let world = &world;
        async move { shards_of(world, node).await }
    };
    let spread = async {
        while world.shares().await.len() < 3 || !holds_all(&held("b").await, "b") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, spread).await.expect("b takes what is its own");
    // An order that there is not rejects a cancellation, and the rejection is journaled: 409.
    let cancel = |node, key: &'static str| cancel(node, id(key));
    for node in [a, b, c] {
        assert_eq!(cancel(node, "@b:1").await, 409, "it is passed on to b\n{}", world.told());
        assert_eq!(cancel(node, "@nowhere:1").await, 422);
    }
    b.kill().await;
    let others = async {
        while cancel(c, "@a:1").await != 409 || !held("b").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, others).await.expect("a and c go on");
    for node in [a, c] {
        assert_eq!(cancel(node, "@b:2").await, 503, "nobody else may have it");
    }
    for node in ["a", "c"] {
        let shards = held(node).await;
        let (first, last) = region_shards("b");
        assert!(
            !shards.iter().any(|&shard| (u64::from(first)..=u64::from(last)).contains(&shard)),
            "{shards:?}"
        );
    }
    assert_eq!(c.terminate().await, Some(0), "{}", c.log());
    c.start().await;
    let ready = world.balancer.until(|ready| ready.contains(&c.listen));
    let ready = tokio::time::timeout(Duration::from_secs(30), ready).await;
    assert!(ready.is_ok(), "a region that is away keeps no node elsewhere from starting\n{}", world.told());
    b.start().await;
    let back = async {
        while cancel(c, "@b:2").await != 409 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("b is there again");
}

/// Whether all shards of a region are among `shards`.
fn holds_all(shards: &[u64], region: &str) -> bool {
    let (first, last) = region_shards(region);
    (first..=last).all(|shard| shards.contains(&u64::from(shard)))
}

/// The status that a command gets that was not sent before.
async fn cancel(node: &Node, entity: EntityId) -> u16 {
    let command =
        json!({"entity": entity.to_string(), "command": "order.cancel", "data": {"reason": "test"}});
    node.tell("/v1/commands", &command).await.map_or_else(|status| status, |_answer| 200)
}

async fn until_paused(node: &Node) {
    let paused = async {
        loop {
            if let Some(page) = node.ask("/v1/connectors").await {
                let erp = page["items"].as_array().unwrap().iter().find(|one| one["name"] == "erp").unwrap();
                // A breaker that is open pauses it too, by nobody.
                let by = erp["paused_by"].as_str().unwrap_or_default();
                if erp["paused"] == true && by.ends_with(": the ERP is moved") {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, paused).await.expect("it hears of it");
}

/// Which shards a node holds.
async fn shards_of(world: &World, name: &str) -> Vec<u64> {
    let cluster = world.ask("/v1/cluster").await.expect("a node is ready");
    let holders = cluster["holders"].as_array().unwrap();
    let which =
        holders.iter().find(|holder| holder["node"] == name).map(|holder| holder["which"].as_str().unwrap());
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<u64>().unwrap()..=last.parse().unwrap()
    };
    which.unwrap_or_default().split(',').filter(|text| !text.is_empty()).flat_map(range).collect()
}

/// Until each node has its share.
async fn even(world: &World) {
    let is_even = async {
        loop {
            if world.shares_if_told().await.is_some_and(|shares| {
                shares.len() == world.nodes.len() && shares.values().all(|&count| (85..=86).contains(&count))
            }) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, is_even).await.is_ok(),
        "{:?}\n{}",
        world.shares_if_told().await,
        world.told()
    );
}

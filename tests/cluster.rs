//! Two nodes on one Redis, one working and one waiting: whatever happens to the one, the other goes on, nothing acknowledged is lost
//! and nothing is applied twice.
//!
//! Real processes: the built program, a Redis server, real HTTP, the sandbox's ledger. The moments come from a seed that is printed;
//! `PAIR_SEED=n` repeats one, `PAIR_ROUNDS=n` has more faults.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use secrecy::SecretString;
use serde_json::Value;
use syncline::clock::{Clock as _, SystemClock};
use syncline::sandbox::opportunity::{Opportunity, Variant};
use syncline::sandbox::{Emitter, Fault, Plan, Sandbox, SandboxConfig};
use tokio::sync::watch;
use tokio::time::Instant;

#[path = "processes/balancer.rs"]
mod balancer;
#[path = "processes/node.rs"]
mod node;
#[path = "redis/server.rs"]
#[expect(dead_code, reason = "tests/redis.rs promotes servers; here they only die")]
mod server;

use balancer::Balancer;
use node::{CRM, Node, PATIENCE, WAREHOUSE};
use server::Server;

/// Faults, and orders between two of them.
const ROUNDS: u64 = 8;
const ORDERS_EACH: u64 = 12;

/// Orders that are sent at the same time.
const AT_ONCE: usize = 8;

/// A node that answers again after a fault must be there by then.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);

/// Settings of a lease that is as short as a slow machine allows.
const LEASE: [&str; 3] =
    ["journal.lease.ttl=2s", "journal.lease.renew=300ms", "journal.lease.give_up=1200ms"];

#[derive(Debug, Clone, Copy)]
enum What {
    /// The working node is killed, and started again.
    Kill,
    /// It is stopped for longer than its lease, and goes on as if nothing had happened.
    Pause,
    /// It is asked to end, as in a rolling restart.
    Restart,
    /// Redis is killed, and started again.
    KillStore,
}

struct World {
    redis: tokio::sync::Mutex<Server>,
    nodes: Vec<Node>,
    balancer: Balancer,
}

impl World {
    async fn start(sandbox: &Sandbox) -> Self {
        let redis = Server::start();
        let mut settings =
            vec!["journal.store=redis".to_owned(), format!("journal.redis.urls=[{:?}]", redis.url())];
        settings.extend(LEASE.map(str::to_owned));
        let nodes: Vec<_> = ["a", "b"].map(|name| Node::new(name, sandbox, &settings)).into();
        for node in &nodes {
            node.start().await;
        }
        let balancer = Balancer::start(nodes.iter().map(|node| node.listen).collect()).await;
        sandbox.set_target(&balancer.url()).unwrap();
        balancer.until(|ready| ready.len() == 1).await;
        Self { redis: redis.into(), nodes, balancer }
    }

    /// The node that works.
    fn working(&self) -> Option<&Node> {
        let ready = self.balancer.ready();
        assert!(ready.len() <= 1, "two nodes say that they hold every shard: {ready:?}");
        self.nodes.iter().find(|node| ready.contains(&node.listen))
    }

    /// Does it, and returns how long nobody was ready to work.
    async fn fault(&self, what: What) -> Duration {
        self.balancer.until(|ready| !ready.is_empty()).await;
        let node = self.working().unwrap();
        let other = move |ready: &Vec<std::net::SocketAddr>| ready.iter().any(|ready| *ready != node.listen);
        let began = Instant::now();
        match what {
            What::Kill => {
                node.kill().await;
                self.balancer.until(other).await;
                let took = began.elapsed();
                node.start().await;
                return took;
            }
            What::Pause => {
                node.signal("-STOP").await;
                self.balancer.until(other).await;
                let took = began.elapsed();
                node.signal("-CONT").await;
                return took;
            }
            What::Restart => {
                let ended = node.terminate().await;
                assert_eq!(ended, Some(0), "{}", node.log());
                node.start().await;
            }
            What::KillStore => {
                let mut redis = self.redis.lock().await;
                redis.kill();
                self.balancer.until(Vec::is_empty).await;
                redis.restart();
            }
        }
        self.balancer.until(|ready| !ready.is_empty()).await;
        began.elapsed()
    }

    /// What the nodes have logged last.
    fn told(&self) -> String {
        let last = |node: &Node| {
            let log = node.log();
            let lines: Vec<&str> = log.lines().rev().take(40).collect();
            format!("{}:\n{}\n", node.listen, lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        format!("ready: {:?}\n{}", self.balancer.ready(), self.nodes.iter().map(last).collect::<String>())
    }

    /// What the API of the working node answers.
    async fn ask(&self, path: &str) -> Option<Value> {
        self.working()?.ask(path).await
    }
}

/// Sends an order until it is acknowledged, and then once more: the second is a duplicate.
async fn send(emitter: &Emitter, order: &Opportunity, acked: &watch::Sender<u64>) {
    let id = order.message_id("confirmed");
    for _ in 0..2 {
        let body = order.confirmed(SystemClock.now());
        while !matches!(emitter.send("crm", &body, &id).await, Ok(200)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    acked.send_modify(|count| *count += 1);
}

async fn sandbox(seed: u64) -> Sandbox {
    let mut config = SandboxConfig::local(Arc::new(SystemClock));
    config.seed = seed;
    config.secrets = BTreeMap::from([("warehouse".to_owned(), SecretString::from(WAREHOUSE))]);
    let sandbox = Sandbox::start(config).await.unwrap();
    for system in ["erp", "warehouse", "support"] {
        sandbox.set_faults(system, vec![Plan::always(Fault::CommitThenCut).at_rate(0.05)]).unwrap();
    }
    sandbox
}

fn knob(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_nodes_goes_on_whatever_happens_to_the_other_or_to_the_store() {
    let seed = knob("PAIR_SEED", SystemClock.now().0.unsigned_abs());
    let rounds = knob("PAIR_ROUNDS", ROUNDS);
    eprintln!("PAIR_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let sandbox = sandbox(seed).await;
    let world = tokio::time::timeout(PATIENCE, World::start(&sandbox)).await.expect("a node is ready");

    let orders: Vec<_> = (1..=rounds * ORDERS_EACH).map(|n| Opportunity::new(n, Variant::Normal)).collect();
    let secrets = BTreeMap::from([("crm".to_owned(), SecretString::from(CRM))]);
    let emitter = Emitter::new(&world.balancer.url(), &secrets, Arc::new(SystemClock)).unwrap();
    let acked = watch::Sender::new(0);
    let sending = async {
        use futures::StreamExt as _;
        let all = futures::stream::iter(&orders).map(|order| send(&emitter, order, &acked));
        all.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    };
    let faults = async {
        for round in 0..rounds {
            let enough = rng.random_range(round * ORDERS_EACH..(round + 1) * ORDERS_EACH);
            acked.subscribe().wait_for(|count| *count >= enough).await.unwrap();
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..150_000))).await;
            let all = [What::Kill, What::Pause, What::Restart, What::KillStore];
            let what = all[usize::try_from(round).unwrap() % all.len()];
            eprintln!("{what:?}");
            let took = world.fault(what).await;
            eprintln!("  ready after {} ms", took.as_millis());
            assert!(took < TAKEOVER_MAX, "PAIR_SEED={seed}: {what:?}: {took:?}");
        }
    };
    let all = tokio::time::timeout(PATIENCE, async { tokio::join!(sending, faults) }).await;
    assert!(all.is_ok(), "PAIR_SEED={seed}: {} are acknowledged\n{}", *acked.borrow(), world.told());
    sandbox.clear_faults();

    let ended = async {
        for order in &orders {
            let path = format!("/v1/entities/order/{}", order.order_number());
            while world.ask(&path).await.is_none_or(|entity| entity["status"] != "completed") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("every order ends");
    check(seed, &sandbox, &world, &orders).await;
}

/// Ledger and journal tell the same: each order once in every system, each message once in its journal.
async fn check(seed: u64, sandbox: &Sandbox, world: &World, orders: &[Opportunity]) {
    let ledger = sandbox.ledger();
    assert!(ledger.violations.is_empty(), "PAIR_SEED={seed}: {:#?}", ledger.violations);
    for order in orders {
        let number = order.order_number();
        for (system, operation) in [
            ("erp", "create_sales_order"),
            ("erp", "create_invoice"),
            ("warehouse", "ship"),
            ("support", "create_ticket"),
        ] {
            let times =
                ledger.of(system, operation).filter(|entry| entry.reference.starts_with(&number)).count();
            assert_eq!(times, 1, "PAIR_SEED={seed}: {number} {system}.{operation}");
        }
        let page = world.ask(&format!("/v1/entities/order/{number}/timeline?limit=1000")).await.unwrap();
        let id = |entry: &Value| entry["message_id"].as_str().unwrap().to_owned();
        let ids: Vec<_> = page["items"].as_array().unwrap().iter().map(id).collect();
        let own = order.message_id("confirmed");
        assert_eq!(ids.iter().filter(|id| **id == own).count(), 1, "PAIR_SEED={seed}: {number} {ids:?}");
        assert_eq!(
            ids.iter().collect::<BTreeSet<_>>().len(),
            ids.len(),
            "PAIR_SEED={seed}: {number} {ids:?}"
        );
    }
}

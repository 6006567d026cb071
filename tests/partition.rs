//! Three nodes, each in a network of its own, over mutual TLS, under load, while ways between them and to the store are cut and healed.
//!
//! Needs a machine on which this user may make network namespaces (root, iproute2, nftables) and socat and openssl; elsewhere it is skipped,
//! and says so. `CLUSTER_SEED=n` repeats the orders.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use syncline::clock::{Clock as _, SystemClock};
use tokio::sync::watch;
use tokio::time::Instant;

#[path = "processes/balancer.rs"]
mod balancer;
#[path = "processes/lab.rs"]
mod lab;
#[path = "processes/node.rs"]
#[expect(dead_code, reason = "tests/cluster.rs kills and stops nodes; here only their ways are cut")]
mod node;
#[path = "redis/server.rs"]
#[expect(dead_code, reason = "tests/redis.rs promotes servers; here it only runs")]
mod server;
#[path = "processes/world.rs"]
#[expect(dead_code, reason = "tests/cluster.rs has a world without networks")]
mod world;

use balancer::Balancer;
use lab::{Cut, Lab, PORT};
use node::{Node, PATIENCE};
use server::{SOUND, Server};
use world::{LEASE, World, all_ends_well, knob, orders, sandbox, send_all};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// How long a way is cut: longer than the lease.
const CUT_FOR: Duration = Duration::from_secs(5);

/// After the heal all shards must be served, and all nodes be ready, by then.
const HEALED_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
enum What {
    /// One node reaches nobody.
    Alone,
    /// It hears nobody, and is heard.
    Deaf,
    /// It is heard by nobody, and hears.
    Mute,
    /// It does not reach the other nodes, but the store.
    FromPeers,
    /// It does not reach the store, but the other nodes.
    FromStore,
    /// No node reaches another; all reach the store.
    Apart,
}

impl What {
    const ALL: [Self; 6] =
        [Self::Alone, Self::Deaf, Self::Mute, Self::FromPeers, Self::FromStore, Self::Apart];

    /// What is cut at each node, when it happens to node `n`.
    fn cuts(self, lab: &Lab, n: u8) -> Vec<(u8, Vec<Cut>)> {
        let both = |address| [Cut::In(Some(address)), Cut::Out(Some(address))];
        let peers = |n: u8| {
            (0..3).filter(move |other| *other != n).flat_map(|other| both(lab.address(other))).collect()
        };
        match self {
            Self::Alone => vec![(n, vec![Cut::In(None), Cut::Out(None)])],
            Self::Deaf => vec![(n, vec![Cut::In(None)])],
            Self::Mute => vec![(n, vec![Cut::Out(None)])],
            Self::FromPeers => vec![(n, peers(n))],
            Self::FromStore => vec![(n, both(lab.store()).to_vec())],
            Self::Apart => (0..3).map(|n| (n, peers(n))).collect(),
        }
    }
}

/// Three nodes in their networks. The store listens on the bridge.
async fn build(lab: &mut Lab, sandbox: &syncline::sandbox::Sandbox) -> World {
    let store = lab.store().to_string();
    let redis = Server::with(&[SOUND, &["--bind", "127.0.0.1", &store, "--protected-mode", "no"]].concat());
    let directory = lab.certificates(&NAMES).to_owned();
    let peers: Vec<_> = (0..3).map(|n| format!("{}:{PORT}", lab.address(n))).collect();
    let systems = sandbox.url("x").trim_start_matches("http://").trim_end_matches("/x").parse().unwrap();
    let mut nodes = Vec::new();
    for (n, name) in (0_u8..).zip(NAMES) {
        let pem = |file: String| directory.join(file).display().to_string();
        let mut settings = vec![
            "journal.store=redis".to_owned(),
            format!("journal.redis.urls=[\"redis://{store}:{}\"]", redis.port),
            format!("cluster.listen={}", peers[usize::from(n)]),
            format!("cluster.seeds={peers:?}"),
            "cluster.keys=env:GOSSIP_KEYS".to_owned(),
            format!("cluster.tls.ca={}", pem("ca.pem".to_owned())),
            format!("cluster.tls.cert={}", pem(format!("{name}.pem"))),
            format!("cluster.tls.key={}", pem(format!("{name}-key.pem"))),
        ];
        settings.extend(LEASE.map(str::to_owned));
        let node = Node::new(name, sandbox, &settings).within(lab.space(n));
        lab.relay(n, node.listen, false);
        lab.relay(n, systems, true);
        node.start().await;
        nodes.push(node);
    }
    let balancer = Balancer::start(nodes.iter().map(|node| node.listen).collect()).await;
    sandbox.set_target(&balancer.url()).unwrap();
    let world = World { redis: redis.into(), nodes, balancer };
    let ready = tokio::time::timeout(PATIENCE, world.balancer.until(|ready| ready.len() == 3)).await;
    assert!(ready.is_ok(), "they are not ready:\n{}", world.told());
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_way_is_cut_nothing_is_lost_or_done_twice_and_all_is_served_soon_after_the_heal() {
    let mut lab = match Lab::new(3) {
        Ok(lab) => lab,
        Err(why) => return say(&format!("SKIPPED: no network can be cut on this machine: {why}")),
    };
    let seed = knob("CLUSTER_SEED", SystemClock.now().0.unsigned_abs());
    say(&format!("CLUSTER_SEED={seed}"));
    let sandbox = sandbox(seed).await;
    let world = build(&mut lab, &sandbox).await;
    let orders = orders(10 * What::ALL.len() as u64);
    let acked = watch::Sender::new(0);
    let faults = async {
        for (round, what) in (0_u64..).zip(What::ALL) {
            acked.subscribe().wait_for(|count| *count >= round * 10).await.unwrap();
            let n = u8::try_from((seed + round) % 3).unwrap();
            let cuts = what.cuts(&lab, n);
            for (n, cuts) in &cuts {
                lab.cut(*n, cuts).unwrap();
            }
            say(&format!("{what:?} {}", NAMES[usize::from(n)]));
            tokio::time::sleep(CUT_FOR).await;
            for (n, _) in &cuts {
                lab.heal(*n).unwrap();
            }
            let began = Instant::now();
            let healed = async {
                world.balancer.until(|ready| ready.len() == NAMES.len()).await;
                world.until_served_by(&NAMES).await;
            };
            let in_time = tokio::time::timeout(HEALED_WITHIN, healed).await.is_ok();
            assert!(in_time, "CLUSTER_SEED={seed}: {what:?}: not healed\n{}", world.told());
            say(&format!("  served {} ms after the heal", began.elapsed().as_millis()));
        }
    };
    let all = async { tokio::join!(send_all(&world, &orders, &acked), faults) };
    let all = tokio::time::timeout(2 * PATIENCE, all).await;
    assert!(all.is_ok(), "CLUSTER_SEED={seed}: {} are acknowledged\n{}", *acked.borrow(), world.told());
    all_ends_well(seed, &sandbox, &world, &orders).await;
}

/// For whoever repeats or looks at a run.
#[expect(clippy::print_stderr, reason = "the runner shows it when the test fails")]
fn say(text: &str) {
    eprintln!("{text}");
}

//! Three nodes, each in a network of its own: whatever is cut between them and their store, nothing acknowledged is lost, nothing is
//! applied twice, and soon after the heal everything is served again.
//!
//! Real processes and a real network: namespaces, a bridge, nftables; the nodes speak mutual TLS with each other and HTTPS with their
//! clients, as beyond loopback they must. Where the machine does not allow that, the test says so loudly and does nothing.
//!
//! ```text
//! PARTITION_SEED=n      repeats one
//! PARTITION_ROUNDS=n    more cuts
//! ```

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use syncline::clock::{Clock as _, SystemClock};
use syncline::sandbox::Sandbox;
use tempfile::TempDir;
use tokio::time::Instant;

#[path = "transport/authority.rs"]
#[expect(dead_code, reason = "tests/transport.rs issues certificates of every kind")]
mod authority;
#[path = "processes/balancer.rs"]
mod balancer;
#[path = "processes/checker.rs"]
mod checker;
#[path = "processes/history.rs"]
mod history;
#[path = "processes/network.rs"]
mod network;
#[path = "processes/node.rs"]
#[expect(dead_code, reason = "tests/cluster.rs kills nodes; here they only lose sight of each other")]
mod node;
#[path = "redis/server.rs"]
#[expect(dead_code, reason = "tests/redis.rs says more to servers")]
mod server;
#[path = "processes/store.rs"]
#[expect(dead_code, reason = "tests/cluster.rs has stores of every kind")]
mod store;
#[path = "processes/world.rs"]
#[expect(dead_code, reason = "tests/cluster.rs asks more of its world")]
mod world;

use authority::Authority;
use balancer::Balancer;
use history::{Client, Load};
use network::Network;
use node::{Node, PATIENCE, Place, TOKEN};
use server::{SOUND, Server};
use store::Store;
use world::{LEASE, World, all_ends_well, knob, sandbox_at};

const NODES: [&str; 3] = ["a", "b", "c"];
const REDIS: &str = "redis";

/// Orders between two cuts, and during one.
const ORDERS_EACH: u64 = 8;
const ORDERS_DURING: u64 = 3;

/// After the heal all shards must be served again by then; and while a node is cut off from the store, its shards by the others.
const SERVED_MAX: Duration = Duration::from_secs(10);

/// What is cut. Clients reach every node all the time.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// One node from the others and from the store.
    Alone,
    /// What is sent to it does not arrive; what it sends does.
    Deaf,
    /// What it sends does not arrive; what is sent to it does.
    Mute,
    /// One node from the others; all reach the store.
    FromPeers,
    /// One node from the store; the nodes reach each other.
    FromStore,
    /// Each node from the others; all reach the store.
    EachFromEach,
}

const ALL: [Cut; 6] = [Cut::Alone, Cut::Deaf, Cut::Mute, Cut::FromPeers, Cut::FromStore, Cut::EachFromEach];

impl Cut {
    /// The ways on which nothing passes when it happens to `node`.
    fn ways(self, node: &'static str) -> Vec<(&'static str, &'static str)> {
        let peers: Vec<_> = NODES.into_iter().filter(|name| *name != node).collect();
        let all: Vec<_> = peers.iter().copied().chain([REDIS]).collect();
        let to = |others: &[&'static str]| others.iter().map(|other| (node, *other)).collect::<Vec<_>>();
        let from = |others: &[&'static str]| others.iter().map(|other| (*other, node)).collect::<Vec<_>>();
        match self {
            Self::Alone => [to(&all), from(&all)].concat(),
            Self::Deaf => from(&all),
            Self::Mute => to(&all),
            Self::FromPeers => [to(&peers), from(&peers)].concat(),
            Self::FromStore => [to(&[REDIS]), from(&[REDIS])].concat(),
            Self::EachFromEach => NODES.iter().flat_map(|node| Self::FromPeers.ways(node)).collect(),
        }
    }

    /// Whether the node cannot renew its leases, so that others take its shards.
    fn costs_the_leases(self) -> bool {
        !matches!(self, Self::FromPeers | Self::EachFromEach)
    }
}

/// For whoever repeats or looks at a run.
#[expect(clippy::print_stderr, reason = "the runner shows it when the test fails")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_lose_nothing_and_serve_all_again_whatever_is_cut_between_them_and_their_store() {
    let members = [&NODES[..], &[REDIS]].concat();
    let network = match network::run("openssl version").and_then(|()| Network::start(&members)) {
        Ok(network) => network,
        Err(why) => {
            say(&format!("SKIPPED: no network can be cut on this machine: {why}"));
            return;
        }
    };
    let seed = knob("PARTITION_SEED", SystemClock.now().0.unsigned_abs());
    let rounds = knob("PARTITION_ROUNDS", ALL.len() as u64);
    say(&format!("PARTITION_SEED={seed}"));
    let sandbox = sandbox_at(SocketAddr::new(network.here(), 0), seed).await;
    let (world, _files) = start(&network, &sandbox).await;
    let client = Client::new(&world.balancer.url());
    let load = Load::new();
    let cutting = cut_again_and_again(seed, rounds, &network, &world, &load);
    let all = async { tokio::join!(client.send_orders(&load), cutting) };
    let all = tokio::time::timeout(PATIENCE, all).await;
    let (orders, ()) = all.unwrap_or_else(|_elapsed| {
        panic!("PARTITION_SEED={seed}: {} are acknowledged\n{}", load.acked(), world.told())
    });
    all_ends_well(seed, &sandbox, &world, &orders, &client.history()).await;
}

async fn cut_again_and_again(seed: u64, rounds: u64, network: &Network, world: &World, load: &Load) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cuts = Vec::new();
    for _ in 0..rounds {
        if cuts.is_empty() {
            cuts = ALL.to_vec();
            cuts.shuffle(&mut rng);
        }
        let (cut, node) = (cuts.pop().unwrap(), NODES[rng.random_range(0..NODES.len())]);
        load.more(rng.random_range(1..=ORDERS_EACH)).await;
        until_all_hold_some(world).await;
        say(&format!("{cut:?} {node}"));
        network.cut(&cut.ways(node));
        let began = Instant::now();
        if cut.costs_the_leases() {
            let others: Vec<_> = NODES.into_iter().filter(|name| *name != node).collect();
            world.until_served_by(&others).await;
            let took = began.elapsed();
            say(&format!("  taken over after {} ms", took.as_millis()));
            assert!(took < SERVED_MAX, "PARTITION_SEED={seed}: {cut:?}: {took:?}\n{}", world.told());
        } else {
            until_unseen(world, cut, node).await;
            say(&format!("  unseen after {} ms", began.elapsed().as_millis()));
        }
        load.more(ORDERS_DURING).await;
        network.heal();
        let healed = Instant::now();
        world.balancer.until(|ready| ready.len() == NODES.len()).await;
        world.until_served_by_each().await;
        let took = healed.elapsed();
        say(&format!("  served again after {} ms", took.as_millis()));
        assert!(took < SERVED_MAX, "PARTITION_SEED={seed}: {cut:?}: {took:?}\n{}", world.told());
    }
    load.end();
}

/// Until there is something to lose everywhere.
async fn until_all_hold_some(world: &World) {
    while world.shares().await.len() < NODES.len() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Until the nodes that are cut off from each other know of it.
async fn until_unseen(world: &World, cut: Cut, alone: &str) {
    for node in &world.nodes {
        let seen = match cut {
            Cut::EachFromEach => 1,
            _ if node.name == alone => 1,
            _ => NODES.len() - 1,
        };
        let members = async || {
            let status = node.ask("/v1/cluster").await.unwrap_or_default();
            status["members"].as_array().map(Vec::len)
        };
        while members().await != Some(seen) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The nodes and their Redis, each in its own network, behind a balancer that is part of this test.
async fn start(network: &Network, sandbox: &Sandbox) -> (World, TempDir) {
    let host = network.address(REDIS);
    let store = Store::of(Server::at(network.inside(REDIS), host, 6379, SOUND).expect("redis starts"));
    let (authority, files) = (Authority::new("a test"), tempfile::tempdir().unwrap());
    let config = inner_config(files.path());
    make_certificates(files.path());
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let token = [(http::header::AUTHORIZATION, format!("Bearer {TOKEN}").parse().unwrap())];
    let http = node::client()
        .add_root_certificate(root)
        .default_headers(token.into_iter().collect())
        .build()
        .unwrap();
    let seeds: Vec<_> = NODES.iter().map(|name| format!("{}:7946", network.address(name))).collect();
    let nodes: Vec<_> = NODES
        .iter()
        .map(|&name| {
            let address = network.address(name);
            let certificates = certificates(&authority, files.path(), name, &address.to_string());
            let mut settings = store.settings();
            settings.extend(LEASE.map(str::to_owned));
            settings.extend(certificates);
            settings.extend([
                format!("node.config_dir={config}"),
                format!("cluster.listen={address}:7946"),
                format!("cluster.seeds={seeds:?}"),
                "cluster.keys=env:GOSSIP_KEYS".to_owned(),
                r#"auth.tokens=[{name="test",role="admin",token="env:SYNCLINE_TOKEN"}]"#.to_owned(),
            ]);
            let listen = SocketAddr::new(address, 7171);
            let place = Place { before: network.inside(name), listen, scheme: "https", http: http.clone() };
            Node::new(name, place, sandbox, &settings)
        })
        .collect();
    let addresses = nodes.iter().map(|node| node.listen).collect();
    let tls = authority::client(&authority.pem(), None);
    let balancer = Balancer::start(addresses, http, Some(tls)).await;
    let world = World { store: store.into(), nodes, balancer };
    world.begin(sandbox, NODES.len()).await;
    (world, files)
}

/// Certificates of all nodes for each other, made as the documentation says: `ca.pem`, `a.pem`, `a-key.pem` and so on.
fn make_certificates(directory: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/certificates.sh");
    let made = Command::new("sh").arg(script).arg(directory).arg("syncline").args(NODES).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Certificates of a node for other nodes and for clients, as settings.
fn certificates(authority: &Authority, directory: &Path, node: &str, address: &str) -> Vec<String> {
    let client_side = authority.issue(address);
    for (end, text) in [("http", client_side.cert), ("http-key", client_side.key)] {
        std::fs::write(directory.join(format!("{node}-{end}.pem")), text).unwrap();
    }
    let files = [
        ("cluster.tls.ca", "ca".to_owned()),
        ("cluster.tls.cert", node.to_owned()),
        ("cluster.tls.key", format!("{node}-key")),
        ("http.tls.cert", format!("{node}-http")),
        ("http.tls.key", format!("{node}-http-key")),
    ];
    files.map(|(key, file)| format!("{key}={}", directory.join(file + ".pem").display())).into()
}

/// The configuration of this repository, whose connectors may call the sandbox although it is not on loopback.
fn inner_config(directory: &Path) -> String {
    let config = directory.join("config");
    let copied = Command::new("cp").arg("-r").arg("config").arg(&config).status();
    assert!(copied.unwrap().success());
    for file in std::fs::read_dir(config.join("connectors")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let inner =
            text.replace("\nsandbox: true\n", "\nsandbox: true\ninsecure: true\nallow_private: true\n");
        assert_ne!(inner, text, "{} is not as this test knows it", path.display());
        std::fs::write(&path, inner).unwrap();
    }
    config.display().to_string()
}

//! Nodes in processes of their own on one Redis, behind a balancer, with the sandbox's systems, and what must hold of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use syncline::clock::{Clock as _, SystemClock};
use syncline::sandbox::opportunity::{Opportunity, Variant};
use syncline::sandbox::{Emitter, Fault, Plan, Sandbox, SandboxConfig};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::balancer::Balancer;
use crate::node::{CRM, Node, PATIENCE, WAREHOUSE};
use crate::server::Server;

/// Orders that are sent at the same time.
const AT_ONCE: usize = 8;

/// Settings of a lease that is as short as a slow machine allows.
pub(crate) const LEASE: [&str; 3] =
    ["journal.lease.ttl=2s", "journal.lease.renew=300ms", "journal.lease.give_up=1200ms"];

/// How the nodes share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One works, the others wait.
    Standby,
    /// Each holds a part of the shards.
    Cluster,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) redis: tokio::sync::Mutex<Server>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) balancer: Balancer,
}

impl World {
    /// Nodes `a`, `b` and so on, all ready, each in a region of its own name.
    pub(crate) async fn start(kind: Kind, names: &[&str], sandbox: &Sandbox, more: &[&str]) -> Self {
        let redis = Server::start();
        let mut settings =
            vec!["journal.store=redis".to_owned(), format!("journal.redis.urls=[{:?}]", redis.url())];
        settings.extend(LEASE.iter().chain(more).map(|&setting| setting.to_owned()));
        let peers: Vec<_> = names.iter().map(|_| free()).collect();
        let nodes: Vec<_> = names
            .iter()
            .zip(&peers)
            .map(|(name, listen)| {
                let mut settings = settings.clone();
                if kind == Kind::Cluster {
                    let seeds: Vec<_> = peers.iter().map(ToString::to_string).collect();
                    settings.push(format!("cluster.listen={listen}"));
                    settings.push(format!("cluster.seeds={seeds:?}"));
                    settings.push("cluster.keys=env:GOSSIP_KEYS".to_owned());
                    settings.push(format!("cluster.region={name}"));
                }
                Node::new(name, sandbox, &settings)
            })
            .collect();
        for node in &nodes {
            node.start().await;
        }
        let balancer = Balancer::start(nodes.iter().map(|node| node.listen).collect()).await;
        sandbox.set_target(&balancer.url()).unwrap();
        let working = if kind == Kind::Cluster { nodes.len() } else { 1 };
        let world = Self { redis: redis.into(), nodes, balancer };
        let ready =
            tokio::time::timeout(PATIENCE, world.balancer.until(|ready| ready.len() == working)).await;
        assert!(ready.is_ok(), "they are not ready:\n{}", world.told());
        world
    }

    /// What the nodes have logged last.
    pub(crate) fn told(&self) -> String {
        let last = |node: &Node| {
            let log = node.log();
            let lines: Vec<&str> = log.lines().rev().take(40).collect();
            format!("{}:\n{}\n", node.listen, lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        format!("ready: {:?}\n{}", self.balancer.ready(), self.nodes.iter().map(last).collect::<String>())
    }

    /// What the API of a ready node answers.
    pub(crate) async fn ask(&self, path: &str) -> Option<Value> {
        let ready = self.balancer.ready();
        self.nodes.iter().find(|node| ready.contains(&node.listen))?.ask(path).await
    }

    /// Until every shard is held by a node of `names` under a lease that runs.
    pub(crate) async fn until_served_by(&self, names: &[&str]) {
        loop {
            if let Some(cluster) = self.ask("/v1/cluster").await
                && cluster["free"] == 0
                && cluster["holders"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|holder| names.contains(&holder["node"].as_str().unwrap()))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many shards each node holds.
    pub(crate) async fn shares(&self) -> BTreeMap<String, u64> {
        let cluster = self.ask("/v1/cluster").await.expect("a node is ready");
        let holders = cluster["holders"].as_array().unwrap().iter();
        holders
            .map(|holder| (holder["node"].as_str().unwrap().to_owned(), holder["shards"].as_u64().unwrap()))
            .collect()
    }
}

/// An address that is free now, for datagrams and for connections.
fn free() -> SocketAddr {
    loop {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Sends all orders, several at the same time, each until it is acknowledged and then once more: the second is a duplicate.
pub(crate) async fn send_all(world: &World, orders: &[Opportunity], acked: &watch::Sender<u64>) {
    use futures::StreamExt as _;
    let emitter = emitter(&world.balancer.url());
    let all = futures::stream::iter(orders).map(|order| send(&emitter, order, acked));
    all.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

pub(crate) fn emitter(target: &str) -> Emitter {
    let secrets = BTreeMap::from([("crm".to_owned(), SecretString::from(CRM))]);
    Emitter::new(target, &secrets, Arc::new(SystemClock)).unwrap()
}

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

pub(crate) fn orders(count: u64) -> Vec<Opportunity> {
    (1..=count).map(|n| Opportunity::new(n, Variant::Normal)).collect()
}

pub(crate) async fn sandbox(seed: u64) -> Sandbox {
    let mut config = SandboxConfig::local(Arc::new(SystemClock));
    config.seed = seed;
    config.secrets = BTreeMap::from([("warehouse".to_owned(), SecretString::from(WAREHOUSE))]);
    let sandbox = Sandbox::start(config).await.unwrap();
    for system in ["erp", "warehouse", "support"] {
        sandbox.set_faults(system, vec![Plan::always(Fault::CommitThenCut).at_rate(0.05)]).unwrap();
    }
    sandbox
}

/// A number of the environment.
pub(crate) fn knob(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Every order ends, and ledger and journal tell the same: each order once in every system, each message once in its journal.
pub(crate) async fn all_ends_well(seed: u64, sandbox: &Sandbox, world: &World, orders: &[Opportunity]) {
    sandbox.clear_faults();
    let ended = async {
        for order in orders {
            let path = format!("/v1/entities/order/{}", order.order_number());
            while world.ask(&path).await.is_none_or(|entity| entity["status"] != "completed") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let began = Instant::now();
    let all = tokio::time::timeout(PATIENCE, ended).await;
    assert!(all.is_ok(), "seed {seed}: not every order ends within {:?}\n{}", began.elapsed(), world.told());
    check(seed, sandbox, world, orders).await;
}

async fn check(seed: u64, sandbox: &Sandbox, world: &World, orders: &[Opportunity]) {
    let ledger = sandbox.ledger();
    assert!(ledger.violations.is_empty(), "seed {seed}: {:#?}", ledger.violations);
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
            assert_eq!(times, 1, "seed {seed}: {number} {system}.{operation}");
        }
        let page = world.ask(&format!("/v1/entities/order/{number}/timeline?limit=1000")).await.unwrap();
        let id = |entry: &Value| entry["message_id"].as_str().unwrap().to_owned();
        let ids: Vec<_> = page["items"].as_array().unwrap().iter().map(id).collect();
        let own = order.message_id("confirmed");
        assert_eq!(ids.iter().filter(|id| **id == own).count(), 1, "seed {seed}: {number} {ids:?}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "seed {seed}: {number} {ids:?}");
    }
}

//! Nodes in processes of their own on one Redis, behind a balancer, with the sandbox's systems, and what must hold of them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use syncline::clock::SystemClock;
use syncline::journal::SharedJournal;
use syncline::journal::redis::Redis;
use syncline::sandbox::opportunity::{Opportunity, Variant};
use syncline::sandbox::{Fault, Plan, Sandbox, SandboxConfig};
use syncline_actors::id::{EntityId, SHARDS};
use tokio::time::Instant;

use crate::balancer::Balancer;
use crate::checker;
use crate::history::Asked;
use crate::node::{Node, PATIENCE, Place, WAREHOUSE, client};
use crate::store::Store;

/// Settings of a lease that is as short as a slow machine allows.
pub(crate) const LEASE: [&str; 3] =
    ["journal.lease.ttl=2s", "journal.lease.renew=300ms", "journal.lease.give_up=1200ms"];

/// Questions about shards that are asked at the same time.
const PROBES: usize = 24;

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
    pub(crate) store: tokio::sync::Mutex<Store>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) balancer: Balancer,
}

impl World {
    /// Nodes `a`, `b` and so on, on one Redis, all ready, each in a region of its own name.
    pub(crate) async fn start(kind: Kind, names: &[&str], sandbox: &Sandbox, more: &[&str]) -> Self {
        Self::on(Store::single(), kind, names, sandbox, more).await
    }

    /// The same on `store`.
    pub(crate) async fn on(
        store: Store,
        kind: Kind,
        names: &[&str],
        sandbox: &Sandbox,
        more: &[&str],
    ) -> Self {
        let mut settings = store.settings();
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
                Node::new(name, Place::here(), sandbox, &settings)
            })
            .collect();
        let addresses = nodes.iter().map(|node| node.listen).collect();
        let balancer = Balancer::start(addresses, client().build().unwrap(), None).await;
        let working = if kind == Kind::Cluster { nodes.len() } else { 1 };
        let world = Self { store: store.into(), nodes, balancer };
        world.begin(sandbox, working).await;
        world
    }

    /// Starts the nodes, and waits until so many are ready.
    pub(crate) async fn begin(&self, sandbox: &Sandbox, working: usize) {
        for node in &self.nodes {
            node.start().await;
        }
        sandbox.set_target(&self.balancer.url()).unwrap();
        let ready = tokio::time::timeout(PATIENCE, self.balancer.until(|ready| ready.len() == working)).await;
        assert!(ready.is_ok(), "they are not ready:\n{}", self.told());
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

    /// Until every node that is ready answers for every shard, itself or through the node that holds it.
    pub(crate) async fn until_served_by_each(&self) {
        use futures::StreamExt as _;
        let ready = self.balancer.ready();
        let nodes = self.nodes.iter().filter(|node| ready.contains(&node.listen));
        let asks = nodes.flat_map(|node| probes().into_iter().map(move |path| (node, path)));
        let answered = asks.map(async |(node, path)| {
            // Nobody has heard of it, and only the node that holds its shard can say so.
            while node.status(&path).await != Some(404) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        futures::stream::iter(answered).buffer_unordered(PROBES).collect::<Vec<()>>().await;
    }

    /// How many shards each node holds.
    pub(crate) async fn shares(&self) -> BTreeMap<String, u64> {
        self.shares_if_told().await.expect("a node is ready")
    }

    /// The same; none while no node tells.
    pub(crate) async fn shares_if_told(&self) -> Option<BTreeMap<String, u64>> {
        let cluster = self.ask("/v1/cluster").await?;
        let holders = cluster["holders"].as_array()?.iter();
        let share = |holder: &Value| {
            (holder["node"].as_str().unwrap().to_owned(), holder["shards"].as_u64().unwrap())
        };
        Some(holders.map(share).collect())
    }
}

/// For each shard the path of an entity that is not there.
fn probes() -> Vec<String> {
    let mut found = BTreeMap::new();
    for n in 0.. {
        let entity = EntityId::new("order", &format!("NONE-{n}")).unwrap();
        found.entry(entity.shard()).or_insert_with(|| format!("/v1/entities/order/NONE-{n}"));
        if found.len() == usize::from(SHARDS) {
            break;
        }
    }
    found.into_values().collect()
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

pub(crate) fn orders(count: u64) -> Vec<Opportunity> {
    (1..=count).map(|n| Opportunity::new(n, Variant::Normal)).collect()
}

pub(crate) async fn sandbox(seed: u64) -> Sandbox {
    sandbox_at(SocketAddr::from(([127, 0, 0, 1], 0)), seed).await
}

/// At an address of this test.
pub(crate) async fn sandbox_at(listen: SocketAddr, seed: u64) -> Sandbox {
    let mut config = SandboxConfig::local(Arc::new(SystemClock));
    config.listen = listen;
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

/// Every order ends; what clients were told, what is journaled and what was applied agree; see [`checker`].
pub(crate) async fn all_ends_well(
    seed: u64,
    sandbox: &Sandbox,
    world: &World,
    orders: &[Opportunity],
    history: &[Asked],
) {
    sandbox.clear_faults();
    let ended = async {
        world.until_served_by_each().await;
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
    let mut wrong = checker::wrong_effects(sandbox, orders);
    let store: SharedJournal = Redis::open(world.store.lock().await.options()).await.unwrap();
    for number in orders.iter().map(Opportunity::order_number) {
        let lines = checker::journal_of(&store, &number).await;
        let asked: Vec<_> = history.iter().filter(|asked| asked.order == number).cloned().collect();
        let page = world.ask(&format!("/v1/entities/order/{number}/timeline?limit=1000")).await.unwrap();
        let found =
            [checker::wrong_journal(&lines, &asked), checker::shown_otherwise(&lines, &page)].concat();
        wrong.extend(found.into_iter().map(|wrong| format!("{number}: {wrong}")));
    }
    assert!(wrong.is_empty(), "seed {seed}:\n{}\n{}", wrong.join("\n"), world.told());
}

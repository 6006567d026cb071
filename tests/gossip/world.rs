//! A cluster in one process: nodes `n0`, `n1`, ... on a simulated network, on paused time, from one seed.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use syncline::gossip::{Card, Config, Gossip, Key, KeyRing, Members, Seed};
use syncline_actors::id::NodeId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::net::Net;

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn name(node: usize) -> NodeId {
    NodeId(format!("n{node}").into())
}

pub(crate) fn addr(node: usize) -> SocketAddr {
    format!("10.0.0.{}:7946", node + 1).parse().unwrap()
}

pub(crate) fn ring(keys: &[u8]) -> KeyRing {
    KeyRing::new(keys.iter().map(|byte| Key::new([*byte; 32])).collect()).unwrap()
}

/// How node `node` of a cluster takes part, with nodes 0 to 2 as seeds.
pub(crate) fn config(node: usize, boot: u64) -> Config {
    Config {
        card: card(node),
        cluster: "prod".to_owned(),
        advertise: addr(node),
        seeds: (0..3).map(|seed| Seed::Addr(addr(seed))).collect(),
        keys: ring(&[7]),
        boot,
    }
}

pub(crate) fn card(node: usize) -> Card {
    Card {
        node: name(node),
        transport: addr(node),
        http: addr(node),
        weight: 100,
        region: Some("eu".to_owned()),
        zone: Some(format!("rack-{node}")),
        protocol: 1,
        draining: false,
    }
}

/// Runs `test` to its end on paused time: a minute of the cluster takes a few milliseconds.
pub(crate) fn simulate<T>(seed: u64, test: impl AsyncFnOnce(World) -> T) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { test(World { net: Net::new(seed), nodes: Vec::new(), seed }).await })
}

pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) nodes: Vec<Option<Gossip>>,
    pub(crate) seed: u64,
}

impl World {
    /// Starts a node, or starts it again.
    pub(crate) fn start(&mut self, node: usize, boot: u64) {
        self.start_as(node, config(node, boot));
    }

    pub(crate) fn start_as(&mut self, node: usize, config: Config) {
        let seed = self.seed * 1_000 + node as u64 * 100 + config.boot;
        let gossip = Gossip::start(config, self.net.link(addr(node)), seed).unwrap();
        self.nodes.resize(self.nodes.len().max(node + 1), None);
        self.nodes[node] = Some(gossip);
    }

    /// Starts nodes 0 to `count` and waits until each knows all.
    pub(crate) async fn join(&mut self, count: usize) -> Duration {
        for node in 0..count {
            self.start(node, 1);
        }
        self.whole(secs(20)).await
    }

    /// The process is gone, without a word.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
    }

    pub(crate) fn node(&self, node: usize) -> &Gossip {
        self.nodes[node].as_ref().expect("it runs")
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_some()).collect()
    }

    /// How long it takes until all running nodes know exactly each other.
    pub(crate) async fn whole(&self, limit: Duration) -> Duration {
        let running = self.running();
        self.until(&running, &running, limit).await
    }

    /// How long it takes until each of `who` knows exactly `whom`.
    pub(crate) async fn until(&self, who: &[usize], whom: &[usize], limit: Duration) -> Duration {
        let expected: Vec<NodeId> = whom.iter().map(|node| name(*node)).collect();
        self.until_all(who, limit, |members| names(members) == expected).await
    }

    /// How long it takes until the members that each of `who` knows satisfy `holds`.
    pub(crate) async fn until_all(
        &self,
        who: &[usize],
        limit: Duration,
        holds: impl Fn(&Members) -> bool,
    ) -> Duration {
        let start = Instant::now();
        for node in who {
            let mut members = self.node(*node).members();
            let seen = tokio::time::timeout(
                limit.saturating_sub(start.elapsed()),
                members.wait_for(|members| holds(members)),
            );
            let in_time = seen.await.is_ok();
            assert!(in_time, "SEED={}: n{node} knows {:?} after {limit:?}", self.seed, self.known(*node));
        }
        start.elapsed()
    }

    pub(crate) fn known(&self, node: usize) -> Vec<NodeId> {
        names(&self.node(node).members().borrow())
    }

    /// Splits the cluster so that only nodes of one group hear each other.
    pub(crate) fn split(&self, groups: &[&[usize]]) {
        for (n, group) in groups.iter().enumerate() {
            for (from, to) in groups
                .iter()
                .enumerate()
                .filter(|(m, _)| *m != n)
                .flat_map(|(_, other)| group.iter().flat_map(|from| other.iter().map(|to| (*from, *to))))
            {
                self.net.cut(addr(from), addr(to));
            }
        }
    }
}

pub(crate) fn names(members: &Members) -> Vec<NodeId> {
    members.iter().map(|member| member.card.node.clone()).collect()
}

/// Whether `members` never break `holds` for `period`.
pub(crate) async fn holds_for(
    mut members: watch::Receiver<Arc<Members>>,
    period: Duration,
    holds: impl Fn(&Members) -> bool,
) -> bool {
    tokio::time::timeout(period, members.wait_for(|members| !holds(members))).await.is_err()
}

/// All of `futures`, one after the other in time, together in one wait.
pub(crate) async fn all<F: Future<Output = bool>>(futures: impl IntoIterator<Item = F>) -> bool {
    futures::future::join_all(futures).await.into_iter().all(|held| held)
}

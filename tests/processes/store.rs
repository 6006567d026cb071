//! The Redis under some nodes: one server, a primary and its replica, or a Redis Cluster.

use std::time::Duration;

use syncline::journal::redis::Options;

use crate::server::{Server, pair, three_masters, three_masters_with_replicas};

/// How long replicas may take in tests: longer than a slow machine needs.
const WAIT: &str = "500ms";

#[derive(Debug)]
pub(crate) struct Store {
    /// The server; the primary and its replica; or the masters.
    pub(crate) servers: Vec<Server>,
    /// What the nodes must be told besides the addresses.
    settings: Vec<String>,
    cluster_mode: bool,
}

impl Store {
    /// One server.
    pub(crate) fn single() -> Self {
        Self::of(Server::start())
    }

    /// That server.
    pub(crate) fn of(server: Server) -> Self {
        Self { servers: vec![server], settings: Vec::new(), cluster_mode: false }
    }

    /// A primary and its replica, in step. `redis-replicated` acknowledges what both have, `redis` what the primary has.
    pub(crate) fn group(tier: &str) -> Self {
        let (primary, replica) = pair();
        let settings =
            vec![format!("journal.redis.tier={tier}"), format!("journal.redis.replicas_wait={WAIT}")];
        Self { servers: vec![primary, replica], settings, cluster_mode: false }
    }

    /// Three masters.
    pub(crate) fn cluster() -> Self {
        let settings = vec!["journal.redis.cluster_mode=true".to_owned()];
        Self { servers: three_masters(), settings, cluster_mode: true }
    }

    /// Three masters, each with a replica that must have what is acknowledged.
    pub(crate) fn cluster_with_replicas() -> Self {
        let settings = [
            "journal.redis.cluster_mode=true".to_owned(),
            "journal.redis.tier=redis-replicated".to_owned(),
            format!("journal.redis.replicas_wait={WAIT}"),
        ];
        Self { servers: three_masters_with_replicas(), settings: settings.into(), cluster_mode: true }
    }

    /// One of the masters of a Redis Cluster is killed, and its replica takes its place by itself.
    pub(crate) fn kill_a_master(&mut self) -> usize {
        let is_master = |server: &Server| server.say(&["ROLE"]).starts_with("master");
        let masters = |servers: &[Server]| servers.iter().filter(|server| is_master(server)).count();
        let killed = self.servers.iter().position(is_master).expect("there is one");
        let others = usize::from(killed == 0);
        self.servers[killed].kill();
        self.servers[others].until("CLUSTER INFO", |_| masters(&self.servers) == 3);
        killed
    }

    /// It comes back, as the replica of the one that took its place, in step.
    pub(crate) fn bring_back_to_cluster(&mut self, killed: usize) {
        self.servers[killed].restart();
        self.servers[killed].until("ROLE", |role| role.starts_with("slave") && role.contains("connected"));
    }

    /// What nodes on it are told.
    pub(crate) fn settings(&self) -> Vec<String> {
        let urls: Vec<_> = self.servers.iter().map(Server::url).collect();
        let own = ["journal.store=redis".to_owned(), format!("journal.redis.urls={urls:?}")];
        own.into_iter().chain(self.settings.iter().cloned()).collect()
    }

    /// How a test reads what is stored.
    pub(crate) fn options(&self) -> Options {
        Options {
            urls: self.servers.iter().map(Server::url).collect(),
            cluster_mode: self.cluster_mode,
            patience: Duration::from_secs(10),
            ..Options::default()
        }
    }

    /// The primary is killed, and its replica becomes the primary.
    pub(crate) fn promote(&mut self) {
        self.servers[0].kill();
        self.servers[1].say(&["REPLICAOF", "NO", "ONE"]);
        self.servers.swap(0, 1);
    }

    /// The former primary comes back as the replica of the new one, in step.
    pub(crate) fn bring_back(&mut self) {
        let (primary, replica) = self.servers.split_at_mut(1);
        replica[0].restart_behind(&primary[0]);
        primary[0].until("INFO", |info| info.contains("state=online"));
    }

    /// From now on the replica hears nothing of the primary, and remains a replica.
    pub(crate) fn part(&self) {
        // Nobody listens at port 1.
        self.servers[1].say(&["REPLICAOF", "127.0.0.1", "1"]);
    }
}

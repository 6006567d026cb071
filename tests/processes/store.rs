//! The Redis under some nodes: one server, a primary and its replica, or a Redis Cluster.

use std::time::Duration;

use syncline::journal::redis::Options;

use crate::server::{Server, three_masters};

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
        let (primary, replica) = (Server::start(), Server::start());
        replica.follow(&primary);
        primary.until("INFO", |info| info.contains("state=online"));
        let settings =
            vec![format!("journal.redis.tier={tier}"), format!("journal.redis.replicas_wait={WAIT}")];
        Self { servers: vec![primary, replica], settings, cluster_mode: false }
    }

    /// Three masters.
    pub(crate) fn cluster() -> Self {
        let settings = vec!["journal.redis.cluster_mode=true".to_owned()];
        Self { servers: three_masters(), settings, cluster_mode: true }
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

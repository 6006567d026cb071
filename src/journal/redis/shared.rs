//! What all connections of a journal share: what they promise, how keys are named, and which servers they have met.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use syncline_actors::id::{Epoch, ShardId};
use tokio::sync::watch;

use super::Options;
use super::names::Names;
use super::preflight::Facts;

/// What all connections of a journal share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) names: Names,
    connections: AtomicU64,
    warned: Mutex<BTreeSet<String>>,
    met: Mutex<BTreeMap<String, Identity>>,
    /// Shards that were acquired here and not given back.
    held: Mutex<BTreeMap<ShardId, Epoch>>,
    /// Those of them that nothing is said about until they were looked at.
    doubted: Mutex<BTreeSet<ShardId>>,
    /// Counts the times that a server came back as another one.
    changes: watch::Sender<u64>,
}

/// A server's process and its history.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    run: String,
    history: String,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        Self {
            names: Names::new(&options.cluster),
            options,
            connections: AtomicU64::new(0),
            warned: Mutex::default(),
            met: Mutex::default(),
            held: Mutex::default(),
            doubted: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// A number that no other connection of this process has.
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn warn_once(&self, address: &str, warning: &str) {
        if lock(&self.warned).insert(format!("{address} {warning}")) {
            tracing::warn!(address, "redis: {warning}");
        }
    }

    /// A server was looked at and is in order. One that restarted, or that was promoted in another's place, may have lost what
    /// was acknowledged: whoever holds shards there must look.
    pub(super) fn met(&self, address: &str, facts: &Facts) {
        // In a group, the primary is the store, wherever it is.
        let name = if self.options.cluster_mode { address } else { "primary" };
        let identity = Identity { run: facts.run_id.clone(), history: facts.replication_id.clone() };
        let before = lock(&self.met).insert(name.to_owned(), identity.clone());
        if before.is_some_and(|before| before != identity) {
            tracing::warn!(
                address,
                run = identity.run,
                "redis is another process, or has another history, than before"
            );
            self.changed();
        }
    }

    /// Something about the servers has changed: every shard held is in doubt.
    pub(super) fn changed(&self) {
        let held: Vec<ShardId> = lock(&self.held).keys().copied().collect();
        lock(&self.doubted).extend(held);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Shards that were acquired here and not given back.
    pub(super) fn held(&self) -> MutexGuard<'_, BTreeMap<ShardId, Epoch>> {
        lock(&self.held)
    }

    /// Shards in doubt.
    pub(super) fn doubted(&self) -> Vec<ShardId> {
        lock(&self.doubted).iter().copied().collect()
    }

    pub(super) fn is_doubted(&self, shard: ShardId) -> bool {
        lock(&self.doubted).contains(&shard)
    }

    /// A shard was looked at.
    pub(super) fn trust(&self, shard: ShardId) {
        lock(&self.doubted).remove(&shard);
    }

    /// How often a server came back as another one.
    pub(super) fn changes_so_far(&self) -> u64 {
        *self.changes.borrow()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds it")
}

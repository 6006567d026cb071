//! A journal in memory, for the simulation and for tests: the same promises as a store on disk, kept by plain ordered maps.
//!
//! It is written for reading, apart from the other implementations, so that the conformance suite compares two minds.
//! Every handle that [`Memory::shared`] gives stands on the same store: a node may crash, its store stays. A handle of
//! [`Memory::with_fault`] fails, hangs or lags where its hook says so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, Progress, TimerRow};
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;
use tokio::time::Instant;

use super::share::{Ask, Share};
use super::{
    Append, Appended, Compacted, Depth, Error, ExceptionFilter, Grant, Head, Holding, Journal, Loaded,
    Snapshot,
};

mod group;
mod store;

pub use group::{Group, Handle, Lost, Way, Witness};

use store::{Shards, Store};

/// One process has the store for itself: all rows are its own.
const ALL: Shards<'static> = &|_| true;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAction {
    /// It works.
    Proceed,
    /// Nothing is done; the caller is told that the store is unavailable.
    FailBefore,
    /// It is done; the caller is told that the store is unavailable.
    FailAfter,
    /// It works, after this time on tokio's clock.
    Delay(Duration),
    /// Nothing is done, and no answer ever comes.
    HangBefore,
    /// It is done, and no answer ever comes.
    HangAfter,
}

/// Decides what happens to a call, by the name of the trait's method. May hold state; called once a call.
pub type Fault = Arc<dyn Fn(&'static str) -> FaultAction + Send + Sync>;

/// A journal in memory. Cloning it gives another handle on the same store.
#[derive(Clone)]
pub struct Memory {
    store: Arc<Mutex<Store>>,
    fault: Option<Fault>,
    /// Where its clock begins.
    born: Instant,
}

impl Default for Memory {
    fn default() -> Self {
        Self { store: Arc::default(), fault: None, born: Instant::now() }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("faulty", &self.fault.is_some()).finish_non_exhaustive()
    }
}

/// All that was ever written and acknowledged, whatever compaction threw away since.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Audit {
    /// Records of each entity in the order in which they were written.
    pub records: BTreeMap<EntityId, Vec<Written>>,
    /// Appends in the order in which their callers learnt of them.
    pub acked: Vec<Acked>,
    /// Epochs in the order in which they were given, each with the node.
    pub grants: Vec<(Grant, NodeId)>,
}

/// A record as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Its place.
    pub seq: u64,
    /// The epoch it was written under.
    pub epoch: Epoch,
    /// Hash of the record before.
    pub prev: Hash,
    /// Its hash.
    pub hash: Hash,
    /// Its frame.
    pub frame: Bytes,
    /// Keys under which it is known.
    pub dedup: Vec<super::DedupKey>,
}

/// An append whose caller got an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Acked {
    /// Whose journal.
    pub entity: EntityId,
    /// Place of the record that the caller wanted to write.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Its keys.
    pub dedup: Vec<super::DedupKey>,
    /// What the caller was told.
    pub outcome: Appended,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another handle on the same store, without faults.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self { store: self.store.clone(), fault: None, born: self.born }
    }

    /// Another handle on the same store, whose calls go as `fault` says.
    #[must_use]
    pub fn with_fault(&self, fault: Fault) -> Self {
        Self { store: self.store.clone(), fault: Some(fault), born: self.born }
    }

    /// All that was ever written and acknowledged. O(records), but frames are shared.
    pub fn audit(&self) -> Audit {
        self.lock().audit.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no code panics while it holds the store")
    }

    async fn run<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Store) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let action = self.fault.as_ref().map_or(FaultAction::Proceed, |fault| fault(operation));
        match action {
            FaultAction::Proceed => {}
            FaultAction::Delay(time) => tokio::time::sleep(time).await,
            FaultAction::FailBefore => return Err(injected(operation, "before")),
            FaultAction::HangBefore => std::future::pending().await,
            FaultAction::FailAfter | FaultAction::HangAfter => {
                let _ = work(&mut self.lock());
                if action == FaultAction::HangAfter {
                    std::future::pending::<()>().await;
                }
                return Err(injected(operation, "after"));
            }
        }
        work(&mut self.lock())
    }
}

fn injected(operation: &str, when: &str) -> Error {
    Error::Unavailable(format!("a fault was injected {when} `{operation}`"))
}

#[async_trait]
impl Journal for Memory {
    async fn acquire(&self, shards: &[ShardId], node: &NodeId) -> Result<Vec<Grant>, Error> {
        self.run("acquire", |store| Ok(store.acquire(shards, node))).await
    }

    async fn renew(&self, grants: &[Grant]) -> Vec<Result<(), Error>> {
        let check = |store: &mut Store| {
            Ok(grants.iter().map(|grant| store.check(grant.shard, grant.epoch)).collect())
        };
        self.run("renew", check).await.unwrap_or_else(|error: Error| {
            grants.iter().map(|_| Err(Error::Unavailable(error.to_string()))).collect()
        })
    }

    async fn release(&self, grants: &[Grant]) -> Result<(), Error> {
        self.run("release", |store| {
            store.release(grants);
            Ok(())
        })
        .await
    }

    async fn holdings(&self) -> Result<Vec<Holding>, Error> {
        self.run("holdings", |store| Ok(store.holdings())).await
    }

    async fn append(&self, append: Append) -> Result<Appended, Error> {
        let mut acked = Acked {
            entity: append.entity.clone(),
            seq: append.seq,
            hash: append.hash,
            dedup: append.dedup.clone(),
            outcome: Appended::Written,
        };
        acked.outcome = self.run("append", |store| store.append(append)).await?;
        let outcome = acked.outcome.clone();
        self.lock().audit.acked.push(acked);
        Ok(outcome)
    }

    async fn load(&self, entity: &EntityId) -> Result<Loaded, Error> {
        self.run("load", |store| Ok(store.load(entity))).await
    }

    async fn records(&self, entity: &EntityId, from: u64, limit: usize) -> Result<Vec<Bytes>, Error> {
        self.run("records", |store| Ok(store.records(entity, from, limit))).await
    }

    async fn save_snapshot(&self, epoch: Epoch, entity: &EntityId, snapshot: Snapshot) -> Result<(), Error> {
        self.run("save_snapshot", |store| store.save_snapshot(epoch, entity, snapshot)).await
    }

    async fn trim(&self, epoch: Epoch, entity: &EntityId, keep: u64) -> Result<u64, Error> {
        self.run("trim", |store| store.trim(epoch, entity, keep)).await
    }

    async fn due_effects(
        &self,
        connector: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, Error> {
        self.run("due_effects", |store| Ok(store.due_effects(connector, now, limit, ALL))).await
    }

    async fn next_effect(&self, connector: &str, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.run("next_effect", |store| Ok(store.next_effect(connector, now, ALL))).await
    }

    async fn outbox_of(&self, entity: &EntityId) -> Result<Vec<OutboxRow>, Error> {
        self.run("outbox_of", |store| Ok(store.outbox_of(entity))).await
    }

    async fn progress(
        &self,
        epoch: Epoch,
        entity: &EntityId,
        effect: EffectId,
        progress: Progress,
    ) -> Result<bool, Error> {
        self.run("progress", |store| store.progress(epoch, entity, effect, progress)).await
    }

    async fn depths(&self) -> Result<BTreeMap<String, Depth>, Error> {
        self.run("depths", |store| Ok(store.depths(ALL))).await
    }

    async fn due_timers(&self, now: Timestamp, limit: usize) -> Result<Vec<TimerRow>, Error> {
        self.run("due_timers", |store| Ok(store.due_timers(now, limit, ALL))).await
    }

    async fn next_timer(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.run("next_timer", |store| Ok(store.next_timer(now, ALL))).await
    }

    async fn exceptions(&self, filter: &ExceptionFilter) -> Result<Vec<ExceptionRow>, Error> {
        self.run("exceptions", |store| Ok(store.exceptions(filter))).await
    }

    async fn find(&self, term: &str, limit: usize) -> Result<Vec<EntityId>, Error> {
        self.run("find", |store| Ok(store.find(term, limit))).await
    }

    async fn heads(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Head>, Error> {
        self.run("heads", |store| Ok(store.heads(kind, after, limit))).await
    }

    async fn census(&self) -> Result<BTreeMap<(String, String), u64>, Error> {
        self.run("census", |store| Ok(store.census())).await
    }

    async fn tallies(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.run("tallies", |store| Ok(store.tallies.clone())).await
    }

    async fn definitions(&self) -> Result<BTreeMap<(String, u32), String>, Error> {
        self.run("definitions", |store| Ok(store.definitions.clone())).await
    }

    async fn orders(&self) -> Result<BTreeMap<String, String>, Error> {
        self.run("orders", |store| Ok(store.orders.clone())).await
    }

    async fn order(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        self.run("order", |store| store.order(key, value)).await
    }

    async fn share(&self, ask: &Ask) -> Result<Share, Error> {
        let now = i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.run("share", |store| Ok(store.share(ask, now))).await
    }

    async fn keep_definition(&self, kind: &str, version: u32, text: &str) -> Result<(), Error> {
        self.run("keep_definition", |store| store.keep_definition(kind, version, text)).await
    }

    async fn compact(&self, now: Timestamp, ended_before: Timestamp) -> Result<Compacted, Error> {
        self.run("compact", |store| Ok(store.compact(now, ended_before, ALL))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(action: FaultAction) -> Fault {
        Arc::new(move |operation| if operation == "acquire" { action } else { FaultAction::Proceed })
    }

    async fn epoch_after(action: FaultAction) -> (Result<Vec<Grant>, Error>, u64) {
        let memory = Memory::new();
        let node = NodeId("n1".into());
        let answer = memory.with_fault(failing(action)).acquire(&[ShardId(3)], &node).await;
        let next = memory.shared().acquire(&[ShardId(3)], &node).await.expect("no fault on this handle");
        (answer, next[0].epoch.0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_before_leaves_nothing_and_one_that_fails_after_leaves_all() {
        let (answer, next) = epoch_after(FaultAction::FailBefore).await;
        assert!(answer.is_err_and(|error| error.is_transient()));
        assert_eq!(next, 1);
        let (answer, next) = epoch_after(FaultAction::FailAfter).await;
        assert!(answer.is_err_and(|error| error.is_transient()));
        assert_eq!(next, 2);
        let (answer, next) = epoch_after(FaultAction::Delay(Duration::from_secs(9))).await;
        assert!(answer.is_ok());
        assert_eq!(next, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_never_answers() {
        for action in [FaultAction::HangBefore, FaultAction::HangAfter] {
            let hung = tokio::time::timeout(Duration::from_hours(1), epoch_after(action)).await;
            assert!(hung.is_err(), "{action:?}");
        }
    }
}

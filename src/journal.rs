//! What is kept: the trait that every store implements, and what each call guarantees.
//!
//! The journal fences, not a lock: an append is conditional on the shard's epoch, the entity's sequence number and the hash of the
//! record before. One append writes the record, its deduplication keys, outbox rows, timers and exceptions, or nothing.
//! One conformance suite (`tests/journal.rs`) runs over every implementation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_actors::decision::Answer;
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, Progress, Rows, TimerRow};
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;

mod keys;
pub mod memory;
mod recovery;
pub mod redb;
pub mod redis;
mod rows;
pub mod share;

/// A journal to pass around.
pub type SharedJournal = Arc<dyn Journal>;

/// Why the journal said no.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another node owns the shard now. Nothing was written. Stop the shard; never retry.
    #[error("shard {shard} is fenced: held epoch {held}, current {current}")]
    Fenced {
        /// Which shard.
        shard: ShardId,
        /// The epoch the caller holds.
        held: Epoch,
        /// The epoch the store knows.
        current: Epoch,
    },
    /// The entity's journal is not where the caller thinks it is. Nothing was written. Forget the state and replay.
    #[error("{entity} is at record {found}, not at {expected}")]
    Conflict {
        /// Which entity.
        entity: EntityId,
        /// Sequence number of the record the caller wanted to follow.
        expected: u64,
        /// Sequence number of the last record there is.
        found: u64,
    },
    /// The store has lost records of this shard that were acknowledged, and they could not be written again. Nothing was written, and
    /// nothing will be until a person accepts the loss.
    #[error("shard {shard} is suspect, acknowledged records are lost: {why}; see `syncline cluster status`")]
    Suspect {
        /// Which shard.
        shard: ShardId,
        /// What is missing.
        why: String,
    },
    /// The store did not answer, or could not write. Whether anything was written is unknown: stop the actor and replay.
    #[error("journal unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be right (checksum, chain, frame). Nothing was written. A person must look; the text says where.
    #[error("journal corrupt: {0}")]
    Corrupt(String),
    /// The store cannot be opened as it is; the text says why and what to do. Nothing was started.
    #[error("cannot open the store: {0}")]
    Open(String),
}

impl Error {
    /// Whether the same call may succeed later without anyone's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// One append: all of it or nothing.
///
/// Its keys count within the entity: two entities may take in the same (source, message id).
#[derive(Debug, Clone)]
pub struct Append {
    /// Whose journal.
    pub entity: EntityId,
    /// The epoch the caller holds for the entity's shard.
    pub epoch: Epoch,
    /// The record's sequence number: one more than the last.
    pub seq: u64,
    /// Hash of the record before.
    pub prev: Hash,
    /// Hash of this record.
    pub hash: Hash,
    /// The record as `codec` framed it.
    pub frame: Bytes,
    /// When the message was taken in: deduplication entries that ended before are forgotten.
    pub at: Timestamp,
    /// Keys under which the message must not be applied again. The first is its (source, message id).
    pub dedup: Vec<DedupKey>,
    /// What every duplicate is told.
    pub answer: Answer,
    /// Whether the entity has ended.
    pub ended: bool,
    /// What changes in the lists.
    pub rows: Rows,
    /// Terms to find the entity by: [`FLOW`] or [`KEY`] and a text, e.g. `correlation:9f2c`. Empty when the entity has them
    /// already.
    pub terms: Vec<Arc<str>>,
}

/// Begins the term of a business flow.
pub const FLOW: &str = "correlation:";

/// Begins the term of a business key.
pub const KEY: &str = "key:";

/// A key under which a message is applied once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DedupKey {
    /// `source:<name>` for message ids, `business:<type>` for business keys.
    pub scope: Arc<str>,
    /// The id within the scope.
    pub id: Arc<str>,
    /// Until when it is remembered; `None`: as long as the entity.
    pub expires: Option<Timestamp>,
}

/// What became of an append that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is durable.
    Written,
    /// One of its keys is known: no record was written. The first answer to it.
    Duplicate(Answer),
}

/// What is stored of an entity's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last record folded into it.
    pub seq: u64,
    /// Hash of that record.
    pub hash: Hash,
    /// The state as `codec` framed it.
    pub frame: Bytes,
}

/// An entity as loaded: the newest snapshot, and the frames of the records after it, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The newest snapshot, if there is one.
    pub snapshot: Option<Snapshot>,
    /// Frames of the records after it.
    pub tail: Vec<Bytes>,
}

/// Where an entity stands, without its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Which entity.
    pub entity: EntityId,
    /// Its last record.
    pub seq: u64,
    /// Its status.
    pub status: Arc<str>,
    /// Whether it has ended.
    pub ended: bool,
    /// When its last record was written.
    pub updated_at: Timestamp,
}

/// A shard held under an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Which shard.
    pub shard: ShardId,
    /// Under which epoch.
    pub epoch: Epoch,
}

/// Who holds a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Which shard.
    pub shard: ShardId,
    /// The last epoch there was.
    pub epoch: Epoch,
    /// The node that holds it; `None` when it was given back or never held.
    pub node: Option<NodeId>,
    /// Which run of that node.
    pub boot: u64,
    /// How long the lease still runs by the store's clock; zero: anyone may take it. `None` where leases do not run out.
    pub left: Option<Duration>,
    /// Why the shard takes nothing in: what was acknowledged there is lost.
    pub suspect: Option<String>,
}

/// Which exceptions to list.
#[derive(Debug, Clone, Default)]
pub struct ExceptionFilter {
    /// Only of this kind of entity.
    pub kind: Option<String>,
    /// Only of this class (its word).
    pub class: Option<String>,
    /// Only after this id (`ExceptionRow::id`), for paging.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// What waits for one connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Effects that wait.
    pub waiting: u64,
    /// When the oldest of them was due.
    pub oldest: Option<Timestamp>,
}

/// What compaction threw away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Deduplication entries past their time.
    pub dedup: u64,
    /// Records of entities that ended long ago, now only in their snapshots.
    pub records: u64,
}

/// Keeps what happened. Every call is safe to make from several tasks at once.
///
/// What is due, waits or is counted is told of the shards that were acquired through this handle; where one process alone opens the
/// store, of all. Exceptions, terms and heads are always those of the whole store.
///
/// Where a call writes, its return means durable in the way the tier promises; a dropped future may or may not have written.
#[async_trait]
pub trait Journal: std::fmt::Debug + Send + Sync + 'static {
    /// Takes those of `shards` for `node` that are free: never held, given back, held by an earlier run of the node, or with a lease
    /// that has run out. Each gets an epoch larger than any before, and than any heard of. A store that one process opens is free.
    async fn acquire(&self, shards: &[ShardId], node: &NodeId) -> Result<Vec<Grant>, Error>;
    /// Keeps the leases of `grants` alive, each for itself, in their order. [`Error::Fenced`] for one that is no longer held.
    async fn renew(&self, grants: &[Grant]) -> Vec<Result<(), Error>>;
    /// Gives `grants` back. Their epochs never come again.
    async fn release(&self, grants: &[Grant]) -> Result<(), Error>;
    /// Takes note of epochs that other nodes tell of: a store that lost its end may not know them any more. What is under a lower one is
    /// refused from now on.
    fn hear(&self, _epochs: &[Grant]) {}
    /// Who holds which shard, in their order.
    async fn holdings(&self) -> Result<Vec<Holding>, Error>;
    /// The entity at `found` had records up to `expected` that are gone. Nothing is taken in for its shard from now on.
    async fn suspect(&self, shard: ShardId, why: &str) -> Result<(), Error> {
        Err(Error::Corrupt(format!("shard {shard}: {why}")))
    }
    /// A person accepts what a suspect shard has lost: it takes messages in again, from what is left.
    async fn accept(&self, _shard: ShardId) -> Result<(), Error> {
        Ok(())
    }

    /// Writes a record with all that belongs to it. Checks, in this order: the epoch, the deduplication keys, sequence and hash.
    /// When a business key is known and the message's own id is not, the id is kept with that answer, so that the same message gets
    /// the same answer for as long as its id is remembered, whatever becomes of the entity.
    async fn append(&self, append: Append) -> Result<Appended, Error>;
    /// Everything needed to rebuild an entity; empty if it has no record.
    async fn load(&self, entity: &EntityId) -> Result<Loaded, Error>;
    /// Frames of the records of an entity from `from` on, at most `limit`, in order.
    async fn records(&self, entity: &EntityId, from: u64, limit: usize) -> Result<Vec<Bytes>, Error>;
    /// Keeps a snapshot. Refused under an old epoch; ignored when a newer one is there. [`Error::Conflict`] when it is ahead of
    /// the entity's records, or of another history.
    async fn save_snapshot(&self, epoch: Epoch, entity: &EntityId, snapshot: Snapshot) -> Result<(), Error>;
    /// Throws away the oldest records of an entity so that `keep` are left, but none that its snapshot does not hold. How many.
    /// Refused under an old epoch.
    async fn trim(&self, _epoch: Epoch, _entity: &EntityId, _keep: u64) -> Result<u64, Error> {
        Ok(0)
    }

    /// Effects in `lane` ([`OutboxRow::lane`]) due at `now`, the longest due first, at most `limit`. One that is called off is due at once, or, where
    /// an attempt may still be under way, when its pause is over.
    async fn due_effects(&self, lane: &str, now: Timestamp, limit: usize) -> Result<Vec<OutboxRow>, Error>;
    /// When the next effect in `lane` is due, after `now`.
    async fn next_effect(&self, lane: &str, now: Timestamp) -> Result<Option<Timestamp>, Error>;
    /// Effects of `entity` that wait, in order of their ids.
    async fn outbox_of(&self, entity: &EntityId) -> Result<Vec<OutboxRow>, Error>;
    /// Keeps what an attempt has shown. Returns false, and writes nothing, when the effect waits no longer.
    /// Keeps `called_off` when the store has it set.
    async fn progress(
        &self,
        epoch: Epoch,
        entity: &EntityId,
        effect: EffectId,
        progress: Progress,
    ) -> Result<bool, Error>;
    /// What waits, by lane.
    async fn depths(&self) -> Result<BTreeMap<String, Depth>, Error>;

    /// Timers due at `now`, the longest due first, at most `limit`.
    async fn due_timers(&self, now: Timestamp, limit: usize) -> Result<Vec<TimerRow>, Error>;
    /// When the next timer is due, after `now`.
    async fn next_timer(&self, now: Timestamp) -> Result<Option<Timestamp>, Error>;

    /// Open exceptions, in order of their ids as text.
    async fn exceptions(&self, filter: &ExceptionFilter) -> Result<Vec<ExceptionRow>, Error>;
    /// Entities found under `term`, at most `limit`.
    async fn find(&self, term: &str, limit: usize) -> Result<Vec<EntityId>, Error>;
    /// Heads of the entities of `kind` with keys after `after`, in order of their keys, at most `limit`.
    async fn heads(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Head>, Error>;
    /// How many entities stand in which status, by (kind, status).
    async fn census(&self) -> Result<BTreeMap<(String, String), u64>, Error>;

    /// The counters of the standing balance, of the whole store ([`Rows::tallies`]).
    async fn tallies(&self) -> Result<BTreeMap<String, u64>, Error>;

    /// Every process definition ever used here, by (kind, version), as its YAML text.
    async fn definitions(&self) -> Result<BTreeMap<(String, u32), String>, Error>;
    /// Keeps a definition before its first use. The text of a version never changes: a different one is [`Error::Open`].
    async fn keep_definition(&self, kind: &str, version: u32, text: &str) -> Result<(), Error>;

    /// What operators have ordered, by key: a connector that is paused, a shard that stays where it is.
    async fn orders(&self) -> Result<BTreeMap<String, String>, Error>;
    /// Keeps an order, or takes it back. [`Error::Open`] when it is too long ([`ORDER_KEY_MAX`], [`ORDER_MAX`]) or there are too many
    /// ([`ORDERS_MAX`]): nothing was kept.
    async fn order(&self, key: &str, value: Option<&str>) -> Result<(), Error>;

    /// Whether nodes on other machines may have the store open too.
    fn is_shared(&self) -> bool {
        false
    }
    /// Gives a node its part of what a connector may do, by the store's clock; only where the store is shared.
    async fn share(&self, _ask: &share::Ask) -> Result<share::Share, Error> {
        Err(Error::Unavailable("this store belongs to one node, which has all of every budget".to_owned()))
    }

    /// Throws away what is past its time: deduplication entries that ended before `now`, and records of entities that ended
    /// before `ended_before` (their snapshots stay; an entity whose last record is in no snapshot keeps its records).
    async fn compact(&self, now: Timestamp, ended_before: Timestamp) -> Result<Compacted, Error>;

    /// Writes what waits and lets go of the store; later calls are answered [`Error::Unavailable`]. Nothing is lost without it:
    /// it is for whoever wants to open the store again at once.
    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Longest key of an order, in bytes.
pub const ORDER_KEY_MAX: usize = 200;

/// Longest order, in bytes.
pub const ORDER_MAX: usize = 4 << 10;

/// Orders kept at the same time.
pub const ORDERS_MAX: usize = 1_024;

/// Refuses what no store keeps.
fn check_order(key: &str, value: Option<&str>) -> Result<(), Error> {
    let too_long = |what, length, most| {
        Err(Error::Open(format!("the {what} of an order has {length} bytes, at most {most} are kept")))
    };
    match value.map_or(0, str::len) {
        _ if key.len() > ORDER_KEY_MAX => too_long("key", key.len(), ORDER_KEY_MAX),
        length if length > ORDER_MAX => too_long("text", length, ORDER_MAX),
        _ => Ok(()),
    }
}

fn too_many_orders() -> Error {
    Error::Open(format!("there are {ORDERS_MAX} orders already: take some back first"))
}

/// Notes at `at` that an effect is called off. It is looked at at once, unless an attempt may still be under way: then nobody can
/// know yet what came of it, and it keeps to its pause.
fn call_off(progress: &mut Progress, at: Timestamp) {
    progress.called_off = true;
    if !progress.uncertain {
        progress.due = progress.due.min(at);
    }
}

/// What is kept of an effect's `stored` progress when an attempt has shown `shown`: that it was called off, and, when the attempt
/// did not know of it and has left no doubt, the earlier time, so that it is looked at soon.
fn merge(stored: &Progress, mut shown: Progress) -> Progress {
    if stored.called_off && !shown.called_off {
        call_off(&mut shown, stored.due);
    }
    shown
}

/// Whether `row` is of the kind and class that `filter` asks for.
fn passes(filter: &ExceptionFilter, row: &ExceptionRow) -> bool {
    filter.kind.as_deref().is_none_or(|kind| kind == row.entity.kind())
        && filter.class.as_deref().is_none_or(|class| class == row.exception.class.word())
}

fn changed_definition(kind: &str, version: u32) -> Error {
    Error::Open(format!(
        "version {version} of process `{kind}` is in use with another text: give the changed definition a new version"
    ))
}

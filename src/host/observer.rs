//! What the host tells others: hints to those who wait for work, and counts to those who watch.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use syncline_actors::decision::{Answer, Ending};
use syncline_actors::envelope::Envelope;
use syncline_actors::id::{EffectId, EntityId, ShardId};
use syncline_actors::outbox::{OutboxRow, TimerRow};
use syncline_actors::record::Record;

use super::{Error, Lane};

/// Hears of new work right after it is durable, to begin sooner than its next look at the store. Must not block.
///
/// A hint may get lost; the store tells the truth.
pub trait Hints: Debug + Send + Sync + 'static {
    /// Effects wait.
    fn effects(&self, rows: &[OutboxRow]) {
        let _ = rows;
    }
    /// Effects of `entity` are called off.
    fn called_off(&self, entity: &EntityId, effects: &[EffectId]) {
        let _ = (entity, effects);
    }
    /// Timers run.
    fn timers(&self, rows: &[TimerRow]) {
        let _ = rows;
    }
}

/// Watches what the host does, e.g. to count it. Must not block; every call may come from any thread.
pub trait Observer: Debug + Send + Sync + 'static {
    /// A message got its answer after `took`, from the actor's taking it up to the durable append.
    fn answered(&self, message: &Envelope, answer: &Answer, duplicate: bool, took: Duration) {
        let _ = (message, answer, duplicate, took);
    }
    /// A record is durable; before it the entity was in the state `from` (empty: it had not begun).
    fn recorded(&self, from: &str, record: &Record) {
        let _ = (from, record);
    }
    /// A milestone of an instance: `outcome` is one of `in_time`, `missed`, `reached_late`.
    fn milestone(&self, kind: &str, milestone: &str, outcome: &'static str) {
        let _ = (kind, milestone, outcome);
    }
    /// An instance left a state in which it was for so long.
    fn step_left(&self, kind: &str, step: &str, lasted: Duration) {
        let _ = (kind, step, lasted);
    }
    /// An instance ended, `lasted` after it began.
    fn ended(&self, kind: &str, ending: Ending, lasted: Duration) {
        let _ = (kind, ending, lasted);
    }
    /// A message was not taken in.
    fn refused(&self, kind: &str, lane: Lane, error: &Error) {
        let _ = (kind, lane, error);
    }
    /// An entity came into memory.
    fn activated(&self, kind: &str) {
        let _ = kind;
    }
    /// An entity was rebuilt from the journal: so many records after its snapshot.
    fn rebuilt(&self, kind: &str, records: usize, took: Duration) {
        let _ = (kind, records, took);
    }
    /// An entity's actor panicked.
    fn panicked(&self, kind: &str) {
        let _ = kind;
    }
    /// A message was set aside because it made its actor panic again and again.
    fn poisoned(&self, entity: &EntityId) {
        let _ = entity;
    }
    /// An entity left memory.
    fn passivated(&self, kind: &str) {
        let _ = kind;
    }
    /// What is stored of an entity is broken: an alarm.
    fn broken(&self, entity: &EntityId, problem: &str) {
        let _ = (entity, problem);
    }
    /// A call of the journal ended: `ok`, `fenced` (refused, as another node holds the shard), or `failed`.
    fn stored(&self, what: &'static str, outcome: &'static str, took: Duration) {
        let _ = (what, outcome, took);
    }
    /// A shard was lost to another owner.
    fn fenced(&self, shard: ShardId) {
        let _ = shard;
    }
}

/// Hears and watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deaf;

impl Hints for Deaf {}
impl Observer for Deaf {}

/// The host in numbers, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Entities in memory.
    pub resident: usize,
    /// Messages in flight.
    pub in_flight: usize,
    /// Bytes of the messages from outside among them, about.
    pub bytes_in_flight: usize,
    /// Shards owned.
    pub shards: usize,
    /// By kind, since the start.
    pub kinds: BTreeMap<Arc<str>, KindStats>,
}

/// What befell the entities of one kind since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KindStats {
    /// Messages journaled.
    pub recorded: u64,
    /// Messages answered as known.
    pub duplicates: u64,
    /// Rebuilds from the journal.
    pub rebuilt: u64,
    /// Panics.
    pub panics: u64,
    /// Entities that left memory.
    pub passivated: u64,
}

/// The counters behind [`KindStats`].
#[derive(Debug, Default)]
pub(super) struct KindCounters {
    pub(super) recorded: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) rebuilt: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) passivated: AtomicU64,
}

impl KindCounters {
    pub(super) fn read(&self) -> KindStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KindStats {
            recorded: read(&self.recorded),
            duplicates: read(&self.duplicates),
            rebuilt: read(&self.rebuilt),
            panics: read(&self.panics),
            passivated: read(&self.passivated),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

//! What waits to leave: the rows that a record's changes put into, and take out of, the store's lists.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::class::Latency;
use crate::decision::{Change, Effect, Exception};
use crate::envelope::Envelope;
use crate::id::{EffectId, EntityId};
use crate::record::Record;
use crate::time::Timestamp;

/// An effect that waits, with what its attempts have shown so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Whose effect.
    pub entity: EntityId,
    /// What must leave.
    pub effect: Effect,
    /// The business flow, for logs and the vendor's own tracking header.
    pub correlation_id: Arc<str>,
    /// Trace context to pass on.
    pub traceparent: Option<Arc<str>>,
    /// When it was journaled; its age is counted from here.
    pub since: Timestamp,
    /// What its attempts have shown.
    pub progress: Progress,
    /// The lane it waits in. Not among the row's bytes: stores keep the name of its lane beside them.
    #[serde(skip)]
    pub latency: Latency,
}

impl OutboxRow {
    /// The name of the lane it waits in.
    pub fn lane(&self) -> String {
        self.latency.lane(&self.effect.connector)
    }
}

/// What the attempts of an effect have shown so far. Survives restarts, so that none of it is guessed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Next attempt not before this time.
    pub due: Timestamp,
    /// Attempts begun.
    pub attempts: u32,
    /// Whether the last attempt may have had an effect without our knowing: a probe comes before another try.
    pub uncertain: bool,
    /// The entity has called it off.
    pub called_off: bool,
    /// A sentence about the last attempt, for people.
    pub last: Arc<str>,
}

/// A timer that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRow {
    /// Whose timer.
    pub entity: EntityId,
    /// Its name; one of a name runs at a time in an entity.
    pub name: Arc<str>,
    /// When it is due.
    pub due: Timestamp,
    /// Sequence number of the record that set it.
    pub token: u64,
    /// The business flow.
    pub correlation_id: Arc<str>,
}

/// An open exception as people list it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExceptionRow {
    /// The entity that it is about.
    pub entity: EntityId,
    /// The exception itself.
    pub exception: Exception,
    /// The business flow.
    pub correlation_id: Arc<str>,
    /// Since when.
    pub opened_at: Timestamp,
}

impl ExceptionRow {
    /// How people and commands name it: `order/SO-1001#112`.
    pub fn id(&self) -> String {
        format!("{}#{}", self.entity, self.exception.number)
    }
}

/// What became of a message from outside, as the standing balance counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tally {
    /// It took effect.
    Applied,
    /// Its entity had no use for it.
    Ignored,
    /// Its entity said no.
    Rejected,
    /// It was not understood, and is kept.
    Quarantined,
    /// It waits for its turn.
    Deferred,
    /// One that waited had its turn, or its entity ended without it.
    Resumed,
}

impl Tally {
    const ALL: [Self; 6] =
        [Self::Applied, Self::Ignored, Self::Rejected, Self::Quarantined, Self::Deferred, Self::Resumed];

    /// The word used in counters. It is stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::Quarantined => "quarantined",
            Self::Deferred => "deferred",
            Self::Resumed => "resumed",
        }
    }

    /// The counter of messages of `source` that `node` took in.
    pub fn key(self, node: &str, source: &str) -> String {
        format!("{node}\0{source}\0{}", self.word())
    }

    /// Node, source and tally of a counter.
    pub fn of_key(key: &str) -> Option<(&str, &str, Self)> {
        let mut parts = key.split('\0');
        let (node, source, word) = (parts.next()?, parts.next()?, parts.next()?);
        Some((node, source, Self::ALL.into_iter().find(|tally| tally.word() == word)?))
    }
}

/// What one record changes in the store's lists. Written in the same append as the record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// Effects that now wait.
    pub emitted: Vec<OutboxRow>,
    /// Effects that wait no longer.
    pub settled: Vec<EffectId>,
    /// Effects called off.
    pub called_off: Vec<EffectId>,
    /// Timers that now run; each replaces one of the same name.
    pub timers_set: Vec<TimerRow>,
    /// Timers that run no longer.
    pub timers_cleared: Vec<Arc<str>>,
    /// Exceptions that are open now.
    pub opened: Vec<ExceptionRow>,
    /// Exceptions that are closed now, by number.
    pub closed: Vec<u64>,
    /// Counters that go up by one ([`Tally::key`]).
    pub tallies: Vec<String>,
}

impl Rows {
    /// The rows of `record`. O(changes).
    pub fn of(record: &Record) -> Self {
        let mut rows = Self::default();
        for change in &record.changes {
            rows.take(record, change);
        }
        rows
    }

    fn take(&mut self, record: &Record, change: &Change) {
        let envelope = &record.envelope;
        match change {
            Change::Emitted(effect) => self.emitted.push(outbox_row(envelope, effect, false)),
            // It has been sent before, and what came of it is not known for sure.
            Change::Reissued(effect) => self.emitted.push(outbox_row(envelope, effect, true)),
            Change::Settled { effect, .. } => self.settled.push(*effect),
            Change::CalledOff { effect } => self.called_off.push(*effect),
            Change::TimerSet { name, due } => {
                self.timers_cleared.retain(|cleared| cleared != name);
                self.timers_set.push(TimerRow {
                    entity: envelope.subject.clone(),
                    name: name.clone(),
                    due: *due,
                    token: record.seq,
                    correlation_id: envelope.correlation_id.clone(),
                });
            }
            Change::TimerCleared { name } => {
                self.timers_set.retain(|row| row.name != *name);
                self.timers_cleared.push(name.clone());
            }
            Change::Opened(exception) => self.opened.push(ExceptionRow {
                entity: envelope.subject.clone(),
                exception: exception.clone(),
                correlation_id: envelope.correlation_id.clone(),
                opened_at: envelope.at,
            }),
            Change::Closed { exception, .. } => {
                let before = self.opened.len();
                self.opened.retain(|row| row.exception.number != *exception);
                if self.opened.len() == before {
                    self.closed.push(*exception);
                }
            }
            _ => {}
        }
    }
}

fn outbox_row(envelope: &Envelope, effect: &Effect, uncertain: bool) -> OutboxRow {
    OutboxRow {
        entity: envelope.subject.clone(),
        effect: effect.clone(),
        correlation_id: envelope.correlation_id.clone(),
        traceparent: envelope.traceparent.clone(),
        since: envelope.at,
        progress: Progress {
            due: effect.due,
            attempts: 0,
            uncertain,
            called_off: false,
            last: Arc::from(""),
        },
        latency: Latency::default(),
    }
}

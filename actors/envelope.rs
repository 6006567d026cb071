//! The message: CloudEvents 1.0 attributes, our correlation, and a body that is a command or tells what happened.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{EffectId, EntityId};
use crate::time::Timestamp;
use crate::value::Value;

/// A message to one entity. Attribute names follow CloudEvents 1.0.2 and its correlation extension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Unique within `source` for the life of the sender's retries: the key of deduplication.
    pub id: Arc<str>,
    /// Who sent it: the name of a source in the configuration, or one of ours (`delivery`, `timer`, `operator`).
    pub source: Arc<str>,
    /// The entity it is for.
    pub subject: EntityId,
    /// The business flow it belongs to; it lasts as long as the flow, weeks if need be, and is not the trace.
    pub correlation_id: Arc<str>,
    /// The id of the message that caused this one.
    pub causation_id: Option<Arc<str>>,
    /// W3C trace context of the whole transmission, as received.
    pub traceparent: Option<Arc<str>>,
    /// When it happened, in the sender's words.
    pub time: Option<Timestamp>,
    /// When we took it in. The only clock a decision sees.
    pub at: Timestamp,
    /// How long its id is remembered, in milliseconds: at least the sender's retry span. `None`: as long as the entity.
    pub remember_ms: Option<u64>,
    /// What it asks or tells.
    pub body: Body,
    /// The bytes it came in, kept as evidence. Several messages of one delivery share them.
    pub evidence: Option<Evidence>,
}

/// What a message asks or tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// Asks: may be rejected.
    Command(Command),
    /// Tells what happened outside.
    Event(Event),
    /// Tells how an effect of this entity ended.
    Outcome(Outcome),
    /// Tells that a timer of this entity is due.
    Timer(TimerFired),
    /// A person steps in.
    Intervention(Intervention),
}

/// A request that the process may reject, e.g. `order.cancel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Its type, as the process names it.
    pub name: Arc<str>,
    /// Its canonical data.
    pub data: Value,
}

/// A fact from outside, e.g. `shipment.confirmed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its type, as the process names it.
    pub name: Arc<str>,
    /// Its canonical data.
    pub data: Value,
}

/// How an effect ended: there will be no further attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which effect.
    pub effect: EffectId,
    /// In which way.
    pub class: OutcomeClass,
    /// What the connector's contract took from the answer; null where there is none.
    pub result: Value,
    /// A sentence for people; for `ok` how it was learnt when that is not plain (a duplicate, a probe).
    pub detail: Arc<str>,
    /// HTTP status of the last answer, if one came.
    pub status: Option<u16>,
    /// Attempts made.
    pub attempts: u32,
}

/// The ways in which an effect ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OutcomeClass {
    /// The system did it, now or at an earlier attempt.
    Ok,
    /// The system said no, and would say no again.
    Failed,
    /// It ran out of tries or time: a dead letter.
    Dead,
    /// It was called off before any attempt could have had an effect.
    Cancelled,
}

impl OutcomeClass {
    /// The word used in definitions, metrics and pages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A timer that came due. Stale when the entity has cleared or reset it since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimerFired {
    /// Its name in the process.
    pub name: Arc<str>,
    /// Sequence number of the record that set it: tells a stale firing from a due one.
    pub token: u64,
}

/// What a person does about an entity. Always with who and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intervention {
    /// Who.
    pub by: Arc<str>,
    /// Why, in the person's words.
    pub reason: Arc<str>,
    /// What.
    pub action: Action,
}

/// The interventions there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Try again what the exception is about: send the effect again under the same key, or leave the hold by its `resume` way.
    /// `set` are fields corrected by the person first.
    Retry {
        /// Which exception of the entity.
        exception: u64,
        /// Fields to set before, as a map; null for none.
        set: Value,
    },
    /// Close the exception without another try. For an effect, `result` counts as what the system would have answered.
    Resolve {
        /// Which exception of the entity.
        exception: u64,
        /// The result by hand; null to close only.
        result: Value,
    },
    /// Go on under another version of the process.
    Migrate(Migration),
}

/// How an instance goes on under another version of its process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Migration {
    /// The version it is on.
    pub from: u32,
    /// The version it goes to.
    pub to: u32,
    /// The record it was computed from: if there is a newer one, nothing is done.
    pub at: u64,
    /// The state in which it goes on.
    pub state: Arc<str>,
    /// All of its fields, as a map.
    pub fields: Value,
    /// Whether the state begins anew: its effects are emitted and its guards looked at.
    pub enter: bool,
    /// Whether the timers of the state count from now instead of from when it was entered.
    pub restart_timers: bool,
    /// Whether it may go with effects under way.
    pub with_pending: bool,
}

/// The raw delivery, kept whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Its media type as received.
    pub content_type: Option<Arc<str>>,
    /// Which secret signed it, by id; never the secret.
    pub key_id: Option<Arc<str>>,
    /// The body, byte for byte.
    pub body: Raw,
}

/// Bytes as received, shared and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw(pub Arc<[u8]>);

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Raw;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Raw, E> {
                Ok(Raw(bytes.into()))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Raw, E> {
                Ok(Raw(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

impl Body {
    /// The message's type: what a process calls it. For outcomes, timers and interventions a fixed word.
    pub fn name(&self) -> &str {
        match self {
            Self::Command(command) => &command.name,
            Self::Event(event) => &event.name,
            Self::Outcome(_) => "effect.outcome",
            Self::Timer(_) => "timer.fired",
            Self::Intervention(_) => "operator.intervention",
        }
    }

    /// The version of the process that decides on it, for an instance of version `own`.
    pub fn governed_by(&self, own: u32) -> u32 {
        match self {
            Self::Intervention(Intervention { action: Action::Migrate(migration), .. }) => migration.to,
            _ => own,
        }
    }

    /// Its data, where it has any.
    pub fn data(&self) -> Option<&Value> {
        match self {
            Self::Command(command) => Some(&command.data),
            Self::Event(event) => Some(&event.data),
            Self::Outcome(outcome) => Some(&outcome.result),
            Self::Timer(_) | Self::Intervention(_) => None,
        }
    }
}

impl Envelope {
    /// Bytes it holds in memory, about: what permits and queues are measured in.
    pub fn weight(&self) -> usize {
        let evidence = self.evidence.as_ref().map_or(0, |evidence| evidence.body.0.len());
        let data = self.body.data().map_or(0, Value::weight);
        256 + self.id.len() + self.correlation_id.len() + self.subject.key().len() + evidence + data
    }
}

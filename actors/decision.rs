//! What an entity answers to a message: the changes that then hold, and the answer to the sender.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::envelope::{Body, OutcomeClass};
use crate::id::EffectId;
use crate::ownership::{Policy, Stand};
use crate::record::Hash;
use crate::time::Timestamp;
use crate::value::Value;

/// What `decide` answers: nothing of it has happened yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The facts that hold once this is journaled, in order. `apply` folds them.
    pub changes: Vec<Change>,
    /// Business keys under which this message must never be applied again, each with the scope it is unique in.
    pub business_keys: Vec<BusinessKey>,
    /// What the sender is told, now and at every later delivery of the same message.
    pub answer: Answer,
}

/// A key of the business (an order number on a confirmation) that makes a message a duplicate whatever its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BusinessKey {
    /// The message type it is unique in.
    pub scope: Arc<str>,
    /// Its value as text.
    pub key: Arc<str>,
}

/// What the sender is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Sequence number of the record that holds the message.
    pub seq: u64,
    /// The entity's status after it.
    pub status: Arc<str>,
    /// What became of the message.
    pub verdict: Verdict,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It took effect.
    Applied,
    /// It came before its turn and waits in the entity until its turn comes.
    Deferred,
    /// It came after its turn, or the process has no use for it; kept in the journal, without effect.
    Ignored,
    /// It was refused: an answer, not an error.
    Rejected(Rejection),
}

impl Verdict {
    /// The word used in answers and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Deferred => "deferred",
            Self::Ignored => "ignored",
            Self::Rejected(_) => "rejected",
        }
    }
}

/// Why a message has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Rejection {
    /// The state has no transition for it.
    #[error("`{message}` is out of turn in state `{state}`")]
    OutOfTurn {
        /// The message's type.
        message: Arc<str>,
        /// The entity's state.
        state: Arc<str>,
    },
    /// No guard of the state's transitions let it through.
    #[error("`{message}` is not allowed in state `{state}`: no guard holds")]
    Guarded {
        /// The message's type.
        message: Arc<str>,
        /// The entity's state.
        state: Arc<str>,
    },
    /// The process does not know the message.
    #[error("process `{process}` has no message `{message}`")]
    Unknown {
        /// The process.
        process: Arc<str>,
        /// The message's type.
        message: Arc<str>,
    },
    /// The entity does not exist and the message does not start one.
    #[error("`{message}` does not start a {process}, and there is none of this key")]
    NotBegun {
        /// The process.
        process: Arc<str>,
        /// The message's type.
        message: Arc<str>,
    },
    /// An expression could not be evaluated; the text says which, where, and on what.
    #[error("{0}")]
    Expression(Arc<str>),
    /// The entity holds too much already.
    #[error("{what} is at its limit of {limit}")]
    Limit {
        /// What is full.
        what: Arc<str>,
        /// The limit.
        limit: u64,
    },
    /// An intervention names no open exception.
    #[error("there is no open exception {0}")]
    NoException(u64),
    /// A timer or an outcome that the entity no longer waits for: the only rejection that is not journaled.
    #[error("it is no longer waited for")]
    Stale,
    /// It would write a field that another system owns, and nobody else may.
    #[error("`{by}` may not write `{field}`: `{owner}` owns it; change it there")]
    NotOwner {
        /// The field.
        field: Arc<str>,
        /// The system of record.
        owner: Arc<str>,
        /// Who wanted to write it.
        by: Arc<str>,
    },
    /// Its source has said something newer of the entity already.
    #[error("revision {revision} of `{source_name}` is older than {newest}, which is known already")]
    Outdated {
        /// The source.
        source_name: Arc<str>,
        /// The message's revision.
        revision: Arc<str>,
        /// The newest from that source.
        newest: Arc<str>,
    },
    /// Its source has said the same under the same revision already.
    #[error("revision {revision} of `{source_name}` is known already")]
    Repeated {
        /// The source.
        source_name: Arc<str>,
        /// The message's revision.
        revision: Arc<str>,
    },
}

/// One fact about an entity. Never renamed or reordered: stored records hold them (see `codec`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The entity came to be under this version of its process.
    Began {
        /// Version of the process it stays on.
        version: u32,
    },
    /// A field got a value.
    Assigned {
        /// Path from the entity's root, dotted.
        field: Arc<str>,
        /// The new value.
        value: Value,
    },
    /// It is in this state now.
    Entered {
        /// The state.
        state: Arc<str>,
    },
    /// An effect must leave.
    Emitted(Effect),
    /// An effect ended.
    Settled {
        /// Which.
        effect: EffectId,
        /// How.
        class: OutcomeClass,
        /// What the system answered.
        result: Value,
    },
    /// An effect is called off, if no attempt can have had an effect yet; its outcome tells.
    CalledOff {
        /// Which.
        effect: EffectId,
    },
    /// An effect that had ended is tried again under the same key.
    Reissued(Effect),
    /// A timer runs.
    TimerSet {
        /// Its name.
        name: Arc<str>,
        /// When it is due.
        due: Timestamp,
    },
    /// A timer runs no longer.
    TimerCleared {
        /// Its name.
        name: Arc<str>,
    },
    /// What was done is being undone, last step first.
    Compensating {
        /// Why.
        reason: Arc<str>,
    },
    /// All that had to be undone is undone.
    Compensated,
    /// A milestone was reached.
    MilestoneReached {
        /// Its name.
        name: Arc<str>,
    },
    /// A milestone's time ran out before it was reached.
    MilestoneMissed {
        /// Its name.
        name: Arc<str>,
    },
    /// A message waits for its turn.
    Deferred {
        /// Its id.
        id: Arc<str>,
        /// What it asks or tells.
        body: Body,
    },
    /// A waiting message had its turn.
    Resumed {
        /// Its id.
        id: Arc<str>,
    },
    /// A person must look.
    Opened(Exception),
    /// Nobody needs to look any more.
    Closed {
        /// Which exception.
        exception: u64,
        /// Who closed it, or `process`.
        by: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// An effect that ended is kept for a person to try again.
    Parked {
        /// The exception about it.
        exception: u64,
        /// The effect, as it was emitted.
        effect: Effect,
    },
    /// A person says what an effect that had ended should count as: done, with this result.
    Resolved {
        /// The effect, as it was emitted.
        effect: Effect,
        /// What the system would have answered.
        result: Value,
    },
    /// The message had no effect, and this is why.
    Refused(Rejection),
    /// It is over.
    Ended {
        /// In which way.
        ending: Ending,
    },
    /// It goes on under another version of its process.
    Migrated {
        /// Which version.
        version: u32,
        /// The state in which it goes on, since when it was in the one before.
        state: Arc<str>,
        /// All of its fields.
        fields: Value,
    },
    /// What was done so far stands: nothing will undo it any more.
    Committed,
    /// A field that has an owner got a value.
    Written {
        /// Path from the entity's root, dotted.
        field: Arc<str>,
        /// The new value.
        value: Value,
        /// The system that wrote it.
        by: Arc<str>,
        /// The revision at its source, where the message has one.
        revision: Option<Value>,
        /// Whether its owner wrote it, now or ever.
        owned: bool,
    },
    /// A system wanted to write a field that another owns.
    Disputed {
        /// Path from the entity's root, dotted.
        field: Arc<str>,
        /// What it wanted to write.
        value: Value,
        /// The system.
        by: Arc<str>,
        /// The system that owns the field.
        owner: Arc<str>,
        /// What became of it.
        policy: Policy,
    },
    /// A message with a revision took effect.
    Revised {
        /// Its source.
        source: Arc<str>,
        /// The revision.
        revision: Value,
        /// Hash of what it said.
        digest: Hash,
    },
    /// Who sent a message that waits for its turn.
    WaitsFrom {
        /// The message's id.
        id: Arc<str>,
        /// Its source.
        source: Arc<str>,
    },
    /// How a system stands that wants the changes of this record.
    Synced {
        /// The system.
        system: Arc<str>,
        /// Whether it has the newest.
        stand: Stand,
        /// Hash of what it was sent last, or is known to have.
        digest: Hash,
    },
    /// An effect that was done before counts no longer: it was done again, and nothing undoes it.
    Superseded {
        /// Which.
        effect: EffectId,
    },
    /// A step that nothing can undo and that newer ones of its name have taken the place of is not kept in the state any more.
    Forgotten {
        /// Its effect.
        effect: EffectId,
    },
}

/// A message that must leave: a call of an operation of a connector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Its id in the entity: fixes the idempotency key.
    pub id: EffectId,
    /// Its name in the process.
    pub name: Arc<str>,
    /// The system to call.
    pub connector: Arc<str>,
    /// The operation of that system.
    pub operation: Arc<str>,
    /// What is sent, as the process mapped it.
    pub input: Value,
    /// The effect that this one undoes.
    pub undoes: Option<EffectId>,
    /// Not before this time.
    pub due: Timestamp,
}

/// What a person must look at, within its entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exception {
    /// Its number in the entity: sequence number of the record that opened it, times 16, plus its place there.
    pub number: u64,
    /// What kind of trouble.
    pub class: ExceptionClass,
    /// The effect it is about, for dead letters and failures.
    pub effect: Option<EffectId>,
    /// A plain sentence for the person who resolves it.
    pub summary: Arc<str>,
    /// What is missing, and details worth showing; null if nothing.
    pub detail: Value,
    /// Who owes the fix: a team named by the process.
    pub owner: Arc<str>,
}

/// The kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ExceptionClass {
    /// The process waits for data or a person.
    Hold,
    /// An effect ran out of tries.
    DeadLetter,
    /// A system said no and the process has no other way.
    Failure,
    /// A milestone was missed.
    Late,
    /// A message could not be applied because an expression failed.
    Mapping,
    /// A step could not be undone.
    Compensation,
    /// An authentic message could not be understood.
    Quarantine,
    /// A message made its actor panic twice.
    Poison,
    /// A system wants to write a field that another owns.
    Conflict,
}

impl ExceptionClass {
    /// The word used in filters, metrics and pages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::DeadLetter => "dead_letter",
            Self::Failure => "failure",
            Self::Late => "late",
            Self::Mapping => "mapping",
            Self::Compensation => "compensation",
            Self::Quarantine => "quarantine",
            Self::Poison => "poison",
            Self::Conflict => "conflict",
        }
    }
}

/// How an instance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ending {
    /// As wished.
    Completed,
    /// Called off, and undone.
    Cancelled,
    /// Given up.
    Failed,
}

impl Ending {
    /// The word used in definitions, metrics and pages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

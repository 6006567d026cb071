//! Why the host did not take a message, or could not read.

use std::sync::Arc;
use std::time::Duration;

use syncline_actors::id::{EntityId, IdError, ShardId};

use crate::journal;

/// Why there is no answer. None of these is an ack: the sender delivers again, or a person must look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A limit is reached. Nothing was done: deliver again after `retry_after`.
    #[error("busy: {what} is full")]
    Busy {
        /// What is full.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// This node does not hold the entity's shard, or holds it no longer. Deliver to its owner.
    #[error("shard {shard} is not owned here")]
    NotOwner {
        /// Which shard.
        shard: ShardId,
    },
    /// This node holds the entity's shard, but has not heard for a while that it still does. Nothing was done: in a moment its lease
    /// is renewed, or another node has the shard.
    #[error("the lease of shard {shard} was last renewed {age_ms} ms ago")]
    InDoubt {
        /// Which shard.
        shard: ShardId,
        /// How long ago its lease was renewed, in milliseconds.
        age_ms: u64,
    },
    /// The journal or the actor did not answer; the message may have been applied. Deliver it again: its id is known then.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The node is going down. Nothing was done: deliver again, to another node or later.
    #[error("the node is stopping")]
    Stopping,
    /// No process governs this kind. Nothing was done: add the process, or correct the source's mapping.
    #[error("no process `{kind}` is defined: add it under processes/, or correct the kind")]
    UnknownKind {
        /// The kind.
        kind: Arc<str>,
    },
    /// The entity is on a version of its process that is not loaded. Nothing was done: bring that version back.
    #[error("version {version} of process `{kind}` is in use but not loaded: bring its definition back")]
    MissingVersion {
        /// The kind.
        kind: Arc<str>,
        /// The version that the entity is on.
        version: u32,
    },
    /// What is stored of the entity cannot be right, so it takes in nothing. A person must repair it or restore it.
    #[error("{entity} is closed, its journal is broken: {problem}")]
    Broken {
        /// Which entity.
        entity: EntityId,
        /// What is wrong, and where.
        problem: String,
    },
    /// The entity is bound to a region that is not served here. Nothing was done, and nothing of it may be kept anywhere: correct the
    /// key, or serve the region.
    #[error("{0}")]
    Region(String),
    /// The message does not fit into a record. Nothing was done: send less.
    #[error("the message cannot be stored: {0}")]
    Unstorable(String),
    /// The message made its actor panic again and again, and could not be set aside. Nothing was done: report it.
    #[error("the message makes {entity} panic")]
    Poisoned {
        /// Which entity.
        entity: EntityId,
    },
    /// A text cannot be an id. Nothing was done: correct it.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The store does not fit these definitions. Nothing was started; the text says what to do.
    #[error("cannot start: {0}")]
    Start(String),
}

/// What is full when one entity's sender sends too much; everyone else's is the node's.
pub(super) const MAILBOX: &str = "the entity's mailbox";

/// What is full when it is not one entity's mailbox, and another node said so.
const OWNER: &str = "the node that holds the shard";

impl Error {
    /// [`Self::Busy`] as another node tells it: of one entity, or of the whole node.
    pub fn busy(of_one_entity: bool, retry_after: Duration) -> Self {
        Self::Busy { what: if of_one_entity { MAILBOX } else { OWNER }, retry_after }
    }

    /// Whether only messages of this one entity are refused.
    pub fn is_of_one_entity(&self) -> bool {
        matches!(self, Self::Busy { what, .. } if *what == MAILBOX)
    }

    /// Whether nothing but the place was wrong: nothing was done, and in a moment the shard may be held here or elsewhere.
    pub fn is_of_placement(&self) -> bool {
        matches!(self, Self::NotOwner { .. } | Self::InDoubt { .. })
    }

    /// Whether the same message may be taken in later without anyone's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::NotOwner { .. }
            | Self::InDoubt { .. }
            | Self::Unavailable(_)
            | Self::Stopping => true,
            Self::UnknownKind { .. }
            | Self::MissingVersion { .. }
            | Self::Broken { .. }
            | Self::Region(_)
            | Self::Unstorable(_)
            | Self::Poisoned { .. }
            | Self::Id(_)
            | Self::Start(_) => false,
        }
    }

    /// When to try again, for what is worth another try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => Some(*retry_after),
            Self::NotOwner { .. } | Self::InDoubt { .. } | Self::Unavailable(_) | Self::Stopping => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }

    /// What the journal's refusal means to whoever asked about `entity`.
    pub(super) fn of(entity: &EntityId, error: &journal::Error) -> Self {
        match error {
            journal::Error::Fenced { shard, .. } => Self::NotOwner { shard: *shard },
            journal::Error::Corrupt(problem) => Self::broken(entity, problem),
            journal::Error::Conflict { .. }
            | journal::Error::Suspect { .. }
            | journal::Error::Unavailable(_)
            | journal::Error::Open(_) => Self::Unavailable(error.to_string()),
        }
    }

    pub(super) fn broken(entity: &EntityId, problem: &impl ToString) -> Self {
        Self::Broken { entity: entity.clone(), problem: problem.to_string() }
    }
}

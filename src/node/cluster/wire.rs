//! What nodes ask each other, and what they answer, as bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use syncline_actors::class::Class;
use syncline_actors::decision::Answer;
use syncline_actors::entity::State;
use syncline_actors::envelope::Envelope;
use syncline_actors::id::{EntityId, Epoch, NodeId, ShardId};
use syncline_actors::slo::Board;
use syncline_actors::time::Timestamp;

use crate::codec::{self, Schema};
use crate::host::{self, Lane, Reply};

/// What a node asks of another. It never asks on: who is asked answers, or says who holds the shard.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Take a message to its durable answer.
    Deliver {
        /// Whether it comes from ourselves and waits for its turn.
        inside: bool,
        /// The message.
        envelope: Box<Envelope>,
    },
    /// The state of an entity, with all that is acknowledged.
    State(EntityId),
    /// Take a shard that was let go of for you.
    Take(ShardId),
    /// Take a message of a class other than the usual to its durable answer.
    DeliverClassed {
        /// Whether it comes from ourselves and waits for its turn.
        inside: bool,
        /// How urgent it is, and how much it matters.
        class: Class,
        /// The message.
        envelope: Box<Envelope>,
    },
    /// How the instances of your entities stand.
    Board,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// The message is durable.
    Reply {
        /// What became of it.
        answer: Answer,
        /// Whether it was known.
        duplicate: bool,
    },
    /// The entity as it stands; none: no message ever came for it.
    State(Option<Box<State>>),
    /// The shard is held by who answers, under this epoch.
    Taken(Epoch),
    /// Who answers does not hold the shard; who does, as far as it knows. Nothing was done.
    Elsewhere(Option<(NodeId, Epoch)>),
    /// It was not done, or it is not known whether it was.
    Refused(Trouble),
    /// The question is not understood: it is of a newer version. Nothing was done.
    NotUnderstood(String),
    /// What was counted last, and when; none: nothing yet.
    Board(Option<Timestamp>, Board),
}

/// The host's errors, as they travel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Trouble {
    Busy { of_entity: bool, retry_ms: u64 },
    Unavailable(String),
    Stopping,
    UnknownKind(Arc<str>),
    MissingVersion(Arc<str>, u32),
    Broken(EntityId, String),
    Unstorable(String),
    Poisoned(EntityId),
    Region(String),
    InDoubt(ShardId, u64),
}

impl Ask {
    pub(super) fn deliver(envelope: Envelope, lane: Lane) -> Self {
        let (inside, envelope) = (!lane.is_outside(), Box::new(envelope));
        match lane {
            Lane::Outside | Lane::Inside => Self::Deliver { inside, envelope },
            Lane::Classed(class) => Self::DeliverClassed { inside, class, envelope },
            Lane::Patient(_) => Self::DeliverClassed { inside, class: lane.class(), envelope },
        }
    }

    pub(super) fn bytes(&self) -> Result<Bytes, codec::Error> {
        codec::encode(Schema::Ask, self)
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, codec::Error> {
        codec::decode(Schema::Ask, bytes)
    }
}

impl Told {
    /// An answer that cannot be written says so.
    pub(super) fn bytes(&self) -> Bytes {
        let unwritten = |error: codec::Error| {
            Self::Refused(Trouble::Unavailable(format!("the answer cannot be sent: {error}")))
        };
        codec::encode(Schema::Told, self)
            .or_else(|error| codec::encode(Schema::Told, &unwritten(error)))
            .unwrap_or_default()
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, codec::Error> {
        codec::decode(Schema::Told, bytes)
    }
}

impl From<Reply> for Told {
    fn from(Reply { answer, duplicate }: Reply) -> Self {
        Self::Reply { answer, duplicate }
    }
}

impl From<&host::Error> for Trouble {
    fn from(error: &host::Error) -> Self {
        match error {
            host::Error::Busy { retry_after, .. } => Self::Busy {
                of_entity: error.is_of_one_entity(),
                retry_ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
            },
            host::Error::Stopping => Self::Stopping,
            host::Error::UnknownKind { kind } => Self::UnknownKind(kind.clone()),
            host::Error::MissingVersion { kind, version } => Self::MissingVersion(kind.clone(), *version),
            host::Error::Broken { entity, problem } => Self::Broken(entity.clone(), problem.clone()),
            host::Error::Unstorable(why) => Self::Unstorable(why.clone()),
            host::Error::Poisoned { entity } => Self::Poisoned(entity.clone()),
            host::Error::Region(why) => Self::Region(why.clone()),
            host::Error::Unavailable(why) => Self::Unavailable(why.clone()),
            host::Error::InDoubt { shard, age_ms } => Self::InDoubt(*shard, *age_ms),
            host::Error::NotOwner { .. } | host::Error::Id(_) | host::Error::Start(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

impl From<Trouble> for host::Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Busy { of_entity, retry_ms } => Self::busy(of_entity, Duration::from_millis(retry_ms)),
            Trouble::Unavailable(why) => Self::Unavailable(why),
            Trouble::Stopping => Self::Stopping,
            Trouble::UnknownKind(kind) => Self::UnknownKind { kind },
            Trouble::MissingVersion(kind, version) => Self::MissingVersion { kind, version },
            Trouble::Broken(entity, problem) => Self::Broken { entity, problem },
            Trouble::Unstorable(why) => Self::Unstorable(why),
            Trouble::Poisoned(entity) => Self::Poisoned { entity },
            Trouble::Region(why) => Self::Region(why),
            Trouble::InDoubt(shard, age_ms) => Self::InDoubt { shard, age_ms },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity() -> EntityId {
        EntityId::new("order", "SO-1").unwrap()
    }

    #[test]
    fn what_the_owner_refused_is_refused_with_the_same_words() {
        let retry_after = Duration::from_millis(250);
        for error in [
            host::Error::busy(true, retry_after),
            host::Error::busy(false, retry_after),
            host::Error::Unavailable("the store is away".to_owned()),
            host::Error::Stopping,
            host::Error::UnknownKind { kind: "odrer".into() },
            host::Error::MissingVersion { kind: "order".into(), version: 3 },
            host::Error::Broken { entity: entity(), problem: "a gap".to_owned() },
            host::Error::Unstorable("too long".to_owned()),
            host::Error::Poisoned { entity: entity() },
            host::Error::Region("not served".to_owned()),
            host::Error::InDoubt { shard: ShardId(7), age_ms: 1300 },
        ] {
            let bytes = Told::Refused(Trouble::from(&error)).bytes();
            let Ok(Told::Refused(trouble)) = Told::read(&bytes) else { panic!("it is read") };
            assert_eq!(host::Error::from(trouble), error);
        }
    }

    #[test]
    fn hostile_bytes_are_an_error() {
        assert!(Ask::read(b"").is_err() && Told::read(b"SYNL and more").is_err());
        let bytes = Ask::State(entity()).bytes().unwrap();
        assert!(Told::read(&bytes).is_err(), "a question is no answer");
        assert!(matches!(Ask::read(&bytes), Ok(Ask::State(id)) if id == entity()));
    }
}

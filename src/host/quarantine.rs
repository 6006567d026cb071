//! Where authentic messages go that nobody understands, and those that their actor does not survive: an entity of the built-in
//! process `quarantine` each, with all that came, and an exception for a person.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use syncline_actors::decision::{Answer, Rejection, Verdict};
use syncline_actors::envelope::{Body, Envelope, Event, Evidence};
use syncline_actors::id::EntityId;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::core::{Core, Route};
use super::delivery::Delivery;
use super::{Error, Lane, Reply};

/// The kind of the entities that hold quarantined messages.
pub const KIND: &str = "quarantine";

/// What the sender of a message is told that its actor does not survive.
pub(super) const POISON: &str = "the message makes its actor panic; it is held in quarantine";

/// A message to put aside whole.
#[derive(Debug, Clone, PartialEq)]
pub struct QuarantineItem {
    /// Who sent it: the name of a source.
    pub source: Arc<str>,
    /// Its id there: with `source` the key of deduplication.
    pub message_id: Arc<str>,
    /// Why it is here, in a word: `schema`, `mapping`, `poison`.
    pub class: &'static str,
    /// Why it is here, in a sentence for the person who looks.
    pub reason: Arc<str>,
    /// The team that owes the fix; empty if unknown.
    pub owner: Arc<str>,
    /// Its type, as far as it was understood; empty if it was not.
    pub kind: Arc<str>,
    /// The region that it must not leave, if any: where what it was for is bound, or its source.
    pub region: Option<Arc<str>>,
    /// The entity it was for, as far as it was understood; empty if it was not.
    pub subject: Arc<str>,
    /// The entity it would have gone to, where that alone was understood. It makes no difference to where it is kept.
    pub meant_for: Arc<str>,
    /// How it has come away from its schema: a list of `{kind, path, said}`; null for nothing.
    pub drift: Value,
    /// The transport's headers as a map, without secrets; null for none.
    pub headers: Value,
    /// What was read of it; null for nothing.
    pub content: Value,
    /// The raw delivery.
    pub evidence: Option<Evidence>,
    /// The business flow, if known; the quarantine's own key if empty.
    pub correlation_id: Arc<str>,
    /// W3C trace context, as received.
    pub traceparent: Option<Arc<str>>,
    /// When it was taken in.
    pub at: Timestamp,
    /// How long its id is remembered, in milliseconds. `None`: as long as it is in quarantine.
    pub remember_ms: Option<u64>,
}

impl QuarantineItem {
    /// The entity that holds it: the same for every delivery of the same message.
    pub fn entity(&self) -> Result<EntityId, Error> {
        let mut hash = Sha256::new();
        for part in [&self.source, &self.message_id, &self.subject] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let key = hex::encode(&hash.finalize()[..16]);
        let bound = self.region.as_ref().map(|region| format!("@{region}:")).unwrap_or_default();
        Ok(EntityId::new(KIND, &format!("{bound}{}:{key}", self.class))?)
    }

    /// The message that puts it aside.
    pub fn into_envelope(self) -> Result<Envelope, Error> {
        let subject = self.entity()?;
        let content_type = self.evidence.as_ref().and_then(|evidence| evidence.content_type.clone());
        let of = if self.subject.is_empty() { &self.meant_for } else { &self.subject };
        let data = Value::map([
            ("source", Value::from(&*self.source)),
            ("message_id", Value::from(&*self.message_id)),
            ("class", Value::from(self.class)),
            ("reason", Value::from(&*self.reason)),
            ("owner", Value::from(&*self.owner)),
            ("kind", Value::from(&*self.kind)),
            ("subject", Value::from(&**of)),
            ("drift", self.drift),
            ("content_type", content_type.as_deref().map_or(Value::Null, Value::from)),
            ("headers", self.headers),
            ("content", self.content),
        ]);
        let flow =
            if self.correlation_id.is_empty() { subject.to_string().into() } else { self.correlation_id };
        Ok(Envelope {
            id: self.message_id.clone(),
            source: self.source,
            subject,
            correlation_id: flow,
            causation_id: None,
            traceparent: self.traceparent,
            time: None,
            at: self.at,
            remember_ms: self.remember_ms,
            body: Body::Event(Event { name: "quarantined".into(), data }),
            evidence: self.evidence,
        })
    }

    fn poison(envelope: &Envelope, panic: &str, at: Timestamp) -> Self {
        Self {
            source: envelope.source.clone(),
            message_id: envelope.id.clone(),
            class: "poison",
            reason: format!("`{}` makes {} panic: {panic}", envelope.body.name(), envelope.subject).into(),
            owner: "".into(),
            kind: envelope.body.name().into(),
            region: envelope.subject.region().map(Arc::from),
            subject: envelope.subject.to_string().into(),
            meant_for: "".into(),
            drift: Value::Null,
            headers: Value::Null,
            content: envelope.body.data().cloned().unwrap_or_default(),
            evidence: envelope.evidence.clone(),
            correlation_id: envelope.correlation_id.clone(),
            traceparent: envelope.traceparent.clone(),
            at,
            remember_ms: None,
        }
    }
}

/// Puts a message aside that makes its actor panic, then has it journaled in its entity as refused, so that no later delivery of it
/// is decided upon. Only then does its sender get an answer. It needs no permit: the message has one.
pub(super) fn set_aside(core: Arc<Core>, owner: Route, delivery: Arc<Delivery>, panic: String) {
    tokio::spawn(async move {
        let Some(envelope) = delivery.envelope() else { return };
        if envelope.subject.kind() == KIND {
            return delivery.answer(Err(Error::Poisoned { entity: envelope.subject.clone() }));
        }
        core.observer.poisoned(&envelope.subject);
        let item = QuarantineItem::poison(&envelope, &panic, core.clock.now());
        drop(envelope);
        let held = match item.into_envelope() {
            Ok(envelope) => {
                Box::pin(core.send(envelope, Lane::Inside, core.permits.free(), core.config.node.0.clone()))
                    .await
            }
            Err(error) => Err(error),
        };
        match held {
            Ok(_) => {
                delivery.condemn();
                let entity = delivery.entity.clone();
                if core.give(&owner, delivery.clone()).is_err() {
                    delivery.answer(Err(Error::NotOwner { shard: entity.shard() }));
                }
            }
            Err(error) => delivery.answer(Err(error)),
        }
    });
}

/// What the sender is told of a message that is in quarantine and cannot even be journaled as refused.
pub(super) fn given_up(entity: &EntityId) -> Reply {
    tracing::error!(alarm = true, %entity, "a message in quarantine could not be journaled as refused");
    let verdict = Verdict::Rejected(Rejection::Expression(POISON.into()));
    Reply { answer: Answer { seq: 0, status: "".into(), verdict }, duplicate: false }
}

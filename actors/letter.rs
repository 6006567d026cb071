//! A letter: a message from one entity to another, as the sender's outbox keeps it and as its receiver gets it.
//!
//! It leaves as any effect does: after the record of its sender is durable, at least once. Its message id is fixed by the sender and
//! the effect, so that the receiver takes it in once however often it comes.

use std::sync::Arc;

use crate::envelope::{Body, Command, Envelope, Event};
use crate::id::{EffectId, EntityId};
use crate::outbox::OutboxRow;
use crate::process::ENTITY;
use crate::time::Timestamp;
use crate::value::Value;

/// Begins the id of every letter. No message from outside may have such an id.
pub const PREFIX: &str = "entity:";

/// The kind of the entities that pass on what a system addresses by an id of its own: `xref/<system>:<process>:<id>`.
pub const XREF: &str = "xref";

/// What such an entity is told of the entity that it is linked to, and of the end of that.
pub const LINKED: &str = "xref.linked";
/// See [`LINKED`].
pub const UNLINKED: &str = "xref.unlinked";

/// What such an entity is told of what it is to pass on.
pub const PASSED: &str = "xref.passed";

/// A message to another entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// To whom.
    pub to: EntityId,
    /// What it asks or tells.
    pub body: Body,
    /// Who sent it first, where it is only passed on: the name of a source.
    pub source: Option<Arc<str>>,
    /// The business flow, where it is not that of the sender's record.
    pub correlation_id: Option<Arc<str>>,
}

impl Letter {
    /// As an effect's input keeps it: `{to, event: …, data}` or `{to, command: …, data}`, and more for what is passed on.
    pub fn write(&self) -> Value {
        let (word, name) = match &self.body {
            Body::Command(command) => ("command", &command.name),
            body => ("event", &Arc::from(body.name())),
        };
        let text = |text: &Arc<str>| Value::from(&**text);
        let more = [("source", &self.source), ("correlation_id", &self.correlation_id)];
        let more = more.into_iter().filter_map(|(key, value)| Some((key, text(value.as_ref()?))));
        let data = self.body.data().cloned().unwrap_or_default();
        let own = [("to", Value::from(self.to.to_string())), (word, text(name)), ("data", data)];
        Value::map(own.into_iter().chain(more))
    }

    /// Reads what [`Letter::write`] wrote.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn read(input: &Value) -> Result<Self, String> {
        let text = |key| input.get(key).and_then(Value::as_text);
        let to = text("to").ok_or("it is for no entity")?;
        let to = EntityId::parse(to).map_err(|error| format!("it is for `{to}`: {error}"))?;
        let data = input.get("data").cloned().unwrap_or_default();
        let body = match (text("event"), text("command")) {
            (Some(name), None) => Body::Event(Event { name: name.into(), data }),
            (None, Some(name)) => Body::Command(Command { name: name.into(), data }),
            _ => return Err("it must be an `event` or a `command`".to_owned()),
        };
        let (source, correlation_id) = (text("source").map(Arc::from), text("correlation_id").map(Arc::from));
        Ok(Self { to, body, source, correlation_id })
    }

    /// A message for whichever entity `alias` is linked to: `body` in an envelope of its own, from `source`.
    pub fn passed(alias: EntityId, body: Body, source: &Arc<str>, correlation_id: &str) -> Body {
        let (source, correlation_id) = (Some(source.clone()), Some(correlation_id.into()));
        let data = Self { to: alias, body, source, correlation_id }.write();
        Body::Event(Event { name: PASSED.into(), data })
    }

    /// Whether `from` may send it, as far as residency goes: what is bound to a region tells nobody beyond it.
    ///
    /// # Errors
    /// Says why not.
    pub fn check_residency(&self, from: &EntityId) -> Result<(), String> {
        match (from.region(), self.to.region()) {
            (Some(own), other) if other != Some(own) => {
                let there = other.map_or_else(|| "no region".to_owned(), |other| format!("region `{other}`"));
                Err(format!(
                    "{from} is bound to region `{own}` and may not send to {}, which is bound to {there}",
                    self.to
                ))
            }
            _ => Ok(()),
        }
    }

    /// The message that its receiver gets. The same for every attempt of `row`, save for `now`.
    pub fn envelope(self, row: &OutboxRow, now: Timestamp) -> Envelope {
        Envelope {
            id: message_id(&row.entity, row.effect.id).into(),
            source: self.source.unwrap_or_else(|| ENTITY.into()),
            subject: self.to,
            correlation_id: self.correlation_id.unwrap_or_else(|| row.correlation_id.clone()),
            causation_id: Some(row.effect.id.idempotency_key(&row.entity).into()),
            traceparent: row.traceparent.clone(),
            time: Some(row.since),
            at: now,
            // As long as its sender may send it again, which a person may have it do at any time.
            remember_ms: None,
            body: self.body,
            evidence: None,
        }
    }
}

/// The id of a letter: `entity:order/SO-1001#7.0`.
pub fn message_id(sender: &EntityId, effect: EffectId) -> String {
    format!("{PREFIX}{sender}#{effect}")
}

/// Which entity sent the message of this id, if one did. A cross-reference only passes on.
pub fn sender(message_id: &str) -> Option<&str> {
    let (sender, _) = message_id.strip_prefix(PREFIX)?.rsplit_once('#')?;
    let is_passed_on = sender.split_once('/').is_some_and(|(kind, _)| kind == XREF);
    (!is_passed_on).then_some(sender)
}

/// The cross-reference of what `system` calls `id` among the entities of `process`. An id that begins as a region's key does
/// (`@eu:4711`) is one of that region.
///
/// # Errors
/// The id is none that a key can hold.
pub fn alias(system: &str, process: &str, id: &str) -> Result<EntityId, crate::id::IdError> {
    let id = EntityId::new(process, id)?;
    let Some(region) = id.region() else {
        return EntityId::new(XREF, &format!("{system}:{process}:{}", id.key()));
    };
    let own = id.key().split_once(':').map_or("", |(_, own)| own);
    EntityId::new(XREF, &format!("@{region}:{system}:{process}:{own}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> EntityId {
        EntityId::parse(text).expect("a legal id")
    }

    #[test]
    fn a_letter_reads_as_it_is_written() {
        let data = Value::map([("name", Value::from("Acme"))]);
        let told = Letter {
            to: id("customer/C-7"),
            body: Body::Event(Event { name: "customer.wanted".into(), data: data.clone() }),
            source: None,
            correlation_id: None,
        };
        assert_eq!(Letter::read(&told.write()), Ok(told));
        let passed_on = Letter {
            to: id("customer/@eu:C-7"),
            body: Body::Command(Command { name: "customer.close".into(), data }),
            source: Some("erp".into()),
            correlation_id: Some("flow-1".into()),
        };
        assert_eq!(Letter::read(&passed_on.write()), Ok(passed_on));
        for (input, problem) in [
            (Value::Null, "it is for no entity"),
            (Value::map([("to", Value::from("customer"))]), "`customer`"),
            (Value::map([("to", Value::from("customer/C-7"))]), "an `event` or a `command`"),
        ] {
            let told = Letter::read(&input).expect_err("it lacks something");
            assert!(told.contains(problem), "{told}");
        }
    }

    #[test]
    fn the_sender_stands_in_the_message_id() {
        for entity in ["order/SO-1001", "order/a#7.0", "order/@eu:SO-1"].map(id) {
            let message = message_id(&entity, EffectId { seq: 7, n: 2 });
            assert_eq!(sender(&message), Some(entity.to_string().as_str()));
        }
        assert_eq!((sender("order/SO-1001#7.0"), sender("entity:")), (None, None));
    }

    #[test]
    fn what_is_bound_to_a_region_tells_nobody_beyond_it() {
        let may = |from: &str, to: &str| {
            let body = Body::Event(Event { name: "x".into(), data: Value::Null });
            Letter { to: id(to), body, source: None, correlation_id: None }.check_residency(&id(from)).is_ok()
        };
        assert!(may("order/1", "customer/1") && may("order/1", "customer/@eu:1"));
        assert!(may("order/@eu:1", "customer/@eu:1"));
        assert!(!may("order/@eu:1", "customer/@us:1") && !may("order/@eu:1", "customer/1"));
    }
}

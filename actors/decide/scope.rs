//! What expressions can see: the entity's fields under its kind's name, what the message tells, and a few words more.

use std::sync::OnceLock;

use super::Draft;
use crate::entity::Step;
use crate::envelope::{Body, Outcome};
use crate::expr::{Later, Made, Scope};
use crate::letter;
use crate::mask::Mask;
use crate::record::Hash;
use crate::value::Value;

/// What the message at hand tells an expression.
#[derive(Debug, Default)]
pub(super) struct Told {
    data: Value,
    result: Value,
    error: Value,
    step: Value,
    /// The entity that sent it; null if none did.
    sender: Value,
}

impl Told {
    pub(super) fn nothing() -> Self {
        Self::default()
    }

    /// What the message of this id tells: the one at hand, or one that has waited for its turn.
    pub(super) fn message(body: &Body, id: &str) -> Self {
        let sender = letter::sender(id).map_or(Value::Null, Value::from);
        Self { data: body.data().cloned().unwrap_or_default(), sender, ..Self::default() }
    }

    pub(super) fn outcome(outcome: &Outcome) -> Self {
        let error = Value::map([
            ("class", Value::from(outcome.class.word())),
            ("detail", Value::from(&*outcome.detail)),
            ("status", outcome.status.map_or(Value::Null, |status| Value::Int(i64::from(status)))),
            ("attempts", Value::Int(i64::from(outcome.attempts))),
        ]);
        Self { result: outcome.result.clone(), error, ..Self::default() }
    }

    /// Hash of what the message says.
    pub(super) fn digest(&self) -> Hash {
        Hash::of(self.data.to_json().as_bytes())
    }

    pub(super) fn step(step: &Step) -> Self {
        let step = Value::map([("input", step.input.clone()), ("result", step.result.clone())]);
        Self { step, ..Self::default() }
    }
}

/// The values behind a [`Scope`]; what few expressions look at is made when one does.
pub(super) struct Seen<'a, 'd> {
    kind: &'a str,
    mask: &'a Mask,
    fields: &'a Value,
    told: &'a Told,
    entity: Made<'a, Draft<'d>>,
    message: Spoken<'a, 'd>,
    steps: Made<'a, Draft<'d>>,
    now: Made<'a, Draft<'d>>,
}

impl Seen<'_, '_> {
    pub(super) fn borrowed(&self) -> Scope<'_> {
        Scope::new()
            .masking(self.mask)
            .with(self.kind, self.fields)
            .with("data", &self.told.data)
            .with("result", &self.told.result)
            .with("error", &self.told.error)
            .with("step", &self.told.step)
            .with("steps", &self.steps)
            .with("entity", &self.entity)
            .with("message", &self.message)
            .with("now", &self.now)
    }
}

/// What is known of the message, when an expression looks at it.
struct Spoken<'a, 'd> {
    draft: &'a Draft<'d>,
    told: &'a Told,
    value: OnceLock<Value>,
}

impl Later for Spoken<'_, '_> {
    fn get(&self) -> &Value {
        self.value.get_or_init(|| self.draft.message_seen(self.told))
    }
}

/// Names an expression of a process may use, besides the kind's own.
pub const NAMES: [&str; 8] = ["data", "result", "error", "step", "steps", "entity", "message", "now"];

impl<'d> Draft<'d> {
    pub(super) fn scope<'s>(&'s self, told: &'s Told) -> Seen<'s, 'd> {
        Seen {
            kind: &self.process.name,
            mask: &self.process.mask,
            fields: &self.state.fields,
            told,
            entity: Made::new(self, Self::entity),
            message: Spoken { draft: self, told, value: OnceLock::new() },
            steps: Made::new(self, Self::steps),
            now: Made::new(self, |draft| Value::from(draft.envelope.at.to_string())),
        }
    }

    fn entity(&self) -> Value {
        let (subject, state) = (&self.envelope.subject, &self.state);
        Value::map([
            ("kind", Value::from(subject.kind())),
            ("key", Value::from(subject.key())),
            ("status", Value::from(&*state.status)),
            ("began_at", Value::from(state.began_at.to_string())),
            ("reason", state.compensating.as_deref().map_or(Value::Null, Value::from)),
        ])
    }

    fn message_seen(&self, told: &Told) -> Value {
        Value::map([
            ("id", Value::from(&*self.envelope.id)),
            ("source", Value::from(&*self.envelope.source)),
            ("type", Value::from(self.envelope.body.name())),
            ("correlation_id", Value::from(&*self.envelope.correlation_id)),
            ("sender", told.sender.clone()),
        ])
    }

    /// The results of the steps that stand, by name; the newest where a name was done twice.
    fn steps(&self) -> Value {
        Value::map(self.state.steps.iter().filter(|s| !s.undone).map(|s| (&*s.name, s.result.clone())))
    }
}

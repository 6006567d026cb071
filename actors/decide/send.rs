//! Messages to other entities, as effects.

use super::{Draft, Told};
use crate::decision::{Change, Effect};
use crate::envelope::{Body, Command, Event};
use crate::expr::Expr;
use crate::id::EntityId;
use crate::letter::Letter;
use crate::process::{SendDef, Target, Telling};
use crate::value::Value;

impl Draft<'_> {
    /// What the outbox keeps of the message `send`, whose data are `input`.
    pub(super) fn letter(&self, send: &SendDef, input: Value, told: &Told) -> Result<Value, String> {
        let to = self.receiver(&send.to, told)?;
        let letter = match &send.message {
            Telling::Named { name, is_command: true } => {
                let body = Body::Command(Command { name: name.clone(), data: input });
                Letter { to, body, source: None, correlation_id: None }
            }
            Telling::Named { name, is_command: false } => {
                let body = Body::Event(Event { name: name.clone(), data: input });
                Letter { to, body, source: None, correlation_id: None }
            }
            Telling::Forward(message) => {
                let mut message = self.value(message, told)?;
                message.set_path("to", Value::from(to.to_string()));
                Letter::read(&message)?
            }
        };
        Ok(letter.write())
    }

    fn receiver(&self, target: &Target, told: &Told) -> Result<EntityId, String> {
        let (Target::Id(expr) | Target::Key { key: expr, .. }) = target;
        let text = self.value(expr, told)?.to_plain_text();
        let found = match target {
            Target::Id(_) => EntityId::parse(&text),
            Target::Key { process, .. } => EntityId::new(process, &self.key_in_region(text)),
        };
        found.map_err(|error| format!("`{}` gives no receiver: {error}", expr.source()))
    }

    /// What is bound to a region knows others there by their plain keys.
    fn key_in_region(&self, key: String) -> String {
        match self.envelope.subject.region() {
            Some(region) if !key.starts_with('@') => format!("@{region}:{key}"),
            _ => key,
        }
    }

    fn value(&self, expr: &Expr, told: &Told) -> Result<Value, String> {
        expr.eval(&self.scope(told).borrowed()).map_err(|error| error.to_string())
    }

    /// A letter that its receiver refused has done nothing, and under its old id would be refused again: another try is a new one.
    pub(super) fn send_anew(&mut self, effect: Effect) {
        let id = self.next_effect();
        self.change(Change::Emitted(Effect { id, due: self.envelope.at, ..effect }));
    }
}

//! Messages to other entities: `send: {to: …, event: …}`.

use std::sync::Arc;

use super::Parser;
use crate::document::{Fields, Item, Spanned};
use crate::process::{ENTITY, SendDef, Target, Telling};
use crate::reading;

/// How a message is written, for whoever wrote it otherwise.
const FORM: &str =
    "write `send: {to: {process: customer, key: \"order.account_id\"}, event: customer.wanted}`";

/// The operation of a message that is passed on.
const FORWARD: &str = "forward";

/// What a message to another entity is called where connectors and operations are named.
pub(super) fn names(send: Option<&SendDef>) -> (Arc<str>, Arc<str>) {
    let operation = match send.map(|send| &send.message) {
        Some(Telling::Named { name, .. }) => name.clone(),
        Some(Telling::Forward(_)) => FORWARD.into(),
        None => "".into(), // which has been told
    };
    (ENTITY.into(), operation)
}

impl Parser {
    /// An effect either calls a system or sends to an entity.
    pub(super) fn refuse_call(fields: &Fields<'_>, call: Option<Spanned<String>>) {
        if let Some(call) = call {
            let message = "the effect calls a system and sends to an entity";
            call.refuse(
                fields.item().reader(),
                message,
                "delete `call` or `send`, or make two effects of it",
            );
        }
    }

    pub(super) fn send(&self, item: &Item<'_>) -> Option<SendDef> {
        let mut fields = item.fields()?;
        let to = fields.required("to").and_then(|to| self.target(&to));
        let event = fields.optional_text("event").map(|name| (name.value, false));
        let command = fields.optional_text("command").map(|name| (name.value, true));
        let forward = fields.optional("forward").map(|item| reading::expr(&item, &self.names));
        let said = [event.is_some(), command.is_some(), forward.is_some()];
        match said.iter().filter(|said| **said).count() {
            0 => fields.item().refuse("it sends nothing", FORM),
            1 => {}
            _ => fields.item().refuse("it sends more than one message", FORM),
        }
        fields.finish();
        let named = |(name, is_command): (String, bool)| Telling::Named { name: name.into(), is_command };
        let message = event.or(command).map(named).or_else(|| forward.flatten().map(Telling::Forward));
        Some(SendDef { to: to?, message: message?, place: item.place().clone() })
    }

    fn target(&self, item: &Item<'_>) -> Option<Target> {
        let mut fields = item.fields()?;
        if let Some(id) = fields.optional("entity") {
            let id = reading::expr(&id, &self.names);
            fields.finish();
            return id.map(Target::Id);
        }
        let process = fields.text("process");
        let key = fields.required("key").and_then(|key| reading::expr(&key, &self.names));
        fields.finish();
        Some(Target::Key { process: process?.value.into(), key: key? })
    }
}

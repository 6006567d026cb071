//! A source: a system that sends to us, how we know that it is it, and what its messages mean here.
//!
//! Read from `config/sources/<name>.yaml`. The signature scheme comes from a preset or is spelled out; nothing here is about one
//! vendor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use syncline_actors::class::Class;
use syncline_actors::document::{Fields, Item, Spanned};
use syncline_actors::expr::{Expr, Names};
use syncline_actors::id::{EntityId, IdError, is_region};
use syncline_actors::letter;
use syncline_actors::mapping::Mapping;
use syncline_actors::process::Owner;
use syncline_actors::reading;

use super::batches::Batch;
use super::poll::Poll;
use super::preset::{Preset, Presets};
use super::versions::Versions;
use crate::secret::SecretRef;

/// Words an expression of a source may use.
pub const NAMES: [&str; 4] = ["body", "headers", "message", "now"];

/// Names that messages of the node itself have; who took one could take their ids.
const RESERVED: [&str; 8] = ["schedule", "timer", "delivery", "operator", "api", "event", "events", "entity"];

/// A system that sends to us.
#[derive(Debug)]
pub struct Source {
    /// Its name: the last part of `/hooks/{source}`.
    pub name: Arc<str>,
    /// What people call it.
    pub title: String,
    /// Who answers for it.
    pub owner: Owner,
    /// How urgent what it sends is, and how much it matters.
    pub class: Class,
    /// How its requests are verified, identified and answered.
    pub preset: Preset,
    /// Whether a node without any of its secrets starts all the same, and does not serve it.
    pub optional: bool,
    /// The secrets it signs with, by reference.
    pub secrets: Vec<SecretDef>,
    /// The region that what it sends must not leave before it is understood; none if it may be kept anywhere.
    pub region: Option<Arc<str>>,
    /// How long a message id is remembered: never shorter than the sender's retry span.
    pub retention: Duration,
    /// How it is asked for what is new, if it is.
    pub poll: Option<Poll>,
    /// What a row of a file is, if it says.
    pub batch: Option<Batch>,
    /// Whether it may send to `/hooks/<source>`; one that is only asked may not.
    pub sends: bool,
    /// What its messages mean, by the type it gives them.
    pub messages: BTreeMap<String, Meaning>,
}

/// A secret by reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretDef {
    /// Its id, for logs.
    pub id: String,
    /// Where it is: `env:NAME` or `file:/path`.
    pub reference: Spanned<String>,
    /// Whether the source works without it: an older secret that may be gone.
    pub optional: bool,
    /// It counts no longer after this time (RFC 3339).
    pub not_after: Option<syncline_actors::time::Timestamp>,
}

impl Send {
    /// The entity that a message for `key` goes to.
    ///
    /// # Errors
    /// The key is none.
    pub fn subject(&self, source: &str, key: &str) -> Result<EntityId, IdError> {
        if self.by_alias {
            return letter::alias(source, &self.process.value, key);
        }
        EntityId::new(&self.process.value, key)
    }
}

/// What one type of message means here.
#[derive(Debug)]
pub struct Meaning {
    /// The version of its schema, as an expression; `1` when the source says nothing of versions.
    pub version: Option<Expr>,
    /// The schema of each version: files below `schemas/`.
    pub schemas: BTreeMap<String, Spanned<String>>,
    /// What holds between the versions, how old ones are lifted, and what becomes of drift.
    pub versions: Versions,
    /// The messages it becomes.
    pub send: Vec<Send>,
}

/// A canonical message that a source's message becomes.
#[derive(Debug)]
pub struct Send {
    /// Whether it asks (command) or tells (event).
    pub is_command: bool,
    /// Its type, as the process names it.
    pub name: Spanned<String>,
    /// The process it goes to.
    pub process: Spanned<String>,
    /// The business key of the entity, or what the source calls it.
    pub key: Expr,
    /// Whether it is what the source calls it: the cross-reference knows which entity that is.
    pub by_alias: bool,
    /// Whether it is sent; always when there is none.
    pub when: Option<Expr>,
    /// When it happened.
    pub time: Option<Expr>,
    /// The business flow; the entity when there is none.
    pub correlation: Option<Expr>,
    /// Its data.
    pub map: Mapping,
}

/// Reads a source; what is wrong goes to the reader.
pub fn parse(item: &Item<'_>, presets: &Presets) -> Option<Source> {
    let mut top = item.fields()?;
    let name = top.text("source")?;
    if syncline_actors::id::check_kind(&name.value.replace('-', "_")).is_err() {
        reading::refuse(
            item.reader(),
            &name,
            "a source's name is part of a URL",
            "use lower-case letters, digits, `-` and `_`",
        );
    }
    if RESERVED.contains(&&*name.value) {
        let message = format!("`{}` is what the node itself sends as", name.value);
        name.refuse(item.reader(), message, "give the source another name");
    }
    let title = top.optional_text("title").map_or_else(|| name.value.clone(), |title| title.value);
    let owner = top.map("owner").map(reading::owner).unwrap_or_default();
    let class = top.optional_map("class").map(Class::read).unwrap_or_default();
    let batch = top.optional_map("batch").and_then(Batch::read);
    let poll = top.optional_map("poll");
    let unsigned = top.optional("preset").is_none() && top.optional("verify").is_none();
    let asked_only = unsigned && (poll.is_some() || top.optional("batch").is_some());
    let poll = poll.and_then(Poll::read);
    let preset = if asked_only { Some(Preset::silent()) } else { preset(&mut top, presets) };
    let optional = top.boolean("optional", false);
    let secrets = top.optional_list("secrets").iter().filter_map(secret).collect::<Vec<_>>();
    let region = top.optional("region").and_then(|item| region(&item));
    let retention = top.optional_duration("retention");
    let names = Names::new(NAMES);
    let messages = top.entries("messages").unwrap_or_default();
    let messages =
        messages.into_iter().filter_map(|(name, item)| Some((name.value, meaning(&item, &names)?))).collect();
    top.finish();
    let preset = preset?;
    super::preset::refuse_mistakes(&preset, item);
    if secrets.is_empty() && preset.verify.needs_secret() && !asked_only {
        item.refuse(
            "the source has no secret, so nothing it sends can be verified",
            "add `secrets: [{id: current, ref: \"env:NAME\"}]`",
        );
    }
    let retention = check_retention(item, &preset, retention);
    Some(Source {
        name: name.value.into(),
        title,
        owner,
        class,
        preset,
        optional,
        secrets,
        region,
        retention,
        poll,
        batch,
        sends: !asked_only,
        messages,
    })
}

fn region(item: &Item<'_>) -> Option<Arc<str>> {
    let name = item.text()?;
    if !is_region(&name.value) {
        let message = format!("`{}` is not a name of a region", name.value);
        name.refuse(item.reader(), message, "write 1 to 31 small letters, digits or `-`, e.g. `region: eu`");
    }
    Some(name.value.into())
}

/// Forgetting an id while its sender may still repeat it would apply the message twice.
fn check_retention(item: &Item<'_>, preset: &Preset, given: Option<Spanned<Duration>>) -> Duration {
    let least = preset.retry_span;
    match given {
        Some(given) if given.value < least => {
            let hours = least.as_secs().div_ceil(3600);
            let message = format!(
                "the sender repeats a message for up to {hours}h, and its id would be forgotten before"
            );
            given.refuse(item.reader(), message, format!("write `retention: {hours}h` or more"));
            least
        }
        Some(given) => given.value,
        None => preset.retention.max(least),
    }
}

fn preset(top: &mut Fields<'_>, presets: &Presets) -> Option<Preset> {
    let named = top.optional_text("preset");
    let public_base = top.optional_text("public_base");
    let spelled_out = top.optional("verify");
    let mut preset = one_preset(top, presets, named, spelled_out)?;
    if let Some(base) = public_base {
        if !base.value.starts_with("https://") && !base.value.starts_with("http://") {
            base.refuse(
                top.item().reader(),
                "the address senders call has no scheme",
                "write e.g. `public_base: https://hooks.acme.example`",
            );
        }
        preset.verify.url.public_base = Some(base.value);
    }
    Some(preset)
}

fn one_preset(
    top: &mut Fields<'_>,
    presets: &Presets,
    named: Option<Spanned<String>>,
    spelled_out: Option<Item<'_>>,
) -> Option<Preset> {
    match (named, spelled_out) {
        (Some(name), None) => presets.get(&name.value).cloned().or_else(|| {
            let fix = match syncline_actors::document::suggest(&name.value, presets.names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of: {}", presets.names().collect::<Vec<_>>().join(", ")),
            };
            reading::refuse(top.item().reader(), &name, format!("there is no preset `{}`", name.value), fix);
            None
        }),
        (None, Some(_)) => super::preset::spelled_out(top),
        (Some(_), Some(verify)) => {
            verify.refuse("`verify` and `preset` exclude each other", "delete one of them");
            None
        }
        (None, None) => {
            top.item().refuse(
                "nothing says how the source is verified",
                "add `preset: standard-webhooks`, or `verify:`",
            );
            None
        }
    }
}

fn secret(item: &Item<'_>) -> Option<SecretDef> {
    let mut fields = item.fields()?;
    let id = fields.text("id");
    let reference = fields.text("ref");
    let optional = fields.boolean("optional", false);
    let not_after = fields.optional_text("not_after").and_then(|text| {
        let at = syncline_actors::time::Timestamp::parse(&text.value);
        if at.is_none() {
            reading::refuse(
                item.reader(),
                &text,
                format!("`{}` is no time", text.value),
                "write e.g. \"2026-12-01T00:00:00Z\"",
            );
        }
        at
    });
    fields.finish();
    if let Some(reference) = &reference
        && let Err(error) = reference.value.parse::<SecretRef>()
    {
        reference.refuse(
            item.reader(),
            error.to_string(),
            "write `env:NAME` or `file:/path`, never the secret itself",
        );
    }
    Some(SecretDef { id: id?.value, reference: reference?, optional, not_after })
}

fn meaning(item: &Item<'_>, names: &Names) -> Option<Meaning> {
    let mut fields = item.fields()?;
    let version = fields.optional("version").and_then(|item| reading::expr(&item, names));
    let schemas = fields.optional_entries("schemas");
    let schemas =
        schemas.into_iter().filter_map(|(version, item)| Some((version.value, item.text()?))).collect();
    let versions = Versions::parse(&mut fields, names);
    let send = fields.list("send").unwrap_or_default();
    let send = send.iter().filter_map(|item| one_send(item, names)).collect();
    fields.finish();
    Some(Meaning { version, schemas, versions, send })
}

fn one_send(item: &Item<'_>, names: &Names) -> Option<Send> {
    let mut fields = item.fields()?;
    let (event, command) = (fields.optional_text("event"), fields.optional_text("command"));
    let to = fields.map("to");
    let expr =
        |fields: &mut Fields<'_>, key| fields.optional(key).and_then(|item| reading::expr(&item, names));
    let when = expr(&mut fields, "when");
    let time = expr(&mut fields, "time");
    let correlation = expr(&mut fields, "correlation");
    let map = fields.required("map").and_then(|item| reading::mapping(&item, names));
    fields.finish();
    let (process, key, by_alias) = target(to?, names);
    let (is_command, name) = match (event, command) {
        (Some(event), None) => (false, event),
        (None, Some(command)) => (true, command),
        _ => {
            item.refuse(
                "a message is either an event or a command",
                "write `event: NAME` or `command: NAME`",
            );
            return None;
        }
    };
    let (process, key, map) = (process?, key?, map?);
    Some(Send { is_command, name, process, key, by_alias, when, time, correlation, map })
}

fn target(mut to: Fields<'_>, names: &Names) -> (Option<Spanned<String>>, Option<Expr>, bool) {
    let process = to.text("process");
    let alias = to.optional("alias");
    let key = if alias.is_some() { to.optional("key") } else { to.required("key") };
    if let (Some(key), Some(_)) = (&key, &alias) {
        key.refuse("`key` and `alias` exclude each other", "delete one of them");
    }
    to.finish();
    let by_alias = alias.is_some();
    (process, alias.or(key).and_then(|item| reading::expr(&item, names)), by_alias)
}

//! What the systems hold, held against what the entities say.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use syncline::sandbox::Sandbox;
use syncline_actors::id::EntityId;
use syncline_actors::value::Value;

use crate::Must;

/// An entity as it stands.
pub(crate) struct Seen {
    pub(crate) id: EntityId,
    pub(crate) state: String,
    pub(crate) reached: Vec<String>,
    pub(crate) fields: Value,
}

impl Seen {
    pub(crate) fn key(&self) -> &str {
        self.id.key()
    }

    /// A field at a path; null when there is none.
    pub(crate) fn field(&self, path: &str) -> Value {
        self.fields.path(path).cloned().unwrap_or_default()
    }

    pub(crate) fn text(&self, path: &str) -> String {
        self.field(path).to_plain_text()
    }
}

type Records = BTreeMap<&'static str, BTreeMap<String, Value>>;

/// What all systems hold, and what is wrong with it.
pub(crate) struct Books {
    held: BTreeMap<&'static str, Records>,
    pub(crate) wrong: Vec<String>,
    pub(crate) compared: u64,
}

impl Books {
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let held = Sandbox::systems().map(|system| (system, sandbox.held(system))).collect();
        Self { held, wrong: Vec::new(), compared: 0 }
    }

    /// The record of a system, if it has one.
    pub(crate) fn record(&self, system: &str, kind: &str, key: &str) -> Option<Value> {
        self.held.get(system)?.get(kind)?.get(key).cloned()
    }

    pub(crate) fn stands(&mut self, must: &Must, seen: &Seen) {
        self.holds(
            seen,
            "state",
            must.stands.contains(&&*seen.state),
            &format!("{} in {:?}", seen.state, must.stands),
        );
    }

    pub(crate) fn holds(&mut self, seen: &Seen, what: &str, holds: bool, detail: &str) {
        self.compared += 1;
        if !holds {
            self.wrong.push(format!("{} ({}) {what}: {detail}", seen.id, seen.state));
        }
    }

    /// The record of a system agrees with each of these: its path, and what the entity says. An empty path is the record itself.
    pub(crate) fn agrees(
        &mut self,
        seen: &Seen,
        system: &str,
        kind: &str,
        key: &str,
        fields: &[(&str, Value)],
    ) {
        let what = format!("{system} {kind} {key}");
        let Some(record) = self.record(system, kind, key) else {
            return self.holds(seen, &what, false, "is not there");
        };
        for (path, want) in fields {
            let found = if path.is_empty() { Some(&record) } else { record.path(path) };
            let found = found.cloned().unwrap_or_default();
            let detail = format!("entity {}, system {}", want.to_json(), found.to_json());
            self.holds(seen, &format!("{what} {path}"), same(want, &found), &detail);
        }
    }

    /// A system holds nothing under this key.
    pub(crate) fn absent(&mut self, seen: &Seen, system: &str, kind: &str, key: &str) {
        let found = self.record(system, kind, key);
        let detail = found.as_ref().map(Value::to_json).unwrap_or_default();
        self.holds(seen, &format!("{system} {kind} {key} is gone"), found.is_none(), &detail);
    }
}

/// Equal, numbers by what they are worth, also where a system writes them as text.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other.iter()).all(|(one, other)| same(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        (Value::Text(_) | Value::Null | Value::Bool(_), _) => one == other,
        _ => match (one.as_decimal(), number(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        },
    }
}

fn number(value: &Value) -> Option<Decimal> {
    value.as_text().map_or_else(|| value.as_decimal(), Value::parse_decimal)
}

//! What the systems hold, held against what the entities say, field by field.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use syncline_actors::id::EntityId;
use syncline_actors::value::Value;

use super::applied::Applied;
use crate::sandbox::{Sandbox, Snapshot};

/// An entity as it stands.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) id: EntityId,
    pub(super) state: String,
    pub(super) reached: Vec<String>,
    pub(super) fields: Value,
    /// How many messages wait for their turn in it.
    pub(super) waiting: u64,
    /// What must be hidden, and the API shows whole.
    pub(super) shown: Vec<String>,
}

impl Seen {
    pub(super) fn key(&self) -> &str {
        self.id.key()
    }

    /// A field at a path; null when there is none.
    pub(super) fn field(&self, path: &str) -> Value {
        self.fields.path(path).cloned().unwrap_or_default()
    }

    pub(super) fn text(&self, path: &str) -> String {
        self.field(path).to_plain_text()
    }
}

type Records = BTreeMap<&'static str, BTreeMap<String, Value>>;

/// What was compared of one kind, and what differs.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) fields: u64,
    pub(super) wrong: Vec<String>,
}

/// What all systems hold and have applied, and what of it is wrong.
#[derive(Debug)]
pub(super) struct Audit {
    held: BTreeMap<&'static str, Records>,
    applied: Applied,
    /// By the kind of the entity.
    pub(super) compared: BTreeMap<String, Compared>,
    /// What else is wrong, by the check that it breaks.
    pub(super) broken: BTreeMap<&'static str, Vec<String>>,
}

impl Audit {
    pub(super) fn new(sandbox: &Sandbox, ledger: &Snapshot) -> Self {
        Self {
            held: Sandbox::systems().map(|system| (system, sandbox.held(system))).collect(),
            applied: Applied::new(ledger),
            compared: BTreeMap::new(),
            broken: BTreeMap::new(),
        }
    }

    /// The record of a system, if it has one.
    pub(super) fn record(&self, system: &str, kind: &str, key: &str) -> Option<Value> {
        self.held.get(system)?.get(kind)?.get(key).cloned()
    }

    /// All records of a kind in a system.
    pub(super) fn records(&self, system: &str, kind: &str) -> impl Iterator<Item = &Value> {
        self.held.get(system).and_then(|held| held.get(kind)).into_iter().flat_map(BTreeMap::values)
    }

    /// How often an operation (`erp.create_invoice`) was applied about something.
    pub(super) fn times(&self, operation: &str, about: &str) -> u64 {
        self.applied.times(operation, about)
    }

    /// Something that breaks a check.
    pub(super) fn breaks(&mut self, check: &'static str, what: String) {
        self.broken.entry(check).or_default().push(what);
    }

    /// Something about an entity's fields that must hold.
    pub(super) fn holds(&mut self, seen: &Seen, what: &str, holds: bool, detail: &str) {
        let compared = self.compared.entry(seen.id.kind().to_owned()).or_default();
        compared.fields += 1;
        if !holds {
            compared.wrong.push(format!("{} ({}) {what}: {detail}", seen.id, seen.state));
        }
    }

    /// The record of a system agrees with each of these: its path, and what the entity says. An empty path is the record itself.
    pub(super) fn agrees(
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
            self.holds(seen, format!("{what} {path}").trim_end(), same(want, &found), &detail);
        }
    }

    /// A system holds nothing under this key.
    pub(super) fn absent(&mut self, seen: &Seen, system: &str, kind: &str, key: &str) {
        let found = self.record(system, kind, key);
        let detail = found.as_ref().map(Value::to_json).unwrap_or_default();
        self.holds(seen, &format!("{system} {kind} {key} is gone"), found.is_none(), &detail);
    }

    /// What must be hidden is shown nowhere.
    pub(super) fn hidden(&mut self, check: &'static str, seen: &Seen) {
        for whole in &seen.shown {
            self.breaks(check, format!("{} shows {whole}", seen.id));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_by_what_they_are_worth_and_texts_as_they_are_written() {
        let decimal = |text| Value::Decimal(Value::parse_decimal(text).unwrap());
        assert!(same(&decimal("1.50"), &Value::from("1.5")) && same(&Value::Int(2), &decimal("2.00")));
        assert!(!same(&Value::from("1.50"), &Value::from("1.5")));
        assert!(!same(&decimal("1.50"), &Value::Null));
        let line = |price| Value::list([Value::map([("price", price)])]);
        assert!(same(&line(decimal("3")), &line(Value::from("3.00"))));
        assert!(!same(&line(decimal("3")), &line(Value::from("3.01"))));
    }
}

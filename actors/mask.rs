//! What is kept and used but not shown: bank accounts, salaries. A process marks the field (`mask: true`); whoever shows a value shows
//! what stands under that name by its end only, wherever it stands: in a field, in what a message brought, in what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::process::Catalog;
use crate::value::{SmolStr, Value};

/// Characters of a masked text that are shown.
const SHOWN: usize = 4;

/// The names under which nothing is shown whole.
#[derive(Debug, Clone, Default)]
pub struct Mask(BTreeSet<String>);

impl Mask {
    /// These names.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        Self(names.into_iter().map(str::to_owned).collect())
    }

    /// What any of several processes does not show: what one hands to another keeps its name.
    pub fn of_all(catalog: &Catalog) -> Self {
        Self(catalog.iter().flat_map(|process| process.mask.0.iter().cloned()).collect())
    }

    /// Whether everything may be shown.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether what stands under this name, or at a dotted path that ends or passes there, is not shown.
    pub fn covers(&self, path: &str) -> bool {
        path.split('.').any(|name| self.0.contains(name))
    }

    /// The value as it may be shown: what stands under a masked name, however deep, by its end. O(size of the value).
    #[must_use]
    pub fn shown(&self, value: &Value) -> Value {
        if self.0.is_empty() {
            return value.clone();
        }
        match value {
            Value::Map(map) => {
                let part = |(name, inner): (&SmolStr, &Value)| {
                    (
                        name.clone(),
                        if self.0.contains(name.as_str()) { hidden(inner) } else { self.shown(inner) },
                    )
                };
                Value::Map(Arc::new(map.iter().map(part).collect()))
            }
            Value::List(list) => Value::list(list.iter().map(|inner| self.shown(inner))),
            other => other.clone(),
        }
    }

    /// What stands under `path`, as it may be shown.
    #[must_use]
    pub fn shown_at(&self, path: &str, value: &Value) -> Value {
        if self.covers(path) { hidden(value) } else { self.shown(value) }
    }
}

/// Everything in a value by its end.
fn hidden(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Map(map) => {
            let all: BTreeMap<_, _> = map.iter().map(|(name, inner)| (name.clone(), hidden(inner))).collect();
            Value::Map(Arc::new(all))
        }
        Value::List(list) => Value::list(list.iter().map(hidden)),
        other => Value::from(masked(&other.to_plain_text())),
    }
}

/// A text by its last four characters; by none when it has fewer than eight.
pub fn masked(text: &str) -> String {
    let length = text.chars().count();
    if length == 0 {
        return String::new();
    }
    let end: String = text.chars().skip(if length < 2 * SHOWN { length } else { length - SHOWN }).collect();
    if end.is_empty() { "••••".to_owned() } else { format!("•••• {end}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask() -> Mask {
        Mask(BTreeSet::from(["iban".to_owned()]))
    }

    fn shown(json: &str) -> String {
        mask().shown(&Value::from_json(json.as_bytes(), 1000).unwrap()).to_json()
    }

    #[test]
    fn what_stands_under_a_masked_name_is_shown_by_its_end() {
        assert_eq!(
            shown(r#"{"iban":"DE89370400440532013000","name":"A"}"#),
            r#"{"iban":"•••• 3000","name":"A"}"#
        );
        assert_eq!(shown(r#"[{"to":{"iban":"1234567"}}]"#), r#"[{"to":{"iban":"••••"}}]"#);
        assert_eq!(
            shown(r#"{"iban":{"old":"DE89370400440532013000","new":null}}"#),
            r#"{"iban":{"new":null,"old":"•••• 3000"}}"#
        );
        assert_eq!(shown(r#"{"iban":["12345678",123456789]}"#), r#"{"iban":["•••• 5678","•••• 6789"]}"#);
        assert_eq!(shown(r#"{"iban":""}"#), r#"{"iban":""}"#);
    }

    #[test]
    fn a_path_that_passes_a_masked_name_is_covered() {
        assert!(mask().covers("iban") && mask().covers("bank.iban") && mask().covers("iban.old"));
        assert!(!mask().covers("ibans") && !mask().covers("name"));
        assert_eq!(mask().shown_at("bank.iban", &Value::from("12345678")), Value::from("•••• 5678"));
    }
}

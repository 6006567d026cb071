//! What a message says of its versions: which must be understood as which, how an old one is lifted to the newest, and what
//! becomes of drift.

use std::collections::BTreeMap;

use syncline_actors::document::{Fields, Item, Place, Spanned};
use syncline_actors::expr::{Names, Scope};
use syncline_actors::mapping::Mapping;
use syncline_actors::reading;
use syncline_actors::schema::{Compatibility, MODES, in_order};
use syncline_actors::value::Value;

use super::drift::Policy;

/// What a message says of its versions.
#[derive(Debug, Default)]
pub struct Versions {
    /// What must hold between them; backward when it says nothing.
    pub compatibility: Compatibility,
    /// How a version becomes the next, by the version it is for.
    pub upcasts: BTreeMap<String, Upcast>,
    /// What becomes of drift.
    pub drift: Policy,
}

/// How a message of one version becomes one of the next.
#[derive(Debug)]
pub struct Upcast {
    /// Where it stands.
    pub place: Place,
    /// The path to it.
    pub path: String,
    how: How,
}

#[derive(Debug)]
enum How {
    /// The whole body anew.
    Map(Mapping),
    /// The old body with some members changed.
    Change { set: Vec<(String, Mapping)>, remove: Vec<String> },
}

impl Versions {
    /// `compatibility`, `upcast` and `drift` of a message.
    pub(super) fn parse(fields: &mut Fields<'_>, names: &Names) -> Self {
        let backward = MODES[0].1;
        let compatibility = fields.optional("compatibility").and_then(|item| compatibility(&item));
        let upcasts = fields.optional_entries("upcast").into_iter();
        let upcasts = upcasts.filter_map(|(version, item)| Some((version.value, upcast(&item, names)?)));
        Self {
            compatibility: compatibility.unwrap_or(backward),
            upcasts: upcasts.collect(),
            drift: fields.optional_map("drift").map(Policy::parse).unwrap_or_default(),
        }
    }
}

/// A word, or `{mode: …, undeclared: absent}`.
fn compatibility(item: &Item<'_>) -> Option<Compatibility> {
    if item.node().as_map().is_none() {
        return item.choice(&MODES).map(|found| found.value);
    }
    let mut fields = item.fields()?;
    let mode = fields.choice("mode", &MODES);
    let undeclared = fields.optional_choice("undeclared", &[("anything", false), ("absent", true)]);
    fields.finish();
    let declared_only = undeclared.is_some_and(|found| found.value);
    Some(Compatibility { declared_only, ..mode?.value })
}

fn upcast(item: &Item<'_>, names: &Names) -> Option<Upcast> {
    let mut fields = item.fields()?;
    let map = fields.optional("map").map(|item| reading::mapping(&item, names));
    let set = fields.optional_entries("set");
    let remove = fields.texts("remove");
    fields.finish();
    let how = match map {
        Some(_) if !set.is_empty() || !remove.is_empty() => {
            item.refuse(
                "`map` is the whole new body, so there is nothing to `set` or `remove`",
                "keep one of them",
            );
            return None;
        }
        Some(map) => How::Map(map?),
        None if set.is_empty() && remove.is_empty() => {
            item.refuse(
                "the up-caster does nothing",
                "write `set: {…}`, `remove: [a.b]`, or `map: {…}` for the whole body",
            );
            return None;
        }
        None => {
            let read = |(path, item): (Spanned<String>, Item<'_>)| {
                Some((path.value, reading::mapping(&item, names)?))
            };
            let set: Vec<Option<_>> = set.into_iter().map(read).collect();
            How::Change {
                set: set.into_iter().collect::<Option<_>>()?,
                remove: remove.into_iter().map(|path| path.value).collect(),
            }
        }
    };
    Some(Upcast { place: item.place().clone(), path: item.path().to_owned(), how })
}

impl Upcast {
    /// The body one version further. What is set is computed from the old body; then members are removed, then set.
    ///
    /// # Errors
    /// Which expression has no value, and why.
    pub(super) fn apply(&self, body: &Value, scope: &Scope<'_>) -> Result<Value, String> {
        match &self.how {
            How::Map(map) => map.eval(scope).map_err(|error| error.to_string()),
            How::Change { set, remove } => {
                let mut lifted = body.clone();
                let values = set.iter().map(|(path, map)| match map.eval(scope) {
                    Ok(value) => Ok((path, value)),
                    Err(error) => Err(format!("`{path}`: {error}")),
                });
                let values: Vec<(&String, Value)> = values.collect::<Result<_, _>>()?;
                for path in remove {
                    lifted = without(&lifted, path);
                }
                for (path, value) in values {
                    lifted.set_path(path, value);
                }
                Ok(lifted)
            }
        }
    }
}

/// `value` less the member at a dotted path.
fn without(value: &Value, path: &str) -> Value {
    let Some(map) = value.as_map() else { return value.clone() };
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    Value::map(map.iter().filter_map(|(key, inner)| {
        let inner = match rest {
            _ if key != head => inner.clone(),
            None => return None,
            Some(rest) => without(inner, rest),
        };
        Some((key.clone(), inner))
    }))
}

/// The version that follows `version` among `all`.
pub(super) fn next<'v>(version: &str, all: impl Iterator<Item = &'v String>) -> Option<&'v String> {
    all.filter(|other| in_order(other, version).is_gt()).min_by(|a, b| in_order(a, b))
}

//! Drift: where what a sender writes has come away from its schema. A new field, a missing one, a number become text, a value that
//! no `enum` has. It is counted, shown, and held or let pass as the message's policy says.
//!
//! A message that is as its schema says costs one walk over its keys, beside names that were sorted once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use syncline_actors::document::Fields;
use syncline_actors::schema::Schema;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use crate::telemetry;

/// Kinds of drift that are told apart in one message; more is no drift but another message.
const TOLD_MAX: usize = 32;

/// Longest place that is told, in characters: its names are the sender's.
const PATH_MAX: usize = 200;

/// Places that are remembered; drift elsewhere is counted in the metric only.
const BOOK_MAX: usize = 500;

/// How a message differs from its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A property that the schema does not know.
    NewField,
    /// A property that must be there is not.
    MissingField,
    /// Another type: a number become text.
    TypeChange,
    /// A value that `enum` or `const` does not have.
    NewValue,
    /// Anything else that the schema forbids.
    Other,
}

impl Kind {
    /// The word of policies, metrics and pages.
    pub fn word(self) -> &'static str {
        match self {
            Self::NewField => "new_field",
            Self::MissingField => "missing_field",
            Self::TypeChange => "type_change",
            Self::NewValue => "new_enum_value",
            Self::Other => "other",
        }
    }
}

/// What becomes of a message that has drifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is counted and goes on to the mapping.
    Accept,
    /// It is held in quarantine until a person has looked.
    Hold,
}

/// `drift:` of a message: what is held and what goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// None: where the content model is open it goes on, where it is closed it is held.
    new_field: Option<Verdict>,
    missing_field: Option<Verdict>,
    type_change: Option<Verdict>,
    new_value: Option<Verdict>,
}

impl Policy {
    pub(super) fn parse(mut fields: Fields<'_>) -> Self {
        let words = [("accept", Verdict::Accept), ("hold", Verdict::Hold)];
        let mut verdict = |kind: Kind| fields.optional_choice(kind.word(), &words).map(|found| found.value);
        let policy = Self {
            new_field: verdict(Kind::NewField),
            missing_field: verdict(Kind::MissingField),
            type_change: verdict(Kind::TypeChange),
            new_value: verdict(Kind::NewValue),
        };
        fields.finish();
        policy
    }

    /// Whether drift of this kind is held; `is_refused`: the schema forbids it.
    fn holds(self, kind: Kind, is_refused: bool) -> bool {
        let said = match kind {
            Kind::NewField => self.new_field,
            Kind::MissingField => self.missing_field,
            Kind::TypeChange => self.type_change,
            Kind::NewValue => self.new_value,
            Kind::Other => Some(Verdict::Hold),
        };
        said.map_or(is_refused, |verdict| verdict == Verdict::Hold)
    }
}

/// One difference between a message and its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// How it differs.
    pub kind: Kind,
    /// Where, as a JSON pointer; `*` stands for the items of a list.
    pub path: String,
    /// In words, without the value.
    pub said: String,
    /// Whether the message is held for it.
    pub is_held: bool,
}

impl Drift {
    /// As it is kept with a message in quarantine.
    pub fn value(&self) -> Value {
        Value::map([
            ("kind", Value::from(self.kind.word())),
            ("path", Value::from(self.path.as_str())),
            ("said", Value::from(self.said.as_str())),
        ])
    }
}

/// The properties that a schema knows, for those who look for others.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shape {
    /// Sorted by name; none where any name is as good.
    known: Option<Vec<(String, Shape)>>,
    items: Option<Box<Shape>>,
}

/// Where a walk is. A pointer is made of it only where something is found.
struct Trail<'t> {
    above: Option<&'t Trail<'t>>,
    part: &'t str,
}

impl Trail<'_> {
    fn pointer(&self) -> String {
        format!("{}/{}", self.above.map(Self::pointer).unwrap_or_default(), self.part)
    }
}

impl Shape {
    /// Of a schema whose every part is understood.
    pub(super) fn of(schema: &Schema) -> Self {
        let Some(rules) = schema.rules() else { return Self::default() };
        let known = rules.properties.iter().map(|(name, inner)| (name.clone(), Self::of(inner))).collect();
        let items = Some(Self::of(&rules.items)).filter(|items| *items != Self::default());
        let is_free = rules.properties.is_empty() || rules.rest.rules().is_some();
        Self { known: (!is_free).then_some(known), items: items.map(Box::new) }
    }

    /// The properties of `value` that are not known, as pointers.
    fn strangers(&self, value: &Value, at: Option<&Trail<'_>>, found: &mut Vec<String>) {
        if found.len() >= TOLD_MAX {
            return;
        }
        match value {
            Value::Map(map) => {
                let Some(known) = &self.known else { return };
                let mut known = known.iter().peekable();
                for (name, inner) in map.iter() {
                    while known.next_if(|(own, _)| own < name).is_some() {}
                    if let Some((_, shape)) = known.next_if(|(own, _)| own == name) {
                        shape.strangers(inner, Some(&Trail { above: at, part: name }), found);
                    } else {
                        let part = name.replace('~', "~0").replace('/', "~1");
                        found.push(Trail { above: at, part: &part }.pointer());
                    }
                }
            }
            Value::List(items) => {
                let Some(shape) = &self.items else { return };
                for item in items.iter() {
                    shape.strangers(item, Some(&Trail { above: at, part: "*" }), found);
                }
            }
            _ => {}
        }
    }

    /// New fields of a message.
    pub(super) fn new_fields(&self, body: &Value, policy: Policy) -> Vec<Drift> {
        let mut found = Vec::new();
        self.strangers(body, None, &mut found);
        for path in &mut found {
            *path = clipped(path);
        }
        found.sort_unstable();
        found.dedup();
        let drift = |path: String| Drift {
            kind: Kind::NewField,
            said: format!("{path} is not in the schema"),
            path,
            is_held: policy.holds(Kind::NewField, false),
        };
        found.into_iter().map(drift).collect()
    }
}

/// What the errors of a schema come to. `is_whole`: there are no more of them.
pub(super) fn of_errors<'e>(
    errors: impl Iterator<Item = jsonschema::ValidationError<'e>>,
    mut new_fields: Vec<Drift>,
    policy: Policy,
) -> Vec<Drift> {
    let mut found: Vec<Drift> = Vec::new();
    for error in errors {
        let at = general(&error.instance_path().to_string());
        let (kind, paths) = match error.kind() {
            ValidationErrorKind::Required { property } => {
                (Kind::MissingField, vec![format!("{at}/{}", property.as_str().unwrap_or_default())])
            }
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                (Kind::NewField, unexpected.iter().map(|name| format!("{at}/{name}")).collect())
            }
            ValidationErrorKind::Type { .. } => (Kind::TypeChange, vec![at.clone()]),
            ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
                (Kind::NewValue, vec![at.clone()])
            }
            _ => (Kind::Other, vec![at.clone()]),
        };
        let is_held = policy.holds(kind, true);
        for path in paths.iter().map(|path| clipped(path)) {
            new_fields.retain(|new| new.path != path);
            if found.len() < TOLD_MAX && !found.iter().any(|one| (one.kind, &one.path) == (kind, &path)) {
                found.push(Drift { kind, said: said(kind, &path, &error), path, is_held });
            } else if is_held {
                found.iter_mut().filter(|one| one.kind == kind).for_each(|one| one.is_held = true);
            }
        }
    }
    found.extend(new_fields);
    name_renamed(&mut found);
    found
}

fn said(kind: Kind, path: &str, error: &jsonschema::ValidationError<'_>) -> String {
    let place = if path.is_empty() { "the body" } else { path };
    match (kind, error.kind()) {
        (Kind::MissingField, _) => format!("{place} is missing"),
        (Kind::NewField, _) => format!("{place} is not in the schema"),
        (Kind::NewValue, _) => format!("{place} has a value that the schema does not"),
        (Kind::TypeChange, ValidationErrorKind::Type { kind }) => {
            let wanted = match kind {
                TypeKind::Single(one) => one.to_string(),
                TypeKind::Multiple(all) => {
                    all.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" or ")
                }
            };
            format!("{place} is {} and should be {wanted}", type_name(error.instance()))
        }
        _ => format!("{place}: {}", error.masked()),
    }
}

fn type_name(value: &serde_json::Value) -> &'static str {
    syncline_actors::schema::Type::of(value).word()
}

/// Where one field is missing and one is new at the same place, it may have been renamed.
fn name_renamed(found: &mut [Drift]) {
    let parent = |drift: &Drift| drift.path.rsplit_once('/').map(|(parent, _)| parent.to_owned());
    let of = |kind: Kind, at: &Option<String>, found: &[Drift]| {
        let mut those = found.iter().filter(|drift| drift.kind == kind && parent(drift) == *at);
        those.next().filter(|_| those.next().is_none()).map(|drift| drift.path.clone())
    };
    for index in 0..found.len() {
        let at = parent(&found[index]);
        if found[index].kind == Kind::MissingField
            && of(Kind::MissingField, &at, found).is_some()
            && let Some(new) = of(Kind::NewField, &at, found)
        {
            found[index].said = format!("{}; was it renamed to {new}?", found[index].said);
        }
    }
}

fn clipped(path: &str) -> String {
    path.chars().take(PATH_MAX).collect()
}

/// A pointer with `*` for the index of every list.
fn general(pointer: &str) -> String {
    let is_index = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    pointer.split('/').map(|part| if is_index(part) { "*" } else { part }).collect::<Vec<_>>().join("/")
}

/// What was seen of one kind of drift at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The last one, in words.
    pub said: String,
    /// Messages that had it.
    pub count: u64,
    /// Messages among them that were held for it.
    pub held: u64,
    /// The first of them.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
}

/// Source, type, kind and place of a drift.
pub type Key = (String, String, Kind, String);

/// The drift that this node has seen since it started.
#[derive(Debug, Default)]
pub struct Book {
    seen: Mutex<BTreeMap<Key, Seen>>,
}

impl Book {
    /// Counts the drift of one message.
    pub(super) fn note(&self, source: &str, event_type: &str, drifts: &[Drift], at: Timestamp) {
        if drifts.is_empty() {
            return;
        }
        let mut seen = self.seen.lock().expect("no code panics while it holds the book");
        for drift in drifts {
            telemetry::drifted(source, event_type, drift.kind.word(), drift.is_held);
            let full = seen.len() >= BOOK_MAX;
            let key = (source.to_owned(), event_type.to_owned(), drift.kind, drift.path.clone());
            let entry = match seen.entry(key) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(_) if full => continue,
                Entry::Vacant(entry) => {
                    entry.insert(Seen { said: String::new(), count: 0, held: 0, first: at, last: at })
                }
            };
            entry.said.clone_from(&drift.said);
            entry.count += 1;
            entry.held += u64::from(drift.is_held);
            entry.last = at;
        }
    }

    /// All of it, in order.
    pub fn read(&self) -> Vec<(Key, Seen)> {
        let seen = self.seen.lock().expect("no code panics while it holds the book");
        seen.iter().map(|(key, seen)| (key.clone(), seen.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shapes(depth: usize) -> BoxedStrategy<Shape> {
        if depth == 0 {
            return Just(Shape::default()).boxed();
        }
        let known = prop::collection::btree_map("[a-h]", shapes(depth - 1), 0..8);
        let known = prop::option::of(known.prop_map(|known| known.into_iter().collect()));
        let items = prop::option::of(shapes(depth - 1).prop_map(Box::new));
        (known, items).prop_map(|(known, items)| Shape { known, items }).boxed()
    }

    fn values(depth: usize) -> BoxedStrategy<Value> {
        if depth == 0 {
            return Just(Value::Null).boxed();
        }
        prop_oneof![
            prop::collection::btree_map("[a-i]", values(depth - 1), 0..4).prop_map(Value::map),
            prop::collection::vec(values(depth - 1), 0..3).prop_map(Value::from),
        ]
        .boxed()
    }

    /// The same, by a search for each name.
    fn searched(shape: &Shape, value: &Value, at: &str, found: &mut Vec<String>) {
        for (name, inner) in value.as_map().into_iter().flatten() {
            let Some(known) = &shape.known else { continue };
            match known.iter().find(|(own, _)| own == name) {
                Some((_, shape)) => searched(shape, inner, &format!("{at}/{name}"), found),
                None => found.push(format!("{at}/{name}")),
            }
        }
        for (item, shape) in value.as_list().into_iter().flatten().zip(std::iter::repeat(&shape.items)) {
            let Some(shape) = shape else { continue };
            searched(shape, item, &format!("{at}/*"), found);
        }
    }

    proptest! {
        #[test]
        fn a_walk_beside_the_sorted_names_finds_every_stranger(shape in shapes(3), value in values(3)) {
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            shape.strangers(&value, None, &mut found);
            searched(&shape, &value, "", &mut expected);
            expected.truncate(found.len().max(TOLD_MAX));
            prop_assert_eq!(found, expected);
        }
    }
}

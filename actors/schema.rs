//! Schemas of what comes in, as far as two of them can be compared, and what a change from one to the next breaks.
//!
//! Of [JSON Schema 2020-12](https://json-schema.org/draft/2020-12) a part is understood: `type`, `const`, `enum`, the bounds of
//! numbers, texts, lists, `pattern`, `properties`, `required`, `additionalProperties`, `items`, and `$ref` into `$defs`. [`parse`]
//! reads it and names what lies outside; [`compare`] tells what a reader of one schema would refuse of what a writer of another
//! may send. It is sound: where nothing is found, every document that is valid for the writer is valid for the reader. It is not
//! complete: two patterns that say the same in other words count as different.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde_json::Value as Json;

mod compare;
mod parse;

pub use compare::{Break, Sides, compare};
pub use parse::{Outside, parse};

/// A schema, compiled for comparison.
#[derive(Debug, Clone, PartialEq)]
pub enum Schema {
    /// Everything is valid.
    Any,
    /// Nothing is.
    Never,
    /// What all of these allow.
    Of(Box<Rules>),
}

/// What a schema says of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Where it stands in its file, as a JSON pointer.
    pub at: String,
    /// The types allowed; all where it says nothing.
    pub types: BTreeSet<Type>,
    /// The only values allowed (`const`, `enum`).
    pub values: Option<Vec<Json>>,
    /// Known properties.
    pub properties: BTreeMap<String, Schema>,
    /// Properties that must be there.
    pub required: BTreeSet<String>,
    /// What properties that are not known may be: [`Schema::Any`] is an open content model, [`Schema::Never`] a closed one.
    pub rest: Schema,
    /// What the items of a list may be.
    pub items: Schema,
    /// How many items a list may have.
    pub count: Range<u64>,
    /// How many characters a text may have.
    pub length: Range<u64>,
    /// How large a number may be.
    pub size: Range<Decimal>,
    /// The bounds of `size` that are not allowed themselves (`exclusiveMinimum`, `exclusiveMaximum`).
    pub strict: Range<Decimal>,
    /// What a number must be a multiple of.
    pub multiple_of: Option<Decimal>,
    /// What a text must match.
    pub pattern: Option<String>,
    /// Whether the items of a list must differ.
    pub unique: bool,
}

/// From a least to a greatest value; unbounded where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range<T> {
    /// The least.
    pub min: Option<T>,
    /// The greatest.
    pub max: Option<T>,
}

impl<T> Default for Range<T> {
    fn default() -> Self {
        Self { min: None, max: None }
    }
}

/// The types of JSON, with whole numbers apart: `number` is both [`Type::Integer`] and [`Type::Fraction`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// `null`.
    Null,
    /// `true` and `false`.
    Bool,
    /// Whole numbers.
    Integer,
    /// Numbers that are not whole.
    Fraction,
    /// Text.
    Text,
    /// A list.
    List,
    /// A map.
    Map,
}

impl Type {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Null, Self::Bool, Self::Integer, Self::Fraction, Self::Text, Self::List, Self::Map];

    /// The word of JSON Schema.
    pub fn word(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "boolean",
            Self::Integer => "integer",
            Self::Fraction => "number",
            Self::Text => "string",
            Self::List => "array",
            Self::Map => "object",
        }
    }

    /// The type of a value.
    pub fn of(value: &Json) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(_) => Self::Bool,
            Json::Number(number) if decimal(number).is_some_and(|number| number.fract().is_zero()) => {
                Self::Integer
            }
            Json::Number(_) => Self::Fraction,
            Json::String(_) => Self::Text,
            Json::Array(_) => Self::List,
            Json::Object(_) => Self::Map,
        }
    }
}

impl Rules {
    /// No rule at all, at this place.
    pub fn none(at: &str) -> Self {
        Self {
            at: at.to_owned(),
            types: Type::ALL.into(),
            values: None,
            properties: BTreeMap::new(),
            required: BTreeSet::new(),
            rest: Schema::Any,
            items: Schema::Any,
            count: Range::default(),
            length: Range::default(),
            size: Range::default(),
            strict: Range::default(),
            multiple_of: None,
            pattern: None,
            unique: false,
        }
    }
}

impl Schema {
    /// The rules, where there are some.
    pub fn rules(&self) -> Option<&Rules> {
        if let Self::Of(rules) = self { Some(rules) } else { None }
    }

    /// The same schema for senders that send no property which they have not declared: every content model is closed.
    #[must_use]
    pub fn declared_only(&self) -> Self {
        let Self::Of(rules) = self else { return self.clone() };
        let mut rules = rules.clone();
        if rules.rest == Self::Any {
            rules.rest = Self::Never;
        }
        rules.rest = rules.rest.declared_only();
        rules.items = rules.items.declared_only();
        rules.properties.values_mut().for_each(|property| *property = property.declared_only());
        Self::Of(rules)
    }
}

/// Which versions of a message must be understood as which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct Compatibility {
    /// Whether what is valid under an older version must be valid under a newer one: senders may lag behind.
    pub backward: bool,
    /// Whether what is valid under a newer version must be valid under an older one: readers may lag behind.
    pub forward: bool,
    /// Whether it must hold between all versions, not only those that follow each other.
    pub transitive: bool,
    /// Whether senders are taken to send nothing that their schema does not declare.
    pub declared_only: bool,
}

/// The modes by name, as configurations write them.
pub const MODES: [(&str, Compatibility); 7] = {
    const fn mode(backward: bool, forward: bool, transitive: bool) -> Compatibility {
        Compatibility { backward, forward, transitive, declared_only: false }
    }
    [
        ("backward", mode(true, false, false)),
        ("forward", mode(false, true, false)),
        ("full", mode(true, true, false)),
        ("backward_transitive", mode(true, false, true)),
        ("forward_transitive", mode(false, true, true)),
        ("full_transitive", mode(true, true, true)),
        ("none", mode(false, false, false)),
    ]
};

/// What a change from one version to another breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The older version.
    pub older: String,
    /// The newer one.
    pub newer: String,
    /// Whether it is what is sent as the older version that the newer one refuses; else the other way round.
    pub is_backward: bool,
    /// What is refused.
    pub found: Break,
}

impl Finding {
    /// Who is hurt, in words.
    pub fn whom(&self) -> String {
        let Self { older, newer, .. } = self;
        if self.is_backward {
            format!("a sender that still sends version {older} is refused by version {newer}")
        } else {
            format!("a reader that still expects version {older} refuses what is sent as version {newer}")
        }
    }
}

/// Everything that `mode` forbids between `versions`, which are in order. `exempt` are properties, as pointers into the message,
/// that differ by intent: the version's own number. A version of `lifted` is mapped to a newer one before it is read, so it need not
/// be valid there.
pub fn findings(
    versions: &[(String, Schema)],
    mode: Compatibility,
    exempt: &[String],
    lifted: &BTreeSet<String>,
) -> Vec<Finding> {
    let view = |schema: &Schema| if mode.declared_only { schema.declared_only() } else { schema.clone() };
    let mut all = Vec::new();
    for (index, (newer, new)) in versions.iter().enumerate() {
        let from = if mode.transitive { 0 } else { index.saturating_sub(1) };
        for (older, old) in &versions[from..index] {
            let mut ask =
                |is_backward: bool, writer: &Schema, reader: &Schema, sides: Sides<'_>| {
                    all.extend(compare(&view(writer), reader, sides, exempt).into_iter().map(|found| {
                        Finding { older: older.clone(), newer: newer.clone(), is_backward, found }
                    }));
                };
            if mode.backward && !lifted.contains(older) {
                ask(true, old, new, Sides { writer: older, reader: newer, reader_is_newer: true });
            }
            if mode.forward {
                ask(false, new, old, Sides { writer: newer, reader: older, reader_is_newer: false });
            }
        }
    }
    all
}

/// Orders names of versions as people do: by their numbers where they have some.
pub fn in_order(a: &str, b: &str) -> std::cmp::Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        text.split(['.', '-']).map(|part| (part.parse().unwrap_or(u64::MAX), part.to_owned())).collect()
    };
    parts(a).cmp(&parts(b))
}

fn decimal(number: &serde_json::Number) -> Option<Decimal> {
    crate::value::Value::parse_decimal(&number.to_string())
}

#[cfg(test)]
mod tests;

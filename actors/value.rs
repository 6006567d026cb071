//! Business data: what JSON can say, with exact numbers.
//!
//! Money is exact: a JSON number becomes an integer or a decimal of at most 28 digits with its scale (`1.10` stays `1.10`), and
//! one that does not fit is an error, never a rounded value. Lists and maps are shared, so that a clone costs a counter. Text of up to
//! 23 bytes, as most names and ids are, stands in its place and is not allocated; longer text is shared too.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

mod json;

pub use json::JsonError;
pub use smol_str::SmolStr;

/// How deep JSON may nest.
pub const DEPTH_MAX: usize = 64;

/// Business data. Not self-describing when it is encoded: read it back as a [`Value`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// An exact decimal.
    Decimal(#[serde(with = "exact")] Decimal),
    /// Text.
    Text(SmolStr),
    /// A list.
    List(Arc<Vec<Value>>),
    /// A map, by key.
    Map(Arc<Entries>),
}

/// What a map holds, by key.
pub type Entries = BTreeMap<SmolStr, Value>;

/// A decimal as its 16 bytes: the scale survives, and no self-describing format is needed.
mod exact {
    use rust_decimal::Decimal;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(decimal: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
        decimal.serialize().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
        <[u8; 16]>::deserialize(deserializer).map(Decimal::deserialize)
    }
}

impl Value {
    /// Reads JSON of at most `bytes_max` bytes. O(bytes), one pass.
    ///
    /// # Errors
    /// [`JsonError`], with the byte at which it is wrong: nothing is guessed, rounded or dropped.
    pub fn from_json(bytes: &[u8], bytes_max: usize) -> Result<Self, JsonError> {
        json::parse(bytes, bytes_max)
    }

    /// As JSON, in one line, keys in order.
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(64);
        self.write_json(&mut out);
        String::from_utf8(out).expect("JSON is written as UTF-8")
    }

    /// Appends itself as JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        json::write(self, out);
    }

    /// As a `serde_json` value, for JSON Schema. A decimal becomes the nearest double: good for a check, not for money.
    pub fn to_serde_json(&self) -> serde_json::Value {
        json::to_serde(self)
    }

    /// A map of the given entries.
    pub fn map<K: Into<SmolStr>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
    }

    /// A list of the given items.
    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(Arc::new(items.into_iter().collect()))
    }

    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.get(key)
    }

    /// The value at a dotted path: keys of maps, indices of lists.
    pub fn path(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |value, part| match value {
            Self::Map(map) => map.get(part),
            Self::List(list) => list.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Sets the value at a dotted path; maps come to be where there are none, and what stood in the way is replaced.
    pub fn set_path(&mut self, path: &str, value: Self) {
        let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Arc::default());
        }
        let Self::Map(map) = self else { unreachable!("it was made a map") };
        let map = Arc::make_mut(map);
        match rest {
            None => drop(map.insert(head.into(), value)),
            Some(rest) => map.entry(head.into()).or_default().set_path(rest, value),
        }
    }

    /// The text, if this is text.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The integer, if this is one, or a decimal without fraction that fits.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            Self::Decimal(decimal) if decimal.fract().is_zero() => i64::try_from(*decimal).ok(),
            _ => None,
        }
    }

    /// The number, if this is one.
    pub fn as_decimal(&self) -> Option<Decimal> {
        match self {
            Self::Int(int) => Some(Decimal::from(*int)),
            Self::Decimal(decimal) => Some(*decimal),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The items, if this is a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    /// The entries, if this is a map.
    pub fn as_map(&self) -> Option<&Entries> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// Whether this is nothing.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// What it is, for people.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Decimal(_) => "decimal",
            Self::Text(_) => "text",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }

    /// Text as it is, anything else as JSON: for ids, keys and sentences.
    pub fn to_plain_text(&self) -> String {
        match self {
            Self::Text(text) => text.to_string(),
            other => other.to_json(),
        }
    }

    /// A short form for messages, at most `chars` characters.
    pub fn preview(&self, chars: usize) -> String {
        let json = self.to_json();
        if json.chars().count() <= chars {
            return json;
        }
        json.chars().take(chars.saturating_sub(1)).chain(['…']).collect()
    }

    /// Bytes it holds in memory, about: what bounds are measured in.
    pub fn weight(&self) -> usize {
        let own = size_of::<Self>();
        match self {
            Self::Text(text) => own + outside(text),
            Self::List(list) => own + 40 + list.iter().map(Self::weight).sum::<usize>(),
            Self::Map(map) => {
                own + 40 + map.iter().map(|(key, value)| 40 + outside(key) + value.weight()).sum::<usize>()
            }
            _ => own,
        }
    }

    /// A decimal from text such as `12.50` or `1e3`; none when it is not exactly that number.
    pub fn parse_decimal(text: &str) -> Option<Decimal> {
        json::decimal(text)
    }
}

/// Bytes that a text takes beyond its place.
fn outside(text: &SmolStr) -> usize {
    if text.is_heap_allocated() { 16 + text.len() } else { 0 }
}

/// Numbers are equal when they are the same number: `1`, `1.0` and `1.00`.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::List(a), Self::List(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Map(a), Self::Map(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Int(_) | Self::Decimal(_), Self::Int(_) | Self::Decimal(_)) => {
                self.as_decimal() == other.as_decimal()
            }
            _ => false,
        }
    }
}

impl Eq for Value {}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::Text(text.into())
    }
}

impl From<SmolStr> for Value {
    fn from(text: SmolStr) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<Decimal> for Value {
    fn from(decimal: Decimal) -> Self {
        Self::Decimal(decimal)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::List(Arc::new(items))
    }
}

/// `serde_json` data, exact where it is: its doubles become the decimal they are written as.
impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => {
                let text = number.to_string();
                let int = text.parse().ok().map(Self::Int);
                int.or_else(|| Decimal::from_str(&text).ok().map(Self::Decimal))
                    .unwrap_or_else(|| Self::from(text))
            }
            serde_json::Value::String(text) => Self::from(text.as_str()),
            serde_json::Value::Array(items) => Self::list(items.iter().map(Self::from)),
            serde_json::Value::Object(entries) => {
                Self::map(entries.iter().map(|(k, v)| (k.as_str(), Self::from(v))))
            }
        }
    }
}

#[cfg(test)]
mod tests;

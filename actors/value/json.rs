//! JSON in and out: one pass, exact, bounded.

use std::collections::btree_map::Entry;
use std::str::FromStr as _;
use std::sync::Arc;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};
use rust_decimal::Decimal;

use super::{DEPTH_MAX, Entries, SmolStr, Value};

/// Why bytes are not JSON that can be kept exactly. `at` is a byte offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// More bytes than allowed.
    #[error("the JSON has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not JSON.
    #[error("not JSON at byte {at}: {what}")]
    Malformed {
        /// Where.
        at: usize,
        /// What is wrong.
        what: String,
    },
    /// A key stands twice in one object: which of them counts is anyone's guess.
    #[error("key `{key}` stands twice in one object, at byte {at}")]
    DuplicateKey {
        /// Where the second one is.
        at: usize,
        /// The key.
        key: String,
    },
    /// Too deep.
    #[error("nested deeper than {DEPTH_MAX} levels at byte {at}")]
    TooDeep {
        /// Where.
        at: usize,
    },
    /// A number that 28 digits cannot hold exactly.
    #[error("number {number} at byte {at} has more digits than can be kept exactly (28); send it as text")]
    Inexact {
        /// Where it ends.
        at: usize,
        /// The number as written, cut.
        number: String,
    },
}

impl From<JiterError> for JsonError {
    fn from(error: JiterError) -> Self {
        match error.error_type {
            JiterErrorType::JsonError(JsonErrorType::RecursionLimitExceeded) => {
                Self::TooDeep { at: error.index }
            }
            other => Self::Malformed { at: error.index, what: other.to_string() },
        }
    }
}

pub(super) fn parse(bytes: &[u8], bytes_max: usize) -> Result<Value, JsonError> {
    if bytes.len() > bytes_max {
        return Err(JsonError::TooLong { bytes: bytes.len(), max: bytes_max });
    }
    let mut jiter = Jiter::new(bytes);
    let peek = jiter.peek()?;
    let value = known(&mut jiter, peek, 0)?;
    jiter.finish()?;
    Ok(value)
}

fn known(jiter: &mut Jiter<'_>, peek: Peek, depth: usize) -> Result<Value, JsonError> {
    if depth > DEPTH_MAX {
        return Err(JsonError::TooDeep { at: jiter.current_index() });
    }
    Ok(match peek {
        Peek::Null => {
            jiter.known_null()?;
            Value::Null
        }
        Peek::True | Peek::False => Value::Bool(jiter.known_bool(peek)?),
        Peek::String => Value::Text(jiter.known_str()?.into()),
        Peek::Array => Value::List(Arc::new(items(jiter, depth)?)),
        Peek::Object => Value::Map(Arc::new(entries(jiter, depth)?)),
        _ => {
            let at = jiter.current_index();
            number(jiter.known_number_bytes(peek)?, at)?
        }
    })
}

fn items(jiter: &mut Jiter<'_>, depth: usize) -> Result<Vec<Value>, JsonError> {
    let mut items = Vec::new();
    let mut next = jiter.known_array()?;
    while let Some(peek) = next {
        items.push(known(jiter, peek, depth + 1)?);
        next = jiter.array_step()?;
    }
    Ok(items)
}

fn entries(jiter: &mut Jiter<'_>, depth: usize) -> Result<Entries, JsonError> {
    let mut entries = Entries::new();
    let mut next = jiter.known_object()?.map(SmolStr::new);
    while let Some(key) = next {
        let at = jiter.current_index();
        let peek = jiter.peek()?;
        let value = known(jiter, peek, depth + 1)?;
        match entries.entry(key) {
            Entry::Vacant(place) => {
                place.insert(value);
            }
            Entry::Occupied(place) => {
                return Err(JsonError::DuplicateKey { at, key: place.key().to_string() });
            }
        }
        next = jiter.next_key()?.map(SmolStr::new);
    }
    Ok(entries)
}

fn number(bytes: &[u8], at: usize) -> Result<Value, JsonError> {
    let text = std::str::from_utf8(bytes).expect("a JSON number is ASCII");
    if let Ok(int) = text.parse::<i64>()
        && text != "-0"
    {
        return Ok(Value::Int(int));
    }
    match decimal(text) {
        Some(decimal) => Ok(Value::Decimal(decimal)),
        None => Err(JsonError::Inexact { at, number: text.chars().take(48).collect() }),
    }
}

/// Exactly that number, or none: `from_str_exact` refuses what it would have to round, and an exponent is applied by hand.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else {
        return Decimal::from_str_exact(text).ok();
    };
    let mantissa = Decimal::from_str_exact(mantissa).ok()?;
    let exponent = i32::from_str(exponent).ok()?;
    if mantissa.is_zero() {
        return Some(Decimal::ZERO);
    }
    if !(-28..=28).contains(&exponent) {
        return None;
    }
    let power = Decimal::from_i128_with_scale(10_i128.pow(exponent.unsigned_abs()), 0);
    if exponent >= 0 {
        return mantissa.checked_mul(power).map(|decimal| decimal.normalize());
    }
    let mut shifted = mantissa;
    shifted.set_scale(mantissa.scale() + exponent.unsigned_abs()).ok()?;
    Some(shifted)
}

pub(super) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(int) => out.extend_from_slice(int.to_string().as_bytes()),
        Value::Decimal(decimal) => out.extend_from_slice(decimal.to_string().as_bytes()),
        Value::Text(text) => write_text(text, out),
        Value::List(items) => write_all(b'[', b']', items.iter(), out, write),
        Value::Map(entries) => write_all(b'{', b'}', entries.iter(), out, |(key, value), out| {
            write_text(key, out);
            out.push(b':');
            write(value, out);
        }),
    }
}

fn write_all<T>(
    open: u8,
    close: u8,
    items: impl Iterator<Item = T>,
    out: &mut Vec<u8>,
    mut item: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(open);
    for (index, each) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(each, out);
    }
    out.push(close);
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text is written to memory");
}

pub(super) fn to_serde(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(int) => (*int).into(),
        Value::Decimal(decimal) => {
            serde_json::from_str(&decimal.to_string()).unwrap_or(serde_json::Value::Null)
        }
        Value::Text(text) => serde_json::Value::String(text.to_string()),
        Value::List(items) => items.iter().map(to_serde).collect(),
        Value::Map(entries) => {
            entries.iter().map(|(key, value)| (key.to_string(), to_serde(value))).collect()
        }
    }
}

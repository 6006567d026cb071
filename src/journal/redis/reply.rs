//! What Redis answers, taken apart. Anything unexpected names itself: it is a store that is not what it should be.

use bytes::Bytes;
use redis::Value;
use syncline_actors::id::{EntityId, Epoch, ShardId};

use crate::journal::Error;

/// An answer that is not what the library gives.
pub(super) fn odd(what: &str, value: &Value) -> Error {
    let mut text = format!("{value:?}");
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
    }
    Error::Corrupt(format!(
        "redis answered {what} with {text}: another program writes there, or a newer Syncline"
    ))
}

pub(super) fn list(what: &str, value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        other => Err(odd(what, &other)),
    }
}

pub(super) fn bytes(what: &str, value: Value) -> Result<Vec<u8>, Error> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        other => Err(odd(what, &other)),
    }
}

pub(super) fn frame(what: &str, value: Value) -> Result<Bytes, Error> {
    bytes(what, value).map(Bytes::from)
}

pub(super) fn text(what: &str, value: Value) -> Result<String, Error> {
    String::from_utf8(bytes(what, value)?).map_err(|error| odd(what, &Value::BulkString(error.into_bytes())))
}

pub(super) fn number<T: std::str::FromStr>(what: &str, value: Value) -> Result<T, Error> {
    let text = text(what, value)?;
    text.parse().map_err(|_not_a_number| odd(what, &Value::SimpleString(text)))
}

pub(super) fn entity(what: &str, bytes: &[u8]) -> Result<EntityId, Error> {
    let id = std::str::from_utf8(bytes).ok().and_then(|text| EntityId::parse(text).ok());
    id.ok_or_else(|| odd(what, &Value::BulkString(bytes.to_vec())))
}

/// Pairs of neighbours.
pub(super) fn pairs(values: Vec<Value>) -> impl Iterator<Item = (Value, Value)> {
    let mut values = values.into_iter();
    std::iter::from_fn(move || Some((values.next()?, values.next()?)))
}

/// What a function that writes says, by its first word.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// It is done.
    Done(Option<Value>),
    /// The message is known: the frame of the first answer.
    Known(Vec<u8>),
    /// The entity is at another record.
    Elsewhere(u64),
    /// There is nothing to change.
    Gone,
    /// Another node holds the shard.
    HeldBy { epoch: Epoch, node: String, left_ms: u64 },
}

/// Reads it. A refusal by epoch is an error for everyone.
pub(super) fn said(what: &str, shard: ShardId, held: Epoch, value: Value) -> Result<Said, Error> {
    let mut words = list(what, value)?.into_iter();
    let mut next = || words.next().unwrap_or(Value::Nil);
    Ok(match text(what, next())?.as_str() {
        "OK" => Said::Done(words.next()),
        "DUP" => Said::Known(bytes(what, next())?),
        "CONFLICT" => {
            let found = bytes(what, next())?;
            let found =
                found.as_slice().try_into().map_err(|_short| odd(what, &Value::BulkString(found.clone())))?;
            Said::Elsewhere(u64::from_be_bytes(found))
        }
        "GONE" => Said::Gone,
        "HELD" => Said::HeldBy {
            epoch: Epoch(number(what, next())?),
            node: text(what, next())?,
            left_ms: number(what, next())?,
        },
        "FENCED" => {
            return Err(Error::Fenced { shard, held, current: Epoch(number(what, next())?) });
        }
        "SUSPECT" => return Err(Error::Suspect { shard, why: text(what, next())? }),
        other => return Err(odd(what, &Value::SimpleString(other.to_owned()))),
    })
}

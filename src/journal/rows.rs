//! Values as stores keep them: a few fixed bytes that a writer needs without decoding, then frames that only readers decode.

use syncline_actors::class::Latency;
use syncline_actors::decision::Answer;
use syncline_actors::id::EntityId;
use syncline_actors::outbox::{OutboxRow, Progress, TimerRow};
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;

use crate::codec::{self, Schema};
use crate::journal::{Append, Error, Head, Snapshot, keys};

/// What is stored of an effect that waits.
#[derive(Debug)]
pub(in crate::journal) struct StoredEffect {
    pub(in crate::journal) due: Timestamp,
    /// The lane it waits in: the connector, and how urgent it is.
    pub(in crate::journal) connector: String,
    /// The row as it was journaled.
    pub(in crate::journal) fixed: Vec<u8>,
    pub(in crate::journal) progress: Progress,
}

impl StoredEffect {
    pub(in crate::journal) fn read(value: &[u8]) -> Result<Self, Error> {
        let parts = || {
            let (due, connector, rest) = effect_due(value)?;
            let (length, rest) = keys::number(rest)?;
            let (fixed, progress) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((due, connector, fixed, progress))
        };
        let (due, connector, fixed, progress) = parts().ok_or_else(|| malformed("an effect that waits"))?;
        let progress = codec::decode(Schema::Progress, progress).map_err(unreadable)?;
        Ok(Self { due, connector: connector.to_owned(), fixed: fixed.to_vec(), progress })
    }

    pub(in crate::journal) fn row(self) -> Result<OutboxRow, Error> {
        let mut row: OutboxRow = codec::decode(Schema::OutboxRow, &self.fixed).map_err(unreadable)?;
        row.progress = self.progress;
        row.latency = Latency::of_lane(&self.connector).1;
        Ok(row)
    }

    pub(in crate::journal) fn value(&self) -> Result<Vec<u8>, Error> {
        effect_value(&self.connector, &self.progress, &self.fixed)
    }
}

/// Time and connector of an effect that waits, without decoding it.
pub(in crate::journal) fn effect_due(value: &[u8]) -> Option<(Timestamp, &str, &[u8])> {
    let (due, rest) = keys::read_time(value)?;
    let (connector, rest) = keys::read_text(rest)?;
    Some((due, connector, rest))
}

pub(in crate::journal) fn effect_value(
    connector: &str,
    progress: &Progress,
    fixed: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut value = Vec::with_capacity(fixed.len() + connector.len() + 96);
    value.extend_from_slice(&keys::time_bytes(progress.due));
    keys::push_text(&mut value, connector);
    value.extend_from_slice(&(fixed.len() as u64).to_be_bytes());
    value.extend_from_slice(fixed);
    codec::encode_into(&mut value, Schema::Progress, progress).map_err(unwritable)?;
    Ok(value)
}

/// A timer that runs: when it is due, then the row.
pub(in crate::journal) fn timer_value(row: &TimerRow) -> Result<Vec<u8>, Error> {
    let mut value = keys::time_bytes(row.due).to_vec();
    codec::encode_into(&mut value, Schema::TimerRow, row).map_err(unwritable)?;
    Ok(value)
}

pub(in crate::journal) fn read_timer(value: &[u8]) -> Result<TimerRow, Error> {
    let (_, frame) = keys::read_time(value).ok_or_else(|| malformed("a timer"))?;
    codec::decode(Schema::TimerRow, frame).map_err(unreadable)
}

pub(in crate::journal) fn dedup_value(expires: Option<Timestamp>, answer: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(9 + answer.len());
    value.push(u8::from(expires.is_some()));
    value.extend_from_slice(&keys::time_bytes(expires.unwrap_or_default()));
    value.extend_from_slice(answer);
    value
}

/// Until when a key is remembered, and the frame of the first answer.
pub(in crate::journal) fn read_dedup(value: &[u8]) -> Option<(Option<Timestamp>, &[u8])> {
    let (expires, rest) = value.split_first()?;
    let (time, answer) = keys::read_time(rest)?;
    Some(((*expires == 1).then_some(time), answer))
}

pub(in crate::journal) fn read_answer(frame: &[u8]) -> Result<Answer, Error> {
    codec::decode(Schema::Answer, frame).map_err(unreadable)
}

/// Where an entity stands, as stored.
#[derive(Debug, Clone)]
pub(in crate::journal) struct StoredHead {
    pub(in crate::journal) seq: u64,
    pub(in crate::journal) hash: Hash,
    pub(in crate::journal) updated_at: Timestamp,
    pub(in crate::journal) ended: bool,
    pub(in crate::journal) status: String,
}

pub(in crate::journal) fn head_value(append: &Append) -> Vec<u8> {
    let mut value = Vec::with_capacity(49 + append.answer.status.len());
    value.extend_from_slice(&append.seq.to_be_bytes());
    value.extend_from_slice(&append.hash.0);
    value.extend_from_slice(&keys::time_bytes(append.at));
    value.push(u8::from(append.ended));
    value.extend_from_slice(append.answer.status.as_bytes());
    value
}

impl StoredHead {
    pub(in crate::journal) fn read(value: &[u8]) -> Result<Self, Error> {
        let parts = || {
            let (seq, rest) = keys::number(value)?;
            let (hash, rest) = rest.split_first_chunk()?;
            let (updated_at, rest) = keys::read_time(rest)?;
            let (ended, status) = rest.split_first()?;
            let status = std::str::from_utf8(status).ok()?.to_owned();
            Some(Self { seq, hash: Hash(*hash), updated_at, ended: *ended == 1, status })
        };
        parts().ok_or_else(|| malformed("where an entity stands"))
    }

    pub(in crate::journal) fn of(self, entity: EntityId) -> Head {
        let Self { seq, updated_at, ended, status, .. } = self;
        Head { entity, seq, status: status.into(), ended, updated_at }
    }
}

pub(in crate::journal) fn snapshot_value(snapshot: &Snapshot) -> Vec<u8> {
    let mut value = Vec::with_capacity(40 + snapshot.frame.len());
    value.extend_from_slice(&snapshot.seq.to_be_bytes());
    value.extend_from_slice(&snapshot.hash.0);
    value.extend_from_slice(&snapshot.frame);
    value
}

pub(in crate::journal) fn read_snapshot(value: &[u8]) -> Result<Snapshot, Error> {
    let parts = || {
        let (seq, rest) = keys::number(value)?;
        let (hash, frame) = rest.split_first_chunk()?;
        Some(Snapshot { seq, hash: Hash(*hash), frame: frame.to_vec().into() })
    };
    parts().ok_or_else(|| malformed("a snapshot"))
}

pub(in crate::journal) fn encoded<T: serde::Serialize>(schema: Schema, value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(256);
    codec::encode_into(&mut bytes, schema, value).map_err(unwritable)?;
    Ok(bytes)
}

/// A stored value that is not what this program writes.
pub(in crate::journal) fn malformed(what: &str) -> Error {
    Error::Corrupt(format!(
        "the stored value of {what} is cut or malformed: keep the store as it is and restore a backup"
    ))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
pub(in crate::journal) fn unreadable(error: codec::Error) -> Error {
    Error::Corrupt(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
pub(in crate::journal) fn unwritable(error: codec::Error) -> Error {
    Error::Unavailable(format!("nothing was written: {error}"))
}

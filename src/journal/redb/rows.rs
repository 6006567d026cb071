//! Values of the tables: a few fixed bytes that the writer needs, then frames that only readers decode.

use syncline_actors::decision::Answer;
use syncline_actors::id::{EffectId, EntityId};
use syncline_actors::outbox::{OutboxRow, Progress, Rows, TimerRow};
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;

use crate::codec::{self, Schema};
use crate::journal::{Append, Error, Head, Snapshot, keys};

/// An append with all its keys and values made, so that the writer only moves bytes.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) append: Append,
    pub(super) record_key: Vec<u8>,
    pub(super) head_key: Vec<u8>,
    pub(super) head: Vec<u8>,
    pub(super) dedup: Vec<DedupRow>,
    pub(super) emitted: Vec<EffectRow>,
    pub(super) settled: Vec<Vec<u8>>,
    pub(super) called_off: Vec<Vec<u8>>,
    pub(super) timers_set: Vec<(Vec<u8>, Timestamp, Vec<u8>)>,
    pub(super) timers_cleared: Vec<Vec<u8>>,
    pub(super) opened: Vec<(String, Vec<u8>)>,
    pub(super) closed: Vec<String>,
    pub(super) terms: Vec<Vec<u8>>,
}

/// A key of a message: where it is kept, until when, and the value.
#[derive(Debug)]
pub(super) struct DedupRow {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) expires: Option<Timestamp>,
}

impl DedupRow {
    /// The same key with the answer in `frame`.
    pub(super) fn with_answer(&self, frame: &[u8]) -> Self {
        Self { key: self.key.clone(), value: dedup_value(self.expires, frame), expires: self.expires }
    }
}

/// An effect that waits: where it is kept, when it is due, and the value.
#[derive(Debug)]
pub(super) struct EffectRow {
    pub(super) key: Vec<u8>,
    pub(super) connector: String,
    pub(super) due: Timestamp,
    pub(super) value: Vec<u8>,
}

impl Prepared {
    /// Encodes everything. Fails when a row is too large for a frame.
    pub(super) fn new(mut append: Append) -> Result<Self, Error> {
        let owned = keys::owned(&append.entity, 0);
        let rows = std::mem::take(&mut append.rows);
        let answer = codec::encode(Schema::Answer, &append.answer).map_err(unwritable)?;
        let dedup = append.dedup.iter().map(|key| DedupRow {
            key: keys::dedup(&owned, &key.scope, &key.id),
            value: dedup_value(key.expires, &answer),
            expires: key.expires,
        });
        let effect = |effect: &EffectId| keys::effect(&owned, *effect);
        let Rows { emitted, settled, called_off, timers_set, timers_cleared, opened, closed } = &rows;
        Ok(Self {
            record_key: keys::record(&owned, append.seq),
            head_key: keys::entity(&append.entity),
            head: head_value(&append),
            dedup: dedup.collect(),
            emitted: emitted.iter().map(|row| EffectRow::new(&owned, row)).collect::<Result<_, _>>()?,
            settled: settled.iter().map(effect).collect(),
            called_off: called_off.iter().map(effect).collect(),
            timers_set: timers_set.iter().map(|row| timer(&owned, row)).collect::<Result<_, _>>()?,
            timers_cleared: timers_cleared.iter().map(|name| keys::named(&owned, name)).collect(),
            opened: opened
                .iter()
                .map(|row| Ok((row.id(), encoded(Schema::ExceptionRow, row)?)))
                .collect::<Result<_, Error>>()?,
            closed: closed.iter().map(|number| format!("{}#{number}", append.entity)).collect(),
            terms: append
                .terms
                .iter()
                .map(|term| [keys::term(term), keys::entity(&append.entity)].concat())
                .collect(),
            append,
        })
    }

    /// Bytes it will write, about.
    pub(super) fn weight(&self) -> usize {
        let rows: usize = self.emitted.iter().map(|row| row.value.len()).sum();
        512 + self.append.frame.len() + rows
    }
}

impl EffectRow {
    fn new(owned: &[u8], row: &OutboxRow) -> Result<Self, Error> {
        let connector = row.effect.connector.to_string();
        let due = row.progress.due;
        let fixed = encoded(Schema::OutboxRow, row)?;
        let value = effect_value(&connector, &row.progress, &fixed)?;
        Ok(Self { key: keys::effect(owned, row.effect.id), connector, due, value })
    }
}

/// What is stored of an effect that waits.
#[derive(Debug)]
pub(super) struct StoredEffect {
    pub(super) due: Timestamp,
    pub(super) connector: String,
    /// The row as it was journaled.
    pub(super) fixed: Vec<u8>,
    pub(super) progress: Progress,
}

impl StoredEffect {
    pub(super) fn read(value: &[u8]) -> Result<Self, Error> {
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

    pub(super) fn row(self) -> Result<OutboxRow, Error> {
        let mut row: OutboxRow = codec::decode(Schema::OutboxRow, &self.fixed).map_err(unreadable)?;
        row.progress = self.progress;
        Ok(row)
    }

    pub(super) fn value(&self) -> Result<Vec<u8>, Error> {
        effect_value(&self.connector, &self.progress, &self.fixed)
    }
}

/// Time and connector of an effect that waits, without decoding it.
pub(super) fn effect_due(value: &[u8]) -> Option<(Timestamp, &str, &[u8])> {
    let (due, rest) = keys::read_time(value)?;
    let (connector, rest) = keys::read_text(rest)?;
    Some((due, connector, rest))
}

fn effect_value(connector: &str, progress: &Progress, fixed: &[u8]) -> Result<Vec<u8>, Error> {
    let mut value = Vec::with_capacity(fixed.len() + connector.len() + 96);
    value.extend_from_slice(&keys::time_bytes(progress.due));
    keys::push_text(&mut value, connector);
    value.extend_from_slice(&(fixed.len() as u64).to_be_bytes());
    value.extend_from_slice(fixed);
    codec::encode_into(&mut value, Schema::Progress, progress).map_err(unwritable)?;
    Ok(value)
}

fn timer(owned: &[u8], row: &TimerRow) -> Result<(Vec<u8>, Timestamp, Vec<u8>), Error> {
    let mut value = keys::time_bytes(row.due).to_vec();
    codec::encode_into(&mut value, Schema::TimerRow, row).map_err(unwritable)?;
    Ok((keys::named(owned, &row.name), row.due, value))
}

pub(super) fn read_timer(value: &[u8]) -> Result<TimerRow, Error> {
    let (_, frame) = keys::read_time(value).ok_or_else(|| malformed("a timer"))?;
    codec::decode(Schema::TimerRow, frame).map_err(unreadable)
}

fn dedup_value(expires: Option<Timestamp>, answer: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(9 + answer.len());
    value.push(u8::from(expires.is_some()));
    value.extend_from_slice(&keys::time_bytes(expires.unwrap_or_default()));
    value.extend_from_slice(answer);
    value
}

/// Until when a key is remembered, and the frame of the first answer.
pub(super) fn read_dedup(value: &[u8]) -> Option<(Option<Timestamp>, &[u8])> {
    let (expires, rest) = value.split_first()?;
    let (time, answer) = keys::read_time(rest)?;
    Some(((*expires == 1).then_some(time), answer))
}

pub(super) fn read_answer(frame: &[u8]) -> Result<Answer, Error> {
    codec::decode(Schema::Answer, frame).map_err(unreadable)
}

/// Where an entity stands, as stored.
#[derive(Debug, Clone)]
pub(super) struct StoredHead {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    pub(super) updated_at: Timestamp,
    pub(super) ended: bool,
    pub(super) status: String,
}

fn head_value(append: &Append) -> Vec<u8> {
    let mut value = Vec::with_capacity(49 + append.answer.status.len());
    value.extend_from_slice(&append.seq.to_be_bytes());
    value.extend_from_slice(&append.hash.0);
    value.extend_from_slice(&keys::time_bytes(append.at));
    value.push(u8::from(append.ended));
    value.extend_from_slice(append.answer.status.as_bytes());
    value
}

impl StoredHead {
    pub(super) fn read(value: &[u8]) -> Result<Self, Error> {
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

    pub(super) fn of(self, entity: EntityId) -> Head {
        let Self { seq, updated_at, ended, status, .. } = self;
        Head { entity, seq, status: status.into(), ended, updated_at }
    }
}

pub(super) fn snapshot_value(snapshot: &Snapshot) -> Vec<u8> {
    let mut value = Vec::with_capacity(40 + snapshot.frame.len());
    value.extend_from_slice(&snapshot.seq.to_be_bytes());
    value.extend_from_slice(&snapshot.hash.0);
    value.extend_from_slice(&snapshot.frame);
    value
}

pub(super) fn read_snapshot(value: &[u8]) -> Result<Snapshot, Error> {
    let parts = || {
        let (seq, rest) = keys::number(value)?;
        let (hash, frame) = rest.split_first_chunk()?;
        Some(Snapshot { seq, hash: Hash(*hash), frame: frame.to_vec().into() })
    };
    parts().ok_or_else(|| malformed("a snapshot"))
}

fn encoded<T: serde::Serialize>(schema: Schema, value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(256);
    codec::encode_into(&mut bytes, schema, value).map_err(unwritable)?;
    Ok(bytes)
}

/// A stored value that is not what this program writes.
pub(super) fn malformed(what: &str) -> Error {
    Error::Corrupt(format!(
        "the stored value of {what} is cut or malformed: keep the file and restore a backup"
    ))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
pub(super) fn unreadable(error: codec::Error) -> Error {
    Error::Corrupt(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unwritable(error: codec::Error) -> Error {
    Error::Unavailable(format!("nothing was written: {error}"))
}

//! An append made ready for the tables.

use syncline_actors::id::EffectId;
use syncline_actors::outbox::{OutboxRow, Rows, TimerRow};
use syncline_actors::time::Timestamp;

use crate::codec::{self, Schema};
use crate::journal::rows::{dedup_value, effect_value, encoded, head_value, timer_value, unwritable};
use crate::journal::{Append, Error, keys};

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
    pub(super) tallies: Vec<String>,
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
        let Rows { emitted, settled, called_off, timers_set, timers_cleared, opened, closed, tallies } =
            &rows;
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
            tallies: tallies.clone(),
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
        let connector = row.lane();
        let due = row.progress.due;
        let fixed = encoded(Schema::OutboxRow, row)?;
        let value = effect_value(&connector, &row.progress, &fixed)?;
        Ok(Self { key: keys::effect(owned, row.effect.id), connector, due, value })
    }
}

fn timer(owned: &[u8], row: &TimerRow) -> Result<(Vec<u8>, Timestamp, Vec<u8>), Error> {
    Ok((keys::named(owned, &row.name), row.due, timer_value(row)?))
}

//! What each call writes, within a group that it may share with others: first every check, then the writing.

use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::Progress;
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;

use super::Failure;
use super::prepared::{DedupRow, EffectRow, Prepared};
use super::tables::{Name, Tables};
use crate::journal::rows::{self, StoredEffect, StoredHead};
use crate::journal::{
    Appended, Compacted, Error, Grant, Snapshot, call_off, changed_definition, keys, merge,
};

/// Rows that one part of a compaction throws away at most, so that appends do not wait long.
const COMPACTED_MAX: usize = 2_048;

pub(super) fn acquire(tables: &mut Tables, shards: &[ShardId], node: &NodeId) -> Result<Vec<Grant>, Failure> {
    let mut grants = Vec::with_capacity(shards.len());
    for shard in shards {
        let epoch = Epoch(current(tables, *shard)?.0.0 + 1);
        tables.put(Name::Epochs, &keys::shard(*shard), &keys::epoch_value(epoch, Some(node)));
        grants.push(Grant { shard: *shard, epoch });
    }
    Ok(grants)
}

pub(super) fn release(tables: &mut Tables, grants: &[Grant]) -> Result<(), Failure> {
    for Grant { shard, epoch } in grants {
        if current(tables, *shard)? == (*epoch, true) {
            let next = keys::epoch_value(Epoch(epoch.0 + 1), None);
            tables.put(Name::Epochs, &keys::shard(*shard), &next);
        }
    }
    Ok(())
}

fn current(tables: &mut Tables, shard: ShardId) -> Result<(Epoch, bool), Failure> {
    let stored = tables.get(Name::Epochs, &keys::shard(shard), keys::read_epoch)?;
    stored.map_or(Ok((Epoch(0), false)), |epoch| epoch.ok_or_else(|| rows::malformed("an epoch").into()))
}

fn check(tables: &mut Tables, shard: ShardId, held: Epoch) -> Result<(), Failure> {
    super::held(shard, held, current(tables, shard)?).map_err(Failure::from)
}

pub(super) fn append(tables: &mut Tables, prepared: &Prepared) -> Result<Appended, Failure> {
    let append = &prepared.append;
    check(tables, append.entity.shard(), append.epoch)?;
    let mut expired = Vec::with_capacity(prepared.dedup.len());
    for row in &prepared.dedup {
        match kept(tables, &row.key, append.at)? {
            Kept::Nothing => expired.push(None),
            Kept::Expired(ended) => expired.push(Some(ended)),
            Kept::Answer(answer) => {
                if let Some(ended) = expired.first() {
                    remember(tables, &prepared.dedup[0].with_answer(&answer), *ended);
                }
                return Ok(Appended::Duplicate(rows::read_answer(&answer)?));
            }
        }
    }
    let head = head(tables, &prepared.head_key)?;
    let (seq, hash) = head.as_ref().map_or((0, Hash([0; 32])), |head| (head.seq, head.hash));
    if append.seq != seq + 1 || append.prev != hash {
        let expected = append.seq.saturating_sub(1);
        return Err(Error::Conflict { entity: append.entity.clone(), expected, found: seq }.into());
    }
    for (row, ended) in prepared.dedup.iter().zip(expired) {
        remember(tables, row, ended);
    }
    write(tables, prepared, head.as_ref())?;
    Ok(Appended::Written)
}

/// What is kept under a key of a message.
enum Kept {
    Nothing,
    /// An entry past its time, which was then.
    Expired(Timestamp),
    /// The first answer.
    Answer(Vec<u8>),
}

fn kept(tables: &mut Tables, key: &[u8], at: Timestamp) -> Result<Kept, Failure> {
    let found = tables.get(Name::Dedup, key, |value| {
        let (expires, answer) = rows::read_dedup(value)?;
        Some(match expires {
            Some(ended) if ended < at => Kept::Expired(ended),
            _ => Kept::Answer(answer.to_vec()),
        })
    })?;
    found.map_or(Ok(Kept::Nothing), |entry| {
        entry.ok_or_else(|| rows::malformed("a deduplication entry").into())
    })
}

fn head(tables: &mut Tables, key: &[u8]) -> Result<Option<StoredHead>, Failure> {
    Ok(tables.get(Name::Heads, key, StoredHead::read)?.transpose()?)
}

fn write(tables: &mut Tables, prepared: &Prepared, before: Option<&StoredHead>) -> Result<(), Failure> {
    let append = &prepared.append;
    tables.put(Name::Records, &prepared.record_key, &append.frame);
    tables.put(Name::Heads, &prepared.head_key, &prepared.head);
    let status = &*append.answer.status;
    if before.is_none_or(|before| before.status != status) {
        tables.count(Name::Census, keys::status(append.entity.kind(), status), 1);
        if let Some(before) = before {
            tables.count(Name::Census, keys::status(append.entity.kind(), &before.status), -1);
        }
    }
    if let Some(before) = before.filter(|before| before.ended) {
        tables.remove(Name::Ended, &keys::at(before.updated_at, &prepared.head_key));
    }
    if append.ended {
        tables.put(Name::Ended, &keys::at(append.at, &prepared.head_key), &[]);
    }
    for term in &prepared.terms {
        tables.put(Name::Terms, term, &[]);
    }
    for key in &prepared.tallies {
        tables.count(Name::Census, keys::status(keys::TALLIES, key), 1);
    }
    write_rows(tables, prepared)
}

/// Keeps `row`, whose key has nothing or an entry that `ended`.
fn remember(tables: &mut Tables, row: &DedupRow, ended: Option<Timestamp>) {
    tables.put(Name::Dedup, &row.key, &row.value);
    if let Some(ended) = ended {
        tables.remove(Name::DedupExpiry, &keys::at(ended, &row.key));
    }
    if let Some(expires) = row.expires {
        tables.put(Name::DedupExpiry, &keys::at(expires, &row.key), &[]);
    }
}

/// What ends goes first: an effect that ends and is issued again in one record waits.
fn write_rows(tables: &mut Tables, prepared: &Prepared) -> Result<(), Failure> {
    for key in &prepared.settled {
        settle(tables, key)?;
    }
    for row in &prepared.emitted {
        emit(tables, row)?;
    }
    for key in &prepared.called_off {
        if let Some(mut effect) = effect(tables, key)? {
            call_off(&mut effect.progress, prepared.append.at);
            rewrite(tables, key, &effect)?;
        }
    }
    for key in &prepared.timers_cleared {
        clear(tables, key)?;
    }
    for (key, due, value) in &prepared.timers_set {
        clear(tables, key)?;
        tables.put(Name::Timers, key, value);
        tables.put(Name::TimersDue, &keys::at(*due, key), &[]);
    }
    for id in &prepared.closed {
        tables.remove(Name::Exceptions, id.as_bytes());
    }
    for (id, value) in &prepared.opened {
        tables.put(Name::Exceptions, id.as_bytes(), value);
    }
    Ok(())
}

/// A connector, and the key under which one of its effects is due.
type Due = (String, Vec<u8>);

fn due_key(value: &[u8], key: &[u8]) -> Result<Due, Error> {
    let (due, connector, _) =
        rows::effect_due(value).ok_or_else(|| rows::malformed("an effect that waits"))?;
    Ok((connector.to_owned(), keys::effect_due(connector, due, key)))
}

fn settle(tables: &mut Tables, key: &[u8]) -> Result<(), Failure> {
    let old = tables.take(Name::Outbox, key, |value| due_key(value, key))?.transpose()?;
    forget_due(tables, old);
    Ok(())
}

fn forget_due(tables: &mut Tables, old: Option<Due>) {
    let Some((connector, due)) = old else { return };
    tables.remove(Name::OutboxDue, &due);
    tables.count(Name::Depths, keys::connector(&connector), -1);
}

fn emit(tables: &mut Tables, row: &EffectRow) -> Result<(), Failure> {
    let old =
        tables.replace(Name::Outbox, &row.key, &row.value, |value| due_key(value, &row.key))?.transpose()?;
    forget_due(tables, old);
    tables.put(Name::OutboxDue, &keys::effect_due(&row.connector, row.due, &row.key), &[]);
    tables.count(Name::Depths, keys::connector(&row.connector), 1);
    Ok(())
}

fn effect(tables: &mut Tables, key: &[u8]) -> Result<Option<StoredEffect>, Failure> {
    Ok(tables.get(Name::Outbox, key, StoredEffect::read)?.transpose()?)
}

/// Writes an effect that waits already, with changed progress.
fn rewrite(tables: &mut Tables, key: &[u8], effect: &StoredEffect) -> Result<(), Failure> {
    if effect.due != effect.progress.due {
        tables.remove(Name::OutboxDue, &keys::effect_due(&effect.connector, effect.due, key));
        let due = keys::effect_due(&effect.connector, effect.progress.due, key);
        tables.put(Name::OutboxDue, &due, &[]);
    }
    tables.put(Name::Outbox, key, &effect.value()?);
    Ok(())
}

fn clear(tables: &mut Tables, key: &[u8]) -> Result<(), Failure> {
    let old = tables.take(Name::Timers, key, |value| keys::read_time(value).map(|(due, _)| due))?;
    if let Some(due) = old {
        let due = due.ok_or_else(|| rows::malformed("a timer"))?;
        tables.remove(Name::TimersDue, &keys::at(due, key));
    }
    Ok(())
}

pub(super) fn progress(
    tables: &mut Tables,
    epoch: Epoch,
    entity: &EntityId,
    id: EffectId,
    progress: Progress,
) -> Result<bool, Failure> {
    check(tables, entity.shard(), epoch)?;
    let key = keys::effect(&keys::owned(entity, 0), id);
    let Some(mut effect) = effect(tables, &key)? else { return Ok(false) };
    effect.progress = merge(&effect.progress, progress);
    rewrite(tables, &key, &effect)?;
    Ok(true)
}

pub(super) fn save_snapshot(
    tables: &mut Tables,
    epoch: Epoch,
    entity: &EntityId,
    snapshot: &Snapshot,
) -> Result<(), Failure> {
    check(tables, entity.shard(), epoch)?;
    let head = head(tables, &keys::entity(entity))?;
    let (seq, hash) = head.map_or((0, Hash([0; 32])), |head| (head.seq, head.hash));
    if snapshot.seq == 0 || snapshot.seq > seq || (snapshot.seq == seq && snapshot.hash != hash) {
        return Err(Error::Conflict { entity: entity.clone(), expected: snapshot.seq, found: seq }.into());
    }
    let key = keys::owned(entity, 0);
    if kept_snapshot(tables, &key)?.is_none_or(|kept| kept <= snapshot.seq) {
        tables.put(Name::Snapshots, &key, &rows::snapshot_value(snapshot));
    }
    Ok(())
}

/// Records thrown away in one write, at most: the next trim goes on.
const TRIMMED_MAX: usize = 1_024;

pub(super) fn trim(tables: &mut Tables, epoch: Epoch, entity: &EntityId, keep: u64) -> Result<u64, Failure> {
    check(tables, entity.shard(), epoch)?;
    let Some(head) = head(tables, &keys::entity(entity))? else { return Ok(0) };
    let owned = keys::owned(entity, 0);
    let last = head.seq.saturating_sub(keep).min(kept_snapshot(tables, &owned)?.unwrap_or(0));
    let (from, to) = (keys::record(&owned, 0), keys::record(&owned, last + 1));
    let old = tables.keys(Name::Records, &from, &to, TRIMMED_MAX)?;
    for key in &old {
        tables.remove(Name::Records, key);
    }
    Ok(old.len() as u64)
}

fn kept_snapshot(tables: &mut Tables, key: &[u8]) -> Result<Option<u64>, Failure> {
    let seq = tables.get(Name::Snapshots, key, |value| keys::number(value).map(|(seq, _)| seq))?;
    seq.map(|seq| seq.ok_or_else(|| rows::malformed("a snapshot").into())).transpose()
}

/// Orders stand beside what the store says of itself, so that a store of any age has a place for them.
pub(super) fn order(tables: &mut Tables, key: &str, value: Option<&str>) {
    let key = keys::order(key);
    match value {
        Some(value) => tables.put(Name::Meta, &key, value.as_bytes()),
        None => tables.remove(Name::Meta, &key),
    }
}

pub(super) fn keep_definition(
    tables: &mut Tables,
    kind: &str,
    version: u32,
    text: &str,
) -> Result<(), Failure> {
    let key = keys::definition(kind, version);
    match tables.get(Name::Definitions, &key, |kept| kept == text.as_bytes())? {
        Some(true) => {}
        Some(false) => return Err(changed_definition(kind, version).into()),
        None => tables.put(Name::Definitions, &key, text.as_bytes()),
    }
    Ok(())
}

/// Where a compaction goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor {
    /// Deduplication entries are done.
    pub(super) dedup_done: bool,
    /// The next key of the index of ended entities; `None` when they are done.
    pub(super) ended: Option<Vec<u8>>,
    /// What was thrown away so far.
    pub(super) compacted: Compacted,
}

impl Cursor {
    pub(super) fn start() -> Self {
        Self { ended: Some(Vec::new()), ..Self::default() }
    }

    pub(super) fn done(&self) -> bool {
        self.dedup_done && self.ended.is_none()
    }
}

/// One bounded part of a compaction.
pub(super) fn compact(
    tables: &mut Tables,
    now: Timestamp,
    ended_before: Timestamp,
    mut cursor: Cursor,
) -> Result<Cursor, Failure> {
    if !cursor.dedup_done {
        let expired = tables.keys(Name::DedupExpiry, &[], &keys::time_bytes(now), COMPACTED_MAX)?;
        for key in &expired {
            tables.remove(Name::DedupExpiry, key);
            tables.remove(Name::Dedup, &key[8..]);
        }
        cursor.compacted.dedup += expired.len() as u64;
        cursor.dedup_done = expired.len() < COMPACTED_MAX;
        return Ok(cursor);
    }
    let Some(from) = cursor.ended.take() else { return Ok(cursor) };
    let ended = tables.keys(Name::Ended, &from, &keys::time_bytes(ended_before), COMPACTED_MAX / 16)?;
    let more = ended.len() == COMPACTED_MAX / 16;
    for key in &ended {
        cursor.compacted.records += compact_entity(tables, key)?;
    }
    cursor.ended = ended.into_iter().next_back().filter(|_| more).map(|mut last| {
        last.push(0);
        last
    });
    Ok(cursor)
}

fn compact_entity(tables: &mut Tables, ended: &[u8]) -> Result<u64, Failure> {
    let entity = keys::read_entity(&ended[8..]).ok_or_else(|| rows::malformed("an ended entity"))?;
    let owned = keys::owned(&entity, 0);
    let head = head(tables, &ended[8..])?.ok_or_else(|| rows::malformed("an ended entity"))?;
    if kept_snapshot(tables, &owned)? != Some(head.seq) {
        return Ok(0);
    }
    let end = keys::end_of(&owned).expect("an owner's key ends in zero");
    let records = tables.keys(Name::Records, &owned, &end, usize::MAX)?;
    for key in &records {
        tables.remove(Name::Records, key);
    }
    tables.remove(Name::Ended, ended);
    Ok(records.len() as u64)
}

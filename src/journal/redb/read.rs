//! What each call reads, from what is committed.

use std::collections::BTreeMap;

use ::redb::{ReadOnlyTable, ReadTransaction};
use bytes::Bytes;
use syncline_actors::id::{EntityId, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, TimerRow};
use syncline_actors::time::Timestamp;

use super::Failure;
use super::tables::{Name, count_of};
use crate::codec::{self, Schema};
use crate::journal::rows::{self, StoredEffect, StoredHead};
use crate::journal::{Depth, Error, ExceptionFilter, Grant, Head, Holding, Loaded, keys, passes};

/// One table as it was when the transaction began.
type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

fn table(read: &ReadTransaction, name: Name) -> Result<Rows, Failure> {
    Ok(read.open_table(name.definition())?)
}

fn get<R>(rows: &Rows, key: &[u8], make: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Failure> {
    Ok(rows.get(key)?.map(|value| make(value.value())))
}

/// What `make` makes of the rows from `from` on, below `to`, until there are `limit`; it passes over a row with `None`.
fn scan<R>(
    rows: &Rows,
    from: &[u8],
    to: Option<&[u8]>,
    limit: usize,
    mut make: impl FnMut(&[u8], &[u8]) -> Result<Option<R>, Failure>,
) -> Result<Vec<R>, Failure> {
    if limit == 0 || to.is_some_and(|to| from >= to) {
        return Ok(Vec::new());
    }
    let range = match to {
        Some(to) => rows.range::<&[u8]>(from..to)?,
        None => rows.range::<&[u8]>(from..)?,
    };
    let mut made = Vec::new();
    for row in range {
        let (key, value) = row?;
        if let Some(result) = make(key.value(), value.value())? {
            made.push(result);
            if made.len() == limit {
                break;
            }
        }
    }
    Ok(made)
}

/// The rows whose keys begin with `prefix`; `make` sees the rest of the key.
fn under<R>(
    rows: &Rows,
    prefix: &[u8],
    limit: usize,
    mut make: impl FnMut(&[u8], &[u8]) -> Result<R, Failure>,
) -> Result<Vec<R>, Failure> {
    scan(rows, prefix, keys::end_of(prefix).as_deref(), limit, |key, value| {
        make(&key[prefix.len()..], value).map(Some)
    })
}

fn corrupt<T>(value: Option<T>, what: &str) -> Result<T, Failure> {
    value.ok_or_else(|| rows::malformed(what).into())
}

/// The time that `key` begins with.
fn due(key: &[u8]) -> Result<Timestamp, Failure> {
    corrupt(keys::read_time(key).map(|(due, _)| due), "what is due")
}

pub(super) fn renew(read: &ReadTransaction, grants: &[Grant]) -> Result<Vec<Result<(), Error>>, Failure> {
    let epochs = table(read, Name::Epochs)?;
    let check = |Grant { shard, epoch }: &Grant| {
        let current = get(&epochs, &keys::shard(*shard), keys::read_epoch)?;
        let current = current.map(|epoch| corrupt(epoch, "an epoch")).transpose()?.unwrap_or_default();
        Ok(super::held(*shard, *epoch, current))
    };
    grants.iter().map(check).collect()
}

pub(super) fn holdings(read: &ReadTransaction) -> Result<Vec<Holding>, Failure> {
    let epochs = table(read, Name::Epochs)?;
    let held = |shard: ShardId| {
        let stored = get(&epochs, &keys::shard(shard), keys::read_holder)?;
        let (epoch, node) = stored.map(|stored| corrupt(stored, "an epoch")).transpose()?.unwrap_or_default();
        Ok(Holding { shard, epoch, node, boot: 0, left: None, suspect: None })
    };
    ShardId::all().map(held).collect()
}

pub(super) fn load(read: &ReadTransaction, entity: &EntityId) -> Result<Loaded, Failure> {
    let owned = keys::owned(entity, 0);
    let Some(head) = get(&table(read, Name::Heads)?, &keys::entity(entity), StoredHead::read)?.transpose()?
    else {
        return Ok(Loaded::default());
    };
    let snapshot = get(&table(read, Name::Snapshots)?, &owned, rows::read_snapshot)?.transpose()?;
    let folded = snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
    let mut seq = folded;
    let end = keys::end_of(&owned);
    let records = table(read, Name::Records)?;
    let tail =
        scan(&records, &keys::record(&owned, folded + 1), end.as_deref(), usize::MAX, |key, value| {
            seq += 1;
            if key[owned.len()..] == seq.to_be_bytes() {
                return Ok(Some(Bytes::copy_from_slice(value)));
            }
            Err(gap(entity, seq))
        })?;
    if seq == head.seq { Ok(Loaded { snapshot, tail }) } else { Err(gap(entity, seq + 1)) }
}

fn gap(entity: &EntityId, seq: u64) -> Failure {
    Error::Corrupt(format!("record {seq} of {entity} is missing: keep the file and restore a backup")).into()
}

pub(super) fn records(
    read: &ReadTransaction,
    entity: &EntityId,
    from: u64,
    limit: usize,
) -> Result<Vec<Bytes>, Failure> {
    let owned = keys::owned(entity, 0);
    let end = keys::end_of(&owned);
    scan(&table(read, Name::Records)?, &keys::record(&owned, from), end.as_deref(), limit, |_, value| {
        Ok(Some(Bytes::copy_from_slice(value)))
    })
}

pub(super) fn due_effects(
    read: &ReadTransaction,
    connector: &str,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<OutboxRow>, Failure> {
    let outbox = table(read, Name::Outbox)?;
    let from = keys::connector(connector);
    let to = keys::end_of(&keys::effect_due(connector, now, &[]));
    scan(&table(read, Name::OutboxDue)?, &from, to.as_deref(), limit, |key, _| {
        let stored = get(&outbox, &key[from.len() + 8..], StoredEffect::read)?;
        Ok(Some(corrupt(stored, "an effect that waits")??.row()?))
    })
}

pub(super) fn next_effect(
    read: &ReadTransaction,
    connector: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, Failure> {
    let prefix = keys::connector(connector);
    let end = keys::end_of(&prefix);
    let Some(from) = keys::end_of(&keys::effect_due(connector, now, &[])) else { return Ok(None) };
    let next = scan(&table(read, Name::OutboxDue)?, &from, end.as_deref(), 1, |key, _| {
        due(&key[prefix.len()..]).map(Some)
    })?;
    Ok(next.first().copied())
}

pub(super) fn outbox_of(read: &ReadTransaction, entity: &EntityId) -> Result<Vec<OutboxRow>, Failure> {
    under(&table(read, Name::Outbox)?, &keys::owned(entity, 0), usize::MAX, |_, value| {
        Ok(StoredEffect::read(value)?.row()?)
    })
}

pub(super) fn depths(read: &ReadTransaction) -> Result<BTreeMap<String, Depth>, Failure> {
    let index = table(read, Name::OutboxDue)?;
    let counts = under(&table(read, Name::Depths)?, &[], usize::MAX, |key, value| {
        let (connector, _) = corrupt(keys::read_text(key), "a depth")?;
        let oldest = under(&index, key, 1, |rest, _| due(rest))?;
        let oldest = oldest.first().copied();
        Ok((connector.to_owned(), Depth { waiting: count_of(value), oldest }))
    })?;
    Ok(counts.into_iter().collect())
}

pub(super) fn due_timers(
    read: &ReadTransaction,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<TimerRow>, Failure> {
    let timers = table(read, Name::Timers)?;
    let to = keys::end_of(&keys::time_bytes(now));
    scan(&table(read, Name::TimersDue)?, &[], to.as_deref(), limit, |key, _| {
        let stored = get(&timers, &key[8..], rows::read_timer)?;
        Ok(Some(corrupt(stored, "a timer")??))
    })
}

pub(super) fn next_timer(read: &ReadTransaction, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let Some(from) = keys::end_of(&keys::time_bytes(now)) else { return Ok(None) };
    let next = scan(&table(read, Name::TimersDue)?, &from, None, 1, |key, _| due(key).map(Some))?;
    Ok(next.first().copied())
}

pub(super) fn exceptions(
    read: &ReadTransaction,
    filter: &ExceptionFilter,
) -> Result<Vec<ExceptionRow>, Failure> {
    let prefix = filter.kind.as_ref().map(|kind| format!("{kind}/")).unwrap_or_default();
    let mut from = prefix.clone().into_bytes();
    if let Some(after) = &filter.after {
        from = from.max([after.as_bytes(), &[0]].concat());
    }
    let to = keys::end_of(prefix.as_bytes());
    scan(&table(read, Name::Exceptions)?, &from, to.as_deref(), filter.limit, |_, value| {
        let row = codec::decode(Schema::ExceptionRow, value).map_err(rows::unreadable)?;
        Ok(Some(row).filter(|row| passes(filter, row)))
    })
}

pub(super) fn find(read: &ReadTransaction, term: &str, limit: usize) -> Result<Vec<EntityId>, Failure> {
    under(&table(read, Name::Terms)?, &keys::term(term), limit, |entity, _| {
        corrupt(keys::read_entity(entity), "a term")
    })
}

pub(super) fn heads(
    read: &ReadTransaction,
    kind: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Head>, Failure> {
    let prefix = format!("{kind}/").into_bytes();
    // The entity `after` itself ends in zero.
    let from = after.map_or_else(|| prefix.clone(), |after| [&prefix, after.as_bytes(), &[1]].concat());
    let to = keys::end_of(&prefix);
    scan(&table(read, Name::Heads)?, &from, to.as_deref(), limit, |key, value| {
        let entity = corrupt(keys::read_entity(key), "where an entity stands")?;
        Ok(Some(StoredHead::read(value)?.of(entity)))
    })
}

pub(super) fn census(read: &ReadTransaction) -> Result<BTreeMap<(String, String), u64>, Failure> {
    let counts = under(&table(read, Name::Census)?, &[], usize::MAX, |key, value| {
        let (kind, status) = corrupt(keys::read_text(key), "the census")?;
        let status = corrupt(std::str::from_utf8(status).ok(), "the census")?;
        Ok(((kind.to_owned(), status.to_owned()), count_of(value)))
    })?;
    Ok(counts.into_iter().collect())
}

pub(super) fn orders(read: &ReadTransaction) -> Result<BTreeMap<String, String>, Failure> {
    let kept = under(&table(read, Name::Meta)?, &keys::order(""), usize::MAX, |key, value| {
        let name = corrupt(std::str::from_utf8(key).ok(), "an order")?;
        let value = corrupt(std::str::from_utf8(value).ok(), "an order")?;
        Ok((name.to_owned(), value.to_owned()))
    })?;
    Ok(kept.into_iter().collect())
}

pub(super) fn definitions(read: &ReadTransaction) -> Result<BTreeMap<(String, u32), String>, Failure> {
    let kept = under(&table(read, Name::Definitions)?, &[], usize::MAX, |key, value| {
        let (kind, version) = corrupt(keys::read_text(key), "a definition")?;
        let version = corrupt(version.try_into().ok(), "a definition")?;
        let text = corrupt(std::str::from_utf8(value).ok(), "a definition")?;
        Ok(((kind.to_owned(), u32::from_be_bytes(version)), text.to_owned()))
    })?;
    Ok(kept.into_iter().collect())
}

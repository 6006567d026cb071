//! What each call reads, from what is committed.

use std::collections::BTreeMap;

use bytes::Bytes;
use syncline_actors::id::{EntityId, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, TimerRow};
use syncline_actors::time::Timestamp;

use super::Failure;
use super::layers::View;
use super::tables::{Name, count_of};
use crate::codec::{self, Schema};
use crate::journal::rows::{self, StoredEffect, StoredHead};
use crate::journal::{Depth, Error, ExceptionFilter, Grant, Head, Holding, Loaded, keys, passes};

/// So many rows are looked at in one go.
const PART: usize = 256;

fn corrupt<T>(value: Option<T>, what: &str) -> Result<T, Failure> {
    value.ok_or_else(|| rows::malformed(what).into())
}

/// The time that `key` begins with.
fn due(key: &[u8]) -> Result<Timestamp, Failure> {
    corrupt(keys::read_time(key).map(|(due, _)| due), "what is due")
}

pub(super) fn renew(view: &View<'_>, grants: &[Grant]) -> Result<Vec<Result<(), Error>>, Failure> {
    let epochs = view.table(Name::Epochs)?;
    let check = |Grant { shard, epoch }: &Grant| {
        let current = epochs.get(&keys::shard(*shard), keys::read_epoch)?;
        let current = current.map(|epoch| corrupt(epoch, "an epoch")).transpose()?.unwrap_or_default();
        Ok(super::held(*shard, *epoch, current))
    };
    grants.iter().map(check).collect()
}

pub(super) fn holdings(view: &View<'_>) -> Result<Vec<Holding>, Failure> {
    let epochs = view.table(Name::Epochs)?;
    let held = |shard: ShardId| {
        let stored = epochs.get(&keys::shard(shard), keys::read_holder)?;
        let (epoch, node) = stored.map(|stored| corrupt(stored, "an epoch")).transpose()?.unwrap_or_default();
        Ok(Holding { shard, epoch, node, boot: 0, left: None, suspect: None })
    };
    ShardId::all().map(held).collect()
}

pub(super) fn load(view: &View<'_>, entity: &EntityId) -> Result<Loaded, Failure> {
    let owned = keys::owned(entity, 0);
    let Some(head) = view.table(Name::Heads)?.get(&keys::entity(entity), StoredHead::read)?.transpose()?
    else {
        return Ok(Loaded::default());
    };
    let snapshot = view.table(Name::Snapshots)?.get(&owned, rows::read_snapshot)?.transpose()?;
    let folded = snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
    let mut seq = folded;
    let end = keys::end_of(&owned);
    let records = view.table(Name::Records)?;
    let tail =
        records.scan(&keys::record(&owned, folded + 1), end.as_deref(), usize::MAX, |key, value| {
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
    view: &View<'_>,
    entity: &EntityId,
    from: u64,
    limit: usize,
) -> Result<Vec<Bytes>, Failure> {
    let owned = keys::owned(entity, 0);
    let end = keys::end_of(&owned);
    view.table(Name::Records)?.scan(&keys::record(&owned, from), end.as_deref(), limit, |_, value| {
        Ok(Some(Bytes::copy_from_slice(value)))
    })
}

pub(super) fn due_effects(
    view: &View<'_>,
    connector: &str,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<OutboxRow>, Failure> {
    let outbox = view.table(Name::Outbox)?;
    let from = keys::connector(connector);
    let to = keys::end_of(&keys::effect_due(connector, now, &[]));
    view.table(Name::OutboxDue)?.scan(&from, to.as_deref(), limit, |key, _| {
        let stored = outbox.get(&key[from.len() + 8..], StoredEffect::read)?;
        Ok(Some(corrupt(stored, "an effect that waits")??.row()?))
    })
}

pub(super) fn next_effect(
    view: &View<'_>,
    connector: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, Failure> {
    let prefix = keys::connector(connector);
    let end = keys::end_of(&prefix);
    let Some(from) = keys::end_of(&keys::effect_due(connector, now, &[])) else { return Ok(None) };
    let next = view
        .table(Name::OutboxDue)?
        .scan(&from, end.as_deref(), 1, |key, _| due(&key[prefix.len()..]).map(Some))?;
    Ok(next.first().copied())
}

pub(super) fn outbox_of(view: &View<'_>, entity: &EntityId) -> Result<Vec<OutboxRow>, Failure> {
    view.table(Name::Outbox)?
        .below(&keys::owned(entity, 0), usize::MAX, |_, value| Ok(StoredEffect::read(value)?.row()?))
}

pub(super) fn depths(view: &View<'_>) -> Result<BTreeMap<String, Depth>, Failure> {
    let index = view.table(Name::OutboxDue)?;
    let counts = view.table(Name::Depths)?.below(&[], usize::MAX, |key, value| {
        let (connector, _) = corrupt(keys::read_text(key), "a depth")?;
        let oldest = index.below(key, 1, |rest, _| due(rest))?;
        let oldest = oldest.first().copied();
        Ok((connector.to_owned(), Depth { waiting: count_of(value), oldest }))
    })?;
    Ok(counts.into_iter().collect())
}

pub(super) fn due_timers(view: &View<'_>, now: Timestamp, limit: usize) -> Result<Vec<TimerRow>, Failure> {
    let timers = view.table(Name::Timers)?;
    let to = keys::end_of(&keys::time_bytes(now));
    view.table(Name::TimersDue)?.scan(&[], to.as_deref(), limit, |key, _| {
        let stored = timers.get(&key[8..], rows::read_timer)?;
        Ok(Some(corrupt(stored, "a timer")??))
    })
}

pub(super) fn next_timer(view: &View<'_>, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let Some(from) = keys::end_of(&keys::time_bytes(now)) else { return Ok(None) };
    let next = view.table(Name::TimersDue)?.scan(&from, None, 1, |key, _| due(key).map(Some))?;
    Ok(next.first().copied())
}

/// Exceptions in one part of the table, and the key after which the next part begins; none at the end. A part is so many rows at
/// most, however few of them pass: a read keeps the writer waiting.
pub(super) fn exceptions(
    view: &View<'_>,
    filter: &ExceptionFilter,
    after: Option<&[u8]>,
) -> Result<(Vec<ExceptionRow>, Option<Vec<u8>>), Failure> {
    let prefix = filter.kind.as_ref().map(|kind| format!("{kind}/")).unwrap_or_default();
    let after = after.or_else(|| filter.after.as_deref().map(str::as_bytes));
    let from = after.map_or_else(Vec::new, |after| [after, &[0]].concat()).max(prefix.clone().into_bytes());
    let to = keys::end_of(prefix.as_bytes());
    let (mut last, mut passed) = (None, Vec::new());
    let seen = view.table(Name::Exceptions)?.scan(&from, to.as_deref(), PART, |key, value| {
        if passed.len() < filter.limit {
            let row = codec::decode(Schema::ExceptionRow, value).map_err(rows::unreadable)?;
            passed.extend(Some(row).filter(|row| passes(filter, row)));
            last = Some(key.to_vec());
        }
        Ok(Some(()))
    })?;
    let more = seen.len() == PART && passed.len() < filter.limit;
    Ok((passed, last.filter(|_| more)))
}

pub(super) fn find(view: &View<'_>, term: &str, limit: usize) -> Result<Vec<EntityId>, Failure> {
    view.table(Name::Terms)?
        .below(&keys::term(term), limit, |entity, _| corrupt(keys::read_entity(entity), "a term"))
}

pub(super) fn heads(
    view: &View<'_>,
    kind: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Head>, Failure> {
    let prefix = format!("{kind}/").into_bytes();
    // The entity `after` itself ends in zero.
    let from = after.map_or_else(|| prefix.clone(), |after| [&prefix, after.as_bytes(), &[1]].concat());
    let to = keys::end_of(&prefix);
    view.table(Name::Heads)?.scan(&from, to.as_deref(), limit, |key, value| {
        let entity = corrupt(keys::read_entity(key), "where an entity stands")?;
        Ok(Some(StoredHead::read(value)?.of(entity)))
    })
}

pub(super) fn census(view: &View<'_>) -> Result<BTreeMap<(String, String), u64>, Failure> {
    let counts = view.table(Name::Census)?.below(&[], usize::MAX, |key, value| {
        let (kind, status) = corrupt(keys::read_text(key), "the census")?;
        let status = corrupt(std::str::from_utf8(status).ok(), "the census")?;
        Ok(((kind.to_owned(), status.to_owned()), count_of(value)))
    })?;
    Ok(counts.into_iter().filter(|((kind, _), _)| kind != keys::TALLIES).collect())
}

/// The counters of the standing balance.
pub(super) fn tallies(view: &View<'_>) -> Result<BTreeMap<String, u64>, Failure> {
    let prefix = keys::status(keys::TALLIES, "");
    let counts = view.table(Name::Census)?.below(&prefix, usize::MAX, |key, value| {
        let key = corrupt(std::str::from_utf8(key).ok(), "a counter")?;
        Ok((key.to_owned(), count_of(value)))
    })?;
    Ok(counts.into_iter().collect())
}

pub(super) fn orders(view: &View<'_>) -> Result<BTreeMap<String, String>, Failure> {
    let kept = view.table(Name::Meta)?.below(&keys::order(""), usize::MAX, |key, value| {
        let name = corrupt(std::str::from_utf8(key).ok(), "an order")?;
        let value = corrupt(std::str::from_utf8(value).ok(), "an order")?;
        Ok((name.to_owned(), value.to_owned()))
    })?;
    Ok(kept.into_iter().collect())
}

pub(super) fn definitions(view: &View<'_>) -> Result<BTreeMap<(String, u32), String>, Failure> {
    let kept = view.table(Name::Definitions)?.below(&[], usize::MAX, |key, value| {
        let (kind, version) = corrupt(keys::read_text(key), "a definition")?;
        let version = corrupt(version.try_into().ok(), "a definition")?;
        let text = corrupt(std::str::from_utf8(value).ok(), "a definition")?;
        Ok(((kind.to_owned(), u32::from_be_bytes(version)), text.to_owned()))
    })?;
    Ok(kept.into_iter().collect())
}

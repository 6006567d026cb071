//! The journal's calls as calls of functions, and their answers as values.

use std::collections::BTreeMap;

use redis::Value;
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{OutboxRow, Progress};
use syncline_actors::time::Timestamp;

use super::functions::Call;
use super::{names, reply};
use crate::codec::{self, Schema};
use crate::journal::rows::{self, StoredEffect, StoredHead};
use crate::journal::share::{Ask, Share, ShareRate};
use crate::journal::{Append, Depth, Error, Head, Holding, Loaded, keys};

/// Bytes of a stored effect before what all stores keep: whether it is uncertain, whether it is called off.
const FLAGS: usize = 2;

/// `append`. Fails when a row is too large for a frame.
pub(super) fn append(lease: String, append: &Append) -> Result<Call, Error> {
    let entity = names::entity(&append.entity);
    let answer = codec::encode(Schema::Answer, &append.answer).map_err(rows::unwritable)?;
    let mut call = Call::fenced("append", lease, append.epoch.0).telling_again();
    // No record comes before the first, so nothing can be at the place before `seq` 0.
    call.push(append.seq.checked_sub(1).unwrap_or(u64::MAX).to_be_bytes())
        .push(append.seq.to_be_bytes())
        .push(append.prev.0)
        .push(append.hash.0)
        .push(&append.frame)
        .push(rows::head_value(append))
        .push(&entity)
        .push(append.entity.kind());
    time(&mut call, append.at);
    call.push(if append.ended { "1" } else { "0" });
    call.number(append.dedup.len());
    for key in &append.dedup {
        call.push(names::known(&key.scope, &key.id)).push(rows::dedup_value(key.expires, &answer));
        call.push(key.expires.map_or_else(String::new, |expires| expires.0.to_string()));
    }
    push_rows(&mut call, append)?;
    call.number(append.terms.len());
    for term in &append.terms {
        call.push([keys::term(term), keys::entity(&append.entity)].concat());
    }
    call.number(append.rows.tallies.len());
    for key in &append.rows.tallies {
        call.push(key);
    }
    Ok(call)
}

fn push_rows(call: &mut Call, append: &Append) -> Result<(), Error> {
    let rows = &append.rows;
    effects(call, &rows.settled);
    call.number(rows.emitted.len());
    for row in &rows.emitted {
        let connector = row.lane();
        let fixed = rows::encoded(Schema::OutboxRow, row)?;
        let mut value = vec![u8::from(row.progress.uncertain), u8::from(row.progress.called_off)];
        value.extend(rows::effect_value(&connector, &row.progress, &fixed)?);
        call.push(names::effect(row.effect.id)).push(&connector).number(row.progress.due.0).push(value);
    }
    effects(call, &rows.called_off);
    call.number(rows.timers_cleared.len());
    for name in &rows.timers_cleared {
        call.push(name.as_bytes());
    }
    call.number(rows.timers_set.len());
    for row in &rows.timers_set {
        call.push(row.name.as_bytes()).number(row.due.0).push(rows::timer_value(row)?);
    }
    call.number(rows.closed.len());
    for number in &rows.closed {
        call.push(format!("{}#{number}", append.entity));
    }
    call.number(rows.opened.len());
    for row in &rows.opened {
        call.push(row.id()).push(rows::encoded(Schema::ExceptionRow, row)?);
    }
    Ok(())
}

fn effects(call: &mut Call, effects: &[EffectId]) {
    call.number(effects.len());
    for effect in effects {
        call.push(names::effect(*effect));
    }
}

/// A time as bytes that sort, and in milliseconds.
pub(super) fn time(call: &mut Call, time: Timestamp) {
    call.push(keys::time_bytes(time)).number(time.0);
}

pub(super) fn progress(
    lease: String,
    epoch: Epoch,
    entity: &EntityId,
    effect: EffectId,
    progress: &Progress,
) -> Result<Call, Error> {
    let mut call =
        Call::fenced("progress", lease, epoch.0).arg(names::entity(entity)).arg(names::effect(effect));
    time(&mut call, progress.due);
    call.push([u8::from(progress.uncertain)]).push([u8::from(progress.called_off)]);
    call.push(rows::encoded(Schema::Progress, progress)?);
    Ok(call)
}

/// An effect that waits. Its flags and time are those that the server keeps: it may have changed them.
pub(super) fn read_effect(value: &[u8]) -> Result<OutboxRow, Error> {
    let (flags, stored) =
        value.split_at_checked(FLAGS).ok_or_else(|| rows::malformed("an effect that waits"))?;
    let stored = StoredEffect::read(stored)?;
    let due = stored.due;
    let mut row = stored.row()?;
    row.progress.due = due;
    row.progress.called_off = flags[1] == 1;
    Ok(row)
}

pub(super) fn read_outbox(value: Value) -> Result<Vec<OutboxRow>, Error> {
    let mut found = BTreeMap::new();
    for (effect, row) in reply::pairs(reply::list("outbox", value)?) {
        found.insert(reply::bytes("outbox", effect)?, read_effect(&reply::bytes("outbox", row)?)?);
    }
    Ok(found.into_values().collect())
}

pub(super) fn read_holding(shard: ShardId, value: Value) -> Result<Holding, Error> {
    let mut parts = reply::list("holder", value)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let epoch = Epoch(reply::number("holder", next())?);
    let node = reply::text("holder", next())?;
    let boot = reply::number("holder", next())?;
    let left_ms = reply::number("holder", next())?;
    let suspect = Some(reply::text("holder", next())?).filter(|why| !why.is_empty());
    let node = (!node.is_empty()).then(|| NodeId(node.into()));
    Ok(Holding { shard, epoch, node, boot, left: Some(std::time::Duration::from_millis(left_ms)), suspect })
}

/// Snapshot, head and records after the snapshot; they must meet.
pub(super) fn read_loaded(entity: &EntityId, value: Value) -> Result<Loaded, Error> {
    let mut parts = reply::list("load", value)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let (snapshot, head) = (reply::bytes("load", next())?, reply::bytes("load", next())?);
    let tail = reply::list("load", next())?.into_iter().map(|frame| reply::frame("load", frame));
    let tail = tail.collect::<Result<Vec<_>, _>>()?;
    if head.is_empty() {
        return Ok(Loaded::default());
    }
    let head = StoredHead::read(&head)?;
    let snapshot = if snapshot.is_empty() { None } else { Some(rows::read_snapshot(&snapshot)?) };
    let folded = snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
    if folded + tail.len() as u64 != head.seq {
        let seq = folded + 1;
        return Err(Error::Corrupt(format!(
            "record {seq} of {entity} is missing: keep the store as it is and restore a backup"
        )));
    }
    Ok(Loaded { snapshot, tail })
}

pub(super) fn read_heads(value: Value) -> Result<Vec<Head>, Error> {
    let pairs = reply::pairs(reply::list("heads", value)?);
    pairs
        .map(|(entity, head)| {
            let entity = reply::entity("heads", &reply::bytes("heads", entity)?)?;
            Ok(StoredHead::read(&reply::bytes("heads", head)?)?.of(entity))
        })
        .collect()
}

pub(super) fn read_depths(value: Value) -> Result<Vec<(String, Depth)>, Error> {
    let connectors = reply::list("depths", value)?.into_iter();
    connectors
        .map(|connector| {
            let mut parts = reply::list("depths", connector)?.into_iter();
            let mut next = || parts.next().unwrap_or(Value::Nil);
            let name = reply::text("depths", next())?;
            let waiting = reply::number("depths", next())?;
            let oldest = Some(score(next())?);
            Ok((name, Depth { waiting, oldest }))
        })
        .collect()
}

/// A time that orders a list. Redis keeps it as a float: whole numbers up to 2^53 are exact, and times are far below.
pub(super) fn score(value: Value) -> Result<Timestamp, Error> {
    reply::number("a score", value).map(Timestamp)
}

pub(super) fn read_orders(value: Value) -> Result<BTreeMap<String, String>, Error> {
    const WHAT: &str = "orders";
    let pairs = reply::pairs(reply::list(WHAT, value)?);
    pairs.map(|(key, value)| Ok((reply::text(WHAT, key)?, reply::text(WHAT, value)?))).collect()
}

pub(super) fn share(key: String, ask: &Ask) -> Call {
    let rate = ask.rate.unwrap_or(ShareRate { calls: 0, per_ms: 0, burst: 0 });
    let mut call = Call::writing("share", key).arg(&ask.node);
    call.number(rate.calls).number(rate.per_ms).number(rate.burst);
    call.number(ask.slots_max).number(ask.tokens).number(ask.back).number(ask.using).number(ask.want);
    call.number(ask.throttled_ms).number(ask.open_ms);
    call.number(u8::from(ask.closed)).number(u8::from(ask.tries)).number(ask.lease_ms);
    call.number(u8::from(ask.rate.is_some()));
    call
}

pub(super) fn read_share(value: Value) -> Result<Share, Error> {
    const WHAT: &str = "a share";
    let numbers = reply::list(WHAT, value)?.into_iter().map(|value| reply::number::<u64>(WHAT, value));
    let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
    let [tokens, slots, closed_ms, broken, trial, token_in_ms] = numbers[..] else {
        return Err(Error::Corrupt(format!("redis answered {WHAT} with {} numbers", numbers.len())));
    };
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Share {
        tokens: small(tokens),
        slots: small(slots),
        closed_ms,
        broken: broken == 1,
        trial: trial == 1,
        token_in_ms,
    })
}

pub(super) fn read_definitions(value: Value) -> Result<BTreeMap<(String, u32), String>, Error> {
    const WHAT: &str = "definitions";
    let pairs = match value {
        Value::Map(pairs) => pairs,
        other => reply::pairs(reply::list(WHAT, other)?).collect(),
    };
    let mut found = BTreeMap::new();
    for (key, text) in pairs {
        let key = reply::bytes(WHAT, key)?;
        let parts = || {
            let (kind, version) = keys::read_text(&key)?;
            Some((kind.to_owned(), u32::from_be_bytes(version.try_into().ok()?)))
        };
        let name = parts().ok_or_else(|| rows::malformed("a definition"))?;
        found.insert(name, reply::text(WHAT, text)?);
    }
    Ok(found)
}

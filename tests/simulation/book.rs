//! What the world knows of the store, written down apart from it as each record lands, and checked on the spot.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline::codec;
use syncline::journal::{Append, Snapshot};
use syncline_actors::decision::{Change, Effect, Verdict};
use syncline_actors::entity::State;
use syncline_actors::envelope::{Body, OutcomeClass};
use syncline_actors::id::{EffectId, EntityId, Epoch, ShardId};
use syncline_actors::record::{Hash, Record};
use syncline_actors::time::Timestamp;

/// An entity, folded from empty by the world itself.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) records: Vec<Record>,
    pub(crate) state: State,
    pub(crate) last: Hash,
    /// The state's bytes after each record, hashed.
    pub(crate) prints: Vec<Hash>,
    /// Where each message is.
    pub(crate) messages: BTreeMap<(Arc<str>, Arc<str>), u64>,
    /// Where each business key took effect.
    pub(crate) business: BTreeMap<(Arc<str>, Arc<str>), u64>,
}

impl Kept {
    /// The record that holds a message.
    pub(crate) fn message(&self, source: &str, id: &str) -> Option<&Record> {
        let seq = self.messages.get(&(source.into(), id.into()))?;
        self.record(*seq)
    }

    pub(crate) fn record(&self, seq: u64) -> Option<&Record> {
        self.records.get(usize::try_from(seq).unwrap().checked_sub(1)?)
    }
}

/// An effect that a record has emitted.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) entity: EntityId,
    pub(crate) effect: Effect,
    /// How it ended last, if it has.
    pub(crate) ended: Option<OutcomeClass>,
}

/// What the world knows of the store.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) entities: BTreeMap<EntityId, Kept>,
    pub(crate) epochs: BTreeMap<ShardId, Epoch>,
    /// By idempotency key.
    pub(crate) effects: BTreeMap<String, Known>,
}

/// The business key of a message, as the process names it.
pub(crate) fn business_key(body: &Body) -> Option<(Arc<str>, Arc<str>)> {
    let field = match body.name() {
        "order.placed" => "reference",
        "parcel.shipped" => "parcel",
        _ => return None,
    };
    let key = body.data()?.get(field)?.to_plain_text();
    Some((body.name().into(), key.into()))
}

pub(crate) fn print(state: &State) -> Hash {
    Hash::of(&codec::encode_state(state).expect("states of the simulation are small"))
}

macro_rules! must {
    ($holds:expr, $($told:tt)+) => { if !$holds { return Err(format!($($told)+)); } };
}

impl Book {
    /// A shard was given out.
    pub(crate) fn granted(&mut self, shard: ShardId, epoch: Epoch) -> Result<(), String> {
        let before = self.epochs.insert(shard, epoch);
        must!(
            before.is_none_or(|before| before < epoch),
            "I2: epoch {epoch} of {shard} was given after {before:?}"
        );
        Ok(())
    }

    /// A record is durable.
    pub(crate) fn landed(
        &mut self,
        append: &Append,
        now: Timestamp,
        applied: &dyn Fn(&str) -> u64,
    ) -> Result<(), String> {
        let entity = &append.entity;
        let kept = self.entities.entry(entity.clone()).or_default();
        let seq = kept.state.seq + 1;
        let record =
            codec::decode_record(&append.frame).map_err(|why| format!("I4: {entity}#{seq}: {why}"))?;
        let hash = codec::record_hash(&append.frame).map_err(|why| format!("I4: {entity}#{seq}: {why}"))?;
        let current = self.epochs.get(&entity.shard()).copied();
        must!(record.seq == seq, "I4: {entity}#{} stands where {seq} should", record.seq);
        must!(record.prev == kept.last && hash == append.hash, "I4: the chain of {entity} breaks at {seq}");
        must!(
            Some(record.epoch) == current,
            "I3: {entity}#{seq} is of epoch {}, now is {current:?}",
            record.epoch
        );
        must!(
            kept.records.last().is_none_or(|last| last.epoch <= record.epoch),
            "I2: {entity}#{seq} is of epoch {}, lower than the one before",
            record.epoch
        );
        must!(record.envelope.subject == *entity, "I4: {entity}#{seq} is of {}", record.envelope.subject);
        must!(record.answer.seq == seq, "I5: {entity}#{seq} answers with {}", record.answer.seq);
        let id = (record.envelope.source.clone(), record.envelope.id.clone());
        let before = kept.messages.insert(id, seq);
        must!(
            before.is_none(),
            "I5: {entity}#{seq} holds the message of {before:?} once more: {:?}",
            record.envelope
        );
        if let Some(key) = business_key(&record.envelope.body)
            && matches!(record.answer.verdict, Verdict::Applied | Verdict::Deferred)
        {
            let before = kept.business.insert(key.clone(), seq);
            must!(before.is_none(), "I5: {entity}#{seq} takes {key:?} in once more after {before:?}");
        }
        due(&kept.state, &record, now)?;
        kept.state.fold(&record);
        if let Body::Timer(fired) = &record.envelope.body {
            let running = kept.state.timers.get(&fired.name);
            must!(
                running.is_none_or(|(token, _)| *token != fired.token),
                "I10: {entity}#{seq} fires {fired:?}, which runs on"
            );
        }
        kept.last = hash;
        kept.prints.push(print(&kept.state));
        for change in &record.changes {
            effect(&mut self.effects, entity, &record, change, applied)?;
        }
        kept.records.push(record);
        Ok(())
    }

    /// A snapshot is about to be kept.
    pub(crate) fn snapshot(&self, entity: &EntityId, snapshot: &Snapshot) -> Result<(), String> {
        let state: State =
            codec::decode_state(&snapshot.frame).map_err(|why| format!("I7: snapshot of {entity}: {why}"))?;
        let place = usize::try_from(snapshot.seq).unwrap().checked_sub(1);
        let expected = self.entities.get(entity).and_then(|kept| kept.prints.get(place?));
        must!(
            expected == Some(&Hash::of(&snapshot.frame)) && state.seq == snapshot.seq,
            "I7: the snapshot of {entity} after {} is not what its records give",
            snapshot.seq
        );
        Ok(())
    }

    /// A call leaves under `key`.
    pub(crate) fn leaves(&self, key: &str, connector: &str, operation: &str) -> Result<&Known, String> {
        let known = self.effects.get(key);
        let known = known.ok_or_else(|| {
            format!("I8: {connector}.{operation} leaves under {key}, which no durable record has emitted")
        })?;
        let effect = &known.effect;
        must!(
            *effect.connector == *connector && *effect.operation == *operation,
            "I8: {connector}.{operation} leaves under {key}, which is of {}.{}",
            effect.connector,
            effect.operation
        );
        Ok(known)
    }
}

/// A timer or an outcome on record: it was waited for, and a timer was due.
fn due(state: &State, record: &Record, now: Timestamp) -> Result<(), String> {
    let place = || format!("{}#{}", record.envelope.subject, record.seq);
    if let Body::Timer(fired) = &record.envelope.body {
        let running = state.timers.get(&fired.name);
        must!(
            running.is_some_and(|(token, _)| *token == fired.token),
            "I10: {} fires {fired:?}, but what runs is {running:?}",
            place()
        );
        let due = running.map_or(now, |(_, due)| *due);
        must!(
            due <= now && due <= record.envelope.at,
            "I10: {} fires {} at {now}, due {due}",
            place(),
            fired.name
        );
    }
    if let Body::Outcome(outcome) = &record.envelope.body {
        must!(
            state.pending.contains_key(&outcome.effect),
            "I8: {} ends {} once more",
            place(),
            outcome.effect
        );
    }
    Ok(())
}

pub(crate) fn effect(
    effects: &mut BTreeMap<String, Known>,
    entity: &EntityId,
    record: &Record,
    change: &Change,
    applied: &dyn Fn(&str) -> u64,
) -> Result<(), String> {
    match change {
        Change::Emitted(effect) => {
            let key = effect.id.idempotency_key(entity);
            let known = Known { entity: entity.clone(), effect: effect.clone(), ended: None };
            let before = effects.insert(key.clone(), known);
            must!(before.is_none(), "I8: {entity}#{} emits {key} once more", record.seq);
        }
        Change::Reissued(effect) => {
            let known = effects.get_mut(&effect.id.idempotency_key(entity));
            known.ok_or_else(|| format!("I8: {entity}#{} issues {} anew", record.seq, effect.id))?.ended =
                None;
        }
        Change::Settled { effect, class, .. } => ended(effects, entity, *effect, *class, applied)?,
        _ => {}
    }
    Ok(())
}

fn ended(
    effects: &mut BTreeMap<String, Known>,
    entity: &EntityId,
    effect: EffectId,
    class: OutcomeClass,
    applied: &dyn Fn(&str) -> u64,
) -> Result<(), String> {
    let key = effect.idempotency_key(entity);
    let known = effects.get_mut(&key).ok_or_else(|| format!("I8: {key} ends, and was never emitted"))?;
    known.ended = Some(class);
    let applied = applied(&key);
    must!(
        class != OutcomeClass::Ok || applied == 1,
        "I8: {key} is ok on record, and applied {applied} times"
    );
    Ok(())
}

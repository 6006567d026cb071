//! The maps of the journal in memory, and what each call does to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use syncline_actors::decision::Answer;
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, Progress, Rows, TimerRow};
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;

use super::{Audit, Written};
use crate::journal::share::{Ask, Share, Shares};
use crate::journal::{
    Append, Appended, Compacted, DedupKey, Depth, Error, ExceptionFilter, Grant, Head, Holding, Loaded,
    ORDERS_MAX, Snapshot, call_off, changed_definition, check_order, merge, passes, too_many_orders,
};

/// An effect's place among those due: equal times in the order of shards, entities and effects.
type EffectDue = (Timestamp, ShardId, EntityId, EffectId);

/// Whose rows are asked for.
pub(super) type Shards<'a> = &'a dyn Fn(ShardId) -> bool;

/// Scope and id.
type Key = (Arc<str>, Arc<str>);

/// Where an entity without records stands.
const NOWHERE: (u64, Hash) = (0, Hash([0; 32]));

/// Everything that is kept.
#[derive(Debug, Default, Clone)]
pub(super) struct Store {
    /// The last epoch of each shard, and who holds it.
    epochs: BTreeMap<ShardId, (Epoch, Option<NodeId>)>,
    entities: BTreeMap<EntityId, Entity>,
    /// By lane: what is due when.
    effects_due: BTreeMap<Arc<str>, BTreeSet<EffectDue>>,
    timers_due: BTreeSet<(Timestamp, ShardId, EntityId, Arc<str>)>,
    pub(super) tallies: BTreeMap<String, u64>,
    /// By `ExceptionRow::id`.
    exceptions: BTreeMap<String, ExceptionRow>,
    terms: BTreeMap<Arc<str>, BTreeSet<EntityId>>,
    pub(super) definitions: BTreeMap<(String, u32), String>,
    pub(super) orders: BTreeMap<String, String>,
    shares: BTreeMap<String, Shares>,
    pub(super) audit: Audit,
}

#[derive(Debug, Default, Clone)]
struct Entity {
    head: Option<EntityHead>,
    records: BTreeMap<u64, Bytes>,
    snapshot: Option<Snapshot>,
    /// By (scope, id): until when, and the first answer.
    dedup: BTreeMap<Key, (Option<Timestamp>, Answer)>,
    outbox: BTreeMap<EffectId, OutboxRow>,
    timers: BTreeMap<Arc<str>, TimerRow>,
}

#[derive(Debug, Clone)]
struct EntityHead {
    seq: u64,
    hash: Hash,
    status: Arc<str>,
    ended: bool,
    updated_at: Timestamp,
}

impl Entity {
    /// Place and hash of the last record; zeros before the first.
    fn position(&self) -> (u64, Hash) {
        self.head.as_ref().map_or(NOWHERE, |head| (head.seq, head.hash))
    }

    /// The first of `keys` that is known, by its place, and the answer to it.
    fn known(&self, keys: &[DedupKey], at: Timestamp) -> Option<(usize, Answer)> {
        keys.iter().enumerate().find_map(|(place, key)| {
            let (expires, answer) = self.dedup.get(&(key.scope.clone(), key.id.clone()))?;
            expires.is_none_or(|expires| expires >= at).then(|| (place, answer.clone()))
        })
    }

    fn remember(&mut self, key: &DedupKey, answer: &Answer) {
        self.dedup.insert((key.scope.clone(), key.id.clone()), (key.expires, answer.clone()));
    }
}

impl Store {
    pub(super) fn acquire(&mut self, shards: &[ShardId], node: &NodeId) -> Vec<Grant> {
        let mut grants = Vec::with_capacity(shards.len());
        for shard in shards {
            let held = self.epochs.entry(*shard).or_default();
            *held = (Epoch(held.0.0 + 1), Some(node.clone()));
            let grant = Grant { shard: *shard, epoch: held.0 };
            self.audit.grants.push((grant, node.clone()));
            grants.push(grant);
        }
        grants
    }

    pub(super) fn check(&self, shard: ShardId, held: Epoch) -> Result<(), Error> {
        match self.epochs.get(&shard) {
            Some((current, Some(_))) if *current == held => Ok(()),
            other => {
                let current = other.map_or(Epoch(0), |(current, _)| *current);
                Err(Error::Fenced { shard, held, current })
            }
        }
    }

    /// From now on `node` holds `shard` under `epoch`, or nobody.
    pub(super) fn hold(&mut self, shard: ShardId, epoch: Epoch, node: Option<NodeId>) {
        self.epochs.insert(shard, (epoch, node));
    }

    /// Place and hash of an entity's last record; zeros before the first.
    pub(super) fn position(&self, entity: &EntityId) -> (u64, Hash) {
        self.entities.get(entity).map_or(NOWHERE, Entity::position)
    }

    /// Where all entities stand.
    pub(super) fn positions(&self) -> impl Iterator<Item = (&EntityId, (u64, Hash))> {
        self.entities.iter().map(|(id, entity)| (id, entity.position()))
    }

    pub(super) fn release(&mut self, grants: &[Grant]) {
        for grant in grants {
            if self.check(grant.shard, grant.epoch).is_ok() {
                self.epochs.insert(grant.shard, (Epoch(grant.epoch.0 + 1), None));
            }
        }
    }

    pub(super) fn holdings(&self) -> Vec<Holding> {
        let held = |shard| {
            let (epoch, node) = self.epochs.get(&shard).cloned().unwrap_or_default();
            Holding { shard, epoch, node, boot: 0, left: None, suspect: None }
        };
        ShardId::all().map(held).collect()
    }

    pub(super) fn append(&mut self, append: Append) -> Result<Appended, Error> {
        self.check(append.entity.shard(), append.epoch)?;
        let entity = self.entities.get_mut(&append.entity);
        if let Some(entity) = entity
            && let Some((place, answer)) = entity.known(&append.dedup, append.at)
        {
            if place > 0 {
                entity.remember(&append.dedup[0], &answer);
            }
            return Ok(Appended::Duplicate(answer));
        }
        let (seq, hash) = self.entities.get(&append.entity).map_or(NOWHERE, Entity::position);
        if append.seq != seq + 1 || append.prev != hash {
            let expected = append.seq.saturating_sub(1);
            return Err(Error::Conflict { entity: append.entity, expected, found: seq });
        }
        self.write(append);
        Ok(Appended::Written)
    }

    fn write(&mut self, append: Append) {
        for term in &append.terms {
            self.terms.entry(term.clone()).or_default().insert(append.entity.clone());
        }
        let entity = self.entities.entry(append.entity.clone()).or_default();
        entity.records.insert(append.seq, append.frame.clone());
        entity.head = Some(EntityHead {
            seq: append.seq,
            hash: append.hash,
            status: append.answer.status.clone(),
            ended: append.ended,
            updated_at: append.at,
        });
        for key in &append.dedup {
            entity.remember(key, &append.answer);
        }
        self.write_rows(&append.entity, append.rows, append.at);
        self.audit.records.entry(append.entity).or_default().push(Written {
            seq: append.seq,
            epoch: append.epoch,
            prev: append.prev,
            hash: append.hash,
            frame: append.frame,
            dedup: append.dedup,
        });
    }

    /// What ends goes first: an effect that ends and is issued again in one record waits.
    fn write_rows(&mut self, entity: &EntityId, rows: Rows, at: Timestamp) {
        for key in rows.tallies {
            *self.tallies.entry(key).or_default() += 1;
        }
        for effect in rows.settled {
            self.put_effect(entity, effect, None);
        }
        for row in rows.emitted {
            self.put_effect(entity, row.effect.id, Some(row));
        }
        for effect in rows.called_off {
            if let Some(mut row) = self.effect(entity, effect) {
                call_off(&mut row.progress, at);
                self.put_effect(entity, effect, Some(row));
            }
        }
        for name in rows.timers_cleared {
            self.put_timer(entity, &name, None);
        }
        for row in rows.timers_set {
            self.put_timer(entity, &row.name.clone(), Some(row));
        }
        for number in rows.closed {
            self.exceptions.remove(&format!("{entity}#{number}"));
        }
        for row in rows.opened {
            self.exceptions.insert(row.id(), row);
        }
    }

    fn effect(&self, entity: &EntityId, effect: EffectId) -> Option<OutboxRow> {
        self.entities.get(entity)?.outbox.get(&effect).cloned()
    }

    fn put_effect(&mut self, entity: &EntityId, effect: EffectId, row: Option<OutboxRow>) {
        let place = |due| (due, entity.shard(), entity.clone(), effect);
        let outbox = &mut self.entities.entry(entity.clone()).or_default().outbox;
        if let Some(old) = outbox.remove(&effect)
            && let Some(due) = self.effects_due.get_mut(&*old.lane())
        {
            due.remove(&place(old.progress.due));
        }
        if let Some(row) = row {
            let due = self.effects_due.entry(row.lane().into()).or_default();
            due.insert(place(row.progress.due));
            outbox.insert(effect, row);
        }
    }

    fn put_timer(&mut self, entity: &EntityId, name: &Arc<str>, row: Option<TimerRow>) {
        let place = |due| (due, entity.shard(), entity.clone(), name.clone());
        let timers = &mut self.entities.entry(entity.clone()).or_default().timers;
        if let Some(old) = timers.remove(name) {
            self.timers_due.remove(&place(old.due));
        }
        if let Some(row) = row {
            self.timers_due.insert(place(row.due));
            timers.insert(name.clone(), row);
        }
    }

    pub(super) fn load(&self, entity: &EntityId) -> Loaded {
        let Some(entity) = self.entities.get(entity) else { return Loaded::default() };
        let snapshot = entity.snapshot.clone();
        let from = snapshot.as_ref().map_or(1, |snapshot| snapshot.seq + 1);
        Loaded { snapshot, tail: entity.records.range(from..).map(|(_, frame)| frame.clone()).collect() }
    }

    pub(super) fn records(&self, entity: &EntityId, from: u64, limit: usize) -> Vec<Bytes> {
        let Some(entity) = self.entities.get(entity) else { return Vec::new() };
        entity.records.range(from..).take(limit).map(|(_, frame)| frame.clone()).collect()
    }

    pub(super) fn save_snapshot(
        &mut self,
        epoch: Epoch,
        id: &EntityId,
        snapshot: Snapshot,
    ) -> Result<(), Error> {
        self.check(id.shard(), epoch)?;
        let (seq, hash) = self.entities.get(id).map_or(NOWHERE, Entity::position);
        if snapshot.seq == 0 || snapshot.seq > seq || (snapshot.seq == seq && snapshot.hash != hash) {
            return Err(Error::Conflict { entity: id.clone(), expected: snapshot.seq, found: seq });
        }
        let entity = self.entities.entry(id.clone()).or_default();
        if entity.snapshot.as_ref().is_none_or(|kept| kept.seq <= snapshot.seq) {
            entity.snapshot = Some(snapshot);
        }
        Ok(())
    }

    pub(super) fn trim(&mut self, epoch: Epoch, id: &EntityId, keep: u64) -> Result<u64, Error> {
        self.check(id.shard(), epoch)?;
        let Some(entity) = self.entities.get_mut(id) else { return Ok(0) };
        let folded = entity.snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
        let last = entity.position().0.saturating_sub(keep).min(folded);
        let before = entity.records.len();
        entity.records.retain(|seq, _| *seq > last);
        Ok((before - entity.records.len()) as u64)
    }

    pub(super) fn due_effects(
        &self,
        connector: &str,
        now: Timestamp,
        limit: usize,
        of: Shards<'_>,
    ) -> Vec<OutboxRow> {
        let due = self.effects_due.get(connector).into_iter().flatten();
        due.take_while(|(due, ..)| *due <= now)
            .filter(|(_, shard, ..)| of(*shard))
            .take(limit)
            .map(|(_, _, entity, effect)| self.effect(entity, *effect).expect("the index names what waits"))
            .collect()
    }

    pub(super) fn next_effect(&self, connector: &str, now: Timestamp, of: Shards<'_>) -> Option<Timestamp> {
        let due = self.effects_due.get(connector)?.iter().find(|(due, shard, ..)| *due > now && of(*shard));
        due.map(|(due, ..)| *due)
    }

    pub(super) fn outbox_of(&self, entity: &EntityId) -> Vec<OutboxRow> {
        let Some(entity) = self.entities.get(entity) else { return Vec::new() };
        entity.outbox.values().cloned().collect()
    }

    pub(super) fn progress(
        &mut self,
        epoch: Epoch,
        entity: &EntityId,
        effect: EffectId,
        progress: Progress,
    ) -> Result<bool, Error> {
        self.check(entity.shard(), epoch)?;
        let Some(mut row) = self.effect(entity, effect) else { return Ok(false) };
        let progress = merge(&row.progress, progress);
        row.progress = progress;
        self.put_effect(entity, effect, Some(row));
        Ok(true)
    }

    pub(super) fn depths(&self, of: Shards<'_>) -> BTreeMap<String, Depth> {
        let depth = |(connector, due): (&Arc<str>, &BTreeSet<EffectDue>)| {
            let mut waiting = due.iter().filter(|(_, shard, ..)| of(*shard));
            let oldest = waiting.next().map(|(due, ..)| *due)?;
            Some((connector.to_string(), Depth { waiting: 1 + waiting.count() as u64, oldest: Some(oldest) }))
        };
        self.effects_due.iter().filter_map(depth).collect()
    }

    pub(super) fn due_timers(&self, now: Timestamp, limit: usize, of: Shards<'_>) -> Vec<TimerRow> {
        let due = self.timers_due.iter().take_while(|(due, ..)| *due <= now);
        let due = due.filter(|(_, shard, ..)| of(*shard)).take(limit);
        due.map(|(_, _, entity, name)| self.entities[entity].timers[name].clone()).collect()
    }

    pub(super) fn next_timer(&self, now: Timestamp, of: Shards<'_>) -> Option<Timestamp> {
        self.timers_due.iter().find(|(due, shard, ..)| *due > now && of(*shard)).map(|(due, ..)| *due)
    }

    pub(super) fn exceptions(&self, filter: &ExceptionFilter) -> Vec<ExceptionRow> {
        let rows = self.exceptions.iter();
        rows.filter(|(id, _)| filter.after.as_ref().is_none_or(|after| *id > after))
            .map(|(_, row)| row)
            .filter(|row| passes(filter, row))
            .take(filter.limit)
            .cloned()
            .collect()
    }

    pub(super) fn find(&self, term: &str, limit: usize) -> Vec<EntityId> {
        self.terms.get(term).into_iter().flatten().take(limit).cloned().collect()
    }

    pub(super) fn heads(&self, kind: &str, after: Option<&str>, limit: usize) -> Vec<Head> {
        let entities = self.entities.iter().filter(|(id, _)| id.kind() == kind);
        entities
            .filter(|(id, _)| after.is_none_or(|after| id.key() > after))
            .filter_map(|(id, entity)| {
                let EntityHead { seq, status, ended, updated_at, .. } = entity.head.clone()?;
                Some(Head { entity: id.clone(), seq, status, ended, updated_at })
            })
            .take(limit)
            .collect()
    }

    pub(super) fn census(&self) -> BTreeMap<(String, String), u64> {
        let mut census = BTreeMap::new();
        for (id, entity) in &self.entities {
            if let Some(head) = &entity.head {
                *census.entry((id.kind().to_owned(), head.status.to_string())).or_default() += 1;
            }
        }
        census
    }

    pub(super) fn order(&mut self, key: &str, value: Option<&str>) -> Result<(), Error> {
        check_order(key, value)?;
        match value {
            None => {
                self.orders.remove(key);
            }
            Some(_) if self.orders.len() >= ORDERS_MAX && !self.orders.contains_key(key) => {
                return Err(too_many_orders());
            }
            Some(value) => {
                self.orders.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn share(&mut self, ask: &Ask, now: i64) -> Share {
        self.shares.entry(ask.connector.clone()).or_default().give(ask, now)
    }

    pub(super) fn keep_definition(&mut self, kind: &str, version: u32, text: &str) -> Result<(), Error> {
        let kept = self.definitions.entry((kind.to_owned(), version)).or_insert_with(|| text.to_owned());
        if kept == text { Ok(()) } else { Err(changed_definition(kind, version)) }
    }

    pub(super) fn compact(&mut self, now: Timestamp, ended_before: Timestamp, of: Shards<'_>) -> Compacted {
        let mut compacted = Compacted::default();
        for (_, entity) in self.entities.iter_mut().filter(|(id, _)| of(id.shard())) {
            let remembered = entity.dedup.len();
            entity.dedup.retain(|_, (expires, _)| expires.is_none_or(|expires| expires >= now));
            compacted.dedup += (remembered - entity.dedup.len()) as u64;
            let Some(head) = &entity.head else { continue };
            let folded = entity.snapshot.as_ref().is_some_and(|snapshot| snapshot.seq == head.seq);
            if head.ended && head.updated_at < ended_before && folded {
                compacted.records += entity.records.len() as u64;
                entity.records.clear();
            }
        }
        compacted
    }
}

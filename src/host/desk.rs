//! The desk of a shard: the messages for its entities, and what of these is in memory.
//!
//! Whoever has a message puts it here. One for an entity that is hot goes on to the entity's actor at once, without a turn of the
//! shard's; the shard is told only where it must begin an actor. The place of a message in line is the one it was put in: nothing
//! overtakes what waits for an actor.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use ractor::ActorRef;
use syncline_actors::id::EntityId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant};

use super::core::{Core, Counted};
use super::delivery::Delivery;
use super::resident::Resident;
use super::{Error, entity, error, shard};

/// What lies on it. It is closed with its shard's actor.
#[derive(Debug, Default)]
pub(super) struct Desk(Mutex<Table>);

/// The shard has ended, or is fenced.
#[derive(Debug)]
pub(super) struct Closed;

/// The entities of a shard that are in memory, or about to be.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) entries: BTreeMap<EntityId, Entry>,
    order: Order,
    closed: bool,
}

/// Entities in memory by their use, the least recently used first.
#[derive(Debug, Default)]
struct Order {
    /// Hot, or about to rest.
    hot: BTreeMap<u64, EntityId>,
    /// At rest. All are older than those that are hot.
    at_rest: BTreeMap<u64, EntityId>,
    ticks: u64,
}

/// An entity that is in memory, or about to be.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) phase: Phase,
    /// Given to its actor and perhaps not answered, in order.
    pub(super) given: VecDeque<Arc<Delivery>>,
    /// Waits for its next actor.
    pub(super) waiting: VecDeque<Arc<Delivery>>,
    /// Its place in the order of use.
    pub(super) tick: u64,
    used: Instant,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// It waits for room, or for its actor to begin.
    Waiting,
    /// Its actor takes messages.
    Hot(Child),
    /// Its actor finishes what it was given, and leaves its state here.
    ToRest(Child),
    /// It has no actor.
    AtRest(Box<Rested>),
    /// Its actor finishes what it was given. Dropping it ends the count.
    Leaving { child: Child, _counted: Counted },
}

#[derive(Debug)]
pub(super) struct Child {
    pub(super) actor: ActorRef<entity::Message>,
    /// Freed when the entity has left memory.
    pub(super) room: OwnedSemaphorePermit,
}

/// What an actor leaves behind that it would otherwise be rebuilt from.
#[derive(Debug)]
pub(super) struct Rested {
    pub(super) resident: Resident,
    pub(super) room: OwnedSemaphorePermit,
}

impl Desk {
    /// Puts a message in its line; too many from outside for one entity are told to come back. What the shard's actor is to be told.
    pub(super) fn put(&self, core: &Core, delivery: Arc<Delivery>) -> Result<Option<shard::Message>, Closed> {
        let mut table = self.lock();
        let Table { entries, order, closed } = &mut *table;
        if *closed {
            return Err(Closed);
        }
        let Some(entry) = entries.get_mut(&delivery.entity) else {
            let id = delivery.entity.clone();
            entries.insert(id.clone(), Entry::of(delivery));
            return Ok(Some(shard::Message::Begin(id)));
        };
        let bounded = delivery.lane.is_outside() && !delivery.is_condemned();
        if bounded && entry.in_flight() >= core.config.entity_in_flight_max {
            let retry_after = core.config.retry_after;
            delivery.answer(Err(Error::Busy { what: error::MAILBOX, retry_after }));
            return Ok(None);
        }
        order.touch(&delivery.entity, entry);
        let rests = matches!(entry.phase, Phase::AtRest(_));
        let told = rests.then(|| shard::Message::Rouse(delivery.entity.clone()));
        entry.give(delivery);
        Ok(told)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("no code panics while it holds a desk")
    }

    /// Takes nothing more. What lay on it.
    pub(super) fn close(&self) -> BTreeMap<EntityId, Entry> {
        let mut table = self.lock();
        let entries = std::mem::take(&mut table.entries);
        *table = Table { closed: true, ..Table::default() };
        entries
    }
}

impl Table {
    /// Entities in memory.
    pub(super) fn hot(&self) -> usize {
        self.order.hot.len() + self.order.at_rest.len()
    }

    /// The actor of an entity has begun: it gets what waited for it.
    pub(super) fn begin(&mut self, id: &EntityId, child: Child) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.phase = Phase::Hot(child);
        for delivery in std::mem::take(&mut entry.waiting) {
            entry.give(delivery);
        }
        self.order.touch(id, entry);
    }

    /// Lets an entity's actor finish what it was given, end, and leave its state here. `drain`, never `stop`: that would drop what is
    /// queued.
    pub(super) fn lay_to_rest(&mut self, id: &EntityId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        match std::mem::replace(&mut entry.phase, Phase::Waiting) {
            Phase::Hot(child) => {
                let _ = child.actor.drain();
                entry.phase = Phase::ToRest(child);
            }
            other => entry.phase = other,
        }
    }

    /// The actor of an entity has ended: how it stood with it, its place in the order of use, and what it did not answer.
    pub(super) fn without_actor(&mut self, id: &EntityId) -> Option<(Phase, u64, Vec<Arc<Delivery>>)> {
        let entry = self.entries.get_mut(id)?;
        let phase = std::mem::replace(&mut entry.phase, Phase::Waiting);
        let given = std::mem::take(&mut entry.given);
        Some((phase, entry.tick, given.into_iter().filter(|delivery| delivery.is_open()).collect()))
    }

    /// An entity is at rest from now on. Whether something waits for it already.
    pub(super) fn rest(&mut self, id: &EntityId, rested: Rested) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        entry.phase = Phase::AtRest(Box::new(rested));
        self.order.at_rest.extend(self.order.hot.remove_entry(&entry.tick));
        !entry.waiting.is_empty()
    }

    /// What an entity at rest is to begin with; none if it is not at rest.
    pub(super) fn take_rested(&mut self, id: &EntityId) -> Option<Rested> {
        let entry = self.entries.get_mut(id)?;
        match std::mem::replace(&mut entry.phase, Phase::Waiting) {
            Phase::AtRest(rested) => Some(*rested),
            other => {
                entry.phase = other;
                None
            }
        }
    }

    /// Puts a message before all that waits.
    pub(super) fn put_first(&mut self, id: &EntityId, delivery: Arc<Delivery>) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.waiting.push_front(delivery);
        }
    }

    /// Forgets an entity for which nothing waits. Whether that was so.
    pub(super) fn forget_unless_awaited(&mut self, id: &EntityId) -> bool {
        let idle = self.entries.get(id).is_none_or(|entry| entry.waiting.is_empty());
        if idle {
            self.entries.remove(id);
        }
        idle
    }

    /// Every entity in memory, the least recently used first.
    pub(super) fn in_memory(&self) -> Vec<EntityId> {
        self.order.ids().cloned().collect()
    }

    /// Takes an entity out of the order of use.
    pub(super) fn forget_order(&mut self, tick: u64) {
        self.order.hot.remove(&tick);
        self.order.at_rest.remove(&tick);
    }

    /// The least recently used entity that has nothing in flight.
    pub(super) fn least_used(&mut self) -> Option<EntityId> {
        let Self { entries, order, .. } = self;
        order.ids().find(|id| entries.get_mut(*id).is_some_and(Entry::may_leave)).cloned()
    }

    /// Entities at rest that nobody has used for `time`, and when the next one is one of them.
    pub(super) fn idle(&mut self, time: Duration) -> (Vec<EntityId>, Duration) {
        unused(&self.order.at_rest, &mut self.entries, time)
    }

    /// Hot entities that nobody has used for `time`, and when the next one is one of them.
    pub(super) fn resting(&mut self, time: Duration) -> (Vec<EntityId>, Duration) {
        unused(&self.order.hot, &mut self.entries, time)
    }
}

impl Order {
    /// All of them.
    fn ids(&self) -> impl Iterator<Item = &EntityId> {
        self.at_rest.values().chain(self.hot.values())
    }

    /// Marks an entity as used just now.
    fn touch(&mut self, id: &EntityId, entry: &mut Entry) {
        entry.used = Instant::now();
        if let Phase::Hot(_) = entry.phase {
            let kept = self.hot.remove(&entry.tick).or_else(|| self.at_rest.remove(&entry.tick));
            self.ticks += 1;
            entry.tick = self.ticks;
            self.hot.insert(self.ticks, kept.unwrap_or_else(|| id.clone()));
        }
    }
}

/// Of entities in `order` of their use, those that nobody has used for `time` and that have nothing in flight; and when the next one is
/// one of them.
fn unused(
    order: &BTreeMap<u64, EntityId>,
    entries: &mut BTreeMap<EntityId, Entry>,
    time: Duration,
) -> (Vec<EntityId>, Duration) {
    let mut unused = Vec::new();
    for id in order.values() {
        let Some(entry) = entries.get_mut(id) else { continue };
        let age = entry.used.elapsed();
        if age < time {
            return (unused, time.saturating_sub(age));
        }
        if entry.may_leave() {
            unused.push(id.clone());
        }
    }
    (unused, time)
}

impl Entry {
    fn of(delivery: Arc<Delivery>) -> Self {
        let waiting = VecDeque::from([delivery]);
        Self { phase: Phase::Waiting, given: VecDeque::new(), waiting, tick: 0, used: Instant::now() }
    }

    /// Messages that are not answered.
    fn in_flight(&mut self) -> usize {
        while self.given.front().is_some_and(|delivery| !delivery.is_open()) {
            self.given.pop_front();
        }
        self.given.len() + self.waiting.len()
    }

    /// Whether it may be let go of now.
    pub(super) fn may_leave(&mut self) -> bool {
        matches!(self.phase, Phase::Hot(_) | Phase::AtRest(_)) && self.in_flight() == 0
    }

    /// Gives a message to the actor. One that has just panicked does not get it; its successor will.
    pub(super) fn give(&mut self, delivery: Arc<Delivery>) {
        if let Phase::Hot(child) = &self.phase {
            let _ = child.actor.send_message(entity::Message::Deliver(delivery.clone()));
            self.given.push_back(delivery);
        } else {
            self.waiting.push_back(delivery);
        }
    }
}

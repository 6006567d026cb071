//! The actor of one shard: it alone begins, ends and forgets the actors of its entities.
//!
//! An entity waits for room, is hot, rests, or leaves; what comes for it meanwhile waits here. One at rest is in memory without an
//! actor, which is several times as large as the state of most: its next message begins one. The shard keeps each message until it
//! is answered: when an actor panics, what it held is given to the next one in the same order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ractor::actor::messages::BoxedState;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use syncline_actors::entity::State;
use syncline_actors::id::{EntityId, Epoch, ShardId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Duration, Instant};

use super::Error;
use super::core::{ASKED_MAX, Core, Counted};
use super::delivery::Delivery;
use super::entity::{self, Birth, Entity};
use super::observer::count;
use super::resident::Resident;

/// The actor of one shard.
pub(super) struct Shard;

/// In the time after which an unused entity rests, it is looked for so often at most.
const SWEEPS: u32 = 16;

/// What a shard is told.
pub(super) enum Message {
    /// A message for one of its entities.
    Deliver(Arc<Delivery>),
    /// A question for an entity's state: `None` when it is not in memory.
    Read(EntityId, oneshot::Sender<Option<StateAwaited>>),
    /// There is room for an entity that waits for it.
    Room { entity: EntityId, room: OwnedSemaphorePermit },
    /// Let go of an entity, or ask the next shard, at most so many.
    MakeRoom { asked_max: u16 },
    /// An entity has done something, and others wait for room.
    MayLeave(EntityId),
    /// Time to look for idle entities.
    Sweep,
    /// Another node owns the shard.
    Fenced,
    /// Let go of everything, then tell.
    Drain(oneshot::Sender<()>),
    /// The shard was given back.
    End,
}

/// What an entity's actor will tell of its state.
pub(super) type StateAwaited = oneshot::Receiver<Result<Option<State>, Error>>;

/// What a shard holds.
pub(super) struct Held {
    core: Arc<Core>,
    id: ShardId,
    epoch: Epoch,
    entries: BTreeMap<EntityId, Entry>,
    children: BTreeMap<ActorId, EntityId>,
    /// Entities that are hot or about to rest, the least recently used first.
    order: BTreeMap<u64, EntityId>,
    /// Entities at rest, likewise. All are older than those that are hot.
    at_rest: BTreeMap<u64, EntityId>,
    ticks: u64,
    sweeping: bool,
    draining: Option<oneshot::Sender<()>>,
}

/// An entity that is in memory, or about to be.
struct Entry {
    phase: Phase,
    /// Given to its actor and perhaps not answered, in order.
    given: VecDeque<Arc<Delivery>>,
    /// Waits for its next actor.
    waiting: VecDeque<Arc<Delivery>>,
    /// Its place in the order of use.
    tick: u64,
    used: Instant,
}

enum Phase {
    /// It waits for room.
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

struct Child {
    actor: ActorRef<entity::Message>,
    /// Freed when the entity has left memory.
    room: OwnedSemaphorePermit,
}

/// What an actor leaves behind that it would otherwise be rebuilt from.
struct Rested {
    resident: Resident,
    room: OwnedSemaphorePermit,
}

impl Actor for Shard {
    type Msg = Message;
    type State = Held;
    type Arguments = (Arc<Core>, ShardId, Epoch);

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        (core, id, epoch): Self::Arguments,
    ) -> Result<Held, ActorProcessingErr> {
        Ok(Held {
            core,
            id,
            epoch,
            entries: BTreeMap::new(),
            children: BTreeMap::new(),
            order: BTreeMap::new(),
            at_rest: BTreeMap::new(),
            ticks: 0,
            sweeping: false,
            draining: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        held: &mut Held,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Deliver(delivery) => Box::pin(held.deliver(&myself, delivery)).await?,
            Message::Read(entity, reply) => held.read(&entity, reply),
            Message::Room { entity, room } => Box::pin(held.enter(&myself, entity, room)).await?,
            Message::MakeRoom { asked_max } => {
                if held.core.is_short_of_room() && !held.let_one_go() {
                    held.core.make_room(held.id, asked_max);
                }
            }
            Message::MayLeave(entity) => held.may_leave(&entity),
            Message::Sweep => held.sweep(&myself),
            Message::Fenced => held.fenced(&myself),
            Message::Drain(done) => held.drain(done),
            Message::End => myself.stop(None),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Message>,
        event: SupervisionEvent,
        held: &mut Held,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(child, left, _) => {
                Box::pin(held.ended(&myself, child.get_id(), Ok(left))).await
            }
            SupervisionEvent::ActorFailed(child, panic) => {
                Box::pin(held.ended(&myself, child.get_id(), Err(panic))).await
            }
            _ => Ok(()),
        }
    }
}

impl Entry {
    fn new() -> Self {
        let (given, waiting) = (VecDeque::new(), VecDeque::new());
        Self { phase: Phase::Waiting, given, waiting, tick: 0, used: Instant::now() }
    }

    /// Messages that are not answered.
    fn in_flight(&mut self) -> usize {
        while self.given.front().is_some_and(|delivery| !delivery.is_open()) {
            self.given.pop_front();
        }
        self.given.len() + self.waiting.len()
    }

    /// Whether it may be let go of now.
    fn may_leave(&mut self) -> bool {
        matches!(self.phase, Phase::Hot(_) | Phase::AtRest(_)) && self.in_flight() == 0
    }

    /// Gives a message to the actor. One that has just panicked does not get it; its successor will.
    fn give(&mut self, delivery: Arc<Delivery>) {
        if let Phase::Hot(child) = &self.phase {
            let _ = child.actor.send_message(entity::Message::Deliver(delivery.clone()));
            self.given.push_back(delivery);
        } else {
            self.waiting.push_back(delivery);
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

impl Held {
    // ---- messages ----

    async fn deliver(
        &mut self,
        myself: &ActorRef<Message>,
        delivery: Arc<Delivery>,
    ) -> Result<(), ActorProcessingErr> {
        let id = delivery.entity.clone();
        let Some(entry) = self.entries.get_mut(&id) else {
            let mut entry = Entry::new();
            entry.give(delivery);
            self.entries.insert(id.clone(), entry);
            return self.want_room(myself, id).await;
        };
        let bounded = delivery.lane.is_outside() && !delivery.is_condemned();
        if bounded && entry.in_flight() >= self.core.config.entity_in_flight_max {
            let retry_after = self.core.config.retry_after;
            delivery.answer(Err(Error::Busy { what: super::error::MAILBOX, retry_after }));
            return Ok(());
        }
        entry.give(delivery);
        self.rouse(myself, &id).await?;
        self.touch(&id);
        Ok(())
    }

    fn read(&self, entity: &EntityId, reply: oneshot::Sender<Option<StateAwaited>>) {
        let (answer, awaited) = oneshot::channel();
        let asked = match self.entries.get(entity).map(|entry| &entry.phase) {
            Some(Phase::Hot(child)) => child.actor.send_message(entity::Message::Read(answer)).is_ok(),
            Some(Phase::AtRest(rested)) => answer.send(Ok(rested.resident.told())).is_ok(),
            _ => false,
        };
        let _ = reply.send(asked.then_some(awaited));
    }

    // ---- into memory ----

    /// Activates an entity at once if there is room. If not, the least recently used one makes some, here or elsewhere.
    async fn want_room(
        &mut self,
        myself: &ActorRef<Message>,
        id: EntityId,
    ) -> Result<(), ActorProcessingErr> {
        if let Ok(room) = self.core.room.clone().try_acquire_owned() {
            return self.enter(myself, id, room).await;
        }
        self.core.find_room(self.id, myself.clone(), id);
        if self.core.is_short_of_room() && !self.let_one_go() {
            self.core.make_room(self.id, ASKED_MAX);
        }
        Ok(())
    }

    /// An entity comes into memory.
    async fn enter(
        &mut self,
        myself: &ActorRef<Message>,
        id: EntityId,
        room: OwnedSemaphorePermit,
    ) -> Result<(), ActorProcessingErr> {
        if self.entries.contains_key(&id) {
            self.core.observer.activated(id.kind());
            self.activate(myself, id, room, None).await?;
        }
        Ok(())
    }

    /// Begins an actor for one at rest.
    async fn rouse(&mut self, myself: &ActorRef<Message>, id: &EntityId) -> Result<(), ActorProcessingErr> {
        let Some(entry) = self.entries.get_mut(id) else { return Ok(()) };
        match std::mem::replace(&mut entry.phase, Phase::Waiting) {
            Phase::AtRest(rested) => {
                let Rested { resident, room } = *rested;
                Box::pin(self.activate(myself, id.clone(), room, Some(resident))).await
            }
            other => {
                entry.phase = other;
                Ok(())
            }
        }
    }

    /// Begins the actor of an entity, which rebuilds it where it has no `resident`.
    async fn activate(
        &mut self,
        myself: &ActorRef<Message>,
        id: EntityId,
        room: OwnedSemaphorePermit,
        resident: Option<Resident>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(entry) = self.entries.get_mut(&id) else { return Ok(()) };
        let birth = Birth {
            core: self.core.clone(),
            shard: myself.clone(),
            id: id.clone(),
            epoch: self.epoch,
            resident,
        };
        let (actor, _task) = Actor::spawn_linked(None, Entity, birth, myself.get_cell()).await?;
        self.children.insert(actor.get_id(), id.clone());
        entry.phase = Phase::Hot(Child { actor, room });
        for delivery in std::mem::take(&mut entry.waiting) {
            entry.give(delivery);
        }
        self.touch(&id);
        if self.draining.is_some() {
            self.let_go(&id);
        }
        self.plan_sweep(myself, self.core.config.rest_after.min(self.core.config.idle));
        Ok(())
    }

    /// Marks an entity as used just now.
    fn touch(&mut self, id: &EntityId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.used = Instant::now();
        if let Phase::Hot(_) = entry.phase {
            self.order.remove(&entry.tick);
            self.at_rest.remove(&entry.tick);
            self.ticks += 1;
            entry.tick = self.ticks;
            self.order.insert(self.ticks, id.clone());
            self.core.set_hot(self.id, self.order.len() + self.at_rest.len());
        }
    }

    // ---- out of memory ----

    /// Lets an entity's actor finish what it was given and end. `drain`, never `stop`: that would drop what is queued.
    fn let_go(&mut self, id: &EntityId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        match std::mem::replace(&mut entry.phase, Phase::Waiting) {
            Phase::Hot(child) => {
                // An actor that cannot be drained has ended: its end is on the way to us.
                let _ = child.actor.drain();
                entry.phase = Phase::Leaving { child, _counted: self.core.leaving() };
                let tick = entry.tick;
                self.forget_order(tick);
            }
            Phase::AtRest(_) => {
                let tick = entry.tick;
                self.forget_order(tick);
                self.entries.remove(id);
                self.left(id, Vec::new());
            }
            other => entry.phase = other,
        }
    }

    /// Lets an entity's actor finish what it was given, end, and leave its state here.
    fn lay_to_rest(&mut self, id: &EntityId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        match std::mem::replace(&mut entry.phase, Phase::Waiting) {
            Phase::Hot(child) => {
                let _ = child.actor.drain();
                entry.phase = Phase::ToRest(child);
            }
            other => entry.phase = other,
        }
    }

    fn may_leave(&mut self, id: &EntityId) {
        if self.core.is_short_of_room() && self.entries.get_mut(id).is_some_and(Entry::may_leave) {
            self.let_go(id);
        }
    }

    fn forget_order(&mut self, tick: u64) {
        self.order.remove(&tick);
        self.at_rest.remove(&tick);
        self.core.set_hot(self.id, self.order.len() + self.at_rest.len());
    }

    /// Lets go of the least recently used entity that has nothing in flight. Whether there was one.
    fn let_one_go(&mut self) -> bool {
        let entries = &mut self.entries;
        let mut used = self.at_rest.values().chain(self.order.values());
        let idle = used.find(|id| entries.get_mut(*id).is_some_and(Entry::may_leave));
        let Some(id) = idle.cloned() else { return false };
        self.let_go(&id);
        true
    }

    /// Lets go of what nobody has used for long, lays to rest what nobody has used for a while, and plans the next look.
    fn sweep(&mut self, myself: &ActorRef<Message>) {
        self.sweeping = false;
        let idle = self.core.config.idle;
        let rest_after = self.core.config.rest_after.min(idle);
        let (leaving, leaves_in) = unused(&self.at_rest, &mut self.entries, idle);
        let (resting, rests_in) = unused(&self.order, &mut self.entries, rest_after);
        for id in &leaving {
            self.let_go(id);
        }
        for id in &resting {
            if rest_after < idle { self.lay_to_rest(id) } else { self.let_go(id) }
        }
        if !self.order.is_empty() || !self.at_rest.is_empty() {
            // Several at a time, and soon enough for whatever becomes hot meanwhile.
            self.plan_sweep(myself, leaves_in.min(rests_in).clamp(rest_after / SWEEPS, rest_after));
        }
    }

    fn plan_sweep(&mut self, myself: &ActorRef<Message>, after: Duration) {
        if !self.sweeping {
            self.sweeping = true;
            // A hair later, so that what is due then is over its time.
            let _task = myself.send_after(after + Duration::from_millis(1), || Message::Sweep);
        }
    }

    /// An entity's actor has ended: to rest, by leaving, or by a panic.
    async fn ended(
        &mut self,
        myself: &ActorRef<Message>,
        child: ActorId,
        mut end: Result<Option<BoxedState>, ActorProcessingErr>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(id) = self.children.remove(&child) else { return Ok(()) };
        let Some(entry) = self.entries.get_mut(&id) else { return Ok(()) };
        let phase = std::mem::replace(&mut entry.phase, Phase::Waiting);
        let given = std::mem::take(&mut entry.given);
        let unanswered: Vec<_> = given.into_iter().filter(|delivery| delivery.is_open()).collect();
        if let (Phase::ToRest(child), Ok(left)) = (phase, &mut end)
            && unanswered.is_empty()
            && self.draining.is_none()
            && let Some(resident) = left.take().and_then(entity::Held::resident_of)
        {
            entry.phase = Phase::AtRest(Box::new(Rested { resident, room: child.room }));
            self.at_rest.extend(self.order.remove_entry(&entry.tick));
            return if entry.waiting.is_empty() { Ok(()) } else { self.rouse(myself, &id).await };
        }
        let tick = entry.tick;
        self.forget_order(tick);
        match end {
            Err(panic) => self.panicked(myself, &id, unanswered, &panic),
            Ok(_) => self.left(&id, unanswered),
        }
        self.go_on(myself, id).await
    }

    fn left(&self, id: &EntityId, unanswered: Vec<Arc<Delivery>>) {
        self.core.count(id.kind(), |kind| count(&kind.passivated));
        self.core.observer.passivated(id.kind());
        for delivery in unanswered {
            tracing::error!(alarm = true, entity = %id, "an actor left before it answered");
            delivery.answer(Err(Error::Unavailable(format!("the actor of {id} left before it answered"))));
        }
    }

    /// After an actor's end: begins the next if anything waits, or forgets the entity.
    async fn go_on(&mut self, myself: &ActorRef<Message>, id: EntityId) -> Result<(), ActorProcessingErr> {
        if self.entries.get(&id).is_some_and(|entry| !entry.waiting.is_empty()) {
            return self.want_room(myself, id).await;
        }
        self.entries.remove(&id);
        self.tell_when_drained();
        Ok(())
    }

    /// What an actor held when it panicked goes to the next one, in order. The message it was at gets a strike, and is set aside
    /// when it has too many.
    fn panicked(
        &mut self,
        myself: &ActorRef<Message>,
        id: &EntityId,
        unanswered: Vec<Arc<Delivery>>,
        panic: &ActorProcessingErr,
    ) {
        tracing::error!(entity = %id, %panic, "an actor panicked and is rebuilt from the journal");
        self.core.count(id.kind(), |kind| count(&kind.panics));
        self.core.observer.panicked(id.kind());
        let Some(entry) = self.entries.get_mut(id) else { return };
        for delivery in unanswered.into_iter().rev() {
            let strikes = delivery.strike();
            if strikes < self.core.config.strikes_max {
                entry.waiting.push_front(delivery);
            } else if delivery.is_condemned() {
                delivery.answer(Ok(super::quarantine::given_up(id)));
            } else {
                super::quarantine::set_aside(self.core.clone(), myself.clone(), delivery, panic.to_string());
            }
        }
    }

    // ---- the end ----

    /// Another node owns the shard: nothing that is in flight here may be acknowledged any more.
    fn fenced(&mut self, myself: &ActorRef<Message>) {
        tracing::warn!(shard = %self.id, epoch = %self.epoch, "the shard is fenced: another node owns it");
        if self.core.route(self.id).is_some_and(|route| route.epoch == self.epoch) {
            self.core.set_route(self.id, None);
        }
        self.core.observer.fenced(self.id);
        self.order.clear();
        self.at_rest.clear();
        self.core.set_hot(self.id, 0);
        for entry in std::mem::take(&mut self.entries).into_values() {
            for delivery in entry.given.into_iter().chain(entry.waiting) {
                delivery.answer(Err(Error::NotOwner { shard: self.id }));
            }
            if let Phase::Hot(child) | Phase::ToRest(child) | Phase::Leaving { child, .. } = entry.phase {
                child.actor.stop(Some("fenced".to_owned()));
            }
        }
        myself.stop(Some("fenced".to_owned()));
    }

    fn drain(&mut self, done: oneshot::Sender<()>) {
        self.draining = Some(done);
        for id in self.at_rest.values().chain(self.order.values()).cloned().collect::<Vec<_>>() {
            self.let_go(&id);
        }
        self.tell_when_drained();
    }

    fn tell_when_drained(&mut self) {
        if self.entries.is_empty()
            && let Some(done) = self.draining.take()
        {
            let _ = done.send(());
        }
    }
}

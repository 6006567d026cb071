//! The actor of one shard: it alone begins, ends and forgets the actors of its entities.
//!
//! An entity waits for room, is hot, rests, or leaves; what comes for it meanwhile waits on the [`Desk`]. One at rest is in memory
//! without an actor, which is several times as large as the state of most: its next message begins one. The desk keeps each message
//! until it is answered: when an actor panics, what it held is given to the next one in the same order.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::actor::messages::BoxedState;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use syncline_actors::entity::State;
use syncline_actors::id::{EntityId, Epoch, ShardId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Duration;

use super::Error;
use super::core::{ASKED_MAX, Core, Route};
use super::delivery::Delivery;
use super::desk::{Child, Desk, Entry, Phase, Rested, Table};
use super::entity::{self, Birth, Entity};
use super::observer::count;
use super::resident::Resident;

/// The actor of one shard.
pub(super) struct Shard;

/// In the time after which an unused entity rests, it is looked for so often at most.
const SWEEPS: u32 = 16;

/// What a shard is told.
pub(super) enum Message {
    /// The first message for an entity that is not in memory lies on the desk.
    Begin(EntityId),
    /// A message for an entity that is, or was, at rest lies on the desk.
    Rouse(EntityId),
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
    desk: Arc<Desk>,
    children: BTreeMap<ActorId, EntityId>,
    sweeping: bool,
    draining: Option<oneshot::Sender<()>>,
}

/// However it ends, nobody waits at its desk for an answer that nobody would give.
impl Drop for Held {
    fn drop(&mut self) {
        self.desk.close();
    }
}

impl Actor for Shard {
    type Msg = Message;
    type State = Held;
    type Arguments = (Arc<Core>, ShardId, Epoch, Arc<Desk>);

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        (core, id, epoch, desk): Self::Arguments,
    ) -> Result<Held, ActorProcessingErr> {
        Ok(Held { core, id, epoch, desk, children: BTreeMap::new(), sweeping: false, draining: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        held: &mut Held,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Begin(entity) => Box::pin(held.want_room(&myself, entity)).await?,
            Message::Rouse(entity) => Box::pin(held.rouse(&myself, &entity)).await?,
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

impl Held {
    fn read(&self, entity: &EntityId, reply: oneshot::Sender<Option<StateAwaited>>) {
        let (answer, awaited) = oneshot::channel();
        let asked = match self.desk.lock().entries.get(entity).map(|entry| &entry.phase) {
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
        if self.desk.lock().entries.contains_key(&id) {
            self.core.observer.activated(id.kind());
            self.activate(myself, id, room, None).await?;
        }
        Ok(())
    }

    /// Begins an actor for one at rest.
    async fn rouse(&mut self, myself: &ActorRef<Message>, id: &EntityId) -> Result<(), ActorProcessingErr> {
        let rested = self.desk.lock().take_rested(id);
        match rested {
            Some(Rested { resident, room }) => {
                Box::pin(self.activate(myself, id.clone(), room, Some(resident))).await
            }
            None => Ok(()),
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
        let birth = Birth {
            core: self.core.clone(),
            shard: myself.clone(),
            id: id.clone(),
            epoch: self.epoch,
            resident,
        };
        let (actor, _task) = Actor::spawn_linked(None, Entity, birth, myself.get_cell()).await?;
        self.children.insert(actor.get_id(), id.clone());
        let desk = self.desk.clone();
        let mut table = desk.lock();
        table.begin(&id, Child { actor, room });
        self.core.set_hot(self.id, table.hot());
        if self.draining.is_some() {
            self.let_go(&mut table, &id);
        }
        drop(table);
        self.plan_sweep(myself, self.core.config.rest_after.min(self.core.config.idle));
        Ok(())
    }

    // ---- out of memory ----

    /// Lets an entity's actor finish what it was given and end. `drain`, never `stop`: that would drop what is queued.
    fn let_go(&self, table: &mut Table, id: &EntityId) {
        let Some(entry) = table.entries.get_mut(id) else { return };
        let tick = entry.tick;
        match std::mem::replace(&mut entry.phase, Phase::Waiting) {
            Phase::Hot(child) => {
                // An actor that cannot be drained has ended: its end is on the way to us.
                let _ = child.actor.drain();
                entry.phase = Phase::Leaving { child, _counted: self.core.leaving() };
                self.forget_order(table, tick);
            }
            // One that something waits for is about to get an actor.
            Phase::AtRest(_) if entry.waiting.is_empty() => {
                self.forget_order(table, tick);
                table.entries.remove(id);
                self.left(id, Vec::new());
            }
            other => entry.phase = other,
        }
    }

    fn may_leave(&self, id: &EntityId) {
        let mut table = self.desk.lock();
        if self.core.is_short_of_room() && table.entries.get_mut(id).is_some_and(Entry::may_leave) {
            self.let_go(&mut table, id);
        }
    }

    fn forget_order(&self, table: &mut Table, tick: u64) {
        table.forget_order(tick);
        self.core.set_hot(self.id, table.hot());
    }

    /// Lets go of the least recently used entity that has nothing in flight. Whether there was one.
    fn let_one_go(&self) -> bool {
        let mut table = self.desk.lock();
        let Some(id) = table.least_used() else { return false };
        self.let_go(&mut table, &id);
        true
    }

    /// Lets go of what nobody has used for long, lays to rest what nobody has used for a while, and plans the next look.
    fn sweep(&mut self, myself: &ActorRef<Message>) {
        self.sweeping = false;
        let idle = self.core.config.idle;
        let rest_after = self.core.config.rest_after.min(idle);
        let desk = self.desk.clone();
        let mut table = desk.lock();
        let (leaving, leaves_in) = table.idle(idle);
        let (resting, rests_in) = table.resting(rest_after);
        for id in &leaving {
            self.let_go(&mut table, id);
        }
        for id in &resting {
            if rest_after < idle { table.lay_to_rest(id) } else { self.let_go(&mut table, id) }
        }
        if table.hot() > 0 {
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
        let Some((phase, tick, unanswered)) = self.desk.lock().without_actor(&id) else { return Ok(()) };
        if let (Phase::ToRest(child), Ok(left)) = (phase, &mut end)
            && unanswered.is_empty()
            && self.draining.is_none()
            && let Some(resident) = left.take().and_then(entity::Held::resident_of)
        {
            let awaited = self.desk.lock().rest(&id, Rested { resident, room: child.room });
            return if awaited { self.rouse(myself, &id).await } else { Ok(()) };
        }
        self.forget_order(&mut self.desk.lock(), tick);
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
        if self.desk.lock().forget_unless_awaited(&id) {
            self.tell_when_drained();
            return Ok(());
        }
        self.want_room(myself, id).await
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
        for delivery in unanswered.into_iter().rev() {
            let strikes = delivery.strike();
            if strikes < self.core.config.strikes_max {
                self.desk.lock().put_first(id, delivery);
            } else if delivery.is_condemned() {
                delivery.answer(Ok(super::quarantine::given_up(id)));
            } else {
                let (shard, desk) = (myself.clone(), self.desk.clone());
                let route = Route { shard, desk, epoch: self.epoch };
                super::quarantine::set_aside(self.core.clone(), route, delivery, panic.to_string());
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
        self.core.set_hot(self.id, 0);
        for entry in self.desk.close().into_values() {
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
        let desk = self.desk.clone();
        let mut table = desk.lock();
        for id in table.in_memory() {
            self.let_go(&mut table, &id);
        }
        drop(table);
        self.tell_when_drained();
    }

    fn tell_when_drained(&mut self) {
        if self.desk.lock().entries.is_empty()
            && let Some(done) = self.draining.take()
        {
            let _ = done.send(());
        }
    }
}

//! The actor of one entity: takes one message after the other to its durable answer.

use std::sync::Arc;

use ractor::actor::messages::BoxedState;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use syncline_actors::entity::State;
use syncline_actors::envelope::Envelope;
use syncline_actors::id::{EntityId, Epoch};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::core::Core;
use super::delivery::Delivery;
use super::resident::{Resident, Tried};
use super::{Error, Reply, shard};

/// The actor of one entity.
pub(super) struct Entity;

/// What an entity's actor is asked.
pub(super) enum Message {
    /// To take a message in.
    Deliver(Arc<Delivery>),
    /// For its state.
    Read(oneshot::Sender<Result<Option<State>, Error>>),
}

/// What it begins with.
pub(super) struct Birth {
    pub(super) core: Arc<Core>,
    pub(super) shard: ActorRef<shard::Message>,
    pub(super) id: EntityId,
    pub(super) epoch: Epoch,
    /// What an actor before it has left.
    pub(super) resident: Option<Resident>,
}

/// What it holds.
pub(super) struct Held {
    birth: Birth,
    /// None until it is rebuilt from the journal, where no actor before has left it, and whenever its state may be wrong.
    resident: Option<Resident>,
    /// Why it takes in nothing.
    broken: Option<Error>,
}

impl Actor for Entity {
    type Msg = Message;
    type State = Held;
    type Arguments = Birth;

    async fn pre_start(&self, _: ActorRef<Message>, mut birth: Birth) -> Result<Held, ActorProcessingErr> {
        let resident = birth.resident.take();
        Ok(Held { birth, resident, broken: None })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        held: &mut Held,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Deliver(delivery) => {
                let Some(envelope) = delivery.begin() else { return Ok(()) };
                let answer = Box::pin(held.take(&envelope, &delivery)).await;
                delivery.answer(answer);
                held.save_when_long().await;
                held.offer_room();
            }
            Message::Read(reply) => {
                let _ = reply.send(Box::pin(held.resident()).await.map(|resident| resident.told()));
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, held: &mut Held) -> Result<(), ActorProcessingErr> {
        let Birth { core, id, epoch, .. } = &held.birth;
        if let Some(resident) = &mut held.resident {
            Box::pin(resident.save(core, id, *epoch, core.config.snapshot_tail)).await;
        }
        Ok(())
    }
}

impl Held {
    /// The entity, if the actor that held `state` has left it as it is in the journal.
    pub(super) fn resident_of(mut state: BoxedState) -> Option<Resident> {
        state.take::<Self>().ok()?.resident
    }

    /// Takes a message to its answer. When the outcome of an append is unknown the entity is rebuilt and the message tried once
    /// more: its id tells whether it was written.
    async fn take(&mut self, envelope: &Envelope, delivery: &Delivery) -> Result<Reply, Error> {
        let began = Instant::now();
        let mut outcome = self.try_take(envelope, delivery).await;
        if let Tried::Lost(_) = outcome {
            outcome = self.try_take(envelope, delivery).await;
        }
        let core = &self.birth.core;
        match outcome {
            Tried::Answered(reply) => {
                core.observer.answered(envelope, &reply.answer, reply.duplicate, began.elapsed());
                Ok(reply)
            }
            Tried::Lost(error) | Tried::Refused(error) => Err(error),
            Tried::Fenced(error) => {
                let _ = self.birth.shard.send_message(shard::Message::Fenced);
                Err(error)
            }
        }
    }

    async fn try_take(&mut self, envelope: &Envelope, delivery: &Delivery) -> Tried {
        let (core, epoch) = (self.birth.core.clone(), self.birth.epoch);
        let tried = match self.resident().await {
            Ok(resident) => resident.take(&core, epoch, envelope, delivery).await,
            Err(error) if error.is_transient() => Tried::Lost(error),
            Err(error) => Tried::Refused(error),
        };
        if let Tried::Lost(_) | Tried::Fenced(_) = tried {
            self.resident = None;
        }
        tried
    }

    /// The entity in memory, rebuilt if it is not there. What is broken stays closed until it leaves memory.
    async fn resident(&mut self) -> Result<&mut Resident, Error> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        if self.resident.is_none() {
            match Resident::load(&self.birth.core, &self.birth.id).await {
                Ok(resident) => self.resident = Some(resident),
                Err(error) => return Err(self.close(error)),
            }
        }
        Ok(self.resident.as_mut().expect("it was just rebuilt"))
    }

    /// Raises the alarm when what is stored is broken.
    fn close(&mut self, error: Error) -> Error {
        if let Error::Broken { entity, problem } = &error {
            tracing::error!(alarm = true, %entity, problem, "the entity is closed: its journal is broken");
            self.birth.core.observer.broken(entity, problem);
            self.broken = Some(error.clone());
        }
        error
    }

    /// Offers to leave when others wait for room; the shard knows whether anything is in flight.
    fn offer_room(&self) {
        let Birth { core, shard, id, .. } = &self.birth;
        if core.is_short_of_room() {
            let _ = shard.send_message(shard::Message::MayLeave(id.clone()));
        }
    }

    /// Keeps a snapshot now and then of an entity that never leaves, so that it is soon rebuilt after a crash.
    async fn save_when_long(&mut self) {
        let Birth { core, id, epoch, .. } = &self.birth;
        let every = core.config.snapshot_every;
        if let Some(resident) = self.resident.as_mut().filter(|resident| resident.is_due(every)) {
            Box::pin(resident.save(core, id, *epoch, every)).await;
        }
    }
}

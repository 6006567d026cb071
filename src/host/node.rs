//! The actor at the top: it keeps the leases of the shards and begins a shard's actor anew when it fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use syncline_actors::id::{Epoch, ShardId};
use tokio::sync::oneshot;

use super::core::{Core, Route};
use super::desk::Desk;
use super::shard::{self, Shard};
use crate::clock::Moment;
use crate::journal::{self, Grant};

/// The supervisor of a node's shards.
pub(super) struct Node;

/// What the supervisor is told.
pub(super) enum Message {
    /// Time to renew the leases.
    Renew,
    /// Begin to serve what was granted by a call of the journal that began at this time; then tell.
    Begin(Vec<Grant>, Moment, oneshot::Sender<()>),
    /// A shard was drained and is not renewed any more; then tell.
    Forget(Grant, oneshot::Sender<()>),
}

/// What the supervisor holds.
pub(super) struct Held {
    core: Arc<Core>,
    grants: BTreeMap<ShardId, Epoch>,
    children: BTreeMap<ActorId, (ShardId, Epoch)>,
}

impl Actor for Node {
    type Msg = Message;
    type State = Held;
    type Arguments = (Arc<Core>, Vec<Grant>, Moment);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (core, grants, granted_at): Self::Arguments,
    ) -> Result<Held, ActorProcessingErr> {
        let mut held = Held { core, grants: BTreeMap::new(), children: BTreeMap::new() };
        for Grant { shard, epoch } in grants {
            held.begin(&myself, shard, epoch, granted_at).await?;
        }
        let _task = myself.send_after(held.core.config.renew_every, || Message::Renew);
        Ok(held)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        held: &mut Held,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Renew => {
                Box::pin(held.renew()).await;
                let _task = myself.send_after(held.core.config.renew_every, || Message::Renew);
            }
            Message::Begin(grants, at, done) => {
                for Grant { shard, epoch } in grants {
                    Box::pin(held.begin(&myself, shard, epoch, at)).await?;
                }
                let _ = done.send(());
            }
            Message::Forget(grant, done) => {
                held.forget(grant);
                let _ = done.send(());
            }
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
            // A shard ends by itself only when it is fenced.
            SupervisionEvent::ActorTerminated(child, ..) => {
                if let Some((shard, epoch)) = held.children.remove(&child.get_id()) {
                    held.forget(Grant { shard, epoch });
                }
            }
            SupervisionEvent::ActorFailed(child, panic) => {
                if let Some((shard, epoch)) = held.children.remove(&child.get_id())
                    && held.grants.get(&shard) == Some(&epoch)
                {
                    tracing::error!(%shard, %panic, "a shard's actor panicked and begins anew");
                    held.spawn(&myself, shard, epoch).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Held {
    async fn begin(
        &mut self,
        myself: &ActorRef<Message>,
        shard: ShardId,
        epoch: Epoch,
        granted_at: Moment,
    ) -> Result<(), ActorProcessingErr> {
        self.grants.insert(shard, epoch);
        self.core.set_renewed_at(shard, granted_at);
        self.spawn(myself, shard, epoch).await
    }

    async fn spawn(
        &mut self,
        myself: &ActorRef<Message>,
        shard: ShardId,
        epoch: Epoch,
    ) -> Result<(), ActorProcessingErr> {
        let desk = Arc::<Desk>::default();
        let birth = (self.core.clone(), shard, epoch, desk.clone());
        let (actor, _task) = Actor::spawn_linked(None, Shard, birth, myself.get_cell()).await?;
        self.children.insert(actor.get_id(), (shard, epoch));
        self.core.set_route(shard, Some(Route { shard: actor, desk, epoch }));
        Ok(())
    }

    fn forget(&mut self, grant: Grant) {
        if self.grants.get(&grant.shard) == Some(&grant.epoch) {
            self.grants.remove(&grant.shard);
        }
    }

    /// Renews the lease of every shard held. What is lost is let go of at once.
    async fn renew(&mut self) {
        let grants: Vec<_> = self.grants.iter().map(|(&shard, &epoch)| Grant { shard, epoch }).collect();
        if grants.is_empty() {
            return;
        }
        let began = Moment::now(&*self.core.clock);
        // Each lease that is not renewed in time ends by itself; the next round comes all the same.
        let time = self.core.config.lease;
        let renewed = tokio::time::timeout(time, self.core.journal.renew(&grants)).await;
        let took = began.elapsed(&*self.core.clock);
        let Ok(renewed) = renewed else {
            let why = journal::Error::Unavailable("the store does not answer".to_owned());
            self.core.stored("renew", Some(&why), took);
            return tracing::warn!("the leases could not be renewed: the store does not answer");
        };
        self.core.stored("renew", renewed.iter().find_map(|renewed| renewed.as_ref().err()), took);
        let mut problem = None;
        for (grant, renewed) in grants.into_iter().zip(renewed) {
            match renewed {
                Ok(()) => self.core.set_renewed_at(grant.shard, began),
                Err(journal::Error::Fenced { .. }) => self.lost(grant),
                Err(error) => problem = Some(error),
            }
        }
        if let Some(error) = problem {
            tracing::warn!(%error, "leases could not be renewed");
        }
    }

    fn lost(&mut self, grant: Grant) {
        self.forget(grant);
        if let Some(route) = self.core.route(grant.shard).filter(|route| route.epoch == grant.epoch) {
            self.core.set_route(grant.shard, None);
            let _ = route.shard.send_message(shard::Message::Fenced);
        }
    }
}

//! The actor at the top: it keeps the leases of the shards and begins a shard's actor anew when it fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use syncline_actors::id::{Epoch, ShardId};
use tokio::time::Instant;

use super::core::{Core, Route};
use super::shard::{self, Shard};
use crate::journal::{self, Grant};

/// The supervisor of a node's shards.
pub(super) struct Node;

/// What the supervisor is told.
pub(super) enum Message {
    /// Time to renew the leases.
    Renew,
}

/// What the supervisor holds.
pub(super) struct Held {
    core: Arc<Core>,
    grants: BTreeMap<ShardId, Epoch>,
    children: BTreeMap<ActorId, ShardId>,
}

impl Actor for Node {
    type Msg = Message;
    type State = Held;
    type Arguments = (Arc<Core>, Vec<Grant>);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (core, grants): Self::Arguments,
    ) -> Result<Held, ActorProcessingErr> {
        let grants: BTreeMap<_, _> = grants.into_iter().map(|grant| (grant.shard, grant.epoch)).collect();
        let mut held = Held { core, grants: grants.clone(), children: BTreeMap::new() };
        for (shard, epoch) in grants {
            held.begin(&myself, shard, epoch).await?;
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
            Message::Renew => Box::pin(held.renew()).await,
        }
        let _task = myself.send_after(held.core.config.renew_every, || Message::Renew);
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
                if let Some(shard) = held.children.remove(&child.get_id()) {
                    held.grants.remove(&shard);
                }
            }
            SupervisionEvent::ActorFailed(child, panic) => {
                if let Some(shard) = held.children.remove(&child.get_id())
                    && let Some(epoch) = held.grants.get(&shard).copied()
                {
                    tracing::error!(%shard, %panic, "a shard's actor panicked and begins anew");
                    held.begin(&myself, shard, epoch).await?;
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
    ) -> Result<(), ActorProcessingErr> {
        let birth = (self.core.clone(), shard, epoch);
        let (actor, _task) = Actor::spawn_linked(None, Shard, birth, myself.get_cell()).await?;
        self.children.insert(actor.get_id(), shard);
        self.core.set_route(shard, Some(Route { shard: actor, epoch }));
        Ok(())
    }

    /// Renews the leases of all shards held. One that is lost is let go of at once, and the rest is renewed.
    async fn renew(&mut self) {
        while !self.grants.is_empty() {
            let began = Instant::now();
            let grants: Vec<_> = self.grants.iter().map(|(&shard, &epoch)| Grant { shard, epoch }).collect();
            match self.core.journal("renew", self.core.journal.renew(&grants)).await {
                Ok(()) => return self.core.set_renewed_at(began),
                Err(journal::Error::Fenced { shard, .. }) if self.grants.remove(&shard).is_some() => {
                    if let Some(route) = self.core.route(shard) {
                        self.core.set_route(shard, None);
                        let _ = route.shard.send_message(shard::Message::Fenced);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the leases could not be renewed");
                    return;
                }
            }
        }
    }
}

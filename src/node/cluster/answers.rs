//! Answers what other nodes ask: from the own host or not at all. Nothing is passed on, so a message makes one hop at most.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_actors::envelope::Envelope;
use syncline_actors::id::{Epoch, NodeId, ShardId};
use tokio::sync::{mpsc, oneshot};

use super::table::Table;
use super::wire::{Ask, Told, Trouble};
use crate::host::{self, Host, Lane};
use crate::node::monitor::Slate;
use crate::transport::{Handler, Request};

/// A shard that was let go of for this node, and who waits for it to be taken.
pub(super) struct Take {
    pub(super) shard: ShardId,
    pub(super) taken: oneshot::Sender<Epoch>,
}

/// Answers for one node.
pub(super) struct Answers {
    pub(super) host: Host,
    pub(super) table: Arc<Table>,
    pub(super) takes: mpsc::UnboundedSender<Take>,
    pub(super) slate: Arc<Slate>,
}

#[async_trait]
impl Handler for Answers {
    async fn handle(&self, request: Request) -> Bytes {
        let told = match Ask::read(&request.payload) {
            Ok(ask) => self.answer(ask, request.from.clone()).await,
            Err(error) => {
                tracing::error!(from = %request.from, %error, "a node asks what cannot be read here");
                Told::NotUnderstood(error.to_string())
            }
        };
        told.bytes()
    }
}

impl Answers {
    async fn answer(&self, ask: Ask, from: NodeId) -> Told {
        match ask {
            Ask::Deliver { inside, envelope } => {
                self.deliver(*envelope, if inside { Lane::Inside } else { Lane::Outside }, from).await
            }
            Ask::DeliverClassed { inside, class, envelope } => {
                let lane = if inside { Lane::back(class.latency) } else { Lane::Classed(class) };
                self.deliver(*envelope, lane, from).await
            }
            Ask::State(entity) => {
                let state = self.host.state(&entity).await;
                state.map_or_else(
                    |error| self.refuse(entity.shard(), &error),
                    |state| Told::State(state.map(Box::new)),
                )
            }
            Ask::Take(shard) => self.take(shard).await,
            Ask::Board => {
                let counted = self.slate.read();
                Told::Board(counted.as_of, (*counted.board).clone())
            }
        }
    }

    /// `from` took the message in.
    async fn deliver(&self, envelope: Envelope, lane: Lane, from: NodeId) -> Told {
        let shard = envelope.subject.shard();
        let taken = self.host.deliver_for(envelope, lane, from).await;
        taken.map_or_else(|error| self.refuse(shard, &error), Told::from)
    }

    async fn take(&self, shard: ShardId) -> Told {
        let (taken, epoch) = oneshot::channel();
        let _ = self.takes.send(Take { shard, taken });
        epoch.await.map_or_else(|_not_taken| self.elsewhere(shard), Told::Taken)
    }

    fn refuse(&self, shard: ShardId, error: &host::Error) -> Told {
        match error {
            host::Error::NotOwner { .. } => self.elsewhere(shard),
            error => Told::Refused(Trouble::from(error)),
        }
    }

    /// Who holds the shard. That this node does is not said: it has just found out that it does not, or is about to let it go.
    fn elsewhere(&self, shard: ShardId) -> Told {
        let holder = self.table.holder(shard).filter(|owned| owned.node != *self.host.node());
        Told::Elsewhere(holder.map(|owned| (owned.node, owned.epoch)))
    }
}

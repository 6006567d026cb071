//! The way to an entity: the own host, or one hop to the node that holds its shard.
//!
//! A message that finds nobody waits a while: a shard on its way from one node to another is there again within milliseconds. Sending
//! the same message again is always right, as its id is known where it arrived; so a lost answer is asked for once more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use syncline_actors::entity::State;
use syncline_actors::envelope::Envelope;
use syncline_actors::id::{EntityId, ShardId};
use syncline_actors::placement::Regions;
use syncline_actors::placement::planner::Owned;
use syncline_actors::slo::Board;
use syncline_actors::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Progress;
use super::table::{Changes, Table};
use super::wire::{Ask, Told, Trouble};
use crate::gossip::{Member, Members};
use crate::host::{Error, Host, Lane, Reply};
use crate::node::monitor::Counted;
use crate::telemetry;
use crate::transport::{self, Peer, Transport};

/// How long a message looks for the holder of its shard. Longer than a planned move takes; a takeover takes as long as a lease, and
/// senders come back then.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks, when nothing is heard: doubled each time.
const PAUSE: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How long another node may take for one message. The host gives its store as long.
const CALL_FOR: Duration = Duration::from_secs(10);

/// How long another node may take to tell what it has counted.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);

/// Takes messages and questions to their entities, wherever they are.
#[derive(Debug, Clone)]
pub struct Router {
    host: Host,
    regions: Arc<Regions>,
    others: Option<Arc<Others>>,
}

/// The other nodes.
#[derive(Debug)]
pub(super) struct Others {
    pub(super) table: Arc<Table>,
    pub(super) transport: Transport,
    pub(super) members: watch::Receiver<Arc<Members>>,
    pub(super) progress: watch::Receiver<Progress>,
}

/// Where a shard is.
enum Whose {
    Ours,
    Of(Peer),
    Nobody,
    /// Nobody may hold it now.
    Barred(String),
}

impl Router {
    /// To the entities of this node only.
    pub fn alone(host: Host, regions: Arc<Regions>) -> Self {
        Self { host, regions, others: None }
    }

    pub(super) fn among(host: Host, regions: Arc<Regions>, others: Arc<Others>) -> Self {
        Self { host, regions, others: Some(others) }
    }

    /// The regions that are served.
    pub(in crate::node) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Refuses what is bound to a region that nobody serves.
    fn admit(&self, entity: &EntityId) -> Result<(), Error> {
        self.regions.admit(entity).map_err(|error| Error::Region(error.to_string()))
    }

    /// Takes a message to its durable answer; see [`Host::deliver`].
    ///
    /// # Errors
    /// As the host's. [`Error::NotOwner`]: nobody held the shard for a while.
    pub async fn deliver(&self, envelope: Envelope, lane: Lane) -> Result<Reply, Error> {
        self.admit(&envelope.subject)?;
        let Some(others) = &self.others else { return self.host.deliver(envelope, lane).await };
        let shard = envelope.subject.shard();
        let mut asked = None;
        let mut search = Search::new(others, shard);
        loop {
            let outcome = match search.whose(&self.host) {
                // A clone counts references.
                Whose::Ours => self.host.deliver(envelope.clone(), lane).await,
                Whose::Of(peer) => {
                    let bytes = match &asked {
                        Some(bytes) => Bytes::clone(bytes),
                        None => asked.insert(bytes(&Ask::deliver(envelope.clone(), lane))?).clone(),
                    };
                    match others.ask(shard, &peer, bytes).await {
                        Ok(Told::Reply { answer, duplicate }) => Ok(Reply { answer, duplicate }),
                        Ok(told) => Err(odd(&peer, &told)),
                        Err(error) => Err(error),
                    }
                }
                Whose::Nobody => Err(Error::NotOwner { shard }),
                Whose::Barred(why) => return Err(Error::Unavailable(why)),
            };
            match outcome {
                Err(error) if error.is_of_placement() && search.goes_on().await => {}
                outcome => return outcome,
            }
        }
    }

    /// The state of an entity after everything acknowledged before; see [`Host::state`].
    ///
    /// # Errors
    /// As the host's. [`Error::NotOwner`]: nobody held the shard for a while.
    pub async fn state(&self, entity: &EntityId) -> Result<Option<State>, Error> {
        self.admit(entity)?;
        let Some(others) = &self.others else { return self.host.state(entity).await };
        let shard = entity.shard();
        let mut search = Search::new(others, shard);
        loop {
            let outcome = match search.whose(&self.host) {
                Whose::Ours => self.host.state(entity).await,
                Whose::Of(peer) => {
                    match others.ask(shard, &peer, bytes(&Ask::State(entity.clone()))?).await {
                        Ok(Told::State(state)) => Ok(state.map(|state| *state)),
                        Ok(told) => Err(odd(&peer, &told)),
                        Err(error) => Err(error),
                    }
                }
                Whose::Nobody => Err(Error::NotOwner { shard }),
                Whose::Barred(why) => return Err(Error::Unavailable(why)),
            };
            match outcome {
                Err(error) if error.is_of_placement() && search.goes_on().await => {}
                outcome => return outcome,
            }
        }
    }

    /// What every node has counted of its entities, added up, with the nodes that did not answer.
    pub(in crate::node) async fn board(&self, own: Counted) -> (Board, Option<Timestamp>, Vec<String>) {
        let (mut board, mut as_of, mut silent) = ((*own.board).clone(), own.as_of, Vec::new());
        let Some(others) = &self.others else { return (board, as_of, silent) };
        let peers: Vec<Peer> =
            others.peers().into_iter().filter(|peer| peer.node != *self.host.node()).collect();
        let asked = peers.iter().map(|peer| others.counted(peer));
        for (peer, told) in peers.iter().zip(futures::future::join_all(asked).await) {
            match told {
                Some((at, there)) => {
                    as_of = as_of.min(at);
                    for (kind, tally) in &there {
                        board.entry(kind.clone()).or_default().add(tally);
                    }
                }
                None => silent.push(peer.node.to_string()),
            }
        }
        (board, as_of, silent)
    }

    /// The own host.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

fn bytes(ask: &Ask) -> Result<Bytes, Error> {
    ask.bytes().map_err(|error| Error::Unstorable(error.to_string()))
}

fn odd(peer: &Peer, told: &Told) -> Error {
    tracing::error!(node = %peer.node, ?told, "a node answers something else");
    Error::Unavailable(format!("{} gave an answer that is not understood", peer.node))
}

/// The search for the holder of a shard.
struct Search<'a> {
    others: &'a Others,
    shard: ShardId,
    changes: Changes,
    until: Instant,
    pause: Duration,
}

impl<'a> Search<'a> {
    fn new(others: &'a Others, shard: ShardId) -> Self {
        let changes = others.table.changes();
        Self { others, shard, changes, until: Instant::now() + PATIENCE, pause: PAUSE }
    }

    fn whose(&mut self, host: &Host) -> Whose {
        // What changes from here on ends the wait.
        self.changes.mark_unchanged();
        if host.epoch(self.shard).is_some() {
            return Whose::Ours;
        }
        match self.others.table.holder(self.shard) {
            // Its lease is in doubt, which the host says, or it is about to go.
            Some(owned) if owned.node == *host.node() => Whose::Ours,
            Some(owned) => match self.others.peer(&owned) {
                Some(peer) => Whose::Of(peer),
                None => Whose::Nobody,
            },
            None => match self.others.progress.borrow().unplaced.get(&self.shard) {
                Some(why) => Whose::Barred(why.to_string()),
                None => Whose::Nobody,
            },
        }
    }

    /// Waits until something changes, a little at most. Whether it is worth another look.
    async fn goes_on(&mut self) -> bool {
        let wait = self.pause.min(self.until.saturating_duration_since(Instant::now()));
        let _ = tokio::time::timeout(wait, self.changes.changed()).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Instant::now() < self.until
    }
}

impl Others {
    fn peers(&self) -> Vec<Peer> {
        let members = self.members.borrow();
        let peer = |member: &Member| Peer { node: member.card.node.clone(), address: member.card.transport };
        members.iter().map(peer).collect()
    }

    async fn counted(&self, peer: &Peer) -> Option<(Option<Timestamp>, Board)> {
        let answered = self.transport.call(peer, Ask::Board.bytes().ok()?, COUNTED_WITHIN).await;
        match Told::read(&answered.ok()?).ok()? {
            Told::Board(at, board) => Some((at, board)),
            _ => None,
        }
    }

    fn peer(&self, owned: &Owned) -> Option<Peer> {
        let members = self.members.borrow();
        let card = &members.get(&owned.node)?.card;
        Some(Peer { node: owned.node.clone(), address: card.transport })
    }

    /// Asks the holder of `shard`. That it is not the holder corrects what is known here.
    async fn ask(&self, shard: ShardId, peer: &Peer, ask: Bytes) -> Result<Told, Error> {
        let answered = self.transport.call(peer, ask, CALL_FOR).await;
        let told = match answered {
            Ok(bytes) => Told::read(&bytes).map_err(|error| {
                Error::Unavailable(format!("the answer of {} cannot be read: {error}", peer.node))
            }),
            Err(error) => Err(unanswered(shard, &error)),
        };
        let outcome = match told {
            Ok(Told::Elsewhere(holder)) => {
                // Who knows of no other is about to let the shard go, and will know soon: it is asked again.
                if let Some((node, epoch)) = holder {
                    self.table.learn(shard, &Owned { node, epoch });
                }
                Err(Error::NotOwner { shard })
            }
            // It goes, and what it holds goes to others.
            Ok(Told::Refused(Trouble::Stopping)) => Err(Error::NotOwner { shard }),
            Ok(Told::Refused(trouble)) => Err(trouble.into()),
            Ok(Told::NotUnderstood(why)) => Err(Error::Unavailable(format!(
                "{} does not understand this node: {why}; let all nodes run the same version",
                peer.node
            ))),
            Ok(told) => Ok(told),
            Err(error) => Err(error),
        };
        telemetry::forwarded(match &outcome {
            Ok(_) => "answered",
            Err(error) if error.is_of_placement() => "elsewhere",
            Err(_) => "refused",
        });
        outcome
    }
}

/// What a call without an answer means to a message: it is sent again where that may help, as its id makes it one message.
fn unanswered(shard: ShardId, error: &transport::Error) -> Error {
    match error {
        transport::Error::Busy { retry_after, .. } => Error::busy(false, *retry_after),
        transport::Error::TooLarge { .. } => Error::Unstorable(error.to_string()),
        transport::Error::NotSent { .. }
        | transport::Error::Unknown { .. }
        | transport::Error::Refused { .. } => {
            tracing::debug!(%shard, %error, "a message is sent again");
            Error::NotOwner { shard }
        }
    }
}

//! The host: keeps the actors of the entities whose shards this node owns, and takes each message to its durable answer.
//!
//! ```text
//! Host::deliver ─► permit ─► desk of the shard ─► entity actor: decide ─► append under the epoch ─► fold ─► hints ─► answer
//!                            │
//!                            shard actor: activates, lets go of and forgets entities, one actor each
//! node supervisor ───────────┘ renews the leases; 256 shards
//! ```
//! - Mailboxes are bounded by permits: from outside a message takes one at once or is told to come back ([`Error::Busy`]).
//! - An entity is in memory while it is used: it leaves when idle, or for another when there is no more room, and never with a
//!   message unanswered. What is known about duplicates is in the journal, so nothing is forgotten with it.
//! - A panic costs nothing but time: the entity is rebuilt from the journal and gets again what was not answered, in order. A
//!   message at which its actor panics twice goes into quarantine.
//! - Whoever gets [`Error`] has no ack. Delivering the same message again is always right.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor as _, ActorRef};
use syncline_actors::class::{Class, Latency};
use syncline_actors::decide::decide;
use syncline_actors::decision::{Answer, Decision, Rejection};
use syncline_actors::entity::State;
use syncline_actors::envelope::Envelope;
use syncline_actors::id::{EntityId, Epoch, NodeId, ShardId};
use syncline_actors::placement::{Region, Regions};
use syncline_actors::process::{Catalog, Process};
use syncline_actors::record::Record;
use tokio::sync::oneshot;

use crate::clock::{Moment, SharedClock};
use crate::codec;
use crate::journal::{Grant, SharedJournal};

mod builtin;
mod core;
mod definitions;
mod delivery;
mod desk;
mod entity;
mod error;
mod node;
mod observer;
mod permits;
mod quarantine;
mod resident;
mod shard;
mod tally;

pub use builtin::{BALANCE, POLL, RECONCILE, add_builtin};
pub use error::Error;
pub use observer::{Deaf, Hints, KindStats, Observer, Stats};
pub use quarantine::{KIND as QUARANTINE, QuarantineItem};
pub use tally::label;

use self::core::Core;
use self::resident::Resident;

/// How a host is bounded. Every limit holds for the whole node unless it says otherwise.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// The node's name: stable over restarts.
    pub node: NodeId,
    /// Entities in memory, with their data; beyond it the least recently used one leaves.
    pub resident_max: usize,
    /// How long an entity stays in memory unused.
    pub idle: Duration,
    /// How long an unused entity keeps its actor, of about 7 KB.
    pub rest_after: Duration,
    /// Messages in flight for one entity, from outside.
    pub entity_in_flight_max: usize,
    /// Bytes of messages in flight, from outside.
    pub bytes_in_flight_max: u32,
    /// Messages in flight from inside: outcomes, timers, interventions.
    pub inside_in_flight_max: usize,
    /// Records since the last snapshot from which on an entity that leaves keeps a new one.
    pub snapshot_tail: u64,
    /// Records after which an entity that does not leave keeps a snapshot.
    pub snapshot_every: u64,
    /// Records that an entity keeps while it lives; older ones are only in its snapshot.
    pub records_max: u64,
    /// How often the leases are renewed.
    pub renew_every: Duration,
    /// How long after the last renewal this node still answers. Above `renew_every`, below the store's lease.
    pub lease: Duration,
    /// How long one call of the journal may take. Its outcome is unknown then, and the entity is rebuilt.
    pub journal_timeout: Duration,
    /// What a sender is told to wait that finds no permit.
    pub retry_after: Duration,
    /// Panics at one message after which it goes into quarantine.
    pub strikes_max: u8,
    /// Whether it takes all shards when it starts: there is no other node. If not, they are claimed.
    pub takes_all: bool,
    /// The regions that the cluster serves.
    pub regions: Arc<Regions>,
    /// Where this node stands. It journals nothing for entities that are bound to another region, whoever sends it.
    pub region: Option<Region>,
    /// What decides; tests put their own here.
    pub decide: Decide,
}

impl HostConfig {
    /// The usual limits for `node`.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            resident_max: 50_000,
            idle: Duration::from_mins(1),
            rest_after: Duration::from_secs(3),
            entity_in_flight_max: 64,
            bytes_in_flight_max: 256 << 20,
            inside_in_flight_max: 1_024,
            snapshot_tail: 16,
            snapshot_every: 256,
            records_max: 100_000,
            renew_every: Duration::from_secs(1),
            lease: Duration::from_secs(5),
            journal_timeout: Duration::from_secs(10),
            retry_after: Duration::from_secs(1),
            strikes_max: 2,
            takes_all: true,
            regions: Arc::default(),
            region: None,
            decide: Decide::default(),
        }
    }
}

type DecideFn = dyn Fn(&Process, &State, &Envelope) -> Result<Decision, Rejection> + Send + Sync;

/// What decides: [`decide`] but in tests.
#[derive(Clone)]
pub struct Decide(pub Arc<DecideFn>);

impl Default for Decide {
    fn default() -> Self {
        Self(Arc::new(decide))
    }
}

impl fmt::Debug for Decide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decide")
    }
}

/// What a host stands on.
#[derive(Debug, Clone)]
pub struct Means {
    /// The processes that govern entities. The built-in ones are added.
    pub catalog: Catalog,
    /// Where everything is kept.
    pub journal: SharedJournal,
    /// What tells the time.
    pub clock: SharedClock,
    /// Who hears of new work.
    pub hints: Arc<dyn Hints>,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
}

/// By which way a message takes its permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// From outside: at once, or it is told to come back.
    Outside,
    /// From ourselves (outcomes, timers, interventions): it waits for its turn.
    Inside,
    /// From outside, of a source that says how urgent it is and how much it matters. What can wait has room of its own.
    Classed(Class),
    /// From ourselves, about what can wait: after its like, and never in the way of what cannot.
    Patient(Latency),
}

impl Lane {
    /// For a message of ours about an effect of this latency.
    pub fn back(latency: Latency) -> Self {
        if latency == Latency::Realtime { Self::Inside } else { Self::Patient(latency) }
    }

    /// Whether it comes from outside.
    pub fn is_outside(self) -> bool {
        matches!(self, Self::Outside | Self::Classed(_))
    }

    /// How urgent it is, and how much it matters.
    pub fn class(self) -> Class {
        match self {
            Self::Outside | Self::Inside => Class::default(),
            Self::Classed(class) => class,
            Self::Patient(latency) => Class { latency, ..Class::default() },
        }
    }
}

/// What a sender gets: the message is durable, now or since an earlier delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What became of the message.
    pub answer: Answer,
    /// Whether it was known: the answer is the first delivery's.
    pub duplicate: bool,
}

/// The actors of one node. Cloning it gives another way to the same actors.
#[derive(Debug, Clone)]
pub struct Host {
    core: Arc<Core>,
    node: ActorRef<node::Message>,
}

impl Host {
    /// Keeps the definitions in the store, takes all shards unless they are claimed one by one, and begins.
    ///
    /// # Errors
    /// [`Error::Start`] when a definition was changed without a new version, or the journal does not answer.
    pub async fn start(config: HostConfig, mut means: Means) -> Result<Self, Error> {
        add_builtin(&mut means.catalog);
        let refused = |error: crate::journal::Error| match error {
            crate::journal::Error::Unavailable(why) => Error::Unavailable(why),
            lasting => Error::Start(lasting.to_string()),
        };
        for process in means.catalog.iter() {
            let kept = means.journal.keep_definition(&process.name, process.version, &process.text).await;
            kept.map_err(refused)?;
        }
        definitions::add_kept(&mut means.catalog, &means.journal).await.map_err(refused)?;
        let shards: Vec<_> = ShardId::all().filter(|_| config.takes_all).collect();
        let began = Moment::now(&*means.clock);
        let grants = means.journal.acquire(&shards, &config.node).await.map_err(refused)?;
        let core = Arc::new(Core::new(config, means));
        let spawned = node::Node::spawn(None, node::Node, (core.clone(), grants, began)).await;
        let (node, _task) = spawned.map_err(|error| Error::Start(error.to_string()))?;
        Ok(Self { core, node })
    }

    /// Takes a message to its durable answer. Once it returns `Ok`, the message is never applied again.
    ///
    /// # Errors
    /// See [`Error`]: none is an ack. A dropped call may or may not have been applied.
    pub async fn deliver(&self, envelope: Envelope, lane: Lane) -> Result<Reply, Error> {
        let via = self.core.config.node.0.clone();
        Box::pin(self.core.deliver(envelope, lane, via)).await
    }

    /// The same, for a message that another node took in.
    ///
    /// # Errors
    /// As those of [`Self::deliver`].
    pub async fn deliver_for(&self, envelope: Envelope, lane: Lane, via: NodeId) -> Result<Reply, Error> {
        Box::pin(self.core.deliver(envelope, lane, via.0)).await
    }

    /// Puts an authentic message aside that could not be understood. The answer is durable as any other.
    pub async fn quarantine(&self, item: QuarantineItem) -> Result<Reply, Error> {
        self.deliver(item.into_envelope()?, Lane::Outside).await
    }

    /// The state of an entity after everything acknowledged before; `None` if no message ever came for it. Does not bring it into
    /// memory.
    pub async fn state(&self, entity: &EntityId) -> Result<Option<State>, Error> {
        let shard = entity.shard();
        let route = self.core.leased(shard)?;
        let (reply, hot) = oneshot::channel();
        let asked = route.shard.send_message(shard::Message::Read(entity.clone(), reply)).is_ok();
        if asked
            && let Ok(Some(awaited)) = hot.await
            && let Ok(state) = awaited.await
        {
            // The node may have slept since: what it knows is the truth only while it holds the lease.
            return if self.core.leased(shard)?.epoch == route.epoch {
                state
            } else {
                Err(Error::NotOwner { shard })
            };
        }
        // It is not in memory, or it just left: what is acknowledged is in the journal, if the shard is still ours.
        let resident = Box::pin(Resident::load(&self.core, entity)).await?;
        if self.core.leased(shard)?.epoch != route.epoch {
            return Err(Error::NotOwner { shard });
        }
        Ok((resident.state.seq > 0).then_some(resident.state))
    }

    /// Records of an entity from `from` on, at most `limit`, in order.
    pub async fn timeline(&self, entity: &EntityId, from: u64, limit: usize) -> Result<Vec<Record>, Error> {
        let reading = self.core.journal.records(entity, from, limit);
        let frames =
            self.core.journal("records", reading).await.map_err(|error| Error::of(entity, &error))?;
        let decode = |frame| codec::decode_record(frame).map_err(|error| Error::broken(entity, &error));
        frames.iter().map(|frame| decode(frame)).collect()
    }

    /// Whether every shard is owned, leased and served here now; if not, why.
    pub fn ready(&self) -> Result<(), Error> {
        if self.core.is_stopping() {
            return Err(Error::Stopping);
        }
        ShardId::all().try_for_each(|shard| self.core.leased(shard).map(drop))
    }

    /// Whether the node takes messages in, and the lease of no shard held here is in doubt; if not, why.
    pub fn certain(&self) -> Result<(), Error> {
        if self.core.is_stopping() {
            return Err(Error::Stopping);
        }
        self.core.routes().try_for_each(|(shard, _)| match self.core.leased(shard) {
            Ok(_) | Err(Error::NotOwner { .. }) => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// The epoch under which `shard` is held here, if its lease is not in doubt.
    pub fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        self.core.leased(shard).ok().map(|route| route.epoch)
    }

    /// The shards served here, in their order.
    pub fn owned(&self) -> Vec<Grant> {
        self.core.routes().map(|(shard, route)| Grant { shard, epoch: route.epoch }).collect()
    }

    /// Takes those of `shards` that are free and serves them from now on. Which those are.
    ///
    /// # Errors
    /// When the store does not answer. What it may have granted all the same is free again after the lease.
    pub async fn claim(&self, shards: &[ShardId]) -> Result<Vec<Grant>, Error> {
        let wanted: Vec<_> =
            shards.iter().copied().filter(|shard| self.core.route(*shard).is_none()).collect();
        if wanted.is_empty() || self.core.is_stopping() {
            return Ok(Vec::new());
        }
        let began = Moment::now(&*self.core.clock);
        let acquiring = self.core.journal.acquire(&wanted, &self.core.config.node);
        let acquired = self.core.journal("acquire", acquiring).await;
        let grants = acquired.map_err(|error| Error::Unavailable(error.to_string()))?;
        let (done, begun) = oneshot::channel();
        let _ = self.node.send_message(node::Message::Begin(grants.clone(), began, done));
        begun.await.map_err(|_ended| Error::Stopping)?;
        Ok(grants)
    }

    /// Finishes what is in flight in a shard, keeps snapshots and gives it back, so that another node may take it at once. From the
    /// beginning on nothing new is taken in for it here. Whether all of it was done within `deadline`.
    pub async fn hand_over(&self, shard: ShardId, deadline: Duration) -> bool {
        let Some(route) = self.core.route(shard) else { return true };
        let grant = Grant { shard, epoch: route.epoch };
        self.core.set_route(shard, None);
        let (done, all_gone) = oneshot::channel();
        let asked = route.shard.send_message(shard::Message::Drain(done)).is_ok();
        let drained = asked && tokio::time::timeout(deadline, all_gone).await.is_ok();
        let (done, forgotten) = oneshot::channel();
        let _ = self.node.send_message(node::Message::Forget(grant, done));
        let _ = forgotten.await;
        let released = self.core.journal("release", self.core.journal.release(&[grant])).await;
        if let Err(error) = &released {
            tracing::warn!(%shard, %error, "the shard was not given back; its lease runs out by itself");
        }
        // What did not end in time is fenced by the next owner's epoch.
        let _ = route.shard.send_message(if drained { shard::Message::End } else { shard::Message::Fenced });
        drained && released.is_ok()
    }

    /// The node's name.
    pub fn node(&self) -> &NodeId {
        &self.core.config.node
    }

    /// How long ago the lease of a shard held here was renewed, the longest of all; zero when none is held.
    pub fn lease_age(&self) -> Duration {
        let ages = self.core.routes().map(|(shard, _)| self.core.lease_age(shard));
        ages.max().unwrap_or_default()
    }

    /// How long this node may go on without a renewal; zero: the lease of a shard is in doubt, and nothing is answered for it.
    pub fn lease_margin(&self) -> Duration {
        self.core.config.lease.saturating_sub(self.lease_age())
    }

    /// The highest epoch under which a shard is held here; zero when none is.
    pub fn highest_epoch(&self) -> Epoch {
        self.core.routes().map(|(_, route)| route.epoch).max().unwrap_or_default()
    }

    /// The host in numbers.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// The processes that govern entities, the built-in ones among them.
    pub fn catalog(&self) -> &Catalog {
        &self.core.catalog
    }

    /// Ends in order: takes nothing new, answers what is in flight, keeps snapshots, gives the shards back. Whether all of it was
    /// done within `deadline`; what was not is rebuilt from the journal one day.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.core.stop_taking();
        let mut drained = Vec::new();
        for (_, route) in self.core.routes() {
            let (done, all_gone) = oneshot::channel();
            if route.shard.send_message(shard::Message::Drain(done)).is_ok() {
                drained.push(all_gone);
            }
        }
        let all = futures::future::join_all(drained);
        let in_time = tokio::time::timeout(deadline, all).await.is_ok();
        let grants: Vec<_> =
            self.core.routes().map(|(shard, route)| Grant { shard, epoch: route.epoch }).collect();
        self.close();
        // Nobody holds a lock on a later start: an epoch that is not given back is simply outgrown.
        if let Err(error) = self.core.journal("release", self.core.journal.release(&grants)).await {
            tracing::warn!(%error, "the shards were not given back");
        }
        let _ = self.node.stop_and_wait(None, Some(deadline)).await;
        in_time
    }

    /// Ends at once, as a crash would: whatever the actors are at is cut off, nothing is kept or given back. For simulations.
    pub async fn crash(&self) {
        self.core.stop_taking();
        self.close();
        let _ = self.node.kill_and_wait(None).await;
    }

    fn close(&self) {
        for shard in ShardId::all() {
            self.core.set_route(shard, None);
        }
        self.core.room.close();
    }
}

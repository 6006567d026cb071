//! The nodes that share a store as one: who is there, who holds which shard, and the way of a message to the node that does.
//!
//! ```text
//! a message ─► Router ─► own host, or one hop ─► transport ─► Answers ─► host of the holder
//!                 ▲ Table: who holds what
//! gossip, store ─► Driver: Planner ─► claims, hand-overs
//! ```
//! What is told by gossip and known in the table are hints. Who may write is decided by the epoch in the store alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use syncline_actors::id::{NodeId, ShardId};
use syncline_actors::placement::planner::{self, Orders, Planner};
use syncline_actors::placement::{Error as Unplaced, Regions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock::SharedClock;
use crate::gossip::{self, Card, Datagrams, Gossip, KeyRing, Members, Seed};
use crate::host::Host;
use crate::journal::SharedJournal;
use crate::transport::{self, Limits, Network, TlsFiles, Transport, Versions};

mod answers;
mod driver;
mod router;
mod table;
mod wire;

pub use router::Router;

use super::monitor::Slate;
use answers::Answers;
use driver::Driver;
use router::Others;
use table::Table;

/// The protocol between nodes that this version speaks.
pub const PROTOCOL: u32 = 1;

/// Who the node is in its cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster's name.
    pub cluster: String,
    /// Which start of the node this is.
    pub boot: u64,
    /// Where it listens for others.
    pub listen: SocketAddr,
    /// That address as others see it.
    pub advertise: SocketAddr,
    /// Where its API is, as others see it.
    pub http: SocketAddr,
    /// Nodes to call on.
    pub seeds: Vec<Seed>,
    /// What seals datagrams.
    pub keys: KeyRing,
    /// Certificates of messages between nodes; none on loopback.
    pub tls: Option<TlsFiles>,
    /// Its share of the shards.
    pub weight: u16,
    /// Where it stands in law.
    pub region: Option<String>,
    /// What fails together with it.
    pub zone: Option<String>,
    /// When shards move.
    pub placement: planner::Settings,
    /// Which shards belong to which region.
    pub regions: Arc<Regions>,
    /// Time for what is in flight in a shard that is let go of.
    pub drain_for: Duration,
    /// How old what is known of the store may be for the node to be ready.
    pub fresh_for: Duration,
}

/// What a node of a cluster stands on.
pub struct Means {
    /// The own host. It takes no shards by itself.
    pub host: Host,
    /// The store that all share.
    pub journal: SharedJournal,
    /// Where datagrams go.
    pub datagrams: Arc<dyn Datagrams>,
    /// Where connections come from.
    pub network: Arc<dyn Network>,
    /// Tells the time, for the validity of certificates.
    pub clock: SharedClock,
    /// Is told that shards were taken.
    pub gained: Gained,
    /// Is told that a shard is about to go, and says when what it does for it has ended.
    pub leaving: Leaving,
    /// What operators want of placement.
    pub orders: watch::Receiver<Arc<Orders>>,
    /// What this node has counted of its entities.
    pub slate: Arc<Slate>,
    /// Chance, different in each process.
    pub seed: u64,
}

impl std::fmt::Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Is told that shards were taken: what waits there is not known yet.
pub type Gained = Arc<dyn Fn() + Send + Sync>;

/// Is told that a shard is about to go.
pub type Leaving = Arc<dyn Fn(ShardId) -> BoxFuture<'static, ()> + Send + Sync>;

/// Why a node cannot be part of a cluster. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Membership.
    #[error(transparent)]
    Gossip(#[from] gossip::Error),
    /// Messages between nodes.
    #[error(transparent)]
    Transport(#[from] transport::StartError),
}

/// How far the driver is.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// When the store was last asked, with an answer, who holds what.
    seen: Option<Instant>,
    /// Whether all shards were held at some time since the start, but for those of a region of which no node is up.
    complete: bool,
    /// Shards on their way from here.
    moving: usize,
    /// Shards that take nothing in until a person accepts what they have lost.
    suspect: usize,
    /// Whether all that can go has gone, since the node drains.
    drained: bool,
    /// Shards that no node may hold, and why.
    unplaced: BTreeMap<ShardId, Unplaced>,
}

/// A node's part in its cluster.
#[derive(Debug)]
pub struct Cluster {
    card: Card,
    boot: u64,
    gossip: Gossip,
    transport: Transport,
    router: Router,
    progress: watch::Receiver<Progress>,
    fresh_for: Duration,
    stop: watch::Sender<bool>,
    driver: Mutex<Option<JoinHandle<()>>>,
    /// It drains for good: no order takes that back.
    leaves: AtomicBool,
}

impl Cluster {
    /// Joins, and begins to claim and hand over shards.
    ///
    /// # Errors
    /// When it cannot listen, or what it is given cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(config: Config, means: Means) -> Result<Self, Error> {
        let node = means.host.node().clone();
        let card = card(&config, node.clone());
        let (table, (takes, taking)) = (Arc::new(Table::default()), mpsc::unbounded_channel());
        let (stop, stopping) = watch::channel(false);
        let answers =
            Arc::new(Answers { host: means.host.clone(), table: table.clone(), takes, slate: means.slate });
        let world = transport::World { network: means.network, clock: means.clock, seed: means.seed };
        let over = ended(stopping.clone());
        let transport =
            Transport::start(transport_config(&config, node.clone()), config.tls, world, answers, over)
                .await?;
        let gossip = gossip::Config {
            card: card.clone(),
            cluster: config.cluster,
            advertise: config.advertise,
            seeds: config.seeds,
            keys: config.keys,
            boot: config.boot,
        };
        let gossip = Gossip::start(gossip, means.datagrams, means.seed)?;
        let (progress, shown) = watch::channel(Progress::default());
        let others = Others {
            table: table.clone(),
            transport: transport.clone(),
            members: gossip.members(),
            progress: shown.clone(),
        };
        let router = Router::among(means.host.clone(), config.regions.clone(), Arc::new(others));
        let driven = driver::Means {
            host: means.host,
            boot: config.boot,
            journal: means.journal,
            gossip: gossip.clone(),
            transport: transport.clone(),
            table,
            gained: means.gained,
            leaving: means.leaving,
            orders: means.orders,
            drain_for: config.drain_for,
        };
        let planner = Planner::new(node, config.placement, (*config.regions).clone());
        let driver = tokio::spawn(Driver::new(driven, planner, taking, progress).run(stopping));
        Ok(Self {
            card,
            boot: config.boot,
            gossip,
            transport,
            router,
            progress: shown,
            fresh_for: config.fresh_for,
            stop,
            driver: Mutex::new(Some(driver)),
            leaves: AtomicBool::new(false),
        })
    }

    /// The way to the entities.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// This node's name.
    pub fn node(&self) -> &NodeId {
        &self.card.node
    }

    /// Which start of it this is.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Who is there, as this node knows.
    pub fn members(&self) -> Arc<Members> {
        self.gossip.members().borrow().clone()
    }

    /// From now on these keys.
    ///
    /// # Errors
    /// When this node has left.
    pub fn replace_keys(&self, keys: KeyRing) -> Result<(), gossip::Error> {
        self.gossip.replace_keys(keys)
    }

    /// Datagrams counted, and requests between nodes.
    pub fn stats(&self) -> (gossip::Stats, transport::Stats) {
        (self.gossip.stats(), self.transport.stats())
    }

    /// Shards on their way from this node to others.
    pub fn moving(&self) -> usize {
        self.progress.borrow().moving
    }

    /// Shards that take nothing in until a person accepts what they have lost, as the store last told.
    pub fn suspect(&self) -> usize {
        self.progress.borrow().suspect
    }

    /// Why a message for `shard` cannot be placed at all, if so.
    pub fn unplaced(&self, shard: ShardId) -> Option<Unplaced> {
        self.progress.borrow().unplaced.get(&shard).cloned()
    }

    /// Shards that no node may hold now, and why.
    pub fn all_unplaced(&self) -> BTreeMap<ShardId, Unplaced> {
        self.progress.borrow().unplaced.clone()
    }

    /// Whether a message that comes in now would find its entity, but for a takeover that is under way; if not, why.
    ///
    /// # Errors
    /// What is in the way, for people.
    pub fn ready(&self) -> Result<(), String> {
        let progress = self.progress.borrow();
        let age = progress.seen.map(|seen| seen.elapsed());
        match age {
            None => Err("the store has not told yet who holds which shards".to_owned()),
            Some(age) if age > self.fresh_for => {
                Err(format!("the store has not told for {} ms who holds which shards", age.as_millis()))
            }
            Some(_) if !progress.complete => Err("not all shards have found a node yet".to_owned()),
            Some(_) => Ok(()),
        }
    }

    /// Tells that this node goes, or stays after all: it hands over what it has and takes nothing.
    pub fn set_draining(&self, draining: bool) {
        let own = self.members().get(self.node()).map(|own| own.card.draining);
        if own == Some(draining) || self.leaves.load(Ordering::Acquire) {
            return;
        }
        self.tell_draining(draining);
    }

    fn tell_draining(&self, draining: bool) {
        let card = Card { draining, ..self.card.clone() };
        if let Err(error) = self.gossip.update_card(card) {
            tracing::warn!(%error, "nobody is told that this node drains");
        }
    }

    /// Hands over all shards to other nodes while they are served, at most `within`. Whether that was done, or nobody else takes any.
    pub async fn drain(&self, within: Duration) -> bool {
        self.leaves.store(true, Ordering::Release);
        self.tell_draining(true);
        let mut progress = self.progress.clone();
        let drained = progress.wait_for(|progress| progress.drained);
        tokio::time::timeout(within, drained).await.is_ok()
    }

    /// Leaves: others are told, and what they ask is answered no more. Call [`Self::drain`] first.
    pub async fn leave(&self, within: Duration) {
        self.gossip.leave().await;
        self.transport.drain(within).await;
        self.stop.send_replace(true);
        if let Some(driver) = self.take_driver() {
            let _ = driver.await;
        }
    }

    /// Ends at once, as a crash would.
    pub async fn crash(&self) {
        self.stop.send_replace(true);
        if let Some(driver) = self.take_driver() {
            driver.abort();
            let _ = driver.await;
        }
    }

    fn take_driver(&self) -> Option<JoinHandle<()>> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

async fn ended(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn card(config: &Config, node: NodeId) -> Card {
    Card {
        node,
        transport: config.advertise,
        http: config.http,
        weight: config.weight,
        region: config.region.clone(),
        zone: config.zone.clone(),
        protocol: PROTOCOL,
        draining: false,
    }
}

fn transport_config(config: &Config, node: NodeId) -> transport::Config {
    transport::Config {
        node,
        cluster: config.cluster.clone(),
        boot: config.boot,
        listen: config.listen,
        versions: Versions::OWN,
        limits: Limits::default(),
    }
}

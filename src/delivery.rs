//! Effects out: takes what waits in the outbox to the systems it is for, and brings the outcomes back to the entities.
//!
//! One task per connector, so that a slow or dead system never slows another. Each keeps to its contract: calls in flight, rate,
//! breaker, pauses. What waits, waits in the store; memory holds a bounded part of it. An effect is sent at least once, always under
//! the same key, and never twice at a time; where a call may have been applied, the system is asked before it is made again. The
//! outcome goes to the entity through the one mailbox, and the effect stays in the store until the entity has it on record: whatever
//! dies in between, nothing is lost.

pub mod contract;
pub mod harvest;
pub mod limits;
pub mod post;
pub mod wire;

mod attempt;
mod auth;
mod budget;
mod classify;
mod formula;
mod lane;
mod ready;
mod resolve;
mod session;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use syncline_actors::class::{Class, Latency};
use syncline_actors::envelope::{Envelope, OutcomeClass};
use syncline_actors::id::{EffectId, EntityId, Epoch, ShardId};
use syncline_actors::outbox::OutboxRow;
use syncline_actors::process::ENTITY;
use syncline_actors::time::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::SharedClock;
use crate::journal::SharedJournal;
use attempt::Site;
use contract::Connector;
use harvest::Harvest;
use lane::{Door, Lane};
use post::{Letters, Post};
use wire::Wire;

pub use resolve::surroundings;

/// Why deliveries cannot begin. Nothing was started; correct what is listed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings of connectors are missing or not allowed.
    #[error("connectors cannot be used:\n{}", problems.join("\n"))]
    Unusable {
        /// Every problem, with the connector and the fix.
        problems: Vec<String>,
    },
}

/// Why an outcome was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// Not now: it is told again later.
    #[error("the entity cannot take it now: {0}")]
    Unavailable(String),
    /// The entity's shard belongs to another node now, which will learn the outcome itself.
    #[error("the entity belongs to another node")]
    NotOwned,
}

/// Takes outcomes to entities. The host implements it.
#[async_trait]
pub trait Mailbox: fmt::Debug + Send + Sync + 'static {
    /// Tells an entity how an effect ended. `Ok` means that the effect no longer waits in the store: the outcome is on record, or was
    /// before. `latency`: how urgent the effect was.
    async fn settle(&self, envelope: Envelope, latency: Latency) -> Result<(), MailboxError>;
}

/// Is told what deliveries do, for metrics.
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// A call ended. `outcome` is one of `ok`, `failed`, `unreadable`, `refused`, `throttled`, `uncertain`, `busy`, `lost`, `unsent`,
    /// and for probes `found`, `absent`, `unknown`.
    fn attempt(&self, connector: &str, operation: &str, outcome: &'static str, took: Duration) {
        let _ = (connector, operation, outcome, took);
    }
    /// An effect ended, so long after it was journaled.
    fn settled(&self, connector: &str, operation: &str, class: OutcomeClass, age: Duration) {
        let _ = (connector, operation, class, age);
    }
    /// So many calls are under way, and so many effects are in hand and wait.
    fn lane(&self, connector: &str, in_flight: usize, queued: usize) {
        let _ = (connector, in_flight, queued);
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// The epoch under which this node holds a shard; `None` when it does not, or is not sure.
pub type Epochs = Arc<dyn Fn(ShardId) -> Option<Epoch> + Send + Sync>;

/// What deliveries stand on.
pub struct Outside {
    /// Where effects wait.
    pub journal: SharedJournal,
    /// Takes the outcomes.
    pub mailbox: Arc<dyn Mailbox>,
    /// Makes the calls.
    pub wire: Arc<dyn Wire>,
    /// Takes messages to other entities.
    pub post: Arc<dyn Post>,
    /// Takes in what some calls have brought, before their entities are told.
    pub harvest: Arc<dyn Harvest>,
    /// Tells the time.
    pub clock: SharedClock,
    /// Tells which shards are ours.
    pub epochs: Epochs,
    /// Under which name this node shares connectors' budgets with others; `None`: they are all its own.
    pub shared_as: Option<String>,
    /// Is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Connectors that are paused from the start.
    pub paused: BTreeSet<String>,
    /// Fixes the pauses between attempts.
    pub seed: u64,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// A connector as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its name for people.
    pub title: Arc<str>,
    /// The team that answers for it.
    pub owner: contract::Owner,
    /// How urgent it is, and how much it matters.
    pub class: Class,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// Its breaker.
    pub breaker: Breakers,
    /// Until when the system wants no calls, if it said so.
    pub throttled_until: Option<Timestamp>,
    /// Calls under way.
    pub in_flight: usize,
    /// Effects in memory that wait for their turn.
    pub queued: usize,
    /// Outcomes on their way to their entities.
    pub settling: usize,
    /// Calls that its rate lets start at once; `None` without a rate.
    pub rate_left: Option<u32>,
    /// Calls at a time that this node holds of a budget that nodes share; `None` when it is its own.
    pub slots: Option<u32>,
    /// Effects in the store; `None` when the store does not answer.
    pub waiting: Option<u64>,
    /// Those of them that can wait.
    pub patient: Option<u64>,
    /// When the oldest of those that cannot wait was due.
    pub oldest: Option<Timestamp>,
}

impl ConnectorStatus {
    /// Whether it has kept something urgent waiting for longer than its class tolerates.
    pub fn is_late(&self, now: Timestamp) -> bool {
        self.oldest.is_some_and(|oldest| now.since(oldest) > self.class.tolerance())
    }
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Breakers {
    /// Calls go through.
    #[default]
    Closed,
    /// None does, until then.
    Open {
        /// Until when.
        until: Timestamp,
    },
    /// One call tries whether it works again.
    Trying,
}

/// Which shards are ours, and since when we know.
pub(crate) struct Ownership {
    epochs: Epochs,
    clock: SharedClock,
    since: Mutex<BTreeMap<ShardId, (Epoch, Timestamp)>>,
    /// Shards about to go, and under which epoch: no further call starts for them.
    leaving: Mutex<BTreeMap<ShardId, Epoch>>,
    /// Calls under way and outcomes on their way to their entities, by shard.
    busy: watch::Sender<BTreeMap<ShardId, usize>>,
}

/// A call under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    ownership: Arc<Ownership>,
    shard: ShardId,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.ownership.busy.send_modify(|busy| {
            if let Some(count) = busy.get_mut(&self.shard) {
                *count -= 1;
                if *count == 0 {
                    busy.remove(&self.shard);
                }
            }
        });
    }
}

impl fmt::Debug for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ownership").finish_non_exhaustive()
    }
}

impl Ownership {
    fn new(epochs: Epochs, clock: SharedClock) -> Self {
        let busy = watch::Sender::new(BTreeMap::new());
        let ownership = Self { epochs, clock, since: Mutex::default(), leaving: Mutex::default(), busy };
        for shard in ShardId::all() {
            ownership.epoch(shard);
        }
        ownership
    }

    fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        let epoch = (self.epochs)(shard)?;
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let known = since.entry(shard).or_insert_with(|| (epoch, self.clock.now()));
        if known.0 != epoch {
            *known = (epoch, self.clock.now());
        }
        Some(epoch)
    }

    /// Whether a call may start for the shard: it is ours and not about to go.
    fn starts(&self, shard: ShardId) -> bool {
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).copied();
        self.epoch(shard).is_some_and(|epoch| leaving != Some(epoch))
    }

    /// Starts no further call for `shard`, and waits for those under way and their outcomes.
    async fn leave(&self, shard: ShardId) {
        let Some(epoch) = self.epoch(shard) else { return };
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, epoch);
        let _ = self.busy.subscribe().wait_for(|busy| !busy.contains_key(&shard)).await;
    }

    fn enter(self: &Arc<Self>, shard: ShardId) -> Busy {
        self.busy.send_modify(|busy| *busy.entry(shard).or_default() += 1);
        Busy { ownership: self.clone(), shard }
    }

    /// Whether the effect may have been in the hands of an owner before us.
    fn before_us(&self, row: &OutboxRow) -> bool {
        let shard = row.entity.shard();
        self.epoch(shard);
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get(&shard).is_none_or(|(_, since)| row.since <= *since)
    }
}

/// Keeps a connector's task running: what it had in hand is still in the store.
async fn supervise(site: Arc<Site>, door: Arc<Door>) {
    loop {
        let mut lane = JoinSet::new();
        lane.spawn(Lane::new(site.clone(), door.clone()).run());
        match lane.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(connector = %site.contract.name, %error, "deliveries panicked; they start again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            _ => return,
        }
    }
}

/// Takes effects out. Dropping it stops everything at once, as a crash would; [`Delivery::drain`] lets what is under way end.
#[derive(Debug)]
pub struct Delivery {
    lanes: BTreeMap<Arc<str>, (Arc<Site>, Arc<Door>)>,
    tasks: Mutex<JoinSet<()>>,
    journal: SharedJournal,
    ownership: Arc<Ownership>,
}

impl Delivery {
    /// Starts one task per connector; each pages what is due from the store at once. `lookup` gives the value of a reference such as
    /// `env:NAME` (see [`surroundings`]).
    ///
    /// Must be called within a tokio runtime.
    pub fn start(
        connectors: Vec<Connector>,
        lookup: &dyn Fn(&str) -> Option<String>,
        outside: Outside,
    ) -> Result<Self, Error> {
        let mut problems = Vec::new();
        let mut resolved = BTreeMap::new();
        for connector in connectors {
            match resolve::resolve(&connector, lookup) {
                Ok(found) => {
                    resolved.insert(connector.name.clone(), (connector, found));
                }
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(Error::Unusable { problems });
        }
        let outside = Arc::new(outside);
        let ownership = Arc::new(Ownership::new(outside.epochs.clone(), outside.clock.clone()));
        let mut tasks = JoinSet::new();
        let mut lanes = BTreeMap::new();
        let between = (post::contract(), resolve::Resolved::nowhere());
        for (place, (contract, found)) in (0_u64..).zip(resolved.into_values().chain([between])) {
            let name = contract.name.clone();
            let authority =
                auth::Authority::new(name.clone(), found.scheme, contract.timeout, contract.allow_private)
                    .with_session(&found.base, contract.session.clone());
            let letters = (*name == *ENTITY).then(|| Letters::new(outside.post.clone()));
            let site = Arc::new(Site {
                base: found.base,
                authority,
                letters,
                outside: outside.clone(),
                ownership: ownership.clone(),
                rng: Mutex::new(StdRng::seed_from_u64(outside.seed.wrapping_add(place))),
                contract,
            });
            let door = Arc::new(Door::default());
            door.pause(outside.paused.contains(&*name));
            tasks.spawn(supervise(site.clone(), door.clone()));
            lanes.insert(name, (site, door));
        }
        Ok(Self { lanes, tasks: Mutex::new(tasks), journal: outside.journal.clone(), ownership })
    }

    /// Has every connector look into the store now: there is work that nobody has told of.
    pub fn look(&self) {
        self.lanes.values().for_each(|(_, door)| door.look());
    }

    /// Tells of effects that are now in the store. Never waits: what does not fit into memory is found in the store.
    pub fn hint(&self, rows: &[OutboxRow]) {
        for row in rows {
            if let Some((_, door)) = self.lanes.get(&row.effect.connector) {
                door.hint(row);
            } else {
                tracing::error!(
                    connector = %row.effect.connector,
                    entity = %row.entity,
                    effect = %row.effect.id,
                    "an effect is for a connector that is not configured; it waits in the store"
                );
            }
        }
    }

    /// Tells that an entity has called an effect off. Never waits. Its outcome tells what became of it.
    pub fn call_off(&self, entity: &EntityId, effect: EffectId) {
        // Which connector it is for is not known here; those that do not have it find nothing of theirs.
        for (_, door) in self.lanes.values() {
            door.call_off((entity.clone(), effect));
        }
    }

    /// Stops starting calls of a connector. False when there is no such connector.
    pub fn pause(&self, connector: &str) -> bool {
        self.set_paused(connector, true)
    }

    /// Starts calls of a connector again. False when there is no such connector.
    pub fn resume(&self, connector: &str) -> bool {
        self.set_paused(connector, false)
    }

    fn set_paused(&self, connector: &str, paused: bool) -> bool {
        let Some((_, door)) = self.lanes.get(connector) else { return false };
        door.pause(paused);
        tracing::info!(connector, paused, "connector set by an operator");
        true
    }

    /// Every connector as it stands, by name.
    pub async fn status(&self) -> Vec<ConnectorStatus> {
        let depths = self.journal.depths().await.ok();
        let of = |(name, (site, door)): (&Arc<str>, &(Arc<Site>, Arc<Door>))| {
            let view = door.view();
            let depth = |latency: Latency| {
                Some(depths.as_ref()?.get(&latency.lane(name)).copied().unwrap_or_default())
            };
            let [urgent, minutes, batch] = Latency::ALL.map(depth);
            let patient = minutes.zip(batch).map(|(minutes, batch)| minutes.waiting + batch.waiting);
            ConnectorStatus {
                name: name.clone(),
                title: site.contract.title.clone(),
                owner: site.contract.owner.clone(),
                paused: door.is_paused(),
                breaker: view.breaker,
                throttled_until: view.throttled_until,
                in_flight: view.in_flight,
                queued: view.queued,
                settling: view.settling,
                rate_left: view.rate_left,
                slots: view.slots,
                class: site.contract.class,
                waiting: urgent.zip(patient).map(|(urgent, patient)| urgent.waiting + patient),
                patient,
                oldest: urgent.and_then(|depth| depth.oldest),
            }
        };
        self.lanes.iter().map(of).collect()
    }

    /// A shard is about to go to another node: starts no further call for it under this epoch, and waits, at most `within`, for those
    /// under way and their outcomes. What is not done by then is asked about, or sent again under the same key, by its next holder.
    pub async fn leave(&self, shard: ShardId, within: Duration) {
        let _ = tokio::time::timeout(within, self.ownership.leave(shard)).await;
    }

    /// Starts no further call, and waits for those under way and their outcomes. False when some were not done `within`: they are
    /// cut off, and whoever starts next finds them in the store.
    pub async fn drain(&self, within: Duration) -> bool {
        for (_, door) in self.lanes.values() {
            door.drain();
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while tasks.join_next().await.is_some() {} };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

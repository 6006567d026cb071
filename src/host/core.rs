//! What every actor of a host shares, and the way of a message to its shard.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use ractor::ActorRef;
use syncline_actors::envelope::Envelope;
use syncline_actors::id::{EntityId, Epoch, SHARDS, ShardId};
use syncline_actors::lease;
use syncline_actors::process::Catalog;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::delivery::Delivery;
use super::desk::{Closed, Desk};
use super::observer::{Hints, KindCounters, Observer, Stats};
use super::permits::{Permit, Permits};
use super::{Error, HostConfig, Lane, Means, Reply, shard};
use crate::clock::{Moment, SharedClock};
use crate::journal::{self, SharedJournal};

/// How long an entity waits for room before the shards are asked again to make some. They need not be asked, as entities leave by
/// themselves while others wait; this is for the one that came to rest just before.
const ROOM_PATIENCE: Duration = Duration::from_millis(100);

/// How many shards are asked in turn for room.
pub(super) const ASKED_MAX: u16 = 16;

/// What every actor of a host shares.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: HostConfig,
    pub(super) catalog: Catalog,
    pub(super) journal: SharedJournal,
    pub(super) clock: SharedClock,
    pub(super) hints: Arc<dyn Hints>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) permits: Permits,
    /// One permit for each entity that may be in memory: the cap holds over all shards, however uneven they are.
    pub(super) room: Arc<Semaphore>,
    /// Entities that wait for room, and entities on their way out.
    wanting: Arc<AtomicUsize>,
    leaving: Arc<AtomicUsize>,
    /// Hot entities of each shard.
    hot: Vec<AtomicUsize>,
    pub(super) stopping: AtomicBool,
    routes: Vec<RwLock<Option<Route>>>,
    /// When the last good renewal of each shard's lease was begun.
    renewed_at: Vec<Mutex<Moment>>,
    kinds: BTreeMap<Arc<str>, KindCounters>,
}

/// A shard held here.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) shard: ActorRef<shard::Message>,
    pub(super) desk: Arc<Desk>,
    pub(super) epoch: Epoch,
}

/// One more in a count, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Core {
    pub(super) fn new(config: HostConfig, means: Means) -> Self {
        let Means { catalog, journal, clock, hints, observer } = means;
        let kinds = catalog.iter().map(|process| (process.name.clone(), KindCounters::default())).collect();
        Self {
            permits: Permits::new(
                config.bytes_in_flight_max,
                config.inside_in_flight_max,
                config.retry_after,
            ),
            room: Arc::new(Semaphore::new(config.resident_max)),
            wanting: Arc::default(),
            leaving: Arc::default(),
            hot: (0..SHARDS).map(|_| AtomicUsize::new(0)).collect(),
            stopping: AtomicBool::new(false),
            routes: (0..SHARDS).map(|_| RwLock::new(None)).collect(),
            renewed_at: (0..SHARDS).map(|_| Mutex::new(Moment::now(&*clock))).collect(),
            kinds,
            config,
            catalog,
            journal,
            clock,
            hints,
            observer,
        }
    }

    // ---- the way of a message ----

    /// Takes a permit in `lane`, sends the message to its shard, and waits for the answer.
    /// `via`: the node that took it in.
    pub(super) async fn deliver(
        &self,
        envelope: Envelope,
        lane: Lane,
        via: Arc<str>,
    ) -> Result<Reply, Error> {
        let kind = envelope.subject.clone();
        let outcome = self.try_deliver(envelope, lane, via).await;
        if let Err(error) = &outcome {
            self.observer.refused(kind.kind(), lane, error);
        }
        outcome
    }

    async fn try_deliver(&self, envelope: Envelope, lane: Lane, via: Arc<str>) -> Result<Reply, Error> {
        if self.is_stopping() {
            return Err(Error::Stopping);
        }
        let kind = envelope.subject.kind();
        if self.catalog.newest(kind).is_none() {
            return Err(Error::UnknownKind { kind: kind.into() });
        }
        let permit = self.permits.take(lane, envelope.weight()).await?;
        self.send(envelope, lane, permit, via).await
    }

    /// Sends a message that has its permit.
    pub(super) async fn send(
        &self,
        envelope: Envelope,
        lane: Lane,
        permit: Permit,
        via: Arc<str>,
    ) -> Result<Reply, Error> {
        let shard = envelope.subject.shard();
        self.at_home(&envelope.subject)?;
        let route = self.leased(shard)?;
        let (delivery, awaited) = Delivery::new(envelope, lane, permit, via);
        // Let go of, or fenced, since the route was looked up; or its actor is being rebuilt.
        let gone = || match self.route(shard) {
            Some(now) if now.epoch == route.epoch => {
                Error::Unavailable(format!("shard {shard} is being rebuilt"))
            }
            _ => Error::NotOwner { shard },
        };
        self.give(&route, delivery).map_err(|Closed| gone())?;
        awaited.await.unwrap_or_else(|_dropped| Err(gone()))
    }

    /// Puts a message on the desk of its shard, and tells the shard where it has something to do.
    pub(super) fn give(&self, route: &Route, delivery: Arc<Delivery>) -> Result<(), Closed> {
        match route.desk.put(self, delivery)? {
            Some(message) => route.shard.send_message(message).map_err(|_ended| Closed),
            None => Ok(()),
        }
    }

    // ---- residency ----

    /// Placement gives this node no shard of another region. Should nodes ever be told different regions, this is where it ends.
    fn at_home(&self, entity: &EntityId) -> Result<(), Error> {
        self.config.regions.admit(entity).map_err(|error| Error::Region(error.to_string()))?;
        let own = self.config.region.as_ref().map(|region| &*region.0);
        match entity.region() {
            Some(region) if Some(region) != own => Err(Error::NotOwner { shard: entity.shard() }),
            _ => Ok(()),
        }
    }

    // ---- ownership ----

    pub(super) fn route(&self, shard: ShardId) -> Option<Route> {
        self.slot(shard).read().expect("no code panics while it holds a route").clone()
    }

    pub(super) fn set_route(&self, shard: ShardId, route: Option<Route>) {
        *self.slot(shard).write().expect("no code panics while it holds a route") = route;
    }

    fn slot(&self, shard: ShardId) -> &RwLock<Option<Route>> {
        &self.routes[usize::from(shard.0)]
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = (ShardId, Route)> {
        ShardId::all().filter_map(|shard| Some((shard, self.route(shard)?)))
    }

    /// The route of a shard whose lease is not in doubt.
    pub(super) fn leased(&self, shard: ShardId) -> Result<Route, Error> {
        let route = self.route(shard).ok_or(Error::NotOwner { shard })?;
        let age = self.lease_age(shard);
        if !lease::is_certain(age, self.config.lease) {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            return Err(Error::InDoubt { shard, age_ms });
        }
        Ok(route)
    }

    /// How long ago the lease of a shard was renewed, or given. The time that the machine was suspended counts.
    pub(super) fn lease_age(&self, shard: ShardId) -> Duration {
        let at =
            self.renewed_at[usize::from(shard.0)].lock().expect("no code panics while it holds the time");
        at.elapsed(&*self.clock)
    }

    /// The lease of a shard was renewed, or given, by a call that began at `at`.
    pub(super) fn set_renewed_at(&self, shard: ShardId, at: Moment) {
        *self.renewed_at[usize::from(shard.0)].lock().expect("no code panics while it holds the time") = at;
    }

    // ---- bounds ----

    /// Waits for room for `entity` and then tells its shard; meanwhile asks the shards, in turn, to make some.
    pub(super) fn find_room(
        self: &Arc<Self>,
        shard: ShardId,
        owner: ActorRef<shard::Message>,
        entity: EntityId,
    ) {
        let wanting = Counted::new(&self.wanting);
        let core = self.clone();
        tokio::spawn(async move {
            let mut room = std::pin::pin!(core.room.clone().acquire_owned());
            let mut asked = shard;
            loop {
                match tokio::time::timeout(ROOM_PATIENCE, &mut room).await {
                    Ok(Ok(room)) => {
                        drop(wanting);
                        let _ = owner.send_message(shard::Message::Room { entity, room });
                        return;
                    }
                    Ok(Err(_closed)) => return,
                    Err(_elapsed) => {
                        asked = ShardId((asked.0 + ASKED_MAX) % SHARDS);
                        core.make_room(asked, ASKED_MAX);
                    }
                }
            }
        });
    }

    /// Asks the next shard after `shard` that has hot entities to let go of one, or to ask on; at most `asked_max` of them.
    pub(super) fn make_room(&self, shard: ShardId, asked_max: u16) {
        if asked_max == 0 {
            return;
        }
        let after = (1..=SHARDS).map(|n| ShardId((shard.0 + n) % SHARDS));
        for next in after.filter(|next| self.hot[usize::from(next.0)].load(Ordering::Relaxed) > 0) {
            let asking = shard::Message::MakeRoom { asked_max: asked_max - 1 };
            if self.route(next).is_some_and(|route| route.shard.send_message(asking).is_ok()) {
                return;
            }
        }
    }

    /// Whether more entities wait for room than are on their way out.
    pub(super) fn is_short_of_room(&self) -> bool {
        self.wanting.load(Ordering::Acquire) > self.leaving.load(Ordering::Acquire)
    }

    /// Counts an entity on its way out until what is returned is dropped.
    pub(super) fn leaving(&self) -> Counted {
        Counted::new(&self.leaving)
    }

    pub(super) fn set_hot(&self, shard: ShardId, hot: usize) {
        self.hot[usize::from(shard.0)].store(hot, Ordering::Relaxed);
    }

    /// A call of the journal, which must not hang an actor for ever. What a call that took too long did is unknown.
    pub(super) async fn journal<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, journal::Error>>,
    ) -> Result<T, journal::Error> {
        let (time, began) = (self.config.journal_timeout, Instant::now());
        let outcome = tokio::time::timeout(time, call).await.unwrap_or_else(|_elapsed| {
            Err(journal::Error::Unavailable(format!("`{what}` took more than {} ms", time.as_millis())))
        });
        self.stored(what, outcome.as_ref().err(), began.elapsed());
        outcome
    }

    /// Tells that a call of the journal ended.
    pub(super) fn stored(&self, what: &'static str, error: Option<&journal::Error>, took: Duration) {
        let outcome = match error {
            None => "ok",
            Some(journal::Error::Fenced { .. }) => "fenced",
            Some(_) => "failed",
        };
        self.observer.stored(what, outcome, took);
    }

    // ---- numbers ----

    pub(super) fn count(&self, kind: &str, count: impl FnOnce(&KindCounters)) {
        if let Some(counters) = self.kinds.get(kind) {
            count(counters);
        }
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            resident: self.config.resident_max.saturating_sub(self.room.available_permits()),
            in_flight: self.permits.in_flight(),
            bytes_in_flight: self.permits.bytes(),
            shards: self.routes().count(),
            kinds: self.kinds.iter().map(|(kind, counters)| (kind.clone(), counters.read())).collect(),
        }
    }

    /// Nothing comes in any more.
    pub(super) fn stop_taking(&self) {
        self.stopping.store(true, Ordering::Release);
        self.permits.close();
    }
}

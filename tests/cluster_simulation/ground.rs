//! What survives a crash, and what every part of the world stands on: the store, the network, the book, the ledger, the clients'
//! notes, chance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use syncline::clock::{Clock as _, TokioClock};
use syncline::journal::memory::{Group, Handle};
use syncline::journal::{ExceptionFilter, Journal as _};
use syncline_actors::outbox::ExceptionRow;
use syncline_actors::time::Timestamp;

use crate::book::Book;
use crate::bugs::Bug;
use crate::chance::{Chance, Show, Trace};
use crate::client::Notes;
use crate::life::Flag;
use crate::net::Net;
use crate::node::Running;
use crate::path::Straight;
use crate::vendor::Ledger;
use crate::witness::{Losses, Notary};

pub(crate) const BEGIN: Timestamp = Timestamp(1_764_000_000_000);

/// How long a shard is held without a renewal; the settings' own.
pub(crate) const LEASE: Duration = Duration::from_secs(4);

/// How rough a seed is; so many times in a thousand, where nothing else is said.
#[derive(Debug, Clone)]
pub(crate) struct Temper {
    pub(crate) nodes: usize,
    /// Answers of the store wait for its replica.
    pub(crate) waits: bool,
    /// How far the replica is behind.
    pub(crate) lag: Duration,
    /// A crash at each of the points where one may come, in a hundred thousand.
    pub(crate) crash: u64,
    pub(crate) crashes_max: u64,
    /// Trouble of a call of the store.
    pub(crate) store: u64,
    /// Trouble of a call of a vendor.
    pub(crate) vendor: u64,
    /// Trouble between clients and nodes.
    pub(crate) network: u64,
    /// Pause between two troubles, at most.
    pub(crate) calm: Duration,
    pub(crate) entities: u64,
    pub(crate) resident_max: usize,
    pub(crate) idle: Duration,
    pub(crate) entity_in_flight_max: usize,
    pub(crate) bytes_in_flight_max: u32,
}

impl Temper {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, "temper");
        let waits = chance.per_mille(400);
        // Below what is between the end of a lease and the moment in which its holder gives up: see docs/cluster.md.
        let lags: &[u64] = if waits { &[1, 20, 100] } else { &[20, 300, 900] };
        Self {
            nodes: usize::try_from(chance.one(&[3, 3, 3, 4, 5])).unwrap(),
            waits,
            lag: Duration::from_millis(chance.one(lags)),
            crash: chance.one(&[0, 20, 100]),
            crashes_max: chance.within(1, 6),
            store: chance.one(&[0, 2, 10]),
            vendor: chance.one(&[0, 100, 300]),
            network: chance.one(&[0, 50, 150]),
            calm: Duration::from_millis(chance.one(&[4_000, 9_000, 20_000])),
            entities: chance.within(3, 8),
            resident_max: usize::try_from(chance.one(&[2, 50])).unwrap(),
            idle: chance.one(&[Duration::from_secs(1), Duration::from_secs(30)]),
            entity_in_flight_max: 64,
            bytes_in_flight_max: 1 << 20,
        }
    }
}

/// What survives a crash.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) seed: u64,
    pub(crate) bug: Option<Bug>,
    pub(crate) temper: Temper,
    pub(crate) clock: TokioClock,
    pub(crate) net: Net,
    group: OnceLock<Group>,
    /// The store as the world itself reads it.
    own: OnceLock<Arc<Handle>>,
    book: Mutex<Book>,
    ledger: Mutex<Ledger>,
    notes: Mutex<Notes>,
    losses: Mutex<Losses>,
    trace: Mutex<Trace>,
    chances: Mutex<BTreeMap<&'static str, Chance>>,
    /// Running nodes, by their place.
    nodes: Mutex<BTreeMap<usize, Arc<Running>>>,
    /// Effects of which more may befall than is promised.
    forgiven: Mutex<BTreeSet<String>>,
    /// No more faults.
    quiet: AtomicBool,
    crashes: AtomicU64,
    lives: AtomicU64,
    violation: Mutex<Option<String>>,
    violated: Flag,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds a part of the world")
}

impl Ground {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, show: Show) -> Arc<Self> {
        let temper = Temper::new(seed);
        let ground = Arc::new(Self {
            seed,
            bug,
            clock: TokioClock::starting_at(BEGIN),
            net: Net::new(seed, temper.nodes),
            temper,
            group: OnceLock::new(),
            own: OnceLock::new(),
            book: Mutex::default(),
            ledger: Mutex::default(),
            notes: Mutex::default(),
            losses: Mutex::default(),
            trace: Mutex::new(Trace::new(show)),
            chances: Mutex::default(),
            nodes: Mutex::default(),
            forgiven: Mutex::default(),
            quiet: AtomicBool::new(false),
            crashes: AtomicU64::new(0),
            lives: AtomicU64::new(0),
            violation: Mutex::default(),
            violated: Flag::default(),
        });
        let waits = ground.temper.waits && bug != Some(Bug::AckBeforeReplica);
        let group = Group::new(LEASE, waits, Arc::new(Notary(Arc::downgrade(&ground))));
        group.set_lag(ground.temper.lag);
        let _ = ground.own.set(Handle::open(&group, 0, Arc::new(Straight)));
        let _ = ground.group.set(group);
        ground
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn group(&self) -> &Group {
        self.group.get().expect("it was made with the world")
    }

    /// The store as the world itself reads it: nothing is in the way.
    pub(crate) fn store(&self) -> &Arc<Handle> {
        self.own.get().expect("it was made with the world")
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        lock(&self.notes)
    }

    pub(crate) fn losses(&self) -> MutexGuard<'_, Losses> {
        lock(&self.losses)
    }

    /// Chance for one use.
    pub(crate) fn chance<T>(&self, use_of: &'static str, draw: impl FnOnce(&mut Chance) -> T) -> T {
        let mut chances = lock(&self.chances);
        draw(chances.entry(use_of).or_insert_with(|| Chance::new(self.seed, use_of)))
    }

    // ---- what is told ----

    pub(crate) fn line(&self, what: &str) {
        let at = u64::try_from(self.now().since(BEGIN).as_millis()).unwrap();
        lock(&self.trace).line(at, what);
    }

    /// Whether `what` was counted before.
    pub(crate) fn happened(&self, what: &'static str) -> bool {
        self.trace(|trace| trace.counts.contains_key(what))
    }

    pub(crate) fn count(&self, what: &'static str) {
        lock(&self.trace).count(what);
    }

    pub(crate) fn trace<T>(&self, read: impl FnOnce(&Trace) -> T) -> T {
        read(&lock(&self.trace))
    }

    /// Something is not as it must be. The first one counts, and ends the run.
    pub(crate) fn violated(&self, what: String) {
        self.line(&format!("VIOLATION {what}"));
        lock(&self.violation).get_or_insert(what);
        self.violated.raise();
    }

    pub(crate) fn check(&self, checked: Result<(), String>) {
        if let Err(what) = checked {
            self.violated(what);
        }
    }

    pub(crate) fn violation(&self) -> Option<String> {
        lock(&self.violation).clone()
    }

    /// Returns when something is not as it must be.
    pub(crate) async fn until_violated(&self) {
        self.violated.until_up().await;
    }

    // ---- what is beyond what is promised ----

    /// Whether what befalls the effect under `key` is beyond what is promised: what was known of its attempts is lost.
    pub(crate) fn forgives(&self, key: &str) -> bool {
        lock(&self.forgiven).contains(key)
    }

    pub(crate) fn forgive(&self, keys: impl IntoIterator<Item = String>) {
        lock(&self.forgiven).extend(keys);
    }

    // ---- faults ----

    pub(crate) fn be_quiet(&self) {
        self.line("no more faults");
        self.quiet.store(true, Ordering::Relaxed);
        self.net.heal();
        self.group().set_lag(Duration::from_millis(1));
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Whether trouble comes now, so many times in a thousand.
    pub(crate) fn trouble(&self, use_of: &'static str, per_mille: u64) -> bool {
        !self.is_quiet() && self.chance(use_of, |chance| chance.per_mille(per_mille))
    }

    pub(crate) fn crashes_now(&self) -> bool {
        if self.is_quiet() || self.crashes.load(Ordering::Relaxed) >= self.temper.crashes_max {
            return false;
        }
        let now = self.chance("crash", |chance| chance.below(100_000) < self.temper.crash);
        self.crashes.fetch_add(u64::from(now), Ordering::Relaxed);
        now
    }

    /// Which life is the next.
    pub(crate) fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed)
    }

    /// Open exceptions, those of quarantined messages left out.
    pub(crate) async fn exceptions(&self) -> Vec<ExceptionRow> {
        let filter =
            ExceptionFilter { kind: Some("order".to_owned()), limit: 1000, ..ExceptionFilter::default() };
        self.store().exceptions(&filter).await.expect("the store itself never fails")
    }

    // ---- the nodes ----

    /// Whichever node a client comes to.
    pub(crate) fn node(&self) -> Option<Arc<Running>> {
        let nodes = self.nodes();
        let place = self.chance("which node", |chance| chance.below(nodes.len().max(1) as u64));
        nodes.get(usize::try_from(place).unwrap()).cloned()
    }

    /// The nodes that run.
    pub(crate) fn nodes(&self) -> Vec<Arc<Running>> {
        lock(&self.nodes).values().cloned().collect()
    }

    pub(crate) fn set_node(&self, index: usize, node: Option<Arc<Running>>) {
        match node {
            Some(node) => lock(&self.nodes).insert(index, node),
            None => lock(&self.nodes).remove(&index),
        };
    }

    pub(crate) fn forget_nodes(&self) {
        lock(&self.nodes).clear();
    }
}

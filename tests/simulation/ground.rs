//! What survives a crash, and what every part of the world stands on: the store, the book, the ledger, the clients' notes, chance.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use syncline::clock::{Clock as _, TokioClock};
use syncline::journal::memory::Memory;
use syncline::journal::{ExceptionFilter, Journal as _};
use syncline_actors::outbox::ExceptionRow;
use syncline_actors::time::Timestamp;

use crate::book::Book;
use crate::bugs::Bug;
use crate::chance::{Chance, Show, Trace};
use crate::client::Notes;
use crate::life::Flag;
use crate::node::Running;
use crate::vendor::Ledger;

pub(crate) const BEGIN: Timestamp = Timestamp(1_764_000_000_000);

/// How rough a seed is; so many times in a thousand, where nothing else is said.
#[derive(Debug, Clone)]
pub(crate) struct Temper {
    /// A crash at each of the points where one may come, in a hundred thousand.
    pub(crate) crash: u64,
    pub(crate) crashes_max: u64,
    /// Trouble of a call of the store.
    pub(crate) store: u64,
    /// Trouble of a call of a vendor.
    pub(crate) vendor: u64,
    /// Trouble between clients and the node.
    pub(crate) network: u64,
    /// A panic in a decision, in ten thousand.
    pub(crate) panic: u64,
    pub(crate) entities: u64,
    pub(crate) resident_max: usize,
    pub(crate) idle: Duration,
    pub(crate) entity_in_flight_max: usize,
    pub(crate) bytes_in_flight_max: u32,
    pub(crate) snapshot_tail: u64,
    pub(crate) snapshot_every: u64,
}

impl Temper {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, "temper");
        Self {
            crash: chance.one(&[0, 100, 400, 1_500]),
            crashes_max: chance.within(1, 12),
            store: chance.one(&[0, 2, 10, 30]),
            vendor: chance.one(&[0, 150, 350, 500]),
            network: chance.one(&[0, 50, 200]),
            panic: chance.one(&[0, 0, 20, 100]),
            entities: chance.within(2, 7),
            resident_max: usize::try_from(chance.one(&[1, 2, 3, 50])).unwrap(),
            idle: chance.one(&[Duration::from_millis(200), Duration::from_secs(3), Duration::from_secs(30)]),
            entity_in_flight_max: usize::try_from(chance.one(&[2, 4, 16])).unwrap(),
            bytes_in_flight_max: chance.one(&[3_000, 20_000, 1 << 20]),
            snapshot_tail: chance.one(&[1, 3, 16]),
            snapshot_every: chance.one(&[2, 7, 256]),
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
    pub(crate) memory: Memory,
    book: Mutex<Book>,
    ledger: Mutex<Ledger>,
    notes: Mutex<Notes>,
    trace: Mutex<Trace>,
    chances: Mutex<BTreeMap<&'static str, Chance>>,
    node: Mutex<Option<Arc<Running>>>,
    /// No more faults.
    quiet: AtomicBool,
    /// Until when the store has a bad spell.
    bad_until: Mutex<Timestamp>,
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
        Arc::new(Self {
            seed,
            bug,
            temper: Temper::new(seed),
            clock: TokioClock::starting_at(BEGIN),
            memory: Memory::new(),
            book: Mutex::default(),
            ledger: Mutex::default(),
            notes: Mutex::default(),
            trace: Mutex::new(Trace::new(show)),
            chances: Mutex::default(),
            node: Mutex::default(),
            quiet: AtomicBool::new(false),
            bad_until: Mutex::new(BEGIN),
            crashes: AtomicU64::new(0),
            lives: AtomicU64::new(0),
            violation: Mutex::default(),
            violated: Flag::default(),
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
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

    // ---- faults ----

    pub(crate) fn be_quiet(&self) {
        self.line("no more faults");
        self.quiet.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Whether trouble comes now, so many times in a thousand.
    pub(crate) fn trouble(&self, use_of: &'static str, per_mille: u64) -> bool {
        !self.is_quiet() && self.chance(use_of, |chance| chance.per_mille(per_mille))
    }

    /// Whether a write goes wrong. Trouble seldom comes alone: at times it lasts for seconds.
    pub(crate) fn store_trouble(&self) -> bool {
        let mut bad_until = lock(&self.bad_until);
        if self.now() < *bad_until {
            return self.trouble("store spell", 400);
        }
        let trouble = self.trouble("store", self.temper.store);
        if trouble {
            let spell = self.chance("store spell length", |chance| chance.one(&[0, 0, 1_000, 8_000]));
            *bad_until = self.now().plus(Duration::from_millis(spell));
        }
        trouble
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

    /// Whether what befalls the effect under `key` is beyond what is promised: nothing is.
    #[expect(clippy::unused_self, reason = "a world that loses what was written says otherwise")]
    pub(crate) fn forgives(&self, _key: &str) -> bool {
        false
    }

    /// Open exceptions, those of quarantined messages left out.
    pub(crate) async fn exceptions(&self) -> Vec<ExceptionRow> {
        let filter =
            ExceptionFilter { kind: Some("order".to_owned()), limit: 1000, ..ExceptionFilter::default() };
        self.memory.exceptions(&filter).await.expect("the store itself never fails")
    }

    // ---- the node ----

    pub(crate) fn node(&self) -> Option<Arc<Running>> {
        lock(&self.node).clone()
    }

    pub(crate) fn set_node(&self, node: Option<Arc<Running>>) {
        *lock(&self.node) = node;
    }
}

//! The real host, timers and deliveries in a world of one seed: clients that retry, vendors with a ledger, and a crash between any
//! two steps. What is promised must hold in each, and a bug planted on purpose must be found.
//!
//! ```text
//! SIM_SEEDS=5000 SIM_FIRST=300 cargo test --test simulation every_seed     more seeds
//! SIM_SEED=17 cargo test --test simulation every_seed -- --nocapture       one seed, with all that happens in it
//! ```
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "simulation/book.rs"]
mod book;
#[path = "simulation/bugs.rs"]
mod bugs;
#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/ground.rs"]
mod ground;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/vendor.rs"]
mod vendor;
#[path = "simulation/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bugs::Bug;
use chance::Show;
use world::{Report, run};

/// Seeds where nothing else is said.
const SEEDS: u64 = 300;

/// What must happen in that many seeds: a fault that never comes guards nothing.
const HAPPENS: &[&str] = &[
    "ack: duplicate",
    "ack: first",
    "append: conflict",
    "append: duplicate",
    "append: fenced",
    "client: ack lost",
    "client: lost patience",
    "client: request lost",
    "client: sent again after the ack",
    "client: sent twice at once",
    "client: told to come back",
    "client: unavailable",
    "compaction of records",
    "crash",
    "operator",
    "panic",
    "passivated",
    "restart in order",
    "shard lost",
    "slow inside",
    "snapshot",
    "store: read failed",
    "store: write done, answer lost",
    "store: write failed",
    "store: write hung",
    "two nodes at once",
    "vendor: 429",
    "vendor: 5xx",
    "vendor: applied, answer lost",
    "vendor: not applied, answer lost",
    "vendor: not reached",
    "vendor: outage",
    "vendor: refused",
    "vendor: timed out",
    "verdict: deferred",
    "verdict: ignored",
    "verdict: rejected",
];

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs `count` seeds from `first` on, over all cores, until `stop` says that it is enough.
fn run_all(
    first: u64,
    count: u64,
    bug: Option<Bug>,
    show: Show,
    stop: impl Fn(&Report) -> bool + Sync,
) -> Vec<Report> {
    let (next, end) = (AtomicU64::new(first), AtomicU64::new(first + count));
    let reports = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = run(seed, bug, show);
                    if stop(&report) {
                        end.store(0, Ordering::Relaxed);
                    }
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap();
    reports.sort_by_key(|report| report.seed);
    reports
}

fn tell(report: &Report) -> String {
    let Report { seed, violation, lines, .. } = report;
    let lines = lines.join("\n");
    format!(
        "{lines}\n\nseed {seed} fails: {}\nrepeat it with: SIM_SEED={seed} cargo test --test simulation every_seed -- --nocapture",
        violation.as_deref().unwrap_or_default()
    )
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = setting("SIM_SEED") {
        let report = run(seed, None, Show::Live);
        assert!(report.violation.is_none(), "{}", tell(&report));
        return;
    }
    let (first, count) = (setting("SIM_FIRST").unwrap_or(0), setting("SIM_SEEDS").unwrap_or(SEEDS));
    let reports = run_all(first, count, None, Show::Tail, |report| report.violation.is_some());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for report in &reports {
        report.counts.iter().for_each(|(what, times)| *counts.entry(what).or_default() += times);
    }
    println!("{} seeds", reports.len());
    for (what, times) in &counts {
        println!("{times:>9} {what}");
    }
    if let Some(report) = reports.iter().find(|report| report.violation.is_some()) {
        panic!("{}", tell(report));
    }
    let missing: Vec<_> = HAPPENS.iter().filter(|what| !counts.contains_key(*what)).collect();
    assert!(count < SEEDS || missing.is_empty(), "in {count} seeds these never happen: {missing:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let (first, count) = (setting("SIM_FIRST").unwrap_or(0), setting("SIM_SEEDS").unwrap_or(SEEDS) / 10);
    let all = || run_all(first, count, None, Show::All, |_| false);
    for (one, other) in all().iter().zip(&all()) {
        let seed = one.seed;
        if let Some(place) = one.lines.iter().zip(&other.lines).position(|(one, other)| one != other) {
            let before = one.lines[place.saturating_sub(30)..place].join("\n");
            panic!("seed {seed}: after\n{before}\ncomes\n{}\nand\n{}", one.lines[place], other.lines[place]);
        }
        assert_eq!(one.hash, other.hash, "seed {seed}: one trace is longer");
    }
}

/// How many seeds a planted bug may take to be found.
const FOUND_WITHIN: u64 = 100;

#[test]
fn every_planted_bug_is_found() {
    let next = AtomicU64::new(0);
    let missed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(bug) =
                    Bug::ALL.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap())
                {
                    let found = (0..FOUND_WITHIN)
                        .map(|seed| run(seed, Some(*bug), Show::Tail))
                        .find_map(|report| Some((report.seed, report.violation?)));
                    match found {
                        Some((seed, how)) => println!("{bug:?} is found by seed {seed}: {how}"),
                        None => missed.lock().unwrap().push(*bug),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{FOUND_WITHIN} seeds do not find {missed:?}");
}

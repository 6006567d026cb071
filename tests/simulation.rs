//! The real host, timers and deliveries in a world of one seed: clients that retry, vendors with a ledger, and a crash between any
//! two steps. What is promised must hold in each, and a bug planted on purpose must be found.
//!
//! ```text
//! SIM_SEEDS=5000 SIM_FIRST=300 cargo test --test simulation every_seed     more seeds
//! SIM_SEED=17 cargo test --test simulation every_seed -- --nocapture       one seed, with all that happens in it
//! ```
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]
#![expect(clippy::print_stdout, reason = "what a run showed, for whoever asked for it")]

#[path = "simulation/book.rs"]
mod book;
#[path = "simulation/bugs.rs"]
mod bugs;
#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/ground.rs"]
mod ground;
#[path = "simulation/life.rs"]
mod life;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/operator.rs"]
mod operator;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/runner.rs"]
mod runner;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/vendor.rs"]
mod vendor;
#[path = "simulation/world.rs"]
mod world;

use bugs::Bug;
use runner::Runs;
use world::run;

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

/// Runs seeds of this simulation.
const RUNS: Runs<Bug> = Runs { test: "simulation", seeds: SEEDS, run };

#[test]
fn every_seed_keeps_every_promise() {
    RUNS.keep_every_promise(HAPPENS);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    RUNS.give_the_same_trace_twice(SEEDS / 10);
}

/// How many seeds a planted bug may take to be found.
const FOUND_WITHIN: u64 = 100;

#[test]
fn every_planted_bug_is_found() {
    RUNS.find_every(&Bug::ALL, |_bug| 0, FOUND_WITHIN);
}

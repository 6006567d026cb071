//! A whole cluster in a world of one seed: the real hosts, drivers, routers, gossip, transport, timers and deliveries of three to five
//! nodes, over a network and a store that fail in every way a real one does. What is promised must hold in each, and a bug planted on
//! purpose must be found.
//!
//! ```text
//! SIM_SEEDS=500 SIM_FIRST=300 cargo test --test cluster_simulation every_seed     more seeds
//! SIM_SEED=17 cargo test --test cluster_simulation every_seed -- --nocapture      one seed, with all that happens in it
//! ```
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]
#![expect(clippy::print_stdout, reason = "what a run showed, for whoever asked for it")]

#[path = "simulation/book.rs"]
mod book;
#[path = "cluster_simulation/bugs.rs"]
mod bugs;
#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/client.rs"]
mod client;
#[path = "cluster_simulation/ground.rs"]
mod ground;
#[path = "simulation/life.rs"]
mod life;
#[path = "cluster_simulation/net.rs"]
mod net;
#[path = "cluster_simulation/node.rs"]
mod node;
#[path = "simulation/operator.rs"]
mod operator;
#[path = "cluster_simulation/path.rs"]
mod path;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "cluster_simulation/reader.rs"]
mod reader;
#[path = "simulation/runner.rs"]
mod runner;
#[path = "simulation/vendor.rs"]
mod vendor;
#[path = "cluster_simulation/weather.rs"]
mod weather;
#[path = "cluster_simulation/witness.rs"]
mod witness;
#[path = "cluster_simulation/world.rs"]
mod world;

use bugs::Bug;
use runner::Runs;
use world::run;

/// Seeds where nothing else is said.
const SEEDS: u64 = 12;

/// What must happen in that many seeds: a fault that never comes guards nothing.
const HAPPENS: &[&str] = &[
    "ack: duplicate",
    "ack: first",
    "append: duplicate",
    "append: fenced",
    "asleep",
    "asleep past the lease",
    "client: ack lost",
    "client: request lost",
    "client: unavailable",
    "crash",
    "cut all from all",
    "cut from peers, not from the store",
    "cut from the store, not from peers",
    "cut one way",
    "datagrams lost",
    "datagrams twice and in another order",
    "delay spike",
    "epoch given twice, the first was lost",
    "message forwarded",
    "promotion: epochs lost",
    "promotion: nothing lost",
    "promotion: the tail lost",
    "read: answered",
    "record lost and written again",
    "restart in order",
    "shard lost",
    "split",
    "store away",
    "store out of memory",
    "store restarted",
    "store slow",
    "store: not reached",
    "store: write done, answer lost",
    "store: write failed",
    "vendor: outage",
    "vendor: timed out",
];

/// Runs seeds of this simulation.
const RUNS: Runs<Bug> = Runs { test: "cluster_simulation", seeds: SEEDS, run };

#[test]
fn every_seed_keeps_every_promise() {
    RUNS.keep_every_promise(HAPPENS);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    RUNS.give_the_same_trace_twice(2);
}

#[test]
fn every_planted_bug_is_found() {
    RUNS.find_every(&Bug::SOON, Bug::first_seed, 10);
}

#[test]
#[ignore = "it takes many minutes: cargo test --test cluster_simulation -- --ignored --nocapture"]
fn every_planted_bug_is_found_in_the_end() {
    RUNS.find_every(&Bug::LATER, Bug::first_seed, 200);
}

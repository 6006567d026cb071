//! The simulated systems, called through the shipped connector files by the real delivery over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "sandbox/world.rs"]
mod world;

#[path = "sandbox/contracts.rs"]
mod contracts;
#[path = "sandbox/faults.rs"]
mod faults;
#[path = "sandbox/ledger.rs"]
mod ledger;
#[path = "sandbox/life.rs"]
mod life;
#[path = "sandbox/operations.rs"]
mod operations;
#[path = "sandbox/procure.rs"]
mod procure;
#[path = "sandbox/records.rs"]
mod records;
#[path = "sandbox/subscribe.rs"]
mod subscribe;
#[path = "sandbox/webhooks.rs"]
mod webhooks;

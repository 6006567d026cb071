//! Two and three nodes that ask each other: over a network in memory, and over TCP with mutual TLS.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "transport/authority.rs"]
mod authority;
#[path = "transport/calls.rs"]
mod calls;
#[path = "transport/net.rs"]
mod net;
#[path = "transport/strangers.rs"]
mod strangers;
#[path = "transport/trust.rs"]
mod trust;
#[path = "transport/world.rs"]
mod world;

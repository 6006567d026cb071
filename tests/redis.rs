//! What only a store on other machines can do: go away, come back, come back as another one, lie about how durable it is.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/failover.rs"]
mod failover;
#[path = "journal/kit.rs"]
#[expect(dead_code, reason = "it is the journal's kit; not all of it is needed here")]
mod kit;
#[path = "redis/lease.rs"]
mod lease;
#[path = "redis/preflight.rs"]
mod preflight;
#[path = "redis/restart.rs"]
mod restart;
#[path = "redis/server.rs"]
#[expect(dead_code, reason = "tests/cluster.rs brings servers back")]
mod server;
#[path = "redis/share.rs"]
mod share;
#[path = "redis/upgrade.rs"]
mod upgrade;

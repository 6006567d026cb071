//! A node: every part wired to the others, started in order and drained in order. It alone names every concrete type.
//!
//! ```text
//! ingress ─► host ─► journal          hints:  host ─► delivery, timers
//! delivery, timers ─► host            console reads host, journal, delivery
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use syncline_actors::id::{EffectId, EntityId, NodeId, ShardId};
use syncline_actors::outbox::{OutboxRow, TimerRow};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::SharedClock;
use crate::config::Settings;
use crate::delivery::wire::Wire;
use crate::delivery::{self, Delivery};
use crate::host::{self, Hints, Host, HostConfig, Lane, Means};
use crate::integration::Integration;
use crate::journal::SharedJournal;
use crate::journal::redb::{self, Redb};
use crate::{console, ingress, telemetry, timer};

mod mailboxes;
mod observers;

use mailboxes::Mailbox;
use observers::Watch;

/// Why a node cannot start, or could not go on. Nothing that was acknowledged is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened.
    #[error(transparent)]
    Journal(#[from] crate::journal::Error),
    /// The host cannot start.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// Connectors lack settings.
    #[error(transparent)]
    Delivery(#[from] delivery::Error),
    /// Sources lack settings.
    #[error(transparent)]
    Ingress(#[from] ingress::Error),
    /// Tokens cannot be resolved, or there is no TLS.
    #[error("{0}")]
    Settings(String),
    /// Outgoing HTTPS cannot be set up.
    #[error(transparent)]
    Wire(#[from] delivery::wire::WireSetup),
    /// A directory cannot be made.
    #[error("cannot create {path}: {error}; set `node.data_dir` to a directory that this user may write")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
}

/// What a node stands on besides its settings: what a test or the demo gives its own.
#[derive(Debug)]
pub struct Ground {
    /// The integration.
    pub integration: Integration,
    /// Where everything is kept.
    pub journal: SharedJournal,
    /// What tells the time.
    pub clock: SharedClock,
    /// What makes calls.
    pub wire: Arc<dyn Wire>,
    /// Fixes the pauses between attempts.
    pub seed: u64,
    /// Gives the value of a reference such as `env:NAME`.
    pub lookup: Lookup,
}

/// Gives the value of a reference such as `env:NAME` or `file:/path`; none when there is nothing.
#[derive(Clone)]
pub struct Lookup(pub Arc<dyn Fn(&str) -> Option<String> + Send + Sync>);

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lookup")
    }
}

impl Default for Lookup {
    fn default() -> Self {
        Self(Arc::new(delivery::surroundings))
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    host: Host,
    delivery: Arc<Delivery>,
    journal: SharedJournal,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    timers: JoinHandle<()>,
    keeper: JoinHandle<()>,
    drain_for: Duration,
}

/// Passes the host's hints on to those who wait for work. They are made after the host, so it learns of them late.
#[derive(Debug, Default)]
struct Switchboard {
    delivery: OnceLock<Arc<Delivery>>,
    timers: timer::Waker,
}

impl Hints for Switchboard {
    fn effects(&self, rows: &[OutboxRow]) {
        if let Some(delivery) = self.delivery.get() {
            delivery.hint(rows);
        }
    }

    fn called_off(&self, entity: &EntityId, effects: &[EffectId]) {
        for effect in effects {
            self.delivery.get().into_iter().for_each(|delivery| delivery.call_off(entity, *effect));
        }
    }

    fn timers(&self, rows: &[TimerRow]) {
        self.timers.hint(rows);
    }
}

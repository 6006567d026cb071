//! Node to node: a request goes out, an answer comes back, and when none comes the caller learns what that means.
//!
//! The idea: a caller whose request fails must know one thing, whether it may have been handled. So each way to fail is one of
//! two kinds. [`Error::NotSent`], [`Error::Busy`], [`Error::TooLarge`] and [`Error::Refused`] mean that nothing was done and
//! nothing will be: ask elsewhere, or again. [`Error::Unknown`] means that it left and no answer came: only a request that may be
//! done twice may be sent again. A connection that dies says so to all of its calls at once, without waiting for deadlines.
//!
//! ```text
//! caller ── call ─► bounds ─► link (opens a connection, keeps it) ─► queue ─► writer: all that waits, one write ─┐
//!                                                                                    mutual TLS 1.3 over TCP     │
//! caller ◄─ answer, by request id ◄─ reader ◄──── writer ◄── handler, a task per request ◄── bounds ◄── reader ◄─┘
//! ```
//! - A node opens one connection to each node that it asks ([`Transport::call`]), and answers on those that others open.
//! - Both know whom they speak with: a certificate names node and cluster ([`TlsFiles`]), the first words say versions and
//!   which start of the node it is. After a restart the ghost of the former process is not heard.
//! - What is in flight is bounded for each peer, in number and bytes, where it begins and where it ends. Nothing queues beyond:
//!   who finds it full is told [`Error::Busy`].
//! - The deadline travels as the time that is left, so clocks need not agree. A request that comes too late is not begun.
//! - Payloads are bytes: the caller frames them, this module carries them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use syncline_actors::id::NodeId;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::clock::SharedClock;

mod bounds;
mod callers;
mod frame;
mod hello;
mod incoming;
mod link;
mod network;
mod open;
mod outgoing;
mod stats;
mod tls;
mod wire;

pub use hello::{Refusal, Versions};
pub use network::{BoxedStream, Listener, Network, Stream, Tcp};
pub use stats::{Calls, Stats};
pub use tls::{TlsError, TlsFiles, certificate_name};

use bounds::Bounds;
use callers::Callers;
use hello::Hello;
use link::Link;
use network::SharedNetwork;
use stats::Counters;
use tls::Identity;

/// Links without connections are forgotten beyond this many.
const LINKS_MAX: usize = 1_024;

/// Who the node is and how much it takes on.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name. With TLS one label of a DNS name: lower-case letters, digits, hyphens.
    pub node: NodeId,
    /// The cluster's name. With TLS a DNS name.
    pub cluster: String,
    /// Which start of the node this is: grows with each.
    pub boot: u64,
    /// Where it listens, port 0 for any free one.
    pub listen: SocketAddr,
    /// The versions of the protocol it speaks: [`Versions::OWN`], but for tests of those to come.
    pub versions: Versions,
    /// What is bounded, in size and time.
    pub limits: Limits,
}

/// What is bounded, in size and time. All nodes of a cluster should have the same.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest payload, in bytes. The smaller of two nodes' holds between them.
    pub payload_max: u32,
    /// Requests in flight with one peer, in each direction.
    pub in_flight_max: usize,
    /// Bytes of their payloads; at least `payload_max`.
    pub in_flight_bytes_max: usize,
    /// What a caller is told to wait when as much is in flight as may be.
    pub retry_after: Duration,
    /// Connections of others at the same time. Each may hold `payload_max` for a frame that is arriving.
    pub connections_max: usize,
    /// Time to open a connection.
    pub connect_timeout: Duration,
    /// Time for TLS and the first words.
    pub handshake_timeout: Duration,
    /// After so long without a byte a caller asks whether the peer is there; after twice as long the connection is cut.
    pub keep_alive: Duration,
    /// Age at which a connection is replaced, so that a certificate that is no longer valid does not live on in it.
    pub age_max: Duration,
    /// Pause after the first failure to connect; it doubles with each.
    pub backoff_min: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// How often the certificate files are looked at.
    pub reload_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_max: 8 << 20,
            in_flight_max: 1_024,
            in_flight_bytes_max: 64 << 20,
            retry_after: Duration::from_millis(25),
            connections_max: 256,
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(3),
            keep_alive: Duration::from_secs(1),
            age_max: Duration::from_hours(1),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            reload_every: Duration::from_secs(10),
        }
    }
}

impl Limits {
    fn bounds(&self) -> Bounds {
        Bounds::new(self.in_flight_max, self.in_flight_bytes_max)
    }
}

/// Another node, and where it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name: whoever answers at the address must be that node.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A request of another node.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks: with TLS as its certificate says, otherwise as it says itself.
    pub from: NodeId,
    /// What it asks.
    pub payload: Bytes,
    /// Until when it waits. What takes longer is not sent; a handler is never broken off.
    pub deadline: Instant,
}

/// Answers requests.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The answer, at most the payload's limit. Each request has a task of its own; as many run as may be in flight. A panic
    /// ends only this request: its caller is told [`Error::Unknown`].
    async fn handle(&self, request: Request) -> Bytes;
}

/// Why a call has no answer, and what that says about the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was done, nor will be. Ask again, or elsewhere.
    #[error("nothing was sent to {node}: {why}")]
    NotSent {
        /// Whom.
        node: NodeId,
        /// What was in the way.
        why: String,
    },
    /// It left, and no answer came: it may have been handled, or may still be. Ask again only what may be done twice.
    #[error("{node} gave no answer and may have handled the request: {why}")]
    Unknown {
        /// Whom.
        node: NodeId,
        /// What happened.
        why: String,
    },
    /// As much is in flight with the peer as may be, here or there. Nothing was done.
    #[error("{node} has as much in flight as may be; try again after {retry_after:?}")]
    Busy {
        /// Whom.
        node: NodeId,
        /// When to try again.
        retry_after: Duration,
    },
    /// The payload is longer than both nodes carry. Nothing was sent.
    #[error("a request of {bytes} bytes is too large for the transport, at most {max} are allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: u32,
    },
    /// The two nodes do not speak with each other. Nothing was sent; somebody must change something first.
    #[error("no connection to {node}: {why}")]
    Refused {
        /// Whom.
        node: NodeId,
        /// The kind of reason.
        refusal: Refusal,
        /// The reason with both sides' values, and the fix.
        why: String,
    },
}

/// Why a node has no transport. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Bytes would leave the machine in the open.
    #[error(
        "{0} is reachable from other machines, so the transport needs TLS: name ca, cert and key, or listen on loopback"
    )]
    Plain(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen for other nodes on {address}: {source}; free the port or set another")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A value is out of range.
    #[error("{0}")]
    Config(String),
}

/// How far a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It takes requests.
    Open,
    /// It takes none, and finishes those in hand.
    Draining,
    /// Connections close.
    Over,
}

/// What all parts share.
struct Parts {
    config: Config,
    identity: Option<Identity>,
    network: SharedNetwork,
    handler: Arc<dyn Handler>,
    counters: Arc<Counters>,
    callers: Callers,
    stage: watch::Sender<Stage>,
    in_hand: watch::Sender<usize>,
    chance: Mutex<StdRng>,
}

impl Parts {
    fn hello(&self) -> Hello {
        Hello {
            versions: self.config.versions,
            boot: self.config.boot,
            payload_max: self.config.limits.payload_max,
            cluster: self.config.cluster.clone(),
            node: self.config.node.clone(),
        }
    }

    /// The pause after as many failures and one more: doubled each time, and shortened by chance to a half at most, so that
    /// nodes do not knock together.
    fn pause(&self, failures: u32) -> Duration {
        let limits = &self.config.limits;
        let most = limits.backoff_min.saturating_mul(1 << failures.min(16)).min(limits.backoff_max);
        let part = self.chance.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.5..=1.0);
        most.mul_f64(part)
    }
}

/// A node's part in the exchange. Clones are the same part.
#[derive(Clone)]
pub struct Transport {
    parts: Arc<Parts>,
    links: Arc<Mutex<BTreeMap<NodeId, Arc<Link>>>>,
    address: SocketAddr,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("node", &self.parts.config.node).finish_non_exhaustive()
    }
}

/// What a transport is given from outside.
#[derive(Debug)]
pub struct World {
    /// Where connections come from.
    pub network: Arc<dyn Network>,
    /// The time, for the validity of certificates.
    pub clock: SharedClock,
    /// Chance: it must differ between processes.
    pub seed: u64,
}

impl Transport {
    /// Listens, and answers with `handler` until `shutdown`; then every connection is cut. Call [`Self::drain`] first.
    ///
    /// # Errors
    /// Without `tls` unless the network says that bytes stay on this machine; when a file cannot be used; when the address cannot
    /// be had.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(
        config: Config,
        tls: Option<TlsFiles>,
        world: World,
        handler: Arc<dyn Handler>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, StartError> {
        check(&config)?;
        let World { network, clock, seed } = world;
        if tls.is_none() && !network.stays_here(config.listen) {
            return Err(StartError::Plain(config.listen));
        }
        let load = |files| Identity::load(files, &config.node, &config.cluster, clock);
        let identity = tls.map(load).transpose()?;
        let refused = |source| StartError::Listen { address: config.listen, source };
        let listener = network.listen(config.listen).await.map_err(refused)?;
        let address = listener.address();
        let parts = Arc::new(Parts {
            config,
            identity,
            network,
            handler,
            counters: Arc::default(),
            callers: Callers::default(),
            stage: watch::channel(Stage::Open).0,
            in_hand: watch::channel(0).0,
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
        });
        tokio::spawn(incoming::listen(parts.clone(), listener));
        let all = parts.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = shutdown => {}
                () = reload_for_ever(&all) => {}
            }
            all.stage.send_replace(Stage::Over);
        });
        Ok(Self { parts, links: Arc::default(), address })
    }

    /// Where it listens, with the port that was found if any was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks a peer and waits for its answer, at most `deadline`, connecting included.
    ///
    /// # Errors
    /// Each says what became of the request.
    pub async fn call(&self, peer: &Peer, payload: Bytes, deadline: Duration) -> Result<Bytes, Error> {
        let max = self.parts.config.limits.payload_max;
        let ended = if payload.len() > max as usize {
            Err(Error::TooLarge { bytes: payload.len(), max })
        } else if *self.parts.stage.borrow() == Stage::Over {
            Err(Error::NotSent { node: peer.node.clone(), why: "this node stops".to_owned() })
        } else {
            let until = Instant::now() + deadline;
            self.link(peer).call(&self.parts, peer, payload, until).await
        };
        self.parts.counters.call(&ended);
        ended
    }

    /// Takes no more requests and waits, at most `within`, until those in hand have been answered; `false`: some have not.
    ///
    /// Connections stay, so that callers are told; own calls can still be made.
    pub async fn drain(&self, within: Duration) -> bool {
        self.parts.stage.send_if_modified(|stage| {
            let is_open = *stage == Stage::Open;
            if is_open {
                *stage = Stage::Draining;
            }
            is_open
        });
        let mut in_hand = self.parts.in_hand.subscribe();
        timeout(within, in_hand.wait_for(|count| *count == 0)).await.is_ok()
    }

    /// Reads the certificate files now; whether they are others than before. New connections use them, old ones stay.
    ///
    /// # Errors
    /// When they cannot be used. What was used before still is.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.parts.identity.as_ref().map_or(Ok(false), Identity::reload)
    }

    /// What has been counted.
    pub fn stats(&self) -> Stats {
        self.parts.counters.read(*self.parts.in_hand.borrow())
    }

    fn link(&self, peer: &Peer) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() >= LINKS_MAX {
            links.retain(|_, link| !link.is_unused());
        }
        let fresh = || Arc::new(Link::new(peer.address, self.parts.config.limits.bounds()));
        links.entry(peer.node.clone()).or_insert_with(fresh).clone()
    }
}

/// Looks at the certificate files again and again. Without TLS it only waits.
async fn reload_for_ever(parts: &Arc<Parts>) {
    if parts.identity.is_none() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(parts.config.limits.reload_every).await;
        let all = parts.clone();
        let read =
            tokio::task::spawn_blocking(move || all.identity.as_ref().map_or(Ok(false), Identity::reload));
        match read.await {
            Ok(Ok(true)) => tracing::info!("the transport's certificates were replaced"),
            Ok(Err(error)) => tracing::error!(%error, "the transport's new certificates cannot be used"),
            Ok(Ok(false)) | Err(_) => {}
        }
    }
}

/// Finds what could never work.
fn check(config: &Config) -> Result<(), StartError> {
    let limits = &config.limits;
    let wrong = |text: String| Err(StartError::Config(text));
    for (what, name) in [("node", &*config.node.0), ("cluster", &config.cluster)] {
        if !hello::is_name(name) {
            return wrong(format!(
                "the transport's {what} name `{}` must have 1 to 255 bytes and no control characters",
                name.escape_debug()
            ));
        }
    }
    if config.versions.min > config.versions.max {
        return wrong(format!("there are no protocol versions {}", config.versions));
    }
    if limits.in_flight_max == 0 || limits.connections_max == 0 || limits.keep_alive.is_zero() {
        return wrong(
            "the transport's in_flight_max, connections_max and keep_alive must be more than 0".to_owned(),
        );
    }
    if limits.in_flight_bytes_max < limits.payload_max as usize {
        return wrong(format!(
            "the transport's in_flight_bytes_max of {} must be at least payload_max, {}, or the largest payload would never be sent",
            limits.in_flight_bytes_max, limits.payload_max
        ));
    }
    Ok(())
}

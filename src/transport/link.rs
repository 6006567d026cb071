//! The way to one other node: a connection that is opened when it is needed, kept, and opened anew when it has ended.
//!
//! After a failure nobody knocks for a while that doubles each time; calls in between fail at once with the reason. Calls that
//! come while a connection is being opened wait for that one. The attempt is a task of its own, so that a caller with little
//! time does not break it off for those who have more.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::time::{Instant, timeout_at};

use super::bounds::Bounds;
use super::outgoing::Outgoing;
use super::{Error, Parts, Peer, open};

/// An attempt to open a connection, for all who wait for it.
type Attempt = Shared<BoxFuture<'static, Result<Arc<Outgoing>, Error>>>;

/// How a link is.
enum State {
    /// Nothing was tried, or what was there has ended.
    Idle,
    /// A connection is being opened.
    Opening(Attempt),
    /// There is one; whether it still lives, it knows.
    Up(Arc<Outgoing>),
    /// The last attempt failed. No other is made before `until`.
    Down { until: Instant, error: Error },
}

/// The way to one node, wherever it is.
pub(super) struct Link {
    bounds: Bounds,
    way: Mutex<Way>,
}

struct Way {
    address: SocketAddr,
    state: State,
    /// Attempts that failed, since the last that did not.
    failures: u32,
}

impl Link {
    pub(super) fn new(address: SocketAddr, bounds: Bounds) -> Self {
        Self { bounds, way: Mutex::new(Way { address, state: State::Idle, failures: 0 }) }
    }

    /// Asks the peer, opening a connection if there is none.
    pub(super) async fn call(
        self: &Arc<Self>,
        parts: &Arc<Parts>,
        peer: &Peer,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Error> {
        let limits = &parts.config.limits;
        let Some(_permit) = self.bounds.take(payload.len()) else {
            return Err(Error::Busy { node: peer.node.clone(), retry_after: limits.retry_after });
        };
        let _counted = parts.counters.in_flight_out.while_held();
        let outgoing = match self.look(parts, peer) {
            Ok(there) => there?,
            Err(attempt) => timeout_at(deadline, attempt).await.unwrap_or_else(|_elapsed| {
                let why = format!("the deadline passed while {} was being reached", peer.address);
                Err(Error::NotSent { node: peer.node.clone(), why })
            })?,
        };
        outgoing.call(payload, deadline).await
    }

    /// Whether nothing is lost by forgetting it.
    pub(super) fn is_unused(&self) -> bool {
        let is_up = |state: &State| matches!(state, State::Up(_) | State::Opening(_));
        self.bounds.used() == 0 && !is_up(&self.way().state)
    }

    /// The connection or why there is none; otherwise the attempt to wait for.
    fn look(
        self: &Arc<Self>,
        parts: &Arc<Parts>,
        peer: &Peer,
    ) -> Result<Result<Arc<Outgoing>, Error>, Attempt> {
        let mut way = self.way();
        if way.address != peer.address {
            *way = Way { address: peer.address, state: State::Idle, failures: 0 };
        }
        match &way.state {
            State::Up(outgoing) if outgoing.is_good(parts.config.limits.age_max) => Ok(Ok(outgoing.clone())),
            State::Down { until, error } if Instant::now() < *until => Ok(Err(error.clone())),
            State::Opening(attempt) => Err(attempt.clone()),
            _ => {
                let attempt = self.begin(parts.clone(), peer.clone());
                way.state = State::Opening(attempt.clone());
                Err(attempt)
            }
        }
    }

    fn begin(self: &Arc<Self>, parts: Arc<Parts>, peer: Peer) -> Attempt {
        let link = self.clone();
        let node = peer.node.clone();
        let task = tokio::spawn(async move {
            let opened = open::open(&parts, &peer).await;
            link.ended(&parts, &peer, &opened);
            opened
        });
        let told = task.map(move |joined| {
            let why = || "the attempt to reach it was broken off".to_owned();
            joined.unwrap_or_else(|_stopped| Err(Error::NotSent { node, why: why() }))
        });
        told.boxed().shared()
    }

    /// Notes how an attempt ended, unless the node has moved meanwhile.
    fn ended(&self, parts: &Parts, peer: &Peer, opened: &Result<Arc<Outgoing>, Error>) {
        let mut way = self.way();
        if way.address != peer.address {
            return;
        }
        match opened {
            Ok(outgoing) => {
                way.failures = 0;
                way.state = State::Up(outgoing.clone());
            }
            Err(error) => {
                if way.failures == 0 {
                    tracing::warn!(peer = %peer.node, address = %peer.address, %error, "cannot reach a peer");
                }
                let pause = parts.pause(way.failures);
                way.failures = way.failures.saturating_add(1);
                way.state = State::Down { until: Instant::now() + pause, error: error.clone() };
            }
        }
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

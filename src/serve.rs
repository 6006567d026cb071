//! The one HTTP listener: who may connect, for how long, and how it ends. It knows nothing of routes.
//!
//! Everything is bounded. Connections over the cap are not accepted, so that they wait in the operating system's queue; a
//! client has a time for its headers, a request has a time for its answer, and a connection on which nothing happens is
//! closed. At shutdown nothing new is accepted and what is being answered is answered.

mod connection;
mod request;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use connection::{Connections, Stage};

/// Pause after an accept that failed because the machine lacks something, e.g. file descriptors: some will be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What clients are given, each once for every connection or request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time for the TLS handshake, and for the headers of a request from when they may begin.
    pub header_timeout: Duration,
    /// Time for one request, from its headers to its answer. After it: 503.
    pub request_timeout: Duration,
    /// Connections held at the same time; at least 1.
    pub connections_max: usize,
}

/// How near the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is not in sight.
    Not,
    /// All is served, and each answer ends its connection, so that its client goes elsewhere with the next request.
    Soon,
    /// Nothing new is accepted.
    Now,
}

/// Why there is no listener. Nothing is bound.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Someone else listens there.
    #[error(
        "{0} is in use: another process listens there; set http.listen to another port or stop the other process"
    )]
    InUse(SocketAddr),
    /// Not without privilege.
    #[error(
        "{0} may not be used: ports below 1024 need a privilege; set http.listen to a higher port or grant CAP_NET_BIND_SERVICE"
    )]
    Forbidden(SocketAddr),
    /// The address is not this machine's.
    #[error(
        "{0} is not an address of this machine; set http.listen to 127.0.0.1, or to 0.0.0.0 for all its addresses"
    )]
    Elsewhere(SocketAddr),
    /// The system said no for another reason.
    #[error("cannot listen on {address}: {source}; check http.listen")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file of `[http.tls]` is missing or does not hold what it should.
    #[error("{key} = {}: {problem}", path.display())]
    Pem {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and the fix.
        problem: String,
    },
}

/// An address that is bound but not served yet: connections wait in the operating system's queue.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsSetup>,
}

struct TlsSetup(TlsAcceptor);

impl std::fmt::Debug for TlsSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsSetup")
    }
}

impl Listener {
    /// Binds `address`, port 0 for any free one. `tls` is the certificate chain and the private key, PEM files.
    ///
    /// # Errors
    /// When the address cannot be bound or a file cannot be used; the message names the fix.
    pub async fn bind(address: SocketAddr, tls: Option<(&Path, &Path)>) -> Result<Self, Error> {
        let tls = tls.map(|(cert, key)| tls::acceptor(cert, key).map(TlsSetup)).transpose()?;
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => Error::InUse(address),
            io::ErrorKind::PermissionDenied => Error::Forbidden(address),
            io::ErrorKind::AddrNotAvailable => Error::Elsewhere(address),
            _ => Error::Bind { address, source },
        };
        let socket = TcpListener::bind(address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(|source| Error::Bind { address, source })?;
        Ok(Self { socket, address, tls })
    }

    /// Where it listens, with the port that was found if any was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `ending` says [`Ending::Now`], then gives connections `drain_for` to end. Each request carries
    /// `ConnectInfo<SocketAddr>`; each answer is counted by route.
    ///
    /// `false`: some connections were cut, with requests perhaps unanswered. Dropping the future cuts all.
    pub async fn serve(
        self,
        router: Router,
        limits: Limits,
        mut ending: watch::Receiver<Ending>,
        drain_for: Duration,
    ) -> bool {
        let most = u32::try_from(limits.connections_max.max(1)).unwrap_or(u32::MAX);
        let places = Arc::new(Semaphore::new(most as usize));
        let (stage, watched) = watch::channel(Stage::Open);
        let connections = Connections::new(router, limits, self.tls.map(|TlsSetup(acceptor)| acceptor));
        loop {
            tokio::select! {
                (stream, peer, place) = accept(&self.socket, &places) => {
                    connections.begin(stream, peer, watched.clone(), place);
                }
                changed = ending.changed() => match *ending.borrow_and_update() {
                    Ending::Not if changed.is_ok() => {}
                    Ending::Soon if changed.is_ok() => { stage.send_replace(Stage::Leaving); }
                    Ending::Not | Ending::Soon | Ending::Now => break,
                },
            }
        }
        drop(self.socket);
        stage.send_replace(Stage::Draining);
        let all_ended = tokio::time::timeout(drain_for, places.acquire_many(most)).await.is_ok();
        stage.send_replace(Stage::Over);
        all_ended
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("it is never closed");
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections now; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether only that one connection failed, before it was accepted.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

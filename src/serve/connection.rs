//! One connection: from its handshake to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::{Limits, request};

/// A connection that has been used is closed after so long without a request (HTTP/1.1 closes after the header timeout).
const IDLE_MAX: Duration = Duration::from_secs(75);

/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;

/// Bytes of all headers of one request, and what is read ahead.
const HEADERS_MAX: u32 = 64 * 1024;

/// HTTP/2 asks after this time of silence whether the peer is still there, and waits as long for its answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How far the listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It serves.
    Open,
    /// It serves, and each answer ends its connection.
    Leaving,
    /// What is being answered is answered, then connections close.
    Draining,
    /// Time is up.
    Over,
}

/// What all connections have in common.
pub(super) struct Connections(Arc<Shared>);

struct Shared {
    router: Router,
    http: Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    header_timeout: Duration,
}

impl Connections {
    pub(super) fn new(router: Router, limits: Limits, tls: Option<TlsAcceptor>) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            // A message is taken to its end even if its sender hangs up; without this each request costs a read that looks whether it has.
            .half_close(true)
            .max_buf_size(HEADERS_MAX as usize);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADERS_MAX);
        let router = request::bounded(router, limits.request_timeout);
        Self(Arc::new(Shared { router, http, tls, header_timeout: limits.header_timeout }))
    }

    /// Serves one connection, which keeps its `place` until it has ended.
    pub(super) fn begin(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        stage: watch::Receiver<Stage>,
        place: OwnedSemaphorePermit,
    ) {
        let shared = self.0.clone();
        tokio::spawn(async move {
            shared.run(stream, peer, stage).await;
            drop(place);
        });
    }
}

impl Shared {
    async fn run(&self, stream: TcpStream, peer: SocketAddr, stage: watch::Receiver<Stage>) {
        // Answers are small and written whole: waiting to fill a packet would only add 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY is not set");
        }
        let Some(tls) = &self.tls else { return self.talk(stream, peer, stage).await };
        match timeout(self.header_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.talk(stream, peer, stage).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "the TLS handshake failed"),
            Err(_elapsed) => tracing::debug!(%peer, "the TLS handshake took too long"),
        }
    }

    async fn talk<S>(&self, stream: S, peer: SocketAddr, stage: watch::Receiver<Stage>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requests = Arc::new(Requests::default());
        let service =
            service_fn(|request| answer(self.router.clone(), requests.clone(), stage.clone(), peer, request));
        let mut stage = stage.clone();
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let mut patience = self.header_timeout;
        let (mut seen, mut was_asked) = (0, false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "a connection ended early");
                    }
                    return;
                }
                changed = stage.changed() => {
                    match *stage.borrow_and_update() {
                        _ if changed.is_err() => return,
                        Stage::Over => return,
                        // A client of HTTP/1.1 may be about to send: it is told with its next answer.
                        Stage::Leaving if !requests.is_http2.load(Ordering::Relaxed) => {}
                        Stage::Open => {}
                        Stage::Leaving | Stage::Draining => connection.as_mut().graceful_shutdown(),
                    }
                }
                () = sleep(patience) => {
                    let ever = requests.ever.load(Ordering::Relaxed);
                    if requests.open.load(Ordering::Relaxed) > 0 || ever != seen {
                        (seen, was_asked) = (ever, false);
                    } else if ever == 0 || was_asked {
                        tracing::debug!(%peer, "a connection without a request is cut");
                        return;
                    } else {
                        connection.as_mut().graceful_shutdown();
                        was_asked = true;
                    }
                    patience = IDLE_MAX;
                }
            }
        }
    }
}

/// The requests of one connection. hyper waits without end for the first bytes of one that may be HTTP/2, and for a client
/// that does not read its answer.
#[derive(Debug, Default)]
struct Requests {
    open: AtomicUsize,
    ever: AtomicUsize,
    is_http2: AtomicBool,
}

/// A request that is being answered.
struct Open(Arc<Requests>);

impl Open {
    fn new(requests: Arc<Requests>) -> Self {
        requests.ever.fetch_add(1, Ordering::Relaxed);
        requests.open.fetch_add(1, Ordering::Relaxed);
        Self(requests)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer(
    router: Router,
    requests: Arc<Requests>,
    stage: watch::Receiver<Stage>,
    peer: SocketAddr,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let is_http2 = request.version() == Version::HTTP_2;
    requests.is_http2.store(is_http2, Ordering::Relaxed);
    let _open = Open::new(requests);
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut answered = router.oneshot(request).await;
    if let Ok(response) = &mut answered
        && !is_http2
        && *stage.borrow() != Stage::Open
    {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answered
}

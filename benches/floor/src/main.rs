//! The floor that the load generator compares a node with: the endpoint that anyone would write first. It checks the
//! signature of a Standard Webhook (HMAC-SHA256, five minutes of tolerance), parses the JSON and answers 200. It keeps
//! nothing, remembers no id and decides nothing: what a node costs on top of it is what those cost.
//!
//! ```text
//! SYNCLINE_LOAD_SECRET=whsec_... cargo run --release -p floor -- 127.0.0.1:7180
//! ```
//!
//! Beside it is a sink for effects: `POST /sink` is counted, `GET /sunk` tells how many there were.
//!
//! It prints its address when it is ready. Without an argument the system chooses the port.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Effects that reached the sink.
static SUNK: AtomicU64 = AtomicU64::new(0);

/// How far a signature's time may be from now, in seconds.
const TOLERANCE: u64 = 300;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let secret = std::env::var("SYNCLINE_LOAD_SECRET")
        .context("set SYNCLINE_LOAD_SECRET to `whsec_` and a key in base64")?;
    let key = STANDARD
        .decode(secret.trim_start_matches("whsec_"))
        .context("SYNCLINE_LOAD_SECRET is not `whsec_` and a key in base64")?;
    let mac = Hmac::<Sha256>::new_from_slice(&key).context("the key does not fit HMAC")?;
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener =
        TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    let router = Router::new()
        .route("/hooks/load", post(hook))
        .route("/sink", post(sink))
        .route("/sunk", get(async || SUNK.load(Ordering::Relaxed).to_string()));
    let mut told_to_end = signal(SignalKind::terminate())?;
    tokio::select! {
        served = serve(listener, router.with_state(Arc::new(mac))) => served,
        // In order, so that what it counted of itself is written (scripts/tune).
        _ = told_to_end.recv() => Ok(()),
    }
}

/// One task a connection, HTTP/1.1 only, no delay of small packets: as a node's listener.
async fn serve(listener: TcpListener, app: Router) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn sink(_: Bytes) {
    SUNK.fetch_add(1, Ordering::Relaxed);
}

#[expect(clippy::disallowed_methods, reason = "it is what anyone would write, with nothing of ours")]
async fn hook(State(mac): State<Arc<Hmac<Sha256>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    if verify(&mac, &headers, &body, now).is_none() {
        return StatusCode::UNAUTHORIZED;
    }
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(value) if value.get("type").is_some() => StatusCode::OK,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// `Some` when one of the signatures is of this key and its time is near `now` (seconds since the Unix epoch).
fn verify(mac: &Hmac<Sha256>, headers: &HeaderMap, body: &[u8], now: u64) -> Option<()> {
    let header = |name| headers.get(name)?.to_str().ok();
    let (id, time) = (header("webhook-id")?, header("webhook-timestamp")?);
    if now.abs_diff(time.parse().ok()?) > TOLERANCE {
        return None;
    }
    let mut mac = mac.clone();
    for part in [id.as_bytes(), b".", time.as_bytes(), b".", body] {
        mac.update(part);
    }
    header("webhook-signature")?
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .any(|signature| mac.clone().verify_slice(&signature).is_ok())
        .then_some(())
}

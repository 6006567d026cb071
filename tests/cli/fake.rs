//! A node that answers what it was told to and remembers what it was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Method, path and query, e.g. `GET /v1/search?q=x`.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

#[derive(Debug, Clone, Default)]
struct Script {
    answers: Arc<BTreeMap<String, (u16, String)>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// The node; it stops when the value is dropped.
pub(crate) struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _stop: oneshot::Sender<()>,
}

impl Fake {
    /// Serves `answers`: method and path, status, body. Anything else is 404.
    pub(crate) fn start(answers: &[(&str, u16, Value)]) -> Self {
        let texts =
            answers.iter().map(|(line, status, body)| ((*line).to_owned(), (*status, body.to_string())));
        Self::start_with(texts.collect())
    }

    /// Serves one answer as it stands.
    pub(crate) fn start_raw(line: &str, status: u16, body: &str) -> Self {
        Self::start_with(BTreeMap::from([(line.to_owned(), (status, body.to_owned()))]))
    }

    fn start_with(answers: BTreeMap<String, (u16, String)>) -> Self {
        let script = Script { answers: Arc::new(answers), asked: Arc::default() };
        let asked = script.asked.clone();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let router = Router::new().fallback(answer).with_state(script);
                tokio::select! {
                    _ = stopped => {}
                    served = async { axum::serve(listener, router).await } => served.unwrap(),
                }
            });
        });
        Self { address, asked, _stop: stop }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The one thing it was asked.
    #[track_caller]
    pub(crate) fn only(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked[0].clone()
    }
}

async fn answer(
    State(script): State<Script>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    script.asked.lock().unwrap().push(Asked { line: format!("{method} {uri}"), headers, body });
    let (status, body) = match script.answers.get(&format!("{method} {}", uri.path())) {
        Some((status, body)) => (*status, body.clone()),
        None => (404, problem(404, "There is no such thing", "there is no such path").to_string()),
    };
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// A problem as the node writes it.
pub(crate) fn problem(status: u16, title: &str, detail: &str) -> Value {
    json!({"type": "https://syncline.dev/problems#x", "title": title, "status": status, "detail": detail})
}

/// An address at which nothing listens.
pub(crate) fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

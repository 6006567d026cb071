//! The door of the sandbox: what is its own, and the systems behind their prefixes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;

use super::call::{Call, Reply};
use super::cut::Scissors;
use super::desk::{Answer, Desk, systems, unknown};
use super::faults::{Plan, Standing};
use super::ledger::{Snapshot, Summary};
use crate::problem::Problem;

/// Longest body that a system reads.
const BODY_MAX: usize = 4 << 20;

/// Everything that the sandbox serves.
pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/ledger", get(ledger))
        .route("/ledger/summary", get(summary))
        .route("/reset", post(reset))
        .route("/faults", get(faults).delete(clear_faults))
        .route("/faults/{system}", put(set_faults))
        .fallback(system)
        .with_state(desk)
}

async fn ledger(State(desk): State<Arc<Desk>>) -> Json<Snapshot> {
    Json(desk.state().ledger.snapshot())
}

async fn summary(State(desk): State<Arc<Desk>>) -> Json<Summary> {
    Json(desk.state().ledger.summary())
}

async fn reset(State(desk): State<Arc<Desk>>) -> StatusCode {
    desk.reset();
    StatusCode::NO_CONTENT
}

async fn faults(State(desk): State<Arc<Desk>>) -> Json<std::collections::BTreeMap<String, Vec<Standing>>> {
    Json(desk.state().faults.standing())
}

async fn clear_faults(State(desk): State<Arc<Desk>>) -> StatusCode {
    desk.state().faults.clear();
    StatusCode::NO_CONTENT
}

/// One plan, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Plans {
    Several(Vec<Plan>),
    One(Plan),
}

async fn set_faults(
    State(desk): State<Arc<Desk>>,
    Path(system): Path<String>,
    body: String,
) -> Result<StatusCode, Problem> {
    let plans = match serde_json::from_str(&body) {
        Ok(Plans::Several(plans)) => plans,
        Ok(Plans::One(plan)) => vec![plan],
        // The error of an untagged type says nothing; that of one plan does.
        Err(_) => vec![
            serde_json::from_str(&body)
                .map_err(|error| Problem::malformed(format!("the body is no fault plan: {error}")))?,
        ],
    };
    desk.set_faults(&system, plans).map_err(Problem::malformed)?;
    Ok(StatusCode::NO_CONTENT)
}

impl Desk {
    /// Replaces the plans of a system. The error says what is wrong.
    pub(super) fn set_faults(&self, system: &str, plans: Vec<Plan>) -> Result<(), String> {
        if !systems().any(|known| known == system) {
            return Err(unknown(system));
        }
        self.state().faults.set(system, plans)
    }
}

async fn system(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut path = parts.uri.path().trim_start_matches('/').splitn(2, '/');
    let name = path.next().unwrap_or_default();
    let Some(system) = systems().find(|known| *known == name) else {
        return Problem::not_found(unknown(name)).into_response();
    };
    let raw = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes().to_vec(),
        Err(error) => return Problem::malformed(format!("the body cannot be read: {error}")).into_response(),
    };
    let query = parts.uri.query().unwrap_or_default();
    let path = path.next().unwrap_or_default();
    let call = Call::new(parts.method, path, query, parts.headers, raw, desk.now());
    match desk.answer(system, call).await {
        Answer::Reply(reply) => written(reply),
        Answer::Cut => {
            scissors.cut();
            StatusCode::NO_CONTENT.into_response()
        }
    }
}

fn written(reply: Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if reply.status != 204 {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    response
}

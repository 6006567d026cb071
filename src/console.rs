//! The operations pages and API, served by the node itself. The routes and the JSON are described in [`crate::api`].

mod ask;
mod operations;
mod pages;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::api::Operate;
use crate::guard::Guard;
use crate::problem::Problem;
use ask::Viewer;

/// Longest request body, in bytes: an intervention with the fields it sets.
const BODY_MAX: usize = 256 * 1024;

/// Seconds after which a node that is not ready may be asked again.
const NOT_READY_RETRY: u64 = 2;

/// What every handler has at hand.
#[derive(Debug, Clone)]
struct Desk {
    operate: Arc<dyn Operate>,
    guard: Guard,
}

/// Everything that people and machines may ask about a running node, and the answers to unknown routes and wrong methods.
/// Routes of others are merged into it.
pub fn router(operate: Arc<dyn Operate>, guard: Guard) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(operations::routes())
        .merge(pages::routes())
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_route)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Desk { operate, guard })
}

async fn ready(State(desk): State<Desk>) -> Result<&'static str, Problem> {
    let not_ready = |reason: String| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "The node is not ready", reason)
            .retry_after(NOT_READY_RETRY)
    };
    desk.operate.ready().await.map(|()| "ready").map_err(not_ready)
}

async fn metrics(_: Viewer, State(desk): State<Desk>) -> Response {
    let prometheus = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(header::CONTENT_TYPE, prometheus)], desk.operate.metrics().await).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; the header `Allow` says what it takes", uri.path());
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "The method is not possible here",
        detail,
    )
}

async fn unknown_route(method: Method, uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {method} {}", uri.path()))
}

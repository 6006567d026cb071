//! One request: its deadline, what happens when its handler panics, and that it is counted.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use tokio::time::{Instant, timeout};

use crate::problem::Problem;
use crate::telemetry;

/// Seconds after which a request that got no answer in time may be sent again.
const RETRY_AFTER: u64 = 2;

/// Routes that take in files of any size: each bounds by itself how long nothing comes.
const LONG: [&str; 1] = ["/v1/batches/{source}"];

/// `router` with every request, matched or not, answered within `request_timeout` and counted.
pub(super) fn bounded(router: Router, request_timeout: Duration) -> Router {
    router.layer(middleware::from_fn_with_state(request_timeout, answer))
}

async fn answer(State(request_timeout): State<Duration>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let method = request.method().clone();
    let began = Instant::now();
    // Nothing of a request that panicked is used again, so nothing half done can be seen.
    let answering = AssertUnwindSafe(next.run(request)).catch_unwind();
    let time = if LONG.contains(&route) { Duration::from_hours(24) } else { request_timeout };
    let response = match timeout(time, answering).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => broken(route),
        Err(_elapsed) => late(time).into_response(),
    };
    telemetry::http_request(route, method.as_str(), response.status().as_u16(), began.elapsed());
    response
}

fn late(request_timeout: Duration) -> Problem {
    let detail = format!("there is no answer after {request_timeout:?}; send the request again");
    Problem::busy(StatusCode::SERVICE_UNAVAILABLE, RETRY_AFTER, detail)
}

fn broken(route: &str) -> Response {
    tracing::error!(route, "a request handler panicked; this is a bug");
    let title = "Something is broken";
    let detail = "this is a bug; the log says more";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "broken", title, detail).into_response()
}

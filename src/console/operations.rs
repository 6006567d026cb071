//! The operations API: what is asked becomes a call of [`Operate`](crate::api::Operate), what it says becomes JSON.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::Desk;
use super::ask::{Admin, Asked, Body, Name, Named, Operator, Viewer};
use crate::api::{
    Acceptance, Balance, Board, Cluster, ClusterOrder, Connector, DriftReport, Entity, Entry, Exception,
    ExceptionQuery, Head, Intervention, Migration, Outcome, Page, Reason, ReconcileAsk, Reconciliation,
    Refusal, Source,
};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

/// Says what a read promises. `strong`: it shows all that was acknowledged before it was asked. `store`: it shows what the store
/// had when it was asked, whoever holds the shards.
const READ: &str = "syncline-read";

/// An answer that says what it promises.
type Read<T> = Result<([(&'static str, &'static str); 1], Json<T>), Problem>;

pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/v1/entities/{kind}", get(entities))
        .route("/v1/entities/{kind}/{key}", get(entity))
        .route("/v1/entities/{kind}/{key}/timeline", get(timeline))
        .route("/v1/entities/{kind}/{key}/records", get(records))
        .route("/v1/search", get(search))
        .route("/v1/exceptions", get(exceptions))
        .route("/v1/exceptions/retry", post(retry))
        .route("/v1/exceptions/resolve", post(resolve))
        .route("/v1/drift", get(drift))
        .route("/v1/migrations", post(migrate))
        .route("/v1/sources", get(sources))
        .route("/v1/balance", get(balance))
        .route("/v1/reconciliations", get(reconciliations).post(reconcile))
        .route("/v1/connectors", get(connectors))
        .route("/v1/connectors/{name}/pause", post(pause))
        .route("/v1/connectors/{name}/resume", post(resume))
        .route("/v1/board", get(board))
        .route("/v1/cluster", get(cluster))
        .route("/v1/cluster/accept", post(accept))
        .route("/v1/cluster/orders", post(order))
}

async fn entities(
    _: Viewer,
    State(desk): State<Desk>,
    Name(kind): Name,
    mut asked: Asked,
) -> Read<Page<Head>> {
    let (after, limit) = (asked.text("after"), asked.limit()?);
    asked.nothing_else("after, limit")?;
    of_store(desk.operate.entities(&kind, after.as_deref(), limit).await)
}

async fn entity(_: Viewer, State(desk): State<Desk>, Named(id): Named, asked: Asked) -> Read<Entity> {
    asked.nothing_else("none")?;
    Ok(([(READ, "strong")], answer(desk.operate.entity(&id).await)?))
}

async fn timeline(
    _: Viewer,
    State(desk): State<Desk>,
    Named(id): Named,
    mut asked: Asked,
) -> Read<Page<Entry>> {
    let (from, limit) = (asked.from()?, asked.limit()?);
    asked.nothing_else("from, limit")?;
    of_store(desk.operate.timeline(&id, from, limit).await)
}

async fn records(
    _: Viewer,
    State(desk): State<Desk>,
    Named(id): Named,
    mut asked: Asked,
) -> Read<Page<String>> {
    let (from, limit) = (asked.from()?, asked.limit()?);
    asked.nothing_else("from, limit")?;
    of_store(desk.operate.records(&id, from, limit).await)
}

async fn search(_: Viewer, State(desk): State<Desk>, mut asked: Asked) -> Read<Page<String>> {
    let (correlation, q, limit) = (asked.text("correlation"), asked.text("q"), asked.limit()?);
    asked.nothing_else("correlation, q, limit")?;
    let ((Some(term), None) | (None, Some(term))) = (correlation, q) else {
        return Err(Problem::malformed("send one of the parameters `correlation` and `q`"));
    };
    of_store(desk.operate.search(&term, limit).await)
}

async fn exceptions(_: Viewer, State(desk): State<Desk>, mut asked: Asked) -> Read<Page<Exception>> {
    let query = ExceptionQuery {
        kind: asked.text("kind"),
        class: asked.text("class"),
        after: asked.text("after"),
        limit: Some(asked.limit()?),
    };
    asked.nothing_else("kind, class, after, limit")?;
    of_store(desk.operate.exceptions(&query).await)
}

async fn retry(
    Operator(who): Operator,
    State(desk): State<Desk>,
    Body(intervention): Body<Intervention>,
) -> Answer<Outcome> {
    said_why(&intervention.reason)?;
    if intervention.result.is_some() {
        return Err(Problem::malformed("`result` is for /v1/exceptions/resolve; a retry takes `set`"));
    }
    decided(desk.operate.retry(&who, intervention).await)
}

async fn resolve(
    Operator(who): Operator,
    State(desk): State<Desk>,
    Body(intervention): Body<Intervention>,
) -> Answer<Outcome> {
    said_why(&intervention.reason)?;
    if intervention.set.is_some() {
        return Err(Problem::malformed("`set` is for /v1/exceptions/retry; resolving takes `result`"));
    }
    decided(desk.operate.resolve(&who, intervention).await)
}

async fn migrate(
    Admin(who): Admin,
    State(desk): State<Desk>,
    Body(migration): Body<Migration>,
) -> Answer<Outcome> {
    said_why(&migration.reason)?;
    decided(desk.operate.migrate(&who, migration).await)
}

async fn drift(_: Viewer, State(desk): State<Desk>, asked: Asked) -> Answer<DriftReport> {
    asked.nothing_else("none")?;
    answer(desk.operate.drift().await)
}

async fn sources(_: Viewer, State(desk): State<Desk>, asked: Asked) -> Answer<Page<Source>> {
    asked.nothing_else("none")?;
    answer(desk.operate.sources().await)
}

async fn balance(_: Viewer, State(desk): State<Desk>, asked: Asked) -> Answer<Page<Balance>> {
    asked.nothing_else("none")?;
    answer(desk.operate.balance().await)
}

async fn reconciliations(
    _: Viewer,
    State(desk): State<Desk>,
    mut asked: Asked,
) -> Answer<Page<Reconciliation>> {
    let limit = asked.limit()?;
    asked.nothing_else("limit")?;
    answer(desk.operate.reconciliations(limit).await)
}

async fn reconcile(
    Operator(who): Operator,
    State(desk): State<Desk>,
    Body(ask): Body<ReconcileAsk>,
) -> Answer<Page<String>> {
    answer(desk.operate.reconcile(&who, ask).await)
}

async fn board(_: Viewer, State(desk): State<Desk>, asked: Asked) -> Answer<Board> {
    asked.nothing_else("none")?;
    answer(desk.operate.board().await)
}

async fn connectors(_: Viewer, State(desk): State<Desk>, asked: Asked) -> Answer<Page<Connector>> {
    asked.nothing_else("none")?;
    answer(desk.operate.connectors().await)
}

async fn pause(
    Operator(who): Operator,
    State(desk): State<Desk>,
    Name(name): Name,
    Body(Reason { reason }): Body<Reason>,
) -> Answer<Connector> {
    said_why(&reason)?;
    answer(desk.operate.set_paused(&who, &name, true, &reason).await)
}

async fn resume(
    Operator(who): Operator,
    State(desk): State<Desk>,
    Name(name): Name,
    Body(Reason { reason }): Body<Reason>,
) -> Answer<Connector> {
    said_why(&reason)?;
    answer(desk.operate.set_paused(&who, &name, false, &reason).await)
}

async fn cluster(_: Viewer, State(desk): State<Desk>, asked: Asked) -> Answer<Cluster> {
    asked.nothing_else("none")?;
    answer(desk.operate.cluster().await)
}

async fn order(
    Admin(who): Admin,
    State(desk): State<Desk>,
    Body(order): Body<ClusterOrder>,
) -> Answer<Cluster> {
    said_why(order.reason())?;
    answer(desk.operate.order(&who, order).await)
}

async fn accept(
    Admin(who): Admin,
    State(desk): State<Desk>,
    Body(acceptance): Body<Acceptance>,
) -> Answer<Cluster> {
    said_why(&acceptance.reason)?;
    answer(desk.operate.accept(&who, acceptance).await)
}

/// # Errors
/// When the reason is blank: whoever reads the journal later must learn why.
pub(super) fn said_why(reason: &str) -> Result<(), Problem> {
    if reason.trim().is_empty() { Err(Problem::malformed("`reason` is empty; say why")) } else { Ok(()) }
}

fn of_store<T>(said: Result<T, Refusal>) -> Read<T> {
    Ok(([(READ, "store")], answer(said)?))
}

fn answer<T>(result: Result<T, Refusal>) -> Answer<T> {
    result.map(Json).map_err(refusal)
}

fn decided(result: Result<Outcome, Refusal>) -> Answer<Outcome> {
    rejection(result).map(Json)
}

/// The outcome of an intervention. A rejection is journaled and answered, so it has a record, but what was asked is not done.
pub(super) fn rejection(result: Result<Outcome, Refusal>) -> Result<Outcome, Problem> {
    let outcome = result.map_err(refusal)?;
    if outcome.verdict != "rejected" {
        return Ok(outcome);
    }
    let why = outcome.problem.clone().unwrap_or_else(|| "the entity rejected it".to_owned());
    // Not flat: `status` is the entity's state there and a number here.
    let outcome = serde_json::to_value(outcome).expect("an outcome is text and numbers");
    Err(Problem::new(StatusCode::CONFLICT, "rejected", "The entity rejected it", why)
        .with("outcome", outcome))
}

pub(super) fn refusal(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::NotFound(what) => Problem::not_found(what),
        Refusal::Malformed(what) => Problem::malformed(what),
        Refusal::Conflict(what) => {
            Problem::new(StatusCode::CONFLICT, "conflict", "It is not possible in this state", what)
        }
        Refusal::Busy { what, retry_after } => {
            Problem::busy(StatusCode::SERVICE_UNAVAILABLE, retry_after, what)
        }
        Refusal::Broken(what) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "broken", "Something is broken", what)
        }
    }
}

//! Pages for people who settle exceptions: finance, operations, whoever owes the next step. No script; a browser is enough.

mod board;
mod drift;
mod entity;
mod exceptions;
mod integrations;
mod layout;
mod reconciliations;
mod visitor;
mod words;

use axum::Router;
use axum::extract::{Form, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post};
use maud::html;
use serde::Deserialize;
use serde_json::value::RawValue;
use syncline_actors::id::EntityId;

use super::Desk;
use super::ask::{Asked, Named};
use super::operations::{refusal, rejection, said_why};
use crate::api::{ExceptionQuery, Intervention};
use crate::problem::Problem;
use layout::{Failure, Page};
use visitor::{Decider, Visitor};

/// Exceptions on a page.
const EXCEPTIONS: usize = 100;

/// Records on a page.
const RECORDS: usize = 50;

/// Runs of reconciliation on a page.
const RUNS: usize = 30;

/// Entities that a search shows.
const FOUND: usize = 100;

pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/", get(exceptions))
        .route("/exceptions", get(exceptions))
        .route("/exceptions/retry", post(retry))
        .route("/exceptions/resolve", post(resolve))
        .route("/entities/{kind}/{key}", get(entity))
        .route("/drift", get(drift))
        .route("/integrations", get(integrations))
        .route("/reconciliations", get(reconciliations))
        .route("/processes", get(processes))
        .route("/slo", get(slo))
        .route("/search", get(search))
        .route("/login", post(visitor::login).get(async || Redirect::to("/exceptions")))
        .route("/logout", post(visitor::logout))
        .route("/console.css", get(style))
}

async fn style() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")];
    (headers, include_str!("console.css"))
}

async fn exceptions(visitor: Visitor, State(desk): State<Desk>, mut asked: Asked) -> Result<Page, Failure> {
    let (done, id) = (asked.text("done"), asked.text("id"));
    let query = ExceptionQuery {
        kind: asked.text("kind"),
        class: asked.text("class"),
        after: asked.text("after"),
        limit: Some(EXCEPTIONS),
    };
    let page = desk.operate.exceptions(&query).await.map_err(refusal)?;
    let content = html! {
        @if let (Some(done), Some(id)) = (done, id) { (exceptions::done(&done, &id)) }
        (exceptions::list(&page, &query, visitor.may_decide))
    };
    Ok(Page::new("Exceptions", Some(&visitor), &content))
}

async fn drift(visitor: Visitor, State(desk): State<Desk>, asked: Asked) -> Result<Page, Failure> {
    asked.nothing_else("none")?;
    let report = desk.operate.drift().await.map_err(refusal)?;
    Ok(Page::new("Drift", Some(&visitor), &drift::page(&report)))
}

async fn entity(
    visitor: Visitor,
    State(desk): State<Desk>,
    named: Result<Named, Problem>,
    mut asked: Asked,
) -> Result<Page, Failure> {
    let Named(id) = named?;
    let entity = desk.operate.entity(&id).await.map_err(refusal)?;
    let newest = entity.seq.saturating_sub(RECORDS as u64 - 1).max(1);
    let from = asked.text("from").map_or(Ok(newest), |from| from.parse());
    let from =
        from.map_err(|error| Problem::malformed(format!("`from` is not a record's number: {error}")))?;
    let timeline = desk.operate.timeline(&id, from.max(1), RECORDS).await.map_err(refusal)?;
    let content = entity::page(&entity, &timeline, visitor.may_decide);
    Ok(Page::new(&entity.id, Some(&visitor), &content))
}

async fn integrations(visitor: Visitor, State(desk): State<Desk>) -> Result<Page, Failure> {
    let sources = desk.operate.sources().await.map_err(refusal)?.items;
    let connectors = desk.operate.connectors().await.map_err(refusal)?.items;
    let balance = desk.operate.balance().await.map_err(refusal)?.items;
    Ok(Page::new("Integrations", Some(&visitor), &integrations::page(&sources, &connectors, &balance)))
}

async fn reconciliations(visitor: Visitor, State(desk): State<Desk>) -> Result<Page, Failure> {
    let runs = desk.operate.reconciliations(RUNS).await.map_err(refusal)?.items;
    Ok(Page::new("Reconciliation", Some(&visitor), &reconciliations::page(&runs)))
}

async fn search(visitor: Visitor, State(desk): State<Desk>, mut asked: Asked) -> Result<Page, Failure> {
    let Some(term) = asked.text("q") else {
        return Err(Problem::malformed("the search is empty; write a number or a name").into());
    };
    let term = term.trim();
    let mut found = desk.operate.search(term, FOUND).await.map_err(refusal)?.items;
    // Whoever writes a whole id means that entity, known by other names or not.
    if let Ok(id) = EntityId::parse(term)
        && !found.iter().any(|found| found == term)
        && desk.operate.entity(&id).await.is_ok()
    {
        found.insert(0, id.to_string());
    }
    Ok(Page::new("Search", Some(&visitor), &entity::found(term, &found)))
}

async fn processes(visitor: Visitor, State(desk): State<Desk>) -> Result<Page, Failure> {
    let board = desk.operate.board().await.map_err(refusal)?;
    Ok(Page::new("Processes", Some(&visitor), &board::processes(&board)))
}

async fn slo(visitor: Visitor, State(desk): State<Desk>) -> Result<Page, Failure> {
    let board = desk.operate.board().await.map_err(refusal)?;
    Ok(Page::new("Objectives", Some(&visitor), &board::objectives(&board)))
}

/// What the forms under an exception send.
#[derive(Debug, Deserialize)]
struct Decision {
    id: String,
    reason: String,
    #[serde(default)]
    json: String,
}

impl Decision {
    fn json(&self) -> Result<Option<Box<RawValue>>, Problem> {
        let text = self.json.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let read = serde_json::from_str(text);
        read.map(Some).map_err(|error| Problem::malformed(format!("what you wrote is not JSON: {error}")))
    }
}

async fn retry(
    Decider(who): Decider,
    State(desk): State<Desk>,
    Form(decision): Form<Decision>,
) -> Result<Redirect, Failure> {
    said_why(&decision.reason)?;
    let set = decision.json()?;
    let Decision { id, reason, .. } = decision;
    let intervention = Intervention { id: id.clone(), reason, set, result: None };
    rejection(desk.operate.retry(&who, intervention).await)?;
    Ok(back("retry", &id))
}

async fn resolve(
    Decider(who): Decider,
    State(desk): State<Desk>,
    Form(decision): Form<Decision>,
) -> Result<Redirect, Failure> {
    said_why(&decision.reason)?;
    let result = decision.json()?;
    let Decision { id, reason, .. } = decision;
    let intervention = Intervention { id: id.clone(), reason, set: None, result };
    rejection(desk.operate.resolve(&who, intervention).await)?;
    Ok(back("resolve", &id))
}

fn back(done: &str, id: &str) -> Redirect {
    Redirect::to(&format!("/exceptions?done={done}&id={}", words::encoded(id)))
}

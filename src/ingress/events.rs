//! `POST /v1/events`: CloudEvents from senders that hold a token.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request};
use axum::response::{IntoResponse as _, Response};
use futures::future::join_all;
use serde_json::json;
use syncline_actors::class::{Class, Criticality};
use syncline_actors::envelope::{Body as Said, Envelope, Event, Evidence, Raw};

use super::cloudevents::{self, CloudEvent};
use super::commands::answered;
use super::{Ingress, MailboxError, Shared, Taken, traceparent};
use crate::problem::Problem;
use crate::telemetry;

/// What the metrics call these senders.
const SOURCE: &str = "events";

/// Takes events. One is answered like a command; several with one answer each, and success only if all of them are durable.
pub(super) async fn receive(State(ingress): Shared, request: Request<Body>) -> Response {
    match serve(&ingress, request).await {
        Ok(taken) => match &taken[..] {
            [one] => answered(one.outcome()),
            many => {
                Json(json!({ "items": many.iter().map(Taken::outcome).collect::<Vec<_>>() })).into_response()
            }
        },
        Err(problem) => problem.into_response(),
    }
}

async fn serve(ingress: &Ingress, request: Request<Body>) -> Result<Vec<Taken>, Problem> {
    let (parts, body) = request.into_parts();
    (ingress.admit)(&parts.headers)?;
    let body = ingress.read(&parts.headers, body, Criticality::default()).await?;
    let events =
        cloudevents::read(&parts.headers, &body.bytes, ingress.limits.body_max).map_err(|problem| {
            telemetry::ingress_event(SOURCE, "unknown", "invalid");
            Problem::malformed(problem)
        })?;
    let evidence = Evidence {
        content_type: parts.headers.get("content-type").and_then(|text| Some(text.to_str().ok()?.into())),
        key_id: None,
        body: Raw(if events.len() == 1 { body.bytes[..].into() } else { [].into() }),
    };
    let envelopes = events.into_iter().map(|event| envelope(ingress, event, &parts.headers, &evidence));
    let taken = join_all(envelopes.map(|envelope| ingress.mailbox.deliver(envelope, Class::default()))).await;
    for taken in &taken {
        telemetry::ingress_event(SOURCE, "unknown", outcome(taken));
    }
    taken.into_iter().collect::<Result<_, _>>().map_err(|error| error.problem())
}

fn outcome(taken: &Result<Taken, MailboxError>) -> &'static str {
    match taken {
        Ok(Taken { duplicate: true, .. }) => "duplicate",
        Ok(_) => "accepted",
        Err(MailboxError::Never(_) | MailboxError::Region(_)) => "invalid",
        Err(_) => "throttled",
    }
}

fn envelope(ingress: &Ingress, event: CloudEvent, headers: &HeaderMap, evidence: &Evidence) -> Envelope {
    let correlation_id = event.correlation_id.unwrap_or_else(|| event.subject.to_string().into());
    Envelope {
        id: event.id,
        // Apart from our own sources, such as timers: nobody may take an id of theirs.
        source: Arc::from(format!("event:{}", event.source)),
        subject: event.subject,
        correlation_id,
        causation_id: event.causation_id,
        traceparent: event.traceparent.or_else(|| traceparent(headers)),
        time: event.time,
        at: ingress.clock.now(),
        remember_ms: Some(ingress.remember_ms()),
        body: Said::Event(Event { name: event.name, data: event.data }),
        evidence: (!evidence.body.0.is_empty()).then(|| evidence.clone()),
    }
}

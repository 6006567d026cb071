//! `POST /hooks/{source}`: a webhook from raw bytes to the sender's own ack.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request as HttpRequest, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::future::join_all;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use syncline_actors::class::{Class, Criticality};
use syncline_actors::decision::Verdict;
use syncline_actors::envelope::{Envelope, Evidence, Raw};
use syncline_actors::expr::{Later as _, Made};
use syncline_actors::id::EntityId;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::door::Door;
use super::drift::Drift;
use super::feed::Fate;
use super::gate::{NotUnderstood, Received, meant_for, understand};
use super::identify::{Identity, Message};
use super::preset::Handshake;
use super::verify::{Refusal, Request, Verified};
use super::{Aside, Ingress, MailboxError, Shared, Taken, traceparent};
use crate::problem::Problem;
use crate::telemetry;

/// What a message without a type is called.
pub(super) const UNTYPED: &str = "message";

/// Serves a source.
pub(super) async fn receive(
    State(ingress): Shared,
    Path(source): Path<String>,
    request: HttpRequest<Body>,
) -> Response {
    match serve(&ingress, &source, request).await {
        Ok(response) => response,
        Err(problem) => told(problem),
    }
}

/// Every 401 names a way to authenticate, the same for all sources: senders that wait to be asked (Zuora) then send it.
fn told(problem: Problem) -> Response {
    let header = match problem.status() {
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Basic realm=\"syncline\"")),
        StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "POST")),
        _ => None,
    };
    let mut response = problem.into_response();
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn serve(ingress: &Ingress, source: &str, request: HttpRequest<Body>) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let door = ingress.doors.get(source);
    match parts.method {
        Method::POST => {}
        Method::OPTIONS => return allow(door, &parts),
        _ => return Err(only_post()),
    }
    if let Some(encoding) =
        parts.headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity")
    {
        return Err(compressed(encoding));
    }
    let body = ingress.read(&parts.headers, body, criticality(door)).await?;
    let Some(door) = door.filter(|door| door.source.sends) else {
        telemetry::ingress_event("unknown", "unknown", "bad_signature");
        tracing::info!(source = %source.escape_debug(), "a request for a source that there is not");
        return Err(Problem::unauthenticated());
    };
    let now = ingress.clock.now();
    let verified = verify(door, &parts, &body.bytes, now).map_err(|refusal| refused(door, &refusal))?;
    let class = door.source.class;
    let delivery = Delivery { ingress, door, parts: &parts, verified, now, class };
    if let Some(answer) = delivery.handshake(&body.bytes) {
        return Ok(answer);
    }
    delivery.take(&body.bytes).await?;
    Ok(door.ack())
}

/// Before a sender is known to be who it says it is, its source's word must do: it makes nothing more important than what is usual.
fn criticality(door: Option<&Door>) -> Criticality {
    door.map_or(Criticality::Low, |door| door.source.class.criticality)
}

fn only_post() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "The method is not allowed",
        "webhooks are sent by POST",
    )
}

/// Said before anything is known of the sender: unpacked bodies are not bounded, and nobody could read them in quarantine.
fn compressed(encoding: &HeaderValue) -> Problem {
    let detail = format!("the body is encoded as {encoding:?}: send it as it is");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", "The body is compressed", detail)
}

fn verify(door: &Door, parts: &Parts, body: &[u8], now: Timestamp) -> Result<Verified, Refusal> {
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let request = Request {
        method: parts.method.as_str(),
        url: parts.uri.path_and_query().map_or("/", |url| url.as_str()),
        host: host.or_else(|| parts.uri.host()).unwrap_or_default(),
        headers: &parts.headers,
        body,
    };
    door.verifier.verify(&request, now.0)
}

/// The log says which step failed; the sender, who may be anyone, learns nothing.
fn refused(door: &Door, refusal: &Refusal) -> Problem {
    let stale = matches!(refusal, Refusal::TooOld { .. } | Refusal::InTheFuture { .. });
    telemetry::ingress_event(&door.source.name, "unknown", if stale { "stale" } else { "bad_signature" });
    tracing::warn!(source = %door.source.name, step = refusal.step(), reason = refusal.reason(), "a request is not authentic: {refusal}");
    Problem::unauthenticated()
}

/// CloudEvents webhooks ask by OPTIONS whether they may send.
fn allow(door: Option<&Door>, parts: &Parts) -> Result<Response, Problem> {
    let asks = door.filter(|door| door.source.preset.handshake == Handshake::CloudeventsOptions);
    let (Some(_), Some(origin)) = (asks, parts.headers.get("webhook-request-origin")) else {
        return Err(only_post());
    };
    let mut headers = HeaderMap::new();
    headers.insert("webhook-allowed-origin", origin.clone());
    headers.insert("webhook-allowed-rate", HeaderValue::from_static("*"));
    Ok((StatusCode::OK, headers).into_response())
}

impl Door {
    /// The answer to what is stored.
    fn ack(&self) -> Response {
        let preset = &self.source.preset;
        let status = StatusCode::from_u16(preset.ack.status).unwrap_or(StatusCode::OK);
        if preset.handshake == Handshake::SalesforceSoapAck {
            return (status, [(header::CONTENT_TYPE, "text/xml; charset=utf-8")], SOAP_ACK).into_response();
        }
        match &preset.ack.body {
            Some(body) => (status, body.clone()).into_response(),
            None => status.into_response(),
        }
    }
}

/// What Salesforce's outbound messages want to read.
const SOAP_ACK: &str = concat!(
    r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>"#,
    r#"<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse>"#,
    r"</soapenv:Body></soapenv:Envelope>",
);

/// One authentic request.
pub(super) struct Delivery<'d> {
    pub(super) ingress: &'d Ingress,
    pub(super) door: &'d Door,
    pub(super) parts: &'d Parts,
    pub(super) verified: Verified,
    pub(super) now: Timestamp,
    /// How urgent it is, and how much it matters.
    pub(super) class: Class,
}

/// What a message becomes.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Deliver(Envelope),
    Keep(Aside),
}

impl Delivery<'_> {
    /// Slack sends a challenge of its own before it sends events.
    fn handshake(&self, body: &[u8]) -> Option<Response> {
        if self.door.source.preset.handshake != Handshake::SlackUrlVerification {
            return None;
        }
        let body = Value::from_json(body, self.ingress.limits.body_max).ok()?;
        let challenge = body.get("challenge").and_then(Value::as_text)?;
        let asked = body.get("type").and_then(Value::as_text) == Some("url_verification");
        asked.then(|| axum::Json(json!({ "challenge": challenge })).into_response())
    }

    /// Makes everything in the request durable, or says that nothing may be relied on.
    async fn take(&self, body: &Bytes) -> Result<(), Problem> {
        let steps = self.steps(body);
        self.all(steps).await
    }

    fn steps(&self, body: &Bytes) -> Vec<(Arc<str>, Step)> {
        let shown = (self.door, &self.parts.headers);
        let context = Context {
            headers: Made::new(&shown, |(door, headers)| door.headers(headers)),
            traceparent: traceparent(&self.parts.headers),
            content_type: self.content_type(),
        };
        // Most requests are one message, and what identifies it is plain in the JSON that is read for the mapping anyway.
        let json = Value::from_json(body, self.ingress.limits.body_max);
        if let Ok(json) = &json
            && let Some(identity) = self.door.identifier.plain(&self.parts.headers, body, json)
        {
            let message = Message { raw: body, identity: Ok(identity) };
            return self.step(&message, Some(json), &context);
        }
        match self.door.identifier.messages(&self.parts.headers, body) {
            Ok(messages) => messages.iter().flat_map(|message| self.step(message, None, &context)).collect(),
            Err(unidentified) => {
                let whole = Message { raw: body, identity: Err(unidentified) };
                self.step(&whole, None, &context)
            }
        }
    }

    /// Every message at once: they share the store's flush. Those of one entity keep their order, since each is in its mailbox
    /// before the next is given.
    async fn all(&self, mut steps: Vec<(Arc<str>, Step)>) -> Result<(), Problem> {
        if steps.len() == 1
            && let Some((event_type, step)) = steps.pop()
        {
            return self.one(event_type, step).await.map(drop).map_err(|error| error.problem());
        }
        let all = steps.into_iter().map(|(event_type, step)| self.one(event_type, step));
        // In a box, as what is kept aside below: the future of a request is as large as the largest way it may go.
        let taken = Box::pin(join_all(all)).await;
        match taken.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some(error) => Err(error.problem()),
        }
    }

    /// Makes one message durable. What became of it, and why where it is not accepted.
    pub(super) async fn one(
        &self,
        event_type: Arc<str>,
        step: Step,
    ) -> Result<(Fate, Option<String>), MailboxError> {
        let mut why = match &step {
            Step::Keep(aside) => Some(aside.reason.clone()),
            Step::Deliver(_) => None,
        };
        let (outcome, taken) = match step {
            Step::Keep(aside) => ("quarantined", Box::pin(self.keep(aside)).await),
            Step::Deliver(envelope) => {
                // Its parts are shared: the clone copies nothing.
                let spare = envelope.clone();
                match self.ingress.mailbox.deliver(envelope, self.class).await {
                    Err(MailboxError::Never(reason)) => {
                        why = Some(reason.clone());
                        let aside = self.undeliverable(spare, &event_type, reason);
                        ("quarantined", Box::pin(self.keep(aside)).await)
                    }
                    taken => ("accepted", taken),
                }
            }
        };
        let outcome = match &taken {
            Ok(Taken { duplicate: true, .. }) => "duplicate",
            Ok(_) => outcome,
            Err(MailboxError::Region(why)) => {
                tracing::warn!(source = %self.door.source.name, "a message was refused and nothing of it is kept: {why}");
                "invalid"
            }
            Err(_) => "throttled",
        };
        telemetry::ingress_event(&self.door.source.name, self.label(&event_type), outcome);
        taken.map(|taken| match (&taken.answer.verdict, outcome) {
            (_, "duplicate") => (Fate::Duplicate, None),
            (_, "quarantined") => (Fate::Quarantined, why),
            (Verdict::Rejected(rejection), _) => (Fate::Rejected, Some(rejection.to_string())),
            _ => (Fate::Accepted, None),
        })
    }

    async fn keep(&self, aside: Aside) -> Result<Taken, MailboxError> {
        tracing::warn!(source = %aside.source, message = %aside.message_id, class = aside.class, "kept in quarantine: {}", aside.reason);
        self.ingress.mailbox.quarantine(aside, self.class).await
    }

    /// Only types that the source names: a sender must not fill the metrics.
    fn label<'t>(&self, event_type: &'t str) -> &'t str {
        if self.door.source.messages.contains_key(event_type) { event_type } else { "unknown" }
    }

    /// What a message becomes, with its type. `json` is the message as it was read, if it was.
    pub(super) fn step(
        &self,
        message: &Message<'_>,
        json: Option<&Value>,
        context: &Context<'_>,
    ) -> Vec<(Arc<str>, Step)> {
        let identity = match &message.identity {
            Ok(identity) => identity,
            Err(unidentified) => {
                let id = hex::encode(Sha256::digest(message.raw));
                let aside =
                    self.aside(&id, UNTYPED, "identity", unidentified.to_string(), message.raw, context);
                return vec![(UNTYPED.into(), Step::Keep(aside))];
            }
        };
        let event_type: Arc<str> = identity.event_type.as_deref().unwrap_or(UNTYPED).into();
        match self.understood(identity, &event_type, (message.raw, json), context) {
            Ok(envelopes) => {
                envelopes.into_iter().map(|envelope| (event_type.clone(), Step::Deliver(envelope))).collect()
            }
            Err(Unread { class, reason, drift, meant_for }) => {
                let aside = self.aside(&identity.dedupe, &event_type, class, reason, message.raw, context);
                vec![(event_type, Step::Keep(Aside { meant_for, drift, ..aside }))]
            }
        }
    }

    fn understood(
        &self,
        identity: &Identity,
        event_type: &str,
        (raw, json): (&[u8], Option<&Value>),
        context: &Context<'_>,
    ) -> Result<Vec<Envelope>, Unread> {
        let read = || {
            Value::from_json(raw, self.ingress.limits.body_max)
                .map_err(|error| Unread::schema(format!("the message is not JSON as it should be: {error}")))
        };
        let received = Received {
            id: &identity.id,
            dedupe: &identity.dedupe,
            event_type,
            body: &json.map_or_else(read, |json| Ok(json.clone()))?,
            headers: &context.headers,
            at: self.now,
            traceparent: context.traceparent.clone(),
            evidence: self.evidence(raw, context),
        };
        understand(&self.door.source, &self.ingress.schemas, &received)
            .map_err(|not_understood| Unread::of(&not_understood, meant_for(&self.door.source, &received)))
    }

    fn content_type(&self) -> Option<Arc<str>> {
        let text = self.parts.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        Some(text.chars().take(128).collect::<String>().into())
    }

    fn evidence(&self, raw: &[u8], context: &Context<'_>) -> Evidence {
        let content_type = context.content_type.clone();
        Evidence { content_type, key_id: self.verified.key_id.clone(), body: Raw(raw.into()) }
    }

    fn aside(
        &self,
        id: &str,
        event_type: &str,
        class: &'static str,
        reason: String,
        raw: &[u8],
        context: &Context<'_>,
    ) -> Aside {
        Aside {
            source: self.door.source.name.clone(),
            message_id: id.into(),
            class,
            reason,
            owner: self.door.source.owner.team.clone(),
            kind: event_type.into(),
            meant_for: "".into(),
            drift: Value::Null,
            region: self.door.source.region.clone(),
            headers: context.headers.get().clone(),
            content: Value::from_json(raw, self.ingress.limits.body_max).unwrap_or_default(),
            evidence: self.evidence(raw, context),
            traceparent: context.traceparent.clone(),
            at: self.now,
            remember_ms: u64::try_from(self.door.source.retention.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// What is kept of a message that its entity never takes.
    fn undeliverable(&self, envelope: Envelope, event_type: &str, reason: String) -> Aside {
        let region = envelope.subject.region().map(Arc::from);
        let nothing = || Evidence { content_type: None, key_id: None, body: Raw([].into()) };
        Aside {
            source: envelope.source,
            message_id: envelope.id,
            class: "undeliverable",
            reason,
            owner: self.door.source.owner.team.clone(),
            kind: event_type.into(),
            meant_for: envelope.subject.to_string().into(),
            drift: Value::Null,
            region: region.or_else(|| self.door.source.region.clone()),
            headers: Value::Null,
            content: envelope.body.data().cloned().unwrap_or_default(),
            evidence: envelope.evidence.unwrap_or_else(nothing),
            traceparent: envelope.traceparent,
            at: self.now,
            remember_ms: envelope.remember_ms.unwrap_or(u64::MAX),
        }
    }
}

/// What all messages of a request have in common.
pub(super) struct Context<'c> {
    pub(super) headers: Made<'c, (&'c Door, &'c HeaderMap)>,
    pub(super) traceparent: Option<Arc<str>>,
    pub(super) content_type: Option<Arc<str>>,
}

/// Why a message is kept aside.
struct Unread {
    class: &'static str,
    reason: String,
    drift: Value,
    meant_for: Arc<str>,
}

impl Unread {
    fn schema(reason: String) -> Self {
        Self { class: "schema", reason, drift: Value::Null, meant_for: "".into() }
    }

    fn of(why: &NotUnderstood, meant_for: Option<EntityId>) -> Self {
        let drift = match why {
            NotUnderstood::Schema { drift, .. } => Value::list(drift.iter().map(Drift::value)),
            _ => Value::Null,
        };
        let meant_for = meant_for.map(|entity| entity.to_string().into()).unwrap_or_default();
        Self { class: class(why), reason: why.to_string(), drift, meant_for }
    }
}

fn class(not_understood: &NotUnderstood) -> &'static str {
    match not_understood {
        NotUnderstood::Type { .. } | NotUnderstood::Version { .. } | NotUnderstood::Schema { .. } => "schema",
        NotUnderstood::Mapping { .. } | NotUnderstood::Key { .. } => "mapping",
    }
}

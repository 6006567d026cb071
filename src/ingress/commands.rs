//! `POST /v1/commands`: asks an entity for something, once per `Idempotency-Key`.
//!
//! ```text
//! Idempotency-Key: "8e03978e"
//! {"entity": "order/SO-1001", "command": "order.cancel", "data": {"reason": "…"}, "correlation_id": "…"}
//! ```
//! The key is missing or malformed: 400. Its request is still being worked on: 409. It came with another request: 422. The same
//! request again: the first answer, also after a restart, since the answer is in the journal.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use lru::LruCache;
use sha2::{Digest as _, Sha256};
use syncline_actors::class::{Class, Criticality};
use syncline_actors::envelope::{self, Command, Envelope, Evidence, Raw};
use syncline_actors::id::EntityId;
use syncline_actors::value::Value;

use super::{Ingress, Shared, Taken, traceparent};
use crate::api::{Outcome, Who};
use crate::problem::Problem;

/// Longest key, in bytes.
const KEY_MAX: usize = 255;

/// Members of a command.
const KNOWN: [&str; 4] = ["entity", "command", "data", "correlation_id"];

/// Keys whose requests are remembered in memory, to notice a key that comes again for another entity. For the same entity the
/// journal remembers.
const RECENT: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not zero");

/// Takes a command.
pub(super) async fn receive(State(ingress): Shared, request: Request<Body>) -> Response {
    match serve(&ingress, request).await {
        Ok(outcome) => answered(outcome),
        Err(problem) => problem.into_response(),
    }
}

/// The entity's answer. A rejection is an answer too, and durable; it has a status that no client takes for done.
pub(super) fn answered(outcome: Outcome) -> Response {
    match &outcome.problem {
        None => Json(outcome).into_response(),
        Some(problem) => rejected(&outcome, problem).into_response(),
    }
}

/// A rejection as a problem, with the whole answer as member `outcome`.
pub(super) fn rejected(outcome: &Outcome, problem: &str) -> Problem {
    let title = "The entity rejects it";
    let outcome = serde_json::to_value(outcome).expect("an outcome is text and numbers");
    Problem::new(StatusCode::CONFLICT, "rejected", title, problem).with("outcome", outcome)
}

async fn serve(ingress: &Ingress, request: Request<Body>) -> Result<Outcome, Problem> {
    let (parts, body) = request.into_parts();
    let who = (ingress.admit)(&parts.headers)?;
    let key = key(&parts.headers)?;
    let body = ingress.read(&parts.headers, body, Criticality::default()).await?;
    let asked = Asked::read(&body.bytes, ingress.limits.body_max)?;
    let print: Print = Sha256::digest(&body.bytes).into();
    let running = ingress.keys.begin(&who, &key, print)?;
    let envelope = asked.envelope(ingress, &who, &key, &parts.headers, &body.bytes);
    let taken = ingress.mailbox.deliver(envelope, Class::default()).await.map_err(|error| error.problem())?;
    if taken.duplicate {
        same_request(ingress, &taken, &who, &key, &body.bytes).await?;
    }
    running.done();
    Ok(taken.outcome())
}

/// The journal remembers what a key was used for, longer than this process lives.
async fn same_request(
    ingress: &Ingress,
    taken: &Taken,
    who: &Who,
    key: &str,
    body: &[u8],
) -> Result<(), Problem> {
    let first =
        ingress.mailbox.message(&taken.entity, taken.answer.seq).await.map_err(|error| error.problem())?;
    // A duplicate by business key has an id of its own.
    let Some(first) = first.filter(|first| *first.id == *key && *first.source == *source(who)) else {
        return Ok(());
    };
    let same = first.evidence.is_none_or(|evidence| *evidence.body.0 == *body);
    if same { Ok(()) } else { Err(reused(key)) }
}

fn source(who: &Who) -> String {
    format!("api:{}", who.0)
}

fn reused(key: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "The Idempotency-Key was used for another request",
        format!("the key `{key}` came before with another body; use a new key for a new request"),
    )
}

/// The key: a quoted string as the draft has it, or the bare text that most clients send.
fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let problem =
        |title, detail: &str| Problem::new(StatusCode::BAD_REQUEST, "idempotency-key", title, detail);
    let mut values = headers.get_all("idempotency-key").iter();
    let (first, second) = (values.next(), values.next());
    let Some(first) = first else {
        let detail = "send a header such as `Idempotency-Key: \"8e03978e\"`, new for each command and the same when it is sent again";
        return Err(problem("The Idempotency-Key is missing", detail));
    };
    let text = first.to_str().ok().filter(|_| second.is_none()).map(str::trim);
    let bare =
        text.map(|text| text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text));
    let fits = |key: &&str| (1..=KEY_MAX).contains(&key.len()) && !key.contains(['"', '\\']);
    match bare.filter(fits) {
        Some(key) => Ok(key.to_owned()),
        None => Err(problem(
            "The Idempotency-Key is malformed",
            "send it once, with 1 to 255 visible ASCII characters and without quotes or backslashes inside",
        )),
    }
}

/// What is asked.
#[derive(Debug)]
struct Asked {
    entity: EntityId,
    name: Arc<str>,
    data: Value,
    correlation_id: Option<String>,
}

impl Asked {
    fn read(body: &[u8], max: usize) -> Result<Self, Problem> {
        let body = Value::from_json(body, max).map_err(|error| Problem::malformed(error.to_string()))?;
        let members = body.as_map().ok_or_else(|| Problem::malformed("a command is a JSON object"))?;
        if let Some(unknown) = members.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(Problem::malformed(format!("unknown member `{unknown}`: use {}", KNOWN.join(", "))));
        }
        let text = |key: &str| match members.get(key) {
            None => Ok(None),
            Some(value) => match value.as_text() {
                Some(text) => syncline_actors::id::check_text("the text", text, 512)
                    .map(|()| Some(text.to_owned()))
                    .map_err(|error| Problem::malformed(format!("`{key}`: {error}"))),
                None => Err(Problem::malformed(format!("`{key}` must be text"))),
            },
        };
        let needed = |key: &str| text(key)?.ok_or_else(|| Problem::malformed(format!("`{key}` is missing")));
        let entity = EntityId::parse(&needed("entity")?)
            .map_err(|error| Problem::malformed(format!("`entity`: {error}; write it as `kind/key`")))?;
        Ok(Self {
            entity,
            name: needed("command")?.into(),
            data: members.get("data").cloned().unwrap_or_else(|| Value::map::<String>([])),
            correlation_id: text("correlation_id")?,
        })
    }

    fn envelope(self, ingress: &Ingress, who: &Who, key: &str, headers: &HeaderMap, body: &[u8]) -> Envelope {
        let correlation_id = self.correlation_id.unwrap_or_else(|| self.entity.to_string());
        Envelope {
            id: key.into(),
            source: source(who).into(),
            subject: self.entity,
            correlation_id: correlation_id.into(),
            causation_id: None,
            traceparent: traceparent(headers),
            time: None,
            at: ingress.clock.now(),
            remember_ms: Some(ingress.remember_ms()),
            body: envelope::Body::Command(Command { name: self.name, data: self.data }),
            evidence: Some(Evidence {
                content_type: Some("application/json".into()),
                key_id: None,
                body: Raw(body.into()),
            }),
        }
    }
}

type Print = [u8; 32];
type Name = (String, String);

/// Keys in use, and those of recent requests.
#[derive(Debug)]
pub(super) struct Keys(Mutex<Known>);

#[derive(Debug)]
struct Known {
    running: BTreeMap<Name, Print>,
    recent: LruCache<Name, Print>,
}

impl Default for Keys {
    fn default() -> Self {
        Self(Mutex::new(Known { running: BTreeMap::new(), recent: LruCache::new(RECENT) }))
    }
}

impl Keys {
    fn begin(&self, who: &Who, key: &str, print: Print) -> Result<Running<'_>, Problem> {
        let name = (who.0.clone(), key.to_owned());
        let mut known = self.lock();
        let before = known.running.get(&name).copied();
        match before.or_else(|| known.recent.get(&name).copied()) {
            Some(other) if other != print => return Err(reused(key)),
            _ if before.is_some() => {
                let title = "The request is being worked on";
                let detail = format!("a request with the key `{key}` is under way; ask again for its answer");
                let problem = Problem::new(StatusCode::CONFLICT, "idempotency-key-in-use", title, detail);
                return Err(problem.retry_after(1));
            }
            _ => {}
        }
        known.running.insert(name.clone(), print);
        Ok(Running { keys: self, name, print })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key in use; given back when its request ends, however it ends.
struct Running<'k> {
    keys: &'k Keys,
    name: Name,
    print: Print,
}

impl Running<'_> {
    /// Its request has an answer that is durable.
    fn done(self) {
        self.keys.lock().recent.put(self.name.clone(), self.print);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.keys.lock().running.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| ("idempotency-key".parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_key_is_quoted_or_bare_and_there_once() {
        assert_eq!(key(&headers(&["\"8e03978e\""])).unwrap(), "8e03978e");
        assert_eq!(key(&headers(&["8e03978e"])).unwrap(), "8e03978e");
        let long = "x".repeat(256);
        for wrong in [&[][..], &[""], &["\"\""], &["a", "a"], &["a\"b"], &["a\\b"], &[&*long]] {
            assert_eq!(key(&headers(wrong)).unwrap_err().status(), StatusCode::BAD_REQUEST, "{wrong:?}");
        }
    }

    #[test]
    fn a_key_in_use_is_told_apart_from_a_key_used_before() {
        let (keys, who) = (Keys::default(), Who("ops".into()));
        let status =
            |key, print| keys.begin(&who, key, print).map(Running::done).map_err(|p| p.status().as_u16());
        let running = keys.begin(&who, "k", [1; 32]).unwrap();
        assert_eq!(status("k", [1; 32]), Err(409));
        assert_eq!(status("k", [2; 32]), Err(422));
        drop(running); // it failed: nothing is known of it
        assert_eq!(status("k", [2; 32]), Ok(()));
        assert_eq!(status("k", [1; 32]), Err(422));
        assert_eq!(status("k", [2; 32]), Ok(()));
        assert!(keys.begin(&Who("other".into()), "k", [1; 32]).is_ok(), "keys are each caller's own");
    }

    #[test]
    fn a_command_that_cannot_be_read_says_what_is_wrong() {
        for (body, told) in [
            ("", "not JSON at byte 0"),
            ("[]", "a command is a JSON object"),
            ("{\"entity\": \"order/1\"}", "`command` is missing"),
            ("{\"command\": \"x\", \"entity\": \"order\"}", "write it as `kind/key`"),
            ("{\"command\": 1, \"entity\": \"order/1\"}", "`command` must be text"),
            ("{\"command\": \"x\", \"entity\": \"order/1\", \"dta\": 1}", "unknown member `dta`"),
        ] {
            let problem = Asked::read(body.as_bytes(), 1000).unwrap_err();
            assert!(problem.detail().contains(told), "{}", problem.detail());
        }
    }
}

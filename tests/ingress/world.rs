//! A way in with a mailbox that only remembers, and senders that sign.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value as Json;
use syncline::api::Who;
use syncline::clock::Clock;
use syncline::ingress::gate::Schemas;
use syncline::ingress::preset::Presets;
use syncline::ingress::sign::Signer;
use syncline::ingress::source::{self, Source};
use syncline::ingress::verify::{Request as Signable, Secret};
use syncline::ingress::{Aside, Ingress, Limits, Mailbox, MailboxError, Means, Taken};
use syncline::problem::Problem;
use syncline_actors::class::Class;
use syncline_actors::decision::{Answer, Rejection, Verdict};
use syncline_actors::document::{Item, Reader};
use syncline_actors::envelope::Envelope;
use syncline_actors::id::EntityId;
use syncline_actors::time::Timestamp;

pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(super) const OLD: &str = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xk";
pub(super) const GONE: &str = "whsec_Z29uZS1nb25lLWdvbmUtZ29uZS1nb25lLWdv";
pub(super) const NOW: i64 = 1_795_428_000_000;

/// The source most tests send from.
pub(super) const SHOP: &str = r#"
source: shop
owner: {team: commerce, escalate: commerce-desk}
preset: standard-webhooks
secrets:
  - {id: current, ref: "env:CURRENT"}
  - {id: old, ref: "env:OLD", optional: true}
  - {id: gone, ref: "env:GONE", not_after: "2026-11-23T00:00:00Z"}
  - {id: never, ref: "env:NOT_THERE", optional: true}
messages:
  paid:
    version: "default(body.v, 1)"
    schemas: {"1": paid.json}
    send:
      - event: order.paid
        to: {process: order, key: "body.order"}
        time: "body.at"
        correlation: "default(body.flow, body.order)"
        map: {amount: "dec(body.amount)", who?: "body.who"}
  split:
    send:
      - {event: order.paid, to: {process: order, key: "body.one"}, map: {n: "1"}}
      - {event: order.paid, to: {process: order, key: "body.two"}, map: {n: "2"}}
  silent:
    send:
      - {event: order.paid, to: {process: order, key: "body.order"}, when: "false", map: {n: "1"}}
"#;

const PAID: &str = r#"{"type": "object", "required": ["order", "amount"],
    "properties": {"amount": {"type": ["number", "string"]}, "who": {"type": "string"}}}"#;

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(NOW)
    }
}

/// What the mailbox says next.
#[derive(Debug, Clone, Default)]
pub(super) enum Says {
    #[default]
    Yes,
    No(MailboxError),
    Rejected,
}

#[derive(Debug, Default)]
pub(super) struct Postbox {
    pub(super) says: Mutex<Says>,
    pub(super) delivered: Mutex<Vec<Envelope>>,
    pub(super) kept: Mutex<Vec<Aside>>,
}

impl Postbox {
    fn take(&self, entity: EntityId, duplicate: Option<usize>, seq: usize) -> Result<Taken, MailboxError> {
        let verdict = match &*self.says.lock().unwrap() {
            Says::Yes => Verdict::Applied,
            Says::No(error) => return Err(error.clone()),
            Says::Rejected => Verdict::Rejected(Rejection::Stale),
        };
        let seq = duplicate.unwrap_or(seq) as u64;
        let answer = Answer { seq, status: "paid".into(), verdict };
        Ok(Taken { entity, answer, duplicate: duplicate.is_some() })
    }
}

#[async_trait]
impl Mailbox for Postbox {
    async fn deliver(&self, envelope: Envelope, _class: Class) -> Result<Taken, MailboxError> {
        let mut delivered = self.delivered.lock().unwrap();
        let known = delivered.iter().position(|known| {
            (&known.source, &known.id, &known.subject) == (&envelope.source, &envelope.id, &envelope.subject)
        });
        let taken = self.take(envelope.subject.clone(), known.map(|at| at + 1), delivered.len() + 1)?;
        if known.is_none() {
            delivered.push(envelope);
        }
        Ok(taken)
    }

    async fn quarantine(&self, aside: Aside, _class: Class) -> Result<Taken, MailboxError> {
        let never = matches!(&*self.says.lock().unwrap(), Says::No(MailboxError::Never(_)));
        let entity = EntityId::new("quarantine", "x").unwrap();
        let taken = if never {
            let answer = Answer { seq: 1, status: "held".into(), verdict: Verdict::Applied };
            Taken { entity, answer, duplicate: false }
        } else {
            self.take(entity, None, 1)?
        };
        self.kept.lock().unwrap().push(aside);
        Ok(taken)
    }

    async fn message(&self, _: &EntityId, seq: u64) -> Result<Option<Envelope>, MailboxError> {
        let at = usize::try_from(seq).unwrap() - 1;
        Ok(self.delivered.lock().unwrap().get(at).cloned())
    }
}

pub(super) struct World {
    pub(super) mailbox: Arc<Postbox>,
    pub(super) ingress: Arc<Ingress>,
    pub(super) router: Router,
}

pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answered {
    pub(super) fn json(&self) -> Json {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The last part of the problem's type; it must be a whole problem.
    pub(super) fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem["type"].as_str().unwrap().rsplit('#').next().unwrap().to_owned()
    }
}

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "env:CURRENT" => SECRET,
        "env:OLD" => OLD,
        "env:GONE" => GONE,
        "env:TOKEN" => "token-of-the-sender",
        "env:SLACK" => "8f742231b10e8888abcd99yyyzzz85a5",
        _ => return None,
    };
    Some(value.to_owned())
}

pub(super) fn source(text: &str) -> Source {
    let reader = Reader::default();
    let node = reader.read("s.yaml", text).unwrap();
    let source = source::parse(&Item::root(&node, &reader), &Presets::builtin());
    assert!(reader.problems().is_empty(), "{}", reader.problems());
    source.unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        Self::of(&[SHOP], 10_000, 1 << 20)
    }

    pub(super) fn of(sources: &[&str], body_max: usize, bytes_in_flight_max: usize) -> Self {
        Self::with_schemas(sources, &[("paid.json", PAID)], body_max, bytes_in_flight_max)
    }

    pub(super) fn with_schemas(
        sources: &[&str],
        texts: &[(&str, &str)],
        body_max: usize,
        bytes_in_flight_max: usize,
    ) -> Self {
        let reader = Reader::default();
        let mut schemas = Schemas::default();
        for (file, text) in texts {
            schemas.add(file, text, file, &reader);
        }
        assert!(reader.problems().is_empty(), "{}", reader.problems());
        let mailbox = Arc::new(Postbox::default());
        let means = Means {
            sources: sources.iter().map(|text| source(text)).collect(),
            schemas,
            mailbox: mailbox.clone(),
            admit: Arc::new(|headers| match headers.get("authorization") {
                Some(token) if token == "Bearer ops" => Ok(Who("ops".into())),
                _ => Err(Problem::unauthenticated()),
            }),
            clock: Arc::new(Fixed),
            limits: Limits { body_max, bytes_in_flight_max, remember: std::time::Duration::from_hours(1) },
        };
        let ingress = Ingress::open(means, &lookup).unwrap();
        Self { mailbox, router: ingress.router(), ingress }
    }

    pub(super) fn says(&self, says: Says) {
        *self.mailbox.says.lock().unwrap() = says;
    }

    pub(super) async fn ask(&self, request: Request<Body>) -> Answered {
        use tower::ServiceExt as _;
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answered { status: parts.status, headers: parts.headers, body }
    }

    pub(super) async fn hook(&self, id: &str, body: &[u8]) -> Answered {
        self.ask(signed("shop", SECRET, id, NOW, body)).await
    }

    pub(super) async fn api(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answered {
        let mut request = Request::post(path).header("authorization", "Bearer ops");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(super) fn delivered(&self) -> Vec<Envelope> {
        self.mailbox.delivered.lock().unwrap().clone()
    }

    /// What was kept, by class.
    pub(super) fn kept(&self) -> BTreeMap<&'static str, Vec<Aside>> {
        let mut kept: BTreeMap<_, Vec<Aside>> = BTreeMap::new();
        for aside in self.mailbox.kept.lock().unwrap().iter() {
            kept.entry(aside.class).or_default().push(aside.clone());
        }
        kept
    }
}

/// A webhook as Standard Webhooks has it.
pub(super) fn signed(source: &str, secret: &str, id: &str, at: i64, body: &[u8]) -> Request<Body> {
    let presets = Presets::builtin();
    let verify = &presets.get("standard-webhooks").unwrap().verify;
    let signer = Signer::compile(verify, vec![Secret::new("any", secret)]).unwrap();
    let url = format!("/hooks/{source}");
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", id.parse().unwrap());
    let request = Signable { method: "POST", url: &url, host: "", headers: &headers, body };
    let signed = signer.sign(&request, at).unwrap();
    headers.extend(signed.headers);
    let mut request = Request::post(url).header("content-type", "application/json");
    for (name, value) in &headers {
        request = request.header(name, value);
    }
    request.body(Body::from(body.to_vec())).unwrap()
}

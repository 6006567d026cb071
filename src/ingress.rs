//! The way in: what makes a request authentic, which message it is, what it means here, and the answer once it is durable.
//!
//! ```text
//! POST /hooks/{source}   raw bytes ─► verify ─► identify ─► schema gate ─► map ─► mailbox ─► the source's own ack
//! POST /v1/commands      token ─► Idempotency-Key ─► mailbox ─► the entity's answer
//! POST /v1/events        token ─► CloudEvents (binary, structured, batch) ─► mailbox ─► the answers
//! ```
//! Success is answered after the durable append and never before. What is authentic but not understood goes whole into the
//! quarantine, durable before its ack like everything else. What is not authentic leaves no trace but a metric and a log line.

pub mod batches;
mod body;
mod cloudevents;
mod commands;
mod door;
pub mod drift;
mod events;
pub mod feed;
pub mod gate;
mod hooks;
pub mod identify;
pub mod poll;
pub mod preset;
mod replay;
pub mod rows;
pub mod sign;
pub mod source;
pub mod verify;
pub mod versions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{any, post};
use syncline_actors::class::Class;
use syncline_actors::decision::Answer;
use syncline_actors::envelope::{Envelope, Evidence};
use syncline_actors::id::EntityId;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;
use tokio::sync::Semaphore;

use crate::api::{Outcome, Who};
use crate::clock::{self, SharedClock};
use crate::problem::Problem;
pub use replay::{Kept, ReplayError};

use door::Door;
use gate::Schemas;
use source::Source;

/// Why sources cannot be served. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Secrets are missing or do not fit their scheme.
    #[error("sources cannot be served:\n{}", problems.join("\n"))]
    Unusable {
        /// One line for each, with the source and the fix.
        problems: Vec<String>,
    },
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The entity that took it.
    pub entity: EntityId,
    /// Its answer.
    pub answer: Answer,
    /// Whether it was known, and this is the first answer again.
    pub duplicate: bool,
}

impl Taken {
    fn outcome(&self) -> Outcome {
        use syncline_actors::decision::Verdict;
        Outcome {
            entity: self.entity.to_string(),
            seq: self.answer.seq,
            status: self.answer.status.to_string(),
            verdict: self.answer.verdict.word().to_owned(),
            problem: match &self.answer.verdict {
                Verdict::Rejected(rejection) => Some(rejection.to_string()),
                _ => None,
            },
            duplicate: self.duplicate,
        }
    }
}

/// Why a message is not taken: nothing of it is durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// This sender sends more than fits: 429.
    #[error("{what} is full")]
    Busy {
        /// What is full.
        what: &'static str,
        /// When to come back.
        retry_after: Duration,
    },
    /// The node or its store cannot take anything now: 503.
    #[error("{why}")]
    Away {
        /// Why.
        why: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// Another node takes it, or this one when it has taken its place: 503, and the connection is closed, so that a balancer that
    /// distributes connections sends the next request elsewhere.
    #[error("{why}")]
    Elsewhere {
        /// Why.
        why: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// It is for an entity that is bound to a region which is not served: nothing of it is kept, in no quarantine either.
    #[error("{0}")]
    Region(String),
    /// It will never be taken like this, however often it is sent.
    #[error("{0}")]
    Never(String),
}

/// Over so many seconds those come back who were refused together.
const SPREAD: u64 = 5;

impl MailboxError {
    fn problem(&self) -> Problem {
        let seconds = |wait: &Duration| u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(1).max(1);
        match self {
            Self::Busy { retry_after, .. } => {
                Problem::busy(StatusCode::TOO_MANY_REQUESTS, seconds(retry_after), self.to_string())
            }
            Self::Away { retry_after, .. } => {
                let seconds = seconds(retry_after) + clock::seed() % SPREAD;
                Problem::busy(StatusCode::SERVICE_UNAVAILABLE, seconds, self.to_string())
            }
            Self::Elsewhere { retry_after, .. } => Problem::elsewhere(seconds(retry_after), self.to_string()),
            Self::Region(why) => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "region",
                "The region is not served",
                why.clone(),
            ),
            Self::Never(why) => Problem::unprocessable(why.clone()),
        }
    }
}

/// An authentic message that is not understood, to be kept whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Aside {
    /// Who sent it.
    pub source: Arc<str>,
    /// Its id there; the hash of its bytes if it has none.
    pub message_id: Arc<str>,
    /// `schema`, `mapping`, `identity` or `undeliverable`.
    pub class: &'static str,
    /// A sentence for the person who will look.
    pub reason: String,
    /// The team that answers for the source.
    pub owner: Arc<str>,
    /// Its type, as far as it is known.
    pub kind: Arc<str>,
    /// The entity it would have gone to, as far as that can be told; empty if not.
    pub meant_for: Arc<str>,
    /// How it has come away from its schema: a list of `{kind, path, said}`; null for nothing.
    pub drift: Value,
    /// The region that it must not leave, if any.
    pub region: Option<Arc<str>>,
    /// The headers without credentials.
    pub headers: Value,
    /// Its body, if it is JSON.
    pub content: Value,
    /// The bytes it came in.
    pub evidence: Evidence,
    /// Trace context as received.
    pub traceparent: Option<Arc<str>>,
    /// When it came.
    pub at: Timestamp,
    /// How long its id is remembered, in milliseconds.
    pub remember_ms: u64,
}

/// The way to the entities. Whatever is `Ok` is durable.
#[async_trait]
pub trait Mailbox: fmt::Debug + Send + Sync + 'static {
    /// Gives a message to its entity.
    async fn deliver(&self, envelope: Envelope, class: Class) -> Result<Taken, MailboxError>;
    /// Keeps a message that is not understood.
    async fn quarantine(&self, aside: Aside, class: Class) -> Result<Taken, MailboxError>;
    /// The message that record `seq` of an entity holds; none when it is no longer kept.
    async fn message(&self, entity: &EntityId, seq: u64) -> Result<Option<Envelope>, MailboxError>;
}

/// Says who asks by their headers, if they may send commands and events.
pub type Admit = Arc<dyn Fn(&HeaderMap) -> Result<Who, Problem> + Send + Sync>;

/// What bounds the way in, and for how long API ids are remembered.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest body.
    pub body_max: usize,
    /// All bodies being read or worked on.
    pub bytes_in_flight_max: usize,
    /// How long `Idempotency-Key`s and ids of events are remembered.
    pub remember: Duration,
}

/// What the way in stands on.
pub struct Means {
    /// Who sends.
    pub sources: Vec<Source>,
    /// What they may send.
    pub schemas: Schemas,
    /// To the entities.
    pub mailbox: Arc<dyn Mailbox>,
    /// Who may use `/v1`.
    pub admit: Admit,
    /// What tells the time.
    pub clock: SharedClock,
    /// What bounds it.
    pub limits: Limits,
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Means").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The way in, shared by all requests.
pub struct Ingress {
    doors: BTreeMap<Arc<str>, Door>,
    schemas: Schemas,
    mailbox: Arc<dyn Mailbox>,
    admit: Admit,
    clock: SharedClock,
    limits: Limits,
    room: Arc<Semaphore>,
    keys: commands::Keys,
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingress").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Ingress {
    /// Makes the sources ready. Secrets are taken by `lookup`, which gives the value of a reference such as `env:NAME`.
    ///
    /// # Errors
    /// Every secret that is missing or does not fit, with the fix.
    pub fn open(means: Means, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Arc<Self>, Error> {
        let Means { sources, schemas, mailbox, admit, clock, limits } = means;
        let mut doors = BTreeMap::new();
        let mut problems = Vec::new();
        for source in sources {
            if Door::is_shut(&source, lookup) {
                tracing::warn!(source = %source.name, "none of its secrets is there, so the source is not served");
                continue;
            }
            match Door::open(source, lookup) {
                Ok(door) => drop(doors.insert(door.source.name.clone(), door)),
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(Error::Unusable { problems });
        }
        let room = Arc::new(Semaphore::new(body::permits(limits.bytes_in_flight_max)));
        let keys = commands::Keys::default();
        Ok(Arc::new(Self { doors, schemas, mailbox, admit, clock, limits, room, keys }))
    }

    /// The routes of the way in.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/hooks/{source}", any(hooks::receive))
            .route("/v1/commands", post(commands::receive))
            .route("/v1/events", post(events::receive))
            .route("/v1/batches/{source}", post(batches::receive))
            .with_state(self.clone())
    }

    /// The drift that came in here since the start, by source, type, kind and place.
    pub fn drift(&self) -> Vec<(drift::Key, drift::Seen)> {
        self.schemas.drift().read()
    }

    /// The sources that are served, by name.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.doors.values().map(|door| &door.source)
    }

    fn remember_ms(&self) -> u64 {
        u64::try_from(self.limits.remember.as_millis()).unwrap_or(u64::MAX)
    }
}

type Shared = State<Arc<Ingress>>;

/// W3C trace context, if the sender gave one that is well formed.
fn traceparent(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let [version, trace, span, flags, ..] = parts[..] else { return None };
    (hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && text.len() <= 128)
        .then(|| text.into())
}

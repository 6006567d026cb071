//! Messages between entities: a lane like those of connectors, which knows the way to the entities instead of a URL.
//!
//! All that holds for an effect holds here: it leaves after its record is durable and while the lease of its entity's shard holds, at
//! least once, and waits in the store while its receiver is away or has too much. Its message id is fixed by the effect, so that the
//! receiver takes it in once; the receiver's answer is the outcome. Messages of one entity to one other arrive in their order.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use syncline_actors::decision::{Answer, Verdict};
use syncline_actors::envelope::{Envelope, OutcomeClass};
use syncline_actors::letter::Letter;
use syncline_actors::outbox::OutboxRow;
use syncline_actors::process::ENTITY;
use syncline_actors::retry::Retry;
use syncline_actors::value::Value;

use super::attempt::{Ended, Report, Site, Work, outcome};
use super::contract::{
    Auth, BodyTemplate, Connector, Idempotency, Operation, Owner, RESPONSE_MAX_DEFAULT, Setting, Template,
    Uncertain,
};

/// Messages under way at a time, of one node.
const CONCURRENCY: u32 = 64;

/// How long one may take. The way to another node gives up before.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A receiver that is away comes back within seconds, unless something is wrong that people must mend.
const RETRY: Retry = Retry {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(30),
    within: Duration::from_hours(24),
    attempts_max: 100_000,
};

/// Takes a message to its receiver, on whatever node that is. The node implements it.
#[async_trait]
pub trait Post: fmt::Debug + Send + Sync + 'static {
    /// Returns once the message is durable, with what its receiver answered, now or when it came first.
    async fn post(&self, envelope: Envelope) -> Result<Answer, PostError>;
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// Surely not taken: there is too much. Not before `after` has passed.
    #[error("{why}")]
    Busy {
        /// What is full.
        why: String,
        /// When to come back.
        after: Duration,
    },
    /// It may have been taken: the receiver's node does not answer, or there is none at the moment.
    #[error("{0}")]
    Away(String),
    /// Not taken, and it never will be.
    #[error("{0}")]
    Never(String),
}

/// What a lane has that sends to entities.
#[derive(Debug)]
pub(super) struct Letters {
    post: Arc<dyn Post>,
    /// What holds for each of them.
    pub(super) operation: Arc<Operation>,
}

impl Letters {
    pub(super) fn new(post: Arc<dyn Post>) -> Self {
        // Repeating one is harmless; the call itself is made by `post`, not by this template.
        let request = Template {
            method: Method::POST,
            path: Vec::new(),
            query: Vec::new(),
            headers: Vec::new(),
            body: BodyTemplate::None,
        };
        let operation = Operation {
            name: ENTITY.into(),
            request,
            timeout: None,
            idempotency: Idempotency::Natural,
            uncertain: Uncertain::Resend,
            key_kept: None,
            ask_first: false,
            outcomes: Vec::new(),
            probe: None,
        };
        Self { post, operation: Arc::new(operation) }
    }
}

/// The contract of the way to other entities.
pub(super) fn contract() -> Connector {
    Connector {
        name: ENTITY.into(),
        title: "Other entities".into(),
        owner: Owner { team: "platform".into(), escalate: "".into() },
        class: syncline_actors::class::Class::default(),
        base_url: Setting::Plain(String::new()),
        auth: Auth::None,
        session: None,
        concurrency: CONCURRENCY,
        rate: None,
        timeout: TIMEOUT,
        retry: RETRY,
        breaker: None,
        ordered: true,
        sandbox: false,
        insecure: false,
        allow_private: false,
        response_max: RESPONSE_MAX_DEFAULT,
        operations: std::collections::BTreeMap::new(),
        subscribes: std::collections::BTreeMap::new(),
        reconcile: Vec::new(),
    }
}

/// Whether an effect must leave before another of the same entity: each system is one receiver, and so is each entity.
pub(super) fn goes_before(earlier: &OutboxRow, later: &OutboxRow) -> bool {
    let (earlier, later) = (&earlier.effect, &later.effect);
    earlier.connector == later.connector
        && earlier.id < later.id
        && (*later.connector != *ENTITY || earlier.input.get("to") == later.input.get("to"))
}

impl Site {
    /// Sends the message once.
    pub(super) async fn post(&self, letters: &Letters, mut work: Work) -> Report {
        let settle = |row: &OutboxRow, class, result, why: &str| {
            Ended::Settled(outcome(row, class, result, why, None))
        };
        let row = &work.row;
        let letter = match Letter::read(&row.effect.input) {
            Ok(letter) => letter,
            Err(why) => {
                let ended =
                    settle(row, OutcomeClass::Dead, Value::Null, &format!("it cannot be sent: {why}"));
                return Report::unasked(work, ended);
            }
        };
        if let Err(why) = letter.check_residency(&row.entity) {
            let ended = settle(row, OutcomeClass::Failed, Value::Null, &why);
            return Report::unasked(work, ended);
        }
        // The node may have slept: then another one sends for this entity.
        if self.ownership.epoch(row.entity.shard()).is_none() {
            return Report::unasked(work, Ended::NotOurs);
        }
        let began = self.outside.clock.now();
        let envelope = letter.envelope(row, began);
        let before = row.progress.uncertain || self.perhaps_tried(&letters.operation, row);
        work.row.progress.attempts = work.row.progress.attempts.saturating_add(1);
        let answered = tokio::time::timeout(TIMEOUT, letters.post.post(envelope)).await;
        let answered = answered.unwrap_or_else(|_| Err(PostError::Away("timed out".to_owned())));
        let (attempts, row) = (work.row.progress.attempts, &work.row);
        let operation = &*letters.operation;
        let (word, sound, ended) = match answered {
            Ok(answer) => match &answer.verdict {
                Verdict::Rejected(why) => {
                    ("failed", true, settle(row, OutcomeClass::Failed, told(&answer), &why.to_string()))
                }
                _ => ("ok", true, settle(row, OutcomeClass::Ok, told(&answer), "")),
            },
            Err(PostError::Never(why)) => {
                ("failed", true, settle(row, OutcomeClass::Failed, Value::Null, &why))
            }
            Err(PostError::Busy { why, after }) => {
                let not_before = Some(self.outside.clock.now().plus(after));
                ("busy", true, self.later(row, operation, attempts, before, not_before, &why).await)
            }
            Err(PostError::Away(why)) => {
                ("lost", false, self.later(row, operation, attempts, true, None, &why).await)
            }
        };
        self.observe(&work.row.effect.operation, word, began);
        Report { work, ended, sound: Some(sound), throttled: None }
    }
}

/// The receiver's answer, as the sender's expressions see it.
fn told(answer: &Answer) -> Value {
    Value::map([
        ("verdict", Value::from(answer.verdict.word())),
        ("status", Value::from(&*answer.status)),
        ("seq", Value::Int(i64::try_from(answer.seq).unwrap_or(i64::MAX))),
    ])
}

//! One step of an effect: what comes next for it, and the call itself.
//!
//! The order of a call is what makes it safe: the request is built and signed, then the attempt goes on record where repeating it
//! blindly could apply it twice, and only then it leaves. Whoever finds that record later asks the system before trying again.

use std::sync::{Arc, Mutex};

use http::HeaderValue;
use rand::rngs::StdRng;
use syncline_actors::envelope::{Outcome, OutcomeClass};
use syncline_actors::expr::Scope;
use syncline_actors::id::{EffectId, EntityId};
use syncline_actors::outbox::{OutboxRow, Progress};
use syncline_actors::retry::Next;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::auth::{Authority, TokenNumber};
use super::classify::{About, Again, Probed, Shown, classify, clip, probed};
use super::contract::{Connector, Operation, Template, Uncertain};
use super::post::Letters;
use super::wire::{Request, Response, WireError};
use super::{Outside, Ownership};
use crate::journal;

/// An effect, in the whole store.
pub(super) type Key = (EntityId, EffectId);

/// One connector with all that its attempts need.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) contract: Connector,
    /// Without a slash at its end.
    pub(super) base: String,
    pub(super) authority: Authority,
    /// Set when it is the way to other entities.
    pub(super) letters: Option<Letters>,
    pub(super) outside: Arc<Outside>,
    pub(super) ownership: Arc<Ownership>,
    pub(super) rng: Mutex<StdRng>,
}

/// An effect in hand.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) row: OutboxRow,
    /// The credentials were refused once in this round: after a second refusal it waits.
    pub(super) refused: bool,
    /// The system was asked and knows nothing of it: it may leave.
    pub(super) asked: bool,
}

impl Work {
    pub(super) fn new(row: OutboxRow) -> Self {
        Self { row, refused: false, asked: false }
    }

    pub(super) fn key(&self) -> Key {
        (self.row.entity.clone(), self.row.effect.id)
    }
}

/// An ending that tells the status it came with.
fn with_status(ended: Ended, status: Option<u16>) -> Ended {
    match ended {
        Ended::Settled(outcome) => Ended::Settled(Outcome { status, ..outcome }),
        ended => ended,
    }
}

/// What comes next for an effect.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing: this is how it ended.
    Settle(Outcome),
    /// Ask whether it was applied.
    Probe,
    /// Try it.
    Send,
}

/// What a step has come to.
#[derive(Debug)]
pub(super) enum Ended {
    /// The effect ended.
    Settled(Outcome),
    /// It waits in the store for its next attempt, with this progress.
    Later(Progress),
    /// Its next step may follow at once.
    Next(Work),
    /// It waits no longer.
    Gone,
    /// Its shard belongs to another node now.
    NotOurs,
    /// The store could not be asked; the text says why.
    StoreDown(String),
}

/// What a step has come to, and what it says about the connector.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) work: Work,
    pub(super) ended: Ended,
    /// Whether the system answered as it should; `None` when it was not asked.
    pub(super) sound: Option<bool>,
    /// Set when the system wants less.
    pub(super) throttled: Option<Throttle>,
}

/// A system that wants less.
#[derive(Debug, Clone, Copy)]
pub(super) struct Throttle {
    /// Until when, if it said so.
    pub(super) until: Option<Timestamp>,
}

impl Report {
    pub(super) fn unasked(work: Work, ended: Ended) -> Self {
        Self { work, ended, sound: None, throttled: None }
    }
}

impl Site {
    pub(super) fn operation(&self, row: &OutboxRow) -> Option<&Arc<Operation>> {
        match &self.letters {
            Some(letters) => Some(&letters.operation),
            None => self.contract.operations.get(&row.effect.operation),
        }
    }

    /// Whether the system is to be asked before it is tried at all.
    pub(super) fn asks_first(&self, work: &Work) -> bool {
        let progress = &work.row.progress;
        let untried = !work.asked && progress.attempts == 0 && !progress.called_off;
        untried && self.operation(&work.row).is_some_and(|operation| operation.ask_first)
    }

    /// What comes next for `row`.
    pub(super) fn plan(&self, row: &OutboxRow, now: Timestamp) -> Step {
        let Some(operation) = self.operation(row) else {
            let text =
                format!("connector `{}` has no operation `{}`", self.contract.name, row.effect.operation);
            return Step::Settle(outcome(row, OutcomeClass::Dead, Value::Null, &text, None));
        };
        let progress = &row.progress;
        if progress.called_off && !progress.uncertain && !self.perhaps_tried(operation, row) {
            return Step::Settle(outcome(
                row,
                OutcomeClass::Cancelled,
                Value::Null,
                "called off before it left",
                None,
            ));
        }
        if !progress.uncertain && !progress.called_off {
            return Step::Send;
        }
        let forgotten = operation.key_kept.is_some_and(|kept| now > began(row).plus(kept));
        match (operation.uncertain, &operation.probe) {
            (_, Some(_)) if forgotten => Step::Probe,
            (Uncertain::Probe, Some(_)) => Step::Probe,
            (Uncertain::Resend, _) if !forgotten => Step::Send,
            // No attempt of this round: a person has decided to send it again.
            (_, _) if progress.attempts == 0 && !progress.called_off => Step::Send,
            _ => Step::Settle(self.held(row, &progress.last)),
        }
    }

    /// Whether a node that owned the effect before us may have tried it without a trace, were it the second time.
    pub(super) fn perhaps_tried(&self, operation: &Operation, row: &OutboxRow) -> bool {
        !operation.claims() && self.ownership.before_us(row)
    }

    fn held(&self, row: &OutboxRow, last: &str) -> Outcome {
        let text = format!(
            "it may have been applied, and {} cannot be asked: look there, then retry or resolve ({last})",
            self.contract.title
        );
        outcome(row, OutcomeClass::Dead, Value::Null, &text, None)
    }

    /// Tries the effect once.
    pub(super) async fn send(&self, mut work: Work) -> Report {
        if let Some(letters) = &self.letters {
            return self.post(letters, work).await;
        }
        let Some(operation) = self.operation(&work.row).cloned() else {
            return Report::unasked(work, Ended::Gone);
        };
        let attempts = work.row.progress.attempts.saturating_add(1);
        let before = work.row.progress.uncertain || self.perhaps_tried(&operation, &work.row);
        let (request, token) =
            match self.request(&work.row, &operation.request, &operation, &operation.name).await {
                Ok(made) => made,
                Err(Unmade::Template(why)) => {
                    let text = format!("the call cannot be made: {why}");
                    let ended =
                        Ended::Settled(outcome(&work.row, OutcomeClass::Dead, Value::Null, &text, None));
                    return Report::unasked(work, ended);
                }
                Err(Unmade::Credentials(error)) => {
                    self.outside.observer.attempt(
                        &self.contract.name,
                        &operation.name,
                        "unsent",
                        std::time::Duration::ZERO,
                    );
                    let ended =
                        self.later(&work.row, &operation, attempts, before, None, &error.to_string()).await;
                    return Report { work, ended, sound: Some(false), throttled: None };
                }
            };
        if operation.claims()
            && let Some(ended) = self.claim(&work.row, &operation, attempts).await
        {
            return Report::unasked(work, ended);
        }
        // The node may have slept while it got its credentials or wrote its claim. Then another node may have gone on, and what leaves
        // here now would come after what that one has sent.
        if self.ownership.epoch(work.row.entity.shard()).is_none() {
            return Report::unasked(work, Ended::NotOurs);
        }
        work.row.progress.attempts = attempts;
        let (answer, word_base) = self.call(request, &operation.name).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let lost = matches!(error, WireError::Lost(_));
                self.observe(&operation.name, if lost { "lost" } else { "unsent" }, word_base);
                let ended = self
                    .later(&work.row, &operation, attempts, before || lost, None, &error.to_string())
                    .await;
                return Report { work, ended, sound: Some(false), throttled: None };
            }
        };
        let shown = {
            let key = work.row.effect.id.idempotency_key(&work.row.entity);
            classify(&operation, &answer, &self.about(&work.row, &key, attempts))
        };
        self.observe(&operation.name, word(&shown), word_base);
        self.conclude(work, &operation, before, &answer, token, shown).await
    }

    async fn conclude(
        &self,
        mut work: Work,
        operation: &Operation,
        before: bool,
        answer: &Response,
        token: TokenNumber,
        shown: Shown,
    ) -> Report {
        let status = Some(answer.status);
        let settle = |row: &OutboxRow, class, result, detail: &str| {
            Ended::Settled(outcome(row, class, result, detail, status))
        };
        let mut throttled = None;
        // What the contract reads as a final answer is one, whatever its status.
        let refused = matches!(shown, Shown::Refused { .. }) && (work.refused || !self.authority.renews());
        let sound = !refused && (answer.status < 500 || !matches!(shown, Shown::Again(_)));
        let ended = match shown {
            Shown::Ok { result, detail } => settle(&work.row, OutcomeClass::Ok, result, &detail),
            Shown::Failed { detail } => settle(&work.row, OutcomeClass::Failed, Value::Null, &detail),
            Shown::Unreadable { detail } => settle(&work.row, OutcomeClass::Dead, Value::Null, &detail),
            Shown::Refused { detail } if work.refused || !self.authority.renews() => {
                // It is the connector's trouble, not the entity's: somebody renews the credentials, and all goes on by itself.
                let attempts = work.row.progress.attempts;
                let why = format!("the credentials were refused: {detail}");
                let ended = self.later(&work.row, operation, attempts, before, None, &why).await;
                with_status(ended, status)
            }
            Shown::Refused { .. } => {
                self.authority.renounce(token).await;
                work.refused = true;
                work.row.progress.uncertain = before;
                Ended::Next(work.clone())
            }
            Shown::Again(Again { uncertain, throttled: slow, not_before, detail }) => {
                throttled = slow.then_some(Throttle { until: not_before });
                let attempts = work.row.progress.attempts;
                let ended = self
                    .later(&work.row, operation, attempts, before || uncertain, not_before, &detail)
                    .await;
                with_status(ended, status)
            }
        };
        Report { work, ended, sound: Some(sound), throttled }
    }

    /// Asks whether the effect was applied.
    pub(super) async fn probe(&self, mut work: Work) -> Report {
        let Some((operation, probe)) =
            self.operation(&work.row).and_then(|op| Some((op.clone(), op.probe.clone()?)))
        else {
            return Report::unasked(work, Ended::Gone);
        };
        let name = format!("{} probe", operation.name);
        let attempts = work.row.progress.attempts.saturating_add(1);
        let (request, token) = match self.request(&work.row, &probe.request, &operation, &name).await {
            Ok(made) => made,
            Err(Unmade::Template(why)) => {
                let ended = Ended::Settled(self.held(&work.row, &format!("the probe cannot be made: {why}")));
                return Report::unasked(work, ended);
            }
            Err(Unmade::Credentials(error)) => {
                let ended = self.later(&work.row, &operation, attempts, true, None, &error.to_string()).await;
                return Report { work, ended, sound: Some(false), throttled: None };
            }
        };
        let (answer, began) = self.call(request, &name).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.observe(&name, "unknown", began);
                let text = format!("probe: {error}");
                let ended = self.later(&work.row, &operation, attempts, true, None, &text).await;
                return Report { work, ended, sound: Some(false), throttled: None };
            }
        };
        let seen = {
            let key = work.row.effect.id.idempotency_key(&work.row.entity);
            probed(&probe, &answer, &self.about(&work.row, &key, work.row.progress.attempts))
        };
        self.observe(&name, probed_word(&seen), began);
        let status = Some(answer.status);
        let mut slow = None;
        let ended = match seen {
            Probed::Found(result) => {
                Ended::Settled(outcome(&work.row, OutcomeClass::Ok, result, "found by probe", status))
            }
            Probed::Unreadable(detail) => {
                Ended::Settled(outcome(&work.row, OutcomeClass::Dead, Value::Null, &detail, status))
            }
            Probed::Absent => {
                work.row.progress.uncertain = false;
                work.asked = true;
                self.absent(&work)
            }
            Probed::Refused(_) if !work.refused && self.authority.renews() => {
                self.authority.renounce(token).await;
                work.refused = true;
                Ended::Next(work.clone())
            }
            Probed::Refused(detail) => {
                let text = format!("probe: the credentials were refused: {detail}");
                self.later(&work.row, &operation, attempts, true, None, &text).await
            }
            Probed::Unknown { detail, throttled, not_before } => {
                slow = throttled.then_some(Throttle { until: not_before });
                self.later(&work.row, &operation, attempts, true, not_before, &detail).await
            }
        };
        Report { work, ended, sound: Some(answer.status < 500), throttled: slow }
    }

    /// It was not applied: send it again, or let it be if it was called off.
    fn absent(&self, work: &Work) -> Ended {
        let row = &work.row;
        if row.progress.called_off {
            let text = "called off; the system says that it was not applied";
            return Ended::Settled(outcome(row, OutcomeClass::Cancelled, Value::Null, text, None));
        }
        let now = self.outside.clock.now();
        if row.progress.attempts >= self.contract.retry.attempts_max
            || now >= began(row).plus(self.contract.retry.within)
        {
            let text = format!(
                "gave up after {} attempts; not applied ({})",
                row.progress.attempts, row.progress.last
            );
            return Ended::Settled(outcome(row, OutcomeClass::Dead, Value::Null, &text, None));
        }
        Ended::Next(work.clone())
    }

    /// Puts an attempt on record before it starts. Returns how the step ended if it must not start.
    async fn claim(&self, row: &OutboxRow, operation: &Operation, attempts: u32) -> Option<Ended> {
        let after = operation.probe.as_ref().map_or_else(Default::default, |probe| probe.after);
        let timeout = operation.timeout.unwrap_or(self.contract.timeout);
        let progress = Progress {
            // Until then nobody who finds the record can know whether this attempt is still under way.
            due: self.outside.clock.now().plus(timeout).plus(after),
            attempts,
            uncertain: true,
            called_off: row.progress.called_off,
            last: format!("attempt {attempts} has begun").into(),
        };
        match self.keep(row, progress).await {
            Ended::Later(_) => None,
            ended => Some(ended),
        }
    }

    /// Puts off the next step, or gives up.
    pub(super) async fn later(
        &self,
        row: &OutboxRow,
        operation: &Operation,
        attempts: u32,
        uncertain: bool,
        not_before: Option<Timestamp>,
        detail: &str,
    ) -> Ended {
        let mut row = row.clone();
        row.progress.attempts = attempts;
        if uncertain && operation.uncertain == Uncertain::Hold {
            return Ended::Settled(self.held(&row, detail));
        }
        let now = self.outside.clock.now();
        let asks = uncertain && operation.uncertain != Uncertain::Resend;
        let settled_at = operation.probe.as_ref().filter(|_| asks).map(|probe| now.plus(probe.after));
        let not_before = not_before.max(settled_at);
        let next = {
            let mut rng = self.rng.lock().expect("no holder panics");
            self.contract.retry.next(attempts, began(&row), now, not_before, &mut *rng)
        };
        let why = match next {
            Next::At(due) => {
                let called_off = row.progress.called_off;
                let progress = Progress { due, attempts, uncertain, called_off, last: clip(detail) };
                return self.keep(&row, progress).await;
            }
            Next::TooMany => format!("gave up after {attempts} attempts"),
            Next::TooLate => {
                let within = humantime::format_duration(self.contract.retry.within);
                format!("gave up: its time of {within} is over after {attempts} attempts")
            }
        };
        let perhaps = if uncertain { "; it may have been applied" } else { "" };
        let text = format!("{why}{perhaps} ({detail})");
        Ended::Settled(outcome(&row, OutcomeClass::Dead, Value::Null, &text, None))
    }

    async fn keep(&self, row: &OutboxRow, progress: Progress) -> Ended {
        let Some(epoch) = self.ownership.epoch(row.entity.shard()) else { return Ended::NotOurs };
        let kept = self.outside.journal.progress(epoch, &row.entity, row.effect.id, progress.clone()).await;
        match kept {
            Ok(true) => Ended::Later(progress),
            Ok(false) => Ended::Gone,
            Err(journal::Error::Fenced { .. }) => Ended::NotOurs,
            Err(error) => Ended::StoreDown(error.to_string()),
        }
    }

    async fn request(
        &self,
        row: &OutboxRow,
        template: &Template,
        operation: &Operation,
        name: &str,
    ) -> Result<(Request, TokenNumber), Unmade> {
        let mut built = {
            let key = Value::from(row.effect.id.idempotency_key(&row.entity));
            let correlation_id = Value::from(row.correlation_id.clone());
            let scope = Scope::new()
                .with("input", &row.effect.input)
                .with("key", &key)
                .with("correlation_id", &correlation_id);
            template.build(&scope).map_err(Unmade::Template)?
        };
        let trace = row.traceparent.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        if let Some(trace) = trace {
            built.headers.insert("traceparent", trace);
        }
        let token = self
            .authority
            .sign(&built.method, &mut built.headers, &*self.outside.wire, &self.outside.clock)
            .await
            .map_err(Unmade::Credentials)?;
        let request = Request {
            connector: self.contract.name.clone(),
            operation: name.into(),
            method: built.method,
            url: format!("{}{}", self.base, built.target),
            headers: built.headers,
            body: built.body,
            timeout: operation.timeout.unwrap_or(self.contract.timeout),
            response_max: self.contract.response_max,
            allow_private: self.contract.allow_private,
        };
        Ok((request, token))
    }

    /// Makes the call, and bounds it: a wire that does not keep to the time counts as lost.
    async fn call(&self, request: Request, name: &str) -> (Result<Response, WireError>, Timestamp) {
        let began = self.outside.clock.now();
        tracing::debug!(connector = %self.contract.name, operation = name, "calling");
        let slack = std::time::Duration::from_millis(500);
        let timeout = request.timeout + slack;
        let answer = tokio::time::timeout(timeout, self.outside.wire.send(request)).await;
        (answer.unwrap_or_else(|_| Err(WireError::Lost("timed out".to_owned()))), began)
    }

    pub(super) fn observe(&self, operation: &str, word: &'static str, began: Timestamp) {
        let took = self.outside.clock.now().since(began);
        self.outside.observer.attempt(&self.contract.name, operation, word, took);
    }

    fn about<'a>(&self, row: &'a OutboxRow, key: &'a str, attempts: u32) -> About<'a> {
        About { input: &row.effect.input, key, attempts, now: self.outside.clock.now() }
    }
}

/// Why a call could not be made.
enum Unmade {
    /// A part of it has no value: the contract and the input do not fit.
    Template(String),
    /// There are no credentials now.
    Credentials(WireError),
}

/// When the effect's time began to run.
fn began(row: &OutboxRow) -> Timestamp {
    row.since.max(row.effect.due)
}

pub(super) fn outcome(
    row: &OutboxRow,
    class: OutcomeClass,
    result: Value,
    detail: &str,
    status: Option<u16>,
) -> Outcome {
    let attempts = row.progress.attempts;
    Outcome { effect: row.effect.id, class, result, detail: clip(detail), status, attempts }
}

fn word(shown: &Shown) -> &'static str {
    match shown {
        Shown::Ok { .. } => "ok",
        Shown::Failed { .. } => "failed",
        Shown::Unreadable { .. } => "unreadable",
        Shown::Refused { .. } => "refused",
        Shown::Again(again) if again.throttled => "throttled",
        Shown::Again(again) if again.uncertain => "uncertain",
        Shown::Again(_) => "busy",
    }
}

fn probed_word(seen: &Probed) -> &'static str {
    match seen {
        Probed::Found(_) => "found",
        Probed::Absent => "absent",
        Probed::Unreadable(_) => "unreadable",
        Probed::Refused(_) => "refused",
        Probed::Unknown { .. } => "unknown",
    }
}

//! What the drivers tell of themselves, as metrics and log lines.

use std::time::Duration;

use syncline_actors::decision::{Answer, Change, Ending, Rejection, Verdict};
use syncline_actors::envelope::{Envelope, OutcomeClass};
use syncline_actors::id::{EntityId, ShardId};
use syncline_actors::ownership::Policy;
use syncline_actors::record::Record;

use crate::host::Lane;
use crate::{delivery, host, telemetry};

/// Counts and logs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch;

impl host::Observer for Watch {
    fn answered(&self, message: &Envelope, answer: &Answer, duplicate: bool, took: Duration) {
        telemetry::message_answered(message.subject.kind(), took);
        let verdict = if duplicate { "duplicate" } else { answer.verdict.word() };
        tracing::debug!(
            entity = %message.subject,
            correlation_id = %message.correlation_id,
            message_id = %message.id,
            source = %message.source,
            message = message.body.name(),
            state = %answer.status,
            verdict,
            "answered"
        );
        if let (Verdict::Rejected(rejection), false) = (&answer.verdict, duplicate) {
            tracing::info!(
                entity = %message.subject,
                correlation_id = %message.correlation_id,
                message_id = %message.id,
                message = message.body.name(),
                "rejected: {rejection}"
            );
        }
    }

    fn recorded(&self, _from: &str, record: &Record) {
        let subject = &record.envelope.subject;
        telemetry::message_journaled(subject.kind(), record.answer.verdict.word());
        for change in &record.changes {
            match change {
                Change::Began { .. } => telemetry::process_begun(subject.kind()),
                Change::Disputed { owner, policy, .. } => {
                    telemetry::ownership_disputed(subject.kind(), owner, policy.word());
                }
                Change::Refused(Rejection::NotOwner { owner, .. }) => {
                    telemetry::ownership_disputed(subject.kind(), owner, Policy::Reject.word());
                }
                Change::Refused(Rejection::Outdated { source_name, .. }) => {
                    telemetry::message_outdated(subject.kind(), door(source_name), "older");
                }
                Change::Refused(Rejection::Repeated { source_name, .. }) => {
                    telemetry::message_outdated(subject.kind(), door(source_name), "same");
                }
                Change::Opened(exception) => tracing::warn!(
                    entity = %subject,
                    correlation_id = %record.envelope.correlation_id,
                    class = exception.class.word(),
                    owner = %exception.owner,
                    "exception: {}", exception.summary
                ),
                _ => {}
            }
        }
    }

    fn milestone(&self, kind: &str, milestone: &str, outcome: &'static str) {
        telemetry::milestone(kind, milestone, outcome);
    }

    fn step_left(&self, kind: &str, step: &str, lasted: Duration) {
        telemetry::step_left(kind, step, lasted);
    }

    fn ended(&self, kind: &str, ending: Ending, lasted: Duration) {
        telemetry::process_ended(kind, ending.word(), lasted);
    }

    fn refused(&self, kind: &str, lane: Lane, error: &host::Error) {
        tracing::debug!(kind, ?lane, "not taken: {error}");
    }

    fn panicked(&self, kind: &str) {
        telemetry::actor_panicked(kind);
        tracing::error!(kind, "an actor panicked; it is rebuilt from the journal");
    }

    fn poisoned(&self, entity: &EntityId) {
        tracing::error!(%entity, "a message made its actor panic twice; it is held in quarantine");
    }

    fn broken(&self, entity: &EntityId, problem: &str) {
        tracing::error!(alarm = true, %entity, "the journal of an entity is broken, it is closed: {problem}");
    }

    fn stored(&self, what: &'static str, outcome: &'static str, took: Duration) {
        telemetry::journal_called(what, outcome, took);
    }

    fn fenced(&self, _shard: ShardId) {
        telemetry::fenced();
    }
}

impl delivery::Observer for Watch {
    fn attempt(&self, connector: &str, operation: &str, outcome: &'static str, took: Duration) {
        telemetry::effect_attempt(connector, operation, outcome, took);
    }

    fn settled(&self, connector: &str, operation: &str, class: OutcomeClass, age: Duration) {
        telemetry::effect_settled(connector, operation, class.word(), age);
    }
}

/// A source as a label: who sends through the API names itself, so that only the door is told.
fn door(source: &str) -> &str {
    source.split(':').next().unwrap_or(source)
}

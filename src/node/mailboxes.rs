//! The entities as each driver wants to speak to them: drivers do not know one another.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use syncline_actors::class::{Class, Latency};
use syncline_actors::decision::Answer;
use syncline_actors::envelope::Envelope;
use syncline_actors::id::EntityId;
use syncline_actors::letter;

use super::balance::Till;
use super::cluster::Router;
use crate::delivery::post::{Post, PostError};
use crate::host::{self, Lane, QuarantineItem, Reply};
use crate::ingress::{Aside, Taken};
use crate::{delivery, ingress, timer};

/// A way to the entities: of outcomes and timers to those of this node only, as whoever holds a shard delivers for it; of what comes
/// from outside to all.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    pub(super) router: Router,
    /// Counts what is answered to those outside.
    pub(super) till: Arc<Till>,
}

impl Mailbox {
    /// Delivers what comes from outside, and counts it once it is durable.
    async fn deliver_outside(&self, envelope: Envelope, lane: Lane) -> Result<Reply, host::Error> {
        let source = envelope.source.clone();
        let reply = self.router.deliver(envelope, lane).await?;
        self.till.count(&source, reply.duplicate);
        Ok(reply)
    }
}

#[async_trait]
impl delivery::Mailbox for Mailbox {
    async fn settle(&self, envelope: Envelope, latency: Latency) -> Result<(), delivery::MailboxError> {
        match self.router.host().deliver(envelope, Lane::back(latency)).await {
            Ok(_) => Ok(()),
            Err(host::Error::NotOwner { .. }) => Err(delivery::MailboxError::NotOwned),
            Err(error) => Err(delivery::MailboxError::Unavailable(error.to_string())),
        }
    }
}

/// Messages between entities have the same way, and the same bounds, as what comes from outside.
#[async_trait]
impl Post for Mailbox {
    async fn post(&self, envelope: Envelope) -> Result<Answer, PostError> {
        let error = match self.router.deliver(envelope, Lane::Outside).await {
            Ok(reply) => return Ok(reply.answer),
            Err(error) => error,
        };
        let why = error.to_string();
        Err(match error {
            host::Error::Busy { retry_after, .. } => PostError::Busy { why, after: retry_after },
            host::Error::Region(_) | host::Error::Unstorable(_) | host::Error::Id(_) => PostError::Never(why),
            // A process that is not there may come with the next deploy, and what is broken may be mended.
            _ => PostError::Away(why),
        })
    }
}

#[async_trait]
impl timer::Mailbox for Mailbox {
    async fn deliver(&self, envelope: Envelope) -> Result<(), Box<dyn Display + Send>> {
        match self.router.host().deliver(envelope, Lane::Inside).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Box::new(error)),
        }
    }
}

#[async_trait]
impl ingress::Mailbox for Mailbox {
    async fn deliver(&self, envelope: Envelope, class: Class) -> Result<Taken, ingress::MailboxError> {
        if envelope.id.starts_with(letter::PREFIX) {
            let why = format!("a message's id may not begin with `{}`: entities send so", letter::PREFIX);
            return Err(ingress::MailboxError::Never(why));
        }
        let entity = envelope.subject.clone();
        self.deliver_outside(envelope, outside(class))
            .await
            .map(|reply| taken(entity, reply))
            .map_err(not_taken)
    }

    async fn quarantine(&self, aside: Aside, class: Class) -> Result<Taken, ingress::MailboxError> {
        let item = QuarantineItem {
            source: aside.source,
            message_id: aside.message_id,
            class: aside.class,
            reason: aside.reason.into(),
            owner: aside.owner,
            kind: aside.kind,
            region: aside.region,
            subject: "".into(),
            meant_for: aside.meant_for,
            drift: aside.drift,
            headers: aside.headers,
            content: aside.content,
            evidence: Some(aside.evidence),
            correlation_id: "".into(),
            traceparent: aside.traceparent,
            at: aside.at,
            remember_ms: Some(aside.remember_ms),
        };
        let entity = item.entity().map_err(not_taken)?;
        self.deliver_outside(item.into_envelope().map_err(not_taken)?, outside(class))
            .await
            .map(|reply| taken(entity, reply))
            .map_err(not_taken)
    }

    async fn message(&self, entity: &EntityId, seq: u64) -> Result<Option<Envelope>, ingress::MailboxError> {
        let records = self.router.host().timeline(entity, seq, 1).await.map_err(not_taken)?;
        Ok(records.into_iter().find(|record| record.seq == seq).map(|record| record.envelope))
    }
}

/// The usual class needs no words between nodes.
fn outside(class: Class) -> Lane {
    if class == Class::default() { Lane::Outside } else { Lane::Classed(class) }
}

fn taken(entity: EntityId, reply: Reply) -> Taken {
    Taken { entity, answer: reply.answer, duplicate: reply.duplicate }
}

fn not_taken(error: host::Error) -> ingress::MailboxError {
    let retry_after = error.retry_after().unwrap_or(Duration::from_secs(1));
    match error {
        host::Error::Busy { what, .. } if error.is_of_one_entity() => {
            ingress::MailboxError::Busy { what, retry_after }
        }
        host::Error::NotOwner { .. } | host::Error::Stopping => {
            ingress::MailboxError::Elsewhere { why: error.to_string(), retry_after }
        }
        host::Error::Region(why) => ingress::MailboxError::Region(why),
        error if error.is_transient() => ingress::MailboxError::Away { why: error.to_string(), retry_after },
        error => ingress::MailboxError::Never(error.to_string()),
    }
}

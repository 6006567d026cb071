//! Messages of a source that nobody sent to us: items of a page that we asked for, rows of a file. From the schema gate on they go the way
//! of a webhook; what makes them authentic is that we fetched them, or that an operator brought them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request as HttpRequest;
use bytes::Bytes;
use futures::future::join_all;
use syncline_actors::class::Class;
use syncline_actors::expr::Made;

use super::door::Door;
use super::hooks::{Context, Delivery, Step};
use super::identify::{Identity, Message};
use super::verify::Verified;
use super::{Ingress, MailboxError};

/// Messages made durable at the same time. They share the store's flush.
const TOGETHER: usize = 64;

/// How long one message is tried again while there is no room or no store.
const PATIENCE: Duration = Duration::from_secs(20);

/// Pauses between two tries.
const PAUSE: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One message to be.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// The same whenever it comes again.
    pub(super) id: String,
    /// Which of the source's messages it is.
    pub(super) event_type: String,
    /// What it says, as JSON.
    pub(super) raw: Bytes,
    /// Whether its id is remembered as long as its entity: it may come again after any time.
    pub(super) for_ever: bool,
}

/// What became of a message, the worst last: of one that became several the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It was known.
    Duplicate,
    /// It is journaled, and took effect or will.
    Accepted,
    /// Its entity said no, or its region is not served.
    Rejected,
    /// It is not understood, and kept whole.
    Quarantined,
}

impl Fate {
    /// The word used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Quarantined => "quarantined",
        }
    }
}

/// How many messages met which fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Journaled.
    pub accepted: usize,
    /// Known.
    pub duplicate: usize,
    /// Kept aside.
    pub quarantined: usize,
    /// Refused.
    pub rejected: usize,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, fate: Fate) {
        match fate {
            Fate::Duplicate => self.duplicate += 1,
            Fate::Accepted => self.accepted += 1,
            Fate::Rejected => self.rejected += 1,
            Fate::Quarantined => self.quarantined += 1,
        }
    }
}

/// What became of pieces, in their order, with the reason where one is not accepted.
pub(super) type Fates = Vec<(Fate, Option<String>)>;

impl Ingress {
    /// Makes every piece durable, those of one entity in their order.
    ///
    /// # Errors
    /// When one could not be made durable in a while; the text says why. Those before it may be: bringing all of them again is right.
    pub(super) async fn feed(&self, door: &Door, pieces: &[Piece], class: Class) -> Result<Fates, String> {
        let mut fates = Vec::with_capacity(pieces.len());
        for some in pieces.chunks(TOGETHER) {
            fates.extend(Box::pin(self.some(door, some, class)).await?);
        }
        Ok(fates)
    }

    async fn some(&self, door: &Door, pieces: &[Piece], class: Class) -> Result<Fates, String> {
        let (parts, ()) = HttpRequest::new(()).into_parts();
        let verified = Verified { key_id: None, timestamp: None };
        let delivery =
            Delivery { ingress: self, door, parts: &parts, verified, now: self.clock.now(), class };
        let shown = (door, &parts.headers);
        let context = Context {
            headers: Made::new(&shown, |(door, headers)| door.headers(headers)),
            traceparent: None,
            content_type: Some("application/json".into()),
        };
        let mut queues: BTreeMap<String, Vec<(usize, Arc<str>, Step)>> = BTreeMap::new();
        for (place, piece) in pieces.iter().enumerate() {
            let identity = Identity {
                id: piece.id.clone(),
                event_type: Some(piece.event_type.clone()),
                dedupe: piece.id.clone(),
            };
            let message = Message { raw: &piece.raw, identity: Ok(identity) };
            for (event_type, mut step) in delivery.step(&message, None, &context) {
                let queue = match &mut step {
                    Step::Deliver(envelope) => {
                        envelope.remember_ms = envelope.remember_ms.filter(|_| !piece.for_ever);
                        envelope.subject.to_string()
                    }
                    Step::Keep(_) => format!("{place}"),
                };
                queues.entry(queue).or_default().push((place, event_type, step));
            }
        }
        let told = join_all(queues.into_values().map(|queue| delivery.queue(queue))).await;
        let mut fates: Fates = vec![(Fate::Duplicate, None); pieces.len()];
        for told in told {
            for (place, fate, why) in told? {
                if fate >= fates[place].0 {
                    fates[place] = (fate, why);
                }
            }
        }
        Ok(fates)
    }
}

impl Delivery<'_> {
    /// Makes what is for one entity durable, one after the other.
    async fn queue(
        &self,
        steps: Vec<(usize, Arc<str>, Step)>,
    ) -> Result<Vec<(usize, Fate, Option<String>)>, String> {
        let mut told = Vec::with_capacity(steps.len());
        for (place, event_type, step) in steps {
            let (fate, why) = self.patiently(event_type, step).await?;
            told.push((place, fate, why));
        }
        Ok(told)
    }

    async fn patiently(&self, event_type: Arc<str>, step: Step) -> Result<(Fate, Option<String>), String> {
        let (mut pause, mut waited) = (PAUSE, Duration::ZERO);
        loop {
            match self.one(event_type.clone(), step.clone()).await {
                Ok(fate) => return Ok(fate),
                Err(MailboxError::Region(why) | MailboxError::Never(why)) => {
                    return Ok((Fate::Rejected, Some(why)));
                }
                Err(error) if waited >= PATIENCE => return Err(error.to_string()),
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    waited += pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

//! Sends the webhooks as stubbornly as a real sender: the same id until it is acknowledged, whatever happens to the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::watch;

use super::stage::{SECRETS, Stage};
use super::story::{Case, Says, Step};
use super::{Error, Progress, Tell};
use crate::api::{Intervention, Who};
use crate::clock::{Clock as _, SystemClock};
use crate::sandbox::Emitter;

/// Pause before the second attempt; doubled up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Attempts before a sender gives up.
const ATTEMPTS_MAX: u32 = 120;

/// Authentic messages that break their schema; as many come from strangers.
pub(super) const NOISE: u64 = 5;

/// The senders.
pub(super) struct Driver {
    pub(super) stage: Arc<Stage>,
    emitter: Emitter,
    stranger: Emitter,
    all: u64,
    acknowledged: watch::Sender<u64>,
    refused: AtomicU64,
    tell: Tell,
}

impl Driver {
    pub(super) fn new(stage: Arc<Stage>, all: u64, tell: Tell) -> Result<Self, Error> {
        let to = format!("http://{}", stage.node_address());
        let emitter = |secret: fn(&str) -> String| {
            let secrets: BTreeMap<String, SecretString> =
                SECRETS.iter().map(|(source, _, own)| ((*source).to_owned(), secret(own).into())).collect();
            Emitter::new(&to, &secrets, Arc::new(SystemClock))
        };
        Ok(Self {
            emitter: emitter(str::to_owned)?,
            stranger: emitter(|_| "whsec_bm90LXRoZS1zZWNyZXQtb2YtYW55Ym9keQ==".to_owned())?,
            stage,
            all,
            acknowledged: watch::Sender::new(0),
            refused: AtomicU64::new(0),
            tell,
        })
    }

    /// Waits until so many webhooks are acknowledged.
    pub(super) async fn acknowledged(&self, count: u64) {
        let _ = self.acknowledged.subscribe().wait_for(|seen| *seen >= count).await;
    }

    /// Requests that were refused because nobody we know had signed them.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Sends one webhook of an order with its repetitions; the id of each acknowledgement.
    pub(super) async fn deliver(&self, case: &Case, step: &Step) -> Vec<String> {
        let id = case.opportunity.message_id(step.says.word());
        let mut acks = if step.twice {
            let (one, two) = tokio::join!(self.send(case, step.says, &id), self.send(case, step.says, &id));
            vec![one, two]
        } else {
            vec![self.send(case, step.says, &id).await]
        };
        if step.again {
            acks.push(self.send(case, step.says, &format!("{id}_again")).await);
        }
        acks.into_iter().flatten().collect()
    }

    async fn send(&self, case: &Case, says: Says, id: &str) -> Option<String> {
        let now = SystemClock.now();
        let body = match says {
            Says::Confirmed => case.opportunity.confirmed(now),
            Says::Amended => case.opportunity.amended(now),
            Says::Cancelled => case.opportunity.cancelled("the customer changed their mind", now),
        };
        self.post(Bytes::from(body.to_string()), id).await
    }

    /// Until it is acknowledged.
    async fn post(&self, body: Bytes, id: &str) -> Option<String> {
        let mut pause = PAUSE;
        for _ in 0..ATTEMPTS_MAX {
            if let Ok(200..300) = self.emitter.send_bytes("crm", body.clone(), id).await {
                self.acknowledged.send_modify(|seen| *seen += 1);
                (self.tell)(Progress::Acknowledged(*self.acknowledged.borrow(), self.all));
                return Some(id.to_owned());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        None
    }

    /// What else arrives at an open address: requests of strangers, and messages that break their schema. The ids of those that
    /// are acknowledged, since they are authentic.
    pub(super) async fn noise(&self, seed: u64) -> Vec<String> {
        let mut acks = Vec::new();
        for number in 0..NOISE {
            let body = json!({"type": "opportunity.confirmed", "data": {"Id": number}}).to_string();
            let forged =
                self.stranger.send_bytes("crm", Bytes::from(body.clone()), &format!("forged_{number}")).await;
            if matches!(forged, Ok(401)) {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            acks.extend(self.post(Bytes::from(body), &format!("msg_broken_{seed}_{number}")).await);
        }
        acks
    }

    /// A person looks at the hold of an order and tries again.
    pub(super) async fn release(&self, case: &Case) {
        self.stage.wait_for(&case.entity, |state| state == "backorder").await;
        let Some(operate) = self.stage.operate().await else { return };
        let open = operate.entity(&case.entity).await.map(|entity| entity.exceptions).unwrap_or_default();
        for exception in open {
            let reason = "the warehouse has received goods".to_owned();
            let ask = Intervention { id: exception.id, reason, set: None, result: None };
            if let Err(refusal) = operate.retry(&Who("demo".to_owned()), ask).await {
                tracing::warn!(entity = %case.entity, %refusal, "the hold could not be tried again");
            }
        }
    }
}

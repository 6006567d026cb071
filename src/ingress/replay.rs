//! What was kept in quarantine, once more through schema gate and mapping: after the configuration was mended, or by a person
//! who knows better. The request was authentic when it came; that is not asked again.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use syncline_actors::class::Class;
use syncline_actors::envelope::{Envelope, Evidence};
use syncline_actors::value::Value;

use super::door::Door;
use super::gate::{Received, understand};
use super::{Ingress, MailboxError, Taken};

/// What was kept.
#[derive(Debug)]
pub struct Kept<'k> {
    /// Who sent it.
    pub source: &'k str,
    /// Its headers, as they were kept.
    pub headers: &'k Value,
    /// The bytes it came in.
    pub evidence: &'k Evidence,
    /// Put after the ids, where the entity has answered the first ids already; empty otherwise.
    pub again: &'k str,
}

/// Why it is still not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It is still not understood.
    #[error("{0}")]
    NotUnderstood(String),
    /// Its entity does not take it now.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
}

impl Ingress {
    /// Delivers what was kept, if it is understood now; all of it or, where something is still not understood, nothing.
    pub async fn replay(&self, kept: &Kept<'_>) -> Result<Vec<Taken>, ReplayError> {
        let not = |problem: String| ReplayError::NotUnderstood(problem);
        let door = self
            .doors
            .get(kept.source)
            .ok_or_else(|| not(format!("there is no source `{}` any more", kept.source)))?;
        let headers = headers(kept.headers);
        let messages = door
            .identifier
            .messages(&headers, &kept.evidence.body.0)
            .map_err(|unidentified| not(unidentified.to_string()))?;
        let mut envelopes = Vec::new();
        for message in &messages {
            let identity = message.identity.as_ref();
            // What has no id of its own is known by its bytes, as it was when it was kept.
            let hash = hex::encode(Sha256::digest(message.raw));
            let (id, dedupe) = identity.map_or((&hash, &hash), |identity| (&identity.id, &identity.dedupe));
            let event_type = identity.ok().and_then(|identity| identity.event_type.as_deref());
            let dedupe = format!("{dedupe}{}", kept.again);
            envelopes
                .extend(self.understood(door, kept, (id, &dedupe), event_type, message.raw).map_err(not)?);
        }
        let mut taken = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            taken.push(self.mailbox.deliver(envelope, Class::default()).await?);
        }
        Ok(taken)
    }

    fn understood(
        &self,
        door: &Door,
        kept: &Kept<'_>,
        (id, dedupe): (&str, &str),
        event_type: Option<&str>,
        raw: &[u8],
    ) -> Result<Vec<Envelope>, String> {
        let body = Value::from_json(raw, self.limits.body_max).map_err(|error| error.to_string())?;
        let received = Received {
            id,
            dedupe,
            event_type: event_type.unwrap_or(super::hooks::UNTYPED),
            body: &body,
            headers: kept.headers,
            at: self.clock.now(),
            traceparent: None,
            evidence: kept.evidence.clone(),
        };
        understand(&door.source, &self.schemas, &received).map_err(|error| error.to_string())
    }
}

fn headers(kept: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in kept.as_map().into_iter().flatten() {
        let values = value.as_list().unwrap_or_else(|| std::slice::from_ref(value));
        for text in values.iter().filter_map(Value::as_text) {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(text)) {
                headers.append(name, value);
            }
        }
    }
    headers
}

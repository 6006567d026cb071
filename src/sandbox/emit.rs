//! Webhooks out: bodies signed as Standard Webhooks 1.0.0 says, posted to a node's `/hooks/{source}`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::CONTENT_TYPE;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use crate::clock::SharedClock;

/// Time for one attempt. Past it nobody knows whether it arrived.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of an answer that are read, to use its connection again.
const ANSWER_MAX: usize = 64 * 1024;

/// Why a webhook cannot be sent, or what became of it is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target is nothing that can be called. Write `http://127.0.0.1:7171`.
    #[error("`{0}` is no target for webhooks: write a plain HTTP address such as http://127.0.0.1:7171")]
    Target(String),
    /// The secret of a source is not of the form `whsec_` and base64. Nothing was sent; the secret is not shown.
    #[error("the secret of {0} is not `whsec_` followed by base64: look where it comes from")]
    Secret(String),
    /// There is no secret for this source. Nothing was sent.
    #[error("there is no secret for source {0}: give one when the emitter is made")]
    UnknownSource(String),
    /// The id does not fit into a header. Nothing was sent.
    #[error("`{0}` is no message id: use letters, digits, `-` and `_`")]
    MessageId(String),
    /// No answer came. It may have been received; send it again under the same id.
    #[error("no answer to the webhook: {0}")]
    NoAnswer(String),
}

/// Sends signed webhooks to one node.
pub struct Emitter {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    keys: BTreeMap<String, Vec<u8>>,
    clock: SharedClock,
}

/// Without keys.
impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Emitter {
    /// `base` is the node's address, e.g. `http://127.0.0.1:7171`; `secrets` are by source, each `whsec_` and base64.
    ///
    /// # Errors
    /// The address or a secret cannot be used.
    pub fn new(
        base: &str,
        secrets: &BTreeMap<String, SecretString>,
        clock: SharedClock,
    ) -> Result<Self, Error> {
        let base = base.trim_end_matches('/');
        let uri: Option<Uri> = base.parse().ok();
        if uri.is_none_or(|uri| uri.scheme_str() != Some("http") || uri.host().is_none()) {
            return Err(Error::Target(base.to_owned()));
        }
        let mut keys = BTreeMap::new();
        for (source, secret) in secrets {
            let key = key(secret).ok_or_else(|| Error::Secret(source.clone()))?;
            keys.insert(source.clone(), key);
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, base: base.to_owned(), keys, clock })
    }

    /// Signs `body` now and posts it once. The answer's status.
    ///
    /// # Errors
    /// There is no secret for the source, or no answer came: send it again under the same id.
    pub async fn send(&self, source: &str, body: &serde_json::Value, message_id: &str) -> Result<u16, Error> {
        self.send_bytes(source, Bytes::from(body.to_string()), message_id).await
    }

    /// As [`Emitter::send`], with the body as it is to go out.
    ///
    /// # Errors
    /// As there.
    pub async fn send_bytes(&self, source: &str, body: Bytes, message_id: &str) -> Result<u16, Error> {
        let key = self.keys.get(source).ok_or_else(|| Error::UnknownSource(source.to_owned()))?;
        let seconds = self.clock.now().0.div_euclid(1000);
        let request = Request::post(format!("{}/hooks/{source}", self.base))
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message_id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", signature(key, message_id, seconds, &body))
            .body(Full::new(body))
            .map_err(|_odd| Error::MessageId(message_id.to_owned()))?;
        let call = async {
            let answer = self.client.request(request).await.map_err(|error| said(&error))?;
            let status = answer.status().as_u16();
            // Read to its end so that the connection can be used again; what stands in it does not matter.
            let _ = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            Ok(status)
        };
        tokio::time::timeout(TIMEOUT, call)
            .await
            .unwrap_or_else(|_over| Err(Error::NoAnswer("timed out".to_owned())))
    }
}

fn said(error: &hyper_util::client::legacy::Error) -> Error {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    Error::NoAnswer(cause.unwrap_or_else(|| error.to_string()))
}

fn key(secret: &SecretString) -> Option<Vec<u8>> {
    STANDARD.decode(secret.expose_secret().strip_prefix("whsec_")?).ok().filter(|key| !key.is_empty())
}

/// The signature over id, time and body, as it stands in `webhook-signature`.
fn signature(key: &[u8], message_id: &str, seconds: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{message_id}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_signed_as_the_standard_says() {
        // The example of the Standard Webhooks specification's reference implementations.
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let made = signature(&key(&secret).unwrap(), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}

//! What is known of a kind of sender, as it stands in `config/sources/presets/<name>.yaml`.

use std::time::Duration;

use serde::Deserialize;

use super::identify::{Identifier, Identify};
use super::verify::{Verify, duration};

/// A kind of sender. A source names one and overrides what differs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Its name: that of its file.
    pub preset: String,
    /// Its name for people.
    pub title: String,
    /// Where the sender documents it.
    pub docs: String,
    /// How its requests are authenticated.
    pub verify: Verify,
    /// Which message a request carries.
    pub identify: Identify,
    /// What it is answered once the message is stored.
    #[serde(default)]
    pub ack: Ack,
    /// What it asks before it sends.
    #[serde(default)]
    pub handshake: Handshake,
    /// How long it keeps resending what was not acknowledged.
    #[serde(deserialize_with = "duration")]
    pub retry_span: Duration,
    /// How long message ids are remembered. Never shorter than `retry_span`.
    #[serde(deserialize_with = "duration")]
    pub retention: Duration,
}

/// The answer to a message that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// The status, 200 to 299.
    pub status: u16,
    /// The body, if the sender wants one.
    #[serde(default)]
    pub body: Option<String>,
}

impl Default for Ack {
    fn default() -> Self {
        Self { status: 200, body: None }
    }
}

/// What a sender asks of an address before it sends there, or wants as an answer in a form of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handshake {
    /// Nothing.
    #[default]
    None,
    /// Slack: a signed message of type `url_verification` whose `challenge` is sent back.
    SlackUrlVerification,
    /// CloudEvents webhooks: `OPTIONS` with `WebHook-Request-Origin`.
    CloudeventsOptions,
    /// Salesforce outbound messages: an `Ack` in a SOAP envelope.
    SalesforceSoapAck,
}

impl Preset {
    /// Every mistake but those of `verify`, which [`super::verify::Verifier::compile`] tells when it has the secrets.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Identifier::compile(&self.identify).err().unwrap_or_default();
        if !(200..300).contains(&self.ack.status) {
            mistakes.push(format!(
                "`ack.status`: {} is no success: the sender would send again; use 200 to 299",
                self.ack.status
            ));
        }
        if self.retention < self.retry_span {
            mistakes.push(format!(
                "`retention`: {} is shorter than `retry_span`, {}: a late retry would be taken for a new message",
                humantime::format_duration(self.retention),
                humantime::format_duration(self.retry_span)
            ));
        }
        mistakes
    }
}

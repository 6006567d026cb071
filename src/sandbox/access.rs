//! Who may call: the credentials of the simulated systems, and the tokens they issue.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::json;
use syncline_actors::time::Timestamp;

use super::call::{Call, Reply};

/// The user or client that every simulated system knows.
pub const USER: &str = "syncline-sandbox";

/// Its password, client secret, API key or token.
pub const SECRET: &str = "sandbox-secret";

/// How long after an expiry no other token of the system expires by a fault: whoever was refused fetches a new one, and that one
/// works. Two refusals in a row mean wrong credentials to any caller.
const GRACE: Duration = Duration::from_secs(2);

/// How long a token lasts.
const LIFE: Duration = Duration::from_mins(30);

/// Whether the call shows user and secret (RFC 7617).
pub(super) fn is_basic(call: &Call) -> bool {
    call.header("authorization")
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|text| STANDARD.decode(text).ok())
        .is_some_and(|found| found == format!("{USER}:{SECRET}").into_bytes())
}

/// Whether the call shows the secret as a bearer token.
pub(super) fn is_bearer(call: &Call) -> bool {
    call.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) == Some(SECRET)
}

/// The tokens that one system has issued (RFC 6749, 4.4).
#[derive(Debug)]
pub(super) struct Tokens {
    system: &'static str,
    issued: u64,
    live: BTreeMap<String, Timestamp>,
    /// When one last expired by a fault.
    expired: Option<Timestamp>,
}

impl Tokens {
    pub(super) fn new(system: &'static str) -> Self {
        Self { system, issued: 0, live: BTreeMap::new(), expired: None }
    }

    /// Answers a token request.
    pub(super) fn issue(&mut self, call: &Call) -> Reply {
        let text = String::from_utf8_lossy(&call.raw).replace('+', " ");
        let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let form: BTreeMap<String, String> = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        let is = |name: &str, value: &str| form.get(name).is_some_and(|found| found == value);
        if !is("grant_type", "client_credentials") {
            return Reply::json(400, json!({"error": "unsupported_grant_type"}));
        }
        let known = is_basic(call) || (is("client_id", USER) && is("client_secret", SECRET));
        if !known {
            return Reply::json(401, json!({"error": "invalid_client"}));
        }
        self.issued += 1;
        self.live.retain(|_, end| *end > call.at);
        let token = format!("{}-token-{}", self.system, self.issued);
        self.live.insert(token.clone(), call.at.plus(LIFE));
        Reply::json(200, json!({"access_token": token, "token_type": "Bearer", "expires_in": LIFE.as_secs()}))
    }

    /// Whether the call shows a token that lasts.
    pub(super) fn allow(&self, call: &Call) -> bool {
        shown(call).and_then(|token| self.live.get(token)).is_some_and(|end| *end > call.at)
    }

    /// Ends the token that the call shows, unless one has just ended.
    pub(super) fn expire(&mut self, call: &Call) {
        if self.expired.is_none_or(|at| call.at.since(at) >= GRACE)
            && let Some(token) = shown(call)
            && self.live.remove(token).is_some()
        {
            self.expired = Some(call.at);
        }
    }
}

fn shown(call: &Call) -> Option<&str> {
    call.header("authorization")?.strip_prefix("Bearer ")
}

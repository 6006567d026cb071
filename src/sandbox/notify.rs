//! The simulated notification service, shaped like Slack: HTTP 200 with `{"ok":false}` for what it refuses.
//!
//! An address at `bounce.example` and the channel `#nowhere` do not exist. It takes an `Idempotency-Key`, which Slack does not.

use std::collections::BTreeSet;

use http::Method;
use serde_json::json;

use super::access::is_bearer;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug, Default)]
pub(super) struct Notify {
    sent: u64,
    /// Address and subject of what customers were sent.
    to_customers: BTreeSet<(String, String)>,
}

impl Notify {
    fn send(&mut self, call: &Call) -> Done {
        let text = |path: &str| call.text(path).unwrap_or_default();
        let (to, subject, body) = (text("channel"), text("subject"), text("text"));
        let refused = match &*to {
            "" | "#nowhere" => Some("channel_not_found"),
            to if to.ends_with("@bounce.example") => Some("channel_not_found"),
            _ if body.is_empty() => Some("no_text"),
            _ if body.len() > 40_000 => Some("msg_too_long"),
            _ => None,
        };
        if let Some(error) = refused {
            return Done::only(Reply::json(200, json!({"ok": false, "error": error})));
        }
        self.sent += 1;
        let reply = Reply::json(
            200,
            json!({"ok": true, "channel": to, "ts": format!("{}.{:06}", call.at.0 / 1000, self.sent)}),
        );
        let customer = to.contains('@');
        let second = customer && !self.to_customers.insert((to.clone(), subject.clone()));
        Done::applied(reply, if subject.is_empty() { to.clone() } else { subject.clone() })
            .violating(second.then(|| format!("`{subject}` was sent to {to} twice")))
    }
}

impl System for Notify {
    fn operation(&self, call: &Call) -> Option<Operation> {
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["api", "chat.postMessage"]) => {
                Some(Operation { name: "send", kind: Kind::Keyed })
            }
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if is_bearer(call) { Ok(()) } else { Err(self.refuse(200, "invalid_auth")) }
    }

    fn perform(&mut self, _operation: &'static str, call: &Call) -> Done {
        self.send(call)
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let error = match status {
            200 => why,
            429 => "ratelimited",
            404 => "unknown_method",
            422 => "duplicate_key",
            _ => "internal_error",
        };
        Reply::json(status, json!({"ok": false, "error": error}))
    }

    fn held(&self) -> Held {
        Held::new()
    }
}

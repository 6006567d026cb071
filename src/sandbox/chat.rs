//! The simulated chat, shaped like Slack: HTTP 200 with `{"ok":false}` for what it refuses, 429 with `Retry-After` when told to.
//!
//! It knows no key: what is posted again stands there twice. Whoever has lost an answer looks into the channel's history for the
//! message's metadata. `#nowhere` does not exist, `#archived` is, and of `#private` we are no member.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::is_bearer;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

/// Longest text.
const TEXT_MAX: usize = 40_000;

/// Messages of one answer, at most.
const PAGE_MAX: usize = 999;

/// A message as it stands in its channel.
#[derive(Debug)]
struct Message {
    ts: String,
    text: String,
    /// From its metadata.
    id: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Chat {
    posted: u64,
    /// Oldest first.
    channels: BTreeMap<String, Vec<Message>>,
}

fn no(error: &str) -> Reply {
    Reply::json(200, json!({"ok": false, "error": error}))
}

impl Chat {
    fn post(&mut self, call: &Call) -> Done {
        let text = |path: &str| call.text(path).unwrap_or_default();
        let (channel, said) = (text("channel"), text("text"));
        let refused = match &*channel {
            "" | "#nowhere" => Some("channel_not_found"),
            "#archived" => Some("is_archived"),
            "#private" => Some("not_in_channel"),
            _ if said.is_empty() => Some("no_text"),
            _ if said.len() > TEXT_MAX => Some("msg_too_long"),
            _ => None,
        };
        if let Some(error) = refused {
            return Done::only(no(error));
        }
        self.posted += 1;
        let ts = format!("{}.{:06}", call.at.0 / 1000, self.posted);
        let id = call.text("metadata.event_payload.id");
        let there = self.channels.entry(channel.clone()).or_default();
        let second = id.is_some() && there.iter().any(|message| message.id == id);
        there.push(Message { ts: ts.clone(), text: said.clone(), id });
        let about = call.text("metadata.event_payload.about").unwrap_or_else(|| channel.clone());
        Done::applied(Reply::json(200, json!({"ok": true, "channel": channel, "ts": ts})), about)
            .violating(second.then(|| format!("`{said}` stands in {channel} twice")))
    }

    /// Newest first; metadata only for who asks for them.
    fn history(&self, call: &Call) -> Reply {
        let Some(channel) = call.query.get("channel") else { return no("channel_not_found") };
        let limit = call.query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(100);
        let all = call.query.get("include_all_metadata").is_some_and(|text| text == "true");
        let shown = self.channels.get(channel).into_iter().flatten().rev().take(PAGE_MAX.min(limit));
        let messages: Vec<_> = shown
            .map(|message| {
                let mut shown = json!({"type": "message", "ts": message.ts, "text": message.text});
                if all && let Some(id) = &message.id {
                    shown["metadata"] = json!({"event_type": "syncline", "event_payload": {"id": id}});
                }
                shown
            })
            .collect();
        Reply::json(200, json!({"ok": true, "messages": messages, "has_more": false}))
    }
}

impl System for Chat {
    fn operation(&self, call: &Call) -> Option<Operation> {
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["api", "chat.postMessage"]) => {
                Some(Operation { name: "post", kind: Kind::Blind })
            }
            (&Method::GET, ["api", "conversations.history"]) => {
                Some(Operation { name: "history", kind: Kind::Read })
            }
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if is_bearer(call) { Ok(()) } else { Err(no("invalid_auth")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        match operation {
            "post" => self.post(call),
            _ => Done::only(self.history(call)),
        }
    }

    fn held(&self) -> Held {
        let texts = |messages: &Vec<Message>| {
            Value::list(messages.iter().map(|message| Value::from(message.text.as_str())))
        };
        let shown = |(channel, messages): (&String, &Vec<Message>)| (channel.clone(), texts(messages));
        let mut said: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (channel, messages) in &self.channels {
            for message in messages {
                said.entry(message.text.clone()).or_default().push(channel);
            }
        }
        let where_said = |(text, channels): (String, Vec<&str>)| {
            (text, Value::map([("channels", Value::list(channels.into_iter().map(Value::from)))]))
        };
        Held::from([
            ("channel", self.channels.iter().map(shown).collect()),
            ("said", said.into_iter().map(where_said).collect()),
        ])
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let error = match status {
            200 => why,
            429 => "ratelimited",
            404 => "unknown_method",
            422 => "invalid_arguments",
            503 => "service_unavailable",
            _ => "internal_error",
        };
        Reply::json(status, json!({"ok": false, "error": error}))
    }
}

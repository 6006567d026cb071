//! A call as a simulated system sees it, and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

/// Headers that carry a key by which a repeated request is told from a new one. The last is no vendor's: connectors send it where
/// the vendor has none, so that the ledger can tell.
const KEY_HEADERS: [&str; 3] = ["idempotency-key", "x-netsuite-idempotency-key", "x-request-id"];

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The path below the system, in decoded parts.
    pub(super) path: Vec<String>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: HeaderMap,
    /// The body; null when there is none, or it is not JSON.
    pub(super) body: Value,
    /// The body as it came.
    pub(super) raw: Vec<u8>,
    pub(super) at: Timestamp,
}

impl Call {
    /// `path` and `query` as they stand in the request.
    pub(super) fn new(
        method: Method,
        path: &str,
        query: &str,
        headers: HeaderMap,
        raw: Vec<u8>,
        at: Timestamp,
    ) -> Self {
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let path = path.split('/').filter(|part| !part.is_empty());
        let path = path.map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.map(|(name, value)| (decode(name), decode(value))).collect();
        let body = Value::from_json(&raw, raw.len()).unwrap_or_default();
        Self { method, path, query, headers, body, raw, at }
    }

    /// The path's parts, to match on.
    pub(super) fn parts(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// The key that tells a repetition.
    pub(super) fn key(&self) -> Option<String> {
        KEY_HEADERS.iter().find_map(|name| self.header(name)).map(str::to_owned)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Text at a dotted path of the body; a number counts as text. `None` when it is missing or empty.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let found = self.body.path(path).filter(|value| !value.is_null())?;
        Some(found.to_plain_text()).filter(|text| !text.is_empty())
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    /// JSON, or empty.
    pub(super) body: String,
}

impl Reply {
    /// Without a body.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// With JSON.
    #[expect(clippy::needless_pass_by_value, reason = "called with `json!(..)`")]
    pub(super) fn json(status: u16, body: serde_json::Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string() }
    }

    /// With JSON whose numbers are exact.
    #[expect(clippy::needless_pass_by_value, reason = "called with a value made on the spot")]
    pub(super) fn exact(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_json() }
    }

    /// With one header more.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What a simulated system can be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operation {
    /// Its name, as connectors call it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a repeated request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: it only asks.
    Read,
    /// The same again: it says how something is to be.
    Natural,
    /// The first answer comes again, by its key; without a key it is applied again.
    Keyed,
    /// It is applied again, whatever its key: the system knows none.
    Blind,
    /// Issues a token.
    Token,
}

/// What became of a call.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) reply: Reply,
    pub(super) change: Option<Change>,
}

/// A change that was applied.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// What it is about.
    pub(super) reference: String,
    /// Whether anything is other than before.
    pub(super) altered: bool,
    /// What must not happen and did.
    pub(super) violation: Option<String>,
    /// The system wants to be asked by `due` after its usual delay, with this reference.
    pub(super) later: Option<String>,
}

impl Done {
    /// Nothing changed.
    pub(super) fn only(reply: Reply) -> Self {
        Self { reply, change: None }
    }

    /// Something was applied.
    pub(super) fn applied(reply: Reply, reference: impl Into<String>) -> Self {
        let change = Change { reference: reference.into(), altered: true, ..Change::default() };
        Self { reply, change: Some(change) }
    }

    /// Whether anything is other than before.
    #[must_use]
    pub(super) fn altered(mut self, altered: bool) -> Self {
        if let Some(change) = &mut self.change {
            change.altered = altered;
        }
        self
    }

    /// With something that must not happen.
    #[must_use]
    pub(super) fn violating(mut self, what: Option<String>) -> Self {
        if let Some(change) = &mut self.change {
            change.violation = what;
        }
        self
    }
}

/// How a system remembers the keys of changes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// How long; `None`: for ever.
    pub(super) kept: Option<Duration>,
    /// Whether a refusal is remembered as well, and comes again.
    pub(super) refusals: bool,
    /// Whether a key whose request is under way is answered with 409.
    pub(super) busy: bool,
}

/// What a system holds: fields by kind of record and external id.
pub(super) type Held = BTreeMap<&'static str, BTreeMap<String, Value>>;

/// A simulated system: its state, and how it talks.
pub(super) trait System: std::fmt::Debug + Send {
    /// Which operation a call is. `None`: there is no such thing.
    fn operation(&self, call: &Call) -> Option<Operation>;
    /// Who may call; the error is the refusal.
    fn authorize(&mut self, call: &Call) -> Result<(), Reply>;
    /// Does it.
    fn perform(&mut self, operation: &'static str, call: &Call) -> Done;
    /// An error in the system's own words.
    fn refuse(&self, status: u16, why: &str) -> Reply;
    /// How it remembers keys.
    fn memory(&self) -> Memory {
        Memory::default()
    }
    /// What it holds, to be compared with what it should.
    fn held(&self) -> Held;
    /// Withdraws the token that the call came with.
    fn expire(&mut self, _call: &Call) {}
    /// Does what was put off; the body of the webhook that tells about it, if there is anything to tell.
    fn due(&mut self, _reference: &str, _at: Timestamp) -> Option<serde_json::Value> {
        None
    }
}

//! What the simulated systems have applied, and how often they were asked to: the evidence that tests and the demo read.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use syncline_actors::time::Timestamp;

use super::call::Reply;

/// A business change that a system has applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number, from 1, in the order of application.
    pub number: u64,
    /// Which system.
    pub system: String,
    /// Which operation, as connectors name it.
    pub operation: String,
    /// The key that the request carried; `None` when it had none, and nothing can tell a repetition.
    pub key: Option<String>,
    /// What it is about, in the business's words: an order number, an account.
    pub reference: String,
    /// When it was applied, RFC 3339.
    pub at: String,
    /// Requests that carried this key, the first included.
    pub requests: u64,
    /// SHA-256 of the request's body, hexadecimal.
    pub payload: String,
}

/// Something that must not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which system.
    pub system: String,
    /// Which operation.
    pub operation: String,
    /// The key of the request that did it.
    pub key: Option<String>,
    /// What it is about.
    pub reference: String,
    /// What went wrong, e.g. a second sales order for one order number.
    pub what: String,
}

/// A webhook that a system sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Webhook {
    /// Which system.
    pub system: String,
    /// Its type, e.g. `shipment.confirmed`.
    pub kind: String,
    /// What it is about, in the system's words.
    pub reference: String,
    /// Its id: the same at every attempt.
    pub message_id: String,
    /// Times that it was sent.
    pub attempts: u64,
    /// Times that it was accepted: more than one for a duplicate.
    pub accepted: u64,
}

/// Everything applied, and everything wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Changes, in order of application.
    pub entries: Vec<Entry>,
    /// What must not happen and did.
    pub violations: Vec<Violation>,
    /// Requests by system and operation (`erp.create_sales_order`), reads and refused ones included.
    pub requests: BTreeMap<String, u64>,
    /// Webhooks, in the order in which they began.
    pub webhooks: Vec<Webhook>,
}

/// Counts of one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Changes applied.
    pub applied: u64,
    /// Requests under a key that had been applied already.
    pub duplicates: u64,
    /// All requests, reads and refused ones included.
    pub requests: u64,
}

/// The ledger in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All operations together.
    pub total: Count,
    /// By system and operation, e.g. `erp.create_sales_order`.
    pub operations: BTreeMap<String, Count>,
    /// What must not happen and did; anything but 0 is a mistake of the caller.
    pub violations: u64,
    /// Webhooks that systems have to tell.
    pub webhooks: u64,
    /// Those that were accepted.
    pub webhooks_accepted: u64,
    /// Attempts to tell them.
    pub webhook_attempts: u64,
}

impl Snapshot {
    /// The changes of one operation of one system.
    pub fn of<'s>(&'s self, system: &'s str, operation: &'s str) -> impl Iterator<Item = &'s Entry> + 's {
        self.entries.iter().filter(move |entry| entry.system == system && entry.operation == operation)
    }

    /// Adds it up.
    pub fn summary(&self) -> Summary {
        let mut operations: BTreeMap<String, Count> = BTreeMap::new();
        for entry in &self.entries {
            let count = operations.entry(format!("{}.{}", entry.system, entry.operation)).or_default();
            count.applied += 1;
            count.duplicates += entry.requests - 1;
        }
        for (name, requests) in &self.requests {
            operations.entry(name.clone()).or_default().requests = *requests;
        }
        let total = operations.values().fold(Count::default(), |sum, count| Count {
            applied: sum.applied + count.applied,
            duplicates: sum.duplicates + count.duplicates,
            requests: sum.requests + count.requests,
        });
        Summary {
            total,
            operations,
            violations: count(self.violations.len()),
            webhooks: count(self.webhooks.len()),
            webhooks_accepted: count(self.webhooks.iter().filter(|sent| sent.accepted > 0).count()),
            webhook_attempts: self.webhooks.iter().map(|sent| sent.attempts).sum(),
        }
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A request, as far as the ledger cares.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) system: &'static str,
    pub(super) operation: &'static str,
    pub(super) key: Option<String>,
    pub(super) payload: String,
    pub(super) at: Timestamp,
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What is known of a key.
#[derive(Debug)]
struct Known {
    /// The change; `None` for a refusal, which is known by the request's body.
    entry: Option<usize>,
    payload: String,
    answer: Reply,
    at: Timestamp,
}

/// The ledger. It grows with what is applied and ends with [`reset`](super::Sandbox::reset).
#[derive(Debug, Default)]
pub(super) struct Ledger {
    seen: Snapshot,
    keys: BTreeMap<(&'static str, &'static str, String), Known>,
    /// Places of webhooks, by message id.
    webhooks: BTreeMap<String, usize>,
}

/// What a system is to do with a request under a key it may know.
#[derive(Debug)]
pub(super) enum Before {
    /// Nothing is known: go on.
    New,
    /// It was applied; this was the answer.
    Applied(Reply),
    /// It was refused; this was the answer.
    Refused(Reply),
    /// Another request was applied under this key.
    Reused,
}

impl Ledger {
    pub(super) fn snapshot(&self) -> Snapshot {
        self.seen.clone()
    }

    pub(super) fn summary(&self) -> Summary {
        self.seen.summary()
    }

    /// Counts a request, whatever becomes of it.
    pub(super) fn count(&mut self, system: &str, operation: &str) {
        *self.seen.requests.entry(format!("{system}.{operation}")).or_default() += 1;
    }

    /// What was applied, or refused, under the request's key, if that is remembered for so long. Counts a repetition.
    pub(super) fn before(&mut self, asked: &Asked, kept: Option<Duration>) -> Before {
        let remembered = |known: &&Known| kept.is_none_or(|kept| asked.at.since(known.at) < kept);
        let place = asked.key.clone().map(|key| (asked.system, asked.operation, key));
        let Some(known) = place.and_then(|place| self.keys.get(&place)).filter(remembered) else {
            return Before::New;
        };
        let mut entry = known.entry.and_then(|entry| self.seen.entries.get_mut(entry));
        if let Some(entry) = &mut entry {
            entry.requests += 1;
        }
        if known.payload == asked.payload {
            let answer = known.answer.clone();
            return if entry.is_some() { Before::Applied(answer) } else { Before::Refused(answer) };
        }
        let reference = entry.map(|entry| entry.reference.clone()).unwrap_or_default();
        self.violate(asked, reference, "another request under a key that was used".to_owned());
        Before::Reused
    }

    /// Notes a change that was applied, and its answer.
    pub(super) fn apply(&mut self, asked: Asked, reference: String, answer: Reply) {
        let entry = self.seen.entries.len();
        if let Some(key) = asked.key.clone() {
            let known = Known { entry: Some(entry), payload: asked.payload.clone(), answer, at: asked.at };
            self.keys.insert((asked.system, asked.operation, key), known);
        }
        self.seen.entries.push(Entry {
            number: count(entry).saturating_add(1),
            system: asked.system.to_owned(),
            operation: asked.operation.to_owned(),
            key: asked.key,
            reference,
            at: asked.at.to_string(),
            requests: 1,
            payload: asked.payload,
        });
    }

    /// Notes a refusal that is remembered, and its answer.
    pub(super) fn refuse(&mut self, asked: Asked, answer: Reply) {
        if let Some(key) = asked.key {
            let known = Known { entry: None, payload: asked.payload, answer, at: asked.at };
            self.keys.insert((asked.system, asked.operation, key), known);
        }
    }

    /// Notes a webhook, or another attempt at one.
    pub(super) fn webhook(&mut self, attempt: &Webhook) {
        let place = self.webhooks.get(&attempt.message_id);
        if let Some(known) = place.and_then(|place| self.seen.webhooks.get_mut(*place)) {
            known.attempts += attempt.attempts;
            known.accepted += attempt.accepted;
        } else {
            self.webhooks.insert(attempt.message_id.clone(), self.seen.webhooks.len());
            self.seen.webhooks.push(attempt.clone());
        }
    }

    /// Notes something that must not happen.
    pub(super) fn violate(&mut self, asked: &Asked, reference: String, what: String) {
        tracing::warn!(system = asked.system, operation = asked.operation, reference, what, "violation");
        self.seen.violations.push(Violation {
            system: asked.system.to_owned(),
            operation: asked.operation.to_owned(),
            key: asked.key.clone(),
            reference,
            what,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(key: &str, body: &str) -> Asked {
        Asked {
            system: "erp",
            operation: "create",
            key: Some(key.to_owned()),
            payload: digest(body.as_bytes()),
            at: Timestamp(0),
        }
    }

    #[test]
    fn a_key_is_applied_once_and_answered_as_at_first() {
        let mut ledger = Ledger::default();
        assert!(matches!(ledger.before(&asked("k", "{}"), None), Before::New));
        ledger.apply(asked("k", "{}"), "SO-1".to_owned(), Reply::empty(204));
        assert!(
            matches!(ledger.before(&asked("k", "{}"), None), Before::Applied(reply) if reply.status == 204)
        );
        assert!(matches!(ledger.before(&asked("other", "{}"), None), Before::New));
        let summary = ledger.snapshot().summary();
        assert_eq!((summary.total.applied, summary.total.duplicates, summary.violations), (1, 1, 0));
    }

    #[test]
    fn a_key_that_is_used_for_something_else_is_a_violation() {
        let mut ledger = Ledger::default();
        ledger.apply(asked("k", "{}"), "SO-1".to_owned(), Reply::empty(204));
        assert!(matches!(ledger.before(&asked("k", "{\"a\":1}"), None), Before::Reused));
        assert_eq!(ledger.snapshot().violations[0].reference, "SO-1");
    }

    #[test]
    fn a_key_is_forgotten_in_time_and_a_refusal_may_be_remembered() {
        let mut ledger = Ledger::default();
        let kept = Some(Duration::from_mins(1));
        let later = |key, ms| Asked { at: Timestamp(ms), ..asked(key, "{}") };
        ledger.apply(asked("k", "{}"), "SO-1".to_owned(), Reply::empty(204));
        ledger.refuse(asked("no", "{}"), Reply::empty(200));
        assert!(matches!(ledger.before(&later("k", 59_999), kept), Before::Applied(_)));
        assert!(
            matches!(ledger.before(&later("no", 59_999), kept), Before::Refused(reply) if reply.status == 200)
        );
        assert!(matches!(ledger.before(&later("k", 60_000), kept), Before::New));
        assert!(matches!(ledger.before(&later("no", 60_000), kept), Before::New));
    }
}

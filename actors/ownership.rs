//! Who owns a field: the system of record whose word counts, and what becomes of the word of another.
//!
//! A write by a system that does not own a field is a conflict, never a silent overwrite. Who writes is the source of a message, the
//! connector of an outcome, [`OPERATOR`] or [`PROCESS`]. Sources and connectors of one name are one system. The rules are here and
//! pure; `decide` follows them, and an entity's state keeps only what they need, and only for fields that have an owner.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::record::Hash;
use crate::time::Timestamp;
use crate::value::Value;

/// Who writes when a person does.
pub const OPERATOR: &str = "operator";

/// Who writes when nobody outside did: a timer, or what follows when nothing is under way any more.
pub const PROCESS: &str = "process";

/// Who owns a field, as its process says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The system of record: the name of a source or connector, [`OPERATOR`] or [`PROCESS`].
    pub owner: Arc<str>,
    /// What becomes of a write by another.
    pub policy: Policy,
}

/// What becomes of a write by a system that does not own the field. Never reordered: stored records hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Policy {
    /// The sender is told no; of an answer to a call, the field is not kept.
    Reject,
    /// A person decides; the entity goes on with the owner's value.
    Hold,
    /// It is written, with a note.
    Accept,
}

impl Policy {
    /// The word used in definitions, metrics and pages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Hold => "hold",
            Self::Accept => "accept",
        }
    }
}

/// Who wrote what stands in a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The system that wrote it.
    pub by: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// The revision at its source, where the message has one.
    pub revision: Option<Value>,
    /// Whether the owner has ever written it. Until then it is provisional: whoever filled it may correct it.
    pub owned: bool,
}

/// What becomes of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It says what stands there: nothing to do.
    Same,
    /// It is written.
    Write,
    /// Another system owns the field.
    Conflict(Policy),
}

/// What becomes of `value`, which `writer` wants to write where `standing` stands, written by whom `known` says.
pub fn rule(
    ownership: &Ownership,
    known: Option<&Provenance>,
    writer: &str,
    standing: Option<&Value>,
    value: &Value,
) -> Ruling {
    if *ownership.owner == *writer {
        return Ruling::Write;
    }
    let standing = standing.filter(|standing| !standing.is_null());
    if standing.unwrap_or(&Value::Null) == value {
        return Ruling::Same;
    }
    let provisional = known.is_some_and(|known| !known.owned && *known.by == *writer);
    match (ownership.policy, standing) {
        (Policy::Reject, _) => Ruling::Conflict(Policy::Reject),
        // There is no value to defend: whoever comes first fills it, and may correct it until the owner speaks.
        (_, None) => Ruling::Write,
        (_, Some(_)) if provisional => Ruling::Write,
        (policy, Some(_)) => Ruling::Conflict(policy),
    }
}

/// Where what an entity knows came from. Absent from entities whose process asks for none of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Origins {
    /// Who wrote the fields that have an owner, by path.
    pub fields: BTreeMap<Arc<str>, Provenance>,
    /// The newest revision taken from each source.
    pub revisions: BTreeMap<Arc<str>, Revision>,
    /// Who sent the messages that wait for their turn, by message id.
    pub waiting: BTreeMap<Arc<str>, Arc<str>>,
    /// How the systems stand that want the changes of this record.
    pub systems: BTreeMap<Arc<str>, Synced>,
}

impl Origins {
    /// Who wrote what stands at a dotted path: the path itself, or the field it is in.
    pub fn of(&self, path: &str) -> Option<&Provenance> {
        self.fields.get(path).or_else(|| self.fields.get(root(path)))
    }

    /// Bytes it holds in memory, about.
    pub fn weight(&self) -> usize {
        160 * (self.fields.len() + self.revisions.len() + self.waiting.len() + self.systems.len())
    }
}

/// The field that a dotted path is in.
pub fn root(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

/// The newest that a source has said of an entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// Its revision: a number, a time (RFC 3339) or another text that sorts.
    pub revision: Value,
    /// Hash of what it said, to know it again.
    pub digest: Hash,
}

/// How a system stands that wants the changes of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Synced {
    /// Whether it has the newest.
    pub stand: Stand,
    /// Hash of what it was sent last, or is known to have.
    pub digest: Hash,
    /// Since when it stands so.
    pub since: Timestamp,
}

/// Whether a system has the newest of a record. Never reordered: stored records hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stand {
    /// It has it.
    InSync,
    /// It is being sent it; what changes meanwhile follows.
    Pending {
        /// The call under way.
        effect: crate::id::EffectId,
    },
    /// It did not take it; a person looks.
    Failed {
        /// The exception about it.
        exception: u64,
    },
    /// It is to be sent it again.
    Stale,
}

impl Stand {
    /// The word used in expressions, the API and pages.
    pub fn word(self) -> &'static str {
        match self {
            Self::InSync => "in_sync",
            Self::Pending { .. } => "pending",
            Self::Failed { .. } => "failed",
            Self::Stale => "stale",
        }
    }
}

/// How a message's revision stands to the newest from its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Newer, the first, or of the same revision with other content.
    Fresh,
    /// The same revision with the same content.
    Same,
    /// Older.
    Older,
}

/// How `revision` with content `digest` stands to the newest taken; `None` when the two cannot be compared.
pub fn freshness(newest: Option<&Revision>, revision: &Value, digest: Hash) -> Option<Freshness> {
    let Some(newest) = newest else { return order(revision, revision).map(|_| Freshness::Fresh) };
    Some(match order(revision, &newest.revision)? {
        Ordering::Less => Freshness::Older,
        Ordering::Equal if newest.digest == digest => Freshness::Same,
        Ordering::Equal | Ordering::Greater => Freshness::Fresh,
    })
}

/// The order of two revisions: numbers (as text too) as numbers, times as times, other text as text. `None` for anything else, and
/// for two of different kinds.
pub fn order(one: &Value, other: &Value) -> Option<Ordering> {
    let number =
        |value: &Value| value.as_decimal().or_else(|| value.as_text().and_then(Value::parse_decimal));
    let time = |value: &Value| value.as_text().and_then(Timestamp::parse);
    match (number(one), number(other)) {
        (Some(one), Some(other)) => return Some(one.cmp(&other)),
        (None, None) => {}
        _ => return None,
    }
    match (time(one), time(other)) {
        (Some(one), Some(other)) => return Some(one.cmp(&other)),
        (None, None) => {}
        _ => return None,
    }
    Some(one.as_text().filter(|text| !text.is_empty())?.cmp(other.as_text()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ownership(policy: Policy) -> Ownership {
        Ownership { owner: "crm".into(), policy }
    }

    fn by(writer: &str, owned: bool) -> Provenance {
        Provenance { by: writer.into(), at: Timestamp(0), revision: None, owned }
    }

    const POLICIES: [Policy; 3] = [Policy::Reject, Policy::Hold, Policy::Accept];

    #[test]
    fn the_owner_writes_and_the_same_value_is_no_conflict() {
        let (old, new) = (Value::from("a"), Value::from("b"));
        for policy in POLICIES {
            let owned = ownership(policy);
            assert_eq!(rule(&owned, Some(&by("crm", true)), "crm", Some(&old), &new), Ruling::Write);
            assert_eq!(rule(&owned, Some(&by("crm", true)), "shop", Some(&old), &old), Ruling::Same);
            assert_eq!(rule(&owned, None, "shop", None, &Value::Null), Ruling::Same);
        }
    }

    #[test]
    fn another_system_never_overwrites_the_owner_unseen() {
        let (old, new) = (Value::from("a"), Value::from("b"));
        for policy in POLICIES {
            let found = rule(&ownership(policy), Some(&by("crm", true)), "shop", Some(&old), &new);
            assert_eq!(found, Ruling::Conflict(policy));
            // Nor what another has filled in for it, nor what it has once said, whoever wrote since.
            let found = rule(&ownership(policy), Some(&by("erp", false)), "shop", Some(&old), &new);
            assert_eq!(found, Ruling::Conflict(policy));
            let found = rule(&ownership(policy), Some(&by("shop", true)), "shop", Some(&old), &new);
            assert_eq!(found, Ruling::Conflict(policy));
        }
    }

    #[test]
    fn an_empty_field_is_filled_by_whoever_comes_unless_only_the_owner_may() {
        let (old, new) = (Value::from("a"), Value::from("b"));
        for policy in [Policy::Hold, Policy::Accept] {
            assert_eq!(rule(&ownership(policy), None, "shop", None, &new), Ruling::Write);
            let own = by("shop", false);
            assert_eq!(rule(&ownership(policy), Some(&own), "shop", Some(&old), &new), Ruling::Write);
        }
        let rejected = rule(&ownership(Policy::Reject), None, "shop", None, &new);
        assert_eq!(rejected, Ruling::Conflict(Policy::Reject));
    }

    #[test]
    fn revisions_are_numbers_times_or_text_and_nothing_else() {
        let text = |text: &str| Value::from(text);
        assert_eq!(order(&Value::Int(9), &Value::Int(10)), Some(Ordering::Less));
        assert_eq!(order(&text("9"), &text("10")), Some(Ordering::Less), "not as text");
        let (one, same) = (text("2027-01-02T10:00:00Z"), text("2027-01-02T11:00:00+01:00"));
        assert_eq!(order(&one, &same), Some(Ordering::Equal));
        assert_eq!(order(&text("v1.b"), &text("v1.a")), Some(Ordering::Greater));
        for (one, other) in [(text("a"), Value::Int(1)), (Value::Null, Value::Null), (text(""), text(""))] {
            assert_eq!(order(&one, &other), None, "{one} and {other}");
        }
    }

    #[test]
    fn an_older_revision_is_older_and_an_equal_one_the_same_only_with_the_same_content() {
        let (a, b) = (Hash::of(b"a"), Hash::of(b"b"));
        let newest = Revision { revision: Value::Int(5), digest: a };
        let of = |revision: i64, digest| freshness(Some(&newest), &Value::Int(revision), digest);
        assert_eq!(
            [of(4, a), of(5, a), of(5, b), of(6, a)].map(Option::unwrap),
            [Freshness::Older, Freshness::Same, Freshness::Fresh, Freshness::Fresh]
        );
        assert_eq!(freshness(None, &Value::Null, a), None, "a message without a revision is told");
    }
}

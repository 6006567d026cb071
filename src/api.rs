//! What the operations API shows and takes: the shapes of its JSON, shared by those who serve it and those who ask.
//!
//! ```text
//! GET  /v1/entities/{kind}                    ?after= &limit=     → Page<Head>
//! GET  /v1/entities/{kind}/{key}                                  → Entity
//! GET  /v1/entities/{kind}/{key}/timeline     ?from= &limit=      → Page<Entry>
//! GET  /v1/entities/{kind}/{key}/records      ?from= &limit=      → Page<String>   (base64 of stored frames)
//! GET  /v1/search                             ?correlation= | ?q= → Page<String>   (entity ids)
//! GET  /v1/exceptions                         ?kind= &class= &after= &limit= → Page<Exception>
//! POST /v1/exceptions/retry | resolve         Intervention        → Outcome
//! POST /v1/migrations                         Migration           → Outcome
//! GET  /v1/drift                                                  → DriftReport
//! GET  /v1/sources                                                → Page<Source>
//! POST /v1/batches/{source}                   rows of a file       → BatchReport
//! GET  /v1/balance                                                → Page<Balance>
//! GET  /v1/reconciliations                    ?limit=              → Page<Reconciliation>
//! POST /v1/reconciliations                    ReconcileAsk         → Page<String>   (entity ids)
//! GET  /v1/connectors                                             → Page<Connector>
//! POST /v1/connectors/{name}/pause | resume   Reason              → Connector
//! GET  /v1/board                                                  → Board    (processes and objectives)
//! GET  /v1/cluster                                                → Cluster
//! POST /v1/cluster/orders                     ClusterOrder        → Cluster
//! POST /v1/cluster/accept                     Acceptance          → Cluster
//! GET  /healthz  /readyz  /metrics
//! ```
//! Business data are JSON as the journal holds it, digit for digit; times are RFC 3339 in UTC; ids are text.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use syncline_actors::id::EntityId;
use syncline_actors::value::Value;

mod board;

pub use board::{Board, InState, Process, Slo};

/// A list, and where the next part begins.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// What was asked for, in order.
    pub items: Vec<T>,
    /// What to pass as `after` (`from` for timelines) to go on; none at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An entity in a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Head {
    /// `kind/key`.
    pub id: String,
    /// Its state in the process.
    pub status: String,
    /// Records in its journal.
    pub seq: u64,
    /// Whether it has ended.
    pub ended: bool,
    /// When it last changed.
    pub updated_at: String,
}

/// An entity as it stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entity {
    /// `kind/key`.
    pub id: String,
    /// Its state in the process.
    pub status: String,
    /// In this state since.
    pub since: String,
    /// Version of the process it lives by.
    pub version: u32,
    /// Records in its journal.
    pub seq: u64,
    /// When it began.
    pub began_at: String,
    /// How it ended: `completed`, `cancelled` or `failed`; none while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<String>,
    /// The business flow it belongs to.
    pub correlation_id: String,
    /// Its fields.
    pub fields: Box<RawValue>,
    /// Who owns the fields that a system owns, by field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub owners: BTreeMap<String, Owned>,
    /// How the systems stand that are told of the record, by system.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub systems: BTreeMap<String, Synced>,
    /// Effects that have not come back yet.
    pub pending: Vec<Pending>,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// Timers that run: name and due time.
    pub timers: BTreeMap<String, String>,
    /// Milestones reached.
    pub reached: Vec<String>,
    /// Milestones missed.
    pub missed: Vec<String>,
    /// Messages that wait for their turn, by type.
    pub waiting: Vec<String>,
    /// What a person must look at.
    pub exceptions: Vec<Exception>,
}

/// A field that a system owns.
#[derive(Debug, Serialize, Deserialize)]
pub struct Owned {
    /// The system of record.
    pub owner: String,
    /// What becomes of a write by another: `reject`, `hold` or `accept`.
    pub conflict: String,
    /// The system that wrote what stands there; none while nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The revision at its source, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// How a system stands that is told of a record.
#[derive(Debug, Serialize, Deserialize)]
pub struct Synced {
    /// `in_sync`, `pending`, `failed` or `stale`.
    pub stand: String,
    /// Since when.
    pub since: String,
}

/// An effect that has not come back yet.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pending {
    /// `seq.n`: unique within the entity.
    pub effect: String,
    /// Its name in the process.
    pub name: String,
    /// The system it is for.
    pub connector: String,
    /// What is asked of it.
    pub operation: String,
    /// The key the other system knows it by.
    pub idempotency_key: String,
    /// When it was journaled or is next due; none when it is not in the outbox now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// What the last attempt said.
    pub last: String,
}

/// A step that is done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Step {
    /// Its name in the process.
    pub name: String,
    /// Whether it was undone.
    pub undone: bool,
    /// What the system answered, as the contract reads it.
    pub result: Box<RawValue>,
}

/// One record of the journal, for people.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// When it was journaled.
    pub at: String,
    /// Who sent the message.
    pub source: String,
    /// The message's id at its sender.
    pub message_id: String,
    /// `command`, `event`, `outcome`, `timer` or `intervention`.
    pub kind: String,
    /// The message's type.
    pub name: String,
    /// What became of it: `applied`, `deferred`, `ignored` or `rejected`.
    pub verdict: String,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The state after it.
    pub status: String,
    /// What changed, one sentence each.
    pub changes: Vec<String>,
    /// What the message said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// The business flow.
    pub correlation_id: String,
    /// The message it follows from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    /// Bytes of the original kept as evidence.
    pub evidence_bytes: usize,
    /// Hash of the record before it: the chain.
    pub prev: String,
}

/// What a person must look at.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exception {
    /// `kind/key#number`.
    pub id: String,
    /// The entity.
    pub entity: String,
    /// `hold`, `dead_letter`, `failure`, `late`, `mapping`, `compensation`, `conflict`, `quarantine` or `poison`.
    pub class: String,
    /// One sentence.
    pub summary: String,
    /// What belongs to it.
    pub detail: Box<RawValue>,
    /// The team that owes the next step; empty if nobody is named.
    pub owner: String,
    /// When it was opened; none where only the entity is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<String>,
    /// The business flow.
    pub correlation_id: String,
}

/// Which exceptions to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExceptionQuery {
    /// Only of this process.
    pub kind: Option<String>,
    /// Only of this class.
    pub class: Option<String>,
    /// Begin after this exception id.
    pub after: Option<String>,
    /// At most so many; 100 when not said, 1000 at most.
    pub limit: Option<usize>,
}

/// What a person decides about an exception. The body of `POST /v1/exceptions/retry` and `/resolve`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervention {
    /// The exception: `kind/key#number`.
    pub id: String,
    /// Why; stands in the journal for ever.
    pub reason: String,
    /// Fields to set before it is tried again: retry only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Box<RawValue>>,
    /// What the step's result is to be: resolve only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
}

/// The body of `POST /v1/connectors/{name}/pause` and `/resume`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why; stands in the log.
    pub reason: String,
}

/// The answer to a command, an event or an intervention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `kind/key`.
    pub entity: String,
    /// The record that holds it.
    pub seq: u64,
    /// The entity's state after it.
    pub status: String,
    /// `applied`, `deferred`, `ignored` or `rejected`.
    pub verdict: String,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether the message was known and this is its first answer.
    pub duplicate: bool,
}

/// An instance goes on under another version of its process. The body of `POST /v1/migrations`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct Migration {
    /// The entity: `kind/key`.
    pub entity: String,
    /// The version it is on.
    pub from: u32,
    /// The version it goes to.
    pub to: u32,
    /// The record it was computed from: if there is a newer one, it is rejected.
    pub at: u64,
    /// The state in which it goes on.
    pub state: String,
    /// All of its fields.
    pub fields: Box<RawValue>,
    /// Whether the state begins anew.
    #[serde(default)]
    pub enter: bool,
    /// Whether the timers of the state count from now.
    #[serde(default)]
    pub restart_timers: bool,
    /// Whether it may go with effects under way.
    #[serde(default)]
    pub with_pending: bool,
    /// Whether it is only asked what would be answered.
    #[serde(default)]
    pub dry_run: bool,
    /// Why; stands in the journal for ever.
    pub reason: String,
}

/// Where messages have come away from their schemas.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct DriftReport {
    /// The node that answers: counts are of what came in here since it started; what waits is of the whole store.
    pub node: String,
    /// One for each source, type, kind and place.
    pub items: Vec<Drift>,
}

/// One way in which messages of one type have come away from their schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The source.
    pub source: String,
    /// The type of the messages, as the source names it.
    #[serde(rename = "type")]
    pub event_type: String,
    /// `new_field`, `missing_field`, `type_change`, `new_enum_value` or `other`.
    pub kind: String,
    /// Where in the message, as a JSON pointer; `*` stands for the items of a list.
    pub path: String,
    /// The last one, in words.
    pub said: String,
    /// Messages that had it, here since the start.
    pub count: u64,
    /// Messages among them that were held.
    pub held: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Messages with it that wait in quarantine now.
    pub waiting: u64,
    /// The entities that they were meant for, as far as that is known; some of them, if there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<String>,
}

/// The class of an integration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// `realtime`, `minutes` or `batch`.
    pub latency: String,
    /// `low`, `normal` or `high`.
    pub criticality: String,
    /// How long it may fail before a person must know.
    pub failure_tolerance: String,
}

impl From<syncline_actors::class::Class> for Class {
    fn from(class: syncline_actors::class::Class) -> Self {
        Self {
            latency: class.latency.word().to_owned(),
            criticality: class.criticality.word().to_owned(),
            failure_tolerance: humantime::format_duration(class.tolerance()).to_string(),
        }
    }
}

/// A connector as it runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Connector {
    /// Its name.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// The team that answers for it.
    pub owner: String,
    /// How urgent it is, how much it matters, and how long it may fail.
    #[serde(default)]
    pub class: Class,
    /// Whether it has kept something urgent waiting for longer than its class tolerates.
    #[serde(default)]
    pub late: bool,
    /// Set by an operator.
    pub paused: bool,
    /// Who set it and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// `closed`, `open` or `trying`.
    pub breaker: String,
    /// Calls being made, by this node.
    pub in_flight: usize,
    /// Calls at a time that this node holds of a budget that nodes share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Effects in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// Those of them that can wait: of batches, polls and reconciliation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<u64>,
    /// Since when the oldest of those waits that cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Until when the system asked to be left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_until: Option<String>,
}

/// A source as it stands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// The team that answers for it.
    pub owner: String,
    /// Where that team is reached when it is urgent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub escalate: String,
    /// How urgent it is, how much it matters, and how long it may fail.
    #[serde(default)]
    pub class: Class,
    /// Whether it sends to `/hooks/<name>`.
    pub sends: bool,
    /// How it is polled, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<PollState>,
}

/// How a polled source stands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PollState {
    /// What is called: `connector.operation`.
    pub call: String,
    /// When.
    pub schedule: String,
    /// The state of `poll/<source>`; empty before its first turn.
    pub status: String,
    /// Whether it fails for longer than its class tolerates.
    pub late: bool,
    /// Cursor, turn and counts of the last run.
    pub fields: BTreeMap<String, String>,
}

/// What became of the rows of a file, or of a part of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchReport {
    /// Rows taken up.
    pub rows: u64,
    /// Journaled now.
    pub accepted: u64,
    /// Known: they came before.
    pub duplicate: u64,
    /// Not understood, and kept whole for a person.
    pub quarantined: u64,
    /// Refused: the row is malformed, or its entity said no. A malformed row is kept nowhere.
    pub rejected: u64,
    /// Rows that were not accepted, by line; the first thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<RowFate>,
    /// How many more there were.
    #[serde(default)]
    pub untold: u64,
}

/// A row that was not accepted.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFate {
    /// The line it begins in.
    pub line: u64,
    /// `quarantined` or `rejected`.
    pub fate: String,
    /// Why.
    pub why: String,
}

impl BatchReport {
    /// Rows named at most.
    pub const LINES_MAX: usize = 1_000;

    /// Adds what became of another part.
    pub fn add(&mut self, part: Self) {
        self.rows += part.rows;
        self.accepted += part.accepted;
        self.duplicate += part.duplicate;
        self.quarantined += part.quarantined;
        self.rejected += part.rejected;
        let room = Self::LINES_MAX.saturating_sub(self.lines.len());
        self.untold += part.untold + part.lines.len().saturating_sub(room) as u64;
        self.lines.extend(part.lines.into_iter().take(room));
    }
}

/// The standing balance of one source over all nodes: received = applied + ignored + rejected + quarantined + open + duplicate, when nothing is
/// missing and nobody waits for an answer.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// The source; `api` and `events` for those who call the API.
    pub source: String,
    /// Messages answered with success.
    pub received: u64,
    /// Journaled, and took effect.
    pub applied: u64,
    /// Journaled, and their entity had no use for them.
    pub ignored: u64,
    /// Journaled, and refused.
    pub rejected: u64,
    /// Not understood, and kept.
    pub quarantined: u64,
    /// They wait for their turn.
    pub open: u64,
    /// They were known.
    pub duplicate: u64,
    /// Answered with success and not in the journal: lost.
    pub missing: u64,
    /// Journaled without an answer: the sender was gone, or will be told at its next try.
    pub unanswered: u64,
}

/// What is to be reconciled. The body of `POST /v1/reconciliations`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReconcileAsk {
    /// Only this connector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Only this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Only look: repair nothing.
    pub dry_run: bool,
}

/// One run of reconciliation, finished or not.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reconciliation {
    /// Its entity.
    pub id: String,
    /// The connector.
    pub system: String,
    /// The process.
    pub process: String,
    /// Who asked for it.
    pub by: String,
    /// When it began.
    pub began: String,
    /// Where it stands: `paging`, `reading`, `listing`, `drifted` (somebody must look) or `done`.
    pub status: String,
    /// Whether it has ended.
    pub ended: bool,
    /// Whether it only looks.
    pub dry_run: bool,
    /// Entities compared.
    pub checked: u64,
    /// Entities that need not be in the system.
    pub skipped: u64,
    /// Compared, and they agree.
    pub equal: u64,
    /// Compared, and a field says something else.
    pub differs: u64,
    /// The system does not have them.
    pub missing: u64,
    /// Something about them is still on its way.
    pub stale: u64,
    /// Records of the system that are of no entity.
    pub unknown: u64,
    /// They could not be read back.
    pub unread: u64,
    /// Repaired in the system.
    pub repaired: u64,
    /// Taken over from the system, which owns the field.
    pub taken: u64,
    /// Neither.
    pub unrepaired: u64,
    /// How often each field is among the drift that is named.
    pub by_field: BTreeMap<String, u64>,
    /// What does not agree; the first two hundred.
    pub drift: Box<RawValue>,
}

/// Why something asked of the API is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The question cannot be understood.
    #[error("{0}")]
    Malformed(String),
    /// It is not possible in the state that the thing is in.
    #[error("{0}")]
    Conflict(String),
    /// Not now: come back after so many seconds.
    #[error("{what}")]
    Busy {
        /// What is full or away.
        what: String,
        /// Seconds to wait.
        retry_after: u64,
    },
    /// Something is broken; the log says more.
    #[error("{0}")]
    Broken(String),
}

/// The nodes that share the store, and what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The node that answers.
    pub node: String,
    /// Why it does not acknowledge now; none when it does.
    pub not_ready: Option<String>,
    /// Nodes that are up, as far as the node that answers knows; empty where nodes do not speak with each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// Who holds shards.
    pub holders: Vec<Holder>,
    /// Shards that nobody holds now.
    pub free: u64,
    /// Shards that take nothing in.
    pub suspect: Vec<Suspect>,
    /// Shards that no node may hold now, by why, e.g. that no node of their region is up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unplaced: BTreeMap<String, u64>,
    /// Shards on their way from the node that answers.
    #[serde(default)]
    pub moving: u64,
    /// What admins have ordered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Standing>,
}

/// A node that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub node: String,
    /// Which start of it.
    pub boot: u64,
    /// Where its API is.
    pub http: String,
    /// Where other nodes reach it.
    pub address: String,
    /// Its share of the shards, relative to that of others.
    pub weight: u16,
    /// Where it stands in law.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What fails together with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Whether it gives its shards away and takes none.
    pub draining: bool,
}

/// A node that holds shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its name.
    pub node: String,
    /// Which start of it.
    pub boot: u64,
    /// How many shards.
    pub shards: u64,
    /// Which, e.g. `0-4,9,200-255`.
    #[serde(default)]
    pub which: String,
    /// Milliseconds until the first of its leases runs out; none where leases do not.
    pub lease_ms: Option<u64>,
}

/// A shard that takes nothing in, because what was acknowledged there is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Which shard.
    pub shard: u16,
    /// What is missing.
    pub why: String,
}

/// What an admin wants of the cluster. The body of `POST /v1/cluster/orders`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClusterOrder {
    /// The node gives its shards to others, and takes none until it is started again, or told otherwise.
    Drain {
        /// Which node.
        node: String,
        /// Why.
        reason: String,
    },
    /// The node takes shards again.
    Undrain {
        /// Which node.
        node: String,
        /// Why.
        reason: String,
    },
    /// The shard goes to the node, and stays there as long as the node may hold it.
    Move {
        /// Which shard.
        shard: u16,
        /// Which node.
        node: String,
        /// Why.
        reason: String,
    },
    /// The shard may be anywhere again.
    Unpin {
        /// Which shard.
        shard: u16,
        /// Why.
        reason: String,
    },
    /// Nothing moves for the sake of balance. What nobody holds is still taken, and who drains still hands over.
    Pause {
        /// Why.
        reason: String,
    },
    /// It does again.
    Resume {
        /// Why.
        reason: String,
    },
}

impl ClusterOrder {
    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Drain { reason, .. }
            | Self::Undrain { reason, .. }
            | Self::Move { reason, .. }
            | Self::Unpin { reason, .. }
            | Self::Pause { reason }
            | Self::Resume { reason } => reason,
        }
    }
}

/// An order that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What it says, e.g. `shard 7 stays on b`.
    pub order: String,
    /// Who gave it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: String,
}

/// A person accepts what a suspect shard has lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// Which shard.
    pub shard: u16,
    /// Why; stands in the log.
    pub reason: String,
}

/// Who asks: stands in the journal beside what was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who(pub String);

/// What the operations API can do. The node implements it; `console` serves it.
#[async_trait]
pub trait Operate: Debug + Send + Sync + 'static {
    /// The entity as it stands, with all that is acknowledged.
    async fn entity(&self, id: &EntityId) -> Result<Entity, Refusal>;
    /// Its records from `from` (the first is 1), at most `limit`.
    async fn timeline(&self, id: &EntityId, from: u64, limit: usize) -> Result<Page<Entry>, Refusal>;
    /// The same records as they are stored, frame by frame, in base64: for programs that run them again.
    async fn records(&self, id: &EntityId, from: u64, limit: usize) -> Result<Page<String>, Refusal>;
    /// Entities of a kind by key, after `after`.
    async fn entities(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Page<Head>, Refusal>;
    /// Entities that belong to a flow, or to a business key or foreign id that was noted.
    async fn search(&self, term: &str, limit: usize) -> Result<Page<String>, Refusal>;
    /// Open exceptions.
    async fn exceptions(&self, query: &ExceptionQuery) -> Result<Page<Exception>, Refusal>;
    /// Tries an exception again.
    async fn retry(&self, who: &Who, intervention: Intervention) -> Result<Outcome, Refusal>;
    /// Closes an exception by hand.
    async fn resolve(&self, who: &Who, intervention: Intervention) -> Result<Outcome, Refusal>;
    /// Has an instance go on under another version of its process.
    async fn migrate(&self, who: &Who, migration: Migration) -> Result<Outcome, Refusal>;
    /// Where messages have come away from their schemas.
    async fn drift(&self) -> Result<DriftReport, Refusal>;
    /// All sources.
    async fn sources(&self) -> Result<Page<Source>, Refusal>;
    /// The standing balance of each source.
    async fn balance(&self) -> Result<Page<Balance>, Refusal>;
    /// Begins to reconcile. The ids of the runs.
    async fn reconcile(&self, who: &Who, ask: ReconcileAsk) -> Result<Page<String>, Refusal>;
    /// The newest runs of reconciliation.
    async fn reconciliations(&self, limit: usize) -> Result<Page<Reconciliation>, Refusal>;
    /// All connectors.
    async fn connectors(&self) -> Result<Page<Connector>, Refusal>;
    /// Stops or resumes calls of a connector; what waits, waits in the store.
    async fn set_paused(
        &self,
        who: &Who,
        connector: &str,
        paused: bool,
        reason: &str,
    ) -> Result<Connector, Refusal>;
    /// How all processes stand, and what is left of their error budgets.
    async fn board(&self) -> Result<Board, Refusal>;
    /// The nodes that share the store.
    async fn cluster(&self) -> Result<Cluster, Refusal>;
    /// Keeps what an admin wants of the cluster.
    async fn order(&self, who: &Who, order: ClusterOrder) -> Result<Cluster, Refusal>;
    /// Lets a suspect shard take messages in again, from what is left of it.
    async fn accept(&self, who: &Who, acceptance: Acceptance) -> Result<Cluster, Refusal>;
    /// Whether the node could acknowledge a message now; if not, why.
    async fn ready(&self) -> Result<(), String>;
    /// The metrics page in Prometheus' text format.
    async fn metrics(&self) -> String;
}

/// A value as JSON, digit for digit.
pub fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_json()).expect("a value is written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits_on_the_way_through() {
        let value = Value::from_json(br#"{"amount": 1000000000000000.10}"#, 100).expect("it is JSON");
        let text =
            serde_json::to_string(&Page { items: vec![raw(&value)], next: None }).expect("it is written");
        assert_eq!(text, r#"{"items":[{"amount":1000000000000000.10}]}"#);
        let page: Page<Box<RawValue>> = serde_json::from_str(&text).expect("it is read");
        assert_eq!(page.items[0].get(), r#"{"amount":1000000000000000.10}"#);
    }
}

//! Every metric in one place, with its unit, labels and help, and how logs are written.
//!
//! Names follow the rules of Prometheus: prefix `syncline_`, base units, the unit at the end, `_total` for counters. Labels hold
//! only what the integration names (sources, processes, connectors, …), never ids of entities, messages or flows: those are in
//! logs and in the journal.

pub mod log;
mod series;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Label, counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Buckets for durations of calls, in seconds: those of OpenTelemetry's stable HTTP metrics.
const CALL_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Buckets for durations of business, in seconds: from a second to a month.
const BUSINESS_BUCKETS: &[f64] =
    &[1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0];

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down; set just before it is read.
    Gauge,
    /// A distribution, with the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Debug, Clone, Copy)]
struct Metric {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
}

impl Metric {
    const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    const fn histogram(
        name: &'static str,
        buckets: &'static [f64],
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Histogram(buckets), labels, help }
    }

    fn labels(&self, values: &[&str]) -> Vec<Label> {
        assert_eq!(self.labels.len(), values.len(), "{} has the labels {:?}", self.name, self.labels);
        self.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
    }

    fn add(&self, values: &[&str], count: u64) {
        series::counter(self, values, |counter| counter.increment(count));
    }

    /// What was counted elsewhere since the start.
    fn reach(&self, values: &[&str], total: u64) {
        counter!(self.name, self.labels(values)).absolute(total);
    }

    fn set(&self, values: &[&str], value: f64) {
        gauge!(self.name, self.labels(values)).set(value);
    }

    fn record(&self, values: &[&str], took: Duration) {
        series::histogram(self, values, |histogram| histogram.record(took.as_secs_f64()));
    }

    fn describe(&self) {
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, self.help),
            Kind::Gauge => metrics::describe_gauge!(self.name, self.help),
            Kind::Histogram(_) => metrics::describe_histogram!(self.name, self.help),
        }
    }
}

const INGRESS_EVENTS: Metric = Metric::counter(
    "syncline_ingress_events_total",
    &["source", "type", "outcome"],
    "Messages that came in, by source, type (`unknown` if it is none of the source's) and what became of them: accepted, duplicate, bad_signature, stale, invalid, throttled, quarantined",
);
const DRIFT: Metric = Metric::counter(
    "syncline_drift_total",
    &["source", "type", "kind", "verdict"],
    "Messages that have come away from their schema: new_field, missing_field, type_change, new_enum_value, other; accept, hold",
);
const HTTP_REQUESTS: Metric = Metric::histogram(
    "syncline_http_request_duration_seconds",
    CALL_BUCKETS,
    &["route", "method", "status"],
    "Time from a request's headers to its answer, by route template, method and status",
);
const MESSAGES: Metric = Metric::counter(
    "syncline_messages_total",
    &["process", "verdict"],
    "Messages that entities journaled, by what became of them: applied, deferred, ignored, rejected",
);
const PROCESSES_BEGUN: Metric =
    Metric::counter("syncline_process_begun_total", &["process"], "Process instances that began");
const PROCESSES_ENDED: Metric = Metric::counter(
    "syncline_process_instances_total",
    &["process", "outcome"],
    "Process instances that ended, by how: completed, cancelled, failed",
);
const PROCESS_DURATION: Metric = Metric::histogram(
    "syncline_process_duration_seconds",
    BUSINESS_BUCKETS,
    &["process"],
    "Time from the beginning of a process instance to its end",
);
const CONFLICTS: Metric = Metric::counter(
    "syncline_ownership_conflicts_total",
    &["process", "owner", "policy"],
    "Writes of fields by systems that do not own them, by process, owner of the field, and what became of them: reject, hold, accept",
);
const OUTDATED: Metric = Metric::counter(
    "syncline_outdated_total",
    &["process", "source", "reason"],
    "Messages without effect because their source had said something newer (older) or just that (same) already",
);
const EFFECT_ATTEMPTS: Metric = Metric::counter(
    "syncline_effect_attempts_total",
    &["connector", "operation", "outcome"],
    "Calls of other systems, by what came of them",
);
const EFFECT_DURATION: Metric = Metric::histogram(
    "syncline_effect_duration_seconds",
    CALL_BUCKETS,
    &["connector", "operation"],
    "Time of one call of another system",
);
const EFFECTS: Metric = Metric::counter(
    "syncline_effects_total",
    &["connector", "operation", "class"],
    "Effects that ended, by how: ok, failed, dead, cancelled",
);
const EFFECT_AGE: Metric = Metric::histogram(
    "syncline_effect_age_seconds",
    BUSINESS_BUCKETS,
    &["connector"],
    "Time from the journaling of an effect to its end, all attempts and waits included",
);
const REPLAYS: Metric = Metric::counter(
    "syncline_replays_total",
    &["kind"],
    "Effects and messages that were tried again after they had ended, by how: manual, bulk, auto",
);
const MESSAGE_DURATION: Metric = Metric::histogram(
    "syncline_message_duration_seconds",
    CALL_BUCKETS,
    &["process"],
    "Time from a message's arrival at its entity to the answer, its append to the journal included",
);
const PANICS: Metric = Metric::counter(
    "syncline_actor_panics_total",
    &["process"],
    "Actors that panicked and were rebuilt from the journal; more than none is a bug",
);
const INSTANCES: Metric = Metric::gauge(
    "syncline_process_instances",
    &["process", "state"],
    "Process instances, by the state in which they stand",
);
const EXCEPTIONS: Metric = Metric::gauge(
    "syncline_exceptions_open",
    &["process", "class"],
    "Exceptions that wait for a person, by class: hold, dead_letter, failure, late, mapping, compensation, quarantine, poison",
);
const MILESTONES: Metric = Metric::counter(
    "syncline_milestones_total",
    &["process", "milestone", "outcome"],
    "Milestones of process instances, by how: in_time, missed (when their time ran out), reached_late",
);
const STEP_DURATION: Metric = Metric::histogram(
    "syncline_step_duration_seconds",
    BUSINESS_BUCKETS,
    &["process", "step"],
    "Time that a process instance was in a state, when it left it",
);
const STEP_OLDEST: Metric = Metric::gauge(
    "syncline_step_oldest_seconds",
    &["process", "step"],
    "Time that the instance is there which is longest in a state, among the entities of this node",
);
const PROCESS_LATE: Metric = Metric::gauge(
    "syncline_process_late",
    &["process"],
    "Open instances that have missed a milestone and not reached it, among the entities of this node",
);
const SLO_INSTANCES: Metric = Metric::gauge(
    "syncline_slo_instances",
    &["slo", "outcome"],
    "Instances of an objective's window among the entities of this node: good, bad, open; add the nodes up",
);
const SLO_TARGET: Metric = Metric::gauge(
    "syncline_slo_target_ratio",
    &["slo"],
    "Share of an objective's instances that should be good",
);
const SLO_BUDGET: Metric = Metric::gauge(
    "syncline_slo_error_budget_remaining_ratio",
    &["slo"],
    "Share of an objective's error budget that is left, for the entities of this node; below 0 it is overspent",
);
const QUEUE_DEPTH: Metric =
    Metric::gauge("syncline_queue_depth", &["connector"], "Effects that wait in the store for a connector");
const BALANCE: Metric = Metric::gauge(
    "syncline_balance_messages",
    &["source", "what"],
    "Messages a node answered with success (received, duplicate) and what became of them in the store; summed over nodes, received = applied + ignored + rejected + quarantined + deferred + duplicate",
);
const MISSING: Metric = Metric::gauge(
    "syncline_balance_missing",
    &["source"],
    "Messages that were answered with success and are not in the journal; must be 0",
);
const RECONCILED: Metric = Metric::counter(
    "syncline_reconciled_total",
    &["system", "process", "class"],
    "Records compared with their entities, by how they stand: equal, differs, missing, stale, unknown",
);
const QUEUE_PATIENT: Metric = Metric::gauge(
    "syncline_queue_patient",
    &["connector"],
    "Effects that wait in the store for a connector and can wait: of batches, polls and reconciliation",
);
const LATE: Metric = Metric::gauge(
    "syncline_integration_late",
    &["kind", "name"],
    "1 while an integration fails for longer than its class tolerates: a connector, a polled source",
);
const QUEUE_OLDEST: Metric = Metric::gauge(
    "syncline_queue_oldest_seconds",
    &["connector"],
    "Time since the effect that waits longest, of those that cannot wait, was due; 0 when none is",
);
const CALLS: Metric =
    Metric::gauge("syncline_effects_in_flight", &["connector"], "Calls of other systems under way");
const PAUSED: Metric =
    Metric::gauge("syncline_connector_paused", &["connector"], "1 when an operator has paused the connector");
const BREAKER: Metric = Metric::gauge(
    "syncline_connector_breaker_open",
    &["connector"],
    "1 when the connector's breaker holds calls back because too many failed",
);
const JOURNAL_DURATION: Metric = Metric::histogram(
    "syncline_journal_duration_seconds",
    CALL_BUCKETS,
    &["call", "outcome"],
    "Time of one call of the store, by what was asked and what came of it: ok, fenced (another node holds the shard; nothing was written), failed",
);
const FENCED: Metric =
    Metric::counter("syncline_fenced_total", &[], "Shards that another node took while this one held them");
const SHARDS: Metric = Metric::gauge("syncline_shards_owned", &[], "Shards that this node serves");
const LEASE_AGE: Metric = Metric::gauge(
    "syncline_lease_age_seconds",
    &[],
    "Time since the lease of a shard held here was renewed, the longest of all; at journal.lease.give_up nothing is answered",
);
const LEASE_MARGIN: Metric = Metric::gauge(
    "syncline_lease_margin_seconds",
    &[],
    "Time that this node may go on without renewing its leases, the shortest of all; 0: it answers nothing for some shard",
);
const HIGHEST_EPOCH: Metric = Metric::gauge(
    "syncline_shard_epoch_highest",
    &[],
    "Highest epoch under which a shard is held here: one more with each change of hands; falls only when the store has lost its end",
);
const SUSPECT: Metric = Metric::gauge(
    "syncline_shards_suspect",
    &[],
    "Shards of the cluster that take nothing in because acknowledged records are lost, until an admin accepts it",
);
const FORWARDED: Metric = Metric::counter(
    "syncline_forwarded_total",
    &["outcome"],
    "Messages and questions passed on to the node that holds their shard: answered, elsewhere (it holds it no longer), refused",
);
const MOVED: Metric = Metric::counter(
    "syncline_shards_moved_total",
    &["direction"],
    "Shards that this node took, or let go of for another node: taken, given",
);
const MEMBERS: Metric = Metric::gauge(
    "syncline_cluster_members",
    &[],
    "Nodes that are up as far as this one knows, itself included",
);
const MOVING: Metric =
    Metric::gauge("syncline_shards_moving", &[], "Shards on their way from this node to others");
const NAMESAKES: Metric = Metric::counter(
    "syncline_gossip_namesakes_total",
    &[],
    "Datagrams of another process under this node's name; more than none means that two nodes share a name",
);
const UNAUTHENTIC: Metric = Metric::counter(
    "syncline_gossip_unauthentic_total",
    &[],
    "Datagrams sealed with a key that is not held here, or changed on the way",
);
const PEER_CALLS: Metric = Metric::counter(
    "syncline_peer_calls_total",
    &["outcome"],
    "Requests to other nodes: answered, unknown (no answer came), not_sent, busy, refused",
);
const RESIDENTS: Metric = Metric::gauge("syncline_residents", &[], "Entities in memory");
const IN_FLIGHT_BYTES: Metric =
    Metric::gauge("syncline_in_flight_bytes", &[], "Size of the messages being worked on");
const CONFIG: Metric = Metric::gauge(
    "syncline_config_info",
    &["hash"],
    "Always 1; the hash of the integration that the node runs with",
);
const BUILD: Metric = Metric::gauge("syncline_build_info", &["version"], "Always 1; the program's version");

/// Every metric there is.
const METRICS: &[Metric] = &[
    INGRESS_EVENTS,
    DRIFT,
    HTTP_REQUESTS,
    MESSAGES,
    PROCESSES_BEGUN,
    PROCESSES_ENDED,
    PROCESS_DURATION,
    EFFECT_ATTEMPTS,
    EFFECT_DURATION,
    EFFECTS,
    EFFECT_AGE,
    REPLAYS,
    MESSAGE_DURATION,
    PANICS,
    CONFLICTS,
    OUTDATED,
    INSTANCES,
    EXCEPTIONS,
    BALANCE,
    MISSING,
    RECONCILED,
    MILESTONES,
    STEP_DURATION,
    STEP_OLDEST,
    PROCESS_LATE,
    SLO_INSTANCES,
    SLO_TARGET,
    SLO_BUDGET,
    QUEUE_DEPTH,
    QUEUE_PATIENT,
    LATE,
    QUEUE_OLDEST,
    CALLS,
    PAUSED,
    BREAKER,
    JOURNAL_DURATION,
    FENCED,
    SHARDS,
    LEASE_AGE,
    LEASE_MARGIN,
    HIGHEST_EPOCH,
    SUSPECT,
    FORWARDED,
    MOVED,
    MEMBERS,
    MOVING,
    NAMESAKES,
    UNAUTHENTIC,
    PEER_CALLS,
    RESIDENTS,
    IN_FLIGHT_BYTES,
    CONFIG,
    BUILD,
];

/// A message came in from `source`. `kind` is one of the source's types, or `unknown`: what a sender invents is no label.
/// `outcome` is one of `accepted`, `duplicate`, `bad_signature`, `stale`, `invalid`, `throttled`, `quarantined`.
pub fn ingress_event(source: &str, kind: &str, outcome: &'static str) {
    INGRESS_EVENTS.add(&[source, kind, outcome], 1);
}

/// A message of a known type differs from its schema, in a way that holds it or not.
pub fn drifted(source: &str, kind_of_message: &str, kind: &'static str, is_held: bool) {
    DRIFT.add(&[source, kind_of_message, kind, if is_held { "hold" } else { "accept" }], 1);
}

/// A record of `system` was compared with its entity. `class` is one of `equal`, `differs`, `missing`, `stale`, `unknown`.
pub fn reconciled(system: &str, process: &str, class: &'static str) {
    RECONCILED.add(&[system, process, class], 1);
}

/// A request was answered. `route` is the template, e.g. `/v1/entities/{kind}`; `unmatched` if there is none.
pub fn http_request(route: &str, method: &str, status: u16, took: Duration) {
    let method = match method {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
        _ => "other",
    };
    HTTP_REQUESTS.record(&[route, method, &status.to_string()], took);
}

/// An entity journaled a message. `verdict` is the word of its `Verdict`.
pub fn message_journaled(process: &str, verdict: &'static str) {
    MESSAGES.add(&[process, verdict], 1);
}

/// A system wanted to write a field that another owns. `policy` is the word of its `Policy`.
pub fn ownership_disputed(process: &str, owner: &str, policy: &'static str) {
    CONFLICTS.add(&[process, owner, policy], 1);
}

/// A message told nothing new. `reason`: older, same.
pub fn message_outdated(process: &str, source: &str, reason: &'static str) {
    OUTDATED.add(&[process, source, reason], 1);
}

/// A process instance began.
pub fn process_begun(process: &str) {
    PROCESSES_BEGUN.add(&[process], 1);
}

/// A process instance ended, so long after it began. `outcome` is the word of its `Ending`.
pub fn process_ended(process: &str, outcome: &'static str, took: Duration) {
    PROCESSES_ENDED.add(&[process, outcome], 1);
    PROCESS_DURATION.record(&[process], took);
}

/// A milestone of an instance: `outcome` is one of `in_time`, `missed`, `reached_late`.
pub fn milestone(process: &str, milestone: &str, outcome: &'static str) {
    MILESTONES.add(&[process, milestone, outcome], 1);
}

/// An instance left a state of its process.
pub fn step_left(process: &str, step: &str, lasted: Duration) {
    STEP_DURATION.record(&[process, step], lasted);
}

/// A call of another system ended. `outcome` is the word that delivery has for it.
pub fn effect_attempt(connector: &str, operation: &str, outcome: &'static str, took: Duration) {
    EFFECT_ATTEMPTS.add(&[connector, operation, outcome], 1);
    EFFECT_DURATION.record(&[connector, operation], took);
}

/// An effect ended, so long after it was journaled. `class` is one of `ok`, `failed`, `dead`, `cancelled`.
pub fn effect_settled(connector: &str, operation: &str, class: &'static str, age: Duration) {
    EFFECTS.add(&[connector, operation, class], 1);
    EFFECT_AGE.record(&[connector], age);
}

/// So many effects or messages are tried again. `kind` is one of `manual`, `bulk`, `auto`.
pub fn replayed(kind: &'static str, count: u64) {
    REPLAYS.add(&[kind], count);
}

/// A message was answered, `took` after it arrived at its entity.
pub fn message_answered(process: &str, took: Duration) {
    MESSAGE_DURATION.record(&[process], took);
}

/// A call of the store ended. `what` is the name of the call, `outcome` one of `ok`, `fenced`, `failed`.
pub fn journal_called(what: &'static str, outcome: &'static str, took: Duration) {
    JOURNAL_DURATION.record(&[what, outcome], took);
}

/// Another node took a shard.
pub fn fenced() {
    FENCED.add(&[], 1);
}

/// A message or a question was passed on to another node. `outcome` is one of `answered`, `elsewhere`, `refused`.
pub fn forwarded(outcome: &'static str) {
    FORWARDED.add(&[outcome], 1);
}

/// So many shards came or went as planned. `direction` is one of `taken`, `given`.
pub fn shards_moved(direction: &'static str, count: usize) {
    MOVED.add(&[direction], count as u64);
}

/// An actor panicked.
pub fn actor_panicked(process: &str) {
    PANICS.add(&[process], 1);
}

/// What a connector shows when metrics are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectorGauges {
    /// Effects that wait in the store.
    pub waiting: u64,
    /// Those of them that can wait.
    pub patient: u64,
    /// Whether it has kept something urgent waiting for longer than its class tolerates.
    pub late: bool,
    /// Since when the oldest of those is due that cannot wait.
    pub oldest: Duration,
    /// Calls under way.
    pub in_flight: u64,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// Whether its breaker holds calls back.
    pub breaker_open: bool,
}

/// What a node adds to the balance of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BalanceGauges {
    /// Messages answered with success.
    pub received: u64,
    /// Those of them that were known.
    pub duplicate: u64,
    /// Records of messages that it took in, by what became of them.
    pub applied: u64,
    /// See `applied`.
    pub ignored: u64,
    /// See `applied`.
    pub rejected: u64,
    /// See `applied`.
    pub quarantined: u64,
    /// See `applied`: they waited for their turn.
    pub deferred: u64,
    /// Messages that waited and had their turn in a shard of this node.
    pub resumed: u64,
    /// Answered with success and not in the journal.
    pub missing: u64,
}

/// What a node of a cluster shows when metrics are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClusterGauges {
    /// Nodes that are up, as far as it knows.
    pub members: u64,
    /// Shards on their way from it.
    pub moving: u64,
    /// Shards of the cluster that take nothing in until a person accepts what they have lost.
    pub suspect: u64,
    /// Datagrams under its own name, since the start.
    pub namesakes: u64,
    /// Datagrams under no known key, since the start.
    pub unauthentic: u64,
    /// Requests to other nodes by outcome, since the start.
    pub calls: [(&'static str, u64); 5],
}

/// An objective as this node counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SloGauges {
    /// Instances that reached the milestone in time.
    pub good: u64,
    /// Those that did not.
    pub bad: u64,
    /// Those that still may.
    pub open: u64,
    /// The share that should be good.
    pub target: f64,
    /// The share of the error budget that is left.
    pub budget_remaining: f64,
}

/// What is counted just before metrics are read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Process instances by (process, state).
    pub instances: BTreeMap<(String, String), u64>,
    /// Open exceptions by (process, class).
    pub exceptions: BTreeMap<(String, String), u64>,
    /// How long the oldest instance is in a state, by (process, state).
    pub oldest: BTreeMap<(String, String), Duration>,
    /// Late instances by process.
    pub late: BTreeMap<String, u64>,
    /// Objectives by name.
    pub slos: BTreeMap<String, SloGauges>,
    /// Connectors by name.
    pub connectors: BTreeMap<String, ConnectorGauges>,
    /// Polled sources that this node asks, and whether each fails for longer than its class tolerates.
    pub polls: BTreeMap<String, bool>,
    /// What it adds to the balance of each source.
    pub balance: BTreeMap<String, BalanceGauges>,
    /// Shards served here.
    pub shards: u64,
    /// The cluster, if the node is one of several.
    pub cluster: Option<ClusterGauges>,
    /// Since when the oldest of their leases was not renewed.
    pub lease_age: Duration,
    /// How long the node may go on without a renewal.
    pub lease_margin: Duration,
    /// The highest epoch of a shard served here.
    pub highest_epoch: u64,
    /// Entities in memory.
    pub residents: u64,
    /// Bytes of the messages being worked on.
    pub in_flight_bytes: u64,
    /// Hash of the integration.
    pub config_hash: String,
}

/// A series of a gauge: its name and the values of its labels.
type Series = (&'static str, Vec<String>);

impl Snapshot {
    fn gauges(&self) -> BTreeMap<Series, (Metric, f64)> {
        let mut gauges = BTreeMap::new();
        let mut put = |metric: Metric, labels: &[&str], value: f64| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            gauges.insert((metric.name, labels), (metric, value));
        };
        for ((process, state), count) in &self.instances {
            put(INSTANCES, &[process, state], float(*count));
        }
        for ((process, class), count) in &self.exceptions {
            put(EXCEPTIONS, &[process, class], float(*count));
        }
        for ((process, state), age) in &self.oldest {
            put(STEP_OLDEST, &[process, state], age.as_secs_f64());
        }
        for (process, late) in &self.late {
            put(PROCESS_LATE, &[process], float(*late));
        }
        for (name, slo) in &self.slos {
            for (outcome, count) in [("good", slo.good), ("bad", slo.bad), ("open", slo.open)] {
                put(SLO_INSTANCES, &[name, outcome], float(count));
            }
            put(SLO_TARGET, &[name], slo.target);
            put(SLO_BUDGET, &[name], slo.budget_remaining);
        }
        for (name, connector) in &self.connectors {
            put(QUEUE_DEPTH, &[name], float(connector.waiting));
            put(QUEUE_PATIENT, &[name], float(connector.patient));
            put(LATE, &["connector", name], f64::from(u8::from(connector.late)));
            put(QUEUE_OLDEST, &[name], connector.oldest.as_secs_f64());
            put(CALLS, &[name], float(connector.in_flight));
            put(PAUSED, &[name], f64::from(u8::from(connector.paused)));
            put(BREAKER, &[name], f64::from(u8::from(connector.breaker_open)));
        }
        for (source, line) in &self.balance {
            for (what, count) in [
                ("received", line.received),
                ("duplicate", line.duplicate),
                ("applied", line.applied),
                ("ignored", line.ignored),
                ("rejected", line.rejected),
                ("quarantined", line.quarantined),
                ("deferred", line.deferred),
                ("resumed", line.resumed),
            ] {
                put(BALANCE, &[source, what], float(count));
            }
            put(MISSING, &[source], float(line.missing));
        }
        for (name, late) in &self.polls {
            put(LATE, &["source", name], f64::from(u8::from(*late)));
        }
        if let Some(cluster) = &self.cluster {
            put(MEMBERS, &[], float(cluster.members));
            put(MOVING, &[], float(cluster.moving));
            put(SUSPECT, &[], float(cluster.suspect));
        }
        put(SHARDS, &[], float(self.shards));
        put(LEASE_AGE, &[], self.lease_age.as_secs_f64());
        put(LEASE_MARGIN, &[], self.lease_margin.as_secs_f64());
        put(HIGHEST_EPOCH, &[], float(self.highest_epoch));
        put(RESIDENTS, &[], float(self.residents));
        put(IN_FLIGHT_BYTES, &[], float(self.in_flight_bytes));
        put(CONFIG, &[&self.config_hash], 1.0);
        put(BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
        gauges
    }
}

impl Snapshot {
    /// Counters that others keep.
    fn reach(&self) {
        let Some(cluster) = &self.cluster else { return };
        NAMESAKES.reach(&[], cluster.namesakes);
        UNAUTHENTIC.reach(&[], cluster.unauthentic);
        for (outcome, total) in cluster.calls {
            PEER_CALLS.reach(&[outcome], total);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

/// The metrics of this process, or of a test.
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    reader: PrometheusHandle,
    /// Series of gauges that were set before: one that is no longer counted falls to 0 instead of staying as it was.
    seen: Mutex<BTreeSet<Series>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics of their own, for tests: only what happens within [`Metrics::during`] is counted.
    pub fn local() -> Self {
        let mut builder = PrometheusBuilder::new();
        for metric in METRICS {
            if let Kind::Histogram(buckets) = metric.kind {
                let name = metrics_exporter_prometheus::Matcher::Full(metric.name.to_owned());
                builder = builder.set_buckets_for_metric(name, buckets).expect("there are buckets");
            }
        }
        let recorder = builder.build_recorder();
        let reader = recorder.handle();
        metrics::with_local_recorder(&recorder, || METRICS.iter().for_each(Metric::describe));
        Self { recorder: Arc::new(recorder), reader, seen: Mutex::default() }
    }

    /// The metrics of this process. The first call begins to count; all get the same.
    pub fn of_process() -> Arc<Self> {
        static INSTALLED: OnceLock<Arc<Metrics>> = OnceLock::new();
        let install = || {
            let metrics = Self::local();
            if metrics::set_global_recorder(metrics.recorder.clone()).is_err() {
                tracing::warn!(
                    "something else records the metrics of this process; /metrics shows only gauges"
                );
            }
            series::begin();
            Arc::new(metrics)
        };
        INSTALLED.get_or_init(install).clone()
    }

    /// Runs `f` with all that it counts counted here.
    pub fn during<T>(&self, f: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&*self.recorder, || series::aside(f))
    }

    /// All metrics as text in Prometheus' format, with the gauges set to `snapshot`.
    pub fn render(&self, snapshot: &Snapshot) -> String {
        let gauges = snapshot.gauges();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.during(|| {
            for ((name, labels), (metric, value)) in &gauges {
                assert_eq!(*name, metric.name, "a series is of its metric");
                set(metric, labels, *value);
            }
            snapshot.reach();
            for (name, labels) in seen.iter().filter(|series| !gauges.contains_key(series)) {
                let metric = METRICS.iter().find(|metric| metric.name == *name);
                set(metric.expect("only known metrics are set"), labels, 0.0);
            }
        });
        seen.extend(gauges.into_keys());
        self.reader.render()
    }

    /// Tidies up what was counted. Call it every few seconds, or histograms keep each value until metrics are read.
    pub fn upkeep(&self) {
        self.reader.run_upkeep();
    }
}

fn set(metric: &Metric, labels: &[String], value: f64) {
    metric.set(&labels.iter().map(String::as_str).collect::<Vec<_>>(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let connector = ConnectorGauges {
            waiting: 3,
            oldest: Duration::from_secs(90),
            paused: true,
            ..Default::default()
        };
        Snapshot {
            instances: BTreeMap::from([(("order".to_owned(), "taxing".to_owned()), 7)]),
            exceptions: BTreeMap::from([(("order".to_owned(), "hold".to_owned()), 1)]),
            connectors: BTreeMap::from([("erp".to_owned(), connector)]),
            polls: BTreeMap::from([("accounts".to_owned(), true)]),
            balance: BTreeMap::from([(
                "crm".to_owned(),
                BalanceGauges { received: 9, applied: 7, ..BalanceGauges::default() },
            )]),
            shards: 85,
            cluster: Some(ClusterGauges {
                members: 3,
                suspect: 1,
                namesakes: 2,
                calls: [("answered", 5), ("unknown", 1), ("not_sent", 0), ("busy", 0), ("refused", 0)],
                ..ClusterGauges::default()
            }),
            lease_age: Duration::from_millis(1_500),
            lease_margin: Duration::from_secs(1),
            highest_epoch: 7,
            residents: 12,
            in_flight_bytes: 4096,
            config_hash: "ab12".to_owned(),
            oldest: BTreeMap::from([(("order".to_owned(), "taxing".to_owned()), Duration::from_mins(2))]),
            late: BTreeMap::from([("order".to_owned(), 2)]),
            slos: BTreeMap::from([(
                "order-booked".to_owned(),
                SloGauges { good: 19, bad: 1, open: 3, target: 0.9, budget_remaining: 0.5 },
            )]),
        }
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut names = BTreeSet::new();
        for metric in METRICS {
            let name = metric.name;
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.starts_with("syncline_"), "{name}: the prefix is missing");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}: odd characters");
            assert_eq!(
                name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{name}: `_total` is for counters"
            );
            if let Kind::Histogram(buckets) = metric.kind {
                assert!(name.ends_with("_seconds"), "{name}: the unit is missing");
                assert!(buckets.is_sorted_by(|a, b| a < b), "{name}: {buckets:?}");
            }
            for unit in ["_ms", "_millis", "_minutes", "_kb", "_percent"] {
                assert!(!name.contains(unit), "{name}: not a base unit");
            }
            assert!(metric.help.len() > 10 && !metric.help.ends_with('.'), "{name}: {:?}", metric.help);
        }
    }

    #[test]
    fn alerts_and_documents_name_metrics_that_are_there() {
        let texts = [
            ("rules.yml", include_str!("../deploy/prometheus/rules.yml")),
            ("slos.md", include_str!("../docs/slos.md")),
            ("operating.md", include_str!("../docs/operating.md")),
        ];
        for (file, text) in texts {
            let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
            let mut named = words.filter(|word| word.starts_with("syncline_")).peekable();
            assert!(named.peek().is_some(), "{file} names no metric");
            for name in named {
                let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
                let is_there = |name: &str| METRICS.iter().any(|metric| metric.name == name);
                assert!(is_there(name) || base.is_some_and(is_there), "{file}: there is no metric {name}");
            }
        }
    }

    #[test]
    fn no_label_can_take_the_value_of_an_id() {
        let bounded = [
            "source",
            "type",
            "outcome",
            "route",
            "method",
            "status",
            "process",
            "verdict",
            "direction",
            "connector",
            "operation",
            "class",
            "kind",
            "state",
            "hash",
            "version",
            "call",
            "owner",
            "policy",
            "reason",
            "system",
            "name",
            "what",
            "milestone",
            "step",
            "slo",
        ];
        for metric in METRICS {
            for label in metric.labels {
                assert!(bounded.contains(label), "{}: is the label {label} bounded?", metric.name);
            }
        }
    }

    #[test]
    fn what_is_counted_is_read() {
        let metrics = Metrics::local();
        metrics.during(|| {
            ingress_event("crm", "opportunity.confirmed", "accepted");
            ingress_event("crm", "opportunity.confirmed", "accepted");
            http_request("/hooks/{source}", "POST", 202, Duration::from_millis(20));
            http_request("/hooks/{source}", "BREW", 405, Duration::from_millis(1));
            message_journaled("order", "applied");
            process_begun("order");
            process_ended("order", "completed", Duration::from_secs(100));
            effect_attempt("erp", "create_order", "ok", Duration::from_millis(300));
            effect_settled("erp", "create_order", "ok", Duration::from_secs(2));
            replayed("bulk", 5);
            message_answered("order", Duration::from_millis(2));
            actor_panicked("order");
            journal_called("append", "ok", Duration::from_millis(2));
            journal_called("append", "fenced", Duration::from_millis(2));
            fenced();
            milestone("order", "booked", "missed");
            step_left("order", "taxing", Duration::from_secs(100));
        });
        let text = metrics.render(&snapshot());
        for line in [
            r#"syncline_ingress_events_total{source="crm",type="opportunity.confirmed",outcome="accepted"} 2"#,
            r#"syncline_http_request_duration_seconds_bucket{route="/hooks/{source}",method="POST",status="202",le="0.025"} 1"#,
            r#"syncline_http_request_duration_seconds_count{route="/hooks/{source}",method="other",status="405"} 1"#,
            r#"syncline_messages_total{process="order",verdict="applied"} 1"#,
            r#"syncline_process_begun_total{process="order"} 1"#,
            r#"syncline_process_instances_total{process="order",outcome="completed"} 1"#,
            r#"syncline_process_duration_seconds_bucket{process="order",le="300"} 1"#,
            r#"syncline_effect_attempts_total{connector="erp",operation="create_order",outcome="ok"} 1"#,
            r#"syncline_effects_total{connector="erp",operation="create_order",class="ok"} 1"#,
            r#"syncline_replays_total{kind="bulk"} 5"#,
            "syncline_message_duration_seconds_count{process=\"order\"} 1",
            r#"syncline_actor_panics_total{process="order"} 1"#,
            r#"syncline_process_instances{process="order",state="taxing"} 7"#,
            r#"syncline_exceptions_open{process="order",class="hold"} 1"#,
            r#"syncline_queue_depth{connector="erp"} 3"#,
            r#"syncline_queue_patient{connector="erp"} 0"#,
            r#"syncline_balance_messages{source="crm",what="applied"} 7"#,
            r#"syncline_balance_missing{source="crm"} 0"#,
            r#"syncline_integration_late{kind="connector",name="erp"} 0"#,
            r#"syncline_integration_late{kind="source",name="accounts"} 1"#,
            r#"syncline_queue_oldest_seconds{connector="erp"} 90"#,
            r#"syncline_connector_paused{connector="erp"} 1"#,
            r#"syncline_journal_duration_seconds_count{call="append",outcome="ok"} 1"#,
            r#"syncline_milestones_total{process="order",milestone="booked",outcome="missed"} 1"#,
            r#"syncline_step_duration_seconds_bucket{process="order",step="taxing",le="300"} 1"#,
            r#"syncline_step_oldest_seconds{process="order",step="taxing"} 120"#,
            r#"syncline_process_late{process="order"} 2"#,
            r#"syncline_slo_instances{slo="order-booked",outcome="bad"} 1"#,
            r#"syncline_slo_target_ratio{slo="order-booked"} 0.9"#,
            r#"syncline_slo_error_budget_remaining_ratio{slo="order-booked"} 0.5"#,
            "syncline_fenced_total 1",
            "syncline_shards_owned 85",
            r#"syncline_journal_duration_seconds_count{call="append",outcome="fenced"} 1"#,
            "syncline_lease_age_seconds 1.5",
            "syncline_lease_margin_seconds 1",
            "syncline_shard_epoch_highest 7",
            "syncline_shards_suspect 1",
            "syncline_cluster_members 3",
            "syncline_residents 12",
            "syncline_in_flight_bytes 4096",
            r#"syncline_config_info{hash="ab12"} 1"#,
            "# TYPE syncline_queue_depth gauge",
            "# HELP syncline_queue_depth Effects that wait in the store for a connector",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_gauge_that_is_no_longer_counted_falls_to_zero() {
        let metrics = Metrics::local();
        metrics.render(&snapshot());
        let text = metrics.render(&Snapshot::default());
        assert!(text.contains("syncline_process_instances{process=\"order\",state=\"taxing\"} 0"), "{text}");
        assert!(text.contains("syncline_config_info{hash=\"ab12\"} 0"), "{text}");
        assert!(!text.contains("} 7"), "{text}");
    }

    #[test]
    fn a_process_has_one_set_of_metrics() {
        let metrics = Metrics::of_process();
        assert!(Arc::ptr_eq(&metrics, &Metrics::of_process()));
        replayed("auto", 1);
        assert!(metrics.render(&Snapshot::default()).contains("syncline_replays_total{kind=\"auto\"} 1"));
    }
}

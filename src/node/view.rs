//! Entities, records and exceptions as the operations API shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_actors::decision::{self, Change, Verdict};
use syncline_actors::entity::State;
use syncline_actors::envelope::{Action, Body};
use syncline_actors::id::{EffectId, EntityId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow};
use syncline_actors::ownership::Policy;
use syncline_actors::process::Process;
use syncline_actors::record::Record;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::cluster::Cluster;
use super::orders::{Order, Orders};
use super::{polls, reconcile};
use crate::api::{self, raw};
use crate::delivery::{Breakers, ConnectorStatus};
use crate::gossip::Member;
use crate::ingress::source::Source;
use crate::journal::{Head, Holding};
use crate::telemetry::ClusterGauges;

/// Characters of a value that a sentence shows.
const PREVIEW: usize = 80;

/// Ascending numbers as short as they can be written: `0-4,9`.
fn ranges(numbers: &[u16]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let run = |run: &[u16]| match run {
        [first, .., last] => format!("{first}-{last}"),
        other => other.iter().map(ToString::to_string).collect(),
    };
    runs.map(run).collect::<Vec<_>>().join(",")
}

/// Orders about the cluster, in words.
fn standing(orders: &Orders) -> Vec<api::Standing> {
    let say = |text: String, order: &Order| api::Standing {
        order: text,
        by: order.by.clone(),
        reason: order.reason.clone(),
        at: order.at.clone(),
    };
    let placement =
        orders.placement.iter().map(|order| say("nothing moves for the sake of balance".to_owned(), order));
    let drains = orders.drains.iter().map(|(node, order)| say(format!("{node} drains"), order));
    let pins = orders.pins.iter().map(|(shard, order)| {
        say(format!("shard {shard} stays on {}", order.node.as_deref().unwrap_or_default()), order)
    });
    placement.chain(drains).chain(pins).collect()
}

pub(super) fn gauges(cluster: &Cluster) -> ClusterGauges {
    let (gossip, transport) = cluster.stats();
    let calls = transport.calls;
    ClusterGauges {
        members: cluster.members().count() as u64,
        moving: cluster.moving() as u64,
        suspect: cluster.suspect() as u64,
        namesakes: gossip.namesakes,
        unauthentic: gossip.unauthentic,
        calls: [
            ("answered", calls.answered),
            ("unknown", calls.unknown),
            ("not_sent", calls.not_sent),
            ("busy", calls.busy),
            ("refused", calls.refused + calls.too_large),
        ],
    }
}

pub(super) fn member(member: &Member) -> api::Member {
    let card = &member.card;
    api::Member {
        node: card.node.to_string(),
        boot: member.boot,
        http: card.http.to_string(),
        address: card.transport.to_string(),
        weight: card.weight,
        region: card.region.clone(),
        zone: card.zone.clone(),
        draining: card.draining,
    }
}

pub(super) fn cluster(
    node: String,
    not_ready: Option<String>,
    members: Vec<api::Member>,
    holdings: &[Holding],
    orders: &Orders,
) -> api::Cluster {
    let mut holders: BTreeMap<(&str, u64), api::Holder> = BTreeMap::new();
    let mut held: BTreeMap<(&str, u64), Vec<u16>> = BTreeMap::new();
    let (mut free, mut suspect) = (0, Vec::new());
    for holding in holdings {
        if let Some(why) = &holding.suspect {
            suspect.push(api::Suspect { shard: holding.shard.0, why: why.clone() });
        }
        let over = holding.left.is_some_and(|left| left.is_zero());
        let Some(name) = holding.node.as_ref().filter(|_| !over) else {
            free += 1;
            continue;
        };
        let left = holding.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let new = || api::Holder {
            node: name.to_string(),
            boot: holding.boot,
            shards: 0,
            which: String::new(),
            lease_ms: left,
        };
        held.entry((&name.0, holding.boot)).or_default().push(holding.shard.0);
        let holder = holders.entry((&name.0, holding.boot)).or_insert_with(new);
        holder.shards += 1;
        holder.lease_ms = holder.lease_ms.min(left);
    }
    for (of, holder) in &mut holders {
        holder.which = ranges(held.get(of).map(Vec::as_slice).unwrap_or_default());
    }
    api::Cluster {
        node,
        not_ready,
        members,
        holders: holders.into_values().collect(),
        free,
        suspect,
        unplaced: BTreeMap::new(),
        moving: 0,
        orders: standing(orders),
    }
}

/// Who owns the fields that have an owner, and who wrote what stands in them.
fn owners(process: Option<&Process>, state: &State) -> BTreeMap<String, api::Owned> {
    let owned = process.into_iter().flat_map(|process| &process.fields);
    let known = |field: &str| state.origins.as_ref().and_then(|origins| origins.of(field));
    let show = |(name, field): (&String, &syncline_actors::process::Field)| {
        let ownership = field.ownership.as_ref()?;
        let known = known(name);
        let owned = api::Owned {
            owner: ownership.owner.to_string(),
            conflict: ownership.policy.word().to_owned(),
            by: known.map(|known| known.by.to_string()),
            at: known.map(|known| known.at.to_string()),
            revision: known.and_then(|known| known.revision.as_ref()).map(Value::to_plain_text),
        };
        Some((name.clone(), owned))
    };
    owned.filter_map(show).collect()
}

/// How the systems stand that the record is told to.
fn systems(state: &State) -> BTreeMap<String, api::Synced> {
    let known = state.origins.iter().flat_map(|origins| &origins.systems);
    let show = |(name, synced): (&Arc<str>, &syncline_actors::ownership::Synced)| {
        let stand = synced.stand.word().to_owned();
        (name.to_string(), api::Synced { stand, since: synced.since.to_string() })
    };
    known.map(show).collect()
}

pub(super) fn entity(
    id: &EntityId,
    state: &State,
    process: Option<&Process>,
    outbox: &[OutboxRow],
) -> api::Entity {
    let waiting: BTreeMap<EffectId, &OutboxRow> = outbox.iter().map(|row| (row.effect.id, row)).collect();
    api::Entity {
        id: id.to_string(),
        status: state.status.to_string(),
        since: state.since.to_string(),
        version: state.version,
        seq: state.seq,
        began_at: state.began_at.to_string(),
        ending: state.ending.map(|ending| ending.word().to_owned()),
        correlation_id: state.correlation_id.to_string(),
        fields: raw(&state.fields),
        owners: owners(process, state),
        systems: systems(state),
        pending: state.pending.values().map(|effect| pending(id, effect, waiting.get(&effect.id))).collect(),
        steps: state.steps.iter().map(step).collect(),
        timers: state.timers.iter().map(|(name, (_, due))| (name.to_string(), due.to_string())).collect(),
        reached: state.reached.iter().map(ToString::to_string).collect(),
        missed: state.missed.iter().map(ToString::to_string).collect(),
        waiting: state.deferred.iter().map(|waiting| waiting.body.name().to_owned()).collect(),
        exceptions: state.exceptions.values().map(|exception| open(id, exception, state)).collect(),
    }
}

fn pending(id: &EntityId, effect: &decision::Effect, row: Option<&&OutboxRow>) -> api::Pending {
    api::Pending {
        effect: effect.id.to_string(),
        name: effect.name.to_string(),
        connector: effect.connector.to_string(),
        operation: effect.operation.to_string(),
        idempotency_key: effect.id.idempotency_key(id),
        due: row.map(|row| row.progress.due.to_string()),
        attempts: row.map_or(0, |row| row.progress.attempts),
        last: row.map(|row| row.progress.last.to_string()).unwrap_or_default(),
    }
}

fn step(step: &syncline_actors::entity::Step) -> api::Step {
    api::Step { name: step.name.to_string(), undone: step.undone, result: raw(&step.result) }
}

fn open(id: &EntityId, exception: &decision::Exception, state: &State) -> api::Exception {
    api::Exception {
        id: format!("{id}#{}", exception.number),
        entity: id.to_string(),
        class: exception.class.word().to_owned(),
        summary: exception.summary.to_string(),
        detail: raw(&exception.detail),
        owner: exception.owner.to_string(),
        opened_at: None,
        correlation_id: state.correlation_id.to_string(),
    }
}

pub(super) fn exception(row: &ExceptionRow) -> api::Exception {
    api::Exception {
        id: row.id(),
        entity: row.entity.to_string(),
        class: row.exception.class.word().to_owned(),
        summary: row.exception.summary.to_string(),
        detail: raw(&row.exception.detail),
        owner: row.exception.owner.to_string(),
        opened_at: Some(row.opened_at.to_string()),
        correlation_id: row.correlation_id.to_string(),
    }
}

pub(super) fn head(head: &Head) -> api::Head {
    api::Head {
        id: head.entity.to_string(),
        status: head.status.to_string(),
        seq: head.seq,
        ended: head.ended,
        updated_at: head.updated_at.to_string(),
    }
}

pub(super) fn connector(status: &ConnectorStatus, orders: &Orders, now: Timestamp) -> api::Connector {
    let paused_by =
        orders.connectors.get(&*status.name).map(|order| format!("{}: {}", order.by, order.reason));
    api::Connector {
        name: status.name.to_string(),
        title: status.title.to_string(),
        owner: status.owner.team.to_string(),
        class: status.class.into(),
        late: status.is_late(now),
        paused: status.paused,
        paused_by,
        slots: status.slots,
        breaker: match status.breaker {
            Breakers::Closed => "closed",
            Breakers::Open { .. } => "open",
            Breakers::Trying => "trying",
        }
        .to_owned(),
        in_flight: status.in_flight,
        waiting: status.waiting,
        patient: status.patient,
        oldest: status.oldest.map(|oldest| oldest.to_string()),
        throttled_until: status.throttled_until.map(|until| until.to_string()),
    }
}

pub(super) fn source(source: &Source, state: Option<&State>) -> api::Source {
    let poll = source.poll.as_ref().map(|poll| api::PollState {
        call: poll.call.value.clone(),
        schedule: poll.schedule.to_string(),
        status: state.map(|state| state.status.to_string()).unwrap_or_default(),
        late: state.is_some_and(polls::is_late),
        fields: state.map(polls::summary).unwrap_or_default(),
    });
    api::Source {
        name: source.name.to_string(),
        title: source.title.clone(),
        owner: source.owner.team.to_string(),
        escalate: source.owner.escalate.to_string(),
        class: source.class.into(),
        sends: source.sends,
        poll,
    }
}

pub(super) fn reconciliation(run: &EntityId, state: &State) -> api::Reconciliation {
    let text = |field: &str| state.field(field).map(Value::to_plain_text).unwrap_or_default();
    let number = |field: &str| {
        state.field(field).and_then(Value::as_int).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
    };
    let drift = state.field("drift").cloned().unwrap_or_default();
    api::Reconciliation {
        id: run.to_string(),
        system: text("system"),
        process: text("kind"),
        by: text("by"),
        began: text("began"),
        status: state.status.to_string(),
        ended: state.ending.is_some(),
        dry_run: state.field("dry_run").and_then(Value::as_bool).unwrap_or(false),
        checked: number("checked"),
        skipped: number("skipped"),
        equal: number("equal"),
        differs: number("differs"),
        missing: number("missing"),
        stale: number("stale"),
        unknown: number("unknown"),
        unread: number("unread"),
        repaired: number("repaired"),
        taken: number("taken"),
        unrepaired: number("unrepaired"),
        by_field: reconcile::by_field(&drift),
        drift: raw(&drift),
    }
}

/// The names of effects, by id: a record of an outcome holds only the id.
pub(super) type Names = BTreeMap<EffectId, Arc<str>>;

/// The names of all effects that `state` and `records` know.
pub(super) fn names(state: &State, records: &[Record]) -> Names {
    let pending = state.pending.values().chain(state.parked.values());
    let emitted = records.iter().flat_map(|record| &record.changes).filter_map(|change| match change {
        Change::Emitted(effect) | Change::Reissued(effect) => Some(effect),
        _ => None,
    });
    let steps = state.steps.iter().map(|step| (step.effect, step.name.clone()));
    pending.chain(emitted).map(|effect| (effect.id, effect.name.clone())).chain(steps).collect()
}

pub(super) fn entry(record: &Record, names: &Names) -> api::Entry {
    let envelope = &record.envelope;
    api::Entry {
        seq: record.seq,
        at: envelope.at.to_string(),
        source: envelope.source.to_string(),
        message_id: envelope.id.to_string(),
        kind: kind(&envelope.body).to_owned(),
        name: name(&envelope.body, names),
        verdict: record.answer.verdict.word().to_owned(),
        problem: match &record.answer.verdict {
            Verdict::Rejected(rejection) => Some(rejection.to_string()),
            _ => None,
        },
        status: record.answer.status.to_string(),
        changes: record.changes.iter().map(|change| sentence(change, names)).collect(),
        data: envelope.body.data().map(raw),
        correlation_id: envelope.correlation_id.to_string(),
        causation_id: envelope.causation_id.as_deref().map(str::to_owned),
        evidence_bytes: envelope.evidence.as_ref().map_or(0, |evidence| evidence.body.0.len()),
        prev: record.prev.to_string(),
    }
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::Command(_) => "command",
        Body::Event(_) => "event",
        Body::Outcome(_) => "outcome",
        Body::Timer(_) => "timer",
        Body::Intervention(_) => "intervention",
    }
}

/// What happened, as short as a name.
fn name(body: &Body, names: &Names) -> String {
    match body {
        Body::Command(command) => command.name.to_string(),
        Body::Event(event) => event.name.to_string(),
        Body::Outcome(outcome) => format!("{} {}", effect(outcome.effect, names), outcome.class.word()),
        Body::Timer(timer) => format!("timer {}", timer.name),
        Body::Intervention(by) => {
            let what = match by.action {
                Action::Retry { .. } => "retried",
                Action::Resolve { .. } => "resolved",
                Action::Migrate(_) => "migrated",
            };
            format!("{what} by {}: {}", by.by, by.reason)
        }
    }
}

/// An effect by id and name.
fn effect(id: EffectId, names: &Names) -> String {
    match names.get(&id) {
        Some(name) => format!("effect {id} {name}"),
        None => format!("effect {id}"),
    }
}

fn sentence(change: &Change, names: &Names) -> String {
    let preview = |value: &Value| value.preview(PREVIEW);
    match change {
        Change::Began { version } => format!("began on version {version}"),
        Change::Assigned { field, value } => format!("{field} = {}", preview(value)),
        Change::Entered { state } => format!("entered {state}"),
        Change::Emitted(effect) => {
            format!("effect {} {}: {}.{}", effect.id, effect.name, effect.connector, effect.operation)
        }
        Change::Settled { effect: id, class, .. } => format!("{} {}", effect(*id, names), class.word()),
        Change::CalledOff { effect: id } => format!("{} called off", effect(*id, names)),
        Change::Reissued(effect) => format!("effect {} {} tried again", effect.id, effect.name),
        Change::TimerSet { name, due } => format!("timer {name} set for {due}"),
        Change::TimerCleared { name } => format!("timer {name} cleared"),
        Change::Compensating { reason } => format!("compensating: {reason}"),
        Change::Compensated => "compensated".to_owned(),
        Change::MilestoneReached { name } => format!("milestone {name} reached"),
        Change::MilestoneMissed { name } => format!("milestone {name} missed"),
        Change::Deferred { body, .. } => format!("{} waits for its turn", body.name()),
        Change::Resumed { id } => format!("message {id} had its turn"),
        Change::Opened(exception) => format!("exception {}: {}", exception.class.word(), exception.summary),
        Change::Closed { exception, by, reason } => format!("exception {exception} closed by {by}: {reason}"),
        Change::Parked { effect, .. } => format!("effect {} {} waits for a person", effect.id, effect.name),
        Change::Resolved { effect, .. } => format!("effect {} {} resolved by hand", effect.id, effect.name),
        Change::Refused(rejection) => format!("refused: {rejection}"),
        Change::Ended { ending } => format!("ended: {}", ending.word()),
        Change::Migrated { version, state, .. } => {
            format!("goes on under version {version} in state {state}")
        }
        Change::Committed => "what was done so far stands".to_owned(),
        Change::Written { field, value, by, .. } => format!("{field} = {} (by {by})", preview(value)),
        Change::Disputed { field, value, by, owner, policy } => {
            let became = match policy {
                Policy::Reject => "not written",
                Policy::Hold => "held for a person",
                Policy::Accept => "written all the same",
            };
            format!("{by} says {field} = {}, and {owner} owns it: {became}", preview(value))
        }
        Change::Revised { source, revision, .. } => {
            format!("revision {} of {source}", revision.to_plain_text())
        }
        Change::WaitsFrom { id, source } => format!("message {id} is from {source}"),
        Change::Synced { system, stand, .. } => format!("{system} is {}", stand.word().replace('_', " ")),
        Change::Superseded { effect: id } => format!("{} was done again since", effect(*id, names)),
        Change::Forgotten { effect: id } => format!("{} is no longer among the steps", effect(*id, names)),
    }
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn numbers_are_written_as_runs() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[7]), "7");
        assert_eq!(ranges(&[0, 1, 2, 9, 20, 21]), "0-2,9,20-21");
    }
}

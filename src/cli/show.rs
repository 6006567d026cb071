//! What a node answers, as a person likes to read it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::value::RawValue;
use syncline_actors::time::Timestamp;

use super::json::spaced;
use super::output::Output;
use super::paint::{Style, tone};
use crate::api::{
    Balance, BatchReport, Cluster, Connector, DriftReport, Entity, Entry, Exception, Head, Holder, Member,
    Outcome, Page, Pending, Process, Reconciliation, Slo, Source,
};
use crate::clock::{Clock as _, SystemClock};

/// An entity with all that belongs to it.
pub(super) fn entity(entity: &Entity, out: Output) -> String {
    let status = out.paint(tone(&entity.status).unwrap_or(Style::Bold), &entity.status);
    let mut shown = format!("{}  {status}\n\n", out.paint(Style::Bold, &entity.id));
    let timers = entity.timers.iter().map(|(name, due)| format!("{name} {}", from_now(due)));
    shown.push_str(&out.facts([
        ("since", format!("{} ({})", time(&entity.since), from_now(&entity.since))),
        ("ended", entity.ending.clone().unwrap_or_default()),
        ("began", format!("{}, on version {}", time(&entity.began_at), entity.version)),
        ("records", entity.seq.to_string()),
        ("flow", entity.correlation_id.clone()),
        ("reached", entity.reached.join(", ")),
        ("missed", entity.missed.join(", ")),
        ("deferred", entity.waiting.join(", ")),
        ("timers", timers.collect::<Vec<_>>().join("\n")),
    ]));
    let mut part = |title: &str, text: String| {
        let _ = write!(shown, "\n\n{}\n{text}", out.paint(Style::Bold, title));
    };
    if !entity.exceptions.is_empty() {
        part("Waits for a person", exception_list(&entity.exceptions, out));
    }
    if !entity.pending.is_empty() {
        part("On its way", pending(&entity.pending, out));
    }
    if !entity.steps.is_empty() {
        let rows = entity.steps.iter().map(|step| {
            let word = if step.undone { "undone" } else { "ok" };
            [step.name.clone(), word.to_owned(), spaced(step.result.get())]
        });
        part("Done", out.table(&["step", "", "result"], rows));
    }
    part("Fields", out.facts(fields(&entity.fields)));
    shown
}

fn pending(pending: &[Pending], out: Output) -> String {
    let rows = pending.iter().map(|effect| {
        let call = format!("{}.{}", effect.connector, effect.operation);
        let due = effect.due.as_deref().map(from_now).unwrap_or_default();
        [effect.name.clone(), call, effect.attempts.to_string(), due, effect.last.clone()]
    });
    out.table(&["effect", "call", "attempts", "due", "last answer"], rows)
}

/// Fields and their values; of a list, one element a line.
fn fields(fields: &RawValue) -> Vec<(String, String)> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(fields.get()).unwrap_or_default();
    let value = |value: &RawValue| match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
        Ok(items) if items.iter().any(|item| item.get().starts_with('{')) => {
            items.iter().map(|item| spaced(item.get())).collect::<Vec<_>>().join("\n")
        }
        _ => spaced(value.get()),
    };
    members.into_iter().map(|(name, raw)| (name, value(raw))).collect()
}

/// What happened, a block for each record.
pub(super) fn timeline(page: &Page<Entry>, id: &str, out: Output) -> String {
    let mut shown = out.paint(Style::Bold, id);
    let mut before = None;
    for entry in &page.items {
        let moved = if before == Some(&entry.status) {
            String::new()
        } else {
            format!("  → {}", out.paint(tone(&entry.status).unwrap_or(Style::Bold), &entry.status))
        };
        before = Some(&entry.status);
        let verdict = out.paint(tone(&entry.verdict).unwrap_or(Style::Bold), &entry.verdict);
        let _ = write!(
            shown,
            "\n\n{:>3}  {}  {} from {}  {verdict}{moved}",
            entry.seq,
            time(&entry.at),
            out.paint(Style::Bold, &entry.name),
            entry.source
        );
        if let Some(problem) = &entry.problem {
            let _ = write!(shown, "\n     {}", out.paint(Style::Bad, problem));
        }
        let told = [entry.name.clone(), format!("entered {}", entry.status)];
        for change in entry.changes.iter().filter(|change| !told.contains(change)) {
            let style = if change.starts_with("exception ") { Style::Odd } else { Style::Dim };
            let _ = write!(shown, "\n     {}", out.paint(style, change));
        }
    }
    with_next(shown, page.next.as_deref(), "--from")
}

/// Entities in a list.
pub(super) fn heads(page: &Page<Head>, out: Output) -> String {
    let rows = page
        .items
        .iter()
        .map(|head| [head.id.clone(), head.status.clone(), head.seq.to_string(), time(&head.updated_at)]);
    with_next(out.table(&["entity", "state", "records", "changed"], rows), page.next.as_deref(), "--after")
}

/// Exceptions in a list.
pub(super) fn exceptions(page: &Page<Exception>, out: Output) -> String {
    if page.items.is_empty() {
        return "nothing waits for a person".to_owned();
    }
    let shown = exception_list(&page.items, out);
    let shown = with_next(shown, page.next.as_deref(), "--after");
    let how = "Decide with: syncline exceptions retry|resolve ID --reason WHY";
    format!("{shown}\n\n{}", out.paint(Style::Dim, how))
}

/// A block for each, so that ids stand whole however narrow the terminal is.
fn exception_list(exceptions: &[Exception], out: Output) -> String {
    let width =
        |of: fn(&Exception) -> &str| exceptions.iter().map(|e| of(e).chars().count()).max().unwrap_or(0);
    let (id, class) = (width(|e| &e.id), width(|e| &e.class));
    let block = |exception: &Exception| {
        let head = out.paint(Style::Bold, &format!("{:id$}", exception.id));
        let tone = tone(&exception.class).unwrap_or(Style::Odd);
        let class = out.paint(tone, &format!("{:class$}", exception.class));
        let since =
            exception.opened_at.as_deref().map(|at| format!(", {}", from_now(at))).unwrap_or_default();
        format!("{head}  {class}  {}{since}\n    {}", exception.owner, exception.summary)
    };
    exceptions.iter().map(block).collect::<Vec<_>>().join("\n")
}

/// Where messages have come away from their schemas.
pub(super) fn drift(report: &DriftReport, out: Output) -> String {
    if report.items.is_empty() {
        return "every message is as its schema says".to_owned();
    }
    let rows = report.items.iter().map(|item| {
        let counts = [item.count, item.held, item.waiting].map(|n| n.to_string());
        let [count, held, waiting] = counts;
        let message = format!("{} {}", item.source, item.event_type);
        [message, item.kind.clone(), item.path.clone(), count, held, waiting, item.entities.join(" ")]
    });
    out.table(&["message", "drift", "where", "seen", "held", "waiting", "meant for"], rows)
}

/// Sources in a list.
pub(super) fn sources(sources: &[Source], out: Output) -> String {
    let rows = sources.iter().map(|source| {
        let class = format!("{}, {}", source.class.latency, source.class.criticality);
        let hooks = source.sends.then(|| "webhooks".to_owned());
        let polled = source.poll.as_ref().map(|poll| format!("{} {}", poll.call, poll.schedule));
        let how = hooks.into_iter().chain(polled).collect::<Vec<_>>().join(", ");
        let (state, cursor) = source.poll.as_ref().map_or_else(Default::default, |poll| {
            let state = if poll.late { format!("{} (late)", poll.status) } else { poll.status.clone() };
            (state, poll.fields.get("cursor").cloned().unwrap_or_default())
        });
        [source.name.clone(), source.title.clone(), source.owner.clone(), class, how, state, cursor]
    });
    out.table(&["source", "system", "owner", "class", "how", "state", "cursor"], rows)
}

/// What came from each source, and what became of it.
pub(super) fn balance(lines: &[Balance], out: Output) -> String {
    let rows = lines.iter().map(|line| {
        let counts = [
            line.received,
            line.applied,
            line.ignored,
            line.rejected,
            line.quarantined,
            line.open,
            line.duplicate,
            line.missing,
        ];
        std::iter::once(line.source.clone()).chain(counts.map(|count| count.to_string())).collect::<Vec<_>>()
    });
    let head = [
        "source",
        "received",
        "applied",
        "ignored",
        "rejected",
        "quarantined",
        "open",
        "duplicate",
        "missing",
    ];
    out.table(&head, rows)
}

/// Rows of a report that are shown to people.
const LINES_SHOWN: usize = 20;

/// What became of a file.
pub(super) fn batch(report: &BatchReport, out: Output) -> String {
    let counts = [
        ("rows", report.rows),
        ("accepted", report.accepted),
        ("duplicate", report.duplicate),
        ("quarantined", report.quarantined),
        ("rejected", report.rejected),
    ];
    let mut shown = out.facts(counts.map(|(name, count)| (name, count.to_string())));
    for row in report.lines.iter().take(LINES_SHOWN) {
        let _ = write!(shown, "\nline {}  {}  {}", row.line, row.fate, row.why);
    }
    let more = report.lines.len().saturating_sub(LINES_SHOWN) as u64 + report.untold;
    if more > 0 {
        let _ = write!(shown, "\n… and {more} more");
    }
    shown
}

/// Runs of reconciliation, and what does not agree.
pub(super) fn reconciliations(runs: &[Reconciliation], out: Output) -> String {
    let rows = runs.iter().map(|run| {
        let what = format!("{} in {}", run.process, run.system);
        let counts = [run.checked, run.equal, run.differs, run.missing, run.unknown, run.stale, run.unread];
        let done = [run.repaired + run.taken, run.unrepaired];
        let state = if run.dry_run { format!("{} (dry run)", run.status) } else { run.status.clone() };
        let numbers = counts.into_iter().chain(done).map(|count| count.to_string());
        [time(&run.began), what, state].into_iter().chain(numbers).collect::<Vec<_>>()
    });
    let head = [
        "began", "what", "state", "checked", "equal", "differ", "missing", "unknown", "stale", "unread",
        "repaired", "left",
    ];
    let mut shown = out.table(&head, rows);
    for run in runs {
        let drift: Vec<Drifted> = serde_json::from_str(run.drift.get()).unwrap_or_default();
        for one in drift.iter().take(LINES_SHOWN) {
            let _ = write!(shown, "\n{}", drifted(run, one));
        }
        if drift.len() > LINES_SHOWN {
            let _ = write!(
                shown,
                "\n… and {} more: syncline entity timeline {}",
                drift.len() - LINES_SHOWN,
                run.id
            );
        }
    }
    shown
}

/// A record that does not agree, as a run tells it.
#[derive(serde::Deserialize)]
struct Drifted<'r> {
    class: &'r str,
    #[serde(default)]
    key: String,
    #[serde(borrow, default)]
    fields: Vec<DriftedField<'r>>,
    #[serde(default)]
    done: &'r str,
    #[serde(default)]
    what: String,
}

/// A field of it.
#[derive(serde::Deserialize)]
struct DriftedField<'r> {
    field: String,
    #[serde(borrow)]
    ours: &'r RawValue,
    #[serde(borrow)]
    theirs: &'r RawValue,
}

/// `order/SO-3 differs in crm: status is "Draft", not "Shipped"; repaired`.
fn drifted(run: &Reconciliation, one: &Drifted<'_>) -> String {
    let (record, system) = (format!("{}/{}", run.process, one.key), &run.system);
    let mut said = match one.class {
        "unread" => format!("a record could not be read from {system}: {}", one.what),
        "unknown" => format!("{record} is unknown here, and stands in {system}"),
        "missing" => format!("{record} is missing in {system}"),
        "stale" => format!("{record} is stale: something for {system} is on its way"),
        class => format!("{record} {class} in {system}"),
    };
    for (n, field) in one.fields.iter().enumerate() {
        let before = if n == 0 { ":" } else { "," };
        let (ours, theirs) = (spaced(field.ours.get()), spaced(field.theirs.get()));
        let _ = write!(said, "{before} {} is {theirs}, not {ours}", field.field);
    }
    match one.done {
        "repair" => said.push_str("; repaired"),
        "taken" => said.push_str("; taken over"),
        _ => {}
    }
    said
}

/// Connectors in a list.
pub(super) fn connectors(connectors: &[Connector], out: Output) -> String {
    let rows = connectors.iter().map(|connector| {
        let state = match connector.breaker.as_str() {
            _ if connector.paused => "paused".to_owned(),
            _ if connector.throttled_until.is_some() => "throttled".to_owned(),
            "closed" if connector.late => "late".to_owned(),
            "closed" => "running".to_owned(),
            other => format!("breaker {other}"),
        };
        let waiting = match (connector.waiting, connector.patient) {
            (None, _) => "?".to_owned(),
            (Some(waiting), None | Some(0)) => waiting.to_string(),
            (Some(waiting), Some(patient)) => format!("{waiting} ({patient} can wait)"),
        };
        let class = format!("{}, {}", connector.class.latency, connector.class.criticality);
        let oldest = connector.oldest.as_deref().map(from_now).unwrap_or_default();
        let calls = connector.in_flight.to_string();
        let of = (connector.name.clone(), connector.title.clone(), connector.owner.clone());
        [of.0, of.1, of.2, class, state, calls, waiting, oldest]
    });
    out.table(&["connector", "system", "owner", "class", "state", "calls", "waiting", "oldest"], rows)
}

/// The nodes that share a store.
pub(super) fn cluster(cluster: &Cluster, out: Output) -> String {
    let lease =
        |lease: Option<u64>| lease.map_or_else(|| "its own store".to_owned(), |ms| format!("{ms} ms"));
    let row = |node: &str, boot: u64, holder: Option<&Holder>, member: Option<&Member>| {
        let here = if node == cluster.node { " (answers)" } else { "" };
        let label = |label: Option<&String>| label.cloned().unwrap_or_else(|| "-".to_owned());
        [
            format!("{node}{here}"),
            boot.to_string(),
            match member {
                Some(member) if member.draining => "drains",
                Some(_) => "up",
                None if cluster.members.is_empty() => "-",
                None => "away",
            }
            .to_owned(),
            holder.map_or(0, |holder| holder.shards).to_string(),
            holder.map_or_else(|| "-".to_owned(), |holder| lease(holder.lease_ms)),
            member.map_or_else(|| "-".to_owned(), |member| member.weight.to_string()),
            label(member.and_then(|member| member.region.as_ref())),
            label(member.and_then(|member| member.zone.as_ref())),
            member.map_or_else(|| "-".to_owned(), |member| member.http.clone()),
        ]
    };
    let holder_of = |member: &Member| {
        cluster.holders.iter().find(|holder| holder.node == member.node && holder.boot == member.boot)
    };
    let members =
        cluster.members.iter().map(|member| row(&member.node, member.boot, holder_of(member), Some(member)));
    let is_member = |holder: &Holder| {
        cluster.members.iter().any(|member| member.node == holder.node && member.boot == holder.boot)
    };
    let others = cluster.holders.iter().filter(|holder| !is_member(holder));
    let others = others.map(|holder| row(&holder.node, holder.boot, Some(holder), None));
    let titles = ["node", "start", "state", "shards", "lease", "weight", "region", "zone", "API"];
    let mut shown = out.table(&titles, members.chain(others));
    if cluster.free > 0 {
        let _ = write!(shown, "\n\n{} shards are held by nobody", cluster.free);
    }
    if let Some(why) = &cluster.not_ready {
        let _ = write!(shown, "\n\n{} takes nothing in: {why}", cluster.node);
    }
    for (why, count) in &cluster.unplaced {
        let _ = write!(shown, "\n\n{count} shards may be held by nobody: {why}");
    }
    for standing in &cluster.orders {
        let crate::api::Standing { order, by, reason, at } = standing;
        let _ = write!(shown, "\n\n{order}, by {by} since {at}: {reason}");
    }
    for suspect in &cluster.suspect {
        let text = format!("shard {} is suspect: {}", suspect.shard, suspect.why);
        let _ = write!(shown, "\n\n{}", out.paint(Style::Bad, &text));
    }
    shown
}

/// What a decision led to.
pub(super) fn outcome(outcome: &Outcome, out: Output) -> String {
    let verdict = out.paint(tone(&outcome.verdict).unwrap_or(Style::Bold), &outcome.verdict);
    let why = outcome.problem.as_deref().map(|problem| format!(": {problem}")).unwrap_or_default();
    format!("{}: {verdict}{why}; now in state {} (record {})", outcome.entity, outcome.status, outcome.seq)
}

fn with_next(shown: String, next: Option<&str>, option: &str) -> String {
    match next {
        Some(next) => format!("{shown}\n\nThere are more: add {option} {next}"),
        None => shown,
    }
}

/// A time as people write it.
fn time(text: &str) -> String {
    text.replacen('T', " ", 1)
}

/// How far a time is from now: `12m ago`, `in 3h`.
fn from_now(text: &str) -> String {
    Timestamp::parse(text).map_or_else(|| text.to_owned(), |at| distance(at.0 - SystemClock.now().0))
}

fn distance(ms: i64) -> String {
    let seconds = ms.unsigned_abs() / 1000;
    let span = match seconds {
        0 => return "now".to_owned(),
        1..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    };
    if ms < 0 { format!("{span} ago") } else { format!("in {span}") }
}

/// How the processes stand, a line each, and a line for each step.
pub(super) fn processes(processes: &[Process], out: Output) -> String {
    let rows = processes.iter().flat_map(|process| {
        let counts = [
            process.open,
            process.late,
            process.completed,
            process.in_time,
            process.cancelled,
            process.failed,
        ];
        let first = std::iter::once(process.process.clone()).chain(counts.map(|count| count.to_string()));
        let head = first.chain([String::new()]).collect::<Vec<_>>();
        let steps = process.states.iter().map(|state| {
            let oldest = format!("{} {}", state.oldest, from_now(&state.since));
            let mut row = vec![format!("  {}", state.state), state.open.to_string(), state.late.to_string()];
            row.extend([const { String::new() }; 4]);
            row.push(oldest);
            row
        });
        std::iter::once(head).chain(steps).collect::<Vec<_>>()
    });
    out.table(
        &["process", "open", "late", "completed", "in time", "cancelled", "failed", "waits longest"],
        rows,
    )
}

/// What is left of the error budgets.
pub(super) fn slos(slos: &[Slo], out: Output) -> String {
    let share = |ratio: f64| format!("{:.2} %", ratio * 100.0);
    let rows = slos.iter().map(|slo| {
        let left = share(slo.budget_remaining);
        let left = if slo.budget_remaining <= 0.0 { out.paint(Style::Bad, &left) } else { left };
        [
            slo.name.clone(),
            share(slo.target),
            slo.ratio.map_or_else(|| "-".to_owned(), share),
            left,
            slo.good.to_string(),
            slo.bad.to_string(),
            slo.open.to_string(),
            format!("{} {}", slo.owner, slo.escalate),
        ]
    });
    out.table(&["objective", "target", "in time", "budget left", "good", "late", "open", "owner"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_in_time_has_one_unit() {
        let shown = [0, -999, -1_000, 119_999, -120_000, -7_200_000, 172_799_999, 172_800_000].map(distance);
        assert_eq!(shown, ["now", "now", "1s ago", "in 119s", "2m ago", "2h ago", "in 47h", "in 2d"]);
    }

    #[test]
    fn a_list_of_maps_has_a_line_for_each() {
        let raw = RawValue::from_string(r#"{"b":[{"q":1.0},{"q":2}],"a":["x","y"]}"#.to_owned()).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(fields(&raw), [pair("a", r#"["x", "y"]"#), pair("b", "{\"q\": 1.0}\n{\"q\": 2}")]);
    }
}

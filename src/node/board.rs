//! What was counted, as the operations API and the metrics show it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use syncline_actors::process::{Catalog, Process};
use syncline_actors::slo::{Board, Score, Slo, Tally};
use syncline_actors::time::Timestamp;

use crate::api;
use crate::telemetry::{SloGauges, Snapshot};

/// The board of all nodes.
pub(super) fn show(board: &Board, slos: &[Slo], catalog: &Catalog, now: Timestamp) -> api::Board {
    let newest = |name: &str| catalog.newest(name).cloned();
    let nothing = Tally::default();
    let process = |(name, tally): (&Arc<str>, &Tally)| Some(process(newest(name)?.as_ref(), tally, now));
    let slo = |slo: &Slo| {
        let score = board.get(slo.process.value.as_str()).unwrap_or(&nothing).scores.get(&slo.name);
        objective(slo, score.copied().unwrap_or_default(), newest(&slo.process.value).as_deref())
    };
    api::Board {
        as_of: None,
        silent: Vec::new(),
        processes: board.iter().filter_map(process).collect(),
        slos: slos.iter().map(slo).collect(),
    }
}

fn process(process: &Process, tally: &Tally, now: Timestamp) -> api::Process {
    let state = |(name, here): (&Arc<str>, &syncline_actors::slo::InState)| {
        let (since, key) = here.oldest.clone()?;
        Some(api::InState {
            state: name.to_string(),
            open: here.open,
            late: here.late,
            oldest: format!("{}/{key}", process.name),
            since: since.to_string(),
            seconds: now.since(since).as_secs(),
        })
    };
    let mut states: Vec<_> = tally.states.iter().filter_map(state).collect();
    states.sort_by_key(|state| Reverse(state.seconds));
    api::Process {
        process: process.name.to_string(),
        title: process.title.clone(),
        owner: process.owner.team.to_string(),
        escalate: process.owner.escalate.to_string(),
        open: tally.open,
        late: tally.late,
        completed: tally.completed,
        in_time: tally.in_time,
        cancelled: tally.cancelled,
        failed: tally.failed,
        states,
    }
}

fn objective(slo: &Slo, score: Score, process: Option<&Process>) -> api::Slo {
    let milestone = process.and_then(|process| process.milestones.get(slo.milestone.value.as_str()));
    let owner = process.map(|process| process.owner.clone()).unwrap_or_default();
    api::Slo {
        name: slo.name.to_string(),
        title: slo.title.clone(),
        process: slo.process.value.clone(),
        milestone: slo.milestone.value.clone(),
        within_seconds: milestone.map(|milestone| milestone.within.as_secs()),
        target: slo.target,
        window_seconds: slo.window.as_secs(),
        good: score.good,
        bad: score.bad,
        open: score.open,
        ratio: score.ratio(),
        budget_remaining: slo.budget_remaining(&score),
        owner: owner.team.to_string(),
        escalate: owner.escalate.to_string(),
    }
}

/// Puts what this node has counted among its gauges.
pub(super) fn gauges(board: &Board, slos: &[Slo], now: Timestamp, snapshot: &mut Snapshot) {
    for (kind, tally) in board {
        snapshot.late.insert(kind.to_string(), tally.late);
        for (state, here) in &tally.states {
            let age = here.oldest.as_ref().map_or(Duration::ZERO, |(since, _)| now.since(*since));
            snapshot.oldest.insert((kind.to_string(), state.to_string()), age);
        }
    }
    let of = |slo: &Slo| {
        let score = board.get(slo.process.value.as_str()).and_then(|tally| tally.scores.get(&slo.name));
        let score = score.copied().unwrap_or_default();
        let Score { good, bad, open } = score;
        let budget_remaining = slo.budget_remaining(&score);
        (slo.name.to_string(), SloGauges { good, bad, open, target: slo.target, budget_remaining })
    };
    snapshot.slos = slos.iter().map(of).collect::<BTreeMap<_, _>>();
}

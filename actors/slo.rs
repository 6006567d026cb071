//! Service level objectives, and how far the instances of a process have come: counted from their states.
//!
//! An objective says which share of the instances of a window reaches a milestone in time. It is written in the form of
//! [OpenSLO](https://openslo.com) v1, of which this reads a subset: one service and one objective a file, a ratio of a milestone's
//! instances, a rolling window. What is counted can be added up: each node counts its own entities.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decision::Ending;
use crate::document::{Fields, Item, Place, Spanned};
use crate::entity::State;
use crate::process::Process;
use crate::time::Timestamp;

/// How long ended instances are counted.
pub const WINDOW: Duration = Duration::from_hours(30 * 24);

/// Longest window of an objective: what is older may be thrown away.
const WINDOW_MAX: Duration = Duration::from_hours(90 * 24);

/// What is promised of a process: so many of its instances reach a milestone in time.
#[derive(Debug, Clone)]
pub struct Slo {
    /// Its name.
    pub name: Arc<str>,
    /// What people call it.
    pub title: String,
    /// The process, OpenSLO's service.
    pub process: Spanned<String>,
    /// The milestone that good instances reach in time.
    pub milestone: Spanned<String>,
    /// Which share of them should, above 0 and below 1.
    pub target: f64,
    /// Instances that began in this time are counted.
    pub window: Duration,
    /// Where it is defined.
    pub place: Place,
}

impl Slo {
    /// How much of the error budget is left of `score`: 1 all of it, 0 nothing, less when it is overspent.
    pub fn budget_remaining(&self, score: &Score) -> f64 {
        score.ratio().map_or(1.0, |ratio| 1.0 - (1.0 - ratio) / (1.0 - self.target))
    }
}

/// Reads an objective; what is wrong goes to the reader.
pub fn parse(item: &Item<'_>) -> Option<Slo> {
    let mut top = item.fields()?;
    top.choice("apiVersion", &[("openslo/v1", ())]);
    top.choice("kind", &[("SLO", ())]);
    let (name, title) = top.map("metadata").map(metadata).unwrap_or_default();
    let spec = top.map("spec");
    top.finish();
    let mut spec = spec?;
    spec.optional_text("description");
    let process = spec.text("service");
    let milestone = spec.map("indicator").and_then(|indicator| indicator_of(indicator, process.as_ref()));
    let window = window(&mut spec);
    spec.choice("budgetingMethod", &[("Occurrences", ())]);
    let target = target(&mut spec);
    spec.finish();
    let name = name?;
    Some(Slo {
        title: title.unwrap_or_else(|| name.value.clone()),
        name: name.value.into(),
        process: process?,
        milestone: milestone?,
        target: target?,
        window: window?,
        place: item.place().clone(),
    })
}

fn metadata(mut fields: Fields<'_>) -> (Option<Spanned<String>>, Option<String>) {
    let (name, title) = (fields.text("name"), fields.optional_text("displayName").map(|title| title.value));
    let plain = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if let Some(name) = name.as_ref().filter(|name| name.value.is_empty() || !plain(&name.value)) {
        let message = format!("`{}` is no name of an objective", name.value);
        name.refuse(
            fields.item().reader(),
            message,
            "use lower-case letters, digits and `-`, e.g. `order-booked`",
        );
    }
    fields.optional("labels");
    fields.optional("annotations");
    fields.finish();
    (name, title)
}

/// `{spec: {ratioMetric: {good: {…milestone}, total: {…process}}}}`.
fn indicator_of(mut indicator: Fields<'_>, process: Option<&Spanned<String>>) -> Option<Spanned<String>> {
    indicator.optional_map("metadata").map(metadata);
    let spec = indicator.map("spec");
    indicator.finish();
    let mut spec = spec?;
    let ratio = spec.map("ratioMetric");
    spec.finish();
    let mut ratio = ratio?;
    let reader = ratio.item().reader();
    ratio.boolean("counter", true);
    let milestone = ratio.map("good").and_then(|good| metric(good, "milestone"));
    let total = ratio.map("total").and_then(|total| metric(total, "process"));
    ratio.finish();
    if let (Some(total), Some(process)) = (total, process)
        && total.value != process.value
    {
        let message =
            format!("the total is of process `{}`, the service is `{}`", total.value, process.value);
        total.refuse(reader, message, "let both name one process");
    }
    milestone
}

/// `{metricSource: {type: syncline, spec: {<what>: …}}}`.
fn metric(mut fields: Fields<'_>, what: &str) -> Option<Spanned<String>> {
    let source = fields.map("metricSource");
    fields.finish();
    let mut source = source?;
    source.choice("type", &[("syncline", ())]);
    let spec = source.map("spec");
    source.finish();
    let mut spec = spec?;
    let named = spec.text(what);
    spec.finish();
    named
}

/// The one rolling window.
fn window(spec: &mut Fields<'_>) -> Option<Duration> {
    let windows = spec.list("timeWindow")?;
    let [window] = &windows[..] else {
        spec.item().refuse(
            "an objective has one time window",
            "write `timeWindow: [{duration: 28d, isRolling: true}]`",
        );
        return None;
    };
    let mut fields = window.fields()?;
    let duration = fields.duration("duration");
    if !fields.boolean("isRolling", false) {
        window.refuse("only rolling windows are known", "write `{duration: 28d, isRolling: true}`");
    }
    fields.finish();
    let duration = duration?;
    if duration.value.is_zero() || duration.value > WINDOW_MAX {
        let fix = "write `duration: 28d`";
        duration.refuse(window.reader(), "a window lasts between nothing and 90 days", fix);
        return None;
    }
    Some(duration.value)
}

/// The one target.
fn target(spec: &mut Fields<'_>) -> Option<f64> {
    let objectives = spec.list("objectives")?;
    let [objective] = &objectives[..] else {
        spec.item().refuse(
            "a file holds one objective",
            "write `objectives: [{target: 0.99}]`, and a file for each",
        );
        return None;
    };
    let mut fields = objective.fields()?;
    fields.optional_text("displayName");
    let target = fields.number::<f64>("target");
    fields.finish();
    let target = target?;
    if !(target.value > 0.0 && target.value < 1.0) {
        let fix = "write a ratio, e.g. `target: 0.99`; at 1 there would be no error budget";
        target.refuse(objective.reader(), "a target lies between 0 and 1", fix);
        return None;
    }
    Some(target.value)
}

/// Instances that count towards an objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Score {
    /// Those that reached the milestone in time.
    pub good: u64,
    /// Those that did not.
    pub bad: u64,
    /// Those that still may.
    pub open: u64,
}

impl Score {
    /// The share of the good; none as long as nothing is decided.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn ratio(&self) -> Option<f64> {
        let decided = self.good + self.bad;
        (decided > 0).then(|| self.good as f64 / decided as f64)
    }

    fn add(&mut self, other: Self) {
        self.good += other.good;
        self.bad += other.bad;
        self.open += other.open;
    }
}

/// Instances in one state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InState {
    /// How many.
    pub open: u64,
    /// How many of them are late.
    pub late: u64,
    /// Since when the one that waits longest is there, and which it is.
    pub oldest: Option<(Timestamp, Arc<str>)>,
}

/// The instances of one process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Those that have not ended.
    pub open: u64,
    /// Of these, those that have missed a milestone and not reached it since.
    pub late: u64,
    /// Those that ended as wished, in [`WINDOW`].
    pub completed: u64,
    /// Of these, those that missed no milestone.
    pub in_time: u64,
    /// Those that were called off, in [`WINDOW`].
    pub cancelled: u64,
    /// Those that were given up, in [`WINDOW`].
    pub failed: u64,
    /// Those that have not ended, by state.
    pub states: BTreeMap<Arc<str>, InState>,
    /// The scores of its objectives, by name.
    pub scores: BTreeMap<Arc<str>, Score>,
}

/// Every process, by name.
pub type Board = BTreeMap<Arc<str>, Tally>;

impl Tally {
    /// Counts one instance, whose last record is of `updated_at`.
    pub fn see(&mut self, slos: &[Slo], key: &str, state: &State, updated_at: Timestamp, now: Timestamp) {
        if !state.has_begun() {
            return;
        }
        match state.ending {
            None => self.see_open(key, state),
            Some(_) if now.since(updated_at) > WINDOW => {}
            Some(Ending::Completed) => {
                self.completed += 1;
                self.in_time += u64::from(state.missed.is_empty());
            }
            Some(Ending::Cancelled) => self.cancelled += 1,
            Some(Ending::Failed) => self.failed += 1,
        }
        for slo in slos.iter().filter(|slo| now.since(state.began_at) <= slo.window) {
            self.scores.entry(slo.name.clone()).or_default().add(score(slo, state));
        }
    }

    fn see_open(&mut self, key: &str, state: &State) {
        let is_late = state.missed.iter().any(|missed| !state.reached.contains(missed));
        self.open += 1;
        self.late += u64::from(is_late);
        let here = self.states.entry(state.status.clone()).or_default();
        here.open += 1;
        here.late += u64::from(is_late);
        if here.oldest.as_ref().is_none_or(|(since, _)| state.since < *since) {
            here.oldest = Some((state.since, key.into()));
        }
    }

    /// Adds what another node has counted.
    pub fn add(&mut self, other: &Self) {
        self.open += other.open;
        self.late += other.late;
        self.completed += other.completed;
        self.in_time += other.in_time;
        self.cancelled += other.cancelled;
        self.failed += other.failed;
        for (name, there) in &other.states {
            let here = self.states.entry(name.clone()).or_default();
            here.open += there.open;
            here.late += there.late;
            here.oldest = [here.oldest.take(), there.oldest.clone()].into_iter().flatten().min();
        }
        for (name, there) in &other.scores {
            self.scores.entry(name.clone()).or_default().add(*there);
        }
    }
}

/// What one instance is to an objective. One that was called off before the milestone counts neither way.
fn score(slo: &Slo, state: &State) -> Score {
    let milestone = slo.milestone.value.as_str();
    let (reached, missed) = (state.reached.contains(milestone), state.missed.contains(milestone));
    let (good, bad, open) = match (state.ending, reached, missed) {
        (_, _, true) | (Some(Ending::Failed), false, false) => (0, 1, 0),
        (_, true, false) => (1, 0, 0),
        (None, false, false) => (0, 0, 1),
        (Some(_), false, false) => (0, 0, 0),
    };
    Score { good, bad, open }
}

/// Whether a process has the milestone of an objective.
pub fn has_milestone(process: &Process, slo: &Slo) -> bool {
    process.milestones.contains_key(slo.milestone.value.as_str())
}

#[cfg(test)]
mod tests;

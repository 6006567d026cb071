//! An entity: what it is after all that happened, and how one fact changes it.
//!
//! [`decide`](crate::decide::decide) answers a message; the host journals the answer; [`apply`] folds it. What was journaled must
//! apply: there is no way for `apply` to refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decision::{Change, Effect, Ending, Exception};
use crate::envelope::{Body, OutcomeClass};
use crate::id::EffectId;
use crate::ownership::{Origins, Provenance, Revision, Stand, Synced};
use crate::record::Record;
use crate::time::Timestamp;
use crate::value::Value;

/// What an entity is after the records folded into it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// The last record folded in; 0 before the first.
    pub seq: u64,
    /// Version of the process it stays on; 0 before it began.
    pub version: u32,
    /// The state of the process it is in; empty before it began.
    pub status: Arc<str>,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// When it began.
    pub began_at: Timestamp,
    /// Its business data: a map of the process's fields.
    pub fields: Value,
    /// Effects that wait for their outcome.
    pub pending: BTreeMap<EffectId, Effect>,
    /// What was done outside since the last commit and could be undone, in the order in which it succeeded.
    pub steps: Vec<Step>,
    /// Effects that ended otherwise than `ok` and that a person may try again, by the exception about them.
    pub parked: BTreeMap<u64, Effect>,
    /// Set while what was done is being undone: why.
    pub compensating: Option<Arc<str>>,
    /// Timers that run: name to (token, due).
    pub timers: BTreeMap<Arc<str>, (u64, Timestamp)>,
    /// Milestones reached.
    pub reached: BTreeSet<Arc<str>>,
    /// Milestones missed.
    pub missed: BTreeSet<Arc<str>>,
    /// Messages that wait for their turn, in the order they came.
    pub deferred: Vec<Waiting>,
    /// Exceptions that are open, by number.
    pub exceptions: BTreeMap<u64, Exception>,
    /// How it ended, if it has.
    pub ending: Option<Ending>,
    /// The business flow it began in.
    pub correlation_id: Arc<str>,
    /// Where what it knows came from, if its process has owners of fields, revisions or subscribers.
    pub origins: Option<Box<Origins>>,
}

/// An effect that succeeded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The effect.
    pub effect: EffectId,
    /// Its name in the process.
    pub name: Arc<str>,
    /// What was sent.
    pub input: Value,
    /// What came back.
    pub result: Value,
    /// Whether it has been undone.
    pub undone: bool,
}

/// A message that waits for its turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its id.
    pub id: Arc<str>,
    /// The record that holds it.
    pub seq: u64,
    /// What it asks or tells.
    pub body: Body,
}

impl State {
    /// Whether the entity exists: some message began it.
    pub fn has_begun(&self) -> bool {
        self.version > 0
    }

    /// The field at a dotted path; null when there is none.
    pub fn field(&self, path: &str) -> Option<&Value> {
        self.fields.path(path)
    }

    /// Folds a whole record.
    pub fn fold(&mut self, record: &Record) {
        debug_assert_eq!(record.seq, self.seq + 1, "records are folded in order, without a gap");
        self.seq = record.seq;
        for change in &record.changes {
            apply(self, change, record.seq, record.envelope.at);
        }
        if self.correlation_id.is_empty() {
            self.correlation_id = record.envelope.correlation_id.clone();
        }
    }

    /// The newest step of that name which stands, i.e. is not undone.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().rev().find(|step| &*step.name == name && !step.undone)
    }

    /// Bytes it holds in memory, about.
    pub fn weight(&self) -> usize {
        let effects: usize =
            self.pending.values().chain(self.parked.values()).map(|e| 128 + e.input.weight()).sum();
        let steps: usize = self.steps.iter().map(|s| 96 + s.input.weight() + s.result.weight()).sum();
        let waiting: usize = self.deferred.iter().map(|w| 96 + w.body.data().map_or(0, Value::weight)).sum();
        let origins = self.origins.as_ref().map_or(0, |origins| origins.weight());
        512 + self.fields.weight() + effects + steps + waiting + 256 * self.exceptions.len() + origins
    }

    /// The system that an effect of this id is to bring up to date, if it is one of those.
    pub fn synced_by(&self, effect: EffectId) -> Option<&Arc<str>> {
        let systems = &self.origins.as_ref()?.systems;
        systems.iter().find(|(_, synced)| synced.stand == Stand::Pending { effect }).map(|(name, _)| name)
    }

    fn origins(&mut self) -> &mut Origins {
        self.origins.get_or_insert_default()
    }
}

/// Folds one fact: `seq` and `at` are those of its record.
pub fn apply(state: &mut State, change: &Change, seq: u64, at: Timestamp) {
    match change {
        Change::Began { version } => {
            state.version = *version;
            state.began_at = at;
            state.fields = Value::Map(Arc::default());
        }
        Change::Assigned { field, value } => state.fields.set_path(field, value.clone()),
        Change::Entered { state: status } => {
            state.status = status.clone();
            state.since = at;
        }
        Change::Emitted(effect) => {
            state.pending.insert(effect.id, effect.clone());
        }
        Change::Reissued(effect) => {
            state.parked.retain(|_, parked| parked.id != effect.id);
            state.pending.insert(effect.id, effect.clone());
        }
        Change::Settled { effect, class, result } => settle(state, *effect, *class, result),
        Change::TimerSet { name, due } => {
            state.timers.insert(name.clone(), (seq, *due));
        }
        Change::TimerCleared { name } => {
            state.timers.remove(name);
        }
        Change::Compensating { reason } => state.compensating = Some(reason.clone()),
        Change::Compensated => state.compensating = None,
        Change::MilestoneReached { name } => {
            state.reached.insert(name.clone());
        }
        Change::MilestoneMissed { name } => {
            state.missed.insert(name.clone());
        }
        Change::Deferred { id, body } => {
            state.deferred.push(Waiting { id: id.clone(), seq, body: body.clone() });
        }
        Change::Resumed { id } => {
            state.deferred.retain(|waiting| waiting.id != *id);
            if let Some(origins) = &mut state.origins {
                origins.waiting.remove(id);
            }
        }
        Change::Opened(exception) => {
            state.exceptions.insert(exception.number, exception.clone());
        }
        Change::Closed { exception, .. } => {
            state.exceptions.remove(exception);
            state.parked.remove(exception);
        }
        Change::Parked { exception, effect } => {
            state.parked.insert(*exception, effect.clone());
        }
        Change::Resolved { effect, result } => done(state, effect.clone(), result),
        Change::CalledOff { .. } | Change::Refused(_) => {}
        Change::Ended { ending } => state.ending = Some(*ending),
        Change::Migrated { version, state: status, fields } => {
            state.version = *version;
            state.status = status.clone();
            state.fields = fields.clone();
        }
        Change::Committed => commit(state),
        Change::Superseded { effect } => state.steps.retain(|step| step.effect != *effect),
        Change::Forgotten { effect } => state.steps.retain(|step| step.effect != *effect),
        Change::Written { .. }
        | Change::Disputed { .. }
        | Change::Revised { .. }
        | Change::WaitsFrom { .. }
        | Change::Synced { .. } => trace(state, change, at),
    }
}

/// Folds a fact about where something came from, or where it went.
fn trace(state: &mut State, change: &Change, at: Timestamp) {
    match change {
        Change::Written { field, value, by, revision, owned } => {
            state.fields.set_path(field, value.clone());
            let known = Provenance { by: by.clone(), at, revision: revision.clone(), owned: *owned };
            state.origins().fields.insert(field.clone(), known);
        }
        Change::Revised { source, revision, digest } => {
            let newest = Revision { revision: revision.clone(), digest: *digest };
            state.origins().revisions.insert(source.clone(), newest);
        }
        Change::WaitsFrom { id, source } => {
            state.origins().waiting.insert(id.clone(), source.clone());
        }
        Change::Synced { system, stand, digest } => {
            let synced = Synced { stand: *stand, digest: *digest, since: at };
            state.origins().systems.insert(system.clone(), synced);
        }
        _ => {}
    }
}

/// An effect has ended.
fn settle(state: &mut State, id: EffectId, class: OutcomeClass, result: &Value) {
    let Some(effect) = state.pending.remove(&id) else { return };
    // What a system was told of a record is told again at each change: it is no step that could be undone.
    if class == OutcomeClass::Ok && state.synced_by(id).is_none() {
        done(state, effect, result);
    }
}

/// Forgets the steps, save those whose answer waits for a person to be followed.
fn commit(state: &mut State) {
    let waits = |effect: EffectId| {
        let outcomes = state.deferred.iter().filter_map(|waiting| match &waiting.body {
            Body::Outcome(outcome) => Some(outcome.effect),
            _ => None,
        });
        outcomes.into_iter().any(|waiting| waiting == effect)
    };
    let steps = std::mem::take(&mut state.steps);
    state.steps = steps.into_iter().filter(|step| waits(step.effect)).collect();
}

/// What succeeded becomes a step, and what undid a step marks it undone.
fn done(state: &mut State, effect: Effect, result: &Value) {
    if let Some(undone) = effect.undoes {
        state.steps.iter_mut().filter(|step| step.effect == undone).for_each(|step| step.undone = true);
        return;
    }
    let Effect { id, name, input, .. } = effect;
    state.steps.push(Step { effect: id, name, input, result: result.clone(), undone: false });
}

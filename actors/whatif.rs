//! What if: an entity's journal once more, under another definition.
//!
//! What came from outside comes as it was recorded and when it was. Systems are not asked: an effect is answered as the effect of its
//! name was answered then, and one that was never answered stays without an answer. Timers that both definitions have fire when they
//! did; those that only the new one has fire when they are due. The result says how the entity ends otherwise, and where it first
//! went another way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::decide::{decide, refusal};
use crate::decision::{BusinessKey, Change, Decision, Effect, Exception, Rejection};
use crate::entity::State;
use crate::envelope::{Action, Body, Envelope, Intervention, Outcome, OutcomeClass, TimerFired};
use crate::id::EffectId;
use crate::mask::Mask;
use crate::process::Process;
use crate::record::Record;
use crate::time::Timestamp;
use crate::value::{SmolStr, Value};

mod tally;

pub use tally::{Group, Tally};

/// Records of an entity's own making (answers, timers) that follow on one recorded message; more, and it goes round in circles.
const OWN_MAX: usize = 500;

/// Characters of a value that are shown.
const PREVIEW: usize = 60;

/// How an entity would have ended otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where it first went another way: the message, and what was other.
    pub cause: String,
    /// The record at which it did.
    pub record: u64,
    /// The state it is in, and would be in, if they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<(String, String)>,
    /// Fields that differ, with what they are and would be.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, (String, String)>,
    /// Effects that were sent and would not be, or the other way round: how often they were, and would be.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub effects: BTreeMap<String, (usize, usize)>,
    /// Effects that would be sent as often, with other content.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub inputs: BTreeSet<String>,
    /// Messages that were answered otherwise: the message, its verdict and what it would be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<(String, String, String)>,
    /// What would wait for a person and does not, or the other way round: how often it does, and would.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exceptions: BTreeMap<String, (usize, usize)>,
    /// Effects that would wait for an answer which nobody knows.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unanswered: BTreeSet<String>,
}

/// Why a journal cannot be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Skipped {
    /// Its first records are kept no longer.
    #[error("its first records are not kept any more")]
    NoBeginning,
    /// It goes round in circles under the new definition.
    #[error("it goes round in circles under the new definition")]
    Circles,
}

/// Runs a whole journal, in order from its first record, under `process`. None: the entity ends as it did.
///
/// # Errors
/// [`Skipped`]: nothing can be said of it.
pub fn run(process: &Process, journal: &[Record]) -> Result<Option<Difference>, Skipped> {
    if journal.first().is_none_or(|first| first.seq != 1) {
        return Err(Skipped::NoBeginning);
    }
    let mut run = Run::new(process, journal);
    for record in journal {
        run.step(record)?;
    }
    Ok(run.difference())
}

struct Run<'r> {
    process: &'r Process,
    /// As it was.
    old: State,
    /// As it would be.
    new: State,
    /// The names of the effects of the journal.
    names: BTreeMap<EffectId, Arc<str>>,
    /// Answers that the journal still holds, by the effect's name.
    to_come: BTreeMap<Arc<str>, usize>,
    /// Answers that have come and wait for an effect of that name.
    answers: BTreeMap<Arc<str>, VecDeque<Outcome>>,
    business: BTreeSet<BusinessKey>,
    sent: [BTreeMap<Arc<str>, Vec<Value>>; 2],
    verdicts: Vec<(String, String, String)>,
    cause: Option<(u64, String)>,
}

const OLD: usize = 0;
const NEW: usize = 1;

impl<'r> Run<'r> {
    fn new(process: &'r Process, journal: &[Record]) -> Self {
        let changes = journal.iter().flat_map(|record| &record.changes);
        let names: BTreeMap<_, _> = changes
            .filter_map(|change| match change {
                Change::Emitted(effect) | Change::Reissued(effect) => Some((effect.id, effect.name.clone())),
                _ => None,
            })
            .collect();
        let mut to_come = BTreeMap::new();
        for record in journal {
            if let Some(name) = outcome(record).and_then(|outcome| names.get(&outcome.effect)) {
                *to_come.entry(name.clone()).or_default() += 1;
            }
        }
        Self {
            process,
            old: State::default(),
            new: State::default(),
            names,
            to_come,
            answers: BTreeMap::new(),
            business: BTreeSet::new(),
            sent: Default::default(),
            verdicts: Vec::new(),
            cause: None,
        }
    }

    fn step(&mut self, record: &Record) -> Result<(), Skipped> {
        let envelope = &record.envelope;
        self.own_timers(envelope)?;
        let verdict = match &envelope.body {
            Body::Command(_) | Body::Event(_) => {
                Some(self.take(envelope, envelope.body.clone(), envelope.at))
            }
            Body::Outcome(outcome) => {
                if let Some(name) = self.names.get(&outcome.effect).cloned() {
                    *self.to_come.entry(name.clone()).or_insert(1) -= 1;
                    self.answers.entry(name).or_default().push_back(outcome.clone());
                }
                None
            }
            Body::Timer(timer) => {
                self.fire(envelope, &timer.name, envelope.at);
                None
            }
            Body::Intervention(by) => self.intervene(envelope, by),
        };
        self.answer(envelope)?;
        note(&mut self.sent[OLD], &record.changes);
        self.old.fold(record);
        self.compare(record, verdict);
        Ok(())
    }

    /// Where the two first go apart.
    fn compare(&mut self, record: &Record, verdict: Option<&'static str>) {
        let name = self.name_of(record);
        let was = record.answer.verdict.word();
        let other = verdict.filter(|verdict| *verdict != was);
        if let Some(verdict) = other {
            self.verdicts.push((name.clone(), was.to_owned(), verdict.to_owned()));
        }
        if self.cause.is_some() {
            return;
        }
        let count = |of: usize| -> BTreeMap<&Arc<str>, usize> {
            self.sent[of].iter().map(|(name, inputs)| (name, inputs.len())).collect()
        };
        let (old, new) = (&self.old, &self.new);
        let what = if old.status != new.status {
            format!("in state `{}`, would be in `{}`", old.status, new.status)
        } else if let Some(verdict) = other {
            format!("{was}, would be {verdict}")
        } else if count(OLD) != count(NEW) {
            let names = |this: usize, other: usize| {
                let (this, other) = (count(this), count(other));
                let more = this.iter().filter(|(name, n)| other.get(*name).is_none_or(|m| m < n));
                more.map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(", ")
            };
            let (more, less) = (names(NEW, OLD), names(OLD, NEW));
            match (more.is_empty(), less.is_empty()) {
                (false, true) => format!("would send {more}"),
                (true, _) => format!("would not send {less}"),
                (false, false) => format!("would send {more} instead of {less}"),
            }
        } else {
            return;
        };
        self.cause = Some((record.seq, format!("`{name}`: {what}")));
    }

    fn name_of(&self, record: &Record) -> String {
        match &record.envelope.body {
            Body::Outcome(outcome) => {
                let name = self.names.get(&outcome.effect).map_or("?", |name| &**name);
                format!("{name}.{}", outcome.class.word())
            }
            Body::Timer(timer) => timer.name.to_string(),
            body => body.name().to_owned(),
        }
    }

    /// Timers that the old definition does not have fire when they are due, before what comes next.
    fn own_timers(&mut self, next: &Envelope) -> Result<(), Skipped> {
        for _ in 0..OWN_MAX {
            let is_shared = |name: &Arc<str>, due: Timestamp| {
                self.old.timers.get(name).is_some_and(|(_, own)| *own == due)
            };
            let timers = self.new.timers.iter().filter(|(name, (_, due))| !is_shared(name, *due));
            let due = timers.map(|(name, (_, due))| (*due, name.clone())).min();
            let Some((due, name)) = due.filter(|(due, _)| *due <= next.at) else { return Ok(()) };
            self.fire(next, &name, due);
            self.answer(next)?;
        }
        Err(Skipped::Circles)
    }

    fn fire(&mut self, envelope: &Envelope, name: &Arc<str>, at: Timestamp) {
        if let Some((token, _)) = self.new.timers.get(name).copied() {
            self.take(envelope, Body::Timer(TimerFired { name: name.clone(), token }), at);
        }
    }

    /// Answers every effect that waits and whose answer is known by now.
    fn answer(&mut self, envelope: &Envelope) -> Result<(), Skipped> {
        for _ in 0..OWN_MAX {
            let known = |effect: &&Effect| self.answers.get(&effect.name).is_some_and(|all| !all.is_empty());
            let Some(effect) = self.new.pending.values().find(known) else { return Ok(()) };
            let (id, name) = (effect.id, effect.name.clone());
            let outcome = self.answers.get_mut(&name).and_then(VecDeque::pop_front);
            let outcome = outcome.expect("one was found");
            self.take(envelope, Body::Outcome(Outcome { effect: id, ..outcome }), envelope.at);
        }
        Err(Skipped::Circles)
    }

    /// A person steps in as they did, about the same trouble if there is one.
    fn intervene(&mut self, envelope: &Envelope, by: &Intervention) -> Option<&'static str> {
        let (Action::Retry { exception, .. } | Action::Resolve { exception, .. }) = &by.action else {
            return None;
        };
        let about = self.old.exceptions.get(exception)?;
        let name = |state: &State, exception: &Exception| {
            state.parked.get(&exception.number).map(|effect| effect.name.clone())
        };
        let wanted = (about.class, name(&self.old, about));
        let same =
            self.new.exceptions.values().find(|one| (one.class, name(&self.new, one)) == wanted)?.number;
        let action = match by.action.clone() {
            Action::Retry { set, .. } => Action::Retry { exception: same, set },
            Action::Resolve { result, .. } => Action::Resolve { exception: same, result },
            migrate @ Action::Migrate(_) => migrate,
        };
        let body = Body::Intervention(Intervention { action, ..by.clone() });
        Some(self.take(envelope, body, envelope.at))
    }

    /// What the host does with a message, less the store. The word of its verdict.
    fn take(&mut self, like: &Envelope, body: Body, at: Timestamp) -> &'static str {
        let envelope = Envelope { body, at, evidence: None, ..like.clone() };
        let decision = match decide(self.process, &self.new, &envelope) {
            Ok(decision) if decision.business_keys.iter().any(|key| self.business.contains(key)) => {
                return "duplicate";
            }
            Ok(decision) => decision,
            Err(Rejection::Stale) => return "stale",
            Err(rejection) => refusal(&self.new, rejection),
        };
        let Decision { changes, business_keys, answer } = decision;
        let verdict = answer.verdict.word();
        self.business.extend(business_keys);
        note(&mut self.sent[NEW], &changes);
        let called_off: Vec<EffectId> = changes
            .iter()
            .filter_map(|change| if let Change::CalledOff { effect } = change { Some(*effect) } else { None })
            .collect();
        let (seq, epoch, prev) = (self.new.seq + 1, crate::id::Epoch(0), crate::record::Hash::default());
        self.new.fold(&Record { seq, epoch, prev, envelope, changes, answer });
        for effect in called_off {
            self.call_off(effect);
        }
        verdict
    }

    /// What was never answered is taken as called off in time.
    fn call_off(&mut self, effect: EffectId) {
        let Some(name) = self.new.pending.get(&effect).map(|effect| effect.name.clone()) else { return };
        if self.to_come.get(&name).is_none_or(|left| *left == 0) {
            let (class, detail) = (OutcomeClass::Cancelled, "called off".into());
            let outcome = Outcome { effect, class, result: Value::Null, detail, status: None, attempts: 0 };
            self.answers.entry(name).or_default().push_back(outcome);
        }
    }

    fn difference(self) -> Option<Difference> {
        let (old, new) = (&self.old, &self.new);
        let status = (old.status != new.status).then(|| (old.status.to_string(), new.status.to_string()));
        let mut effects = BTreeMap::new();
        let mut inputs = BTreeSet::new();
        let names: BTreeSet<&Arc<str>> = self.sent.iter().flat_map(BTreeMap::keys).collect();
        for name in names {
            let of = |of: usize| self.sent[of].get(name).map(Vec::as_slice).unwrap_or_default();
            let (old, new) = (of(OLD), of(NEW));
            if old.len() != new.len() {
                effects.insert(name.to_string(), (old.len(), new.len()));
            } else if old != new {
                inputs.insert(name.to_string());
            }
        }
        let waits = |effect: &&Effect| !old.pending.values().any(|other| other.name == effect.name);
        let unanswered = new.pending.values().filter(waits).map(|effect| effect.name.to_string()).collect();
        let difference = Difference {
            cause: String::new(),
            record: 0,
            status,
            fields: fields(&self.process.mask, &old.fields, &new.fields),
            effects,
            inputs,
            verdicts: self.verdicts,
            exceptions: exceptions(old, new),
            unanswered,
        };
        let is_same = difference.status.is_none()
            && difference.fields.is_empty()
            && difference.effects.is_empty()
            && difference.inputs.is_empty()
            && difference.verdicts.is_empty()
            && difference.exceptions.is_empty();
        if is_same {
            return None;
        }
        let (record, cause) =
            self.cause.unwrap_or_else(|| (old.seq, "the same way, with other data".to_owned()));
        Some(Difference { cause, record, ..difference })
    }
}

fn outcome(record: &Record) -> Option<&Outcome> {
    if let Body::Outcome(outcome) = &record.envelope.body { Some(outcome) } else { None }
}

fn note(sent: &mut BTreeMap<Arc<str>, Vec<Value>>, changes: &[Change]) {
    for change in changes {
        if let Change::Emitted(effect) = change {
            sent.entry(effect.name.clone()).or_default().push(effect.input.clone());
        }
    }
}

fn fields(mask: &Mask, old: &Value, new: &Value) -> BTreeMap<String, (String, String)> {
    let map = |value: &Value| value.as_map().cloned().unwrap_or_default();
    let (old, new) = (map(old), map(new));
    let names: BTreeSet<&SmolStr> = old.keys().chain(new.keys()).collect();
    let shown = |name: &str, value: Option<&Value>| {
        value.map_or_else(|| "absent".to_owned(), |value| mask.shown_at(name, value).preview(PREVIEW))
    };
    let differs = |name: &&SmolStr| old.get(*name) != new.get(*name);
    names
        .into_iter()
        .filter(differs)
        .map(|name| (name.to_string(), (shown(name, old.get(name)), shown(name, new.get(name)))))
        .collect()
}

fn exceptions(old: &State, new: &State) -> BTreeMap<String, (usize, usize)> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for exception in old.exceptions.values() {
        counts.entry(exception.class.word().to_owned()).or_default().0 += 1;
    }
    for exception in new.exceptions.values() {
        counts.entry(exception.class.word().to_owned()).or_default().1 += 1;
    }
    counts.retain(|_, (old, new)| old != new);
    counts
}

#[cfg(test)]
mod tests;

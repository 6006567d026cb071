//! The heart: what an entity answers to a message.
//!
//! A decision is a value computed from what has happened. Nothing here waits, sends, stores, looks at a clock or throws a die:
//! `envelope.at` is now. The draft is a copy of the state on which each change is applied as it is decided, so that what
//! comes later in a transition sees what came earlier.

use std::sync::Arc;

use crate::decision::{
    Answer, BusinessKey, Change, Decision, Effect, Ending, Exception, ExceptionClass, Rejection, Verdict,
};
use crate::entity::{State, Step, apply};
use crate::envelope::{Body, Envelope, Outcome, OutcomeClass};
use crate::id::EffectId;
use crate::mapping::Mapping;
use crate::ownership::PROCESS;
use crate::process::{EffectDef, FailurePath, OutOfTurn, Process, Transition, Trigger};
use crate::value::Value;

mod compensation;
mod fan_out;
mod hold;
mod intervention;
mod migration;
mod owned;
mod revision;
mod scope;
mod send;
mod timers;

pub use scope::NAMES;
use scope::Told;

/// How many states an instance may pass in one decision: a definition that goes round in circles ends here.
const HOPS_MAX: usize = 32;
/// How many messages may wait for their turn in one entity.
const DEFERRED_MAX: usize = 64;
/// How many effects may wait in one entity.
const PENDING_MAX: usize = 256;
/// Prefix of the timers that watch milestones.
const MILESTONE: &str = "milestone.";

/// What `state` answers to `envelope` under `process`. Writes nothing, asks nothing.
///
/// # Errors
/// A [`Rejection`] is an answer as well: the host journals it (save [`Rejection::Stale`], which leaves no trace) with
/// [`refusal`], so that a duplicate gets the same.
pub fn decide(process: &Process, state: &State, envelope: &Envelope) -> Result<Decision, Rejection> {
    let mut draft = Draft::new(process, state, envelope);
    let verdict = match &envelope.body {
        Body::Command(_) | Body::Event(_) => draft.message(&envelope.body)?,
        Body::Outcome(outcome) => draft.outcome(outcome)?,
        Body::Timer(timer) => draft.timer(timer)?,
        Body::Intervention(intervention) => draft.intervention(intervention)?,
    };
    draft.take_turns();
    draft.fan_out()?;
    draft.renew_hold();
    Ok(draft.into_decision(verdict))
}

/// The decision that journals a rejection.
pub fn refusal(state: &State, rejection: Rejection) -> Decision {
    let answer = Answer {
        seq: state.seq + 1,
        status: state.status.clone(),
        verdict: Verdict::Rejected(rejection.clone()),
    };
    Decision { changes: vec![Change::Refused(rejection)], business_keys: Vec::new(), answer }
}

/// A decision in the making.
struct Draft<'a> {
    process: &'a Process,
    envelope: &'a Envelope,
    state: State,
    seq: u64,
    changes: Vec<Change>,
    business_keys: Vec<BusinessKey>,
    effects: u16,
    exceptions: u64,
    hops: usize,
    /// Whose word is being followed: what a field's owner is compared with.
    writer: Arc<str>,
    /// The revision at its source.
    revision: Option<Value>,
    /// The fields that were written, each with its writer; only of a record.
    wrote: Vec<(Arc<str>, Arc<str>)>,
}

/// Whether a trigger found a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// One was taken.
    Yes,
    /// There are some, and no guard held.
    Guarded,
    /// There is none.
    None,
}

impl<'a> Draft<'a> {
    fn new(process: &'a Process, state: &State, envelope: &'a Envelope) -> Self {
        let mut state = state.clone();
        let seq = state.seq + 1;
        if state.correlation_id.is_empty() {
            state.correlation_id = envelope.correlation_id.clone();
        }
        Self {
            process,
            envelope,
            state,
            seq,
            changes: Vec::new(),
            business_keys: Vec::new(),
            effects: 0,
            exceptions: 0,
            hops: 0,
            writer: envelope.source.clone(),
            revision: None,
            wrote: Vec::new(),
        }
    }

    fn into_decision(self, verdict: Verdict) -> Decision {
        let answer = Answer { seq: self.seq, status: self.state.status, verdict };
        Decision { changes: self.changes, business_keys: self.business_keys, answer }
    }

    /// Applies a change to the draft and keeps it for the record.
    fn change(&mut self, change: Change) {
        apply(&mut self.state, &change, self.seq, self.envelope.at);
        self.changes.push(change);
    }

    // ---- what comes in ----

    fn message(&mut self, body: &Body) -> Result<Verdict, Rejection> {
        let name = body.name();
        let Some((name, def)) = self.process.messages.get_key_value(name) else {
            return Err(Rejection::Unknown { process: self.process.name.clone(), message: name.into() });
        };
        let told = Told::message(body, &self.envelope.id);
        if let Some(expr) = &def.business_key {
            let scope = self.scope(&told);
            let key =
                expr.eval(&scope.borrowed()).map_err(|e| Rejection::Expression(e.to_string().into()))?;
            self.business_keys.push(BusinessKey { scope: name.clone(), key: key.to_plain_text().into() });
        }
        if !self.state.has_begun() && def.starts {
            self.begin()?;
        }
        let unusable = match self.try_message(name, &told) {
            Ok(Taken::Yes) => return Ok(Verdict::Applied),
            Ok(Taken::Guarded) => {
                Rejection::Guarded { message: name.clone(), state: self.state.status.clone() }
            }
            Ok(Taken::None) if !self.state.has_begun() => {
                Rejection::NotBegun { process: self.process.name.clone(), message: name.clone() }
            }
            Ok(Taken::None) => {
                Rejection::OutOfTurn { message: name.clone(), state: self.state.status.clone() }
            }
            // What an authentic event says must not be lost because an expression of ours fails on it.
            Err(Rejection::Expression(problem)) if !def.is_command => {
                return self.park_message(body, &problem);
            }
            Err(known @ (Rejection::Outdated { .. } | Rejection::Repeated { .. })) => {
                return Ok(self.ignore(known));
            }
            Err(rejection) => return Err(rejection),
        };
        match def.out_of_turn {
            OutOfTurn::Defer if self.state.ending.is_none() => self.defer(body),
            OutOfTurn::Reject => Err(unusable),
            OutOfTurn::Defer | OutOfTurn::Ignore => Ok(self.ignore(unusable)),
        }
    }

    fn ignore(&mut self, why: Rejection) -> Verdict {
        // It did nothing: its business key stays free for a message that will.
        self.business_keys.clear();
        self.change(Change::Refused(why));
        Verdict::Ignored
    }

    /// Tries a message on a copy: a transition that fails half-way leaves nothing behind.
    fn try_message(&mut self, name: &Arc<str>, told: &Told) -> Result<Taken, Rejection> {
        let before = (self.state.clone(), self.changes.len(), self.effects, self.exceptions, self.hops);
        let taken = self.current(name, told).and_then(|revised| {
            let taken = self.trigger(&Trigger::Message(name.clone()), told)?;
            if taken == Taken::Yes
                && let Some(change) = revised
            {
                self.change(change);
            }
            Ok(taken)
        });
        self.revision = None;
        if taken.is_err() {
            self.state = before.0;
            self.changes.truncate(before.1);
            (self.effects, self.exceptions, self.hops) = (before.2, before.3, before.4);
        }
        taken
    }

    fn defer(&mut self, body: &Body) -> Result<Verdict, Rejection> {
        if self.state.deferred.len() >= DEFERRED_MAX {
            return Err(Rejection::Limit {
                what: "the list of messages that wait for their turn".into(),
                limit: DEFERRED_MAX as u64,
            });
        }
        let id = self.envelope.id.clone();
        self.change(Change::Deferred { id: id.clone(), body: body.clone() });
        if self.process.has_owners || self.is_revised(body.name()) {
            self.change(Change::WaitsFrom { id, source: self.writer.clone() });
        }
        Ok(Verdict::Deferred)
    }

    fn park_message(&mut self, body: &Body, problem: &str) -> Result<Verdict, Rejection> {
        let verdict = self.defer(body)?;
        let summary = format!("`{}` waits: {problem}", body.name());
        let detail = Value::map([("message", Value::from(&*self.envelope.id))]);
        self.open(ExceptionClass::Mapping, None, summary, detail, "");
        Ok(verdict)
    }

    fn outcome(&mut self, outcome: &Outcome) -> Result<Verdict, Rejection> {
        let Some(effect) = self.state.pending.get(&outcome.effect).cloned() else {
            return Err(Rejection::Stale);
        };
        self.writer = effect.connector.clone();
        if let Some(system) = self.state.synced_by(outcome.effect).cloned() {
            return self.told_system(&system, &effect, outcome);
        }
        self.change(Change::Settled {
            effect: outcome.effect,
            class: outcome.class,
            result: outcome.result.clone(),
        });
        self.supersede(&effect);
        if effect.undoes.is_some() {
            self.undone(&effect, outcome);
        } else {
            let told = Told::outcome(outcome);
            let kept = self.keep(&effect, outcome, &told);
            if let Err(problem) = kept.and_then(|()| self.follow(&effect, outcome, &told)) {
                self.park_outcome(outcome, &problem);
            }
            self.forget(&effect.name);
        }
        self.settled()?;
        Ok(Verdict::Applied)
    }

    /// A record lives on and does the same again and again: of what nothing undoes only the newest answer is of use.
    fn supersede(&mut self, effect: &Effect) {
        let undone = self.process.effects.get(&effect.name).is_some_and(|def| def.undo.is_some());
        if !self.process.record || undone {
            return;
        }
        let of_name = |step: &&Step| step.name == effect.name && step.effect != effect.id;
        let older: Vec<_> = self.state.steps.iter().filter(of_name).map(|step| step.effect).collect();
        if self.state.steps.last().is_some_and(|step| step.effect == effect.id) {
            for effect in older {
                self.change(Change::Superseded { effect });
            }
        }
    }

    /// Assigns what the process keeps of a good answer.
    fn keep(&mut self, effect: &Effect, outcome: &Outcome, told: &Told) -> Result<(), Rejection> {
        let Some(def) = self.process.effects.get(&effect.name) else { return Ok(()) };
        if outcome.class == OutcomeClass::Ok { self.assign(&def.keep, told) } else { Ok(()) }
    }

    /// Takes the way that the state has for this outcome, or opens an exception where it has none for a failure.
    fn follow(&mut self, effect: &Effect, outcome: &Outcome, told: &Told) -> Result<(), Rejection> {
        if self.state.compensating.is_some() {
            return Ok(());
        }
        let before = (self.state.clone(), self.changes.len(), self.effects, self.exceptions, self.hops);
        let taken = self.trigger(&Trigger::Effect(effect.name.clone(), outcome.class), told);
        match taken {
            Ok(Taken::Yes) => {}
            Ok(_) => self.unhandled(effect, outcome),
            Err(problem) => {
                self.state = before.0;
                self.changes.truncate(before.1);
                (self.effects, self.exceptions, self.hops) = (before.2, before.3, before.4);
                return Err(problem);
            }
        }
        Ok(())
    }

    fn unhandled(&mut self, effect: &Effect, outcome: &Outcome) {
        let failure =
            self.process.effects.get(&effect.name).map_or(FailurePath::Exception, |def| def.failure);
        let class = match (outcome.class, failure) {
            (OutcomeClass::Ok | OutcomeClass::Cancelled, _) | (_, FailurePath::Ignore) => return,
            (OutcomeClass::Failed, _) => ExceptionClass::Failure,
            (OutcomeClass::Dead, _) => ExceptionClass::DeadLetter,
        };
        self.open_about(effect, outcome, class, "");
    }

    /// Opens an exception about an effect, and keeps the effect for another try.
    fn open_about(&mut self, effect: &Effect, outcome: &Outcome, class: ExceptionClass, owner: &str) -> u64 {
        let summary =
            format!("{}.{} ({}): {}", effect.connector, effect.operation, effect.name, outcome.detail);
        let detail = Value::map([
            ("input", effect.input.clone()),
            ("answer", outcome.result.clone()),
            ("status", outcome.status.map_or(Value::Null, |status| Value::Int(i64::from(status)))),
            ("attempts", Value::Int(i64::from(outcome.attempts))),
        ]);
        let exception = self.open(class, Some(effect.id), summary, detail, owner);
        self.change(Change::Parked { exception, effect: effect.clone() });
        exception
    }

    /// An outcome that an expression of ours cannot digest waits, as a message does.
    fn park_outcome(&mut self, outcome: &Outcome, problem: &Rejection) {
        let id = self.envelope.id.clone();
        let summary = format!("the answer to effect {} waits: {problem}", outcome.effect);
        self.change(Change::Deferred { id: id.clone(), body: Body::Outcome(outcome.clone()) });
        let detail = Value::map([("message", Value::from(&*id))]);
        self.open(ExceptionClass::Mapping, Some(outcome.effect), summary, detail, "");
    }

    // ---- what follows ----

    fn begin(&mut self) -> Result<(), Rejection> {
        self.change(Change::Began { version: self.process.version });
        self.change(Change::Entered { state: self.process.initial.clone() });
        let process = self.process;
        for (name, milestone) in &process.milestones {
            let due = self.envelope.at.plus(milestone.within);
            self.change(Change::TimerSet { name: format!("{MILESTONE}{name}").into(), due });
        }
        self.entry(&Told::nothing())
    }

    /// Looks for a transition in the state, then anywhere, and takes the first whose guard holds.
    fn trigger(&mut self, trigger: &Trigger, told: &Told) -> Result<Taken, Rejection> {
        if !self.state.has_begun() || self.state.ending.is_some() {
            return Ok(Taken::None);
        }
        let process = self.process;
        let own = process.states.get(&self.state.status).and_then(|state| state.on.get(trigger));
        let mut found = Taken::None;
        for transitions in [own, process.anywhere.get(trigger)].into_iter().flatten() {
            match self.take_first(transitions, told)? {
                Taken::Yes => return Ok(Taken::Yes),
                Taken::Guarded => found = Taken::Guarded,
                Taken::None => {}
            }
        }
        Ok(found)
    }

    fn take_first(&mut self, transitions: &'a [Transition], told: &Told) -> Result<Taken, Rejection> {
        let mut found = Taken::None;
        for transition in transitions {
            if transition.except.contains(&self.state.status) {
                continue;
            }
            if self.holds(transition, told)? {
                self.take(transition, told)?;
                return Ok(Taken::Yes);
            }
            found = Taken::Guarded;
        }
        Ok(found)
    }

    fn holds(&self, transition: &Transition, told: &Told) -> Result<bool, Rejection> {
        let Some(guard) = &transition.when else { return Ok(true) };
        guard.eval_bool(&self.scope(told).borrowed()).map_err(|problem| {
            Rejection::Expression(format!("guard at {}: {problem}", transition.place).into())
        })
    }

    fn take(&mut self, transition: &'a Transition, told: &Told) -> Result<(), Rejection> {
        self.assign(&transition.set, told)?;
        if let Some(reason) = &transition.undo {
            let reason = reason
                .eval(&self.scope(told).borrowed())
                .map_err(|e| Rejection::Expression(format!("undo at {}: {e}", transition.place).into()))?;
            self.begin_compensation(reason.to_plain_text().into());
        }
        for effect in &transition.call {
            self.emit(effect, told)?;
        }
        if let Some(to) = &transition.to {
            self.enter(to, told)?;
        }
        if transition.undo.is_some() {
            self.compensate_next()?;
        }
        Ok(())
    }

    fn enter(&mut self, to: &Arc<str>, told: &Told) -> Result<(), Rejection> {
        self.hops += 1;
        if self.hops > HOPS_MAX {
            return Err(Rejection::Limit {
                what: "the number of states passed at once".into(),
                limit: HOPS_MAX as u64,
            });
        }
        self.leave();
        self.change(Change::Entered { state: to.clone() });
        self.entry(told)
    }

    /// Ends what belonged to the state that is left: its timers and its hold.
    fn leave(&mut self) {
        let process = self.process;
        let Some(left) = process.states.get(&self.state.status) else { return };
        for timer in &left.timers {
            if self.state.timers.contains_key(&timer.name) {
                self.change(Change::TimerCleared { name: timer.name.clone() });
            }
        }
        self.close_all(|exception| exception.class == ExceptionClass::Hold, "the hold is over");
    }

    /// Does what belongs to the state just entered.
    fn entry(&mut self, told: &Told) -> Result<(), Rejection> {
        let process = self.process;
        let state =
            process.states.get(&self.state.status).expect("the checker has seen that every target exists");
        self.reach();
        if state.commit && self.state.steps.iter().any(|step| !step.undone) {
            self.change(Change::Committed);
        }
        self.assign(&state.set, told)?;
        self.arm(state)?;
        for effect in &state.call {
            self.emit(effect, told)?;
        }
        if let Some(ending) = state.end {
            self.end(ending);
            return Ok(());
        }
        if self.take_first(&state.always, told)? != Taken::Yes {
            self.hold(state, told)?;
        }
        Ok(())
    }

    fn end(&mut self, ending: Ending) {
        let running: Vec<_> = self.state.timers.keys().cloned().collect();
        for name in running {
            self.change(Change::TimerCleared { name });
        }
        let waiting: Vec<_> = self.state.deferred.iter().map(|waiting| waiting.id.clone()).collect();
        for id in waiting {
            self.change(Change::Resumed { id });
        }
        let moot = |e: &Exception| {
            use ExceptionClass::{Conflict, Hold, Late, Mapping};
            matches!(e.class, Hold | Mapping | Late | Conflict)
        };
        self.close_all(moot, "the instance has ended");
        self.change(Change::Ended { ending });
    }

    fn assign(&mut self, set: &[(Arc<str>, Mapping)], told: &Told) -> Result<(), Rejection> {
        for (field, mapping) in set {
            let value = mapping
                .given(&self.scope(told).borrowed())
                .map_err(|problem| Rejection::Expression(format!("field `{field}`: {problem}").into()))?;
            let Some(value) = value else { continue };
            match field.strip_suffix(".*") {
                None => self.write(field, value)?,
                Some(field) => self.write_each(field, &value)?,
            }
        }
        Ok(())
    }

    fn emit(&mut self, name: &Arc<str>, told: &Told) -> Result<(), Rejection> {
        let process = self.process;
        let def = process.effects.get(name).expect("the checker has seen that every effect exists");
        let Some(each) = &def.each else {
            let effect = self.effect(name, def, told, None)?;
            self.change(Change::Emitted(effect));
            return Ok(());
        };
        let items = each.eval(&self.scope(told).borrowed());
        let items = items.map_err(|e| Rejection::Expression(format!("effect `{name}`: {e}").into()))?;
        for item in items.as_list().unwrap_or_default() {
            let effect = self.effect(name, def, told, Some(item))?;
            self.change(Change::Emitted(effect));
        }
        Ok(())
    }

    /// `item`: the element of the list that it is emitted for.
    fn effect(
        &mut self,
        name: &Arc<str>,
        def: &EffectDef,
        told: &Told,
        item: Option<&Value>,
    ) -> Result<Effect, Rejection> {
        if self.state.pending.len() >= PENDING_MAX {
            return Err(Rejection::Limit {
                what: "the number of effects that wait".into(),
                limit: PENDING_MAX as u64,
            });
        }
        let input = {
            let scope = self.scope(told);
            let scope = match item {
                Some(item) => scope.borrowed().with("item", item),
                None => scope.borrowed(),
            };
            def.input
                .eval(&scope)
                .map_err(|problem| Rejection::Expression(format!("effect `{name}`: {problem}").into()))?
        };
        let input = match &def.send {
            None => input,
            Some(send) => self
                .letter(send, input, told)
                .map_err(|problem| Rejection::Expression(format!("effect `{name}`: {problem}").into()))?,
        };
        let called = self.called(name, def, told)?;
        Ok(Effect {
            id: self.next_effect(),
            name: name.clone(),
            connector: called.0,
            operation: called.1,
            input,
            undoes: None,
            due: self.envelope.at,
        })
    }

    fn next_effect(&mut self) -> EffectId {
        let id = EffectId { seq: self.seq, n: self.effects };
        self.effects += 1;
        id
    }

    /// The connector and the operation that an effect calls.
    fn called(&self, name: &str, def: &EffectDef, told: &Told) -> Result<(Arc<str>, Arc<str>), Rejection> {
        let Some(by) = &def.by else { return Ok((def.connector.clone(), def.operation.clone())) };
        let text = |expr: &crate::expr::Expr| {
            let value = expr.eval(&self.scope(told).borrowed());
            let value = value.map_err(|e| Rejection::Expression(format!("effect `{name}`: {e}").into()))?;
            Ok(Arc::from(value.to_plain_text()))
        };
        Ok((text(&by.0)?, text(&by.1)?))
    }

    /// After an effect ended: undoing goes on, or the state that waited for all of them moves.
    fn settled(&mut self) -> Result<(), Rejection> {
        if self.state.compensating.is_some() {
            return self.compensate_next();
        }
        if self.state.pending.is_empty() {
            self.writer = PROCESS.into();
            self.trigger(&Trigger::Settled, &Told::nothing())?;
        }
        Ok(())
    }

    /// Gives messages that waited their turn, in the order in which they came, as long as one of them has it.
    fn take_turns(&mut self) {
        let mut tried_in = None;
        while tried_in.as_ref() != Some(&self.state.status) && self.state.ending.is_none() {
            tried_in = Some(self.state.status.clone());
            for waiting in self.state.deferred.clone() {
                let (Body::Command(_) | Body::Event(_)) = &waiting.body else { continue };
                if self.is_mapping_trouble(&waiting.id) {
                    continue;
                }
                let name: Arc<str> = waiting.body.name().into();
                self.writer = self.sender(&waiting.id);
                match self.try_message(&name, &Told::message(&waiting.body, &waiting.id)) {
                    Ok(Taken::Yes) => {
                        self.change(Change::Resumed { id: waiting.id.clone() });
                        // It may have made way for one that came before it, in this state or the next.
                        tried_in = None;
                        break;
                    }
                    Ok(Taken::None | Taken::Guarded) => {}
                    Err(refused) if is_final(&refused) => {
                        self.change(Change::Refused(refused));
                        self.change(Change::Resumed { id: waiting.id.clone() });
                    }
                    Err(problem) => {
                        let summary = format!("`{name}` waits: {problem}");
                        let detail = Value::map([("message", Value::from(&*waiting.id))]);
                        self.open(ExceptionClass::Mapping, None, summary, detail, "");
                    }
                }
            }
        }
    }

    /// Who sent a message that waits; whoever sent the one at hand where it was not kept.
    fn sender(&self, id: &str) -> Arc<str> {
        let known = self.state.origins.as_ref().and_then(|origins| origins.waiting.get(id));
        known.unwrap_or(&self.envelope.source).clone()
    }

    /// Whether a waiting message waits for a person.
    fn is_mapping_trouble(&self, id: &str) -> bool {
        self.state.exceptions.values().any(|exception| {
            exception.class == ExceptionClass::Mapping
                && exception.detail.get("message").and_then(Value::as_text) == Some(id)
        })
    }

    // ---- milestones and exceptions ----

    fn reach(&mut self) {
        let process = self.process;
        for (name, milestone) in &process.milestones {
            if !milestone.reached_in.contains(&self.state.status) || self.state.reached.contains(name) {
                continue;
            }
            self.change(Change::MilestoneReached { name: name.clone() });
            let timer: Arc<str> = format!("{MILESTONE}{name}").into();
            if self.state.timers.contains_key(&timer) {
                self.change(Change::TimerCleared { name: timer });
            }
            let late = |e: &Exception| {
                e.class == ExceptionClass::Late
                    && e.detail.get("milestone").and_then(Value::as_text) == Some(name)
            };
            self.close_all(late, "the milestone was reached after all");
        }
    }

    fn miss(&mut self, name: &str) -> Result<(), Rejection> {
        let process = self.process;
        let Some((name, milestone)) = process.milestones.get_key_value(name) else { return Ok(()) };
        self.change(Change::MilestoneMissed { name: name.clone() });
        let within = Value::from(format!("{}s", milestone.within.as_secs()));
        let summary =
            format!("milestone `{name}` was not reached in time; it is in state `{}`", self.state.status);
        let detail = Value::map([("milestone", Value::from(&**name)), ("within", within)]);
        self.open(ExceptionClass::Late, None, summary, detail, &process.owner.team);
        for effect in &milestone.escalate {
            self.emit(effect, &Told::nothing())?;
        }
        Ok(())
    }

    fn open(
        &mut self,
        class: ExceptionClass,
        effect: Option<EffectId>,
        summary: String,
        detail: Value,
        owner: &str,
    ) -> u64 {
        let number = self.seq * 16 + self.exceptions.min(15);
        self.exceptions += 1;
        let owner = self.owner_or_team(owner);
        self.change(Change::Opened(Exception {
            number,
            class,
            effect,
            summary: summary.into(),
            detail,
            owner,
        }));
        number
    }

    /// Whose an exception is: the process's team, where nobody is named.
    fn owner_or_team(&self, owner: &str) -> Arc<str> {
        if owner.is_empty() { self.process.owner.team.clone() } else { owner.into() }
    }

    fn close_all(&mut self, which: impl Fn(&Exception) -> bool, reason: &str) {
        let numbers: Vec<u64> =
            self.state.exceptions.values().filter(|e| which(e)).map(|e| e.number).collect();
        for exception in numbers {
            self.change(Change::Closed { exception, by: "process".into(), reason: reason.into() });
        }
    }
}

/// Whether a message that waited will never take effect, whatever a person does.
fn is_final(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::NotOwner { .. } | Rejection::Outdated { .. } | Rejection::Repeated { .. })
}

#[cfg(test)]
mod tests;

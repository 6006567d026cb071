//! Undoing: what was done is undone in the reverse order of its success, one step at a time.

use std::sync::Arc;

use super::{Draft, Told};
use crate::decision::{Change, Effect, ExceptionClass, Rejection};
use crate::entity::Step;
use crate::envelope::{Outcome, OutcomeClass};
use crate::process::Trigger;

/// Steps of one name that are kept where nothing undoes them: an entity that lives for ever does the same again and again.
const STEPS_KEPT: usize = 16;

impl Draft<'_> {
    /// Lets go of the oldest steps of a name that nothing can undo, when there are many.
    pub(super) fn forget(&mut self, name: &str) {
        if self.process.effects.get(name).is_none_or(|def| def.undo.is_some()) {
            return;
        }
        let of_name = self.state.steps.iter().filter(|step| &*step.name == name);
        let effects: Vec<_> = of_name.map(|step| step.effect).collect();
        for effect in effects.iter().take(effects.len().saturating_sub(STEPS_KEPT)) {
            self.change(Change::Forgotten { effect: *effect });
        }
    }

    /// Calls off what has not been done yet; the rest is undone as its outcomes come in.
    pub(super) fn begin_compensation(&mut self, reason: Arc<str>) {
        if self.state.compensating.is_some() {
            return;
        }
        self.change(Change::Compensating { reason });
        let pending: Vec<_> = self.state.pending.keys().copied().collect();
        for effect in pending {
            self.change(Change::CalledOff { effect });
        }
    }

    /// Undoes the next step, once nothing is under way; ends the undoing when no step is left.
    pub(super) fn compensate_next(&mut self) -> Result<(), Rejection> {
        if self.state.compensating.is_none() || !self.awaited().is_empty() {
            return Ok(());
        }
        if self.state.parked.values().any(|effect| effect.undoes.is_some()) {
            return Ok(()); // A person must get the step before out of the way first: the order is part of the promise.
        }
        if let Some(step) = self.next_to_undo() {
            return self.undo(&step);
        }
        self.change(Change::Compensated);
        self.trigger(&Trigger::Compensated, &Told::nothing())?;
        Ok(())
    }

    /// What must end before the next step is undone: everything under way, save what was emitted after the undoing began and
    /// undoes nothing (a notice that it is being undone).
    fn awaited(&self) -> Vec<crate::id::EffectId> {
        self.state
            .pending
            .values()
            .filter(|effect| effect.undoes.is_some() || self.can_be_undone(effect))
            .map(|e| e.id)
            .collect()
    }

    fn can_be_undone(&self, effect: &Effect) -> bool {
        self.process.effects.get(&effect.name).is_some_and(|def| def.undo.is_some())
    }

    fn next_to_undo(&self) -> Option<Step> {
        let has_undo = |step: &&Step| {
            !step.undone && self.process.effects.get(&step.name).is_some_and(|def| def.undo.is_some())
        };
        self.state.steps.iter().rev().find(has_undo).cloned()
    }

    fn undo(&mut self, step: &Step) -> Result<(), Rejection> {
        let process = self.process;
        let undo = process
            .effects
            .get(&step.name)
            .and_then(|def| def.undo.as_ref())
            .expect("it was found by its undo");
        let def = process.effects.get(undo).expect("the checker has seen that every effect exists");
        let effect = self.effect(undo, def, &Told::step(step), None)?;
        self.change(Change::Emitted(Effect { undoes: Some(step.effect), ..effect }));
        Ok(())
    }

    /// A step's undoing has ended: anything but success needs a person.
    pub(super) fn undone(&mut self, effect: &Effect, outcome: &Outcome) {
        if outcome.class != OutcomeClass::Ok {
            self.open_about(effect, outcome, ExceptionClass::Compensation, "");
        }
    }
}

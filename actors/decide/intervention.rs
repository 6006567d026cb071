//! A person steps in: tries again, or resolves by hand.

use std::sync::Arc;

use super::{Draft, Taken, Told};
use crate::decision::{Change, Effect, Exception, ExceptionClass, Rejection, Verdict};
use crate::envelope::{Action, Body, Intervention, Outcome, OutcomeClass};
use crate::ownership::OPERATOR;
use crate::process::{ENTITY, Trigger};
use crate::value::Value;

impl Draft<'_> {
    pub(super) fn intervention(&mut self, intervention: &Intervention) -> Result<Verdict, Rejection> {
        self.writer = OPERATOR.into();
        match &intervention.action {
            Action::Retry { exception, set } => {
                self.retry(intervention, &self.open_exception(*exception)?, set)?;
            }
            Action::Resolve { exception, result } => {
                self.resolve(intervention, &self.open_exception(*exception)?, result)?;
            }
            Action::Migrate(migration) => return self.migrate(migration),
        }
        Ok(Verdict::Applied)
    }

    fn open_exception(&self, number: u64) -> Result<Exception, Rejection> {
        self.state.exceptions.get(&number).cloned().ok_or(Rejection::NoException(number))
    }

    fn retry(&mut self, by: &Intervention, exception: &Exception, set: &Value) -> Result<(), Rejection> {
        if exception.class == ExceptionClass::Conflict {
            return self.overrule(by, exception, set);
        }
        if let Some(system) = self.untold(exception.number) {
            return self.tell_again(by, exception, set, &system);
        }
        let parked = self.state.parked.get(&exception.number).cloned();
        self.set_by_hand(set)?;
        match (exception.class, parked) {
            (ExceptionClass::Hold, _) => self.retry_hold(exception),
            (ExceptionClass::Mapping, _) => self.retry_message(by, exception),
            (ExceptionClass::Failure, Some(effect)) if !set.is_null() => {
                // The system said no and will not have done it: corrected data go out as a new effect with a new key.
                self.close(by, exception);
                self.emit(&effect.name, &Told::nothing())
            }
            (ExceptionClass::Failure, Some(effect)) if *effect.connector == *ENTITY => {
                self.close(by, exception);
                self.send_anew(effect);
                Ok(())
            }
            (_, Some(effect)) => {
                self.close(by, exception);
                self.change(Change::Reissued(Effect { due: self.envelope.at, ..effect }));
                Ok(())
            }
            (_, None) => Err(self.nothing_to("retry", exception)),
        }
    }

    fn retry_hold(&mut self, exception: &Exception) -> Result<(), Rejection> {
        match self.trigger(&Trigger::Retry, &Told::nothing())? {
            Taken::Yes => Ok(()),
            Taken::Guarded | Taken::None => Err(self.nothing_to("retry", exception)),
        }
    }

    /// Tries once more a message that an expression could not digest.
    fn retry_message(&mut self, by: &Intervention, exception: &Exception) -> Result<(), Rejection> {
        let Some(waiting) = self.waiting(exception) else { return Err(self.nothing_to("retry", exception)) };
        self.close(by, exception);
        let outcome = match &waiting.body {
            Body::Outcome(outcome) => outcome.clone(),
            Body::Timer(timer) => {
                let name = timer.name.clone();
                self.change(Change::Resumed { id: waiting.id });
                return self.ring(&name);
            }
            _ => return Ok(()), // `take_turns` gives it its turn, and opens a new exception if it fails again.
        };
        let name = self.state.steps.iter().find(|s| s.effect == outcome.effect).map(|s| s.name.clone());
        self.change(Change::Resumed { id: waiting.id });
        let told = Told::outcome(&outcome);
        if let Some(name) = name {
            if let Some(def) = self.process.effects.get(&name) {
                self.writer = def.connector.clone();
            }
            if let Some(def) = self.process.effects.get(&name) {
                self.assign(&def.keep, &told)?;
            }
            self.trigger(&Trigger::Effect(name, outcome.class), &told)?;
        }
        self.settled()
    }

    fn resolve(&mut self, by: &Intervention, exception: &Exception, result: &Value) -> Result<(), Rejection> {
        let parked = self.state.parked.get(&exception.number).cloned();
        let waiting = (exception.class == ExceptionClass::Mapping).then(|| self.waiting(exception)).flatten();
        let untold = self.untold(exception.number);
        self.close(by, exception);
        if exception.class == ExceptionClass::Conflict {
            self.remind(exception);
        }
        if let Some(system) = untold {
            return self.told_by_hand(&system, result);
        }
        if let Some(waiting) = waiting {
            self.change(Change::Resumed { id: waiting.id });
        }
        let Some(effect) = parked else { return Ok(()) };
        if effect.undoes.is_none() && result.is_null() {
            return Ok(());
        }
        self.change(Change::Resolved { effect: effect.clone(), result: result.clone() });
        if effect.undoes.is_none() {
            self.writer = effect.connector.clone(); // the person speaks for the system
            let outcome = by_hand(by, &effect, result);
            let told = Told::outcome(&outcome);
            self.keep(&effect, &outcome, &told)?;
            self.follow(&effect, &outcome, &told)?;
        }
        self.settled()
    }

    pub(super) fn set_by_hand(&mut self, set: &Value) -> Result<(), Rejection> {
        let Some(fields) = set.as_map() else {
            return if set.is_null() {
                Ok(())
            } else {
                Err(Rejection::Expression("`set` must be a map of fields".into()))
            };
        };
        for (field, value) in fields {
            let root = field.split('.').next().unwrap_or(field);
            if !self.process.fields.contains_key(root) {
                return Err(Rejection::Expression(
                    format!("process `{}` has no field `{root}`", self.process.name).into(),
                ));
            }
            self.write(&Arc::from(field.as_str()), value.clone())?;
        }
        Ok(())
    }

    fn waiting(&self, exception: &Exception) -> Option<crate::entity::Waiting> {
        let id = exception.detail.get("message").and_then(Value::as_text)?;
        self.state.deferred.iter().find(|waiting| &*waiting.id == id).cloned()
    }

    pub(super) fn close(&mut self, by: &Intervention, exception: &Exception) {
        self.change(Change::Closed {
            exception: exception.number,
            by: by.by.clone(),
            reason: by.reason.clone(),
        });
    }

    pub(super) fn nothing_to(&self, what: &str, exception: &Exception) -> Rejection {
        Rejection::Expression(
            format!(
                "there is nothing to {what} about exception {} ({}) in state `{}`",
                exception.number,
                exception.class.word(),
                self.state.status
            )
            .into(),
        )
    }
}

/// A person's word for what a system would have answered.
fn by_hand(by: &Intervention, effect: &Effect, result: &Value) -> Outcome {
    Outcome {
        effect: effect.id,
        class: OutcomeClass::Ok,
        result: result.clone(),
        detail: format!("by {}: {}", by.by, by.reason).into(),
        status: None,
        attempts: 0,
    }
}

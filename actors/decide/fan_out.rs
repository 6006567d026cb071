//! A record tells its changes to the systems that want them, each when what it looks at has changed.
//!
//! One call at a time is under way for a system, so that an older state never overtakes a newer one. What changes meanwhile is sent
//! when the call is back, and only the newest of it.

use std::sync::Arc;

use super::{Draft, HOPS_MAX, PENDING_MAX, Taken, Told};
use crate::decision::{Change, Effect, Exception, ExceptionClass, Rejection, Verdict};
use crate::envelope::{Intervention, Outcome, OutcomeClass};
use crate::expr::Scope;
use crate::ownership::{PROCESS, Stand, Synced, root};
use crate::process::Trigger;
use crate::record::Hash;
use crate::subscription::Subscription;
use crate::value::Value;

impl Draft<'_> {
    /// Brings every system up to date that is not, and lets the record's state follow: it is in sync, or it is not.
    pub(super) fn fan_out(&mut self) -> Result<(), Rejection> {
        if !self.process.record || !self.state.has_begun() || !self.is_told()? {
            return Ok(());
        }
        for _ in 0..HOPS_MAX {
            self.tell_systems();
            let trigger = if self.in_sync() { Trigger::InSync } else { Trigger::OutOfSync };
            let before = self.state.status.clone();
            self.writer = PROCESS.into();
            if self.trigger(&trigger, &Told::nothing())? != Taken::Yes || self.state.status == before {
                break;
            }
            self.take_turns();
        }
        Ok(())
    }

    /// Whether the record is complete enough to be told to anybody.
    fn is_told(&self) -> Result<bool, Rejection> {
        let Some(when) = &self.process.told_when else { return Ok(true) };
        let holds = when.eval_bool(&self.scope(&Told::nothing()).borrowed());
        holds.map_err(|error| Rejection::Expression(format!("`record.when`: {error}").into()))
    }

    fn tell_systems(&mut self) {
        let process = self.process;
        for subscription in &process.subscribers {
            if let Err(problem) = self.tell(subscription) {
                self.not_told(subscription, &problem);
            }
        }
    }

    fn standing(&self, system: &str) -> Option<&Synced> {
        self.state.origins.as_ref()?.systems.get(system)
    }

    fn tell(&mut self, subscription: &Subscription) -> Result<(), String> {
        let known = self.standing(&subscription.system).cloned();
        match known.as_ref().map(|known| known.stand) {
            // What changed meanwhile follows when it is back.
            Some(Stand::Pending { effect }) if self.state.pending.contains_key(&effect) => return Ok(()),
            Some(Stand::InSync | Stand::Failed { .. }) if !self.is_touched(subscription) => return Ok(()),
            _ => {}
        }
        let Some(input) = self.to_tell(subscription)? else { return Ok(()) };
        let digest = Hash::of(input.to_json().as_bytes());
        let has_id = self.state.field(&subscription.id_path()).is_some_and(|id| !id.is_null());
        if let Some(known) = &known {
            let same = known.digest == digest;
            match known.stand {
                // It has it, or a person looks.
                Stand::InSync | Stand::Failed { .. } if same => return Ok(()),
                Stand::InSync if self.is_echo(subscription) && (has_id || subscription.id.is_none()) => {
                    self.stand(subscription, Stand::InSync, digest);
                    return Ok(());
                }
                Stand::Failed { exception } => self.close_exception(exception, "a newer state is sent"),
                _ => {}
            }
        }
        if self.state.pending.len() >= PENDING_MAX {
            self.stand(subscription, Stand::Stale, digest);
            return Ok(());
        }
        self.send_state(subscription, input, has_id, digest);
        Ok(())
    }

    /// What the system is to be told now; nothing if it does not want this record.
    fn to_tell(&self, subscription: &Subscription) -> Result<Option<Value>, String> {
        let told = Told::nothing();
        let seen = self.scope(&told);
        let scope = seen.borrowed();
        if let Some(when) = &subscription.when
            && !when.eval_bool(&scope).map_err(|error| format!("`when`: {error}"))?
        {
            return Ok(None);
        }
        subscription.input.eval(&scope).map(Some).map_err(|error| error.to_string())
    }

    fn send_state(&mut self, subscription: &Subscription, input: Value, has_id: bool, digest: Hash) {
        let mut input = input;
        let id = self.state.field(&subscription.id_path()).cloned().unwrap_or_default();
        input.set_path("id", id);
        let effect = self.next_effect();
        self.change(Change::Emitted(Effect {
            id: effect,
            name: subscription.effect.clone(),
            connector: subscription.connector.clone(),
            operation: subscription.operation(has_id).clone(),
            input,
            undoes: None,
            due: self.envelope.at,
        }));
        self.stand(subscription, Stand::Pending { effect }, digest);
    }

    fn stand(&mut self, subscription: &Subscription, stand: Stand, digest: Hash) {
        self.change(Change::Synced { system: subscription.system.clone(), stand, digest });
    }

    /// Whether anything it looks at has changed in this decision, or something about the system itself.
    fn is_touched(&self, subscription: &Subscription) -> bool {
        self.changes.iter().any(|change| match change {
            Change::Assigned { field, .. } | Change::Written { field, .. } => {
                subscription.looks_at.contains(root(field))
            }
            Change::Entered { .. } => subscription.looks_at.contains("entity"),
            Change::Synced { system, stand, .. } => {
                *system == subscription.system && !matches!(stand, Stand::Failed { .. })
            }
            _ => false,
        })
    }

    /// Whether all that changed of what it looks at came from the system itself: it need not be told its own words.
    fn is_echo(&self, subscription: &Subscription) -> bool {
        let mut own = self.wrote.iter().filter(|(field, _)| subscription.looks_at.contains(root(field)));
        let mut seen = own.by_ref().peekable();
        seen.peek().is_some()
            && seen.all(|(_, writer)| *writer == subscription.system)
            && !self.changes.iter().any(|change| matches!(change, Change::Disputed { .. }))
    }

    /// Whether every system that must have the record has the newest of it.
    fn in_sync(&self) -> bool {
        self.process.subscribers.iter().filter(|subscription| subscription.required).all(|subscription| {
            match self.standing(&subscription.system).map(|known| known.stand) {
                Some(Stand::InSync) => true,
                _ => matches!(self.to_tell(subscription), Ok(None)),
            }
        })
    }

    /// What it is to be told cannot be said: once, until something changes.
    fn not_told(&mut self, subscription: &Subscription, problem: &str) {
        let digest = Hash::of(problem.as_bytes());
        let known = self.standing(&subscription.system).cloned();
        if let Some(Synced { stand: Stand::Failed { exception }, digest: before, .. }) = known {
            if before == digest {
                return;
            }
            self.close_exception(exception, "it fails otherwise now");
        }
        let summary = format!("{} cannot be told: {problem}", subscription.system);
        let detail = Value::map([("system", Value::from(&*subscription.system))]);
        let exception = self.open(ExceptionClass::Failure, None, summary, detail, &subscription.owner);
        self.stand(subscription, Stand::Failed { exception }, digest);
    }

    fn close_exception(&mut self, exception: u64, reason: &str) {
        self.close_all(|open| open.number == exception, reason);
    }

    fn subscription(&self, system: &str) -> Option<Arc<Subscription>> {
        self.process.subscribers.iter().find(|known| *known.system == *system).cloned()
    }

    /// A system has answered what it was told.
    pub(super) fn told_system(
        &mut self,
        system: &Arc<str>,
        effect: &Effect,
        outcome: &Outcome,
    ) -> Result<Verdict, Rejection> {
        let digest = self.standing(system).map(|known| known.digest).unwrap_or_default();
        self.change(Change::Settled {
            effect: outcome.effect,
            class: outcome.class,
            result: outcome.result.clone(),
        });
        let subscription = self.subscription(system);
        let stand = match outcome.class {
            OutcomeClass::Ok => {
                self.keep_id(subscription.as_deref(), &outcome.result)?;
                Stand::InSync
            }
            OutcomeClass::Cancelled => Stand::Stale,
            OutcomeClass::Failed | OutcomeClass::Dead => {
                let class = if outcome.class == OutcomeClass::Dead {
                    ExceptionClass::DeadLetter
                } else {
                    ExceptionClass::Failure
                };
                let owner = subscription.map_or_else(|| "".into(), |known| known.owner.clone());
                Stand::Failed { exception: self.open_about(effect, outcome, class, &owner) }
            }
        };
        self.change(Change::Synced { system: system.clone(), stand, digest });
        self.settled()?;
        Ok(Verdict::Applied)
    }

    /// Keeps the id that the record has in a system.
    fn keep_id(&mut self, subscription: Option<&Subscription>, result: &Value) -> Result<(), Rejection> {
        let Some((subscription, id)) = subscription.and_then(|known| Some((known, known.id.as_ref()?)))
        else {
            return Ok(());
        };
        // An answer that says none, as that to a mere change may, leaves the id that is known.
        let Ok(id) = id.eval(&Scope::new().with("result", result)) else { return Ok(()) };
        let path = subscription.id_path();
        if id.is_null() || self.state.field(&path) == Some(&id) {
            return Ok(());
        }
        self.write(&path.into(), id)
    }

    /// The system that an exception is about, if it is one that did not take what it was told.
    pub(super) fn untold(&self, exception: u64) -> Option<Arc<str>> {
        let systems = &self.state.origins.as_ref()?.systems;
        let found = systems.iter().find(|(_, known)| known.stand == Stand::Failed { exception });
        found.map(|(system, _)| system.clone())
    }

    /// A person has it told again: under the same key if it is still the newest, else the newest.
    pub(super) fn tell_again(
        &mut self,
        by: &Intervention,
        exception: &Exception,
        set: &Value,
        system: &Arc<str>,
    ) -> Result<(), Rejection> {
        let parked = self.state.parked.get(&exception.number).cloned();
        let sent = self.standing(system).map(|known| known.digest).unwrap_or_default();
        self.set_by_hand(set)?;
        self.close(by, exception);
        let newest = self.subscription(system).and_then(|known| self.to_tell(&known).ok().flatten());
        let newest = newest.map(|input| Hash::of(input.to_json().as_bytes()));
        let stand = match parked {
            Some(effect) if newest == Some(sent) => {
                let stand = Stand::Pending { effect: effect.id };
                self.change(Change::Reissued(Effect { due: self.envelope.at, ..effect }));
                stand
            }
            _ => Stand::Stale,
        };
        self.change(Change::Synced { system: system.clone(), stand, digest: sent });
        Ok(())
    }

    /// A person says that a system has it: with what it would have answered.
    pub(super) fn told_by_hand(&mut self, system: &Arc<str>, result: &Value) -> Result<(), Rejection> {
        if result.is_null() {
            return Ok(()); // it stays behind until the next change
        }
        let digest = self.standing(system).map(|known| known.digest).unwrap_or_default();
        self.writer = system.clone();
        self.keep_id(self.subscription(system).as_deref(), result)?;
        self.change(Change::Synced { system: system.clone(), stand: Stand::InSync, digest });
        self.settled()
    }

    /// The owner's value stays: the system that wanted another is told it once more, if it is one that is told.
    pub(super) fn remind(&mut self, exception: &Exception) {
        let by = exception.detail.get("by").and_then(Value::as_text).unwrap_or_default();
        let Some(known) = self.standing(by).filter(|known| known.stand == Stand::InSync).cloned() else {
            return;
        };
        self.change(Change::Synced { system: by.into(), stand: Stand::Stale, digest: known.digest });
    }
}

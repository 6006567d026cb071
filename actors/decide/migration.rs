//! An instance goes on under another version of its process. What decides is the version it goes to.

use std::sync::Arc;

use super::{Draft, MILESTONE, Told};
use crate::decision::{Change, ExceptionClass, Rejection, Verdict};
use crate::envelope::{Body, Migration};
use crate::process::{Due, Timer};
use crate::subscription::EFFECT;
use crate::time::Timestamp;

impl Draft<'_> {
    pub(super) fn migrate(&mut self, migration: &Migration) -> Result<Verdict, Rejection> {
        self.may_migrate(migration).map_err(|why| Rejection::Expression(why.into()))?;
        let Migration { to, state, fields, .. } = migration;
        self.change(Change::Migrated { version: *to, state: state.clone(), fields: fields.clone() });
        self.forget_timers(migration);
        if migration.enter {
            self.close_all(|exception| exception.class == ExceptionClass::Hold, "the instance was migrated");
            self.change(Change::Entered { state: state.clone() });
            self.entry(&Told::nothing())?;
        } else {
            self.rearm(migration);
            self.hold_on()?;
        }
        Ok(Verdict::Applied)
    }

    /// What speaks against it, in words.
    fn may_migrate(&self, migration: &Migration) -> Result<(), String> {
        let (state, process) = (&self.state, self.process);
        if process.version != migration.to {
            return Err(format!("it is decided by version {}, not {}", process.version, migration.to));
        }
        if state.version != migration.from {
            return Err(format!("it is on version {}, not {}", state.version, migration.from));
        }
        if state.ending.is_some() {
            return Err("it has ended".to_owned());
        }
        if state.seq != migration.at {
            return Err(format!("it has moved on to record {}; look at it again", state.seq));
        }
        if state.compensating.is_some() {
            return Err("it is being undone".to_owned());
        }
        let Some(target) = process.states.get(&migration.state) else {
            return Err(format!("version {} has no state `{}`", process.version, migration.state));
        };
        if target.end.is_some() && !migration.enter {
            return Err(format!("state `{}` ends it, so it must be entered", migration.state));
        }
        let Some(fields) = migration.fields.as_map() else { return Err("its fields are no map".to_owned()) };
        if let Some(unknown) = fields.keys().find(|name| !process.fields.contains_key(name.as_str())) {
            return Err(format!("version {} has no field `{unknown}`", process.version));
        }
        self.may_be_carried(migration)
    }

    /// Whether the new version understands what is under way.
    fn may_be_carried(&self, migration: &Migration) -> Result<(), String> {
        let (state, process) = (&self.state, self.process);
        if !migration.with_pending && !state.pending.is_empty() {
            let names: Vec<&str> = state.pending.values().map(|effect| &*effect.name).collect();
            return Err(format!("effects are under way: {}", names.join(", ")));
        }
        let mut effects = state.pending.values().chain(state.parked.values());
        // What tells a system of a record is its subscriber's, whatever the version.
        let is_told = |name: &str| process.record && name.starts_with(EFFECT);
        let is_unknown = |name: &Arc<str>| !process.effects.contains_key(name) && !is_told(name);
        if let Some(effect) = effects.find(|effect| is_unknown(&effect.name)) {
            return Err(format!(
                "effect `{}` is not over and version {} has none",
                effect.name, process.version
            ));
        }
        let is_unknown = |body: &Body| match body {
            Body::Command(_) | Body::Event(_) => !process.messages.contains_key(body.name()),
            _ => false,
        };
        match state.deferred.iter().find(|waiting| is_unknown(&waiting.body)) {
            Some(waiting) => Err(format!(
                "`{}` waits for its turn and version {} has none",
                waiting.body.name(),
                process.version
            )),
            None => Ok(()),
        }
    }

    /// Ends the timers of the old state, and those of milestones that there are no more.
    fn forget_timers(&mut self, migration: &Migration) {
        let process = self.process;
        let kept = |name: &str, due: Timestamp| match name.strip_prefix(MILESTONE) {
            Some(milestone) => process.milestones.contains_key(milestone),
            None => !migration.enter && self.wanted(migration).contains(&(name.into(), due)),
        };
        let timers = self.state.timers.iter();
        let gone: Vec<Arc<str>> =
            timers.filter(|(name, (_, due))| !kept(name, *due)).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.change(Change::TimerCleared { name });
        }
    }

    /// The timers of the new state, with when they are due. What would be over already is due now.
    fn wanted(&self, migration: &Migration) -> Vec<(Arc<str>, Timestamp)> {
        let now = self.envelope.at;
        let base = if migration.restart_timers { now } else { self.state.since };
        let state = self.process.states.get(&migration.state);
        let timers = state.into_iter().flat_map(|state| &state.timers);
        let due = |timer: &Timer| {
            let running = self.state.timers.get(&timer.name).map(|(_, due)| *due);
            match timer.due {
                // It keeps its rhythm.
                Due::Every(_) if running.is_some() && !migration.restart_timers => running,
                // A date that cannot be read has been told of when the state was entered.
                _ => self.due(timer, base).ok().flatten(),
            }
        };
        timers.filter_map(|timer| Some((timer.name.clone(), due(timer)?.max(now)))).collect()
    }

    fn rearm(&mut self, migration: &Migration) {
        for (name, due) in self.wanted(migration) {
            if !self.state.timers.contains_key(&name) {
                self.change(Change::TimerSet { name, due });
            }
        }
        let process = self.process;
        for (milestone, def) in &process.milestones {
            let name: Arc<str> = format!("{MILESTONE}{milestone}").into();
            let is_over = self.state.reached.contains(milestone) || self.state.missed.contains(milestone);
            if !is_over && !self.state.timers.contains_key(&name) {
                let due = self.state.began_at.plus(def.within).max(self.envelope.at);
                self.change(Change::TimerSet { name, due });
            }
        }
        self.reach();
    }

    /// A hold goes on as it was where the new state is one too; else it ends, or begins.
    fn hold_on(&mut self) -> Result<(), Rejection> {
        let process = self.process;
        let Some(state) = process.states.get(&self.state.status) else { return Ok(()) };
        let is_open = self.state.exceptions.values().any(|exception| exception.class == ExceptionClass::Hold);
        match (&state.hold, is_open) {
            (None, true) => {
                self.close_all(
                    |exception| exception.class == ExceptionClass::Hold,
                    "the instance was migrated",
                );
            }
            (Some(_), false) => self.hold(state, &Told::nothing())?,
            _ => {}
        }
        Ok(())
    }
}

//! Timers: armed when a state is entered, gone when it is left, told by the shell when they are due.

use std::sync::Arc;

use super::{Draft, MILESTONE, Told};
use crate::decision::{Change, Exception, ExceptionClass, Rejection, Verdict};
use crate::envelope::{Body, TimerFired};
use crate::ownership::PROCESS;
use crate::process::parse::read_time;
use crate::process::{Due, StateDef, Timer};
use crate::time::Timestamp;
use crate::value::Value;

impl<'a> Draft<'a> {
    /// Starts the timers of a state that is entered.
    pub(super) fn arm(&mut self, state: &StateDef) -> Result<(), Rejection> {
        for timer in &state.timers {
            if let Some(due) = self.due(timer, self.envelope.at)?
                && (due > self.envelope.at || !self.is_firing(&timer.name))
            {
                self.change(Change::TimerSet { name: timer.name.clone(), due });
            }
        }
        Ok(())
    }

    /// When a timer of a state is due that was entered at `since`; none as long as its date is not known.
    pub(super) fn due(&self, timer: &Timer, since: Timestamp) -> Result<Option<Timestamp>, Rejection> {
        let (time, before) = match &timer.due {
            Due::After(span) | Due::Every(span) => return Ok(Some(since.plus(*span))),
            Due::At { time, before } => (time, *before),
        };
        let problem =
            |problem: String| Rejection::Expression(format!("`at` at {}: {problem}", timer.place).into());
        let nothing = Told::nothing();
        let value =
            time.eval_optional(&self.scope(&nothing).borrowed()).map_err(|e| problem(e.to_string()))?;
        let Some(value) = value else { return Ok(None) };
        Ok(Some(read_time(&value).map_err(problem)?.minus(before)))
    }

    /// Whether it is this timer that led here: a date that is past fires once, not round and round.
    fn is_firing(&self, name: &Arc<str>) -> bool {
        matches!(&self.envelope.body, Body::Timer(fired) if fired.name == *name)
    }

    pub(super) fn timer(&mut self, fired: &TimerFired) -> Result<Verdict, Rejection> {
        let Some((_, due)) = self.state.timers.get(&fired.name).filter(|(token, _)| *token == fired.token)
        else {
            return Err(Rejection::Stale);
        };
        let due = *due;
        self.writer = PROCESS.into();
        self.change(Change::TimerCleared { name: fired.name.clone() });
        self.wind_again(&fired.name, due);
        let before = (self.state.clone(), self.changes.len(), self.effects, self.exceptions, self.hops);
        if let Err(problem) = self.ring(&fired.name) {
            self.state = before.0;
            self.changes.truncate(before.1);
            (self.effects, self.exceptions, self.hops) = (before.2, before.3, before.4);
            self.park_timer(fired, &problem);
        }
        Ok(Verdict::Applied)
    }

    /// One that comes again and again keeps its rhythm; what was due while nobody looked comes once.
    fn wind_again(&mut self, name: &Arc<str>, due: Timestamp) {
        let Some(Due::Every(span)) = self.running(name).map(|timer| &timer.due) else { return };
        let span_ms = span.as_millis().max(1);
        let missed = self.envelope.at.since(due).as_millis() / span_ms;
        let ahead = u64::try_from(span_ms.saturating_mul(missed + 1)).unwrap_or(u64::MAX);
        let due = due.plus(std::time::Duration::from_millis(ahead));
        self.change(Change::TimerSet { name: name.clone(), due });
    }

    /// Does what follows a timer of the state, or of a milestone.
    pub(super) fn ring(&mut self, name: &Arc<str>) -> Result<(), Rejection> {
        if let Some(milestone) = name.strip_prefix(MILESTONE) {
            return self.miss(milestone);
        }
        if let Some(timer) = self.running(name) {
            self.take_first(&timer.then, &Told::nothing())?;
        }
        Ok(())
    }

    /// The timer of this name in the state.
    fn running(&self, name: &str) -> Option<&'a Timer> {
        self.process.states.get(&self.state.status)?.timers.iter().find(|timer| &*timer.name == name)
    }

    /// A timer that an expression of ours cannot follow waits for a person, as a message does. Refused, it would come again for ever.
    fn park_timer(&mut self, fired: &TimerFired, problem: &Rejection) {
        let told = |e: &Exception| {
            e.class == ExceptionClass::Mapping
                && e.detail.get("timer").and_then(Value::as_text) == Some(&fired.name)
        };
        if self.state.exceptions.values().any(told) {
            return;
        }
        let id = self.envelope.id.clone();
        let summary = format!("timer `{}` waits: {problem}", fired.name);
        self.change(Change::Deferred { id: id.clone(), body: Body::Timer(fired.clone()) });
        let detail = Value::map([("message", Value::from(&*id)), ("timer", Value::from(&*fired.name))]);
        self.open(ExceptionClass::Mapping, None, summary, detail, "");
    }
}

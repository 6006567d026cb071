//! What a checker finds in a definition whose every word is known, and which still cannot be meant: transitions that are never
//! taken, states that only a failure leads out of, fields that are read and never filled.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Checker, ways_out};
use crate::document::path_of_key;
use crate::envelope::OutcomeClass;
use crate::expr::{Expr, Scope};
use crate::mapping::Mapping;
use crate::process::{Due, FailurePath, FieldKind, StateDef, Timer, Transition, Trigger};
use crate::subscription::IDS;

impl<'p> Checker<'p> {
    pub(super) fn sense(&mut self) {
        self.choices();
        self.idle_transitions();
        self.exceptions_of_states();
        self.ways_on();
        self.escalations();
        self.undoers();
        self.unfilled();
    }

    /// Of several transitions the first whose guard holds is taken: one without a guard ends the list.
    fn choices(&mut self) {
        for (path, trigger, transitions) in self.lists() {
            let open = |t: &Transition| t.when.is_none() && t.except.is_empty();
            let first = transitions.iter().position(open);
            if let Some(never) = first.and_then(|first| transitions.get(first + 1)) {
                let message = "this transition is never taken: the one before it has no guard".to_owned();
                let fix = "give the one before it a `when`, or delete this one";
                self.error(&never.place, &path, message, fix);
            }
            if let (None, Some(Trigger::Effect(effect, OutcomeClass::Ok)), Some(last)) =
                (first, trigger, transitions.last())
            {
                let message = format!("when no guard holds, nothing follows although `{effect}` is done");
                let fix = "end the list with a transition that has no `when`";
                self.warn(&last.place, &path, message, fix);
            }
        }
    }

    /// Every list of transitions with its path, and its trigger if it has one.
    fn lists(&self) -> Vec<(String, Option<&'p Trigger>, &'p [Transition])> {
        let process = self.process;
        let mut all = Vec::new();
        for (name, state) in &process.states {
            for (trigger, transitions) in &state.on {
                let path = path_of_key(&format!("states.{name}.on"), &trigger.word());
                all.push((path, Some(trigger), transitions.as_slice()));
            }
            all.push((format!("states.{name}.always"), None, state.always.as_slice()));
            let timer = |t: &'p Timer| (format!("states.{name}.{}", t.due.word()), None, t.then.as_slice());
            all.extend(state.timers.iter().map(timer));
        }
        for (trigger, transitions) in &self.process.anywhere {
            all.push((format!("anywhere.{}", trigger.word()), Some(trigger), transitions));
        }
        all
    }

    /// Who is told something may ignore it on purpose; a timer or a guard that does nothing was forgotten.
    fn idle_transitions(&mut self) {
        let idle =
            |t: &&Transition| t.to.is_none() && t.set.is_empty() && t.call.is_empty() && t.undo.is_none();
        for (path, trigger, transitions) in self.lists() {
            if matches!(trigger, Some(Trigger::Message(_) | Trigger::Effect(..))) {
                continue;
            }
            for transition in transitions.iter().filter(idle) {
                let message = "the transition does nothing".to_owned();
                self.error(&transition.place, &path, message, "say where it leads: `to: STATE`");
            }
        }
    }

    fn exceptions_of_states(&mut self) {
        for (owner, _, path, transition) in self.transitions() {
            if owner.is_some() && !transition.except.is_empty() {
                let message = "`except` means nothing in a state: the transition is of this state alone";
                self.error(&transition.place, path, message.to_owned(), "delete `except`");
            }
        }
    }

    /// A state that does something must go on when that succeeds, and one that does nothing must end.
    fn ways_on(&mut self) {
        let process = self.process;
        let goes_on = |trigger: &Trigger| match trigger {
            Trigger::Message(name) => process.messages.get(name).is_some_and(|def| !def.is_command),
            Trigger::Effect(_, class) => *class == OutcomeClass::Ok,
            Trigger::Settled | Trigger::Compensated | Trigger::InSync | Trigger::OutOfSync => true,
            Trigger::Retry => false,
        };
        let leads = |transitions: &[Transition]| transitions.iter().any(|t| t.to.is_some());
        if process.anywhere.iter().any(|(trigger, transitions)| goes_on(trigger) && leads(transitions)) {
            return;
        }
        for (name, state) in process.states.iter().filter(|(_, state)| state.end.is_none()) {
            let path = format!("states.{name}");
            if ways_out(state).next().is_none() && state.call.is_empty() && state.hold.is_none() {
                let message = format!("nothing ever happens in state `{name}`");
                self.warn(&state.place, path, message, "give it `end:`, or a way out under `on`");
            } else if !state.call.is_empty() && only_failures_leave(state) {
                let message = format!("state `{name}` is only left when something fails");
                let fix = format!("say what follows: `{}.ok: {{to: STATE}}` under `on`", state.call[0]);
                self.warn(&state.place, path, message, fix);
            }
        }
    }

    /// A state that waits until all is undone is entered by what undoes it, or waits for ever.
    fn undoers(&mut self) {
        let process = self.process;
        let undone = |name: &Arc<str>| {
            self.transitions().iter().any(|(.., t)| t.undo.is_some() && t.to.as_ref() == Some(name))
        };
        let waits = |state: &StateDef| state.on.contains_key(&Trigger::Compensated);
        let idle: Vec<_> =
            process.states.iter().filter(|(name, state)| waits(state) && !undone(name)).collect();
        for (name, state) in idle {
            let message =
                format!("state `{name}` waits for `compensated`, and nothing that leads to it undoes");
            let fix = "give the transition that leads to it `undo: \"'why'\"`";
            self.error(&state.place, format!("states.{name}.on.compensated"), message, fix);
        }
    }

    /// What a missed milestone calls is waited for in no state, so only the effect itself can say what its failure means.
    fn escalations(&mut self) {
        let process = self.process;
        for (name, milestone) in &process.milestones {
            for effect in &milestone.escalate {
                let failed = Trigger::Effect(effect.clone(), OutcomeClass::Failed);
                let unsaid =
                    process.effects.get(effect).is_some_and(|def| def.failure == FailurePath::Transition);
                if unsaid && !process.anywhere.contains_key(&failed) {
                    let message =
                        format!("milestone `{name}` does not say what happens when `{effect}` fails");
                    let fix = "add `failure: exception` or `failure: ignore` to the effect";
                    self.error(&milestone.place, format!("milestones.{name}.escalate"), message, fix);
                }
            }
        }
    }

    /// A field that an expression reads and nothing assigns is never there.
    fn unfilled(&mut self) {
        let process = self.process;
        let root = |field: &Arc<str>| field.split('.').next().unwrap_or_default().to_owned();
        let mut filled: BTreeSet<String> = BTreeSet::new();
        filled.extend(process.effects.values().flat_map(|def| def.keep.iter().map(|(f, _)| root(f))));
        filled.extend(process.states.values().flat_map(|state| state.set.iter().map(|(f, _)| root(f))));
        filled.extend(self.transitions().iter().flat_map(|(.., t)| t.set.iter().map(|(f, _)| root(f))));
        let unfilled: Vec<&String> = process.fields.keys().filter(|name| !filled.contains(*name)).collect();
        for field in unfilled {
            if process.record && field == IDS {
                continue; // what systems answer fills it
            }
            if let Some((place, path)) = self.reader(field) {
                let message = format!("field `{field}` is read here, and nothing assigns it");
                self.warn(&place, path, message, "assign it with `set` or `keep`");
            }
        }
    }

    /// The first place that reads a field, if any does.
    fn reader(&self, field: &str) -> Option<(crate::document::Place, String)> {
        let process = self.process;
        let reads = |references: Vec<Vec<String>>| {
            references.iter().any(|path| path[0] == *process.name && path.get(1).is_some_and(|f| f == field))
        };
        for (name, def) in &process.effects {
            let kept = def.keep.iter().any(|(_, mapping)| reads(mapping.references()));
            let by = def.by.iter().flat_map(|by| [&by.0, &by.1]).chain(&def.each);
            let sent =
                def.send.iter().flat_map(|send| send.exprs()).chain(by).any(|expr| reads(expr.references()));
            if kept || sent || reads(def.input.references()) {
                return Some((def.place.clone(), format!("effects.{name}")));
            }
        }
        for (name, state) in &process.states {
            let held = state
                .hold
                .iter()
                .flat_map(|hold| [Some(&hold.reason), hold.missing.as_ref(), hold.owner_by.as_ref()]);
            let dates = state.timers.iter().filter_map(|timer| match &timer.due {
                Due::At { time, .. } => Some(time),
                Due::After(_) | Due::Every(_) => None,
            });
            if held.flatten().chain(dates).any(|expr| reads(expr.references()))
                || state.set.iter().any(|(_, mapping)| reads(mapping.references()))
            {
                return Some((state.place.clone(), format!("states.{name}")));
            }
        }
        let reading = |t: &Transition| {
            t.when.iter().chain(&t.undo).any(|expr| reads(expr.references()))
                || t.set.iter().any(|(_, mapping)| reads(mapping.references()))
        };
        let found = self.transitions().into_iter().find(|(.., t)| reading(t));
        found.map(|(_, _, path, t)| (t.place.clone(), path))
    }
}

fn only_failures_leave(state: &StateDef) -> bool {
    let leaves = |transitions: &[Transition]| transitions.iter().any(|t| t.to.is_some());
    let fails = |trigger: &Trigger| match trigger {
        Trigger::Effect(_, class) => *class != OutcomeClass::Ok,
        Trigger::Retry => true,
        Trigger::Message(_)
        | Trigger::Settled
        | Trigger::Compensated
        | Trigger::InSync
        | Trigger::OutOfSync => false,
    };
    let mut out = state.on.iter().filter(|(_, transitions)| leaves(transitions)).peekable();
    out.peek().is_some()
        && out.all(|(trigger, _)| fails(trigger))
        && !leaves(&state.always)
        && !state.timers.iter().any(|timer| leaves(&timer.then))
}

/// What a field of `kind` is given that can only be something else; none where that shows when it runs.
pub(super) fn misfit(kind: FieldKind, mapping: &Mapping) -> Option<&'static str> {
    let given = mapping.kind_name().or_else(|| mapping.as_expr().and_then(constant))?;
    let fits = match kind {
        FieldKind::Text => given == "text",
        FieldKind::Number => matches!(given, "int" | "decimal"),
        FieldKind::Bool => given == "bool",
        FieldKind::List => given == "list",
        FieldKind::Map => given == "map",
        FieldKind::Any => true,
    };
    (!fits && given != "null").then_some(given)
}

/// What an expression that looks at nothing gives.
fn constant(expr: &Expr) -> Option<&'static str> {
    expr.references()
        .is_empty()
        .then(|| expr.eval(&Scope::new()).ok())
        .flatten()
        .map(|value| value.kind_name())
}

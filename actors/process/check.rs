//! What a checker finds in a definition that reads well but would not work: targets that do not exist, states that cannot be
//! reached or left, effects whose failure leads nowhere, fields nobody declared, words used where they mean nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    Due, EffectDef, FailurePath, FieldKind, OutOfTurn, Process, SendDef, StateDef, Transition, Trigger,
};
use crate::document::{Place, Problem, Severity, path_of_key, suggest};
use crate::envelope::OutcomeClass;
use crate::expr::Expr;
use crate::mapping::Mapping;

mod masks;
mod owners;
mod reads;
mod sense;

/// Everything wrong with `process`, errors and warnings. O(size of the definition).
pub fn check(process: &Process) -> Vec<Problem> {
    let mut checker = Checker { process, problems: Vec::new() };
    checker.targets();
    checker.reachability();
    checker.beginnings();
    checker.states();
    checker.failures();
    checker.undoing();
    checker.unused();
    checker.expressions();
    checker.sense();
    checker.owners();
    checker.masks();
    checker.problems
}

struct Checker<'p> {
    process: &'p Process,
    problems: Vec<Problem>,
}

/// Where an expression stands: which words mean something there.
#[derive(Clone, Copy)]
struct Words {
    data: bool,
    result: bool,
    step: bool,
}

const FIELDS_ONLY: Words = Words { data: false, result: false, step: false };

impl<'p> Checker<'p> {
    fn error(&mut self, place: &Place, path: impl Into<String>, message: String, fix: impl Into<String>) {
        self.report(Severity::Error, place, path.into(), message, fix.into());
    }

    fn warn(&mut self, place: &Place, path: impl Into<String>, message: String, fix: impl Into<String>) {
        self.report(Severity::Warning, place, path.into(), message, fix.into());
    }

    fn report(&mut self, severity: Severity, place: &Place, path: String, message: String, fix: String) {
        self.problems.push(Problem { place: place.clone(), path, message, fix: Some(fix), severity });
    }

    /// Every transition with the state it belongs to (none for `anywhere`), its trigger's words, and its path.
    fn transitions(&self) -> Vec<(Option<&'p Arc<str>>, Words, String, &'p Transition)> {
        let mut all = Vec::new();
        for (name, state) in &self.process.states {
            for (trigger, transitions) in &state.on {
                let path = path_of_key(&format!("states.{name}.on"), &trigger.word());
                all.extend(transitions.iter().map(|t| (Some(name), trigger.words(), path.clone(), t)));
            }
            all.extend(
                state.always.iter().map(|t| (Some(name), FIELDS_ONLY, format!("states.{name}.always"), t)),
            );
            for timer in &state.timers {
                let path = format!("states.{name}.{}", timer.due.word());
                all.extend(timer.then.iter().map(|t| (Some(name), FIELDS_ONLY, path.clone(), t)));
            }
        }
        for (trigger, transitions) in &self.process.anywhere {
            let path = path_of_key("anywhere", &trigger.word());
            all.extend(transitions.iter().map(|t| (None, trigger.words(), path.clone(), t)));
        }
        all
    }

    fn targets(&mut self) {
        let process = self.process;
        self.known_state(&process.initial_place, "initial", &process.initial);
        for (_, _, path, transition) in self.transitions() {
            for to in transition.to.iter().chain(&transition.except) {
                self.known_state(&transition.place, &path, to);
            }
            for effect in &transition.call {
                self.known_effect(&transition.place, &path, effect);
            }
        }
        for (name, state) in &process.states {
            for effect in &state.call {
                self.known_effect(&state.place, &format!("states.{name}.call"), effect);
            }
            for (trigger, transitions) in &state.on {
                let place = transitions.first().map_or(&state.place, |first| &first.place);
                self.known_trigger(place, &format!("states.{name}.on"), trigger);
            }
        }
        for (trigger, transitions) in &process.anywhere {
            let place = transitions.first().map_or(&process.place, |first| &first.place);
            self.known_trigger(place, "anywhere", trigger);
        }
        for (name, effect) in &process.effects {
            if let Some(undo) = &effect.undo {
                self.known_effect(&effect.place, &format!("effects.{name}.undo"), undo);
            }
        }
        for (name, milestone) in &process.milestones {
            for state in &milestone.reached_in {
                self.known_state(&milestone.place, &format!("milestones.{name}.reached_in"), state);
            }
            for effect in &milestone.escalate {
                self.known_effect(&milestone.place, &format!("milestones.{name}.escalate"), effect);
            }
        }
    }

    fn known_state(&mut self, place: &Place, path: &str, name: &str) {
        self.known(place, path, "state", name, &self.process.states.keys().map(|k| &**k).collect::<Vec<_>>());
    }

    fn known_effect(&mut self, place: &Place, path: &str, name: &str) {
        self.known(
            place,
            path,
            "effect",
            name,
            &self.process.effects.keys().map(|k| &**k).collect::<Vec<_>>(),
        );
    }

    fn known_trigger(&mut self, place: &Place, path: &str, trigger: &Trigger) {
        match trigger {
            Trigger::Message(name) => {
                let names = self.process.messages.keys().map(|k| &**k);
                let names = names.chain(["settled", "compensated", "retry", "in_sync", "out_of_sync"]);
                let effect = name.rsplit_once('.').map_or("", |(effect, _)| effect);
                let outcomes = ["ok", "failed", "dead", "cancelled"].map(|class| format!("{effect}.{class}"));
                let of_effect = self.process.effects.contains_key(effect);
                let mut all: Vec<&str> = names.collect();
                all.extend(outcomes.iter().map(String::as_str).filter(|_| of_effect));
                self.known(place, path, "message", name, &all);
            }
            Trigger::Effect(name, _) => self.known_effect(place, path, name),
            Trigger::InSync | Trigger::OutOfSync if !self.process.record => {
                let message = format!("`{}` is never so: the process is no record", trigger.word());
                self.error(place, path, message, "add `record: true` at the top, or delete the transition");
            }
            Trigger::Settled
            | Trigger::Compensated
            | Trigger::Retry
            | Trigger::InSync
            | Trigger::OutOfSync => {}
        }
    }

    fn known(&mut self, place: &Place, path: &str, what: &str, name: &str, names: &[&str]) {
        if names.contains(&name) {
            return;
        }
        let fix = match suggest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => format!("declare it: there is no {what} yet"),
            None => format!("declare it, or use one of: {}", names.join(", ")),
        };
        self.error(place, path, format!("there is no {what} `{name}`"), fix);
    }

    fn reachability(&mut self) {
        let process = self.process;
        let targets = self.transitions().into_iter().filter_map(|(.., t)| t.to.as_ref());
        if !targets.chain([&process.initial]).all(|target| process.states.contains_key(target)) {
            return; // It would be told of the states behind a misspelt one.
        }
        let anywhere = process.anywhere.values().flatten().filter_map(|t| t.to.clone());
        let mut reached: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut next: Vec<Arc<str>> = anywhere.chain([process.initial.clone()]).collect();
        while let Some(name) = next.pop() {
            let Some(state) = process.states.get(&name) else { continue };
            if reached.insert(name) {
                next.extend(ways_out(state).filter_map(|t| t.to.clone()));
            }
        }
        for (name, state) in process.states.iter().filter(|(name, _)| !reached.contains(*name)) {
            let fix = "lead a transition to it with `to`, or delete it";
            self.error(
                &state.place,
                format!("states.{name}"),
                format!("state `{name}` can never be reached"),
                fix,
            );
        }
    }

    fn beginnings(&mut self) {
        let process = self.process;
        let starting: Vec<_> = process.messages.iter().filter(|(_, def)| def.starts).collect();
        if starting.is_empty() {
            let fix = "mark the message that begins an instance with `starts: true`";
            self.error(&process.place, "messages", "no message starts an instance".to_owned(), fix);
        }
        let Some(initial) = process.states.get(&process.initial) else { return };
        for (name, def) in starting {
            // Who wants a record begins it by that, and waits until it is there.
            if process.record && def.out_of_turn == OutOfTurn::Defer {
                continue;
            }
            let trigger = Trigger::Message(name.clone());
            if !initial.on.contains_key(&trigger) && !process.anywhere.contains_key(&trigger) {
                let message = format!(
                    "`{name}` starts an instance, but state `{}` has no transition for it",
                    process.initial
                );
                let path = format!("states.{}.on", process.initial);
                self.error(&initial.place, path, message, format!("add `{name}:` under `on`"));
            }
        }
        if !process.states.values().any(|state| state.end.is_some()) {
            let fix = "give the last state `end: completed`";
            self.error(&process.place, "states", "no state ends an instance".to_owned(), fix);
        }
    }

    fn states(&mut self) {
        let process = self.process;
        for (name, state) in &process.states {
            let path = format!("states.{name}");
            let ways = ways_out(state).count();
            if state.end.is_some() && (ways > 0 || state.hold.is_some()) {
                let fix = "delete `end`, or the ways out";
                self.error(&state.place, &path, format!("state `{name}` ends the instance and goes on"), fix);
            }
            let leaves = |t: &&Transition| t.to.is_some();
            let elsewhere =
                process.anywhere.values().flatten().any(|t| t.to.is_some() && !t.except.contains(name));
            if state.end.is_none() && !elsewhere && ways_out(state).filter(leaves).count() == 0 {
                let fix = "add a transition with `to`, or `end:` if the instance is over there";
                self.error(&state.place, &path, format!("state `{name}` can never be left"), fix);
            }
            if state.hold.is_some() && !state.on.contains_key(&Trigger::Retry) {
                let fix = "add `retry: {to: …}` under `on`, so that a person can let it go on";
                self.warn(&state.place, &path, format!("the hold in `{name}` has no `retry`"), fix);
            }
        }
        self.circles();
    }

    /// States that follow one another without a guard or a trigger would go round for ever.
    fn circles(&mut self) {
        let process = self.process;
        let next = |name: &Arc<str>| -> Option<Arc<str>> {
            let first = process.states.get(name)?.always.first()?;
            first.when.is_none().then(|| first.to.clone()).flatten()
        };
        for (name, state) in &process.states {
            let (mut at, mut steps) = (next(name), 0);
            while let Some(here) = at.filter(|_| steps <= process.states.len()) {
                if here == *name {
                    let message = format!("`always` leads from `{name}` back to `{name}` without a guard");
                    self.error(
                        &state.place,
                        format!("states.{name}.always"),
                        message,
                        "give one of the transitions a `when`",
                    );
                    break;
                }
                (at, steps) = (next(&here), steps + 1);
            }
        }
    }

    /// An effect that fails must lead somewhere.
    fn failures(&mut self) {
        let process = self.process;
        let handled_anywhere = |name: &Arc<str>| {
            process.anywhere.contains_key(&Trigger::Effect(name.clone(), OutcomeClass::Failed))
        };
        for (emitted_in, place, effect) in self.emissions() {
            let Some(def) = process.effects.get(&effect) else { continue };
            let trigger = Trigger::Effect(effect.clone(), OutcomeClass::Failed);
            let handled =
                process.states.get(&emitted_in).is_some_and(|state| state.on.contains_key(&trigger));
            if def.failure == FailurePath::Transition && !handled && !handled_anywhere(&effect) {
                let message = format!("state `{emitted_in}` does not say what happens when `{effect}` fails");
                let fix = format!("add `{effect}.failed:` under `on`, or `failure: exception` to the effect");
                self.error(&place, format!("states.{emitted_in}"), message, fix);
            }
        }
    }

    /// Which effect is waited for in which state.
    fn emissions(&self) -> BTreeSet<(Arc<str>, Place, Arc<str>)> {
        let mut all = BTreeSet::new();
        for (name, state) in &self.process.states {
            all.extend(state.call.iter().map(|effect| (name.clone(), state.place.clone(), effect.clone())));
        }
        for (owner, _, _, transition) in self.transitions() {
            let Some(state) = transition.to.as_ref().or(owner) else { continue };
            all.extend(transition.call.iter().map(|e| (state.clone(), transition.place.clone(), e.clone())));
        }
        all
    }

    fn undoing(&mut self) {
        let process = self.process;
        for (_, _, path, transition) in self.transitions().into_iter().filter(|(.., t)| t.undo.is_some()) {
            let target = transition.to.as_ref().and_then(|to| process.states.get(to));
            if target.is_some_and(|state| state.commit) {
                let message = "what was done is undone, but the state that follows lets it stand".to_owned();
                let fix = "let `to` name a state without `commit: true`";
                self.error(&transition.place, path.clone(), message, fix);
            }
            let waits = target.is_some_and(|state| state.on.contains_key(&Trigger::Compensated));
            if !waits && !process.anywhere.contains_key(&Trigger::Compensated) {
                let fix = "let `to` name a state that has `compensated: {to: …}` under `on`";
                let message = "what was done is undone, but nothing follows when all of it is".to_owned();
                self.error(&transition.place, path, message, fix);
            }
        }
        for (name, effect) in &process.effects {
            let Some((undo, def)) = effect.undo.as_ref().and_then(|undo| process.effects.get_key_value(undo))
            else {
                continue;
            };
            if def.undo.is_some() {
                let message = format!("`{undo}` undoes `{name}` and has an `undo` of its own");
                self.error(
                    &def.place,
                    format!("effects.{undo}.undo"),
                    message,
                    "delete it: what undoes is not undone",
                );
            }
            if def.failure == FailurePath::Transition {
                let message =
                    format!("`{undo}` undoes `{name}`, and nothing says what happens when it fails");
                self.error(
                    &def.place,
                    format!("effects.{undo}"),
                    message,
                    "add `failure: exception`: a person must know",
                );
            }
        }
    }

    fn unused(&mut self) {
        let process = self.process;
        let mut used: BTreeSet<&str> = BTreeSet::new();
        used.extend(process.effects.values().filter_map(|def| def.undo.as_deref()));
        used.extend(process.milestones.values().flat_map(|m| m.escalate.iter().map(|e| &**e)));
        used.extend(process.states.values().flat_map(|s| s.call.iter().map(|e| &**e)));
        used.extend(self.transitions().iter().flat_map(|(.., t)| t.call.iter().map(|e| &**e)));
        for (name, def) in process.effects.iter().filter(|(name, _)| !used.contains(&***name)) {
            let fix = "call it, or delete it";
            self.warn(&def.place, format!("effects.{name}"), format!("effect `{name}` is never called"), fix);
        }
        for (name, def) in &process.messages {
            let trigger = Trigger::Message(name.clone());
            let heard = process.states.values().any(|state| state.on.contains_key(&trigger));
            if !heard && !process.anywhere.contains_key(&trigger) {
                let message = format!("no state has a transition for message `{name}`");
                let fix = format!("add `{name}:` under the `on` of a state, or delete the message");
                self.error(&def.place, format!("messages.{name}"), message, fix);
            }
        }
    }

    // ---- expressions ----

    fn expressions(&mut self) {
        let process = self.process;
        let undoing: BTreeSet<&Arc<str>> =
            process.effects.values().filter_map(|def| def.undo.as_ref()).collect();
        for (name, def) in &process.effects {
            self.effect_expressions(name, def, undoing.contains(name));
        }
        for (name, def) in &process.messages {
            if let Some(key) = &def.business_key {
                let words = Words { data: true, ..FIELDS_ONLY };
                self.expression(&def.place, &format!("messages.{name}.business_key"), key, words);
            }
            if let Some(revision) = &def.revision {
                let words = Words { data: true, ..FIELDS_ONLY };
                self.expression(&def.place, &format!("messages.{name}.revision"), revision, words);
            }
        }
        if let Some(when) = &process.told_when {
            self.expression(&process.place, "record.when", when, FIELDS_ONLY);
        }
        for (name, state) in &process.states {
            self.state_expressions(name, state);
        }
        for (_, words, path, transition) in self.transitions() {
            for expr in transition.when.iter().chain(&transition.undo) {
                self.expression(&transition.place, &path, expr, words);
            }
            self.assignments(&transition.place, &path, &transition.set, words);
        }
    }

    fn effect_expressions(&mut self, name: &str, def: &EffectDef, undoes: bool) {
        let words = Words { step: undoes, ..FIELDS_ONLY };
        for expr in def.by.iter().flat_map(|by| [&by.0, &by.1]).chain(&def.each) {
            self.expression(&def.place, &format!("effects.{name}.call"), expr, words);
        }
        self.mapping(&def.place, &format!("effects.{name}.with"), &def.input, words);
        if let Some(send) = &def.send {
            for expr in send.exprs() {
                self.expression(&send.place, &format!("effects.{name}.send"), expr, words);
            }
        }
        let words = Words { result: true, ..FIELDS_ONLY };
        self.assignments(&def.place, &format!("effects.{name}.keep"), &def.keep, words);
    }

    fn state_expressions(&mut self, name: &str, state: &StateDef) {
        let path = format!("states.{name}");
        self.assignments(&state.place, &path, &state.set, FIELDS_ONLY);
        for timer in &state.timers {
            if let Due::At { time, .. } = &timer.due {
                self.expression(&timer.place, &format!("{path}.at"), time, FIELDS_ONLY);
            }
        }
        if let Some(hold) = &state.hold {
            for expr in
                [Some(&hold.reason), hold.missing.as_ref(), hold.owner_by.as_ref()].into_iter().flatten()
            {
                self.expression(&state.place, &format!("{path}.hold"), expr, FIELDS_ONLY);
            }
        }
    }

    fn assignments(&mut self, place: &Place, path: &str, set: &[(Arc<str>, Mapping)], words: Words) {
        for (field, mapping) in set {
            let root = field.split('.').next().unwrap_or(field);
            let path = format!("{path}.{field}");
            self.known_field(place, &path, root);
            self.mapping(place, &path, mapping, words);
            let declared = self.process.fields.get(&**field);
            let each = field.ends_with(".*").then_some(FieldKind::Map);
            let kind = each.or_else(|| declared.map(|declared| declared.kind));
            if let Some(given) = kind.and_then(|kind| sense::misfit(kind, mapping)) {
                let message = format!("field `{field}` is declared as something else than {given}");
                self.error(place, path, message, format!("give it what it holds, or declare `{field}: any`"));
            }
        }
    }

    fn known_field(&mut self, place: &Place, path: &str, name: &str) {
        self.known(
            place,
            path,
            "field",
            name,
            &self.process.fields.keys().map(String::as_str).collect::<Vec<_>>(),
        );
    }

    fn expression(&mut self, place: &Place, path: &str, expr: &Expr, words: Words) {
        self.references(place, path, expr.source(), &expr.references(), words);
    }

    fn mapping(&mut self, place: &Place, path: &str, mapping: &Mapping, words: Words) {
        self.references(place, path, "", &mapping.references(), words);
    }

    fn references(
        &mut self,
        place: &Place,
        path: &str,
        source: &str,
        references: &[Vec<String>],
        words: Words,
    ) {
        let shown = if source.is_empty() { String::new() } else { format!(" in `{source}`") };
        let mut seen = BTreeSet::new();
        for reference in references.iter().filter(|reference| seen.insert((*reference).clone())) {
            let Some(root) = reference.first() else { continue };
            let member = reference.get(1);
            match root.as_str() {
                "data" if !words.data => self.misplaced(place, path, "data", &shown),
                "result" | "error" if !words.result => self.misplaced(place, path, root, &shown),
                "step" if !words.step => self.misplaced(place, path, "step", &shown),
                "steps" => {
                    if let Some(name) = member {
                        self.known_effect(place, path, name);
                    }
                }
                root if root == &*self.process.name => self.field_reference(place, path, &reference[1..]),
                _ => {}
            }
        }
    }

    fn misplaced(&mut self, place: &Place, path: &str, word: &str, shown: &str) {
        let means = match word {
            "data" => "`data` is what a message brings: it is only there on a message's transition",
            "step" => {
                "`step` is what is being undone: it is only there in an effect that another names in `undo`"
            }
            _ => {
                "`result` and `error` are an effect's answer: they are only there on its transitions and in `keep`"
            }
        };
        let fix = format!("{means}; assign what you need to a field with `set` or `keep` first");
        self.error(place, path, format!("`{word}`{shown} means nothing here"), fix);
    }

    fn field_reference(&mut self, place: &Place, path: &str, members: &[String]) {
        let Some(field) = members.first() else { return };
        match self.process.fields.get(field) {
            None => self.known_field(place, path, field),
            Some(declared) => {
                let inner = members.len() > 1;
                if inner && matches!(declared.kind, FieldKind::Text | FieldKind::Number | FieldKind::Bool) {
                    let message = format!("`{}` looks into a field that holds no map", members.join("."));
                    self.error(
                        place,
                        path,
                        message,
                        format!("declare `{field}: map`, or drop what follows it"),
                    );
                }
            }
        }
    }
}

impl Trigger {
    /// As written in a definition.
    pub fn word(&self) -> String {
        match self {
            Self::Message(name) => name.to_string(),
            Self::Effect(name, class) => format!("{name}.{}", class.word()),
            Self::Settled => "settled".to_owned(),
            Self::Compensated => "compensated".to_owned(),
            Self::Retry => "retry".to_owned(),
            Self::InSync => "in_sync".to_owned(),
            Self::OutOfSync => "out_of_sync".to_owned(),
        }
    }

    fn words(&self) -> Words {
        match self {
            Self::Message(_) => Words { data: true, ..FIELDS_ONLY },
            Self::Effect(..) => Words { result: true, ..FIELDS_ONLY },
            Self::Settled | Self::Compensated | Self::Retry | Self::InSync | Self::OutOfSync => FIELDS_ONLY,
        }
    }
}

fn ways_out(state: &StateDef) -> impl Iterator<Item = &Transition> {
    let timers = state.timers.iter().flat_map(|timer| &timer.then);
    state.on.values().flatten().chain(&state.always).chain(timers)
}

pub use masks::shown_whole;
pub use owners::{named as owners, subscription, unknown_fields};
pub use reads::{Reads, answers, reads};

/// The connector operations a process calls, with where: for checks across files.
pub fn calls(process: &Process) -> BTreeMap<(Arc<str>, Arc<str>), Place> {
    process
        .effects
        .values()
        .filter(|def| def.send.is_none() && !def.operation.is_empty()) // which has been told
        .map(|def| ((def.connector.clone(), def.operation.clone()), def.place.clone()))
        .collect()
}

/// The messages a process sends to other entities: for checks across files.
pub fn sends(process: &Process) -> impl Iterator<Item = (&EffectDef, &SendDef)> {
    process.effects.values().filter_map(|def| Some((def, def.send.as_deref()?)))
}

//! A migration: how live instances of one version of a process go on under another.
//!
//! An instance stays on the version it began with until it is migrated on purpose. The mapping is a file; [`parse`] reads it, [`check`]
//! holds it against both definitions, [`Plan::of`] says what it makes of one instance. That is then asked of the entity as an
//! [`Action::Migrate`](crate::envelope::Action::Migrate), and decided and journaled there as anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::document::{Item, Place, Problem, Spanned, suggest};
use crate::envelope::Migration;
use crate::expr::{Names, Scope};
use crate::mapping::Mapping;
use crate::process::Process;
use crate::reading;
use crate::value::{Entries, Value};

/// A mapping from one version to another.
#[derive(Debug)]
pub struct Plan {
    /// The process.
    pub process: Spanned<String>,
    /// The version that instances come from.
    pub from: Spanned<u32>,
    /// The version that they go to.
    pub to: Spanned<u32>,
    /// Where instances go on, by the state in which they are.
    states: BTreeMap<String, Target>,
    /// States whose instances stay on the old version.
    stay: BTreeMap<String, Spanned<String>>,
    /// Fields that are computed from the old ones; all others are carried over by their names.
    fields: Vec<(Spanned<String>, Mapping)>,
    /// Old fields that are given up.
    drop: Vec<Spanned<String>>,
    /// Whether instances with effects under way go too.
    with_pending: bool,
    /// Whether the timers of a state count from now instead of from when it was entered.
    restart_timers: bool,
    place: Place,
}

#[derive(Debug)]
struct Target {
    from: Spanned<String>,
    to: Spanned<String>,
    /// Whether the state begins anew: its effects are emitted and its guards looked at.
    enter: bool,
}

/// What a plan looks at of an instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its business key.
    pub key: String,
    /// Its state.
    pub status: String,
    /// Its last record.
    pub seq: u64,
    /// Its fields.
    pub fields: Value,
    /// When it began (RFC 3339).
    pub began_at: String,
}

/// Why an instance stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// The mapping says so.
    #[error("the mapping leaves state `{0}` on the old version")]
    OnPurpose(String),
    /// The mapping says nothing of its state.
    #[error("the mapping does not cover state `{0}`")]
    NotCovered(String),
    /// A field cannot be computed.
    #[error("field `{field}`: {problem}")]
    Field {
        /// Which.
        field: String,
        /// Why.
        problem: String,
    },
}

/// Reads a mapping; what is wrong goes to the reader of `item`.
pub fn parse(item: &Item<'_>) -> Option<Plan> {
    let mut top = item.fields()?;
    let process = top.text("process");
    let version = |item: Option<Item<'_>>| item.and_then(|item| item.number_within(1_u32..=1_000_000));
    let (from, to) = (version(top.required("from")), version(top.required("to")));
    let mut states: BTreeMap<String, Target> = BTreeMap::new();
    for (from, item) in top.optional_entries("states") {
        if let Some((to, enter)) = target(&item) {
            states.insert(from.value.clone(), Target { from, to, enter });
        }
    }
    for same in top.texts("same") {
        if states.contains_key(&same.value) {
            same.refuse(item.reader(), format!("state `{}` is mapped twice", same.value), "keep one of them");
        }
        states.insert(same.value.clone(), Target { from: same.clone(), to: same, enter: false });
    }
    let stay: BTreeMap<_, _> =
        top.texts("stay").into_iter().map(|state| (state.value.clone(), state)).collect();
    for state in stay.values().filter(|state| states.contains_key(&state.value)) {
        let message = format!("state `{}` is mapped and stays", state.value);
        state.refuse(item.reader(), message, "keep one of them");
    }
    let kind = process.as_ref().map_or("", |process| process.value.as_str());
    let names = Names::new([kind, "entity", "now"]);
    let fields = top.optional_entries("fields");
    let fields = fields.into_iter().filter_map(|(name, item)| Some((name, reading::mapping(&item, &names)?)));
    let fields = fields.collect();
    let drop = top.texts("drop");
    let with_pending = top.optional_choice("pending", &[("refuse", false), ("carry", true)]);
    let restart_timers = top.optional_choice("timers", &[("keep", false), ("restart", true)]);
    top.finish();
    let plan = Plan {
        process: process?,
        from: from?,
        to: to?,
        states,
        stay,
        fields,
        drop,
        with_pending: with_pending.is_some_and(|found| found.value),
        restart_timers: restart_timers.is_some_and(|found| found.value),
        place: item.place().clone(),
    };
    if plan.from.value == plan.to.value {
        plan.to.refuse(item.reader(), "it leads from a version to itself", "name another version");
    }
    Some(plan)
}

/// A state, or `{to: STATE, enter: true}`.
fn target(item: &Item<'_>) -> Option<(Spanned<String>, bool)> {
    if item.node().as_map().is_none() {
        return Some((item.text()?, false));
    }
    let mut fields = item.fields()?;
    let to = fields.text("to");
    let enter = fields.boolean("enter", false);
    fields.finish();
    Some((to?, enter))
}

/// Everything wrong with a plan between two definitions.
pub fn check(plan: &Plan, old: &Process, new: &Process) -> Vec<Problem> {
    let mut checker = Checker { plan, old, new, problems: Vec::new() };
    checker.states();
    checker.fields();
    checker.effects();
    checker.problems
}

struct Checker<'c> {
    plan: &'c Plan,
    old: &'c Process,
    new: &'c Process,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn states(&mut self) {
        let (old, new) = (self.old, self.new);
        for target in self.plan.states.values() {
            self.known(&target.from, "state", old, old.states.keys());
            self.known(&target.to, "state", new, new.states.keys());
            let ends = new.states.get(&*target.to.value).is_some_and(|state| state.end.is_some());
            if ends && !target.enter {
                let message = format!(
                    "state `{}` ends the instance, which it does only when it is entered",
                    target.to.value
                );
                let fix = format!("write `{}: {{to: {}, enter: true}}`", target.from.value, target.to.value);
                self.error(&target.to, message, fix);
            }
        }
        for state in self.plan.stay.values() {
            self.known(state, "state", old, old.states.keys());
        }
        let said = |name: &str| self.plan.states.contains_key(name) || self.plan.stay.contains_key(name);
        let silent: Vec<&str> = old
            .states
            .iter()
            .filter(|(name, state)| state.end.is_none() && !said(name))
            .map(|(name, _)| &**name)
            .collect();
        if !silent.is_empty() {
            let message = format!("nothing is said of states in which instances live: {}", silent.join(", "));
            let problem = Problem::warning(self.plan.place.clone(), "states", message);
            self.problems.push(problem.fix("map them under `states` or `same`, or list them under `stay`"));
        }
    }

    fn fields(&mut self) {
        let (old, new) = (self.old, self.new);
        for (field, mapping) in &self.plan.fields {
            self.known(field, "field", new, new.fields.keys());
            for path in mapping.references() {
                let [root, name, ..] = path.as_slice() else { continue };
                if *root == *old.name && !old.fields.contains_key(name) {
                    let message = format!("version {} has no field `{name}`", old.version);
                    self.error(field, message, near(name, old.fields.keys().map(String::as_str)));
                }
            }
        }
        for field in &self.plan.drop {
            self.known(field, "field", old, old.fields.keys());
        }
        let dropped: BTreeSet<&str> = self.plan.drop.iter().map(|field| field.value.as_str()).collect();
        let used: BTreeSet<String> = self
            .plan
            .fields
            .iter()
            .flat_map(|(_, mapping)| mapping.references())
            .filter_map(|path| path.get(1).cloned())
            .collect();
        for name in old.fields.keys() {
            if !new.fields.contains_key(name) && !dropped.contains(name.as_str()) && !used.contains(name) {
                let message = format!("field `{name}` is not in version {} and would be lost", new.version);
                let problem = Problem::error(self.plan.place.clone(), "fields", message);
                self.problems.push(
                    problem.fix(format!("compute a field from it under `fields`, or write `drop: [{name}]`")),
                );
            }
        }
    }

    /// What was done under the old version must be known to the new one.
    fn effects(&mut self) {
        for (name, effect) in &self.old.effects {
            let there = self.new.effects.get(name);
            let message = if effect.undo.is_some() && there.is_none_or(|new| new.undo.is_none()) {
                format!(
                    "effect `{name}` can be undone in version {} and not in version {}: what it did could never be undone",
                    self.old.version, self.new.version
                )
            } else if self.plan.with_pending && there.is_none() {
                format!("effect `{name}` may be under way and is not in version {}", self.new.version)
            } else {
                continue;
            };
            let fix = format!("declare `{name}` in version {}, as it was", self.new.version);
            self.problems.push(Problem::error(self.plan.place.clone(), "pending", message).fix(fix));
        }
    }

    fn known<'n, N: AsRef<str> + 'n>(
        &mut self,
        name: &Spanned<String>,
        what: &str,
        process: &Process,
        names: impl Iterator<Item = &'n N>,
    ) {
        let names: Vec<&str> = names.map(AsRef::as_ref).collect();
        if !names.contains(&name.value.as_str()) {
            let message =
                format!("version {} of `{}` has no {what} `{}`", process.version, process.name, name.value);
            self.error(name, message, near(&name.value, names.into_iter()));
        }
    }

    fn error(&mut self, at: &Spanned<String>, message: String, fix: String) {
        self.problems.push(Problem::error(at.place.clone(), at.path.clone(), message).fix(fix));
    }
}

fn near<'n>(name: &str, names: impl Iterator<Item = &'n str> + Clone) -> String {
    match suggest(name, names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("use one of: {}", names.collect::<Vec<_>>().join(", ")),
    }
}

impl Plan {
    /// What becomes of an instance of the old version; `new` is the definition it goes to, `now` the time (RFC 3339).
    ///
    /// # Errors
    /// Why it stays.
    pub fn of(&self, instance: &Instance, new: &Process, now: &str) -> Result<Migration, Stays> {
        let status = instance.status.clone();
        if self.stay.contains_key(&status) {
            return Err(Stays::OnPurpose(status));
        }
        let Some(target) = self.states.get(&status) else { return Err(Stays::NotCovered(status)) };
        let dropped = |name: &str| self.drop.iter().any(|field| field.value == name);
        let old = instance.fields.as_map();
        let carried = old.into_iter().flatten();
        let carried = carried.filter(|(name, _)| new.fields.contains_key(name.as_str()) && !dropped(name));
        let mut fields: Entries = carried.map(|(name, value)| (name.clone(), value.clone())).collect();
        let entity = Value::map([
            ("kind", Value::from(self.process.value.as_str())),
            ("key", Value::from(instance.key.as_str())),
            ("status", Value::from(instance.status.as_str())),
            ("began_at", Value::from(instance.began_at.as_str())),
        ]);
        let now = Value::from(now);
        let scope = Scope::new()
            .with(&self.process.value, &instance.fields)
            .with("entity", &entity)
            .with("now", &now);
        for (field, mapping) in &self.fields {
            let value = mapping
                .eval(&scope)
                .map_err(|error| Stays::Field { field: field.value.clone(), problem: error.to_string() })?;
            fields.insert(field.value.as_str().into(), value);
        }
        Ok(Migration {
            from: self.from.value,
            to: self.to.value,
            at: instance.seq,
            state: target.to.value.as_str().into(),
            fields: Value::Map(Arc::new(fields)),
            enter: target.enter,
            restart_timers: self.restart_timers,
            with_pending: self.with_pending,
        })
    }
}

#[cfg(test)]
mod tests;

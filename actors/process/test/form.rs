//! What is wrong with a test file before anything runs: keys nobody reads, names the process does not have. A slip there would
//! otherwise make a case pass that tests nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::class_of;
use crate::decision::{Ending, ExceptionClass};
use crate::document::{Fields, Item, Node, Problems, Reader, Spanned, suggest};
use crate::id::EntityId;
use crate::ownership::root;
use crate::process::Process;
use crate::reading;
use crate::subscription::{self, Subscription};

/// Everything wrong with the form of `file`, whose cases are about `process`.
pub fn check(file: &Node, process: &Process) -> Problems {
    let reader = Reader::default();
    if let Some(mut top) = Item::root(file, &reader).fields() {
        let told = subscribers(process, &mut top);
        Form { process, told }.file(top);
    }
    reader.into_problems()
}

/// The systems that the file says are told of the record.
fn subscribers(process: &Process, top: &mut Fields<'_>) -> Vec<Subscription> {
    let entries = top.optional_entries("subscribers");
    if let Some((name, item)) = entries.first().filter(|_| !process.record) {
        let message = format!("process `{}` is no record, so nobody is told of it", process.name);
        name.refuse(item.reader(), message, "delete `subscribers`");
    }
    let read = |(system, item): &(Spanned<String>, Item<'_>)| {
        let read = subscription::parse(&process.name, &system.value, "", item)?;
        for problem in super::super::check::subscription(process, &read) {
            item.reader().note(problem);
        }
        Some(read)
    };
    entries.iter().filter_map(read).collect()
}

struct Form<'p> {
    process: &'p Process,
    told: Vec<Subscription>,
}

impl Form<'_> {
    fn file(&self, mut top: Fields<'_>) {
        let subject = top.text("process");
        if let Some(name) = subject.filter(|name| *name.value != *self.process.name) {
            known(&top.item(), &name, "process", [&*self.process.name]);
        }
        if let Some(version) = top.optional("version") {
            version.number_within(1_u32..=1_000_000);
        }
        top.optional("from").iter().for_each(sender);
        for (message, item) in top.optional_entries("data") {
            known(&item, &message, "message", keys(&self.process.messages));
            map(&item);
        }
        for (effect, item) in top.optional_entries("answers") {
            known(&item, &effect, "effect", self.effects());
            map(&item);
        }
        for (effect, item) in top.optional_entries("replies") {
            let asking = self.process.effects.iter().filter(|(_, def)| def.send.is_some());
            known(&item, &effect, "effect that sends a message", asking.map(|(name, _)| &**name));
            if let Some(message) = item.text() {
                known(&item, &message, "message", keys(&self.process.messages));
            }
        }
        let cases = top.list("cases");
        if cases.as_ref().is_some_and(Vec::is_empty) {
            top.item().refuse("there are no cases", "add one: `cases: [{name: …, steps: […]}]`");
        }
        cases.iter().flatten().filter_map(Item::fields).for_each(|case| self.case(case));
        top.finish();
    }

    /// The process's own effects, and those that tell the systems.
    fn effects(&self) -> impl Iterator<Item = &str> + Clone {
        keys(&self.process.effects).chain(self.told.iter().map(|told| &*told.effect))
    }

    fn case(&self, mut case: Fields<'_>) {
        case.text("name");
        case.optional("key").iter().for_each(|key| self.key(key));
        let steps = case.list("steps");
        if steps.as_ref().is_some_and(Vec::is_empty) {
            case.item()
                .refuse("the case has no steps", "add one: `steps: [{when: MESSAGE, then: {state: STATE}}]`");
        }
        steps.iter().flatten().filter_map(Item::fields).for_each(|step| self.step(step));
        case.finish();
    }

    fn key(&self, item: &Item<'_>) {
        let key = item.text();
        if let Some(Err(error)) = key.map(|key| EntityId::new(&self.process.name, &key.value)) {
            let fix = "write a key as messages bring it, e.g. `SO-1001`, or `\"@eu:SO-1001\"` for one in region `eu`";
            item.refuse(error.to_string(), fix);
        }
    }

    fn step(&self, mut step: Fields<'_>) {
        let (when, run, wait) =
            (step.optional_text("when"), step.optional("run"), step.optional_duration("wait"));
        let said = [step.optional("when").is_some(), run.is_some(), step.optional("wait").is_some()];
        if said.iter().filter(|said| **said).count() != 1 {
            let fix =
                "write `when: MESSAGE`, `when: EFFECT.ok`, `run: true` or `wait: 4h`, and a step for each";
            step.item().refuse("a step does one thing", fix);
        }
        drop(wait);
        if let Some(run) = run
            && run.boolean().is_some_and(|run| !run.value)
        {
            run.refuse("`run: false` does nothing", "write `run: true`, or delete the step");
        }
        if let Some(when) = when {
            self.when(&mut step, &when);
        }
        if let Some(then) = step.optional_map("then") {
            self.then(then);
        }
        step.finish();
    }

    /// What may stand beside `when` depends on what it is.
    fn when(&self, step: &mut Fields<'_>, when: &Spanned<String>) {
        let item = step.item();
        if matches!(when.value.as_str(), "retry" | "resolve") {
            let given = if when.value == "retry" { "set" } else { "result" };
            step.optional(given).iter().for_each(exact);
            step.optional_choice("class", &CLASSES.map(|class| (class.word(), ())));
        } else if self.process.messages.contains_key(&*when.value) {
            step.optional("data").iter().for_each(map);
            step.optional("from").iter().for_each(sender);
        } else if let Some((effect, class)) = when.value.rsplit_once('.')
            && class_of(class).is_some()
        {
            let effect = Spanned { value: effect.to_owned(), ..when.clone() };
            known(&item, &effect, "effect", self.effects());
            step.optional("result").iter().for_each(exact);
            step.optional_text("detail");
        } else {
            let names = keys(&self.process.messages).chain(["retry", "resolve"]);
            known(&item, when, "message, or effect with .ok, .failed, .dead or .cancelled,", names);
            for key in ["data", "from", "result", "detail", "set", "class"] {
                step.optional(key); // what it would need is not known
            }
        }
    }

    fn then(&self, mut then: Fields<'_>) {
        let item = then.item();
        if let Some(state) = then.optional_text("state") {
            known(&item, &state, "state", keys(&self.process.states));
        }
        then.optional_choice(
            "verdict",
            &["applied", "deferred", "ignored", "rejected"].map(|word| (word, ())),
        );
        let endings = [Ending::Completed, Ending::Cancelled, Ending::Failed].map(Ending::word);
        then.optional_choice("ended", &[endings[0], endings[1], endings[2], "not"].map(|word| (word, ())));
        for (field, item) in then.optional_entries("fields") {
            known(&item, &field, "field", self.process.fields.keys().map(String::as_str));
            exact(&item);
        }
        for (field, item) in then.optional_entries("written_by") {
            let owned = self.process.fields.iter().filter(|(_, field)| field.ownership.is_some());
            let root = Spanned { value: root(&field.value).to_owned(), ..field.clone() };
            known(&item, &root, "field with an owner", owned.map(|(name, _)| name.as_str()));
            item.text();
        }
        for (system, item) in then.optional_entries("systems") {
            known(&item, &system, "system under `subscribers`", self.told.iter().map(|told| &*told.system));
            item.choice(&["in_sync", "pending", "failed", "stale", "not_told"].map(|word| (word, ())));
        }
        self.calls(&mut then);
        for (key, what, names) in [
            ("called_off", "effect", self.effects().collect::<Vec<_>>()),
            ("reached", "milestone", keys(&self.process.milestones).collect()),
            ("missed", "milestone", keys(&self.process.milestones).collect()),
        ] {
            then.texts(key).iter().for_each(|name| known(&item, name, what, names.iter().copied()));
        }
        then.optional_list("exceptions").iter().filter_map(Item::fields).for_each(exception);
        then.finish();
    }

    /// A list of names, or a map of name to part of the input.
    fn calls(&self, then: &mut Fields<'_>) {
        let Some(calls) = then.optional("calls") else { return };
        let effects = || self.effects();
        if calls.node().as_map().is_some() {
            for (name, item) in calls.entries().unwrap_or_default() {
                known(&item, &name, "effect", effects());
                exact(&item);
            }
            return;
        }
        let names = calls.list().unwrap_or_default();
        names.iter().filter_map(Item::text).for_each(|name| known(&calls, &name, "effect", effects()));
    }
}

const CLASSES: [ExceptionClass; 9] = [
    ExceptionClass::Hold,
    ExceptionClass::DeadLetter,
    ExceptionClass::Failure,
    ExceptionClass::Late,
    ExceptionClass::Mapping,
    ExceptionClass::Compensation,
    ExceptionClass::Quarantine,
    ExceptionClass::Poison,
    ExceptionClass::Conflict,
];

fn exception(mut fields: Fields<'_>) {
    fields.optional_choice("class", &CLASSES.map(|class| (class.word(), ())));
    fields.optional_text("owner");
    fields.optional_text("summary");
    fields.finish();
}

/// The system, the caller, or the entity that sends the message.
fn sender(item: &Item<'_>) {
    let Some(from) = item.text() else { return };
    if from.value.contains('/') {
        if let Err(error) = EntityId::parse(&from.value) {
            item.refuse(error.to_string(), "write the sender's kind and key, e.g. `order/SO-1001`");
        }
    } else if from.value.is_empty() || from.value.contains(char::is_whitespace) {
        let message = format!("`{}` is no name of a sender", from.value);
        item.refuse(message, "write a system (`crm`), a caller (`api:anna`) or an entity (`order/SO-1001`)");
    }
}

/// Data that is a map, as what a message brings is.
fn map(item: &Item<'_>) {
    if item.entries().is_some() {
        exact(item);
    }
}

/// Data must be kept exactly, or a comparison says what nobody wrote.
fn exact(item: &Item<'_>) {
    if reading::value(item.node()).is_none() {
        item.refuse(
            "a number here has too many digits to be exact",
            "write at most 28 digits, or put it in quotes",
        );
    }
}

fn keys<T>(map: &BTreeMap<Arc<str>, T>) -> impl Iterator<Item = &str> + Clone {
    map.keys().map(|name| &**name)
}

fn known<'n>(item: &Item<'_>, name: &Spanned<String>, what: &str, names: impl IntoIterator<Item = &'n str>) {
    let names: Vec<&str> = names.into_iter().collect();
    if names.contains(&name.value.as_str()) {
        return;
    }
    let fix = match suggest(&name.value, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => format!("delete it: the process has no {what}"),
        None => format!("use one of: {}", names.join(", ")),
    };
    name.refuse(item.reader(), format!("there is no {what} `{}`", name.value), fix);
}

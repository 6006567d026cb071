//! What changes from one integration to another, whom it touches and what of it breaks somebody.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use syncline_actors::process::{Catalog, Process, check};
use syncline_actors::schema::{Sides, compare};
use syncline_actors::slo::Slo;

use super::governance::exempt;
use super::{Files, Integration};
use crate::ingress::source::{Meaning, Source};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `process`, `source`, `connector`, `schema` or `objective`.
    pub what: &'static str,
    /// Which, e.g. `order 2` or `crm opportunity.confirmed 1`.
    pub name: String,
    /// What is other, in words.
    pub change: String,
    /// Whether somebody is broken by it.
    pub breaking: bool,
    /// Systems that it touches: sources and connectors.
    pub systems: BTreeSet<String>,
}

/// Everything that changes, in order.
#[derive(Debug, Default, Serialize)]
pub struct Difference {
    /// What changes.
    pub changes: Vec<Change>,
    /// Processes of which a version comes, goes or is another, with the versions that are old.
    pub processes: BTreeMap<String, BTreeSet<u32>>,
}

impl Difference {
    /// Whether somebody is broken by a change.
    pub fn is_breaking(&self) -> bool {
        self.changes.iter().any(|change| change.breaking)
    }
}

/// What changes from `old` to `new`, with the files of both.
pub fn difference(old: (&Integration, &Files), new: (&Integration, &Files)) -> Difference {
    let mut found = Difference::default();
    found.processes(old.0, new.0);
    found.sources(old, new);
    found.connectors(old, new);
    found.objectives(old.0, new.0);
    found
}

impl Difference {
    fn note(
        &mut self,
        what: &'static str,
        name: String,
        change: impl Into<String>,
        breaking: bool,
        systems: BTreeSet<String>,
    ) {
        self.changes.push(Change { what, name, change: change.into(), breaking, systems });
    }

    fn processes(&mut self, old: &Integration, new: &Integration) {
        for process in old.catalog.iter() {
            let name = format!("{} {}", process.name, process.version);
            let systems = systems(process, &[old, new]);
            match new.catalog.version(&process.name, process.version) {
                Some(same) if same.text == process.text => continue,
                Some(_) => {
                    let change = format!(
                        "has another text under the same version: a node that knows the old one refuses to start; give it version {}",
                        process.version + 1
                    );
                    self.note("process", name, change, true, systems);
                }
                None if new.catalog.newest(&process.name).is_none() => {
                    let change = "is gone: what is sent to it is not understood; live instances go on under the text that the store keeps";
                    self.note("process", name, change, true, systems);
                }
                None => {
                    let change =
                        "is in no file any more: live instances go on under the text that the store keeps";
                    self.note("process", name, change, false, systems);
                }
            }
            self.processes.entry(process.name.to_string()).or_default().insert(process.version);
        }
        for process in new.catalog.iter() {
            if old.catalog.version(&process.name, process.version).is_none() {
                self.new_version(process, &old.catalog, &[old, new]);
            }
        }
    }

    /// Nobody is broken by another promise, and everybody who made it should know.
    fn objectives(&mut self, old: &Integration, new: &Integration) {
        let by_name = |integration: &'_ Integration| -> BTreeMap<String, String> {
            let promise = |slo: &Slo| {
                let (process, milestone) = (&slo.process.value, &slo.milestone.value);
                let days = slo.window.as_secs_f64() / 86_400.0;
                format!(
                    "{}% of `{process}` reach `{milestone}` in time, over {days} days",
                    slo.target * 100.0
                )
            };
            integration.slos.iter().map(|slo| (slo.name.to_string(), promise(slo))).collect()
        };
        let (before, now) = (by_name(old), by_name(new));
        let all: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        for name in all {
            let change = match (before.get(name), now.get(name)) {
                (None, Some(promise)) => format!("is new: {promise}"),
                (Some(promise), None) => format!("is gone: {promise}"),
                (Some(old), Some(new)) if old != new => format!("was {old}; is {new}"),
                _ => continue,
            };
            self.note("objective", name.clone(), change, false, BTreeSet::new());
        }
    }

    fn new_version(&mut self, process: &Process, before: &Catalog, all: &[&Integration]) {
        let name = format!("{} {}", process.name, process.version);
        let systems = systems(process, all);
        let Some(last) = before.newest(&process.name) else {
            return self.note("process", name, "is new", false, systems);
        };
        let olds = before.iter().filter(|old| old.name == process.name).map(|old| old.version);
        self.processes.entry(process.name.to_string()).or_default().extend(olds);
        let gone: Vec<&str> = last
            .messages
            .keys()
            .filter(|name| !process.messages.contains_key(*name))
            .map(|name| &**name)
            .collect();
        let parts = [
            ("state", named(&last.states, &process.states)),
            ("message", named(&last.messages, &process.messages)),
            ("effect", named(&last.effects, &process.effects)),
            ("field", named(&last.fields, &process.fields)),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, said)| !said.is_empty())
            .map(|(what, said)| format!("{what}s {said}"))
            .collect();
        let inner = if parts.is_empty() { "with the same parts".to_owned() } else { parts.join("; ") };
        let mut change = format!("is new beside {}: {inner}; new instances begin under it", last.version);
        if !gone.is_empty() {
            change = format!("{change}; who still sends {} is refused", gone.join(", "));
        }
        self.note("process", name, change, !gone.is_empty(), systems);
    }

    fn sources(
        &mut self,
        (old, old_files): (&Integration, &Files),
        (new, new_files): (&Integration, &Files),
    ) {
        let own = |name: &str| BTreeSet::from([name.to_owned()]);
        for (name, before) in &old.sources {
            let Some(after) = new.sources.get(name) else {
                self.note(
                    "source",
                    name.to_string(),
                    "is gone: what it sends is answered 401",
                    true,
                    own(name),
                );
                continue;
            };
            self.messages(before, after, old, new);
            if same_file(old_files, new_files, "sources/", &format!("source: {name}")) == Some(false) {
                self.note("source", name.to_string(), "its file has changed", false, own(name));
            }
        }
        for name in new.sources.keys().filter(|name| !old.sources.contains_key(*name)) {
            self.note("source", name.to_string(), "is new", false, own(name));
        }
    }

    fn messages(&mut self, before: &Source, after: &Source, old: &Integration, new: &Integration) {
        let own = || BTreeSet::from([before.name.to_string()]);
        for (event_type, meaning) in &before.messages {
            let name = format!("{} {event_type}", before.name);
            let Some(now) = after.messages.get(event_type) else {
                self.note("source", name, "is not understood any more: it goes to quarantine", true, own());
                continue;
            };
            for (version, file) in &meaning.schemas {
                let name = format!("{name} {version}");
                let Some(other) = now.schemas.get(version) else {
                    self.note(
                        "schema",
                        name,
                        "is gone: messages of this version go to quarantine",
                        true,
                        own(),
                    );
                    continue;
                };
                let models = old.schemas.model(&file.value).zip(new.schemas.model(&other.value));
                let Some(((was, _), (is, outside))) = models else { continue };
                if was == is {
                    continue;
                }
                let sides = Sides { writer: version, reader: version, reader_is_newer: true };
                let found = compare(was, is, sides, &exempt(now));
                if let Some(first) = found.first() {
                    let more = if found.len() > 1 {
                        format!(" (and {} more)", found.len() - 1)
                    } else {
                        String::new()
                    };
                    let change = format!("refuses what was valid: {}{more}", first.message);
                    self.note("schema", name, change, true, own());
                } else if outside.iter().any(|outside| !outside.is_slip) {
                    self.note("schema", name, "has changed in a way that cannot be judged", true, own());
                } else {
                    self.note("schema", name, "has changed; all that was valid is valid", false, own());
                }
            }
            self.new_schemas(&name, meaning, now, new, own());
        }
        for event_type in after.messages.keys().filter(|name| !before.messages.contains_key(*name)) {
            self.note("source", format!("{} {event_type}", before.name), "is new", false, own());
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "the names are made for this call alone")]
    fn new_schemas(
        &mut self,
        name: &str,
        before: &Meaning,
        now: &Meaning,
        new: &Integration,
        own: BTreeSet<String>,
    ) {
        let verdicts = super::verdicts(now, &new.schemas);
        for version in now.schemas.keys().filter(|version| !before.schemas.contains_key(*version)) {
            let broken =
                verdicts.iter().find(|finding| finding.newer == *version || finding.older == *version);
            let change = match broken {
                Some(finding) => format!("is new: {}: {}", finding.whom(), finding.found.message),
                None => "is new and as compatible as was declared".to_owned(),
            };
            self.note("schema", format!("{name} {version}"), change, broken.is_some(), own.clone());
        }
    }

    fn connectors(
        &mut self,
        (old, old_files): (&Integration, &Files),
        (new, new_files): (&Integration, &Files),
    ) {
        let own = |name: &str| BTreeSet::from([name.to_owned()]);
        let called: BTreeSet<(String, String)> = old
            .catalog
            .iter()
            .flat_map(|process| check::calls(process).into_keys())
            .map(|(c, o)| (c.to_string(), o.to_string()))
            .collect();
        for (name, before) in &old.connectors {
            let is_called = |operation: &str| called.contains(&(name.to_string(), operation.to_owned()));
            let Some(after) = new.connectors.get(name) else {
                let breaking = before.operations.keys().any(|operation| is_called(operation));
                let change =
                    if breaking { "is gone: effects of live instances wait for ever" } else { "is gone" };
                self.note("connector", name.to_string(), change, breaking, own(name));
                continue;
            };
            for operation in
                before.operations.keys().filter(|operation| !after.operations.contains_key(*operation))
            {
                let breaking = is_called(operation);
                let change = if breaking { "is gone, and live instances call it" } else { "is gone" };
                self.note("connector", format!("{name}.{operation}"), change, breaking, own(name));
            }
            for operation in
                after.operations.keys().filter(|operation| !before.operations.contains_key(*operation))
            {
                self.note("connector", format!("{name}.{operation}"), "is new", false, own(name));
            }
            if same_file(old_files, new_files, "connectors/", &format!("connector: {name}")) == Some(false) {
                self.note("connector", name.to_string(), "its file has changed", false, own(name));
            }
        }
        for name in new.connectors.keys().filter(|name| !old.connectors.contains_key(*name)) {
            self.note("connector", name.to_string(), "is new", false, own(name));
        }
    }
}

/// Whether the file that says `says` is the same in both; none where one has no such file.
fn same_file(old: &Files, new: &Files, part: &str, says: &str) -> Option<bool> {
    let of = |files: &Files| {
        let mut files = files.iter().filter(|(name, _)| name.starts_with(part));
        files.find(|(_, text)| text.lines().any(|line| line.trim_end() == says)).map(|(_, text)| text.clone())
    };
    Some(of(old)? == of(new)?)
}

/// The systems that send to a process, and those that it calls.
fn systems(process: &Process, integrations: &[&Integration]) -> BTreeSet<String> {
    let called = check::calls(process).into_keys().map(|(connector, _)| connector.to_string());
    let sends = |source: &&Source| {
        let mut all = source.messages.values().flat_map(|meaning| &meaning.send);
        all.any(|send| *send.process.value == *process.name)
    };
    let senders = integrations.iter().flat_map(|integration| integration.sources.values());
    senders.filter(sends).map(|source| source.name.to_string()).chain(called).collect()
}

/// `+new, -gone`.
fn named<K: AsRef<str> + Ord, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> String {
    let more = new.keys().filter(|key| !old.contains_key(*key)).map(|key| format!("+{}", key.as_ref()));
    let less = old.keys().filter(|key| !new.contains_key(*key)).map(|key| format!("-{}", key.as_ref()));
    more.chain(less).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;

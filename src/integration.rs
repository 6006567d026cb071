//! The integration: everything that is data. Reads a directory of processes, sources, connectors and schemas as a whole, checks
//! each file and what they say of one another, and reports every mistake with its place and a fix.
//!
//! ```text
//! DIR/processes/*.yaml    state machines         DIR/processes/*.test.yaml   their given/when/then
//! DIR/sources/*.yaml      who sends to us        DIR/sources/presets/*.yaml  signature schemes by vendor
//! DIR/connectors/*.yaml   whom we call           DIR/schemas/**.json         JSON Schemas of what comes in
//! DIR/migrations/*.yaml   from version to version
//! DIR/slos/*.yaml         what is promised, in the form of OpenSLO
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use include_dir::{Dir, include_dir};
use sha2::{Digest as _, Sha256};
use syncline_actors::document::{Item, Node, Place, Problem, Problems, Reader, Spanned, suggest};
use syncline_actors::expr::Expr;
use syncline_actors::letter::{self, XREF};
use syncline_actors::mapping::Mapping;
use syncline_actors::migration::Plan;
use syncline_actors::ownership::{OPERATOR, PROCESS};
use syncline_actors::process::{Catalog, MessageDef, Process, Target, Telling, check, parse};
use syncline_actors::slo::{self, Slo};

use crate::delivery::contract::{self, Connector, Reconcile};
use crate::ingress::gate::Schemas;
use crate::ingress::preset::Presets;
use crate::ingress::source::{self, Source};

mod aliases;
mod difference;
mod exchanges;
mod gives;
mod governance;
mod migrations;
mod reads;

pub use difference::{Change, Difference, difference};
pub use governance::verdicts;

/// A checked integration.
#[derive(Debug)]
pub struct Integration {
    /// The processes, every version.
    pub catalog: Catalog,
    /// The sources, by name.
    pub sources: BTreeMap<Arc<str>, Source>,
    /// The connectors, by name.
    pub connectors: BTreeMap<Arc<str>, Connector>,
    /// The schemas, by their path below `schemas/`.
    pub schemas: Schemas,
    /// How instances go from one version of a process to another, by the file's name less its ending, e.g. `order.1-2`.
    pub migrations: BTreeMap<String, Plan>,
    /// The objectives, by name.
    pub slos: Vec<Slo>,
    /// What tells one set of files from another: the beginning of a hash over all of them.
    pub hash: String,
}

/// What reading a directory gave: the integration unless something is wrong, the problems, and the texts they are about.
#[derive(Debug)]
pub struct Read {
    /// The integration; none when a problem is an error.
    pub integration: Option<Integration>,
    /// Errors and warnings, by place.
    pub problems: Problems,
    /// The files read, by the name the problems use.
    pub texts: BTreeMap<String, String>,
}

/// Why a directory could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read. Nothing was loaded.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// There is no such directory.
    #[error(
        "there is no directory {0}: name the one that has processes/, sources/ and connectors/, e.g. `config`"
    )]
    Missing(PathBuf),
    /// There is nothing of an integration in the directory.
    #[error(
        "{0} holds no processes/, sources/ or connectors/: name the directory that has them, e.g. `config`"
    )]
    Empty(PathBuf),
}

/// Processes that are part of the program.
const BUILTIN: [&str; 5] = ["quarantine", "poll", "reconcile", "balance", XREF];

/// What a process may tell the cross-reference.
const LINKING: [&str; 2] = [letter::LINKED, letter::UNLINKED];

/// The directories that an integration consists of.
const PARTS: [&str; 6] = ["processes", "sources", "connectors", "schemas", "migrations", "slos"];

/// The files of an integration, by path below its directory, in order.
pub type Files = BTreeMap<String, String>;

/// The integration that comes with the program.
static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/config");

/// The files of the integration that comes with the program: order to cash over the simulated systems.
pub fn shipped() -> Files {
    fn collect(directory: &Dir<'_>, files: &mut Files) {
        for file in directory.files() {
            if let (Some(path), Some(text)) = (file.path().to_str(), file.contents_utf8()) {
                files.insert(path.replace('\\', "/"), text.to_owned());
            }
        }
        directory.dirs().for_each(|directory| collect(directory, files));
    }
    let mut files = Files::new();
    PARTS.iter().filter_map(|part| SHIPPED.get_dir(part)).for_each(|part| collect(part, &mut files));
    files
}

/// Reads the directory's files into memory.
pub fn files(directory: &Path) -> Result<Files, Error> {
    if !directory.is_dir() {
        return Err(Error::Missing(directory.to_owned()));
    }
    let mut files = Files::new();
    for part in PARTS {
        let below = directory.join(part);
        if below.is_dir() {
            collect(&below, part, &mut files)?;
        }
    }
    if files.is_empty() { Err(Error::Empty(directory.to_owned())) } else { Ok(files) }
}

fn collect(directory: &Path, name: &str, files: &mut Files) -> Result<(), Error> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::Unreadable { path, error }
    };
    for entry in std::fs::read_dir(directory).map_err(unreadable(directory))? {
        let path = entry.map_err(unreadable(directory))?.path();
        let Some(file) = path.file_name().and_then(|file| file.to_str()) else { continue };
        let name = format!("{name}/{file}");
        if path.is_dir() {
            collect(&path, &name, files)?;
        } else if [".yaml", ".yml", ".json"].iter().any(|ending| file.ends_with(ending)) {
            let text = std::fs::read(&path).map_err(unreadable(&path))?;
            files.insert(name, String::from_utf8_lossy(&text).into_owned());
        }
    }
    Ok(())
}

/// Reads and checks a directory.
pub fn load(directory: &Path) -> Result<Read, Error> {
    Ok(read(&files(directory)?, &directory.to_string_lossy()))
}

/// Checks files; `prefix` is put before their names in problems.
pub fn read(files: &Files, prefix: &str) -> Read {
    let reader = Reader::default();
    let named = |name: &str| {
        if prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", prefix.trim_end_matches('/')) }
    };
    let mut loader = Loader { reader: &reader, files, named: &named, unread: BTreeSet::new() };
    let integration = loader.all();
    let problems = reader.into_problems();
    let integration = (!problems.is_fatal()).then_some(integration);
    let texts = files.iter().map(|(name, text)| (named(name), text.clone())).collect();
    Read { integration, problems, texts }
}

fn hash(files: &Files) -> String {
    let mut hash = Sha256::new();
    for part in files.iter().flat_map(|(name, text)| [name, text]) {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..6])
}

struct Loader<'l> {
    reader: &'l Reader,
    files: &'l Files,
    named: &'l dyn Fn(&str) -> String,
    /// Of what a file could not be understood: what such a file defines must not be called unknown.
    unread: BTreeSet<&'static str>,
}

impl<'l> Loader<'l> {
    fn all(&mut self) -> Integration {
        let schemas = self.schemas();
        let connectors = self.connectors();
        let mut catalog = self.processes(&connectors);
        self.subscribe(&mut catalog, &connectors);
        catalog.iter().for_each(|process| self.check_sends(process, &catalog));
        let presets = self.presets();
        let sources = self.sources(&presets, &schemas);
        self.cross_reference(&mut catalog, &sources);
        let migrations = self.migrations(&catalog);
        self.check_keywords(&schemas);
        for connector in connectors.values() {
            self.check_reconcile(connector, &catalog);
        }
        for source in sources.values() {
            self.check_source(source, &catalog, &schemas);
            self.check_versions(source, &schemas);
            self.check_poll(source, &connectors);
        }
        for process in catalog.iter() {
            self.check_owners(process, &sources, &connectors);
        }
        let slos = self.slos(&catalog);
        Integration { catalog, sources, connectors, schemas, migrations, slos, hash: hash(self.files) }
    }

    /// The files of one part with their names in problems, less the tests beside them.
    fn part(&self, part: &'static str) -> impl Iterator<Item = (String, &'l str)> + use<'l> {
        let (named, files) = (self.named, self.files);
        let of_part = move |name: &str| {
            name.starts_with(part) && !name.contains("/presets/") && !name.ends_with(".test.yaml")
        };
        files
            .iter()
            .filter(move |(name, _)| of_part(name))
            .map(move |(name, text)| (named(name), text.as_str()))
    }

    fn schemas(&self) -> Schemas {
        let mut schemas = Schemas::default();
        for (name, text) in self.files.iter().filter(|(name, _)| name.starts_with("schemas/")) {
            let key = name.trim_start_matches("schemas/");
            schemas.add(key, text, &(self.named)(name), self.reader);
        }
        schemas
    }

    fn connectors(&mut self) -> BTreeMap<Arc<str>, Connector> {
        let mut connectors = BTreeMap::new();
        for (file, text) in self.part("connectors/") {
            let node = self.reader.read(&file, text);
            let read = node.and_then(|node| Some((contract::parse(&Item::root(&node, self.reader))?, node)));
            let Some((connector, node)) = read else {
                self.unread.insert("connector");
                continue;
            };
            let owner = &connector.owner;
            self.owned(&node, &format!("connector `{}`", connector.name), &owner.team, &owner.escalate);
            if connectors.contains_key(&connector.name) {
                let message = format!("connector `{}` is defined twice", connector.name);
                self.refuse(&node, "connector", message, "give one of them another name, or delete it");
                continue;
            }
            connectors.insert(connector.name.clone(), connector);
        }
        connectors
    }

    fn processes(&mut self, connectors: &BTreeMap<Arc<str>, Connector>) -> Catalog {
        let mut catalog = Catalog::default();
        for (file, text) in self.part("processes/") {
            let node = self.reader.read(&file, text);
            let Some((process, node)) =
                node.and_then(|node| Some((parse::parse(&node, text, self.reader)?, node)))
            else {
                self.unread.insert("process");
                continue;
            };
            for problem in check::check(&process) {
                self.reader.note(problem);
            }
            let owner = &process.owner;
            self.owned(&node, &format!("process `{}`", process.name), &owner.team, &owner.escalate);
            self.check_calls(&process, connectors);
            self.check_exchanges(&process, connectors);
            self.check_own(&process);
            let (name, version) = (process.name.clone(), process.version);
            if catalog.add(process).is_some() {
                let message = format!("version {version} of process `{name}` is defined twice");
                self.refuse(&node, "version", message, format!("write `version: {}`", version + 1));
            }
        }
        catalog
    }

    /// What a process sends to other entities must be understood where it arrives.
    fn check_sends(&self, process: &Process, catalog: &Catalog) {
        for (def, send) in check::sends(process) {
            let Telling::Named { name, is_command } = &send.message else { continue };
            let about = |what: &str| format!("effects.send.{what}");
            let Target::Key { process: target, .. } = &send.to else {
                let known = |process: &&Arc<Process>| process.messages.contains_key(name);
                if !catalog.iter().any(|process| known(&process)) && self.unread.is_empty() {
                    let names = catalog.iter().flat_map(|p| p.messages.keys()).map(|name| &**name);
                    let names: BTreeSet<&str> = names.collect();
                    let names: Vec<&str> = names.into_iter().collect();
                    self.unknown(&send.place, &about("event"), "message of any process", name, &names);
                }
                continue;
            };
            if **target == *XREF {
                if *is_command || !LINKING.contains(&&**name) {
                    let message = format!("a cross-reference is not told `{name}`");
                    let fix = "write `event: xref.linked` with `{entity: …}`, or `event: xref.unlinked`";
                    self.reader.note(Problem::error(send.place.clone(), about("event"), message).fix(fix));
                }
                continue;
            }
            let Some(receiver) = catalog.newest(target) else {
                let names: Vec<_> = catalog.iter().map(|process| &*process.name).collect();
                self.unknown(&send.place, &about("to"), "process", target, &names);
                continue;
            };
            let Some(message) = receiver.messages.get(name) else {
                let what = format!("message of process `{target}`");
                let names: Vec<_> = receiver.messages.keys().map(|name| &**name).collect();
                self.unknown(&send.place, &about("event"), &what, name, &names);
                continue;
            };
            self.check_kind_of_message(&send.place, &about("event"), (target, name), message, *is_command);
            self.check_message_gives((&send.place, "effects.with"), &def.input, receiver, name);
        }
    }

    /// What asks is no event, and what tells is no command.
    fn check_kind_of_message(
        &self,
        place: &Place,
        path: &str,
        (process, name): (&str, &str),
        message: &MessageDef,
        is_command: bool,
    ) {
        if message.is_command == is_command {
            return;
        }
        let (is, right) = if message.is_command { ("a command", "command") } else { ("an event", "event") };
        let said = format!("`{name}` is {is} of process `{process}`");
        self.reader.note(Problem::error(place.clone(), path, said).fix(format!("write `{right}: {name}`")));
    }

    /// What only the program's own processes may be called and do.
    fn check_own(&self, process: &Process) {
        if BUILTIN.contains(&&*process.name) {
            let message = format!("`{}` is a process that is part of the program", process.name);
            self.reader.note(
                Problem::error(process.place.clone(), "process", message)
                    .fix("give the process another name"),
            );
        }
        for (name, def) in process.effects.iter().filter(|(_, def)| def.by.is_some()) {
            let message = "a call that an expression names cannot be checked before it is made".to_owned();
            let path = format!("effects.{name}.call");
            let fix = "write `call: connector.operation`";
            self.reader.note(Problem::error(def.place.clone(), path, message).fix(fix));
        }
    }

    fn check_calls(&self, process: &Process, connectors: &BTreeMap<Arc<str>, Connector>) {
        for ((connector, operation), place) in check::calls(process) {
            let path = format!("call: {connector}.{operation}");
            let Some(found) = connectors.get(&connector) else {
                self.unknown(
                    &place,
                    &path,
                    "connector",
                    &connector,
                    &connectors.keys().map(|name| &**name).collect::<Vec<_>>(),
                );
                continue;
            };
            if !found.operations.contains_key(&operation) {
                let what = format!("operation of connector `{connector}`");
                self.unknown(
                    &place,
                    &path,
                    &what,
                    &operation,
                    &found.operations.keys().map(|name| &**name).collect::<Vec<_>>(),
                );
            }
        }
    }

    /// Whoever wants the changes of a record is told them.
    fn subscribe(&self, catalog: &mut Catalog, connectors: &BTreeMap<Arc<str>, Connector>) {
        let all = connectors.values().flat_map(|connector| &connector.subscribes);
        for (kind, subscription) in all {
            let Some(process) = catalog.newest(kind).cloned() else {
                let path = format!("subscribes.{kind}");
                let names: Vec<_> = catalog.iter().filter(|p| p.record).map(|p| p.name.clone()).collect();
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                self.unknown(&subscription.place, &path, "process", kind, &names);
                continue;
            };
            for problem in check::subscription(&process, subscription) {
                self.reader.note(problem);
            }
            if let Some(connector) = connectors.get(&subscription.system) {
                self.check_subscription(kind, subscription, connector);
            }
            catalog.subscribe(kind, subscription);
        }
    }

    /// Who owns a field must be somebody who can write it.
    fn check_owners(
        &self,
        process: &Process,
        sources: &BTreeMap<Arc<str>, Source>,
        connectors: &BTreeMap<Arc<str>, Connector>,
    ) {
        let names: BTreeSet<&str> =
            sources.keys().chain(connectors.keys()).map(|name| &**name).chain([OPERATOR, PROCESS]).collect();
        let unread = ["source", "connector"].iter().any(|part| self.unread.contains(part));
        for (owner, (place, path)) in check::owners(process) {
            if !unread && !names.contains(&*owner) {
                let names: Vec<&str> = names.iter().copied().collect();
                self.unknown(&place, &path, "source or connector", &owner, &names);
            }
        }
    }

    fn presets(&self) -> Presets {
        let mut presets = Presets::builtin();
        for (name, text) in self.files.iter().filter(|(name, _)| name.starts_with("sources/presets/")) {
            presets.read(&(self.named)(name), text, self.reader);
        }
        presets
    }

    fn sources(&mut self, presets: &Presets, schemas: &Schemas) -> BTreeMap<Arc<str>, Source> {
        let mut sources = BTreeMap::new();
        for (file, text) in self.part("sources/") {
            let Some(node) = self.reader.read(&file, text) else {
                self.unread.insert("source");
                continue;
            };
            let Some(source) = source::parse(&Item::root(&node, self.reader), presets) else {
                self.unread.insert("source");
                continue;
            };
            let owner = &source.owner;
            self.owned(&node, &format!("source `{}`", source.name), &owner.team, &owner.escalate);
            if sources.contains_key(&source.name) {
                let message = format!("source `{}` is defined twice", source.name);
                self.refuse(&node, "source", message, "give one of them another name, or delete it");
                continue;
            }
            self.check_reads(&node, &source, schemas);
            sources.insert(source.name.clone(), source);
        }
        sources
    }

    /// What a polled source calls must be there, and what an item is must be one of its messages.
    fn check_poll(&self, source: &Source, connectors: &BTreeMap<Arc<str>, Connector>) {
        if let Some(batch) = &source.batch {
            self.check_message(source, &batch.message);
        }
        let Some(poll) = &source.poll else { return };
        let (connector, operation) = poll.target();
        let call = &poll.call;
        match connectors.get(connector) {
            None => {
                let names: Vec<_> = connectors.keys().map(|name| &**name).collect();
                self.unknown(&call.place, &call.path, "connector", connector, &names);
            }
            Some(found) if !found.operations.contains_key(operation) => {
                let what = format!("operation of connector `{connector}`");
                let names: Vec<_> = found.operations.keys().map(|name| &**name).collect();
                self.unknown(&call.place, &call.path, &what, operation, &names);
            }
            Some(_) => {}
        }
        self.check_message(source, &poll.message);
    }

    /// What a connector reconciles must be there: the process, its fields' names, the operations, the event.
    fn check_reconcile(&self, connector: &Connector, catalog: &Catalog) {
        for how in &connector.reconcile {
            let calls = [
                Some(&how.read),
                how.repair.as_ref().map(|repair| &repair.call),
                how.list.as_ref().map(|list| &list.call),
            ];
            for call in
                calls.into_iter().flatten().filter(|call| !connector.operations.contains_key(&*call.value))
            {
                let names: Vec<_> = connector.operations.keys().map(|name| &**name).collect();
                self.unknown(&call.place, &call.path, "operation of the connector", &call.value, &names);
            }
            let Some(process) = catalog.newest(&how.kind.value) else {
                let names: Vec<_> = catalog.iter().map(|process| &*process.name).collect();
                self.unknown(&how.kind.place, &how.kind.path, "process", &how.kind.value, &names);
                continue;
            };
            self.check_masks(process, how);
            self.check_looked_at(process, how);
            self.check_compared(process, how, connector);
            let Some(take) = &how.take else { continue };
            if process.messages.get(&*take.event.value).is_none_or(|message| message.is_command) {
                let what = format!("event of process `{}`", process.name);
                let names: Vec<_> = process.messages.keys().map(|name| &**name).collect();
                self.unknown(&take.event.place, &take.event.path, &what, &take.event.value, &names);
            }
        }
    }

    /// What a process does not show, no run may show.
    fn check_masks(&self, process: &Process, how: &Reconcile) {
        let part = |part: &str, at: &Spanned<String>, mapping: &Mapping| {
            for (key, expr) in mapping.leaves(part) {
                self.shown_whole(process, &at.place, &format!("{}.{part}.{key}", how.kind.path), key, expr);
            }
        };
        part("with", &how.read, &how.with);
        if let Some(repair) = &how.repair {
            part("repair.with", &repair.call, &repair.with);
        }
        if let Some(take) = &how.take {
            part("take.map", &take.event, &take.map);
        }
        for field in &how.fields {
            for (side, expr) in [("ours", &field.ours), ("theirs", &field.theirs)] {
                let name = &field.name;
                self.shown_whole(process, &name.place, &format!("{}.{side}", name.path), &name.value, expr);
            }
        }
    }

    fn shown_whole(&self, process: &Process, place: &Place, path: &str, key: &str, expr: &Expr) {
        for (message, fix) in check::shown_whole(process, key, expr) {
            self.reader.note(Problem::error(place.clone(), path, message).fix(fix));
        }
    }

    fn check_message(&self, source: &Source, message: &Spanned<String>) {
        if !source.messages.contains_key(&message.value) {
            let names: Vec<_> = source.messages.keys().map(String::as_str).collect();
            let what = format!("message of source `{}`", source.name);
            self.unknown(&message.place, &message.path, &what, &message.value, &names);
        }
    }

    /// Objectives, of processes and milestones that are there.
    fn slos(&self, catalog: &Catalog) -> Vec<Slo> {
        let mut slos: BTreeMap<Arc<str>, Slo> = BTreeMap::new();
        for (file, text) in self.part("slos/") {
            let Some(node) = self.reader.read(&file, text) else { continue };
            let Some(slo) = slo::parse(&Item::root(&node, self.reader)) else { continue };
            if let Some(process) = catalog.newest(&slo.process.value) {
                if !slo::has_milestone(process, &slo) {
                    let names: Vec<_> = process.milestones.keys().map(|name| &**name).collect();
                    let (at, what) = (&slo.milestone, format!("milestone of process `{}`", process.name));
                    self.unknown(&at.place, &at.path, &what, &at.value, &names);
                }
            } else {
                let names: Vec<_> = catalog.iter().map(|process| &*process.name).collect();
                let at = &slo.process;
                self.unknown(&at.place, &at.path, "process", &at.value, &names);
            }
            if slos.contains_key(&slo.name) {
                let message = format!("objective `{}` is defined twice", slo.name);
                self.refuse(&node, "metadata", message, "give one of them another name, or delete it");
                continue;
            }
            slos.insert(slo.name.clone(), slo);
        }
        slos.into_values().collect()
    }

    /// Everything names who answers for it, and where that is escalated to.
    fn owned(&self, node: &Node, what: &str, team: &str, escalate: &str) {
        let owner = node.get("owner");
        if !team.is_empty() && escalate.is_empty() {
            let place = owner.map_or(&node.place, |owner| &owner.place);
            let message = format!("{what} does not say where it is escalated to");
            let fix = format!("write `owner: {{team: {team}, escalate: \"#channel\"}}`");
            self.reader.note(Problem::error(place.clone(), "owner.escalate", message).fix(fix));
        }
    }

    /// What a source sends must be understood by the process it is for, and its schemas must be there.
    fn check_source(&self, source: &Source, catalog: &Catalog, schemas: &Schemas) {
        for meaning in source.messages.values() {
            for schema in meaning.schemas.values().filter(|schema| !schemas.has(&schema.value)) {
                self.unknown(
                    &schema.place,
                    &schema.path,
                    "schema",
                    &schema.value,
                    &schemas.names().collect::<Vec<_>>(),
                );
            }
            for send in &meaning.send {
                let Some(process) = catalog.newest(&send.process.value) else {
                    let names: Vec<_> = catalog.iter().map(|process| &*process.name).collect();
                    self.unknown(
                        &send.process.place,
                        &send.process.path,
                        "process",
                        &send.process.value,
                        &names,
                    );
                    continue;
                };
                let Some(message) = process.messages.get(&*send.name.value) else {
                    let what = format!("message of process `{}`", process.name);
                    let names: Vec<_> = process.messages.keys().map(|name| &**name).collect();
                    self.unknown(&send.name.place, &send.name.path, &what, &send.name.value, &names);
                    continue;
                };
                let at = (&send.name.place, &*send.name.path);
                let names = (&*process.name, &*send.name.value);
                self.check_kind_of_message(at.0, at.1, names, message, send.is_command);
                self.check_message_gives(at, &send.map, process, &send.name.value);
            }
        }
    }

    fn unknown(&self, place: &Place, path: &str, what: &str, name: &str, names: &[&str]) {
        if self.unread.contains(what) {
            return;
        }
        let fix = match suggest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => format!("add it: there is no {what} yet"),
            None => format!("add it, or use one of: {}", names.join(", ")),
        };
        self.reader
            .note(Problem::error(place.clone(), path, format!("there is no {what} `{name}`")).fix(fix));
    }

    fn refuse(&self, node: &Node, key: &str, message: String, fix: impl Into<String>) {
        let place = node.get(key).map_or(&node.place, |node| &node.place);
        self.reader.note(Problem::error(place.clone(), key, message).fix(fix));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Files {
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).expect("it can be read")
    }

    /// The problems of the shipped integration after `change`, each on one line.
    fn problems(change: impl FnOnce(&mut Files)) -> String {
        let mut files = shipped();
        change(&mut files);
        read(&files, "config").problems.to_string()
    }

    /// The same with the first `from` written as `to` in one of its files.
    pub(super) fn problems_with(file: &str, from: &str, to: &str) -> String {
        problems(|files| {
            let text = files.get_mut(file).expect("it is shipped");
            assert!(text.contains(from), "{file} has no {from}");
            *text = text.replacen(from, to, 1);
        })
    }

    #[test]
    fn an_id_of_a_sources_own_must_lead_somewhere() {
        let sent = |from: &str, to: &str| problems_with("sources/crm.yaml", from, to);
        let both = sent("to: {process: order, key:", "to: {process: order, alias: \"body.data.Id\", key:");
        assert!(both.contains("`key` and `alias` exclude each other"), "{both}");
        let nowhere = sent("to: {process: order, key:", "to: {process: order, alias:");
        assert!(nowhere.contains("nothing says which `order` `crm` means by an id of its own"), "{nowhere}");
        assert_eq!(
            sent("to: {process: customer, key:", "to: {process: customer, alias:"),
            "",
            "a record is linked"
        );

        let linking = |event: &str| {
            problems(|files| {
                let link = format!(
                    "effects:\n  link:\n    send: {{to: {{process: xref, key: \"'crm:order:' + order.opportunity_id\"}}, event: {event}}}\n    \
                     with: {{entity: \"'order/' + entity.key\"}}\n    failure: exception\n"
                );
                let order = files.get_mut("processes/order.yaml").expect("it is shipped");
                *order = order.replacen("effects:\n", &link, 1).replacen(
                    "call: [check_account]",
                    "call: [check_account, link]",
                    1,
                );
                let crm = files.get_mut("sources/crm.yaml").expect("it is shipped");
                *crm = crm.replacen("to: {process: order, key:", "to: {process: order, alias:", 1);
            })
        };
        assert_eq!(linking("xref.linked"), "");
        assert!(linking("xref.linkd").contains("a cross-reference is not told `xref.linkd`"));
    }

    #[test]
    fn what_files_say_of_one_another_is_checked() {
        for (file, from, to, told) in [
            (
                "sources/crm.yaml",
                "event: order.confirmed",
                "event: order.confirmd",
                "config/sources/crm.yaml:19:16  messages[\"opportunity.confirmed\"].send[0].event: there is no message of process `order` `order.confirmd`\n    fix: did you mean `order.confirmed`?",
            ),
            (
                "sources/crm.yaml",
                "command: order.cancel",
                "event: order.cancel",
                "`order.cancel` is a command of process `order`\n    fix: write `command: order.cancel`",
            ),
            (
                "sources/crm.yaml",
                "process: order,",
                "process: ordr,",
                "there is no process `ordr`\n    fix: did you mean `order`?",
            ),
            (
                "sources/crm.yaml",
                "opportunity.cancelled.v1.json",
                "gone.json",
                "there is no schema `crm/gone.json`",
            ),
            (
                "sources/crm.yaml",
                "preset: standard-webhooks",
                "preset: standard-webhook",
                "there is no preset `standard-webhook`\n    fix: did you mean `standard-webhooks`?",
            ),
            (
                "sources/crm.yaml",
                "owner:",
                "retention: 1h\nowner:",
                "would be forgotten before\n    fix: write `retention: 76h` or more",
            ),
        ] {
            let seen = problems_with(file, from, to);
            assert!(seen.contains(told), "{told}\n---\n{seen}");
        }
    }

    /// A second version of the cancelled opportunity, changed by `change`, under `says`.
    fn second(says: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
        problems(|files| {
            let old = &files["schemas/crm/opportunity.cancelled.v1.json"];
            let mut new: serde_json::Value = serde_json::from_str(old).expect("it is JSON");
            new["properties"]["schema_version"]["const"] = 2.into();
            change(&mut new);
            let new = serde_json::to_string_pretty(&new).expect("it is JSON");
            files.insert("schemas/crm/opportunity.cancelled.v2.json".into(), new);
            let text = files.get_mut("sources/crm.yaml").expect("it is shipped");
            let one = "schemas: {\"1\": crm/opportunity.cancelled.v1.json}";
            let two = "schemas: {\"1\": crm/opportunity.cancelled.v1.json, \"2\": crm/opportunity.cancelled.v2.json}";
            assert!(text.contains(one), "{text}");
            *text = text.replacen(one, &format!("{two}\n    {says}"), 1);
        })
    }

    #[test]
    fn what_a_new_version_breaks_is_told_with_file_pointer_whom_and_fix() {
        let require = |new: &mut serde_json::Value| {
            new["properties"]["data"]["required"] = serde_json::json!(["OrderNumber__c", "Reason__c"]);
        };
        assert_eq!(second("", |_| {}), "", "nothing but the version's own number has changed");
        let told = second("", require);
        for part in [
            "config/schemas/crm/opportunity.cancelled.v2.json:",
            "/properties/data/required: opportunity.cancelled: a sender that still sends version 1 is refused by version 2: \
             `/data/Reason__c` is required in version 2, and may be absent in version 1",
            "fix: in version 2: take it out of `required`, or require it in both versions; or lift version 1 by an `upcast`",
        ] {
            assert!(told.contains(part), "{part}\n---\n{told}");
        }
        assert!(!told.contains(".v2.json:1:1 "), "the place is the line of `required`: {told}");
        for says in [
            "compatibility: none",
            "compatibility: forward",
            "upcast: {\"1\": {set: {schema_version: \"2\", data.Reason__c: \"'none'\"}}}",
        ] {
            assert_eq!(second(says, require), "", "{says}");
        }
        let new = |new: &mut serde_json::Value| {
            new["properties"]["data"]["properties"]["Code__c"] = serde_json::json!({"type": "string"});
        };
        assert!(
            second("", new)
                .contains("version 1 has an open content model, so anything may be sent as `Code__c`")
        );
        assert_eq!(second("compatibility: {mode: backward, undeclared: absent}", new), "");
    }

    #[test]
    fn slips_around_versions_are_told() {
        for (says, told) in [
            ("compatibility: backwards", "backward"),
            ("compatibility: {mode: full, undeclared: gone}", "absent"),
            ("upcast: {\"2\": {remove: [data.x]}}", "version 2 is the newest"),
            ("upcast: {\"7\": {remove: [data.x]}}", "there is no schema version 7 to lift"),
            ("upcast: {\"1\": {}}", "the up-caster does nothing"),
            ("upcast: {\"1\": {map: {a: \"1\"}, remove: [b]}}", "`map` is the whole new body"),
            ("upcast: {\"1\": {set: {a: \"bdy.x\"}}}", "bdy"),
            ("drift: {new_fields: hold}", "did you mean `new_field`?"),
            ("drift: {new_field: keep}", "accept"),
        ] {
            let seen = second(says, |_| {});
            assert!(seen.contains(told), "{says}: {told}\n---\n{seen}");
        }
        let seen = second("", |new| new["properties"]["data"]["requird"] = serde_json::json!([]));
        assert!(
            seen.contains("`requird` is no keyword") && seen.contains("did you mean `required`?"),
            "{seen}"
        );
        let seen = second("", |new| new["properties"]["data"]["oneOf"] = serde_json::json!([{}]));
        assert!(seen.contains("a change of `oneOf` cannot be judged"), "{seen}");
    }

    #[test]
    fn a_reconciliation_shows_nothing_that_is_masked() {
        let with = |fields: &str, repair: &str| {
            problems(|files| {
                let text = files.get_mut("connectors/erp.yaml").expect("it is shipped");
                let supplier = format!(
                    "reconcile:\n  supplier:\n    read: read_sales_order\n    with: {{external_id: entity.key}}\n    fields: {{{fields}}}\n    repair: {{call: set_vendor_bank, with: {{external_id: entity.key, holder: supplier.name, {repair}}}}}\n"
                );
                *text = text.replacen("reconcile:\n", &supplier, 1);
            })
        };
        let (fields, repair) = ("iban: {ours: supplier.iban, theirs: result.status}", "iban: supplier.iban");
        assert_eq!(with(fields, repair), "", "what is kept under a masked name is shown by its end");
        for (fields, repair, path) in [
            (
                "account: {ours: supplier.iban, theirs: result.status}",
                repair,
                "reconcile.supplier.fields.account.ours",
            ),
            (fields, "account: supplier.iban", "reconcile.supplier.repair.with.account"),
        ] {
            let told = format!(
                "{path}: `supplier.iban` is masked, and is shown whole here\n    fix: write `masked(supplier.iban)`"
            );
            let seen = with(fields, repair);
            assert!(seen.contains(&told), "{told}\n---\n{seen}");
        }
    }

    #[test]
    fn what_processes_send_to_one_another_is_checked() {
        const SEND: &str = "send: {to: {process: order, key: \"'SO-1'\"}, event: order.amended}";
        let with = |send: &str| {
            problems(|files| {
                let text = files.get_mut("processes/order.yaml").expect("it is shipped");
                *text = text.replacen("call: notify.send", send, 1);
            })
        };
        assert_eq!(with(SEND), "");
        for (from, to, told) in [
            ("process: order", "process: ordr", "there is no process `ordr`\n    fix: did you mean `order`?"),
            (
                "order.amended",
                "order.amnded",
                "message of process `order` `order.amnded`\n    fix: did you mean",
            ),
            (
                "event:",
                "command:",
                "`order.amended` is an event of process `order`\n    fix: write `event: order.amended`",
            ),
            ("{process: order, key: \"'SO-1'\"}", "{entity: order.currency}", ""),
            (
                "{process: order, key: \"'SO-1'\"}, event: order.amended",
                "{entity: order.currency}, event: order.amnded",
                "there is no message of any process `order.amnded`\n    fix: did you mean `order.amended`?",
            ),
        ] {
            let seen = with(&SEND.replacen(from, to, 1));
            assert!(
                if told.is_empty() { seen.is_empty() } else { seen.contains(told) },
                "{told}\n---\n{seen}"
            );
        }
        let taken = problems(|files| {
            let text = files.get_mut("connectors/erp.yaml").expect("it is shipped");
            *text = text.replacen("connector: erp", "connector: entity", 1);
        });
        assert!(taken.contains("`entity` is the way to other entities, which needs no connector"), "{taken}");
    }

    #[test]
    fn objectives_name_what_is_there_and_owners_say_where_it_is_escalated_to() {
        let order = "slos/order-booked.yaml";
        for (file, from, to, told) in [
            (
                order,
                "milestone: booked",
                "milestone: boked",
                "there is no milestone of process `order` `boked`\n    fix: did you mean `booked`?",
            ),
            (
                order,
                "service: order",
                "service: ordr",
                "there is no process `ordr`\n    fix: did you mean `order`?",
            ),
            (
                order,
                "name: order-booked\n",
                "name: order-shipped\n",
                "objective `order-shipped` is defined twice",
            ),
            (
                "processes/order.yaml",
                ", escalate: \"#order-desk\"",
                "",
                "owner.escalate: process `order` does not say where it is escalated to\n    fix: write `owner: {team: order-management, escalate:",
            ),
            (
                "connectors/erp.yaml",
                ", escalate: \"#erp\"",
                "",
                "owner.escalate: connector `erp` does not say where it is escalated to",
            ),
            (
                "sources/crm.yaml",
                ", escalate: \"#sales-ops\"",
                "",
                "owner.escalate: source `crm` does not say where it is escalated to",
            ),
        ] {
            let seen = problems_with(file, from, to);
            assert!(seen.contains(told), "{told}\n---\n{seen}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_the_only_thing_told() {
        for (file, from, to) in [
            ("processes/order.yaml", "initial: received", "initial: [received"),
            ("connectors/erp.yaml", "\ntitle:", "\ntitle: ["),
        ] {
            let mut files = shipped();
            let text = files.get_mut(file).expect("it is shipped");
            assert!(text.contains(from), "{file} has no {from}");
            *text = text.replacen(from, to, 1);
            let told = read(&files, "").problems;
            assert!(told.len() == 1 && told.to_string().contains("this is not YAML"), "{told}");
        }
    }

    #[test]
    fn builtin_presets_can_be_named_and_their_files_are_sound() {
        assert!(Presets::builtin().names().count() >= 20);
        let seen = problems(|files| {
            let text = "preset: mine\ntitle: Mine\ndocs: x\nverify: {scheme: hmac}\nidentify: {id: here}\nretry_span: 2h\nretention: 1h\n";
            files.insert("sources/presets/my.yaml".into(), text.into());
        });
        for told in ["is called `mine` but its file `my`", "identify.id", "retention", "verify"] {
            assert!(seen.contains(told), "{told}\n---\n{seen}");
        }
    }
}

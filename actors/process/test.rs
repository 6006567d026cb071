//! Given/when/then: runs a process on messages and answers written in YAML, without network and without real time.
//!
//! `syncline test` uses it on `*.test.yaml` beside the processes. The real [`decide`] runs; systems are played
//! by the file's `answers`, and time passes only by `wait`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{ENTITY, MessageDef, Process};
use crate::decide::{decide, refusal};
use crate::decision::{Change, Effect, ExceptionClass, Rejection, Verdict};
use crate::document::{Item, Kind, Node, Place, Problem, Reader};
use crate::entity::State;
use crate::envelope::{
    Action, Body, Command, Envelope, Event, Intervention, Outcome, OutcomeClass, TimerFired,
};
use crate::id::{EffectId, EntityId, Epoch};
use crate::letter;
use crate::ownership::OPERATOR;
use crate::record::{Hash, Record};
use crate::subscription;
use crate::time::Timestamp;
use crate::value::Value;

mod form;

pub use form::check;

/// When every case begins: time is a matter of the case, not of the day on which it runs.
const BEGIN: Timestamp = Timestamp(1_764_000_000_000);
/// Answers given by one `run`: more than that and the process goes round in circles.
const ANSWERS_MAX: usize = 1_000;
/// Timers that fire while one step waits: more than that and one of them fires far too often.
const TIMERS_MAX: usize = 10_000;

/// A case that did what it should, or the first step that did not.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// Steps that were run.
    pub steps: usize,
    /// What was not as expected: none if the case holds.
    pub failure: Option<Failure>,
    /// What of the process it has seen.
    pub seen: Seen,
}

/// What of a process cases come to: those of one, or what none of them does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// States that it is in.
    pub states: BTreeSet<Arc<str>>,
    /// Timers that run out, by name: `availability.4h`.
    pub timers: BTreeSet<Arc<str>>,
    /// Effects that are emitted, those that undo others among them.
    pub effects: BTreeSet<Arc<str>>,
    /// Milestones that are missed.
    pub missed: BTreeSet<Arc<str>>,
}

/// A step that went otherwise than expected.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Where the step stands.
    pub place: Place,
    /// The step in words, e.g. `when order.confirmed`.
    pub step: String,
    /// Each difference, one a line: `- expected` and `+ found`.
    pub differences: Vec<String>,
}

/// The process a test file is about; `None` when it does not say.
pub fn subject(file: &Node) -> Option<(String, Option<u32>)> {
    let version = get(file, "version").and_then(|node| match &node.kind {
        Kind::Number(text) => text.parse().ok(),
        _ => None,
    });
    text(get(file, "process")?).map(|name| (name.to_owned(), version))
}

/// Runs every case of `file` on `process`. A file with mistakes in it is not run: each of them is a case that failed.
pub fn run(file: &Node, process: &Process) -> Vec<CaseResult> {
    let problems = check(file, process);
    if !problems.is_empty() {
        return problems.iter().map(broken).collect();
    }
    let process = &with_subscribers(file, process);
    let cases = get(file, "cases").and_then(Node::as_list).unwrap_or_default();
    cases.iter().map(|case| run_case(file, process, case)).collect()
}

/// The process with the subscribers that its test file names, whoever subscribes elsewhere: a new system breaks no test.
fn with_subscribers(file: &Node, process: &Process) -> Process {
    let reader = Reader::default();
    let named = get(file, "subscribers").map(entries).into_iter().flatten();
    let read = |(system, node): (&str, &Node)| {
        let item = Item::at(node, format!("subscribers.{system}"), &reader);
        subscription::parse(&process.name, system, "", &item).map(Arc::new)
    };
    Process { subscribers: named.filter_map(read).collect(), ..process.clone() }
}

fn broken(problem: &Problem) -> CaseResult {
    let fix = problem.fix.iter().map(|fix| format!("fix: {fix}"));
    CaseResult {
        name: "the file".to_owned(),
        place: problem.place.clone(),
        steps: 0,
        failure: Some(Failure {
            place: problem.place.clone(),
            step: "read".to_owned(),
            differences: [format!("{}: {}", problem.path, problem.message)].into_iter().chain(fix).collect(),
        }),
        seen: Seen::default(),
    }
}

fn run_case(file: &Node, process: &Process, case: &Node) -> CaseResult {
    let mut world = World::new(file, process, case);
    let mut result = CaseResult {
        name: get(case, "name").and_then(text).unwrap_or("a case without a name").to_owned(),
        place: case.place.clone(),
        steps: 0,
        failure: None,
        seen: Seen::default(),
    };
    let steps = get(case, "steps").and_then(Node::as_list).unwrap_or_default();
    for step in steps {
        result.steps += 1;
        let mut differences = match world.step(step) {
            Ok(()) => Vec::new(),
            Err(problem) => vec![problem],
        };
        if let Some(expected) = get(step, "then").filter(|_| differences.is_empty()) {
            differences = world.compare(expected);
        }
        if !differences.is_empty() {
            result.failure = Some(Failure { place: step.place.clone(), step: describe(step), differences });
            break;
        }
    }
    result.seen = Seen { missed: world.state.missed.iter().cloned().collect(), ..world.seen };
    result
}

fn body(name: &Arc<str>, def: &MessageDef, data: Value) -> Body {
    let name = name.clone();
    if def.is_command { Body::Command(Command { name, data }) } else { Body::Event(Event { name, data }) }
}

fn describe(step: &Node) -> String {
    for key in ["when", "wait"] {
        if let Some(what) = get(step, key).and_then(|node| text(node)) {
            return format!("{key} {what}");
        }
    }
    "run".to_owned()
}

/// An entity, its time, and what the last step did.
struct World<'a> {
    process: &'a Process,
    file: &'a Node,
    subject: EntityId,
    state: State,
    now: Timestamp,
    messages: u64,
    seen: Seen,
    // What the last step did:
    calls: Vec<(Arc<str>, Value)>,
    called_off: Vec<Arc<str>>,
    verdict: Option<Verdict>,
}

impl<'a> World<'a> {
    fn new(file: &'a Node, process: &'a Process, case: &Node) -> Self {
        let key = get(case, "key").and_then(text).unwrap_or("SO-1");
        Self {
            process,
            file,
            subject: EntityId::new(&process.name, key).expect("the form was checked"),
            state: State::default(),
            now: BEGIN,
            messages: 0,
            seen: Seen::default(),
            calls: Vec::new(),
            called_off: Vec::new(),
            verdict: None,
        }
    }

    fn step(&mut self, step: &Node) -> Result<(), String> {
        (self.calls, self.called_off, self.verdict) = (Vec::new(), Vec::new(), None);
        if let Some(what) = get(step, "when").and_then(text) {
            self.when(what, step)?;
            return self.fire_overdue();
        }
        if get(step, "run").is_some() {
            self.run()?;
            return self.fire_overdue();
        }
        if let Some(wait) = get(step, "wait").and_then(text) {
            let wait = crate::document::parse_duration(wait).map_err(|problem| format!("wait: {problem}"))?;
            return self.wait(wait);
        }
        Err("a step needs `when: MESSAGE`, `when: EFFECT.ok`, `run: true` or `wait: 4h`".to_owned())
    }

    fn when(&mut self, what: &str, step: &Node) -> Result<(), String> {
        if what == "retry" || what == "resolve" {
            return self.intervene(what, step);
        }
        if let Some((name, def)) = self.process.messages.get_key_value(what) {
            let from = get(step, "from").or_else(|| get(self.file, "from")).and_then(text);
            return self.take(from.unwrap_or("test"), body(name, def, self.data(what, step)));
        }
        if let Some((effect, class)) = what.rsplit_once('.').and_then(|(e, c)| Some((e, class_of(c)?))) {
            return self.answer(effect, class, step);
        }
        Err(format!(
            "`{what}` is neither a message of process `{}` nor an effect with .ok, .failed, .dead or .cancelled",
            self.process.name
        ))
    }

    /// The file's default data for a message, with what the step says laid over it.
    fn data(&self, message: &str, step: &Node) -> Value {
        let default = get(self.file, "data").and_then(|data| get(data, message)).map_or(Value::Null, data);
        let Some(given) = get(step, "data").map(data) else { return default };
        match (default.as_map(), given.as_map()) {
            (Some(default), Some(given)) => {
                let mut all = default.clone();
                all.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
                Value::Map(Arc::new(all))
            }
            _ => given,
        }
    }

    fn answer(&mut self, name: &str, class: OutcomeClass, step: &Node) -> Result<(), String> {
        let waiting =
            self.state.pending.values().find(|effect| &*effect.name == name).map(|effect| effect.id);
        let Some(effect) = waiting else {
            let names: Vec<_> = self.state.pending.values().map(|effect| &*effect.name).collect();
            return Err(format!(
                "effect `{name}` does not wait for an answer; these do: [{}]",
                names.join(", ")
            ));
        };
        let result = match get(step, "result") {
            Some(result) => data(result),
            None if class == OutcomeClass::Ok => self.default_answer(name)?,
            None => Value::Null,
        };
        let detail = get(step, "detail").and_then(text).unwrap_or_else(|| class.word());
        self.settle(effect, class, result, detail)
    }

    fn default_answer(&self, name: &str) -> Result<Value, String> {
        let answer = get(self.file, "answers").and_then(|answers| get(answers, name));
        let is_send = self.process.effects.get(name).is_some_and(|def| def.send.is_some());
        if answer.is_none() && is_send {
            return Ok(Value::map(
                [("verdict", Verdict::Applied.word()), ("status", "")].map(|(k, v)| (k, Value::from(v))),
            ));
        }
        answer.map(data).ok_or_else(|| format!("nothing answers effect `{name}`: add it under `answers`"))
    }

    fn settle(
        &mut self,
        effect: EffectId,
        class: OutcomeClass,
        result: Value,
        detail: &str,
    ) -> Result<(), String> {
        self.take(
            "delivery",
            Body::Outcome(Outcome {
                effect,
                class,
                result,
                detail: detail.into(),
                status: None,
                attempts: 1,
            }),
        )
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..ANSWERS_MAX {
            let Some(effect) = self.state.pending.values().next().cloned() else { return Ok(()) };
            let result = self.default_answer(&effect.name)?;
            self.settle(effect.id, OutcomeClass::Ok, result, "ok")?;
            self.reply(&effect)?;
        }
        Err(format!(
            "after {ANSWERS_MAX} answers there are still effects that wait: the process goes round in circles"
        ))
    }

    /// What the entity that a message went to sends back, if the file says so.
    fn reply(&mut self, asked: &Effect) -> Result<(), String> {
        let replies = get(self.file, "replies").and_then(|replies| get(replies, &asked.name)).and_then(text);
        let Some((name, def)) = replies.and_then(|name| self.process.messages.get_key_value(name)) else {
            return Ok(());
        };
        let from = asked.input.path("to").and_then(Value::as_text).unwrap_or(ENTITY).to_owned();
        let data = get(self.file, "data").and_then(|data| get(data, name)).map_or(Value::Null, data);
        self.take(&from, body(name, def, data))
    }

    /// A date that is past fires at once.
    fn fire_overdue(&mut self) -> Result<(), String> {
        let verdict = self.verdict.clone();
        self.wait(Duration::ZERO)?;
        self.verdict = verdict;
        Ok(())
    }

    fn wait(&mut self, wait: Duration) -> Result<(), String> {
        let until = self.now.plus(wait);
        for fired in 0.. {
            if fired == TIMERS_MAX {
                return Err(format!("{TIMERS_MAX} timers fired in this time, and there are more: wait less"));
            }
            let due = self.state.timers.iter().map(|(name, (token, due))| (*due, name.clone(), *token)).min();
            let Some((due, name, token)) = due.filter(|(due, ..)| *due <= until) else { break };
            self.now = self.now.max(due);
            self.seen.timers.insert(name.clone());
            self.take("timer", Body::Timer(TimerFired { name, token }))?;
        }
        self.now = until;
        Ok(())
    }

    fn intervene(&mut self, what: &str, step: &Node) -> Result<(), String> {
        let class = get(step, "class").and_then(text);
        let wanted =
            |word: &str| class.map_or_else(|| word != ExceptionClass::Late.word(), |class| class == word);
        let exception =
            self.state.exceptions.values().rev().find(|e| wanted(e.class.word())).map(|e| e.number);
        let exception = exception.ok_or_else(|| "there is no open exception to step in for".to_owned())?;
        let value = |key| get(step, key).map_or(Value::Null, data);
        let action = match what {
            "retry" => Action::Retry { exception, set: value("set") },
            _ => Action::Resolve { exception, result: value("result") },
        };
        let body = Body::Intervention(Intervention { by: "tester".into(), reason: "a test".into(), action });
        self.take(OPERATOR, body)
    }

    /// What the host does with a message, less the store.
    /// `source` is the name of a system, or the entity that sends it.
    fn take(&mut self, source: &str, body: Body) -> Result<(), String> {
        let sender = source.contains('/').then_some(source);
        self.messages += 1;
        let id = match sender {
            Some(sender) => format!("{}{sender}#{}.0", letter::PREFIX, self.messages),
            None => format!("m-{}", self.messages),
        };
        let envelope = Envelope {
            id: id.into(),
            source: if sender.is_some() { ENTITY.into() } else { source.into() },
            subject: self.subject.clone(),
            correlation_id: "test".into(),
            causation_id: None,
            traceparent: None,
            time: None,
            at: self.now,
            remember_ms: None,
            body,
            evidence: None,
        };
        let decision = match decide(self.process, &self.state, &envelope) {
            Ok(decision) => decision,
            Err(Rejection::Stale) => return Err("nothing waits for it any more".to_owned()),
            Err(rejection) => refusal(&self.state, rejection),
        };
        self.verdict = Some(decision.answer.verdict.clone());
        self.note(&decision.changes);
        let (seq, epoch, prev) = (self.state.seq + 1, Epoch(1), Hash::default());
        self.state.fold(&Record {
            seq,
            epoch,
            prev,
            envelope,
            changes: decision.changes,
            answer: decision.answer,
        });
        Ok(())
    }

    fn note(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Emitted(effect) | Change::Reissued(effect) => {
                    self.seen.effects.insert(effect.name.clone());
                    self.calls.push((effect.name.clone(), effect.input.clone()));
                }
                Change::CalledOff { effect } => {
                    let name = self
                        .state
                        .pending
                        .get(effect)
                        .map_or_else(|| "".into(), |effect| effect.name.clone());
                    self.called_off.push(name);
                }
                Change::Entered { state } => {
                    self.seen.states.insert(state.clone());
                }
                _ => {}
            }
        }
    }

    // ---- then ----

    fn compare(&self, expected: &Node) -> Vec<String> {
        let mut differences = Vec::new();
        for (key, node) in entries(expected) {
            let want = data(node);
            match key {
                "state" => differ("state", &want, &Value::from(&*self.state.status), &mut differences),
                "verdict" => {
                    let verdict = self.verdict.as_ref().map_or("none", Verdict::word);
                    differ("verdict", &want, &Value::from(verdict), &mut differences);
                }
                "ended" => {
                    let ending = self.state.ending.map_or("not", |ending| ending.word());
                    differ("ended", &want, &Value::from(ending), &mut differences);
                }
                "fields" => differ("fields", &want, &self.state.fields, &mut differences),
                "written_by" => self.compare_writers(&want, &mut differences),
                "systems" => self.compare_systems(&want, &mut differences),
                "calls" => self.compare_calls(&want, &mut differences),
                "called_off" => differ("called_off", &sorted(&want), &names(&self.called_off), &mut differences),
                "reached" => differ("reached", &sorted(&want), &names(&self.state.reached), &mut differences),
                "missed" => differ("missed", &sorted(&want), &names(&self.state.missed), &mut differences),
                "exceptions" => self.compare_exceptions(&want, &mut differences),
                other => differences.push(format!(
                    "unknown key `{other}`; `then` has: state, verdict, ended, fields, written_by, systems, calls, called_off, reached, missed, exceptions"
                )),
            }
        }
        differences
    }

    /// Who wrote fields that have an owner.
    fn compare_writers(&self, want: &Value, differences: &mut Vec<String>) {
        let known = self.state.origins.as_ref();
        for (field, want) in want.as_map().into_iter().flatten() {
            let by = known.and_then(|origins| origins.of(field)).map_or("nobody", |known| &*known.by);
            differ(&format!("written_by.{field}"), want, &Value::from(by), differences);
        }
    }

    /// How the systems stand that the record is told to.
    fn compare_systems(&self, want: &Value, differences: &mut Vec<String>) {
        let known = self.state.origins.as_ref();
        for (system, want) in want.as_map().into_iter().flatten() {
            let synced = known.and_then(|origins| origins.systems.get(system.as_str()));
            let stand = synced.map_or("not_told", |synced| synced.stand.word());
            differ(&format!("systems.{system}"), want, &Value::from(stand), differences);
        }
    }

    /// `calls` names exactly what the step emitted: a list of names, or a map of name to (part of) the input.
    fn compare_calls(&self, want: &Value, differences: &mut Vec<String>) {
        let found: Vec<Arc<str>> = self.calls.iter().map(|(name, _)| name.clone()).collect();
        let Some(inputs) = want.as_map() else {
            return differ("calls", &sorted(want), &names(&found), differences);
        };
        let wanted: Vec<Arc<str>> = inputs.keys().map(|name| name.as_str().into()).collect();
        differ("calls", &names(&wanted), &names(&found), differences);
        for (name, input) in inputs {
            if let Some((_, found)) = self.calls.iter().find(|(call, _)| **call == **name) {
                differ(&format!("calls.{name}"), input, found, differences);
            }
        }
    }

    /// `exceptions` lists all that are open, each by part of what it says; `summary` is looked for inside.
    fn compare_exceptions(&self, want: &Value, differences: &mut Vec<String>) {
        let open: Vec<_> = self.state.exceptions.values().collect();
        let wanted = want.as_list().unwrap_or_default();
        if open.len() != wanted.len() {
            differences.push(format!("- exceptions: {} open", wanted.len()));
            let found: Vec<String> =
                open.iter().map(|e| format!("{} ({})", e.class.word(), e.summary)).collect();
            differences.push(format!("+ exceptions: {} open: {}", open.len(), found.join("; ")));
            return;
        }
        for (index, (want, found)) in wanted.iter().zip(open).enumerate() {
            let text = |key| want.get(key).and_then(Value::as_text);
            let parts = [
                ("class", found.class.word(), false),
                ("owner", &*found.owner, false),
                ("summary", &*found.summary, true),
            ];
            for (key, found, inside) in parts {
                let Some(want) = text(key) else { continue };
                if if inside { !found.contains(want) } else { found != want } {
                    differences.push(format!("- exceptions[{index}].{key}: {want}"));
                    differences.push(format!("+ exceptions[{index}].{key}: {found}"));
                }
            }
        }
    }
}

/// Adds what of `want` is not in `found`: maps may hold more than is wanted, lists may not.
fn differ(path: &str, want: &Value, found: &Value, differences: &mut Vec<String>) {
    match (want, found) {
        (Value::Map(want), Value::Map(inside)) => {
            for (key, want) in want.iter() {
                differ(&format!("{path}.{key}"), want, inside.get(key).unwrap_or(&Value::Null), differences);
            }
        }
        (Value::List(want), Value::List(inside)) if want.len() == inside.len() => {
            for (index, (want, found)) in want.iter().zip(inside.iter()).enumerate() {
                differ(&format!("{path}[{index}]"), want, found, differences);
            }
        }
        _ if want == found => {}
        _ => {
            differences.push(format!("- {path}: {}", want.to_json()));
            differences.push(format!("+ {path}: {}", found.to_json()));
        }
    }
}

fn names<'n>(names: impl IntoIterator<Item = &'n Arc<str>>) -> Value {
    let mut names: Vec<&Arc<str>> = names.into_iter().collect();
    names.sort();
    Value::list(names.into_iter().map(|name| Value::from(&**name)))
}

fn sorted(list: &Value) -> Value {
    let mut names: Vec<&str> = list.as_list().unwrap_or_default().iter().filter_map(Value::as_text).collect();
    names.sort_unstable();
    Value::list(names.into_iter().map(Value::from))
}

/// A node as data; a number too long to be exact is null, and so differs from whatever is found.
fn data(node: &Node) -> Value {
    crate::reading::value(node).unwrap_or_default()
}

fn class_of(word: &str) -> Option<OutcomeClass> {
    [OutcomeClass::Ok, OutcomeClass::Failed, OutcomeClass::Dead, OutcomeClass::Cancelled]
        .into_iter()
        .find(|class| class.word() == word)
}

fn entries(node: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let entries = match &node.kind {
        Kind::Map(entries) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|(key, node)| (key.text.as_str(), node))
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    entries(node).find(|(name, _)| *name == key).map(|(_, node)| node)
}

fn text(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Text(text) => Some(text),
        _ => None,
    }
}

/// What none of the cases comes to: what `syncline test` names at the end.
pub fn unseen(process: &Process, results: &[CaseResult]) -> Seen {
    let less = |all: BTreeSet<Arc<str>>, of: fn(&Seen) -> &BTreeSet<Arc<str>>| -> BTreeSet<Arc<str>> {
        all.into_iter().filter(|name| !results.iter().any(|result| of(&result.seen).contains(name))).collect()
    };
    let timers = process.states.values().flat_map(|state| &state.timers).map(|timer| timer.name.clone());
    let states = process.states.keys().filter(|name| **name != process.initial).cloned();
    Seen {
        states: less(states.collect(), |seen| &seen.states),
        timers: less(timers.collect(), |seen| &seen.timers),
        effects: less(process.effects.keys().cloned().collect(), |seen| &seen.effects),
        missed: less(process.milestones.keys().cloned().collect(), |seen| &seen.missed),
    }
}

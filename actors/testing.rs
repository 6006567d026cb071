//! An entity on a table: takes messages as the host does, less store and network. For tests.

use std::time::Duration;

use crate::decide::{decide, refusal};
use crate::decision::{Decision, Rejection, Verdict};
use crate::document::Reader;
use crate::entity::State;
use crate::envelope::{
    Action, Body, Command, Envelope, Event, Intervention, Outcome, OutcomeClass, TimerFired,
};
use crate::id::{EntityId, Epoch};
use crate::process::{Process, check, parse};
use crate::record::{Hash, Record};
use crate::time::Timestamp;
use crate::value::Value;

/// A definition without mistakes.
pub(crate) fn process(text: &str) -> Process {
    let reader = Reader::default();
    let process = reader.read("p.yaml", text).and_then(|node| parse::parse(&node, text, &reader));
    assert!(reader.problems().is_empty(), "{}", reader.problems());
    let process = process.expect("without problems it compiles");
    assert!(check::check(&process).is_empty(), "{:?}", check::check(&process));
    process
}

pub(crate) fn json(text: &str) -> Value {
    Value::from_json(text.as_bytes(), 1 << 20).expect("it is JSON")
}

/// An entity with its journal.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) subject: EntityId,
    pub(crate) state: State,
    pub(crate) journal: Vec<Record>,
    pub(crate) now: Timestamp,
}

impl Entity {
    pub(crate) fn new(process: &Process, key: &str) -> Self {
        let subject = EntityId::new(&process.name, key).expect("a legal key");
        Self { subject, state: State::default(), journal: Vec::new(), now: Timestamp(1_764_000_000_000) }
    }

    pub(crate) fn take(&mut self, process: &Process, body: Body) -> Verdict {
        let envelope = Envelope {
            id: format!("m-{}", self.journal.len() + 1).into(),
            source: "test".into(),
            subject: self.subject.clone(),
            correlation_id: "flow".into(),
            causation_id: None,
            traceparent: None,
            time: None,
            at: self.now,
            remember_ms: None,
            body,
            evidence: None,
        };
        let decision = match decide(process, &self.state, &envelope) {
            Ok(decision) => decision,
            Err(Rejection::Stale) => return Verdict::Rejected(Rejection::Stale),
            Err(rejection) => refusal(&self.state, rejection),
        };
        let Decision { changes, answer, .. } = decision;
        let verdict = answer.verdict.clone();
        let (seq, epoch, prev) = (self.state.seq + 1, Epoch(1), Hash::default());
        let record = Record { seq, epoch, prev, envelope, changes, answer };
        self.state.fold(&record);
        self.journal.push(record);
        verdict
    }

    pub(crate) fn event(&mut self, process: &Process, name: &str, data: &str) -> Verdict {
        self.take(process, Body::Event(Event { name: name.into(), data: json(data) }))
    }

    pub(crate) fn command(&mut self, process: &Process, name: &str) -> Verdict {
        self.take(process, Body::Command(Command { name: name.into(), data: json("{}") }))
    }

    /// Answers the effect of that name.
    pub(crate) fn answer(
        &mut self,
        process: &Process,
        name: &str,
        class: OutcomeClass,
        result: &str,
    ) -> Verdict {
        let effect = self.state.pending.values().find(|effect| &*effect.name == name);
        let effect = effect.unwrap_or_else(|| panic!("{name} does not wait: {:?}", self.state.pending)).id;
        let (result, detail) = (json(result), class.word().into());
        self.take(
            process,
            Body::Outcome(Outcome { effect, class, result, detail, status: None, attempts: 1 }),
        )
    }

    /// Lets time pass, with the timers that come due.
    pub(crate) fn wait(&mut self, process: &Process, hours: u64) {
        let until = self.now.plus(Duration::from_hours(hours));
        loop {
            let due = self.state.timers.iter().map(|(name, (token, due))| (*due, name.clone(), *token)).min();
            let Some((due, name, token)) = due.filter(|(due, ..)| *due <= until) else { break };
            self.now = self.now.max(due);
            self.take(process, Body::Timer(TimerFired { name, token }));
        }
        self.now = until;
    }

    pub(crate) fn act(&mut self, process: &Process, action: Action) -> Verdict {
        let body = Intervention { by: "ops".into(), reason: "a test".into(), action };
        self.take(process, Body::Intervention(body))
    }
}

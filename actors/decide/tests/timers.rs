//! Timers: how often they come, what becomes of a past date, of a restart that missed some, and of one that cannot be followed.

use std::time::Duration;

use super::load;
use crate::decide::decide;
use crate::decision::{Change, Decision, Rejection};
use crate::document::Reader;
use crate::entity::State;
use crate::envelope::{Action, Body, Envelope, Event, Intervention, TimerFired};
use crate::id::{EntityId, Epoch};
use crate::process::{Process, parse, test};
use crate::record::{Hash, Record};
use crate::time::Timestamp;
use crate::value::Value;

const LEASE: &str = include_str!("timers/lease.yaml");
const CASES: &str = include_str!("timers/lease.test.yaml");

#[test]
fn timers_do_what_their_cases_say() {
    let process = load("lease.yaml", LEASE);
    let cases = Reader::default().read("lease.test.yaml", CASES).expect("reads");
    let results = test::run(&cases, &process);
    let failed: Vec<_> = results.iter().filter_map(|r| r.failure.as_ref().map(|f| (&r.name, f))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(results.len() > 5);
}

/// An entity and what it has been told.
struct Lease {
    process: Process,
    state: State,
    told: u64,
}

impl Lease {
    fn begun(data: Value) -> Self {
        let mut lease = Self { process: load("lease.yaml", LEASE), state: State::default(), told: 0 };
        let body = Body::Event(Event { name: "lease.signed".into(), data });
        lease.take(0, body).expect("it begins");
        lease
    }

    fn take(&mut self, at: u64, body: Body) -> Result<Decision, Rejection> {
        self.told += 1;
        let envelope = Envelope {
            id: format!("m-{}", self.told).into(),
            source: "test".into(),
            subject: EntityId::new("lease", "L-1").expect("a key"),
            correlation_id: "flow".into(),
            causation_id: None,
            traceparent: None,
            time: None,
            at: Timestamp(0).plus(Duration::from_secs(at)),
            remember_ms: None,
            body,
            evidence: None,
        };
        let decision = decide(&self.process, &self.state, &envelope)?;
        let (changes, answer) = (decision.changes.clone(), decision.answer.clone());
        let (seq, epoch, prev) = (self.state.seq + 1, Epoch(1), Hash::default());
        self.state.fold(&Record { seq, epoch, prev, envelope, changes, answer });
        Ok(decision)
    }

    /// Fires a timer at `at`, in seconds.
    fn fire(&mut self, name: &str, at: u64) -> Result<Decision, Rejection> {
        let token = self.state.timers.get(name).expect("it runs").0;
        self.take(at, Body::Timer(TimerFired { name: name.into(), token }))
    }

    fn due(&self, name: &str) -> Option<i64> {
        self.state.timers.get(name).map(|(_, due)| due.0 / 1_000)
    }
}

const DAY: u64 = 86_400;

#[test]
fn what_was_due_while_nobody_looked_comes_once_and_in_its_rhythm() {
    let mut lease = Lease::begun(Value::map([("ends", Value::Null)]));
    assert_eq!(lease.due("running.every.7d"), Some(7 * 86_400));
    let decision = lease.fire("running.every.7d", 30 * DAY + 5).expect("it is due");
    let reminded = decision.changes.iter().filter(|c| matches!(c, Change::Emitted(_))).count();
    assert_eq!(reminded, 1);
    assert_eq!(lease.due("running.every.7d"), Some(35 * 86_400), "the 28th is gone by, the 35th comes");
    let stale = Body::Timer(TimerFired { name: "running.every.7d".into(), token: 1 });
    assert_eq!(lease.take(31 * DAY, stale), Err(Rejection::Stale), "an old firing counts no more");
}

#[test]
fn a_date_that_leads_back_to_its_own_state_does_not_go_round() {
    let mut lease = Lease::begun(Value::map([("ends", Value::from("1970-01-10"))]));
    assert_eq!(lease.due("running.at.1"), Some(9 * 86_400));
    lease.fire("running.at.1", 9 * DAY).expect("it is due");
    assert_eq!(&*lease.state.status, "running", "renewed, and the date is the old one");
    assert_eq!(lease.due("running.at.1"), None, "it has fired");
    assert!(lease.due("running.at.0").is_some(), "of the others nothing is known: a past date fires at once");
}

#[test]
fn a_timer_that_cannot_be_followed_waits_for_a_person() {
    let mut lease = Lease::begun(Value::map([("ends", Value::Null), ("owner", Value::Int(5))]));
    let decision = lease.fire("running.30d", 30 * DAY).expect("it is on record, or it would come for ever");
    assert!(decision.changes.iter().any(|change| matches!(change, Change::TimerCleared { .. })));
    let exception = lease.state.exceptions.values().next().expect("one is open").clone();
    assert!(exception.summary.starts_with("timer `running.30d` waits: "), "{}", exception.summary);
    let set = Value::map([("owner", Value::from("ann"))]);
    let action = Action::Retry { exception: exception.number, set };
    let retry = Intervention { by: "bob".into(), reason: "known now".into(), action };
    lease.take(31 * DAY, Body::Intervention(retry)).expect("it is tried again");
    assert_eq!((&*lease.state.status, lease.state.exceptions.len()), ("reviewing", 0));
    assert!(lease.state.deferred.is_empty(), "it waits no more");
}

/// The problems of the definition after a change.
fn broken(old: &str, new: &str) -> String {
    assert!(LEASE.contains(old), "{old}");
    let text = LEASE.replacen(old, new, 1);
    let reader = Reader::default();
    let node = reader.read("lease.yaml", &text);
    let process = node.and_then(|node| parse::parse(&node, &text, &reader)).expect("it is a process");
    for problem in crate::process::check::check(&process) {
        reader.note(problem);
    }
    reader.into_problems().to_string()
}

#[test]
fn mistakes_in_timers_are_told_with_place_and_fix() {
    for (old, new, told) in [
        ("      7d:", "      7:", "the duration `7` has no unit"),
        ("      7d:", "      10ms:", "more often than once a second"),
        ("      30d:", "      0s:", "a timer of no time"),
        ("time: lease.ends", "time: lease.end", "did you mean `ends`?"),
        ("time: lease.ends", "time: data.ends", "`data` in `data.ends` means nothing here"),
        ("time: lease.ends", "time: \"'next week'\"", "text (\"next week\") is no date and no time"),
        ("time: lease.ends", "times: lease.ends", "the key `time` is missing"),
        ("before: 14d", "before: soon", "`soon` is not a duration"),
        ("before: 14d", "to: nowhere", "there is no state `nowhere`"),
    ] {
        let problems = broken(old, new);
        assert!(problems.contains(told), "{new}: {problems}");
        assert!(problems.contains("lease.yaml:"), "{problems}");
    }
}

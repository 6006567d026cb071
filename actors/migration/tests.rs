use super::*;
use crate::decision::{Change, Ending, Rejection, Verdict};
use crate::document::Reader;
use crate::envelope::{Action, OutcomeClass};
use crate::process::Process;
use crate::testing::{Entity, json, process};

const OLD: &str = r#"
process: parcel
version: 1
title: Parcel
owner: {team: post}
initial: received
fields: {at: text, weight: number, mail: text}
messages:
  parcel.seen: {is: event, starts: true}
  parcel.paid: {is: event}
  parcel.drop: {is: command}
effects:
  weigh: {call: scale.weigh, with: {at: "parcel.at"}, keep: {weight: "result.weight"}, undo: unweigh, failure: exception}
  unweigh: {call: scale.forget, with: {at: "step.input.at"}, failure: exception}
states:
  received: {on: {parcel.seen: {set: {at: "data.at", mail: "data.mail"}, to: weighing}}}
  weighing: {call: [weigh], on: {weigh.ok: {to: held}}, after: {2h: {to: late}}}
  held:
    hold: {reason: "'look at ' + parcel.at"}
    on: {retry: {to: done}}
    after: {4h: {to: late}}
  late: {on: {parcel.paid: {to: done}}}
  done: {end: completed}
  dropping: {on: {compensated: {to: dropped}}}
  dropped: {end: cancelled}
anywhere:
  parcel.drop: {except: [dropping], undo: "'dropped'", to: dropping}
milestones:
  weighed: {reached_in: [held], within: 1d}
"#;

/// The same with a wider hold, a longer patience, a state renamed, a field split off and one gone.
fn new_text() -> String {
    let text = OLD.replace("version: 1", "version: 2").replace("mail: text}", "contact: map, tries: number}");
    let text = text.replace("mail: \"data.mail\"", "contact: {mail: \"data.mail\"}");
    let text = text.replace("  late: {on", "  overdue: {on").replace("to: late", "to: overdue");
    text.replace("after: {4h", "after: {6h")
        .replace("within: 1d}", "within: 1d}\n  closed: {reached_in: [done], within: 2d}")
}

const PLAN: &str = r#"
process: parcel
from: 1
to: 2
same: [held]
states: {late: overdue, weighing: {to: weighing, enter: true}}
stay: [received, dropping]
fields: {contact: {mail: "parcel.mail"}, tries: "1"}
"#;

fn read(text: &str) -> Result<Plan, String> {
    let reader = Reader::default();
    let plan = reader.read("m.yaml", text).and_then(|node| parse(&Item::root(&node, &reader)));
    match plan {
        Some(plan) if reader.problems().is_empty() => Ok(plan),
        _ => Err(reader.problems().to_string()),
    }
}

fn told(text: &str) -> String {
    let plan = match read(text) {
        Ok(plan) => plan,
        Err(problems) => return problems,
    };
    let problems = check(&plan, &process(OLD), &process(&new_text()));
    let told = problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message));
    told.collect::<Vec<_>>().join("\n")
}

struct World {
    old: Process,
    new: Process,
    parcel: Entity,
}

impl World {
    fn new() -> Self {
        let (old, new) = (process(OLD), process(&new_text()));
        let mut parcel = Entity::new(&old, "P-1");
        parcel.event(&old, "parcel.seen", r#"{"at": "dock", "mail": "a@b"}"#);
        Self { old, new, parcel }
    }

    fn held() -> Self {
        let mut world = Self::new();
        world.parcel.answer(&world.old, "weigh", OutcomeClass::Ok, r#"{"weight": 1.10}"#);
        world
    }

    fn planned(&self, text: &str) -> Result<Migration, Stays> {
        let state = &self.parcel.state;
        let instance = Instance {
            key: "P-1".to_owned(),
            status: state.status.to_string(),
            seq: state.seq,
            fields: state.fields.clone(),
            began_at: state.began_at.to_string(),
        };
        read(text).expect("it reads").of(&instance, &self.new, &self.parcel.now.to_string())
    }

    fn migrate(&mut self, migration: Migration) -> Verdict {
        self.parcel.act(&self.new, Action::Migrate(migration))
    }

    fn refused(&mut self, migration: Migration, why: &str) {
        let before = self.parcel.state.clone();
        match self.migrate(migration) {
            Verdict::Rejected(Rejection::Expression(said)) => assert!(said.contains(why), "{why}: {said}"),
            other => panic!("{why}: {other:?}"),
        }
        let after = &self.parcel.state;
        assert_eq!(
            (after.version, &after.status, &after.fields),
            (before.version, &before.status, &before.fields)
        );
    }
}

#[test]
fn an_instance_goes_on_under_the_new_version_where_it_was() {
    let mut world = World::held();
    world.parcel.wait(&world.old, 1);
    let (since, hold) = (world.parcel.state.since, world.parcel.state.exceptions.clone());
    let migration = world.planned(PLAN).expect("it is covered");
    assert_eq!(world.migrate(migration), Verdict::Applied);
    let state = &world.parcel.state;
    assert_eq!((state.version, &*state.status, state.since), (2, "held", since));
    assert_eq!(
        state.fields,
        json(r#"{"at": "dock", "weight": 1.10, "contact": {"mail": "a@b"}, "tries": 1}"#)
    );
    assert_eq!(state.exceptions, hold, "the person looks at the same exception");
    let due = |name: &str| state.timers.get(name).map(|(_, due)| due.since(since).as_secs() / 3600);
    assert_eq!(state.timers.len(), 2, "{:?}", state.timers);
    assert_eq!(
        (due("held.6h"), due("milestone.closed")),
        (Some(6), Some(48)),
        "counted from when they began"
    );
    // The new definition decides from now on, and what was done under the old one is undone under it.
    world.parcel.wait(&world.new, 5);
    assert_eq!(&*world.parcel.state.status, "overdue");
    world.parcel.command(&world.new, "parcel.drop");
    world.parcel.answer(&world.new, "unweigh", OutcomeClass::Ok, "{}");
    assert_eq!(world.parcel.state.ending, Some(Ending::Cancelled));
}

#[test]
fn the_journal_tells_who_and_why_and_folds_to_the_same() {
    let mut world = World::held();
    let migration = world.planned(PLAN).expect("it is covered");
    world.migrate(migration);
    let last = world.parcel.journal.last().expect("it was journaled");
    let crate::envelope::Body::Intervention(by) = &last.envelope.body else { panic!("{last:?}") };
    assert_eq!((&*by.by, &*by.reason), ("ops", "a test"));
    assert!(matches!(last.changes[0], Change::Migrated { version: 2, .. }), "{:?}", last.changes);
    let mut folded = crate::entity::State::default();
    for record in &world.parcel.journal {
        folded.fold(record);
    }
    assert_eq!(folded, world.parcel.state);
}

#[test]
fn timers_may_count_anew_and_what_is_over_already_is_due_at_once() {
    let mut world = World::held();
    world.parcel.wait(&world.old, 3);
    let migration = world.planned(&format!("{PLAN}timers: restart\n")).expect("it is covered");
    world.migrate(migration);
    let due = world.parcel.state.timers["held.6h"].1;
    assert_eq!(due.since(world.parcel.now).as_secs(), 6 * 3600);

    let mut world = World::held();
    world.parcel.wait(&world.old, 3);
    world.new = process(&new_text().replace("after: {6h", "after: {1h"));
    let migration = world.planned(PLAN).expect("it is covered");
    world.migrate(migration);
    assert_eq!(world.parcel.state.timers["held.1h"].1, world.parcel.now);
}

#[test]
fn a_state_that_is_entered_begins_anew() {
    let mut world = World::new();
    let migration = world.planned(&format!("{PLAN}pending: carry\n")).expect("it is covered");
    world.migrate(migration);
    let state = &world.parcel.state;
    assert_eq!(state.pending.len(), 2, "the one under way, and the one of the state entered anew");
    assert_eq!(state.since, world.parcel.now);
}

#[test]
fn what_is_not_covered_or_cannot_be_computed_stays() {
    let mut world = World::held();
    world.parcel.wait(&world.old, 4);
    assert_eq!(&*world.parcel.state.status, "late");
    let plan = PLAN.replace("late: overdue, ", "");
    assert_eq!(world.planned(&plan), Err(Stays::NotCovered("late".into())));
    let plan = PLAN.replace("late: overdue, ", "").replace("[received", "[late, received");
    assert_eq!(world.planned(&plan), Err(Stays::OnPurpose("late".into())));
    let plan = PLAN.replace("tries: \"1\"", "tries: \"parcel.weight / 0\"");
    assert!(matches!(world.planned(&plan), Err(Stays::Field { field, .. }) if field == "tries"));
}

#[test]
fn what_cannot_go_is_refused_and_stays_as_it_was() {
    let mut world = World::new();
    let migration = world.planned(PLAN).expect("it is covered");
    world.refused(migration, "effects are under way: weigh");

    let mut world = World::held();
    let good = world.planned(PLAN).expect("it is covered");
    // Each refusal is a record of its own.
    let mut other = |change: &dyn Fn(&mut Migration), why: &str| {
        let mut migration = Migration { at: world.parcel.state.seq, ..good.clone() };
        change(&mut migration);
        world.refused(migration, why);
    };
    other(&|m| m.from = 3, "it is on version 1, not 3");
    other(&|m| m.to = 3, "it is decided by version 2, not 3");
    other(&|m| m.at = 1, "it has moved on");
    other(&|m| m.state = "late".into(), "has no state `late`");
    other(&|m| m.state = "done".into(), "must be entered");
    other(&|m| m.fields = json(r#"{"mail": 1}"#), "has no field `mail`");
    other(&|m| m.fields = json("[]"), "no map");

    let mut world = World::held();
    world.parcel.command(&world.old, "parcel.drop");
    let migration = Migration { at: world.parcel.state.seq, with_pending: true, ..good.clone() };
    world.refused(migration, "it is being undone");

    let mut world = World::held();
    world.parcel.event(&world.old, "parcel.paid", "{}");
    world.new = process(&new_text().replace("parcel.paid", "parcel.payed"));
    let migration = Migration { at: world.parcel.state.seq, ..good };
    world.refused(migration, "`parcel.paid` waits for its turn and version 2 has none");
}

#[test]
fn a_second_migration_finds_it_there_already() {
    let mut world = World::held();
    let migration = world.planned(PLAN).expect("it is covered");
    world.migrate(migration.clone());
    world.refused(Migration { at: world.parcel.state.seq, ..migration }, "it is on version 2, not 1");
}

#[test]
fn a_plan_is_held_against_both_definitions() {
    assert_eq!(told(PLAN), "");
    for (from, to, why) in [
        ("same: [held]", "same: [hold]", "version 1 of `parcel` has no state `hold`"),
        ("late: overdue", "late: late", "version 2 of `parcel` has no state `late`"),
        ("late: overdue", "late: done", "state `done` ends the instance"),
        ("late: overdue, ", "", "nothing is said of states in which instances live: late"),
        ("[received,", "[receved,", "version 1 of `parcel` has no state `receved`"),
        ("tries: \"1\"", "trys: \"1\"", "version 2 of `parcel` has no field `trys`"),
        ("parcel.mail", "parcel.mails", "version 1 has no field `mails`"),
        ("contact: {mail: \"parcel.mail\"}, ", "", "field `mail` is not in version 2 and would be lost"),
        ("parcel.mail", "parcl.mail", "parcl"),
        ("same: [held]", "same: [held, late]", "state `late` is mapped twice"),
        ("[received,", "[late, received,", "state `late` is mapped and stays"),
        ("to: 2", "to: 1", "from a version to itself"),
        ("to: 2", "to: two", "number"),
        ("same: [held]", "same: [held]\npending: maybe", "refuse"),
        ("same: [held]", "same: [held]\nsates: {}", "the key `sates` is unknown"),
    ] {
        let text = PLAN.replacen(from, to, 1);
        assert_ne!(text, PLAN, "{from}");
        let seen = told(&text);
        assert!(seen.contains(why), "{why}\n---\n{seen}");
    }
    let (plan, old) = (read(PLAN).expect("it reads"), process(OLD));
    let new =
        process(&new_text().replace("undo: unweigh, ", "").replace(
            "  unweigh: {call: scale.forget, with: {at: \"step.input.at\"}, failure: exception}\n",
            "",
        ));
    let found = check(&plan, &old, &new);
    assert!(found.iter().any(|problem| problem.message.contains("could never be undone")), "{found:?}");
}

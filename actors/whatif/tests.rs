use super::*;
use crate::envelope::OutcomeClass::{Dead, Failed, Ok as Done};
use crate::testing::{Entity, process};

const OLD: &str = r#"
process: parcel
version: 1
title: Parcel
owner: {team: post}
initial: received
fields: {at: text, weight: number}
messages:
  parcel.seen: {is: event, starts: true}
  parcel.paid: {is: event, business_key: "data.id"}
  parcel.drop: {is: command}
effects:
  weigh: {call: scale.weigh, with: {at: "parcel.at"}, keep: {weight: "result.weight"}, undo: unweigh, failure: exception}
  unweigh: {call: scale.forget, with: {at: "step.input.at"}, failure: exception}
  tell: {call: notify.send, with: {text: "'is at ' + parcel.at"}, failure: exception}
states:
  received: {on: {parcel.seen: {set: {at: "data.at"}, to: weighing}}}
  weighing: {call: [weigh], on: {weigh.ok: {to: checking}}}
  checking:
    always:
      - {when: "parcel.weight > 30", to: heavy}
      - {to: telling}
  heavy:
    hold: {reason: "'too heavy'"}
    on: {retry: {to: telling}}
    after: {4h: {to: telling}}
  telling: {call: [tell], on: {tell.ok: {to: waiting}}}
  waiting: {on: {parcel.paid: {to: done}}}
  done: {end: completed}
  dropping: {on: {compensated: {to: dropped}}}
  dropped: {end: cancelled}
anywhere:
  parcel.drop: {except: [dropping], undo: "'dropped'", to: dropping}
"#;

fn changed(from: &str, to: &str) -> Process {
    assert!(OLD.contains(from), "{from}");
    process(&OLD.replace("version: 1", "version: 2").replace(from, to))
}

/// Seen, weighed, told, paid.
fn parcel(weight: u32) -> Vec<Record> {
    let old = process(OLD);
    let mut parcel = Entity::new(&old, "P-1");
    parcel.event(&old, "parcel.seen", r#"{"at": "dock"}"#);
    parcel.wait(&old, 1);
    parcel.answer(&old, "weigh", Done, &format!(r#"{{"weight": {weight}}}"#));
    parcel.wait(&old, 5);
    parcel.answer(&old, "tell", Dead, "{}");
    let exception = *parcel.state.exceptions.keys().next().expect("the letter is dead");
    parcel.act(&old, Action::Retry { exception, set: Value::Null });
    parcel.answer(&old, "tell", Done, "{}");
    parcel.event(&old, "parcel.paid", r#"{"id": 1}"#);
    assert_eq!(&*parcel.state.status, "done", "{:?}", parcel.state);
    parcel.journal
}

/// Ends in `dropped`, everything undone.
fn dropped() -> Vec<Record> {
    let old = process(OLD);
    let mut parcel = Entity::new(&old, "P-2");
    parcel.event(&old, "parcel.seen", r#"{"at": "dock"}"#);
    parcel.answer(&old, "weigh", Done, r#"{"weight": 3}"#);
    parcel.command(&old, "parcel.drop");
    parcel.answer(&old, "tell", Failed, "{}");
    parcel.answer(&old, "unweigh", Done, "{}");
    assert_eq!(&*parcel.state.status, "dropped", "{:?}", parcel.state);
    parcel.journal
}

fn differs(process: &Process, journal: &[Record]) -> Difference {
    run(process, journal).expect("it can be run").expect("it ends otherwise")
}

#[test]
fn under_the_same_definition_every_journal_ends_as_it_did() {
    for journal in [parcel(3), parcel(31), dropped()] {
        for length in 1..=journal.len() {
            assert_eq!(run(&process(OLD), &journal[..length]), Ok(None), "{length} records");
        }
    }
}

#[test]
fn a_guard_that_was_changed_shows_where_and_how() {
    let new = changed("weight > 30", "weight > 2");
    let difference = differs(&new, &parcel(3)[..2]);
    assert_eq!(difference.cause, "`weigh.ok`: in state `telling`, would be in `heavy`");
    assert_eq!((difference.record, &difference.effects["tell"]), (2, &(1, 0)));
    assert_eq!(difference.status, Some(("telling".into(), "heavy".into())));
    // The timer of the hold, which only the new definition has running, lets it go on; the answers came after that.
    assert_eq!(run(&new, &parcel(3)), Ok(None));
}

#[test]
fn an_effect_that_is_new_has_no_answer_and_one_that_is_gone_is_told() {
    let more = changed("telling: {call: [tell], on", "telling: {call: [tell, weigh], on");
    let difference = differs(&more, &parcel(3));
    assert_eq!(difference.effects["weigh"], (1, 2));
    assert_eq!(difference.unanswered, BTreeSet::from(["weigh".to_owned()]));
    assert_eq!(difference.cause, "`weigh.ok`: would send weigh");
    let less = changed("      - {to: telling}", "      - {to: waiting}");
    let difference = differs(&less, &parcel(3));
    assert_eq!((difference.effects["tell"], &difference.status), ((1, 0), &None));
    assert!(difference.in_words().contains(&"does not send tell".to_owned()), "{:?}", difference.in_words());
}

#[test]
fn other_content_fields_and_verdicts_are_told() {
    let difference = differs(&changed("'is at '", "'lies at '"), &parcel(3));
    assert_eq!(difference.inputs, BTreeSet::from(["tell".to_owned()]));
    assert_eq!(difference.cause, "the same way, with other data");
    let difference = differs(&changed("result.weight", "result.weight * 2"), &parcel(3));
    assert_eq!(difference.fields["weight"], ("3".to_owned(), "6".to_owned()));
    let rejects = changed("except: [dropping], undo", "except: [dropping, telling], undo");
    let difference = differs(&rejects, &dropped());
    assert_eq!(difference.verdicts[0], ("parcel.drop".into(), "applied".into(), "rejected".into()));
    assert_eq!(difference.status, Some(("dropped".into(), "telling".into())));
}

#[test]
fn what_would_wait_for_a_person_is_told() {
    let difference = differs(
        &changed(
            "tell.ok: {to: waiting}",
            "tell.ok: [{when: \"parcel.weight > 2\", to: heavy}, {to: waiting}]",
        ),
        &parcel(3)[..5],
    );
    assert_eq!(difference.exceptions["hold"], (0, 1));
    assert_eq!(difference.status, Some(("waiting".into(), "heavy".into())));
}

#[test]
fn a_journal_without_its_beginning_and_one_that_circles_are_not_guessed() {
    assert_eq!(run(&process(OLD), &parcel(3)[1..]), Err(Skipped::NoBeginning));
    assert_eq!(run(&process(OLD), &[]), Err(Skipped::NoBeginning));
}

#[test]
fn many_entities_are_grouped_by_cause_and_bounded() {
    let mut tally = Tally::default();
    let new = changed("weight > 30", "weight > 2");
    for n in 0..7 {
        tally.add(&format!("parcel/A-{n}"), run(&new, &parcel(1)));
        tally.add(&format!("parcel/B-{n}"), run(&changed("'is at '", "'lies at '"), &parcel(1)));
    }
    tally.add("parcel/C", run(&new, &dropped()));
    tally.add("parcel/D", run(&new, &parcel(3)[1..]));
    tally.sort();
    assert_eq!((tally.run, tally.same, tally.different), (15, 7, 8));
    assert_eq!(tally.skipped.values().sum::<u64>(), 1);
    assert_eq!(tally.groups.iter().map(|group| group.count).collect::<Vec<_>>(), [7, 1]);
    assert_eq!(tally.groups[0].entities.len(), 5, "some are named, all are counted");
    assert_eq!(tally.groups[0].effect, ["sends other content with tell"]);
}

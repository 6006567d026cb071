//! Messages between entities: what leaves, what the receiver sees, and what is wrong with a definition.

use super::load;
use crate::document::Reader;
use crate::process::{parse, test};

const BADGE: &str = include_str!("send/badge.yaml");
const CASES: &str = include_str!("send/badge.test.yaml");

#[test]
fn messages_do_what_their_cases_say() {
    let process = load("badge.yaml", BADGE);
    let cases = Reader::default().read("badge.test.yaml", CASES).expect("reads");
    let results = test::run(&cases, &process);
    let failed: Vec<_> = results.iter().filter_map(|r| r.failure.as_ref().map(|f| (&r.name, f))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(results.len() > 5);
}

fn broken(old: &str, new: &str) -> String {
    assert!(BADGE.contains(old), "{old}");
    let text = BADGE.replacen(old, new, 1);
    let reader = Reader::default();
    let node = reader.read("badge.yaml", &text);
    let process = node.and_then(|node| parse::parse(&node, &text, &reader)).expect("it is a process");
    for problem in crate::process::check::check(&process) {
        reader.note(problem);
    }
    reader.into_problems().to_string()
}

#[test]
fn mistakes_in_messages_are_told_with_place_and_fix() {
    for (old, new, told) in [
        ("event: door.allow", "events: door.allow", "it sends nothing"),
        ("event: door.allow", "event: door.allow, command: door.lock", "it sends more than one message"),
        ("{process: door, key: badge.door}", "{process: door}", "the key `key` is missing"),
        ("{process: door, key: badge.door}", "{key: badge.door}", "the key `process` is missing"),
        ("key: badge.door", "key: badge.dor", "did you mean `door`?"),
        ("key: badge.door", "key: data.door", "`data` in `data.door` means nothing here"),
        ("key: badge.door", "key: 'badge.door +'", "badge.yaml:"),
        ("{entity: badge.asked_by}", "{entity: badge.askd_by}", "did you mean `asked_by`?"),
        ("    failure: exception # of the answer\n", "", "when `answer` fails"),
        (
            "    send: {to: {process: door",
            "    call: a.b\n    send: {to: {process: door",
            "calls a system and sends",
        ),
    ] {
        let problems = broken(old, new);
        assert!(problems.contains(told), "{new}: {problems}");
        assert!(problems.contains("badge.yaml:"), "{problems}");
    }
}

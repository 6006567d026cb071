//! The shipped processes do what their given/when/then files say, and the laws of decisions hold for them.

use crate::document::Reader;
use crate::process::{check, parse, test};

fn load(file: &str, text: &str) -> crate::process::Process {
    let reader = Reader::default();
    let node = reader.read(file, text);
    let process = node.and_then(|node| parse::parse(&node, text, &reader));
    for problem in process.iter().flat_map(check::check) {
        reader.note(problem);
    }
    let problems = reader.into_problems();
    assert!(problems.is_empty(), "{problems}");
    process.expect("there is no problem with it")
}

#[test]
fn order_to_cash_does_what_its_cases_say() {
    let process = load("order.yaml", include_str!("../../config/processes/order.yaml"));
    let reader = Reader::default();
    let cases = reader
        .read("order.test.yaml", include_str!("../../config/processes/order.test.yaml"))
        .expect("reads");
    let results = test::run(&cases, &process);
    let failed: Vec<_> = results.iter().filter_map(|r| r.failure.as_ref().map(|f| (&r.name, f))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(test::unvisited(&process, &results), Vec::<&str>::new(), "states that no case visits");
}

mod send;
mod timers;
mod xref;

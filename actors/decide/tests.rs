//! The shipped processes do what their given/when/then files say, and the laws of decisions hold for them.

use crate::document::Reader;
use crate::process::{check, parse, test};

mod owned;
mod send;
mod timers;

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

/// Runs cases on a process, both as text.
fn hold(process: &str, cases: &str) {
    let process = load("process.yaml", process);
    let reader = Reader::default();
    let cases = reader.read("process.test.yaml", cases).expect("reads");
    let results = test::run(&cases, &process);
    assert!(!results.is_empty());
    let failed: Vec<_> = results.iter().filter_map(|r| r.failure.as_ref().map(|f| (&r.name, f))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The cases of a shipped process hold and come to each of its states.
fn does_what_its_cases_say(process: &str, cases: &str) {
    let process = load("process.yaml", process);
    let reader = Reader::default();
    let cases = reader.read("process.test.yaml", cases).expect("reads");
    let results = test::run(&cases, &process);
    let failed: Vec<_> = results.iter().filter_map(|r| r.failure.as_ref().map(|f| (&r.name, f))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(test::unseen(&process, &results), test::Seen::default(), "what no case comes to");
}

#[test]
fn procure_to_pay_does_what_its_cases_say() {
    does_what_its_cases_say(
        include_str!("../../config/processes/supplier.yaml"),
        include_str!("../../config/processes/supplier.test.yaml"),
    );
}

#[test]
fn order_to_cash_does_what_its_cases_say() {
    does_what_its_cases_say(
        include_str!("../../config/processes/order.yaml"),
        include_str!("../../config/processes/order.test.yaml"),
    );
}

#[test]
fn a_customer_does_what_its_cases_say() {
    does_what_its_cases_say(
        include_str!("../../config/processes/customer.yaml"),
        include_str!("../../config/processes/customer.test.yaml"),
    );
}

#[test]
fn an_item_does_what_its_cases_say() {
    does_what_its_cases_say(
        include_str!("../../config/processes/item.yaml"),
        include_str!("../../config/processes/item.test.yaml"),
    );
}

#[test]
fn a_shop_order_does_what_its_cases_say() {
    does_what_its_cases_say(
        include_str!("../../config/processes/shop_order.yaml"),
        include_str!("../../config/processes/shop_order.test.yaml"),
    );
}

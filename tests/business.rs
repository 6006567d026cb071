//! All the business at once: the demo with many instances of every kind, and at the end what each system holds against each entity, field
//! by field.
//!
//! `INSTANCES=10000 scripts/business` runs the same with so many of each kind.

#![expect(clippy::print_stderr, reason = "figures of the run, for whoever started it")]

use std::collections::BTreeSet;
use std::sync::Arc;

use syncline::demo::{self, Books, Plan, Progress};
use syncline::integration;

#[test]
fn every_kind_that_is_shipped_is_played() {
    let played: BTreeSet<_> = demo::kinds().map(str::to_owned).collect();
    let read = integration::read(&integration::shipped(), "config");
    let integration = read.integration.unwrap_or_else(|| panic!("{}", read.problems));
    let shipped = integration.catalog.iter().map(|process| process.name.to_string());
    assert_eq!(played, shipped.collect());
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_system_holds_what_its_entities_say() {
    let instances = setting("INSTANCES").map(|text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        orders: instances.unwrap_or(40),
        others: instances.unwrap_or(16),
        kinds: setting("KINDS").iter().flat_map(|names| names.split(' ')).map(str::to_owned).collect(),
        seed: setting("SEED").map_or(7, |text| text.parse().unwrap()),
        directory: directory.path().to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
    };
    let tell = |progress| {
        if let Progress::Scene(text) = progress {
            eprintln!("{text}");
        }
    };
    let (stage, books) = demo::play(&plan, Arc::new(tell)).await.unwrap();
    report(&books);
    let wrong: Vec<_> = books.checks.iter().flat_map(|check| &check.wrong).collect();
    assert!(books.balance(), "{} wrong, e.g. {:#?}", wrong.len(), &wrong[..wrong.len().min(12)]);
    let kinds: BTreeSet<_> = books.standing.iter().map(|standing| standing.kind).collect();
    assert!(!plan.kinds.is_empty() || kinds == demo::kinds().collect(), "{kinds:?}");
    assert!(stage.stop().await, "everything ends in time");
}

fn report(books: &Books) {
    for standing in &books.standing {
        for (state, count) in &standing.states {
            eprintln!("| {} | {state} | {count} |", standing.kind);
        }
    }
    let entities: u64 = books.standing.iter().map(demo::Standing::entities).sum();
    eprintln!("| entities | | {entities} |");
    for (what, count) in &books.counts {
        eprintln!("| {what} | | {count} |");
    }
    for check in &books.checks {
        eprintln!(
            "| {} | {} | {} |",
            check.what,
            if check.holds() { "holds" } else { "BROKEN" },
            check.told()
        );
    }
    eprintln!("| wrong | | {} |", books.checks.iter().map(|check| check.wrong.len()).sum::<usize>());
    eprintln!("| took | | {:.0} s |", books.took.as_secs_f64());
}

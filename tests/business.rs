//! All the business at once: a node over its store, the simulated systems with their faults on, instances of every kind, and at the end
//! what each system holds against each entity, field by field.
//!
//! `INSTANCES=10000 scripts/business` runs the same with so many of each kind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stderr, reason = "figures of the run, for whoever started it")]

#[path = "business/books.rs"]
mod books;
#[path = "business/customer.rs"]
mod customer;
#[path = "business/employee.rs"]
mod employee;
#[path = "business/item.rs"]
mod item;
#[path = "business/order.rs"]
mod order;
#[path = "business/shop_order.rs"]
mod shop_order;
#[path = "business/stage.rs"]
mod stage;
#[path = "business/subscription.rs"]
mod subscription;
#[path = "business/supplier.rs"]
mod supplier;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use syncline::integration;
use syncline_actors::id::EntityId;

use books::Books;
use stage::Stage;

/// Instances under way at the same time.
const AT_ONCE: usize = 400;

/// An entity, and the states in which it may stand at the end.
#[derive(Debug, Clone)]
struct Must {
    entity: EntityId,
    stands: &'static [&'static str],
}

impl Must {
    fn new(kind: &str, key: &str, stands: &'static [&'static str]) -> Self {
        Self { entity: EntityId::new(kind, key).unwrap(), stands }
    }
}

/// A kind of business: what happens to its instance of this number, and what the systems must hold of an entity.
struct Kind {
    name: &'static str,
    play: fn(Arc<Stage>, u64) -> BoxFuture<'static, Vec<Must>>,
    check: fn(&mut Books, &books::Seen),
}

const KINDS: &[Kind] = &[
    Kind { name: "order", play: |stage, number| Box::pin(order::play(stage, number)), check: order::check },
    Kind {
        name: "subscription",
        play: |stage, number| Box::pin(subscription::play(stage, number)),
        check: subscription::check,
    },
    Kind {
        name: "amendment",
        play: |stage, number| Box::pin(subscription::amend(stage, number)),
        check: subscription::check_amendment,
    },
    Kind {
        name: "employee",
        play: |stage, number| Box::pin(employee::play(stage, number)),
        check: employee::check,
    },
    Kind {
        name: "supplier",
        play: |stage, number| Box::pin(supplier::play(stage, number)),
        check: supplier::check,
    },
    Kind {
        name: "customer",
        play: |stage, number| Box::pin(customer::play(stage, number)),
        check: customer::check,
    },
    Kind { name: "item", play: |stage, number| Box::pin(item::play(stage, number)), check: item::check },
    Kind {
        name: "shop_order",
        play: |stage, number| Box::pin(shop_order::play(stage, number)),
        check: shop_order::check,
    },
];

#[test]
fn every_kind_that_is_shipped_is_played() {
    let played: BTreeSet<_> = KINDS.iter().map(|kind| kind.name.to_owned()).collect();
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
    let instances: u64 = setting("INSTANCES").map_or(16, |text| text.parse().unwrap());
    let wanted = setting("KINDS");
    let kinds: Vec<&Kind> = KINDS
        .iter()
        .filter(|kind| wanted.as_ref().is_none_or(|wanted| wanted.split(' ').any(|name| name == kind.name)))
        .collect();
    let began = tokio::time::Instant::now();
    let stage = Arc::new(Stage::open(instances).await);
    stage.trouble();
    let all = (1..=instances).flat_map(|number| kinds.iter().map(move |kind| (kind.play, number)));
    let played = futures::stream::iter(all)
        .map(|(play, number)| tokio::spawn(play(stage.clone(), number)))
        .buffer_unordered(AT_ONCE);
    let musts: Vec<Must> = played.map(Result::unwrap).flat_map(futures::stream::iter).collect().await;
    let dealt = stage.sandbox.faults_dealt();
    stage.sandbox.clear_faults();
    stage.drained().await;
    let played_in = began.elapsed();

    let mut books = Books::new(&stage.sandbox);
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for must in &musts {
        let seen = stage.seen(&must.entity).await;
        *counts.entry((must.entity.kind().to_owned(), seen.state.clone())).or_default() += 1;
        books.stands(must, &seen);
        let kind = KINDS.iter().find(|kind| kind.name == must.entity.kind());
        (kind.expect("every kind has its check").check)(&mut books, &seen);
    }
    stage.undisturbed(&mut books).await;
    eprintln!("| faults dealt | | {dealt} |");
    report(&stage, &counts, &books, musts.len(), played_in);
    assert!(
        books.wrong.is_empty(),
        "{} wrong, e.g. {:#?}",
        books.wrong.len(),
        &books.wrong[..books.wrong.len().min(12)]
    );
    let stage = Arc::into_inner(stage).expect("nothing else of the test runs any more");
    assert!(stage.stop().await, "everything ends in time");
}

fn report(
    stage: &Stage,
    counts: &BTreeMap<(String, String), u64>,
    books: &Books,
    entities: usize,
    took: std::time::Duration,
) {
    let summary = stage.sandbox.summary();
    for ((kind, state), count) in counts {
        eprintln!("| {kind} | {state} | {count} |");
    }
    eprintln!("| entities | | {entities} |");
    eprintln!("| webhooks acknowledged | | {} |", stage.acknowledged());
    eprintln!("| changes that the systems applied | | {} |", summary.total.applied);
    eprintln!("| repeated calls that they recognised | | {} |", summary.total.duplicates);
    eprintln!("| requests to the systems | | {} |", summary.total.requests);
    eprintln!("| fields compared | | {} |", books.compared);
    eprintln!("| wrong | | {} |", books.wrong.len());
    eprintln!("| took | | {:.0} s |", took.as_secs_f64());
}

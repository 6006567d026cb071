//! The demo's story, played whole: the books must balance.

use std::sync::Arc;

use syncline::demo::{Plan, play};

#[tokio::test(flavor = "multi_thread")]
async fn the_books_of_the_demo_balance() {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        orders: 60,
        seed: 7,
        directory: directory.path().to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
    };
    let (stage, books) = play(&plan, Arc::new(|progress| eprintln!("{progress:?}"))).await.unwrap();
    for (what, count) in &books.rows {
        eprintln!("{what:50} {count:>6}");
    }
    for check in &books.checks {
        eprintln!("{:5} {:50} {}", check.holds, check.what, check.detail);
    }
    assert!(books.balance(), "{:#?}", books.checks);
    assert!(stage.stop().await, "everything ends in time");
}

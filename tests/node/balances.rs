//! The standing balance over a whole node: right after crashes, and loud when something is missing.

use std::time::Duration;

use syncline::api::{Balance, ExceptionQuery};
use syncline::journal::Journal as _;
use syncline::journal::redb::{Options, Redb};
use syncline::node::Node;

use crate::{files, seen, send, start};

async fn line(node: &Node) -> Balance {
    let page = node.operate().balance().await.unwrap();
    page.items.into_iter().find(|line| line.source == "scanner").unwrap_or_default()
}

fn adds_up(line: &Balance) -> bool {
    let sum = line.applied + line.ignored + line.rejected + line.quarantined + line.open + line.duplicate;
    line.received + line.unanswered == sum && line.missing == 0
}

#[tokio::test]
async fn what_senders_were_told_adds_up_after_crashes() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), files()).await;
    for n in 0..10 {
        assert_eq!(send(&node, &format!("m{n}"), &seen(&format!("P-{n}"), "A")).await, 200);
    }
    assert_eq!(send(&node, "m0", &seen("P-0", "A")).await, 200);
    assert_eq!(send(&node, "odd", &serde_json::json!({"type": "seen", "parcel": "P-1"})).await, 200);
    let told = line(&node).await;
    assert_eq!((told.received, told.applied, told.duplicate, told.quarantined), (12, 10, 1, 1), "{told:?}");
    assert!(adds_up(&told), "{told:?}");
    let metrics = node.operate().metrics().await;
    assert!(
        metrics.contains(r#"syncline_balance_messages{source="scanner",what="received"} 12"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"syncline_balance_missing{source="scanner"} 0"#), "{metrics}");
    node.crash().await;

    let node = start(directory.path(), files()).await;
    let told = line(&node).await;
    assert_eq!((told.applied, told.quarantined), (10, 1), "what the store counted is exact: {told:?}");
    assert!(adds_up(&told), "{told:?}");
    assert_eq!(send(&node, "m10", &seen("P-10", "A")).await, 200);
    let told = line(&node).await;
    assert!(told.applied == 11 && adds_up(&told), "{told:?}");
    assert!(node.stop().await);

    // After a clean end the duplicates are there too.
    let node = start(directory.path(), files()).await;
    assert!(adds_up(&line(&node).await));
    assert!(
        node.operate()
            .exceptions(&ExceptionQuery::default())
            .await
            .unwrap()
            .items
            .iter()
            .all(|e| e.class == "hold" && e.entity.starts_with("quarantine/"))
    );
    assert!(node.stop().await);
}

#[tokio::test]
async fn a_message_that_was_answered_and_is_not_there_is_an_exception() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), files()).await;
    assert_eq!(send(&node, "m1", &seen("P-1", "A")).await, 200);
    assert!(node.stop().await);
    // As if a node had kept that it answered three, and the store has gone back to when there was one.
    let path = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path());
    let path = path.filter(|path| path.extension().is_some_and(|ending| ending == "redb")).last().unwrap();
    let store = Redb::open(path, Options::default()).unwrap();
    let (key, kept) =
        store.orders().await.unwrap().into_iter().find(|(key, _)| key.starts_with("balance:")).unwrap();
    store.order(&key, Some(&kept.replace("\"new\":1", "\"new\":3"))).await.unwrap();
    store.close().await.unwrap();
    drop(store);

    let node = start(directory.path(), files()).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held = node.operate().exceptions(&ExceptionQuery::default()).await.unwrap().items;
        if !held.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(held.len(), 1);
    assert!(
        held[0].summary.starts_with("2 messages of source `scanner`") && held[0].owner == "post",
        "{held:?}"
    );
    assert_eq!(line(&node).await.missing, 2);
    let metrics = node.operate().metrics().await;
    assert!(metrics.contains(r#"syncline_balance_missing{source="scanner"} 2"#), "{metrics}");
    assert!(node.stop().await);
}

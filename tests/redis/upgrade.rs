//! Nodes of two releases on one store, as in a rolling upgrade: each calls the functions that it was built with, on the same keys.

use std::time::Duration;

use syncline::journal::redis::{Library, Options, Redis};
use syncline::journal::{Appended, Error, ExceptionFilter, SharedJournal, Snapshot};
use syncline_actors::decision::ExceptionClass;
use syncline_actors::id::NodeId;

use crate::kit::{Chain, at, closed, emitted, opened, settled, timer};
use crate::server::Server;

/// The functions of the release that comes next: a name and a text of their own, and something new.
fn next_release() -> Library {
    let own = Library::default();
    let text = own.text().replace(own.name(), "syncline_v2").replace(own.hash(), "@HASH@");
    Library::new("syncline_v2", &format!("{text}\nread_only('news', function() return 'new' end)\n"))
}

/// A node that holds what it takes for long.
async fn node(server: &Server, name: &str, library: Library) -> (SharedJournal, NodeId) {
    let options = Options { lease: Duration::from_mins(1), boot: 1, library, ..server.options() };
    (Redis::open(options).await.unwrap(), NodeId(name.into()))
}

#[tokio::test]
async fn nodes_of_two_releases_hand_a_shard_to_each_other_and_keep_one_journal() {
    let server = Server::start();
    let (old, a) = node(&server, "a", Library::default()).await;
    let (new, b) = node(&server, "b", next_release()).await;
    let loaded = server.say(&["FUNCTION", "LIST"]);
    assert!(loaded.contains("syncline_v1") && loaded.contains("syncline_v2_news"), "{loaded}");

    let mut chain = Chain::new("order/a");
    let shards = [chain.entity.shard()];
    let first = old.acquire(&shards, &a).await.unwrap();
    chain.epoch = first[0].epoch;
    chain.write(&old, "m1", 1, vec![emitted(1, 0, "erp", 5), timer("t", 9)]).await;
    chain.write(&old, "m2", 2, vec![opened(16, ExceptionClass::Hold)]).await;
    assert_eq!(new.acquire(&shards, &b).await.unwrap(), [], "the older one's lease holds for the newer one");

    // The older one is asked to end; the newer one goes on, and finds all that waits.
    old.release(&first).await.unwrap();
    let second = new.acquire(&shards, &b).await.unwrap();
    let zombie = chain.next("m3", 3, vec![]);
    chain.epoch = second[0].epoch;
    assert_eq!(new.load(&chain.entity).await.unwrap().tail.len(), 2);
    assert_eq!(new.due_effects("erp", at(9), 9).await.unwrap().len(), 1);
    assert_eq!(new.due_timers(at(9), 9).await.unwrap().len(), 1);
    chain.write(&new, "m3", 3, vec![settled(1, 0), closed(16)]).await;
    let again = Chain { epoch: chain.epoch, ..Chain::new("order/a") }.next("m1", 4, vec![]);
    assert!(
        matches!(new.append(again).await.unwrap(), Appended::Duplicate(_)),
        "what the older one took is known"
    );
    assert!(matches!(old.append(zombie).await, Err(Error::Fenced { .. })), "the older one's late append");
    let snapshot = Snapshot { seq: 3, hash: chain.hash, frame: "s".into() };
    new.save_snapshot(chain.epoch, &chain.entity, snapshot.clone()).await.unwrap();

    // And back again, should the newer release be given up.
    new.release(&second).await.unwrap();
    let third = old.acquire(&shards, &a).await.unwrap();
    chain.epoch = third[0].epoch;
    assert!(chain.epoch > second[0].epoch && second[0].epoch > first[0].epoch, "{third:?}");
    chain.write(&old, "m4", 5, vec![]).await;
    let found = old.load(&chain.entity).await.unwrap();
    assert_eq!((found.snapshot, found.tail.len()), (Some(snapshot), 1));
    assert_eq!(old.depths().await.unwrap().get("erp").map_or(0, |depth| depth.waiting), 0);
    let all = ExceptionFilter { limit: 9, ..ExceptionFilter::default() };
    assert!(old.exceptions(&all).await.unwrap().is_empty());
}

#[tokio::test]
async fn when_all_nodes_are_of_the_newer_release_the_older_functions_may_go() {
    let server = Server::start();
    let (old, a) = node(&server, "a", Library::default()).await;
    let (new, b) = node(&server, "b", next_release()).await;
    server.say(&["FUNCTION", "DELETE", "syncline_v1"]);
    let mut chain = Chain::new("order/b");
    chain.epoch = new.acquire(&[chain.entity.shard()], &b).await.unwrap()[0].epoch;
    chain.write(&new, "m1", 1, vec![]).await;
    // One that was forgotten brings its functions again, and keeps to the same leases.
    assert_eq!(old.acquire(&[chain.entity.shard()], &a).await.unwrap(), []);
    assert!(server.say(&["FUNCTION", "LIST"]).contains("syncline_v1"));
}

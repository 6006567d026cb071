//! A replica takes over that lacks the end: what was acknowledged is written again, or the loss is loud. Never silent.

use std::time::Duration;

use syncline::journal::redis::{Options, Redis, Tier};
use syncline::journal::{Appended, Error, Grant, SharedJournal};
use syncline_actors::id::{Epoch, NodeId, ShardId};

use crate::kit::{Chain, take_all};
use crate::server::Server;

/// A primary and its replica, in step.
fn group() -> (Server, Server) {
    let (primary, replica) = (Server::start(), Server::start());
    replica.follow(&primary);
    primary.until("INFO", |info| info.contains("state=online"));
    (primary, replica)
}

fn options(primary: &Server, replica: &Server) -> Options {
    Options {
        urls: vec![primary.url(), replica.url()],
        patience: Duration::from_millis(500),
        ..primary.options()
    }
}

/// Until the journal answers for the entity again; what it says first.
async fn answer(journal: &SharedJournal, chain: &Chain) -> Result<Appended, Error> {
    let began = tokio::time::Instant::now();
    loop {
        match journal.append(chain.next("after", 9, vec![])).await {
            Err(error) if error.is_transient() => {
                assert!(began.elapsed() < Duration::from_secs(20), "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => return answer,
        }
    }
}

#[tokio::test]
async fn the_end_that_a_promoted_replica_lacks_is_written_again() {
    let (mut primary, replica) = group();
    let journal: SharedJournal = Redis::open(options(&primary, &replica)).await.unwrap();
    take_all(&*journal).await;
    let mut chains: Vec<_> = (0..20).map(|n| Chain::new(&format!("order/{n}"))).collect();
    for chain in &mut chains {
        chain.write(&journal, "before", 1, vec![]).await;
    }
    primary.until_replicated(&replica);
    // From here on the replica does not hear of it.
    replica.say(&["REPLICAOF", "NO", "ONE"]);
    for chain in &mut chains {
        for n in 0..3 {
            chain.write(&journal, &format!("m{n}"), 2, vec![]).await;
        }
    }
    primary.kill();
    for chain in &chains {
        let said = answer(&journal, chain).await;
        assert_eq!(said.unwrap(), Appended::Written, "{}", chain.entity);
        assert_eq!(journal.load(&chain.entity).await.unwrap().tail.len(), 5, "{}", chain.entity);
    }
}

#[tokio::test]
async fn an_epoch_that_a_promoted_replica_lacks_is_taken_again_above_it() {
    let (mut primary, replica) = group();
    let journal: SharedJournal = Redis::open(options(&primary, &replica)).await.unwrap();
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    chain.write(&journal, "before", 1, vec![]).await;
    primary.until_replicated(&replica);
    replica.say(&["REPLICAOF", "NO", "ONE"]);
    // A new epoch that only the primary knows, and a record under it.
    let shard = chain.entity.shard();
    let grant = journal.acquire(&[shard], &NodeId("n1".into())).await.unwrap()[0];
    chain.epoch = grant.epoch;
    chain.write(&journal, "m1", 2, vec![]).await;
    primary.kill();
    // Who holds the lost epoch is told to take the shard anew, above it; nobody else can have the same number.
    let Err(Error::Fenced { current, .. }) = answer(&journal, &chain).await else { panic!("it went on") };
    assert!(current > grant.epoch, "{current} after {}", grant.epoch);
    let again = journal.acquire(&[shard], &NodeId("n1".into())).await.unwrap()[0];
    assert!(again.epoch > current);
    chain.epoch = again.epoch;
    assert_eq!(answer(&journal, &chain).await.unwrap(), Appended::Written);
    assert_eq!(journal.load(&chain.entity).await.unwrap().tail.len(), 3, "no record is lost");
}

#[tokio::test]
async fn a_store_that_was_wiped_takes_nothing_in_until_a_person_accepts_it() {
    let mut server = Server::start();
    let journal: SharedJournal = Redis::open(server.options()).await.unwrap();
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    chain.write(&journal, "m1", 1, vec![]).await;
    server.say(&["FLUSHALL"]);
    server.kill();
    server.restart();
    // The shard was taken anew above what was known, so its old owner hears of a later epoch first.
    let Err(Error::Fenced { .. }) = answer(&journal, &chain).await else { panic!("it went on") };
    let shard = chain.entity.shard();
    let mut fresh = Chain::new("order/a");
    fresh.epoch = journal.acquire(&[shard], &NodeId("n1".into())).await.unwrap()[0].epoch;
    let Err(Error::Suspect { why, .. }) = answer(&journal, &fresh).await else { panic!("it went on") };
    assert!(why.contains("nothing of the shard is left"), "{why}");
    let suspect = journal.holdings().await.unwrap()[usize::from(shard.0)].suspect.clone();
    assert_eq!(suspect, Some(why));
    journal.accept(shard).await.unwrap();
    assert_eq!(answer(&journal, &fresh).await.unwrap(), Appended::Written);
}

/// The server goes on as the same process: only what it says tells that it has nothing left.
#[tokio::test]
async fn a_store_that_is_wiped_under_its_nodes_is_noticed_by_the_one_that_holds_a_shard_and_by_the_one_that_takes_it()
 {
    let server = Server::start();
    let journal: SharedJournal = Redis::open(server.options()).await.unwrap();
    let grants = take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    chain.write(&journal, "m1", 1, vec![]).await;
    let shard = chain.entity.shard();
    let suspect = async || journal.holdings().await.unwrap()[usize::from(shard.0)].suspect.clone();

    server.say(&["FLUSHALL"]);
    let renewed = journal.renew(&grants[usize::from(shard.0)..=usize::from(shard.0)]).await;
    assert!(matches!(&renewed[0], Err(Error::Unavailable(_))), "{renewed:?}");
    while suspect().await.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Another node has only heard of the epoch, and the store that it comes to has nothing.
    let empty = Server::start();
    let other: SharedJournal = Redis::open(empty.options()).await.unwrap();
    other.hear(&[Grant { shard, epoch: Epoch(7) }]);
    let mut fresh = Chain::new("order/a");
    fresh.epoch = other.acquire(&[shard], &NodeId("n2".into())).await.unwrap()[0].epoch;
    assert!(fresh.epoch > Epoch(7));
    let refused = other.append(fresh.next("m2", 2, vec![])).await;
    assert!(
        matches!(&refused, Err(Error::Suspect { why, .. }) if why.contains("under epoch 7")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_replicas_do_not_have_is_not_acknowledged() {
    let (primary, replica) = group();
    let tier = Tier::Replicated { replicas: 1, wait: Duration::from_millis(200), flushed: false };
    let journal: SharedJournal = Redis::open(Options { tier, ..options(&primary, &replica) }).await.unwrap();
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    chain.write(&journal, "m1", 1, vec![]).await;
    // The replica is there but does not answer.
    replica.stop();
    let refused = journal.append(chain.next("m2", 2, vec![])).await;
    let Err(Error::Unavailable(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("0 of 1 replicas have it"), "{text}");
    replica.resume();
    // It is on the primary, as the message tells when it comes again.
    let again = loop {
        match journal.append(chain.next("m2", 2, vec![])).await {
            Err(error) if error.is_transient() => {}
            answer => break answer.unwrap(),
        }
    };
    assert!(matches!(again, Appended::Duplicate(_)), "{again:?}");
}

/// A second node on the same store.
async fn other(primary: &Server, replica: &Server) -> SharedJournal {
    Redis::open(Options { boot: 2, ..options(primary, replica) }).await.unwrap()
}

/// Takes a shard as soon as the store answers for it and it is free.
async fn take(journal: &SharedJournal, shard: ShardId, node: &str) -> Epoch {
    let began = tokio::time::Instant::now();
    loop {
        match journal.acquire(&[shard], &NodeId(node.into())).await.as_deref() {
            Ok([grant]) => return grant.epoch,
            answer => assert!(began.elapsed() < Duration::from_secs(20), "{answer:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Until the entity has so many records. Nodes look all the time who holds what, and so they meet a server that has changed.
async fn until_records(nodes: [&SharedJournal; 2], chain: &Chain, count: usize) {
    let began = tokio::time::Instant::now();
    let [first, journal] = nodes;
    loop {
        let _ = first.holdings().await;
        let found = journal.load(&chain.entity).await.map(|loaded| loaded.tail.len());
        if found.as_ref().is_ok_and(|found| *found == count) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{} has {found:?}, not {count}", chain.entity);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_epoch_that_was_given_twice_is_held_by_the_second_alone_and_the_first_one_s_end_is_not_lost() {
    let (mut primary, replica) = group();
    let first: SharedJournal = Redis::open(options(&primary, &replica)).await.unwrap();
    let mut chain = Chain::new("order/a");
    let shard = chain.entity.shard();
    primary.until_replicated(&replica);
    replica.say(&["REPLICAOF", "NO", "ONE"]);
    chain.epoch = take(&first, shard, "n1").await;
    chain.write(&first, "m1", 1, vec![]).await;
    primary.kill();
    // The promoted replica has never heard of the grant, and gives the same epoch to another node.
    let second = other(&replica, &replica).await;
    assert_eq!(take(&second, shard, "n2").await, chain.epoch);
    until_records([&first, &second], &chain, 1).await;
    let refused = first.renew(&[Grant { shard, epoch: chain.epoch }]).await.remove(0);
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    chain.write(&second, "m2", 2, vec![]).await;
}

#[tokio::test]
async fn what_was_acknowledged_just_before_a_shard_was_given_back_is_written_again_by_who_had_it() {
    for is_taken in [true, false] {
        let (mut primary, replica) = group();
        let first: SharedJournal = Redis::open(options(&primary, &replica)).await.unwrap();
        let second = other(&primary, &replica).await;
        let mut chain = Chain::new("order/a");
        let shard = chain.entity.shard();
        chain.epoch = take(&first, shard, "n1").await;
        chain.write(&first, "m1", 1, vec![]).await;
        primary.until_replicated(&replica);
        replica.say(&["REPLICAOF", "NO", "ONE"]);
        chain.write(&first, "m2", 2, vec![]).await;
        first.release(&[Grant { shard, epoch: chain.epoch }]).await.unwrap();
        if is_taken {
            chain.epoch = take(&second, shard, "n2").await;
        }
        primary.kill();
        until_records([&first, &second], &chain, 2).await;
        chain.epoch = take(&second, shard, "n2").await;
        chain.write(&second, "m3", 3, vec![]).await;
    }
}

#[tokio::test]
async fn a_former_holder_s_end_that_does_not_fit_any_more_makes_the_shard_suspect() {
    let (mut primary, replica) = group();
    let first: SharedJournal = Redis::open(options(&primary, &replica)).await.unwrap();
    let mut chain = Chain::new("order/a");
    let shard = chain.entity.shard();
    chain.epoch = take(&first, shard, "n1").await;
    chain.write(&first, "m1", 1, vec![]).await;
    primary.until_replicated(&replica);
    replica.say(&["REPLICAOF", "NO", "ONE"]);
    let mut fork = chain.clone();
    chain.write(&first, "m2", 2, vec![]).await;
    first.release(&[Grant { shard, epoch: chain.epoch }]).await.unwrap();
    // Who takes it from the promoted replica knows nothing of the end, and goes on from what is there.
    let second = other(&replica, &replica).await;
    fork.epoch = take(&second, shard, "n2").await;
    fork.write(&second, "other", 3, vec![]).await;
    primary.kill();
    let began = tokio::time::Instant::now();
    let why = loop {
        let more = fork.next(&format!("fork-{}", fork.seq), 4, vec![]);
        match second.append(more.clone()).await {
            Err(Error::Suspect { why, .. }) => break why,
            Ok(Appended::Written) => fork.follow(&more),
            answer => panic!("{answer:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nobody is told");
        let _ = first.holdings().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(why.contains("does not fit any more"), "{why}");
}

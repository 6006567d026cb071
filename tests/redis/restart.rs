//! The server goes away and comes back: what was acknowledged is there, and what hung in the air is settled.

use std::sync::Arc;
use std::time::Duration;

use syncline::codec;
use syncline::journal::redis::{Options, Redis};
use syncline::journal::{Appended, Error, Journal, SharedJournal};
use syncline_actors::record::Hash;

use crate::kit::{Chain, id, take_all};
use crate::server::Server;

/// What the callers of one entity know.
struct Writer {
    chain: Chain,
    acked: u64,
}

impl Writer {
    fn new(name: &str) -> Self {
        Self { chain: Chain::new(name), acked: 0 }
    }

    /// Appends until the store does not answer. An append whose outcome is unknown is looked for, as the host does.
    async fn write(&mut self, journal: &SharedJournal, messages: usize) -> Result<(), Error> {
        for _ in 0..messages {
            let append = self.chain.next(&format!("m{}", self.chain.seq), 1, vec![]);
            let appended = journal.append(append.clone()).await?;
            assert_eq!(appended, Appended::Written);
            self.chain.follow(&append);
            self.acked = self.chain.seq;
        }
        Ok(())
    }

    /// What is in the store is what was acknowledged, and at most the one append that hung in the air.
    async fn check(&mut self, journal: &SharedJournal) {
        let tail = journal.load(&self.chain.entity).await.unwrap().tail;
        let mut prev = Hash::default();
        for (place, frame) in tail.iter().enumerate() {
            let record = codec::decode_record(frame).unwrap();
            assert_eq!((record.seq, record.prev), (place as u64 + 1, prev));
            prev = codec::record_hash(frame).unwrap();
        }
        let found = tail.len() as u64;
        assert!((self.acked..=self.acked + 1).contains(&found), "{found} of {}", self.acked);
        (self.chain.seq, self.chain.hash) = (found, prev);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_server_s_death_under_load() {
    let mut server = Server::start();
    let journal: SharedJournal = Redis::open(server.options()).await.unwrap();
    take_all(&*journal).await;
    let mut writers: Vec<_> = (0..32).map(|n| Writer::new(&format!("order/{n}"))).collect();
    for round in 0..5 {
        let mut tasks = tokio::task::JoinSet::new();
        let (progress, mut busy) = tokio::sync::watch::channel(());
        for mut writer in std::mem::take(&mut writers) {
            let (journal, progress) = (journal.clone(), progress.clone());
            tasks.spawn(async move {
                while writer.write(&journal, 1).await.is_ok() {
                    progress.send_replace(());
                }
                writer
            });
        }
        for _ in 0..200 {
            busy.changed().await.unwrap();
        }
        server.kill();
        while let Some(writer) = tasks.join_next().await {
            writers.push(writer.unwrap());
        }
        server.restart();
        let acked: u64 = writers.iter().map(|writer| writer.acked).sum();
        for writer in &mut writers {
            until_it_answers(&journal, &writer.chain).await;
            writer.check(&journal).await;
        }
        assert!(acked > 200 * (round + 1), "{acked}");
    }
}

/// Until the store takes calls for the entity again.
async fn until_it_answers(journal: &SharedJournal, chain: &Chain) {
    while journal.load(&chain.entity).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_connection_that_breaks_loses_no_call_and_repeats_none() {
    let server = Server::start();
    let journal: SharedJournal = Redis::open(server.options()).await.unwrap();
    take_all(&*journal).await;
    let mut writer = Writer::new("order/a");
    for _ in 0..20 {
        let cut = tokio::task::spawn_blocking({
            let port = server.port;
            move || crate::server::say(port, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        });
        // Whatever connection is cut in the middle: none of these fails, and none is applied twice.
        writer.write(&journal, 20).await.unwrap();
        cut.await.unwrap();
    }
    writer.check(&journal).await;
    assert_eq!(writer.chain.seq, 400);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_said_so_in_time_and_comes_back() {
    let server =
        Server::with(&["--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "yes"]);
    let options = Options {
        response_timeout: Duration::from_millis(200),
        patience: Duration::from_millis(400),
        ..server.options()
    };
    let journal: SharedJournal = Redis::open(options).await.unwrap();
    take_all(&*journal).await;
    let mut writer = Writer::new("order/a");
    writer.write(&journal, 3).await.unwrap();
    let port = server.port;
    let asleep = tokio::task::spawn_blocking(move || crate::server::say(port, &["DEBUG", "SLEEP", "3"]));
    let refused = loop {
        match writer.write(&journal, 1).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(refused.is_transient(), "{refused}");
    asleep.await.unwrap();
    until_it_answers(&journal, &writer.chain).await;
    writer.check(&journal).await;
    writer.write(&journal, 3).await.unwrap();
}

#[tokio::test]
async fn a_full_store_takes_nothing_and_loses_nothing() {
    let server = Server::start();
    let journal: SharedJournal = Redis::open(server.options()).await.unwrap();
    take_all(&*journal).await;
    let mut writer = Writer::new("order/a");
    writer.write(&journal, 3).await.unwrap();
    server.say(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let refused = writer.write(&journal, 1).await.unwrap_err();
    assert!(refused.to_string().contains("OOM"), "{refused}");
    writer.check(&journal).await;
    assert_eq!(writer.chain.seq, 3, "nothing of it was written");
    server.say(&["CONFIG", "SET", "maxmemory", "0"]);
    writer.write(&journal, 3).await.unwrap();
}

#[tokio::test]
async fn leases_keep_others_out_until_they_run_out() {
    let server = Server::start();
    let lease = Duration::from_millis(600);
    let open = async |node: &'static str, boot| {
        let redis = Redis::open(Options { lease, boot, ..server.options() }).await.unwrap();
        (redis, syncline_actors::id::NodeId(node.into()))
    };
    let (a, a_name) = open("a", 1).await;
    let (b, b_name) = open("b", 1).await;
    let shards = [id("order/a").shard(), id("order/b").shard()];
    let grants = a.acquire(&shards, &a_name).await.unwrap();
    assert_eq!(grants.len(), 2);
    assert_eq!(b.acquire(&shards, &b_name).await.unwrap(), []);
    // A node that was started again takes its shards at once; its former life does not get them back.
    let (later, _) = open("a", 2).await;
    let again = later.acquire(&shards[..1], &a_name).await.unwrap();
    assert_eq!((again.len(), again[0].epoch.0), (1, 2));
    assert_eq!(a.acquire(&shards[..1], &a_name).await.unwrap(), []);
    assert!(matches!(a.renew(&grants[..1]).await[0], Err(Error::Fenced { .. })));
    // Given back: free at once. Not renewed: free when the time is over, by the server's clock.
    a.release(&grants[1..]).await.unwrap();
    assert_eq!(b.acquire(&shards[1..], &b_name).await.unwrap().len(), 1);
    let holdings = b.holdings().await.unwrap();
    let of = |shard: syncline_actors::id::ShardId| holdings[usize::from(shard.0)].clone();
    assert_eq!((of(shards[0]).node, of(shards[0]).boot), (Some(a_name.clone()), 2));
    assert_eq!(of(shards[1]).node, Some(b_name.clone()));
    while b.acquire(&shards[..1], &b_name).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let renewed = later.renew(&again).await;
    assert!(matches!(renewed[0], Err(Error::Fenced { .. })), "{renewed:?}");
    let _kept: Arc<Redis> = b;
}

#[tokio::test]
async fn a_store_keeps_the_name_that_its_first_node_gave_it_until_it_is_wiped() {
    let server = Server::start();
    let open = async |genesis: &str| {
        Redis::open(Options { genesis: genesis.to_owned(), ..server.options() })
            .await
            .unwrap()
            .genesis()
            .to_owned()
    };
    assert_eq!((open("first").await, open("second").await), ("first".to_owned(), "first".to_owned()));
    server.say(&["FLUSHALL"]);
    assert_eq!(open("third").await, "third");
    server.say(&["HSET", "{test}:store", "shards", "64"]);
    let Err(Error::Open(refused)) = Redis::open(server.options()).await else { panic!("it was opened") };
    assert!(refused.contains("has 64 shards") && refused.contains("256"), "{refused}");
}

//! A Redis Cluster: shards lie on several masters, and slots move.

use std::process::Command;
use std::time::Duration;

use syncline::journal::redis::{Options, Redis};
use syncline::journal::{Appended, ExceptionFilter, SharedJournal};
use syncline_actors::decision::ExceptionClass;

use crate::kit::{Chain, at, emitted, opened, take_all, timer};
use crate::server::{Server, three_masters, three_masters_with_replicas};

fn options(servers: &[Server]) -> Options {
    Options { cluster_mode: true, patience: Duration::from_secs(5), ..servers[0].options() }
}

#[tokio::test]
async fn what_lies_on_several_masters_is_one_store() {
    let servers = three_masters();
    let journal: SharedJournal = Redis::open(options(&servers)).await.unwrap();
    take_all(&*journal).await;
    let mut chains: Vec<_> = (0..100).map(|n| Chain::new(&format!("order/{n:03}"))).collect();
    for (n, chain) in (0..).zip(&mut chains) {
        let changes = vec![emitted(1, 0, "erp", n), timer("t", n), opened(16, ExceptionClass::Hold)];
        chain.write(&journal, "m1", 1, changes).await;
    }
    let due = journal.due_effects("erp", at(9), 100).await.unwrap();
    assert_eq!(
        due.iter().map(|row| row.progress.due).collect::<Vec<_>>(),
        (0..=9).map(at).collect::<Vec<_>>()
    );
    assert_eq!(journal.next_effect("erp", at(9)).await.unwrap(), Some(at(10)));
    assert_eq!(journal.due_timers(at(99), 1000).await.unwrap().len(), 100);
    assert_eq!(journal.depths().await.unwrap()["erp"].waiting, 100);
    let heads = journal.heads("order", Some("089"), 100).await.unwrap();
    assert_eq!(heads.iter().map(|head| head.entity.key()).collect::<Vec<_>>()[..2], ["090", "091"]);
    let page = ExceptionFilter { limit: 7, ..ExceptionFilter::default() };
    assert_eq!(journal.exceptions(&page).await.unwrap().len(), 7);
    let keys: Vec<u64> = servers.iter().map(|server| server.say(&["DBSIZE"]).parse().unwrap()).collect();
    assert!(keys.iter().all(|keys| *keys > 100), "each master holds a part: {keys:?}");
}

#[tokio::test]
async fn slots_that_move_are_followed() {
    let servers = three_masters();
    let journal: SharedJournal = Redis::open(options(&servers)).await.unwrap();
    take_all(&*journal).await;
    let mut chains: Vec<_> = (0..60).map(|n| Chain::new(&format!("order/{n}"))).collect();
    for chain in &mut chains {
        chain.write(&journal, "m1", 1, vec![]).await;
    }
    let id = |server: &Server| server.say(&["CLUSTER", "MYID"]);
    let moved = Command::new("redis-cli")
        .args(["--cluster", "reshard", &format!("127.0.0.1:{}", servers[0].port)])
        .args(["--cluster-from", &id(&servers[0]), "--cluster-to", &id(&servers[1])])
        .args(["--cluster-slots", "2000", "--cluster-yes"])
        .output()
        .unwrap();
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stdout));
    for chain in &mut chains {
        let append = chain.next("m2", 2, vec![]);
        let appended = loop {
            match journal.append(append.clone()).await {
                // What has moved is looked at before it is trusted.
                Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(20)).await,
                answer => break answer.unwrap(),
            }
        };
        assert_eq!(appended, Appended::Written);
        assert_eq!(journal.load(&chain.entity).await.unwrap().tail.len(), 2);
    }
}

#[tokio::test]
async fn what_master_and_replica_have_survives_the_end_of_the_master() {
    let mut servers = three_masters_with_replicas();
    let options = Options { cluster_mode: true, ..servers[0].options_replicated(1) };
    let patience = Duration::from_secs(30);
    let journal: SharedJournal = Redis::open(Options { patience, ..options }).await.unwrap();
    take_all(&*journal).await;
    let mut chains: Vec<_> = (0..60).map(|n| Chain::new(&format!("order/{n}"))).collect();
    for chain in &mut chains {
        chain.write(&journal, "m1", 1, vec![]).await;
    }
    servers[0].kill();
    let masters = || servers[1..].iter().filter(|server| server.say(&["ROLE"]).starts_with("master"));
    while masters().count() < 3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The new master has no replica yet, so that nothing is acknowledged there. All who wait do not ask it all the time.
    let of = |server: &Server| {
        let stats = server.say(&["INFO", "commandstats"]);
        let info = stats.lines().find_map(|line| line.strip_prefix("cmdstat_info:calls="));
        info.map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    let looks = || servers[1..].iter().map(of).sum::<u64>();
    let many = tokio::spawn({
        let journal = journal.clone();
        async move { journal.holdings().await }
    });
    let before = looks();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each_second = (looks() - before) / 2;
    assert!(each_second < 200, "it is looked at {each_second} times a second");
    servers[0].restart();
    for chain in &mut chains {
        let append = chain.next("m2", 2, vec![]);
        let appended = loop {
            match journal.append(append.clone()).await {
                // Until the former master is a replica in step, and what was acknowledged has been looked for.
                Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(20)).await,
                answer => break answer.unwrap(),
            }
        };
        assert_eq!(appended, Appended::Written);
        assert_eq!(journal.load(&chain.entity).await.unwrap().tail.len(), 2, "{}", chain.entity);
    }
    assert!(many.await.unwrap().is_ok(), "what waited was answered");
    let holdings = journal.holdings().await.unwrap();
    assert!(holdings.iter().all(|holding| holding.suspect.is_none()), "nothing was lost");
    assert!(servers[0].say(&["ROLE"]).starts_with("slave"), "its replica took its place");
}

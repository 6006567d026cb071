//! A full disk and a disk that fails: the calls are told, and the store works again when the disk does.

use std::sync::Arc;

use syncline::journal::redb::Redb;
use syncline::journal::{Appended, Error, SharedJournal};

use crate::kit::{Chain, id, take_all};
use crate::sim::Disk;

async fn store(disk: &Disk) -> SharedJournal {
    let disk = disk.clone();
    let journal: SharedJournal = Arc::new(Redb::open_on(move || disk.plugs(), crate::sim::small()).unwrap());
    take_all(&*journal).await;
    journal
}

/// Appends until one fails; the failure, after `chain` has learnt what is there.
async fn until_it_fails(journal: &SharedJournal, chain: &mut Chain, tag: &str) -> Error {
    for n in 0.. {
        let append = chain.next(&format!("{tag}{n}"), 1, vec![]);
        match journal.append(append.clone()).await {
            Ok(answer) => assert_eq!(answer, Appended::Written),
            Err(error) => return error,
        }
        chain.follow(&append);
    }
    unreachable!("the disk is broken")
}

#[tokio::test]
async fn a_full_disk_is_told_and_forgiven() {
    let disk = Disk::default();
    let journal = store(&disk).await;
    let mut chain = Chain::new("order/a");
    for round in 0..3 {
        chain.write(&journal, &format!("ok{round}"), 1, vec![]).await;
        disk.fill(true);
        for again in 0..3 {
            let error = until_it_fails(&journal, &mut chain, &format!("full{round}{again}")).await;
            assert!(error.is_transient(), "{error}");
        }
        disk.fill(false);
        // The first call after finds the store open again.
        let append = chain.next(&format!("free{round}"), 1, vec![]);
        assert_eq!(journal.append(append.clone()).await.unwrap(), Appended::Written);
        chain.follow(&append);
        assert_eq!(journal.load(&id("order/a")).await.unwrap().tail.len() as u64, chain.seq);
    }
}

#[tokio::test]
async fn one_failed_commit_fails_its_group_and_no_other() {
    let disk = Disk::default();
    let journal = store(&disk).await;
    disk.fail_flushes(true);
    let appends = (0..20).map(|n| journal.append(Chain::new(&format!("order/{n}")).next("m", 1, vec![])));
    for answer in futures::future::join_all(appends).await {
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
    }
    disk.fail_flushes(false);
    for n in 0..20 {
        // Whether it was written is unknown to the caller, who replays and sends the message again.
        let answer = journal.append(Chain::new(&format!("order/{n}")).next("m", 1, vec![])).await.unwrap();
        assert!(matches!(&answer, Appended::Written | Appended::Duplicate(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn reads_recover_without_a_write() {
    let disk = Disk::default();
    let journal = store(&disk).await;
    Chain::new("order/a").write(&journal, "m", 1, vec![]).await;
    disk.fill(true);
    disk.fail_flushes(true);
    assert!(journal.append(Chain::new("order/b").next("m", 1, vec![])).await.is_err());
    disk.fill(false);
    disk.fail_flushes(false);
    // A failing read wakes the writer, which opens the store.
    while let Err(error) = journal.load(&id("order/a")).await {
        assert!(error.is_transient(), "{error}");
        tokio::task::yield_now().await;
    }
    assert_eq!(journal.load(&id("order/a")).await.unwrap().tail.len(), 1);
}

//! Opening a store: what was there is there, and what cannot be opened says why and what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::TableDefinition;
use syncline::journal::redb::{Options, Redb};
use syncline::journal::{Append, Error, Journal, SharedJournal};
use syncline_actors::id::Epoch;

use crate::kit::{Chain, emitted, id, take_all, timer};
use crate::suite::everything;

fn open(path: &Path) -> Result<Redb, Error> {
    Redb::open(path, Options::default())
}

fn refusal(path: &Path, options: Options) -> String {
    let Err(Error::Open(text)) = Redb::open(path, options) else {
        panic!("{} must not open", path.display())
    };
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    text
}

/// A store with something in it, closed.
async fn written(place: &tempfile::TempDir) -> PathBuf {
    let path = place.path().join("store.redb");
    let journal: SharedJournal = Arc::new(open(&path).unwrap());
    take_all(&*journal).await;
    for n in 0..50 {
        let mut chain = Chain::new(&format!("order/{n}"));
        chain.write(&journal, "m1", 1, vec![emitted(1, 0, "erp", 5), timer("t", 9)]).await;
    }
    path
}

#[tokio::test]
async fn a_store_keeps_everything_over_a_close_and_a_drop() {
    let place = tempfile::tempdir().unwrap();
    let path = written(&place).await;
    let journal: SharedJournal = Arc::new(open(&path).unwrap());
    let before = everything(&journal).await;
    assert_eq!(journal.load(&id("order/7")).await.unwrap().tail.len(), 1);
    drop(journal);

    let redb = open(&path).unwrap();
    let refused = redb.append(Chain::new("order/new").next("m", 1, vec![])).await;
    assert!(refused.is_ok(), "the epoch is still held: {refused:?}");
    redb.close().await.unwrap();
    redb.close().await.unwrap();
    assert!(matches!(redb.census().await, Err(Error::Unavailable(text)) if text.contains("not open")));
    assert!(matches!(redb.compact(crate::kit::at(0), crate::kit::at(0)).await, Err(Error::Unavailable(_))));
    let journal: SharedJournal = Arc::new(open(&path).unwrap());
    assert_ne!(everything(&journal).await, before, "order/new is there now");
    assert_eq!(take_all(&*journal).await[0].epoch.0, 2);
}

#[tokio::test]
async fn what_waits_when_the_store_closes_is_written() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store.redb");
    let redb = Arc::new(open(&path).unwrap());
    take_all(&*redb).await;
    let appends: Vec<_> = (0..200)
        .map(|n| {
            let redb = redb.clone();
            tokio::spawn(
                async move { redb.append(Chain::new(&format!("order/{n}")).next("m", 1, vec![])).await },
            )
        })
        .collect();
    tokio::task::yield_now().await;
    redb.close().await.unwrap();
    let mut acked = 0;
    for append in appends {
        acked += u64::from(append.await.unwrap().is_ok());
    }
    drop(redb);
    let census = open(&path).unwrap().census().await.unwrap();
    assert_eq!(census.values().sum::<u64>(), acked);
}

#[tokio::test]
async fn a_store_in_use_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = written(&place).await;
    let first = open(&path).unwrap();
    assert!(refusal(&path, Options::default()).contains("another process has it open"));
    drop(first);
    open(&path).unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    for (bytes, reason) in [
        (b"a letter to a friend".to_vec(), "this is not a store"),
        (vec![7; 100_000], "this is not a store"),
        (Vec::new(), "the file is empty"),
    ] {
        fs::write(&path, &bytes).unwrap();
        let text = refusal(&path, Options::default());
        assert!(text.contains(reason), "{text}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    assert!(refusal(place.path(), Options::default()).contains("this is a directory"));
    let text = refusal(&place.path().join("none/store.redb"), Options::default());
    assert!(text.contains("none does not exist: create it"), "{text}");
}

#[tokio::test]
async fn a_store_that_was_cut_or_scribbled_on_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = written(&place).await;
    let whole = fs::read(&path).unwrap();
    for share in [1, 3, 10, 50, 90] {
        fs::write(&path, &whole[..whole.len() * share / 100]).unwrap();
        let text = refusal(&path, Options::default());
        assert!(text.contains("restore a backup"), "{share} %: {text}");
    }
    let checked = || Options { check_integrity: true, ..Options::default() };
    let mut refused = 0;
    for n in 0..40 {
        let mut bytes = whole.clone();
        let start = 8192 + n * (whole.len() - 8192) / 40;
        let end = (start + 4096).min(whole.len());
        bytes[start..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::write(&path, &bytes).unwrap();
        match Redb::open(&path, checked()) {
            Err(Error::Open(text)) => {
                assert!(text.contains("restore a backup"), "{text}");
                refused += 1;
            }
            // Only unused pages were hit: everything must be there.
            Ok(redb) => assert_eq!(redb.census().await.unwrap().values().sum::<u64>(), 50),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0, "no scribble hit a page in use");
    fs::write(&path, &whole).unwrap();
    Redb::open(&path, checked()).unwrap();
}

#[tokio::test]
async fn a_store_of_another_make_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let change = |path: &Path, key: &'static str, value: &[u8]| {
        let database = redb::Database::open(path).unwrap();
        let write = database.begin_write().unwrap();
        let definition: TableDefinition<&[u8], &[u8]> = TableDefinition::new("meta");
        write.open_table(definition).unwrap().insert(key.as_bytes(), value).unwrap();
        write.commit().unwrap();
    };
    let path = written(&place).await;
    change(&path, "shards", &64_u16.to_be_bytes());
    assert!(refusal(&path, Options::default()).contains("another number of shards"));
    change(&path, "format", &9_u32.to_be_bytes());
    assert!(refusal(&path, Options::default()).contains("store format"));

    let foreign = place.path().join("foreign.redb");
    let database = redb::Database::create(&foreign).unwrap();
    let write = database.begin_write().unwrap();
    let definition: TableDefinition<u64, u64> = TableDefinition::new("birds");
    write.open_table(definition).unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(refusal(&foreign, Options::default()).contains("another program"));
}

#[tokio::test]
async fn a_missing_record_is_told_where_it_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store.redb");
    let journal: SharedJournal = Arc::new(open(&path).unwrap());
    take_all(&*journal).await;
    for entity in ["order/a", "order/b"] {
        let mut chain = Chain::new(entity);
        for n in 0..3 {
            chain.write(&journal, &format!("m{n}"), 1, vec![]).await;
        }
    }
    drop(journal);
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    let records: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
    for (entity, seq) in [("order/a", 2_u64), ("order/b", 3)] {
        let shard = id(entity).shard().0.to_be_bytes();
        let key = [&shard[..], entity.as_bytes(), &[0], &seq.to_be_bytes()].concat();
        assert!(write.open_table(records).unwrap().remove(&key[..]).unwrap().is_some());
    }
    write.commit().unwrap();
    drop(database);
    let redb = open(&path).unwrap();
    for (entity, seq) in [("order/a", 2), ("order/b", 3)] {
        let loaded = redb.load(&id(entity)).await;
        let expected = format!("record {seq} of {entity} is missing");
        assert!(matches!(&loaded, Err(Error::Corrupt(text)) if text.contains(&expected)), "{loaded:?}");
    }
}

#[tokio::test]
async fn a_store_of_another_cluster_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store.redb");
    let of = |cluster: &str| Options { cluster: Some(cluster.to_owned()), ..Options::default() };
    drop(Redb::open(&path, of("east")).unwrap());
    assert!(refusal(&path, of("west")).contains("it belongs to cluster `east`, not to `west`"));
    drop(Redb::open(&path, of("east")).unwrap());
    drop(open(&path).unwrap());
}

#[tokio::test]
async fn a_start_that_was_interrupted_can_be_made_again() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store.redb");
    // What a crash leaves: the new file, not yet under its name.
    drop(open(&path).unwrap());
    fs::rename(&path, place.path().join("store.redb.new")).unwrap();
    fs::remove_file(place.path().join("store.redb.log")).unwrap();
    let redb = open(&path).unwrap();
    take_all(&redb).await;
    assert!(!place.path().join("store.redb.new").exists());
}

/// What a node leaves that is killed: the tables and the log as they are at any moment.
async fn killed(place: &tempfile::TempDir) -> PathBuf {
    let path = place.path().join("store.redb");
    let journal: SharedJournal = Arc::new(open(&path).unwrap());
    take_all(&*journal).await;
    Chain::new("order/a").write(&journal, "m1", 1, vec![emitted(1, 0, "erp", 5)]).await;
    let copy = place.path().join("copy.redb");
    fs::copy(&path, &copy).unwrap();
    fs::copy(place.path().join("store.redb.log"), place.path().join("copy.redb.log")).unwrap();
    copy
}

#[tokio::test]
async fn what_only_the_log_holds_is_there_after_a_kill() {
    let place = tempfile::tempdir().unwrap();
    let path = killed(&place).await;
    let journal: SharedJournal = Arc::new(open(&path).unwrap());
    assert_eq!(journal.load(&id("order/a")).await.unwrap().tail.len(), 1);
    assert_eq!(journal.depths().await.unwrap()["erp"].waiting, 1);
}

#[tokio::test]
async fn a_log_gets_another_size_after_a_close_and_keeps_it_over_a_kill() {
    let place = tempfile::tempdir().unwrap();
    let (path, copy) = (place.path().join("store.redb"), place.path().join("copy.redb"));
    let sized = |log_bytes| Options { log_bytes, ..Options::default() };
    let mut chains: Vec<_> = (0..40).map(|n| Chain::new(&format!("order/{n}"))).collect();
    for (round, log_bytes) in [32 << 10, 8 << 10, 64 << 10].into_iter().enumerate() {
        let journal: SharedJournal = Arc::new(Redb::open(&path, sized(log_bytes)).unwrap());
        for grant in take_all(&*journal).await {
            assert_eq!(usize::try_from(grant.epoch.0).unwrap(), round + 1, "the store is the one there was");
        }
        for chain in &mut chains {
            let append =
                Append { epoch: Epoch(round as u64 + 1), ..chain.next(&format!("m{round}"), 1, vec![]) };
            chain.put(&journal, append).await;
        }
        fs::copy(&path, &copy).unwrap();
        fs::copy(place.path().join("store.redb.log"), place.path().join("copy.redb.log")).unwrap();
        let after_a_kill = Redb::open(&copy, sized(16 << 10)).unwrap();
        for n in 0..40 {
            let loaded = after_a_kill.load(&id(&format!("order/{n}"))).await.unwrap();
            assert_eq!(loaded.tail.len(), round + 1, "order/{n} with a log of {log_bytes} bytes");
        }
        journal.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_without_its_log_and_a_log_without_its_store_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = killed(&place).await;
    let log = place.path().join("copy.redb.log");
    let kept = fs::read(&log).unwrap();
    fs::remove_file(&log).unwrap();
    assert!(refusal(&path, Options::default()).contains("copy.redb.log is missing"));
    fs::write(&log, &kept).unwrap();
    let tables = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(refusal(&path, Options::default()).contains("put that store back, or remove the log"));
    fs::write(&path, &tables).unwrap();
    // In a whole store nothing is left in the log.
    drop(open(&path).unwrap());
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    fs::remove_file(&log).unwrap();
    assert_eq!(open(&path).unwrap().census().await.unwrap().values().sum::<u64>(), 1);
}

#[tokio::test]
async fn a_log_with_a_hole_is_refused_and_one_with_a_torn_end_is_not() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store.redb");
    let journal: SharedJournal = Arc::new(open(&path).unwrap());
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    for n in 0..4 {
        chain.write(&journal, &format!("m{n}"), 1, vec![]).await;
    }
    let log = place.path().join("store.redb.log");
    let (tables, groups) = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    drop(journal);
    let places: Vec<usize> =
        (0..groups.len()).step_by(512).filter(|at| groups[*at..].starts_with(b"SLOG")).collect();
    assert_eq!(places.len(), 5, "one for the shards, one an append");
    let damaged = |group: usize| {
        let mut bytes = groups.clone();
        bytes[places[group] + 40] ^= 1;
        fs::write(&path, &tables).unwrap();
        fs::write(&log, bytes).unwrap();
    };
    damaged(3);
    let text = refusal(&path, Options::default());
    assert!(
        text.contains("group 4 of the log is damaged or missing") && text.contains("restore a backup"),
        "{text}"
    );
    damaged(4);
    assert_eq!(open(&path).unwrap().load(&id("order/a")).await.unwrap().tail.len(), 3);
}

#[tokio::test]
async fn a_store_of_the_release_without_a_log_is_taken_over() {
    let place = tempfile::tempdir().unwrap();
    let path = written(&place).await;
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    {
        let meta: TableDefinition<&[u8], &[u8]> = TableDefinition::new("meta");
        let mut meta = write.open_table(meta).unwrap();
        meta.insert(&b"format"[..], &1_u32.to_be_bytes()[..]).unwrap();
        meta.remove(&b"log"[..]).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    fs::remove_file(place.path().join("store.redb.log")).unwrap();
    let journal: SharedJournal = Arc::new(open(&path).unwrap());
    take_all(&*journal).await;
    let mut chain = Chain::new("order/new");
    chain.epoch = syncline_actors::id::Epoch(2);
    chain.write(&journal, "m", 1, vec![]).await;
    assert_eq!(journal.census().await.unwrap().values().sum::<u64>(), 51);
}

#[cfg(unix)]
#[tokio::test]
async fn a_store_that_may_not_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = tempfile::tempdir().unwrap();
    let path = written(&place).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may do anything.
    if fs::File::open(&path).is_err() {
        assert!(refusal(&path, Options::default()).contains("may not read and write it"));
    }
}

//! Power cuts at any write or flush, again and again on one store: nothing acknowledged is lost, nothing is there by half.

use std::sync::Arc;

use syncline::codec;
use syncline::journal::redb::{Options, Redb};
use syncline::journal::{Appended, Error, SharedJournal};
use syncline_actors::id::{NodeId, ShardId};
use syncline_actors::record::Hash;

use crate::kit::{Chain, emitted, id, settled};
use crate::sim::{Chance, Disk};

const ENTITIES: usize = 6;

fn open(disk: &Disk) -> Result<SharedJournal, Error> {
    let disk = disk.clone();
    let options = Options { cache_bytes: 1 << 20, ..crate::sim::small() };
    Ok(Arc::new(Redb::open_on(move || disk.plugs(), options)?))
}

fn entity(n: usize) -> String {
    format!("order/{n}")
}

/// What the callers were told.
#[derive(Debug, Default)]
struct Told {
    /// By entity: the hashes of acknowledged records, in order.
    acked: Vec<Vec<Hash>>,
    epochs: Vec<u64>,
}

/// Takes the shards, and appends to every entity at once until the power goes.
async fn work(journal: &SharedJournal, told: &mut Told, round: usize) {
    let shards: Vec<ShardId> = (0..ENTITIES).map(|n| id(&entity(n)).shard()).collect();
    let Ok(grants) = journal.acquire(&shards, &NodeId("n".into())).await else { return };
    let epochs = grants.iter().map(|grant| grant.epoch.0);
    let grown = epochs.clone().zip(&told.epochs).all(|(new, old)| new > *old);
    assert!(grown, "round {round}: {grants:?} after {:?}", told.epochs);
    told.epochs = epochs.collect();
    let writers = (0..ENTITIES).map(|n| {
        let mut chain = Chain::new(&entity(n));
        (chain.epoch, chain.seq) = (grants[n].epoch, told.acked[n].len() as u64);
        chain.hash = told.acked[n].last().copied().unwrap_or_default();
        let journal = journal.clone();
        async move {
            let mut acked = Vec::new();
            loop {
                let changes = vec![emitted(chain.seq + 1, 0, "erp", 5), settled(chain.seq, 0)];
                let append = chain.next(&format!("r{round}.{}", chain.seq), 1, changes);
                match journal.append(append.clone()).await {
                    Ok(Appended::Written) => acked.push(append.hash),
                    Err(Error::Unavailable(_)) => return acked,
                    other => panic!("round {round}: {other:?}"),
                }
                chain.follow(&append);
            }
        }
    });
    let acked = futures::future::join_all(writers).await;
    told.acked.iter_mut().zip(acked).for_each(|(all, new)| all.extend(new));
}

/// Compares the store with what was told; what was written but never acknowledged counts from here on.
async fn check(journal: &SharedJournal, told: &mut Told, round: usize) {
    let mut records = 0;
    for n in 0..ENTITIES {
        let loaded = journal.load(&id(&entity(n))).await.unwrap();
        let mut prev = Hash::default();
        let mut hashes = Vec::new();
        for (place, frame) in loaded.tail.iter().enumerate() {
            let record = codec::decode_record(frame).unwrap();
            assert_eq!((record.seq, record.prev), (place as u64 + 1, prev), "round {round}");
            prev = codec::record_hash(frame).unwrap();
            hashes.push(prev);
        }
        let acked = &mut told.acked[n];
        assert!(hashes.starts_with(acked), "round {round}: {} acked, {} found", acked.len(), hashes.len());
        assert!(hashes.len() <= acked.len() + 1, "round {round}: more than was in flight");
        records += hashes.len();
        *acked = hashes;
        let waiting = journal.outbox_of(&id(&entity(n))).await.unwrap();
        let expected: Vec<u64> = (!acked.is_empty()).then_some(acked.len() as u64).into_iter().collect();
        assert_eq!(
            waiting.iter().map(|row| row.effect.id.seq).collect::<Vec<_>>(),
            expected,
            "round {round}"
        );
    }
    let with_records = told.acked.iter().filter(|acked| !acked.is_empty()).count() as u64;
    let waiting = journal.depths().await.unwrap().get("erp").map_or(0, |depth| depth.waiting);
    assert_eq!(
        (waiting, journal.census().await.unwrap().values().sum::<u64>()),
        (with_records, with_records)
    );
    assert!(records < 1_000_000);
}

#[test]
fn nothing_acknowledged_is_lost_in_power_cuts() {
    let cuts = std::env::var("JOURNAL_POWER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(600);
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut chance = Chance(seed);
    let (mut disk, mut told) = (Disk::default(), Told::default());
    let mut acked = 0;
    for round in 0..cuts {
        if round % 60 == 0 {
            // A new store now and then: what matters are young and middle-aged files.
            disk = Disk::default();
            told = Told { acked: vec![Vec::new(); ENTITIES], epochs: Vec::new() };
            drop(open(&disk).unwrap());
        }
        disk.fuse(1 + chance.below(120));
        // The power may go while the store opens.
        if let Ok(journal) = open(&disk) {
            runtime.block_on(work(&journal, &mut told, round));
        }
        disk.power_cycle(&mut chance);
        let journal = open(&disk).unwrap_or_else(|error| panic!("SEED={seed} round {round}: {error}"));
        let before: usize = told.acked.iter().map(Vec::len).sum();
        runtime.block_on(check(&journal, &mut told, round));
        acked = acked.max(before);
    }
    assert!(acked > 100, "the fuse is too short to show anything: {acked}");
}

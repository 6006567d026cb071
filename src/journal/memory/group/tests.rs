use bytes::Bytes;
use syncline_actors::decision::{Answer, Verdict};
use syncline_actors::outbox::Rows;
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;

use super::*;
use crate::journal::Journal as _;

const LEASE: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Plain;

#[async_trait]
impl Way for Plain {
    async fn there(&self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    async fn back(&self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }
}

impl Witness for Plain {}

fn group(waits: bool) -> Group {
    Group::new(LEASE, waits, Arc::new(Plain))
}

fn open(group: &Group, boot: u64) -> Arc<Handle> {
    Handle::open(group, boot, Arc::new(Plain))
}

fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

fn entity() -> EntityId {
    EntityId::new("order", "SO-1").expect("a legal key")
}

fn append(epoch: Epoch, seq: u64) -> Append {
    let hash = |seq: u64| if seq == 0 { Hash::default() } else { Hash::of(&seq.to_be_bytes()) };
    Append {
        entity: entity(),
        epoch,
        seq,
        prev: hash(seq - 1),
        hash: hash(seq),
        frame: Bytes::copy_from_slice(&seq.to_be_bytes()),
        at: Timestamp(0),
        dedup: Vec::new(),
        answer: Answer { seq, status: "new".into(), verdict: Verdict::Applied },
        ended: false,
        rows: Rows::default(),
        terms: Vec::new(),
    }
}

async fn take(handle: &Handle, name: &str) -> Option<Epoch> {
    let grants = handle.acquire(&[entity().shard()], &node(name)).await.expect("nothing is in the way");
    grants.first().map(|grant| grant.epoch)
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_another_s_when_its_lease_has_run_out_and_not_before() {
    let group = group(false);
    let (a, b) = (open(&group, 1), open(&group, 1));
    let held = take(&a, "a").await.expect("it is free");
    assert_eq!(take(&b, "b").await, None);
    tokio::time::advance(Duration::from_secs(3)).await;
    let renewed = a.renew(&[Grant { shard: entity().shard(), epoch: held }]).await;
    assert!(renewed[0].is_ok());
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(take(&b, "b").await, None, "it was renewed");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(take(&b, "b").await, Some(Epoch(held.0 + 1)));
    assert!(matches!(a.append(append(held, 1)).await, Err(Error::Fenced { .. })));
    assert_eq!(take(&open(&group, 2), "b").await, Some(Epoch(held.0 + 2)), "a later run of the same node");
}

#[tokio::test(start_paused = true)]
async fn what_a_promotion_loses_is_written_again_by_who_was_told_of_it() {
    let group = group(false);
    let a = open(&group, 1);
    let held = take(&a, "a").await.expect("it is free");
    a.append(append(held, 1)).await.expect("it is ours");
    group.set_lag(Duration::from_millis(500));
    a.append(append(held, 2)).await.expect("it is ours");
    let lost = group.promote();
    assert_eq!(lost.entities, BTreeMap::from([(entity(), 1)]));
    assert!(a.load(&entity()).await.is_err(), "the shard is in doubt from the moment the new server is met");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(a.load(&entity()).await.expect("it was looked at").tail.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_epoch_is_outgrown_and_a_lost_end_that_does_not_fit_is_marked() {
    let group = group(false);
    let (a, b) = (open(&group, 1), open(&group, 1));
    group.set_lag(Duration::from_millis(500));
    let held = take(&a, "a").await.expect("it is free");
    a.append(append(held, 1)).await.expect("it is ours");
    assert_eq!(group.promote().epochs, BTreeMap::from([(entity().shard(), Epoch(0))]));
    let taken = take(&b, "b").await.expect("the store knows of nobody");
    b.append(Append { hash: Hash::of(b"another"), ..append(taken, 1) }).await.expect("it is theirs");
    assert!(a.load(&entity()).await.is_err(), "it meets the new server");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let refused = b.append(Append { prev: Hash::of(b"another"), ..append(taken, 2) }).await;
    assert!(matches!(refused, Err(Error::Suspect { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_waits_for_the_replica_is_never_lost() {
    let group = group(true);
    let a = open(&group, 1);
    let held = take(&a, "a").await.expect("it is free");
    group.set_lag(Duration::from_millis(500));
    let told = a.append(append(held, 1));
    tokio::pin!(told);
    assert!(tokio::time::timeout(Duration::from_millis(499), &mut told).await.is_err(), "it waits");
    told.await.expect("the replica has it");
    assert_eq!(group.promote().entities, BTreeMap::new());
}

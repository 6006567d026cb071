//! Who holds which shard, as far as this node knows: read from the store, and corrected by what others answer.
//!
//! Epochs only grow, so what is known under a higher one is newer. What is known wrongly costs a hop, never a message.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use syncline_actors::id::{Epoch, NodeId, ShardId};
use syncline_actors::placement::planner::Owned;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::journal::Holding;

/// What is known of one shard.
#[derive(Debug, Clone)]
struct Entry {
    epoch: Epoch,
    /// None: nobody holds it any more.
    node: Option<NodeId>,
    /// When that was learned.
    since: Instant,
}

/// Who holds which shard.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Mutex<BTreeMap<ShardId, Entry>>,
    bell: Arc<Bell>,
}

/// Rings at every change. Those who wait go on in the order in which they came: a message that waits for its shard is not overtaken
/// by one that came later, and one seed gives one order.
#[derive(Debug, Default)]
struct Bell {
    changes: AtomicU64,
    ring: Notify,
}

/// What changes in a table, seen by one who waits.
#[derive(Debug)]
pub(super) struct Changes {
    bell: Arc<Bell>,
    seen: u64,
}

impl Changes {
    /// What has changed so far does not count.
    pub(super) fn mark_unchanged(&mut self) {
        self.seen = self.bell.changes.load(Ordering::Acquire);
    }

    fn has_changed(&self) -> bool {
        self.bell.changes.load(Ordering::Acquire) != self.seen
    }

    /// Returns when something has changed.
    pub(super) async fn changed(&mut self) {
        while !self.has_changed() {
            let mut rung = std::pin::pin!(self.bell.ring.notified());
            rung.as_mut().enable();
            if !self.has_changed() {
                rung.await;
            }
        }
        self.mark_unchanged();
    }
}

impl Table {
    /// Who holds `shard`.
    pub(super) fn holder(&self, shard: ShardId) -> Option<Owned> {
        let entries = self.lock();
        let entry = entries.get(&shard)?;
        Some(Owned { node: entry.node.clone()?, epoch: entry.epoch })
    }

    /// Seen anew whenever something changes.
    pub(super) fn changes(&self) -> Changes {
        let mut changes = Changes { bell: self.bell.clone(), seen: 0 };
        changes.mark_unchanged();
        changes
    }

    /// `owned` is told by the holder itself, or by who has let it go to it.
    pub(super) fn learn(&self, shard: ShardId, owned: &Owned) {
        self.set(shard, owned.epoch, Some(&owned.node), |known| owned.epoch > known.epoch);
    }

    /// Nobody holds `shard` under `epoch`, nor under a lower one.
    pub(super) fn lost(&self, shard: ShardId, epoch: Epoch) {
        self.set(shard, epoch, None, |known| epoch >= known.epoch);
    }

    /// What the store answered to a question asked at `began`. What was learned since is newer.
    pub(super) fn read(&self, holdings: &[Holding], began: Instant) {
        for holding in holdings {
            let over = holding.left.is_some_and(|left| left.is_zero());
            let node = holding.node.as_ref().filter(|_| !over);
            self.set(holding.shard, holding.epoch, node, |known| {
                holding.epoch > known.epoch || (holding.epoch == known.epoch && known.since < began)
            });
        }
    }

    fn set(&self, shard: ShardId, epoch: Epoch, node: Option<&NodeId>, newer: impl FnOnce(&Entry) -> bool) {
        let mut entries = self.lock();
        let known = entries.get(&shard);
        if !known.is_none_or(newer) {
            return;
        }
        let changed = known.is_none_or(|known| known.epoch != epoch || known.node.as_ref() != node);
        if changed {
            entries.insert(shard, Entry { epoch, node: node.cloned(), since: Instant::now() });
            drop(entries);
            self.bell.changes.fetch_add(1, Ordering::AcqRel);
            self.bell.ring.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SHARD: ShardId = ShardId(7);

    fn owned(node: &str, epoch: u64) -> Owned {
        Owned { node: NodeId(node.into()), epoch: Epoch(epoch) }
    }

    fn holding(node: Option<&str>, epoch: u64, left_ms: u64) -> Holding {
        Holding {
            shard: SHARD,
            epoch: Epoch(epoch),
            node: node.map(|node| NodeId(node.into())),
            boot: 1,
            left: Some(Duration::from_millis(left_ms)),
            suspect: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_higher_epoch_is_newer_whoever_tells_it() {
        let table = Table::default();
        table.learn(SHARD, &owned("b", 5));
        table.learn(SHARD, &owned("a", 4));
        assert_eq!(table.holder(SHARD), Some(owned("b", 5)), "a late word changes nothing");
        table.lost(SHARD, Epoch(4));
        assert_eq!(table.holder(SHARD), Some(owned("b", 5)));
        table.lost(SHARD, Epoch(5));
        assert_eq!(table.holder(SHARD), None);
        table.learn(SHARD, &owned("b", 5));
        assert_eq!(table.holder(SHARD), None, "it was let go under that epoch");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_learned_while_the_store_was_asked_stays() {
        let table = Table::default();
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        table.learn(SHARD, &owned("a", 5));
        table.lost(SHARD, Epoch(5));
        table.read(&[holding(Some("a"), 5, 900)], asked);
        assert_eq!(table.holder(SHARD), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        table.read(&[holding(Some("a"), 5, 900)], Instant::now());
        assert_eq!(table.holder(SHARD), Some(owned("a", 5)), "the word that it was let go was wrong");
        table.read(&[holding(Some("b"), 6, 900)], asked);
        assert_eq!(table.holder(SHARD), Some(owned("b", 6)), "a higher epoch is newer at any time");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_by_a_change_and_by_nothing_else() {
        let table = Table::default();
        let mut changes = table.changes();
        table.read(&[holding(Some("a"), 5, 900)], Instant::now());
        assert!(changes.has_changed());
        changes.mark_unchanged();
        tokio::time::advance(Duration::from_millis(1)).await;
        table.read(&[holding(Some("a"), 5, 400)], Instant::now());
        assert!(!changes.has_changed());
        tokio::time::advance(Duration::from_millis(1)).await;
        table.read(&[holding(Some("a"), 5, 0)], Instant::now());
        assert!(changes.has_changed(), "its lease ran out");
        assert_eq!(table.holder(SHARD), None);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_go_on_in_the_order_in_which_they_came() {
        let table = Table::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..32 {
            let (mut changes, order) = (table.changes(), order.clone());
            waiting.spawn(async move {
                changes.changed().await;
                order.lock().unwrap().push(n);
            });
            tokio::task::yield_now().await;
        }
        table.learn(SHARD, &owned("a", 1));
        while waiting.join_next().await.is_some() {}
        assert!(order.lock().unwrap().is_sorted(), "{order:?}");
    }
}

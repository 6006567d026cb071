//! Who sees what the store does, and writes it down: grants, records, and what a promotion loses.
//!
//! A record is *told* once the node that wrote it knows that it is there. What was told must be there for good: it comes back after a
//! promotion, or the shard is marked as suspect. What was not told may vanish. So may what was told where the tier's answers do not
//! wait for a replica, if the node that knew of it is gone too, or had lost its grant with the same promotion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use syncline::journal::memory::{Lost, Witness};
use syncline::journal::{Append, Grant};
use syncline_actors::id::{EntityId, Epoch, NodeId, ShardId};
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;

use crate::book::{Book, Kept, effect, print};
use crate::ground::Ground;
use crate::life::Life;

/// By when a lost shard must be marked.
const LOUD_WITHIN: Duration = Duration::from_secs(15);

/// A record that its node knows to be there.
#[derive(Debug)]
struct Told {
    life: Arc<Life>,
    epoch: Epoch,
}

/// What was told, granted, and lost.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    told: BTreeMap<(EntityId, u64), Told>,
    /// How many records of an entity the store has, where it is not all.
    left: BTreeMap<EntityId, u64>,
    /// Records that must come back: nothing but the promotion has befallen the node that knows them.
    owed: BTreeSet<(EntityId, u64)>,
    /// Who got a shard under an epoch.
    granted: BTreeMap<(ShardId, Epoch), (NodeId, u64)>,
    /// Until when it may not be clear who holds a shard: its last grant was lost.
    unclear: BTreeMap<ShardId, Timestamp>,
    /// Shards that must be marked by then.
    due: BTreeMap<ShardId, Timestamp>,
}

impl Losses {
    /// A node knows that a record is there.
    pub(crate) fn told(&mut self, append: &Append, life: &Arc<Life>) {
        let told = Told { life: life.clone(), epoch: append.epoch };
        self.told.insert((append.entity.clone(), append.seq), told);
    }

    /// Whether it may not be clear who holds the shard.
    pub(crate) fn is_unclear(&self, shard: ShardId, now: Timestamp) -> bool {
        self.unclear.get(&shard).is_some_and(|until| now < *until)
    }

    /// A shard that should have been marked by now.
    pub(crate) fn overdue(&self, now: Timestamp) -> Option<ShardId> {
        self.due.iter().find(|(_, due)| **due < now).map(|(shard, _)| *shard)
    }

    /// Entities of which the store has not all.
    pub(crate) fn short(&self) -> Vec<(EntityId, u64)> {
        self.left.iter().map(|(id, left)| (id.clone(), *left)).collect()
    }

    /// How many records of an entity are left, where those that are lost are known to no living node.
    pub(crate) fn forgotten(&self, entity: &EntityId) -> Option<u64> {
        let left = *self.left.get(entity)?;
        let mut lost = self.told.range((entity.clone(), left + 1)..=(entity.clone(), u64::MAX));
        lost.all(|(_, told)| told.life.is_over()).then_some(left)
    }

    /// A record that a living node knows, that the store has not, and that nobody is told of.
    pub(crate) fn silent(&self) -> Option<&(EntityId, u64)> {
        let is_short = |(id, seq): &(EntityId, u64)| self.left.get(id).is_some_and(|left| seq > left);
        self.told.iter().find(|(key, told)| is_short(key) && !told.life.is_over()).map(|(key, _)| key)
    }
}

/// Writes down what the store does.
#[derive(Debug)]
pub(crate) struct Notary(pub(crate) Weak<Ground>);

impl Witness for Notary {
    fn granted(&self, grant: Grant, node: &NodeId, boot: u64) {
        let Some(ground) = self.0.upgrade() else { return };
        let checked = ground.book().granted(grant.shard, grant.epoch);
        ground.check(checked);
        let before = ground.losses().granted.insert((grant.shard, grant.epoch), (node.clone(), boot));
        if let Some(before) = before.filter(|before| *before != (node.clone(), boot)) {
            ground.count("epoch given twice, the first was lost");
            ground.line(&format!("{} {} was {before:?}'s and is {node}#{boot}'s", grant.shard, grant.epoch));
        }
    }

    fn written(&self, append: &Append, by: (&NodeId, u64)) {
        let Some(ground) = self.0.upgrade() else { return };
        ground.written(append, by);
    }

    fn not_written(&self, append: &Append, why: &'static str) {
        let Some(ground) = self.0.upgrade() else { return };
        ground.count(match why {
            "known" => "append: duplicate",
            "fenced" => "append: fenced",
            "conflict" => "append: conflict",
            _ => "append: of a suspect shard",
        });
        ground.line(&format!("append {}#{} {}: {why}", append.entity, append.seq, short(append.hash)));
    }

    fn promoted(&self, lost: &Lost) {
        let Some(ground) = self.0.upgrade() else { return };
        ground.promoted(lost);
    }

    fn suspected(&self, shard: ShardId, why: &str) {
        let Some(ground) = self.0.upgrade() else { return };
        ground.count("shard marked as suspect");
        ground.line(&format!("{shard} is suspect: {why}"));
        let mut losses = ground.losses();
        losses.due.remove(&shard);
        let now = ground.now();
        let owed = losses.owed.iter().find(|(id, _)| id.shard() == shard && !losses.is_unclear(shard, now));
        let owed = owed.filter(|key| losses.told.get(*key).is_some_and(|told| !told.life.is_over())).cloned();
        drop(losses);
        if let Some((entity, seq)) = owed {
            ground.violated(format!(
                "I1: {entity}#{seq} was acknowledged, its node holds the shard and lives, and it is given up: {why}"
            ));
        }
    }

    fn accepted(&self, shard: ShardId) {
        let Some(ground) = self.0.upgrade() else { return };
        ground.line(&format!("what {shard} has lost is accepted"));
        let short = ground.losses().short();
        for (entity, left) in short.into_iter().filter(|(id, _)| id.shard() == shard) {
            ground.give_up(&entity, left);
        }
    }
}

fn short(hash: Hash) -> String {
    hash.to_string()[..8].to_owned()
}

impl Ground {
    fn written(&self, append: &Append, by: (&NodeId, u64)) {
        let (entity, seq) = (&append.entity, append.seq);
        let left = self.losses().left.get(entity).copied();
        if let Some(left) = left {
            let known = self.book().entities.get(entity).and_then(|kept| hash_of(kept, seq));
            if seq == left + 1 && known == Some(append.hash) {
                return self.back(append);
            }
            self.instead(entity, left);
        }
        self.count("append: written");
        self.line(&format!("append {entity}#{seq} {} by {}#{}", short(append.hash), by.0, by.1));
        let checked = {
            let ledger = self.ledger();
            // Where what was known of attempts is lost, a system that honours no keys may apply twice; once it must.
            let applied = |key: &str| match ledger.applied(key) {
                times if self.forgives(key) => times.min(1),
                times => times,
            };
            self.book().landed(append, self.now(), &applied)
        };
        self.check(checked);
        let holder = self.losses().granted.get(&(entity.shard(), append.epoch)).cloned();
        if holder != Some((by.0.clone(), by.1)) && !self.losses().is_unclear(entity.shard(), self.now()) {
            self.violated(format!(
                "I3: {entity}#{seq} was written by {}#{} under an epoch of {holder:?}",
                by.0, by.1
            ));
        }
    }

    /// A record that was lost is there again.
    fn back(&self, append: &Append) {
        let (entity, seq) = (&append.entity, append.seq);
        self.count("record lost and written again");
        self.line(&format!("append {entity}#{seq} {} again", short(append.hash)));
        let len = self.book().entities[entity].records.len() as u64;
        let mut losses = self.losses();
        losses.owed.remove(&(entity.clone(), seq));
        if seq == len {
            losses.left.remove(entity);
        } else {
            losses.left.insert(entity.clone(), seq);
        }
    }

    /// Something else is written where records were lost.
    fn instead(&self, entity: &EntityId, left: u64) {
        let losses = self.losses();
        let now = self.now();
        let mut lost = losses.told.range((entity.clone(), left + 1)..=(entity.clone(), u64::MAX));
        let known = lost.find(|(_, told)| !told.life.is_over()).map(|(key, _)| key.1);
        let owed = losses.owed.iter().find(|(id, seq)| id == entity && *seq > left).cloned();
        let owed = owed.filter(|_| known.is_some() && !losses.is_unclear(entity.shard(), now));
        drop(losses);
        if let Some((_, seq)) = owed {
            self.violated(format!(
                "I12: {entity}#{seq} was acknowledged, and another record takes its place"
            ));
        }
        if known.is_some() {
            self.losses().due.entry(entity.shard()).or_insert_with(|| now.plus(LOUD_WITHIN));
        } else {
            self.count("record lost with the node that knew of it");
        }
        self.give_up(entity, left);
    }

    /// From now on an entity has as many records as are left.
    pub(crate) fn give_up(&self, entity: &EntityId, left: u64) {
        self.line(&format!("{entity} goes on after {left}"));
        let keys = cut(&mut self.book(), entity, left);
        self.forgive(keys);
        let mut losses = self.losses();
        losses.left.remove(entity);
        losses.told.retain(|(id, seq), _| id != entity || *seq <= left);
        losses.owed.retain(|(id, seq)| id != entity || *seq <= left);
        drop(losses);
        let mut notes = self.notes();
        notes.rewound.insert(entity.clone());
        notes.acks.retain(|(id, ..), ack| id != entity || ack.answer.seq <= left);
        if let Some(highest) = notes.highest.get_mut(entity) {
            *highest = (*highest).min(left);
        }
    }

    fn promoted(&self, lost: &Lost) {
        let Lost { writes, entities, epochs } = lost;
        self.count(if entities.is_empty() { "promotion: nothing lost" } else { "promotion: the tail lost" });
        if !epochs.is_empty() {
            self.count("promotion: epochs lost");
        }
        self.line(&format!("PROMOTION {writes} writes, {entities:?}, {} epochs", epochs.len()));
        let until = self.now().plus(crate::ground::LEASE + Duration::from_secs(2));
        let mut book = self.book();
        let mut losses = self.losses();
        for (shard, left) in epochs {
            book.epochs.insert(*shard, *left);
            losses.unclear.insert(*shard, until);
        }
        // What was kept of attempts is lost with the rest.
        if *writes > 0 && !self.temper.waits {
            let open = book.effects.iter().filter(|(_, known)| known.ended.is_none());
            self.forgive(open.map(|(key, _)| key.clone()));
        }
        for (entity, left) in entities {
            losses.left.insert(entity.clone(), *left);
            let length = book.entities[entity].records.len() as u64;
            let shard = entity.shard();
            for seq in left + 1..=length {
                let Some(told) = losses.told.get(&(entity.clone(), seq)) else { break };
                if self.temper.waits && !epochs.contains_key(&shard) {
                    let told = format!("I1: {entity}#{seq} was told to be on the replica, and is not");
                    drop((book, losses));
                    return self.violated(told);
                }
                if told.life.is_over() || epochs.get(&shard).is_some_and(|left| *left < told.epoch) {
                    break;
                }
                losses.owed.insert((entity.clone(), seq));
            }
        }
    }
}

fn hash_of(kept: &Kept, seq: u64) -> Option<Hash> {
    let place = usize::try_from(seq).unwrap();
    match kept.records.get(place) {
        Some(next) => Some(next.prev),
        None => (kept.records.len() == place).then_some(kept.last),
    }
}

/// Cuts an entity's records in the book. Keys of effects that are gone with them.
fn cut(book: &mut Book, entity: &EntityId, left: u64) -> Vec<String> {
    let Some(kept) = book.entities.get_mut(entity) else { return Vec::new() };
    let last = hash_of(kept, left).filter(|_| left > 0).unwrap_or_default();
    let mut records = std::mem::take(&mut kept.records);
    records.truncate(usize::try_from(left).unwrap());
    let mut fresh = Kept { last, ..Kept::default() };
    for (id, seq) in std::mem::take(&mut kept.messages).into_iter().filter(|(_, seq)| *seq <= left) {
        fresh.messages.insert(id, seq);
    }
    for (key, seq) in std::mem::take(&mut kept.business).into_iter().filter(|(_, seq)| *seq <= left) {
        fresh.business.insert(key, seq);
    }
    for record in &records {
        fresh.state.fold(record);
        fresh.prints.push(print(&fresh.state));
    }
    let mut gone = Vec::new();
    book.effects.retain(|key, known| {
        let stays = known.entity != *entity;
        if !stays {
            gone.push(key.clone());
        }
        stays
    });
    for record in &records {
        for change in &record.changes {
            let _checked_before = effect(&mut book.effects, entity, record, change, &|_| 1);
        }
    }
    fresh.records = records;
    book.entities.insert(entity.clone(), fresh);
    gone
}

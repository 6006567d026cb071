//! How things are named in Redis: everything of a shard has one hash tag, so that it lies in one slot and one call may touch all
//! of it. The library (`functions.lua`) lists what stands behind each name.

use std::sync::Arc;

use syncline_actors::id::{EffectId, EntityId, ShardId};

/// Slots of a Redis Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// Names of one cluster's keys. Two clusters may share a server.
#[derive(Debug, Clone)]
pub(super) struct Names {
    cluster: Arc<str>,
}

impl Names {
    pub(super) fn new(cluster: &str) -> Self {
        Self { cluster: cluster.into() }
    }

    /// The lease of a shard: the key by which every function is called.
    pub(super) fn lease(&self, shard: ShardId) -> String {
        self.of(shard, "l")
    }

    /// Something of a shard.
    pub(super) fn of(&self, shard: ShardId, what: &str) -> String {
        format!("{{{}.s{shard}}}:{what}", self.cluster)
    }

    /// What is of no shard.
    pub(super) fn shared(&self, what: &str) -> String {
        format!("{{{}}}:{what}", self.cluster)
    }

    /// The slot of all keys of a shard.
    pub(super) fn slot(&self, shard: ShardId) -> u16 {
        slot_of(&format!("{}.s{shard}", self.cluster))
    }

    /// The slot of what is of no shard.
    pub(super) fn shared_slot(&self) -> u16 {
        slot_of(&self.cluster)
    }
}

fn slot_of(tag: &str) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(tag.as_bytes()) % SLOTS
}

/// An entity's part of its keys: `order/SO-1001`.
pub(super) fn entity(entity: &EntityId) -> Vec<u8> {
    let mut name = Vec::with_capacity(entity.kind().len() + 1 + entity.key().len());
    name.extend_from_slice(entity.kind().as_bytes());
    name.push(b'/');
    name.extend_from_slice(entity.key().as_bytes());
    name
}

/// An effect within its entity, in the order of its numbers.
pub(super) fn effect(effect: EffectId) -> [u8; 10] {
    let mut name = [0; 10];
    name[..8].copy_from_slice(&effect.seq.to_be_bytes());
    name[8..].copy_from_slice(&effect.n.to_be_bytes());
    name
}

/// A known message within its entity: `d`, the scope with its length, the id.
pub(super) fn known(scope: &str, id: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(5 + scope.len() + id.len());
    name.push(b'd');
    crate::journal::keys::push_text(&mut name, scope);
    name.extend_from_slice(id.as_bytes());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_lies_in_one_slot() {
        // As Redis computes it: `CLUSTER KEYSLOT 123456789` is 12739.
        assert_eq!(slot_of("123456789"), 12_739);
        let names = Names::new("prod");
        assert_eq!(names.lease(ShardId(17)), "{prod.s17}:l");
        assert_eq!(names.slot(ShardId(17)), slot_of("prod.s17"));
        assert!(
            ShardId::all().map(|shard| names.slot(shard)).collect::<std::collections::BTreeSet<_>>().len()
                > 250
        );
    }
}

//! How things are named in stores that keep bytes by bytes: one function an entry.
//!
//! Keys of an entity begin with its shard, so that what belongs together lies together, and end in what orders it. Numbers are
//! big endian, times shifted to be unsigned. Ids hold no control character, so a zero byte ends them; free text has its length
//! before it.

use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::time::Timestamp;

/// `order/SO-1001\0`: in the order of [`EntityId`], because `/` is below every character a kind may have.
pub(super) fn entity(entity: &EntityId) -> Vec<u8> {
    let mut key = Vec::with_capacity(entity.kind().len() + entity.key().len() + 2);
    push_entity(&mut key, entity);
    key
}

/// Shard, then [`entity`]: the beginning of every key that belongs to one.
pub(super) fn owned(entity: &EntityId, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + entity.kind().len() + entity.key().len() + 2 + room);
    key.extend_from_slice(&entity.shard().0.to_be_bytes());
    push_entity(&mut key, entity);
    key
}

fn push_entity(key: &mut Vec<u8>, entity: &EntityId) {
    key.extend_from_slice(entity.kind().as_bytes());
    key.push(b'/');
    key.extend_from_slice(entity.key().as_bytes());
    key.push(0);
}

/// Owner and sequence number.
pub(super) fn record(owned: &[u8], seq: u64) -> Vec<u8> {
    joined(owned, &seq.to_be_bytes())
}

/// Owner and effect.
pub(super) fn effect(owned: &[u8], effect: EffectId) -> Vec<u8> {
    let mut key = joined(owned, &effect.seq.to_be_bytes());
    key.extend_from_slice(&effect.n.to_be_bytes());
    key
}

/// Owner and a free text: a timer's name.
pub(super) fn named(owned: &[u8], name: &str) -> Vec<u8> {
    joined(owned, name.as_bytes())
}

/// Owner, scope and id.
pub(super) fn dedup(owned: &[u8], scope: &str, id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(owned.len() + 4 + scope.len() + id.len());
    key.extend_from_slice(owned);
    push_text(&mut key, scope);
    key.extend_from_slice(id.as_bytes());
    key
}

/// A time, then the key of what is due then.
pub(super) fn at(time: Timestamp, key: &[u8]) -> Vec<u8> {
    joined(&time_bytes(time), key)
}

/// A connector: the beginning of what waits for it.
pub(super) fn connector(connector: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + connector.len());
    push_text(&mut key, connector);
    key
}

/// Connector, time, then the key of the effect.
pub(super) fn effect_due(connector: &str, time: Timestamp, effect: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + connector.len() + 8 + effect.len());
    push_text(&mut key, connector);
    key.extend_from_slice(&time_bytes(time));
    key.extend_from_slice(effect);
    key
}

/// A term: the beginning of the entities found under it.
pub(super) fn term(term: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + term.len());
    push_text(&mut key, term);
    key
}

/// An order, among what a store says of itself.
pub(super) fn order(key: &str) -> Vec<u8> {
    [b"order:", key.as_bytes()].concat()
}

/// Kind and version.
pub(super) fn definition(kind: &str, version: u32) -> Vec<u8> {
    let mut key = connector(kind);
    key.extend_from_slice(&version.to_be_bytes());
    key
}

/// Stands where a kind does, for counters that are of no kind.
pub(super) const TALLIES: &str = "~";

/// Kind and status, for counting.
pub(super) fn status(kind: &str, status: &str) -> Vec<u8> {
    let mut key = connector(kind);
    key.extend_from_slice(status.as_bytes());
    key
}

/// What is stored of a shard: its epoch, and who holds it, if anyone.
pub(super) fn epoch_value(epoch: Epoch, node: Option<&NodeId>) -> Vec<u8> {
    let mut value = epoch.0.to_be_bytes().to_vec();
    value.push(u8::from(node.is_some()));
    value.extend_from_slice(node.map_or(&[][..], |node| node.0.as_bytes()));
    value
}

/// The epoch of a shard, and whether anyone holds it.
pub(super) fn read_epoch(value: &[u8]) -> Option<(Epoch, bool)> {
    let (epoch, rest) = number(value)?;
    Some((Epoch(epoch), *rest.first()? == 1))
}

/// The epoch of a shard, and who holds it.
pub(super) fn read_holder(value: &[u8]) -> Option<(Epoch, Option<NodeId>)> {
    let (epoch, rest) = number(value)?;
    let (held, name) = rest.split_first()?;
    let name = std::str::from_utf8(name).ok()?;
    Some((Epoch(epoch), (*held == 1).then(|| NodeId(name.into()))))
}

/// The key of a shard's epoch.
pub(super) fn shard(shard: ShardId) -> [u8; 2] {
    shard.0.to_be_bytes()
}

/// Time as unsigned bytes that sort as it does.
pub(super) fn time_bytes(time: Timestamp) -> [u8; 8] {
    (time.0.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Takes a time from the beginning of `bytes`.
pub(super) fn read_time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (shifted, rest) = number(bytes)?;
    Some((Timestamp((shifted ^ (1 << 63)).cast_signed()), rest))
}

/// Takes a number of 8 bytes from the beginning of `bytes`.
pub(super) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*first), rest))
}

/// Takes a text with its length from the beginning of `bytes`.
pub(super) fn read_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// Reads what [`entity`] wrote.
pub(super) fn read_entity(bytes: &[u8]) -> Option<EntityId> {
    EntityId::parse(std::str::from_utf8(bytes.strip_suffix(&[0])?).ok()?).ok()
}

/// The least key above all that begin with `prefix`; `None` when there is none.
pub(super) fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Writes `text` with its length before it.
pub(super) fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("texts are far below 4 GiB");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn joined(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(first.len() + second.len() + 2);
    key.extend_from_slice(first);
    key.extend_from_slice(second);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> impl Strategy<Value = EntityId> {
        let key = "(@[a-z-]{1,2}:)?[!-?A-~ä][!-~ä]{0,3}";
        ("[a-z][a-z0-9_]{0,3}", key).prop_map(|(kind, key)| EntityId::new(&kind, &key).expect("legal"))
    }

    proptest! {
        #[test]
        fn entities_sort_as_their_keys(a in id(), b in id()) {
            prop_assert_eq!(a.cmp(&b), entity(&a).cmp(&entity(&b)));
            prop_assert_eq!(read_entity(&entity(&a)), Some(a));
        }

        #[test]
        fn times_sort_as_their_bytes(a: i64, b: i64) {
            let (a, b) = (Timestamp(a), Timestamp(b));
            prop_assert_eq!(a.cmp(&b), time_bytes(a).cmp(&time_bytes(b)));
            let bytes = time_bytes(a);
            prop_assert_eq!(read_time(&bytes), Some((a, &[][..])));
        }

        #[test]
        fn the_end_of_a_prefix_is_above_all_that_begin_with_it(prefix: Vec<u8>, rest: Vec<u8>) {
            let mut key = prefix.clone();
            key.extend(rest);
            prop_assert!(end_of(&prefix).is_none_or(|end| key < end && !end.starts_with(&prefix)));
        }
    }
}

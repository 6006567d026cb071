//! Who is meant: entities, shards, epochs, effects. Ids are text, as the systems that gave them wrote them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How many shards the key space has: a constant of the store, chosen before the first entity.
pub const SHARDS: u16 = 256;

/// Longest business key, in bytes. Longer ones are a mapping mistake, and would not fit the vendors' headers.
pub const KEY_BYTES_MAX: usize = 200;

/// Longest message id, in bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 512;

/// A business entity: its kind and its business key, written `order/SO-1001`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityId {
    kind: Arc<str>,
    key: Arc<str>,
}

/// Why a text cannot be an id. Nothing was done; correct the mapping or the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text was empty.
    #[error("{what} is empty")]
    Empty {
        /// Which id.
        what: &'static str,
    },
    /// The text was too long.
    #[error("{what} has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// Which id.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The text holds a character that ids may not have.
    #[error("{what} holds {character:?}, which is not allowed in an id")]
    Character {
        /// Which id.
        what: &'static str,
        /// The first offending character.
        character: char,
    },
    /// The key begins like one that is bound to a region, and names none.
    #[error(
        "the business key `{key}` begins with `@` and names no region: write `@eu:4711` (1 to 31 small letters, digits or `-`, \
         then `:` and the rest), or a key without `@`"
    )]
    Region {
        /// The key as given, cut to 80 characters.
        key: String,
    },
    /// The text has no `/` between kind and key.
    #[error("`{text}` is not an entity id: write it as kind/key, e.g. order/SO-1001")]
    Form {
        /// The text as given.
        text: String,
    },
}

impl EntityId {
    /// `kind` is a process name (`[a-z][a-z0-9_]*`, at most 32); `key` any text of 1 to 200 bytes without control characters
    /// and without white space at its ends.
    pub fn new(kind: &str, key: &str) -> Result<Self, IdError> {
        check_kind(kind)?;
        check_text("the business key", key, KEY_BYTES_MAX)?;
        if let Some(character) = key.chars().next().filter(|c| c.is_whitespace()) {
            return Err(IdError::Character { what: "the start of the business key", character });
        }
        if let Some(character) = key.chars().next_back().filter(|c| c.is_whitespace()) {
            return Err(IdError::Character { what: "the end of the business key", character });
        }
        if key.starts_with('@') && region_in(key).is_none() {
            return Err(IdError::Region { key: key.chars().take(80).collect() });
        }
        Ok(Self { kind: kind.into(), key: key.into() })
    }

    /// Reads `kind/key`; the key may hold further slashes.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (kind, key) = text.split_once('/').ok_or_else(|| IdError::Form { text: text.to_owned() })?;
        Self::new(kind, key)
    }

    /// The process that governs it.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its business key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The region that it is bound to: `eu` for `order/@eu:4711`. It is part of the id, so that whoever has the id knows where the
    /// entity may be, and nothing can move it elsewhere.
    pub fn region(&self) -> Option<&str> {
        region_in(&self.key)
    }

    /// The shard it lives on: FNV-1a (Fowler, Noll, Vo) over `kind/key`, folded; over the shards of its region if it is bound to
    /// one, else over all. Fixed for ever: it places stored data.
    pub fn shard(&self) -> ShardId {
        let (first, last) = self.region().map_or((0, SHARDS - 1), region_shards);
        let hash = fnv1a(self.kind.bytes().chain([b'/']).chain(self.key.bytes()));
        let folded = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        let within = u16::try_from(folded % u64::from(last - first + 1)).expect("a remainder of 256 fits");
        ShardId(first + within)
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.key)
    }
}

/// Shards of one region.
const REGION_SHARDS: u16 = 16;

/// Longest name of a region, in bytes.
const REGION_BYTES_MAX: usize = 31;

/// The first and the last shard of a region: one of 16 blocks, by its name alone (FNV-1a, then one step of `SplitMix64`), the same on
/// every node and for ever. Two names may fall on one block; a cluster cannot serve both.
pub fn region_shards(region: &str) -> (u16, u16) {
    let mixed = fnv1a(region.bytes()).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let block = (mixed ^ (mixed >> 31)) % u64::from(SHARDS / REGION_SHARDS);
    let first = u16::try_from(block).expect("a remainder of 16 fits") * REGION_SHARDS;
    (first, first + REGION_SHARDS - 1)
}

/// Whether `text` can name a region.
pub fn is_region(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= REGION_BYTES_MAX && text.bytes().all(plain)
}

/// The region that a key names: `eu` of `@eu:4711`.
fn region_in(key: &str) -> Option<&str> {
    let (region, rest) = key.strip_prefix('@')?.split_once(':')?;
    (is_region(region) && !rest.is_empty()).then_some(region)
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Checks a process name, which is also an entity's kind and a variable in expressions.
pub fn check_kind(kind: &str) -> Result<(), IdError> {
    check_text("the kind", kind, 32)?;
    let odd = |c: &char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_');
    match kind.chars().find(odd).or_else(|| kind.chars().next().filter(|c| !c.is_ascii_lowercase())) {
        Some(character) => Err(IdError::Character { what: "the kind", character }),
        None => Ok(()),
    }
}

/// Checks an id that a sender chose: not empty, not longer than `max` bytes, no control characters.
pub fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    if text.len() > max {
        return Err(IdError::TooLong { what, bytes: text.len(), max });
    }
    match text.chars().find(|c| c.is_control()) {
        Some(character) => Err(IdError::Character { what, character }),
        None => Ok(()),
    }
}

/// A fixed fraction of the key space: the unit of placement and ownership. 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u16);

impl ShardId {
    /// Every shard, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The fencing token of a shard: it only grows, and each append is checked against it (Kleppmann, 2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The name of a node: stable over restarts, unique in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub Arc<str>);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An effect within its entity: the sequence number of the record that emitted it, and its place there from 0. Written `7.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectId {
    /// Sequence number of the record that emitted it.
    pub seq: u64,
    /// Place among the effects of that record, from 0.
    pub n: u16,
}

impl EffectId {
    /// Reads `7.0`.
    pub fn parse(text: &str) -> Option<Self> {
        let (seq, n) = text.split_once('.')?;
        Some(Self { seq: seq.parse().ok()?, n: n.parse().ok()? })
    }

    /// The idempotency key that every attempt of this effect carries, fixed by (entity, seq, n) for ever: printable ASCII of at
    /// most 120 bytes, because vendors cut or refuse what is longer or odder.
    pub fn idempotency_key(self, entity: &EntityId) -> String {
        let plain = entity.key().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
        if plain && entity.key().len() <= 64 {
            return format!("{}:{}:{self}", entity.kind(), entity.key());
        }
        let digest = crate::record::Hash::of(entity.to_string().as_bytes()).to_string();
        format!("{}:{}:{self}", entity.kind(), &digest[..32])
    }
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seq, self.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_id_reads_as_it_is_written() {
        let id = EntityId::parse("order/SO/10 01-ä").expect("a legal id");
        assert_eq!((id.kind(), id.key()), ("order", "SO/10 01-ä"));
        assert_eq!(EntityId::parse(&id.to_string()), Ok(id));
    }

    #[test]
    fn a_key_may_bind_its_entity_to_a_region_and_its_shards_for_ever() {
        let id = |key: &str| EntityId::new("order", key);
        let bound = id("@eu:4711").expect("legal");
        assert_eq!((bound.region(), id("4711").expect("legal").region()), (Some("eu"), None));
        assert_eq!(EntityId::parse(&bound.to_string()), Ok(bound));
        // Stored data is placed by these numbers.
        assert_eq!(["eu", "us", "uk"].map(region_shards), [(176, 191), (80, 95), (192, 207)]);
        let shard = |key: &str| id(key).expect("legal").shard().0;
        assert_eq!([shard("@eu:4711"), shard("@eu:4712"), shard("@us:4711")], [186, 183, 82]);
        let mut count = [0_u32; SHARDS as usize];
        for n in 0..16_000 {
            count[usize::from(shard(&format!("@eu:{n}")))] += 1;
        }
        assert!(count[176..=191].iter().all(|count| (850..1_150).contains(count)), "{count:?}");
        assert_eq!(count.iter().sum::<u32>(), count[176..=191].iter().sum::<u32>());
        for key in ["@", "@eu", "@:1", "@eu:", "@EU:1", "@e u:1"] {
            let told = id(key).expect_err("it names no region").to_string();
            assert!(told.contains(&format!("`{key}`")) && told.contains("@eu:4711"), "{told}");
        }
        assert!(id("a@eu:1").is_ok(), "only the beginning counts");
    }

    #[test]
    fn empty_huge_and_odd_keys_are_refused_by_name() {
        assert_eq!(EntityId::new("order", ""), Err(IdError::Empty { what: "the business key" }));
        assert!(matches!(EntityId::new("order", &"x".repeat(201)), Err(IdError::TooLong { bytes: 201, .. })));
        assert!(matches!(EntityId::new("order", "a\nb"), Err(IdError::Character { character: '\n', .. })));
        assert!(matches!(EntityId::new("order", " a"), Err(IdError::Character { .. })));
        assert!(matches!(EntityId::new("Order", "a"), Err(IdError::Character { character: 'O', .. })));
        assert!(matches!(EntityId::new("9order", "a"), Err(IdError::Character { character: '9', .. })));
    }

    #[test]
    fn shards_never_move() {
        // Stored data is placed by these numbers: a change here is a migration, not a refactoring.
        let shard = |key: &str| EntityId::new("order", key).expect("legal").shard().0;
        assert_eq!([shard("SO-1001"), shard("SO-1002"), shard("ä")], [161, 44, 235]);
    }

    #[test]
    fn keys_spread_evenly_over_the_shards() {
        let mut count = [0_u32; SHARDS as usize];
        for n in 0..100_000 {
            count[usize::from(EntityId::new("order", &format!("SO-{n}")).expect("legal").shard().0)] += 1;
        }
        let (least, most) = (count.iter().min().expect("some"), count.iter().max().expect("some"));
        assert!(*least > 300 && *most < 490, "between {least} and {most} of 390.6 expected");
    }

    #[test]
    fn an_idempotency_key_is_short_printable_and_distinct() {
        let effect = EffectId { seq: 7, n: 0 };
        let key = |k: &str| effect.idempotency_key(&EntityId::new("order", k).expect("legal"));
        assert_eq!(key("SO-1001"), "order:SO-1001:7.0");
        assert!(key(&"ä".repeat(90)).len() <= 120 && key("a b").is_ascii());
        assert_ne!(key("a b"), key("a c"));
    }
}

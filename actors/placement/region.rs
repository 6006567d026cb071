//! Residency: which shards are bound to a region, and on which shard an entity that is bound lives.
//!
//! The key space stays as it is. An integration may give a region a range of the 256 shards; such a shard is owned by nodes of
//! that region only, and an entity bound to the region lives within the range. An entity that is not bound stays on
//! [`EntityId::shard`], whatever the ranges are: to list a region never moves what is stored. (Some of them fall into a range and
//! then live in that region, which is allowed: they may live anywhere.)
//!
//! A range decides where data lies, so it is chosen once: the text that `Display` writes is for the store to keep and compare.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::{EntityId, SHARDS, ShardId};
use crate::placement::{Candidate, Error, Region};

/// The regions that entities can be bound to, each with its shards. None by default: every shard may be anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Regions {
    ranges: BTreeMap<Region, Range>,
}

/// `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
}

/// Why ranges of shards cannot be used. Nothing was taken; correct the setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The range is empty, reversed or goes past the last shard.
    #[error("region `{region}` has shards {first} to {last}; give a range within 0 to 255, the lower first")]
    Bounds {
        /// Whose range it is.
        region: Region,
        /// First shard given.
        first: u16,
        /// Last shard given.
        last: u16,
    },
    /// Two regions claim one shard.
    #[error("regions `{one}` and `{other}` both have shard {shard}; let their ranges not overlap")]
    Overlap {
        /// The region with the lower name.
        one: Region,
        /// The other.
        other: Region,
        /// The first shard that both claim.
        shard: ShardId,
    },
}

impl Regions {
    /// From each region's first and last shard, both included. Reports every mistake.
    pub fn new(ranges: impl IntoIterator<Item = (Region, (u16, u16))>) -> Result<Self, Vec<RangeError>> {
        let ranges: BTreeMap<_, _> =
            ranges.into_iter().map(|(region, (first, last))| (region, Range { first, last })).collect();
        let mut wrong = Vec::new();
        for (n, (region, range)) in ranges.iter().enumerate() {
            if range.first > range.last || range.last >= SHARDS {
                let (first, last) = (range.first, range.last);
                wrong.push(RangeError::Bounds { region: region.clone(), first, last });
            }
            for (other, theirs) in ranges.iter().skip(n + 1) {
                let first = range.first.max(theirs.first);
                if first <= range.last.min(theirs.last) {
                    let (one, other) = (region.clone(), other.clone());
                    wrong.push(RangeError::Overlap { one, other, shard: ShardId(first) });
                }
            }
        }
        if wrong.is_empty() { Ok(Self { ranges }) } else { Err(wrong) }
    }

    /// The region that `shard` is bound to, if any.
    pub fn of(&self, shard: ShardId) -> Option<&Region> {
        let holds = |range: &Range| (range.first..=range.last).contains(&shard.0);
        self.ranges.iter().find(|(_, range)| holds(range)).map(|(region, _)| region)
    }

    /// The shard of `entity`: within the range of `region` if it is bound to one, else [`EntityId::shard`].
    ///
    /// # Errors
    /// [`Error::UnknownRegion`]: `region` is not listed. Refuse the message; placed anywhere else it would break the promise.
    pub fn shard(&self, entity: &EntityId, region: Option<&Region>) -> Result<ShardId, Error> {
        let Some(region) = region else { return Ok(entity.shard()) };
        let range = self.ranges.get(region).ok_or_else(|| Error::UnknownRegion(region.clone()))?;
        Ok(entity.shard_within(range.first, range.last))
    }

    /// The nodes that may own `shard` now.
    ///
    /// # Errors
    /// [`Error::NoNodeOf`] or [`Error::NoNode`]: none may. Refuse at the door what is meant for the shard.
    pub fn eligible<'a>(&self, shard: ShardId, nodes: &'a [Candidate]) -> Result<Vec<&'a Candidate>, Error> {
        let bound = self.of(shard);
        let nodes: Vec<_> = nodes.iter().filter(|node| node.takes() && may(node, bound)).collect();
        match bound {
            _ if !nodes.is_empty() => Ok(nodes),
            Some(region) => Err(Error::NoNodeOf(region.clone())),
            None => Err(Error::NoNode),
        }
    }
}

/// Whether `node` may own shards bound to `region`; every node may own those that are not bound.
pub(super) fn may(node: &Candidate, region: Option<&Region>) -> bool {
    region.is_none() || node.region.as_ref() == region
}

/// `eu=192-255 us=128-191`, sorted by name; empty for none.
impl fmt::Display for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (region, range)) in self.ranges.iter().enumerate() {
            let space = if n == 0 { "" } else { " " };
            write!(f, "{space}{region}={}-{}", range.first, range.last)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> Region {
        Region(name.into())
    }

    fn regions() -> Regions {
        Regions::new([(region("us"), (128, 177)), (region("eu"), (192, 255))]).expect("they do not overlap")
    }

    #[test]
    fn an_entity_that_is_not_bound_stays_where_it_is() {
        let regions = regions();
        for n in 0..1_000 {
            let id = EntityId::new("order", &format!("SO-{n}")).expect("legal");
            assert_eq!(regions.shard(&id, None), Ok(id.shard()));
            assert_eq!(id.shard_within(0, SHARDS - 1), id.shard());
        }
    }

    #[test]
    fn a_bound_entity_lives_in_its_range_and_the_range_fills_evenly() {
        let regions = regions();
        let mut count = [0_u32; SHARDS as usize];
        for n in 0..50_000 {
            let id = EntityId::new("order", &format!("SO-{n}")).expect("legal");
            let shard = regions.shard(&id, Some(&region("us"))).expect("listed");
            assert_eq!(regions.of(shard), Some(&region("us")));
            count[usize::from(shard.0)] += 1;
        }
        let range = &count[128..=177];
        assert!(range.iter().all(|count| (850..1_150).contains(count)), "1000 expected: {range:?}");
    }

    #[test]
    fn bound_shards_never_move_within_their_range() {
        // Stored data is placed by these numbers.
        let shard = |key: &str| {
            let id = EntityId::new("order", key).expect("legal");
            regions().shard(&id, Some(&region("us"))).expect("listed").0
        };
        assert_eq!([shard("SO-1001"), shard("SO-1002"), shard("ä")], [161, 156, 131]);
    }

    #[test]
    fn a_region_that_is_not_listed_is_refused() {
        let id = EntityId::new("order", "SO-1").expect("legal");
        assert_eq!(regions().shard(&id, Some(&region("cn"))), Err(Error::UnknownRegion(region("cn"))));
    }

    #[test]
    fn a_bound_shard_is_owned_in_its_region_or_by_none() {
        let nodes = [Candidate::new("a", 1).in_region("eu"), Candidate::new("b", 1)];
        let names = |nodes: Vec<&Candidate>| nodes.iter().map(|n| n.node.to_string()).collect::<Vec<_>>();
        assert_eq!(regions().eligible(ShardId(200), &nodes).map(names), Ok(vec!["a".to_owned()]));
        assert_eq!(
            regions().eligible(ShardId(3), &nodes).map(names),
            Ok(vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(regions().eligible(ShardId(130), &nodes), Err(Error::NoNodeOf(region("us"))));
        assert_eq!(regions().eligible(ShardId(3), &[]), Err(Error::NoNode));
        let draining = [Candidate { draining: true, ..nodes[0].clone() }];
        assert_eq!(regions().eligible(ShardId(200), &draining), Err(Error::NoNodeOf(region("eu"))));
    }

    #[test]
    fn every_wrong_range_is_told_at_once() {
        let wrong = Regions::new([(region("a"), (9, 3)), (region("b"), (10, 256)), (region("c"), (20, 30))])
            .expect_err("three mistakes");
        let told: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[2].contains("regions `b` and `c` both have shard 20"), "{told:?}");
    }

    #[test]
    fn the_text_to_keep_is_sorted() {
        assert_eq!(regions().to_string(), "eu=192-255 us=128-177");
        assert_eq!(Regions::default().to_string(), "");
    }
}

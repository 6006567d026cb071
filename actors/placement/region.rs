//! Residency: which shards are bound to a region.
//!
//! An entity is bound by its id ([`EntityId::region`]), and its region's name alone says which block of 16 shards it lives in
//! ([`region_shards`]). A cluster lists the regions that it serves; the shards of a region are owned by its nodes only. An entity
//! that is not bound stays where it is, whatever is listed: to list a region never moves what is stored. (Some of them fall into a
//! region's block and then live in that region, which is allowed: they may live anywhere.)
//!
//! [`EntityId::region`]: crate::id::EntityId::region

use std::collections::BTreeMap;
use std::fmt;

use crate::id::{EntityId, ShardId, is_region, region_shards};
use crate::placement::{Candidate, Error, Region};

/// The regions that a cluster serves, each with its shards. None by default: every shard may be anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Regions {
    /// First and last shard, both included.
    ranges: BTreeMap<Region, (u16, u16)>,
}

/// Why regions cannot be served. Nothing was taken; correct the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// It is no name.
    #[error("`{0}` is no name of a region; write 1 to 31 small letters, digits or `-`, e.g. `eu`")]
    Name(String),
    /// Two regions have the same shards.
    #[error("regions `{one}` and `{other}` fall on the same shards, as names are all that places them; {}", fix(free.as_deref()))]
    Clash {
        /// The region with the lower name.
        one: Region,
        /// The other.
        other: Region,
        /// A name near the other that is free; none when every shard is some region's.
        free: Option<String>,
    },
}

fn fix(free: Option<&str>) -> String {
    match free {
        Some(free) => format!("call one otherwise, e.g. `{free}`"),
        None => "remove one, as there is room for 16 regions".to_owned(),
    }
}

impl Regions {
    /// The regions of these names. Reports every mistake.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<RegionError>> {
        let (mut ranges, mut wrong) = (BTreeMap::new(), Vec::new());
        for name in names {
            if is_region(name) {
                ranges.insert(Region(name.into()), region_shards(name));
            } else {
                wrong.push(RegionError::Name(name.to_owned()));
            }
        }
        let regions = Self { ranges };
        for (n, (one, range)) in regions.ranges.iter().enumerate() {
            for (other, _) in regions.ranges.iter().skip(n + 1).filter(|(_, theirs)| *theirs == range) {
                let free = regions.free_name(&other.0);
                wrong.push(RegionError::Clash { one: one.clone(), other: other.clone(), free });
            }
        }
        if wrong.is_empty() { Ok(regions) } else { Err(wrong) }
    }

    /// A name that begins with `name` and falls on shards that no region has.
    fn free_name(&self, name: &str) -> Option<String> {
        let free = |name: &String| {
            is_region(name) && !self.ranges.values().any(|range| *range == region_shards(name))
        };
        // Room for a hyphen and two digits in the longest name.
        let stem: String = name.chars().take(28).collect();
        (2..100).map(|n| format!("{stem}-{n}")).find(free)
    }

    /// The region that `shard` is bound to, if any.
    pub fn of(&self, shard: ShardId) -> Option<&Region> {
        self.ranges
            .iter()
            .find(|(_, (first, last))| (*first..=*last).contains(&shard.0))
            .map(|(region, _)| region)
    }

    /// Whether `entity` may live here.
    ///
    /// # Errors
    /// [`Error::UnknownRegion`]: it is bound to a region that is not served. Refuse the message; placed anywhere else it would break
    /// the promise.
    pub fn admit(&self, entity: &EntityId) -> Result<(), Error> {
        match entity.region() {
            Some(name) if !self.serves(name) => Err(Error::UnknownRegion(Region(name.into()))),
            _ => Ok(()),
        }
    }

    /// Whether the region is listed.
    pub fn serves(&self, name: &str) -> bool {
        self.ranges.contains_key(&Region(name.into()))
    }

    /// The names of those that are listed, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ranges.keys().map(|region| &*region.0)
    }

    /// Whether no region is listed.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
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

/// `eu us`, sorted; empty for none.
impl fmt::Display for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, region) in self.ranges.keys().enumerate() {
            let space = if n == 0 { "" } else { " " };
            write!(f, "{space}{region}")?;
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
        Regions::new(["us", "eu"]).expect("they do not clash")
    }

    #[test]
    fn a_bound_entity_lives_in_its_region_and_one_that_is_not_listed_nowhere() {
        for n in 0..1_000 {
            let id = EntityId::new("order", &format!("@us:{n}")).expect("legal");
            assert_eq!(regions().of(id.shard()), Some(&region("us")));
            assert_eq!(regions().admit(&id), Ok(()));
        }
        let id = |key: &str| EntityId::new("order", key).expect("legal");
        assert_eq!(regions().admit(&id("@cn:1")), Err(Error::UnknownRegion(region("cn"))));
        assert_eq!(Regions::default().admit(&id("@eu:1")), Err(Error::UnknownRegion(region("eu"))));
        assert_eq!(Regions::default().admit(&id("1")), Ok(()));
    }

    #[test]
    fn a_bound_shard_is_owned_in_its_region_or_by_none() {
        let [eu, us, free] = [ShardId(180), ShardId(90), ShardId(3)];
        let nodes = [Candidate::new("a", 1).in_region("eu"), Candidate::new("b", 1)];
        let names = |nodes: Vec<&Candidate>| nodes.iter().map(|n| n.node.to_string()).collect::<Vec<_>>();
        assert_eq!(regions().eligible(eu, &nodes).map(names), Ok(vec!["a".to_owned()]));
        assert_eq!(regions().eligible(free, &nodes).map(names), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(regions().eligible(us, &nodes), Err(Error::NoNodeOf(region("us"))));
        assert_eq!(regions().eligible(free, &[]), Err(Error::NoNode));
        let draining = [Candidate { draining: true, ..nodes[0].clone() }];
        assert_eq!(regions().eligible(eu, &draining), Err(Error::NoNodeOf(region("eu"))));
    }

    #[test]
    fn names_that_cannot_be_served_together_are_told_with_one_that_can() {
        // `br` and `sg` have the same block.
        let wrong = Regions::new(["br", "EU", "sg", ""]).expect_err("three mistakes");
        let told: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[2].contains("regions `br` and `sg`") && told[2].contains("`sg-"), "{told:?}");
        let RegionError::Clash { free: Some(free), .. } = &wrong[2] else { panic!("{told:?}") };
        assert!(Regions::new(["br", free.as_str()]).is_ok());
        let longest = "a".repeat(31);
        assert!(Regions::default().free_name(&longest).is_some_and(|name| is_region(&name)));
    }

    #[test]
    fn sixteen_regions_fit_and_the_next_is_told_so() {
        let mut names = BTreeMap::new();
        for name in (0..1_000).map(|n| format!("r{n}")) {
            names.entry(region_shards(&name)).or_insert(name);
        }
        let all: Vec<&str> = names.values().map(String::as_str).collect();
        assert_eq!(Regions::new(all.iter().copied()).expect("each has its own").names().count(), 16);
        let wrong = Regions::new(all.into_iter().chain(["one-more"])).expect_err("there is no room");
        assert!(wrong[0].to_string().ends_with("remove one, as there is room for 16 regions"), "{wrong:?}");
    }

    #[test]
    fn the_list_is_shown_sorted() {
        assert_eq!(regions().to_string(), "eu us");
        assert_eq!(Regions::default().to_string(), "");
    }
}

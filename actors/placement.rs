//! Which node should own which shard: the same answer on every node that sees the same, with no one to ask.
//!
//! The idea, in three parts. **Preference**: each shard ranks the nodes by weighted rendezvous hashing (Thaler and Ravishankar,
//! 1998; weights by the logarithmic method of Schindelhauer and Schomaker, 2005), in integers, so that every machine and version
//! agrees: [`owner`] and [`ranked`]. **Number**: 256 shards hashed over three nodes are often 10 % off even, so how many shards a
//! node gets is not left to the hash but dealt out like seats in a parliament, by weight: [`Spread`]. Who holds a
//! shard keeps it; only what is over its number moves, to where the preference says. A node that leaves therefore moves only its
//! own shards, and one that joins only takes. **Time**: [`Planner`] waits until members are stable, moves few shards at a time,
//! and warms up a node that is new.
//!
//! Placement says who *should* own a shard. Who *may* write is decided by the store's epoch alone, so a wrong view here costs
//! a move and never a message.

mod hash;

pub mod planner;
pub mod region;
pub mod spread;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use planner::Planner;
pub use region::Regions;
pub use spread::Spread;

use crate::id::{NodeId, ShardId};
use hash::Bid;

/// Where data must stay, as the integration names it, e.g. `eu`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Region(pub Arc<str>);

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node's failure domain within its region, e.g. `eu-1a`. A shard has one owner, so there is nothing to spread over zones:
/// it is a label that operators see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Zone(pub Arc<str>);

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node that may own shards, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub node: NodeId,
    /// Its share relative to the others'; 0 takes none.
    pub weight: u16,
    /// Where it runs. A node without a region owns no shard that is bound to one.
    pub region: Option<Region>,
    /// Its failure domain.
    pub zone: Option<Zone>,
    /// It is about to stop: it hands over what it has and takes nothing.
    pub draining: bool,
}

impl Candidate {
    /// A node of weight `weight` without labels.
    pub fn new(node: &str, weight: u16) -> Self {
        Self { node: NodeId(node.into()), weight, region: None, zone: None, draining: false }
    }

    /// The same, in `region`.
    #[must_use]
    pub fn in_region(self, region: &str) -> Self {
        Self { region: Some(Region(region.into())), ..self }
    }

    /// Whether it takes shards at all.
    pub fn takes(&self) -> bool {
        self.weight > 0 && !self.draining
    }
}

/// Why a shard has no owner. Refuse what is meant for it, with a time to try again; nothing was placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The shard is bound to a region of which no node takes shards now. It is never placed elsewhere.
    #[error("no node of region `{0}` is up and takes shards; start one there, or wait for it")]
    NoNodeOf(Region),
    /// No node takes shards at all.
    #[error("no node takes shards; start one with a weight above 0 that is not draining")]
    NoNode,
    /// An entity is bound to a region that the cluster does not serve.
    #[error(
        "region `{0}` is not served here; list it in `cluster.regions` and start a node with `cluster.region` of that name"
    )]
    UnknownRegion(Region),
}

/// The node that `shard` prefers among those that take shards: the one with the lowest `-log2(u) / weight`, `u` being a hash of
/// both. Any order of `nodes` gives the same answer. O(nodes).
///
/// This is the preference only: it knows neither regions ([`Regions::eligible`]) nor who holds what ([`Spread`]).
pub fn owner(shard: ShardId, nodes: &[Candidate]) -> Option<&NodeId> {
    let taking = nodes.iter().filter(|node| node.takes());
    taking.min_by_key(|node| Bid::of(shard, node)).map(|node| &node.node)
}

/// The nodes that take shards, the most preferred by `shard` first. A node's place among the others does not depend on which
/// others there are.
pub fn ranked(shard: ShardId, nodes: &[Candidate]) -> Vec<&NodeId> {
    let mut taking: Vec<_> = nodes.iter().filter(|node| node.takes()).collect();
    taking.sort_by_cached_key(|node| Bid::of(shard, node));
    taking.into_iter().map(|node| &node.node).collect()
}

#[cfg(test)]
mod tests;

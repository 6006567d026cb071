//! Where every shard should be, given where it is: how many each node gets, and which.
//!
//! *How many* is dealt out like seats in a parliament, by the divisor method of Webster and Sainte-Laguë: exact in integers,
//! off the ideal share by less than one shard among nodes of equal weight, and monotone: another node's seats never grow when one joins
//! and never shrink when one leaves (Balinski and Young, 1982). *Which*: who holds a shard keeps it. What no one holds goes to
//! the node that its hash prefers among those with a seat free; then nodes over their number give up what the nodes with free
//! seats bid best for.
//!
//! From this follow the laws that the tests hold: a leaving node moves only its own shards, a joining one only takes, moves done
//! in any order and number lead to the same place, and there nothing moves.

use std::collections::BTreeMap;

use crate::id::{NodeId, ShardId};
use crate::placement::hash::Bid;
use crate::placement::region::may;
use crate::placement::{Candidate, Region, Regions};

/// Steps of a node's warm-up: its share grows by a quarter at a time.
pub const WARM: u16 = 4;

/// What decides where shards should be. Nodes that are not among `nodes` are gone.
#[derive(Debug, Clone, Copy)]
pub struct Spread<'a> {
    /// The nodes of the cluster, in any order, each once.
    pub nodes: &'a [Candidate],
    /// Which shards are bound to a region.
    pub regions: &'a Regions,
    /// Who holds which shard, as far as known.
    pub held: &'a BTreeMap<ShardId, NodeId>,
    /// Shards that the operator put somewhere. They stay there while that node may own them.
    pub pins: &'a BTreeMap<ShardId, NodeId>,
    /// How warm nodes are, in quarters; who is not in it is warm. A node that is warming up gets fewer shards, and is never asked
    /// to give back what it has because of that.
    pub warmth: &'a BTreeMap<NodeId, u16>,
    /// Whether nodes over their number give up shards. If not, only what no one holds is placed.
    pub balance: bool,
}

/// A node among those that may own the shards of one pool.
struct Seat<'a> {
    candidate: &'a Candidate,
    /// Seats with the warm-up: up to here it takes.
    takes: usize,
    /// Seats that it keeps if it has them: those without the warm-up, if they are more.
    keeps: usize,
    load: usize,
}

impl Spread<'_> {
    /// The node that each shard should be on. A shard that no node may own is not in it. O(shards × nodes) when nothing has to
    /// move, with a logarithm more when all has.
    pub fn target(&self) -> BTreeMap<ShardId, NodeId> {
        let mut pools: BTreeMap<Option<&Region>, Vec<ShardId>> = BTreeMap::new();
        for shard in ShardId::all() {
            pools.entry(self.regions.of(shard)).or_default().push(shard);
        }
        pools.into_iter().flat_map(|(region, shards)| self.pool(region, &shards)).collect()
    }

    /// The shards of one region, or those that are not bound, over the nodes that may own them.
    fn pool(&self, region: Option<&Region>, shards: &[ShardId]) -> BTreeMap<ShardId, NodeId> {
        let mut seats = self.seats(region, shards.len());
        let find = |node: &NodeId| {
            let at = seats.binary_search_by(|seat| seat.candidate.node.cmp(node));
            at.ok()
        };
        let mut placed: BTreeMap<ShardId, usize> = BTreeMap::new();
        let mut pinned = Vec::new();
        for shard in shards {
            let pin = self.pins.get(shard).and_then(find);
            pinned.extend(pin.map(|_| *shard));
            if let Some(at) = pin.or_else(|| self.held.get(shard).and_then(find)) {
                placed.insert(*shard, at);
            }
        }
        for at in placed.values() {
            seats[*at].load += 1;
        }
        let homeless: Vec<_> = shards.iter().copied().filter(|shard| !placed.contains_key(shard)).collect();
        settle(&mut seats, &mut placed, &homeless);
        if self.balance {
            let over = |(shard, at): (&ShardId, &usize)| {
                let loose = seats[*at].load > seats[*at].keeps && !pinned.contains(shard);
                loose.then_some(*shard)
            };
            let surplus: Vec<_> = placed.iter().filter_map(over).collect();
            settle(&mut seats, &mut placed, &surplus);
        }
        placed.into_iter().map(|(shard, at)| (shard, seats[at].candidate.node.clone())).collect()
    }

    /// The nodes of the pool, sorted by name, with how many of `shards` shards each gets.
    fn seats(&self, region: Option<&Region>, shards: usize) -> Vec<Seat<'_>> {
        let mut nodes: Vec<_> = self.nodes.iter().filter(|node| node.takes() && may(node, region)).collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        let warmth =
            |node: &Candidate| self.warmth.get(&node.node).map_or(WARM, |warmth| (*warmth).clamp(1, WARM));
        let full: Vec<u64> = nodes.iter().map(|node| u64::from(node.weight)).collect();
        let warm: Vec<u64> =
            nodes.iter().map(|node| u64::from(node.weight) * u64::from(warmth(node))).collect();
        let dealt = nodes.iter().zip(deal(shards, &full)).zip(deal(shards, &warm));
        dealt
            .map(|((candidate, full), takes)| Seat { candidate, takes, keeps: full.max(takes), load: 0 })
            .collect()
    }
}

/// Seats by weight (Webster, Sainte-Laguë): the next one goes to the greatest `weight / (2 * seats + 1)`, to the first of equals.
fn deal(shards: usize, weights: &[u64]) -> Vec<usize> {
    let mut seats = vec![0_usize; weights.len()];
    let divisor = |seats: usize| u64::try_from(2 * seats + 1).expect("there are few shards");
    for _ in 0..shards {
        let next = (0..weights.len()).reduce(|best, at| {
            let better = weights[at] * divisor(seats[best]) > weights[best] * divisor(seats[at]);
            if better { at } else { best }
        });
        let Some(next) = next else { break };
        seats[next] += 1;
    }
    seats
}

/// Gives `loose` shards to the nodes with free seats, the best bid of all first. A shard that a node holds leaves it only while
/// that node is over its number.
fn settle(seats: &mut [Seat<'_>], placed: &mut BTreeMap<ShardId, usize>, loose: &[ShardId]) {
    let free = |seat: &Seat<'_>| seat.load < seat.takes;
    let takers: Vec<usize> = (0..seats.len()).filter(|at| free(&seats[*at])).collect();
    let bid = |shard: ShardId, at: usize| (Bid::of(shard, seats[at].candidate), shard, at);
    let mut bids: Vec<_> =
        loose.iter().flat_map(|shard| takers.iter().map(move |at| bid(*shard, *at))).collect();
    bids.sort_unstable();
    let mut moved = std::collections::BTreeSet::new();
    for (_, shard, at) in bids {
        let from = placed.get(&shard).copied();
        let may_leave = from.is_none_or(|from| seats[from].load > seats[from].keeps);
        if !free(&seats[at]) || !may_leave || !moved.insert(shard) {
            continue;
        }
        if let Some(from) = from {
            seats[from].load -= 1;
        }
        seats[at].load += 1;
        placed.insert(shard, at);
    }
}

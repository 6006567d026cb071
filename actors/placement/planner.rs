//! When shards move: what one node should acquire and hand over now, from what it sees now.
//!
//! Every node plans for itself. It acts on its own shards and on shards that no one holds; it never takes from a live
//! node, which hands over by itself once it sees the same. So a wrong view makes two nodes try for one free shard at worst:
//! the store grants it to one, the other sees that at its next look.
//!
//! ```text
//! a node appears       settle (1.5 s without interruption)   then it takes a quarter of its share each 2 s
//! a node disappears    settle                                then its shards are claimed; the store grants when the lease ends
//! a node drains        at once                               it hands over, 16 shards at a time
//! a shard is surplus   settle                                then it is handed over: first let late pictures catch up
//! a shard is let go    settle                                time for whom it was let go to; then whose it should be claims it
//! ```
//!
//! Each node is watched by itself, so one that flaps delays no other and stays what it last was for long enough. Moves done in any
//! order lead to the same place ([`Spread`]), so after views agree the number of shards that are in the wrong place only falls:
//! with no more than 256 shards, 16 at a time, 16 rounds of handing over (after the warm-up) end in a plan that is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{Epoch, NodeId, ShardId};
use crate::placement::region::may;
use crate::placement::spread::WARM;
use crate::placement::{Candidate, Error, Regions, Spread};
use crate::time::Timestamp;

/// How patient and how brisk a planner is. The same on all nodes of a cluster, or they plan against each other for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a node must be there or away, and a shard in the wrong place, before that counts. Longer than a view is late, so
    /// that nothing moves for what is already done; shorter than a lease, so that it delays no takeover.
    pub settle: Duration,
    /// Shards that one node hands over, or is handed, at the same time.
    pub moves_max: usize,
    /// Shards that one plan claims.
    pub claims_max: usize,
    /// A node that is new takes another quarter of its share after each such time. Zero: all at once.
    pub warm_up_step: Duration,
    /// A move that has not finished by then is forgotten, and planned again if it is still wanted.
    pub move_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(1_500),
            moves_max: 16,
            claims_max: 64,
            warm_up_step: Duration::from_secs(2),
            move_timeout: Duration::from_secs(10),
        }
    }
}

/// What a node sees. It may be late and wrong about others, and should be right about itself.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Who is there, this node included, each once.
    pub members: &'a [Candidate],
    /// Who holds which shard. What was released, or whose lease ended, is not in it.
    pub owned: &'a BTreeMap<ShardId, Owned>,
    /// Shards on their way: those that this node hands over, from the moment it begins, and those that others say they have
    /// released to this node.
    pub moving: &'a BTreeMap<ShardId, Move>,
    /// Shards whose lease ran out, or that are left from an earlier run of this node: nobody let them go to anyone, so whose they
    /// should be claims them at once.
    pub lapsed: &'a BTreeSet<ShardId>,
    /// What the operator asked for. Every node should be told the same.
    pub orders: &'a Orders,
}

/// Who holds a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The holder of the lease.
    pub node: NodeId,
    /// Under which epoch.
    pub epoch: Epoch,
}

/// A shard on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Who hands it over.
    pub from: NodeId,
    /// Who takes it.
    pub to: NodeId,
    /// When it began, as the planning node saw it.
    pub since: Timestamp,
}

/// What the operator wants otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// Shards that shall be on a node: moved there, also while paused, and kept there as long as it may own them.
    pub pins: BTreeMap<ShardId, NodeId>,
    /// Nothing moves for the sake of balance. What no one holds is claimed, a draining node hands over, pins are obeyed.
    pub paused: bool,
}

/// What to do now. All of it may be done at once, in any order, or not at all: the next plan starts from what is then true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Shards to acquire, the surest first. The store may refuse: someone was faster, or a lease has not ended.
    pub claims: Vec<ShardId>,
    /// Shards to hand over.
    pub releases: Vec<Release>,
    /// Shards that no node may own now, and why. Refuse what is meant for them.
    pub unplaced: BTreeMap<ShardId, Error>,
    /// When to plan again though nothing else has changed.
    pub again_at: Option<Timestamp>,
}

/// A shard to hand over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Which.
    pub shard: ShardId,
    /// The epoch that the plan is about. Held under another one by now: leave it for the next plan.
    pub epoch: Epoch,
    /// Who shall take it. None: the shard's region forbids this node, and no node of the region is up.
    pub to: Option<NodeId>,
}

/// Plans for one node. Remembers since when things have been as they are, and nothing else.
#[derive(Debug, Clone)]
pub struct Planner {
    me: NodeId,
    settings: Settings,
    regions: Regions,
    seen: BTreeMap<NodeId, Seen>,
    /// Who held each shard when it was last held.
    last: BTreeMap<ShardId, NodeId>,
    /// Since when no one has held a shard.
    free_since: BTreeMap<ShardId, Timestamp>,
    /// Where shards of ours should be instead, and since when.
    surplus: BTreeMap<ShardId, (NodeId, Timestamp)>,
}

/// A node as this one has seen it.
#[derive(Debug, Clone)]
struct Seen {
    candidate: Candidate,
    here: bool,
    /// Since when `here` has been what it is.
    since: Timestamp,
    /// What `here` was when it last held for long enough: whether the node counts.
    counts: bool,
    /// Whether it warms up when it begins to count.
    cold: bool,
    /// When it began to warm up. None: it is warm.
    warming_since: Option<Timestamp>,
}

impl Planner {
    /// For node `me`.
    pub fn new(me: NodeId, settings: Settings, regions: Regions) -> Self {
        let (seen, last) = (BTreeMap::new(), BTreeMap::new());
        Self { me, settings, regions, seen, last, free_since: BTreeMap::new(), surplus: BTreeMap::new() }
    }

    /// What this node should do at `now`. O(shards × nodes).
    pub fn plan(&mut self, now: Timestamp, view: &View<'_>) -> Plan {
        self.observe_members(now, view);
        self.observe_shards(now, view);
        let moving: BTreeMap<_, _> =
            view.moving.iter().filter(|(_, one)| self.is_under_way(one, now)).map(|(s, m)| (*s, m)).collect();
        let nodes: Vec<_> =
            self.seen.values().filter(|seen| seen.counts).map(|seen| seen.candidate.clone()).collect();
        let target = self.target(now, view, &moving, &nodes);
        self.observe_surplus(now, view, &target);
        let unplaced = ShardId::all().filter(|shard| !target.contains_key(shard));
        let unplaced =
            unplaced.filter_map(|shard| Some((shard, self.regions.eligible(shard, &nodes).err()?)));
        Plan {
            unplaced: unplaced.collect(),
            claims: self.claims(now, view, &moving, &target),
            releases: self.releases(now, view, &moving, &target),
            again_at: self.again_at(now, &moving),
        }
    }

    /// Takes note of who is there, and of who has been there or away for long enough.
    fn observe_members(&mut self, now: Timestamp, view: &View<'_>) {
        let cold = !self.seen.is_empty(); // those of the first look were here before this node, for all it knows
        for member in view.members {
            let new = || Seen {
                candidate: member.clone(),
                here: true,
                since: now,
                counts: false,
                cold,
                warming_since: None,
            };
            let seen = self.seen.entry(member.node.clone()).or_insert_with(new);
            if seen.candidate.draining && !member.draining {
                seen.warming_since = Some(now); // it is back from a restart
            }
            seen.candidate = member.clone();
        }
        for Owned { node, .. } in view.owned.values() {
            // A holder of whom nothing is known may be a node that we have yet to hear of: it is waited for like any other.
            let candidate = || Candidate { weight: 0, ..Candidate::new(&node.0, 0) };
            let new = || Seen {
                candidate: candidate(),
                here: false,
                since: now,
                counts: true,
                cold,
                warming_since: None,
            };
            self.seen.entry(node.clone()).or_insert_with(new);
        }
        for (node, seen) in &mut self.seen {
            let here = view.members.iter().any(|member| member.node == *node);
            if seen.here != here {
                (seen.here, seen.since) = (here, now);
            }
            if seen.counts != here && now.since(seen.since) >= self.settings.settle {
                seen.counts = here;
                seen.warming_since = (here && seen.cold).then_some(now);
                seen.cold = true;
            }
        }
        let holds = |node: &NodeId| view.owned.values().any(|owned| owned.node == *node);
        self.seen.retain(|node, seen| seen.here || seen.counts || holds(node));
    }

    /// Takes note of who held what, and of what no one holds.
    fn observe_shards(&mut self, now: Timestamp, view: &View<'_>) {
        self.last.extend(view.owned.iter().map(|(shard, owned)| (*shard, owned.node.clone())));
        self.free_since.retain(|shard, _| !view.owned.contains_key(shard));
        for shard in ShardId::all().filter(|shard| !view.owned.contains_key(shard)) {
            self.free_since.entry(shard).or_insert(now);
        }
    }

    /// Takes note of which shards of ours should be where else.
    fn observe_surplus(&mut self, now: Timestamp, view: &View<'_>, target: &Target) {
        let ours = view.owned.iter().filter(|(_, owned)| owned.node == self.me);
        let elsewhere = ours.filter_map(|(shard, _)| Some((*shard, target.get(shard)?)));
        let elsewhere = elsewhere.filter(|(_, to)| **to != self.me).map(|(shard, to)| {
            let before = self.surplus.get(&shard).filter(|(before, _)| before == to);
            (shard, (to.clone(), before.map_or(now, |(_, since)| *since)))
        });
        self.surplus = elsewhere.collect();
    }

    /// Where every shard should be, shards on their way taken as arrived.
    fn target(&self, now: Timestamp, view: &View<'_>, moving: &Moving<'_>, nodes: &[Candidate]) -> Target {
        let owned = view.owned.iter().map(|(shard, owned)| (*shard, &owned.node));
        let arriving = moving.iter().map(|(shard, one)| (*shard, &one.to));
        let held = owned.chain(arriving).map(|(shard, node)| (shard, node.clone())).collect();
        let warming = self.seen.iter().filter_map(|(node, seen)| Some((node, seen.warming_since?)));
        let warmth = warming.map(|(node, since)| (node.clone(), self.quarters(now, since))).collect();
        let (regions, pins, balance) = (&self.regions, &view.orders.pins, !view.orders.paused);
        Spread { nodes, regions, held: &held, pins, warmth: &warmth, balance }.target()
    }

    /// Shards that should be here and that no one holds any more. What another has just released to us comes first, and even if
    /// it should be elsewhere by now: who does not serve it waits.
    fn claims(&self, now: Timestamp, view: &View<'_>, moving: &Moving<'_>, target: &Target) -> Vec<ShardId> {
        let gone = |node: &NodeId| !self.seen.get(node).is_some_and(|seen| seen.counts || seen.here);
        let waited = |shard| {
            self.free_since.get(&shard).is_some_and(|since| now.since(*since) >= self.settings.settle)
        };
        let rank = |shard: ShardId| {
            let given = moving.get(&shard).is_some_and(|one| one.to == self.me) && self.may_own(shard);
            let ours = target.get(&shard) == Some(&self.me);
            match view.owned.get(&shard) {
                Some(owned) if owned.node == self.me => None,
                _ if given => Some(0),
                None if ours
                    && (view.lapsed.contains(&shard)
                        || waited(shard)
                        || self.last.get(&shard).is_none_or(gone)) =>
                {
                    Some(1)
                }
                Some(owned) if ours && gone(&owned.node) => Some(2),
                _ => None,
            }
        };
        let mut claims: Vec<_> =
            ShardId::all().filter_map(|shard| rank(shard).map(|rank| (rank, shard))).collect();
        claims.sort_unstable();
        claims.into_iter().map(|(_, shard)| shard).take(self.settings.claims_max).collect()
    }

    /// Shards of ours that should be elsewhere, as many as may be on their way at once. Those that must not be here at all come
    /// first, and without a limit.
    fn releases(
        &self,
        now: Timestamp,
        view: &View<'_>,
        moving: &Moving<'_>,
        target: &Target,
    ) -> Vec<Release> {
        let ours =
            view.owned.iter().filter(|(shard, owned)| owned.node == self.me && !moving.contains_key(shard));
        let count = |is: &dyn Fn(&Move) -> bool| moving.values().filter(|one| is(one)).count();
        let draining = self.seen.get(&self.me).is_some_and(|me| !me.candidate.takes());
        let due = |shard: &ShardId| {
            let waited = |(_, since): &(_, Timestamp)| now.since(*since) >= self.settings.settle;
            draining || view.orders.pins.contains_key(shard) || self.surplus.get(shard).is_some_and(waited)
        };
        let mut leaving = count(&|one| one.from == self.me);
        let mut arriving: BTreeMap<&NodeId, usize> = BTreeMap::new();
        let mut releases = Vec::new();
        for (shard, owned) in ours {
            let to = target.get(shard).filter(|to| **to != self.me);
            let forbidden = !self.region_allows(*shard);
            let taker = to.filter(|to| self.seen.get(*to).is_some_and(|seen| seen.here));
            let release =
                |to: Option<&NodeId>| Release { shard: *shard, epoch: owned.epoch, to: to.cloned() };
            if forbidden {
                releases.push(release(taker));
            } else if let Some(to) = taker.filter(|_| due(shard)) {
                let arriving = arriving.entry(to).or_insert_with(|| count(&|one| one.to == *to));
                if leaving < self.settings.moves_max && *arriving < self.settings.moves_max {
                    (leaving, *arriving) = (leaving + 1, *arriving + 1);
                    releases.push(release(Some(to)));
                }
            }
        }
        releases
    }

    /// The next time at which the clock alone changes the plan.
    fn again_at(&self, now: Timestamp, moving: &Moving<'_>) -> Option<Timestamp> {
        let settling = self.seen.values().filter(|seen| seen.counts != seen.here);
        let settled = settling.map(|seen| seen.since.plus(self.settings.settle));
        let warming = self.seen.values().filter_map(|seen| seen.warming_since);
        let steps = warming
            .flat_map(|since| (1..WARM).map(move |n| since.plus(self.settings.warm_up_step * u32::from(n))));
        let ends = moving.values().map(|one| one.since.plus(self.settings.move_timeout));
        let waits = self.free_since.values().chain(self.surplus.values().map(|(_, since)| since));
        let waited = waits.map(|since| since.plus(self.settings.settle));
        settled.chain(steps).chain(ends).chain(waited).filter(|at| *at > now).min()
    }

    /// How much of its share a node takes that began to warm up at `since`.
    fn quarters(&self, now: Timestamp, since: Timestamp) -> u16 {
        let steps =
            (1..WARM).filter(|n| now.since(since) >= self.settings.warm_up_step * u32::from(*n)).count();
        1 + u16::try_from(steps).expect("at most three")
    }

    fn is_under_way(&self, one: &Move, now: Timestamp) -> bool {
        let taker = self.seen.get(&one.to).is_some_and(|seen| seen.here && seen.candidate.takes());
        taker && now.since(one.since) < self.settings.move_timeout
    }

    fn region_allows(&self, shard: ShardId) -> bool {
        let region = self.regions.of(shard);
        region.is_none() || self.seen.get(&self.me).is_some_and(|me| may(&me.candidate, region))
    }

    fn may_own(&self, shard: ShardId) -> bool {
        self.region_allows(shard) && self.seen.get(&self.me).is_some_and(|me| me.candidate.takes())
    }
}

/// Where shards should be.
type Target = BTreeMap<ShardId, NodeId>;

/// Shards on their way whose move has not run out of time.
type Moving<'a> = BTreeMap<ShardId, &'a Move>;

#[cfg(test)]
mod tests;

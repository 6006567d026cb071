//! Several planners against a model of the store, from seeds: views arrive late, in different orders and with gaps.
//!
//! The store knows leases and epochs. A node knows its own shards exactly; of the others it sees an old picture. Members
//! change at any time and each node hears of it after its own delay. What must hold always, is checked at each step; what must
//! come to rest, at the end.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Candidate, Epoch, Move, NodeId, Orders, Owned, Planner, Regions, Settings, ShardId, Timestamp, View,
};
use crate::placement::Spread;
use crate::placement::hash::mix;

/// Time between two looks of a node, in milliseconds.
const STEP_MS: i64 = 250;
/// Length of a lease.
const LEASE_MS: i64 = 4_000;
/// Longest time until a node hears of a change of members.
const LATE_MS: u64 = 1_500;
/// Greatest age of a node's picture of the others' shards.
const OLD_MS: u64 = 1_000;
/// For so long members change.
const TROUBLE_MS: i64 = 30_000;
/// After so long without a change all must be where it should be: delays, a lease, the warm-up, and handing over.
const REST_MS: i64 = 20_000;
/// Then nothing may move any more.
const QUIET_MS: i64 = 10_000;

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % n
    }

    fn ms(&mut self, most: u64) -> i64 {
        i64::try_from(self.below(most + 1)).expect("small")
    }
}

#[derive(Clone)]
struct Lease {
    node: NodeId,
    epoch: Epoch,
    ends: i64,
}

struct Node {
    planner: Planner,
    up: bool,
    /// What it has heard of members, and of what it will hear: (when, whom, what).
    members: BTreeMap<NodeId, Candidate>,
    mail: Vec<(i64, NodeId, Option<Candidate>)>,
    /// Its picture of the store.
    picture: BTreeMap<ShardId, Owned>,
    picture_at: i64,
    moving: BTreeMap<ShardId, Move>,
    /// Shards it hands over: when it will have let go.
    letting_go: BTreeMap<ShardId, (i64, NodeId)>,
}

struct World {
    chance: Chance,
    now: i64,
    regions: Regions,
    nodes: BTreeMap<NodeId, Node>,
    candidates: BTreeMap<NodeId, Candidate>,
    leases: BTreeMap<ShardId, Lease>,
    epochs: BTreeMap<ShardId, Epoch>,
    /// Offers on their way to a taker.
    offers: Vec<(i64, ShardId, Move)>,
    /// Grants to another node than the last one, since members last changed.
    moved: BTreeMap<ShardId, u32>,
    last_grant: i64,
    trace: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let bound = chance.below(2) == 0;
        let mut world = Self {
            chance,
            now: 0,
            regions: Regions::new(bound.then_some("eu")).expect("one region"),
            nodes: BTreeMap::new(),
            candidates: BTreeMap::new(),
            leases: BTreeMap::new(),
            epochs: BTreeMap::new(),
            offers: Vec::new(),
            moved: BTreeMap::new(),
            last_grant: 0,
            trace: 0,
        };
        for _ in 0..2 + world.chance.below(3) {
            world.join();
        }
        world
    }

    /// A node comes up, or one that was down comes back.
    fn join(&mut self) {
        let name = format!("node-{}", self.chance.below(6));
        let weight = if self.chance.below(4) == 0 { 3 } else { 1 };
        let candidate = Candidate::new(&name, weight);
        let candidate = if self.chance.below(2) == 0 { candidate.in_region("eu") } else { candidate };
        let id = candidate.node.clone();
        if self.nodes.get(&id).is_some_and(|node| node.up) {
            return;
        }
        let node = Node {
            planner: Planner::new(id.clone(), Settings::default(), self.regions.clone()),
            up: true,
            members: BTreeMap::new(),
            mail: Vec::new(),
            picture: BTreeMap::new(),
            picture_at: i64::MIN,
            moving: BTreeMap::new(),
            letting_go: BTreeMap::new(),
        };
        self.nodes.insert(id.clone(), node);
        self.leases.retain(|_, lease| lease.node != id); // it asks for its leases anew
        for other in self.candidates.clone().into_values() {
            let at = self.now + self.chance.ms(LATE_MS);
            self.nodes.get_mut(&id).expect("just added").mail.push((at, other.node.clone(), Some(other)));
        }
        self.announce(&id, Some(&candidate));
    }

    /// Every node hears of it at its own time; the node itself at once.
    fn announce(&mut self, id: &NodeId, what: Option<&Candidate>) {
        match what {
            Some(candidate) => self.candidates.insert(id.clone(), candidate.clone()),
            None => self.candidates.remove(id),
        };
        let World { nodes, chance, now, .. } = self;
        for (name, node) in nodes {
            let at = if name == id { *now } else { *now + chance.ms(LATE_MS) };
            node.mail.push((at, id.clone(), what.cloned()));
        }
        self.moved.clear();
    }

    fn trouble(&mut self) {
        let up: Vec<_> = self.candidates.keys().cloned().collect();
        let any = up.get(usize::try_from(self.chance.below(16)).expect("small")).cloned();
        match (self.chance.below(5), any) {
            (0, Some(id)) if up.len() > 1 => {
                self.nodes.get_mut(&id).expect("it is up").up = false;
                self.announce(&id, None);
            }
            (1, Some(id)) => {
                let draining = !self.candidates[&id].draining;
                let changed = Candidate { draining, ..self.candidates[&id].clone() };
                self.announce(&id, Some(&changed));
            }
            (2, Some(id)) => self.blink(&id),
            _ => self.join(),
        }
    }

    /// Some nodes lose sight of `id` for a while.
    fn blink(&mut self, id: &NodeId) {
        let World { nodes, chance, now, candidates, .. } = self;
        for (_, node) in nodes.iter_mut().filter(|(name, _)| *name != id) {
            if chance.below(2) == 0 {
                let (from, long) = (*now + chance.ms(LATE_MS), chance.ms(3_000));
                node.mail.push((from, id.clone(), None));
                node.mail.push((from + long, id.clone(), candidates.get(id).cloned()));
            }
        }
        self.moved.clear();
    }

    /// Every node hears the truth about every other, in any order: views agree from the latest of it on.
    fn heal(&mut self) {
        let World { nodes, chance, now, candidates, .. } = self;
        let names: Vec<_> = nodes.keys().cloned().collect();
        for node in nodes.values_mut() {
            node.mail.clear();
            for name in &names {
                node.mail.push((*now + chance.ms(LATE_MS), name.clone(), candidates.get(name).cloned()));
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP_MS;
        let now = self.now;
        for lease in self.leases.values_mut() {
            if self.nodes.get(&lease.node).is_some_and(|node| node.up) {
                lease.ends = now + LEASE_MS;
            }
        }
        for id in self.nodes.keys().cloned().collect::<Vec<_>>() {
            if self.nodes[&id].up {
                self.look(&id);
            }
        }
    }

    /// One look of one node: it hears, lets go, plans and does.
    fn look(&mut self, id: &NodeId) {
        let mut node = self.nodes.remove(id).expect("it is there");
        let now = self.now;
        self.hear(id, &mut node);
        let done: Vec<_> =
            node.letting_go.iter().filter(|(_, (at, _))| *at <= now).map(|(s, _)| *s).collect();
        for shard in done {
            let (_, to) = node.letting_go.remove(&shard).expect("just seen");
            self.leases.remove(&shard);
            if self.chance.below(10) > 0 {
                let at = now + self.chance.ms(1_000);
                self.offers.push((at, shard, Move { from: id.clone(), to, since: Timestamp(at) }));
            }
        }
        let owned = self.seen_by(id, &mut node);
        let members: Vec<_> = node.members.values().cloned().collect();
        let orders = Orders::default();
        let view = View {
            members: &members,
            owned: &owned,
            moving: &node.moving,
            lapsed: &BTreeSet::new(),
            orders: &orders,
        };
        let plan = node.planner.plan(Timestamp(now), &view);
        for shard in plan.claims {
            self.acquire(id, shard);
        }
        for release in plan.releases {
            assert_eq!(self.leases[&release.shard].node, *id, "only what is ours is handed over");
            let at = now + self.chance.ms(800);
            match release.to {
                Some(to) => {
                    let one = Move { from: id.clone(), to: to.clone(), since: Timestamp(now) };
                    node.moving.insert(release.shard, one);
                    node.letting_go.insert(release.shard, (at, to));
                }
                None => drop(self.leases.remove(&release.shard)),
            }
        }
        let bound = |shard: &ShardId| self.regions.of(*shard).is_some();
        let free = node.letting_go.keys().filter(|shard| !bound(shard)).count();
        assert!(free <= 16, "{id} hands over {free} shards at once");
        self.nodes.insert(id.clone(), node);
    }

    fn hear(&mut self, id: &NodeId, node: &mut Node) {
        let now = self.now;
        node.mail.sort_by_key(|(at, ..)| *at);
        while node.mail.first().is_some_and(|(at, ..)| *at <= now) {
            match node.mail.remove(0) {
                (_, who, Some(candidate)) => node.members.insert(who, candidate),
                (_, who, None) => node.members.remove(&who),
            };
        }
        let (mine, rest) = std::mem::take(&mut self.offers)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, _, one)| *at <= now && one.to == *id);
        self.offers = rest;
        node.moving.extend(mine.into_iter().map(|(_, shard, one)| (shard, one)));
    }

    /// The shards as `id` sees them: its own as they are, the others' as they were a while ago.
    fn seen_by(&mut self, id: &NodeId, node: &mut Node) -> BTreeMap<ShardId, Owned> {
        let now = self.now;
        let live = |lease: &Lease| lease.ends > now;
        let owned = |lease: &Lease| Owned { node: lease.node.clone(), epoch: lease.epoch };
        if node.picture_at <= now {
            let leases = self.leases.iter().filter(|(_, lease)| live(lease));
            node.picture = leases.map(|(shard, lease)| (*shard, owned(lease))).collect();
            node.picture_at = now + self.chance.ms(OLD_MS);
            let arrived = |shard: &ShardId, one: &Move| {
                node.picture.get(shard).is_some_and(|owned| owned.node == one.to)
            };
            node.moving.retain(|shard, one| !arrived(shard, one));
        }
        let mut seen = node.picture.clone();
        seen.retain(|_, owned| owned.node != *id);
        let mine = self.leases.iter().filter(|(_, lease)| lease.node == *id);
        seen.extend(mine.map(|(shard, lease)| (*shard, owned(lease))));
        seen
    }

    /// The store's rule: a lease that is free or has ended is granted, under the next epoch.
    fn acquire(&mut self, id: &NodeId, shard: ShardId) {
        let before = self.leases.get(&shard);
        if before.is_some_and(|lease| lease.ends > self.now) {
            return;
        }
        let epoch = self.epochs.entry(shard).or_default();
        epoch.0 += 1;
        let epoch = *epoch;
        if let Some(region) = self.regions.of(shard) {
            let candidate = &self.candidates[id];
            assert_eq!(candidate.region.as_ref(), Some(region), "{id} took shard {shard} of {region}");
        }
        self.leases.insert(shard, Lease { node: id.clone(), epoch, ends: self.now + LEASE_MS });
        *self.moved.entry(shard).or_default() += 1;
        self.last_grant = self.now;
        let place = u64::from(shard.0) << 32 | u64::from(*id.0.as_bytes().last().expect("a name"));
        self.trace = mix(self.trace ^ place ^ u64::try_from(self.now).expect("time goes up"));
    }

    fn held(&self) -> BTreeMap<ShardId, NodeId> {
        self.leases.iter().map(|(shard, lease)| (*shard, lease.node.clone())).collect()
    }

    /// Members change for a while, then no more. Returns when the last grant after that was, counted from the last change.
    fn run(&mut self) -> i64 {
        while self.now < TROUBLE_MS {
            if self.chance.below(12) == 0 {
                self.trouble();
            }
            self.step();
        }
        self.heal();
        while self.now < TROUBLE_MS + REST_MS + QUIET_MS {
            self.step();
        }
        self.last_grant - TROUBLE_MS
    }
}

/// Eight, or `$SEED` alone.
fn seeds() -> impl Iterator<Item = u64> {
    let one = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    one.map_or(0..8, |seed: u64| seed..seed + 1)
}

#[test]
fn planners_with_different_views_agree_in_the_end_and_then_nothing_moves() {
    let mut latest = 0;
    for seed in seeds() {
        let mut world = World::new(mix(seed));
        let rested = world.run();
        latest = latest.max(rested);
        assert!(rested <= REST_MS, "SEED={seed}: still moving after {rested} ms");
        let nodes: Vec<_> = world.candidates.values().cloned().collect();
        let (held, nothing, warm) = (world.held(), BTreeMap::new(), BTreeMap::new());
        let regions = &world.regions;
        let spread =
            Spread { nodes: &nodes, regions, held: &held, pins: &nothing, warmth: &warm, balance: true };
        let takers: BTreeSet<_> = nodes.iter().filter(|node| node.takes()).map(|node| &node.node).collect();
        let placed: BTreeMap<_, _> = held.iter().filter(|(_, node)| takers.contains(node)).collect();
        assert_eq!(placed, spread.target().iter().collect(), "SEED={seed}: all is where it should be");
        let most = world.moved.values().max().copied().unwrap_or(0);
        assert!(most <= 3, "SEED={seed}: a shard changed hands {most} times after the last change");
    }
    assert!(latest > 0, "the last trouble makes something move in some seed");
}

#[test]
fn one_seed_gives_one_history() {
    let trace = |seed| {
        let mut world = World::new(mix(seed));
        world.run();
        world.trace
    };
    assert_eq!(trace(0), trace(0));
    assert_ne!(trace(0), trace(1));
}

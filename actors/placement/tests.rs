//! The laws of placement, for any cluster.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::id::{EntityId, SHARDS};

type Held = BTreeMap<ShardId, NodeId>;

/// Where everything is once all moves are done, from `held`.
fn settled(nodes: &[Candidate], regions: &Regions, held: &Held) -> Held {
    let nothing = (&BTreeMap::new(), &BTreeMap::new());
    Spread { nodes, regions, held, pins: nothing.0, warmth: nothing.1, balance: true }.target()
}

fn loads(held: &Held) -> BTreeMap<&NodeId, u16> {
    let mut loads = BTreeMap::new();
    for node in held.values() {
        *loads.entry(node).or_default() += 1;
    }
    loads
}

/// One to eight nodes with names of any look and weights of any size.
fn nodes() -> impl Strategy<Value = Vec<Candidate>> {
    let weight = prop_oneof![4 => Just(1_u16), 2 => 1..=8_u16, 1 => any::<u16>()];
    let nodes = prop::collection::btree_map("[a-z0-9.-]{1,12}", (weight, any::<bool>(), 0..10_u8), 1..=8);
    nodes.prop_map(|nodes| {
        let node = |(name, (weight, eu, draining)): (String, (u16, bool, u8))| {
            let node = Candidate { draining: draining == 0, ..Candidate::new(&name, weight) };
            if eu { node.in_region("eu") } else { node }
        };
        nodes.into_iter().map(node).collect()
    })
}

fn regions() -> impl Strategy<Value = Regions> {
    prop_oneof![Just(Regions::default()), Just(Regions::new(["eu"]).expect("one region")),]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn by_preference_a_leaving_node_moves_only_its_own_shards_and_a_joining_one_only_takes(nodes in nodes()) {
        let (last, fewer) = nodes.split_last().expect("at least one");
        for shard in ShardId::all() {
            let (with, without) = (owner(shard, &nodes), owner(shard, fewer));
            prop_assert!(with == without || with == Some(&last.node));
        }
    }

    #[test]
    fn the_preferred_node_is_the_first_ranked_whatever_the_order(nodes in nodes(), shard in 0..SHARDS) {
        let backwards: Vec<_> = nodes.iter().rev().cloned().collect();
        prop_assert_eq!(owner(ShardId(shard), &nodes), owner(ShardId(shard), &backwards));
        let ranks = ranked(ShardId(shard), &nodes);
        prop_assert_eq!(&ranks, &ranked(ShardId(shard), &backwards));
        prop_assert_eq!(ranks.first().copied(), owner(ShardId(shard), &nodes));
        prop_assert_eq!(ranks.len(), nodes.iter().filter(|node| node.takes()).count());
    }

    #[test]
    fn a_leaving_node_moves_only_its_own_shards(nodes in nodes(), regions in regions(), at in any::<prop::sample::Index>()) {
        let before = settled(&nodes, &regions, &Held::new());
        let mut fewer = nodes.clone();
        let gone = fewer.remove(at.index(nodes.len())).node;
        let after = settled(&fewer, &regions, &before);
        for (shard, node) in &before {
            prop_assert!(*node == gone || after.get(shard) == Some(node), "shard {shard} left {node}");
        }
    }

    #[test]
    fn a_joining_node_only_takes(nodes in nodes(), regions in regions(), at in any::<prop::sample::Index>()) {
        let mut fewer = nodes.clone();
        let new = fewer.remove(at.index(nodes.len())).node;
        let before = settled(&fewer, &regions, &Held::new());
        for (shard, node) in settled(&nodes, &regions, &before) {
            prop_assert!(node == new || before.get(&shard) == Some(&node), "shard {shard} went to {node}");
        }
    }

    #[test]
    fn a_draining_node_keeps_nothing(nodes in nodes(), regions in regions()) {
        let before = settled(&nodes, &regions, &Held::new());
        let mut nodes = nodes;
        nodes[0].draining = true;
        let after = settled(&nodes, &regions, &before);
        prop_assert!(!loads(&after).contains_key(&nodes[0].node));
        let moved = before.iter().filter(|(shard, node)| after.get(*shard) != Some(node));
        prop_assert!(moved.into_iter().all(|(_, node)| *node == nodes[0].node));
    }

    #[test]
    fn a_region_is_obeyed_and_none_up_means_no_owner(nodes in nodes(), old in nodes()) {
        let regions = Regions::new(["eu"]).expect("one region");
        let before = settled(&old, &Regions::default(), &Held::new()); // as if the region were new
        let after = settled(&nodes, &regions, &before);
        for shard in ShardId::all() {
            let eligible = regions.eligible(shard, &nodes);
            match after.get(&shard) {
                Some(node) => prop_assert!(eligible.is_ok_and(|all| all.iter().any(|one| one.node == *node))),
                None => prop_assert!(eligible.is_err(), "shard {shard} could have an owner"),
            }
        }
    }

    #[test]
    fn shares_follow_weights_to_within_rounding(nodes in nodes(), old in nodes()) {
        let taking: Vec<_> = nodes.iter().filter(|node| node.takes()).collect();
        let total: f64 = taking.iter().map(|node| f64::from(node.weight)).sum();
        // Rounding for each of the others adds up on a node that is far heavier than they are.
        let alike = taking.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let bound = if alike { 1.0 } else { f64::from(u8::try_from(taking.len()).expect("few")) / 2.0 };
        let after = settled(&nodes, &Regions::default(), &settled(&old, &Regions::default(), &Held::new()));
        let loads = loads(&after);
        for node in taking {
            let ideal = f64::from(SHARDS) * f64::from(node.weight) / total;
            let load = f64::from(loads.get(&node.node).copied().unwrap_or(0));
            prop_assert!((load - ideal).abs() <= bound, "{}: {load} of {ideal}", node.node);
        }
    }

    #[test]
    fn moves_done_in_any_order_and_number_lead_to_the_same_place(
        nodes in nodes(), old in nodes(), regions in regions(), done in prop::collection::btree_set(0..SHARDS, 0..200),
    ) {
        let mut held = settled(&old, &Regions::default(), &Held::new());
        let target = settled(&nodes, &regions, &held);
        for shard in done.into_iter().map(ShardId) {
            match target.get(&shard) {
                Some(node) => held.insert(shard, node.clone()),
                None => held.remove(&shard),
            };
        }
        prop_assert_eq!(&settled(&nodes, &regions, &held), &target);
        prop_assert_eq!(settled(&nodes, &regions, &target), target, "nothing moves where all should be");
    }

    #[test]
    fn the_order_of_the_nodes_does_not_matter(nodes in nodes(), old in nodes(), regions in regions()) {
        let held = settled(&old, &regions, &Held::new());
        let backwards: Vec<_> = nodes.iter().rev().cloned().collect();
        prop_assert_eq!(settled(&nodes, &regions, &held), settled(&backwards, &regions, &held));
    }

    #[test]
    fn a_cold_node_takes_in_steps_and_gives_nothing_back(nodes in nodes(), at in any::<prop::sample::Index>()) {
        let (regions, pins) = (Regions::default(), BTreeMap::new());
        let new = &nodes[at.index(nodes.len())].node;
        let fewer: Vec<_> = nodes.iter().filter(|node| node.node != *new).cloned().collect();
        let mut held = settled(&fewer, &regions, &Held::new());
        let warm = settled(&nodes, &regions, &held);
        for step in 1..=spread::WARM {
            let warmth = BTreeMap::from([(new.clone(), step)]);
            let spread = Spread { nodes: &nodes, regions: &regions, held: &held, pins: &pins, warmth: &warmth, balance: true };
            let next = spread.target();
            for (shard, node) in &next {
                prop_assert!(node == new || held.get(shard) == Some(node), "shard {shard} went to {node}");
            }
            held = next;
        }
        prop_assert_eq!(loads(&held), loads(&warm));
    }
}

#[test]
fn entities_spread_over_three_nodes_within_a_tenth_of_even() {
    for names in [["a", "b", "c"], ["node-1", "node-2", "node-3"], ["syncline-0", "syncline-1", "syncline-2"]]
    {
        let nodes = names.map(|name| Candidate::new(name, 1));
        let held = settled(&nodes, &Regions::default(), &Held::new());
        let mut count = BTreeMap::new();
        for n in 0..100_000 {
            let entity = EntityId::new("order", &format!("SO-{n}")).expect("legal");
            *count.entry(held[&entity.shard()].to_string()).or_insert(0_u32) += 1;
        }
        assert!(count.values().all(|count| (30_000..=36_666).contains(count)), "{count:?}");
    }
}

#[test]
fn without_dealing_out_the_numbers_some_clusters_are_more_than_a_tenth_off() {
    // The reason for `Spread`: if this fails, preference alone would do.
    let off = |cluster: u32| {
        let nodes = [0, 1, 2].map(|n| Candidate::new(&format!("cluster-{cluster}-{n}"), 1));
        let mine =
            |node: &Candidate| ShardId::all().filter(|s| owner(*s, &nodes) == Some(&node.node)).count();
        nodes.iter().any(|node| !(77..=93).contains(&mine(node)))
    };
    let off = (0..100).filter(|cluster| off(*cluster)).count();
    assert!((20..80).contains(&off), "{off} of 100 clusters");
}

#[test]
fn by_preference_shares_follow_weights_on_average() {
    let (mut large, mut all) = (0_u32, 0_u32);
    for cluster in 0..200 {
        let name = |n: u32| format!("cluster-{cluster}-{n}");
        let nodes = [Candidate::new(&name(0), 3), Candidate::new(&name(1), 2), Candidate::new(&name(2), 1)];
        for shard in ShardId::all() {
            all += 1;
            large += u32::from(owner(shard, &nodes) == Some(&nodes[0].node));
        }
    }
    let share = f64::from(large) / f64::from(all);
    assert!((share - 0.5).abs() < 0.01, "{share} of one half");
}

#[test]
fn most_shards_are_where_their_hash_prefers() {
    let nodes: Vec<_> = (0..5).map(|n| Candidate::new(&format!("node-{n}"), 1)).collect();
    let held = settled(&nodes, &Regions::default(), &Held::new());
    let preferred = held.iter().filter(|(shard, node)| owner(**shard, &nodes) == Some(*node)).count();
    assert!(preferred > 220, "{preferred} of 256");
}

#[test]
fn a_pin_is_obeyed_unless_the_region_forbids_it() {
    let nodes = [Candidate::new("a", 1).in_region("eu"), Candidate::new("b", 1), Candidate::new("c", 1)];
    let regions = Regions::new(["eu"]).expect("one region");
    let held = settled(&nodes, &regions, &Held::new());
    let pins: Held = (0..100).chain([180]).map(|shard| (ShardId(shard), nodes[1].node.clone())).collect();
    let warmth = BTreeMap::new();
    let spread = |held: &Held| {
        Spread { nodes: &nodes, regions: &regions, held, pins: &pins, warmth: &warmth, balance: true }
            .target()
    };
    let after = spread(&held);
    let of_b: BTreeSet<_> = after.iter().filter(|(_, n)| **n == nodes[1].node).map(|(s, _)| s.0).collect();
    assert!((0..100).all(|shard| of_b.contains(&shard)) && !of_b.contains(&200), "{of_b:?}");
    assert_eq!(of_b.len(), 100, "who has more pins than seats gets nothing besides");
    assert_eq!(spread(&after), after);
}

#[test]
fn a_node_that_some_think_is_cold_is_not_asked_to_give_back() {
    // Nodes see each other come up at different times. If one's warm-up made it give, what another has just given would return.
    let nodes = ["a", "b", "c"].map(|name| Candidate::new(name, 1));
    let (regions, pins) = (Regions::default(), BTreeMap::new());
    let held = settled(&nodes, &regions, &Held::new());
    let warmth = BTreeMap::from([(nodes[1].node.clone(), 1)]);
    let spread =
        Spread { nodes: &nodes, regions: &regions, held: &held, pins: &pins, warmth: &warmth, balance: true };
    assert_eq!(spread.target(), held);
}

#[test]
fn a_node_of_weight_nothing_takes_none() {
    let nodes = [Candidate::new("a", 0), Candidate::new("b", 1)];
    assert_eq!(loads(&settled(&nodes, &Regions::default(), &Held::new())).len(), 1);
    assert_eq!(owner(ShardId(0), &nodes[..1]), None);
}

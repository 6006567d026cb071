//! What one node plans, step by step.

use proptest::prelude::*;

use super::*;

mod simulation;

fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

fn owned(name: &str) -> Owned {
    Owned { node: node(name), epoch: Epoch(7) }
}

/// A planner of node `a` and what it sees.
struct Bench {
    planner: Planner,
    now: Timestamp,
    members: Vec<Candidate>,
    owned: BTreeMap<ShardId, Owned>,
    moving: BTreeMap<ShardId, Move>,
    lapsed: BTreeSet<ShardId>,
    orders: Orders,
}

impl Bench {
    fn new(members: &[&str]) -> Self {
        Self::within(members.iter().map(|name| Candidate::new(name, 1)).collect(), Regions::default())
    }

    fn within(members: Vec<Candidate>, regions: Regions) -> Self {
        Self {
            planner: Planner::new(node("a"), Settings::default(), regions),
            now: Timestamp(1_000_000),
            members,
            owned: BTreeMap::new(),
            moving: BTreeMap::new(),
            lapsed: BTreeSet::new(),
            orders: Orders::default(),
        }
    }

    fn after(&mut self, ms: u64) -> Plan {
        self.now = self.now.plus(Duration::from_millis(ms));
        let view = View {
            members: &self.members,
            owned: &self.owned,
            moving: &self.moving,
            lapsed: &self.lapsed,
            orders: &self.orders,
        };
        self.planner.plan(self.now, &view)
    }

    /// All shards are with `names` in turn, and all is settled.
    fn held_by(mut self, names: &[&str]) -> Self {
        self.owned = ShardId::all().map(|s| (s, owned(names[usize::from(s.0) % names.len()]))).collect();
        self.after(0);
        self.after(1_500);
        self
    }

    /// What a plan releases is on its way.
    fn begin(&mut self, plan: &Plan) {
        for release in &plan.releases {
            let to = release.to.clone().expect("it goes somewhere");
            self.moving.insert(release.shard, Move { from: node("a"), to, since: self.now });
        }
    }

    /// All that is on its way has arrived.
    fn finish(&mut self) {
        for (shard, one) in std::mem::take(&mut self.moving) {
            self.owned.insert(shard, Owned { node: one.to, epoch: Epoch(8) });
        }
    }
}

#[test]
fn what_a_node_left_whose_lease_ran_out_is_claimed_at_once() {
    let mut world = Bench::new(&["a", "b"]).held_by(&["a", "b"]);
    let left: BTreeSet<_> = ShardId::all().filter(|shard| shard.0 % 2 == 1).collect();
    world.owned.retain(|shard, _| !left.contains(shard));
    assert_eq!(world.after(10).claims, [], "b is there, and may have them back");
    world.members[1].draining = true; // as one is shown that could not renew
    assert_eq!(world.after(10).claims, [], "they may have been let go to someone");
    world.lapsed.clone_from(&left);
    let claims = world.after(10).claims;
    assert_eq!(claims.len(), Settings::default().claims_max);
    assert!(claims.iter().all(|shard| left.contains(shard)));
}

#[test]
fn a_node_alone_claims_all_after_it_has_looked_around_in_steps() {
    let mut bench = Bench::new(&["a"]);
    assert_eq!(bench.after(0).claims, []);
    assert_eq!(bench.after(1_499).claims, []);
    let mut claimed = 0;
    while let claims @ [_, ..] = &bench.after(1).claims[..] {
        assert!(claims.len() <= 64);
        claimed += claims.len();
        bench.owned.extend(claims.iter().map(|shard| (*shard, owned("a"))));
    }
    assert_eq!(claimed, 256);
}

#[test]
fn a_joining_node_is_handed_its_shards_late_few_at_a_time_and_in_steps() {
    let mut bench = Bench::new(&["a"]).held_by(&["a"]);
    bench.members.push(Candidate::new("b", 1));
    assert_eq!(bench.after(0).releases, []);
    assert_eq!(bench.after(1_500).releases, [], "now it counts");
    assert_eq!(bench.after(1_499).releases, []);
    let mut handed = Vec::new();
    for _ in 0..5 {
        let mut step = 0;
        loop {
            let plan = bench.after(1);
            assert!(plan.releases.len() <= 16 && plan.claims.is_empty());
            if plan.releases.is_empty() {
                break;
            }
            step += plan.releases.len();
            bench.begin(&plan);
            assert_eq!(bench.after(1).releases, [], "the next ones follow when these have arrived");
            bench.finish();
        }
        handed.push(step);
        bench.after(500);
        bench.after(1_500);
    }
    assert_eq!(handed, [51, 34, 25, 18, 0], "1/5, 2/6, 3/7, 4/8 of 256 shards");
}

#[test]
fn a_node_that_flaps_moves_nothing_and_delays_no_other() {
    let mut bench = Bench::new(&["a", "b", "c"]).held_by(&["a", "b", "c"]);
    let (b, c) = (bench.members[1].clone(), bench.members[2].clone());
    for round in 0..40 {
        bench.members = vec![bench.members[0].clone()];
        if round % 2 == 0 {
            bench.members.push(b.clone());
        }
        if round < 20 {
            bench.members.push(c.clone());
        }
        let plan = bench.after(500);
        let of_c = plan.claims.iter().all(|shard| bench.owned[shard] == owned("c"));
        assert!(plan.releases.is_empty() && of_c, "round {round}: {plan:?}");
        assert_eq!(plan.claims.is_empty(), round < 23, "round {round}: c is gone since round 20");
    }
}

#[test]
fn a_holder_that_is_not_known_yet_is_waited_for() {
    let mut bench = Bench::new(&["a"]);
    bench.owned = ShardId::all().map(|shard| (shard, owned("z"))).collect();
    bench.after(0);
    assert_eq!(bench.after(1_400).claims, []);
    bench.members.push(Candidate::new("z", 1));
    assert_eq!(bench.after(5_000).claims, []);
}

#[test]
fn a_draining_node_hands_over_at_once_and_takes_nothing() {
    let mut bench = Bench::new(&["a", "b"]).held_by(&["a", "b"]);
    bench.members[0].draining = true;
    let mut rounds = 0;
    loop {
        let plan = bench.after(0);
        assert!(plan.claims.is_empty() && plan.releases.len() <= 16);
        if plan.releases.is_empty() {
            break;
        }
        rounds += 1;
        bench.begin(&plan);
        bench.finish();
    }
    assert_eq!(rounds, 8, "128 shards, 16 at a time");
    assert!(bench.owned.values().all(|owned| owned.node == node("b")));
}

#[test]
fn the_last_node_to_drain_keeps_its_shards_until_it_stops() {
    let mut bench = Bench::new(&["a"]).held_by(&["a"]);
    bench.members[0].draining = true;
    let plan = bench.after(0);
    assert_eq!(plan.releases, []);
    assert_eq!(plan.unplaced.len(), 256);
    assert_eq!(plan.unplaced[&ShardId(0)], Error::NoNode);
}

#[test]
fn while_paused_only_pins_drains_and_what_no_one_holds_move() {
    let mut bench = Bench::new(&["a", "b"]).held_by(&["a"]);
    bench.orders.paused = true;
    assert_eq!(bench.after(60_000).releases, []);
    bench.orders.pins.insert(ShardId(9), node("b"));
    let plan = bench.after(0);
    assert_eq!(plan.releases, [Release { shard: ShardId(9), epoch: Epoch(7), to: Some(node("b")) }]);
    bench.owned.remove(&ShardId(11));
    bench.owned.remove(&ShardId(12));
    bench.members.truncate(1);
    bench.after(0);
    assert_eq!(bench.after(1_500).claims, [ShardId(11), ShardId(12)]);
}

#[test]
fn what_was_released_to_us_is_claimed_first() {
    let mut bench = Bench::new(&["a", "b"]).held_by(&["a", "b"]);
    for shard in [1, 3] {
        bench.owned.remove(&ShardId(shard));
    }
    bench.moving.insert(ShardId(3), Move { from: node("b"), to: node("a"), since: bench.now });
    assert_eq!(bench.after(0).claims[0], ShardId(3));
    assert_eq!(bench.after(10_000).claims.len(), 0, "forgotten: both are b's again, which has seats free");
}

#[test]
fn a_bound_shard_leaves_a_node_of_another_region_even_to_no_one() {
    let eu = Regions::new(["eu"]).expect("one region");
    let mut bench = Bench::within(vec![Candidate::new("a", 1)], eu).held_by(&["a"]);
    let plan = bench.after(0);
    assert!(
        plan.releases.iter().all(|release| release.to.is_none() && (176..=191).contains(&release.shard.0))
    );
    assert_eq!((plan.releases.len(), plan.unplaced.len()), (16, 16));
    assert_eq!(plan.unplaced[&ShardId(191)], Error::NoNodeOf(crate::placement::Region("eu".into())));
}

#[test]
fn a_plan_says_when_time_alone_will_change_it() {
    let mut bench = Bench::new(&["a"]);
    assert_eq!(bench.after(0).again_at, Some(bench.now.plus(Duration::from_millis(1_500))));
    let mut bench = bench.held_by(&["a"]);
    assert_eq!(bench.after(0).again_at, None);
    bench.members.push(Candidate::new("b", 1));
    assert_eq!(bench.after(0).again_at, Some(bench.now.plus(Duration::from_millis(1_500))));
    assert_eq!(bench.after(1_500).again_at, Some(bench.now.plus(Duration::from_millis(1_500))));
    assert_eq!(bench.after(1_500).again_at, Some(bench.now.plus(Duration::from_millis(500))), "warm-up");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn once_views_agree_no_two_claim_one_shard_and_sixteen_rounds_of_moves_end_in_empty_plans(
        weights in prop::collection::vec(1..=4_u16, 1..=6),
        held in prop::collection::vec(prop::option::of(0..6_usize), 256),
    ) {
        let members: Vec<_> =
            weights.iter().enumerate().map(|(n, weight)| Candidate::new(&format!("n{n}"), *weight)).collect();
        let of = |n: &usize| Owned { node: members[n % members.len()].node.clone(), epoch: Epoch(1) };
        let mut owned: BTreeMap<_, _> =
            ShardId::all().zip(&held).filter_map(|(shard, n)| Some((shard, of(n.as_ref()?)))).collect();
        let new = |member: &Candidate| Planner::new(member.node.clone(), Settings::default(), Regions::default());
        let mut planners: Vec<_> = members.iter().map(new).collect();
        let (moving, orders) = (BTreeMap::new(), Orders::default());
        let mut rounds = 0;
        for at in [0, 1_500, 3_000].into_iter().chain(3_001..) {
            let view = View { members: &members, owned: &owned, moving: &moving, lapsed: &BTreeSet::new(), orders: &orders };
            let plans: Vec<_> = planners.iter_mut().map(|planner| planner.plan(Timestamp(at), &view)).collect();
            let mut done = 0;
            for (plan, member) in plans.into_iter().zip(&members) {
                for shard in plan.claims {
                    done += 1;
                    let grant = Owned { node: member.node.clone(), epoch: Epoch(2) };
                    prop_assert!(owned.insert(shard, grant).is_none(), "two claim shard {shard}");
                }
                for Release { shard, to, .. } in plan.releases {
                    done += 1;
                    let grant = Owned { node: to.expect("it goes somewhere"), epoch: Epoch(2) };
                    prop_assert_eq!(owned.insert(shard, grant).map(|owned| owned.node), Some(member.node.clone()));
                }
            }
            if at >= 3_000 && done == 0 {
                break;
            }
            rounds += usize::from(at >= 3_000);
            prop_assert!(rounds <= 16);
        }
        prop_assert_eq!(owned.len(), 256);
    }
}

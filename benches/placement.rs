//! Is placement cheap enough to be asked at any time? `owner` names the node that one shard prefers among 64; `plan` is what a
//! node computes several times a second. A plan in which nothing moves must be well under a millisecond, and one in which all
//! moves (half of 64 nodes gone at once) a few milliseconds, so that it needs no thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use syncline_actors::id::{Epoch, NodeId, ShardId};
use syncline_actors::placement::planner::{Orders, Owned, Planner, Settings, View};
use syncline_actors::placement::{Candidate, Regions, Spread, owner};
use syncline_actors::time::Timestamp;

fn nodes(count: usize) -> Vec<Candidate> {
    (0..count).map(|n| Candidate::new(&format!("syncline-{n}"), 1)).collect()
}

fn target(nodes: &[Candidate], held: &BTreeMap<ShardId, NodeId>) -> BTreeMap<ShardId, NodeId> {
    let (regions, pins, warmth) = (Regions::default(), BTreeMap::new(), BTreeMap::new());
    Spread { nodes, regions: &regions, held, pins: &pins, warmth: &warmth, balance: true }.target()
}

fn placement(c: &mut Criterion) {
    let mut group = c.benchmark_group("placement");
    let many = nodes(64);
    let mut shard = 0;
    group.bench_function("owner 64 nodes", |b| {
        b.iter(|| {
            shard = (shard + 1) % 256;
            owner(ShardId(shard), black_box(&many)).cloned()
        });
    });
    let held = target(&many, &BTreeMap::new());
    group.bench_function("spread 64 nodes, nothing moves", |b| b.iter(|| target(black_box(&many), &held)));
    let half = &many[32..];
    group.bench_function("spread 64 nodes, half are gone", |b| b.iter(|| target(black_box(half), &held)));
    for count in [3, 64] {
        let members = nodes(count);
        let me = members[0].node.clone();
        let held = target(&members, &BTreeMap::new());
        let owned: BTreeMap<_, _> =
            held.into_iter().map(|(shard, node)| (shard, Owned { node, epoch: Epoch(1) })).collect();
        let (moving, orders) = (BTreeMap::new(), Orders::default());
        let view = View {
            members: &members,
            owned: &owned,
            moving: &moving,
            lapsed: &BTreeSet::new(),
            orders: &orders,
        };
        let mut planner = Planner::new(me, Settings::default(), Regions::default());
        let mut now = Timestamp(0);
        group.bench_function(format!("plan {count} nodes, nothing moves"), |b| {
            b.iter(|| {
                now = now.plus(Duration::from_millis(250));
                planner.plan(now, black_box(&view))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, placement);
criterion_main!(benches);

//! What goes wrong, and for how long.

use std::sync::Arc;
use std::time::Duration;

use syncline::journal::Journal as _;
use syncline_actors::id::ShardId;

use crate::chance::Chance;
use crate::ground::{Ground, LEASE};
use crate::net::Trouble;
use crate::node::Running;

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Crash,
    Split,
    OneWay,
    AllAlone,
    FromPeers,
    FromStore,
    Loss,
    DelaySpike,
    Double,
    Sleep,
    StoreRestart,
    StoreAway,
    StoreSlow,
    StoreRefuses,
    Promotion,
    PromotionAfterGrant,
}

const FAULTS: &[Fault] = &[
    Fault::Crash,
    Fault::Split,
    Fault::OneWay,
    Fault::AllAlone,
    Fault::FromPeers,
    Fault::FromStore,
    Fault::Loss,
    Fault::DelaySpike,
    Fault::Double,
    Fault::Sleep,
    Fault::Sleep,
    Fault::StoreRestart,
    Fault::StoreAway,
    Fault::StoreSlow,
    Fault::StoreRefuses,
    Fault::Promotion,
    Fault::PromotionAfterGrant,
];

/// Troubles the cluster until it is quiet.
pub(crate) async fn blow(ground: Arc<Ground>) {
    let calm = u64::try_from(ground.temper.calm.as_millis()).unwrap();
    loop {
        let pause = ground.chance("calm", |chance| chance.millis(500, calm));
        tokio::time::sleep(pause).await;
        if ground.is_quiet() {
            return;
        }
        let (fault, length) =
            ground.chance("fault", |chance| (chance.one(FAULTS), chance.millis(500, 12_000)));
        begin(&ground, fault, length).await;
    }
}

async fn begin(ground: &Arc<Ground>, fault: Fault, length: Duration) {
    let mut chance = Chance::new(ground.chance("fault's own", |chance| chance.below(u64::MAX)), "fault");
    let nodes = ground.temper.nodes;
    let one = usize::try_from(chance.below(nodes as u64)).unwrap();
    let name = match fault {
        Fault::Crash => return crash(ground, one),
        Fault::Promotion => return promote(ground).await,
        Fault::PromotionAfterGrant => return promote_after_grant(ground, one).await,
        Fault::Split => "split",
        Fault::OneWay => "cut one way",
        Fault::AllAlone => "cut all from all",
        Fault::FromPeers => "cut from peers, not from the store",
        Fault::FromStore => "cut from the store, not from peers",
        Fault::Loss => "datagrams lost",
        Fault::DelaySpike => "delay spike",
        Fault::Double => "datagrams twice and in another order",
        Fault::Sleep if length > LEASE => "asleep past the lease",
        Fault::Sleep => "asleep",
        Fault::StoreRestart => "store restarted",
        Fault::StoreAway => "store away",
        Fault::StoreSlow => "store slow",
        Fault::StoreRefuses => "store out of memory",
    };
    ground.count(name);
    let troubles = troubles(fault, nodes, one, &mut chance);
    ground.line(&format!("FAULT {name} for {} ms: {troubles:?}", length.as_millis()));
    let length = if fault == Fault::StoreRestart { length / 6 } else { length };
    let numbers: Vec<_> = troubles.into_iter().map(|trouble| ground.net.begin(trouble)).collect();
    let ground = ground.clone();
    tokio::spawn(async move {
        tokio::time::sleep(length).await;
        if fault == Fault::StoreRestart {
            ground.group().restart();
        }
        for number in numbers {
            ground.net.end(number);
        }
        ground.line(&format!("{name} is over"));
    });
}

fn troubles(fault: Fault, nodes: usize, one: usize, chance: &mut Chance) -> Vec<Trouble> {
    let pairs = || (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))).filter(|(a, b)| a != b);
    let cuts = |is_cut: &dyn Fn(usize, usize) -> bool| {
        pairs().filter(|(from, to)| is_cut(*from, *to)).map(|(from, to)| Trouble::Cut(from, to)).collect()
    };
    match fault {
        Fault::Split => {
            let sides: Vec<_> = (0..nodes).map(|node| node != one && chance.per_mille(500)).collect();
            cuts(&|from, to| sides[from] != sides[to])
        }
        Fault::OneWay => {
            let out = chance.per_mille(500);
            cuts(&|from, to| if out { from == one } else { to == one })
        }
        Fault::AllAlone => cuts(&|_, _| true),
        Fault::FromPeers => cuts(&|from, to| from == one || to == one),
        Fault::FromStore => vec![Trouble::Store(one)],
        Fault::Loss => vec![Trouble::Loss(chance.within(50, 400))],
        Fault::DelaySpike => vec![Trouble::Slow(chance.millis(50, 900))],
        Fault::Double => vec![Trouble::Double(chance.within(100, 500))],
        Fault::Sleep => vec![Trouble::Asleep(one)],
        Fault::StoreAway | Fault::StoreRestart => vec![Trouble::StoreAway],
        Fault::StoreSlow => vec![Trouble::StoreSlow(chance.millis(20, 800))],
        Fault::StoreRefuses => vec![Trouble::StoreRefuses],
        Fault::Crash | Fault::Promotion | Fault::PromotionAfterGrant => Vec::new(),
    }
}

fn of(ground: &Ground, index: usize) -> Option<Arc<Running>> {
    ground.nodes().into_iter().find(|node| node.index == index)
}

fn crash(ground: &Ground, index: usize) {
    if let Some(node) = of(ground, index) {
        ground.count("crash");
        ground.line(&format!("CRASH n{index}"));
        node.life.end();
    }
}

/// The server is gone for a moment, and what takes its place may lack the end.
async fn promote(ground: &Arc<Ground>) {
    let away = ground.net.begin(Trouble::StoreAway);
    ground.group().promote();
    let pause = ground.chance("promotion", |chance| chance.millis(0, 600));
    tokio::time::sleep(pause).await;
    ground.net.end(away);
}

/// The same right after a node has got a shard, so that its epoch is lost.
async fn promote_after_grant(ground: &Arc<Ground>, index: usize) {
    let before: Vec<_> = ShardId::all().map(|shard| ground.group().holding(shard).epoch).collect();
    crash(ground, index);
    for _ in 0..400 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = ShardId::all().map(|shard| ground.group().holding(shard));
        let taken = now.zip(&before).any(|(now, before)| now.epoch > *before && now.node.is_some());
        if ground.is_quiet() {
            return;
        }
        if taken {
            return promote(ground).await;
        }
    }
}

/// The person who looks after shards that are suspect.
pub(crate) async fn look_after(ground: Arc<Ground>) {
    loop {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let holdings = ground.store().holdings().await.expect("the store itself never fails");
        for holding in holdings.into_iter().filter(|holding| holding.suspect.is_some()) {
            ground.count("operator: loss accepted");
            ground.store().accept(holding.shard).await.expect("the store itself never fails");
        }
    }
}

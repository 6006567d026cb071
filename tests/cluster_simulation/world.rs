//! A run: clients, readers, vendors, an operator, and nodes that are ended and started again while the network and the store are
//! troubled; then quiet, and what must hold in the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use syncline::journal::Journal as _;
use syncline_actors::id::ShardId;
use syncline_actors::placement::planner::Orders;
use tokio::sync::watch;

use crate::bugs::Bug;
use crate::chance::{Chance, Show, Trace};
use crate::checks;
use crate::ground::{BEGIN, Ground};
use crate::life::Life;
use crate::node::Running;
use crate::operator::operate;
use crate::plan::plan;
use crate::runner::Report;
use crate::{reader, vendor, weather};

/// How long after the last fault each shard may be without a holder.
const OWNED_WITHIN: Duration = Duration::from_secs(10);

/// How long after the last fault nodes may take to know each other.
const MET_WITHIN: Duration = Duration::from_secs(30);

/// How long what is due may wait.
const PROGRESS_WITHIN: Duration = Duration::from_secs(30);

/// One world from its beginning to its end, in time that costs none.
pub(crate) fn run(seed: u64, bug: Option<Bug>, show: Show) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime needs nothing but memory");
    let ground = {
        let _in_time = runtime.enter();
        Ground::new(seed, bug, show)
    };
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = ground.until_violated() => {}
                () = live(&ground) => {}
            }
        });
    }));
    if lived.is_err() {
        ground.violated("the world itself panics; the message is above".to_owned());
    }
    ground.forget_nodes();
    let lasted = ground.now().since(BEGIN);
    let report = |trace: &Trace| Report {
        seed,
        violation: ground.violation(),
        hash: trace.hash(),
        lines: trace.lines(),
        counts: trace.counts.clone(),
        lasted,
    };
    ground.trace(report)
}

async fn live(ground: &Arc<Ground>) {
    let mut chance = Chance::new(ground.seed, "plan");
    let (_orders, ordered) = watch::channel(Arc::new(Orders::default()));
    let keepers: Vec<_> = (0..ground.temper.nodes)
        .map(|index| tokio::spawn(keep(ground.clone(), index, ordered.clone())))
        .collect();
    plan(ground, &mut chance);
    let readers: Vec<_> = (0..2).map(|_| tokio::spawn(reader::read(ground.clone()))).collect();
    tokio::spawn(vendor::trouble_systems(ground.clone()));
    tokio::spawn(weather::blow(ground.clone()));
    tokio::spawn(weather::look_after(ground.clone()));
    tokio::spawn(operate(ground.clone()));
    tokio::spawn(tidy_up(ground.clone()));
    tokio::spawn(listen_for_alarms(ground.clone()));
    tokio::time::sleep(chance.millis(50_000, 110_000)).await;
    ground.be_quiet();
    heal(ground).await;
    if tokio::time::timeout(Duration::from_mins(30), settle(ground)).await.is_err() {
        return ground.violated(stuck(ground).await);
    }
    // Time to write again what a promotion lost, or to be loud.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let silent = ground.losses().silent().cloned();
    if let Some((entity, seq)) = silent {
        ground.violated(format!(
            "I12: {entity}#{seq} was acknowledged, its node lives, and it is gone in silence"
        ));
    }
    for reader in readers {
        reader.abort();
    }
    for keeper in keepers {
        keeper.abort();
    }
    close(ground).await;
    last_look(ground).await;
}

// ---- what goes on ----

/// Keeps a node running: starts one, ends it at a time or by a crash, and starts the next.
async fn keep(ground: Arc<Ground>, index: usize, orders: watch::Receiver<Arc<Orders>>) {
    let late = ground.chance("first start", |chance| chance.millis(0, 3_000));
    tokio::time::sleep(late).await;
    for boot in 1.. {
        let life = Life::new(ground.clone());
        let starting = Running::start(&ground, life.clone(), (index, boot), orders.clone());
        let started = tokio::select! {
            biased;
            () = life.until_over() => None,
            // Whoever supervises the process ends it when it does not come up.
            started = tokio::time::timeout(Duration::from_secs(15), starting) => {
                Some(started.unwrap_or_else(|_| Err("it took too long".to_owned())))
            }
        };
        match started {
            Some(Ok(running)) => {
                let running = Arc::new(running);
                ground.line(&format!("n{index}#{boot} runs"));
                ground.set_node(index, Some(running.clone()));
                let lifetime = ground.chance("lifetime", |chance| chance.millis(20_000, 120_000));
                tokio::select! {
                    biased;
                    () = life.until_over() => {}
                    () = lifetime_over(&ground, lifetime) => stop(&ground, &running).await,
                }
                ground.set_node(index, None);
                running.crash().await;
            }
            Some(Err(why)) => ground.line(&format!("n{index}#{boot} does not start: {why}")),
            None => {}
        }
        life.end();
        let downtime = ground.chance("downtime", |chance| chance.millis(0, 4_000));
        tokio::time::sleep(downtime).await;
    }
}

async fn lifetime_over(ground: &Ground, lifetime: Duration) {
    tokio::time::sleep(lifetime).await;
    if ground.is_quiet() {
        std::future::pending::<()>().await;
    }
}

/// Ends a node in order, while its clients go on; a crash may come in between.
async fn stop(ground: &Ground, running: &Running) {
    ground.count("restart in order");
    ground.line(&format!("n{} drains", running.index));
    tokio::select! {
        biased;
        () = running.life.until_over() => {}
        drained = running.drain() => ground.line(&format!("n{} has drained: {drained}", running.index)),
    }
}

/// Has the store throw away what is past its time, now and then.
async fn tidy_up(ground: Arc<Ground>) {
    loop {
        let pause = ground.chance("tidy", |chance| chance.millis(5_000, 30_000));
        tokio::time::sleep(pause).await;
        if let Some(node) = ground.node() {
            tokio::select! {
                biased;
                () = node.life.until_over() => {}
                () = node.compact() => {}
            }
        }
    }
}

/// What is lost must be loud.
async fn listen_for_alarms(ground: Arc<Ground>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let overdue = ground.losses().overdue(ground.now());
        if let Some(shard) = overdue {
            ground.violated(format!("I12: {shard} has lost what was acknowledged, and nobody is told"));
        }
    }
}

// ---- after the last fault ----

/// Each shard finds a holder, and the nodes find each other.
async fn heal(ground: &Arc<Ground>) {
    let mut lacking: BTreeSet<_> = ShardId::all().collect();
    if tokio::time::timeout(OWNED_WITHIN, all_owned(ground, &mut lacking)).await.is_err() {
        return ground.violated(format!(
            "I14: {OWNED_WITHIN:?} after the last fault these have no holder: {lacking:?}"
        ));
    }
    let met = async {
        while !all_met(ground) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(MET_WITHIN, met).await.is_err() {
        let known: Vec<_> = ground.nodes().iter().map(|node| (node.index, known(node))).collect();
        ground.violated(format!(
            "I14: {MET_WITHIN:?} after the last fault nodes do not know each other: {known:?}"
        ));
    }
}

async fn all_owned(ground: &Ground, lacking: &mut BTreeSet<ShardId>) {
    loop {
        let nodes = ground.nodes();
        lacking.retain(|shard| {
            let epoch = ground.group().holding(*shard).epoch;
            !nodes.iter().any(|node| node.host().epoch(*shard) == Some(epoch))
        });
        if lacking.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn known(node: &Running) -> Vec<(String, u64)> {
    node.cluster().members().iter().map(|member| (member.card.node.to_string(), member.boot)).collect()
}

fn all_met(ground: &Ground) -> bool {
    let nodes = ground.nodes();
    let all: Vec<_> = nodes.iter().map(|node| (format!("n{}", node.index), node.boot)).collect();
    nodes.len() == ground.temper.nodes && nodes.iter().all(|node| known(node) == all)
}

/// Waits until everybody has an answer, nothing waits to leave, and nobody needs to look.
async fn settle(ground: &Ground) {
    let began = ground.now();
    loop {
        tokio::time::sleep(Duration::from_millis(700)).await;
        if unsettled(ground).await.is_none() {
            return;
        }
        if ground.now().since(began) > PROGRESS_WITHIN {
            in_time(ground).await;
        }
    }
}

/// Nothing that is due waits for long.
async fn in_time(ground: &Ground) {
    let now = ground.now();
    let long_ago =
        syncline_actors::time::Timestamp(now.0 - i64::try_from(PROGRESS_WITHIN.as_millis()).unwrap());
    let entities: Vec<_> = ground.book().entities.keys().cloned().collect();
    for entity in entities {
        let rows = ground.store().outbox_of(&entity).await.expect("the store itself never fails");
        if let Some(row) = rows.iter().find(|row| row.progress.due < long_ago) {
            let (effect, due) = (row.effect.id, row.progress.due);
            ground.violated(format!("I14: {effect} of {entity} was due at {due} and still waits at {now}"));
        }
    }
}

async fn unsettled(ground: &Ground) -> Option<String> {
    let open = ground.notes().open;
    let waiting = outbox(ground).await;
    let now = ground.now();
    let late = {
        let book = ground.book();
        let timers = book.entities.values().flat_map(|kept| kept.state.timers.values());
        timers.filter(|(_, due)| *due <= now).count()
    };
    let exceptions = ground.exceptions().await.len();
    let all = open == 0 && waiting.is_empty() && late == 0 && exceptions == 0;
    (!all).then(|| {
        format!("{open} messages without an ack, {waiting:?}, {late} timers, {exceptions} exceptions")
    })
}

async fn stuck(ground: &Ground) -> String {
    let why = unsettled(ground).await.unwrap_or_default();
    format!("I14: 30 minutes after the last fault something does not move: {why}")
}

// ---- the end ----

/// Ends one node after the other in order: nothing is in the way, so all that it has finds another node, and the last ends too.
async fn close(ground: &Arc<Ground>) {
    let nodes = ground.nodes();
    let last = nodes.len().saturating_sub(1);
    for (place, node) in nodes.iter().enumerate() {
        ground.set_node(node.index, None);
        let drained = node.drain().await;
        if !drained && place < last {
            ground.violated(format!("n{}, without faults, does not drain in time", node.index));
        }
        node.crash().await;
    }
}

/// What must hold in the end.
async fn last_look(ground: &Arc<Ground>) {
    // What only nodes that are gone knew.
    let short = ground.losses().short();
    for (entity, left) in short {
        ground.give_up(&entity, left);
    }
    let checked = ground.notes().check(&ground.book());
    ground.check(checked);
    store_is_the_book(ground).await;
    checks::overdue(ground);
    checks::effects(ground, &outbox(ground).await);
}

async fn outbox(ground: &Ground) -> BTreeSet<String> {
    let entities: Vec<_> = ground.book().entities.keys().cloned().collect();
    let mut keys = BTreeSet::new();
    for entity in entities {
        let rows = ground.store().outbox_of(&entity).await.expect("the store itself never fails");
        keys.extend(rows.iter().map(|row| row.effect.id.idempotency_key(&entity)));
    }
    keys
}

async fn store_is_the_book(ground: &Ground) {
    let entities: Vec<_> = ground.book().entities.keys().cloned().collect();
    for entity in entities {
        let loaded = ground.store().load(&entity).await.expect("the store itself never fails");
        let stored =
            ground.store().records(&entity, 1, usize::MAX).await.expect("the store itself never fails");
        let book = ground.book();
        let checked = checks::is_kept(&entity, &book.entities[&entity], &loaded, &stored);
        drop(book);
        ground.check(checked);
    }
}

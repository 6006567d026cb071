//! A run: clients, vendors, an operator, and a node that is ended and started again; then quiet, and what must hold in the end.

use std::sync::Arc;
use std::time::Duration;

use syncline::journal::Journal as _;

use crate::bugs::Bug;
use crate::chance::{Chance, Show, Trace};
use crate::checks;
use crate::ground::{BEGIN, Ground};
use crate::life::Life;
use crate::node::Running;
use crate::operator::operate;
use crate::plan::plan;
use crate::runner::Report;
use crate::vendor;

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
    ground.set_node(None);
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
    let keeper = tokio::spawn(keep(ground.clone()));
    let mut chance = Chance::new(ground.seed, "plan");
    plan(ground, &mut chance);
    tokio::spawn(vendor::trouble_systems(ground.clone()));
    tokio::spawn(operate(ground.clone()));
    tokio::spawn(tidy_up(ground.clone()));
    tokio::time::sleep(chance.millis(40_000, 90_000)).await;
    ground.be_quiet();
    if tokio::time::timeout(Duration::from_mins(30), settle(ground)).await.is_err() {
        return ground.violated(stuck(ground).await);
    }
    keeper.abort();
    close(ground).await;
    last_look(ground).await;
}

// ---- what goes on ----

/// Keeps a node running: starts one, ends it at a time or by a crash, and starts the next.
async fn keep(ground: Arc<Ground>) {
    loop {
        let life = Life::new(ground.clone());
        let started = tokio::select! {
            biased;
            () = life.until_over() => None,
            // Whoever supervises the process ends it when it does not come up.
            started = tokio::time::timeout(Duration::from_secs(15), Running::start(&ground, life.clone())) => {
                Some(started.unwrap_or_else(|_| Err("it took too long".to_owned())))
            }
        };
        match started {
            Some(Ok(running)) => {
                let running = Arc::new(running);
                ground.line("a node runs");
                ground.set_node(Some(running.clone()));
                let lifetime = ground.chance("lifetime", |chance| chance.millis(5_000, 60_000));
                tokio::select! {
                    biased;
                    () = life.until_over() => {}
                    () = lifetime_over(&ground, lifetime) => {
                        if ground.chance("end", |chance| chance.per_mille(300)) {
                            leave_behind(&ground, running);
                            continue;
                        }
                        stop(&ground, &running).await;
                    }
                }
                ground.set_node(None);
                running.crash().await;
            }
            Some(Err(why)) => ground.line(&format!("the node does not start: {why}")),
            None => {}
        }
        life.end();
        let downtime = ground.chance("downtime", |chance| chance.millis(0, 3_000));
        tokio::time::sleep(downtime).await;
    }
}

async fn lifetime_over(ground: &Ground, lifetime: Duration) {
    tokio::time::sleep(lifetime).await;
    if ground.is_quiet() {
        std::future::pending::<()>().await;
    }
}

/// Begins the next node while the old one does not know yet that it is not wanted any more.
fn leave_behind(ground: &Arc<Ground>, running: Arc<Running>) {
    ground.count("two nodes at once");
    ground.line("a node is left behind");
    let pause = ground.chance("left behind", |chance| chance.millis(100, 8_000));
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        running.crash().await;
    });
}

/// Ends a node in order, while its clients go on; a crash may come in between.
async fn stop(ground: &Ground, running: &Running) {
    ground.count("restart in order");
    ground.line("the node drains");
    tokio::select! {
        biased;
        () = running.life.until_over() => {}
        drained = running.drain() => ground.line(&format!("the node has drained: {drained}")),
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

// ---- the end ----

/// Waits until everybody has an answer, nothing waits to leave, and nobody needs to look.
async fn settle(ground: &Ground) {
    loop {
        tokio::time::sleep(Duration::from_millis(700)).await;
        if unsettled(ground).await.is_none() {
            return;
        }
    }
}

async fn unsettled(ground: &Ground) -> Option<String> {
    let open = ground.notes().open;
    let waiting = ground.memory.depths().await.expect("the store itself never fails");
    let late = ground.memory.due_timers(ground.now(), 10).await.expect("the store itself never fails");
    let exceptions = ground.exceptions().await.len();
    let all = open == 0 && waiting.is_empty() && late.is_empty() && exceptions == 0;
    (!all).then(|| {
        format!("{open} messages without an ack, {waiting:?}, timers {late:?}, {exceptions} exceptions")
    })
}

async fn stuck(ground: &Ground) -> String {
    let why = unsettled(ground).await.unwrap_or_default();
    format!("I14: 30 minutes after the last fault something does not move: {why}")
}

/// Ends the node in order, starts one more, and compares what it says with the book.
async fn close(ground: &Arc<Ground>) {
    if let Some(node) = ground.node() {
        if !node.drain().await {
            ground.violated("a node without faults does not drain in time".to_owned());
        }
        node.crash().await;
    }
    ground.set_node(None);
    let fresh = match Running::start(ground, Life::new(ground.clone())).await {
        Ok(fresh) => fresh,
        Err(why) => return ground.violated(format!("a node without faults does not start: {why}")),
    };
    let states: Vec<_> =
        ground.book().entities.iter().map(|(id, kept)| (id.clone(), kept.state.clone())).collect();
    for (id, expected) in states {
        match fresh.host().state(&id).await {
            // Its timers may have moved it on since.
            Ok(Some(state)) if state == expected || state.seq > expected.seq => {}
            other => ground.violated(format!("I7: {id} is {other:?}, its records give {expected:?}")),
        }
    }
    fresh.crash().await;
}

/// What must hold in the end.
async fn last_look(ground: &Arc<Ground>) {
    let checked = ground.notes().check(&ground.book());
    ground.check(checked);
    store_is_the_book(ground).await;
    checks::overdue(ground);
    let outbox = outbox(ground).await;
    checks::effects(ground, &outbox);
}

async fn outbox(ground: &Ground) -> std::collections::BTreeSet<String> {
    let entities: Vec<_> = ground.book().entities.keys().cloned().collect();
    let mut keys = std::collections::BTreeSet::new();
    for entity in entities {
        let rows = ground.memory.outbox_of(&entity).await.expect("the store itself never fails");
        keys.extend(rows.iter().map(|row| row.effect.id.idempotency_key(&entity)));
    }
    keys
}

/// What the store holds is what has landed, and its snapshots with their tails give what the records give from empty.
async fn store_is_the_book(ground: &Ground) {
    let entities: Vec<_> = ground.book().entities.keys().cloned().collect();
    for entity in entities {
        let loaded = ground.memory.load(&entity).await.expect("the store itself never fails");
        let stored =
            ground.memory.records(&entity, 1, usize::MAX).await.expect("the store itself never fails");
        let book = ground.book();
        let checked = checks::is_kept(&entity, &book.entities[&entity], &loaded, &stored);
        drop(book);
        ground.check(checked);
    }
}

//! A run: clients, vendors, an operator, and a node that is ended and started again; then quiet, and what must hold in the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use syncline::codec;
use syncline::host::Lane;
use syncline::journal::{ExceptionFilter, Journal as _, Loaded};
use syncline_actors::decision::{ExceptionClass, Verdict};
use syncline_actors::entity::State;
use syncline_actors::envelope::{Action, Body, Command, Event, Intervention, OutcomeClass};
use syncline_actors::id::EntityId;
use syncline_actors::outbox::ExceptionRow;
use syncline_actors::value::Value;

use crate::book::Kept;
use crate::bugs::Bug;
use crate::chance::{Chance, Show, Trace};
use crate::client::{Op, perform};
use crate::ground::{Ground, Life};
use crate::node::Running;
use crate::vendor;

/// What a run has come to.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// What was not as it must be.
    pub(crate) violation: Option<String>,
    pub(crate) hash: u64,
    /// What happened, the last of it or all.
    pub(crate) lines: Vec<String>,
    pub(crate) counts: std::collections::BTreeMap<&'static str, u64>,
}

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
    let report = |trace: &Trace| Report {
        seed,
        violation: ground.violation(),
        hash: trace.hash(),
        lines: trace.lines(),
        counts: trace.counts.clone(),
    };
    ground.trace(report)
}

async fn live(ground: &Arc<Ground>) {
    let keeper = tokio::spawn(keep(ground.clone()));
    let mut chance = Chance::new(ground.seed, "plan");
    plan(ground, &mut chance);
    tokio::spawn(trouble_systems(ground.clone()));
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

/// Takes systems down for a while.
async fn trouble_systems(ground: Arc<Ground>) {
    if ground.temper.vendor == 0 {
        return;
    }
    loop {
        let (pause, length, which) = ground.chance("outage", |chance| {
            (
                chance.millis(5_000, 60_000),
                chance.millis(1_000, 15_000),
                chance.one(&["shop", "bank", "post"]),
            )
        });
        tokio::time::sleep(pause).await;
        if ground.is_quiet() {
            return;
        }
        ground.count("vendor: outage");
        ground.line(&format!("{which} goes down"));
        let until = ground.now().plus(length);
        ground.ledger().take_down(which, until);
    }
}

// ---- those who send ----

fn event(name: &str, data: Value) -> Body {
    Body::Event(Event { name: name.into(), data })
}

fn command(name: &str) -> Body {
    Body::Command(Command { name: name.into(), data: Value::Null })
}

fn op(entity: &EntityId, id: String, body: Body) -> Op {
    Op { entity: entity.clone(), source: "shop", id, body, lane: Lane::Outside }
}

fn order(number: u64) -> EntityId {
    EntityId::new("order", &format!("O-{number}")).expect("a legal key")
}

/// Starts the clients.
fn plan(ground: &Arc<Ground>, chance: &mut Chance) {
    for number in 0..ground.temper.entities {
        let (entity, key) = (order(number), format!("O-{number}"));
        let placed = |id: &str, risky| {
            let data = Value::map([
                ("reference", Value::from(format!("R-{number}"))),
                ("risky", Value::Bool(risky)),
            ]);
            op(&entity, format!("{key}-{id}"), event("order.placed", data))
        };
        let noted = |id: &str, n: u64| {
            let data = Value::map([("n", Value::Int(i64::try_from(n).unwrap()))]);
            op(&entity, format!("{key}-{id}-{n}"), event("order.noted", data))
        };
        let shipped = |id: &str| {
            let data = Value::map([("parcel", Value::from(format!("P-{number}")))]);
            op(&entity, format!("{key}-{id}"), event("parcel.shipped", data))
        };
        let risky = chance.per_mille(250);
        let mut first = vec![placed("placed", risky)];
        first.extend((0..chance.below(5)).map(|n| noted("a", n)));
        if chance.per_mille(400) {
            first.push(op(&entity, format!("{key}-released"), command("order.released")));
        }
        let cancel = op(&entity, format!("{key}-cancel"), command("order.cancel"));
        match chance.below(4) {
            0 => first.push(cancel),
            1 => client(ground, chance, vec![cancel], 60_000),
            _ => {}
        }
        client(ground, chance, first, 20_000);
        client(ground, chance, vec![placed("placed-again", risky)], 60_000);
        let second = (0..chance.below(8)).map(|n| noted("b", n)).collect();
        client(ground, chance, second, 30_000);
        let mut last = vec![shipped("shipped")];
        if chance.per_mille(500) {
            last.push(shipped("shipped-again"));
        }
        client(ground, chance, last, 60_000);
        if chance.per_mille(200) {
            let at = chance.within(0, 40_000);
            for n in 0..chance.within(5, 40) {
                start(ground, Duration::from_millis(at), vec![noted("burst", n)]);
            }
        }
    }
}

fn client(ground: &Arc<Ground>, chance: &mut Chance, ops: Vec<Op>, latest: u64) {
    start(ground, chance.millis(0, latest), ops);
}

/// Starts a client that tells `ops` one after the other.
fn start(ground: &Arc<Ground>, after: Duration, ops: Vec<Op>) {
    let ground = ground.clone();
    ground.notes().open += 1;
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        for op in ops {
            perform(ground.clone(), op).await;
            let pause = ground.chance("pause", |chance| chance.millis(0, 3_000));
            tokio::time::sleep(pause).await;
        }
        ground.notes().open -= 1;
    });
}

// ---- the operator ----

/// Looks at the exceptions now and then, and does what a careful person would.
async fn operate(ground: Arc<Ground>) {
    let mut number = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        for row in exceptions(&ground).await {
            // What is under way at a vendor has had its effect by then.
            if ground.now().since(row.opened_at) < Duration::from_secs(10) {
                continue;
            }
            number += 1;
            let action = act(&ground, &row);
            ground.count("operator");
            let reason = row.exception.class.word().into();
            let body = Body::Intervention(Intervention { by: "operator".into(), reason, action });
            let op = Op {
                entity: row.entity.clone(),
                source: "operator",
                id: format!("i-{number}"),
                body,
                lane: Lane::Inside,
            };
            let answer = perform(ground.clone(), op).await;
            if let Verdict::Rejected(why) = answer.verdict {
                ground.line(&format!("the operator is told: {why}"));
            }
        }
    }
}

/// Open exceptions, those of quarantined messages left out.
async fn exceptions(ground: &Ground) -> Vec<ExceptionRow> {
    let filter =
        ExceptionFilter { kind: Some("order".to_owned()), limit: 1000, ..ExceptionFilter::default() };
    ground.memory.exceptions(&filter).await.expect("the store itself never fails")
}

fn act(ground: &Ground, row: &ExceptionRow) -> Action {
    let exception = row.exception.number;
    let key = row.exception.effect.map(|effect| effect.idempotency_key(&row.entity));
    let applied = key.as_deref().is_some_and(|key| ground.ledger().applied(key) > 0);
    let by_hand = |result| Action::Resolve { exception, result };
    match (row.exception.class, key) {
        (ExceptionClass::DeadLetter | ExceptionClass::Compensation, Some(key)) if applied => {
            by_hand(Value::map([("id", Value::from(vendor::result(&key)))]))
        }
        (ExceptionClass::Failure, Some(_)) => by_hand(Value::map([("id", Value::from("by hand"))])),
        (ExceptionClass::Hold | ExceptionClass::DeadLetter | ExceptionClass::Compensation, _) => {
            Action::Retry { exception, set: Value::Null }
        }
        _ => by_hand(Value::Null),
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
    let exceptions = exceptions(ground).await.len();
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
    overdue(ground);
    let outbox = outbox(ground).await;
    let (ledger, book) = (ground.ledger(), ground.book());
    for (key, known) in &book.effects {
        let (applied, calls) = (ledger.applied(key), ledger.calls(key));
        let holds = match known.ended {
            None => outbox.contains(key),
            Some(OutcomeClass::Ok) => applied == 1 && calls >= 1,
            Some(OutcomeClass::Failed) => applied == 0 && calls >= 1,
            Some(OutcomeClass::Cancelled) => applied == 0,
            Some(OutcomeClass::Dead) => applied <= 1,
        };
        if !holds {
            let ended = known.ended;
            ground.violated(format!(
                "I8: {key} ended {ended:?}, was sent {calls} times and applied {applied} times"
            ));
        }
    }
    for key in ledger.keys().filter(|key| !book.effects.contains_key(*key)) {
        ground.violated(format!("I8: {key} was applied, and no record has emitted it"));
    }
}

/// A timer that runs by its entity's records is not long overdue, whatever the store lists.
fn overdue(ground: &Ground) {
    let now = ground.now();
    let book = ground.book();
    let timers =
        book.entities.iter().flat_map(|(id, kept)| kept.state.timers.iter().map(move |timer| (id, timer)));
    for (id, (name, (_, due))) in timers {
        if now.since(*due) > Duration::from_secs(10) {
            ground.violated(format!("I10: {name} of {id} was due at {due} and has not fired at {now}"));
        }
    }
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
        let checked = is_kept(&entity, &book.entities[&entity], &loaded, &stored);
        drop(book);
        ground.check(checked);
    }
}

fn is_kept(entity: &EntityId, kept: &Kept, loaded: &Loaded, stored: &[Bytes]) -> Result<(), String> {
    let decode = |frame: &Bytes| codec::decode_record(frame).map_err(|why| format!("I4: {entity}: {why}"));
    let stored = stored.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    let folded = loaded.snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
    // Compaction takes records that are in a snapshot, from the first on.
    let gone = kept.records.len().checked_sub(stored.len()).filter(|gone| *gone as u64 <= folded);
    if gone.is_none_or(|gone| kept.records[gone..] != stored[..]) {
        let (landed, stored) = (kept.records.len(), stored.len());
        return Err(format!("I1: of {landed} records of {entity} the store has {stored}, or others"));
    }
    let mut state = State::default();
    if let Some(snapshot) = &loaded.snapshot {
        state = codec::decode_state(&snapshot.frame).map_err(|why| format!("I7: {entity}: {why}"))?;
    }
    for frame in &loaded.tail {
        state.fold(&decode(frame)?);
    }
    if codec::encode_state(&state) == codec::encode_state(&kept.state) {
        Ok(())
    } else {
        Err(format!("I7: {entity} from its snapshot is not what its records give"))
    }
}

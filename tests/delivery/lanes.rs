//! What can wait never stands in the way of what cannot, within one connector's budget and in its part of the store.

use std::collections::BTreeSet;

use syncline_actors::class::Latency;

use crate::world::{World, answer, ms};

const CALL: u64 = 100;

/// Four calls at a time, of 100 ms each: what is urgent has one for itself.
fn contract(more: &str) -> String {
    format!(
        "connector: erp\nowner: {{team: erp, escalate: erp-desk}}\nbase_url: http://127.0.0.1:7700/erp\nauth: {{scheme: none}}\nlimits: {{concurrency: 4}}\n{more}\
         operations:\n  put:\n    method: PUT\n    path: \"/orders/{{input.id}}\"\n    headers: {{Idempotency-Key: key}}\n    idempotency: header\n    uncertain: resend\n"
    )
}

const PUT: &[(&str, &str)] = &[("erp", "put")];

async fn world(more: &str) -> World {
    let world = World::running(&[&contract(more)]).await;
    world.vendor.behave(|_| (ms(CALL), answer(200, "{}")));
    world
}

/// How long after `since` the call about `key` began, in milliseconds.
fn waited(world: &World, key: &str, since: i64) -> i64 {
    let url = format!("/orders/{key}");
    let call = world.vendor.calls().into_iter().find(|call| call.url.ends_with(&url)).expect("it was called");
    i64::try_from(call.at).expect("a small number") - since
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_a_hundred_thousand_does_not_delay_what_is_urgent() {
    let world = world("").await;
    for n in 0..100_000 {
        world.emit_as(&format!("B-{n}"), PUT, Latency::Batch).await;
    }
    world.vendor.called(100).await;
    let mut worst = 0;
    for n in 0..50 {
        let (key, now) = (format!("R-{n}"), world.now());
        world.emit_as(&key, PUT, Latency::Realtime).await;
        tokio::time::sleep(ms(170)).await;
        worst = worst.max(waited(&world, &key, now));
    }
    assert!(worst <= 10, "a call of its own was free, and it waited for {worst} ms");
    let batch = world.vendor.calls().iter().filter(|call| call.url.contains("/B-")).count();
    assert!(batch > 200, "the backlog goes on meanwhile: {batch}");
}

#[tokio::test(start_paused = true)]
async fn what_can_wait_is_not_starved() {
    let world = world("").await;
    for n in 0..200 {
        world.emit_as(&format!("R-{n}"), PUT, Latency::Realtime).await;
    }
    world.emit_as("B-1", PUT, Latency::Batch).await;
    world.emit_as("M-1", PUT, Latency::Minutes).await;
    world.outcomes(202).await;
    let place = |key: &str| world.vendor.calls().iter().position(|call| call.url.ends_with(key)).unwrap();
    assert!(place("/M-1") < 16 && place("/B-1") < 40, "{} {}", place("/M-1"), place("/B-1"));
}

#[tokio::test(start_paused = true)]
async fn after_a_start_the_store_gives_what_is_urgent_first() {
    let mut world = world("").await;
    world.crash();
    for n in 0..3_000 {
        world.journal_effects_as(&format!("B-{n}"), PUT, Latency::Batch).await;
    }
    world.journal_effects_as("R-1", PUT, Latency::Realtime).await;
    world.start().await;
    let now = world.now();
    world.vendor.called(8).await;
    assert!(waited(&world, "R-1", now) <= 10);
}

#[tokio::test(start_paused = true)]
async fn what_must_leave_before_something_urgent_is_urgent_itself() {
    let world = world("ordered: true\n").await;
    for n in 0..2_000 {
        world.emit_as(&format!("B-{n}"), PUT, Latency::Batch).await;
    }
    world.vendor.called(3).await;
    world.emit_as("SO-1", PUT, Latency::Batch).await;
    let now = world.now();
    let urgent = world.emit_as("SO-1", PUT, Latency::Realtime).await.remove(0);
    let key = format!("order:SO-1:{}", urgent.effect.id);
    loop {
        tokio::time::sleep(ms(CALL)).await;
        let calls = world.vendor.calls();
        let of: Vec<_> = calls.iter().filter(|call| call.url.ends_with("/SO-1")).collect();
        if of.len() == 2 {
            assert_eq!(of[1].key.as_deref(), Some(key.as_str()), "in the order in which they were decided");
            assert!(of[1].at < u64::try_from(now).unwrap() + 5 * CALL, "{of:?}");
            return;
        }
        assert!(world.now() < now + 60_000, "it waits behind the backlog");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_keeps_its_lane_over_a_restart() {
    let mut world = World::new(&[&contract("retry: {base: 10s, cap: 10s, within: 1h, attempts_max: 9}\n")]);
    world.vendor.behave(|_| (ms(10), answer(425, "")));
    world.start().await;
    world.emit_as("B-1", PUT, Latency::Batch).await;
    world.vendor.called(1).await;
    tokio::time::sleep(ms(100)).await;
    let waiting = world.depths().await;
    assert_eq!(waiting.keys().cloned().collect::<BTreeSet<_>>(), BTreeSet::from(["erp~batch".to_owned()]));
    world.crash();
    world.vendor.behave(|_| (ms(10), answer(200, "{}")));
    world.start().await;
    world.outcome().await;
    assert!(world.depths().await.is_empty());
}

//! Effects out: what each answer means, what is tried again and when, and what is never done twice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "delivery/lanes.rs"]
mod lanes;
#[path = "delivery/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use syncline::clock::Clock as _;
use syncline::delivery::{Breakers, ConnectorStatus, Delivery, MailboxError};
use syncline::journal::Journal as _;
use syncline::journal::memory::FaultAction;
use syncline_actors::envelope::{Outcome, OutcomeClass};
use syncline_actors::value::Value;
use world::{World, answer, answer_with, lost, ms, unsent};

/// `create` is probed, `put` is sent again, `post` is left to a person, `zuora` is sent again while its key is kept.
const ERP: &str = r#"
connector: erp
owner: {team: erp-team}
base_url: http://127.0.0.1:7700/erp/
auth: {scheme: none}
limits: {concurrency: 2}
retry: {base: 200ms, cap: 60s, within: 1h, attempts_max: 5}
operations:
  create:
    method: POST
    path: "/orders/{input.id}"
    headers: {Idempotency-Key: key}
    idempotency: header
    uncertain: probe
    outcomes:
      - {when: "status == 200 && body.errors != []", is: failed, detail: "body.errors[0]"}
      - {when: "status in [200, 201]", is: ok, result: {id: body.id}}
      - {when: "status == 400 && body.title == 'Conflict'", is: ok, detail: duplicate, result: {id: input.id}}
      - {when: "status == 503", is: busy}
    probe:
      method: GET
      path: /orders
      query: {external: input.id}
      headers: {Idempotency-Key: key}
      found: "status == 200 && size(body.items) > 0"
      absent: "status == 404 || (status == 200 && size(body.items) == 0)"
      result: {id: "body.items[0]"}
      after: 1s
  put: &put
    method: PUT
    path: "/orders/{input.id}"
    headers: {Idempotency-Key: key}
    idempotency: header
    uncertain: resend
  post:
    method: POST
    path: /orders
    headers: {Idempotency-Key: key}
    uncertain: hold
  zuora:
    method: POST
    path: /zuora
    headers: {Idempotency-Key: key}
    idempotency: header
    uncertain: resend
    key_kept: 10m
"#;

fn erp() -> String {
    ERP.replace("&put", "")
}

/// The same contract under another name, with other lines.
fn erp_with(changes: &[(&str, &str)]) -> String {
    let mut text = erp();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

const PUT: &[(&str, &str)] = &[("erp", "put")];
const CREATE: &[(&str, &str)] = &[("erp", "create")];
const POST: &[(&str, &str)] = &[("erp", "post")];

/// The outcome of one effect when the system gives these answers in turn, the last for ever.
async fn outcome_of(operation: &str, answers: Vec<world::Answered>) -> (World, Outcome) {
    let world = World::running(&[&erp()]).await;
    let mut turn = 0;
    world.vendor.behave(move |_| {
        let answer = answers[turn.min(answers.len() - 1)].clone();
        turn += 1;
        (ms(10), answer)
    });
    world.emit("SO-1", &[("erp", operation)]).await;
    let outcome = world.outcome().await;
    (world, outcome)
}

fn field(value: &Value, name: &str) -> String {
    let Value::Map(map) = value else { panic!("{value:?}") };
    match &map[name] {
        Value::Text(text) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_leaves_at_once_with_its_key_and_its_input_and_comes_back_as_an_outcome() {
    let (world, outcome) = outcome_of("create", vec![answer(201, r#"{"id":"N-1"}"#)]).await;
    assert_eq!((outcome.class, outcome.status, outcome.attempts), (OutcomeClass::Ok, Some(201), 1));
    assert_eq!(field(&outcome.result, "id"), "N-1");
    let call = world.vendor.calls().remove(0);
    assert_eq!(call.url, "http://127.0.0.1:7700/erp/orders/SO-1");
    assert_eq!(call.key.as_deref(), Some("order:SO-1:1.0"));
    assert_eq!(call.body, r#"{"id":"SO-1","n":1.50}"#, "numbers stay as they were");
    let envelope = world.envelopes(1).await.remove(0);
    assert_eq!((&*envelope.source, envelope.remember_ms), ("delivery", None));
    assert_eq!(envelope.causation_id.as_deref(), Some("1.0"));
    assert_eq!(&*envelope.correlation_id, "flow-1");
    assert_eq!(world.vendor.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_its_meaning() {
    use OutcomeClass::{Dead, Failed, Ok};
    let json = r#"{"id":"N-2"}"#;
    for (operation, given, class, detail, attempts) in [
        ("put", answer(200, json), Ok, "", 1),
        ("put", answer(204, ""), Ok, "", 1),
        ("put", answer(404, "no"), Failed, "answered 404: no", 1),
        ("put", answer(302, ""), Failed, "redirects are not followed", 1),
        ("put", answer(401, ""), Dead, "credentials were refused", 5),
        ("put", answer(408, ""), Dead, "gave up after 5 attempts; it may have been applied", 5),
        ("put", answer(500, "oops"), Dead, "answered 500: oops", 5),
        ("put", answer(425, ""), Dead, "gave up after 5 attempts (", 5),
        ("put", answer(429, ""), Dead, "gave up after 5 attempts (", 5),
        ("put", lost(), Dead, "it may have been applied (no answer: cut)", 5),
        ("put", unsent(), Dead, "gave up after 5 attempts (not sent: refused)", 5),
        ("create", answer(400, r#"{"title":"Conflict"}"#), Ok, "duplicate", 1),
        ("create", answer(400, "not json"), Failed, "answered 400: not json", 1),
        ("create", answer(200, r#"{"errors":["bad tax class"]}"#), Failed, "bad tax class", 1),
        ("create", answer(201, r#"{"no":"id"}"#), Dead, "the system did it (status 201)", 1),
        ("create", answer(503, ""), Dead, "gave up after 5 attempts (", 5),
        ("post", lost(), Dead, "it may have been applied, and erp cannot be asked", 1),
        ("post", answer(500, ""), Dead, "it may have been applied, and erp cannot be asked", 1),
        ("post", unsent(), Dead, "gave up after 5 attempts (not sent", 5),
        ("nothing", unsent(), Dead, "connector `erp` has no operation `nothing`", 0),
    ] {
        let (_, outcome) = outcome_of(operation, vec![given.clone()]).await;
        assert_eq!(
            (outcome.class, outcome.attempts),
            (class, attempts),
            "{operation} {given:?}: {outcome:?}"
        );
        assert!(outcome.detail.contains(detail), "{operation} {given:?}: {}", outcome.detail);
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_that_cannot_be_read_is_not_taken_for_one() {
    // The first rule of the contract asks `body.errors`, which a page of HTML does not have.
    let (world, outcome) = outcome_of(
        "create",
        vec![answer(200, "<html>login</html>"), answer(404, ""), answer(201, r#"{"id":"N-1"}"#)],
    )
    .await;
    assert_eq!((outcome.class, outcome.attempts), (OutcomeClass::Ok, 2));
    assert_eq!(world.vendor.operations(), ["create", "create probe", "create"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_cut_is_not_read_as_a_whole_one() {
    let cut = answer(200, r#"{"id":"N-1"}"#).map(|mut response| {
        response.cut = true;
        response
    });
    let (_, outcome) = outcome_of("put", vec![cut]).await;
    assert_eq!((outcome.class, outcome.result), (OutcomeClass::Ok, Value::Null));
    assert!(outcome.detail.contains("cut"), "{}", outcome.detail);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_within_their_bounds_and_repeat_under_one_seed() {
    async fn pauses(seed: u64) -> Vec<u64> {
        let mut world = World::new(&[&erp()]).seeded(seed);
        world.start().await;
        world.vendor.behave(|_| (ms(0), answer(500, "")));
        world.emit("SO-1", PUT).await;
        world.outcome().await;
        let at: Vec<_> = world.vendor.calls().iter().map(|call| call.at).collect();
        at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
    for seed in 0..20 {
        let found = pauses(seed).await;
        assert_eq!(found.len(), 4);
        for (pause, most) in found.iter().zip([200, 400, 800, 1600]) {
            // Up to ten milliseconds more: retries due close together share one look into the store.
            assert!(*pause <= most + 10, "{found:?}");
        }
        assert_eq!(pauses(seed).await, found);
    }
    assert_ne!(pauses(1).await, pauses(2).await);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_kept_in_both_writings() {
    for text in ["30", "Thu, 01 Jan 1970 00:00:30 GMT"] {
        let given = answer_with(503, &[("retry-after", text)], "");
        let (world, outcome) = outcome_of("put", vec![given, answer(200, "{}")]).await;
        assert_eq!(outcome.attempts, 2);
        let calls = world.vendor.calls();
        assert!((30_000..30_100).contains(&calls[1].at), "{calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_connector_waits_as_a_whole() {
    let world = World::running(&[&erp()]).await;
    let first = AtomicBool::new(true);
    world.vendor.behave(move |_| {
        let given = if first.swap(false, Ordering::SeqCst) {
            answer_with(429, &[("retry-after", "20")], "")
        } else {
            answer(200, "{}")
        };
        (ms(10), given)
    });
    world.emit("SO-1", PUT).await;
    world.vendor.called(1).await;
    tokio::time::sleep(ms(100)).await;
    world.emit("SO-2", PUT).await;
    world.outcomes(2).await;
    let calls = world.vendor.calls();
    assert!(calls[1..].iter().all(|call| call.at >= 20_000), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_call_is_looked_up_before_it_is_made_again() {
    let found = answer(200, r#"{"items":["N-7"]}"#);
    let (world, outcome) = outcome_of("create", vec![lost(), found]).await;
    assert_eq!((outcome.class, &*outcome.detail), (OutcomeClass::Ok, "found by probe"));
    assert_eq!(field(&outcome.result, "id"), "N-7");
    let calls = world.vendor.calls();
    assert_eq!(world.vendor.operations(), ["create", "create probe"]);
    assert_eq!(calls[1].url, "http://127.0.0.1:7700/erp/orders?external=SO-1");
    assert!(calls[1].at >= calls[0].at + 1_000, "not before the answer can be trusted");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_applied_is_sent_again_under_the_same_key() {
    let absent = answer(404, "");
    let (world, outcome) =
        outcome_of("create", vec![lost(), absent.clone(), lost(), absent, answer(201, r#"{"id":"N-1"}"#)])
            .await;
    assert_eq!((outcome.class, outcome.attempts), (OutcomeClass::Ok, 3));
    assert_eq!(world.vendor.operations(), ["create", "create probe", "create", "create probe", "create"]);
    assert!(world.vendor.calls().iter().all(|call| call.key.as_deref() == Some("order:SO-1:1.0")));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_is_repeated_and_nothing_is_sent_meanwhile() {
    let (world, outcome) =
        outcome_of("create", vec![lost(), lost(), answer(500, ""), answer(200, "odd"), lost()]).await;
    assert_eq!(outcome.class, OutcomeClass::Dead);
    assert!(outcome.detail.contains("it may have been applied"), "{}", outcome.detail);
    assert_eq!(world.vendor.operations()[1..], ["create probe"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_later_attempt_that_did_nothing_does_not_clear_up_an_earlier_one() {
    for harmless in [answer(425, ""), unsent()] {
        let (_, outcome) = outcome_of("put", vec![lost(), harmless]).await;
        assert!(outcome.detail.contains("it may have been applied"), "{}", outcome.detail);
    }
    let world = World::running(&[&erp()]).await;
    let mut turn = 0;
    world.vendor.behave(move |_| {
        turn += 1;
        let wait = [("retry-after", "60")];
        (
            ms(10),
            if turn == 1 {
                lost()
            } else if turn == 2 {
                answer_with(425, &wait, "")
            } else {
                answer(200, "{}")
            },
        )
    });
    let row = world.emit("SO-1", PUT).await.remove(0);
    world.vendor.called(2).await;
    tokio::time::sleep(ms(100)).await;
    world.call_off(&row).await;
    assert_eq!(world.outcome().await.class, OutcomeClass::Ok, "sent again under its key, which tells");
}

#[tokio::test(start_paused = true)]
async fn every_attempt_carries_the_same_key() {
    let (world, outcome) =
        outcome_of("put", vec![lost(), answer(500, ""), unsent(), answer(429, ""), answer(200, "{}")]).await;
    assert_eq!((outcome.class, outcome.attempts), (OutcomeClass::Ok, 5));
    let keys: Vec<_> = world.vendor.calls().into_iter().map(|call| call.key.unwrap()).collect();
    assert_eq!(keys, ["order:SO-1:1.0"; 5]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_on_record_before_it_starts_and_a_crash_is_followed_by_a_probe() {
    let mut world = World::running(&[&erp()]).await;
    world.vendor.behave(|_| (ms(5_000), answer(201, r#"{"id":"N-1"}"#)));
    let row = world.emit("SO-1", CREATE).await.remove(0);
    world.vendor.called(1).await;
    let progress = world.progress(&row).await.unwrap();
    assert_eq!((progress.uncertain, progress.attempts), (true, 1));
    world.crash();
    world.vendor.behave(|_| (ms(10), answer(200, r#"{"items":["N-1"]}"#)));
    world.start().await;
    let outcome = world.outcome().await;
    assert_eq!((outcome.class, &*outcome.detail), (OutcomeClass::Ok, "found by probe"));
    assert_eq!(world.vendor.operations(), ["create", "create probe"]);
    assert!(world.vendor.calls()[1].at >= 11_000, "the attempt of before might still be under way");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_cannot_be_kept_keeps_the_call_back() {
    use syncline::journal::memory::{FaultAction, Memory};
    let mut world = World::new(&[&erp()]);
    let broken = Arc::new(AtomicBool::new(true));
    let fault = broken.clone();
    world.journal = Memory::with_fault(
        &world.journal,
        Arc::new(move |operation| {
            let fails = operation == "progress" && fault.load(Ordering::SeqCst);
            if fails { FaultAction::FailBefore } else { FaultAction::Proceed }
        }),
    );
    world.start().await;
    world.emit("SO-1", CREATE).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(world.vendor.calls().is_empty());
    broken.store(false, Ordering::SeqCst);
    world.vendor.behave(|_| (ms(10), answer(201, r#"{"id":"N-1"}"#)));
    assert_eq!(world.outcome().await.class, OutcomeClass::Ok);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_decides_about_is_not_sent_again_after_a_crash() {
    let mut world = World::running(&[&erp()]).await;
    world.vendor.behave(|_| (ms(5_000), answer(201, "{}")));
    world.emit("SO-1", POST).await;
    world.vendor.called(1).await;
    world.start().await;
    let outcome = world.outcome().await;
    assert_eq!(outcome.class, OutcomeClass::Dead);
    assert!(outcome.detail.contains("may have been applied"), "{}", outcome.detail);
    assert_eq!(world.vendor.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_effect_is_given_up_when_its_time_is_over() {
    let text = erp_with(&[("attempts_max: 5", "attempts_max: 100000"), ("within: 1h", "within: 10m")]);
    let world = World::running(&[&text]).await;
    world.vendor.behave(|_| (ms(10), answer(500, "")));
    world.emit("SO-1", PUT).await;
    let outcome = world.outcome().await;
    assert_eq!(outcome.class, OutcomeClass::Dead);
    assert!(outcome.detail.contains("its time of 10m is over"), "{}", outcome.detail);
    assert!((600_000..600_100).contains(&world.now()), "{}", world.now());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_system_has_forgotten_is_not_relied_on() {
    let text = erp_with(&[("attempts_max: 5", "attempts_max: 100000")]);
    let world = World::running(&[&text]).await;
    world.vendor.behave(|call| (ms(10), if call.at < 700_000 { lost() } else { answer(200, "{}") }));
    world.emit("SO-1", &[("erp", "zuora")]).await;
    let outcome = world.outcome().await;
    assert_eq!(outcome.class, OutcomeClass::Dead);
    assert!(outcome.detail.contains("may have been applied"), "{}", outcome.detail);
    assert!(world.vendor.calls().iter().all(|call| call.at <= 600_100));
}

#[tokio::test(start_paused = true)]
async fn what_is_called_off_before_it_leaves_never_leaves() {
    let world = World::running(&[&erp()]).await;
    world.delivery().pause("erp");
    let row = world.emit("SO-1", CREATE).await.remove(0);
    tokio::time::sleep(ms(100)).await;
    world.call_off(&row).await;
    assert_eq!(world.outcome().await.class, OutcomeClass::Cancelled, "even while the connector is paused");
    world.delivery().resume("erp");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(world.vendor.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_called_off_between_attempts_that_surely_did_nothing_is_cancelled() {
    let world = World::running(&[&erp()]).await;
    world.vendor.behave(|_| (ms(10), answer_with(503, &[("retry-after", "600")], "")));
    let row = world.emit("SO-1", CREATE).await.remove(0);
    world.vendor.called(1).await;
    tokio::time::sleep(ms(100)).await;
    world.call_off(&row).await;
    assert_eq!(world.outcome().await.class, OutcomeClass::Cancelled);
    assert_eq!(world.vendor.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_called_off_while_uncertain_is_looked_up() {
    for (probe, class) in
        [(answer(200, r#"{"items":["N-1"]}"#), OutcomeClass::Ok), (answer(404, ""), OutcomeClass::Cancelled)]
    {
        let world = World::running(&[&erp()]).await;
        let mut first = true;
        world
            .vendor
            .behave(move |_| (ms(10), if std::mem::take(&mut first) { lost() } else { probe.clone() }));
        let row = world.emit("SO-1", CREATE).await.remove(0);
        world.vendor.called(1).await;
        tokio::time::sleep(ms(100)).await;
        world.call_off(&row).await;
        assert_eq!(world.outcome().await.class, class);
        assert_eq!(world.vendor.operations(), ["create", "create probe"]);
    }
}

/// A system may apply a call a while after the connection was cut: before that a probe finds nothing, and means nothing.
#[tokio::test(start_paused = true)]
async fn what_is_called_off_while_uncertain_is_not_looked_up_too_early() {
    for told in [true, false] {
        let mut world = World::running(&[&erp()]).await;
        let mut tried_at = None;
        world.vendor.behave(move |call| {
            let since = call.at - *tried_at.get_or_insert(call.at);
            let found = if since > 900 { r#"{"items":["N-1"]}"# } else { r#"{"items":[]}"# };
            (ms(10), if since == 0 { lost() } else { answer(200, found) })
        });
        let row = world.emit("SO-1", CREATE).await.remove(0);
        world.vendor.called(1).await;
        tokio::time::sleep(ms(100)).await;
        if told {
            world.call_off(&row).await;
        } else {
            world.crash();
            world.call_off(&row).await;
            world.start().await;
        }
        assert_eq!(world.outcome().await.class, OutcomeClass::Ok, "told {told}");
        assert_eq!(world.vendor.operations(), ["create", "create probe"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_called_off_in_flight_tells_what_really_happened() {
    for (given, class) in [
        (answer(201, r#"{"id":"N-1"}"#), OutcomeClass::Ok),
        (answer(503, ""), OutcomeClass::Cancelled),
        (unsent(), OutcomeClass::Cancelled),
    ] {
        let world = World::running(&[&erp()]).await;
        world.vendor.behave(move |_| (ms(1_000), given.clone()));
        let row = world.emit("SO-1", CREATE).await.remove(0);
        world.vendor.called(1).await;
        world.call_off(&row).await;
        assert_eq!(world.outcome().await.class, class);
        assert_eq!(world.vendor.calls().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_owner_before_us_may_have_sent_is_not_called_off_unasked() {
    let mut world = World::running(&[&erp()]).await;
    world.vendor.behave(|_| (ms(5_000), answer(200, "{}")));
    let row = world.emit("SO-1", PUT).await.remove(0);
    world.vendor.called(1).await;
    world.crash();
    world.call_off(&row).await;
    world.start().await;
    assert_eq!(world.outcome().await.class, OutcomeClass::Ok);
    assert_eq!(world.vendor.calls().len(), 2, "sent again under its key, which tells");
}

/// One call of an owner before us has left no trace; ours, which surely did nothing, says nothing about it.
#[tokio::test(start_paused = true)]
async fn what_an_owner_before_us_may_have_sent_stays_in_doubt_when_we_are_turned_away() {
    for first in [answer(503, ""), lost()] {
        let mut world = World::running(&[&erp_with(&[(
            "uncertain: resend\n  post",
            "uncertain: resend\n    outcomes: [{when: 'status == 503', is: busy}]\n  post",
        )])])
        .await;
        let mut call = 0;
        world.vendor.behave(move |_| {
            call += 1;
            match call {
                1 => (ms(10), first.clone()),
                2 => (ms(5_000), answer(200, "{}")),
                3 => (ms(10), answer(503, "")),
                _ => (ms(10), answer(200, "{}")),
            }
        });
        let row = world.emit("SO-1", PUT).await.remove(0);
        world.vendor.called(2).await;
        world.crash();
        world.call_off(&row).await;
        world.start().await;
        assert_eq!(world.outcome().await.class, OutcomeClass::Ok);
        assert_eq!(world.vendor.calls().len(), 4, "sent again under its key until that tells");
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_put_on_record_after_a_call_stays_in_doubt() {
    let mut world = World::new(&[&erp()]);
    let failing = Arc::new(AtomicBool::new(true));
    let fails = failing.clone();
    world.journal = world.journal.with_fault(Arc::new(move |operation| match operation {
        "progress" if fails.load(Ordering::Relaxed) => FaultAction::FailBefore,
        _ => FaultAction::Proceed,
    }));
    world.start().await;
    let mut first = true;
    world
        .vendor
        .behave(move |_| (ms(10), if std::mem::take(&mut first) { lost() } else { answer(200, "{}") }));
    let row = world.emit("SO-1", PUT).await.remove(0);
    world.vendor.called(1).await;
    tokio::time::sleep(ms(20)).await;
    failing.store(false, Ordering::Relaxed);
    world.call_off(&row).await;
    assert_eq!(world.outcome().await.class, OutcomeClass::Ok);
    assert_eq!(world.vendor.calls().len(), 2, "sent again under its key, which tells");
}

#[tokio::test(start_paused = true)]
async fn an_ordered_connector_keeps_the_order_of_an_entity() {
    let text = erp_with(&[("operations:", "ordered: true\noperations:")]);
    let world = World::running(&[&text]).await;
    let mut failed = BTreeMap::new();
    world.vendor.behave(move |call| {
        let tries = failed.entry(call.key.clone()).or_insert(0);
        *tries += 1;
        (ms(10), if *tries <= 2 { answer(500, "") } else { answer(200, "{}") })
    });
    world.emit("SO-1", &[("erp", "put"), ("erp", "put"), ("erp", "put")]).await;
    world.emit("SO-2", PUT).await;
    let order: Vec<_> = world.outcomes(4).await.into_iter().map(|(key, o)| (key, o.effect.n)).collect();
    let of_first: Vec<_> = order.iter().filter(|(key, _)| key == "SO-1").map(|(_, n)| *n).collect();
    assert_eq!(of_first, [0, 1, 2]);
    let calls = world.vendor.calls();
    let first_call = |key: &str| calls.iter().position(|call| call.key.as_deref() == Some(key)).unwrap();
    let last_call = |key: &str| calls.iter().rposition(|call| call.key.as_deref() == Some(key)).unwrap();
    assert!(last_call("order:SO-1:1.0") < first_call("order:SO-1:1.1"));
    assert!(last_call("order:SO-1:1.1") < first_call("order:SO-1:1.2"));
    assert!(first_call("order:SO-2:1.0") < first_call("order:SO-1:1.1"), "another entity does not wait");
}

#[tokio::test(start_paused = true)]
async fn concurrency_and_rate_are_kept() {
    let text = erp_with(&[("{concurrency: 2}", "{concurrency: 3, rate: 10/s, burst: 2}")]);
    let world = World::running(&[&text]).await;
    world.vendor.behave(|_| (ms(1_000), answer(200, "{}")));
    for n in 0..30 {
        world.emit(&format!("SO-{n}"), PUT).await;
    }
    world.outcomes(30).await;
    assert_eq!(world.vendor.in_flight_max("erp"), 3);
    let world = World::running(&[&text.replace("concurrency: 3", "concurrency: 100")]).await;
    for n in 0..30 {
        world.emit(&format!("SO-{n}"), PUT).await;
    }
    world.outcomes(30).await;
    let at: Vec<_> = world.vendor.calls().iter().map(|call| call.at).collect();
    for from in 0..at.len() {
        let in_second = at[from..].iter().take_while(|other| **other < at[from] + 1_000).count();
        assert!(in_second <= 12, "{in_second} calls in a second: {at:?}");
    }
    assert!(at[29] - at[0] <= 2_900, "and no slower than it may: {at:?}");
}

/// Journals so many effects, and tells every node of each, as their hosts would tell of theirs.
async fn emit_to(world: &World, nodes: &[Delivery], count: usize) {
    for n in 0..count {
        let rows = world.journal_effects(&format!("SO-{n}"), PUT).await;
        for node in nodes {
            node.hint(&rows);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn three_nodes_together_keep_to_the_concurrency_and_the_rate_of_one() {
    let text = erp_with(&[("{concurrency: 2}", "{concurrency: 4}")]);
    let world = World::new(&[&text]);
    world.vendor.behave(|_| (ms(1_000), answer(200, "{}")));
    let nodes = world.start_nodes(3).await;
    emit_to(&world, &nodes, 60).await;
    world.outcomes(60).await;
    assert_eq!(world.vendor.in_flight_max("erp"), 4);
    let took = world.now();
    assert!(took <= 22_000, "60 calls of a second, 4 at a time, took {took} ms");

    let text = erp_with(&[("{concurrency: 2}", "{concurrency: 100, rate: 20/s, burst: 4}")]);
    let world = World::new(&[&text]);
    let nodes = world.start_nodes(3).await;
    emit_to(&world, &nodes, 120).await;
    world.outcomes(120).await;
    let at: Vec<_> = world.vendor.calls().iter().map(|call| call.at).collect();
    for from in 0..at.len() {
        let in_second = at[from..].iter().take_while(|other| **other < at[from] + 1_000).count();
        // Tokens may lie at a node for a moment before they are used.
        assert!(in_second <= 20 + 4 + 4, "{in_second} calls in a second: {at:?}");
    }
    let allowed = |ms: u64| 4 + ms * 20 / 1_000 + 1;
    for (n, at) in (1..).zip(&at) {
        assert!(n <= allowed(*at), "{n} calls after {at} ms");
    }
    assert!(at[119] <= 7_500, "and hardly slower than it may: {at:?}");
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time_goes_round_three_nodes() {
    let text = erp_with(&[("{concurrency: 2}", "{concurrency: 1}")]);
    let world = World::new(&[&text]);
    let nodes = world.start_nodes(3).await;
    emit_to(&world, &nodes, 90).await;
    world.outcomes(90).await;
    assert_eq!(world.vendor.in_flight_max("erp"), 1);
    let took = world.now();
    assert!(took < 30_000, "nobody waits for ever: {took} ms");
}

#[tokio::test(start_paused = true)]
async fn what_a_node_had_of_a_budget_comes_back_when_the_node_is_gone() {
    let text = erp_with(&[("{concurrency: 2}", "{concurrency: 1}")]);
    let world = World::new(&[&text]);
    world
        .vendor
        .behave(|call| (if call.at < 100 { Duration::from_hours(1) } else { ms(10) }, answer(200, "{}")));
    let mut nodes = world.start_nodes(2).await;
    let of = |node: u16| {
        (0..1_000).map(|n| format!("SO-{n}")).find(|key| world::entity(key).shard().0 % 2 == node).unwrap()
    };
    // The one call that may be under way is that of a node that vanishes.
    nodes[0].hint(&world.journal_effects(&of(0), PUT).await);
    world.vendor.called(1).await;
    drop(nodes.remove(0));
    let gone_at = world.now();
    nodes[0].hint(&world.journal_effects(&of(1), PUT).await);
    world.outcomes(1).await;
    let took = world.now() - gone_at;
    assert!((4_000..7_000).contains(&took), "{took} ms: a lease of six seconds");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_one_node_opens_and_a_throttle_that_one_is_told_hold_for_all() {
    let text = erp_with(&[
        ("limits: {concurrency: 2}", "limits: {concurrency: 6}\nbreaker: {failures: 4, open_for: 5m}"),
        ("attempts_max: 5", "attempts_max: 1000"),
    ]);
    let world = World::new(&[&text]);
    world.vendor.behave(|call| (ms(10), if call.at < 400_000 { unsent() } else { answer(200, "{}") }));
    let nodes = world.start_nodes(3).await;
    emit_to(&world, &nodes, 60).await;
    tokio::time::sleep(Duration::from_mins(4)).await;
    let so_far = world.vendor.calls().len();
    assert!((4..=18).contains(&so_far), "{so_far}: those under way may end");
    world.outcomes(60).await;
    let trials = world.vendor.calls().iter().filter(|call| (20_000..590_000).contains(&call.at)).count();
    assert_eq!(trials, 1, "one node tries for all, once");

    let world = World::new(&[&erp_with(&[("{concurrency: 2}", "{concurrency: 6}")])]);
    world.vendor.behave(|call| match call.at {
        ..1_000 => (ms(10), answer_with(429, &[("retry-after", "30")], "")),
        _ => (ms(10), answer(200, "{}")),
    });
    let nodes = world.start_nodes(3).await;
    emit_to(&world, &nodes, 60).await;
    world.outcomes(60).await;
    let early = world.vendor.calls().iter().filter(|call| call.at < 29_000).count();
    assert!(early <= 12, "{early} calls although one was told to wait");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_about_to_go_waits_for_its_calls_and_starts_none() {
    let world = World::running(&[&erp()]).await;
    world.vendor.behave(|_| (ms(1_000), answer(200, "{}")));
    world.emit("SO-1", PUT).await;
    world.vendor.called(1).await;
    let shard = world::entity("SO-1").shard();
    let began = world.now();
    world.delivery().leave(shard, ms(5_000)).await;
    assert!((900..1_100).contains(&(world.now() - began)), "the call has ended, and not more was waited for");
    assert_eq!(world.outcomes_now(), 1, "and its outcome is on record");
    world.emit("SO-1", PUT).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(world.vendor.calls().len(), 1, "the next holder makes the next call");
    let began = world.now();
    world.delivery().leave(shard, ms(5_000)).await;
    assert_eq!(world.now(), began, "nothing is under way");
}

#[tokio::test(start_paused = true)]
async fn a_dead_connector_does_not_slow_another() {
    async fn time_of_crm(erp_dead: bool) -> i64 {
        let crm = erp().replace("connector: erp", "connector: crm");
        let world = World::running(&[&erp(), &crm]).await;
        world.vendor.behave(move |call| {
            let dead = erp_dead && call.connector == "erp";
            (if dead { Duration::from_hours(1) } else { ms(10) }, answer(200, "{}"))
        });
        for n in 0..500 {
            world.emit(&format!("SO-{n}"), &[("erp", "put"), ("crm", "put")]).await;
        }
        let began = world.now();
        let mut seen = 0;
        for wanted in 500.. {
            let all = world.outcomes(wanted.min(1_000)).await;
            let crm = all.iter().filter(|(_, outcome)| outcome.effect.n == 1).count();
            seen = crm;
            if crm == 500 {
                break;
            }
        }
        assert_eq!(seen, 500);
        world.now() - began
    }
    let alone = time_of_crm(false).await;
    assert_eq!(time_of_crm(true).await, alone);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_larger_than_memory_is_delivered_whole_and_once() {
    let text = erp_with(&[("{concurrency: 2}", "{concurrency: 50}")]);
    let mut world = World::new(&[&text]);
    world.start().await;
    world.crash();
    for n in 0..3_000 {
        world.journal_effects(&format!("A-{n}"), PUT).await;
    }
    world.start().await;
    for n in 0..3_000 {
        world.emit(&format!("B-{n}"), PUT).await;
    }
    let began = world.now();
    world.outcomes(6_000).await;
    // 6,000 calls of 10 ms, 50 at a time, take 1.2 s: looking into the store may not become what they wait for.
    assert!(world.now() - began < 2_500, "{} ms", world.now() - began);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(world.vendor.calls().len(), 6_000);
    assert_eq!(world.outcomes_now(), 6_000);
    let status = erp_status(&world).await;
    assert_eq!((status.in_flight, status.queued, status.settling, status.waiting), (0, 0, 0, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn more_hints_than_memory_takes_are_found_in_the_store_at_once() {
    let text = erp_with(&[("{concurrency: 2}", "{concurrency: 50}")]);
    let world = World::running(&[&text]).await;
    tokio::time::sleep(ms(100)).await;
    let mut rows = Vec::new();
    for n in 0..1_500 {
        rows.extend(world.journal_effects(&format!("SO-{n}"), PUT).await);
    }
    let began = world.now();
    world.delivery().hint(&rows);
    world.outcomes(1_500).await;
    assert!(world.now() - began < 1_000, "{} ms", world.now() - began);
    assert_eq!(world.vendor.calls().len(), 1_500);
}

#[tokio::test(start_paused = true)]
async fn what_no_hint_told_of_is_found_in_time() {
    let world = World::running(&[&erp()]).await;
    tokio::time::sleep(ms(100)).await;
    world.journal_effects("SO-1", PUT).await;
    let before = world.now();
    world.outcome().await;
    assert!(world.now() - before <= 30_000);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_waits_until_its_entity_takes_it_and_nothing_is_sent_meanwhile() {
    let world = World::running(&[&erp()]).await;
    *world.mail.troubles.lock().unwrap() = vec![MailboxError::Unavailable("suspended".to_owned()); 10];
    world.emit("SO-1", PUT).await;
    assert_eq!(world.outcome().await.class, OutcomeClass::Ok);
    assert_eq!(world.vendor.calls().len(), 1);
}

const OAUTH: &str = r"
connector: erp
owner: {team: erp-team}
base_url: http://127.0.0.1:7700/erp
sandbox: true
auth:
  scheme: oauth2_client_credentials
  token_url: /oauth2/token
  client_id: me
  client_secret: {ref: env:NOT_SET, default: s3cret&}
  scope: orders
limits: {concurrency: 20}
retry: {base: 1s, cap: 1s, within: 1h, attempts_max: 5}
operations:
  put: {method: PUT, path: /orders, idempotency: natural}
";

/// A token endpoint that gives `t1`, `t2`, … for a minute each, and an API that takes those `good` says.
fn oauth(world: &World, good: impl Fn(&str) -> bool + Send + 'static) -> Arc<AtomicUsize> {
    let tokens = Arc::new(AtomicUsize::new(0));
    let given = tokens.clone();
    world.vendor.behave(move |call| {
        if call.operation == "token" {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            return (ms(50), answer(200, &format!(r#"{{"access_token":"t{number}","expires_in":60}}"#)));
        }
        let token = call.authorization.clone().unwrap_or_default();
        (ms(10), if good(&token) { answer(200, "{}") } else { answer(401, "{}") })
    });
    tokens
}

#[tokio::test(start_paused = true)]
async fn a_token_is_fetched_once_for_all_and_replaced_before_it_ends() {
    let world = World::running(&[OAUTH]).await;
    let tokens = oauth(&world, |_| true);
    for n in 0..20 {
        world.emit(&format!("SO-{n}"), PUT).await;
    }
    world.outcomes(20).await;
    assert_eq!(tokens.load(Ordering::SeqCst), 1);
    let fetched = world.vendor.calls().into_iter().find(|call| call.operation == "token").unwrap();
    assert_eq!(fetched.url, "http://127.0.0.1:7700/erp/oauth2/token");
    assert_eq!(
        fetched.body,
        "grant_type=client_credentials&client_id=me&client_secret=s3cret%26&scope=orders"
    );
    tokio::time::sleep(Duration::from_secs(50)).await;
    world.emit("SO-99", PUT).await;
    world.outcomes(21).await;
    assert_eq!(tokens.load(Ordering::SeqCst), 2);
    assert_eq!(world.vendor.calls().last().unwrap().authorization.as_deref(), Some("Bearer t2"));
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_refreshed_once_in_a_round_and_then_it_waits_for_the_next() {
    let world = World::running(&[OAUTH]).await;
    let tokens = oauth(&world, |token| token != "Bearer t1");
    world.emit("SO-1", PUT).await;
    assert_eq!(world.outcome().await.class, OutcomeClass::Ok);
    assert_eq!(tokens.load(Ordering::SeqCst), 2);
    assert_eq!(world.vendor.operations(), ["token", "put", "token", "put"]);

    let world = World::running(&[OAUTH]).await;
    oauth(&world, |_| false);
    world.emit("SO-1", PUT).await;
    let outcome = world.outcome().await;
    assert_eq!((outcome.class, outcome.status), (OutcomeClass::Dead, Some(401)));
    assert!(outcome.detail.contains("the credentials were refused"), "{}", outcome.detail);
    assert_eq!(world.vendor.operations()[..5], ["token", "put", "token", "put", "put"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_is_sent_and_it_is_tried_again() {
    let world = World::running(&[OAUTH]).await;
    let mut refused = 2;
    world.vendor.behave(move |call| {
        if call.operation == "token" && refused > 0 {
            refused -= 1;
            return (ms(10), answer(500, ""));
        }
        (ms(10), answer(200, r#"{"access_token":"t"}"#))
    });
    world.emit("SO-1", PUT).await;
    assert_eq!(world.outcome().await.class, OutcomeClass::Ok);
    assert_eq!(world.vendor.operations(), ["token", "token", "token", "put"]);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_keeps_calls_back_and_lets_one_try() {
    let text = erp_with(&[
        ("limits: {concurrency: 2}", "limits: {concurrency: 2}\nbreaker: {failures: 4, open_for: 5m}"),
        ("attempts_max: 5", "attempts_max: 1000"),
    ]);
    let world = World::running(&[&text]).await;
    world.vendor.behave(|call| (ms(10), if call.at < 300_000 { unsent() } else { answer(200, "{}") }));
    for n in 0..20 {
        world.emit(&format!("SO-{n}"), PUT).await;
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    let status = erp_status(&world).await;
    assert!(matches!(status.breaker, Breakers::Open { .. }), "{status:?}");
    let so_far = world.vendor.calls().len();
    assert!((4..=5).contains(&so_far), "{so_far}: those under way may end");
    let outcomes = world.outcomes(20).await;
    assert!(outcomes.iter().all(|(_, outcome)| outcome.class == OutcomeClass::Ok));
    assert_eq!(erp_status(&world).await.breaker, Breakers::Closed);
}

/// How the ERP's lane stands; beside it is that of messages to other entities.
async fn erp_status(world: &World) -> ConnectorStatus {
    let all = world.delivery().status().await;
    all.into_iter().find(|one| &*one.name == "erp").expect("it is configured")
}

#[tokio::test(start_paused = true)]
async fn a_paused_connector_waits_and_loses_nothing() {
    let world = World::running(&[&erp()]).await;
    assert!(world.delivery().pause("erp"));
    assert!(!world.delivery().pause("nobody"));
    for n in 0..10 {
        world.emit(&format!("SO-{n}"), PUT).await;
    }
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(world.vendor.calls().is_empty());
    let status = erp_status(&world).await;
    assert_eq!((status.paused, status.waiting, status.queued), (true, Some(10), 10));
    assert!(world.delivery().resume("erp"));
    world.outcomes(10).await;
}

#[tokio::test(start_paused = true)]
async fn draining_lets_what_is_under_way_end_and_starts_nothing() {
    let mut world = World::running(&[&erp()]).await;
    world.vendor.behave(|_| (ms(1_000), answer(200, "{}")));
    for n in 0..10 {
        world.emit(&format!("SO-{n}"), PUT).await;
    }
    world.vendor.called(2).await;
    assert!(world.delivery().drain(Duration::from_secs(5)).await);
    assert_eq!((world.vendor.calls().len(), world.outcomes_now()), (2, 2));
    world.start().await;
    world.outcomes(10).await;
    assert_eq!(world.vendor.calls().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_takes_too_long_is_cut_off() {
    let world = World::running(&[&erp()]).await;
    world.vendor.behave(|_| (ms(9_000), answer(200, "{}")));
    world.emit("SO-1", PUT).await;
    world.vendor.called(1).await;
    let before = world.clock.now();
    assert!(!world.delivery().drain(Duration::from_secs(5)).await);
    assert_eq!(world.clock.now().since(before), Duration::from_secs(5));
    assert_eq!(world.journal.outbox_of(&world::entity("SO-1")).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_effect_issued_anew_goes_out_again_and_its_outcome_is_a_new_message() {
    let world = World::running(&[&erp()]).await;
    world.vendor.behave(|_| (ms(10), answer(404, "")));
    let mut rows = world.emit("SO-1", PUT).await;
    world.outcome().await;
    tokio::time::sleep(ms(100)).await;
    rows[0].since = world.clock.now();
    rows[0].progress.due = rows[0].since;
    world.reissue(&rows[0]).await;
    let envelopes = world.envelopes(2).await;
    assert_ne!(envelopes[0].id, envelopes[1].id, "or deduplication would swallow the second outcome");
    let keys: Vec<_> = world.vendor.calls().into_iter().map(|call| call.key.unwrap()).collect();
    assert_eq!(keys, ["order:SO-1:1.0"; 2], "the key never changes");
}

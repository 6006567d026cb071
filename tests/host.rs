//! The host over the journal in memory, in paused time: what must hold whatever its actors, its journal and its senders do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use syncline::clock::{Clock, SharedClock, TokioClock};
use syncline::codec;
use syncline::host::{Deaf, Decide, Error, Host, HostConfig, Lane, Means, Observer, QuarantineItem, Reply};
use syncline::journal::memory::{Audit, FaultAction, Memory, Written};
use syncline::journal::{Append, ExceptionFilter, Journal as _, SharedJournal};
use syncline::timer::{self, Timers, Waker};
use syncline_actors::decide::decide;
use syncline_actors::decision::{Rejection, Verdict};
use syncline_actors::document::Reader;
use syncline_actors::entity::State;
use syncline_actors::envelope::{Body, Command, Envelope, Event, Evidence, Raw};
use syncline_actors::id::{EntityId, NodeId, ShardId};
use syncline_actors::outbox::Rows;
use syncline_actors::placement::{Region, Regions};
use syncline_actors::process::{Catalog, parse};
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

mod fixture {
    use super::*;

    pub(crate) const BEGIN: Timestamp = Timestamp(1_764_000_000_000);

    const PROCESS: &str = "
process: parcel
version: 1
owner: {team: logistics}
initial: new
fields: {last: any}
messages:
  parcel.begun: {is: event, starts: true, out_of_turn: ignore}
  parcel.seen: {is: event, out_of_turn: ignore}
  parcel.lost: {is: command}
  parcel.booked: {is: event, business_key: 'data.booking', out_of_turn: ignore}
  parcel.arrived: {is: event, out_of_turn: ignore}
effects: {}
states:
  new:
    on:
      parcel.begun: {to: moving}
  moving:
    on:
      parcel.seen: {set: {last: 'data.n'}}
      parcel.booked: {set: {last: 'data.booking'}}
      parcel.arrived: {to: home}
    after:
      1h: {to: overdue}
  overdue:
    on:
      parcel.seen: {to: moving}
  home: {end: completed}
";

    pub(crate) fn catalog() -> Catalog {
        let reader = Reader::default();
        let node = reader.read("parcel.yaml", PROCESS).expect("it is YAML");
        let process = parse::parse(&node, PROCESS, &reader);
        assert!(reader.problems().is_empty(), "{:?}", reader.problems());
        let mut catalog = Catalog::default();
        catalog.add(process.expect("it has no problems"));
        catalog
    }

    pub(crate) struct World {
        pub memory: Memory,
        pub clock: SharedClock,
        pub config: HostConfig,
        pub observer: Arc<dyn Observer>,
    }

    impl World {
        pub(crate) fn new() -> Self {
            let clock: SharedClock = Arc::new(TokioClock::starting_at(BEGIN));
            let config = HostConfig::new(NodeId("n1".into()));
            Self { memory: Memory::new(), clock, config, observer: Arc::new(Deaf) }
        }

        pub(crate) async fn host(&self) -> Host {
            self.host_on(Arc::new(self.memory.shared())).await
        }

        pub(crate) async fn host_on(&self, journal: SharedJournal) -> Host {
            let means = Means {
                catalog: catalog(),
                journal,
                clock: self.clock.clone(),
                hints: Arc::new(Deaf),
                observer: self.observer.clone(),
            };
            Host::start(self.config.clone(), means).await.expect("it starts")
        }

        pub(crate) fn event(&self, key: &str, id: &str, name: &str, data: Value) -> Envelope {
            Envelope {
                id: id.into(),
                source: "test".into(),
                subject: parcel(key),
                correlation_id: format!("flow-{key}").into(),
                causation_id: None,
                traceparent: None,
                time: None,
                at: self.clock.now(),
                remember_ms: None,
                body: Body::Event(Event { name: name.into(), data }),
                evidence: None,
            }
        }

        pub(crate) fn begun(&self, key: &str) -> Envelope {
            self.event(key, "begun", "parcel.begun", Value::Null)
        }

        pub(crate) fn seen(&self, key: &str, n: i64) -> Envelope {
            let data = Value::map([("n", Value::Int(n))]);
            self.event(key, &format!("seen-{n}"), "parcel.seen", data)
        }

        /// What the entity's records say was seen, in order.
        pub(crate) fn journaled(&self, key: &str) -> Vec<i64> {
            seen_in(&self.memory.audit(), key)
        }

        /// A host whose decisions go as `decide` says.
        pub(crate) async fn host_that_decides(
            &mut self,
            decide: impl Fn(&Envelope) + Send + Sync + 'static,
        ) -> Host {
            self.config.decide = Decide(Arc::new(move |process, state, envelope| {
                decide(envelope);
                super::decide(process, state, envelope)
            }));
            self.host().await
        }
    }

    /// What the records of a parcel say was seen, in order.
    pub(crate) fn seen_in(audit: &Audit, key: &str) -> Vec<i64> {
        let written = audit.records.get(&parcel(key)).map_or(&[][..], Vec::as_slice);
        let record = |written: &Written| codec::decode_record(&written.frame).expect("the host wrote it");
        let number = |value: &Value| match value {
            Value::Int(n) => *n,
            other => panic!("{other:?} is no integer"),
        };
        let records = written.iter().map(record);
        records.filter_map(|record| record.envelope.body.data()?.get("n").map(number)).collect()
    }

    pub(crate) fn parcel(key: &str) -> EntityId {
        EntityId::new("parcel", key).expect("a legal key")
    }
}

use fixture::{BEGIN, World, parcel, seen_in};

#[tokio::test(start_paused = true)]
async fn a_duplicate_gets_the_first_answer_for_ever() {
    let world = World::new();
    let host = world.host().await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    let seen = world.seen("P1", 1);
    let first = host.deliver(seen.clone(), Lane::Outside).await.expect("taken in");
    assert!(!first.duplicate);
    host.deliver(world.seen("P1", 2), Lane::Outside).await.expect("taken in");
    let again = Reply { answer: first.answer, duplicate: true };
    assert_eq!(host.deliver(seen.clone(), Lane::Outside).await, Ok(again.clone()), "while hot");

    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(host.stats().resident, 0, "it left when idle");
    assert_eq!(host.deliver(seen.clone(), Lane::Outside).await, Ok(again.clone()), "after passivation");

    host.crash().await;
    let host = world.host().await;
    assert_eq!(host.deliver(seen, Lane::Outside).await, Ok(again), "after a crash");
    assert_eq!(world.journaled("P1"), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn messages_of_an_entity_are_applied_in_the_order_in_which_they_came() {
    let world = World::new();
    let host = world.host().await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    let all = (0..60).map(|n| host.deliver(world.seen("P1", n), Lane::Outside));
    assert!(join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(world.journaled("P1"), (0..60).collect::<Vec<_>>());
}

/// Counts entities in memory apart from the host.
#[derive(Debug, Default)]
struct Residents {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Observer for Residents {
    fn activated(&self, _: &str) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }
    fn passivated(&self, _: &str) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_messages_over_a_thousand_entities_keep_fifty_in_memory() {
    let mut world = World::new();
    world.config.resident_max = 50;
    let residents = Arc::new(Residents::default());
    world.observer = residents.clone();
    let host = world.host().await;
    let keys: Vec<String> = (0..1000).map(|n| format!("P{n}")).collect();
    let one = async |key: &str, n: i64| {
        let message = if n == 0 { world.begun(key) } else { world.seen(key, n) };
        host.deliver(message, Lane::Outside).await.expect("taken in");
        assert!(host.stats().resident <= 50);
    };
    join_all((0..10).flat_map(|n| keys.iter().map(move |key| (key, n))).map(|(key, n)| one(key, n))).await;
    let audit = world.memory.audit();
    for key in &keys {
        assert_eq!(seen_in(&audit, key), (1..10).collect::<Vec<_>>(), "{key}");
    }
    assert_eq!(residents.most.load(Ordering::SeqCst), 50, "never more, and all of the room is used");
    let stats = host.stats();
    assert_eq!((stats.in_flight, stats.kinds["parcel"].recorded), (0, 10_000));
}

/// A host over a store that takes its time, with one entity.
async fn slow_with_one(world: &World) -> Host {
    let slow = world.memory.with_fault(Arc::new(|call| match call {
        "save_snapshot" | "append" => FaultAction::Delay(Duration::from_millis(20)),
        _ => FaultAction::Proceed,
    }));
    let host = world.host_on(Arc::new(slow)).await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    host
}

/// Two messages at once, 40 to 79 ms after those before: before, while and after the entity does what it does after 50 ms.
async fn two_after_a_while(world: &World, host: &Host, n: i64) {
    tokio::time::sleep(Duration::from_millis(40 + u64::try_from(n % 40).expect("small"))).await;
    let pair = [world.seen("P1", 2 * n), world.seen("P1", 2 * n + 1)];
    let answers = join_all(pair.map(|message| host.deliver(message, Lane::Outside))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn an_entity_that_leaves_loses_no_message() {
    let mut world = World::new();
    world.config.idle = Duration::from_millis(50);
    world.config.snapshot_tail = 1;
    // It takes a while to leave, as its snapshot is slow.
    let host = slow_with_one(&world).await;
    for n in 0..200 {
        two_after_a_while(&world, &host, n).await;
    }
    assert_eq!(world.journaled("P1"), (0..400).collect::<Vec<_>>());
    assert!(host.stats().kinds["parcel"].passivated > 50, "{:?}", host.stats());
}

#[tokio::test(start_paused = true)]
async fn an_entity_that_rests_is_woken_as_it_was_and_loses_no_message() {
    let mut world = World::new();
    world.config.rest_after = Duration::from_millis(50);
    world.config.snapshot_tail = 1;
    let host = slow_with_one(&world).await;
    for n in 0..200 {
        two_after_a_while(&world, &host, n).await;
        let state = host.state(&parcel("P1")).await.expect("it is told").expect("it is there");
        assert_eq!(state.seq, u64::try_from(2 * n + 3).expect("small"));
    }
    assert_eq!(world.journaled("P1"), (0..400).collect::<Vec<_>>());
    let stats = host.stats();
    let kind = &stats.kinds["parcel"];
    assert_eq!((stats.resident, kind.passivated, kind.rebuilt), (1, 0, 0), "it never left memory");
}

#[tokio::test(start_paused = true)]
async fn entities_at_rest_make_room_leave_when_idle_and_are_handed_over() {
    let mut world = World::new();
    world.config.rest_after = Duration::from_millis(50);
    world.config.resident_max = 3;
    let residents = Arc::new(Residents::default());
    world.observer = residents.clone();
    let host = world.host().await;
    for key in ["P1", "P2", "P3"] {
        host.deliver(world.begun(key), Lane::Outside).await.expect("taken in");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let told = host.state(&parcel(key)).await.expect("it is told").expect("it is there");
        assert_eq!(told.seq, 1);
    }
    assert_eq!(residents.now.load(Ordering::SeqCst), 3, "they rest");
    for key in ["P4", "P5"] {
        host.deliver(world.begun(key), Lane::Outside).await.expect("taken in");
        assert_eq!(host.stats().resident, 3);
    }
    assert_eq!(residents.most.load(Ordering::SeqCst), 3);
    host.deliver(world.seen("P1", 1), Lane::Outside).await.expect("rebuilt");
    tokio::time::sleep(world.config.idle * 2).await;
    assert_eq!(
        (host.stats().resident, residents.now.load(Ordering::SeqCst)),
        (0, 0),
        "nobody asked for them"
    );

    host.deliver(world.seen("P1", 2), Lane::Outside).await.expect("taken in");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(host.drain(Duration::from_secs(1)).await, "one at rest holds up nobody");
    assert_eq!(residents.now.load(Ordering::SeqCst), 0);
    assert_eq!(world.journaled("P1"), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_answers_what_is_in_flight_and_takes_nothing_new() {
    let world = World::new();
    let slow = world.memory.with_fault(Arc::new(|call| match call {
        "append" => FaultAction::Delay(Duration::from_millis(20)),
        _ => FaultAction::Proceed,
    }));
    let host = world.host_on(Arc::new(slow)).await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    let in_flight = join_all((0..50).map(|n| host.deliver(world.seen("P1", n), Lane::Outside)));
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let drained = host.drain(Duration::from_secs(30));
        let late = async {
            tokio::task::yield_now().await;
            host.deliver(world.seen("P1", 99), Lane::Outside).await
        };
        tokio::join!(drained, late)
    };
    let (answers, (in_time, late)) = tokio::join!(in_flight, stopping);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(in_time);
    assert_eq!(late, Err(Error::Stopping));
    assert_eq!(world.journaled("P1"), (0..50).collect::<Vec<_>>());
    let loaded = world.memory.load(&parcel("P1")).await.expect("no fault here");
    assert_eq!(loaded.snapshot.expect("it was kept").seq, 51);

    let host = world.host().await;
    assert_eq!(host.epoch(ShardId(0)).expect("taken again").0, 3, "it was given back");
    assert!(host.deliver(world.seen("P1", 0), Lane::Outside).await.expect("taken in").duplicate);
}

#[tokio::test(start_paused = true)]
async fn a_rebuilt_entity_is_byte_for_byte_what_its_records_fold_to() {
    let mut world = World::new();
    world.config.snapshot_every = 7;
    let host = world.host().await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    for n in 0..40 {
        let data = Value::map([("booking", Value::from(format!("B{}", n % 11)))]);
        let message = world.event("P1", &format!("booked-{n}"), "parcel.booked", data);
        host.deliver(message, Lane::Outside).await.expect("taken in");
    }
    let hot = host.state(&parcel("P1")).await.expect("readable").expect("it exists");
    let mut folded = State::default();
    for record in host.timeline(&parcel("P1"), 1, 1000).await.expect("readable") {
        folded.fold(&record);
    }
    host.crash().await;
    let host = world.host().await;
    let cold = host.state(&parcel("P1")).await.expect("readable").expect("it exists");
    assert_eq!(host.stats().resident, 0, "a read does not make it hot");
    let bytes = |state: &State| codec::encode_state(state).expect("it fits");
    assert_eq!(bytes(&cold), bytes(&folded));
    assert_eq!(bytes(&hot), bytes(&folded));
    assert_eq!(folded.seq, 12, "a booking that is known was not applied again");
    assert!(world.memory.load(&parcel("P1")).await.expect("no fault here").snapshot.is_some());
    assert_eq!(host.state(&parcel("P2")).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn after_a_panic_the_entity_is_rebuilt_and_every_message_answered_in_order() {
    let mut world = World::new();
    let panics = AtomicUsize::new(0);
    let host = world
        .host_that_decides(move |envelope| {
            let first = &*envelope.id == "seen-3" && panics.fetch_add(1, Ordering::SeqCst) == 0;
            assert!(!first, "a bug that shows once");
        })
        .await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    let answers = join_all((0..10).map(|n| host.deliver(world.seen("P1", n), Lane::Outside))).await;
    for answer in answers {
        assert_eq!(answer.expect("taken in").answer.verdict, Verdict::Applied);
    }
    assert_eq!(world.journaled("P1"), (0..10).collect::<Vec<_>>());
    assert_eq!(host.stats().kinds["parcel"].panics, 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_at_which_its_actor_panics_twice_is_quarantined_and_the_others_go_on() {
    let mut world = World::new();
    let host = world
        .host_that_decides(|envelope| {
            assert!(envelope.body.name() != "parcel.seen" || &*envelope.id != "seen-3", "a bug");
        })
        .await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    let answers = join_all((0..6).map(|n| host.deliver(world.seen("P1", n), Lane::Outside))).await;
    let verdicts: Vec<_> =
        answers.iter().map(|answer| &answer.as_ref().expect("acked").answer.verdict).collect();
    for (n, verdict) in verdicts.iter().enumerate() {
        let poisoned =
            matches!(verdict, Verdict::Rejected(Rejection::Expression(why)) if why.contains("quarantine"));
        assert_eq!(poisoned, n == 3, "{verdict:?}");
    }
    assert_eq!(world.journaled("P1"), [0, 1, 2, 4, 5, 3], "acked, so it has one record, the last");
    assert_eq!(host.stats().kinds["parcel"].panics, 2);

    let held = world.memory.heads("quarantine", None, 10).await.expect("no fault here");
    assert_eq!((held.len(), &*held[0].status), (1, "held"));
    assert!(held[0].entity.key().starts_with("poison:"), "{}", held[0].entity);
    let filter = ExceptionFilter { limit: 10, ..ExceptionFilter::default() };
    let exceptions = world.memory.exceptions(&filter).await.expect("no fault here");
    assert!(
        exceptions[0].exception.summary.contains("`parcel.seen` makes parcel/P1 panic: "),
        "{exceptions:?}"
    );

    let again = host.deliver(world.seen("P1", 3), Lane::Outside).await.expect("acked");
    assert_eq!((again.duplicate, &again.answer), (true, &answers[3].as_ref().expect("acked").answer));
    assert_eq!(world.memory.heads("quarantine", None, 10).await.expect("no fault here").len(), 1);
    assert_eq!(host.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_journals_nothing_for_an_entity_that_is_bound_to_another_region() {
    let mut world = World::new();
    world.config.regions = Arc::new(Regions::new(["eu", "us"]).expect("they do not meet"));
    world.config.region = Some(Region("eu".into()));
    let host = world.host().await;
    for lane in [Lane::Outside, Lane::Inside] {
        host.deliver(world.begun("@eu:P1"), lane).await.expect("this is its region");
        host.deliver(world.begun("P1"), lane).await.expect("it may be anywhere");
        let shard = parcel("@us:P1").shard();
        assert_eq!(host.deliver(world.begun("@us:P1"), lane).await, Err(Error::NotOwner { shard }));
        let unknown = host.deliver(world.begun("@jp:P1"), lane).await.expect_err("nobody serves it");
        assert!(matches!(&unknown, Error::Region(why) if why.contains("`jp`")), "{unknown}");
        assert!(!unknown.is_transient(), "it will not get better by itself");
    }
    let written: Vec<_> = world.memory.audit().records.into_keys().collect();
    assert_eq!(written, [parcel("@eu:P1"), parcel("P1")]);
}

#[tokio::test(start_paused = true)]
async fn what_a_bound_entity_does_not_survive_is_held_in_its_region() {
    let mut world = World::new();
    world.config.regions = Arc::new(Regions::new(["eu"]).expect("it is alone"));
    world.config.region = Some(Region("eu".into()));
    let host =
        world.host_that_decides(|envelope| assert!(envelope.body.name() != "parcel.seen", "a bug")).await;
    host.deliver(world.begun("@eu:P1"), Lane::Outside).await.expect("taken in");
    host.deliver(world.seen("@eu:P1", 1), Lane::Outside).await.expect("put aside");
    let held = world.memory.heads("quarantine", None, 10).await.expect("no fault here");
    assert!(held[0].entity.key().starts_with("@eu:poison:"), "{}", held[0].entity);
    assert_eq!(world.config.regions.of(held[0].entity.shard()), world.config.region.as_ref());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_understands_is_held_whole_until_a_person_lets_go_of_it() {
    let world = World::new();
    let host = world.host().await;
    let item = QuarantineItem {
        source: "crm".into(),
        message_id: "evt-1".into(),
        class: "schema",
        reason: "`amount` is missing".into(),
        owner: "crm-team".into(),
        kind: "opportunity.closed".into(),
        region: None,
        subject: "".into(),
        meant_for: "".into(),
        drift: Value::Null,
        headers: Value::map([("x-signature-at", Value::from("1"))]),
        content: Value::Null,
        evidence: Some(Evidence {
            content_type: Some("application/json".into()),
            key_id: None,
            body: Raw(b"{}".as_slice().into()),
        }),
        correlation_id: "".into(),
        traceparent: None,
        at: world.clock.now(),
        remember_ms: Some(1000),
    };
    let entity = item.entity().expect("a legal key");
    let reply = host.quarantine(item.clone()).await.expect("acked");
    assert_eq!((&*reply.answer.status, reply.duplicate), ("held", false));
    assert!(host.quarantine(item).await.expect("acked").duplicate);
    let state = host.state(&entity).await.expect("readable").expect("it exists");
    assert_eq!(state.field("content_type").and_then(Value::as_text), Some("application/json"));
    let exception = state.exceptions.values().next().expect("a person must look");
    assert_eq!(&*exception.summary, "`amount` is missing");

    let mut release = world.begun("any");
    release.subject = entity.clone();
    release.id = "by-hand".into();
    release.body = Body::Command(Command { name: "release".into(), data: Value::Null });
    let reply = host.deliver(release, Lane::Inside).await.expect("acked");
    assert_eq!((&*reply.answer.status, reply.answer.verdict), ("released", Verdict::Applied));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_another_node_took_answers_no_more() {
    let world = World::new();
    let host = world.host().await;
    let shard = parcel("P1").shard();
    let other =
        (0..9).map(|n| format!("Q{n}")).find(|key| parcel(key).shard() != shard).expect("there are 256");
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    world.memory.acquire(&[shard], &NodeId("n2".into())).await.expect("no fault here");
    let refused = host.deliver(world.seen("P1", 1), Lane::Outside).await;
    assert_eq!(refused, Err(Error::NotOwner { shard }), "the append is fenced");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(host.epoch(shard), None);
    assert_eq!(host.state(&parcel("P1")).await, Err(Error::NotOwner { shard }));
    host.deliver(world.begun(&other), Lane::Outside).await.expect("the other shards go on");

    let second = parcel(&other).shard();
    world.memory.acquire(&[second], &NodeId("n2".into())).await.expect("no fault here");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(host.epoch(second), None, "the renewal tells, without any message");
    assert_eq!(host.stats().shards, 254);
    assert_eq!(world.journaled("P1"), [] as [i64; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_or_hangs_before_or_after_writing_applies_a_message_once() {
    for fault in
        [FaultAction::FailBefore, FaultAction::FailAfter, FaultAction::HangBefore, FaultAction::HangAfter]
    {
        let world = World::new();
        let appends = AtomicUsize::new(0);
        let faulty = world.memory.with_fault(Arc::new(move |call| {
            let is_third = call == "append" && appends.fetch_add(1, Ordering::SeqCst) == 2;
            if is_third { fault } else { FaultAction::Proceed }
        }));
        let host = world.host_on(Arc::new(faulty)).await;
        host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
        let answers = join_all((0..5).map(|n| host.deliver(world.seen("P1", n), Lane::Outside))).await;
        assert!(answers.iter().all(Result::is_ok), "{fault:?}: {answers:?}");
        assert_eq!(world.journaled("P1"), [0, 1, 2, 3, 4], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_keeps_failing_means_no_ack_and_no_lasting_harm() {
    let world = World::new();
    let down = Arc::new(AtomicUsize::new(0));
    let is_down = down.clone();
    let faulty = world.memory.with_fault(Arc::new(move |_| match is_down.load(Ordering::SeqCst) {
        0 => FaultAction::Proceed,
        _ => FaultAction::FailBefore,
    }));
    let host = world.host_on(Arc::new(faulty)).await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    down.store(1, Ordering::SeqCst);
    let refused = host.deliver(world.seen("P1", 1), Lane::Outside).await.expect_err("no ack");
    assert!(refused.is_transient() && refused.retry_after().is_some(), "{refused}");
    tokio::time::sleep(Duration::from_secs(6)).await;
    let doubtful = host.state(&parcel("P1")).await.expect_err("the lease is in doubt");
    assert!(doubtful.is_of_placement() && doubtful.to_string().contains("last renewed"), "{doubtful}");
    down.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(2)).await;
    host.deliver(world.seen("P1", 1), Lane::Outside).await.expect("taken in");
    assert_eq!(world.journaled("P1"), [1]);
}

/// A machine that can be put to sleep: what it sleeps, no `Instant` counts.
#[derive(Debug)]
struct Sleeper {
    awake: TokioClock,
    slept_ms: AtomicUsize,
}

impl Clock for Sleeper {
    fn now(&self) -> Timestamp {
        self.awake.now().plus(self.suspended())
    }

    fn suspended(&self) -> Duration {
        Duration::from_millis(self.slept_ms.load(Ordering::SeqCst) as u64)
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_past_its_leases_answers_nothing_until_they_are_renewed() {
    let clock = Arc::new(Sleeper { awake: TokioClock::starting_at(BEGIN), slept_ms: AtomicUsize::new(0) });
    let world = World { clock: clock.clone(), ..World::new() };
    let host = world.host().await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    let shard = parcel("P1").shard();
    assert!(host.lease_margin() > Duration::from_secs(4) && host.epoch(shard).is_some());

    clock.slept_ms.store(60_000, Ordering::SeqCst);
    let read = host.state(&parcel("P1")).await;
    assert!(
        matches!(read, Err(Error::InDoubt { age_ms: 60_000.., .. })),
        "what is in memory may be old: {read:?}"
    );
    let taken = host.deliver(world.seen("P1", 1), Lane::Outside).await;
    assert!(matches!(taken, Err(Error::InDoubt { .. })), "{taken:?}");
    assert_eq!(host.epoch(shard), None, "no effect leaves");
    assert!(host.certain().is_err() && host.ready().is_err(), "and it is not ready");
    assert_eq!((host.lease_margin(), host.lease_age()), (Duration::ZERO, Duration::from_mins(1)));

    tokio::time::sleep(Duration::from_millis(1_001)).await;
    host.deliver(world.seen("P1", 1), Lane::Outside).await.expect("nobody took the shard meanwhile");
    assert_eq!(world.journaled("P1"), [1]);
}

#[tokio::test(start_paused = true)]
async fn without_a_permit_a_message_is_refused_at_once_and_leaves_nothing() {
    let mut world = World::new();
    world.config.bytes_in_flight_max = 64 << 10;
    let slow = world.memory.with_fault(Arc::new(|call| match call {
        "append" => FaultAction::Delay(Duration::from_millis(100)),
        _ => FaultAction::Proceed,
    }));
    let host = world.host_on(Arc::new(slow)).await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    let answers = join_all((0..70).map(|n| host.deliver(world.seen("P1", n), Lane::Outside))).await;
    let acked: Vec<i64> = (0..).zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(n, _)| n).collect();
    assert_eq!(acked, (0..64).collect::<Vec<_>>(), "64 for one entity");
    assert_eq!(world.journaled("P1"), acked, "the others left nothing");
    let busy = answers[64].as_ref().expect_err("the mailbox is full");
    assert_eq!(busy.retry_after(), Some(Duration::from_secs(1)));

    let keys: Vec<String> = (0..400).map(|n| format!("Q{n}")).collect();
    let answers = join_all(keys.iter().map(|key| host.deliver(world.begun(key), Lane::Outside))).await;
    let busy = answers
        .iter()
        .filter(|answer| matches!(answer, Err(Error::Busy { what, .. }) if what.contains("memory")));
    let busy = busy.count();
    assert!((150..250).contains(&busy), "{busy} of 400 found the node's memory full");
    assert_eq!(host.stats().in_flight, 0);
    assert_eq!(host.stats().bytes_in_flight, 0);
    let heads = world.memory.heads("parcel", None, 1000).await.expect("no fault here");
    assert_eq!(heads.len(), 1 + 400 - busy, "no record without an ack, no ack without a record");
    let mut inside = world.begun("P2");
    inside.evidence = Some(Evidence { content_type: None, key_id: None, body: Raw(vec![0; 1 << 20].into()) });
    host.deliver(inside, Lane::Inside).await.expect("another pool");
}

#[tokio::test(start_paused = true)]
async fn an_entity_whose_chain_is_broken_is_closed_and_says_where() {
    let world = World::new();
    let host = world.host().await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    let mut record = host.timeline(&parcel("P1"), 1, 1).await.expect("readable").remove(0);
    host.drain(Duration::from_secs(1)).await;
    let grants = world.memory.acquire(&[parcel("P1").shard()], &NodeId("n1".into())).await.expect("no fault");
    let prev = world.memory.audit().records[&parcel("P1")][0].hash;
    // A record that claims to follow on another one than it does.
    (record.seq, record.prev, record.epoch) = (2, Hash([7; 32]), grants[0].epoch);
    let (frame, hash) = codec::encode_record(&record).expect("it fits");
    let append = Append {
        entity: parcel("P1"),
        epoch: grants[0].epoch,
        seq: 2,
        prev,
        hash,
        frame,
        at: BEGIN,
        dedup: Vec::new(),
        answer: record.answer.clone(),
        ended: false,
        rows: Rows::default(),
        terms: Vec::new(),
    };
    world.memory.append(append).await.expect("the store trusts its caller");
    let host = world.host().await;
    let error = host.deliver(world.seen("P1", 1), Lane::Outside).await.expect_err("it is closed");
    assert!(!error.is_transient());
    assert!(
        error.to_string().contains("parcel/P1 is closed") && error.to_string().contains("record 2"),
        "{error}"
    );
    host.deliver(world.begun("P2"), Lane::Outside).await.expect("others are not concerned");
    assert_eq!(world.memory.audit().records[&parcel("P1")].len(), 2, "nothing was written on top");
}

#[tokio::test(start_paused = true)]
async fn what_no_process_governs_is_refused_by_name() {
    let world = World::new();
    let host = world.host().await;
    let mut stranger = world.begun("P1");
    stranger.subject = EntityId::new("spaceship", "P1").expect("legal");
    let error = host.deliver(stranger, Lane::Outside).await.expect_err("there is no such process");
    assert_eq!(error, Error::UnknownKind { kind: "spaceship".into() });
    assert!(!error.is_transient());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_several_threads_the_same_holds() {
    let mut world = World::new();
    world.config.resident_max = 20;
    let host = world.host().await;
    let keys: Vec<String> = (0..100).map(|n| format!("P{n}")).collect();
    let tasks = keys.iter().map(|key| {
        let (host, messages) = (host.clone(), (0..20).map(|n| world.seen(key, n)).collect::<Vec<_>>());
        let begun = world.begun(key);
        tokio::spawn(async move {
            host.deliver(begun, Lane::Outside).await.expect("taken in");
            for message in messages {
                host.deliver(message, Lane::Outside).await.expect("taken in");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    let audit = world.memory.audit();
    for key in &keys {
        assert_eq!(seen_in(&audit, key), (0..20).collect::<Vec<_>>());
    }
    assert!(host.drain(Duration::from_secs(10)).await);
}

/// The host as the timers see it, and when each was told.
#[derive(Debug)]
struct Told {
    host: Host,
    clock: SharedClock,
    firings: Mutex<Vec<(Timestamp, Timestamp)>>,
}

#[async_trait]
impl timer::Mailbox for Told {
    async fn deliver(&self, envelope: Envelope) -> Result<(), Box<dyn std::fmt::Display + Send>> {
        let due = envelope.time.expect("a timer's message says when it was due");
        self.firings.lock().expect("no panic").push((due, self.clock.now()));
        self.host.deliver(envelope, Lane::Inside).await.map(drop).map_err(|error| Box::new(error) as _)
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_fires_late_but_never_early_and_a_cleared_one_not_at_all() {
    let world = World::new();
    let host = world.host().await;
    let told = Arc::new(Told { host: host.clone(), clock: world.clock.clone(), firings: Mutex::default() });
    let timers = |told: &Arc<Told>| {
        let journal = Arc::new(world.memory.shared());
        Timers::new(timer::Config::default(), journal, told.clone(), world.clock.clone(), Waker::default())
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(timers(&told).run(async move { drop(stopped.await) }));
    for key in ["P1", "P2", "P3"] {
        host.deliver(world.begun(key), Lane::Outside).await.expect("taken in");
    }
    tokio::time::sleep(Duration::from_secs(3599)).await;
    let arrived = world.event("P2", "arrived", "parcel.arrived", Value::Null);
    host.deliver(arrived, Lane::Outside).await.expect("taken in");
    assert_eq!(told.firings.lock().expect("no panic").len(), 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status =
        async |key: &str| host.state(&parcel(key)).await.expect("readable").expect("it exists").status;
    assert_eq!(
        [&*status("P1").await, &*status("P2").await, &*status("P3").await],
        ["overdue", "home", "overdue"]
    );
    let due = BEGIN.plus(Duration::from_hours(1));
    let fired = told.firings.lock().expect("no panic").clone();
    assert_eq!(fired.len(), 2, "{fired:?}");
    assert!(
        fired.iter().all(|(at, now)| *at == due && now >= at && now.since(*at).as_millis() <= 5),
        "{fired:?}"
    );

    // It runs anew, nobody listens when it is due, and it is told as soon as somebody does.
    host.deliver(world.seen("P1", 1), Lane::Outside).await.expect("taken in");
    drop(stop);
    running.await.expect("it ends");
    tokio::time::sleep(Duration::from_hours(2)).await;
    assert_eq!(&*status("P1").await, "moving");
    let running = tokio::spawn(timers(&told).run(std::future::pending()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(&*status("P1").await, "overdue");
    assert_eq!(told.firings.lock().expect("no panic").len(), 3);
    running.abort();
}

/// Says yes and does nothing.
#[derive(Debug, Default)]
struct Void(AtomicUsize);

#[async_trait]
impl timer::Mailbox for Void {
    async fn deliver(&self, _: Envelope) -> Result<(), Box<dyn std::fmt::Display + Send>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_stays_in_the_store_is_told_once_a_second_and_not_in_a_circle() {
    let world = World::new();
    let host = world.host().await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    tokio::time::sleep(Duration::from_hours(1)).await;
    let void = Arc::new(Void::default());
    let journal = Arc::new(world.memory.shared());
    // A full page makes it look again at once.
    let config = timer::Config { page: 1, ..timer::Config::default() };
    let timers = Timers::new(config, journal, void.clone(), world.clock.clone(), Waker::default());
    let time_out =
        tokio::time::timeout(Duration::from_millis(10_500), timers.run(std::future::pending())).await;
    assert!(time_out.is_err());
    let told = void.0.load(Ordering::SeqCst);
    assert!((5..=11).contains(&told), "told {told} times in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_hint_wakes_the_timers_before_their_patience_ends() {
    let world = World::new();
    let host = world.host().await;
    host.deliver(world.begun("P1"), Lane::Outside).await.expect("taken in");
    let row =
        world.memory.due_timers(BEGIN.plus(Duration::from_secs(9999)), 1).await.expect("no fault").remove(0);
    tokio::time::sleep(Duration::from_hours(1) - Duration::from_millis(100)).await;
    let (void, waker) = (Arc::new(Void::default()), Waker::default());
    let patient = timer::Config { patience: Duration::from_hours(1), ..timer::Config::default() };
    // The store cannot say when the next one is due; only the hint does.
    let mute = world.memory.with_fault(Arc::new(|call| match call {
        "next_timer" => FaultAction::FailBefore,
        _ => FaultAction::Proceed,
    }));
    let timers = Timers::new(patient, Arc::new(mute), void.clone(), world.clock.clone(), waker.clone());
    let running = tokio::spawn(timers.run(std::future::pending()));
    tokio::time::sleep(Duration::from_millis(10)).await;
    waker.hint(&[row]);
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(void.0.load(Ordering::SeqCst), 0, "not early");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(void.0.load(Ordering::SeqCst), 1);
    running.abort();
}

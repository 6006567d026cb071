//! The journal of each released version stays readable: what it wrote is decoded, folded and written again byte for byte, and a node
//! of today goes on with it.
//!
//! `tests/golden/journal-0.1/frames.txt` holds every record and every state as 0.1 stored them, one frame a line in hexadecimal. It is never
//! changed. A stored form that must change gets a new schema version in `codec` and is lifted when read; until then these tests fail.
//! A new release adds a directory of its own: `cargo test --test golden_journal -- --ignored` writes one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use syncline::clock::{SharedClock, TokioClock};
use syncline::codec;
use syncline::host::{Deaf, Host, HostConfig, Lane, Means};
use syncline::journal::memory::Memory;
use syncline::journal::{Append, DedupKey, Journal as _, Snapshot};
use syncline_actors::document::Reader;
use syncline_actors::entity::State;
use syncline_actors::envelope::{
    Action, Body, Command, Envelope, Event, Evidence, Intervention, Migration, Outcome, OutcomeClass, Raw,
    TimerFired,
};
use syncline_actors::id::{EntityId, NodeId, ShardId};
use syncline_actors::outbox::Rows;
use syncline_actors::process::{Catalog, Process, parse};
use syncline_actors::record::{Hash, Record};
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

const BEGIN: Timestamp = Timestamp(1_764_000_000_000);

/// Every stored form that 0.1 has and that a process can come to. What is appended later is not in the journal of 0.1.
const FORMS: [&str; 46] = [
    "Change::Assigned",
    "Change::Began",
    "Change::CalledOff",
    "Change::Closed",
    "Change::Compensated",
    "Change::Compensating",
    "Change::Deferred",
    "Change::Emitted",
    "Change::Ended",
    "Change::Entered",
    "Change::MilestoneMissed",
    "Change::MilestoneReached",
    "Change::Migrated",
    "Change::Opened",
    "Change::Parked",
    "Change::Refused",
    "Change::Reissued",
    "Change::Resolved",
    "Change::Resumed",
    "Change::Settled",
    "Change::TimerCleared",
    "Change::TimerSet",
    "Body::Command",
    "Body::Event",
    "Body::Intervention",
    "Body::Outcome",
    "Body::Timer",
    "Action::Migrate",
    "Action::Resolve",
    "Action::Retry",
    "Verdict::Applied",
    "Verdict::Deferred",
    "Verdict::Ignored",
    "Verdict::Rejected",
    "Rejection::Expression",
    "Rejection::Guarded",
    "Rejection::Limit",
    "Rejection::NoException",
    "Rejection::NotBegun",
    "Rejection::OutOfTurn",
    "Rejection::Unknown",
    "Class::Compensation",
    "Class::DeadLetter",
    "Class::Failure",
    "Class::Hold",
    "Class::Late",
];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal-0.1")
}

fn text(file: &str) -> String {
    std::fs::read_to_string(directory().join(file)).expect("it is checked in")
}

/// What was stored of one entity: its records and its state, as frames.
struct Stored {
    entity: EntityId,
    frames: Vec<Vec<u8>>,
    state: Vec<u8>,
}

fn stored() -> Vec<Stored> {
    let mut all: BTreeMap<EntityId, Stored> = BTreeMap::new();
    for line in text("frames.txt").lines().filter(|line| !line.starts_with('#')) {
        let (what, hex) = line.rsplit_once(' ').expect("a line has a frame");
        let (what, entity) = what.split_once(' ').expect("a line names an entity");
        let entity = EntityId::parse(entity).expect("it is an id");
        let stored = all.entry(entity.clone()).or_insert_with(|| Stored {
            entity,
            frames: Vec::new(),
            state: Vec::new(),
        });
        let frame = hex::decode(hex).expect("it is hexadecimal");
        match what {
            "record" => stored.frames.push(frame),
            "state" => stored.state = frame,
            other => panic!("what is {other}?"),
        }
    }
    all.into_values().collect()
}

/// The records of an entity, each following on the one before.
fn records(stored: &Stored) -> Vec<Record> {
    let mut prev = Hash::default();
    let mut records = Vec::new();
    for frame in &stored.frames {
        let record = codec::decode_record(frame).unwrap_or_else(|error| panic!("{}: {error}", stored.entity));
        assert_eq!((record.seq, record.prev), (records.len() as u64 + 1, prev), "{}", stored.entity);
        prev = codec::record_hash(frame).expect("it is a frame");
        records.push(record);
    }
    records
}

#[test]
fn what_was_written_is_read_and_written_the_same() {
    let all = stored();
    assert!(all.len() >= 5, "the journal was not found");
    for stored in &all {
        let mut state = State::default();
        for (record, frame) in records(stored).iter().zip(&stored.frames) {
            let (again, _) = codec::encode_record(record).expect("it is written");
            assert_eq!(hex::encode(&again), hex::encode(frame), "{} {}", stored.entity, record.seq);
            state.fold(record);
        }
        let kept =
            codec::decode_state(&stored.state).unwrap_or_else(|error| panic!("{}: {error}", stored.entity));
        assert_eq!(state, kept, "{}", stored.entity);
        let again = codec::encode_state(&state).expect("it is written");
        assert_eq!(hex::encode(&again), hex::encode(&stored.state), "{}", stored.entity);
    }
}

/// The name of a variant, as its `Debug` form begins.
fn variant(of: &str, value: &impl std::fmt::Debug) -> String {
    let shown = format!("{value:?}");
    let name: String = shown.chars().take_while(|letter| letter.is_alphanumeric()).collect();
    format!("{of}::{name}")
}

#[test]
fn every_stored_form_is_in_it() {
    use syncline_actors::decision::{Change, Verdict};
    let mut seen = BTreeSet::new();
    for record in stored().iter().flat_map(records) {
        seen.insert(variant("Body", &record.envelope.body));
        if let Body::Intervention(by) = &record.envelope.body {
            seen.insert(variant("Action", &by.action));
        }
        seen.insert(variant("Verdict", &record.answer.verdict));
        if let Verdict::Rejected(rejection) = &record.answer.verdict {
            seen.insert(variant("Rejection", rejection));
        }
        for change in &record.changes {
            seen.insert(variant("Change", change));
            match change {
                Change::Refused(rejection) => drop(seen.insert(variant("Rejection", rejection))),
                Change::Opened(exception) => drop(seen.insert(variant("Class", &exception.class))),
                _ => {}
            }
        }
    }
    let missing: Vec<_> = FORMS.iter().filter(|form| !seen.contains(**form)).collect();
    assert!(missing.is_empty(), "{missing:?} of {seen:?}");
}

fn process(version: u32) -> Process {
    let text = text("process.yaml").replace("version: 1", &format!("version: {version}"));
    let reader = Reader::default();
    let process = reader.read("process.yaml", &text).and_then(|node| parse::parse(&node, &text, &reader));
    assert!(reader.problems().is_empty(), "{}", reader.problems());
    process.expect("without problems it compiles")
}

/// A host that has its definitions from `catalog` and from what `memory` keeps.
async fn host(memory: &Memory, clock: &SharedClock, catalog: Catalog) -> Host {
    let means = Means {
        catalog,
        journal: Arc::new(memory.shared()),
        clock: clock.clone(),
        hints: Arc::new(Deaf),
        observer: Arc::new(Deaf),
    };
    Host::start(HostConfig::new(NodeId("golden".into())), means).await.expect("it starts")
}

#[tokio::test(start_paused = true)]
async fn a_node_of_today_goes_on_with_it() {
    let memory = Memory::new();
    let all = stored();
    for version in [1, 2] {
        memory.keep_definition("golden", version, &process(version).text).await.expect("it is kept");
    }
    let shards: Vec<_> = ShardId::all().collect();
    let grants = memory.acquire(&shards, &NodeId("golden".into())).await.expect("they are free");
    for stored in &all {
        let epoch =
            grants.iter().find(|grant| grant.shard == stored.entity.shard()).expect("all are held").epoch;
        for (record, frame) in records(stored).into_iter().zip(&stored.frames) {
            let append = Append {
                entity: stored.entity.clone(),
                epoch,
                seq: record.seq,
                prev: record.prev,
                hash: codec::record_hash(frame).expect("it is a frame"),
                frame: frame.clone().into(),
                at: record.envelope.at,
                dedup: vec![DedupKey {
                    scope: format!("source:{}", record.envelope.source).into(),
                    id: record.envelope.id.clone(),
                    expires: None,
                }],
                answer: record.answer.clone(),
                ended: false,
                rows: Rows::of(&record),
                terms: Vec::new(),
            };
            memory.append(append).await.expect("it follows");
        }
        // Half of them have a snapshot as 0.1 kept it.
        if stored.entity.key().ends_with('1') {
            let (seq, last) = (stored.frames.len() as u64, stored.frames.last().expect("there is one"));
            let hash = codec::record_hash(last).expect("it is a frame");
            let snapshot = Snapshot { seq, hash, frame: stored.state.clone().into() };
            memory.save_snapshot(epoch, &stored.entity, snapshot).await.expect("it is kept");
        }
    }
    memory.release(&grants).await.expect("they were held");

    let clock: SharedClock = Arc::new(TokioClock::starting_at(BEGIN.plus(Duration::from_hours(100))));
    let host = host(&memory, &clock, Catalog::default()).await;
    let mut went_on = 0;
    for stored in &all {
        let state = host.state(&stored.entity).await.expect("it is served");
        assert_eq!(state, codec::decode_state(&stored.state).ok(), "{}", stored.entity);
        let timeline = host.timeline(&stored.entity, 1, 1000).await.expect("it is served");
        assert_eq!(timeline.len(), stored.frames.len());
        // What it knew it knows.
        let known = timeline[0].envelope.clone();
        assert!(
            host.deliver(known, Lane::Outside).await.expect("it is answered").duplicate,
            "{}",
            stored.entity
        );
        let state = state.unwrap_or_default();
        if state.has_begun() && state.ending.is_none() && state.compensating.is_none() {
            let undo = Body::Command(Command { name: "golden.undo".into(), data: Value::Null });
            let reply =
                host.deliver(envelope(&stored.entity, "today", clock.now(), undo), Lane::Outside).await;
            assert_eq!(&*reply.expect("it is answered").answer.status, "undoing", "{}", stored.entity);
            went_on += 1;
        }
    }
    assert!(went_on >= 2, "some of them are alive");
}

fn envelope(entity: &EntityId, id: &str, at: Timestamp, body: Body) -> Envelope {
    let is_outside = matches!(body, Body::Event(_) | Body::Command(_));
    Envelope {
        id: id.into(),
        source: "golden".into(),
        subject: entity.clone(),
        correlation_id: format!("flow-{}", entity.key()).into(),
        causation_id: is_outside.then(|| "cause".into()),
        traceparent: is_outside.then(|| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        time: is_outside.then_some(at),
        at,
        remember_ms: is_outside.then_some(604_800_000),
        body,
        evidence: is_outside.then(|| Evidence {
            content_type: Some("application/json".into()),
            key_id: Some("current".into()),
            body: Raw(b"{\"golden\":true}".as_slice().into()),
        }),
    }
}

/// Someone who writes a golden journal: each entity through a real host.
struct Writer {
    host: Host,
    clock: SharedClock,
    messages: u32,
}

impl Writer {
    async fn send(&mut self, entity: &EntityId, body: Body) -> State {
        self.messages += 1;
        let envelope = envelope(entity, &format!("m-{}", self.messages), self.clock.now(), body);
        self.host.deliver(envelope, Lane::Inside).await.expect("it is taken");
        self.host.state(entity).await.expect("it is served").expect("it exists")
    }

    async fn event(&mut self, entity: &EntityId, name: &str, data: &str) -> State {
        let data = Value::from_json(data.as_bytes(), 1000).expect("it is JSON");
        self.send(entity, Body::Event(Event { name: name.into(), data })).await
    }

    async fn command(&mut self, entity: &EntityId, name: &str) -> State {
        self.send(entity, Body::Command(Command { name: name.into(), data: Value::Null })).await
    }

    async fn answer(&mut self, entity: &EntityId, name: &str, class: OutcomeClass, result: &str) -> State {
        let state = self.host.state(entity).await.expect("it is served").expect("it exists");
        let effect = state.pending.values().find(|effect| &*effect.name == name).expect("it waits").id;
        let result = Value::from_json(result.as_bytes(), 1000).expect("it is JSON");
        let outcome =
            Outcome { effect, class, result, detail: class.word().into(), status: Some(200), attempts: 2 };
        self.send(entity, Body::Outcome(outcome)).await
    }

    async fn act(&mut self, entity: &EntityId, action: Action) -> State {
        let by = Intervention { by: "ops".into(), reason: "golden".into(), action };
        self.send(entity, Body::Intervention(by)).await
    }

    async fn timer(&mut self, entity: &EntityId, name: &str) -> State {
        let state = self.host.state(entity).await.expect("it is served").expect("it exists");
        let token = state.timers[name].0;
        self.send(entity, Body::Timer(TimerFired { name: name.into(), token })).await
    }

    async fn begin(&mut self, key: &str) -> EntityId {
        let entity = EntityId::new("golden", key).expect("a legal key");
        let data = format!(r#"{{"id":"{key}","b":true,"l":[1,2.50,"x",null],"m":{{"k":{{"deep":-7}}}}}}"#);
        self.event(&entity, "golden.begin", &data).await;
        entity
    }

    /// Begun, and looked at by a person.
    async fn held(&mut self, key: &str) -> EntityId {
        let entity = self.begin(key).await;
        self.answer(&entity, "one", OutcomeClass::Ok, r#"{"n":10.10}"#).await;
        entity
    }
}

fn newest(state: &State) -> u64 {
    *state.exceptions.keys().next_back().expect("one is open")
}

/// The whole way: held, rejected in every way, corrected, a dead letter tried again, a failure resolved by hand, completed.
async fn completed(w: &mut Writer) {
    let a = w.held("A-1").await;
    w.command(&a, "golden.step").await; // guarded
    w.command(&a, "golden.spin").await; // goes round until the limit
    w.command(&a, "golden.nope").await; // unknown
    w.act(&a, Action::Retry { exception: 9_999, set: Value::Null }).await; // no such exception
    w.event(&a, "golden.begin", r#"{"id":"again"}"#).await; // ignored
    w.event(&a, "golden.later", "{}").await; // deferred
    let state = w.event(&a, "golden.map", r#"{"n":"ten"}"#).await; // an expression fails on it
    w.act(&a, Action::Resolve { exception: newest(&state), result: Value::Null }).await;
    let state = w.host.state(&a).await.expect("it is served").expect("it exists");
    let set = Value::map([("a", Value::from("corrected"))]);
    w.act(&a, Action::Retry { exception: newest(&state), set }).await;
    let state = w.answer(&a, "two", OutcomeClass::Dead, "null").await;
    w.act(&a, Action::Retry { exception: newest(&state), set: Value::Null }).await; // the same effect again
    let state = w.timer(&a, "milestone.finished").await; // late, and shouts
    w.act(&a, Action::Retry { exception: newest(&state), set: Value::Null }).await; // there is nothing to retry
    let state = w.answer(&a, "two", OutcomeClass::Failed, r#"{"said":"no"}"#).await;
    let failure =
        state.exceptions.values().find(|exception| exception.effect.is_some()).expect("it failed").number;
    let result = Value::map([("a", Value::from(7))]);
    w.act(&a, Action::Resolve { exception: failure, result }).await; // done by hand; what waited has its turn
}

/// Undone: what is under way is called off, and one step cannot be undone without a person.
async fn undone(w: &mut Writer) {
    let b = w.held("B-1").await;
    w.timer(&b, "holding.1h").await;
    w.command(&b, "golden.undo").await;
    w.command(&b, "golden.step").await; // out of turn
    w.answer(&b, "two", OutcomeClass::Cancelled, "null").await;
    let state = w.answer(&b, "unone", OutcomeClass::Failed, "null").await;
    w.act(&b, Action::Resolve { exception: newest(&state), result: Value::Null }).await;
}

/// Those that live on: held, with an effect under way, on another version; and one that never began.
async fn alive(w: &mut Writer) {
    w.held("C-1").await;
    w.begin("D-2").await;
    let e = w.held("E-2").await;
    let state = w.host.state(&e).await.expect("it is served").expect("it exists");
    let migration = Migration {
        from: 1,
        to: 2,
        at: state.seq,
        state: "holding".into(),
        fields: state.fields.clone(),
        enter: false,
        restart_timers: true,
        with_pending: false,
    };
    w.act(&e, Action::Migrate(migration)).await;
    let f = EntityId::new("golden", "F-2").expect("a legal key");
    w.command(&f, "golden.step").await;
}

/// Writes the journal anew: only for a release that has none yet.
#[tokio::test(start_paused = true)]
#[ignore = "writes tests/golden/journal-*/frames.txt"]
async fn write() {
    let memory = Memory::new();
    let clock: SharedClock = Arc::new(TokioClock::starting_at(BEGIN));
    let mut catalog = Catalog::default();
    catalog.add(process(1));
    let first = host(&memory, &clock, catalog).await;
    let mut writer = Writer { host: first, clock: clock.clone(), messages: 0 };
    completed(&mut writer).await;
    undone(&mut writer).await;
    // From here on there is a version 2, under which nothing begins by itself.
    memory.keep_definition("golden", 2, &process(2).text).await.expect("it is kept");
    let mut catalog = Catalog::default();
    catalog.add(process(1));
    writer.host.drain(Duration::from_secs(5)).await;
    writer.host = host(&memory, &clock, catalog).await;
    alive(&mut writer).await;

    let mut text =
        String::from("# Written by release 0.1, never to be changed: see tests/golden_journal.rs.\n");
    for (entity, written) in memory.audit().records {
        for record in &written {
            let _ = writeln!(text, "record {entity} {}", hex::encode(&record.frame));
        }
        let state = writer.host.state(&entity).await.expect("it is served").expect("it exists");
        let _ = writeln!(
            text,
            "state {entity} {}",
            hex::encode(codec::encode_state(&state).expect("it is written"))
        );
    }
    std::fs::write(directory().join("frames.txt"), text).expect("it is written");
}

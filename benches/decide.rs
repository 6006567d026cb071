//! What does a decision cost alone, without HTTP and store? The order process answers to a confirmed opportunity (one state change, four
//! more states passed by guards, a call with a mapping), and to an outcome with five guards before it; a mapping of twenty fields; a
//! record framed and hashed. No JSON is parsed and no expression compiled per message, so each must be a few microseconds.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use syncline::codec;
use syncline::integration;
use syncline_actors::decide::decide;
use syncline_actors::entity::State;
use syncline_actors::envelope::{Body, Envelope, Event};
use syncline_actors::expr::{Expr, Names, Scope};
use syncline_actors::id::{EntityId, Epoch};
use syncline_actors::mapping::Mapping;
use syncline_actors::process::Process;
use syncline_actors::record::{Hash, Record};
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

/// Five guards, of which the last holds, and a mapping of twenty fields.
const PROCESS: &str = r#"
process: decided
version: 1
title: Decided
owner: {team: performance, escalate: performance}
initial: new
fields: {amount: number, currency: text, seen: map}
messages:
  decided.came: {is: event, starts: true}
  decided.close: {is: command}
effects: {}
states:
  new:
    on:
      decided.came:
        - {when: "data.currency == 'USD'", to: done}
        - {when: "dec(data.amount) > 1000", to: done}
        - {when: "data.lines.exists(line, line.quantity > 10)", to: done}
        - {when: "has(data.blocked) && data.blocked", to: done}
        - when: "data.country in ['DE', 'FR', 'IT']"
          set:
            amount: "dec(data.amount)"
            currency: "data.currency"
            seen:
FIELDS
          to: new
      decided.close: {to: done}
  done: {end: completed}
"#;

fn process() -> Arc<Process> {
    let fields = (0..20).map(|n| format!("              field_{n}: \"data.field_{n}\"\n"));
    let fields = fields.collect::<Vec<_>>().concat();
    let mut files = integration::Files::new();
    files.insert("processes/decided.yaml".to_owned(), PROCESS.replace("FIELDS\n", &fields));
    let read = integration::read(&files, "");
    assert!(read.integration.is_some(), "{}", read.problems);
    read.integration.expect("just looked at").catalog.newest("decided").expect("it is there").clone()
}

fn data() -> Value {
    let fields = (0..20).map(|n| format!(r#","field_{n}":"value {n}""#)).collect::<Vec<_>>().concat();
    let json = format!(
        r#"{{"amount":"129.90","currency":"EUR","country":"IT","lines":[{{"sku":"A","quantity":1}},{{"sku":"B","quantity":2}}]{fields}}}"#
    );
    Value::from_json(json.as_bytes(), 1 << 20).expect("it is JSON")
}

fn envelope() -> Envelope {
    Envelope {
        id: "m-1".into(),
        source: "crm".into(),
        subject: EntityId::new("decided", "D-1").expect("legal"),
        correlation_id: "decided/D-1".into(),
        causation_id: None,
        traceparent: None,
        time: None,
        at: Timestamp(1_795_000_000_000),
        remember_ms: Some(259_200_000),
        body: Body::Event(Event { name: "decided.came".into(), data: data() }),
        evidence: None,
    }
}

fn decided(c: &mut Criterion) {
    let (process, envelope) = (process(), envelope());
    let mut state = State::default();
    let decision = decide(&process, &state, &envelope).expect("it is taken");
    let record = Record {
        seq: 1,
        epoch: Epoch(1),
        prev: Hash::default(),
        envelope: envelope.clone(),
        changes: decision.changes,
        answer: decision.answer,
    };
    state.fold(&record);
    let mut group = c.benchmark_group("decide");
    group.throughput(Throughput::Elements(1));
    group.bench_function("5 guards, 20 fields mapped", |b| {
        b.iter(|| decide(black_box(&process), black_box(&state), black_box(&envelope)).expect("it is taken"));
    });
    group.bench_function("the record, framed and hashed", |b| {
        b.iter(|| codec::encode_record(black_box(&record)).expect("it fits"));
    });
    let frame = codec::encode_record(&record).expect("it fits").0;
    group.bench_function("the record, read and folded", |b| {
        b.iter(|| {
            let mut state = State::default();
            state.fold(&codec::decode_record(black_box(&frame)).expect("it was just written"));
            state
        });
    });
    group.finish();
}

fn mapped(c: &mut Criterion) {
    let names = Names::new(["data"]);
    let entry = |n: usize| {
        let source = format!("data.field_{n}");
        (format!("field_{n}"), Mapping::expr(Expr::compile(&source, &names).expect("it compiles")))
    };
    let mapping = Mapping::map((0..20).map(entry).collect());
    let (data, json) = (data(), data().to_json());
    let mut group = c.benchmark_group("mapping");
    group.throughput(Throughput::Elements(1));
    group.bench_function("20 fields", |b| {
        b.iter(|| mapping.eval(black_box(&Scope::new().with("data", &data))).expect("all are there"));
    });
    group.bench_function("the JSON it comes from, read", |b| {
        b.iter(|| Value::from_json(black_box(json.as_bytes()), 1 << 20).expect("it is JSON"));
    });
    group.finish();
}

criterion_group!(benches, decided, mapped);
criterion_main!(benches);

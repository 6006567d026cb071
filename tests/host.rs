//! The host over the journal in memory, in paused time: what must hold whatever its actors, its journal and its senders do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncline::clock::{Clock as _, SharedClock, TokioClock};
use syncline::host::{
    Deaf, Decide, Error, Host, HostConfig, Lane, Means, Observer, QUARANTINE, QuarantineItem, Reply,
};
use syncline::journal::memory::{FaultAction, Memory};
use syncline::journal::{ExceptionFilter, Journal, SharedJournal};
use syncline_actors::decide::decide;
use syncline_actors::decision::{Rejection, Verdict};
use syncline_actors::document::Reader;
use syncline_actors::entity::State;
use syncline_actors::envelope::{Body, Command, Envelope, Event};
use syncline_actors::id::{EntityId, NodeId, ShardId};
use syncline_actors::process::{Catalog, parse};
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

mod fixture {
    use super::*;

    pub const BEGIN: Timestamp = Timestamp(1_764_000_000_000);

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

    pub fn catalog() -> Catalog {
        let reader = Reader::default();
        let node = reader.read("parcel.yaml", PROCESS).expect("it is YAML");
        let process = parse::parse(&node, PROCESS, &reader);
        assert!(reader.problems().is_empty(), "{:?}", reader.problems());
        let mut catalog = Catalog::default();
        catalog.add(process.expect("it has no problems"));
        catalog
    }

    pub struct World {
        pub memory: Memory,
        pub clock: SharedClock,
        pub config: HostConfig,
        pub observer: Arc<dyn Observer>,
    }

    impl World {
        pub fn new() -> Self {
            let clock: SharedClock = Arc::new(TokioClock::starting_at(BEGIN));
            let config = HostConfig::new(NodeId("n1".into()));
            Self { memory: Memory::new(), clock, config, observer: Arc::new(Deaf) }
        }

        pub async fn host(&self) -> Host {
            self.host_on(Arc::new(self.memory.shared())).await
        }

        pub async fn host_on(&self, journal: SharedJournal) -> Host {
            let means = Means {
                catalog: catalog(),
                journal,
                clock: self.clock.clone(),
                hints: Arc::new(Deaf),
                observer: self.observer.clone(),
            };
            Host::start(self.config.clone(), means).await.expect("it starts")
        }

        pub fn event(&self, key: &str, id: &str, name: &str, data: Value) -> Envelope {
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

        pub fn begun(&self, key: &str) -> Envelope {
            self.event(key, "begun", "parcel.begun", Value::Null)
        }

        pub fn seen(&self, key: &str, n: i64) -> Envelope {
            let data = Value::map([("n", Value::Int(n))]);
            self.event(key, &format!("seen-{n}"), "parcel.seen", data)
        }

        /// What the entity's records say was seen, in order.
        pub fn journaled(&self, key: &str) -> Vec<i64> {
            let audit = self.memory.audit();
            let records = audit.records.get(&parcel(key)).cloned().unwrap_or_default();
            let decode = |written: &syncline::journal::memory::Written| {
                syncline::codec::decode_record(&written.frame).expect("it was written by the host")
            };
            records
                .iter()
                .map(decode)
                .filter_map(|record| record.envelope.body.data()?.get("n").cloned())
                .map(number)
                .collect()
        }
    }

    pub fn parcel(key: &str) -> EntityId {
        EntityId::new("parcel", key).expect("a legal key")
    }

    pub fn number(value: Value) -> i64 {
        match value {
            Value::Int(n) => n,
            other => panic!("{other:?} is no integer"),
        }
    }
}

use fixture::{World, number, parcel};

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

    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(host.stats().resident, 0, "it left when idle");
    assert_eq!(host.deliver(seen.clone(), Lane::Outside).await, Ok(again.clone()), "after passivation");

    host.crash().await;
    let host = world.host().await;
    assert_eq!(host.deliver(seen, Lane::Outside).await, Ok(again), "after a crash");
    assert_eq!(world.journaled("P1"), [1, 2]);
}

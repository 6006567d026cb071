//! Messages between entities: each is taken in once, in order and answered, whatever fails between its sender's record and its
//! outcome. The real host and deliveries over the journal in memory, on one node and on two.
//!
//! An order asks its customer to be in sync and waits; the customer answers whoever asked as soon as it is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use syncline::clock::{Clock as _, TokioClock};
use syncline::delivery::post::{Post, PostError};
use syncline::delivery::wire::{Request, Response, Wire, WireError};
use syncline::delivery::{self, Delivery, MailboxError, Outside, Unobserved};
use syncline::host::{self, Deaf, Hints, Host, HostConfig, Lane, Means};
use syncline::journal::memory::{FaultAction, Memory};
use syncline::journal::{Grant, Journal as _};
use syncline_actors::class::Latency;
use syncline_actors::decision::{Answer, Verdict};
use syncline_actors::document::Reader;
use syncline_actors::entity::State;
use syncline_actors::envelope::{Body, Envelope, Event};
use syncline_actors::id::{EntityId, NodeId, ShardId};
use syncline_actors::letter::{self, Letter};
use syncline_actors::outbox::OutboxRow;
use syncline_actors::placement::{Region, Regions};
use syncline_actors::process::{Catalog, check, parse};
use syncline_actors::record::Record;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;
use tokio::sync::Notify;

const ORDER: &str = "
process: order
version: 1
owner: {team: orders, escalate: orders}
initial: new
fields: {customer: text, why: text}
messages:
  order.placed: {is: event, starts: true}
  customer.ready: {is: event}
effects:
  want: {send: {to: {process: customer, key: order.customer}, event: customer.wanted}, with: {order: entity.key}}
  close: {send: {to: {process: customer, key: order.customer}, command: customer.close}}
states:
  new:
    on: {order.placed: {set: {customer: data.customer}, to: waiting}}
  waiting:
    call: [want]
    on:
      want.failed: {set: {why: error.detail}, to: stuck}
      want.dead: {set: {why: error.detail}, to: stuck}
      customer.ready: {to: closing}
  closing:
    call: [close]
    on:
      close.ok: {to: done}
      close.failed: {set: {why: error.detail}, to: done}
  stuck: {end: failed}
  done: {end: completed}
";

const CUSTOMER: &str = "
process: customer
version: 1
owner: {team: customers, escalate: customers}
initial: new
fields: {asked: list, asking: text}
messages:
  customer.seen: {is: event, starts: true}
  customer.synced: {is: event}
  customer.wanted: {is: event}
  customer.close: {is: command}
effects:
  answer: {send: {to: {entity: customer.asking}, event: customer.ready}, failure: exception}
states:
  new:
    set: {asked: '[]'}
    on:
      customer.seen: {}
      customer.synced: {to: active}
      customer.close: {to: gone}
  active:
    on:
      customer.wanted:
        set: {asking: message.sender, asked: 'customer.asked + [message.sender]'}
        call: [answer]
  gone: {end: completed}
anywhere:
  customer.seen: {except: [new], to: gone}
";

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for text in [ORDER, CUSTOMER] {
        let reader = Reader::default();
        let node = reader.read("process.yaml", text).unwrap();
        let process = parse::parse(&node, text, &reader).unwrap();
        for problem in check::check(&process) {
            reader.note(problem);
        }
        assert!(!reader.problems().is_fatal(), "{}", reader.problems());
        catalog.add(process);
    }
    catalog
}

fn id(text: &str) -> EntityId {
    EntityId::parse(text).unwrap()
}

/// Nobody is called here.
#[derive(Debug)]
struct NoWire;

#[async_trait]
impl Wire for NoWire {
    async fn send(&self, request: Request) -> Result<Response, WireError> {
        panic!("{request:?}");
    }
}

/// The way to the hosts, which a test may make difficult.
#[derive(Debug, Default)]
struct Way {
    hosts: Mutex<Vec<Host>>,
    /// Errors to answer letters with first; `true`: after taking the letter in.
    troubles: Mutex<Vec<(bool, PostError)>>,
    /// Receivers of letters, in the order in which they were taken in.
    taken: Mutex<Vec<(String, Arc<str>)>>,
}

impl Way {
    async fn deliver(&self, envelope: Envelope) -> Result<Answer, host::Error> {
        let shard = envelope.subject.shard();
        let hosts = self.hosts.lock().unwrap().clone();
        let Some(host) = hosts.into_iter().find(|host| host.epoch(shard).is_some()) else {
            return Err(host::Error::NotOwner { shard });
        };
        host.deliver(envelope, Lane::Outside).await.map(|reply| reply.answer)
    }
}

#[async_trait]
impl Post for Way {
    async fn post(&self, envelope: Envelope) -> Result<Answer, PostError> {
        let trouble = self.troubles.lock().unwrap().pop();
        if let Some((false, error)) = trouble {
            return Err(error);
        }
        let taken = (envelope.subject.to_string(), envelope.id.clone());
        let answer = self.deliver(envelope).await.map_err(|error| PostError::Away(error.to_string()))?;
        self.taken.lock().unwrap().push(taken);
        match trouble {
            Some((_, error)) => Err(error),
            None => Ok(answer),
        }
    }
}

/// Outcomes go to the node's own entities.
#[derive(Debug)]
struct Own(Host);

#[async_trait]
impl delivery::Mailbox for Own {
    async fn settle(&self, envelope: Envelope, _latency: Latency) -> Result<(), MailboxError> {
        match self.0.deliver(envelope, Lane::Inside).await {
            Ok(_) => Ok(()),
            Err(host::Error::NotOwner { .. }) => Err(MailboxError::NotOwned),
            Err(error) => Err(MailboxError::Unavailable(error.to_string())),
        }
    }
}

/// Tells deliveries of new work.
#[derive(Debug, Default)]
struct Bell(Mutex<Option<Arc<Delivery>>>);

impl Hints for Bell {
    fn effects(&self, rows: &[OutboxRow]) {
        if let Some(delivery) = &*self.0.lock().unwrap() {
            delivery.hint(rows);
        }
    }
}

struct World {
    memory: Memory,
    clock: TokioClock,
    way: Arc<Way>,
    bells: Vec<Arc<Bell>>,
    regions: Arc<Regions>,
}

impl World {
    fn new() -> Self {
        let clock = TokioClock::starting_at(Timestamp(1_764_000_000_000));
        Self { memory: Memory::new(), clock, way: Arc::default(), bells: Vec::new(), regions: Arc::default() }
    }

    /// Starts a node that takes every `count`th shard, over a handle on the one store.
    async fn node(&mut self, memory: Memory, n: u16, count: u16) {
        let journal = Arc::new(memory);
        let name = NodeId(format!("n{n}").into());
        let config = HostConfig {
            takes_all: false,
            // A day passes here.
            renew_every: Duration::from_hours(1),
            lease: Duration::from_hours(100),
            regions: self.regions.clone(),
            region: Some(Region("eu".into())).filter(|_| !self.regions.is_empty()),
            ..HostConfig::new(name)
        };
        let bell = Arc::new(Bell::default());
        let means = Means {
            catalog: catalog(),
            journal: journal.clone(),
            clock: Arc::new(self.clock),
            hints: bell.clone(),
            observer: Arc::new(Deaf),
        };
        let host = Host::start(config, means).await.unwrap();
        let shards: Vec<_> = ShardId::all().filter(|shard| shard.0 % count == n).collect();
        assert_eq!(host.claim(&shards).await.unwrap().len(), shards.len());
        let held = host.clone();
        let outside = Outside {
            harvest: Arc::new(syncline::delivery::harvest::Fallow),
            journal,
            mailbox: Arc::new(Own(host.clone())),
            wire: Arc::new(NoWire),
            post: self.way.clone(),
            clock: Arc::new(self.clock),
            epochs: Arc::new(move |shard| held.epoch(shard)),
            shared_as: None,
            observer: Arc::new(Unobserved),
            paused: BTreeSet::new(),
            seed: 7,
        };
        let delivery = Delivery::start(Vec::new(), &|_| None, outside).unwrap();
        *bell.0.lock().unwrap() = Some(Arc::new(delivery));
        self.bells.push(bell);
        self.way.hosts.lock().unwrap().push(host);
    }

    async fn one() -> Self {
        let mut world = Self::new();
        world.node(world.memory.shared(), 0, 1).await;
        world
    }

    /// Everything ends on the spot, and its leases are as good as run out.
    async fn crash(&mut self) {
        self.bells.drain(..).for_each(|bell| drop(bell.0.lock().unwrap().take()));
        let hosts = std::mem::take(&mut *self.way.hosts.lock().unwrap());
        for host in hosts {
            let grants: Vec<Grant> = host.owned();
            host.crash().await;
            self.memory.release(&grants).await.unwrap();
        }
    }

    fn event(&self, to: &str, name: &str, data: Value) -> Envelope {
        Envelope {
            id: format!("{to} {name}").into(),
            source: "test".into(),
            subject: id(to),
            correlation_id: format!("flow of {to}").into(),
            causation_id: None,
            traceparent: None,
            time: None,
            at: self.clock.now(),
            remember_ms: None,
            body: Body::Event(Event { name: name.into(), data }),
            evidence: None,
        }
    }

    fn placed(&self, order: &str, customer: &str) -> Envelope {
        self.event(order, "order.placed", Value::map([("customer", Value::from(customer))]))
    }

    async fn tell(&self, envelope: Envelope) -> Answer {
        self.way.deliver(envelope).await.unwrap()
    }

    async fn state(&self, entity: &str) -> State {
        let entity = id(entity);
        let hosts = self.way.hosts.lock().unwrap().clone();
        let host = hosts.into_iter().find(|host| host.epoch(entity.shard()).is_some()).unwrap();
        host.state(&entity).await.unwrap().unwrap_or_default()
    }

    /// Lets time pass until the entity is in `status`.
    async fn until(&self, entity: &str, status: &str) -> State {
        let mut pause = Duration::from_millis(100);
        for _ in 0..200 {
            let state = self.state(entity).await;
            if &*state.status == status {
                return state;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_mins(30));
        }
        panic!("{entity} is in `{}`, not in `{status}`", self.state(entity).await.status);
    }

    fn records(&self, entity: &str) -> Vec<Record> {
        let audit = self.memory.audit();
        let written = audit.records.get(&id(entity)).map_or(&[][..], Vec::as_slice);
        written.iter().map(|written| syncline::codec::decode_record(&written.frame).unwrap()).collect()
    }
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_list).unwrap_or_default();
    list.iter().filter_map(Value::as_text).map(ToOwned::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn an_order_waits_for_its_customer_and_hears_of_it() {
    let world = World::one().await;
    world.tell(world.placed("order/SO-1", "C-1")).await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(&*world.state("order/SO-1").await.status, "waiting");
    let customer = world.state("customer/C-1").await;
    assert_eq!(customer.deferred.len(), 1, "the customer is not there yet, and what is for it waits");
    world.tell(world.event("customer/C-1", "customer.seen", Value::Null)).await;
    world.tell(world.event("customer/C-1", "customer.synced", Value::Null)).await;
    world.until("order/SO-1", "done").await;
    let customer = world.state("customer/C-1").await;
    assert_eq!(texts(customer.field("asked")), ["order/SO-1"]);
    let asked = &world.records("customer/C-1")[0].envelope;
    assert_eq!((&*asked.source, &*asked.correlation_id), ("entity", "flow of order/SO-1"));
    let why = world.state("order/SO-1").await.field("why").cloned();
    assert!(
        why.as_ref()
            .and_then(Value::as_text)
            .is_some_and(|why| why.contains("`customer.close` is out of turn")),
        "a command that is refused is a failure: {why:?}"
    );
}

/// Runs the story with a crash at the `step`th write, before or after it; false when there are not so many.
async fn crash_at(step: usize, after: bool, nodes: u16) -> bool {
    let mut world = World::new();
    let (writes, dead, died) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    for n in 0..nodes {
        let (writes, dead, died) = (writes.clone(), dead.clone(), died.clone());
        let fault = move |call: &'static str| {
            if dead.load(Ordering::Relaxed) {
                return FaultAction::HangBefore;
            }
            if matches!(call, "append" | "progress") && writes.fetch_add(1, Ordering::Relaxed) == step {
                dead.store(true, Ordering::Relaxed);
                died.notify_one();
                return if after { FaultAction::HangAfter } else { FaultAction::HangBefore };
            }
            FaultAction::Proceed
        };
        world.node(world.memory.with_fault(Arc::new(fault)), n, nodes).await;
    }
    let story = [
        world.event("customer/C-1", "customer.seen", Value::Null),
        world.placed("order/SO-1", "C-1"),
        world.placed("order/SO-2", "C-1"),
        world.event("customer/C-1", "customer.synced", Value::Null),
        world.placed("order/SO-3", "C-1"),
    ];
    let told = async {
        for message in &story {
            world.way.deliver(message.clone()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for order in ["order/SO-1", "order/SO-2", "order/SO-3"] {
            world.until(order, "done").await;
        }
    };
    let crashed = tokio::select! {
        () = died.notified() => true,
        () = told => false,
    };
    if crashed {
        world.crash().await;
        for n in 0..nodes {
            world.node(world.memory.shared(), n, nodes).await;
        }
        for message in &story {
            world.tell(message.clone()).await; // its sender has no ack, or does not know any more
        }
    }
    let mut orders = ["order/SO-1", "order/SO-2", "order/SO-3"];
    for order in orders {
        world.until(order, "done").await;
        let ready = |record: &&Record| record.envelope.body.name() == "customer.ready";
        assert_eq!(
            world.records(order).iter().filter(ready).count(),
            1,
            "step {step}: {order} heard it once"
        );
    }
    let mut asked = texts(world.state("customer/C-1").await.field("asked"));
    asked.sort_unstable();
    orders.sort_unstable();
    assert_eq!(asked, orders, "step {step}: each was taken in once");
    crashed
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_any_two_steps_loses_and_doubles_nothing() {
    let mut steps = 0;
    while crash_at(steps, false, 1).await & crash_at(steps, true, 1).await {
        steps += 1;
    }
    assert!(steps > 15, "the story has {steps} writes");
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_two_nodes_between_any_two_steps_loses_and_doubles_nothing() {
    let nodes = |key: &str| id(key).shard().0 % 2;
    assert_ne!(nodes("customer/C-1"), nodes("order/SO-1"), "messages must go from node to node");
    let mut steps = 0;
    while crash_at(steps, false, 2).await & crash_at(steps, true, 2).await {
        steps += 1;
    }
    assert!(steps > 15, "the story has {steps} writes");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_and_a_busy_receiver_are_tried_again_under_one_id() {
    let world = World::one().await;
    let busy = PostError::Busy { why: "the mailbox is full".to_owned(), after: Duration::from_hours(1) };
    let away = || PostError::Away("no answer".to_owned());
    *world.way.troubles.lock().unwrap() =
        vec![(true, away()), (false, busy), (true, away()), (false, away())];
    let began = world.clock.now();
    world.tell(world.event("customer/C-1", "customer.seen", Value::Null)).await;
    world.tell(world.event("customer/C-1", "customer.synced", Value::Null)).await;
    world.tell(world.placed("order/SO-1", "C-1")).await;
    world.until("order/SO-1", "done").await;
    assert!(world.clock.now().since(began) > Duration::from_hours(1), "the receiver's time is kept");
    let taken = world.way.taken.lock().unwrap().clone();
    let wanted = taken.iter().filter(|(to, _)| to == "customer/C-1").map(|(_, id)| id.to_string());
    let ids: BTreeSet<String> = wanted.filter(|id| id.contains("#1.")).collect();
    assert_eq!(ids, BTreeSet::from(["entity:order/SO-1#1.0".to_owned()]));
    assert_eq!(texts(world.state("customer/C-1").await.field("asked")), ["order/SO-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_stays_away_makes_a_dead_letter_and_refusal_a_failure() {
    let world = World::one().await;
    let away = || (false, PostError::Away("no answer".to_owned()));
    *world.way.troubles.lock().unwrap() = std::iter::repeat_with(away).take(20_000).collect();
    world.tell(world.placed("order/SO-1", "C-1")).await;
    let order = world.until("order/SO-1", "stuck").await;
    let why = order.field("why").and_then(Value::as_text).unwrap();
    assert!(why.contains("its time of 1day is over") && why.contains("no answer"), "{why}");

    *world.way.troubles.lock().unwrap() = vec![(false, PostError::Never("it is too large".to_owned()))];
    world.tell(world.placed("order/SO-2", "C-1")).await;
    let order = world.until("order/SO-2", "stuck").await;
    assert_eq!(order.field("why").and_then(Value::as_text), Some("it is too large"));
}

#[tokio::test(start_paused = true)]
async fn what_is_bound_to_a_region_sends_within_it_only() {
    let mut world = World::new();
    world.regions = Arc::new(Regions::new(["eu", "us"]).unwrap());
    world.node(world.memory.shared(), 0, 1).await;
    world.tell(world.placed("order/@eu:SO-1", "C-1")).await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(
        world.state("customer/@eu:C-1").await.deferred.len(),
        1,
        "a plain key is one of its own region"
    );
    assert!(world.records("customer/C-1").is_empty());

    world.tell(world.placed("order/@eu:SO-2", "@us:C-1")).await;
    let order = world.until("order/@eu:SO-2", "stuck").await;
    let why = order.field("why").and_then(Value::as_text).unwrap();
    assert!(why.contains("is bound to region `eu` and may not send to customer/@us:C-1"), "{why}");
    assert!(world.way.taken.lock().unwrap().iter().all(|(to, _)| to.starts_with("customer/@eu:")));
}

#[tokio::test(start_paused = true)]
async fn letters_to_one_receiver_keep_their_order_and_hold_up_no_other() {
    let world = World::one().await;
    for customer in ["C-1", "C-2"] {
        let to = format!("customer/{customer}");
        world.tell(world.event(&to, "customer.seen", Value::Null)).await;
        world.tell(world.event(&to, "customer.synced", Value::Null)).await;
    }
    for (order, customer) in [("SO-1", "C-1"), ("SO-2", "C-2"), ("SO-3", "C-1")] {
        world.tell(world.placed(&format!("order/{order}"), customer)).await;
    }
    for order in ["order/SO-1", "order/SO-2", "order/SO-3"] {
        world.until(order, "done").await;
        let answers = world.records(order);
        assert!(answers.iter().all(|record| !matches!(record.answer.verdict, Verdict::Rejected(_))));
    }
}

/// What a system that knows customers by ids of its own tells of one.
fn passed(world: &World, alias: &EntityId, message: &str) -> Envelope {
    let seen = Body::Event(Event { name: "customer.seen".into(), data: Value::Null });
    let body = Letter::passed(alias.clone(), seen, &"erp".into(), "flow of the ERP");
    Envelope {
        source: "erp".into(),
        id: message.into(),
        body,
        ..world.event(&alias.to_string(), "", Value::Null)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_system_addresses_by_its_own_id_waits_for_the_link_and_is_the_systems_word() {
    let mut world = World::new();
    for n in 0..3 {
        world.node(world.memory.shared(), n, 3).await;
    }
    let alias = letter::alias("erp", "customer", "10017").unwrap();
    assert_eq!(alias, id("xref/erp:customer:10017"));
    let message = passed(&world, &alias, "m-1");
    assert_eq!(world.tell(message.clone()).await.verdict, Verdict::Deferred);
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(world.records("customer/C-1").is_empty(), "nobody knows yet whom it is for");
    let link = Value::map([("entity", Value::from("customer/C-1"))]);
    world.tell(world.event("xref/erp:customer:10017", "xref.linked", link)).await;
    world.until("customer/C-1", "new").await;
    world.tell(message).await; // its sender repeats it
    tokio::time::sleep(Duration::from_mins(5)).await;
    let records = world.records("customer/C-1");
    let [record] = &records[..] else { panic!("{records:#?}") };
    let told = (record.envelope.body.name(), &*record.envelope.source, &*record.envelope.correlation_id);
    assert_eq!(told, ("customer.seen", "erp", "flow of the ERP"));
    assert_eq!(letter::sender(&record.envelope.id), None, "a cross-reference is nobody to be answered");
}

//! A world around deliveries: a store, a mailbox that journals outcomes, and systems that answer as a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use syncline::clock::{Clock as _, TokioClock};
use syncline::delivery::contract::Connector;
use syncline::delivery::post::{Post, PostError};
use syncline::delivery::wire::{Request, Response, Wire, WireError};
use syncline::delivery::{Delivery, Epochs, Mailbox, MailboxError, Outside, Unobserved, contract};
use syncline::journal::memory::Memory;
use syncline::journal::{Append, Depth, Journal as _};
use syncline_actors::class::Latency;
use syncline_actors::decision::{Answer, Effect, Verdict};
use syncline_actors::envelope::{Body, Envelope, Outcome};
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{OutboxRow, Progress, Rows};
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;
use tokio::sync::watch;

pub(crate) type Answered = Result<Response, WireError>;

/// A call as a system saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Milliseconds since the world began.
    pub(crate) at: u64,
    pub(crate) connector: String,
    pub(crate) operation: String,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) key: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

type Behaviour = Box<dyn FnMut(&Call) -> (Duration, Answered) + Send>;

/// Every system behind the wire.
pub(crate) struct Vendor {
    clock: TokioClock,
    behaviour: Mutex<Behaviour>,
    calls: watch::Sender<Vec<Call>>,
    running: Mutex<BTreeMap<String, (usize, usize)>>,
    keys_running: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Vendor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vendor")
    }
}

impl Vendor {
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    pub(crate) fn operations(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.operation).collect()
    }

    /// Waits until `count` calls have begun.
    pub(crate) async fn called(&self, count: usize) {
        self.calls.subscribe().wait_for(|calls| calls.len() >= count).await.unwrap();
    }

    pub(crate) fn behave(&self, behaviour: impl FnMut(&Call) -> (Duration, Answered) + Send + 'static) {
        *self.behaviour.lock().unwrap() = Box::new(behaviour);
    }

    /// Calls under way at most, at any time.
    pub(crate) fn in_flight_max(&self, connector: &str) -> usize {
        self.running.lock().unwrap().get(connector).map_or(0, |(_, most)| *most)
    }
}

#[async_trait]
impl Wire for Vendor {
    async fn send(&self, request: Request) -> Answered {
        let header = |name: &str| request.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        let call = Call {
            at: u64::try_from(self.clock.now().0).unwrap(),
            connector: request.connector.to_string(),
            operation: request.operation.to_string(),
            method: request.method.to_string(),
            url: request.url.clone(),
            key: header("idempotency-key"),
            authorization: header("authorization"),
            body: String::from_utf8(request.body.to_vec()).unwrap(),
        };
        self.calls.send_modify(|calls| calls.push(call.clone()));
        let (after, answer) = (self.behaviour.lock().unwrap())(&call);
        let _running = Running::enter(self, &call);
        if after > request.timeout {
            tokio::time::sleep(request.timeout).await;
            return Err(WireError::Lost("timed out".to_owned()));
        }
        tokio::time::sleep(after).await;
        answer
    }
}

struct Running<'a> {
    vendor: &'a Vendor,
    connector: String,
    key: Option<String>,
}

impl<'a> Running<'a> {
    fn enter(vendor: &'a Vendor, call: &Call) -> Self {
        let mut running = vendor.running.lock().unwrap();
        let (now, most) = running.entry(call.connector.clone()).or_default();
        *now += 1;
        *most = (*most).max(*now);
        if let Some(key) = &call.key {
            assert!(vendor.keys_running.lock().unwrap().insert(key.clone()), "{key} is under way twice");
        }
        Self { vendor, connector: call.connector.clone(), key: call.key.clone() }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.vendor.running.lock().unwrap().get_mut(&self.connector).unwrap().0 -= 1;
        if let Some(key) = &self.key {
            self.vendor.keys_running.lock().unwrap().remove(key);
        }
    }
}

/// Stands for the host: journals outcomes.
pub(crate) struct Mail {
    journal: Memory,
    clock: TokioClock,
    heads: Mutex<BTreeMap<EntityId, (u64, Hash)>>,
    epoch: Mutex<Epoch>,
    /// Errors to answer with first.
    pub(crate) troubles: Mutex<Vec<MailboxError>>,
    outcomes: watch::Sender<Vec<Envelope>>,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mail")
    }
}

impl Mail {
    async fn append(&self, entity: &EntityId, rows: impl FnOnce(u64) -> Rows) -> u64 {
        let (seq, prev) = self.heads.lock().unwrap().get(entity).copied().unwrap_or_default();
        let seq = seq + 1;
        let hash = Hash::of(format!("{entity} {seq}").as_bytes());
        let append = Append {
            entity: entity.clone(),
            epoch: *self.epoch.lock().unwrap(),
            seq,
            prev,
            hash,
            frame: Bytes::new(),
            at: self.clock.now(),
            dedup: Vec::new(),
            answer: Answer { seq, status: "new".into(), verdict: Verdict::Applied },
            ended: false,
            rows: rows(seq),
            terms: Vec::new(),
        };
        self.heads.lock().unwrap().insert(entity.clone(), (seq, hash));
        self.journal.append(append).await.unwrap();
        seq
    }
}

#[async_trait]
impl Post for Mail {
    async fn post(&self, envelope: Envelope) -> Result<Answer, PostError> {
        panic!("nobody sends to entities here: {envelope:?}");
    }
}

#[async_trait]
impl Mailbox for Mail {
    async fn settle(&self, envelope: Envelope, _latency: Latency) -> Result<(), MailboxError> {
        if let Some(trouble) = self.troubles.lock().unwrap().pop() {
            return Err(trouble);
        }
        let Body::Outcome(outcome) = &envelope.body else { panic!("{envelope:?}") };
        let effect = outcome.effect;
        self.append(&envelope.subject, |_| Rows { settled: vec![effect], ..Rows::default() }).await;
        self.outcomes.send_modify(|outcomes| outcomes.push(envelope));
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) journal: Memory,
    pub(crate) clock: TokioClock,
    pub(crate) vendor: Arc<Vendor>,
    pub(crate) mail: Arc<Mail>,
    contracts: Vec<String>,
    seed: u64,
    pub(crate) delivery: Option<Delivery>,
}

impl World {
    /// A world that knows these connectors, where every call is answered with 200 and an id after 10 ms. Deliveries do not run yet.
    pub(crate) fn new(contracts: &[&str]) -> Self {
        let clock = TokioClock::starting_at(Timestamp(0));
        let journal = Memory::new();
        let vendor = Arc::new(Vendor {
            clock,
            behaviour: Mutex::new(Box::new(|_| (ms(10), answer(200, r#"{"id":"N-1"}"#)))),
            calls: watch::Sender::default(),
            running: Mutex::default(),
            keys_running: Mutex::default(),
        });
        let mail = Arc::new(Mail {
            journal: journal.shared(),
            clock,
            heads: Mutex::default(),
            epoch: Mutex::default(),
            troubles: Mutex::default(),
            outcomes: watch::Sender::default(),
        });
        let contracts = contracts.iter().map(|text| (*text).to_owned()).collect();
        Self { journal, clock, vendor, mail, contracts, seed: 7, delivery: None }
    }

    /// A running world.
    pub(crate) async fn running(contracts: &[&str]) -> Self {
        let mut world = Self::new(contracts);
        world.start().await;
        world
    }

    pub(crate) fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Takes every shard and starts deliveries; what ran before is dropped on the spot, as a crash would.
    pub(crate) async fn start(&mut self) {
        self.crash();
        tokio::time::sleep(ms(1)).await;
        let shards: Vec<_> = ShardId::all().collect();
        let grants = self.journal.acquire(&shards, &NodeId("n1".into())).await.unwrap();
        let epoch = grants[0].epoch;
        *self.mail.epoch.lock().unwrap() = epoch;
        self.delivery = Some(self.deliveries(Arc::new(move |_| Some(epoch)), None));
        tokio::time::sleep(ms(1)).await;
    }

    /// Takes every shard and starts so many nodes, each with its part of the shards, which share all budgets.
    pub(crate) async fn start_nodes(&self, count: u16) -> Vec<Delivery> {
        let shards: Vec<_> = ShardId::all().collect();
        let epoch = self.journal.acquire(&shards, &NodeId("all".into())).await.unwrap()[0].epoch;
        *self.mail.epoch.lock().unwrap() = epoch;
        let node = |n: u16| {
            let epochs = Arc::new(move |shard: ShardId| (shard.0 % count == n).then_some(epoch));
            self.deliveries(epochs, Some(format!("n{n}#1")))
        };
        (0..count).map(node).collect()
    }

    fn deliveries(&self, epochs: Epochs, shared_as: Option<String>) -> Delivery {
        let outside = Outside {
            journal: Arc::new(self.journal.clone()),
            mailbox: self.mail.clone(),
            post: self.mail.clone(),
            harvest: Arc::new(syncline::delivery::harvest::Fallow),
            wire: self.vendor.clone(),
            clock: Arc::new(self.clock),
            epochs,
            shared_as,
            observer: Arc::new(Unobserved),
            paused: BTreeSet::new(),
            seed: self.seed,
        };
        let connectors = self.contracts.iter().map(|text| connector(text)).collect();
        Delivery::start(connectors, &|_| None, outside).unwrap()
    }

    /// What runs is gone.
    pub(crate) fn crash(&mut self) {
        self.delivery = None;
    }

    pub(crate) fn delivery(&self) -> &Delivery {
        self.delivery.as_ref().unwrap()
    }

    /// Journals effects in one record, without telling anybody.
    pub(crate) async fn journal_effects(&self, key: &str, calls: &[(&str, &str)]) -> Vec<OutboxRow> {
        self.journal_effects_as(key, calls, Latency::Realtime).await
    }

    /// Journals effects that are so urgent.
    pub(crate) async fn journal_effects_as(
        &self,
        key: &str,
        calls: &[(&str, &str)],
        latency: Latency,
    ) -> Vec<OutboxRow> {
        let mut emitted = Vec::new();
        let (entity, now) = (entity(key), self.clock.now());
        self.mail
            .append(&entity, |seq| {
                for (n, (connector, operation)) in (0_u16..).zip(calls) {
                    let row = row(&entity, EffectId { seq, n }, connector, operation, now);
                    emitted.push(OutboxRow { latency, ..row });
                }
                Rows { emitted: emitted.clone(), ..Rows::default() }
            })
            .await;
        emitted
    }

    /// The same, and tells deliveries.
    pub(crate) async fn emit_as(
        &self,
        key: &str,
        calls: &[(&str, &str)],
        latency: Latency,
    ) -> Vec<OutboxRow> {
        let rows = self.journal_effects_as(key, calls, latency).await;
        self.delivery().hint(&rows);
        rows
    }

    /// What waits in the store, by lane.
    pub(crate) async fn depths(&self) -> BTreeMap<String, Depth> {
        self.journal.depths().await.unwrap()
    }

    /// Journals effects in one record, as an entity would, and tells deliveries.
    pub(crate) async fn emit(&self, key: &str, calls: &[(&str, &str)]) -> Vec<OutboxRow> {
        let rows = self.journal_effects(key, calls).await;
        self.delivery().hint(&rows);
        rows
    }

    /// Journals that an effect is called off, and tells deliveries if they run.
    pub(crate) async fn call_off(&self, row: &OutboxRow) {
        let effect = row.effect.id;
        self.mail.append(&row.entity, |_| Rows { called_off: vec![effect], ..Rows::default() }).await;
        if let Some(delivery) = &self.delivery {
            delivery.call_off(&row.entity, effect);
        }
    }

    /// Journals an effect anew, as a person's retry does, and tells deliveries.
    pub(crate) async fn reissue(&self, row: &OutboxRow) {
        let emitted = vec![row.clone()];
        self.mail.append(&row.entity, |_| Rows { emitted, ..Rows::default() }).await;
        self.delivery().hint(std::slice::from_ref(row));
    }

    /// Waits for `count` outcomes, and gives them with their entities' keys, in order of arrival.
    pub(crate) async fn outcomes(&self, count: usize) -> Vec<(String, Outcome)> {
        let all = self.envelopes(count).await;
        let of = |envelope: &Envelope| match &envelope.body {
            Body::Outcome(outcome) => (envelope.subject.key().to_owned(), outcome.clone()),
            other => panic!("{other:?}"),
        };
        all.iter().map(of).collect()
    }

    pub(crate) async fn envelopes(&self, count: usize) -> Vec<Envelope> {
        let mut outcomes = self.mail.outcomes.subscribe();
        let waited =
            tokio::time::timeout(Duration::from_hours(48), outcomes.wait_for(|all| all.len() >= count)).await;
        assert!(waited.is_ok(), "{count} outcomes wanted, calls: {:#?}", self.vendor.calls());
        self.mail.outcomes.borrow().clone()
    }

    pub(crate) fn outcomes_now(&self) -> usize {
        self.mail.outcomes.borrow().len()
    }

    pub(crate) async fn outcome(&self) -> Outcome {
        self.outcomes(1).await.remove(0).1
    }

    pub(crate) async fn progress(&self, row: &OutboxRow) -> Option<Progress> {
        let rows = self.journal.outbox_of(&row.entity).await.unwrap();
        rows.into_iter().find(|found| found.effect.id == row.effect.id).map(|row| row.progress)
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now().0
    }
}

fn row(entity: &EntityId, id: EffectId, connector: &str, operation: &str, now: Timestamp) -> OutboxRow {
    let input = format!(r#"{{"id":"{}","n":1.50}}"#, entity.key());
    OutboxRow {
        entity: entity.clone(),
        effect: Effect {
            id,
            name: operation.into(),
            connector: connector.into(),
            operation: operation.into(),
            input: Value::from_json(input.as_bytes(), 1 << 20).unwrap(),
            undoes: None,
            due: now,
        },
        correlation_id: "flow-1".into(),
        traceparent: None,
        since: now,
        progress: Progress { due: now, attempts: 0, uncertain: false, called_off: false, last: "".into() },
        latency: Latency::default(),
    }
}

pub(crate) fn entity(key: &str) -> EntityId {
    EntityId::new("order", key).unwrap()
}

pub(crate) fn connector(text: &str) -> Connector {
    contract::read("test.yaml", text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn answer(status: u16, body: &str) -> Answered {
    answer_with(status, &[], body)
}

#[expect(clippy::unnecessary_wraps, reason = "answers and errors stand side by side in tests")]
pub(crate) fn answer_with(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answered {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
        .collect();
    Ok(Response { status, headers, body: Bytes::copy_from_slice(body.as_bytes()), cut: false })
}

pub(crate) fn lost() -> Answered {
    Err(WireError::Lost("cut".to_owned()))
}

pub(crate) fn unsent() -> Answered {
    Err(WireError::Unsent("refused".to_owned()))
}

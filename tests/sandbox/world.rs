//! A sandbox, deliveries that call it over HTTP, a store in memory, and a mailbox that collects outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use syncline::clock::{Clock as _, SystemClock};
use syncline::delivery::contract::{self, Connector};
use syncline::delivery::post::{Post, PostError};
use syncline::delivery::wire::{HttpWire, Request, Response, Wire as _, WireError};
use syncline::delivery::{Delivery, Mailbox, MailboxError, Outside, Unobserved};
use syncline::journal::memory::Memory;
use syncline::journal::{Append, Journal as _};
use syncline::sandbox::{Plan, Sandbox, SandboxConfig, Snapshot};
use syncline_actors::class::Latency;
use syncline_actors::decision::{Answer, Effect, Verdict};
use syncline_actors::envelope::{Body, Envelope, Outcome, OutcomeClass};
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{OutboxRow, Progress, Rows};
use syncline_actors::record::Hash;
use syncline_actors::value::Value;
use tokio::sync::watch;

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Every shipped connector file, by name.
pub(crate) fn connector_files() -> BTreeMap<String, String> {
    let directory: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/connectors");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Every shipped connector; pauses are short, so that tests are.
pub(crate) fn connectors() -> Vec<Connector> {
    let read = |(name, text): (String, String)| {
        let mut connector =
            contract::read(&name, &text).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        connector.retry.base = Duration::from_millis(10);
        connector.retry.cap = Duration::from_millis(50);
        for operation in connector.operations.values_mut() {
            if let Some(probe) = &mut Arc::make_mut(operation).probe {
                probe.after = Duration::from_millis(10);
            }
        }
        connector
    };
    connector_files().into_iter().map(read).collect()
}

#[derive(Debug)]
pub(crate) struct Mail {
    journal: Memory,
    epoch: Epoch,
    heads: Mutex<BTreeMap<EntityId, (u64, Hash)>>,
    outcomes: watch::Sender<BTreeMap<(EntityId, EffectId), Outcome>>,
}

impl Mail {
    async fn append(&self, entity: &EntityId, rows: impl FnOnce(u64) -> Rows) {
        let (seq, prev) = self.heads.lock().unwrap().get(entity).copied().unwrap_or_default();
        let seq = seq + 1;
        let hash = Hash::of(format!("{entity} {seq}").as_bytes());
        self.heads.lock().unwrap().insert(entity.clone(), (seq, hash));
        let append = Append {
            entity: entity.clone(),
            epoch: self.epoch,
            seq,
            prev,
            hash,
            frame: Bytes::new(),
            at: SystemClock.now(),
            dedup: Vec::new(),
            answer: Answer { seq, status: "new".into(), verdict: Verdict::Applied },
            ended: false,
            rows: rows(seq),
            terms: Vec::new(),
        };
        self.journal.append(append).await.unwrap();
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
        let Body::Outcome(outcome) = &envelope.body else { panic!("{envelope:?}") };
        let effect = outcome.effect;
        self.append(&envelope.subject, |_| Rows { settled: vec![effect], ..Rows::default() }).await;
        let known = (envelope.subject.clone(), effect);
        self.outcomes.send_modify(|all| drop(all.insert(known, outcome.clone())));
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    delivery: Delivery,
    mail: Arc<Mail>,
}

/// An order, as the process keeps it.
pub(crate) struct Order<'w> {
    pub(crate) world: &'w World,
    pub(crate) key: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Connectors)) -> Self {
        Self::start(Duration::from_millis(20), change).await
    }

    /// With a warehouse that takes so long to ship.
    pub(crate) async fn shipping_after(delay: Duration) -> Self {
        Self::start(delay, |_| {}).await
    }

    async fn start(shipping_delay: Duration, change: impl FnOnce(&mut Connectors)) -> Self {
        let mut config = SandboxConfig::local(Arc::new(SystemClock));
        for source in ["warehouse", "sourcing"] {
            config.secrets.insert(source.to_owned(), SECRET.into());
        }
        config.shipping_delay = shipping_delay;
        let sandbox = Sandbox::start(config).await.unwrap();
        let journal = Memory::new();
        let shards: Vec<_> = ShardId::all().collect();
        let grants = journal.acquire(&shards, &NodeId("n1".into())).await.unwrap();
        let epoch = grants[0].epoch;
        let mail = Arc::new(Mail {
            journal: journal.shared(),
            epoch,
            heads: Mutex::default(),
            outcomes: watch::Sender::default(),
        });
        let outside = Outside {
            journal: Arc::new(journal.clone()),
            mailbox: mail.clone(),
            post: mail.clone(),
            harvest: Arc::new(syncline::delivery::harvest::Fallow),
            wire: Arc::new(HttpWire::new().unwrap()),
            clock: Arc::new(SystemClock),
            epochs: Arc::new(move |_| Some(epoch)),
            shared_as: None,
            observer: Arc::new(Unobserved),
            paused: BTreeSet::new(),
            seed: 7,
        };
        let mut all = Connectors(connectors());
        change(&mut all);
        // Where every system is; everything else has the default that stands in the file.
        let url = |reference: &str| {
            let system = reference.strip_prefix("env:SYNCLINE_")?.strip_suffix("_URL")?;
            Some(sandbox.url(&system.to_lowercase()))
        };
        let delivery = Delivery::start(all.0, &url, outside).unwrap();
        Self { sandbox, delivery, mail }
    }

    pub(crate) fn order(&self, key: &str) -> Order<'_> {
        Order { world: self, key: key.to_owned() }
    }

    pub(crate) fn faults(&self, system: &str, plan: Plan) {
        self.sandbox.set_faults(system, vec![plan]).unwrap();
    }

    /// How often a system applied an operation.
    pub(crate) fn applied(&self, system: &str, operation: &str) -> usize {
        self.sandbox.ledger().of(system, operation).count()
    }

    /// Requests for an operation, whatever became of them.
    pub(crate) fn requests(&self, of: &str) -> u64 {
        self.sandbox.ledger().requests.get(of).copied().unwrap_or_default()
    }

    async fn emit(&self, entity: &EntityId, call: &str, input: &str) -> EffectId {
        let (connector, operation) = call.split_once('.').unwrap();
        let now = SystemClock.now();
        let mut emitted = Vec::new();
        self.mail
            .append(entity, |seq| {
                emitted.push(OutboxRow {
                    entity: entity.clone(),
                    effect: Effect {
                        id: EffectId { seq, n: 0 },
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
                    progress: Progress {
                        due: now,
                        attempts: 0,
                        uncertain: false,
                        called_off: false,
                        last: "".into(),
                    },
                    latency: Latency::default(),
                });
                Rows { emitted: emitted.clone(), ..Rows::default() }
            })
            .await;
        self.delivery.hint(&emitted);
        emitted[0].effect.id
    }
}

/// The connectors of a world that is made.
pub(crate) struct Connectors(Vec<Connector>);

impl Connectors {
    pub(crate) fn get(&mut self, name: &str) -> &mut Connector {
        self.0.iter_mut().find(|connector| &*connector.name == name).unwrap()
    }
}

impl Order<'_> {
    /// Calls `connector.operation` and waits for how it ends.
    pub(crate) async fn call(&self, call: &str, input: &str) -> Outcome {
        let entity = EntityId::new("order", &self.key).unwrap();
        let effect = self.world.emit(&entity, call, input).await;
        let mut outcomes = self.world.mail.outcomes.subscribe();
        let known = (entity, effect);
        let came = tokio::time::timeout(PATIENCE, outcomes.wait_for(|all| all.contains_key(&known))).await;
        let all = came.unwrap_or_else(|_| panic!("{call} did not end: {:?}", self.world.sandbox.summary()));
        all.unwrap()[&known].clone()
    }

    /// As [`Order::call`], for what must go well: the result.
    pub(crate) async fn ok(&self, call: &str, input: &str) -> Value {
        let outcome = self.call(call, input).await;
        assert_eq!(outcome.class, OutcomeClass::Ok, "{call}: {outcome:?}");
        outcome.result
    }

    /// As [`Order::call`], for what must be refused: the sentence for people.
    pub(crate) async fn refused(&self, call: &str, input: &str) -> String {
        let outcome = self.call(call, input).await;
        assert_eq!(outcome.class, OutcomeClass::Failed, "{call}: {outcome:?}");
        outcome.detail.to_string()
    }
}

impl World {
    /// One plain HTTP call to the sandbox, with the given headers: status, headers and body of the answer.
    pub(crate) async fn http(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Response {
        self.attempt(method, path, headers, body).await.unwrap()
    }

    /// As [`World::http`], to another sandbox.
    pub(crate) async fn at(
        &self,
        base: &str,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Response {
        self.send(format!("{base}{path}"), method, headers, body).await.unwrap()
    }

    /// As [`World::http`], for a call that may bring no answer.
    pub(crate) async fn attempt(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<Response, WireError> {
        self.send(format!("http://{}{path}", self.sandbox.address()), method, headers, body).await
    }

    async fn send(
        &self,
        url: String,
        method: Method,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<Response, WireError> {
        let request = Request {
            connector: "test".into(),
            operation: "test".into(),
            method,
            url,
            headers: headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
                .collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            timeout: PATIENCE,
            response_max: 1 << 20,
            allow_private: false,
        };
        HttpWire::new().unwrap().send(request).await
    }

    /// Waits until a condition holds of the ledger.
    pub(crate) async fn until(&self, holds: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let ledger = self.sandbox.ledger();
                if holds(&ledger) {
                    return ledger;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("it never held: {:#?}", self.sandbox.ledger()))
    }
}

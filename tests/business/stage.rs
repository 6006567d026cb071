//! Node and sandbox, the senders of webhooks, and the people who look at holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use secrecy::SecretString;
use serde_json::{Value as Json, json};
use syncline::api::{Entity, ExceptionQuery, Intervention, Operate, Refusal, Who};
use syncline::clock::{Clock as _, SystemClock};
use syncline::config::Settings;
use syncline::ingress::preset::Presets;
use syncline::ingress::sign::Signer;
use syncline::ingress::verify::{Request, Secret};
use syncline::integration;
use syncline::node::{Ground, Lookup, Node};
use syncline::sandbox::{Emitter, Fault, Plan, RetryAfter, Sandbox, SandboxConfig};
use syncline_actors::id::EntityId;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use crate::books::{Books, Seen};

const SECRET: &str = "whsec_YnVzaW5lc3Mtb2Ytc3luY2xpbmUtc2VuZGVyLXNlY3JldA==";

/// How long one thing that is waited for may take. It is no measure of speed: the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(20);

/// Between two looks at a node that cannot answer.
const LOOK: Duration = Duration::from_millis(200);

/// So many looks in a row must find nothing under way: what is heard may lead to more.
const CALM: u32 = 5;

pub(crate) struct Stage {
    pub(crate) sandbox: Sandbox,
    node: Node,
    emitter: Emitter,
    /// Signs as the shop does, which is not as all others do.
    shop: Signer,
    client: reqwest::Client,
    acknowledged: AtomicU64,
    _directory: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn open(instances: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut files = integration::shipped();
        if instances > 1_000 {
            // The limits that the files declare are those of real systems; at this size they would be all that is measured.
            for text in files.values_mut() {
                for (rate, burst) in [(200, 100), (100, 50), (50, 50), (50, 20)] {
                    let declared = format!("rate: {rate}/s, burst: {burst}");
                    *text = text.replace(&declared, "rate: 4000/s, burst: 1000");
                }
            }
        }
        let read = integration::read(&files, "config");
        let integration = read.integration.unwrap_or_else(|| panic!("{}", read.problems));
        let secrets: BTreeMap<String, SecretString> =
            integration.sources.keys().map(|source| (source.to_string(), SECRET.into())).collect();
        let mut config = SandboxConfig::local(Arc::new(SystemClock));
        config.secrets.clone_from(&secrets);
        let sandbox = Sandbox::start(config).await.unwrap();
        let mut known: BTreeMap<String, String> = Sandbox::systems()
            .map(|system| (format!("env:SYNCLINE_{}_URL", system.to_uppercase()), sandbox.url(system)))
            .collect();
        known.extend(
            secrets
                .keys()
                .map(|source| (format!("env:SYNCLINE_{}_SECRET", source.to_uppercase()), SECRET.into())),
        );
        let set = [
            "http.listen=127.0.0.1:0".to_owned(),
            format!("node.data_dir={}", directory.path().display()),
            "node.name=business".to_owned(),
            "shutdown.drain_for=20s".to_owned(),
        ];
        let settings = Settings::load(None, [], &set).unwrap();
        let mut ground = Ground::of_machine(&settings, integration).await.unwrap();
        ground.lookup = Lookup(Arc::new(move |name: &str| known.get(name).cloned()));
        let node = Node::start(&settings, ground).await.unwrap();
        let to = format!("http://{}", node.address());
        sandbox.set_target(&to).unwrap();
        let emitter = Emitter::new(&to, &secrets, Arc::new(SystemClock)).unwrap();
        let verify = &Presets::builtin().get("shopify").unwrap().verify.clone();
        let shop = Signer::compile(verify, vec![Secret::new("current", SECRET)]).unwrap();
        let (client, acknowledged) = (reqwest::Client::new(), AtomicU64::new(0));
        Self { sandbox, node, emitter, shop, client, acknowledged, _directory: directory }
    }

    /// What goes wrong all the time, everywhere.
    pub(crate) fn trouble(&self) {
        let sometimes = |fault, rate| Plan::always(fault).at_rate(rate);
        let status = |code, retry_after| Fault::Status { code, retry_after };
        for system in Sandbox::systems() {
            let mut plans = vec![
                sometimes(Fault::CommitThenCut, 0.03),
                sometimes(Fault::CommitThenStatus { code: 500 }, 0.02),
                sometimes(Fault::CutBefore, 0.02),
                sometimes(status(500, RetryAfter::Absent), 0.02),
                sometimes(status(503, RetryAfter::Absent), 0.01),
                sometimes(status(429, RetryAfter::Seconds(1)), 0.001),
                sometimes(Fault::LateAnswer { ms: 300 }, 0.02),
                // Later than any connector waits.
                sometimes(Fault::LateAnswer { ms: 25_000 }, 0.01).times(3),
            ];
            if matches!(system, "warehouse" | "sourcing" | "crm" | "erp") {
                plans.push(sometimes(Fault::Duplicates, 0.2));
                plans.push(sometimes(Fault::Reorder { within_ms: 300 }, 0.2));
            }
            if self.sandbox.set_faults(system, vec![Plan::always(Fault::ExpiredToken)]).is_ok() {
                plans.push(sometimes(Fault::ExpiredToken, 0.005));
            }
            self.sandbox.set_faults(system, plans).unwrap();
        }
    }

    pub(crate) fn now() -> Timestamp {
        SystemClock.now()
    }

    fn operate(&self) -> Arc<dyn Operate> {
        self.node.operate()
    }

    /// Sends a webhook until it is acknowledged; some are sent twice under one id.
    pub(crate) async fn send(&self, source: &str, body: &Json, id: &str) {
        self.post(source, body, id).await;
        if id.bytes().map(u64::from).sum::<u64>() % 7 == 0 {
            self.post(source, body, id).await;
        }
    }

    /// A person types something at a screen of a system.
    pub(crate) fn types(&self, system: &'static str, screen: &str, what: &Json) {
        let (status, body) = self.sandbox.act(system, Method::PUT, screen, what);
        assert!((200..300).contains(&status), "{system} {screen}: {status} {body}");
    }

    /// Sends a webhook of the shop until it is acknowledged; some are sent twice under one id.
    pub(crate) async fn shop(&self, topic: &str, id: &str, body: &Json) {
        let text = body.to_string();
        let url = "/hooks/shop";
        let mut headers = HeaderMap::new();
        let own = [("x-shopify-topic", topic), ("x-shopify-webhook-id", id)];
        for (name, value) in own.into_iter().chain([("x-shopify-shop-domain", "de.example")]) {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let request = Request { method: "POST", url, host: "", headers: &headers, body: text.as_bytes() };
        let signed = self.shop.sign(&request, Self::now().0).unwrap();
        headers.extend(signed.headers);
        let again = id.bytes().map(u64::from).sum::<u64>() % 7 == 0;
        for _ in 0..=u64::from(again) {
            let status = self.asked(url, &headers, &text).await;
            assert!((200..300).contains(&status), "shop {topic} {id}: {status}");
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells an event of a sender that holds a token; the status of the answer.
    pub(crate) async fn event(
        &self,
        source: &str,
        kind: &str,
        key: &str,
        event: &str,
        id: &str,
        data: &Json,
    ) -> u16 {
        let body = json!({"specversion": "1.0", "id": id, "source": source, "type": event,
            "subject": format!("{kind}/{key}"), "data": data});
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
        self.asked("/v1/events", &headers, &body.to_string()).await
    }

    /// A person gives a command; whether the entity took it.
    pub(crate) async fn command(&self, kind: &str, key: &str, command: &str) -> bool {
        self.commanded(kind, key, command, 0).await
    }

    /// A person decides about an entity that stands, or will stand, in this state: again, if it was somewhere else just then.
    pub(crate) async fn decide(&self, kind: &str, key: &str, state: &str, command: &str) {
        for attempt in 1.. {
            self.until(kind, key, &[state]).await;
            if self.commanded(kind, key, command, attempt).await {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn commanded(&self, kind: &str, key: &str, command: &str, attempt: u32) -> bool {
        let body = json!({"entity": format!("{kind}/{key}"), "command": command, "data": {"reason": "as people have it"}});
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let idempotency = format!("{command} {kind}/{key} {attempt}");
        headers.insert("idempotency-key", HeaderValue::from_str(&idempotency).unwrap());
        match self.asked("/v1/commands", &headers, &body.to_string()).await {
            200 => true,
            409 => false,
            status => panic!("{idempotency}: {status}"),
        }
    }

    /// Asks the node as long as it cannot answer; the status of its answer.
    async fn asked(&self, path: &str, headers: &HeaderMap, body: &str) -> u16 {
        let to = format!("http://{}{path}", self.node.address());
        let answered = async {
            loop {
                let request = self.client.post(&to).headers(headers.clone()).body(body.to_owned());
                match request.send().await.map(|answer| answer.status().as_u16()) {
                    Ok(429 | 500..) | Err(_) => tokio::time::sleep(LOOK).await,
                    Ok(status) => return status,
                }
            }
        };
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        answered.unwrap_or_else(|_| panic!("{path} is not answered: {body}"))
    }

    async fn post(&self, source: &str, body: &Json, id: &str) {
        let mut pause = Duration::from_millis(20);
        let sent = async {
            while !matches!(self.emitter.send(source, body, id).await, Ok(200..300)) {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        };
        let sent = tokio::time::timeout(PATIENCE, sent).await;
        sent.unwrap_or_else(|_| panic!("{source} {id} is not acknowledged"));
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until an entity stands in one of these states.
    pub(crate) async fn until(&self, kind: &str, key: &str, states: &[&str]) {
        let id = EntityId::new(kind, key).unwrap();
        let operate = self.operate();
        let mut pause = Duration::from_millis(20);
        let mut last = String::new();
        let there = async {
            loop {
                if let Ok(entity) = operate.entity(&id).await {
                    if states.contains(&&*entity.status) {
                        return;
                    }
                    last = format!("{} {:?} {:?}", entity.status, entity.pending, entity.exceptions);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(Duration::from_millis(700));
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, there).await.is_ok(),
            "{id} does not come to {states:?}: {last}"
        );
    }

    /// Waits until the fields of an entity are as they should be.
    pub(crate) async fn when(&self, kind: &str, key: &str, fits: impl Fn(&Value) -> bool) {
        let id = EntityId::new(kind, key).unwrap();
        let operate = self.operate();
        let mut last = String::new();
        let there = async {
            loop {
                if let Ok(entity) = operate.entity(&id).await {
                    entity.fields.get().clone_into(&mut last);
                    if fits(&Value::from_json(last.as_bytes(), last.len()).unwrap()) {
                        return;
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, there).await.is_ok(), "{id} is never as it should be: {last}");
    }

    /// A person looks at what a system says of a field that another owns: takes it, or keeps what the owner says.
    pub(crate) async fn settle(&self, kind: &str, key: &str, take: bool) {
        let id = EntityId::new(kind, key).unwrap();
        let operate = self.operate();
        let settled = async {
            let mut found = false;
            loop {
                let entity = self.entity(&id).await;
                let conflict = entity.exceptions.into_iter().find(|exception| exception.class == "conflict");
                let Some(conflict) = conflict else {
                    if found {
                        return;
                    }
                    tokio::time::sleep(LOOK).await;
                    continue;
                };
                found = true;
                let (id, reason) = (conflict.id, "looked into".to_owned());
                let ask = Intervention { id, reason, set: None, result: None };
                let who = Who("people".to_owned());
                let done =
                    if take { operate.retry(&who, ask).await } else { operate.resolve(&who, ask).await };
                match done {
                    Ok(_) | Err(Refusal::NotFound(_) | Refusal::Conflict(_)) => {}
                    Err(Refusal::Busy { .. }) => tokio::time::sleep(LOOK).await,
                    Err(refusal) => panic!("{key}: {refusal}"),
                }
            }
        };
        assert!(tokio::time::timeout(PATIENCE, settled).await.is_ok(), "{id}: nobody disagrees");
    }

    /// A person tries the hold of an entity again; where an answer was lost on the way, it may have gone on without.
    pub(crate) async fn release(&self, kind: &str, key: &str, hold: &str, beyond: &str) {
        self.until(kind, key, &[hold, beyond]).await;
        let id = EntityId::new(kind, key).unwrap();
        let operate = self.operate();
        let entity = self.entity(&id).await;
        for exception in entity.exceptions.into_iter().filter(|exception| exception.class == "hold") {
            loop {
                let (id, reason) = (exception.id.clone(), "seen to".to_owned());
                let ask = Intervention { id, reason, set: None, result: None };
                match operate.retry(&Who("people".to_owned()), ask).await {
                    Ok(_) | Err(Refusal::NotFound(_) | Refusal::Conflict(_)) => break,
                    Err(Refusal::Busy { .. }) => tokio::time::sleep(LOOK).await,
                    Err(refusal) => panic!("{key}: {refusal}"),
                }
            }
        }
    }

    /// An entity, as soon as the node can tell: on a busy machine its leases may be in doubt for a moment.
    async fn entity(&self, id: &EntityId) -> Entity {
        let operate = self.operate();
        loop {
            match operate.entity(id).await {
                Ok(entity) => return entity,
                Err(Refusal::Busy { .. }) => tokio::time::sleep(LOOK).await,
                Err(refusal) => panic!("{id}: {refusal}"),
            }
        }
    }

    /// Waits until nothing is left to send, and every webhook of the systems is heard.
    pub(crate) async fn drained(&self) {
        let operate = self.operate();
        let drained = async {
            let mut calm = 0;
            loop {
                let waiting: u64 = operate
                    .connectors()
                    .await
                    .unwrap()
                    .items
                    .iter()
                    .filter_map(|connector| connector.waiting)
                    .sum();
                let heard = || {
                    let summary = self.sandbox.summary();
                    summary.webhooks == summary.webhooks_accepted
                };
                calm = if waiting == 0 && heard() { calm + 1 } else { 0 };
                if calm == CALM {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, drained).await.expect("everything is sent in the end");
    }

    /// An entity as it stands.
    pub(crate) async fn seen(&self, id: &EntityId) -> Seen {
        let entity = self.entity(id).await;
        let text = entity.fields.get();
        Seen {
            id: id.clone(),
            state: entity.status,
            reached: entity.reached,
            fields: Value::from_json(text.as_bytes(), text.len()).unwrap(),
        }
    }

    /// Nothing was given up, and nothing misunderstood.
    pub(crate) async fn undisturbed(&self, books: &mut Books) {
        let operate = self.operate();
        for class in ["dead_letter", "failure", "compensation", "mapping", "poison"] {
            let query = ExceptionQuery {
                class: Some(class.to_owned()),
                limit: Some(100),
                ..ExceptionQuery::default()
            };
            for exception in operate.exceptions(&query).await.unwrap().items {
                books.wrong.push(format!("{class} {}: {}", exception.entity, exception.summary));
            }
        }
        for violation in self.sandbox.ledger().violations {
            books.wrong.push(format!("{violation:?}"));
        }
    }

    pub(crate) async fn stop(self) -> bool {
        let stopped = self.node.stop().await;
        self.sandbox.stop().await;
        stopped
    }
}

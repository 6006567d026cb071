//! Webhooks and events, as stubborn as real senders: the same id until it is acknowledged, whatever happens to the node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use secrecy::SecretString;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::stage::{SECRET, Stage};
use super::{Error, Stuck};
use crate::clock::{Clock as _, SystemClock};
use crate::ingress::preset::Presets;
use crate::ingress::sign::Signer;
use crate::ingress::verify::{self, Secret};
use crate::sandbox::Emitter;

/// Pause before the second attempt; doubled up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Time for one attempt. Past it nobody knows whether it arrived.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How likely a webhook is sent twice, in percent.
const REPEATED: u8 = 15;

/// Authentic messages that break their schema; as many come from strangers.
pub(super) const NOISE: u64 = 5;

/// The shop's own name, in every webhook of it.
const SHOP: &str = "de.example";

/// A message whose sender was told that it is taken in.
#[derive(Debug, Clone)]
pub(super) struct Ack {
    /// The id that the journal knows it by.
    pub(super) id: String,
    /// How many entities it is for.
    pub(super) parts: usize,
    /// It says under another id what was said before: known in the business, so its entity may have no second record of it.
    pub(super) again: bool,
}

/// The senders, and what they were told.
pub(super) struct Senders {
    emitter: Emitter,
    stranger: Emitter,
    /// Signs as the shop does, which is not as all others do.
    shop: Signer,
    client: Client<HttpConnector, Full<Bytes>>,
    node: SocketAddr,
    seed: u64,
    acks: Mutex<Vec<Ack>>,
    refused: AtomicU64,
}

impl Senders {
    pub(super) fn new(
        node: SocketAddr,
        seed: u64,
        secrets: &BTreeMap<String, SecretString>,
    ) -> Result<Self, Error> {
        let to = format!("http://{node}");
        let wrong = SecretString::from("whsec_bm90LXRoZS1zZWNyZXQtb2YtYW55Ym9keQ==");
        let strangers = secrets.keys().map(|source| (source.clone(), wrong.clone())).collect();
        let shopify = Presets::builtin().get("shopify").map(|preset| preset.verify.clone());
        let verify = shopify.ok_or_else(|| Error::Integration("there is no preset `shopify`".to_owned()))?;
        let shop = Signer::compile(&verify, vec![Secret::new("current", SECRET)])
            .map_err(|mistakes| Error::Integration(mistakes.join("\n")))?;
        Ok(Self {
            emitter: Emitter::new(&to, secrets, Arc::new(SystemClock))?,
            stranger: Emitter::new(&to, &strangers, Arc::new(SystemClock))?,
            shop,
            client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
            node,
            seed,
            acks: Mutex::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// Everything that was acknowledged, as often as it was.
    pub(super) fn acks(&self) -> Vec<Ack> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that were refused because nobody we know had signed them.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn acknowledged(&self, id: &str, parts: usize, again: bool) {
        let ack = Ack { id: id.to_owned(), parts, again };
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).push(ack);
    }

    /// Whether a message is sent twice: by chance, the same in every run from one seed.
    fn twice(&self, id: &str) -> bool {
        let digest = Sha256::digest(format!("{} {id}", self.seed));
        digest[0] % 100 < REPEATED
    }

    /// Posts once; the status of the answer, if one came.
    async fn post(&self, path: &str, headers: &HeaderMap, body: &str) -> Option<u16> {
        let mut request = Request::post(format!("http://{}{path}", self.node));
        request.headers_mut()?.extend(headers.clone());
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).ok()?;
        let call = async {
            let answer = self.client.request(request).await.ok()?;
            let status = answer.status().as_u16();
            answer.into_body().collect().await.ok()?;
            Some(status)
        };
        tokio::time::timeout(TIMEOUT, call).await.ok().flatten()
    }

    /// A webhook of the shop, signed as the shop does.
    fn signed(&self, topic: &'static str, id: &str, body: &str) -> Result<HeaderMap, Stuck> {
        let odd = |why: &dyn std::fmt::Display| Stuck(format!("shop {topic} {id} is not signed: {why}"));
        let mut headers = HeaderMap::new();
        headers.insert("x-shopify-topic", HeaderValue::from_static(topic));
        headers.insert("x-shopify-shop-domain", HeaderValue::from_static(SHOP));
        headers.insert("x-shopify-webhook-id", HeaderValue::from_str(id).map_err(|error| odd(&error))?);
        let request = verify::Request {
            method: "POST",
            url: "/hooks/shop",
            host: "",
            headers: &headers,
            body: body.as_bytes(),
        };
        let signed = self.shop.sign(&request, SystemClock.now().0).map_err(|error| odd(&error))?;
        headers.extend(signed.headers);
        Ok(headers)
    }
}

impl Stage {
    /// Sends a webhook until it is acknowledged; some are sent twice under one id, both at once.
    pub(super) async fn send(&self, source: &str, body: &Json, id: &str) -> Result<(), Stuck> {
        if !self.senders.twice(id) {
            return self.webhook(source, body, id, false).await;
        }
        let (one, two) =
            tokio::join!(self.webhook(source, body, id, false), self.webhook(source, body, id, false));
        one.and(two)
    }

    /// Sends once more under another id what was said before, as a sender does that lost track.
    pub(super) async fn send_again(&self, source: &str, body: &Json, id: &str) -> Result<(), Stuck> {
        self.webhook(source, body, &format!("{id}_again"), true).await
    }

    async fn webhook(&self, source: &str, body: &Json, id: &str, again: bool) -> Result<(), Stuck> {
        let body = Bytes::from(body.to_string());
        let sent = || async { self.senders.emitter.send_bytes(source, body.clone(), id).await.ok() };
        self.stubbornly(&format!("{source} {id}"), sent, |status| matches!(status, 200..300)).await?;
        self.senders.acknowledged(id, 1, again);
        Ok(())
    }

    /// Sends a webhook of the shop until it is acknowledged, for so many entities; some are sent twice under one id. What is told
    /// `again` was said before under another id.
    pub(super) async fn shop(
        &self,
        topic: &'static str,
        id: &str,
        body: &Json,
        again: bool,
    ) -> Result<(), Stuck> {
        let text = body.to_string();
        let known = format!("{SHOP}|{id}");
        let parts = if topic == "orders/paid" { 2 } else { 1 };
        for _ in 0..=u64::from(self.senders.twice(id)) {
            let headers = self.senders.signed(topic, id, &text)?;
            let sent = || self.senders.post("/hooks/shop", &headers, &text);
            self.stubbornly(&known, sent, |status| matches!(status, 200..300)).await?;
            self.senders.acknowledged(&known, parts, again);
        }
        Ok(())
    }

    /// Tells an event of a sender that holds a token; whether its entity took it.
    pub(super) async fn event(
        &self,
        source: &str,
        (kind, key): (&str, &str),
        event: &str,
        id: &str,
        data: &Json,
    ) -> Result<bool, Stuck> {
        let body = json!({"specversion": "1.0", "id": id, "source": source, "type": event,
            "subject": format!("{kind}/{key}"), "data": data});
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
        self.answered("/v1/events", &headers, &body.to_string(), id).await
    }

    /// Asks the node as long as it cannot answer; whether it took it. What it refuses is on its record as well.
    pub(super) async fn answered(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: &str,
        id: &str,
    ) -> Result<bool, Stuck> {
        let sent = || self.senders.post(path, headers, body);
        let status = self.stubbornly(id, sent, |status| !matches!(status, 429 | 500..)).await?;
        match status {
            200..300 | 409 => self.senders.acknowledged(id, 1, false),
            status => return Err(Stuck(format!("{path} {id} is answered with {status}"))),
        }
        Ok(status != 409)
    }

    /// Tries again, later and later, until the answer is one that will do.
    async fn stubbornly<F: Future<Output = Option<u16>> + Send>(
        &self,
        what: &str,
        send: impl Fn() -> F + Send,
        will_do: fn(u16) -> bool,
    ) -> Result<u16, Stuck> {
        let (mut pause, mut last) = (PAUSE, None);
        let sent = async {
            loop {
                last = send().await;
                if let Some(status) = last.filter(|status| will_do(*status)) {
                    return status;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        };
        let sent = tokio::time::timeout(self.patience, sent).await;
        sent.map_err(|_over| Stuck(format!("{what} is not acknowledged: {last:?}")))
    }

    /// What else arrives at an open address: requests of strangers, and messages that break their schema. These are authentic, and
    /// acknowledged.
    pub(super) async fn noise(&self) {
        for number in 0..NOISE {
            let body = json!({"type": "opportunity.confirmed", "data": {"Id": number}});
            let (forged, text) = (format!("forged_{number}"), Bytes::from(body.to_string()));
            let sent = || async { self.senders.stranger.send_bytes("crm", text.clone(), &forged).await.ok() };
            let answer = self.stubbornly(&forged, sent, |status| !matches!(status, 429 | 500..)).await;
            if answer == Ok(401) {
                self.senders.refused.fetch_add(1, Ordering::Relaxed);
            }
            let broken = format!("msg_broken_{}_{number}", self.senders.seed);
            if let Err(Stuck(why)) = self.webhook("crm", &body, &broken, false).await {
                tracing::warn!(why, "a broken message was not taken in");
            }
        }
    }
}

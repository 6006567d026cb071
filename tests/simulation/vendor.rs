//! The systems behind the wire, with a ledger of what they have applied, and every way of going wrong.
//!
//! `shop` honours idempotency keys. `bank` and `post` do not: a call that reaches them twice is applied twice. What a call applies
//! does not depend on whether its caller still waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use syncline::delivery::wire::{Request, Response, Wire, WireError};
use syncline_actors::id::{EffectId, EntityId};
use syncline_actors::time::Timestamp;

use crate::chance;
use crate::ground::Ground;
use crate::life::Life;

/// The latest that a call may take effect after it was made: below the pause after which a probe is trusted.
const LATEST: u64 = 4_000;

/// What the systems have done.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By key: how often.
    applied: BTreeMap<String, u64>,
    /// By key: calls made, probes left out.
    calls: BTreeMap<String, u64>,
    /// By entity, of a connector that keeps order: the last effect that was tried for the first time.
    first_tries: BTreeMap<(EntityId, String), EffectId>,
    /// Until when a system is down.
    down: BTreeMap<String, Timestamp>,
}

impl Ledger {
    /// How often a call under `key` took effect.
    pub(crate) fn applied(&self, key: &str) -> u64 {
        self.applied.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn calls(&self, key: &str) -> u64 {
        self.calls.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.applied.keys()
    }

    /// Takes a system down for a while.
    pub(crate) fn take_down(&mut self, connector: &str, until: Timestamp) {
        self.down.insert(connector.to_owned(), until);
    }
}

/// What the systems answer under `key`.
pub(crate) fn result(key: &str) -> String {
    format!("R-{key}")
}

/// The wire of one incarnation.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) ground: Arc<Ground>,
    pub(crate) life: Arc<Life>,
}

/// What befalls a call: whether and when it takes effect, and when which answer comes.
#[derive(Debug)]
struct Fate {
    applies: Option<Duration>,
    answers: Duration,
    answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Good,
    Unsent,
    Lost,
    Status(u16),
}

impl Line {
    fn fate(&self, request: &Request, key: &str) -> Fate {
        let down = self
            .ground
            .ledger()
            .down
            .get(&*request.connector)
            .is_some_and(|until| self.ground.now() < *until);
        let trouble =
            self.ground.trouble("vendor", self.ground.temper.vendor) || (down && !self.ground.is_quiet());
        let refused = refuses(self.ground.seed, request, key);
        self.ground.chance("vendor fate", |chance| {
            let (soon, ever) = (chance.millis(1, 300), chance.millis(0, LATEST));
            let fate = |applies, answers, answer| Fate { applies, answers, answer };
            if !trouble {
                return if refused {
                    fate(None, soon, Answer::Status(422))
                } else {
                    fate(Some(soon / 2), soon, Answer::Good)
                };
            }
            let applies = (!refused).then_some(ever);
            match if down { chance.below(3) } else { chance.below(10) } {
                0 => fate(None, soon, Answer::Unsent),
                1 => fate(None, ever, Answer::Lost),
                2 => fate(None, soon, Answer::Status(503)),
                3 => fate(None, soon, Answer::Status(429)),
                4 => fate(None, soon, Answer::Status(500)),
                5 => fate(applies, ever, Answer::Status(500)),
                6 | 7 => fate(applies, soon, Answer::Lost),
                8 => fate(applies, ever, Answer::Lost),
                _ if refused => fate(None, ever, Answer::Status(422)),
                _ => fate(Some(ever / 2), ever, Answer::Good),
            }
        })
    }

    fn check(&self, request: &Request, key: &str) -> Result<(), String> {
        if self.ground.forgives(key) {
            return Ok(());
        }
        let (connector, operation) = (&*request.connector, request.operation.trim_end_matches(" probe"));
        let mut ledger = self.ground.ledger();
        let book = self.ground.book();
        let known = book.leaves(key, connector, operation)?;
        // A node that is left behind may send what the next one has settled: at least once, under one key.
        if let Some(ended) = known.ended.filter(|_| !self.ground.happened("two nodes at once")) {
            return Err(format!("I8: {connector}.{operation} leaves under {key}, which has ended {ended:?}"));
        }
        let first = !ledger.calls.contains_key(key);
        if is_probe(request) {
            return Ok(());
        }
        *ledger.calls.entry(key.to_owned()).or_default() += 1;
        if connector == "shop" && first {
            let id = known.effect.id;
            let before = ledger.first_tries.insert((known.entity.clone(), connector.to_owned()), id);
            if before.is_some_and(|before| before > id) {
                return Err(format!("I9: {key} is tried first after {before:?}"));
            }
        }
        Ok(())
    }

    async fn answer(&self, request: &Request, key: &str) -> Result<Response, WireError> {
        let fate = self.fate(request, key);
        if let Some(after) = fate.applies.filter(|_| !is_probe(request)) {
            apply(self.ground.clone(), request.connector.to_string(), key.to_owned(), after);
        }
        // What a probe sees is what there is when it comes.
        let found = self.ground.ledger().applied(key) > 0;
        if fate.answers >= request.timeout {
            tokio::time::sleep(request.timeout).await;
            self.ground.count("vendor: timed out");
            return Err(WireError::Lost("timed out".to_owned()));
        }
        tokio::time::sleep(fate.answers).await;
        self.ground.count(match fate.answer {
            Answer::Good => "vendor: answered",
            Answer::Unsent => "vendor: not reached",
            Answer::Lost if fate.applies.is_some() => "vendor: applied, answer lost",
            Answer::Lost => "vendor: not applied, answer lost",
            Answer::Status(422) => "vendor: refused",
            Answer::Status(429) => "vendor: 429",
            Answer::Status(_) => "vendor: 5xx",
        });
        match fate.answer {
            Answer::Good if is_probe(request) => {
                let items = if found { format!("[\"{}\"]", result(key)) } else { "[]".to_owned() };
                Ok(response(200, &format!("{{\"items\":{items}}}")))
            }
            Answer::Good => Ok(response(200, &format!("{{\"id\":\"{}\"}}", result(key)))),
            Answer::Unsent => Err(WireError::Unsent("refused".to_owned())),
            Answer::Lost => Err(WireError::Lost("cut".to_owned())),
            Answer::Status(status) => Ok(response(status, "{}")),
        }
    }
}

/// Whether the system says no to this call, now and whenever it is made again.
fn refuses(seed: u64, request: &Request, key: &str) -> bool {
    let body = String::from_utf8_lossy(&request.body);
    let refusable = ["\"reserve\"", "\"charge\"", "\"label\""].iter().any(|step| body.contains(step));
    refusable && chance::of(seed, key).is_multiple_of(12)
}

fn is_probe(request: &Request) -> bool {
    request.operation.ends_with(" probe")
}

fn apply(ground: Arc<Ground>, connector: String, key: String, after: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        let mut ledger = ground.ledger();
        let times = ledger.applied.entry(key.clone()).or_default();
        if *times == 1 && connector == "shop" {
            ground.line(&format!("{connector} knows {key}"));
            return;
        }
        *times += 1;
        let times = *times;
        drop(ledger);
        ground.line(&format!("{connector} applies {key}"));
        if times > 1 && !ground.forgives(&key) {
            ground.violated(format!("I8: {connector} applies {key} for the {times}th time"));
        }
    });
}

fn response(status: u16, body: &str) -> Response {
    let mut headers = HeaderMap::new();
    if status == 429 {
        headers.insert(HeaderName::from_static("retry-after"), HeaderValue::from_static("2"));
    }
    Response { status, headers, body: Bytes::copy_from_slice(body.as_bytes()), cut: false }
}

#[async_trait]
impl Wire for Line {
    async fn send(&self, request: Request) -> Result<Response, WireError> {
        self.life.point("before a call").await;
        let key = request.headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
        let key = key.unwrap_or_default();
        self.ground.line(&format!("call {}.{} {key}", request.connector, request.operation));
        self.ground.check(self.check(&request, &key));
        let answer = self.answer(&request, &key).await;
        self.life.point("after a call").await;
        let told = match &answer {
            Ok(response) => response.status.to_string(),
            Err(error) => error.to_string(),
        };
        self.ground.line(&format!("answer {}.{} {key} {told}", request.connector, request.operation));
        answer
    }
}

/// Takes systems down for a while.
pub(crate) async fn trouble_systems(ground: Arc<Ground>) {
    if ground.temper.vendor == 0 {
        return;
    }
    loop {
        let (pause, length, which) = ground.chance("outage", |chance| {
            (
                chance.millis(5_000, 60_000),
                chance.millis(1_000, 15_000),
                chance.one(&["shop", "bank", "post"]),
            )
        });
        tokio::time::sleep(pause).await;
        if ground.is_quiet() {
            return;
        }
        ground.count("vendor: outage");
        ground.line(&format!("{which} goes down"));
        let until = ground.now().plus(length);
        ground.ledger().take_down(which, until);
    }
}

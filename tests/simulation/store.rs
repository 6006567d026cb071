//! The store as one incarnation reaches it: every call takes time and may fail, hang, or land after its caller has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use syncline::journal::{
    Append, Appended, Compacted, Depth, Error, ExceptionFilter, Grant, Head, Holding, Journal, Loaded,
    Snapshot,
};
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, Progress, TimerRow};
use syncline_actors::time::Timestamp;

use crate::ground::Ground;
use crate::life::Life;

/// The store as one incarnation reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) ground: Arc<Ground>,
    pub(crate) life: Arc<Life>,
    /// Whether a call may hang for ever: only its host ends such a call.
    pub(crate) hangs: bool,
    /// Entities with an append whose outcome the host does not know: they must be loaded before the next one.
    doubtful: Arc<Mutex<BTreeSet<EntityId>>>,
}

/// What befalls a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    FailBefore,
    FailAfter,
    HangBefore,
    HangAfter,
}

impl Store {
    pub(crate) fn new(ground: Arc<Ground>, life: Arc<Life>, hangs: bool) -> Self {
        Self { ground, life, hangs, doubtful: Arc::default() }
    }

    fn fate(&self) -> (Fate, Duration) {
        let trouble = self.ground.store_trouble();
        self.ground.chance("store fate", |chance| {
            let time = chance.millis(0, 4);
            if !trouble {
                return (Fate::Good, time);
            }
            let fates = [Fate::Good, Fate::FailBefore, Fate::FailAfter, Fate::HangBefore, Fate::HangAfter];
            let fate = chance.one(if self.hangs { &fates } else { &fates[..3] });
            // What hangs lands when its caller may have given up, and even begun anew.
            let latest = if fate == Fate::HangAfter { 6_000 } else { 900 };
            (fate, chance.millis(0, latest))
        })
    }

    fn failed(what: &str) -> Error {
        Error::Unavailable(format!("the simulated store failed at `{what}`"))
    }

    async fn read<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.life.alive().await;
        let trouble = self.ground.trouble("store read", self.ground.temper.store / 2);
        if trouble {
            self.ground.count("store: read failed");
            self.ground.line(&format!("store {what} fails"));
            return Err(Self::failed(what));
        }
        call.await
    }

    /// A write lands in its own time, whether or not its caller still waits: a store is another machine, or another thread.
    async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.life.point(what).await;
        let (fate, time) = self.fate();
        if fate != Fate::Good {
            self.ground.count(match fate {
                Fate::FailBefore => "store: write failed",
                Fate::FailAfter => "store: write done, answer lost",
                _ => "store: write hung",
            });
            self.ground.line(&format!("store {what} goes {fate:?}"));
        }
        match fate {
            Fate::FailBefore => return Err(Self::failed(what)),
            Fate::HangBefore => std::future::pending().await,
            Fate::Good | Fate::FailAfter | Fate::HangAfter => {}
        }
        let landing = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            call.await
        });
        let outcome = landing.await.expect("no write panics");
        self.life.point(what).await;
        match fate {
            Fate::FailAfter => Err(Self::failed(what)),
            Fate::HangAfter => std::future::pending().await,
            _ => outcome,
        }
    }
}

async fn land(ground: Arc<Ground>, append: Append) -> Result<Appended, Error> {
    let landed = ground.memory.append(append.clone()).await;
    let told = match &landed {
        Ok(Appended::Written) => "written",
        Ok(Appended::Duplicate(_)) => "known",
        Err(Error::Fenced { .. }) => "fenced",
        Err(Error::Conflict { .. }) => "conflict",
        Err(_) => "failed",
    };
    ground.count(match told {
        "written" => "append: written",
        "known" => "append: duplicate",
        "fenced" => "append: fenced",
        "conflict" => "append: conflict",
        _ => "append: failed",
    });
    ground.line(&format!("append {}#{} {} {told}", append.entity, append.seq, &append.hash.to_string()[..8]));
    if landed.as_ref().is_ok_and(|landed| *landed == Appended::Written) {
        let checked = {
            let ledger = ground.ledger();
            ground.book().landed(&append, ground.now(), &|key| ledger.applied(key))
        };
        ground.check(checked);
    }
    landed
}

#[async_trait]
impl Journal for Store {
    async fn acquire(&self, shards: &[ShardId], node: &NodeId) -> Result<Vec<Grant>, Error> {
        let (ground, shards, node) = (self.ground.clone(), shards.to_vec(), node.clone());
        let call = async move {
            let grants = ground.memory.acquire(&shards, &node).await?;
            ground.line(&format!("acquired {} under {}", grants.len(), grants[0].epoch));
            let mut book = ground.book();
            let granted = grants.iter().try_for_each(|grant| book.granted(grant.shard, grant.epoch));
            drop(book);
            ground.check(granted);
            Ok(grants)
        };
        self.write("acquire", call).await
    }

    async fn renew(&self, grants: &[Grant]) -> Vec<Result<(), Error>> {
        let renewed = self.read("renew", async { Ok(self.ground.memory.renew(grants).await) }).await;
        renewed.unwrap_or_else(|_down| grants.iter().map(|_| Err(Self::failed("renew"))).collect())
    }

    async fn holdings(&self) -> Result<Vec<Holding>, Error> {
        self.read("holdings", self.ground.memory.holdings()).await
    }

    async fn release(&self, grants: &[Grant]) -> Result<(), Error> {
        let (ground, grants) = (self.ground.clone(), grants.to_vec());
        self.write("release", async move { ground.memory.release(&grants).await }).await
    }

    async fn append(&self, append: Append) -> Result<Appended, Error> {
        let entity = append.entity.clone();
        if !self.doubtful.lock().unwrap().insert(entity.clone()) {
            let seq = append.seq;
            self.ground
                .violated(format!("{entity}#{seq} is appended after an unknown outcome, without a replay"));
        }
        let outcome = self.write("append", land(self.ground.clone(), append)).await;
        if outcome.is_ok() {
            self.doubtful.lock().unwrap().remove(&entity);
        }
        outcome
    }

    async fn load(&self, entity: &EntityId) -> Result<Loaded, Error> {
        self.life.point("load").await;
        self.doubtful.lock().unwrap().remove(entity);
        self.read("load", self.ground.memory.load(entity)).await
    }

    async fn records(&self, entity: &EntityId, from: u64, limit: usize) -> Result<Vec<Bytes>, Error> {
        self.read("records", self.ground.memory.records(entity, from, limit)).await
    }

    async fn save_snapshot(&self, epoch: Epoch, entity: &EntityId, snapshot: Snapshot) -> Result<(), Error> {
        let (ground, entity) = (self.ground.clone(), entity.clone());
        let call = async move {
            let checked = ground.book().snapshot(&entity, &snapshot);
            let seq = snapshot.seq;
            let saved = ground.memory.save_snapshot(epoch, &entity, snapshot).await;
            if saved.is_ok() {
                ground.count("snapshot");
                ground.check(checked);
            }
            ground
                .line(&format!("snapshot {entity}#{seq} {}", if saved.is_ok() { "kept" } else { "refused" }));
            saved
        };
        self.write("save_snapshot", call).await
    }

    async fn due_effects(
        &self,
        connector: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, Error> {
        self.read("due_effects", self.ground.memory.due_effects(connector, now, limit)).await
    }

    async fn next_effect(&self, connector: &str, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.read("next_effect", self.ground.memory.next_effect(connector, now)).await
    }

    async fn outbox_of(&self, entity: &EntityId) -> Result<Vec<OutboxRow>, Error> {
        self.read("outbox_of", self.ground.memory.outbox_of(entity)).await
    }

    async fn progress(
        &self,
        epoch: Epoch,
        entity: &EntityId,
        effect: EffectId,
        progress: Progress,
    ) -> Result<bool, Error> {
        let (ground, entity) = (self.ground.clone(), entity.clone());
        let call = async move {
            let told = format!("{entity} {effect} {} uncertain {}", progress.attempts, progress.uncertain);
            let kept = ground.memory.progress(epoch, &entity, effect, progress).await;
            ground.line(&format!("progress {told} {}", matches!(kept, Ok(true))));
            kept
        };
        self.write("progress", call).await
    }

    async fn depths(&self) -> Result<BTreeMap<String, Depth>, Error> {
        self.read("depths", self.ground.memory.depths()).await
    }

    async fn due_timers(&self, now: Timestamp, limit: usize) -> Result<Vec<TimerRow>, Error> {
        self.read("due_timers", self.ground.memory.due_timers(now, limit)).await
    }

    async fn next_timer(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.read("next_timer", self.ground.memory.next_timer(now)).await
    }

    async fn exceptions(&self, filter: &ExceptionFilter) -> Result<Vec<ExceptionRow>, Error> {
        self.read("exceptions", self.ground.memory.exceptions(filter)).await
    }

    async fn find(&self, term: &str, limit: usize) -> Result<Vec<EntityId>, Error> {
        self.read("find", self.ground.memory.find(term, limit)).await
    }

    async fn heads(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Head>, Error> {
        self.read("heads", self.ground.memory.heads(kind, after, limit)).await
    }

    async fn tallies(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.read("tallies", self.ground.memory.tallies()).await
    }

    async fn census(&self) -> Result<BTreeMap<(String, String), u64>, Error> {
        self.read("census", self.ground.memory.census()).await
    }

    async fn definitions(&self) -> Result<BTreeMap<(String, u32), String>, Error> {
        self.read("definitions", self.ground.memory.definitions()).await
    }

    async fn orders(&self) -> Result<BTreeMap<String, String>, Error> {
        self.read("orders", self.ground.memory.orders()).await
    }

    async fn order(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        self.read("order", self.ground.memory.order(key, value)).await
    }

    async fn keep_definition(&self, kind: &str, version: u32, text: &str) -> Result<(), Error> {
        self.read("keep_definition", self.ground.memory.keep_definition(kind, version, text)).await
    }

    async fn compact(&self, now: Timestamp, ended_before: Timestamp) -> Result<Compacted, Error> {
        self.read("compact", self.ground.memory.compact(now, ended_before)).await
    }
}

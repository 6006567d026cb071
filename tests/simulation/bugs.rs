//! Bugs to be found: each is planted around the real program, never in it. What must be planted inside is a patch under `mutants/`,
//! which `scripts/mutants` applies to a copy of the tree.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use syncline::codec;
use syncline::delivery::wire::{Request, Response, Wire, WireError};
use syncline::host::{self, HostConfig, Reply};
use syncline::journal::{
    Append, Appended, Compacted, Depth, Error, ExceptionFilter, Grant, Head, Holding, Journal, Loaded,
    Snapshot,
};
use syncline_actors::decision::{Answer, Verdict};
use syncline_actors::entity::State;
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, Progress, TimerRow};
use syncline_actors::time::Timestamp;

use crate::chance;
use crate::ground::Ground;
use crate::node::Switchboard;
use crate::store::Store;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The sender is told before the record is durable.
    AckBeforeAppend,
    /// What is known about duplicates is forgotten when an entity leaves memory.
    DedupForgottenAtPassivation,
    /// Ids are remembered for two seconds only.
    DedupTooShort,
    /// Business keys are not kept.
    BusinessKeysForgotten,
    /// A duplicate gets an answer of its own.
    NewAnswerToDuplicate,
    /// An effect leaves before its record is durable.
    EffectBeforeAppend,
    /// Now and then effects are not written with their record.
    EffectsNotWritten,
    /// Now and then timers are not written with their record.
    TimersNotWritten,
    /// Every attempt has a key of its own.
    KeyPerAttempt,
    /// An attempt is not put on record before it starts.
    NoClaim,
    /// A time-out counts as not sent.
    LostIsUnsent,
    /// A probe always says that there is nothing.
    ProbeFindsNothing,
    /// Now and then an outcome goes nowhere.
    OutcomeDropped,
    /// Timers fire two seconds early.
    TimerEarly,
    /// A snapshot lacks the last record.
    SnapshotOffByOne,
    /// Appends of a former owner are taken.
    NoEpochCheck,
    /// Whoever finds the node full is told that all is well.
    BusyIsAcked,
    /// Whoever finds the journal out of reach is told that all is well.
    UnavailableIsAcked,
    /// Mailboxes have no bound.
    UnboundedMailbox,
    /// One entity more than allowed comes into memory.
    OneResidentTooMany,
}

impl Bug {
    /// All of them.
    pub(crate) const ALL: [Self; 20] = [
        Self::AckBeforeAppend,
        Self::DedupForgottenAtPassivation,
        Self::DedupTooShort,
        Self::BusinessKeysForgotten,
        Self::NewAnswerToDuplicate,
        Self::EffectBeforeAppend,
        Self::EffectsNotWritten,
        Self::TimersNotWritten,
        Self::KeyPerAttempt,
        Self::NoClaim,
        Self::LostIsUnsent,
        Self::ProbeFindsNothing,
        Self::OutcomeDropped,
        Self::TimerEarly,
        Self::SnapshotOffByOne,
        Self::NoEpochCheck,
        Self::BusyIsAcked,
        Self::UnavailableIsAcked,
        Self::UnboundedMailbox,
        Self::OneResidentTooMany,
    ];

    /// The host's settings with the bug.
    pub(crate) fn in_config(self, mut config: HostConfig) -> HostConfig {
        match self {
            Self::UnboundedMailbox => config.entity_in_flight_max = usize::MAX,
            Self::OneResidentTooMany => config.resident_max += 1,
            _ => {}
        }
        config
    }

    /// What a sender is told with the bug.
    pub(crate) fn in_answer(self, answer: Result<Reply, host::Error>) -> Result<Reply, host::Error> {
        let well = || {
            let answer = Answer { seq: 1, status: "".into(), verdict: Verdict::Applied };
            Ok(Reply { answer, duplicate: false })
        };
        match (self, &answer) {
            (Self::BusyIsAcked, Err(host::Error::Busy { .. }))
            | (Self::UnavailableIsAcked, Err(host::Error::Unavailable(_))) => well(),
            _ => answer,
        }
    }

    /// Whether an outcome goes nowhere.
    pub(crate) fn drops_outcome(self, ground: &Ground, entity: &EntityId, id: &str) -> bool {
        self == Self::OutcomeDropped && chance::of(ground.seed, &format!("{entity}{id}")).is_multiple_of(10)
    }
}

/// The store with a bug.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) bug: Bug,
    pub(crate) store: Store,
    pub(crate) hints: Arc<Switchboard>,
    /// Told as written, and not written yet.
    pub(crate) unwritten: Arc<Mutex<VecDeque<Append>>>,
    /// How often each entity came into memory.
    pub(crate) loads: Mutex<BTreeMap<EntityId, u64>>,
}

impl Planted {
    fn ground(&self) -> &Arc<Ground> {
        &self.store.ground
    }

    async fn write_all(store: &Store, unwritten: &Mutex<VecDeque<Append>>) {
        loop {
            let next = unwritten.lock().unwrap().pop_front();
            let Some(append) = next else { return };
            let _ = store.append(append).await;
        }
    }

    /// Says that it is done, and does it in a while.
    fn write_behind(&self, append: Append) -> Appended {
        self.unwritten.lock().unwrap().push_back(append);
        let (store, unwritten) = (self.store.clone(), self.unwritten.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(40)).await;
            Self::write_all(&store, &unwritten).await;
        });
        Appended::Written
    }

    fn is_known(&self, append: &Append) -> bool {
        let Ok(record) = codec::decode_record(&append.frame) else { return true };
        let book = self.ground().book();
        let kept = book.entities.get(&append.entity);
        kept.is_some_and(|kept| kept.message(&record.envelope.source, &record.envelope.id).is_some())
    }

    fn now_and_then(&self, append: &Append) -> bool {
        chance::of(self.ground().seed, &format!("{}#{}", append.entity, append.seq)).is_multiple_of(8)
    }

    /// The append with the bug.
    async fn spoil(&self, append: &mut Append) {
        match self.bug {
            Bug::DedupForgottenAtPassivation => {
                let loads = self.loads.lock().unwrap().get(&append.entity).copied().unwrap_or_default();
                let epoch = append.epoch;
                for key in &mut append.dedup {
                    key.scope = format!("{} {epoch} {loads}", key.scope).into();
                }
            }
            Bug::DedupTooShort => append.dedup[0].expires = Some(append.at.plus(Duration::from_secs(2))),
            Bug::BusinessKeysForgotten => append.dedup.truncate(1),
            Bug::EffectBeforeAppend => {
                if let Some(delivery) = self.hints.delivery() {
                    delivery.hint(&append.rows.emitted);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Bug::EffectsNotWritten if self.now_and_then(append) => append.rows.emitted.clear(),
            Bug::TimersNotWritten if self.now_and_then(append) => append.rows.timers_set.clear(),
            Bug::NoEpochCheck => {
                let current = self.ground().book().epochs.get(&append.entity.shard()).copied();
                append.epoch = current.unwrap_or(append.epoch);
            }
            _ => {}
        }
    }

    /// The state before the last record, under the number of the state after it.
    fn one_short(&self, entity: &EntityId, seq: u64) -> Bytes {
        let mut state = State::default();
        let book = self.ground().book();
        let records = book.entities.get(entity).map_or(&[][..], |kept| &kept.records);
        records.iter().take_while(|record| record.seq < seq).for_each(|record| state.fold(record));
        state.seq = seq;
        codec::encode_state(&state).expect("states of the simulation are small")
    }

    fn early(&self, now: Timestamp) -> Timestamp {
        if self.bug == Bug::TimerEarly { now.plus(Duration::from_secs(2)) } else { now }
    }
}

#[async_trait]
impl Journal for Planted {
    async fn append(&self, mut append: Append) -> Result<Appended, Error> {
        self.spoil(&mut append).await;
        if self.bug == Bug::AckBeforeAppend {
            Self::write_all(&self.store, &self.unwritten).await;
            if !self.is_known(&append) {
                return Ok(self.write_behind(append));
            }
        }
        let (seq, answer) = (append.seq, append.answer.clone());
        match self.store.append(append).await {
            Ok(Appended::Duplicate(_)) if self.bug == Bug::NewAnswerToDuplicate => {
                Ok(Appended::Duplicate(Answer { seq, ..answer }))
            }
            other => other,
        }
    }

    async fn load(&self, entity: &EntityId) -> Result<Loaded, Error> {
        *self.loads.lock().unwrap().entry(entity.clone()).or_default() += 1;
        Self::write_all(&self.store, &self.unwritten).await;
        self.store.load(entity).await
    }

    async fn save_snapshot(
        &self,
        epoch: Epoch,
        entity: &EntityId,
        mut snapshot: Snapshot,
    ) -> Result<(), Error> {
        if self.bug == Bug::SnapshotOffByOne {
            snapshot.frame = self.one_short(entity, snapshot.seq);
        }
        self.store.save_snapshot(epoch, entity, snapshot).await
    }

    async fn progress(
        &self,
        epoch: Epoch,
        entity: &EntityId,
        effect: EffectId,
        progress: Progress,
    ) -> Result<bool, Error> {
        if self.bug == Bug::NoClaim && progress.last.ends_with("has begun") {
            return Ok(true);
        }
        self.store.progress(epoch, entity, effect, progress).await
    }

    async fn due_timers(&self, now: Timestamp, limit: usize) -> Result<Vec<TimerRow>, Error> {
        self.store.due_timers(self.early(now), limit).await
    }

    // ---- the rest is as it should be ----

    async fn acquire(&self, shards: &[ShardId], node: &NodeId) -> Result<Vec<Grant>, Error> {
        self.store.acquire(shards, node).await
    }
    async fn renew(&self, grants: &[Grant]) -> Vec<Result<(), Error>> {
        self.store.renew(grants).await
    }
    async fn holdings(&self) -> Result<Vec<Holding>, Error> {
        self.store.holdings().await
    }
    async fn release(&self, grants: &[Grant]) -> Result<(), Error> {
        self.store.release(grants).await
    }
    async fn records(&self, entity: &EntityId, from: u64, limit: usize) -> Result<Vec<Bytes>, Error> {
        self.store.records(entity, from, limit).await
    }
    async fn due_effects(
        &self,
        connector: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, Error> {
        self.store.due_effects(connector, now, limit).await
    }
    async fn next_effect(&self, connector: &str, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.store.next_effect(connector, now).await
    }
    async fn outbox_of(&self, entity: &EntityId) -> Result<Vec<OutboxRow>, Error> {
        self.store.outbox_of(entity).await
    }
    async fn depths(&self) -> Result<BTreeMap<String, Depth>, Error> {
        self.store.depths().await
    }
    async fn next_timer(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.store.next_timer(now).await
    }
    async fn exceptions(&self, filter: &ExceptionFilter) -> Result<Vec<ExceptionRow>, Error> {
        self.store.exceptions(filter).await
    }
    async fn find(&self, term: &str, limit: usize) -> Result<Vec<EntityId>, Error> {
        self.store.find(term, limit).await
    }
    async fn heads(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Head>, Error> {
        self.store.heads(kind, after, limit).await
    }
    async fn tallies(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.store.tallies().await
    }
    async fn census(&self) -> Result<BTreeMap<(String, String), u64>, Error> {
        self.store.census().await
    }
    async fn orders(&self) -> Result<BTreeMap<String, String>, Error> {
        self.store.orders().await
    }
    async fn order(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        self.store.order(key, value).await
    }
    async fn definitions(&self) -> Result<BTreeMap<(String, u32), String>, Error> {
        self.store.definitions().await
    }
    async fn keep_definition(&self, kind: &str, version: u32, text: &str) -> Result<(), Error> {
        self.store.keep_definition(kind, version, text).await
    }
    async fn compact(&self, now: Timestamp, ended_before: Timestamp) -> Result<Compacted, Error> {
        self.store.compact(now, ended_before).await
    }
}

/// The wire with a bug.
#[derive(Debug)]
pub(crate) struct Crossed<W> {
    pub(crate) bug: Bug,
    pub(crate) wire: W,
    /// Calls made under each key.
    pub(crate) calls: Mutex<BTreeMap<String, u64>>,
}

#[async_trait]
impl<W: Wire> Wire for Crossed<W> {
    async fn send(&self, mut request: Request) -> Result<Response, WireError> {
        let is_probe = request.operation.ends_with(" probe");
        let key = request.headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
        if let Some(key) = key.filter(|_| self.bug == Bug::KeyPerAttempt && !is_probe) {
            let attempt = {
                let mut calls = self.calls.lock().unwrap();
                let attempt = calls.entry(key.clone()).or_default();
                *attempt += 1;
                *attempt
            };
            if attempt > 1 {
                request.headers.insert("idempotency-key", format!("{key}-{attempt}").parse().unwrap());
            }
        }
        match (self.bug, self.wire.send(request).await) {
            (Bug::LostIsUnsent, Err(WireError::Lost(why))) => Err(WireError::Unsent(why)),
            (Bug::ProbeFindsNothing, Ok(response)) if is_probe && response.status == 200 => {
                Ok(Response { body: Bytes::from_static(b"{\"items\":[]}"), ..response })
            }
            (_, answer) => answer,
        }
    }
}

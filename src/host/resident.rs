//! An entity in memory: rebuilt from the journal, moved only by records that are durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use syncline_actors::decide::refusal;
use syncline_actors::decision::{Answer, BusinessKey, Change, Decision, Rejection, Verdict};
use syncline_actors::entity::State;
use syncline_actors::envelope::{Body, Envelope};
use syncline_actors::id::{EntityId, Epoch};
use syncline_actors::outbox::Rows;
use syncline_actors::process::Process;
use syncline_actors::record::{Hash, Record};
use syncline_actors::subscription::IDS;
use syncline_actors::time::Timestamp;
use tokio::time::Instant;

use super::core::Core;
use super::delivery::Delivery;
use super::observer::count;
use super::{Error, Reply};
use crate::codec;
use crate::journal::{self, Append, Appended, DedupKey, Loaded, Snapshot};

/// An entity's state and its place in the chain of its records.
#[derive(Debug)]
pub(super) struct Resident {
    pub(super) state: State,
    /// Hash of the last record.
    hash: Hash,
    /// Epoch of the last record.
    epoch: Epoch,
    /// The last record in the stored snapshot.
    saved: u64,
}

/// Longest business key that an entity is found by, in bytes: people type them.
const TERM_BYTES_MAX: usize = 256;

/// What became of one try to take a message in.
pub(super) enum Tried {
    /// It is answered.
    Answered(Reply),
    /// The state may be wrong now: forget it and rebuild. Another try may help.
    Lost(Error),
    /// There is no answer, and the state still holds.
    Refused(Error),
    /// Another node owns the shard.
    Fenced(Error),
}

impl Resident {
    /// Rebuilds `entity` from its snapshot and the records after it. Each must follow on the one before, or nothing is built.
    pub(super) async fn load(core: &Core, entity: &EntityId) -> Result<Self, Error> {
        let began = Instant::now();
        let loaded = core.journal("load", core.journal.load(entity)).await;
        let loaded = loaded.map_err(|error| Error::of(entity, &error))?;
        let records = loaded.tail.len();
        let resident = Self::rebuild(entity, &loaded).map_err(|problem| Error::broken(entity, &problem))?;
        if resident.state.seq > 0 {
            core.count(entity.kind(), |kind| count(&kind.rebuilt));
            core.observer.rebuilt(entity.kind(), records, began.elapsed());
        }
        Ok(resident)
    }

    /// Its state, as it is told to whoever asks; `None` before its first record.
    pub(super) fn told(&self) -> Option<State> {
        (self.state.seq > 0).then(|| self.state.clone())
    }

    /// Folds what was loaded; the text says what does not fit.
    pub(super) fn rebuild(entity: &EntityId, loaded: &Loaded) -> Result<Self, String> {
        let mut resident =
            Self { state: State::default(), hash: Hash::default(), epoch: Epoch::default(), saved: 0 };
        if let Some(snapshot) = &loaded.snapshot {
            let state: State = codec::decode_state(&snapshot.frame)
                .map_err(|error| format!("snapshot {}: {error}", snapshot.seq))?;
            if state.seq != snapshot.seq {
                return Err(format!("snapshot {} holds the state after record {}", snapshot.seq, state.seq));
            }
            (resident.hash, resident.saved, resident.state) = (snapshot.hash, snapshot.seq, state);
        }
        for frame in &loaded.tail {
            resident.follow(entity, frame)?;
        }
        Ok(resident)
    }

    /// Folds the record in `frame` if it follows on the last one.
    fn follow(&mut self, entity: &EntityId, frame: &[u8]) -> Result<(), String> {
        let next = self.state.seq + 1;
        let record = codec::decode_record(frame).map_err(|error| format!("record {next}: {error}"))?;
        if record.seq != next {
            return Err(format!("record {} stands where record {next} should be", record.seq));
        }
        if record.prev != self.hash {
            return Err(format!(
                "record {next} follows on {}, but the one before is {}",
                record.prev, self.hash
            ));
        }
        if record.epoch < self.epoch {
            return Err(format!(
                "record {next} is of epoch {}, the one before of {}",
                record.epoch, self.epoch
            ));
        }
        if record.envelope.subject != *entity {
            return Err(format!("record {next} is one of {}", record.envelope.subject));
        }
        self.hash = codec::record_hash(frame).map_err(|error| format!("record {next}: {error}"))?;
        self.epoch = record.epoch;
        self.state.fold(&record);
        Ok(())
    }

    /// Decides, appends, folds. A condemned message is journaled as refused, without being decided upon. What leaves because of it is as
    /// urgent as it, or as its process, if that is less.
    pub(super) async fn take(
        &mut self,
        core: &Core,
        epoch: Epoch,
        envelope: &Envelope,
        delivery: &Delivery,
    ) -> Tried {
        let process = match core.governing(&envelope.subject, envelope.body.governed_by(self.state.version)) {
            Ok(process) => process,
            Err(error) => return Tried::Refused(error),
        };
        let decision = if delivery.is_condemned() {
            set_aside(&self.state, envelope)
        } else {
            match (core.config.decide.0)(process, &self.state, envelope) {
                Ok(decision) => decision,
                Err(Rejection::Stale) => return Tried::Answered(self.stale()),
                Err(rejection) => refusal(&self.state, rejection),
            }
        };
        let (record, mut append) = match self.append(process, epoch, envelope, decision) {
            Ok(append) => append,
            Err(error) => return Tried::Refused(error),
        };
        let latency = delivery.lane.class().latency.max(process.class.latency);
        append.rows.emitted.iter_mut().for_each(|row| row.latency = latency);
        match self.tallies(core, &record, delivery).await {
            Ok(tallies) => append.rows.tallies = tallies,
            Err(error) => return Tried::Lost(error),
        }
        self.write(core, record, append).await
    }

    fn stale(&self) -> Reply {
        let status = self.state.status.clone();
        let answer = Answer { seq: self.state.seq, status, verdict: Verdict::Rejected(Rejection::Stale) };
        Reply { answer, duplicate: false }
    }

    /// The record of `decision` and the append that writes it. A decision too large for a record becomes a refusal.
    fn append(
        &self,
        process: &Process,
        epoch: Epoch,
        envelope: &Envelope,
        decision: Decision,
    ) -> Result<(Record, Append), Error> {
        let Decision { changes, business_keys, answer } = decision;
        let record = Record {
            seq: self.state.seq + 1,
            epoch,
            prev: self.hash,
            envelope: envelope.clone(),
            changes,
            answer,
        };
        let (frame, hash) = match codec::encode_record(&record) {
            Ok(encoded) => encoded,
            Err(problem @ codec::Error::TooLarge(_)) if !is_refusal(&record) => {
                let rejection =
                    Rejection::Expression(format!("process `{}`: {problem}", process.name).into());
                return self.append(process, epoch, envelope, refusal(&self.state, rejection));
            }
            Err(problem) => return Err(Error::Unstorable(problem.to_string())),
        };
        let id = DedupKey {
            scope: format!("source:{}", envelope.source).into(),
            id: envelope.id.clone(),
            expires: envelope.remember_ms.map(|ms| envelope.at.plus(std::time::Duration::from_millis(ms))),
        };
        let mut terms = self.terms(envelope, &business_keys);
        if process.record {
            terms.extend(foreign_ids(&record));
        }
        let business = business_keys.into_iter().map(|key| DedupKey {
            scope: format!("business:{}", key.scope).into(),
            id: key.key,
            expires: None,
        });
        let append = Append {
            entity: envelope.subject.clone(),
            epoch,
            seq: record.seq,
            prev: record.prev,
            hash,
            frame,
            at: envelope.at,
            dedup: std::iter::once(id).chain(business).collect(),
            answer: record.answer.clone(),
            ended: self.state.ending.is_some() || ending(&record).is_some(),
            rows: Rows::of(&record),
            terms,
        };
        Ok((record, append))
    }

    /// Terms that the entity is not found by yet: its flow, and what its messages are known by in the business.
    fn terms(&self, envelope: &Envelope, business_keys: &[BusinessKey]) -> Vec<Arc<str>> {
        let flow = &envelope.correlation_id;
        let flow = (!flow.is_empty() && *flow != self.state.correlation_id)
            .then(|| format!("{}{flow}", journal::FLOW).into());
        let keys = business_keys.iter().filter(|key| key.key.len() <= TERM_BYTES_MAX);
        flow.into_iter().chain(keys.map(|key| format!("{}{}", journal::KEY, key.key).into())).collect()
    }

    async fn write(&mut self, core: &Core, record: Record, append: Append) -> Tried {
        let (rows, hash) = (append.rows.clone(), append.hash);
        let entity = &record.envelope.subject;
        match core.journal("append", core.journal.append(append)).await {
            Ok(Appended::Written) => {}
            Ok(Appended::Duplicate(answer)) => {
                core.count(entity.kind(), |kind| count(&kind.duplicates));
                return Tried::Answered(Reply { answer, duplicate: true });
            }
            Err(journal::Error::Conflict { found, expected, .. }) if found < expected => {
                return self.rolled_back(core, entity, expected, found).await;
            }
            Err(error @ journal::Error::Fenced { .. }) => return Tried::Fenced(Error::of(entity, &error)),
            Err(error) => return Tried::Lost(Error::of(entity, &error)),
        }
        let (from, since) = (self.state.status.clone(), self.state.since);
        self.state.fold(&record);
        (self.hash, self.epoch) = (hash, record.epoch);
        self.tell(core, &from, &record, &rows);
        self.tell_progress(core, &from, since, &record);
        Tried::Answered(Reply { answer: record.answer, duplicate: false })
    }

    /// The store knew records of the entity that it has no more. To go on from what is left would hide it.
    async fn rolled_back(&self, core: &Core, entity: &EntityId, expected: u64, found: u64) -> Tried {
        let why = format!("{entity} was at record {expected} and is at {found}");
        let marked = core.journal("suspect", core.journal.suspect(entity.shard(), &why)).await;
        Tried::Lost(marked.err().map_or(Error::Unavailable(why), |error| Error::of(entity, &error)))
    }

    /// Tells those who wait for work and those who watch.
    fn tell(&self, core: &Core, from: &str, record: &Record, rows: &Rows) {
        let entity = &record.envelope.subject;
        if !rows.emitted.is_empty() {
            core.hints.effects(&rows.emitted);
        }
        if !rows.called_off.is_empty() {
            core.hints.called_off(entity, &rows.called_off);
        }
        if !rows.timers_set.is_empty() {
            core.hints.timers(&rows.timers_set);
        }
        core.count(entity.kind(), |kind| count(&kind.recorded));
        core.observer.recorded(from, record);
        if let Some(ending) = ending(record) {
            core.observer.ended(entity.kind(), ending, record.envelope.at.since(self.state.began_at));
        }
    }

    /// Tells those who watch how far the instance has come.
    fn tell_progress(&self, core: &Core, from: &str, since: Timestamp, record: &Record) {
        let (kind, mut from) = (record.envelope.subject.kind(), Some(from).filter(|from| !from.is_empty()));
        for change in &record.changes {
            match change {
                // States that it only passes take no time.
                Change::Entered { .. } | Change::Ended { .. } => {
                    if let Some(from) = from.take() {
                        core.observer.step_left(kind, from, record.envelope.at.since(since));
                    }
                }
                Change::MilestoneMissed { name } => core.observer.milestone(kind, name, "missed"),
                Change::MilestoneReached { name } => {
                    let late = self.state.missed.contains(name);
                    core.observer.milestone(kind, name, if late { "reached_late" } else { "in_time" });
                }
                _ => {}
            }
        }
    }

    /// Whether `tail` records or more came since the last snapshot, or the entity has ended since: then its records may be thrown
    /// away one day.
    pub(super) fn is_due(&self, tail: u64) -> bool {
        let since = self.state.seq - self.saved;
        since > 0 && (since >= tail || self.state.ending.is_some())
    }

    /// Keeps a snapshot when it is due.
    pub(super) async fn save(&mut self, core: &Core, entity: &EntityId, epoch: Epoch, tail: u64) {
        if !self.is_due(tail) {
            return;
        }
        let seq = self.state.seq;
        let saved = match codec::encode_state(&self.state) {
            Ok(frame) => {
                let snapshot = Snapshot { seq, hash: self.hash, frame };
                let saving = core.journal.save_snapshot(epoch, entity, snapshot);
                core.journal("save_snapshot", saving).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match saved {
            Ok(()) => {
                self.saved = seq;
                trim(core, entity, epoch, seq).await;
            }
            // Its records tell all: the next rebuild is longer, not wrong.
            Err(problem) => tracing::warn!(%entity, seq, problem, "no snapshot was kept"),
        }
    }
}

/// Lets go of the oldest records of an entity that has too many. The snapshot that was just kept holds them.
async fn trim(core: &Core, entity: &EntityId, epoch: Epoch, seq: u64) {
    let keep = core.config.records_max;
    if seq <= keep {
        return;
    }
    if let Err(error) = core.journal("trim", core.journal.trim(epoch, entity, keep)).await {
        tracing::warn!(%entity, %error, "its oldest records were not thrown away; they will be with the next snapshot");
    }
}

/// The ids that other systems know the record by, as terms to find it by.
fn foreign_ids(record: &Record) -> impl Iterator<Item = Arc<str>> {
    record.changes.iter().filter_map(|change| match change {
        Change::Assigned { field, value } | Change::Written { field, value, .. } => {
            let below = field.strip_prefix(IDS)?.strip_prefix('.')?;
            let id = value.to_plain_text();
            (!below.is_empty() && !value.is_null() && id.len() <= TERM_BYTES_MAX)
                .then(|| format!("{}{id}", journal::KEY).into())
        }
        _ => None,
    })
}

fn is_refusal(record: &Record) -> bool {
    matches!(record.answer.verdict, Verdict::Rejected(_))
}

fn ending(record: &Record) -> Option<syncline_actors::decision::Ending> {
    record.changes.iter().find_map(|change| match change {
        Change::Ended { ending } => Some(*ending),
        _ => None,
    })
}

/// What is journaled of a message that makes its actor panic: that it came and is held elsewhere. What it was about waits no
/// longer, or it would come again and again.
fn set_aside(state: &State, envelope: &Envelope) -> Decision {
    let mut decision = refusal(state, Rejection::Expression(super::quarantine::POISON.into()));
    match &envelope.body {
        Body::Outcome(outcome) if state.pending.contains_key(&outcome.effect) => {
            let (effect, class, result) = (outcome.effect, outcome.class, outcome.result.clone());
            decision.changes.insert(0, Change::Settled { effect, class, result });
        }
        Body::Timer(timer)
            if state.timers.get(&timer.name).is_some_and(|(token, _)| *token == timer.token) =>
        {
            decision.changes.insert(0, Change::TimerCleared { name: timer.name.clone() });
        }
        _ => {}
    }
    decision
}

impl Core {
    /// The definition that governs an entity of `version`.
    fn governing(&self, entity: &EntityId, version: u32) -> Result<&Arc<Process>, Error> {
        let kind = entity.kind();
        self.catalog.governing(kind, version).ok_or_else(|| match version {
            0 => Error::UnknownKind { kind: kind.into() },
            version => Error::MissingVersion { kind: kind.into(), version },
        })
    }

    /// Whether the node is going down.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

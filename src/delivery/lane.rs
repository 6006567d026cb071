//! One connector's task: it takes what is due, keeps within the connector's limits, and never has an effect in hand twice.
//!
//! Effects come in lanes by how urgent they are ([`Latency`]): each has its own part of the queue and is paged by itself, so that a
//! hundred thousand of what can wait never hide one that cannot. Whose turn it is, is decided in [`super::ready`].
//!
//! Memory is bounded: hints fill a short queue, and what does not fit waits in the store and is paged from there. Retries wait in
//! the store too; the task only remembers when the next is due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use syncline_actors::class::Latency;
use syncline_actors::envelope::{Body, Envelope, Outcome, OutcomeClass};
use syncline_actors::id::EntityId;
use syncline_actors::outbox::OutboxRow;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use super::attempt::{Ended, Key, Report, Site, Step, Work};
use super::budget::{Budget, Closed};
use super::harvest::Harvested;
use super::post::goes_before;
use super::ready::{Ready, patient_slots};
use super::{Breakers, Busy, MailboxError, Outside};
use crate::journal::share::Share;

/// Effects of a latency in hand that wait for their turn. What exceeds it waits in the store.
pub(super) const QUEUE_MAX: usize = 1024;

/// Effects asked from the store at once.
const PAGE: usize = 256;

/// Time between two pages, so that retries due a millisecond apart share one.
const PAGE_PAUSE: Duration = Duration::from_millis(10);

/// Time between two looks into the store without any reason: finds what a lost hint or a move of shards left behind.
const SWEEP: Duration = Duration::from_secs(15);

/// How long a connector waits when the store does not answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

const ALL_LANES: ByLatency<bool> = [true; Latency::ALL.len()];

/// Pauses between two tries to tell an entity its outcome.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
const SETTLE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What a lane and the rest of the program share.
#[derive(Debug, Default)]
pub(super) struct Door {
    inbox: Mutex<Inbox>,
    bell: Notify,
    paused: AtomicBool,
    draining: AtomicBool,
    view: Mutex<View>,
}

#[derive(Debug, Default)]
struct Inbox {
    rows: ByLatency<VecDeque<OutboxRow>>,
    called_off: VecDeque<Key>,
    overflow: ByLatency<bool>,
}

/// One of something for each latency.
type ByLatency<T> = [T; Latency::ALL.len()];

/// A lane as people see it.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) in_flight: usize,
    pub(super) queued: usize,
    pub(super) settling: usize,
    pub(super) rate_left: Option<u32>,
    pub(super) slots: Option<u32>,
    pub(super) breaker: Breakers,
    pub(super) throttled_until: Option<Timestamp>,
}

impl Door {
    pub(super) fn hint(&self, row: &OutboxRow) {
        let mut inbox = lock(&self.inbox);
        let lane = row.latency as usize;
        if inbox.rows[lane].len() < QUEUE_MAX {
            inbox.rows[lane].push_back(row.clone());
        } else {
            inbox.overflow[lane] = true;
        }
        drop(inbox);
        self.bell.notify_one();
    }

    pub(super) fn look(&self) {
        lock(&self.inbox).overflow = ALL_LANES;
        self.bell.notify_one();
    }

    pub(super) fn call_off(&self, key: Key) {
        let mut inbox = lock(&self.inbox);
        if inbox.called_off.len() < QUEUE_MAX {
            inbox.called_off.push_back(key);
        } else {
            inbox.overflow = ALL_LANES;
        }
        drop(inbox);
        self.bell.notify_one();
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
        self.bell.notify_one();
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    pub(super) fn view(&self) -> View {
        lock(&self.view).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an effect in hand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    /// Behind an earlier effect of its entity.
    Parked,
    Running {
        called_off: bool,
    },
    Settling,
}

#[derive(Debug)]
pub(super) struct Lane {
    site: Arc<Site>,
    door: Arc<Door>,
    known: BTreeMap<Key, Place>,
    ready: Ready,
    parked: BTreeMap<EntityId, Vec<Work>>,
    running: JoinSet<Report>,
    /// Those of the running that can wait.
    patient: BTreeSet<Key>,
    settling: JoinSet<bool>,
    /// Effects whose last attempt could not be put on record: it may have been applied, whatever the store says.
    doubtful: BTreeSet<Key>,
    /// Which effect a task is about, so that one that panicked is not kept in hand for ever.
    tasks: BTreeMap<tokio::task::Id, Key>,
    /// Effects that are running or settling: their shards do not go yet.
    busy: BTreeMap<Key, Busy>,
    budget: Budget,
    /// What is asked of the store about the budget, and when that was.
    asking: JoinSet<(Timestamp, Result<Share, crate::journal::Error>)>,
    held_until: Timestamp,
    /// The store may hold more that is due.
    more: ByLatency<bool>,
    page_at: ByLatency<Timestamp>,
    next_due: Option<Timestamp>,
    sweep_at: Timestamp,
}

impl Lane {
    pub(super) fn new(site: Arc<Site>, door: Arc<Door>) -> Self {
        let now = site.outside.clock.now();
        let contract = &site.contract;
        let shared_as = site.outside.shared_as.clone().filter(|_| site.letters.is_none());
        Self {
            // What goes on between entities is each node's own.
            budget: Budget::new(contract, shared_as, now),
            asking: JoinSet::new(),
            site,
            door,
            known: BTreeMap::new(),
            ready: Ready::default(),
            parked: BTreeMap::new(),
            running: JoinSet::new(),
            patient: BTreeSet::new(),
            settling: JoinSet::new(),
            doubtful: BTreeSet::new(),
            tasks: BTreeMap::new(),
            busy: BTreeMap::new(),
            held_until: now,
            more: ALL_LANES,
            page_at: [now; Latency::ALL.len()],
            next_due: None,
            sweep_at: now.plus(SWEEP),
        }
    }

    /// Works until it is drained.
    pub(super) async fn run(mut self) {
        let door = self.door.clone();
        loop {
            self.take_inbox().await;
            if !self.is_draining() {
                self.refill().await;
                self.start().await;
                self.ask();
            } else if self.running.is_empty() && self.settling.is_empty() {
                return self.leave().await;
            }
            self.publish();
            let wake = self.wake();
            // Biased, so that one seed gives one order.
            tokio::select! {
                biased;
                () = door.bell.notified() => {}
                Some(ended) = self.running.join_next_with_id(), if !self.running.is_empty() => {
                    // A hint of an effect that has just ended was given before it ended: it must be seen while the effect is known.
                    self.take_inbox().await;
                    self.ran(ended);
                }
                Some(ended) = self.settling.join_next_with_id(), if !self.settling.is_empty() => {
                    self.take_inbox().await;
                    self.settled(ended);
                }
                Some(answered) = self.asking.join_next(), if !self.asking.is_empty() => self.answered(answered),
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    /// Gives the part of the shared budget back; it would come back by itself.
    async fn leave(&mut self) {
        if let Some(farewell) = self.budget.farewell() {
            let _ = tokio::time::timeout(STORE_PAUSE, self.site.outside.journal.share(&farewell)).await;
        }
    }

    fn now(&self) -> Timestamp {
        self.site.outside.clock.now()
    }

    fn is_draining(&self) -> bool {
        self.door.draining.load(Ordering::Acquire)
    }

    async fn take_inbox(&mut self) {
        let (rows, called_off, overflow) = {
            let mut inbox = lock(&self.door.inbox);
            let overflow = std::mem::take(&mut inbox.overflow);
            (std::mem::take(&mut inbox.rows), std::mem::take(&mut inbox.called_off), overflow)
        };
        self.more.iter_mut().zip(overflow).for_each(|(more, overflow)| *more |= overflow);
        let now = self.now();
        for row in rows.into_iter().flatten() {
            if row.progress.due > now {
                self.due_at(row.progress.due);
            } else if self.ready.len_of(row.latency) >= QUEUE_MAX
                || self.known.contains_key(&(row.entity.clone(), row.effect.id))
            {
                // An effect in hand may have been issued anew since: the store knows.
                self.more[row.latency as usize] = true;
            } else {
                self.admit(Work::new(row));
            }
        }
        for key in called_off {
            self.call_off(key).await;
        }
    }

    fn due_at(&mut self, due: Timestamp) {
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    async fn call_off(&mut self, key: Key) {
        match self.known.get_mut(&key) {
            Some(Place::Settling) => {}
            Some(Place::Running { called_off }) => *called_off = true,
            Some(Place::Ready) => {
                let taken = self.ready.remove(&key);
                self.readmit_called_off(taken);
            }
            Some(Place::Parked) => {
                let works = self.parked.entry(key.0.clone()).or_default();
                let taken = works.iter().position(|work| work.key() == key).map(|at| works.remove(at));
                self.readmit_called_off(taken);
            }
            None => match self.site.outside.journal.outbox_of(&key.0).await {
                Ok(rows) => {
                    let name = &self.site.contract.name;
                    let row =
                        rows.into_iter().find(|row| row.effect.id == key.1 && row.effect.connector == *name);
                    if let Some(mut row) = row {
                        row.progress.called_off = true;
                        self.admit_called_off(Work::new(row));
                    }
                }
                Err(error) => self.store_down(&error.to_string()),
            },
        }
    }

    fn readmit_called_off(&mut self, work: Option<Work>) {
        if let Some(mut work) = work {
            work.row.progress.called_off = true;
            self.admit(work);
        }
    }

    /// Takes an effect in hand. What needs no call ends at once, even while no call may start.
    fn admit(&mut self, mut work: Work) {
        let asks = self.site.asks_first(&work);
        work.row.progress.uncertain |= asks || self.doubtful.contains(&work.key());
        if self.is_draining() || !self.site.ownership.starts(work.row.entity.shard()) {
            self.known.remove(&work.key());
            return;
        }
        match self.site.plan(&work.row, self.now()) {
            Step::Settle(outcome) => self.settle(work.row, outcome),
            Step::Probe | Step::Send => {
                self.known.insert(work.key(), Place::Ready);
                if work.refused {
                    self.ready.push_front(work);
                } else {
                    self.ready.push_back(work);
                }
            }
        }
    }

    async fn refill(&mut self) {
        let now = self.now();
        if now >= self.sweep_at {
            self.sweep_at = now.plus(SWEEP);
            self.more = ALL_LANES;
            self.unpark_all();
        }
        if self.next_due.is_some_and(|due| due <= now) {
            self.next_due = None;
            self.more = ALL_LANES;
        }
        for latency in Latency::ALL {
            let place = latency as usize;
            if !self.more[place] || !self.has_room(latency) || now < self.page_at[place].max(self.held_until)
            {
                continue;
            }
            if let Err(error) = self.page(latency, now).await {
                self.store_down(&error.to_string());
            }
        }
    }

    /// Half of what may be in hand is kept for what is urgent.
    fn has_room(&self, latency: Latency) -> bool {
        let most = if latency == Latency::Realtime { QUEUE_MAX * 8 } else { QUEUE_MAX * 4 };
        self.ready.len_of(latency) < QUEUE_MAX / 2 && self.known.len() < most
    }

    async fn page(&mut self, latency: Latency, now: Timestamp) -> Result<(), crate::journal::Error> {
        let site = self.site.clone();
        let (journal, lane) = (&site.outside.journal, latency.lane(&site.contract.name));
        // What is in hand is still due in the store, and comes again.
        let limit = self.known.len() + PAGE;
        let rows = journal.due_effects(&lane, now, limit).await?;
        let mut more = rows.len() >= limit;
        let mut admitted = false;
        for row in rows {
            if self.ready.len_of(latency) >= QUEUE_MAX {
                more = true;
                break;
            }
            let key = (row.entity.clone(), row.effect.id);
            if !self.known.contains_key(&key) {
                self.admit(Work::new(row));
                admitted |= self.known.contains_key(&key);
            }
        }
        self.more[latency as usize] = more;
        self.page_at[latency as usize] = now.plus(if admitted || !more { PAGE_PAUSE } else { STORE_PAUSE });
        if !more && let Some(due) = journal.next_effect(&lane, now).await? {
            self.due_at(due);
        }
        Ok(())
    }

    fn store_down(&mut self, why: &str) {
        tracing::warn!(connector = %self.site.contract.name, error = why, "the store does not answer; effects wait");
        self.held_until = self.now().plus(STORE_PAUSE);
        self.more = ALL_LANES;
    }

    async fn start(&mut self) {
        loop {
            let now = self.now();
            if self.closed(now).is_some() {
                return;
            }
            let Some(work) = self.ready.next(self.has_patient_slot(now)) else { return };
            if !self.site.ownership.starts(work.row.entity.shard()) {
                self.known.remove(&work.key());
                continue;
            }
            let step = match self.site.plan(&work.row, now) {
                Step::Settle(outcome) => {
                    self.settle(work.row, outcome);
                    continue;
                }
                step => step,
            };
            match self.earlier(&work).await {
                Ok(earlier) if earlier.is_empty() => self.launch(work, &step, now),
                Ok(earlier) => {
                    self.hurry(earlier, work.row.latency, now);
                    self.known.insert(work.key(), Place::Parked);
                    self.parked.entry(work.row.entity.clone()).or_default().push(work);
                }
                Err(error) => {
                    self.store_down(&error.to_string());
                    self.ready.push_front(work);
                    return;
                }
            }
        }
    }

    /// Whether a call of what can wait may start.
    fn has_patient_slot(&self, now: Timestamp) -> bool {
        let all = self.budget.slots(now).unwrap_or(self.site.contract.concurrency);
        self.patient.len() < patient_slots(all as usize)
    }

    /// Effects of the same entity and connector that must leave first.
    async fn earlier(&self, work: &Work) -> Result<Vec<OutboxRow>, crate::journal::Error> {
        if !self.site.contract.ordered {
            return Ok(Vec::new());
        }
        let mut waiting = self.site.outside.journal.outbox_of(&work.row.entity).await?;
        waiting.retain(|row| goes_before(row, &work.row));
        Ok(waiting)
    }

    /// What must leave before something urgent is urgent itself.
    fn hurry(&mut self, rows: Vec<OutboxRow>, latency: Latency, now: Timestamp) {
        for mut row in rows.into_iter().filter(|row| row.latency > latency) {
            let key = (row.entity.clone(), row.effect.id);
            match self.known.get(&key) {
                Some(Place::Ready) => {
                    if let Some(mut work) = self.ready.remove(&key) {
                        work.row.latency = latency;
                        self.ready.push_back(work);
                    }
                }
                Some(Place::Parked) => {
                    let parked = self.parked.get_mut(&row.entity).into_iter().flatten();
                    parked.filter(|work| work.key() == key).for_each(|work| work.row.latency = latency);
                }
                None if row.progress.due <= now => {
                    row.latency = latency;
                    self.admit(Work::new(row));
                }
                Some(Place::Running { .. } | Place::Settling) | None => {}
            }
        }
    }

    fn launch(&mut self, work: Work, step: &Step, now: Timestamp) {
        self.budget.started(now);
        let key = work.key();
        if work.row.latency > Latency::Realtime {
            self.patient.insert(key.clone());
        }
        self.busy.insert(key.clone(), self.site.ownership.enter(key.0.shard()));
        self.known.insert(key.clone(), Place::Running { called_off: work.row.progress.called_off });
        let site = self.site.clone();
        let probes = matches!(step, Step::Probe);
        let task = self.running.spawn(async move {
            if probes { Box::pin(site.probe(work)).await } else { Box::pin(site.send(work)).await }
        });
        self.tasks.insert(task.id(), key);
    }

    /// Why no call may start now.
    fn closed(&self, now: Timestamp) -> Option<Closed> {
        if self.door.is_paused() || self.settling.len() >= QUEUE_MAX {
            return Some(Closed::ForNow);
        }
        if self.held_until > now {
            return Some(Closed::Until(self.held_until));
        }
        self.budget.closed(now, self.running.len())
    }

    /// Effects that would start if the budget let them.
    fn wanting(&self) -> usize {
        if self.door.is_paused() { 0 } else { self.ready.len() }
    }

    /// Asks the store for a part of the shared budget, when that is needed.
    fn ask(&mut self) {
        let now = self.now();
        let Some(ask) = self.budget.ask(now, self.running.len(), self.wanting()) else { return };
        let outside = self.site.outside.clone();
        self.asking.spawn(async move {
            let asked = tokio::time::timeout(STORE_PAUSE, outside.journal.share(&ask)).await;
            let late = |_elapsed| Err(crate::journal::Error::Unavailable("`share` took too long".to_owned()));
            (now, asked.unwrap_or_else(late))
        });
    }

    fn answered(&mut self, answered: Result<(Timestamp, Result<Share, crate::journal::Error>), JoinError>) {
        match answered {
            Ok((asked_at, Ok(share))) => {
                let now = self.now();
                self.budget.given(&share, asked_at, now);
            }
            Ok((_, Err(error))) => {
                tracing::debug!(connector = %self.site.contract.name, %error, "the shared budget is not known now");
                self.budget.unanswered();
            }
            Err(_panicked) => self.budget.unanswered(),
        }
    }

    fn ran(&mut self, ended: Result<(tokio::task::Id, Report), JoinError>) {
        let report = match ended {
            Ok((id, report)) => {
                self.tasks.remove(&id);
                report
            }
            Err(error) => return self.panicked(&error),
        };
        let now = self.now();
        self.learn(&report, now);
        let asked = report.sound.is_some();
        let Report { mut work, ended, .. } = report;
        let key = work.key();
        self.patient.remove(&key);
        let called_off = matches!(self.known.get(&key), Some(Place::Running { called_off: true }));
        match ended {
            Ended::Settled(outcome) => self.settle(work.row, outcome),
            Ended::Next(mut next) => {
                next.row.progress.called_off |= called_off;
                self.admit(next);
            }
            Ended::Later(progress) if called_off => {
                work.row.progress = progress;
                work.row.progress.called_off = true;
                self.known.remove(&key);
                self.doubtful.remove(&key);
                self.admit_called_off(work);
            }
            Ended::Later(progress) => {
                self.known.remove(&key);
                self.doubtful.remove(&key);
                self.due_at(progress.due);
            }
            Ended::Gone => {
                self.known.remove(&key);
                self.doubtful.remove(&key);
                self.unpark(&key.0);
            }
            Ended::NotOurs => {
                self.known.remove(&key);
                self.doubtful.remove(&key);
            }
            Ended::StoreDown(why) => {
                self.known.remove(&key);
                if asked {
                    self.doubtful.insert(key.clone());
                }
                self.store_down(&why);
            }
        }
        self.rest(&key);
    }

    /// Lets the shard of an effect go that is neither running nor settling any more.
    fn rest(&mut self, key: &Key) {
        if !matches!(self.known.get(key), Some(Place::Running { .. } | Place::Settling)) {
            self.busy.remove(key);
        }
    }

    /// An effect called off that is not in hand: it ends now if nothing needs to be asked, and otherwise keeps to its pause, because
    /// an attempt on record may still be under way.
    fn admit_called_off(&mut self, work: Work) {
        let now = self.now();
        if work.row.progress.due <= now || matches!(self.site.plan(&work.row, now), Step::Settle(_)) {
            self.admit(work);
        } else {
            self.due_at(work.row.progress.due);
        }
    }

    fn learn(&mut self, report: &Report, now: Timestamp) {
        self.budget.ended(report.sound, report.throttled.as_ref(), now);
    }

    fn settle(&mut self, row: OutboxRow, outcome: Outcome) {
        let key = (row.entity.clone(), row.effect.id);
        self.known.insert(key.clone(), Place::Settling);
        tracing::info!(
            connector = %self.site.contract.name,
            operation = %row.effect.operation,
            entity = %row.entity,
            effect = %row.effect.id,
            correlation_id = %row.correlation_id,
            class = outcome.class.word(),
            attempts = outcome.attempts,
            "effect ended"
        );
        let outside = self.site.outside.clone();
        let task = self.settling.spawn(async move { Box::pin(tell(&outside, row, outcome)).await });
        self.tasks.insert(task.id(), key);
    }

    fn settled(&mut self, ended: Result<(tokio::task::Id, bool), JoinError>) {
        let id = match ended {
            Ok((id, _)) => id,
            Err(error) => return self.panicked(&error),
        };
        if let Some(key) = self.tasks.remove(&id) {
            self.known.remove(&key);
            self.doubtful.remove(&key);
            self.rest(&key);
            self.unpark(&key.0);
        }
    }

    fn panicked(&mut self, error: &JoinError) {
        tracing::error!(connector = %self.site.contract.name, %error, "an attempt panicked; the store still has its effect");
        if let Some(key) = self.tasks.remove(&error.id()) {
            self.patient.remove(&key);
            self.known.remove(&key);
            self.rest(&key);
            self.doubtful.insert(key);
        }
        self.budget.abandoned();
        self.store_down("an attempt panicked");
    }

    fn unpark(&mut self, entity: &EntityId) {
        for work in self.parked.remove(entity).into_iter().flatten() {
            self.admit(work);
        }
    }

    fn unpark_all(&mut self) {
        for work in std::mem::take(&mut self.parked).into_values().flatten() {
            self.admit(work);
        }
    }

    fn publish(&mut self) {
        let now = self.now();
        let view = View {
            in_flight: self.running.len(),
            queued: self.ready.len() + self.parked.values().map(Vec::len).sum::<usize>(),
            settling: self.settling.len(),
            rate_left: self.budget.rate_left(now),
            slots: self.budget.slots(now),
            breaker: self.budget.breaker(now),
            throttled_until: self.budget.throttled_until(now),
        };
        self.site.outside.observer.lane(&self.site.contract.name, view.in_flight, view.queued);
        *lock(&self.door.view) = view;
    }

    /// How long nothing needs to be done unless something rings.
    fn wake(&self) -> Duration {
        if self.is_draining() {
            return SWEEP;
        }
        let now = self.now();
        let mut at = self.sweep_at;
        if let Some(due) = self.next_due {
            at = at.min(due);
        }
        for latency in Latency::ALL.into_iter().filter(|latency| self.more[*latency as usize]) {
            if self.has_room(latency) {
                at = at.min(self.page_at[latency as usize].max(self.held_until));
            }
        }
        if self.ready.has_turn(self.has_patient_slot(now))
            && let Some(Closed::Until(until)) = self.closed(now)
        {
            at = at.min(until);
        }
        if let Some(ask_at) = self.budget.ask_at(now, self.running.len(), self.wanting()) {
            at = at.min(ask_at);
        }
        at.since(now).max(Duration::from_millis(1))
    }
}

/// Has what an effect brought taken in, if that is wanted, until it is durable. `None` when the entity belongs to another node now, which
/// makes the call again.
async fn gather(outside: &Outside, row: &OutboxRow, mut outcome: Outcome) -> Option<Outcome> {
    if outcome.class != OutcomeClass::Ok || !outside.harvest.is_for(row) {
        return Some(outcome);
    }
    let mut pause = SETTLE_PAUSE;
    loop {
        (outside.epochs)(row.entity.shard())?;
        match outside.harvest.harvest(row, &outcome.result).await {
            Harvested::Told(result) => outcome.result = result,
            Harvested::Unusable(why) => {
                (outcome.class, outcome.result, outcome.detail) =
                    (OutcomeClass::Failed, Value::Null, why.into());
            }
            Harvested::Later(why) => {
                tracing::debug!(entity = %row.entity, effect = %row.effect.id, why, "what it brought is not taken in yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(SETTLE_PAUSE_MAX);
                continue;
            }
        }
        return Some(outcome);
    }
}

/// Tells an entity how its effect ended, until it is on record there. False when the entity belongs to another node now.
async fn tell(outside: &Outside, row: OutboxRow, outcome: Outcome) -> bool {
    let Some(outcome) = gather(outside, &row, outcome).await else { return false };
    let learnt = outside.clock.now();
    let class = outcome.class;
    let mut envelope = Envelope {
        // Distinct for each time the effect was issued, and the same for each time this outcome is told.
        id: format!("{}@{}", row.effect.id, row.since.0).into(),
        source: "delivery".into(),
        subject: row.entity.clone(),
        correlation_id: row.correlation_id.clone(),
        causation_id: Some(row.effect.id.to_string().into()),
        traceparent: row.traceparent.clone(),
        time: Some(learnt),
        at: learnt,
        remember_ms: None,
        body: Body::Outcome(outcome),
        evidence: None,
    };
    let mut pause = SETTLE_PAUSE;
    loop {
        envelope.at = outside.clock.now();
        match outside.mailbox.settle(envelope.clone(), row.latency).await {
            Ok(()) => break,
            Err(MailboxError::NotOwned) => return false,
            Err(MailboxError::Unavailable(why)) => {
                tracing::debug!(entity = %row.entity, effect = %row.effect.id, why, "outcome not taken yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(SETTLE_PAUSE_MAX);
            }
        }
    }
    let age = outside.clock.now().since(row.since);
    outside.observer.settled(&row.effect.connector, &row.effect.operation, class, age);
    true
}

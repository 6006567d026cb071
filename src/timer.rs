//! Timers as a driver: sleeps until the next one is due and tells its entity, late if need be, never early.
//!
//! The store holds the timers. An entity clears or resets one in the same append that journals its firing, so nothing is kept
//! here but the moment of the next look.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use syncline_actors::envelope::{Body, Envelope, TimerFired};
use syncline_actors::id::EntityId;
use syncline_actors::outbox::TimerRow;
use syncline_actors::time::Timestamp;
use tokio::sync::Notify;

use crate::clock::SharedClock;
use crate::journal::SharedJournal;

/// The source of timers' messages.
pub const SOURCE: &str = "timer";

/// Takes a timer's message to its durable answer.
#[async_trait]
pub trait Mailbox: Debug + Send + Sync + 'static {
    /// Returns once the message is durable. An error means: tell it again later.
    async fn deliver(&self, envelope: Envelope) -> Result<(), Box<dyn Display + Send>>;
}

/// How timers are fired.
#[derive(Debug, Clone)]
pub struct Config {
    /// Timers read from the store at a time.
    pub page: usize,
    /// Timers told at once.
    pub concurrency: usize,
    /// Longest sleep: a hint may get lost.
    pub patience: Duration,
    /// How long a timer is left alone that was told and is still in the store, or could not be told.
    pub again_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            page: 256,
            concurrency: 64,
            patience: Duration::from_secs(1),
            again_after: Duration::from_secs(1),
        }
    }
}

/// Wakes the driver before its next look.
#[derive(Debug, Clone, Default)]
pub struct Waker {
    earlier: Arc<Earlier>,
}

#[derive(Debug, Default)]
struct Earlier {
    at: std::sync::Mutex<Option<Timestamp>>,
    notify: Notify,
}

impl Waker {
    /// Tells of timers that were just set. Does not block.
    pub fn hint(&self, rows: &[TimerRow]) {
        let Some(first) = rows.iter().map(|row| row.due).min() else { return };
        let mut at = self.lock();
        if at.is_none_or(|known| first < known) {
            *at = Some(first);
            drop(at);
            self.earlier.notify.notify_one();
        }
    }

    /// Has the driver look at the store now. Does not block.
    pub fn look(&self) {
        *self.lock() = Some(Timestamp(i64::MIN));
        self.earlier.notify.notify_one();
    }

    fn take(&self) -> Option<Timestamp> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Timestamp>> {
        self.earlier.at.lock().expect("no code panics while it holds the time")
    }
}

/// Timers left alone until a time: told and still there, or impossible to tell.
type Resting = BTreeMap<(EntityId, Arc<str>, u64), Timestamp>;

/// The driver of timers.
#[derive(Debug)]
pub struct Timers {
    config: Config,
    journal: SharedJournal,
    mailbox: Arc<dyn Mailbox>,
    clock: SharedClock,
    waker: Waker,
    resting: Resting,
}

impl Timers {
    /// A driver of the timers in `journal`, which tells their entities through `mailbox`.
    pub fn new(
        config: Config,
        journal: SharedJournal,
        mailbox: Arc<dyn Mailbox>,
        clock: SharedClock,
        waker: Waker,
    ) -> Self {
        Self { config, journal, mailbox, clock, waker, resting: Resting::new() }
    }

    /// Fires timers until `shutdown`; what it is at then is told again after the next start.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = self.fire_for_ever() => {}
        }
    }

    async fn fire_for_ever(&mut self) {
        loop {
            let more = self.fire_due().await;
            if !more {
                self.sleep().await;
            }
        }
    }

    /// Tells what is due, one page. Whether there may be more.
    async fn fire_due(&mut self) -> bool {
        let now = self.clock.now();
        self.resting.retain(|_, until| *until > now);
        // What rests stands first in the store's order: read past it.
        let limit = self.config.page + self.resting.len();
        let due = match self.journal.due_timers(now, limit).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "due timers could not be read");
                return false;
            }
        };
        let full = due.len() == limit;
        let due: Vec<_> = due.into_iter().filter(|row| !self.resting.contains_key(&key(row))).collect();
        let any = !due.is_empty();
        let told =
            futures::stream::iter(due).map(|row| self.fire(row)).buffer_unordered(self.config.concurrency);
        // A timer that was told is gone from the store; one that is still there at the next look would be told in a circle.
        let until = now.plus(self.config.again_after);
        let rested: Vec<_> = told.collect().await;
        self.resting.extend(rested.into_iter().map(|key| (key, until)));
        full && any
    }

    async fn fire(&self, row: TimerRow) -> (EntityId, Arc<str>, u64) {
        let envelope = self.envelope(&row);
        if let Err(error) = self.mailbox.deliver(envelope).await {
            tracing::warn!(entity = %row.entity, timer = %row.name, %error, "a timer could not be told; it will be again");
        }
        key(&row)
    }

    fn envelope(&self, row: &TimerRow) -> Envelope {
        Envelope {
            id: format!("{}/{}", row.name, row.token).into(),
            source: SOURCE.into(),
            subject: row.entity.clone(),
            correlation_id: row.correlation_id.clone(),
            causation_id: Some(format!("{}#{}", row.entity, row.token).into()),
            traceparent: None,
            time: Some(row.due),
            at: self.clock.now(),
            remember_ms: None,
            body: Body::Timer(TimerFired { name: row.name.clone(), token: row.token }),
            evidence: None,
        }
    }

    /// Sleeps until the next timer, a hint of an earlier one, or the end of its patience.
    async fn sleep(&self) {
        let now = self.clock.now();
        let wake = now.plus(self.config.patience);
        let next = self.journal.next_timer(now).await.ok().flatten();
        let mut wake = next.map_or(wake, |next| next.min(wake));
        loop {
            if let Some(hinted) = self.waker.take() {
                wake = wake.min(hinted);
            }
            let wait = wake.since(self.clock.now());
            if wait.is_zero() {
                return;
            }
            if tokio::time::timeout(wait, self.waker.earlier.notify.notified()).await.is_err() {
                return;
            }
        }
    }
}

fn key(row: &TimerRow) -> (EntityId, Arc<str>, u64) {
    (row.entity.clone(), row.name.clone(), row.token)
}

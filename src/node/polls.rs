//! Tells polled sources when their turn has come. What a turn does is decided by the entity `poll/<source>`, whose shard one node holds:
//! only that one tells, and a turn has the same message id whoever tells it, so that it counts once.

use std::collections::BTreeMap;
use std::time::Duration;

use syncline_actors::class::Class;
use syncline_actors::entity::State;
use syncline_actors::envelope::{Body, Envelope, Event};
use syncline_actors::id::{EntityId, Epoch};
use syncline_actors::schedule::Schedule;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;
use tokio::sync::watch;

use crate::clock::SharedClock;
use crate::host::{Host, Lane, POLL};
use crate::ingress::source::Source;
use crate::journal::SharedJournal;

/// Who tells: no source may have this name.
const SOURCE: &str = "schedule";

/// Between two looks at the clock.
const LOOK: Duration = Duration::from_millis(250);

/// Between two looks at whether a call takes too long.
const CHECK: Duration = Duration::from_secs(5);

/// How long the id of a turn is remembered: no turn is told later.
const REMEMBER_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A source that is polled.
#[derive(Debug)]
pub(super) struct Polled {
    entity: EntityId,
    schedule: Schedule,
    class: Class,
    settings: Value,
    /// The epoch under which it was told how to poll, and the last turn told.
    told: Option<(Epoch, Timestamp)>,
    check_at: Timestamp,
}

/// Keeps the schedules of polled sources.
#[derive(Debug)]
pub(super) struct Polls {
    host: Host,
    journal: SharedJournal,
    clock: SharedClock,
    polled: Vec<Polled>,
}

impl Polls {
    /// What sources say of being polled.
    pub(super) fn said<'s>(sources: impl IntoIterator<Item = &'s Source>) -> Vec<Polled> {
        sources.into_iter().filter_map(polled).collect()
    }

    pub(super) fn new(
        host: &Host,
        journal: &SharedJournal,
        clock: &SharedClock,
        polled: Vec<Polled>,
    ) -> Self {
        Self { host: host.clone(), journal: journal.clone(), clock: clock.clone(), polled }
    }

    /// Tells turns until `stopping`.
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        if self.polled.is_empty() {
            return;
        }
        loop {
            self.look().await;
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn look(&mut self) {
        let now = self.clock.now();
        let Self { host, journal, polled, .. } = self;
        for polled in polled {
            let Some(epoch) = host.epoch(polled.entity.shard()) else {
                polled.told = None;
                continue;
            };
            if let Err(error) = polled.look(host, journal, epoch, now).await {
                tracing::debug!(entity = %polled.entity, %error, "a turn could not be told; it will be");
            }
        }
    }
}

fn polled(source: &Source) -> Option<Polled> {
    let poll = source.poll.as_ref()?;
    let (connector, operation) = poll.target();
    let settings = Value::map([
        ("connector", Value::from(connector)),
        ("operation", Value::from(operation)),
        ("owner", Value::from(&*source.owner.team)),
        ("pages_max", Value::Int(i64::from(poll.pages))),
        ("start", poll.start.clone()),
    ]);
    Some(Polled {
        entity: EntityId::new(POLL, &source.name).ok()?,
        schedule: poll.schedule.clone(),
        class: source.class,
        settings,
        told: None,
        check_at: Timestamp(0),
    })
}

impl Polled {
    async fn look(
        &mut self,
        host: &Host,
        journal: &SharedJournal,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<(), crate::host::Error> {
        let turn = self.schedule.last(now);
        let before = match self.told {
            Some((known, before)) if known == epoch => before,
            _ => {
                self.configure(host, now).await?;
                Timestamp(i64::MIN)
            }
        };
        if turn > before {
            let data = Value::map([("at", Value::from(turn.to_string()))]);
            self.tell(host, "poll.due", format!("due:{}", turn.0), data, now).await?;
            self.told = Some((epoch, turn));
        }
        if now >= self.check_at {
            self.check_at = now.plus(CHECK);
            self.check(host, journal, now).await?;
        }
        Ok(())
    }

    /// Tells the entity how it is polled, unless it knows.
    async fn configure(&self, host: &Host, now: Timestamp) -> Result<(), crate::host::Error> {
        let state = host.state(&self.entity).await?;
        let known = |field: &str| {
            let (own, kept) = (self.settings.get(field), state.as_ref().and_then(|state| state.field(field)));
            own == kept || field == "start"
        };
        let fields: Vec<&str> =
            self.settings.as_map().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        if state.is_some() && fields.iter().all(|field| known(field)) {
            return Ok(());
        }
        let seq = state.map_or(0, |state| state.seq);
        self.tell(host, "poll.configured", format!("configured:{seq}"), self.settings.clone(), now).await
    }

    /// Says when a call has gone on for longer than the source's class tolerates.
    async fn check(
        &self,
        host: &Host,
        journal: &SharedJournal,
        now: Timestamp,
    ) -> Result<(), crate::host::Error> {
        let Some(state) = host.state(&self.entity).await? else { return Ok(()) };
        if &*state.status != "asking" || now.since(state.since) <= self.class.tolerance() {
            return Ok(());
        }
        let waiting = journal.outbox_of(&self.entity).await.unwrap_or_default();
        let last = waiting.first().map_or_else(String::new, |row| row.progress.last.to_string());
        let last = if last.is_empty() { "it waits for its turn".to_owned() } else { last };
        let data = Value::map([("trouble", Value::from(last))]);
        self.tell(host, "poll.late", format!("late:{}", state.since.0), data, now).await
    }

    async fn tell(
        &self,
        host: &Host,
        name: &str,
        id: String,
        data: Value,
        now: Timestamp,
    ) -> Result<(), crate::host::Error> {
        let envelope = Envelope {
            id: id.into(),
            source: SOURCE.into(),
            subject: self.entity.clone(),
            correlation_id: self.entity.to_string().into(),
            causation_id: None,
            traceparent: None,
            time: None,
            at: now,
            remember_ms: Some(REMEMBER_MS),
            body: Body::Event(Event { name: name.into(), data }),
            evidence: None,
        };
        host.deliver(envelope, Lane::Inside).await.map(drop)
    }
}

/// How a polled source stands, for people and metrics: whether it fails for longer than it may.
pub(super) fn is_late(state: &State) -> bool {
    matches!(&*state.status, "late" | "failed")
}

/// The names of the fields that people look at.
pub(super) fn summary(state: &State) -> BTreeMap<String, String> {
    let shown = [
        "cursor",
        "run",
        "done_at",
        "page",
        "read",
        "accepted",
        "duplicate",
        "quarantined",
        "rejected",
        "trouble",
    ];
    let told = |field: &str| state.field(field).filter(|value| !value.is_null());
    let text = |field: &str| Some((field.to_owned(), told(field)?.to_plain_text()));
    shown.into_iter().filter_map(text).collect()
}

//! How the instances of each process stand: counted by a slow walk over the entities of this node.
//!
//! What is counted comes from the store alone, so a restart or a move of shards makes nothing wrong for longer than one round. A
//! round takes as long as it must for the walk to stay below a small part of one core; each node counts its own entities, and the
//! counts of all nodes are added up when somebody asks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use syncline_actors::id::EntityId;
use syncline_actors::letter::XREF;
use syncline_actors::slo::{self, Board, Slo, Tally};
use syncline_actors::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::SharedClock;
use crate::host::{BALANCE, Host, POLL, QUARANTINE, RECONCILE};
use crate::journal::{Head, SharedJournal};

/// Processes of the program itself, whose entities are no business of anybody's.
const BUILTIN: [&str; 5] = [QUARANTINE, POLL, RECONCILE, BALANCE, XREF];

/// Heads read from the store at a time.
const PAGE: usize = 128;

/// So many times as long as a page has taken, nothing is done: the walk takes a fiftieth of a core.
const REST: u32 = 49;

/// Shortest and longest rest after a page.
const REST_MIN: Duration = Duration::from_millis(5);
const REST_MAX: Duration = Duration::from_secs(10);

/// Between the beginnings of two rounds, at least.
const ROUND: Duration = Duration::from_secs(10);

/// What was counted last, and when that round began.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    pub(super) board: Arc<Board>,
    pub(super) as_of: Option<Timestamp>,
}

/// What is promised, and where it is put down what was counted.
#[derive(Debug, Default)]
pub struct Slate {
    slos: Vec<Slo>,
    counted: Mutex<Counted>,
}

impl Slate {
    /// Nothing is counted yet.
    pub(super) fn new(slos: Vec<Slo>) -> Self {
        Self { slos, counted: Mutex::default() }
    }

    /// The objectives, by name.
    pub(super) fn slos(&self) -> &[Slo] {
        &self.slos
    }

    pub(super) fn read(&self) -> Counted {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, board: Board, as_of: Timestamp) {
        let counted = Counted { board: Arc::new(board), as_of: Some(as_of) };
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = counted;
    }
}

/// Begins to count the entities of `host`, again and again until `stop`.
pub(super) fn begin(
    host: &Host,
    journal: &SharedJournal,
    clock: &SharedClock,
    slate: Arc<Slate>,
    stop: &watch::Receiver<bool>,
) {
    let (host, journal, clock) = (host.clone(), journal.clone(), clock.clone());
    tokio::spawn(Monitor { host, journal, clock, slate }.run(stop.clone()));
}

/// The walk.
#[derive(Debug)]
struct Monitor {
    host: Host,
    journal: SharedJournal,
    clock: SharedClock,
    slate: Arc<Slate>,
}

impl Monitor {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.for_ever() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn for_ever(&self) {
        loop {
            let (began, as_of) = (Instant::now(), self.clock.now());
            match self.round().await {
                Ok(board) => self.slate.write(board, as_of),
                Err(error) => {
                    tracing::debug!(%error, "the instances could not be counted; they will be again");
                }
            }
            tokio::time::sleep(ROUND.saturating_sub(began.elapsed()).max(REST_MIN)).await;
        }
    }

    async fn round(&self) -> Result<Board, crate::journal::Error> {
        let mut board = Board::new();
        let kinds: BTreeSet<Arc<str>> =
            self.host.catalog().iter().map(|process| process.name.clone()).collect();
        for kind in kinds.into_iter().filter(|kind| !BUILTIN.contains(&&**kind)) {
            let tally = self.count(&kind).await?;
            board.insert(kind, tally);
        }
        Ok(board)
    }

    async fn count(&self, kind: &str) -> Result<Tally, crate::journal::Error> {
        let slos: Vec<Slo> =
            self.slate.slos().iter().filter(|slo| slo.process.value == kind).cloned().collect();
        let mut tally = Tally::default();
        let mut after: Option<String> = None;
        loop {
            let began = Instant::now();
            let heads = self.journal.heads(kind, after.as_deref(), PAGE).await?;
            for head in &heads {
                self.see(&slos, head, &mut tally).await;
            }
            let Some(last) = heads.last().filter(|_| heads.len() == PAGE) else { return Ok(tally) };
            after = Some(last.entity.key().to_owned());
            tokio::time::sleep((began.elapsed() * REST).clamp(REST_MIN, REST_MAX)).await;
        }
    }

    async fn see(&self, slos: &[Slo], head: &Head, tally: &mut Tally) {
        let now = self.clock.now();
        let window = slos.iter().map(|slo| slo.window).fold(slo::WINDOW, Duration::max);
        let is_old = head.ended && now.since(head.updated_at) > window;
        if is_old || !self.is_ours(&head.entity) {
            return;
        }
        // One that leaves meanwhile is counted where it goes.
        if let Ok(Some(state)) = self.host.state(&head.entity).await {
            tally.see(slos, head.entity.key(), &state, head.updated_at, now);
        }
    }

    fn is_ours(&self, entity: &EntityId) -> bool {
        self.host.epoch(entity.shard()).is_some()
    }
}

//! How the instances of each process stand: counted by a slow walk over the entities of this node.
//!
//! What is counted comes from the store alone, so a restart or a move of shards makes nothing wrong for longer than one round. A
//! round takes as long as it must for the walk to stay below a small part of one core; each node counts its own entities, and the
//! counts of all nodes are added up when somebody asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use syncline_actors::id::EntityId;
use syncline_actors::slo::{self, Board, Slo, Tally};
use syncline_actors::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::SharedClock;
use crate::host::Host;
use crate::journal::{Head, SharedJournal};

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

/// Where it is put down.
#[derive(Debug, Default)]
pub(super) struct Slate(Mutex<Counted>);

impl Slate {
    pub(super) fn read(&self) -> Counted {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, board: Board, as_of: Timestamp) {
        let counted = Counted { board: Arc::new(board), as_of: Some(as_of) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counted;
    }
}

/// The walk.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) host: Host,
    pub(super) journal: SharedJournal,
    pub(super) clock: SharedClock,
    pub(super) slos: Arc<Vec<Slo>>,
    pub(super) slate: Arc<Slate>,
}

impl Monitor {
    /// Goes round until `stop`.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
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
                Err(error) => tracing::debug!(%error, "the instances could not be counted; they will be again"),
            }
            tokio::time::sleep(ROUND.saturating_sub(began.elapsed()).max(REST_MIN)).await;
        }
    }

    async fn round(&self) -> Result<Board, crate::journal::Error> {
        let mut board = Board::new();
        let kinds: Vec<Arc<str>> = self.host.catalog().iter().map(|process| process.name.clone()).collect();
        for kind in kinds {
            if !board.contains_key(&kind) {
                let tally = self.count(&kind).await?;
                board.insert(kind, tally);
            }
        }
        Ok(board)
    }

    async fn count(&self, kind: &str) -> Result<Tally, crate::journal::Error> {
        let slos: Vec<Slo> = self.slos.iter().filter(|slo| slo.process.value == kind).cloned().collect();
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

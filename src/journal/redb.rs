//! The journal on one machine: an embedded database file with a log beside it, one writing thread, one flush for all that waits.
//!
//! An answer means durable: it survives the end of the process and of the power, if the disk keeps what it was told to flush.
//! What is written goes into the log (`log`), is laid over the tables in memory (`layers`), and gets into them in large parts.
//! Keys and values are plain bytes (`journal::keys`, `rows`), so the database library decides nothing about what is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, Progress, TimerRow};
use syncline_actors::time::Timestamp;
use tokio::sync::mpsc;

use super::{
    Append, Appended, Compacted, Depth, Error, ExceptionFilter, Grant, Head, Holding, Journal, Loaded,
    ORDERS_MAX, Snapshot, check_order, too_many_orders,
};

mod apply;
mod layers;
mod log;
mod open;
mod prepared;
mod read;
mod tables;
mod writer;

use layers::View;
use log::{Log, Mark};
use open::Shared;
use prepared::Prepared;
use tables::Tables;
use writer::{Message, Writer};

/// How long dropping the journal waits for its thread, so that the same process may open the file again.
const DROP_WAIT: Duration = Duration::from_secs(5);

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of pages kept in memory.
    pub cache_bytes: usize,
    /// Writes that may wait for the writing thread; further callers wait for their turn.
    pub queue_max: usize,
    /// The cluster it must belong to; a new store is marked with it. `None`: any.
    pub cluster: Option<String>,
    /// Reads the whole file and compares every checksum before it is used: about a second for a gigabyte.
    pub check_integrity: bool,
    /// Bytes of each of the two regions of the log, a multiple of 512. As many wait at most to get into the tables, in memory too, and
    /// both are read at the start after a crash. A store that was not closed keeps what it has.
    pub log_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            queue_max: 4_096,
            cluster: None,
            check_integrity: false,
            log_bytes: 64 << 20,
        }
    }
}

/// The journal in one file. One process at a time has it open.
pub struct Redb {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Message>>,
    thread: Mutex<Option<JoinHandle<Result<(), Error>>>>,
    /// Ends when the thread does.
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redb").finish_non_exhaustive()
    }
}

/// Why a transaction stopped.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The call is refused; it has written nothing, and others go on.
    #[error("{0}")]
    Refused(Error),
    /// The file could not be read or written.
    #[error("the store failed: {0}")]
    Io(String),
    /// What is stored cannot be right.
    #[error("{0}")]
    Corrupt(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Corrupt(text) => Self::Corrupt(text),
            Error::Unavailable(text) => Self::Io(text),
            refusal @ (Error::Fenced { .. }
            | Error::Conflict { .. }
            | Error::Suspect { .. }
            | Error::Open(_)) => Self::Refused(refusal),
        }
    }
}

macro_rules! failure_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                match ::redb::Error::from(error) {
                    ::redb::Error::Corrupted(text) => Self::Corrupt(text),
                    other => Self::Io(other.to_string()),
                }
            }
        }
    )*};
}

failure_from!(::redb::StorageError, ::redb::TableError, ::redb::TransactionError, ::redb::CommitError);

impl Failure {
    fn of_panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Self::Corrupt(format!("the database library stopped: {text}"))
    }

    fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt(_))
    }

    fn error(self) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Corrupt(text) => Error::Corrupt(text),
            broken @ Self::Io(_) => Error::Unavailable(broken.to_string()),
        }
    }
}

/// Refuses a `held` epoch that is not the `current` one, or that nobody holds any more.
fn held(shard: ShardId, held: Epoch, current: (Epoch, bool)) -> Result<(), Error> {
    if current == (held, true) { Ok(()) } else { Err(Error::Fenced { shard, held, current: current.0 }) }
}

impl Redb {
    /// Opens the store at `path`, or makes one when there is none. Blocks while the file is read.
    ///
    /// # Errors
    /// [`Error::Open`] names the path, the reason (locked, damaged, cut, not a store, no permission) and what to do. Nothing is
    /// deleted or overwritten.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let queue_max = options.queue_max;
        Self::start(Shared::open(Box::new(move || open::file(&path, &options)))?, queue_max)
    }

    /// Opens the store on what `backend` gives, for the tables and for the log, which is asked again after an I/O error. For tests that
    /// lose power or fill disks.
    pub fn open_on<B: ::redb::StorageBackend>(
        backend: impl Fn() -> (B, B) + Send + Sync + 'static,
        options: Options,
    ) -> Result<Self, Error> {
        let queue_max = options.queue_max;
        let opener = move || open::backend(backend(), Path::new("backend"), &options);
        Self::start(Shared::open(Box::new(opener))?, queue_max)
    }

    fn start((shared, log, under_way): (Shared, Log, Option<Mark>), queue_max: usize) -> Result<Self, Error> {
        let shared = Arc::new(shared);
        let (queue, mut jobs) = mpsc::channel(queue_max);
        let (running, ended) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn({
            let shared = shared.clone();
            move || {
                let _running: std::sync::mpsc::SyncSender<()> = running;
                Writer::new(shared, log).run(under_way, &mut jobs)
            }
        });
        let thread = thread.map_err(|error| Error::Open(format!("no thread for the journal: {error}")))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { shared, queue: Some(queue), thread, ended: Mutex::new(ended) })
    }

    fn queue(&self) -> &mpsc::Sender<Message> {
        self.queue.as_ref().expect("it is taken only when dropped")
    }

    async fn write<T: Send + 'static>(
        &self,
        weight: usize,
        work: impl FnOnce(&mut Tables) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let (job, answer) = writer::job(weight, work);
        self.queue().send(Message::Job(job)).await.map_err(|_closed| gone())?;
        answer.await.map_err(|_dropped| gone())?
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&View<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || shared.read(work)).await;
        let outcome = read.map_err(|error| Error::Unavailable(error.to_string()))?;
        if let Err(Failure::Io(_)) = outcome {
            // The writer opens a broken store before it writes, even nothing.
            let _ = self.queue().try_send(Message::Job(writer::job(0, |_| Ok(())).0));
        }
        outcome.map_err(Failure::error)
    }
}

fn gone() -> Error {
    Error::Unavailable("the store is closed".to_owned())
}

impl Drop for Redb {
    fn drop(&mut self) {
        drop(self.queue.take());
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(DROP_WAIT);
    }
}

#[async_trait]
impl Journal for Redb {
    async fn acquire(&self, shards: &[ShardId], node: &NodeId) -> Result<Vec<Grant>, Error> {
        let (shards, node) = (shards.to_vec(), node.clone());
        self.write(32 * shards.len(), move |tables| apply::acquire(tables, &shards, &node)).await
    }

    async fn renew(&self, grants: &[Grant]) -> Vec<Result<(), Error>> {
        let wanted = grants.to_vec();
        self.read(move |read| read::renew(read, &wanted)).await.unwrap_or_else(|error| {
            grants.iter().map(|_| Err(Error::Unavailable(error.to_string()))).collect()
        })
    }

    async fn release(&self, grants: &[Grant]) -> Result<(), Error> {
        let grants = grants.to_vec();
        self.write(32 * grants.len(), move |tables| apply::release(tables, &grants)).await
    }

    async fn holdings(&self) -> Result<Vec<Holding>, Error> {
        self.read(read::holdings).await
    }

    async fn append(&self, append: Append) -> Result<Appended, Error> {
        // Encoded here, by the caller's task, so that the one writing thread only moves bytes.
        let prepared = Prepared::new(append)?;
        self.write(prepared.weight(), move |tables| apply::append(tables, &prepared)).await
    }

    async fn load(&self, entity: &EntityId) -> Result<Loaded, Error> {
        let entity = entity.clone();
        self.read(move |read| read::load(read, &entity)).await
    }

    async fn records(&self, entity: &EntityId, from: u64, limit: usize) -> Result<Vec<Bytes>, Error> {
        let entity = entity.clone();
        self.read(move |read| read::records(read, &entity, from, limit)).await
    }

    async fn save_snapshot(&self, epoch: Epoch, entity: &EntityId, snapshot: Snapshot) -> Result<(), Error> {
        let entity = entity.clone();
        let weight = snapshot.frame.len();
        self.write(weight, move |tables| apply::save_snapshot(tables, epoch, &entity, &snapshot)).await
    }

    async fn trim(&self, epoch: Epoch, entity: &EntityId, keep: u64) -> Result<u64, Error> {
        let entity = entity.clone();
        self.write(512, move |tables| apply::trim(tables, epoch, &entity, keep)).await
    }

    async fn due_effects(
        &self,
        connector: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, Error> {
        let connector = connector.to_owned();
        self.read(move |read| read::due_effects(read, &connector, now, limit)).await
    }

    async fn next_effect(&self, connector: &str, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let connector = connector.to_owned();
        self.read(move |read| read::next_effect(read, &connector, now)).await
    }

    async fn outbox_of(&self, entity: &EntityId) -> Result<Vec<OutboxRow>, Error> {
        let entity = entity.clone();
        self.read(move |read| read::outbox_of(read, &entity)).await
    }

    async fn progress(
        &self,
        epoch: Epoch,
        entity: &EntityId,
        effect: EffectId,
        progress: Progress,
    ) -> Result<bool, Error> {
        let entity = entity.clone();
        self.write(512, move |tables| apply::progress(tables, epoch, &entity, effect, progress)).await
    }

    async fn depths(&self) -> Result<BTreeMap<String, Depth>, Error> {
        self.read(read::depths).await
    }

    async fn due_timers(&self, now: Timestamp, limit: usize) -> Result<Vec<TimerRow>, Error> {
        self.read(move |read| read::due_timers(read, now, limit)).await
    }

    async fn next_timer(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.read(move |read| read::next_timer(read, now)).await
    }

    async fn exceptions(&self, filter: &ExceptionFilter) -> Result<Vec<ExceptionRow>, Error> {
        let (mut filter, mut rows, mut after) = (filter.clone(), Vec::new(), None);
        loop {
            let part = filter.clone();
            let (found, next) =
                self.read(move |read| read::exceptions(read, &part, after.as_deref())).await?;
            filter.limit -= found.len();
            rows.extend(found);
            after = next;
            if after.is_none() {
                return Ok(rows);
            }
        }
    }

    async fn find(&self, term: &str, limit: usize) -> Result<Vec<EntityId>, Error> {
        let term = term.to_owned();
        self.read(move |read| read::find(read, &term, limit)).await
    }

    async fn heads(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Head>, Error> {
        let (kind, after) = (kind.to_owned(), after.map(str::to_owned));
        self.read(move |read| read::heads(read, &kind, after.as_deref(), limit)).await
    }

    async fn census(&self) -> Result<BTreeMap<(String, String), u64>, Error> {
        self.read(read::census).await
    }

    async fn tallies(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.read(read::tallies).await
    }

    async fn definitions(&self) -> Result<BTreeMap<(String, u32), String>, Error> {
        self.read(read::definitions).await
    }

    async fn orders(&self) -> Result<BTreeMap<String, String>, Error> {
        self.read(read::orders).await
    }

    async fn order(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        check_order(key, value)?;
        if value.is_some() {
            let kept = self.orders().await?;
            if kept.len() >= ORDERS_MAX && !kept.contains_key(key) {
                return Err(too_many_orders());
            }
        }
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        let weight = value.as_ref().map_or(0, String::len);
        self.write(weight, move |tables| {
            apply::order(tables, &key, value.as_deref());
            Ok(())
        })
        .await
    }

    async fn keep_definition(&self, kind: &str, version: u32, text: &str) -> Result<(), Error> {
        let (kind, text) = (kind.to_owned(), text.to_owned());
        self.write(text.len(), move |tables| apply::keep_definition(tables, &kind, version, &text)).await
    }

    async fn compact(&self, now: Timestamp, ended_before: Timestamp) -> Result<Compacted, Error> {
        let mut cursor = apply::Cursor::start();
        while !cursor.done() {
            cursor =
                self.write(1 << 20, move |tables| apply::compact(tables, now, ended_before, cursor)).await?;
        }
        Ok(cursor.compacted)
    }

    async fn close(&self) -> Result<(), Error> {
        let _ = self.queue().send(Message::Close).await;
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        joined.ok().and_then(Result::ok).unwrap_or_else(|| Err(gone()))
    }
}

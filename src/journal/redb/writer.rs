//! The one thread that writes. What waits in its queue becomes one group of the log, so that many appends share one flush.
//!
//! Each call is checked against what the calls before it in the same group wrote, and answered after the flush. A refused call has
//! written nothing and fails no other. When the group cannot be written, every call of it is told that the store is unavailable, and
//! the store is opened anew before the next group: that settles what became of it. When a region of the log is full, what it
//! holds goes into the tables beside the next groups, on a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::Failure;
use super::layers::Layer;
use super::log::{Log, Mark};
use super::open::Shared;
use super::tables::Tables;
use crate::journal::Error;

/// Calls in one group, at most.
const GROUP_MAX: usize = 512;

/// Bytes in one group, about, at most.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// What the thread is told.
pub(super) enum Message {
    /// Write something.
    Job(Box<dyn Job>),
    /// Finish what waits, and end.
    Close,
}

/// A call that writes.
pub(super) trait Job: Send {
    /// Bytes it writes, about.
    fn weight(&self) -> usize;
    /// Does it, and keeps the answer. Fails only when the whole group must.
    fn run(&mut self, tables: &mut Tables) -> Result<(), Failure>;
    /// Answers: what `run` has kept, or `failure`.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

struct Call<T, F> {
    weight: usize,
    work: Option<F>,
    outcome: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

/// A job, and where its answer comes.
pub(super) fn job<T, F>(weight: usize, work: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&mut Tables) -> Result<T, Failure> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Call { weight, work: Some(work), outcome: None, reply }), answer)
}

impl<T: Send, F: FnOnce(&mut Tables) -> Result<T, Failure> + Send> Job for Call<T, F> {
    fn weight(&self) -> usize {
        self.weight
    }

    fn run(&mut self, tables: &mut Tables) -> Result<(), Failure> {
        let work = self.work.take().expect("a job runs once");
        self.outcome = Some(match work(tables) {
            Ok(value) => Ok(value),
            Err(Failure::Refused(error)) => Err(error),
            Err(broken) => return Err(broken),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let outcome = match failure {
            Some(error) => Err(error),
            None => self.outcome.expect("it ran"),
        };
        // A caller that has gone away has no use for the answer.
        let _ = self.reply.send(outcome);
    }
}

/// What the thread holds.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// None after an error, until the store opens again.
    log: Option<Log>,
    /// Brings a full region of the log into the tables.
    settling: Option<JoinHandle<Result<(), Failure>>>,
}

fn take(group: &mut Vec<Box<dyn Job>>, message: Message, queue: &mut mpsc::Receiver<Message>) -> usize {
    match message {
        Message::Job(job) => {
            let weight = job.weight();
            group.push(job);
            weight
        }
        Message::Close => {
            queue.close();
            0
        }
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, log: Log) -> Self {
        Self { shared, log: Some(log), settling: None }
    }

    /// Writes until the queue ends, and brings into the tables what was `under_way`. Returns what closing the store said.
    pub(super) fn run(
        mut self,
        under_way: Option<Mark>,
        queue: &mut mpsc::Receiver<Message>,
    ) -> Result<(), Error> {
        if let Some(Err(failure)) = under_way.map(|mark| self.settle(mark)) {
            tracing::error!(%failure, "the log stays as it is until something is written");
            self.log = None;
        }
        let mut group = Vec::with_capacity(GROUP_MAX);
        while let Some(message) = queue.blocking_recv() {
            let mut bytes = take(&mut group, message, queue);
            while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
                let Ok(message) = queue.try_recv() else { break };
                bytes += take(&mut group, message, queue);
            }
            self.write(&mut group);
        }
        let settled = self.settled();
        if let Err(failure) = settled {
            tracing::error!(%failure, "the log could not be brought into the tables; the next start does it");
            return self.shared.shut(None);
        }
        self.shared.shut(self.log.take())
    }

    fn write(&mut self, group: &mut Vec<Box<dyn Job>>) {
        let mut culprit = group.len();
        let written = catch_unwind(AssertUnwindSafe(|| self.commit(group, &mut culprit)))
            .unwrap_or_else(|panic| Err(Failure::of_panic(panic.as_ref())));
        let Err(failure) = written else {
            group.drain(..).for_each(|job| job.answer(None));
            return;
        };
        tracing::error!(%failure, jobs = group.len(), "the store did not write");
        // Opened before the answers go out, so that whoever replays at once reads what is there.
        self.reopen();
        for (place, job) in group.drain(..).enumerate() {
            let corrupt = place == culprit && failure.is_corrupt();
            let text = failure.to_string();
            job.answer(Some(if corrupt { Error::Corrupt(text) } else { Error::Unavailable(text) }));
        }
    }

    fn reopen(&mut self) {
        // It holds the database, which must be closed first.
        let _ = self.settled();
        self.log = self.shared.reopen();
    }

    /// Runs `group` and writes what it wrote; `at` is the job that runs, or ran last.
    fn commit(&mut self, group: &mut [Box<dyn Job>], at: &mut usize) -> Result<(), Failure> {
        if self.log.is_none() || !self.shared.is_open() {
            self.reopen();
        }
        let written = self.shared.read(|view| {
            let mut tables = Tables::new(view);
            for (place, job) in group.iter_mut().enumerate() {
                *at = place;
                job.run(&mut tables)?;
            }
            *at = usize::MAX;
            tables.finish()
        })?;
        if written.is_empty() { Ok(()) } else { self.keep(written) }
    }

    /// Makes `group` durable and then visible.
    fn keep(&mut self, group: Layer) -> Result<(), Failure> {
        let log = self.log.as_mut().expect("it was opened before the group ran");
        if !log.prepare(&group) {
            return self.keep_large(&group);
        }
        if !log.has_room() {
            self.turn()?;
        }
        self.log.as_mut().expect("a turn keeps it").write()?;
        self.shared.publish(group)
    }

    /// A group that no region can hold goes straight into the tables, after everything before it.
    fn keep_large(&mut self, group: &Layer) -> Result<(), Failure> {
        self.turn()?;
        self.settled()?;
        let log = self.log.as_mut().expect("a turn keeps it");
        log.pass();
        let mark = Mark { generation: log.mark().generation - 1, ..log.mark() };
        self.shared.settle_group(group, mark)
    }

    /// Goes on in the other region of the log, once that is free, and begins to free this one.
    fn turn(&mut self) -> Result<(), Failure> {
        self.settled()?;
        let log = self.log.as_mut().expect("it was opened before the group ran");
        let mark = log.mark();
        log.turn();
        self.shared.freeze()?;
        self.settle(mark)
    }

    /// Begins to bring into the tables what was set aside.
    fn settle(&mut self, mark: Mark) -> Result<(), Failure> {
        let shared = self.shared.clone();
        let work = move || {
            catch_unwind(AssertUnwindSafe(|| shared.settle_frozen(mark)))
                .unwrap_or_else(|panic| Err(Failure::of_panic(panic.as_ref())))
        };
        let thread = std::thread::Builder::new().name("journal-tables".to_owned()).spawn(work);
        self.settling =
            Some(thread.map_err(|error| Failure::Io(format!("no thread for the tables: {error}")))?);
        Ok(())
    }

    /// Waits until what was set aside is in the tables.
    fn settled(&mut self) -> Result<(), Failure> {
        let Some(thread) = self.settling.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|panic| Err(Failure::of_panic(panic.as_ref())))
    }
}

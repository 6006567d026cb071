//! The one thread that writes. What waits in its queue goes into one transaction, so that many appends share one fsync.
//!
//! Each call is checked within the transaction, against what the calls before it in the same group wrote, and answered after the
//! commit. A refused call has written nothing and fails no other. When the commit fails, every call of the group is told that
//! the store is unavailable, and the store is opened anew before the next group: that settles what became of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Failure;
use super::open::Shared;
use super::tables::{Tables, durable};
use crate::journal::Error;

/// Calls in one transaction, at most.
const GROUP_MAX: usize = 512;

/// Bytes in one transaction, about, at most.
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

/// Writes until the queue ends. Returns what closing the store said.
pub(super) fn run(shared: &Arc<Shared>, queue: &mut mpsc::Receiver<Message>) -> Result<(), Error> {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while let Some(message) = queue.blocking_recv() {
        let mut bytes = take(&mut group, message, queue);
        while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(message) = queue.try_recv() else { break };
            bytes += take(&mut group, message, queue);
        }
        write(shared, &mut group);
    }
    shared.shut()
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

fn write(shared: &Shared, group: &mut Vec<Box<dyn Job>>) {
    let mut culprit = group.len();
    let written = shared.open_if_broken().and_then(|()| {
        catch_unwind(AssertUnwindSafe(|| commit(shared, group, &mut culprit)))
            .unwrap_or_else(|panic| Err(Failure::of_panic(panic.as_ref())))
    });
    let Err(failure) = written else {
        group.drain(..).for_each(|job| job.answer(None));
        return;
    };
    tracing::error!(%failure, jobs = group.len(), "the store did not write");
    // Opened before the answers go out, so that whoever replays at once reads what is there.
    shared.reopen();
    for (place, job) in group.drain(..).enumerate() {
        let corrupt = place == culprit && failure.is_corrupt();
        let text = failure.to_string();
        job.answer(Some(if corrupt { Error::Corrupt(text) } else { Error::Unavailable(text) }));
    }
}

/// Runs `group` in one transaction; `at` is the job that runs, or ran last.
fn commit(shared: &Shared, group: &mut [Box<dyn Job>], at: &mut usize) -> Result<(), Failure> {
    shared.with(|database| {
        let mut transaction = database.begin_write()?;
        durable(&mut transaction);
        let mut tables = Tables::new(&transaction);
        for (place, job) in group.iter_mut().enumerate() {
            *at = place;
            job.run(&mut tables)?;
        }
        *at = usize::MAX;
        if tables.finish()? {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(())
    })
}

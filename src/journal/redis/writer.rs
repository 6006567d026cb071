//! Writing to one server: some connections, each sending what waits for it as one group.
//!
//! A group shares one flush of the server's file, and one `WAIT` where replicas must have it too. Calls of a shard go through one
//! connection, in order. When a connection breaks, what became of the group is unknown: the same calls are sent again, and the
//! functions see from what is stored whether they were carried out.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisError, Value};
use syncline_actors::id::ShardId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Tier;
use super::functions::Call;
use super::line::{Line, Open, Place, Trouble};
use crate::journal::Error;

/// Calls in one group, at most: a group runs as long as all its calls, and the server does nothing else meanwhile.
const GROUP_MAX: usize = 64;

/// Calls that wait for one connection, at most; further callers wait for their turn.
const QUEUE_MAX: usize = 1_024;

/// Pause before a server is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// What is said of a shard in doubt.
pub(super) const IN_DOUBT: &str = "redis has changed: what was acknowledged is being looked for";

/// A call on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) call: Arc<Call>,
    /// When its caller is told that the store is unavailable.
    pub(super) until: Instant,
    pub(super) again: bool,
    /// The shard, unless the call looks into a shard that is in doubt.
    pub(super) of: Option<ShardId>,
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The function answered, and the tier's promise holds for it.
    Answered(Value),
    /// It was not carried out here: the slot is elsewhere, or the server is not ready.
    Elsewhere(String),
    /// It failed.
    Failed(Error),
}

/// The writing connections of a server.
#[derive(Debug)]
pub(super) struct Writers {
    queues: Vec<mpsc::Sender<Job>>,
}

impl Writers {
    pub(super) fn start(place: &Arc<Place>, count: usize) -> Self {
        let start = |_| {
            let (queue, jobs) = mpsc::channel(QUEUE_MAX);
            let writer = Writer { line: Line::new(place.clone()), place: place.clone() };
            tokio::spawn(writer.run(jobs));
            queue
        };
        Self { queues: (0..count.max(1)).map(start).collect() }
    }

    /// Gives a job to the connection that `lane` always goes through.
    pub(super) async fn send(&self, lane: usize, job: Job) {
        // When the writer has ended, the job's caller sees it by its dropped reply.
        let _ = self.queues[lane % self.queues.len()].send(job).await;
    }
}

struct Writer {
    line: Line,
    place: Arc<Place>,
}

impl Writer {
    async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while jobs.recv_many(&mut group, GROUP_MAX).await > 0 {
            while !group.is_empty() {
                self.round(&mut group).await;
            }
        }
    }

    /// Sends the group once. What is left in it has to be sent again.
    async fn round(&self, group: &mut Vec<Job>) {
        let open = match self.line.open().await {
            Ok(open) => open,
            // Most likely it is the primary no more.
            Err(error) => {
                let text = super::text_of(&error);
                return group.drain(..).for_each(|job| answer(job, Outcome::Elsewhere(text.clone())));
            }
        };
        let number = open.number;
        let changes = self.place.shared.changes_so_far();
        match self.send(open, group).await {
            Ok((answers, replicas)) => {
                let changed = self.place.shared.changes_so_far() != changes;
                self.settle(group, answers, replicas, changed);
            }
            Err(error) => {
                self.line.broken(number).await;
                for job in group.iter_mut() {
                    job.again = true;
                }
                self.wait_or_give_up(group, &super::text_of(&self.place.unavailable(&error))).await;
            }
        }
    }

    async fn send(
        &self,
        mut open: Open,
        group: &[Job],
    ) -> Result<(Vec<Result<Value, RedisError>>, Option<u64>), RedisError> {
        let mut pipe = redis::Pipeline::with_capacity(group.len() + 1);
        for job in group {
            pipe.add_command(job.call.command(&self.place.shared.options.library, job.again));
        }
        let wait = wait_for_replicas(self.place.shared.options.tier);
        if let Some(wait) = &wait {
            pipe.add_command(wait.clone());
        }
        let mut answers: Vec<Result<Value, RedisError>> =
            pipe.ignore_errors().query_async(&mut open.connection).await?;
        let replicas = wait.map(|_| replicas_that_have_it(answers.pop().and_then(Result::ok)));
        Ok((answers, replicas))
    }

    fn settle(
        &self,
        group: &mut Vec<Job>,
        answers: Vec<Result<Value, RedisError>>,
        replicas: Option<u64>,
        changed: bool,
    ) {
        let short = match (self.place.shared.options.tier, replicas) {
            (Tier::Replicated { replicas: wanted, flushed, .. }, Some(found))
                if found < u64::from(wanted) =>
            {
                let have = if flushed { "have flushed it (`appendonly yes`?)" } else { "have it" };
                Some(format!("redis at {}: {found} of {wanted} replicas {have}", self.place.address))
            }
            _ => None,
        };
        for (job, answered) in group.drain(..).zip(answers) {
            // An answer of a server that may have lost something means nothing before it was looked at; and one that was on its way
            // while another server took its place comes too late to be looked for.
            let doubted = job.of.is_some_and(|shard| changed || self.place.shared.is_doubted(shard));
            let outcome = match (answered, &short) {
                _ if doubted => Outcome::Failed(Error::Unavailable(IN_DOUBT.to_owned())),
                (Ok(_), Some(short)) => Outcome::Failed(Error::Unavailable(short.clone())),
                (Ok(value), None) => Outcome::Answered(value),
                (Err(error), _) => match Trouble::of(&error) {
                    Trouble::Refused(text) => Outcome::Failed(Error::Unavailable(format!(
                        "redis at {}: {text}",
                        self.place.address
                    ))),
                    Trouble::Elsewhere | Trouble::Broken => Outcome::Elsewhere(error.to_string()),
                },
            };
            answer(job, outcome);
        }
    }

    async fn wait_or_give_up(&self, group: &mut Vec<Job>, why: &str) {
        let now = Instant::now();
        for job in group.extract_if(.., |job| job.until <= now) {
            answer(job, Outcome::Failed(Error::Unavailable(why.to_owned())));
        }
        if !group.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What ends a group where replicas must have it: it is answered when they do, or when the time is over.
fn wait_for_replicas(tier: Tier) -> Option<Cmd> {
    let Tier::Replicated { replicas, wait, flushed } = tier else { return None };
    let mut command = redis::cmd(if flushed { "WAITAOF" } else { "WAIT" });
    if flushed {
        command.arg(1); // the server's own file, too
    }
    command.arg(replicas).arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    Some(command)
}

/// How many replicas have it; none when the server's own file has not, or it did not answer as it should.
fn replicas_that_have_it(answer: Option<Value>) -> u64 {
    match answer {
        Some(Value::Int(replicas)) => replicas.unsigned_abs(),
        Some(Value::Array(parts)) => match parts[..] {
            [Value::Int(1), Value::Int(replicas)] => replicas.unsigned_abs(),
            _ => 0,
        },
        _ => 0,
    }
}

fn answer(job: Job, outcome: Outcome) {
    // A caller that has gone away has no use for it.
    let _ = job.reply.send(outcome);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_waits_for_the_replicas_that_the_tier_asks_for() {
        let tier = |flushed| Tier::Replicated { replicas: 2, wait: Duration::from_millis(700), flushed };
        let words = |tier| {
            let packed = wait_for_replicas(tier)?.get_packed_command();
            Some(String::from_utf8_lossy(&packed).replace("\r\n", " "))
        };
        assert_eq!(words(tier(false)).as_deref(), Some("*3 $4 WAIT $1 2 $3 700 "));
        assert_eq!(words(tier(true)).as_deref(), Some("*4 $7 WAITAOF $1 1 $1 2 $3 700 "));
        assert_eq!((words(Tier::Single), words(Tier::Relaxed)), (None, None));
    }

    #[test]
    fn what_replicas_say_counts_only_with_the_server_s_own_flush() {
        let pair = |own, replicas| Some(Value::Array(vec![Value::Int(own), Value::Int(replicas)]));
        assert_eq!(replicas_that_have_it(Some(Value::Int(2))), 2);
        assert_eq!(replicas_that_have_it(pair(1, 2)), 2);
        assert_eq!(replicas_that_have_it(pair(0, 2)), 0);
        assert_eq!(replicas_that_have_it(Some(Value::Okay)), 0);
        assert_eq!(replicas_that_have_it(None), 0);
    }
}

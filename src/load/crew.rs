//! The connections: each takes the next message, sends it, and notes what became of it.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::clock::{Clock as _, SystemClock};

use super::connection::Connection;
use super::pacer::{Due, Window};
use super::tally::{End, Failure, Tally};
use super::traffic::{Message, Traffic};
use super::webhook::{Target, Webhook};
use super::{Error, Pace, Plan};

/// After a refused connection, how long to wait before the next: a dead server is not asked in a tight loop.
const RECONNECT_AFTER: Duration = Duration::from_millis(10);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Crew {
    address: SocketAddr,
    timeout: Duration,
    is_open: bool,
    webhook: Webhook,
    traffic: Traffic,
    acked: Option<Acked>,
    /// Closed loop: the next message's place.
    next: AtomicU64,
    /// Open loop: messages that are due. The connections take turns.
    queue: tokio::sync::Mutex<mpsc::UnboundedReceiver<Due>>,
}

/// The file of acknowledged ids.
#[derive(Debug)]
struct Acked {
    path: PathBuf,
    file: File,
    failed: Mutex<Option<io::Error>>,
}

impl Crew {
    /// Checks the plan's parts and that something listens at the target.
    pub(super) async fn new(plan: &Plan, queue: mpsc::UnboundedReceiver<Due>) -> Result<Self, Error> {
        let target = Target::parse(&plan.url)?;
        let unreachable = |error| Error::Unreachable(target.authority.clone(), error);
        let probe = timeout(plan.timeout, TcpStream::connect(&target.authority)).await;
        let probe = probe.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unreachable)?;
        let address = probe.peer_addr().map_err(unreachable)?;
        let traffic = Traffic::new(plan.seed, plan.entities, plan.distribution, plan.duplicates);
        let traffic = traffic.map_err(Error::Plan)?;
        let webhook = Webhook::new(target, &plan.secret, plan.run_id.clone())?;
        let acked = plan.acked.clone().map(|path| match File::create(&path) {
            Ok(file) => Ok(Acked { path, file, failed: Mutex::new(None) }),
            Err(error) => Err(Error::Acked(path, error)),
        });
        let (next, queue) = (AtomicU64::new(0), tokio::sync::Mutex::new(queue));
        let is_open = plan.pace != Pace::Closed;
        Ok(Self {
            address,
            timeout: plan.timeout,
            is_open,
            webhook,
            traffic,
            acked: acked.transpose()?,
            next,
            queue,
        })
    }

    /// One connection, from connecting to the end of the run. `connecting` is dropped when that was tried; the run begins when
    /// `begun` has a window, and ends when its sender is gone.
    pub(super) async fn work(
        self: Arc<Self>,
        tally: Arc<Mutex<Tally>>,
        mut begun: watch::Receiver<Option<Window>>,
        connecting: mpsc::Sender<()>,
    ) {
        let mut connection = Connection::new(self.address, self.timeout);
        let _ = connection.connect().await; // if it fails now, it is tried again with the first message
        drop(connecting);
        let Some(window) = begun.wait_for(Option::is_some).await.ok().and_then(|window| *window) else {
            return;
        };
        while begun.has_changed().is_ok() {
            let next = if self.is_open { self.due().await } else { self.at_once(window) };
            let Some(due) = next else { break };
            let now = Instant::now();
            if now >= window.give_up {
                lock(&tally).note(due, false, End::Unsent, due.at, None, now);
            } else if self.send(due, &mut connection, &tally).await == End::Failed(Failure::Connect) {
                sleep(RECONNECT_AFTER).await;
            }
        }
        lock(&tally).reconnects += connection.made.saturating_sub(1);
    }

    /// Open loop: waits for the next message that is due; none when all were taken. The connections take turns.
    async fn due(&self) -> Option<Due> {
        self.queue.lock().await.recv().await
    }

    /// Closed loop: the next message is due now; none when the run is over.
    fn at_once(&self, window: Window) -> Option<Due> {
        let at = Instant::now();
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        (at < window.until).then_some(Due { place, at, counts: at >= window.counts_from })
    }

    async fn send(&self, due: Due, connection: &mut Connection, tally: &Mutex<Tally>) -> End {
        let message = self.traffic.at(due.place);
        let request = self.webhook.request(&message, SystemClock.now().0);
        let sent = Instant::now();
        let end = connection.send(request.expect("the id is set and the secret always valid")).await;
        let ended = Instant::now();
        if let (Some(acked), End::Answered(200..300)) = (&self.acked, end) {
            acked.note(&self.webhook.id(message.number), &message);
        }
        let intended = if self.is_open { due.at } else { sent };
        lock(tally).note(due, message.number != due.place, end, intended, Some(sent), ended);
        end
    }

    /// Whether every acknowledged id could be written.
    pub(super) fn check_acked(&self) -> Result<(), Error> {
        let Some(acked) = &self.acked else { return Ok(()) };
        lock(&acked.failed).take().map_or(Ok(()), |error| Err(Error::Acked(acked.path.clone(), error)))
    }
}

impl Acked {
    /// One call to the system for one whole line: who reads the file while it grows sees no half of one.
    fn note(&self, id: &str, message: &Message) {
        let line = format!("{id}\t{}\n", message.key);
        if let Err(error) = (&self.file).write_all(line.as_bytes()) {
            lock(&self.failed).get_or_insert(error);
        }
    }
}

impl Tally {
    /// As [`Tally::record`], but what does not count is only counted.
    fn note(
        &mut self,
        due: Due,
        again: bool,
        end: End,
        intended: Instant,
        sent: Option<Instant>,
        ended: Instant,
    ) {
        if due.counts {
            self.duplicates += u64::from(again);
            self.record(end, intended, sent, ended);
        } else {
            self.warm_up += 1;
        }
    }
}

/// What a panicking thread left is still right: every change is whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! One connection to another node: many calls on it at once, each told by its id.
//!
//! A call passes one point of no return: when the writer takes it. Before, it can be withdrawn and nothing has happened;
//! afterwards only an answer tells. Whatever ends a call early asks its [`Ticket`] on which side of that point it was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::frame::{Frame, Kind};
use super::hello::Agreed;
use super::network::BoxedStream;
use super::stats::{Counters, Held};
use super::wire::{Ended, Parcel, Reader, write};
use super::{Error, Limits, Stage};

/// Where a call is: waiting to be written, taken by the writer, or withdrawn.
#[derive(Debug, Default)]
struct Ticket(AtomicU8);

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Ticket {
    fn take(&self) -> bool {
        self.0.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether nothing has been sent, nor will be.
    fn withdraw(&self) -> bool {
        match self.0.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(stage) => stage == WITHDRAWN,
        }
    }
}

/// What waits to be written.
enum Outgo {
    Request { id: u64, payload: Bytes, deadline: Instant, ticket: Arc<Ticket> },
    Ping,
}

impl Parcel for Outgo {
    type Receipt = ();

    fn pack(self, buffer: &mut BytesMut) {
        match self {
            Self::Ping => Frame::bare(Kind::Ping, 0).encode(buffer),
            Self::Request { id, payload, deadline, ticket } => {
                let left = deadline.saturating_duration_since(Instant::now());
                if !left.is_zero() && ticket.take() {
                    Frame { kind: Kind::Request, id, millis: millis(left), payload }.encode(buffer);
                }
            }
        }
    }
}

/// Rounded up, so that a deadline that has not passed is never sent as one that has.
fn millis(left: Duration) -> u32 {
    u32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Calls that wait for their answer. Once the connection has ended there are none, and why is known.
#[derive(Default)]
struct Calls {
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Frame>>>,
    ended: OnceLock<String>,
}

impl Calls {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Frame>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call, unless the connection has ended.
    fn enter(&self, id: u64) -> Option<oneshot::Receiver<Frame>> {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.waiting();
        if self.ended.get().is_some() {
            return None;
        }
        waiting.insert(id, tell);
        Some(told)
    }

    /// Every waiting call is told at once, by its sender being dropped.
    fn end(&self, why: String) {
        let mut waiting = self.waiting();
        let _first_reason_stays = self.ended.set(why);
        waiting.clear();
    }

    fn why(&self) -> String {
        self.ended.get().cloned().unwrap_or_else(|| "the connection ended".to_owned())
    }
}

/// A connection that calls can be made on. When the last clone of its `Arc` is dropped, it closes.
pub(super) struct Outgoing {
    pub(super) agreed: Agreed,
    opened: Instant,
    queue: mpsc::Sender<Outgo>,
    next_id: AtomicU64,
    calls: Arc<Calls>,
}

impl Outgoing {
    /// Begins to use a connection on which the hellos have been exchanged. `held` counts it until it has ended.
    pub(super) fn begin(
        stream: BoxedStream,
        agreed: Agreed,
        limits: &Limits,
        counters: Arc<Counters>,
        stage: watch::Receiver<Stage>,
        held: Held,
    ) -> Arc<Self> {
        let (queue, waiting) = mpsc::channel(limits.in_flight_max + 1);
        let calls = Arc::new(Calls::default());
        let task = Task {
            keep_alive: limits.keep_alive,
            calls: calls.clone(),
            pings: queue.downgrade(),
            counters,
            stage,
        };
        let payload_max = agreed.payload_max;
        tokio::spawn(async move {
            let ended = task.run(stream, waiting, payload_max).await;
            tracing::debug!(%ended, "connection to a peer ended");
            task.calls.end(ended.to_string());
            drop(held);
        });
        Arc::new(Self { agreed, opened: Instant::now(), queue, next_id: AtomicU64::new(1), calls })
    }

    /// Whether calls can be made on it, and it is younger than `age_max`.
    pub(super) fn is_good(&self, age_max: Duration) -> bool {
        self.calls.ended.get().is_none() && self.opened.elapsed() < age_max
    }

    /// Asks, and waits for the answer until `deadline`.
    pub(super) async fn call(&self, payload: Bytes, deadline: Instant) -> Result<Bytes, Error> {
        let (bytes, max) = (payload.len(), self.agreed.payload_max);
        if bytes > max as usize {
            return Err(Error::TooLarge { bytes, max });
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let Some(told) = self.calls.enter(id) else { return Err(self.not_sent(self.calls.why())) };
        let ticket = Arc::new(Ticket::default());
        let _forgotten_when_dropped = Entry { calls: &self.calls, id, ticket: &ticket };
        let request = Outgo::Request { id, payload, deadline, ticket: ticket.clone() };
        let answer = timeout_at(deadline, async {
            if self.queue.send(request).await.is_err() {
                return None;
            }
            told.await.ok()
        });
        match answer.await {
            Ok(Some(frame)) => self.read(frame),
            Ok(None) => Err(self.without_answer(&ticket, self.calls.why())),
            Err(_elapsed) => Err(self.without_answer(&ticket, "the deadline has passed".to_owned())),
        }
    }

    fn read(&self, frame: Frame) -> Result<Bytes, Error> {
        let node = self.agreed.node.clone();
        match frame.kind {
            Kind::Answer => Ok(frame.payload),
            Kind::Busy => {
                Err(Error::Busy { node, retry_after: Duration::from_millis(u64::from(frame.millis)) })
            }
            Kind::Draining => Err(self.not_sent("it is draining".to_owned())),
            Kind::Late => Err(self.not_sent("the deadline had passed when it was to begin".to_owned())),
            _ => Err(Error::Unknown {
                node,
                why: "its handler came to no answer; its log says why".to_owned(),
            }),
        }
    }

    fn without_answer(&self, ticket: &Ticket, why: String) -> Error {
        if ticket.withdraw() {
            self.not_sent(why)
        } else {
            Error::Unknown { node: self.agreed.node.clone(), why }
        }
    }

    fn not_sent(&self, why: String) -> Error {
        Error::NotSent { node: self.agreed.node.clone(), why }
    }
}

/// A call's place among those that wait, for as long as its caller waits.
struct Entry<'c> {
    calls: &'c Calls,
    id: u64,
    ticket: &'c Ticket,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.ticket.withdraw();
        self.calls.waiting().remove(&self.id);
    }
}

/// What keeps a connection going.
struct Task {
    keep_alive: Duration,
    calls: Arc<Calls>,
    pings: mpsc::WeakSender<Outgo>,
    counters: Arc<Counters>,
    stage: watch::Receiver<Stage>,
}

impl Task {
    async fn run(&self, stream: BoxedStream, waiting: mpsc::Receiver<Outgo>, payload_max: u32) -> Ended {
        let (read_half, write_half) = tokio::io::split(stream);
        let reader = Reader::new(read_half, payload_max, self.counters.clone());
        let mut stage = self.stage.clone();
        // Biased, so that one seed gives one order.
        tokio::select! {
            biased;
            ended = self.read(reader) => ended,
            wrote = write(waiting, write_half, 2 * self.keep_alive, &self.counters) => wrote.err().unwrap_or(Ended::Unused),
            _ = stage.wait_for(|stage| *stage == Stage::Over) => Ended::Stopping,
        }
    }

    /// Hands out answers. After `keep_alive` of silence it asks whether the other is there, after twice that it is not.
    async fn read(&self, mut reader: Reader<impl tokio::io::AsyncRead + Unpin>) -> Ended {
        let mut pinged_at = None;
        loop {
            let heard = reader.heard();
            let patience = if pinged_at == Some(heard) { 2 } else { 1 } * self.keep_alive;
            match timeout_at(heard + patience, reader.frame()).await {
                Ok(Ok(frame)) => match frame.kind {
                    Kind::Pong => {}
                    Kind::Request | Kind::Ping => return Ended::OutOfTurn,
                    _ => self.answered(frame),
                },
                Ok(Err(ended)) => return ended,
                Err(_elapsed) if reader.heard() != heard => {} // a large frame is on its way
                Err(_elapsed) if pinged_at == Some(heard) => return Ended::Silent(patience),
                Err(_elapsed) => {
                    pinged_at = Some(heard);
                    // A full queue needs no ping: requests are on their way, and their answers are life.
                    let _full_or_closed = self.pings.upgrade().map(|queue| queue.try_send(Outgo::Ping));
                }
            }
        }
    }

    fn answered(&self, frame: Frame) {
        if let Some(tell) = self.calls.waiting().remove(&frame.id) {
            let _caller_has_left = tell.send(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_taken_or_withdrawn_never_both() {
        let ticket = Ticket::default();
        assert!(ticket.take() && !ticket.withdraw() && !ticket.take());
        let ticket = Ticket::default();
        assert!(ticket.withdraw() && ticket.withdraw() && !ticket.take());
    }

    #[test]
    fn a_deadline_that_has_not_passed_is_never_sent_as_one_that_has() {
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_millis(5)), 5);
        assert_eq!(millis(Duration::MAX), u32::MAX);
    }
}

//! One message on its way through the host, with what its sender waits for.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use syncline_actors::envelope::Envelope;
use syncline_actors::id::EntityId;
use tokio::sync::oneshot;

use super::permits::Permit;
use super::{Error, Lane, Reply};

/// A message in flight. The shard keeps it until it is answered, so that a panic loses nothing.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) entity: EntityId,
    pub(super) lane: Lane,
    /// The node that took it in.
    pub(super) via: Arc<str>,
    /// What is let go of once it is answered, however long somebody keeps the delivery itself.
    open: Mutex<Option<Open>>,
    /// Whether an actor is at work on it: whom a panic is counted against.
    at_work: AtomicBool,
    strikes: AtomicU8,
    condemned: AtomicBool,
}

#[derive(Debug)]
struct Open {
    envelope: Arc<Envelope>,
    reply: oneshot::Sender<Result<Reply, Error>>,
    /// Freed with the answer.
    _permit: Permit,
}

/// What the sender waits for.
pub(super) type Awaited = oneshot::Receiver<Result<Reply, Error>>;

impl Delivery {
    pub(super) fn new(envelope: Envelope, lane: Lane, permit: Permit, via: Arc<str>) -> (Arc<Self>, Awaited) {
        let (reply, awaited) = oneshot::channel();
        let entity = envelope.subject.clone();
        let open = Open { envelope: Arc::new(envelope), reply, _permit: permit };
        let delivery = Self {
            entity,
            lane,
            via,
            open: Mutex::new(Some(open)),
            at_work: AtomicBool::new(false),
            strikes: AtomicU8::new(0),
            condemned: AtomicBool::new(false),
        };
        (Arc::new(delivery), awaited)
    }

    /// The message, until it is answered.
    pub(super) fn envelope(&self) -> Option<Arc<Envelope>> {
        self.lock().as_ref().map(|open| open.envelope.clone())
    }

    /// Marks that an actor is at work on it, and gives the message; `None` when it is answered already.
    pub(super) fn begin(&self) -> Option<Arc<Envelope>> {
        let envelope = self.envelope()?;
        self.at_work.store(true, Ordering::Release);
        Some(envelope)
    }

    /// Ends the work: the first answer counts, and frees the permit.
    pub(super) fn answer(&self, answer: Result<Reply, Error>) {
        self.at_work.store(false, Ordering::Release);
        let open = self.lock().take();
        if let Some(open) = open {
            // Whoever asked may have gone; what was done stays done.
            let _ = open.reply.send(answer);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    /// After a panic of its actor: one more strike if it was being worked on. How many it has.
    pub(super) fn strike(&self) -> u8 {
        if self.at_work.swap(false, Ordering::AcqRel) {
            self.strikes.fetch_add(1, Ordering::AcqRel) + 1
        } else {
            self.strikes.load(Ordering::Acquire)
        }
    }

    /// From now on it is journaled without being decided upon.
    pub(super) fn condemn(&self) {
        self.condemned.store(true, Ordering::Release);
    }

    pub(super) fn is_condemned(&self) -> bool {
        self.condemned.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().expect("no code panics while it holds a delivery")
    }
}

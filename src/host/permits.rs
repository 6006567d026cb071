//! What bounds the mailboxes: ractor's have no end, so nothing is sent to an actor without a permit.
//!
//! Messages from outside take one without waiting, or are told to come back. Messages of our own (outcomes, timers, operators)
//! wait for one of another pool, so that a flood from outside never keeps an order from going on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Error, Lane};

/// Both pools of a node.
#[derive(Debug)]
pub(super) struct Permits {
    bytes: Arc<Semaphore>,
    bytes_max: u32,
    inside: Arc<Semaphore>,
    retry_after: Duration,
    in_flight: Arc<AtomicUsize>,
}

/// Held as long as a message is in flight.
#[derive(Debug)]
pub(super) struct Permit {
    _held: Option<OwnedSemaphorePermit>,
    in_flight: Arc<AtomicUsize>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Permits {
    pub(super) fn new(bytes_max: u32, inside_max: usize, retry_after: Duration) -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(bytes_max as usize)),
            bytes_max,
            inside: Arc::new(Semaphore::new(inside_max)),
            retry_after,
            in_flight: Arc::default(),
        }
    }

    /// A permit for a message of `weight` bytes: at once or not at all from outside, after waiting from inside.
    pub(super) async fn take(&self, lane: Lane, weight: usize) -> Result<Permit, Error> {
        match lane {
            Lane::Outside => {
                // A message larger than the budget travels alone.
                let weight = u32::try_from(weight).unwrap_or(u32::MAX).min(self.bytes_max);
                let busy =
                    |_| Error::Busy { what: "the node's memory for messages", retry_after: self.retry_after };
                let held = self.bytes.clone().try_acquire_many_owned(weight).map_err(busy)?;
                Ok(self.permit(Some(held)))
            }
            Lane::Inside => {
                let held = self.inside.clone().acquire_owned().await;
                held.map(|held| self.permit(Some(held))).map_err(|_closed| Error::Stopping)
            }
        }
    }

    /// A permit of neither pool, for a message that stands for one which has a permit already.
    pub(super) fn free(&self) -> Permit {
        self.permit(None)
    }

    fn permit(&self, held: Option<OwnedSemaphorePermit>) -> Permit {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Permit { _held: held, in_flight: self.in_flight.clone() }
    }

    /// Nobody waits any more.
    pub(super) fn close(&self) {
        self.inside.close();
    }

    /// Messages in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Bytes of messages from outside in flight, about.
    pub(super) fn bytes(&self) -> usize {
        (self.bytes_max as usize).saturating_sub(self.bytes.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn from_outside_nobody_waits_and_from_inside_nobody_is_refused() {
        let permits = Permits::new(1000, 1, Duration::from_secs(2));
        let held = permits.take(Lane::Outside, 900).await.expect("there is room");
        let refused = permits.take(Lane::Outside, 200).await.expect_err("there is none left");
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(2)));
        let inside = permits.take(Lane::Inside, 5000).await.expect("another pool");
        assert_eq!((permits.in_flight(), permits.bytes()), (2, 900));
        let waiting = permits.take(Lane::Inside, 1);
        assert!(tokio::time::timeout(Duration::from_mins(1), waiting).await.is_err(), "it waits");
        drop((held, inside));
        permits.take(Lane::Inside, 1).await.expect("one came free");
        permits.take(Lane::Outside, 1 << 40).await.expect("a message larger than the budget travels alone");
    }
}

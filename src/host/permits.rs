//! What bounds the mailboxes: ractor's have no end, so nothing is sent to an actor without a permit.
//!
//! Messages from outside take one without waiting, or are told to come back. Messages of our own (outcomes, timers, operators)
//! wait for one of another pool, so that a flood from outside never keeps an order from going on. What can wait (batches, polls) has
//! smaller pools of its own on either side, so that it never takes the room of what cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use syncline_actors::class::Latency;

use super::{Error, Lane};

/// What can wait has this part of the room that everything else has.
const PATIENT_PART: u32 = 8;

/// Both pools of a node, and those of what can wait.
#[derive(Debug)]
pub(super) struct Permits {
    bytes: Pool,
    patient_bytes: Pool,
    inside: Arc<Semaphore>,
    patient: Arc<Semaphore>,
    retry_after: Duration,
    in_flight: Arc<AtomicUsize>,
}

/// Bytes of messages from outside.
#[derive(Debug)]
struct Pool {
    free: Arc<Semaphore>,
    max: u32,
}

impl Pool {
    fn new(max: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(max as usize)), max }
    }

    fn taken(&self) -> usize {
        (self.max as usize).saturating_sub(self.free.available_permits())
    }

    /// Room for `weight` bytes, if not more than `most` are taken then. What is larger than that travels alone.
    fn take(&self, weight: usize, most: usize) -> Option<OwnedSemaphorePermit> {
        let weight = u32::try_from(weight).unwrap_or(u32::MAX).min(self.max);
        let taken = self.taken();
        if taken > 0 && taken + weight as usize > most {
            return None;
        }
        self.free.clone().try_acquire_many_owned(weight).ok()
    }
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
            bytes: Pool::new(bytes_max),
            patient_bytes: Pool::new((bytes_max / PATIENT_PART).max(1)),
            inside: Arc::new(Semaphore::new(inside_max)),
            patient: Arc::new(Semaphore::new((inside_max / PATIENT_PART as usize).max(1))),
            retry_after,
            in_flight: Arc::default(),
        }
    }

    /// A permit for a message of `weight` bytes: at once or not at all from outside, after waiting from inside.
    pub(super) async fn take(&self, lane: Lane, weight: usize) -> Result<Permit, Error> {
        let class = lane.class();
        let patient = class.latency > Latency::Realtime;
        if lane.is_outside() {
            let pool = if patient { &self.patient_bytes } else { &self.bytes };
            let held = pool.take(weight, class.criticality.share_of(pool.max as usize));
            let busy = Error::Busy { what: "the node's memory for messages", retry_after: self.retry_after };
            return held.map(|held| self.permit(Some(held))).ok_or(busy);
        }
        let pool = if patient { &self.patient } else { &self.inside };
        let held = pool.clone().acquire_owned().await;
        held.map(|held| self.permit(Some(held))).map_err(|_closed| Error::Stopping)
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
        self.patient.close();
    }

    /// Messages in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Bytes of messages from outside in flight, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.taken() + self.patient_bytes.taken()
    }
}

#[cfg(test)]
mod tests {
    use syncline_actors::class::{Class, Criticality};

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

    fn classed(latency: Latency, criticality: Criticality) -> Lane {
        Lane::Classed(Class { latency, criticality, tolerates: None })
    }

    #[tokio::test(start_paused = true)]
    async fn what_matters_less_is_turned_away_first() {
        let permits = Permits::new(800, 1, Duration::from_secs(2));
        let low = classed(Latency::Realtime, Criticality::Low);
        let high = classed(Latency::Realtime, Criticality::High);
        let _first = permits.take(high, 400).await.expect("there is room");
        permits.take(low, 10).await.expect_err("half of the room is taken");
        let _second = permits.take(Lane::Outside, 300).await.expect("there is room for what is usual");
        permits.take(Lane::Outside, 10).await.expect_err("the last eighth is for what matters most");
        permits.take(high, 100).await.expect("it is");
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_takes_no_room_of_what_cannot() {
        let permits = Permits::new(800, 8, Duration::from_secs(2));
        let batch = classed(Latency::Batch, Criticality::High);
        let mut held = Vec::new();
        while let Ok(permit) = permits.take(batch, 10).await {
            held.push(permit);
        }
        assert_eq!(held.len(), 10, "an eighth of the room");
        let _urgent = permits
            .take(classed(Latency::Realtime, Criticality::High), 800)
            .await
            .expect("all of it is free");
        let _outcome = permits.take(Lane::Patient(Latency::Batch), 1).await.expect("one of eight");
        let second = permits.take(Lane::Patient(Latency::Batch), 1);
        assert!(tokio::time::timeout(Duration::from_mins(1), second).await.is_err(), "it waits for its like");
        permits.take(Lane::Inside, 1).await.expect("nothing keeps an order from going on");
    }
}

//! What has been counted since the start.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Error;

/// Connections and requests in flight now, and all that happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections to others, now.
    pub connections_out: u64,
    /// Connections from others, now, without those that are still being checked.
    pub connections_in: u64,
    /// Own calls without an answer, now.
    pub in_flight_out: u64,
    /// Requests of others in hand, now.
    pub in_flight_in: u64,
    /// Own calls by how they ended.
    pub calls: Calls,
    /// Requests that were handed to the handler.
    pub handled: u64,
    /// Requests answered with nothing done: as much was in hand as may be, the node was draining, or the deadline had passed.
    pub turned_away: u64,
    /// Connections from others that were refused in the handshake.
    pub refused: u64,
    /// Bytes written, with frames and without TLS.
    pub bytes_sent: u64,
    /// Bytes read, likewise.
    pub bytes_received: u64,
    /// Frames written.
    pub frames_sent: u64,
    /// Writes that these took: frames that wait leave together.
    pub writes: u64,
}

/// Calls by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// With an answer.
    pub answered: u64,
    /// [`Error::NotSent`].
    pub not_sent: u64,
    /// [`Error::Unknown`].
    pub unknown: u64,
    /// [`Error::Busy`].
    pub busy: u64,
    /// [`Error::TooLarge`].
    pub too_large: u64,
    /// [`Error::Refused`].
    pub refused: u64,
}

/// One number that several tasks count.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one until the guard is dropped.
    pub(super) fn while_held(self: &std::sync::Arc<Self>) -> Held {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(self.clone())
    }
}

/// Counted as long as it is held.
#[derive(Debug)]
pub(super) struct Held(std::sync::Arc<Counter>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all parts of a transport count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections_out: std::sync::Arc<Counter>,
    pub(super) connections_in: std::sync::Arc<Counter>,
    pub(super) in_flight_out: std::sync::Arc<Counter>,
    answered: Counter,
    not_sent: Counter,
    unknown: Counter,
    busy: Counter,
    too_large: Counter,
    refused_calls: Counter,
    pub(super) handled: Counter,
    pub(super) turned_away: Counter,
    pub(super) refused: Counter,
    pub(super) bytes_sent: Counter,
    pub(super) bytes_received: Counter,
    pub(super) frames_sent: Counter,
    pub(super) writes: Counter,
}

impl Counters {
    pub(super) fn call<T>(&self, ended: &Result<T, Error>) {
        let counter = match ended {
            Ok(_) => &self.answered,
            Err(Error::NotSent { .. }) => &self.not_sent,
            Err(Error::Unknown { .. }) => &self.unknown,
            Err(Error::Busy { .. }) => &self.busy,
            Err(Error::TooLarge { .. }) => &self.too_large,
            Err(Error::Refused { .. }) => &self.refused_calls,
        };
        counter.add(1);
    }

    /// All numbers; each is right for itself, not all of the same moment.
    pub(super) fn read(&self, in_flight_in: usize) -> Stats {
        Stats {
            connections_out: self.connections_out.get(),
            connections_in: self.connections_in.get(),
            in_flight_out: self.in_flight_out.get(),
            in_flight_in: in_flight_in as u64,
            calls: Calls {
                answered: self.answered.get(),
                not_sent: self.not_sent.get(),
                unknown: self.unknown.get(),
                busy: self.busy.get(),
                too_large: self.too_large.get(),
                refused: self.refused_calls.get(),
            },
            handled: self.handled.get(),
            turned_away: self.turned_away.get(),
            refused: self.refused.get(),
            bytes_sent: self.bytes_sent.get(),
            bytes_received: self.bytes_received.get(),
            frames_sent: self.frames_sent.get(),
            writes: self.writes.get(),
        }
    }
}

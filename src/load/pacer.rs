//! Keeps the schedule: puts each message on the queue when it is due. A thread of its own, because the runtime's timer has
//! steps of a millisecond, and because nothing the connections do may hold it up.

use std::fs;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::tally::Latencies;

/// A message that is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// Its place in the run.
    pub place: u64,
    /// When it should be sent.
    pub at: Instant,
    /// Whether it is measured; the warm-up is not.
    pub counts: bool,
}

/// The times of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// The first message is due.
    pub start: Instant,
    /// From here on messages are measured.
    pub counts_from: Instant,
    /// No message is due from here on.
    pub until: Instant,
    /// What is not sent by now never will be.
    pub give_up: Instant,
}

/// Puts messages on the queue at `times`, offsets from the window's start in order. Returns how late it was. Ends early when
/// the run was dropped.
pub(super) fn pace(
    times: impl Iterator<Item = Duration>,
    window: Window,
    queue: &mpsc::UnboundedSender<Due>,
    go: &watch::Receiver<Option<Window>>,
) -> Latencies {
    sleep_precisely();
    let mut late = Latencies::default();
    for (place, time) in (0..).zip(times) {
        let at = window.start + time;
        let now = wait_until(at);
        let counts = at >= window.counts_from;
        if counts {
            late.record(now - at);
        }
        if go.has_changed().is_err() || queue.send(Due { place, at, counts }).is_err() {
            break;
        }
    }
    late
}

/// Returns at `at` or after, with the time it is then; at once when it has passed: what is late is sent without a pause, and
/// its latency still runs from `at`.
fn wait_until(at: Instant) -> Instant {
    loop {
        let now = Instant::now();
        match at.checked_duration_since(now) {
            Some(left) if !left.is_zero() => thread::sleep(left),
            _ => return now,
        }
    }
}

/// Asks Linux to wake this thread without the usual 50 microseconds of slack. Without it the pacer is that much later.
fn sleep_precisely() {
    if let Ok(thread) = fs::read_link("/proc/thread-self")
        && let Some(id) = thread.file_name()
    {
        let _ = fs::write(format!("/proc/{}/timerslack_ns", id.to_string_lossy()), "1");
    }
}

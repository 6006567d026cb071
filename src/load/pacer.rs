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

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: Instant) -> Window {
        Window { start, counts_from: start + Duration::from_millis(5), until: start, give_up: start }
    }

    #[test]
    fn every_message_is_due_at_its_time_even_if_nobody_takes_any() {
        let (queue, mut taken) = mpsc::unbounded_channel();
        let (_go, begun) = watch::channel(None);
        let start = Instant::now();
        let times = || (0..20).map(Duration::from_millis);
        let late = pace(times(), window(start), &queue, &begun);
        drop(queue);
        let mut due = std::iter::from_fn(|| taken.blocking_recv());
        for (place, time) in (0..).zip(times()) {
            let due = due.next().expect("all are due");
            assert_eq!((due.place, due.at, due.counts), (place, start + time, place >= 5));
            assert!(Instant::now() >= due.at);
        }
        assert!(due.next().is_none());
        assert!(late.percentiles().is_some());
    }

    #[test]
    fn what_is_behind_the_schedule_keeps_its_intended_time() {
        let (queue, mut taken) = mpsc::unbounded_channel();
        let (_go, begun) = watch::channel(None);
        let start = Instant::now().checked_sub(Duration::from_secs(1)).expect("the machine runs for longer");
        let late = pace([Duration::from_millis(9)].into_iter(), window(start), &queue, &begun);
        assert_eq!(taken.blocking_recv().map(|due| due.at), Some(start + Duration::from_millis(9)));
        assert!(late.percentiles().is_some_and(|late| late.p50_us > 900e3));
    }

    #[test]
    fn it_ends_when_the_run_was_dropped() {
        let (queue, mut taken) = mpsc::unbounded_channel();
        let (go, begun) = watch::channel(None);
        drop(go);
        pace((0..).map(Duration::from_millis), window(Instant::now()), &queue, &begun);
        assert!(taken.try_recv().is_err());
    }
}

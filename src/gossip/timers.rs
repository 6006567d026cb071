//! What foca wants to be woken for, in the order it is due: one queue for all, as foca must not see its timers out of order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use foca::Timer;
use tokio::time::Instant;

use super::peer::Peer;

/// Timers by due time; at one time, in foca's own order, then as they were set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Entry>,
    set: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    due: Instant,
    timer: Timer<Peer>,
    number: u64,
}

impl Timers {
    pub(super) fn set(&mut self, due: Instant, timer: Timer<Peer>) {
        self.set += 1;
        self.heap.push(Entry { due, timer, number: self.set });
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.due)
    }

    /// The next one that is due at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer<Peer>> {
        if self.due()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.timer)
    }
}

impl Ord for Entry {
    /// The other way round: a heap gives its largest.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = (other.due, &other.timer, other.number);
        key.0.cmp(&self.due).then_with(|| key.1.cmp(&self.timer)).then_with(|| key.2.cmp(&self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timers_come_when_due_in_foca_s_order() {
        let (start, mut timers) = (Instant::now(), Timers::default());
        let at = |ms| start + Duration::from_millis(ms);
        timers.set(at(20), Timer::PeriodicGossip(1));
        timers.set(at(10), Timer::PeriodicGossip(2));
        timers.set(at(10), Timer::ProbeRandomMember(3));
        timers.set(at(10), Timer::PeriodicGossip(4));
        assert_eq!(timers.due(), Some(at(10)));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(10)), Some(Timer::ProbeRandomMember(3)));
        assert_eq!(timers.pop(at(10)), Some(Timer::PeriodicGossip(2)));
        assert_eq!(timers.pop(at(10)), Some(Timer::PeriodicGossip(4)));
        assert_eq!(timers.pop(at(10)), None);
        assert_eq!(timers.pop(at(20)), Some(Timer::PeriodicGossip(1)));
        assert_eq!(timers.due(), None);
    }
}

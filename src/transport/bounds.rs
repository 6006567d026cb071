//! How much may be in flight, as a number of requests and as bytes of their payloads.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is in flight with one peer in one direction. Never waits: who finds it full is told so.
#[derive(Debug)]
pub(super) struct Bounds {
    count: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    count_max: usize,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _count: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Bounds {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        let semaphore = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self { count: semaphore(count_max), bytes: semaphore(bytes_max), count_max }
    }

    /// A place for a payload of `bytes`, if there is one now.
    pub(super) fn take(&self, bytes: usize) -> Option<Permit> {
        let bytes = u32::try_from(bytes).ok()?;
        let count = self.count.clone().try_acquire_owned().ok()?;
        let bytes = self.bytes.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Permit { _count: count, _bytes: bytes })
    }

    /// Requests in flight.
    pub(super) fn used(&self) -> usize {
        self.count_max.saturating_sub(self.count.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_end_by_number_or_by_bytes_and_come_back() {
        let bounds = Bounds::new(2, 100);
        let first = bounds.take(60).expect("empty");
        assert!(bounds.take(41).is_none(), "101 bytes");
        let second = bounds.take(40).expect("100 bytes");
        drop(first);
        let third = bounds.take(0).expect("two in flight");
        assert!(bounds.take(0).is_none(), "three in flight");
        drop((second, third));
        assert_eq!((bounds.used(), bounds.take(100).is_some()), (0, true));
    }
}

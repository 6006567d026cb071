//! The one reader of the clock, and the one source of chance. Everything else is told.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use syncline_actors::time::Timestamp;
use tokio::time::Instant;

/// Tells the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Now, UTC.
    fn now(&self) -> Timestamp;

    /// How long the machine has been suspended since it was started. That time passes for all others, and no `Instant` counts it.
    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// A clock to pass around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("the machine's clock is set after 1970");
        Timestamp(
            i64::try_from(since.as_millis()).expect("the machine's clock is set before the year 292,278,994"),
        )
    }

    #[cfg(target_os = "linux")]
    fn suspended(&self) -> Duration {
        use rustix::time::{ClockId, clock_gettime};
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        // In this order: a pause between the two makes it less, never more.
        let with_suspension = read(ClockId::Boottime);
        with_suspension.saturating_sub(read(ClockId::Monotonic))
    }
}

/// A moment from which time is counted that passes also while the machine is suspended, and that no clock can set back.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    at: Instant,
    suspended: Duration,
}

impl Moment {
    /// Now.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { at: Instant::now(), suspended: clock.suspended() }
    }

    /// The time since then.
    pub fn elapsed(&self, clock: &dyn Clock) -> Duration {
        self.at.elapsed() + clock.suspended().saturating_sub(self.suspended)
    }
}

/// Chance from outside, for what only has to differ between processes: the pauses between attempts.
#[expect(clippy::disallowed_methods, reason = "this is the one source of chance")]
pub fn seed() -> u64 {
    rand::random()
}

/// A clock that follows tokio's, so that tests and the simulation may pause it and let it leap.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    base: Timestamp,
    start: tokio::time::Instant,
}

impl TokioClock {
    /// Begins at `base` now.
    pub fn starting_at(base: Timestamp) -> Self {
        Self { base, start: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.base.plus(self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A machine that sleeps when it is told to.
    #[derive(Debug, Default)]
    struct Sleeper(Mutex<Duration>);

    impl Clock for Sleeper {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn suspended(&self) -> Duration {
            *self.0.lock().expect("no code panics while it holds it")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_passes_also_while_the_machine_sleeps() {
        let clock = Sleeper::default();
        *clock.0.lock().expect("it is free") = Duration::from_secs(100);
        let moment = Moment::now(&clock);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(moment.elapsed(&clock), Duration::from_secs(1), "what it slept before does not count");
        *clock.0.lock().expect("it is free") += Duration::from_secs(7);
        assert_eq!(moment.elapsed(&clock), Duration::from_secs(8));
    }

    #[test]
    fn a_machine_that_is_awake_sleeps_no_further() {
        let before = SystemClock.suspended();
        assert!(SystemClock.suspended().abs_diff(before) < Duration::from_secs(1), "{before:?}");
    }
}

//! The one reader of the clock, and the one source of chance. Everything else is told.

use std::fmt::Debug;
use std::sync::Arc;

use syncline_actors::time::Timestamp;

/// Tells the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Now, UTC.
    fn now(&self) -> Timestamp;
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

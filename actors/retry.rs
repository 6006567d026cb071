//! When an effect is tried again, and when it has been tried enough.

use std::time::Duration;

use rand::{Rng, RngExt as _};

use crate::time::Timestamp;

/// How often and how long an effect is tried: exponential pauses with full jitter, bounded in time and in number.
///
/// Full jitter (Brooker, 2015): each pause is drawn evenly from nothing to `base * 2^attempts`, at most `cap`, so that those who
/// failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The longest pause after the first attempt.
    pub base: Duration,
    /// The longest pause after any attempt.
    pub cap: Duration,
    /// How long after the effect was first due it is given up.
    pub within: Duration,
    /// After how many attempts it is given up.
    pub attempts_max: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(200),
            cap: Duration::from_mins(1),
            within: Duration::from_hours(24),
            attempts_max: 1_000,
        }
    }
}

/// What follows an attempt that did not end its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, not before this time.
    At(Timestamp),
    /// None: it ran out of attempts.
    TooMany,
    /// None: its time ran out, or would before the system may be asked again.
    TooLate,
}

impl Retry {
    /// The longest pause after so many attempts.
    pub fn ceiling(&self, attempts: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// A pause after so many attempts, drawn evenly from nothing to the ceiling.
    pub fn pause(&self, attempts: u32, rng: &mut impl Rng) -> Duration {
        let most = u64::try_from(self.ceiling(attempts).as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rng.random_range(0..=most))
    }

    /// What follows attempt number `attempts`, which ended at `now`, for an effect first due at `began`. `not_before` is what the
    /// system asked for.
    ///
    /// The last pause is cut so that one attempt is made when the time is over; but never before `not_before`.
    pub fn next(
        &self,
        attempts: u32,
        began: Timestamp,
        now: Timestamp,
        not_before: Option<Timestamp>,
        rng: &mut impl Rng,
    ) -> Next {
        let pause = self.pause(attempts, rng);
        if attempts >= self.attempts_max {
            return Next::TooMany;
        }
        let end = began.plus(self.within);
        if now >= end || not_before.is_some_and(|at| at > end) {
            return Next::TooLate;
        }
        Next::At(now.plus(pause).min(end).max(not_before.unwrap_or(now)))
    }
}

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds, or an HTTP date. `None` when it is neither.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(now.plus(Duration::from_secs(seconds)));
    }
    // Some vendors send fractions of a second.
    if let Some((seconds, fraction)) = text.split_once('.')
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && let Ok(seconds) = seconds.parse::<u64>()
    {
        return Some(now.plus(Duration::from_secs(seconds.saturating_add(1))));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Timestamp(date.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const RETRY: Retry = Retry {
        base: Duration::from_millis(200),
        cap: Duration::from_mins(1),
        within: Duration::from_hours(1),
        attempts_max: 5,
    };

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let millis: Vec<_> = [1, 2, 3, 9, 10, 64, u32::MAX].map(|n| RETRY.ceiling(n).as_millis()).into();
        assert_eq!(millis, [200, 400, 800, 51_200, 60_000, 60_000, 60_000]);
    }

    #[test]
    fn pauses_fill_the_whole_span_and_repeat_under_one_seed() {
        let draw = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..1_000).map(|_| RETRY.pause(4, &mut rng).as_millis()).collect::<Vec<_>>()
        };
        let pauses = draw(7);
        assert!(pauses.iter().all(|ms| *ms <= 1_600));
        assert!(pauses.iter().any(|ms| *ms < 100) && pauses.iter().any(|ms| *ms > 1_500), "full jitter");
        assert_eq!(pauses, draw(7));
        assert_ne!(pauses, draw(8));
    }

    #[test]
    fn it_ends_after_the_last_attempt_or_when_the_time_is_over() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut next = |attempts, now| RETRY.next(attempts, Timestamp(0), Timestamp(now), None, &mut rng);
        assert!(matches!(next(4, 1_000), Next::At(_)));
        assert_eq!(next(5, 1_000), Next::TooMany);
        assert_eq!(next(1, 3_600_000), Next::TooLate);
        assert!(matches!(next(4, 3_599_999), Next::At(at) if at <= Timestamp(3_600_000)));
    }

    #[test]
    fn what_the_system_asked_for_is_kept() {
        let mut rng = StdRng::seed_from_u64(1);
        let asked = Some(Timestamp(90_000));
        let next = RETRY.next(1, Timestamp(0), Timestamp(10), asked, &mut rng);
        assert_eq!(next, Next::At(Timestamp(90_000)));
        let beyond = Some(Timestamp(3_600_001));
        assert_eq!(RETRY.next(1, Timestamp(0), Timestamp(10), beyond, &mut rng), Next::TooLate);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse("2026-11-23T10:00:00Z").expect("a time");
        assert_eq!(retry_after(" 120 ", now), Some(now.plus(Duration::from_mins(2))));
        assert_eq!(retry_after("1.5", now), Some(now.plus(Duration::from_secs(2))));
        assert_eq!(retry_after("Mon, 23 Nov 2026 10:02:00 GMT", now), Some(now.plus(Duration::from_mins(2))));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-5", now), None);
    }
}

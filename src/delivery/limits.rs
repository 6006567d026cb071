//! When a connector may start another call: rate, throttling and breaker as pure rules over the time they are told.

use std::time::Duration;

use syncline_actors::time::Timestamp;

/// How fast a connector may be called: so many calls in `per`, and at most `burst` at once after a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls.
    pub calls: u32,
    /// In this time.
    pub per: Duration,
    /// Calls at once after a rest.
    pub burst: u32,
}

/// A token bucket (Turner, 1986). Counts in whole numbers and keeps remainders, so that no rate drifts.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: Rate,
    /// Tokens times `per` in milliseconds.
    level: u64,
    at: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Timestamp) -> Self {
        let mut bucket = Self { rate, level: 0, at: now };
        bucket.level = bucket.full();
        bucket
    }

    fn token(&self) -> u64 {
        u64::try_from(self.rate.per.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn full(&self) -> u64 {
        self.token().saturating_mul(u64::from(self.rate.burst.max(1)))
    }

    fn fill(&mut self, now: Timestamp) {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(u64::from(self.rate.calls));
        // What a wait in whole milliseconds gained above a full bucket is kept, up to less than a token.
        let remainder = u64::from(self.rate.calls.saturating_sub(1)).min(self.token() - 1);
        self.level = self.level.saturating_add(gained).min(self.full().saturating_add(remainder));
        self.at = self.at.max(now);
    }

    /// Takes a token, or says when there will be one.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.fill(now);
        let token = self.token();
        if self.level >= token {
            self.level -= token;
            return Ok(());
        }
        let missing = (token - self.level).div_ceil(u64::from(self.rate.calls.max(1)));
        Err(now.plus(Duration::from_millis(missing)))
    }

    /// Calls that may start at once.
    pub fn left(&mut self, now: Timestamp) -> u32 {
        self.fill(now);
        u32::try_from(self.level / self.token()).unwrap_or(u32::MAX)
    }
}

/// When to leave a connector alone because it does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRule {
    /// Failures of the connector in a row that open the breaker.
    pub failures: u32,
    /// How long it stays open before one call may try.
    pub open_for: Duration,
}

/// Whether calls may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// They may.
    Open,
    /// One may, as a trial; further ones wait for its end.
    Trial,
    /// None may before this time.
    Until(Timestamp),
    /// None may before the call under way has ended.
    Waiting,
}

/// A circuit breaker: it pauses a connector, never an entity.
#[derive(Debug, Clone)]
pub struct Breaker {
    rule: BreakerRule,
    failures: u32,
    open_until: Option<Timestamp>,
    trying: bool,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(rule: BreakerRule) -> Self {
        Self { rule, failures: 0, open_until: None, trying: false }
    }

    /// Whether a call may start.
    pub fn gate(&self, now: Timestamp) -> Gate {
        match self.open_until {
            None => Gate::Open,
            Some(_) if self.trying => Gate::Waiting,
            Some(until) if now < until => Gate::Until(until),
            Some(_) => Gate::Trial,
        }
    }

    /// A call started.
    pub fn started(&mut self) {
        self.trying = self.open_until.is_some();
    }

    /// A call ended: `sound` when the connector answered as it should, whatever it said about the effect.
    pub fn ended(&mut self, sound: bool, now: Timestamp) {
        self.trying = false;
        if sound {
            self.failures = 0;
            self.open_until = None;
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.rule.failures {
            self.open_until = Some(now.plus(self.rule.open_for));
        }
    }

    /// A call was given up without learning anything.
    pub fn abandoned(&mut self) {
        self.trying = false;
    }

    /// Another node has opened it: no call may start before `until`.
    pub fn hold_open(&mut self, until: Timestamp) {
        self.open_until = self.open_until.max(Some(until));
    }

    /// Another node has found that the system works again.
    pub fn close(&mut self) {
        if self.open_until.take().is_some() {
            self.failures = 0;
        }
    }

    /// Until when it is open, if it is.
    pub fn open_until(&self) -> Option<Timestamp> {
        self.open_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: i64) -> Timestamp {
        Timestamp(at)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate { calls: 50, per: Duration::from_secs(1), burst: 3 };
        let mut bucket = Bucket::new(rate, ms(0));
        assert_eq!((0..4).map(|_| bucket.take(ms(0)).is_ok()).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!(bucket.take(ms(0)), Err(ms(20)));
        assert_eq!(bucket.take(ms(20)), Ok(()));
        assert_eq!(bucket.left(ms(1_000)), 3, "never more than the burst");
    }

    #[test]
    fn no_rate_drifts() {
        let rate = Rate { calls: 7, per: Duration::from_mins(1), burst: 1 };
        let mut bucket = Bucket::new(rate, ms(0));
        let mut now = ms(0);
        let mut taken = 0;
        while now <= ms(3_600_000) {
            match bucket.take(now) {
                Ok(()) => taken += 1,
                Err(at) => now = at,
            }
        }
        assert_eq!(taken, 7 * 60 + 1);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let mut bucket = Bucket::new(Rate { calls: 1, per: Duration::from_secs(1), burst: 1 }, ms(5_000));
        assert_eq!(bucket.take(ms(5_000)), Ok(()));
        assert!(bucket.take(ms(1_000)).is_err());
        assert!(bucket.take(ms(5_500)).is_err());
    }

    #[test]
    fn the_breaker_opens_lets_one_try_and_closes() {
        let mut breaker = Breaker::new(BreakerRule { failures: 2, open_for: Duration::from_secs(5) });
        breaker.ended(false, ms(0));
        breaker.ended(true, ms(0));
        breaker.ended(false, ms(0));
        assert_eq!(breaker.gate(ms(0)), Gate::Open, "only failures in a row count");
        breaker.ended(false, ms(10));
        assert_eq!(breaker.gate(ms(11)), Gate::Until(ms(5_010)));
        assert_eq!(breaker.gate(ms(5_010)), Gate::Trial);
        breaker.started();
        assert_eq!(breaker.gate(ms(5_010)), Gate::Waiting);
        breaker.ended(false, ms(5_020));
        assert_eq!(breaker.gate(ms(5_021)), Gate::Until(ms(10_020)));
        breaker.started();
        breaker.ended(true, ms(10_030));
        assert_eq!(breaker.gate(ms(10_030)), Gate::Open);
    }
}

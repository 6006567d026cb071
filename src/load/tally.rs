//! What happened to each message, as counts and histograms. Every message ends as exactly one of: answered with a status,
//! failed in one way, or never sent.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

/// The longest latency that is told apart, in nanoseconds: an hour.
const LATENCY_MAX: u64 = 3_600_000_000_000;

/// How a message failed that was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// There was no connection, and none could be made.
    Connect,
    /// There was no answer in time. Whether the message arrived is unknown.
    Timeout,
    /// The connection ended before the answer. Whether the message arrived is unknown.
    Closed,
    /// The answer was not HTTP/1.1.
    Protocol,
}

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With this status.
    Answered(u16),
    /// Without an answer.
    Failed(Failure),
    /// It was due, but no connection was free before the run was over.
    Unsent,
}

/// Latencies with three digits, from a nanosecond to an hour.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Histogram<u64>);

/// The latencies of a run in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half were faster.
    pub p50_us: f64,
    /// One in 10 was slower.
    pub p90_us: f64,
    /// One in 100 was slower.
    pub p99_us: f64,
    /// One in 1,000 was slower.
    pub p99_9_us: f64,
    /// The slowest.
    pub max_us: f64,
}

/// Counts of one worker, or of all.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Messages without an answer, by failure.
    pub failures: BTreeMap<Failure, u64>,
    /// Messages that were due and never sent.
    pub unsent: u64,
    /// Messages of the warm-up, which are in no other figure.
    pub warm_up: u64,
    /// Duplicates among the messages that count.
    pub duplicates: u64,
    /// Connections made after the first of each worker.
    pub reconnects: u64,
    /// From the intended time to the answer, of messages answered with 2xx.
    pub accepted: Latencies,
    /// From the intended time to the end, whatever the end was. Of what was never sent, it is the time it waited: the true
    /// latency would be longer.
    pub all: Latencies,
    /// From the intended time to when a connection was free and the message signed: what a generator that waits for answers
    /// would leave out.
    pub waited: Latencies,
    /// When the last message ended.
    pub last: Option<Instant>,
}

impl Failure {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "no connection",
            Self::Timeout => "timed out",
            Self::Closed => "connection closed",
            Self::Protocol => "not HTTP",
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self(
            Histogram::new_with_bounds(1, LATENCY_MAX, 3)
                .expect("the bounds are in order and three digits are few"),
        )
    }
}

impl Latencies {
    /// One more.
    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_MAX));
    }

    /// Those of another, too.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// None when nothing was recorded.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let us = |nanoseconds: u64| super::real(nanoseconds) / 1000.0;
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: us(self.0.max()),
        })
    }
}

impl Tally {
    /// A message that counts: due at `intended`, sent at `sent` unless it never was, ended at `ended`.
    pub(super) fn record(&mut self, end: End, intended: Instant, sent: Option<Instant>, ended: Instant) {
        let latency = ended.saturating_duration_since(intended);
        self.all.record(latency);
        if let Some(sent) = sent {
            self.waited.record(sent.saturating_duration_since(intended));
        }
        match end {
            End::Answered(status) => {
                *self.statuses.entry(status).or_default() += 1;
                if (200..300).contains(&status) {
                    self.accepted.record(latency);
                }
            }
            End::Failed(failure) => *self.failures.entry(failure).or_default() += 1,
            End::Unsent => self.unsent += 1,
        }
        if end != End::Unsent {
            self.last = self.last.max(Some(ended));
        }
    }

    /// What another worker counted, too.
    pub(super) fn add(&mut self, other: &Self) {
        other.statuses.iter().for_each(|(status, count)| *self.statuses.entry(*status).or_default() += count);
        other
            .failures
            .iter()
            .for_each(|(failure, count)| *self.failures.entry(*failure).or_default() += count);
        self.unsent += other.unsent;
        self.warm_up += other.warm_up;
        self.duplicates += other.duplicates;
        self.reconnects += other.reconnects;
        self.accepted.add(&other.accepted);
        self.all.add(&other.all);
        self.waited.add(&other.waited);
        self.last = self.last.max(other.last);
    }

    /// Messages that were answered.
    pub(super) fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Messages that were answered with 2xx.
    pub(super) fn acked(&self) -> u64 {
        self.statuses.range(200..300).map(|(_, count)| count).sum()
    }

    /// Messages that were sent and not answered.
    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Messages that were due.
    pub(super) fn intended(&self) -> u64 {
        self.answered() + self.failed() + self.unsent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn near(value: f64, expected: f64) -> bool {
        (value / expected - 1.0).abs() < 0.002
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), None);
        (1..=1000).for_each(|ms| latencies.record(ms * MS));
        let told = latencies.percentiles().expect("something was recorded");
        for (value, expected) in [
            (told.p50_us, 500e3),
            (told.p90_us, 900e3),
            (told.p99_us, 990e3),
            (told.p99_9_us, 999e3),
            (told.max_us, 1000e3),
        ] {
            assert!(near(value, expected), "{value}, expected {expected}");
        }
    }

    #[test]
    fn latency_runs_from_the_intended_time() {
        let due = Instant::now();
        let mut tally = Tally::default();
        tally.record(End::Answered(200), due, Some(due + 30 * MS), due + 31 * MS);
        let [waited, accepted] =
            [&tally.waited, &tally.accepted].map(|latencies| latencies.percentiles().expect("one").max_us);
        assert!(near(waited, 30e3) && near(accepted, 31e3), "{waited} {accepted}");
    }

    #[test]
    fn every_message_is_in_one_count_and_sums_stay_so() {
        let due = Instant::now();
        let ends = [
            End::Answered(200),
            End::Answered(202),
            End::Answered(503),
            End::Failed(Failure::Timeout),
            End::Unsent,
        ];
        let mut one = Tally::default();
        for end in ends {
            one.record(end, due, None, due + MS);
        }
        let mut both = one.clone();
        both.add(&one);
        assert_eq!([one.intended(), one.answered(), one.acked(), one.failed(), one.unsent], [5, 3, 2, 1, 1]);
        assert_eq!(
            [both.intended(), both.answered(), both.acked(), both.failed(), both.unsent],
            [10, 6, 4, 2, 2]
        );
        assert_eq!(both.last, Some(due + MS));
    }

    #[test]
    fn only_accepted_messages_make_the_accepted_latency() {
        let due = Instant::now();
        let mut tally = Tally::default();
        tally.record(End::Answered(503), due, Some(due), due + MS);
        assert_eq!(tally.accepted.percentiles(), None);
        assert!(tally.all.percentiles().is_some());
    }
}

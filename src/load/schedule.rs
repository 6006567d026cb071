//! When each message is to be sent: settled before the run begins, and never moved by what is answered.

use std::str::FromStr;
use std::time::Duration;

/// More messages per second than this are refused: no machine sends so many, and the figure is a slip of the pen.
const RATE_MAX: f64 = 10_000_000.0;

/// How many messages are due, and when. A piece of time with one rate follows another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Schedule {
    pieces: Vec<Piece>,
}

/// A stretch of time with one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    from: Duration,
    until: Duration,
    /// Messages per second; zero is a pause.
    rate: f64,
}

/// From `at` on the rate is another: `4000@20s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Messages per second.
    pub rate: f64,
    /// Since the run's beginning.
    pub at: Duration,
}

/// For `lasts` the rate is `factor` times what it would be: `5x@10s+5s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spike {
    /// How many times the rate.
    pub factor: f64,
    /// Since the run's beginning.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
}

impl Schedule {
    /// `rate` messages per second for `duration`, changed by steps and spikes. Times are offsets from the beginning.
    ///
    /// # Errors
    /// A rate is negative, not a number or beyond reason. Says which, and what to write.
    pub(super) fn new(
        rate: f64,
        steps: &[Step],
        spikes: &[Spike],
        duration: Duration,
    ) -> Result<Self, String> {
        let mut marks = vec![Duration::ZERO, duration];
        marks.extend(steps.iter().map(|step| step.at));
        marks.extend(spikes.iter().flat_map(|spike| [spike.at, spike.at.saturating_add(spike.lasts)]));
        marks.retain(|mark| *mark <= duration);
        marks.sort();
        marks.dedup();
        let pieces: Vec<Piece> = marks
            .windows(2)
            .map(|ends| Piece { from: ends[0], until: ends[1], rate: rate_at(ends[0], rate, steps, spikes) })
            .collect();
        match pieces.iter().find(|piece| !(0.0..=RATE_MAX).contains(&piece.rate)) {
            Some(piece) => Err(format!(
                "the rate from {} on is {}; it must be 0 to {RATE_MAX} messages per second",
                humantime::format_duration(piece.from),
                piece.rate
            )),
            None => Ok(Self { pieces }),
        }
    }

    /// The intended times of all messages as offsets from the beginning, evenly spaced within each piece. O(1) memory.
    pub(super) fn times(&self) -> impl Iterator<Item = Duration> + use<> {
        self.pieces.clone().into_iter().flat_map(|piece| {
            let ordinals = std::iter::successors(Some(0.0_f64), |ordinal| Some(ordinal + 1.0));
            ordinals
                .take_while(move |_| piece.rate > 0.0)
                .map(move |ordinal| piece.from + Duration::from_secs_f64(ordinal / piece.rate))
                .take_while(move |time| *time < piece.until)
        })
    }
}

fn rate_at(time: Duration, rate: f64, steps: &[Step], spikes: &[Spike]) -> f64 {
    let begun = steps.iter().filter(|step| step.at <= time).max_by_key(|step| step.at);
    let base = begun.map_or(rate, |step| step.rate);
    let on = spikes.iter().filter(|spike| (spike.at..spike.at.saturating_add(spike.lasts)).contains(&time));
    on.fold(base, |rate, spike| rate * spike.factor)
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (rate, at) = text.split_once('@')?;
            Some(Self { rate: amount(rate)?, at: span(at)? })
        };
        read().ok_or_else(|| format!("{text:?} is no step; write the new rate and when, e.g. `4000@20s`"))
    }
}

impl FromStr for Spike {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (factor, rest) = text.split_once('@')?;
            let (at, lasts) = rest.split_once('+')?;
            Some(Self { factor: amount(factor.strip_suffix('x')?)?, at: span(at)?, lasts: span(lasts)? })
        };
        read().ok_or_else(|| {
            format!("{text:?} is no spike; write factor, beginning and length, e.g. `5x@10s+5s`")
        })
    }
}

fn amount(text: &str) -> Option<f64> {
    text.parse().ok().filter(|amount| (0.0..=RATE_MAX).contains(amount))
}

fn span(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn count(schedule: &Schedule, second: u64) -> usize {
        let second = Duration::from_secs(second);
        schedule.times().filter(|time| (second..second + SECOND).contains(time)).count()
    }

    #[test]
    fn a_fixed_rate_is_evenly_spaced_from_the_first_moment_on() {
        let schedule = Schedule::new(2000.0, &[], &[], 3 * SECOND).expect("the rate is right");
        let times: Vec<Duration> = schedule.times().collect();
        assert_eq!(times.len(), 6000);
        assert_eq!(times[..3], [Duration::ZERO, Duration::from_micros(500), Duration::from_millis(1)]);
        assert_eq!(times[5999], Duration::from_micros(2_999_500));
    }

    #[test]
    fn long_runs_do_not_drift() {
        let schedule = Schedule::new(3.0, &[], &[], 10_000 * SECOND).expect("the rate is right");
        assert_eq!(schedule.times().count(), 30_000);
        assert_eq!(schedule.times().nth(29_997), Some(9_999 * SECOND));
    }

    #[test]
    fn a_spike_multiplies_the_rate_for_its_time() {
        let spike = "5x@2s+1s".parse().expect("a spike");
        let schedule = Schedule::new(100.0, &[], &[spike], 5 * SECOND).expect("the rate is right");
        assert_eq!([0, 1, 2, 3, 4].map(|second| count(&schedule, second)), [100, 100, 500, 100, 100]);
    }

    #[test]
    fn steps_change_the_rate_and_spikes_multiply_what_they_find() {
        let steps = ["200@1s", "0@3s", "50@4s"].map(|text| text.parse().expect("a step"));
        let spikes = ["2x@2s+1s", "9x@10s+1s"].map(|text| text.parse().expect("a spike"));
        let schedule = Schedule::new(100.0, &steps, &spikes, 5 * SECOND).expect("the rate is right");
        assert_eq!([0, 1, 2, 3, 4].map(|second| count(&schedule, second)), [100, 200, 400, 0, 50]);
        assert!(schedule.times().is_sorted());
    }

    #[test]
    fn what_is_no_spike_is_told_how_one_is_written() {
        let spike = "2.5x@250ms+1m".parse();
        let at = Duration::from_millis(250);
        assert_eq!(spike, Ok(Spike { factor: 2.5, at, lasts: Duration::from_mins(1) }));
        for wrong in
            ["", "5@10s+5s", "5x", "5x@10s", "5x@10+5s", "-5x@10s+5s", "NaNx@1s+1s", "5x@10s+", "x@1s+1s"]
        {
            let told = wrong.parse::<Spike>().expect_err(wrong);
            assert!(told.contains("`5x@10s+5s`"), "{told}");
        }
        assert!("4000".parse::<Step>().expect_err("no time").contains("`4000@20s`"));
    }

    #[test]
    fn a_rate_beyond_reason_is_refused() {
        for rate in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(Schedule::new(rate, &[], &[], SECOND).is_err(), "{rate}");
        }
        let spike = Spike { factor: 1e6, at: Duration::ZERO, lasts: SECOND };
        assert!(Schedule::new(2000.0, &[], &[spike], SECOND).is_err());
    }
}

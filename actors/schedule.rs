//! When something is done again and again: a pure function of the time, so that nobody has to remember when it was done last, and every
//! node of a cluster says the same.

use std::fmt;
use std::time::Duration;

use crate::document::{Fields, Item};
use crate::time::Timestamp;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// The shortest time between two turns.
pub const LEAST: Duration = Duration::from_secs(1);

/// When the turns are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Every so often, counted from the Unix epoch.
    Every(Duration),
    /// At these times of day, in minutes since midnight, UTC, in order.
    At(Vec<u16>),
}

impl Schedule {
    /// The last turn that was due at `now`.
    pub fn last(&self, now: Timestamp) -> Timestamp {
        match self {
            Self::Every(time) => {
                let step = millis(*time);
                Timestamp(now.0.div_euclid(step) * step)
            }
            Self::At(minutes) => {
                let midnight = now.0.div_euclid(DAY_MS) * DAY_MS;
                let of_day =
                    |day: i64| minutes.iter().map(move |minute| day + i64::from(*minute) * MINUTE_MS);
                let all = of_day(midnight - DAY_MS).chain(of_day(midnight));
                Timestamp(all.filter(|at| *at <= now.0).max().unwrap_or(midnight))
            }
        }
    }

    /// The first turn after `now`.
    pub fn next(&self, now: Timestamp) -> Timestamp {
        match self {
            Self::Every(time) => self.last(now).plus(*time),
            Self::At(minutes) => {
                let midnight = now.0.div_euclid(DAY_MS) * DAY_MS;
                let of_day =
                    |day: i64| minutes.iter().map(move |minute| day + i64::from(*minute) * MINUTE_MS);
                let all = of_day(midnight).chain(of_day(midnight + DAY_MS));
                Timestamp(all.filter(|at| *at > now.0).min().unwrap_or(midnight + DAY_MS))
            }
        }
    }

    /// Reads `every: 5m` or `at: ["02:00", "14:30"]` of a map.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (every, at) = (fields.optional("every"), fields.optional("at"));
        match (every, at) {
            (Some(every), None) => {
                let time = every.duration()?;
                if time.value < LEAST {
                    every.refuse("this is more often than once in a second", "write e.g. `every: 5m`");
                    return None;
                }
                Some(Self::Every(time.value))
            }
            (None, Some(at)) => {
                let items = at.list()?;
                let mut minutes: Vec<u16> = items.iter().filter_map(minute).collect();
                minutes.sort_unstable();
                minutes.dedup();
                if items.is_empty() {
                    at.refuse("no time of day is named", "write e.g. `at: [\"02:00\"]`");
                }
                (!minutes.is_empty()).then_some(Self::At(minutes))
            }
            (Some(_), Some(at)) => {
                at.refuse("`at` and `every` exclude each other", "delete one of them");
                None
            }
            (None, None) => {
                let fix = "write `every: 5m`, or times of day in UTC: `at: [\"02:00\"]`";
                fields.item().refuse("nothing says when", fix);
                None
            }
        }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// A time of day as minutes since midnight.
fn minute(item: &Item<'_>) -> Option<u16> {
    let text = item.text()?;
    let parts = text.value.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2);
    let of = |(hour, minute): (&str, &str)| {
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let found = parts.and_then(of);
    if found.is_none() {
        item.refuse(
            format!("`{}` is no time of day", text.value),
            "write hours and minutes in UTC: \"02:00\"",
        );
    }
    found
}

/// As it is written.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(time) => {
                let seconds = time.as_secs();
                let units = [("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60), ("s", 1)];
                let (unit, of) = units.into_iter().find(|(_, of)| seconds % of == 0).unwrap_or(("s", 1));
                write!(f, "every {}{unit}", seconds / of)
            }
            Self::At(minutes) => {
                let times: Vec<String> =
                    minutes.iter().map(|minute| format!("{:02}:{:02}", minute / 60, minute % 60)).collect();
                write!(f, "at {} UTC", times.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("RFC 3339")
    }

    #[test]
    fn times_of_day_are_in_utc_and_go_over_midnight() {
        let schedule = Schedule::At(vec![120, 870]);
        assert_eq!(schedule.last(at("2026-11-23T01:59:59Z")), at("2026-11-22T14:30:00Z"));
        assert_eq!(schedule.last(at("2026-11-23T02:00:00Z")), at("2026-11-23T02:00:00Z"));
        assert_eq!(schedule.next(at("2026-11-23T02:00:00Z")), at("2026-11-23T14:30:00Z"));
        assert_eq!(schedule.next(at("2026-11-23T14:30:00Z")), at("2026-11-24T02:00:00Z"));
        assert_eq!(schedule.to_string(), "at 02:00, 14:30 UTC");
        for (seconds, told) in
            [(5, "every 5s"), (300, "every 5m"), (5400, "every 90m"), (172_800, "every 2d")]
        {
            assert_eq!(Schedule::Every(Duration::from_secs(seconds)).to_string(), told);
        }
    }

    fn schedules() -> impl Strategy<Value = Schedule> {
        let minutes = proptest::collection::btree_set(0_u16..1440, 1..5);
        prop_oneof![
            (1_u64..200_000).prop_map(|seconds| Schedule::Every(Duration::from_secs(seconds))),
            minutes.prop_map(|minutes| Schedule::At(minutes.into_iter().collect())),
        ]
    }

    proptest! {
        /// There is no turn between the last and the next one, and every turn is the last one when it comes.
        #[test]
        fn turns_follow_one_another(schedule in schedules(), now in -1_000_000_000_000_i64..4_000_000_000_000) {
            let now = Timestamp(now);
            let (last, next) = (schedule.last(now), schedule.next(now));
            prop_assert!(last <= now && now < next);
            prop_assert_eq!(schedule.last(next), next);
            prop_assert_eq!(schedule.next(last), next);
            prop_assert_eq!(schedule.last(Timestamp(next.0 - 1)), last);
        }
    }
}

//! Time as it is told to decisions: a number that came in from outside.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Later by `duration`; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339, e.g. `2026-11-23T10:00:00Z` or with an offset. `None` when it is not that.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|at| Self(at.as_millisecond()))
    }

    /// Reads RFC 3339, or what leaves the offset or the time of day out: `2026-12-01` is the beginning of that day, UTC. `None`
    /// when it is none of them.
    pub fn parse_date(text: &str) -> Option<Self> {
        let utc = |at: jiff::civil::DateTime| at.to_zoned(jiff::tz::TimeZone::UTC).ok();
        Self::parse(text)
            .or_else(|| text.parse().ok().and_then(utc).map(|at| Self(at.timestamp().as_millisecond())))
    }

    /// Earlier by `duration`; stops at the beginning of time instead of wrapping.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// RFC 3339 in UTC with three digits of milliseconds, so that times line up and sort as text.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{at:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_it_is_written() {
        let at = Timestamp::parse("2026-11-23T11:00:00.250+01:00").expect("RFC 3339");
        assert_eq!(at.to_string(), "2026-11-23T10:00:00.250Z");
        assert_eq!(Timestamp::parse(&at.to_string()), Some(at));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn a_date_is_the_beginning_of_its_day() {
        let read = |text| Timestamp::parse_date(text).map(|at| at.to_string());
        let noon = Some("2026-12-01T12:00:00.000Z".to_owned());
        assert_eq!(read("2026-12-01").as_deref(), Some("2026-12-01T00:00:00.000Z"));
        assert_eq!(
            ["2026-12-01T12:00:00", "2026-12-01T12:00:00Z", "2026-12-01T13:00:00+01:00"].map(read),
            [noon.clone(), noon.clone(), noon]
        );
        assert_eq!(["", "soon", "01.12.2026", "2026-13-01", "20261201x"].map(read), [const { None }; 5]);
    }

    #[test]
    fn time_does_not_wrap() {
        assert_eq!(Timestamp(i64::MAX).plus(Duration::from_secs(1)), Timestamp(i64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp(i64::MIN).minus(Duration::from_secs(1)), Timestamp(i64::MIN));
    }
}

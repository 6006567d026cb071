//! When a request was signed, and whether that is near enough to now.

use std::time::Duration;

use http::header::HeaderName;
use syncline_actors::time::Timestamp;

use super::Refusal;
use super::description::{Parse, TimestampRule, Unit};

/// A compiled `timestamp:`.
#[derive(Debug, Clone)]
pub(in crate::ingress) struct When {
    pub(in crate::ingress) from: From,
    pub(in crate::ingress) unit: Unit,
    pub(in crate::ingress) tolerance: Duration,
}

/// Where the timestamp stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingress) enum From {
    /// In a header of its own.
    Header(HeaderName),
    /// Beside the signature, under a key.
    Key(String),
    /// Beside the signature, as an item.
    Item(usize),
}

impl When {
    /// Compiles; tells every mistake.
    pub(super) fn compile(rule: &TimestampRule, parse: &Parse, mistakes: &mut Vec<String>) -> Option<Self> {
        if rule.tolerance.is_zero() || rule.tolerance > Duration::from_hours(24) {
            mistakes.push(
                "`verify.timestamp.tolerance`: must be more than 0s and at most 24h; 300s is usual"
                    .to_owned(),
            );
        }
        match from(&rule.from, parse) {
            Ok(from) => Some(Self { from, unit: rule.unit, tolerance: rule.tolerance }),
            Err(mistake) => {
                mistakes.push(format!("`verify.timestamp.from`: {mistake}"));
                None
            }
        }
    }

    /// The instant, in milliseconds since the Unix epoch.
    pub(super) fn read(&self, text: &str) -> Result<i64, Refusal> {
        read(text, self.unit).ok_or_else(|| {
            let expected = match self.unit {
                Unit::S => "seconds since 1970 in digits",
                Unit::Ms => "milliseconds since 1970 in digits",
                Unit::Auto => "10 digits for seconds or 13 for milliseconds",
                Unit::Rfc3339 => "RFC 3339, e.g. 2026-11-23T10:00:00Z",
            };
            Refusal::MalformedTimestamp(format!("{:?} is not {expected}", super::short(text)))
        })
    }

    /// Whether `at` is near enough to `now`, both in milliseconds.
    pub(super) fn check(&self, at: i64, now: i64) -> Result<(), Refusal> {
        let by = Duration::from_millis(at.abs_diff(now));
        let tolerance = self.tolerance;
        match (by > tolerance, at < now) {
            (false, _) => Ok(()),
            (true, true) => Err(Refusal::TooOld { by, tolerance }),
            (true, false) => Err(Refusal::InTheFuture { by, tolerance }),
        }
    }

    /// The timestamp beside the signature in a header's `value`.
    pub(super) fn beside<'v>(&self, parse: &Parse, value: &'v str) -> Result<&'v str, Refusal> {
        let missing = || Refusal::MalformedTimestamp("it is not in the signature's header".to_owned());
        match (&self.from, parse) {
            (From::Key(key), Parse::Kv { item_sep, kv_sep, .. }) => {
                let mut found = value
                    .split(item_sep.as_str())
                    .filter_map(|item| item.trim_ascii().split_once(kv_sep.as_str()))
                    .filter(|(name, _)| name == key);
                let (_, text) = found.next().ok_or_else(missing)?;
                match found.next() {
                    None => Ok(text),
                    Some(_) => {
                        Err(Refusal::MalformedTimestamp("it is in the signature's header twice".to_owned()))
                    }
                }
            }
            (From::Item(index), Parse::Positional { item_sep, .. }) => {
                value.split(item_sep.as_str()).nth(*index).map(str::trim_ascii).ok_or_else(missing)
            }
            _ => Err(missing()),
        }
    }

    /// `now` as a sender writes it.
    pub(in crate::ingress) fn write(&self, now: i64) -> String {
        match self.unit {
            Unit::S => now.div_euclid(1000).to_string(),
            Unit::Ms | Unit::Auto => now.to_string(),
            Unit::Rfc3339 => Timestamp(now - now.rem_euclid(1000)).to_string(),
        }
    }
}

/// Reads where the timestamp stands.
fn from(from: &str, parse: &Parse) -> Result<From, String> {
    if let Some(name) = from.strip_prefix("header:") {
        return name.parse().map(From::Header).map_err(|_invalid| format!("{name:?} is not a header's name"));
    }
    let key = from
        .strip_prefix("sig:")
        .filter(|key| !key.is_empty())
        .ok_or_else(|| format!("{from:?} is not known: write header:NAME, sig:KEY or sig:#N"))?;
    match (key.strip_prefix('#').map(str::parse::<usize>), parse) {
        (None, Parse::Kv { pick, .. }) if pick != key => Ok(From::Key(key.to_owned())),
        (None, Parse::Kv { .. }) => Err(format!("{key:?} is the key of the signature itself")),
        (Some(Ok(index)), Parse::Positional { skip, .. }) if index < *skip => Ok(From::Item(index)),
        (Some(Ok(_)), Parse::Positional { .. }) => {
            Err(format!("{from} is not before the first signature: raise `skip` or lower the index"))
        }
        (Some(Err(_)), _) => Err(format!("{from:?} has no number after #")),
        (None, _) => Err(format!("{from} needs `parse: {{kind: kv, ..}}`")),
        (Some(Ok(_)), _) => Err(format!("{from} needs `parse: {{kind: positional, ..}}`")),
    }
}

/// Strict: no sign, no blank, no more digits than a date has.
fn read(text: &str, unit: Unit) -> Option<i64> {
    let digits = || {
        let fits = (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| text.parse::<i64>().ok()).flatten()
    };
    match (unit, text.len()) {
        (Unit::S, 1..=12) | (Unit::Auto, 10) => digits()?.checked_mul(1000),
        (Unit::Ms, _) | (Unit::Auto, 13) => digits(),
        (Unit::Rfc3339, 20..=40) => rfc3339(text),
        _ => None,
    }
}

/// RFC 3339 and nothing of what else ISO 8601 allows.
fn rfc3339(text: &str) -> Option<i64> {
    let shape = text.bytes().take(19).zip("0000-00-00T00:00:00".bytes());
    let shaped =
        shape.into_iter().all(|(got, want)| if want == b'0' { got.is_ascii_digit() } else { got == want });
    let rest = text.get(19..)?;
    let zone =
        rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let zoned =
        zone == "Z" || (zone.len() == 6 && zone.starts_with(['+', '-']) && zone.as_bytes()[3] == b':');
    (shaped && zoned).then(|| Timestamp::parse(text)).flatten().map(|at| at.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_read_strictly() {
        assert_eq!(read("1614265330", Unit::S), Some(1_614_265_330_000));
        assert_eq!(read("1614265330000", Unit::Ms), Some(1_614_265_330_000));
        assert_eq!(read("2021-03-25T05:09:27Z", Unit::Rfc3339), Some(1_616_648_967_000));
        assert_eq!(read("2021-03-25T06:09:27.5+01:00", Unit::Rfc3339), Some(1_616_648_967_500));
        for bad in
            ["", "+1614265330", "-1", "1e9", " 1614265330", "1614265330.5", "١", "99999999999999999999"]
        {
            assert_eq!(read(bad, Unit::S), None, "{bad}");
            assert_eq!(read(bad, Unit::Ms), None, "{bad}");
        }
        for bad in [
            "2021-03-25 05:09:27Z",
            "2021-03-25T05:09:27",
            "20210325T050927Z",
            "2021-13-25T05:09:27Z",
            "2021-03-25T05:09:27+0100",
        ] {
            assert_eq!(read(bad, Unit::Rfc3339), None, "{bad}");
        }
    }

    #[test]
    fn auto_tells_seconds_from_milliseconds_by_their_length() {
        assert_eq!(read("1663103925", Unit::Auto), Some(1_663_103_925_000));
        assert_eq!(read("1663103925004", Unit::Auto), Some(1_663_103_925_004));
        assert_eq!(read("166310392500", Unit::Auto), None);
    }

    #[test]
    fn the_past_and_the_future_are_bounded() {
        let when = When { from: From::Key("t".into()), unit: Unit::S, tolerance: Duration::from_mins(5) };
        assert_eq!(when.check(0, 300_000), Ok(()));
        assert_eq!(when.check(300_000, 0), Ok(()));
        assert!(matches!(when.check(0, 300_001), Err(Refusal::TooOld { .. })));
        assert!(matches!(when.check(300_001, 0), Err(Refusal::InTheFuture { .. })));
        assert!(matches!(when.check(i64::MAX, i64::MIN), Err(Refusal::InTheFuture { .. })));
    }
}

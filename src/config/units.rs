//! How lengths of time and sizes are written in settings: `10s`, `1h30m`; `64 KiB`, `1 MiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, written as in processes and connectors: `250ms`, `10s`, `5m`, `4h`, `2d`, `1h30m`.
pub(super) mod span {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// Reads it, or says how it is written.
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        syncline_actors::document::parse_duration(&text).map_err(serde::de::Error::custom)
    }

    /// Writes it.
    pub(in super::super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", duration.as_millis()))
    }
}

/// A size in bytes, written `512 B`, `64 KiB`, `1 MiB` or `2 GiB`, with or without the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// The size in bytes, as memory is counted; at most what this machine can address.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let factor = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor);
        factor
            .zip(digits.parse::<u64>().ok())
            .and_then(|(factor, count)| count.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| {
                format!("`{text}` is not a size; write a whole number and B, KiB, MiB or GiB, e.g. `64 KiB`")
            })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_reads_as_it_is_written() {
        for (text, bytes) in [("0 B", 0), ("512 B", 512), ("64 KiB", 65_536), ("1 MiB", 1 << 20)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        assert_eq!("2GiB".parse(), Ok(ByteSize(2 << 30)));
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_an_example() {
        for text in ["", "12", "1 MB", "MiB", "-1 B", "1.5 MiB", "99999999999999999999 B", "99999999999 GiB"]
        {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.contains("e.g. `64 KiB`"), "{error}");
        }
    }
}

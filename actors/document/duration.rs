//! Lengths of time as people write them.

use std::time::Duration;

/// Units, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// 36500 days, about a century; more is a slip.
const MAX_MS: u64 = 36_500 * 86_400_000;

/// How a duration is written, for messages.
pub(super) const EXAMPLES: &str =
    "write a whole number and a unit, e.g. `250ms`, `10s`, `5m`, `4h`, `2d` or `1h30m`";

/// Reads `250ms`, `10s`, `5m`, `4h`, `2d`, or several units from long to short: `1h30m`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    if text.is_empty() {
        return Err("a duration is empty".to_owned());
    }
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (unit, after) =
            after.split_at(after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len()));
        if digits.is_empty() {
            return Err(format!("{} is not a duration", super::quoted(text)));
        }
        if unit.is_empty() {
            return Err(if after.is_empty() {
                format!("the duration {} has no unit", super::quoted(text))
            } else {
                format!("{} is not a duration", super::quoted(text))
            });
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(format!(
                "the duration {} has the unknown unit {}",
                super::quoted(text),
                super::quoted(unit)
            ));
        }
        let Some((_, factor)) = units.find(|(name, _)| *name == unit) else {
            return Err(format!(
                "the duration {} does not go from long units to short ones",
                super::quoted(text)
            ));
        };
        total = digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(*factor))
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= MAX_MS)
            .ok_or_else(|| format!("the duration {} is longer than 36500d", super::quoted(text)))?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let ms = |text| parse_duration(text).unwrap().as_millis();
        assert_eq!(
            ["0s", "250ms", "10s", "5m", "4h", "2d", "1h30m", "1s500ms"].map(ms),
            [0, 250, 10_000, 300_000, 14_400_000, 172_800_000, 5_400_000, 1_500]
        );
    }

    #[test]
    fn each_mistake_in_a_duration_is_named() {
        let wrong = |text| parse_duration(text).unwrap_err();
        assert_eq!(wrong(""), "a duration is empty");
        assert_eq!(wrong("10"), "the duration `10` has no unit");
        assert_eq!(wrong("10 s"), "`10 s` is not a duration");
        assert_eq!(wrong("1.5h"), "`1.5h` is not a duration");
        assert_eq!(wrong("-1s"), "`-1s` is not a duration");
        assert_eq!(wrong("soon"), "`soon` is not a duration");
        assert_eq!(wrong("10sec"), "the duration `10sec` has the unknown unit `sec`");
        assert_eq!(wrong("30m1h"), "the duration `30m1h` does not go from long units to short ones");
        assert_eq!(wrong("1h1h"), "the duration `1h1h` does not go from long units to short ones");
        assert_eq!(wrong("40000d"), "the duration `40000d` is longer than 36500d");
        assert_eq!(
            wrong("99999999999999999999s"),
            "the duration `99999999999999999999s` is longer than 36500d"
        );
    }
}

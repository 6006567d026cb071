//! Timers of a state: `after` a while, `every` while, `at` a date.

use std::time::Duration;

use super::{Entries, Parser};
use crate::document::{Fields, Item, Spanned, parse_duration};
use crate::expr::{Expr, Scope};
use crate::process::{Due, Timer};
use crate::reading;
use crate::time::Timestamp;
use crate::value::Value;

/// Shortest time between two firings of one `every`: each is a record.
const EVERY_MIN: Duration = Duration::from_secs(1);

impl Parser {
    /// The timers of the state `state`, in the order `after`, `every`, `at`.
    pub(super) fn timers(&self, fields: &mut Fields<'_>, state: &str) -> Vec<Timer> {
        let after = |duration, text: &str| (Due::After(duration), format!("{state}.{text}"));
        let every = |duration, text: &str| (Due::Every(duration), format!("{state}.every.{text}"));
        let mut timers = self.spans(fields.optional_entries("after"), after);
        timers.extend(self.spans(fields.optional_entries("every"), every));
        for (number, item) in fields.optional_list("at").iter().enumerate() {
            timers.extend(self.date(item, format!("{state}.at.{number}")));
        }
        timers
    }

    /// `{4h: …}`: a time, and what then happens.
    fn spans(&self, entries: Entries<'_>, due: impl Fn(Duration, &str) -> (Due, String)) -> Vec<Timer> {
        let mut timers = Vec::new();
        for (text, item) in entries {
            let (due, name) = match parse_duration(&text.value) {
                Ok(duration) => due(duration, &text.value),
                Err(error) => {
                    reading::refuse(item.reader(), &text, error, "write e.g. `after: {4h: {to: …}}`");
                    continue;
                }
            };
            if !refuse_short(&due, &text, &item) {
                let then = self.transitions(&item);
                timers.push(Timer { name: name.into(), due, then, place: text.place });
            }
        }
        timers
    }

    /// `{time: "…", before: 30d, …}`: a date, and what then happens.
    fn date(&self, item: &Item<'_>, name: String) -> Option<Timer> {
        let mut fields = item.fields()?;
        let time = fields.required("time").and_then(|item| {
            let time = reading::expr(&item, &self.names)?;
            gives_time(&time, &item).then_some(time)
        });
        let before = fields.optional_duration("before").map_or(Duration::ZERO, |before| before.value);
        let then = self.transition_of(&mut fields);
        fields.finish();
        let due = Due::At { time: time?, before };
        Some(Timer { name: name.into(), due, then: vec![then], place: item.place().clone() })
    }
}

/// Refuses a time that is none, or too short to be meant.
fn refuse_short(due: &Due, text: &Spanned<String>, item: &Item<'_>) -> bool {
    let (message, fix) = match due {
        Due::After(Duration::ZERO) => {
            ("a timer of no time", "write a longer one, or use `always` for what needs no time")
        }
        Due::Every(span) if *span < EVERY_MIN => {
            let fix = "write a longer time, e.g. `every: {1d: {call: […]}}`";
            ("a timer that fires more often than once a second", fix)
        }
        _ => return false,
    };
    reading::refuse(item.reader(), text, message, fix);
    true
}

/// Whether an expression can give a time: one that looks at nothing is tried.
fn gives_time(time: &Expr, item: &Item<'_>) -> bool {
    if !time.references().is_empty() {
        return true;
    }
    let found = time.eval(&Scope::new()).map_err(|error| error.to_string());
    let Err(problem) = found.and_then(|value| read(&value)) else { return true };
    let fix = "write an expression that gives a date or a time: `order.requested_date`, `'2026-12-01'`";
    item.refuse(problem, fix);
    false
}

/// The time that a value means: text, as RFC 3339 or a date.
///
/// # Errors
/// Says what it is instead.
pub(crate) fn read(value: &Value) -> Result<Timestamp, String> {
    value.as_text().and_then(Timestamp::parse_date).ok_or_else(|| {
        format!(
            "{} ({}) is no date and no time; one is written `2026-12-01` or `2026-12-01T10:00:00Z`",
            value.kind_name(),
            value.preview(40)
        )
    })
}

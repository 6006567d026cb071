//! What an answer means: the contract's rules first, then what HTTP says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{LOCATION, RETRY_AFTER};
use syncline_actors::expr::Scope;
use syncline_actors::retry::retry_after;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::contract::{Detail, Meaning, Operation, Probe, Rule};
use super::formula::{Formula, from_json};
use super::template::plain_text;
use super::wire::Response;

/// Longest sentence kept about an attempt, in characters.
const DETAIL_MAX: usize = 500;

/// What one attempt has shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shown {
    /// It is done.
    Ok { result: Value, detail: Arc<str> },
    /// The system said no.
    Failed { detail: Arc<str> },
    /// It is done, but what came back cannot be read: another try would not help.
    Unreadable { detail: Arc<str> },
    /// The credentials were refused.
    Refused { detail: Arc<str> },
    /// Another attempt may do.
    Again(Again),
}

/// An attempt that did not end its effect.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Again {
    /// Whether it may have been applied.
    pub(super) uncertain: bool,
    /// Whether the whole connector must slow down.
    pub(super) throttled: bool,
    /// Not before this time, if the system said so.
    pub(super) not_before: Option<Timestamp>,
    /// A sentence for people.
    pub(super) detail: Arc<str>,
}

/// What a probe has shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Probed {
    /// It was applied.
    Found(Value),
    /// It was not.
    Absent,
    /// It was applied, but what came back cannot be read.
    Unreadable(Arc<str>),
    /// The credentials were refused.
    Refused(Arc<str>),
    /// Nothing is known yet.
    Unknown { detail: Arc<str>, throttled: bool, not_before: Option<Timestamp> },
}

/// What is known of the effect that an answer is for.
#[derive(Debug, Clone)]
pub(super) struct About<'a> {
    pub(super) input: &'a Value,
    pub(super) key: &'a str,
    pub(super) attempts: u32,
    pub(super) now: Timestamp,
}

/// An answer as expressions see it.
struct Seen {
    status: Value,
    headers: Value,
    body: Value,
    key: Value,
    attempts: Value,
}

impl Seen {
    fn of(answer: &Response, about: &About<'_>) -> Self {
        Self {
            status: Value::Int(i64::from(answer.status)),
            headers: headers(&answer.headers),
            body: body(answer),
            key: Value::Text(about.key.into()),
            attempts: Value::Int(i64::from(about.attempts)),
        }
    }

    fn scope<'a>(&'a self, about: &'a About<'a>) -> Scope<'a> {
        Scope::new()
            .with("status", &self.status)
            .with("headers", &self.headers)
            .with("body", &self.body)
            .with("input", about.input)
            .with("key", &self.key)
            .with("attempts", &self.attempts)
    }
}

/// Lower-case names; several values of a name are joined by `, `.
fn headers(headers: &HeaderMap) -> Value {
    let mut map: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        map.entry(name.as_str().to_owned())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.to_string());
    }
    Value::map(map.into_iter().map(|(name, value)| (name, Value::from(value))))
}

/// JSON if it is that; text if not; null if there is none, or it was cut: half an answer must not be read as a whole one.
fn body(answer: &Response) -> Value {
    if answer.cut || answer.body.is_empty() {
        return Value::Null;
    }
    if let Some(value) = from_json(&answer.body) {
        return value;
    }
    Value::Text(String::from_utf8_lossy(&answer.body).into())
}

/// What `answer` means for an effect of `operation`.
pub(super) fn classify(operation: &Operation, answer: &Response, about: &About<'_>) -> Shown {
    let seen = Seen::of(answer, about);
    let scope = seen.scope(about);
    for (place, rule) in operation.outcomes.iter().enumerate() {
        match rule.when.holds(&scope) {
            Ok(true) => return by_rule(rule, answer, about, &seen, &scope),
            // Where the status says that it went well, a rule that cannot be read might be the one that says it did not.
            Err(error) if is_success(answer.status) => {
                let text = format!(
                    "answered {}, but outcome {} of the contract cannot be applied{}: {error}",
                    answer.status,
                    place + 1,
                    cut_note(answer),
                );
                return again(answer, about, &text, true, false);
            }
            Ok(false) | Err(_) => {}
        }
    }
    by_status(answer, about, seen.body.clone())
}

fn by_rule(rule: &Rule, answer: &Response, about: &About<'_>, seen: &Seen, scope: &Scope<'_>) -> Shown {
    let detail = match &rule.detail {
        None => None,
        Some(Detail::Text(text)) => Some(text.clone()),
        Some(Detail::Value(expr)) => {
            expr.eval(scope).ok().filter(|v| *v != Value::Null).map(|v| clip(&plain_text(&v)))
        }
    };
    let told = detail.clone().unwrap_or_else(|| said(answer, &seen.body));
    match rule.is {
        Meaning::Ok => match &rule.result {
            None => Shown::Ok { result: seen.body.clone(), detail: detail.unwrap_or_default() },
            Some(tree) => match tree.eval(scope) {
                Ok(result) => Shown::Ok { result, detail: detail.unwrap_or_default() },
                Err(why) => Shown::Unreadable { detail: unreadable(answer, &why) },
            },
        },
        Meaning::Failed => Shown::Failed { detail: told },
        Meaning::Reauthenticate => Shown::Refused { detail: told },
        Meaning::Retry => waits(rule, again(answer, about, &told, true, false), about, scope),
        Meaning::Busy => waits(rule, again(answer, about, &told, false, false), about, scope),
        Meaning::Throttled => waits(rule, again(answer, about, &told, false, true), about, scope),
    }
}

fn unreadable(answer: &Response, why: &str) -> Arc<str> {
    clip(&format!(
        "the system did it (status {}), but its answer{} has no result: {why}",
        answer.status,
        cut_note(answer)
    ))
}

/// Adds the wait that a rule takes from the answer, where `Retry-After` does not say it.
fn waits(rule: &Rule, shown: Shown, about: &About<'_>, scope: &Scope<'_>) -> Shown {
    let Shown::Again(mut again) = shown else { return shown };
    if again.not_before.is_none()
        && let Some(expr) = &rule.wait
        && let Ok(value) = expr.eval(scope)
        && let Ok(seconds) = plain_text(&value).parse::<u64>()
    {
        again.not_before = Some(about.now.plus(Duration::from_secs(seconds)));
    }
    Shown::Again(again)
}

/// What HTTP says where no rule of the contract matched (RFC 9110, 15).
fn by_status(answer: &Response, about: &About<'_>, body: Value) -> Shown {
    let told = said(answer, &body);
    match answer.status {
        200..=299 => {
            let detail = if answer.cut { clip(&format!("done{}", cut_note(answer))) } else { Arc::from("") };
            Shown::Ok { result: body, detail }
        }
        300..=399 => {
            let to = answer.headers.get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or("nowhere");
            // Only the place: a query may carry what must not be kept.
            let to = to.split('?').next().unwrap_or_default();
            Shown::Failed {
                detail: clip(&format!("answered {} to {to}: redirects are not followed", answer.status)),
            }
        }
        401 => Shown::Refused { detail: told },
        425 => again(answer, about, &told, false, false),
        429 => again(answer, about, &told, false, true),
        408 | 500..=599 => again(answer, about, &told, true, false),
        _ => Shown::Failed { detail: told },
    }
}

fn again(answer: &Response, about: &About<'_>, told: &str, uncertain: bool, throttled: bool) -> Shown {
    Shown::Again(Again { uncertain, throttled, not_before: asked(answer, about.now), detail: clip(told) })
}

fn asked(answer: &Response, now: Timestamp) -> Option<Timestamp> {
    retry_after(answer.headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// What `answer` to a probe means.
pub(super) fn probed(probe: &Probe, answer: &Response, about: &About<'_>) -> Probed {
    let seen = Seen::of(answer, about);
    let scope = seen.scope(about);
    let holds = |expr: &Formula| expr.holds(&scope).unwrap_or(false);
    if holds(&probe.found) {
        return match &probe.result {
            None => Probed::Found(seen.body.clone()),
            Some(tree) => match tree.eval(&scope) {
                Ok(result) => Probed::Found(result),
                Err(why) => Probed::Unreadable(unreadable(answer, &why)),
            },
        };
    }
    if holds(&probe.absent) {
        return Probed::Absent;
    }
    let told = said(answer, &seen.body);
    if answer.status == 401 {
        return Probed::Refused(told);
    }
    Probed::Unknown {
        detail: clip(&format!("the probe says neither found nor absent: {told}")),
        throttled: answer.status == 429,
        not_before: asked(answer, about.now),
    }
}

/// A sentence about an answer: its status, and the start of its body.
fn said(answer: &Response, body: &Value) -> Arc<str> {
    let text = match body {
        Value::Null => String::new(),
        body => format!(": {}", plain_text(body)),
    };
    clip(&format!("answered {}{}{text}", answer.status, cut_note(answer)))
}

fn cut_note(answer: &Response) -> String {
    if !answer.cut {
        return String::new();
    }
    format!(" (longer than {} bytes, cut)", answer.body.len())
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// At most [`DETAIL_MAX`] characters of `text`, on one line.
pub(super) fn clip(text: &str) -> Arc<str> {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = chars.by_ref().take(DETAIL_MAX).collect();
    if chars.next().is_some() {
        kept.push('…');
    }
    kept.into()
}

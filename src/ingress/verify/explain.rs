//! Verifying step by step, for a person who asks why a request was refused.

use syncline_actors::time::Timestamp;

use super::{Key, Refusal, Request, Verifier};

/// One step of verifying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `headers`, `signature`, `timestamp`, `freshness`, `secrets`, `match`, or `hint`, which follows a failure.
    pub name: &'static str,
    /// Whether it passed.
    pub ok: bool,
    /// What was found. Neither a secret nor a computed signature.
    pub detail: String,
}

/// Takes note of the steps that passed, if anyone wants to know.
pub(super) struct Trace<'s>(Option<&'s mut Vec<Step>>);

impl Trace<'_> {
    /// Takes no note.
    pub(super) fn off() -> Self {
        Self(None)
    }

    pub(super) fn done(&mut self, name: &'static str, detail: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.0 {
            steps.push(Step { name, ok: true, detail: detail() });
        }
    }

    /// Step `name` passed, unless that is where `result` failed.
    pub(super) fn passed<T>(
        &mut self,
        name: &'static str,
        result: &Result<T, Refusal>,
        detail: impl FnOnce() -> String,
    ) {
        if result.as_ref().err().is_none_or(|refusal| refusal.step() != name) {
            self.done(name, detail);
        }
    }
}

/// All steps up to the one that failed, and what would have helped.
pub(super) fn explain(verifier: &Verifier, request: &Request<'_>, now: i64) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Err(refusal) = verifier.walk(request, now, &mut Trace(Some(&mut steps))) {
        steps.push(Step { name: refusal.step(), ok: false, detail: refusal.to_string() });
        if matches!(refusal, Refusal::NoMatch | Refusal::NoSecretValid | Refusal::UnknownKey(_)) {
            steps.extend(hint(verifier, request, now).map(|detail| Step { name: "hint", ok: false, detail }));
        }
    }
    steps
}

/// What is nearly right: a secret out of its time, or a body that a tool has touched.
fn hint(verifier: &Verifier, request: &Request<'_>, now: i64) -> Option<String> {
    let ts = verifier.plan.timestamp(request).ok()?.map_or("", |(text, _)| text);
    if let Ok(key) = verifier.find(&|_| true, request, ts) {
        return Some(out_of_time(key, now));
    }
    let fits = |body: &[u8]| verifier.find(&|_| true, &Request { body, ..*request }, ts).is_ok();
    let trimmed = request.body.trim_ascii_end();
    if trimmed.len() < request.body.len() && fits(trimmed) {
        return Some(
            "it would fit without the white space at the end of the body: save the raw bytes".to_owned(),
        );
    }
    if fits(&[request.body, b"\n"].concat()) {
        return Some("it would fit with a line break at the end of the body: save the raw bytes".to_owned());
    }
    None
}

fn out_of_time(key: &Key, now: i64) -> String {
    match (key.not_before, key.not_after) {
        (Some(from), _) if now < from => {
            format!("the secret {:?} fits, but is valid only from {}", key.id, Timestamp(from))
        }
        (_, Some(until)) => {
            format!("the secret {:?} fits, but was valid only before {}", key.id, Timestamp(until))
        }
        _ => format!("the secret {:?} fits", key.id),
    }
}

//! A source ready to be served: its secrets taken, its description compiled.

use axum::http::{HeaderMap, HeaderName};
use syncline_actors::value::Value;

use super::identify::Identifier;
use super::source::Source;
use super::verify::{Scheme, Secret, Verifier};

/// A source and what its requests are held against.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) source: Source,
    pub(super) verifier: Verifier,
    pub(super) identifier: Identifier,
    /// Headers that hold credentials; they are neither mapped nor kept.
    hidden: Vec<HeaderName>,
}

impl Door {
    /// Takes the secrets of a source.
    pub(super) fn open(source: Source, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let (secrets, mut problems) = secrets(&source, lookup);
        let verifier = Verifier::compile(&source.preset.verify, secrets);
        let identifier = Identifier::compile(&source.preset.identify);
        let named = |problem: String| format!("source `{}`: {problem}", source.name);
        match (verifier, identifier) {
            (Ok(verifier), Ok(identifier)) if problems.is_empty() => {
                let hidden = hidden(&source);
                Ok(Self { source, verifier, identifier, hidden })
            }
            (verifier, identifier) => {
                if problems.is_empty() {
                    problems.extend(verifier.err().into_iter().flatten());
                }
                problems.extend(identifier.err().into_iter().flatten());
                Err(problems.into_iter().map(named).collect())
            }
        }
    }

    /// Whether a source that may be missing is: none of its secrets is there.
    pub(super) fn is_shut(source: &Source, lookup: &dyn Fn(&str) -> Option<String>) -> bool {
        let is_there = |reference: &str| lookup(reference).is_some_and(|value| !value.is_empty());
        source.optional && !source.secrets.iter().any(|def| is_there(&def.reference.value))
    }

    /// The headers as a map, without credentials. A header that is there twice is a list.
    pub(super) fn headers(&self, headers: &HeaderMap) -> Value {
        let shown = headers.keys().filter(|name| !self.hidden.contains(name));
        Value::map(shown.map(|name| {
            let mut values = headers
                .get_all(name)
                .iter()
                .map(|value| Value::from(&*value.as_bytes().escape_ascii().to_string()));
            let first = values.next().unwrap_or_default();
            let rest: Vec<Value> = values.collect();
            let value = if rest.is_empty() { first } else { Value::list(std::iter::once(first).chain(rest)) };
            (name.as_str(), value)
        }))
    }
}

fn hidden(source: &Source) -> Vec<HeaderName> {
    let always = ["authorization", "proxy-authorization", "cookie"].into_iter().map(HeaderName::from_static);
    // A signature is of no use to anyone later, and a token must not be kept.
    let signature = source.preset.verify.signature.headers.iter().filter_map(|name| name.parse().ok());
    always.chain(signature).collect()
}

fn secrets(source: &Source, lookup: &dyn Fn(&str) -> Option<String>) -> (Vec<Secret>, Vec<String>) {
    let (mut secrets, mut problems) = (Vec::new(), Vec::new());
    for def in &source.secrets {
        match lookup(&def.reference.value).filter(|value| !value.is_empty()) {
            Some(value) => {
                let secret = Secret::new(&*def.id, value);
                secrets.push(match def.not_after {
                    Some(at) => secret.until(at.0),
                    None => secret,
                });
            }
            None if def.optional => {}
            None => problems.push(format!(
                "secret `{}` is not there: set {}, or mark it `optional: true` ({})",
                def.id, def.reference.value, def.reference.place
            )),
        }
    }
    if secrets.is_empty() && problems.is_empty() && source.preset.verify.scheme != Scheme::None {
        problems.push("none of its secrets is there: set one of them".to_owned());
    }
    (secrets, problems)
}

//! Revisions of a source: what is older than what is known has no effect, and what is the same is a duplicate.

use std::sync::Arc;

use super::{Draft, Told};
use crate::decision::{Change, Rejection};
use crate::ownership::{Freshness, freshness};
use crate::value::Value;

impl Draft<'_> {
    /// Whether messages of this type tell their revision.
    pub(super) fn is_revised(&self, name: &str) -> bool {
        self.process.messages.get(name).is_some_and(|def| def.revision.is_some())
    }

    /// What is to be noted when the message takes effect; nothing for one without a revision.
    ///
    /// # Errors
    /// It is older than what its source has said already, or the same.
    pub(super) fn current(&mut self, name: &Arc<str>, told: &Told) -> Result<Option<Change>, Rejection> {
        let process = self.process;
        let def = process.messages.get(name).and_then(|def| def.revision.as_ref());
        let Some(expr) = def else { return Ok(None) };
        let revision = expr
            .eval(&self.scope(told).borrowed())
            .map_err(|error| Rejection::Expression(format!("revision of `{name}`: {error}").into()))?;
        let source = self.writer.clone();
        let newest = self.state.origins.as_ref().and_then(|origins| origins.revisions.get(&source));
        let digest = told.digest();
        let text = |value: &Value| -> Arc<str> { value.to_plain_text().into() };
        match (freshness(newest, &revision, digest), newest) {
            (Some(Freshness::Older), Some(newest)) => Err(Rejection::Outdated {
                source_name: source,
                revision: text(&revision),
                newest: text(&newest.revision),
            }),
            (Some(Freshness::Same), _) => {
                Err(Rejection::Repeated { source_name: source, revision: text(&revision) })
            }
            (Some(_), _) => {
                self.revision = Some(revision.clone());
                Ok(Some(Change::Revised { source, revision, digest }))
            }
            (None, newest) => {
                let before = newest.map_or_else(String::new, |newest| {
                    format!(", and cannot be compared with {}", newest.revision.preview(40))
                });
                let said = revision.preview(40);
                let problem = format!("revision of `{name}`: {said} is no number, time or text{before}");
                Err(Rejection::Expression(problem.into()))
            }
        }
    }
}

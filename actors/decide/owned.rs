//! Writing a field: at once where nobody owns it, by the rules of [`ownership`](crate::ownership) where a system does.

use std::sync::Arc;

use super::Draft;
use crate::decision::{Change, Exception, ExceptionClass, Rejection};
use crate::envelope::{Body, Intervention};
use crate::ownership::{OPERATOR, Ownership, Policy, Ruling, rule};
use crate::value::Value;

impl Draft<'_> {
    /// Writes `value` to `field`, in the name of whoever is being listened to.
    ///
    /// # Errors
    /// [`Rejection::NotOwner`]: only the owner may, and there is a sender to be told.
    pub(super) fn write(&mut self, field: &Arc<str>, value: Value) -> Result<(), Rejection> {
        let process = self.process;
        if process.record {
            self.wrote.push((field.clone(), self.writer.clone()));
        }
        let Some(ownership) = process.ownership(field) else {
            self.change(Change::Assigned { field: field.clone(), value });
            return Ok(());
        };
        let known = self.state.origins.as_ref().and_then(|origins| origins.of(field));
        match rule(ownership, known, &self.writer, self.state.field(field), &value) {
            Ruling::Same => {
                let writer = self.writer.clone();
                self.close_conflicts(|e| is_about(e, field, Some(&writer)), "it says the same now");
            }
            Ruling::Write => {
                self.written(field, value.clone(), ownership);
                let agreed =
                    |e: &Exception| is_about(e, field, None) && e.detail.get("proposed") == Some(&value);
                self.close_conflicts(agreed, "both say the same now");
            }
            Ruling::Conflict(Policy::Reject) if self.is_answered() => {
                return Err(Rejection::NotOwner {
                    field: field.clone(),
                    owner: ownership.owner.clone(),
                    by: self.writer.clone(),
                });
            }
            Ruling::Conflict(policy) => self.conflict(field, value, ownership, policy),
        }
        Ok(())
    }

    fn close_conflicts(&mut self, which: impl Fn(&Exception) -> bool, reason: &str) {
        if !self.state.exceptions.is_empty() {
            self.close_all(which, reason);
        }
    }

    /// Writes every entry of a map below `field`, and leaves the others that stand there.
    ///
    /// # Errors
    /// As [`Draft::write`], and when it is no map.
    pub(super) fn write_each(&mut self, field: &str, entries: &Value) -> Result<(), Rejection> {
        let Some(map) = entries.as_map() else {
            if entries.is_null() {
                return Ok(());
            }
            let problem = format!("field `{field}.*`: {} is no map", entries.preview(40));
            return Err(Rejection::Expression(problem.into()));
        };
        for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            self.write(&format!("{field}.{key}").into(), value.clone())?;
        }
        Ok(())
    }

    /// Whether somebody waits for an answer: an outcome and a timer cannot be told no.
    fn is_answered(&self) -> bool {
        matches!(self.envelope.body, Body::Command(_) | Body::Event(_) | Body::Intervention(_))
    }

    fn written(&mut self, field: &Arc<str>, value: Value, ownership: &Ownership) {
        let known = self.state.origins.as_ref().and_then(|origins| origins.of(field));
        let owned = *ownership.owner == *self.writer || known.is_some_and(|known| known.owned);
        let (by, revision) = (self.writer.clone(), self.revision.clone());
        self.change(Change::Written { field: field.clone(), value, by, revision, owned });
    }

    fn conflict(&mut self, field: &Arc<str>, value: Value, ownership: &Ownership, policy: Policy) {
        // A person has said why already, under their name: to ask a person again would ask nobody else.
        let by_hand = *self.writer == *OPERATOR && policy == Policy::Hold;
        let policy = if by_hand { Policy::Accept } else { policy };
        if policy == Policy::Hold && self.is_held(field, &value) {
            return;
        }
        self.change(Change::Disputed {
            field: field.clone(),
            value: value.clone(),
            by: self.writer.clone(),
            owner: ownership.owner.clone(),
            policy,
        });
        match policy {
            Policy::Reject => {}
            Policy::Accept => self.written(field, value, ownership),
            Policy::Hold => self.hold_conflict(field, value, ownership),
        }
    }

    fn hold_conflict(&mut self, field: &Arc<str>, value: Value, ownership: &Ownership) {
        let (by, owner) = (self.writer.clone(), &ownership.owner);
        self.close_all(|e| is_about(e, field, Some(&by)), "it says something else now");
        let standing = self.state.field(field).cloned().unwrap_or_default();
        let summary = format!(
            "`{by}` says that {field} is {}; `{owner}`, which owns it, says {}",
            value.preview(60),
            standing.preview(60)
        );
        let detail = Value::map([
            ("field", Value::from(&**field)),
            ("owner", Value::from(&**owner)),
            ("standing", standing),
            ("by", Value::from(&*by)),
            ("proposed", value),
            ("revision", self.revision.clone().unwrap_or_default()),
        ]);
        self.open(ExceptionClass::Conflict, None, summary, detail, "");
    }

    /// Whether a person is looking at just this already.
    fn is_held(&self, field: &str, value: &Value) -> bool {
        let mut open = self.state.exceptions.values();
        open.any(|e| is_about(e, field, Some(&self.writer)) && e.detail.get("proposed") == Some(value))
    }

    /// A person decides for the value that was proposed, or for one of their own.
    pub(super) fn overrule(
        &mut self,
        by: &Intervention,
        exception: &Exception,
        set: &Value,
    ) -> Result<(), Rejection> {
        let Some(field) = exception.detail.get("field").and_then(Value::as_text) else {
            return Err(self.nothing_to("retry", exception));
        };
        let field: Arc<str> = field.into();
        let mut rest = set.as_map().cloned().unwrap_or_default();
        let own = rest.remove(&*field);
        let value = own.or_else(|| exception.detail.get("proposed").cloned()).unwrap_or_default();
        if !set.is_null() {
            self.set_by_hand(&if set.as_map().is_some() { Value::Map(rest.into()) } else { set.clone() })?;
        }
        self.close(by, exception);
        let owned = self.state.origins.as_ref().and_then(|o| o.of(&field)).is_some_and(|known| known.owned);
        let revision = exception.detail.get("revision").filter(|revision| !revision.is_null()).cloned();
        self.change(Change::Written { field, value, by: OPERATOR.into(), revision, owned });
        Ok(())
    }
}

/// Whether an exception is a conflict over `field`, of that system if one is named.
fn is_about(exception: &Exception, field: &str, by: Option<&str>) -> bool {
    let says = |key: &str, text: &str| exception.detail.get(key).and_then(Value::as_text) == Some(text);
    exception.class == ExceptionClass::Conflict && says("field", field) && by.is_none_or(|by| says("by", by))
}

//! What is shown of an entity: a copy in which masked fields stand by their end only. Pages, API and command line show nothing else.

use std::borrow::Cow;

use syncline_actors::decision::{Change, Effect, Exception};
use syncline_actors::entity::State;
use syncline_actors::envelope::{Action, Body};
use syncline_actors::mask::Mask;
use syncline_actors::outbox::ExceptionRow;
use syncline_actors::record::Record;

/// An entity's state.
pub(super) fn state(mask: &Mask, state: State) -> State {
    if mask.is_empty() {
        return state;
    }
    let mut shown = state;
    shown.fields = mask.shown(&shown.fields);
    for step in &mut shown.steps {
        step.input = mask.shown(&step.input);
        step.result = mask.shown(&step.result);
    }
    shown.pending.values_mut().chain(shown.parked.values_mut()).for_each(|effect| hide_effect(mask, effect));
    shown.deferred.iter_mut().for_each(|waiting| hide_body(mask, &mut waiting.body));
    shown.exceptions.values_mut().for_each(|exception| hide_exception(mask, exception));
    shown
}

/// A record of its journal.
pub(super) fn record<'r>(mask: &Mask, record: &'r Record) -> Cow<'r, Record> {
    if mask.is_empty() {
        return Cow::Borrowed(record);
    }
    let mut shown = record.clone();
    hide_body(mask, &mut shown.envelope.body);
    shown.changes.iter_mut().for_each(|change| hide_change(mask, change));
    Cow::Owned(shown)
}

/// A row of the list of exceptions.
pub(super) fn row<'r>(mask: &Mask, row: &'r ExceptionRow) -> Cow<'r, ExceptionRow> {
    if mask.is_empty() {
        return Cow::Borrowed(row);
    }
    let mut shown = row.clone();
    hide_exception(mask, &mut shown.exception);
    Cow::Owned(shown)
}

fn hide_exception(mask: &Mask, exception: &mut Exception) {
    exception.detail = mask.shown(&exception.detail);
}

fn hide_effect(mask: &Mask, effect: &mut Effect) {
    effect.input = mask.shown(&effect.input);
}

fn hide_body(mask: &Mask, body: &mut Body) {
    match body {
        Body::Command(command) => command.data = mask.shown(&command.data),
        Body::Event(event) => event.data = mask.shown(&event.data),
        Body::Outcome(outcome) => outcome.result = mask.shown(&outcome.result),
        Body::Intervention(intervention) => match &mut intervention.action {
            Action::Retry { set, .. } => *set = mask.shown(set),
            Action::Resolve { result, .. } => *result = mask.shown(result),
            Action::Migrate(migration) => migration.fields = mask.shown(&migration.fields),
        },
        Body::Timer(_) => {}
    }
}

fn hide_change(mask: &Mask, change: &mut Change) {
    match change {
        Change::Assigned { field, value }
        | Change::Written { field, value, .. }
        | Change::Disputed { field, value, .. } => *value = mask.shown_at(field, value),
        Change::Emitted(effect) | Change::Reissued(effect) | Change::Parked { effect, .. } => {
            hide_effect(mask, effect);
        }
        Change::Resolved { effect, result } => {
            hide_effect(mask, effect);
            *result = mask.shown(result);
        }
        Change::Settled { result, .. } => *result = mask.shown(result),
        Change::Migrated { fields, .. } => *fields = mask.shown(fields),
        Change::Deferred { body, .. } => hide_body(mask, body),
        Change::Opened(exception) => hide_exception(mask, exception),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use syncline_actors::ownership::Policy;
    use syncline_actors::value::Value;

    use super::*;

    #[test]
    fn a_field_that_is_masked_is_shown_by_its_end_whoever_wrote_it_or_wanted_to() {
        let (field, value) = ("iban", || Value::from("DE89370400440532013000"));
        let by = |name: &str| name.into();
        let changes = [
            Change::Assigned { field: field.into(), value: value() },
            Change::Written {
                field: field.into(),
                value: value(),
                by: by("erp"),
                revision: None,
                owned: true,
            },
            Change::Disputed {
                field: field.into(),
                value: value(),
                by: by("shop"),
                owner: by("erp"),
                policy: Policy::Hold,
            },
        ];
        let mask = Mask::new([field]);
        for mut change in changes {
            hide_change(&mask, &mut change);
            let shown = format!("{change:?}");
            assert!(!shown.contains("DE8937040044") && shown.contains("3000"), "{shown}");
        }
    }
}

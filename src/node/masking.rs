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
        Change::Assigned { field, value } => *value = mask.shown_at(field, value),
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

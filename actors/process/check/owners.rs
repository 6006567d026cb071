//! What a checker finds about owners of fields: writes that can only ever be conflicts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Checker;
use crate::document::{Place, Problem};
use crate::mapping::Mapping;
use crate::ownership::{PROCESS, Policy};
use crate::process::{FieldKind, Process, Transition, Trigger};
use crate::subscription::{EFFECT, IDS, Subscription};

impl Checker<'_> {
    pub(super) fn owners(&mut self) {
        self.ids();
        if !self.process.has_owners {
            return;
        }
        self.answers();
        self.timers();
    }

    /// A record keeps the ids it has in other systems, and its effects have names that no subscription takes.
    fn ids(&mut self) {
        let process = self.process;
        if !process.record {
            return;
        }
        if process.fields.get(IDS).is_none_or(|field| field.kind != FieldKind::Map) {
            let message = format!("a record keeps its ids in other systems in the field `{IDS}`");
            self.error(&process.place, format!("fields.{IDS}"), message, format!("add `{IDS}: map`"));
        }
        for (name, def) in process.effects.iter().filter(|(name, _)| name.starts_with(EFFECT)) {
            let message = format!("`{name}` is called as what brings a subscriber of the record up to date");
            let fix = format!("give it a name that does not begin with `{EFFECT}`");
            self.error(&def.place, format!("effects.{name}"), message, fix);
        }
    }

    /// What a system answers is its word: it is not kept in a field that only another may write.
    fn answers(&mut self) {
        let process = self.process;
        for (name, def) in &process.effects {
            for (field, _) in &def.keep {
                let Some(ownership) = process.ownership(field) else { continue };
                if ownership.owner != def.connector && ownership.policy == Policy::Reject {
                    let message = format!(
                        "`{field}` is never kept: `{}` owns it and `{}` answers",
                        ownership.owner, def.connector
                    );
                    let fix = "keep it in another field, or give it `conflict: hold` or `accept`";
                    self.error(&def.place, format!("effects.{name}.keep.{field}"), message, fix);
                }
            }
        }
    }

    /// When a timer fires or all is settled nobody speaks: the process writes by itself.
    fn timers(&mut self) {
        let process = self.process;
        let by_itself = |trigger: &Trigger| {
            use Trigger::{Compensated, InSync, OutOfSync, Settled};
            matches!(trigger, Settled | Compensated | InSync | OutOfSync)
        };
        for (name, state) in &process.states {
            let after = state.timers.iter().flat_map(|timer| &timer.then);
            let on = state.on.iter().filter(|(trigger, _)| by_itself(trigger)).flat_map(|(_, all)| all);
            for transition in after.chain(on) {
                self.writes_by_itself(&format!("states.{name}"), transition);
            }
        }
    }

    fn writes_by_itself(&mut self, path: &str, transition: &Transition) {
        let process = self.process;
        for (field, ownership) in owned(process, &transition.set) {
            if **ownership != *PROCESS {
                let message =
                    format!("`{field}` is written here by no system, and `{ownership}` owns it: a conflict");
                let fix = "write another field, or `owner: process` if it is the process's own";
                self.error(&transition.place, format!("{path}.{field}"), message, fix);
            }
        }
    }
}

/// The fields of an assignment that have an owner, with it.
fn owned<'p>(
    process: &'p Process,
    set: &'p [(Arc<str>, Mapping)],
) -> impl Iterator<Item = (&'p Arc<str>, &'p Arc<str>)> {
    set.iter().filter_map(|(field, _)| Some((field, &process.ownership(field)?.owner)))
}

/// What is wrong with a subscription to the records of `process`.
pub fn subscription(process: &Process, subscription: &Subscription) -> Vec<Problem> {
    let mut checker = Checker { process, problems: Vec::new() };
    let path = format!("subscribes.{}", process.name);
    if !process.record {
        let message = format!("`{}` tells nobody its changes: it is no record", process.name);
        checker.error(&subscription.place, &path, message, "add `record: true` to the process");
    }
    let fields = subscription.looks_at.iter().filter(|field| *field != "entity");
    checker.problems.extend(unknown_fields(
        process,
        (&subscription.place, &path),
        fields.map(String::as_str),
    ));
    checker.problems
}

/// Which of `names`, read at a place under a path, are no fields of `process`.
pub fn unknown_fields<'n>(
    process: &Process,
    (place, path): (&Place, &str),
    names: impl IntoIterator<Item = &'n str>,
) -> Vec<Problem> {
    let mut checker = Checker { process, problems: Vec::new() };
    names.into_iter().for_each(|name| checker.known_field(place, path, name));
    checker.problems
}

/// The owners that a process names, each with a place where: for checks across files.
pub fn named(process: &Process) -> BTreeMap<Arc<str>, (Place, String)> {
    let owner = |(name, field): (&String, &crate::process::Field)| {
        let owner = field.ownership.as_ref()?.owner.clone();
        Some((owner, (field.place.clone(), format!("fields.{name}.owner"))))
    };
    process.fields.iter().filter_map(owner).collect()
}

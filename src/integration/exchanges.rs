//! What goes between a process and the systems: what calls give their operations, and what is looked at of the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use syncline_actors::document::Spanned;
use syncline_actors::expr::Expr;
use syncline_actors::process::{Process, check};
use syncline_actors::subscription::Subscription;

use super::Loader;
use crate::delivery::contract::{Connector, Reconcile};

impl Loader<'_> {
    /// What effects give the operations that they call, and what processes look at of the answers.
    pub(super) fn check_exchanges(&self, process: &Process, connectors: &BTreeMap<Arc<str>, Connector>) {
        for (name, def) in process.effects.iter().filter(|(_, def)| def.send.is_none()) {
            let called =
                connectors.get(&def.connector).and_then(|found| found.operations.get(&def.operation));
            let Some(called) = called else { continue }; // which is told by who looks for it
            let called = (&*def.connector, &**called);
            self.check_call_gives((&def.place, &format!("effects.{name}.with")), &def.input, called, &[]);
            let read = check::answers(process, name).unwrap_or_default();
            let read = read.keys().map(String::as_str);
            self.check_answer_gives((&def.place, &format!("effects.{name}")), read, called);
        }
    }

    /// What a record's subscriber gives its own operations.
    pub(super) fn check_subscription(&self, kind: &str, told: &Subscription, connector: &Connector) {
        for operation in told.operations().filter_map(|name| connector.operations.get(name)) {
            let called = (&*connector.name, &**operation);
            self.check_call_gives(
                (&told.place, &format!("subscribes.{kind}.with")),
                &told.input,
                called,
                &["id"],
            );
            let read: Vec<_> =
                told.id.iter().flat_map(Expr::references).filter_map(|path| path.get(1).cloned()).collect();
            let read = read.iter().map(String::as_str);
            self.check_answer_gives((&told.place, &format!("subscribes.{kind}.id")), read, called);
        }
    }

    /// What a reconciliation looks at of the entity must be there.
    pub(super) fn check_looked_at(&self, process: &Process, how: &Reconcile) {
        let known = |at: &Spanned<String>, part: &str, paths: Vec<Vec<String>>| {
            let of_process = paths.iter().filter(|path| path[0] == *process.name);
            let names: BTreeSet<&str> = of_process.filter_map(|path| Some(path.get(1)?.as_str())).collect();
            let path = format!("{}.{part}", how.kind.path);
            for problem in check::unknown_fields(process, (&at.place, &path), names) {
                self.reader.note(problem);
            }
        };
        known(&how.kind, "when", how.when.iter().flat_map(Expr::references).collect());
        known(&how.read, "with", how.with.references());
        how.repair.iter().for_each(|repair| known(&repair.call, "repair.with", repair.with.references()));
        for field in &how.fields {
            known(&field.name, &format!("fields.{}.ours", field.name.value), field.ours.references());
        }
    }

    /// What a reconciliation gives the operations that it calls, and what it looks at of the answers.
    pub(super) fn check_compared(&self, process: &Process, how: &Reconcile, connector: &Connector) {
        let operation = |call: &Spanned<String>| {
            let found = connector.operations.get(&*call.value)?; // else it is told that there is none
            Some((&*connector.name, &**found))
        };
        let looks = |at: &Spanned<String>, path: &str, called, exprs: &[&Expr]| {
            let read: Vec<_> =
                exprs.iter().flat_map(|expr| expr.references()).filter(|path| path[0] == "result").collect();
            let read = read.iter().filter_map(|path| path.get(1).map(String::as_str));
            self.check_answer_gives((&at.place, &format!("{}.{path}", how.kind.path)), read, called);
        };
        let path = |part: &str| format!("{}.{part}", how.kind.path);
        if let Some(called) = operation(&how.read) {
            self.check_call_gives((&how.read.place, &path("with")), &how.with, called, &[]);
            looks(&how.read, "absent", called, &how.absent.iter().collect::<Vec<_>>());
            for field in &how.fields {
                looks(&field.name, &format!("fields.{}.theirs", field.name.value), called, &[&field.theirs]);
            }
        }
        if let Some((repair, called)) =
            how.repair.as_ref().and_then(|repair| Some((repair, operation(&repair.call)?)))
        {
            self.check_call_gives((&repair.call.place, &path("repair.with")), &repair.with, called, &[]);
        }
        if let Some((list, called)) = how.list.as_ref().and_then(|list| Some((list, operation(&list.call)?)))
        {
            let exprs: Vec<_> = [&list.items].into_iter().chain(&list.cursor).collect();
            looks(&list.call, "list", called, &exprs);
        }
        if let Some(take) = &how.take {
            self.check_message_gives(
                (&take.event.place, &path("take.map")),
                &take.map,
                process,
                &take.event.value,
            );
        }
    }
}

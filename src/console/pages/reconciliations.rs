//! What was read back from other systems, and what of it did not agree.

use maud::{Markup, html};

use crate::api::Reconciliation;

pub(super) fn page(runs: &[Reconciliation]) -> Markup {
    html! {
        h1 { "Reconciliation" }
        @if runs.is_empty() {
            p.said { "Nothing was reconciled yet. A connector says how under `reconcile`; begin with `syncline reconcile`." }
        } @else {
            table {
                thead { tr {
                    th { "Began" } th { "What" } th { "By" } th { "State" } th { "Checked" } th { "Equal" } th { "Drift" }
                    th { "Repaired" } th { "Left" } th { "Fields" }
                } }
                tbody { @for run in runs { (row(run)) } }
            }
        }
    }
}

fn row(run: &Reconciliation) -> Markup {
    let drift = [
        ("differ", run.differs),
        ("missing", run.missing),
        ("unknown", run.unknown),
        ("stale", run.stale),
        ("unread", run.unread),
    ];
    let drift: Vec<String> =
        drift.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}")).collect();
    let fields: Vec<String> = run.by_field.iter().map(|(name, count)| format!("{name} {count}")).collect();
    html! {
        tr {
            td { (run.began) }
            td { a href={ "/entities/" (run.id) } { (run.process) " in " (run.system) } }
            td { (run.by) @if run.dry_run { " (looks only)" } }
            td { @if run.status == "drifted" { strong { "somebody must look" } } @else { (run.status) } }
            td { (run.checked) }
            td { (run.equal) }
            td { (drift.join(", ")) }
            td { (run.repaired + run.taken) }
            td { (run.unrepaired + run.unread) }
            td { (fields.join(", ")) }
        }
    }
}

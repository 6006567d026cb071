//! One entity: how it stands, what it waits for, and everything that happened to it.

use maud::{Markup, html};

use super::RECORDS;
use super::exceptions::card;
use super::words::{entity, entity_path, fields, flow_path, spaced, time, to_the_second};
use crate::api::{Entity, Entry, Page};

pub(super) fn page(entity: &Entity, timeline: &Page<Entry>, may_decide: bool) -> Markup {
    html! {
        h1 { (entity.id) }
        p.facts {
            @match &entity.ending {
                Some(ending) => span { "ended: " strong { (spaced(ending)) } },
                None => span { "now: " strong { (spaced(&entity.status)) } },
            }
            span { "since " (time(&entity.since)) }
            span { "began " (time(&entity.began_at)) }
            span { "flow " a href=(flow_path(&entity.correlation_id)) { (entity.correlation_id) } }
            span { "process version " (entity.version) }
        }
        @if !entity.exceptions.is_empty() {
            section {
                h2 { "Needs a person " span.count { (entity.exceptions.len()) } }
                @for exception in &entity.exceptions { (card(exception, may_decide, false)) }
            }
        }
        section { h2 { "Data" } article { (fields(&entity.fields)) } }
        (owners(entity))
        (systems(entity))
        (pending(entity))
        (done(entity))
        (waits(entity))
        (history(entity, timeline))
    }
}

fn owners(entity: &Entity) -> Markup {
    html! {
        @if !entity.owners.is_empty() {
            section {
                h2 { "Who owns what" }
                div.wide { table {
                    thead { tr { th { "Field" } th { "Owner" } th { "Others" } th { "Written by" } th { "At" } th { "Revision" } } }
                    tbody { @for (field, owned) in &entity.owners { tr {
                        td { (spaced(field)) }
                        td { (owned.owner) }
                        td { (owned.conflict) }
                        td { @match &owned.by { Some(by) => (by), None => span.nobody { "nobody yet" } } }
                        td { @if let Some(at) = &owned.at { (time(at)) } }
                        td { @if let Some(revision) = &owned.revision { (revision) } }
                    } } }
                } }
            }
        }
    }
}

fn systems(entity: &Entity) -> Markup {
    html! {
        @if !entity.systems.is_empty() {
            section {
                h2 { "Who has it" }
                article { dl.fields { @for (system, synced) in &entity.systems {
                    @let linked = system.strip_prefix("xref:");
                    dt { (linked.unwrap_or(system)) }
                    dd {
                        @if linked.is_some() { "finds it by its own id: " }
                        @if synced.stand == "in_sync" { "in sync" } @else { span.nobody { (spaced(&synced.stand)) } }
                        " since " (time(&synced.since))
                    }
                } } }
            }
        }
    }
}

fn pending(entity: &Entity) -> Markup {
    html! {
        @if !entity.pending.is_empty() {
            section {
                h2 { "Under way" }
                div.wide { table {
                    thead { tr { th { "What" } th { "System" } th { "Tries" } th { "Next" } th { "Last answer" } } }
                    tbody { @for effect in &entity.pending { tr {
                        td title=(format!("{}, key {}", effect.effect, effect.idempotency_key)) { (spaced(&effect.name)) }
                        td { (effect.connector) }
                        td { (effect.attempts) }
                        td { @if let Some(due) = &effect.due { (time(due)) } @else { "being decided" } }
                        td { (effect.last) }
                    } } }
                } }
            }
        }
    }
}

fn done(entity: &Entity) -> Markup {
    html! {
        @if !entity.steps.is_empty() {
            section {
                h2 { "Done" }
                @for step in &entity.steps {
                    details.row {
                        summary { (spaced(&step.name)) @if step.undone { " " span.nobody { "undone" } } }
                        (fields(&step.result))
                    }
                }
            }
        }
    }
}

fn waits(entity: &Entity) -> Markup {
    let words = |words: &[String]| words.iter().map(|word| spaced(word)).collect::<Vec<_>>().join(", ");
    let lists =
        [("reached", &entity.reached), ("missed", &entity.missed), ("messages that wait", &entity.waiting)];
    let is_empty = entity.timers.is_empty() && lists.iter().all(|(_, list)| list.is_empty());
    html! {
        @if !is_empty {
            section {
                h2 { "Times and milestones" }
                article { dl.fields {
                    @for (name, due) in &entity.timers { dt { (spaced(name)) } dd { "due " (time(due)) } }
                    @for (name, list) in lists {
                        @if !list.is_empty() { dt { (name) } dd { (words(list)) } }
                    }
                } }
            }
        }
    }
}

fn history(entity: &Entity, timeline: &Page<Entry>) -> Markup {
    let path = entity_path(&entity.id);
    let first = timeline.items.first().map_or(1, |entry| entry.seq);
    let last = timeline.items.last().map_or(0, |entry| entry.seq);
    html! {
        section {
            h2 { "History" }
            p.quiet { "The newest is on top. " (entity.seq) @if entity.seq == 1 { " record" } @else { " records" } " in all." }
            ol.history { @for entry in timeline.items.iter().rev() { (record(entry)) } }
            p.pages {
                @if last < entity.seq { a.button href=(format!("{path}?from={}", last + 1)) { "Later" } }
                @if first > 1 {
                    a.button href=(format!("{path}?from={}", first.saturating_sub(RECORDS as u64).max(1))) { "Earlier" }
                }
            }
        }
    }
}

fn record(entry: &Entry) -> Markup {
    html! {
        li {
            p.facts {
                span { (to_the_second(&entry.at)) }
                span { strong { (entry.name) } }
                span { (entry.kind) " from " (entry.source) }
                @match entry.verdict.as_str() {
                    "applied" => span { (spaced(&entry.status)) },
                    other => span.nobody { (other) },
                }
            }
            @if let Some(problem) = &entry.problem { p.said { (problem) } }
            @if !entry.changes.is_empty() { ul { @for change in &entry.changes { li { (change) } } } }
            details {
                summary { "Record " (entry.seq) }
                dl.fields {
                    dt { "message id" } dd { (entry.message_id) }
                    dt { "flow" } dd { (entry.correlation_id) }
                    @if let Some(causation) = &entry.causation_id { dt { "follows from" } dd { (causation) } }
                    dt { "original kept" } dd { (entry.evidence_bytes) " bytes" }
                    dt { "hash before" } dd.code { (entry.prev) }
                }
                @if let Some(data) = &entry.data { (fields(data)) }
            }
        }
    }
}

/// What a search found.
pub(super) fn found(term: &str, ids: &[String]) -> Markup {
    html! {
        h1 { "Search" }
        @if ids.is_empty() { p.empty { "Nothing is known by “" (term) "”." } } @else {
            p.quiet { "Known by “" (term) "”:" }
            ul.found { @for id in ids { li { (entity(id)) } } }
        }
    }
}

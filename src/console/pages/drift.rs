//! Where messages have come away from their schemas.

use maud::{Markup, html};

use super::words::{entity, time};
use crate::api::{Drift, DriftReport};

/// Kinds of drift for people, those first that hold messages as a rule.
const KINDS: [(&str, &str); 5] = [
    ("missing_field", "Fields that are missing or were renamed"),
    ("type_change", "Another type"),
    ("new_enum_value", "New values"),
    ("other", "Other differences"),
    ("new_field", "New fields"),
];

pub(super) fn page(report: &DriftReport) -> Markup {
    html! {
        div.top { h1 { "Drift" } }
        p.quiet {
            "Where what other systems send has come away from what was agreed. Counted by node " (report.node)
            " since it started; what waits is of all nodes. When schema and mapping are mended, what waits is sent through once more: "
            code { "syncline exceptions retry --class quarantine --source … --type … --dry-run" }
        }
        @if report.items.is_empty() { p.empty { "Every message is as its schema says." } }
        @for (word, title) in KINDS {
            @let items: Vec<&Drift> = report.items.iter().filter(|item| item.kind == word).collect();
            @if !items.is_empty() {
                section {
                    h2 { (title) " " span.count { (items.len()) } }
                    @for item in items { (card(item)) }
                }
            }
        }
    }
}

fn card(item: &Drift) -> Markup {
    html! {
        article {
            h3 { code { (item.path) } }
            p.facts {
                span { (item.source) " " strong { (item.event_type) } }
                span { (item.count) " seen" }
                @if item.held > 0 { span { (item.held) " held" } }
                @if item.waiting > 0 { span.nobody { (item.waiting) " waiting" } }
                @if let Some(last) = &item.last { span { "last " (time(last)) } }
            }
            @if !item.said.is_empty() { p.quiet { (item.said) } }
            @if !item.entities.is_empty() {
                p { "Meant for " @for (index, id) in item.entities.iter().enumerate() {
                    @if index > 0 { ", " } (entity(id))
                } }
            }
        }
    }
}

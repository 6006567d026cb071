//! The list of exceptions, and one exception with what can be done about it.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::words::{CLASSES, encoded, entity, entity_path, fields, flow_path, time, title};
use crate::api::{Exception, ExceptionQuery, Page};

/// All exceptions of a page, grouped by class.
pub(super) fn list(page: &Page<Exception>, query: &ExceptionQuery, may_decide: bool) -> Markup {
    let mut groups: BTreeMap<(usize, &str), Vec<&Exception>> = BTreeMap::new();
    for exception in &page.items {
        let class = exception.class.as_str();
        let place = CLASSES.iter().position(|known| known.word == class).unwrap_or(CLASSES.len());
        groups.entry((place, class)).or_default().push(exception);
    }
    html! {
        div.top { h1 { "Exceptions" } (filter(query)) }
        @if page.items.is_empty() {
            p.empty { "Nothing waits for a person" @if query.class.is_some() || query.kind.is_some() { " with this filter" } "." }
        }
        @for ((place, class), exceptions) in &groups {
            section {
                h2 { (title(class)) " " span.count { (exceptions.len()) } }
                @if let Some(known) = CLASSES.get(*place) { p.quiet { (known.help) } }
                @for exception in exceptions { (card(exception, may_decide, true)) }
            }
        }
        @if let Some(next) = &page.next { p { a.button href=(more(query, next)) { "More exceptions" } } }
    }
}

fn filter(query: &ExceptionQuery) -> Markup {
    html! {
        form.filter action="/exceptions" {
            select name="class" aria-label="Kind of exception" {
                option value="" { "All kinds" }
                @for class in CLASSES {
                    option value=(class.word) selected[query.class.as_deref() == Some(class.word)] { (class.title) }
                }
            }
            input name="kind" value=[query.kind.as_deref()] placeholder="Process, e.g. order" aria-label="Process";
            button { "Show" }
        }
    }
}

fn more(query: &ExceptionQuery, next: &str) -> String {
    let pairs = [("after", Some(next)), ("kind", query.kind.as_deref()), ("class", query.class.as_deref())];
    let set = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?))));
    format!("/exceptions?{}", set.collect::<Vec<_>>().join("&"))
}

/// What a person must know of one exception, and what they can do. `is_listed`: it stands among those of other entities.
pub(super) fn card(exception: &Exception, may_decide: bool, is_listed: bool) -> Markup {
    html! {
        article {
            h3 { (exception.summary) }
            p.facts {
                @if is_listed { span { (entity(&exception.entity)) } } @else { span { (title(&exception.class)) } }
                @if let Some(opened_at) = &exception.opened_at { span { "since " (time(opened_at)) } }
                @if exception.owner.is_empty() { span.nobody { "no owner" } }
                @else { span { "owner " strong { (exception.owner) } } }
            }
            div.choices {
                @if may_decide {
                    @let (retry, resolve) = if exception.class == "conflict" { (&TAKE, &KEEP) } else { (&RETRY, &RESOLVE) };
                    details.act { summary { (retry.title) } (decide(exception, retry)) }
                    details.act { summary { (resolve.title) } (decide(exception, resolve)) }
                }
                details {
                    summary { "Details" }
                    dl.fields {
                        dt { "exception" } dd { (exception.id) }
                        dt { "flow" }
                        dd { a href=(flow_path(&exception.correlation_id)) { (exception.correlation_id) } }
                    }
                    (fields(&exception.detail))
                }
            }
        }
    }
}

struct Deed {
    title: &'static str,
    action: &'static str,
    explains: &'static str,
    reason: &'static str,
    json: &'static str,
    example: &'static str,
    button: &'static str,
}

const RETRY: Deed = Deed {
    title: "Try again",
    action: "/exceptions/retry",
    explains: "Do this when the cause is gone. It goes on from where it stopped; steps that are done stay done.",
    reason: "What has changed?",
    json: "Fields to correct first, as JSON (leave empty if none)",
    example: r#"{"vat_id": "DE123456789"}"#,
    button: "Try again",
};

const RESOLVE: Deed = Deed {
    title: "Settle by hand",
    action: "/exceptions/resolve",
    explains: "Do this when you have done it yourself, or when nothing more is to be done. It will not be tried again.",
    reason: "What was done, and why?",
    json: "The result of the step, as JSON, if later steps need it (e.g. a document number)",
    example: r#"{"invoice_id": "R-2026-0815"}"#,
    button: "Settle",
};

const TAKE: Deed = Deed {
    title: "Take the new value",
    action: "/exceptions/retry",
    explains: "The value that was proposed replaces that of the owner. Correct it at the owner too, or its next message brings the old one back.",
    reason: "Why is it right?",
    json: "Another value for the field, as JSON (leave empty to take the proposed one)",
    example: r#"{"email": "billing@acme.example"}"#,
    button: "Take it",
};

const KEEP: Deed = Deed {
    title: "Keep the owner's",
    action: "/exceptions/resolve",
    explains: "The owner's value stays, and the system that wanted another is told it again where it wants to be told.",
    reason: "Why does it stay?",
    json: "Nothing is needed here",
    example: "null",
    button: "Keep it",
};

fn decide(exception: &Exception, deed: &Deed) -> Markup {
    html! {
        form method="post" action=(deed.action) {
            p.quiet { (deed.explains) }
            input type="hidden" name="id" value=(exception.id);
            label { (deed.reason) " It stands in the journal under your name."
                textarea name="reason" required rows="2" maxlength="1000" {}
            }
            details {
                summary { "For experts" }
                label { (deed.json) textarea.code name="json" rows="2" placeholder=(deed.example) spellcheck="false" {} }
            }
            button { (deed.button) }
        }
    }
}

/// What the decision just sent came to.
pub(super) fn done(done: &str, id: &str) -> Markup {
    let said = if done == "retry" { "is being tried again." } else { "is settled." };
    let of = id.rsplit_once('#').map_or(id, |(of, _)| of);
    html! { p.done role="status" { a href=(entity_path(of)) { (of) } " " (said) } }
}

//! Who answers for which integration, how urgent it is, and whether it works.

use maud::{Markup, html};

use crate::api::{Balance, Class, Connector, Source};

pub(super) fn page(sources: &[Source], connectors: &[Connector], balance: &[Balance]) -> Markup {
    html! {
        h1 { "Integrations" }
        h2 { "What sends to us" }
        table {
            thead { tr { th { "Source" } th { "Owner" } th { "Class" } th { "How" } th { "State" } } }
            tbody {
                @for source in sources {
                    tr {
                        td { (source.title) " (" (source.name) ")" }
                        td { (source.owner) }
                        td { (class(&source.class)) }
                        td { (how(source)) }
                        td { (state(source)) }
                    }
                }
            }
        }
        h2 { "What we call" }
        table {
            thead { tr { th { "Connector" } th { "Owner" } th { "Class" } th { "State" } th { "Waiting" } } }
            tbody {
                @for connector in connectors {
                    tr {
                        td { (connector.title) " (" (connector.name) ")" }
                        td { (connector.owner) }
                        td { (class(&connector.class)) }
                        td {
                            @if connector.paused { "paused" }
                            @else if connector.breaker != "closed" { "breaker " (connector.breaker) }
                            @else if connector.late { "late" }
                            @else { "running" }
                        }
                        td {
                            (connector.waiting.map_or_else(|| "?".to_owned(), |waiting| waiting.to_string()))
                            @if let Some(patient) = connector.patient.filter(|patient| *patient > 0) { " (" (patient) " can wait)" }
                        }
                    }
                }
            }
        }
        h2 { "What came, and what became of it" }
        table {
            thead { tr {
                th { "Source" } th { "Received" } th { "Applied" } th { "Ignored" } th { "Rejected" } th { "Quarantined" } th { "Open" }
                th { "Duplicate" } th { "Missing" }
            } }
            tbody { @for line in balance { (sums(line)) } }
        }
    }
}

fn sums(line: &Balance) -> Markup {
    let counts = [
        line.received,
        line.applied,
        line.ignored,
        line.rejected,
        line.quarantined,
        line.open,
        line.duplicate,
    ];
    html! {
        tr {
            td { (line.source) }
            @for count in counts { td { (count) } }
            td { @if line.missing > 0 { strong { (line.missing) } } @else { "0" } }
        }
    }
}

fn class(class: &Class) -> String {
    format!("{}, {}, may fail for {}", class.latency, class.criticality, class.failure_tolerance)
}

fn how(source: &Source) -> Markup {
    html! {
        @if source.sends { "webhooks" }
        @if let Some(poll) = &source.poll {
            @if source.sends { ", " }
            (poll.call) " " (poll.schedule)
        }
    }
}

fn state(source: &Source) -> Markup {
    html! {
        @if let Some(poll) = &source.poll {
            a href={ "/entities/poll/" (source.name) } { (poll.status) }
            @if let Some(at) = poll.fields.get("done_at") { ", last done " (at) }
            @if poll.late { strong { " fails" } }
        }
    }
}

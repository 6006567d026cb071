//! The board of processes, and what is left of the error budgets.

use maud::{Markup, html};

use super::words::{encoded, entity, spaced, time};
use crate::api::{Board, InState, Process, Slo};

/// How every process stands.
pub(super) fn processes(board: &Board) -> Markup {
    html! {
        div.top { h1 { "Processes" } (as_of(board)) }
        @if board.processes.is_empty() { p.empty { "Nothing is counted yet. The first round takes a few seconds." } }
        @for process in &board.processes { (process_card(process)) }
    }
}

/// Where people stand who see a number: how old it is, and what it lacks.
fn as_of(board: &Board) -> Markup {
    html! {
        @if let Some(at) = &board.as_of { span.quiet { "counted " (time(at)) } }
        @if !board.silent.is_empty() {
            span.nobody { "without the entities of " (board.silent.join(", ")) ", which did not answer" }
        }
    }
}

fn process_card(process: &Process) -> Markup {
    html! {
        article {
            h2.first { (process.title) " " span.count { (process.process) } }
            p.facts {
                span { strong { (process.open) } " under way" }
                @if process.late > 0 { span.nobody { strong { (process.late) } " late" } } @else { span { "none late" } }
                span { strong { (process.completed) } " completed" (in_time(process)) }
                @if process.cancelled > 0 { span { (process.cancelled) " called off" } }
                @if process.failed > 0 { span.nobody { (process.failed) " given up" } }
                span.quiet { "owner " (process.owner) @if !process.escalate.is_empty() { ", " (process.escalate) } }
            }
            @if !process.states.is_empty() { (states(process)) }
        }
    }
}

fn in_time(process: &Process) -> Markup {
    html! {
        @if process.completed > 0 { ", " (percent(process.in_time, process.completed)) " in time" }
        " " span.quiet { "in 30 days" }
    }
}

fn states(process: &Process) -> Markup {
    let exceptions = format!("/exceptions?kind={}", encoded(&process.process));
    html! {
        table {
            thead { tr { th { "step" } th { "under way" } th { "late" } th { "waits longest" } th { "for" } } }
            tbody { @for state in &process.states { (state_row(state)) } }
        }
        p.quiet { a href=(exceptions) { "What waits for a person" } }
    }
}

fn state_row(state: &InState) -> Markup {
    html! {
        tr {
            td { (spaced(&state.state)) }
            td { (state.open) }
            td { @if state.late > 0 { span.nobody { (state.late) } } @else { "0" } }
            td { (entity(&state.oldest)) }
            td { (lasted(state.seconds)) }
        }
    }
}

/// Every objective.
pub(super) fn objectives(board: &Board) -> Markup {
    html! {
        div.top { h1 { "Objectives" } (as_of(board)) }
        @if board.slos.is_empty() {
            p.empty { "No objective is defined. Write one in the form of OpenSLO into " code { "slos/" } "." }
        }
        @for slo in &board.slos { (objective(slo, board)) }
    }
}

fn objective(slo: &Slo, board: &Board) -> Markup {
    let left = (slo.budget_remaining * 100.0).clamp(0.0, 100.0);
    let is_spent = slo.budget_remaining <= 0.0;
    html! {
        article {
            h2.first { (slo.title) }
            p.facts {
                span {
                    "of " a href="/processes" { (spaced(&slo.process)) } ", " (spaced(&slo.milestone)) " within "
                    (slo.within_seconds.map_or_else(|| "?".to_owned(), lasted))
                }
                span { "target " strong { (share(slo.target)) } " in " (lasted(slo.window_seconds)) }
                span.quiet { "owner " (slo.owner) @if !slo.escalate.is_empty() { ", " (slo.escalate) } }
            }
            div.budget role="img" aria-label=(format!("{left:.0} % of the error budget is left")) {
                meter min="0" max="100" low="25" high="50" optimum="100" value=(format!("{left:.1}")) {}
                @if is_spent { strong.nobody { "the error budget is spent" } }
                @else { strong { (format!("{left:.0} %")) } " of the error budget is left" }
            }
            p.facts {
                @if let Some(ratio) = slo.ratio { span { strong { (share(ratio)) } " in time" } }
                @else { span { "nothing is decided yet" } }
                span { (slo.good) " good" }
                @if slo.bad > 0 { span.nobody { (slo.bad) " too late" } } @else { span { "0 too late" } }
                span { (slo.open) " may still make it" }
            }
            @if let Some(worst) = worst(slo, board) {
                p.quiet { "Waits longest: " (entity(&worst.oldest)) " in step " (spaced(&worst.state)) ", for " (lasted(worst.seconds)) }
            }
        }
    }
}

/// The step whose oldest instance waits longest; late ones first.
fn worst<'b>(slo: &Slo, board: &'b Board) -> Option<&'b InState> {
    let process = board.processes.iter().find(|process| process.process == slo.process)?;
    process.states.iter().max_by_key(|state| (state.late > 0, state.seconds))
}

/// A ratio as a percentage, with as many digits as its size needs.
fn share(ratio: f64) -> String {
    let text = format!("{:.2}", ratio * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A part of a whole, which is rounded down: 100 % are all.
fn percent(part: u64, whole: u64) -> String {
    format!("{} %", (part * 100).checked_div(whole).unwrap_or(100))
}

/// A length of time in its largest unit or two: `3 d 4 h`.
pub(super) fn lasted(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let two = |large, unit, small, next| {
        if small > 0 { format!("{large} {unit} {small} {next}") } else { format!("{large} {unit}") }
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => two(minutes, "min", seconds % 60, "s"),
        (0, hours, minutes) => two(hours, "h", minutes, "min"),
        (days, hours, _) => two(days, "d", hours, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_are_as_long_as_they_need_to_be() {
        let times = [0, 59, 60, 3_661, 7_200, 86_400, 280_000].map(lasted);
        assert_eq!(times, ["0 s", "59 s", "1 min", "1 h 1 min", "2 h", "1 d", "3 d 5 h"]);
        assert_eq!([0.9, 0.999, 0.12345, 1.0].map(share), ["90 %", "99.9 %", "12.35 %", "100 %"]);
        assert_eq!([percent(999, 1_000), percent(2, 2), percent(0, 0)], ["99 %", "100 %", "100 %"]);
    }
}

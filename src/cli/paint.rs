//! Colours: the same word has the same colour wherever it stands.

use std::io::IsTerminal;

use comfy_table::{Attribute, Cell, Color};

/// How a text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Names.
    Bold,
    /// What is beside the point.
    Dim,
    /// As it should be.
    Good,
    /// Somebody should know.
    Odd,
    /// Not as it should be.
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Odd => "33",
            Self::Bad => "31",
        }
    }

    /// A cell of a table in this style.
    pub(super) fn cell(self, cell: Cell) -> Cell {
        match self {
            Self::Bold => cell.add_attribute(Attribute::Bold),
            Self::Dim => cell.add_attribute(Attribute::Dim),
            Self::Good => cell.fg(Color::DarkGreen),
            Self::Odd => cell.fg(Color::DarkYellow),
            Self::Bad => cell.fg(Color::DarkRed),
        }
    }
}

/// The text in a style, for a terminal.
pub(super) fn painted(style: Style, text: &str) -> String {
    format!("\u{1b}[{}m{text}\u{1b}[0m", style.code())
}

/// Whether `stream` shows colours, and they are wanted (<https://no-color.org>).
pub(super) fn is_colourful(stream: &impl IsTerminal) -> bool {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    stream.is_terminal() && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb"
}

/// The style of a word that says how something is, if it is one.
pub(super) fn tone(word: &str) -> Option<Style> {
    Some(match word {
        "ok" | "applied" | "completed" | "running" | "holds" => Style::Good,
        "paused" | "throttled" | "breaker trying" | "cancelled" | "deferred" | "ignored" | "undone"
        | "hold" | "late" => Style::Odd,
        "breaker open" | "failed" | "rejected" | "dead_letter" | "failure" | "mapping" | "compensation"
        | "quarantine" | "poison" | "FAIL" | "FAILED" | "BROKEN" => Style::Bad,
        _ => return None,
    })
}

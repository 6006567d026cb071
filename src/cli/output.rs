//! The one place that prints: results to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;

use super::paint::{Style, is_colourful, painted, tone};
use super::{Failure, json};

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json, colour: !json && is_colourful(&std::io::stdout()) }
    }

    /// Whether programs read it.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person watches it, so that lines may be overwritten.
    pub(super) fn is_watched(self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }

    /// Prints text, with a line break at its end.
    #[expect(clippy::unused_self, reason = "printing is what an output does, in whichever form")]
    pub(super) fn text(self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush()) {
            // Whoever read us has seen enough, as `head` does.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            done => done.map_err(|error| Failure::Broken(format!("cannot print: {error}"))),
        }
    }

    /// Prints a value as JSON, or what `table` makes of it.
    pub(super) fn value<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string(value).map_err(|error| Failure::Broken(error.to_string()))?;
            return self.text(&json::indented(&text));
        }
        self.text(&table(value))
    }

    /// The text in a style, where there are colours.
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        if self.colour { painted(style, text) } else { text.to_owned() }
    }

    /// A table with a head. Words that say how something is have their colour.
    pub(super) fn table<R: IntoIterator<Item = String>>(
        self,
        head: &[&str],
        rows: impl IntoIterator<Item = R>,
    ) -> String {
        let mut table = Table::new();
        table.load_style(LINED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(head.iter().map(|name| self.cell(*name, Some(Style::Bold))));
        for row in rows {
            table.add_row(row.into_iter().map(|text| {
                let style = tone(&text);
                self.cell(text, style)
            }));
        }
        trimmed(&table)
    }

    /// Names and values, one a line.
    pub(super) fn facts<N: Into<String>>(self, facts: impl IntoIterator<Item = (N, String)>) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        for (name, value) in facts {
            if !value.is_empty() {
                let style = tone(&value);
                table.add_row([self.cell(name.into(), Some(Style::Dim)), self.cell(value, style)]);
            }
        }
        trimmed(&table)
    }

    fn cell(self, text: impl Into<String>, style: Option<Style>) -> Cell {
        let cell = Cell::new(text.into());
        match style.filter(|_| self.colour) {
            Some(style) => style.cell(cell),
            None => cell,
        }
    }
}

/// Without white space at the ends of lines, so that a row can be copied.
fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A line below the head and nothing else, so that a row can be copied.
const LINED: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Says what went wrong, on standard error. Nothing for an empty text.
pub(super) fn problem(text: &str) {
    if !text.is_empty() {
        let word = if is_colourful(&std::io::stderr()) {
            painted(Style::Bad, "error:")
        } else {
            "error:".to_owned()
        };
        note(format_args!("{word} {text}"));
    }
}

/// A line on standard error, beside the results.
pub(super) fn note(text: impl Display) {
    // Nobody is left to be told when this fails.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

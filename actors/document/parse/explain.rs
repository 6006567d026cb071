//! The parser's complaints in words of a person who wrote the file.

use saphyr_parser::ScanError;

pub(super) const ALIAS: &str = "aliases (`*name`) are not read: a few lines of them can expand to gigabytes";
pub(super) const ALIAS_FIX: &str = "write the value out; text that begins with `*` needs quotes";

/// What the parser says (a part of it), what that means, and what mends it. The first that fits counts.
const TOLD: &[(&str, &str, &str)] = &[
    (
        "tab",
        "a tab stands in or right after this, where only spaces may",
        "use spaces; tabs do not indent in YAML",
    ),
    ("unknown anchor", ALIAS, ALIAS_FIX),
    (
        "mapping values are not allowed",
        "a `:` stands where no key can be",
        "put text that holds `: ` in quotes, or begin the key in the column of its neighbours",
    ),
    (
        "trailing content",
        "more text follows a closing quote",
        "put quotes of the other kind around all of it, or double a quote that is part of the text",
    ),
    ("found unexpected end of stream", "a quote is opened here and never closed", "close it"),
    (
        "unknown escape",
        "this text holds an unknown escape after `\\`",
        "double the `\\`, or use single quotes, where it means itself",
    ),
    (
        "indentation in quoted",
        "the text in quotes goes on in a line that is not indented",
        "close the quote, or indent that line",
    ),
    (
        "node content",
        "a value is missing here, or its text begins with a character that has a meaning",
        "write the value; text that begins with `,`, `]`, `}`, `&` or `*` needs quotes",
    ),
    ("flow sequence", BRACKET, BRACKET_FIX),
    ("flow mapping", BRACKET, BRACKET_FIX),
    ("bracket", BRACKET, BRACKET_FIX),
    (
        "block scalar",
        "the text of `|` or `>` does not begin in the next line",
        "begin it in the next line, indented; other text that begins with `|` or `>` needs quotes",
    ),
    (
        "sequence entries are not allowed",
        "a list item (`- `) cannot begin here",
        "begin the list in a line of its own; text that begins with `- ` needs quotes",
    ),
    (
        "comment intercepting",
        "a comment begins here, and the next line goes on with the text before it",
        "put the comment in a line of its own; text that holds ` #` needs quotes",
    ),
    ("recursion limit", super::TOO_DEEP, super::TOO_DEEP_FIX),
    ("key expect", "no `: ` follows a word in the lines above", "write `key: value`, or `- item` in a list"),
    (
        "document start",
        "more follows where the document has ended",
        "indent it, or put all of the text in quotes",
    ),
    ("expected key", MISFIT, MISFIT_FIX),
    ("'-' indicator", MISFIT, MISFIT_FIX),
    ("ndentation", MISFIT, MISFIT_FIX),
    ("block collection", MISFIT, MISFIT_FIX),
];

const BRACKET: &str = "a `[` or `{` and its closing partner do not fit, or a comma is missing";
const BRACKET_FIX: &str =
    "close what is open and put commas between; text that holds `: ` or begins with a bracket needs quotes";
const MISFIT: &str = "what begins here fits nothing above it";
const MISFIT_FIX: &str = "begin all keys of a map, and all dashes of a list, in one column; \
     put text that holds quotes or brackets in quotes as a whole";

/// What is wrong, and what mends it.
pub(super) fn explain(error: &ScanError, text: &str) -> (String, &'static str) {
    let said = error.info();
    let index = error.marker().index();
    let found = text.chars().nth(index);
    if text.chars().skip(index.saturating_sub(1)).take(2).any(|c| c == '\t') {
        return ("a tab stands where only spaces may".to_owned(), TOLD[0].2);
    }
    if let Some(c) = found.filter(|_| said.contains("unexpected character")) {
        return (format!("text cannot begin with `{c}`"), "put it in quotes");
    }
    match TOLD.iter().find(|(says, ..)| said.contains(says)) {
        Some((_, message, fix)) => ((*message).to_owned(), fix),
        None => (
            format!("this is not YAML: {said}"),
            "compare the indentation with the lines above; text that holds `: ` or ` #` needs quotes",
        ),
    }
}

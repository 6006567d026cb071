//! YAML with places: every mistake in a config file is told with file, line, column, the offending text and a fix, and all
//! of them at once.
//!
//! [`Reader::read`] turns text into a [`Node`]; [`Item`] and [`Fields`] read nodes into types and collect each mistake as a
//! [`Problem`] instead of stopping at the first.
//!
//! ```
//! use syncline_actors::document::{Item, Reader};
//! let reader = Reader::default();
//! let node = reader.read("shop.yaml", "source: shop\nretry: {after: 10s}\n").expect("it is YAML");
//! let mut fields = Item::root(&node, &reader).fields().expect("it is a map");
//! let source = fields.text("source");
//! let mut retry = fields.map("retry").expect("it is there");
//! let after = retry.duration("after");
//! retry.finish();
//! fields.finish();
//! assert!(reader.problems().is_empty());
//! assert_eq!(source.expect("no problem, so it was read").value, "shop");
//! assert_eq!(after.expect("likewise").value.as_secs(), 10);
//! ```
//!
//! What is read is YAML 1.2 without its traps. One document; no anchors, aliases, tags or merge keys; no key twice. Only
//! `true` and `false` are booleans, so `on`, `off`, `yes` and `no` are text. A number is what JSON calls a number and is
//! kept as written; `007`, `+49301234` and `0x1F` are text, and so is all that stands in quotes.

mod duration;
mod fields;
mod item;
mod parse;
mod problem;
mod suggest;
mod typed;

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

pub use duration::parse_duration;
pub use fields::Fields;
pub use item::{Item, Numeric, Reader};
pub use parse::{DEPTH_MAX, SIZE_MAX, parse};
pub use problem::{Problem, Problems, Severity};
pub use suggest::suggest;

/// Where something stands in a file. Displayed as `file:line:column`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named to the reader.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// The beginning of a file.
    pub fn start_of(file: &str) -> Self {
        Self { file: file.into(), line: 1, column: 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value, where it was written, and the path to it (`states.tax.on[2].guard`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it begins.
    pub place: Place,
    /// The path to it from the root of its document.
    pub path: String,
}

impl<T> Spanned<T> {
    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), place: self.place, path: self.path }
    }

    /// Notes that this value is wrong, for what only shows once everything is read (a name that nothing defines).
    pub fn refuse(&self, reader: &Reader, message: impl Into<String>, fix: impl Into<String>) {
        reader.note(Problem::error(self.place.clone(), self.path.clone(), message).fix(fix));
    }
}

/// A part of a document and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins. For a value left out (`key:`) where its key is.
    pub place: Place,
    /// What it holds.
    pub kind: Kind,
}

/// What a [`Node`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `null`, `~` or a value left out.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as JSON writes it, digit for digit as in the file.
    Number(String),
    /// Text, quoted or not.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file. No key stands twice.
    Map(Vec<(Key, Node)>),
}

/// The key of a map entry and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key as written, without quotes.
    pub text: String,
    /// Where it begins.
    pub place: Place,
}

impl Node {
    /// The text, if this is text.
    pub fn as_text(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(text) } else { None }
    }

    /// The items, if this is a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Kind::List(items) = &self.kind { Some(items) } else { None }
    }

    /// The entries, if this is a map.
    pub fn as_map(&self) -> Option<&[(Key, Self)]> {
        if let Kind::Map(entries) = &self.kind { Some(entries) } else { None }
    }

    /// The value of `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.iter().find(|(own, _)| own.text == key).map(|(_, value)| value)
    }

    /// Text, number or boolean as plain text: `abc`, `1.50`, `true`. Nothing for null, lists and maps.
    pub fn to_plain_text(&self) -> Option<String> {
        match &self.kind {
            Kind::Bool(value) => Some(value.to_string()),
            Kind::Number(text) | Kind::Text(text) => Some(text.clone()),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The same data as JSON text. Numbers are as written, so nothing is rounded.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    fn write_json(&self, out: &mut String) {
        match &self.kind {
            Kind::Null => out.push_str("null"),
            Kind::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Kind::Number(text) => out.push_str(text),
            Kind::Text(text) => write_json_text(out, text),
            Kind::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    item.write_json(out);
                }
                out.push(']');
            }
            Kind::Map(entries) => {
                out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    write_json_text(out, &key.text);
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
        }
    }

    /// What was found, for a message: "the text `abc`", "a list", "nothing".
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Bool(value) => format!("`{value}`"),
            Kind::Number(text) => format!("the number {}", quoted(text)),
            Kind::Text(text) => format!("the text {}", quoted(text)),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        }
    }
}

fn write_json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c)); // control characters end at U+009F
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Text for a message: in backticks, without line breaks or control characters, cut when long.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let mut shown = String::from("`");
    for (index, c) in text.chars().enumerate() {
        if index == SHOWN_MAX {
            shown.push('…');
            break;
        }
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown.push('`');
    shown
}

/// The path of `key` below `path`. A key that is no plain word is quoted: `messages["order.paid"].is`.
pub(crate) fn path_of_key(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[\"{}\"]", quoted(key).trim_matches('`')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_quotes_keys_that_hold_dots() {
        let path = path_of_key(&path_of_key("", "messages"), "order.paid");
        assert_eq!(path_of_key(&path, "is"), r#"messages["order.paid"].is"#);
    }

    #[test]
    fn json_keeps_numbers_as_written_and_escapes_text() {
        let text = "a: 1.500\nb: \"x\\\"\\n\\u0085\"\nc: [1e3, null, true]\nd: {}\n";
        let json = parse("x.yaml", text).unwrap().to_json();
        assert_eq!(json, r#"{"a":1.500,"b":"x\"\u000a\u0085","c":[1e3,null,true],"d":{}}"#);
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }

    #[test]
    fn a_value_can_be_refused_after_it_was_read() {
        let reader = Reader::default();
        let node = reader.read("x.yaml", "on: {goto: nowhere}\n").unwrap();
        let goto = Item::at(node.get("on").unwrap().get("goto").unwrap(), "on.goto", &reader).text().unwrap();
        goto.refuse(&reader, "no state is called `nowhere`", "name a state");
        assert_eq!(
            reader.into_problems().to_string(),
            "x.yaml:1:12  on.goto: no state is called `nowhere`\n    fix: name a state"
        );
    }

    #[test]
    fn quoted_text_is_cut_and_shows_no_control_characters() {
        assert_eq!(quoted("a\nb\u{1b}"), r"`a\nb\u{1b}`");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 63);
    }

    #[test]
    fn a_node_finds_its_keys_and_says_what_it_is() {
        let node = parse("x.yaml", "a: 1\nb: [x]\nc: {}\nd:\ne: yes\nf: true\n").unwrap();
        let describe = |key| node.get(key).unwrap().describe();
        assert_eq!(
            ["a", "b", "c", "d", "e", "f"].map(describe),
            ["the number `1`", "a list", "a map", "nothing", "the text `yes`", "`true`"]
        );
        assert_eq!(node.get("f").unwrap().to_plain_text().as_deref(), Some("true"));
        assert_eq!(node.get("b").unwrap().as_list().unwrap()[0].as_text(), Some("x"));
        assert!(node.get("z").is_none());
    }
}

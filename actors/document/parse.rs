//! From text to nodes: saphyr's event stream without YAML's traps.
//!
//! A mistake in the syntax ends the reading, because nothing after it can be trusted. Any other mistake is noted and the
//! reading goes on, so that one look shows them all.

mod explain;

use std::collections::BTreeMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use self::explain::{ALIAS, ALIAS_FIX, explain};
use super::{Key, Kind, Node, Place, Problem, path_of_key, quoted};

/// Most levels of lists and maps within each other.
pub const DEPTH_MAX: usize = 64;

const TOO_DEEP: &str = "lists and maps stand more than 64 levels deep";
const TOO_DEEP_FIX: &str = "make the document flatter";

/// Longest document, in bytes: 1 MiB.
pub const SIZE_MAX: usize = 1024 * 1024;

/// Longest key, in bytes. Keeps paths in messages short.
const KEY_MAX: usize = 256;

/// Most problems noted in one document before the rest is not looked at.
const PROBLEMS_MAX: usize = 100;

/// Reads one YAML document.
///
/// # Errors
/// The first mistake in the file. [`Reader::read`](super::Reader::read) tells all of them.
pub fn parse(file: &str, text: &str) -> Result<Node, Problem> {
    let (node, problems) = read(file, text);
    match (node, problems.into_iter().min_by(|a, b| a.place.cmp(&b.place))) {
        (Some(node), None) => Ok(node),
        (_, Some(problem)) => Err(problem),
        (None, None) => unreachable!("a document is withheld only for a problem"),
    }
}

/// Reads one YAML document and notes all mistakes. A node comes back where the rest can still be judged.
pub(super) fn read(file: &str, text: &str) -> (Option<Node>, Vec<Problem>) {
    let file: Arc<str> = file.into();
    if let Some(problem) = unreadable(&file, text) {
        return (None, vec![problem]);
    }
    let mut builder = Builder {
        file,
        text,
        events: Parser::new_from_str(text),
        path: Vec::new(),
        problems: Vec::new(),
        spoiled: false,
    };
    let node = builder.document().ok().filter(|_| !builder.spoiled);
    (node, builder.problems)
}

/// What keeps a text from being read at all: its size or a character no text holds.
fn unreadable(file: &Arc<str>, text: &str) -> Option<Problem> {
    if text.len() > SIZE_MAX {
        let message = format!("the file has {} bytes, more than {SIZE_MAX}", text.len());
        return Some(
            Problem::error(Place::start_of(file), "", message)
                .fix("split it into several files, one per document"),
        );
    }
    let mut place = Place::start_of(file);
    let mut before = '\0';
    for c in text.strip_prefix('\u{feff}').unwrap_or(text).chars() {
        match c {
            '\n' if before == '\r' => {}
            '\r' | '\n' => place = Place { line: place.line + 1, column: 1, ..place },
            c if c == '\t' || c == '\u{85}' || !c.is_control() => place.column += 1,
            c => {
                let message = format!("the control character U+{:04X} cannot stand in a file", u32::from(c));
                let fix = format!(
                    r#"remove it, or write it as an escape in double quotes: "\x{:02x}""#,
                    u32::from(c)
                );
                return Some(Problem::error(place, "", message).fix(fix));
            }
        }
        before = c;
    }
    None
}

/// The text cannot be read further; the problem has been noted.
struct Stop;

struct Builder<'t> {
    file: Arc<str>,
    text: &'t str,
    events: Parser<'t, StrInput<'t>>,
    /// Where the builder is, for messages.
    path: Vec<Segment>,
    problems: Vec<Problem>,
    /// Something was refused whose value is unknown, so that judging the rest would report mistakes nobody made.
    spoiled: bool,
}

enum Segment {
    Key(String),
    Index(usize),
}

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Node, Stop> {
        let empty = Node { place: Place::start_of(&self.file), kind: Kind::Null };
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(empty),
                (Event::DocumentStart(_), _) => break,
                _ => {}
            }
        }
        let (event, span) = self.next()?;
        let root = self.node(event, span, &empty.place)?;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(root),
                (Event::DocumentStart(_), span) => {
                    self.note(
                        span.start,
                        "a second document begins here",
                        "put each document in a file of its own",
                    )?;
                    return Ok(root);
                }
                _ => {}
            }
        }
    }

    /// The node that `event` begins. A value left out has the place of `owner`, because its own is somewhere after it.
    fn node(&mut self, event: Event<'t>, span: Span, owner: &Place) -> Result<Node, Stop> {
        let place = self.place(span.start);
        if self.path.len() > DEPTH_MAX {
            self.note(span.start, TOO_DEEP, TOO_DEEP_FIX)?;
            return Err(Stop);
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_anchor_and_tag(anchor, tag.as_deref(), span)?;
                let left_out = text.is_empty() && style == ScalarStyle::Plain;
                let place = if left_out { owner.clone() } else { place };
                Ok(Node { place, kind: scalar(&text, style) })
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_anchor_and_tag(anchor, tag.as_deref(), span)?;
                Ok(Node { kind: Kind::List(self.list(&place)?), place })
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_anchor_and_tag(anchor, tag.as_deref(), span)?;
                Ok(Node { kind: Kind::Map(self.map()?), place })
            }
            Event::Alias(_) => {
                self.spoiled = true;
                self.note(span.start, ALIAS, ALIAS_FIX)?;
                Ok(Node { place, kind: Kind::Null })
            }
            _ => unreachable!("the parser sends a node where a node must stand"),
        }
    }

    fn list(&mut self, owner: &Place) -> Result<Vec<Node>, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            self.path.push(Segment::Index(items.len()));
            // An item left out (`-`) is marked right after its dash; `[a,,b]` is refused by the parser.
            let place = if span.is_empty() { self.place(span.start) } else { owner.clone() };
            items.push(self.node(event, span, &place)?);
            self.path.pop();
        }
    }

    fn map(&mut self) -> Result<Vec<(Key, Node)>, Stop> {
        let mut entries = Vec::new();
        let mut lines: BTreeMap<String, u32> = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let key = self.key(event, span)?;
            self.path.push(Segment::Key(key.text.clone()));
            let keep = self.judge_key(&key, span, lines.get(&key.text).copied())?;
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, &key.place)?;
            self.path.pop();
            if keep {
                lines.insert(key.text.clone(), key.place.line);
                entries.push((key, value));
            }
        }
    }

    fn key(&mut self, event: Event<'t>, span: Span) -> Result<Key, Stop> {
        let place = self.place(span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_anchor_and_tag(anchor, tag.as_deref(), span)?;
                if text.is_empty() && style == ScalarStyle::Plain {
                    self.spoiled = true;
                    self.note(
                        span.start,
                        "a `:` has no key before it",
                        "write the key, or put the text in quotes",
                    )?;
                }
                // In braces an entry without `: ` is a key without a value: `{a:1}` says that `a:1` is there, and nothing of it.
                if style == ScalarStyle::Plain && text.contains(':') {
                    let message = format!("the key {} holds a `:`", quoted(&text));
                    self.note(span.start, message, "put a space after the `:`, or the key in quotes")?;
                }
                Ok(Key { text: text.into_owned(), place })
            }
            other => {
                self.spoiled = true;
                let fix = "a key is text; `{` and `[` at the beginning of text need quotes around it";
                self.note(span.start, "a list or map cannot be a key", fix)?;
                self.node(other, span, &place)?;
                Ok(Key { text: String::new(), place })
            }
        }
    }

    /// Whether the entry of `key` is kept; `first` is the line where the key stood already.
    fn judge_key(&mut self, key: &Key, span: Span, first: Option<u32>) -> Result<bool, Stop> {
        if key.text == "<<" {
            let fix = "write the merged keys out; sharing hides what a reader of this place must know";
            self.note(span.start, "merge keys (`<<`) are not read", fix)?;
            return Ok(false);
        }
        if key.text.len() > KEY_MAX {
            self.spoiled = true;
            let message = format!("a key has {} bytes, more than {KEY_MAX}", key.text.len());
            self.note(span.start, message, "use a shorter key")?;
        }
        if let Some(first) = first {
            let message = format!("the key {} stands here again, first in line {first}", quoted(&key.text));
            self.note(span.start, message, "keep one of the two")?;
            return Ok(false);
        }
        Ok(true)
    }

    fn refuse_anchor_and_tag(&mut self, anchor: usize, tag: Option<&Tag>, span: Span) -> Result<(), Stop> {
        if anchor != 0 {
            let fix = "remove the anchor; text that begins with `&` needs quotes";
            self.note(span.start, "anchors (`&name`) are not read", fix)?;
        }
        if let Some(tag) = tag {
            self.spoiled = true;
            let message = format!("the tag {} is not read", quoted(&tag.to_string()));
            self.note(span.start, message, "remove it; text that begins with `!` needs quotes")?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.events.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => {
                let place = self.place(*error.marker());
                let (message, fix) = explain(&error, self.text);
                self.problems.push(Problem::error(place, path_text(&self.path), message).fix(fix));
                Err(Stop)
            }
            None => unreachable!("the stream's end is not read past"),
        }
    }

    fn place(&self, at: Marker) -> Place {
        let number = |n: usize| u32::try_from(n).expect("a document has at most SIZE_MAX characters");
        Place { file: self.file.clone(), line: number(at.line()), column: number(at.col() + 1) }
    }

    fn note(&mut self, at: Marker, message: impl Into<String>, fix: impl Into<String>) -> Result<(), Stop> {
        self.problems.push(Problem::error(self.place(at), path_text(&self.path), message).fix(fix));
        if self.problems.len() < PROBLEMS_MAX { Ok(()) } else { Err(Stop) }
    }
}

fn path_text(path: &[Segment]) -> String {
    path.iter().fold(String::new(), |path, segment| match segment {
        Segment::Key(key) => path_of_key(&path, key),
        Segment::Index(index) => format!("{path}[{index}]"),
    })
}

fn scalar(text: &str, style: ScalarStyle) -> Kind {
    if style != ScalarStyle::Plain {
        return Kind::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Bool(true),
        "false" | "False" | "FALSE" => Kind::Bool(false),
        text if is_json_number(text) => Kind::Number(text.to_owned()),
        text => Kind::Text(text.to_owned()),
    }
}

/// RFC 8259, section 6. `007` is no number there, which suits ids.
fn is_json_number(text: &str) -> bool {
    fn digits(text: &str) -> Option<&str> {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        (rest.len() < text.len()).then_some(rest)
    }
    fn number(text: &str) -> Option<&str> {
        let text = text.strip_prefix('-').unwrap_or(text);
        let mut rest = text.strip_prefix('0').or_else(|| digits(text))?;
        if let Some(fraction) = rest.strip_prefix('.') {
            rest = digits(fraction)?;
        }
        if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
            rest = digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))?;
        }
        Some(rest)
    }
    number(text) == Some("")
}

#[cfg(test)]
mod tests;

//! One value on its way from a node to a type.

use std::cell::RefCell;
use std::fmt::Display;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use rust_decimal::Decimal;

use super::{
    Fields, Kind, Node, Place, Problem, Problems, Spanned, duration, parse, path_of_key, quoted, suggest,
};

/// Reads documents and holds the problems found so far, in whatever file. Everything that reads is given the same one.
#[derive(Debug, Default)]
pub struct Reader {
    problems: RefCell<Problems>,
}

impl Reader {
    /// Reads one YAML document, noting every mistake. A node comes back where its content can be judged, even if it has
    /// mistakes (a key that stands twice); whether the document may be used is for [`Problems::is_fatal`] to say.
    pub fn read(&self, file: &str, text: &str) -> Option<Node> {
        let (node, problems) = parse::read(file, text);
        self.problems.borrow_mut().extend(problems);
        node
    }

    /// [`Reader::read`] for bytes that should be UTF-8.
    pub fn read_bytes(&self, file: &str, bytes: &[u8]) -> Option<Node> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.read(file, text),
            Err(error) => {
                let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let line = valid.lines().count() + usize::from(valid.is_empty() || valid.ends_with('\n'));
                let column = valid.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
                let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
                let place = Place { file: file.into(), line: number(line), column: number(column) };
                let message = format!("the byte 0x{:02x} is not UTF-8", bytes[error.valid_up_to()]);
                self.note(Problem::error(place, "", message).fix("save the file as UTF-8"));
                None
            }
        }
    }

    /// Notes a problem.
    pub fn note(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// What was found so far.
    pub fn problems(&self) -> Problems {
        self.problems.borrow().clone()
    }

    /// What was found.
    pub fn into_problems(self) -> Problems {
        self.problems.into_inner()
    }
}

/// A node with its path and the reader that notes what is wrong with it.
///
/// Each reading method answers with the value, or notes the problem and answers `None`.
#[derive(Debug, Clone)]
pub struct Item<'n> {
    pub(super) node: &'n Node,
    pub(super) path: String,
    pub(super) reader: &'n Reader,
}

impl<'n> Item<'n> {
    /// The root of a document.
    pub fn root(node: &'n Node, reader: &'n Reader) -> Self {
        Self::at(node, "", reader)
    }

    /// A node somewhere in a document.
    pub fn at(node: &'n Node, path: impl Into<String>, reader: &'n Reader) -> Self {
        Self { node, path: path.into(), reader }
    }

    /// The node.
    pub fn node(&self) -> &'n Node {
        self.node
    }

    /// Where it begins.
    pub fn place(&self) -> &'n Place {
        &self.node.place
    }

    /// The path to it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The reader that notes problems.
    pub fn reader(&self) -> &'n Reader {
        self.reader
    }

    /// Whether nothing is written here.
    pub fn is_null(&self) -> bool {
        self.node.kind == Kind::Null
    }

    /// Notes an error here.
    pub fn refuse(&self, message: impl Into<String>, fix: impl Into<String>) {
        self.reader.note(Problem::error(self.place().clone(), self.path.clone(), message).fix(fix));
    }

    /// Notes a warning here.
    pub fn warn(&self, message: impl Into<String>, fix: impl Into<String>) {
        self.reader.note(Problem::warning(self.place().clone(), self.path.clone(), message).fix(fix));
    }

    /// `value` with the place and path of this.
    pub fn spanned<T>(&self, value: T) -> Spanned<T> {
        Spanned { value, place: self.place().clone(), path: self.path.clone() }
    }

    /// The map, whose keys are known to the program.
    pub fn fields(&self) -> Option<Fields<'n>> {
        Fields::of(self.node, self.path.clone(), self.reader)
    }

    /// The entries of a map, whose keys the user chooses. In the order of the file.
    pub fn entries(&self) -> Option<Vec<(Spanned<String>, Item<'n>)>> {
        let Some(entries) = self.node.as_map() else {
            self.expected("a map", "write `key: value` lines, indented below the key");
            return None;
        };
        let entry = |(key, node): &'n (super::Key, Node)| {
            let path = path_of_key(&self.path, &key.text);
            let name = Spanned { value: key.text.clone(), place: key.place.clone(), path: path.clone() };
            (name, Self { node, path, reader: self.reader })
        };
        Some(entries.iter().map(entry).collect())
    }

    /// The items of a list.
    pub fn list(&self) -> Option<Vec<Item<'n>>> {
        let Some(items) = self.node.as_list() else {
            self.expected("a list", "write `[a, b]`, or one `- item` a line below the key");
            return None;
        };
        let item =
            |(index, node)| Self { node, path: format!("{}[{index}]", self.path), reader: self.reader };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// Text that is not empty. A number or boolean must be quoted to be text, so that nobody has to guess.
    pub fn text(&self) -> Option<Spanned<String>> {
        match &self.node.kind {
            Kind::Text(text) if text.trim().is_empty() => {
                self.expected("text", "write a value");
                None
            }
            Kind::Text(text) => Some(self.spanned(text.clone())),
            Kind::Number(text) => {
                self.expected("text", format!("put it in quotes: \"{text}\""));
                None
            }
            Kind::Bool(value) => {
                self.expected("text", format!("put it in quotes: \"{value}\""));
                None
            }
            Kind::Null => {
                self.expected("text", "write a value; text that begins with `#` needs quotes");
                None
            }
            Kind::List(_) | Kind::Map(_) => {
                self.expected("text", "write one value; text that begins with `[` or `{` needs quotes");
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<Spanned<bool>> {
        if let Kind::Bool(value) = self.node.kind {
            return Some(self.spanned(value));
        }
        let meant = match self.node.as_text().map(str::to_lowercase).as_deref() {
            Some("yes" | "on" | "y" | "true") => "write `true`, without quotes",
            Some("no" | "off" | "n" | "false") => "write `false`, without quotes",
            _ => "write `true` or `false`",
        };
        self.expected("`true` or `false`", meant);
        None
    }

    /// A number, exact.
    pub fn number<T: Numeric>(&self) -> Option<Spanned<T>> {
        let wanted = T::expected();
        match &self.node.kind {
            Kind::Number(text) => {
                let value = text.parse().ok();
                if value.is_none() {
                    self.expected(&wanted, format!("write {wanted}"));
                }
                value.map(|value| self.spanned(value))
            }
            Kind::Text(text) if text.parse::<T>().is_ok() => {
                self.expected(&wanted, "write it without quotes, leading zeros or `+`");
                None
            }
            _ => {
                self.expected(&wanted, format!("write {wanted}"));
                None
            }
        }
    }

    /// A number in `range`.
    pub fn number_within<T>(&self, range: RangeInclusive<T>) -> Option<Spanned<T>>
    where
        T: Numeric + PartialOrd + Display,
    {
        let (least, most) = range.into_inner();
        let found = self.number::<T>()?;
        if found.value < least || found.value > most {
            self.refuse(
                format!("{} is outside of {least} to {most}", quoted(&found.value.to_string())),
                format!("write a number from {least} to {most}"),
            );
            return None;
        }
        Some(found)
    }

    /// A length of time, see [`parse_duration`](super::parse_duration).
    pub fn duration(&self) -> Option<Spanned<Duration>> {
        let (Kind::Text(text) | Kind::Number(text)) = &self.node.kind else {
            self.expected("a duration", duration::EXAMPLES);
            return None;
        };
        match super::parse_duration(text) {
            Ok(value) => Some(self.spanned(value)),
            Err(message) => {
                self.refuse(message, duration::EXAMPLES);
                None
            }
        }
    }

    /// One of the words of `choices`, as what stands beside it.
    pub fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Option<Spanned<T>> {
        let written = self.node.to_plain_text();
        if let Some((_, value)) = choices.iter().find(|(word, _)| written.as_deref() == Some(word)) {
            return Some(self.spanned(value.clone()));
        }
        let words = choices.iter().map(|(word, _)| *word);
        let fix = match written.as_deref().and_then(|word| suggest(word, words.clone())) {
            Some(meant) => format!("did you mean `{meant}`? Allowed: {}", listed(words)),
            None => format!("write one of {}", listed(words)),
        };
        let found = written.as_deref().map_or_else(|| self.node.describe(), quoted);
        self.refuse(format!("{found} is not allowed here"), fix);
        None
    }

    fn expected(&self, wanted: &str, fix: impl Into<String>) {
        self.refuse(format!("expected {wanted}, found {}", self.node.describe()), fix);
    }
}

/// Words in backticks with commas between.
pub(super) fn listed<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let all: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// A number that a document can hold, and how to ask a person for it.
pub trait Numeric: FromStr {
    /// What is expected, with article and limits: "a whole number from 0 to 255".
    fn expected() -> String;
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Numeric for $number {
            fn expected() -> String {
                format!("a whole number from {} to {}", Self::MIN, Self::MAX)
            }
        }
    )*};
}
whole_numbers!(
    u8,
    u16,
    u32,
    u64,
    usize,
    i32,
    i64,
    NonZeroU8,
    NonZeroU16,
    NonZeroU32,
    NonZeroU64,
    NonZeroUsize
);

impl Numeric for Decimal {
    fn expected() -> String {
        "a number of at most 28 digits, without exponent".to_owned()
    }
}

/// For ratios and weights; money is a [`Decimal`].
impl Numeric for f64 {
    fn expected() -> String {
        "a number".to_owned()
    }
}

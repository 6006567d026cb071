//! Mistakes in documents, collected and shown together.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use super::Place;

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Odd, and can be run.
    Warning,
    /// Cannot be run.
    Error,
}

/// One mistake: where, what, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The path to it in its document, e.g. `states.tax.on[2].guard`; empty for the document itself.
    pub path: String,
    /// What is wrong, with the offending text.
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
    /// How bad it is.
    pub severity: Severity,
}

impl Problem {
    /// A mistake that keeps the document from being used.
    pub fn error(place: Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place, path: path.into(), message: message.into(), fix: None, severity: Severity::Error }
    }

    /// Something odd in a document that can be used.
    pub fn warning(place: Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, path, message) }
    }

    /// The same problem with a fix.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// The problem in full, with its line of `source` and a caret below the offending column.
    fn render(&self, source: Option<&str>) -> String {
        let mut shown = self.headline();
        if let Some(excerpt) = source.and_then(|source| excerpt(source, &self.place)) {
            shown.push_str(&excerpt);
        }
        if let Some(fix) = &self.fix {
            shown.push_str("\n    fix: ");
            shown.push_str(fix);
        }
        shown
    }

    fn headline(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        if self.path.is_empty() {
            format!("{}  {severity}{}", self.place, self.message)
        } else {
            format!("{}  {severity}{}: {}", self.place, self.path, self.message)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(None))
    }
}

impl std::error::Error for Problem {}

/// The line of a place and a caret below its column, each on its own line. Long lines are cut around the column.
fn excerpt(source: &str, place: &Place) -> Option<String> {
    const BEFORE_MAX: usize = 60;
    const SHOWN_MAX: usize = 110;
    let line = nth_line(source, place.line)?;
    let column = (usize::try_from(place.column).ok()?).saturating_sub(1);
    let from = column.saturating_sub(BEFORE_MAX);
    let shown: String = line
        .chars()
        .skip(from)
        .take(SHOWN_MAX)
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect();
    let gutter = place.line.to_string();
    let blank = " ".repeat(gutter.len());
    let indent = " ".repeat(column - from);
    Some(format!("\n    {gutter} | {}\n    {blank} | {indent}^", shown.trim_end()))
}

/// Line `number` of `source`, from 1, by YAML's line breaks: CR, LF or both.
fn nth_line(source: &str, number: u32) -> Option<&str> {
    let mut rest = source.strip_prefix('\u{feff}').unwrap_or(source);
    for _ in 1..number {
        let end = rest.find(['\r', '\n'])?;
        let break_length = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + break_length..];
    }
    rest.split(['\r', '\n']).next()
}

/// All mistakes found, in the order of their places. Displayed with an empty line between two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    sorted: Vec<Problem>,
}

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        let at = self.sorted.partition_point(|other| other.place <= problem.place);
        self.sorted.insert(at, problem);
    }

    /// Whether any is an error.
    pub fn is_fatal(&self) -> bool {
        self.sorted.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// All of them, in the order of their places.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.sorted.iter()
    }

    /// Shows all, each with its line and a caret where `sources` (text by file) has the file.
    pub fn render<K: Borrow<str> + Ord, V: AsRef<str>>(&self, sources: &BTreeMap<K, V>) -> String {
        let shown = |problem: &Problem| problem.render(sources.get(&*problem.place.file).map(AsRef::as_ref));
        self.sorted.iter().map(shown).collect::<Vec<_>>().join("\n\n")
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.sorted.extend(problems);
        self.sorted.sort_by(|a, b| a.place.cmp(&b.place));
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Self {
        let mut all = Self::default();
        all.extend(problems);
        all
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.sorted.into_iter()
    }
}

impl<'p> IntoIterator for &'p Problems {
    type Item = &'p Problem;
    type IntoIter = std::slice::Iter<'p, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&BTreeMap::<String, String>::new()))
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, line: u32, column: u32, message: &str) -> Problem {
        Problem::error(Place { file: file.into(), line, column }, "a.b", message)
    }

    #[test]
    fn problems_are_shown_in_the_order_of_their_places() {
        let mut all = Problems::default();
        all.push(at("b.yaml", 1, 1, "fourth"));
        all.push(at("a.yaml", 2, 1, "second"));
        all.extend([at("a.yaml", 2, 1, "third"), at("a.yaml", 1, 9, "first").fix("mend it")]);
        assert_eq!(
            all.to_string(),
            "a.yaml:1:9  a.b: first\n    fix: mend it\n\na.yaml:2:1  a.b: second\n\na.yaml:2:1  a.b: third\n\n\
             b.yaml:1:1  a.b: fourth"
        );
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn only_errors_are_fatal() {
        let place = Place::start_of("x.yaml");
        let mut all: Problems = [Problem::warning(place.clone(), "", "odd")].into_iter().collect();
        assert!(!all.is_fatal());
        assert_eq!(all.to_string(), "x.yaml:1:1  warning: odd");
        all.push(Problem::error(place, "", "wrong"));
        assert!(all.is_fatal());
    }

    #[test]
    fn the_line_is_shown_with_a_caret() {
        let all: Problems = [at("x.yaml", 2, 6, "wrong").fix("mend it"), at("x.yaml", 99, 1, "past the end")]
            .into_iter()
            .collect();
        let sources = BTreeMap::from([("x.yaml", "\u{feff}a: 1\r\nü:\tß: x\r\n")]);
        assert_eq!(
            all.render(&sources),
            "x.yaml:2:6  a.b: wrong\n    2 | ü: ß: x\n      |      ^\n    fix: mend it\n\n\
             x.yaml:99:1  a.b: past the end"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_column() {
        let line = format!("{}!{}", "a".repeat(500), "b".repeat(500));
        let shown = excerpt(&line, &at("x", 1, 501, "").place).unwrap();
        let lines: Vec<&str> = shown.lines().skip(1).collect();
        assert!(lines[0].chars().count() < 130);
        assert_eq!(lines[0].find('!'), lines[1].find('^'));
    }
}

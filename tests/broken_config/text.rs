//! Mistakes in the text itself: quotes, indentation, a file that ends too soon.

use syncline_actors::document::parse;

use super::tree::Tree;

/// One broken copy and the line that was broken.
#[derive(Debug)]
pub(crate) struct Spoilt {
    pub(crate) how: &'static str,
    pub(crate) text: String,
    pub(crate) line: u32,
}

/// Every line of `text` spoilt in every way that applies to it.
pub(crate) fn lines(file: &str, text: &str) -> Vec<Spoilt> {
    let whole = Tree::of(file, text);
    // What still says the same is no mistake.
    let same = |text: &str| parse(file, text).is_ok_and(|node| Tree::from_node(&node) == whole);
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for (index, line) in lines.iter().enumerate().filter(|(index, _)| !is_block_text(&lines, *index)) {
        let mut put = |how, with: String| {
            let with = [&lines[..index], &[with.as_str()], &lines[index + 1..]].concat().join("\n") + "\n";
            if !same(&with) {
                all.push(Spoilt {
                    how,
                    text: with,
                    line: u32::try_from(index + 1).expect("a file is short"),
                });
            }
        };
        if let Some(at) = line.rfind('"') {
            put("a quote is not closed", format!("{}{}", &line[..at], &line[at + 1..]));
        }
        if let Some(at) = line.rfind(['}', ']']) {
            put("a bracket is not closed", format!("{}{}", &line[..at], &line[at + 1..]));
        }
        let inner = line.trim_start();
        if inner.len() < line.len() {
            put("a tab indents", format!("\t{inner}"));
            put("a space too many", format!(" {line}"));
        }
        if inner.contains(": ") {
            put("no space after the colon", line.replacen(": ", ":", 1));
            put("two keys in a line", line.replacen(": ", ": oops: ", 1));
        }
        if inner.starts_with("- ") {
            put("no space after the dash", line.replacen("- ", "-", 1));
        }
    }
    all
}

/// Whether a line is part of a text that `>` or `|` began, where spaces, colons and quotes mean themselves.
fn is_block_text(lines: &[&str], index: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut inner = indent(lines[index]);
    for line in lines[..index].iter().rev().filter(|line| !line.trim().is_empty()) {
        if indent(line) < inner {
            inner = indent(line);
            if line.ends_with(">-") || line.ends_with('>') || line.ends_with('|') {
                return true;
            }
        }
    }
    false
}

/// `text` cut in the middle of each of its lines.
pub(crate) fn cuts(text: &str) -> Vec<Spoilt> {
    let mut all = Vec::new();
    let mut from = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let middle = (0..=line.len() / 2).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        let text = text[..from + middle].to_owned();
        all.push(Spoilt {
            how: "it ends here",
            text,
            line: u32::try_from(index + 1).expect("a file is short"),
        });
        from += line.len();
    }
    all
}

/// What is no document of ours at all.
pub(crate) const NOTHING: [(&str, &str); 9] = [
    ("empty", ""),
    ("a line break", "\n"),
    ("only a comment", "# nothing\n"),
    ("only a marker", "---\n"),
    ("a list", "- a\n- b\n"),
    ("a word", "process\n"),
    ("null", "null\n"),
    ("two documents", "a: 1\n---\nb: 2\n"),
    ("a byte that no text holds", "a: \u{1}\n"),
];

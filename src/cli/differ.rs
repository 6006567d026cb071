//! What differs from what was expected, so that the eye finds it.

use serde_json::value::RawValue;
use similar::{ChangeTag, TextDiff};

use super::json::{indented, spaced};
use super::output::Output;
use super::paint::Style;

/// A value longer than this, in bytes, is compared line by line.
const LINE_MAX: usize = 72;

/// Lines that do not differ shown around those that do.
const CONTEXT: usize = 2;

/// The differences of a failed step, `- PATH: EXPECTED` and `+ PATH: FOUND`, one a line.
pub(super) fn shown(differences: &[String], out: Output) -> Vec<String> {
    let mut shown = Vec::new();
    let mut rest = differences;
    while let [first, after @ ..] = rest {
        rest = after;
        if let (Some(old), Some(new)) = (side(first, "- "), after.first().and_then(|line| side(line, "+ ")))
            && old.0 == new.0
        {
            rest = &after[1..];
            shown.extend(pair(old.0, old.1, new.1, out));
        } else {
            shown.push(first.clone());
        }
    }
    shown
}

/// Path and value of a line.
fn side<'l>(line: &'l str, mark: &str) -> Option<(&'l str, &'l str)> {
    line.strip_prefix(mark)?.split_once(": ")
}

fn pair(path: &str, old: &str, new: &str, out: Output) -> Vec<String> {
    let is_json = |text: &str| serde_json::from_str::<&RawValue>(text).is_ok();
    if is_json(old) && is_json(new) && old.len().max(new.len()) > LINE_MAX {
        return lines(path, &indented(old), &indented(new), out);
    }
    let (old, new) = if is_json(old) && is_json(new) {
        (spaced(old), spaced(new))
    } else {
        (old.to_owned(), new.to_owned())
    };
    let words = TextDiff::from_words(old.as_str(), new.as_str());
    let (mut expected, mut found) = (String::new(), String::new());
    for change in words.iter_all_changes() {
        match change.tag() {
            ChangeTag::Equal => {
                expected.push_str(change.value());
                found.push_str(change.value());
            }
            ChangeTag::Delete => expected.push_str(&out.paint(Style::Bad, change.value())),
            ChangeTag::Insert => found.push_str(&out.paint(Style::Good, change.value())),
        }
    }
    vec![
        format!("{} {path}: {expected}", out.paint(Style::Bad, "-")),
        format!("{} {path}: {found}", out.paint(Style::Good, "+")),
    ]
}

fn lines(path: &str, old: &str, new: &str, out: Output) -> Vec<String> {
    let diff = TextDiff::from_lines(old, new);
    let mut shown = vec![format!("  {path}:")];
    for (index, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if index > 0 {
            shown.push(out.paint(Style::Dim, "    …"));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = change.value().trim_end_matches('\n');
            shown.push(match change.tag() {
                ChangeTag::Equal => out.paint(Style::Dim, &format!("    {line}")),
                ChangeTag::Delete => out.paint(Style::Bad, &format!("-   {line}")),
                ChangeTag::Insert => out.paint(Style::Good, &format!("+   {line}")),
            });
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(differences: &[&str]) -> Vec<String> {
        let differences: Vec<String> = differences.iter().map(|line| (*line).to_owned()).collect();
        shown(&differences, Output::new(true))
    }

    #[test]
    fn short_values_stand_one_above_the_other() {
        let told = ["- state: \"a\"", "+ state: \"b\"", "- calls: [\"x\",\"y\"]", "+ calls: []"];
        assert_eq!(
            plain(&told),
            ["- state: \"a\"", "+ state: \"b\"", "- calls: [\"x\", \"y\"]", "+ calls: []"]
        );
    }

    #[test]
    fn long_values_are_compared_line_by_line_with_their_digits() {
        let value = |amount: &str| {
            let street = "a street with a name that is rather long";
            format!(r#"{{"amount":{amount},"city":"Berlin","country":"DE","street":"{street}"}}"#)
        };
        let told = [format!("- fields: {}", value("1.50")), format!("+ fields: {}", value("1.5"))];
        let expected = [
            "  fields:",
            "    {",
            "-     \"amount\": 1.50,",
            "+     \"amount\": 1.5,",
            "      \"city\": \"Berlin\",",
            "      \"country\": \"DE\",",
        ];
        assert_eq!(shown(&told, Output::new(true)), expected);
    }

    #[test]
    fn a_sentence_that_is_no_pair_stays_as_it_is() {
        let told = ["nothing answers effect `x`", "- a: 1", "+ b: 2", "- exceptions: 0 open"];
        assert_eq!(plain(&told), told);
    }
}

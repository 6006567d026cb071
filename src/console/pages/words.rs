//! How pages say things: exceptions in plain words, times, ids as links, JSON for people.

use std::collections::BTreeMap;

use maud::{Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;

/// What may stand in a path or a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A class of exceptions for people who do not run the system.
pub(super) struct Class {
    /// The word of the API.
    pub(super) word: &'static str,
    /// A heading.
    pub(super) title: &'static str,
    /// What happened, and what usually helps.
    pub(super) help: &'static str,
}

/// All classes, those first that people can settle by themselves.
pub(super) const CLASSES: &[Class] = &[
    Class {
        word: "hold",
        title: "Waits for a decision",
        help: "A rule stopped the process so that a person decides. Correct the data and try again, or settle it by hand.",
    },
    Class {
        word: "failure",
        title: "Refused by another system",
        help: "The other system understood what was asked and said no. Correct what it objects to, there or here, then try again.",
    },
    Class {
        word: "dead_letter",
        title: "Not delivered",
        help: "Another system did not take a message in all the tries it was given. See whether it is there by now; if not, try again.",
    },
    Class {
        word: "late",
        title: "Late",
        help: "Something that was promised by a certain time has not happened. Ask whoever owes it.",
    },
    Class {
        word: "compensation",
        title: "Could not be undone",
        help: "A process was called off, but a step it had done in another system could not be taken back. Undo it there, then settle it here.",
    },
    Class {
        word: "conflict",
        title: "Two systems disagree",
        help: "A system wants to change a field that another owns. Until you decide, the owner's value stands. Take the other one if it is right, and correct it at the owner too.",
    },
    Class {
        word: "mapping",
        title: "Data that do not fit",
        help: "A field was missing or had a form that the rules cannot use. Set the field and try again.",
    },
    Class {
        word: "quarantine",
        title: "Not understood",
        help: "A genuine message could not be read. It is kept; the team of the sending system must look at it.",
    },
    Class {
        word: "poison",
        title: "Fault of the program",
        help: "A message made the program fail twice, so it was put aside. Tell the team that runs Syncline.",
    },
];

/// The class of a word; of those we do not know, the words of the API.
pub(super) fn title(word: &str) -> String {
    let known = CLASSES.iter().find(|class| class.word == word);
    known.map_or_else(|| spaced(word), |class| class.title.to_owned())
}

/// `awaiting_invoice` as `awaiting invoice`.
pub(super) fn spaced(word: &str) -> String {
    word.replace('_', " ")
}

/// The address of an entity's page.
pub(super) fn entity_path(id: &str) -> String {
    let (kind, key) = id.split_once('/').unwrap_or((id, ""));
    format!("/entities/{}/{}", encoded(kind), encoded(key))
}

pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A link to an entity.
pub(super) fn entity(id: &str) -> Markup {
    html! { a href=(entity_path(id)) { (id) } }
}

/// The address of the search for all entities of a flow.
pub(super) fn flow_path(correlation_id: &str) -> String {
    format!("/search?q={}", encoded(correlation_id))
}

/// A time of the API, which is RFC 3339 in UTC, to the minute.
pub(super) fn time(text: &str) -> Markup {
    moment(text, 16)
}

/// The same to the second, for a history.
pub(super) fn to_the_second(text: &str) -> Markup {
    moment(text, 19)
}

fn moment(text: &str, end: usize) -> Markup {
    let shown = match (text.get(..10), text.get(11..end)) {
        (Some(day), Some(clock)) if text.ends_with('Z') => format!("{day} {clock} UTC"),
        _ => text.to_owned(),
    };
    html! { time datetime=(text) title=(text) { (shown) } }
}

/// JSON as a table if it is an object, else as it is.
pub(super) fn fields(json: &RawValue) -> Markup {
    let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(json.get()) else {
        return value(json);
    };
    html! {
        @if members.is_empty() { p.quiet { "None." } } @else {
            dl.fields {
                @for (name, json) in &members { dt { (spaced(name)) } dd { (value(json)) } }
            }
        }
    }
}

/// One value: text and numbers as they are, lists and objects as JSON.
fn value(json: &RawValue) -> Markup {
    if let Ok(text) = serde_json::from_str::<String>(json.get()) {
        return html! { (text) };
    }
    match json.get() {
        "null" => html! { span.quiet { "none" } },
        "true" => html! { "yes" },
        "false" => html! { "no" },
        short if !short.starts_with(['{', '[']) => html! { (short) },
        nested => html! { pre { (indented(nested)) } },
    }
}

/// JSON with line breaks, every digit as it was.
pub(super) fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    let mut last = ' ';
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    for c in json.chars() {
        if in_text {
            out.push(c);
            in_text = c != '"' || is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            last = c;
            continue;
        }
        match c {
            ' ' | '\n' | '\r' | '\t' => continue,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !matches!(last, '{' | '[') {
                    line(&mut out, depth);
                }
            }
            _ if matches!(last, '{' | '[') => line(&mut out, depth),
            _ => {}
        }
        out.push(c);
        match c {
            '{' | '[' => depth += 1,
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            _ => in_text = c == '"',
        }
        last = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_its_text_and_digits_are_kept() {
        let json = r#"{"a":{},"b":[1.10,{"c":"x:\"{,\\"}],"d":[]}"#;
        let lines = "{\n  \"a\": {},\n  \"b\": [\n    1.10,\n    {\n      \"c\": \"x:\\\"{,\\\\\"\n    }\n  ],\n  \"d\": []\n}";
        assert_eq!(indented(json), lines);
        assert_eq!(indented(lines), lines);
    }

    #[test]
    fn ids_are_links_whatever_they_hold() {
        assert_eq!(entity_path("order/A/7 ?#<\"ä"), "/entities/order/A%2F7%20%3F%23%3C%22%C3%A4");
        assert!(entity("order/<b>").into_string().contains(">order/&lt;b&gt;</a>"));
    }

    #[test]
    fn times_are_short_and_what_is_no_time_is_left_alone() {
        assert!(time("2026-11-23T09:12:04.120Z").into_string().contains(">2026-11-23 09:12 UTC<"));
        assert!(to_the_second("2026-11-23T09:12:04Z").into_string().contains(">2026-11-23 09:12:04 UTC<"));
        for odd in ["", "soon", "2026-11-23T09:12:04+01:00", "ééééééééééééé"] {
            assert!(time(odd).into_string().contains(&format!(">{odd}<")), "{odd}");
        }
    }

    #[test]
    fn every_class_has_its_words() {
        use syncline_actors::decision::ExceptionClass as C;
        for class in [
            C::Hold,
            C::DeadLetter,
            C::Failure,
            C::Late,
            C::Mapping,
            C::Compensation,
            C::Quarantine,
            C::Poison,
        ] {
            assert!(CLASSES.iter().any(|known| known.word == class.word()), "{}", class.word());
        }
        assert_eq!(title("new_class"), "new class");
    }
}

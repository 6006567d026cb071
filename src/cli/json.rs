//! JSON laid out for people, digit for digit: only white space is added.

/// One member a line, two spaces a level. Text that is not JSON comes back more or less as it was.
pub(super) fn indented(json: &str) -> String {
    let mut laid = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let line = |laid: &mut String, depth: usize| {
        laid.push('\n');
        laid.extend(std::iter::repeat_n("  ", depth));
    };
    let mut tokens = tokens(json).peekable();
    while let Some(token) = tokens.next() {
        match token {
            "{" | "[" => {
                laid.push_str(token);
                if tokens.peek().is_some_and(|next| !matches!(*next, "}" | "]")) {
                    depth += 1;
                    line(&mut laid, depth);
                } else if let Some(close) = tokens.next() {
                    laid.push_str(close);
                }
            }
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                line(&mut laid, depth);
                laid.push_str(token);
            }
            "," => {
                laid.push(',');
                line(&mut laid, depth);
            }
            ":" => laid.push_str(": "),
            other => laid.push_str(other),
        }
    }
    laid
}

/// On one line with a space after each colon and comma, so that it can be broken there.
pub(super) fn spaced(json: &str) -> String {
    let mut laid = String::with_capacity(json.len() + 16);
    for token in tokens(json) {
        laid.push_str(token);
        if matches!(token, ":" | ",") {
            laid.push(' ');
        }
    }
    laid
}

/// Strings, numbers, words and punctuation in order, without the white space between them.
fn tokens(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let end = match rest.bytes().next()? {
            b'"' => string_end(rest),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => rest
                .find(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | '[' | ']' | ',' | ':' | '"'))
                .unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

/// Where the string at the beginning of `text` ends, behind its quote.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"a":{},"b":[1.50,"x,{\"y\":1}é"],"c":[ ],"d":{"e":null}}"#;

    #[test]
    fn json_is_laid_out_and_says_the_same() {
        assert_eq!(
            indented(TEXT),
            "{\n  \"a\": {},\n  \"b\": [\n    1.50,\n    \"x,{\\\"y\\\":1}é\"\n  ],\n  \"c\": [],\n  \"d\": {\n    \"e\": null\n  }\n}"
        );
        assert_eq!(indented(&indented(TEXT)), indented(TEXT));
        assert_eq!(spaced(TEXT), r#"{"a": {}, "b": [1.50, "x,{\"y\":1}é"], "c": [], "d": {"e": null}}"#);
        for laid in [indented(TEXT), spaced(TEXT)] {
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(value(&laid), value(TEXT));
        }
    }

    #[test]
    fn what_is_not_json_does_no_harm() {
        for text in ["", "]]", "{", "\"", "\"\\", "a b", "{\"a\":é"] {
            let _ = (indented(text), spaced(text));
        }
    }
}

//! Reads Rust source as far as the rules need it: which paths stand where, and which macros are called.
//!
//! Comments, literals and items under `#[cfg(test)]` are left out; `use` trees are spread into single paths.

/// A path as written, e.g. `crate::journal::Error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Its names.
    pub(crate) names: Vec<String>,
    /// Written with `::` in front.
    pub(crate) absolute: bool,
}

/// What a source file names.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Paths, those of `use` included.
    pub(crate) paths: Vec<Path>,
    /// Names the file itself gives a meaning: `mod x`, and what `use` brings in, with the path it stands for.
    pub(crate) bound: Vec<(String, Vec<String>)>,
    /// Macros called by a bare name, with their lines.
    pub(crate) macros: Vec<(usize, String)>,
    /// All words, with their lines.
    pub(crate) words: Vec<(usize, String)>,
}

/// What `text` names outside of tests.
pub(crate) fn scan(text: &str) -> Source {
    let tokens = without_tests(&tokens(&without_comments_and_literals(text)));
    let mut source = Source::default();
    let mut at = 0;
    while at < tokens.len() {
        at = match &tokens[at].kind {
            Kind::Word(word) if word == "use" && !is(&tokens, at + 1, "<") => {
                read_use(&tokens, at + 1, &mut source)
            }
            Kind::Word(_) => read_path(&tokens, at, &mut source),
            Kind::Mark(_) => at + 1,
        };
    }
    source.words = tokens
        .into_iter()
        .filter_map(|token| if let Kind::Word(word) = token.kind { Some((token.line, word)) } else { None })
        .collect();
    source
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Word(String),
    Mark(&'static str),
}

#[derive(Debug, Clone)]
struct Token {
    line: usize,
    kind: Kind,
}

fn is(tokens: &[Token], at: usize, mark: &str) -> bool {
    matches!(tokens.get(at), Some(Token { kind: Kind::Mark(found), .. }) if *found == mark)
}

fn word(tokens: &[Token], at: usize) -> Option<&str> {
    if let Some(Token { kind: Kind::Word(word), .. }) = tokens.get(at) { Some(word) } else { None }
}

/// A path in code, from its first word. Answers where it ends.
fn read_path(tokens: &[Token], start: usize, source: &mut Source) -> usize {
    let mut names = vec![word(tokens, start).expect("the caller saw a word").to_owned()];
    let mut at = start + 1;
    while is(tokens, at, "::")
        && let Some(next) = word(tokens, at + 1)
    {
        names.push(next.to_owned());
        at += 2;
    }
    let line = tokens[start].line;
    if names.len() == 1 && names[0] == "mod" {
        if let Some(name) = word(tokens, at) {
            source.bound.push((name.to_owned(), vec!["self".to_owned(), name.to_owned()]));
        }
        return at + 1;
    }
    if names.len() == 1 && is(tokens, at, "!") && !is(tokens, at + 1, "=") {
        source.macros.push((line, names[0].clone()));
    }
    let after_colons = start > 0 && is(tokens, start - 1, "::");
    let of_a_type = after_colons && start > 1 && is(tokens, start - 2, ">"); // `<A as B>::name`
    if !of_a_type && (names.len() > 1 || after_colons) {
        let absolute = after_colons;
        source.paths.push(Path { line, names, absolute });
    }
    at
}

/// A `use` from the word after it. Answers where it ends.
fn read_use(tokens: &[Token], start: usize, source: &mut Source) -> usize {
    let absolute = is(tokens, start, "::");
    let end = read_tree(tokens, start + usize::from(absolute), &[], absolute, source);
    end + 1
}

/// One branch of a `use` tree below `prefix`. Answers where it ends: at `,`, `}` or `;`.
fn read_tree(
    tokens: &[Token],
    start: usize,
    prefix: &[String],
    absolute: bool,
    source: &mut Source,
) -> usize {
    let mut names = prefix.to_vec();
    let mut at = start;
    let mut alias = None;
    loop {
        if is(tokens, at, "{") {
            while !is(tokens, at, "}") {
                at = read_tree(tokens, at + 1, &names, absolute, source);
                if at >= tokens.len() {
                    return at;
                }
            }
            return at + 1;
        }
        match word(tokens, at) {
            Some("as") => {
                alias = word(tokens, at + 1).map(ToOwned::to_owned);
                at += 2;
            }
            Some("self") if !names.is_empty() => at += 1,
            Some(name) => {
                names.push(name.to_owned());
                at += 1;
            }
            None if is(tokens, at, "::") || is(tokens, at, "*") => at += 1,
            None => break,
        }
    }
    if names.len() > prefix.len() || names.len() > 1 {
        let line = tokens[start.min(tokens.len() - 1)].line;
        let name = alias.or_else(|| names.last().cloned()).expect("a path has a name");
        source.bound.push((name, names.clone()));
        source.paths.push(Path { line, names, absolute });
    }
    at
}

const MARKS: &[&str] =
    &["::", "{", "}", "(", ")", "[", "]", "<", ">", ";", ",", ".", "!", "=", "#", "*", "'", "&", "|", "?"];

fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            if is_word(first) {
                let (name, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
                found.push(Token { line: index + 1, kind: Kind::Word(name.to_owned()) });
                rest = after;
            } else if let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark)) {
                found.push(Token { line: index + 1, kind: Kind::Mark(mark) });
                rest = &rest[mark.len()..];
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    found
}

/// Leaves out each item that `#[cfg(test)]` stands before.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept: Vec<Token> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let cfg = is(tokens, at, "#")
            && is(tokens, at + 1, "[")
            && word(tokens, at + 2) == Some("cfg")
            && is(tokens, at + 3, "(")
            && word(tokens, at + 4) == Some("test")
            && is(tokens, at + 5, ")");
        if cfg {
            at = end_of_item(tokens, at + 7);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Just after the item that begins at `at`: its `;`, or the `}` that closes its first `{`.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < tokens.len() {
        let opens = ["{", "(", "["].iter().any(|mark| is(tokens, at, mark));
        let closes = ["}", ")", "]"].iter().any(|mark| is(tokens, at, mark));
        depth = if opens { depth + 1 } else { depth.saturating_sub(usize::from(closes)) };
        if depth == 0 && (is(tokens, at, ";") || is(tokens, at, "}")) {
            return at + 1;
        }
        at += 1;
    }
    at
}

/// Comments and literals become spaces; lines stay lines.
fn without_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself where none begins.
fn literal_or_comment_end(chars: &[char], at: usize) -> usize {
    let next = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next(1) == '/' => (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
        '/' if next(1) == '*' => block_comment_end(chars, at),
        '"' => text_end(chars, at + 1),
        'r' if (!in_word || chars[at - 1] == 'b') && (next(1) == '"' || next(1) == '#') => {
            raw_text_end(chars, at)
        }
        '\'' if next(1) == '\\' => {
            (at + 3..chars.len()).find(|i| chars[*i] == '\'').map_or(chars.len(), |i| i + 1)
        }
        '\'' if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn text_end(chars: &[char], start: usize) -> usize {
    let mut at = start;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_text_end(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return start; // `r#name`
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = start + 2 + hashes;
    (body..chars.len()).find(|i| chars[*i..].starts_with(&closing)).map_or(chars.len(), |i| i + closing.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let show = |path: &Path| {
            format!("{}:{}{}", path.line, if path.absolute { "::" } else { "" }, path.names.join("::"))
        };
        scan(text).paths.iter().map(show).collect()
    }

    #[test]
    fn use_trees_are_spread() {
        assert_eq!(
            paths(
                "use crate::{host, journal::{self, keys::Key as K, redb::*}, };\npub(crate) use ::redb;\nuse a::b;"
            ),
            [
                "1:crate::host",
                "1:crate::journal",
                "1:crate::journal::keys::Key",
                "1:crate::journal::redb",
                "2:::redb",
                "3:a::b",
            ]
        );
    }

    #[test]
    fn paths_in_code_are_found_and_members_are_not() {
        assert_eq!(
            paths(
                "fn f(x: &super::Host) -> <A as b::C>::D::E { x.ractor.y(); Vec::<u8>::new(); ::redb::open::<T>() }"
            ),
            ["1:super::Host", "1:b::C", "1:::redb::open"]
        );
        assert_eq!(paths("#[tokio::main]\nimpl Trait + use<'a>"), ["1:tokio::main"]);
    }

    #[test]
    fn comments_literals_and_tests_do_not_count() {
        assert_eq!(
            paths(
                "// a::b\n/* c::d /* e::f */ g::h */ \"i::j \\\" k::l\" r#\"m::n\"# b\"o::p\" '\"' q::r '\\'' s::t\n\
                 fn f<'a>(x: &'a u::v) {}\n#[cfg(test)]\nuse w::x;\ny::z();\n\
                 #[cfg(test)]\nmod tests { use aa::bb; fn t() { cc::dd() } }\nee::ff();"
            ),
            ["2:q::r", "2:s::t", "3:u::v", "6:y::z", "9:ee::ff"]
        );
    }

    #[test]
    fn macros_and_bound_names_are_found() {
        let source = scan(
            "mod redb;\nuse x::y as z;\nfn f() { counter!(\"a\"); if a != b {} metrics::gauge!(\"b\") }",
        );
        assert_eq!(source.macros, [(3, "counter".to_owned())]);
        let bound: Vec<String> = source.bound.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(bound, ["redb", "z"]);
        assert!(source.paths.iter().any(|path| path.names == ["metrics", "gauge"]));
    }
}

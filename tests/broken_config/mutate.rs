//! Every mistake of a kind that a person makes, at every part of a tree.

use super::tree::{At, Tree};

/// One broken copy.
#[derive(Debug)]
pub(crate) struct Broken {
    /// What was done to it.
    pub(crate) how: How,
    /// The keys that lead to what is broken; `#` for an item of a list.
    pub(crate) path: Vec<String>,
    /// What stood there: the key or the value, as far as it is a word.
    pub(crate) was: Vec<String>,
    /// The text, broken.
    pub(crate) text: String,
    /// The line on which the broken part stands, or that holds what is gone.
    pub(crate) line: u32,
    /// The lines on which the two maps or lists around it begin.
    pub(crate) around: Vec<u32>,
}

/// What can be done to a part of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum How {
    /// It is gone.
    Deleted,
    /// Its key has lost a letter.
    KeyMisspelled,
    /// Its key stands twice.
    KeyTwice,
    /// Its value is left out.
    Null,
    /// A map, with a key that nothing knows, stands for it.
    Map,
    /// A list stands for it.
    List,
    /// Text of several words stands for it.
    Words,
    /// A number stands for it.
    Number,
    /// It is text, and empty.
    Empty,
    /// It is text, and has lost a letter.
    Misspelled,
    /// It is an expression with an operator and nothing after it.
    Syntax,
    /// It is an expression that names what is not there.
    UnknownName,
    /// It is an expression that calls what is not there.
    UnknownFunction,
    /// It is an expression that gives a function too many arguments.
    WrongArguments,
    /// It is a time, now below zero.
    Negative,
    /// It is a time, now without a unit.
    NoUnit,
    /// It is a number, now below zero.
    BelowZero,
    /// It is a number of too many digits.
    Huge,
    /// It is true or false, now a `yes`.
    Yes,
}

/// Every broken copy of `tree`.
pub(crate) fn all(tree: &Tree) -> Vec<Broken> {
    tree.parts().iter().flat_map(|at| at_part(tree, at)).collect()
}

fn at_part(tree: &Tree, at: &At) -> Vec<Broken> {
    let value = tree.get(at);
    let mut all = vec![broken(tree, at, How::Deleted, &delete(tree, at))];
    let mut put = |how, value: Tree| {
        if *tree.get(at) != value {
            all.push(broken(tree, at, how, &tree.with(at, value)));
        }
    };
    put(How::Null, Tree::Plain("null".into()));
    put(How::Map, Tree::Map(vec![("oops".into(), Tree::Plain("1".into()))]));
    put(How::List, Tree::List(vec![Tree::Plain("17".into())]));
    put(How::Words, Tree::Text("no such thing".into()));
    put(How::Number, Tree::Plain("17".into()));
    match value {
        Tree::Text(text) => texts(text, &mut put),
        Tree::Plain(text) => plains(text, &mut put),
        Tree::List(_) | Tree::Map(_) => {}
    }
    if let Some(key) = tree.key(at) {
        let renamed = tree.changed(at, |holder, index| rename(holder, index, misspelled(key)));
        all.push(broken(tree, at, How::KeyMisspelled, &renamed));
        all.push(broken(tree, at, How::KeyTwice, &twice(tree, at)));
    }
    all
}

fn texts(text: &str, put: &mut impl FnMut(How, Tree)) {
    put(How::Empty, Tree::Text(String::new()));
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        put(How::Misspelled, Tree::Text(misspelled(text)));
    }
    if is_expression(text) {
        put(How::Syntax, Tree::Text(format!("{text} +")));
        put(How::UnknownName, Tree::Text(format!("[{text}, nobody_knows_this][0]")));
        put(How::UnknownFunction, Tree::Text(format!("no_such_function({text})")));
        put(How::WrongArguments, Tree::Text(format!("dec({text}, 1, 2)")));
    }
    if syncline_actors::document::parse_duration(text).is_ok() {
        put(How::Negative, Tree::Text(format!("-{text}")));
        put(How::NoUnit, Tree::Text(text.trim_end_matches(char::is_alphabetic).to_owned()));
    }
}

fn plains(text: &str, put: &mut impl FnMut(How, Tree)) {
    if matches!(text, "true" | "false") {
        put(How::Yes, Tree::Plain("yes".into()));
    } else if text != "null" {
        put(How::BelowZero, Tree::Plain(format!("-{text}")));
        put(How::Huge, Tree::Plain("9".repeat(40)));
    }
}

/// Whether text can only be meant as an expression: it looks into something, compares, or is quoted within.
fn is_expression(text: &str) -> bool {
    let roots =
        ["order.", "data.", "result.", "step.", "entity.", "body.", "input.", "item.", "line.", "status "];
    roots.iter().any(|root| text.contains(root)) || text.contains("' +") || text.starts_with('\'')
}

/// The same without a letter from its middle.
pub(crate) fn misspelled(word: &str) -> String {
    let letters: Vec<char> = word.chars().collect();
    let middle = (0..letters.len())
        .min_by_key(|index| (!letters[*index].is_alphanumeric(), index.abs_diff(letters.len() / 2)));
    let kept = letters.iter().enumerate().filter(|(index, _)| Some(*index) != middle).map(|(_, c)| *c);
    let left: String = kept.collect();
    if left.trim().is_empty() { format!("{word}{word}") } else { left }
}

fn delete(tree: &Tree, at: &At) -> Tree {
    tree.changed(at, |holder, index| match holder {
        Tree::List(items) => drop(items.remove(index)),
        Tree::Map(entries) => drop(entries.remove(index)),
        Tree::Plain(_) | Tree::Text(_) => {}
    })
}

fn rename(holder: &mut Tree, index: usize, key: String) {
    if let Tree::Map(entries) = holder {
        entries[index].0 = key;
    }
}

fn twice(tree: &Tree, at: &At) -> Tree {
    tree.changed(at, |holder, index| {
        if let Tree::Map(entries) = holder {
            entries.insert(index, entries[index].clone());
        }
    })
}

fn broken(tree: &Tree, at: &At, how: How, changed: &Tree) -> Broken {
    let written = changed.written();
    let line = |at: &[usize]| written.lines.get(at).copied();
    let above: Vec<&[usize]> = (0..at.len()).rev().take(2).map(|depth| &at[..depth]).collect();
    let around: Vec<u32> = above.iter().filter_map(|at| line(at)).collect();
    let words = [tree.key(at), tree.get(at).text()];
    Broken {
        how,
        path: tree.path(at).into_iter().map(str::to_owned).collect(),
        was: words.into_iter().flatten().map(str::to_owned).collect(),
        line: line(at).unwrap_or(around[0]),
        around,
        text: written.text,
    }
}

#[test]
fn a_misspelled_word_is_another_word() {
    assert_eq!(misspelled("messages"), "messges");
    assert_eq!(misspelled("id"), "i");
    assert_eq!(misspelled("x"), "xx");
}

/// The path with every key that its author chose as `*`: places of one kind are alike.
pub(crate) fn place(path: &[String]) -> String {
    let known = |key: &str| KEYS.split_whitespace().any(|known| known == key);
    path.iter().map(|key| if known(key) { key } else { "*" }).collect::<Vec<_>>().join("/")
}

/// The keys that mean something where they stand.
const KEYS: &str = "# process version title owner team escalate initial fields messages is starts business_key out_of_turn \
    effects call with keep undo failure states on after always commit hold reason missing end anywhere milestones reached_in within \
    set to when except each as where map source preset secrets id ref optional not_after schemas send event command key time \
    correlation connector base_url auth scheme limits concurrency rate burst timeout retry base cap attempts_max breaker \
    failures open_for ordered sandbox operations method path query headers body form outcomes result detail wait idempotency \
    uncertain key_kept ask_first probe found absent default verify identify ack handshake retry_span retention docs signature parse \
    signed timestamp url algorithm encoding dedupe type tolerance from unit kind status conflict revision record subscribes \
    create required session take lasts";

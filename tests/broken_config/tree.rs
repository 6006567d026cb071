//! A document as a tree that can be broken in one place and written again, one entry a line.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use syncline_actors::document::{Kind, Node, parse};

/// What a document holds, without places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    /// A number, a boolean or null, as it is written.
    Plain(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A map; a key may stand twice.
    Map(Vec<(String, Tree)>),
}

/// Where something is in a tree: which child of which child.
pub(crate) type At = Vec<usize>;

/// A tree as text, and the line on which each entry of it begins.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) lines: BTreeMap<At, u32>,
}

impl Tree {
    /// The tree of a document that is right.
    pub(crate) fn of(file: &str, text: &str) -> Self {
        Self::from_node(&parse(file, text).unwrap_or_else(|problem| panic!("{problem}")))
    }

    pub(crate) fn from_node(node: &Node) -> Self {
        match &node.kind {
            Kind::Null => Self::Plain("null".into()),
            Kind::Bool(value) => Self::Plain(value.to_string()),
            Kind::Number(text) => Self::Plain(text.clone()),
            Kind::Text(text) => Self::Text(text.clone()),
            Kind::List(items) => Self::List(items.iter().map(Self::from_node).collect()),
            Kind::Map(entries) => Self::Map(
                entries.iter().map(|(key, node)| (key.text.clone(), Self::from_node(node))).collect(),
            ),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Every part but the root, outer before inner.
    pub(crate) fn parts(&self) -> Vec<At> {
        fn walk(tree: &Tree, at: &At, all: &mut Vec<At>) {
            for index in 0..tree.len() {
                let below = [&at[..], &[index]].concat();
                all.push(below.clone());
                walk(tree.child(index), &below, all);
            }
        }
        let mut all = Vec::new();
        walk(self, &Vec::new(), &mut all);
        all
    }

    fn len(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Text(_) => 0,
            Self::List(items) => items.len(),
            Self::Map(entries) => entries.len(),
        }
    }

    fn child(&self, index: usize) -> &Self {
        match self {
            Self::List(items) => &items[index],
            Self::Map(entries) => &entries[index].1,
            Self::Plain(_) | Self::Text(_) => panic!("it has no children"),
        }
    }

    pub(crate) fn get(&self, at: &[usize]) -> &Self {
        at.iter().fold(self, |tree, index| tree.child(*index))
    }

    /// The key under which it stands, unless it is an item of a list.
    pub(crate) fn key(&self, at: &[usize]) -> Option<&str> {
        let (last, above) = at.split_last()?;
        if let Self::Map(entries) = self.get(above) { Some(&entries[*last].0) } else { None }
    }

    /// The keys that lead to it; an item of a list is a `#`.
    pub(crate) fn path(&self, at: &[usize]) -> Vec<&str> {
        (1..=at.len()).map(|depth| self.key(&at[..depth]).unwrap_or("#")).collect()
    }

    /// The same tree after `change` of the entry list or item list that holds `at`; told which of them it is.
    pub(crate) fn changed(&self, at: &[usize], change: impl FnOnce(&mut Self, usize)) -> Self {
        let mut tree = self.clone();
        let (last, above) = at.split_last().expect("the root is not changed");
        let holder = above.iter().fold(&mut tree, |tree, index| match tree {
            Self::List(items) => &mut items[*index],
            Self::Map(entries) => &mut entries[*index].1,
            Self::Plain(_) | Self::Text(_) => panic!("it has no children"),
        });
        change(holder, *last);
        tree
    }

    /// The same tree with another value there.
    pub(crate) fn with(&self, at: &[usize], value: Self) -> Self {
        self.changed(at, |holder, index| match holder {
            Self::List(items) => items[index] = value,
            Self::Map(entries) => entries[index].1 = value,
            Self::Plain(_) | Self::Text(_) => {}
        })
    }

    /// As YAML in block style.
    pub(crate) fn written(&self) -> Written {
        let mut written = Written { text: String::new(), lines: BTreeMap::from([(At::new(), 1)]) };
        self.write(&At::new(), &mut written);
        written
    }

    fn write(&self, at: &At, written: &mut Written) {
        let indent = " ".repeat(2 * at.len());
        for index in 0..self.len() {
            let below = [&at[..], &[index]].concat();
            // Each entry takes a line, and the root none.
            let line = u32::try_from(written.lines.len()).expect("a file is short");
            written.lines.insert(below.clone(), line);
            let head = match self {
                Self::Map(entries) => format!("{}:", quoted(&entries[index].0)),
                _ => "-".to_owned(),
            };
            let child = self.child(index);
            let scalar = match child {
                Self::Plain(text) => format!(" {text}"),
                Self::Text(text) => format!(" {}", json(text)),
                Self::List(items) if items.is_empty() => " []".to_owned(),
                Self::Map(entries) if entries.is_empty() => " {}".to_owned(),
                Self::List(_) | Self::Map(_) => String::new(),
            };
            let _ = writeln!(written.text, "{indent}{head}{scalar}");
            child.write(&below, written);
        }
    }
}

fn quoted(key: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '?');
    let word = key.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '$');
    if word && key.chars().all(plain) { key.to_owned() } else { json(key) }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

#[test]
fn a_tree_reads_as_it_was_written() {
    let text = "a: {b: [1, [x, {c: \"'q\\n'\"}], []], \"1\": null}\nd.e: \"true\"\nf?: {}\n";
    let tree = Tree::of("t.yaml", text);
    let written = tree.written();
    assert_eq!(Tree::of("t.yaml", &written.text), tree, "{}", written.text);
    for at in tree.parts() {
        let line = written.text.lines().nth(written.lines[&at] as usize - 1).expect("it is a line");
        assert!(tree.key(&at).is_none_or(|key| line.contains(key)), "{at:?}: {line}");
    }
}

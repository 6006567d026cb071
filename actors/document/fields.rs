//! A map whose keys are known to the program, read key by key.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::item::listed;
use super::{Item, Key, Kind, Node, Numeric, Problem, Reader, Spanned, path_of_key, quoted, suggest};

/// A map that is read key by key and notes what is missing, wrong or unknown.
///
/// A method named after a type wants the key to be there; its `optional_` twin does not. Either answers `None` after
/// noting a problem, so read all keys first and give up after, with `?` on the results. A key without a value (`key:`) is
/// a mistake, because it looks like one. Ends with [`Fields::finish`], which notes the keys nobody asked for.
#[derive(Debug)]
#[must_use = "call `finish`, or unknown keys pass unseen"]
pub struct Fields<'n> {
    node: &'n Node,
    entries: &'n [(Key, Node)],
    path: String,
    reader: &'n Reader,
    known: Vec<String>,
}

impl<'n> Fields<'n> {
    /// The fields of `node`, which should be a map.
    pub fn of(node: &'n Node, path: impl Into<String>, reader: &'n Reader) -> Option<Self> {
        let item = Item::at(node, path, reader);
        let Kind::Map(entries) = &node.kind else {
            item.refuse(
                format!("expected a map, found {}", node.describe()),
                "write `key: value` lines, indented below the key",
            );
            return None;
        };
        Some(Self { node, entries, path: item.path, reader, known: Vec::new() })
    }

    /// The map as a whole.
    pub fn item(&self) -> Item<'n> {
        Item::at(self.node, self.path.clone(), self.reader)
    }

    /// The value of a key that may be left out, whatever it is; null too.
    pub fn node(&mut self, key: &str) -> Option<&'n Node> {
        self.optional(key).map(|item| item.node)
    }

    /// The value of a key that may be left out, with its path.
    pub fn optional(&mut self, key: &str) -> Option<Item<'n>> {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
        let (_, node) = self.entries.iter().find(|(own, _)| own.text == key)?;
        Some(Item::at(node, path_of_key(&self.path, key), self.reader))
    }

    /// The value of a key that must be there.
    pub fn required(&mut self, key: &str) -> Option<Item<'n>> {
        let found = self.optional(key);
        if found.is_none() {
            let mut fix = format!("add `{key}: …`");
            if let Some(near) = self.misspelled(key) {
                fix = format!("{fix}; is {} meant as it?", quoted(near));
            }
            self.item().refuse(format!("the key `{key}` is missing"), fix);
        }
        found
    }

    /// Text.
    pub fn text(&mut self, key: &str) -> Option<Spanned<String>> {
        self.required(key)?.text()
    }

    /// Text, if there.
    pub fn optional_text(&mut self, key: &str) -> Option<Spanned<String>> {
        self.optional(key)?.text()
    }

    /// `true` or `false`, or `default` where the key is left out.
    pub fn boolean(&mut self, key: &str, default: bool) -> bool {
        self.optional(key).and_then(|item| item.boolean()).map_or(default, |found| found.value)
    }

    /// A number, exact.
    pub fn number<T: Numeric>(&mut self, key: &str) -> Option<Spanned<T>> {
        self.required(key)?.number()
    }

    /// A number, if there.
    pub fn optional_number<T: Numeric>(&mut self, key: &str) -> Option<Spanned<T>> {
        self.optional(key)?.number()
    }

    /// A number in `range`, if there.
    pub fn optional_number_within<T>(&mut self, key: &str, range: RangeInclusive<T>) -> Option<Spanned<T>>
    where
        T: Numeric + PartialOrd + Display,
    {
        self.optional(key)?.number_within(range)
    }

    /// A length of time.
    pub fn duration(&mut self, key: &str) -> Option<Spanned<Duration>> {
        self.required(key)?.duration()
    }

    /// A length of time, if there.
    pub fn optional_duration(&mut self, key: &str) -> Option<Spanned<Duration>> {
        self.optional(key)?.duration()
    }

    /// One of several words, as what stands beside it.
    pub fn choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<Spanned<T>> {
        self.required(key)?.choice(choices)
    }

    /// One of several words, if there.
    pub fn optional_choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<Spanned<T>> {
        self.optional(key)?.choice(choices)
    }

    /// The items of a list.
    pub fn list(&mut self, key: &str) -> Option<Vec<Item<'n>>> {
        self.required(key)?.list()
    }

    /// The items of a list; none where the key is left out.
    pub fn optional_list(&mut self, key: &str) -> Vec<Item<'n>> {
        self.optional(key).and_then(|item| item.list()).unwrap_or_default()
    }

    /// The texts of a list; none where the key is left out.
    pub fn texts(&mut self, key: &str) -> Vec<Spanned<String>> {
        self.optional_list(key).iter().filter_map(Item::text).collect()
    }

    /// A map whose keys are known.
    pub fn map(&mut self, key: &str) -> Option<Fields<'n>> {
        self.required(key)?.fields()
    }

    /// A map whose keys are known, if there.
    pub fn optional_map(&mut self, key: &str) -> Option<Fields<'n>> {
        self.optional(key)?.fields()
    }

    /// The entries of a map whose keys the user chooses.
    pub fn entries(&mut self, key: &str) -> Option<Vec<(Spanned<String>, Item<'n>)>> {
        self.required(key)?.entries()
    }

    /// The entries of a map whose keys the user chooses; none where the key is left out.
    pub fn optional_entries(&mut self, key: &str) -> Vec<(Spanned<String>, Item<'n>)> {
        self.optional(key).and_then(|item| item.entries()).unwrap_or_default()
    }

    /// The entries nobody asked for yet, which are known from now on.
    pub fn rest(&mut self) -> Vec<(Spanned<String>, Item<'n>)> {
        let asked: BTreeSet<String> = self.known.iter().cloned().collect();
        let all = self.item().entries().unwrap_or_default();
        let rest: Vec<_> = all.into_iter().filter(|(name, _)| !asked.contains(&name.value)).collect();
        self.known.extend(rest.iter().map(|(name, _)| name.value.clone()));
        rest
    }

    /// Notes every key nobody asked for.
    pub fn finish(self) {
        let present: BTreeSet<&str> = self.entries.iter().map(|(key, _)| key.text.as_str()).collect();
        let known: BTreeSet<&str> = self.known.iter().map(String::as_str).collect();
        for (key, _) in self.entries.iter().filter(|(key, _)| !known.contains(key.text.as_str())) {
            let free = known.iter().copied().filter(|known| !present.contains(known));
            let fix = match suggest(&key.text, free) {
                Some(meant) => {
                    format!("did you mean `{meant}`? Known keys: {}", listed(known.iter().copied()))
                }
                None => format!("remove it. Known keys: {}", listed(known.iter().copied())),
            };
            let path = path_of_key(&self.path, &key.text);
            let message = format!("the key {} is unknown", quoted(&key.text));
            self.reader.note(Problem::error(key.place.clone(), path, message).fix(fix));
        }
    }

    /// A key that stands here and reads much like the missing one.
    fn misspelled(&self, missing: &str) -> Option<&'n str> {
        let strangers = self.entries.iter().map(|(key, _)| key.text.as_str());
        suggest(missing, strangers.filter(|key| !self.known.iter().any(|known| known == key)))
    }
}

#[cfg(test)]
mod tests;

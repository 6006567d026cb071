//! The places settings come from, laid over one another key by key.
//!
//! Each key that someone set is first tried alone over the defaults, which are right: so each mistake is found, belongs to one
//! key, and is told with the place where that key stands. Only keys that are right are laid over the defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use syncline_actors::document::suggest;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{DEFAULT, Mistake, Settings};

/// The prefix of environment variables that are settings; two underscores stand between the parts of a key.
const PREFIX: &str = "SYNCLINE_";

/// A token that is right, to try the keys of another one by one.
const TOKEN: &str = r#"{ name = "x", role = "viewer", token = "env:X" }"#;

/// Where a setting stands; in the order in which mistakes are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The default settings.
    Default,
    /// A file; line and column begin at 1.
    File {
        /// Which file.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
    /// `--set` on the command line, with what follows it.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default settings"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(text) => write!(f, "--set {text}"),
        }
    }
}

/// Where each key that someone set stands, by dotted key.
pub(super) type Origins = BTreeMap<String, Place>;

/// The layers read so far, the last over the others, and what was wrong with them as text.
#[derive(Debug, Default)]
pub(super) struct Layers {
    given: Vec<Given>,
    mistakes: Vec<Mistake>,
}

/// One key that someone set.
#[derive(Debug)]
struct Given {
    key: Vec<String>,
    value: Said,
    place: Place,
    /// Places within the value, for lists: by index, and by index and key.
    inside: BTreeMap<(usize, String), Place>,
}

/// What someone set a key to.
#[derive(Debug)]
enum Said {
    /// A value of TOML.
    Value(Value),
    /// Text that may be a string or another value of TOML: the key decides.
    Text(String),
}

impl Layers {
    /// Adds a file. What is not TOML is told with its place; the rest of the file is read all the same.
    pub(super) fn file(&mut self, path: &Path, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let place = |span: Range<usize>| place(path, text, span.start);
        if errors.is_empty() {
            match toml::from_str::<Table>(text) {
                Ok(values) => self.table(&[], &values, table.get_ref(), &place),
                // Grammar and values are read apart: a number of forty digits is TOML, and no number of ours.
                Err(error) => self.mistakes.push(Mistake {
                    place: place(error.span().unwrap_or(0..0)),
                    key: String::new(),
                    text: format!(
                        "this value cannot be read: {}; write one that can be",
                        error.message().trim()
                    ),
                }),
            }
        }
        for error in errors {
            let text = format!("this is not TOML: {}", error.message());
            self.mistakes.push(Mistake {
                place: place(error.span().unwrap_or(0..0)),
                key: String::new(),
                text,
            });
        }
    }

    fn table(
        &mut self,
        above: &[String],
        values: &Table,
        spans: &DeTable<'_>,
        place: &dyn Fn(Range<usize>) -> Place,
    ) {
        for (name, span) in spans {
            let Some(value) = values.get(name.get_ref().as_ref()) else { continue };
            let key = [above, &[name.get_ref().to_string()]].concat();
            if let (Some(Known::Section(_)), Value::Table(values), DeValue::Table(spans)) =
                (known(&key), value, span.get_ref())
            {
                self.table(&key, values, spans, place);
                continue;
            }
            self.given.push(Given {
                key,
                value: Said::Value(value.clone()),
                place: place(name.span()),
                inside: inside(span.get_ref(), place),
            });
        }
    }

    /// Adds the variables that are settings.
    pub(super) fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        // In order of their names, so that the same mistakes are told in the same order.
        let variables: BTreeMap<_, _> = variables.into_iter().collect();
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
            let key: Vec<_> = rest.split("__").map(str::to_lowercase).collect();
            let place = Place::Variable(variable.clone());
            if key.len() > 1 {
                self.given.push(Given { key, value: Said::Text(value), place, inside: BTreeMap::new() });
            } else if let Some(meant) = meant(rest) {
                let text = format!("this is not read; did you mean `{meant}` (two underscores)?");
                self.mistakes.push(Mistake { place, key: String::new(), text });
            }
        }
    }

    /// Adds what `--set` says.
    pub(super) fn set(&mut self, set: &[String]) {
        for text in set {
            let Some((key, value)) = text.split_once('=') else {
                self.mistakes.push(Mistake {
                    place: Place::Flag(text.clone()),
                    key: String::new(),
                    text: "there is no value; write `--set section.key=value`".to_owned(),
                });
                continue;
            };
            self.given.push(Given {
                key: key.trim().split('.').map(str::to_owned).collect(),
                value: Said::Text(value.trim().to_owned()),
                place: Place::Flag(key.trim().to_owned()),
                inside: BTreeMap::new(),
            });
        }
    }

    /// The settings, where each key stands that someone set (wrong ones too), and all mistakes.
    pub(super) fn merge(self) -> (Settings, Origins, Vec<Mistake>) {
        let Self { given, mut mistakes } = self;
        let mut merged = defaults();
        let mut origins = Origins::new();
        for given in given {
            match given.value() {
                Ok(value) => put(&mut merged, &given.key, value),
                Err(found) => mistakes.extend(found),
            }
            origins.insert(given.key.join("."), given.place);
        }
        let settings = Settings::deserialize(merged).expect("each key was tried over the defaults");
        (settings, origins, mistakes)
    }
}

impl Given {
    /// The value, if it is right for the key.
    fn value(&self) -> Result<Value, Vec<Mistake>> {
        match known(&self.key) {
            None => Err(vec![self.mistake(unknown(&self.key))]),
            Some(Known::Section(keys)) => {
                let text = format!("this is a section, not a key; its keys are {}", quoted(&keys));
                Err(vec![self.mistake(text)])
            }
            Some(Known::Key) if self.key.join(".") == "auth.tokens" => self.tokens(),
            Some(Known::Key) => self.plain(),
        }
    }

    fn plain(&self) -> Result<Value, Vec<Mistake>> {
        let (value, tried) = match &self.value {
            Said::Value(value) => (value.clone(), attempt(&self.key, value)),
            Said::Text(text) => {
                let plain = Value::String(text.clone());
                let as_text = attempt(&self.key, &plain);
                let other = parsed(text).filter(|_| as_text.is_err());
                match other.map(|value| (attempt(&self.key, &value), value)) {
                    Some((tried, value)) if tried.is_ok() || !self.is_text() => (value, tried),
                    _ => (plain, as_text),
                }
            }
        };
        tried.map(|()| value).map_err(|error| vec![self.mistake(self.with_fix(&error))])
    }

    /// Whether the key takes text, as its default does.
    fn is_text(&self) -> bool {
        get(&defaults(), &self.key).is_none_or(Value::is_str)
    }

    /// What is wrong with a value, and what a right one looks like.
    fn with_fix(&self, error: &str) -> String {
        let error = ["usize", "u64"].iter().fold(error.to_owned(), |error, kind| {
            error.replace(&format!("a nonzero {kind}"), "a whole number above zero")
        });
        match get(&defaults(), &self.key) {
            _ if error.contains("write ") || error.contains("expected one of") => error,
            Some(default) => format!("{error}; the default is `{default}`"),
            None => error,
        }
    }

    /// `auth.tokens`: each key of each token is tried, then each token as a whole.
    fn tokens(&self) -> Result<Value, Vec<Mistake>> {
        let value = match &self.value {
            Said::Value(value) => Some(value.clone()),
            Said::Text(text) => parsed(text),
        };
        let Some(Value::Array(tokens)) = value else {
            // What stands here may be the token itself.
            return Err(vec![self.mistake(format!("this must be a list of tokens; write `[{TOKEN}]`"))]);
        };
        let mut mistakes = Vec::new();
        for (index, token) in tokens.iter().enumerate() {
            mistakes.extend(self.token(index, token));
        }
        if mistakes.is_empty() { Ok(Value::Array(tokens)) } else { Err(mistakes) }
    }

    fn token(&self, index: usize, token: &Value) -> Vec<Mistake> {
        let here = |key: &str, text: String| Mistake {
            place: self.inside.get(&(index, key.to_owned())).unwrap_or(&self.place).clone(),
            key: format!("auth.tokens[{index}]{}{key}", if key.is_empty() { "" } else { "." }),
            text,
        };
        let Value::Table(token) = token else {
            return vec![here("", format!("this must be a table; write `{TOKEN}`"))];
        };
        let example = parsed(TOKEN).expect("it is TOML");
        let mut mistakes = Vec::new();
        for (key, value) in token {
            let mut tried = example.as_table().cloned().expect("it is a table");
            tried.insert(key.clone(), value.clone());
            if let Err(error) = attempt(&self.key, &Value::Array(vec![Value::Table(tried)])) {
                mistakes.push(here(key, error));
            }
        }
        for key in
            example.as_table().into_iter().flat_map(Table::keys).filter(|key| !token.contains_key(*key))
        {
            mistakes.push(here("", format!("`{key}` is missing; write `{TOKEN}`")));
        }
        mistakes
    }

    fn mistake(&self, text: String) -> Mistake {
        Mistake { place: self.place.clone(), key: self.key.join("."), text }
    }
}

/// What may stand under a key.
enum Known {
    Section(Vec<String>),
    Key,
}

/// Every key there is, as a tree: sections are objects, keys are anything else.
fn tree() -> serde_json::Value {
    serde_json::to_value(Settings::default()).expect("settings are plain values")
}

fn known(key: &[String]) -> Option<Known> {
    let found =
        key.iter().try_fold(tree(), |mut below, name| below.get_mut(name).map(serde_json::Value::take))?;
    match found {
        serde_json::Value::Object(keys) => {
            Some(Known::Section(keys.into_iter().map(|(key, _)| key).collect()))
        }
        _ => Some(Known::Key),
    }
}

/// Every key there is, in order.
pub(super) fn keys() -> Vec<Vec<String>> {
    fn walk(above: &[String], value: &serde_json::Value, keys: &mut Vec<Vec<String>>) {
        let serde_json::Value::Object(members) = value else { return keys.push(above.to_vec()) };
        for (name, value) in members {
            walk(&[above, std::slice::from_ref(name)].concat(), value, keys);
        }
    }
    let mut keys = Vec::new();
    walk(&[], &tree(), &mut keys);
    keys
}

/// What to say of a key that there is not.
fn unknown(key: &[String]) -> String {
    let depth = (1..=key.len()).find(|depth| known(&key[..*depth]).is_none()).unwrap_or(key.len());
    let (above, name) = (&key[..depth - 1], &key[depth - 1]);
    let Some(Known::Section(siblings)) = known(above) else {
        return format!("`{}` is a key, not a section", above.join("."));
    };
    let what = if above.is_empty() { "section" } else { "key" };
    let all = keys().into_iter().map(|key| key.join("."));
    let dotted = |name: &str| [above, &[name.to_owned()]].concat().join(".");
    if let Some(near) = suggest(name, siblings.iter().map(String::as_str)) {
        format!("there is no such {what}; did you mean `{}`?", dotted(near))
    } else if let Some(elsewhere) = all.into_iter().find(|key| key.rsplit('.').next() == Some(name)) {
        format!("there is no such {what} here; did you mean `{elsewhere}`?")
    } else {
        format!("there is no such {what}; there are {}", quoted(&siblings))
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The variable that `SYNCLINE_<rest>` was meant to be, if it only lacks underscores.
fn meant(rest: &str) -> Option<String> {
    let written = |key: &[String], between: &str| key.join(between).to_uppercase();
    let key = keys().into_iter().find(|key| written(key, "_") == rest)?;
    Some(format!("{PREFIX}{}", written(&key, "__")))
}

fn defaults() -> Table {
    toml::from_str(DEFAULT).expect("a test reads config/syncline.toml")
}

/// Whether the defaults with this one key changed are settings; what is wrong if not.
fn attempt(key: &[String], value: &Value) -> Result<(), String> {
    let mut table = defaults();
    put(&mut table, key, value.clone());
    Settings::deserialize(table).map(|_| ()).map_err(|error| error.message().to_owned())
}

fn put(table: &mut Table, key: &[String], value: Value) {
    let (last, sections) = key.split_last().expect("a key has a name");
    let mut table = table;
    for section in sections {
        let below = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        table = below.as_table_mut().expect("a known key stands in sections");
    }
    table.insert(last.clone(), value);
}

fn get<'t>(table: &'t Table, key: &[String]) -> Option<&'t Value> {
    let (last, sections) = key.split_last()?;
    sections.iter().try_fold(table, |table, section| table.get(section)?.as_table())?.get(last)
}

/// `text` as a value of TOML, if it is one.
fn parsed(text: &str) -> Option<Value> {
    toml::from_str::<Table>(&format!("value = {text}")).ok()?.remove("value")
}

/// Where the elements of a list of tables stand, and their keys.
fn inside(value: &DeValue<'_>, place: &dyn Fn(Range<usize>) -> Place) -> BTreeMap<(usize, String), Place> {
    let mut places = BTreeMap::new();
    let DeValue::Array(elements) = value else { return places };
    for (index, element) in elements.iter().enumerate() {
        places.insert((index, String::new()), place(element.span()));
        let DeValue::Table(keys) = element.get_ref() else { continue };
        for (key, _) in keys {
            places.insert((index, key.get_ref().to_string()), place(key.span()));
        }
    }
    places
}

fn place(path: &Path, text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Place::File {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

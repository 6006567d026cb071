//! Nodes into types that derive `Deserialize`: for parts of a file that are a plain description, without expressions.
//!
//! Serde stops at the first mistake, so this is for small parts; the mistake is told at the innermost node it concerns.

use std::fmt;

use serde::de::{self, DeserializeOwned, IntoDeserializer as _, Visitor};

use super::{Item, Key, Kind, Node, Place, Problem, path_of_key};

impl Item<'_> {
    /// Reads the item into a type; what is wrong is noted with its place.
    pub fn typed<T: DeserializeOwned>(&self) -> Option<T> {
        match T::deserialize(De { node: self.node, path: self.path.clone() }) {
            Ok(value) => Some(value),
            Err(Error { at, message }) => {
                let (place, path) = at.unwrap_or_else(|| (self.place().clone(), self.path.clone()));
                let (message, fix) = split_fix(&message);
                self.reader.note(Problem::error(place, path, message).fix(fix));
                None
            }
        }
    }
}

/// Serde writes what it expected after the mistake; that is the fix.
fn split_fix(message: &str) -> (String, String) {
    let message = message.replace("expected struct", "expected a map of");
    match message.split_once(", expected ") {
        Some((mistake, expected)) => (mistake.to_owned(), format!("write {expected}")),
        None if message.starts_with("missing field") => (message, "add it".to_owned()),
        None => (message, "look at the documentation of this part".to_owned()),
    }
}

#[derive(Debug)]
struct Error {
    at: Option<(Place, String)>,
    message: String,
}

impl Error {
    fn at(mut self, place: &Place, path: &str) -> Self {
        self.at.get_or_insert_with(|| (place.clone(), path.to_owned()));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { at: None, message: message.to_string() }
    }
}

struct De<'n> {
    node: &'n Node,
    path: String,
}

impl De<'_> {
    fn placed<T>(&self, read: Result<T, Error>) -> Result<T, Error> {
        read.map_err(|error| error.at(&self.node.place, &self.path))
    }
}

impl<'de> de::Deserializer<'de> for De<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let read = match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Number(text) => match (text.parse::<u64>(), text.parse::<i64>()) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_str(text), // never a float
            },
            Kind::Text(text) => visitor.visit_str(text),
            Kind::List(items) => visitor.visit_seq(Items { rest: items, next: 0, path: &self.path }),
            Kind::Map(entries) => visitor.visit_map(Entries { rest: entries, next: 0, path: &self.path }),
        };
        self.placed(read)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.kind == Kind::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let read = match self.node.as_text() {
            Some(text) => visitor.visit_enum(text.into_deserializer()),
            None => Err(de::Error::custom(format!("{} stands where a word belongs", self.node.describe()))),
        };
        self.placed(read)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'n> {
    rest: &'n [Node],
    next: usize,
    path: &'n str,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.rest.get(self.next) else { return Ok(None) };
        let path = format!("{}[{}]", self.path, self.next);
        self.next += 1;
        seed.deserialize(De { node, path }).map(Some)
    }
}

struct Entries<'n> {
    rest: &'n [(Key, Node)],
    next: usize,
    path: &'n str,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, _)) = self.rest.get(self.next) else { return Ok(None) };
        let read = seed.deserialize(key.text.as_str().into_deserializer());
        read.map(Some).map_err(|error: Error| error.at(&key.place, &path_of_key(self.path, &key.text)))
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, node) = self.rest.get(self.next).expect("serde asks for a value after its key");
        self.next += 1;
        seed.deserialize(De { node, path: path_of_key(self.path, &key.text) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::super::Reader;
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Ack {
        status: u16,
        body: Option<String>,
        #[serde(default)]
        how: How,
        #[serde(default)]
        more: BTreeMap<String, Vec<String>>,
    }

    #[derive(Debug, PartialEq, Default, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum How {
        #[default]
        AtOnce,
        Later,
    }

    fn read(text: &str) -> Result<Ack, String> {
        let reader = Reader::default();
        let node = reader.read("s.yaml", text).unwrap();
        let ack = Item::at(node.get("ack").unwrap(), "ack", &reader).typed();
        ack.ok_or_else(|| reader.into_problems().to_string())
    }

    #[test]
    fn a_description_is_read() {
        let ack = read("ack: {status: 202, body: null, how: later, more: {a: [x, y]}}").unwrap();
        let more = BTreeMap::from([("a".to_owned(), vec!["x".to_owned(), "y".to_owned()])]);
        assert_eq!(ack, Ack { status: 202, body: None, how: How::Later, more });
    }

    #[test]
    fn a_mistake_is_told_where_it_is() {
        for (text, told) in [
            ("ack: {status: many}", "s.yaml:1:15  ack.status: invalid type: string \"many\""),
            ("ack: {status: 200, boddy: x}", "s.yaml:1:20  ack.boddy: unknown field `boddy`"),
            ("ack: {status: 200, how: soon}", "s.yaml:1:25  ack.how: unknown variant `soon`"),
            ("ack:\n  status: 200\n  more: {a: [x, {}]}", "s.yaml:3:17  ack.more.a[1]: invalid type: map"),
            ("ack: {}", "s.yaml:1:6  ack: missing field `status`"),
            ("ack: {status: 1.5}", "s.yaml:1:15  ack.status: invalid type: string \"1.5\""),
        ] {
            let problems = read(text).unwrap_err();
            assert!(problems.starts_with(told) && problems.contains("fix: "), "{problems}");
        }
    }
}

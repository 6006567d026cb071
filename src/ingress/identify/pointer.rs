//! JSON pointers (RFC 6901) into raw text, without reading numbers as floats.

use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use syncline_actors::value::Value;

use super::Unidentified;

/// A pointer; with no tokens it is the whole document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer(Vec<String>);

/// A value that can be an id.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scalar<'j> {
    /// Text, its escapes undone.
    Text(String),
    /// A number as it is written.
    Number(&'j str),
}

/// Why nothing usable is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    Absent,
    Twice,
    NotText,
    NotAnArray,
}

impl Miss {
    /// The same, with the place.
    pub(super) fn at(self, place: &str) -> Unidentified {
        let place = place.to_owned();
        match self {
            Self::Absent => Unidentified::Missing(place),
            Self::Twice => Unidentified::Ambiguous(place),
            Self::NotText => Unidentified::NotText(place),
            Self::NotAnArray => Unidentified::NotAnArray(place),
        }
    }
}

/// The document's text, checked to be JSON as a whole.
pub(super) fn parse(body: &[u8]) -> serde_json::Result<&RawValue> {
    serde_json::from_slice(body)
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let tokens = text
            .strip_prefix('/')
            .ok_or_else(|| format!("{text:?} is not a JSON pointer: begin it with /, e.g. json:/data/id"))?;
        Ok(Self(tokens.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("json:")?;
        self.0.iter().try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

impl Pointer {
    /// What it points to.
    fn find<'j>(&self, json: &'j RawValue) -> Result<&'j RawValue, Miss> {
        self.0.iter().try_fold(json, |at, token| step(at, token)?.ok_or(Miss::Absent))
    }

    /// The text or number it points to.
    pub(super) fn scalar<'j>(&self, json: &'j RawValue) -> Result<Scalar<'j>, Miss> {
        let text = self.find(json)?.get();
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text).map(Scalar::Text).map_err(|_surrogate| Miss::NotText),
            Some(b'-' | b'0'..=b'9') => Ok(Scalar::Number(text)),
            Some(b'n') => Err(Miss::Absent),
            _ => Err(Miss::NotText),
        }
    }

    /// The text or integer it points to in what was read.
    pub(super) fn plain(&self, json: &Value) -> Option<String> {
        let found = self.0.iter().try_fold(json, |at, token| match at {
            Value::Map(map) => map.get(token.as_str()),
            Value::List(list) => index(token).and_then(|index| list.get(index)),
            _ => None,
        })?;
        match found {
            Value::Text(text) => Some(text.to_string()),
            Value::Int(int) => Some(int.to_string()),
            _ => None,
        }
    }

    /// The elements of the array it points to.
    pub(super) fn elements<'j>(&self, json: &'j RawValue) -> Result<Vec<&'j RawValue>, Miss> {
        serde_json::from_str(self.find(json)?.get()).map_err(|_other| Miss::NotAnArray)
    }
}

/// A place in an array, as pointers write it.
fn index(token: &str) -> Option<usize> {
    (token == "0" || !token.starts_with(['0', '+'])).then(|| token.parse().ok()).flatten()
}

/// One token further.
fn step<'j>(json: &'j RawValue, token: &str) -> Result<Option<&'j RawValue>, Miss> {
    let mut reader = serde_json::Deserializer::from_str(json.get());
    match json.get().as_bytes().first() {
        Some(b'{') => reader.deserialize_map(Member(token)).map_err(|_twice| Miss::Twice),
        Some(b'[') => index(token)
            .map_or(Ok(None), |index| reader.deserialize_seq(Element(index)).map_err(|_broken| Miss::Absent)),
        _ => Ok(None),
    }
}

/// Finds a member; an error if it is there twice.
struct Member<'t>(&'t str);

impl<'j> Visitor<'j> for Member<'_> {
    type Value = Option<&'j RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'j>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(wanted) = map.next_key_seed(Is(self.0))? {
            if !wanted {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value()?).is_some() {
                return Err(M::Error::custom("twice"));
            }
        }
        Ok(found)
    }
}

/// Whether a key is the wanted one, without keeping it.
struct Is<'t>(&'t str);

impl<'j> DeserializeSeed<'j> for Is<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'j>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

/// Finds an element.
struct Element(usize);

impl<'j> Visitor<'j> for Element {
    type Value = Option<&'j RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'j>>(self, mut elements: S) -> Result<Self::Value, S::Error> {
        let mut found = None;
        let mut index = 0;
        while let Some(element) = elements.next_element()? {
            if index == self.0 {
                found = Some(element);
            }
            index += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_follow_rfc_6901() {
        let json = parse(br#"{"a":[10,{"b/c":"x"}],"m~n":8,"":"e","k\u0041":1.50}"#).unwrap();
        let read = |pointer: &str| pointer.parse::<Pointer>().unwrap().scalar(json);
        assert_eq!(read("/a/0"), Ok(Scalar::Number("10")));
        assert_eq!(read("/a/1/b~1c"), Ok(Scalar::Text("x".into())));
        assert_eq!(read("/m~0n"), Ok(Scalar::Number("8")));
        assert_eq!(read("/"), Ok(Scalar::Text("e".into())));
        assert_eq!(read("/kA"), Ok(Scalar::Number("1.50")));
        for nothing in ["/a/2", "/a/00", "/a/-", "/a/+0", "/b", "/a/0/x"] {
            assert_eq!(read(nothing), Err(Miss::Absent), "{nothing}");
        }
        assert_eq!(read(""), Err(Miss::NotText));
        assert!("a".parse::<Pointer>().is_err());
    }
}

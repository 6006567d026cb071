//! Which message a request carries: its id, its type, and what makes a second delivery the same message.
//!
//! Ids are text. A number in JSON is taken as it is written (`123`, never `123.0`), and whatever is not clearly an id is
//! refused: empty, longer than [`ID_MAX`], with control characters, null, or under a key that is there twice.

mod pointer;

use http::HeaderMap;
use http::header::HeaderName;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use syncline_actors::value::Value;

use pointer::{Pointer, Scalar};

/// Longest id, type and deduplication key, in bytes.
pub const ID_MAX: usize = 512;

/// `identify:` of a source.
///
/// A place is `header:NAME`, `json:/pointer` (RFC 6901), `body-sha256`, or for the type alone `text:VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identify {
    /// Where the id stands; several places are joined.
    pub id: Places,
    /// Where the type stands.
    #[serde(default, rename = "type")]
    pub event_type: Option<String>,
    /// What two deliveries of one message have in common: `id`, `type` or a place, joined. The id unless told otherwise.
    #[serde(default)]
    pub dedupe: Vec<String>,
    /// The array whose elements are messages of their own, e.g. `json:` for the whole body. Pointers are then within an element.
    #[serde(default)]
    pub each: Option<String>,
}

/// One place or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Places {
    /// One.
    One(String),
    /// Several, joined.
    Joined(Vec<String>),
}

impl Places {
    /// All of them in order.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(place) => std::slice::from_ref(place),
            Self::Joined(places) => places,
        }
    }
}

/// A message found in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'b> {
    /// The bytes of the message: the body, or with `each` an element of it, exactly as received.
    pub raw: &'b [u8],
    /// What it is; one that cannot be identified takes none of the others with it.
    pub identity: Result<Identity, Unidentified>,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: String,
    /// Its type, where the source says where it stands.
    pub event_type: Option<String>,
    /// Equal for two deliveries of one message.
    pub dedupe: String,
}

/// Why a message cannot be identified. It is authentic all the same: keep it, and let a person look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// The body is not JSON, but its id or type should stand there.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// `each` does not point to an array.
    #[error("{0} is not an array of messages")]
    NotAnArray(String),
    /// A key on the way is there twice, so it is not clear which one the sender meant.
    #[error("{0} is ambiguous: a key is there twice")]
    Ambiguous(String),
    /// It is not there, or null.
    #[error("{0} is missing")]
    Missing(String),
    /// The header is there more than once.
    #[error("{0} is repeated")]
    Repeated(String),
    /// It is neither text nor a number.
    #[error("{0} is neither text nor a number")]
    NotText(String),
    /// It is empty.
    #[error("{0} is empty")]
    Empty(String),
    /// It is longer than [`ID_MAX`].
    #[error("{0} is longer than {ID_MAX} bytes")]
    TooLong(String),
    /// It has control characters, or it is a header that is not visible ASCII.
    #[error("{0} has control characters")]
    Control(String),
}

/// Identifies the messages of one source.
#[derive(Debug, Clone)]
pub struct Identifier {
    id: Vec<Place>,
    event_type: Option<Place>,
    dedupe: Vec<Part>,
    each: Option<Pointer>,
    reads_json: bool,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Header(HeaderName),
    Json(Pointer),
    BodyHash,
    Text(String),
}

/// A part of the deduplication key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Id,
    Type,
    Place(Place),
}

impl Identifier {
    /// Checks a description.
    ///
    /// # Errors
    /// Every mistake: which key is wrong, and how to put it right.
    pub fn compile(identify: &Identify) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut place = |key: &str, text: &str| {
            Place::compile(text).map_err(|mistake| mistakes.push(format!("`identify.{key}`: {mistake}"))).ok()
        };
        let id: Vec<Place> = identify.id.as_slice().iter().filter_map(|text| place("id", text)).collect();
        let event_type = identify.event_type.as_deref().and_then(|text| place("type", text));
        let mut dedupe: Vec<Part> = identify
            .dedupe
            .iter()
            .filter_map(|text| match text.as_str() {
                "id" => Some(Part::Id),
                "type" => Some(Part::Type),
                text => place("dedupe", text).map(Part::Place),
            })
            .collect();
        if dedupe.is_empty() {
            dedupe.push(Part::Id);
        }
        let each = match identify.each.as_deref().map(|text| place("each", text)) {
            Some(Some(Place::Json(pointer))) => Some(pointer),
            Some(Some(_)) => {
                mistakes.push("`identify.each`: must be `json:` or `json:/pointer`".to_owned());
                None
            }
            _ => None,
        };
        if identify.id.as_slice().is_empty() || id.iter().any(|place| matches!(place, Place::Text(_))) {
            mistakes.push(
                "`identify.id`: must differ from message to message: use header:NAME, json:/pointer or body-sha256".to_owned(),
            );
        }
        if dedupe.contains(&Part::Type) && identify.event_type.is_none() {
            mistakes.push("`identify.dedupe`: has `type`, but `identify.type` is missing".to_owned());
        }
        let parts =
            dedupe.iter().filter_map(|part| if let Part::Place(place) = part { Some(place) } else { None });
        let reads_json = each.is_some()
            || id.iter().chain(&event_type).chain(parts).any(|place| matches!(place, Place::Json(_)));
        if mistakes.is_empty() {
            Ok(Self { id, event_type, dedupe, each, reads_json })
        } else {
            Err(mistakes)
        }
    }

    /// The messages of a request, in order; one, unless the source has `each`.
    ///
    /// # Errors
    /// The body cannot be divided into messages at all.
    pub fn messages<'b>(
        &self,
        headers: &HeaderMap,
        body: &'b [u8],
    ) -> Result<Vec<Message<'b>>, Unidentified> {
        let json = if self.reads_json {
            Some(pointer::parse(body).map_err(|error| Unidentified::NotJson(error.to_string()))?)
        } else {
            None
        };
        let (Some(each), Some(json)) = (&self.each, json) else {
            return Ok(vec![Message { raw: body, identity: self.identity(headers, body, json) }]);
        };
        let elements = each.elements(json).map_err(|miss| miss.at(&each.to_string()))?;
        Ok(elements
            .into_iter()
            .map(|element| {
                let raw = element.get().as_bytes();
                Message { raw, identity: self.identity(headers, raw, Some(element)) }
            })
            .collect())
    }

    /// What the one message of a request is, by its body as it was read. `None` where that does not tell, and [`Identifier::messages`] has
    /// to look at the text: it holds several, a number is not an integer, or something is missing.
    pub fn plain(&self, headers: &HeaderMap, body: &[u8], json: &Value) -> Option<Identity> {
        if self.each.is_some() {
            return None;
        }
        self.made_of(|place| match place {
            Place::Json(pointer) => {
                let text = pointer.plain(json).ok_or_else(|| Unidentified::Missing(place.to_string()))?;
                checked(text, || place.to_string())
            }
            other => other.read(headers, body, None),
        })
        .ok()
    }

    fn identity(
        &self,
        headers: &HeaderMap,
        raw: &[u8],
        json: Option<&serde_json::value::RawValue>,
    ) -> Result<Identity, Unidentified> {
        self.made_of(|place| place.read(headers, raw, json))
    }

    fn made_of(
        &self,
        read: impl Fn(&Place) -> Result<String, Unidentified>,
    ) -> Result<Identity, Unidentified> {
        let read = &read;
        let id = joined(self.id.iter().map(read).collect::<Result<_, _>>()?, "the id")?;
        let event_type = self.event_type.as_ref().map(read).transpose()?;
        let parts = self.dedupe.iter().map(|part| match part {
            Part::Id => Ok(id.clone()),
            Part::Type => Ok(event_type.clone().unwrap_or_default()),
            Part::Place(place) => read(place),
        });
        let dedupe = joined(parts.collect::<Result<_, _>>()?, "the deduplication key")?;
        Ok(Identity { id, event_type, dedupe })
    }
}

impl Place {
    fn compile(text: &str) -> Result<Self, String> {
        if text == "body-sha256" {
            return Ok(Self::BodyHash);
        }
        match text.split_once(':') {
            Some(("header", name)) => {
                name.parse().map(Self::Header).map_err(|_invalid| format!("{name:?} is not a header's name"))
            }
            Some(("json", pointer)) => pointer.parse().map(Self::Json),
            Some(("text", value)) if !value.is_empty() => Ok(Self::Text(value.to_owned())),
            _ => Err(format!("{text:?} is not known: write header:NAME, json:/pointer or body-sha256")),
        }
    }

    fn read(
        &self,
        headers: &HeaderMap,
        raw: &[u8],
        json: Option<&serde_json::value::RawValue>,
    ) -> Result<String, Unidentified> {
        let text = match self {
            Self::BodyHash => return Ok(hex::encode(Sha256::digest(raw))),
            Self::Text(text) => return Ok(text.clone()),
            Self::Header(name) => {
                let mut values = headers.get_all(name).iter();
                let value = values.next().ok_or_else(|| Unidentified::Missing(self.to_string()))?;
                if values.next().is_some() {
                    return Err(Unidentified::Repeated(self.to_string()));
                }
                value.to_str().map_err(|_opaque| Unidentified::Control(self.to_string()))?.to_owned()
            }
            Self::Json(pointer) => {
                let json = json.ok_or_else(|| Unidentified::Missing(self.to_string()))?;
                match pointer.scalar(json).map_err(|miss| miss.at(&self.to_string()))? {
                    Scalar::Text(text) => text,
                    Scalar::Number(text) => text.to_owned(),
                }
            }
        };
        checked(text, || self.to_string())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Json(pointer) => pointer.fmt(f),
            Self::BodyHash => f.write_str("body-sha256"),
            Self::Text(text) => write!(f, "text:{text}"),
        }
    }
}

/// An id that is one.
fn checked(text: String, name: impl Fn() -> String) -> Result<String, Unidentified> {
    if text.is_empty() {
        Err(Unidentified::Empty(name()))
    } else if text.len() > ID_MAX {
        Err(Unidentified::TooLong(name()))
    } else if text.chars().any(char::is_control) {
        Err(Unidentified::Control(name()))
    } else {
        Ok(text)
    }
}

/// Parts as one text, so that different parts never give the same text: `|` between, `|` and `%` within escaped.
fn joined(mut parts: Vec<String>, name: &str) -> Result<String, Unidentified> {
    let text = if parts.len() == 1 {
        parts.remove(0)
    } else {
        parts.iter().map(|part| part.replace('%', "%25").replace('|', "%7C")).collect::<Vec<_>>().join("|")
    };
    checked(text, || name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identifier(id: &str, dedupe: &[&str], each: Option<&str>) -> Identifier {
        let identify = Identify {
            id: Places::One(id.into()),
            event_type: Some("json:/type".into()),
            dedupe: dedupe.iter().map(|&text| text.to_owned()).collect(),
            each: each.map(str::to_owned),
        };
        Identifier::compile(&identify).unwrap()
    }

    fn one(identifier: &Identifier, body: &str) -> Result<Identity, Unidentified> {
        let found = identifier.messages(&HeaderMap::new(), body.as_bytes())?.remove(0).identity;
        // Where the body as it was read tells, it tells the same.
        if let Ok(json) = Value::from_json(body.as_bytes(), 1 << 20)
            && let Some(plain) = identifier.plain(&HeaderMap::new(), body.as_bytes(), &json)
        {
            assert_eq!(found.as_ref(), Ok(&plain), "{body}");
        }
        found
    }

    #[test]
    fn a_body_that_was_read_tells_who_it_is_where_that_is_plain() {
        let by_id = identifier("json:/data/ids/1", &[], None);
        let plain = |body: &str| {
            let json = Value::from_json(body.as_bytes(), 1 << 20).unwrap();
            by_id.plain(&HeaderMap::new(), body.as_bytes(), &json).map(|identity| identity.id)
        };
        assert_eq!(plain(r#"{"type":"t","data":{"ids":["a","b"]}}"#).as_deref(), Some("b"));
        assert_eq!(plain(r#"{"type":"t","data":{"ids":[1,-20]}}"#).as_deref(), Some("-20"));
        for told_by_the_text in ["1.10", "1e2", "-0", "null", "\"\"", "{}"] {
            assert_eq!(plain(&format!(r#"{{"type":"t","data":{{"ids":[1,{told_by_the_text}]}}}}"#)), None);
        }
        assert_eq!(plain(r#"{"type":"t","data":{"ids":["a"]}}"#), None);
    }

    #[test]
    fn a_number_is_an_id_exactly_as_it_is_written() {
        let by_id = identifier("json:/id", &[], None);
        for (written, id) in [
            ("123", "123"),
            ("9007199254740993", "9007199254740993"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("1.10", "1.10"),
            ("\"0123\"", "0123"),
            ("\"\\u00e9\"", "é"),
        ] {
            let identity = one(&by_id, &format!(r#"{{"type":"t","id": {written} }}"#)).unwrap();
            assert_eq!(identity.id, id);
            assert_eq!(identity.dedupe, id);
            assert_eq!(identity.event_type.as_deref(), Some("t"));
        }
    }

    #[test]
    fn what_is_not_clearly_an_id_is_refused() {
        let by_id = identifier("json:/id", &[], None);
        let name = || "json:/id".to_owned();
        let long = format!(r#"{{"type":"t","id":"{}"}}"#, "a".repeat(ID_MAX + 1));
        for (body, refused) in [
            (r#"{"type":"t","id":""}"#, Unidentified::Empty(name())),
            (r#"{"type":"t","id":null}"#, Unidentified::Missing(name())),
            (r#"{"type":"t"}"#, Unidentified::Missing(name())),
            (r#"["id"]"#, Unidentified::Missing(name())),
            (r#"{"type":"t","id":{}}"#, Unidentified::NotText(name())),
            (r#"{"type":"t","id":true}"#, Unidentified::NotText(name())),
            (r#"{"type":"t","id":"a\u0000b"}"#, Unidentified::Control(name())),
            (r#"{"type":"t","id":"a","id":"b"}"#, Unidentified::Ambiguous(name())),
            (long.as_str(), Unidentified::TooLong(name())),
        ] {
            assert_eq!(one(&by_id, body), Err(refused), "{body}");
        }
        for body in ["", "{", "{} {}", "\u{feff}{}", r#"{"id":01}"#] {
            assert!(matches!(one(&by_id, body), Err(Unidentified::NotJson(_))), "{body}");
        }
    }

    #[test]
    fn deeply_nested_json_is_no_danger() {
        let body = format!(r#"{{"type":"t","x":{}{},"id":"a"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(one(&identifier("json:/id", &[], None), &body).unwrap().id, "a");
    }

    #[test]
    fn a_header_gives_the_id_once_or_not_at_all() {
        let identify = Identify {
            id: Places::One("header:X-Delivery".into()),
            event_type: None,
            dedupe: vec![],
            each: None,
        };
        let by_header = Identifier::compile(&identify).unwrap();
        let mut headers = HeaderMap::new();
        let read = |headers: &HeaderMap| {
            by_header.messages(headers, b"not json").unwrap().remove(0).identity.map(|identity| identity.id)
        };
        let name = "header:x-delivery".to_owned();
        assert_eq!(read(&headers), Err(Unidentified::Missing(name.clone())));
        headers.append("x-delivery", "d-1".parse().unwrap());
        assert_eq!(read(&headers), Ok("d-1".into()));
        headers.append("x-delivery", "d-1".parse().unwrap());
        assert_eq!(read(&headers), Err(Unidentified::Repeated(name)));
    }

    #[test]
    fn each_element_is_a_message_and_a_bad_one_takes_no_other_with_it() {
        let each = identifier("json:/eventId", &[], Some("json:"));
        let body = br#" [ {"eventId":1,"type":"a"}, {"type":"b"} ,{"eventId":"3","type":"c"}]"#;
        let messages = each.messages(&HeaderMap::new(), body).unwrap();
        assert_eq!(messages.len(), 3);
        assert_eq!(messages[0].raw, br#"{"eventId":1,"type":"a"}"#);
        assert_eq!(messages[0].identity.as_ref().unwrap().id, "1");
        assert_eq!(messages[1].identity, Err(Unidentified::Missing("json:/eventId".into())));
        assert_eq!(messages[2].identity.as_ref().unwrap().event_type.as_deref(), Some("c"));
        assert_eq!(each.messages(&HeaderMap::new(), b"[]"), Ok(vec![]));
        let refused = each.messages(&HeaderMap::new(), b"{}");
        assert_eq!(refused, Err(Unidentified::NotAnArray("json:".into())));
    }

    #[test]
    fn a_hash_of_the_body_is_the_id_of_who_has_none() {
        let identify =
            Identify { id: Places::One("body-sha256".into()), event_type: None, dedupe: vec![], each: None };
        let messages = Identifier::compile(&identify).unwrap();
        let id = messages.messages(&HeaderMap::new(), b"abc").unwrap().remove(0).identity.unwrap().id;
        assert_eq!(id, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn every_mistake_of_a_description_is_told() {
        let identify = Identify {
            id: Places::One("text:same".into()),
            event_type: None,
            dedupe: vec!["type".into(), "body".into()],
            each: Some("header:x".into()),
        };
        let mistakes = Identifier::compile(&identify).unwrap_err().join("\n");
        for key in ["`identify.id`", "`identify.dedupe`: has `type`", "\"body\"", "`identify.each`"] {
            assert!(mistakes.contains(key), "{key} is not in {mistakes}");
        }
    }

    proptest! {
        /// Different parts never give the same key.
        #[test]
        fn joined_parts_stay_apart(a in "[|%7Cab]{1,6}", b in "[|%7Cab]{1,6}", c in "[|%7Cab]{1,6}", d in "[|%7Cab]{1,6}") {
            let left = joined(vec![a.clone(), b.clone()], "").unwrap();
            let right = joined(vec![c.clone(), d.clone()], "").unwrap();
            prop_assert_eq!(left == right, (a, b) == (c, d));
        }
    }
}

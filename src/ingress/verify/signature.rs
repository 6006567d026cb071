//! Signatures: finding them in a request, reading and writing them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use http::HeaderMap;
use http::header::HeaderName;

use super::Refusal;
use super::description::{Algorithm, Encoding, Parse, Segment};

/// Room for the longest signature (64 bytes) and what a decoder may write past it.
pub(super) type Buffer = [u8; 72];

/// Where the signature stands.
#[derive(Debug, Clone)]
pub(in crate::ingress) enum Place {
    /// In one of these headers.
    Headers(Vec<Pattern>),
    /// In `Authorization` or its like, after the scheme's name.
    Authorization(HeaderName, &'static str),
    /// In the query.
    Query(String),
    /// Nowhere.
    Nowhere,
}

/// A header, or all that begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingress) enum Pattern {
    /// This one.
    Exact(HeaderName),
    /// All that begin with this, in lower case.
    Starting(String),
}

impl Pattern {
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let (name, starting) = text.strip_suffix('*').map_or((text, false), |name| (name, true));
        let name = name.parse::<HeaderName>().map_err(|_invalid| {
            format!(
                "`verify.signature.headers`: {text:?} is not a header's name, with or without a * at its end"
            )
        })?;
        Ok(if starting { Self::Starting(name.as_str().to_owned()) } else { Self::Exact(name) })
    }

    fn names(&self, name: &HeaderName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Starting(start) => name.as_str().starts_with(start),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name.as_str()),
            Self::Starting(start) => write!(f, "{start}*"),
        }
    }
}

impl Place {
    /// Gives each value found there to `each`. At least one is there and no header is repeated, or it is refused.
    pub(super) fn values<'r>(
        &self,
        headers: &'r HeaderMap,
        url: &'r str,
        each: &mut dyn FnMut(&str) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Query(name) => each(&query(url, name)?),
            Self::Authorization(name, scheme) => {
                let value = text(name, super::single(headers, name)?)?;
                let (word, credential) = value.split_once(' ').unwrap_or((value, ""));
                if !word.eq_ignore_ascii_case(scheme) {
                    return Err(Refusal::MalformedSignature(format!("{name} does not begin with {scheme}")));
                }
                each(credential.trim_ascii())
            }
            Self::Headers(patterns) => {
                let mut found = false;
                for name in headers.keys().filter(|name| patterns.iter().any(|pattern| pattern.names(name))) {
                    each(text(name, super::single(headers, name)?)?)?;
                    found = true;
                }
                if found { Ok(()) } else { Err(Refusal::MissingHeader(self.first())) }
            }
        }
    }

    /// The first header's name, for messages.
    fn first(&self) -> String {
        match self {
            Self::Headers(patterns) => patterns.first().map(ToString::to_string).unwrap_or_default(),
            Self::Authorization(name, _) => name.to_string(),
            Self::Query(name) => name.clone(),
            Self::Nowhere => String::new(),
        }
    }
}

/// The value of `name` in the query of `url`, its escapes undone.
fn query<'r>(url: &'r str, name: &str) -> Result<Cow<'r, str>, Refusal> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut found = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
    let (_, value) = found.next().ok_or_else(|| Refusal::MissingQuery(name.to_owned()))?;
    if found.next().is_some() {
        return Err(Refusal::RepeatedQuery(name.to_owned()));
    }
    percent_encoding::percent_decode_str(value)
        .decode_utf8()
        .map_err(|_utf8| Refusal::MalformedSignature(format!("{name} in the query is not UTF-8")))
}

/// A header's value as text.
fn text<'r>(name: &HeaderName, value: &'r http::HeaderValue) -> Result<&'r str, Refusal> {
    let value = value.to_str().map_err(|_opaque| {
        Refusal::MalformedSignature(format!("{name} has characters that are not visible ASCII"))
    })?;
    Ok(value.trim_ascii())
}

/// One signature as the sender wrote it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'v> {
    /// The id of the secret, where the sender names it.
    pub(super) key_id: Option<&'v str>,
    /// The signature.
    pub(super) text: &'v str,
}

/// Gives each signature in a header's `value` to `each`; what is not one is passed over.
pub(super) fn candidates<'v>(
    parse: &Parse,
    algorithm: Algorithm,
    value: &'v str,
    each: &mut dyn FnMut(Candidate<'v>),
) {
    let mut plain = |text: &'v str| each(Candidate { key_id: None, text });
    match parse {
        Parse::Whole {} => plain(value),
        Parse::Prefix { prefix } => value.strip_prefix(prefix.as_str()).into_iter().for_each(plain),
        Parse::Kv { item_sep, kv_sep, pick } => value
            .split(item_sep.as_str())
            .filter_map(|item| item.trim_ascii().split_once(kv_sep.as_str()))
            .filter(|(key, _)| key == pick)
            .for_each(|(_, text)| plain(text)),
        Parse::VersionedList { item_sep, prefix } => value
            .split(item_sep.as_str())
            .filter_map(|item| item.trim_ascii().strip_prefix(prefix.as_str()))
            .for_each(plain),
        Parse::Positional { item_sep, skip } => {
            value.split(item_sep.as_str()).skip(*skip).map(str::trim_ascii).for_each(plain);
        }
        Parse::Segments { item_sep, segment_sep, segments } => value
            .split(item_sep.as_str())
            .filter_map(|item| segmented(item.trim_ascii(), segment_sep, segments, algorithm))
            .for_each(each),
    }
}

/// Reads an item of [`Parse::Segments`]; the last part keeps what is left.
fn segmented<'v>(
    item: &'v str,
    sep: &str,
    segments: &[Segment],
    algorithm: Algorithm,
) -> Option<Candidate<'v>> {
    let mut candidate = Candidate { key_id: None, text: "" };
    let mut parts = item.splitn(segments.len(), sep);
    for segment in segments {
        let part = parts.next()?;
        match segment {
            Segment::KeyId => candidate.key_id = Some(part),
            Segment::Algorithm if part.eq_ignore_ascii_case(algorithm.name()) => {}
            Segment::Algorithm => return None,
            Segment::Signature => candidate.text = part,
            Segment::Ignore => {}
        }
    }
    Some(candidate)
}

/// The bytes of a signature, if it has `length` of them.
pub(super) fn decode<'b>(
    text: &str,
    encoding: Encoding,
    length: usize,
    buffer: &'b mut Buffer,
) -> Option<&'b [u8]> {
    let count = match encoding {
        Encoding::Hex if text.len() == length * 2 => {
            hex::decode_to_slice(text, &mut buffer[..length]).ok().map(|()| length)
        }
        Encoding::Hex => None,
        Encoding::Base64 => STANDARD.decode_slice(text, buffer).ok(),
        Encoding::Base64url => URL_SAFE_NO_PAD.decode_slice(text.trim_end_matches('='), buffer).ok(),
    };
    count.filter(|count| *count == length).map(|count| &buffer[..count])
}

/// The signature as text.
pub(in crate::ingress) fn encode(bytes: &[u8], encoding: Encoding) -> String {
    match encoding {
        Encoding::Hex => hex::encode(bytes),
        Encoding::Base64 => STANDARD.encode(bytes),
        Encoding::Base64url => URL_SAFE.encode(bytes),
    }
}

/// Tells what is wrong with a `parse:`.
pub(super) fn check(parse: &Parse, mistakes: &mut Vec<String>) {
    let mut filled = |key: &str, text: &str| {
        if text.is_empty() {
            mistakes.push(format!("`verify.signature.parse.{key}`: is empty"));
        }
    };
    match parse {
        Parse::Whole {} => {}
        Parse::Prefix { prefix } => filled("prefix", prefix),
        Parse::Kv { item_sep, kv_sep, pick } => {
            filled("item_sep", item_sep);
            filled("kv_sep", kv_sep);
            filled("pick", pick);
        }
        Parse::VersionedList { item_sep, prefix } => {
            filled("item_sep", item_sep);
            filled("prefix", prefix);
        }
        Parse::Positional { item_sep, .. } => filled("item_sep", item_sep),
        Parse::Segments { item_sep, segment_sep, segments } => {
            filled("item_sep", item_sep);
            filled("segment_sep", segment_sep);
            let count = |wanted| segments.iter().filter(|segment| **segment == wanted).count();
            if count(Segment::Signature) != 1 || count(Segment::KeyId) > 1 {
                mistakes.push(
                    "`verify.signature.parse.segments`: must have `signature` once and `key_id` at most once"
                        .to_owned(),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(parse: &Parse, value: &str) -> Vec<String> {
        let mut found = Vec::new();
        candidates(parse, Algorithm::Sha256, value, &mut |candidate| {
            found.push(
                candidate
                    .key_id
                    .map_or_else(|| candidate.text.to_owned(), |key| format!("{key}:{}", candidate.text)),
            );
        });
        found
    }

    #[test]
    fn every_kind_of_header_is_read() {
        let kv = Parse::Kv { item_sep: ",".into(), kv_sep: "=".into(), pick: "v1".into() };
        assert_eq!(found(&kv, "t=1,v1=aa, v1=bb==,v0=cc,junk"), ["aa", "bb=="]);
        let list = Parse::VersionedList { item_sep: " ".into(), prefix: "v1,".into() };
        assert_eq!(found(&list, "v1,aa v1a,bb v1,cc"), ["aa", "cc"]);
        let positional = Parse::Positional { item_sep: ",".into(), skip: 1 };
        assert_eq!(found(&positional, "1663103925004,aa,bb"), ["aa", "bb"]);
        let segments = Parse::Segments {
            item_sep: ",".into(),
            segment_sep: "/".into(),
            segments: vec![Segment::KeyId, Segment::Algorithm, Segment::Signature],
        };
        assert_eq!(found(&segments, "1/SHA256/a/b, 2/sha512/cc,3/SHA256"), ["1:a/b"]);
        assert_eq!(found(&Parse::Prefix { prefix: "sha256=".into() }, "sha1=aa"), Vec::<String>::new());
    }

    #[test]
    fn a_signature_of_another_length_is_none() {
        let mut buffer = [0; 72];
        assert_eq!(decode("00ff", Encoding::Hex, 2, &mut buffer), Some(&[0, 255][..]));
        assert_eq!(decode("00f", Encoding::Hex, 2, &mut buffer), None);
        assert_eq!(decode("AP8=", Encoding::Base64, 2, &mut buffer), Some(&[0, 255][..]));
        assert_eq!(decode("AP8", Encoding::Base64, 2, &mut buffer), None);
        assert_eq!(decode("AP8", Encoding::Base64url, 2, &mut buffer), Some(&[0, 255][..]));
        assert_eq!(decode(&"A".repeat(400), Encoding::Base64, 32, &mut buffer), None);
        assert_eq!(
            decode(&encode(&[7; 64], Encoding::Base64), Encoding::Base64, 64, &mut buffer),
            Some(&[7; 64][..])
        );
    }
}

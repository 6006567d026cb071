//! How a sender authenticates its requests, as it stands in a preset or a source file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// `verify:` of a source: how its requests are authenticated. Holds no secret.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// What proves that a request is the sender's.
    pub scheme: Scheme,
    /// The hash of `hmac` and `digest`.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How the secret's text becomes the key's bytes.
    #[serde(default)]
    pub secret_encoding: SecretEncoding,
    /// What a secret's text may begin with and is not part of the key, e.g. `whsec_`.
    #[serde(default)]
    pub strip_prefix: Option<String>,
    /// `ed25519` only: what marks a private key, e.g. `whsk_`. A verifier that is given one takes its public half.
    #[serde(default)]
    pub private_prefix: Option<String>,
    /// Where the signature, credential or token stands.
    #[serde(default)]
    pub signature: Signature,
    /// What is signed, e.g. `"{ts}.{body}"`. Fields: `{body}`, `{ts}`, `{method}`, `{url}`, `{path}`, `{query}`, `{host}`,
    /// `{header:NAME}` and, with `digest` only, `{secret}`; `{{` and `}}` are the braces themselves.
    #[serde(default)]
    pub signed: Option<String>,
    /// When it was signed. Without it a request can be replayed for as long as the secret lives.
    #[serde(default)]
    pub timestamp: Option<TimestampRule>,
    /// The address as the sender saw it; needed by `{url}`.
    #[serde(default)]
    pub url: UrlRule,
    /// Headers that must be there once with exactly this value, e.g. the version of a signature.
    #[serde(default)]
    pub expect: BTreeMap<String, String>,
    /// Must be said aloud by a source with `scheme: none`: anyone can send to it.
    #[serde(default)]
    pub allow_unsigned: bool,
}

/// What proves that a request is the sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// A keyed hash of the signed content (RFC 2104).
    Hmac,
    /// A plain hash of content that includes the secret. Weaker than `hmac`; for senders that know no better.
    Digest,
    /// A public-key signature (RFC 8032); we hold only public keys.
    Ed25519,
    /// `Authorization: Basic` (RFC 7617); the secret is `user:password`.
    Basic,
    /// `Authorization: Bearer` (RFC 6750); the secret is the token.
    Bearer,
    /// A token in a header of the operator's choice.
    HeaderToken,
    /// A token in the query of the URL. It ends up in logs on the way: for senders that can do nothing else.
    QueryToken,
    /// Nothing. Development only.
    None,
}

/// The hash of `hmac` and `digest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-1, 20 bytes. As an HMAC it is not broken; as a digest do not begin with it.
    Sha1,
    /// SHA-256, 32 bytes.
    #[default]
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// The name as senders write it, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of its output in bytes.
    pub fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// How the secret's text becomes the key's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretEncoding {
    /// The text itself, even where it looks like base64.
    #[default]
    Utf8,
    /// Base64, padded.
    Base64,
    /// Hexadecimal.
    Hex,
}

/// Where the signature stands and how it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Header names; one of them must be there, none twice. `x-docusign-signature-*` stands for all that begin so.
    /// `basic` and `bearer` read `authorization` unless told otherwise.
    #[serde(default)]
    pub headers: Vec<String>,
    /// `query_token` only: the name in the query.
    #[serde(default)]
    pub query: Option<String>,
    /// How the header's value holds the signature or signatures.
    #[serde(default)]
    pub parse: Parse,
    /// How a signature's bytes are written.
    #[serde(default)]
    pub encoding: Encoding,
}

/// How a header's value holds signatures. Where it may hold several, any one that fits is enough.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Parse {
    /// The value is the signature.
    Whole {},
    /// A fixed text, then the signature: `sha256=757107ea…`.
    Prefix {
        /// The fixed text.
        prefix: String,
    },
    /// Pairs, of which those with one key are signatures: `t=1614265330,v1=1c85…,v0=…`.
    Kv {
        /// Between pairs.
        item_sep: String,
        /// Between key and value.
        kv_sep: String,
        /// The key of the signatures.
        pick: String,
    },
    /// A list with a version before each signature: `v1,K5oZ… v1a,hnO3…`. Other versions are ignored.
    VersionedList {
        /// Between items.
        item_sep: String,
        /// The version with what divides it from the signature, e.g. `v1,`.
        prefix: String,
    },
    /// A list whose first items are something else: `1663103925004,ad24…,b7f1…`.
    Positional {
        /// Between items.
        item_sep: String,
        /// How many items come before the first signature.
        skip: usize,
    },
    /// A list of items that name key and algorithm: `1/SHA256/9af3…,2/SHA256/11c0…`. The key's name is the secret's id.
    Segments {
        /// Between items.
        item_sep: String,
        /// Between the parts of an item.
        segment_sep: String,
        /// The parts in order.
        segments: Vec<Segment>,
    },
}

impl Default for Parse {
    fn default() -> Self {
        Self::Whole {}
    }
}

/// A part of an item of [`Parse::Segments`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// The id of the secret.
    KeyId,
    /// The hash; items with another than the source's are ignored.
    Algorithm,
    /// The signature.
    Signature,
    /// Anything.
    Ignore,
}

/// How a signature's bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal, either case.
    #[default]
    Hex,
    /// Base64, padded.
    Base64,
    /// Base64 for URLs, padded or not.
    Base64url,
}

/// When a request was signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampRule {
    /// `header:NAME`, `sig:KEY` (a key of `kv`) or `sig:#N` (an item of `positional`, from 0).
    pub from: String,
    /// How it is written.
    pub unit: Unit,
    /// How far from now it may be, before and after, e.g. `300s`.
    #[serde(default = "five_minutes", deserialize_with = "duration")]
    pub tolerance: Duration,
}

/// How a timestamp is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Seconds since the Unix epoch.
    S,
    /// Milliseconds since the Unix epoch.
    Ms,
    /// Ten digits are seconds, thirteen milliseconds: for senders whose documentation says both.
    Auto,
    /// RFC 3339 text.
    Rfc3339,
}

/// The address as the sender saw it, before any proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlRule {
    /// What stands before the path, e.g. `https://hooks.acme.example`. A source says it; a preset cannot know it.
    #[serde(default)]
    pub public_base: Option<String>,
    /// Characters whose percent-escapes the sender writes out before it signs, e.g. `":/?@"`.
    #[serde(default)]
    pub decode: Option<String>,
}

/// The tolerance of the Standard Webhooks libraries.
fn five_minutes() -> Duration {
    Duration::from_mins(5)
}

/// Reads `300s`, `76h`.
pub(in crate::ingress) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|error| {
        serde::de::Error::custom(format!(
            "{text:?} is not a duration ({error}): write e.g. \"300s\" or \"76h\""
        ))
    })
}

//! Secrets as they are handed in, and the keys made of them once.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::description::{Algorithm, Scheme, SecretEncoding, Verify};

/// One secret of a source. Several may be valid at once: that is how they are rotated.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its name in logs, and the key id of senders that name one.
    pub id: String,
    /// The secret. For `basic` it is `user:password`.
    pub value: SecretString,
    /// Not valid before, milliseconds since the Unix epoch.
    pub not_before: Option<i64>,
    /// Not valid from then on, milliseconds since the Unix epoch.
    pub not_after: Option<i64>,
}

impl Secret {
    /// A secret that is always valid.
    pub fn new(id: impl Into<String>, value: impl Into<String>) -> Self {
        Self { id: id.into(), value: SecretString::from(value.into()), not_before: None, not_after: None }
    }

    /// The same, valid only before `at` (milliseconds since the Unix epoch).
    #[must_use]
    pub fn until(mut self, at: i64) -> Self {
        self.not_after = Some(at);
        self
    }

    /// The same, valid only from `at` on (milliseconds since the Unix epoch).
    #[must_use]
    pub fn from(mut self, at: i64) -> Self {
        self.not_before = Some(at);
        self
    }
}

/// A secret made ready.
pub(in crate::ingress) struct Key {
    pub(in crate::ingress) id: Arc<str>,
    pub(super) not_before: Option<i64>,
    pub(super) not_after: Option<i64>,
    pub(in crate::ingress) material: Material,
}

/// What a scheme computes with.
pub(in crate::ingress) enum Material {
    /// A hash that has absorbed the key.
    Mac(Mac),
    /// The secret's bytes, which are hashed with the content.
    Digest(SecretBox<[u8]>),
    /// For verifying.
    Public(Box<VerifyingKey>),
    /// For signing.
    Private(Box<SigningKey>),
    /// For verifying: the SHA-256 of a token, so that comparing tells nothing of its length.
    Token([u8; 32]),
    /// For signing: the token.
    Credential(SecretString),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Who uses the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ingress) enum Use {
    /// A receiver.
    Verify,
    /// A sender.
    Sign,
}

impl Key {
    /// Makes keys of all secrets; tells every mistake, never a secret.
    pub(in crate::ingress) fn compile(
        verify: &Verify,
        secrets: &[Secret],
        to: Use,
        mistakes: &mut Vec<String>,
    ) -> Vec<Self> {
        if secrets.is_empty() && verify.scheme != Scheme::None {
            mistakes.push(
                "`secrets`: is empty: name at least one, e.g. {id: current, ref: \"env:NAME\"}".to_owned(),
            );
        }
        for (index, secret) in secrets.iter().enumerate() {
            if secrets[..index].iter().any(|other| other.id == secret.id) {
                mistakes.push(format!("`secrets`: the id {:?} is there twice", secret.id));
            }
        }
        secrets
            .iter()
            .filter_map(|secret| match Self::new(verify, secret, to) {
                Ok(key) => Some(key),
                Err(mistake) => {
                    mistakes.push(format!("`secrets`: the secret {:?} {mistake}", secret.id));
                    None
                }
            })
            .collect()
    }

    fn new(verify: &Verify, secret: &Secret, to: Use) -> Result<Self, String> {
        let text = secret.value.expose_secret();
        if secret.id.is_empty() {
            return Err("has no id".to_owned());
        }
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.trim() != text {
            return Err(
                "begins or ends with white space, most likely the last line break of its file".to_owned()
            );
        }
        if let (Some(from), Some(until)) = (secret.not_before, secret.not_after)
            && from >= until
        {
            return Err("is never valid: `not_after` is not after `not_before`".to_owned());
        }
        Ok(Self {
            id: secret.id.as_str().into(),
            not_before: secret.not_before,
            not_after: secret.not_after,
            material: Material::new(verify, text, to)?,
        })
    }

    /// Whether it may be used at `now`, in milliseconds.
    pub(in crate::ingress) fn valid(&self, now: i64) -> bool {
        self.not_before.is_none_or(|from| now >= from) && self.not_after.is_none_or(|until| now < until)
    }
}

impl Material {
    fn new(verify: &Verify, text: &str, to: Use) -> Result<Self, String> {
        Ok(match verify.scheme {
            Scheme::Hmac => Self::Mac(Mac::new(verify.algorithm, &bytes(verify, text)?)),
            Scheme::Digest => Self::Digest(SecretBox::from(std::mem::take(&mut *bytes(verify, text)?))),
            Scheme::Ed25519 => match (to, private(verify, text, to)?) {
                (Use::Sign, Some(key)) => Self::Private(Box::new(key)),
                (Use::Verify, Some(key)) => Self::Public(Box::new(key.verifying_key())),
                (Use::Sign, None) => {
                    return Err("is a public key: signing needs the private one".to_owned());
                }
                (Use::Verify, None) => Self::Public(Box::new(public(&bytes(verify, text)?)?)),
            },
            Scheme::Basic if !text.contains(':') => {
                return Err("is not user:password, which `basic` needs".to_owned());
            }
            Scheme::Basic | Scheme::Bearer | Scheme::HeaderToken | Scheme::QueryToken | Scheme::None => {
                match to {
                    Use::Verify => Self::Token(Sha256::digest(text).into()),
                    Use::Sign => Self::Credential(SecretString::from(text)),
                }
            }
        })
    }
}

/// The key's bytes, wiped when they are dropped.
fn bytes(verify: &Verify, text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let text = verify.strip_prefix.as_deref().and_then(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    let bytes = unencoded(verify.secret_encoding, text)?;
    if bytes.is_empty() { Err("is empty after its prefix".to_owned()) } else { Ok(bytes) }
}

/// Undoes `secret_encoding`.
fn unencoded(encoding: SecretEncoding, text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let bytes = match encoding {
        SecretEncoding::Utf8 => Ok(text.as_bytes().to_vec()),
        SecretEncoding::Base64 => STANDARD.decode(text).map_err(|_secret| {
            "is not base64, which `verify.secret_encoding` says: copy it whole, with its prefix and its = at the end"
                .to_owned()
        }),
        SecretEncoding::Hex => hex::decode(text)
            .map_err(|_secret| "is not hexadecimal, which `verify.secret_encoding` says".to_owned()),
    };
    bytes.map(Zeroizing::new)
}

/// The private key, if the text is one: 32 bytes, or 64 with the public key behind.
fn private(verify: &Verify, text: &str, to: Use) -> Result<Option<SigningKey>, String> {
    let text = match (&verify.private_prefix, to) {
        (Some(prefix), _) => match text.strip_prefix(prefix.as_str()) {
            Some(text) => text,
            None => return Ok(None),
        },
        (None, Use::Sign) => text,
        (None, Use::Verify) => return Ok(None),
    };
    let bytes = unencoded(verify.secret_encoding, text)?;
    let wrong = "is not a private key: it must be 32 bytes, or 64 with the public key behind".to_owned();
    if let Ok(seed) = <&[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(Some(SigningKey::from_bytes(seed)));
    }
    let pair = <&[u8; 64]>::try_from(bytes.as_slice()).ok();
    pair.and_then(|pair| SigningKey::from_keypair_bytes(pair).ok()).map(Some).ok_or(wrong)
}

/// The public key of these bytes.
fn public(bytes: &[u8]) -> Result<VerifyingKey, String> {
    let key = <&[u8; 32]>::try_from(bytes).ok().and_then(|bytes| VerifyingKey::from_bytes(bytes).ok());
    key.filter(|key| !key.is_weak()).ok_or_else(|| "is not a public key of 32 bytes".to_owned())
}

/// A keyed hash that has absorbed its key.
#[derive(Clone)]
pub(in crate::ingress) enum Mac {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha512(Box<Hmac<Sha512>>),
}

/// A plain hash.
pub(in crate::ingress) enum Digest {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
}

/// What a hash gave; `length` of the bytes are used.
#[derive(Clone)]
pub(in crate::ingress) struct Output {
    bytes: [u8; 64],
    length: usize,
}

impl Output {
    fn new(result: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..result.len()].copy_from_slice(result);
        Self { bytes, length: result.len() }
    }

    pub(in crate::ingress) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Mac {
    fn new(algorithm: Algorithm, key: &[u8]) -> Self {
        let any = "an HMAC takes a key of any length";
        match algorithm {
            Algorithm::Sha1 => Self::Sha1(Hmac::new_from_slice(key).expect(any)),
            Algorithm::Sha256 => Self::Sha256(Hmac::new_from_slice(key).expect(any)),
            Algorithm::Sha512 => Self::Sha512(Box::new(Hmac::new_from_slice(key).expect(any))),
        }
    }

    pub(in crate::ingress) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(mac) => mac.update(bytes),
            Self::Sha256(mac) => mac.update(bytes),
            Self::Sha512(mac) => mac.update(bytes),
        }
    }

    pub(in crate::ingress) fn finish(self) -> Output {
        match self {
            Self::Sha1(mac) => Output::new(&mac.finalize().into_bytes()),
            Self::Sha256(mac) => Output::new(&mac.finalize().into_bytes()),
            Self::Sha512(mac) => Output::new(&mac.finalize().into_bytes()),
        }
    }
}

impl Digest {
    pub(in crate::ingress) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(in crate::ingress) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(in crate::ingress) fn finish(self) -> Output {
        match self {
            Self::Sha1(hash) => Output::new(&hash.finalize()),
            Self::Sha256(hash) => Output::new(&hash.finalize()),
            Self::Sha512(hash) => Output::new(&hash.finalize()),
        }
    }
}

//! Whether a request is its sender's: by a description in a file, not by code for each vendor.
//!
//! A [`Verify`] says where signature and timestamp stand and what is signed; [`Verifier::compile`] checks it as a whole and
//! prepares the keys; [`Verifier::verify`] answers for one request. It looks at raw bytes only, compares bytes in constant
//! time, tries every signature with every valid secret, and refuses when a header that decides is missing or repeated.
//!
//! ```
//! use syncline::ingress::verify::{Encoding, Parse, Request, Scheme, Secret, Signature, Verifier, Verify};
//! let description = Verify {
//!     signature: Signature {
//!         headers: vec!["x-hub-signature-256".into()],
//!         parse: Parse::Prefix { prefix: "sha256=".into() },
//!         encoding: Encoding::Hex,
//!         query: None,
//!     },
//!     ..Verify::new(Scheme::Hmac, Some("{body}"))
//! };
//! let verifier = Verifier::compile(&description, vec![Secret::new("current", "It's a Secret to Everybody")])?;
//! let mut headers = http::HeaderMap::new();
//! let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
//! headers.insert("x-hub-signature-256", signature.parse().expect("visible ASCII"));
//! let request = Request { method: "POST", url: "/hooks/code", host: "", headers: &headers, body: b"Hello, World!" };
//! assert!(verifier.verify(&request, 0).is_ok());
//! assert!(verifier.verify(&Request { body: b"Hello, World?", ..request }, 0).is_err());
//! # Ok::<(), Vec<String>>(())
//! ```

mod description;
mod explain;
mod plan;
mod refusal;
mod secrets;
mod signature;
mod template;
#[cfg(test)]
mod tests;
mod timestamp;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

pub(in crate::ingress) use description::duration;
pub use description::{
    Algorithm, Encoding, Parse, Scheme, SecretEncoding, Segment, Signature, TimestampRule, Unit, UrlRule,
    Verify,
};
pub use explain::Step;
pub(in crate::ingress) use plan::Plan;
pub use refusal::Refusal;
pub use secrets::Secret;
pub(in crate::ingress) use secrets::{Key, Material, Use};
pub(in crate::ingress) use signature::{Pattern, Place, encode};
pub(in crate::ingress) use timestamp::From;

use explain::Trace;
use signature::{Buffer, Candidate, candidates, decode};

/// Signatures in one request; no vendor sends more than 100.
const SIGNATURES_MAX: usize = 128;

/// Likewise for public-key signatures, each of which costs as much as checking a hundred hashes.
const PUBLIC_KEY_SIGNATURES_MAX: usize = 16;

/// A request as it came in, nothing decoded.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `POST`, in upper case.
    pub method: &'a str,
    /// The request's target as received: path and query.
    pub url: &'a str,
    /// The host it was sent to; a source's `url.public_base` comes before it.
    pub host: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body's raw bytes.
    pub body: &'a [u8],
}

/// A request that is its sender's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The id of the secret that fitted; `None` with `scheme: none`.
    pub key_id: Option<Arc<str>>,
    /// When it was signed, milliseconds since the Unix epoch, where the sender says.
    pub timestamp: Option<i64>,
}

/// Verifies the requests of one source.
#[derive(Debug)]
pub struct Verifier {
    plan: Plan,
    keys: Vec<Key>,
}

impl Verify {
    /// A description with nothing said but the scheme and what is signed.
    pub fn new(scheme: Scheme, signed: Option<&str>) -> Self {
        Self {
            scheme,
            algorithm: Algorithm::default(),
            secret_encoding: SecretEncoding::default(),
            strip_prefix: None,
            private_prefix: None,
            signature: Signature::default(),
            signed: signed.map(str::to_owned),
            timestamp: None,
            url: UrlRule::default(),
            expect: std::collections::BTreeMap::new(),
            allow_unsigned: false,
        }
    }

    /// Every mistake but those of the secrets.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let _ = Plan::compile(self, &mut mistakes);
        mistakes
    }

    /// Whether there is something to verify with.
    pub fn needs_secret(&self) -> bool {
        self.scheme != Scheme::None
    }
}

impl Verifier {
    /// Checks a description and prepares its keys.
    ///
    /// # Errors
    /// Every mistake: which key of the description is wrong, and how to put it right. No secret is told.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "secrets are handed over, so that no other copy lives on"
    )]
    pub fn compile(verify: &Verify, secrets: Vec<Secret>) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let plan = Plan::compile(verify, &mut mistakes);
        let keys = Key::compile(verify, &secrets, Use::Verify, &mut mistakes);
        if mistakes.is_empty() { Ok(Self { plan, keys }) } else { Err(mistakes) }
    }

    /// Whether `request` is its sender's, at `now_ms` (milliseconds since the Unix epoch).
    ///
    /// # Errors
    /// The first step that failed. Over HTTP answer the same for all of them.
    pub fn verify(&self, request: &Request<'_>, now_ms: i64) -> Result<Verified, Refusal> {
        self.walk(request, now_ms, &mut Trace::off())
    }

    /// Every step in turn up to the one that failed, for a person who asks why. Tells no secret and no computed signature.
    pub fn explain(&self, request: &Request<'_>, now_ms: i64) -> Vec<Step> {
        explain::explain(self, request, now_ms)
    }

    /// The steps of verifying, each told to `trace`.
    fn walk(&self, request: &Request<'_>, now: i64, trace: &mut Trace<'_>) -> Result<Verified, Refusal> {
        if self.plan.scheme == Scheme::None {
            trace.done("match", || "nothing is checked: `scheme: none`".to_owned());
            return Ok(Verified { key_id: None, timestamp: None });
        }
        self.plan.headers(request)?;
        let count = self.count(request);
        trace.passed("headers", &count, || "what is needed is there, and once".to_owned());
        let count = count?;
        trace.done("signature", || format!("{count} can be read"));
        let signed_at = self.plan.timestamp(request)?;
        if let (Some((text, at)), Some(when)) = (signed_at, &self.plan.when) {
            trace.done("timestamp", || format!("{text:?} can be read"));
            when.check(at, now)?;
            trace.done("freshness", || "near enough to now".to_owned());
        }
        if !self.keys.iter().any(|key| key.valid(now)) {
            return Err(Refusal::NoSecretValid);
        }
        let ts = signed_at.map_or("", |(text, _)| text);
        let key = self.find(&|key| key.valid(now), request, ts);
        trace.passed("secrets", &key, || "at least one is valid now".to_owned());
        let key = key?;
        trace.done("match", || format!("with the secret {:?}", key.id));
        Ok(Verified { key_id: Some(Arc::clone(&key.id)), timestamp: signed_at.map(|(_, at)| at) })
    }

    /// How many signatures can be read; at least one.
    fn count(&self, request: &Request<'_>) -> Result<usize, Refusal> {
        let max =
            if self.plan.scheme == Scheme::Ed25519 { PUBLIC_KEY_SIGNATURES_MAX } else { SIGNATURES_MAX };
        let (mut seen, mut readable) = (0_usize, 0);
        self.each(request, &mut |candidate| {
            seen += 1;
            readable += usize::from(self.readable(candidate));
        })?;
        match (seen, readable) {
            _ if seen > max => Err(Refusal::TooManySignatures(max)),
            (0, _) => {
                Err(Refusal::MalformedSignature("none is there in the form this source describes".to_owned()))
            }
            (_, 0) => Err(Refusal::MalformedSignature(match self.plan.length() {
                Some(length) => format!("none is {length} bytes as {:?}", self.plan.encoding).to_lowercase(),
                None => "the credential is empty or not encoded as it should be".to_owned(),
            })),
            _ => Ok(readable),
        }
    }

    /// Gives every signature of the request to `each`.
    fn each(&self, request: &Request<'_>, each: &mut dyn FnMut(Candidate<'_>)) -> Result<(), Refusal> {
        self.plan.place.values(request.headers, request.url, &mut |value| {
            candidates(&self.plan.parse, self.plan.algorithm, value, &mut |candidate| each(candidate));
            Ok(())
        })
    }

    fn readable(&self, candidate: Candidate<'_>) -> bool {
        match (self.plan.length(), self.plan.scheme) {
            (Some(length), _) => decode(candidate.text, self.plan.encoding, length, &mut [0; 72]).is_some(),
            (None, Scheme::Basic) => STANDARD.decode(candidate.text).is_ok_and(|text| text.contains(&b':')),
            (None, _) => !candidate.text.is_empty(),
        }
    }

    /// The first of the `usable` keys that a signature fits. Tries every signature with every key.
    fn find(&self, usable: &dyn Fn(&Key) -> bool, request: &Request<'_>, ts: &str) -> Result<&Key, Refusal> {
        let content = match (self.plan.scheme, &self.plan.template) {
            (Scheme::Ed25519, Some(template)) => template.content(request, ts),
            _ => Vec::new(),
        };
        let mut found = None;
        let (mut named, mut unknown) = (false, None);
        for key in self.keys.iter().filter(|key| usable(key)) {
            let expected = self.plan.hash(key, request, ts);
            let expected = expected.as_ref().map_or(&[][..], |output| output.as_bytes());
            let mut fits = Choice::from(0);
            self.each(request, &mut |candidate| {
                if candidate.key_id.is_some_and(|id| id != &*key.id) {
                    unknown = unknown.take().or_else(|| candidate.key_id.map(|id| short(id).to_owned()));
                    return;
                }
                named = true;
                fits |= self.fits(key, expected, &content, candidate);
            })?;
            if fits.into() && found.is_none() {
                found = Some(key);
            }
        }
        found.ok_or(match unknown {
            Some(id) if !named => Refusal::UnknownKey(id),
            _ => Refusal::NoMatch,
        })
    }

    /// Whether one signature fits one key.
    fn fits(&self, key: &Key, expected: &[u8], content: &[u8], candidate: Candidate<'_>) -> Choice {
        let mut buffer: Buffer = [0; 72];
        let length = self.plan.length().unwrap_or_default();
        let bytes = decode(candidate.text, self.plan.encoding, length, &mut buffer);
        match (&key.material, bytes) {
            (Material::Mac(_) | Material::Digest(_), Some(bytes)) => bytes.ct_eq(expected),
            (Material::Public(public), Some(bytes)) => {
                let signature = ed25519_dalek::Signature::from_slice(bytes);
                let fits = signature.is_ok_and(|signature| public.verify_strict(content, &signature).is_ok());
                Choice::from(u8::from(fits))
            }
            (Material::Token(token), _) => {
                let hash = match self.plan.scheme {
                    Scheme::Basic => Sha256::digest(STANDARD.decode(candidate.text).unwrap_or_default()),
                    _ => Sha256::digest(candidate.text),
                };
                hash.as_slice().ct_eq(token)
            }
            _ => Choice::from(0),
        }
    }
}

/// The one value of a header.
fn single<'r>(headers: &'r HeaderMap, name: &HeaderName) -> Result<&'r HeaderValue, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (None, _) => Err(Refusal::MissingHeader(name.to_string())),
        (Some(_), Some(_)) => Err(Refusal::RepeatedHeader(name.to_string())),
    }
}

/// The beginning of a text that a stranger wrote, for messages.
fn short(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(at, _)| &text[..at])
}

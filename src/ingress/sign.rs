//! The other direction: the headers that a real sender would send, by the same description that verifies them.
//!
//! Used by the load generator, the demo, `syncline webhook sign` and tests.

use http::header::{HeaderName, InvalidHeaderValue};
use http::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;

use super::identify::Identify;
use super::verify::{
    From, Key, Material, Parse, Pattern, Place, Plan, Refusal, Request, Scheme, Secret, Segment, Use, Verify,
    encode,
};

/// Signs requests as the senders of one source do.
#[derive(Debug)]
pub struct Signer {
    plan: Plan,
    keys: Vec<Key>,
}

/// What a sender adds to a request.
#[derive(Debug, Clone, Default)]
pub struct Signed {
    /// Headers to set; credentials among them are marked sensitive, so that they are not shown in logs.
    pub headers: HeaderMap,
    /// Name and value to add to the query, for `query_token`; the value is not yet escaped.
    pub query: Option<(String, SecretString)>,
}

/// Why a request cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A header that is signed is not in the request, or twice. Set it first, e.g. with [`identity_headers`].
    #[error("the request cannot be signed as it is")]
    Request(#[source] Refusal),
    /// No secret may be used now. Add one, or look at `not_before` and `not_after`.
    #[error("no secret is valid now")]
    NoSecretValid,
    /// What should go into a header cannot: a token with a line break or the like.
    #[error("{0} does not fit into a header: {1}")]
    Unwritable(String, #[source] InvalidHeaderValue),
}

impl Signer {
    /// Checks a description and prepares its keys; the first valid secret is the current one.
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
        let keys = Key::compile(verify, &secrets, Use::Sign, &mut mistakes);
        if mistakes.is_empty() { Ok(Self { plan, keys }) } else { Err(mistakes) }
    }

    /// Signs `request` at `now_ms` (milliseconds since the Unix epoch), with every valid secret where the sender's format
    /// holds several. Headers that are signed, e.g. `webhook-id`, must be set already.
    ///
    /// # Errors
    /// A signed header is missing, or no secret is valid.
    pub fn sign(&self, request: &Request<'_>, now_ms: i64) -> Result<Signed, Error> {
        let mut signed = Signed::default();
        for (name, value) in &self.plan.expect {
            set(&mut signed.headers, name, value)?;
        }
        if self.plan.scheme == Scheme::None {
            return Ok(signed);
        }
        if let Some(template) = &self.plan.template {
            template.check(request).map_err(Error::Request)?;
        }
        let keys: Vec<&Key> = self.keys.iter().filter(|key| key.valid(now_ms)).collect();
        let current = keys.first().ok_or(Error::NoSecretValid)?;
        let ts = self.plan.when.as_ref().map(|when| when.write(now_ms)).unwrap_or_default();
        if let Some(From::Header(name)) = self.plan.when.as_ref().map(|when| &when.from) {
            set(&mut signed.headers, name, &ts)?;
        }
        let texts: Vec<(&str, String)> =
            keys.iter().map(|key| (&*key.id, self.signature(key, request, &ts))).collect();
        match &self.plan.place {
            Place::Nowhere => {}
            Place::Query(name) => {
                signed.query = Some((name.clone(), self.signature(current, request, &ts).into()));
            }
            Place::Authorization(name, word) => {
                set(&mut signed.headers, name, &format!("{word} {}", texts[0].1))?;
            }
            Place::Headers(patterns) => match patterns.first() {
                Some(Pattern::Exact(name)) => set(&mut signed.headers, name, &self.value(&texts, &ts))?,
                Some(Pattern::Starting(start)) => {
                    for (index, text) in texts.iter().enumerate() {
                        let name = format!("{start}{}", index + 1);
                        let name =
                            name.parse::<HeaderName>().expect("a header's name with digits behind is one");
                        set(&mut signed.headers, &name, &self.value(std::slice::from_ref(text), &ts))?;
                    }
                }
                None => {}
            },
        }
        if self.plan.template.is_none() {
            signed.headers.values_mut().for_each(|value| value.set_sensitive(true));
        }
        Ok(signed)
    }

    /// A signature, credential or token as text.
    fn signature(&self, key: &Key, request: &Request<'_>, ts: &str) -> String {
        match (&key.material, &self.plan.template) {
            (Material::Credential(text), _) if self.plan.scheme == Scheme::Basic => {
                STANDARD.encode(text.expose_secret())
            }
            (Material::Credential(text), _) => text.expose_secret().to_owned(),
            (Material::Private(private), Some(template)) => {
                let signature = private.sign(&template.content(request, ts));
                encode(&signature.to_bytes(), self.plan.encoding)
            }
            _ => {
                let output = self.plan.hash(key, request, ts);
                encode(output.as_ref().map_or(&[][..], |output| output.as_bytes()), self.plan.encoding)
            }
        }
    }

    /// The header's value; formats that hold one signature hold the current one.
    fn value(&self, texts: &[(&str, String)], ts: &str) -> String {
        let all = || texts.iter().map(|(_, text)| text.as_str());
        let current = all().next().unwrap_or_default();
        let from = self.plan.when.as_ref().map(|when| &when.from);
        match &self.plan.parse {
            Parse::Whole {} => current.to_owned(),
            Parse::Prefix { prefix } => format!("{prefix}{current}"),
            Parse::Kv { item_sep, kv_sep, pick } => {
                let time = match from {
                    Some(From::Key(key)) => Some(format!("{key}{kv_sep}{ts}")),
                    _ => None,
                };
                let items = time.into_iter().chain(all().map(|text| format!("{pick}{kv_sep}{text}")));
                items.collect::<Vec<_>>().join(item_sep)
            }
            Parse::VersionedList { item_sep, prefix } => {
                all().map(|text| format!("{prefix}{text}")).collect::<Vec<_>>().join(item_sep)
            }
            Parse::Positional { item_sep, skip } => {
                let time = |index| if from == Some(&From::Item(index)) { ts } else { "-" };
                (0..*skip).map(time).chain(all()).collect::<Vec<_>>().join(item_sep)
            }
            Parse::Segments { item_sep, segment_sep, segments } => {
                let item = |(id, text): &(&str, String)| {
                    let part = |segment: &Segment| match segment {
                        Segment::KeyId => (*id).to_owned(),
                        Segment::Algorithm => self.plan.algorithm.name().to_uppercase(),
                        Segment::Signature => text.clone(),
                        Segment::Ignore => "-".to_owned(),
                    };
                    segments.iter().map(part).collect::<Vec<_>>().join(segment_sep)
                };
                texts.iter().map(item).collect::<Vec<_>>().join(item_sep)
            }
        }
    }
}

/// The headers in which a source expects id and type. What it expects in the body is the caller's to put there.
///
/// # Errors
/// The id or type does not fit into a header.
pub fn identity_headers(identify: &Identify, id: &str, event_type: &str) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let places = identify.id.as_slice().iter().map(|place| (place, id));
    for (place, value) in places.chain(identify.event_type.iter().map(|place| (place, event_type))) {
        if let Some(name) = place.strip_prefix("header:").and_then(|name| name.parse::<HeaderName>().ok()) {
            set(&mut headers, &name, value)?;
        }
    }
    Ok(headers)
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: &str) -> Result<(), Error> {
    let value =
        HeaderValue::from_str(value).map_err(|invalid| Error::Unwritable(name.to_string(), invalid))?;
    headers.insert(name, value);
    Ok(())
}

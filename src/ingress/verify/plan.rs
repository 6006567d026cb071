//! A description compiled: everything but the keys. A verifier and a signer share it.

use http::header::{AUTHORIZATION, HeaderName};

use super::description::{Algorithm, Encoding, Parse, Scheme, Verify};
use super::secrets::{Digest, Key, Material, Output};
use super::signature::{self, Pattern, Place};
use super::template::Template;
use super::timestamp::{From, When};
use super::{Refusal, Request};

/// A compiled description.
#[derive(Debug, Clone)]
pub(in crate::ingress) struct Plan {
    pub(in crate::ingress) scheme: Scheme,
    pub(in crate::ingress) algorithm: Algorithm,
    pub(in crate::ingress) place: Place,
    pub(in crate::ingress) parse: Parse,
    pub(in crate::ingress) encoding: Encoding,
    pub(in crate::ingress) template: Option<Template>,
    pub(in crate::ingress) when: Option<When>,
    pub(in crate::ingress) expect: Vec<(HeaderName, String)>,
}

impl Plan {
    /// Compiles; tells every mistake.
    pub(in crate::ingress) fn compile(verify: &Verify, mistakes: &mut Vec<String>) -> Self {
        let signs = matches!(verify.scheme, Scheme::Hmac | Scheme::Digest | Scheme::Ed25519);
        let place = place(verify, mistakes);
        signature::check(&verify.signature.parse, mistakes);
        let when =
            verify.timestamp.as_ref().and_then(|rule| When::compile(rule, &verify.signature.parse, mistakes));
        let template = verify.signed.as_ref().map(|signed| Template::compile(signed, &verify.url, mistakes));
        if signs {
            check_signed(verify, template.as_ref(), mistakes);
        } else {
            check_unsigned(verify, mistakes);
        }
        check_none(verify, mistakes);
        if let (Some(When { from: From::Key(_) | From::Item(_), .. }), Place::Headers(patterns)) =
            (&when, &place)
            && !matches!(patterns.as_slice(), [Pattern::Exact(_)])
        {
            mistakes.push(
                "`verify.timestamp.from`: a timestamp beside the signature needs exactly one header in `signature.headers`".to_owned(),
            );
        }
        Self {
            scheme: verify.scheme,
            algorithm: verify.algorithm,
            place,
            parse: verify.signature.parse.clone(),
            encoding: verify.signature.encoding,
            template,
            when,
            expect: expect(verify, mistakes),
        }
    }

    /// Length of a signature in bytes; `None` for tokens.
    pub(super) fn length(&self) -> Option<usize> {
        match self.scheme {
            Scheme::Hmac | Scheme::Digest => Some(self.algorithm.length()),
            Scheme::Ed25519 => Some(64),
            _ => None,
        }
    }

    /// Every header that decides, except the signature's own, is there once and right.
    pub(super) fn headers(&self, request: &Request<'_>) -> Result<(), Refusal> {
        for (name, expected) in &self.expect {
            if super::single(request.headers, name)?.as_bytes() != expected.as_bytes() {
                return Err(Refusal::UnexpectedHeader { name: name.to_string(), expected: expected.clone() });
            }
        }
        if let Some(When { from: From::Header(name), .. }) = &self.when {
            super::single(request.headers, name)?;
        }
        self.template.iter().try_for_each(|template| template.check(request))
    }

    /// The timestamp as written, and the instant in milliseconds.
    pub(super) fn timestamp<'r>(&self, request: &Request<'r>) -> Result<Option<(&'r str, i64)>, Refusal> {
        let Some(when) = &self.when else { return Ok(None) };
        let text = match (&when.from, &self.place) {
            (From::Header(name), _) => visible(request, name)?,
            (_, Place::Headers(patterns)) => match patterns.first() {
                Some(Pattern::Exact(name)) => when.beside(&self.parse, visible(request, name)?)?,
                _ => return Err(Refusal::MalformedTimestamp("it is nowhere".to_owned())),
            },
            _ => return Err(Refusal::MalformedTimestamp("it is nowhere".to_owned())),
        };
        Ok(Some((text, when.read(text)?)))
    }

    /// The signature under `key`, for schemes that hash.
    pub(in crate::ingress) fn hash(&self, key: &Key, request: &Request<'_>, ts: &str) -> Option<Output> {
        use secrecy::ExposeSecret as _;
        let template = self.template.as_ref()?;
        match &key.material {
            Material::Mac(mac) => {
                let mut mac = mac.clone();
                template.feed(request, ts, &[], &mut |piece| mac.update(piece));
                Some(mac.finish())
            }
            Material::Digest(secret) => {
                let mut digest = Digest::new(self.algorithm);
                template.feed(request, ts, secret.expose_secret(), &mut |piece| digest.update(piece));
                Some(digest.finish())
            }
            _ => None,
        }
    }
}

/// A header's text.
fn visible<'r>(request: &Request<'r>, name: &HeaderName) -> Result<&'r str, Refusal> {
    super::single(request.headers, name)?.to_str().map(str::trim_ascii).map_err(|_opaque| {
        Refusal::MalformedTimestamp(format!("{name} has characters that are not visible ASCII"))
    })
}

/// Where the signature stands.
fn place(verify: &Verify, mistakes: &mut Vec<String>) -> Place {
    let signature = &verify.signature;
    if signature.query.is_some() && verify.scheme != Scheme::QueryToken {
        mistakes.push("`verify.signature.query`: is only for `scheme: query_token`".to_owned());
    }
    let mut patterns = Vec::new();
    for header in &signature.headers {
        match Pattern::compile(header) {
            Ok(pattern) => patterns.push(pattern),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    match verify.scheme {
        Scheme::None => Place::Nowhere,
        Scheme::QueryToken => match &signature.query {
            Some(name) if !name.is_empty() => Place::Query(name.clone()),
            _ => {
                mistakes.push(
                    "`verify.signature.query`: is missing: `query_token` needs the name in the query, e.g. token".to_owned(),
                );
                Place::Nowhere
            }
        },
        Scheme::Basic | Scheme::Bearer => {
            let word = if verify.scheme == Scheme::Basic { "Basic" } else { "Bearer" };
            match patterns.as_slice() {
                [] => Place::Authorization(AUTHORIZATION, word),
                [Pattern::Exact(name)] => Place::Authorization(name.clone(), word),
                _ => {
                    mistakes.push(format!(
                        "`verify.signature.headers`: {} needs one header at most; leave it out for `authorization`",
                        word.to_ascii_lowercase()
                    ));
                    Place::Nowhere
                }
            }
        }
        Scheme::Hmac | Scheme::Digest | Scheme::Ed25519 | Scheme::HeaderToken => {
            if signature.headers.is_empty() {
                mistakes.push(
                    "`verify.signature.headers`: is empty: name the header that carries the signature or token".to_owned(),
                );
            }
            Place::Headers(patterns)
        }
    }
}

/// What must hold where content is signed.
fn check_signed(verify: &Verify, template: Option<&Template>, mistakes: &mut Vec<String>) {
    let Some(template) = template else {
        mistakes.push("`verify.signed`: is missing: say what is signed, e.g. \"{ts}.{body}\"".to_owned());
        return;
    };
    if !template.has_body() {
        mistakes.push("`verify.signed`: has no {body}, so anyone could change it".to_owned());
    }
    match (template.has_secret(), verify.scheme == Scheme::Digest) {
        (true, false) => mistakes.push("`verify.signed`: {secret} is only for `scheme: digest`".to_owned()),
        (false, true) => mistakes.push(
            "`verify.signed`: has no {secret}, so anyone could compute the digest; use `scheme: hmac` for a keyed hash".to_owned(),
        ),
        _ => {}
    }
    match (template.has_timestamp(), verify.timestamp.is_some()) {
        (true, false) => mistakes.push(
            "`verify.timestamp`: is missing, but `signed` has {ts}: say where it stands, e.g. {from: \"header:x-timestamp\", unit: s}".to_owned(),
        ),
        (false, true) => mistakes.push(
            "`verify.signed`: has no {ts}, so anyone could renew the timestamp: add {ts} or remove `timestamp`".to_owned(),
        ),
        _ => {}
    }
}

/// What makes no sense where nothing is signed.
fn check_unsigned(verify: &Verify, mistakes: &mut Vec<String>) {
    if verify.signed.is_some() {
        mistakes.push("`verify.signed`: is only for `hmac`, `digest` and `ed25519`: remove it".to_owned());
    }
    if verify.timestamp.is_some() {
        mistakes.push("`verify.timestamp`: nothing protects it without a signature: remove it".to_owned());
    }
}

/// Nothing is checked only where it is said aloud.
fn check_none(verify: &Verify, mistakes: &mut Vec<String>) {
    match (verify.scheme == Scheme::None, verify.allow_unsigned) {
        (true, false) => mistakes.push(
            "`verify.scheme`: with `none` anyone can send: use another, or say `allow_unsigned: true` on a development machine".to_owned(),
        ),
        (false, true) => mistakes.push("`verify.allow_unsigned`: is only for `scheme: none`: remove it".to_owned()),
        _ => {}
    }
}

/// The headers of `expect:`.
fn expect(verify: &Verify, mistakes: &mut Vec<String>) -> Vec<(HeaderName, String)> {
    let mut expect = Vec::new();
    for (name, value) in &verify.expect {
        match name.parse() {
            Ok(header) if http::HeaderValue::from_str(value).is_ok() => expect.push((header, value.clone())),
            _ => mistakes.push(format!("`verify.expect`: {name:?}: {value:?} is not a header")),
        }
    }
    expect
}

//! What is signed: a template of fields of the request, fed piece by piece into a hash.

use http::header::HeaderName;

use super::description::UrlRule;
use super::{Refusal, Request};

/// A compiled `signed:` with the address it may need.
#[derive(Debug, Clone)]
pub(in crate::ingress) struct Template {
    parts: Vec<Part>,
    base: Option<Base>,
    decode: String,
}

/// A piece of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Body,
    Ts,
    Method,
    Url,
    Path,
    Query,
    Host,
    Header(HeaderName),
    Secret,
}

/// The public address without a slash at its end, and its host.
#[derive(Debug, Clone)]
struct Base {
    text: String,
    host: String,
}

/// The fields, for messages.
const FIELDS: &str = "{body}, {ts}, {method}, {url}, {path}, {query}, {host}, {header:NAME} and, with `scheme: digest`, {secret}";

impl Template {
    /// Compiles; tells every mistake.
    pub(super) fn compile(signed: &str, url: &UrlRule, mistakes: &mut Vec<String>) -> Self {
        let parts = parts(signed, mistakes);
        let base = url.public_base.as_deref().and_then(|base| Base::compile(base, mistakes));
        let decode = url.decode.clone().unwrap_or_default();
        if !decode.chars().all(|c| c.is_ascii_graphic()) {
            mistakes.push(
                "`verify.url.decode`: only visible ASCII characters have escapes that can be undone here; list them, e.g. \":/?@\"".to_owned(),
            );
        }
        let template = Self { parts, base, decode };
        if template.has(&Part::Url) && url.public_base.is_none() {
            mistakes.push(
                "`verify.url.public_base`: is missing, but `signed` has {url}: set it to the address the sender calls, e.g. https://hooks.acme.example".to_owned(),
            );
        }
        template
    }

    fn has(&self, part: &Part) -> bool {
        self.parts.contains(part)
    }

    pub(super) fn has_body(&self) -> bool {
        self.has(&Part::Body)
    }

    pub(super) fn has_timestamp(&self) -> bool {
        self.has(&Part::Ts)
    }

    pub(super) fn has_secret(&self) -> bool {
        self.has(&Part::Secret)
    }

    /// Every header it takes is there exactly once.
    pub(in crate::ingress) fn check(&self, request: &Request<'_>) -> Result<(), Refusal> {
        self.parts.iter().try_for_each(|part| match part {
            Part::Header(name) => super::single(request.headers, name).map(drop),
            _ => Ok(()),
        })
    }

    /// Gives the signed content to `put`, piece by piece, without copying it. Call [`Template::check`] first.
    pub(in crate::ingress) fn feed(
        &self,
        request: &Request<'_>,
        ts: &str,
        secret: &[u8],
        put: &mut dyn FnMut(&[u8]),
    ) {
        let target = path_and_query(request.url);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        for part in &self.parts {
            match part {
                Part::Text(text) => put(text.as_bytes()),
                Part::Body => put(request.body),
                Part::Ts => put(ts.as_bytes()),
                Part::Method => put(request.method.as_bytes()),
                Part::Url => {
                    let base = self.base.as_ref().map_or("", |base| base.text.as_str());
                    decoded(base, &self.decode, put);
                    decoded(target, &self.decode, put);
                }
                Part::Path => put(path.as_bytes()),
                Part::Query => put(query.as_bytes()),
                Part::Host => {
                    put(self.base.as_ref().map_or(request.host, |base| base.host.as_str()).as_bytes());
                }
                Part::Header(name) => {
                    put(request.headers.get(name).map_or(&[][..], http::HeaderValue::as_bytes));
                }
                Part::Secret => put(secret),
            }
        }
    }

    /// The signed content in one piece, for signatures that need it so.
    pub(in crate::ingress) fn content(&self, request: &Request<'_>, ts: &str) -> Vec<u8> {
        let mut content = Vec::with_capacity(request.body.len() + 128);
        self.feed(request, ts, &[], &mut |piece| content.extend_from_slice(piece));
        content
    }
}

impl Base {
    fn compile(base: &str, mistakes: &mut Vec<String>) -> Option<Self> {
        let uri = base.parse::<http::Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("https" | "http")) && uri.query().is_none() && !base.contains('#')
        });
        let Some(host) = uri.as_ref().and_then(|uri| uri.authority()) else {
            mistakes.push(format!(
                "`verify.url.public_base`: {base:?} is not an address without query: write e.g. https://hooks.acme.example"
            ));
            return None;
        };
        Some(Self { text: base.trim_end_matches('/').to_owned(), host: host.to_string() })
    }
}

/// Reads a template.
fn parts(signed: &str, mistakes: &mut Vec<String>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = signed;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
            continue;
        }
        let Some((name, after)) = rest.split_once('}').filter(|_| brace == "{") else {
            mistakes.push(format!(
                "`verify.signed`: a brace in {signed:?} has no partner: write {{{{ or }}}} for a brace"
            ));
            return parts;
        };
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        match part(name) {
            Ok(part) => parts.push(part),
            Err(mistake) => mistakes.push(mistake),
        }
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    parts
}

/// Reads a field's name.
fn part(name: &str) -> Result<Part, String> {
    Ok(match name {
        "body" => Part::Body,
        "ts" => Part::Ts,
        "method" => Part::Method,
        "url" => Part::Url,
        "path" => Part::Path,
        "query" => Part::Query,
        "host" => Part::Host,
        "secret" => Part::Secret,
        "id" => return Err("`verify.signed`: {id} is not known here: write {header:NAME} with the header that carries the id".to_owned()),
        _ => {
            let header = name.strip_prefix("header:").and_then(|name| name.parse::<HeaderName>().ok());
            Part::Header(header.ok_or_else(|| {
                format!("`verify.signed`: the field {{{name}}} is not known; there are {FIELDS}")
            })?)
        }
    })
}

/// Path and query of a request's target, which proxies and tests may give as a whole address.
fn path_and_query(url: &str) -> &str {
    let Some((_, after)) = url.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?'])) else {
        return url;
    };
    after.find(['/', '?']).map_or("/", |at| &after[at..])
}

/// Gives `text` to `put` with the escapes of the characters in `set` undone, in one pass.
fn decoded(text: &str, set: &str, put: &mut dyn FnMut(&[u8])) {
    let bytes = text.as_bytes();
    let mut from = 0;
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at..at + 3).filter(|escape| escape[0] == b'%').and_then(|escape| {
            let mut byte = [0];
            hex::decode_to_slice(&escape[1..], &mut byte).ok()?;
            set.as_bytes().contains(&byte[0]).then_some(byte)
        });
        if let Some(byte) = escape {
            put(&bytes[from..at]);
            put(&byte);
            at += 3;
            from = at;
        } else {
            at += 1;
        }
    }
    put(&bytes[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undone(text: &str, set: &str) -> String {
        let mut out = Vec::new();
        decoded(text, set, &mut |piece| out.extend_from_slice(piece));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_listed_escapes_are_undone_and_only_once() {
        assert_eq!(undone("/a%40b%20c%2F%3a%", ":/@"), "/a@b%20c/:%");
        assert_eq!(undone("%2540", "%@"), "%40");
        assert_eq!(undone("%4", "@"), "%4");
        assert_eq!(undone("/a%40b", ""), "/a%40b");
    }

    #[test]
    fn a_whole_address_is_cut_to_path_and_query() {
        assert_eq!(path_and_query("https://a.example/b?c=d://e"), "/b?c=d://e");
        assert_eq!(path_and_query("/b?to=https://x"), "/b?to=https://x");
        assert_eq!(path_and_query("https://a.example"), "/");
        assert_eq!(path_and_query("https://a.example?x=1"), "?x=1");
    }

    #[test]
    fn unknown_fields_and_lonely_braces_are_told() {
        for (signed, said) in [
            ("{bdy}", "{bdy}"),
            ("{id}.{body}", "{header:NAME}"),
            ("{body", "no partner"),
            ("a}b", "no partner"),
        ] {
            let mut mistakes = Vec::new();
            parts(signed, &mut mistakes);
            assert!(mistakes.len() == 1 && mistakes[0].contains(said), "{signed}: {mistakes:?}");
        }
        let mut mistakes = Vec::new();
        assert_eq!(
            parts("{{v0}}:{ts}:{header:X-Id}", &mut mistakes),
            [
                Part::Text("{v0}:".into()),
                Part::Ts,
                Part::Text(":".into()),
                Part::Header(HeaderName::from_static("x-id"))
            ]
        );
        assert!(mistakes.is_empty());
    }
}

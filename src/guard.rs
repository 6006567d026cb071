//! Who asks, and whether they may: bearer tokens with a role, or, with no token, whoever is on this machine.
//!
//! With no token the listener is bound to a loopback address. Two ways lead past that: a page in a browser on this machine
//! that asks for another site, and a proxy on this machine that asks for the world. Both are recognised and refused.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};
use http::{StatusCode, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::api::Who;
use crate::config::Role;
use crate::problem::Problem;

/// Who is whoever reaches a loopback address while there are no tokens.
const LOCAL: &str = "local";

/// What a proxy adds to the requests of others.
const OF_PROXIES: [HeaderName; 2] = [header::FORWARDED, HeaderName::from_static("x-forwarded-for")];

/// Decides who may do what. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard {
    tokens: Arc<[Token]>,
}

struct Token {
    name: String,
    role: Role,
    hash: [u8; 32],
}

/// Shows no hash: a weak token could be guessed from it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, word(self.role))
    }
}

impl Guard {
    /// A guard that knows these tokens, each by name, role and secret. With none, everyone on this machine is admin.
    pub fn new(tokens: Vec<(String, Role, SecretString)>) -> Self {
        let known = |(name, role, secret): (String, Role, SecretString)| {
            let hash = Sha256::digest(secret.expose_secret()).into();
            Token { name, role, hash }
        };
        Self { tokens: tokens.into_iter().map(known).collect() }
    }

    /// Whether there are no tokens.
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Who sent a request with these headers, if they have at least `role`. Roles above viewer change something: those are
    /// refused to pages of other sites.
    ///
    /// # Errors
    /// 401 when nobody we know asks, 403 when they may not; the problem says what is needed.
    pub fn check(&self, headers: &HeaderMap, role: Role) -> Result<Who, Problem> {
        if self.is_open() {
            return local(headers, role);
        }
        let token = bearer(headers).ok_or_else(|| unknown("send `Authorization: Bearer` with a token"))?;
        self.check_token(token, role)
    }

    /// Whose token it is, if they have at least `role`. Takes the same time for every token.
    ///
    /// # Errors
    /// 401 when we do not know it, 403 when its role is too low.
    pub fn check_token(&self, token: &str, role: Role) -> Result<Who, Problem> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for token in &*self.tokens {
            if bool::from(token.hash.ct_eq(&hash)) {
                found = Some(token);
            }
        }
        let token = found.ok_or_else(|| unknown("the token is not one of auth.tokens"))?;
        if token.role < role {
            return Err(forbidden(format!(
                "`{}` is {}; this needs the role {}",
                token.name,
                word(token.role),
                word(role)
            )));
        }
        Ok(Who(token.name.clone()))
    }
}

/// Whether a browser sent it on behalf of a page of another site. Browsers say so in headers that no page can set.
pub fn is_from_another_site(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let origin = origin.as_ref().and_then(|origin| origin.authority()).map(http::uri::Authority::as_str);
    origin.is_none() || origin != host(headers)
}

fn local(headers: &HeaderMap, role: Role) -> Result<Who, Problem> {
    if host(headers).is_some_and(|host| !is_loopback(host)) {
        return Err(forbidden(
            "without auth.tokens only this machine may ask, by a loopback address; ask 127.0.0.1, or set auth.tokens",
        ));
    }
    if OF_PROXIES.iter().any(|name| headers.contains_key(name)) {
        return Err(forbidden(
            "the request comes through a proxy, so it may be anybody's; set auth.tokens to let it in",
        ));
    }
    if role > Role::Viewer && is_from_another_site(headers) {
        return Err(forbidden("a page of another site may not ask this"));
    }
    Ok(Who(LOCAL.to_owned()))
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default())
}

/// Whether a `Host` header, with or without a port, names this machine and can name no other.
pub fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unknown(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", "The sender is not known", detail)
        .challenge("Bearer")
}

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "This is not allowed", detail)
}

/// The role as settings write it.
fn word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(vec![
            ("grafana".to_owned(), Role::Viewer, "see".to_owned().into()),
            ("ops".to_owned(), Role::Operator, "do".to_owned().into()),
        ])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn refused(guard: &Guard, pairs: &[(&'static str, &str)], role: Role) -> (u16, String) {
        let problem = guard.check(&headers(pairs), role).expect_err("it is let in");
        (problem.status().as_u16(), problem.detail().to_owned())
    }

    #[test]
    fn a_token_gives_its_name_and_all_roles_up_to_its_own() {
        for (authorization, role, name) in [
            ("Bearer see", Role::Viewer, "grafana"),
            ("bearer do", Role::Viewer, "ops"),
            ("Bearer do", Role::Operator, "ops"),
        ] {
            let who = guard().check(&headers(&[("authorization", authorization)]), role).unwrap();
            assert_eq!(who, Who(name.to_owned()));
        }
        let (status, detail) = refused(&guard(), &[("authorization", "Bearer see")], Role::Operator);
        assert_eq!((status, &*detail), (403, "`grafana` is viewer; this needs the role operator"));
    }

    #[test]
    fn who_has_no_token_that_we_know_is_refused() {
        for pairs in [
            &[][..],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer nobody")],
            &[("authorization", "Basic do")],
            &[("authorization", "do")],
            &[("host", "127.0.0.1:7171")],
        ] {
            assert_eq!(refused(&guard(), pairs, Role::Viewer).0, 401, "{pairs:?}");
        }
    }

    #[test]
    fn without_tokens_this_machine_is_admin() {
        let open = Guard::new(Vec::new());
        for host in
            ["127.0.0.1:7171", "localhost:7171", "LOCALHOST", "[::1]:7171", "127.9.9.9", "a.localhost"]
        {
            let who = open.check(&headers(&[("host", host)]), Role::Admin);
            assert_eq!(who.unwrap(), Who("local".to_owned()), "{host}");
        }
        assert!(open.check(&HeaderMap::new(), Role::Admin).is_ok());
    }

    #[test]
    fn without_tokens_neither_a_rebound_name_nor_a_proxy_is_this_machine() {
        let open = Guard::new(Vec::new());
        for pairs in [
            &[("host", "evil.example:7171")][..],
            &[("host", "localhost.evil.example")],
            &[("host", "127.0.0.1.evil.example")],
            &[("host", "user@127.0.0.1@evil.example")],
            &[("host", "127.0.0.1:7171"), ("x-forwarded-for", "203.0.113.9")],
            &[("host", "127.0.0.1:7171"), ("forwarded", "for=203.0.113.9")],
        ] {
            assert_eq!(refused(&open, pairs, Role::Viewer).0, 403, "{pairs:?}");
        }
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let open = Guard::new(Vec::new());
        let host = ("host", "127.0.0.1:7171");
        for from in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "http://127.0.0.1:9999"),
            ("origin", "null"),
        ] {
            assert_eq!(refused(&open, &[host, from], Role::Operator).0, 403, "{from:?}");
            assert!(open.check(&headers(&[host, from]), Role::Viewer).is_ok(), "a link may lead here");
        }
        for from in [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("origin", "http://127.0.0.1:7171"),
        ] {
            assert!(open.check(&headers(&[host, from]), Role::Operator).is_ok(), "{from:?}");
        }
    }

    #[test]
    fn a_guard_shows_no_token() {
        assert_eq!(format!("{:?}", guard()), "Guard { tokens: [grafana (viewer), ops (operator)] }");
    }
}

//! How a connector shows who it is: fixed headers, or an OAuth 2.0 token (RFC 6749, 4.4) fetched once for all who wait for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use syncline_actors::time::Timestamp;

use super::session::{Asking, NoSession, Session, Sessions};
use super::wire::{Request, Wire, WireError};
use crate::clock::SharedClock;

/// How long a token lasts when its issuer does not say.
const LIFE_UNSAID: Duration = Duration::from_mins(5);

/// Bytes of a token answer that are read.
const TOKEN_ANSWER_MAX: usize = 64 * 1024;

/// How client credentials are put into a token request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CredentialStyle {
    /// `client_id` and `client_secret` in the form.
    #[default]
    Body,
    /// HTTP Basic.
    Basic,
}

/// Client credentials, with every secret at hand.
#[derive(Debug, Clone)]
pub(super) struct ClientCredentials {
    pub(super) token_url: String,
    pub(super) client_id: SecretString,
    pub(super) client_secret: SecretString,
    pub(super) scope: Option<String>,
    pub(super) style: CredentialStyle,
}

/// How to authenticate, with every secret at hand.
#[derive(Debug, Clone)]
pub(super) enum Scheme {
    None,
    /// The same header on every call; its value is marked sensitive.
    Fixed(HeaderName, HeaderValue),
    ClientCredentials(ClientCredentials),
}

impl Scheme {
    /// HTTP Basic (RFC 7617).
    pub(super) fn basic(username: &SecretString, password: &SecretString) -> Self {
        Self::Fixed(AUTHORIZATION, basic(username.expose_secret(), password.expose_secret()))
    }
}

fn basic(username: &str, password: &str) -> HeaderValue {
    let plain = format!("{username}:{password}");
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain));
    sensitive(&text).expect("base64 is legal in a header")
}

/// A header value that is never shown. `None` if the text cannot be one.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a call is signed with; kept to tell which token, and which session, the system refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenNumber {
    token: u64,
    session: u64,
}

/// The credentials of one connector.
pub(super) struct Authority {
    connector: Arc<str>,
    scheme: Scheme,
    timeout: Duration,
    allow_private: bool,
    /// Set when what changes something needs a session.
    sessions: Option<Sessions>,
    /// Held while a token is fetched: whoever else needs one waits for that answer instead of asking too.
    cache: tokio::sync::Mutex<Cache>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("connector", &self.connector).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Cache {
    token: Option<Token>,
    number: u64,
    /// The last failure, and when it was learnt.
    failure: Option<(Timestamp, WireError)>,
}

struct Token {
    header: HeaderValue,
    refresh_at: Timestamp,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
}

impl Authority {
    pub(super) fn new(connector: Arc<str>, scheme: Scheme, timeout: Duration, allow_private: bool) -> Self {
        let cache = tokio::sync::Mutex::default();
        Self { connector, scheme, timeout, allow_private, sessions: None, cache }
    }

    /// With a session at `base`, if there is to be one.
    pub(super) fn with_session(mut self, base: &str, session: Option<Session>) -> Self {
        self.sessions = session.map(|session| Sessions::new(base, session));
        self
    }

    /// Whether what was refused can be replaced by something fresh.
    pub(super) fn renews(&self) -> bool {
        self.sessions.is_some() || matches!(self.scheme, Scheme::ClientCredentials(_))
    }

    /// Puts the credentials into `headers`, fetching a token or beginning a session first if there is none or it is about to end. A
    /// failure means that the call was not made.
    pub(super) async fn sign(
        &self,
        method: &Method,
        headers: &mut HeaderMap,
        wire: &dyn Wire,
        clock: &SharedClock,
    ) -> Result<TokenNumber, WireError> {
        let mut own = HeaderMap::new();
        let token = self.credentials(&mut own, wire, clock).await?;
        headers.extend(own.clone());
        let Some(sessions) = self.sessions.as_ref().filter(|_| Sessions::is_needed(method)) else {
            return Ok(TokenNumber { token, session: 0 });
        };
        let asking = Asking { request: self.asking(own), wire, clock };
        match sessions.join(headers, asking).await {
            Ok(session) => Ok(TokenNumber { token, session }),
            Err(NoSession::Failed(error)) => Err(error),
            Err(NoSession::Refused) => {
                self.forget(token).await;
                Err(WireError::Unsent("no session: the credentials were refused".to_owned()))
            }
        }
    }

    async fn credentials(
        &self,
        headers: &mut HeaderMap,
        wire: &dyn Wire,
        clock: &SharedClock,
    ) -> Result<u64, WireError> {
        match &self.scheme {
            Scheme::None => Ok(0),
            Scheme::Fixed(name, value) => {
                headers.insert(name.clone(), value.clone());
                Ok(0)
            }
            Scheme::ClientCredentials(credentials) => {
                let (value, number) = self.token(credentials, wire, clock).await?;
                headers.insert(AUTHORIZATION, value);
                Ok(number)
            }
        }
    }

    /// A request of this connector that says nothing yet.
    fn asking(&self, headers: HeaderMap) -> Request {
        Request {
            connector: self.connector.clone(),
            operation: Arc::from(""),
            method: Method::GET,
            url: String::new(),
            headers,
            body: Bytes::new(),
            timeout: self.timeout,
            response_max: TOKEN_ANSWER_MAX,
            allow_private: self.allow_private,
        }
    }

    /// Forgets the token and the session that the system refused, unless they have been replaced since.
    pub(super) async fn renounce(&self, refused: TokenNumber) {
        self.forget(refused.token).await;
        if let Some(sessions) = &self.sessions {
            sessions.forget(refused.session).await;
        }
    }

    async fn forget(&self, token: u64) {
        let mut cache = self.cache.lock().await;
        if cache.number == token {
            cache.token = None;
        }
    }

    async fn token(
        &self,
        credentials: &ClientCredentials,
        wire: &dyn Wire,
        clock: &SharedClock,
    ) -> Result<(HeaderValue, u64), WireError> {
        let asked = clock.now();
        let mut cache = self.cache.lock().await;
        if let Some(token) = cache.token.as_ref().filter(|token| clock.now() < token.refresh_at) {
            return Ok((token.header.clone(), cache.number));
        }
        // Whoever waited while another's request failed shares that failure: a dead token endpoint is asked once, not by each.
        if let Some((at, failure)) = &cache.failure
            && *at >= asked
        {
            return Err(failure.clone());
        }
        match self.fetch(credentials, wire, clock).await {
            Ok(token) => {
                cache.number += 1;
                cache.failure = None;
                let header = token.header.clone();
                cache.token = Some(token);
                Ok((header, cache.number))
            }
            Err(text) => {
                let failure = WireError::Unsent(format!("no token: {text}"));
                cache.failure = Some((clock.now(), failure.clone()));
                Err(failure)
            }
        }
    }

    async fn fetch(
        &self,
        credentials: &ClientCredentials,
        wire: &dyn Wire,
        clock: &SharedClock,
    ) -> Result<Token, String> {
        let request = self.token_request(credentials);
        // Everybody waits for this one: it must end even if the wire does not keep to its time.
        let most = self.timeout + Duration::from_millis(500);
        let answer = tokio::time::timeout(most, wire.send(request)).await;
        let Ok(answer) = answer else { return Err("the token endpoint did not answer in time".to_owned()) };
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != 200 && answer.status != 201 {
            return Err(format!("the token endpoint answered {}", answer.status));
        }
        // The parser's own words may quote the token.
        let Ok(answer) = serde_json::from_slice::<TokenAnswer>(&answer.body) else {
            return Err("the token endpoint's answer has no `access_token`".to_owned());
        };
        let header = sensitive(&format!("Bearer {}", answer.access_token))
            .ok_or("the token cannot be sent in a header")?;
        let life = answer.expires_in.as_ref().and_then(seconds).unwrap_or(LIFE_UNSAID);
        // Early by a fifth of its life, at most half a minute, so that no call leaves with a token about to end.
        let early = (life / 5).min(Duration::from_secs(30));
        Ok(Token { header, refresh_at: clock.now().plus(life.saturating_sub(early)) })
    }

    fn token_request(&self, credentials: &ClientCredentials) -> Request {
        let id = credentials.client_id.expose_secret();
        let secret = credentials.client_secret.expose_secret();
        let mut form = vec![("grant_type", "client_credentials")];
        let mut headers = HeaderMap::new();
        match credentials.style {
            CredentialStyle::Body => form.extend([("client_id", id), ("client_secret", secret)]),
            CredentialStyle::Basic => {
                headers.insert(AUTHORIZATION, basic(&encode(id), &encode(secret)));
            }
        }
        if let Some(scope) = &credentials.scope {
            form.push(("scope", scope));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Request {
            operation: "token".into(),
            method: Method::POST,
            url: credentials.token_url.clone(),
            body: Bytes::from(form_body(form)),
            ..self.asking(headers)
        }
    }
}

/// `expires_in` as a number, or as the text some vendors make of it.
fn seconds(value: &serde_json::Value) -> Option<Duration> {
    let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    Some(Duration::from_secs(seconds))
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(super) fn encode(text: &str) -> String {
    const SET: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(text, &SET).to_string()
}

/// A form or query: `a=1&b=2`, percent-encoded.
pub(super) fn form_body<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let parts: Vec<_> = pairs.into_iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
    parts.join("&")
}

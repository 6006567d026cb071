//! A session that a system wants for what changes something: a token and cookies, fetched once for all, sent with each such call, and
//! fetched anew when they are refused or have lasted long enough. SAP's CSRF token is one.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use syncline_actors::time::Timestamp;

use super::auth::sensitive;
use super::wire::{Request, Response, Wire, WireError};
use crate::clock::SharedClock;

/// How long a session lasts where the contract does not say.
pub const LASTS_DEFAULT: Duration = Duration::from_mins(20);

/// Bytes of the answer that are read: what counts stands in its headers.
const ANSWER_MAX: usize = 64 * 1024;

/// How a session is begun, as the contract says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Where: a path after the base URL.
    pub path: String,
    /// What asks for it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The header of the answer that is sent back with every call that changes something.
    pub take: HeaderName,
    /// How long it is used.
    pub lasts: Duration,
}

/// The session of one connector.
pub(super) struct Sessions {
    rule: Session,
    url: String,
    /// Held while one is fetched: whoever else needs it waits for that answer.
    cache: tokio::sync::Mutex<Cache>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Cache {
    number: u64,
    open: Option<Open>,
    /// The last failure, and when it was learnt.
    failure: Option<(Timestamp, WireError)>,
}

struct Open {
    token: HeaderValue,
    cookies: Option<HeaderValue>,
    until: Timestamp,
}

/// Who asks for a session: what a call of the connector has in common with the one that begins it.
pub(super) struct Asking<'a> {
    /// The call without what changes from one to the next.
    pub(super) request: Request,
    pub(super) wire: &'a dyn Wire,
    pub(super) clock: &'a SharedClock,
}

/// Why there is no session.
pub(super) enum NoSession {
    /// The credentials were refused.
    Refused,
    /// Anything else. The call was not made.
    Failed(WireError),
}

impl Sessions {
    pub(super) fn new(base: &str, rule: Session) -> Self {
        let url = format!("{base}{}", rule.path);
        Self { rule, url, cache: tokio::sync::Mutex::default() }
    }

    /// Whether a call needs it: one that only reads does not.
    pub(super) fn is_needed(method: &Method) -> bool {
        !matches!(*method, Method::GET | Method::HEAD)
    }

    /// Puts the session into `headers`, beginning one first if there is none. Its number tells which one it was.
    pub(super) async fn join(&self, headers: &mut HeaderMap, asking: Asking<'_>) -> Result<u64, NoSession> {
        let asked = asking.clock.now();
        let mut cache = self.cache.lock().await;
        let over = |open: &Open| asking.clock.now() >= open.until;
        if cache.open.as_ref().is_none_or(over) {
            // Whoever waited while another's request failed shares that failure.
            if let Some((at, failure)) = &cache.failure
                && *at >= asked
            {
                return Err(NoSession::Failed(failure.clone()));
            }
            let now = asking.clock.clone();
            match self.begin(asking).await {
                Ok(open) => {
                    cache.number += 1;
                    cache.failure = None;
                    cache.open = Some(open);
                }
                Err(NoSession::Failed(failure)) => {
                    cache.failure = Some((now.now(), failure.clone()));
                    return Err(NoSession::Failed(failure));
                }
                Err(refused) => return Err(refused),
            }
        }
        let open = cache.open.as_ref().expect("it was there or was just begun");
        headers.insert(self.rule.take.clone(), open.token.clone());
        if let Some(cookies) = &open.cookies {
            headers.insert(COOKIE, cookies.clone());
        }
        Ok(cache.number)
    }

    /// Forgets the session that the system refused, unless it has been replaced since.
    pub(super) async fn forget(&self, number: u64) {
        let mut cache = self.cache.lock().await;
        if cache.number == number {
            cache.open = None;
        }
    }

    async fn begin(&self, asking: Asking<'_>) -> Result<Open, NoSession> {
        let failed = |text: String| NoSession::Failed(WireError::Unsent(format!("no session: {text}")));
        let mut request = Request {
            operation: "session".into(),
            method: Method::GET,
            url: self.url.clone(),
            body: Bytes::new(),
            response_max: ANSWER_MAX,
            ..asking.request
        };
        request.headers.extend(self.rule.headers.iter().cloned());
        // Everybody waits for this one: it must end even if the wire does not keep to its time.
        let most = request.timeout + Duration::from_millis(500);
        let answer = tokio::time::timeout(most, asking.wire.send(request)).await;
        let answer = answer.map_err(|_over| failed("it was not answered in time".to_owned()))?;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        match answer.status {
            200..=299 => self.read(&answer, asking.clock.now()).map_err(failed),
            401 => Err(NoSession::Refused),
            status => Err(failed(format!("answered {status}"))),
        }
    }

    fn read(&self, answer: &Response, now: Timestamp) -> Result<Open, String> {
        let take = &self.rule.take;
        let token = answer.headers.get(take).ok_or_else(|| format!("the answer has no header {take}"))?;
        let mut token = token.clone();
        token.set_sensitive(true);
        let cookies = answer.headers.get_all(SET_COOKIE).iter();
        let cookies = cookies.filter_map(|set| set.to_str().ok()?.split(';').next().map(str::trim));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let cookies = if cookies.is_empty() { None } else { sensitive(&cookies) };
        Ok(Open { token, cookies, until: now.plus(self.rule.lasts) })
    }
}

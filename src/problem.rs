//! Problem details (RFC 9457): how every refusal looks, with stable type URIs that name a section of the documentation.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// Where the types are documented; each is an anchor there.
pub const TYPES: &str = "https://syncline.dev/problems#";

/// A refusal.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    retry_after: Option<u64>,
    challenge: Option<&'static str>,
    /// Whether the connection ends with it.
    closes: bool,
    more: Map<String, Value>,
}

impl Problem {
    /// `kind` is the anchor in the documentation and never changes; `title` says it in words; `detail` is about this request.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            retry_after: None,
            challenge: None,
            closes: false,
            more: Map::new(),
        }
    }

    /// The request cannot be read: it will not get better by being sent again.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request cannot be read", detail)
    }

    /// Unknown source, missing and wrong signature answer alike, so that nobody learns which sources there are.
    pub fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "The sender is not known",
            "the request is not authentic",
        )
    }

    /// The request can be read, but it cannot be done like this.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        let title = "The request cannot be done as it is";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", title, detail)
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// More than fits; come back after `seconds`.
    pub fn busy(status: StatusCode, seconds: u64, detail: impl Into<String>) -> Self {
        Self::new(status, "busy", "Too much at once", detail).retry_after(seconds)
    }

    /// Another node answers; come back after `seconds`, on another connection.
    pub fn elsewhere(seconds: u64, detail: impl Into<String>) -> Self {
        let title = "Another node answers";
        let problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "elsewhere", title, detail).retry_after(seconds);
        Self { closes: true, ..problem }
    }

    /// Adds `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds `WWW-Authenticate`: how to say who one is.
    #[must_use]
    pub fn challenge(mut self, scheme: &'static str) -> Self {
        self.challenge = Some(scheme);
        self
    }

    /// Adds a member of its own.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    /// The status it answers with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence about this request.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("{TYPES}{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(members) = body.as_object_mut() {
            members.extend(self.more);
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(scheme) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_answer_says_when_to_come_back() {
        let response =
            Problem::busy(StatusCode::TOO_MANY_REQUESTS, 2, "64 messages in flight").into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}

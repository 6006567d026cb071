//! What a request asks: who, about which entity, which part of a list, and the body. Every mistake is named.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use syncline_actors::id::EntityId;

use super::Desk;
use crate::api::Who;
use crate::config::Role;
use crate::problem::Problem;

const LIMIT_MAX: usize = 1000;
const LIMIT_USUAL: usize = 100;

/// Someone who may read.
pub(super) struct Viewer;

impl FromRequestParts<Desk> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Problem> {
        desk.guard.check(&parts.headers, Role::Viewer).map(|_| Self)
    }
}

/// Someone who may change things, by name.
pub(super) struct Operator(pub(super) Who);

impl FromRequestParts<Desk> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Problem> {
        desk.guard.check(&parts.headers, Role::Operator).map(Self)
    }
}

/// Someone who may do everything, by name.
pub(super) struct Admin(pub(super) Who);

impl FromRequestParts<Desk> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Problem> {
        desk.guard.check(&parts.headers, Role::Admin).map(Self)
    }
}

/// The entity that a path `…/{kind}/{key}` names. Keys may hold any characters, percent-encoded.
pub(super) struct Named(pub(super) EntityId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((kind, key)) = path.map_err(|rejection| unreadable_path(&rejection))?;
        EntityId::new(&kind, &key).map(Self).map_err(|error| Problem::malformed(error.to_string()))
    }
}

/// The one name in a path.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|rejection| unreadable_path(&rejection))
    }
}

fn unreadable_path(rejection: &PathRejection) -> Problem {
    Problem::malformed(format!("the path cannot be read: {}", rejection.body_text()))
}

/// The parameters after the `?`. Take what there may be, then call [`Asked::nothing_else`].
pub(super) struct Asked(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(pairs) = query.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
        let mut asked = BTreeMap::new();
        for (name, value) in pairs {
            if asked.insert(name.clone(), value).is_some() {
                return Err(Problem::malformed(format!(
                    "the parameter `{name}` is there twice; send it once"
                )));
            }
        }
        Ok(Self(asked))
    }
}

impl Asked {
    /// The value of a parameter; an empty one counts as left out, as forms send it.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    pub(super) fn limit(&mut self) -> Result<usize, Problem> {
        let Some(text) = self.text("limit") else { return Ok(LIMIT_USUAL) };
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        limit.ok_or_else(|| wrong("limit", &text, &format!("a number from 1 to {LIMIT_MAX}")))
    }

    /// The number of a record, from 1.
    pub(super) fn from(&mut self) -> Result<u64, Problem> {
        let Some(text) = self.text("from") else { return Ok(1) };
        let from = text.parse().ok().filter(|from| *from > 0);
        from.ok_or_else(|| wrong("from", &text, "the number of a record, 1 or more"))
    }

    /// # Errors
    /// When there are parameters that nobody took.
    pub(super) fn nothing_else(self, known: &str) -> Result<(), Problem> {
        match self.0.keys().next() {
            Some(name) => {
                let name = name.escape_debug();
                Err(Problem::malformed(format!("there is no parameter `{name}` here; there are: {known}")))
            }
            None => Ok(()),
        }
    }
}

fn wrong(name: &str, text: &str, wanted: &str) -> Problem {
    Problem::malformed(format!("the parameter `{name}` is `{}`; write {wanted}", text.escape_debug()))
}

/// A JSON body. Unknown members are refused.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| unreadable_body(&rejection))?;
        if bytes.is_empty() {
            return Err(Problem::malformed("the body is empty; send a JSON object"));
        }
        let read = serde_json::from_slice(&bytes);
        read.map(Self).map_err(|error| Problem::malformed(format!("the body cannot be read: {error}")))
    }
}

fn unreadable_body(rejection: &BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let title = "The request is too large";
            let detail = format!("the body is longer than {} bytes", super::BODY_MAX);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", title, detail)
        }
        _ => Problem::malformed(format!("the body cannot be read: {}", rejection.body_text())),
    }
}

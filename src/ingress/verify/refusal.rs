//! Why a request is not authentic.

use std::time::Duration;

/// Why a request was refused. For logs and `syncline webhook verify`: over HTTP every one of them gets the same answer.
/// Holds neither a secret nor a computed signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A header that is needed is not there.
    #[error("the header {0} is missing")]
    MissingHeader(String),
    /// A header that decides is there more than once, so it is not clear which one the sender meant.
    #[error("the header {0} is repeated")]
    RepeatedHeader(String),
    /// A header has another value than this source's senders give it.
    #[error(
        "the header {name} is not {expected:?}: the sender signs in another way than this source describes"
    )]
    UnexpectedHeader {
        /// Its name.
        name: String,
        /// The value it should have.
        expected: String,
    },
    /// The token is not in the query.
    #[error("the query has no {0}")]
    MissingQuery(String),
    /// The token is in the query more than once.
    #[error("the query has {0} more than once")]
    RepeatedQuery(String),
    /// No signature could be read from where it should be.
    #[error("no signature can be read: {0}")]
    MalformedSignature(String),
    /// More signatures than anyone sends; none was tried.
    #[error("more than {0} signatures")]
    TooManySignatures(usize),
    /// The timestamp is missing from the signature, there twice, or not written as it should be.
    #[error("the timestamp cannot be read: {0}")]
    MalformedTimestamp(String),
    /// Signed too long ago: a replay, or a clock that is wrong.
    #[error("signed {} ago, {} is allowed", humantime::format_duration(*.by), humantime::format_duration(*.tolerance))]
    TooOld {
        /// Its age.
        by: Duration,
        /// The age that is allowed.
        tolerance: Duration,
    },
    /// Signed in the future: a clock is wrong.
    #[error("signed {} from now, {} is allowed", humantime::format_duration(*.by), humantime::format_duration(*.tolerance))]
    InTheFuture {
        /// How far ahead.
        by: Duration,
        /// How far ahead is allowed.
        tolerance: Duration,
    },
    /// No secret of the source is valid now.
    #[error("no secret of this source is valid now")]
    NoSecretValid,
    /// The sender names a key that no valid secret has as its id.
    #[error("no valid secret has the id {0:?} that the signature names")]
    UnknownKey(String),
    /// No signature fits any valid secret.
    #[error("no signature fits any valid secret")]
    NoMatch,
}

impl Refusal {
    /// The step that failed: `headers`, `timestamp`, `freshness`, `signature`, `secrets` or `match`.
    pub fn step(&self) -> &'static str {
        match self {
            Self::MissingHeader(_)
            | Self::RepeatedHeader(_)
            | Self::UnexpectedHeader { .. }
            | Self::MissingQuery(_)
            | Self::RepeatedQuery(_) => "headers",
            Self::MalformedSignature(_) | Self::TooManySignatures(_) => "signature",
            Self::MalformedTimestamp(_) => "timestamp",
            Self::TooOld { .. } | Self::InTheFuture { .. } => "freshness",
            Self::NoSecretValid | Self::UnknownKey(_) => "secrets",
            Self::NoMatch => "match",
        }
    }

    /// A short, stable name, for a metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingHeader(_) => "missing_header",
            Self::RepeatedHeader(_) => "repeated_header",
            Self::UnexpectedHeader { .. } => "unexpected_header",
            Self::MissingQuery(_) => "missing_query",
            Self::RepeatedQuery(_) => "repeated_query",
            Self::MalformedSignature(_) => "malformed_signature",
            Self::TooManySignatures(_) => "too_many_signatures",
            Self::MalformedTimestamp(_) => "malformed_timestamp",
            Self::TooOld { .. } => "too_old",
            Self::InTheFuture { .. } => "in_the_future",
            Self::NoSecretValid => "no_secret_valid",
            Self::UnknownKey(_) => "unknown_key",
            Self::NoMatch => "no_match",
        }
    }
}

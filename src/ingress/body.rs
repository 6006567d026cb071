//! A request's body, read into memory that was asked for before.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use syncline_actors::class::Criticality;
use tokio::sync::OwnedSemaphorePermit;

use super::Ingress;
use crate::problem::Problem;

/// Bytes that one permit stands for.
const UNIT: usize = 1024;

/// What a body holds beside its bytes while it is worked on: its parsed form and the envelope.
const OVERHEAD: usize = 1024;

/// Permits for so many bytes.
pub(super) fn permits(bytes: usize) -> usize {
    bytes.div_ceil(UNIT).min(tokio::sync::Semaphore::MAX_PERMITS)
}

/// A body, and the room it takes until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Ingress {
    /// Reads a body of at most `body_max` bytes. What matters less finds no room sooner.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        criticality: Criticality,
    ) -> Result<Held, Problem> {
        let max = self.limits.body_max;
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: usize| length > max) {
            return Err(too_large(max));
        }
        let wanted = permits(announced.unwrap_or(max) + OVERHEAD);
        let all = permits(self.limits.bytes_in_flight_max);
        let taken = all.saturating_sub(self.room.available_permits());
        let fits = taken == 0 || taken + wanted <= criticality.share_of(all);
        let room = u32::try_from(wanted)
            .ok()
            .filter(|_| fits)
            .and_then(|wanted| self.room.clone().try_acquire_many_owned(wanted).ok());
        let Some(room) = room else {
            let detail = "the node holds as many messages as it may";
            return Err(Problem::busy(StatusCode::SERVICE_UNAVAILABLE, 1, detail));
        };
        match Limited::new(body, max).collect().await {
            Ok(collected) => Ok(Held { bytes: collected.to_bytes(), _room: room }),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large(max)),
            Err(error) => Err(Problem::malformed(format!("the body could not be read to its end: {error}"))),
        }
    }
}

fn too_large(max: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "The body is too large",
        format!("the body is longer than {max} bytes (`http.body_max`)"),
    )
}

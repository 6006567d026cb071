//! What travels on a connection after the hello: frames, each checked as it comes in.
//!
//! ```text
//! kind u8 | request id u64 | milliseconds u32 | length u32 | payload | crc32c u32          (big endian)
//! ```
//! The checksum covers all before it. Milliseconds are what is left until the deadline in a request, and the time after which to
//! try again in a [`Kind::Busy`]; otherwise 0. Only requests and answers have a payload.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

const HEADER: usize = 17;
const CHECKSUM: usize = 4;

/// Bytes of a frame that are not payload.
pub(super) const OVERHEAD: usize = HEADER + CHECKSUM;

/// Payloads from this size on keep the memory they were read into; smaller ones are copied, so as not to hold what came with them.
const SHARED_FROM: usize = 64 * 1024;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Do this and answer.
    Request = 1,
    /// The handler's answer.
    Answer = 2,
    /// Nothing was done: as much is in hand as may be.
    Busy = 3,
    /// Nothing was done: the node is about to stop.
    Draining = 4,
    /// Nothing was done: the deadline had passed.
    Late = 5,
    /// The handler came to no answer, or to one that is too large. What it did, it did.
    Failed = 6,
    /// Are you there?
    Ping = 7,
    /// I am.
    Pong = 8,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        let all = [
            Self::Request,
            Self::Answer,
            Self::Busy,
            Self::Draining,
            Self::Late,
            Self::Failed,
            Self::Ping,
            Self::Pong,
        ];
        all.into_iter().find(|kind| *kind as u8 == number)
    }

    fn has_payload(self) -> bool {
        matches!(self, Self::Request | Self::Answer)
    }
}

/// One message on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Chosen by who asks, unique on its connection; 0 in pings.
    pub(super) id: u64,
    pub(super) millis: u32,
    pub(super) payload: Bytes,
}

/// The bytes are no frame: the connection has lost its meaning and must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    #[error("a frame of {bytes} bytes, at most {max} are allowed")]
    Length { bytes: u32, max: u32 },
    #[error("a frame whose checksum is wrong")]
    Checksum,
}

impl Frame {
    /// A frame that only says its kind.
    pub(super) fn bare(kind: Kind, id: u64) -> Self {
        Self { kind, id, millis: 0, payload: Bytes::new() }
    }

    /// Appends its bytes.
    pub(super) fn encode(&self, buffer: &mut BytesMut) {
        let start = buffer.len();
        buffer.reserve(OVERHEAD + self.payload.len());
        buffer.put_u8(self.kind as u8);
        buffer.put_u64(self.id);
        buffer.put_u32(self.millis);
        buffer.put_u32(u32::try_from(self.payload.len()).expect("the sender has held it to a u32 limit"));
        buffer.put_slice(&self.payload);
        let sum = crc32c::crc32c(&buffer[start..]);
        buffer.put_u32(sum);
    }

    /// Takes the first frame out of `buffer`, `None` until all of it is there. A length over `max` is refused as soon as it is
    /// read, so nothing is ever gathered for it.
    pub(super) fn decode(buffer: &mut BytesMut, max: u32) -> Result<Option<Self>, Malformed> {
        let Some(mut header) = buffer.get(..HEADER) else { return Ok(None) };
        let number = header.get_u8();
        let kind = Kind::of(number).ok_or(Malformed::Kind(number))?;
        let (id, millis, bytes) = (header.get_u64(), header.get_u32(), header.get_u32());
        let max = if kind.has_payload() { max } else { 0 };
        if bytes > max {
            return Err(Malformed::Length { bytes, max });
        }
        let end = HEADER + bytes as usize;
        let Some(mut sum) = buffer.get(end..end + CHECKSUM) else { return Ok(None) };
        if sum.get_u32() != crc32c::crc32c(&buffer[..end]) {
            return Err(Malformed::Checksum);
        }
        buffer.advance(HEADER);
        let payload = buffer.split_to(bytes as usize);
        let shared = payload.len() >= SHARED_FROM;
        let payload = if shared { payload.freeze() } else { Bytes::copy_from_slice(&payload) };
        buffer.advance(CHECKSUM);
        Ok(Some(Self { kind, id, millis, payload }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u32 = 1 << 20;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let payload = prop_oneof![
            9 => prop::collection::vec(any::<u8>(), 0..200),
            1 => (SHARED_FROM - 2..SHARED_FROM + 2).prop_map(|n| vec![7; n]),
        ];
        (1..=8_u8, any::<u64>(), any::<u32>(), payload).prop_map(|(number, id, millis, payload)| {
            let kind = Kind::of(number).expect("1 to 8 are kinds");
            let payload = if kind.has_payload() { payload.into() } else { Bytes::new() };
            Frame { kind, id, millis, payload }
        })
    }

    fn encoded(frames: &[Frame]) -> BytesMut {
        let mut buffer = BytesMut::new();
        for frame in frames {
            frame.encode(&mut buffer);
        }
        buffer
    }

    proptest! {
        #[test]
        fn frames_read_as_they_were_written_however_they_are_cut(
            frames in prop::collection::vec(any_frame(), 1..6), piece in 1_usize..5_000,
        ) {
            let bytes = encoded(&frames);
            let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(piece) {
                buffer.put_slice(piece);
                while let Some(frame) = Frame::decode(&mut buffer, MAX).expect("they are frames") {
                    read.push(frame);
                }
            }
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn hostile_bytes_end_in_an_error_or_wait_for_more(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let room = buffer.capacity();
            while let Ok(Some(_)) = Frame::decode(&mut buffer, MAX) {}
            prop_assert!(buffer.capacity() <= room, "nothing is allocated for what has not come");
        }

        #[test]
        fn a_changed_bit_never_gives_another_frame(frame in any_frame(), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let mut bytes = encoded(std::slice::from_ref(&frame));
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(!matches!(Frame::decode(&mut bytes, MAX), Ok(Some(_))));
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_at_the_header() {
        let frame = Frame { payload: vec![1; 100].into(), ..Frame::bare(Kind::Request, 1) };
        let mut header = encoded(&[frame]).split_to(HEADER);
        assert_eq!(Frame::decode(&mut header.clone(), 100), Ok(None));
        assert_eq!(Frame::decode(&mut header, 99), Err(Malformed::Length { bytes: 100, max: 99 }));
    }

    #[test]
    fn a_ping_with_a_payload_and_an_unknown_kind_are_refused() {
        let ping = Frame { payload: vec![1].into(), ..Frame::bare(Kind::Ping, 0) };
        assert_eq!(Frame::decode(&mut encoded(&[ping]), MAX), Err(Malformed::Length { bytes: 1, max: 0 }));
        let mut odd = encoded(&[Frame::bare(Kind::Ping, 0)]);
        odd[0] = 9;
        assert_eq!(Frame::decode(&mut odd, MAX), Err(Malformed::Kind(9)));
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let frame = Frame { kind: Kind::Request, id: 258, millis: 2_000, payload: Bytes::from_static(b"hi") };
        assert_eq!(hex::encode(encoded(&[frame])), "010000000000000102000007d0000000026869b49e64c8");
    }
}

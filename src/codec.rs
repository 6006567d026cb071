//! Bytes that are stored or sent: one frame around one value, and the only place that knows bincode.
//!
//! ```text
//! magic "SYNL" | frame version u8 | schema u8 | schema version u16 | length u32 | payload | crc32c u32     (big endian)
//! ```
//! The checksum covers all before it. The payload is bincode 2 in its standard configuration (variable-length integers); the
//! same bytes are read and written by `wincode`, should bincode ever have to go.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use syncline_actors::record::{Hash, Record};

mod depth;

/// Largest payload, in bytes. More is refused when written and when read.
pub const PAYLOAD_MAX: usize = 16 << 20;

/// Bytes of a frame that are not payload.
pub const OVERHEAD: usize = HEADER + CHECKSUM;

/// Deepest nesting of lists, maps and variants within one value: about twice what JSON may nest, as a value's level takes two.
pub const DEPTH_MAX: usize = 320;

const MAGIC: [u8; 4] = *b"SYNL";
const FRAME_VERSION: u8 = 1;
const HEADER: usize = 12;
const CHECKSUM: usize = 4;

/// What a decoder may claim. bincode counts an integer by its width in memory, up to eight times its bytes here: with less, a
/// frame that was written could not be read.
const CLAIM_MAX: usize = 8 * PAYLOAD_MAX;

/// What a frame holds. Numbers are stored: they are never given to anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Schema {
    /// A record of an entity's journal.
    Record = 1,
    /// An entity's state.
    Snapshot = 2,
    /// An effect that waits.
    OutboxRow = 3,
    /// What the attempts of an effect have shown.
    Progress = 4,
    /// A timer that runs.
    TimerRow = 5,
    /// An open exception.
    ExceptionRow = 6,
    /// What a sender was told.
    Answer = 7,
}

impl Schema {
    /// The version that is written. Older ones are lifted by [`upcast`] when read.
    pub const fn version(self) -> u16 {
        1
    }

    fn of(number: u8) -> Option<Self> {
        let all = [
            Self::Record,
            Self::Snapshot,
            Self::OutboxRow,
            Self::Progress,
            Self::TimerRow,
            Self::ExceptionRow,
            Self::Answer,
        ];
        all.into_iter().find(|schema| *schema as u8 == number)
    }
}

/// Why bytes are no frame, or a value cannot become one. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There are fewer bytes than a frame has.
    #[error("a frame of {expected} bytes was cut to {found}: the store or the sender lost its end")]
    Short {
        /// Bytes that should be there.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// There are more bytes than the frame has.
    #[error("{0} bytes follow the frame: it is not what was written")]
    Trailing(usize),
    /// The bytes are something else.
    #[error("not a frame: it begins with {0:02x?} instead of \"SYNL\"")]
    Magic([u8; 4]),
    /// A newer program wrote it.
    #[error(
        "frame version {0} is unknown here (known: 1): read it with the program that wrote it, or a newer one"
    )]
    Version(u8),
    /// The frame is whole but holds something else.
    #[error("the frame holds schema {found}, not {expected:?}")]
    Schema {
        /// What the caller reads.
        expected: Schema,
        /// The number found.
        found: u8,
    },
    /// A newer program wrote it, or one so old that nobody lifts its values any more.
    #[error("{schema:?} of version {found} cannot be read here (written now: {}): use a newer program", schema.version())]
    SchemaVersion {
        /// What the frame holds.
        schema: Schema,
        /// In which version.
        found: u16,
    },
    /// The bytes are not those that were written.
    #[error("checksum {found:08x} instead of {expected:08x}: the bytes were changed after they were written")]
    Checksum {
        /// The checksum in the frame.
        expected: u32,
        /// The checksum of its bytes.
        found: u32,
    },
    /// The value is larger than a frame may hold.
    #[error("a payload of {0} bytes is over the limit of 16 MiB: split it, or keep large parts outside")]
    TooLarge(usize),
    /// The payload does not read as the value; the text says where it stopped.
    #[error("the payload is not a {schema:?}: {reason}")]
    Payload {
        /// What was read.
        schema: Schema,
        /// Why it stopped.
        reason: String,
    },
    /// The value cannot be written; the text says why.
    #[error("a {schema:?} cannot be written: {reason}")]
    Encode {
        /// What was written.
        schema: Schema,
        /// Why it stopped.
        reason: String,
    },
}

/// The frame of `record`, and the hash that the next record names as its `prev`.
pub fn encode_record(record: &Record) -> Result<(Bytes, Hash), Error> {
    let frame = encode(Schema::Record, record)?;
    let hash = Hash::of(&frame[HEADER..frame.len() - CHECKSUM]);
    Ok((frame, hash))
}

/// The record in `frame`. Hostile bytes give an error, never a panic.
pub fn decode_record(frame: &[u8]) -> Result<Record, Error> {
    decode(Schema::Record, frame)
}

/// Hash of the payload in `frame`, checked but not decoded.
pub fn record_hash(frame: &[u8]) -> Result<Hash, Error> {
    open(Schema::Record, frame).map(|(_, payload)| Hash::of(payload))
}

/// The frame of an entity's state.
pub fn encode_state<T: Serialize>(state: &T) -> Result<Bytes, Error> {
    encode(Schema::Snapshot, state)
}

/// The state in `frame`.
pub fn decode_state<T: DeserializeOwned>(frame: &[u8]) -> Result<T, Error> {
    decode(Schema::Snapshot, frame)
}

/// A frame of `schema` around `value`. One allocation that grows.
pub fn encode<T: Serialize>(schema: Schema, value: &T) -> Result<Bytes, Error> {
    let mut frame = Vec::with_capacity(512);
    encode_into(&mut frame, schema, value)?;
    Ok(frame.into())
}

/// Appends a frame of `schema` around `value` to `bytes`; leaves `bytes` as it was when that fails.
pub fn encode_into<T: Serialize>(bytes: &mut Vec<u8>, schema: Schema, value: &T) -> Result<(), Error> {
    let start = bytes.len();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[FRAME_VERSION, schema as u8]);
    bytes.extend_from_slice(&schema.version().to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let written = bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard());
    let length = bytes.len() - start - HEADER;
    let outcome = match written {
        Err(error) => Err(Error::Encode { schema, reason: error.to_string() }),
        Ok(_) if length > PAYLOAD_MAX => Err(Error::TooLarge(length)),
        Ok(_) => Ok(()),
    };
    if let Err(error) = outcome {
        bytes.truncate(start);
        return Err(error);
    }
    let stored = u32::try_from(length).expect("at most 16 MiB fit");
    bytes[start + 8..start + HEADER].copy_from_slice(&stored.to_be_bytes());
    let checksum = crc32c::crc32c(&bytes[start..]);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    Ok(())
}

/// The value of `schema` in `frame`, which must be the whole of the bytes.
pub fn decode<T: DeserializeOwned>(schema: Schema, frame: &[u8]) -> Result<T, Error> {
    let (version, payload) = open(schema, frame)?;
    if version == schema.version() {
        return read(schema, payload);
    }
    let lifted = upcast(schema, version, payload).ok_or(Error::SchemaVersion { schema, found: version })?;
    read(schema, &lifted)
}

/// Turns the payload of an older version into one of the version written now; `None` when there is no such version.
///
/// When a type changes: raise its [`Schema::version`], keep the old type's definition here, decode it, convert, encode the new
/// one, and check golden bytes of the old version in.
fn upcast(schema: Schema, version: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let _ = (schema, version, payload);
    None
}

/// Checks a frame from its first byte to its last: (schema version, payload).
fn open(schema: Schema, frame: &[u8]) -> Result<(u16, &[u8]), Error> {
    let short = |expected| Error::Short { expected, found: frame.len() };
    let (header, rest) = frame.split_first_chunk::<HEADER>().ok_or_else(|| short(OVERHEAD))?;
    let [m0, m1, m2, m3, frame_version, number, v0, v1, length @ ..] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(Error::Magic([m0, m1, m2, m3]));
    }
    if frame_version != FRAME_VERSION {
        return Err(Error::Version(frame_version));
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > PAYLOAD_MAX {
        return Err(Error::TooLarge(length));
    }
    let (payload, rest) = rest.split_at_checked(length).ok_or_else(|| short(OVERHEAD + length))?;
    let (stored, trailing) = rest.split_first_chunk::<CHECKSUM>().ok_or_else(|| short(OVERHEAD + length))?;
    if !trailing.is_empty() {
        return Err(Error::Trailing(trailing.len()));
    }
    let (expected, found) = (u32::from_be_bytes(*stored), crc32c::crc32c(&frame[..HEADER + length]));
    if expected != found {
        return Err(Error::Checksum { expected, found });
    }
    match Schema::of(number) {
        Some(held) if held == schema => Ok((u16::from_be_bytes([v0, v1]), payload)),
        _ => Err(Error::Schema { expected: schema, found: number }),
    }
}

fn read<T: DeserializeOwned>(schema: Schema, payload: &[u8]) -> Result<T, Error> {
    let config = bincode::config::standard().with_limit::<CLAIM_MAX>();
    let (depth::Limited(value), read) =
        bincode::serde::decode_from_slice::<depth::Limited<T, DEPTH_MAX>, _>(payload, config)
            .map_err(|error| Error::Payload { schema, reason: error.to_string() })?;
    if read != payload.len() {
        let reason = format!("{} bytes are left over", payload.len() - read);
        return Err(Error::Payload { schema, reason });
    }
    Ok(value)
}

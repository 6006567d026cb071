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
    /// What a node asks of another; never stored.
    Ask = 8,
    /// What it is told; never stored.
    Told = 9,
}

impl Schema {
    /// The version that is written. Older ones are lifted when read.
    pub const fn version(self) -> u16 {
        match self {
            Self::Snapshot => 2,
            _ => 1,
        }
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
            Self::Ask,
            Self::Told,
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
    let written = bincode::serde::encode_into_writer(value, Growing(bytes), bincode::config::standard());
    let length = bytes.len() - start - HEADER;
    let outcome = match written {
        Err(error) => Err(Error::Encode { schema, reason: error.to_string() }),
        Ok(()) if length > PAYLOAD_MAX => Err(Error::TooLarge(length)),
        Ok(()) => Ok(()),
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

/// Bytes that are written at their end. Most of what makes up a value is one byte: the length of a text, the variant of an enum.
struct Growing<'b>(&'b mut Vec<u8>);

impl bincode::enc::write::Writer for Growing<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        match bytes {
            [byte] => self.0.push(*byte),
            more => self.0.extend_from_slice(more),
        }
        Ok(())
    }
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
    match (schema, version) {
        // An entity's state got an option at its end, which is absent.
        (Schema::Snapshot, 1) => Some([payload, &[0]].concat()),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde::Deserialize;
    use syncline_actors::decision::{Answer, Change, Effect, Exception, ExceptionClass, Rejection, Verdict};
    use syncline_actors::entity::State;
    use syncline_actors::envelope::{Body, Command, Envelope, Evidence, Raw};
    use syncline_actors::id::{EffectId, EntityId, Epoch};
    use syncline_actors::outbox::{ExceptionRow, OutboxRow, Progress, TimerRow};
    use syncline_actors::time::Timestamp;
    use syncline_actors::value::Value;

    use super::*;

    fn entity() -> EntityId {
        EntityId::new("order", "SO-1001").unwrap()
    }

    fn effect() -> Effect {
        Effect {
            id: EffectId { seq: 7, n: 1 },
            name: "create_order".into(),
            connector: "erp".into(),
            operation: "orders.create".into(),
            input: Value::Int(-3),
            undoes: Some(EffectId { seq: 6, n: 0 }),
            due: Timestamp(1_795_000_000_000),
        }
    }

    fn record() -> Record {
        Record {
            seq: 7,
            epoch: Epoch(3),
            prev: Hash::of(b"the record before"),
            envelope: Envelope {
                id: "evt-1".into(),
                source: "crm".into(),
                subject: entity(),
                correlation_id: "9f2c".into(),
                causation_id: Some("evt-0".into()),
                traceparent: None,
                time: Some(Timestamp(1_795_000_000_000)),
                at: Timestamp(1_795_000_000_250),
                remember_ms: Some(259_200_000),
                body: Body::Command(Command { name: "order.cancel".into(), data: Value::Bool(true) }),
                evidence: Some(Evidence {
                    content_type: Some("application/json".into()),
                    key_id: None,
                    body: Raw(Arc::from(&b"{\"id\":1}"[..])),
                }),
            },
            changes: vec![
                Change::Began { version: 2 },
                Change::Emitted(effect()),
                Change::TimerSet { name: "remind".into(), due: Timestamp(-1) },
                Change::Refused(Rejection::Limit { what: "timers".into(), limit: 64 }),
            ],
            answer: Answer { seq: 7, status: "cancelling".into(), verdict: Verdict::Applied },
        }
    }

    fn progress() -> Progress {
        Progress {
            due: Timestamp(5),
            attempts: 300,
            uncertain: true,
            called_off: false,
            last: "503 after 2 s".into(),
        }
    }

    /// Stored bytes of an older build read as they did, and the same value still gives the same bytes.
    /// `GOLDEN=write` writes the files; it is only for a new schema version, under a new name.
    fn golden<T>(name: &str, schema: Schema, value: &T)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.bin"));
        let frame = encode(schema, value).unwrap();
        if std::env::var("GOLDEN").is_ok_and(|wish| wish == "write") {
            std::fs::write(&path, &frame).unwrap();
        }
        let stored = std::fs::read(&path).unwrap();
        assert_eq!(decode::<T>(schema, &stored).as_ref(), Ok(value), "{name}");
        assert_eq!(stored, frame, "{name}");
    }

    #[test]
    fn what_older_builds_wrote_is_read() {
        let record = record();
        golden("record-1", Schema::Record, &record);
        golden("answer-1", Schema::Answer, &record.answer);
        golden("progress-1", Schema::Progress, &progress());
        let (entity, correlation_id): (_, Arc<str>) = (entity(), "9f2c".into());
        let row = OutboxRow {
            entity: entity.clone(),
            effect: effect(),
            correlation_id: correlation_id.clone(),
            traceparent: None,
            since: Timestamp(1),
            progress: progress(),
            latency: syncline_actors::class::Latency::Realtime,
        };
        golden("outbox_row-1", Schema::OutboxRow, &row);
        let (name, due) = ("remind".into(), Timestamp(9));
        let timer =
            TimerRow { entity: entity.clone(), name, due, token: 7, correlation_id: correlation_id.clone() };
        golden("timer_row-1", Schema::TimerRow, &timer);
        let exception = Exception {
            number: 112,
            class: ExceptionClass::Hold,
            effect: None,
            summary: "the tax class is missing".into(),
            detail: Value::Null,
            owner: "finance".into(),
        };
        let row = ExceptionRow { entity, exception, correlation_id, opened_at: Timestamp(3) };
        golden("exception_row-1", Schema::ExceptionRow, &row);
    }

    #[test]
    fn a_snapshot_of_an_older_build_is_read_without_what_it_did_not_know() {
        let mut state = State { status: "open".into(), ..State::default() };
        state.fold(&Record { seq: 1, ..record() });
        // Version 1 ended where the option of version 2 begins, which is absent here.
        let frame = encode_state(&state).unwrap();
        let old = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/snapshot-1.bin");
        let stored = std::fs::read(old).unwrap();
        assert_eq!(decode_state::<State>(&stored).as_ref(), Ok(&state));
        let payload = |frame: &[u8]| frame[HEADER..frame.len() - CHECKSUM].to_vec();
        assert_eq!(payload(&frame), [payload(&stored), vec![0]].concat());
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_its_hash_is_that_of_its_payload() {
        let (frame, hash) = encode_record(&record()).unwrap();
        assert_eq!(decode_record(&frame), Ok(record()));
        assert_eq!(record_hash(&frame), Ok(hash));
        assert_eq!(hash, Hash::of(&frame[12..frame.len() - 4]));
        let mut other = record();
        other.seq += 1;
        assert_ne!(encode_record(&other).unwrap().1, hash);
    }

    /// `bytes` with the right checksum.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len() - CHECKSUM;
        let checksum = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    #[test]
    fn each_kind_of_damage_has_its_own_error() {
        let frame = encode(Schema::Progress, &progress()).unwrap().to_vec();
        let read = |bytes: &[u8]| decode::<Progress>(Schema::Progress, bytes).unwrap_err();
        let with = |place: usize, byte: u8| {
            let mut bytes = frame.clone();
            bytes[place] = byte;
            bytes
        };
        assert_eq!(read(&[]), Error::Short { expected: OVERHEAD, found: 0 });
        let cut = &frame[..frame.len() - 1];
        assert_eq!(read(cut), Error::Short { expected: frame.len(), found: frame.len() - 1 });
        assert_eq!(read(&[&frame[..], b"x"].concat()), Error::Trailing(1));
        assert_eq!(read(&with(0, b'X')), Error::Magic(*b"XYNL"));
        assert_eq!(read(&with(4, 9)), Error::Version(9));
        assert!(matches!(read(&with(20, 0xff)), Error::Checksum { .. }));
        assert!(matches!(read(&with(5, 7)), Error::Checksum { .. }));
        assert_eq!(read(&sealed(with(5, 7))), Error::Schema { expected: Schema::Progress, found: 7 });
        assert_eq!(read(&sealed(with(5, 99))), Error::Schema { expected: Schema::Progress, found: 99 });
        let newer = Error::SchemaVersion { schema: Schema::Progress, found: 2 };
        assert_eq!(read(&sealed(with(7, 2))), newer);
        assert_eq!(read(&with(8, 0xff)), Error::TooLarge(0xff00_0000 + frame.len() - OVERHEAD));
        let mut padded = frame.clone();
        padded.insert(12, 0);
        padded[11] += 1;
        assert!(matches!(read(&sealed(padded)), Error::Payload { .. }));
    }

    #[test]
    fn a_payload_over_the_limit_is_refused_and_one_at_the_limit_is_read() {
        let list = |n: usize| Value::List(Arc::new(vec![Value::Int(1); n]));
        // Two bytes an element, and six for the list.
        let most = encode(Schema::Snapshot, &list((PAYLOAD_MAX - 6) / 2)).unwrap();
        assert!(decode_state::<Value>(&most).is_ok());
        let mut bytes = b"kept".to_vec();
        let refused = encode_into(&mut bytes, Schema::Snapshot, &list(PAYLOAD_MAX / 2));
        assert_eq!(refused, Err(Error::TooLarge(PAYLOAD_MAX + 6)));
        assert_eq!(bytes, b"kept");
    }

    #[test]
    fn lists_in_lists_are_read_as_deep_as_json_goes_and_no_deeper() {
        let nested = |depth| (0..depth).fold(Value::Null, |inner, _| Value::List(Arc::new(vec![inner])));
        let deep = encode_state(&nested(128)).unwrap();
        assert_eq!(decode_state::<Value>(&deep), Ok(nested(128)));
        let payload = |depth| {
            let frame = encode_state(&nested(depth)).unwrap();
            frame[HEADER..frame.len() - CHECKSUM].to_vec()
        };
        let level = &payload(1)[..2];
        for payload in [payload(200), level.repeat(8_000_000)] {
            let error = read::<Value>(Schema::Snapshot, &payload).unwrap_err();
            assert!(error.to_string().contains("nests too deeply"), "{error}");
        }
    }

    #[test]
    fn a_huge_length_costs_no_memory() {
        // 253 announces eight bytes: a text of 2^60.
        let bytes = [&[253][..], &(1_u64 << 60).to_le_bytes()].concat();
        assert!(read::<String>(Schema::Snapshot, &bytes).is_err());
        assert!(read::<Vec<u64>>(Schema::Snapshot, &bytes).is_err());
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Any(u128, i64, Option<String>, Vec<u8>, (bool, char));

    proptest! {
        #[test]
        fn every_value_reads_as_it_was_written(a: u128, b: i64, c: Option<String>, d: Vec<u8>, e: (bool, char)) {
            let value = Any(a, b, c, d, e);
            prop_assert_eq!(decode_state(&encode_state(&value).unwrap()), Ok(value));
        }

        #[test]
        fn hostile_bytes_are_an_error(bytes: Vec<u8>, place: prop::sample::Index, bit in 0..8_u8) {
            prop_assert!(decode_record(&bytes).is_err());
            let mut frame = encode_record(&record()).unwrap().0.to_vec();
            let place = place.index(frame.len());
            frame[place] ^= 1_u8 << bit;
            prop_assert!(decode_record(&frame).is_err());
            prop_assert!(decode_record(&frame[..place]).is_err());
        }

        #[test]
        fn hostile_payloads_under_a_right_checksum_do_not_panic(
            bytes: Vec<u8>, place: prop::sample::Index, byte: u8, cut: bool,
        ) {
            let _ = read::<Record>(Schema::Record, &bytes);
            let mut frame = encode_record(&record()).unwrap().0.to_vec();
            let place = HEADER + place.index(frame.len() - OVERHEAD);
            frame[place] = byte;
            if cut {
                frame.drain(place..frame.len() - CHECKSUM);
                let length = u32::try_from(frame.len() - OVERHEAD).unwrap();
                frame[8..12].copy_from_slice(&length.to_be_bytes());
            }
            let _ = decode_record(&sealed(frame));
        }
    }
}

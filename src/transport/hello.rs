//! The first words on a connection: who speaks, for which cluster, in which versions of the protocol.
//!
//! ```text
//! magic "SYNT" | kind u8 | length u16 | body | crc32c u32                                  (big endian)
//!
//! hello    versions from u16, to u16 | boot u64 | payload max u32 | cluster | node     (texts: length u8, UTF-8)
//! refused  reason u8 | text
//! ```
//! The caller speaks first; the other answers with its own hello or says why not. This never changes, whatever version the two
//! agree on. What follows in a body was added by a later version and is not read.

use std::fmt;

use bytes::{Buf, BufMut as _, BytesMut};
use syncline_actors::id::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const MAGIC: [u8; 4] = *b"SYNT";
const HEADER: usize = 7;
const CHECKSUM: usize = 4;
const HELLO: u8 = 1;
const REFUSED: u8 = 2;

/// Longest body. Two names of 255 bytes and the numbers are 528.
const BODY_MAX: usize = 1024;

/// Longest name of a cluster or node, in bytes.
pub(super) const NAME_MAX: usize = 255;

/// The versions of the protocol that a node speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl Versions {
    /// What this program speaks. The next version adds itself at `max`; `min` follows one release later, so that the nodes of a
    /// cluster can be replaced one by one.
    pub const OWN: Self = Self { min: 1, max: 1 };

    /// The newest that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// Why two nodes do not speak with each other. Trying again helps only after somebody has changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// They belong to different clusters.
    Cluster = 1,
    /// They have no version of the protocol in common.
    Version = 2,
    /// One is not the node that the other takes it for.
    Name = 3,
    /// A certificate is missing, of another authority, expired or of another name.
    Certificate = 4,
    /// A later start of the same node is known: this one is its ghost.
    Life = 5,
    /// Without TLS bytes would leave the machine.
    Plain = 6,
    /// Another reason, said by a later version.
    Other = 0,
}

impl Refusal {
    fn of(number: u8) -> Self {
        let all = [Self::Cluster, Self::Version, Self::Name, Self::Certificate, Self::Life, Self::Plain];
        all.into_iter().find(|refusal| *refusal as u8 == number).unwrap_or(Self::Other)
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) versions: Versions,
    /// Which start of the node it is.
    pub(super) boot: u64,
    /// The longest payload that it reads.
    pub(super) payload_max: u32,
    pub(super) cluster: String,
    pub(super) node: NodeId,
}

/// Who is at the other end, once both have agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) node: NodeId,
    pub(super) boot: u64,
    /// The longest payload that both carry.
    pub(super) payload_max: u32,
    pub(super) version: u16,
}

/// One of the first words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    Hello(Hello),
    Refused(Refusal, String),
}

/// Why there was no word.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("what came is no hello of this protocol")]
    Malformed,
}

impl Hello {
    /// What `other` and this node agree on, or why they cannot. `own` says so to people at both ends.
    pub(super) fn agree(&self, other: &Self) -> Result<Agreed, (Refusal, String)> {
        if self.cluster != other.cluster {
            let why = format!(
                "{} belongs to cluster `{}`, {} to `{}`; give all nodes the same cluster name and keep others apart",
                self.node, self.cluster, other.node, other.cluster
            );
            return Err((Refusal::Cluster, why));
        }
        let Some(version) = self.versions.common(other.versions) else {
            let why = format!(
                "{} speaks versions {} of the protocol, {} speaks {}; upgrade one release at a time",
                self.node, self.versions, other.node, other.versions
            );
            return Err((Refusal::Version, why));
        };
        let payload_max = self.payload_max.min(other.payload_max);
        Ok(Agreed { node: other.node.clone(), boot: other.boot, payload_max, version })
    }
}

impl Word {
    pub(super) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        stream.write_all(&self.encoded()).await?;
        stream.flush().await
    }

    /// Reads one word. At most [`BODY_MAX`] bytes are ever held for it.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, ReadError> {
        let mut bytes = [0; HEADER + BODY_MAX + CHECKSUM];
        stream.read_exact(&mut bytes[..HEADER]).await?;
        let length = usize::from(u16::from_be_bytes([bytes[5], bytes[6]]));
        if bytes[..4] != MAGIC || length > BODY_MAX {
            return Err(ReadError::Malformed);
        }
        let all = HEADER + length + CHECKSUM;
        stream.read_exact(&mut bytes[HEADER..all]).await?;
        Self::decode(&bytes[..all]).ok_or(ReadError::Malformed)
    }

    fn encoded(&self) -> BytesMut {
        let mut body = BytesMut::new();
        let kind = match self {
            Self::Hello(hello) => {
                body.put_u16(hello.versions.min);
                body.put_u16(hello.versions.max);
                body.put_u64(hello.boot);
                body.put_u32(hello.payload_max);
                for name in [&hello.cluster, &*hello.node.0] {
                    body.put_u8(u8::try_from(name.len()).expect("names are checked at the start"));
                    body.put_slice(name.as_bytes());
                }
                HELLO
            }
            Self::Refused(refusal, why) => {
                body.put_u8(*refusal as u8);
                body.put_slice(&why.as_bytes()[..why.floor_char_boundary(BODY_MAX - 1)]);
                REFUSED
            }
        };
        let mut bytes = BytesMut::from(&MAGIC[..]);
        bytes.put_u8(kind);
        bytes.put_u16(u16::try_from(body.len()).expect("a body is at most 1,024 bytes"));
        bytes.put_slice(&body);
        bytes.put_u32(crc32c::crc32c(&bytes));
        bytes
    }

    /// Reads a whole word; its magic and length fit already.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (covered, mut sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
        if sum.get_u32() != crc32c::crc32c(covered) {
            return None;
        }
        let mut body = covered.get(HEADER..)?;
        match *covered.get(4)? {
            HELLO => Some(Self::Hello(Hello {
                versions: Versions { min: body.try_get_u16().ok()?, max: body.try_get_u16().ok()? },
                boot: body.try_get_u64().ok()?,
                payload_max: body.try_get_u32().ok()?,
                cluster: name(&mut body)?,
                node: NodeId(name(&mut body)?.into()),
            })),
            REFUSED => {
                let refusal = Refusal::of(body.try_get_u8().ok()?);
                let printable = |c: char| if c.is_control() { ' ' } else { c };
                Some(Self::Refused(refusal, String::from_utf8_lossy(body).chars().map(printable).collect()))
            }
            _ => None,
        }
    }
}

/// Reads a name; one that would spoil a log is none.
fn name(body: &mut &[u8]) -> Option<String> {
    let length = usize::from(body.try_get_u8().ok()?);
    let text = std::str::from_utf8(body.split_off(..length)?).ok()?;
    is_name(text).then(|| text.to_owned())
}

/// Whether a text can name a node or a cluster here: 1 to [`NAME_MAX`] bytes without control characters.
pub(super) fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn hello(node: &str) -> Hello {
        Hello {
            versions: Versions { min: 1, max: 2 },
            boot: 7,
            payload_max: 1 << 20,
            cluster: "prod".to_owned(),
            node: NodeId(node.into()),
        }
    }

    fn reread(bytes: &[u8]) -> Result<Word, ReadError> {
        Word::read(&mut &*bytes).now_or_never().expect("bytes in memory are there at once")
    }

    #[test]
    fn words_read_as_they_were_written() {
        let long = "ä".repeat(600);
        for word in [Word::Hello(hello("n1")), Word::Refused(Refusal::Life, "why".to_owned())] {
            assert_eq!(reread(&word.encoded()).expect("a word"), word);
        }
        let Ok(Word::Refused(_, cut)) = reread(&Word::Refused(Refusal::Name, long.clone()).encoded()) else {
            panic!("a refusal stays one")
        };
        assert!(long.starts_with(&cut) && cut.len() > 1_000, "{}", cut.len());
    }

    #[test]
    fn the_newest_common_version_is_taken() {
        let versions = |min, max| Versions { min, max };
        assert_eq!(versions(1, 2).common(versions(2, 3)), Some(2));
        assert_eq!(versions(1, 1).common(versions(1, 9)), Some(1));
        assert_eq!(versions(1, 2).common(versions(3, 4)), None);
        assert_eq!(versions(3, 4).common(versions(1, 2)), None);
    }

    #[test]
    fn what_differs_is_named_with_both_sides() {
        let (ours, mut theirs) = (hello("n1"), hello("n2"));
        assert_eq!(ours.agree(&theirs).map(|agreed| agreed.version), Ok(2));
        theirs.versions = Versions { min: 3, max: 4 };
        let (refusal, why) = ours.agree(&theirs).expect_err("no version in common");
        assert_eq!(refusal, Refusal::Version);
        assert!(why.contains("n1 speaks versions 1 to 2") && why.contains("n2 speaks 3 to 4"), "{why}");
        theirs.cluster = "test".to_owned();
        let (refusal, why) = ours.agree(&theirs).expect_err("another cluster");
        assert_eq!(refusal, Refusal::Cluster);
        assert!(why.contains("`prod`") && why.contains("`test`"), "{why}");
    }

    #[test]
    fn a_hello_of_a_later_version_may_say_more() {
        let mut bytes = Word::Hello(hello("n1")).encoded();
        bytes.truncate(bytes.len() - CHECKSUM);
        bytes.put_slice(b"more");
        let length = u16::try_from(bytes.len() - HEADER).expect("short");
        bytes[5..7].copy_from_slice(&length.to_be_bytes());
        bytes.put_u32(crc32c::crc32c(&bytes));
        assert_eq!(reread(&bytes).expect("a word"), Word::Hello(hello("n1")));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_no_hello(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0_usize..60, bit in 0_u32..8) {
            prop_assert!(reread(&bytes).is_err());
            let mut changed = Word::Hello(hello("n1")).encoded();
            let at = at % changed.len();
            changed[at] ^= 1_u8 << bit;
            prop_assert!(reread(&changed).is_err());
        }
    }
}

//! One sealed datagram: nobody without a key of the cluster can read it, make one, or use one again.
//!
//! ```text
//! "SG" | version u8 | key id u32 | cluster u32 | nonce: salt u64, boot u64, seq u64 | length u8, sender | sealed bytes, tag 16
//! ```
//! Big endian. `XChaCha20-Poly1305` seals; all that stands before the sealed bytes, and the cluster's whole name, are its
//! additional data. No nonce comes twice: `seq` counts within a process, `boot` grows with each start, and `salt` is chance that
//! keeps nodes apart. `cluster` is a fingerprint, only there to tell a stranger from a forger.
//!
//! What a repeated datagram could still do: a node that has just started knows no numbers, so one recorded earlier may pass once.
//! Gossip is addressed to a life of the receiver, and that one is over; only a stale "here I am" is left, which the probes refute.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};
use syncline_actors::id::NodeId;

use super::key::{KeyId, KeyRing};
use super::window::{Process, Windows};

/// Largest datagram, in bytes: below every path's limit, as fragments are lost together.
pub(super) const DATAGRAM_MAX: usize = 1_200;

/// Longest name of a node, in bytes: a label of DNS.
pub(super) const NAME_MAX: usize = 63;

/// Largest content, in bytes, whatever the sender's name.
pub(super) const CONTENT_MAX: usize = DATAGRAM_MAX - FIXED - NAME_MAX - TAG;

const MAGIC: [u8; 2] = *b"SG";
const VERSION: u8 = 1;
const FIXED: usize = 36;
const TAG: usize = 16;

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// It is not gossip, or of a version that is not spoken here.
    Malformed,
    /// It is of another cluster.
    OtherCluster,
    /// No key of ours opens it, or its bytes were changed.
    Unauthentic,
    /// It was heard before, or its sender has been started again since.
    Replayed,
    /// We sent it: an address in the list of seeds leads back here.
    Own,
    /// Another process says that it is us.
    Namesake,
}

/// Seals what a process sends and opens what it hears.
#[derive(Debug)]
pub(super) struct Seal {
    sender: NodeId,
    cluster: String,
    keys: KeyRing,
    process: Process,
    seq: u64,
    windows: Windows,
}

impl Seal {
    /// For the node `sender` (at most [`NAME_MAX`] bytes) of `cluster`.
    pub(super) fn new(sender: NodeId, cluster: String, keys: KeyRing, process: Process) -> Self {
        assert!(sender.0.len() <= NAME_MAX, "the name was checked");
        Self { sender, cluster, keys, process, seq: 0, windows: Windows::default() }
    }

    /// From now on these keys.
    pub(super) fn replace_keys(&mut self, keys: KeyRing) {
        self.keys = keys;
    }

    /// The datagram around `content`, which has at most [`CONTENT_MAX`] bytes.
    pub(super) fn seal(&mut self, content: &[u8]) -> Vec<u8> {
        self.seq += 1;
        let key = self.keys.first();
        let mut datagram = Vec::with_capacity(DATAGRAM_MAX);
        datagram.extend_from_slice(&MAGIC);
        datagram.push(VERSION);
        datagram.extend_from_slice(&key.id().0.to_be_bytes());
        datagram.extend_from_slice(&fingerprint(&self.cluster));
        for part in [self.process.salt, self.process.boot, self.seq] {
            datagram.extend_from_slice(&part.to_be_bytes());
        }
        datagram.push(u8::try_from(self.sender.0.len()).expect("at most 63"));
        datagram.extend_from_slice(self.sender.0.as_bytes());
        let nonce: [u8; 24] = datagram[11..35].try_into().expect("24 bytes");
        let aad = [&datagram, self.cluster.as_bytes()].concat();
        let sealed = XChaCha20Poly1305::new(key.secret().into())
            .encrypt(&XNonce::from(nonce), Payload { msg: content, aad: &aad })
            .expect("a datagram is far below the cipher's limit");
        datagram.extend_from_slice(&sealed);
        datagram
    }

    /// The content of `datagram`. Hostile bytes are dropped, never a panic, and leave no trace in the windows.
    pub(super) fn open(&mut self, datagram: &[u8]) -> Result<Vec<u8>, Dropped> {
        let (head, sender, sealed) = split(datagram).ok_or(Dropped::Malformed)?;
        if head.cluster != fingerprint(&self.cluster) {
            return Err(Dropped::OtherCluster);
        }
        let key = self.keys.find(head.key).ok_or(Dropped::Unauthentic)?;
        let aad = [&datagram[..datagram.len() - sealed.len()], self.cluster.as_bytes()].concat();
        let content = XChaCha20Poly1305::new(key.secret().into())
            .decrypt(&XNonce::from(head.nonce), Payload { msg: sealed, aad: &aad })
            .map_err(|_says_nothing| Dropped::Unauthentic)?;
        if sender == &*self.sender.0 {
            return Err(self.ours(head.process));
        }
        if self.windows.admit(&NodeId(sender.into()), head.process, head.seq) {
            Ok(content)
        } else {
            Err(Dropped::Replayed)
        }
    }

    /// What it means that `process` bears our name.
    fn ours(&self, process: Process) -> Dropped {
        if process == self.process {
            Dropped::Own
        } else if process.boot < self.process.boot {
            Dropped::Replayed
        } else {
            Dropped::Namesake
        }
    }
}

/// What stands at the fixed places of a datagram.
struct Head {
    key: KeyId,
    cluster: [u8; 4],
    nonce: [u8; 24],
    process: Process,
    seq: u64,
}

/// Head, sender and sealed bytes; `None` when it is not gossip that we speak.
fn split(datagram: &[u8]) -> Option<(Head, &str, &[u8])> {
    if datagram.len() > DATAGRAM_MAX {
        return None;
    }
    let (start, rest) = datagram.split_first_chunk::<3>()?;
    if start != &[MAGIC[0], MAGIC[1], VERSION] {
        return None;
    }
    let (key, rest) = rest.split_first_chunk::<4>()?;
    let (cluster, rest) = rest.split_first_chunk::<4>()?;
    let (nonce, rest) = rest.split_first_chunk::<24>()?;
    let (&length, rest) = rest.split_first()?;
    let (sender, sealed) = rest.split_at_checked(usize::from(length))?;
    if sender.is_empty() || sender.len() > NAME_MAX || sealed.len() < TAG {
        return None;
    }
    let number = |at: usize| nonce[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let head = Head {
        key: KeyId(u32::from_be_bytes(*key)),
        cluster: *cluster,
        nonce: *nonce,
        process: Process { salt: number(0), boot: number(8) },
        seq: number(16),
    };
    Some((head, str::from_utf8(sender).ok()?, sealed))
}

fn fingerprint(cluster: &str) -> [u8; 4] {
    let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(cluster).into();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::Key;
    use super::*;

    fn seal(node: &str, cluster: &str, boot: u64, keys: &[u8]) -> Seal {
        let ring = keys.iter().map(|byte| Key::new([*byte; 32])).collect();
        let process = Process { boot, salt: boot * 31 + node.len() as u64 };
        Seal::new(NodeId(node.into()), cluster.to_owned(), KeyRing::new(ring).unwrap(), process)
    }

    #[test]
    fn what_one_node_seals_another_opens_once() {
        let (mut a, mut b) = (seal("a", "prod", 1, &[7]), seal("bb", "prod", 1, &[7]));
        let datagram = a.seal(b"hello");
        assert_eq!(b.open(&datagram), Ok(b"hello".to_vec()));
        assert_eq!(b.open(&datagram), Err(Dropped::Replayed));
        assert!(!datagram.windows(5).any(|part| part == b"hello"));
        assert_ne!(a.seal(b"hello"), datagram);
    }

    #[test]
    fn the_largest_content_of_the_longest_name_fits_a_datagram() {
        let mut a = seal(&"a".repeat(NAME_MAX), "prod", 1, &[7]);
        assert_eq!(a.seal(&[0; CONTENT_MAX]).len(), DATAGRAM_MAX);
    }

    #[test]
    fn a_key_is_changed_while_all_run() {
        let (mut old, mut both) = (seal("a", "prod", 1, &[7]), seal("bb", "prod", 1, &[7, 8]));
        let (mut turned, mut new) = (seal("cc", "prod", 1, &[8, 7]), seal("dd", "prod", 1, &[8]));
        assert!(both.open(&old.seal(b"1")).is_ok());
        assert!(turned.open(&old.seal(b"2")).is_ok());
        assert!(both.open(&new.seal(b"3")).is_ok());
        assert!(old.open(&both.seal(b"4")).is_ok());
        assert!(new.open(&turned.seal(b"5")).is_ok());
        assert_eq!(new.open(&old.seal(b"6")), Err(Dropped::Unauthentic));
        new.replace_keys(turned.keys.clone());
        assert!(new.open(&old.seal(b"7")).is_ok());
    }

    #[test]
    fn another_cluster_is_told_from_a_forger() {
        let mut b = seal("b", "prod", 1, &[7]);
        assert_eq!(b.open(&seal("a", "test", 1, &[7]).seal(b"x")), Err(Dropped::OtherCluster));
        assert_eq!(b.open(&seal("a", "prod", 1, &[9]).seal(b"x")), Err(Dropped::Unauthentic));
    }

    #[test]
    fn two_clusters_with_one_fingerprint_do_not_hear_each_other() {
        let mut seen = std::collections::BTreeMap::new();
        let name = |n: u32| format!("cluster-{n}");
        // By the birthday paradox, among some 80,000.
        let twins = (0..).find_map(|n| Some((seen.insert(fingerprint(&name(n)), n)?, n))).unwrap();
        let (mut a, mut b) = (seal("a", &name(twins.0), 1, &[7]), seal("b", &name(twins.1), 1, &[7]));
        assert_eq!(b.open(&a.seal(b"x")), Err(Dropped::Unauthentic));
    }

    #[test]
    fn a_second_process_of_our_name_is_noticed() {
        let mut a = seal("a", "prod", 5, &[7]);
        let own = a.seal(b"x");
        assert_eq!(a.open(&own), Err(Dropped::Own));
        assert_eq!(a.open(&seal("a", "prod", 6, &[7]).seal(b"x")), Err(Dropped::Namesake));
        assert_eq!(a.open(&seal("a", "prod", 4, &[7]).seal(b"x")), Err(Dropped::Replayed));
    }

    proptest! {
        #[test]
        fn a_datagram_with_any_byte_changed_or_cut_is_dropped(at in 0..200_usize, flip in 1..=255_u8, cut in 0..200_usize) {
            let datagram = seal("a", "prod", 1, &[7]).seal(b"a content of some length");
            let mut b = seal("b", "prod", 1, &[7]);
            let mut changed = datagram.clone();
            let at = at % datagram.len();
            changed[at] ^= flip;
            prop_assert!(b.open(&changed).is_err());
            prop_assert!(b.open(&datagram[..cut % datagram.len()]).is_err());
            prop_assert!(b.open(&datagram).is_ok(), "the hostile ones left no trace");
        }

        #[test]
        fn any_bytes_are_dropped(bytes in prop::collection::vec(any::<u8>(), 0..1_300), gossip: bool) {
            let mut bytes = bytes;
            if gossip && bytes.len() > 3 { bytes[..3].copy_from_slice(b"SG\x01"); }
            prop_assert!(seal("b", "prod", 1, &[7]).open(&bytes).is_err());
        }
    }
}

//! The secrets that make a cluster's gossip its own: a ring of keys, so that one can be changed while all nodes run.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::Error;

/// Which key sealed a datagram: a fingerprint of the secret, so that two nodes cannot mean two keys by one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// One secret of 32 bytes, shared by all nodes. It is never shown; its id is.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: KeyId,
    secret: [u8; 32],
}

impl Key {
    /// A key of these bytes, which must be random: `openssl rand -base64 32` makes them.
    pub fn new(secret: [u8; 32]) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"syncline gossip key id");
        digest.update(secret);
        let [a, b, c, d, ..]: [u8; 32] = digest.finalize().into();
        Self { id: KeyId(u32::from_be_bytes([a, b, c, d])), secret }
    }

    /// Reads base64 of 32 bytes.
    ///
    /// # Errors
    /// [`Error::Key`] when it is anything else. The text is not shown.
    pub fn parse(text: &SecretString) -> Result<Self, Error> {
        let bytes = STANDARD.decode(text.expose_secret().trim()).ok();
        bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).map(Self::new).ok_or(Error::Key)
    }

    /// Its fingerprint.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// The keys a node holds: the first seals what it sends, each opens what it hears.
///
/// To change the key without losing anybody: add the new one at the end of every node's ring, then make it the first on every
/// node, then take the old one out. A node must open what another seals, so finish each step everywhere before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRing(Vec<Key>);

impl KeyRing {
    /// A ring of these keys, in this order.
    ///
    /// # Errors
    /// [`Error::NoKeys`] when there is none.
    pub fn new(keys: Vec<Key>) -> Result<Self, Error> {
        if keys.is_empty() { Err(Error::NoKeys) } else { Ok(Self(keys)) }
    }

    /// The key that seals.
    pub(super) fn first(&self) -> &Key {
        self.0.first().expect("a ring is made with at least one key")
    }

    /// The key of `id`, if it is held.
    pub(super) fn find(&self, id: KeyId) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_openssl_writes_it_and_is_never_shown() {
        let text = STANDARD.encode([7; 32]);
        let key = Key::parse(&format!("{text}\n").into()).unwrap();
        assert_eq!(key, Key::new([7; 32]));
        assert_eq!(format!("{key:?}"), format!("Key({})", key.id()));
        assert_ne!(key.id(), Key::new([8; 32]).id());
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for text in ["", "hunter2", &STANDARD.encode([7; 31]), &STANDARD.encode([7; 33])] {
            let error = Key::parse(&text.into()).unwrap_err();
            assert!(matches!(error, Error::Key));
            assert!(text.is_empty() || !error.to_string().contains(text));
        }
        assert!(matches!(KeyRing::new(Vec::new()), Err(Error::NoKeys)));
    }
}

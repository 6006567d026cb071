//! What is journaled: one record for each message that an entity took in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::decision::{Answer, Change};
use crate::envelope::Envelope;
use crate::id::Epoch;

/// One message and what it did, at one place in its entity's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 1, 2, 3, … without a gap.
    pub seq: u64,
    /// The epoch it was written under; never smaller than that of the record before.
    pub epoch: Epoch,
    /// Hash of the record before; all zero before the first.
    pub prev: Hash,
    /// The message.
    pub envelope: Envelope,
    /// What then held.
    pub changes: Vec<Change>,
    /// What the sender was told.
    pub answer: Answer,
}

/// SHA-256 of a record as stored: links each record to all before it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Hash of a record's stored payload.
    pub fn of(payload: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(payload).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

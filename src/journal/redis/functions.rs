//! The library that does the journal's work inside Redis, and the calls of its functions.
//!
//! Its name has a version, so that nodes of two releases may work on one store during a rolling upgrade: a release that changes
//! what a function does raises it. What is loaded must be, letter for letter, what this program was built with.

use std::fmt;
use std::sync::{Arc, LazyLock};

use redis::Cmd;
use sha2::{Digest as _, Sha256};

/// Name of the library, with its version.
const NAME: &str = "syncline_v1";

const TEXT: &str = include_str!("functions.lua");

/// The functions that a program brings to Redis.
#[derive(Clone)]
pub struct Library {
    name: Arc<str>,
    text: Arc<str>,
    hash: Arc<str>,
}

impl Default for Library {
    fn default() -> Self {
        static OWN: LazyLock<Library> = LazyLock::new(|| Library::new(NAME, TEXT));
        OWN.clone()
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").field("name", &self.name).field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl Library {
    /// `text` registers functions that are called `<name>_<what>`, and holds `@HASH@` where it tells its own hash. This program's is
    /// [`Self::default`]; others are for tests of releases to come.
    pub fn new(name: &str, text: &str) -> Self {
        let hash = hex::encode(Sha256::digest(text));
        Self { name: name.into(), text: text.replace("@HASH@", &hash).into(), hash: hash.into() }
    }

    /// Its name, with its version.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it is loaded: `FUNCTION LOAD` takes this text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Hash of its text, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What a function is called in Redis.
    pub(super) fn function(&self, what: &str) -> String {
        format!("{}_{what}", self.name)
    }
}

/// A call of one function on one shard, kept as bytes so that it can be sent again.
#[derive(Debug, Clone)]
pub(in crate::journal) struct Call {
    name: &'static str,
    read_only: bool,
    key: String,
    epoch: Option<u64>,
    /// Whether the function is told that it is called again.
    tells_again: bool,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Call {
    /// A function that only reads.
    pub(super) fn reading(name: &'static str, key: String) -> Self {
        Self {
            name,
            read_only: true,
            key,
            epoch: None,
            tells_again: false,
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// A function that writes.
    pub(super) fn writing(name: &'static str, key: String) -> Self {
        Self { read_only: false, ..Self::reading(name, key) }
    }

    /// A function that writes under an epoch, its first argument.
    pub(super) fn fenced(name: &'static str, key: String, epoch: u64) -> Self {
        Self { epoch: Some(epoch), ..Self::writing(name, key) }
    }

    /// Its second argument says whether it is called again.
    pub(super) fn telling_again(mut self) -> Self {
        self.tells_again = true;
        self
    }

    /// The same call under another epoch.
    pub(super) fn under(mut self, epoch: u64) -> Self {
        self.epoch = Some(epoch);
        self
    }

    pub(super) fn push(&mut self, argument: impl AsRef<[u8]>) -> &mut Self {
        self.bytes.extend_from_slice(argument.as_ref());
        self.ends.push(self.bytes.len());
        self
    }

    pub(super) fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.push(argument);
        self
    }

    pub(super) fn number(&mut self, number: impl ToString + Copy) -> &mut Self {
        self.push(number.to_string())
    }

    /// Bytes it takes, about.
    pub(super) fn weight(&self) -> usize {
        128 + self.bytes.len() + 16 * self.ends.len()
    }

    /// The command to send.
    pub(super) fn command(&self, library: &Library, again: bool) -> Cmd {
        let mut command = redis::cmd(if self.read_only { "FCALL_RO" } else { "FCALL" });
        command.arg(library.function(self.name)).arg(1).arg(&self.key);
        if let Some(epoch) = self.epoch {
            command.arg(epoch);
        }
        if self.tells_again {
            command.arg(u8::from(again));
        }
        let mut begin = 0;
        for end in &self.ends {
            command.arg(&self.bytes[begin..*end]);
            begin = *end;
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_knows_its_own_hash_and_version() {
        let own = Library::default();
        assert!(own.text().contains(own.hash()) && !own.text().contains("@HASH@"));
        assert!(TEXT.starts_with(&format!("#!lua name={NAME}\n")));
    }

    #[test]
    fn a_call_can_be_sent_again_and_under_another_epoch() {
        let call = Call::fenced("append", "{c.s1}:l".to_owned(), 7).telling_again().arg("a").arg("");
        let own = Library::default();
        let words =
            |command: &Cmd| String::from_utf8_lossy(&command.get_packed_command()).replace("\r\n", " ");
        assert!(
            words(&call.command(&own, false)).ends_with("$8 {c.s1}:l $1 7 $1 0 $1 a $0  "),
            "{}",
            words(&call.command(&own, false))
        );
        assert!(words(&call.under(9).command(&own, true)).ends_with("$8 {c.s1}:l $1 9 $1 1 $1 a $0  "));
    }
}

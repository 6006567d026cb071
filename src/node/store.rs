//! The node's own directory, and the store that the settings name.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::Error;
use crate::clock::Clock;
use crate::config::{self, Settings, Tier};
use crate::gossip;
use crate::journal::SharedJournal;
use crate::journal::redb::{self, Redb};
use crate::journal::redis::{self, Redis};

/// The node's directory, held by this process alone, and which start this is.
#[derive(Debug)]
pub struct Directory {
    boot: u64,
    /// The lock ends with it.
    _lock: File,
}

impl Directory {
    /// Makes it when it is not there, locks it, and counts the start.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process has it, [`Error::Directory`] when it cannot be made.
    pub fn open(path: &Path, clock: &dyn Clock) -> Result<Self, Error> {
        let broken = |error| Error::Directory { path: path.to_owned(), error };
        std::fs::create_dir_all(path).map_err(broken)?;
        let lock = File::create(path.join("lock")).map_err(broken)?;
        lock.try_lock().map_err(|_held| Error::InUse(path.to_owned()))?;
        let boot = gossip::next_boot(&path.join("boot"), clock.now())?;
        Ok(Self { boot, _lock: lock })
    }

    /// Which start of the node this is: larger after each.
    pub fn boot(&self) -> u64 {
        self.boot
    }
}

/// Opens the store for the node whose directory this is.
pub(super) async fn open(
    settings: &Settings,
    directory: &Directory,
    seed: u64,
) -> Result<SharedJournal, Error> {
    match settings.journal.store {
        config::Store::Embedded => {
            let options =
                redb::Options { cache_bytes: settings.journal.cache.bytes(), ..redb::Options::default() };
            Ok(Arc::new(Redb::open(settings.journal_path(), options)?))
        }
        config::Store::Redis => {
            let options = redis_options(settings, directory.boot, seed)?;
            if options.tier == redis::Tier::Relaxed {
                tracing::warn!(
                    "journal.redis.tier is `relaxed`: a second of what is acknowledged may be lost with the server"
                );
            }
            let redis = Redis::open(options).await?;
            recognise(&settings.node.data_dir.join("store"), redis.genesis())?;
            Ok(redis)
        }
    }
}

/// Compares the store with the one that the node has worked with before, as the file at `path` says, or remembers it.
fn recognise(path: &Path, genesis: &str) -> Result<(), Error> {
    let broken = |error| Error::Directory { path: path.to_owned(), error };
    match std::fs::read_to_string(path) {
        Ok(known) if known.trim() == genesis => Ok(()),
        Ok(known) => Err(Error::Setting {
            key: "journal.redis.urls",
            why: format!(
                "the store there is `{genesis}`, and this node has worked with `{}`: it was wiped, or it is another one; restore it, \
                 or remove {} to begin with this one",
                known.trim(),
                path.display()
            ),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let fresh = path.with_extension("new");
            let mut file = File::create(&fresh).map_err(broken)?;
            writeln!(file, "{genesis}").and_then(|()| file.sync_all()).map_err(broken)?;
            std::fs::rename(&fresh, path).map_err(broken)
        }
        Err(error) => Err(broken(error)),
    }
}

fn redis_options(settings: &Settings, boot: u64, seed: u64) -> Result<redis::Options, Error> {
    let stated = &settings.journal.redis;
    let password = stated.password.as_ref().map(crate::secret::SecretRef::resolve).transpose();
    let ca = stated.ca.as_ref().map(std::fs::read).transpose();
    Ok(redis::Options {
        urls: stated.urls.clone(),
        cluster_mode: stated.cluster_mode,
        cluster: settings.cluster.name.clone(),
        tier: match stated.tier {
            Tier::Single => redis::Tier::Single,
            Tier::Replicated => redis::Tier::Replicated {
                replicas: stated.replicas.get(),
                wait: stated.replicas_wait,
                flushed: stated.replicas_flush,
            },
            Tier::Relaxed => redis::Tier::Relaxed,
        },
        genesis: format!("{}-{boot:x}-{seed:x}", settings.node.name),
        boot,
        lease: settings.journal.lease.ttl,
        writers: stated.writers.get(),
        response_timeout: stated.response_timeout,
        patience: stated.patience,
        user: stated.user.clone(),
        password: password.map_err(|error| setting("journal.redis.password", &error))?,
        ca: ca.map_err(|error| setting("journal.redis.ca", &error))?,
        trust_store_durability: stated.trust_store_durability,
        ..redis::Options::default()
    })
}

fn setting(key: &'static str, error: &dyn std::error::Error) -> Error {
    Error::Setting { key, why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_recognised_and_another_one_is_refused_by_name() {
        let directory = tempfile::tempdir().expect("there is room");
        let path = directory.path().join("store");
        recognise(&path, "a-1-2").expect("it is new");
        recognise(&path, "a-1-2").expect("it is the same");
        let refused = recognise(&path, "b-3-4").expect_err("it is another").to_string();
        assert!(
            refused.contains("`b-3-4`") && refused.contains("`a-1-2`") && refused.contains("remove"),
            "{refused}"
        );
        recognise(&path, "a-1-2").expect("it still remembers the first");
    }
}

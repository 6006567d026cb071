//! The tables of the store on disk, what a group of calls writes of them, and how that gets into the file.

use std::collections::BTreeMap;

use ::redb::{Database, Durability, TableDefinition, WriteTransaction};

use super::Failure;
use super::layers::{Layer, Rows, View};
use super::log::Mark;

/// Bytes by bytes, so that no release of the database library can change what is stored.
type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The tables. Keys are made in `journal::keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// Name → what the store is: format, number of shards, cluster.
    Meta,
    /// Shard → epoch and holder.
    Epochs,
    /// Owner, sequence number → frame.
    Records,
    /// Entity → where it stands.
    Heads,
    /// Owner → newest snapshot.
    Snapshots,
    /// Owner, scope, id → until when, first answer.
    Dedup,
    /// Time, key in `Dedup` → nothing.
    DedupExpiry,
    /// Owner, effect → what waits.
    Outbox,
    /// Connector, time, key in `Outbox` → nothing.
    OutboxDue,
    /// Owner, name → timer.
    Timers,
    /// Time, key in `Timers` → nothing.
    TimersDue,
    /// Id as people write it → exception.
    Exceptions,
    /// Term, entity → nothing.
    Terms,
    /// Time of its last record, entity → nothing, for entities that ended and have records.
    Ended,
    /// Kind, status → number of entities.
    Census,
    /// Connector → number of effects that wait.
    Depths,
    /// Kind, version → text.
    Definitions,
}

impl Name {
    /// Every table.
    pub(super) const ALL: [Self; 17] = [
        Self::Meta,
        Self::Epochs,
        Self::Records,
        Self::Heads,
        Self::Snapshots,
        Self::Dedup,
        Self::DedupExpiry,
        Self::Outbox,
        Self::OutboxDue,
        Self::Timers,
        Self::TimersDue,
        Self::Exceptions,
        Self::Terms,
        Self::Ended,
        Self::Census,
        Self::Depths,
        Self::Definitions,
    ];

    /// Its definition. The name is stored.
    pub(super) const fn definition(self) -> Definition {
        TableDefinition::new(match self {
            Self::Meta => "meta",
            Self::Epochs => "epochs",
            Self::Records => "records",
            Self::Heads => "heads",
            Self::Snapshots => "snapshots",
            Self::Dedup => "dedup",
            Self::DedupExpiry => "dedup_expiry",
            Self::Outbox => "outbox",
            Self::OutboxDue => "outbox_due",
            Self::Timers => "timers",
            Self::TimersDue => "timers_due",
            Self::Exceptions => "exceptions",
            Self::Terms => "terms",
            Self::Ended => "ended",
            Self::Census => "census",
            Self::Depths => "depths",
            Self::Definitions => "definitions",
        })
    }
}

/// The writes of one group of calls, over the store as it was before. Tables are opened at their first use; counters are added up and
/// written once, at the end.
pub(super) struct Tables<'t> {
    view: &'t View<'t>,
    open: [Option<Rows<'t>>; Name::ALL.len()],
    group: Layer,
    counters: BTreeMap<(Name, Vec<u8>), i64>,
}

impl<'t> Tables<'t> {
    pub(super) fn new(view: &'t View<'t>) -> Self {
        Self { view, open: Default::default(), group: Layer::default(), counters: BTreeMap::new() }
    }

    fn before(&mut self, name: Name) -> Result<&Rows<'t>, Failure> {
        let place = &mut self.open[name as usize];
        if place.is_none() {
            *place = Some(self.view.table(name)?);
        }
        Ok(place.as_ref().expect("it was opened just now"))
    }

    /// What `read` makes of the value under `key`.
    pub(super) fn get<R>(
        &mut self,
        name: Name,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Failure> {
        match self.group.get(name, key) {
            Some(written) => Ok(written.as_deref().map(read)),
            None => self.before(name)?.get(key, read),
        }
    }

    /// Writes `value`; what `read` makes of the value that it replaced.
    pub(super) fn replace<R>(
        &mut self,
        name: Name,
        key: &[u8],
        value: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Failure> {
        let old = self.get(name, key, read)?;
        self.put(name, key, value);
        Ok(old)
    }

    /// Writes `value`.
    pub(super) fn put(&mut self, name: Name, key: &[u8], value: &[u8]) {
        self.group.put(name, key, Some(value));
    }

    /// Takes `key` out; what `read` makes of its value.
    pub(super) fn take<R>(
        &mut self,
        name: Name,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Failure> {
        let old = self.get(name, key, read)?;
        if old.is_some() {
            self.remove(name, key);
        }
        Ok(old)
    }

    /// Takes `key` out.
    pub(super) fn remove(&mut self, name: Name, key: &[u8]) {
        self.group.put(name, key, None);
    }

    /// The first keys from `from` up to, not with, `to`.
    pub(super) fn keys(
        &mut self,
        name: Name,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let rows = self.view.table(name)?.under(&self.group, name);
        rows.scan(from, Some(to), limit, |key, _| Ok(Some(key.to_vec())))
    }

    /// Adds `by` to a counter.
    pub(super) fn count(&mut self, name: Name, key: Vec<u8>, by: i64) {
        *self.counters.entry((name, key)).or_default() += by;
    }

    /// Writes the counters, the last thing in a group. What the group wrote.
    pub(super) fn finish(mut self) -> Result<Layer, Failure> {
        for ((name, key), by) in std::mem::take(&mut self.counters) {
            if by == 0 {
                continue;
            }
            let before = self.get(name, &key, count_of)?.unwrap_or(0);
            match before.saturating_add_signed(by) {
                0 => self.remove(name, &key),
                after => self.put(name, &key, &after.to_be_bytes()),
            }
        }
        Ok(self.group)
    }
}

/// The number in a counter's value.
pub(super) fn count_of(value: &[u8]) -> u64 {
    super::super::keys::number(value).map_or(0, |(count, _)| count)
}

/// Makes commits of `transaction` durable, and the store quick to open after a crash.
pub(super) fn durable(transaction: &mut WriteTransaction) {
    transaction.set_durability(Durability::Immediate).expect("no savepoints are made here");
    transaction.set_quick_repair(true);
}

/// Writes what `layer` holds, and that the log is applied up to `mark`: both or neither. Durable when it returns.
pub(super) fn settle(database: &Database, layer: &Layer, mark: Mark) -> Result<(), Failure> {
    let mut transaction = database.begin_write()?;
    durable(&mut transaction);
    for name in Name::ALL {
        let mut written = layer.written(name).peekable();
        if written.peek().is_none() && !matches!(name, Name::Meta) {
            continue;
        }
        let mut table = transaction.open_table(name.definition())?;
        for (key, value) in written {
            match value {
                Some(value) => drop(table.insert(key, value)?),
                None => drop(table.remove(key)?),
            }
        }
        if matches!(name, Name::Meta) {
            table.insert(MARK, mark.bytes().as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Under this name the store says how far the log is applied.
pub(super) const MARK: &[u8] = b"log";

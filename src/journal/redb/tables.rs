//! The tables of the store on disk, and a write transaction that opens those it needs.

use std::collections::BTreeMap;

use ::redb::{Durability, ReadableTable as _, Table, TableDefinition, WriteTransaction};

use super::Failure;

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

/// One write transaction. Tables are opened at their first use; counters are added up and written once, at the end.
pub(super) struct Tables<'t> {
    transaction: &'t WriteTransaction,
    open: [Option<Table<'t, &'static [u8], &'static [u8]>>; Name::ALL.len()],
    counters: BTreeMap<(Name, Vec<u8>), i64>,
    written: bool,
}

impl<'t> Tables<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction) -> Self {
        Self { transaction, open: Default::default(), counters: BTreeMap::new(), written: false }
    }

    fn table(&mut self, name: Name) -> Result<&mut Table<'t, &'static [u8], &'static [u8]>, Failure> {
        let place = &mut self.open[name as usize];
        if place.is_none() {
            *place = Some(self.transaction.open_table(name.definition())?);
        }
        Ok(place.as_mut().expect("it was opened just now"))
    }

    /// What `read` makes of the value under `key`.
    pub(super) fn get<R>(
        &mut self,
        name: Name,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Failure> {
        Ok(self.table(name)?.get(key)?.map(|value| read(value.value())))
    }

    /// Writes `value`; what `read` makes of the value that it replaced.
    pub(super) fn replace<R>(
        &mut self,
        name: Name,
        key: &[u8],
        value: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Failure> {
        self.written = true;
        Ok(self.table(name)?.insert(key, value)?.map(|old| read(old.value())))
    }

    /// Writes `value`.
    pub(super) fn put(&mut self, name: Name, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.replace(name, key, value, |_| ()).map(|_| ())
    }

    /// Takes `key` out; what `read` makes of its value.
    pub(super) fn take<R>(
        &mut self,
        name: Name,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Failure> {
        self.written = true;
        Ok(self.table(name)?.remove(key)?.map(|old| read(old.value())))
    }

    /// Takes `key` out.
    pub(super) fn remove(&mut self, name: Name, key: &[u8]) -> Result<(), Failure> {
        self.take(name, key, |_| ()).map(|_| ())
    }

    /// The first keys from `from` up to, not with, `to`.
    pub(super) fn keys(
        &mut self,
        name: Name,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        if from >= to {
            return Ok(Vec::new());
        }
        let mut keys = Vec::new();
        for row in self.table(name)?.range::<&[u8]>(from..to)?.take(limit) {
            keys.push(row?.0.value().to_vec());
        }
        Ok(keys)
    }

    /// Adds `by` to a counter.
    pub(super) fn count(&mut self, name: Name, key: Vec<u8>, by: i64) {
        *self.counters.entry((name, key)).or_default() += by;
    }

    /// Writes the counters, the last thing in a transaction. False when nothing was written at all.
    pub(super) fn finish(mut self) -> Result<bool, Failure> {
        for ((name, key), by) in std::mem::take(&mut self.counters) {
            if by == 0 {
                continue;
            }
            let before = self.get(name, &key, count_of)?.unwrap_or(0);
            match before.saturating_add_signed(by) {
                0 => self.remove(name, &key)?,
                after => self.put(name, &key, &after.to_be_bytes())?,
            }
        }
        Ok(self.written)
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

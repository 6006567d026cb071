//! What is in the log and not in the tables yet: kept in memory in the order of the tables, laid over what they hold.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use ::redb::{ReadOnlyTable, ReadTransaction};
use smallvec::SmallVec;

use super::Failure;
use super::tables::Name;
use crate::journal::{keys, rows};

/// A key. Most stand in the node of the tree itself: a search compares many, and would else wait for memory at each.
type Key = SmallVec<[u8; 64]>;

/// What was written of one table; `None`: the key was taken out.
type Written = BTreeMap<Key, Option<Box<[u8]>>>;

/// Writes that came one after the other, the last of each key.
#[derive(Debug, Default)]
pub(super) struct Layer {
    tables: [Written; Name::ALL.len()],
}

impl Layer {
    pub(super) fn is_empty(&self) -> bool {
        self.tables.iter().all(BTreeMap::is_empty)
    }

    /// What was written of a table, in the order of its keys.
    pub(super) fn written(&self, name: Name) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.tables[name as usize].iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// What was last written under `key`, if anything was: a value, or `None` where it was taken out.
    pub(super) fn get(&self, name: Name, key: &[u8]) -> Option<&Option<Box<[u8]>>> {
        self.tables[name as usize].get(key)
    }

    pub(super) fn put(&mut self, name: Name, key: &[u8], value: Option<&[u8]>) {
        self.tables[name as usize].insert(Key::from_slice(key), value.map(Into::into));
    }

    /// Takes over what was written after.
    pub(super) fn absorb(&mut self, later: Self) {
        for (table, later) in self.tables.iter_mut().zip(later.tables) {
            if table.is_empty() {
                *table = later;
            } else {
                table.extend(later);
            }
        }
    }

    /// Appends all of it to `bytes`: table, key, and value or its absence, each with its length.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        for name in Name::ALL {
            for (key, value) in self.written(name) {
                bytes.push(name as u8);
                bytes.push(u8::from(value.is_some()));
                push(bytes, key);
                if let Some(value) = value {
                    push(bytes, value);
                }
            }
        }
    }

    /// Reads what [`Layer::encode`] wrote, over what is here.
    pub(super) fn decode(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        let broken = || rows::malformed("a group of the log");
        while let [name, holds, rest @ ..] = bytes {
            let name = *Name::ALL.get(usize::from(*name)).ok_or_else(broken)?;
            let (key, rest) = pull(rest).ok_or_else(broken)?;
            let (value, rest) = match *holds {
                0 => (None, rest),
                _ => pull(rest).map(|(value, rest)| (Some(value), rest)).ok_or_else(broken)?,
            };
            self.put(name, key, value);
            bytes = rest;
        }
        if bytes.is_empty() { Ok(()) } else { Err(broken().into()) }
    }
}

fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("a row is far below 4 GiB");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(part);
}

fn pull(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// What the log holds beyond the tables.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// Grows.
    pub(super) active: Layer,
    /// Is being written to the tables.
    pub(super) frozen: Option<Arc<Layer>>,
}

/// The whole store as it is now.
pub(super) struct View<'v> {
    disk: ReadTransaction,
    layers: &'v Layers,
}

impl<'v> View<'v> {
    /// `disk` must have begun while `layers` could not change.
    pub(super) fn new(disk: ReadTransaction, layers: &'v Layers) -> Self {
        Self { disk, layers }
    }

    /// One table of it.
    pub(super) fn table(&self, name: Name) -> Result<Rows<'v>, Failure> {
        let frozen = self.layers.frozen.as_deref();
        let layers = [None, Some(&self.layers.active), frozen];
        let layers = layers.map(|layer| layer.map(|layer| &layer.tables[name as usize]));
        Ok(Rows { disk: self.disk.open_table(name.definition())?, layers })
    }
}

/// The rows of one table, as they are under everything laid over it.
pub(super) struct Rows<'v> {
    disk: ReadOnlyTable<&'static [u8], &'static [u8]>,
    /// The newest first.
    layers: [Option<&'v Written>; 3],
}

impl<'v> Rows<'v> {
    /// The same rows with `layer` over them.
    pub(super) fn under<'l>(self, layer: &'l Layer, name: Name) -> Rows<'l>
    where
        'v: 'l,
    {
        let [_, active, frozen] = self.layers;
        Rows { disk: self.disk, layers: [Some(&layer.tables[name as usize]), active, frozen] }
    }

    /// What `make` makes of the value under `key`.
    pub(super) fn get<R>(&self, key: &[u8], make: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Failure> {
        if let Some(written) = self.layers.iter().flatten().find_map(|layer| layer.get(key)) {
            return Ok(written.as_deref().map(make));
        }
        Ok(self.disk.get(key)?.map(|value| make(value.value())))
    }

    /// What `make` makes of the rows from `from` on, below `to`, until there are `limit`; it passes over a row with `None`.
    pub(super) fn scan<R>(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
        mut make: impl FnMut(&[u8], &[u8]) -> Result<Option<R>, Failure>,
    ) -> Result<Vec<R>, Failure> {
        let mut made = Vec::new();
        if limit == 0 || to.is_some_and(|to| from >= to) {
            return Ok(made);
        }
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (Bound::Included(from), end);
        let mut laid: Vec<_> =
            self.layers.iter().flatten().map(|layer| layer.range::<[u8], _>(range).peekable()).collect();
        let mut disk = self.disk.range::<&[u8]>(range)?;
        let mut below = disk.next().transpose()?;
        while made.len() < limit {
            let newest = newest(&mut laid);
            let result = match (newest, &below) {
                (None, None) => break,
                (newest, Some((key, value))) if newest.is_none_or(|(laid, _)| key.value() < laid) => {
                    let result = make(key.value(), value.value())?;
                    below = disk.next().transpose()?;
                    result
                }
                (None, Some(_)) => unreachable!("a row with nothing over it was taken above"),
                (Some((key, value)), _) => {
                    for layer in &mut laid {
                        layer.next_if(|(other, _)| other.as_slice() == key);
                    }
                    if below.as_ref().is_some_and(|(row, _)| row.value() == key) {
                        below = disk.next().transpose()?;
                    }
                    value.map(|value| make(key, value)).transpose()?.flatten()
                }
            };
            made.extend(result);
        }
        Ok(made)
    }

    /// The rows whose keys begin with `prefix`; `make` sees the rest of the key.
    pub(super) fn below<R>(
        &self,
        prefix: &[u8],
        limit: usize,
        mut make: impl FnMut(&[u8], &[u8]) -> Result<R, Failure>,
    ) -> Result<Vec<R>, Failure> {
        self.scan(prefix, keys::end_of(prefix).as_deref(), limit, |key, value| {
            make(&key[prefix.len()..], value).map(Some)
        })
    }
}

type Laid<'v> = Peekable<btree_map::Range<'v, Key, Option<Box<[u8]>>>>;

/// The least key that is laid over the table, and what the newest layer says of it.
fn newest<'v>(laid: &mut [Laid<'v>]) -> Option<(&'v [u8], Option<&'v [u8]>)> {
    let mut least: Option<(&'v [u8], Option<&'v [u8]>)> = None;
    for layer in laid {
        if let Some((key, value)) = layer.peek()
            && least.is_none_or(|(least, _)| key.as_slice() < least)
        {
            least = Some((key.as_slice(), value.as_deref()));
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use ::redb::ReadableDatabase as _;
    use proptest::prelude::*;

    use super::*;

    fn layer(writes: &[(u8, Option<u8>)]) -> Layer {
        let mut layer = Layer::default();
        for (key, value) in writes {
            layer.put(Name::Records, &[*key], value.as_ref().map(std::slice::from_ref));
        }
        layer
    }

    proptest! {
        #[test]
        fn what_is_laid_over_the_tables_reads_as_if_it_were_written_there(
            disk in prop::collection::vec((0..12_u8, any::<u8>()), 0..8),
            writes in prop::collection::vec(prop::collection::vec((0..12_u8, any::<Option<u8>>()), 0..8), 3),
            from in 0..12_u8, to in prop::option::of(0..13_u8), limit in 0..14_usize,
        ) {
            let database = ::redb::Builder::new()
                .create_with_backend(::redb::backends::InMemoryBackend::new()).unwrap();
            let write = database.begin_write().unwrap();
            let mut model: BTreeMap<u8, u8> = BTreeMap::new();
            {
                let mut table = write.open_table(Name::Records.definition()).unwrap();
                for (key, value) in &disk {
                    table.insert(&[*key][..], &[*value][..]).unwrap();
                    model.insert(*key, *value);
                }
            }
            write.commit().unwrap();
            for (key, value) in writes.iter().flatten() {
                match value {
                    Some(value) => drop(model.insert(*key, *value)),
                    None => drop(model.remove(key)),
                }
            }
            let layers = Layers { frozen: Some(Arc::new(layer(&writes[0]))), active: layer(&writes[1]) };
            let group = layer(&writes[2]);
            let view = View::new(database.begin_read().unwrap(), &layers);
            let rows = view.table(Name::Records).unwrap().under(&group, Name::Records);
            let end = to.map(|to| vec![to]);
            let found = rows.scan(&[from], end.as_deref(), limit, |key, value| Ok(Some((key[0], value[0])))).unwrap();
            let expected: Vec<_> = model.iter().map(|(key, value)| (*key, *value))
                .filter(|(key, _)| *key >= from && to.is_none_or(|to| *key < to)).take(limit).collect();
            prop_assert_eq!(found, expected);
            for key in 0..12 {
                prop_assert_eq!(rows.get(&[key], |value| value[0]).unwrap(), model.get(&key).copied());
            }
        }

        #[test]
        fn a_layer_reads_as_it_was_written(writes in prop::collection::vec((any::<u8>(), any::<Option<u8>>()), 0..20), cut: prop::sample::Index) {
            let written = layer(&writes);
            let mut bytes = Vec::new();
            written.encode(&mut bytes);
            let mut read = Layer::default();
            read.decode(&bytes).unwrap();
            prop_assert_eq!(format!("{:?}", read), format!("{:?}", written));
            let _ = Layer::default().decode(&bytes[..cut.index(bytes.len() + 1)]);
        }
    }
}

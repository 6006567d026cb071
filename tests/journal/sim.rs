//! A disk that can lose its power and fill up.
//!
//! What is written and not yet flushed is, after a power cut, there or not by chance: each sector of 512 bytes for itself, some
//! of them torn in the middle. So order among unflushed writes means nothing, as on a real disk.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use syncline::journal::redb::Options;

const SECTOR: usize = 512;

/// A store whose log is full after a few dozen appends, so that it turns again and again.
pub(crate) fn small() -> Options {
    Options { log_bytes: 32 << 10, ..Options::default() }
}

/// The disk, with two files. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct File {
    /// What a read sees.
    current: Vec<u8>,
    /// What a power cut leaves for certain.
    durable: Vec<u8>,
    /// Written since: offset and bytes.
    unflushed: Vec<(usize, Vec<u8>)>,
}

#[derive(Default)]
struct State {
    files: [File; 2],
    /// Calls until the power goes; `None`: it stays.
    fuse: Option<u64>,
    /// How often the power went: a plug from before reaches nothing.
    cuts: u64,
    off: bool,
    full: bool,
    flush_fails: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("bytes", &self.files.each_ref().map(|file| file.current.len()))
            .finish_non_exhaustive()
    }
}

/// Chance from a seed (splitmix64; Steele, Lea and Flood, 2014).
#[derive(Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Connections to the two files of the disk, good until the next power cut.
    pub(crate) fn plugs(&self) -> (Plug, Plug) {
        let cuts = self.lock().cuts;
        let plug = |file| Plug { disk: self.clone(), file, cuts };
        (plug(0), plug(1))
    }

    /// Lets the power go after `calls` more writes and flushes.
    pub(crate) fn fuse(&self, calls: u64) {
        self.lock().fuse = Some(calls);
    }

    /// Refuses to grow or be written, as a full disk does.
    pub(crate) fn fill(&self, full: bool) {
        self.lock().full = full;
    }

    /// Fails every flush.
    pub(crate) fn fail_flushes(&self, fail: bool) {
        self.lock().flush_fails = fail;
    }

    /// Cuts the power if it is not off, and puts it on again.
    pub(crate) fn power_cycle(&self, chance: &mut Chance) {
        let mut state = self.lock();
        let kept = [0, 3, 50, 97, 100][usize::try_from(chance.below(5)).unwrap()];
        state.files.iter_mut().for_each(|file| file.lose(kept, chance));
        state.cuts += 1;
        (state.fuse, state.off, state.full) = (None, false, false);
    }
}

impl File {
    /// Of what is not flushed, each sector is kept with a chance of `kept` in a hundred.
    fn lose(&mut self, kept: u64, chance: &mut Chance) {
        let mut image = std::mem::take(&mut self.durable);
        for (offset, bytes) in std::mem::take(&mut self.unflushed) {
            for (place, sector) in bytes.chunks(SECTOR).enumerate() {
                if chance.below(100) >= kept {
                    continue;
                }
                let torn = chance.below(20) == 0;
                let length = if torn {
                    usize::try_from(chance.below(sector.len() as u64)).unwrap()
                } else {
                    sector.len()
                };
                let start = offset + place * SECTOR;
                if image.len() < start + length {
                    image.resize(start + length, 0);
                }
                image[start..start + length].copy_from_slice(&sector[..length]);
            }
        }
        self.durable.clone_from(&image);
        self.current = image;
    }
}

/// A connection to a file of a [`Disk`].
#[derive(Debug)]
pub(crate) struct Plug {
    disk: Disk,
    file: usize,
    cuts: u64,
}

impl Plug {
    fn state(&self, changes: bool) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.lock();
        if changes && let Some(left) = state.fuse {
            state.off |= left == 0;
            state.fuse = Some(left.saturating_sub(1));
        }
        if state.off || state.cuts != self.cuts {
            Err(io::Error::other("the power is off"))
        } else {
            Ok(state)
        }
    }
}

impl StorageBackend for Plug {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state(false)?.files[self.file].current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state(false)?;
        let start = usize::try_from(offset).unwrap();
        let bytes = state.files[self.file]
            .current
            .get(start..start + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state(true)?;
        let len = usize::try_from(len).unwrap();
        if state.full && len > state.files[self.file].current.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = &mut state.files[self.file];
        file.current.resize(len, 0);
        // A file system journals lengths: they are kept in their order. What is cut off is gone.
        file.durable.resize(len, 0);
        file.unflushed.retain(|(offset, bytes)| offset + bytes.len() <= len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state(true)?;
        if state.flush_fails {
            return Err(io::Error::other("the flush failed"));
        }
        let file = &mut state.files[self.file];
        for (offset, bytes) in std::mem::take(&mut file.unflushed) {
            file.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state(true)?;
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = usize::try_from(offset).unwrap();
        let file = &mut state.files[self.file];
        let place = file.current.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        place.copy_from_slice(data);
        file.unflushed.push((start, data.to_vec()));
        Ok(())
    }
}

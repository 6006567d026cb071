//! A disk that can lose its power and fill up.
//!
//! What is written and not yet flushed is, after a power cut, there or not by chance: each sector of 512 bytes for itself, some
//! of them torn in the middle. So order among unflushed writes means nothing, as on a real disk.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

const SECTOR: usize = 512;

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What a read sees.
    current: Vec<u8>,
    /// What a power cut leaves for certain.
    durable: Vec<u8>,
    /// Written since: offset and bytes.
    unflushed: Vec<(usize, Vec<u8>)>,
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
        f.debug_struct("State").field("bytes", &self.current.len()).finish_non_exhaustive()
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

    /// A connection to the disk, good until the next power cut.
    pub(crate) fn plug(&self) -> Plug {
        Plug { disk: self.clone(), cuts: self.lock().cuts }
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
        let mut image = std::mem::take(&mut state.durable);
        let kept = [0, 3, 50, 97, 100][usize::try_from(chance.below(5)).unwrap()];
        for (offset, bytes) in std::mem::take(&mut state.unflushed) {
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
        state.durable.clone_from(&image);
        state.current = image;
        state.cuts += 1;
        (state.fuse, state.off, state.full) = (None, false, false);
    }
}

/// A connection to a [`Disk`].
#[derive(Debug)]
pub(crate) struct Plug {
    disk: Disk,
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
        Ok(self.state(false)?.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state(false)?;
        let start = usize::try_from(offset).unwrap();
        let bytes = state.current.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state(true)?;
        let len = usize::try_from(len).unwrap();
        if state.full && len > state.current.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.current.resize(len, 0);
        // A file system journals lengths: they are kept in their order. What is cut off is gone.
        state.durable.resize(len, 0);
        state.unflushed.retain(|(offset, bytes)| offset + bytes.len() <= len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state(true)?;
        if state.flush_fails {
            return Err(io::Error::other("the flush failed"));
        }
        for (offset, bytes) in std::mem::take(&mut state.unflushed) {
            state.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state(true)?;
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = usize::try_from(offset).unwrap();
        let place = state.current.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        place.copy_from_slice(data);
        state.unflushed.push((start, data.to_vec()));
        Ok(())
    }
}

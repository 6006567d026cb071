//! The file of the tables, which gets to the disk in small parts.
//!
//! The database library writes the pages of a commit one after the other and flushes them together at the end: up to hundreds of
//! megabytes that the disk then has before it, and each group of the log, which somebody waits for, behind them. Flushed a
//! little at a time, they leave the log its turn. A flush too many promises nothing and breaks nothing.

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::redb::{BackendError, StorageBackend};

/// Bytes that the disk has before it at most.
const PART: usize = 2 << 20;

/// A file that is flushed whenever so much was written.
#[derive(Debug)]
pub(super) struct Paced<B> {
    file: B,
    written: AtomicUsize,
}

impl<B> Paced<B> {
    pub(super) fn new(file: B) -> Self {
        Self { file, written: AtomicUsize::new(0) }
    }
}

impl<B: StorageBackend> StorageBackend for Paced<B> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.written.store(0, Ordering::Relaxed);
        self.file.sync_data()
    }

    /// Fails as a flush does, which may say once only that something written before is lost.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)?;
        let written = self.written.fetch_add(data.len(), Ordering::Relaxed) + data.len();
        if written < PART { Ok(()) } else { self.sync_data() }
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::redb::backends::InMemoryBackend;

    use super::*;

    /// Counts its flushes.
    #[derive(Debug)]
    struct File(InMemoryBackend, Arc<AtomicUsize>);

    impl StorageBackend for File {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
    }

    #[test]
    fn the_disk_never_has_more_than_a_part_before_it() {
        let flushes = Arc::new(AtomicUsize::new(0));
        let paced = Paced::new(File(InMemoryBackend::new(), flushes.clone()));
        let (page, pages) = ([0; 4096], PART / 4096);
        paced.set_len(page.len() as u64).unwrap();
        let write = |pages| (0..pages).for_each(|_| paced.write(0, &page).unwrap());
        write(pages - 1);
        assert_eq!(flushes.load(Ordering::Relaxed), 0);
        write(1);
        assert_eq!(flushes.load(Ordering::Relaxed), 1);
        write(pages - 1);
        paced.sync_data().unwrap();
        write(pages - 1);
        assert_eq!(flushes.load(Ordering::Relaxed), 2, "a commit begins a new part");
    }
}

//! The log: every group of writes, in order, on disk before anyone is told that it is.
//!
//! Writing a group to the tables costs a page of each that it touches; writing it here costs its bytes and one flush. The tables get
//! what the log holds in large parts, so that a page is written once for many rows. The file has two regions of equal size. One is
//! written; when it is full the other one is, while what the first holds goes into the tables.
//!
//! ```text
//! group   magic "SLOG" | generation u64 | number u64 | length u32 | payload | crc32c u32     (big endian), from a multiple of 512 on
//! ```
//! A generation is one filling of a region; its lowest bit says which. Numbers count groups, over all generations, without a gap. A
//! group is written after the one before is flushed, and in sectors of its own. So a group that is not whole is the last one,
//! and was never acknowledged; with a whole one after it, something acknowledged is damaged.

use std::fmt;

use ::redb::StorageBackend;

use super::Failure;
use super::layers::Layer;
use crate::journal::keys;

const MAGIC: [u8; 4] = *b"SLOG";
const HEADER: usize = 24;
const CHECKSUM: usize = 4;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Bytes looked through at a time for a group where none should be, a multiple of a sector.
const SCANNED: usize = 1 << 20;
/// The file grows by so much, so that most groups change no length.
const GROWTH: u64 = 1 << 20;

/// How far the tables are: all groups of all generations up to `generation`, the last of them `number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) generation: u64,
    pub(super) number: u64,
    /// Bytes of a region. Fixed while it holds anything.
    pub(super) region: u64,
    /// Whether a log may hold what the tables lack.
    pub(super) in_use: bool,
}

impl Mark {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(25);
        for number in [self.generation, self.number, self.region] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.push(u8::from(self.in_use));
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (generation, rest) = keys::number(bytes)?;
        let (number, rest) = keys::number(rest)?;
        let (region, rest) = keys::number(rest)?;
        Some(Self { generation, number, region, in_use: rest == [1] })
    }
}

/// The log of an open store.
pub(super) struct Log {
    file: Box<dyn StorageBackend>,
    length: u64,
    region: u64,
    /// What is written now, and where the next group goes in its region.
    generation: u64,
    place: u64,
    /// The last group.
    number: u64,
    /// The group being written.
    frame: Vec<u8>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("generation", &self.generation)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// What a log held beyond the tables, by generation, with the last group of each; at most two.
pub(super) type Held = Vec<(Mark, Layer)>;

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn io(error: std::io::Error) -> Failure {
    Failure::Io(format!("the log: {error}"))
}

impl Log {
    /// Opens the log in `file` and reads what the tables, which are at `mark`, do not have yet. All of it is flushed: what was only in
    /// the memory of the system when the process ended may be told to someone from now on. A log that is open is never empty.
    pub(super) fn open(file: Box<dyn StorageBackend>, mark: Mark) -> Result<(Self, Held), Failure> {
        let length = file.len().map_err(io)?;
        let (generation, number) = (mark.generation + 1, mark.number);
        let mut log =
            Self { file, length, region: mark.region, generation, place: 0, number, frame: Vec::new() };
        let mut held = Held::new();
        loop {
            let mut layer = Layer::default();
            log.replay(&mut layer)?;
            let mark = Mark { generation: log.generation, number: log.number, ..mark };
            let next = log.generation + 1;
            let follows = log.header(next, 0)?.is_some_and(|(generation, _)| generation == next);
            if !layer.is_empty() || follows {
                held.push((mark, layer));
            }
            if !follows || held.len() == 2 {
                break;
            }
            (log.generation, log.place) = (next, 0);
        }
        log.grow(1)?;
        log.file.sync_data().map_err(io)?;
        Ok((log, held))
    }

    /// Reads the groups of the present generation.
    fn replay(&mut self, layer: &mut Layer) -> Result<(), Failure> {
        while let Some(payload) = self.group()? {
            layer.decode(&payload)?;
            self.number += 1;
            self.place += span(payload.len());
        }
        self.nothing_whole_follows()
    }

    /// The payload of the next group; `None` where there is none, or one that is not whole.
    fn group(&self) -> Result<Option<Vec<u8>>, Failure> {
        let expected = (self.generation, self.number + 1);
        match self.header(self.generation, self.place)? {
            Some(found) if found == expected => self.payload(self.place),
            _ => Ok(None),
        }
    }

    /// Generation and number of the group at `place` of the region of `generation`, whole or not.
    fn header(&self, generation: u64, place: u64) -> Result<Option<(u64, u64)>, Failure> {
        let at = self.offset(generation, place);
        if place + SECTOR as u64 > self.region || at + SECTOR as u64 > self.length {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        self.file.read(at, &mut header).map_err(io)?;
        Ok(names(&header))
    }

    /// The payload of the group at `place` of the present region, if it is whole.
    fn payload(&self, place: u64) -> Result<Option<Vec<u8>>, Failure> {
        let at = self.offset(self.generation, place);
        let mut length = [0; 4];
        self.file.read(at + 20, &mut length).map_err(io)?;
        let length = u32::from_be_bytes(length) as usize;
        if place + span(length) > self.region || at + span(length) > self.length {
            return Ok(None);
        }
        let mut frame = vec![0; HEADER + length + CHECKSUM];
        self.file.read(at, &mut frame).map_err(io)?;
        let checksum = frame.split_off(HEADER + length);
        if crc32c::crc32c(&frame).to_be_bytes() != *checksum {
            return Ok(None);
        }
        Ok(Some(frame.split_off(HEADER)))
    }

    /// The generation ends where a group is missing. A whole group further on was written when that one was flushed.
    fn nothing_whole_follows(&self) -> Result<(), Failure> {
        let written = self.length.saturating_sub(self.offset(self.generation, 0)).min(self.region);
        let mut part = Vec::new();
        for from in (self.place..written).step_by(SCANNED) {
            part.resize(SCANNED.min(usize::try_from(written - from).unwrap_or(SCANNED)), 0);
            self.file.read(self.offset(self.generation, from), &mut part).map_err(io)?;
            for (place, sector) in (from..).step_by(SECTOR).zip(part.chunks_exact(SECTOR)) {
                if let Some((generation, number)) = names(sector)
                    && generation == self.generation
                    && number > self.number + u64::from(place == self.place)
                    && self.payload(place)?.is_some()
                {
                    return Err(Failure::Corrupt(format!(
                        "group {} of the log is damaged or missing, and group {number} after it is there",
                        self.number + 1
                    )));
                }
            }
        }
        Ok(())
    }

    fn offset(&self, generation: u64, place: u64) -> u64 {
        (generation & 1) * self.region + place
    }

    /// Makes `layer` the next group, to be written by [`Log::write`]. Whether a region that is empty can hold it.
    pub(super) fn prepare(&mut self, layer: &Layer) -> bool {
        self.frame.clear();
        self.frame.resize(HEADER, 0);
        layer.encode(&mut self.frame);
        span(self.frame.len() - HEADER) <= self.region && u32::try_from(self.frame.len()).is_ok()
    }

    /// Whether the present region has room for the prepared group.
    pub(super) fn has_room(&self) -> bool {
        self.place + span(self.frame.len() - HEADER) <= self.region
    }

    /// Writes and flushes the prepared group. After an error the log must be opened anew.
    pub(super) fn write(&mut self) -> Result<(), Failure> {
        let length = u32::try_from(self.frame.len() - HEADER).expect("it fits into a region");
        self.frame[..4].copy_from_slice(&MAGIC);
        self.frame[4..12].copy_from_slice(&self.generation.to_be_bytes());
        self.frame[12..20].copy_from_slice(&(self.number + 1).to_be_bytes());
        self.frame[20..24].copy_from_slice(&length.to_be_bytes());
        let checksum = crc32c::crc32c(&self.frame);
        self.frame.extend_from_slice(&checksum.to_be_bytes());
        self.frame.resize(self.frame.len().next_multiple_of(SECTOR), 0);
        let at = self.offset(self.generation, self.place);
        let end = at + self.frame.len() as u64;
        self.grow(end)?;
        self.file.write(at, &self.frame).map_err(io)?;
        self.file.sync_data().map_err(io)?;
        self.place += self.frame.len() as u64;
        self.number += 1;
        Ok(())
    }

    /// Makes the file at least `length` long.
    fn grow(&mut self, length: u64) -> Result<(), Failure> {
        if length > self.length {
            let length = length.next_multiple_of(GROWTH.min(self.region));
            self.file.set_len(length).map_err(io)?;
            self.length = length;
        }
        Ok(())
    }

    /// Throws everything away: the tables have it, durably.
    pub(super) fn clear(self) -> Result<(), Failure> {
        self.file.set_len(0).map_err(io)
    }

    /// Where the log is: what the tables are at once they have all of it.
    pub(super) fn mark(&self) -> Mark {
        Mark { generation: self.generation, number: self.number, region: self.region, in_use: true }
    }

    /// Goes on in the other region, which holds nothing that the tables lack.
    pub(super) fn turn(&mut self) {
        self.generation += 1;
        self.place = 0;
    }

    /// Counts a group that goes straight into the tables: no region holds it.
    pub(super) fn pass(&mut self) {
        self.number += 1;
    }
}

/// Whether there is any group in `file`, whole or not.
pub(super) fn is_written(file: &dyn StorageBackend) -> Result<bool, Failure> {
    let length = file.len().map_err(io)?;
    let mut found = [0; MAGIC.len()];
    for place in (0..length.saturating_sub(SECTOR as u64 - 1)).step_by(SECTOR) {
        file.read(place, &mut found).map_err(io)?;
        if found == MAGIC {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Generation and number in the header that `sector` begins with, if it does with one.
fn names(sector: &[u8]) -> Option<(u64, u64)> {
    let (generation, rest) = keys::number(sector.strip_prefix(&MAGIC)?)?;
    Some((generation, keys::number(rest)?.0))
}

/// Bytes that a group with `payload` bytes takes.
fn span(payload: usize) -> u64 {
    (HEADER + payload + CHECKSUM).next_multiple_of(SECTOR) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::redb::backends::InMemoryBackend;

    use super::*;
    use crate::journal::redb::tables::Name;

    #[derive(Debug, Clone)]
    struct File(Arc<InMemoryBackend>);

    impl StorageBackend for File {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> std::io::Result<()> {
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.0.write(offset, data)
        }
    }

    const REGION: u64 = 4096;

    fn fresh() -> Mark {
        Mark { region: REGION, ..Mark::default() }
    }

    fn row(n: u8) -> Layer {
        let mut layer = Layer::default();
        layer.put(Name::Records, &[n], Some(&[n; 100]));
        layer
    }

    /// Writes groups `numbers`, turning when a region is full.
    fn write(log: &mut Log, numbers: std::ops::RangeInclusive<u8>) {
        for n in numbers {
            assert!(log.prepare(&row(n)));
            if !log.has_room() {
                log.turn();
            }
            log.write().unwrap();
        }
    }

    fn keys(held: &Held) -> Vec<Vec<u8>> {
        held.iter().map(|(_, layer)| layer.written(Name::Records).map(|(key, _)| key[0]).collect()).collect()
    }

    #[test]
    fn what_the_tables_lack_is_read_again_and_nothing_else() {
        let file = File(Arc::new(InMemoryBackend::new()));
        let (mut log, held) = Log::open(Box::new(file.clone()), fresh()).unwrap();
        assert!(held.is_empty());
        write(&mut log, 1..=11); // eight fill a region
        let (log, held) = Log::open(Box::new(file.clone()), fresh()).unwrap();
        assert_eq!(keys(&held), [(1..=8).collect::<Vec<_>>(), (9..=11).collect()]);
        assert_eq!((log.mark().generation, log.mark().number), (2, 11));
        let (mut log, held) = Log::open(Box::new(file.clone()), held[0].0).unwrap();
        assert_eq!(keys(&held), [(9..=11).collect::<Vec<_>>()]);
        write(&mut log, 12..=17);
        let applied = Mark { number: 16, ..held[0].0 };
        let (_, held) = Log::open(Box::new(file), applied).unwrap();
        assert_eq!(keys(&held), [[17]], "generation 3 overwrites the beginning of generation 1");
    }

    #[test]
    fn the_last_group_may_be_torn_and_one_before_it_may_not() {
        let file = File(Arc::new(InMemoryBackend::new()));
        let (mut log, _) = Log::open(Box::new(file.clone()), fresh()).unwrap();
        write(&mut log, 1..=5);
        let at = REGION + 4 * SECTOR as u64 + 60;
        file.write(at, &[0xff; 8]).unwrap();
        let (mut log, held) = Log::open(Box::new(file.clone()), fresh()).unwrap();
        assert_eq!(keys(&held), [[1, 2, 3, 4]]);
        write(&mut log, 5..=6);
        assert_eq!(keys(&Log::open(Box::new(file.clone()), fresh()).unwrap().1), [[1, 2, 3, 4, 5, 6]]);
        for (place, damage) in [(2 * SECTOR as u64 + 60, &[0xff; 8]), (SECTOR as u64, &[0; 8])] {
            let mut was = [0; 8];
            file.read(REGION + place, &mut was).unwrap();
            file.write(REGION + place, damage).unwrap();
            let error = Log::open(Box::new(file.clone()), fresh()).unwrap_err().to_string();
            assert!(error.contains("damaged or missing"), "{error}");
            file.write(REGION + place, &was).unwrap();
        }
    }

    #[test]
    fn a_log_that_begins_after_the_tables_end_is_refused() {
        let file = File(Arc::new(InMemoryBackend::new()));
        let (mut log, _) = Log::open(Box::new(file.clone()), fresh()).unwrap();
        log.pass();
        write(&mut log, 2..=3);
        assert!(Log::open(Box::new(file.clone()), fresh()).is_err(), "group 1 is nowhere");
        let (_, held) = Log::open(Box::new(file), Mark { number: 1, ..fresh() }).unwrap();
        assert_eq!(keys(&held), [[2, 3]]);
    }

    #[test]
    fn a_group_larger_than_a_region_is_told() {
        let (mut log, _) = Log::open(Box::new(InMemoryBackend::new()), fresh()).unwrap();
        let mut layer = Layer::default();
        layer.put(Name::Records, b"k", Some(&[7; 5000]));
        assert!(!log.prepare(&layer));
    }
}

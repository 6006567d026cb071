//! Chance, and what happened: all of the first comes from the seed, and the second is hashed, so that two runs can be compared.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::time::Duration;

/// How much of a trace is kept and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// The last lines are kept.
    Tail,
    /// All lines are kept.
    All,
    /// Every line is shown as it comes.
    Live,
}

/// Lines of a trace that are kept to be shown when a seed fails.
const TAIL: usize = 80;

/// Chance from a seed (splitmix64; Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// A stream of its own for each `use_of`, so that a draw more in one place changes nothing in another.
    pub(crate) fn new(seed: u64, use_of: &str) -> Self {
        Self(fnv(fnv(FNV, &seed.to_le_bytes()), use_of.as_bytes()))
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// A number from `from` to `to`, both possible.
    pub(crate) fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True so many times in a thousand.
    pub(crate) fn per_mille(&mut self, rate: u64) -> bool {
        self.below(1000) < rate
    }

    /// A time from `from` to `to` milliseconds.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.within(from, to))
    }

    /// One of `from`.
    pub(crate) fn one<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a (Fowler, Noll, Vo), gone on from `hash`.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A number that belongs to `text` and `seed`, for choices that must come out the same each time.
pub(crate) fn of(seed: u64, text: &str) -> u64 {
    Chance::new(seed, text).below(u64::MAX)
}

/// What happened in a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    show: Show,
    /// How often each thing happened: a fault that never happens guards nothing.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    pub(crate) fn new(show: Show) -> Self {
        Self { hash: FNV, lines: VecDeque::new(), show, counts: BTreeMap::new() }
    }

    pub(crate) fn line(&mut self, at: u64, what: &str) {
        let line = format!("{:>9}.{:03} {what}", at / 1000, at % 1000);
        self.hash = fnv(self.hash, line.as_bytes());
        if self.show == Show::Live {
            // A closed pipe ends nothing.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        if self.lines.len() == TAIL && self.show != Show::All {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

//! Runs seeds over all cores, and says what they have come to.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::chance::Show;

/// What a run has come to.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// What was not as it must be.
    pub(crate) violation: Option<String>,
    pub(crate) hash: u64,
    /// What happened, the last of it or all.
    pub(crate) lines: Vec<String>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// How long it was in its own time.
    pub(crate) lasted: Duration,
}

/// The runs of a simulation.
pub(crate) struct Runs<B: 'static> {
    /// The name of the test, to say how to repeat a seed.
    pub(crate) test: &'static str,
    /// Seeds where nothing else is said.
    pub(crate) seeds: u64,
    /// Runs one.
    pub(crate) run: fn(u64, Option<B>, Show) -> Report,
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn on_every_core(work: impl Fn() + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

impl<B: Copy + Debug + Send + Sync + 'static> Runs<B> {
    /// Runs `count` seeds from `first` on, until `stop` says that it is enough.
    fn all(&self, first: u64, count: u64, show: Show, stop: impl Fn(&Report) -> bool + Sync) -> Vec<Report> {
        let (next, end) = (AtomicU64::new(first), AtomicU64::new(first + count));
        let reports = Mutex::new(Vec::new());
        on_every_core(|| {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end.load(Ordering::Relaxed) {
                    return;
                }
                let report = (self.run)(seed, None, show);
                if stop(&report) {
                    end.store(0, Ordering::Relaxed);
                }
                reports.lock().unwrap().push(report);
            }
        });
        let mut reports = reports.into_inner().unwrap();
        reports.sort_by_key(|report| report.seed);
        reports
    }

    fn tell(&self, report: &Report) -> String {
        let Report { seed, violation, lines, .. } = report;
        let (lines, test) = (lines.join("\n"), self.test);
        format!(
            "{lines}\n\nseed {seed} fails: {}\nrepeat it with: SIM_SEED={seed} cargo test --test {test} every_seed -- --nocapture",
            violation.as_deref().unwrap_or_default()
        )
    }

    /// Runs the seeds that the environment asks for. In the usual number of them all of `happens` must happen.
    pub(crate) fn keep_every_promise(&self, happens: &[&str]) {
        if let Some(seed) = setting("SIM_SEED") {
            let report = (self.run)(seed, None, Show::Live);
            assert!(report.violation.is_none(), "{}", self.tell(&report));
            return;
        }
        let (first, count) = (setting("SIM_FIRST").unwrap_or(0), setting("SIM_SEEDS").unwrap_or(self.seeds));
        #[expect(
            clippy::disallowed_methods,
            reason = "how fast a simulation runs is measured by the machine"
        )]
        let began = Instant::now();
        let reports = self.all(first, count, Show::Tail, |report| report.violation.is_some());
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for report in &reports {
            report.counts.iter().for_each(|(what, times)| *counts.entry(what).or_default() += times);
        }
        let lasted: Duration = reports.iter().map(|report| report.lasted).sum();
        println!(
            "{} seeds, {:.1} simulated hours in {:.0} s",
            reports.len(),
            lasted.as_secs_f64() / 3600.0,
            began.elapsed().as_secs_f64()
        );
        for (what, times) in &counts {
            println!("{times:>9} {what}");
        }
        if let Some(report) = reports.iter().find(|report| report.violation.is_some()) {
            panic!("{}", self.tell(report));
        }
        let missing: Vec<_> = happens.iter().filter(|what| !counts.contains_key(*what)).collect();
        assert!(count < self.seeds || missing.is_empty(), "in {count} seeds these never happen: {missing:?}");
    }

    /// One seed, one trace.
    pub(crate) fn give_the_same_trace_twice(&self, usual: u64) {
        let (first, count) =
            (setting("SIM_FIRST").unwrap_or(0), setting("SIM_SEEDS").map_or(usual, |seeds| seeds / 10));
        let all = || self.all(first, count, Show::All, |_| false);
        for (one, other) in all().iter().zip(&all()) {
            let seed = one.seed;
            if let Some(place) = one.lines.iter().zip(&other.lines).position(|(one, other)| one != other) {
                let before = one.lines[place.saturating_sub(30)..place].join("\n");
                panic!(
                    "seed {seed}: after\n{before}\ncomes\n{}\nand\n{}",
                    one.lines[place], other.lines[place]
                );
            }
            assert_eq!(one.hash, other.hash, "seed {seed}: one trace is longer");
        }
    }

    /// Each of `bugs` must be found within so many seeds, from its `first` on.
    pub(crate) fn find_every(&self, bugs: &[B], first: impl Fn(B) -> u64 + Sync, within: u64) {
        let next = AtomicUsize::new(0);
        let missed = Mutex::new(Vec::new());
        on_every_core(|| {
            while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let from = first(*bug);
                let found = (from..from + within)
                    .map(|seed| (self.run)(seed, Some(*bug), Show::Tail))
                    .find_map(|report| Some((report.seed, report.violation?)));
                match found {
                    Some((seed, how)) => println!("{bug:?} is found by seed {seed}: {how}"),
                    None => missed.lock().unwrap().push(*bug),
                }
            }
        });
        let missed = missed.into_inner().unwrap();
        assert!(missed.is_empty(), "{within} seeds do not find {missed:?}");
    }
}

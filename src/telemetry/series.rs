//! Series that were counted before on this thread: each is looked up in the registry once, not for every message.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use metrics::{Counter, Histogram};

use super::Metric;

/// Whether there is a registry whose series last as long as the process.
static BEGUN: AtomicBool = AtomicBool::new(false);

thread_local! {
    static COUNTERS: RefCell<Known<Counter>> = RefCell::default();
    static HISTOGRAMS: RefCell<Known<Histogram>> = RefCell::default();
    /// Whether this thread counts into a registry of its own for now.
    static ASIDE: Cell<bool> = const { Cell::new(false) };
}

/// From now on series may be remembered.
pub(super) fn begin() {
    BEGUN.store(true, Ordering::Release);
}

/// Remembers nothing, and uses nothing remembered, while `f` runs.
pub(super) fn aside<T>(f: impl FnOnce() -> T) -> T {
    let before = ASIDE.replace(true);
    let outcome = f();
    ASIDE.set(before);
    outcome
}

pub(super) fn counter(metric: &Metric, values: &[&str], count: impl FnOnce(&Counter)) {
    let find = || metrics::counter!(metric.name, metric.labels(values));
    if remembers() {
        COUNTERS.with_borrow_mut(|known| count(known.get(metric.name, values, find)));
    } else {
        count(&find());
    }
}

pub(super) fn histogram(metric: &Metric, values: &[&str], record: impl FnOnce(&Histogram)) {
    let find = || metrics::histogram!(metric.name, metric.labels(values));
    if remembers() {
        HISTOGRAMS.with_borrow_mut(|known| record(known.get(metric.name, values, find)));
    } else {
        record(&find());
    }
}

fn remembers() -> bool {
    BEGUN.load(Ordering::Acquire) && !ASIDE.get()
}

/// Series by a hash of their name and labels; those of one hash are compared.
struct Known<S> {
    series: HashMap<u64, Vec<One<S>>, RandomState>,
}

/// A metric's name, the values of its labels, and where it is counted.
struct One<S> {
    name: &'static str,
    values: Box<[Box<str>]>,
    series: S,
}

impl<S> Default for Known<S> {
    fn default() -> Self {
        Self { series: HashMap::default() }
    }
}

impl<S> Known<S> {
    fn get(&mut self, name: &'static str, values: &[&str], find: impl FnOnce() -> S) -> &S {
        let mut hash = self.series.hasher().build_hasher();
        name.hash(&mut hash);
        values.hash(&mut hash);
        let alike = self.series.entry(hash.finish()).or_default();
        let same = |one: &One<S>| {
            one.name == name && one.values.iter().map(|value| &**value).eq(values.iter().copied())
        };
        let place = alike.iter().position(same).unwrap_or_else(|| {
            let values = values.iter().map(|value| (*value).into()).collect();
            alike.push(One { name, values, series: find() });
            alike.len() - 1
        });
        &alike[place].series
    }
}

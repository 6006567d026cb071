//! Effects in hand that wait for their turn: a queue for each latency, and whose turn it is.
//!
//! What is urgent goes first. So that nothing waits for ever, each queue lets those below it have one start in [`YIELDS`]; and so that
//! a slow call of what can wait never stands in the way, a quarter of the calls at a time is kept free of it.

use std::collections::VecDeque;

use syncline_actors::class::Latency;

use super::attempt::{Key, Work};

/// One start in so many is for what is less urgent, if anything of it waits.
pub(super) const YIELDS: u32 = 8;

/// Works by latency, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queues: [VecDeque<Work>; Latency::ALL.len()],
    /// Starts of each queue since it last let another go first.
    starts: [u32; Latency::ALL.len()],
}

/// Calls at a time that what can wait may make, of `all`.
pub(super) fn patient_slots(all: usize) -> usize {
    (all - all.div_ceil(4).min(all)).max(1)
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    pub(super) fn len_of(&self, latency: Latency) -> usize {
        self.queues[latency as usize].len()
    }

    /// Whether anything of it may start: what can wait only while it has a slot.
    pub(super) fn has_turn(&self, patient: bool) -> bool {
        Latency::ALL.into_iter().any(|latency| self.may(latency, patient))
    }

    pub(super) fn push_back(&mut self, work: Work) {
        self.queues[work.row.latency as usize].push_back(work);
    }

    pub(super) fn push_front(&mut self, work: Work) {
        self.queues[work.row.latency as usize].push_front(work);
    }

    /// Takes one out, wherever it is.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Work> {
        self.queues.iter_mut().find_map(|queue| {
            let at = queue.iter().position(|work| work.key() == *key)?;
            queue.remove(at)
        })
    }

    /// The next to start; `patient`: whether what can wait has a slot.
    pub(super) fn next(&mut self, patient: bool) -> Option<Work> {
        for latency in Latency::ALL {
            if !self.may(latency, patient) {
                continue;
            }
            let below = Latency::ALL.into_iter().any(|other| other > latency && self.may(other, patient));
            let starts = &mut self.starts[latency as usize];
            *starts = if below { *starts + 1 } else { 0 };
            if *starts >= YIELDS {
                *starts = 0;
                continue;
            }
            return self.queues[latency as usize].pop_front();
        }
        None
    }

    fn may(&self, latency: Latency, patient: bool) -> bool {
        (patient || latency == Latency::Realtime) && !self.queues[latency as usize].is_empty()
    }
}

#[cfg(test)]
mod tests {
    use syncline_actors::decision::Effect;
    use syncline_actors::id::{EffectId, EntityId};
    use syncline_actors::outbox::{OutboxRow, Progress};
    use syncline_actors::time::Timestamp;
    use syncline_actors::value::Value;

    use super::*;

    fn work(latency: Latency, n: u64) -> Work {
        let now = Timestamp(0);
        Work::new(OutboxRow {
            entity: EntityId::new("order", &format!("SO-{n}")).expect("a legal key"),
            effect: Effect {
                id: EffectId { seq: n, n: 0 },
                name: "call".into(),
                connector: "erp".into(),
                operation: "call".into(),
                input: Value::Null,
                undoes: None,
                due: now,
            },
            correlation_id: "".into(),
            traceparent: None,
            since: now,
            progress: Progress {
                due: now,
                attempts: 0,
                uncertain: false,
                called_off: false,
                last: "".into(),
            },
            latency,
        })
    }

    fn order(ready: &mut Ready, patient: bool) -> String {
        std::iter::from_fn(|| ready.next(patient)).map(|work| &work.row.latency.word()[..1]).collect()
    }

    #[test]
    fn what_is_urgent_goes_first_and_nothing_waits_for_ever() {
        let mut ready = Ready::default();
        for n in 0..16 {
            for latency in Latency::ALL {
                ready.push_back(work(latency, n));
            }
        }
        let order = order(&mut ready, true);
        assert!(order.starts_with("rrrrrrrmrrrrrrrmrr"), "{order}");
        assert_eq!(order.len(), 48);
        assert!(order.find('b') < order.rfind('m'), "{order}");
    }

    #[test]
    fn without_a_slot_only_what_is_urgent_goes() {
        let mut ready = Ready::default();
        for n in 0..3 {
            ready.push_back(work(Latency::Batch, n));
            ready.push_back(work(Latency::Realtime, n));
        }
        assert_eq!(order(&mut ready, false), "rrr");
        assert!(!ready.has_turn(false) && ready.has_turn(true));
    }

    #[test]
    fn a_quarter_of_the_calls_is_kept_free() {
        assert_eq!([1, 2, 3, 4, 12, 16].map(patient_slots), [1, 1, 2, 3, 9, 12]);
    }
}

//! The standing balance: what senders were told is in the journal.
//!
//! ```text
//! received = applied + ignored + rejected + quarantined + open + duplicate        for each source, over all nodes
//! ```
//! The store counts each record in the append that writes it, by the node that took the message in, the source, and what became of it: exact,
//! whatever crashes. The node counts what it has answered with success, and which of these were known. At any moment it must not have answered
//! more new messages than the store has records of its: what is missing is lost, and raises an alarm. What it counts is kept every few seconds; a
//! node that crashed begins again with what the store knows, after it has seen that all it had kept is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use syncline_actors::envelope::{Body, Envelope, Event};
use syncline_actors::id::EntityId;
use syncline_actors::outbox::Tally;
use syncline_actors::value::Value;
use tokio::sync::watch;

use super::cluster::Router;
use crate::api;
use crate::clock::SharedClock;
use crate::host::{BALANCE, Lane, label};
use crate::journal::{Error, SharedJournal};
use crate::telemetry::BalanceGauges;

/// Between two checks.
const EVERY: Duration = Duration::from_secs(5);

/// Orders under which nodes keep what they have counted.
pub(super) const KEPT: &str = "balance:";

/// Who tells balances; no source may have this name.
const SOURCE: &str = "schedule";

/// What a node has answered, of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answered {
    /// New messages answered with success.
    new: u64,
    /// Messages that were known.
    duplicate: u64,
}

/// Counts what this node answers.
#[derive(Debug, Default)]
pub(super) struct Till {
    answered: Mutex<BTreeMap<String, Answered>>,
}

impl Till {
    /// A message of `source` was answered with success.
    pub(super) fn count(&self, source: &str, duplicate: bool) {
        let mut all = self.lock();
        let one = all.entry(label(source).to_owned()).or_default();
        if duplicate {
            one.duplicate += 1;
        } else {
            one.new += 1;
        }
    }

    fn read(&self) -> BTreeMap<String, Answered> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Answered>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the store has of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Booked {
    applied: u64,
    ignored: u64,
    rejected: u64,
    quarantined: u64,
    /// Messages that waited for their turn when they came.
    deferred: u64,
    /// Those of them that had it since.
    resumed: u64,
}

impl Booked {
    fn add(&mut self, tally: Tally, count: u64) {
        *match tally {
            Tally::Applied => &mut self.applied,
            Tally::Ignored => &mut self.ignored,
            Tally::Rejected => &mut self.rejected,
            Tally::Quarantined => &mut self.quarantined,
            Tally::Deferred => &mut self.deferred,
            Tally::Resumed => &mut self.resumed,
        } += count;
    }

    /// Records of messages.
    fn records(&self) -> u64 {
        self.applied + self.ignored + self.rejected + self.quarantined + self.deferred
    }
}

/// What the store has, by source, of all nodes or of one.
fn booked(tallies: &BTreeMap<String, u64>, of: Option<&str>) -> BTreeMap<String, Booked> {
    let mut all: BTreeMap<String, Booked> = BTreeMap::new();
    for (key, count) in tallies {
        if let Some((node, source, tally)) = Tally::of_key(key)
            && of.is_none_or(|of| of == node)
        {
            all.entry(source.to_owned()).or_default().add(tally, *count);
        }
    }
    all
}

/// Messages that were answered as new and have no record. Both counts are of one node; the store's was read later.
fn missing(
    answered: &BTreeMap<String, Answered>,
    booked: &BTreeMap<String, Booked>,
) -> BTreeMap<String, u64> {
    let of = |(source, answered): (&String, &Answered)| {
        let records = booked.get(source).map_or(0, Booked::records);
        (source.clone(), answered.new.saturating_sub(records))
    };
    answered.iter().map(of).collect()
}

/// Checks the balance.
#[derive(Debug)]
pub(super) struct Balance {
    pub(super) till: Arc<Till>,
    node: String,
    router: Router,
    journal: SharedJournal,
    clock: SharedClock,
    owners: BTreeMap<String, String>,
    /// Sources that do not balance, and how much is missing.
    off: Mutex<BTreeMap<String, u64>>,
}

impl Balance {
    /// Begins with what the store knows; `owners`: the teams that answer for sources.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn open(
        router: &Router,
        journal: &SharedJournal,
        clock: &SharedClock,
        till: Arc<Till>,
        owners: BTreeMap<String, String>,
    ) -> Result<Arc<Self>, Error> {
        let node = router.host().node().to_string();
        let own = booked(&journal.tallies().await?, Some(&node));
        let kept = kept(&journal.orders().await?).remove(&node).unwrap_or_default();
        let lost = missing(&kept, &own);
        {
            let mut all = till.lock();
            for source in own.keys().chain(kept.keys()) {
                let new = own.get(source).map_or(0, Booked::records);
                let duplicate = kept.get(source).map_or(0, |kept| kept.duplicate);
                all.insert(source.clone(), Answered { new, duplicate });
            }
        }
        let off = lost.into_iter().filter(|(_, missing)| *missing > 0).collect();
        let (router, journal, clock) = (router.clone(), journal.clone(), clock.clone());
        Ok(Arc::new(Self { till, node, router, journal, clock, owners, off: Mutex::new(off) }))
    }

    /// Checks until `stopping`, and once more then.
    pub(super) async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let found: Vec<_> = self.off().into_iter().collect();
        for (source, missing) in found {
            self.tell(&source, missing).await;
        }
        let mut last = None;
        loop {
            let stop = tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => true,
                () = tokio::time::sleep(EVERY) => false,
            };
            match self.check(&mut last).await {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "the balance is checked later"),
            }
            if stop {
                return;
            }
        }
    }

    async fn check(&self, last: &mut Option<BTreeMap<String, Answered>>) -> Result<(), Error> {
        // What was answered is read before what the store has: whatever comes in between is only on the store's side.
        let answered = self.till.read();
        if last.as_ref() == Some(&answered) {
            return Ok(());
        }
        let own = booked(&self.journal.tallies().await?, Some(&self.node));
        for (source, missing) in missing(&answered, &own) {
            let before = self.off().get(&source).copied().unwrap_or(0);
            if missing > before {
                self.lock_off().insert(source.clone(), missing);
                self.tell(&source, missing).await;
            }
        }
        let text = serde_json::to_string(&answered).unwrap_or_default();
        self.journal.order(&format!("{KEPT}{}", self.node), Some(&text)).await?;
        *last = Some(answered);
        Ok(())
    }

    fn lock_off(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn off(&self) -> BTreeMap<String, u64> {
        self.lock_off().clone()
    }

    async fn tell(&self, source: &str, missing: u64) {
        tracing::error!(
            alarm = true,
            source,
            missing,
            "messages were answered with success and are not in the journal"
        );
        let at = self.clock.now();
        let key = format!("{}:{source}:{}", self.node, at.0);
        let Ok(subject) = EntityId::new(BALANCE, &key) else { return };
        let owner = self.owners.get(source).cloned().unwrap_or_default();
        let data = Value::map([
            ("source", Value::from(source)),
            ("node", Value::from(&*self.node)),
            ("owner", Value::from(owner)),
            ("missing", Value::Int(i64::try_from(missing).unwrap_or(i64::MAX))),
        ]);
        let envelope = Envelope {
            id: format!("off:{missing}").into(),
            source: SOURCE.into(),
            correlation_id: subject.to_string().into(),
            subject,
            causation_id: None,
            traceparent: None,
            time: None,
            at,
            remember_ms: Some(60_000),
            body: Body::Event(Event { name: "balance.off".into(), data }),
            evidence: None,
        };
        if let Err(error) = self.router.deliver(envelope, Lane::Inside).await {
            tracing::error!(%error, "the exception about it could not be opened");
        }
    }

    /// The balance of each source over all nodes. Of other nodes it is what they kept, a few seconds old at most.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn sheet(&self) -> Result<BTreeMap<String, api::Balance>, Error> {
        let mut nodes = kept(&self.journal.orders().await?);
        nodes.insert(self.node.clone(), self.till.read());
        let tallies = self.journal.tallies().await?;
        let all = booked(&tallies, None);
        let mut sheet: BTreeMap<String, api::Balance> = BTreeMap::new();
        for (source, booked) in &all {
            let line = sheet.entry(source.clone()).or_default();
            line.applied = booked.applied + booked.resumed;
            line.ignored = booked.ignored;
            line.rejected = booked.rejected;
            line.quarantined = booked.quarantined;
            line.open = booked.deferred.saturating_sub(booked.resumed);
        }
        for (node, answered) in &nodes {
            let own = booked_of(&tallies, node);
            for (source, answered) in answered {
                let line = sheet.entry(source.clone()).or_default();
                let records = own.get(source).map_or(0, Booked::records);
                line.duplicate += answered.duplicate;
                line.received += answered.duplicate + answered.new;
                line.missing += answered.new.saturating_sub(records);
                line.unanswered += records.saturating_sub(answered.new);
            }
        }
        for (source, missing) in self.off() {
            let line = sheet.entry(source).or_default();
            line.missing = line.missing.max(missing);
        }
        Ok(sheet)
    }

    /// What this node adds to the balance: the sums over nodes are those of the cluster.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn gauges(&self) -> Result<BTreeMap<String, BalanceGauges>, Error> {
        let answered = self.till.read();
        let own = booked(&self.journal.tallies().await?, Some(&self.node));
        let off = self.off();
        let of = |(source, answered): (&String, &Answered)| {
            let booked = own.get(source).copied().unwrap_or_default();
            let gauges = BalanceGauges {
                received: answered.new + answered.duplicate,
                duplicate: answered.duplicate,
                applied: booked.applied,
                ignored: booked.ignored,
                rejected: booked.rejected,
                quarantined: booked.quarantined,
                deferred: booked.deferred,
                resumed: booked.resumed,
                missing: answered
                    .new
                    .saturating_sub(booked.records())
                    .max(off.get(source).copied().unwrap_or(0)),
            };
            (source.clone(), gauges)
        };
        Ok(answered.iter().map(of).collect())
    }
}

fn booked_of(tallies: &BTreeMap<String, u64>, node: &str) -> BTreeMap<String, Booked> {
    booked(tallies, Some(node))
}

/// What nodes have kept of their counts.
fn kept(orders: &BTreeMap<String, String>) -> BTreeMap<String, BTreeMap<String, Answered>> {
    let of = |(key, text): (&String, &String)| {
        Some((key.strip_prefix(KEPT)?.to_owned(), serde_json::from_str(text).ok()?))
    };
    orders.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tallies(rows: &[(&str, &str, Tally, u64)]) -> BTreeMap<String, u64> {
        rows.iter().map(|(node, source, tally, count)| (tally.key(node, source), *count)).collect()
    }

    #[test]
    fn what_was_answered_and_is_not_there_is_missing() {
        let stored = tallies(&[
            ("a", "crm", Tally::Applied, 7),
            ("a", "crm", Tally::Deferred, 2),
            ("a", "crm", Tally::Resumed, 1),
            ("b", "crm", Tally::Applied, 5),
        ]);
        let own = booked(&stored, Some("a"));
        let answered = |new| BTreeMap::from([("crm".to_owned(), Answered { new, duplicate: 3 })]);
        assert_eq!(missing(&answered(9), &own)["crm"], 0, "what had its turn is no second message");
        assert_eq!(missing(&answered(8), &own)["crm"], 0, "journaled, and the sender not told yet");
        assert_eq!(missing(&answered(11), &own)["crm"], 2);
        assert_eq!(booked(&stored, None)["crm"].records(), 14);
    }

    #[test]
    fn what_nodes_keep_comes_back() {
        let text =
            serde_json::to_string(&BTreeMap::from([("crm", Answered { new: 4, duplicate: 1 })])).unwrap();
        let orders =
            BTreeMap::from([("balance:a".to_owned(), text), ("connector/erp".to_owned(), "x".to_owned())]);
        assert_eq!(kept(&orders)["a"]["crm"], Answered { new: 4, duplicate: 1 });
    }
}

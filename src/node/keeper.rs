//! What a node does by itself from time to time: forget what may be forgotten, and keep the metrics small.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::SharedClock;
use crate::journal::SharedJournal;
use crate::telemetry::Metrics;

/// Between two rounds.
const EVERY: Duration = Duration::from_mins(1);

/// Goes round until `stop`.
pub(super) async fn keep(
    journal: SharedJournal,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    ended_for: Duration,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        metrics.upkeep();
        let now = clock.now();
        let long_ago = syncline_actors::time::Timestamp(
            now.0 - i64::try_from(ended_for.as_millis()).unwrap_or(i64::MAX),
        );
        match journal.compact(now, long_ago).await {
            Ok(compacted) if compacted.dedup + compacted.records > 0 => {
                tracing::info!(
                    ids = compacted.dedup,
                    records = compacted.records,
                    "forgot what was kept long enough"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the journal could not be compacted; it will be again"),
        }
    }
}

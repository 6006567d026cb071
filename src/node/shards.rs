//! Which shards this node serves: it claims those that are its own to serve and free, and hands over those that are another's.

use std::sync::Arc;
use std::time::Duration;

use syncline_actors::id::ShardId;
use tokio::sync::watch;

use crate::host::Host;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// What becomes free is served, until `stop`. `gained` is called when shards were taken, so that what waits there begins.
pub(super) async fn claim(host: Host, gained: Arc<dyn Fn() + Send + Sync>, mut stop: watch::Receiver<bool>) {
    let all: Vec<ShardId> = ShardId::all().collect();
    loop {
        match host.claim(&all).await {
            Ok(grants) if !grants.is_empty() => {
                tracing::info!(shards = grants.len(), "took shards");
                gained();
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no shards can be taken"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

//! How the node comes to its shards: all are its own, or it is one of a cluster, or it shares a store with nodes that it does not
//! speak with. Of those one works and serves all, and the others wait to take its place.
//!
//! Whoever holds the first shard is the one that works. It claims all the others as they become free; who does not hold it holds
//! nothing for long. So two nodes that start at once never share the shards between them.

use std::sync::Arc;
use std::time::Duration;

use syncline_actors::id::ShardId;
use syncline_actors::placement::Regions;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cluster::{Cluster, Router};
use crate::host::{Error, Host};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// Who holds it works.
const FIRST: ShardId = ShardId(0);

/// How the node comes to its shards.
#[derive(Debug)]
pub(super) enum Shards {
    /// No other node has the store.
    All,
    /// It waits for its turn to work.
    Standby(JoinHandle<()>),
    /// They are shared among the nodes of a cluster.
    Cluster(Arc<Cluster>),
}

impl Shards {
    /// The way to the entities.
    pub(super) fn router(&self, host: &Host, regions: Arc<Regions>) -> Router {
        self.cluster().map_or_else(|| Router::alone(host.clone(), regions), |cluster| cluster.router())
    }

    pub(super) fn cluster(&self) -> Option<&Arc<Cluster>> {
        if let Self::Cluster(cluster) = self { Some(cluster) } else { None }
    }

    /// Takes no more, and is no longer asked.
    pub(super) async fn leave(self, within: Duration) {
        match self {
            Self::All => {}
            Self::Standby(task) => {
                let _ = task.await;
            }
            Self::Cluster(cluster) => cluster.leave(within).await,
        }
    }

    /// Ends at once, as a crash would.
    pub(super) async fn crash(self) {
        match self {
            Self::All => {}
            Self::Standby(task) => task.abort(),
            Self::Cluster(cluster) => cluster.crash().await,
        }
    }
}

/// Works or waits, until `stop`. `gained` is called when shards were taken, so that what waits there begins.
pub(super) async fn work_or_wait(
    host: Host,
    drain_for: Duration,
    gained: Arc<dyn Fn() + Send + Sync>,
    mut stop: watch::Receiver<bool>,
) {
    let mut waiting = false;
    loop {
        match look(&host, drain_for).await {
            Ok(0) => {}
            Ok(taken) => {
                tracing::info!(shards = taken, "took shards");
                gained();
            }
            Err(error) => tracing::warn!(%error, "no shards can be taken"),
        }
        let waits = host.owned().is_empty();
        if waits && !waiting {
            tracing::info!("another node works; this one waits to take its place");
        }
        waiting = waits;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// How many shards were taken.
async fn look(host: &Host, drain_for: Duration) -> Result<usize, Error> {
    let holds_first = || host.owned().iter().any(|grant| grant.shard == FIRST);
    let first = host.claim(&[FIRST]).await?.len();
    if holds_first() {
        let rest: Vec<ShardId> = ShardId::all().skip(1).collect();
        return Ok(first + host.claim(&rest).await?.len());
    }
    let held = host.owned();
    futures::future::join_all(held.iter().map(|grant| host.hand_over(grant.shard, drain_for))).await;
    Ok(0)
}

//! The nodes that share a store, and the store itself.

use std::time::Duration;

use super::client::{Client, To};
use super::output::Output;
use super::{Failure, show};
use crate::api::{self, Acceptance, ClusterOrder};
use crate::journal::redis;

/// Between two looks at a node that drains.
const LOOK_EVERY: Duration = Duration::from_millis(200);

const STEER: &str = "\
Examples:
  syncline cluster status
  syncline cluster drain b --wait 60s --reason 'a new kernel'
  syncline cluster move 17 a --reason 'a closer look'
  syncline cluster pause --reason 'until the rollout is over'
  syncline cluster accept 17 --reason 'the backup of six is all there is'";

#[derive(Debug, clap::Subcommand)]
#[command(after_help = STEER)]
pub(super) enum Cluster {
    /// Which node holds which shards, and what is wrong.
    Status {
        /// End with 1 unless the node that answers could acknowledge a message now, as its /readyz says.
        #[arg(long)]
        ready: bool,
        #[command(flatten)]
        to: To,
    },
    /// Have a node give its shards to the others. It takes none until it is started again, or `undrain`.
    Drain {
        /// The node.
        name: String,
        /// Wait until it holds no shard, at most so long, e.g. `60s`; ends with 1 when it takes longer.
        #[arg(long, value_parser = humantime::parse_duration)]
        wait: Option<Duration>,
        /// Why; stands in the log and in the status.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        to: To,
    },
    /// Have a drained node take shards again.
    Undrain {
        /// The node.
        name: String,
        /// Why; stands in the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        to: To,
    },
    /// Move a shard to a node, and keep it there.
    Move {
        /// The shard, 0 to 255.
        shard: u16,
        /// The node.
        name: String,
        /// Why; stands in the log and in the status.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        to: To,
    },
    /// Let a shard be anywhere again that was moved by hand.
    Unpin {
        /// The shard, 0 to 255.
        shard: u16,
        /// Why; stands in the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        to: To,
    },
    /// Let nothing move for the sake of balance; what nobody holds is still taken.
    Pause {
        /// Why; stands in the log and in the status.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        to: To,
    },
    /// Let shards move again.
    Resume {
        /// Why; stands in the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        to: To,
    },
    /// Accept what a suspect shard has lost, so that it takes messages in again.
    Accept {
        /// The shard, as the status shows it.
        shard: u16,
        /// Why; stands in the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        to: To,
    },
}

impl Cluster {
    pub(super) async fn run(self, out: Output) -> Result<(), Failure> {
        let (order, wait, to) = match self {
            Self::Status { ready: false, to } => return tell(&status(&Client::new(&to)?).await?, out),
            Self::Status { ready: true, to } => {
                let cluster = status(&Client::new(&to)?).await?;
                put(&cluster, out)?;
                return if cluster.not_ready.is_none() { Ok(()) } else { Err(Failure::Told) };
            }
            Self::Accept { shard, reason, to } => {
                let path = ["v1", "cluster", "accept"];
                return tell(&Client::new(&to)?.post(&path, &Acceptance { shard, reason }).await?, out);
            }
            Self::Drain { name: node, wait, reason, to } => (ClusterOrder::Drain { node, reason }, wait, to),
            Self::Undrain { name: node, reason, to } => (ClusterOrder::Undrain { node, reason }, None, to),
            Self::Move { shard, name: node, reason, to } => {
                (ClusterOrder::Move { shard, node, reason }, None, to)
            }
            Self::Unpin { shard, reason, to } => (ClusterOrder::Unpin { shard, reason }, None, to),
            Self::Pause { reason, to } => (ClusterOrder::Pause { reason }, None, to),
            Self::Resume { reason, to } => (ClusterOrder::Resume { reason }, None, to),
        };
        let client = Client::new(&to)?;
        let mut cluster: api::Cluster = client.post(&["v1", "cluster", "orders"], &order).await?;
        if let (ClusterOrder::Drain { node, .. }, Some(wait)) = (&order, wait) {
            cluster = drained(&client, node, wait).await?;
        }
        tell(&cluster, out)
    }
}

async fn status(client: &Client) -> Result<api::Cluster, Failure> {
    client.get(&["v1", "cluster"], &[]).await
}

fn put(cluster: &api::Cluster, out: Output) -> Result<(), Failure> {
    out.value(cluster, |cluster| show::cluster(cluster, out))
}

fn tell(cluster: &api::Cluster, out: Output) -> Result<(), Failure> {
    put(cluster, out)?;
    if cluster.suspect.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

/// Waits until `node` holds no shard.
async fn drained(client: &Client, node: &str, wait: Duration) -> Result<api::Cluster, Failure> {
    let waited = async {
        loop {
            let cluster = status(client).await?;
            if !cluster.holders.iter().any(|holder| holder.node == *node) {
                return Ok(cluster);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(wait, waited).await.unwrap_or_else(|_elapsed| {
        Err(Failure::Failed(format!(
            "{node} still holds shards after {wait:?}: is there another node that takes them? see `syncline cluster status`"
        )))
    })
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Store {
    /// Print the functions that Redis must have, for whoever may load them: `syncline store functions | redis-cli -x FUNCTION LOAD`.
    Functions,
}

impl Store {
    pub(super) fn run(&self, out: Output) -> Result<(), Failure> {
        match self {
            Self::Functions => out.text(redis::Library::default().text()),
        }
    }
}

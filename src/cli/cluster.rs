//! The nodes that share a store, and the store itself.

use super::client::{Client, To};
use super::output::Output;
use super::{Failure, show};
use crate::api::{self, Acceptance};
use crate::journal::redis;

const STEER: &str = "\
Examples:
  syncline cluster status
  syncline cluster accept 17 --reason 'the backup of six is all there is'";

#[derive(Debug, clap::Subcommand)]
#[command(after_help = STEER)]
pub(super) enum Cluster {
    /// Which node holds which shards, and what is wrong.
    Status {
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
        let cluster: api::Cluster = match self {
            Self::Status { to } => Client::new(&to)?.get(&["v1", "cluster"], &[]).await?,
            Self::Accept { shard, reason, to } => {
                Client::new(&to)?.post(&["v1", "cluster", "accept"], &Acceptance { shard, reason }).await?
            }
        };
        out.value(&cluster, |cluster| show::cluster(cluster, out))?;
        if cluster.suspect.is_empty() { Ok(()) } else { Err(Failure::Told) }
    }
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Store {
    /// Print the functions that Redis must have, for whoever may load them: `syncline store functions | redis-cli -x FUNCTION LOAD`.
    Functions,
}

impl Store {
    pub(super) fn run(&self, out: Output) -> Result<(), Failure> {
        match self {
            Self::Functions => out.text(&redis::library()),
        }
    }
}

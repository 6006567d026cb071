//! `syncline source`: who sends to us, and asking a polled one now.

use super::client::{Client, To};
use super::output::Output;
use super::{Failure, show};
use crate::api::{self, Page};

const EXAMPLES: &str = "\
Examples:
  syncline source list
  syncline source poll accounts
  syncline source rewind accounts --cursor '2026-11-01T00:00:00Z'";

#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Source {
    /// All sources, with how polled ones stand.
    List {
        #[command(flatten)]
        to: To,
    },
    /// What came from each source, and what became of it. Ends with 1 when anything is missing.
    Balance {
        #[command(flatten)]
        to: To,
    },
    /// Ask a polled source for what is new, now.
    Poll {
        /// Its name.
        name: String,
        #[command(flatten)]
        to: To,
    },
    /// Read a polled source again from a cursor, or from the beginning. What is known is a duplicate.
    Rewind {
        /// Its name.
        name: String,
        /// Where to begin.
        #[arg(long)]
        cursor: Option<String>,
        #[command(flatten)]
        to: To,
    },
    /// Do not poll it until it is resumed.
    Pause {
        /// Its name.
        name: String,
        #[command(flatten)]
        to: To,
    },
    /// Poll it again.
    Resume {
        /// Its name.
        name: String,
        #[command(flatten)]
        to: To,
    },
}

impl Source {
    pub(super) async fn run(self, out: Output) -> Result<(), Failure> {
        let (name, command, data, to) = match self {
            Self::List { to } => {
                let page: Page<api::Source> = Client::new(&to)?.get(&["v1", "sources"], &[]).await?;
                return out.value(&page, |page| show::sources(&page.items, out));
            }
            Self::Balance { to } => {
                let page: Page<api::Balance> = Client::new(&to)?.get(&["v1", "balance"], &[]).await?;
                out.value(&page, |page| show::balance(&page.items, out))?;
                let whole = page.items.iter().all(|line| line.missing == 0);
                return if whole { Ok(()) } else { Err(Failure::Told) };
            }
            Self::Poll { name, to } => (name, "poll.now", serde_json::json!({}), to),
            Self::Rewind { name, cursor: Some(cursor), to } => {
                (name, "poll.rewind", serde_json::json!({"cursor": cursor}), to)
            }
            Self::Rewind { name, cursor: None, to } => (name, "poll.rewind", serde_json::json!({}), to),
            Self::Pause { name, to } => (name, "poll.pause", serde_json::json!({}), to),
            Self::Resume { name, to } => (name, "poll.resume", serde_json::json!({}), to),
        };
        let client = Client::new(&to)?;
        let known: Page<api::Source> = client.get(&["v1", "sources"], &[]).await?;
        is_polled(&known.items, &name)?;
        let outcome = client.command(&format!("poll/{name}"), command, data).await?;
        out.value(&outcome, |outcome| show::outcome(outcome, out))
    }
}

fn is_polled(known: &[api::Source], name: &str) -> Result<(), Failure> {
    match known.iter().find(|source| source.name == name) {
        Some(source) if source.poll.is_some() => Ok(()),
        Some(_) => Err(Failure::Input(format!("source `{name}` is not polled: its file has no `poll`"))),
        None => {
            let polled: Vec<&str> =
                known.iter().filter(|source| source.poll.is_some()).map(|source| &*source.name).collect();
            let polled = if polled.is_empty() { "none".to_owned() } else { polled.join(", ") };
            Err(Failure::Input(format!("there is no source `{name}`; these are polled: {polled}")))
        }
    }
}

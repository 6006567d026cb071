//! The command line.
//!
//! | exit code | means |
//! | --- | --- |
//! | 0 | done, and what was asked about holds |
//! | 1 | a check failed: a problem found, a test failed, a rejection, books that do not balance |
//! | 2 | wrong usage or input |
//! | 3 | the node cannot be reached, or refuses |
//! | 4 | something is broken here |

mod ask;
mod batch;
mod bulk;
mod client;
mod cluster;
mod demo;
mod diff;
mod differ;
mod journals;
mod json;
mod lint;
mod migrate;
mod output;
mod paint;
mod reconcile;
mod run;
mod sandbox;
mod show;
mod source;
mod test;
mod webhook;
mod whatif;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::load;
use output::Output;

/// Keeps business processes in step across SaaS and ERP systems.
#[derive(Debug, Parser)]
#[command(name = "syncline", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// How results are printed: for people or for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  syncline demo                       see it work: a node, twenty simulated systems, eight kinds of business, and trouble
  syncline lint config                check an integration: every mistake with its place and the fix
  syncline test config                run its given/when/then files, without network or real time
  syncline run                        run a node with the settings of config/syncline.toml
  syncline entity timeline order/SO-1 what happened to an order
  syncline exceptions list            what waits for a person";

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    // For people, and for programs. No documentation: clap would turn one line of every help into eight.
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or Ctrl-C, then drain it.
    Run(run::Args),
    /// Check an integration and print every mistake.
    Lint(lint::Args),
    /// Run an integration's given/when/then files.
    Test(test::Args),
    /// Serve the simulated systems.
    Sandbox(sandbox::Args),
    /// See it work: node, simulated systems, every kind of business, and trouble; then the books.
    Demo(demo::Args),
    /// Send signed webhooks at a steady rate and measure.
    Load(load::Args),
    /// Look at entities.
    #[command(subcommand)]
    Entity(ask::Entity),
    /// Find entities by correlation id, business key or foreign id.
    Search(ask::Search),
    /// Look at and decide what waits for a person.
    #[command(subcommand)]
    Exceptions(ask::Exceptions),
    /// What changes from one integration to another, and whom it breaks.
    Diff(diff::Args),
    /// Run captured journals on new definitions, with systems answering as they did.
    Whatif(whatif::Args),
    /// Have live instances go on under another version of their process; without --apply it only tells.
    Migrate(migrate::Args),
    /// Look at where messages have come away from their schemas.
    Drift(ask::Drift),
    /// Look at sources, and poll one now.
    #[command(subcommand)]
    Source(source::Source),
    /// Bring a file of rows: CSV or one JSON value a line.
    Batch(batch::Args),
    /// Read records back from systems, compare them with their entities, and repair or tell what differs.
    Reconcile(reconcile::Args),
    /// Look at, pause and resume connectors.
    #[command(subcommand)]
    Connectors(ask::Connectors),
    /// How the processes stand: under way, late, completed, and where instances wait longest.
    Processes(ask::Board),
    /// What is left of the error budgets; exit code 1 when one is spent.
    Slo(ask::Board),
    /// Look at the nodes that share a store.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// What the store needs from its administrator.
    #[command(subcommand)]
    Store(cluster::Store),
    /// Sign, verify and send webhooks as a source's sender would.
    #[command(subcommand)]
    Webhook(webhook::Webhook),
}

/// Why a command did not do what was asked, by exit code. What it printed already stays.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// 1: the results say it; nothing more to tell.
    #[error("")]
    Told,
    /// 1: with a sentence.
    #[error("{0}")]
    Failed(String),
    /// 2.
    #[error("{0}")]
    Input(String),
    /// 3.
    #[error("{0}")]
    Refused(String),
    /// 4.
    #[error("{0}")]
    Broken(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Told | Self::Failed(_) => 1,
            Self::Input(_) => 2,
            Self::Refused(_) => 3,
            Self::Broken(_) => 4,
        }
    }
}

/// Does what was typed.
pub async fn run(cli: Cli) -> ExitCode {
    let out = Output::new(cli.output == Format::Json);
    let done = match cli.command {
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Lint(args) => lint::run(&args, out),
        Command::Test(args) => test::run(&args, out),
        Command::Sandbox(args) => sandbox::run(args, out).await,
        Command::Demo(args) => Box::pin(demo::run(args, out)).await,
        Command::Load(args) => load(args, out).await,
        Command::Entity(command) => command.run(out).await,
        Command::Search(command) => command.run(out).await,
        Command::Exceptions(command) => command.run(out).await,
        Command::Diff(args) => Box::pin(diff::run(args, out)).await,
        Command::Whatif(args) => Box::pin(whatif::run(args, out)).await,
        Command::Migrate(args) => Box::pin(migrate::run(args, out)).await,
        Command::Drift(command) => command.run(out).await,
        Command::Source(command) => command.run(out).await,
        Command::Reconcile(args) => reconcile::run(args, out).await,
        Command::Batch(args) => Box::pin(batch::run(args, out)).await,
        Command::Connectors(command) => command.run(out).await,
        Command::Processes(command) => command.processes(out).await,
        Command::Slo(command) => command.slo(out).await,
        Command::Cluster(command) => command.run(out).await,
        Command::Store(command) => command.run(out),
        Command::Webhook(command) => command.run(out).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::problem(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}

async fn load(mut args: load::Args, out: Output) -> Result<(), Failure> {
    args.json |= out.is_json();
    match Box::pin(args.execute()).await {
        Ok(report) => out.text(&report),
        Err(error @ load::Error::Unreachable(..)) => Err(Failure::Refused(error.to_string())),
        Err(error @ load::Error::Worker(_)) => Err(Failure::Broken(error.to_string())),
        Err(error) => Err(Failure::Input(error.to_string())),
    }
}

/// Says that the program itself is broken.
pub fn failed(why: &str) -> ExitCode {
    output::problem(why);
    ExitCode::from(4)
}

/// Where an integration is, unless another directory is named.
fn config_dir() -> PathBuf {
    PathBuf::from("config")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}

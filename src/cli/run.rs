//! `syncline run`.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, output};
use crate::config::{Settings, environment};
use crate::integration::{self, Integration};
use crate::node::{self, Ground, Node};
use crate::telemetry;

const SETTINGS: &str = "\
Settings: the file, then SYNCLINE_<SECTION>__<KEY> in the environment, then --set; the last one counts.
The first signal (SIGTERM, Ctrl-C) drains the node, a second one stops it at once; nothing acknowledged is lost.

Examples:
  syncline run --print-defaults                       every setting with its default, explained
  syncline run --config /etc/syncline.toml
  syncline run --set http.listen=127.0.0.1:8080 --set log.format=json";

#[derive(Debug, clap::Args)]
#[command(after_help = SETTINGS)]
pub(super) struct Args {
    /// A file of settings (TOML); only what differs from the defaults.
    #[arg(long, value_name = "FILE", env = "SYNCLINE_CONFIG")]
    config: Option<PathBuf>,
    /// One setting, e.g. `http.listen=127.0.0.1:8080`. May be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Print every setting with its default, explained, and end.
    #[arg(long)]
    print_defaults: bool,
}

/// Pause between two tries to start.
const START_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    if args.print_defaults {
        return output::Output::new(false).text(crate::config::DEFAULT);
    }
    let settings = Settings::load(args.config.as_deref(), environment(), &args.set)
        .map_err(|error| Failure::Input(error.to_string()))?;
    telemetry::log::start(settings.log).map_err(|error| Failure::Broken(error.to_string()))?;
    // Before the node says that it is ready, so that no signal finds nobody listening.
    let mut signals = Signals::listen()?;
    let node = tokio::select! {
        started = start_when_possible(&settings) => started?,
        () = signals.next() => return Ok(()),
    };
    signals.next().await;
    tokio::select! {
        in_time = node.stop() => {
            if in_time { Ok(()) } else { Err(Failure::Failed("not everything ended in time; nothing acknowledged is lost".to_owned())) }
        }
        () = signals.next() => {
            Err(Failure::Failed("stopped at once; nothing acknowledged is lost".to_owned()))
        }
    }
}

/// Of which kind it is that a node did not start.
fn failure(error: &node::Error) -> Failure {
    if error.is_input() { Failure::Input(error.to_string()) } else { Failure::Broken(error.to_string()) }
}

fn integration(settings: &Settings) -> Result<Integration, Failure> {
    let directory = &settings.node.config_dir;
    let read = integration::load(directory).map_err(|error| Failure::Input(error.to_string()))?;
    let shown = read.problems.render(&read.texts);
    match read.integration {
        None => Err(Failure::Input(format!(
            "the integration in {} has mistakes:\n\n{shown}",
            directory.display()
        ))),
        Some(integration) => {
            if !read.problems.is_empty() {
                tracing::warn!("{}", read.problems);
            }
            Ok(integration)
        }
    }
}

/// Starts, as soon as the store answers. Nothing is listened for until then, so nobody sends here.
async fn start_when_possible(settings: &Settings) -> Result<Node, Failure> {
    loop {
        match start(settings, integration(settings)?).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the store does not answer yet; trying again in a second");
                tokio::time::sleep(START_PAUSE).await;
            }
            started => return started.map_err(|error| failure(&error)),
        }
    }
}

async fn start(settings: &Settings, integration: Integration) -> Result<Node, node::Error> {
    let ground = Ground::of_machine(settings, integration).await?;
    Box::pin(Node::start(settings, ground)).await
}

/// What asks the process to stop, from when it is made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::Broken(format!("cannot listen for signals: {error}")))
        };
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Until the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Until the process is asked to stop.
pub(super) async fn stopped() -> Result<(), Failure> {
    Signals::listen()?.next().await;
    Ok(())
}

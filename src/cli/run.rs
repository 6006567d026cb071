//! `syncline run`.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, output};
use crate::config::{Settings, environment};
use crate::integration::{self, Integration};
use crate::node::{self, Ground, Node};
use crate::telemetry;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Settings: the file, then SYNCLINE_<SECTION>__<KEY> in the environment, then --set. All of them with their\n\
                        defaults: `syncline run --print-defaults`."
)]
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

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    if args.print_defaults {
        return output::Output::new(false).text(crate::config::DEFAULT);
    }
    let settings = Settings::load(args.config.as_deref(), environment(), &args.set)
        .map_err(|error| Failure::Input(error.to_string()))?;
    telemetry::log::start(settings.log).map_err(|error| Failure::Broken(error.to_string()))?;
    let integration = integration(&settings)?;
    let node = start(&settings, integration).await.map_err(|error| Failure::Broken(error.to_string()))?;
    stopped().await?;
    let drain = node.stop();
    tokio::select! {
        in_time = drain => {
            if in_time { Ok(()) } else { Err(Failure::Failed("not everything ended in time; nothing acknowledged is lost".to_owned())) }
        }
        again = stopped() => {
            again?;
            Err(Failure::Failed("stopped at once; nothing acknowledged is lost".to_owned()))
        }
    }
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

async fn start(settings: &Settings, integration: Integration) -> Result<Node, node::Error> {
    let ground = Ground::of_machine(settings, integration)?;
    Box::pin(Node::start(settings, ground)).await
}

/// Until the process is asked to stop.
pub(super) async fn stopped() -> Result<(), Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::Broken(format!("cannot listen for signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

//! `syncline sandbox`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use super::output::Output;
use super::run::stopped;
use crate::clock::SystemClock;
use crate::sandbox::{Sandbox, SandboxConfig};
use crate::secret::SecretRef;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address and port; port 0 for any free one. It has no authentication of its own: loopback only.
    #[arg(long, default_value = "127.0.0.1:7272")]
    listen: SocketAddr,
    /// The node that webhooks go to.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7171")]
    target: String,
    /// Secret that the warehouse signs its webhooks with, by reference. Without one it sends none.
    #[arg(long, value_name = "REF", default_value = "env:SYNCLINE_WAREHOUSE_SECRET")]
    warehouse_secret: SecretRef,
    /// Secret that the sourcing tool signs its webhooks with, by reference. Without one it sends none.
    #[arg(long, value_name = "REF", default_value = "env:SYNCLINE_SOURCING_SECRET")]
    sourcing_secret: SecretRef,
    /// Fixes which calls meet a fault.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long the warehouse takes to ship.
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    shipping_delay: Duration,
}

pub(super) async fn run(args: Args, out: Output) -> Result<(), Failure> {
    if !args.listen.ip().is_loopback() {
        let why = format!(
            "{} is not a loopback address: the sandbox has no authentication; use 127.0.0.1",
            args.listen
        );
        return Err(Failure::Input(why));
    }
    let mut secrets = BTreeMap::new();
    for (source, secret) in [("warehouse", &args.warehouse_secret), ("sourcing", &args.sourcing_secret)] {
        match secret.resolve() {
            Ok(secret) => drop(secrets.insert(source.to_owned(), secret)),
            Err(error) => super::output::note(format_args!("no webhooks of {source} are sent: {error}")),
        }
    }
    let target = (!secrets.is_empty()).then_some(args.target);
    let config = SandboxConfig {
        listen: args.listen,
        seed: args.seed,
        clock: Arc::new(SystemClock),
        target,
        secrets,
        shipping_delay: args.shipping_delay,
    };
    let sandbox = Sandbox::start(config).await.map_err(|error| Failure::Input(error.to_string()))?;
    out.text(&format!(
        "the sandbox serves at http://{}: {}, /ledger, /faults",
        sandbox.address(),
        Sandbox::systems().collect::<Vec<_>>().join(" ")
    ))?;
    stopped().await?;
    sandbox.stop().await;
    Ok(())
}

//! `syncline demo`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Failure;
use super::output::{Output, note};
use super::run::stopped;
use crate::clock::{Clock as _, SystemClock};
use crate::demo::{Books, Plan, Progress, Stage, Tell, play};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End after the books; exit code 0 only if every check held.
    #[arg(long)]
    once: bool,
    /// Orders.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(20..=100_000))]
    orders: u64,
    /// Fixes who is repeated, who overtakes, and which calls fail.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the node keeps its store, a fresh directory of the system's temporary ones unless named.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the node listens.
    #[arg(long, default_value = "127.0.0.1:7171")]
    listen: SocketAddr,
}

pub(super) async fn run(args: Args, out: Output) -> Result<(), Failure> {
    let (directory, ours) = match &args.data {
        Some(directory) => (directory.clone(), false),
        None => (
            std::env::temp_dir().join(format!(
                "syncline-demo-{:x}-{}",
                SystemClock.now().0,
                std::process::id()
            )),
            true,
        ),
    };
    // With `--once` any port will do: it must not fail because something listens.
    let listen = if args.once { SocketAddr::new(args.listen.ip(), 0) } else { args.listen };
    let plan = Plan { orders: args.orders, seed: args.seed, directory: directory.clone(), listen };
    let (tell, bar) = teller(out);
    let played = play(&plan, tell).await;
    bar.finish_and_clear();
    let (stage, books) = played.map_err(|error| Failure::Broken(error.to_string()))?;
    show(&books, out)?;
    if !args.once {
        endpoints(&stage, &directory);
        stopped().await?;
    }
    stage.stop().await;
    if ours {
        remove(&directory);
    }
    if books.balance() { Ok(()) } else { Err(Failure::Failed("the books do not balance".to_owned())) }
}

fn remove(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory) {
        note(format_args!("{} could not be removed: {error}", directory.display()));
    }
}

/// What happens, as lines; on a terminal with a bar that moves.
fn teller(out: Output) -> (Tell, ProgressBar) {
    let bar = if out.is_watched() { ProgressBar::new(1) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{msg:30} {bar:40} {pos}/{len}").expect("the template is right");
    bar.set_style(style);
    let shown = bar.clone();
    let tell: Tell = Arc::new(move |progress| match progress {
        Progress::Scene(text) => shown.suspend(|| note(format_args!("· {text}"))),
        Progress::Acknowledged(done, all) => {
            shown.set_message("webhooks acknowledged");
            shown.set_length(all);
            shown.set_position(done);
        }
        Progress::Settled(done, all) => {
            shown.set_message("orders and suppliers settled");
            shown.set_length(all);
            shown.set_position(done);
        }
    });
    (tell, bar)
}

fn show(books: &Books, out: Output) -> Result<(), Failure> {
    if out.is_json() {
        let counts: serde_json::Map<_, _> =
            books.rows.iter().map(|(what, count)| (what.trim().to_owned(), json!(count))).collect();
        let checks: Vec<_> = books
            .checks
            .iter()
            .map(|check| json!({"what": check.what, "holds": check.holds, "detail": check.detail}))
            .collect();
        return out.value(&json!({"counts": counts, "checks": checks, "balance": books.balance()}), |_| {
            String::new()
        });
    }
    let counts = out.table(
        &["counted", ""],
        books.rows.iter().map(|(what, count)| [(*what).to_owned(), format!("{count:>6}")]),
    );
    let holds = |holds| if holds { "holds" } else { "BROKEN" };
    let checks = out.table(
        &["checked", "", ""],
        books
            .checks
            .iter()
            .map(|check| [check.what.to_owned(), holds(check.holds).to_owned(), check.detail.clone()]),
    );
    out.text(&format!("{counts}\n\n{checks}"))
}

fn endpoints(stage: &Stage, directory: &Path) {
    let (node, sandbox) = (stage.node_address(), stage.sandbox_address());
    let to = if node.port() == 7171 { String::new() } else { format!(" --node http://{node}") };
    note(format_args!(
        "\nStill running; Ctrl-C ends it.\n\
         \x20 exceptions   http://{node}/\n\
         \x20 an order     http://{node}/v1/entities/order/SO-000001/timeline\n\
         \x20 a supplier   http://{node}/v1/entities/supplier/SUP-00011/timeline\n\
         \x20 metrics      http://{node}/metrics\n\
         \x20 ledger       http://{sandbox}/ledger/summary\n\
         \x20 faults       http://{sandbox}/faults\n\
         \x20 store        {}\n\
         \n  Try: syncline exceptions list{to}\n\
         \x20      syncline entity timeline order/SO-000001{to}",
        directory.display()
    ));
}

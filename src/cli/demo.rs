//! `syncline demo`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Failure;
use super::output::{Output, note};
use super::run::stopped;
use crate::clock::{Clock as _, SystemClock};
use crate::demo::{Books, Plan, Progress, Stage, Standing, Tell, play};

/// So many of the places where a check does not hold are named.
const NAMED_MAX: usize = 5;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End after the books; exit code 0 only if every check held.
    #[arg(long)]
    once: bool,
    /// Orders. Of every other kind an eighth is played, and every variant once at least.
    #[arg(long, value_name = "COUNT", default_value_t = 300, value_parser = clap::value_parser!(u64).range(20..=100_000))]
    orders: u64,
    /// Instances of every other kind, where it is not to be an eighth.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(16..=100_000))]
    others: Option<u64>,
    /// Fixes who is repeated, and which calls fail.
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
    let plan = Plan {
        orders: args.orders,
        others: args.others.unwrap_or_else(|| Plan::beside(args.orders)),
        kinds: Vec::new(),
        seed: args.seed,
        directory: directory.clone(),
        listen,
    };
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
        Progress::Played(ended, all) => {
            shown.set_message("instances played to their end");
            shown.set_length(all);
            shown.set_position(ended);
        }
    });
    (tell, bar)
}

fn show(books: &Books, out: Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.value(&json(books), |_| String::new());
    }
    let standing = out.table(
        &["played", "", "where they stand"],
        books.standing.iter().map(|standing| {
            [standing.kind.to_owned(), format!("{:>6}", standing.entities()), states(standing)]
        }),
    );
    let counts = out.table(
        &["counted", ""],
        books.counts.iter().map(|(what, count)| [(*what).to_owned(), format!("{count:>6}")]),
    );
    let holds = |holds| if holds { "holds" } else { "BROKEN" };
    let checks = out.table(
        &["checked", "", ""],
        books
            .checks
            .iter()
            .map(|check| [check.what.to_owned(), holds(check.holds()).to_owned(), check.told()]),
    );
    let wrong = wrong(books).join("\n");
    out.text(format!("{standing}\n\n{counts}\n\n{checks}\n{wrong}").trim_end())
}

/// States with most entities first.
fn states(standing: &Standing) -> String {
    let mut states: Vec<_> = standing.states.iter().collect();
    states.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let states = states.into_iter().map(|(state, count)| format!("{count} {state}"));
    states.collect::<Vec<_>>().join(" · ")
}

/// The first places where each broken check does not hold, a line each.
fn wrong(books: &Books) -> Vec<String> {
    let mut lines = Vec::new();
    for check in books.checks.iter().filter(|check| !check.holds()) {
        lines.push(format!("\n{}: BROKEN", check.what));
        lines.extend(check.wrong.iter().take(NAMED_MAX).map(|place| format!("  {place}")));
        if check.wrong.len() > NAMED_MAX {
            lines.push(format!("  and {} more", check.wrong.len() - NAMED_MAX));
        }
    }
    lines
}

fn json(books: &Books) -> serde_json::Value {
    let standing = books.standing.iter().map(|standing| (standing.kind, &standing.states));
    let counts = books.counts.iter().map(|(what, count)| (what.trim(), count));
    let checks = books.checks.iter().map(|check| {
        json!({"what": check.what, "holds": check.holds(), "detail": check.detail, "wrong": check.wrong})
    });
    json!({
        "standing": standing.collect::<BTreeMap<_, _>>(),
        "counts": counts.collect::<BTreeMap<_, _>>(),
        "checks": checks.collect::<Vec<_>>(),
        "balance": books.balance(),
    })
}

fn endpoints(stage: &Stage, directory: &Path) {
    let (node, sandbox) = (stage.node_address(), stage.sandbox_address());
    let to = if node.port() == 7171 { String::new() } else { format!(" --node http://{node}") };
    note(format_args!(
        "\nStill running; Ctrl-C ends it.\n\
         \x20 exceptions   http://{node}/\n\
         \x20 processes    http://{node}/processes\n\
         \x20 an order     http://{node}/v1/entities/order/SO-000001/timeline\n\
         \x20 a supplier   http://{node}/v1/entities/supplier/SUP-00011/timeline\n\
         \x20 a customer   http://{node}/v1/entities/customer/CU-000003\n\
         \x20 an employee  http://{node}/v1/entities/employee/W-000006\n\
         \x20 metrics      http://{node}/metrics\n\
         \x20 ledger       http://{sandbox}/ledger/summary\n\
         \x20 faults       http://{sandbox}/faults\n\
         \x20 store        {}\n\
         \n  Try: syncline exceptions list{to}\n\
         \x20      syncline entity timeline order/SO-000001{to}",
        directory.display()
    ));
}

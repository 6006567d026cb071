//! `syncline reconcile`: reads records back, waits for the end and prints what did not agree.

use std::time::Duration;

use super::client::{Client, To};
use super::output::Output;
use super::{Failure, show};
use crate::api::{Page, ReconcileAsk, Reconciliation};

/// Between two looks at a run.
const LOOK: Duration = Duration::from_millis(300);

/// Runs that others may begin while one waits for its own.
const OTHERS: usize = 20;

/// Runs listed.
const LISTED: &str = "30";

const EXAMPLES: &str = "\
Examples:
  syncline reconcile --dry-run                      all that connectors say, without repairing anything
  syncline reconcile --process order --system erp
  syncline reconcile --list                         what earlier runs have found
It ends with 1 when something does not agree and was not repaired.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only entities of this process.
    #[arg(long)]
    process: Option<String>,
    /// Only this connector.
    #[arg(long)]
    system: Option<String>,
    /// Only look: repair nothing, whatever the policy.
    #[arg(long)]
    dry_run: bool,
    /// Begin, and do not wait for the end.
    #[arg(long)]
    no_wait: bool,
    /// List the newest runs instead.
    #[arg(long, conflicts_with_all = ["process", "system", "dry_run", "no_wait"])]
    list: bool,
    #[command(flatten)]
    to: To,
}

pub(super) async fn run(args: Args, out: Output) -> Result<(), Failure> {
    let client = Client::new(&args.to)?;
    let path = ["v1", "reconciliations"];
    if args.list {
        let page: Page<Reconciliation> = client.get(&path, &[("limit", LISTED)]).await?;
        return out.value(&page, |page| show::reconciliations(&page.items, out));
    }
    let ask = ReconcileAsk { system: args.system, process: args.process, dry_run: args.dry_run };
    let begun: Page<String> = client.post(&path, &ask).await?;
    if args.no_wait {
        return out.value(&begun, |begun| begun.items.join("\n"));
    }
    let newest = (begun.items.len() + OTHERS).to_string();
    let runs = loop {
        let page: Page<Reconciliation> = client.get(&path, &[("limit", &newest)]).await?;
        let ours: Vec<_> = page.items.into_iter().filter(|run| begun.items.contains(&run.id)).collect();
        let over = |run: &Reconciliation| run.ended || run.status == "drifted";
        if ours.len() == begun.items.len() && ours.iter().all(over) {
            break Page { items: ours, next: None };
        }
        tokio::time::sleep(LOOK).await;
    };
    out.value(&runs, |page| show::reconciliations(&page.items, out))?;
    let clean = |run: &Reconciliation| run.unrepaired + run.unread == 0;
    if runs.items.iter().all(clean) { Ok(()) } else { Err(Failure::Told) }
}

//! Many exceptions tried again: counted first, in the order in which they came, no faster than was asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value as Json;

use super::Failure;
use super::client::Client;
use super::lint::plural;
use super::output::Output;
use super::paint::Style;
use crate::api::{Exception, Intervention, Outcome, Page};

/// Exceptions asked for at a time.
const PAGE: &str = "500";

/// Ids and reasons that are told of those that were not taken.
const TOLD_MAX: usize = 20;

/// How often one is tried while the node is busy.
const BUSY_MAX: u32 = 5;

/// Which exceptions.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Which {
    /// All of this class: `quarantine` for messages that were not understood, or any other class.
    #[arg(long)]
    pub(super) class: Option<String>,
    /// Only of this process.
    #[arg(long, requires = "class")]
    kind: Option<String>,
    /// Only messages from this source.
    #[arg(long, requires = "class")]
    source: Option<String>,
    /// Only messages of this type, as the source names it.
    #[arg(long = "type", requires = "class")]
    event_type: Option<String>,
    /// Only count them.
    #[arg(long, requires = "class")]
    dry_run: bool,
    /// At most so many a second.
    #[arg(long, requires = "class", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// At most so many, the oldest first.
    #[arg(long, requires = "class", default_value_t = 100_000)]
    limit: usize,
}

/// What became of them.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// How many there are, by source, type and owner.
    found: BTreeMap<String, u64>,
    matched: usize,
    dry_run: bool,
    taken: u64,
    refused: u64,
    /// The first that were refused, with why.
    why: Vec<(String, String)>,
}

/// Tries all of `which` again.
pub(super) async fn retry(client: &Client, which: &Which, reason: &str, out: Output) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut query = vec![("limit", PAGE)];
        // The messages of the quarantine are entities that hold.
        match which.class.as_deref() {
            Some("quarantine") => query.push(("kind", "quarantine")),
            Some(class) => query.push(("class", class)),
            None => {}
        }
        query.extend(which.kind.as_deref().map(|kind| ("kind", kind)));
        query.extend(after.as_deref().map(|after| ("after", after)));
        let page: Page<Exception> = client.get(&["v1", "exceptions"], &query).await?;
        all.extend(page.items.into_iter().filter(|exception| which.is_meant(exception)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    all.sort_by(|a, b| (&a.opened_at, &a.id).cmp(&(&b.opened_at, &b.id)));
    all.truncate(which.limit);
    let mut report = Report { matched: all.len(), dry_run: which.dry_run, ..Report::default() };
    for exception in &all {
        *report.found.entry(group(exception)).or_default() += 1;
    }
    if !which.dry_run {
        go(client, which, reason, &all, &mut report).await?;
    }
    out.value(&report, |report| shown(report, out))?;
    if report.refused > 0 { Err(Failure::Told) } else { Ok(()) }
}

impl Which {
    fn is_meant(&self, exception: &Exception) -> bool {
        let about = about(exception);
        let fits = |wanted: &Option<String>, key: &str| {
            wanted.as_deref().is_none_or(|wanted| about.get(key).and_then(Json::as_str) == Some(wanted))
        };
        fits(&self.source, "source") && fits(&self.event_type, "type")
    }
}

/// What a message in quarantine says of itself.
fn about(exception: &Exception) -> Json {
    let detail: Json = serde_json::from_str(exception.detail.get()).unwrap_or_default();
    detail.get("missing").cloned().unwrap_or_default()
}

fn group(exception: &Exception) -> String {
    let about = about(exception);
    let text = |key: &str| about.get(key).and_then(Json::as_str).unwrap_or_default();
    let kind = exception.entity.split('/').next().unwrap_or_default();
    let parts = [kind, &exception.class, text("source"), text("type")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

async fn go(
    client: &Client,
    which: &Which,
    reason: &str,
    all: &[Exception],
    report: &mut Report,
) -> Result<(), Failure> {
    let mut pace = tokio::time::interval(Duration::from_secs(1) / which.rate);
    for exception in all {
        pace.tick().await;
        match one(client, &exception.id, reason).await {
            Ok(outcome) if outcome.verdict != "rejected" => report.taken += 1,
            Ok(outcome) => report.refuse(&exception.id, outcome.problem.unwrap_or_default()),
            // What is still not understood, or was decided by somebody else meanwhile, stops no other.
            Err(Failure::Failed(why) | Failure::Input(why)) => report.refuse(&exception.id, why),
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// One, again while the node is busy.
async fn one(client: &Client, id: &str, reason: &str) -> Result<Outcome, Failure> {
    let mut tries = 0;
    loop {
        let ask = Intervention { id: id.to_owned(), reason: reason.to_owned(), set: None, result: None };
        match client.post(&["v1", "exceptions", "retry"], &ask).await {
            Err(Failure::Refused(_)) if tries < BUSY_MAX => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(200) * tries).await;
            }
            answer => return answer,
        }
    }
}

impl Report {
    fn refuse(&mut self, id: &str, why: String) {
        self.refused += 1;
        if self.why.len() < TOLD_MAX {
            self.why.push((id.to_owned(), why));
        }
    }
}

fn shown(report: &Report, out: Output) -> String {
    if report.matched == 0 {
        return "nothing of it waits".to_owned();
    }
    let rows = report.found.iter().map(|(what, count)| [what.clone(), count.to_string()]);
    let mut text = out.table(&["what", "count"], rows);
    text.push_str("\n\n");
    if report.dry_run {
        let _ = write!(text, "{} would be tried again; without --dry-run they are", report.matched);
        return text;
    }
    for (id, why) in &report.why {
        let _ = writeln!(text, "{}  {why}", out.paint(Style::Bold, id));
    }
    let tally = format!(
        "{} taken, {} refused",
        plural(usize::try_from(report.taken).unwrap_or(0), "exception"),
        report.refused
    );
    text.push_str(&out.paint(if report.refused == 0 { Style::Good } else { Style::Odd }, &tally));
    text
}

//! `syncline diff`: what changes from one integration to another, whom it touches, and which live instances.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Failure;
use super::journals::{From, Journals};
use super::output::Output;
use super::paint::Style;
use crate::integration::{self, Difference, Files, Integration, difference};

/// Ids that are told of instances of one version in one state.
const IDS_MAX: usize = 3;

const EXAMPLES: &str = "\
Examples:
  syncline diff config new/config                           what changes; ends with 1 if it breaks somebody
  syncline diff config new/config --live                    and which live instances of the node at --node it is about
  syncline diff config new/config --live --store ./data -o json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The integration as it is.
    old: PathBuf,
    /// The integration as it is to be.
    new: PathBuf,
    /// Look for live instances too.
    #[arg(long)]
    live: bool,
    /// Look at so many entities of each process at most.
    #[arg(long, default_value_t = 10_000)]
    limit: u64,
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Serialize)]
struct Report {
    breaking: bool,
    #[serde(flatten)]
    difference: Difference,
    /// Live instances of the processes that change, by process, version and state.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<BTreeMap<String, Live>>,
    /// Whether there were more than were looked at.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    more: BTreeSet<String>,
}

#[derive(Debug, Default, Serialize)]
struct Live {
    count: u64,
    ids: Vec<String>,
}

pub(super) async fn run(args: Args, out: Output) -> Result<(), Failure> {
    let (old, new) = (load(&args.old)?, load(&args.new)?);
    let difference = difference((&old.0, &old.1), (&new.0, &new.1));
    let mut report =
        Report { breaking: difference.is_breaking(), difference, live: None, more: BTreeSet::new() };
    if args.live {
        let journals = Journals::open(&args.from)?;
        report.live = Some(live(&journals, &report.difference, args.limit, &mut report.more).await?);
        journals.close().await;
    }
    out.value(&report, |report| shown(report, out))?;
    if report.breaking { Err(Failure::Told) } else { Ok(()) }
}

fn load(directory: &Path) -> Result<(Integration, Files), Failure> {
    let input = |error: integration::Error| Failure::Input(error.to_string());
    let files = integration::files(directory).map_err(input)?;
    let read = integration::read(&files, &directory.to_string_lossy());
    let shown = read.problems.render(&read.texts);
    match read.integration {
        Some(integration) => Ok((integration, files)),
        None => Err(Failure::Input(format!("{} has mistakes:\n\n{shown}", directory.display()))),
    }
}

/// Live instances of the processes that change, whatever version they are on.
async fn live(
    journals: &Journals,
    difference: &Difference,
    limit: u64,
    more: &mut BTreeSet<String>,
) -> Result<BTreeMap<String, Live>, Failure> {
    let mut found: BTreeMap<String, Live> = BTreeMap::new();
    for kind in difference.processes.keys() {
        let (mut after, mut seen) = (None::<String>, 0);
        loop {
            let (listed, next) = journals.list(kind, after.as_deref()).await?;
            for entity in listed.into_iter().filter(|entity| !entity.has_ended) {
                if seen == limit {
                    more.insert(kind.clone());
                    break;
                }
                seen += 1;
                let Some(version) = journals.version(&entity.id).await? else { continue };
                let live = found.entry(format!("{kind} {version} {}", entity.status)).or_default();
                live.count += 1;
                if live.ids.len() < IDS_MAX {
                    live.ids.push(entity.id);
                }
            }
            after = next;
            if after.is_none() || more.contains(kind) {
                break;
            }
        }
    }
    Ok(found)
}

fn shown(report: &Report, out: Output) -> String {
    if report.difference.changes.is_empty() {
        return out.paint(Style::Good, "nothing changes");
    }
    let mut text = String::new();
    for change in &report.difference.changes {
        let word = if change.breaking {
            out.paint(Style::Bad, "breaks ")
        } else {
            out.paint(Style::Good, "changes")
        };
        let name = out.paint(Style::Bold, &format!("{} {}", change.what, change.name));
        let _ = writeln!(text, "{word}  {name}: {}", change.change);
        if !change.systems.is_empty() {
            let systems = change.systems.iter().cloned().collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "         {}", out.paint(Style::Dim, &format!("systems: {systems}")));
        }
    }
    if let Some(live) = &report.live {
        text.push('\n');
        let rows = live.iter().map(|(what, live)| [what.clone(), live.count.to_string(), live.ids.join(" ")]);
        text.push_str(&out.table(&["live instances", "count", "e.g."], rows));
        text.push('\n');
    }
    for kind in &report.more {
        let _ = writeln!(text, "there are more of {kind} than were looked at: raise --limit");
    }
    let count = report.difference.changes.iter().filter(|change| change.breaking).count();
    let summary = match count {
        0 => out.paint(Style::Good, "nobody is broken"),
        1 => out.paint(Style::Bad, "1 change breaks somebody"),
        n => out.paint(Style::Bad, &format!("{n} changes break somebody")),
    };
    format!("{text}\n{summary}")
}

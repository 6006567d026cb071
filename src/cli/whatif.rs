//! `syncline whatif`: captured journals under a new definition, with systems answering as they did.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use syncline_actors::process::{Catalog, Process};
use syncline_actors::whatif::{self, Group, Tally};

use super::Failure;
use super::journals::{From, Journals};
use super::lint::plural;
use super::output::Output;
use super::paint::Style;
use crate::integration;

const EXAMPLES: &str = "\
Examples:
  syncline whatif --definitions new/config                        against the node at --node
  syncline whatif --definitions new/config --process order --store ./data --limit 5000 -o json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The integration whose newest definitions are tried.
    #[arg(long, value_name = "DIR")]
    definitions: PathBuf,
    /// Only this process.
    #[arg(long)]
    process: Option<String>,
    /// At most so many entities of each process, in order of their keys.
    #[arg(long, default_value_t = 10_000)]
    limit: u64,
    #[command(flatten)]
    from: From,
}

pub(super) async fn run(args: Args, out: Output) -> Result<(), Failure> {
    let read = integration::load(&args.definitions).map_err(|error| Failure::Input(error.to_string()))?;
    let Some(integration) = read.integration else {
        let shown = read.problems.render(&read.texts);
        return Err(Failure::Input(format!(
            "the definitions have mistakes, so nothing was tried:\n\n{shown}"
        )));
    };
    let processes = newest(&integration.catalog, args.process.as_deref())?;
    let journals = Journals::open(&args.from)?;
    let mut tallies = BTreeMap::new();
    for process in processes {
        tallies.insert(
            format!("{} {}", process.name, process.version),
            tally(&journals, process, args.limit).await?,
        );
    }
    journals.close().await;
    out.value(&tallies, |tallies| shown(tallies, out))?;
    if tallies.values().any(|tally| tally.different > 0) { Err(Failure::Told) } else { Ok(()) }
}

/// The newest definition of each process, or of the one that is named.
fn newest<'c>(catalog: &'c Catalog, name: Option<&str>) -> Result<Vec<&'c Process>, Failure> {
    let mut names: Vec<&str> = catalog.iter().map(|process| &*process.name).collect();
    names.dedup();
    if let Some(name) = name {
        if !names.contains(&name) {
            return Err(Failure::Input(format!(
                "there is no process `{name}`; there are: {}",
                names.join(", ")
            )));
        }
        names = vec![name];
    }
    Ok(names.into_iter().filter_map(|name| catalog.newest(name)).map(|process| &**process).collect())
}

async fn tally(journals: &Journals, process: &Process, limit: u64) -> Result<Tally, Failure> {
    let (mut tally, mut after, mut seen) = (Tally::default(), None::<String>, 0);
    loop {
        let (listed, next) = journals.list(&process.name, after.as_deref()).await?;
        for entity in listed {
            if seen == limit {
                break;
            }
            seen += 1;
            match journals.records(&entity.id).await? {
                Some(records) => tally.add(&entity.id, whatif::run(process, &records)),
                None => tally.skip("its journal is too long"),
            }
        }
        after = next;
        if after.is_none() || seen == limit {
            tally.sort();
            return Ok(tally);
        }
    }
}

fn shown(tallies: &BTreeMap<String, Tally>, out: Output) -> String {
    tallies.iter().map(|(name, tally)| one(name, tally, out)).collect::<Vec<_>>().join("\n\n")
}

fn one(name: &str, tally: &Tally, out: Output) -> String {
    let count = usize::try_from(tally.run).unwrap_or(usize::MAX);
    let entities = if count == 1 { "1 entity".to_owned() } else { format!("{count} entities") };
    let verdict = format!("{entities}: {} end as they did, {} otherwise", tally.same, tally.different);
    let style = if tally.different == 0 { Style::Good } else { Style::Odd };
    let mut text = format!("{}  {}", out.paint(Style::Bold, name), out.paint(style, &verdict));
    for (why, count) in &tally.skipped {
        let _ =
            write!(text, "\n  {} not tried: {why}", plural(usize::try_from(*count).unwrap_or(0), "journal"));
    }
    for group in &tally.groups {
        text.push_str("\n\n");
        text.push_str(&of_group(group, out));
    }
    if tally.ungrouped > 0 {
        let _ = write!(text, "\n\n{} more for other causes", tally.ungrouped);
    }
    text
}

fn of_group(group: &Group, out: Output) -> String {
    let count = out.paint(Style::Bold, &format!("{:>6}", group.count));
    let mut text = format!("{count}  at {}", group.cause);
    for effect in &group.effect {
        let _ = write!(text, "\n          {effect}");
    }
    for (field, (old, new)) in group.example.fields.iter().take(3) {
        let _ =
            write!(text, "\n          {}", out.paint(Style::Dim, &format!("e.g. {field}: {old} → {new}")));
    }
    let more = if group.count > group.entities.len() as u64 { " …" } else { "" };
    let _ = write!(text, "\n          {}{more}", out.paint(Style::Dim, &group.entities.join(" ")));
    text
}

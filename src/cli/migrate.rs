//! `syncline migrate`: live instances go on under another version, one by one, each through its own mailbox.
//!
//! It can be stopped and started again: an instance that is on the new version already is left alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use syncline_actors::envelope;
use syncline_actors::migration::{Instance, Plan, Stays};
use syncline_actors::process::Process;
use syncline_actors::value::Value;

use super::client::{Client, To};
use super::output::Output;
use super::paint::Style;
use super::{Failure, config_dir};
use crate::api::{self, Entity, Head, Outcome, Page};
use crate::clock::{Clock as _, SystemClock};
use crate::integration;

/// Largest set of fields, in bytes of JSON.
const FIELDS_MAX: usize = 16 << 20;
/// Entities asked for at a time.
const PAGE: &str = "500";
/// Ids that are told with one reason.
const IDS_MAX: usize = 5;
/// How often an instance is looked at again that moved on meanwhile.
const AGAIN_MAX: u32 = 3;

const EXAMPLES: &str = "\
Examples:
  syncline migrate order.1-2                      what would become of each instance, and why some stay
  syncline migrate order.1-2 --apply --reason 'version 2 has the credit check' --rate 50";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The mapping: `<process>.<from>-<to>`, of config/migrations/.
    plan: String,
    /// The integration that has the mapping and both definitions.
    #[arg(long, default_value_os_t = config_dir())]
    config: PathBuf,
    /// Do it.
    #[arg(long, requires = "reason")]
    apply: bool,
    /// Why; stands in the journal of each instance for ever.
    #[arg(long)]
    reason: Option<String>,
    /// At most so many instances a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Begin after this key.
    #[arg(long)]
    after: Option<String>,
    /// Look at so many live instances at most.
    #[arg(long, default_value_t = 1_000_000)]
    limit: usize,
    #[command(flatten)]
    to: To,
}

/// What became, or would become, of the instances.
#[derive(Debug, Default, Serialize)]
struct Report {
    process: String,
    from: u32,
    to: u32,
    applied: bool,
    /// Live instances that were looked at.
    seen: u64,
    /// Those that are on another version.
    elsewhere: u64,
    /// Those that go, by where from and where to.
    moved: BTreeMap<String, u64>,
    /// Those that stay, by state and reason.
    stay: BTreeMap<String, Staying>,
    /// Where to go on (`--after`), if there is more.
    next: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Staying {
    count: u64,
    ids: Vec<String>,
}

/// What is asked of the node, and how.
struct Work<'w> {
    client: Client,
    plan: &'w Plan,
    new: Arc<Process>,
    args: &'w Args,
}

pub(super) async fn run(args: Args, out: Output) -> Result<(), Failure> {
    let read = integration::load(&args.config).map_err(|error| Failure::Input(error.to_string()))?;
    let Some(integration) = read.integration else {
        let shown = read.problems.render(&read.texts);
        return Err(Failure::Input(format!(
            "the integration has mistakes, so nothing was migrated:\n\n{shown}"
        )));
    };
    let Some(plan) = integration.migrations.get(&args.plan) else {
        let names = integration.migrations.keys().cloned().collect::<Vec<_>>().join(", ");
        let there =
            if names.is_empty() { "there is none yet".to_owned() } else { format!("there are: {names}") };
        let at = args.config.display();
        return Err(Failure::Input(format!("{at}/migrations has no `{}`; {there}", args.plan)));
    };
    let new = integration.catalog.version(&plan.process.value, plan.to.value).cloned();
    let new =
        new.ok_or_else(|| Failure::Broken("a plan without its definition passed the check".to_owned()))?;
    let work = Work { client: Client::new(&args.to)?, plan, new, args: &args };
    let report = work.all().await?;
    let is_stuck = report.stay.keys().any(|why| !why.ends_with(" on the old version"));
    out.value(&report, |report| shown(report, out))?;
    if is_stuck { Err(Failure::Told) } else { Ok(()) }
}

impl Work<'_> {
    async fn all(&self) -> Result<Report, Failure> {
        let kind = &self.plan.process.value;
        let mut report = Report {
            process: kind.clone(),
            from: self.plan.from.value,
            to: self.plan.to.value,
            applied: self.args.apply,
            ..Report::default()
        };
        let mut pace = tokio::time::interval(Duration::from_secs(1) / self.args.rate);
        let mut after = self.args.after.clone();
        loop {
            let mut query = vec![("limit", PAGE)];
            query.extend(after.as_deref().map(|after| ("after", after)));
            let page: Page<Head> = self.client.get(&["v1", "entities", kind], &query).await?;
            for head in page.items.iter().filter(|head| !head.ended) {
                if report.seen >= self.args.limit as u64 {
                    report.next = after;
                    return Ok(report);
                }
                report.seen += 1;
                if self.args.apply {
                    pace.tick().await;
                }
                self.one(&head.id, &mut report).await?;
                after = head.id.split_once('/').map(|(_, key)| key.to_owned());
            }
            let Some(next) = page.next else { return Ok(report) };
            after = Some(next);
        }
    }

    async fn one(&self, id: &str, report: &mut Report) -> Result<(), Failure> {
        let key = id.split_once('/').map_or(id, |(_, key)| key);
        for again in 0.. {
            let path = ["v1", "entities", &self.plan.process.value, key];
            let entity: Entity = self.client.get(&path, &[]).await?;
            if entity.ending.is_some() || entity.version != self.plan.from.value {
                report.elsewhere += 1;
                return Ok(());
            }
            let migration =
                match self.plan.of(&instance(&entity, key)?, &self.new, &SystemClock.now().to_string()) {
                    Ok(migration) => migration,
                    Err(why @ (Stays::OnPurpose(_) | Stays::NotCovered(_))) => {
                        report.stays(&why.to_string(), id);
                        return Ok(());
                    }
                    Err(why) => {
                        report.stays(&format!("{}: {why}", entity.status), id);
                        return Ok(());
                    }
                };
            let target = migration.state.to_string();
            match self.ask(id, migration).await {
                Ok(_) => {
                    *report.moved.entry(format!("{} → {target}", entity.status)).or_default() += 1;
                    return Ok(());
                }
                Err(Failure::Failed(why)) if why.contains("it has moved on") && again < AGAIN_MAX => {}
                Err(Failure::Failed(why) | Failure::Input(why)) => {
                    let why = why.trim_start_matches("The entity rejected it: ");
                    report.stays(&format!("{}: {why}", entity.status), id);
                    return Ok(());
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    async fn ask(&self, id: &str, migration: envelope::Migration) -> Result<Outcome, Failure> {
        let ask = api::Migration {
            entity: id.to_owned(),
            from: migration.from,
            to: migration.to,
            at: migration.at,
            state: migration.state.to_string(),
            fields: api::raw(&migration.fields),
            enter: migration.enter,
            restart_timers: migration.restart_timers,
            with_pending: migration.with_pending,
            dry_run: !self.args.apply,
            reason: self.args.reason.clone().unwrap_or_else(|| "a dry run".to_owned()),
        };
        self.client.post(&["v1", "migrations"], &ask).await
    }
}

fn instance(entity: &Entity, key: &str) -> Result<Instance, Failure> {
    let fields = Value::from_json(entity.fields.get().as_bytes(), FIELDS_MAX)
        .map_err(|error| Failure::Broken(format!("the fields of {}: {error}", entity.id)))?;
    Ok(Instance {
        key: key.to_owned(),
        status: entity.status.clone(),
        seq: entity.seq,
        fields,
        began_at: entity.began_at.clone(),
    })
}

impl Report {
    fn stays(&mut self, why: &str, id: &str) {
        let staying = self.stay.entry(why.to_owned()).or_default();
        staying.count += 1;
        if staying.ids.len() < IDS_MAX {
            staying.ids.push(id.to_owned());
        }
    }
}

fn shown(report: &Report, out: Output) -> String {
    let Report { process, from, to, seen, elsewhere, .. } = report;
    let title = format!("{process} {from} → {to}: {seen} live, {elsewhere} of them on other versions");
    let mut text = out.paint(Style::Bold, &title);
    if !report.moved.is_empty() {
        let verb = if report.applied { "gone" } else { "would go" };
        let rows = report.moved.iter().map(|(states, count)| [states.clone(), count.to_string()]);
        text.push_str("\n\n");
        text.push_str(&out.table(&[verb, "instances"], rows));
    }
    if !report.stay.is_empty() {
        let rows = report
            .stay
            .iter()
            .map(|(why, staying)| [why.clone(), staying.count.to_string(), staying.ids.join(" ")]);
        text.push_str("\n\n");
        text.push_str(&out.table(&["stay", "instances", "e.g."], rows));
    }
    if let Some(next) = &report.next {
        let _ = write!(text, "\n\nThere are more: add --after {next}");
    }
    if !report.applied && !report.moved.is_empty() {
        text.push_str("\n\nNothing was changed: this was a dry run. With --apply --reason WHY they go.");
    }
    text
}

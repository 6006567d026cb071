//! What a node is asked about: entities, exceptions, connectors.

use serde_json::value::RawValue;

use super::client::{Client, To};
use super::output::Output;
use super::{Failure, bulk, show};
use crate::api::{self, Intervention, Outcome, Page, Reason};

const LOOK: &str = "\
Examples:
  syncline entity list order --limit 20
  syncline entity get order/SO-1001
  syncline entity timeline order/SO-1001 -o json";

#[derive(Debug, clap::Subcommand)]
#[command(after_help = LOOK)]
pub(super) enum Entity {
    /// An entity as it stands.
    Get {
        /// `kind/key`, e.g. `order/SO-1001`.
        id: String,
        #[command(flatten)]
        to: To,
    },
    /// What happened to an entity, record by record.
    Timeline {
        /// `kind/key`, e.g. `order/SO-1001`.
        id: String,
        /// Begin with this record.
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[command(flatten)]
        to: To,
    },
    /// Entities of a kind.
    List {
        /// The kind, e.g. `order`.
        kind: String,
        /// Begin after this key.
        #[arg(long)]
        after: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        to: To,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Search {
    /// A correlation id, a business key, or an entity's id.
    #[arg(required_unless_present = "correlation")]
    term: Option<String>,
    /// A correlation id.
    #[arg(long, conflicts_with = "term")]
    correlation: Option<String>,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, clap::Args)]
pub(super) struct Board {
    #[command(flatten)]
    to: To,
}

impl Board {
    async fn ask(&self) -> Result<api::Board, Failure> {
        let board: api::Board = Client::new(&self.to)?.get(&["v1", "board"], &[]).await?;
        if !board.silent.is_empty() {
            super::output::note(format!(
                "without the entities of {}, which did not answer",
                board.silent.join(", ")
            ));
        }
        Ok(board)
    }

    pub(super) async fn processes(self, out: Output) -> Result<(), Failure> {
        let board = self.ask().await?;
        out.value(&board.processes, |processes| show::processes(processes, out))
    }

    pub(super) async fn slo(self, out: Output) -> Result<(), Failure> {
        let board = self.ask().await?;
        out.value(&board.slos, |slos| show::slos(slos, out))?;
        let is_spent = board.slos.iter().any(|slo| slo.budget_remaining <= 0.0 && slo.bad > 0);
        if is_spent { Err(Failure::Told) } else { Ok(()) }
    }
}

const DECIDE: &str = "\
Examples:
  syncline exceptions list --class hold
  syncline exceptions retry 'order/SO-1001#32' --reason 'account corrected' --set account_id=ACC-2
  syncline exceptions retry --class quarantine --source crm --dry-run --reason 'mapping mended'
  syncline exceptions resolve 'order/SO-1001#96' --reason 'booked by hand' --result '{\"id\": \"901\"}'";

#[derive(Debug, clap::Subcommand)]
#[command(after_help = DECIDE)]
pub(super) enum Exceptions {
    /// What waits for a person.
    List {
        /// Only of this process.
        #[arg(long)]
        kind: Option<String>,
        /// Only of this class: hold, `dead_letter`, failure, late, mapping, compensation, quarantine or poison.
        #[arg(long)]
        class: Option<String>,
        /// Begin after this exception.
        #[arg(long)]
        after: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        to: To,
    },
    /// Try it again: a hold, an effect, a message in quarantine; or all of a class, counted first.
    Retry {
        /// `kind/key#number`, as the list shows it.
        #[arg(required_unless_present = "class", conflicts_with = "class")]
        id: Option<String>,
        /// Why; stands in the journal for ever.
        #[arg(long)]
        reason: String,
        /// Set a field first: `field=JSON`, or `field=text`. May be repeated.
        #[arg(long, value_name = "FIELD=VALUE", requires = "id")]
        set: Vec<String>,
        #[command(flatten)]
        all: bulk::Which,
        #[command(flatten)]
        to: To,
    },
    /// Close it by hand.
    Resolve {
        /// `kind/key#number`, as the list shows it.
        id: String,
        /// Why; stands in the journal for ever.
        #[arg(long)]
        reason: String,
        /// What the step's result is to be, as JSON.
        #[arg(long, value_name = "JSON")]
        result: Option<String>,
        #[command(flatten)]
        to: To,
    },
}

/// Looks at drift.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  syncline drift\n  syncline drift --source crm -o json")]
pub(super) struct Drift {
    /// Only of this source.
    #[arg(long)]
    source: Option<String>,
    #[command(flatten)]
    to: To,
}

impl Drift {
    pub(super) async fn run(self, out: Output) -> Result<(), Failure> {
        let mut report: api::DriftReport = Client::new(&self.to)?.get(&["v1", "drift"], &[]).await?;
        report.items.retain(|item| self.source.as_ref().is_none_or(|source| *source == item.source));
        out.value(&report, |report| show::drift(report, out))
    }
}

const STEER: &str = "\
Examples:
  syncline connectors list
  syncline connectors pause erp --reason 'maintenance until six'
  syncline connectors resume erp --reason 'maintenance is over'";

#[derive(Debug, clap::Subcommand)]
#[command(after_help = STEER)]
pub(super) enum Connectors {
    /// All connectors with what waits for them.
    List {
        #[command(flatten)]
        to: To,
    },
    /// Call it no more until it is resumed; what is due waits in the store.
    Pause {
        /// Its name.
        name: String,
        /// Why; stands in the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        to: To,
    },
    /// Call it again.
    Resume {
        /// Its name.
        name: String,
        /// Why; stands in the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        to: To,
    },
}

impl Entity {
    pub(super) async fn run(self, out: Output) -> Result<(), Failure> {
        match self {
            Self::Get { id, to } => {
                let (kind, key) = split(&id)?;
                let entity: api::Entity = Client::new(&to)?.get(&["v1", "entities", kind, key], &[]).await?;
                out.value(&entity, |entity| show::entity(entity, out))
            }
            Self::Timeline { id, from, to } => {
                let (kind, key) = split(&id)?;
                let from = from.to_string();
                let path = ["v1", "entities", kind, key, "timeline"];
                let page: Page<api::Entry> =
                    Client::new(&to)?.get(&path, &[("from", &from), ("limit", "1000")]).await?;
                out.value(&page, |page| show::timeline(page, &id, out))
            }
            Self::List { kind, after, limit, to } => {
                let limit = limit.to_string();
                let mut query = vec![("limit", limit.as_str())];
                query.extend(after.as_deref().map(|after| ("after", after)));
                let page: Page<api::Head> = Client::new(&to)?.get(&["v1", "entities", &kind], &query).await?;
                out.value(&page, |page| show::heads(page, out))
            }
        }
    }
}

impl Search {
    pub(super) async fn run(self, out: Output) -> Result<(), Failure> {
        let (parameter, term) = match self.correlation {
            Some(correlation) => ("correlation", correlation),
            None => ("q", self.term.unwrap_or_default()),
        };
        let page: Page<String> = Client::new(&self.to)?.get(&["v1", "search"], &[(parameter, &term)]).await?;
        if page.items.is_empty() && !out.is_json() {
            return Err(Failure::Failed(format!("nothing belongs to `{term}`")));
        }
        out.value(&page, |page| page.items.join("\n"))?;
        if page.items.is_empty() { Err(Failure::Told) } else { Ok(()) }
    }
}

impl Exceptions {
    pub(super) async fn run(self, out: Output) -> Result<(), Failure> {
        match self {
            Self::List { kind, class, after, limit, to } => {
                let limit = limit.to_string();
                let mut query = vec![("limit", limit.as_str())];
                let optional = [("kind", &kind), ("class", &class), ("after", &after)];
                query
                    .extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))));
                let page: Page<api::Exception> = Client::new(&to)?.get(&["v1", "exceptions"], &query).await?;
                out.value(&page, |page| show::exceptions(page, out))
            }
            Self::Retry { id: None, reason, all, to, .. } => {
                Box::pin(bulk::retry(&Client::new(&to)?, &all, &reason, out)).await
            }
            Self::Retry { id: Some(id), reason, set, to, .. } => {
                let set = if set.is_empty() { None } else { Some(fields(&set)?) };
                let ask = Intervention { id, reason, set, result: None };
                decided(&Client::new(&to)?.post(&["v1", "exceptions", "retry"], &ask).await?, out)
            }
            Self::Resolve { id, reason, result, to } => {
                let result = result.map(|text| json(&text)).transpose()?;
                let ask = Intervention { id, reason, set: None, result };
                decided(&Client::new(&to)?.post(&["v1", "exceptions", "resolve"], &ask).await?, out)
            }
        }
    }
}

impl Connectors {
    pub(super) async fn run(self, out: Output) -> Result<(), Failure> {
        let (name, verb, reason, to) = match self {
            Self::List { to } => {
                let page: Page<api::Connector> = Client::new(&to)?.get(&["v1", "connectors"], &[]).await?;
                return out.value(&page, |page| show::connectors(&page.items, out));
            }
            Self::Pause { name, reason, to } => (name, "pause", reason, to),
            Self::Resume { name, reason, to } => (name, "resume", reason, to),
        };
        let path = ["v1", "connectors", &name, verb];
        let connector: api::Connector = Client::new(&to)?.post(&path, &Reason { reason }).await?;
        out.value(&connector, |connector| show::connectors(std::slice::from_ref(connector), out))
    }
}

fn split(id: &str) -> Result<(&str, &str), Failure> {
    id.split_once('/')
        .ok_or_else(|| Failure::Input(format!("`{id}` is no entity: write kind/key, e.g. order/SO-1001")))
}

fn json(text: &str) -> Result<Box<RawValue>, Failure> {
    RawValue::from_string(text.to_owned())
        .map_err(|error| Failure::Input(format!("`{text}` is not JSON: {error}")))
}

/// `field=value` as JSON; what is not JSON is text.
fn fields(set: &[String]) -> Result<Box<RawValue>, Failure> {
    let mut members = Vec::with_capacity(set.len());
    for pair in set {
        let (field, value) = pair
            .split_once('=')
            .filter(|(field, _)| !field.is_empty())
            .ok_or_else(|| Failure::Input(format!("`{pair}` sets nothing: write --set field=value")))?;
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let value =
            if serde_json::from_str::<&RawValue>(value).is_ok() { value.to_owned() } else { text(value) };
        members.push(format!("{}:{value}", text(field)));
    }
    json(&format!("{{{}}}", members.join(",")))
}

fn decided(outcome: &Outcome, out: Output) -> Result<(), Failure> {
    out.value(outcome, |outcome| show::outcome(outcome, out))?;
    if outcome.verdict == "rejected" { Err(Failure::Told) } else { Ok(()) }
}

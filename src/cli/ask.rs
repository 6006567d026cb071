//! What a node is asked about: entities, exceptions, connectors.

use std::fmt::Write as _;

use serde_json::value::RawValue;

use super::Failure;
use super::client::{Client, To};
use super::output::{Output, facts, table};
use crate::api::{self, Intervention, Outcome, Page, Reason};

#[derive(Debug, clap::Subcommand)]
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

#[derive(Debug, clap::Subcommand)]
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
    /// Try it again: a hold, an effect, a message in quarantine.
    Retry {
        /// `kind/key#number`, as the list shows it.
        id: String,
        /// Why; stands in the journal for ever.
        #[arg(long)]
        reason: String,
        /// Set a field first: `field=JSON`, or `field=text`. May be repeated.
        #[arg(long, value_name = "FIELD=VALUE")]
        set: Vec<String>,
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

#[derive(Debug, clap::Subcommand)]
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
                out.value(&entity, show)
            }
            Self::Timeline { id, from, to } => {
                let (kind, key) = split(&id)?;
                let from = from.to_string();
                let path = ["v1", "entities", kind, key, "timeline"];
                let page: Page<api::Entry> =
                    Client::new(&to)?.get(&path, &[("from", &from), ("limit", "1000")]).await?;
                out.value(&page, |page| timeline(page, &id))
            }
            Self::List { kind, after, limit, to } => {
                let limit = limit.to_string();
                let mut query = vec![("limit", limit.as_str())];
                query.extend(after.as_deref().map(|after| ("after", after)));
                let page: Page<api::Head> = Client::new(&to)?.get(&["v1", "entities", &kind], &query).await?;
                out.value(&page, |page| {
                    let rows = page.items.iter().map(|head| {
                        [head.id.clone(), head.status.clone(), head.seq.to_string(), head.updated_at.clone()]
                    });
                    let shown = table(&["entity", "state", "records", "changed"], rows);
                    with_next(shown, page.next.as_deref(), "--after")
                })
            }
        }
    }
}

impl Search {
    pub(super) async fn run(self, out: Output) -> Result<(), Failure> {
        let term = self.term.or(self.correlation).unwrap_or_default();
        let page: Page<String> = Client::new(&self.to)?.get(&["v1", "search"], &[("q", &term)]).await?;
        if page.items.is_empty() && !out.is_json() {
            return Err(Failure::Failed(format!("nothing belongs to `{term}`")));
        }
        out.value(&page, |page| page.items.join("\n"))
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
                out.value(&page, exceptions)
            }
            Self::Retry { id, reason, set, to } => {
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
                return out.value(&page, |page| connectors(&page.items));
            }
            Self::Pause { name, reason, to } => (name, "pause", reason, to),
            Self::Resume { name, reason, to } => (name, "resume", reason, to),
        };
        let path = ["v1", "connectors", &name, verb];
        let connector: api::Connector = Client::new(&to)?.post(&path, &Reason { reason }).await?;
        out.value(&connector, |connector| connectors(std::slice::from_ref(connector)))
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
    out.value(outcome, |outcome| {
        format!(
            "{}: {}, now in state {} (record {})",
            outcome.entity, outcome.verdict, outcome.status, outcome.seq
        )
    })
}

fn show(entity: &api::Entity) -> String {
    let mut shown = facts(&[
        ("entity", entity.id.clone()),
        ("state", format!("{} since {}", entity.status, entity.since)),
        ("ended", entity.ending.clone().unwrap_or_default()),
        ("version", entity.version.to_string()),
        ("records", entity.seq.to_string()),
        ("flow", entity.correlation_id.clone()),
        ("reached", entity.reached.join(", ")),
        ("missed", entity.missed.join(", ")),
        ("waiting", entity.waiting.join(", ")),
        (
            "timers",
            entity.timers.iter().map(|(name, due)| format!("{name} at {due}")).collect::<Vec<_>>().join(", "),
        ),
        ("fields", entity.fields.get().to_owned()),
    ]);
    let mut part = |title: &str, text: String| {
        let _ = write!(shown, "\n\n{title}\n{text}");
    };
    if !entity.exceptions.is_empty() {
        let rows = entity
            .exceptions
            .iter()
            .map(|e| [e.id.clone(), e.class.clone(), e.owner.clone(), e.summary.clone()]);
        part("waits for a person", table(&["exception", "class", "owner", "what"], rows));
    }
    if !entity.pending.is_empty() {
        let rows = entity.pending.iter().map(|effect| {
            let call = format!("{}.{}", effect.connector, effect.operation);
            [
                effect.name.clone(),
                call,
                effect.attempts.to_string(),
                effect.due.clone().unwrap_or_default(),
                effect.last.clone(),
            ]
        });
        part("on its way", table(&["effect", "call", "attempts", "due", "last answer"], rows));
    }
    if !entity.steps.is_empty() {
        let rows = entity.steps.iter().map(|step| {
            let undone = if step.undone { "undone" } else { "" };
            [step.name.clone(), undone.to_owned(), step.result.get().to_owned()]
        });
        part("done", table(&["step", "", "result"], rows));
    }
    shown
}

fn timeline(page: &Page<api::Entry>, id: &str) -> String {
    let rows = page.items.iter().map(|entry| {
        let verdict = match &entry.problem {
            Some(problem) => format!("{}: {problem}", entry.verdict),
            None => entry.verdict.clone(),
        };
        [
            entry.seq.to_string(),
            entry.at.clone(),
            entry.source.clone(),
            entry.name.clone(),
            verdict,
            entry.changes.join("\n"),
        ]
    });
    let shown = table(&["#", "at", "from", "message", "verdict", "what changed"], rows);
    with_next(format!("{id}\n{shown}"), page.next.as_deref(), "--from")
}

fn exceptions(page: &Page<api::Exception>) -> String {
    if page.items.is_empty() {
        return "nothing waits for a person".to_owned();
    }
    let rows = page.items.iter().map(|exception| {
        let since = exception.opened_at.clone().unwrap_or_default();
        [
            exception.id.clone(),
            exception.class.clone(),
            exception.owner.clone(),
            since,
            exception.summary.clone(),
        ]
    });
    with_next(table(&["exception", "class", "owner", "since", "what"], rows), page.next.as_deref(), "--after")
}

fn connectors(items: &[api::Connector]) -> String {
    let rows = items.iter().map(|connector| {
        let state =
            if connector.paused { "paused".to_owned() } else { format!("breaker {}", connector.breaker) };
        let waiting = connector.waiting.map_or_else(|| "?".to_owned(), |waiting| waiting.to_string());
        let oldest = connector.oldest.clone().unwrap_or_default();
        [
            connector.name.clone(),
            connector.title.clone(),
            state,
            connector.in_flight.to_string(),
            waiting,
            oldest,
        ]
    });
    table(&["connector", "system", "state", "calls", "waiting", "oldest"], rows)
}

fn with_next(shown: String, next: Option<&str>, option: &str) -> String {
    match next {
        Some(next) => format!("{shown}\nmore: {option} {next}"),
        None => shown,
    }
}

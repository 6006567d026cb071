//! The books: what the senders were told, what the journal holds, and what the systems applied, held against one another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Error;
use super::stage::Stage;
use super::story::{Case, Story};
use super::suppliers;
use super::{agree, suppliers::Must};
use crate::api::{Entry, ExceptionQuery, Operate};
use crate::host::QUARANTINE;
use crate::sandbox::Snapshot;
use syncline_actors::id::EntityId;

/// Records of one page of a timeline.
const PAGE: usize = 500;

/// What can be undone, and by what.
const UNDONE_BY: [(&str, &str, &str); 4] = [
    ("warehouse", "reserve", "release"),
    ("warehouse", "ship", "recall"),
    ("tax", "calculate", "void"),
    ("erp", "create_sales_order", "close_sales_order"),
];

/// What a complete order has had done exactly once.
const ONCE: [(&str, &str); 4] = [
    ("erp", "create_sales_order"),
    ("erp", "create_invoice"),
    ("warehouse", "ship"),
    ("support", "create_ticket"),
];

/// The result of a demo.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// What is counted, and how much of it.
    pub rows: Vec<(&'static str, u64)>,
    /// What must hold.
    pub checks: Vec<Check>,
}

/// Something that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// Whether it does.
    pub holds: bool,
    /// The figures, or where it does not hold.
    pub detail: String,
}

impl Books {
    /// Whether every check held.
    pub fn balance(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    fn check(&mut self, what: &'static str, holds: bool, detail: String) {
        self.checks.push(Check { what, holds, detail });
    }

    /// Holds when nothing is wrong; else the detail names the first few.
    fn none(&mut self, what: &'static str, wrong: &[String], well: String) {
        let shown = wrong.iter().take(3).map(String::as_str).collect::<Vec<_>>().join("; ");
        let detail = if wrong.is_empty() { well } else { format!("{} wrong: {shown}", wrong.len()) };
        self.check(what, wrong.is_empty(), detail);
    }
}

/// What the journal holds of the messages from outside.
#[derive(Debug, Default)]
struct Journal {
    states: BTreeMap<String, String>,
    /// Ids by what became of them.
    ids: BTreeMap<String, String>,
}

pub(super) async fn balance(
    stage: &Stage,
    story: &Story,
    suppliers: &[suppliers::Case],
    acks: Vec<String>,
) -> Result<Books, Error> {
    let operate = stage.operate().await.expect("the node lives at the end");
    let entities = story.cases.iter().map(|case| &case.entity);
    let entities = entities.chain(suppliers.iter().map(|case| &case.entity));
    let journal = Journal::read(&operate, entities).await?;
    let ledger = stage.sandbox.ledger();
    let mut books = Books::default();
    count(&mut books, story, suppliers, &journal, &ledger);
    messages(&mut books, &journal, &ledger, acks);
    orders(&mut books, story, &journal, &ledger);
    supplied(&mut books, suppliers, &journal, &ledger);
    agreement(&mut books, &operate, story, suppliers, stage, &ledger).await?;
    deliveries(&mut books, &operate).await?;
    Ok(books)
}

impl Journal {
    async fn read(
        operate: &Arc<dyn Operate>,
        entities: impl Iterator<Item = &EntityId>,
    ) -> Result<Self, Error> {
        let mut journal = Self::default();
        for id in entities {
            if let Ok(entity) = operate.entity(id).await {
                journal.states.insert(id.to_string(), entity.status);
            }
            for entry in timeline(operate, id).await? {
                journal.note(&entry);
            }
        }
        for head in operate.entities(QUARANTINE, None, 1000).await?.items {
            let id = EntityId::parse(&head.id).expect("the API gives ids that it takes");
            for entry in timeline(operate, &id).await?.into_iter().take(1) {
                journal.ids.insert(entry.message_id, "quarantined".to_owned());
            }
        }
        Ok(journal)
    }

    /// Only messages of senders; effects, timers and people have other books.
    fn note(&mut self, entry: &Entry) {
        if matches!(&*entry.source, "crm" | "warehouse" | "sourcing") {
            self.ids.insert(entry.message_id.clone(), entry.verdict.clone());
        }
    }

    fn of(&self, verdict: &str) -> u64 {
        self.ids.values().filter(|found| *found == verdict).count() as u64
    }
}

pub(super) async fn timeline(operate: &Arc<dyn Operate>, id: &EntityId) -> Result<Vec<Entry>, Error> {
    let (mut entries, mut from) = (Vec::new(), 1);
    loop {
        let page = match operate.timeline(id, from, PAGE).await {
            Err(crate::api::Refusal::NotFound(_)) => return Ok(entries),
            page => page?,
        };
        entries.extend(page.items);
        match page.next.and_then(|next| next.parse().ok()) {
            Some(next) => from = next,
            None => return Ok(entries),
        }
    }
}

fn count(
    books: &mut Books,
    story: &Story,
    suppliers: &[suppliers::Case],
    journal: &Journal,
    ledger: &Snapshot,
) {
    let standing = |kind: &str, fits: &dyn Fn(&str) -> bool| {
        let of_kind = journal.states.iter().filter(|(id, _)| id.starts_with(kind));
        of_kind.filter(|(_, state)| fits(state)).count() as u64
    };
    let summary = ledger.summary();
    books.rows.push(("orders", story.cases.len() as u64));
    books.rows.push(("  completed", standing("order/", &|state| state == "completed")));
    books.rows.push(("  cancelled, everything undone", standing("order/", &|state| state == "cancelled")));
    books.rows.push(("  held for a person", standing("order/", &|state| state.ends_with("hold"))));
    books.rows.push(("suppliers", suppliers.len() as u64));
    books.rows.push(("  active", standing("supplier/", &|state| state == "active")));
    books
        .rows
        .push(("  not taken on, everything undone", standing("supplier/", &|state| state == "refused")));
    books.rows.push(("  offboarded", standing("supplier/", &|state| state == "offboarded")));
    books.rows.push(("  kept waiting for a person", standing("supplier/", &|state| state.ends_with("hold"))));
    books.rows.push(("changes that the systems applied", summary.total.applied));
    books.rows.push(("repeated calls that they recognised", summary.total.duplicates));
}

/// Acknowledged = applied + rejected or ignored + quarantined + open + duplicates, and nothing acknowledged is missing.
fn messages(books: &mut Books, journal: &Journal, ledger: &Snapshot, acks: Vec<String>) {
    let told =
        ledger.webhooks.iter().flat_map(|webhook| (0..webhook.accepted).map(|_| webhook.message_id.clone()));
    let acks: Vec<String> = acks.into_iter().chain(told).collect();
    let distinct: BTreeSet<&String> = acks.iter().collect();
    let held: BTreeSet<&String> =
        distinct.iter().copied().filter(|id| journal.ids.contains_key(*id)).collect();
    // Sent again under another id: known by the opportunity, so the order has no second record of it.
    let again = distinct.iter().filter(|id| id.ends_with("_again") && !held.contains(**id)).count() as u64;
    let lost: Vec<String> = distinct
        .iter()
        .filter(|id| !held.contains(**id) && !id.ends_with("_again"))
        .map(|id| (*id).clone())
        .collect();
    let acked = acks.len() as u64;
    let duplicates = acked - distinct.len() as u64 + again;
    let of = |verdict| journal.of(verdict);
    let rest = of("rejected") + of("ignored");
    books.rows.push(("webhooks acknowledged", acked));
    books.rows.push(("  applied", of("applied")));
    books.rows.push(("  waiting for their turn, then applied", of("deferred")));
    books.rows.push(("  out of turn: rejected or ignored", rest));
    books.rows.push(("  in quarantine", of("quarantined")));
    books.rows.push(("  duplicates", duplicates));
    books.none(
        "nothing acknowledged is lost",
        &lost,
        format!("{} messages, each in the journal", distinct.len()),
    );
    let sum = of("applied") + of("deferred") + rest + of("quarantined") + duplicates;
    let detail = format!(
        "{acked} = {} applied + {} in turn + {rest} rejected + {} quarantined + {duplicates} duplicates",
        of("applied"),
        of("deferred"),
        of("quarantined")
    );
    books.check("acknowledged = applied + open + rejected + quarantined + duplicates", acked == sum, detail);
}

fn orders(books: &mut Books, story: &Story, journal: &Journal, ledger: &Snapshot) {
    let (mut stuck, mut uneven, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for case in &story.cases {
        let state = journal.states.get(&case.entity.to_string()).map_or("unknown", String::as_str);
        if !case.must.allows(state) {
            stuck.push(format!("{} stands in `{state}`", case.entity));
        }
        match state {
            "completed" => uneven.extend(not_once(case, ledger)),
            "cancelled" => left.extend(not_undone(case, ledger)),
            _ => {}
        }
    }
    books.none("every order ends as it must", &stuck, format!("{} orders", story.cases.len()));
    books.none(
        "a complete order has everything once",
        &uneven,
        "sales order, shipment, invoice, ticket".to_owned(),
    );
    books.none("a cancelled order has nothing left", &left, "stock, tax, sales order, shipment".to_owned());
    let violations: Vec<String> = ledger
        .violations
        .iter()
        .map(|violation| {
            format!(
                "{}.{} {}: {}",
                violation.system, violation.operation, violation.reference, violation.what
            )
        })
        .collect();
    books.none("no system applied anything twice", &violations, format!("{} changes", ledger.entries.len()));
}

fn supplied(books: &mut Books, cases: &[suppliers::Case], journal: &Journal, ledger: &Snapshot) {
    let mut stuck = Vec::new();
    for case in cases {
        let state = journal.states.get(&case.entity.to_string()).map_or("unknown", String::as_str);
        if !case.must.allows(state) {
            stuck.push(format!("{} stands in `{state}`", case.entity));
        }
        let made = ledger.of("erp", "create_vendor").any(|entry| entry.reference == case.entity.key());
        if !made && case.must != Must::Hold {
            stuck.push(format!("{} has no vendor", case.entity));
        }
    }
    books.none("every supplier ends as it must", &stuck, format!("{} suppliers", cases.len()));
}

/// Field by field, per kind.
async fn agreement(
    books: &mut Books,
    operate: &Arc<dyn Operate>,
    story: &Story,
    suppliers: &[suppliers::Case],
    stage: &Stage,
    ledger: &Snapshot,
) -> Result<(), Error> {
    let records = agree::records(&stage.sandbox);
    let orders = agree::orders(operate, story, &records).await;
    let well = format!("{} fields: sales order, customer, invoice", orders.fields);
    books.none("orders and the ERP agree, field by field", &orders.wrong, well);
    let supplied = agree::suppliers(operate, suppliers, &records).await;
    let well = format!("{} fields: vendor, bank account, buyer, status told", supplied.fields);
    books.none("suppliers, ERP and sourcing tool agree, field by field", &supplied.wrong, well);
    let unchecked = agree::unchecked(suppliers, ledger, &records);
    let well = "account validated, tax id checked, no incident left open".to_owned();
    books.none("no vendor is active that was not checked", &unchecked, well);
    let shown = agree::shown(operate, suppliers).await?;
    books.none("no bank account is shown whole", &shown, "pages, API and command line".to_owned());
    Ok(())
}

/// Changes of one operation that are about an order.
fn about(case: &Case, ledger: &Snapshot, system: &str, operation: &str) -> usize {
    let number = case.opportunity.order_number();
    ledger.of(system, operation).filter(|entry| entry.reference.starts_with(&number)).count()
}

fn not_once(case: &Case, ledger: &Snapshot) -> Vec<String> {
    let wrong = ONCE.into_iter().filter_map(|(system, operation)| {
        let found = about(case, ledger, system, operation);
        (found != 1).then(|| format!("{} has {found} times {system}.{operation}", case.entity))
    });
    wrong.collect()
}

fn not_undone(case: &Case, ledger: &Snapshot) -> Vec<String> {
    let wrong = UNDONE_BY.into_iter().filter_map(|(system, done, undone)| {
        let (done_times, undone_times) =
            (about(case, ledger, system, done), about(case, ledger, system, undone));
        let even = (done_times > 0) == (undone_times > 0) && undone_times <= 1;
        (!even)
            .then(|| format!("{}: {system}.{done} {done_times} times, {undone} {undone_times}", case.entity))
    });
    wrong.collect()
}

async fn deliveries(books: &mut Books, operate: &Arc<dyn Operate>) -> Result<(), Error> {
    let class = |class: &str| ExceptionQuery {
        class: Some(class.to_owned()),
        limit: Some(1000),
        ..ExceptionQuery::default()
    };
    let mut dead = 0;
    for name in ["dead_letter", "failure", "compensation", "mapping", "poison"] {
        dead += operate.exceptions(&class(name)).await?.items.len() as u64;
    }
    books.rows.push(("calls made again", retries(&operate.metrics().await)));
    books.rows.push(("dead letters and failed calls", dead));
    let waiting: u64 =
        operate.connectors().await?.items.iter().filter_map(|connector| connector.waiting).sum();
    books.check("nothing is left to send", waiting == 0, format!("{waiting} effects wait in the store"));
    Ok(())
}

/// Attempts beyond the first of each effect, by the node's own metrics of this process.
fn retries(metrics: &str) -> u64 {
    let sum = |name: &str| -> u64 {
        let samples = metrics.lines().filter(|line| line.starts_with(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    sum("syncline_effect_attempts_total{").saturating_sub(sum("syncline_effects_total{"))
}

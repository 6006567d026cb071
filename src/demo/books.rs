//! The books: what the senders were told, what the journal holds, and what the systems hold, against one another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::agree::Audit;
use super::journal::Messages;
use super::senders::{Ack, NOISE};
use super::stage::Stage;
use super::{Ends, Error, KINDS, Must, journal, order, supplier, watch};
use crate::api::{ExceptionQuery, Operate};
use crate::sandbox::Snapshot;
use crate::sandbox::ledger::Violation;

const STANDS: &str = "every instance stands where it must";
const TWICE: &str = "no system applied anything twice";
const GIVEN_UP: &str = "nothing was given up";

/// What a person must look at only where something went wrong with us.
const OUR_TROUBLE: [&str; 5] = ["dead_letter", "failure", "compensation", "mapping", "poison"];

/// The result of a demo.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Where the entities stand, kind by kind.
    pub standing: Vec<Standing>,
    /// What else is counted, and how much of it.
    pub counts: Vec<(&'static str, u64)>,
    /// What must hold.
    pub checks: Vec<Check>,
    /// How long it took until nothing was on its way any more.
    pub took: Duration,
}

/// Where the entities of one kind stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Their kind.
    pub kind: &'static str,
    /// How many, by state.
    pub states: BTreeMap<String, u64>,
}

/// Something that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// The figures.
    pub detail: String,
    /// Every place where it does not hold, as a sentence.
    pub wrong: Vec<String>,
}

impl Standing {
    /// How many there are.
    pub fn entities(&self) -> u64 {
        self.states.values().sum()
    }
}

impl Check {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.wrong.is_empty()
    }

    /// The figures, or how much is wrong.
    pub fn told(&self) -> String {
        if self.holds() { self.detail.clone() } else { format!("{} wrong", self.wrong.len()) }
    }
}

impl Books {
    /// Whether every check held.
    pub fn balance(&self) -> bool {
        self.checks.iter().all(Check::holds)
    }

    fn check(&mut self, what: &'static str, detail: String, wrong: Vec<String>) {
        self.checks.push(Check { what, detail, wrong });
    }

    fn count(&mut self, what: &'static str, count: u64) {
        self.counts.push((what, count));
    }
}

/// Draws the balance of a demo that has come to its end.
pub(super) async fn balance(stage: &Stage, ends: &Ends, dealt: u64, took: Duration) -> Result<Books, Error> {
    let operate = stage.operate().await.expect("the node lives at the end");
    let ledger = stage.sandbox.ledger();
    let mut audit = Audit::new(&stage.sandbox, &ledger);
    let mut books = Books { took, ..Books::default() };
    let mut must: BTreeMap<String, &Must> =
        ends.musts.iter().map(|must| (must.entity.to_string(), must)).collect();
    let mut standing: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    let mut strayed = ends.stuck.clone();
    let mut open = 0;
    let messages = journal::read(&operate, |kind, seen| {
        *standing.entry(kind.name).or_default().entry(seen.state.clone()).or_default() += 1;
        open += seen.waiting;
        match must.remove(&seen.id.to_string()).map(|must| must.stands) {
            Some(stands) if stands.contains(&&*seen.state) => {}
            Some(stands) => {
                strayed.push(format!("{} stands in {}, not in {}", seen.id, seen.state, stands.join(" or ")));
            }
            // The entities of a play that is stuck are named with it.
            None if !ends.stuck.is_empty() => {}
            None => strayed.push(format!("{} ({}) is nobody's: no play is about it", seen.id, seen.state)),
        }
        (kind.check)(&mut audit, seen);
    })
    .await?;
    must.retain(|_, must| !must.may_be_absent);
    strayed.extend(must.keys().map(|entity| format!("{entity} is not there")));
    let entities: u64 = standing.values().flat_map(BTreeMap::values).sum();
    let of = |name| standing.remove(name).map(|states| Standing { kind: name, states });
    books.standing = super::kinds().filter_map(of).collect();

    told(&mut books, &operate, stage, (&messages, open), &ledger).await?;
    books.check(STANDS, format!("{entities} entities"), strayed);
    applied(&mut books, &ledger, dealt);
    agreement(&mut books, audit);
    deliveries(&mut books, &operate, stage).await?;
    Ok(books)
}

/// Acknowledged = applied + deferred + rejected or ignored + quarantined + duplicates, and nothing acknowledged is missing.
async fn told(
    books: &mut Books,
    operate: &Arc<dyn Operate>,
    stage: &Stage,
    (messages, open): (&Messages, u64),
    ledger: &Snapshot,
) -> Result<(), Error> {
    let told = ledger.webhooks.iter().flat_map(|webhook| {
        let ack = Ack { id: webhook.message_id.clone(), parts: 1, again: false };
        (0..webhook.accepted).map(move |_| ack.clone())
    });
    let acks: Vec<Ack> = stage.senders.acks().into_iter().chain(told).collect();
    let distinct: BTreeMap<&str, &Ack> = acks.iter().map(|ack| (&*ack.id, ack)).collect();
    // Known in the business: the entity that has it has no second record of it.
    let again = distinct.values().filter(|ack| ack.again && !messages.has(&ack.id, 1)).count() as u64;
    let missing = distinct.values().filter(|ack| !ack.again && !messages.has(&ack.id, ack.parts));
    let mut lost: Vec<String> = missing.map(|ack| format!("{} is not in the journal", ack.id)).collect();
    for source in operate.balance().await?.items.iter().filter(|source| source.missing > 0) {
        lost.push(format!("the node itself misses {} of {}", source.missing, source.source));
    }
    let acked = acks.len() as u64;
    let duplicates = acked - distinct.len() as u64 + again;
    let of = |verdict| messages.of(verdict);
    let (turned, quarantined) = (of("rejected") + of("ignored"), of("quarantined"));
    books.count("messages acknowledged", acked);
    books.count("  applied", of("applied"));
    books.count("  waited for their turn, then applied", of("deferred").saturating_sub(open));
    books.count("  still wait for it", open);
    books.count("  rejected or ignored, with a record", turned);
    books.count("  in quarantine", quarantined);
    books.count("  duplicates", duplicates);
    books.count("requests of strangers, refused", stage.senders.refused());
    let distinct = distinct.len();
    books.check("nothing acknowledged is lost", format!("{distinct} messages, each in the journal"), lost);
    let sum = of("applied") + of("deferred") + turned + quarantined + duplicates;
    let detail = format!(
        "{acked} = {} applied, {} in turn, {turned} refused, {quarantined} quarantined, {duplicates} known",
        of("applied"),
        of("deferred")
    );
    let wrong = if acked == sum { vec![] } else { vec![format!("{detail} is not so: it makes {sum}")] };
    books.check("what was acknowledged adds up", detail, wrong);
    let refused = stage.senders.refused();
    let wrong = if refused == NOISE { vec![] } else { vec![format!("{} were not refused", NOISE - refused)] };
    books.check("no stranger is heard", format!("{refused} forged requests"), wrong);
    Ok(())
}

/// What the systems have applied, and that they did so once.
fn applied(books: &mut Books, ledger: &Snapshot, dealt: u64) {
    let total = ledger.summary().total;
    books.count("requests to the systems", total.requests);
    books.count("  changes that they applied", total.applied);
    books.count("  repeated calls that they recognised", total.duplicates);
    books.count("faults that they dealt", dealt);
    let violation = |found: &Violation| {
        format!("{}.{} {}: {}", found.system, found.operation, found.reference, found.what)
    };
    let wrong = ledger.violations.iter().map(violation).collect();
    books.check(TWICE, format!("{} changes", total.applied), wrong);
}

/// What holds of single kinds, and field by field of all of them.
fn agreement(books: &mut Books, mut audit: Audit) {
    supplier::incidents(&mut audit);
    for (what, detail) in order::CHECKS.into_iter().chain(supplier::CHECKS) {
        books.check(what, detail.to_owned(), audit.broken.remove(what).unwrap_or_default());
    }
    let mut fields = 0;
    for kind in KINDS {
        let compared = audit.compared.remove(kind.name).unwrap_or_default();
        fields += compared.fields;
        let detail = format!("{} fields: {}", compared.fields, kind.systems);
        books.check(kind.agree, detail, compared.wrong);
    }
    books.count("fields compared", fields);
}

async fn deliveries(books: &mut Books, operate: &Arc<dyn Operate>, stage: &Stage) -> Result<(), Error> {
    let mut given_up = Vec::new();
    for class in OUR_TROUBLE {
        let query =
            ExceptionQuery { class: Some(class.to_owned()), limit: Some(1000), ..ExceptionQuery::default() };
        let open = operate.exceptions(&query).await?.items;
        given_up.extend(open.into_iter().map(|found| format!("{class} {}: {}", found.entity, found.summary)));
    }
    let retries = retries(&operate.metrics().await);
    books.count("calls made again", retries);
    books.check(GIVEN_UP, "no dead letter, failed call, compensation or mapping".to_owned(), given_up);
    let (waiting, telling) = (watch::waiting(&**operate, None).await?, stage.sandbox.telling().under_way);
    let wrong = if waiting == 0 && telling == 0 {
        vec![]
    } else {
        vec![format!("{waiting} effects wait in the store, and {telling} webhooks in the systems")]
    };
    books.check(
        "nothing is left to send",
        "no effect in the store, no webhook in a system".to_owned(),
        wrong,
    );
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

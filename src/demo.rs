//! The demo: a node over its real store and the simulated systems, and a day of trouble in a minute.
//!
//! Some hundreds of orders come in as signed webhooks: twice, in the wrong order, with mistakes. Meanwhile people take on suppliers in the
//! sourcing tool, put right what is missing, change bank accounts, and approve or reject what others have asked for. The systems that the
//! node calls fail in every way that they can; the tax engine is away for a while; in the middle the node itself is killed and started again.
//! At the end the books must balance: what the senders were told, what the node's journal holds and what the systems applied.
//!
//! ```text
//! story      which order is what, and how it must end      stage  node and sandbox: start, kill, start again
//! suppliers  the same of suppliers, and who does what      books  reads journal and ledger, and compares
//! drive      sends the webhooks, as stubborn as a sender   agree  entities and the systems' records, field by field
//! ```

mod agree;
mod books;
mod drive;
mod stage;
mod story;
mod suppliers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Semaphore;

use crate::sandbox::{self, Fault, Plan as Faults, RetryAfter, Sandbox};
pub use books::{Books, Check};
use drive::Driver;
pub use stage::Stage;
use story::{Case, Must, Story};
use suppliers::{Case as SupplierCase, KINDS, People};

/// Webhooks under way at the same time.
const AT_ONCE: usize = 32;

/// How long all orders may take to end after the last webhook.
const PATIENCE: Duration = Duration::from_mins(3);

/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// What to play.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Orders; 20 at least, so that every kind is among them. There is a supplier for every eight of them, one of each kind at least.
    pub orders: u64,
    /// Fixes who is repeated, who overtakes, and which calls fail.
    pub seed: u64,
    /// Where the node keeps its store. It must not hold one.
    pub directory: PathBuf,
    /// Where the node listens; port 0 for any.
    pub listen: std::net::SocketAddr,
}

/// Why the demo could not be played. It says nothing about whether the books balance.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The integration that comes with the program is broken: a mistake of ours.
    #[error("the integration that comes with the program does not load:\n{0}")]
    Integration(String),
    /// Settings of the demo's node.
    #[error(transparent)]
    Settings(#[from] crate::config::Error),
    /// The node did not start.
    #[error(transparent)]
    Node(#[from] crate::node::Error),
    /// The sandbox did not start.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// The sender could not be set up.
    #[error(transparent)]
    Sender(#[from] sandbox::emit::Error),
    /// There is a store already.
    #[error("{0} holds a store already; the demo wants an empty directory")]
    NotEmpty(PathBuf),
    /// The node's API did not answer as it should.
    #[error("the node could not be asked: {0}")]
    Asked(#[from] crate::api::Refusal),
}

/// What happens, as it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Something a viewer should know.
    Scene(String),
    /// So many of so many webhooks are acknowledged.
    Acknowledged(u64, u64),
    /// So many of so many orders and suppliers have ended as they must.
    Settled(u64, u64),
}

/// Tells progress to someone.
pub type Tell = Arc<dyn Fn(Progress) + Send + Sync>;

/// Plays the whole demo. The stage keeps running with its endpoints until it is stopped or dropped.
pub async fn play(plan: &Plan, tell: Tell) -> Result<(Stage, Books), Error> {
    let scene = |text: &str| tell(Progress::Scene(text.to_owned()));
    let stage = Arc::new(Stage::open(plan).await?);
    let story = Story::new(plan.orders, plan.seed);
    let driver = Arc::new(Driver::new(stage.clone(), story.webhooks() + drive::NOISE, tell.clone())?);
    trouble(&stage)?;
    let suppliers = SupplierCase::all((plan.orders / 8).max(KINDS));
    scene(&format!(
        "{} orders in {} webhooks, {} suppliers, {} systems that fail now and then",
        plan.orders,
        story.webhooks(),
        suppliers.len(),
        Sandbox::systems().count()
    ));

    let room = Arc::new(Semaphore::new(AT_ONCE));
    let orders = join_all(story.cases.iter().map(|case| order(case.clone(), driver.clone(), room.clone())));
    let people = Arc::new(People::new(stage.node_address()));
    let taken_on = join_all(suppliers.iter().map(|case| case.clone().play(stage.clone(), people.clone())));
    let trouble = async {
        driver.acknowledged(story.webhooks() / 4).await;
        scene("the tax engine is away");
        stage.sandbox.set_faults("tax", vec![Faults::always(Fault::Outage)])?;
        driver.acknowledged(story.webhooks() / 2).await;
        scene("the node is killed");
        stage.kill().await;
        stage.revive().await?;
        scene("the node is back, with everything that it acknowledged");
        stage.sandbox.set_faults("tax", vec![])?;
        scene("the tax engine is back");
        Ok::<_, Error>(())
    };
    let noise = driver.noise(plan.seed);
    let (acks, troubled, noise, _) = tokio::join!(orders, trouble, noise, taken_on);
    troubled?;

    scene("every webhook is acknowledged; waiting for everything to end");
    stage.sandbox.clear_faults();
    settle(&stage, &story, &suppliers, &tell).await;
    let acks = acks.into_iter().flatten().chain(noise).collect();
    let mut books = books::balance(&stage, &story, &suppliers, acks).await?;
    books.rows.push(("requests of strangers, refused", driver.refused()));
    drop(driver);
    let stage = Arc::try_unwrap(stage).expect("nothing else of the demo runs any more");
    Ok((stage, books))
}

/// What goes wrong all the time.
fn trouble(stage: &Stage) -> Result<(), Error> {
    let sometimes = |fault, rate| Faults::always(fault).at_rate(rate);
    let busy = Fault::Status { code: 429, retry_after: RetryAfter::Seconds(1) };
    let broken = Fault::Status { code: 500, retry_after: RetryAfter::Absent };
    let away = Fault::Status { code: 503, retry_after: RetryAfter::Absent };
    let locked = Fault::Status { code: 424, retry_after: RetryAfter::Absent };
    let plans = [
        ("crm", vec![sometimes(Fault::ExpiredToken, 0.03), sometimes(broken, 0.03)]),
        (
            "erp",
            vec![
                sometimes(Fault::CommitThenCut, 0.06),
                sometimes(busy, 0.03),
                sometimes(Fault::CutBefore, 0.03),
            ],
        ),
        ("tax", vec![sometimes(away, 0.05)]),
        (
            "warehouse",
            vec![
                sometimes(Fault::CommitThenCut, 0.05),
                sometimes(Fault::Duplicates, 0.2),
                sometimes(Fault::Reorder { within_ms: 300 }, 0.2),
            ],
        ),
        ("support", vec![sometimes(Fault::CommitThenStatus { code: 500 }, 0.05)]),
        ("notify", vec![sometimes(busy, 0.05)]),
        (
            "sourcing",
            vec![
                sometimes(Fault::ExpiredToken, 0.03),
                sometimes(locked, 0.05),
                sometimes(Fault::Duplicates, 0.2),
                sometimes(Fault::Reorder { within_ms: 500 }, 0.3),
            ],
        ),
        ("bank", vec![sometimes(Fault::CommitThenCut, 0.1), sometimes(away, 0.05)]),
        ("taxreg", vec![sometimes(busy, 0.05), sometimes(broken, 0.05)]),
        ("itsm", vec![sometimes(Fault::CommitThenCut, 0.2), sometimes(Fault::ExpiredToken, 0.05)]),
        ("chat", vec![sometimes(Fault::CommitThenCut, 0.05), sometimes(busy, 0.05)]),
    ];
    for (system, plans) in plans {
        stage.sandbox.set_faults(system, plans)?;
    }
    Ok(())
}

/// One order's webhooks, in the order in which its story has them; each acknowledged delivery with its id.
async fn order(case: Case, driver: Arc<Driver>, room: Arc<Semaphore>) -> Vec<String> {
    let mut acks = Vec::new();
    for step in &case.steps {
        if let Some(state) = step.when {
            driver.stage.wait_for(&case.entity, |found| found == state).await;
        }
        let _room = room.acquire().await;
        acks.extend(driver.deliver(&case, step).await);
    }
    if case.released_by_hand {
        driver.release(&case).await;
    }
    acks
}

/// Waits until everything stands where it must and nothing is on its way any more, or patience is over.
async fn settle(stage: &Stage, story: &Story, suppliers: &[SupplierCase], tell: &Tell) {
    let all_of_them = (story.cases.len() + suppliers.len()) as u64;
    let all = async {
        let mut open: Vec<&Case> = story.cases.iter().collect();
        while !open.is_empty() {
            let mut still = Vec::new();
            for case in open {
                let found = stage.state_of(&case.entity).await;
                if !found.is_some_and(|found| case.must.allows(&found)) {
                    still.push(case);
                }
            }
            open = still;
            let ended = story.cases.len() - open.len();
            tell(Progress::Settled(ended as u64, all_of_them));
            if !open.is_empty() {
                tokio::time::sleep(LOOK * 4).await;
            }
        }
        // What one system is told it tells in its turn: two looks in a row, further apart than that takes.
        let mut calm = 0;
        while calm < 2 {
            calm = if agree::quiet(stage, suppliers).await { calm + 1 } else { 0 };
            tokio::time::sleep(stage::TELLS_AFTER * 2).await;
        }
        tell(Progress::Settled(all_of_them, all_of_them));
    };
    let _ = tokio::time::timeout(PATIENCE, all).await;
}

impl Must {
    /// Whether an order may stand in this state at the end.
    fn allows(self, state: &str) -> bool {
        match self {
            Self::Complete => state == "completed",
            Self::Hold => state.ends_with("_hold"),
            Self::Cancel => state == "cancelled" || state == "completed",
        }
    }
}

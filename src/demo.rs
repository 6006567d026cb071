//! The demo: a node over its real store and the simulated systems, and a day of trouble in a minute.
//!
//! Every kind of business that is shipped is played, some hundreds of instances together: webhooks come twice, in the wrong order, with
//! mistakes; people type at the screens of systems, put right what is missing, decide and change their minds. The systems that the node
//! calls fail in every way that they can; the tax engine is away for a while; with calls waiting for it the node itself is killed and
//! started again. At the end the books must balance: what the senders were told, what the node's journal holds and what the systems hold.
//!
//! ```text
//! stage    node and sandbox: start, kill, start again         order, subscription, amendment, employee, supplier, customer, item,
//! senders  webhooks and events, as stubborn as senders are    shop_order: one kind each, what happens to an instance by its
//! people   screens, commands, decisions                       number, and what every system must hold of it in the end
//! watch    waits until something is as it should be           agree    entities and the systems' records, field by field
//! trouble  what goes wrong, and when                          journal  what it holds of messages and entities
//!                                                             books    holds all of it against one another
//! ```

mod agree;
mod amendment;
mod applied;
mod books;
mod customer;
mod employee;
mod item;
mod journal;
mod order;
mod people;
mod senders;
mod shop_order;
mod stage;
mod subscription;
mod supplier;
mod trouble;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use syncline_actors::id::EntityId;
use tokio::sync::watch::Sender;

use crate::sandbox;
use agree::{Audit, Seen};
pub use books::{Books, Check, Standing};
pub use stage::Stage;

/// Instances under way at the same time.
const AT_ONCE: usize = 200;

/// What to play.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Orders; 20 at least, so that every variant is among them.
    pub orders: u64,
    /// Instances of every other kind; 16 at least, so that every variant is among them.
    pub others: u64,
    /// Only these kinds; all of them if none is named.
    pub kinds: Vec<String>,
    /// Fixes who is repeated, and which calls fail.
    pub seed: u64,
    /// Where the node keeps its store. It must not hold one.
    pub directory: PathBuf,
    /// Where the node listens; port 0 for any.
    pub listen: std::net::SocketAddr,
}

impl Plan {
    /// Instances of every other kind beside so many orders: one for every eight, and every variant of each at least once.
    pub fn beside(orders: u64) -> u64 {
        (orders / 8).max(16)
    }

    /// Instances of all kinds together.
    fn instances(&self) -> u64 {
        self.played().map(|kind| self.of(kind)).sum()
    }

    fn of(&self, kind: &Kind) -> u64 {
        if kind.name == order::KIND { self.orders } else { self.others }
    }

    fn played(&self) -> impl Iterator<Item = &'static Kind> {
        KINDS.iter().filter(|kind| self.kinds.is_empty() || self.kinds.iter().any(|name| name == kind.name))
    }

    /// Whether so much is played that limits which real systems have would be all that is seen.
    fn is_large(&self) -> bool {
        self.orders.max(self.others) > 1_000
    }

    /// How long one thing that is waited for may take. It is no measure of speed: the machine may be busy.
    fn patience(&self) -> Duration {
        let all = u32::try_from(self.instances()).unwrap_or(u32::MAX);
        (Duration::from_mins(4) + Duration::from_millis(100).saturating_mul(all)).min(Duration::from_mins(20))
    }
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
    /// So many of so many instances have come to their end.
    Played(u64, u64),
}

/// Tells progress to someone.
pub type Tell = Arc<dyn Fn(Progress) + Send + Sync>;

/// An entity, and the states in which it may stand at the end.
#[derive(Debug, Clone)]
struct Must {
    entity: EntityId,
    stands: &'static [&'static str],
    /// Whether there may be no such entity: what would begin it may have been called off before.
    may_be_absent: bool,
}

/// What does not come as it must, as a sentence: the play ends there, and the books show it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stuck(String);

type Playing = BoxFuture<'static, Result<Vec<Must>, Stuck>>;

/// A kind of business.
struct Kind {
    /// Its process.
    name: &'static str,
    /// What must hold of its fields.
    agree: &'static str,
    /// The systems that its entities are held against.
    systems: &'static str,
    /// What happens to the instance of this number.
    play: fn(Arc<Stage>, u64) -> Playing,
    /// What the systems must hold of an entity.
    check: fn(&mut Audit, &Seen),
    /// What of an entity nobody may be shown whole.
    hidden: fn(&EntityId) -> Vec<String>,
}

fn nothing(_: &EntityId) -> Vec<String> {
    Vec::new()
}

const KINDS: &[Kind] = &[
    Kind {
        name: order::KIND,
        agree: "orders agree everywhere",
        systems: "ERP, CRM, tax engine, warehouse, support desk",
        play: |stage, number| Box::pin(order::play(stage, number)),
        check: order::check,
        hidden: nothing,
    },
    Kind {
        name: subscription::KIND,
        agree: "subscriptions agree everywhere",
        systems: "quotes, billing, ERP, revenue, customer success",
        play: |stage, number| Box::pin(subscription::play(stage, number)),
        check: subscription::check,
        hidden: nothing,
    },
    Kind {
        name: amendment::KIND,
        agree: "amendments agree everywhere",
        systems: "quotes, billing, revenue, customer success",
        play: |stage, number| Box::pin(amendment::play(stage, number)),
        check: amendment::check,
        hidden: nothing,
    },
    Kind {
        name: employee::KIND,
        agree: "employees agree everywhere",
        systems: "HR, directory, payroll, ITSM",
        play: |stage, number| Box::pin(employee::play(stage, number)),
        check: employee::check,
        hidden: nothing,
    },
    Kind {
        name: supplier::KIND,
        agree: "suppliers agree everywhere",
        systems: "sourcing, ERP, bank, tax registry, ITSM, chat",
        play: |stage, number| Box::pin(supplier::play(stage, number)),
        check: supplier::check,
        hidden: supplier::accounts,
    },
    Kind {
        name: customer::KIND,
        agree: "customers agree everywhere",
        systems: "CRM, both ERPs, shop",
        play: |stage, number| Box::pin(customer::play(stage, number)),
        check: customer::check,
        hidden: nothing,
    },
    Kind {
        name: item::KIND,
        agree: "items agree everywhere",
        systems: "ERP, warehouse, shop",
        play: |stage, number| Box::pin(item::play(stage, number)),
        check: item::check,
        hidden: nothing,
    },
    Kind {
        name: shop_order::KIND,
        agree: "shop orders agree everywhere",
        systems: "shop, second ERP",
        play: |stage, number| Box::pin(shop_order::play(stage, number)),
        check: shop_order::check,
        hidden: nothing,
    },
];

/// The kinds that are played, by the names of their processes.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name)
}

/// Plays the whole demo. The stage keeps running with its endpoints until it is stopped or dropped.
pub async fn play(plan: &Plan, tell: Tell) -> Result<(Stage, Books), Error> {
    let began = tokio::time::Instant::now();
    let stage = Arc::new(Stage::open(plan).await?);
    let all = plan.instances();
    let scene = |text: String| tell(Progress::Scene(text));
    scene(format!(
        "{all} instances of {} kinds of business, {} systems that fail now and then",
        plan.played().count(),
        sandbox::Sandbox::systems().count()
    ));
    trouble::faults(&stage.sandbox, plan)?;

    let ended = Sender::new(0);
    let (played, outage, ()) = tokio::join!(
        instances(&stage, plan, &ended, &tell),
        trouble::scenes(&stage, plan, ended.subscribe(), &tell),
        stage.noise(),
    );
    let dealt = outage? + stage.sandbox.faults_dealt();
    scene("everybody has said everything; waiting for the last call to be made".to_owned());
    stage.sandbox.clear_faults();
    let mut ends = Ends::default();
    for end in played {
        match end {
            Ok(musts) => ends.musts.extend(musts),
            Err(Stuck(why)) => ends.stuck.push(why),
        }
    }
    if let Err(Stuck(why)) = stage.quiet().await {
        ends.stuck.push(why);
    }
    let took = began.elapsed();
    let books = books::balance(&stage, &ends, dealt, took).await?;
    let stage = Arc::try_unwrap(stage).expect("nothing else of the demo runs any more");
    Ok((stage, books))
}

/// How the plays have ended.
#[derive(Debug, Default)]
struct Ends {
    musts: Vec<Must>,
    stuck: Vec<String>,
}

/// Plays every instance, those of all kinds beside one another, and counts those that have ended.
async fn instances(
    stage: &Arc<Stage>,
    plan: &Plan,
    ended: &Sender<u64>,
    tell: &Tell,
) -> Vec<Result<Vec<Must>, Stuck>> {
    let most = plan.orders.max(plan.others);
    let of =
        |number| plan.played().filter(move |kind| number <= plan.of(kind)).map(move |kind| (kind, number));
    let all = plan.instances();
    futures::stream::iter((1..=most).flat_map(of))
        .map(async |(kind, number)| {
            let playing = tokio::spawn((kind.play)(stage.clone(), number)).await;
            playing.unwrap_or_else(|error| Err(Stuck(format!("{} number {number}: {error}", kind.name))))
        })
        .buffer_unordered(AT_ONCE)
        .inspect(|_| {
            ended.send_modify(|ended| *ended += 1);
            tell(Progress::Played(*ended.borrow(), all));
        })
        .collect()
        .await
}

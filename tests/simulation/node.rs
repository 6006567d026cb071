//! One incarnation of the node: the real host, timers and deliveries over what the world lets them reach.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use syncline::delivery::contract::{self, Connector};
use syncline::delivery::post::{Post, PostError};
use syncline::delivery::wire::Wire;
use syncline::delivery::{self, Delivery, MailboxError, Outside, Unobserved};
use syncline::host::{self, Decide, Hints, Host, HostConfig, Lane, Means, Observer, Reply};
use syncline::journal::{Compacted, Journal as _, SharedJournal};
use syncline::timer::{self, Timers, Waker};
use syncline_actors::class::Latency;
use syncline_actors::decide::decide;
use syncline_actors::decision::Answer;
use syncline_actors::document::Reader;
use syncline_actors::envelope::Envelope;
use syncline_actors::id::{EffectId, EntityId, NodeId, ShardId};
use syncline_actors::outbox::{OutboxRow, TimerRow};
use syncline_actors::process::{Catalog, parse};
use syncline_actors::time::Timestamp;
use tokio::task::JoinHandle;

use crate::bugs::{Crossed, Planted};
use crate::ground::Ground;
use crate::life::Life;
use crate::store::Store;
use crate::vendor::Line;

/// How long an end in order may take.
const DRAIN: Duration = Duration::from_secs(20);

/// One incarnation.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) life: Arc<Life>,
    host: Host,
    hints: Arc<Switchboard>,
    timers: JoinHandle<()>,
    ground: Arc<Ground>,
}

/// What a host sends to those who wait for work.
#[derive(Debug)]
pub(crate) struct Switchboard {
    life: Arc<Life>,
    pub(crate) delivery: Mutex<Option<Arc<Delivery>>>,
    timers: Waker,
}

impl Switchboard {
    pub(crate) fn delivery(&self) -> Option<Arc<Delivery>> {
        self.delivery.lock().unwrap().clone().filter(|_| !self.life.is_over())
    }
}

impl Hints for Switchboard {
    fn effects(&self, rows: &[OutboxRow]) {
        if let Some(delivery) = self.delivery() {
            delivery.hint(rows);
        }
    }

    fn called_off(&self, entity: &EntityId, effects: &[EffectId]) {
        if let Some(delivery) = self.delivery() {
            for effect in effects {
                delivery.call_off(entity, *effect);
            }
        }
    }

    fn timers(&self, rows: &[TimerRow]) {
        self.timers.hint(rows);
    }
}

/// Counts entities in memory apart from the host.
#[derive(Debug)]
struct Watch {
    ground: Arc<Ground>,
    life: Arc<Life>,
    resident: AtomicUsize,
    /// A shard was lost to another node: its entities leave without a word, and the count means nothing any more.
    lost: AtomicBool,
}

impl Watch {
    fn left(&self) {
        self.resident.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Observer for Watch {
    fn activated(&self, _: &str) {
        let resident = self.resident.fetch_add(1, Ordering::Relaxed) + 1;
        let counts = !self.life.is_over() && !self.lost.load(Ordering::Relaxed);
        if resident > self.ground.temper.resident_max && counts {
            self.ground.violated(format!(
                "I13: {resident} entities are in memory, at most {} may",
                self.ground.temper.resident_max
            ));
        }
    }

    fn passivated(&self, kind: &str) {
        self.left();
        if !self.life.is_over() {
            self.ground.count("passivated");
            self.ground.line(&format!("an entity of {kind} leaves"));
        }
    }

    fn panicked(&self, kind: &str) {
        self.left();
        self.ground.count("panic");
        self.ground.line(&format!("an entity of {kind} panics"));
    }

    fn fenced(&self, shard: ShardId) {
        self.lost.store(true, Ordering::Relaxed);
        self.ground.count("shard lost");
        self.ground.line(&format!("shard {shard} is lost"));
    }

    fn broken(&self, entity: &EntityId, problem: &str) {
        self.ground.violated(format!("{entity} is closed: {problem}"));
    }
}

/// The host as drivers speak to it, as long as the incarnation lives.
#[derive(Debug)]
struct Mailbox {
    ground: Arc<Ground>,
    host: Host,
    life: Arc<Life>,
}

impl Mailbox {
    /// At times a message is long under way, and others overtake it.
    async fn take(&self, envelope: Envelope) -> Result<Reply, host::Error> {
        if self.ground.trouble("slow inside", self.ground.temper.network) {
            let pause = self.ground.chance("slow inside pause", |chance| chance.millis(0, 5_000));
            self.ground.count("slow inside");
            tokio::time::sleep(pause).await;
        }
        self.life.alive().await;
        let answer = self.host.deliver(envelope, Lane::Inside).await;
        self.life.alive().await;
        answer
    }
}

#[async_trait]
impl delivery::Mailbox for Mailbox {
    async fn settle(&self, envelope: Envelope, _latency: Latency) -> Result<(), MailboxError> {
        let ground = &self.ground;
        if ground.bug.is_some_and(|bug| bug.drops_outcome(ground, &envelope.subject, &envelope.id)) {
            return Ok(());
        }
        match self.take(envelope).await {
            Ok(_) => Ok(()),
            Err(host::Error::NotOwner { .. }) => Err(MailboxError::NotOwned),
            Err(error) => Err(MailboxError::Unavailable(error.to_string())),
        }
    }
}

#[async_trait]
impl Post for Mailbox {
    async fn post(&self, envelope: Envelope) -> Result<Answer, PostError> {
        self.take(envelope)
            .await
            .map(|reply| reply.answer)
            .map_err(|error| PostError::Away(error.to_string()))
    }
}

#[async_trait]
impl timer::Mailbox for Mailbox {
    async fn deliver(&self, envelope: Envelope) -> Result<(), Box<dyn Display + Send>> {
        self.take(envelope).await.map(drop).map_err(|error| Box::new(error) as Box<dyn Display + Send>)
    }
}

fn journal(store: Store, hints: &Arc<Switchboard>) -> SharedJournal {
    match store.ground.bug {
        Some(bug) => Arc::new(Planted {
            bug,
            store,
            hints: hints.clone(),
            unwritten: Arc::default(),
            loads: Mutex::default(),
        }),
        None => Arc::new(store),
    }
}

fn wire(line: Line) -> Arc<dyn Wire> {
    match line.ground.bug {
        Some(bug) => Arc::new(Crossed { bug, wire: line, calls: Mutex::default() }),
        None => Arc::new(line),
    }
}

/// Read once: every incarnation runs the same.
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    const TEXT: &str = include_str!("order.yaml");
    let reader = Reader::default();
    let node = reader.read("order.yaml", TEXT).expect("it is YAML");
    let process = parse::parse(&node, TEXT, &reader);
    assert!(reader.problems().is_empty(), "{:?}", reader.problems());
    let mut catalog = Catalog::default();
    catalog.add(process.expect("it has no problems"));
    catalog
});

static CONNECTORS: LazyLock<Vec<Connector>> = LazyLock::new(|| {
    let texts = include_str!("connectors.yaml").split("\n---\n");
    let read = |text| contract::read("connectors.yaml", text).unwrap_or_else(|why| panic!("{why:#?}"));
    texts.map(read).collect()
});

fn config(ground: &Arc<Ground>, life: &Arc<Life>) -> HostConfig {
    let temper = &ground.temper;
    let (ground, life) = (ground.clone(), life.clone());
    HostConfig {
        resident_max: temper.resident_max,
        idle: temper.idle,
        entity_in_flight_max: temper.entity_in_flight_max,
        bytes_in_flight_max: temper.bytes_in_flight_max,
        snapshot_tail: temper.snapshot_tail,
        snapshot_every: temper.snapshot_every,
        renew_every: Duration::from_secs(2),
        lease: Duration::from_secs(9),
        journal_timeout: Duration::from_secs(3),
        decide: Decide(Arc::new(move |process, state, envelope| {
            if !life.is_over() && !ground.is_quiet() && panics(&ground) {
                // As a panic, but without a word on the terminal.
                std::panic::resume_unwind(Box::new("a simulated panic"));
            }
            decide(process, state, envelope)
        })),
        ..HostConfig::new(NodeId("n1".into()))
    }
}

fn panics(ground: &Ground) -> bool {
    ground.chance("panic", |chance| chance.below(10_000) < ground.temper.panic)
}

impl Running {
    /// Starts everything, in the node's order.
    pub(crate) async fn start(ground: &Arc<Ground>, life: Arc<Life>) -> Result<Self, String> {
        let waker = Waker::default();
        let hints =
            Arc::new(Switchboard { life: life.clone(), delivery: Mutex::default(), timers: waker.clone() });
        let store = |hangs| journal(Store::new(ground.clone(), life.clone(), hangs), &hints);
        let means = Means {
            catalog: CATALOG.clone(),
            journal: store(true),
            clock: Arc::new(ground.clock),
            hints: hints.clone(),
            observer: Arc::new(Watch {
                ground: ground.clone(),
                life: life.clone(),
                resident: AtomicUsize::new(0),
                lost: AtomicBool::new(false),
            }),
        };
        let mut config = config(ground, &life);
        if let Some(bug) = ground.bug {
            config = bug.in_config(config);
        }
        let host = Host::start(config, means).await.map_err(|error| error.to_string())?;
        let mailbox = Arc::new(Mailbox { ground: ground.clone(), host: host.clone(), life: life.clone() });
        let epochs = host.clone();
        let outside = Outside {
            journal: store(false),
            mailbox: mailbox.clone(),
            post: mailbox.clone(),
            harvest: Arc::new(syncline::delivery::harvest::Fallow),
            wire: wire(Line { ground: ground.clone(), life: life.clone() }),
            clock: Arc::new(ground.clock),
            epochs: Arc::new(move |shard| epochs.epoch(shard)),
            shared_as: None,
            observer: Arc::new(Unobserved),
            paused: BTreeSet::new(),
            seed: ground.seed,
        };
        let delivery =
            Delivery::start(CONNECTORS.clone(), &|_| None, outside).map_err(|error| error.to_string())?;
        *hints.delivery.lock().unwrap() = Some(Arc::new(delivery));
        let timers =
            Timers::new(timer::Config::default(), store(false), mailbox, Arc::new(ground.clock), waker);
        let timers = tokio::spawn(timers.run(std::future::pending()));
        Ok(Self { life, host, hints, timers, ground: ground.clone() })
    }

    pub(crate) async fn deliver(&self, envelope: Envelope, lane: Lane) -> Result<Reply, host::Error> {
        let answer = self.host.deliver(envelope, lane).await;
        match self.ground.bug {
            Some(bug) => bug.in_answer(answer),
            None => answer,
        }
    }

    /// Throws away what is past its time.
    pub(crate) async fn compact(&self) {
        let ground = &self.ground;
        let now = ground.now();
        let ended_before = Timestamp(now.0 - 5_000);
        let store = Store::new(self.ground.clone(), self.life.clone(), false);
        if let Ok(Compacted { records: 1.., .. }) = store.compact(now, ended_before).await {
            ground.count("compaction of records");
            ground.line("records are only in snapshots now");
        }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The host keeps to its limits.
    pub(crate) fn bounds(&self) {
        let ground = &self.ground;
        let (stats, temper) = (self.host.stats(), &ground.temper);
        if stats.resident > temper.resident_max || stats.bytes_in_flight > temper.bytes_in_flight_max as usize
        {
            ground.violated(format!("I13: {stats:?} is over the limits"));
        }
    }

    /// Ends at once: from the end of its life on nothing of it has reached the world, and now it is gone.
    pub(crate) async fn crash(&self) {
        self.life.end();
        self.timers.abort();
        self.hints.delivery.lock().unwrap().take();
        self.host.crash().await;
    }

    /// Ends in order. Whether all was done in time.
    pub(crate) async fn drain(&self) -> bool {
        self.timers.abort();
        let delivery = self.hints.delivery.lock().unwrap().clone();
        let delivered = match delivery {
            Some(delivery) => delivery.drain(DRAIN).await,
            None => true,
        };
        let drained = self.host.drain(DRAIN).await;
        self.life.end();
        self.hints.delivery.lock().unwrap().take();
        delivered && drained
    }
}

//! One incarnation of a node: the real host, cluster, timers and deliveries over what the world lets them reach.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use syncline::delivery::contract::{self, Connector};
use syncline::delivery::post::{Post, PostError};
use syncline::delivery::wire::{Request, Response, Wire, WireError};
use syncline::delivery::{self, Delivery, Epochs, MailboxError, Outside, Unobserved};
use syncline::gossip::{Key, KeyRing, Seed};
use syncline::host::{self, Hints, Host, HostConfig, Lane, Means, Observer, Reply};
use syncline::journal::memory::Handle;
use syncline::journal::{Compacted, Journal as _, SharedJournal};
use syncline::node::cluster::{self, Cluster, Router};
use syncline::timer::{self, Timers, Waker};
use syncline_actors::class::Latency;
use syncline_actors::decision::Answer;
use syncline_actors::document::Reader;
use syncline_actors::entity::State;
use syncline_actors::envelope::Envelope;
use syncline_actors::id::{EffectId, EntityId, NodeId, ShardId};
use syncline_actors::outbox::{OutboxRow, TimerRow};
use syncline_actors::placement::Regions;
use syncline_actors::placement::planner;
use syncline_actors::process::{Catalog, parse};
use syncline_actors::time::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bugs::{Bug, Store};
use crate::ground::Ground;
use crate::life::Life;
use crate::net::{SEEDS, Socket, Wires, address};
use crate::path::Path;
use crate::vendor::Line;

/// How long an end in order may take.
const DRAIN: Duration = Duration::from_secs(20);

/// How long after its last renewal a node still answers; the settings' own.
pub(crate) const GIVE_UP: Duration = Duration::from_millis(2_500);

/// Node `index`'s name.
pub(crate) fn name(index: usize) -> NodeId {
    NodeId(format!("n{index}").into())
}

/// One incarnation.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) index: usize,
    pub(crate) boot: u64,
    pub(crate) life: Arc<Life>,
    host: Host,
    router: Router,
    cluster: Cluster,
    handle: Arc<Handle>,
    hints: Arc<Switchboard>,
    timers: JoinHandle<()>,
    ground: Arc<Ground>,
}

/// What a host sends to those who wait for work.
#[derive(Debug)]
struct Switchboard {
    life: Arc<Life>,
    delivery: Mutex<Option<Arc<Delivery>>>,
    timers: Waker,
}

impl Switchboard {
    fn delivery(&self) -> Option<Arc<Delivery>> {
        self.delivery.lock().unwrap().clone().filter(|_| !self.life.is_over())
    }

    fn look(&self) {
        if let Some(delivery) = self.delivery() {
            delivery.look();
        }
        self.timers.look();
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

/// Watches what befalls a host.
#[derive(Debug)]
struct Watch {
    ground: Arc<Ground>,
    life: Arc<Life>,
    me: usize,
}

impl Observer for Watch {
    fn passivated(&self, _: &str) {
        if !self.life.is_over() {
            self.ground.count("passivated");
        }
    }

    fn fenced(&self, shard: ShardId) {
        if !self.life.is_over() {
            self.ground.count("shard lost");
            self.ground.line(&format!("n{} has lost {shard}", self.me));
        }
    }

    fn broken(&self, entity: &EntityId, problem: &str) {
        if !self.life.is_over() {
            self.ground.violated(format!("I4: {entity} is closed on n{}: {problem}", self.me));
        }
    }
}

/// The host as drivers speak to it, as long as the incarnation lives.
#[derive(Debug)]
struct Mailbox {
    host: Host,
    life: Arc<Life>,
}

impl Mailbox {
    async fn take(&self, envelope: Envelope) -> Result<Reply, host::Error> {
        self.life.alive().await;
        let answer = self.host.deliver(envelope, Lane::Inside).await;
        self.life.alive().await;
        answer
    }
}

#[async_trait]
impl delivery::Mailbox for Mailbox {
    async fn settle(&self, envelope: Envelope, _latency: Latency) -> Result<(), MailboxError> {
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

/// The wire of one incarnation, which looks at the store when a call leaves.
#[derive(Debug)]
struct Gate {
    line: Line,
    me: usize,
    boot: u64,
}

impl Gate {
    /// No effect leaves a node whose lease is in doubt.
    fn check(&self, request: &Request) -> Result<(), String> {
        let ground = &self.line.ground;
        let key = request.headers.get("idempotency-key").map(|key| key.to_str().unwrap()).unwrap_or_default();
        let Some(entity) = ground.book().effects.get(key).map(|known| known.entity.clone()) else {
            return Ok(());
        };
        let shard = entity.shard();
        let holding = ground.group().holding(shard);
        let held = holding.node == Some(name(self.me))
            && holding.boot == self.boot
            && holding.left.is_some_and(|left| !left.is_zero());
        if held || self.line.life.is_over() || ground.losses().is_unclear(shard, ground.now()) {
            return Ok(());
        }
        Err(format!(
            "I15: {}.{} of {entity} leaves n{}#{}, and its shard is held by {:?}#{}, {:?} left",
            request.connector,
            request.operation,
            self.me,
            self.boot,
            holding.node,
            holding.boot,
            holding.left
        ))
    }
}

#[async_trait]
impl Wire for Gate {
    async fn send(&self, request: Request) -> Result<Response, WireError> {
        let ground = &self.line.ground;
        if ground.net.sleeps(self.me) {
            // It stops before a byte has left, and when it goes on its time is up.
            ground.net.awake(self.me).await;
            return Err(WireError::Unsent("the node slept".to_owned()));
        }
        ground.check(self.check(&request));
        let answer = self.line.send(request).await;
        ground.net.awake(self.me).await;
        answer
    }
}

/// Read once: every incarnation runs the same.
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    const TEXT: &str = include_str!("../simulation/order.yaml");
    let reader = Reader::default();
    let node = reader.read("order.yaml", TEXT).expect("it is YAML");
    let process = parse::parse(&node, TEXT, &reader);
    assert!(reader.problems().is_empty(), "{:?}", reader.problems());
    let mut catalog = Catalog::default();
    catalog.add(process.expect("it has no problems"));
    catalog
});

static CONNECTORS: LazyLock<Vec<Connector>> = LazyLock::new(|| {
    let texts = include_str!("../simulation/connectors.yaml").split("\n---\n");
    let read = |text| contract::read("connectors.yaml", text).unwrap_or_else(|why| panic!("{why:#?}"));
    texts.map(read).collect()
});

fn host_config(ground: &Ground, me: usize) -> HostConfig {
    let temper = &ground.temper;
    let config = HostConfig {
        resident_max: temper.resident_max,
        idle: temper.idle,
        entity_in_flight_max: temper.entity_in_flight_max,
        bytes_in_flight_max: temper.bytes_in_flight_max,
        snapshot_tail: 3,
        snapshot_every: 7,
        renew_every: Duration::from_secs(1),
        lease: GIVE_UP,
        takes_all: false,
        ..HostConfig::new(name(me))
    };
    match ground.bug {
        Some(bug) => bug.in_config(config),
        None => config,
    }
}

fn cluster_config(ground: &Ground, me: usize, boot: u64) -> cluster::Config {
    let key = Key::new([u8::try_from(ground.seed % 251).unwrap(); 32]);
    cluster::Config {
        cluster: "simulated".to_owned(),
        boot,
        listen: address(me),
        advertise: address(me),
        http: address(me),
        seeds: vec![Seed::Name(SEEDS.to_owned())],
        keys: KeyRing::new(vec![key]).unwrap(),
        tls: None,
        weight: 100,
        region: None,
        zone: None,
        placement: planner::Settings::default(),
        regions: Arc::new(Regions::default()),
        drain_for: DRAIN,
        fresh_for: GIVE_UP,
    }
}

fn epochs(ground: &Ground, host: &Host) -> Epochs {
    let held = host.clone();
    match ground.bug {
        Some(bug @ (Bug::EffectWithoutLease | Bug::ReadWithoutLease)) => bug.in_epochs(host, GIVE_UP),
        _ => Arc::new(move |shard| held.epoch(shard)),
    }
}

impl Running {
    /// Starts everything, in the node's order.
    pub(crate) async fn start(
        ground: &Arc<Ground>,
        life: Arc<Life>,
        (me, boot): (usize, u64),
        orders: watch::Receiver<Arc<planner::Orders>>,
    ) -> Result<Self, String> {
        let timers = Waker::default();
        let hints = Arc::new(Switchboard { life: life.clone(), delivery: Mutex::default(), timers });
        let path = Path { ground: ground.clone(), life: life.clone(), me };
        let handle = Handle::open(ground.group(), boot, Arc::new(path));
        let journal: SharedJournal =
            Arc::new(Store { ground: ground.clone(), life: life.clone(), handle: handle.clone() });
        let means = Means {
            catalog: CATALOG.clone(),
            journal: journal.clone(),
            clock: Arc::new(ground.clock),
            hints: hints.clone(),
            observer: Arc::new(Watch { ground: ground.clone(), life: life.clone(), me }),
        };
        let host = Host::start(host_config(ground, me), means).await.map_err(|error| error.to_string())?;
        let seed = ground.seed.wrapping_mul(10_007).wrapping_add(life.number);
        let cluster = join(ground, &life, (me, boot), &host, &journal, &hints, orders, seed).await?;
        let mailbox = Arc::new(Mailbox { host: host.clone(), life: life.clone() });
        let line = Line { ground: ground.clone(), life: life.clone() };
        let outside = Outside {
            journal: journal.clone(),
            mailbox: mailbox.clone(),
            post: mailbox.clone(),
            harvest: Arc::new(delivery::harvest::Fallow),
            wire: Arc::new(Gate { line, me, boot }),
            clock: Arc::new(ground.clock),
            epochs: epochs(ground, &host),
            shared_as: Some(format!("{}#{boot}", name(me))),
            observer: Arc::new(Unobserved),
            paused: BTreeSet::new(),
            seed,
        };
        let delivery =
            Delivery::start(CONNECTORS.clone(), &|_| None, outside).map_err(|error| error.to_string())?;
        *hints.delivery.lock().unwrap() = Some(Arc::new(delivery));
        let timers = Timers::new(
            timer::Config::default(),
            journal,
            mailbox,
            Arc::new(ground.clock),
            hints.timers.clone(),
        );
        let timers = tokio::spawn(timers.run(std::future::pending()));
        let router = cluster.router();
        Ok(Self {
            index: me,
            boot,
            life,
            host,
            router,
            cluster,
            handle,
            hints,
            timers,
            ground: ground.clone(),
        })
    }

    /// Takes a message to its entity, wherever that is.
    pub(crate) async fn deliver(&self, envelope: Envelope, lane: Lane) -> Result<Reply, host::Error> {
        self.ground.net.awake(self.index).await;
        let here = self.host.epoch(envelope.subject.shard()).is_some();
        let answer = self.router.deliver(envelope, lane).await;
        self.ground.net.awake(self.index).await;
        if answer.is_ok() && !here {
            self.ground.count("message forwarded");
        }
        match answer {
            Err(host::Error::NotOwner { .. }) if self.ground.bug == Some(Bug::NobodyIsAcked) => {
                let answer = syncline_actors::decision::Answer {
                    seq: 1,
                    status: "".into(),
                    verdict: syncline_actors::decision::Verdict::Applied,
                };
                Ok(Reply { answer, duplicate: false })
            }
            answer => answer,
        }
    }

    /// A strong read.
    pub(crate) async fn state(&self, entity: &EntityId) -> Result<Option<State>, host::Error> {
        self.ground.net.awake(self.index).await;
        let state = self.router.state(entity).await;
        self.ground.net.awake(self.index).await;
        state
    }

    /// Throws away what is past its time.
    pub(crate) async fn compact(&self) {
        let now = self.ground.now();
        if let Ok(Compacted { records: 1.., .. }) = self.handle.compact(now, Timestamp(now.0 - 5_000)).await {
            self.ground.count("compaction of records");
            self.ground.line("records are only in snapshots now");
        }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
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
        self.cluster.crash().await;
        self.host.crash().await;
    }

    /// Ends in order. Whether all was done in time.
    pub(crate) async fn drain(&self) -> bool {
        let given = self.cluster.drain(DRAIN).await;
        self.timers.abort();
        let delivery = self.hints.delivery.lock().unwrap().clone();
        let delivered = match delivery {
            Some(delivery) => delivery.drain(DRAIN).await,
            None => true,
        };
        self.cluster.leave(DRAIN).await;
        let drained = self.host.drain(DRAIN).await;
        self.life.end();
        self.hints.delivery.lock().unwrap().take();
        given && delivered && drained
    }
}

#[expect(clippy::too_many_arguments, reason = "a node stands on as much")]
async fn join(
    ground: &Arc<Ground>,
    life: &Arc<Life>,
    (me, boot): (usize, u64),
    host: &Host,
    journal: &SharedJournal,
    hints: &Arc<Switchboard>,
    orders: watch::Receiver<Arc<planner::Orders>>,
    seed: u64,
) -> Result<Cluster, String> {
    let (gained, leaving) = (hints.clone(), hints.clone());
    let means = cluster::Means {
        host: host.clone(),
        journal: journal.clone(),
        datagrams: Arc::new(Socket::open(ground.clone(), life.clone(), me)),
        network: Arc::new(Wires { ground: ground.clone(), life: life.clone(), me }),
        clock: Arc::new(ground.clock),
        gained: Arc::new(move || gained.look()),
        leaving: Arc::new(move |shard| {
            let delivery = leaving.delivery();
            Box::pin(async move {
                if let Some(delivery) = delivery {
                    delivery.leave(shard, Duration::from_secs(2)).await;
                }
            })
        }),
        orders,
        slate: Arc::default(),
        seed,
    };
    Cluster::start(cluster_config(ground, me, boot), means).await.map_err(|error| error.to_string())
}

//! A node: every part wired to the others, started in order and drained in order. It alone names every concrete type.
//!
//! ```text
//! ingress ─► router ─► host ─► journal     hints:  host ─► delivery, timers
//! delivery, timers ─► host                 console reads router, journal, delivery
//!              └─► host of another node    cluster: gossip, transport, placement ─► host
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use syncline_actors::id::{EffectId, EntityId, NodeId};
use syncline_actors::outbox::{OutboxRow, TimerRow};
use syncline_actors::placement::{Region, Regions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::{SharedClock, SystemClock};
use crate::config::{Role, Settings, Store};
use crate::delivery::wire::{HttpWire, Wire};
use crate::delivery::{self, Delivery, Outside};
use crate::guard::Guard;
use crate::host::{self, Hints, Host, HostConfig, Means};
use crate::ingress::{self, Ingress};
use crate::integration::Integration;
use crate::journal::SharedJournal;
use crate::serve::{self, Ending, Listener};
use crate::telemetry::Metrics;
use crate::timer::{self, Timers};
use crate::{api, clock, console};

mod balance;
mod board;
pub mod cluster;
mod drift;
mod harvest;
mod join;
mod keeper;
mod mailboxes;
mod masking;
mod monitor;
mod observers;
mod operate;
mod orders;
mod polls;
mod reconcile;
mod shards;
mod standing;
mod store;
mod view;

use balance::Till;
use mailboxes::Mailbox;
use monitor::Slate;
use observers::Watch;
use operate::Operator;
use shards::Shards;
use standing::{Said, Standing};
pub use store::Directory;

/// How long an `Idempotency-Key` and the id of an event are remembered. Published in the documentation of the API.
const API_IDS_FOR: Duration = Duration::from_hours(7 * 24);

/// How long a shard that is about to go waits for its calls under way. What takes longer is asked about by its next holder.
const CALLS_END_WITHIN: Duration = Duration::from_secs(2);

/// Why a node cannot start. Nothing was acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened.
    #[error(transparent)]
    Journal(#[from] crate::journal::Error),
    /// The host cannot start.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// Connectors and sources lack settings that this machine should have, e.g. secrets.
    #[error("{}", lacking.join("\n"))]
    Lacking {
        /// What connectors lack, and what sources lack.
        lacking: Vec<String>,
    },
    /// The address cannot be used.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// A token cannot be read.
    #[error("`auth.tokens`: the token of `{name}`: {error}")]
    Token {
        /// Whose.
        name: String,
        /// Why.
        #[source]
        error: crate::secret::Error,
    },
    /// Outgoing HTTPS cannot be set up.
    #[error(transparent)]
    Wire(#[from] delivery::wire::WireSetup),
    /// Another process has the node's directory.
    #[error("{} is in use by another process: stop it, or give this node its own `node.data_dir` (and `node.name`)", .0.display())]
    InUse(PathBuf),
    /// The node's start cannot be counted, or gossip cannot begin.
    #[error(transparent)]
    Gossip(#[from] crate::gossip::Error),
    /// The node cannot be part of a cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// What a setting names is not there.
    #[error("`{key}`: {why}")]
    Setting {
        /// Which setting.
        key: &'static str,
        /// Why.
        why: String,
    },
    /// A directory cannot be made.
    #[error("cannot create {path}: {error}; set `node.data_dir` to a directory that this user may write")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
}

impl Error {
    /// Whether the same start may succeed later without anyone's doing: the store does not answer yet.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_transient(),
            Self::Host(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Whether correcting the settings or the environment helps, rather than repairing the machine.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Lacking { .. } | Self::Token { .. } | Self::Setting { .. })
    }
}

/// What a node stands on besides its settings: what a test or the demo gives its own.
#[derive(Debug)]
pub struct Ground {
    /// Everything that is data.
    pub integration: Integration,
    /// Where everything is kept.
    pub journal: SharedJournal,
    /// What tells the time.
    pub clock: SharedClock,
    /// What makes calls.
    pub wire: Arc<dyn Wire>,
    /// Fixes the pauses between attempts.
    pub seed: u64,
    /// Gives the value of a reference.
    pub lookup: Lookup,
    /// The node's own directory, if it has one.
    pub directory: Option<Directory>,
}

impl Ground {
    /// The machine's: its clock, its network, its environment, and the store that the settings name.
    pub async fn of_machine(settings: &Settings, integration: Integration) -> Result<Self, Error> {
        let clock = Arc::new(SystemClock);
        let directory = store::Directory::open(&settings.node.data_dir, &*clock)?;
        let seed = clock::seed();
        Ok(Self {
            integration,
            journal: store::open(settings, &directory, seed).await?,
            directory: Some(directory),
            clock,
            wire: Arc::new(HttpWire::new()?),
            seed,
            lookup: Lookup::default(),
        })
    }
}

/// Gives the value of a reference such as `env:NAME` or `file:/path`; none when there is nothing.
#[derive(Clone)]
pub struct Lookup(pub Arc<LookupFn>);

type LookupFn = dyn Fn(&str) -> Option<String> + Send + Sync;

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

/// The environment and files.
impl Default for Lookup {
    fn default() -> Self {
        Self(Arc::new(delivery::surroundings))
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    host: Host,
    delivery: Arc<Delivery>,
    operator: Arc<Operator>,
    journal: SharedJournal,
    stop: watch::Sender<bool>,
    ending: watch::Sender<Ending>,
    server: JoinHandle<bool>,
    timers: JoinHandle<()>,
    keeper: JoinHandle<()>,
    standing: JoinHandle<()>,
    shards: Shards,
    drain_for: Duration,
    linger: Duration,
    /// Locked as long as the node runs.
    _directory: Option<Directory>,
}

impl Node {
    /// Starts everything; once this returns, requests are answered. The address is taken first, so that two nodes with the same
    /// settings never both begin to work.
    pub async fn start(settings: &Settings, ground: Ground) -> Result<Self, Error> {
        let Ground { integration, journal, clock, wire, seed, lookup, directory } = ground;
        let said = Said::by(&integration);
        let guard = guard(settings)?;
        let listener = Listener::bind(settings.http.listen, settings.http.tls.files()).await?;
        let address = listener.address();
        let metrics = Metrics::of_process();
        let (stop, stopping) = watch::channel(false);

        let switchboard = Arc::new(Switchboard::default());
        let means = Means {
            catalog: integration.catalog,
            journal: journal.clone(),
            clock: clock.clone(),
            hints: switchboard.clone(),
            observer: Arc::new(Watch),
        };
        let desk = Arc::new(orders::Desk::new(journal.clone()));
        let regions = Arc::new(desk.settle_regions(&settings.cluster.regions).await?);
        check_sources(&regions, integration.sources.values())?;
        let host = Host::start(host_config(settings, regions.clone()), means).await?;
        let slate = Arc::new(Slate::new(integration.slos));
        let joining = join::Joining {
            host: &host,
            journal: &journal,
            clock: &clock,
            directory: directory.as_ref(),
            gained: gained(&switchboard),
            leaving: switchboard.leaving(),
            orders: desk.of_placement(),
            regions: regions.clone(),
            slate: slate.clone(),
            seed,
        };
        let shards = joining.join(settings, address, &stopping).await?;
        let router = shards.router(&host, regions);
        let till = Arc::new(Till::default());
        let standing = Standing::open(said, &router, &journal, &clock, till.clone()).await?;
        let mailbox = Arc::new(Mailbox { router: router.clone(), till });

        // Orders hold from the first call on.
        desk.look().await?;
        let paused = desk.known().connectors.keys().cloned().collect();
        let outside = outside(&host, &journal, mailbox.clone(), wire, &clock, seed);
        let outside = Outside { paused, harvest: standing.harvester.clone(), ..outside };
        let connectors = integration.connectors.into_values().collect();
        let delivery = Delivery::start(connectors, &*lookup.0, outside);
        let means = ingress::Means {
            sources: integration.sources.into_values().collect(),
            schemas: integration.schemas,
            mailbox: mailbox.clone(),
            admit: admit(guard.clone()),
            clock: clock.clone(),
            limits: ingress_limits(settings),
        };
        let (delivery, ingress) = both(delivery, Ingress::open(means, &*lookup.0))?;
        let _ = switchboard.delivery.set(delivery.clone());
        let operator = Arc::new(Operator {
            router,
            cluster: shards.cluster().cloned(),
            journal: journal.clone(),
            desk: desk.clone(),
            delivery: delivery.clone(),
            ingress: ingress.clone(),
            reconciler: standing.reconciler.clone(),
            balance: standing.balance.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            config_hash: integration.hash,
            slate: slate.clone(),
            leaving: AtomicBool::new(false),
        });

        let timers = timers(&journal, mailbox, &clock, &switchboard);
        let timers = tokio::spawn(timers.run(stopped(stopping.clone())));
        let standing = standing.begin(&ingress, &stopping);
        monitor::begin(&host, &journal, &clock, slate, &stopping);
        let keeper =
            keeper::keep(journal.clone(), clock, metrics, settings.retention.ended, stopping.clone());
        let keeper = tokio::spawn(keeper);
        tokio::spawn(desk.obey(delivery.clone(), shards.cluster().cloned(), stopping.clone()));
        let routes = console::router(operator.clone(), guard).merge(ingress.router());
        let drain_for = settings.shutdown.drain_for;
        let (ending, ended) = watch::channel(Ending::Not);
        let server = tokio::spawn(listener.serve(routes, limits(settings), ended, drain_for));
        tracing::info!(node = settings.node.name, %address, "ready");
        Ok(Self {
            address,
            host,
            delivery,
            operator,
            journal,
            stop,
            ending,
            linger: settings.cluster.linger,
            server,
            timers,
            keeper,
            standing,
            shards,
            drain_for,
            _directory: directory,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node as people work with it; what the pages and the command line ask over HTTP.
    pub fn operate(&self) -> Arc<dyn api::Operate> {
        self.operator.clone()
    }

    /// Takes no more, finishes what is being worked on, gives the shards back. False: something did not end in time; nothing that
    /// was acknowledged is lost by it.
    pub async fn stop(self) -> bool {
        let given = self.give_away().await;
        let Self {
            host,
            delivery,
            journal,
            stop,
            ending,
            mut server,
            timers,
            keeper,
            standing,
            shards,
            drain_for,
            ..
        } = self;
        ending.send_replace(Ending::Now);
        let _ = stop.send(true);
        let served = matches!(tokio::time::timeout(drain_for, &mut server).await, Ok(Ok(true)));
        server.abort();
        let _ = tokio::join!(timers, keeper, standing);
        let delivered = delivery.drain(drain_for).await;
        shards.leave(drain_for).await;
        let drained = host.drain(drain_for).await;
        let in_time = given && served && delivered && drained;
        match journal.close().await {
            Ok(()) => tracing::info!(in_time, "stopped"),
            Err(error) => {
                tracing::error!(%error, "the store could not be closed; it is opened with a repair");
            }
        }
        in_time
    }

    /// Says that it is not ready, and hands its shards to other nodes while all is still answered. Whether that was done in time.
    async fn give_away(&self) -> bool {
        tracing::info!("stopping: what is being worked on is finished first");
        self.operator.leave();
        let Some(cluster) = self.shards.cluster() else { return true };
        self.ending.send_replace(Ending::Soon);
        let (given, ()) = tokio::join!(cluster.drain(self.drain_for), tokio::time::sleep(self.linger));
        if !given {
            tracing::warn!(
                "not all shards found another node in time; they are free as soon as this one has ended"
            );
        }
        given
    }

    /// Ends as a killed process does: at once, wherever it is. For the demo and for tests.
    pub async fn crash(self) {
        self.server.abort();
        self.timers.abort();
        self.keeper.abort();
        self.standing.abort();
        self.shards.crash().await;
        self.host.crash().await;
        drop(self.delivery);
        let _ = (self.server.await, self.timers.await, self.keeper.await);
        let _ = self.journal.close().await;
    }
}

/// What deliveries stand on.
fn outside(
    host: &Host,
    journal: &SharedJournal,
    mailbox: Arc<Mailbox>,
    wire: Arc<dyn Wire>,
    clock: &SharedClock,
    seed: u64,
) -> Outside {
    let held = host.clone();
    Outside {
        journal: journal.clone(),
        post: mailbox.clone(),
        mailbox,
        wire,
        harvest: Arc::new(delivery::harvest::Fallow),
        clock: clock.clone(),
        epochs: Arc::new(move |shard| held.epoch(shard)),
        // A new run does not count on what an earlier one was leased.
        shared_as: journal.is_shared().then(|| format!("{}#{}", host.node(), clock.now().0)),
        observer: Arc::new(Watch),
        paused: BTreeSet::new(),
        seed,
    }
}

/// What is done when shards come.
fn gained(switchboard: &Arc<Switchboard>) -> cluster::Gained {
    let switchboard = switchboard.clone();
    Arc::new(move || switchboard.look())
}

fn timers(
    journal: &SharedJournal,
    mailbox: Arc<Mailbox>,
    clock: &SharedClock,
    switchboard: &Switchboard,
) -> Timers {
    let waker = switchboard.timers.clone();
    Timers::new(timer::Config::default(), journal.clone(), mailbox, clock.clone(), waker)
}

/// What connectors lack and what sources lack is told at once.
fn both(
    delivery: Result<Delivery, delivery::Error>,
    ingress: Result<Arc<Ingress>, ingress::Error>,
) -> Result<(Arc<Delivery>, Arc<Ingress>), Error> {
    match (delivery, ingress) {
        (Ok(delivery), Ok(ingress)) => Ok((Arc::new(delivery), ingress)),
        (delivery, ingress) => {
            let lacking = [delivery.err().map(|e| e.to_string()), ingress.err().map(|e| e.to_string())];
            Err(Error::Lacking { lacking: lacking.into_iter().flatten().collect() })
        }
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn guard(settings: &Settings) -> Result<Guard, Error> {
    let resolve = |token: &crate::config::Token| match token.token.resolve() {
        Ok(secret) => Ok((token.name.clone(), token.role, secret)),
        Err(error) => Err(Error::Token { name: token.name.clone(), error }),
    };
    Ok(Guard::new(settings.auth.tokens.iter().map(resolve).collect::<Result<_, _>>()?))
}

/// Commands and events are for operators.
fn admit(guard: Guard) -> ingress::Admit {
    Arc::new(move |headers| guard.check(headers, Role::Operator))
}

/// Whether no other node may have the store open.
fn takes_all(settings: &Settings) -> bool {
    settings.journal.store == Store::Embedded
}

/// Refuses a source whose messages could be kept nowhere until they are understood.
fn check_sources<'a>(
    regions: &Regions,
    sources: impl IntoIterator<Item = &'a ingress::source::Source>,
) -> Result<(), Error> {
    for source in sources {
        if let Some(region) = source.region.as_deref().filter(|region| !regions.serves(region)) {
            let why =
                format!("source `{}` is in region `{region}`, which is not listed; list it", source.name);
            return Err(Error::Setting { key: "cluster.regions", why });
        }
    }
    Ok(())
}

fn host_config(settings: &Settings, regions: Arc<Regions>) -> HostConfig {
    let limits = &settings.limits;
    HostConfig {
        resident_max: limits.residents_max.get(),
        idle: settings.passivation.idle,
        rest_after: settings.passivation.rest,
        entity_in_flight_max: limits.in_flight_per_entity.get(),
        bytes_in_flight_max: u32::try_from(limits.in_flight_bytes.bytes()).unwrap_or(u32::MAX),
        inside_in_flight_max: limits.inside_in_flight.get(),
        snapshot_every: settings.passivation.snapshot_after.get(),
        records_max: settings.retention.records.get(),
        takes_all: takes_all(settings),
        renew_every: settings.journal.lease.renew,
        lease: settings.journal.lease.give_up,
        regions,
        region: settings.cluster.region.as_deref().map(|region| Region(region.into())),
        ..HostConfig::new(NodeId(settings.node.name.as_str().into()))
    }
}

fn limits(settings: &Settings) -> serve::Limits {
    serve::Limits {
        header_timeout: settings.http.header_timeout,
        request_timeout: settings.http.request_timeout,
        connections_max: settings.http.connections_max.get(),
    }
}

fn ingress_limits(settings: &Settings) -> ingress::Limits {
    ingress::Limits {
        body_max: settings.http.body_max.bytes(),
        bytes_in_flight_max: settings.limits.in_flight_bytes.bytes(),
        remember: API_IDS_FOR,
    }
}

/// Passes the host's hints on to those who wait for work. They are made after the host, so it learns of them late.
#[derive(Debug, Default)]
struct Switchboard {
    delivery: OnceLock<Arc<Delivery>>,
    timers: timer::Waker,
}

impl Switchboard {
    /// Lets the calls of a shard end that is about to go.
    fn leaving(self: &Arc<Self>) -> cluster::Leaving {
        let switchboard = self.clone();
        Arc::new(move |shard| {
            let delivery = switchboard.delivery.get().cloned();
            Box::pin(async move {
                if let Some(delivery) = delivery {
                    delivery.leave(shard, CALLS_END_WITHIN).await;
                }
            })
        })
    }

    /// Has everyone look into the store: shards were taken, and what waits there is not known yet.
    fn look(&self) {
        if let Some(delivery) = self.delivery.get() {
            delivery.look();
        }
        self.timers.look();
    }
}

impl Hints for Switchboard {
    fn effects(&self, rows: &[OutboxRow]) {
        if let Some(delivery) = self.delivery.get() {
            delivery.hint(rows);
        }
    }

    fn called_off(&self, entity: &EntityId, effects: &[EffectId]) {
        for effect in effects {
            self.delivery.get().into_iter().for_each(|delivery| delivery.call_off(entity, *effect));
        }
    }

    fn timers(&self, rows: &[TimerRow]) {
        self.timers.hint(rows);
    }
}

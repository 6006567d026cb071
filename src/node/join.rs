//! How a node joins its cluster: what the settings say of it, as the cluster needs it, and keys that change while the node runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use syncline_actors::placement::{Regions, planner};
use tokio::sync::watch;

use super::cluster::{Cluster, Config, Gained, Leaving, Means};
use super::shards::{self, Shards};
use super::{Directory, Error};
use crate::clock::SharedClock;
use crate::config::{self, Settings};
use crate::gossip::{Key, KeyRing, Seed, Udp};
use crate::host::Host;
use crate::journal::SharedJournal;
use crate::secret::SecretRef;
use crate::transport::{Tcp, TlsFiles};

/// Between two looks at the file of keys.
const KEYS_EVERY: Duration = Duration::from_secs(10);

/// What a node is part of a cluster with.
pub(super) struct Joining<'a> {
    pub(super) host: &'a Host,
    pub(super) journal: &'a SharedJournal,
    pub(super) clock: &'a SharedClock,
    pub(super) directory: Option<&'a Directory>,
    pub(super) gained: Gained,
    pub(super) leaving: Leaving,
    pub(super) orders: watch::Receiver<Arc<planner::Orders>>,
    pub(super) regions: Arc<Regions>,
    pub(super) slate: Arc<super::monitor::Slate>,
    pub(super) seed: u64,
}

impl Joining<'_> {
    /// Comes to shards in the way that the settings say.
    pub(super) async fn join(
        self,
        settings: &Settings,
        http: SocketAddr,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Shards, Error> {
        if super::takes_all(settings) {
            return Ok(Shards::All);
        }
        let boot = self.directory.map_or(1, Directory::boot);
        let Some(config) = config(settings, boot, http, self.regions.clone())? else {
            let drain_for = settings.shutdown.drain_for;
            let working = shards::work_or_wait(self.host.clone(), drain_for, self.gained, stopping.clone());
            return Ok(Shards::Standby(tokio::spawn(working)));
        };
        let means = Means {
            host: self.host.clone(),
            journal: self.journal.clone(),
            datagrams: Arc::new(Udp::bind(config.listen).await?),
            network: Arc::new(Tcp),
            clock: self.clock.clone(),
            gained: self.gained,
            leaving: self.leaving,
            orders: self.orders,
            slate: self.slate,
            seed: self.seed,
        };
        let cluster = Arc::new(Cluster::start(config, means).await?);
        if let Some(keys) = &settings.cluster.keys {
            tokio::spawn(watch_keys(keys.clone(), cluster.clone(), stopping.clone()));
        }
        Ok(Shards::Cluster(cluster))
    }
}

/// What `[cluster]` says; none when nodes do not speak with each other. `http` is where this node's API listens.
fn config(
    settings: &Settings,
    boot: u64,
    http: SocketAddr,
    regions: Arc<Regions>,
) -> Result<Option<Config>, Error> {
    let stated = &settings.cluster;
    let (Some(listen), Some(advertise)) = (stated.listen, stated.advertised()) else { return Ok(None) };
    let setting = |key: &'static str, why: String| Error::Setting { key, why };
    let seed =
        |seed: &String| seed.parse::<Seed>().map_err(|error| setting("cluster.seeds", error.to_string()));
    let keys = stated.keys.as_ref().ok_or_else(|| setting("cluster.keys", "it is not set".to_owned()))?;
    let http_ip = if http.ip().is_unspecified() { advertise.ip() } else { http.ip() };
    Ok(Some(Config {
        cluster: stated.name.clone(),
        boot,
        listen,
        advertise,
        http: SocketAddr::new(http_ip, http.port()),
        seeds: stated.seeds.iter().map(seed).collect::<Result<_, _>>()?,
        keys: ring(keys).map_err(|why| setting("cluster.keys", why))?,
        tls: tls(&stated.tls),
        weight: stated.weight,
        region: stated.region.clone(),
        zone: stated.zone.clone(),
        placement: planner::Settings {
            settle: stated.placement.settle,
            moves_max: stated.placement.moves_max.get(),
            warm_up_step: stated.placement.warm_up_step,
            ..planner::Settings::default()
        },
        regions,
        drain_for: settings.shutdown.drain_for,
        fresh_for: settings.journal.lease.give_up,
    }))
}

fn tls(stated: &config::ClusterTls) -> Option<TlsFiles> {
    let config::ClusterTls { ca: Some(ca), cert: Some(cert), key: Some(key) } = stated.clone() else {
        return None;
    };
    Some(TlsFiles { ca, cert, key })
}

/// The keys that are there now: one a line, the first seals.
fn ring(keys: &SecretRef) -> Result<KeyRing, String> {
    let text = keys.resolve().map_err(|error| error.to_string())?;
    let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Result<Vec<_>, _> = lines.map(|line| Key::parse(&SecretString::from(line))).collect();
    KeyRing::new(keys.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

/// Takes over keys that were changed, until `stop`.
async fn watch_keys(keys: SecretRef, cluster: Arc<Cluster>, mut stop: watch::Receiver<bool>) {
    let mut known = ring(&keys).ok();
    loop {
        tokio::select! {
            () = tokio::time::sleep(KEYS_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        match ring(&keys) {
            Ok(ring) if known.as_ref() == Some(&ring) => {}
            Ok(ring) => {
                tracing::info!("the keys of gossip were replaced");
                if cluster.replace_keys(ring.clone()).is_err() {
                    return;
                }
                known = Some(ring);
            }
            Err(why) => tracing::error!("the new keys of gossip cannot be used, the old ones stay: {why}"),
        }
    }
}

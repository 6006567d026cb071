//! Node settings: `config/syncline.toml` explains every key and holds every default; a file, the environment and the
//! command line go over it.
//!
//! All mistakes are found before anything starts, and all are reported, each with its place and the fix. Sections are passed
//! down to those who need them; there is no global.

mod check;
mod layer;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use layer::Place;
pub use units::ByteSize;

use crate::secret::SecretRef;
use units::span;

/// The documented default settings, as they stand in the repository.
pub const DEFAULT: &str = include_str!("../config/syncline.toml");

/// All settings of a node.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Who the node is and where its directories are.
    pub node: Node,
    /// The one listener.
    pub http: Http,
    /// Who may use commands, pages and the API.
    pub auth: Auth,
    /// The store.
    pub journal: Journal,
    /// What nodes that share a store have in common.
    pub cluster: Cluster,
    /// What bounds memory.
    pub limits: Limits,
    /// When entities leave memory.
    pub passivation: Passivation,
    /// What is kept for how long.
    pub retention: Retention,
    /// Logs.
    pub log: Log,
    /// How the node stops.
    pub shutdown: Shutdown,
}

/// `[node]`: who the node is and where its directories are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name in logs, metrics and the journal.
    pub name: String,
    /// What it must not lose.
    pub data_dir: PathBuf,
    /// The integration: `processes/`, `sources/`, `connectors/`, `schemas/`.
    pub config_dir: PathBuf,
}

/// `[http]`: the one listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port. Beyond loopback it needs `tls` and a token.
    pub listen: SocketAddr,
    /// Longest request body. At most `limits.in_flight_bytes`, or it would never be let in.
    pub body_max: ByteSize,
    /// Time for a client to send the headers.
    #[serde(with = "span")]
    pub header_timeout: Duration,
    /// Time for one request, from its first byte to the answer.
    #[serde(with = "span")]
    pub request_timeout: Duration,
    /// Connections held at the same time.
    pub connections_max: NonZeroUsize,
    /// Certificate and key; both or neither.
    #[serde(default)]
    pub tls: Tls,
}

/// `[http.tls]`: certificate and key. After the check either both are set or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, a PEM file.
    pub cert: Option<PathBuf>,
    /// Private key, a PEM file.
    pub key: Option<PathBuf>,
}

impl Tls {
    /// Certificate chain and private key, if TLS is on.
    pub fn files(&self) -> Option<(&Path, &Path)> {
        self.cert.as_deref().zip(self.key.as_deref())
    }
}

/// `[auth]`: who may use commands, pages and the API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The tokens; with none, whoever reaches a loopback address is admin.
    pub tokens: Vec<Token>,
}

/// One of `auth.tokens`: a bearer token and what it allows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who uses it; stands in the audit trail.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Where the token itself is.
    pub token: SecretRef,
}

/// What someone may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Sends commands, retries and resolves exceptions, pauses connectors.
    Operator,
    /// Everything.
    Admin,
}

/// `[journal]`: the store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Which store.
    pub store: Store,
    /// Its file; relative to `node.data_dir`. See [`Settings::journal_path`].
    pub path: PathBuf,
    /// Memory for pages of it.
    pub cache: ByteSize,
    /// Redis.
    pub redis: RedisStore,
    /// How long shards are held.
    pub lease: Lease,
}

/// The stores there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// One file on this machine, flushed before anything is acknowledged.
    Embedded,
    /// Redis; several nodes may share it.
    Redis,
}

/// `[journal.redis]`: where Redis is, and what it must promise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RedisStore {
    /// The server, all servers of a group, or some members of a Redis Cluster.
    pub urls: Vec<String>,
    /// Whether they are a Redis Cluster.
    pub cluster_mode: bool,
    /// What an acknowledgement promises.
    pub tier: Tier,
    /// How many replicas must have what is acknowledged.
    pub replicas: NonZeroU8,
    /// How long they may take.
    #[serde(with = "span")]
    pub replicas_wait: Duration,
    /// Whether it must be in their files, flushed; needs Redis 7.2.
    pub replicas_flush: bool,
    /// Writing connections to each server.
    pub writers: NonZeroUsize,
    /// How long a server may take to answer.
    #[serde(with = "span")]
    pub response_timeout: Duration,
    /// How long a call is tried again.
    #[serde(with = "span")]
    pub patience: Duration,
    /// User of Redis.
    #[serde(default)]
    pub user: Option<String>,
    /// Where its password is.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// Certificates to trust, a PEM file.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Takes a server that does not tell how durable it is.
    pub trust_store_durability: bool,
}

/// What an acknowledgement by Redis promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Tier {
    /// It is in the server's file, flushed.
    #[serde(rename = "redis")]
    Single,
    /// Also, replicas have it.
    #[serde(rename = "redis-replicated")]
    Replicated,
    /// The last second may be lost.
    #[serde(rename = "relaxed")]
    Relaxed,
}

/// `[journal.lease]`: how long shards are held.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// From a renewal on, by the store's clock.
    #[serde(with = "span")]
    pub ttl: Duration,
    /// Between two renewals.
    #[serde(with = "span")]
    pub renew: Duration,
    /// After the last renewal, until nothing is answered any more.
    #[serde(with = "span")]
    pub give_up: Duration,
}

/// `[cluster]`: what nodes that share a store have in common.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Where this node listens for others; without it they do not speak with each other.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// That address as others see it. See [`Cluster::advertised`].
    #[serde(default)]
    pub advertise: Option<SocketAddr>,
    /// Nodes to call on: `host:port`.
    pub seeds: Vec<String>,
    /// Where the keys are that seal datagrams, one a line.
    #[serde(default)]
    pub keys: Option<SecretRef>,
    /// Share of the shards, relative to that of other nodes.
    pub weight: u16,
    /// Where the node stands in law.
    #[serde(default)]
    pub region: Option<String>,
    /// What fails together with it.
    #[serde(default)]
    pub zone: Option<String>,
    /// Regions that entities may be bound to.
    pub regions: Vec<String>,
    /// How long a node goes on answering that has said that it is not ready.
    #[serde(with = "span")]
    pub linger: Duration,
    /// For messages between nodes: all or none.
    #[serde(default)]
    pub tls: ClusterTls,
    /// When shards move.
    pub placement: Placement,
}

impl Cluster {
    /// Where other nodes send to, if they do.
    pub fn advertised(&self) -> Option<SocketAddr> {
        self.advertise.or(self.listen)
    }
}

/// `[cluster.tls]`: certificates of messages between nodes. After the check either all are set or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterTls {
    /// Who signs the nodes' certificates, a PEM file.
    pub ca: Option<PathBuf>,
    /// This node's certificate chain, a PEM file.
    pub cert: Option<PathBuf>,
    /// Its private key, a PEM file.
    pub key: Option<PathBuf>,
}

/// `[cluster.placement]`: when shards move. The same on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// How long something must be as it is before shards move for it.
    #[serde(with = "span")]
    pub settle: Duration,
    /// Shards on their way from one node, or to one.
    pub moves_max: NonZeroUsize,
    /// Between the quarters that a new node takes.
    #[serde(with = "span")]
    pub warm_up_step: Duration,
}

/// `[limits]`: what bounds memory. At a limit the node sheds load; it never acknowledges and forgets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of all messages being worked on. At the limit: 503.
    pub in_flight_bytes: ByteSize,
    /// Messages in flight for one entity. At the limit: 429.
    pub in_flight_per_entity: NonZeroUsize,
    /// Entities in memory.
    pub residents_max: NonZeroUsize,
    /// Timers and outcomes of effects being worked on.
    pub inside_in_flight: NonZeroUsize,
}

/// `[passivation]`: when entities leave memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Passivation {
    /// After so long without a message.
    #[serde(with = "span")]
    pub idle: Duration,
    /// After so long without a message an entity that stays has no actor.
    #[serde(with = "span")]
    pub rest: Duration,
    /// Records after which a new snapshot is kept.
    pub snapshot_after: NonZeroU64,
}

/// `[retention]`: what is kept for how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Records of entities that have ended.
    #[serde(with = "span")]
    pub ended: Duration,
    /// Records that an entity keeps while it lives.
    pub records: NonZeroU64,
}

/// `[log]`: logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// How much.
    pub level: LogLevel,
}

/// Whom logs are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// People.
    Pretty,
    /// Machines: one JSON object a line.
    Json,
}

/// How much Syncline logs; libraries log from `warn` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what may become a failure.
    Warn,
    /// Also what happens at large.
    Info,
    /// Also each message.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in settings and in logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[shutdown]`: how the node stops.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// Time for what is being worked on to end.
    #[serde(with = "span")]
    pub drain_for: Duration,
}

/// Why there are no settings. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("the settings file {} cannot be read: {source}; check `--config` (or SYNCLINE_CONFIG)", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Everything that is wrong with them, in the order of the places.
    #[error("{}", list(.0))]
    Mistakes(Vec<Mistake>),
}

fn list(mistakes: &[Mistake]) -> String {
    let mut text = match mistakes.len() {
        1 => "there is a mistake in the settings:".to_owned(),
        count => format!("there are {count} mistakes in the settings:"),
    };
    for mistake in mistakes {
        text.push_str("\n  ");
        text.push_str(&mistake.to_string());
    }
    text
}

/// One mistake: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands.
    pub place: Place,
    /// The key, dotted; empty if it is about none.
    pub key: String,
    /// What is wrong, and the fix.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

impl Settings {
    /// Settings from the defaults, then `file`, then the variables of `environment` that are settings, then `set`
    /// (`section.key=value`).
    ///
    /// # Errors
    /// When the file cannot be read, and with every mistake in any of the places.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        set: &[String],
    ) -> Result<Self, Error> {
        let file = file.map(read).transpose()?;
        let mut layers = layer::Layers::default();
        if let Some((path, text)) = &file {
            layers.file(path, text);
        }
        layers.environment(environment);
        layers.set(set);
        let (settings, origins, mut mistakes) = layers.merge();
        mistakes.extend(check::check(&settings, &origins, &mistakes));
        mistakes.sort_by(|a, b| a.place.cmp(&b.place));
        if mistakes.is_empty() { Ok(settings) } else { Err(Error::Mistakes(mistakes)) }
    }

    /// The store's file.
    pub fn journal_path(&self) -> PathBuf {
        self.node.data_dir.join(&self.journal.path)
    }
}

/// The environment's variables as [`Settings::load`] takes them.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    // What is not text is kept, spoilt: a setting that holds it is then refused by name.
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

fn read(path: &Path) -> Result<(PathBuf, String), Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((path.to_owned(), text)),
        Err(source) => Err(Error::Unreadable { path: path.to_owned(), source }),
    }
}

/// The settings as documented in [`DEFAULT`].
impl Default for Settings {
    fn default() -> Self {
        toml::from_str(DEFAULT).expect("a test reads config/syncline.toml")
    }
}

#[cfg(test)]
mod tests;

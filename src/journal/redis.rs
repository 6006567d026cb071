//! The journal of a cluster: Redis, alone, as a group of primary and replicas, or as a Redis Cluster.
//!
//! One call of the journal is one call of a function inside Redis (`functions.lua`), which checks epoch, known messages, sequence
//! and chain before it writes anything. Everything of a shard lies in one hash slot. Calls that write go through a few connections
//! in groups (`writer`), calls that read through one. What the store promises is looked at before it is used (`preflight`), and again
//! on every new connection.
//!
//! What is due, what waits and what is counted is told of the shards that were acquired through this handle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use redis::{Cmd, Value};
use secrecy::SecretString;
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, SHARDS, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, Progress, TimerRow};
use syncline_actors::time::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::recovery::{self, Recovers as _, Tail};
use super::share::{Ask, Share};
use super::{
    Append, Appended, Compacted, Depth, Error, ExceptionFilter, Grant, Head, Holding, Journal, Loaded,
    ORDERS_MAX, Snapshot, changed_definition, check_order, keys, too_many_orders,
};
use crate::clock::{SharedClock, SystemClock};

mod functions;
mod line;
mod lists;
mod names;
mod preflight;
mod recovers;
mod reply;
mod request;
mod servers;
mod shared;
mod writer;

pub use functions::Library;

use functions::Call;
use line::Trouble;
use reply::Said;
use servers::Servers;
use shared::{Shared, lock};
use writer::{Job, Outcome};

/// Pause before a server is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// How a store is reached, and what it promises.
#[derive(Clone)]
pub struct Options {
    /// `redis://host:port` or `rediss://host:port`: the server, all servers of a group, or some members of a Redis Cluster.
    pub urls: Vec<String>,
    /// Whether they are a Redis Cluster.
    pub cluster_mode: bool,
    /// The name of the Syncline cluster: begins every key.
    pub cluster: String,
    /// What is promised.
    pub tier: Tier,
    /// What the store is called from now on if it is new: a text that no other store has.
    pub genesis: String,
    /// Which run of this node it is: larger after each start.
    pub boot: u64,
    /// How long a shard is held without a renewal, by the server's clock. Zero: not at all, so that anyone may take it.
    pub lease: Duration,
    /// Writing connections to each server.
    pub writers: usize,
    /// How long a server may take to answer.
    pub response_timeout: Duration,
    /// How long a call is tried while the store does not answer.
    pub patience: Duration,
    /// User of Redis.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// Certificates to trust for `rediss://`, in PEM, when the system's are not those.
    pub ca: Option<Vec<u8>>,
    /// Takes a server that does not tell how durable it is.
    pub trust_store_durability: bool,
    /// The functions that do the work there: [`Library::default`], but for tests of those to come.
    pub library: Library,
    /// This machine's time, which the server's is compared with.
    pub clock: SharedClock,
}

/// What an answer of the store promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// It is in the server's file, flushed.
    Single,
    /// Also, so many replicas have it in memory.
    Replicated {
        /// How many.
        replicas: u8,
        /// How long they may take.
        wait: Duration,
        /// Whether it must be in their files, flushed. Needs Redis 7.2.
        flushed: bool,
    },
    /// The last second may be lost.
    Relaxed,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            urls: vec!["redis://127.0.0.1:6379".to_owned()],
            cluster_mode: false,
            cluster: "syncline".to_owned(),
            tier: Tier::Single,
            genesis: "new".to_owned(),
            boot: 0,
            lease: Duration::from_secs(4),
            writers: 4,
            response_timeout: Duration::from_secs(1),
            patience: Duration::from_millis(1_500),
            user: None,
            password: None,
            ca: None,
            trust_store_durability: false,
            library: Library::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("urls", &self.urls)
            .field("cluster", &self.cluster)
            .field("tier", &self.tier)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// A group is answered when the replicas have it.
    fn response_timeout_with_wait(&self) -> Duration {
        match self.tier {
            Tier::Replicated { wait, .. } => self.response_timeout + wait,
            Tier::Single | Tier::Relaxed => self.response_timeout,
        }
    }
}

/// The journal in Redis. Several nodes have it open at once.
#[derive(Debug)]
pub struct Redis {
    shared: Arc<Shared>,
    servers: Servers,
    /// Epochs heard of elsewhere.
    heard: Mutex<BTreeMap<ShardId, Epoch>>,
    /// The node that took shards here.
    node: Mutex<Option<NodeId>>,
    /// The newest appends, to be sent again if the store loses them.
    tail: Mutex<Tail<Arc<Call>>>,
    /// What the store is called since it was made.
    genesis: OnceLock<String>,
}

impl Redis {
    /// Looks at the servers and opens the store. Keeps nothing when it is dropped.
    ///
    /// # Errors
    /// [`Error::Open`] when a server would lose what is acknowledged, or has another program's library; the text says what to set.
    /// [`Error::Unavailable`] when none can be reached.
    pub async fn open(options: Options) -> Result<Arc<Self>, Error> {
        // Redis's client takes what the process has chosen; whoever was first has chosen the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shared = Arc::new(Shared::new(options));
        let servers = Servers::new(shared.clone());
        let redis = Arc::new(Self {
            shared,
            servers,
            heard: Mutex::default(),
            node: Mutex::default(),
            tail: Mutex::default(),
            genesis: OnceLock::new(),
        });
        redis.servers.renew().await?;
        let all = ShardId::all().map(|shard| redis.shared.names.slot(shard)).collect::<BTreeSet<_>>();
        for slot in all {
            redis.servers.of(slot).await?.reader.open().await?;
        }
        redis.settle().await?;
        tokio::spawn(recovery::watch(Arc::downgrade(&redis), redis.shared.changes()));
        Ok(redis)
    }

    /// What the store is called since it was made. Another one is another store, or this one wiped.
    pub fn genesis(&self) -> &str {
        self.genesis.get().map_or("", String::as_str)
    }

    /// Learns what the store is, or makes it one.
    async fn settle(&self) -> Result<(), Error> {
        let shards = self.kept("shards", &SHARDS.to_string()).await?;
        if shards != SHARDS.to_string() {
            return Err(Error::Open(format!(
                "the store of cluster `{}` has {shards} shards, and this program {SHARDS}: use the release that made it, or another \
                 `cluster.name`",
                self.shared.options.cluster
            )));
        }
        let genesis = self.kept("genesis", &self.shared.options.genesis).await?;
        let _ = self.genesis.set(genesis);
        Ok(())
    }

    /// What the store keeps of itself under this name: what is given, if it is the first.
    async fn kept(&self, name: &str, first: &str) -> Result<String, Error> {
        let call = Call::writing("keep_definition", self.shared.names.shared("store")).arg(name).arg(first);
        let kept = self.write(self.shared.names.shared_slot(), 0, None, Arc::new(call), false).await?;
        reply::text(name, kept)
    }

    /// Counts the times that a server turned out to be another one: after a restart, a promotion, or a move of slots.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.changes()
    }

    fn until(&self) -> Instant {
        Instant::now() + self.shared.options.patience
    }

    /// Has a call carried out that writes; of a shard, unless it is none or one in doubt.
    async fn write(
        &self,
        slot: u16,
        lane: usize,
        of: Option<ShardId>,
        call: Arc<Call>,
        mut again: bool,
    ) -> Result<Value, Error> {
        let until = self.until();
        loop {
            let why = match self.servers.of(slot).await {
                Err(error) => text_of(&error),
                Ok(server) => {
                    let (reply, answer) = oneshot::channel();
                    server.writers.send(lane, Job { call: call.clone(), until, again, of, reply }).await;
                    match answer.await {
                        Ok(Outcome::Answered(value)) => return Ok(value),
                        Ok(Outcome::Failed(error)) => return Err(error),
                        Ok(Outcome::Elsewhere(why)) => self.renew_servers().await.unwrap_or(why),
                        Err(_dropped) => "the store is closed".to_owned(),
                    }
                }
            };
            if Instant::now() >= until {
                return Err(Error::Unavailable(why));
            }
            again = true;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn write_shard(&self, shard: ShardId, call: Call) -> Result<Value, Error> {
        self.write_trusted(shard, Arc::new(call)).await
    }

    async fn write_trusted(&self, shard: ShardId, call: Arc<Call>) -> Result<Value, Error> {
        if self.shared.is_doubted(shard) {
            return Err(Error::Unavailable(writer::IN_DOUBT.to_owned()));
        }
        self.write(self.shared.names.slot(shard), usize::from(shard.0), Some(shard), call, false).await
    }

    /// The same for a shard that is in doubt: only for looking what has become of it. The call may be one that was sent before.
    async fn write_in_doubt(&self, shard: ShardId, call: Arc<Call>) -> Result<Value, Error> {
        self.write(self.shared.names.slot(shard), usize::from(shard.0), None, call, true).await
    }

    /// The command of a call that only reads.
    fn reading(&self, call: &Call) -> Cmd {
        call.command(&self.shared.options.library, false)
    }

    /// Has a command carried out that only reads.
    async fn read(&self, slot: u16, command: &Cmd) -> Result<Value, Error> {
        let until = self.until();
        loop {
            let why = match self.try_read(slot, command).await {
                Ok(outcome) => return outcome,
                Err(why) => why,
            };
            if Instant::now() >= until {
                return Err(Error::Unavailable(why));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One try. The outer error: another may work.
    async fn try_read(&self, slot: u16, command: &Cmd) -> Result<Result<Value, Error>, String> {
        let server = self.servers.of(slot).await.map_err(|error| text_of(&error))?;
        let mut open = match server.reader.open().await {
            Ok(open) => open,
            Err(error) => return Err(self.renew_servers().await.unwrap_or_else(|| text_of(&error))),
        };
        match line::ask(&mut open.connection, command).await {
            Ok(value) => Ok(Ok(value)),
            Err((Trouble::Refused(text), _)) => {
                Ok(Err(Error::Unavailable(format!("redis at {}: {text}", server.place.address))))
            }
            Err((Trouble::Broken, error)) => {
                server.reader.broken(open.number).await;
                Err(server.place.unavailable(&error).to_string())
            }
            Err((Trouble::Elsewhere, error)) => {
                server.reader.broken(open.number).await;
                Err(self.renew_servers().await.unwrap_or_else(|| error.to_string()))
            }
        }
    }

    /// Asks anew who holds what; why that is not to be had.
    async fn renew_servers(&self) -> Option<String> {
        self.servers.renew().await.err().map(|error| text_of(&error))
    }

    async fn read_shard(&self, shard: ShardId, command: &Cmd) -> Result<Value, Error> {
        self.read(self.shared.names.slot(shard), command).await
    }

    /// The same, of a shard whose content is not in doubt.
    async fn read_trusted(&self, shard: ShardId, command: &Cmd) -> Result<Value, Error> {
        let value = self.read_shard(shard, command).await?;
        // Looked at afterwards: the connection may be new, and the server another.
        if self.shared.is_doubted(shard) {
            return Err(Error::Unavailable(writer::IN_DOUBT.to_owned()));
        }
        Ok(value)
    }

    /// Asks a function of every shard in `shards` at once.
    async fn ask_each<T>(
        &self,
        shards: impl IntoIterator<Item = ShardId>,
        call: impl Fn(String) -> Call,
        take: impl Fn(ShardId, Value) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let asked = shards.into_iter().map(|shard| {
            let command = self.reading(&call(self.shared.names.lease(shard)));
            async move { Ok::<_, Error>((shard, self.read_shard(shard, &command).await?)) }
        });
        try_join_all(asked).await?.into_iter().map(|(shard, value)| take(shard, value)).collect()
    }

    fn held_shards(&self) -> Vec<ShardId> {
        self.shared.held().keys().copied().collect()
    }

    fn lease_ms(&self) -> u64 {
        u64::try_from(self.shared.options.lease.as_millis()).unwrap_or(u64::MAX)
    }

    async fn acquire_one(&self, shard: ShardId, node: &NodeId) -> Result<Option<Grant>, Error> {
        let above = lock(&self.heard).get(&shard).copied().unwrap_or_default();
        let mut call = Call::writing("acquire", self.shared.names.lease(shard));
        call.push(node.0.as_bytes()).number(self.shared.options.boot).number(self.lease_ms()).number(above.0);
        let value = self.write_shard(shard, call).await?;
        match self.said("acquire", shard, Epoch(0), value)? {
            Said::Done(Some(epoch)) => {
                let epoch = Epoch(reply::number("acquire", epoch)?);
                self.shared.held().insert(shard, epoch);
                self.hear(&[Grant { shard, epoch }]);
                Ok(Some(Grant { shard, epoch }))
            }
            Said::HeldBy { epoch, node, left_ms } => {
                tracing::debug!(%shard, %epoch, node, left_ms, "the shard is held by another node");
                Ok(None)
            }
            other => Err(Error::Corrupt(format!("redis answered acquire with {other:?}"))),
        }
    }

    async fn renew_one(&self, grant: Grant) -> Result<(), Error> {
        self.outgrown(grant.shard, grant.epoch)?;
        let mut call = Call::fenced("renew", self.shared.names.lease(grant.shard), grant.epoch.0);
        call.number(self.lease_ms());
        let value = self.write_shard(grant.shard, call).await?;
        let renewed = self.said("renew", grant.shard, grant.epoch, value).map(drop);
        if let Err(Error::Fenced { .. }) = renewed {
            recovery::let_go(self, grant);
        }
        renewed
    }

    async fn release_one(&self, grant: Grant) -> Result<(), Error> {
        recovery::let_go(self, grant);
        if self.outgrown(grant.shard, grant.epoch).is_err() {
            return Ok(());
        }
        let call = Call::fenced("release", self.shared.names.lease(grant.shard), grant.epoch.0);
        let value = self.write_shard(grant.shard, call).await?;
        reply::said("release", grant.shard, grant.epoch, value).map(drop)
    }

    /// What a function says. A store that knows only an earlier epoch of a shard held here has lost its end, whatever server it is: all
    /// that is held is in doubt until it was looked at.
    fn said(&self, what: &str, shard: ShardId, held: Epoch, value: Value) -> Result<Said, Error> {
        match reply::said(what, shard, held, value) {
            Err(Error::Fenced { current, .. })
                if current < held && self.shared.held().get(&shard) == Some(&held) =>
            {
                tracing::error!(alarm = true, %shard, %held, %current, "the store has lost an epoch");
                self.shared.changed();
                Err(Error::Unavailable(writer::IN_DOUBT.to_owned()))
            }
            said => said,
        }
    }

    /// Refuses what is under an epoch that is known to be over, without asking.
    fn outgrown(&self, shard: ShardId, held: Epoch) -> Result<(), Error> {
        match lock(&self.heard).get(&shard) {
            Some(&current) if current > held => Err(Error::Fenced { shard, held, current }),
            _ => Ok(()),
        }
    }
}

/// What is wrong, without saying twice of what kind it is.
fn text_of(error: &Error) -> String {
    match error {
        Error::Unavailable(text) | Error::Open(text) => text.clone(),
        other => other.to_string(),
    }
}

#[async_trait]
impl Journal for Redis {
    async fn acquire(&self, shards: &[ShardId], node: &NodeId) -> Result<Vec<Grant>, Error> {
        *lock(&self.node) = Some(node.clone());
        let grants = try_join_all(shards.iter().map(|shard| self.acquire_one(*shard, node))).await?;
        Ok(grants.into_iter().flatten().collect())
    }

    async fn renew(&self, grants: &[Grant]) -> Vec<Result<(), Error>> {
        join_all(grants.iter().map(|grant| self.renew_one(*grant))).await
    }

    async fn release(&self, grants: &[Grant]) -> Result<(), Error> {
        try_join_all(grants.iter().map(|grant| self.release_one(*grant))).await.map(drop)
    }

    fn hear(&self, epochs: &[Grant]) {
        let mut heard = lock(&self.heard);
        for Grant { shard, epoch } in epochs {
            let known = heard.entry(*shard).or_default();
            *known = (*known).max(*epoch);
        }
    }

    async fn holdings(&self) -> Result<Vec<Holding>, Error> {
        self.ask_each(ShardId::all(), |lease| Call::reading("holder", lease), request::read_holding).await
    }

    async fn suspect(&self, shard: ShardId, why: &str) -> Result<(), Error> {
        self.mark(shard, why).await
    }

    async fn accept(&self, shard: ShardId) -> Result<(), Error> {
        lock(&self.tail).forget(shard);
        let call = Call::writing("suspect", self.shared.names.lease(shard)).arg("");
        self.write_in_doubt(shard, Arc::new(call)).await.map(drop)
    }

    async fn append(&self, append: Append) -> Result<Appended, Error> {
        let (shard, epoch) = (append.entity.shard(), append.epoch);
        self.outgrown(shard, epoch)?;
        let call = Arc::new(request::append(self.shared.names.lease(shard), &append)?);
        match self.said("append", shard, epoch, self.write_trusted(shard, call.clone()).await?)? {
            Said::Done(_) => {
                lock(&self.tail).keep(shard, call.weight(), call);
                Ok(Appended::Written)
            }
            Said::Known(answer) => Ok(Appended::Duplicate(super::rows::read_answer(&answer)?)),
            Said::Elsewhere(found) => {
                let expected = append.seq.saturating_sub(1);
                Err(Error::Conflict { entity: append.entity, expected, found })
            }
            other => Err(Error::Corrupt(format!("redis answered append with {other:?}"))),
        }
    }

    async fn load(&self, entity: &EntityId) -> Result<Loaded, Error> {
        let shard = entity.shard();
        let call = Call::reading("load", self.shared.names.lease(shard)).arg(names::entity(entity));
        request::read_loaded(entity, self.read_trusted(shard, &self.reading(&call)).await?)
    }

    async fn records(&self, entity: &EntityId, from: u64, limit: usize) -> Result<Vec<Bytes>, Error> {
        let shard = entity.shard();
        let mut call = Call::reading("records", self.shared.names.lease(shard)).arg(names::entity(entity));
        // Lua counts to 2^53.
        call.number(from.clamp(1, 1 << 52)).number(limit.min(1 << 52));
        let frames = reply::list("records", self.read_trusted(shard, &self.reading(&call)).await?)?;
        frames.into_iter().map(|frame| reply::frame("records", frame)).collect()
    }

    async fn save_snapshot(&self, epoch: Epoch, entity: &EntityId, snapshot: Snapshot) -> Result<(), Error> {
        let shard = entity.shard();
        self.outgrown(shard, epoch)?;
        let call = Call::fenced("save_snapshot", self.shared.names.lease(shard), epoch.0)
            .arg(names::entity(entity))
            .arg(snapshot.seq.to_be_bytes())
            .arg(snapshot.hash.0)
            .arg(super::rows::snapshot_value(&snapshot));
        match self.said("save_snapshot", shard, epoch, self.write_shard(shard, call).await?)? {
            Said::Done(_) => Ok(()),
            Said::Elsewhere(found) => {
                Err(Error::Conflict { entity: entity.clone(), expected: snapshot.seq, found })
            }
            other => Err(Error::Corrupt(format!("redis answered save_snapshot with {other:?}"))),
        }
    }

    async fn trim(&self, epoch: Epoch, entity: &EntityId, keep: u64) -> Result<u64, Error> {
        let shard = entity.shard();
        self.outgrown(shard, epoch)?;
        let mut call =
            Call::fenced("trim", self.shared.names.lease(shard), epoch.0).arg(names::entity(entity));
        call.number(keep.min(1 << 52));
        match self.said("trim", shard, epoch, self.write_shard(shard, call).await?)? {
            Said::Done(Some(trimmed)) => reply::number("trim", trimmed),
            other => Err(Error::Corrupt(format!("redis answered trim with {other:?}"))),
        }
    }

    async fn due_effects(
        &self,
        connector: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, Error> {
        let due = self.due(&format!("o:{connector}"), now, limit).await?;
        self.rows("o", due, request::read_effect).await
    }

    async fn next_effect(&self, connector: &str, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.next(&format!("o:{connector}"), now).await
    }

    async fn outbox_of(&self, entity: &EntityId) -> Result<Vec<OutboxRow>, Error> {
        let shard = entity.shard();
        let call = Call::reading("outbox", self.shared.names.lease(shard)).arg(names::entity(entity));
        request::read_outbox(self.read_trusted(shard, &self.reading(&call)).await?)
    }

    async fn progress(
        &self,
        epoch: Epoch,
        entity: &EntityId,
        effect: EffectId,
        progress: Progress,
    ) -> Result<bool, Error> {
        let shard = entity.shard();
        self.outgrown(shard, epoch)?;
        let call = request::progress(self.shared.names.lease(shard), epoch, entity, effect, &progress)?;
        let said = self.said("progress", shard, epoch, self.write_shard(shard, call).await?)?;
        Ok(matches!(said, Said::Done(_)))
    }

    async fn depths(&self) -> Result<BTreeMap<String, Depth>, Error> {
        let shards = self.ask_each(
            self.held_shards(),
            |lease| Call::reading("depths", lease),
            |_, value| request::read_depths(value),
        );
        let mut depths: BTreeMap<String, Depth> = BTreeMap::new();
        for (connector, depth) in shards.await?.into_iter().flatten() {
            let all = depths.entry(connector).or_default();
            all.waiting += depth.waiting;
            all.oldest = all.oldest.into_iter().chain(depth.oldest).min();
        }
        Ok(depths)
    }

    async fn due_timers(&self, now: Timestamp, limit: usize) -> Result<Vec<TimerRow>, Error> {
        let due = self.due("t", now, limit).await?;
        self.rows("t", due, super::rows::read_timer).await
    }

    async fn next_timer(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.next("t", now).await
    }

    async fn exceptions(&self, filter: &ExceptionFilter) -> Result<Vec<ExceptionRow>, Error> {
        self.open_exceptions(filter).await
    }

    async fn find(&self, term: &str, limit: usize) -> Result<Vec<EntityId>, Error> {
        self.found(term, limit).await
    }

    async fn heads(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Head>, Error> {
        let (from, to) = lists::heads_range(kind, after);
        let call = |lease| {
            let mut call = Call::reading("heads", lease).arg(&from).arg(&to);
            call.number(limit.min(1 << 52));
            call
        };
        let shards = self.ask_each(ShardId::all(), call, |_, value| request::read_heads(value)).await?;
        let mut heads: Vec<Head> = shards.into_iter().flatten().collect();
        heads.sort_by(|a, b| a.entity.cmp(&b.entity));
        heads.truncate(limit);
        Ok(heads)
    }

    async fn census(&self) -> Result<BTreeMap<(String, String), u64>, Error> {
        self.counted().await
    }

    async fn tallies(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.tallied().await
    }

    async fn definitions(&self) -> Result<BTreeMap<(String, u32), String>, Error> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.shared.names.shared("definitions"));
        let value = self.read(self.shared.names.shared_slot(), &command).await?;
        request::read_definitions(value)
    }

    async fn orders(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.shared.names.shared("orders"));
        let value = self.read(self.shared.names.shared_slot(), &command).await?;
        request::read_orders(value)
    }

    async fn order(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        check_order(key, value)?;
        let mut call = Call::writing("order", self.shared.names.shared("orders")).arg(key);
        call.number(ORDERS_MAX);
        if let Some(value) = value {
            call.push(value);
        }
        match self.write(self.shared.names.shared_slot(), 0, None, Arc::new(call), false).await? {
            Value::Int(1) => Ok(()),
            Value::Int(0) => Err(too_many_orders()),
            other => Err(reply::odd("order", &other)),
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn share(&self, ask: &Ask) -> Result<Share, Error> {
        let call = request::share(self.shared.names.shared(&format!("share:{}", ask.connector)), ask);
        let given = self.write(self.shared.names.shared_slot(), 0, None, Arc::new(call), false).await?;
        request::read_share(given)
    }

    async fn keep_definition(&self, kind: &str, version: u32, text: &str) -> Result<(), Error> {
        let call = Call::writing("keep_definition", self.shared.names.shared("definitions"))
            .arg(keys::definition(kind, version))
            .arg(text);
        match self.write(self.shared.names.shared_slot(), 0, None, Arc::new(call), false).await? {
            Value::BulkString(kept) if kept == text.as_bytes() => Ok(()),
            _ => Err(changed_definition(kind, version)),
        }
    }

    async fn compact(&self, now: Timestamp, ended_before: Timestamp) -> Result<Compacted, Error> {
        let mut compacted = Compacted::default();
        for shard in self.held_shards() {
            self.compact_shard(shard, now, ended_before, &mut compacted).await?;
        }
        Ok(compacted)
    }
}

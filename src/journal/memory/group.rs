//! A store in memory that several nodes share, for the simulation of a cluster: the rules of the one in Redis
//! (`redis/functions.lua`), a replica that is behind, and a promotion that loses what it did not have.
//!
//! Leases run by the store's clock, which is tokio's. What a node meets on its way to the store is told by its [`Way`]; what the store
//! does is told to a [`Witness`] at that moment. Recovery after a promotion is the code that the journal in Redis runs.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use syncline_actors::id::{EntityId, Epoch, NodeId, ShardId};
use tokio::time::Instant;

use super::store::Store;
use crate::journal::{Append, Appended, Error, Grant, Holding};

mod handle;

pub use handle::Handle;

/// The way between a node and the store.
#[async_trait]
pub trait Way: fmt::Debug + Send + Sync + 'static {
    /// A call sets out; it may take its time. The error: it does not arrive.
    async fn there(&self, call: &'static str) -> Result<(), Error>;
    /// Its answer comes back. The error: it does not arrive, whatever was done.
    async fn back(&self, call: &'static str) -> Result<(), Error>;
    /// The newest appends that were answered are kept, to be sent again if the store loses them.
    fn keeps_tail(&self) -> bool {
        true
    }
}

/// Is told what the store does, at that moment. Must not call the store.
pub trait Witness: fmt::Debug + Send + Sync + 'static {
    /// A shard was given to a run of a node.
    fn granted(&self, _grant: Grant, _node: &NodeId, _boot: u64) {}
    /// A record was written, by a run of a node; also one that was lost and is written again.
    fn written(&self, _append: &Append, _by: (&NodeId, u64)) {}
    /// An append was not written; the text says why.
    fn not_written(&self, _append: &Append, _why: &'static str) {}
    /// The primary is gone, and what the replica did not have with it.
    fn promoted(&self, _lost: &Lost) {}
    /// A shard was marked as suspect.
    fn suspected(&self, _shard: ShardId, _why: &str) {}
    /// What a suspect shard has lost was accepted.
    fn accepted(&self, _shard: ShardId) {}
}

/// What a promotion has lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Writes of any kind.
    pub writes: usize,
    /// Entities that have lost records, each with the last one that is left.
    pub entities: BTreeMap<EntityId, u64>,
    /// Shards that were given away under an epoch that is not known any more, each with the one that is.
    pub epochs: BTreeMap<ShardId, Epoch>,
}

/// The servers of a store. Cloning it gives another view of the same.
#[derive(Clone)]
pub struct Group {
    servers: Arc<Mutex<Servers>>,
    witness: Arc<dyn Witness>,
    /// Where its clock begins.
    born: Instant,
    /// How long a shard is held without a renewal.
    lease: Duration,
    /// An answer waits for the replica.
    waits: bool,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("lease", &self.lease)
            .field("waits", &self.waits)
            .finish_non_exhaustive()
    }
}

type Change = Box<dyn FnOnce(&mut Server) + Send>;

struct Servers {
    primary: Server,
    replica: Server,
    /// What the replica does not have yet, and when it will.
    behind: VecDeque<(Instant, Change)>,
    lag: Duration,
    /// Which process, or which history, it is.
    identity: u64,
}

/// One server's content.
#[derive(Debug, Clone, Default)]
struct Server {
    store: Store,
    leases: BTreeMap<ShardId, Lease>,
}

#[derive(Debug, Clone, Default)]
struct Lease {
    epoch: Epoch,
    /// The node and which run of it.
    holder: Option<(NodeId, u64)>,
    /// In milliseconds by the store's clock.
    until: u64,
    suspect: Option<String>,
}

/// What became of a call at the store.
struct Landed<T> {
    outcome: T,
    /// The store that it came to.
    identity: u64,
    /// When the replica has it.
    replicated: Instant,
}

impl Group {
    /// A new store. `lease`: how long a shard is held without a renewal. `waits`: what is answered is on the replica too.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(lease: Duration, waits: bool, witness: Arc<dyn Witness>) -> Self {
        let servers = Servers {
            primary: Server::default(),
            replica: Server::default(),
            behind: VecDeque::new(),
            lag: Duration::ZERO,
            identity: 0,
        };
        Self { servers: Arc::new(Mutex::new(servers)), witness, born: Instant::now(), lease, waits }
    }

    /// From now on the replica is so far behind.
    pub fn set_lag(&self, lag: Duration) {
        self.lock().lag = lag;
    }

    /// The server is another process now. It has all it had.
    pub fn restart(&self) {
        self.lock().identity += 1;
    }

    /// The replica takes the place of the primary.
    pub fn promote(&self) -> Lost {
        let lost = {
            let mut servers = self.lock();
            let lost = servers.primary.beyond(&servers.replica, servers.behind.len());
            servers.behind.clear();
            servers.primary = servers.replica.clone();
            servers.identity += 1;
            lost
        };
        self.witness.promoted(&lost);
        lost
    }

    /// Who holds a shard.
    pub fn holding(&self, shard: ShardId) -> Holding {
        let now = self.now_ms();
        self.lock().primary.holding(shard, now)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        let mut servers = self.servers.lock().expect("no code panics while it holds the store");
        servers.catch_up();
        servers
    }

    fn read<T>(&self, read: impl FnOnce(&Server) -> T) -> Landed<T> {
        let servers = self.lock();
        Landed { outcome: read(&servers.primary), identity: servers.identity, replicated: Instant::now() }
    }

    /// Does something to the primary now, and to the replica when it comes there.
    fn write<T>(&self, change: impl Fn(&mut Server) -> T + Send + 'static) -> Landed<T> {
        let mut servers = self.lock();
        let outcome = change(&mut servers.primary);
        let replicated = Instant::now() + servers.lag;
        let again: Change = Box::new(move |server| drop(change(server)));
        servers.behind.push_back((replicated, again));
        Landed { outcome, identity: servers.identity, replicated }
    }
}

impl Servers {
    /// Brings the replica up to what it has by now.
    fn catch_up(&mut self) {
        let now = Instant::now();
        while let Some((due, change)) = self.behind.pop_front() {
            if due > now {
                self.behind.push_front((due, change));
                return;
            }
            change(&mut self.replica);
        }
    }
}

impl Server {
    /// What is here and not on `replica`.
    fn beyond(&self, replica: &Self, writes: usize) -> Lost {
        let left = |id: &EntityId, seq: u64| {
            let (left, _) = replica.store.position(id);
            (left < seq).then_some(left)
        };
        let entities = self.store.positions().filter_map(|(id, (seq, _))| Some((id.clone(), left(id, seq)?)));
        let of = |shard: &ShardId| replica.leases.get(shard).map_or(Epoch(0), |lease| lease.epoch);
        let epochs = self.leases.iter().filter(|(shard, lease)| of(shard) < lease.epoch);
        Lost {
            writes,
            entities: entities.collect(),
            epochs: epochs.map(|(shard, _)| (*shard, of(shard))).collect(),
        }
    }

    fn holding(&self, shard: ShardId, now: u64) -> Holding {
        let Lease { epoch, holder, until, suspect } = self.leases.get(&shard).cloned().unwrap_or_default();
        let boot = holder.as_ref().map_or(0, |(_, boot)| *boot);
        let left = Some(Duration::from_millis(until.saturating_sub(now)));
        Holding { shard, epoch, node: holder.map(|(node, _)| node), boot, left, suspect }
    }

    /// The new epoch; none: another holds the shard.
    fn acquire(
        &mut self,
        shard: ShardId,
        by: &(NodeId, u64),
        above: Epoch,
        now: u64,
        lease_ms: u64,
    ) -> Option<Epoch> {
        let lease = self.leases.entry(shard).or_default();
        if let Some((node, boot)) = &lease.holder
            && lease.until > now
            && !(*node == by.0 && by.1 >= *boot)
        {
            return None;
        }
        lease.epoch = Epoch(lease.epoch.max(above).0 + 1);
        lease.holder = Some(by.clone());
        lease.until = now + lease_ms;
        self.store.hold(shard, lease.epoch, Some(by.0.clone()));
        Some(lease.epoch)
    }

    /// Nothing if `held` holds the shard.
    fn fenced(&self, shard: ShardId, held: Epoch) -> Result<(), Error> {
        match self.leases.get(&shard) {
            Some(lease) if lease.epoch == held && lease.holder.is_some() => Ok(()),
            lease => {
                let current = lease.map_or(Epoch(0), |lease| lease.epoch);
                Err(Error::Fenced { shard, held, current })
            }
        }
    }

    /// The same, and nothing is known to be missing.
    fn whole(&self, shard: ShardId, held: Epoch) -> Result<(), Error> {
        self.fenced(shard, held)?;
        match self.leases.get(&shard).and_then(|lease| lease.suspect.clone()) {
            Some(why) => Err(Error::Suspect { shard, why }),
            None => Ok(()),
        }
    }

    fn renew(&mut self, grant: Grant, until: u64) -> Result<(), Error> {
        self.fenced(grant.shard, grant.epoch)?;
        self.leases.entry(grant.shard).or_default().until = until;
        Ok(())
    }

    fn release(&mut self, grant: Grant) {
        if self.fenced(grant.shard, grant.epoch).is_ok() {
            let lease = self.leases.entry(grant.shard).or_default();
            lease.epoch = Epoch(grant.epoch.0 + 1);
            (lease.holder, lease.until) = (None, 0);
            self.store.hold(grant.shard, lease.epoch, None);
        }
    }

    fn append(&mut self, append: Append) -> Result<Appended, Error> {
        self.whole(append.entity.shard(), append.epoch)?;
        self.store.append(append)
    }

    fn suspect(&mut self, shard: ShardId, why: &str) {
        let lease = self.leases.entry(shard).or_default();
        lease.suspect = (!why.is_empty()).then(|| lease.suspect.take().unwrap_or_else(|| why.to_owned()));
    }
}

#[cfg(test)]
mod tests;

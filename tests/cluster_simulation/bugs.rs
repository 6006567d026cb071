//! Bugs of a cluster to be found: each is planted around the real program, never in it. What must be planted inside is a patch
//! under `mutants/`, which `scripts/mutants` applies to a copy of the tree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use syncline::delivery::Epochs;
use syncline::host::{Host, HostConfig};
use syncline::journal::memory::Handle;
use syncline::journal::share::{Ask, Share};
use syncline::journal::{
    Append, Appended, Compacted, Depth, Error, ExceptionFilter, Grant, Head, Holding, Journal, Loaded,
    Snapshot,
};
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, Progress, TimerRow};
use syncline_actors::time::Timestamp;

use crate::ground::Ground;
use crate::life::Life;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Appends of a former owner are taken.
    NoEpochCheck,
    /// Epochs that others tell of are not heard: the store alone says which is the next.
    EpochFromTheStoreOnly,
    /// What the store may have lost is not sent again.
    TailNotSentAgain,
    /// A store that has gone back is read again and written on.
    RollbackTriedAgain,
    /// What another node holds is taken as granted.
    HeldIsGranted,
    /// An answer does not wait for the replica, and is said to.
    AckBeforeReplica,
    /// The lease is not looked at before an effect leaves.
    EffectWithoutLease,
    /// The lease is not looked at before a strong read, nor before anything else.
    ReadWithoutLease,
    /// Nodes are called on when one starts, and never again.
    NoAnnouncement,
    /// A node that lost a shard to another goes on as if nothing had happened.
    FencedIsUnavailable,
    /// A message that finds no owner is told that all is well.
    NobodyIsAcked,
}

impl Bug {
    /// Those that the first seeds find.
    pub(crate) const SOON: [Self; 6] = [
        Self::NoEpochCheck,
        Self::TailNotSentAgain,
        Self::HeldIsGranted,
        Self::EffectWithoutLease,
        Self::FencedIsUnavailable,
        Self::NobodyIsAcked,
    ];

    /// Those that take more seeds than every push can afford.
    pub(crate) const LATER: [Self; 5] = [
        Self::EpochFromTheStoreOnly,
        Self::RollbackTriedAgain,
        Self::AckBeforeReplica,
        Self::ReadWithoutLease,
        Self::NoAnnouncement,
    ];

    /// With which seed the search begins: what is to be found on every push is looked for where it is.
    pub(crate) fn first_seed(self) -> u64 {
        if self == Self::NoEpochCheck { 20 } else { 0 }
    }

    /// The host's settings with the bug.
    pub(crate) fn in_config(self, mut config: HostConfig) -> HostConfig {
        if matches!(self, Self::ReadWithoutLease | Self::FencedIsUnavailable) {
            config.lease = Duration::from_hours(1);
        }
        config
    }

    /// Which shards deliveries take for theirs.
    pub(crate) fn in_epochs(self, host: &Host, give_up: Duration) -> Epochs {
        let host = host.clone();
        match self {
            Self::EffectWithoutLease => Arc::new(move |shard| {
                host.owned().iter().find(|grant| grant.shard == shard).map(|grant| grant.epoch)
            }),
            _ => Arc::new(move |shard| host.epoch(shard).filter(|_| host.lease_age() < give_up)),
        }
    }

    /// Whether a node does not find others any more, so long after its start.
    pub(crate) fn forgets_seeds(self, after: Duration) -> bool {
        self == Self::NoAnnouncement && after > Duration::from_secs(5)
    }
}

/// The store as one incarnation has it, with a bug or without.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) ground: Arc<Ground>,
    pub(crate) life: Arc<Life>,
    pub(crate) handle: Arc<Handle>,
}

impl Store {
    fn has(&self, bug: Bug) -> bool {
        self.ground.bug == Some(bug)
    }

    /// Those of `shards` that others hold, as if they were given.
    fn all_as_granted(&self, shards: &[ShardId], mut grants: Vec<Grant>) -> Vec<Grant> {
        for shard in shards {
            let holding = self.ground.group().holding(*shard);
            if holding.node.is_some() && !grants.iter().any(|grant| grant.shard == *shard) {
                grants.push(Grant { shard: *shard, epoch: holding.epoch });
            }
        }
        grants
    }
}

#[async_trait]
impl Journal for Store {
    async fn acquire(&self, shards: &[ShardId], node: &NodeId) -> Result<Vec<Grant>, Error> {
        let grants = self.handle.acquire(shards, node).await?;
        Ok(if self.has(Bug::HeldIsGranted) { self.all_as_granted(shards, grants) } else { grants })
    }

    async fn renew(&self, grants: &[Grant]) -> Vec<Result<(), Error>> {
        let mut renewed = self.handle.renew(grants).await;
        if self.has(Bug::FencedIsUnavailable) || self.has(Bug::HeldIsGranted) {
            for one in renewed.iter_mut().filter(|one| matches!(one, Err(Error::Fenced { .. }))) {
                *one = Err(Error::Unavailable("no answer".to_owned()));
            }
        }
        renewed
    }

    async fn append(&self, mut append: Append) -> Result<Appended, Error> {
        let mut appended = self.handle.append(append.clone()).await;
        while self.has(Bug::NoEpochCheck) && matches!(appended, Err(Error::Fenced { .. })) {
            append.epoch = self.ground.group().holding(append.entity.shard()).epoch;
            appended = self.handle.append(append.clone()).await;
        }
        match appended {
            Ok(Appended::Written) => self.ground.losses().told(&append, &self.life),
            Err(Error::Conflict { found, expected, .. })
                if found < expected && self.has(Bug::RollbackTriedAgain) =>
            {
                return Err(Error::Unavailable("it is read again".to_owned()));
            }
            Err(Error::Fenced { .. }) if self.has(Bug::FencedIsUnavailable) => {
                return Err(Error::Unavailable("it is tried again".to_owned()));
            }
            _ => {}
        }
        appended
    }

    fn hear(&self, epochs: &[Grant]) {
        if !self.has(Bug::EpochFromTheStoreOnly) {
            self.handle.hear(epochs);
        }
    }

    // ---- the rest is as it should be ----

    async fn holdings(&self) -> Result<Vec<Holding>, Error> {
        self.handle.holdings().await
    }
    async fn release(&self, grants: &[Grant]) -> Result<(), Error> {
        self.handle.release(grants).await
    }
    async fn suspect(&self, shard: ShardId, why: &str) -> Result<(), Error> {
        self.handle.suspect(shard, why).await
    }
    async fn accept(&self, shard: ShardId) -> Result<(), Error> {
        self.handle.accept(shard).await
    }
    async fn load(&self, entity: &EntityId) -> Result<Loaded, Error> {
        self.handle.load(entity).await
    }
    async fn save_snapshot(&self, epoch: Epoch, entity: &EntityId, snapshot: Snapshot) -> Result<(), Error> {
        let checked = self.ground.book().snapshot(entity, &snapshot);
        self.handle.save_snapshot(epoch, entity, snapshot).await?;
        self.ground.count("snapshot");
        if !self.ground.losses().is_unclear(entity.shard(), self.ground.now()) {
            self.ground.check(checked);
        }
        Ok(())
    }
    async fn progress(
        &self,
        epoch: Epoch,
        entity: &EntityId,
        effect: EffectId,
        progress: Progress,
    ) -> Result<bool, Error> {
        self.handle.progress(epoch, entity, effect, progress).await
    }
    async fn due_timers(&self, now: Timestamp, limit: usize) -> Result<Vec<TimerRow>, Error> {
        self.handle.due_timers(now, limit).await
    }
    async fn records(&self, entity: &EntityId, from: u64, limit: usize) -> Result<Vec<Bytes>, Error> {
        self.handle.records(entity, from, limit).await
    }
    async fn due_effects(
        &self,
        connector: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, Error> {
        self.handle.due_effects(connector, now, limit).await
    }
    async fn next_effect(&self, connector: &str, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.handle.next_effect(connector, now).await
    }
    async fn outbox_of(&self, entity: &EntityId) -> Result<Vec<OutboxRow>, Error> {
        self.handle.outbox_of(entity).await
    }
    async fn depths(&self) -> Result<BTreeMap<String, Depth>, Error> {
        self.handle.depths().await
    }
    async fn next_timer(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.handle.next_timer(now).await
    }
    async fn exceptions(&self, filter: &ExceptionFilter) -> Result<Vec<ExceptionRow>, Error> {
        self.handle.exceptions(filter).await
    }
    async fn find(&self, term: &str, limit: usize) -> Result<Vec<EntityId>, Error> {
        self.handle.find(term, limit).await
    }
    async fn heads(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Head>, Error> {
        self.handle.heads(kind, after, limit).await
    }
    async fn census(&self) -> Result<BTreeMap<(String, String), u64>, Error> {
        self.handle.census().await
    }
    async fn tallies(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.handle.tallies().await
    }
    async fn orders(&self) -> Result<BTreeMap<String, String>, Error> {
        self.handle.orders().await
    }
    async fn order(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        self.handle.order(key, value).await
    }
    fn is_shared(&self) -> bool {
        self.handle.is_shared()
    }
    async fn share(&self, ask: &Ask) -> Result<Share, Error> {
        self.handle.share(ask).await
    }
    async fn definitions(&self) -> Result<BTreeMap<(String, u32), String>, Error> {
        self.handle.definitions().await
    }
    async fn keep_definition(&self, kind: &str, version: u32, text: &str) -> Result<(), Error> {
        self.handle.keep_definition(kind, version, text).await
    }
    async fn compact(&self, now: Timestamp, ended_before: Timestamp) -> Result<Compacted, Error> {
        self.handle.compact(now, ended_before).await
    }
}

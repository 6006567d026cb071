//! After a server turned out to be another one: what was acknowledged is looked for, written again where it can be, and where it
//! cannot, nobody goes on as if nothing had happened.
//!
//! A replica that is promoted may lack the end of what the primary had, even the last epochs (replication is asynchronous). So
//! a shard held here is in doubt from the moment a changed server is met: no call for it is answered. Then, shard by shard:
//! - the lease must be ours still; when it is older than what we know, it is taken again above that;
//! - the newest appends, which this handle keeps for a while, are sent again in order: each is there, or is written now;
//! - if there is a gap that they do not fill, the shard is marked suspect in the store, and takes nothing in until a person says so.
//!
//! A shard that was given back or lost a moment ago is looked at too: only this handle knows what it has acknowledged there. Its
//! appends are sent under the epoch of whoever holds it now; they come before all that the holder writes, so the chain of each entity
//! takes them in their place, or not at all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use syncline_actors::id::{Epoch, NodeId, ShardId};
use tokio::time::Instant;

use super::functions::Call;
use super::reply::{self, Said};
use super::shared::lock;
use super::{Redis, request};
use crate::journal::{Error, Grant, Holding, Journal as _};

/// How long an append is kept to be sent again.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// How old the appends of a shard that is not held here any more may be. Older ones have long been replicated.
const GIVEN_FOR: Duration = Duration::from_mins(5);

/// Bytes of appends kept, at most.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Pause before a shard that could not be looked at is looked at again.
const AGAIN: Duration = Duration::from_millis(200);

/// How often an append that does not fit is sent again: what goes before it may be on its way from the shard's former holder.
const FITS_WITHIN: u32 = 10;

/// The newest appends, in order.
#[derive(Debug, Default)]
pub(super) struct Tail {
    kept: VecDeque<(Instant, ShardId, Arc<Call>)>,
    bytes: usize,
}

impl Tail {
    /// Keeps an append that was answered.
    pub(super) fn keep(&mut self, shard: ShardId, call: Arc<Call>) {
        let now = Instant::now();
        self.bytes += call.weight();
        self.kept.push_back((now, shard, call));
        while self.kept.front().is_some_and(|(at, ..)| now - *at > KEPT_FOR || self.bytes > KEPT_BYTES_MAX) {
            if let Some((_, _, call)) = self.kept.pop_front() {
                self.bytes -= call.weight();
            }
        }
    }

    fn of(&self, shard: ShardId) -> Vec<Arc<Call>> {
        self.kept.iter().filter(|(_, of, _)| *of == shard).map(|(_, _, call)| call.clone()).collect()
    }

    /// Shards of which something is kept that are not held here any more.
    fn given(&self, held: &BTreeMap<ShardId, Epoch>) -> BTreeSet<ShardId> {
        let recent = self.kept.iter().filter(|(at, ..)| at.elapsed() <= GIVEN_FOR);
        recent.map(|(_, shard, _)| *shard).filter(|shard| !held.contains_key(shard)).collect()
    }

    /// A person has accepted what is left of a shard: it is not compared with what was.
    pub(super) fn forget(&mut self, shard: ShardId) {
        let bytes = &mut self.bytes;
        self.kept.retain(|(_, of, call)| {
            let stays = *of != shard;
            if !stays {
                *bytes -= call.weight();
            }
            stays
        });
    }
}

/// What came of looking for a shard's end.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nothing is missing now; so many appends were written again.
    Whole(usize),
    /// There is a gap.
    Gap(String),
    /// It was marked before.
    Marked,
}

/// Looks after the shards in doubt for as long as the journal is there.
pub(super) async fn watch(redis: Weak<Redis>, mut changes: tokio::sync::watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        let Some(redis) = redis.upgrade() else { return };
        redis.recover_all().await;
    }
}

impl Redis {
    async fn recover_all(&self) {
        let mut given = lock(&self.tail).given(&self.shared.held());
        loop {
            let shards: BTreeSet<_> = self.shared.doubted().into_iter().chain(given).collect();
            if shards.is_empty() {
                return;
            }
            tracing::warn!(shards = shards.len(), "the store has changed: looking for what was acknowledged");
            let began = Instant::now();
            let found =
                join_all(shards.into_iter().map(async |shard| (shard, self.recover(shard).await))).await;
            let written = |found: &Result<Found, Error>| match found {
                Ok(Found::Whole(written)) => *written,
                Ok(Found::Gap(_) | Found::Marked) | Err(_) => 0,
            };
            let again: usize = found.iter().map(|(_, found)| written(found)).sum();
            let left: BTreeSet<_> =
                found.into_iter().filter(|(_, found)| found.is_err()).map(|(shard, _)| shard).collect();
            let took = began.elapsed().as_millis();
            tracing::warn!(
                written_again = again,
                left = left.len(),
                took_ms = took,
                "looked for what was acknowledged"
            );
            if !left.is_empty() {
                tokio::time::sleep(AGAIN).await;
            }
            given = left;
        }
    }

    /// Settles one shard. An error: it stays in doubt.
    async fn recover(&self, shard: ShardId) -> Result<Found, Error> {
        let held = self.shared.held().get(&shard).copied();
        let found = match self.look_for_end(shard, held).await {
            Err(Error::Suspect { .. }) => Ok(Found::Marked),
            found => found,
        };
        match &found {
            Ok(Found::Whole(_) | Found::Marked) => self.shared.trust(shard),
            Ok(Found::Gap(why)) => {
                self.mark(shard, why).await?;
                self.shared.trust(shard);
            }
            Err(error) => tracing::warn!(%shard, %error, "a shard in doubt could not be looked at"),
        }
        found
    }

    async fn look_for_end(&self, shard: ShardId, held: Option<Epoch>) -> Result<Found, Error> {
        let stored = self.holding(shard).await?;
        match held {
            Some(held) if self.is_of_another(&stored, held) => {
                self.let_go(Grant { shard, epoch: held });
                // Also where the other has it under the same epoch, which the store cannot tell apart.
                self.hear(&[Grant { shard, epoch: Epoch(held.0 + 1) }]);
                self.look_for_given(shard, &stored).await
            }
            Some(held) => self.look_for_own(shard, &stored, held).await,
            None => self.look_for_given(shard, &stored).await,
        }
    }

    /// Whether another node, or another run of this one, has taken the shard that was held here under `held`. It may have got the
    /// same epoch: from a store that had lost the first grant.
    fn is_of_another(&self, stored: &Holding, held: Epoch) -> bool {
        let is_ours = stored.node == *lock(&self.node) && stored.boot == self.shared.options.boot;
        stored.epoch > held || (stored.epoch == held && stored.node.is_some() && !is_ours)
    }

    /// What is held here.
    async fn look_for_own(&self, shard: ShardId, stored: &Holding, held: Epoch) -> Result<Found, Error> {
        let mut epoch = held;
        if stored.epoch < held || stored.node.is_none() {
            let name = stored.node.as_ref().map_or("nobody", |node| &*node.0).to_owned();
            let stored = stored.epoch;
            tracing::error!(alarm = true, %shard, %stored, %held, holder = name, "the store has lost an epoch");
            epoch = self.retake(shard, held).await?;
        }
        if stored.epoch == Epoch(0) {
            return Ok(Found::Gap(format!(
                "nothing of the shard is left, though it was held under epoch {held}"
            )));
        }
        let found = self.send_again(shard, epoch).await;
        if epoch != held {
            // The host learns by its own epoch's refusal that it must take the shard anew.
            self.shared.held().remove(&shard);
        }
        found
    }

    /// What was held here until a moment ago.
    async fn look_for_given(&self, shard: ShardId, stored: &Holding) -> Result<Found, Error> {
        if lock(&self.tail).of(shard).is_empty() {
            return Ok(Found::Whole(0));
        }
        if stored.epoch == Epoch(0) {
            return Ok(Found::Gap(
                "nothing of the shard is left, though it was held a moment ago".to_owned(),
            ));
        }
        if stored.node.is_some() {
            return self.send_again(shard, stored.epoch).await;
        }
        // Nobody has it: it is held for as long as it takes.
        let epoch = self.retake(shard, stored.epoch).await?;
        let found = self.send_again(shard, epoch).await;
        let give_back = Call::fenced("release", self.shared.names.lease(shard), epoch.0);
        self.write_in_doubt(shard, Arc::new(give_back)).await?;
        found
    }

    /// Takes a shard above an epoch that the store has lost, as the node that held it.
    async fn retake(&self, shard: ShardId, above: Epoch) -> Result<Epoch, Error> {
        let node: NodeId = lock(&self.node)
            .clone()
            .ok_or_else(|| Error::Unavailable("no shard was taken yet".to_owned()))?;
        let mut call = Call::writing("acquire", self.shared.names.lease(shard));
        call.push(node.0.as_bytes()).number(self.shared.options.boot).number(self.lease_ms()).number(above.0);
        match reply::said("acquire", shard, above, self.write_in_doubt(shard, Arc::new(call)).await?)? {
            Said::Done(Some(epoch)) => Ok(Epoch(reply::number("acquire", epoch)?)),
            other => Err(Error::Unavailable(format!("shard {shard} cannot be taken again yet: {other:?}"))),
        }
    }

    async fn send_again(&self, shard: ShardId, epoch: Epoch) -> Result<Found, Error> {
        let tail = lock(&self.tail).of(shard);
        let mut written = 0;
        for call in tail {
            match self.send_until_it_fits(shard, epoch, &call).await? {
                Said::Done(None) => written += 1,
                Said::Done(Some(_)) | Said::Known(_) => {}
                other => {
                    return Ok(Found::Gap(format!(
                        "an acknowledged record does not fit any more: {other:?}"
                    )));
                }
            }
        }
        if written > 0 {
            tracing::error!(alarm = true, %shard, written, "the store had lost acknowledged records; they were written again");
        }
        Ok(Found::Whole(written))
    }

    async fn send_until_it_fits(&self, shard: ShardId, epoch: Epoch, call: &Call) -> Result<Said, Error> {
        let call = Arc::new(Call::clone(call).under(epoch.0));
        let mut tries = 1;
        loop {
            let said = reply::said("append", shard, epoch, self.write_in_doubt(shard, call.clone()).await?)?;
            if !matches!(said, Said::Elsewhere(_)) || tries == FITS_WITHIN {
                return Ok(said);
            }
            tries += 1;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Marks a shard as suspect in the store: it takes nothing in until a person accepts what is lost.
    pub(super) async fn mark(&self, shard: ShardId, why: &str) -> Result<(), Error> {
        tracing::error!(alarm = true, %shard, why, "acknowledged records are lost: the shard takes nothing in until a person accepts it");
        let call = Call::writing("suspect", self.shared.names.lease(shard)).arg(why);
        self.write_in_doubt(shard, Arc::new(call)).await.map(drop)
    }

    pub(super) async fn holding(&self, shard: ShardId) -> Result<Holding, Error> {
        let call = Call::reading("holder", self.shared.names.lease(shard));
        request::read_holding(shard, self.read_shard(shard, &self.reading(&call)).await?)
    }
}

//! After a server turned out to be another one: what was acknowledged is looked for, written again where it can be, and where it
//! cannot, nobody goes on as if nothing had happened.
//!
//! A replica that is promoted may lack the end of what the primary had, even the last epochs (replication is asynchronous). So
//! a shard held here is in doubt from the moment a changed server is met: no call for it is answered. Then, shard by shard:
//! - the lease must be ours still; when it is older than what we know, it is taken again above that;
//! - the newest appends, which this handle keeps for a while, are sent again in order: each is there, or is written now;
//! - if there is a gap that they do not fill, the shard is marked suspect in the store, and takes nothing in until a person says so.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use syncline_actors::id::{Epoch, NodeId, ShardId};
use tokio::time::Instant;

use super::functions::Call;
use super::reply::{self, Said};
use super::shared::lock;
use super::{Redis, request};
use crate::journal::{Error, Grant, Holding};

/// How long an append is kept to be sent again.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// Bytes of appends kept, at most.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Pause before a shard that could not be looked at is looked at again.
const AGAIN: Duration = Duration::from_millis(200);

/// The newest appends of the shards held, in order.
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

    /// What is sent again from now on is what comes now: the shard was given back, or lost.
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
    /// Another node has the shard.
    Lost,
    /// There is a gap.
    Gap(String),
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
        loop {
            let doubted = self.shared.doubted();
            if doubted.is_empty() {
                return;
            }
            tracing::warn!(
                shards = doubted.len(),
                "the store has changed: looking for what was acknowledged"
            );
            let began = Instant::now();
            let mut again = 0;
            futures::future::join_all(doubted.into_iter().map(|shard| self.recover(shard)))
                .await
                .iter()
                .for_each(|found| match found {
                    Ok(Found::Whole(written)) => again += written,
                    Ok(Found::Lost | Found::Gap(_)) | Err(_) => {}
                });
            let left = self.shared.doubted().len();
            let took = began.elapsed().as_millis();
            tracing::warn!(written_again = again, left, took_ms = took, "looked for what was acknowledged");
            if left > 0 {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Settles one shard. An error: it stays in doubt.
    async fn recover(&self, shard: ShardId) -> Result<Found, Error> {
        let Some(held) = self.shared.held().get(&shard).copied() else {
            self.shared.trust(shard);
            return Ok(Found::Lost);
        };
        let found = self.look_for_end(shard, held).await;
        match &found {
            Ok(Found::Whole(_)) => self.shared.trust(shard),
            Ok(Found::Lost) => {
                self.let_go(Grant { shard, epoch: held });
                self.shared.trust(shard);
            }
            Ok(Found::Gap(why)) => {
                self.mark(shard, why).await?;
                self.shared.trust(shard);
            }
            Err(error) => tracing::warn!(%shard, %error, "a shard in doubt could not be looked at"),
        }
        found
    }

    async fn look_for_end(&self, shard: ShardId, held: Epoch) -> Result<Found, Error> {
        let Holding { epoch: stored, node, .. } = self.holding(shard).await?;
        if stored > held {
            return Ok(Found::Lost);
        }
        let mut epoch = held;
        if stored < held || node.is_none() {
            let name = node.as_ref().map_or("nobody", |node| &*node.0).to_owned();
            tracing::error!(alarm = true, %shard, %stored, %held, holder = name, "the store has lost an epoch");
            epoch = self.retake(shard, held).await?;
        }
        if stored == Epoch(0) {
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
            let call = Arc::new(Call::clone(&call).under(epoch.0));
            match reply::said("append", shard, epoch, self.write_in_doubt(shard, call).await?)? {
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

    /// Marks a shard as suspect in the store: it takes nothing in until a person accepts what is lost.
    pub(super) async fn mark(&self, shard: ShardId, why: &str) -> Result<(), Error> {
        tracing::error!(alarm = true, %shard, why, "acknowledged records are lost: the shard takes nothing in until a person accepts it");
        let call = Call::writing("suspect", self.shared.names.lease(shard)).arg(why);
        self.write_in_doubt(shard, Arc::new(call)).await.map(drop)
    }

    pub(super) async fn holding(&self, shard: ShardId) -> Result<Holding, Error> {
        let call = Call::reading("holder", self.shared.names.lease(shard));
        request::read_holding(shard, self.read_shard(shard, &call.command(false)).await?)
    }
}

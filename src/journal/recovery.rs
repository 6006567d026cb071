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
//!
//! How a store is asked is said by [`Recovers`]: the one in Redis, and the one in memory that the simulation runs on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use syncline_actors::id::{Epoch, ShardId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Error, Grant, Holding};

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
#[derive(Debug)]
pub(super) struct Tail<A> {
    kept: VecDeque<Kept<A>>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept<A> {
    at: Instant,
    shard: ShardId,
    weight: usize,
    append: A,
}

impl<A> Default for Tail<A> {
    fn default() -> Self {
        Self { kept: VecDeque::new(), bytes: 0 }
    }
}

impl<A: Clone> Tail<A> {
    /// Keeps an append of `weight` bytes that was answered.
    pub(super) fn keep(&mut self, shard: ShardId, weight: usize, append: A) {
        let now = Instant::now();
        self.bytes += weight;
        self.kept.push_back(Kept { at: now, shard, weight, append });
        let too_much = |tail: &Self, kept: &Kept<A>| now - kept.at > KEPT_FOR || tail.bytes > KEPT_BYTES_MAX;
        while self.kept.front().is_some_and(|kept| too_much(self, kept)) {
            self.bytes -= self.kept.pop_front().map_or(0, |kept| kept.weight);
        }
    }

    fn of(&self, shard: ShardId) -> Vec<A> {
        self.kept.iter().filter(|kept| kept.shard == shard).map(|kept| kept.append.clone()).collect()
    }

    /// Shards of which something is kept that are not held here any more.
    fn given(&self, held: &BTreeMap<ShardId, Epoch>) -> BTreeSet<ShardId> {
        let recent = self.kept.iter().filter(|kept| kept.at.elapsed() <= GIVEN_FOR);
        recent.map(|kept| kept.shard).filter(|shard| !held.contains_key(shard)).collect()
    }

    /// A person has accepted what is left of a shard: it is not compared with what was.
    pub(super) fn forget(&mut self, shard: ShardId) {
        let bytes = &mut self.bytes;
        self.kept.retain(|kept| {
            let stays = kept.shard != shard;
            if !stays {
                *bytes -= kept.weight;
            }
            stays
        });
    }
}

/// What the store says of an append that is sent again.
#[derive(Debug)]
pub(super) enum Again {
    /// It was lost, and is written now.
    Written,
    /// It is there.
    There,
    /// What is there goes before it with a gap, or is something else.
    Misfit(String),
}

/// A handle on a store that nodes share, as recovery asks it. Its calls go to the store whether or not the shard is in doubt.
#[async_trait]
pub(super) trait Recovers: Send + Sync + 'static {
    /// An append as it can be sent again.
    type Append: Clone + Send + Sync;

    /// Shards that were acquired here and not given back.
    fn held(&self) -> MutexGuard<'_, BTreeMap<ShardId, Epoch>>;
    /// Those of them that nothing is said about until they were looked at.
    fn doubted(&self) -> Vec<ShardId>;
    /// A shard was looked at.
    fn trust(&self, shard: ShardId);
    /// The newest appends.
    fn tail(&self) -> MutexGuard<'_, Tail<Self::Append>>;
    /// Whether the holder that the store knows is this run of this node.
    fn is_ours(&self, stored: &Holding) -> bool;
    /// What is under a lower epoch is refused from now on, and what is acquired is above it.
    fn outgrow(&self, grant: Grant);

    /// Who holds a shard.
    async fn holding(&self, shard: ShardId) -> Result<Holding, Error>;
    /// Takes a shard above an epoch that the store has lost, as the node that held it.
    async fn retake(&self, shard: ShardId, above: Epoch) -> Result<Epoch, Error>;
    /// Sends an append again, under the epoch of whoever holds the shard.
    async fn append_again(&self, shard: ShardId, epoch: Epoch, append: &Self::Append)
    -> Result<Again, Error>;
    /// Gives back what was only held for as long as it took.
    async fn give_back(&self, grant: Grant) -> Result<(), Error>;
    /// Marks a shard as suspect in the store.
    async fn mark(&self, shard: ShardId, why: &str) -> Result<(), Error>;
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
pub(super) async fn watch<S: Recovers>(store: Weak<S>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        let Some(store) = store.upgrade() else { return };
        recover_all(&*store).await;
    }
}

async fn recover_all<S: Recovers>(store: &S) {
    let mut given = store.tail().given(&store.held());
    loop {
        let shards: BTreeSet<_> = store.doubted().into_iter().chain(given).collect();
        if shards.is_empty() {
            return;
        }
        tracing::warn!(shards = shards.len(), "the store has changed: looking for what was acknowledged");
        let began = Instant::now();
        let found =
            join_all(shards.into_iter().map(async |shard| (shard, recover(store, shard).await))).await;
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
async fn recover<S: Recovers>(store: &S, shard: ShardId) -> Result<Found, Error> {
    let held = store.held().get(&shard).copied();
    let found = match look_for_end(store, shard, held).await {
        Err(Error::Suspect { .. }) => Ok(Found::Marked),
        found => found,
    };
    match &found {
        Ok(Found::Whole(_) | Found::Marked) => store.trust(shard),
        Ok(Found::Gap(why)) => {
            store.mark(shard, why).await?;
            store.trust(shard);
        }
        Err(error) => tracing::warn!(%shard, %error, "a shard in doubt could not be looked at"),
    }
    found
}

async fn look_for_end<S: Recovers>(store: &S, shard: ShardId, held: Option<Epoch>) -> Result<Found, Error> {
    let stored = store.holding(shard).await?;
    match held {
        Some(held) if is_of_another(store, &stored, held) => {
            let_go(store, Grant { shard, epoch: held });
            // Also where the other has it under the same epoch, which the store cannot tell apart.
            store.outgrow(Grant { shard, epoch: Epoch(held.0 + 1) });
            look_for_given(store, shard, &stored).await
        }
        Some(held) => look_for_own(store, shard, &stored, held).await,
        None => look_for_given(store, shard, &stored).await,
    }
}

/// Whether another node, or another run of this one, has taken the shard that was held here under `held`. It may have got the
/// same epoch: from a store that had lost the first grant.
fn is_of_another<S: Recovers>(store: &S, stored: &Holding, held: Epoch) -> bool {
    stored.epoch > held || (stored.epoch == held && stored.node.is_some() && !store.is_ours(stored))
}

/// Notes that a shard is not held here any more.
pub(super) fn let_go<S: Recovers>(store: &S, grant: Grant) {
    let mut held = store.held();
    if held.get(&grant.shard) == Some(&grant.epoch) {
        held.remove(&grant.shard);
    }
}

/// What is held here.
async fn look_for_own<S: Recovers>(
    store: &S,
    shard: ShardId,
    stored: &Holding,
    held: Epoch,
) -> Result<Found, Error> {
    let mut epoch = held;
    if stored.epoch < held || stored.node.is_none() {
        let name = stored.node.as_ref().map_or("nobody", |node| &*node.0).to_owned();
        let stored = stored.epoch;
        tracing::error!(alarm = true, %shard, %stored, %held, holder = name, "the store has lost an epoch");
        epoch = store.retake(shard, held).await?;
    }
    if stored.epoch == Epoch(0) {
        return Ok(Found::Gap(format!(
            "nothing of the shard is left, though it was held under epoch {held}"
        )));
    }
    let found = send_again(store, shard, epoch).await;
    if epoch != held {
        // The host learns by its own epoch's refusal that it must take the shard anew.
        store.held().remove(&shard);
    }
    found
}

/// What was held here until a moment ago.
async fn look_for_given<S: Recovers>(store: &S, shard: ShardId, stored: &Holding) -> Result<Found, Error> {
    if store.tail().of(shard).is_empty() {
        return Ok(Found::Whole(0));
    }
    if stored.epoch == Epoch(0) {
        return Ok(Found::Gap("nothing of the shard is left, though it was held a moment ago".to_owned()));
    }
    if stored.node.is_some() {
        return send_again(store, shard, stored.epoch).await;
    }
    // Nobody has it: it is held for as long as it takes.
    let epoch = store.retake(shard, stored.epoch).await?;
    let found = send_again(store, shard, epoch).await;
    store.give_back(Grant { shard, epoch }).await?;
    found
}

async fn send_again<S: Recovers>(store: &S, shard: ShardId, epoch: Epoch) -> Result<Found, Error> {
    let tail = store.tail().of(shard);
    let mut written = 0;
    for append in tail {
        match send_until_it_fits(store, shard, epoch, &append).await? {
            Again::Written => written += 1,
            Again::There => {}
            Again::Misfit(found) => {
                return Ok(Found::Gap(format!("an acknowledged record does not fit any more: {found}")));
            }
        }
    }
    if written > 0 {
        tracing::error!(alarm = true, %shard, written, "the store had lost acknowledged records; they were written again");
    }
    Ok(Found::Whole(written))
}

async fn send_until_it_fits<S: Recovers>(
    store: &S,
    shard: ShardId,
    epoch: Epoch,
    append: &S::Append,
) -> Result<Again, Error> {
    let mut tries = 1;
    loop {
        let again = store.append_again(shard, epoch, append).await?;
        if !matches!(again, Again::Misfit(_)) || tries == FITS_WITHIN {
            return Ok(again);
        }
        tries += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

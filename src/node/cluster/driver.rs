//! Looks again and again at who is there and who holds what, and does what the plan says: claims shards, and lets them go to others.
//!
//! ```text
//! gossip: who is there ─┐
//! store: who holds what ┼─► Planner ─► claims   ─► Host::claim ─► told to all by gossip
//! orders of operators  ─┘          └─► releases ─► Host::hand_over ─► "take it" to the next holder ─► table
//! ```
//! A plan may be wrong, as what it is made from may be late: the store grants a shard to one node only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use syncline_actors::id::{NodeId, ShardId};
use syncline_actors::placement::planner::{Move, Orders, Owned, Plan, Planner, Release, View};
use syncline_actors::placement::{Candidate, Region, Zone};
use syncline_actors::time::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answers::Take;
use super::table::Table;
use super::wire::{Ask, Told};
use super::{Gained, Progress};
use crate::gossip::{Gossip, Member, Members};
use crate::host::Host;
use crate::journal::{Grant, Holding, SharedJournal};
use crate::telemetry;
use crate::transport::{Peer, Transport};

/// Between two looks at the store when nothing else happens.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Between two looks, whatever happens.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How long the next holder may take to take a shard.
const TAKE_FOR: Duration = Duration::from_secs(2);

/// What the driver works with.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) host: Host,
    pub(super) journal: SharedJournal,
    pub(super) gossip: Gossip,
    pub(super) transport: Transport,
    pub(super) table: Arc<Table>,
    pub(super) gained: Gained,
    pub(super) orders: watch::Receiver<Arc<Orders>>,
    /// Time for what is in flight in a shard that is let go of.
    pub(super) drain_for: Duration,
}

pub(super) struct Driver {
    means: Means,
    planner: Planner,
    takes: mpsc::UnboundedReceiver<Take>,
    progress: watch::Sender<Progress>,
    began: Instant,
    moving: BTreeMap<ShardId, Move>,
    moves: JoinSet<ShardId>,
    holdings: Vec<Holding>,
    /// What is known to be wrong until the next answer of the store.
    stale: bool,
}

impl Driver {
    pub(super) fn new(
        means: Means,
        planner: Planner,
        takes: mpsc::UnboundedReceiver<Take>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self {
            means,
            planner,
            takes,
            progress,
            began: Instant::now(),
            moving: BTreeMap::new(),
            moves: JoinSet::new(),
            holdings: Vec::new(),
            stale: true,
        }
    }

    /// Works until `stop`. What is on its way then arrives or is claimed by others later.
    pub(super) async fn run(mut self, stop: watch::Receiver<bool>) {
        let mut stop = std::pin::pin!(super::ended(stop));
        let mut members = self.means.gossip.members();
        let mut rejoins = self.means.gossip.rejoins();
        let mut orders = self.means.orders.clone();
        loop {
            self.look().await;
            let again = self.act(&mut members).await;
            // Biased, so that one seed gives one order.
            tokio::select! {
                biased;
                () = &mut stop => return,
                Some(take) = self.takes.recv() => self.take(take).await,
                Some(moved) = self.moves.join_next(), if !self.moves.is_empty() => self.moved(moved.ok()),
                Ok(()) = members.changed() => {}
                Ok(()) = rejoins.changed() => self.stale = true,
                Ok(()) = orders.changed() => {}
                () = tokio::time::sleep(again) => self.stale = true,
            }
        }
    }

    /// Reads who holds what, and tells and hears epochs.
    async fn look(&mut self) {
        let heard = self.means.gossip.epochs();
        let heard: Vec<_> = heard.into_iter().map(|(shard, epoch)| Grant { shard, epoch }).collect();
        self.means.journal.hear(&heard);
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let began = Instant::now();
        match self.means.journal.holdings().await {
            Ok(holdings) => {
                self.means.table.read(&holdings, began);
                let placed = holdings.iter().filter(|holding| holder(holding).is_some()).count();
                self.holdings = holdings;
                self.progress.send_modify(|progress| {
                    progress.seen = Some(began);
                    progress.complete |= placed == self.holdings.len();
                });
            }
            Err(error) => tracing::warn!(%error, "who holds which shards is not known now"),
        }
    }

    /// Plans and begins what is planned. How long nothing is to be done.
    async fn act(&mut self, members: &mut watch::Receiver<Arc<Members>>) -> Duration {
        let now = self.now();
        let members = members.borrow_and_update().clone();
        let orders = self.means.orders.borrow().clone();
        let seen = Seen::of(&self.means.host, &self.holdings, &members);
        let view = View {
            members: &seen.candidates,
            owned: &seen.owned,
            moving: &self.moving,
            lapsed: &seen.lapsed,
            orders: &orders,
        };
        let plan = self.planner.plan(now, &view);
        let draining = members.get(self.means.host.node()).is_some_and(|own| own.card.draining);
        self.release(&plan, &members);
        let settled = draining && plan.releases.is_empty() && self.moving.is_empty();
        self.progress.send_modify(|progress| {
            progress.moving = self.moving.len();
            progress.drained = settled;
            progress.unplaced = plan.unplaced.clone();
        });
        if !plan.claims.is_empty() {
            self.claim(&plan.claims).await;
        }
        let planned = plan.again_at.map_or(LOOK_EVERY, |at| at.since(now).max(LOOK_PAUSE));
        planned.min(LOOK_EVERY)
    }

    async fn claim(&mut self, shards: &[ShardId]) -> Vec<Grant> {
        let claimed = self.means.host.claim(shards).await;
        self.stale = true;
        match claimed {
            Ok(grants) if grants.is_empty() => Vec::new(),
            Ok(grants) => {
                tracing::info!(shards = grants.len(), "took shards");
                let epochs: Vec<_> = grants.iter().map(|grant| (grant.shard, grant.epoch)).collect();
                self.means.gossip.tell_epochs(&epochs);
                let node = self.means.host.node();
                for grant in &grants {
                    self.means.table.learn(grant.shard, &Owned { node: node.clone(), epoch: grant.epoch });
                }
                telemetry::shards_moved("taken", grants.len());
                (self.means.gained)();
                grants
            }
            Err(error) => {
                tracing::warn!(%error, "no shards can be taken");
                Vec::new()
            }
        }
    }

    /// Takes what was let go of for this node, all that waits at once.
    async fn take(&mut self, first: Take) {
        let mut takes = vec![first];
        while let Ok(more) = self.takes.try_recv() {
            takes.push(more);
        }
        let shards: Vec<_> = takes.iter().map(|take| take.shard).collect();
        let grants = self.claim(&shards).await;
        for take in takes {
            // Who does not get it: the asker hears that it was not taken.
            if let Some(grant) = grants.iter().find(|grant| grant.shard == take.shard) {
                let _ = take.taken.send(grant.epoch);
            }
        }
    }

    /// Begins to let go of shards.
    fn release(&mut self, plan: &Plan, members: &Members) {
        for Release { shard, epoch, to } in &plan.releases {
            if self.means.host.epoch(*shard) != Some(*epoch) || self.moving.contains_key(shard) {
                continue;
            }
            let from = self.means.host.node().clone();
            let taker = to.as_ref().and_then(|to| peer(members, to));
            let to = to.clone().unwrap_or_else(|| from.clone());
            self.moving.insert(*shard, Move { from, to, since: self.now() });
            self.moves.spawn(let_go(self.means.clone(), Grant { shard: *shard, epoch: *epoch }, taker));
        }
    }

    /// Takes note of what has moved, all that has at once: a look at the store for each would make a drain last as many looks.
    fn moved(&mut self, first: Option<ShardId>) {
        let mut moved = vec![first];
        while let Some(more) = self.moves.try_join_next() {
            moved.push(more.ok());
        }
        for shard in moved {
            match shard {
                Some(shard) => {
                    self.moving.remove(&shard);
                }
                // One panicked, and nobody knows which: none is on its way then, and the next plan begins from what is true.
                None => self.moving.clear(),
            }
        }
        self.stale = true;
    }

    /// The time that has passed, which no clock can set back.
    fn now(&self) -> Timestamp {
        Timestamp(0).plus(self.began.elapsed())
    }
}

/// Lets go of a shard and has the next holder take it at once.
async fn let_go(means: Means, grant: Grant, taker: Option<Peer>) -> ShardId {
    let Grant { shard, epoch } = grant;
    let in_time = means.host.hand_over(shard, means.drain_for).await;
    telemetry::shards_moved("given", 1);
    let taken = match &taker {
        Some(taker) => take_it(&means, shard, taker).await,
        None => None,
    };
    match (taken, taker) {
        (Some(epoch), Some(taker)) => means.table.learn(shard, &Owned { node: taker.node, epoch }),
        _ => means.table.lost(shard, epoch),
    }
    if !in_time {
        tracing::warn!(%shard, "the shard was let go of before all that was in flight had ended");
    }
    shard
}

async fn take_it(means: &Means, shard: ShardId, taker: &Peer) -> Option<syncline_actors::id::Epoch> {
    let ask = Ask::Take(shard).bytes().ok()?;
    match means.transport.call(taker, ask, TAKE_FOR).await.map(|told| Told::read(&told)) {
        Ok(Ok(Told::Taken(epoch))) => Some(epoch),
        other => {
            tracing::warn!(%shard, to = %taker.node, ?other, "the shard was let go of, and not taken at once");
            None
        }
    }
}

fn peer(members: &Members, node: &NodeId) -> Option<Peer> {
    let card = &members.get(node)?.card;
    Some(Peer { node: node.clone(), address: card.transport })
}

/// Who holds the shard now.
fn holder(holding: &Holding) -> Option<&NodeId> {
    holding.node.as_ref().filter(|_| !holding.left.is_some_and(|left| left.is_zero()))
}

/// The view that a plan is made from.
struct Seen {
    candidates: Vec<Candidate>,
    owned: BTreeMap<ShardId, Owned>,
    lapsed: BTreeSet<ShardId>,
}

impl Seen {
    fn of(host: &Host, holdings: &[Holding], members: &Members) -> Self {
        let me = host.node();
        let mut owned = BTreeMap::new();
        let mut lapsed = BTreeSet::new();
        let mut failed = BTreeSet::new();
        for holding in holdings {
            let Some(node) = &holding.node else { continue };
            // The store may not know yet of what this node has taken or let go of; about itself it knows better.
            match holder(holding) {
                Some(node) if node != me => {
                    owned.insert(holding.shard, Owned { node: node.clone(), epoch: holding.epoch });
                }
                Some(_left_from_an_earlier_run) => {
                    lapsed.insert(holding.shard);
                }
                None => {
                    lapsed.insert(holding.shard);
                    failed.insert((node.clone(), holding.boot));
                }
            }
        }
        for grant in host.owned() {
            lapsed.remove(&grant.shard);
            owned.insert(grant.shard, Owned { node: me.clone(), epoch: grant.epoch });
        }
        let candidate =
            |member: &Member| candidate(member, failed.contains(&(member.card.node.clone(), member.boot)));
        Self { candidates: members.iter().map(candidate).collect(), owned, lapsed }
    }
}

/// A member as placement sees it. One that could not renew its leases takes no shards, whatever it tells.
fn candidate(member: &Member, failed: bool) -> Candidate {
    let card = &member.card;
    Candidate {
        node: card.node.clone(),
        weight: card.weight,
        region: card.region.as_deref().map(|region| Region(region.into())),
        zone: card.zone.as_deref().map(|zone| Zone(zone.into())),
        draining: card.draining || failed,
    }
}

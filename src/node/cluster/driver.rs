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
use syncline_actors::placement::{Candidate, Error as Unplaced, Region, Zone};
use syncline_actors::time::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answers::Take;
use super::table::Table;
use super::wire::{Ask, Told};
use super::{Gained, Leaving, Progress};
use crate::gossip::{Gossip, Member, Members};
use crate::host::Host;
use crate::journal::{Grant, Holding, SharedJournal};
use crate::telemetry;
use crate::transport::{Peer, Transport};

/// Between two looks at the store when nothing else happens.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Between two looks at the store, whatever happens: each asks about every shard.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Between two plans for which only time is the reason.
const PLAN_PAUSE: Duration = Duration::from_millis(20);

/// How long the next holder may take to take a shard.
const TAKE_FOR: Duration = Duration::from_secs(2);

/// What the driver works with.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) host: Host,
    /// Which start of the node this is.
    pub(super) boot: u64,
    pub(super) journal: SharedJournal,
    pub(super) gossip: Gossip,
    pub(super) transport: Transport,
    pub(super) table: Arc<Table>,
    pub(super) gained: Gained,
    pub(super) leaving: Leaving,
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
    /// What the store said is known to be old.
    stale: bool,
    /// When it was last asked.
    looked_at: Option<Instant>,
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
            looked_at: None,
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
        if !self.stale || self.look_in() > Duration::ZERO {
            return;
        }
        let began = Instant::now();
        (self.stale, self.looked_at) = (false, Some(began));
        match self.means.journal.holdings().await {
            Ok(holdings) => {
                self.means.table.read(&holdings, began);
                self.holdings = holdings;
                let suspect = self.holdings.iter().filter(|holding| holding.suspect.is_some()).count();
                self.progress.send_modify(|progress| {
                    if suspect > progress.suspect {
                        tracing::error!(
                            alarm = true,
                            suspect,
                            "acknowledged records are lost: shards take nothing in until an admin accepts it, see `syncline cluster status`"
                        );
                    }
                    (progress.seen, progress.suspect) = (Some(began), suspect);
                });
            }
            Err(error) => tracing::warn!(%error, "who holds which shards is not known now"),
        }
    }

    /// How long the store is not to be asked again.
    fn look_in(&self) -> Duration {
        self.looked_at.map_or(Duration::ZERO, |at| LOOK_PAUSE.saturating_sub(at.elapsed()))
    }

    /// Plans and begins what is planned. How long nothing is to be done.
    async fn act(&mut self, members: &mut watch::Receiver<Arc<Members>>) -> Duration {
        let now = self.now();
        let members = members.borrow_and_update().clone();
        let orders = self.means.orders.borrow().clone();
        let seen = Seen::of(&self.means, &self.holdings, &members);
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
        // A region that is away keeps no node elsewhere from working.
        let barred = |shard: &ShardId| matches!(plan.unplaced.get(shard), Some(Unplaced::NoNodeOf(_)));
        // Messages find the way to a holder only where it is known who that is.
        let up = |node: &NodeId| members.get(node).is_some();
        let complete = !self.holdings.is_empty()
            && self.holdings.iter().all(|holding| holder(holding).is_some_and(up) || barred(&holding.shard));
        self.progress.send_modify(|progress| {
            progress.complete |= complete;
            progress.moving = self.moving.len();
            progress.drained = settled;
            progress.unplaced = plan.unplaced.clone();
        });
        if !plan.claims.is_empty() {
            self.claim(&plan.claims).await;
        }
        let planned = plan.again_at.map_or(LOOK_EVERY, |at| at.since(now).max(PLAN_PAUSE));
        let look = if self.stale { self.look_in().max(PLAN_PAUSE) } else { LOOK_EVERY };
        planned.min(look)
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
    }

    /// The time that has passed, which no clock can set back.
    fn now(&self) -> Timestamp {
        Timestamp(0).plus(self.began.elapsed())
    }
}

/// Lets go of a shard and has the next holder take it at once.
async fn let_go(means: Means, grant: Grant, taker: Option<Peer>) -> ShardId {
    let Grant { shard, epoch } = grant;
    (means.leaving)(shard).await;
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
    /// From what the store last said, what was learned since (`table`), and what this node knows of itself.
    fn of(means: &Means, holdings: &[Holding], members: &Members) -> Self {
        let me = means.host.node();
        let (mut owned, mut lapsed) = (BTreeMap::new(), BTreeSet::new());
        let (mut over, mut alive) = (BTreeSet::new(), BTreeSet::new());
        for holding in holdings {
            let Some(node) = &holding.node else { continue };
            let known = means.table.holder(holding.shard).filter(|known| known.node != *me);
            let run = (node.clone(), holding.boot);
            if holder(holding).is_none() {
                over.insert(run);
                lapsed.extend(known.is_none().then_some(holding.shard));
            } else {
                alive.insert(run);
                // What is left from an earlier run of this node is free to it.
                lapsed.extend((node == me && holding.boot != means.boot).then_some(holding.shard));
            }
        }
        for shard in ShardId::all() {
            if let Some(known) = means.table.holder(shard).filter(|known| known.node != *me) {
                owned.insert(shard, known);
            }
        }
        for grant in means.host.owned() {
            lapsed.remove(&grant.shard);
            owned.insert(grant.shard, Owned { node: me.clone(), epoch: grant.epoch });
        }
        let failed = |member: &Member| {
            let run = (member.card.node.clone(), member.boot);
            over.contains(&run) && !alive.contains(&run)
        };
        let candidates = members.iter().map(|member| candidate(member, failed(member))).collect();
        Self { candidates, owned, lapsed }
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

//! One node's part in the gossip, without a socket or a clock: it is told what came and what time it is, and says what to send.

use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use foca::{AccumulatingRuntime, Foca, OwnedNotification, PeriodicParams, State, Timer};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use syncline_actors::id::{Epoch, NodeId, ShardId};
use tokio::time::Instant;

use super::card::{Card, Member, Members};
use super::peer::{Life, Peer};
use super::seal::{CONTENT_MAX, Dropped, Seal};
use super::timers::Timers;
use super::told::{Dated, Item, SharedHeard, Teller};
use super::window::Process;
use super::wire::Codec;
use super::{Config, KeyRing, Seed, Stats};

/// How often seeds that are not members are called on. foca never heals a cluster that fell into single nodes (caio/foca#15).
const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);

/// The same while no other node is known: a first call may be lost.
const ANNOUNCE_ALONE_EVERY: Duration = Duration::from_secs(1);

/// How soon a node that was declared down calls on the seeds again under its new life.
const ANNOUNCE_AFTER_REJOIN: Duration = Duration::from_millis(50);

/// How often a node repeats its card and some of the epochs, for those who missed them.
const REPEAT_EVERY: Duration = Duration::from_secs(5);

/// How many epochs are repeated at a time: all 256 within 80 s, at about 400 bytes a second.
const EPOCHS_REPEATED: usize = 16;

/// A datagram to send, sealed.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) to: SocketAddr,
    pub(super) datagram: Vec<u8>,
}

/// One node's membership protocol.
pub(super) struct Swarm {
    foca: Foca<Peer, Codec, StdRng, Teller>,
    runtime: AccumulatingRuntime<Peer>,
    timers: Timers,
    seal: Seal,
    heard: SharedHeard,
    own: Dated,
    advertise: SocketAddr,
    seeds: Vec<Seed>,
    /// What the seeds' names stood for when they were last looked up.
    resolved: Vec<SocketAddr>,
    announce_at: Instant,
    repeat_at: Instant,
    /// The shard from which epochs are repeated next.
    repeat_from: ShardId,
    outgoing: Vec<Outgoing>,
    wants_lookup: bool,
    changed: bool,
    is_leaving: bool,
    /// Up to which of its returns it has called on the members.
    rejoins_told: u64,
    /// How often this node was declared down and came back.
    pub(super) rejoins: u64,
    pub(super) stats: Stats,
}

impl std::fmt::Debug for Swarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swarm").field("own", self.foca.identity()).finish_non_exhaustive()
    }
}

impl Swarm {
    /// A node that knows nobody yet and calls on its seeds at once.
    pub(super) fn new(config: Config, heard: SharedHeard, seed: u64, now: Instant) -> Self {
        let Config { card, cluster, advertise, seeds, keys, boot } = config;
        let mut rng = StdRng::seed_from_u64(seed);
        let node = card.node.clone();
        let process = Process { boot, salt: rng.random() };
        let peer = Peer { node: node.clone(), addr: advertise, life: Life { boot, rejoin: 0 } };
        let teller = Teller { own: node.clone(), heard: heard.clone() };
        let codec = Codec { own: node.clone() };
        let mut swarm = Self {
            foca: Foca::with_custom_broadcast(peer, settings(), rng, codec, teller),
            runtime: AccumulatingRuntime::new(),
            timers: Timers::default(),
            seal: Seal::new(node, cluster, keys, process),
            heard,
            own: Dated { boot, version: 0, card },
            advertise,
            seeds,
            resolved: Vec::new(),
            announce_at: now,
            repeat_at: now + REPEAT_EVERY,
            repeat_from: ShardId(0),
            outgoing: Vec::new(),
            wants_lookup: false,
            changed: true,
            is_leaving: false,
            rejoins_told: 0,
            rejoins: 0,
            stats: Stats::default(),
        };
        swarm.tell_card();
        swarm
    }

    /// A datagram came.
    pub(super) fn hear(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        self.stats.received += 1;
        match self.seal.open(datagram) {
            Ok(content) => {
                let outcome = self.foca.handle_data(&content, &mut self.runtime);
                if outcome.is_err_and(|error| is_malformed(&error)) {
                    self.stats.malformed += 1;
                }
                self.settle(now);
            }
            Err(dropped) => self.drop_one(dropped, from),
        }
    }

    fn drop_one(&mut self, dropped: Dropped, from: SocketAddr) {
        let stats = &mut self.stats;
        let count = match dropped {
            Dropped::Malformed => &mut stats.malformed,
            Dropped::OtherCluster => &mut stats.other_cluster,
            Dropped::Unauthentic => &mut stats.unauthentic,
            Dropped::Replayed => &mut stats.replayed,
            Dropped::Own => &mut stats.own,
            Dropped::Namesake => &mut stats.namesakes,
        };
        *count += 1;
        if dropped == Dropped::Namesake && *count == 1 {
            let node = &self.own.card.node;
            tracing::error!(%node, %from, "another process runs under this node's name; give each node its own");
        }
    }

    /// When [`Self::wake`] is wanted next.
    pub(super) fn due(&self) -> Instant {
        let own = self.announce_at.min(self.repeat_at);
        self.timers.due().map_or(own, |due| due.min(own))
    }

    /// Does what is due at `now`.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop(now) {
            if self.is_moot(&timer) {
                continue;
            }
            if let Err(error) = self.foca.handle_timer(timer, &mut self.runtime) {
                tracing::debug!(%error, "a probe was cut short; the next one sets it right");
            }
            self.settle(now);
        }
        if self.announce_at <= now {
            let is_alone = self.foca.num_members() == 0;
            self.announce_at = now + if is_alone { ANNOUNCE_ALONE_EVERY } else { ANNOUNCE_EVERY };
            self.announce(now);
        }
        if self.repeat_at <= now {
            self.repeat_at = now + REPEAT_EVERY;
            self.repeat();
        }
    }

    /// Whether `timer` would declare a node down that has objected meanwhile. foca 2.0.0 leaves it up, but tells it all the same
    /// that it is down, and the living change their lives for nothing.
    fn is_moot(&self, timer: &Timer<Peer>) -> bool {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer else { return false };
        let is_suspect = |member: &foca::Member<Peer>| {
            member.id() == member_id
                && member.incarnation() == *incarnation
                && member.state() == State::Suspect
        };
        !self.foca.iter_membership_state().any(is_suspect)
    }

    /// Calls on every seed that is not a member, and asks for the seeds' names to be looked up again.
    fn announce(&mut self, now: Instant) {
        if std::mem::replace(&mut self.rejoins_told, self.rejoins) < self.rejoins {
            // Members may have one too: then none would take what is addressed to the life it had.
            let addrs: Vec<SocketAddr> = self.foca.iter_members().map(|member| member.id().addr).collect();
            self.announce_to(&addrs);
        }
        let addrs: Vec<SocketAddr> = self.seeds.iter().filter_map(Seed::addr).collect();
        let has_names = addrs.len() < self.seeds.len();
        let is_missing = self.call_on(&addrs, now);
        let names_missing = self.resolved.is_empty() || !self.strangers(&self.resolved).is_empty();
        self.wants_lookup |= has_names && (is_missing || names_missing);
    }

    /// The seeds' names stand for these addresses now.
    pub(super) fn resolved(&mut self, addrs: Vec<SocketAddr>, now: Instant) {
        self.call_on(&addrs, now);
        self.resolved = addrs;
    }

    /// Announces this node to those of `addrs` that are not members; whether there are any.
    fn call_on(&mut self, addrs: &[SocketAddr], now: Instant) -> bool {
        let strangers = self.strangers(addrs);
        self.announce_to(&strangers);
        self.settle(now);
        !strangers.is_empty()
    }

    fn announce_to(&mut self, addrs: &[SocketAddr]) {
        for addr in addrs {
            let outcome = self.foca.announce(Peer::anyone_at(*addr), &mut self.runtime);
            outcome.expect("an announcement fits a datagram");
        }
    }

    fn strangers(&self, addrs: &[SocketAddr]) -> Vec<SocketAddr> {
        let is_member = |addr: &SocketAddr| self.foca.iter_members().any(|member| member.id().addr == *addr);
        addrs.iter().copied().filter(|addr| *addr != self.advertise && !is_member(addr)).collect()
    }

    /// Repeats the own card and the next few epochs.
    fn repeat(&mut self) {
        self.forget();
        self.tell(&Item::Card(self.own.clone()));
        let next: Vec<(ShardId, Epoch)> = {
            let heard = self.heard.lock();
            let (before, after) =
                (heard.epochs.range(..self.repeat_from), heard.epochs.range(self.repeat_from..));
            after.chain(before).map(|(shard, epoch)| (*shard, *epoch)).take(EPOCHS_REPEATED).collect()
        };
        if let Some((last, _)) = next.last() {
            self.repeat_from = ShardId(last.0 + 1);
        }
        self.tell_epochs(&next);
    }

    /// Drops the cards of nodes that foca has forgotten.
    fn forget(&mut self) {
        let mut known: Vec<&NodeId> =
            self.foca.iter_membership_state().map(|member| &member.id().node).collect();
        known.push(&self.own.card.node);
        self.heard.lock().cards.retain(|node, _| known.contains(&node));
    }

    /// This node's card is now `card`, of the same node.
    pub(super) fn update_card(&mut self, card: Card) {
        self.own = Dated { boot: self.own.boot, version: self.own.version + 1, card };
        self.tell_card();
    }

    fn tell_card(&mut self) {
        self.tell(&Item::Card(self.own.clone()));
        self.changed = true;
    }

    /// Tells all nodes of these epochs.
    pub(super) fn tell_epochs(&mut self, epochs: &[(ShardId, Epoch)]) {
        for (shard, epoch) in epochs {
            self.tell(&Item::Epoch(*shard, *epoch));
        }
    }

    fn tell(&mut self, item: &Item) {
        self.foca.add_broadcast(&item.encode()).expect("an item of ours is well formed and fits a datagram");
    }

    /// From now on these keys.
    pub(super) fn replace_keys(&mut self, keys: KeyRing) {
        self.seal.replace_keys(keys);
    }

    /// Tells the peers that this node goes; it is the last thing to do.
    pub(super) fn leave(&mut self, now: Instant) {
        self.is_leaving = true;
        let left = self.foca.leave_cluster(&mut self.runtime);
        // Again, for those who were not chosen or whose datagram is lost.
        let again = self.foca.gossip(&mut self.runtime);
        left.and(again).expect("a farewell fits a datagram");
        self.settle(now);
    }

    /// Takes from foca what it wants sent, timed and known.
    fn settle(&mut self, now: Instant) {
        while let Some((peer, content)) = self.runtime.to_send() {
            self.outgoing.push(Outgoing { to: peer.addr, datagram: self.seal.seal(&content) });
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.timers.set(now + after, timer);
        }
        while let Some(notification) = self.runtime.to_notify() {
            self.note(notification, now);
        }
    }

    fn note(&mut self, notification: OwnedNotification<Peer>, now: Instant) {
        self.changed = true;
        match notification {
            OwnedNotification::MemberUp(peer) | OwnedNotification::Rename(_, peer) => {
                tracing::info!(node = %peer.node, addr = %peer.addr, "a node is up");
                self.introduce();
            }
            OwnedNotification::MemberDown(peer) => {
                tracing::warn!(node = %peer.node, addr = %peer.addr, "a node is down");
            }
            OwnedNotification::Rejoin(_) | OwnedNotification::Defunct if !self.is_leaving => {
                self.rejoins += 1;
                self.announce_at = self.announce_at.min(now + ANNOUNCE_AFTER_REJOIN);
                tracing::warn!(rejoins = self.rejoins, "this node was declared down and comes back");
            }
            _ => {}
        }
    }

    /// Tells a newcomer, and with it everybody, what it cannot know: our card and every epoch.
    fn introduce(&mut self) {
        let epochs: Vec<(ShardId, Epoch)> =
            self.heard.lock().epochs.iter().map(|(shard, epoch)| (*shard, *epoch)).collect();
        self.tell(&Item::Card(self.own.clone()));
        self.tell_epochs(&epochs);
    }

    /// What is to be sent.
    pub(super) fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    /// Names to look up now, for [`Self::resolved`].
    pub(super) fn take_lookup(&mut self) -> Option<Vec<String>> {
        let names = || self.seeds.iter().filter_map(Seed::name).map(str::to_owned).collect();
        std::mem::take(&mut self.wants_lookup).then(names)
    }

    /// Who is up, if that or a card may have changed.
    pub(super) fn take_members(&mut self) -> Option<Arc<Members>> {
        let mut heard = self.heard.lock();
        let changed = std::mem::take(&mut heard.changed) | std::mem::take(&mut self.changed);
        if !changed {
            return None;
        }
        let own = Member { card: self.own.card.clone(), boot: self.own.boot };
        let others = self.foca.iter_members().filter_map(|member| {
            let Peer { node, life, .. } = member.id();
            // The card of a former life may say what no longer holds.
            let dated = heard.cards.get(node).filter(|dated| dated.boot == life.boot)?;
            Some(Member { card: dated.card.clone(), boot: dated.boot })
        });
        Some(Arc::new(Members::new(others.chain([own]).collect())))
    }
}

/// Measured at three nodes: a dead one is noticed after 3.8 s (p50) to 4.7 s (p99), and 1 % of loss declares nobody dead.
fn settings() -> foca::Config {
    let every = |frequency, members| {
        Some(PeriodicParams { frequency, num_members: NonZeroUsize::new(members).expect("not zero") })
    };
    foca::Config {
        probe_period: Duration::from_millis(500),
        probe_rtt: Duration::from_millis(200),
        suspect_to_down_after: Duration::from_secs(3),
        // foca computes 2 for three nodes. With few, all copies of a suspicion go into a short cut, and its victim never learns
        // that it has to object: after a total cut of 2.5 s the living were declared dead in 30 of 30 clusters with 10, in none
        // with 30. It costs 2.4 kB/s a node instead of 1.1.
        max_transmissions: NonZeroU8::new(30).expect("not zero"),
        remove_down_after: Some(Duration::from_hours(24)),
        max_packet_size: NonZeroUsize::new(CONTENT_MAX).expect("not zero"),
        notify_down_members: true,
        periodic_announce: every(Duration::from_secs(30), 1),
        periodic_announce_to_down_members: every(Duration::from_secs(15), 2),
        periodic_gossip: every(Duration::from_millis(200), 3),
        ..foca::Config::simple()
    }
}

/// Whether the sender is to blame.
fn is_malformed(error: &foca::Error) -> bool {
    use foca::Error;
    matches!(
        error,
        Error::DataTooBig
            | Error::IndirectForOurselves
            | Error::MalformedPacket
            | Error::Decode(_)
            | Error::CustomBroadcast(_)
    )
}

#[cfg(test)]
mod tests {
    use super::super::Key;
    use super::super::card::tests::card;
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn swarm(node: &str, port: u16, boot: u64, draining: bool, now: Instant) -> Swarm {
        let config = Config {
            card: Card { draining, ..card(node) },
            cluster: "prod".to_owned(),
            advertise: addr(port),
            seeds: vec![Seed::Addr(addr(1))],
            keys: KeyRing::new(vec![Key::new([7; 32])]).unwrap(),
            boot,
        };
        Swarm::new(config, SharedHeard::default(), boot, now)
    }

    /// Gives each what the other sends until both are silent.
    fn talk(a: &mut Swarm, b: &mut Swarm, now: Instant) {
        loop {
            let (from_a, from_b) = (a.take_outgoing(), b.take_outgoing());
            if from_a.is_empty() && from_b.is_empty() {
                return;
            }
            for sent in from_a {
                b.hear(&sent.datagram, addr(1), now);
            }
            for sent in from_b {
                a.hear(&sent.datagram, addr(2), now);
            }
        }
    }

    #[test]
    fn the_card_of_a_former_life_is_not_shown() {
        let now = Instant::now();
        let (mut a, mut b) = (swarm("a", 1, 1, false, now), swarm("b", 2, 1, true, now));
        b.wake(now);
        talk(&mut a, &mut b, now);
        let later = now + Duration::from_secs(1);
        a.wake(later);
        b.wake(later);
        talk(&mut a, &mut b, later);
        let b_of = |a: &mut Swarm| a.take_members().unwrap().get(&NodeId("b".into())).cloned();
        assert!(b_of(&mut a).unwrap().card.draining);

        let mut again = swarm("b", 2, 2, false, later);
        again.wake(later);
        for sent in again.take_outgoing() {
            a.hear(&sent.datagram, addr(2), later);
        }
        assert_eq!(b_of(&mut a), None, "it is up, but nothing is known of it");
        talk(&mut a, &mut again, later);
        let last = later + Duration::from_secs(1);
        a.wake(last);
        again.wake(last);
        talk(&mut a, &mut again, last);
        let member = b_of(&mut a).unwrap();
        assert_eq!((member.boot, member.card.draining), (2, false));
    }

    #[test]
    fn hostile_datagrams_are_counted_and_change_nothing() {
        let now = Instant::now();
        let mut a = swarm("a", 1, 1, false, now);
        a.take_members();
        for datagram in
            [&b""[..], b"SG", &[0; 1_300], b"SG\x01 and so on and so forth, for a while more than a header"]
        {
            a.hear(datagram, addr(9), now);
        }
        let mut peer = swarm("b", 2, 1, false, now);
        let nonsense = peer.seal.seal(b"sealed, but no gossip");
        a.hear(&nonsense, addr(2), now);
        assert_eq!(a.stats, Stats { received: 5, malformed: 5, ..Stats::default() });
        assert!(a.take_outgoing().is_empty() && a.take_members().is_none());
    }
}

//! Who is in the cluster: nodes tell each other, in small sealed datagrams, who is up and what each can do.
//!
//! The idea is SWIM (Das, Gupta, Motivala, 2002; crate `foca`): every half second a node asks one other, chosen by chance,
//! whether it lives. If no answer comes, others are asked to ask; then it is suspected, may object for three seconds, and is
//! declared down. News travels along with the questions, so the cost per node does not grow with the cluster.
//!
//! What it tells is a hint. Two nodes may believe different things for seconds, so nothing is decided by it alone: it says who
//! *should* own a shard, and the journal's epochs say who *may* write.
//!
//! What is added here to SWIM:
//! - Datagrams are sealed under a ring of keys and count once (`seal`); whoever holds no key is not heard.
//! - A node has a name, and a life that grows with each start ([`next_boot`]), so that its ghost cannot be taken for it.
//! - Seeds that are not members are called on for ever: SWIM alone never heals a cluster that fell into single nodes.
//! - Two kinds of news: every node's [`Card`], and the highest epoch of each shard. A new owner takes an epoch above all that
//!   anybody has heard of, even if the store has lost it.
//!
//! One task runs it ([`Gossip::start`]). `swarm` is the protocol without socket or clock; this file performs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use syncline_actors::id::{Epoch, SHARDS, ShardId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

mod boot;
mod card;
mod datagrams;
mod key;
mod peer;
mod run;
mod seal;
mod swarm;
mod timers;
mod told;
mod window;
mod wire;

pub use boot::next_boot;
pub use card::{Card, Member, Members};
pub use datagrams::{Datagrams, Udp};
pub use key::{Key, KeyId, KeyRing};

use run::{Command, Runner};
use told::SharedHeard;

/// What a node needs to take part.
#[derive(Debug, Clone)]
pub struct Config {
    /// What it tells of itself; the card's name is the node's.
    pub card: Card,
    /// The cluster's name: 1 to 63 bytes. Nodes of another are not heard, even with the same keys.
    pub cluster: String,
    /// Where others send to: this machine as they see it.
    pub advertise: SocketAddr,
    /// Nodes to call on; a node may be among its own seeds, so that all have one list. Two or three that rarely move are enough.
    pub seeds: Vec<Seed>,
    /// The first seals, each opens.
    pub keys: KeyRing,
    /// Which start this is, from [`next_boot`].
    pub boot: u64,
}

/// A node to call on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seed {
    /// At this address.
    Addr(SocketAddr),
    /// At whatever `host:port` stands for each time.
    Name(String),
}

impl Seed {
    fn addr(&self) -> Option<SocketAddr> {
        if let Self::Addr(addr) = self { Some(*addr) } else { None }
    }

    fn name(&self) -> Option<&str> {
        if let Self::Name(name) = self { Some(name) } else { None }
    }
}

impl std::str::FromStr for Seed {
    type Err = Error;

    /// Reads `10.0.0.1:7946`, `[2001:db8::1]:7946` or `nodes.example:7946`.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(addr) = text.parse() {
            return Ok(Self::Addr(addr));
        }
        let is_name = |(host, port): (&str, &str)| {
            !host.is_empty()
                && !host.contains([':', '/', ' '])
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        let found = text.rsplit_once(':').is_some_and(is_name);
        if found { Ok(Self::Name(text.to_owned())) } else { Err(Error::Seed(text.to_owned())) }
    }
}

/// Why gossip cannot begin, or no longer runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name or label cannot be told. Nothing was started or changed.
    #[error("the {what} `{text}` must have 1 to 63 bytes and no control characters: choose another")]
    Text {
        /// Which text.
        what: &'static str,
        /// The text, cut to 80 characters.
        text: String,
    },
    /// The card is another node's. Nothing was changed.
    #[error("a node can only change its own card: the name is `{own}`, the card's is `{card}`")]
    OtherCard {
        /// The node's name.
        own: String,
        /// The card's name.
        card: String,
    },
    /// Nobody could answer to that address. Nothing was started.
    #[error("nobody can send to {0}: advertise this machine's address as other nodes see it, with its port")]
    Advertise(SocketAddr),
    /// The text names no seed.
    #[error("`{0}` is not a seed: write host:port, e.g. node-1.example:7946")]
    Seed(String),
    /// The text is no key; it is not shown.
    #[error("a gossip key must be 32 random bytes in base64: `openssl rand -base64 32` makes one")]
    Key,
    /// There is no key.
    #[error("gossip needs at least one key: `openssl rand -base64 32` makes one; give it to every node")]
    NoKeys,
    /// The socket could not be opened.
    #[error("cannot listen for gossip at {listen}: {source}; free the UDP port or set another")]
    Bind {
        /// Where.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The boot counter could not be read or written. It may or may not have been raised; nothing was started.
    #[error(
        "the boot counter in {path:?} cannot be read or kept: {source}; the node must be able to write there"
    )]
    Boot {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds no counter. Nothing was changed.
    #[error(
        "{path:?} holds `{text}` instead of a boot counter: if the file is not another's, remove it and start again"
    )]
    BootText {
        /// Which file.
        path: PathBuf,
        /// What it holds, cut to 40 characters.
        text: String,
    },
    /// The task has ended: this node has left.
    #[error("this node has left the gossip: start it again to take part")]
    Left,
}

/// Datagrams counted since the start, and why some were dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sent.
    pub sent: u64,
    /// Refused by the system when they were to be sent.
    pub unsent: u64,
    /// Received, with those that were dropped.
    pub received: u64,
    /// Dropped: not gossip, or of another version. With a key held by the sender it is a bug there.
    pub malformed: u64,
    /// Dropped: of another cluster.
    pub other_cluster: u64,
    /// Dropped: sealed with a key that is not held here, or changed on the way.
    pub unauthentic: u64,
    /// Dropped: heard before, too late to tell, or from a process that has been started again.
    pub replayed: u64,
    /// Dropped: sent by this node to itself, through an address among the seeds.
    pub own: u64,
    /// Dropped: from another process under this node's name. Two nodes share a name: act at once.
    pub namesakes: u64,
}

/// A node's part in the cluster. Clones are the same part; when the last is dropped the node falls silent, as if it had crashed.
#[derive(Debug, Clone)]
pub struct Gossip {
    commands: mpsc::UnboundedSender<Command>,
    members: watch::Receiver<Arc<Members>>,
    rejoins: watch::Receiver<u64>,
    heard: SharedHeard,
    stats: SharedStats,
    node: Arc<str>,
}

/// Counted by the task, read by others.
#[derive(Debug, Clone, Default)]
struct SharedStats(Arc<Mutex<Stats>>);

impl SharedStats {
    fn get(&self) -> Stats {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, stats: Stats) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }
}

impl Gossip {
    /// Starts the task, which calls on the seeds at once. `seed` is chance: it must differ between processes.
    ///
    /// # Errors
    /// When a text cannot be told or nobody could send to the advertised address. Whether anybody answers shows in
    /// [`Self::members`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(config: Config, datagrams: Arc<dyn Datagrams>, seed: u64) -> Result<Self, Error> {
        config.card.check()?;
        card::check_text("cluster", &config.cluster)?;
        if config.advertise.ip().is_unspecified() || config.advertise.port() == 0 {
            return Err(Error::Advertise(config.advertise));
        }
        let (commands, inbox) = mpsc::unbounded_channel();
        let (heard, stats) = (SharedHeard::default(), SharedStats::default());
        let node = config.card.node.0.clone();
        let mut swarm = swarm::Swarm::new(config, heard.clone(), seed, Instant::now());
        let (members_tx, members) = watch::channel(swarm.take_members().unwrap_or_default());
        let (rejoins_tx, rejoins) = watch::channel(0);
        let runner =
            Runner { swarm, datagrams, members: members_tx, rejoins: rejoins_tx, stats: stats.clone() };
        tokio::spawn(runner.run(inbox));
        Ok(Self { commands, members, rejoins, heard, stats, node })
    }

    /// Who is up, from now on; closed when this node has left. A node is listed once its card has come.
    pub fn members(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }

    /// How often this node was declared down and came back. At each change others may own its shards: revalidate every lease.
    pub fn rejoins(&self) -> watch::Receiver<u64> {
        self.rejoins.clone()
    }

    /// Tells all nodes of these epochs, and those who join later.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn tell_epochs(&self, epochs: &[(ShardId, Epoch)]) {
        assert!(epochs.iter().all(|(shard, _)| shard.0 < SHARDS), "shards are below {SHARDS}: {epochs:?}");
        let news: Vec<(ShardId, Epoch)> = {
            let mut heard = self.heard.lock();
            epochs.iter().copied().filter(|(shard, epoch)| heard.epoch(*shard, *epoch)).collect()
        };
        if !news.is_empty() {
            let _gone = self.commands.send(Command::TellEpochs(news));
        }
    }

    /// The highest epoch of each shard that this node was told, told itself or heard of.
    pub fn epochs(&self) -> BTreeMap<ShardId, Epoch> {
        self.heard.lock().epochs.clone()
    }

    /// From now on this node's card is `card`; everybody is told.
    ///
    /// # Errors
    /// When the card is another node's or a text of it cannot be told, and when this node has left.
    pub fn update_card(&self, card: Card) -> Result<(), Error> {
        card.check()?;
        if card.node.0 != self.node {
            return Err(Error::OtherCard { own: self.node.to_string(), card: card.node.to_string() });
        }
        self.commands.send(Command::UpdateCard(Box::new(card))).map_err(|_ended| Error::Left)
    }

    /// From now on these keys; see [`KeyRing`] for the order of the steps.
    ///
    /// # Errors
    /// When this node has left.
    pub fn replace_keys(&self, keys: KeyRing) -> Result<(), Error> {
        self.commands.send(Command::ReplaceKeys(keys)).map_err(|_ended| Error::Left)
    }

    /// Tells the peers that this node goes, so that nobody has to find out; returns when they were told, and ends the task.
    pub async fn leave(&self) {
        let (done, told) = oneshot::channel();
        let _left_before = self.commands.send(Command::Leave(done));
        let _ended = told.await;
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.stats.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_an_address_or_a_name_with_a_port() {
        let seed = |text: &str| text.parse::<Seed>();
        assert_eq!(seed("10.0.0.1:7946").unwrap(), Seed::Addr("10.0.0.1:7946".parse().unwrap()));
        assert_eq!(seed("[::1]:7946").unwrap(), Seed::Addr("[::1]:7946".parse().unwrap()));
        assert_eq!(seed("nodes.example:7946").unwrap(), Seed::Name("nodes.example:7946".to_owned()));
        for text in ["", "nodes.example", ":7946", "nodes.example:0", "nodes:many", "udp://a:1", "::1"] {
            assert!(matches!(seed(text), Err(Error::Seed(_))), "{text}");
        }
    }
}

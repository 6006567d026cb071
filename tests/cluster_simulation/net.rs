//! What lies between the nodes, and between them and the store: datagrams and streams that take their time, get lost, come twice, and
//! end where a way is cut; and nodes that sleep.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use syncline::gossip::Datagrams;
use syncline::transport::{BoxedStream, Listener, Network};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::chance::Chance;
use crate::ground::Ground;
use crate::life::Life;

/// Bytes that a connection holds in each direction.
const PIPE: usize = 64 * 1024;

/// The name under which all nodes are found.
pub(crate) const SEEDS: &str = "nodes.simulated:7946";

/// Where node `index` is.
pub(crate) fn address(index: usize) -> SocketAddr {
    format!("10.0.0.{}:7946", index + 1).parse().unwrap()
}

fn index_of(address: SocketAddr) -> usize {
    let std::net::IpAddr::V4(ip) = address.ip() else { panic!("all nodes have addresses of version 4") };
    usize::from(ip.octets()[3]) - 1
}

/// A trouble that began and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing gets from one node to another.
    Cut(usize, usize),
    /// A node and the store do not reach each other.
    Store(usize),
    /// Nobody reaches the store.
    StoreAway,
    /// The store takes no writes.
    StoreRefuses,
    /// It takes so long for a call.
    StoreSlow(Duration),
    /// A node does not run.
    Asleep(usize),
    /// So many datagrams in a thousand are lost.
    Loss(u64),
    /// So many come twice, and all in another order.
    Double(u64),
    /// Everything between nodes takes so much longer.
    Slow(Duration),
}

/// What lies between the nodes.
#[derive(Debug)]
pub(crate) struct Net {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    chance: Chance,
    troubles: BTreeMap<u64, Trouble>,
    next: u64,
    number: u64,
    inboxes: BTreeMap<usize, Arc<Inbox>>,
    ports: BTreeMap<usize, Port>,
    nodes: usize,
}

#[derive(Debug, Clone)]
struct Port {
    life: Arc<Life>,
    incoming: mpsc::UnboundedSender<(DuplexStream, SocketAddr)>,
}

/// A datagram at its end: bytes, from.
type Arrival = (Vec<u8>, SocketAddr);

#[derive(Debug, Default)]
struct Inbox {
    /// What is on its way, by arrival.
    waiting: Mutex<BTreeMap<(Instant, u64), Arrival>>,
    arrived: Notify,
}

impl Net {
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        Self {
            state: Mutex::new(State {
                chance: Chance::new(seed, "net"),
                troubles: BTreeMap::new(),
                next: 0,
                number: 0,
                inboxes: BTreeMap::new(),
                ports: BTreeMap::new(),
                nodes,
            }),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Begins a trouble. Its number ends it.
    pub(crate) fn begin(&self, trouble: Trouble) -> u64 {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.troubles.insert(number, trouble);
        number
    }

    pub(crate) fn end(&self, number: u64) {
        self.state().troubles.remove(&number);
        self.changed.notify_waiters();
    }

    pub(crate) fn heal(&self) {
        self.state().troubles.clear();
        self.changed.notify_waiters();
    }

    fn find<T>(&self, find: impl Fn(&Trouble) -> Option<T>) -> Option<T> {
        self.state().troubles.values().find_map(find)
    }

    fn has(&self, trouble: &Trouble) -> bool {
        self.find(|found| (found == trouble).then_some(())).is_some()
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }

    /// Returns when the node runs.
    pub(crate) async fn awake(&self, node: usize) {
        self.until(|net| !net.sleeps(node)).await;
    }

    pub(crate) fn sleeps(&self, node: usize) -> bool {
        self.has(&Trouble::Asleep(node))
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.has(&Trouble::Cut(from, to))
    }

    /// Whether the node and the store do not reach each other.
    pub(crate) fn is_away(&self, node: usize) -> bool {
        self.has(&Trouble::Store(node)) || self.has(&Trouble::StoreAway)
    }

    pub(crate) fn refuses_writes(&self) -> bool {
        self.has(&Trouble::StoreRefuses)
    }

    /// How much longer a call of the store takes.
    pub(crate) fn store_slowness(&self) -> Duration {
        let slow = |trouble: &Trouble| match trouble {
            Trouble::StoreSlow(time) => Some(*time),
            _ => None,
        };
        self.find(slow).unwrap_or_default()
    }

    fn delay(&self) -> Duration {
        let slow = |trouble: &Trouble| match trouble {
            Trouble::Slow(time) => Some(*time),
            _ => None,
        };
        let more = self.find(slow).unwrap_or_default();
        let millis = u64::try_from(more.as_millis()).unwrap();
        let mut state = self.state();
        Duration::from_micros(state.chance.within(200, 3_000)) + state.chance.millis(millis / 2, millis)
    }

    /// Sends a datagram: perhaps it comes, perhaps twice.
    fn send(&self, from: usize, to: usize, datagram: &[u8]) {
        let rate = |what: fn(&Trouble) -> Option<u64>| self.find(what).unwrap_or(0);
        let loss = rate(|trouble| if let Trouble::Loss(rate) = trouble { Some(*rate) } else { None });
        let double = rate(|trouble| if let Trouble::Double(rate) = trouble { Some(*rate) } else { None });
        if self.is_cut(from, to) || self.state().chance.per_mille(loss) {
            return;
        }
        let copies = 1 + u64::from(self.state().chance.per_mille(double));
        for _ in 0..copies {
            let late = if double > 0 { self.state().chance.millis(0, 300) } else { Duration::ZERO };
            let due = Instant::now() + self.delay() + late;
            let mut state = self.state();
            state.number += 1;
            let key = (due, state.number);
            if let Some(inbox) = state.inboxes.get(&to) {
                inbox.waiting.lock().unwrap().insert(key, (datagram.to_vec(), address(from)));
                inbox.arrived.notify_one();
            }
        }
    }
}

/// A node's socket for datagrams.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) ground: Arc<Ground>,
    pub(crate) life: Arc<Life>,
    me: usize,
    inbox: Arc<Inbox>,
    opened: Instant,
}

impl Socket {
    /// A fresh one; what waits for the one before is lost.
    pub(crate) fn open(ground: Arc<Ground>, life: Arc<Life>, me: usize) -> Self {
        let inbox = Arc::new(Inbox::default());
        ground.net.state().inboxes.insert(me, inbox.clone());
        Self { ground, life, me, inbox, opened: Instant::now() }
    }

    /// What has come, or when the next will.
    fn take(&self) -> Result<Arrival, Option<Instant>> {
        let mut waiting = self.inbox.waiting.lock().unwrap();
        let Some(first) = waiting.first_entry() else { return Err(None) };
        let due = first.key().0;
        if due <= Instant::now() { Ok(first.remove()) } else { Err(Some(due)) }
    }
}

#[async_trait]
impl Datagrams for Socket {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.ground.net.awake(self.me).await;
        self.life.alive().await;
        self.ground.net.send(self.me, index_of(to), datagram);
        Ok(())
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            self.ground.net.awake(self.me).await;
            self.life.alive().await;
            match self.take() {
                Ok((datagram, from)) => {
                    let length = datagram.len().min(buffer.len());
                    buffer[..length].copy_from_slice(&datagram[..length]);
                    return Ok((length, from));
                }
                Err(None) => self.inbox.arrived.notified().await,
                Err(Some(due)) => {
                    let _earlier = tokio::time::timeout_at(due, self.inbox.arrived.notified()).await;
                }
            }
        }
    }

    async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        self.life.alive().await;
        let forgets = self.ground.bug.is_some_and(|bug| bug.forgets_seeds(self.opened.elapsed()));
        if name != SEEDS || forgets {
            return Err(io::Error::other("no such name"));
        }
        Ok((0..self.ground.net.state().nodes).map(address).collect())
    }
}

/// A node's connections.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) ground: Arc<Ground>,
    pub(crate) life: Arc<Life>,
    pub(crate) me: usize,
}

#[async_trait]
impl Network for Wires {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let (incoming, connections) = mpsc::unbounded_channel();
        let port = Port { life: self.life.clone(), incoming };
        self.ground.net.state().ports.insert(self.me, port);
        Ok(Box::new(Incoming { address, connections }))
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<BoxedStream> {
        let (net, me, to) = (&self.ground.net, self.me, index_of(to));
        net.awake(me).await;
        self.life.alive().await;
        net.until(|net| !net.is_cut(me, to) && !net.is_cut(to, me)).await;
        tokio::time::sleep(net.delay()).await;
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let port = net.state().ports.get(&to).cloned().ok_or_else(refused)?;
        let ((here, near), (far, there)) = (duplex(PIPE), duplex(PIPE));
        port.incoming.send((there, address(me))).map_err(|_gone| refused())?;
        let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
        let lives = [self.life.clone(), port.life];
        let way = |from, to| Carrier { ground: self.ground.clone(), from, to, lives: lives.clone() };
        tokio::spawn(way(me, to).run(near_read, far_write));
        tokio::spawn(way(to, me).run(far_read, near_write));
        Ok(Box::new(here))
    }

    fn stays_here(&self, _: SocketAddr) -> bool {
        true
    }
}

struct Incoming {
    address: SocketAddr,
    connections: mpsc::UnboundedReceiver<(DuplexStream, SocketAddr)>,
}

#[async_trait]
impl Listener for Incoming {
    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn accept(&mut self) -> io::Result<(BoxedStream, SocketAddr)> {
        match self.connections.recv().await {
            Some((stream, from)) => Ok((Box::new(stream), from)),
            None => std::future::pending().await,
        }
    }
}

/// Carries bytes one way, in order, until an end is gone.
struct Carrier {
    ground: Arc<Ground>,
    from: usize,
    to: usize,
    lives: [Arc<Life>; 2],
}

impl Carrier {
    async fn run(self, mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
        let [one, other] = &self.lives;
        tokio::select! {
            biased;
            () = one.until_over() => self.broken(one).await,
            () = other.until_over() => self.broken(other).await,
            () = self.carry(&mut from, &mut to) => {}
        }
        let _it_may_be_gone = to.shutdown().await;
    }

    /// Half of those that end leave a system behind that says so; of the others nobody hears.
    async fn broken(&self, life: &Life) {
        if life.number.is_multiple_of(2) {
            std::future::pending::<()>().await;
        }
        self.ground.net.until(|net| !net.is_cut(self.from, self.to)).await;
    }

    async fn carry(&self, from: &mut ReadHalf<DuplexStream>, to: &mut WriteHalf<DuplexStream>) {
        let net = &self.ground.net;
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut bytes).await.unwrap_or(0);
            if read == 0 {
                return;
            }
            // What a node that sleeps has written before is on its way.
            tokio::time::sleep(net.delay()).await;
            net.until(|net| {
                !net.is_cut(self.from, self.to) && !net.sleeps(self.from) && !net.sleeps(self.to)
            })
            .await;
            if to.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    }
}

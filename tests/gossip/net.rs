//! A network of datagrams from one seed, on paused time: delay, loss, cuts in one direction, a tap.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use syncline::gossip::Datagrams;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A datagram on its way: from, to, bytes.
pub(crate) type Sent = (SocketAddr, SocketAddr, Vec<u8>);

/// A datagram at its end: bytes, from.
type Arrival = (Vec<u8>, SocketAddr);

#[derive(Debug, Clone)]
pub(crate) struct Net(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: StdRng,
    loss: f64,
    cuts: BTreeSet<(SocketAddr, SocketAddr)>,
    inboxes: BTreeMap<SocketAddr, Arc<Inbox>>,
    names: BTreeMap<String, Vec<SocketAddr>>,
    tapped: Vec<Sent>,
    number: u64,
    paused: BTreeSet<SocketAddr>,
}

#[derive(Debug, Default)]
struct Inbox {
    /// What is on its way, by arrival.
    waiting: Mutex<BTreeMap<(Instant, u64), Arrival>>,
    arrived: Notify,
    resumed: Notify,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed ^ 0x006e_6574),
            loss: 0.0,
            cuts: BTreeSet::new(),
            inboxes: BTreeMap::new(),
            names: BTreeMap::new(),
            tapped: Vec::new(),
            number: 0,
            paused: BTreeSet::new(),
        })))
    }

    /// A fresh socket at `addr`; what waits for the one before is lost.
    pub(crate) fn link(&self, addr: SocketAddr) -> Arc<Link> {
        let inbox = Arc::new(Inbox::default());
        self.0.lock().unwrap().inboxes.insert(addr, inbox.clone());
        Arc::new(Link { net: self.clone(), addr, inbox })
    }

    /// The share of datagrams that are lost, 0 to 1.
    pub(crate) fn lose(&self, share: f64) {
        self.0.lock().unwrap().loss = share;
    }

    /// From now on nothing gets from `from` to `to`.
    pub(crate) fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.0.lock().unwrap().cuts.insert((from, to));
    }

    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().cuts.clear();
    }

    /// Stops the process at `addr` when it next sends, as SIGSTOP does; its socket still takes what comes.
    pub(crate) fn pause(&self, addr: SocketAddr) {
        self.0.lock().unwrap().paused.insert(addr);
    }

    /// Lets the process at `addr` go on, as SIGCONT does.
    pub(crate) fn resume(&self, addr: SocketAddr) {
        let mut state = self.0.lock().unwrap();
        state.paused.remove(&addr);
        state.inboxes[&addr].resumed.notify_one();
    }

    /// From now on `name` stands for `addrs`.
    pub(crate) fn name(&self, name: &str, addrs: &[SocketAddr]) {
        self.0.lock().unwrap().names.insert(name.to_owned(), addrs.to_vec());
    }

    /// All that was sent so far.
    pub(crate) fn tapped(&self) -> Vec<Sent> {
        self.0.lock().unwrap().tapped.clone()
    }

    /// Puts bytes on the wire, as an attacker can.
    pub(crate) fn send(&self, (from, to, datagram): Sent) {
        let mut state = self.0.lock().unwrap();
        state.tapped.push((from, to, datagram.clone()));
        let (lost, delay) = (state.rng.random::<f64>() < state.loss, state.rng.random_range(200..3_000));
        if lost || state.cuts.contains(&(from, to)) {
            return;
        }
        state.number += 1;
        let key = (Instant::now() + Duration::from_micros(delay), state.number);
        if let Some(inbox) = state.inboxes.get(&to) {
            inbox.waiting.lock().unwrap().insert(key, (datagram, from));
            inbox.arrived.notify_one();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    net: Net,
    addr: SocketAddr,
    inbox: Arc<Inbox>,
}

impl Link {
    /// What has come, or when the next will.
    fn take(&self) -> Result<Arrival, Option<Instant>> {
        let mut waiting = self.inbox.waiting.lock().unwrap();
        let Some(first) = waiting.first_entry() else { return Err(None) };
        let due = first.key().0;
        if due <= Instant::now() { Ok(first.remove()) } else { Err(Some(due)) }
    }
}

#[async_trait::async_trait]
impl Datagrams for Link {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        while self.net.0.lock().unwrap().paused.contains(&self.addr) {
            self.inbox.resumed.notified().await;
        }
        self.net.send((self.addr, to, datagram.to_vec()));
        Ok(())
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
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
        let known = self.net.0.lock().unwrap().names.get(name).cloned();
        known.ok_or_else(|| io::Error::other("no such name"))
    }
}

//! A network in memory whose connections can be counted, frozen and broken.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use syncline::transport::{BoxedStream, Listener, Network};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{mpsc, watch};

/// Bytes that a connection holds in each direction.
const PIPE: usize = 64 * 1024;

type Port = mpsc::UnboundedSender<DuplexStream>;

/// What the network does with bytes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It carries them.
    Fair,
    /// It holds them back; nobody is told.
    Frozen,
    /// Every connection is broken.
    Broken,
}

/// All nodes on it reach each other.
#[derive(Debug)]
pub(crate) struct Net {
    ports: Mutex<BTreeMap<SocketAddr, Port>>,
    next: AtomicU16,
    attempts: AtomicUsize,
    weather: watch::Sender<Weather>,
}

impl Net {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            ports: Mutex::default(),
            next: AtomicU16::new(1),
            attempts: AtomicUsize::new(0),
            weather: watch::channel(Weather::Fair).0,
        })
    }

    /// How often somebody tried to connect.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

#[async_trait]
impl Network for Net {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let port =
            if address.port() == 0 { self.next.fetch_add(1, Ordering::Relaxed) } else { address.port() };
        let address = SocketAddr::new(address.ip(), port);
        let (port, incoming) = mpsc::unbounded_channel();
        self.ports.lock().unwrap().insert(address, port);
        Ok(Box::new(Incoming { address, incoming }))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<BoxedStream> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let port = self.ports.lock().unwrap().get(&address).cloned().ok_or_else(refused)?;
        let ((here, near), (far, there)) = (duplex(PIPE), duplex(PIPE));
        port.send(there).map_err(|_gone| refused())?;
        let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
        tokio::spawn(carry(near_read, far_write, self.weather.subscribe()));
        tokio::spawn(carry(far_read, near_write, self.weather.subscribe()));
        Ok(Box::new(here))
    }

    fn stays_here(&self, _: SocketAddr) -> bool {
        true
    }
}

/// Carries bytes one way as the weather allows, until an end is gone.
async fn carry(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    mut weather: watch::Receiver<Weather>,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        if weather.wait_for(|weather| *weather != Weather::Frozen).await.is_err()
            || *weather.borrow() == Weather::Broken
        {
            break;
        }
        let read = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            _ = weather.changed() => continue,
        };
        if weather.wait_for(|weather| *weather != Weather::Frozen).await.is_err()
            || read == 0
            || to.write_all(&bytes[..read]).await.is_err()
        {
            break;
        }
    }
    let _it_may_be_gone = to.shutdown().await;
}

struct Incoming {
    address: SocketAddr,
    incoming: mpsc::UnboundedReceiver<DuplexStream>,
}

#[async_trait]
impl Listener for Incoming {
    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn accept(&mut self) -> io::Result<(BoxedStream, SocketAddr)> {
        let stream = self.incoming.recv().await.expect("the network lives as long as its ports");
        Ok((Box::new(stream), self.address))
    }
}

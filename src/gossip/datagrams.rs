//! The network gossip runs on: UDP, or whatever a test puts in its place.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::Error;

/// Sends and receives datagrams of up to 1,200 bytes; any may be lost, come twice or in another order.
#[async_trait::async_trait]
pub trait Datagrams: Debug + Send + Sync + 'static {
    /// Sends one datagram. It should not wait for long.
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()>;

    /// Receives one datagram into `buffer`: its length and its sender. Dropping the future before it ends loses nothing.
    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;

    /// The addresses that `host:port` stands for at this moment.
    async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>>;
}

/// Datagrams over UDP.
#[derive(Debug)]
pub struct Udp(UdpSocket);

impl Udp {
    /// Listens at `listen`.
    ///
    /// # Errors
    /// [`Error::Bind`] when the address is taken or not this machine's.
    pub async fn bind(listen: SocketAddr) -> Result<Self, Error> {
        let bound = UdpSocket::bind(listen).await;
        bound.map(Self).map_err(|source| Error::Bind { listen, source })
    }

    /// Where it listens, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[async_trait::async_trait]
impl Datagrams for Udp {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.0.send_to(datagram, to).await.map(|_all_or_nothing| ())
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.recv_from(buffer).await
    }

    async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host(name).await?.collect())
    }
}

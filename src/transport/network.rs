//! Where connections come from: TCP, or whatever a test or a simulation puts in its place.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Bytes in both directions, in order.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// A stream of whatever kind.
pub type BoxedStream = Box<dyn Stream>;

/// Opens connections and takes them.
#[async_trait]
pub trait Network: std::fmt::Debug + Send + Sync + 'static {
    /// Takes connections at `address`, port 0 for any free one.
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>>;

    /// Opens a connection. The caller bounds the time.
    async fn connect(&self, address: SocketAddr) -> io::Result<BoxedStream>;

    /// Whether bytes to and from `address` stay within this machine or process, so that they need no TLS.
    fn stays_here(&self, address: SocketAddr) -> bool;
}

/// An address at which connections are taken; dropped, it takes no more.
#[async_trait]
pub trait Listener: Send + 'static {
    /// The address, with the port that was found if any was asked for.
    fn address(&self) -> SocketAddr;

    /// The next connection. Safe to drop while it waits.
    async fn accept(&mut self) -> io::Result<(BoxedStream, SocketAddr)>;
}

/// The machine's own TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

#[async_trait]
impl Network for Tcp {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Box::new(TcpPort { socket, address }))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<BoxedStream> {
        quick(TcpStream::connect(address).await?)
    }

    fn stays_here(&self, address: SocketAddr) -> bool {
        address.ip().to_canonical().is_loopback()
    }
}

struct TcpPort {
    socket: TcpListener,
    address: SocketAddr,
}

#[async_trait]
impl Listener for TcpPort {
    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn accept(&mut self) -> io::Result<(BoxedStream, SocketAddr)> {
        let (stream, from) = self.socket.accept().await?;
        Ok((quick(stream)?, from))
    }
}

/// Each write leaves at once: what belongs together is already written together.
fn quick(stream: TcpStream) -> io::Result<BoxedStream> {
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// A network to hand around.
pub(super) type SharedNetwork = Arc<dyn Network>;

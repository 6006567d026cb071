//! One keep-alive HTTP/1.1 connection that is made again after it failed.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::tally::{End, Failure};

/// Sends one request at a time to one address.
#[derive(Debug)]
pub(super) struct Connection {
    address: SocketAddr,
    timeout: Duration,
    live: Option<Live>,
    /// Connections made so far.
    pub made: u64,
}

/// A connection that exists: what sends, and the task that moves its bytes.
#[derive(Debug)]
struct Live {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort(); // after a time-out the answer must not come in later
    }
}

impl Connection {
    /// Not connected yet. `timeout` bounds connecting, and each exchange.
    pub(super) fn new(address: SocketAddr, timeout: Duration) -> Self {
        Self { address, timeout, live: None, made: 0 }
    }

    /// Connects unless it is connected.
    pub(super) async fn connect(&mut self) -> Result<(), Failure> {
        if self.live.as_ref().is_some_and(|live| !live.sender.is_closed()) {
            return Ok(());
        }
        self.live = None;
        let live = timeout(self.timeout, Live::open(self.address)).await;
        self.live = Some(live.ok().and_then(Result::ok).ok_or(Failure::Connect)?);
        self.made += 1;
        Ok(())
    }

    /// Sends a request and waits for the whole answer. After a failure the next request gets a new connection.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> End {
        if let Err(failure) = self.connect().await {
            return End::Failed(failure);
        }
        let live = self.live.as_mut().expect("it was connected a moment ago");
        let failure = match timeout(self.timeout, exchange(&mut live.sender, request)).await {
            Ok(Ok(status)) => return End::Answered(status),
            Ok(Err(error)) if error.is_parse() => Failure::Protocol,
            Ok(Err(_)) => Failure::Closed,
            Err(_) => Failure::Timeout,
        };
        self.live = None;
        End::Failed(failure)
    }
}

impl Live {
    async fn open(address: SocketAddr) -> Result<Self, std::io::Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        let driver = tokio::spawn(async move {
            let _ = connection.await; // the request that was under way is told
        });
        Ok(Self { sender, driver })
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<u16, hyper::Error> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(status)
}

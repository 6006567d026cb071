//! What stands before the nodes in a real cluster: it passes connections on to those that say they are ready.

use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

/// Between two looks at a node.
const EVERY: Duration = Duration::from_millis(25);

/// How long a node may take to say that it is ready.
const PATIENCE: Duration = Duration::from_millis(500);

/// A balancer over some nodes.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    ready: watch::Receiver<Vec<SocketAddr>>,
}

impl Balancer {
    /// Over these nodes. Where `tls` is given it speaks TLS with them, and plain HTTP with its clients.
    pub(crate) async fn start(
        nodes: Vec<SocketAddr>,
        http: reqwest::Client,
        tls: Option<TlsConnector>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (looked, ready) = watch::channel(Vec::new());
        let scheme = if tls.is_some() { "https" } else { "http" };
        tokio::spawn(look(nodes, scheme, http, looked));
        tokio::spawn(pass_on(listener, ready.clone(), tls));
        Self { address, ready }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The nodes that are ready now.
    pub(crate) fn ready(&self) -> Vec<SocketAddr> {
        self.ready.borrow().clone()
    }

    /// Until the nodes that are ready are as they should be.
    pub(crate) async fn until(&self, are: impl FnMut(&Vec<SocketAddr>) -> bool) {
        self.ready.clone().wait_for(are).await.unwrap();
    }
}

async fn look(
    nodes: Vec<SocketAddr>,
    scheme: &str,
    http: reqwest::Client,
    looked: watch::Sender<Vec<SocketAddr>>,
) {
    loop {
        let ask = |node: SocketAddr| {
            let asked = http.get(format!("{scheme}://{node}/readyz")).timeout(PATIENCE).send();
            async move { asked.await.is_ok_and(|answer| answer.status().is_success()).then_some(node) }
        };
        let ready: Vec<_> = futures::future::join_all(nodes.iter().map(|node| ask(*node)))
            .await
            .into_iter()
            .flatten()
            .collect();
        looked.send_if_modified(|known| {
            let changed = *known != ready;
            *known = ready;
            changed
        });
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = looked.closed() => return,
        }
    }
}

/// Each connection goes to the next node in turn; with none ready it is closed, as a balancer does.
async fn pass_on(listener: TcpListener, ready: watch::Receiver<Vec<SocketAddr>>, tls: Option<TlsConnector>) {
    for turn in 0.. {
        let Ok((client, _)) = listener.accept().await else { return };
        let nodes = ready.borrow().clone();
        let Some(&node) = nodes.get(turn % nodes.len().max(1)) else { continue };
        tokio::spawn(join(client, node, tls.clone()));
    }
}

/// Passes on what one says to the other until one of them has said all. A node that does not let itself be spoken with looks to the
/// client like a connection that was closed.
async fn join(mut client: TcpStream, node: SocketAddr, tls: Option<TlsConnector>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(node).await?;
    match tls {
        None => tokio::io::copy_bidirectional(&mut client, &mut server).await?,
        Some(tls) => {
            let mut server = tls.connect(ServerName::from(node.ip()), server).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await?
        }
    };
    Ok(())
}

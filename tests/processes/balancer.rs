//! What stands before the nodes in a real cluster: it passes connections on to those that say they are ready.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

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
    pub(crate) async fn start(nodes: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (looked, ready) = watch::channel(Vec::new());
        tokio::spawn(look(nodes, looked));
        tokio::spawn(pass_on(listener, ready.clone()));
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

async fn look(nodes: Vec<SocketAddr>, looked: watch::Sender<Vec<SocketAddr>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    loop {
        let ask = |node: SocketAddr| {
            let asked = http.get(format!("http://{node}/readyz")).send();
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
async fn pass_on(listener: TcpListener, ready: watch::Receiver<Vec<SocketAddr>>) {
    for turn in 0.. {
        let Ok((mut client, _)) = listener.accept().await else { return };
        let nodes = ready.borrow().clone();
        let Some(&node) = nodes.get(turn % nodes.len().max(1)) else { continue };
        tokio::spawn(async move {
            if let Ok(mut server) = TcpStream::connect(node).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

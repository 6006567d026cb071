//! Nodes that answer, for every test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use syncline::clock::{SharedClock, SystemClock};
use syncline::transport::{
    Config, Error, Handler, Limits, Network, Peer, Request, StartError, TlsFiles, Transport, Versions, World,
};
use syncline_actors::id::NodeId;
use tokio::sync::{Semaphore, oneshot, watch};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Until it is so; what another task has yet to count is not there at once.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(10 * SECOND, waited).await.expect("it becomes so");
}

/// Answers `node < from: payload`. Some payloads are orders: `hold`, `panic`, `large`.
pub(crate) struct Desk {
    node: String,
    /// Lets go what holds.
    pub(crate) gate: Semaphore,
    /// How many are being handled.
    pub(crate) now: watch::Sender<usize>,
    /// The most that were at the same time.
    pub(crate) most: AtomicUsize,
}

#[async_trait]
impl Handler for Desk {
    async fn handle(&self, request: Request) -> Bytes {
        self.now.send_modify(|now| *now += 1);
        self.most.fetch_max(*self.now.borrow(), Ordering::Relaxed);
        tokio::task::yield_now().await;
        let answer = match &request.payload[..] {
            b"hold" => {
                self.gate.acquire().await.unwrap().forget();
                Bytes::from_static(b"held")
            }
            b"panic" => {
                self.now.send_modify(|now| *now -= 1);
                panic!("as it was told to")
            }
            b"large" => vec![0; 3 << 20].into(),
            payload => {
                let mut answer = format!("{} < {}: ", self.node, request.from).into_bytes();
                answer.extend_from_slice(payload);
                answer.into()
            }
        };
        self.now.send_modify(|now| *now -= 1);
        answer
    }
}

/// A node that runs until it is dropped.
pub(crate) struct Node {
    pub(crate) transport: Transport,
    pub(crate) desk: Arc<Desk>,
    pub(crate) peer: Peer,
    _stop: oneshot::Sender<()>,
}

/// How a node is set up.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) clock: SharedClock,
}

/// Node `name` of cluster `prod` on loopback.
pub(crate) fn plan(name: &str) -> Plan {
    let limits = Limits { payload_max: 1 << 20, in_flight_bytes_max: 4 << 20, ..Limits::default() };
    let config = Config {
        node: NodeId(name.into()),
        cluster: "prod".to_owned(),
        boot: 1,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        versions: Versions::OWN,
        limits,
    };
    Plan { config, tls: None, clock: Arc::new(SystemClock) }
}

impl Plan {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) async fn try_start(self, network: Arc<dyn Network>) -> Result<Node, StartError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let node = self.config.node.clone();
        let desk = Arc::new(Desk {
            node: node.to_string(),
            gate: Semaphore::new(0),
            now: watch::channel(0).0,
            most: AtomicUsize::new(0),
        });
        let world = World { network, clock: self.clock, seed: 1 };
        let shutdown = async {
            let _dropped = stopped.await;
        };
        let transport = Transport::start(self.config, self.tls, world, desk.clone(), shutdown).await?;
        let peer = Peer { node, address: transport.address() };
        Ok(Node { transport, desk, peer, _stop: stop })
    }

    pub(crate) async fn start(self, network: Arc<dyn Network>) -> Node {
        self.try_start(network).await.unwrap()
    }
}

impl Node {
    /// Asks with ten seconds of time.
    pub(crate) async fn ask(&self, other: &Self, payload: &'static str) -> Result<String, Error> {
        self.ask_within(&other.peer, payload, 10 * SECOND).await
    }

    pub(crate) async fn ask_within(
        &self,
        peer: &Peer,
        payload: &'static str,
        deadline: Duration,
    ) -> Result<String, Error> {
        let answer = self.transport.call(peer, Bytes::from_static(payload.as_bytes()), deadline).await?;
        Ok(String::from_utf8(answer.to_vec()).unwrap())
    }

    /// Asks in a task of its own and returns once `other` handles it.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        other: &Self,
        payload: &'static str,
    ) -> tokio::task::JoinHandle<Result<String, Error>> {
        let (asker, peer) = (self.clone(), other.peer.clone());
        let mut handled = other.desk.now.subscribe();
        let before = *handled.borrow_and_update();
        let asked = tokio::spawn(async move { asker.ask_within(&peer, payload, 10 * SECOND).await });
        handled.wait_for(|now| *now > before).await.unwrap();
        asked
    }
}

/// What a refusal says.
#[track_caller]
pub(crate) fn refusal<T: std::fmt::Debug>(ended: Result<T, Error>) -> (syncline::transport::Refusal, String) {
    match ended {
        Err(Error::Refused { refusal, why, .. }) => (refusal, why),
        other => panic!("it was not refused: {other:?}"),
    }
}

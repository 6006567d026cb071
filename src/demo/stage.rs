//! Node and sandbox of the demo: started, killed, started again.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::RwLock;

use super::senders::Senders;
use super::{Error, Plan};
use crate::api::Operate;
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::integration::{self, Files, Integration};
use crate::node::{Ground, Lookup, Node};
use crate::sandbox::{Sandbox, SandboxConfig};

/// What every sender signs with; the demo's own, and of no use elsewhere.
pub(super) const SECRET: &str = "whsec_ZGVtby1vZi1zeW5jbGluZS1zZW5kZXItc2VjcmV0";

/// How long a system takes to tell what has happened.
const TELLS_AFTER: Duration = Duration::from_millis(300);

/// Everything that runs.
pub struct Stage {
    pub(super) sandbox: Sandbox,
    pub(super) senders: Senders,
    /// How long one thing that is waited for may take.
    pub(super) patience: Duration,
    settings: Settings,
    files: Files,
    node: RwLock<Option<Node>>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("node", &self.node)
            .field("sandbox", &self.sandbox)
            .finish_non_exhaustive()
    }
}

impl Stage {
    pub(super) async fn open(plan: &Plan) -> Result<Self, Error> {
        let files = files(plan);
        let secrets = read(&files)?
            .sources
            .keys()
            .map(|source| (source.to_string(), SecretString::from(SECRET)))
            .collect();
        let mut config = SandboxConfig::local(Arc::new(SystemClock));
        config.seed = plan.seed;
        config.shipping_delay = TELLS_AFTER;
        config.secrets = secrets;
        let secrets = config.secrets.clone();
        let sandbox = Sandbox::start(config).await?;
        let set = [
            format!("http.listen={}", plan.listen),
            format!("node.data_dir={}", plan.directory.display()),
            "node.name=demo".to_owned(),
            "shutdown.drain_for=20s".to_owned(),
        ];
        let mut settings = Settings::load(None, [], &set)?;
        if settings.journal_path().exists() {
            return Err(Error::NotEmpty(plan.directory.clone()));
        }
        let node = start(&settings, &files, &sandbox).await?;
        // After a restart it is found where it was.
        settings.http.listen = node.address();
        sandbox.set_target(&format!("http://{}", node.address()))?;
        let senders = Senders::new(node.address(), plan.seed, &secrets)?;
        let (patience, node) = (plan.patience(), RwLock::new(Some(node)));
        Ok(Self { sandbox, senders, patience, settings, files, node })
    }

    /// Where the node listens.
    pub fn node_address(&self) -> SocketAddr {
        self.settings.http.listen
    }

    /// Where the sandbox listens.
    pub fn sandbox_address(&self) -> SocketAddr {
        self.sandbox.address()
    }

    /// Ends both in order.
    pub async fn stop(self) -> bool {
        let stopped = match self.node.into_inner() {
            Some(node) => node.stop().await,
            None => true,
        };
        self.sandbox.stop().await;
        stopped
    }

    /// Kills the node, wherever it is.
    pub(super) async fn kill(&self) {
        let node = self.node.write().await.take();
        if let Some(node) = node {
            node.crash().await;
        }
    }

    /// Starts the node again over the same store.
    pub(super) async fn revive(&self) -> Result<(), Error> {
        let mut place = self.node.write().await;
        *place = Some(start(&self.settings, &self.files, &self.sandbox).await?);
        Ok(())
    }

    /// The node's API, while the node lives.
    pub(super) async fn operate(&self) -> Option<Arc<dyn Operate>> {
        self.node.read().await.as_ref().map(Node::operate)
    }
}

/// The integration that is shipped. The limits that it declares are those of real systems: where much is played they would be all that
/// is seen, and are raised.
fn files(plan: &Plan) -> Files {
    let mut files = integration::shipped();
    if plan.is_large() {
        for text in files.values_mut() {
            for (rate, burst) in [(200, 100), (100, 50), (50, 50), (50, 20)] {
                let declared = format!("rate: {rate}/s, burst: {burst}");
                *text = text.replace(&declared, "rate: 4000/s, burst: 1000");
            }
        }
    }
    files
}

fn read(files: &Files) -> Result<Integration, Error> {
    let read = integration::read(files, "config");
    read.integration.ok_or_else(|| Error::Integration(read.problems.to_string()))
}

async fn start(settings: &Settings, files: &Files, sandbox: &Sandbox) -> Result<Node, Error> {
    let integration = read(files)?;
    let url = |system: &str| (format!("env:SYNCLINE_{}_URL", system.to_uppercase()), sandbox.url(system));
    let secret =
        |source: &Arc<str>| (format!("env:SYNCLINE_{}_SECRET", source.to_uppercase()), SECRET.to_owned());
    let mut known: Vec<(String, String)> = Sandbox::systems().map(url).collect();
    known.extend(integration.sources.keys().map(secret));
    let known = move |name: &str| known.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let mut ground = Ground::of_machine(settings, integration).await?;
    ground.lookup = Lookup(Arc::new(known));
    Ok(Node::start(settings, ground).await?)
}

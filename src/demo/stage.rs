//! Node and sandbox of the demo: started, killed, started again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use syncline_actors::id::EntityId;
use tokio::sync::RwLock;

use super::{Error, LOOK, PATIENCE, Plan};
use crate::api::Operate;
use crate::clock::{SharedClock, SystemClock};
use crate::config::Settings;
use crate::integration;
use crate::node::{Ground, Lookup, Node};
use crate::sandbox::{Sandbox, SandboxConfig};

/// The senders' secrets; the demo's own, and of no use elsewhere.
pub(super) const SECRETS: [(&str, &str, &str); 3] = [
    ("crm", "SYNCLINE_CRM_SECRET", "whsec_ZGVtby1vZi1zeW5jbGluZS1jcm0tc2VuZGVyLXNlY3JldA=="),
    ("warehouse", "SYNCLINE_WAREHOUSE_SECRET", "whsec_ZGVtby1vZi1zeW5jbGluZS13YXJlaG91c2Utc2VjcmV0"),
    ("sourcing", "SYNCLINE_SOURCING_SECRET", "whsec_ZGVtby1vZi1zeW5jbGluZS1zb3VyY2luZy1zZWNyZXQ="),
];

/// How long a system takes to tell what has happened.
pub(super) const TELLS_AFTER: Duration = Duration::from_millis(300);

/// Everything that runs.
#[derive(Debug)]
pub struct Stage {
    pub(super) sandbox: Sandbox,
    settings: Settings,
    node: RwLock<Option<Node>>,
}

impl Stage {
    pub(super) async fn open(plan: &Plan) -> Result<Self, Error> {
        let clock: SharedClock = Arc::new(SystemClock);
        let mut config = SandboxConfig::local(clock);
        config.seed = plan.seed;
        config.shipping_delay = TELLS_AFTER;
        let secret =
            |(source, _, secret): &(&str, &str, &str)| ((*source).to_owned(), SecretString::from(*secret));
        config.secrets = SECRETS.iter().map(secret).collect();
        let sandbox = Sandbox::start(config).await?;
        let set = [
            format!("http.listen={}", plan.listen),
            format!("node.data_dir={}", plan.directory.display()),
            "node.name=demo".to_owned(),
            "shutdown.drain_for=5s".to_owned(),
        ];
        let mut settings = Settings::load(None, [], &set)?;
        if settings.journal_path().exists() {
            return Err(Error::NotEmpty(plan.directory.clone()));
        }
        let node = Self::start(&settings, &sandbox).await?;
        // After a restart it is found where it was.
        settings.http.listen = node.address();
        sandbox.set_target(&format!("http://{}", node.address()))?;
        Ok(Self { sandbox, settings, node: RwLock::new(Some(node)) })
    }

    async fn start(settings: &Settings, sandbox: &Sandbox) -> Result<Node, Error> {
        let read = integration::read(&integration::shipped(), "config");
        let integration = read.integration.ok_or_else(|| Error::Integration(read.problems.to_string()))?;
        let url = |system: &str| (format!("env:SYNCLINE_{}_URL", system.to_uppercase()), sandbox.url(system));
        let mut known: Vec<(String, String)> = Sandbox::systems().map(url).collect();
        known.extend(SECRETS.map(|(_, name, secret)| (format!("env:{name}"), secret.to_owned())));
        let known =
            move |name: &str| known.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let mut ground = Ground::of_machine(settings, integration).await?;
        ground.lookup = Lookup(Arc::new(known));
        Ok(Node::start(settings, ground).await?)
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
        let node = self.node.into_inner();
        let stopped = match node {
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
        *place = Some(Self::start(&self.settings, &self.sandbox).await?);
        Ok(())
    }

    /// The node's API, while the node lives.
    pub(super) async fn operate(&self) -> Option<Arc<dyn Operate>> {
        self.node.read().await.as_ref().map(Node::operate)
    }

    /// The state an entity stands in.
    pub(super) async fn state_of(&self, entity: &EntityId) -> Option<String> {
        let operate = self.operate().await?;
        Some(operate.entity(entity).await.ok()?.status)
    }

    /// Waits until an entity stands where it should, or patience is over; the books then show it.
    pub(super) async fn wait_for(&self, entity: &EntityId, fits: impl Fn(&str) -> bool) {
        let there = async {
            while !self.state_of(entity).await.is_some_and(|found| fits(&found)) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, there).await;
    }
}

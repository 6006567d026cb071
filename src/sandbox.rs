//! The sandbox: simulated systems over real HTTP, in the shapes of the vendors they stand for, with faults on demand and a
//! ledger of everything that they applied.
//!
//! | path | system | like |
//! | --- | --- | --- |
//! | `/crm` | CRM, tells by webhook what people type of an account | Salesforce |
//! | `/erp` | ERP, tells by webhook what people type of an item or a customer's terms | NetSuite |
//! | `/tax` | tax engine | Avalara |
//! | `/warehouse` | warehouse, tells by webhook what has left | none |
//! | `/support` | support desk | Zendesk |
//! | `/notify` | notifications | Slack |
//! | `/sourcing` | sourcing, tells by webhook what has happened to a supplier | Coupa, Ariba |
//! | `/bank` | validation of bank accounts | none |
//! | `/taxreg` | check of tax registrations | VIES |
//! | `/itsm` | incidents | `ServiceNow` |
//! | `/chat` | chat | Slack |
//! | `/cpq` | quotes | Salesforce CPQ |
//! | `/billing` | billing | Zuora |
//! | `/revenue` | revenue recognition, by jobs | none |
//! | `/success` | customer success | Gainsight |
//! | `/hr` | HR | Workday |
//! | `/payroll` | payroll, which knows no keys | none |
//! | `/directory` | directory | SCIM 2.0 |
//! | `/shop` | web shop | Shopify |
//! | `/s4` | ERP of a second company | SAP S/4HANA |
//!
//! A system that knows keys answers a repeated one with its first answer and applies it once; what is applied twice all the same, under
//! two keys or where no key is known, stands under `violations`. User and secret are the same everywhere: [`USER`] and [`SECRET`].
//!
//! What a system does with a business case is told by names, so that a demo needs no set-up: account ids that end in `-INACTIVE`,
//! `-MISSING`, `-CHILD` or `-ORPHAN`; skus that begin with `BACK-` (not there at first) or `NEVER-`; the tax class `REFUSED`;
//! addresses at `bounce.example`; the other systems say theirs in their own files. [`opportunity`], [`contract`] and [`worker`] build
//! the webhooks that lead there, [`supplier`] what is typed at the screens of the sourcing tool.
//!
//! `GET /ledger`, `GET /ledger/summary`, `POST /reset`; `GET /faults`, `PUT /faults/{system}` with a plan or a list of them,
//! `DELETE /faults`. Numbers are exact; time and chance come from outside.

mod access;
mod bank;
mod billing;
mod call;
mod chat;
pub mod contract;
mod cpq;
mod crm;
mod cut;
mod desk;
mod directory;
pub mod emit;
mod erp;
pub mod faults;
mod hr;
mod itsm;
pub mod ledger;
mod notify;
pub mod opportunity;
mod payroll;
mod revenue;
mod s4;
mod shop;
mod sourcing;
mod success;
pub mod supplier;
mod support;
mod tax;
mod taxreg;
mod warehouse;
mod web;
pub mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use secrecy::SecretString;
use syncline_actors::value::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use access::{SECRET, USER};
pub use desk::Telling;
pub use emit::Emitter;
pub use faults::{Fault, Plan, RetryAfter};
pub use ledger::{Snapshot, Summary};

use crate::clock::SharedClock;
use call::Call;
use cut::CuttingListener;
use desk::Desk;

/// What a person shows at a screen: [`SECRET`] as bearer.
const AS_PERSON: &str = "Bearer sandbox-secret";

/// How long answers under way may take when the sandbox stops.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// How the sandbox runs.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Fixes which requests meet a fault.
    pub seed: u64,
    /// Tells the time.
    pub clock: SharedClock,
    /// The node that webhooks go to, e.g. `http://127.0.0.1:7171`. `None`: they wait until [`Sandbox::set_target`].
    pub target: Option<String>,
    /// Secrets that webhooks are signed with, by source: `whsec_` and base64.
    pub secrets: BTreeMap<String, SecretString>,
    /// How long the warehouse takes to ship, and any system to tell what has happened.
    pub shipping_delay: Duration,
}

impl SandboxConfig {
    /// On a free port of this machine, shipping after 50 ms, with nowhere to send webhooks yet.
    pub fn local(clock: SharedClock) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: 1,
            clock,
            target: None,
            secrets: BTreeMap::new(),
            shipping_delay: Duration::from_millis(50),
        }
    }
}

/// Why the sandbox does not run. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another port, or 0 for a free one")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Webhooks cannot be sent.
    #[error(transparent)]
    Emitter(#[from] emit::Error),
    /// A fault plan is wrong; what stood before still stands.
    #[error("faults for {system}: {why}")]
    Plan {
        /// Which system.
        system: String,
        /// What is wrong.
        why: String,
    },
}

/// Simulated systems that run. Dropping it stops them at once.
#[derive(Debug)]
pub struct Sandbox {
    desk: Arc<Desk>,
    address: SocketAddr,
    config: SandboxConfig,
    stop: watch::Sender<bool>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Sandbox {
    /// Starts serving. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address is taken, or webhooks could not be sent as configured.
    pub async fn start(config: SandboxConfig) -> Result<Self, Error> {
        let desk = Arc::new(Desk::new(config.seed, config.clock.clone(), config.shipping_delay));
        if let Some(target) = &config.target {
            desk.set_emitter(Emitter::new(target, &config.secrets, config.clock.clone())?);
        }
        let listen = |source| Error::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let service = web::router(desk.clone()).into_make_service_with_connect_info::<cut::Scissors>();
        let server = axum::serve(CuttingListener(listener), service).with_graceful_shutdown(async move {
            // An error means that the sandbox is gone: then too it is over.
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        let server = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the sandbox stopped serving");
            }
        });
        tracing::info!(%address, "the sandbox serves");
        Ok(Self { desk, address, config, stop, server: Mutex::new(Some(server)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of a system, as connectors want it.
    pub fn url(&self, system: &str) -> String {
        format!("http://{}/{system}", self.address)
    }

    /// The names of all systems, as connectors call them.
    pub fn systems() -> impl Iterator<Item = &'static str> {
        desk::systems()
    }

    /// What a person does at the screen of a system, e.g. `PUT` on `screen/suppliers/SUP-1`: it meets no fault. Status and body of the
    /// answer.
    pub fn act(
        &self,
        system: &'static str,
        method: Method,
        path: &str,
        body: &serde_json::Value,
    ) -> (u16, String) {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(AS_PERSON));
        let call = Call::new(method, path, "", headers, body.to_string().into_bytes(), self.desk.now());
        let reply = self.desk.act(system, &call);
        (reply.status, reply.body)
    }

    /// Everything applied so far.
    pub fn ledger(&self) -> Snapshot {
        self.desk.state().ledger.snapshot()
    }

    /// What a system holds: fields by kind of record and external id. Empty for a system that is not there.
    pub fn held(&self, system: &str) -> BTreeMap<&'static str, BTreeMap<String, Value>> {
        self.desk.state().held(system)
    }

    /// Everything applied so far, in numbers.
    pub fn summary(&self) -> Summary {
        self.desk.state().ledger.summary()
    }

    /// What the systems have to tell of their own accord, and was not heard yet.
    pub fn telling(&self) -> Telling {
        self.desk.telling()
    }

    /// Replaces the fault plans of one system; none of them ends its faults.
    ///
    /// # Errors
    /// There is no such system, or a plan does not fit it.
    pub fn set_faults(&self, system: &str, plans: Vec<Plan>) -> Result<(), Error> {
        self.desk.set_faults(system, plans).map_err(|why| Error::Plan { system: system.to_owned(), why })
    }

    /// How often the plans that stand have dealt a fault.
    pub fn faults_dealt(&self) -> u64 {
        let standing = self.desk.state().faults.standing();
        standing.values().flatten().map(|standing| standing.dealt).sum()
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.desk.state().faults.clear();
    }

    /// Forgets everything, faults and webhooks under way included.
    pub fn reset(&self) {
        self.desk.reset();
    }

    /// Sends webhooks to another node from now on, those that wait included.
    ///
    /// # Errors
    /// The address, or a secret of the configuration, cannot be used.
    pub fn set_target(&self, target: &str) -> Result<(), Error> {
        let emitter = Emitter::new(target, &self.config.secrets, self.config.clock.clone())?;
        self.desk.set_emitter(emitter);
        Ok(())
    }

    /// Stops: answers under way end, webhooks under way are left.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut server) = server
            && tokio::time::timeout(STOP_WITHIN, &mut server).await.is_err()
        {
            server.abort();
        }
        self.desk.abort();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            server.abort();
        }
        self.desk.abort();
    }
}

//! `kill -9` at any moment of `syncline run` under load: nothing acknowledged is lost, nothing is applied twice.
//!
//! Real processes: the built program, real files, real HTTP, the sandbox's ledger. The moments come from a seed that is printed;
//! `KILL_SEED=n` repeats one, `KILLS=n` kills more often.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use secrecy::SecretString;
use serde_json::Value;
use syncline::clock::{Clock as _, SystemClock};
use syncline::sandbox::opportunity::{Opportunity, Variant};
use syncline::sandbox::{Emitter, Fault, Plan, Sandbox, SandboxConfig};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, watch};

const CRM: &str = "whsec_ZGVtby1vZi1zeW5jbGluZS1jcm0tc2VuZGVyLXNlY3JldA==";
const WAREHOUSE: &str = "whsec_ZGVtby1vZi1zeW5jbGluZS13YXJlaG91c2Utc2VjcmV0";

/// Kills, and orders between two of them.
const KILLS: u64 = 20;
const ORDERS_EACH: u64 = 6;

/// Orders that are sent at the same time.
const AT_ONCE: usize = 8;

/// For anything that must happen at all.
const PATIENCE: Duration = Duration::from_mins(2);

/// A node in a process of its own.
struct Runner {
    directory: tempfile::TempDir,
    listen: SocketAddr,
    environment: Vec<(String, String)>,
    child: Mutex<Option<Child>>,
    http: reqwest::Client,
}

impl Runner {
    fn new(sandbox: &Sandbox) -> Self {
        // A port that is free now, for all lives of the node.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = |system: &str| (format!("SYNCLINE_{}_URL", system.to_uppercase()), sandbox.url(system));
        let mut environment: Vec<_> = Sandbox::systems().map(url).collect();
        environment.push(("SYNCLINE_CRM_SECRET".into(), CRM.into()));
        environment.push(("SYNCLINE_WAREHOUSE_SECRET".into(), WAREHOUSE.into()));
        // A second installation fails, and the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::new();
        Self { directory: tempfile::tempdir().unwrap(), listen, environment, child: Mutex::default(), http }
    }

    async fn start(&self) {
        let child = Command::new(env!("CARGO_BIN_EXE_syncline"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg("run")
            .args(["--set", &format!("http.listen={}", self.listen)])
            .args(["--set", &format!("node.data_dir={}", self.directory.path().display())])
            .args(["--set", "log.level=warn"])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        *self.child.lock().await = Some(child);
    }

    /// SIGKILL: the process cannot do anything about it.
    async fn kill(&self) {
        self.child.lock().await.take().unwrap().kill().await.unwrap();
    }

    /// SIGTERM, as an orchestrator does; the exit code.
    async fn terminate(&self) -> Option<i32> {
        let mut child = self.child.lock().await.take().unwrap();
        let id = child.id().unwrap().to_string();
        assert!(
            Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status().await.unwrap().success()
        );
        tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap().code()
    }

    /// What the API answers; none while nothing answers.
    async fn ask(&self, path: &str) -> Option<Value> {
        let response = self.http.get(format!("http://{}{path}", self.listen)).send().await.ok()?;
        response.error_for_status().ok()?.json().await.ok()
    }

    async fn state(&self, order: &str) -> Option<String> {
        let entity = self.ask(&format!("/v1/entities/order/{order}")).await?;
        Some(entity["status"].as_str()?.to_owned())
    }

    /// The ids of the messages that an order's journal holds.
    async fn journaled(&self, order: &str) -> Vec<String> {
        let page = self.ask(&format!("/v1/entities/order/{order}/timeline?limit=1000")).await.unwrap();
        let id = |entry: &Value| entry["message_id"].as_str().unwrap().to_owned();
        page["items"].as_array().unwrap().iter().map(id).collect()
    }
}

/// Sends an order until it is acknowledged, and then once more: the second is a duplicate.
async fn send(emitter: &Emitter, order: &Opportunity, acked: &watch::Sender<u64>) {
    let id = order.message_id("confirmed");
    for _ in 0..2 {
        let body = order.confirmed(SystemClock.now());
        while !matches!(emitter.send("crm", &body, &id).await, Ok(200)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    acked.send_modify(|count| *count += 1);
}

async fn sandbox(seed: u64) -> Sandbox {
    let mut config = SandboxConfig::local(Arc::new(SystemClock));
    config.seed = seed;
    config.secrets = BTreeMap::from([("warehouse".to_owned(), SecretString::from(WAREHOUSE))]);
    let sandbox = Sandbox::start(config).await.unwrap();
    for system in ["erp", "warehouse", "support"] {
        sandbox.set_faults(system, vec![Plan::always(Fault::CommitThenCut).at_rate(0.05)]).unwrap();
    }
    sandbox
}

fn knob(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_applied_twice_when_the_node_is_killed() {
    let seed = knob("KILL_SEED", SystemClock.now().0.unsigned_abs());
    let kills = knob("KILLS", KILLS);
    eprintln!("KILL_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let sandbox = sandbox(seed).await;
    let node = Runner::new(&sandbox);
    sandbox.set_target(&format!("http://{}", node.listen)).unwrap();
    node.start().await;

    let orders: Vec<_> = (1..=kills * ORDERS_EACH).map(|n| Opportunity::new(n, Variant::Normal)).collect();
    let secrets = BTreeMap::from([("crm".to_owned(), SecretString::from(CRM))]);
    let emitter = Emitter::new(&format!("http://{}", node.listen), &secrets, Arc::new(SystemClock)).unwrap();
    let acked = watch::Sender::new(0);
    let sending = async {
        use futures::StreamExt as _;
        let all = futures::stream::iter(&orders).map(|order| send(&emitter, order, &acked));
        all.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    };
    let killing = async {
        for kill in 1..=kills {
            let enough = rng.random_range((kill - 1) * ORDERS_EACH..kill * ORDERS_EACH);
            acked.subscribe().wait_for(|count| *count >= enough).await.unwrap();
            // Anywhere: in an append, in a call, while it starts.
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..150_000))).await;
            node.kill().await;
            node.start().await;
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(sending, killing) })
        .await
        .expect("all are acknowledged");
    sandbox.clear_faults();

    let ended = async {
        for order in &orders {
            while node.state(&order.order_number()).await.as_deref() != Some("completed") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("every order ends");
    let ledger = sandbox.ledger();
    assert!(ledger.violations.is_empty(), "KILL_SEED={seed}: {:#?}", ledger.violations);
    for order in &orders {
        let number = order.order_number();
        for (system, operation) in [
            ("erp", "create_sales_order"),
            ("erp", "create_invoice"),
            ("warehouse", "ship"),
            ("support", "create_ticket"),
        ] {
            let times =
                ledger.of(system, operation).filter(|entry| entry.reference.starts_with(&number)).count();
            assert_eq!(times, 1, "KILL_SEED={seed}: {number} {system}.{operation}");
        }
        let ids = node.journaled(&number).await;
        let own = order.message_id("confirmed");
        assert_eq!(ids.iter().filter(|id| **id == own).count(), 1, "KILL_SEED={seed}: {number} {ids:?}");
        assert_eq!(
            ids.iter().collect::<BTreeSet<_>>().len(),
            ids.len(),
            "KILL_SEED={seed}: {number} {ids:?}"
        );
    }
    assert_eq!(node.terminate().await, Some(0), "it drains and ends well");
}

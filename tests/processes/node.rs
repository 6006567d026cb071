//! A node in a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use syncline::sandbox::Sandbox;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

pub(crate) const CRM: &str = "whsec_ZGVtby1vZi1zeW5jbGluZS1jcm0tc2VuZGVyLXNlY3JldA==";
pub(crate) const WAREHOUSE: &str = "whsec_ZGVtby1vZi1zeW5jbGluZS13YXJlaG91c2Utc2VjcmV0";

/// 32 bytes in base64.
const GOSSIP: &str = "c3luY2xpbmUgdGVzdHMgc3BlYWsgYW1vbmcgdGhlbSE=";

/// For anything that must happen at all.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A node in a process of its own, over all its lives.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) listen: SocketAddr,
    directory: tempfile::TempDir,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    /// The network that it runs in, if not in that of the test.
    space: Option<String>,
    child: Mutex<Option<Child>>,
    http: reqwest::Client,
}

impl Node {
    /// A node called `name` with these settings, which calls the sandbox. It does not run yet.
    pub(crate) fn new(name: &str, sandbox: &Sandbox, settings: &[String]) -> Self {
        // A port that is free now, for all lives of the node.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let own = [
            format!("node.name={name}"),
            format!("http.listen={listen}"),
            format!("node.data_dir={}", directory.path().display()),
            "log.level=info".to_owned(),
        ];
        let url = |system: &str| (format!("SYNCLINE_{}_URL", system.to_uppercase()), sandbox.url(system));
        let mut environment: Vec<_> =
            ["crm", "erp", "tax", "warehouse", "support", "notify"].map(url).into_iter().collect();
        environment.push(("SYNCLINE_CRM_SECRET".into(), CRM.into()));
        environment.push(("SYNCLINE_WAREHOUSE_SECRET".into(), WAREHOUSE.into()));
        environment.push(("GOSSIP_KEYS".into(), GOSSIP.into()));
        // A second installation fails, and the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            name: name.to_owned(),
            listen,
            directory,
            settings: own.into_iter().chain(settings.iter().cloned()).collect(),
            environment,
            space: None,
            child: Mutex::default(),
            // A node that is stopped takes the question and never answers.
            http: reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap(),
        }
    }

    /// The same, in a network of its own.
    pub(crate) fn within(self, space: String) -> Self {
        Self { space: Some(space), ..self }
    }

    /// Starts the process. What it logs is in `node.log` of its directory.
    pub(crate) async fn start(&self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let program = env!("CARGO_BIN_EXE_syncline");
        let mut command = match &self.space {
            None => Command::new(program),
            Some(space) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", space, program]);
                command
            }
        };
        let child = command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg("run")
            .args(self.settings.iter().flat_map(|setting| ["--set", setting]))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        *self.child.lock().await = Some(child);
    }

    fn log_path(&self) -> std::path::PathBuf {
        self.directory.path().join("node.log")
    }

    /// What it has logged, in all its lives.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// SIGKILL: the process cannot do anything about it.
    pub(crate) async fn kill(&self) {
        self.child.lock().await.take().unwrap().kill().await.unwrap();
    }

    /// SIGTERM, as an orchestrator does; the exit code.
    pub(crate) async fn terminate(&self) -> Option<i32> {
        self.signal("-TERM").await;
        let mut child = self.child.lock().await.take().unwrap();
        tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap().code()
    }

    /// Sends a signal, e.g. `-STOP`.
    pub(crate) async fn signal(&self, signal: &str) {
        let id = self.child.lock().await.as_ref().unwrap().id().unwrap().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill {signal} {id}")]).status().await;
        assert!(sent.unwrap().success());
    }

    /// What the API answers to a request with a body; its status where it is none of success.
    pub(crate) async fn tell(&self, path: &str, body: &Value) -> Result<Value, u16> {
        let asked = self.http.post(format!("http://{}{path}", self.listen)).json(body);
        // Of commands: one for each entity.
        let asked = asked.header("idempotency-key", body["entity"].as_str().unwrap_or("none")).send().await;
        let response = asked.map_err(|_no_answer| 0_u16)?;
        let status = response.status();
        if status.is_success() { Ok(response.json().await.unwrap()) } else { Err(status.as_u16()) }
    }

    /// What the API answers; none while nothing answers.
    pub(crate) async fn ask(&self, path: &str) -> Option<Value> {
        let response = self.http.get(format!("http://{}{path}", self.listen)).send().await.ok()?;
        response.error_for_status().ok()?.json().await.ok()
    }
}

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

/// For a node that asks for one: `auth.tokens=[{name="test", role="admin", token="env:SYNCLINE_TOKEN"}]`.
pub(crate) const TOKEN: &str = "only-the-test-knows-this-token";

/// 32 bytes in base64.
const GOSSIP: &str = "c3luY2xpbmUgdGVzdHMgc3BlYWsgYW1vbmcgdGhlbSE=";

/// For anything that must happen at all.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Where a node runs, and how it is asked.
#[derive(Debug)]
pub(crate) struct Place {
    /// What its command begins with.
    pub(crate) before: Vec<String>,
    /// Where its API is.
    pub(crate) listen: SocketAddr,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    pub(crate) http: reqwest::Client,
}

impl Place {
    /// On a port of this machine that is free now, for all lives of the node.
    pub(crate) fn here() -> Self {
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { before: Vec::new(), listen, scheme: "http", http: client().build().unwrap() }
    }
}

/// A client for nodes. One that is stopped takes the question and never answers.
pub(crate) fn client() -> reqwest::ClientBuilder {
    // A second installation fails, and the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(Duration::from_secs(2))
}

/// A node in a process of its own, over all its lives.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) listen: SocketAddr,
    before: Vec<String>,
    scheme: &'static str,
    directory: tempfile::TempDir,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    child: Mutex<Option<Child>>,
    /// The program that it is.
    program: std::sync::Mutex<String>,
    http: reqwest::Client,
}

impl Node {
    /// A node called `name` at `place` with these settings, which calls the sandbox. It does not run yet.
    pub(crate) fn new(name: &str, place: Place, sandbox: &Sandbox, settings: &[String]) -> Self {
        let Place { before, listen, scheme, http } = place;
        let directory = tempfile::tempdir().unwrap();
        let own = [
            format!("node.name={name}"),
            format!("http.listen={listen}"),
            format!("node.data_dir={}", directory.path().display()),
            "log.level=info".to_owned(),
        ];
        let url = |system: &str| (format!("SYNCLINE_{}_URL", system.to_uppercase()), sandbox.url(system));
        let mut environment: Vec<_> = Sandbox::systems().map(url).collect();
        environment.push(("SYNCLINE_CRM_SECRET".into(), CRM.into()));
        environment.push(("SYNCLINE_WAREHOUSE_SECRET".into(), WAREHOUSE.into()));
        environment.push(("GOSSIP_KEYS".into(), GOSSIP.into()));
        environment.push(("SYNCLINE_TOKEN".into(), TOKEN.into()));
        Self {
            name: name.to_owned(),
            listen,
            before,
            scheme,
            directory,
            settings: own.into_iter().chain(settings.iter().cloned()).collect(),
            environment,
            child: Mutex::default(),
            program: env!("CARGO_BIN_EXE_syncline").to_owned().into(),
            http,
        }
    }

    /// Starts the process. What it logs is in `node.log` of its directory.
    pub(crate) async fn start(&self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let own = self.program.lock().unwrap().clone();
        let words: Vec<_> = self.before.iter().chain([&own]).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
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

    /// From its next start on it is that program.
    pub(crate) fn becomes(&self, program: &str) {
        program.clone_into(&mut self.program.lock().unwrap());
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

    fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.listen)
    }

    /// The status of what the API answers; none while nothing answers.
    pub(crate) async fn status(&self, path: &str) -> Option<u16> {
        Some(self.http.get(self.url(path)).send().await.ok()?.status().as_u16())
    }

    /// What the API answers to a request with a body; its status where it is none of success.
    pub(crate) async fn tell(&self, path: &str, body: &Value) -> Result<Value, u16> {
        self.tell_as("once", path, body).await
    }

    /// The same, as a request of this name: of commands, one of each name for each entity.
    pub(crate) async fn tell_as(&self, name: &str, path: &str, body: &Value) -> Result<Value, u16> {
        let asked = self.http.post(self.url(path)).json(body);
        let entity = body["entity"].as_str().unwrap_or("none");
        let asked = asked.header("idempotency-key", format!("{entity}.{name}")).send().await;
        let response = asked.map_err(|_no_answer| 0_u16)?;
        let status = response.status();
        if status.is_success() { Ok(response.json().await.unwrap()) } else { Err(status.as_u16()) }
    }

    /// What the API answers, as text; none while nothing answers.
    pub(crate) async fn text(&self, path: &str) -> Option<String> {
        let response = self.http.get(self.url(path)).send().await.ok()?;
        response.error_for_status().ok()?.text().await.ok()
    }

    /// What the API answers; none while nothing answers.
    pub(crate) async fn ask(&self, path: &str) -> Option<Value> {
        let response = self.http.get(self.url(path)).send().await.ok()?;
        response.error_for_status().ok()?.json().await.ok()
    }
}

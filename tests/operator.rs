//! A person at the command line, with a node and the simulated systems: an order is sent, looked at, held and released.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use syncline::clock::{Clock as _, SystemClock};
use syncline::sandbox::opportunity::{Opportunity, Variant};
use syncline::sandbox::{Sandbox, SandboxConfig};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program, in the project's directory, with nothing of ours in its environment.
fn syncline(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncline"));
    command.current_dir(root()).args(words).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SYNCLINE_")) {
        command.env_remove(name);
    }
    command
}

/// What it printed, and how it ended.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn say(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

const PATIENCE: Duration = Duration::from_mins(1);

struct Runner {
    child: Child,
    node: String,
    _directory: tempfile::TempDir,
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Runner {
    /// Starts a node over a sandbox, and waits until it says where it listens or ends.
    fn start(sandbox: &Sandbox, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = format!("node.data_dir={}", directory.path().display());
        let mut command = syncline(&[
            "run",
            "--set",
            "http.listen=127.0.0.1:0",
            "--set",
            "log.format=json",
            "--set",
            &data,
        ]);
        command.args(more).env("SYNCLINE_CRM_SECRET", SECRET).env("SYNCLINE_WAREHOUSE_SECRET", SECRET);
        for system in Sandbox::systems() {
            command.env(format!("SYNCLINE_{}_URL", system.to_uppercase()), sandbox.url(system));
        }
        let mut child =
            command.env("OPS", "t0ken").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).ok()?;
            Some(line["address"].as_str()?.to_owned())
        });
        // It goes on logging; somebody must read it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, node: format!("http://{}", address.unwrap()), _directory: directory }
    }

    fn ask(&self, words: &[&str]) -> Said {
        say(syncline(words)
            .env("SYNCLINE_NODE", &self.node)
            .env("SYNCLINE_CRM_SECRET", SECRET)
            .env("OPS", "t0ken"))
    }

    fn json(&self, words: &[&str]) -> Value {
        let said = self.ask(&[words, &["-o", "json"]].concat());
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
        said.json()
    }

    /// Asks until the order stands in a state.
    fn until(&self, order: &str, state: &str) -> Value {
        let began = tokio::time::Instant::now();
        loop {
            let said = self.ask(&["entity", "get", order, "-o", "json"]);
            if said.code == 0 && said.json()["status"] == state {
                return said.json();
            }
            assert!(began.elapsed() < PATIENCE, "{order} does not come to {state}: {}{}", said.out, said.err);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            std::process::Command::new("sh")
                .args(["-c", &format!("kill {name} {id}")])
                .status()
                .unwrap()
                .success()
        );
    }
}

async fn sandbox() -> Sandbox {
    let mut config = SandboxConfig::local(Arc::new(SystemClock));
    config.secrets = BTreeMap::from([("warehouse".to_owned(), SECRET.into())]);
    Sandbox::start(config).await.unwrap()
}

fn body(number: u64, variant: Variant) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let body = Opportunity::new(number, variant).confirmed(SystemClock.now());
    std::fs::write(file.path(), body.to_string()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_sent_looked_at_held_and_released() {
    let sandbox = sandbox().await;
    let node = Runner::start(&sandbox, &[]);
    sandbox.set_target(&node.node).unwrap();
    let file = body(1, Variant::Normal);
    let send = [
        "webhook",
        "send",
        "--source",
        "crm",
        "--body",
        file.path().to_str().unwrap(),
        "--id",
        "m1",
        "--count",
        "2",
    ];
    let sent = node.ask(&send);
    assert_eq!((sent.code, sent.out.matches("200 OK").count()), (0, 2), "{}{}", sent.out, sent.err);
    let order = node.until("order/SO-000001", "completed");
    assert_eq!(order["ending"], "completed");
    let timeline = node.json(&["entity", "timeline", "order/SO-000001"]);
    let confirmed = |entry: &&Value| entry["name"] == "order.confirmed";
    assert_eq!(
        timeline["items"].as_array().unwrap().iter().filter(confirmed).count(),
        1,
        "the second is a duplicate"
    );
    let shown = node.ask(&["entity", "timeline", "order/SO-000001"]).out;
    assert!(
        shown.contains("create_sales_order: erp.create_sales_order") && shown.contains("ended: completed"),
        "{shown}"
    );
    assert_eq!(node.json(&["entity", "list", "order"])["items"][0]["id"], "order/SO-000001");
    // By its key, and by the opportunity that the process knows it by; by its flow with the customer that it waited for.
    let both = "customer/ACC-0001\norder/SO-000001";
    for (words, told) in [
        (&["SO-000001"][..], "order/SO-000001"),
        (&["006SO000000001"], "order/SO-000001"),
        (&["order/SO-000001"], both),
        (&["--correlation", "order/SO-000001"], both),
    ] {
        let found = node.ask(&[&["search"], words].concat());
        assert_eq!((found.code, found.out.trim()), (0, told), "{words:?}: {}", found.err);
    }
    let unknown = node.ask(&["entity", "get", "order/none"]);
    assert!(unknown.code == 1 && unknown.err.contains("there is no order/none"), "{}", unknown.err);

    let example = root().join("config/examples/opportunity.confirmed.json");
    let send = ["webhook", "send", "--source", "crm", "--body", example.to_str().unwrap()];
    assert_eq!(node.ask(&send).code, 0);
    node.until("order/SO-EXAMPLE-1", "completed"); // as the README says

    let file = body(2, Variant::MissingTaxClass);
    assert_eq!(
        node.ask(&["webhook", "send", "--source", "crm", "--body", file.path().to_str().unwrap()]).code,
        0
    );
    let held = node.until("order/SO-000002", "tax_class_missing");
    let open = node.json(&["exceptions", "list", "--class", "hold"]);
    let id = open["items"][0]["id"].as_str().unwrap().to_owned();
    assert!(node.ask(&["exceptions", "list"]).out.contains(&id));
    let again = node.ask(&["exceptions", "retry", &id, "--reason", "look again"]);
    assert!(again.code == 0, "{}", again.err);
    let id = node.json(&["exceptions", "list"])["items"][0]["id"].as_str().unwrap().to_owned();
    let mut lines = held["fields"]["lines"].clone();
    lines.as_array_mut().unwrap().iter_mut().for_each(|line| line["tax_class"] = "P0000000".into());
    let set = format!("lines={lines}");
    let wrong = node.ask(&["exceptions", "retry", &id, "--reason", "typo", "--set", "linse=[]"]);
    assert!(wrong.code == 1 && wrong.err.contains("no field `linse`"), "{}{}", wrong.out, wrong.err);
    assert_eq!(node.ask(&["exceptions", "retry", &id, "--reason", "classified", "--set", &set]).code, 0);
    node.until("order/SO-000002", "completed");
    assert!(node.ask(&["exceptions", "list"]).out.contains("nothing waits for a person"));
    let gone = node.ask(&["exceptions", "resolve", &id, "--reason", "late"]);
    assert!(gone.code == 1 && gone.err.contains("no open exception"), "{}", gone.err);

    let paused = node.json(&["connectors", "pause", "erp", "--reason", "maintenance"]);
    assert_eq!(paused["paused"], true);
    assert!(node.ask(&["connectors", "list"]).out.contains("paused"));
    assert_eq!(node.json(&["connectors", "resume", "erp", "--reason", "done"])["paused"], false);
    assert_eq!(node.ask(&["connectors", "pause", "epr", "--reason", "x"]).code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_needed_where_tokens_are_set() {
    let sandbox = sandbox().await;
    let tokens = r#"auth.tokens=[{name="ops", role="operator", token="env:OPS"}, {name="eyes", role="viewer", token="env:OPS_VIEW"}]"#;
    let settings = ["--set", tokens];
    // Both tokens must be there when the node starts.
    let missing = {
        let mut command = syncline(&["run", "--set", "http.listen=127.0.0.1:0"]);
        say(command
            .args(settings)
            .env("SYNCLINE_CRM_SECRET", SECRET)
            .env("SYNCLINE_WAREHOUSE_SECRET", SECRET))
    };
    assert!(missing.code == 2 && missing.err.contains("env:OPS"), "{}: {}", missing.code, missing.err);
    let only = r#"auth.tokens=[{name="ops", role="operator", token="env:OPS"}]"#;
    let node = Runner::start(&sandbox, &["--set", only]);
    let without = node.ask(&["exceptions", "list"]);
    assert!(
        without.code == 3 && without.err.contains("--token env:NAME"),
        "{}: {}",
        without.code,
        without.err
    );
    assert_eq!(node.ask(&["exceptions", "list", "--token", "env:OPS"]).code, 0);
    assert_eq!(node.ask(&["exceptions", "list", "--token", "env:HOME"]).code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_when_it_is_asked_to() {
    let sandbox = sandbox().await;
    for signal in ["-TERM", "-INT"] {
        let mut node = Runner::start(&sandbox, &[]);
        node.signal(signal);
        assert_eq!(node.child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn the_demo_balances_and_says_so() {
    let said = say(&mut syncline(&["demo", "--once", "--orders", "20", "-o", "json"]));
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let books = said.json();
    let orders = books["standing"]["order"].as_object().unwrap().values().filter_map(Value::as_u64);
    assert!(books["balance"] == true && orders.sum::<u64>() == 20, "{books}");
    assert_eq!(books["standing"].as_object().unwrap().len(), 8, "every kind: {books}");
    assert!(books["checks"].as_array().unwrap().iter().all(|check| check["holds"] == true));
}

//! `run`: how it starts, how it does not, and how it ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use super::program::{Copy, Line, syncline};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A node in a directory of its own, at any free port unless told otherwise.
fn node(copy: &Copy, set: &[&str]) -> Line {
    let config = format!("node.config_dir={}", copy.path());
    let data = format!("node.data_dir={}", copy.file("data").display());
    let mut words = vec!["run", "--set", "http.listen=127.0.0.1:0", "--set", &config, "--set", &data];
    words.extend(set.iter().flat_map(|set| ["--set", set]));
    syncline(words).env("SYNCLINE_CRM_SECRET", SECRET).env("SYNCLINE_WAREHOUSE_SECRET", SECRET)
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(
            std::process::Command::new("sh")
                .args(["-c", &format!("kill {name} {id}")])
                .status()
                .unwrap()
                .success()
        );
    }
}

/// Starts it and waits until it says that it is ready; the log goes on in the reader.
fn started(line: Line) -> (Running, BufReader<std::process::ChildStderr>, String) {
    let mut child = line.command().stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it was ready");
    }
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    (Running(child), log, address)
}

#[test]
fn a_node_serves_until_it_is_told_to_stop_and_then_drains() {
    for name in ["-TERM", "-INT"] {
        let copy = Copy::new();
        let (mut child, log, address) = started(node(&copy, &[]));
        let node = format!("http://{address}");
        let listed = syncline(["connectors", "list", "-o", "json", "--node", &node]).run().ended(0).json();
        let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert!(names.contains(&&serde_json::json!("warehouse")), "{listed}");
        child.signal(name);
        let said: Vec<String> = log.lines().map(|line| line.unwrap()).collect();
        assert_eq!(child.code(), Some(0), "{said:?}");
        assert!(said.iter().any(|line| line.contains("stopped in_time=true")), "{said:?}");
    }
}

/// A request that does not end keeps the node from draining.
#[test]
fn a_second_signal_ends_a_node_that_is_still_draining() {
    let copy = Copy::new();
    let (mut child, log, address) =
        started(node(&copy, &["http.request_timeout=10m", "shutdown.drain_for=10m"]));
    let mut slow = TcpStream::connect(&address).unwrap();
    slow.write_all(b"POST /hooks/crm HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").unwrap();
    // Connections are taken in turn: when a later one is answered, this one is there.
    syncline(["connectors", "list", "--node", &format!("http://{address}")]).run().ended(0);
    child.signal("-TERM");
    let mut said = Vec::new();
    for line in log.lines().map(|line| line.unwrap()) {
        if line.contains("stopping") {
            child.signal("-INT");
        }
        said.push(line);
    }
    assert_eq!(child.code(), Some(1), "{said:?}");
    assert_eq!(said.last().unwrap(), "error: stopped at once; nothing acknowledged is lost");
    assert!(!said.iter().any(|line| line.contains("in_time")), "{said:?}");
}

#[test]
fn a_port_that_is_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("http.listen={}", taken.local_addr().unwrap());
    let ran = node(&Copy::new(), &[&listen]).run().ended(4);
    assert!(
        ran.err.contains("is in use") && ran.err.contains("set http.listen to another port"),
        "{}",
        ran.err
    );
}

#[test]
fn every_mistake_in_the_settings_is_told_and_nothing_starts() {
    let copy = Copy::new();
    let ran = node(&copy, &["http.listn=1", "log.level=loud"]).run().ended(2);
    assert!(ran.err.contains("there are 2 mistakes in the settings"), "{}", ran.err);
    assert!(ran.err.contains("did you mean `http.listen`?") && ran.err.contains("log.level"), "{}", ran.err);
    assert!(!copy.file("data").exists());
    let ran = syncline(["run", "--config", "nowhere.toml"]).run().ended(2);
    assert!(ran.err.contains("nowhere.toml cannot be read"), "{}", ran.err);
}

#[test]
fn secrets_that_are_not_there_are_told_all_at_once() {
    let with_default = "{ref: \"env:SYNCLINE_ERP_CLIENT_SECRET\", default: sandbox-secret}";
    let without = "{ref: \"env:SYNCLINE_ERP_CLIENT_SECRET\"}";
    let ran = node(&Copy::new().with("connectors/erp.yaml", with_default, without), &[])
        .env("SYNCLINE_CRM_SECRET", "")
        .env("SYNCLINE_WAREHOUSE_SECRET", "")
        .run()
        .ended(2);
    for said in [
        "env:SYNCLINE_CRM_SECRET",
        "env:SYNCLINE_WAREHOUSE_SECRET",
        "sources/crm.yaml:11:",
        "env:SYNCLINE_ERP_CLIENT_SECRET",
    ] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
}

#[test]
fn a_broken_integration_is_told_before_the_store_is_touched() {
    let copy = Copy::new().with("processes/order.yaml", "call: [check_account]", "call: [chek_account]");
    let ran = node(&copy, &[]).run().ended(2);
    assert!(ran.err.contains("did you mean `check_account`?"), "{}", ran.err);
    assert!(!copy.file("data").exists());
}

#[test]
fn the_defaults_are_printed_as_they_are_documented() {
    let printed = syncline(["run", "--print-defaults"]).run().ended(0).out;
    assert_eq!(printed.trim_end(), syncline::config::DEFAULT.trim_end());
}

//! `run`: how it starts, how it does not, and how it ends.

use std::io::{BufRead as _, BufReader};
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

/// Starts it and waits until it says that it is ready; the log goes on in the reader.
fn started(line: Line) -> (Child, BufReader<std::process::ChildStderr>, String) {
    let mut child = line.command().stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it was ready");
    }
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    (child, log, address)
}

fn signal(child: &Child, name: &str) {
    let sent = std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_node_serves_until_it_is_told_to_stop_and_then_drains() {
    for name in ["-TERM", "-INT"] {
        let copy = Copy::new();
        let (mut child, log, address) = started(node(&copy, &[]));
        let node = format!("http://{address}");
        let listed = syncline(["connectors", "list", "-o", "json", "--node", &node]).run().ended(0).json();
        assert_eq!(listed["items"].as_array().unwrap().len(), 6, "{listed}");
        signal(&child, name);
        let said: Vec<String> = log.lines().map(|line| line.unwrap()).collect();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{said:?}");
        assert!(said.iter().any(|line| line.contains("stopped in_time=true")), "{said:?}");
    }
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
    let ran = node(&Copy::new(), &[])
        .env("SYNCLINE_CRM_SECRET", "")
        .env("SYNCLINE_WAREHOUSE_SECRET", "")
        .run()
        .ended(4);
    for said in ["env:SYNCLINE_CRM_SECRET", "env:SYNCLINE_WAREHOUSE_SECRET", "sources/crm.yaml:10:"] {
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

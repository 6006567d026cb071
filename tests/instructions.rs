//! What a message costs, counted in instructions: unlike time they are the same on a busy machine, so that a change that makes the hot
//! path a tenth longer fails here and not one day in a load test.
//!
//! A signed webhook of about 700 bytes goes through the whole node (HTTP, verification, schema, mapping, the entity's actor, the embedded
//! journal), one at a time, under callgrind. The build is the one that tests are: its numbers say nothing about speed and all
//! about growth.
//!
//! ```text
//! INSTRUCTIONS=write cargo nextest run --test instructions     a new baseline, to be explained in the commit
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use http::HeaderMap;
use syncline::clock::{Clock as _, SystemClock};
use syncline::config::Settings;
use syncline::delivery::wire::HttpWire;
use syncline::ingress::preset::Presets;
use syncline::ingress::sign::Signer;
use syncline::ingress::verify;
use syncline::integration;
use syncline::journal::redb::{Options, Redb};
use syncline::node::{Ground, Lookup, Node};

/// Says to the process under callgrind how many messages it sends.
const MESSAGES: &str = "SYNCLINE_COUNTED_MESSAGES";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// More than the baseline by this share of it, and it is too much.
const GROWTH_MAX: f64 = 0.10;
const FEW: u64 = 40;
const MANY: u64 = 240;

fn baseline_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/instructions.baseline")
}

/// Instructions that a process takes that starts a node and sends it `messages`.
fn counted(messages: u64) -> u64 {
    let program = std::env::current_exe().expect("a running program has a file");
    let directory = tempfile::tempdir().expect("a directory");
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            &format!("--callgrind-out-file={}", directory.path().join("out").display()),
        ])
        .arg(program)
        .args(["--exact", "a_node_takes_messages_and_ends", "--ignored", "--nocapture"])
        .env(MESSAGES, messages.to_string())
        .output()
        .expect("valgrind starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    collected
        .and_then(|(_, count)| count.trim().parse().ok())
        .unwrap_or_else(|| panic!("no count in:\n{said}"))
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output().expect("rustc is there, it built this");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_message_takes_no_more_instructions_than_it_did() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("SKIPPED: valgrind is not installed, so nobody counts what a message costs");
        return;
    }
    let each = (counted(MANY) - counted(FEW)) / (MANY - FEW);
    if std::env::var("INSTRUCTIONS").is_ok_and(|wish| wish == "write") {
        std::fs::write(baseline_file(), format!("{each} {}\n", rustc())).expect("it can be written");
    }
    let kept = std::fs::read_to_string(baseline_file()).expect("there is a baseline");
    let (baseline, compiler) = kept.trim().split_once(' ').expect("a number and a compiler");
    if compiler != rustc() {
        eprintln!(
            "SKIPPED: the baseline is of {compiler}, this is {}: INSTRUCTIONS=write makes a new one",
            rustc()
        );
        return;
    }
    let baseline: u64 = baseline.parse().expect("a number");
    #[expect(clippy::cast_precision_loss, reason = "instructions of a message are far below 2^52")]
    let growth = each as f64 / baseline as f64 - 1.0;
    eprintln!("{each} instructions a message, {:+.1} % of the baseline {baseline}", growth * 100.0);
    assert!(
        growth <= GROWTH_MAX,
        "a message takes {each} instructions, {:.1} % more than the {baseline} of {}: find out why, or say why in a new baseline",
        growth * 100.0,
        baseline_file().display()
    );
}

/// What runs under callgrind.
#[test]
#[ignore = "it is started by the test above"]
fn a_node_takes_messages_and_ends() {
    let messages: u64 =
        std::env::var(MESSAGES).expect("the test above says how many").parse().expect("a number");
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = start(directory.path()).await;
        let address = node.address();
        tokio::task::spawn_blocking(move || send(address, messages)).await.expect("all are taken");
        assert!(node.stop().await);
    });
}

async fn start(directory: &Path) -> Node {
    let read =
        integration::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/load")).expect("it is there");
    // Under callgrind a second is long: no lease may come into doubt for that, and no entity rest.
    let lease =
        ["journal.lease.ttl=10m", "journal.lease.give_up=9m", "passivation.rest=5m"].map(str::to_owned);
    let place = ["http.listen=127.0.0.1:0".to_owned(), format!("node.data_dir={}", directory.display())];
    let set = [&place[..], &lease].concat();
    let settings = Settings::load(None, [], &set).expect("the settings are right");
    let ground = Ground {
        integration: read.integration.expect("it has no mistake"),
        journal: Arc::new(Redb::open(settings.journal_path(), Options::default()).expect("a new store")),
        clock: Arc::new(SystemClock),
        wire: Arc::new(HttpWire::new().expect("outgoing HTTP can be set up")),
        seed: 1,
        lookup: Lookup(Arc::new(|name| (name == "env:SYNCLINE_LOAD_SECRET").then(|| SECRET.to_owned()))),
        directory: None,
    };
    Node::start(&settings, ground).await.expect("the node starts")
}

/// Sends messages one after the other on one connection, to twenty entities in turn.
fn send(address: std::net::SocketAddr, messages: u64) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).expect("the node listens");
    stream.set_nodelay(true).expect("it can be set");
    let mut answer = [0; 4096];
    let presets = Presets::builtin();
    let description = &presets.get("standard-webhooks").expect("it is part of the program").verify;
    let signer = Signer::compile(description, vec![verify::Secret::new("current", SECRET)]).expect("it fits");
    for number in 0..messages {
        stream.write_all(&request(&signer, number)).expect("the node reads");
        let length = stream.read(&mut answer).expect("the node answers");
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("HTTP/1.1 200"), "message {number}: {answer}");
    }
}

/// A message, signed as the preset of the source wants it.
fn request(signer: &Signer, number: u64) -> Vec<u8> {
    let body = format!(
        r#"{{"type":"opportunity.confirmed","timestamp":"2026-01-01T00:00:00Z","schema_version":1,"data":{{"Id":"006{number:012}",
"OrderNumber__c":"LOAD-{:07}","AccountId":"001000000000042","CurrencyIsoCode":"EUR","Amount":"129.90","ContactEmail__c":"a@b.example",
"RequestedDate__c":"2026-01-31","BillingAddress":{{"street":"Main Street 1","city":"Town","postalCode":"12345","countryCode":"DE"}},
"ShippingAddress":{{"street":"Main Street 1","city":"Town","postalCode":"12345","countryCode":"DE"}},
"OpportunityLineItems":[{{"ProductCode":"SKU-1","Quantity":1,"UnitPrice":"129.90","TaxClass__c":"P0000000"}}]}}}}"#,
        number % 20
    );
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", format!("count-{number}").parse().expect("it is a header"));
    let unsigned = verify::Request {
        method: "POST",
        url: "/hooks/load",
        host: "",
        headers: &headers,
        body: body.as_bytes(),
    };
    let signed = signer.sign(&unsigned, SystemClock.now().0).expect("it can be signed");
    headers.extend(signed.headers);
    let mut request = format!(
        "POST /hooks/load HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in &headers {
        request.extend([name.as_str(), ": ", value.to_str().expect("it is text"), "\r\n"]);
    }
    format!("{request}\r\n{body}").into_bytes()
}

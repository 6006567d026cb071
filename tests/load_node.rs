//! The load generator against a whole node with the integration of `benches/load`: what `scripts/load` measures is messages
//! that are understood, applied once each and durable, not messages that are put aside.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use syncline::api::ExceptionQuery;
use syncline::clock::SystemClock;
use syncline::config::Settings;
use syncline::delivery::wire::HttpWire;
use syncline::integration::{self, Integration};
use syncline::journal::redb::{Options, Redb};
use syncline::load::{self, Pace, Plan};
use syncline::node::{Ground, Lookup, Node};
use syncline_actors::id::EntityId;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The shipped integration, which must read without so much as a warning.
fn shipped() -> Integration {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/load");
    let read = integration::load(&directory).expect("the directory is there");
    assert_eq!(read.problems.to_string(), "", "benches/load must read without a problem");
    read.integration.expect("there is no problem")
}

async fn start(directory: &Path) -> Node {
    let set = ["http.listen=127.0.0.1:0".to_owned(), format!("node.data_dir={}", directory.display())];
    let settings = Settings::load(None, [], &set).expect("the settings are right");
    let ground = Ground {
        integration: shipped(),
        journal: Arc::new(Redb::open(settings.journal_path(), Options::default()).expect("a new store")),
        clock: Arc::new(SystemClock),
        wire: Arc::new(HttpWire::new().expect("outgoing HTTP can be set up")),
        seed: 1,
        lookup: Lookup(Arc::new(|name| (name == "env:SYNCLINE_LOAD_SECRET").then(|| SECRET.to_owned()))),
        directory: None,
    };
    Node::start(&settings, ground).await.expect("the node starts")
}

#[test]
fn the_load_with_an_effect_reads_without_a_problem() {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    let mut files = integration::files(&benches.join("load")).expect("it is there");
    files.extend(integration::files(&benches.join("effect")).expect("it is there"));
    assert_eq!(
        integration::read(&files, "effect").problems.to_string(),
        "",
        "`EFFECT=1 scripts/load` lays one over the other"
    );
}

/// How often an entity was touched.
async fn touches(node: &Node, key: &str) -> usize {
    let id = EntityId::parse(&format!("touch/{key}")).expect("it is an id");
    let entity = node.operate().entity(&id).await.expect("it was acknowledged");
    let fields: serde_json::Value = serde_json::from_str(entity.fields.get()).expect("fields are JSON");
    fields["touches"].to_string().parse().expect("touches are counted")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_message_is_applied_once_and_none_is_put_aside() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = start(directory.path()).await;
    let file = directory.path().join("acked");
    let plan = Plan {
        pace: Pace::Open { rate: 300.0, steps: Vec::new(), spikes: Vec::new() },
        duration: Duration::from_secs(1),
        entities: 20,
        duplicates: 0.1,
        acked: Some(file.clone()),
        ..Plan::new(format!("http://{}/hooks/load", node.address()), SECRET.to_owned().into(), "test")
    };
    let report = load::run(plan).await.expect("the node is there");
    assert_eq!((report.intended, report.acked), (300, 300), "{}", report.to_table());

    let lines = std::fs::read_to_string(file).expect("it was written");
    let acked: BTreeSet<(&str, &str)> =
        lines.lines().map(|line| line.split_once('\t').expect("id and key")).collect();
    assert!(acked.len() < 300, "a tenth repeats an earlier message");
    let keys: BTreeSet<&str> = acked.iter().map(|(_, key)| *key).collect();
    let mut applied = 0;
    for key in keys {
        applied += touches(&node, key).await;
    }
    assert_eq!(applied, acked.len());
    let open = node.operate().exceptions(&ExceptionQuery::default()).await.expect("they can be listed");
    assert_eq!(open.items.len(), 0);
    assert!(node.stop().await);
}

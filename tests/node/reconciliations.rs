//! Reconciliation over a whole node: what is read back, classed, repaired, taken over or held; and a crash in the middle.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use serde_json::{Value, json};
use syncline::api::{ExceptionQuery, ReconcileAsk, Reconciliation, Who};
use syncline::delivery::wire::{Request, Response, Wire, WireError};
use syncline::integration::Files;
use syncline::node::Node;
use syncline_actors::id::EntityId;

use crate::started_over;

const PROCESS: &str = r#"
process: part
version: 1
title: Part
owner: {team: stock, escalate: stock-desk}
initial: new
fields: {price: number, bin: text}
messages:
  part.priced: {is: event, starts: true}
  part.moved: {is: event}
  part.gone: {is: event}
effects: {}
states:
  new:
    on:
      part.priced: {set: {price: "dec(data.price)", bin: data.bin}, to: live}
  live:
    on:
      part.priced: {set: {price: "dec(data.price)"}}
      part.moved: {set: {bin: data.bin}}
      part.gone: {to: gone}
  gone: {end: completed}
"#;

const CONNECTOR: &str = r#"
connector: depot
owner: {team: depot-team, escalate: depot-team-desk}
base_url: http://127.0.0.1:7700
auth: {scheme: none}
limits: {concurrency: 4}
retry: {base: 20ms, cap: 100ms, within: 1h, attempts_max: 1000}
operations:
  get:
    method: GET
    path: "/parts/{input.id}"
    outcomes:
      - {when: "status == 200", is: ok, result: {absent: false, price: body.price, bin: body.bin}}
      - {when: "status == 404", is: ok, result: {absent: true}}
  list:
    method: GET
    path: /parts
    query: {after: "default(input.cursor, '')"}
    outcomes:
      - {when: "status == 200", is: ok, result: {items: body.items, next: body.next}}
  put:
    method: PUT
    path: "/parts/{input.id}"
    body: {price: input.price, bin: input.bin}
    idempotency: natural
reconcile:
  part:
    policy: apply
    read: get
    with: {id: entity.key}
    absent: result.absent
    fields:
      price: {ours: part.price, theirs: result.price}
      bin: {ours: part.bin, theirs: result.bin, owner: them}
    repair: {call: put, with: {id: entity.key, price: part.price, bin: "default(result.bin, part.bin)"}}
    take: {event: part.moved, map: {bin: result.bin}}
    list: {call: list, items: result.items, key: item.id, cursor: result.next}
"#;

const SOURCE: &str = r"
source: parts
owner: {team: stock, escalate: stock-desk}
batch: {message: priced}
messages:
  priced:
    send:
      - event: part.priced
        to: {process: part, key: body.id}
        map: {price: body.price, bin: body.bin}
";

#[derive(Debug, Default)]
struct Depot {
    parts: Mutex<BTreeMap<String, Value>>,
    puts: AtomicUsize,
    reads: AtomicUsize,
    pause: Mutex<Duration>,
}

impl Depot {
    fn answer(&self, request: &Request) -> (u16, Value) {
        let mut parts = self.parts.lock().unwrap();
        let path = request.url.trim_start_matches("http://127.0.0.1:7700/parts");
        let path = &path.replace("%40", "@").replace("%3A", ":");
        let id = path.trim_start_matches('/').to_owned();
        if request.method == http::Method::PUT {
            self.puts.fetch_add(1, Ordering::SeqCst);
            parts.insert(id, serde_json::from_slice(&request.body).unwrap());
            return (204, Value::Null);
        }
        if path.starts_with('/') {
            self.reads.fetch_add(1, Ordering::SeqCst);
            return parts.get(&id).map_or_else(|| (404, json!({})), |part| (200, part.clone()));
        }
        let after = path.split("after=").nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let items: Vec<_> = parts.keys().skip(after).take(40).map(|id| json!({"id": id})).collect();
        let end = after + items.len();
        let next = if end < parts.len() { Value::from(end.to_string()) } else { Value::Null };
        (200, json!({"items": items, "next": next}))
    }
}

#[async_trait]
impl Wire for Depot {
    async fn send(&self, request: Request) -> Result<Response, WireError> {
        let pause = *self.pause.lock().unwrap();
        tokio::time::sleep(pause).await;
        let (status, body) = self.answer(&request);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Ok(Response { status, headers: HeaderMap::new(), body: body.into(), cut: false })
    }
}

async fn start(directory: &Path, depot: &Arc<Depot>) -> Node {
    started(directory, depot, &[]).await
}

async fn started(directory: &Path, depot: &Arc<Depot>, more: &[&str]) -> Node {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let files = Files::from([
        file("processes/part.yaml", PROCESS),
        file("connectors/depot.yaml", CONNECTOR),
        file("sources/parts.yaml", SOURCE),
    ]);
    started_over(directory, files, more, depot.clone()).await.unwrap()
}

/// Brings so many parts, and the depot agrees about all of them.
async fn stocked(node: &Node, depot: &Depot, count: usize) {
    stocked_below(node, depot, "", count).await;
}

/// The same, of parts whose keys begin so.
async fn stocked_below(node: &Node, depot: &Depot, beginning: &str, count: usize) {
    let id = |n: usize| format!("{beginning}P-{n:04}");
    let part = |n: usize| json!({"id": id(n), "price": format!("{n}.10"), "bin": "A"});
    let rows: Vec<String> = (0..count).map(|n| part(n).to_string()).collect();
    let url = format!("http://{}/v1/batches/parts?format=ndjson&file=f1{beginning}", node.address());
    let sent = reqwest::Client::new().post(url).body(rows.join("\n")).send().await.unwrap();
    assert_eq!(sent.status(), 200, "{}", sent.text().await.unwrap());
    let mut parts = depot.parts.lock().unwrap();
    for n in 0..count {
        parts.insert(id(n), json!({"price": format!("{n}.1"), "bin": "A"}));
    }
}

async fn begin(node: &Node, dry_run: bool) -> String {
    let ask = ReconcileAsk { dry_run, ..ReconcileAsk::default() };
    node.operate().reconcile(&Who("ada".into()), ask).await.unwrap().items.remove(0)
}

async fn over(node: &Node, run: &str) -> Reconciliation {
    for _ in 0..600 {
        let page = node.operate().reconciliations(10).await.unwrap();
        let found = page.items.into_iter().find(|found| found.id == run);
        if let Some(found) = found.filter(|found| found.ended || found.status == "drifted") {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{run} does not end: {:?}", node.operate().reconciliations(10).await);
}

#[tokio::test]
async fn what_differs_is_classed_and_repaired_taken_over_or_held() {
    let directory = tempfile::tempdir().unwrap();
    let depot = Arc::new(Depot::default());
    let node = start(directory.path(), &depot).await;
    stocked(&node, &depot, 120).await;
    {
        let mut parts = depot.parts.lock().unwrap();
        parts.get_mut("P-0003").unwrap()["price"] = json!("99");
        parts.get_mut("P-0004").unwrap()["bin"] = json!("B");
        parts.remove("P-0077");
        parts.insert("X-1".to_owned(), json!({"price": "1", "bin": "A"}));
    }
    let run = over(&node, &begin(&node, true).await).await;
    let counts =
        |run: &Reconciliation| [run.checked, run.equal, run.differs, run.missing, run.unknown, run.stale];
    assert_eq!(counts(&run), [120, 117, 2, 1, 1, 0], "{run:?}");
    assert_eq!(
        (run.repaired, run.taken, depot.puts.load(Ordering::SeqCst)),
        (0, 0, 0),
        "a dry run changes nothing"
    );
    assert_eq!(run.by_field, BTreeMap::from([("bin".to_owned(), 1), ("price".to_owned(), 1)]));
    assert!(node.operate().exceptions(&ExceptionQuery::default()).await.unwrap().items.is_empty());

    let run = over(&node, &begin(&node, false).await).await;
    assert_eq!(counts(&run), [120, 117, 2, 1, 1, 0], "{run:?}");
    assert_eq!((run.repaired, run.taken, run.unrepaired, &*run.status), (2, 1, 1, "drifted"), "{run:?}");
    let held = node.operate().exceptions(&ExceptionQuery::default()).await.unwrap().items;
    assert_eq!((held.len(), &*held[0].owner, &*held[0].entity), (1, "depot-team", &*run.id), "{held:?}");
    {
        let parts = depot.parts.lock().unwrap();
        assert_eq!((&parts["P-0003"]["price"], &parts["P-0077"]["price"]), (&json!(3.10), &json!(77.10)));
        assert_eq!(parts["P-0004"]["bin"], "B", "what the system owns is never overwritten");
    }
    let moved = crate::fields(&node, "part/P-0004").await.unwrap();
    assert!(moved.contains(r#""bin":"B""#), "{moved}");

    depot.parts.lock().unwrap().remove("X-1");
    let run = over(&node, &begin(&node, false).await).await;
    assert_eq!((counts(&run), &*run.status), ([120, 120, 0, 0, 0, 0], "done"), "{run:?}");
    assert!(node.stop().await);
}

#[tokio::test]
async fn a_run_goes_on_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let depot = Arc::new(Depot::default());
    let first = start(directory.path(), &depot).await;
    stocked(&first, &depot, 160).await;
    depot.parts.lock().unwrap().get_mut("P-0150").unwrap()["price"] = json!("99");
    *depot.pause.lock().unwrap() = Duration::from_millis(30);
    let run = begin(&first, false).await;
    for _ in 0..600 {
        if depot.reads.load(Ordering::SeqCst) >= 60 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    first.crash().await;
    *depot.pause.lock().unwrap() = Duration::ZERO;
    let again = start(directory.path(), &depot).await;
    let run = over(&again, &run).await;
    assert_eq!((run.checked, run.equal, run.differs, run.repaired), (160, 159, 1, 1), "each once: {run:?}");
    assert_eq!(depot.puts.load(Ordering::SeqCst), 1);
    assert!(again.stop().await);
}

/// The names of entities in what a run has kept of its own.
async fn kept(node: &Node, run: &str) -> String {
    let id = EntityId::parse(run).unwrap();
    let timeline = node.operate().timeline(&id, 1, 1_000).await.unwrap();
    serde_json::to_string(&timeline.items).unwrap() + &crate::fields(node, run).await.unwrap()
}

#[tokio::test]
async fn what_is_bound_to_a_region_is_reconciled_by_a_run_of_that_region() {
    let directory = tempfile::tempdir().unwrap();
    let depot = Arc::new(Depot::default());
    let node = started(directory.path(), &depot, &crate::EU).await;
    stocked(&node, &depot, 60).await;
    stocked_below(&node, &depot, "@eu:", 70).await;
    {
        let mut parts = depot.parts.lock().unwrap();
        parts.get_mut("@eu:P-0003").unwrap()["price"] = json!("99");
        for unknown in ["X-1", "@eu:X-2"] {
            parts.insert(unknown.to_owned(), json!({"price": "1", "bin": "A"}));
        }
    }
    let ask = ReconcileAsk { dry_run: true, ..ReconcileAsk::default() };
    let begun = node.operate().reconcile(&Who("ada".into()), ask).await.unwrap().items;
    let [unbound, bound] = &begun[..] else { panic!("{begun:?}") };
    assert!(bound.starts_with("reconcile/@eu:"), "{bound}");
    let counts = |run: &Reconciliation| [run.checked, run.equal, run.differs, run.unknown, run.skipped];
    let (first, second) = (over(&node, unbound).await, over(&node, bound).await);
    assert_eq!((counts(&first), counts(&second)), ([60, 60, 0, 1, 0], [70, 69, 1, 1, 0]));
    let (first, second) = (kept(&node, unbound).await, kept(&node, bound).await);
    assert!(first.contains("P-0059") && !first.contains("@eu:P-") && !first.contains("@eu:X-2"));
    assert!(second.contains("@eu:P-0069") && second.contains("@eu:X-2") && !second.contains("\"P-0059\""));
    let listed = node.operate().reconciliations(10).await.unwrap().items;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(node.stop().await);
}

//! A polled source over a whole node: pages, cursor, crashes, a system that is down, and one that answers nonsense.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use syncline::api::{ExceptionQuery, Intervention, Who};
use syncline::delivery::wire::{Request, Response, Wire, WireError};
use syncline::integration::Files;
use syncline::node::Node;
use syncline_actors::id::EntityId;

use crate::{PROCESS, SCHEMA, started_over};

const CONNECTOR: &str = r#"
connector: scans
owner: {team: post, escalate: post-desk}
base_url: http://127.0.0.1:7700
auth: {scheme: none}
retry: {base: 20ms, cap: 100ms, within: 1h, attempts_max: 1000}
breaker: {failures: 1000, open_for: 1s}
operations:
  list:
    method: GET
    path: /scans
    query: {after: input.cursor}
    idempotency: natural
    outcomes:
      - {when: "status == 200", is: ok, result: {items: body.items, next: body.next, more: body.more}}
      - {when: "status >= 500", is: busy}
"#;

fn source(every: &str, class: &str) -> String {
    format!(
        r#"
source: scans
owner: {{team: scan-team, escalate: scan-team-desk}}
class: {class}
poll:
  call: scans.list
  every: {every}
  start: "0"
  items: result.items
  cursor: result.next
  more: result.more
  message: seen
messages:
  seen:
    schemas: {{"1": seen.json}}
    send:
      - event: parcel.seen
        to: {{process: parcel, key: body.parcel}}
        map: {{at: body.at, weight: "dec(body.weight)"}}
"#
    )
}

/// A system with a list of scans, of which it gives so many at a time.
#[derive(Debug)]
struct Scans {
    listed: Mutex<Vec<serde_json::Value>>,
    page: usize,
    down: AtomicBool,
    nonsense: AtomicBool,
    calls: AtomicUsize,
}

impl Scans {
    fn new(count: usize, page: usize) -> Arc<Self> {
        let scans = (0..count)
            .map(|n| json!({"parcel": format!("P-{n}"), "at": format!("A-{n}"), "weight": "1.250"}));
        Arc::new(Self {
            listed: Mutex::new(scans.collect()),
            page,
            down: AtomicBool::new(false),
            nonsense: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
        })
    }

    fn answer(&self, url: &str) -> (StatusCode, String) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return (StatusCode::SERVICE_UNAVAILABLE, String::new());
        }
        if self.nonsense.load(Ordering::SeqCst) {
            return (StatusCode::OK, json!({"items": "many", "next": "7", "more": false}).to_string());
        }
        let after = url.split("after=").nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let scans = self.listed.lock().unwrap();
        let items: Vec<_> = scans.iter().skip(after).take(self.page).collect();
        let next = after + items.len();
        let body = json!({"items": items, "next": next.to_string(), "more": next < scans.len()});
        (StatusCode::OK, body.to_string())
    }
}

#[async_trait]
impl Wire for Scans {
    async fn send(&self, request: Request) -> Result<Response, WireError> {
        let (status, body) = self.answer(&request.url);
        Ok(Response { status: status.as_u16(), headers: HeaderMap::new(), body: body.into(), cut: false })
    }
}

fn files(every: &str, class: &str) -> Files {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    Files::from([
        file("processes/parcel.yaml", PROCESS),
        file("sources/scans.yaml", &source(every, class)),
        file("connectors/scans.yaml", CONNECTOR),
        file("schemas/seen.json", SCHEMA),
    ])
}

const USUAL: &str = "{latency: minutes, failure_tolerance: 1s}";

async fn node(directory: &std::path::Path, every: &str, scans: &Arc<Scans>) -> Node {
    started_over(directory, files(every, USUAL), &[], scans.clone()).await.unwrap()
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not come in half a minute");
}

async fn poll(node: &Node) -> Option<(String, serde_json::Value)> {
    let entity = node.operate().entity(&EntityId::parse("poll/scans").unwrap()).await.ok()?;
    Some((entity.status.clone(), serde_json::from_str(entity.fields.get()).unwrap()))
}

async fn idle_at(node: &Node, cursor: &str) -> serde_json::Value {
    until(&format!("the cursor {cursor}"), async || {
        let (status, fields) = poll(node).await?;
        (status == "idle" && fields["cursor"] == cursor).then_some(fields)
    })
    .await
}

async fn command(node: &Node, name: &str, data: serde_json::Value) {
    let command = json!({"entity": "poll/scans", "command": name, "data": data});
    let url = format!("http://{}/v1/commands", node.address());
    let request = reqwest::Client::new().post(url).header("idempotency-key", name);
    let sent = request.json(&command).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
}

async fn parcels(node: &Node) -> Vec<(String, u64)> {
    let page = node.operate().entities("parcel", None, 10_000).await.unwrap();
    page.items.into_iter().map(|head| (head.id, head.seq)).collect()
}

#[tokio::test]
async fn every_item_of_every_page_becomes_one_message_and_the_cursor_follows() {
    let directory = tempfile::tempdir().unwrap();
    let scans = Scans::new(25, 10);
    let node = node(directory.path(), "1s", &scans).await;
    let fields = idle_at(&node, "25").await;
    assert_eq!((&fields["accepted"], &fields["page"]), (&json!(25), &json!(3)), "{fields}");
    let first = parcels(&node).await;
    assert_eq!(first.len(), 25);
    // Read again from the beginning, nothing changes.
    command(&node, "poll.rewind", json!({"cursor": "0"})).await;
    until("the second reading", async || {
        let (status, fields) = poll(&node).await?;
        (status == "idle" && fields["duplicate"] == 25).then_some(())
    })
    .await;
    assert_eq!(parcels(&node).await, first, "a page read twice changes nothing");
    // What is new is found, exactly once, and a mistake in one item holds up no other.
    {
        let mut scans = scans.listed.lock().unwrap();
        scans.push(json!({"parcel": "P-25"}));
        scans.push(json!({"parcel": "P-26", "at": "A-26", "weight": "0.1"}));
    }
    let fields = idle_at(&node, "27").await;
    assert_eq!((&fields["accepted"], &fields["quarantined"]), (&json!(1), &json!(1)), "{fields}");
    let held = node.operate().exceptions(&ExceptionQuery::default()).await.unwrap();
    assert_eq!((held.items.len(), &*held.items[0].class), (1, "hold"), "{held:?}");
    assert!(node.stop().await);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_page_doubles_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let scans = Scans::new(1_200, 1_000);
    let first = node(directory.path(), "1h", &scans).await;
    until("the middle of the page", async || {
        let count = parcels(&first).await.len();
        (count >= 100).then_some(())
    })
    .await;
    let (_, fields) = poll(&first).await.unwrap();
    assert_eq!(fields["cursor"], "0", "it moves only after all of the page is journaled");
    first.crash().await;
    let again = node(directory.path(), "1h", &scans).await;
    let fields = idle_at(&again, "1200").await;
    assert!(fields["duplicate"].as_u64().unwrap() >= 100, "{fields}");
    let parcels = parcels(&again).await;
    assert_eq!(parcels.len(), 1_200);
    assert!(parcels.iter().all(|(_, seq)| *seq == 1), "each is there once: {parcels:?}");
    assert!(again.stop().await);
}

#[tokio::test]
async fn a_source_that_is_down_or_talks_nonsense_is_an_exception_with_an_owner() {
    let directory = tempfile::tempdir().unwrap();
    let scans = Scans::new(3, 10);
    scans.down.store(true, Ordering::SeqCst);
    let node = node(directory.path(), "1s", &scans).await;
    let exceptions = async || node.operate().exceptions(&ExceptionQuery::default()).await.unwrap().items;
    let late = until("the exception", async || exceptions().await.into_iter().next()).await;
    assert_eq!((&*late.entity, &*late.owner), ("poll/scans", "scan-team"));
    assert!(late.summary.contains("scans.list"), "{}", late.summary);
    scans.down.store(false, Ordering::SeqCst);
    idle_at(&node, "3").await;
    until("the end of the exception", async || exceptions().await.is_empty().then_some(())).await;

    scans.nonsense.store(true, Ordering::SeqCst);
    let failed = until("the exception", async || exceptions().await.into_iter().next()).await;
    assert!(failed.summary.contains("not a list") && *failed.owner == *"scan-team", "{}", failed.summary);
    scans.nonsense.store(false, Ordering::SeqCst);
    let asked = Intervention { id: failed.id, reason: "mended".into(), set: None, result: None };
    // The next turn may have been quicker than the person.
    let _ = node.operate().retry(&Who("ada".into()), asked).await;
    until("the end of the exception", async || exceptions().await.is_empty().then_some(())).await;
    let (_, fields) = poll(&node).await.unwrap();
    assert_eq!(fields["cursor"], "3", "nonsense moves no cursor");
    assert!(node.stop().await);
}

#[tokio::test]
async fn a_pause_takes_hold_when_the_call_under_way_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let scans = Scans::new(30, 10);
    scans.down.store(true, Ordering::SeqCst);
    let node = node(directory.path(), "1h", &scans).await;
    let status = async |wanted: &str| {
        until(wanted, async || poll(&node).await.filter(|(status, _)| status == wanted)).await.1
    };
    status("late").await;
    command(&node, "poll.pause", json!({})).await;
    scans.down.store(false, Ordering::SeqCst);
    let fields = status("paused").await;
    assert_eq!(fields["cursor"], "10", "a page that has come is taken in: {fields}");
    assert!(node.operate().exceptions(&ExceptionQuery::default()).await.unwrap().items.is_empty());
    command(&node, "poll.resume", json!({})).await;
    command(&node, "poll.now", json!({})).await;
    let fields = idle_at(&node, "30").await;
    assert_eq!((&fields["accepted"], &fields["page"]), (&json!(20), &json!(2)), "what was left: {fields}");
    assert!(node.stop().await);
}

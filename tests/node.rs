//! A whole node over its real store and real HTTP: what is acknowledged stays, through a stop and through a crash.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "node/balances.rs"]
mod balances;
#[path = "node/batches.rs"]
mod batches;
#[path = "node/boards.rs"]
mod boards;
#[path = "node/polls.rs"]
mod polls;
#[path = "node/reconciliations.rs"]
mod reconciliations;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use syncline::api::{ExceptionQuery, Intervention, Refusal, Who};
use syncline::clock::{Clock as _, SystemClock};
use syncline::config::Settings;
use syncline::delivery::wire::{HttpWire, Wire};
use syncline::ingress::sign::Signer;
use syncline::ingress::verify::{Request, Secret};
use syncline::integration::{self, Files};
use syncline::journal::redb::{Options, Redb};
use syncline::node::{Error, Ground, Lookup, Node};
use syncline_actors::id::EntityId;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const PROCESS: &str = r#"
process: parcel
version: 1
title: Parcel
owner: {team: post, escalate: post-desk}
initial: new
fields: {seen: list, weight: number}
messages:
  parcel.seen: {is: event, starts: true}
  parcel.drop: {is: command}
effects: {}
states:
  new:
    on:
      parcel.seen:
        set: {seen: "[data.at]", weight: "dec(data.weight)"}
        to: moving
  moving:
    on:
      parcel.seen: {set: {seen: "parcel.seen + [data.at]"}}
      parcel.drop: {to: dropped}
  dropped: {end: cancelled}
"#;

const SOURCE: &str = r#"
source: scanner
owner: {team: post, escalate: post-desk}
preset: standard-webhooks
secrets: [{id: current, ref: "env:SCANNER_SECRET"}]
messages:
  seen:
    schemas: {"1": seen.json}
    send:
      - event: parcel.seen
        to: {process: parcel, key: "body.parcel"}
        correlation: "default(body.flow, body.parcel)"
        map: {at: "body.at", weight: "dec(body.weight)"}
"#;

const SCHEMA: &str =
    r#"{"type": "object", "required": ["parcel", "at"], "properties": {"at": {"type": "string"}}}"#;

fn files() -> Files {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    Files::from([
        file("processes/parcel.yaml", PROCESS),
        file("sources/scanner.yaml", SOURCE),
        file("schemas/seen.json", SCHEMA),
    ])
}

async fn start(directory: &Path, files: Files) -> Node {
    started(directory, files, &[]).await.unwrap()
}

async fn started(directory: &Path, files: Files, more: &[&str]) -> Result<Node, Error> {
    started_over(directory, files, more, Arc::new(HttpWire::new().unwrap())).await
}

async fn started_over(
    directory: &Path,
    files: Files,
    more: &[&str],
    wire: Arc<dyn Wire>,
) -> Result<Node, Error> {
    // Whatever makes the node's calls, the tests make their own, and HTTPS needs to be set up for them.
    let _ = HttpWire::new().unwrap();
    let read = integration::read(&files, "");
    let integration = read.integration.unwrap_or_else(|| panic!("{}", read.problems));
    let own = ["http.listen=127.0.0.1:0".to_owned(), format!("node.data_dir={}", directory.display())];
    let set: Vec<_> = own.into_iter().chain(more.iter().map(|&set| set.to_owned())).collect();
    let settings = Settings::load(None, [], &set).unwrap();
    let ground = Ground {
        integration,
        journal: Arc::new(Redb::open(settings.journal_path(), Options::default()).unwrap()),
        clock: Arc::new(SystemClock),
        wire,
        seed: 1,
        lookup: Lookup(Arc::new(|name| (name == "env:SCANNER_SECRET").then(|| SECRET.to_owned()))),
        directory: None,
    };
    Node::start(&settings, ground).await
}

/// Posts a signed webhook; its status.
async fn send(node: &Node, id: &str, body: &Value) -> u16 {
    let presets = syncline::ingress::preset::Presets::builtin();
    let verify = &presets.get("standard-webhooks").unwrap().verify;
    let signer = Signer::compile(verify, vec![Secret::new("current", SECRET)]).unwrap();
    let body = body.to_string();
    let mut headers = http::HeaderMap::new();
    headers.insert("webhook-id", id.parse().unwrap());
    let request =
        Request { method: "POST", url: "/hooks/scanner", host: "", headers: &headers, body: body.as_bytes() };
    let signed = signer.sign(&request, SystemClock.now().0).unwrap();
    headers.extend(signed.headers);
    let url = format!("http://{}/hooks/scanner", node.address());
    let sent = reqwest::Client::new().post(url).headers(headers).body(body).send().await.unwrap();
    sent.status().as_u16()
}

fn seen(parcel: &str, at: &str) -> Value {
    json!({"type": "seen", "parcel": parcel, "at": at, "weight": "1.250"})
}

async fn fields(node: &Node, id: &str) -> Option<String> {
    match node.operate().entity(&EntityId::parse(id).unwrap()).await {
        Ok(entity) => Some(entity.fields.get().to_owned()),
        Err(Refusal::NotFound(_)) => None,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_is_acknowledged_is_there_after_a_stop_and_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), files()).await;
    assert_eq!(send(&node, "m1", &seen("P 1/ü", "depot")).await, 200);
    assert!(node.stop().await, "everything ends in time");

    let node = start(directory.path(), files()).await;
    let one = r#"{"seen":["depot"],"weight":1.250}"#;
    assert_eq!(fields(&node, "parcel/P 1/ü").await.as_deref(), Some(one));
    assert_eq!(send(&node, "m1", &seen("P 1/ü", "depot")).await, 200, "a duplicate is acknowledged too");
    assert_eq!(send(&node, "m2", &seen("P 1/ü", "van")).await, 200);
    node.crash().await;

    let node = start(directory.path(), files()).await;
    let two = r#"{"seen":["depot","van"],"weight":1.250}"#;
    assert_eq!(fields(&node, "parcel/P 1/ü").await.as_deref(), Some(two));
    let id = EntityId::parse("parcel/P 1/ü").unwrap();
    let timeline = node.operate().timeline(&id, 1, 10).await.unwrap();
    let messages: Vec<_> = timeline.items.iter().map(|entry| &*entry.message_id).collect();
    assert_eq!(messages, ["m1", "m2"]);
    let other = json!({"type": "seen", "parcel": "P2", "at": "van", "weight": "1", "flow": "P 1/ü"});
    assert_eq!(send(&node, "m3", &other).await, 200);
    let flow = node.operate().search("P 1/ü", 10).await.unwrap();
    assert_eq!(flow.items, ["parcel/P 1/ü", "parcel/P2"], "both are of one flow");
    assert!(node.stop().await);
}

#[tokio::test]
async fn a_message_that_is_not_understood_waits_until_the_mapping_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), files()).await;
    let body = json!({"type": "seen", "parcel": "P1", "at": "depot", "grams": "1250"});
    assert_eq!(send(&node, "m1", &body).await, 200, "it is authentic, so it is kept and acknowledged");
    assert_eq!(fields(&node, "parcel/P1").await, None);
    let operate = node.operate();
    let open = operate.exceptions(&ExceptionQuery::default()).await.unwrap().items;
    let [exception] = &open[..] else { panic!("{open:?}") };
    assert!(exception.summary.contains("weight"), "{}", exception.summary);
    let ask = || Intervention { id: exception.id.clone(), reason: "try".into(), set: None, result: None };
    let who = Who("ana".into());
    let refused = operate.retry(&who, ask()).await.unwrap_err();
    assert!(matches!(&refused, Refusal::Conflict(why) if why.contains("still not understood")), "{refused}");
    assert!(node.stop().await);
    drop(operate);

    let mut mended = files();
    let source = mended.get_mut("sources/scanner.yaml").unwrap();
    *source =
        source.replace("weight: \"dec(body.weight)\"", "weight: \"dec(default(body.weight, body.grams))\"");
    let node = start(directory.path(), mended).await;
    let operate = node.operate();
    let released = operate.retry(&who, ask()).await.unwrap();
    assert_eq!((&*released.status, released.problem), ("released", None));
    assert_eq!(fields(&node, "parcel/P1").await.as_deref(), Some(r#"{"seen":["depot"],"weight":1250}"#));
    assert!(operate.exceptions(&ExceptionQuery::default()).await.unwrap().items.is_empty());
    assert_eq!(send(&node, "m1", &body).await, 200);
    assert_eq!(fields(&node, "parcel/P1").await.as_deref(), Some(r#"{"seen":["depot"],"weight":1250}"#));
    node.stop().await;
}

/// What a request is answered: its status and its body, if that is JSON.
async fn ask(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

/// Tells by the API that a parcel was seen.
async fn tell(node: &Node, id: &str, subject: &str) -> (u16, Value) {
    let event = json!({"specversion": "1.0", "id": id, "source": "/hub", "type": "parcel.seen", "subject": subject,
        "data": {"at": "depot", "weight": "1"}});
    let request = reqwest::Client::new().post(format!("http://{}/v1/events", node.address()));
    ask(request.header("content-type", "application/cloudevents+json").body(event.to_string())).await
}

const EU: [&str; 2] = ["cluster.region=eu", "cluster.regions=[\"eu\"]"];

#[tokio::test]
async fn an_entity_that_is_bound_to_a_region_is_reached_by_every_way() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = files();
    let source = files.get_mut("sources/scanner.yaml").unwrap();
    // As docs/sources.md shows it.
    let key = "\"'@' + (body.country in ['US', 'CA'] ? 'us' : 'eu') + ':' + body.parcel\"";
    *source = source.replace("\"body.parcel\"}", &format!("{key}}}"));
    let node = started(directory.path(), files, &EU).await.unwrap();
    let body = |country| json!({"type": "seen", "parcel": "4711", "at": "depot", "weight": "1.250", "country": country});
    assert_eq!(send(&node, "m1", &body("IT")).await, 200);
    assert_eq!(send(&node, "m1", &body("CA")).await, 422, "that region is not served");
    assert_eq!(tell(&node, "e1", "parcel/@eu:4711").await.0, 200);
    let http = reqwest::Client::new();
    for path in ["/v1/entities/parcel/@eu:4711", "/v1/entities/parcel/%40eu%3A4711"] {
        let (status, entity) = ask(http.get(format!("http://{}{path}", node.address()))).await;
        assert_eq!((status, &entity["id"], &entity["seq"]), (200, &json!("parcel/@eu:4711"), &json!(2)));
    }
    for path in ["/entities/parcel/@eu:4711", "/entities/parcel/%40eu%3A4711"] {
        let page = http.get(format!("http://{}{path}", node.address())).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert!(page.text().await.unwrap().contains("parcel/@eu:4711"));
    }
    let found = node.operate().search("@eu:4711", 10).await.unwrap();
    assert_eq!(found.items, ["parcel/@eu:4711"]);
    let list = format!("http://{}/v1/entities/parcel?after=@eu:4710", node.address());
    assert_eq!(ask(http.get(list)).await.1["items"][0]["id"], "parcel/@eu:4711");
    let command = json!({"entity": "parcel/@eu:4711", "command": "parcel.drop"}).to_string();
    let commands = format!("http://{}/v1/commands", node.address());
    let (status, outcome) = ask(http.post(&commands).header("idempotency-key", "k1").body(command)).await;
    assert_eq!((status, &outcome["status"]), (200, &json!("dropped")));
    assert!(node.stop().await);
}

#[tokio::test]
async fn a_message_for_a_region_that_is_not_served_is_refused_at_every_door_and_kept_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let node = started(directory.path(), files(), &EU).await.unwrap();
    assert_eq!(send(&node, "m1", &seen("@us:1", "depot")).await, 422);
    let (status, problem) = tell(&node, "e1", "parcel/@us:1").await;
    assert_eq!((status, &problem["type"]), (422, &json!("https://syncline.dev/problems#region")));
    let why = "region `us` is not served here; list it in `cluster.regions` and start a node with `cluster.region` of that name";
    assert_eq!(problem["detail"], why);
    let command = json!({"entity": "parcel/@us:1", "command": "parcel.drop"}).to_string();
    let commands = reqwest::Client::new().post(format!("http://{}/v1/commands", node.address()));
    let (status, problem) = ask(commands.header("idempotency-key", "k1").body(command)).await;
    assert_eq!((status, &problem["type"]), (422, &json!("https://syncline.dev/problems#region")));
    let (status, problem) = tell(&node, "e2", "parcel/@us").await;
    assert_eq!((status, &problem["type"]), (400, &json!("https://syncline.dev/problems#malformed")));
    assert!(problem["detail"].as_str().unwrap().contains("write `@eu:4711`"), "{problem}");
    for kind in ["parcel", "quarantine"] {
        assert_eq!(node.operate().entities(kind, None, 10).await.unwrap().items.len(), 0, "{kind}");
    }
    assert!(node.stop().await);
}

#[tokio::test]
async fn what_a_source_of_a_region_sends_waits_there_until_it_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let mut bound = files();
    let source = bound.get_mut("sources/scanner.yaml").unwrap();
    *source = source.replace("preset:", "region: eu\npreset:");
    let refused = started(directory.path(), bound.clone(), &[]).await.unwrap_err();
    assert!(
        refused.is_input() && refused.to_string().contains("source `scanner` is in region `eu`"),
        "{refused}"
    );
    let node = started(directory.path(), bound, &EU).await.unwrap();
    assert_eq!(send(&node, "m1", &json!({"type": "lost"})).await, 200);
    let kept = node.operate().entities("quarantine", None, 10).await.unwrap().items;
    assert!(kept.len() == 1 && kept[0].id.starts_with("quarantine/@eu:schema:"), "{kept:?}");
    assert!(node.stop().await);
}

#[tokio::test]
async fn a_node_that_does_not_list_a_region_of_the_store_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    assert!(started(directory.path(), files(), &EU).await.unwrap().stop().await);
    let refused = started(directory.path(), files(), &[]).await.unwrap_err();
    assert!(refused.is_input(), "{refused}");
    assert!(refused.to_string().contains("`cluster.regions`: `eu` was served before"), "{refused}");
    assert!(started(directory.path(), files(), &EU).await.unwrap().stop().await);
}

//! What the sandbox sends: signed as the shipped sources expect, valid under the shipped schemas, and sent until it is heard.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use http::Method;
use syncline::clock::{Clock as _, SystemClock};
use syncline::ingress::verify::{Request, Secret, Verifier};
use syncline::sandbox::emit::{Emitter, Error};
use syncline::sandbox::opportunity::{Opportunity, Variant, opportunity};
use syncline::sandbox::supplier::{Supplier, Variant as SupplierVariant};
use syncline::sandbox::{Fault, Plan};
use tokio::sync::watch;

use crate::operations::{reserve, ship};
use crate::world::{SECRET, World};

/// A webhook as it came.
#[derive(Debug, Clone)]
struct Came {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    status: u16,
}

impl Came {
    fn id(&self) -> &str {
        self.headers["webhook-id"].to_str().unwrap()
    }

    fn order(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["data"]["order_number"].as_str().unwrap().to_owned()
    }
}

/// Stands for a node: answers the statuses that it is given, then 200.
struct Node {
    at: SocketAddr,
    came: watch::Receiver<Vec<Came>>,
}

type Shared = Arc<(watch::Sender<Vec<Came>>, Vec<u16>)>;

async fn take(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut status = 200;
    shared.0.send_modify(|all| {
        status = shared.1.get(all.len()).copied().unwrap_or(200);
        all.push(Came { path: uri.path().to_owned(), headers, body, status });
    });
    StatusCode::from_u16(status).unwrap()
}

impl Node {
    async fn start(statuses: &[u16]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let sender = watch::Sender::default();
        let came = sender.subscribe();
        let app = Router::new().fallback(take).with_state(Arc::new((sender, statuses.to_vec())));
        tokio::spawn(axum::serve(listener, app).into_future());
        Self { at, came }
    }

    async fn heard(&self, count: usize) -> Vec<Came> {
        let mut came = self.came.clone();
        let wait = came.wait_for(|all| all.len() >= count);
        let all = tokio::time::timeout(Duration::from_secs(30), wait).await;
        all.expect("webhooks come").unwrap().clone()
    }
}

fn shipped(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(file)).unwrap()
}

/// Whether the shipped preset takes it for its sender's.
fn assert_authentic(came: &Came, secret: &str) {
    let presets = syncline::ingress::preset::Presets::builtin();
    let preset = presets.get("standard-webhooks").unwrap();
    let verifier = Verifier::compile(&preset.verify, vec![Secret::new("current", secret)]).unwrap();
    let request =
        Request { method: "POST", url: &came.path, host: "node", headers: &came.headers, body: &came.body };
    let verified = verifier.verify(&request, SystemClock.now().0);
    assert!(verified.is_ok(), "{verified:?}");
}

fn assert_valid(schema: &str, body: &serde_json::Value) {
    let schema = serde_json::from_str(&shipped(&format!("schemas/{schema}"))).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong: Vec<_> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?} in {body}");
}

async fn ships(world: &World, key: &str) {
    let order = world.order(key);
    order.ok("warehouse.reserve", &reserve(key, &["SKU-1"])).await;
    order.ok("warehouse.ship", &ship(key)).await;
}

#[tokio::test]
async fn what_has_left_the_warehouse_is_told_until_it_is_heard_under_one_id() {
    let node = Node::start(&[503, 429]).await;
    let world = World::new().await;
    ships(&world, "SO-1").await;
    world.sandbox.set_target(&format!("http://{}", node.at)).unwrap();
    let came = node.heard(3).await;
    assert_eq!(came.iter().map(|came| came.status).collect::<Vec<_>>(), [503, 429, 200]);
    assert!(came.iter().all(|one| one.id() == came[0].id() && one.body == came[0].body));
    assert_eq!(came[0].path, "/hooks/warehouse");
    for one in &came {
        assert_authentic(one, SECRET);
    }
    assert_valid("warehouse/shipment.confirmed.v1.json", &serde_json::from_slice(&came[0].body).unwrap());
    let ledger = world.until(|ledger| ledger.webhooks.iter().all(|sent| sent.accepted == 1)).await;
    assert_eq!((ledger.webhooks.len(), ledger.webhooks[0].attempts), (1, 3));
}

#[tokio::test]
async fn a_supplier_that_changes_is_told_with_its_latest_state_and_without_its_bank_account() {
    let node = Node::start(&[]).await;
    let world = World::new().await;
    world.sandbox.set_target(&format!("http://{}", node.at)).unwrap();
    let supplier = Supplier { number: 1, variant: SupplierVariant::Normal };
    let types = |what| world.sandbox.act("sourcing", Method::PUT, &supplier.screen(), &what);
    types(serde_json::json!({"name": "Bolt", "status": "onboarding"}));
    types(supplier.approved());
    node.heard(1).await;
    types(supplier.approved()); // which changes nothing
    let report = r#"{"number":"SUP-00001","vendor_id":"V","status":"active"}"#;
    world.order("SO-1").ok("sourcing.report_status", report).await;
    let came = node.heard(2).await;
    assert_eq!(came.len(), 2, "nothing before the approval, nothing where nothing changes");
    let kinds = came.iter().map(|one| {
        assert_authentic(one, SECRET);
        assert_eq!(one.path, "/hooks/sourcing");
        assert!(!String::from_utf8_lossy(&one.body).contains(&supplier.iban()));
        let body: serde_json::Value = serde_json::from_slice(&one.body).unwrap();
        assert_valid("sourcing/supplier.v1.json", &body);
        (body["type"].as_str().unwrap().to_owned(), body["data"]["revision"].as_u64().unwrap())
    });
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds, [("supplier.approved".to_owned(), 2), ("supplier.changed".to_owned(), 3)]);
}

#[tokio::test]
async fn a_webhook_may_come_twice_and_out_of_turn() {
    let node = Node::start(&[]).await;
    let world = World::new().await;
    world.sandbox.set_target(&format!("http://{}", node.at)).unwrap();
    world.faults("warehouse", Plan::always(Fault::Duplicates).times(1));
    ships(&world, "SO-1").await;
    let came = node.heard(2).await;
    assert_eq!((came[0].id(), &came[0].body), (came[1].id(), &came[1].body));
    // The first of the next two is held back for long enough that the second is heard before it.
    world.faults("warehouse", Plan::always(Fault::Reorder { within_ms: 1_000 }).times(1));
    ships(&world, "SO-2").await;
    world.until(|ledger| ledger.webhooks.len() == 2).await;
    ships(&world, "SO-3").await;
    let came = node.heard(4).await;
    assert_eq!((came[2].order(), came[3].order()), ("SO-3".to_owned(), "SO-2".to_owned()));
}

#[tokio::test]
async fn what_is_recalled_in_time_does_not_leave() {
    let world = World::shipping_after(Duration::from_secs(1)).await;
    ships(&world, "SO-1").await;
    let order = world.order("SO-1");
    order.ok("warehouse.recall", r#"{"order_number":"SO-1"}"#).await;
    ships(&world, "SO-2").await;
    let ledger = world.until(|ledger| !ledger.webhooks.is_empty()).await;
    assert_eq!(ledger.webhooks.len(), 1);
    assert_eq!(ledger.webhooks[0].reference, "SHP-SO-2-1", "SO-1 was due before it");
    ships(&world, "SO-1").await;
    assert_eq!(world.sandbox.ledger().violations, [], "its first shipment was recalled");
}

#[tokio::test]
async fn what_has_left_cannot_be_recalled() {
    let world = World::new().await;
    ships(&world, "SO-1").await;
    world.until(|ledger| ledger.webhooks.len() == 1).await;
    let order = world.order("SO-1");
    let late = order.refused("warehouse.recall", r#"{"order_number":"SO-1"}"#).await;
    assert_eq!(late, "already_shipped: SO-1 has left the warehouse");
    let late = order.refused("warehouse.release", r#"{"reservation_id":"R-SO-1"}"#).await;
    assert_eq!(late, "already_shipped: SO-1 has left the warehouse");
}

#[tokio::test]
async fn every_opportunity_is_valid_and_signed_as_the_crm_signs() {
    let node = Node::start(&[200, 401]).await;
    let secrets = BTreeMap::from([("crm".to_owned(), SECRET.into())]);
    let emitter = Emitter::new(&format!("http://{}/", node.at), &secrets, Arc::new(SystemClock)).unwrap();
    let now = SystemClock.now();
    let body = opportunity(1, Variant::Normal, now);
    assert_eq!(emitter.send("crm", &body, "msg_1").await.unwrap(), 200);
    assert_eq!(emitter.send("crm", &body, "msg_2").await.unwrap(), 401);
    let came = node.heard(2).await;
    assert_eq!((came[0].path.as_str(), came[0].id()), ("/hooks/crm", "msg_1"));
    assert_authentic(&came[0], SECRET);
    for number in 0..50 {
        for variant in Variant::ALL {
            let one = Opportunity::new(number, variant);
            assert_valid("crm/opportunity.confirmed.v1.json", &one.confirmed(now));
            assert_valid("crm/opportunity.amended.v1.json", &one.amended(now));
            assert_valid("crm/opportunity.cancelled.v1.json", &one.cancelled("r", now));
        }
    }
}

#[tokio::test]
async fn an_emitter_says_what_it_cannot_do() {
    let secrets = |text: &str| BTreeMap::from([("crm".to_owned(), text.to_owned().into())]);
    let new = |base: &str, secret: &str| Emitter::new(base, &secrets(secret), Arc::new(SystemClock));
    assert!(matches!(new("https://node.example", SECRET), Err(Error::Target(_))));
    assert!(matches!(new("node", SECRET), Err(Error::Target(_))));
    let secret = new("http://127.0.0.1:1", "whsec_not base64").unwrap_err();
    assert!(matches!(secret, Error::Secret(_)) && !format!("{secret} {secret:?}").contains("base64 "));
    let emitter = new("http://127.0.0.1:1", SECRET).unwrap();
    let body = serde_json::json!({});
    assert!(matches!(emitter.send("erp", &body, "m").await, Err(Error::UnknownSource(_))));
    assert!(matches!(emitter.send("crm", &body, "a\nb").await, Err(Error::MessageId(_))));
    assert!(matches!(emitter.send("crm", &body, "m").await, Err(Error::NoAnswer(_))));
}

//! A new system is brought in by adding files: a shop and a second ERP for a second company, over a node that knew neither. Nothing is
//! compiled for it; what was there before stays as it is, and learns of the new systems by their files alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};
use syncline::api::Entity;
use syncline::clock::{Clock as _, SystemClock};
use syncline::config::Settings;
use syncline::delivery::wire::HttpWire;
use syncline::ingress::preset::Presets;
use syncline::ingress::sign::Signer;
use syncline::ingress::verify::{Request, Secret};
use syncline::integration::{self, Files};
use syncline::journal::redb::{Options, Redb};
use syncline::node::{Ground, Lookup, Node};
use syncline::sandbox::{Fault, Plan, Sandbox, SandboxConfig};
use syncline_actors::id::EntityId;

/// Everything that the new systems consist of.
const NEW: [&str; 12] = [
    "connectors/s4.yaml",
    "sources/s4.yaml",
    "schemas/s4/",
    "connectors/shop.yaml",
    "sources/shop.yaml",
    "processes/shop_order.yaml",
    "processes/shop_order.test.yaml",
    "schemas/shop/customer.v1.json",
    "schemas/shop/order.paid.v1.json",
    "schemas/shop/order.cancelled.v1.json",
    "schemas/shop/",
    "slos/shop-order-booked.yaml",
];

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_mins(1);

const CRM_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SHOP_SECRET: &str = "hush";

fn shipped() -> Files {
    integration::files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap()
}

fn is_new(name: &str) -> bool {
    NEW.iter().any(|new| name == *new || new.ends_with('/') && name.starts_with(new))
}

/// The integration as it was before anybody thought of the new systems.
fn before() -> Files {
    shipped().into_iter().filter(|(name, _)| !is_new(name)).collect()
}

/// That and the new files: nothing else differs.
fn after() -> Files {
    let mut files = before();
    files.extend(shipped().into_iter().filter(|(name, _)| is_new(name)));
    files
}

struct World {
    sandbox: Sandbox,
    directory: tempfile::TempDir,
    node: Option<Node>,
}

impl World {
    async fn new() -> Self {
        let sandbox = Sandbox::start(SandboxConfig::local(Arc::new(SystemClock))).await.unwrap();
        Self { sandbox, directory: tempfile::tempdir().unwrap(), node: None }
    }

    /// Starts the node with these files over the same store.
    async fn start(&mut self, files: &Files) {
        if let Some(node) = self.node.take() {
            assert!(node.stop().await);
        }
        let read = integration::read(files, "config");
        assert_eq!(read.problems.to_string(), "", "it lints without a word");
        let set = [
            "http.listen=127.0.0.1:0".to_owned(),
            format!("node.data_dir={}", self.directory.path().display()),
        ];
        let settings = Settings::load(None, [], &set).unwrap();
        let systems: Vec<_> = Sandbox::systems()
            .map(|system| (format!("env:SYNCLINE_{}_URL", system.to_uppercase()), self.sandbox.url(system)))
            .collect();
        let lookup = move |name: &str| match name {
            "env:SYNCLINE_CRM_SECRET" | "env:SYNCLINE_WAREHOUSE_SECRET" => Some(CRM_SECRET.to_owned()),
            "env:SYNCLINE_SHOP_SECRET" => Some(SHOP_SECRET.to_owned()),
            name => systems.iter().find(|(known, _)| known == name).map(|(_, url)| url.clone()),
        };
        let ground = Ground {
            integration: read.integration.unwrap(),
            journal: Arc::new(Redb::open(settings.journal_path(), Options::default()).unwrap()),
            clock: Arc::new(SystemClock),
            wire: Arc::new(HttpWire::new().unwrap()),
            seed: 1,
            lookup: Lookup(Arc::new(lookup)),
            directory: None,
        };
        self.node = Some(Node::start(&settings, ground).await.unwrap());
    }

    /// Posts a webhook, signed as its sender signs; the status.
    async fn post(
        &self,
        source: &str,
        preset: &str,
        secret: &str,
        own: &[(&'static str, &str)],
        body: &Value,
    ) -> u16 {
        let node = self.node.as_ref().unwrap();
        let verify = &Presets::builtin().get(preset).unwrap().verify.clone();
        let signer = Signer::compile(verify, vec![Secret::new("current", secret)]).unwrap();
        let body = body.to_string();
        let mut headers = HeaderMap::new();
        for (name, value) in own {
            headers.insert(*name, value.parse().unwrap());
        }
        let url = format!("/hooks/{source}");
        let request =
            Request { method: "POST", url: &url, host: "", headers: &headers, body: body.as_bytes() };
        let signed = signer.sign(&request, SystemClock.now().0).unwrap();
        headers.extend(signed.headers);
        let to = format!("http://{}{url}", node.address());
        reqwest::Client::new().post(to).headers(headers).body(body).send().await.unwrap().status().as_u16()
    }

    async fn crm(&self, id: &str, data: Value) -> u16 {
        let body = json!({"type": "account.changed", "timestamp": "2027-01-02T10:00:00Z", "data": data});
        self.post("crm", "standard-webhooks", CRM_SECRET, &[("webhook-id", id)], &body).await
    }

    async fn shop(&self, id: &str, topic: &str, body: &Value) -> u16 {
        let own = [
            ("x-shopify-topic", topic),
            ("x-shopify-webhook-id", id),
            ("x-shopify-shop-domain", "de.example"),
        ];
        self.post("shop", "shopify", SHOP_SECRET, &own, body).await
    }

    async fn entity(&self, id: &str) -> Option<Entity> {
        self.node.as_ref().unwrap().operate().entity(&EntityId::parse(id).unwrap()).await.ok()
    }

    /// Waits until an entity is as it should be.
    async fn until(&self, id: &str, holds: impl Fn(&Entity) -> bool) -> Entity {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(entity) = self.entity(id).await.filter(&holds) {
                    return entity;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        if let Ok(entity) = waited.await {
            return entity;
        }
        panic!("{id} never came to it: {:#?}\n{:#?}", self.entity(id).await, self.sandbox.ledger());
    }

    fn applied(&self, system: &str, operation: &str) -> Vec<String> {
        self.sandbox.ledger().of(system, operation).map(|entry| entry.reference.clone()).collect()
    }
}

fn account(id: &str, legal_entity: &str, modified: &str) -> Value {
    json!({"Id": id, "Name": format!("Company {id}"), "Email__c": "a@customer.example", "LegalEntity__c": legal_entity,
        "SystemModstamp": modified})
}

fn shop_customer(id: u64, ours: &str) -> Value {
    json!({"id": id, "admin_graphql_api_id": format!("gid://shopify/Customer/{id}"), "email": "b@customer.example",
        "first_name": "Petra", "last_name": "Muster", "multipass_identifier": ours, "updated_at": "2027-01-02T10:00:00Z"})
}

fn shop_order(name: &str, customer: &Value) -> Value {
    json!({"id": 1, "admin_graphql_api_id": format!("gid://shopify/Order/{name}"), "name": name, "currency": "EUR",
        "subtotal_price": "119.80", "customer": customer,
        "line_items": [{"sku": "SKU-1", "quantity": 2, "price": "59.90"}]})
}

fn stands(entity: &Entity) -> Vec<(&str, &str)> {
    entity.systems.iter().map(|(system, synced)| (system.as_str(), synced.stand.as_str())).collect()
}

#[test]
fn the_new_systems_are_files_and_nothing_of_the_old_ones_names_them() {
    let (old, new) = (before(), after());
    assert_eq!(new, shipped());
    assert!(new.len() >= old.len() + 8, "{} and {} files", old.len(), new.len());
    let names = |files: &Files| {
        let read = integration::read(files, "config");
        assert_eq!(read.problems.to_string(), "");
        let integration = read.integration.unwrap();
        integration.connectors.keys().map(ToString::to_string).collect::<BTreeSet<_>>()
    };
    let added: Vec<_> = names(&new).difference(&names(&old)).cloned().collect();
    assert_eq!(added, ["s4", "shop"]);
}

#[tokio::test]
async fn customers_and_orders_of_a_second_company_flow_to_its_erp_by_files_alone() {
    let mut world = World::new().await;
    world.start(&before()).await;
    assert_eq!(world.crm("a1", account("ACC-US", "us", "2027-01-02T10:00:00Z")).await, 200);
    assert_eq!(world.crm("a2", account("ACC-DE", "de", "2027-01-02T10:00:00Z")).await, 200);
    let ours = world.until("customer/ACC-US", |entity| entity.status == "ready").await;
    assert_eq!(ours.systems["erp"].stand, "in_sync");
    world.until("customer/ACC-DE", |entity| entity.status == "ready" && entity.systems.is_empty()).await;

    // The files are there. What begins now goes to the new systems, and what was there before at its next change.
    world.start(&after()).await;
    assert_eq!(world.shop("s1", "customers/update", &shop_customer(7, "ACC-SHOP")).await, 200);
    let theirs = world.until("customer/ACC-SHOP", |entity| entity.status == "ready").await;
    assert_eq!(theirs.systems["s4"].stand, "in_sync");
    assert!(!theirs.systems.contains_key("erp"), "{:?}", stands(&theirs));
    assert!(theirs.fields.get().contains(r#""s4":"1000001""#), "{}", theirs.fields.get());
    assert_eq!(world.crm("a3", account("ACC-DE", "de", "2027-01-02T11:00:00Z")).await, 200);
    world.until("customer/ACC-DE", |entity| stands(entity).contains(&("s4", "in_sync"))).await;

    let order = shop_order("D-1001", &shop_customer(7, "ACC-SHOP"));
    assert_eq!(world.shop("s2", "orders/paid", &order).await, 200);
    world.until("shop_order/D-1001", |entity| entity.ending.as_deref() == Some("completed")).await;
    assert_eq!(world.applied("s4", "create_partner"), ["ACC-SHOP", "ACC-DE"]);
    assert_eq!(world.applied("s4", "create_sales_order"), ["D-1001"]);
    assert_eq!(world.applied("shop", "update_order"), ["gid://shopify/Order/D-1001"]);
    assert_eq!(world.applied("erp", "upsert_customer"), ["ACC-US"]);
    assert_eq!(world.sandbox.ledger().violations, []);

    // Every system's id finds the record.
    let operate = world.node.as_ref().unwrap().operate();
    for id in ["1000001", "gid://shopify/Customer/7"] {
        assert_eq!(operate.search(id, 10).await.unwrap().items, ["customer/ACC-SHOP"], "{id}");
    }
    assert_eq!(operate.search("CUST-ACC-US", 10).await.unwrap().items, ["customer/ACC-US"]);
    assert!(world.node.take().unwrap().stop().await);
}

#[tokio::test]
async fn whatever_fails_on_the_way_the_second_erp_has_everything_once() {
    let mut world = World::new().await;
    world.start(&after()).await;
    let retry_after = syncline::sandbox::RetryAfter::Absent;
    let faults = [
        Fault::CommitThenCut,
        Fault::ExpiredToken,
        Fault::CutBefore,
        Fault::Status { code: 503, retry_after },
    ];
    world
        .sandbox
        .set_faults("s4", vec![Plan { kinds: faults.to_vec(), ..Plan::always(faults[0]).at_rate(0.3) }])
        .unwrap();
    let throttled = Fault::Status { code: 429, retry_after };
    world.sandbox.set_faults("shop", vec![Plan::always(throttled).at_rate(0.3)]).unwrap();
    for n in 0..12_u64 {
        let customer = shop_customer(100 + n, &format!("ACC-{n}"));
        assert_eq!(
            world.shop(&format!("o{n}"), "orders/paid", &shop_order(&format!("D-{n}"), &customer)).await,
            200
        );
    }
    for n in 0..12_u64 {
        world
            .until(&format!("shop_order/D-{n}"), |entity| entity.ending.as_deref() == Some("completed"))
            .await;
        world.until(&format!("customer/ACC-{n}"), |entity| entity.status == "ready").await;
    }
    for operation in ["create_partner", "create_sales_order"] {
        let applied = world.applied("s4", operation);
        let distinct: BTreeSet<_> = applied.iter().collect();
        assert_eq!((applied.len(), distinct.len()), (12, 12), "{operation}: {applied:?}");
    }
    assert_eq!(world.sandbox.ledger().violations, []);
    assert!(world.node.take().unwrap().stop().await);
}

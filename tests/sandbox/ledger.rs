//! The ledger tells what was applied, what came again, and what must not have happened; and the sandbox's own API.

use http::Method;
use syncline::sandbox::SECRET;

use crate::operations::{CUSTOMER, sales_order};
use crate::world::World;

/// The first answer to this is not that to a second request: what is back-ordered at first is there then.
const RESERVE: &str = r#"{"order_number":"SO-1","lines":[{"sku":"BACK-A","quantity":1}]}"#;

async fn reserve(world: &World, key: &str, body: &str) -> (u16, String) {
    let headers = [("x-api-key", SECRET), ("idempotency-key", key)];
    let answer = world.http(Method::POST, "/warehouse/v1/reservations", &headers, body).await;
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_repeated_key_is_answered_as_at_first_and_applied_once() {
    let world = World::new().await;
    let first = reserve(&world, "k-1", RESERVE).await;
    assert!(first.1.contains("partial"), "{first:?}");
    assert_eq!(reserve(&world, "k-1", RESERVE).await, first);
    assert_eq!(reserve(&world, "k-1", RESERVE).await, first);
    let ledger = world.sandbox.ledger();
    assert_eq!((ledger.entries.len(), ledger.entries[0].requests), (1, 3));
    assert_eq!((&*ledger.entries[0].reference, ledger.entries[0].key.as_deref()), ("SO-1", Some("k-1")));
    assert_eq!(world.sandbox.summary().total.duplicates, 2);
    let (status, _) = reserve(&world, "k-1", &RESERVE.replace("SO-1", "SO-2")).await;
    assert_eq!((status, world.sandbox.summary().violations), (422, 1), "the key was for something else");
}

#[tokio::test]
async fn a_repeated_ticket_is_marked_as_such() {
    let world = World::new().await;
    let basic = "Basic c3luY2xpbmUtc2FuZGJveDpzYW5kYm94LXNlY3JldA==";
    let body = r#"{"ticket":{"subject":"s","comment":{"body":"b"},"external_id":"SO-1","requester":{"email":"a@b"}}}"#;
    for mark in ["miss", "hit"] {
        let headers = [("authorization", basic), ("idempotency-key", "k")];
        let answer = world.http(Method::POST, "/support/api/v2/tickets", &headers, body).await;
        assert_eq!((answer.status, &answer.headers["x-idempotency-lookup"]), (201, &mark.parse().unwrap()));
    }
}

#[tokio::test]
async fn two_sales_orders_for_one_order_number_are_a_violation() {
    let world = World::new().await;
    let order = world.order("SO-1");
    order.ok("erp.upsert_customer", CUSTOMER).await;
    // Two effects, as if somebody had forgotten the first: each has a key of its own.
    order.ok("erp.create_sales_order", &sales_order("SO-1")).await;
    order.ok("erp.create_sales_order", &sales_order("SO-1")).await;
    let violations = world.sandbox.ledger().violations;
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].what, "a second salesOrder for SO-1");
}

#[tokio::test]
async fn a_late_repetition_that_undoes_something_is_a_violation() {
    let world = World::new().await;
    let form = format!("grant_type=client_credentials&client_id=syncline-sandbox&client_secret={SECRET}");
    let token = world.http(Method::POST, "/crm/services/oauth2/token", &[], &form).await;
    let token: serde_json::Value = serde_json::from_slice(&token.body).unwrap();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let say = async |key: &str, status: &str| {
        let path = "/crm/services/data/v62.0/sobjects/Order/OrderNumber__c/SO-1";
        let headers = [("authorization", &*bearer), ("x-request-id", key)];
        let answer = world.http(Method::PATCH, path, &headers, &format!("{{\"Status\":\"{status}\"}}")).await;
        answer.status
    };
    assert_eq!(say("1", "Booked").await, 201);
    assert_eq!(say("1", "Booked").await, 200);
    assert_eq!(world.sandbox.summary().violations, 0, "the same again is no harm");
    assert_eq!((say("2", "Shipped").await, say("1", "Booked").await), (200, 200));
    assert_eq!(world.sandbox.summary().violations, 1);
}

#[tokio::test]
async fn the_ledger_and_the_faults_are_there_over_http() {
    let world = World::new().await;
    let put = async |system: &str, plan: &str| {
        let answer = world.http(Method::PUT, &format!("/faults/{system}"), &[], plan).await;
        (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
    };
    let plan = r#"{"rate": 1, "kinds": [{"status": {"code": 503}}], "operations": ["reserve"], "count": 1}"#;
    assert_eq!(put("warehouse", plan).await.0, 204);
    assert_eq!(reserve(&world, "k", RESERVE).await.0, 503);
    assert_eq!(reserve(&world, "k", RESERVE).await.0, 200);
    for (system, plan, told) in [
        ("warehouse", r#"{"rate": 2, "kinds": ["outage"]}"#, "not between 0 and 1"),
        ("warehouse", r#"{"rate": 1, "kind": ["outage"]}"#, "unknown field `kind`"),
        ("moon", r#"{"kinds": ["outage"]}"#, "there is no system `moon`"),
    ] {
        let (status, said) = put(system, plan).await;
        assert!(status == 400 && said.contains(told), "{plan}: {status} {said}");
    }
    let json = async |method, path: &str| {
        let answer = world.http(method, path, &[], "").await;
        (answer.status, serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap_or_default())
    };
    let (_, faults) = json(Method::GET, "/faults").await;
    assert_eq!((&faults["warehouse"][0]["dealt"], &faults["warehouse"][0]["seen"]), (&1.into(), &2.into()));
    let (_, ledger) = json(Method::GET, "/ledger").await;
    assert_eq!(ledger["entries"][0]["reference"], "SO-1");
    let (_, summary) = json(Method::GET, "/ledger/summary").await;
    assert_eq!(summary["operations"]["warehouse.reserve"]["requests"], 2);
    assert_eq!(json(Method::DELETE, "/faults").await.0, 204);
    assert_eq!(json(Method::POST, "/reset").await.0, 204);
    assert_eq!(world.sandbox.summary(), syncline::sandbox::Summary::default());
    assert_eq!(json(Method::GET, "/nowhere/x").await.0, 404);
    assert_eq!(json(Method::GET, "/warehouse/v1/nothing").await.0, 404);
}

//! Commands under their key, and CloudEvents.

use axum::http::StatusCode;
use serde_json::json;
use syncline_actors::envelope::Body as Said;

use super::world::{Says, World};

const CANCEL: &str = r#"{"entity":"order/A-1","command":"order.cancel","data":{"fee":1.10}}"#;

#[tokio::test]
async fn a_command_is_done_once_per_key() {
    let world = World::new();
    let key = [("idempotency-key", "\"k-1\"")];
    let first = world.api("/v1/commands", &key, CANCEL).await;
    assert_eq!(first.status, StatusCode::OK);
    let answer =
        json!({"entity": "order/A-1", "seq": 1, "status": "paid", "verdict": "applied", "duplicate": false});
    assert_eq!(first.json(), answer);
    let again = world.api("/v1/commands", &key, CANCEL).await;
    assert_eq!((again.json()["duplicate"].clone(), again.json()["seq"].clone()), (json!(true), json!(1)));
    let [message] = &world.delivered()[..] else { panic!("not one message") };
    let Said::Command(command) = &message.body else { panic!("{message:?}") };
    assert_eq!((&*command.name, command.data.to_json()), ("order.cancel", r#"{"fee":1.10}"#.into()));
    assert_eq!((&*message.id, &*message.source), ("k-1", "api:ops"));
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let world = World::new();
    let missing = world.api("/v1/commands", &[], CANCEL).await;
    assert_eq!((missing.status.as_u16(), missing.problem()), (400, "idempotency-key".into()));
    let key = [("idempotency-key", "k-1")];
    assert_eq!(world.api("/v1/commands", &key, CANCEL).await.status, StatusCode::OK);
    for other in [CANCEL.replace("1.10", "2"), CANCEL.replace("A-1", "A-2")] {
        let answer = world.api("/v1/commands", &key, &other).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (422, "idempotency-key-reused".into()));
    }
    assert_eq!(world.delivered().len(), 1);
}

#[tokio::test]
async fn the_journal_knows_what_a_key_was_for_after_a_restart() {
    let world = World::new();
    let key = [("idempotency-key", "k-1")];
    assert_eq!(world.api("/v1/commands", &key, CANCEL).await.status, StatusCode::OK);
    let restarted = World::new();
    *restarted.mailbox.delivered.lock().unwrap() = world.delivered();
    assert_eq!(restarted.api("/v1/commands", &key, CANCEL).await.json()["duplicate"], json!(true));
    let restarted = World::new();
    *restarted.mailbox.delivered.lock().unwrap() = world.delivered();
    let answer = restarted.api("/v1/commands", &key, &CANCEL.replace("1.10", "2")).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (422, "idempotency-key-reused".into()));
}

#[tokio::test]
async fn a_rejection_is_an_answer_that_no_client_takes_for_done() {
    let world = World::new();
    world.says(Says::Rejected);
    let answer = world.api("/v1/commands", &[("idempotency-key", "k")], CANCEL).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (409, "rejected".into()));
    assert_eq!(answer.json()["outcome"]["verdict"], "rejected");
}

#[tokio::test]
async fn without_a_token_nothing_is_done() {
    let world = World::new();
    for path in ["/v1/commands", "/v1/events"] {
        let request = axum::http::Request::post(path).body(CANCEL.to_owned().into()).unwrap();
        let answer = world.ask(request).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (401, "unauthenticated".into()));
    }
    assert!(world.delivered().is_empty());
}

#[tokio::test]
async fn events_come_in_three_modes() {
    let world = World::new();
    let event = |id: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/pim", "type": "item.changed", "subject": "item/I-1",
            "data": {"n": 1}})
        .to_string()
    };
    let structured = [("content-type", "application/cloudevents+json")];
    assert_eq!(world.api("/v1/events", &structured, &event("1")).await.status, StatusCode::OK);
    let batch = [("content-type", "application/cloudevents-batch+json")];
    let answer = world.api("/v1/events", &batch, &format!("[{},{}]", event("2"), event("1"))).await;
    let duplicates: Vec<_> =
        answer.json()["items"].as_array().unwrap().iter().map(|i| i["duplicate"].clone()).collect();
    assert_eq!(duplicates, [json!(false), json!(true)]);
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "3"),
        ("ce-source", "/pim"),
        ("ce-type", "item.changed"),
        ("ce-subject", "item/I-1"),
    ];
    assert_eq!(world.api("/v1/events", &binary, r#"{"n": 1}"#).await.status, StatusCode::OK);
    let came: Vec<_> = world.delivered().iter().map(|m| (m.id.to_string(), m.source.to_string())).collect();
    let from = |id: &str| (id.to_owned(), "event:/pim".to_owned());
    assert_eq!(came, [from("1"), from("2"), from("3")]);
    assert!(world.delivered().iter().all(|m| m.body.data().unwrap().to_json() == r#"{"n":1}"#));
}

#[tokio::test]
async fn a_batch_with_a_malformed_event_delivers_nothing() {
    let world = World::new();
    let good = r#"{"specversion":"1.0","id":"1","source":"/pim","type":"t","subject":"item/I-1"}"#;
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let answer = world.api("/v1/events", &headers, &format!("[{good},{{}}]")).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (400, "malformed".into()));
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("event 1: `specversion` is missing"));
    assert!(world.delivered().is_empty());
}

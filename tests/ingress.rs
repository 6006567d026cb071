//! The way in over HTTP: what is acknowledged, what is refused, what is kept.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "ingress/api.rs"]
mod api;
#[path = "ingress/drift.rs"]
mod drift;
#[path = "ingress/world.rs"]
mod world;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use proptest::prelude::*;
use syncline::ingress::MailboxError;
use syncline_actors::envelope::Body as Said;
use world::{GONE, NOW, OLD, SECRET, SHOP, Says, World, signed};

const PAID: &[u8] = br#"{"type":"paid","order":"A-1","amount":10.10,"at":"2026-11-23T09:59:00Z"}"#;

#[tokio::test]
async fn a_signed_webhook_becomes_a_message_and_is_acknowledged() {
    let world = World::new();
    let answer = world.hook("m1", PAID).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    let [message] = &world.delivered()[..] else { panic!("not one message") };
    assert_eq!(
        (&*message.id, &*message.source, message.subject.to_string()),
        ("m1", "shop", "order/A-1".into())
    );
    let Said::Event(event) = &message.body else { panic!("{message:?}") };
    assert_eq!((&*event.name, event.data.to_json()), ("order.paid", r#"{"amount":10.10}"#.into()));
    assert_eq!((&*message.correlation_id, message.at.0), ("A-1", NOW));
    assert_eq!(message.time.unwrap().to_string(), "2026-11-23T09:59:00.000Z");
    assert_eq!(message.remember_ms, Some(7 * 24 * 3_600_000));
    let evidence = message.evidence.as_ref().unwrap();
    assert_eq!((&*evidence.body.0, evidence.key_id.as_deref()), (PAID, Some("current")));
}

#[tokio::test]
async fn nothing_is_acknowledged_that_the_mailbox_did_not_take() {
    let wait = Duration::from_millis(1500);
    let busy = MailboxError::Busy { what: "the mailbox", retry_after: wait };
    let away = MailboxError::Away { why: "the store is away".into(), retry_after: wait };
    // Two seconds, and when the whole node is away up to four more, so that not all come back at once.
    for (says, status, back_in) in [(busy, 429, 2..=2), (away, 503, 2..=6)] {
        let world = World::new();
        world.says(Says::No(says));
        for body in [PAID, b"{not json"] {
            let answer = world.hook("m1", body).await;
            assert_eq!(answer.status.as_u16(), status);
            let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!(answer.problem() == "busy" && back_in.contains(&seconds), "{seconds}");
        }
        assert!(world.delivered().is_empty() && world.kept().is_empty());
    }
}

#[tokio::test]
async fn what_its_entity_never_takes_is_kept_and_acknowledged() {
    let world = World::new();
    world.says(Says::No(MailboxError::Never("the journal of order/A-1 is broken".into())));
    assert_eq!(world.hook("m1", PAID).await.status, StatusCode::OK);
    let kept = &world.kept()["undeliverable"][0];
    assert_eq!((&*kept.message_id, &*kept.owner, &*kept.kind), ("m1", "commerce", "paid"));
    assert_eq!((&*kept.reason, &*kept.evidence.body.0), ("the journal of order/A-1 is broken", PAID));
}

#[tokio::test]
async fn what_is_bound_to_a_region_that_is_not_served_is_refused_and_nothing_of_it_is_kept() {
    let world = World::new();
    let why = "region `jp` is not served here; add it to `cluster.regions` on every node, or correct the key";
    world.says(Says::No(MailboxError::Region(why.into())));
    let answer = world.hook("m1", PAID).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (422, "region".into()));
    assert!(answer.json()["detail"] == why, "{}", answer.json());
    assert!(world.delivered().is_empty() && world.kept().is_empty(), "in no quarantine either");
}

#[tokio::test]
async fn whatever_is_not_authentic_gets_one_answer() {
    let world = World::new();
    let without = |name: &str| {
        let mut request = signed("shop", SECRET, "m1", NOW, PAID);
        request.headers_mut().remove(name);
        request
    };
    let repeated = |name: &'static str| {
        let mut request = signed("shop", SECRET, "m1", NOW, PAID);
        let value = request.headers()[name].clone();
        request.headers_mut().append(name, value);
        request
    };
    let changed = |body: &'static str| signed("shop", SECRET, "m1", NOW, PAID).map(|_| Body::from(body));
    let requests = [
        signed("nobody", SECRET, "m1", NOW, PAID),
        signed("shop", GONE, "m1", NOW, PAID),
        signed("shop", SECRET, "m1", NOW - 301_000, PAID),
        signed("shop", SECRET, "m1", NOW + 301_000, PAID),
        without("webhook-id"),
        without("webhook-signature"),
        without("webhook-timestamp"),
        repeated("webhook-id"),
        repeated("webhook-signature"),
        repeated("webhook-timestamp"),
        changed("{}"),
        Request::post("/hooks/shop").body(Body::empty()).unwrap(),
    ];
    let mut answers = Vec::new();
    for request in requests {
        let answer = world.ask(request).await;
        assert_eq!((answer.status, answer.problem()), (StatusCode::UNAUTHORIZED, "unauthenticated".into()));
        answers.push((answer.headers, answer.body));
    }
    assert!(answers.windows(2).all(|two| two[0] == two[1]), "{answers:#?}");
    assert!(world.delivered().is_empty() && world.kept().is_empty());
}

/// One that is set up later does not keep the others from being served.
#[tokio::test]
async fn a_source_that_may_be_missing_and_has_no_secret_is_not_served() {
    let closed =
        SHOP.replace("source: shop", "source: closed\noptional: true").replace("env:CURRENT", "env:ABSENT");
    let closed = closed.replace("env:OLD", "env:ABSENT").replace("env:GONE", "env:ABSENT");
    let world = World::of(&[SHOP, &closed], 10_000, 1 << 20);
    assert_eq!(world.ask(signed("shop", SECRET, "m1", NOW, PAID)).await.status, StatusCode::OK);
    assert_eq!(world.ask(signed("closed", SECRET, "m2", NOW, PAID)).await.status, StatusCode::UNAUTHORIZED);
    let open = SHOP.replace("source: shop", "source: open\noptional: true");
    let world = World::of(&[&open], 10_000, 1 << 20);
    assert_eq!(world.ask(signed("open", SECRET, "m1", NOW, PAID)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn several_secrets_are_valid_at_a_time() {
    let world = World::new();
    for (number, secret) in [SECRET, OLD].into_iter().enumerate() {
        let answer = world.ask(signed("shop", secret, &format!("m{number}"), NOW, PAID)).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let keys: Vec<_> =
        world.delivered().iter().map(|m| m.evidence.clone().unwrap().key_id.unwrap()).collect();
    assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["current", "old"]);
}

#[tokio::test]
async fn what_is_authentic_and_not_understood_is_kept_whole() {
    let deep = format!("{{\"type\":\"paid\",\"order\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let long = format!(r#"{{"type":"paid","order":"{}","amount":1}}"#, "x".repeat(300));
    for (class, body, told) in [
        ("identity", &b"{not json"[..], "the body is not JSON"),
        ("identity", b"\xff\xfe", "the body is not JSON"),
        ("identity", b"", "the body is not JSON"),
        ("identity", br#"{"type":{},"order":"A"}"#, "neither text nor a number"),
        ("identity", br#"{"type":"paid","type":"paid","order":"A"}"#, "a key is there twice"),
        ("schema", br#"{"type":"paid","order":"A","order":"B","amount":1}"#, "order"),
        ("schema", deep.as_bytes(), "nested deeper than 64 levels"),
        ("schema", br#"{"type":"lost","order":"A-1"}"#, "no message type `lost`"),
        ("schema", br#"{"type":"paid","order":"A-1","amount":1,"v":2}"#, "no schema version 2; known: 1"),
        ("schema", br#"{"type":"paid","order":"A-1"}"#, "\"amount\" is a required property"),
        ("mapping", br#"{"type":"paid","order":"A-1","amount":"ten"}"#, "amount"),
        ("mapping", br#"{"type":"paid","order":"","amount":1}"#, "the business key is empty"),
        ("mapping", br#"{"type":"paid","order":"a\u0007b","amount":1}"#, "the business key"),
        ("mapping", long.as_bytes(), "at most 200"),
        ("mapping", br#"{"type":"silent","order":"A-1"}"#, "nothing would come of it"),
    ] {
        let world = World::new();
        let answer = world.hook("m1", body).await;
        let shown = String::from_utf8_lossy(body).chars().take(60).collect::<String>();
        assert_eq!(answer.status, StatusCode::OK, "{shown}");
        let kept = world.kept();
        let [aside] = &kept.get(class).unwrap_or_else(|| panic!("{shown}: {kept:?}"))[..] else {
            panic!("{shown}")
        };
        assert!(aside.reason.contains(told), "{shown}: {}", aside.reason);
        assert_eq!(
            (&*aside.evidence.body.0, &*aside.source, &*aside.owner),
            (body, "shop", "commerce"),
            "{shown}"
        );
        assert!(world.delivered().is_empty(), "{shown}");
    }
}

#[tokio::test]
async fn credentials_are_not_kept() {
    let world = World::new();
    let mut request = signed("shop", SECRET, "m1", NOW, b"{}");
    for (name, value) in [("authorization", "Bearer secret"), ("cookie", "session=1"), ("x-shop", "one")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    assert_eq!(world.ask(request).await.status, StatusCode::OK);
    let kept = world.kept().into_values().flatten().next().unwrap().headers.to_json();
    assert!(kept.contains("x-shop") && kept.contains("webhook-id"), "{kept}");
    for secret in ["Bearer", "session", "webhook-signature"] {
        assert!(!kept.contains(secret), "{kept}");
    }
}

#[tokio::test]
async fn one_message_may_become_several_with_ids_of_their_own() {
    let world = World::new();
    for _ in 0..2 {
        assert_eq!(world.hook("m1", br#"{"type":"split","one":"A","two":"B"}"#).await.status, StatusCode::OK);
    }
    let ids: Vec<_> = world.delivered().iter().map(|m| (m.id.to_string(), m.subject.to_string())).collect();
    assert_eq!(ids, [("m1".into(), "order/A".into()), ("m1#1".into(), "order/B".into())]);
}

const BATCH: &str = r#"
source: batch
owner: {team: sales, escalate: sales-desk}
verify: {scheme: header_token, signature: {headers: [x-token]}}
identify: {each: "json:", id: "json:/id", type: "json:/kind"}
ack: {status: 202, body: "thanks"}
retry_span: 1h
secrets: [{id: t, ref: "env:TOKEN"}]
messages:
  won: {send: [{event: order.won, to: {process: order, key: "body.deal"}, map: {token: "'x-token' in headers"}}]}
"#;

#[tokio::test]
async fn a_bad_element_takes_none_of_its_batch_with_it() {
    let world = World::of(&[BATCH], 10_000, 1 << 20);
    let body = r#"[{"id":1,"kind":"won","deal":"D1"},{"kind":"won"},{"id":3,"kind":"lost"},{"id":4,"kind":"won","deal":"D4"}]"#;
    let request = Request::post("/hooks/batch").header("x-token", "token-of-the-sender");
    let answer = world.ask(request.body(Body::from(body)).unwrap()).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::ACCEPTED, &b"thanks"[..]));
    let ids: Vec<_> = world.delivered().iter().map(|m| (m.id.to_string(), m.subject.to_string())).collect();
    assert_eq!(ids, [("1".into(), "order/D1".into()), ("4".into(), "order/D4".into())]);
    let kept = world.kept();
    assert_eq!(&*kept["identity"][0].evidence.body.0, br#"{"kind":"won"}"#);
    assert_eq!(&*kept["schema"][0].evidence.body.0, br#"{"id":3,"kind":"lost"}"#);
}

#[tokio::test]
async fn bodies_are_bounded_one_by_one_and_together() {
    let world = World::of(&[SHOP], 1000, 1 << 20);
    let large = vec![b' '; 1001];
    let answer = world.hook("m1", &large).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (413, "too-large".into()));
    // Without a length, it is noticed on the way.
    let parts = futures::stream::iter((0..3).map(|_| Ok::<_, std::io::Error>(vec![b' '; 400])));
    let request = Request::post("/hooks/shop").body(Body::from_stream(parts)).unwrap();
    let answer = world.ask(request).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (413, "too-large".into()));

    // Room for one request; another one is being read.
    let world = World::of(&[SHOP], 1000, 2048);
    let (send, wait) = tokio::sync::oneshot::channel::<()>();
    let slow = futures::stream::once(async move {
        let _ = wait.await;
        Ok::<_, std::io::Error>(Vec::new())
    });
    let router = world.router.clone();
    let first = tokio::spawn(async move {
        use tower::ServiceExt as _;
        router
            .oneshot(Request::post("/hooks/shop").body(Body::from_stream(slow)).unwrap())
            .await
            .unwrap()
            .status()
    });
    let full = loop {
        let answer = world.hook("m1", PAID).await;
        if answer.status != StatusCode::OK {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((full.status.as_u16(), full.problem()), (503, "busy".into()));
    assert_eq!(full.headers["retry-after"], "1");
    send.send(()).unwrap();
    assert_eq!(first.await.unwrap(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.hook("m2", PAID).await.status, StatusCode::OK, "there is room again");
}

#[tokio::test]
async fn only_post_is_served_and_said_so() {
    let world = World::new();
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let request = Request::builder().method(method).uri("/hooks/shop").body(Body::empty()).unwrap();
        let answer = world.ask(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem()),
            (405, "method-not-allowed".into()),
            "{method}"
        );
        assert_eq!(answer.headers["allow"], "POST", "{method}");
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused_before_anything_else() {
    let world = World::new();
    let mut request = signed("shop", SECRET, "m1", NOW, PAID);
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let answer = world.ask(request).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (415, "encoding".into()));
}

#[tokio::test]
async fn senders_that_ask_first_are_answered() {
    let slack = "source: slack\nowner: {team: it, escalate: it-desk}\npreset: slack\nsecrets: [{id: s, ref: \"env:SLACK\"}]\nmessages: {message: {send: [{event: order.x, to: {process: order, key: \"body.event_id\"}, map: {}}]}}";
    let events = "source: mesh\nowner: {team: it, escalate: it-desk}\nverify: {scheme: header_token, signature: {headers: [x-token]}}\nidentify: {id: \"json:/id\"}\nhandshake: cloudevents_options\nretry_span: 1h\nsecrets: [{id: t, ref: \"env:TOKEN\"}]\nmessages: {message: {send: [{event: order.x, to: {process: order, key: \"body.id\"}, map: {}}]}}";
    let soap =
        events.replace("source: mesh", "source: soap").replace("cloudevents_options", "salesforce_soap_ack");
    let world = World::of(&[slack, events, &soap], 10_000, 1 << 20);

    let body = br#"{"type":"url_verification","challenge":"3eZbrw1a"}"#;
    let presets = syncline::ingress::preset::Presets::builtin();
    let secret = syncline::ingress::verify::Secret::new("s", "8f742231b10e8888abcd99yyyzzz85a5");
    let verify = &presets.get("slack").unwrap().verify;
    let signer = syncline::ingress::sign::Signer::compile(verify, vec![secret]).unwrap();
    let headers = axum::http::HeaderMap::new();
    let plain =
        syncline::ingress::verify::Request { method: "POST", url: "/", host: "", headers: &headers, body };
    let mut request = Request::post("/hooks/slack").body(Body::from(&body[..])).unwrap();
    request.headers_mut().extend(signer.sign(&plain, NOW).unwrap().headers);
    assert_eq!(world.ask(request).await.json(), serde_json::json!({"challenge": "3eZbrw1a"}));
    let forged = Request::post("/hooks/slack").body(Body::from(&body[..])).unwrap();
    assert_eq!(world.ask(forged).await.status, StatusCode::UNAUTHORIZED);

    let options = Request::options("/hooks/mesh").header("webhook-request-origin", "events.example");
    let answer = world.ask(options.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (answer.status, &answer.headers["webhook-allowed-origin"]),
        (StatusCode::OK, &"events.example".parse().unwrap())
    );

    let sent = Request::post("/hooks/soap").header("x-token", "token-of-the-sender");
    let answer = world.ask(sent.body(Body::from(r#"{"id":"1"}"#)).unwrap()).await;
    assert!(String::from_utf8(answer.body).unwrap().contains("<Ack>true</Ack>"));
}

#[tokio::test]
async fn trace_context_is_passed_on_if_it_is_one() {
    let world = World::new();
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (id, trace) in [("m1", good), ("m2", "00-zz-00f067aa0ba902b7-01"), ("m3", "")] {
        let mut request = signed("shop", SECRET, id, NOW, PAID);
        request.headers_mut().insert("traceparent", trace.parse().unwrap());
        assert_eq!(world.ask(request).await.status, StatusCode::OK);
    }
    let traces: Vec<_> = world.delivered().into_iter().map(|m| m.traceparent).collect();
    assert_eq!(traces, [Some(good.into()), None, None]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever holds the secret can send what they like: when it is acknowledged, it is with an entity or in quarantine.
    #[test]
    fn nothing_authentic_is_lost(body in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "\\{\"type\":\"(paid|split|silent|x)\",\"(order|one|two|amount|v)\":[0-9a-z\"\\[\\]{},:.]{0,30}\\}".prop_map(String::into_bytes),
    ]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let answer = world.hook("m1", &body).await;
            prop_assert_eq!(answer.status, StatusCode::OK);
            let with_entity = !world.delivered().is_empty();
            prop_assert!(with_entity == world.kept().is_empty(), "neither or both");
            Ok(())
        })?;
    }

    /// Whoever does not hold it gets nowhere.
    #[test]
    fn nothing_else_comes_in(id in "[ -~]{0,20}", at in "[ -~]{0,12}", signature in "[ -~]{0,60}", body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let request = Request::post("/hooks/shop").header("webhook-id", id).header("webhook-timestamp", at).header("webhook-signature", signature);
            let answer = world.ask(request.body(Body::from(body)).unwrap()).await;
            prop_assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            prop_assert!(world.delivered().is_empty() && world.kept().is_empty());
            Ok(())
        })?;
    }
}

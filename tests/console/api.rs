//! The JSON.

use syncline::api::Refusal;

use crate::fake::{Console, Fake};

const RETRY: &str = r#"{"id":"order/SO-1001#1","reason":"unblocked","set":{"total":10.00}}"#;

fn open() -> Console {
    Console::open(Fake::default())
}

#[tokio::test]
async fn each_route_asks_the_node_what_it_says() {
    let console = open();
    for path in [
        "/v1/entities/order",
        "/v1/entities/order?after=SO-1&limit=1000",
        "/v1/entities/order/SO-1001",
        "/v1/entities/order/SO-1001/timeline?from=5&limit=2",
        "/v1/entities/order/SO-1001/records?from=3",
        "/v1/search?correlation=a+b&limit=1",
        "/v1/search?q=%C3%A4",
        "/v1/exceptions?kind=order&class=hold&after=order%2FA%231&limit=7",
        "/v1/exceptions",
        "/v1/drift",
        "/v1/board",
        "/v1/connectors",
    ] {
        let answer = console.get(path).await;
        assert_eq!(answer.status(), 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        // What is decided from an entity may be decided from this; a list is what the store had.
        let promised = match path {
            "/v1/entities/order/SO-1001" => "strong",
            "/v1/connectors" | "/v1/drift" | "/v1/board" => continue,
            _ => "store",
        };
        assert_eq!(answer.header("syncline-read"), promised, "{path}");
    }
    for (path, body) in [
        ("/v1/exceptions/retry", RETRY),
        ("/v1/exceptions/resolve", r#"{"id":"order/SO-1001#1","reason":"by hand","result":{"id":"R-7"}}"#),
        (
            "/v1/migrations",
            r#"{"entity":"order/A","from":1,"to":2,"at":7,"state":"tax","fields":{"n":1.10},"reason":"v2"}"#,
        ),
        ("/v1/connectors/erp/pause", r#"{"reason":"month end"}"#),
        ("/v1/connectors/erp/resume", r#"{"reason":"over"}"#),
    ] {
        let answer = console.post(path, body).await;
        assert_eq!(answer.status(), 200, "{path}: {answer:?}");
    }
    let asked = [
        "entities order after None limit 100",
        "entities order after Some(\"SO-1\") limit 1000",
        "entity order/SO-1001",
        "timeline order/SO-1001 from 5 limit 2",
        "records order/SO-1001 from 3 limit 100",
        "search a b limit 1",
        "search ä limit 100",
        "exceptions Some(\"order\") Some(\"hold\") Some(\"order/A#1\") Some(7)",
        "exceptions None None None Some(100)",
        "drift",
        "board",
        "connectors",
        "retry order/SO-1001#1 by local: unblocked set Some(\"{\\\"total\\\":10.00}\")",
        "resolve order/SO-1001#1 by local: by hand result Some(\"{\\\"id\\\":\\\"R-7\\\"}\")",
        "migrate order/A 1-2 at 7 to tax {\"n\":1.10} dry false by local: v2",
        "set_paused erp true by local: month end",
        "set_paused erp false by local: over",
    ];
    assert_eq!(console.fake.asked(), asked);
}

#[tokio::test]
async fn amounts_keep_their_digits() {
    let answer = open().get("/v1/entities/order/SO-1001").await;
    assert!(answer.text().contains(r#""total":1000000000000000.10"#), "{}", answer.text());
}

#[tokio::test]
async fn a_key_may_hold_odd_characters() {
    let console = open();
    for (path, key) in [
        ("A%2F7", "A/7"),
        ("A%20%3F%23%25%3C", "A ?#%<"),
        ("%C3%A4%E2%82%AC", "ä€"),
        ("..", ".."),
        ("a+b", "a+b"),
        ("timeline", "timeline"),
    ] {
        assert_eq!(console.get(&format!("/v1/entities/order/{path}")).await.status(), 200, "{path}");
        assert_eq!(console.fake.asked().last().unwrap(), &format!("entity order/{key}"));
        assert_eq!(console.get(&format!("/v1/entities/order/{path}/timeline")).await.status(), 200);
    }
    for (path, said) in [
        ("/v1/entities/order/%FF", "the path cannot be read"),
        ("/v1/entities/Order/A", "the kind holds 'O'"),
        ("/v1/entities/order/%0A", "the business key holds '\\n'"),
    ] {
        let (status, kind, detail) = console.get(path).await.problem();
        assert_eq!((status, &*kind), (400, "malformed"), "{path}");
        assert!(detail.contains(said), "{path}: {detail}");
    }
}

#[tokio::test]
async fn a_bad_parameter_is_named() {
    let console = open();
    for (path, said) in [
        ("/v1/exceptions?limit=0", "the parameter `limit` is `0`; write a number from 1 to 1000"),
        ("/v1/exceptions?limit=1001", "the parameter `limit` is `1001`"),
        ("/v1/exceptions?limit=many", "the parameter `limit` is `many`"),
        (
            "/v1/exceptions?klass=hold",
            "there is no parameter `klass` here; there are: kind, class, after, limit",
        ),
        ("/v1/exceptions?kind=a&kind=b", "the parameter `kind` is there twice"),
        ("/v1/entities/order/A/timeline?from=0", "the parameter `from` is `0`"),
        ("/v1/entities/order/A?limit=1", "there is no parameter `limit` here"),
        ("/v1/connectors?limit=1", "there is no parameter `limit` here"),
        ("/v1/search", "send one of the parameters `correlation` and `q`"),
        ("/v1/search?q=a&correlation=b", "send one of the parameters"),
    ] {
        let (status, kind, detail) = console.get(path).await.problem();
        assert_eq!((status, &*kind), (400, "malformed"), "{path}");
        assert!(detail.contains(said), "{path}: {detail}");
    }
    assert_eq!(console.fake.asked(), [""; 0]);
}

#[tokio::test]
async fn a_bad_body_is_refused_with_its_place() {
    let console = open();
    let large = format!(r#"{{"id":"a/b#1","reason":"{}"}}"#, "x".repeat(300_000));
    for (path, body, status, said) in [
        ("/v1/exceptions/retry", "", 400, "the body is empty"),
        ("/v1/exceptions/retry", "{\n  \"id\": }", 400, "expected value at line 2 column 9"),
        ("/v1/exceptions/retry", r#"{"id":"a/b#1"}"#, 400, "missing field `reason` at line 1"),
        ("/v1/exceptions/retry", r#"{"id":"a/b#1","reason":"x","why":1}"#, 400, "unknown field `why`"),
        ("/v1/exceptions/retry", r#"{"id":"a/b#1","reason":" "}"#, 400, "`reason` is empty; say why"),
        ("/v1/exceptions/retry", r#"{"id":"a/b#1","reason":"x","result":1}"#, 400, "a retry takes `set`"),
        (
            "/v1/exceptions/resolve",
            r#"{"id":"a/b#1","reason":"x","set":{}}"#,
            400,
            "resolving takes `result`",
        ),
        ("/v1/connectors/erp/pause", r#"{"reason":""}"#, 400, "say why"),
        ("/v1/exceptions/retry", &large, 413, "longer than 262144 bytes"),
    ] {
        let (found, _, detail) = console.post(path, body).await.problem();
        assert_eq!(found, status, "{path}: {detail}");
        assert!(detail.contains(said), "{path} {said}: {detail}");
    }
    assert_eq!(console.fake.asked(), [""; 0]);
}

#[tokio::test]
async fn what_the_node_refuses_has_its_status() {
    let busy = Refusal::Busy { what: "full".into(), retry_after: 7 };
    for (refusal, status, kind) in [
        (Refusal::NotFound("none".into()), 404, "not-found"),
        (Refusal::Malformed("odd".into()), 400, "malformed"),
        (Refusal::Conflict("closed".into()), 409, "conflict"),
        (busy, 503, "busy"),
        (Refusal::Broken("oh".into()), 500, "broken"),
    ] {
        let said = refusal.to_string();
        let retry_after = if status == 503 { "7" } else { "" };
        let console = Console::open(Fake { refusal: Some(refusal), ..Fake::default() });
        for answer in [
            console.get("/v1/entities/order/A").await,
            console.get("/v1/connectors").await,
            console.post("/v1/exceptions/retry", RETRY).await,
        ] {
            assert_eq!(answer.problem(), (status, kind.to_owned(), said.clone()));
            assert_eq!(answer.header("retry-after"), retry_after);
        }
    }
}

#[tokio::test]
async fn a_rejected_intervention_is_a_conflict_that_holds_the_outcome() {
    let console = Console::open(Fake { rejects: true, ..Fake::default() });
    let answer = console.post("/v1/exceptions/retry", RETRY).await;
    let rejected = (409, "rejected".to_owned(), "the invoice is booked already".to_owned());
    assert_eq!(answer.problem(), rejected);
    let outcome = &answer.json()["outcome"];
    assert_eq!((&outcome["status"], &outcome["seq"]), (&"taxing".into(), &8.into()));
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let console = open();
    for path in ["/v1", "/v1/", "/v2/exceptions", "/v1/entities/order/A/B", "/healthz/"] {
        let (status, kind, detail) = console.get(path).await.problem();
        assert_eq!((status, &*kind), (404, "not-found"), "{path}");
        assert_eq!(detail, format!("there is nothing at GET {path}"));
    }
    for (method, path, allow) in [
        ("DELETE", "/v1/entities/order/A", "GET,HEAD"),
        ("GET", "/v1/exceptions/retry", "POST"),
        ("POST", "/metrics", "GET,HEAD"),
    ] {
        let answer = console.with(method, path, &[], "").await;
        let (status, kind, detail) = answer.problem();
        assert_eq!((status, &*kind), (405, "method-not-allowed"), "{path}");
        assert!(detail.contains(method), "{detail}");
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
}

#[tokio::test]
async fn the_cluster_is_for_viewers_and_a_loss_is_accepted_by_admins() {
    let console = Console::guarded(Fake::default());
    let bearer = |token| [("authorization", token)];
    let seen = console.with("GET", "/v1/cluster", &bearer("Bearer see"), "").await;
    assert_eq!((&seen.json()["holders"][0]["shards"], &seen.json()["free"]), (&255.into(), &1.into()));
    let ask = r#"{"shard": 9, "reason": "restored from the backup of six"}"#;
    for token in ["Bearer see", "Bearer do"] {
        let refused = console.with("POST", "/v1/cluster/accept", &bearer(token), ask).await;
        assert_eq!(refused.problem().0, 403, "{token}");
    }
    let accepted = console.with("POST", "/v1/cluster/accept", &bearer("Bearer rule"), ask).await;
    assert_eq!(accepted.status(), 200);
    assert_eq!(console.fake.asked(), ["accept 9 by root: restored from the backup of six"]);
    let silent = r#"{"shard": 9, "reason": " "}"#;
    let refused = console.with("POST", "/v1/cluster/accept", &bearer("Bearer rule"), silent).await;
    assert_eq!(refused.problem().0, 400);
}

#[tokio::test]
async fn health_is_for_everyone_and_metrics_for_viewers() {
    let console = Console::guarded(Fake::default());
    assert_eq!(console.get("/healthz").await.text(), "ok");
    assert_eq!(console.get("/readyz").await.status(), 200);
    assert_eq!(console.get("/metrics").await.problem().0, 401);
    let metrics = console.with("GET", "/metrics", &[("authorization", "Bearer see")], "").await;
    assert_eq!(metrics.text(), "syncline_residents 12\n");
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4");

    let console = Console::open(Fake { not_ready: Some("the disk is full".into()), ..Fake::default() });
    assert_eq!(console.get("/healthz").await.status(), 200);
    let answer = console.get("/readyz").await;
    assert_eq!(answer.problem(), (503, "not-ready".to_owned(), "the disk is full".to_owned()));
    assert_eq!(answer.header("retry-after"), "2");
}

#[tokio::test]
async fn a_viewer_reads_and_an_operator_decides() {
    let console = Console::guarded(Fake::default());
    let (see, act) = (("authorization", "Bearer see"), ("authorization", "Bearer do"));
    let reads =
        ["/v1/entities/order", "/v1/entities/order/A", "/v1/entities/order/A/timeline", "/v1/search?q=a"];
    for path in reads.into_iter().chain(["/v1/exceptions", "/v1/connectors"]) {
        let nobody = console.get(path).await;
        assert_eq!(nobody.problem().0, 401, "{path}");
        assert_eq!(nobody.header("www-authenticate"), "Bearer", "{path}");
        assert_eq!(console.with("GET", path, &[see], "").await.status(), 200, "{path}");
        assert_eq!(console.with("GET", path, &[act], "").await.status(), 200, "{path}");
    }
    let before = console.fake.asked().len();
    for path in [
        "/v1/exceptions/retry",
        "/v1/exceptions/resolve",
        "/v1/connectors/e/pause",
        "/v1/connectors/e/resume",
    ] {
        assert_eq!(console.post(path, RETRY).await.problem().0, 401, "{path}");
        let (status, kind, detail) = console.with("POST", path, &[see], RETRY).await.problem();
        assert_eq!((status, &*kind), (403, "forbidden"), "{path}");
        assert_eq!(detail, "`grafana` is viewer; this needs the role operator");
    }
    assert_eq!(console.fake.asked().len(), before);
    assert_eq!(console.with("POST", "/v1/exceptions/retry", &[act], RETRY).await.status(), 200);
    assert!(console.fake.asked()[before].contains("by ops"), "the journal says who");
}

#[tokio::test]
async fn a_page_of_another_site_cannot_decide_for_whoever_sits_here() {
    let console = open();
    for from in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        let headers = [("host", "127.0.0.1:7171"), from];
        let answer = console.with("POST", "/v1/exceptions/retry", &headers, RETRY).await;
        assert_eq!(answer.problem().0, 403, "{from:?}");
    }
    assert_eq!(console.fake.asked(), [""; 0]);
}

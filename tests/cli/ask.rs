//! What is asked of a node over HTTP.

use serde_json::{Value, json};

use super::fake::{Fake, nowhere, problem};
use super::program::{Ran, syncline};

/// Runs the words against a node that answers so.
fn ask(fake: &Fake, words: &[&str]) -> Ran {
    syncline(words).env("SYNCLINE_NODE", &fake.url()).run()
}

fn entity() -> Value {
    json!({
        "id": "order/SO-1", "status": "account_hold", "since": "2026-11-23T10:00:00Z", "version": 1, "seq": 2,
        "began_at": "2026-11-23T09:59:00Z", "correlation_id": "flow-1",
        "fields": {"amount": 100, "account_id": "ACC-1"},
        "pending": [{"effect": "1.0", "name": "check_account", "connector": "crm", "operation": "get_account",
            "idempotency_key": "k", "due": "2026-11-23T10:01:00Z", "attempts": 3, "last": "503"}],
        "steps": [{"name": "reserve_stock", "undone": true, "result": {"id": "R-1"}}],
        "timers": {"milestone.booked": "2026-11-23T14:00:00Z"},
        "reached": ["validated"], "missed": [], "waiting": ["shipment.confirmed"],
        "exceptions": [exception()],
    })
}

fn exception() -> Value {
    json!({"id": "order/SO-1#32", "entity": "order/SO-1", "class": "hold", "summary": "account ACC-1 is not active",
        "detail": {"missing": ["ACC-1"]}, "owner": "sales-operations", "opened_at": "2026-11-23T10:00:00Z",
        "correlation_id": "flow-1"})
}

fn outcome(verdict: &str) -> Value {
    json!({"entity": "order/SO-1", "seq": 3, "status": "account_check", "verdict": verdict, "duplicate": false})
}

fn connector(paused: bool) -> Value {
    json!({"name": "erp", "title": "NetSuite", "owner": "finance", "paused": paused, "breaker": "open",
        "in_flight": 2, "waiting": 7, "oldest": "2026-11-23T10:00:00Z"})
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn an_entity_that_is_bound_to_a_region_is_asked_for_by_its_id() {
    let fake = Fake::start(&[("GET /v1/entities/order/@eu:SO-1", 200, entity())]);
    ask(&fake, &["entity", "get", "order/@eu:SO-1"]).ended(0);
}

#[test]
fn an_entity_is_shown_with_all_that_a_person_needs() {
    let fake = Fake::start(&[("GET /v1/entities/order/SO-1", 200, entity())]);
    let ran = ask(&fake, &["entity", "get", "order/SO-1"]).ended(0);
    assert_says(
        &ran.out,
        &["order/SO-1", "account_hold", "flow-1", "account_id", "ACC-1", "milestone.booked"],
    );
    assert_says(
        &ran.out,
        &["order/SO-1#32", "sales-operations", "crm.get_account", "reserve_stock", "undone"],
    );
    assert_eq!(ask(&fake, &["entity", "get", "order/SO-1", "-o", "json"]).ended(0).json(), entity());
}

#[test]
fn money_is_shown_digit_for_digit() {
    let mut text = entity().to_string();
    text = text.replace("\"amount\":100", "\"amount\":1000000000000000.10");
    let fake = Fake::start_raw("GET /v1/entities/order/SO-1", 200, &text);
    for format in ["table", "json"] {
        let ran = ask(&fake, &["entity", "get", "order/SO-1", "-o", format]).ended(0);
        assert_says(&ran.out, &["1000000000000000.10"]);
    }
}

#[test]
fn a_key_with_odd_characters_stays_one_key() {
    let fake = Fake::start(&[("GET /v1/entities/order/a%2Fb%20c%3F", 200, entity())]);
    ask(&fake, &["entity", "get", "order/a/b c?"]).ended(0);
}

/// A board on which one order is late, and an objective has so much left.
fn board(left: f64) -> Value {
    let state = json!({"state": "tax_hold", "open": 3, "late": 1, "oldest": "order/SO-1001",
        "since": "2026-11-23T10:00:00Z", "seconds": 270_000});
    let process = json!({"process": "order", "title": "Order to cash", "owner": "order-management",
        "escalate": "#order-desk", "open": 3, "late": 1, "completed": 200, "in_time": 199, "cancelled": 2, "failed": 0,
        "states": [state]});
    let slo = json!({"name": "order-booked", "title": "Orders are booked in time", "process": "order",
        "milestone": "booked", "within_seconds": 14_400, "target": 0.95, "window_seconds": 2_419_200, "good": 185,
        "bad": 15, "open": 3, "ratio": 0.925, "budget_remaining": left, "owner": "order-management",
        "escalate": "#order-desk"});
    json!({"as_of": "2026-11-23T10:00:00Z", "silent": ["c"], "processes": [process], "slos": [slo]})
}

#[test]
fn processes_are_shown_step_by_step_and_who_did_not_answer() {
    let fake = Fake::start(&[("GET /v1/board", 200, board(0.5))]);
    let ran = ask(&fake, &["processes"]).ended(0);
    assert_says(&ran.out, &["order", "200", "199", "tax_hold", "order/SO-1001"]);
    assert_says(&ran.err, &["without the entities of c, which did not answer"]);
    let json = ask(&fake, &["processes", "-o", "json"]).ended(0).json();
    assert_eq!(json[0]["states"][0]["oldest"], "order/SO-1001");
}

#[test]
fn an_error_budget_that_is_spent_is_told_to_scripts() {
    let fake = Fake::start(&[("GET /v1/board", 200, board(0.5))]);
    let ran = ask(&fake, &["slo"]).ended(0);
    assert_says(&ran.out, &["order-booked", "95.00 %", "92.50 %", "50.00 %", "order-management #order-desk"]);
    let fake = Fake::start(&[("GET /v1/board", 200, board(-0.5))]);
    assert_says(&ask(&fake, &["slo"]).ended(1).out, &["-50.00 %"]);
}

#[test]
fn a_timeline_tells_each_record_and_where_it_goes_on() {
    let entry = |seq: u64, verdict: &str| {
        json!({"seq": seq, "at": "2026-11-23T10:00:00.5Z", "source": "crm", "message_id": "m-1", "kind": "event",
            "name": "order.confirmed", "verdict": verdict, "problem": (verdict == "rejected").then_some("too late"),
            "status": "account_check", "changes": ["began on version 1", "entered account_check"],
            "correlation_id": "flow-1", "evidence_bytes": 12, "prev": "00"})
    };
    let page = json!({"items": [entry(1, "applied"), entry(2, "rejected")], "next": "3"});
    let fake = Fake::start(&[("GET /v1/entities/order/SO-1/timeline", 200, page)]);
    let ran = ask(&fake, &["entity", "timeline", "order/SO-1", "--from", "1"]).ended(0);
    assert_says(
        &ran.out,
        &["order.confirmed", "crm", "account_check", "began on version 1", "too late", "--from 3"],
    );
    assert!(fake.only().line.contains("from=1"), "{:?}", fake.only());
}

#[test]
fn entities_are_listed_in_parts() {
    let head = json!({"id": "order/SO-1", "status": "completed", "seq": 14, "ended": true, "updated_at": "2026-11-23T10:00:00Z"});
    let fake = Fake::start(&[("GET /v1/entities/order", 200, json!({"items": [head], "next": "SO-1"}))]);
    let ran = ask(&fake, &["entity", "list", "order", "--after", "SO-0", "--limit", "1"]).ended(0);
    assert_says(&ran.out, &["order/SO-1", "completed", "14", "--after SO-1"]);
    assert_eq!(fake.only().line, "GET /v1/entities/order?limit=1&after=SO-0");
}

#[test]
fn a_search_that_finds_nothing_is_not_so() {
    let found = Fake::start(&[("GET /v1/search", 200, json!({"items": ["order/SO-1"]}))]);
    assert_eq!(ask(&found, &["search", "flow-1"]).ended(0).out, "order/SO-1\n");
    assert_eq!(ask(&found, &["search", "--correlation", "flow-1"]).ended(0).out, "order/SO-1\n");
    let lines: Vec<String> = found.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["GET /v1/search?q=flow-1", "GET /v1/search?correlation=flow-1"]);
    let nothing = Fake::start(&[("GET /v1/search", 200, json!({"items": []}))]);
    assert_says(&ask(&nothing, &["search", "flow-2"]).ended(1).err, &["nothing belongs to `flow-2`"]);
    assert_eq!(ask(&nothing, &["search", "flow-2", "-o", "json"]).ended(1).json(), json!({"items": []}));
}

#[test]
fn exceptions_are_listed_by_what_was_asked_for() {
    let fake = Fake::start(&[("GET /v1/exceptions", 200, json!({"items": [exception()]}))]);
    let ran = ask(&fake, &["exceptions", "list", "--kind", "order", "--class", "hold"]).ended(0);
    assert_says(&ran.out, &["order/SO-1#32", "hold", "sales-operations", "account ACC-1 is not active"]);
    assert_eq!(fake.only().line, "GET /v1/exceptions?limit=100&kind=order&class=hold");
    let none = Fake::start(&[("GET /v1/exceptions", 200, json!({"items": []}))]);
    assert_eq!(ask(&none, &["exceptions", "list"]).ended(0).out, "nothing waits for a person\n");
}

#[test]
fn a_retry_says_why_and_sets_fields() {
    let fake = Fake::start(&[("POST /v1/exceptions/retry", 200, outcome("applied"))]);
    let words =
        ["exceptions", "retry", "order/SO-1#32", "--reason", "corrected", "--set", "account_id=ACC-2"];
    let more = ["--set", "amount=100.10", "--set", "note=\"7\""];
    let ran = ask(&fake, &[words.as_slice(), &more].concat()).ended(0);
    assert_says(&ran.out, &["order/SO-1", "applied", "account_check"]);
    let body = fake.only().body;
    assert!(body.contains(r#""set":{"account_id":"ACC-2","amount":100.10,"note":"7"}"#), "{body}");
    assert!(body.contains(r#""id":"order/SO-1#32","reason":"corrected""#), "{body}");
}

#[test]
fn a_resolution_carries_its_result() {
    let fake = Fake::start(&[("POST /v1/exceptions/resolve", 200, outcome("applied"))]);
    let words =
        ["exceptions", "resolve", "order/SO-1#32", "--reason", "by hand", "--result", r#"{"id": "9.10"}"#];
    ask(&fake, &words).ended(0);
    assert!(fake.only().body.contains(r#""result":{"id": "9.10"}"#), "{:?}", fake.only());
    let mut wrong = words;
    wrong[6] = "{";
    assert_says(&ask(&fake, &wrong).ended(2).err, &["`{` is not JSON"]);
}

#[test]
fn a_rejection_is_an_answer_and_exit_code_1() {
    let mut rejected = outcome("rejected");
    rejected["problem"] = json!("the order is invoiced");
    let fake = Fake::start(&[("POST /v1/exceptions/retry", 200, rejected)]);
    let ran = ask(&fake, &["exceptions", "retry", "order/SO-1#32", "--reason", "x"]).ended(1);
    assert_says(&ran.out, &["rejected", "the order is invoiced"]);
}

#[test]
fn connectors_are_listed_paused_and_resumed() {
    let fake = Fake::start(&[
        ("GET /v1/connectors", 200, json!({"items": [connector(false)]})),
        ("POST /v1/connectors/erp/pause", 200, connector(true)),
        ("POST /v1/connectors/erp/resume", 200, connector(false)),
    ]);
    assert_says(&ask(&fake, &["connectors", "list"]).ended(0).out, &["erp", "NetSuite", "open", "7"]);
    let ran = ask(&fake, &["connectors", "pause", "erp", "--reason", "maintenance"]).ended(0);
    assert_says(&ran.out, &["paused"]);
    assert_eq!(fake.asked()[1].body, r#"{"reason":"maintenance"}"#);
    ask(&fake, &["connectors", "resume", "erp", "--reason", "done"]).ended(0);
}

#[test]
fn the_token_is_sent_and_only_as_a_reference() {
    let fake = Fake::start(&[("GET /v1/connectors", 200, json!({"items": []}))]);
    let list = ["connectors", "list", "--node", &fake.url()];
    let token = |asked: super::fake::Asked| {
        asked.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned())
    };
    syncline([list.as_slice(), &["--token", "env:MINE"]].concat()).env("MINE", "s3cret").run().ended(0);
    assert_eq!(token(fake.asked()[0].clone()).as_deref(), Some("Bearer s3cret"));
    syncline(list).env("SYNCLINE_TOKEN", "from-there").run().ended(0);
    assert_eq!(token(fake.asked()[1].clone()).as_deref(), Some("Bearer from-there"));
    syncline(list).run().ended(0);
    assert_eq!(token(fake.asked()[2].clone()), None);
    let ran = syncline([list.as_slice(), &["--token", "s3cret"]].concat()).run().ended(2);
    assert_says(&ran.err, &["env:NAME"]);
    let ran = syncline([list.as_slice(), &["--token", "env:NOT_THERE"]].concat()).run().ended(2);
    assert_says(&ran.err, &["the environment variable is not set"]);
    assert_eq!(fake.asked().len(), 3, "nothing was asked without the token");
}

#[test]
fn a_refusal_is_a_sentence_with_what_to_do() {
    for (status, code, title, detail, said) in [
        (401, 3, "The sender is not known", "no token", "--token env:NAME"),
        (403, 3, "Not allowed", "`viewer` may not retry", "`viewer` may not retry"),
        (404, 1, "There is no such thing", "there is no order/SO-9", "there is no order/SO-9"),
        (409, 1, "Not now", "it is closed already", "it is closed already"),
        (400, 2, "The request cannot be read", "`x` is no exception id", "`x` is no exception id"),
        (503, 3, "Too much at once", "draining", "draining"),
        (500, 3, "Broken", "the log says more", "the log says more"),
    ] {
        let fake = Fake::start(&[("GET /v1/entities/order/SO-9", status, problem(status, title, detail))]);
        let ran = ask(&fake, &["entity", "get", "order/SO-9"]).ended(code);
        assert!(ran.err.starts_with("error: ") && ran.err.contains(said), "{status}: {}", ran.err);
        assert!(!ran.err.contains('{'), "plain words: {}", ran.err);
        assert_eq!(ran.out, "");
    }
}

#[test]
fn an_answer_that_is_not_a_nodes_is_told() {
    let fake = Fake::start_raw("GET /v1/connectors", 200, "<html>welcome</html>");
    assert_says(&ask(&fake, &["connectors", "list"]).ended(3).err, &["does not understand"]);
    let fake = Fake::start_raw("GET /v1/connectors", 502, "<html>bad gateway</html>");
    assert_says(&ask(&fake, &["connectors", "list"]).ended(3).err, &["502"]);
}

#[test]
fn a_node_that_is_not_there_is_told_with_what_to_start() {
    let ran = syncline(["exceptions", "list", "--node", &nowhere()]).run().ended(3);
    assert_says(&ran.err, &["nothing answers at http://127.0.0.1:", "`syncline run`", "--node"]);
    for address in ["nonsense", "ftp://x", "http://"] {
        let ran = syncline(["exceptions", "list", "--node", address]).run().ended(2);
        assert_says(&ran.err, &["is no address"]);
    }
}

#[test]
fn an_id_that_is_none_is_told_before_anything_is_asked() {
    let fake = Fake::start(&[]);
    assert_says(
        &ask(&fake, &["entity", "get", "SO-1"]).ended(2).err,
        &["write kind/key, e.g. order/SO-1001"],
    );
    assert!(fake.asked().is_empty());
}

use super::*;

const WHOLE: &str = r##"
connector: erp
title: NetSuite
owner: {team: erp-team, escalate: "#erp"}
base_url: {ref: "env:SYNCLINE_ERP_URL", default: "http://127.0.0.1:7700/erp"}
auth:
  scheme: oauth2_client_credentials
  token_url: /oauth2/token
  client_id: {ref: "env:ERP_ID"}
  client_secret: {ref: "env:ERP_SECRET"}
  scope: rest
  style: basic
limits: {concurrency: 8, rate: 50/s, burst: 10}
timeout: 10s
retry: {base: 200ms, cap: 60s, within: 24h, attempts_max: 50}
breaker: {failures: 8, open_for: 5s}
ordered: true
response_max: 4096
operations:
  create_sales_order:
    method: POST
    path: "/services/rest/record/v1/salesOrder/{input.external_id}"
    query: {q: "'externalId IS \"' + input.external_id + '\"'"}
    headers: {X-NetSuite-idempotency-key: key, Prefer: "'respond-async'"}
    body: {entity: {id: input.customer}, memo: "'made by syncline'", lines: [input.line, 7, true, null]}
    idempotency: header
    key_kept: 24h
    uncertain: probe
    timeout: 30s
    outcomes:
      - {when: "status in [200, 201, 204]", is: ok, result: {id: headers.location}}
      - {when: "status == 400 && body.title == 'Conflict'", is: ok, detail: duplicate, result: {id: input.id}}
      - {when: "status == 401", is: reauthenticate}
      - {when: "status == 429", is: throttled, wait: "headers['ratelimit-reset']"}
      - {when: "status == 503", is: busy}
      - {when: "status >= 400", is: failed, detail: body.message}
    probe: {method: GET, path: /x, found: "status == 200", absent: "status == 404", result: {id: body.id}, after: 3s}
  find: {method: GET, path: /customers, query: {name: input.name}}
  upsert: {method: PUT, path: "/items/eid:{input.sku}", idempotency: natural}
  token: {method: POST, path: /session, form: {user: input.user}, body: ~}
"##;

#[test]
fn a_whole_contract_is_read() {
    let text = WHOLE.replace(", body: ~}", "}");
    let contract = read("erp.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((&*contract.name, &*contract.title, &*contract.owner.escalate), ("erp", "NetSuite", "#erp"));
    assert_eq!((contract.concurrency, contract.response_max, contract.ordered), (8, 4096, true));
    assert_eq!(contract.rate, Some(Rate { calls: 50, per: Duration::from_secs(1), burst: 10 }));
    assert_eq!(contract.retry.attempts_max, 50);
    let create = &contract.operations["create_sales_order"];
    assert_eq!((create.uncertain, create.idempotency), (Uncertain::Probe, Idempotency::Header));
    assert!(create.claims());
    assert_eq!(create.outcomes.len(), 6);
    assert!(matches!(&create.outcomes[1].detail, Some(Detail::Text(text)) if &**text == "duplicate"));
    assert!(matches!(&create.outcomes[5].detail, Some(Detail::Value(_))));
    let find = &contract.operations["find"];
    assert_eq!(
        (find.uncertain, find.idempotency),
        (Uncertain::Resend, Idempotency::Natural),
        "a read may be repeated"
    );
    assert!(matches!(find.request.body, BodyTemplate::None));
    assert!(!contract.operations["upsert"].claims());
    assert_eq!(
        contract.operations["token"].uncertain,
        Uncertain::Hold,
        "without a word for it, nothing is risked"
    );
}

/// Every message for a contract changed in one place.
fn problems(from: &str, to: &str) -> String {
    let text = WHOLE.replace(", body: ~}", "}");
    assert!(text.contains(from), "{from}");
    match read("erp.yaml", &text.replacen(from, to, 1)) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn each_mistake_is_told_with_its_fix() {
    for (from, to, told) in [
        ("result: {id: headers.location}", "result: {id?: headers.location}", "leaves out nothing here"),
        ("connector: erp", "connector: ERP 1", "is no name for a connector"),
        ("owner: {team: erp-team, escalate: \"#erp\"}", "owner: {}", "`team` is missing"),
        ("http://127.0.0.1:7700/erp", "http://erp.example", "plain HTTP"),
        ("http://127.0.0.1:7700/erp", "https://10.0.0.1", "private address"),
        ("http://127.0.0.1:7700/erp", "erp.example", "is no URL"),
        ("\"env:SYNCLINE_ERP_URL\"", "SYNCLINE_ERP_URL", "refers to nothing known"),
        ("client_secret: {ref: \"env:ERP_SECRET\"}", "client_secret: hunter2", "a secret stands in the file"),
        ("{ref: \"env:ERP_SECRET\"}", "{ref: \"env:ERP_SECRET\", default: x}", "a secret has a default"),
        ("scheme: oauth2_client_credentials", "scheme: oauth1", "`oauth1` is not allowed here"),
        ("token_url: /oauth2/token", "token_url: http://login.example/t", "plain HTTP"),
        ("concurrency: 8", "concurrency: 0", "outside of"),
        ("rate: 50/s", "rate: 50", "`50` is no rate"),
        ("rate: 50/s", "rate: 50/d", "is no rate"),
        ("rate: 50/s, ", "", "without a rate"),
        ("timeout: 10s", "timeout: 0s", "a time of zero"),
        ("base: 200ms", "base: 2h", "longer than `cap`"),
        ("method: POST", "method: BREW", "`BREW` is not allowed here"),
        ("path: /customers", "path: customers", "no leading slash"),
        ("path: /customers", "path: \"/customers/{input.id\"", "without `}`"),
        ("path: /customers", "path: \"/customers?x=1\"", "in the path"),
        ("path: /customers", "path: \"/customers/{input.}\"", "operations.find.path"),
        ("path: /customers", "path: \"/customers/{inptu.id}\"", "may name input, key, correlation_id"),
        ("Prefer:", "Authorization:", "credentials stand in an operation"),
        ("Prefer:", "\"Pre fer\":", "is no header name"),
        (
            "X-NetSuite-idempotency-key: key",
            "X-NetSuite-idempotency-key: \"'k'\"",
            "nothing that is sent holds `key`",
        ),
        ("uncertain: probe", "uncertain: guess", "`guess` is not allowed here"),
        ("path: /session", "path: /session, uncertain: resend", "may apply an effect twice"),
        ("path: /session", "path: /session, uncertain: probe", "without a probe"),
        ("path: /session", "path: /session, ask_first: true", "`ask_first` without a probe"),
        ("path: /session", "path: /session, body: input", "both `body` and `form`"),
        ("path: /session", "path: /session, key_kept: 1h", "`key_kept` without"),
        ("path: /session", "path: /session, retries: 3", "the key `retries` is unknown"),
        ("path: /customers", "path: /customers, body: input", "a GET has no body"),
        ("is: busy}", "is: busy, result: {id: body.id}}", "only `is: ok` has a result"),
        ("is: reauthenticate", "is: reauthenticate, wait: \"1\"", "`throttled` wait"),
        ("is: throttled", "is: slow", "`slow` is not allowed here"),
        ("when: \"status == 503\"", "when: \"stauts == 503\"", "may name status"),
        ("{method: GET, path: /x,", "{method: DELETE, path: /x,", "a probe that changes something"),
        ("absent: \"status == 404\", ", "", "`absent` is missing"),
        ("ordered: true", "session: {path: x, take: t}", "no leading slash"),
        ("ordered: true", "session: {path: /x}", "`take` is missing"),
        ("ordered: true", "session: {path: /x, take: \"a b\"}", "is no header name"),
        ("ordered: true", "session: {path: /x, take: t, lasts: 0s}", "a time of zero"),
        ("ordered: true", "subscribes: {customer: {operation: upser, with: {}}}", "did you mean `upsert`?"),
        ("ordered: true", "subscribes: {Customer: {operation: upsert, with: {}}}", "the kind of a record"),
    ] {
        let found = problems(from, to);
        assert!(found.contains(told) && found.contains("fix: "), "{from} → {to}: {found}");
        assert!(found.contains("erp.yaml:"), "{found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
    assert_eq!(problems("ordered: true", "ordered: false"), "");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "connector: erp\nowner: {}\nbase_url: ftp://x\nauth: {scheme: bearer, token: t}\nlimit: {}\noperations:\n  a: {method: GET, path: x}\n  b: {method: GTE, path: /x}\n";
    let found = read("erp.yaml", text).expect_err("it is full of mistakes");
    assert_eq!(found.len(), 6, "{found}");
}

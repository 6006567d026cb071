//! The pages for people.

use syncline::api::Refusal;

use crate::fake::{Answer, Console, Fake};

const SEE: (&str, &str) = ("cookie", "syncline_token=see");
const ACT: (&str, &str) = ("cookie", "theme=dark; syncline_token=do");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const DECISION: &str = "id=order%2FSO-1001%231&reason=unblocked";

fn open() -> Console {
    Console::open(Fake::default())
}

#[track_caller]
fn page(answer: &Answer, status: u16, holds: &[&str]) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'; style-src 'self';"));
    assert_eq!(answer.header("cache-control"), "no-store");
    for text in holds {
        assert!(answer.text().contains(text), "{text} is missing in {}", answer.text());
    }
    assert!(!answer.text().contains("<script") && !answer.text().contains("<b>"), "{}", answer.text());
}

#[tokio::test]
async fn the_first_page_lists_exceptions_by_class_in_plain_words() {
    let console = open();
    for path in ["/", "/exceptions"] {
        let answer = console.get(path).await;
        page(
            &answer,
            200,
            &[
                "<h2>Waits for a decision <span class=\"count\">1</span></h2>",
                "<h2>Not delivered <span class=\"count\">2</span></h2>",
                "<h3>The net total is 0.01 EUR off the sum of the lines</h3>",
                "<a href=\"/entities/order/A%2F7%20%3Cb%3E\">order/A/7 &lt;b&gt;</a>",
                ">2026-11-23 09:12 UTC</time>",
                "<strong>finance-ops</strong>",
                "no owner",
                "<dd>1000000000000000.10</dd>",
                "422: customer 4711 is &lt;blocked&gt;",
                "href=\"/exceptions?after=supplier%2FS-88%234\"",
            ],
        );
        let place = |text: &str| answer.text().find(text).expect("it is there");
        assert!(place("Waits for a decision <") < place("Not delivered <"));
    }
    console.get("/exceptions?class=hold&kind=order&after=order%2FA%231").await;
    let asked = console.fake.asked().pop().expect("it was asked");
    assert_eq!(asked, "exceptions Some(\"order\") Some(\"hold\") Some(\"order/A#1\") Some(100)");
}

#[tokio::test]
async fn processes_are_shown_with_what_is_late_and_what_waits_longest() {
    let answer = open().get("/processes").await;
    let holds = [
        "<a href=\"/processes\">Processes</a>",
        "Order to cash <span class=\"count\">order</span>",
        "<strong>3</strong> under way",
        "<strong>1</strong> late",
        "<strong>200</strong> completed, 99 % in time",
        "owner order-management, #order-desk",
        "<a href=\"/entities/order/SO-1001\">order/SO-1001</a>",
        "<td>3 d 3 h</td>",
        "without the entities of c, which did not answer",
        "href=\"/exceptions?kind=order\"",
    ];
    page(&answer, 200, &holds);
    let guarded = Console::guarded(Fake::default());
    assert_eq!(guarded.get("/processes").await.status(), 401);
}

#[tokio::test]
async fn objectives_are_shown_with_what_is_left_of_their_error_budgets() {
    let answer = open().get("/slo").await;
    let holds = [
        "<a href=\"/slo\">Objectives</a>",
        "Orders are booked in four hours",
        "booked within 4 h",
        "<strong>50 %</strong> of the error budget is left",
        "<strong>99.5 %</strong> in time",
        "<span class=\"nobody\">1 too late</span>",
        "2 may still make it",
        "<strong class=\"nobody\">the error budget is spent</strong>",
        "Waits longest: <a href=\"/entities/order/SO-1001\">order/SO-1001</a>",
    ];
    page(&answer, 200, &holds);
    let guarded = Console::guarded(Fake::default());
    assert_eq!(guarded.get("/slo").await.status(), 401);
}

#[tokio::test]
async fn drift_is_shown_by_kind_with_the_entities_that_wait() {
    let answer = open().get("/drift").await;
    let holds = [
        "<h2>Another type <span class=\"count\">1</span></h2>",
        "<h3><code>/data/Amount</code></h3>",
        "crm <strong>opportunity.confirmed</strong>",
        "12 seen",
        "12 held",
        "11 waiting",
        "should be number &lt;b&gt;",
        "<a href=\"/entities/order/SO-1044\">order/SO-1044</a>",
        "<h3><code>/data/Tier__c</code></h3>",
        "<a href=\"/drift\">Drift</a>",
    ];
    page(&answer, 200, &holds);
    let place = |text: &str| answer.text().find(text).expect("it is there");
    assert!(place("Another type") < place("New fields"), "what holds messages comes first");
    let quiet = Console::open(Fake { is_quiet: true, ..Fake::default() });
    page(&quiet.get("/drift").await, 200, &["Every message is as its schema says."]);
    let guarded = Console::guarded(Fake::default());
    assert_eq!(guarded.get("/drift").await.status(), 401);
}

#[tokio::test]
async fn an_empty_list_says_so() {
    let console = Console::open(Fake { is_quiet: true, ..Fake::default() });
    page(&console.get("/exceptions").await, 200, &["Nothing waits for a person."]);
    page(
        &console.get("/exceptions?class=hold").await,
        200,
        &["Nothing waits for a person with this filter."],
    );
}

#[tokio::test]
async fn an_entity_shows_how_it_stands_and_what_happened() {
    let console = open();
    page(
        &console.get("/entities/order/A%2F7%20%3Cb%3E").await,
        200,
        &[
            "<h1>order/A/7 &lt;b&gt;</h1>",
            "<strong>awaiting invoice</strong>",
            "<dt>customer</dt><dd>Müller &amp; Söhne &lt;GmbH&gt;</dd>",
            "<dt>total</dt><dd>1000000000000000.10</dd>",
            "<td>503: maintenance window</td>",
            "<td>customer</td><td>crm</td><td>hold</td><td>shop</td>",
            "<dt>erp</dt><dd><span class=\"nobody\">failed</span> since ",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "<p class=\"said\">the order is closed</p>",
        ],
    );
    assert_eq!(console.fake.asked(), ["entity order/A/7 <b>", "timeline order/A/7 <b> from 1 limit 50"]);
    page(&console.get("/entities/order/%FF").await, 400, &["That was not understood"]);
    page(&console.get("/entities/order/A?from=x").await, 400, &["`from` is not a record"]);
}

#[tokio::test]
async fn a_search_leads_to_entities() {
    let console = open();
    let answer = console.get("/search?q=SO+1").await;
    page(&answer, 200, &["href=\"/entities/invoice/R%207%2F2\"", "Known by “SO 1”"]);
    page(&console.get("/search?q=supplier/S-88").await, 200, &["href=\"/entities/supplier/S-88\""]);
    page(&console.get("/search?q=").await, 400, &["the search is empty"]);
}

#[tokio::test]
async fn a_decision_is_passed_on_and_leads_back_to_the_list() {
    let console = open();
    let same = [FORM, ("host", "127.0.0.1:7171"), ("origin", "http://127.0.0.1:7171")];
    let sent = format!("{DECISION}&json=%7B%22total%22%3A10.00%7D");
    for (what, option) in [("retry", "set"), ("resolve", "result")] {
        let answer = console.with("POST", &format!("/exceptions/{what}"), &same, &sent).await;
        assert_eq!(answer.status(), 303, "{answer:?}");
        let to = format!("/exceptions?done={what}&id=order%2FSO-1001%231");
        assert_eq!(answer.header("location"), to);
        let asked = console.fake.asked().pop().expect("it was asked");
        let json = r#"Some("{\"total\":10.00}")"#;
        assert_eq!(asked, format!("{what} order/SO-1001#1 by local: unblocked {option} {json}"));
        page(&console.get(&to).await, 200, &["href=\"/entities/order/SO-1001\">order/SO-1001</a>"]);
    }
    for (sent, status, said) in [
        ("id=order%2FSO-1001%231&reason=+", 400, "say why"),
        (&format!("{DECISION}&json=%7B"), 400, "what you wrote is not JSON"),
    ] {
        page(&console.with("POST", "/exceptions/retry", &same, sent).await, status, &[said]);
    }
}

#[tokio::test]
async fn what_is_not_possible_is_a_page_that_says_why() {
    let console = Console::open(Fake { rejects: true, ..Fake::default() });
    let answer = console.with("POST", "/exceptions/resolve", &[FORM], DECISION).await;
    page(&answer, 409, &["That was not possible", "the invoice is booked already"]);
    let refusal = Some(Refusal::NotFound("there is no order/<b>".into()));
    let console = Console::open(Fake { refusal, ..Fake::default() });
    page(&console.get("/entities/order/A").await, 404, &["there is no order/&lt;b&gt;"]);
    page(&console.get("/exceptions").await, 404, &["There is no such thing"]);
}

#[tokio::test]
async fn forms_of_other_sites_do_nothing() {
    for (console, cookie) in [(open(), SEE), (Console::guarded(Fake::default()), ACT)] {
        for from in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
            let headers = [FORM, cookie, ("host", "127.0.0.1:7171"), from];
            for path in ["/exceptions/retry", "/exceptions/resolve"] {
                page(&console.with("POST", path, &headers, DECISION).await, 403, &["page of another site"]);
            }
            page(&console.with("POST", "/login", &headers, "token=do").await, 403, &["nothing was done"]);
            page(&console.with("POST", "/logout", &headers, "").await, 403, &[]);
        }
        assert_eq!(console.fake.asked(), [""; 0]);
    }
}

#[tokio::test]
async fn with_tokens_one_signs_in_once() {
    let console = Console::guarded(Fake::default());
    let form = ["<h1>Sign in</h1>", "name=\"to\" value=\"/entities/order/A%2F7?from=2\""];
    page(&console.get("/entities/order/A%2F7?from=2").await, 401, &form);
    let old = [("cookie", "syncline_token=old")];
    page(&console.with("GET", "/entities/order/A%2F7?from=2", &old, "").await, 401, &form);

    let answer = console.with("POST", "/login", &[FORM], "token=nobody").await;
    page(&answer, 401, &["This token is not known"]);
    assert_eq!(answer.header("set-cookie"), "");
    for (host, end) in [("127.0.0.1:7171", "Max-Age=43200"), ("syncline.example", "Max-Age=43200; Secure")] {
        let headers = [FORM, ("host", host)];
        let answer = console.with("POST", "/login", &headers, "token=+do+&to=%2Fentities%2Forder%2FA").await;
        assert_eq!((answer.status().as_u16(), answer.header("location")), (303, "/entities/order/A"));
        let cookie = format!("syncline_token=do; Path=/; HttpOnly; SameSite=Strict; {end}");
        assert_eq!(answer.header("set-cookie"), cookie);
    }
    page(&console.with("GET", "/exceptions", &[ACT], "").await, 200, &["Try again", "<span>ops</span>"]);
    let out = console.with("POST", "/logout", &[ACT], "").await;
    assert!(
        out.header("set-cookie").starts_with("syncline_token=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    );
    assert_eq!(console.fake.asked().len(), 1, "only who is signed in learns anything");
}

#[tokio::test]
async fn a_link_from_elsewhere_is_asked_once_more_before_one_must_sign_in() {
    let console = Console::guarded(Fake::default());
    let answer = console.with("GET", "/exceptions", &[("sec-fetch-site", "cross-site")], "").await;
    page(&answer, 200, &["http-equiv=\"refresh\"", "href=\"/exceptions\""]);
    let answer = console.with("GET", "/exceptions", &[("sec-fetch-site", "same-origin")], "").await;
    page(&answer, 401, &["Sign in"]);
}

#[tokio::test]
async fn a_viewer_sees_no_forms_and_cannot_send_them() {
    let console = Console::guarded(Fake::default());
    let answer = console.with("GET", "/exceptions", &[SEE], "").await;
    page(&answer, 200, &["<span>grafana</span>"]);
    assert!(!answer.text().contains("Try again"));
    let answer = console.with("POST", "/exceptions/retry", &[FORM, SEE], DECISION).await;
    page(&answer, 403, &["`grafana` may look but not decide"]);
    page(&console.with("POST", "/exceptions/retry", &[FORM], DECISION).await, 401, &["Sign in"]);
    let answer = console.with("POST", "/exceptions/retry", &[FORM, ACT], DECISION).await;
    assert_eq!(answer.status(), 303);
    assert!(console.fake.asked().pop().expect("it was asked").contains("by ops: unblocked"));
}

#[tokio::test]
async fn a_cookie_opens_no_api() {
    let console = Console::guarded(Fake::default());
    assert_eq!(console.with("GET", "/v1/exceptions", &[ACT], "").await.problem().0, 401);
}

#[tokio::test]
async fn without_tokens_pages_are_for_this_machine_only() {
    let answer = open().with("GET", "/exceptions", &[("host", "evil.example")], "").await;
    page(&answer, 403, &["only this machine may ask"]);
}

#[tokio::test]
async fn the_style_is_served() {
    let answer = Console::guarded(Fake::default()).get("/console.css").await;
    assert_eq!(answer.header("content-type"), "text/css; charset=utf-8");
    assert!(answer.text().starts_with(":root {"));
}

//! Quotes, billing, revenue, customer success, HR, payroll and the directory: every operation, and the habits of each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use syncline::clock::{Clock, SystemClock};
use syncline::sandbox::contract::{self, Contract};
use syncline::sandbox::worker::{self, Worker};
use syncline::sandbox::{Fault, Plan, RetryAfter, SECRET, Sandbox, SandboxConfig, USER};
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use crate::faults::once_each;
use crate::operations::CUSTOMER;
use crate::world::World;

const LINES: &str =
    r#"[{"product":"PLAN-1","quantity":3,"price":33.33},{"product":"PLAN-2","quantity":1,"price":0.01}]"#;

fn subscription(fields: &str) -> String {
    format!(
        r#"{{"account":"A-1","subscription":"SUB-1","date":"2026-01-01","start_date":"2026-01-01","end_date":"2026-12-31",
        "lines":{LINES},"amount":100.00{fields}}}"#
    )
}

fn treatment(contract: &str) -> String {
    format!(
        r#"{{"contract":"{contract}","method":"ratable","amount":100.00,"start_date":"2026-01-01","end_date":"2026-12-31",
        "lines":[{{"product":"PLAN-1","amount":100.00}}]}}"#
    )
}

const ENTITLEMENT: &str = r#"{"subscription":"SUB-1","account_id":"ACC-1","level":"premium","status":"active",
    "start_date":"2026-01-01","end_date":"2026-12-31"}"#;

const FORECAST: &str = r#"{"subscription":"SUB-1","account_id":"ACC-1","amount":100.00,"currency":"EUR","renewal_date":"2026-12-31"}"#;

const ENROL: &str = r#"{"engagement":"W-1-E1","name":"Worker 1","start_date":"2026-01-01","salary":52000.50,
    "currency":"EUR","department":"Sales","tax_id":"TAX-1"}"#;

const USER_OF: &str = r#"{"worker":"W-1","user_name":"w.1","name":"Worker 1","department":"Sales"}"#;

/// Everything that changes something, in an order in which it can be done, with its input.
fn changes() -> Vec<(&'static str, String)> {
    let own = |text: &str| text.to_owned();
    let account = r#"{"account":"A-1","name":"ACME","currency":"EUR","email":"a@customer.example",
        "billing":{"street":"Main 1","city":"Berlin","postal_code":"10115","country":"DE"}}"#;
    let profile =
        r#"{"external_id":"SUB-1","customer_id":"CUST-ACC-1","email":"a@b.example","currency":"EUR"}"#;
    vec![
        ("erp.upsert_customer", own(CUSTOMER)),
        ("erp.upsert_invoice_profile", own(profile)),
        ("billing.create_account", own(account)),
        ("billing.create_subscription", subscription("")),
        ("revenue.set_treatment", treatment("SUB-1")),
        ("success.upsert_entitlement", own(ENTITLEMENT)),
        ("success.upsert_forecast", own(FORECAST)),
        (
            "cpq.update_quote",
            own(r#"{"quote_id":"Q-1","status":"Activated","subscription":"SUB-1","reason":""}"#),
        ),
        ("billing.update_subscription", subscription("")),
        ("billing.suspend", subscription("")),
        ("billing.resume", subscription("")),
        ("billing.renew", subscription("")),
        ("billing.cancel_subscription", subscription("")),
        ("billing.delete_account", own(r#"{"account":"A-1"}"#)),
        ("revenue.withdraw_treatment", own(r#"{"contract":"SUB-1"}"#)),
        ("success.delete_entitlement", own(r#"{"subscription":"SUB-1"}"#)),
        ("success.delete_forecast", own(r#"{"subscription":"SUB-1"}"#)),
        ("erp.close_invoice_profile", own(r#"{"external_id":"SUB-1"}"#)),
        ("directory.create_user", own(USER_OF)),
        ("directory.update_user", own(r#"{"id":"usr-W-1","name":"Worker One","department":"Finance"}"#)),
        ("directory.activate_user", own(r#"{"id":"usr-W-1"}"#)),
        ("directory.deactivate_user", own(r#"{"id":"usr-W-1"}"#)),
        ("directory.delete_user", own(r#"{"id":"usr-W-1"}"#)),
        ("payroll.enrol", own(ENROL)),
        (
            "payroll.change",
            own(r#"{"engagement":"W-1-E1","department":"Finance","salary":1.10,"start_date":"2026-01-02"}"#),
        ),
        ("payroll.end", own(r#"{"engagement":"W-1-E1","last_day":"2026-06-30"}"#)),
        ("payroll.rescind", own(r#"{"engagement":"W-1-E1","reason":"other offer"}"#)),
        ("hr.report", own(r#"{"worker":"W-1","type":"Onboarding","date":"2026-01-01"}"#)),
    ]
}

#[tokio::test]
async fn an_answer_that_is_cut_off_ends_in_one_application() {
    let world = World::new().await;
    once_each(&world, &Plan::always(Fault::CommitThenCut).times(2), changes()).await;
    // What knows no key, and what is a job, is asked for and not sent again.
    for (asked, sent) in [
        ("payroll.find_engagement", "payroll.enrol"),
        ("directory.find_user", "directory.create_user"),
        ("hr.find_event", "hr.report"),
        ("revenue.read_treatment", "revenue.set_treatment"),
    ] {
        assert_eq!(world.requests(sent), 1, "{sent}");
        assert!(world.requests(asked) >= 1, "{asked}");
    }
}

#[tokio::test]
async fn a_failure_before_or_after_the_application_ends_in_one_application() {
    let retry_after = RetryAfter::Absent;
    for fault in [
        Fault::CommitThenStatus { code: 500 },
        Fault::CutBefore,
        Fault::Status { code: 503, retry_after },
        Fault::Status { code: 429, retry_after },
    ] {
        let world = World::new().await;
        once_each(&world, &Plan::always(fault).times(1), changes()).await;
    }
}

#[tokio::test]
async fn billing_says_no_with_status_200_and_money_is_exact() {
    let world = World::new().await;
    let one = world.order("SUB-1");
    let early = one.refused("billing.create_subscription", &subscription("")).await;
    assert_eq!(early, "cannot find account A-1");
    one.ok("billing.create_account", &changes()[2].1).await;
    let card = changes()[2].1.replace("ACME", "ACME-BADCARD").replace("A-1", "A-2");
    assert_eq!(one.refused("billing.create_account", &card).await, "The payment method was declined");
    let odd = subscription("").replace("100.00", "99.99");
    let odd = one.refused("billing.create_subscription", &odd).await;
    assert_eq!(odd, "the amount is 99.99, and the lines are 100.00");
    one.ok("billing.create_subscription", &subscription("")).await;
    let kept = one.refused("billing.delete_account", r#"{"account":"A-1"}"#).await;
    assert!(kept.contains("not cancelled"), "{kept}");
    let read = one.ok("billing.get_subscription", r#"{"subscription":"SUB-1"}"#).await;
    assert_eq!(read.get("amount").unwrap().to_json(), "100.00", "not 100: no float in between");
    assert_eq!(
        read.get("lines").unwrap().to_json(),
        Value::from_json(LINES.as_bytes(), 1 << 10).unwrap().to_json()
    );
    one.ok("billing.suspend", &subscription("")).await;
    assert_eq!(one.refused("billing.renew", &subscription("")).await, "subscription SUB-1 is Suspended");
    // Another effect for the same thing is a second subscription, and the ledger tells.
    one.ok("billing.create_subscription", &subscription("")).await;
    assert_eq!(world.sandbox.ledger().violations[0].what, "a second subscription SUB-1");
}

/// Time as the test wants it.
#[derive(Debug)]
struct Hand(Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

impl Hand {
    fn pass(&self, time: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus(time);
    }
}

/// Posts an account to billing under a key: status, and whether it says that it went well.
async fn post(world: &World, base: &str, key: &str, name: &str) -> (u16, bool) {
    let form = format!("grant_type=client_credentials&client_id={USER}&client_secret={SECRET}");
    let token = world.at(base, Method::POST, "/billing/oauth/token", &[], &form).await;
    let token: serde_json::Value = serde_json::from_slice(&token.body).unwrap();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let headers = [("authorization", &*bearer), ("idempotency-key", key)];
    let body = format!(r#"{{"accountNumber":"A-{key}","name":"{name}"}}"#);
    let answer = world.at(base, Method::POST, "/billing/v1/accounts", &headers, &body).await;
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    (answer.status, said["success"] == true)
}

#[tokio::test]
async fn billing_knows_a_key_for_a_day_with_what_it_came_to() {
    let world = World::new().await;
    let clock = Arc::new(Hand(Mutex::new(Timestamp(1_767_225_600_000))));
    let sandbox = Sandbox::start(SandboxConfig::local(clock.clone())).await.unwrap();
    let base = format!("http://{}", sandbox.address());
    assert_eq!(post(&world, &base, "k", "ACME").await, (200, true));
    assert_eq!(post(&world, &base, "no", "ACME-BADCARD").await, (200, false));
    clock.pass(Duration::from_hours(23));
    assert_eq!(post(&world, &base, "k", "ACME").await, (200, true));
    assert_eq!(post(&world, &base, "no", "ACME-BADCARD").await, (200, false));
    assert_eq!(sandbox.summary().total.applied, 1);
    // The refusal stands as long as its key: mended data under the old key are another request.
    assert_eq!(post(&world, &base, "no", "ACME").await, (422, false));
    clock.pass(Duration::from_hours(2));
    assert_eq!(post(&world, &base, "no", "ACME").await, (200, true));
    assert_eq!(post(&world, &base, "k", "ACME").await, (200, true));
    let what: Vec<_> = sandbox.ledger().violations.into_iter().map(|violation| violation.what).collect();
    assert_eq!(what, ["another request under a key that was used", "a second account A-k"]);
}

#[tokio::test]
async fn billing_answers_409_while_a_request_is_under_way_and_its_result_after() {
    let world = World::new().await;
    let clock = Arc::new(Hand(Mutex::new(Timestamp(1_767_225_600_000))));
    let sandbox = Sandbox::start(SandboxConfig::local(clock.clone())).await.unwrap();
    let base = format!("http://{}", sandbox.address());
    let slow = Plan::always(Fault::LateAnswer { ms: 60_000 }).on(&["create_account"]).times(1);
    sandbox.set_faults("billing", vec![slow]).unwrap();
    let (first, second) = tokio::join!(
        async { tokio::time::timeout(Duration::from_secs(2), post(&world, &base, "k", "ACME")).await },
        async {
            while sandbox.summary().total.applied == 0 {
                tokio::task::yield_now().await;
            }
            post(&world, &base, "k", "ACME").await
        }
    );
    assert!(first.is_err(), "the caller gave up");
    assert_eq!(second, (409, false));
    clock.pass(Duration::from_secs(61));
    assert_eq!(post(&world, &base, "k", "ACME").await, (200, true));
    assert_eq!((sandbox.summary().total.applied, sandbox.summary().violations), (1, 0));
}

#[tokio::test]
async fn a_time_out_at_billing_is_resolved_under_the_same_key() {
    let world = World::with(|all| all.get("billing").timeout = Duration::from_millis(200)).await;
    let one = world.order("SUB-1");
    one.ok("billing.create_account", &changes()[2].1).await;
    world
        .faults("billing", Plan::always(Fault::LateAnswer { ms: 900 }).on(&["create_subscription"]).times(1));
    one.ok("billing.create_subscription", &subscription("")).await;
    assert_eq!(world.applied("billing", "create_subscription"), 1);
    assert!(world.requests("billing.create_subscription") >= 3, "409 until it was through");
    assert_eq!(world.sandbox.ledger().violations, []);
}

#[tokio::test]
async fn what_is_read_can_be_put_back_exactly() {
    let world = World::new().await;
    let one = world.order("SUB-1");
    one.ok("revenue.set_treatment", &treatment("SUB-1")).await;
    one.ok("success.upsert_entitlement", ENTITLEMENT).await;
    one.ok("success.upsert_forecast", FORECAST).await;
    let held = || (world.sandbox.held("revenue"), world.sandbox.held("success"));
    let before = held();
    let treated = one.ok("revenue.read_treatment", r#"{"contract":"SUB-1"}"#).await;
    let entitled = one.ok("success.read_entitlement", r#"{"subscription":"SUB-1"}"#).await;
    let forecast = one.ok("success.read_forecast", r#"{"subscription":"SUB-1"}"#).await;
    one.ok("revenue.set_treatment", &treatment("SUB-1").replace("100.00", "7.00")).await;
    one.ok("success.upsert_entitlement", &ENTITLEMENT.replace("premium", "standard")).await;
    one.ok("success.upsert_forecast", &FORECAST.replace("100.00", "7.00")).await;
    assert_ne!(held(), before);
    let with = |value: &Value, extra: &[(&str, Value)]| {
        let mut all = value.clone();
        for (name, value) in extra {
            all.set_path(name, value.clone());
        }
        all.to_json()
    };
    let subscription = ("subscription", Value::from("SUB-1"));
    let account = ("account_id", entitled.get("account").unwrap().clone());
    one.ok("revenue.set_treatment", &with(&treated, &[("contract", Value::from("SUB-1"))])).await;
    one.ok("success.upsert_entitlement", &with(&entitled, &[subscription.clone(), account.clone()])).await;
    one.ok("success.upsert_forecast", &with(&forecast, &[subscription, account])).await;
    assert_eq!(held(), before);
    assert!(one.refused("revenue.read_treatment", r#"{"contract":"SUB-9"}"#).await.contains("SUB-9"));
    assert!(one.refused("success.read_forecast", r#"{"subscription":"SUB-9"}"#).await.contains("SUB-9"));
    let level = one.refused("success.upsert_entitlement", &ENTITLEMENT.replace("premium", "REFUSED")).await;
    assert!(level.starts_with("GSOBJ_1009"), "{level}");
    let product = one.refused("revenue.set_treatment", &treatment("S").replace("PLAN-1", "REFUSED-1")).await;
    assert_eq!(product, "no revenue rule fits product REFUSED-1");
}

#[tokio::test]
async fn quotes_customers_and_profiles_are_read() {
    let world = World::new().await;
    let one = world.order("SUB-1");
    let quote =
        async |id: &str| one.ok("cpq.read_quote", &format!(r#"{{"quote_id":"{id}"}}"#)).await.to_json();
    assert_eq!(quote("Q-1").await, r#"{"id":"Q-1","status":"Approved"}"#);
    assert!(quote("Q-1-DRAFT").await.contains("Draft") && quote("Q-1-DRAFT").await.contains("Approved"));
    assert!(one.refused("cpq.read_quote", r#"{"quote_id":"Q-MISSING"}"#).await.contains("no quote"));
    let profile = changes()[1].1.clone();
    let early = one.refused("erp.upsert_invoice_profile", &profile).await;
    assert!(early.contains("customer"), "{early}");
    one.ok("erp.upsert_customer", CUSTOMER).await;
    one.ok("erp.upsert_customer", &CUSTOMER.replace("ACC-1", "ACC-BLOCKED")).await;
    one.ok("erp.upsert_invoice_profile", &profile).await;
    let read =
        async |call: &str, id: &str| one.ok(call, &format!(r#"{{"external_id":"{id}"}}"#)).await.to_json();
    assert_eq!(read("erp.get_customer", "ACC-1").await, r#"{"active":true,"id":"CUST-ACC-1"}"#);
    assert!(read("erp.get_customer", "ACC-BLOCKED").await.contains("false"));
    assert!(read("erp.get_customer", "ACC-BLOCKED").await.contains("true"));
    assert_eq!(
        read("erp.get_invoice_profile", "SUB-1").await,
        r#"{"active":true,"customer_id":"CUST-ACC-1","id":"IP-SUB-1"}"#
    );
    one.ok("erp.close_invoice_profile", r#"{"external_id":"SUB-1"}"#).await;
    assert!(read("erp.get_invoice_profile", "SUB-1").await.contains("\"active\":false"));
    assert!(one.refused("erp.get_customer", r#"{"external_id":"ACC-9"}"#).await.contains("does not exist"));
}

#[tokio::test]
async fn payroll_waits_while_it_runs_and_the_directory_knows_names() {
    let world = World::new().await;
    let one = world.order("W-1");
    let running = Fault::Status { code: 423, retry_after: RetryAfter::Absent };
    world.faults("payroll", Plan::always(running).on(&["enrol"]).times(2));
    one.ok("payroll.enrol", ENROL).await;
    assert_eq!((world.requests("payroll.enrol"), world.requests("payroll.find_engagement")), (3, 0));
    let nameless = ENROL.replace(r#","tax_id":"TAX-1""#, r#","tax_id":null"#).replace("E1", "E2");
    assert!(one.refused("payroll.enrol", &nameless).await.contains("no tax id"));
    // Another effect for the same engagement pays twice, and the ledger tells.
    one.ok("payroll.enrol", ENROL).await;
    assert_eq!(world.sandbox.ledger().violations[0].what, "a second enrolment of W-1-E1");
    one.ok("directory.create_user", USER_OF).await;
    let taken = one.refused("directory.create_user", &USER_OF.replace("W-1", "W-2")).await;
    assert_eq!(taken, "userName w.1 is taken");
    assert!(one.refused("directory.activate_user", r#"{"id":"usr-W-9"}"#).await.contains("not found"));
    let worker = one.ok("hr.get_worker", r#"{"worker":"W-1-NOTAX"}"#).await;
    assert_eq!(worker.get("tax_id"), Some(&Value::Null));
    let worker = one.ok("hr.get_worker", r#"{"worker":"W-1-NOTAX"}"#).await;
    assert_eq!(worker.get("tax_id"), Some(&Value::from("TAX-W-1-NOTAX")));
}

#[test]
fn every_webhook_of_contracts_and_workers_is_valid() {
    let now = SystemClock.now();
    let mut schemas = BTreeMap::new();
    let mut valid = |source: &str, body: &serde_json::Value| {
        let kind = body["type"].as_str().unwrap().to_owned();
        let path = format!("config/schemas/{source}/{kind}.v1.json");
        let validator = schemas.entry(path.clone()).or_insert_with(|| {
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).unwrap();
            jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
        });
        let wrong: Vec<_> = validator.iter_errors(body).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?} in {body}");
    };
    for number in 0..30 {
        for variant in contract::Variant::ALL {
            let one = Contract::new(number, variant);
            valid("cpq", &one.approved(now));
            valid("cpq", &one.amended(contract::Change { number: 1, refused: true }, now));
            valid("cpq", &one.renewed(now));
            valid("cpq", &one.cancelled("r", now));
            valid("billing", &one.overdue(now));
            valid("billing", &one.paid(now));
        }
        for variant in worker::Variant::ALL {
            let one = Worker::new(number, variant);
            valid("hr", &one.hired(1, "2026-01-01", now));
            valid("hr", &one.changed(now));
            valid("hr", &one.terminated("2026-01-01", now));
            valid("hr", &one.rescinded(now));
            valid("hr", &one.stays(now));
            valid("hr", &one.returned(now));
        }
    }
}

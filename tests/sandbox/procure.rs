//! What procure to pay uses: every operation, what it says no to, and that it is applied once whatever happens to its answer.

use http::Method;
use serde_json::json;
use syncline::sandbox::supplier::{Supplier, Variant};
use syncline::sandbox::{Fault, Plan, SECRET};
use syncline_actors::envelope::OutcomeClass;
use syncline_actors::value::Value;

use crate::world::World;

fn supplier(variant: Variant) -> Supplier {
    Supplier { number: 1, variant }
}

/// A person types something at a screen of the sourcing tool.
fn types(world: &World, supplier: &Supplier, what: &serde_json::Value) {
    let (status, body) = world.sandbox.act("sourcing", Method::PUT, &supplier.screen(), what);
    assert_eq!(status, 200, "{body}");
}

fn vendor(key: &str, tax_id: &str) -> String {
    format!(
        r#"{{"external_id":"{key}","name":"Bolt","email":"a@supplier.example","tax_id":"{tax_id}","country":"DE","currency":"EUR"}}"#
    )
}

fn incident(correlation: &str) -> String {
    format!(r#"{{"correlation_id":"{correlation}","group":"procurement","title":"t","text":"x"}}"#)
}

fn validation(iban: &str) -> String {
    format!(r#"{{"customer":"SUP-00001","holder":"Bolt","country":"DE","iban":"{iban}"}}"#)
}

const POST: &str = r##"{"channel":"#procurement","about":"SUP-00001","text":"t"}"##;

/// Everything that changes something, in an order in which it can be done, with its input.
fn changes(incident_id: &str) -> Vec<(&'static str, String)> {
    let iban = supplier(Variant::Normal).iban();
    let of = |rest: &str| format!(r#"{{"external_id":"SUP-00001",{rest}}}"#);
    let org = of(r#""vendor_id":"VEND-SUP-00001","organisation":"EU01""#);
    vec![
        ("erp.create_vendor", vendor("SUP-00001", "DE1")),
        ("bank.validate", validation(&iban)),
        ("taxreg.check", r#"{"country":"DE","number":"000000001"}"#.to_owned()),
        ("erp.assign_purchasing_org", org.clone()),
        ("erp.set_vendor_bank", of(&format!(r#""iban":"{iban}","holder":"Bolt""#))),
        ("erp.set_vendor_status", of(r#""status":"active""#)),
        ("erp.update_vendor", of(r#""name":"Bolt Nut","email":"b@supplier.example""#)),
        ("erp.set_payment_hold", of(r#""hold":true"#)),
        ("sourcing.report_status", r#"{"number":"SUP-00001","vendor_id":"V","status":"active"}"#.to_owned()),
        (
            "sourcing.restore_bank",
            format!(r#"{{"number":"SUP-00001","iban":"{}"}}"#, supplier(Variant::Normal).new_iban()),
        ),
        ("itsm.create_incident", incident("supplier:SUP-00001")),
        ("itsm.update_incident", format!(r#"{{"id":"{incident_id}","urgency":"1","text":"x"}}"#)),
        ("itsm.resolve_incident", format!(r#"{{"id":"{incident_id}","text":"x"}}"#)),
        ("chat.post", POST.to_owned()),
        ("erp.remove_purchasing_org", org),
    ]
}

/// The incident that the other changes are about: it is there before anything goes wrong.
async fn first_incident(world: &World) -> String {
    let made = world.order("SO-0").ok("itsm.create_incident", &incident("other")).await;
    made.get("id").and_then(Value::as_text).unwrap().to_owned()
}

/// Does everything while each operation meets `plan`, and sees it applied once.
async fn all_once(plan: &Plan) -> World {
    let world = World::new().await;
    types(&world, &supplier(Variant::Normal), &supplier(Variant::Normal).approved());
    let id = first_incident(&world).await;
    let order = world.order("SO-1");
    for (call, input) in changes(&id) {
        let (system, operation) = call.split_once('.').unwrap();
        let before = world.applied(system, operation);
        world.faults(system, plan.clone().on(&[operation]));
        let outcome = order.call(call, &input).await;
        assert_eq!(outcome.class, OutcomeClass::Ok, "{call} under {plan:?}: {outcome:?}");
        assert_eq!(world.applied(system, operation) - before, 1, "{call} under {plan:?}");
        world.sandbox.clear_faults();
    }
    assert_eq!(world.sandbox.ledger().violations, []);
    world
}

#[tokio::test]
async fn an_answer_that_is_cut_off_ends_in_one_application() {
    let world = all_once(&Plan::always(Fault::CommitThenCut).times(2)).await;
    // Where no key is known nothing was sent again: it was looked for.
    for (operation, question) in [
        ("itsm.create_incident", "itsm.find_incident"),
        ("chat.post", "chat.history"),
        ("bank.validate", "bank.get_validation"),
    ] {
        let count = world.sandbox.summary().operations[operation];
        assert_eq!(count.duplicates, 0, "{operation}");
        assert!(world.requests(question) >= 1, "{question}");
    }
}

#[tokio::test]
async fn a_failure_after_the_application_ends_in_one_application() {
    all_once(&Plan::always(Fault::CommitThenStatus { code: 500 }).times(1)).await;
}

#[tokio::test]
async fn a_connection_cut_before_anything_was_applied_is_tried_again() {
    all_once(&Plan::always(Fault::CutBefore).times(2)).await;
}

#[tokio::test]
async fn an_incident_is_looked_for_before_another_is_opened() {
    let world = World::new().await;
    let order = world.order("SO-1");
    let first = order.ok("itsm.create_incident", &incident("supplier:SUP-1")).await;
    // Another effect, as if the process had come to it again: it has a key of its own, and knows nothing of the first.
    let second = order.ok("itsm.create_incident", &incident("supplier:SUP-1")).await;
    assert_eq!(first, second);
    assert_eq!((world.applied("itsm", "create_incident"), world.sandbox.summary().violations), (1, 0));
    let id = first.get("id").and_then(Value::as_text).unwrap();
    order.ok("itsm.resolve_incident", &format!(r#"{{"id":"{id}","text":"done"}}"#)).await;
    let third = order.ok("itsm.create_incident", &incident("supplier:SUP-1")).await;
    assert_ne!(first, third, "what is resolved is over");
    let refused =
        order.refused("itsm.create_incident", &incident("x").replace("procurement", "nobody")).await;
    assert_eq!(refused, "Operation Failed: assignment_group: nobody is no group");
}

#[tokio::test]
async fn who_does_not_look_has_two_incidents() {
    let world = World::new().await;
    let token = world
        .http(
            Method::POST,
            "/itsm/oauth_token.do",
            &[],
            &format!("grant_type=client_credentials&client_id=syncline-sandbox&client_secret={SECRET}"),
        )
        .await;
    let token: serde_json::Value = serde_json::from_slice(&token.body).unwrap();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    for _ in 0..2 {
        let headers = [("authorization", &*bearer), ("x-request-id", "k")];
        let body = r#"{"short_description":"t","correlation_id":"c"}"#;
        let answer = world.http(Method::POST, "/itsm/api/now/table/incident", &headers, body).await;
        assert_eq!(answer.status, 201);
    }
    let told = &world.sandbox.ledger().violations[0];
    assert_eq!(told.what, "a second open incident for c");
}

#[tokio::test]
async fn a_supplier_is_read_as_it_is_now_and_told_what_became_of_it() {
    let world = World::new().await;
    let (order, supplier) = (world.order("SO-1"), supplier(Variant::Incomplete));
    let read = r#"{"number":"SUP-00001"}"#;
    assert_eq!(order.refused("sourcing.get_supplier", read).await, "there is no supplier SUP-00001");
    types(&world, &supplier, &supplier.approved());
    let found = order.ok("sourcing.get_supplier", read).await;
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_text).unwrap().to_owned();
    assert_eq!(
        (text(&found, "tax_id"), text(&found, "insured_until"), text(&found, "updated_by")),
        (String::new(), String::new(), "anna".into())
    );
    assert_eq!(text(&found, "iban"), supplier.iban());
    types(&world, &supplier, &supplier.corrected());
    assert_eq!(text(&order.ok("sourcing.get_supplier", read).await, "tax_id"), "DE000000001");
    let hidden = order.refused("sourcing.get_supplier", r#"{"number":"SUP-HIDDEN"}"#).await;
    assert_eq!(hidden, "the supplier is not visible in this realm", "code 420");
    let (status, _) = world.sandbox.act(
        "sourcing",
        Method::PUT,
        "screen/suppliers/SUP-LOCKED",
        &json!({"status": "active"}),
    );
    assert_eq!(status, 200);
    order.ok("sourcing.get_supplier", r#"{"number":"SUP-LOCKED"}"#).await;
    assert_eq!(world.requests("sourcing.get_supplier"), 6, "code 424 passes");
    let (status, body) =
        world.sandbox.act("sourcing", Method::PUT, &supplier.screen(), &json!({"status": "gone"}));
    assert!(status == 400 && body.contains("must be one of active, inactive, onboarding"), "{body}");
}

#[tokio::test]
async fn bank_accounts_match_or_do_not_and_the_bank_may_take_its_time() {
    let world = World::new().await;
    let order = world.order("SO-1");
    for (variant, verdict) in [
        (Variant::Normal, "match"),
        (Variant::WrongAccount, "no_match"),
        (Variant::UnknownAccount, "unknown_account"),
        (Variant::SlowBank, "match"),
    ] {
        let typed = supplier(variant).approved();
        let result =
            order.ok("bank.validate", &validation(typed["remit-to"]["iban"].as_str().unwrap())).await;
        assert_eq!(result.get("verdict"), Some(&Value::from(verdict)), "{variant:?}");
    }
    assert!(world.requests("bank.get_validation") >= 6, "the slow one was asked for three times");
    let invalid = order.ok("bank.validate", &validation("DE00370400440532013000")).await;
    assert_eq!(invalid.get("verdict"), Some(&Value::from("invalid")));
}

#[tokio::test]
async fn tax_numbers_are_registered_or_not_and_a_member_state_may_be_away() {
    let world = World::new().await;
    let order = world.order("SO-1");
    let check = async |number: &str| {
        order.ok("taxreg.check", &format!(r#"{{"country":"DE","number":"{number}"}}"#)).await
    };
    assert_eq!(check("123456789").await.to_json(), r#"{"consultation":"WAPI000000001","valid":true}"#);
    assert_eq!(check("12345678X").await.get("valid"), Some(&Value::Bool(false)));
    assert_eq!(check("12345678W").await.get("valid"), Some(&Value::Bool(true)));
    assert_eq!(world.requests("taxreg.check"), 4, "the last was away once, with HTTP 200");
    assert_eq!(order.refused("taxreg.check", r#"{"country":"XYZ","number":"1"}"#).await, "INVALID_INPUT");
}

#[tokio::test]
async fn vendors_are_found_by_tax_id_oldest_first_and_not_active_too_early() {
    let world = World::new().await;
    let order = world.order("SO-1");
    for key in ["SUP-2", "SUP-1"] {
        order.ok("erp.create_vendor", &vendor(key, "DE1")).await;
    }
    let found = order.ok("erp.find_vendors", r#"{"tax_id":"DE1"}"#).await;
    assert_eq!(
        found.to_json(),
        r#"{"vendors":[{"external_id":"SUP-2","status":"onboarding"},{"external_id":"SUP-1","status":"onboarding"}]}"#
    );
    let status = r#"{"external_id":"SUP-2","status":"active"}"#;
    order.ok("erp.set_vendor_status", status).await;
    assert_eq!(world.sandbox.ledger().violations[0].what, "SUP-2 was made active without bank details");
    let nobody = r#"{"external_id":"SUP-1","vendor_id":"VEND-SUP-1","organisation":"EU-NONE"}"#;
    assert_eq!(
        order.refused("erp.assign_purchasing_org", nobody).await,
        "Invalid Field Value EU-NONE for: subsidiary"
    );
    assert!(
        order
            .refused("erp.set_vendor_status", &status.replace("SUP-2", "SUP-9"))
            .await
            .contains("does not exist")
    );
}

#[tokio::test]
async fn a_chat_says_no_with_status_200_and_too_fast_with_429() {
    let world = World::new().await;
    let order = world.order("SO-1");
    for (channel, told) in
        [("#nowhere", "channel_not_found"), ("#archived", "is_archived"), ("#private", "not_in_channel")]
    {
        assert_eq!(order.refused("chat.post", &POST.replace("#procurement", channel)).await, told);
    }
    world.faults("chat", Plan::always(Fault::RateLimit { calls: 1, per_ms: 300 }).on(&["post"]));
    for _ in 0..3 {
        order.ok("chat.post", POST).await;
    }
    assert!(world.requests("chat.post") > 6, "some were refused first");
    assert_eq!((world.applied("chat", "post"), world.sandbox.summary().violations), (3, 0));
}

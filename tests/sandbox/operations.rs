//! Every operation that order to cash uses, as the process calls it, with the results that it reads.

use syncline_actors::value::Value;

use crate::world::World;

pub(crate) const CUSTOMER: &str = r#"{"external_id":"ACC-1","name":"Company ACC-1","email":"a@customer.example",
    "parent":"","billing":{"street":"Main 1","city":"Berlin","postal_code":"10115","country":"DE"},
    "shipping":{"street":"Dock 4","city":"Hamburg","postal_code":"20457","country":"DE"}}"#;

pub(crate) fn sales_order(order: &str) -> String {
    format!(
        r#"{{"external_id":"{order}","customer_id":"CUST-ACC-1","reference":"OPP-1","date":"2027-01-02",
        "currency":"EUR","tax":28.50,"total":178.50,
        "lines":[{{"item":"SKU-1","quantity":2,"rate":50.00}},{{"item":"SKU-2","quantity":1,"rate":50.00}}]}}"#
    )
}

pub(crate) fn lines(skus: &[&str]) -> String {
    let lines: Vec<_> = skus.iter().map(|sku| format!(r#"{{"sku":"{sku}","quantity":1}}"#)).collect();
    format!("[{}]", lines.join(","))
}

pub(crate) fn reserve(order: &str, skus: &[&str]) -> String {
    format!(r#"{{"order_number":"{order}","lines":{},"ship_to":{{"country":"DE"}}}}"#, lines(skus))
}

pub(crate) fn ship(order: &str) -> String {
    format!(r#"{{"order_number":"{order}","reservation_id":"R-{order}","ship_to":{{"country":"DE"}}}}"#)
}

pub(crate) fn tax(order: &str, class: &str) -> String {
    format!(
        r#"{{"code":"{order}","date":"2027-01-02","customer_code":"ACC-1","currency":"EUR",
        "ship_to":{{"street":"Dock 4","city":"Hamburg","postal_code":"20457","country":"DE"}},
        "lines":[{{"number":"SKU-1","item_code":"SKU-1","quantity":2,"amount":100.00,"tax_code":"{class}"}},
            {{"number":"SKU-2","item_code":"SKU-2","quantity":1,"amount":50.00,"tax_code":"{class}"}}]}}"#
    )
}

pub(crate) fn ticket(order: &str) -> String {
    format!(
        r#"{{"external_id":"{order}","requester":"a@customer.example","subject":"Order {order}","body":"b","priority":"low"}}"#
    )
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.path(path).and_then(Value::as_text).unwrap_or_else(|| panic!("{path} in {}", value.to_json()))
}

#[tokio::test]
async fn accounts_are_active_or_not_have_parents_or_do_not_exist() {
    let world = World::new().await;
    let order = world.order("SO-1");
    let account = async |id: &str| order.ok("crm.get_account", &format!(r#"{{"account_id":"{id}"}}"#)).await;
    let plain = account("ACC-1").await;
    let unwritten = r#"{"active":true,"billing":null,"email":null,"id":"ACC-1","legal_entity":null,"name":"Company ACC-1","parent_id":null,"phone":null,"shipping":null}"#;
    assert_eq!(plain.to_json(), unwritten);
    assert_eq!(account("ACC-1-INACTIVE").await.get("active"), Some(&Value::Bool(false)));
    let child = account("ACC-1-CHILD").await;
    assert_eq!(account(text(&child, "parent_id")).await.get("active"), Some(&Value::Bool(true)));
    let orphan = account("ACC-1-ORPHAN").await;
    assert_eq!(account(text(&orphan, "parent_id")).await.get("active"), Some(&Value::Bool(false)));
    let detail = order.refused("crm.get_account", r#"{"account_id":"ACC-1-MISSING"}"#).await;
    assert_eq!(detail, "the CRM has no account ACC-1-MISSING");
    assert_eq!(world.sandbox.ledger().entries, [], "reading changes nothing");
    let typed = serde_json::json!({"Email__c": "a@acme.example", "BillingAddress": {"street": "Quay 1", "city": "Kiel", "postalCode": "24103", "countryCode": "DE"}});
    let (status, body) = world.sandbox.act("crm", http::Method::PUT, "screen/accounts/ACC-1", &typed);
    assert!(status < 300, "{body}");
    let written = account("ACC-1").await;
    assert_eq!(written.get("email"), Some(&Value::from("a@acme.example")));
    assert_eq!(written.path("billing.postal_code"), Some(&Value::from("24103")));
}

#[tokio::test]
async fn the_crm_is_told_each_status_with_its_own_fields() {
    let world = World::new().await;
    let order = world.order("SO-1");
    let all = r#""external_id":"SO-1","opportunity_id":"OPP-1","erp_number":"SO10001""#;
    for rest in [
        r#""status":"Booked","total":178.50"#,
        r#""status":"Shipped","invoice_number":"INV1","tracking_number":"T1""#,
        r#""status":"Cancelled","reason":"changed their mind""#,
    ] {
        let result = order.ok("crm.update_order", &format!("{{{all},{rest}}}")).await;
        assert_eq!(text(&result, "id"), "801SO-1");
    }
    assert_eq!(world.applied("crm", "update_order"), 3);
    let twin =
        r#"{"external_id":"A-TWIN","opportunity_id":"O","erp_number":"E","status":"Booked","total":1}"#;
    assert!(order.refused("crm.update_order", twin).await.contains("several orders"));
}

#[tokio::test]
async fn the_erp_books_invoices_and_closes() {
    let world = World::new().await;
    let order = world.order("SO-1");
    let strange = order.refused("erp.create_sales_order", &sales_order("SO-1")).await;
    assert_eq!(strange, "Invalid Field Value CUST-ACC-1 for: entity", "a customer that is not there");
    let customer = order.ok("erp.upsert_customer", CUSTOMER).await;
    assert_eq!(customer.to_json(), r#"{"id":"CUST-ACC-1"}"#);
    let booked = order.ok("erp.create_sales_order", &sales_order("SO-1")).await;
    assert_eq!(booked.to_json(), r#"{"id":"10001","number":"SO10001"}"#);
    let invoice = r#"{"external_id":"SO-1-INV","sales_order_id":"10001","total":178.50}"#;
    let invoiced = order.ok("erp.create_invoice", invoice).await;
    assert_eq!(invoiced.to_json(), r#"{"id":"70001","number":"INV70001"}"#);
    for _ in 0..2 {
        order.ok("erp.close_sales_order", r#"{"id":"10001"}"#).await;
    }
    let late = r#"{"external_id":"SO-1-INV2","sales_order_id":"10001","total":178.50}"#;
    assert!(order.refused("erp.create_invoice", late).await.contains("is closed"));
    assert!(order.refused("erp.close_sales_order", r#"{"id":"9"}"#).await.contains("does not exist"));
    assert_eq!(world.sandbox.ledger().violations, []);
}

#[tokio::test]
async fn tax_is_exact_to_the_cent_and_may_be_refused_and_voided() {
    let world = World::new().await;
    let order = world.order("SO-1");
    let detail = order.refused("tax.calculate", &tax("SO-1", "REFUSED")).await;
    assert!(detail.contains("Tax code 'REFUSED' is invalid"), "{detail}");
    let result = order.ok("tax.calculate", &tax("SO-1", "P0000000")).await;
    assert_eq!(result.to_json(), r#"{"code":"SO-1","total_tax":28.50}"#, "not 28.5: no float in between");
    for _ in 0..2 {
        order.ok("tax.void", r#"{"code":"SO-1"}"#).await;
    }
    assert!(order.refused("tax.void", r#"{"code":"SO-2"}"#).await.contains("was not found"));
}

#[tokio::test]
async fn the_warehouse_says_no_with_status_200() {
    let world = World::new().await;
    let order = world.order("SO-1");
    let early = order.refused("warehouse.ship", &ship("SO-1")).await;
    assert_eq!(early, "not_reserved: nothing is reserved for SO-1");
    let nothing = order.refused("warehouse.reserve", &reserve("SO-1", &[])).await;
    assert_eq!(nothing, "invalid_request: every line needs a sku");
    let partial = order.ok("warehouse.reserve", &reserve("SO-1", &["SKU-1", "BACK-SKU-2"])).await;
    assert_eq!(
        partial.to_json(),
        r#"{"missing":["BACK-SKU-2"],"reservation_id":"R-SO-1","status":"partial"}"#
    );
    let whole = order.ok("warehouse.reserve", &reserve("SO-1", &["SKU-1", "BACK-SKU-2"])).await;
    assert_eq!((text(&whole, "status"), text(&whole, "reservation_id")), ("reserved", "R-SO-1"));
    let never = order.ok("warehouse.reserve", &reserve("SO-1", &["NEVER-1"])).await;
    assert_eq!(text(&never, "status"), "partial");
    for _ in 0..2 {
        order.ok("warehouse.release", r#"{"reservation_id":"R-SO-1"}"#).await;
    }
    let unknown = order.refused("warehouse.release", r#"{"reservation_id":"R-9"}"#).await;
    assert!(unknown.starts_with("unknown_reservation"), "{unknown}");
    assert!(order.refused("warehouse.ship", &ship("SO-1")).await.starts_with("not_reserved"));
    assert!(
        order.refused("warehouse.recall", r#"{"order_number":"SO-1"}"#).await.starts_with("unknown_order")
    );
}

#[tokio::test]
async fn tickets_and_notifications_are_made_and_refused() {
    let world = World::new().await;
    let order = world.order("SO-1");
    let made = order.ok("support.create_ticket", &ticket("SO-1")).await;
    assert_eq!(made.to_json(), r#"{"id":35000}"#);
    let bounced = ticket("SO-1").replace("@customer", "@bounce");
    assert!(order.refused("support.create_ticket", &bounced).await.starts_with("RecordInvalid"));
    let message = r##"{"to":"#order-desk","subject":"late","text":"Order SO-1 is late"}"##;
    order.ok("notify.send", message).await;
    let nowhere = message.replace("#order-desk", "#nowhere");
    assert_eq!(order.refused("notify.send", &nowhere).await, "channel_not_found");
    assert_eq!(world.sandbox.ledger().violations, []);
}

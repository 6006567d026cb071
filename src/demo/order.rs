//! Orders, from the opportunity to the invoice.

use std::sync::Arc;

use syncline_actors::value::Value;

use super::agree::{Audit, Seen};
use super::stage::Stage;
use super::{Must, Stuck, customer};
use crate::clock::{Clock as _, SystemClock};
use crate::sandbox::opportunity::{Opportunity, Variant};

pub(super) const KIND: &str = "order";

const ONCE: &str = "a complete order has everything once";
const UNDONE: &str = "a cancelled order has nothing left";

/// What must hold of orders beside their fields, and what it is about.
pub(super) const CHECKS: [(&str, &str); 2] =
    [(ONCE, "sales order, invoice, shipment, ticket"), (UNDONE, "stock, tax, sales order, shipment")];

/// What a complete order has had done exactly once.
const DONE: [&str; 4] =
    ["erp.create_sales_order", "erp.create_invoice", "warehouse.ship", "support.create_ticket"];

/// What can be undone, and by what.
const UNDONE_BY: [(&str, &str); 4] = [
    ("warehouse.reserve", "warehouse.release"),
    ("warehouse.ship", "warehouse.recall"),
    ("tax.calculate", "tax.void"),
    ("erp.create_sales_order", "erp.close_sales_order"),
];

/// What is special about an order, by its number, and where it must stand.
fn case(number: u64) -> (Variant, &'static [&'static str]) {
    match number % 20 {
        1 | 14 => (Variant::MissingTaxClass, &["completed"]),
        2 => (Variant::InactiveAccount, &["account_hold"]),
        3 => (Variant::ChildAccount, &["completed"]),
        4 => (Variant::MissingAccount, &["completed"]),
        5 => (Variant::Backordered, &["completed"]),
        6 => (Variant::RefusedByTax, &["completed"]),
        // A cancellation that comes too late is rejected.
        7 | 8 | 10 => (Variant::Normal, &["cancelled", "completed"]),
        9 => (Variant::MissingTaxClass, &["cancelled"]),
        12 => (Variant::OrphanAccount, &["account_hold"]),
        _ => (Variant::Normal, &["completed"]),
    }
}

/// An order, by its number.
pub(super) async fn play(stage: Arc<Stage>, number: u64) -> Result<Vec<Must>, Stuck> {
    let (variant, must) = case(number);
    let order = Opportunity::new(number, variant);
    let (key, now) = (order.order_number(), SystemClock.now());
    let id = |what: &str| order.message_id(what);
    let amended = async || stage.send("crm", &order.amended(now), &id("amended")).await;
    let cancelled =
        async || stage.send("crm", &order.cancelled("not wanted any more", now), &id("cancelled")).await;
    let until = async |state: &str| stage.until(KIND, &key, &[state]).await;
    if number % 20 == 11 {
        // It overtakes the order that it amends, and waits in its mailbox.
        amended().await?;
    }
    stage.send("crm", &order.confirmed(now), &id("confirmed")).await?;
    match number % 20 {
        1 | 14 => {
            until("tax_class_missing").await?;
            amended().await?;
        }
        4 => {
            until("account_hold").await?;
            amended().await?;
        }
        5 => stage.release(KIND, &key, "backorder", "completed").await?,
        6 => {
            until("tax_hold").await?;
            amended().await?;
        }
        // Wherever it is.
        7 | 8 | 10 => cancelled().await?,
        9 => {
            until("tax_class_missing").await?;
            cancelled().await?;
        }
        13 => stage.send_again("crm", &order.confirmed(now), &id("confirmed")).await?,
        _ => {}
    }
    let mut musts = vec![stage.ends(KIND, &key, must).await?];
    // An order waits for its customer, unless it is held or cancelled before.
    let customer = Must::new(customer::KIND, &order.account_id(), &["ready"]);
    match must {
        ["account_hold"] => {}
        ["completed"] => musts.push(customer),
        _ => musts.push(customer.or_absent()),
    }
    Ok(musts)
}

/// Everything that stands for an order in five systems, and how often it was done.
pub(super) fn check(audit: &mut Audit, seen: &Seen) {
    match &*seen.state {
        "completed" => {
            once(audit, seen);
            complete(audit, seen);
        }
        "cancelled" => {
            undone(audit, seen);
            cancelled(audit, seen);
        }
        _ => nothing(audit, seen),
    }
}

fn once(audit: &mut Audit, seen: &Seen) {
    for operation in DONE {
        let times = audit.times(operation, seen.key());
        if times != 1 {
            audit.breaks(ONCE, format!("{} has {operation} {times} times", seen.id));
        }
    }
}

fn undone(audit: &mut Audit, seen: &Seen) {
    for (done, undone) in UNDONE_BY {
        let (there, back) = (audit.times(done, seen.key()), audit.times(undone, seen.key()));
        if (there > 0) != (back > 0) || back > 1 {
            audit.breaks(UNDONE, format!("{}: {done} {there} times, {undone} {back} times", seen.id));
        }
    }
}

fn complete(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    let field = |path: &str| seen.field(path);
    let decimal = |path: &str| seen.field(path).as_decimal().unwrap_or_default();
    let total = Value::Decimal(decimal("amount") + decimal("tax_amount"));
    let customer = [("companyName", field("account_name"))];
    audit.agrees(seen, "erp", "customer", &seen.text("account_id"), &customer);
    audit.agrees(
        seen,
        "erp",
        "sales_order",
        key,
        &[
            ("id", field("sales_order_id")),
            ("number", field("sales_order_number")),
            ("closed", Value::Bool(false)),
            ("fields.entity.id", field("customer_id")),
            ("fields.currency.refName", field("currency")),
            ("fields.taxTotal", field("tax_amount")),
            ("fields.total", total.clone()),
        ],
    );
    audit.agrees(
        seen,
        "erp",
        "invoice",
        &format!("{key}-INV"),
        &[("id", field("invoice_id")), ("number", field("invoice_number")), ("fields.total", total.clone())],
    );
    audit.agrees(
        seen,
        "crm",
        "order",
        key,
        &[
            ("Status", Value::from("Shipped")),
            ("ErpNumber__c", field("sales_order_number")),
            ("InvoiceNumber__c", field("invoice_number")),
            ("TrackingNumber__c", field("tracking_number")),
            ("TotalAmount__c", total),
        ],
    );
    let document = [("voided", Value::Bool(false)), ("customerCode", field("account_id"))];
    audit.agrees(seen, "tax", "document", key, &document);
    let reserved = [("state", Value::from("reserved"))];
    audit.agrees(seen, "warehouse", "reservation", &seen.text("reservation_id"), &reserved);
    audit.agrees(seen, "warehouse", "shipment", &seen.text("shipment_id"), &[("state", Value::from("left"))]);
    let subject = Value::list([Value::from(format!("Order {key}"))]);
    audit.agrees(seen, "support", "ticket", key, &[("subjects", subject)]);
}

/// What was done before it was cancelled is undone everywhere.
fn cancelled(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    audit.absent(seen, "erp", "invoice", &format!("{key}-INV"));
    audit.absent(seen, "support", "ticket", key);
    let mut if_there = |system: &str, kind: &str, key: &str, fields: &[(&str, Value)]| {
        if audit.record(system, kind, key).is_some() {
            audit.agrees(seen, system, kind, key, fields);
        }
    };
    let closed = [
        ("id", seen.field("sales_order_id")),
        ("number", seen.field("sales_order_number")),
        ("closed", Value::Bool(true)),
    ];
    if_there("erp", "sales_order", key, &closed);
    if_there("tax", "document", key, &[("voided", Value::Bool(true))]);
    if_there("warehouse", "reservation", &format!("R-{key}"), &[("state", Value::from("released"))]);
    if_there("warehouse", "shipment", &format!("SHP-{key}-1"), &[("state", Value::from("recalled"))]);
    if_there("crm", "order", key, &[("Status", Value::from("Cancelled"))]);
}

/// Of an order that is held at its beginning nobody knows anything.
fn nothing(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    audit.absent(seen, "erp", "sales_order", key);
    audit.absent(seen, "tax", "document", key);
    audit.absent(seen, "warehouse", "reservation", &format!("R-{key}"));
    audit.absent(seen, "crm", "order", key);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_variant_is_among_twenty() {
        let variants: BTreeSet<_> = (1..=20).map(|number| case(number).0).collect();
        assert_eq!(variants, Variant::ALL.into_iter().collect());
    }
}

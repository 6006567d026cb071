//! Orders, from the opportunity to the invoice.

use std::sync::Arc;

use syncline::sandbox::opportunity::{Opportunity, Variant};
use syncline_actors::value::Value;

use crate::Must;
use crate::books::{Books, Seen};
use crate::stage::Stage;

const KIND: &str = "order";

/// An order, by its number.
pub(crate) async fn play(stage: Arc<Stage>, number: u64) -> Vec<Must> {
    let (variant, must): (_, &'static [&'static str]) = match number % 10 {
        0 => (Variant::MissingTaxClass, &["completed"]),
        1 => (Variant::InactiveAccount, &["account_hold"]),
        2 => (Variant::ChildAccount, &["completed"]),
        3 => (Variant::Backordered, &["completed"]),
        4 => (Variant::MissingTaxClass, &["cancelled"]),
        _ => (Variant::Normal, &["completed"]),
    };
    let order = Opportunity::new(number, variant);
    let key = order.order_number();
    let now = Stage::now();
    stage.send("crm", &order.confirmed(now), &order.message_id("confirmed")).await;
    match number % 10 {
        0 | 4 => {
            stage.until(KIND, &key, &["tax_class_missing"]).await;
            let (body, what) = if number.is_multiple_of(10) {
                (order.amended(now), "amended")
            } else {
                (order.cancelled("not wanted any more", now), "cancelled")
            };
            stage.send("crm", &body, &order.message_id(what)).await;
        }
        3 => {
            stage.release(KIND, &key, "backorder", "completed").await;
        }
        _ => {}
    }
    stage.until(KIND, &key, must).await;
    vec![Must::new(KIND, &key, must)]
}

/// Everything that stands for an order in five systems.
pub(crate) fn check(books: &mut Books, seen: &Seen) {
    let key = seen.key();
    if seen.state != "completed" {
        books.absent(seen, "erp", "sales_order", key);
        books.absent(seen, "tax", "document", key);
        if books.record("warehouse", "reservation", &format!("R-{key}")).is_some() {
            let released = [("state", Value::from("released"))];
            books.agrees(seen, "warehouse", "reservation", &format!("R-{key}"), &released);
        }
        return;
    }
    let decimal = |path: &str| seen.field(path).as_decimal().unwrap_or_default();
    let total = Value::Decimal(decimal("amount") + decimal("tax_amount"));
    books.agrees(
        seen,
        "erp",
        "sales_order",
        key,
        &[
            ("id", seen.field("sales_order_id")),
            ("number", seen.field("sales_order_number")),
            ("closed", Value::Bool(false)),
            ("fields.entity.id", seen.field("customer_id")),
            ("fields.currency.refName", seen.field("currency")),
            ("fields.taxTotal", seen.field("tax_amount")),
            ("fields.total", total.clone()),
        ],
    );
    books.agrees(
        seen,
        "erp",
        "invoice",
        &format!("{key}-INV"),
        &[
            ("id", seen.field("invoice_id")),
            ("number", seen.field("invoice_number")),
            ("fields.total", total.clone()),
        ],
    );
    books.agrees(
        seen,
        "crm",
        "order",
        key,
        &[
            ("Status", Value::from("Shipped")),
            ("ErpNumber__c", seen.field("sales_order_number")),
            ("InvoiceNumber__c", seen.field("invoice_number")),
            ("TrackingNumber__c", seen.field("tracking_number")),
            ("TotalAmount__c", total),
        ],
    );
    books.agrees(
        seen,
        "tax",
        "document",
        key,
        &[("voided", Value::Bool(false)), ("customerCode", seen.field("account_id"))],
    );
    books.agrees(
        seen,
        "warehouse",
        "reservation",
        &seen.text("reservation_id"),
        &[("state", Value::from("reserved"))],
    );
    books.agrees(seen, "warehouse", "shipment", &seen.text("shipment_id"), &[("state", Value::from("left"))]);
    let subject = Value::list([Value::from(format!("Order {key}"))]);
    books.agrees(seen, "support", "ticket", key, &[("subjects", subject)]);
}

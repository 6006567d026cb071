//! Orders of the shop, whose customers the second ERP must know before it books them.

use std::sync::Arc;

use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use syncline_actors::value::Value;

use super::agree::{Audit, Seen};
use super::stage::Stage;
use super::{Must, Stuck, customer};

pub(super) const KIND: &str = "shop_order";

/// An order, by its number, with its customer.
struct Order {
    number: u64,
    key: String,
    customer: String,
}

impl Order {
    fn shopper(&self) -> Json {
        let id = 8_000_000 + self.number;
        json!({
            "id": id,
            "admin_graphql_api_id": format!("gid://shopify/Customer/{id}"),
            "multipass_identifier": self.customer,
            "first_name": "Petra",
            "last_name": format!("Muster {}", self.number),
            "email": format!("petra-{}@shop.example", self.number),
            "phone": format!("+49 30 {}", self.number),
            "updated_at": "2026-11-02T10:00:00Z",
        })
    }

    fn paid(&self) -> Json {
        let mut total = Decimal::ZERO;
        let lines: Vec<Json> = (0..=self.number % 3)
            .map(|place| {
                let cents = 199 + (self.number * 37 + place * 501) % 20_000;
                let price = Decimal::new(i64::try_from(cents).unwrap_or(199), 2);
                let quantity = 1 + (self.number + place) % 4;
                total += price * Decimal::from(quantity);
                let sku = format!("SKU-{}", 100 + (self.number + place) % 400);
                json!({"sku": sku, "quantity": quantity, "price": price.to_string()})
            })
            .collect();
        json!({
            "id": self.number,
            "admin_graphql_api_id": format!("gid://shopify/Order/{}", self.number),
            "name": self.key,
            "currency": "EUR",
            "subtotal_price": total.to_string(),
            "line_items": lines,
            "customer": self.shopper(),
        })
    }

    fn cancelled(&self) -> Json {
        json!({"id": self.number, "name": self.key, "cancel_reason": "changed their mind"})
    }
}

/// An order of the shop, by its number.
pub(super) async fn play(stage: Arc<Stage>, number: u64) -> Result<Vec<Must>, Stuck> {
    let order = Order { number, key: format!("D-{number:06}"), customer: format!("SC-{number:06}") };
    let key = order.key.clone();
    let must: &'static [&'static str] =
        if matches!(number % 6, 2 | 3) { &["booked", "cancelled"] } else { &["booked"] };
    let shopper = order.shopper();
    let typed = json!({"firstName": format!("Petra Muster {number}"), "email": shopper["email"], "phone": shopper["phone"]});
    stage.types("shop", &format!("screen/customers/{}", shopper["id"]), &typed)?;
    let tells = async |topic: &'static str, what: &str, body: &Json| {
        stage.shop(topic, &format!("shop-{key}-{what}"), body, what == "paid-again").await
    };
    match number % 6 {
        // The second ERP knows its customer already.
        1 => {
            tells("customers/update", "customer", &shopper).await?;
            stage.until(customer::KIND, &order.customer, &["ready"]).await?;
            tells("orders/paid", "paid", &order.paid()).await?;
        }
        // It is cancelled, wherever it is.
        2 => {
            tells("orders/paid", "paid", &order.paid()).await?;
            tells("orders/cancelled", "cancelled", &order.cancelled()).await?;
        }
        // It is cancelled as soon as it is booked, or before.
        3 => {
            tells("orders/paid", "paid", &order.paid()).await?;
            stage.until(KIND, &key, &["booking", "reporting", "booked"]).await?;
            tells("orders/cancelled", "cancelled", &order.cancelled()).await?;
        }
        // The shop tells it again, as if it were another.
        4 => {
            tells("orders/paid", "paid", &order.paid()).await?;
            tells("orders/paid", "paid-again", &order.paid()).await?;
        }
        _ => tells("orders/paid", "paid", &order.paid()).await?,
    }
    Ok(vec![
        stage.ends(KIND, &key, must).await?,
        stage.ends(customer::KIND, &order.customer, &["ready"]).await?,
    ])
}

/// What the second ERP and the shop hold of an order.
pub(super) fn check(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    let cancelled = seen.state == "cancelled";
    if cancelled && audit.record("s4", "order", key).is_none() {
        let detail = seen.text("sales_order_id");
        return audit.holds(seen, "no sales order", seen.field("sales_order_id").is_null(), &detail);
    }
    let partner = audit.record("s4", "partner", &seen.text("customer"));
    let partner = partner.and_then(|partner| partner.get("BusinessPartner").cloned()).unwrap_or_default();
    audit.holds(seen, "s4 partner", partner == seen.field("sold_to"), &seen.text("sold_to"));
    let lines = seen.field("lines");
    let item = |line: &Value| {
        let of = |name: &str| line.get(name).cloned().unwrap_or_default();
        let item =
            [("Material", of("sku")), ("RequestedQuantity", of("quantity")), ("NetAmount", of("amount"))];
        Value::map(item)
    };
    let items = Value::list(lines.as_list().unwrap_or_default().iter().map(item));
    let closed = |code: &str| if cancelled { Value::from(code) } else { Value::Null };
    audit.agrees(
        seen,
        "s4",
        "order",
        key,
        &[
            ("SalesOrder", seen.field("sales_order_id")),
            ("PurchaseOrderByCustomer", Value::from(key)),
            ("SoldToParty", seen.field("sold_to")),
            ("TransactionCurrency", seen.field("currency")),
            ("TotalNetAmount", seen.field("total")),
            ("to_Item.results", items),
            ("HeaderBillingBlockReason", closed("09")),
            ("SDDocumentReason", closed("ZCA")),
        ],
    );
    if !cancelled {
        let note = Value::from(format!("SAP order {}", seen.text("sales_order_id")));
        let order = [("tags", Value::list([Value::from("booked")])), ("note", note)];
        audit.agrees(seen, "shop", "order", &seen.text("shop_id"), &order);
    }
}

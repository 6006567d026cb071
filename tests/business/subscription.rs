//! Subscriptions and their amendments.

use std::sync::Arc;

use rust_decimal::Decimal;
use syncline::sandbox::contract::{Change, Contract, Variant};
use syncline_actors::value::Value;

use crate::Must;
use crate::books::{Books, Seen};
use crate::stage::Stage;

const KIND: &str = "subscription";

async fn quote(stage: &Stage, contract: &Contract) -> String {
    stage.send("cpq", &contract.approved(Stage::now()), &contract.message_id("approved")).await;
    contract.subscription()
}

/// A subscription's life, by its number.
pub(crate) async fn play(stage: Arc<Stage>, number: u64) -> Vec<Must> {
    let (variant, must): (_, &'static [&'static str]) = match number % 12 {
        0 => (Variant::DraftQuote, &["active"]),
        1 => (Variant::BlockedCustomer, &["active"]),
        2 => (Variant::BadCard, &["activation_hold"]),
        3 => (Variant::NoProfile, &["cancelled"]),
        4 => (Variant::RefusedProduct, &["activation_hold"]),
        6 | 7 | 9 => (Variant::Normal, &["cancelled"]),
        _ => (Variant::Normal, &["active"]),
    };
    let contract = Contract::new(number, variant);
    let key = quote(&stage, &contract).await;
    let until = async |state: &'static str| stage.until(KIND, &key, &[state]).await;
    let (now, id) = (Stage::now(), |what: &str| contract.message_id(what));
    match number % 12 {
        0 => {
            stage.release(KIND, &key, "quote_hold", "active").await;
        }
        1 => {
            stage.release(KIND, &key, "invoice_hold", "active").await;
        }
        3 => {
            until("activation_hold").await;
            stage.send("cpq", &contract.cancelled("not wanted any more", now), &id("cancelled")).await;
        }
        5 => {
            until("active").await;
            stage.send("billing", &contract.overdue(now), &id("overdue")).await;
            until("suspended").await;
            stage.send("billing", &contract.paid(now), &id("paid")).await;
        }
        6 => {
            until("active").await;
            stage.send("billing", &contract.overdue(now), &id("overdue")).await;
            until("suspended").await;
            stage.send("cpq", &contract.cancelled("does not pay", now), &id("cancelled")).await;
        }
        7 => {
            until("active").await;
            stage.send("cpq", &contract.cancelled("moved on", now), &id("cancelled")).await;
        }
        8 => {
            until("active").await;
            stage.send("cpq", &contract.renewed(now), &id("renewed")).await;
            until("active").await;
        }
        9 => stage.send("cpq", &contract.cancelled("a mistake", now), &id("cancelled")).await,
        _ => {}
    }
    stage.until(KIND, &key, must).await;
    vec![Must::new(KIND, &key, must)]
}

/// A subscription with two amendments, one after the other; of some the first is refused by a system, and undone.
pub(crate) async fn amend(stage: Arc<Stage>, number: u64) -> Vec<Must> {
    let contract = Contract { prefix: "AMS".to_owned(), number, variant: Variant::Normal };
    let refused = number.is_multiple_of(4);
    let key = quote(&stage, &contract).await;
    let (first, second) = (contract.amendment(1), contract.amendment(2));
    let one = contract.amended(Change { number: 1, refused }, Stage::now());
    stage.send("cpq", &one, &contract.message_id("amended1")).await;
    // From here on it is in the queue of its subscription, or beyond.
    stage
        .until(
            "amendment",
            &first,
            &["waiting", "reading", "applying", "confirming", "applied", "undoing", "undone_hold"],
        )
        .await;
    let two = contract.amended(Change { number: 2, refused: false }, Stage::now());
    stage.send("cpq", &two, &contract.message_id("amended2")).await;
    let ends: &'static [&'static str] = if refused { &["undone_hold"] } else { &["applied"] };
    stage.until("amendment", &first, ends).await;
    stage.until("amendment", &second, &["applied"]).await;
    stage.until(KIND, &key, &["active"]).await;
    vec![
        Must::new("amendment", &first, ends),
        Must::new("amendment", &second, &["applied"]),
        Must::new(KIND, &key, &["active"]),
    ]
}

/// Everything that stands for a subscription in five systems.
pub(crate) fn check(books: &mut Books, seen: &Seen) {
    if !seen.reached.iter().any(|reached| reached == "active") {
        return undone(books, seen);
    }
    let key = seen.key();
    let ended = seen.state == "cancelled";
    let field = |path: &str| seen.field(path);
    books.agrees(
        seen,
        "billing",
        "subscription",
        key,
        &[
            ("account", field("billing_account")),
            ("status", field("billing_status")),
            ("amount", field("amount")),
            ("lines", field("lines")),
            ("start_date", field("start_date")),
            ("end_date", field("end_date")),
        ],
    );
    books.agrees(
        seen,
        "billing",
        "account",
        &seen.text("billing_account"),
        &[
            ("name", field("name")),
            ("currency", field("currency")),
            ("billToContact.workEmail", field("contact_email")),
            ("billToContact.city", field("billing.city")),
        ],
    );
    books.agrees(
        seen,
        "erp",
        "customer",
        &seen.text("account_id"),
        &[("companyName", field("name")), ("email", field("contact_email"))],
    );
    books.agrees(
        seen,
        "erp",
        "invoice_profile",
        key,
        &[
            ("customer.id", field("customer_id")),
            ("email", field("contact_email")),
            ("isInactive", Value::Bool(ended)),
        ],
    );
    books.agrees(
        seen,
        "success",
        "entitlement",
        key,
        &[
            ("account", field("account_id")),
            ("level", field("level")),
            ("status", field("entitlement_status")),
            ("end_date", field("end_date")),
        ],
    );
    let method = Value::from(if ended { "ended" } else { "ratable" });
    books.agrees(
        seen,
        "revenue",
        "treatment",
        key,
        &[
            ("method", method),
            ("amount", field("amount")),
            ("end_date", field("end_date")),
            ("lines", recognised(seen)),
        ],
    );
    if ended {
        books.absent(seen, "success", "forecast", key);
    } else {
        let forecast = [
            ("account", field("account_id")),
            ("amount", field("amount")),
            ("currency", field("currency")),
            ("renewal_date", field("end_date")),
        ];
        books.agrees(seen, "success", "forecast", key, &forecast);
    }
    let status = Value::from(if ended { "Ended" } else { "Activated" });
    books.agrees(
        seen,
        "cpq",
        "quote",
        &seen.text("quote_id"),
        &[("SBQQ__Status__c", status), ("Subscription__c", Value::from(key))],
    );
}

/// The lines as revenue recognition has them: what each is worth.
fn recognised(seen: &Seen) -> Value {
    let lines = seen.field("lines");
    let line = |line: &Value| {
        let of = |name: &str| line.get(name).and_then(Value::as_decimal).unwrap_or(Decimal::ZERO);
        let product = line.get("product").cloned().unwrap_or_default();
        Value::map([("product", product), ("amount", Value::Decimal(of("quantity") * of("price")))])
    };
    Value::list(lines.as_list().unwrap_or_default().iter().map(line))
}

/// Nothing is left of an activation that was undone.
fn undone(books: &mut Books, seen: &Seen) {
    let key = seen.key();
    books.absent(seen, "billing", "account", &format!("A-{key}"));
    books.absent(seen, "success", "entitlement", key);
    books.absent(seen, "success", "forecast", key);
    books.absent(seen, "revenue", "treatment", key);
    if books.record("billing", "subscription", key).is_some() {
        books.agrees(seen, "billing", "subscription", key, &[("status", Value::from("Cancelled"))]);
    }
    if books.record("erp", "invoice_profile", key).is_some() {
        books.agrees(seen, "erp", "invoice_profile", key, &[("isInactive", Value::Bool(true))]);
    }
}

/// What an amendment changed is checked with its subscription, whose fields it changed; here, what it was told and told itself.
pub(crate) fn check_amendment(books: &mut Books, seen: &Seen) {
    if seen.state == "applied" {
        let quote = [
            ("SBQQ__Status__c", Value::from("Activated")),
            ("Subscription__c", seen.field("subscription_id")),
        ];
        books.agrees(seen, "cpq", "quote", &seen.text("quote_id"), &quote);
    }
    // The second was the last to have its turn: what it says stands.
    if seen.key().ends_with("-AM2") {
        let key = seen.text("subscription_id");
        books.agrees(
            seen,
            "billing",
            "subscription",
            &key,
            &[("amount", seen.field("amount")), ("lines", seen.field("lines"))],
        );
        books.agrees(seen, "success", "entitlement", &key, &[("level", seen.field("level"))]);
        books.agrees(seen, "success", "forecast", &key, &[("amount", seen.field("amount"))]);
        books.agrees(seen, "revenue", "treatment", &key, &[("amount", seen.field("amount"))]);
    }
}

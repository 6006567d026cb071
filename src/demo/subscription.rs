//! Subscriptions, from the approved quote to their end.

use std::sync::Arc;

use rust_decimal::Decimal;
use syncline_actors::value::Value;

use super::agree::{Audit, Seen};
use super::stage::Stage;
use super::{Must, Stuck};
use crate::clock::{Clock as _, SystemClock};
use crate::sandbox::contract::{Contract, Variant};

pub(super) const KIND: &str = "subscription";

/// The quote of a subscription is approved; its key.
pub(super) async fn quote(stage: &Stage, contract: &Contract) -> Result<String, Stuck> {
    stage.send("cpq", &contract.approved(SystemClock.now()), &contract.message_id("approved")).await?;
    Ok(contract.subscription())
}

/// What is special about a subscription, by its number, and where it must stand.
fn case(number: u64) -> (Variant, &'static [&'static str]) {
    match number % 12 {
        0 => (Variant::DraftQuote, &["active"]),
        1 => (Variant::BlockedCustomer, &["active"]),
        2 => (Variant::BadCard, &["activation_hold"]),
        3 => (Variant::NoProfile, &["cancelled"]),
        4 => (Variant::RefusedProduct, &["activation_hold"]),
        6 | 7 | 9 => (Variant::Normal, &["cancelled"]),
        _ => (Variant::Normal, &["active"]),
    }
}

/// A subscription's life, by its number.
pub(super) async fn play(stage: Arc<Stage>, number: u64) -> Result<Vec<Must>, Stuck> {
    let (variant, must) = case(number);
    let contract = Contract::new(number, variant);
    let key = quote(&stage, &contract).await?;
    let until = async |state: &'static str| stage.until(KIND, &key, &[state]).await;
    let (now, id) = (SystemClock.now(), |what: &str| contract.message_id(what));
    match number % 12 {
        0 => {
            stage.release(KIND, &key, "quote_hold", "active").await?;
        }
        1 => {
            stage.release(KIND, &key, "invoice_hold", "active").await?;
        }
        3 => {
            until("activation_hold").await?;
            stage.send("cpq", &contract.cancelled("not wanted any more", now), &id("cancelled")).await?;
        }
        5 => {
            until("active").await?;
            stage.send("billing", &contract.overdue(now), &id("overdue")).await?;
            until("suspended").await?;
            stage.send("billing", &contract.paid(now), &id("paid")).await?;
        }
        6 => {
            until("active").await?;
            stage.send("billing", &contract.overdue(now), &id("overdue")).await?;
            until("suspended").await?;
            stage.send("cpq", &contract.cancelled("does not pay", now), &id("cancelled")).await?;
        }
        7 => {
            until("active").await?;
            stage.send("cpq", &contract.cancelled("moved on", now), &id("cancelled")).await?;
        }
        8 => {
            until("active").await?;
            stage.send("cpq", &contract.renewed(now), &id("renewed")).await?;
            until("active").await?;
        }
        9 => stage.send("cpq", &contract.cancelled("a mistake", now), &id("cancelled")).await?,
        _ => {}
    }
    Ok(vec![stage.ends(KIND, &key, must).await?])
}

/// Everything that stands for a subscription in five systems.
pub(super) fn check(audit: &mut Audit, seen: &Seen) {
    if !seen.reached.iter().any(|reached| reached == "active") {
        return undone(audit, seen);
    }
    let key = seen.key();
    let ended = seen.state == "cancelled";
    let field = |path: &str| seen.field(path);
    audit.agrees(
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
    audit.agrees(
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
    audit.agrees(
        seen,
        "erp",
        "customer",
        &seen.text("account_id"),
        &[("companyName", field("name")), ("email", field("contact_email"))],
    );
    audit.agrees(
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
    audit.agrees(
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
    audit.agrees(
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
        audit.absent(seen, "success", "forecast", key);
    } else {
        let forecast = [
            ("account", field("account_id")),
            ("amount", field("amount")),
            ("currency", field("currency")),
            ("renewal_date", field("end_date")),
        ];
        audit.agrees(seen, "success", "forecast", key, &forecast);
    }
    let status = Value::from(if ended { "Ended" } else { "Activated" });
    audit.agrees(
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
fn undone(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    audit.absent(seen, "billing", "account", &format!("A-{key}"));
    audit.absent(seen, "success", "entitlement", key);
    audit.absent(seen, "success", "forecast", key);
    audit.absent(seen, "revenue", "treatment", key);
    if audit.record("billing", "subscription", key).is_some() {
        audit.agrees(seen, "billing", "subscription", key, &[("status", Value::from("Cancelled"))]);
    }
    if audit.record("erp", "invoice_profile", key).is_some() {
        audit.agrees(seen, "erp", "invoice_profile", key, &[("isInactive", Value::Bool(true))]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_variant_is_among_twelve() {
        let variants: BTreeSet<_> = (1..=12).map(|number| case(number).0).collect();
        assert_eq!(variants, Variant::ALL.into_iter().collect());
    }
}

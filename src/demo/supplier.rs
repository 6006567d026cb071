//! Suppliers, from the approval in the sourcing tool to an active vendor, their bank details, and the end.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use syncline_actors::id::EntityId;
use syncline_actors::mask::masked;
use syncline_actors::value::Value;

use super::agree::{Audit, Seen};
use super::stage::Stage;
use super::{Must, Stuck};
use crate::sandbox::supplier::{Supplier, Variant};

pub(super) const KIND: &str = "supplier";

const CHECKED: &str = "no vendor is active unchecked";
const HIDDEN: &str = "no bank account is shown whole";

/// What must hold of suppliers beside their fields, and what it is about.
pub(super) const CHECKS: [(&str, &str); 2] = [
    (CHECKED, "account validated, tax id checked, no incident left open"),
    (HIDDEN, "in pages, API and command line"),
];

const APPROVE: &str = "supplier.approve_bank_change";
const REJECT: &str = "supplier.reject_bank_change";

/// What is special about a supplier, by its number, and where it must stand.
fn case(number: u64) -> (Variant, &'static [&'static str]) {
    match number % 16 {
        0 => (Variant::WrongAccount, &["active", "refused"]),
        1 | 15 => (Variant::Incomplete, &["active"]),
        2 => (Variant::WrongAccount, &["active"]),
        3 => (Variant::UnknownAccount, &["bank_hold"]),
        4 => (Variant::SlowBank, &["active"]),
        5 => (Variant::Unregistered, &["active"]),
        6 => (Variant::SlowRegistry, &["active"]),
        9 => (Variant::Twin, &["refused"]),
        10 => (Variant::Unwanted, &["refused"]),
        12 => (Variant::Normal, &["offboarded"]),
        _ => (Variant::Normal, &["active"]),
    }
}

/// A supplier, by its number.
pub(super) async fn play(stage: Arc<Stage>, number: u64) -> Result<Vec<Must>, Stuck> {
    let (variant, must) = case(number);
    let supplier = Supplier { number, variant };
    let key = supplier.key();
    let until = async |state: &'static str| stage.until(KIND, &key, &[state]).await;
    let types = |what: &Json| stage.types("sourcing", &supplier.screen(), what);
    if variant == Variant::Twin {
        let before = Supplier { number: number - 1, variant: Variant::Normal };
        stage.until(KIND, &before.key(), &["active"]).await?;
    }
    types(&supplier.approved())?;
    match number % 16 {
        // Somebody puts it right while somebody else gives it up.
        0 => {
            until("bank_hold").await?;
            types(&supplier.corrected())?;
            stage.command(KIND, &key, "supplier.withdraw").await?;
        }
        1 => {
            until("compliance_hold").await?;
            types(&supplier.corrected())?;
        }
        2 => {
            until("bank_hold").await?;
            types(&supplier.corrected())?;
        }
        5 => {
            until("tax_hold").await?;
            types(&supplier.corrected())?;
        }
        7 => {
            until("active").await?;
            types(&supplier.moved_wrongly())?;
            stage.decide(KIND, &key, "change_hold", REJECT).await?;
        }
        8 => {
            until("active").await?;
            types(&json!({"name": renamed(number), "primary-contact": {"email": mail(number)}}))?;
            stage.when(KIND, &key, |fields| fields.path("email") == Some(&Value::from(mail(number)))).await?;
        }
        9 => stage.decide(KIND, &key, "duplicate_hold", "supplier.withdraw").await?,
        11 => {
            until("active").await?;
            types(&supplier.moved())?;
            stage.decide(KIND, &key, "approval", APPROVE).await?;
        }
        12 => {
            until("active").await?;
            types(&supplier.ended())?;
        }
        13 => {
            until("active").await?;
            types(&supplier.moved())?;
            stage.decide(KIND, &key, "approval", REJECT).await?;
        }
        14 => {
            until("active").await?;
            types(&supplier.moved_wrongly())?;
            until("change_hold").await?;
            types(&supplier.moved())?;
            stage.decide(KIND, &key, "approval", APPROVE).await?;
        }
        // Put right before anybody has looked: what is told of it may come in any order.
        15 => types(&supplier.corrected())?,
        _ => {}
    }
    Ok(vec![stage.ends(KIND, &key, must).await?])
}

fn renamed(number: u64) -> String {
    format!("Bolt and Nut and Sons {number}")
}

fn mail(number: u64) -> String {
    format!("accounts-{number}@supplier.example")
}

/// What the sourcing tool, ERP, bank, tax registration, service desk and chat hold of a supplier.
pub(super) fn check(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    audit.hidden(HIDDEN, seen);
    let told = match &*seen.state {
        "active" | "refused" | "offboarded" => Value::from(&*seen.state),
        _ => Value::Null,
    };
    let field = |path: &str| seen.field(path);
    let number = if field("vendor_id").is_null() { Value::from("") } else { field("vendor_id") };
    audit.agrees(
        seen,
        "sourcing",
        "supplier",
        key,
        &[
            ("name", field("name")),
            ("status", field("status")),
            ("tax-id", field("tax_id")),
            ("country", field("country")),
            ("currency", field("currency")),
            ("primary-contact.email", field("email")),
            ("insured-until", field("insured_until")),
            ("purchasing-org", field("purchasing_org")),
            ("erp-status", told.clone()),
            ("erp-number", if told.is_null() { Value::Null } else { number }),
        ],
    );
    vendor(audit, seen);
    account(audit, seen);
    if matches!(&*seen.state, "active" | "offboarded") {
        checked(audit, seen);
        audit.agrees(
            seen,
            "taxreg",
            "consultation",
            &seen.text("tax_id"),
            &[("", seen.field("tax_consultation"))],
        );
    }
    let ticket = seen.text("ticket_id");
    if !matches!(&*ticket, "" | "null" | "none") {
        let about = Value::from(format!("supplier:{key}"));
        let incident = [("correlation_id", about), ("state", Value::from("6"))];
        audit.agrees(seen, "itsm", "incident", &ticket, &incident);
    }
    said(audit, seen);
}

/// The vendor in the ERP.
fn vendor(audit: &mut Audit, seen: &Seen) {
    let status = match &*seen.state {
        "active" | "offboarded" => &*seen.state,
        "refused" => "withdrawn",
        _ => "onboarding",
    };
    if seen.field("vendor_id").is_null() {
        return audit.absent(seen, "erp", "vendor", seen.key());
    }
    let buys = if seen.state == "active" { vec![seen.field("purchasing_org")] } else { Vec::new() };
    audit.agrees(
        seen,
        "erp",
        "vendor",
        seen.key(),
        &[
            ("companyName", seen.field("name")),
            ("email", seen.field("email")),
            ("vatRegNumber", seen.field("tax_id")),
            ("country.id", seen.field("country")),
            ("currency.refName", seen.field("currency")),
            ("isInactive", Value::Bool(seen.state != "active")),
            ("custentity_status", Value::from(status)),
            ("custentity_payment_hold", Value::Bool(seen.state == "offboarded")),
            ("purchasingOrgs", Value::list(buys)),
        ],
    );
}

/// The account it is paid to: the entity is shown with its end only, and the systems have it whole.
fn account(audit: &mut Audit, seen: &Seen) {
    let of = |system: &str, kind: &str, path: &str| {
        let found = audit.record(system, kind, seen.key());
        found.and_then(|record| record.path(path).cloned()).unwrap_or_default().to_plain_text()
    };
    let bought = of("sourcing", "supplier", "remit-to.iban");
    let ours = seen.text("iban");
    // One that was given up may have been put right since.
    if seen.state != "refused" || !number(seen).is_multiple_of(16) {
        let detail = format!("entity {ours}, system {}", masked(&bought));
        audit.holds(seen, "sourcing supplier remit-to.iban", masked(&bought) == ours, &detail);
    }
    if !matches!(&*seen.state, "active" | "offboarded") {
        return;
    }
    let paid = paid_to(number(seen));
    audit.agrees(seen, "sourcing", "supplier", seen.key(), &[("remit-to.iban", Value::from(&*paid))]);
    let vendor = [
        ("bankDetails.iban", Value::from(&*paid)),
        ("bankDetails.holder", Value::from(format!("Bolt and Nut {}", number(seen)))),
    ];
    audit.agrees(seen, "erp", "vendor", seen.key(), &vendor);
    let validated = [("customer", Value::from(seen.key())), ("verdict", Value::from("match"))];
    audit.agrees(seen, "bank", "account", &paid, &validated);
}

/// The account that a supplier must be paid to in the end, by its number.
fn paid_to(number: u64) -> String {
    let supplier = Supplier { number, variant: case(number).0 };
    match number % 16 {
        4 => typed_account(&supplier.approved()).unwrap_or_default(),
        11 | 14 => supplier.new_iban(),
        _ => supplier.iban(),
    }
}

fn typed_account(typed: &Json) -> Option<String> {
    typed["remit-to"]["iban"].as_str().map(str::to_owned)
}

/// Every account that a supplier was ever said to have: nobody may be shown one of them whole.
pub(super) fn accounts(id: &EntityId) -> Vec<String> {
    let number = number_of(id.key());
    let supplier = Supplier { number, variant: case(number).0 };
    let typed = [supplier.approved(), supplier.moved(), supplier.moved_wrongly()];
    typed.iter().filter_map(typed_account).chain([supplier.iban()]).collect()
}

/// Somebody has validated its account, and somebody has checked its tax id.
fn checked(audit: &mut Audit, seen: &Seen) {
    if audit.times("bank.validate", seen.key()) == 0 {
        audit.breaks(CHECKED, format!("{} is {}, and nobody validated its account", seen.id, seen.state));
    }
    let vendor = audit.record("erp", "vendor", seen.key()).unwrap_or_default();
    let tax_id = vendor.path("vatRegNumber").cloned().unwrap_or_default().to_plain_text();
    if audit.times("taxreg.check", &tax_id) == 0 {
        audit.breaks(
            CHECKED,
            format!("{} is {}, and nobody checked its tax id {tax_id}", seen.id, seen.state),
        );
    }
}

/// No incident about a supplier is left open.
pub(super) fn incidents(audit: &mut Audit) {
    let of = |incident: &Value, path: &str| incident.path(path).cloned().unwrap_or_default().to_plain_text();
    let incidents = audit.records("itsm", "incident").filter(|incident| of(incident, "state") != "6");
    let about = incidents.map(|incident| of(incident, "correlation_id"));
    let open: Vec<_> = about.filter(|about| about.starts_with("supplier:")).collect();
    for about in open {
        audit.breaks(CHECKED, format!("{about} has an open incident"));
    }
}

fn number(seen: &Seen) -> u64 {
    number_of(seen.key())
}

fn number_of(key: &str) -> u64 {
    key.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// What people were told in the chat, each once.
fn said(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    let mut once = |text: String, channel: &str| {
        let channels = Value::list([Value::from(channel)]);
        audit.agrees(seen, "chat", "said", &text, &[("channels", channels)]);
    };
    match &*seen.state {
        "refused" => {
            let why = seen.text("rejected_because");
            return once(format!("Supplier {key} is not taken on: {why}"), "#procurement");
        }
        "active" | "offboarded" => {
            let (name, vendor) = (format!("Bolt and Nut {}", number(seen)), seen.text("vendor_id"));
            once(format!("Supplier {key} ({name}) is active as {vendor}"), "#procurement");
        }
        _ => {}
    }
    if !seen.field("approved_by").is_null() {
        let (iban, by) = (seen.text("iban"), seen.text("approved_by"));
        once(format!("Supplier {key} is paid to {iban}, approved by {by}"), "#treasury");
    } else if !seen.field("rejected_because").is_null() {
        let why = seen.text("rejected_because");
        let text = format!("The new bank details of supplier {key} are rejected ({why}); the old ones stand");
        once(text, "#treasury");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_variant_is_among_sixteen() {
        let variants: BTreeSet<_> = (1..=16).map(|number| case(number).0).collect();
        assert_eq!(variants, Variant::ALL.into_iter().collect());
    }
}

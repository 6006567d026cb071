//! Suppliers, from the approval in the sourcing tool to an active vendor, their bank details, and the end.

use std::sync::Arc;

use syncline::sandbox::supplier::{Supplier, Variant};
use syncline_actors::mask::masked;
use syncline_actors::value::Value;

use crate::Must;
use crate::books::{Books, Seen};
use crate::stage::Stage;

const KIND: &str = "supplier";

const APPROVE: &str = "supplier.approve_bank_change";
const REJECT: &str = "supplier.reject_bank_change";

/// A supplier, by its number.
pub(crate) async fn play(stage: Arc<Stage>, number: u64) -> Vec<Must> {
    let (variant, must): (_, &'static [&'static str]) = match number % 16 {
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
    };
    let supplier = Supplier { number, variant };
    let key = supplier.key();
    let until = async |state: &'static str| stage.until(KIND, &key, &[state]).await;
    let types = |what: &serde_json::Value| stage.types("sourcing", &supplier.screen(), what);
    if variant == Variant::Twin {
        let before = Supplier { number: number - 1, variant: Variant::Normal };
        stage.until(KIND, &before.key(), &["active"]).await;
    }
    types(&supplier.approved());
    match number % 16 {
        // Somebody puts it right while somebody else gives it up.
        0 => {
            until("bank_hold").await;
            types(&supplier.corrected());
            stage.command(KIND, &key, "supplier.withdraw").await;
        }
        1 => {
            until("compliance_hold").await;
            types(&supplier.corrected());
        }
        2 => {
            until("bank_hold").await;
            types(&supplier.corrected());
        }
        5 => {
            until("tax_hold").await;
            types(&supplier.corrected());
        }
        7 => {
            until("active").await;
            types(&supplier.moved_wrongly());
            stage.decide(KIND, &key, "change_hold", REJECT).await;
        }
        8 => {
            until("active").await;
            types(&serde_json::json!({"name": renamed(number), "primary-contact": {"email": mail(number)}}));
            stage.when(KIND, &key, |fields| fields.path("email") == Some(&Value::from(mail(number)))).await;
        }
        9 => stage.decide(KIND, &key, "duplicate_hold", "supplier.withdraw").await,
        11 => {
            until("active").await;
            types(&supplier.moved());
            stage.decide(KIND, &key, "approval", APPROVE).await;
        }
        12 => {
            until("active").await;
            types(&supplier.ended());
        }
        13 => {
            until("active").await;
            types(&supplier.moved());
            stage.decide(KIND, &key, "approval", REJECT).await;
        }
        14 => {
            until("active").await;
            types(&supplier.moved_wrongly());
            until("change_hold").await;
            types(&supplier.moved());
            stage.decide(KIND, &key, "approval", APPROVE).await;
        }
        // Put right before anybody has looked: what is told of it may come in any order.
        15 => types(&supplier.corrected()),
        _ => {}
    }
    stage.until(KIND, &key, must).await;
    vec![Must::new(KIND, &key, must)]
}

fn renamed(number: u64) -> String {
    format!("Bolt and Nut and Sons {number}")
}

fn mail(number: u64) -> String {
    format!("accounts-{number}@supplier.example")
}

/// What the sourcing tool, ERP, bank, tax registration, service desk and chat hold of a supplier.
pub(crate) fn check(books: &mut Books, seen: &Seen) {
    let key = seen.key();
    let told = match &*seen.state {
        "active" | "refused" | "offboarded" => Value::from(&*seen.state),
        _ => Value::Null,
    };
    let field = |path: &str| seen.field(path);
    let number = if field("vendor_id").is_null() { Value::from("") } else { field("vendor_id") };
    books.agrees(
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
    vendor(books, seen);
    account(books, seen);
    if matches!(&*seen.state, "active" | "offboarded") {
        books.agrees(
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
        books.agrees(seen, "itsm", "incident", &ticket, &incident);
    }
    said(books, seen);
}

/// The vendor in the ERP.
fn vendor(books: &mut Books, seen: &Seen) {
    let status = match &*seen.state {
        "active" | "offboarded" => &*seen.state,
        "refused" => "withdrawn",
        _ => "onboarding",
    };
    if seen.field("vendor_id").is_null() {
        return books.absent(seen, "erp", "vendor", seen.key());
    }
    let buys = if seen.state == "active" { vec![seen.field("purchasing_org")] } else { Vec::new() };
    books.agrees(
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
fn account(books: &mut Books, seen: &Seen) {
    let of = |system: &str, kind: &str, path: &str| {
        let found = books.record(system, kind, seen.key());
        found.and_then(|record| record.path(path).cloned()).unwrap_or_default().to_plain_text()
    };
    let bought = of("sourcing", "supplier", "remit-to.iban");
    let ours = seen.text("iban");
    // One that was given up may have been put right since.
    if seen.state != "refused" || !number(seen).is_multiple_of(16) {
        books.holds(seen, "sourcing supplier iban", masked(&bought) == ours, &format!("{ours}, {bought}"));
    }
    if !matches!(&*seen.state, "active" | "offboarded") {
        return;
    }
    let vendor = [
        ("bankDetails.iban", Value::from(&*bought)),
        ("bankDetails.holder", Value::from(format!("Bolt and Nut {}", number(seen)))),
    ];
    books.agrees(seen, "erp", "vendor", seen.key(), &vendor);
    let validated = [("customer", Value::from(seen.key())), ("verdict", Value::from("match"))];
    books.agrees(seen, "bank", "account", &bought, &validated);
}

fn number(seen: &Seen) -> u64 {
    seen.key().rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// What people were told in the chat, each once.
fn said(books: &mut Books, seen: &Seen) {
    let key = seen.key();
    let mut once = |text: String, channel: &str| {
        let channels = Value::list([Value::from(channel)]);
        books.agrees(seen, "chat", "said", &text, &[("channels", channels)]);
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

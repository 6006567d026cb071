//! Customers: what CRM, ERP and shop say of them, in any order, and what each of the others is told.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value as Json, json};
use syncline_actors::value::Value;

use super::agree::{Audit, Seen};
use super::stage::Stage;
use super::{Must, Stuck};
use crate::clock::{Clock as _, SystemClock};

pub(super) const KIND: &str = "customer";

/// A customer, by its number.
#[derive(Debug, Clone)]
struct Customer {
    key: String,
    number: u64,
    /// Which of our companies it buys from.
    company: &'static str,
}

impl Customer {
    fn screen(&self) -> String {
        format!("screen/accounts/{}", self.key)
    }

    /// Everything that the CRM knows, as it was typed `what` time.
    fn account(&self, what: &str) -> Json {
        let address = |street: &str| {
            json!({"street": format!("{street} {what}"), "city": "Hamburg",
                "postalCode": format!("{:05}", 10_000 + self.number % 80_000), "countryCode": "DE"})
        };
        json!({
            "Name": format!("Customer {} {what}", self.number),
            "Email__c": self.mail(what),
            "Phone": format!("+49 40 {} {}", self.number, what.len()),
            "LegalEntity__c": self.company,
            "BillingAddress": address("Market Street"),
            "ShippingAddress": address("Dock"),
        })
    }

    fn mail(&self, what: &str) -> String {
        format!("{}-{what}@customer.example", self.key.to_lowercase())
    }

    /// As the shop tells it: the name is what the CRM calls it `what` time.
    fn shopper(&self, what: &str, mail: &str, phone: &str) -> Json {
        let id = 9_000_000 + self.number;
        json!({
            "id": id,
            "admin_graphql_api_id": format!("gid://shopify/Customer/{id}"),
            "multipass_identifier": self.key,
            "first_name": "Customer",
            "last_name": format!("{} {what}", self.number),
            "email": mail,
            "phone": phone,
            "updated_at": SystemClock.now().to_string(),
        })
    }
}

/// A customer, by its number.
pub(super) async fn play(stage: Arc<Stage>, number: u64) -> Result<Vec<Must>, Stuck> {
    let company = if matches!(number % 10, 2 | 3 | 4 | 9) { "de" } else { "us" };
    let ending = if number % 10 == 7 { "-MISSING" } else { "" };
    let customer = Customer { key: format!("CU-{number:06}{ending}"), number, company };
    let key = customer.key.clone();
    let types = |what: &Json| stage.types("crm", &customer.screen(), what);
    let ready = async || stage.until(KIND, &key, &["ready"]).await;
    let mail_is = async |mail: &str| {
        stage.when(KIND, &key, |fields| fields.path("email") == Some(&Value::from(mail))).await
    };
    let asks = async |what: &str, data: Json| {
        let id = format!("{what} {key}");
        stage.event("portal", (KIND, &key), &format!("customer.{what}"), &id, &data).await
    };
    match number % 10 {
        // Finance sets its limit, and changes its mind.
        0 => {
            types(&customer.account("one"))?;
            ready().await?;
            limits(&stage, &key, "5000.00", "Net 30")?;
            limits(&stage, &key, "7500.50", "Net 60")?;
            let limit = Value::parse_decimal("7500.50");
            let set = |fields: &Value| fields.path("credit_limit").and_then(Value::as_decimal) == limit;
            stage.when(KIND, &key, set).await?;
        }
        // Three times in a moment; then comes what was told of it long ago.
        1 => {
            for what in ["one", "two", "three"] {
                types(&customer.account(what))?;
            }
            mail_is(&customer.mail("three")).await?;
            let mut data = customer.account("zero");
            data["Id"] = json!(key);
            data["SystemModstamp"] = json!("2026-01-01T00:00:00Z");
            let body = json!({"type": "account.changed", "timestamp": "2026-01-01T00:00:00Z", "data": data});
            stage.send("crm", &body, &format!("msg_{key}_old")).await?;
        }
        // The shop knows it first; then the CRM says who it is.
        2 => {
            shops(&stage, &customer, &customer.shopper("shop", &customer.mail("shop"), "1")).await?;
            mail_is(&customer.mail("shop")).await?;
            types(&customer.account("one"))?;
            mail_is(&customer.mail("one")).await?;
        }
        // The shop proposes; a person takes it, and the CRM follows, or keeps what the CRM says.
        3 | 4 => {
            types(&customer.account("one"))?;
            ready().await?;
            let (mail, take) = (customer.mail("shop"), number % 10 == 3);
            proposed(&stage, &customer, &mail, take).await?;
            if take {
                mail_is(&mail).await?;
                types(&json!({"Email__c": mail}))?;
            }
        }
        // Somebody writes what only the ERP may; then the ERP does.
        5 => {
            types(&customer.account("one"))?;
            ready().await?;
            let limit = json!({"revision": "2027-01-01", "credit_limit": "1000000"});
            Stage::refused(
                asks("changed", limit).await?,
                &format!("a credit limit of {key} from elsewhere"),
            )?;
            limits(&stage, &key, "100", "Net 10")?;
            stage.when(KIND, &key, |fields| fields.path("payment_terms").is_some()).await?;
        }
        // It is wanted before anybody has told of it.
        6 => {
            asks("wanted", json!({})).await?;
            ready().await?;
            types(&customer.account("one"))?;
            mail_is(&customer.mail("one")).await?;
        }
        // It is wanted, and nobody knows it until somebody types it in.
        7 => {
            asks("wanted", json!({})).await?;
            stage.until(KIND, &key, &["missing"]).await?;
            types(&customer.account("one"))?;
            mail_is(&customer.mail("one")).await?;
        }
        // Somebody writes what the CRM owns, and it is taken; then the CRM says it again.
        8 => {
            types(&customer.account("one"))?;
            ready().await?;
            let address =
                json!({"street": "Quay 1", "city": "Kiel", "postal_code": "24103", "country": "DE"});
            asks("changed", json!({"revision": "2027-01-01", "shipping": address})).await?;
            let at_quay = |fields: &Value| {
                fields.path("shipping.street").is_some_and(|at| *at == Value::from("Quay 1"))
            };
            stage.when(KIND, &key, at_quay).await?;
            types(&customer.account("two"))?;
            mail_is(&customer.mail("two")).await?;
        }
        _ => {
            types(&customer.account("one"))?;
            ready().await?;
            shops(&stage, &customer, &customer.shopper("one", &customer.mail("one"), "9")).await?;
            stage.when(KIND, &key, |fields| fields.path("phone") == Some(&Value::from("9"))).await?;
            partner_says(&stage, &customer).await?;
            types(&json!({"Phone": "+49 40 10", "ParentId": format!("CU-PARENT-{number}")}))?;
            stage.when(KIND, &key, |fields| fields.path("phone") == Some(&Value::from("+49 40 10"))).await?;
        }
    }
    Ok(vec![stage.ends(KIND, &key, &["ready"]).await?])
}

/// Finance types what a customer may spend.
fn limits(stage: &Stage, key: &str, limit: &str, terms: &str) -> Result<(), Stuck> {
    let typed = json!({"creditLimit": limit, "terms": {"refName": terms}});
    stage.types("erp", &format!("screen/customers/{key}"), &typed)
}

/// The shop says that a customer has another address of mail than the CRM says, and a person decides.
async fn proposed(stage: &Stage, customer: &Customer, mail: &str, take: bool) -> Result<(), Stuck> {
    let account = customer.account("one");
    let phone = account["Phone"].as_str().unwrap_or_default();
    shops(stage, customer, &customer.shopper("one", mail, phone)).await?;
    stage.settle(KIND, &customer.key, take).await
}

/// Somebody changes the business partner in S/4HANA, which knows it by its own number only; a person keeps what the CRM says.
async fn partner_says(stage: &Stage, customer: &Customer) -> Result<(), Stuck> {
    let partner = Mutex::new(None);
    let has_number = |fields: &Value| {
        let number = fields.path("ids.s4").and_then(Value::as_text).map(ToOwned::to_owned);
        let found = number.is_some();
        *partner.lock().unwrap_or_else(PoisonError::into_inner) = number;
        found
    };
    stage.when(KIND, &customer.key, has_number).await?;
    let partner = partner.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or_default();
    let typed = json!({"EmailAddress": customer.mail("s4")});
    stage.types("s4", &format!("screen/partners/{partner}"), &typed)?;
    stage.settle(KIND, &customer.key, false).await
}

/// A shopper changes their account, and the shop tells it.
async fn shops(stage: &Stage, customer: &Customer, shopper: &Json) -> Result<(), Stuck> {
    let typed = json!({
        "firstName": format!("{} {}", shopper["first_name"].as_str().unwrap_or_default(),
            shopper["last_name"].as_str().unwrap_or_default()),
        "email": shopper["email"],
        "phone": shopper["phone"],
    });
    stage.types("shop", &format!("screen/customers/{}", shopper["id"]), &typed)?;
    stage.shop("customers/update", &format!("shop-{}", customer.key), shopper, false).await
}

/// What CRM, both ERPs and the shop hold of a customer.
pub(super) fn check(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    let german = seen.text("legal_entity") == "de";
    in_crm(audit, seen);
    if german {
        audit.absent(seen, "erp", "customer", key);
        let partner = [
            ("BusinessPartner", seen.field("ids.s4")),
            ("BusinessPartnerIDByExtSystem", Value::from(key)),
            ("OrganizationBPName1", seen.field("name")),
            ("EmailAddress", or_empty(seen.field("email"))),
        ];
        audit.agrees(seen, "s4", "partner", key, &partner);
        // An account that only the shop has changed it knows from itself.
        let shopper = [
            ("firstName", seen.field("name")),
            ("email", or_empty(seen.field("email"))),
            ("phone", seen.field("phone")),
        ];
        audit.agrees(seen, "shop", "customer", &seen.text("ids.shop"), &shopper);
    } else {
        audit.absent(seen, "s4", "partner", key);
        in_erp(audit, seen);
    }
}

fn or_empty(value: Value) -> Value {
    if value.is_null() { Value::from("") } else { value }
}

/// What the CRM says of it, and what it was told. Of one that only others know it has no record.
fn in_crm(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    let address = |path: &str| match seen.field(path) {
        Value::Null => Value::Null,
        _ => Value::map(
            [
                ("street", "street"),
                ("city", "city"),
                ("postalCode", "postal_code"),
                ("countryCode", "country"),
            ]
            .map(|(theirs, ours)| (theirs, seen.field(&format!("{path}.{ours}")))),
        ),
    };
    if key.starts_with("ACC-") {
        // Nobody has typed at this account; it was told what the ERP says.
        let told = [
            ("ErpNumber__c", seen.field("ids.erp")),
            ("CreditLimit__c", seen.field("credit_limit")),
            ("PaymentTerms__c", seen.field("payment_terms")),
        ];
        audit.agrees(seen, "crm", "account", key, &told);
    } else if key.starts_with("CU-") {
        audit.agrees(
            seen,
            "crm",
            "account",
            key,
            &[
                ("Name", seen.field("name")),
                ("Email__c", seen.field("email")),
                ("Phone", seen.field("phone")),
                ("ParentId", seen.field("parent")),
                ("LegalEntity__c", seen.field("legal_entity")),
                ("BillingAddress", address("billing")),
                ("ShippingAddress", address("shipping")),
                ("ErpNumber__c", seen.field("ids.erp")),
                ("CreditLimit__c", seen.field("credit_limit")),
                ("PaymentTerms__c", seen.field("payment_terms")),
            ],
        );
    } else {
        audit.absent(seen, "crm", "account", key);
    }
}

fn in_erp(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    let id = Value::from(format!("CUST-{key}"));
    audit.holds(seen, "erp customer id", seen.field("ids.erp") == id, &seen.text("ids.erp"));
    let (bill, ship) = ("addressBook.items.0.addressBookAddress", "addressBook.items.1.addressBookAddress");
    let mut fields = vec![
        ("companyName".to_owned(), seen.field("name")),
        ("email".to_owned(), or_empty(seen.field("email"))),
        ("parent.externalId".to_owned(), or_empty(seen.field("parent"))),
        ("creditLimit".to_owned(), seen.field("credit_limit")),
        ("terms.refName".to_owned(), seen.field("payment_terms")),
    ];
    for (theirs, ours) in [(bill, "billing"), (ship, "shipping")] {
        for (their, our) in
            [("addr1", "street"), ("city", "city"), ("zip", "postal_code"), ("country.id", "country")]
        {
            fields.push((format!("{theirs}.{their}"), or_empty(seen.field(&format!("{ours}.{our}")))));
        }
    }
    let fields: Vec<_> = fields.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
    audit.agrees(seen, "erp", "customer", key, &fields);
}

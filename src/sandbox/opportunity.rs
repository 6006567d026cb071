//! Webhooks of the CRM: valid bodies for every case of order to cash, by number.

use std::fmt::Write as _;

use rust_decimal::Decimal;
use serde_json::{Value, json};
use syncline_actors::time::Timestamp;

/// What is special about an opportunity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Nothing: it runs through.
    Normal,
    /// One line has no tax class: held until it is amended.
    MissingTaxClass,
    /// The account is not active: held until it is amended.
    InactiveAccount,
    /// The account does not exist: held until it is amended.
    MissingAccount,
    /// The account has a parent, which is active: it runs through.
    ChildAccount,
    /// The account has a parent that is not active: held until it is amended.
    OrphanAccount,
    /// The warehouse does not have a line at first: held until somebody tries again.
    Backordered,
    /// The tax engine refuses a line: held until it is amended.
    RefusedByTax,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Normal,
        Self::MissingTaxClass,
        Self::InactiveAccount,
        Self::MissingAccount,
        Self::ChildAccount,
        Self::OrphanAccount,
        Self::Backordered,
        Self::RefusedByTax,
    ];

    fn account_ending(self) -> &'static str {
        match self {
            Self::InactiveAccount => "-INACTIVE",
            Self::MissingAccount => "-MISSING",
            Self::ChildAccount => "-CHILD",
            Self::OrphanAccount => "-ORPHAN",
            _ => "",
        }
    }
}

/// An opportunity of the CRM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opportunity {
    /// Stands before its number, so that runs on one node do not meet, e.g. `SO`.
    pub prefix: String,
    /// Its number: everything else follows from it.
    pub number: u64,
    /// What is special about it.
    pub variant: Variant,
}

/// The body of `opportunity.confirmed` for opportunity `number`, sent at `at`.
pub fn opportunity(number: u64, variant: Variant, at: Timestamp) -> Value {
    Opportunity::new(number, variant).confirmed(at)
}

impl Opportunity {
    /// `SO-<number>`.
    pub fn new(number: u64, variant: Variant) -> Self {
        Self { prefix: "SO".to_owned(), number, variant }
    }

    /// The order's number, which is its key everywhere.
    pub fn order_number(&self) -> String {
        format!("{}-{:06}", self.prefix, self.number)
    }

    /// An id for the webhook that tells `what`, e.g. `confirmed`: the same whenever it is sent again.
    pub fn message_id(&self, what: &str) -> String {
        format!("msg_{}_{:06}_{what}", self.prefix, self.number)
    }

    /// `opportunity.confirmed`.
    pub fn confirmed(&self, at: Timestamp) -> Value {
        let lines = self.lines(self.variant);
        let amount: Decimal = lines.iter().map(Line::amount).sum();
        let (city, postal_code, country) = self.place();
        let address = |street: &str| json!({"street": street, "city": city, "postalCode": postal_code, "countryCode": country});
        let data = json!({
            "Id": format!("006{}{:09}", self.prefix, self.number),
            "OrderNumber__c": self.order_number(),
            "AccountId": self.confirmed_account(),
            "CurrencyIsoCode": if country == "GB" { "GBP" } else { "EUR" },
            "Amount": amount.to_string(),
            "ContactEmail__c": format!("buyer-{}@customer.example", self.number),
            "RequestedDate__c": format!("{}-{:02}-{:02}", 2027, 1 + self.number % 12, 1 + self.number % 28),
            "BillingAddress": address(&format!("Market Street {}", 1 + self.number % 99)),
            "ShippingAddress": address(&format!("Dock {}", 1 + self.number % 9)),
            "OpportunityLineItems": lines.iter().map(Line::json).collect::<Vec<_>>(),
        });
        message("opportunity.confirmed", at, &data)
    }

    /// `opportunity.amended` that puts right what is wrong with it: account and lines are given anew, everything else stays.
    pub fn amended(&self, at: Timestamp) -> Value {
        let lines: Vec<_> = self.lines(Variant::Normal).iter().map(Line::json).collect();
        let data = json!({
            "OrderNumber__c": self.order_number(),
            "AccountId": self.account(),
            "OpportunityLineItems": lines,
        });
        message("opportunity.amended", at, &data)
    }

    /// `opportunity.cancelled`.
    pub fn cancelled(&self, reason: &str, at: Timestamp) -> Value {
        let data = json!({"OrderNumber__c": self.order_number(), "Reason__c": reason});
        message("opportunity.cancelled", at, &data)
    }

    /// The account that it is booked for in the end: an amendment corrects one that does not exist.
    pub fn account_id(&self) -> String {
        if self.variant == Variant::MissingAccount { self.account() } else { self.confirmed_account() }
    }

    fn confirmed_account(&self) -> String {
        format!("{}{}", self.account(), self.variant.account_ending())
    }

    fn account(&self) -> String {
        format!("ACC-{:04}", self.number % 99_991)
    }

    fn place(&self) -> (&'static str, &'static str, &'static str) {
        match self.number % 4 {
            0 => ("Hamburg", "20457", "DE"),
            1 => ("London", "EC1A 1BB", "GB"),
            2 => ("Amsterdam", "1011", "NL"),
            _ => ("Lyon", "69001", "FR"),
        }
    }

    fn lines(&self, variant: Variant) -> Vec<Line> {
        let count = 1 + self.number % 3;
        let mut lines: Vec<_> = (0..count)
            .map(|place| {
                let mut sku = String::from("SKU-");
                let _ = write!(sku, "{}", 100 + (self.number * 7 + place * 13) % 400);
                let cents = 999 + (self.number * 37 + place * 501) % 20_000;
                Line {
                    sku,
                    quantity: 1 + (self.number + place) % 5,
                    unit_price: Decimal::new(i64::try_from(cents).unwrap_or(999), 2),
                    tax_class: Some("P0000000"),
                }
            })
            .collect();
        let last = lines.last_mut().expect("there is at least one line");
        match variant {
            Variant::MissingTaxClass => last.tax_class = None,
            Variant::RefusedByTax => last.tax_class = Some("REFUSED"),
            Variant::Backordered => last.sku.insert_str(0, "BACK-"),
            _ => {}
        }
        lines
    }
}

struct Line {
    sku: String,
    quantity: u64,
    unit_price: Decimal,
    tax_class: Option<&'static str>,
}

impl Line {
    fn amount(&self) -> Decimal {
        Decimal::from(self.quantity) * self.unit_price
    }

    fn json(&self) -> Value {
        json!({
            "ProductCode": self.sku,
            "Quantity": self.quantity,
            "UnitPrice": self.unit_price.to_string(),
            "TaxClass__c": self.tax_class,
        })
    }
}

fn message(kind: &str, at: Timestamp, data: &Value) -> Value {
    json!({"type": kind, "timestamp": at.to_string(), "schema_version": 1, "data": data})
}

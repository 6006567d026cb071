//! Webhooks of the quoting tool and of billing: valid bodies for every case of a subscription and its amendments, by number.

use rust_decimal::Decimal;
use serde_json::{Value, json};
use syncline_actors::time::Timestamp;

/// What is special about a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Nothing: it becomes active.
    Normal,
    /// The quote is not approved when it is first read: held until somebody tries again.
    DraftQuote,
    /// The ERP's customer is not active when first looked at: held until somebody tries again.
    BlockedCustomer,
    /// Billing refuses the account: undone and held.
    BadCard,
    /// The ERP refuses the invoice profile: undone and held.
    NoProfile,
    /// Revenue recognition refuses a product: undone and held.
    RefusedProduct,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Normal,
        Self::DraftQuote,
        Self::BlockedCustomer,
        Self::BadCard,
        Self::NoProfile,
        Self::RefusedProduct,
    ];
}

/// A contract, from its quote on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Stands before its number, so that runs on one node do not meet, e.g. `SUB`.
    pub prefix: String,
    /// Its number: everything else follows from it.
    pub number: u64,
    /// What is special about it.
    pub variant: Variant,
}

/// What an amendment asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which amendment of its contract, from 1.
    pub number: u64,
    /// One of the systems will refuse it.
    pub refused: bool,
}

impl Contract {
    /// `SUB-<number>`.
    pub fn new(number: u64, variant: Variant) -> Self {
        Self { prefix: "SUB".to_owned(), number, variant }
    }

    /// The subscription's number, which is its key everywhere.
    pub fn subscription(&self) -> String {
        let ending = if self.variant == Variant::NoProfile { "-NOPROFILE" } else { "" };
        format!("{}-{:06}{ending}", self.prefix, self.number)
    }

    /// The key of its amendment `number`.
    pub fn amendment(&self, number: u64) -> String {
        format!("{}-AM{number}", self.subscription())
    }

    /// An id for the webhook that tells `what`: the same whenever it is sent again.
    pub fn message_id(&self, what: &str) -> String {
        format!("msg_{}_{what}", self.subscription())
    }

    /// `quote.approved`.
    pub fn approved(&self, at: Timestamp) -> Value {
        let ending = match self.variant {
            Variant::DraftQuote => "-DRAFT",
            _ => "",
        };
        let account = if self.variant == Variant::BlockedCustomer { "-BLOCKED" } else { "" };
        let name = if self.variant == Variant::BadCard { "-BADCARD" } else { "" };
        let lines = self.lines(0, self.variant == Variant::RefusedProduct);
        let data = json!({
            "Id": format!("aQ0{}{:09}{ending}", self.prefix, self.number),
            "SubscriptionNumber__c": self.subscription(),
            "AccountId": format!("{}-ACC-{:06}{account}", self.prefix, self.number),
            "AccountName": format!("Customer {}{name}", self.number),
            "ContactEmail__c": format!("billing-{}-{}@customer.example", self.prefix.to_lowercase(), self.number),
            "CurrencyIsoCode": "EUR",
            "SBQQ__NetAmount__c": amount(&lines),
            "SupportLevel__c": LEVELS[usize::try_from(self.number % 3).unwrap_or_default()],
            "SBQQ__StartDate__c": "2026-01-01",
            "SBQQ__EndDate__c": "2099-12-31",
            "BillingAddress": {"street": format!("Market Street {}", 1 + self.number % 99), "city": "Hamburg",
                "postalCode": "20457", "countryCode": "DE"},
            "Lines": lines.iter().map(Line::json).collect::<Vec<_>>(),
        });
        message("quote.approved", at, &data)
    }

    /// `quote.amended`, effective at once.
    pub fn amended(&self, change: Change, at: Timestamp) -> Value {
        let lines = self.lines(change.number, change.refused);
        let level = usize::try_from((self.number + change.number) % 3).unwrap_or_default();
        let data = json!({
            "Id": format!("aQ0{}{:09}-A{}", self.prefix, self.number, change.number),
            "AmendmentNumber__c": self.amendment(change.number),
            "SubscriptionNumber__c": self.subscription(),
            "EffectiveDate__c": "2026-02-01",
            "SBQQ__NetAmount__c": amount(&lines),
            "SupportLevel__c": LEVELS[level],
            "Lines": lines.iter().map(Line::json).collect::<Vec<_>>(),
        });
        message("quote.amended", at, &data)
    }

    /// `quote.renewed`, for another ten years.
    pub fn renewed(&self, at: Timestamp) -> Value {
        let lines = self.lines(7, false);
        let data = json!({
            "Id": format!("aQ0{}{:09}-R", self.prefix, self.number),
            "SubscriptionNumber__c": self.subscription(),
            "SBQQ__NetAmount__c": amount(&lines),
            "SBQQ__EndDate__c": "2109-12-31",
            "Lines": lines.iter().map(Line::json).collect::<Vec<_>>(),
        });
        message("quote.renewed", at, &data)
    }

    /// `contract.cancelled`, as of now.
    pub fn cancelled(&self, reason: &str, at: Timestamp) -> Value {
        let data = json!({"SubscriptionNumber__c": self.subscription(), "Reason__c": reason});
        message("contract.cancelled", at, &data)
    }

    /// `payment.overdue`, of billing.
    pub fn overdue(&self, at: Timestamp) -> Value {
        message("payment.overdue", at, &json!({"subscriptionNumber": self.subscription()}))
    }

    /// `payment.received`, of billing.
    pub fn paid(&self, at: Timestamp) -> Value {
        message("payment.received", at, &json!({"subscriptionNumber": self.subscription()}))
    }

    /// `change`: 0 for the quote, then by amendment.
    fn lines(&self, change: u64, refused: bool) -> Vec<Line> {
        let count = 1 + (self.number + change) % 3;
        let line = |place: u64| {
            let cents = 4_999 + (self.number * 37 + place * 501 + change * 1_013) % 90_000;
            Line {
                product: format!(
                    "{}PLAN-{}",
                    if refused { "REFUSED-" } else { "" },
                    10 + (self.number + place) % 40
                ),
                quantity: 1 + (self.number + place + change) % 20,
                price: Decimal::new(i64::try_from(cents).unwrap_or(4_999), 2),
            }
        };
        (0..count).map(line).collect()
    }
}

/// Levels of support.
const LEVELS: [&str; 3] = ["standard", "premium", "mission-critical"];

struct Line {
    product: String,
    quantity: u64,
    price: Decimal,
}

impl Line {
    fn json(&self) -> Value {
        json!({"product": self.product, "quantity": self.quantity, "price": self.price.to_string()})
    }
}

fn amount(lines: &[Line]) -> String {
    lines.iter().map(|line| Decimal::from(line.quantity) * line.price).sum::<Decimal>().to_string()
}

fn message(kind: &str, at: Timestamp, data: &Value) -> Value {
    json!({"type": kind, "timestamp": at.to_string(), "schema_version": 1, "data": data})
}

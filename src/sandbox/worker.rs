//! Webhooks of the HR system: valid bodies for every event of an employment, by number.

use rust_decimal::Decimal;
use serde_json::{Value, json};
use syncline_actors::time::Timestamp;

/// What is special about a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Nothing.
    Normal,
    /// HR has not said the department: held until it tells of a change.
    NoDepartment,
    /// HR has no tax id when first asked: held until somebody tries again.
    NoTaxId,
    /// The user name is another person's: undone and held.
    TakenName,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Normal, Self::NoDepartment, Self::NoTaxId, Self::TakenName];
}

/// A worker, from the hire on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Stands before the number, so that runs on one node do not meet, e.g. `W`.
    pub prefix: String,
    /// The number: everything else follows from it.
    pub number: u64,
    /// What is special.
    pub variant: Variant,
}

const DEPARTMENTS: [&str; 4] = ["Finance", "Engineering", "Sales", "Support"];

impl Worker {
    /// `W-<number>`.
    pub fn new(number: u64, variant: Variant) -> Self {
        Self { prefix: "W".to_owned(), number, variant }
    }

    /// The worker's id, which is the key everywhere.
    pub fn id(&self) -> String {
        let ending = if self.variant == Variant::NoTaxId { "-NOTAX" } else { "" };
        format!("{}-{:06}{ending}", self.prefix, self.number)
    }

    /// An id for the webhook that tells `what`: the same whenever it is sent again.
    pub fn message_id(&self, what: &str) -> String {
        format!("msg_{}_{what}", self.id())
    }

    /// `worker.hired` for the hire with this number, from 1, to begin on `start_date`.
    pub fn hired(&self, hire: u64, start_date: &str, at: Timestamp) -> Value {
        let taken = if self.variant == Variant::TakenName { "taken." } else { "" };
        let user = format!("{taken}{}.{}", self.prefix.to_lowercase(), self.number);
        let mut data = json!({
            "workerId": self.id(),
            "engagementId": format!("{}-E{hire}", self.id()),
            "legalName": format!("Worker {}", self.number),
            "userName": user,
            "workEmail": format!("{user}@acme.example"),
            "manager": format!("{}-{:06}", self.prefix, self.number / 10),
            "salary": self.salary(hire).to_string(),
            "currency": "EUR",
            "startDate": start_date,
        });
        if self.variant != Variant::NoDepartment {
            data["department"] = json!(self.department(0));
        }
        message("worker.hired", at, &data)
    }

    /// `worker.changed`: another department, and money.
    pub fn changed(&self, at: Timestamp) -> Value {
        let data = json!({"workerId": self.id(), "department": self.department(1),
            "salary": self.salary(9).to_string()});
        message("worker.changed", at, &data)
    }

    /// `worker.terminated`.
    pub fn terminated(&self, last_day: &str, at: Timestamp) -> Value {
        let data = json!({"workerId": self.id(), "lastDay": last_day, "reason": "resigned"});
        message("worker.terminated", at, &data)
    }

    /// `hire.rescinded`.
    pub fn rescinded(&self, at: Timestamp) -> Value {
        message("hire.rescinded", at, &json!({"workerId": self.id(), "reason": "took another offer"}))
    }

    /// `termination.rescinded`.
    pub fn stays(&self, at: Timestamp) -> Value {
        message("termination.rescinded", at, &json!({"workerId": self.id()}))
    }

    /// `checklist.completed`: the equipment is back.
    pub fn returned(&self, at: Timestamp) -> Value {
        let data = json!({"workerId": self.id(), "item": "equipment_returned"});
        message("checklist.completed", at, &data)
    }

    fn department(&self, change: u64) -> &'static str {
        DEPARTMENTS[usize::try_from((self.number + change) % 4).unwrap_or_default()]
    }

    fn salary(&self, step: u64) -> Decimal {
        let cents = 3_000_000 + (self.number * 7_919 + step * 10_007) % 6_000_000;
        Decimal::new(i64::try_from(cents).unwrap_or(3_000_000), 2)
    }
}

fn message(kind: &str, at: Timestamp, data: &Value) -> Value {
    json!({"type": kind, "timestamp": at.to_string(), "schema_version": 1, "data": data})
}

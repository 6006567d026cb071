//! The simulated validation of bank accounts: a job is begun with 202 and `Location`, and asked for until it is complete.
//!
//! A reference is used once: the second request under it is 409 with the `Location` of the first job, and nothing new begins. Accounts
//! are known by their last digits: `404` does not exist, `409` is somebody else's, `402` takes its bank until the third question; an
//! IBAN whose check digits are wrong is refused at once.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::SECRET;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

/// A validation.
#[derive(Debug)]
struct Job {
    iban: String,
    customer: String,
    /// Times that it was asked for.
    asked: u32,
}

#[derive(Debug, Default)]
pub(super) struct Bank {
    /// By reference.
    jobs: BTreeMap<String, Job>,
}

impl Job {
    /// What has come out, once the bank has answered.
    fn verdict(&self) -> Option<&'static str> {
        match &self.iban {
            iban if iban.ends_with("404") => Some("unknown_account"),
            iban if iban.ends_with("409") => Some("no_match"),
            iban if iban.ends_with("402") && self.asked < 3 => None,
            _ => Some("match"),
        }
    }
}

impl Bank {
    fn begin(&mut self, call: &Call) -> Done {
        let text = |path: &str| call.text(path).unwrap_or_default();
        let (reference, iban) = (text("reference"), text("iban"));
        if reference.is_empty() || text("holder").is_empty() {
            return Done::only(self.refuse(422, "reference and holder are needed"));
        }
        if !is_iban(&iban) {
            return Done::only(Reply::json(
                422,
                json!({"code": "invalid_iban", "message": "the check digits of the IBAN are wrong"}),
            ));
        }
        let location = format!("/v1/validations/{reference}");
        if self.jobs.contains_key(&reference) {
            let reply = Reply::json(409, json!({"code": "duplicate_reference", "message": "the job exists"}));
            return Done::only(reply.with("Location", location));
        }
        let customer = text("customer");
        self.jobs.insert(reference.clone(), Job { iban, customer: customer.clone(), asked: 0 });
        let reply = Reply::json(202, json!({"reference": reference, "status": "pending"}));
        Done::applied(reply.with("Location", location), customer)
    }

    fn ask(&mut self, reference: &str) -> Reply {
        let Some(job) = self.jobs.get_mut(reference) else {
            return self.refuse(404, &format!("there is no validation {reference}"));
        };
        job.asked += 1;
        match job.verdict() {
            Some(verdict) => {
                Reply::json(200, json!({"reference": reference, "status": "complete", "verdict": verdict}))
            }
            None => Reply::json(200, json!({"reference": reference, "status": "pending"}))
                .with("Retry-After", "1"),
        }
    }
}

/// Whether the check digits are right (ISO 13616: 97 divides all but 1).
pub(super) fn is_iban(text: &str) -> bool {
    let plain = text.len() >= 15 && text.len() <= 34 && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let Some((head, rest)) = text.split_at_checked(4).filter(|_| plain) else { return false };
    remainder(rest.chars().chain(head.chars())) == 1
}

/// Digits as they are, letters as 10 to 35, modulo 97.
fn remainder(characters: impl Iterator<Item = char>) -> u32 {
    characters
        .filter_map(|c| c.to_digit(36))
        .fold(0, |sum, value| (sum * if value > 9 { 100 } else { 10 } + value) % 97)
}

/// The IBAN of an account in a country, with its check digits.
pub(super) fn iban(country: &str, account: &str) -> String {
    let check = 98 - remainder(account.chars().chain(country.chars()).chain(['0', '0']));
    format!("{country}{check:02}{account}")
}

impl System for Bank {
    fn operation(&self, call: &Call) -> Option<Operation> {
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["v1", "validations"]) => {
                Some(Operation { name: "validate", kind: Kind::Natural })
            }
            (&Method::GET, ["v1", "validations", _]) => {
                Some(Operation { name: "get_validation", kind: Kind::Read })
            }
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if call.header("x-api-key") == Some(SECRET) { Ok(()) } else { Err(self.refuse(401, "unknown key")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        match operation {
            "validate" => self.begin(call),
            _ => Done::only(self.ask(&call.path.get(2).cloned().unwrap_or_default())),
        }
    }

    fn held(&self) -> Held {
        let shown = |job: &Job| {
            let verdict = job.verdict().map_or(Value::Null, Value::from);
            let (iban, customer) = (Value::from(job.iban.as_str()), Value::from(job.customer.as_str()));
            Value::map([("iban", iban), ("customer", customer), ("verdict", verdict)])
        };
        let by_reference = |(reference, job): (&String, &Job)| (reference.clone(), shown(job));
        let by_account = |job: &Job| (job.iban.clone(), shown(job));
        Held::from([
            ("validation", self.jobs.iter().map(by_reference).collect()),
            ("account", self.jobs.values().map(by_account).collect()),
        ])
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let code = match status {
            401 | 403 => "unauthorized",
            404 => "not_found",
            422 => "invalid_request",
            429 => "too_many_requests",
            _ => "unavailable",
        };
        Reply::json(status, json!({"code": code, "message": why}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_are_those_of_the_standard() {
        // The example of ISO 13616.
        assert!(is_iban("GB82WEST12345698765432"));
        assert!(!is_iban("GB82WEST12345698765433"));
        assert_eq!(iban("GB", "WEST12345698765432"), "GB82WEST12345698765432");
        for wrong in ["", "GB82", "GB82 WEST 1234 5698 7654 32", "ÄÖ82WEST12345698765432"] {
            assert!(!is_iban(wrong), "{wrong}");
        }
    }
}

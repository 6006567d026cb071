//! The simulated check of tax registrations, shaped like VIES: errors with HTTP 200, a member state that is away now and then, and an
//! identifier of each consultation as evidence.
//!
//! Numbers are known by their ending: `X` is not registered, `W` asks a member state that is away the first time; everything else is
//! valid. A number without letters of its country in front is no number.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug, Default)]
pub(super) struct TaxReg {
    /// Numbers whose member state was away once.
    was_away: BTreeSet<String>,
    /// Identifiers of consultations, by number.
    consulted: BTreeMap<String, String>,
}

fn no(error: &str) -> Reply {
    Reply::json(200, json!({"actionSucceed": false, "errorWrappers": [{"error": error}]}))
}

impl TaxReg {
    fn check(&mut self, call: &Call) -> Done {
        let text = |path: &str| call.text(path).unwrap_or_default();
        let (country, number) = (text("countryCode"), text("vatNumber"));
        let known = country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase());
        if !known || number.len() < 4 {
            return Done::only(no("INVALID_INPUT"));
        }
        let full = format!("{country}{number}");
        if number.ends_with('W') && self.was_away.insert(full.clone()) {
            return Done::only(no("MS_UNAVAILABLE"));
        }
        let next = self.consulted.len() + 1;
        let new = !self.consulted.contains_key(&full);
        let id = self.consulted.entry(full.clone()).or_insert_with(|| format!("WAPI{next:09}"));
        let reply = json!({
            "countryCode": country,
            "vatNumber": number,
            "requestDate": call.at.to_string(),
            "valid": !number.ends_with('X'),
            "requestIdentifier": id,
        });
        Done::applied(Reply::json(200, reply), full).altered(new)
    }
}

impl System for TaxReg {
    fn operation(&self, call: &Call) -> Option<Operation> {
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["rest-api", "check-vat-number"]) => {
                Some(Operation { name: "check", kind: Kind::Natural })
            }
            _ => None,
        }
    }

    /// Everybody may ask.
    fn authorize(&mut self, _call: &Call) -> Result<(), Reply> {
        Ok(())
    }

    fn perform(&mut self, _operation: &'static str, call: &Call) -> Done {
        self.check(call)
    }

    fn held(&self) -> Held {
        let shown = |(number, id): (&String, &String)| (number.clone(), Value::from(id.as_str()));
        Held::from([("consultation", self.consulted.iter().map(shown).collect())])
    }

    fn refuse(&self, status: u16, _why: &str) -> Reply {
        let error = match status {
            429 => "GLOBAL_MAX_CONCURRENT_REQ",
            503 => "SERVICE_UNAVAILABLE",
            404 => "NOT_FOUND",
            _ => "TECHNICAL_ERROR",
        };
        Reply::json(status, json!({"actionSucceed": false, "errorWrappers": [{"error": error}]}))
    }
}

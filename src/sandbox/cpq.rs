//! The simulated quoting tool, shaped like Salesforce CPQ: quotes are read and told their status; [`contract`](super::contract) builds the
//! webhooks that tell what was signed.
//!
//! Every quote exists and is approved, unless its id ends in `-MISSING`, or in `-DRAFT`: that one is approved when it is asked for again.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::Tokens;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug)]
pub(super) struct Cpq {
    tokens: Tokens,
    /// What was written back, by quote.
    quotes: BTreeMap<String, Value>,
    /// Quotes that were asked for.
    asked: BTreeSet<String>,
}

impl Cpq {
    pub(super) fn new() -> Self {
        Self { tokens: Tokens::new("cpq"), quotes: BTreeMap::new(), asked: BTreeSet::new() }
    }

    fn read(&mut self, id: &str) -> Reply {
        if id.ends_with("-MISSING") {
            return self.refuse(404, "Provided external ID field does not exist or is not accessible");
        }
        let draft = self.asked.insert(id.to_owned()) && id.ends_with("-DRAFT");
        let status = if draft { "Draft" } else { "Approved" };
        Reply::json(200, json!({"Id": id, "SBQQ__Status__c": status}))
    }

    fn update(&mut self, id: &str, call: &Call) -> Done {
        let Some(sent) = call.body.as_map().filter(|fields| fields.contains_key("SBQQ__Status__c")) else {
            return Done::only(self.refuse(400, "Required fields are missing: [SBQQ__Status__c]"));
        };
        let quote = self.quotes.entry(id.to_owned()).or_default();
        let before = quote.clone();
        for (name, value) in sent {
            quote.set_path(name, value.clone());
        }
        let altered = *quote != before;
        Done::applied(Reply::empty(204), id).altered(altered)
    }
}

impl System for Cpq {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["services", "oauth2", "token"]) => of("token", Kind::Token),
            (&Method::GET, ["services", "data", _, "sobjects", "SBQQ__Quote__c", _]) => {
                of("read_quote", Kind::Read)
            }
            (&Method::PATCH, ["services", "data", _, "sobjects", "SBQQ__Quote__c", _]) => {
                of("update_quote", Kind::Natural)
            }
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if self.tokens.allow(call) { Ok(()) } else { Err(self.refuse(401, "Session expired or invalid")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let last = call.path.last().cloned().unwrap_or_default();
        match operation {
            "token" => Done::only(self.tokens.issue(call)),
            "read_quote" => Done::only(self.read(&last)),
            _ => self.update(&last, call),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let code = match status {
            400 => "REQUIRED_FIELD_MISSING",
            401 => "INVALID_SESSION_ID",
            403 => "REQUEST_LIMIT_EXCEEDED",
            404 => "NOT_FOUND",
            503 => "SERVER_UNAVAILABLE",
            _ => "UNKNOWN_EXCEPTION",
        };
        Reply::json(status, json!([{"message": why, "errorCode": code, "fields": []}]))
    }

    fn expire(&mut self, call: &Call) {
        self.tokens.expire(call);
    }

    fn held(&self) -> Held {
        Held::from([("quote", self.quotes.clone())])
    }
}

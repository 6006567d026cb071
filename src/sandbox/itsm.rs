//! The simulated ITSM, shaped like `ServiceNow`: incidents in a table, with a `correlation_id` that nobody holds to be unique.
//!
//! It knows no key: whoever posts twice has two incidents, and the ledger tells. So who has lost an answer, or does not know whether
//! somebody else was there before, asks for the correlation id first. The assignment group `nobody` does not exist.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::Tokens;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};
use super::ledger::digest;

/// What state an incident is resolved in.
const RESOLVED: &str = "6";

#[derive(Debug)]
pub(super) struct Itsm {
    tokens: Tokens,
    /// Fields by `sys_id`.
    incidents: BTreeMap<String, Value>,
}

impl Itsm {
    pub(super) fn new() -> Self {
        Self { tokens: Tokens::new("itsm"), incidents: BTreeMap::new() }
    }

    fn create(&mut self, call: &Call) -> Done {
        if call.text("short_description").is_none() {
            return Done::only(self.refuse(400, "short_description is mandatory"));
        }
        if call.text("assignment_group").is_some_and(|group| group == "nobody") {
            return Done::only(self.refuse(400, "assignment_group: nobody is no group"));
        }
        let correlation = call.text("correlation_id").unwrap_or_default();
        let second = !correlation.is_empty() && self.open(&correlation).next().is_some();
        let number = format!("INC{:07}", 10_001 + self.incidents.len());
        let id = digest(number.as_bytes())[..32].to_owned();
        let mut fields = call.body.as_map().cloned().unwrap_or_default();
        for (name, value) in [("sys_id", &*id), ("number", &*number), ("state", "1")] {
            fields.insert(name.to_owned(), Value::from(value));
        }
        let fields = Value::Map(Arc::new(fields));
        self.incidents.insert(id.clone(), fields.clone());
        let reply = Reply::exact(201, Value::map([("result", fields)]))
            .with("Location", format!("/api/now/table/incident/{id}"));
        Done::applied(reply, &*correlation)
            .violating(second.then(|| format!("a second open incident for {correlation}")))
    }

    fn update(&mut self, id: &str, call: &Call) -> Done {
        let Some(fields) = self.incidents.get_mut(id) else {
            return Done::only(self.refuse(404, &format!("No Record found: {id}")));
        };
        let mut merged = fields.as_map().cloned().unwrap_or_default();
        merged.extend(
            call.body.as_map().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())),
        );
        let merged = Value::Map(Arc::new(merged));
        let altered = *fields != merged;
        *fields = merged.clone();
        let correlation =
            merged.get("correlation_id").and_then(Value::as_text).unwrap_or_default().to_owned();
        Done::applied(Reply::exact(200, Value::map([("result", merged)])), correlation).altered(altered)
    }

    /// Incidents with a correlation id that are not resolved.
    fn open<'i>(&'i self, correlation: &'i str) -> impl Iterator<Item = &'i Value> + 'i {
        let is = |fields: &Value, name: &str, text: &str| {
            fields.get(name).and_then(Value::as_text).is_some_and(|found| found == text)
        };
        self.incidents
            .values()
            .filter(move |fields| is(fields, "correlation_id", correlation) && !is(fields, "state", RESOLVED))
    }

    /// `sysparm_query=correlation_id=…^active=true`; of conditions that it does not know it takes no notice, as the real one does.
    fn find(&self, call: &Call) -> Reply {
        let query = call.query.get("sysparm_query").map_or("", String::as_str);
        let wanted = query.split('^').find_map(|part| part.strip_prefix("correlation_id="));
        let found: Vec<Value> = match wanted {
            Some(correlation) => self.open(correlation).cloned().collect(),
            None => self.incidents.values().cloned().collect(),
        };
        Reply::exact(200, Value::map([("result", Value::list(found))]))
    }
}

impl System for Itsm {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["oauth_token.do"]) => of("token", Kind::Token),
            (&Method::POST, ["api", "now", "table", "incident"]) => of("create_incident", Kind::Blind),
            (&Method::GET, ["api", "now", "table", "incident"]) => of("find_incident", Kind::Read),
            (&Method::PATCH, ["api", "now", "table", "incident", _]) => {
                let resolves = call.text("state").is_some_and(|state| state == RESOLVED);
                of(if resolves { "resolve_incident" } else { "update_incident" }, Kind::Natural)
            }
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if self.tokens.allow(call) {
            Ok(())
        } else {
            Err(self.refuse(401, "Required to provide Auth information"))
        }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        match operation {
            "token" => Done::only(self.tokens.issue(call)),
            "create_incident" => self.create(call),
            "find_incident" => Done::only(self.find(call)),
            _ => self.update(&call.path.get(4).cloned().unwrap_or_default(), call),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let message = match status {
            401 => "User Not Authenticated",
            403 => "Insufficient rights",
            404 => "No Record found",
            429 => "Rate limit exceeded",
            _ => "Operation Failed",
        };
        Reply::json(status, json!({"error": {"message": message, "detail": why}, "status": "failure"}))
    }

    fn held(&self) -> Held {
        Held::from([("incident", self.incidents.clone())])
    }

    fn expire(&mut self, call: &Call) {
        self.tokens.expire(call);
    }
}

//! The simulated sourcing tool, shaped like Coupa's suppliers with the odd codes of Ariba's: 420 to 431 for what the business forbids.
//!
//! A webhook says only that something has happened to a supplier, approved or changed; who wants to know what reads the supplier, and
//! finds its latest state. What is written by the API is told as well, to whoever wrote it too. People work at its screens:
//! [`Sandbox::act`](super::Sandbox::act).
//!
//! A supplier whose number ends in `-LOCKED` is in somebody's workflow when it is first read or written: 424, once. One whose number
//! ends in `-HIDDEN` is of another realm: 420, always.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;
use serde_json::json;
use syncline_actors::time::Timestamp;
use syncline_actors::value::{Entries, Value};

use super::access::{Tokens, is_bearer};
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

/// What a supplier may stand in.
const STATUSES: [&str; 3] = ["active", "inactive", "onboarding"];

#[derive(Debug)]
struct Supplier {
    fields: Entries,
    /// Counts changes, from 1.
    revision: u64,
    /// The revision that approved it.
    approved: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Sourcing {
    tokens: Tokens,
    /// By number.
    suppliers: BTreeMap<String, Supplier>,
    /// Numbers of those that were locked once.
    was_locked: BTreeSet<String>,
}

impl Supplier {
    fn status(&self) -> &str {
        self.fields.get("status").and_then(Value::as_text).unwrap_or_default()
    }

    fn json(&self) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("revision".into(), Value::Int(i64::try_from(self.revision).unwrap_or_default()));
        Value::Map(Arc::new(fields))
    }
}

impl Sourcing {
    pub(super) fn new() -> Self {
        Self { tokens: Tokens::new("sourcing"), suppliers: BTreeMap::new(), was_locked: BTreeSet::new() }
    }

    /// Why the business forbids it now.
    fn forbidden(&mut self, number: &str) -> Option<Reply> {
        if number.ends_with("-HIDDEN") {
            return Some(self.refuse(420, "the supplier is not visible in this realm"));
        }
        let locked = number.ends_with("-LOCKED") && self.was_locked.insert(number.to_owned());
        locked.then(|| self.refuse(424, "the supplier is locked by a workflow"))
    }

    fn get(&mut self, number: &str) -> Reply {
        if let Some(reply) = self.forbidden(number) {
            return reply;
        }
        match self.suppliers.get(number) {
            Some(supplier) => Reply::exact(200, supplier.json()),
            None => self.refuse(404, &format!("there is no supplier {number}")),
        }
    }

    /// Lays the given fields over those that are there, or makes the supplier.
    fn put(&mut self, number: &str, call: &Call, by_person: bool) -> Done {
        if !by_person && let Some(reply) = self.forbidden(number) {
            return Done::only(reply);
        }
        let Some(given) = call.body.as_map().filter(|_| !number.is_empty()) else {
            return Done::only(self.refuse(400, "Supplier number can't be blank."));
        };
        let status = given.get("status").map(|status| status.as_text().unwrap_or_default());
        if status.is_some_and(|status| !STATUSES.contains(&status)) {
            let why = "Supplier status must be one of active, inactive, onboarding.";
            return Done::only(self.refuse(400, why));
        }
        if !by_person && !self.suppliers.contains_key(number) {
            return Done::only(self.refuse(404, &format!("there is no supplier {number}")));
        }
        let new = || Supplier { fields: Entries::new(), revision: 0, approved: None };
        let supplier = self.suppliers.entry(number.to_owned()).or_insert_with(new);
        let before = supplier.fields.clone();
        supplier.fields.insert("number".into(), Value::from(number));
        supplier.fields.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
        let altered = supplier.fields != before;
        if altered {
            supplier.revision += 1;
        }
        if altered && supplier.approved.is_none() && supplier.status() == "active" {
            supplier.approved = Some(supplier.revision);
        }
        // Before it is approved nobody outside needs to know of it.
        let tells = altered && supplier.approved.is_some();
        let reference = format!("{number}:{}", supplier.revision);
        let mut done = Done::applied(Reply::exact(200, supplier.json()), number).altered(altered);
        if let Some(change) = done.change.as_mut().filter(|_| tells) {
            change.later = Some(reference);
        }
        done
    }
}

impl System for Sourcing {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["oauth2", "token"]) => of("token", Kind::Token),
            (&Method::GET, ["api", "suppliers", _]) => of("get_supplier", Kind::Read),
            (&Method::PUT, ["api", "suppliers", _]) => {
                let bank = call.body.get("remit-to").is_some();
                of(if bank { "restore_bank" } else { "report_status" }, Kind::Natural)
            }
            (&Method::PUT, ["screen", "suppliers", _]) => of("edit", Kind::Natural),
            _ => None,
        }
    }

    /// At the screens people show who they are; programs come with a token.
    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        let person = call.path.first().is_some_and(|part| part == "screen");
        let allowed = if person { is_bearer(call) } else { self.tokens.allow(call) };
        if allowed { Ok(()) } else { Err(self.refuse(401, "the token is not valid")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let number = call.path.get(2).cloned().unwrap_or_default();
        match operation {
            "token" => Done::only(self.tokens.issue(call)),
            "get_supplier" => Done::only(self.get(&number)),
            operation => self.put(&number, call, operation == "edit"),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        Reply::json(status, json!({"code": status, "errors": {"error": [why]}}))
    }

    fn expire(&mut self, call: &Call) {
        self.tokens.expire(call);
    }

    fn held(&self) -> Held {
        let shown = |(key, supplier): (&String, &Supplier)| (key.clone(), supplier.json());
        Held::from([("supplier", self.suppliers.iter().map(shown).collect())])
    }

    fn due(&mut self, reference: &str, at: Timestamp) -> Option<serde_json::Value> {
        let (number, revision) = reference.rsplit_once(':')?;
        let supplier = self.suppliers.get(number)?;
        let first = supplier.approved.is_some_and(|approved| approved.to_string() == revision);
        Some(json!({
            "type": if first { "supplier.approved" } else { "supplier.changed" },
            "timestamp": at.to_string(),
            "schema_version": 1,
            // The latest state, whatever it was when this began.
            "data": {"number": number, "status": supplier.status(), "revision": supplier.revision},
        }))
    }
}

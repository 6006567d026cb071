//! The simulated ITSM, shaped like `ServiceNow`: incidents and requests, a table each, with a `correlation_id` that nobody holds to be unique.
//!
//! It knows no key: whoever posts twice has two records, and the ledger tells. So who has lost an answer, or does not know whether
//! somebody else was there before, asks for the correlation id first. The assignment group `nobody` does not exist.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::Tokens;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};
use super::ledger::digest;

/// A table of the same API.
struct Table {
    name: &'static str,
    /// The operations, as the ledger calls them: made, found, changed, closed.
    operations: [&'static str; 4],
    /// What its numbers begin with.
    numbers: &'static str,
    /// The field that says how far a record is, and what a new one has there.
    state: (&'static str, &'static str),
    /// What stands there when nothing more is done about it.
    closed: &'static [&'static str],
}

const TABLES: [Table; 2] = [
    Table {
        name: "incident",
        operations: ["create_incident", "find_incident", "update_incident", "resolve_incident"],
        numbers: "INC",
        state: ("state", "1"),
        closed: &["6"],
    },
    Table {
        name: "sc_request",
        operations: ["create_request", "find_request", "update_request", "close_request"],
        numbers: "REQ",
        state: ("request_state", "requested"),
        closed: &["closed_complete", "closed_cancelled"],
    },
];

impl Table {
    fn named(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.name == name)
    }

    fn is_open(&self, fields: &Value) -> bool {
        !fields.get(self.state.0).and_then(Value::as_text).is_some_and(|state| self.closed.contains(&state))
    }
}

#[derive(Debug)]
pub(super) struct Itsm {
    tokens: Tokens,
    /// Fields by `sys_id`, of each table.
    records: BTreeMap<&'static str, BTreeMap<String, Value>>,
}

impl Itsm {
    pub(super) fn new() -> Self {
        let records = TABLES.iter().map(|table| (table.name, BTreeMap::new())).collect();
        Self { tokens: Tokens::new("itsm"), records }
    }

    fn create(&mut self, table: &Table, call: &Call) -> Done {
        if call.text("short_description").is_none() {
            return Done::only(self.refuse(400, "short_description is mandatory"));
        }
        if call.text("assignment_group").is_some_and(|group| group == "nobody") {
            return Done::only(self.refuse(400, "assignment_group: nobody is no group"));
        }
        let correlation = call.text("correlation_id").unwrap_or_default();
        let second = !correlation.is_empty() && self.open(table, &correlation).next().is_some();
        let records = self.records.entry(table.name).or_default();
        let number = format!("{}{:07}", table.numbers, 10_001 + records.len());
        let id = digest(number.as_bytes())[..32].to_owned();
        let mut fields = call.body.as_map().cloned().unwrap_or_default();
        for (name, value) in [("sys_id", &*id), ("number", &*number), table.state] {
            fields.insert(name.into(), Value::from(value));
        }
        let fields = Value::Map(Arc::new(fields));
        records.insert(id.clone(), fields.clone());
        let reply = Reply::exact(201, Value::map([("result", fields)]))
            .with("Location", format!("/api/now/table/{}/{id}", table.name));
        Done::applied(reply, &*correlation)
            .violating(second.then(|| format!("a second open {} for {correlation}", table.name)))
    }

    fn update(&mut self, table: &Table, id: &str, call: &Call) -> Done {
        let Some(fields) = self.records.get_mut(table.name).and_then(|records| records.get_mut(id)) else {
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

    /// Records with a correlation id about which something is still to be done.
    fn open<'i>(&'i self, table: &'i Table, correlation: &'i str) -> impl Iterator<Item = &'i Value> + 'i {
        let about =
            |fields: &Value| fields.get("correlation_id").and_then(Value::as_text) == Some(correlation);
        self.records[table.name].values().filter(move |fields| about(fields) && table.is_open(fields))
    }

    /// `sysparm_query=correlation_id=…^active=true`; of conditions that it does not know it takes no notice, as the real one does.
    fn find(&self, table: &Table, call: &Call) -> Reply {
        let query = call.query.get("sysparm_query").map_or("", String::as_str);
        let wanted = query.split('^').find_map(|part| part.strip_prefix("correlation_id="));
        let found: Vec<Value> = match wanted {
            Some(correlation) => self.open(table, correlation).cloned().collect(),
            None => self.records[table.name].values().cloned().collect(),
        };
        Reply::exact(200, Value::map([("result", Value::list(found))]))
    }
}

impl System for Itsm {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["oauth_token.do"]) => of("token", Kind::Token),
            (method, ["api", "now", "table", table, rest @ ..]) => {
                let table = Table::named(table)?;
                let [made, found, changed, closed] = table.operations;
                match (method, rest) {
                    (&Method::POST, []) => of(made, Kind::Blind),
                    (&Method::GET, []) => of(found, Kind::Read),
                    (&Method::PATCH, [_]) if table.is_open(&call.body) => of(changed, Kind::Natural),
                    (&Method::PATCH, [_]) => of(closed, Kind::Natural),
                    _ => None,
                }
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
        let Some(table) = call.path.get(3).and_then(|name| Table::named(name)) else {
            return Done::only(self.tokens.issue(call));
        };
        let [made, found, ..] = table.operations;
        match call.path.get(4) {
            Some(id) => self.update(table, id, call),
            None if operation == made => self.create(table, call),
            None if operation == found => Done::only(self.find(table, call)),
            None => Done::only(self.refuse(404, operation)),
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
        let named = |fields: &Value| fields.get("correlation_id").map(Value::to_plain_text);
        let requests = self.records["sc_request"].values();
        let requests = requests.filter_map(|fields| Some((named(fields)?, fields.clone())));
        Held::from([("incident", self.records["incident"].clone()), ("request", requests.collect())])
    }

    fn expire(&mut self, call: &Call) {
        self.tokens.expire(call);
    }
}

//! The simulated CRM, shaped like Salesforce: accounts are read, orders upserted by external id, errors come as a list.
//!
//! Accounts exist by their ids: every id does, unless it ends in `-MISSING`. One that ends in `-INACTIVE` is not active, one in
//! `-CHILD` has an active parent, one in `-ORPHAN` a parent that is not active. An order whose external id ends in `-TWIN` matches
//! several records. What people type at its screens (`screen/accounts/{id}`) stands over that, and is told by webhook: the account as
//! it is by then, with the `SystemModstamp` of its last change by a person.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::time::Timestamp;
use syncline_actors::value::{Entries, Value};

use super::access::{Tokens, is_bearer};
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug)]
pub(super) struct Crm {
    tokens: Tokens,
    /// Fields of orders, by external id.
    orders: BTreeMap<String, Entries>,
    /// Fields of accounts that people and others have written, by id.
    accounts: BTreeMap<String, Entries>,
    /// When a person last changed an account: later than the time before, also within one millisecond.
    edited: BTreeMap<String, Timestamp>,
}

impl Crm {
    pub(super) fn new() -> Self {
        let (orders, accounts, edited) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { tokens: Tokens::new("crm"), orders, accounts, edited }
    }

    fn is_missing(&self, id: &str) -> bool {
        id.ends_with("-MISSING") && !self.edited.contains_key(id)
    }

    /// A field of an account as somebody has written it.
    fn written(&self, id: &str, name: &str) -> Option<&Value> {
        self.accounts.get(id)?.get(name)
    }

    fn account(&self, id: &str) -> Reply {
        if self.is_missing(id) {
            return self.refuse(404, "Provided external ID field does not exist or is not accessible");
        }
        let parent = if let Some(stem) = id.strip_suffix("-CHILD") {
            Some(format!("{stem}-PARENT"))
        } else {
            id.strip_suffix("-ORPHAN").map(|stem| format!("{stem}-PARENT-INACTIVE"))
        };
        let mut account = json!({
            "attributes": {"type": "Account", "url": format!("/services/data/v62.0/sobjects/Account/{id}")},
            "Id": id,
            "Name": self.written(id, "Name").map_or_else(|| format!("Company {id}"), Value::to_plain_text),
            "IsActive__c": !id.ends_with("-INACTIVE"),
            "ParentId": self.written(id, "ParentId").map(Value::to_plain_text).or(parent),
        });
        for name in ["Email__c", "Phone", "LegalEntity__c", "BillingAddress", "ShippingAddress"] {
            account[name] = self.written(id, name).map(Value::to_serde_json).into();
        }
        Reply::json(200, account)
    }

    fn update_account(&mut self, id: &str, call: &Call) -> Done {
        if self.is_missing(id) {
            return Done::only(self.refuse(404, "The requested resource does not exist"));
        }
        self.write_account(id, call)
    }

    /// A person makes or changes an account, which is told.
    fn edit_account(&mut self, id: &str, call: &Call) -> Done {
        let before = self.edited.get(id).copied();
        let at = before.map_or(call.at, |before| call.at.max(Timestamp(before.0 + 1)));
        let mut done = self.write_account(id, call);
        if let Some(change) = done.change.as_mut().filter(|change| change.altered) {
            self.edited.insert(id.to_owned(), at);
            change.later = Some(format!("{id}:{}", at.0));
        }
        done
    }

    fn write_account(&mut self, id: &str, call: &Call) -> Done {
        let Some(sent) = call.body.as_map() else {
            return Done::only(self.refuse(400, "The request body is no record"));
        };
        let account = self.accounts.entry(id.to_owned()).or_default();
        let before = account.clone();
        account.extend(sent.iter().map(|(name, value)| (name.clone(), value.clone())));
        let altered = *account != before;
        Done::applied(Reply::empty(204), id).altered(altered)
    }

    fn order(&self, external: &str) -> Reply {
        let Some(order) = self.orders.get(external) else {
            return self.refuse(404, "The requested resource does not exist");
        };
        let mut record = order.clone();
        record.insert("Id".into(), Value::from(format!("801{external}")));
        record.insert("OrderNumber__c".into(), Value::from(external));
        Reply::exact(200, Value::Map(std::sync::Arc::new(record)))
    }

    fn upsert(&mut self, external: &str, call: &Call) -> Done {
        if external.ends_with("-TWIN") {
            let records = [1, 2].map(|n| format!("/services/data/v62.0/sobjects/Order/801{external}{n}"));
            return Done::only(Reply::json(300, json!(records)));
        }
        let Some(sent) = call.body.as_map().filter(|fields| fields.contains_key("Status")) else {
            return Done::only(self.refuse(400, "Required fields are missing: [Status]"));
        };
        let created = !self.orders.contains_key(external);
        let order = self.orders.entry(external.to_owned()).or_default();
        let before = order.clone();
        order.extend(sent.iter().map(|(name, value)| (name.clone(), value.clone())));
        let altered = *order != before;
        let body = json!({"id": format!("801{external}"), "success": true, "errors": [], "created": created});
        let reply = Reply::json(if created { 201 } else { 200 }, body)
            .with("Sforce-Limit-Info", format!("api-usage={}/5000", self.orders.len()));
        Done::applied(reply, external).altered(altered)
    }
}

impl System for Crm {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["services", "oauth2", "token"]) => of("token", Kind::Token),
            (&Method::GET, ["services", "data", _, "sobjects", "Account", _]) => {
                of("get_account", Kind::Read)
            }
            (&Method::PATCH, ["services", "data", _, "sobjects", "Account", _]) => {
                of("update_account", Kind::Natural)
            }
            (&Method::GET, ["services", "data", _, "sobjects", "Order", "OrderNumber__c", _]) => {
                of("get_order", Kind::Read)
            }
            (&Method::PATCH, ["services", "data", _, "sobjects", "Order", "OrderNumber__c", _]) => {
                of("update_order", Kind::Natural)
            }
            (&Method::PUT, ["screen", "accounts", _]) => of("edit_account", Kind::Natural),
            _ => None,
        }
    }

    /// At the screens people show who they are; programs come with a token.
    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        let person = call.path.first().is_some_and(|part| part == "screen");
        let allowed = if person { is_bearer(call) } else { self.tokens.allow(call) };
        if allowed { Ok(()) } else { Err(self.refuse(401, "Session expired or invalid")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let last = call.path.last().cloned().unwrap_or_default();
        match operation {
            "token" => Done::only(self.tokens.issue(call)),
            "get_account" => Done::only(self.account(&last)),
            "update_account" => self.update_account(&last, call),
            "get_order" => Done::only(self.order(&last)),
            "edit_account" => self.edit_account(&last, call),
            _ => self.upsert(&last, call),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let code = match status {
            400 => "REQUIRED_FIELD_MISSING",
            401 => "INVALID_SESSION_ID",
            403 => "REQUEST_LIMIT_EXCEEDED",
            404 => "NOT_FOUND",
            409 => "UNABLE_TO_LOCK_ROW",
            503 => "SERVER_UNAVAILABLE",
            _ => "UNKNOWN_EXCEPTION",
        };
        Reply::json(status, json!([{"message": why, "errorCode": code, "fields": []}]))
    }

    fn held(&self) -> Held {
        let record = |(id, fields): (&String, &Entries)| (id.clone(), shown(fields));
        let all = |records: &BTreeMap<_, _>| records.iter().map(record).collect();
        Held::from([("order", all(&self.orders)), ("account", all(&self.accounts))])
    }

    fn expire(&mut self, call: &Call) {
        self.tokens.expire(call);
    }

    fn due(&mut self, reference: &str, at: Timestamp) -> Option<serde_json::Value> {
        let (id, _) = reference.rsplit_once(':')?;
        let mut data = shown(self.accounts.get(id)?).to_serde_json();
        data["Id"] = json!(id);
        data["SystemModstamp"] = json!(self.edited.get(id)?.to_string());
        Some(
            json!({"type": "account.changed", "timestamp": at.to_string(), "schema_version": 1, "data": data}),
        )
    }
}

fn shown(fields: &Entries) -> Value {
    Value::map(fields.iter().map(|(name, value)| (name.clone(), value.clone())))
}

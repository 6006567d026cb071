//! The simulated CRM, shaped like Salesforce: accounts are read, orders upserted by external id, errors come as a list.
//!
//! Accounts exist by their ids: every id does, unless it ends in `-MISSING`. One that ends in `-INACTIVE` is not active, one in
//! `-CHILD` has an active parent, one in `-ORPHAN` a parent that is not active. An order whose external id ends in `-TWIN` matches
//! several records.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::Tokens;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug)]
pub(super) struct Crm {
    tokens: Tokens,
    /// Fields of orders, by external id.
    orders: BTreeMap<String, BTreeMap<String, Value>>,
    /// Fields of accounts that others have written, by id.
    accounts: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Crm {
    pub(super) fn new() -> Self {
        Self { tokens: Tokens::new("crm"), orders: BTreeMap::new(), accounts: BTreeMap::new() }
    }

    fn account(&self, id: &str) -> Reply {
        if id.ends_with("-MISSING") {
            return self.refuse(404, "Provided external ID field does not exist or is not accessible");
        }
        let parent = if let Some(stem) = id.strip_suffix("-CHILD") {
            Some(format!("{stem}-PARENT"))
        } else {
            id.strip_suffix("-ORPHAN").map(|stem| format!("{stem}-PARENT-INACTIVE"))
        };
        Reply::json(
            200,
            json!({
                "attributes": {"type": "Account", "url": format!("/services/data/v62.0/sobjects/Account/{id}")},
                "Id": id,
                "Name": format!("Company {id}"),
                "IsActive__c": !id.ends_with("-INACTIVE"),
                "ParentId": parent,
            }),
        )
    }

    fn update_account(&mut self, id: &str, call: &Call) -> Done {
        if id.ends_with("-MISSING") {
            return Done::only(self.refuse(404, "The requested resource does not exist"));
        }
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
        record.insert("Id".to_owned(), Value::from(format!("801{external}")));
        record.insert("OrderNumber__c".to_owned(), Value::from(external));
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
            "get_account" => Done::only(self.account(&last)),
            "update_account" => self.update_account(&last, call),
            "get_order" => Done::only(self.order(&last)),
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
        let order = |(id, fields): (&String, &BTreeMap<String, Value>)| {
            (id.clone(), Value::map(fields.iter().map(|(name, value)| (name.clone(), value.clone()))))
        };
        Held::from([("order", self.orders.iter().map(order).collect())])
    }

    fn expire(&mut self, call: &Call) {
        self.tokens.expire(call);
    }
}

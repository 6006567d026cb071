//! The simulated ERP, shaped like NetSuite: customers are put by external id, sales orders and invoices posted under a key.
//!
//! It does not stop a second sales order with the same external id, as many an ERP does not: it makes one, and the ledger tells.
//! Differences from NetSuite: the key is honoured without `respond-async`, and a new record comes back in the answer
//! (`Prefer: return=representation`). An invoice profile, by external id, needs a customer. A total above 1,000,000,000 is refused.
//! Vendors are put and changed by external id. What people type at its screens, items and what a customer may spend, is told by webhook.

mod profile;
mod screen;
mod vendor;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use rust_decimal::Decimal;
use serde_json::json;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::access::{Tokens, is_bearer};
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

use profile::Profiles;
use screen::Screens;
use vendor::Vendors;

const BASE: &str = "/services/rest/record/v1";

/// A sales order or an invoice.
#[derive(Debug)]
struct Record {
    id: String,
    number: String,
    external: String,
    /// As it was sent.
    fields: Value,
    closed: bool,
}

/// All records of one kind.
#[derive(Debug)]
struct Records {
    kind: &'static str,
    /// Before its number.
    prefix: &'static str,
    first: usize,
    by_id: BTreeMap<String, Record>,
    /// The first id of each external id.
    by_external: BTreeMap<String, String>,
}

impl Records {
    fn new(kind: &'static str, prefix: &'static str, first: usize) -> Self {
        Self { kind, prefix, first, by_id: BTreeMap::new(), by_external: BTreeMap::new() }
    }

    /// Makes one, and answers it; a second one for an external id is made too, and told.
    fn create(&mut self, external: &str, fields: &Value) -> Done {
        let number = self.first + self.by_id.len();
        let record = Record {
            id: number.to_string(),
            number: format!("{}{number}", self.prefix),
            external: external.to_owned(),
            fields: fields.clone(),
            closed: false,
        };
        let body = json!({"id": record.id, "tranId": record.number, "externalId": external});
        let reply = Reply::json(201, body).with("Location", format!("{BASE}/{}/{}", self.kind, record.id));
        let second = self.by_external.contains_key(external);
        self.by_external.entry(external.to_owned()).or_insert_with(|| record.id.clone());
        self.by_id.insert(record.id.clone(), record);
        Done::applied(reply, external)
            .violating(second.then(|| format!("a second {} for {external}", self.kind)))
    }

    fn find(&self, external: &str) -> Option<&Record> {
        self.by_id.get(self.by_external.get(external)?)
    }
}

#[derive(Debug)]
pub(super) struct Erp {
    tokens: Tokens,
    /// Fields of customers, by external id.
    customers: BTreeMap<String, Value>,
    /// Customers that were asked for.
    asked: BTreeSet<String>,
    profiles: Profiles,
    screens: Screens,
    vendors: Vendors,
    sales_orders: Records,
    invoices: Records,
    credit_memos: Records,
}

impl Erp {
    pub(super) fn new() -> Self {
        Self {
            tokens: Tokens::new("erp"),
            customers: BTreeMap::new(),
            asked: BTreeSet::new(),
            profiles: Profiles::default(),
            screens: Screens::default(),
            vendors: Vendors::default(),
            sales_orders: Records::new("salesOrder", "SO", 10_001),
            invoices: Records::new("invoice", "INV", 70_001),
            credit_memos: Records::new("creditMemo", "CM", 80_001),
        }
    }

    /// Every item is there, unless its number ends in `-MISSING`; one that a person has typed in is as it was typed.
    fn item(&self, external: &str) -> Reply {
        if let Some(item) = self.screens.item(external) {
            return Reply::exact(200, item);
        }
        if external.ends_with("-MISSING") {
            return self
                .refuse(404, &format!("The record instance does not exist: inventoryItem {external}"));
        }
        let body = json!({"id": format!("ITEM-{external}"), "itemId": external, "displayName": format!("Item {external}"),
            "basePrice": "19.90", "currency": {"refName": "EUR"}, "taxSchedule": {"refName": "P0000000"}});
        Reply::json(200, body)
    }

    fn put_customer(&mut self, external: &str, call: &Call) -> Done {
        if call.text("companyName").is_none() {
            return Done::only(self.refuse(400, "Please enter value(s) for: Company Name"));
        }
        let before = self.customers.insert(external.to_owned(), call.body.clone());
        let altered = before.as_ref() != Some(&call.body);
        let location = format!("{BASE}/customer/{}", customer_id(external));
        Done::applied(Reply::empty(204).with("Location", location), external).altered(altered)
    }

    /// One whose id ends in `-BLOCKED` is not active when first asked for.
    fn customer(&mut self, external: &str) -> Reply {
        let Some(found) = self.customers.get(external) else {
            return self.refuse(404, &format!("The record instance does not exist: customer eid:{external}"));
        };
        let name = found.get("companyName").map(Value::to_plain_text);
        let inactive = self.asked.insert(external.to_owned()) && external.ends_with("-BLOCKED");
        let id = customer_id(external);
        Reply::json(
            200,
            json!({"id": id, "externalId": external, "companyName": name, "isInactive": inactive}),
        )
    }

    fn profile(&mut self, operation: &str, external: &str, call: &Call) -> Done {
        let of = call.text("customer.id").unwrap_or_default();
        let known = of.strip_prefix("CUST-").is_some_and(|customer| self.customers.contains_key(customer));
        match self.profiles.perform(operation, external, known, call) {
            Ok(done) => done,
            Err((status, why)) => Done::only(self.refuse(status, &why)),
        }
    }

    fn create_sales_order(&mut self, call: &Call) -> Done {
        let Some(external) = call.text("externalId") else {
            return Done::only(self.refuse(400, "Please enter value(s) for: External ID"));
        };
        let entity = call.text("entity.id").unwrap_or_default();
        if entity.strip_prefix("CUST-").is_none_or(|external| !self.customers.contains_key(external)) {
            return Done::only(self.refuse(400, &format!("Invalid Field Value {entity} for: entity")));
        }
        if call.body.path("item.items").and_then(Value::as_list).is_none_or(<[Value]>::is_empty) {
            return Done::only(
                self.refuse(400, "You must enter at least one line item for this transaction"),
            );
        }
        if let Some(why) = bad_total(call) {
            return Done::only(self.refuse(400, &why));
        }
        self.sales_orders.create(&external, &call.body)
    }

    fn close(&mut self, id: &str) -> Done {
        let Some(record) = self.sales_orders.by_id.get_mut(id) else {
            return Done::only(self.refuse(404, &format!("That record does not exist: salesOrder {id}")));
        };
        let altered = !std::mem::replace(&mut record.closed, true);
        let location = format!("{BASE}/salesOrder/{id}");
        Done::applied(Reply::empty(204).with("Location", location), record.external.clone()).altered(altered)
    }

    fn create_invoice(&mut self, sales_order: &str, call: &Call) -> Done {
        let Some(of) = self.sales_orders.by_id.get(sales_order) else {
            return Done::only(self.refuse(404, &format!("That record does not exist: {sales_order}")));
        };
        if of.closed {
            return Done::only(self.refuse(400, &format!("Sales order {} is closed", of.number)));
        }
        if let Some(why) = bad_total(call) {
            return Done::only(self.refuse(400, &why));
        }
        let Some(external) = call.text("externalId") else {
            return Done::only(self.refuse(400, "Please enter value(s) for: External ID"));
        };
        self.invoices.create(&external, &call.body)
    }

    fn create_credit(&mut self, call: &Call) -> Done {
        if let Some(why) = bad_total(call) {
            return Done::only(self.refuse(400, &why));
        }
        match call.text("externalId") {
            Some(external) => self.credit_memos.create(&external, &call.body),
            None => Done::only(self.refuse(400, "Please enter value(s) for: External ID")),
        }
    }

    /// Sales orders as a query gives them, whatever it says: `limit` and `offset` are all that is heeded.
    fn query(&self, call: &Call) -> Reply {
        let number =
            |name: &str, usual| call.query.get(name).and_then(|text| text.parse().ok()).unwrap_or(usual);
        let (limit, offset) = (number("limit", 1000_usize).min(1000), number("offset", 0_usize));
        let all = &self.sales_orders.by_id;
        let page = all.values().skip(offset).take(limit);
        let items: Vec<_> = page
            .map(|record| json!({"links": [], "id": record.id, "externalid": record.external, "tranid": record.number}))
            .collect();
        let more = offset + items.len() < all.len();
        Reply::json(
            200,
            json!({"links": [], "count": items.len(), "hasMore": more, "offset": offset, "totalResults": all.len(), "items": items}),
        )
    }

    fn find(&self, records: &Records, external: &str) -> Reply {
        match records.find(external) {
            Some(record) => Reply::exact(
                200,
                Value::map([
                    ("id", Value::from(&*record.id)),
                    ("tranId", Value::from(&*record.number)),
                    ("externalId", Value::from(external)),
                    ("status", Value::map([("id", Value::from(if record.closed { "H" } else { "B" }))])),
                    ("total", record.fields.get("total").cloned().unwrap_or_default()),
                ]),
            ),
            None => self
                .refuse(404, &format!("The record instance does not exist: {} eid:{external}", records.kind)),
        }
    }
}

/// The id by which the ERP knows a customer: the same for ever.
fn customer_id(external: &str) -> String {
    format!("CUST-{external}")
}

fn bad_total(call: &Call) -> Option<String> {
    match call.body.get("total").and_then(Value::as_decimal) {
        None => Some("Please enter value(s) for: Total".to_owned()),
        Some(total) if total < Decimal::ZERO || total > Decimal::from(1_000_000_000) => {
            Some(format!("Invalid Field Value {total} for: total"))
        }
        Some(_) => None,
    }
}

impl System for Erp {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        let parts = call.parts();
        if (&call.method, &parts[..])
            == (&Method::POST, &["services", "rest", "auth", "oauth2", "v1", "token"])
        {
            return of("token", Kind::Token);
        }
        match (&call.method, &parts[..]) {
            (&Method::PUT, ["screen", "items", _]) => return of("edit_item", Kind::Natural),
            (&Method::PUT, ["screen", "customers", _]) => return of("edit_customer", Kind::Natural),
            (&Method::POST, ["services", "rest", "query", "v1", "suiteql"]) => {
                return of("list_sales_orders", Kind::Read);
            }
            _ => {}
        }
        let ["services", "rest", "record", "v1", rest @ ..] = &parts[..] else { return None };
        match (&call.method, rest) {
            (&Method::PUT, ["customer", id]) if id.starts_with("eid:") => {
                of("upsert_customer", Kind::Natural)
            }
            (&Method::GET, ["inventoryItem", id]) if id.starts_with("eid:") => of("get_item", Kind::Read),
            (&Method::POST, ["salesOrder"]) => of("create_sales_order", Kind::Keyed),
            (&Method::PATCH, ["salesOrder", _]) => of("close_sales_order", Kind::Natural),
            (&Method::POST, ["salesOrder", _, "!transform", "invoice"]) => of("create_invoice", Kind::Keyed),
            (&Method::GET, ["salesOrder", id]) if id.starts_with("eid:") => {
                of("find_sales_order", Kind::Read)
            }
            (&Method::GET, ["invoice", id]) if id.starts_with("eid:") => of("find_invoice", Kind::Read),
            (&Method::POST, ["creditMemo"]) => of("create_credit", Kind::Keyed),
            (&Method::GET, ["creditMemo", id]) if id.starts_with("eid:") => of("find_credit", Kind::Read),
            (&Method::GET, ["customer", id]) if id.starts_with("eid:") => of("get_customer", Kind::Read),
            _ => profile::operation(call, rest).or_else(|| vendor::operation(call, rest)),
        }
    }

    /// At the screens people show who they are; programs come with a token.
    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        let person = call.path.first().is_some_and(|part| part == "screen");
        let allowed = if person { is_bearer(call) } else { self.tokens.allow(call) };
        if allowed { Ok(()) } else { Err(self.refuse(401, "Invalid login attempt.")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let id = call.path.get(5).cloned().unwrap_or_default();
        let external = id.strip_prefix("eid:").unwrap_or_default();
        match operation {
            "token" => Done::only(self.tokens.issue(call)),
            "upsert_customer" => self.put_customer(external, call),
            "get_item" => Done::only(self.item(external)),
            "create_sales_order" => self.create_sales_order(call),
            "close_sales_order" => self.close(&id),
            "list_sales_orders" => Done::only(self.query(call)),
            "create_invoice" => self.create_invoice(&id, call),
            "find_sales_order" => Done::only(self.find(&self.sales_orders, external)),
            "create_credit" => self.create_credit(call),
            "find_credit" => Done::only(self.find(&self.credit_memos, external)),
            "find_invoice" => Done::only(self.find(&self.invoices, external)),
            "get_customer" => Done::only(self.customer(external)),
            "edit_item" => self.screens.edit_item(&call.path[2], call),
            "edit_customer" if self.customers.contains_key(&call.path[2]) => {
                self.screens.edit_customer(&call.path[2], call)
            }
            "edit_customer" => Done::only(self.refuse(404, "The record instance does not exist")),
            "upsert_invoice_profile" | "close_invoice_profile" | "get_invoice_profile" => {
                self.profile(operation, external, call)
            }
            _ => match self.vendors.perform(operation, external, call) {
                Ok(done) => done,
                Err((status, why)) => Done::only(self.refuse(status, &why)),
            },
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let (title, code) = match status {
            400 => ("Bad Request", "INVALID_CONTENT"),
            401 => ("Unauthorized", "INVALID_LOGIN"),
            403 => ("Forbidden", "INSUFFICIENT_PERMISSION"),
            404 => ("Not Found", "NONEXISTENT_ID"),
            409 => ("Conflict", "IDEMPOTENCY_ERROR"),
            429 => ("Too Many Requests", "CONCURRENCY_LIMIT_EXCEEDED"),
            503 => ("Service Unavailable", "SERVICE_UNAVAILABLE"),
            _ => ("Internal Server Error", "UNEXPECTED_ERROR"),
        };
        let kind = "https://www.rfc-editor.org/rfc/rfc9110.html#section-15";
        let details = json!([{"detail": why, "o:errorCode": code}]);
        Reply::json(
            status,
            json!({"type": kind, "title": title, "status": status, "o:errorDetails": details}),
        )
    }

    fn held(&self) -> Held {
        let shown = |records: &Records| {
            let record = |found: &Record| {
                let fields = [
                    ("id", Value::from(&*found.id)),
                    ("number", Value::from(&*found.number)),
                    ("closed", Value::Bool(found.closed)),
                    ("fields", found.fields.clone()),
                ];
                (found.external.clone(), Value::map(fields))
            };
            records.by_id.values().map(record).collect()
        };
        Held::from([
            ("customer", self.customers.iter().map(|found| self.screens.with_terms(found)).collect()),
            ("item", self.screens.items()),
            ("invoice_profile", self.profiles.held()),
            ("sales_order", shown(&self.sales_orders)),
            ("invoice", shown(&self.invoices)),
            ("credit_memo", shown(&self.credit_memos)),
            ("vendor", self.vendors.records().collect()),
        ])
    }

    fn expire(&mut self, call: &Call) {
        self.tokens.expire(call);
    }

    fn due(&mut self, reference: &str, at: Timestamp) -> Option<serde_json::Value> {
        self.screens.due(reference, at)
    }
}

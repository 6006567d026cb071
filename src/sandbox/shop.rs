//! The simulated web shop, shaped like Shopify's GraphQL Admin API: customers and products are set by its id or by one of ours, orders get
//! notes and fulfilments.
//!
//! Whatever is wrong comes with HTTP 200: `userErrors` for what the shop objects to, `errors` with the code `THROTTLED` when it is
//! called too fast. A second fulfilment of one order is made, and the ledger tells. Shoppers change their own accounts at
//! `screen/customers/{number}`; whoever plays the shop tells of it.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::{SECRET, is_bearer};
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug, Default)]
pub(super) struct Shop {
    /// What was last set, by kind and the shop's id.
    records: BTreeMap<(&'static str, String), Value>,
    /// The shop's ids, by kind and ours.
    ours: BTreeMap<(&'static str, String), String>,
    /// Tags of orders, by the shop's id.
    orders: BTreeMap<String, Value>,
    /// Fulfilments, by order.
    fulfilments: BTreeMap<String, Vec<String>>,
}

/// The mutations and queries that are understood, by the word that stands in them.
const WORDS: [(&str, &str, Kind); 5] = [
    ("customerSet", "set_customer", Kind::Natural),
    ("productSet", "set_product", Kind::Natural),
    ("orderUpdate", "update_order", Kind::Natural),
    ("fulfillmentCreate", "create_fulfillment", Kind::Natural),
    ("fulfillments(", "find_fulfillment", Kind::Read),
];

impl Shop {
    /// Sets a customer or a product by the id that we give it.
    fn set(&mut self, kind: &'static str, field: &str, required: &str, call: &Call) -> Done {
        let input = call.body.path("variables.input").cloned().unwrap_or_default();
        let theirs = call.text("variables.identifier.id");
        let external = theirs.clone().or_else(|| call.text("variables.identifier.customId.value"));
        let external = external.unwrap_or_default();
        let bounces = call.text("variables.input.email").is_some_and(|to| to.ends_with("@bounce.example"));
        let problem = if external.is_empty() {
            Some(("identifier", "Identifier must be given"))
        } else if input.get(required).is_none_or(|value| value.to_plain_text().is_empty()) {
            Some((required, "can't be blank"))
        } else {
            bounces.then_some(("email", "Email is invalid"))
        };
        if let Some((at, message)) = problem {
            let errors = json!([{"field": ["input", at], "message": message}]);
            return Done::only(Reply::json(
                200,
                json!({"data": {field: {kind: null, "userErrors": errors}}}),
            ));
        }
        let next = 7_000 + self.records.len();
        let title = if kind == "customer" { "Customer" } else { "Product" };
        let made = || format!("gid://shopify/{title}/{next}");
        let id =
            theirs.unwrap_or_else(|| self.ours.entry((kind, external.clone())).or_insert_with(made).clone());
        let altered = self.records.insert((kind, id.clone()), input.clone()) != Some(input);
        let body = json!({"data": {field: {kind: {"id": id}, "userErrors": []}}});
        Done::applied(Reply::json(200, body), external).altered(altered)
    }

    /// A shopper changes their own account.
    fn edit_customer(&mut self, call: &Call) -> Done {
        let id = format!("gid://shopify/Customer/{}", call.path[2]);
        let altered =
            self.records.insert(("customer", id.clone()), call.body.clone()).as_ref() != Some(&call.body);
        Done::applied(Reply::empty(204), id).altered(altered)
    }

    fn update_order(&mut self, call: &Call) -> Done {
        let id = call.text("variables.input.id").unwrap_or_default();
        if !id.starts_with("gid://shopify/Order/") {
            let errors = json!([{"field": ["id"], "message": "Order does not exist"}]);
            let body = json!({"data": {"orderUpdate": {"order": null, "userErrors": errors}}});
            return Done::only(Reply::json(200, body));
        }
        let input = call.body.path("variables.input").cloned().unwrap_or_default();
        let altered = self.orders.insert(id.clone(), input.clone()) != Some(input);
        let body = json!({"data": {"orderUpdate": {"order": {"id": id}, "userErrors": []}}});
        Done::applied(Reply::json(200, body), id).altered(altered)
    }

    fn fulfil(&mut self, call: &Call) -> Done {
        let order = call.text("variables.fulfillment.lineItemsByFulfillmentOrder.0.fulfillmentOrderId");
        let Some(order) = order else {
            let errors = json!([{"field": ["fulfillment"], "message": "Fulfillment order does not exist"}]);
            let body = json!({"data": {"fulfillmentCreate": {"fulfillment": null, "userErrors": errors}}});
            return Done::only(Reply::json(200, body));
        };
        let all = self.fulfilments.entry(order.clone()).or_default();
        let id = format!(
            "gid://shopify/Fulfillment/{}-{}",
            order.rsplit('/').next().unwrap_or_default(),
            all.len() + 1
        );
        all.push(id.clone());
        let told = (all.len() > 1).then(|| format!("a second fulfilment of {order}"));
        let body = json!({"data": {"fulfillmentCreate": {"fulfillment": {"id": id}, "userErrors": []}}});
        Done::applied(Reply::json(200, body), order).violating(told)
    }

    fn find_fulfilment(&self, call: &Call) -> Reply {
        let order = call.text("variables.id").unwrap_or_default();
        let found = self.fulfilments.get(&order).into_iter().flatten();
        let found: Vec<_> = found.map(|id| json!({"id": id})).collect();
        Reply::json(200, json!({"data": {"fulfillmentOrder": {"fulfillments": {"nodes": found}}}}))
    }
}

impl System for Shop {
    fn operation(&self, call: &Call) -> Option<Operation> {
        if call.method == Method::PUT && matches!(call.parts()[..], ["screen", "customers", _]) {
            return Some(Operation { name: "edit_customer", kind: Kind::Natural });
        }
        if call.method != Method::POST || !matches!(call.parts()[..], ["admin", "api", _, "graphql.json"]) {
            return None;
        }
        let query = call.text("query")?;
        let found = WORDS.iter().find(|(word, ..)| query.contains(word));
        found.map(|(_, name, kind)| Operation { name, kind: *kind })
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        let person = call.path.first().is_some_and(|part| part == "screen") && is_bearer(call);
        if person || call.header("x-shopify-access-token") == Some(SECRET) {
            Ok(())
        } else {
            Err(self.refuse(401, "[API] Invalid API key or access token"))
        }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        match operation {
            "set_customer" => self.set("customer", "customerSet", "firstName", call),
            "set_product" => self.set("product", "productSet", "title", call),
            "update_order" => self.update_order(call),
            "create_fulfillment" => self.fulfil(call),
            "edit_customer" => self.edit_customer(call),
            _ => Done::only(self.find_fulfilment(call)),
        }
    }

    fn held(&self) -> Held {
        let mut held = Held::from([("order", self.orders.clone())]);
        for ((kind, id), input) in &self.records {
            held.entry(*kind).or_default().insert(id.clone(), input.clone());
        }
        held
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        if status != 429 {
            return Reply::json(status, json!({"errors": why}));
        }
        let errors = json!([{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]);
        let bucket = json!({"maximumAvailable": 2000.0, "currentlyAvailable": 2, "restoreRate": 100.0});
        let cost = json!({"requestedQueryCost": 10, "actualQueryCost": null, "throttleStatus": bucket});
        Reply::json(200, json!({"errors": errors, "extensions": {"cost": cost}}))
    }
}

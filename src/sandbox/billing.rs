//! The simulated billing system, shaped like Zuora: accounts, and orders that create, change, suspend, renew and cancel a subscription.
//!
//! What it refuses it refuses with HTTP 200 and `{"success":false,"reasons":[…]}`. A key is known for 24 hours with what it came to,
//! success or refusal, and answered with 409 while its request is under way. An amount that is not the sum of its lines is refused;
//! so is an account whose name ends in `-BADCARD`.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use rust_decimal::Decimal;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::Tokens;
use super::call::{Call, Done, Held, Kind, Memory, Operation, Reply, System};

/// Operations by the type of the order's action.
const ACTIONS: [(&str, &str); 6] = [
    ("CreateSubscription", "create_subscription"),
    ("UpdateProduct", "update_subscription"),
    ("Suspend", "suspend"),
    ("Resume", "resume"),
    ("RenewSubscription", "renew"),
    ("CancelSubscription", "cancel_subscription"),
];

#[derive(Debug)]
pub(super) struct Billing {
    tokens: Tokens,
    accounts: BTreeMap<String, Value>,
    subscriptions: BTreeMap<String, Value>,
    /// The subscription of every order that went well.
    orders: BTreeMap<String, String>,
}

impl Billing {
    pub(super) fn new() -> Self {
        Self {
            tokens: Tokens::new("billing"),
            accounts: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            orders: BTreeMap::new(),
        }
    }

    fn create_account(&mut self, call: &Call) -> Done {
        let (Some(number), Some(name)) = (call.text("accountNumber"), call.text("name")) else {
            return no(53_100_020, "accountNumber and name are required");
        };
        if name.ends_with("-BADCARD") {
            return no(53_200_020, "The payment method was declined");
        }
        let second = self.accounts.insert(number.clone(), call.body.clone()).is_some();
        let body = json!({"success": true, "accountId": format!("acc-{number}"), "accountNumber": number});
        Done::applied(Reply::json(200, body), &*number)
            .violating(second.then(|| format!("a second account {number}")))
    }

    fn delete_account(&mut self, number: &str) -> Done {
        let lives = |found: &Value| {
            found.get("account").and_then(Value::as_text) == Some(number)
                && found.get("status").and_then(Value::as_text) != Some("Cancelled")
        };
        if self.subscriptions.values().any(lives) {
            return no(53_100_040, &format!("account {number} has a subscription that is not cancelled"));
        }
        if self.accounts.remove(number).is_none() {
            return no(50_000_040, &format!("cannot find account {number}"));
        }
        Done::applied(Reply::json(200, json!({"success": true, "id": number})), number)
    }

    fn order(&mut self, operation: &str, call: &Call) -> Done {
        let Some((number, action)) = action(call) else {
            return no(53_100_020, "subscriptions[0].orderActions[0] is required");
        };
        let account = call.text("existingAccountNumber").unwrap_or_default();
        if !self.accounts.contains_key(&account) {
            return no(50_000_040, &format!("cannot find account {account}"));
        }
        let before = self.subscriptions.get(&number);
        let status =
            before.and_then(|found| found.get("status")).and_then(Value::as_text).unwrap_or_default();
        let (status, told) = match (operation, status) {
            ("create_subscription", "Active" | "Suspended") => ("Active", true),
            ("create_subscription", _) | ("update_subscription" | "renew" | "suspend", "Active") => {
                (if operation == "suspend" { "Suspended" } else { "Active" }, false)
            }
            ("resume", "Suspended") => ("Active", false),
            ("cancel_subscription", "Active" | "Suspended") => ("Cancelled", false),
            (_, "") => return no(50_000_040, &format!("cannot find subscription {number}")),
            (_, status) => return no(53_200_030, &format!("subscription {number} is {status}")),
        };
        let told = told.then(|| format!("a second subscription {number}"));
        let mut fields = match operation {
            "create_subscription" => Value::map([("account", Value::from(&*account))]),
            _ => before.cloned().unwrap_or_default(),
        };
        if let Some(change) = action.get("change").and_then(Value::as_map) {
            for (name, value) in change {
                fields.set_path(name, value.clone());
            }
            if let Err(why) = check_sum(&fields) {
                return no(53_200_010, &why);
            }
        }
        fields.set_path("status", Value::from(status));
        self.subscriptions.insert(number.clone(), fields);
        let order = call.text("orderNumber").unwrap_or_default();
        self.orders.insert(order.clone(), number.clone());
        let body = json!({"success": true, "orderNumber": order, "accountNumber": account,
            "status": "Completed", "subscriptionNumbers": [number]});
        Done::applied(Reply::json(200, body), &*number).violating(told)
    }

    fn subscription(&self, number: &str) -> Done {
        let Some(found) = self.subscriptions.get(number) else {
            return no(50_000_040, &format!("cannot find subscription {number}"));
        };
        let mut body = found.clone();
        body.set_path("success", Value::Bool(true));
        body.set_path("subscriptionNumber", Value::from(number));
        Done::only(Reply::exact(200, body))
    }

    fn find_order(&self, order: &str) -> Done {
        match self.orders.get(order) {
            None => no(50_000_040, &format!("cannot find order {order}")),
            Some(number) => {
                let order =
                    json!({"orderNumber": order, "status": "Completed", "subscriptionNumber": number});
                Done::only(Reply::json(200, json!({"success": true, "order": order})))
            }
        }
    }

    fn find_account(&self, number: &str) -> Done {
        if !self.accounts.contains_key(number) {
            return no(50_000_040, &format!("cannot find account {number}"));
        }
        let basic = json!({"id": format!("acc-{number}"), "accountNumber": number});
        Done::only(Reply::json(200, json!({"success": true, "basicInfo": basic})))
    }
}

/// The subscription and the action of an order: the sandbox takes one of each.
fn action(call: &Call) -> Option<(String, &Value)> {
    let subscription = call.body.get("subscriptions")?.as_list()?.first()?;
    let number = subscription.get("subscriptionNumber")?.as_text()?.to_owned();
    Some((number, subscription.get("orderActions")?.as_list()?.first()?))
}

/// Money is exact: what is charged is what the lines say.
fn check_sum(fields: &Value) -> Result<(), String> {
    let lines = fields.get("lines").and_then(Value::as_list).filter(|lines| !lines.is_empty());
    let lines = lines.ok_or("a subscription needs a rate plan")?;
    let of = |line: &Value| Some(line.get("quantity")?.as_decimal()? * line.get("price")?.as_decimal()?);
    let sum: Option<Decimal> = lines.iter().map(of).sum();
    let amount = fields.get("amount").and_then(Value::as_decimal);
    match (sum, amount) {
        (Some(sum), Some(amount)) if sum == amount => Ok(()),
        (Some(sum), Some(amount)) => Err(format!("the amount is {amount}, and the lines are {sum}")),
        _ => Err("every line needs quantity and price, the subscription an amount".to_owned()),
    }
}

/// A refusal, with HTTP 200.
fn no(code: u64, why: &str) -> Done {
    Done::only(Reply::json(200, json!({"success": false, "reasons": [{"code": code, "message": why}]})))
}

impl System for Billing {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["oauth", "token"]) => of("token", Kind::Token),
            (&Method::POST, ["v1", "accounts"]) => of("create_account", Kind::Keyed),
            (&Method::GET, ["v1", "accounts", _]) => of("find_account", Kind::Read),
            (&Method::DELETE, ["v1", "accounts", _]) => of("delete_account", Kind::Keyed),
            (&Method::GET, ["v1", "subscriptions", _]) => of("get_subscription", Kind::Read),
            (&Method::GET, ["v1", "orders", _]) => of("find_order", Kind::Read),
            (&Method::POST, ["v1", "orders"]) => {
                let kind = action(call).and_then(|(_, action)| action.get("type")?.as_text());
                let known = ACTIONS.iter().find(|(action, _)| Some(*action) == kind);
                of(known.map_or("create_order", |(_, name)| name), Kind::Keyed)
            }
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if self.tokens.allow(call) { Ok(()) } else { Err(self.refuse(401, "Authentication error")) }
    }

    fn memory(&self) -> Memory {
        Memory { kept: Some(Duration::from_hours(24)), refusals: true, busy: true }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let last = call.path.last().cloned().unwrap_or_default();
        match operation {
            "token" => Done::only(self.tokens.issue(call)),
            "create_account" => self.create_account(call),
            "delete_account" => self.delete_account(&last),
            "get_subscription" => self.subscription(&last),
            "find_order" => self.find_order(&last),
            "find_account" => self.find_account(&last),
            "create_order" => no(53_100_020, "there is no such order action"),
            order => self.order(order, call),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let code = match status {
            401 => 90_000_011,
            404 => 50_000_040,
            409 => 53_100_409,
            429 => 50_000_070,
            _ => 50_000_060,
        };
        Reply::json(status, json!({"success": false, "reasons": [{"code": code, "message": why}]}))
    }

    fn expire(&mut self, call: &Call) {
        self.tokens.expire(call);
    }

    fn held(&self) -> Held {
        Held::from([("account", self.accounts.clone()), ("subscription", self.subscriptions.clone())])
    }
}

//! The simulated warehouse: stock is reserved and released, orders shipped and recalled; what leaves is told by webhook.
//!
//! Errors come with HTTP 200 (`{"status":"error"}`). Skus exist by name: `BACK-…` is not there when an order first asks for it and
//! is when it asks again, `NEVER-…` never is, everything else always.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::access::SECRET;
use super::call::{Call, Done, Held as Records, Kind, Operation, Reply, System};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Partial,
    Reserved,
    Released,
}

#[derive(Debug)]
struct Reservation {
    order: String,
    held: Held,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Requested,
    Left,
    Recalled,
}

#[derive(Debug)]
struct Shipment {
    order: String,
    stage: Stage,
}

#[derive(Debug, Default)]
pub(super) struct Warehouse {
    /// By id; one per order.
    reservations: BTreeMap<String, Reservation>,
    /// By id.
    shipments: BTreeMap<String, Shipment>,
    /// Ids of shipments, oldest first, by order.
    by_order: BTreeMap<String, Vec<String>>,
    /// What is known of items, by sku.
    items: BTreeMap<String, Value>,
}

fn good(result: &serde_json::Value) -> Reply {
    Reply::json(200, json!({"status": "ok", "result": result}))
}

fn bad(code: &str, message: &str) -> Reply {
    Reply::json(200, json!({"status": "error", "error": {"code": code, "message": message}}))
}

impl Warehouse {
    fn put_item(&mut self, sku: &str, call: &Call) -> Done {
        if call.text("name").is_none() {
            return Done::only(bad("invalid_request", "an item needs a name"));
        }
        let before = self.items.insert(sku.to_owned(), call.body.clone());
        let altered = before.as_ref() != Some(&call.body);
        Done::applied(good(&json!({"sku": sku})), sku).altered(altered)
    }

    fn reserve(&mut self, call: &Call) -> Done {
        let Some(order) = call.text("order_number") else {
            return Done::only(bad("invalid_request", "order_number is missing"));
        };
        let lines = call.body.get("lines").and_then(Value::as_list).unwrap_or_default();
        let skus: Vec<&str> = lines.iter().filter_map(|line| line.get("sku")?.as_text()).collect();
        if skus.is_empty() || skus.len() != lines.len() {
            return Done::only(bad("invalid_request", "every line needs a sku"));
        }
        let id = format!("R-{order}");
        let before = self.reservations.get(&id).map(|reservation| reservation.held);
        let missing: Vec<&str> = skus
            .into_iter()
            .filter(|sku| sku.starts_with("NEVER-") || (sku.starts_with("BACK-") && before.is_none()))
            .collect();
        let held = if missing.is_empty() { Held::Reserved } else { Held::Partial };
        self.reservations.insert(id.clone(), Reservation { order: order.clone(), held });
        let status = if held == Held::Reserved { "reserved" } else { "partial" };
        let result = json!({"reservation_id": id, "status": status, "missing": missing});
        Done::applied(good(&result), order).altered(before != Some(held))
    }

    fn release(&mut self, id: &str) -> Done {
        let order =
            self.reservations.get(id).map(|reservation| reservation.order.clone()).unwrap_or_default();
        let has_left = self.has(&order, |stage| stage == Stage::Left);
        let Some(reservation) = self.reservations.get_mut(id) else {
            return Done::only(bad("unknown_reservation", &format!("there is no reservation {id}")));
        };
        if has_left {
            return Done::only(bad("already_shipped", &format!("{order} has left the warehouse")));
        }
        let altered = std::mem::replace(&mut reservation.held, Held::Released) != Held::Released;
        Done::applied(good(&json!({"reservation_id": id, "status": "released"})), order).altered(altered)
    }

    fn ship(&mut self, call: &Call) -> Done {
        let order = call.text("order_number").unwrap_or_default();
        let reserved = call.text("reservation_id").and_then(|id| self.reservations.get(&id));
        if reserved.is_none_or(|found| found.order != order || found.held != Held::Reserved) {
            return Done::only(bad("not_reserved", &format!("nothing is reserved for {order}")));
        }
        let second = self.has(&order, |stage| stage != Stage::Recalled);
        let all = self.by_order.entry(order.clone()).or_default();
        let id = format!("SHP-{order}-{}", all.len() + 1);
        all.push(id.clone());
        self.shipments.insert(id.clone(), Shipment { order: order.clone(), stage: Stage::Requested });
        let reply = good(&json!({"shipment_id": id, "status": "requested"}));
        let mut done =
            Done::applied(reply, &*order).violating(second.then(|| format!("a second shipment for {order}")));
        if let Some(change) = &mut done.change {
            change.later = Some(id);
        }
        done
    }

    fn recall(&mut self, order: &str) -> Done {
        let last = self.by_order.get(order).and_then(|all| all.last());
        let Some(shipment) = last.and_then(|id| self.shipments.get_mut(id)) else {
            return Done::only(bad("unknown_order", &format!("nothing is to be shipped for {order}")));
        };
        if shipment.stage == Stage::Left {
            return Done::only(bad("already_shipped", &format!("{order} has left the warehouse")));
        }
        let altered = std::mem::replace(&mut shipment.stage, Stage::Recalled) != Stage::Recalled;
        Done::applied(good(&json!({"order_number": order, "status": "recalled"})), order).altered(altered)
    }

    /// Whether an order has a shipment at such a stage.
    fn has(&self, order: &str, such: impl Fn(Stage) -> bool) -> bool {
        let ids = self.by_order.get(order).into_iter().flatten();
        ids.filter_map(|id| self.shipments.get(id)).any(|shipment| such(shipment.stage))
    }
}

impl System for Warehouse {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name| Some(Operation { name, kind: Kind::Keyed });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["v1", "reservations"]) => of("reserve"),
            (&Method::POST, ["v1", "reservations", _, "release"]) => of("release"),
            (&Method::POST, ["v1", "shipments"]) => of("ship"),
            (&Method::POST, ["v1", "orders", _, "recall"]) => of("recall"),
            (&Method::PUT, ["v1", "items", _]) => Some(Operation { name: "put_item", kind: Kind::Natural }),
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if call.header("x-api-key") == Some(SECRET) {
            Ok(())
        } else {
            Err(self.refuse(401, "unknown API key"))
        }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let id = call.path.get(2).cloned().unwrap_or_default();
        match operation {
            "put_item" => self.put_item(&id, call),
            "reserve" => self.reserve(call),
            "release" => self.release(&id),
            "ship" => self.ship(call),
            _ => self.recall(&id),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let code = match status {
            401 | 403 => "unauthorized",
            404 => "not_found",
            422 => "key_reused",
            429 => "too_many_requests",
            _ => "unavailable",
        };
        Reply::json(status, json!({"status": "error", "error": {"code": code, "message": why}}))
    }

    fn held(&self) -> Records {
        let state = |order: &str, state: &str| {
            Value::map([("order", Value::from(order)), ("state", Value::from(state.to_lowercase()))])
        };
        let reservations = self
            .reservations
            .iter()
            .map(|(id, found)| (id.clone(), state(&found.order, &format!("{:?}", found.held))));
        let shipments = self
            .shipments
            .iter()
            .map(|(id, found)| (id.clone(), state(&found.order, &format!("{:?}", found.stage))));
        Records::from([
            ("reservation", reservations.collect()),
            ("shipment", shipments.collect()),
            ("item", self.items.clone()),
        ])
    }

    fn due(&mut self, reference: &str, at: Timestamp) -> Option<serde_json::Value> {
        let shipment = self.shipments.get_mut(reference)?;
        if shipment.stage != Stage::Requested {
            return None;
        }
        shipment.stage = Stage::Left;
        Some(json!({
            "type": "shipment.confirmed",
            "timestamp": at.to_string(),
            "schema_version": 1,
            "data": {
                "order_number": shipment.order,
                "shipment_id": reference,
                "carrier": "DHL",
                "tracking_number": format!("JD0{}", reference.trim_start_matches("SHP-")),
            },
        }))
    }
}

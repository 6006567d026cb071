//! The simulated customer success platform, shaped like Gainsight: entitlements and renewal forecasts, put and read by external id.
//!
//! HTTP 200 with `{"result":false}` is a refusal; so is the answer to a service level `REFUSED`. What is not there is read as an empty list.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::SECRET;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug, Default)]
pub(super) struct Success {
    requests: u64,
    entitlements: BTreeMap<String, Value>,
    forecasts: BTreeMap<String, Value>,
}

impl Success {
    fn answer(&mut self, data: Value) -> Reply {
        self.requests += 1;
        let request = Value::from(format!("req-{}", self.requests));
        Reply::exact(200, Value::map([("result", Value::Bool(true)), ("requestId", request), ("data", data)]))
    }

    fn shelf(&mut self, object: &str) -> &mut BTreeMap<String, Value> {
        if object == "Entitlement" { &mut self.entitlements } else { &mut self.forecasts }
    }

    fn put(&mut self, object: &str, external: &str, call: &Call) -> Done {
        if call.body.as_map().is_none_or(BTreeMap::is_empty) {
            return Done::only(self.refuse(200, "a record needs fields"));
        }
        if call.text("level").as_deref() == Some("REFUSED") {
            return Done::only(self.refuse(200, "level: REFUSED is no value of the picklist"));
        }
        let before = self.shelf(object).insert(external.to_owned(), call.body.clone());
        let altered = before.as_ref() != Some(&call.body);
        Done::applied(self.answer(Value::map([("Gsid", Value::from(external))])), external).altered(altered)
    }

    fn delete(&mut self, object: &str, external: &str) -> Done {
        let altered = self.shelf(object).remove(external).is_some();
        Done::applied(self.answer(Value::map([("Gsid", Value::from(external))])), external).altered(altered)
    }

    fn read(&mut self, object: &str, external: &str) -> Reply {
        let records = self.shelf(object).get(external).cloned();
        self.answer(Value::map([("records", Value::list(records))]))
    }
}

impl System for Success {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::PUT, ["v1", "data", "objects", "Entitlement", _]) => {
                of("upsert_entitlement", Kind::Natural)
            }
            (&Method::PUT, ["v1", "data", "objects", "RenewalForecast", _]) => {
                of("upsert_forecast", Kind::Natural)
            }
            (&Method::DELETE, ["v1", "data", "objects", "Entitlement", _]) => {
                of("delete_entitlement", Kind::Natural)
            }
            (&Method::DELETE, ["v1", "data", "objects", "RenewalForecast", _]) => {
                of("delete_forecast", Kind::Natural)
            }
            (&Method::GET, ["v1", "data", "objects", "Entitlement", _]) => of("read_entitlement", Kind::Read),
            (&Method::GET, ["v1", "data", "objects", "RenewalForecast", _]) => {
                of("read_forecast", Kind::Read)
            }
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if call.header("accesskey") == Some(SECRET) {
            Ok(())
        } else {
            Err(self.refuse(401, "Invalid access key"))
        }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let (object, external) = (call.path[3].clone(), call.path[4].clone());
        match operation {
            "upsert_entitlement" | "upsert_forecast" => self.put(&object, &external, call),
            "delete_entitlement" | "delete_forecast" => self.delete(&object, &external),
            _ => Done::only(self.read(&object, &external)),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let code = if status == 401 { "GSOBJ_1001" } else { "GSOBJ_1009" };
        Reply::json(status, json!({"result": false, "errorCode": code, "errorDesc": why}))
    }

    fn held(&self) -> Held {
        Held::from([("entitlement", self.entitlements.clone()), ("forecast", self.forecasts.clone())])
    }
}

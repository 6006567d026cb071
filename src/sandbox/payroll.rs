//! The simulated payroll: workers are enrolled per engagement, changed, and ended by date. It knows no keys: a second enrolment of an
//! engagement is paid twice, and the ledger tells. While payroll runs it answers 423; the sandbox does so by a fault.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::is_basic;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug, Default)]
pub(super) struct Payroll {
    /// By engagement.
    engagements: BTreeMap<String, Value>,
}

impl Payroll {
    fn enrol(&mut self, call: &Call) -> Done {
        let Some(engagement) = call.text("engagement") else {
            return Done::only(self.refuse(400, "engagement is required"));
        };
        if call.text("taxId").is_none() {
            return Done::only(self.refuse(422, &format!("{engagement} has no tax id")));
        }
        if call.body.get("salary").and_then(Value::as_decimal).is_none() {
            return Done::only(self.refuse(422, &format!("{engagement} has no salary")));
        }
        let mut fields = call.body.clone();
        fields.set_path("status", Value::from("active"));
        let second = self.engagements.insert(engagement.clone(), fields).is_some();
        Done::applied(Reply::json(201, json!({"id": format!("PAY-{engagement}")})), &*engagement)
            .violating(second.then(|| format!("a second enrolment of {engagement}")))
    }

    fn alter(&mut self, engagement: &str, status: Option<&str>, call: &Call) -> Done {
        let Some(found) = self.engagements.get_mut(engagement) else {
            return Done::only(self.refuse(404, &format!("there is no engagement {engagement}")));
        };
        let before = found.clone();
        for (name, value) in call.body.as_map().into_iter().flatten() {
            found.set_path(name, value.clone());
        }
        if let Some(status) = status {
            found.set_path("status", Value::from(status));
        }
        let altered = *found != before;
        Done::applied(Reply::json(200, json!({"id": format!("PAY-{engagement}")})), engagement)
            .altered(altered)
    }

    fn find(&self, engagement: &str) -> Reply {
        match self.engagements.get(engagement) {
            None => self.refuse(404, &format!("there is no engagement {engagement}")),
            Some(found) => {
                let status = found.get("status").map(Value::to_plain_text);
                Reply::json(200, json!({"id": format!("PAY-{engagement}"), "status": status}))
            }
        }
    }
}

impl System for Payroll {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["payroll", "v1", "engagements"]) => of("enrol", Kind::Natural),
            (&Method::GET, ["payroll", "v1", "engagements", _]) => of("find_engagement", Kind::Read),
            (&Method::PATCH, ["payroll", "v1", "engagements", _]) => of("change", Kind::Natural),
            (&Method::POST, ["payroll", "v1", "engagements", _, "end"]) => of("end", Kind::Natural),
            (&Method::POST, ["payroll", "v1", "engagements", _, "rescind"]) => of("rescind", Kind::Natural),
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if is_basic(call) { Ok(()) } else { Err(self.refuse(401, "unknown user")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let engagement = call.path.get(3).cloned().unwrap_or_default();
        match operation {
            "enrol" => self.enrol(call),
            "find_engagement" => Done::only(self.find(&engagement)),
            "change" => self.alter(&engagement, None, call),
            "end" => self.alter(&engagement, Some("ended"), call),
            _ => self.alter(&engagement, Some("rescinded"), call),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let code = if status == 423 { "payroll_running" } else { "rejected" };
        Reply::json(status, json!({"confirmMessage": {"code": code, "text": why}}))
    }

    fn held(&self) -> Held {
        Held::from([("engagement", self.engagements.clone())])
    }
}

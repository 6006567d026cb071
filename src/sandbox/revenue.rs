//! The simulated revenue recognition: how the amount of a contract is recognised. A change is a job: 202 with a `Location`, and it counts
//! a moment later. A contract with a product that begins with `REFUSED` is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::json;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::access::SECRET;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

/// How long a job takes.
const JOB: Duration = Duration::from_millis(40);

#[derive(Debug, Default)]
pub(super) struct Revenue {
    /// By contract.
    treatments: BTreeMap<String, Value>,
    /// Contract and time of posting of every request.
    jobs: BTreeMap<String, (String, Timestamp)>,
}

impl Revenue {
    fn set(&mut self, contract: &str, call: &Call) -> Done {
        let products = call.body.get("lines").and_then(Value::as_list).unwrap_or_default();
        let refused = |line: &&Value| {
            line.get("product").and_then(Value::as_text).is_some_and(|product| product.starts_with("REFUSED"))
        };
        if products.is_empty() || call.body.get("amount").and_then(Value::as_decimal).is_none() {
            return Done::only(self.refuse(422, "amount and lines are required"));
        }
        if let Some(line) = products.iter().find(refused) {
            let product = line.get("product").map(Value::to_plain_text).unwrap_or_default();
            return Done::only(self.refuse(422, &format!("no revenue rule fits product {product}")));
        }
        let before = self.treatments.insert(contract.to_owned(), call.body.clone());
        let altered = before.as_ref() != Some(&call.body);
        let job = call.key().unwrap_or_default();
        let posted = self.jobs.entry(job.clone()).or_insert_with(|| (contract.to_owned(), call.at.plus(JOB)));
        let body = json!({"request": job, "status": if posted.1 <= call.at { "posted" } else { "queued" }});
        let reply =
            Reply::json(202, body).with("Location", format!("/api/v1/treatments/{contract}?request={job}"));
        Done::applied(reply, contract).altered(altered)
    }

    fn withdraw(&mut self, contract: &str) -> Done {
        let altered = self.treatments.remove(contract).is_some();
        Done::applied(Reply::empty(204), contract).altered(altered)
    }

    /// A treatment, or what became of the request that set it.
    fn read(&self, contract: &str, call: &Call) -> Reply {
        if let Some(request) = call.query.get("request") {
            return match self.jobs.get(request) {
                Some((of, posted)) if of == contract => {
                    let status = if *posted <= call.at { "posted" } else { "queued" };
                    Reply::json(200, json!({"contract": contract, "request": request, "status": status}))
                }
                _ => self.refuse(404, &format!("there is no request {request}")),
            };
        }
        match self.treatments.get(contract) {
            Some(found) => Reply::exact(200, found.clone()),
            None => self.refuse(404, &format!("there is no contract {contract}")),
        }
    }
}

impl System for Revenue {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::PUT, ["api", "v1", "treatments", _]) => of("set_treatment", Kind::Natural),
            (&Method::DELETE, ["api", "v1", "treatments", _]) => of("withdraw_treatment", Kind::Natural),
            (&Method::GET, ["api", "v1", "treatments", _]) => of("read_treatment", Kind::Read),
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
        let contract = call.path.last().cloned().unwrap_or_default();
        match operation {
            "set_treatment" => self.set(&contract, call),
            "withdraw_treatment" => self.withdraw(&contract),
            _ => Done::only(self.read(&contract, call)),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        Reply::json(status, json!({"error": {"status": status, "message": why}}))
    }

    fn held(&self) -> Held {
        Held::from([("treatment", self.treatments.clone())])
    }
}

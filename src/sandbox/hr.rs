//! The simulated HR system, shaped like Workday: workers are read, and what was done for them is reported as a business process that is
//! in progress for a moment before it is complete. [`worker`](super::worker) builds the webhooks of its events.
//!
//! A worker whose id ends in `-NOTAX` has no tax id when first asked for, and has one when asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;
use serde_json::json;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::access::Tokens;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

/// How long a business process is in progress.
const IN_PROGRESS: Duration = Duration::from_millis(40);

#[derive(Debug)]
pub(super) struct Hr {
    tokens: Tokens,
    asked: BTreeSet<String>,
    /// Events by request: worker, type, and when it is complete.
    events: BTreeMap<String, (String, String, Timestamp)>,
    /// The types of events of each worker, in order.
    workers: BTreeMap<String, Value>,
}

impl Hr {
    pub(super) fn new() -> Self {
        Self {
            tokens: Tokens::new("hr"),
            asked: BTreeSet::new(),
            events: BTreeMap::new(),
            workers: BTreeMap::new(),
        }
    }

    fn worker(&mut self, id: &str) -> Reply {
        let missing = self.asked.insert(id.to_owned()) && id.ends_with("-NOTAX");
        let tax_id = (!missing).then(|| format!("TAX-{id}"));
        Reply::json(200, json!({"id": id, "descriptor": format!("Worker {id}"), "taxId": tax_id}))
    }

    fn report(&mut self, worker: &str, call: &Call) -> Done {
        let (Some(kind), Some(request)) = (call.text("type"), call.key()) else {
            return Done::only(self.refuse(400, "type and a request id are required"));
        };
        let complete = call.at.plus(IN_PROGRESS);
        self.events.insert(request.clone(), (worker.to_owned(), kind.clone(), complete));
        let done = self.workers.entry(worker.to_owned()).or_default();
        let kinds = done.get("events").and_then(Value::as_list).unwrap_or_default().to_vec();
        done.set_path("events", Value::list(kinds.into_iter().chain([Value::from(&*kind)])));
        let body = json!({"id": request, "businessProcessType": kind, "status": "In Progress"});
        Done::applied(Reply::json(202, body), worker)
    }

    fn event(&self, request: &str, now: Timestamp) -> Reply {
        match self.events.get(request) {
            None => self.refuse(404, "A0002: the event is not found"),
            Some((worker, kind, complete)) => {
                let status = if *complete <= now { "Successfully Completed" } else { "In Progress" };
                Reply::json(
                    200,
                    json!({"id": request, "worker": worker, "businessProcessType": kind, "status": status}),
                )
            }
        }
    }
}

impl System for Hr {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["ccx", "oauth2", _, "token"]) => of("token", Kind::Token),
            (&Method::GET, ["ccx", "api", "v1", _, "workers", _]) => of("get_worker", Kind::Read),
            (&Method::POST, ["ccx", "api", "v1", _, "workers", _, "events"]) => of("report", Kind::Keyed),
            (&Method::GET, ["ccx", "api", "v1", _, "events", _]) => of("find_event", Kind::Read),
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if self.tokens.allow(call) { Ok(()) } else { Err(self.refuse(401, "invalid token")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let part = |place: usize| call.path.get(place).cloned().unwrap_or_default();
        match operation {
            "token" => Done::only(self.tokens.issue(call)),
            "get_worker" => Done::only(self.worker(&part(5))),
            "report" => self.report(&part(5), call),
            _ => Done::only(self.event(&part(5), call.at)),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        Reply::json(status, json!({"error": why, "errors": [{"error": why}]}))
    }

    fn expire(&mut self, call: &Call) {
        self.tokens.expire(call);
    }

    fn held(&self) -> Held {
        Held::from([("worker", self.workers.clone())])
    }
}

//! The simulated support desk, shaped like Zendesk: tickets under an `Idempotency-Key`, answered with `x-idempotency-lookup`.
//!
//! A requester at `bounce.example` is refused.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::is_basic;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug)]
struct Ticket {
    id: u64,
    subject: String,
}

#[derive(Debug, Default)]
pub(super) struct Support {
    made: u64,
    /// By external id.
    tickets: BTreeMap<String, Vec<Ticket>>,
}

impl Support {
    fn create(&mut self, call: &Call) -> Done {
        let text = |path: &str| call.text(path).unwrap_or_default();
        let (subject, external) = (text("ticket.subject"), text("ticket.external_id"));
        let requester = text("ticket.requester.email");
        if subject.is_empty() || text("ticket.comment.body").is_empty() {
            return Done::only(self.refuse(422, "Description: cannot be blank"));
        }
        if !requester.contains('@') || requester.ends_with("@bounce.example") {
            return Done::only(
                self.refuse(422, &format!("Requester: Email: {requester} is not properly formatted")),
            );
        }
        let id = 35_000 + self.made;
        self.made += 1;
        let reply = Reply::json(
            201,
            json!({"ticket": {"id": id, "external_id": external, "subject": subject, "status": "new"}}),
        );
        let of_order = self.tickets.entry(external.clone()).or_default();
        of_order.push(Ticket { id, subject });
        let second = !external.is_empty() && of_order.len() > 1;
        Done::applied(reply.with("x-idempotency-lookup", "miss"), &*external)
            .violating(second.then(|| format!("a second ticket for {external}")))
    }

    fn find(&self, external: &str) -> Reply {
        let found: Vec<_> = self
            .tickets
            .get(external)
            .into_iter()
            .flatten()
            .map(|ticket| json!({"id": ticket.id, "external_id": external, "subject": ticket.subject}))
            .collect();
        Reply::json(200, json!({"count": found.len(), "tickets": found}))
    }
}

impl System for Support {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["api", "v2", "tickets"]) => of("create_ticket", Kind::Keyed),
            (&Method::GET, ["api", "v2", "tickets"]) => of("find_ticket", Kind::Read),
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if is_basic(call) { Ok(()) } else { Err(self.refuse(401, "Couldn't authenticate you")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        match operation {
            "create_ticket" => self.create(call),
            _ => Done::only(self.find(call.query.get("external_id").map_or("", String::as_str))),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let error = match status {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "RecordNotFound",
            422 => "RecordInvalid",
            429 => "APIRateLimitExceeded",
            _ => "ServerError",
        };
        Reply::json(status, json!({"error": error, "description": why}))
    }

    fn held(&self) -> Held {
        let ticket = |(external, all): (&String, &Vec<Ticket>)| {
            let ids = all.iter().map(|ticket| Value::from(ticket.id.to_string()));
            let subjects = all.iter().map(|ticket| Value::from(&*ticket.subject));
            (external.clone(), Value::map([("ids", Value::list(ids)), ("subjects", Value::list(subjects))]))
        };
        Held::from([("ticket", self.tickets.iter().map(ticket).collect())])
    }
}

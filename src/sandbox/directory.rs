//! The simulated directory, as SCIM 2.0 has it (RFC 7644): users are created, changed, switched on and off.
//!
//! It knows no keys: a user is looked for by `externalId` before it is created again. A user name that begins with `taken.` is another
//! person's: 409, `uniqueness`.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::access::is_bearer;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

#[derive(Debug, Default)]
pub(super) struct Directory {
    /// By external id, which here gives the id as well.
    users: BTreeMap<String, Value>,
}

impl Directory {
    fn create(&mut self, call: &Call) -> Done {
        let (Some(external), Some(name)) = (call.text("externalId"), call.text("userName")) else {
            return Done::only(self.refuse(400, "userName and externalId are required"));
        };
        let of_other = |(other, user): (&String, &Value)| {
            *other != external && user.get("userName").and_then(Value::as_text) == Some(&name)
        };
        if name.starts_with("taken.") || self.users.iter().any(of_other) {
            return Done::only(self.refuse(409, &format!("userName {name} is taken")));
        }
        if self.users.contains_key(&external) {
            return Done::only(self.refuse(409, &format!("externalId {external} exists")));
        }
        self.users.insert(external.clone(), call.body.clone());
        Done::applied(Reply::exact(201, shown(&external, &call.body)), &*external)
    }

    fn patch(&mut self, id: &str, call: &Call) -> Done {
        let Some((external, user)) = id.strip_prefix("usr-").and_then(|key| self.users.get_key_value(key))
        else {
            return Done::only(self.refuse(404, &format!("Resource {id} not found")));
        };
        let (external, before, mut user) = (external.clone(), user.clone(), user.clone());
        for operation in call.body.get("Operations").and_then(Value::as_list).unwrap_or_default() {
            for (name, value) in operation.get("value").and_then(Value::as_map).into_iter().flatten() {
                user.set_path(name, value.clone());
            }
        }
        let altered = user != before;
        let reply = Reply::exact(200, shown(&external, &user));
        self.users.insert(external.clone(), user);
        Done::applied(reply, &*external).altered(altered)
    }

    fn delete(&mut self, id: &str) -> Done {
        let external = id.strip_prefix("usr-").unwrap_or_default();
        match self.users.remove(external) {
            Some(_) => Done::applied(Reply::empty(204), external),
            None => Done::only(self.refuse(404, &format!("Resource {id} not found"))),
        }
    }

    /// `filter=externalId eq "…"`, the one filter that it knows.
    fn find(&self, filter: &str) -> Reply {
        let external = filter.strip_prefix("externalId eq \"").and_then(|rest| rest.strip_suffix('"'));
        let Some(external) = external else {
            return self.refuse(400, "invalidFilter");
        };
        let found: Vec<Value> =
            self.users.get(external).map(|user| shown(external, user)).into_iter().collect();
        let total = Value::Int(i64::try_from(found.len()).unwrap_or_default());
        Reply::exact(200, Value::map([("totalResults", total), ("Resources", Value::from(found))]))
    }
}

fn shown(external: &str, user: &Value) -> Value {
    let mut shown = user.clone();
    shown.set_path("id", Value::from(format!("usr-{external}")));
    shown
}

impl System for Directory {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        match (&call.method, &call.parts()[..]) {
            (&Method::POST, ["scim", "v2", "Users"]) => of("create_user", Kind::Natural),
            (&Method::GET, ["scim", "v2", "Users"]) => of("find_user", Kind::Read),
            (&Method::DELETE, ["scim", "v2", "Users", _]) => of("delete_user", Kind::Natural),
            (&Method::PATCH, ["scim", "v2", "Users", _]) => {
                let operations = call.body.get("Operations").and_then(Value::as_list).unwrap_or_default();
                match operations.first().and_then(|first| first.path("value.active")?.as_bool()) {
                    Some(true) => of("activate_user", Kind::Natural),
                    Some(false) => of("deactivate_user", Kind::Natural),
                    None => of("update_user", Kind::Natural),
                }
            }
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if is_bearer(call) { Ok(()) } else { Err(self.refuse(401, "the token is not valid")) }
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let id = call.path.get(3).cloned().unwrap_or_default();
        match operation {
            "create_user" => self.create(call),
            "find_user" => Done::only(self.find(call.query.get("filter").map_or("", String::as_str))),
            "delete_user" => self.delete(&id),
            _ => self.patch(&id, call),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let mut body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": status.to_string(), "detail": why});
        if status == 409 {
            body["scimType"] = json!("uniqueness");
        }
        Reply::json(status, body)
    }

    fn held(&self) -> Held {
        Held::from([("user", self.users.clone())])
    }
}

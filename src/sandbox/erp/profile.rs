//! Invoice profiles: how a customer is invoiced for one subscription, put by external id.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use syncline_actors::value::Value;

use super::super::call::{Call, Done, Kind, Operation, Reply};

/// The custom record that holds them.
const KIND: &str = "customrecord_invoice_profile";

#[derive(Debug, Default)]
pub(super) struct Profiles {
    /// By external id.
    profiles: BTreeMap<String, Value>,
}

/// Which operation on profiles a call is.
pub(super) fn operation(call: &Call, rest: &[&str]) -> Option<Operation> {
    let of = |name, kind| Some(Operation { name, kind });
    match (&call.method, rest) {
        (&Method::PUT, [KIND, id]) if id.starts_with("eid:") => of("upsert_invoice_profile", Kind::Natural),
        (&Method::PATCH, [KIND, id]) if id.starts_with("eid:") => of("close_invoice_profile", Kind::Natural),
        (&Method::GET, [KIND, id]) if id.starts_with("eid:") => of("get_invoice_profile", Kind::Read),
        _ => None,
    }
}

impl Profiles {
    /// Does it; the error is status and sentence of a refusal. `known`: whether the customer that is named exists.
    pub(super) fn perform(
        &mut self,
        operation: &str,
        external: &str,
        known: bool,
        call: &Call,
    ) -> Result<Done, (u16, String)> {
        let located = || Reply::empty(204).with("Location", format!("{}/{KIND}/IP-{external}", super::BASE));
        if operation == "upsert_invoice_profile" {
            if !known || external.ends_with("-NOPROFILE") {
                return Err((
                    400,
                    format!("Invalid Field Value for: customer of invoice profile {external}"),
                ));
            }
            let mut fields = call.body.clone();
            fields.set_path("isInactive", Value::Bool(false));
            let before = self.profiles.insert(external.to_owned(), fields.clone());
            return Ok(Done::applied(located(), external).altered(before.as_ref() != Some(&fields)));
        }
        let Some(found) = self.profiles.get_mut(external) else {
            return Err((404, format!("The record instance does not exist: {KIND} eid:{external}")));
        };
        let inactive = found.get("isInactive") == Some(&Value::Bool(true));
        if operation == "close_invoice_profile" {
            found.set_path("isInactive", Value::Bool(true));
            return Ok(Done::applied(located(), external).altered(!inactive));
        }
        let customer = found.path("customer.id").map(Value::to_plain_text);
        let body =
            json!({"id": format!("IP-{external}"), "isInactive": inactive, "customer": {"id": customer}});
        Ok(Done::only(Reply::json(200, body)))
    }

    pub(super) fn held(&self) -> BTreeMap<String, Value> {
        self.profiles.clone()
    }
}

//! The vendor master of the simulated ERP: vendors by external id, what is paid to them, and the organisations that buy from them.
//!
//! A vendor that is put without a word about it is active, as in NetSuite: whoever wants it to wait says `isInactive`. A vendor that
//! is made active without bank details, or without an organisation that buys from it, is made so all the same, and the ledger tells.
//! An organisation whose name ends in `-NONE` does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;
use syncline_actors::value::Value;

use super::super::call::{Call, Done, Kind, Operation, Reply};
use super::BASE;

/// What a call that changes part of a vendor is called, by a field that only it sends.
const CHANGES: [(&str, &str); 3] = [
    ("custentity_payment_hold", "set_payment_hold"),
    ("isInactive", "set_vendor_status"),
    ("bankDetails", "set_vendor_bank"),
];

/// All vendors, and who buys from whom.
#[derive(Debug, Default)]
pub(super) struct Vendors {
    /// Fields by external id.
    by_external: BTreeMap<String, Value>,
    /// Numbers in the order in which they were made, by external id.
    numbers: BTreeMap<String, usize>,
    /// Whether an organisation buys from a vendor, by the external id of the relationship.
    relationships: BTreeMap<String, Value>,
    /// External ids of relationships that a vendor ever had, by the vendor's.
    related: BTreeMap<String, BTreeSet<String>>,
    /// External ids of vendors that ever had a tax number.
    by_tax_number: BTreeMap<String, BTreeSet<String>>,
}

/// The operation of a call, if it is about vendors. `rest` is its path below the records.
pub(super) fn operation(call: &Call, rest: &[&str]) -> Option<Operation> {
    let of = |name, kind| Some(Operation { name, kind });
    let named = |id: &str| id.starts_with("eid:");
    match (&call.method, rest) {
        (&Method::GET, ["vendor"]) => of("find_vendors", Kind::Read),
        (&Method::GET, ["vendor", id]) if named(id) => of("get_vendor", Kind::Read),
        (&Method::PUT, ["vendor", id]) if named(id) => of("create_vendor", Kind::Natural),
        (&Method::PATCH, ["vendor", id]) if named(id) => {
            let found = CHANGES.iter().find(|(field, _)| call.body.get(field).is_some());
            of(found.map_or("update_vendor", |(_, name)| name), Kind::Natural)
        }
        (&Method::PUT, ["vendorSubsidiaryRelationship", id]) if named(id) => {
            let ends = call.body.get("isInactive") == Some(&Value::Bool(true));
            of(if ends { "remove_purchasing_org" } else { "assign_purchasing_org" }, Kind::Natural)
        }
        _ => None,
    }
}

impl Vendors {
    /// Does it; the error says why not, with its status.
    pub(super) fn perform(
        &mut self,
        operation: &str,
        external: &str,
        call: &Call,
    ) -> Result<Done, (u16, String)> {
        match operation {
            "find_vendors" => Ok(Done::only(self.find(call))),
            "get_vendor" => self.get(external),
            "create_vendor" => self.put(external, call),
            "assign_purchasing_org" | "remove_purchasing_org" => self.relate(external, call),
            _ => self.change(external, call),
        }
    }

    /// Every vendor's fields with the organisations that buy from it, by external id.
    pub(super) fn records(&self) -> impl Iterator<Item = (String, Value)> + '_ {
        self.by_external.iter().map(|(external, fields)| {
            let mut fields = fields.as_map().cloned().unwrap_or_default();
            fields.insert("purchasingOrgs".into(), Value::list(self.buyers(external)));
            (external.clone(), Value::Map(Arc::new(fields)))
        })
    }

    fn buyers<'v>(&'v self, external: &'v str) -> impl Iterator<Item = Value> + 'v {
        let id = Value::from(vendor_id(external));
        let active = move |fields: &&Value| {
            fields.path("entity.id") == Some(&id) && fields.get("isInactive") != Some(&Value::Bool(true))
        };
        let related = self.related.get(external).into_iter().flatten();
        related
            .filter_map(|id| self.relationships.get(id))
            .filter(active)
            .filter_map(|fields| fields.path("subsidiary.externalId").cloned())
    }

    /// `GET vendor?q=vatRegNumber IS "…"`.
    fn find(&self, call: &Call) -> Reply {
        let query = call.query.get("q").map_or("", String::as_str);
        let wanted = query.strip_prefix("vatRegNumber IS ").map(|text| text.trim_matches('"'));
        let fits = |fields: &Value| fields.get("vatRegNumber").and_then(Value::as_text) == wanted;
        let had = wanted.and_then(|wanted| self.by_tax_number.get(wanted)).into_iter().flatten();
        let mut found: Vec<_> = had
            .filter_map(|external| self.by_external.get_key_value(external))
            .filter(|(_, fields)| fits(fields))
            .collect();
        found.sort_by_key(|(external, _)| self.numbers.get(*external));
        let items: Vec<Value> = found
            .into_iter()
            .map(|(external, fields)| {
                let part = |name| fields.get(name).cloned().unwrap_or_default();
                Value::map([
                    ("id", Value::from(vendor_id(external))),
                    ("externalId", Value::from(external.as_str())),
                    ("custentity_status", part("custentity_status")),
                ])
            })
            .collect();
        let count = i64::try_from(items.len()).unwrap_or_default();
        Reply::exact(
            200,
            Value::map([
                ("count", Value::Int(count)),
                ("hasMore", Value::Bool(false)),
                ("items", Value::list(items)),
            ]),
        )
    }

    fn get(&self, external: &str) -> Result<Done, (u16, String)> {
        let fields = self.by_external.get(external).ok_or_else(|| gone(external))?;
        Ok(Done::only(Reply::exact(200, fields.clone())))
    }

    fn put(&mut self, external: &str, call: &Call) -> Result<Done, (u16, String)> {
        if call.text("companyName").is_none() {
            return Err((400, "Please enter value(s) for: Company Name".to_owned()));
        }
        let next = self.numbers.len() + 1;
        self.numbers.entry(external.to_owned()).or_insert(next);
        if let Some(number) = call.text("vatRegNumber") {
            self.by_tax_number.entry(number).or_default().insert(external.to_owned());
        }
        let before = self.by_external.insert(external.to_owned(), call.body.clone());
        let altered = before.as_ref() != Some(&call.body);
        Ok(Done::applied(located("vendor", &vendor_id(external)), external).altered(altered))
    }

    fn change(&mut self, external: &str, call: &Call) -> Result<Done, (u16, String)> {
        let buyers = self.buyers(external).count();
        let fields = self.by_external.get_mut(external).ok_or_else(|| gone(external))?;
        let mut merged = fields.as_map().cloned().unwrap_or_default();
        merged.extend(
            call.body.as_map().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())),
        );
        let merged = Value::Map(Arc::new(merged));
        let altered = *fields != merged;
        *fields = merged;
        let wakes = call.body.get("isInactive") == Some(&Value::Bool(false));
        let lacks = match fields.path("bankDetails.iban") {
            None | Some(Value::Null) => Some("bank details"),
            Some(_) if buyers == 0 => Some("an organisation that buys from it"),
            Some(_) => None,
        };
        let wrong =
            lacks.filter(|_| wakes).map(|lacks| format!("{external} was made active without {lacks}"));
        Ok(Done::applied(located("vendor", &vendor_id(external)), external).altered(altered).violating(wrong))
    }

    fn relate(&mut self, id: &str, call: &Call) -> Result<Done, (u16, String)> {
        let vendor = call.text("entity.id").unwrap_or_default();
        let external = vendor.strip_prefix("VEND-").unwrap_or_default();
        if !self.by_external.contains_key(external) {
            return Err((400, format!("Invalid Field Value {vendor} for: entity")));
        }
        let organisation = call.text("subsidiary.externalId").unwrap_or_default();
        if organisation.is_empty() || organisation.ends_with("-NONE") {
            return Err((400, format!("Invalid Field Value {organisation} for: subsidiary")));
        }
        self.related.entry(external.to_owned()).or_default().insert(id.to_owned());
        let before = self.relationships.insert(id.to_owned(), call.body.clone());
        let altered = before.as_ref() != Some(&call.body);
        Ok(Done::applied(located("vendorSubsidiaryRelationship", id), external).altered(altered))
    }
}

fn gone(external: &str) -> (u16, String) {
    (404, format!("The record instance does not exist: vendor eid:{external}"))
}

fn located(kind: &str, id: &str) -> Reply {
    Reply::empty(204).with("Location", format!("{BASE}/{kind}/{id}"))
}

/// The id by which the ERP knows a vendor: the same for ever.
fn vendor_id(external: &str) -> String {
    format!("VEND-{external}")
}

//! What people type at the screens of the simulated ERP: items, and what a customer may spend. Both are told by webhook: of an item only
//! which it is, of a customer its terms as they are by then.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use syncline_actors::time::Timestamp;
use syncline_actors::value::{Entries, Value};

use super::super::call::{Call, Done, Reply};
use super::customer_id;

/// Fields that were typed in, and when last: later than the time before, also within one millisecond.
#[derive(Debug)]
struct Typed {
    fields: Entries,
    at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Screens {
    /// By sku.
    items: BTreeMap<String, Typed>,
    /// What finance says of customers, by external id.
    terms: BTreeMap<String, Typed>,
}

impl Screens {
    pub(super) fn edit_item(&mut self, sku: &str, call: &Call) -> Done {
        edit(&mut self.items, "item", sku, call)
    }

    pub(super) fn edit_customer(&mut self, external: &str, call: &Call) -> Done {
        edit(&mut self.terms, "customer", external, call)
    }

    /// An item as it is answered.
    pub(super) fn item(&self, sku: &str) -> Option<Value> {
        let mut fields = self.items.get(sku)?.fields.clone();
        fields.insert("id".into(), Value::from(format!("ITEM-{sku}")));
        fields.insert("itemId".into(), Value::from(sku));
        Some(Value::Map(Arc::new(fields)))
    }

    pub(super) fn items(&self) -> BTreeMap<String, Value> {
        self.items.keys().filter_map(|sku| Some((sku.clone(), self.item(sku)?))).collect()
    }

    /// A customer with what finance says of it.
    pub(super) fn with_terms(&self, (external, fields): (&String, &Value)) -> (String, Value) {
        let mut fields = fields.as_map().cloned().unwrap_or_default();
        if let Some(typed) = self.terms.get(external) {
            fields.extend(typed.fields.clone());
        }
        (external.clone(), Value::Map(Arc::new(fields)))
    }

    /// The webhook about an edit.
    pub(super) fn due(&self, reference: &str, at: Timestamp) -> Option<serde_json::Value> {
        let (named, _) = reference.rsplit_once(':')?;
        let (kind, external) = named.split_once(':')?;
        let data = if kind == "item" {
            json!({"externalId": external})
        } else {
            let typed = self.terms.get(external)?;
            let mut data = Value::map(typed.fields.clone()).to_serde_json();
            data["id"] = json!(customer_id(external));
            data["externalId"] = json!(external);
            data["lastModifiedDate"] = json!(typed.at.to_string());
            data
        };
        let kind = format!("{kind}.updated");
        Some(json!({"type": kind, "timestamp": at.to_string(), "schema_version": 1, "data": data}))
    }
}

/// Lays what is typed over what is there.
fn edit(records: &mut BTreeMap<String, Typed>, kind: &str, external: &str, call: &Call) -> Done {
    let typed = records
        .entry(external.to_owned())
        .or_insert_with(|| Typed { fields: Entries::new(), at: Timestamp(call.at.0 - 1) });
    let before = typed.fields.clone();
    typed.fields.extend(call.body.as_map().cloned().unwrap_or_default());
    let altered = typed.fields != before;
    if altered {
        typed.at = call.at.max(Timestamp(typed.at.0 + 1));
    }
    let mut done = Done::applied(Reply::empty(204), external).altered(altered);
    if let Some(change) = done.change.as_mut().filter(|_| altered) {
        change.later = Some(format!("{kind}:{external}:{}", typed.at.0));
    }
    done
}

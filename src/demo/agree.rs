//! Field by field: what an entity says of a record in another system is what stands there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use syncline_actors::mask::masked;
use syncline_actors::value::Value;

use super::Error;
use super::stage::Stage;
use super::story::Story;
use super::suppliers::{Case, Must};
use crate::api::{Entity, Operate};
use crate::sandbox::{Sandbox, Snapshot};

/// What stands in the systems now.
pub(super) type Records = BTreeMap<&'static str, BTreeMap<&'static str, BTreeMap<String, Value>>>;

/// What the systems hold now, by system, kind and key.
pub(super) fn records(sandbox: &Sandbox) -> Records {
    Sandbox::systems().map(|system| (system, sandbox.held(system))).collect()
}

/// Every difference found, each as a sentence, and how many fields were compared.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) wrong: Vec<String>,
    pub(super) fields: usize,
}

impl Compared {
    fn same(&mut self, what: &str, ours: &str, theirs: &str) {
        self.fields += 1;
        if ours != theirs {
            self.wrong.push(format!("{what}: we say `{ours}`, it says `{theirs}`"));
        }
    }
}

/// A record of a system, by kind and key: `vendor/SUP-00001`.
fn record<'r>(records: &'r Records, system: &str, name: &str) -> Option<&'r Value> {
    let (kind, key) = name.split_once('/')?;
    records.get(system)?.get(kind)?.get(key)
}

/// Text at a dotted path, however it is written; empty where there is nothing.
fn text(record: Option<&Value>, path: &str) -> String {
    record
        .and_then(|record| record.path(path))
        .filter(|value| !value.is_null())
        .map(Value::to_plain_text)
        .unwrap_or_default()
}

/// A field of an entity as text; empty where there is nothing.
fn field(fields: &Json, name: &str) -> String {
    match &fields[name] {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn fields(entity: &Entity) -> Json {
    serde_json::from_str(entity.fields.get()).unwrap_or_default()
}

/// Orders: their sales order and invoice in the ERP.
pub(super) async fn orders(operate: &Arc<dyn Operate>, story: &Story, records: &Records) -> Compared {
    let mut compared = Compared::default();
    for case in &story.cases {
        let Ok(entity) = operate.entity(&case.entity).await else { continue };
        let (fields, key) = (fields(&entity), case.entity.key());
        if !matches!(&*entity.status, "completed" | "cancelled")
            || field(&fields, "sales_order_id").is_empty()
        {
            continue;
        }
        let sales_order = record(records, "erp", &format!("sales_order/{key}"));
        let of = |name: &str| format!("{} {name}", case.entity);
        compared.same(&of("sales order"), &field(&fields, "sales_order_id"), &text(sales_order, "id"));
        compared.same(&of("its number"), &field(&fields, "sales_order_number"), &text(sales_order, "number"));
        let closed = (entity.status == "cancelled").to_string();
        compared.same(&of("closed"), &closed, &text(sales_order, "closed"));
        let invoice = record(records, "erp", &format!("invoice/{key}-INV"));
        compared.same(&of("invoice"), &field(&fields, "invoice_id"), &text(invoice, "id"));
        compared.same(&of("its number"), &field(&fields, "invoice_number"), &text(invoice, "number"));
        let customer = record(records, "erp", &format!("customer/{}", field(&fields, "account_id")));
        compared.same(&of("customer"), &field(&fields, "account_name"), &text(customer, "companyName"));
    }
    compared
}

/// Suppliers: their vendor in the ERP, and what the sourcing tool was told.
pub(super) async fn suppliers(operate: &Arc<dyn Operate>, cases: &[Case], records: &Records) -> Compared {
    let mut compared = Compared::default();
    for case in cases {
        let Ok(entity) = operate.entity(&case.entity).await else { continue };
        let fields = fields(&entity);
        let vendor = record(records, "erp", &format!("vendor/{}", case.entity.key()));
        let sourced = record(records, "sourcing", &format!("supplier/{}", case.entity.key()));
        let of = |name: &str| format!("{} {name}", case.entity);
        for (ours, theirs) in [("name", "companyName"), ("email", "email"), ("tax_id", "vatRegNumber")] {
            compared.same(&of(ours), &field(&fields, ours), &text(vendor, theirs));
        }
        let Some(stands) = Stands::of(case.must) else { continue };
        compared.same(&of("status"), stands.status, &text(vendor, "custentity_status"));
        compared.same(&of("inactive"), &(stands.status != "active").to_string(), &text(vendor, "isInactive"));
        compared.same(
            &of("payments held"),
            &stands.held.to_string(),
            &text(vendor, "custentity_payment_hold"),
        );
        compared.same(&of("bought by"), stands.bought_by, &text(vendor, "purchasingOrgs"));
        compared.same(&of("status told"), stands.told, &text(sourced, "erp-status"));
        compared.same(&of("number told"), &field(&fields, "vendor_id"), &text(sourced, "erp-number"));
        if matches!(case.must, Must::Active | Must::Moved) {
            // We show the account by its end only; what it must be we know.
            compared.same(
                &of("account"),
                &field(&fields, "iban"),
                &masked(&text(vendor, "bankDetails.iban")),
            );
            compared.same(&of("account"), &case.iban(), &text(vendor, "bankDetails.iban"));
            compared.same(&of("account there"), &case.iban(), &text(sourced, "remit-to.iban"));
        }
    }
    compared
}

/// How a vendor must stand.
struct Stands {
    status: &'static str,
    held: bool,
    bought_by: &'static str,
    told: &'static str,
}

impl Stands {
    fn of(must: Must) -> Option<Self> {
        let stands = |status, held, bought_by, told| Some(Self { status, held, bought_by, told });
        match must {
            Must::Active | Must::Moved => stands("active", false, "[\"EU01\"]", "active"),
            Must::Refused => stands("withdrawn", false, "[]", "refused"),
            Must::Offboarded => stands("offboarded", true, "[]", "offboarded"),
            Must::Hold => None,
        }
    }
}

/// Vendors that are active although their account was not validated or their tax id not checked, and incidents left open.
pub(super) fn unchecked(cases: &[Case], ledger: &Snapshot, records: &Records) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases.iter().filter(|case| matches!(case.must, Must::Active | Must::Moved)) {
        let key = case.entity.key();
        let vendor = record(records, "erp", &format!("vendor/{key}"));
        if !ledger.of("bank", "validate").any(|entry| entry.reference == key) {
            wrong.push(format!("{} is active, and nobody validated its account", case.entity));
        }
        let tax_id = text(vendor, "vatRegNumber");
        if !ledger.of("taxreg", "check").any(|entry| entry.reference == tax_id) {
            wrong.push(format!("{} is active, and nobody checked its tax id", case.entity));
        }
    }
    let incidents =
        records.get("itsm").and_then(|held| held.get("incident")).into_iter().flat_map(BTreeMap::values);
    let open = incidents.filter(|incident| text(Some(incident), "state") != "6");
    let about = open.map(|incident| text(Some(incident), "correlation_id"));
    wrong.extend(
        about
            .filter(|about| about.starts_with("supplier:"))
            .map(|about| format!("{about} has an open incident")),
    );
    wrong
}

/// Bank accounts that pages, API or command line show whole.
pub(super) async fn shown(operate: &Arc<dyn Operate>, cases: &[Case]) -> Result<Vec<String>, Error> {
    let mut wrong = Vec::new();
    for case in cases {
        let Ok(entity) = operate.entity(&case.entity).await else { continue };
        let timeline = super::books::timeline(operate, &case.entity).await?;
        let told = [serde_json::to_string(&entity), serde_json::to_string(&timeline)];
        let told = told.into_iter().flatten().collect::<String>();
        if case.ibans().iter().any(|iban| told.contains(iban)) {
            wrong.push(format!("{} shows its bank account", case.entity));
        }
    }
    Ok(wrong)
}

/// Waits until nothing is on its way any more: every webhook is heard, no effect waits, and everyone stands where they must.
pub(super) async fn quiet(stage: &Stage, cases: &[Case]) -> bool {
    let Some(operate) = stage.operate().await else { return false };
    let heard = stage.sandbox.ledger().webhooks.iter().all(|webhook| webhook.accepted > 0);
    let Ok(connectors) = operate.connectors().await else { return false };
    if !heard || connectors.items.iter().filter_map(|connector| connector.waiting).any(|waiting| waiting > 0)
    {
        return false;
    }
    for case in cases {
        if !stage.state_of(&case.entity).await.is_some_and(|state| case.must.allows(&state)) {
            return false;
        }
    }
    true
}

//! The simulated ERP of a second company, shaped like SAP S/4HANA (`OData` V2): business partners and sales orders.
//!
//! What changes something needs a CSRF token and the cookie it came with, fetched by `x-csrf-token: fetch`; without them, or with those
//! of a session that is over, it is 403. There is no idempotency key: a second order for one purchase order number is made, and the
//! ledger tells. Numbers are text. A total above 1,000,000 is refused, and so are partners whose number ends in `-REFUSED`.
//!
//! What people type at its screens (`screen/partners/{number}`) is told by webhook, as its events are: by its own number alone.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::json;
use syncline_actors::time::Timestamp;
use syncline_actors::value::{Entries, Value};

use super::access::is_basic;
use super::call::{Call, Done, Held, Kind, Operation, Reply, System};

/// How long a session lasts.
const LIFE: Duration = Duration::from_mins(30);

/// How long after an expiry no other session expires by a fault.
const GRACE: Duration = Duration::from_secs(2);

const COOKIE: &str = "SAP_SESSIONID_S4H_100";

/// A business partner or a sales order.
#[derive(Debug, Clone)]
struct Record {
    number: String,
    /// Our key: the id in an external system, or the purchase order number.
    external: String,
    fields: Entries,
}

/// Partners or orders, in the order in which they were made.
#[derive(Debug)]
struct Records {
    /// The number of the first.
    first: usize,
    all: Vec<Record>,
    /// Places, by our key.
    by_external: BTreeMap<String, Vec<usize>>,
}

impl Records {
    fn from(first: usize) -> Self {
        Self { first, all: Vec::new(), by_external: BTreeMap::new() }
    }

    /// Makes one more; its number, and whether there was one for this key.
    fn push(&mut self, external: &str, fields: Entries) -> (String, bool) {
        let place = self.all.len();
        let number = (self.first + place).to_string();
        let places = self.by_external.entry(external.to_owned()).or_default();
        let second = !places.is_empty();
        places.push(place);
        self.all.push(Record { number: number.clone(), external: external.to_owned(), fields });
        (number, second)
    }

    fn get_mut(&mut self, number: &str) -> Option<&mut Record> {
        let place = number.parse::<usize>().ok()?.checked_sub(self.first)?;
        self.all.get_mut(place).filter(|record| record.number == number)
    }

    fn find(&self, external: &str) -> impl Iterator<Item = &Record> {
        self.by_external.get(external).into_iter().flatten().filter_map(|place| self.all.get(*place))
    }
}

#[derive(Debug)]
pub(super) struct S4 {
    /// Ends of sessions, by token; the cookie of a session is derived from it.
    sessions: BTreeMap<String, Timestamp>,
    begun: u64,
    expired: Option<Timestamp>,
    partners: Records,
    orders: Records,
}

impl S4 {
    pub(super) fn new() -> Self {
        let (sessions, expired) = (BTreeMap::new(), None);
        let (partners, orders) = (Records::from(1_000_001), Records::from(1));
        Self { sessions, begun: 0, expired, partners, orders }
    }

    fn begin_session(&mut self, call: &Call) -> Reply {
        let body = json!({"d": {"EntitySets": ["A_BusinessPartner", "A_SalesOrder"]}});
        let reply = Reply::json(200, body);
        if call.header("x-csrf-token").is_none_or(|asked| !asked.eq_ignore_ascii_case("fetch")) {
            return reply;
        }
        self.begun += 1;
        let token = format!("csrf-{}", self.begun);
        self.sessions.insert(token.clone(), call.at.plus(LIFE));
        let cookie = format!("{COOKIE}={token}; path=/; HttpOnly");
        reply
            .with("x-csrf-token", token)
            .with("Set-Cookie", cookie)
            .with("Set-Cookie", "sap-usercontext=sap-client=100")
    }

    /// Whether token and cookie are those of one session that lasts.
    fn is_in_session(&self, call: &Call) -> bool {
        let Some(token) = call.header("x-csrf-token") else { return false };
        let cookies = call.header("cookie").unwrap_or_default();
        let own = format!("{COOKIE}={token}");
        let lasts = self.sessions.get(token).is_some_and(|until| *until > call.at);
        lasts && cookies.split(';').any(|cookie| cookie.trim() == own)
    }

    fn create_partner(&mut self, call: &Call) -> Done {
        let Some(external) = call.text("BusinessPartnerIDByExtSystem") else {
            return Done::only(self.refuse(400, "Enter a number of the external system"));
        };
        if call.text("OrganizationBPName1").is_none() {
            return Done::only(self.refuse(400, "Enter a name for the organization"));
        }
        if external.ends_with("-REFUSED") {
            return Done::only(
                self.refuse(400, &format!("Business partner {external} is blocked centrally")),
            );
        }
        let (number, second) = self.partners.push(&external, fields(call));
        let body = json!({"d": {"BusinessPartner": number, "BusinessPartnerIDByExtSystem": external}});
        let told = second.then(|| format!("a second business partner for {external}"));
        Done::applied(Reply::json(201, body), external).violating(told)
    }

    fn change_partner(&mut self, number: &str, call: &Call) -> Done {
        let Some(partner) = self.partners.get_mut(number) else {
            return Done::only(self.refuse(404, &format!("Business partner {number} does not exist")));
        };
        let before = partner.fields.clone();
        partner.fields.extend(fields(call));
        let altered = partner.fields != before;
        Done::applied(Reply::empty(204), partner.external.clone()).altered(altered)
    }

    /// A person changes a partner, which is told.
    fn edit_partner(&mut self, number: &str, call: &Call) -> Done {
        let mut done = self.change_partner(number, call);
        if let Some(change) = done.change.as_mut().filter(|change| change.altered) {
            change.later = Some(format!("{number}:{}", call.at.0));
        }
        done
    }

    fn create_order(&mut self, call: &Call) -> Done {
        let sold_to = call.text("SoldToParty").unwrap_or_default();
        let known = self.partners.get_mut(&sold_to).is_some();
        let refused = |why: String| Done::only(self.refuse(400, &why));
        let Some(external) = call.text("PurchaseOrderByCustomer") else {
            return refused("Enter a customer reference".to_owned());
        };
        if !known {
            return refused(format!("Sold-to party {sold_to} not maintained for sales area"));
        }
        let items = call.body.path("to_Item.results").and_then(Value::as_list).unwrap_or_default();
        if items.is_empty() {
            return refused("Enter at least one item".to_owned());
        }
        // The V2 protocol writes decimals as text; a JSON number is a malformed request.
        let texts = ["RequestedQuantity", "NetAmount"];
        let number = items
            .iter()
            .flat_map(|item| texts.map(|key| item.get(key)))
            .flatten()
            .any(|value| value.as_text().is_none());
        let total = call.body.get("TotalNetAmount").and_then(Value::as_text).and_then(Value::parse_decimal);
        match total {
            _ if number => return refused("Malformed numeric literal in the request body".to_owned()),
            None => return refused("Malformed value for property TotalNetAmount".to_owned()),
            Some(total) if total > rust_decimal::Decimal::from(1_000_000) => {
                return refused(format!("Net value {total} exceeds the credit limit"));
            }
            Some(_) => {}
        }
        let (number, second) = self.orders.push(&external, fields(call));
        let body = json!({"d": {"SalesOrder": number, "PurchaseOrderByCustomer": external}});
        let told = second.then(|| format!("a second sales order for {external}"));
        Done::applied(Reply::json(201, body), external).violating(told)
    }

    fn close_order(&mut self, number: &str, call: &Call) -> Done {
        let Some(order) = self.orders.get_mut(number) else {
            return Done::only(self.refuse(404, &format!("Sales document {number} does not exist")));
        };
        let before = order.fields.clone();
        order.fields.extend(fields(call));
        let altered = order.fields != before;
        Done::applied(Reply::empty(204), order.external.clone()).altered(altered)
    }

    /// `$filter=Name eq 'value'`, which is all of the filter language that is understood here.
    fn search(&self, records: &Records, key: &'static str, call: &Call) -> Reply {
        let filter = call.query.get("$filter").map(String::as_str).unwrap_or_default();
        let wanted = filter.split_once(" eq '").and_then(|(_, rest)| rest.strip_suffix('\''));
        let Some(wanted) = wanted.map(|wanted| wanted.replace("''", "'")) else {
            return self.refuse(400, &format!("Invalid expression: {filter}"));
        };
        let results: Vec<_> = records.find(&wanted).map(|record| json!({key: record.number})).collect();
        Reply::json(200, json!({"d": {"results": results}}))
    }
}

fn fields(call: &Call) -> Entries {
    call.body.as_map().cloned().unwrap_or_default()
}

/// `A_SalesOrder('17')` is the set and the key in it.
fn keyed(part: &str) -> (&str, Option<&str>) {
    match part.split_once("('") {
        Some((set, key)) => (set, key.strip_suffix("')")),
        None => (part, None),
    }
}

impl System for S4 {
    fn operation(&self, call: &Call) -> Option<Operation> {
        let of = |name, kind| Some(Operation { name, kind });
        let parts = call.parts();
        if let (&Method::PUT, ["screen", "partners", _]) = (&call.method, &parts[..]) {
            return of("edit_partner", Kind::Natural);
        }
        let ["sap", "opu", "odata", "sap", _, rest @ ..] = &parts[..] else { return None };
        let Some(last) = rest.first() else { return of("session", Kind::Read) };
        match (&call.method, keyed(last)) {
            (&Method::POST, ("A_BusinessPartner", None)) => of("create_partner", Kind::Natural),
            (&Method::PATCH, ("A_BusinessPartner", Some(_))) => of("change_partner", Kind::Natural),
            (&Method::GET, ("A_BusinessPartner", None)) => of("find_partner", Kind::Read),
            (&Method::POST, ("A_SalesOrder", None)) => of("create_sales_order", Kind::Natural),
            (&Method::PATCH, ("A_SalesOrder", Some(_))) => of("close_sales_order", Kind::Natural),
            (&Method::GET, ("A_SalesOrder", None)) => of("find_sales_order", Kind::Read),
            _ => None,
        }
    }

    fn authorize(&mut self, call: &Call) -> Result<(), Reply> {
        if call.path.first().is_some_and(|part| part == "screen") {
            return Ok(()); // people show who they are
        }
        if !is_basic(call) {
            return Err(self.refuse(401, "Logon failed"));
        }
        if call.method == Method::GET || self.is_in_session(call) {
            return Ok(());
        }
        let text = json!("CSRF token validation failed");
        Err(Reply::json(403, text).with("x-csrf-token", "Required"))
    }

    fn perform(&mut self, operation: &'static str, call: &Call) -> Done {
        let key = call.path.last().and_then(|last| keyed(last).1).unwrap_or_default().to_owned();
        match operation {
            "session" => Done::only(self.begin_session(call)),
            "create_partner" => self.create_partner(call),
            "change_partner" => self.change_partner(&key, call),
            "edit_partner" => self.edit_partner(&call.path[2], call),
            "find_partner" => Done::only(self.search(&self.partners, "BusinessPartner", call)),
            "create_sales_order" => self.create_order(call),
            "close_sales_order" => self.close_order(&key, call),
            _ => Done::only(self.search(&self.orders, "SalesOrder", call)),
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Reply {
        let code = match status {
            400 => "SD/318",
            401 => "SY/002",
            404 => "/IWBEP/CM_MGW_RT/020",
            _ => "/IWFND/CM_MGW/096",
        };
        let error = json!({"error": {"code": code, "message": {"lang": "en", "value": why}}});
        Reply::json(status, error)
    }

    fn due(&mut self, reference: &str, at: Timestamp) -> Option<serde_json::Value> {
        let (number, changed) = reference.split_once(':')?;
        let partner = self.partners.get_mut(number)?;
        let field = |name: &str| partner.fields.get(name).map(Value::to_serde_json);
        let changed = Timestamp(changed.parse().ok()?);
        Some(json!({
            "type": "sap.s4.beh.businesspartner.v1.BusinessPartner.Changed.v1",
            "timestamp": at.to_string(),
            "data": {
                "BusinessPartner": number,
                "OrganizationBPName1": field("OrganizationBPName1"),
                "EmailAddress": field("EmailAddress"),
                "LastChangeDateTime": changed.to_string(),
            },
        }))
    }

    fn held(&self) -> Held {
        let all = |records: &Records, key: &str| {
            let held = |record: &Record| {
                let mut fields = record.fields.clone();
                fields.insert(key.into(), Value::from(record.number.as_str()));
                (record.external.clone(), Value::map(fields))
            };
            records.all.iter().map(held).collect()
        };
        Held::from([
            ("partner", all(&self.partners, "BusinessPartner")),
            ("order", all(&self.orders, "SalesOrder")),
        ])
    }

    /// The session that the call came with is over.
    fn expire(&mut self, call: &Call) {
        if self.expired.is_none_or(|at| call.at.since(at) >= GRACE)
            && let Some(token) = call.header("x-csrf-token")
            && self.sessions.remove(token).is_some()
        {
            self.expired = Some(call.at);
        }
    }
}

//! A node that is not there: answers from what a test puts in, and remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use secrecy::SecretString;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use syncline::api::{
    self, Acceptance, Balance, Board, Cluster, ClusterOrder, Connector, Drift, DriftReport, Entity, Entry,
    Exception, ExceptionQuery, Head, Holder, InState, Intervention, Migration, Operate, Outcome, Owned, Page,
    Pending, ReconcileAsk, Reconciliation, Refusal, Source, Step, Suspect, Synced, Who,
};
use syncline::config::Role;
use syncline::console::router;
use syncline::guard::Guard;
use syncline_actors::id::EntityId;
use tower::ServiceExt as _;

/// What it was asked, and what it is to refuse.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    /// What it was asked.
    pub(crate) log: Mutex<Vec<String>>,
    /// What everything is answered with, if set.
    pub(crate) refusal: Option<Refusal>,
    /// Whether interventions are rejected by the entity.
    pub(crate) rejects: bool,
    /// Whether nothing waits for a person.
    pub(crate) is_quiet: bool,
    /// Why the node is not ready.
    pub(crate) not_ready: Option<String>,
}

pub(crate) fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("it is JSON")
}

impl Fake {
    /// What it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.log.lock().expect("no test panics with it").clone()
    }

    fn note(&self, asked: String) -> Result<(), Refusal> {
        self.log.lock().expect("no test panics with it").push(asked);
        self.refusal.clone().map_or(Ok(()), Err)
    }

    fn outcome(&self, intervention: &Intervention) -> Outcome {
        let entity = intervention.id.rsplit_once('#').map_or("", |(entity, _)| entity).to_owned();
        let (verdict, problem) = if self.rejects {
            ("rejected", Some("the invoice is booked already".to_owned()))
        } else {
            ("applied", None)
        };
        Outcome {
            entity,
            seq: 8,
            status: "taxing".into(),
            verdict: verdict.into(),
            problem,
            duplicate: false,
        }
    }
}

pub(crate) fn exception(n: u32, entity: &str, class: &str, summary: &str, owner: &str) -> Exception {
    Exception {
        id: format!("{entity}#{n}"),
        entity: entity.to_owned(),
        class: class.to_owned(),
        summary: summary.to_owned(),
        detail: raw(
            r#"{"effect":"3.0","connector":"erp","amount":1000000000000000.10,"said":"422: customer 4711 is <blocked>"}"#,
        ),
        owner: owner.to_owned(),
        opened_at: Some("2026-11-23T09:12:04.120Z".to_owned()),
        correlation_id: "SO-1001".to_owned(),
    }
}

pub(crate) fn entity(id: &EntityId) -> Entity {
    let pending = Pending {
        effect: "3.0".into(),
        name: "create_invoice".into(),
        connector: "erp".into(),
        operation: "create_invoice".into(),
        idempotency_key: "order/SO-1001:3.0".into(),
        due: Some("2026-11-23T09:15:00Z".into()),
        attempts: 4,
        last: "503: maintenance window".into(),
    };
    Entity {
        id: id.to_string(),
        status: "awaiting_invoice".into(),
        since: "2026-11-23T09:12:03Z".into(),
        version: 2,
        seq: 3,
        began_at: "2026-11-23T09:11:58Z".into(),
        ending: None,
        correlation_id: "SO-1001".into(),
        fields: raw(r#"{"customer":"Müller & Söhne <GmbH>","currency":"EUR","total":1000000000000000.10}"#),
        owners: BTreeMap::from([(
            "customer".into(),
            Owned {
                owner: "crm".into(),
                conflict: "hold".into(),
                by: Some("shop".into()),
                at: Some("2026-11-23T09:11:58Z".into()),
                revision: Some("17".into()),
            },
        )]),
        systems: BTreeMap::from([(
            "erp".into(),
            Synced { stand: "failed".into(), since: "2026-11-23T09:12:00Z".into() },
        )]),
        pending: vec![pending],
        steps: vec![Step { name: "tax".into(), undone: false, result: raw(r#"{"tax":"190.00"}"#) }],
        timers: BTreeMap::from([("invoice_late".into(), "2026-11-24T09:12:03Z".into())]),
        reached: vec!["taxed".into()],
        missed: vec![],
        waiting: vec!["payment.received".into()],
        exceptions: vec![exception(
            1,
            &id.to_string(),
            "dead_letter",
            "ERP did not take the invoice after 8 attempts: 422 customer 4711 is blocked",
            "order-to-cash",
        )],
    }
}

fn entry(seq: u64) -> Entry {
    Entry {
        seq,
        at: format!("2026-11-23T09:12:0{seq}Z"),
        source: "crm".into(),
        message_id: format!("m-{seq}"),
        kind: "event".into(),
        name: "opportunity.won".into(),
        verdict: if seq == 2 { "rejected" } else { "applied" }.into(),
        problem: (seq == 2).then(|| "the order is closed".into()),
        status: "awaiting_invoice".into(),
        changes: vec![
            "status: confirmed → awaiting_invoice".into(),
            "effect 3.0 create_invoice to erp".into(),
        ],
        data: Some(raw(r#"{"id":"006A","note":"<script>alert(1)</script>"}"#)),
        correlation_id: "SO-1001".into(),
        causation_id: None,
        evidence_bytes: 512,
        prev: "9f86d081884c7d65".into(),
    }
}

#[async_trait]
impl Operate for Fake {
    async fn entity(&self, id: &EntityId) -> Result<Entity, Refusal> {
        self.note(format!("entity {id}"))?;
        Ok(entity(id))
    }

    async fn timeline(&self, id: &EntityId, from: u64, limit: usize) -> Result<Page<Entry>, Refusal> {
        self.note(format!("timeline {id} from {from} limit {limit}"))?;
        Ok(Page { items: (from..from + 3).map(entry).collect(), next: Some((from + 3).to_string()) })
    }

    async fn records(&self, id: &EntityId, from: u64, limit: usize) -> Result<Page<String>, Refusal> {
        self.note(format!("records {id} from {from} limit {limit}"))?;
        Ok(Page { items: Vec::new(), next: None })
    }

    async fn entities(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Page<Head>, Refusal> {
        self.note(format!("entities {kind} after {after:?} limit {limit}"))?;
        Ok(Page { items: Vec::new(), next: None })
    }

    async fn search(&self, term: &str, limit: usize) -> Result<Page<String>, Refusal> {
        self.note(format!("search {term} limit {limit}"))?;
        Ok(Page { items: vec!["order/SO-1001".into(), "invoice/R 7/2".into()], next: None })
    }

    async fn exceptions(&self, query: &ExceptionQuery) -> Result<Page<Exception>, Refusal> {
        self.note(format!(
            "exceptions {:?} {:?} {:?} {:?}",
            query.kind, query.class, query.after, query.limit
        ))?;
        let all = [
            exception(
                1,
                "order/SO-1001",
                "dead_letter",
                "ERP did not take the invoice after 8 attempts: 422 customer 4711 is blocked",
                "order-to-cash",
            ),
            exception(
                2,
                "order/SO-1044",
                "dead_letter",
                "Billing did not take the subscription: the answer was lost",
                "",
            ),
            exception(
                1,
                "order/A/7 <b>",
                "hold",
                "The net total is 0.01 EUR off the sum of the lines",
                "finance-ops",
            ),
            exception(
                4,
                "supplier/S-88",
                "poison",
                "The bank check crashed three times on this message",
                "procurement",
            ),
        ];
        let items = if self.is_quiet { Vec::new() } else { all.into() };
        Ok(Page { items, next: (!self.is_quiet).then(|| "supplier/S-88#4".to_owned()) })
    }

    async fn retry(&self, who: &Who, intervention: Intervention) -> Result<Outcome, Refusal> {
        let set = intervention.set.as_ref().map(|set| set.get());
        self.note(format!("retry {} by {}: {} set {set:?}", intervention.id, who.0, intervention.reason))?;
        Ok(self.outcome(&intervention))
    }

    async fn resolve(&self, who: &Who, intervention: Intervention) -> Result<Outcome, Refusal> {
        let result = intervention.result.as_ref().map(|result| result.get());
        self.note(format!(
            "resolve {} by {}: {} result {result:?}",
            intervention.id, who.0, intervention.reason
        ))?;
        Ok(self.outcome(&intervention))
    }

    async fn migrate(&self, who: &Who, migration: Migration) -> Result<Outcome, Refusal> {
        let Migration { entity, from, to, at, state, fields, dry_run, reason, .. } = &migration;
        self.note(format!(
            "migrate {entity} {from}-{to} at {at} to {state} {} dry {dry_run} by {}: {reason}",
            fields.get(),
            who.0
        ))?;
        let id = format!("{entity}#0");
        Ok(self.outcome(&Intervention { id, reason: reason.clone(), set: None, result: None }))
    }

    async fn drift(&self) -> Result<DriftReport, Refusal> {
        self.note("drift".to_owned())?;
        let one = Drift {
            source: "crm".into(),
            event_type: "opportunity.confirmed".into(),
            kind: "type_change".into(),
            path: "/data/Amount".into(),
            said: "/data/Amount is string and should be number <b>".into(),
            count: 12,
            held: 12,
            first: Some("2026-11-23T09:12:04.120Z".into()),
            last: Some("2026-11-23T10:12:04.120Z".into()),
            waiting: 11,
            entities: vec!["order/SO-1001".into(), "order/SO-1044".into()],
        };
        let two =
            Drift { kind: "new_field".into(), path: "/data/Tier__c".into(), count: 3, ..Drift::default() };
        let items = if self.is_quiet { Vec::new() } else { vec![one, two] };
        Ok(DriftReport { node: "a".into(), items })
    }

    async fn sources(&self) -> Result<Page<Source>, Refusal> {
        self.note("sources".to_owned())?;
        let source = Source {
            name: "crm".into(),
            title: "The <CRM>".into(),
            owner: "sales-ops".into(),
            ..Source::default()
        };
        Ok(Page { items: vec![source], next: None })
    }

    async fn balance(&self) -> Result<Page<Balance>, Refusal> {
        self.note("balance".to_owned())?;
        Ok(Page {
            items: vec![Balance { source: "crm".into(), received: 9, ..Balance::default() }],
            next: None,
        })
    }

    async fn reconcile(&self, who: &Who, ask: ReconcileAsk) -> Result<Page<String>, Refusal> {
        self.note(format!("reconcile {:?} {:?} {} by {}", ask.system, ask.process, ask.dry_run, who.0))?;
        Ok(Page { items: vec!["reconcile/1:erp:order".into()], next: None })
    }

    async fn reconciliations(&self, limit: usize) -> Result<Page<Reconciliation>, Refusal> {
        self.note(format!("reconciliations {limit}"))?;
        Ok(Page { items: Vec::new(), next: None })
    }

    async fn connectors(&self) -> Result<Page<Connector>, Refusal> {
        self.note("connectors".to_owned())?;
        Ok(Page { items: vec![connector("erp", false), connector("tax", true)], next: None })
    }

    async fn set_paused(
        &self,
        who: &Who,
        name: &str,
        paused: bool,
        reason: &str,
    ) -> Result<Connector, Refusal> {
        self.note(format!("set_paused {name} {paused} by {}: {reason}", who.0))?;
        Ok(connector(name, paused))
    }

    async fn board(&self) -> Result<Board, Refusal> {
        self.note("board".to_owned())?;
        Ok(board())
    }

    async fn cluster(&self) -> Result<Cluster, Refusal> {
        let holder = Holder {
            node: "a".into(),
            boot: 7,
            shards: 255,
            which: "0-8,10-255".into(),
            lease_ms: Some(3_200),
        };
        let suspect = Suspect { shard: 9, why: "order/SO-1 was at record 7 and is at 5".into() };
        Ok(Cluster {
            members: Vec::new(),
            unplaced: BTreeMap::new(),
            moving: 0,
            orders: Vec::new(),
            node: "a".into(),
            not_ready: None,
            holders: vec![holder],
            free: 1,
            suspect: vec![suspect],
        })
    }

    async fn order(&self, who: &Who, order: ClusterOrder) -> Result<Cluster, Refusal> {
        self.note(format!("order {order:?} by {}", who.0))?;
        self.cluster().await
    }

    async fn accept(&self, who: &Who, acceptance: Acceptance) -> Result<Cluster, Refusal> {
        self.note(format!("accept {} by {}: {}", acceptance.shard, who.0, acceptance.reason))?;
        self.cluster().await
    }

    async fn ready(&self) -> Result<(), String> {
        self.not_ready.clone().map_or(Ok(()), Err)
    }

    async fn metrics(&self) -> String {
        "syncline_residents 12\n".to_owned()
    }
}

fn connector(name: &str, paused: bool) -> Connector {
    Connector {
        name: name.to_owned(),
        title: format!("The {name}"),
        owner: "erp-team".into(),
        paused,
        paused_by: None,
        slots: None,
        breaker: "closed".into(),
        in_flight: 2,
        waiting: Some(14),
        patient: Some(3),
        class: syncline::api::Class::default(),
        late: false,
        oldest: Some("2026-11-23T09:10:00Z".into()),
        throttled_until: None,
    }
}

/// A console over a fake, asked without a network.
pub(crate) struct Console {
    pub(crate) fake: Arc<Fake>,
    router: Router,
}

impl Console {
    /// Nobody needs a token.
    pub(crate) fn open(fake: Fake) -> Self {
        Self::new(fake, Vec::new())
    }

    /// `see` is a viewer's token, `do` an operator's.
    pub(crate) fn guarded(fake: Fake) -> Self {
        let secret = |text: &str| SecretString::from(text.to_owned());
        let viewer = ("grafana".to_owned(), Role::Viewer, secret("see"));
        let operator = ("ops".to_owned(), Role::Operator, secret("do"));
        Self::new(fake, vec![viewer, operator, ("root".to_owned(), Role::Admin, secret("rule"))])
    }

    fn new(fake: Fake, tokens: Vec<(String, Role, SecretString)>) -> Self {
        let fake = Arc::new(fake);
        Self { fake: fake.clone(), router: router(fake, Guard::new(tokens)) }
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("a router cannot fail");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("it is in memory").to_bytes();
        Answer(Response::from_parts(head, String::from_utf8(body.into()).expect("it is text")))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path).body(Body::empty()).expect("it is a path")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(Request::post(path).body(Body::from(body.to_owned())).expect("it is a path")).await
    }

    pub(crate) async fn with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(Body::from(body.to_owned())).expect("it is a request")).await
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer(Response<String>);

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.0.headers().get(name).map_or("", |value| value.to_str().expect("it is text"))
    }

    pub(crate) fn text(&self) -> &str {
        self.0.body()
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(self.text()).expect("it is JSON")
    }

    /// The problem: its status, the name of its type, and what it says.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, String, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let json = self.json();
        let member = |name: &str| json[name].as_str().expect("it is text").to_owned();
        let kind = member("type").split_once('#').expect("it names an anchor").1.to_owned();
        assert_eq!(json["status"], self.status().as_u16(), "{self:?}");
        (self.status().as_u16(), kind, member("detail"))
    }
}

pub(crate) fn board() -> Board {
    let state = InState {
        state: "tax_hold".to_owned(),
        open: 3,
        late: 1,
        oldest: "order/SO-1001".to_owned(),
        since: "2026-11-20T10:00:00.000Z".to_owned(),
        seconds: 270_000,
    };
    let process = api::Process {
        process: "order".to_owned(),
        title: "Order to cash".to_owned(),
        owner: "order-management".to_owned(),
        escalate: "#order-desk".to_owned(),
        open: 3,
        late: 1,
        completed: 200,
        in_time: 199,
        cancelled: 2,
        failed: 0,
        states: vec![state],
    };
    let slo = api::Slo {
        name: "order-booked".to_owned(),
        title: "Orders are booked in four hours".to_owned(),
        process: "order".to_owned(),
        milestone: "booked".to_owned(),
        within_seconds: Some(14_400),
        target: 0.99,
        window_seconds: 2_419_200,
        good: 199,
        bad: 1,
        open: 2,
        ratio: Some(0.995),
        budget_remaining: 0.5,
        owner: "order-management".to_owned(),
        escalate: "#order-desk".to_owned(),
    };
    let as_of = Some("2026-11-23T13:00:00.000Z".to_owned());
    let spent = api::Slo { name: "order-shipped".to_owned(), bad: 9, budget_remaining: -0.5, ..slo.clone() };
    Board { as_of, silent: vec!["c".to_owned()], processes: vec![process], slos: vec![slo, spent] }
}

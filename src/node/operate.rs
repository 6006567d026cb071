//! What people can ask and do: the operations API over host, journal and delivery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use syncline_actors::decide::{decide, refusal as refusal_of};
use syncline_actors::entity::State;
use syncline_actors::envelope::{self, Action, Body, Command, Envelope, Evidence};
use syncline_actors::id::{EntityId, NodeId, ShardId};
use syncline_actors::mask::Mask;
use syncline_actors::outbox::ExceptionRow;
use syncline_actors::process::Process;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::balance::Balance;
use super::cluster::{Cluster, Router};
use super::monitor::Slate;
use super::orders::{self, About, Desk, Order};
use super::reconcile::Reconciler;
use super::{board, masking, polls, view};
use crate::api::{self, ClusterOrder, Outcome, Page, Refusal, Who};
use crate::clock::SharedClock;
use crate::delivery::{Breakers, Delivery};
use crate::host::{self, Host, Lane, POLL, QUARANTINE, Reply};
use crate::ingress::{Ingress, Kept, MailboxError, ReplayError};
use crate::journal::{self, ExceptionFilter, SharedJournal};
use crate::telemetry::{self, ConnectorGauges, Metrics, Snapshot};

/// Longest value that a person may set by hand, in bytes of JSON.
const BY_HAND_MAX: usize = 1 << 20;

/// Open exceptions that the metrics count; more are shown as so many.
const COUNTED_MAX: usize = 10_000;

/// The node as people work with it.
#[derive(Debug)]
pub(super) struct Operator {
    pub(super) router: Router,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) journal: SharedJournal,
    pub(super) desk: Arc<Desk>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) ingress: Arc<Ingress>,
    pub(super) reconciler: Arc<Reconciler>,
    pub(super) balance: Arc<Balance>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) config_hash: String,
    pub(super) slate: Arc<Slate>,
    /// The node is about to end.
    pub(super) leaving: AtomicBool,
}

#[async_trait]
impl api::Operate for Operator {
    async fn entity(&self, id: &EntityId) -> Result<api::Entity, Refusal> {
        let state = self.state(id).await?;
        let outbox = self.journal.outbox_of(id).await.map_err(|error| unread(&error))?;
        let state = masking::state(&self.mask(), state);
        let process = self.host().catalog().governing(id.kind(), state.version);
        Ok(view::entity(id, &state, process.map(|process| &**process), &outbox))
    }

    async fn timeline(&self, id: &EntityId, from: u64, limit: usize) -> Result<Page<api::Entry>, Refusal> {
        let records = self.host().timeline(id, from.max(1), limit).await.map_err(|error| refusal(&error))?;
        if records.is_empty() && from <= 1 {
            return Err(unknown(id));
        }
        let next = (records.len() == limit).then(|| records.last().map(|last| (last.seq + 1).to_string()));
        let (names, mask) = (view::names(&self.state(id).await?, &records), self.mask());
        Ok(Page {
            items: records
                .iter()
                .map(|record| view::entry(&masking::record(&mask, record), &names))
                .collect(),
            next: next.flatten(),
        })
    }

    async fn records(&self, id: &EntityId, from: u64, limit: usize) -> Result<Page<String>, Refusal> {
        let frames = self.journal.records(id, from.max(1), limit).await.map_err(|error| unread(&error))?;
        Ok(Page { items: frames.iter().map(|frame| STANDARD.encode(frame)).collect(), next: None })
    }

    async fn entities(
        &self,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<api::Head>, Refusal> {
        if self.host().catalog().newest(kind).is_none() {
            return Err(Refusal::NotFound(format!("there is no process `{kind}`")));
        }
        let heads = self.journal.heads(kind, after, limit).await.map_err(|error| unread(&error))?;
        let next = (heads.len() == limit).then(|| heads.last().map(|last| last.entity.key().to_owned()));
        Ok(Page { items: heads.iter().map(view::head).collect(), next: next.flatten() })
    }

    async fn search(&self, term: &str, limit: usize) -> Result<Page<String>, Refusal> {
        let mut found = Vec::new();
        for kind in [journal::FLOW, journal::KEY] {
            let more =
                self.journal.find(&format!("{kind}{term}"), limit).await.map_err(|error| unread(&error))?;
            found.extend(more);
        }
        // An entity's own id finds it too, and so does its key.
        let own = EntityId::parse(term).ok().into_iter();
        let keyed =
            self.host().catalog().iter().filter_map(|process| EntityId::new(&process.name, term).ok());
        for id in own.chain(keyed).collect::<BTreeSet<_>>() {
            if self.router.state(&id).await.map_err(|error| refusal(&error))?.is_some() {
                found.push(id);
            }
        }
        found.sort();
        found.dedup();
        found.truncate(limit);
        Ok(Page { items: found.iter().map(ToString::to_string).collect(), next: None })
    }

    async fn exceptions(&self, query: &api::ExceptionQuery) -> Result<Page<api::Exception>, Refusal> {
        let limit = query.limit.unwrap_or(100).clamp(1, 1000);
        let api::ExceptionQuery { kind, class, after, .. } = query.clone();
        let rows = self
            .journal
            .exceptions(&ExceptionFilter { kind, class, after, limit })
            .await
            .map_err(|error| unread(&error))?;
        let next = (rows.len() == limit).then(|| rows.last().map(ExceptionRow::id)).flatten();
        let mask = self.mask();
        Ok(Page { items: rows.iter().map(|row| view::exception(&masking::row(&mask, row))).collect(), next })
    }

    async fn retry(&self, who: &Who, ask: api::Intervention) -> Result<Outcome, Refusal> {
        if ask.result.is_some() {
            return Err(Refusal::Malformed("`result` is for resolve; a retry takes `set`".to_owned()));
        }
        let (entity, exception) = exception_id(&ask.id)?;
        let state = self.state(&entity).await?;
        if entity.kind() == QUARANTINE {
            return self.release(who, &entity, &state, &ask).await;
        }
        let set = by_hand("set", ask.set.as_deref())?;
        telemetry::replayed("manual", 1);
        self.intervene(who, &entity, &state, &ask.reason, Action::Retry { exception, set }).await
    }

    async fn resolve(&self, who: &Who, ask: api::Intervention) -> Result<Outcome, Refusal> {
        if ask.set.is_some() {
            return Err(Refusal::Malformed("`set` is for retry; resolve takes `result`".to_owned()));
        }
        let (entity, exception) = exception_id(&ask.id)?;
        let state = self.state(&entity).await?;
        if entity.kind() == QUARANTINE {
            return self.command(who, &entity, &state, "discard", &ask.reason).await;
        }
        let result = by_hand("result", ask.result.as_deref())?;
        self.intervene(who, &entity, &state, &ask.reason, Action::Resolve { exception, result }).await
    }

    async fn migrate(&self, who: &Who, ask: api::Migration) -> Result<Outcome, Refusal> {
        let entity = EntityId::parse(&ask.entity).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let state = self.state(&entity).await?;
        let catalog = self.host().catalog();
        let Some(process) = catalog.version(entity.kind(), ask.to) else {
            let kind = entity.kind();
            return Err(Refusal::Conflict(format!(
                "this node has no version {} of process `{kind}`",
                ask.to
            )));
        };
        let migration = envelope::Migration {
            from: ask.from,
            to: ask.to,
            at: ask.at,
            state: ask.state.into(),
            fields: by_hand("fields", Some(&*ask.fields))?,
            enter: ask.enter,
            restart_timers: ask.restart_timers,
            with_pending: ask.with_pending,
        };
        if ask.dry_run {
            return Ok(tried(process, &entity, &state, &who.0, migration, self.clock.now()));
        }
        self.intervene(who, &entity, &state, &ask.reason, Action::Migrate(migration)).await
    }

    async fn drift(&self) -> Result<api::DriftReport, Refusal> {
        let filter = ExceptionFilter {
            kind: Some(QUARANTINE.to_owned()),
            limit: COUNTED_MAX,
            ..ExceptionFilter::default()
        };
        let held = self.journal.exceptions(&filter).await.map_err(|error| unread(&error))?;
        let items = super::drift::report(&self.ingress.drift(), &held);
        Ok(api::DriftReport { node: self.host().node().to_string(), items })
    }

    async fn sources(&self) -> Result<Page<api::Source>, Refusal> {
        let mut items = Vec::new();
        for source in self.ingress.sources() {
            let poll = EntityId::new(POLL, &source.name).ok().filter(|_| source.poll.is_some());
            let state = match &poll {
                Some(poll) => self.router.state(poll).await.map_err(|error| refusal(&error))?,
                None => None,
            };
            items.push(view::source(source, state.as_ref()));
        }
        Ok(Page { items, next: None })
    }

    async fn balance(&self) -> Result<Page<api::Balance>, Refusal> {
        let sheet = self.balance.sheet().await.map_err(|error| unread(&error))?;
        let line = |(source, line): (String, api::Balance)| api::Balance { source, ..line };
        Ok(Page { items: sheet.into_iter().map(line).collect(), next: None })
    }

    async fn reconcile(&self, who: &Who, ask: api::ReconcileAsk) -> Result<Page<String>, Refusal> {
        let (system, process) = (ask.system.as_deref(), ask.process.as_deref());
        let begun = self.reconciler.begin(system, process, ask.dry_run, &who.0).await;
        let runs = begun.map_err(|error| refusal(&error))?;
        if runs.is_empty() {
            let what = "no connector says how such records are reconciled: see `reconcile:` in docs/reconciliation.md";
            return Err(Refusal::NotFound(what.to_owned()));
        }
        Ok(Page { items: runs.iter().map(ToString::to_string).collect(), next: None })
    }

    async fn reconciliations(&self, limit: usize) -> Result<Page<api::Reconciliation>, Refusal> {
        let runs = self.reconciler.runs(limit).await.map_err(|error| unread(&error))?;
        let mut items = Vec::new();
        for run in runs {
            let state = self.router.state(&run).await.map_err(|error| refusal(&error))?;
            items.extend(state.map(|state| view::reconciliation(&run, &state)));
        }
        Ok(Page { items, next: None })
    }

    async fn connectors(&self) -> Result<Page<api::Connector>, Refusal> {
        let (orders, now) = (self.desk.known(), self.clock.now());
        let items =
            self.delivery.status().await.iter().map(|status| view::connector(status, &orders, now)).collect();
        Ok(Page { items, next: None })
    }

    async fn set_paused(
        &self,
        who: &Who,
        name: &str,
        paused: bool,
        reason: &str,
    ) -> Result<api::Connector, Refusal> {
        let unknown = || Refusal::NotFound(format!("there is no connector `{name}`"));
        if !self.delivery.status().await.iter().any(|status| *status.name == *name) {
            return Err(unknown());
        }
        let order = paused.then(|| orders::order(&who.0, reason, self.clock.now()));
        self.desk.give(About::Connector(name), order.as_ref()).await.map_err(|error| unread(&error))?;
        let _known = if paused { self.delivery.pause(name) } else { self.delivery.resume(name) };
        tracing::warn!(connector = name, who = who.0, paused, "connector set by an operator: {reason}");
        let (orders, status) = (self.desk.known(), self.delivery.status().await);
        let found = status.iter().find(|status| *status.name == *name);
        found.map(|status| view::connector(status, &orders, self.clock.now())).ok_or_else(unknown)
    }

    async fn board(&self) -> Result<api::Board, Refusal> {
        let (board, as_of, silent) = self.router.board(self.slate.read()).await;
        let as_of = as_of.map(|at| at.to_string());
        let shown = board::show(&board, self.slate.slos(), self.host().catalog(), self.clock.now());
        Ok(api::Board { as_of, silent, ..shown })
    }

    async fn cluster(&self) -> Result<api::Cluster, Refusal> {
        let holdings = self.journal.holdings().await.map_err(|error| unread(&error))?;
        let not_ready = self.ready().await.err();
        let members = self.cluster.iter().flat_map(|cluster| {
            let members = cluster.members();
            members.iter().map(view::member).collect::<Vec<_>>()
        });
        let shown = view::cluster(
            self.host().node().to_string(),
            not_ready,
            members.collect(),
            &holdings,
            &self.desk.known(),
        );
        let Some(cluster) = &self.cluster else { return Ok(shown) };
        let mut unplaced = BTreeMap::new();
        for why in cluster.all_unplaced().values() {
            *unplaced.entry(why.to_string()).or_default() += 1;
        }
        Ok(api::Cluster { unplaced, moving: cluster.moving() as u64, ..shown })
    }

    async fn order(&self, who: &Who, order: ClusterOrder) -> Result<api::Cluster, Refusal> {
        let Some(cluster) = &self.cluster else {
            return Err(Refusal::Conflict(
                "this node is not one of a cluster: it works alone, or waits for another to end; set `cluster.listen`".to_owned(),
            ));
        };
        let member = |name: &str| {
            let members = cluster.members();
            let found = members.get(&NodeId(name.into())).map(|member| member.boot);
            found.ok_or_else(|| {
                Refusal::NotFound(format!("no node `{name}` is up; see `syncline cluster status`"))
            })
        };
        let within = |shard: u16| {
            let all = ShardId::all().any(|one| one.0 == shard);
            if all {
                Ok(ShardId(shard))
            } else {
                Err(Refusal::Malformed(format!("there is no shard {shard}: 0 to 255")))
            }
        };
        let given = orders::order(&who.0, order.reason(), self.clock.now());
        let given_to = |node: &str, boot| Order { node: Some(node.to_owned()), boot, ..given.clone() };
        let (about, kept) = match &order {
            ClusterOrder::Drain { node, .. } => {
                let boot = member(node)?;
                (About::Node(node), Some(given_to(node, Some(boot))))
            }
            ClusterOrder::Undrain { node, .. } => (About::Node(node), None),
            ClusterOrder::Move { shard, node, .. } => {
                member(node)?;
                (About::Shard(within(*shard)?), Some(given_to(node, None)))
            }
            ClusterOrder::Unpin { shard, .. } => (About::Shard(within(*shard)?), None),
            ClusterOrder::Pause { .. } => (About::Placement, Some(given.clone())),
            ClusterOrder::Resume { .. } => (About::Placement, None),
        };
        tracing::warn!(who = who.0, ?order, "an order of an admin");
        self.desk.give(about, kept.as_ref()).await.map_err(|error| unread(&error))?;
        self.cluster().await
    }

    async fn accept(&self, who: &Who, acceptance: api::Acceptance) -> Result<api::Cluster, Refusal> {
        let shard = ShardId(acceptance.shard);
        let holdings = self.journal.holdings().await.map_err(|error| unread(&error))?;
        let suspect =
            holdings.into_iter().find(|holding| holding.shard == shard && holding.suspect.is_some());
        let Some(suspect) = suspect.and_then(|holding| holding.suspect) else {
            return Err(Refusal::Conflict(format!("shard {shard} is not suspect; nothing was changed")));
        };
        tracing::warn!(alarm = true, %shard, by = who.0, reason = acceptance.reason, lost = suspect, "the loss was accepted");
        self.journal.accept(shard).await.map_err(|error| unread(&error))?;
        self.cluster().await
    }

    async fn ready(&self) -> Result<(), String> {
        if self.leaving.load(Ordering::Acquire) {
            return Err("the node is stopping".to_owned());
        }
        let Some(cluster) = &self.cluster else {
            return self.host().ready().map_err(|error| error.to_string());
        };
        self.host().certain().map_err(|error| error.to_string())?;
        cluster.ready()
    }

    async fn metrics(&self) -> String {
        self.metrics.render(&self.snapshot().await)
    }
}

impl Operator {
    /// From now on the node says that it is not ready.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    fn host(&self) -> &Host {
        self.router.host()
    }

    /// What is shown to nobody.
    fn mask(&self) -> Mask {
        Mask::of_all(self.host().catalog())
    }

    async fn state(&self, id: &EntityId) -> Result<State, Refusal> {
        self.router.state(id).await.map_err(|error| refusal(&error))?.ok_or_else(|| unknown(id))
    }

    async fn intervene(
        &self,
        who: &Who,
        entity: &EntityId,
        state: &State,
        reason: &str,
        action: Action,
    ) -> Result<Outcome, Refusal> {
        let id = match &action {
            Action::Retry { exception, .. } => format!("retry#{exception}"),
            Action::Resolve { exception, .. } => format!("resolve#{exception}"),
            Action::Migrate(migration) => format!("migrate#{}-{}", migration.from, migration.to),
        };
        let body = Body::Intervention(envelope::Intervention {
            by: who.0.as_str().into(),
            reason: reason.into(),
            action,
        });
        self.deliver(entity, state, &id, body).await
    }

    async fn command(
        &self,
        who: &Who,
        entity: &EntityId,
        state: &State,
        name: &str,
        reason: &str,
    ) -> Result<Outcome, Refusal> {
        let data = Value::map([("by", Value::from(&*who.0)), ("reason", Value::from(reason))]);
        self.deliver(entity, state, name, Body::Command(Command { name: name.into(), data })).await
    }

    /// A person's message. Its id is that of the state it was decided in: the same decision twice is one.
    async fn deliver(
        &self,
        entity: &EntityId,
        state: &State,
        what: &str,
        body: Body,
    ) -> Result<Outcome, Refusal> {
        let envelope = Envelope {
            id: format!("{what}@{}", state.seq).into(),
            source: "operator".into(),
            subject: entity.clone(),
            correlation_id: state.correlation_id.clone(),
            causation_id: None,
            traceparent: None,
            time: None,
            at: self.clock.now(),
            remember_ms: None,
            body,
            evidence: None,
        };
        let reply = self.router.deliver(envelope, Lane::Outside).await.map_err(|error| refusal(&error))?;
        Ok(outcome(entity, &reply))
    }

    /// What is in quarantine goes through the way in once more; only when it was taken does it leave.
    async fn release(
        &self,
        who: &Who,
        entity: &EntityId,
        state: &State,
        ask: &api::Intervention,
    ) -> Result<Outcome, Refusal> {
        if ask.set.is_some() {
            return Err(Refusal::Malformed(
                "what is in quarantine is evidence: it cannot be changed".to_owned(),
            ));
        }
        let evidence = self.evidence(entity).await?;
        let field = |name: &str| state.field(name).and_then(Value::as_text).unwrap_or_default().to_owned();
        // An actor has answered the first id of a poisoned message: it was refused.
        let again = if field("class") == "poison" { format!("~{}", state.seq) } else { String::new() };
        let headers = state.field("headers").cloned().unwrap_or_default();
        let source = field("source");
        let kept = Kept { source: &source, headers: &headers, evidence: &evidence, again: &again };
        let taken = self.ingress.replay(&kept).await.map_err(|error| match error {
            ReplayError::NotUnderstood(why) => {
                Refusal::Conflict(format!("it is still not understood: {why}"))
            }
            ReplayError::Mailbox(MailboxError::Region(why)) => Refusal::Conflict(why),
            ReplayError::Mailbox(error) => Refusal::Busy { what: error.to_string(), retry_after: 1 },
        })?;
        telemetry::replayed("manual", taken.len() as u64);
        self.command(who, entity, state, "release", &ask.reason).await
    }

    async fn evidence(&self, entity: &EntityId) -> Result<Evidence, Refusal> {
        let first = self.host().timeline(entity, 1, 1).await.map_err(|error| refusal(&error))?;
        let evidence = first.into_iter().next().and_then(|record| record.envelope.evidence);
        evidence.ok_or_else(|| {
            Refusal::Conflict(format!("the bytes of {entity} are not kept, so it cannot be replayed"))
        })
    }

    async fn snapshot(&self) -> Snapshot {
        let stats = self.host().stats();
        let filter = ExceptionFilter { limit: COUNTED_MAX, ..ExceptionFilter::default() };
        let mut exceptions: BTreeMap<(String, String), u64> = BTreeMap::new();
        for row in self.journal.exceptions(&filter).await.unwrap_or_default() {
            let class = row.exception.class.word().to_owned();
            *exceptions.entry((row.entity.kind().to_owned(), class)).or_default() += 1;
        }
        let now = self.clock.now();
        let gauges = |status: &crate::delivery::ConnectorStatus| ConnectorGauges {
            waiting: status.waiting.unwrap_or_default(),
            patient: status.patient.unwrap_or_default(),
            late: status.is_late(now),
            oldest: status.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest)),
            in_flight: status.in_flight as u64,
            paused: status.paused,
            breaker_open: status.breaker != Breakers::Closed,
        };
        let connectors = self.delivery.status().await;
        let mut polls = BTreeMap::new();
        for source in self.ingress.sources().filter(|source| source.poll.is_some()) {
            // Each is told of by the node that holds it.
            let Ok(poll) = EntityId::new(POLL, &source.name) else { continue };
            if let Ok(Some(state)) = self.host().state(&poll).await {
                polls.insert(source.name.to_string(), polls::is_late(&state));
            }
        }
        let mut snapshot = Snapshot {
            polls,
            balance: self.balance.gauges().await.unwrap_or_default(),
            instances: self.journal.census().await.unwrap_or_default(),
            exceptions,
            connectors: connectors.iter().map(|status| (status.name.to_string(), gauges(status))).collect(),
            shards: stats.shards as u64,
            cluster: self.cluster.as_ref().map(|cluster| view::gauges(cluster)),
            lease_age: self.host().lease_age(),
            lease_margin: self.host().lease_margin(),
            highest_epoch: self.host().highest_epoch().0,
            residents: stats.resident as u64,
            in_flight_bytes: stats.bytes_in_flight as u64,
            config_hash: self.config_hash.clone(),
            ..Snapshot::default()
        };
        board::gauges(&self.slate.read().board, self.slate.slos(), now, &mut snapshot);
        snapshot
    }
}

/// What an entity would answer to a migration. Nothing of it is kept.
fn tried(
    process: &Process,
    entity: &EntityId,
    state: &State,
    who: &str,
    migration: envelope::Migration,
    at: Timestamp,
) -> Outcome {
    let intervention =
        envelope::Intervention { by: who.into(), reason: "a try".into(), action: Action::Migrate(migration) };
    let envelope = Envelope {
        id: "a try".into(),
        source: "operator".into(),
        subject: entity.clone(),
        correlation_id: state.correlation_id.clone(),
        causation_id: None,
        traceparent: None,
        time: None,
        at,
        remember_ms: None,
        body: Body::Intervention(intervention),
        evidence: None,
    };
    let decision = decide(process, state, &envelope).unwrap_or_else(|rejection| refusal_of(state, rejection));
    outcome(entity, &Reply { answer: decision.answer, duplicate: false })
}

fn exception_id(text: &str) -> Result<(EntityId, u64), Refusal> {
    let wrong = || Refusal::Malformed(format!("`{text}` is no exception id: write `kind/key#number`"));
    let (entity, number) = text.rsplit_once('#').ok_or_else(wrong)?;
    Ok((EntityId::parse(entity).map_err(|_odd| wrong())?, number.parse().map_err(|_odd| wrong())?))
}

fn by_hand(what: &str, given: Option<&RawValue>) -> Result<Value, Refusal> {
    let Some(given) = given else { return Ok(Value::Null) };
    Value::from_json(given.get().as_bytes(), BY_HAND_MAX)
        .map_err(|error| Refusal::Malformed(format!("`{what}`: {error}")))
}

fn outcome(entity: &EntityId, reply: &Reply) -> Outcome {
    use syncline_actors::decision::Verdict;
    Outcome {
        entity: entity.to_string(),
        seq: reply.answer.seq,
        status: reply.answer.status.to_string(),
        verdict: reply.answer.verdict.word().to_owned(),
        problem: match &reply.answer.verdict {
            Verdict::Rejected(rejection) => Some(rejection.to_string()),
            _ => None,
        },
        duplicate: reply.duplicate,
    }
}

fn unknown(id: &EntityId) -> Refusal {
    Refusal::NotFound(format!("there is no {id}"))
}

fn unread(error: &crate::journal::Error) -> Refusal {
    if error.is_transient() {
        Refusal::Busy { what: error.to_string(), retry_after: 1 }
    } else {
        Refusal::Broken(error.to_string())
    }
}

fn refusal(error: &host::Error) -> Refusal {
    match error.retry_after() {
        Some(wait) => Refusal::Busy { what: error.to_string(), retry_after: wait.as_secs().max(1) },
        None if matches!(error, host::Error::UnknownKind { .. } | host::Error::Region(_)) => {
            Refusal::NotFound(error.to_string())
        }
        // Of a migration: the node that holds the entity has not the new definition yet.
        None if matches!(error, host::Error::MissingVersion { .. }) => Refusal::Conflict(error.to_string()),
        None => Refusal::Broken(error.to_string()),
    }
}

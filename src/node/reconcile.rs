//! Reconciliation: says when a run begins, which entities it reads back next, and how what came back compares.
//!
//! A run is an entity of the built-in process `reconcile`. It survives crashes, leaves its calls to the connector's lane for what can wait,
//! and is its own report. What is here gives it pages of entities, and stands between an answer and the run: see [`super::harvest`].

mod compare;

pub(super) use compare::by_field;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use syncline_actors::class::Latency;
use syncline_actors::decision::Effect;
use syncline_actors::entity::State;
use syncline_actors::envelope::{Body, Envelope, Event};
use syncline_actors::id::{EffectId, EntityId};
use syncline_actors::letter;
use syncline_actors::mask::Mask;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;
use tokio::sync::watch;

use super::cluster::Router;
use crate::clock::SharedClock;
use crate::delivery::contract::{Connector, Reconcile};
use crate::delivery::harvest::Harvested;
use crate::host::{Error, Lane, RECONCILE};
use crate::journal::{self, Head, SharedJournal};
use crate::telemetry;

/// Who tells runs; no source may have this name.
const SOURCE: &str = "schedule";

/// Between two looks at runs that wait for a page.
const LOOK: Duration = Duration::from_millis(200);

/// Between two looks for runs that another node had, or that were begun there.
const SEARCH: Duration = Duration::from_secs(3);

/// A turn that is so long past when a node could tell it is left to the next one.
const LATE: Duration = Duration::from_hours(1);

/// Entities of one page.
const PAGE: usize = 50;

/// Runs looked at: the newest.
const RUNS: usize = 100;

/// How long the id of a begun run is remembered.
const REMEMBER_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Runs sort by their keys, the newest first.
const END_OF_TIME_MS: i64 = 9_999_999_999_999;

/// What is reconciled with what.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) system: Arc<str>,
    /// The team that answers for the system.
    pub(super) owner: Arc<str>,
    pub(super) how: Arc<Reconcile>,
}

impl Plan {
    /// The run that began at `at`: of the entities that are bound to `region`, or of those that are not bound.
    fn entity(&self, at: Timestamp, region: Option<&str>) -> Result<EntityId, Error> {
        let run = END_OF_TIME_MS.saturating_sub(at.0);
        let key = format!("{}{run:013}:{}:{}", beginning(region), self.system, self.how.kind.value);
        Ok(EntityId::new(RECONCILE, &key)?)
    }
}

/// How keys begin that are bound to a region.
fn beginning(region: Option<&str>) -> String {
    region.map_or_else(String::new, |region| format!("@{region}:"))
}

/// Begins runs, gives them pages, and compares.
#[derive(Debug)]
pub(super) struct Reconciler {
    router: Router,
    journal: SharedJournal,
    clock: SharedClock,
    plans: Vec<Plan>,
    /// What no run keeps whole.
    mask: Mask,
}

impl Reconciler {
    pub(super) fn new(
        router: &Router,
        journal: &SharedJournal,
        clock: &SharedClock,
        plans: Vec<Plan>,
    ) -> Self {
        let mask = Mask::of_all(router.host().catalog());
        Self { router: router.clone(), journal: journal.clone(), clock: clock.clone(), plans, mask }
    }

    /// What `connectors` say of reconciliation.
    pub(super) fn plans<'c>(connectors: impl IntoIterator<Item = &'c Connector>) -> Vec<Plan> {
        let of = |connector: &'c Connector| {
            connector.reconcile.iter().map(|how| Plan {
                system: connector.name.clone(),
                owner: connector.owner.team.clone(),
                how: how.clone(),
            })
        };
        connectors.into_iter().flat_map(of).collect()
    }

    /// Begins a run for each pair of system and kind that is asked for. Their ids.
    pub(super) async fn begin(
        &self,
        system: Option<&str>,
        kind: Option<&str>,
        dry_run: bool,
        by: &str,
    ) -> Result<Vec<EntityId>, Error> {
        let now = self.clock.now();
        let mut begun = Vec::new();
        for plan in &self.plans {
            let wanted = system.is_none_or(|system| system == &*plan.system)
                && kind.is_none_or(|kind| kind == plan.how.kind.value);
            if !wanted {
                continue;
            }
            for region in self.places() {
                begun.push(self.begin_at(plan, now, region, dry_run, by).await?);
            }
        }
        Ok(begun)
    }

    /// What has runs of its own: the entities of each region, whose runs are journaled there too, and those that are not bound.
    fn places(&self) -> impl Iterator<Item = Option<&str>> {
        [None].into_iter().chain(self.router.regions().names().map(Some))
    }

    async fn begin_at(
        &self,
        plan: &Plan,
        at: Timestamp,
        region: Option<&str>,
        dry_run: bool,
        by: &str,
    ) -> Result<EntityId, Error> {
        let run = plan.entity(at, region)?;
        let list = plan.how.list.as_ref().map_or("", |list| list.call.value.as_str());
        let data = Value::map([
            ("system", Value::from(&*plan.system)),
            ("kind", Value::from(&*plan.how.kind.value)),
            ("read", Value::from(&*plan.how.read.value)),
            ("list", Value::from(list)),
            ("owner", Value::from(&*plan.owner)),
            ("by", Value::from(by)),
            ("dry_run", Value::Bool(dry_run)),
        ]);
        self.tell(&run, "reconcile.begin", "begin".to_owned(), data).await?;
        Ok(run)
    }

    async fn tell(&self, run: &EntityId, name: &str, id: String, data: Value) -> Result<(), Error> {
        let envelope = Envelope {
            id: id.into(),
            source: SOURCE.into(),
            subject: run.clone(),
            correlation_id: run.to_string().into(),
            causation_id: None,
            traceparent: None,
            time: None,
            at: self.clock.now(),
            remember_ms: Some(REMEMBER_MS),
            body: Body::Event(Event { name: name.into(), data }),
            evidence: None,
        };
        self.router.deliver(envelope, Lane::back(Latency::Batch)).await.map(drop)
    }

    /// Keeps schedules and gives pages until `stopping`.
    pub(super) async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        if self.plans.is_empty() {
            return;
        }
        let (mut told, mut active, mut search_at) = (Told::new(), Vec::new(), Timestamp(0));
        loop {
            let now = self.clock.now();
            self.turns(&mut told, now).await;
            if now >= search_at {
                search_at = now.plus(SEARCH);
                active = self.active().await;
            }
            for run in &active {
                if let Err(error) = self.page(run).await {
                    tracing::debug!(%run, %error, "a run gets its next page later");
                }
            }
            let pause = if active.is_empty() { LOOK * 5 } else { LOOK };
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Begins what is due by its schedule and whose run would be held here. Begun twice it is begun once.
    async fn turns(&self, told: &mut Told, now: Timestamp) {
        for (place, plan) in self.plans.iter().enumerate() {
            let Some(turn) = plan.how.schedule.as_ref().map(|schedule| schedule.last(now)) else { continue };
            if now.since(turn) > LATE {
                continue;
            }
            for region in self.places() {
                let of = (place, region.map(str::to_owned));
                let Ok(run) = plan.entity(turn, region) else { continue };
                if told.get(&of) == Some(&turn) || self.router.host().epoch(run.shard()).is_none() {
                    continue;
                }
                match self.begin_at(plan, turn, region, false, "schedule").await {
                    Ok(_) => drop(told.insert(of, turn)),
                    Err(error) => tracing::debug!(%run, %error, "a run begins later"),
                }
            }
        }
    }

    /// Runs that have not ended and are held here.
    async fn active(&self) -> Vec<EntityId> {
        let newest = self.newest(RUNS).await.unwrap_or_default();
        let here = |run: &EntityId| self.router.host().epoch(run.shard()).is_some();
        newest.into_iter().filter(|head| !head.ended).map(|head| head.entity).filter(here).collect()
    }

    /// The newest runs of each region, and of what is not bound.
    async fn newest(&self, limit: usize) -> Result<Vec<Head>, journal::Error> {
        let mut newest = Vec::new();
        for region in self.places() {
            let after = region.map(|_| beginning(region));
            let heads = self.journal.heads(RECONCILE, after.as_deref(), limit).await?;
            newest.extend(heads.into_iter().filter(|head| head.entity.region() == region));
        }
        Ok(newest)
    }

    /// The newest runs, the newest first.
    pub(super) async fn runs(&self, limit: usize) -> Result<Vec<EntityId>, journal::Error> {
        let mut runs: Vec<_> = self.newest(limit).await?.into_iter().map(|head| head.entity).collect();
        runs.sort_by(|one, other| unbound(one).cmp(unbound(other)));
        runs.truncate(limit);
        Ok(runs)
    }

    /// The plan of a run.
    fn plan(&self, run: &EntityId) -> Option<&Plan> {
        let (_, of) = unbound(run).split_once(':')?;
        let (system, kind) = of.split_once(':')?;
        self.plans.iter().find(|plan| *plan.system == *system && plan.how.kind.value == kind)
    }

    /// Gives a run that waits for it its next page.
    async fn page(&self, run: &EntityId) -> Result<(), Error> {
        let Some(state) = self.router.state(run).await?.filter(|state| &*state.status == "paging") else {
            return Ok(());
        };
        let Some(plan) = self.plan(run) else { return Ok(()) };
        let after = state.field("after").map(Value::to_plain_text).unwrap_or_default();
        let dry_run = state.field("dry_run").and_then(Value::as_bool).unwrap_or(true);
        let kind = plan.how.kind.value.as_str();
        // The entities of a region stand together, so a run of one begins with them and ends after them.
        let region = run.region();
        let from = if after.is_empty() { beginning(region) } else { after.clone() };
        let from = (!from.is_empty()).then_some(from.as_str());
        let heads = self
            .journal
            .heads(kind, from, PAGE)
            .await
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        let last = heads.last().map(|head| &head.entity).filter(|last| last.region() == region);
        let other = heads.last().and_then(|head| head.entity.region()).filter(|other| Some(*other) != region);
        let done = heads.len() < PAGE || (region.is_some() && last.is_none());
        let next = match (last, other) {
            (Some(last), _) => last.key().to_owned(),
            // What is bound elsewhere is passed over as a whole, and no key of it is kept: `;` comes after `:`.
            (None, Some(other)) if region.is_none() => format!("@{other};"),
            (None, _) => after.clone(),
        };
        let (mut items, mut skipped) = (Vec::new(), 0_i64);
        for head in heads.into_iter().filter(|head| head.entity.region() == region) {
            let state = self.router.state(&head.entity).await?.filter(State::has_begun);
            match state.and_then(|state| compare::asked(&plan.how, &head.entity, &state)) {
                Some(input) => {
                    items.push(compare::item(&input, head.entity.key(), plan.how.applies && !dry_run));
                }
                None => skipped += 1,
            }
        }
        let data = Value::map([
            ("items", Value::list(items)),
            ("after", Value::from(next)),
            ("done", Value::Bool(done)),
            ("skipped", Value::Int(skipped)),
        ]);
        self.tell(run, "reconcile.page", format!("page:{}:{after}", state.seq), data).await
    }

    /// What a run is told of something that was read back or listed.
    pub(super) async fn harvest(&self, run: &EntityId, effect: &Effect, result: &Value) -> Harvested {
        let Some(plan) = self.plan(run) else {
            return Harvested::Unusable(
                "the connector says nothing of this reconciliation any more".to_owned(),
            );
        };
        let told = match &*effect.name {
            "read" => self.compared(run, plan, effect, result).await,
            "list" => self.listed(run, plan, &effect.input, result).await,
            _ => return Harvested::Told(result.clone()),
        };
        told.unwrap_or_else(|error| match error {
            Trouble::Later(why) => Harvested::Later(why),
            Trouble::Unusable(why) => Harvested::Unusable(why),
        })
    }

    async fn compared(
        &self,
        run: &EntityId,
        plan: &Plan,
        effect: &Effect,
        result: &Value,
    ) -> Result<Harvested, Trouble> {
        let (key, applies) = compare::of_item(&effect.input);
        let kind = &plan.how.kind.value;
        let entity = EntityId::new(kind, &key).map_err(|error| Trouble::Unusable(error.to_string()))?;
        let state = self.router.state(&entity).await.map_err(later)?.unwrap_or_default();
        let found = compare::compare(&plan.system, &plan.how, &self.mask, &entity, &state, result)
            .map_err(Trouble::Unusable)?;
        telemetry::reconciled(&plan.system, kind, found.class.word());
        let mut taken = false;
        if let Some(data) = found.take.clone().filter(|_| applies) {
            taken = self.take((run, effect.id), plan, &entity, data).await?;
        }
        let repair = found.repair.clone().filter(|_| applies);
        Ok(Harvested::Told(found.told(&key, &self.mask, repair, taken)))
    }

    /// Tells an entity what the system, which owns the field, says. Whether it took it.
    async fn take(
        &self,
        (run, read): (&EntityId, EffectId),
        plan: &Plan,
        entity: &EntityId,
        data: Value,
    ) -> Result<bool, Trouble> {
        let Some(take) = &plan.how.take else { return Ok(false) };
        let envelope = Envelope {
            // From the run, in the name of the system: nobody has sent it to us.
            id: letter::message_id(run, read).into(),
            source: plan.system.clone(),
            subject: entity.clone(),
            correlation_id: run.to_string().into(),
            causation_id: Some(run.to_string().into()),
            traceparent: None,
            time: None,
            at: self.clock.now(),
            remember_ms: Some(REMEMBER_MS),
            body: Body::Event(Event { name: take.event.value.as_str().into(), data }),
            evidence: None,
        };
        let reply = self.router.deliver(envelope, Lane::back(Latency::Batch)).await.map_err(later)?;
        Ok(reply.answer.verdict == syncline_actors::decision::Verdict::Applied)
    }

    /// Records of the system that are of no entity.
    async fn listed(
        &self,
        run: &EntityId,
        plan: &Plan,
        input: &Value,
        result: &Value,
    ) -> Result<Harvested, Trouble> {
        let Some(list) = &plan.how.list else {
            return Err(Trouble::Unusable("the connector lists no records any more".to_owned()));
        };
        let cursor = input.get("cursor").cloned().unwrap_or_default();
        let (keys, next) = compare::page(list, &cursor, result).map_err(Trouble::Unusable)?;
        let mut unknown = Vec::new();
        for key in keys {
            let entity = EntityId::new(&plan.how.kind.value, &key).ok();
            if entity.as_ref().and_then(EntityId::region) != run.region() {
                continue; // Its region's own run tells of it.
            }
            let known = match entity {
                Some(entity) => {
                    self.router.state(&entity).await.map_err(later)?.is_some_and(|state| state.has_begun())
                }
                None => false,
            };
            if !known {
                telemetry::reconciled(&plan.system, &plan.how.kind.value, "unknown");
                unknown.push(Value::map([("key", Value::from(key)), ("class", Value::from("unknown"))]));
            }
        }
        let more = next.as_ref().is_some_and(|next| *next != cursor);
        Ok(Harvested::Told(Value::map([
            ("cursor", next.unwrap_or_default()),
            ("more", Value::Bool(more)),
            ("unknown", Value::Int(i64::try_from(unknown.len()).unwrap_or(i64::MAX))),
            ("drift", Value::list(unknown)),
        ])))
    }
}

/// The last turn that was told, of each plan and region.
type Told = BTreeMap<(usize, Option<String>), Timestamp>;

/// The key of a run without its region.
fn unbound(run: &EntityId) -> &str {
    match run.region() {
        Some(region) => &run.key()[region.len() + 2..],
        None => run.key(),
    }
}

/// Why something that was read back cannot be compared.
enum Trouble {
    Later(String),
    Unusable(String),
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn later(error: Error) -> Trouble {
    Trouble::Later(error.to_string())
}

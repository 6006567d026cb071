//! The one way of a call through the sandbox: fault, credentials, key, system, ledger; and of a webhook out of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use syncline_actors::time::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::call::{Call, Change, Done, Held, Kind, Operation, Reply, System};
use super::emit::Emitter;
use super::faults::{Fault, Faults, RetryAfter};
use super::ledger::{Asked, Before, Ledger, Webhook, digest};
use super::{
    bank, billing, chat, cpq, crm, directory, erp, hr, itsm, notify, payroll, revenue, s4, shop, sourcing,
    success, support, tax, taxreg, warehouse,
};
use crate::clock::SharedClock;

/// How a system begins.
type Begin = fn() -> Box<dyn System>;

/// The systems there are, by name.
const SYSTEMS: &[(&str, Begin)] = &[
    ("crm", || Box::new(crm::Crm::new())),
    ("erp", || Box::new(erp::Erp::new())),
    ("tax", || Box::new(tax::Tax::default())),
    ("warehouse", || Box::new(warehouse::Warehouse::default())),
    ("support", || Box::new(support::Support::default())),
    ("notify", || Box::new(notify::Notify::default())),
    ("sourcing", || Box::new(sourcing::Sourcing::new())),
    ("bank", || Box::new(bank::Bank::default())),
    ("taxreg", || Box::new(taxreg::TaxReg::default())),
    ("itsm", || Box::new(itsm::Itsm::new())),
    ("chat", || Box::new(chat::Chat::default())),
    ("cpq", || Box::new(cpq::Cpq::new())),
    ("billing", || Box::new(billing::Billing::new())),
    ("revenue", || Box::new(revenue::Revenue::default())),
    ("success", || Box::new(success::Success::default())),
    ("hr", || Box::new(hr::Hr::new())),
    ("payroll", || Box::new(payroll::Payroll::default())),
    ("directory", || Box::new(directory::Directory::default())),
    ("shop", || Box::new(shop::Shop::default())),
    ("s4", || Box::new(s4::S4::new())),
];

/// The names of all systems.
pub(super) fn systems() -> impl Iterator<Item = &'static str> {
    SYSTEMS.iter().map(|(name, _)| *name)
}

/// What is said of a system that is not there.
pub(super) fn unknown(name: &str) -> String {
    format!("there is no system `{name}`; there are {}", systems().collect::<Vec<_>>().join(", "))
}

/// The pause after the first attempt at a webhook; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause between attempts at a webhook.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What systems have to tell of their own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Telling {
    /// So much of it was not heard yet.
    pub under_way: usize,
    /// So much of it there ever was: who finds the same number twice knows that nothing was added in between.
    pub begun: u64,
}

/// What becomes of a connection.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Reply),
    /// It is cut without an answer.
    Cut,
}

/// Everything that the sandbox knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) faults: Faults,
    systems: BTreeMap<&'static str, Box<dyn System>>,
    /// Keys whose requests are under way, and until when.
    busy: BTreeMap<(&'static str, String), Timestamp>,
    /// How often everything was forgotten; what was begun before is left.
    age: u64,
}

impl State {
    fn new(seed: u64, age: u64) -> Self {
        let systems = SYSTEMS.iter().map(|(name, begin)| (*name, begin())).collect();
        let (ledger, faults) = (Ledger::default(), Faults::new(seed));
        Self { ledger, faults, systems, busy: BTreeMap::new(), age }
    }
}

/// The sandbox without its door.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    tasks: Mutex<JoinSet<()>>,
    /// How many of them there ever were.
    begun: AtomicU64,
    emitter: watch::Sender<Option<Arc<Emitter>>>,
    clock: SharedClock,
    seed: u64,
    began: Timestamp,
    shipping_delay: Duration,
}

impl Desk {
    pub(super) fn new(seed: u64, clock: SharedClock, shipping_delay: Duration) -> Self {
        Self {
            state: Mutex::new(State::new(seed, 0)),
            tasks: Mutex::default(),
            begun: AtomicU64::new(0),
            emitter: watch::Sender::new(None),
            began: clock.now(),
            clock,
            seed,
            shipping_delay,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn set_emitter(&self, emitter: Emitter) {
        self.emitter.send_replace(Some(Arc::new(emitter)));
    }

    /// Forgets everything, as at the start; webhooks that were not yet accepted are not sent any more.
    pub(super) fn reset(&self) {
        self.abort();
        let mut state = self.state();
        let age = state.age + 1;
        *state = State::new(self.seed, age);
    }

    /// Ends every webhook that is under way.
    pub(super) fn abort(&self) {
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) = JoinSet::new();
    }

    /// What systems put off, or tell and were not heard yet.
    pub(super) fn telling(&self) -> Telling {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        Telling { under_way: tasks.len(), begun: self.begun.load(Ordering::Relaxed) }
    }

    /// Answers a call to a system.
    pub(super) async fn answer(self: &Arc<Self>, system: &'static str, call: Call) -> Answer {
        let (operation, fault) = match self.state().admit(system, &call) {
            Ok(found) => found,
            Err(reply) => return Answer::Reply(reply),
        };
        if let Some(busy) = self.state().occupy(system, operation, fault, &call) {
            return Answer::Reply(busy);
        }
        match fault {
            Some(Fault::Latency { ms }) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Some(Fault::CutBefore) => return Answer::Cut,
            Some(Fault::Status { code, retry_after }) => {
                return Answer::Reply(self.state().refusal(system, code, retry_after, call.at));
            }
            Some(Fault::ExpiredToken) => self.state().expire(system, &call),
            _ => {}
        }
        let reply = self.perform(system, operation, &call);
        match fault {
            Some(Fault::LateAnswer { ms }) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Some(Fault::CommitThenCut) => return Answer::Cut,
            Some(Fault::CommitThenStatus { code }) => {
                return Answer::Reply(self.state().refusal(system, code, RetryAfter::Absent, call.at));
            }
            _ => {}
        }
        Answer::Reply(reply)
    }

    /// What a person does at a system's screen: nothing comes in between.
    pub(super) fn act(self: &Arc<Self>, system: &'static str, call: &Call) -> Reply {
        let operation = {
            let mut state = self.state();
            match state.known(system, call) {
                Ok(operation) => operation,
                Err(reply) => return reply,
            }
        };
        self.perform(system, operation, call)
    }

    /// Does it, and what the system wants to do later.
    fn perform(self: &Arc<Self>, system: &'static str, operation: Operation, call: &Call) -> Reply {
        let (reply, later) = {
            let mut state = self.state();
            let (reply, later) = state.perform(system, operation, call);
            (reply, later.map(|reference| (reference, state.age)))
        };
        if let Some((reference, age)) = later {
            let task = self.clone().tell(system, reference, age);
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {} // those that have ended take no room
            tasks.spawn(task);
            self.begun.fetch_add(1, Ordering::Relaxed);
        }
        reply
    }

    /// Does what was put off, and tells about it until it is heard: always under the same id.
    async fn tell(self: Arc<Self>, system: &'static str, reference: String, age: u64) {
        tokio::time::sleep(self.shipping_delay).await;
        let Some((body, kind, copies, held)) = self.due(system, &reference, age) else { return };
        let text = format!("{} {} {age} {system} {reference}", self.seed, self.began);
        let message_id = format!("msg_{}", &digest(text.as_bytes())[..24]);
        let webhook = Webhook {
            system: system.to_owned(),
            kind,
            reference,
            message_id: message_id.clone(),
            attempts: 0,
            accepted: 0,
        };
        self.note(age, &webhook);
        tokio::time::sleep(held).await;
        let mut emitter = self.emitter.subscribe();
        let mut pause = PAUSE_FIRST;
        let mut accepted = 0;
        while accepted < copies {
            let Ok(Some(to)) = emitter.wait_for(Option::is_some).await.map(|found| found.clone()) else {
                return;
            };
            let heard = match to.send(system, &body, &message_id).await {
                Ok(status) => (200..300).contains(&status),
                Err(error) => {
                    tracing::debug!(system, message_id, %error, "a webhook was not heard");
                    false
                }
            };
            self.note(age, &Webhook { attempts: 1, accepted: u64::from(heard), ..webhook.clone() });
            if heard {
                accepted += 1;
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// What a system has to tell now, its type, how often it is sent, and how long it is held back.
    fn due(
        &self,
        system: &'static str,
        reference: &str,
        age: u64,
    ) -> Option<(serde_json::Value, String, u32, Duration)> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.age != age {
            return None;
        }
        let body = state.systems.get_mut(system)?.due(reference, now)?;
        let kind = body.get("type").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let (copies, held) = state.faults.for_webhook(system, &kind, now);
        Some((body, kind, copies, held))
    }

    fn note(&self, age: u64, webhook: &Webhook) {
        let mut state = self.state();
        if state.age == age {
            state.ledger.webhook(webhook);
        }
    }
}

impl State {
    fn system(&mut self, system: &'static str) -> &mut Box<dyn System> {
        self.systems.get_mut(system).expect("every name in SYSTEMS has its system")
    }

    /// Which operation a call is, and what happens to it.
    fn admit(&mut self, system: &'static str, call: &Call) -> Result<(Operation, Option<Fault>), Reply> {
        let operation = self.known(system, call)?;
        Ok((operation, self.faults.for_request(system, operation.name, call.at)))
    }

    /// Which operation a call is; the error is the system's answer to what it does not know.
    fn known(&mut self, system: &'static str, call: &Call) -> Result<Operation, Reply> {
        let Some(operation) = self.system(system).operation(call) else {
            let why = format!("{} /{} does not exist", call.method, call.path.join("/"));
            return Err(self.system(system).refuse(404, &why));
        };
        self.ledger.count(system, operation.name);
        Ok(operation)
    }

    /// Refuses a key whose request is under way, where the system does so; else this one is, for as long as its fault makes it.
    fn occupy(
        &mut self,
        system: &'static str,
        operation: Operation,
        fault: Option<Fault>,
        call: &Call,
    ) -> Option<Reply> {
        if operation.kind != Kind::Keyed || !self.system(system).memory().busy {
            return None;
        }
        let key = (system, call.key()?);
        if self.busy.get(&key).is_some_and(|until| *until > call.at) {
            return Some(self.system(system).refuse(409, "a request under this key is under way"));
        }
        if let Some(Fault::Latency { ms } | Fault::LateAnswer { ms }) = fault {
            self.busy.insert(key, call.at.plus(Duration::from_millis(ms)));
        }
        None
    }

    /// What a system holds.
    pub(super) fn held(&self, system: &str) -> Held {
        self.systems.get(system).map(|system| system.held()).unwrap_or_default()
    }

    fn refusal(&mut self, system: &'static str, code: u16, retry_after: RetryAfter, now: Timestamp) -> Reply {
        let reply = self.system(system).refuse(code, "the sandbox was told to fail");
        match retry_after.header(now) {
            Some(value) => reply.with("Retry-After", value),
            None => reply,
        }
    }

    fn expire(&mut self, system: &'static str, call: &Call) {
        self.system(system).expire(call);
    }

    /// The answer, and what the system wants to be reminded of.
    fn perform(
        &mut self,
        system: &'static str,
        operation: Operation,
        call: &Call,
    ) -> (Reply, Option<String>) {
        if operation.kind != Kind::Token
            && let Err(refused) = self.system(system).authorize(call)
        {
            return (refused, None);
        }
        if matches!(operation.kind, Kind::Read | Kind::Token) {
            return (self.system(system).perform(operation.name, call).reply, None);
        }
        let asked = Asked {
            system,
            operation: operation.name,
            key: call.key(),
            payload: digest(&call.raw),
            at: call.at,
        };
        let memory = self.system(system).memory();
        let before = self.ledger.before(&asked, memory.kept);
        match before {
            Before::Reused => {
                let why = "the key was used for another request";
                return (self.system(system).refuse(422, why), None);
            }
            Before::Applied(first) | Before::Refused(first) if operation.kind == Kind::Keyed => {
                return (again(first), None);
            }
            Before::Applied(_) | Before::Refused(_) | Before::New => {}
        }
        let repeated = matches!(before, Before::Applied(_));
        let Done { reply, change } = self.system(system).perform(operation.name, call);
        let Some(Change { reference, altered, violation, later }) = change else {
            if memory.refusals && operation.kind == Kind::Keyed {
                self.ledger.refuse(asked, reply.clone());
            }
            return (reply, None);
        };
        if let Some(what) = violation {
            self.ledger.violate(&asked, reference.clone(), what);
        }
        if repeated {
            if altered {
                let what = "a late repetition changed what had come after it".to_owned();
                self.ledger.violate(&asked, reference, what);
            }
        } else {
            self.ledger.apply(asked, reference, reply.clone());
        }
        (reply, later)
    }
}

/// The first answer once more, with the vendor's mark that it is.
fn again(mut first: Reply) -> Reply {
    for (name, value) in &mut first.headers {
        if *name == "x-idempotency-lookup" {
            "hit".clone_into(value);
        }
    }
    first
}

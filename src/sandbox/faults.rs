//! Faults on demand: which request of which operation goes wrong, and how. From a seed: the n-th request of an operation meets the
//! same fate in every run, whatever other requests come in between.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use syncline_actors::time::Timestamp;

/// Systems whose tokens can expire.
const WITH_TOKENS: [&str; 8] = ["billing", "cpq", "crm", "erp", "hr", "itsm", "s4", "sourcing"];

/// Systems that send webhooks.
const TELLING: [&str; 4] = ["crm", "erp", "sourcing", "warehouse"];

/// Which requests of a system go wrong, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What can happen; where several can, each is as likely.
    pub kinds: Vec<Fault>,
    /// How likely it is for one request, from 0 to 1.
    #[serde(default = "always")]
    pub rate: f64,
    /// The operations it is for, as connectors name them; empty: all but `token`.
    #[serde(default)]
    pub operations: Vec<String>,
    /// Requests that are left alone first.
    #[serde(default)]
    pub after: u64,
    /// Faults at most; `None`: without end.
    #[serde(default)]
    pub count: Option<u64>,
}

fn always() -> f64 {
    1.0
}

impl Plan {
    /// Every request, without end.
    pub fn always(fault: Fault) -> Self {
        Self { kinds: vec![fault], rate: 1.0, operations: Vec::new(), after: 0, count: None }
    }

    /// Only these operations.
    #[must_use]
    pub fn on(mut self, operations: &[&str]) -> Self {
        self.operations = operations.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Only so many times.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Only with this probability, from 0 to 1.
    #[must_use]
    pub fn at_rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Nothing is applied; the answer is this status, in the system's own shape.
    Status {
        /// HTTP status.
        code: u16,
        /// When the caller may come back, and how that is said.
        #[serde(default)]
        retry_after: RetryAfter,
    },
    /// The request waits before it is looked at.
    Latency {
        /// Milliseconds.
        ms: u64,
    },
    /// The request is applied at once, and answered late.
    LateAnswer {
        /// Milliseconds.
        ms: u64,
    },
    /// The request is applied, and the connection cut without an answer.
    CommitThenCut,
    /// The request is applied, and answered with this status.
    CommitThenStatus {
        /// HTTP status.
        code: u16,
    },
    /// The connection is cut, and nothing applied.
    CutBefore,
    /// The token has expired: 401 until a new one is fetched. The new one works for two seconds at least.
    ExpiredToken,
    /// Requests above the limit are answered with 429.
    RateLimit {
        /// Requests in a window.
        calls: u32,
        /// Its length in milliseconds.
        per_ms: u64,
    },
    /// Everything is answered with 503 until the fault is cleared.
    Outage,
    /// A webhook is sent twice.
    Duplicates,
    /// A webhook is held back, so that later ones overtake it.
    Reorder {
        /// Longest time that it is held back, in milliseconds.
        within_ms: u64,
    },
}

/// How `Retry-After` is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// Not at all.
    #[default]
    Absent,
    /// In seconds.
    Seconds(u64),
    /// As an HTTP date, so many seconds ahead.
    Date(u64),
}

impl RetryAfter {
    /// The header's value at `now`.
    pub(super) fn header(self, now: Timestamp) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Seconds(seconds) => Some(seconds.to_string()),
            Self::Date(seconds) => Some(http_date(now.plus(Duration::from_secs(seconds)))),
        }
    }
}

/// An HTTP date (RFC 9110, 5.6.7), rounded up to a second.
fn http_date(at: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = at.0.div_euclid(1000) + i64::from(at.0.rem_euclid(1000) > 0);
    let text = Timestamp(seconds * 1000).to_string();
    let number = |from: usize, to: usize| text.get(from..to).and_then(|part| part.parse::<usize>().ok());
    let day = DAYS[usize::try_from(seconds.div_euclid(86_400).rem_euclid(7)).unwrap_or_default()];
    let month = MONTHS[number(5, 7).unwrap_or(1).clamp(1, 12) - 1];
    format!("{day}, {} {month} {} {} GMT", &text[8..10], &text[..4], &text[11..19])
}

/// A plan, and how far it has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// Requests it has looked at.
    pub seen: u64,
    /// Faults it has dealt.
    pub dealt: u64,
    #[serde(skip)]
    window: VecDeque<Timestamp>,
}

/// All plans, by system.
#[derive(Debug)]
pub(super) struct Faults {
    seed: u64,
    plans: BTreeMap<String, Vec<Standing>>,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, plans: BTreeMap::new() }
    }

    pub(super) fn standing(&self) -> BTreeMap<String, Vec<Standing>> {
        self.plans.clone()
    }

    pub(super) fn clear(&mut self) {
        self.plans.clear();
    }

    /// Replaces the plans of a system. The error says what is wrong with them.
    pub(super) fn set(&mut self, system: &str, plans: Vec<Plan>) -> Result<(), String> {
        for plan in &plans {
            check(system, plan)?;
        }
        let standing =
            plans.into_iter().map(|plan| Standing { plan, seen: 0, dealt: 0, window: VecDeque::new() });
        self.plans.insert(system.to_owned(), standing.collect());
        Ok(())
    }

    /// What happens to a request that comes now.
    pub(super) fn for_request(&mut self, system: &str, operation: &str, now: Timestamp) -> Option<Fault> {
        let fault = self.draw(system, operation, now, |fault| !of_webhooks(fault))?;
        Some(match fault {
            Fault::Outage => Fault::Status { code: 503, retry_after: RetryAfter::Absent },
            Fault::RateLimit { per_ms, .. } => {
                let retry_after = RetryAfter::Seconds(per_ms.div_ceil(1000));
                Fault::Status { code: 429, retry_after }
            }
            fault => fault,
        })
    }

    /// What happens to a webhook: how often it is sent, and how long it is held back.
    pub(super) fn for_webhook(&mut self, system: &str, kind: &str, now: Timestamp) -> (u32, Duration) {
        match self.draw(system, kind, now, of_webhooks) {
            Some(Fault::Duplicates) => (2, Duration::ZERO),
            Some(Fault::Reorder { within_ms }) => {
                let ms = self.rng(&[system, kind, "held"], self.dealt(system)).random_range(0..=within_ms);
                (1, Duration::from_millis(ms))
            }
            _ => (1, Duration::ZERO),
        }
    }

    fn dealt(&self, system: &str) -> u64 {
        self.plans.get(system).into_iter().flatten().map(|standing| standing.dealt).sum()
    }

    fn draw(
        &mut self,
        system: &str,
        operation: &str,
        now: Timestamp,
        fits: impl Fn(&Fault) -> bool,
    ) -> Option<Fault> {
        let mut plans = self.plans.remove(system)?;
        let mut found = None;
        for (place, standing) in plans.iter_mut().enumerate() {
            let kinds: Vec<Fault> = standing.plan.kinds.iter().copied().filter(&fits).collect();
            if kinds.is_empty() || !standing.plan.meets(operation) {
                continue;
            }
            standing.seen += 1;
            if found.is_none() {
                let mut rng = self.rng(&[system, operation, &place.to_string()], standing.seen);
                found = standing.deal(&kinds, now, &mut rng);
            }
        }
        self.plans.insert(system.to_owned(), plans);
        found
    }

    /// Chance for the `n`-th event of something.
    fn rng(&self, of: &[&str], n: u64) -> StdRng {
        let text = format!("{} {} {n}", self.seed, of.join(" "));
        StdRng::from_seed(Sha256::digest(text.as_bytes()).into())
    }
}

impl Plan {
    fn meets(&self, operation: &str) -> bool {
        if self.operations.is_empty() {
            return operation != "token";
        }
        self.operations.iter().any(|name| name == operation)
    }
}

impl Standing {
    fn deal(&mut self, kinds: &[Fault], now: Timestamp, rng: &mut StdRng) -> Option<Fault> {
        let drawn = rng.random_bool(self.plan.rate);
        let place = rng.random_range(0..kinds.len());
        if self.seen <= self.plan.after || self.plan.count.is_some_and(|count| self.dealt >= count) || !drawn
        {
            return None;
        }
        let fault = kinds[place];
        if let Fault::RateLimit { calls, per_ms } = fault {
            let per = Duration::from_millis(per_ms);
            self.window.retain(|at| now.since(*at) < per);
            if u32::try_from(self.window.len()).is_ok_and(|held| held < calls) {
                self.window.push_back(now);
                return None;
            }
        }
        self.dealt += 1;
        Some(fault)
    }
}

fn of_webhooks(fault: &Fault) -> bool {
    matches!(fault, Fault::Duplicates | Fault::Reorder { .. })
}

fn check(system: &str, plan: &Plan) -> Result<(), String> {
    if !(0.0..=1.0).contains(&plan.rate) {
        return Err(format!("rate {} is not between 0 and 1", plan.rate));
    }
    for fault in &plan.kinds {
        match fault {
            Fault::Status { code, .. } | Fault::CommitThenStatus { code } if !(200..=599).contains(code) => {
                return Err(format!("{code} is no HTTP status from 200 to 599"));
            }
            Fault::ExpiredToken if !WITH_TOKENS.contains(&system) => {
                return Err(format!(
                    "{system} has no tokens that expire; those of {} do",
                    WITH_TOKENS.join(", ")
                ));
            }
            Fault::Duplicates | Fault::Reorder { .. } if !TELLING.contains(&system) => {
                return Err(format!("{system} sends no webhooks; {} do", TELLING.join(", ")));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(seed: u64, between: bool) -> Vec<bool> {
        let mut faults = Faults::new(seed);
        faults.set("erp", vec![Plan::always(Fault::CutBefore).at_rate(0.5)]).unwrap();
        let mut fate = || {
            if between {
                faults.for_request("erp", "read", Timestamp(0));
            }
            faults.for_request("tax", "calculate", Timestamp(0));
            faults.for_request("erp", "create", Timestamp(0)).is_some()
        };
        (0..64).map(|_| fate()).collect()
    }

    #[test]
    fn one_seed_has_one_fate() {
        assert_eq!(fates(1, false), fates(1, false));
        assert_ne!(fates(1, false), fates(2, false));
        let hit = fates(1, false).iter().filter(|hit| **hit).count();
        assert!((16..48).contains(&hit), "about half: {hit}");
    }

    #[test]
    fn a_plan_waits_ends_and_keeps_to_its_operations() {
        let mut faults = Faults::new(7);
        let plan = Plan { after: 1, ..Plan::always(Fault::Outage).on(&["create"]).times(2) };
        faults.set("erp", vec![plan]).unwrap();
        let mut hit = |operation| faults.for_request("erp", operation, Timestamp(0)).is_some();
        assert!(!hit("read") && !hit("create"), "another operation, and the one that is left alone");
        assert!(hit("create") && hit("create") && !hit("create"));
    }

    #[test]
    fn a_window_lets_so_many_through() {
        let mut faults = Faults::new(7);
        faults.set("erp", vec![Plan::always(Fault::RateLimit { calls: 2, per_ms: 1000 })]).unwrap();
        let mut hit = |at| faults.for_request("erp", "create", Timestamp(at)).is_some();
        assert_eq!([0, 10, 20, 999, 1001].map(&mut hit), [false, false, true, true, false]);
    }

    #[test]
    fn a_plan_reads_as_it_is_documented() {
        let text = r#"{"rate": 0.2, "kinds": ["commit_then_cut", {"latency": {"ms": 50}},
            {"status": {"code": 429, "retry_after": {"seconds": 1}}}], "after": 3, "count": 5}"#;
        let plan: Plan = serde_json::from_str(text).unwrap();
        assert_eq!(plan.kinds[2], Fault::Status { code: 429, retry_after: RetryAfter::Seconds(1) });
        let mut faults = Faults::new(7);
        for (system, plan, told) in [
            ("tax", Plan::always(Fault::ExpiredToken), "no tokens"),
            ("tax", Plan::always(Fault::Duplicates), "no webhooks"),
            ("erp", plan.at_rate(2.0), "between 0 and 1"),
            ("erp", Plan::always(Fault::CommitThenStatus { code: 99 }), "no HTTP status"),
        ] {
            assert!(faults.set(system, vec![plan]).unwrap_err().contains(told), "{told}");
        }
    }

    #[test]
    fn a_date_is_written_as_http_wants_it() {
        assert_eq!(http_date(Timestamp(784_111_776_001)), "Sun, 06 Nov 1994 08:49:37 GMT");
        let now = Timestamp(784_111_777_000);
        assert_eq!(RetryAfter::Date(0).header(now).as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    }
}

//! What a connector may do now: calls at a time, rate, throttling and breaker; its own, or its part of what all nodes share.
//!
//! Where nodes share a store, each budget is one for all of them: this node starts only calls for which it holds a token and a slot
//! that the store has leased to it ([`crate::journal::share`]). It asks ahead, for as many as are ready, and seldom: never once an
//! effect. When the store does not answer, it starts nothing beyond what it holds.

use std::time::Duration;

use syncline_actors::retry::Retry;
use syncline_actors::time::Timestamp;

use super::Breakers;
use super::attempt::Throttle;
use super::contract::Connector;
use super::limits::{Breaker, Bucket, Gate};
use crate::journal::share::{Ask, Share, ShareRate};

/// How long what the store leases is held without another word. A call under way is counted as long as it goes on.
const LEASE: Duration = Duration::from_secs(6);

/// So much earlier this node stops counting on it: the way to the store and back, and clocks that do not run alike.
const MARGIN: Duration = Duration::from_millis(500);

/// Between two asks, whatever is wanted.
const ASK_PAUSE: Duration = Duration::from_millis(50);

/// Between two asks, when nothing but the lease is at stake.
const RENEW: Duration = Duration::from_secs(2);

/// Tokens asked for at once: at most what the rate gives in this time, so that none lie idle here while others want them.
const AHEAD: Duration = Duration::from_millis(200);

/// Why no call may start now, and when one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    Until(Timestamp),
    /// Something else will ring.
    ForNow,
}

/// What one connector may do.
#[derive(Debug)]
pub(super) struct Budget {
    connector: String,
    concurrency: u32,
    bucket: Option<Bucket>,
    breaker: Option<Breaker>,
    retry: Retry,
    throttled_until: Option<Timestamp>,
    throttles: u32,
    leased: Option<Leased>,
}

/// What the store has leased to this node, and what it must be told.
#[derive(Debug)]
struct Leased {
    node: String,
    rate: Option<ShareRate>,
    tokens: u32,
    slots: u32,
    /// Until when tokens and slots count.
    until: Timestamp,
    /// Until when this node may make the call that tries.
    trial_until: Timestamp,
    asked_at: Option<Timestamp>,
    /// Not before this time is another token to be had.
    token_at: Timestamp,
    asking: bool,
    /// To be told: throttled until, open until, closed again.
    tell_throttled: Option<Timestamp>,
    tell_open: Option<Timestamp>,
    tell_closed: bool,
}

impl Budget {
    /// A full budget; with `node`, a part of what all nodes share.
    pub(super) fn new(contract: &Connector, node: Option<String>, now: Timestamp) -> Self {
        let rate = contract.rate.map(|rate| ShareRate {
            calls: rate.calls,
            per_ms: u64::try_from(rate.per.as_millis()).unwrap_or(u64::MAX),
            burst: rate.burst,
        });
        let leased = node.map(|node| Leased::new(node, rate, now));
        Self {
            connector: contract.name.to_string(),
            concurrency: contract.concurrency,
            bucket: contract.rate.filter(|_| leased.is_none()).map(|rate| Bucket::new(rate, now)),
            breaker: contract.breaker.map(Breaker::new),
            retry: contract.retry,
            throttled_until: None,
            throttles: 0,
            leased,
        }
    }

    /// Why no call may start now beside `running` others.
    pub(super) fn closed(&self, now: Timestamp, running: usize) -> Option<Closed> {
        if running >= self.concurrency as usize {
            return Some(Closed::ForNow);
        }
        if let Some(until) = self.throttled_until.filter(|until| *until > now) {
            return Some(Closed::Until(until));
        }
        match self.gate(now) {
            Gate::Until(at) => return Some(Closed::Until(at)),
            Gate::Waiting => return Some(Closed::ForNow),
            Gate::Trial if self.leased.as_ref().is_some_and(|leased| leased.trial_until <= now) => {
                return Some(Closed::ForNow);
            }
            Gate::Open | Gate::Trial => {}
        }
        if let Some(leased) = &self.leased {
            return (!leased.allows(now, running)).then_some(Closed::ForNow);
        }
        self.bucket.clone().and_then(|mut bucket| bucket.take(now).err()).map(Closed::Until)
    }

    fn gate(&self, now: Timestamp) -> Gate {
        self.breaker.as_ref().map_or(Gate::Open, |breaker| breaker.gate(now))
    }

    /// A call starts. [`Self::closed`] has looked, and nothing else takes from it.
    pub(super) fn started(&mut self, now: Timestamp) {
        if let Some(bucket) = &mut self.bucket {
            let _ = bucket.take(now);
        }
        if let Some(leased) = &mut self.leased {
            leased.tokens = leased.tokens.saturating_sub(u32::from(leased.rate.is_some()));
        }
        if let Some(breaker) = &mut self.breaker {
            breaker.started();
        }
    }

    /// A call ended: `sound` when the system answered as it should, `None` when nothing was learned; `throttled` when it asked to be
    /// left alone.
    pub(super) fn ended(&mut self, sound: Option<bool>, throttled: Option<&Throttle>, now: Timestamp) {
        if let Some(breaker) = &mut self.breaker {
            let before = breaker.open_until();
            match sound {
                Some(sound) => breaker.ended(sound, now),
                None => breaker.abandoned(),
            }
            if let Some(leased) = &mut self.leased {
                leased.note_breaker(before, breaker.open_until());
            }
        }
        match throttled {
            Some(throttle) => {
                self.throttles = self.throttles.saturating_add(1);
                let until = throttle.until.unwrap_or_else(|| now.plus(self.retry.ceiling(self.throttles)));
                self.throttled_until = self.throttled_until.max(Some(until));
                if let Some(leased) = &mut self.leased {
                    leased.tell_throttled = self.throttled_until;
                }
            }
            None if sound == Some(true) => self.throttles = 0,
            None => {}
        }
    }

    /// An attempt panicked: nothing was learned.
    pub(super) fn abandoned(&mut self) {
        if let Some(breaker) = &mut self.breaker {
            breaker.abandoned();
        }
    }

    // ---- what all nodes share ----

    /// What to ask of the store now, with `running` calls under way and `ready` that would start; none when nothing is to be asked.
    /// The answer goes to [`Self::given`] or [`Self::unanswered`].
    pub(super) fn ask(&mut self, now: Timestamp, running: usize, ready: usize) -> Option<Ask> {
        let at = self.ask_at(now, running, ready)?;
        if at > now {
            return None;
        }
        let gate = self.gate(now);
        let leased = self.leased.as_mut()?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let using = count(running);
        let want = using.saturating_add(count(ready)).min(self.concurrency);
        let tokens = leased.wanted_tokens(count(ready));
        // What nobody here waits for is given back, so that others may have it.
        let back = leased.tokens.saturating_sub(count(ready));
        leased.tokens -= back;
        leased.asking = true;
        leased.asked_at = Some(now);
        let left = |until: Option<Timestamp>| {
            until.map_or(0, |until| u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX))
        };
        Some(Ask {
            connector: self.connector.clone(),
            node: leased.node.clone(),
            rate: leased.rate,
            slots_max: self.concurrency,
            tokens,
            back,
            using,
            want,
            throttled_ms: left(leased.tell_throttled.take()),
            open_ms: left(leased.tell_open.take()),
            closed: std::mem::take(&mut leased.tell_closed),
            tries: ready > 0 && gate == Gate::Trial,
            lease_ms: u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// When something is to be asked; none while an answer is awaited, or nothing ever is.
    pub(super) fn ask_at(&self, now: Timestamp, running: usize, ready: usize) -> Option<Timestamp> {
        let leased = self.leased.as_ref().filter(|leased| !leased.asking)?;
        let Some(asked_at) = leased.asked_at else { return (running + ready > 0).then_some(now) };
        let soon = asked_at.plus(ASK_PAUSE);
        if leased.has_news() {
            return Some(soon);
        }
        let blocked = self.throttled_until.filter(|until| *until > now);
        let open_until = if let Gate::Until(until) = self.gate(now) { Some(until) } else { None };
        if ready > 0 && leased.is_short(now, running) {
            return Some(soon.max(leased.token_at).max(blocked.max(open_until).unwrap_or(soon)));
        }
        if ready > 0 && self.gate(now) == Gate::Trial && leased.trial_until <= now {
            return Some(soon);
        }
        (running > 0 || leased.slots > 0).then(|| asked_at.plus(RENEW))
    }

    /// The answer to an ask that was made at `asked_at`.
    pub(super) fn given(&mut self, share: &Share, asked_at: Timestamp, now: Timestamp) {
        let Some(leased) = &mut self.leased else { return };
        leased.asking = false;
        leased.tokens = leased.tokens.saturating_add(share.tokens);
        leased.slots = share.slots;
        leased.until = asked_at.plus(LEASE.saturating_sub(MARGIN));
        leased.token_at = now.plus(Duration::from_millis(share.token_in_ms));
        if share.trial {
            leased.trial_until = leased.until;
        }
        let until = (share.closed_ms > 0).then(|| now.plus(Duration::from_millis(share.closed_ms)));
        if let Some(breaker) = &mut self.breaker
            && leased.tell_open.is_none()
        {
            match until.filter(|_| share.broken) {
                Some(until) => breaker.hold_open(until),
                None if !share.trial => breaker.close(),
                None => {}
            }
        }
        if !share.broken {
            self.throttled_until = self.throttled_until.max(until);
        }
    }

    /// No answer came: what is held still is, until its time.
    pub(super) fn unanswered(&mut self) {
        if let Some(leased) = &mut self.leased {
            leased.asking = false;
        }
    }

    /// What gives everything back, when no further call will start.
    pub(super) fn farewell(&self) -> Option<Ask> {
        let leased = self.leased.as_ref().filter(|leased| leased.asked_at.is_some())?;
        Some(Ask {
            connector: self.connector.clone(),
            node: leased.node.clone(),
            rate: leased.rate,
            slots_max: self.concurrency,
            back: leased.tokens,
            ..Ask::default()
        })
    }

    // ---- as people see it ----

    pub(super) fn breaker(&self, now: Timestamp) -> Breakers {
        match self.gate(now) {
            Gate::Open => Breakers::Closed,
            Gate::Until(until) => Breakers::Open { until },
            Gate::Trial | Gate::Waiting => Breakers::Trying,
        }
    }

    pub(super) fn throttled_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.throttled_until.filter(|until| *until > now)
    }

    /// Calls that its rate lets start at once; with a shared budget those that this node holds.
    pub(super) fn rate_left(&mut self, now: Timestamp) -> Option<u32> {
        match &self.leased {
            Some(leased) => leased.rate.map(|_| if leased.until > now { leased.tokens } else { 0 }),
            None => self.bucket.as_mut().map(|bucket| bucket.left(now)),
        }
    }

    /// Calls at a time that this node holds of a shared budget.
    pub(super) fn slots(&self, now: Timestamp) -> Option<u32> {
        self.leased.as_ref().map(|leased| if leased.until > now { leased.slots } else { 0 })
    }
}

impl Leased {
    fn new(node: String, rate: Option<ShareRate>, now: Timestamp) -> Self {
        Self {
            node,
            rate,
            tokens: 0,
            slots: 0,
            until: now,
            trial_until: now,
            asked_at: None,
            token_at: now,
            asking: false,
            tell_throttled: None,
            tell_open: None,
            tell_closed: false,
        }
    }

    fn allows(&self, now: Timestamp, running: usize) -> bool {
        self.until > now && running < self.slots as usize && (self.rate.is_none() || self.tokens > 0)
    }

    /// Whether a call that is ready has to wait for the store.
    fn is_short(&self, now: Timestamp, running: usize) -> bool {
        !self.allows(now, running)
    }

    fn has_news(&self) -> bool {
        self.tell_throttled.is_some() || self.tell_open.is_some() || self.tell_closed
    }

    /// Tokens to ask for, so that `ready` calls may start.
    fn wanted_tokens(&self, ready: u32) -> u32 {
        let Some(rate) = self.rate else { return 0 };
        let ahead =
            u64::from(rate.calls) * u64::try_from(AHEAD.as_millis()).unwrap_or(0) / rate.per_ms.max(1);
        let most = u32::try_from(ahead).unwrap_or(u32::MAX).max(rate.burst).max(1);
        ready.saturating_sub(self.tokens).min(most)
    }

    fn note_breaker(&mut self, before: Option<Timestamp>, after: Option<Timestamp>) {
        match (before, after) {
            (Some(_), None) => {
                self.tell_closed = true;
                self.trial_until = Timestamp(0);
            }
            (before, Some(until)) if before != Some(until) => {
                self.tell_open = Some(until);
                self.trial_until = Timestamp(0);
            }
            _ => {}
        }
    }
}

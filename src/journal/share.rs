//! What a connector may do is one budget for all nodes that share a store: the store leases parts of it to them.
//!
//! A node asks for calls that it may start (tokens) and for calls that may be under way (slots). Tokens are given once. Slots are held
//! under a lease, so that those of a node that is gone come back; together they never exceed what the connector allows. A node that
//! holds more than its part is given less with each call that ends. Throttling and an open breaker hold for all, and of all nodes one
//! makes the call that tries whether the system works again.
//!
//! Here are the rules, in whole milliseconds and tokens; [`Shares`] is what a store keeps of one connector. `redis/functions.lua` says
//! the same in the words of Redis, and a test compares the two.

use std::collections::BTreeMap;

/// How often it changes whose turn it is, in milliseconds, where there are fewer slots than nodes.
const TURN: i64 = 1_000;

/// What a node says of a connector, and asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ask {
    /// The connector.
    pub connector: String,
    /// Who asks: the node and which start of it, e.g. `a#7`.
    pub node: String,
    /// Calls per `per_ms`, if there is a rate.
    pub rate: Option<ShareRate>,
    /// Calls that may be under way on all nodes together.
    pub slots_max: u32,
    /// Calls that it wants to start.
    pub tokens: u32,
    /// Tokens that it gives back.
    pub back: u32,
    /// Calls that are under way there.
    pub using: u32,
    /// Calls that it would have under way if it might; with none and nothing used, it gives its slots back.
    pub want: u32,
    /// The system asked to be left alone for so long, in milliseconds; 0: nothing new.
    pub throttled_ms: u64,
    /// Its breaker has opened for so long; 0: nothing new.
    pub open_ms: u64,
    /// The call that tried whether it works again went well.
    pub closed: bool,
    /// It would make that call.
    pub tries: bool,
    /// How long what it is given is held without another word.
    pub lease_ms: u64,
}

/// A rate as whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareRate {
    /// Calls.
    pub calls: u32,
    /// In so many milliseconds.
    pub per_ms: u64,
    /// Calls at once after a rest.
    pub burst: u32,
}

/// What a node is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Calls that it may start, besides those given before.
    pub tokens: u32,
    /// Calls that may be under way there.
    pub slots: u32,
    /// No call may start for so long, in milliseconds, on any node.
    pub closed_ms: u64,
    /// Whether that is because of the breaker.
    pub broken: bool,
    /// It may make the call that tries whether the system works again.
    pub trial: bool,
    /// When the rate has another token, in milliseconds, if it gave fewer than were asked for; 0 otherwise.
    pub token_in_ms: u64,
}

/// What is kept of one connector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    /// Tokens times `per_ms`, and when that was so; none before the first ask.
    level: Option<(u64, i64)>,
    holders: BTreeMap<String, Holder>,
    throttled_until: i64,
    /// 0: the breaker is closed.
    open_until: i64,
    trial: Option<(String, i64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    held: u32,
    want: u32,
    until: i64,
}

fn ms(span: u64) -> i64 {
    i64::try_from(span).unwrap_or(i64::MAX / 4)
}

fn span(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

impl Shares {
    /// Answers at `now`, by the store's clock.
    pub fn give(&mut self, ask: &Ask, now: i64) -> Share {
        let (closed_ms, broken, trial) = self.gate(ask, now);
        let slots = self.slots(ask, now);
        let tokens = if closed_ms > 0 { 0 } else { ask.tokens };
        let (tokens, token_in_ms) = self.tokens(ask, tokens, now);
        Share { tokens, slots, closed_ms, broken, trial, token_in_ms }
    }

    /// Until when nobody may call, whether because of the breaker, and whether the asker may try.
    fn gate(&mut self, ask: &Ask, now: i64) -> (u64, bool, bool) {
        if ask.throttled_ms > 0 {
            self.throttled_until = self.throttled_until.max(now.saturating_add(ms(ask.throttled_ms)));
        }
        if ask.closed {
            (self.open_until, self.trial) = (0, None);
        }
        if ask.open_ms > 0 {
            self.open_until = self.open_until.max(now.saturating_add(ms(ask.open_ms)));
            if self.trial.as_ref().is_some_and(|(node, _)| *node == ask.node) {
                self.trial = None;
            }
        }
        let throttled = span(now, self.throttled_until);
        if self.open_until == 0 {
            return (throttled, false, false);
        }
        if now < self.open_until {
            return (throttled.max(span(now, self.open_until)), true, false);
        }
        let others = self.trial.as_ref().filter(|(node, until)| *until > now && *node != ask.node);
        match others {
            Some((_, until)) => (throttled.max(span(now, *until)), true, false),
            None if ask.tries && throttled == 0 => {
                self.trial = Some((ask.node.clone(), now.saturating_add(ms(ask.lease_ms))));
                (0, false, true)
            }
            None => (throttled.max(1), true, false),
        }
    }

    fn tokens(&mut self, ask: &Ask, wanted: u32, now: i64) -> (u32, u64) {
        let Some(ShareRate { calls, per_ms, burst }) = ask.rate else { return (wanted, 0) };
        let token = per_ms.max(1);
        let full = token.saturating_mul(u64::from(burst.max(1)));
        let (level, at) = self.level.unwrap_or((full, now));
        let gained = span(at, now).saturating_mul(u64::from(calls));
        let returned = token.saturating_mul(u64::from(ask.back));
        // What a wait in whole milliseconds gained above a full bucket is kept, up to less than a token.
        let remainder = u64::from(calls.saturating_sub(1)).min(token - 1);
        let level = level.saturating_add(gained).saturating_add(returned).min(full.saturating_add(remainder));
        let given = u32::try_from(level / token).unwrap_or(u32::MAX).min(wanted);
        let left = level - token * u64::from(given);
        self.level = Some((left, at.max(now)));
        let missing = token.saturating_sub(left).div_ceil(u64::from(calls.max(1)));
        (given, if given < wanted { missing.max(1) } else { 0 })
    }

    fn slots(&mut self, ask: &Ask, now: i64) -> u32 {
        self.holders.retain(|_, holder| holder.until > now);
        let until = now.saturating_add(ms(ask.lease_ms));
        let before = self.holders.remove(&ask.node).map_or(0, |holder| holder.held);
        let others: u32 = self.holders.values().map(|holder| holder.held).sum();
        let mut wants: BTreeMap<&str, u32> =
            self.holders.iter().map(|(node, holder)| (node.as_str(), holder.want)).collect();
        wants.insert(&ask.node, ask.want);
        let part = part(&wants, &ask.node, ask.slots_max, now);
        let held = ask.using.min(before.max(part)).max(part.min(ask.slots_max.saturating_sub(others)));
        if held > 0 || ask.want > 0 {
            self.holders.insert(ask.node.clone(), Holder { held, want: ask.want, until });
        }
        held
    }
}

/// The part of `slots_max` that `node` may have: as much as it wants where there is enough for all; otherwise the small wants are
/// met and the rest is dealt out evenly, what does not divide in turns.
fn part(wants: &BTreeMap<&str, u32>, node: &str, slots_max: u32, now: i64) -> u32 {
    let mut by_want: Vec<(u32, &str)> =
        wants.iter().filter(|(_, want)| **want > 0).map(|(node, want)| (*want, *node)).collect();
    by_want.sort_unstable();
    let (mut left, mut count) = (slots_max, u32::try_from(by_want.len()).unwrap_or(u32::MAX));
    let (mut parts, mut level) = (Vec::new(), None);
    for (want, name) in by_want {
        // Once one wants more than there is for it, so do all that follow.
        let fair = level.unwrap_or(left / count);
        if want > fair {
            level = Some(fair);
        }
        let given = want.min(fair);
        parts.push((name, want, given));
        (left, count) = (left - given, count - 1);
    }
    // Those that want more take turns at what is left.
    let short: Vec<&str> =
        parts.iter().filter(|(_, want, given)| given < want).map(|(name, ..)| *name).collect();
    let more = u32::try_from(short.len()).unwrap_or(u32::MAX).max(1);
    let turn = u32::try_from((now / TURN).rem_euclid(i64::from(more))).unwrap_or(0);
    let place = short.iter().position(|name| *name == node).map(|at| u32::try_from(at).unwrap_or(0));
    let given = parts.iter().find(|(name, ..)| *name == node).map_or(0, |(_, _, given)| *given);
    let extra = place.is_some_and(|at| (at + more - turn) % more < left);
    given + u32::from(extra)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(node: &str) -> Ask {
        Ask {
            connector: "erp".to_owned(),
            node: node.to_owned(),
            slots_max: 4,
            lease_ms: 6_000,
            ..Ask::default()
        }
    }

    fn wanting(node: &str, want: u32, using: u32) -> Ask {
        Ask { using, want, ..ask(node) }
    }

    #[test]
    fn one_node_alone_has_all_it_wants_and_two_have_half_each() {
        let mut shares = Shares::default();
        assert_eq!(shares.give(&wanting("a", 9, 0), 0).slots, 4);
        assert_eq!(shares.give(&wanting("b", 9, 0), 1).slots, 0, "a has them all");
        assert_eq!(shares.give(&wanting("a", 9, 4), 2).slots, 4, "what is under way goes on");
        assert_eq!(shares.give(&wanting("a", 9, 3), 3).slots, 3);
        assert_eq!(shares.give(&wanting("b", 9, 0), 4).slots, 1);
        assert_eq!(shares.give(&wanting("a", 9, 1), 5).slots, 2);
        assert_eq!(shares.give(&wanting("b", 9, 1), 6).slots, 2);
        assert_eq!(shares.give(&wanting("b", 1, 1), 7).slots, 1, "b wants less");
        assert_eq!(shares.give(&wanting("a", 9, 2), 8).slots, 3, "and a has the rest");
    }

    #[test]
    fn the_slots_of_a_node_that_is_gone_come_back() {
        let mut shares = Shares::default();
        assert_eq!(shares.give(&wanting("a", 4, 4), 0).slots, 4);
        assert_eq!(shares.give(&wanting("b", 4, 0), 5_999).slots, 0);
        assert_eq!(shares.give(&wanting("b", 4, 0), 6_000).slots, 4);
        assert_eq!(shares.give(&wanting("b", 0, 0), 6_001).slots, 0);
        assert_eq!(shares.holders.len(), 0, "nothing is kept of who wants nothing");
    }

    #[test]
    fn one_slot_goes_round() {
        let one = |node: &str| Ask { slots_max: 1, ..wanting(node, 1, 0) };
        let mut shares = Shares::default();
        let mut had = BTreeMap::new();
        for at in 0..120_i64 {
            let node = ["a", "b", "c"][usize::try_from(at % 3).unwrap()];
            if shares.give(&one(node), at * 100).slots > 0 {
                *had.entry(node).or_insert(0) += 1;
            }
        }
        assert!(had.len() == 3 && had.values().all(|count| *count >= 8), "{had:?}");
    }

    #[test]
    fn a_burst_then_the_rate_for_all_together() {
        let rate = Some(ShareRate { calls: 10, per_ms: 1_000, burst: 5 });
        let tokens = |node: &str, tokens| Ask { rate, tokens, ..wanting(node, 1, 0) };
        let mut shares = Shares::default();
        assert_eq!(shares.give(&tokens("a", 3), 0).tokens, 3);
        let share = shares.give(&tokens("b", 3), 0);
        assert_eq!((share.tokens, share.token_in_ms), (2, 100));
        assert_eq!(shares.give(&tokens("c", 1), 99).tokens, 0);
        assert_eq!(shares.give(&tokens("c", 1), 100).tokens, 1);
        assert_eq!(shares.give(&Ask { back: 2, ..tokens("a", 2) }, 100).tokens, 2, "what was given back");
    }

    #[test]
    fn throttling_and_an_open_breaker_hold_for_all_and_one_tries() {
        let tries = |node: &str| Ask { tries: true, tokens: 1, ..wanting(node, 1, 0) };
        let mut shares = Shares::default();
        shares.give(&Ask { throttled_ms: 50, ..tries("a") }, 0);
        assert_eq!(shares.give(&tries("b"), 10).closed_ms, 40);
        assert_eq!(shares.give(&tries("b"), 50).closed_ms, 0);
        shares.give(&Ask { open_ms: 1_000, ..tries("a") }, 100);
        let told = shares.give(&tries("b"), 600);
        assert_eq!((told.closed_ms, told.broken, told.tokens), (500, true, 0));
        assert!(shares.give(&tries("b"), 1_100).trial);
        let told = shares.give(&tries("c"), 1_100);
        assert_eq!((told.trial, told.closed_ms), (false, 6_000), "b tries");
        assert!(shares.give(&Ask { open_ms: 1_000, ..tries("b") }, 1_200).broken, "and fails");
        assert!(shares.give(&tries("c"), 2_200).trial);
        assert!(!shares.give(&Ask { closed: true, ..tries("c") }, 2_300).broken);
        let told = shares.give(&tries("a"), 2_300);
        assert_eq!((told.closed_ms, told.broken, told.trial), (0, false, false));
    }

    #[test]
    fn a_trial_whose_node_is_gone_is_made_by_another() {
        let tries = |node: &str| Ask { tries: true, ..ask(node) };
        let mut shares = Shares::default();
        shares.give(&Ask { open_ms: 10, ..tries("a") }, 0);
        assert!(shares.give(&tries("a"), 10).trial);
        assert!(!shares.give(&tries("b"), 6_009).trial);
        assert!(shares.give(&tries("b"), 6_010).trial);
    }

    /// A node that keeps to what it is given: calls under way end by chance.
    #[derive(Debug, Clone)]
    struct Step {
        node: usize,
        after: i64,
        want: u32,
        ends: u32,
        vanishes: bool,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0..4_usize, 0..400_i64, 0..6_u32, 0..4_u32, prop::bool::weighted(0.05))
            .prop_map(|(node, after, want, ends, vanishes)| Step { node, after, want, ends, vanishes });
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        #[test]
        fn together_they_never_have_more_than_there_is(steps in steps(), slots_max in 1..6_u32, burst in 1..5_u32) {
            let rate = ShareRate { calls: 20, per_ms: 1_000, burst };
            let mut shares = Shares::default();
            // What each has under way, and until when it may: with no word from it, its slots come back and it has none.
            let mut under_way = [(0_u32, 0_i64); 4];
            let (mut now, mut started) = (0_i64, 0_u64);
            for step in steps {
                now += step.after;
                if step.vanishes {
                    now += 6_000;
                    continue;
                }
                let (had, until) = under_way[step.node];
                let using = if now < until { had.saturating_sub(step.ends) } else { 0 };
                let name = ["a", "b", "c", "d"][step.node];
                let ask = Ask {
                    rate: Some(rate), slots_max, tokens: step.want, using, want: step.want.max(using), ..ask(name)
                };
                let share = shares.give(&ask, now);
                under_way[step.node] = (share.slots, now + 6_000);
                started += u64::from(share.tokens);
                prop_assert!(share.slots >= using);
                let held: u32 = shares.holders.values().map(|holder| holder.held).sum();
                prop_assert!(held <= slots_max, "{held} of {slots_max}: {shares:?}");
                let allowed = u64::from(burst) + u64::try_from(now).unwrap() * 20 / 1_000 + 1;
                prop_assert!(started <= allowed, "{started} started, {allowed} allowed");
            }
        }
    }
}

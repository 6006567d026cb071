//! Which order is what: its webhooks, in which order they come, what is repeated, and how it must end.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use syncline_actors::id::EntityId;

use crate::sandbox::opportunity::{Opportunity, Variant};

/// How likely a webhook is sent twice, in percent.
const REPEATED: u32 = 15;

/// All orders.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) cases: Vec<Case>,
}

/// One order.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) opportunity: Opportunity,
    pub(super) entity: EntityId,
    pub(super) steps: Vec<Step>,
    /// A person tries its hold again at the end.
    pub(super) released_by_hand: bool,
    pub(super) must: Must,
}

/// How an order must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Must {
    /// Shipped, invoiced and told.
    Complete,
    /// Held: nobody does what it waits for.
    Hold,
    /// Cancelled, with everything undone; or complete, where the cancellation came too late and was rejected.
    Cancel,
}

/// One webhook.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) says: Says,
    /// Sent when the order stands in this state; at once when there is none.
    pub(super) when: Option<&'static str>,
    /// Sent twice under one id, both at once.
    pub(super) twice: bool,
    /// Sent once more under another id, as a sender does that lost track.
    pub(super) again: bool,
}

/// What a webhook says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    Confirmed,
    Amended,
    Cancelled,
}

impl Says {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Amended => "amended",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Story {
    pub(super) fn new(orders: u64, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Self { cases: (1..=orders).map(|number| case(number, &mut rng)).collect() }
    }

    /// Webhooks that must be acknowledged, repetitions included.
    pub(super) fn webhooks(&self) -> u64 {
        let of = |step: &Step| 1 + u64::from(step.twice) + u64::from(step.again);
        self.cases.iter().flat_map(|case| &case.steps).map(of).sum()
    }
}

fn case(number: u64, rng: &mut StdRng) -> Case {
    use Must::{Cancel, Complete, Hold};
    use Says::{Amended, Cancelled, Confirmed};
    // What is said after the confirmation, and in which state of the order.
    let (variant, then, must) = match number % 20 {
        1 => (Variant::MissingTaxClass, vec![(Amended, Some("tax_class_missing"))], Complete),
        2 => (Variant::InactiveAccount, vec![], Hold),
        3 => (Variant::ChildAccount, vec![], Complete),
        4 => (Variant::MissingAccount, vec![(Amended, Some("account_hold"))], Complete),
        5 => (Variant::Backordered, vec![], Complete),
        6 => (Variant::RefusedByTax, vec![(Amended, Some("tax_hold"))], Complete),
        7 | 8 => (Variant::Normal, vec![(Cancelled, None)], Cancel),
        9 => (Variant::MissingTaxClass, vec![(Cancelled, Some("tax_class_missing"))], Cancel),
        10 => (Variant::Normal, vec![(Cancelled, Some("fulfilment"))], Cancel),
        _ => (Variant::Normal, vec![], Complete),
    };
    let opportunity = Opportunity::new(number, variant);
    let entity =
        EntityId::new("order", &opportunity.order_number()).expect("order numbers are short and plain");
    let mut steps = vec![step(Confirmed, None, rng)];
    steps.extend(then.into_iter().map(|(says, when)| step(says, when, rng)));
    // Some amendments overtake the order that they amend, and wait in its mailbox.
    if number % 20 == 11 {
        steps.insert(0, step(Amended, None, rng));
    }
    Case { opportunity, entity, steps, released_by_hand: variant == Variant::Backordered, must }
}

fn step(says: Says, when: Option<&'static str>, rng: &mut StdRng) -> Step {
    let twice = rng.random_ratio(REPEATED, 100);
    let again = says == Says::Confirmed && rng.random_ratio(REPEATED / 3, 100);
    // Who waits for a state that the order may leave in between would wait for ever.
    let when = when.filter(|state| *state != "fulfilment");
    Step { says, when, twice, again }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_order_is_among_twenty() {
        let story = Story::new(20, 1);
        let variants: BTreeSet<_> = story.cases.iter().map(|case| case.opportunity.variant).collect();
        assert!(variants.len() >= 7, "{variants:?}");
        for must in [Must::Complete, Must::Hold, Must::Cancel] {
            assert!(story.cases.iter().any(|case| case.must == must), "{must:?}");
        }
    }

    #[test]
    fn one_seed_tells_one_story() {
        let told = |seed| format!("{:?}", Story::new(100, seed));
        assert_eq!(told(1), told(1));
        assert_ne!(told(1), told(2));
    }
}

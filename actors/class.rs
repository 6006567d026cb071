//! The class of an integration: how soon its work must be done, how much it matters, and how long it may fail unnoticed.
//!
//! A class is declared where the integration is (`class:` of a process, a source or a connector), and is acted upon: its latency chooses
//! the lane in which messages and effects wait, its criticality what is turned away first when there is too much.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::document::Fields;

/// How soon work must be done. What is in less of a hurry waits in a lane of its own and never before what is in more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Latency {
    /// At once: somebody waits for it.
    #[default]
    Realtime,
    /// Within minutes: a poll, a mirror.
    Minutes,
    /// By tomorrow: files, backfills, reconciliation.
    Batch,
}

/// Ends the connector in the name of a lane. No connector's name has it.
const MARK: char = '~';

impl Latency {
    /// Every one, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Realtime, Self::Minutes, Self::Batch];

    /// The word used in definitions, metrics and pages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Minutes => "minutes",
            Self::Batch => "batch",
        }
    }

    /// The lane of a connector in which effects of this latency wait: `erp`, `erp~minutes`, `erp~batch`. The name is stored.
    pub fn lane(self, connector: &str) -> String {
        match self {
            Self::Realtime => connector.to_owned(),
            Self::Minutes | Self::Batch => format!("{connector}{MARK}{}", self.word()),
        }
    }

    /// The connector and the latency of a lane. An unknown ending is the least urgent: a newer program knows better.
    pub fn of_lane(lane: &str) -> (&str, Self) {
        match lane.split_once(MARK) {
            None => (lane, Self::Realtime),
            Some((connector, word)) => (
                connector,
                Self::ALL.into_iter().find(|latency| latency.word() == word).unwrap_or(Self::Batch),
            ),
        }
    }
}

/// How much it matters: what matters less is turned away sooner when there is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Criticality {
    /// The first to be turned away: while half of the room is taken.
    Low,
    /// Turned away when little room is left.
    #[default]
    Normal,
    /// Turned away when there is no room at all.
    High,
}

impl Criticality {
    /// The word used in definitions and pages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// How much of `room` may be taken before it is turned away.
    pub fn share_of(self, room: usize) -> usize {
        match self {
            Self::Low => room / 2,
            Self::Normal => room - room / 8,
            Self::High => room,
        }
    }
}

/// The class of an integration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Class {
    /// How soon its work must be done.
    pub latency: Latency,
    /// How much it matters.
    pub criticality: Criticality,
    /// How long it may fail before a person must know; `None`: [`Class::TOLERANCE`].
    pub tolerates: Option<Duration>,
}

impl Class {
    /// How long an integration may fail where its class does not say.
    pub const TOLERANCE: Duration = Duration::from_mins(15);

    /// How long it may fail before a person must know.
    pub fn tolerance(&self) -> Duration {
        self.tolerates.unwrap_or(Self::TOLERANCE)
    }

    /// Reads `class: {latency, criticality, failure_tolerance}`; what is not said is usual.
    pub fn read(mut fields: Fields<'_>) -> Self {
        let latencies = Latency::ALL.map(|latency| (latency.word(), latency));
        let levels =
            [Criticality::Low, Criticality::Normal, Criticality::High].map(|level| (level.word(), level));
        let latency = fields.optional_choice("latency", &latencies);
        let criticality = fields.optional_choice("criticality", &levels);
        let tolerates = fields.optional_duration("failure_tolerance");
        fields.finish();
        Self {
            latency: latency.map_or_else(Latency::default, |latency| latency.value),
            criticality: criticality.map_or_else(Criticality::default, |level| level.value),
            tolerates: tolerates.map(|tolerates| tolerates.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_tells_its_connector_and_its_latency() {
        for latency in Latency::ALL {
            assert_eq!(Latency::of_lane(&latency.lane("erp")), ("erp", latency));
        }
        assert_eq!(Latency::Realtime.lane("erp"), "erp", "what is stored already is urgent");
        assert_eq!(Latency::of_lane("erp~nightly"), ("erp", Latency::Batch));
    }

    #[test]
    fn what_matters_less_is_turned_away_sooner() {
        let shares =
            [Criticality::Low, Criticality::Normal, Criticality::High].map(|level| level.share_of(800));
        assert_eq!(shares, [400, 700, 800]);
    }
}

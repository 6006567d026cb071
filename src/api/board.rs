//! How processes stand, and what is left of their error budgets.

use serde::{Deserialize, Serialize};

/// Every process and every objective, over all nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// As of when; the oldest of the nodes' counts. None: nothing is counted yet.
    pub as_of: Option<String>,
    /// Nodes that did not tell what they have counted: their entities are missing here.
    pub silent: Vec<String>,
    /// The processes, by name.
    pub processes: Vec<Process>,
    /// The objectives, by name.
    pub slos: Vec<Slo>,
}

/// The instances of one process. What has ended is counted for 30 days.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its name.
    pub process: String,
    /// What people call it.
    pub title: String,
    /// The team that answers for it.
    pub owner: String,
    /// Where it is escalated to.
    pub escalate: String,
    /// Instances under way.
    pub open: u64,
    /// Of these, those that have missed a milestone.
    pub late: u64,
    /// Instances that ended as wished.
    pub completed: u64,
    /// Of these, those that missed no milestone.
    pub in_time: u64,
    /// Instances that were called off.
    pub cancelled: u64,
    /// Instances that were given up.
    pub failed: u64,
    /// Where those under way stand, the one that waits longest first.
    pub states: Vec<InState>,
}

/// The instances in one state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InState {
    /// The state.
    pub state: String,
    /// How many.
    pub open: u64,
    /// How many of them are late.
    pub late: u64,
    /// The instance that is there longest, `kind/key`.
    pub oldest: String,
    /// Since when.
    pub since: String,
    /// For how long, in seconds.
    pub seconds: u64,
}

/// One objective.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// The process.
    pub process: String,
    /// The milestone that good instances reach in time.
    pub milestone: String,
    /// The time limit of the milestone, in seconds; none when the process has it no more.
    pub within_seconds: Option<u64>,
    /// The share that should be good.
    pub target: f64,
    /// Instances that began in so many seconds are counted.
    pub window_seconds: u64,
    /// Instances that reached the milestone in time.
    pub good: u64,
    /// Those that did not.
    pub bad: u64,
    /// Those that still may.
    pub open: u64,
    /// The share of the good among those that are decided; none as long as there are none.
    pub ratio: Option<f64>,
    /// The share of the error budget that is left; below 0 it is overspent.
    pub budget_remaining: f64,
    /// The team that answers for it.
    pub owner: String,
    /// Where it is escalated to.
    pub escalate: String,
}

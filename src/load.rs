//! An honest load generator: sends signed webhooks at times that are settled beforehand, whatever the answers, and measures
//! each latency from the time the message was due. A server that stalls is charged for everything that should have been sent
//! meanwhile ("coordinated omission", Tene, 2013). It also counts what the server's processes cost.
//!
//! ```text
//! schedule ─► pacer (a thread) ─► queue ─► connections (a task each) ─► tally ─► report
//!                                          closed loop: without a queue, as fast as the answers come
//! ```
//!
//! It runs on threads of its own, one unless told otherwise, and takes the lightest client there is: what it uses itself, the
//! server on the same machine does not get. Its own cost stands in the report.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

mod args;
mod connection;
mod crew;
mod pacer;
mod process;
mod report;
mod run;
mod schedule;
mod tally;
mod traffic;
mod webhook;

pub use args::Args;
pub use process::Usage;
pub use report::Report;
pub use run::run;
pub use schedule::{Spike, Step};
pub use tally::{Failure, Percentiles};
pub use traffic::Distribution;

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to: `http://host:port/hooks/SOURCE`.
    pub url: String,
    /// What requests are signed with: `whsec_` and base64.
    pub secret: SecretString,
    /// Begins the id of every message; two runs against one store need two.
    pub run_id: String,
    /// Settles which entity each message is for, and which are duplicates. The same seed sends the same.
    pub seed: u64,
    /// When messages are sent.
    pub pace: Pace,
    /// For how long messages are due and measured.
    pub duration: Duration,
    /// Before that, for how long messages are sent and not measured.
    pub warm_up: Duration,
    /// Connections, each with one request in flight at most.
    pub connections: usize,
    /// Threads of the generator.
    pub threads: usize,
    /// For connecting, and for one request. So long after its end, the run is given up.
    pub timeout: Duration,
    /// How many entities the messages are about.
    pub entities: u32,
    /// How the messages are spread over them.
    pub distribution: Distribution,
    /// Share of messages that repeat an earlier one, 0 to 1.
    pub duplicates: f64,
    /// Processes whose processor time and memory are measured.
    pub cpu_of: Vec<u32>,
    /// Gets a line `ID<TAB>KEY` for every 2xx, written before the next message is sent on that connection. The answer to a
    /// duplicate is a line, too.
    pub acked: Option<PathBuf>,
}

/// When messages are sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Pace {
    /// Open loop: at times that do not depend on the answers.
    Open {
        /// Messages per second.
        rate: f64,
        /// Other rates from some time on.
        steps: Vec<Step>,
        /// Multiples of the rate for some time.
        spikes: Vec<Spike>,
    },
    /// Closed loop: each connection sends the next message when the last one was answered. Tells the highest throughput; its
    /// latencies leave out what a real sender would have waited.
    Closed,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting makes no sense. Nothing was sent.
    #[error("{0}")]
    Plan(String),
    /// The target is no plain HTTP address. Nothing was sent.
    #[error("{0:?} is nowhere to send to; write e.g. http://127.0.0.1:7171/hooks/load (TLS is not spoken)")]
    Url(String),
    /// The secret cannot sign. Nothing was sent.
    #[error("the secret cannot be used: {0}; write `whsec_` and 24 to 64 bytes in base64")]
    Secret(String),
    /// The reference to the secret leads nowhere. Nothing was sent.
    #[error("no secret to sign with")]
    NoSecret(#[from] crate::secret::Error),
    /// The run's id does not fit into a message's. Nothing was sent.
    #[error("{0:?} is no run id; write 1 to 64 letters, digits, `-` and `_`")]
    RunId(String),
    /// Nothing listens at the target. Nothing was sent.
    #[error("cannot connect to {0}: {1}; is it running there?")]
    Unreachable(String, #[source] io::Error),
    /// A process to measure is not there. Nothing was sent.
    #[error("there is no process {0} to measure; look at the ids given with `--cpu-of`")]
    NoProcess(u32),
    /// The file for acknowledged ids cannot be written. Messages may have been sent.
    #[error("cannot write the acknowledged ids to {0}: {1}")]
    Acked(PathBuf, #[source] io::Error),
    /// A thread of the generator could not be started, or panicked: there is no result.
    #[error("the generator failed: {0}")]
    Worker(String),
}

impl Plan {
    /// 2,000 messages per second for ten seconds over 64 connections, to 10,000 entities.
    pub fn new(url: impl Into<String>, secret: SecretString, run_id: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            secret,
            run_id: run_id.into(),
            seed: 1,
            pace: Pace::Open { rate: 2000.0, steps: Vec::new(), spikes: Vec::new() },
            duration: Duration::from_secs(10),
            warm_up: Duration::ZERO,
            connections: 64,
            threads: 1,
            timeout: Duration::from_secs(10),
            entities: 10_000,
            distribution: Distribution::Uniform,
            duplicates: 0.0,
            cpu_of: Vec::new(),
            acked: None,
        }
    }
}

/// A count to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds stay far below 2^53")]
fn real(count: u64) -> f64 {
    count as f64
}

/// Zero when there is nothing to divide by.
fn ratio(what: f64, by: f64) -> f64 {
    if by > 0.0 { what / by } else { 0.0 }
}

//! The contract of a connector: how one system is called, how its answers are read, and how gently it must be treated.
//!
//! A contract is data (`config/connectors/<name>.yaml`). [`parse`] compiles every expression once and reports every mistake.

mod parse;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use syncline_actors::class::Class;
use syncline_actors::process::check::Reads;
use syncline_actors::retry::Retry;
use syncline_actors::subscription::Subscription;

pub use super::auth::CredentialStyle;
pub use super::formula::Formula;
pub use super::limits::{BreakerRule, Rate};
pub use super::session::{LASTS_DEFAULT, Session};
pub use super::template::{BodyTemplate, Piece, Template, Tree};
pub use parse::{parse, read};
pub use reconcile::{Compared, List, Reconcile, Repair, Take};

/// Time for one call where the contract does not say.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Calls in flight where the contract does not say.
pub const CONCURRENCY_DEFAULT: u32 = 4;

/// Bytes of an answer that are read where the contract does not say.
pub const RESPONSE_MAX_DEFAULT: usize = 1024 * 1024;

/// A system that we call.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
pub struct Connector {
    /// Its name, as processes call it.
    pub name: Arc<str>,
    /// Its name for people.
    pub title: Arc<str>,
    /// Who to call when it does not work.
    pub owner: Owner,
    /// How urgent it is, and how much it matters.
    pub class: Class,
    /// Where it is.
    pub base_url: Setting,
    /// How we show who we are.
    pub auth: Auth,
    /// The session that it wants for what changes something.
    pub session: Option<Session>,
    /// Calls in flight at most; what exceeds it waits in the store.
    pub concurrency: u32,
    /// How fast it may be called; `None`: as fast as it answers.
    pub rate: Option<Rate>,
    /// Time for one call, answer included. Past it the call is uncertain.
    pub timeout: Duration,
    /// When an effect is tried again, and when no more.
    pub retry: Retry,
    /// When the whole connector is left alone for a while.
    pub breaker: Option<BreakerRule>,
    /// Whether effects of one entity leave in the order they were emitted.
    pub ordered: bool,
    /// Whether it is a sandbox: only then may secrets have defaults.
    pub sandbox: bool,
    /// Whether plain HTTP beyond this machine is accepted.
    pub insecure: bool,
    /// Whether it may be at a private address.
    pub allow_private: bool,
    /// Bytes of an answer that are read; the rest is cut.
    pub response_max: usize,
    /// What it can be asked to do, by name.
    pub operations: BTreeMap<Arc<str>, Arc<Operation>>,
    /// The records whose changes it wants, by kind.
    pub subscribes: BTreeMap<Arc<str>, Arc<Subscription>>,
    /// Which records are read back and compared with their entities, one for each kind.
    pub reconcile: Vec<Arc<Reconcile>>,
}

/// Who answers for a system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// The team.
    pub team: Arc<str>,
    /// Where to reach it when it is urgent; empty if nowhere.
    pub escalate: Arc<str>,
}

/// A setting that stands in the file, or that the file refers to (`env:NAME`, `file:/path`).
#[derive(Clone, PartialEq, Eq)]
pub enum Setting {
    /// As written.
    Plain(String),
    /// From outside the file.
    Ref {
        /// `env:NAME` or `file:/path`.
        reference: String,
        /// If there is nothing there.
        default: Option<String>,
    },
}

/// Without values: they may be secret.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain(..)"),
            Self::Ref { reference, .. } => {
                f.debug_struct("Ref").field("reference", reference).finish_non_exhaustive()
            }
        }
    }
}

/// How a connector shows who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// HTTP Basic.
    Basic {
        /// User name.
        username: Setting,
        /// Password.
        password: Setting,
    },
    /// A key in a header of the vendor's.
    ApiKey {
        /// The header.
        header: HeaderName,
        /// The key.
        value: Setting,
    },
    /// A token that does not change.
    Bearer {
        /// The token.
        token: Setting,
    },
    /// OAuth 2.0 client credentials.
    ClientCredentials {
        /// Where tokens come from: absolute, or a path after the base URL.
        token_url: String,
        /// Client id.
        client_id: Setting,
        /// Client secret.
        client_secret: Setting,
        /// Scope to ask for.
        scope: Option<String>,
        /// How the credentials are sent.
        style: CredentialStyle,
    },
}

/// One thing a system can be asked to do.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its name, as processes call it.
    pub name: Arc<str>,
    /// The call.
    pub request: Template,
    /// Time for one call, if not the connector's.
    pub timeout: Option<Duration>,
    /// What makes a repeated call harmless.
    pub idempotency: Idempotency,
    /// What to do when a call may have been applied.
    pub uncertain: Uncertain,
    /// How long the system remembers a key. Past it a repeated call is no longer harmless.
    pub key_kept: Option<Duration>,
    /// Whether the system is asked before the first attempt as well: it knows no key, and another effect may have been there before.
    pub ask_first: bool,
    /// How answers are read; the first that matches wins.
    pub outcomes: Vec<Rule>,
    /// How to ask whether it was applied.
    pub probe: Option<Probe>,
}

impl Operation {
    /// Whether an attempt must be on record before it starts: where repeating it blindly could apply it twice.
    pub fn claims(&self) -> bool {
        self.uncertain != Uncertain::Resend || self.key_kept.is_some()
    }

    /// The members of `input` that it looks at, and whether it fails without one. None where it looks at all of it at once.
    pub fn takes(&self) -> Option<BTreeMap<String, bool>> {
        let mut reads = Reads::of("input");
        let mut see = |formula: &Formula| reads.see(formula.expr(), false);
        self.request.formulas(&mut see);
        if let Some(probe) = &self.probe {
            probe.request.formulas(&mut see);
        }
        for rule in &self.outcomes {
            see(&rule.when);
            rule.wait.iter().for_each(&mut see);
        }
        reads.members()
    }

    /// What its answers give a process when it is done, all of them together. None where an expression gives it.
    pub fn gives(&self) -> Option<BTreeSet<&str>> {
        let results = self.outcomes.iter().filter_map(|rule| rule.result.as_ref());
        let results = results.chain(self.probe.iter().filter_map(|probe| probe.result.as_ref()));
        let names: Option<Vec<_>> = results.map(Tree::names).collect();
        Some(names?.into_iter().flatten().collect())
    }
}

/// What makes a repeated call harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// The call carries the idempotency key, and the system honours it.
    Header,
    /// The call itself names what it makes: an upsert, a read.
    Natural,
    /// Nothing.
    None,
}

/// What to do when a call may have been applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncertain {
    /// Ask the system before trying again.
    Probe,
    /// Try again under the same key.
    Resend,
    /// Leave it to a person.
    Hold,
}

/// How one kind of answer is read.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which answers, over `status`, `headers`, `body`, `input`, `key` and `attempts`.
    pub when: Formula,
    /// What they mean.
    pub is: Meaning,
    /// What is taken from them, for `ok`.
    pub result: Option<Tree>,
    /// A sentence for people: as written, or an expression.
    pub detail: Option<Detail>,
    /// Seconds to wait before the next call, where the system does not say it in `Retry-After`.
    pub wait: Option<Formula>,
}

/// A sentence for people.
#[derive(Debug, Clone)]
pub enum Detail {
    /// As written.
    Text(Arc<str>),
    /// Taken from the answer.
    Value(Formula),
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It is done, now or at an earlier attempt.
    Ok,
    /// The system said no, and would say no again.
    Failed,
    /// It may have been applied, or not: try again, as `uncertain` says.
    Retry,
    /// It was surely not applied: try again.
    Busy,
    /// It was surely not applied, and the whole connector is too fast.
    Throttled,
    /// The credentials were refused: refresh them and try once more.
    Reauthenticate,
}

/// How to ask a system whether an effect was applied.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The question.
    pub request: Template,
    /// Holds when it was.
    pub found: Formula,
    /// Holds when it was not. When neither holds, the probe failed and is repeated.
    pub absent: Formula,
    /// What is taken from the answer when it was.
    pub result: Option<Tree>,
    /// How long after an attempt the answer can be trusted.
    pub after: Duration,
}

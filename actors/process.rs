//! A process: the definition that governs a kind of entity, compiled once from `config/processes/*.yaml`.
//!
//! A process is data. It says which states there are, which messages, effect outcomes and timers lead from one to another, what
//! is then assigned and which effects leave, and how each is undone. [`parse`] reads it, [`check`] finds what is wrong with it,
//! [`decide`](crate::decide::decide) follows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::decision::Ending;
use crate::document::Place;
use crate::envelope::OutcomeClass;
use crate::expr::Expr;
use crate::mapping::Mapping;

pub mod check;
pub mod parse;
pub mod test;

/// A compiled definition.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its name: the kind of the entities it governs, and their variable in expressions.
    pub name: Arc<str>,
    /// Its version: 1, 2, … An instance stays on the version it began with.
    pub version: u32,
    /// What people call it.
    pub title: String,
    /// Who answers for it.
    pub owner: Owner,
    /// The state in which an instance begins.
    pub initial: Arc<str>,
    /// Where that is said.
    pub initial_place: Place,
    /// The fields of its entities, by name.
    pub fields: BTreeMap<String, Field>,
    /// The messages it understands, by type.
    pub messages: BTreeMap<Arc<str>, MessageDef>,
    /// The effects it can emit, by name.
    pub effects: BTreeMap<Arc<str>, EffectDef>,
    /// Fields by whose values its entities are found: ids in other systems.
    pub search: Vec<Arc<str>>,
    /// Its states, by name.
    pub states: BTreeMap<Arc<str>, StateDef>,
    /// Transitions that hold in every state that has not ended, save the named exceptions, after the state's own.
    pub anywhere: BTreeMap<Trigger, Vec<Transition>>,
    /// What should be reached by when.
    pub milestones: BTreeMap<Arc<str>, Milestone>,
    /// The YAML it was compiled from: kept in the store, so that instances outlive the file.
    pub text: Arc<str>,
    /// Where it was read from.
    pub place: Place,
}

/// Who answers for something, and where they are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// The team.
    pub team: Arc<str>,
    /// Where it is escalated to: a channel, an address.
    pub escalate: Arc<str>,
}

/// A field of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What it holds.
    pub kind: FieldKind,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Text, ids among them.
    Text,
    /// An exact decimal or integer.
    Number,
    /// Yes or no.
    Bool,
    /// A list.
    List,
    /// A map.
    Map,
    /// Whatever comes.
    Any,
}

/// A message that a process understands.
#[derive(Debug, Clone)]
pub struct MessageDef {
    /// Whether it asks (command) or tells (event).
    pub is_command: bool,
    /// Whether it begins an entity that is not there.
    pub starts: bool,
    /// The key of the business that makes it a duplicate whatever its id.
    pub business_key: Option<Expr>,
    /// What becomes of it when the state has no use for it.
    pub out_of_turn: OutOfTurn,
    /// Where it is defined.
    pub place: Place,
}

/// What becomes of a message that no transition of the state takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfTurn {
    /// It waits until a state takes it.
    Defer,
    /// It is journaled without effect.
    Ignore,
    /// Its sender is told no.
    Reject,
}

/// An effect that a process can emit.
#[derive(Debug, Clone)]
pub struct EffectDef {
    /// The connector to call.
    pub connector: Arc<str>,
    /// Its operation.
    pub operation: Arc<str>,
    /// What is sent.
    pub input: Mapping,
    /// Set when it is a message to another entity: then the connector is [`ENTITY`], and the operation the message's name.
    pub send: Option<Box<SendDef>>,
    /// Fields assigned when it is done, in whatever state the entity is then.
    pub keep: Vec<(Arc<str>, Mapping)>,
    /// The effect that undoes it.
    pub undo: Option<Arc<str>>,
    /// What becomes of a failure that no transition takes.
    pub failure: FailurePath,
    /// Where it is defined.
    pub place: Place,
}

/// The connector of messages to other entities: the program itself.
pub const ENTITY: &str = "entity";

/// A message to another entity.
#[derive(Debug, Clone)]
pub struct SendDef {
    /// To whom.
    pub to: Target,
    /// What it asks or tells.
    pub message: Telling,
    /// Where it is defined.
    pub place: Place,
}

/// Whom a message is for.
#[derive(Debug, Clone)]
pub enum Target {
    /// The entity of this kind whose key an expression gives. Without a region of its own the key stays in the sender's.
    Key {
        /// The kind.
        process: Arc<str>,
        /// The key.
        key: Expr,
    },
    /// The entity whose whole id an expression gives: `order/SO-1001`.
    Id(Expr),
}

impl SendDef {
    /// The expressions in it.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let (Target::Id(to) | Target::Key { key: to, .. }) = &self.to;
        let forward = match &self.message {
            Telling::Named { .. } => None,
            Telling::Forward(message) => Some(message),
        };
        std::iter::once(to).chain(forward)
    }
}

/// What a message to another entity asks or tells.
#[derive(Debug, Clone)]
pub enum Telling {
    /// This, with the effect's input as its data.
    Named {
        /// Its type.
        name: Arc<str>,
        /// Whether it asks.
        is_command: bool,
    },
    /// What an expression gives: a message that came for another, passed on.
    Forward(Expr),
}

/// What becomes of a failure that no transition of the state takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePath {
    /// Nothing was said: every state that emits it must have a transition for it.
    Transition,
    /// A person looks at it.
    Exception,
    /// It does not matter.
    Ignore,
}

/// A state.
#[derive(Debug, Clone)]
pub struct StateDef {
    /// Fields assigned on entry.
    pub set: Vec<(Arc<str>, Mapping)>,
    /// Effects emitted on entry.
    pub call: Vec<Arc<str>>,
    /// Ways out that need no trigger: the first whose guard holds is taken on entry.
    pub always: Vec<Transition>,
    /// Ways out, by what triggers them; the first whose guard holds is taken.
    pub on: BTreeMap<Trigger, Vec<Transition>>,
    /// Timers that run while it lasts.
    pub timers: Vec<Timer>,
    /// Set when a person must look while it lasts.
    pub hold: Option<Hold>,
    /// Set when the instance ends with it.
    pub end: Option<Ending>,
    /// Where it is defined.
    pub place: Place,
}

/// What makes a transition a candidate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// A command or an event of this type.
    Message(Arc<str>),
    /// An effect of this name ended so.
    Effect(Arc<str>, OutcomeClass),
    /// No effect is waited for any more.
    Settled,
    /// All that had to be undone is undone.
    Compensated,
    /// A person says: try again.
    Retry,
}

/// A way from one state to another, or an answer within one.
#[derive(Debug, Clone)]
pub struct Transition {
    /// Whether it is taken; always when there is none.
    pub when: Option<Expr>,
    /// Fields assigned, in order.
    pub set: Vec<(Arc<str>, Mapping)>,
    /// Effects emitted.
    pub call: Vec<Arc<str>>,
    /// Set when what was done is to be undone: why, as an expression that gives text.
    pub undo: Option<Expr>,
    /// The state it leads to; none: it stays, and nothing of the state begins anew.
    pub to: Option<Arc<str>>,
    /// States in which it does not hold; only for `anywhere`.
    pub except: Vec<Arc<str>>,
    /// Where it is defined.
    pub place: Place,
}

/// A timer that runs while a state lasts.
#[derive(Debug, Clone)]
pub struct Timer {
    /// Its name: `<state>.<duration>`, `<state>.every.<duration>` or `<state>.at.<place in the list>`.
    pub name: Arc<str>,
    /// When it is due.
    pub due: Due,
    /// What it does.
    pub then: Vec<Transition>,
    /// Where it is defined.
    pub place: Place,
}

/// When a timer is due.
#[derive(Debug, Clone)]
pub enum Due {
    /// So long after entry, once.
    After(Duration),
    /// So long after entry, and again and again as long as the state lasts.
    Every(Duration),
    /// At a date or a time that an expression gives on entry, less a while.
    At {
        /// The expression; none, as long as what it looks at is not there.
        time: Expr,
        /// So long before that time.
        before: Duration,
    },
}

impl Due {
    /// The key it is written under.
    pub fn word(&self) -> &'static str {
        match self {
            Self::After(_) => "after",
            Self::Every(_) => "every",
            Self::At { .. } => "at",
        }
    }
}

/// Why a state waits for a person.
#[derive(Debug, Clone)]
pub struct Hold {
    /// A sentence for the person, as an expression that gives text.
    pub reason: Expr,
    /// What is missing, as an expression.
    pub missing: Option<Expr>,
    /// Who owes it; the process's owner when empty.
    pub owner: Arc<str>,
}

/// What should be reached by when, counted from the beginning.
#[derive(Debug, Clone)]
pub struct Milestone {
    /// The states that reach it.
    pub reached_in: Vec<Arc<str>>,
    /// The time limit.
    pub within: Duration,
    /// Effects emitted when it is missed.
    pub escalate: Vec<Arc<str>>,
    /// Where it is defined.
    pub place: Place,
}

/// Every definition that entities may be under: several versions of a process side by side.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    processes: BTreeMap<Arc<str>, BTreeMap<u32, Arc<Process>>>,
    /// Those that are in use and in no file any more: nothing begins under them.
    kept: BTreeMap<Arc<str>, BTreeMap<u32, Arc<Process>>>,
}

impl Catalog {
    /// Adds a definition. Returns the one of the same name and version that was there, which it does not replace.
    pub fn add(&mut self, process: Process) -> Option<Arc<Process>> {
        let versions = self.processes.entry(process.name.clone()).or_default();
        if let Some(there) = versions.get(&process.version) {
            return Some(there.clone());
        }
        versions.insert(process.version, Arc::new(process));
        None
    }

    /// Adds a definition for the instances that live under it. New ones begin under it only if there is no other of its name.
    pub fn keep(&mut self, process: Process) {
        if self.version(&process.name, process.version).is_none() {
            let versions = self.kept.entry(process.name.clone()).or_default();
            versions.insert(process.version, Arc::new(process));
        }
    }

    /// The version that new instances begin with.
    pub fn newest(&self, name: &str) -> Option<&Arc<Process>> {
        self.processes.get(name).or_else(|| self.kept.get(name))?.values().next_back()
    }

    /// One version.
    pub fn version(&self, name: &str, version: u32) -> Option<&Arc<Process>> {
        let current = self.processes.get(name).and_then(|versions| versions.get(&version));
        current.or_else(|| self.kept.get(name)?.get(&version))
    }

    /// The definition that governs an instance of `version`; the newest for one that has not begun (0).
    pub fn governing(&self, name: &str, version: u32) -> Option<&Arc<Process>> {
        if version == 0 { self.newest(name) } else { self.version(name, version) }
    }

    /// Every definition that is in a file, by name and version.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Process>> {
        self.processes.values().flat_map(BTreeMap::values)
    }
}

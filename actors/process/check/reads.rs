//! What somebody looks at of what he is given: a process of a message or an answer, an operation of its input.

use std::collections::BTreeMap;

use crate::envelope::OutcomeClass;
use crate::expr::Expr;
use crate::process::{Process, Transition, Trigger};

/// What gives something else where its source is absent.
const FORGIVING: [&str; 6] = ["default(", "coalesce(", "has(", "?", "&&", "||"];

/// The members of one name that expressions look at.
#[derive(Debug)]
pub struct Reads {
    root: &'static str,
    members: BTreeMap<String, bool>,
    is_whole: bool,
}

impl Reads {
    /// Of this name: `data`, `result`, `input`.
    pub fn of(root: &'static str) -> Self {
        Self { root, members: BTreeMap::new(), is_whole: false }
    }

    /// Notes what an expression looks at. `is_optional`: it is not looked at where it is absent.
    pub fn see(&mut self, expr: &Expr, is_optional: bool) {
        let is_forgiving = is_optional || FORGIVING.iter().any(|word| expr.source().contains(word));
        for path in expr.references().into_iter().filter(|path| path[0] == self.root) {
            match path.get(1) {
                Some(member) => *self.members.entry(member.clone()).or_default() |= !is_forgiving,
                None => self.is_whole = true,
            }
        }
    }

    /// Each member, and whether somebody fails without it. None where all of it is looked at at once, so that nothing is known.
    pub fn members(self) -> Option<BTreeMap<String, bool>> {
        (!self.is_whole).then_some(self.members)
    }

    fn transitions<'t>(&mut self, transitions: impl Iterator<Item = &'t Transition>) {
        for transition in transitions {
            transition.when.iter().chain(&transition.undo).for_each(|expr| self.see(expr, false));
            // What follows a guard may be there whenever the guard holds.
            let is_guarded = transition.when.is_some();
            transition.set.iter().for_each(|(_, mapping)| {
                mapping.exprs(&mut |expr, is_optional| self.see(expr, is_optional || is_guarded));
            });
        }
    }
}

/// The members of `data` that a process looks at in `message`, as [`Reads::members`].
pub fn reads(process: &Process, message: &str) -> Option<BTreeMap<String, bool>> {
    let mut reads = Reads::of("data");
    reads.transitions(taking(process, &Trigger::Message(message.into())));
    if let Some(def) = process.messages.get(message) {
        def.business_key.iter().chain(&def.revision).for_each(|expr| reads.see(expr, true));
    }
    reads.members()
}

/// The members of `result` that a process looks at when `effect` is done, as [`Reads::members`].
pub fn answers(process: &Process, effect: &str) -> Option<BTreeMap<String, bool>> {
    let mut reads = Reads::of("result");
    reads.transitions(taking(process, &Trigger::Effect(effect.into(), OutcomeClass::Ok)));
    if let Some(def) = process.effects.get(effect) {
        let mut see = |expr: &Expr, is_optional: bool| reads.see(expr, is_optional);
        def.keep.iter().for_each(|(_, mapping)| mapping.exprs(&mut see));
    }
    reads.members()
}

fn taking<'p>(process: &'p Process, trigger: &Trigger) -> impl Iterator<Item = &'p Transition> {
    let here: Vec<_> = process.states.values().filter_map(|state| state.on.get(trigger)).collect();
    here.into_iter().flatten().chain(process.anywhere.get(trigger).into_iter().flatten())
}

//! What a process looks at of the messages that it takes, for whoever sends them.

use std::collections::BTreeMap;

use crate::expr::Expr;
use crate::process::{Process, Transition, Trigger};

/// What gives something else where its source is absent.
const FORGIVING: [&str; 6] = ["default(", "coalesce(", "has(", "?", "&&", "||"];

/// The members of `data` that the transitions on `message` look at, and whether one of them fails without it. None where they look at
/// all of it at once, so that nothing is known.
pub fn reads(process: &Process, message: &str) -> Option<BTreeMap<String, bool>> {
    let mut reads = Reads::default();
    for transition in transitions(process, message) {
        transition.when.iter().chain(&transition.undo).for_each(|expr| reads.see(expr, false));
        // What follows a guard may be there whenever the guard holds.
        let is_guarded = transition.when.is_some();
        transition.set.iter().for_each(|(_, mapping)| {
            mapping.exprs(&mut |expr, is_optional| reads.see(expr, is_optional || is_guarded));
        });
    }
    if let Some(def) = process.messages.get(message) {
        def.business_key.iter().chain(&def.revision).for_each(|expr| reads.see(expr, true));
    }
    (!reads.is_whole).then_some(reads.members)
}

#[derive(Default)]
struct Reads {
    members: BTreeMap<String, bool>,
    is_whole: bool,
}

impl Reads {
    fn see(&mut self, expr: &Expr, is_optional: bool) {
        let is_forgiving = is_optional || FORGIVING.iter().any(|word| expr.source().contains(word));
        for path in expr.references().into_iter().filter(|path| path[0] == "data") {
            match path.get(1) {
                Some(member) => *self.members.entry(member.clone()).or_default() |= !is_forgiving,
                None => self.is_whole = true,
            }
        }
    }
}

fn transitions<'p>(process: &'p Process, message: &str) -> impl Iterator<Item = &'p Transition> {
    let trigger = Trigger::Message(message.into());
    let here = process.states.values().filter_map(move |state| state.on.get(&trigger)).flatten();
    let trigger = Trigger::Message(message.into());
    here.chain(process.anywhere.get(&trigger).into_iter().flatten())
}

//! Many entities: how many end otherwise, by cause. Bounded, however many they are.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Difference, Skipped};

/// Causes that are told apart.
const GROUPS_MAX: usize = 200;

/// Entities that are named with one cause.
const IDS_MAX: usize = 5;

/// What came of many entities.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Entities that were run.
    pub run: u64,
    /// Those that end as they did.
    pub same: u64,
    /// Those that end otherwise.
    pub different: u64,
    /// Those of which nothing can be said, by why.
    pub skipped: BTreeMap<String, u64>,
    /// Those that end otherwise, the largest groups first once [`Tally::sort`] was called.
    pub groups: Vec<Group>,
    /// Those that end otherwise for one of so many more causes that they are not told apart.
    pub ungrouped: u64,
}

/// Entities that end otherwise in the same way and for the same cause.
#[derive(Debug, Serialize)]
pub struct Group {
    /// How many.
    pub count: u64,
    /// Some of them.
    pub entities: Vec<String>,
    /// Where they first go another way.
    pub cause: String,
    /// How they end otherwise, in words.
    pub effect: Vec<String>,
    /// The first of them, whole.
    pub example: Difference,
}

impl Tally {
    /// Counts one entity.
    pub fn add(&mut self, entity: &str, result: Result<Option<Difference>, Skipped>) {
        let difference = match result {
            Err(why) => return self.skip(&why.to_string()),
            Ok(None) => {
                self.run += 1;
                self.same += 1;
                return;
            }
            Ok(Some(difference)) => difference,
        };
        self.run += 1;
        self.different += 1;
        let effect = difference.in_words();
        let known = |group: &&mut Group| group.cause == difference.cause && group.effect == effect;
        if let Some(group) = self.groups.iter_mut().find(known) {
            group.count += 1;
            if group.entities.len() < IDS_MAX {
                group.entities.push(entity.to_owned());
            }
        } else if self.groups.len() < GROUPS_MAX {
            let (entities, cause) = (vec![entity.to_owned()], difference.cause.clone());
            self.groups.push(Group { count: 1, entities, cause, effect, example: difference });
        } else {
            self.ungrouped += 1;
        }
    }

    /// Counts one of which nothing can be said.
    pub fn skip(&mut self, why: &str) {
        *self.skipped.entry(why.to_owned()).or_default() += 1;
    }

    /// Puts the largest groups first.
    pub fn sort(&mut self) {
        let key = |group: &Group| (u64::MAX - group.count, group.cause.clone(), group.effect.clone());
        self.groups.sort_by_key(key);
    }
}

impl Difference {
    /// How it ends otherwise, without what differs from entity to entity.
    pub fn in_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some((old, new)) = &self.status {
            words.push(format!("ends in `{new}` instead of `{old}`"));
        }
        for (name, (old, new)) in &self.effects {
            words.push(match (old, new) {
                (0, _) => format!("sends {name}, which was not sent"),
                (_, 0) => format!("does not send {name}"),
                _ => format!("sends {name} {new} times instead of {old}"),
            });
        }
        let list = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        if !self.inputs.is_empty() {
            words.push(format!("sends other content with {}", list(self.inputs.iter().collect())));
        }
        if !self.fields.is_empty() {
            words.push(format!("has other fields: {}", list(self.fields.keys().collect())));
        }
        for (message, old, new) in &self.verdicts {
            let word = format!("answers `{message}` with {new} instead of {old}");
            if !words.contains(&word) {
                words.push(word);
            }
        }
        for (class, (old, new)) in &self.exceptions {
            words.push(format!("has {new} open exceptions of class {class} instead of {old}"));
        }
        if !self.unanswered.is_empty() {
            let names = list(self.unanswered.iter().collect());
            words.push(format!("waits for an answer that nobody knows: {names}"));
        }
        words
    }
}

//! How instances go from one version of a process to another: each file against both definitions.

use std::collections::BTreeMap;

use syncline_actors::document::{Item, Problem};
use syncline_actors::migration::{self, Plan};
use syncline_actors::process::Catalog;

use super::Loader;

impl Loader<'_> {
    /// The mappings, by the name of their file.
    pub(super) fn migrations(&self, catalog: &Catalog) -> BTreeMap<String, Plan> {
        let mut plans = BTreeMap::new();
        for (file, text) in self.part("migrations/") {
            let Some(node) = self.reader.read(&file, text) else { continue };
            let Some(plan) = migration::parse(&Item::root(&node, self.reader)) else { continue };
            let name = format!("{}.{}-{}", plan.process.value, plan.from.value, plan.to.value);
            if !file.ends_with(&format!("/{name}.yaml")) && file != format!("{name}.yaml") {
                let message = format!("the file says `{name}` and is called otherwise");
                plan.process.refuse(self.reader, message, format!("call it migrations/{name}.yaml"));
            }
            self.check_migration(&plan, catalog);
            plans.insert(name, plan);
        }
        plans
    }

    fn check_migration(&self, plan: &Plan, catalog: &Catalog) {
        let kind = &plan.process.value;
        if catalog.newest(kind).is_none() {
            let names: Vec<_> = catalog.iter().map(|process| &*process.name).collect();
            return self.unknown(&plan.process.place, &plan.process.path, "process", kind, &names);
        }
        let found = [&plan.from, &plan.to].map(|version| {
            let process = catalog.version(kind, version.value);
            if process.is_none() && !self.unread.contains("process") {
                let message = format!("there is no version {} of process `{kind}`", version.value);
                let fix =
                    "keep the files of both versions in processes/ until no instance is left to migrate";
                self.reader
                    .note(Problem::error(version.place.clone(), version.path.clone(), message).fix(fix));
            }
            process
        });
        if let [Some(old), Some(new)] = found {
            for problem in migration::check(plan, old, new) {
                self.reader.note(problem);
            }
        }
    }
}

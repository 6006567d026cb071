//! What the systems have applied, by what it is about.

use std::collections::BTreeMap;

use crate::sandbox::Snapshot;

/// How often each operation was applied, by its name (`erp.create_invoice`) and the business's words for what it is about.
#[derive(Debug, Default)]
pub(super) struct Applied(BTreeMap<String, BTreeMap<String, u64>>);

impl Applied {
    pub(super) fn new(ledger: &Snapshot) -> Self {
        let mut all: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for entry in &ledger.entries {
            let operation = all.entry(format!("{}.{}", entry.system, entry.operation)).or_default();
            *operation.entry(entry.reference.clone()).or_default() += 1;
        }
        Self(all)
    }

    /// How often an operation was applied about something, its parts included: `SO-000001-INV` is about `SO-000001`.
    pub(super) fn times(&self, operation: &str, about: &str) -> u64 {
        let references = self.0.get(operation).into_iter().flat_map(|all| all.range(about.to_owned()..));
        references.take_while(|(reference, _)| reference.starts_with(about)).map(|(_, times)| times).sum()
    }
}

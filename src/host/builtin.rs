//! The processes that are part of the program.

use syncline_actors::document::Reader;
use syncline_actors::process::{Catalog, Process, check, parse};

/// The kind of the entities that poll sources: `poll/<source>`.
pub const POLL: &str = "poll";

/// The kind of the entities that reconcile systems, a run each.
pub const RECONCILE: &str = "reconcile";

/// The kind of the entities that tell of messages which are missing.
pub const BALANCE: &str = "balance";

/// Their files. No other process may have their names.
const FILES: [(&str, &str); 5] = [
    // Every version there has been: what was held by an old one stays on it.
    ("builtin/quarantine.v1.yaml", include_str!("../../config/builtin/quarantine.v1.yaml")),
    ("builtin/quarantine.yaml", include_str!("../../config/builtin/quarantine.yaml")),
    ("builtin/balance.yaml", include_str!("../../config/builtin/balance.yaml")),
    ("builtin/poll.yaml", include_str!("../../config/builtin/poll.yaml")),
    ("builtin/reconcile.yaml", include_str!("../../config/builtin/reconcile.yaml")),
];

fn process(file: &str, text: &str) -> Process {
    let reader = Reader::default();
    let node = reader.read(file, text);
    let process = node.and_then(|node| parse::parse(&node, text, &reader));
    let problems = reader.into_problems();
    assert!(problems.is_empty(), "the built-in process {file} does not read: {problems:?}");
    process.expect("a definition without problems compiles")
}

/// Adds the built-in processes to `catalog`, where they are not in it.
pub fn add_builtin(catalog: &mut Catalog) {
    for (file, text) in FILES {
        let process = process(file, text);
        debug_assert!(check::check(&process).is_empty(), "{:?}", check::check(&process));
        catalog.add(process);
    }
}

//! The processes that are part of the program.

use syncline_actors::document::Reader;
use syncline_actors::process::{Catalog, Process, check, parse};

/// Every version there has been: what was begun under an old one stays on it.
const TEXTS: [(&str, &str); 3] = [
    ("builtin/quarantine.v1.yaml", include_str!("../../config/builtin/quarantine.v1.yaml")),
    ("builtin/quarantine.yaml", include_str!("../../config/builtin/quarantine.yaml")),
    ("builtin/xref.yaml", include_str!("../../config/builtin/xref.yaml")),
];

fn process(file: &str, text: &str) -> Process {
    let reader = Reader::default();
    let node = reader.read(file, text);
    let process = node.and_then(|node| parse::parse(&node, text, &reader));
    let problems = reader.into_problems();
    assert!(problems.is_empty(), "the built-in process does not read: {problems:?}");
    process.expect("a definition without problems compiles")
}

/// Adds the built-in processes to `catalog`, where they are not in it.
pub fn add_builtin(catalog: &mut Catalog) {
    for (file, text) in TEXTS {
        let process = process(file, text);
        debug_assert!(check::check(&process).is_empty(), "{:?}", check::check(&process));
        catalog.add(process);
    }
}

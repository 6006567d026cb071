//! The shipped connector files: they read without a word, and hold what the shipped process calls.

use std::collections::BTreeSet;

use syncline::delivery::contract;
use syncline::sandbox::Sandbox;
use syncline_actors::document::{Item, Node, Reader};

use crate::world::connector_files;

#[test]
fn every_shipped_connector_file_reads_without_a_word() {
    let files = connector_files();
    let served: BTreeSet<_> = Sandbox::systems().map(|system| format!("{system}.yaml")).collect();
    assert_eq!(files.keys().cloned().collect::<BTreeSet<_>>(), served, "each has its simulated system");
    for (name, text) in files {
        let reader = Reader::default();
        let connector =
            reader.read(&name, &text).and_then(|node: Node| contract::parse(&Item::root(&node, &reader)));
        let problems = reader.into_problems();
        assert_eq!(problems.to_string(), "", "{name}");
        assert_eq!(format!("{}.yaml", connector.unwrap().name), name);
    }
}

#[test]
fn everything_that_the_shipped_processes_call_is_there() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/config/processes")).unwrap();
    let text: String = files
        .map(|file| file.unwrap().path())
        .filter(|path| !path.to_str().unwrap().ends_with(".test.yaml"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let called: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("call: "))
        .filter(|call| call.contains('.'))
        .map(str::to_owned)
        .collect();
    let there: BTreeSet<_> = crate::world::connectors()
        .into_iter()
        .flat_map(|connector| {
            let name = connector.name.clone();
            connector.operations.into_values().map(move |operation| format!("{name}.{}", operation.name))
        })
        .collect();
    let missing: Vec<_> = called.iter().filter(|call| !there.contains(*call)).collect();
    assert!(missing.is_empty() && called.len() > 10, "missing: {missing:?}");
}

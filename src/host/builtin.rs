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
const FILES: [(&str, &str); 6] = [
    // Every version there has been: what was held by an old one stays on it.
    ("builtin/quarantine.v1.yaml", include_str!("../../config/builtin/quarantine.v1.yaml")),
    ("builtin/quarantine.yaml", include_str!("../../config/builtin/quarantine.yaml")),
    ("builtin/balance.yaml", include_str!("../../config/builtin/balance.yaml")),
    ("builtin/poll.yaml", include_str!("../../config/builtin/poll.yaml")),
    ("builtin/xref.yaml", include_str!("../../config/builtin/xref.yaml")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_actors::letter::XREF;
    use syncline_actors::process::test;

    const CROSS_REFERENCE: &str = r#"
process: xref
data:
  xref.linked: {entity: customer/C-7}
  xref.passed: {to: "xref/erp:customer:10017", event: customer.changed, data: {name: Acme}, source: erp}
cases:
  - name: what comes before the link waits, and is passed on in its order
    key: "erp:customer:10017"
    steps:
      - {when: xref.passed, then: {state: unlinked, verdict: deferred, calls: []}}
      - when: xref.linked
        then:
          state: linked
          calls: {pass_on: {to: customer/C-7, event: customer.changed, data: {name: Acme}, source: erp}}
      - {run: true}
      - {when: xref.passed, then: {calls: {pass_on: {to: customer/C-7}}}}
      - {when: pass_on.failed, then: {exceptions: [{class: failure}]}}
  - name: an id that nobody knows for a day is held, and what came for it is kept
    key: "erp:customer:10018"
    steps:
      - {when: xref.passed}
      - {when: xref.passed}
      - {wait: 1d, then: {state: unknown, exceptions: [{class: hold, summary: "erp:customer:10018"}]}}
      - {when: retry, then: {state: unlinked, exceptions: []}}
      - {wait: 1d, then: {state: unknown}}
      - {when: xref.linked, then: {state: linked, calls: [pass_on, pass_on], exceptions: []}}
  - name: a link moves, ends, and is retired
    key: "erp:customer:10019"
    steps:
      - {when: xref.linked, then: {state: linked, calls: []}}
      - {when: xref.linked, data: {entity: customer/C-8}}
      - {when: xref.passed, then: {calls: {pass_on: {to: customer/C-8}}}}
      - {when: xref.unlinked, then: {state: unlinked}}
      - {when: xref.passed, then: {verdict: deferred, calls: []}}
      - {when: xref.retire, then: {ended: completed}}
"#;

    #[test]
    fn the_cross_reference_passes_on_what_is_linked_and_holds_what_is_not() {
        let mut catalog = Catalog::default();
        add_builtin(&mut catalog);
        let reader = Reader::default();
        let cases = reader.read("xref.test.yaml", CROSS_REFERENCE).expect("it is YAML");
        let ran = test::run(&cases, catalog.newest(XREF).expect("it is built in"));
        let failed: Vec<_> =
            ran.iter().filter_map(|case| Some((&case.name, case.failure.as_ref()?))).collect();
        assert!(failed.is_empty() && ran.len() == 3, "{failed:#?}");
    }
}

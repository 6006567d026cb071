//! The cross-reference: what is addressed to a foreign id finds its entity, or waits for it.

use super::load;
use crate::document::Reader;
use crate::process::test;

#[test]
fn the_cross_reference_does_what_its_cases_say() {
    let process = load("xref.yaml", include_str!("../../../config/builtin/xref.yaml"));
    let cases = Reader::default().read("xref.test.yaml", include_str!("xref/xref.test.yaml")).expect("reads");
    let results = test::run(&cases, &process);
    let failed: Vec<_> = results.iter().filter_map(|r| r.failure.as_ref().map(|f| (&r.name, f))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(test::unvisited(&process, &results), Vec::<&str>::new(), "states that no case visits");
}

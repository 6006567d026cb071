//! `config/processes/*.test.yaml`, broken in every place: no slip makes a case pass that tests nothing.

use syncline::integration::read;
use syncline_actors::document::{Place, Reader};
use syncline_actors::process::{Process, test};

use super::mutate::{self, How};
use super::tree::Tree;
use super::{every, shipped};

const FILE: &str = "processes/order.test.yaml";

/// The places of what is told of a test file, and how many cases there were.
fn told(process: &Process, text: &str) -> (Vec<Place>, usize) {
    let reader = Reader::default();
    let results = reader.read(FILE, text).map(|node| test::run(&node, process)).unwrap_or_default();
    let problems = reader.into_problems();
    assert!(problems.iter().all(|problem| problem.fix.is_some()), "{problems}");
    let failed = results.iter().filter_map(|result| result.failure.as_ref().map(|f| f.place.clone()));
    (problems.iter().map(|problem| problem.place.clone()).chain(failed).collect(), results.len())
}

/// What leaves a test that still tests what it says.
fn is_meant(how: How, path: &[&str]) -> bool {
    let last = path.last().copied().unwrap_or_default();
    match how {
        // Less is expected, or less happens; a case may be renamed.
        How::Deleted => true,
        How::Misspelled | How::Words => last == "detail" || path.len() == 3 && last == "name",
        _ => false,
    }
}

#[test]
fn every_slip_in_a_test_file_is_told() {
    let files = shipped();
    let integration = read(&files, "config").integration.expect("it is right");
    let process = integration.catalog.newest("order").expect("it is shipped");
    let tree = Tree::of(FILE, &files[FILE]);
    let (told_whole, cases) = told(process, &tree.written().text);
    assert_eq!(told_whole, Vec::new());
    assert!(cases > 10);
    let mut untold = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    // Each copy runs all cases.
    for broken in mutate::all(&tree).into_iter().step_by(if every() { 1 } else { 8 }) {
        let path: Vec<&str> = broken.path.iter().map(String::as_str).collect();
        let data =
            path[0] == "data" || path[0] == "answers" || path.contains(&"data") || path.contains(&"result");
        let free = data && path.len() > 2; // what systems say is theirs, unless a step looks at it
        if is_meant(broken.how, &path)
            || free
            || (!every() && !seen.insert((broken.how, mutate::place(&broken.path))))
        {
            continue;
        }
        let (places, _) = told(process, &broken.text);
        // A case that fails is told at its step; what two copies of a key say first shows at the second.
        let of_step = |place: &Place| (place.line..=place.line + 15).contains(&broken.line);
        let beside = |place: &Place| place.line.abs_diff(broken.line) <= 2;
        let anywhere = broken.how == How::KeyTwice || data;
        let near = |place: &Place| anywhere || of_step(place) || beside(place);
        if !places.iter().any(near) {
            let lines: Vec<_> = places.iter().map(|place| place.line).collect();
            untold.push(format!("{:?} {} in {}: {lines:?}", broken.how, path.join("/"), broken.line));
        }
    }
    assert!(untold.is_empty(), "{} are not told:\n{}", untold.len(), untold.join("\n"));
}

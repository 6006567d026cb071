//! Every shipped file of `config/`, broken in every way that a person breaks a file: each mistake is told with the file, a line
//! near it and a fix, and nothing panics. What cannot be told apart from what someone may have meant is listed, with the reason.
//!
//! By default each kind of mistake is made once in each kind of place; `BROKEN=all` makes every one, which takes some minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syncline::integration::{Files, files, read};
use syncline_actors::document::Problem;

#[path = "broken_config/cases.rs"]
mod cases;
#[path = "broken_config/mutate.rs"]
mod mutate;
#[path = "broken_config/schemas.rs"]
mod schemas;
#[path = "broken_config/settings.rs"]
mod settings;
#[path = "broken_config/silent.rs"]
mod silent;
#[path = "broken_config/table.rs"]
mod table;
#[path = "broken_config/text.rs"]
mod text;
#[path = "broken_config/tree.rs"]
mod tree;

use mutate::Broken;
use tree::Tree;

/// What a problem says: its path and message.
type Said = (String, String);

/// The shipped integration.
fn shipped() -> Files {
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).expect("it can be read")
}

/// Whether to make every mistake, not one of each kind.
fn every() -> bool {
    std::env::var("BROKEN").is_ok_and(|which| which == "all")
}

/// The problems of files, each of them one that helps: it names a file, a line of it, what is wrong and what to do.
fn problems(files: &Files) -> Vec<Problem> {
    let read = read(files, "config");
    for problem in &read.problems {
        let place = &problem.place;
        let text = read.texts.get(&*place.file).unwrap_or_else(|| panic!("no such file: {problem}"));
        let lines = text.lines().count().max(1);
        assert!((1..=lines + 1).contains(&(place.line as usize)), "there are {lines} lines: {problem}");
        assert!(place.column >= 1 && !problem.message.is_empty(), "{problem}");
        assert!(problem.fix.as_ref().is_some_and(|fix| !fix.trim().is_empty()), "no fix: {problem}");
    }
    assert_eq!(read.integration.is_none(), read.problems.is_fatal());
    read.problems.into_iter().collect()
}

fn said(problems: &[Problem]) -> Vec<Said> {
    problems.iter().map(|p| (p.path.clone(), p.message.clone())).collect()
}

/// Whether a mistake is told, and how far from where it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Near,
    Far,
    No,
}

fn told(broken: &Broken, name: &str, problems: &[Problem], usual: &[Said]) -> Told {
    let new: Vec<&Problem> =
        problems.iter().filter(|p| !usual.contains(&(p.path.clone(), p.message.clone()))).collect();
    let file = format!("config/{name}");
    let near = |p: &&Problem| {
        let (here, line) = (*p.place.file == file, p.place.line);
        let beside = line.abs_diff(broken.line) <= 2;
        let above = broken.around.iter().any(|above| (*above..=above + 1).contains(&line));
        // What is gone or has another name is missed where it is used, maybe in another file.
        let missed = || broken.was.iter().any(|was| p.to_string().contains(was.as_str()));
        here && (beside || above) || missed()
    };
    match (new.is_empty(), new.iter().any(near)) {
        (true, _) => Told::No,
        (false, true) => Told::Near,
        (false, false) => Told::Far,
    }
}

fn kind(name: &str) -> &str {
    if name.starts_with("sources/presets/") { "presets" } else { name.split('/').next().unwrap_or(name) }
}

/// The file, and all that it names or that names it: what else there is says nothing of a mistake in it, and takes long to read.
fn neighbours(whole: &Files, name: &str, text: &str) -> Files {
    let stem = |name: &str| {
        name.rsplit('/').next().and_then(|file| file.split('.').next()).unwrap_or(name).to_owned()
    };
    let folder = |name: &str| name.rsplit('/').nth(1).unwrap_or_default().to_owned();
    let is_near = |other: &str, its: &str| {
        let schema_of = other.starts_with("schemas/") && text.contains(&folder(other));
        other == name || text.contains(&stem(other)) || its.contains(&stem(name)) || schema_of
    };
    let near = whole.iter().filter(|(other, its)| !other.ends_with(".test.yaml") && is_near(other, its));
    near.map(|(other, its)| (other.clone(), its.clone())).collect()
}

/// Breaks every file of one kind everywhere and fails with all that is not told.
fn every_mistake_is_told(of: &str, only: impl Fn(&str) -> bool) {
    let whole = shipped();
    let rules = silent::rules(of);
    let (mut made, mut seen) = (0_usize, BTreeMap::new());
    let (mut used, mut untold) = (BTreeSet::new(), Vec::new());
    for (name, text) in whole.iter().filter(|(name, _)| kind(name) == of && only(name)) {
        if name.ends_with(".test.yaml") {
            continue;
        }
        let tree = Tree::of(name, text);
        let alone = |text: &str| Files::from([(name.clone(), text.to_owned())]);
        let usual_alone = said(&problems(&alone(&tree.written().text)));
        let around = neighbours(&whole, name, text);
        let usual = said(&problems(&around));
        for broken in mutate::all(&tree) {
            let rule = silent::covers(rules, broken.how, &broken.path);
            // A rule holds as long as it covers something, so what it covers is tried until that is seen.
            let place = rule.map_or_else(|| mutate::place(&broken.path), |rule| rule.to_string());
            let alike = seen.entry((broken.how, place)).or_insert(0);
            if *alike >= 1 && !every() {
                continue;
            }
            made += 1;
            let mut found = told(&broken, name, &problems(&alone(&broken.text)), &usual_alone);
            if found != Told::Near {
                let mut files = around.clone();
                files.insert(name.clone(), broken.text.clone());
                found = found.min(told(&broken, name, &problems(&files), &usual));
            }
            *alike += usize::from(rule.is_none() || found != Told::Near);
            match (found, rule) {
                (Told::Near, _) => {}
                (_, Some(rule)) => drop(used.insert(rule)),
                (found, None) => {
                    untold.push(format!("{found:?} {name} {:?} {}", broken.how, broken.path.join("/")));
                }
            }
        }
    }
    assert!(untold.is_empty(), "{} of {made} are not told:\n{}", untold.len(), untold.join("\n"));
    let idle: Vec<_> = (0..rules.len()).filter(|rule| !used.contains(rule)).map(|rule| rules[rule]).collect();
    assert!(idle.is_empty(), "these are told now, so they need no rule: {idle:#?}");
    assert!(made > 100, "{made}");
}

#[test]
fn every_mistake_in_a_process_is_told() {
    every_mistake_is_told("processes", |_| true);
}

#[test]
fn every_mistake_in_a_connector_is_told() {
    every_mistake_is_told("connectors", |_| true);
}

#[test]
fn every_mistake_in_a_source_is_told() {
    every_mistake_is_told("sources", |_| true);
}

#[test]
fn every_mistake_in_an_objective_is_told() {
    every_mistake_is_told("slos", |_| true);
}

#[test]
fn every_mistake_in_a_preset_is_told() {
    every_mistake_is_told("presets", |_| true);
}

/// Problems of one file with `text` in it, less those that a file alone has.
fn alone(name: &str, text: &str, usual: &[Said]) -> Vec<Problem> {
    let all = problems(&Files::from([(name.to_owned(), text.to_owned())]));
    all.into_iter().filter(|p| !usual.contains(&(p.path.clone(), p.message.clone()))).collect()
}

fn documents() -> Files {
    shipped()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("schemas/") && !name.ends_with(".test.yaml"))
        .collect()
}

#[test]
fn a_slip_in_the_text_is_told_where_it_is() {
    let mut untold = Vec::new();
    for (name, text) in &documents() {
        let usual = said(&alone(name, text, &[]));
        for (index, spoilt) in text::lines(name, text).into_iter().enumerate() {
            if index % 5 != 0 && !every() {
                continue;
            }
            // A bracket within a text that is quoted twice is a letter of it.
            let line = text.lines().nth(spoilt.line as usize - 1).unwrap_or_default();
            if spoilt.how.starts_with("a bracket") && line.contains("\"'") {
                continue;
            }
            let found = alone(name, &spoilt.text, &usual);
            // An open quote or bracket swallows what follows, and the first of several keys shows only that the next one is off.
            let late = spoilt.how.ends_with("not closed") || spoilt.how == "a space too many";
            let reach = if late { 40 } else { 3 };
            let near =
                |p: &Problem| (spoilt.line.saturating_sub(3)..=spoilt.line + reach).contains(&p.place.line);
            if !found.iter().any(near) {
                let lines: Vec<_> = found.iter().map(|p| p.place.line).collect();
                untold.push(format!("{name}:{} {}: told in lines {lines:?}", spoilt.line, spoilt.how));
            }
        }
    }
    assert!(untold.is_empty(), "{} are not told:\n{}", untold.len(), untold.join("\n"));
}

#[test]
fn what_is_no_document_is_told() {
    for (name, text) in &documents() {
        let usual = said(&alone(name, text, &[]));
        for (what, text) in text::NOTHING {
            assert!(!alone(name, text, &usual).is_empty(), "{name}: {what}");
        }
    }
}

/// A connector may have fewer operations, and a source fewer messages: only there a cut can leave a whole document.
#[test]
fn a_file_that_ends_too_soon_is_told() {
    let whole = shipped();
    let usual_whole = problems(&whole);
    let mut untold = Vec::new();
    for (name, text) in &documents() {
        let usual = said(&alone(name, text, &[]));
        let last = text.lines().position(|line| matches!(line, "operations:" | "messages:"));
        let may_be_whole =
            |line: u32| kind(name) != "processes" && last.is_some_and(|last| line as usize > last + 1);
        for cut in text::cuts(text).into_iter().step_by(if every() { 1 } else { 4 }) {
            if alone(name, &cut.text, &usual).is_empty() && !may_be_whole(cut.line) {
                let mut files = whole.clone();
                files.insert(name.clone(), cut.text.clone());
                if problems(&files) == usual_whole {
                    untold.push(format!("{name}:{} of {}", cut.line, text.lines().count()));
                }
            }
        }
    }
    assert!(untold.is_empty(), "{} are not told:\n{}", untold.len(), untold.join("\n"));
}

#[test]
fn mistakes_are_told_word_for_word() {
    for (name, from, to, told) in table::MISTAKES {
        let mut files = shipped();
        let text = files.get_mut(*name).expect("it is shipped");
        assert!(text.contains(from), "{name} has no {from}");
        *text = text.replacen(from, to, 1);
        let found: Vec<_> = problems(&files).iter().map(ToString::to_string).collect();
        assert_eq!(found.join("\n"), *told, "{name}: {from} -> {to}");
    }
}

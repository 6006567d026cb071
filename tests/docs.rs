//! What the documentation shows is true: its examples read, and its list of problems is complete.

use std::fs;
use std::path::{Path, PathBuf};

use syncline::ingress::preset::Presets;
use syncline::ingress::source;
use syncline_actors::document::{Item, Reader};
use syncline_actors::process::{check, parse};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("it is there")
}

/// The first YAML block of a page.
fn example(page: &str) -> String {
    let page = text(page);
    let begin = page.find("```yaml\n").expect("there is an example") + "```yaml\n".len();
    let length = page[begin..].find("```").expect("it ends");
    page[begin..begin + length].to_owned()
}

#[test]
fn the_example_of_a_process_reads_and_checks() {
    let (reader, text) = (Reader::default(), example("docs/processes.md"));
    let node = reader.read("docs/processes.md", &text).expect("it is YAML");
    let process = parse::parse(&node, &text, &reader);
    assert!(reader.problems().is_empty(), "{}", reader.problems());
    let found = check::check(&process.expect("without problems it compiles"));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_example_of_a_source_reads() {
    let (reader, text) = (Reader::default(), example("docs/sources.md"));
    let node = reader.read("docs/sources.md", &text).expect("it is YAML");
    let source = source::parse(&Item::root(&node, &reader), &Presets::builtin());
    assert!(reader.problems().is_empty() && source.is_some(), "{}", reader.problems());
}

/// Every YAML block of a page.
fn blocks(page: &str) -> Vec<String> {
    let page = text(page);
    let blocks = page.split("```yaml\n").skip(1);
    blocks.filter_map(|block| Some(block.split_once("```")?.0.to_owned())).collect()
}

#[test]
fn the_examples_of_governance_read() {
    let blocks = blocks("docs/governance.md");
    let [messages, migration] = &blocks[..] else { panic!("{blocks:?}") };
    let head = "source: shop\nowner: {team: commerce, escalate: commerce-desk}\npreset: standard-webhooks\nsecrets: [{id: a, ref: \"env:A\"}]\n";
    let send = "    send: [{event: order.cancel, to: {process: order, key: \"body.id\"}, map: {}}]\n";
    let reader = Reader::default();
    let node = reader.read("governance.md", &format!("{head}{messages}{send}")).expect("it is YAML");
    let source = source::parse(&Item::root(&node, &reader), &Presets::builtin());
    assert!(reader.problems().is_empty(), "{}", reader.problems());
    let meaning = &source.expect("without problems it is read").messages["opportunity.cancelled"];
    assert!(meaning.versions.compatibility.backward && meaning.versions.upcasts.contains_key("1"));
    let node = reader.read("governance.md", migration).expect("it is YAML");
    assert!(syncline_actors::migration::parse(&Item::root(&node, &reader)).is_some());
    assert!(reader.problems().is_empty(), "{}", reader.problems());
}

/// All Rust files below `directory`.
fn sources(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(&path).expect("it is text"));
        }
    }
}

/// The type of each `Problem::new(STATUS, "type", …)`.
fn kinds(text: &str) -> impl Iterator<Item = &str> {
    let calls = text.split("Problem::new(").chain(text.split("Self::new(")).skip(1);
    calls.filter(|call| call.trim_start().starts_with("StatusCode::")).filter_map(|call| {
        let rest = call.split_once('"')?.1;
        Some(rest.split_once('"')?.0)
    })
}

#[test]
fn every_type_of_problem_is_documented() {
    let (mut files, api) = (Vec::new(), text("docs/api.md"));
    sources(&root().join("src"), &mut files);
    let missing: Vec<&str> = files
        .iter()
        .flat_map(|file| kinds(file))
        .filter(|kind| !api.contains(&format!("`{kind}`")))
        .collect();
    assert!(files.iter().flat_map(|file| kinds(file)).count() > 8, "the problems were not found");
    assert_eq!(missing, Vec::<&str>::new(), "add them to docs/api.md");
}

//! `syncline test`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use syncline_actors::document::{Node, Place, Problem, Problems, Reader, suggest};
use syncline_actors::process::test::{self, CaseResult, Failure as Failed, Seen};
use syncline_actors::process::{Catalog, Process};

use super::lint::plural;
use super::output::Output;
use super::paint::Style;
use super::{Failure, config_dir, differ};
use crate::integration;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  syncline test config\n  syncline test config --filter 'tax engine'")]
pub(super) struct Args {
    /// The integration: the directory that has `processes/` with its `*.test.yaml`.
    #[arg(default_value_os_t = config_dir())]
    directory: PathBuf,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// The cases of one file.
struct Tested {
    file: String,
    results: Vec<CaseResult>,
    unseen: Seen,
}

pub(super) fn run(args: &Args, out: Output) -> Result<(), Failure> {
    let read = integration::load(&args.directory).map_err(|error| Failure::Input(error.to_string()))?;
    let Some(integration) = read.integration else {
        let shown = read.problems.render(&read.texts);
        return Err(Failure::Input(format!(
            "the integration has mistakes, so nothing was tested:\n\n{shown}"
        )));
    };
    let problems = problems(&read.texts, Some(&integration.catalog));
    if problems.is_fatal() {
        let shown = problems.render(&read.texts);
        return Err(Failure::Input(format!("the tests have mistakes, so nothing was tested:\n\n{shown}")));
    }
    let mut tested: Vec<Tested> =
        files(&read.texts).filter_map(|(file, text)| one(file, text, &integration.catalog)).collect();
    if tested.is_empty() {
        let why = format!("{} has no processes/*.test.yaml", args.directory.display());
        return Err(Failure::Input(why));
    }
    if let Some(filter) = &args.filter {
        pick(&mut tested, filter)?;
    }
    report(&tested, out)?;
    let failed = tested.iter().flat_map(|tested| &tested.results).any(|result| result.failure.is_some());
    if failed { Err(Failure::Told) } else { Ok(()) }
}

/// The files of given/when/then.
fn files(texts: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    texts.iter().filter(|(name, _)| name.ends_with(".test.yaml"))
}

/// What is wrong with the test files as files, for `lint` too. What they say is looked at once there are processes.
pub(super) fn problems(texts: &BTreeMap<String, String>, catalog: Option<&Catalog>) -> Problems {
    let reader = Reader::default();
    for (file, text) in files(texts) {
        let Some((node, catalog)) = reader.read(file, text).zip(catalog) else { continue };
        if let Some(process) = subject(file, &node, catalog, &reader) {
            test::check(&node, process).into_iter().for_each(|problem| reader.note(problem));
        }
    }
    reader.into_problems()
}

fn one(file: &str, text: &str, catalog: &Catalog) -> Option<Tested> {
    let reader = Reader::default();
    let node = reader.read(file, text)?;
    let process = subject(file, &node, catalog, &reader)?;
    let results = test::run(&node, process);
    let unseen = test::unseen(process, &results);
    Some(Tested { file: file.to_owned(), results, unseen })
}

/// The process that a file tests.
fn subject<'c>(file: &str, node: &Node, catalog: &'c Catalog, reader: &Reader) -> Option<&'c Process> {
    let place = node.get("process").map_or_else(|| Place::start_of(file), |node| node.place.clone());
    let refuse = |message: String, fix: String| {
        reader.note(Problem::error(place, "process", message).fix(fix));
        None
    };
    let Some((name, version)) = test::subject(node) else {
        let message = "nothing says which process is tested".to_owned();
        return refuse(message, "write `process: NAME` at the top".to_owned());
    };
    let found = match version {
        Some(version) => catalog.version(&name, version),
        None => catalog.newest(&name),
    };
    if let Some(process) = found {
        return Some(process);
    }
    let names: Vec<&str> = catalog.iter().map(|process| &*process.name).collect();
    let fix = match suggest(&name, names.iter().copied()) {
        Some(near) if near != name => format!("did you mean `{near}`?"),
        _ => format!("correct `process:` or `version:`; there are: {}", names.join(", ")),
    };
    refuse(format!("there is no such process `{name}`"), fix)
}

/// Leaves the cases whose name contains `filter`, in whichever case.
fn pick(tested: &mut Vec<Tested>, filter: &str) -> Result<(), Failure> {
    let wanted = filter.to_lowercase();
    for tested in &mut *tested {
        tested.results.retain(|result| result.name.to_lowercase().contains(&wanted));
    }
    tested.retain(|tested| !tested.results.is_empty());
    if tested.is_empty() {
        return Err(Failure::Input(format!(
            "no case has `{filter}` in its name; without --filter all are run"
        )));
    }
    Ok(())
}

fn report(tested: &[Tested], out: Output) -> Result<(), Failure> {
    if out.is_json() {
        let all: Vec<Value> = tested.iter().map(as_json).collect();
        return out.value(&all, |_| String::new());
    }
    let mut text = String::new();
    let (mut passed, mut failed) = (0, 0);
    for tested in tested {
        let _ = writeln!(text, "{}", out.paint(Style::Bold, &tested.file));
        for result in &tested.results {
            match &result.failure {
                None => {
                    passed += 1;
                    let _ = writeln!(text, "  {}    {}", out.paint(Style::Good, "ok"), result.name);
                }
                Some(failure) => {
                    failed += 1;
                    failure_of(result, failure, out, &mut text);
                }
            }
        }
        for (what, names) in gaps(&tested.unseen).into_iter().filter(|(_, names)| !names.is_empty()) {
            let names = names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "  {} {names}", out.paint(Style::Odd, &format!("no case {what}:")));
        }
        text.push('\n');
    }
    let summary = format!("{} passed, {failed} failed", plural(passed, "case"));
    let style = if failed == 0 { Style::Good } else { Style::Bad };
    text.push_str(&out.paint(style, &summary));
    if failed > 0 {
        text.push_str("   (- expected, + found)");
    }
    out.text(&text)
}

/// What no case comes to, in words.
fn gaps(unseen: &Seen) -> [(&'static str, &BTreeSet<Arc<str>>); 4] {
    [
        ("comes to", &unseen.states),
        ("waits for", &unseen.timers),
        ("calls", &unseen.effects),
        ("misses", &unseen.missed),
    ]
}

fn failure_of(result: &CaseResult, failure: &Failed, out: Output, text: &mut String) {
    let word = out.paint(Style::Bad, "FAIL");
    let _ = writeln!(text, "  {word}  {}\n        {}: {}", result.name, failure.place, failure.step);
    for line in differ::shown(&failure.differences, out) {
        let _ = writeln!(text, "          {line}");
    }
}

fn as_json(tested: &Tested) -> Value {
    let case = |result: &CaseResult| {
        let failure = result.failure.as_ref().map(|failure| {
            json!({"place": failure.place.to_string(), "step": failure.step, "differences": failure.differences})
        });
        json!({"name": result.name, "place": result.place.to_string(), "steps": result.steps, "failure": failure})
    };
    json!({
        "file": tested.file,
        "cases": tested.results.iter().map(case).collect::<Vec<_>>(),
        "unseen": {
            "states": tested.unseen.states,
            "timers": tested.unseen.timers,
            "effects": tested.unseen.effects,
            "missed": tested.unseen.missed,
        },
    })
}

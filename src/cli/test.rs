//! `syncline test`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use syncline_actors::document::Reader;
use syncline_actors::process::test::{self, CaseResult};
use syncline_actors::process::{Catalog, Process};

use super::lint::plural;
use super::output::Output;
use super::{Failure, config_dir};
use crate::integration;

#[derive(Debug, clap::Args)]
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
    unvisited: Vec<String>,
}

pub(super) fn run(args: &Args, out: Output) -> Result<(), Failure> {
    let read = integration::load(&args.directory).map_err(|error| Failure::Input(error.to_string()))?;
    let Some(integration) = read.integration else {
        let shown = read.problems.render(&read.texts);
        return Err(Failure::Input(format!(
            "the integration has mistakes, so nothing was tested:\n\n{shown}"
        )));
    };
    let tests: BTreeMap<_, _> = read.texts.iter().filter(|(name, _)| name.ends_with(".test.yaml")).collect();
    if tests.is_empty() {
        let why = format!("{} has no processes/*.test.yaml", args.directory.display());
        return Err(Failure::Input(why));
    }
    let reader = Reader::default();
    let mut tested = Vec::new();
    for (file, text) in tests {
        tested.extend(one(file, text, &integration.catalog, &reader, args.filter.as_deref()));
    }
    let problems = reader.into_problems();
    if problems.is_fatal() {
        return Err(Failure::Input(problems.render(&read.texts)));
    }
    report(&tested, out)?;
    let failed = tested.iter().flat_map(|tested| &tested.results).any(|result| result.failure.is_some());
    if failed { Err(Failure::Told) } else { Ok(()) }
}

fn one(file: &str, text: &str, catalog: &Catalog, reader: &Reader, filter: Option<&str>) -> Option<Tested> {
    let node = reader.read(file, text)?;
    let process = subject(file, &node, catalog, reader)?;
    let mut results = test::run(&node, process);
    let unvisited = test::unvisited(process, &results).into_iter().map(str::to_owned).collect();
    results.retain(|result| filter.is_none_or(|filter| result.name.contains(filter)));
    Some(Tested { file: file.to_owned(), results, unvisited })
}

fn subject<'c>(
    file: &str,
    node: &syncline_actors::document::Node,
    catalog: &'c Catalog,
    reader: &Reader,
) -> Option<&'c Process> {
    use syncline_actors::document::{Place, Problem};
    let refuse = |message: String, fix: &str| {
        reader.note(Problem::error(Place::start_of(file), "process", message).fix(fix));
        None
    };
    let Some((name, version)) = test::subject(node) else {
        return refuse("nothing says which process is tested".to_owned(), "write `process: NAME` at the top");
    };
    let found = match version {
        Some(version) => catalog.version(&name, version),
        None => catalog.newest(&name),
    };
    match found {
        Some(process) => Some(process),
        None => refuse(format!("there is no such process `{name}`"), "correct `process:` or `version:`"),
    }
}

fn report(tested: &[Tested], out: Output) -> Result<(), Failure> {
    if out.is_json() {
        let all: Vec<Value> = tested.iter().map(as_json).collect();
        return out.value(&all, |_| String::new());
    }
    let mut text = String::new();
    let (mut passed, mut failed) = (0, 0);
    for tested in tested {
        let _ = writeln!(text, "{}", tested.file);
        for result in &tested.results {
            match &result.failure {
                None => {
                    passed += 1;
                    let _ = writeln!(text, "  ok    {}", result.name);
                }
                Some(failure) => {
                    failed += 1;
                    let _ = writeln!(
                        text,
                        "  FAIL  {}\n        {}: {}",
                        result.name, failure.place, failure.step
                    );
                    for line in &failure.differences {
                        let _ = writeln!(text, "          {line}");
                    }
                }
            }
        }
        if !tested.unvisited.is_empty() {
            let _ = writeln!(text, "  no case comes to: {}", tested.unvisited.join(", "));
        }
        text.push('\n');
    }
    let _ = write!(text, "{} passed, {failed} failed", plural(passed, "case"));
    out.text(&text)
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
        "unvisited": tested.unvisited,
    })
}

//! `syncline lint`.

use std::path::PathBuf;

use serde_json::json;
use syncline_actors::document::Severity;

use super::output::Output;
use super::{Failure, config_dir};
use crate::integration;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The integration: the directory that has `processes/`, `sources/`, `connectors/` and `schemas/`.
    #[arg(default_value_os_t = config_dir())]
    directory: PathBuf,
    /// Fail on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

pub(super) fn run(args: &Args, out: Output) -> Result<(), Failure> {
    let read = integration::load(&args.directory).map_err(|error| Failure::Input(error.to_string()))?;
    let errors = read.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let warnings = read.problems.len() - errors;
    if out.is_json() {
        let problem = |problem: &syncline_actors::document::Problem| {
            json!({
                "severity": if problem.severity == Severity::Error { "error" } else { "warning" },
                "file": *problem.place.file,
                "line": problem.place.line,
                "column": problem.place.column,
                "path": problem.path,
                "message": problem.message,
                "fix": problem.fix,
            })
        };
        out.value(&read.problems.iter().map(problem).collect::<Vec<_>>(), |_| String::new())?;
    } else {
        let files = plural(read.texts.len(), "file");
        let summary = match (errors, warnings) {
            (0, 0) => format!("{files} checked, no problems"),
            _ => format!("{}, {} in {files}", plural(errors, "error"), plural(warnings, "warning")),
        };
        let shown = read.problems.render(&read.texts);
        out.text(&if shown.is_empty() { summary } else { format!("{}\n\n{summary}", shown.trim_end()) })?;
    }
    let fails = errors > 0 || (args.deny_warnings && warnings > 0);
    if fails { Err(Failure::Told) } else { Ok(()) }
}

pub(super) fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

//! `syncline lint`.

use std::path::PathBuf;

use serde_json::json;
use syncline_actors::document::Severity;

use super::output::Output;
use super::paint::Style;
use super::{Failure, config_dir, test};
use crate::integration;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  syncline lint config\n  syncline lint config --deny-warnings -o json      for a pipeline"
)]
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
    let mut problems = read.problems;
    problems.extend(test::problems(
        &read.texts,
        read.integration.as_ref().map(|integration| &integration.catalog),
    ));
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let warnings = problems.len() - errors;
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
        out.value(&problems.iter().map(problem).collect::<Vec<_>>(), |_| String::new())?;
    } else {
        let files = plural(read.texts.len(), "file");
        let summary = match (errors, warnings) {
            (0, 0) => out.paint(Style::Good, &format!("{files} checked, no problems")),
            (0, _) => out.paint(Style::Odd, &format!("0 errors, {} in {files}", plural(warnings, "warning"))),
            _ => {
                let counts = format!("{}, {}", plural(errors, "error"), plural(warnings, "warning"));
                out.paint(Style::Bad, &format!("{counts} in {files}"))
            }
        };
        let shown = painted(&problems.render(&read.texts), out);
        out.text(&if shown.is_empty() { summary } else { format!("{shown}\n\n{summary}") })?;
    }
    let fails = errors > 0 || (args.deny_warnings && warnings > 0);
    if fails { Err(Failure::Told) } else { Ok(()) }
}

/// Problems as they are rendered, in colour: places, carets and fixes stand out.
fn painted(shown: &str, out: Output) -> String {
    let line = |line: &str| match line.strip_prefix("    ") {
        None => match line.split_once("  ") {
            Some((place, rest)) => match rest.strip_prefix("warning: ") {
                Some(rest) => {
                    format!("{}  {} {rest}", out.paint(Style::Bold, place), out.paint(Style::Odd, "warning:"))
                }
                None => format!("{}  {}", out.paint(Style::Bold, place), out.paint(Style::Bad, rest)),
            },
            None => line.to_owned(),
        },
        Some(rest) if rest.starts_with("fix: ") => {
            format!("    {} {}", out.paint(Style::Good, "fix:"), &rest["fix: ".len()..])
        }
        Some(rest) if rest.trim_start().starts_with('|') && rest.ends_with('^') => {
            format!("    {}{}", &rest[..rest.len() - 1], out.paint(Style::Bad, "^"))
        }
        Some(rest) => format!("    {rest}"),
    };
    shown.trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

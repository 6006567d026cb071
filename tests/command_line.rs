//! The command line as it is typed: what it prints, where, and with which exit code.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test itself")]

#[path = "cli/ask.rs"]
mod ask;
#[path = "cli/fake.rs"]
mod fake;
#[path = "cli/integration.rs"]
mod integration;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/webhook.rs"]
mod webhook;

use program::syncline;

#[test]
fn help_names_every_command_and_shows_examples() {
    let help = syncline(["--help"]).run().ended(0).out;
    for command in [
        "run",
        "lint",
        "test",
        "sandbox",
        "demo",
        "load",
        "entity",
        "search",
        "exceptions",
        "connectors",
        "webhook",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let own = syncline([command, "--help"]).run().ended(0).out;
        assert!(own.contains("Usage: syncline"), "{own}");
    }
    assert!(help.contains("Examples:\n"), "{help}");
    assert!(!help.contains('\u{1b}'), "no colour in a pipe: {help:?}");
}

#[test]
fn the_version_is_told() {
    let version = syncline(["--version"]).run().ended(0).out;
    assert_eq!(version, format!("syncline {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_told_on_standard_error_with_a_hint() {
    for (words, said) in [
        (vec![], "Usage: syncline"),
        (vec!["--nonsense"], "unexpected argument '--nonsense'"),
        (vec!["entty", "list", "order"], "a similar subcommand exists: 'entity'"),
        (vec!["exceptions", "retry", "order/SO-1#32"], "--reason <REASON>"),
        (vec!["entity", "list", "order", "--limit", "many"], "invalid value 'many'"),
        (vec!["entity", "list", "order", "-o", "yaml"], "[possible values: table, json]"),
        (vec!["search"], "<TERM"),
    ] {
        let ran = syncline(&words).run().ended(2);
        assert!(ran.err.contains(said), "{words:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{words:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut command = syncline(["run", "--print-defaults"]).command();
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

//! Who may import whom, read from the sources. The picture is in ARCHITECTURE.md: imports go downwards only.
//!
//! ```text
//! main → cli → node, demo, load, integration                         knows all, known by none
//! ingress  host  timer  gossip  transport  delivery  console  sandbox  drivers: none imports another
//! api  guard  journal  telemetry  clock  codec  config  secret  problem  serve  what drivers stand on
//! actors                                                             imports nothing of ours
//! ```
//!
//! Test code may import what it likes.

use std::fs;
use std::path::{Path as FilePath, PathBuf};

#[path = "tidy/scan.rs"]
mod scan;

use scan::{Path, Source, scan};

/// Drivers wait and send. None imports another; `node` hands each what it needs.
const DRIVERS: &[&str] =
    &["ingress", "host", "timer", "gossip", "transport", "delivery", "console", "sandbox"];

/// What drivers stand on. These may import each other.
const GROUND: &[&str] =
    &["api", "journal", "telemetry", "clock", "codec", "config", "secret", "problem", "serve", "guard"];

/// Outside crates and the only places that may name them.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["src/ingress", "src/console", "src/sandbox", "src/serve", "src/problem"]),
    ("bincode", &["src/codec"]),
    ("cel", &["actors/expr"]),
    ("chacha20poly1305", &["src/gossip"]),
    ("foca", &["src/gossip"]),
    ("maud", &["src/console"]),
    ("metrics", &["src/telemetry"]),
    ("metrics_exporter_prometheus", &["src/telemetry"]),
    ("ractor", &["src/host"]),
    ("redb", &["src/journal/redb"]),
    ("redis", &["src/journal/redis"]),
    ("reqwest", &["src/delivery", "src/cli", "src/load"]),
    ("rustix", &["src/clock"]),
    ("saphyr_parser", &["actors/document"]),
];

/// What makes a program wait, send, store, or depend on the machine it runs on. Not in `actors`.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
];

const METRIC_MACROS: &[&str] =
    &["counter", "gauge", "histogram", "describe_counter", "describe_gauge", "describe_histogram"];

/// Every breach of the rules in one file, as `file:line: what, and what to do`.
fn breaches(file: &str, text: &str) -> Vec<String> {
    let source = scan(text);
    let mut found = Vec::new();
    for path in &source.paths {
        let told =
            [import(file, path), home(file, path, &source), clock(file, path, &source), purity(file, path)];
        found.extend(told.into_iter().flatten().map(|told| format!("{file}:{}: {told}", path.line)));
    }
    for (line, name) in &source.macros {
        if METRIC_MACROS.contains(&name.as_str()) && !is_in(file, "src/telemetry") {
            found.push(format!(
                "{file}:{line}: `{name}!` is called here; add a function to src/telemetry.rs and call that"
            ));
        }
    }
    for (line, word) in &source.words {
        if word == "disallowed_methods" && !is_in(file, "src/clock") {
            found.push(format!(
                "{file}:{line}: the ban on clock and chance is lifted here; take a `Clock` or an `Rng`"
            ));
        }
    }
    found.dedup(); // one `use` of several names is one breach
    found
}

/// Whether `file` is the module `home` or below it.
fn is_in(file: &str, home: &str) -> bool {
    file.strip_prefix(home).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// The names of the module that `file` holds: `src/journal/redb.rs` is `journal`, `redb`.
fn module(file: &str) -> Vec<&str> {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    let names: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
    if matches!(names[..], ["lib" | "main"]) { Vec::new() } else { names }
}

/// The top module of the shell that `path` leads to from `file`, if it leaves its own.
fn target<'p>(file: &str, path: &'p Path) -> Option<&'p str> {
    let own = module(file);
    let supers = path.names.iter().take_while(|name| *name == "super").count();
    let next = match path.names.first()?.as_str() {
        "crate" | "syncline" => path.names.get(1)?,
        "super" if supers >= own.len() => path.names.get(supers)?,
        _ => return None,
    };
    (own.first() != Some(&next.as_str())).then_some(next)
}

fn import(file: &str, path: &Path) -> Option<String> {
    if !file.starts_with("src/") {
        return None;
    }
    let own = *module(file).first()?;
    let to = target(file, path)?;
    if GROUND.contains(&to) {
        return None;
    }
    if DRIVERS.contains(&own) {
        let fix = "say what is needed as a trait or a function argument and let src/node.rs hand it over";
        Some(format!("the driver `{own}` imports `{to}`; {fix}"))
    } else if GROUND.contains(&own) {
        Some(format!("`{own}` imports `{to}` above it; move what is shared down, or hand it in"))
    } else {
        None
    }
}

fn home(file: &str, path: &Path, source: &Source) -> Option<String> {
    let name = path.names.first()?;
    let (_, homes) = HOMES.iter().find(|(outside, _)| outside == name)?;
    let means_other = |(bound, of): &(String, Vec<String>)| bound == name && of.first() != Some(name);
    if homes.iter().any(|home| is_in(file, home)) || (!path.absolute && source.bound.iter().any(means_other))
    {
        return None;
    }
    Some(format!("`{name}` is named outside of its home {}; use what its home offers", homes.join(", ")))
}

fn clock(file: &str, path: &Path, source: &Source) -> Option<String> {
    let [.., kind, call] = &path.names[..] else { return None };
    let reads =
        matches!(kind.as_str(), "SystemTime" | "Instant" | "Utc" | "Local" | "Timestamp") && call == "now";
    let of_tokio = |names: &[String]| names.first().is_some_and(|name| name == "tokio");
    let means_tokio =
        of_tokio(&path.names) || source.bound.iter().any(|(name, of)| name == kind && of_tokio(of));
    (reads && !means_tokio && !is_in(file, "src/clock")).then(|| {
        format!("`{kind}::now` reads the machine's clock; take a `Clock`, or the time as an argument")
    })
}

fn purity(file: &str, path: &Path) -> Option<String> {
    let written = path.names.join("::");
    let impure = |banned: &&&str| written == **banned || written.starts_with(&format!("{banned}::"));
    let banned = IMPURE.iter().find(impure).filter(|_| file.starts_with("actors/"))?;
    Some(format!("`{banned}` in `actors`, which decides and does nothing else; let the shell do it"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `dir` except those that hold only tests, as paths from the root, sorted.
fn sources(dir: &str) -> Vec<String> {
    fn walk(dir: &FilePath, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a source directory can be read") {
            let path = entry.expect("a source directory can be read").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(dir), &mut found);
    let from_root = |path: &PathBuf| {
        let path = path.strip_prefix(root()).expect("it was found below the root");
        path.to_str().expect("source files have plain names").replace('\\', "/")
    };
    let mut files: Vec<String> = found.iter().map(from_root).collect();
    files.retain(|file| !file.ends_with("/tests.rs") && !file.contains("/tests/"));
    files.sort();
    files
}

#[test]
fn imports_go_downwards_and_each_outside_crate_has_one_home() {
    let files: Vec<String> = ["src", "actors"].into_iter().flat_map(sources).collect();
    assert!(files.iter().any(|file| file == "actors/lib.rs"), "the sources were not found: {files:?}");
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| breaches(file, &fs::read_to_string(root().join(file)).expect("a source is text")))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn actors_depends_on_nothing_that_waits() {
    let manifest = fs::read_to_string(root().join("actors/Cargo.toml")).expect("the manifest is there");
    let names: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(names.contains(&"serde"), "the manifest was not understood: {names:?}");
    for banned in ["tokio", "axum", "reqwest", "hyper", "redb", "redis", "ractor", "foca", "syncline"] {
        assert!(
            !names.contains(&banned),
            "actors/Cargo.toml depends on `{banned}`; it decides and does nothing else"
        );
    }
}

/// The one breach in `text`, without its place.
#[track_caller]
fn breach(file: &str, text: &str) -> String {
    let found = breaches(file, text);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn a_driver_that_imports_another_is_found() {
    let fix = "say what is needed as a trait or a function argument and let src/node.rs hand it over";
    for (file, text) in [
        ("src/ingress.rs", "\nuse crate::host::Host;"),
        ("src/ingress.rs", "\nuse super::host;"),
        ("src/ingress/ack.rs", "\nuse crate::{journal, host::shard};"),
        ("src/ingress/ack.rs", "\nfn f(x: super::super::host::Host) {}"),
    ] {
        assert_eq!(breach(file, text), format!("{file}:2: the driver `ingress` imports `host`; {fix}"));
    }
    assert!(breach("src/host.rs", "use crate::node::Node;").contains("the driver `host` imports `node`"));
}

#[test]
fn an_import_upwards_is_found() {
    assert!(
        breach("src/journal/redb.rs", "use crate::host::X;").contains("`journal` imports `host` above it")
    );
    assert!(breach("src/sandbox/crm.rs", "use crate::delivery::X;").contains("the driver `sandbox` imports"));
}

#[test]
fn imports_downwards_and_within_are_fine() {
    for (file, text) in [
        ("src/ingress.rs", "use crate::journal::Journal; use crate::clock::Clock; mod ack; use ack::Ack;"),
        ("src/ingress/ack.rs", "use super::Host; use crate::ingress::verify; use super::super::codec::x;"),
        ("src/node.rs", "use crate::{host, ingress, journal};"),
        ("src/main.rs", "use syncline::node::Node;"),
        ("src/ingress.rs", "#[cfg(test)] mod tests { use crate::host::Host; }"),
        ("src/ingress.rs", "// crate::host::Host\nconst X: &str = \"crate::host::Host\";"),
    ] {
        assert_eq!(breaches(file, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn an_outside_crate_away_from_home_is_found() {
    for (file, text) in [
        ("src/node.rs", "use ractor::Actor;"),
        ("src/journal.rs", "use ::redb::Database;"),
        ("src/journal/memory.rs", "fn f() { redb::open() }"),
        ("src/delivery.rs", "use axum as web;"),
        ("src/console.rs", "fn f(client: &reqwest::Client) {}"),
        ("actors/schema.rs", "use cel::Program;"),
        ("src/hosting.rs", "use {ractor::Actor, std::fmt};"),
    ] {
        assert!(breach(file, text).contains("is named outside of its home"), "{text}");
    }
    for (file, text) in [
        ("src/host/shard.rs", "use ractor::Actor;"),
        ("src/journal/redb/writer.rs", "use redb::Database;"),
        ("src/journal.rs", "pub mod redb; fn f() { redb::open() }"),
        ("src/node.rs", "use crate::journal::{redb, Journal}; fn f() { redb::open() }"),
    ] {
        assert_eq!(breaches(file, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_reader_of_the_clock_is_found() {
    for text in [
        "fn f() { std::time::SystemTime::now(); }",
        "use std::time::Instant; fn f() { Instant::now(); }",
        "use std::time as t; fn f() { t::Instant::now(); }",
    ] {
        assert!(breach("src/host.rs", text).contains("reads the machine's clock"), "{text}");
        assert_eq!(breaches("src/clock.rs", text), Vec::<String>::new());
    }
    assert!(breach("src/host.rs", "#[expect(clippy::disallowed_methods)] fn f() {}").contains("lifted here"));
    assert_eq!(
        breaches("src/host.rs", "use tokio::time::Instant; fn f() { Instant::now(); }"),
        Vec::<String>::new()
    );
}

#[test]
fn a_metric_outside_of_telemetry_is_found() {
    assert!(
        breach("src/host.rs", "fn f() { counter!(\"x\"); }").contains("add a function to src/telemetry.rs")
    );
    assert!(breach("src/host.rs", "fn f() { metrics::gauge!(\"x\"); }").contains("outside of its home"));
    assert_eq!(
        breaches("src/telemetry.rs", "fn f() { metrics::gauge!(\"x\"); histogram!(\"y\"); }"),
        Vec::<String>::new()
    );
}

#[test]
fn an_actor_that_does_something_is_found() {
    assert!(breach("actors/entity.rs", "use std::fs::File;").contains("`std::fs` in `actors`"));
    assert!(breach("actors/entity.rs", "use std::{fmt, thread};").contains("`std::thread` in `actors`"));
    assert_eq!(breaches("src/config.rs", "use std::fs::File;"), Vec::<String>::new());
    assert_eq!(breaches("actors/time.rs", "use std::time::Duration;"), Vec::<String>::new());
}

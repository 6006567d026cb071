//! What `deploy/` says is what the program takes: settings, ports, paths, times.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use syncline::config::{Settings, Store};

type Environment = BTreeMap<String, String>;

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn unquoted(value: &str) -> String {
    let value = value.trim();
    let bare = |quote: char| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    bare('\'').or_else(|| bare('"')).unwrap_or(value).to_owned()
}

/// The lines below `head` that begin with `indent`.
fn block<'t>(text: &'t str, head: &'t str, indent: &'t str) -> impl Iterator<Item = &'t str> {
    let lines = text.lines().skip_while(move |line| *line != head).skip(1);
    lines.take_while(move |line| line.is_empty() || line.starts_with(indent))
}

/// The settings of one service of the Compose file, with those that all have.
fn composed(text: &str, service: &str) -> Environment {
    let all = block(text, "x-settings: &settings", "  ").chain(block(text, service, "   "));
    let pair = |line: &str| {
        let (name, value) = line.trim().split_once(": ")?;
        name.starts_with("SYNCLINE_").then(|| (name.to_owned(), unquoted(value)))
    };
    all.filter_map(pair).collect()
}

/// The settings of the container in the Kubernetes manifest, as they are in its first pod.
fn orchestrated(text: &str) -> Environment {
    let mut found = Environment::new();
    let mut named = None;
    for line in text.lines().map(str::trim) {
        if let Some((name, value)) =
            line.strip_prefix("- { name: ").and_then(|rest| rest.split_once(", value: "))
        {
            found.insert(name.to_owned(), unquoted(value.trim_end_matches('}')));
        } else if let Some(name) = line.strip_prefix("- name: ") {
            named = Some(name.to_owned());
        } else if let (Some(name), Some(value)) = (&named, line.strip_prefix("value: ")) {
            found.insert(name.clone(), unquoted(value));
        } else if let (Some(name), true) = (&named, line.contains("fieldPath: metadata.name")) {
            found.insert(name.clone(), "syncline-0".to_owned());
        }
    }
    for value in found.values_mut() {
        *value = value.replace("$(POD_IP)", "10.1.2.3");
    }
    found.into_iter().filter(|(name, _)| name.starts_with("SYNCLINE_")).collect()
}

fn settings(environment: Environment) -> Settings {
    Settings::load(None, environment, &[]).unwrap_or_else(|error| panic!("{error}"))
}

/// What any deployment of several nodes must have.
fn is_a_cluster(settings: &Settings) {
    assert_eq!(settings.journal.store, Store::Redis);
    assert_eq!(settings.cluster.listen.unwrap().port(), 7946);
    assert_eq!(settings.cluster.advertised().unwrap().port(), 7946);
    assert_eq!(settings.cluster.seeds.len(), 3);
    assert_eq!(settings.http.listen.port(), 7171);
    assert!(settings.http.tls.files().is_some() && settings.cluster.tls.ca.is_some());
    assert_eq!(settings.auth.tokens.len(), 1);
}

#[test]
fn the_compose_file_starts_three_nodes_that_find_each_other() {
    let text = file("compose.yaml");
    let nodes: Vec<_> = ["a", "b", "c"].map(|name| settings(composed(&text, &format!("  {name}:")))).into();
    for (node, name) in nodes.iter().zip(["a", "b", "c"]) {
        is_a_cluster(node);
        assert_eq!(node.node.name, name);
        assert!(node.cluster.seeds.contains(&format!("{name}:7946")));
        let certificate = format!("/keys/{name}.pem");
        assert_eq!(node.cluster.tls.cert.as_deref().unwrap().to_str(), Some(certificate.as_str()));
        let address = node.cluster.advertise.unwrap().ip().to_string();
        assert!(text.contains(&format!("ipv4_address: {address}")), "{address}");
    }
    assert!(text.contains(r#"["sh", "/certificates.sh", "/keys", "syncline", "a", "b", "c"]"#));
    assert!(text.contains(r#"["CMD", "syncline", "cluster", "status", "--ready"]"#), "healthy is ready");
    assert!(
        text.contains(r#""--appendonly", "yes", "--appendfsync", "always""#),
        "what the preflight asks for"
    );
}

#[test]
fn the_manifest_gives_each_pod_settings_that_are_right_and_time_to_leave() {
    let text = file("kubernetes.yaml");
    let node = settings(orchestrated(&text));
    is_a_cluster(&node);
    assert_eq!(node.node.name, "syncline-0");
    assert_eq!(node.cluster.advertise, Some("10.1.2.3:7946".parse().unwrap()));
    assert!(
        text.contains(&format!("${{POD_NAME}}.{}", node.cluster.name)),
        "the certificate names node and cluster"
    );
    for probe in [
        "readinessProbe:\n            httpGet: { path: /readyz",
        "livenessProbe:\n            httpGet: { path: /healthz",
    ] {
        assert!(text.contains(probe), "{probe}");
    }
    assert!(text.contains("kind: PodDisruptionBudget") && text.contains("maxUnavailable: 1"));
    assert!(text.contains("cluster drain") && text.contains("--wait 30s"));
    let grace = text.lines().find_map(|line| line.trim().strip_prefix("terminationGracePeriodSeconds: "));
    let grace = Duration::from_secs(grace.unwrap().parse().unwrap());
    let needed = Duration::from_secs(30) + node.cluster.linger + node.shutdown.drain_for;
    assert!(grace >= needed, "{grace:?} must be more than {needed:?}");
    assert!(node.cluster.linger >= Duration::from_secs(4), "a readiness probe each 2 s, and some");
}

#[test]
fn the_image_holds_the_program_and_its_integration() {
    let text = file("Dockerfile");
    for line in ["cargo build --release --locked", "COPY config /etc/syncline/integration", "USER 10001"] {
        assert!(text.contains(line), "{line}");
    }
}

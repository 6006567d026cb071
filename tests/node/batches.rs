//! A file of rows over a whole node: every row once, whatever crashes and however often it is brought.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use syncline::delivery::wire::HttpWire;
use syncline::integration::Files;
use syncline::node::Node;

use tokio::io::AsyncWriteExt as _;

use crate::{PROCESS, SCHEMA, fields, started_over};

const SOURCE: &str = r#"
source: depot
owner: {team: post, escalate: post-desk}
class: {criticality: low}
batch: {message: seen}
messages:
  seen:
    schemas: {"1": seen.json}
    send:
      - event: parcel.seen
        to: {process: parcel, key: body.parcel}
        map: {at: body.at, weight: "dec(body.weight)"}
"#;

async fn start(directory: &Path) -> Node {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let files = Files::from([
        file("processes/parcel.yaml", PROCESS),
        file("sources/depot.yaml", SOURCE),
        file("schemas/seen.json", SCHEMA),
    ]);
    started_over(directory, files, &[], Arc::new(HttpWire::new().unwrap())).await.unwrap()
}

/// What the node says of a body; the status and the report, or the problem.
async fn bring(node: &Node, query: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let url = format!("http://{}/v1/batches/depot?{query}", node.address());
    let Ok(answer) = reqwest::Client::new().post(url).body(body).send().await else {
        return (0, Value::Null);
    };
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn parcels(node: &Node) -> Vec<(String, u64)> {
    let page = node.operate().entities("parcel", None, 10_000).await.unwrap();
    page.items.into_iter().map(|head| (head.id, head.seq)).collect()
}

fn csv(rows: usize) -> String {
    let mut text = "parcel,at,weight\n".to_owned();
    for n in 0..rows {
        let _ = writeln!(text, "P-{n},A-{n},{n}.10");
    }
    text
}

#[tokio::test]
async fn rows_are_taken_held_or_refused_and_the_report_names_their_lines() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path()).await;
    let text = "parcel,at,weight\nP-1,A,1000000000000000.10\n\nP-2,B\nP-3,\"C\nD\",x\nP-4,E,2\nP-1,F,3\n";
    let (status, report) = bring(&node, "format=csv&file=f1", text).await;
    assert_eq!(status, 200, "{report}");
    let counts = ["rows", "accepted", "duplicate", "quarantined", "rejected"]
        .map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [5, 3, 0, 1, 1], "{report}");
    let lines: Vec<_> =
        report["lines"].as_array().unwrap().iter().map(|row| (&row["line"], &row["fate"])).collect();
    assert_eq!(lines, [(&json!(4), &json!("rejected")), (&json!(5), &json!("quarantined"))], "{report}");
    let kept = fields(&node, "parcel/P-1").await.unwrap();
    assert!(kept.contains("1000000000000000.10") && kept.contains(r#"["A","F"]"#), "{kept}");
    // Under the name of another file the rows are others; under the same they are known.
    assert_eq!(bring(&node, "format=csv&file=f1", text).await.1["duplicate"], 4);
    let lines = r#"{"parcel":"P-9","at":"A","weight":"0.30"}"#;
    assert_eq!(bring(&node, "format=ndjson&file=f2", lines).await.1["accepted"], 1);
    for (query, body, told) in [
        ("format=csv", "a\n", "`file=<hash or name>`"),
        ("file=f", "a\n", "`format=csv`"),
        ("format=csv&file=f&colour=red", "a\n", "no parameter `colour`"),
        ("format=csv&file=f&message=nothing", "a\n", "no message `nothing`"),
        ("format=csv&file=f", "a,a\n", "the column `a` is there twice"),
    ] {
        let (status, problem) = bring(&node, query, body).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains(told), "{query}: {problem}");
    }
    // It is nobody's address for webhooks.
    let hook = format!("http://{}/hooks/depot", node.address());
    let sent = reqwest::Client::new().post(hook).body(lines).send().await.unwrap();
    assert_eq!(sent.status(), 401);
    assert!(node.stop().await);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_file_doubles_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let text = csv(3_000);
    let first = start(directory.path()).await;
    // The second half never comes: the file hangs in the middle of a row.
    let (half, _) = text.split_at(text.len() / 2);
    let mut sending = tokio::net::TcpStream::connect(first.address()).await.unwrap();
    let head = format!(
        "POST /v1/batches/depot?format=csv&file=f1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    sending.write_all(format!("{head}{half}").as_bytes()).await.unwrap();
    for _ in 0..600 {
        if parcels(&first).await.len() >= 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(parcels(&first).await.len() >= 200);
    first.crash().await;
    drop(sending);
    let again = start(directory.path()).await;
    let (status, report) = bring(&again, "format=csv&file=f1", text.clone()).await;
    assert_eq!((status, &report["rows"]), (200, &json!(3_000)), "{report}");
    let (accepted, duplicate) = (report["accepted"].as_u64().unwrap(), report["duplicate"].as_u64().unwrap());
    assert!(duplicate >= 200 && accepted + duplicate == 3_000, "{report}");
    let parcels = parcels(&again).await;
    assert_eq!(parcels.len(), 3_000);
    assert!(parcels.iter().all(|(_, seq)| *seq == 1), "each is there once");
    // From the middle on, under the file's own lines.
    let rows: Vec<&str> = text.lines().collect();
    let rest = format!("{}\n{}\n", rows[0], rows[2_000..].join("\n"));
    let (_, report) = bring(&again, "format=csv&file=f1&line=2001", rest).await;
    assert_eq!(report["duplicate"], json!(1_001), "{report}");
    assert!(again.stop().await);
}

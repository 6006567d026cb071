//! The board over a whole node: an instance that is late says so by exception, escalation and metric, and is counted after a restart.

use std::time::Duration;

use serde_json::json;
use syncline::api::{Board, ExceptionQuery, Intervention, Who};
use syncline::integration::Files;
use syncline::node::Node;

use crate::{fields, files, send, start};

const DESK: &str = r#"
process: desk
version: 1
title: Desk
owner: {team: post, escalate: post-desk}
initial: open
fields: {late: text}
messages:
  desk.told: {is: event, starts: true}
  desk.close: {is: command}
effects: {}
states:
  open:
    on:
      desk.told: {set: {late: "message.sender"}}
      desk.close: {to: closed}
  closed: {end: completed}
"#;

const OBJECTIVE: &str = "
apiVersion: openslo/v1
kind: SLO
metadata: {name: parcels-moved}
spec:
  service: parcel
  indicator:
    spec:
      ratioMetric:
        good: {metricSource: {type: syncline, spec: {milestone: moved}}}
        total: {metricSource: {type: syncline, spec: {process: parcel}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.9}]
";

/// Parcels that must move within a second; heavy ones do not.
fn watched() -> Files {
    let mut files = files();
    let parcel = files.get_mut("processes/parcel.yaml").unwrap();
    let (begun, once) = ("set: {seen: \"[data.at]\", weight: \"dec(data.weight)\"}", "        to: moving\n");
    let choice = format!(
        "- when: \"dec(data.weight) > 30\"\n          {begun}\n          to: stuck\n        - {begun}\n  {once}"
    );
    for (from, to) in [
        (format!("{begun}\n{once}"), choice),
        (
            "effects: {}".to_owned(),
            "effects:\n  tell_desk:\n    send: {to: {process: desk, key: \"'post'\"}, event: desk.told}\n    failure: exception"
                .to_owned(),
        ),
        (
            "  dropped: {".to_owned(),
            "  stuck:\n    hold: {reason: \"'too heavy'\", owner: post}\n    on: {retry: {to: moving}}\n  dropped: {"
                .to_owned(),
        ),
    ] {
        assert!(parcel.contains(&from), "{from}\n---\n{parcel}");
        *parcel = parcel.replace(&from, &to);
    }
    parcel.push_str("milestones:\n  moved: {reached_in: [moving], within: 1s, escalate: [tell_desk]}\n");
    files.insert("processes/desk.yaml".to_owned(), DESK.to_owned());
    files.insert("slos/parcels-moved.yaml".to_owned(), OBJECTIVE.to_owned());
    files
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The board as soon as something is counted.
async fn counted(node: &Node) -> Board {
    loop {
        let board = node.operate().board().await.unwrap();
        if board.as_of.is_some() {
            return board;
        }
        pause().await;
    }
}

#[tokio::test]
async fn an_instance_that_is_late_says_so_and_is_counted_after_a_restart_too() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), watched()).await;
    for (id, parcel, weight) in [("m1", "P-1", "1"), ("m2", "P-2", "31")] {
        let body = json!({"type": "seen", "parcel": parcel, "at": "depot", "weight": weight});
        assert_eq!(send(&node, id, &body).await, 200);
    }
    let late = ExceptionQuery { class: Some("late".to_owned()), ..ExceptionQuery::default() };
    let exception = loop {
        let open = node.operate().exceptions(&late).await.unwrap().items;
        if let Some(exception) = open.into_iter().next() {
            break exception;
        }
        pause().await;
    };
    assert_eq!((&*exception.entity, &*exception.owner), ("parcel/P-2", "post"));
    assert!(exception.summary.contains("milestone `moved` was not reached in time"), "{}", exception.summary);
    while fields(&node, "desk/post").await.as_deref() != Some(r#"{"late":"parcel/P-2"}"#) {
        pause().await;
    }
    let outcome = |outcome: &str| {
        format!(r#"syncline_milestones_total{{process="parcel",milestone="moved",outcome="{outcome}"}} 1"#)
    };
    let metrics = node.operate().metrics().await;
    for told in [outcome("in_time"), outcome("missed")] {
        assert!(metrics.contains(&told), "{told}\n---\n{metrics}");
    }
    assert!(node.stop().await);

    let node = start(directory.path(), watched()).await;
    let board = counted(&node).await;
    let names: Vec<_> = board.processes.iter().map(|process| &*process.process).collect();
    assert_eq!(names, ["desk", "parcel"], "processes of the program itself are nobody's business");
    let parcel = &board.processes[1];
    assert_eq!((parcel.open, parcel.late, parcel.completed), (2, 1, 0));
    let stuck = parcel.states.iter().find(|state| state.state == "stuck").unwrap();
    assert_eq!((stuck.open, stuck.late, &*stuck.oldest), (1, 1, "parcel/P-2"));
    let [slo] = &board.slos[..] else { panic!("{:?}", board.slos) };
    assert_eq!((slo.good, slo.bad, slo.open, slo.within_seconds), (1, 1, 0, Some(1)));
    assert!(slo.budget_remaining < 0.0, "half of them are late, a tenth may be: {slo:?}");
    let metrics = node.operate().metrics().await;
    for told in [
        r#"syncline_process_late{process="parcel"} 1"#,
        r#"syncline_step_oldest_seconds{process="parcel",step="stuck"}"#,
        r#"syncline_slo_instances{slo="parcels-moved",outcome="bad"} 1"#,
        r#"syncline_slo_target_ratio{slo="parcels-moved"} 0.9"#,
    ] {
        assert!(metrics.contains(told), "{told}\n---\n{metrics}");
    }

    let hold = ExceptionQuery { class: Some("hold".to_owned()), ..ExceptionQuery::default() };
    let hold = node.operate().exceptions(&hold).await.unwrap().items.remove(0);
    let ask = Intervention { id: hold.id, reason: "two carry it".into(), set: None, result: None };
    assert_eq!(node.operate().retry(&Who("ana".into()), ask).await.unwrap().status, "moving");
    assert!(node.operate().exceptions(&late).await.unwrap().items.is_empty(), "it is reached after all");
    assert!(node.operate().metrics().await.contains(&outcome("reached_late")));
    assert!(node.stop().await);
}

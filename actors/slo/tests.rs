use std::collections::BTreeSet;

use super::*;
use crate::document::Reader;

const BOOKED: &str = "
apiVersion: openslo/v1
kind: SLO
metadata: {name: order-booked, displayName: Orders are booked in time}
spec:
  description: Sales promised it.
  service: order
  indicator:
    metadata: {name: booked-in-time}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: syncline, spec: {milestone: booked}}}
        total: {metricSource: {type: syncline, spec: {process: order}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: booked, target: 0.9}]
";

fn read(text: &str) -> (Option<Slo>, String) {
    let reader = Reader::default();
    let slo = reader.read("slo.yaml", text).and_then(|node| parse(&Item::root(&node, &reader)));
    (slo, reader.into_problems().to_string())
}

fn booked() -> Slo {
    let (slo, problems) = read(BOOKED);
    assert_eq!(problems, "");
    slo.expect("it is right")
}

const DAY: Duration = Duration::from_hours(24);
const NOW: Timestamp = Timestamp(1_764_000_000_000);

fn instance(status: &str, began_days_ago: u32, ending: Option<Ending>, reached: bool, missed: bool) -> State {
    let names = |is| if is { BTreeSet::from(["booked".into()]) } else { BTreeSet::new() };
    let at = NOW.minus(DAY * began_days_ago);
    State {
        seq: 1,
        version: 1,
        status: status.into(),
        since: at,
        began_at: at,
        reached: names(reached),
        missed: names(missed),
        ending,
        ..State::default()
    }
}

#[test]
fn instances_are_counted_and_counts_add_up() {
    let slo = [booked()];
    let (completed, cancelled) = (Some(Ending::Completed), Some(Ending::Cancelled));
    let all = [
        instance("done", 1, completed, true, false),
        instance("done", 2, completed, true, true),
        instance("done", 40, completed, true, false), // too long ago for the objective and the board
        instance("gone", 3, cancelled, false, false),
        instance("lost", 3, Some(Ending::Failed), false, false),
        instance("booking", 4, None, false, false),
        instance("booking", 9, None, false, true),
        instance("closing", 1, None, true, false),
        State::default(), // a message came for it that does not begin it
    ];
    let see = |instances: &[State]| {
        let mut tally = Tally::default();
        for (n, state) in instances.iter().enumerate() {
            tally.see(&slo, &format!("SO-{n}"), state, state.since, NOW);
        }
        tally
    };
    let tally = see(&all);
    let ends = (tally.completed, tally.in_time, tally.cancelled, tally.failed);
    assert_eq!((tally.open, tally.late, ends), (3, 1, (2, 1, 1, 1)));
    let booking = &tally.states["booking"];
    assert_eq!((booking.open, booking.late), (2, 1));
    assert_eq!(booking.oldest, Some((NOW.minus(DAY * 9), "SO-6".into())));
    let score = tally.scores["order-booked"];
    assert_eq!(score, Score { good: 2, bad: 3, open: 1 });
    // Two nodes with half of the entities each tell the same together.
    let mut sum = Tally::default();
    for half in [&all[..4], &all[4..]] {
        sum.add(&see(half));
    }
    let shape = |tally: &Tally| (tally.open, tally.late, tally.completed, tally.scores.clone());
    assert_eq!(shape(&sum), shape(&tally));
    assert_eq!(sum.states["booking"].open, 2);
}

#[test]
fn the_error_budget_is_what_the_target_leaves() {
    let slo = booked();
    let left = |good, bad| format!("{:.3}", slo.budget_remaining(&Score { good, bad, open: 7 }));
    assert_eq!(
        [left(0, 0), left(100, 0), left(95, 5), left(90, 10), left(80, 20)],
        ["1.000", "1.000", "0.500", "0.000", "-1.000"]
    );
}

#[test]
fn each_mistake_is_told_with_its_place_and_fix() {
    for (from, to, told) in [
        ("openslo/v1", "openslo/v2", "slo.yaml:2:"),
        ("kind: SLO", "kind: SLI", "slo.yaml:3:"),
        ("name: order-booked,", "", "the key `name` is missing"),
        ("service: order", "services: order", "the key `service` is missing"),
        ("{process: order}", "{process: ordr}", "the total is of process `ordr`, the service is `order`"),
        ("{milestone: booked}", "{milestones: booked}", "the key `milestone` is missing"),
        ("type: syncline", "type: prometheus", "slo.yaml:"),
        ("duration: 28d", "duration: 400d", "between nothing and 90 days"),
        ("isRolling: true", "isRolling: false", "only rolling windows are known"),
        ("Occurrences", "Timeslices", "slo.yaml:"),
        ("target: 0.9", "target: 99", "a target lies between 0 and 1"),
        ("[{displayName: booked, target: 0.9}]", "[]", "a file holds one objective"),
    ] {
        assert!(BOOKED.contains(from), "{from}");
        let (_, problems) = read(&BOOKED.replacen(from, to, 1));
        assert!(problems.contains(told) && problems.contains("fix:"), "{to}: {problems}");
    }
}

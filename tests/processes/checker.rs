//! Holds what clients were told, what is journaled and what the sandbox's systems have applied against each other.
//!
//! Each law is a function of what was seen, which returns what breaks it; the tests below show that each does see.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use syncline::codec;
use syncline::journal::SharedJournal;
use syncline::sandbox::Sandbox;
use syncline::sandbox::opportunity::Opportunity;
use syncline_actors::id::EntityId;
use syncline_actors::record::Hash;

use crate::history::Asked;

/// What every order makes happen, once.
const EFFECTS: [(&str, &str); 4] = [
    ("erp", "create_sales_order"),
    ("erp", "create_invoice"),
    ("warehouse", "ship"),
    ("support", "create_ticket"),
];

/// One record of an entity, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    pub(crate) prev: Hash,
    pub(crate) hash: Hash,
    pub(crate) message: String,
}

/// All records of an order, read from the store itself.
pub(crate) async fn journal_of(store: &SharedJournal, order: &str) -> Vec<Line> {
    let entity = EntityId::new("order", order).unwrap();
    let frames = store.records(&entity, 1, 10_000).await.unwrap();
    let line = |frame: &bytes::Bytes| {
        let record = codec::decode_record(frame).unwrap();
        Line {
            seq: record.seq,
            epoch: record.epoch.0,
            prev: record.prev,
            hash: codec::record_hash(frame).unwrap(),
            message: record.envelope.id.to_string(),
        }
    };
    frames.iter().map(line).collect()
}

/// I2, I3, I4: numbers without a gap, each record linked to the one before, and no record under an older epoch than one before it.
pub(crate) fn broken_chain(lines: &[Line]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut seq, mut prev, mut epoch) = (0, Hash::default(), 0);
    for line in lines {
        if line.seq != seq + 1 {
            wrong.push(format!("seq {} after {seq}", line.seq));
        }
        if line.prev != prev {
            wrong.push(format!("seq {} follows {}, and what is before it is {prev}", line.seq, line.prev));
        }
        if line.epoch < epoch {
            wrong.push(format!(
                "seq {} was written under epoch {} after {epoch}: stale",
                line.seq, line.epoch
            ));
        }
        (seq, prev, epoch) = (line.seq, line.hash, epoch.max(line.epoch));
    }
    wrong
}

/// I1, I5: what was acknowledged is there, and nothing is there twice.
pub(crate) fn lost_or_doubled(lines: &[Line], asked: &[Asked]) -> Vec<String> {
    let mut times: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines {
        *times.entry(&line.message).or_default() += 1;
    }
    let acked: BTreeSet<&str> =
        asked.iter().filter(|asked| asked.is_acked()).map(|asked| &*asked.message).collect();
    let lost = acked.iter().filter(|message| !times.contains_key(*message));
    let lost = lost.map(|message| format!("{message} was acknowledged and is not there"));
    let doubled = times.iter().filter(|(_, times)| **times > 1);
    lost.chain(doubled.map(|(message, times)| format!("{message} is there {times} times"))).collect()
}

/// I6: what was acknowledged before something else was begun comes before it.
pub(crate) fn out_of_order(lines: &[Line], asked: &[Asked]) -> Vec<String> {
    let place: BTreeMap<&str, u64> = lines.iter().map(|line| (&*line.message, line.seq)).collect();
    let mut wrong = Vec::new();
    for first in asked.iter().filter(|asked| asked.is_acked()) {
        // The first time that it was sent counts: it may have been taken in then.
        let before = |message: &str| {
            let begun = asked.iter().filter(|asked| asked.message == message).map(|asked| asked.begun).min();
            begun.is_some_and(|begun| first.answered < begun)
        };
        for (message, seq) in place.iter().filter(|(message, _)| before(message)) {
            if place.get(&*first.message).is_some_and(|place| place > seq) {
                wrong.push(format!(
                    "{message} was begun after {} was acknowledged, and is before it",
                    first.message
                ));
            }
        }
    }
    wrong
}

/// What the API shows is what is stored.
pub(crate) fn shown_otherwise(lines: &[Line], timeline: &Value) -> Vec<String> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let entry = |entry: &Value| (entry["seq"].as_u64(), text(entry, "message_id"), text(entry, "prev"));
    let shown: Vec<_> = timeline["items"].as_array().into_iter().flatten().map(entry).collect();
    let stored: Vec<_> =
        lines.iter().map(|line| (Some(line.seq), line.message.clone(), line.prev.to_string())).collect();
    if shown == stored { Vec::new() } else { vec![format!("shown: {shown:?}\nstored: {stored:?}")] }
}

/// I8: every order in every system once, and no system has seen a key used for two things.
pub(crate) fn wrong_effects(sandbox: &Sandbox, orders: &[Opportunity]) -> Vec<String> {
    let ledger = sandbox.ledger();
    let mut wrong: Vec<_> = ledger.violations.iter().map(|violation| format!("{violation:?}")).collect();
    for number in orders.iter().map(Opportunity::order_number) {
        for (system, operation) in EFFECTS {
            let of_it = ledger.of(system, operation).filter(|entry| entry.reference.starts_with(&number));
            let times = of_it.count();
            if times != 1 {
                wrong.push(format!("{number} {system}.{operation}: {times} times"));
            }
        }
    }
    wrong
}

/// I1 to I6 of one order.
pub(crate) fn wrong_journal(lines: &[Line], asked: &[Asked]) -> Vec<String> {
    [broken_chain(lines), lost_or_doubled(lines, asked), out_of_order(lines, asked)].concat()
}

mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    type Spoil = fn(&mut Vec<Line>);

    fn sound() -> (Vec<Line>, Vec<Asked>) {
        let hash = |n: u8| if n == 0 { Hash::default() } else { Hash([n; 32]) };
        let line = |n: u8, message: &str| Line {
            seq: n.into(),
            epoch: 3 + u64::from(n / 2),
            prev: hash(n - 1),
            hash: hash(n),
            message: message.to_owned(),
        };
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let asked = |message: &str, from, to, status| Asked {
            order: "SO-1".to_owned(),
            message: message.to_owned(),
            begun: at(from),
            answered: at(to),
            status,
        };
        let lines = vec![line(1, "a"), line(2, "b"), line(3, "c")];
        let asked = vec![
            asked("a", 0, 9, None),
            asked("a", 10, 11, Some(200)),
            asked("b", 12, 13, Some(503)),
            asked("b", 14, 15, Some(200)),
            asked("a", 16, 17, Some(200)),
            asked("d", 18, 19, Some(503)),
        ];
        (lines, asked)
    }

    #[test]
    fn the_checker_sees_each_thing_that_may_be_wrong_with_a_journal() {
        let (lines, asked) = sound();
        assert_eq!(wrong_journal(&lines, &asked), Vec::<String>::new());
        let spoiled: [(&str, Spoil); 7] = [
            ("b was acknowledged and is not there", |lines| lines[1].message = "x".into()),
            ("b is there 2 times", |lines| lines[2].message = "b".into()),
            ("seq 3 after 1", |lines| drop(lines.remove(1))),
            ("seq 2 follows 0909", |lines| lines[1].prev = Hash([9; 32])),
            ("seq 3 follows 0202", |lines| lines[1].hash = Hash([9; 32])),
            ("seq 3 was written under epoch 3 after 4", |lines| lines[2].epoch = 3),
            ("b was begun after a was acknowledged, and is before it", |lines| {
                lines[0].message = "b".into();
                lines[1].message = "a".into();
            }),
        ];
        for (told, spoil) in spoiled {
            let (mut lines, asked) = sound();
            spoil(&mut lines);
            let wrong = wrong_journal(&lines, &asked);
            assert!(wrong.iter().any(|wrong| wrong.starts_with(told)), "{told}: {wrong:?}");
        }
    }

    #[test]
    fn the_checker_sees_when_something_else_is_shown_than_stored() {
        let (lines, _) = sound();
        let entry = |line: &Line| serde_json::json!({"seq": line.seq, "message_id": line.message, "prev": line.prev.to_string()});
        let mut page = serde_json::json!({"items": lines.iter().map(entry).collect::<Vec<_>>()});
        assert_eq!(shown_otherwise(&lines, &page), Vec::<String>::new());
        page["items"][1]["seq"] = 7.into();
        assert_eq!(shown_otherwise(&lines, &page).len(), 1);
    }
}

//! The laws. Each takes an empty journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline::codec;
use syncline::journal::{
    Appended, Compacted, Error, ExceptionFilter, Grant, Loaded, SharedJournal, Snapshot,
};
use syncline_actors::class::Latency;
use syncline_actors::decision::{Change, Ending, ExceptionClass};
use syncline_actors::id::{EffectId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{ExceptionRow, Progress, Tally};
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;

use crate::kit::{Chain, at, closed, effect, emitted, id, key, opened, settled, take_all, timer};

fn fenced<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Fenced { .. }))
}

/// Renews all of `grants`.
async fn renew(journal: &SharedJournal, grants: &[Grant]) -> Result<(), Error> {
    journal.renew(grants).await.into_iter().collect()
}

/// All that can be read of what the laws write.
pub(crate) async fn everything(journal: &SharedJournal) -> String {
    let all = ExceptionFilter { limit: 100, ..ExceptionFilter::default() };
    let mut seen = Vec::new();
    for entity in ["order/a", "order/b", "order/c", "supplier/a"] {
        let loaded = journal.load(&id(entity)).await.unwrap();
        let records = journal.records(&id(entity), 0, 100).await.unwrap();
        seen.push(format!(
            "{entity} {loaded:?} {records:?} {:?}",
            journal.outbox_of(&id(entity)).await.unwrap()
        ));
    }
    for connector in ["erp", "tax"] {
        let due = journal.due_effects(connector, at(1_000_000), 100).await.unwrap();
        seen.push(format!("{due:?} {:?}", journal.next_effect(connector, at(5)).await.unwrap()));
    }
    seen.push(format!("{:?}", journal.depths().await.unwrap()));
    seen.push(format!("{:?}", journal.due_timers(at(1_000_000), 100).await.unwrap()));
    seen.push(format!("{:?}", journal.next_timer(at(5)).await.unwrap()));
    seen.push(format!("{:?}", journal.exceptions(&all).await.unwrap()));
    seen.push(format!("{:?}", journal.find("correlation:1", 100).await.unwrap()));
    for kind in ["order", "supplier"] {
        seen.push(format!("{:?}", journal.heads(kind, None, 100).await.unwrap()));
    }
    seen.push(format!("{:?}", journal.census().await.unwrap()));
    seen.join("\n")
}

pub(crate) async fn an_old_epoch_writes_nothing(journal: SharedJournal) {
    let mut chain = Chain::new("order/a");
    let unheld = journal.append(chain.next("m0", 0, vec![])).await;
    assert!(fenced(&unheld), "{unheld:?}");
    take_all(&*journal).await;
    chain.write(&journal, "m1", 1, vec![emitted(1, 0, "erp", 5)]).await;
    let grants = take_all(&*journal).await;
    let before = everything(&journal).await;

    assert!(fenced(&journal.append(chain.next("m2", 2, vec![timer("t", 9)])).await));
    // The epoch is checked first: a zombie is not even told of duplicates.
    assert!(fenced(&journal.append(Chain::new("order/a").next("m1", 2, vec![])).await));
    let progress = journal.outbox_of(&chain.entity).await.unwrap()[0].progress.clone();
    assert!(fenced(&journal.progress(Epoch(1), &chain.entity, EffectId { seq: 1, n: 0 }, progress).await));
    let snapshot = Snapshot { seq: 1, hash: chain.hash, frame: "s".into() };
    assert!(fenced(&journal.save_snapshot(Epoch(1), &chain.entity, snapshot).await));
    let shard = chain.entity.shard();
    assert!(fenced(&renew(&journal, &[Grant { shard, epoch: Epoch(1) }]).await));
    journal.release(&[Grant { shard, epoch: Epoch(1) }]).await.unwrap();
    assert_eq!(everything(&journal).await, before);

    renew(&journal, &grants).await.unwrap();
    chain.epoch = Epoch(2);
    chain.write(&journal, "m2", 2, vec![]).await;
}

pub(crate) async fn epochs_only_grow(journal: SharedJournal) {
    let node = |name: &str| NodeId(name.into());
    let mut last = 0;
    assert!(fenced(&renew(&journal, &[Grant { shard: ShardId(7), epoch: Epoch(0) }]).await));
    for round in 0..5 {
        let grant = journal.acquire(&[ShardId(7)], &node("a")).await.unwrap()[0];
        assert!(grant.shard == ShardId(7) && grant.epoch.0 > last, "{round}: {grant:?} after {last}");
        last = grant.epoch.0;
        renew(&journal, &[grant]).await.unwrap();
        if round % 2 == 0 {
            journal.release(&[grant]).await.unwrap();
            assert!(fenced(&renew(&journal, &[grant]).await));
            // Nor may anyone guess the number that comes next.
            let guess = Grant { epoch: Epoch(last + 1), ..grant };
            assert!(fenced(&renew(&journal, &[guess]).await));
            journal.release(&[grant]).await.unwrap();
        }
    }
    assert_eq!(journal.acquire(&[ShardId(8)], &node("b")).await.unwrap()[0].epoch, Epoch(1));
    let ends = journal.acquire(&[ShardId(0), ShardId(255)], &node("b")).await.unwrap();
    assert_eq!(ends.iter().map(|grant| grant.shard.0).collect::<Vec<_>>(), [0, 255]);
}

pub(crate) async fn a_chain_has_no_gap(journal: SharedJournal) {
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    for n in 1..=20 {
        chain.write(&journal, &format!("m{n}"), n, vec![]).await;
    }
    let wrong = |seq: u64, prev: Hash| {
        let mut append = chain.next("other", 30, vec![]);
        (append.seq, append.prev) = (seq, prev);
        append
    };
    for seq in [0, 1, 20, 22, u64::MAX] {
        let refused = journal.append(wrong(seq, chain.hash)).await;
        let Err(Error::Conflict { found: 20, expected, .. }) = refused else { panic!("{seq}: {refused:?}") };
        assert_eq!(expected, seq.saturating_sub(1));
    }
    assert!(matches!(journal.append(wrong(21, Hash::of(b"other"))).await, Err(Error::Conflict { .. })));

    let frames = journal.records(&chain.entity, 1, 100).await.unwrap();
    let mut prev = Hash::default();
    for (place, frame) in frames.iter().enumerate() {
        let record = codec::decode_record(frame).unwrap();
        assert_eq!((record.seq, record.prev), (place as u64 + 1, prev));
        prev = codec::record_hash(frame).unwrap();
    }
    assert_eq!((frames.len(), prev), (20, chain.hash));
    assert_eq!(journal.records(&chain.entity, 18, 2).await.unwrap(), frames[17..19]);
    assert_eq!(journal.load(&chain.entity).await.unwrap(), Loaded { snapshot: None, tail: frames });
    assert_eq!(journal.load(&id("order/none")).await.unwrap(), Loaded::default());
}

pub(crate) async fn a_duplicate_gets_the_first_answer(journal: SharedJournal) {
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a").now("open");
    let first = chain.next("m1", 1, vec![]);
    chain.put(&journal, first.clone()).await;
    chain.status = "closed".into();
    chain.write(&journal, "m2", 2, vec![]).await;
    for again in [chain.next("m1", 3, vec![timer("t", 1)]), first.clone()] {
        assert_eq!(journal.append(again).await.unwrap(), Appended::Duplicate(first.answer.clone()));
    }
    assert_eq!(journal.records(&chain.entity, 0, 9).await.unwrap().len(), 2);
}

pub(crate) async fn a_business_key_counts_whatever_the_message_id(journal: SharedJournal) {
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    let mut append = chain.next("m1", 1, vec![]);
    append.dedup.push(key("business:order.confirmed", "SO-1", None));
    let answer = append.answer.clone();
    chain.put(&journal, append).await;
    let mut again = chain.next("m2", 9_000_000, vec![]);
    again.dedup.push(key("business:order.confirmed", "SO-1", None));
    assert_eq!(journal.append(again).await.unwrap(), Appended::Duplicate(answer.clone()));
    // The same message once more, when the entity has no use for its business key any more.
    let without = chain.next("m2", 9_000_001, vec![]);
    assert_eq!(journal.append(without).await.unwrap(), Appended::Duplicate(answer));
    let mut reused = chain.next("m1", 500, vec![]);
    reused.dedup.push(key("business:order.confirmed", "SO-2", None));
    assert!(matches!(journal.append(reused).await, Ok(Appended::Duplicate(_))));
    let mut free = chain.next("m5", 2, vec![]);
    free.dedup.push(key("business:order.confirmed", "SO-2", None));
    chain.put(&journal, free).await; // a message known by its id claims no further key
    let mut other = chain.next("m3", 2, vec![]);
    other.dedup.push(key("business:order.cancelled", "SO-1", None));
    chain.put(&journal, other).await;
    // What is text to one scope is not the end of another: lengths count.
    let mut odd = chain.next("m4", 3, vec![]);
    odd.dedup = vec![key("business:order.confirmedS", "O-1", None)];
    chain.put(&journal, odd).await;
}

pub(crate) async fn a_key_is_forgotten_after_its_time(journal: SharedJournal) {
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    let with = |chain: &Chain, second, until| {
        let mut append = chain.next("m", second, vec![]);
        append.dedup = vec![key("source:crm", "m", until)];
        append
    };
    let first = with(&chain, 10, Some(20));
    chain.put(&journal, first.clone()).await;
    let last_moment = journal.append(with(&chain, 20, Some(30))).await.unwrap();
    assert_eq!(last_moment, Appended::Duplicate(first.answer));
    let second = with(&chain, 21, Some(30));
    chain.put(&journal, second.clone()).await;
    assert_eq!(journal.append(with(&chain, 30, None)).await.unwrap(), Appended::Duplicate(second.answer));
    // The entry of the first time is not counted twice, and does not take the second with it.
    assert_eq!(journal.compact(at(25), at(0)).await.unwrap(), Compacted::default());
    assert_eq!(journal.compact(at(31), at(0)).await.unwrap(), Compacted { dedup: 1, records: 0 });
    let third = with(&chain, 5, None);
    chain.put(&journal, third).await;
    assert_eq!(journal.compact(Timestamp(i64::MAX), at(0)).await.unwrap(), Compacted::default());
    assert!(matches!(
        journal.append(with(&chain, 9_000_000, None)).await.unwrap(),
        Appended::Duplicate(answer) if answer.seq == 3
    ));
}

pub(crate) async fn keys_count_within_their_entity(journal: SharedJournal) {
    take_all(&*journal).await;
    for entity in ["order/a", "order/a!", "order/aa", "supplier/a"] {
        Chain::new(entity).write(&journal, "m1", 1, vec![]).await;
    }
}

pub(crate) async fn effects_wait_until_they_are_settled(journal: SharedJournal) {
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    let changes = vec![emitted(1, 0, "erp", 10), emitted(1, 1, "erp", 10), emitted(1, 2, "tax", 12)];
    chain.write(&journal, "m1", 1, changes).await;
    let rows = journal.outbox_of(&chain.entity).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.effect.id.n).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((rows[2].since, rows[2].progress.due, rows[2].progress.attempts), (at(1), at(12), 0));
    assert_eq!(rows[2].effect, effect(1, 2, "tax", 12));
    assert_eq!(journal.due_effects("erp", at(10), 9).await.unwrap(), rows[..2]);
    let depths = journal.depths().await.unwrap();
    assert_eq!((depths["erp"].waiting, depths["erp"].oldest), (2, Some(at(10))));
    assert_eq!((depths["tax"].waiting, depths["tax"].oldest), (1, Some(at(12))));

    chain.write(&journal, "m2", 2, vec![settled(1, 0), settled(1, 2), settled(9, 9)]).await;
    assert_eq!(journal.outbox_of(&chain.entity).await.unwrap(), rows[1..2]);
    assert_eq!(journal.due_effects("tax", at(99), 9).await.unwrap(), []);
    assert_eq!(journal.depths().await.unwrap().len(), 1);
}

pub(crate) async fn effects_wait_in_the_lane_of_their_latency(journal: SharedJournal) {
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    let changes = vec![emitted(1, 0, "erp", 10), emitted(1, 1, "erp", 9)];
    let mut append = chain.next("m1", 1, changes);
    append.rows.emitted[1].latency = Latency::Batch;
    chain.put(&journal, append.clone()).await;
    let batch = Latency::Batch.lane("erp");
    let [urgent, patient] = [append.rows.emitted[0].clone(), append.rows.emitted[1].clone()];
    assert_eq!(journal.due_effects("erp", at(99), 9).await.unwrap(), [urgent]);
    assert_eq!(journal.due_effects(&batch, at(99), 9).await.unwrap(), std::slice::from_ref(&patient));
    let depths = journal.depths().await.unwrap();
    assert_eq!((depths["erp"].waiting, depths[&batch].waiting), (1, 1));
    // It stays there when it is tried again, and leaves when it is settled.
    let progress = Progress { due: at(50), attempts: 1, ..patient.progress };
    assert!(journal.progress(Epoch(1), &chain.entity, patient.effect.id, progress).await.unwrap());
    assert_eq!(journal.due_effects(&batch, at(49), 9).await.unwrap(), []);
    assert_eq!(journal.next_effect(&batch, at(20)).await.unwrap(), Some(at(50)));
    assert_eq!(journal.outbox_of(&chain.entity).await.unwrap()[1].latency, Latency::Batch);
    chain.write(&journal, "m2", 2, vec![settled(1, 1)]).await;
    assert_eq!(journal.depths().await.unwrap().keys().collect::<Vec<_>>(), ["erp"]);
}

pub(crate) async fn what_came_of_messages_is_counted_with_their_records(journal: SharedJournal) {
    take_all(&*journal).await;
    let (applied, deferred) = (Tally::Applied.key("n1", "crm"), Tally::Deferred.key("n1", "crm"));
    for entity in ["order/a", "order/b"] {
        let chain = Chain::new(entity);
        let mut append = chain.next("m1", 1, vec![]);
        append.rows.tallies = vec![applied.clone(), deferred.clone()];
        assert_eq!(journal.append(append.clone()).await.unwrap(), Appended::Written);
        // A duplicate writes no record, and an old epoch nothing at all.
        assert!(matches!(journal.append(append.clone()).await.unwrap(), Appended::Duplicate(_)));
        append.epoch = Epoch(0);
        assert!(fenced(&journal.append(append).await));
    }
    let told = BTreeMap::from([(applied, 2), (deferred, 2)]);
    assert_eq!(journal.tallies().await.unwrap(), told);
    assert!(journal.census().await.unwrap().keys().all(|(kind, _)| kind == "order"));
}

pub(crate) async fn effects_come_in_the_order_in_which_they_are_due(journal: SharedJournal) {
    take_all(&*journal).await;
    let (mut a, mut b) = (Chain::new("order/a"), Chain::new("order/b"));
    a.write(&journal, "m1", 1, vec![emitted(1, 0, "erp", 30), emitted(1, 1, "erp", 10)]).await;
    b.write(&journal, "m1", 1, vec![emitted(1, 0, "erp", 20), emitted(1, 1, "er", 5)]).await;
    b.write(&journal, "m2", 1, vec![emitted(2, 0, "erp2", 1), emitted(2, 1, "erp", -7)]).await;
    let due = |now, limit| {
        let journal = journal.clone();
        async move {
            let rows = journal.due_effects("erp", at(now), limit).await.unwrap();
            rows.iter().map(|row| row.progress.due.0 / 1000).collect::<Vec<_>>()
        }
    };
    assert_eq!(due(30, 9).await, [-7, 10, 20, 30]);
    assert_eq!(due(30, 2).await, [-7, 10]);
    assert_eq!(due(29, 9).await, [-7, 10, 20]);
    assert_eq!(due(30, 0).await, [0; 0]);
    assert_eq!(journal.next_effect("erp", at(10)).await.unwrap(), Some(at(20)));
    assert_eq!(journal.next_effect("erp", at(30)).await.unwrap(), None);
    assert_eq!(journal.next_effect("none", at(0)).await.unwrap(), None);
    assert_eq!(journal.next_effect("erp", Timestamp(i64::MIN)).await.unwrap(), Some(at(-7)));
    assert_eq!(journal.next_effect("erp", Timestamp(i64::MAX)).await.unwrap(), None);
}

pub(crate) async fn progress_is_kept_and_does_not_undo_a_call_off(journal: SharedJournal) {
    let epoch = take_all(&*journal).await[0].epoch;
    let mut chain = Chain::new("order/a");
    chain.write(&journal, "m1", 1, vec![emitted(1, 0, "erp", 5), emitted(1, 1, "erp", 500)]).await;
    let seen = |due| Progress {
        due: at(due),
        attempts: 3,
        uncertain: true,
        called_off: false,
        last: "503 after 2 s".into(),
    };
    let effect = |n| EffectId { seq: 1, n };
    assert!(journal.progress(epoch, &chain.entity, effect(0), seen(60)).await.unwrap());
    assert_eq!(journal.due_effects("erp", at(59), 9).await.unwrap(), []);
    assert_eq!(journal.due_effects("erp", at(60), 9).await.unwrap()[0].progress, seen(60));
    assert_eq!(journal.depths().await.unwrap()["erp"].waiting, 2);

    chain
        .write(
            &journal,
            "m2",
            50,
            vec![Change::CalledOff { effect: effect(0) }, Change::CalledOff { effect: effect(1) }],
        )
        .await;
    // The one without an attempt is due at once; the other may still be under way, and keeps to its pause.
    let due = journal.due_effects("erp", at(50), 9).await.unwrap();
    assert!(due.len() == 1 && due[0].effect.id == effect(1) && due[0].progress.called_off, "{due:?}");
    assert_eq!(journal.due_effects("erp", at(59), 9).await.unwrap().len(), 1);
    let due = journal.due_effects("erp", at(60), 9).await.unwrap();
    assert!(due.len() == 2 && due.iter().all(|row| row.progress.called_off), "{due:?}");
    // An attempt that began before tells nothing of it.
    let certain = Progress { uncertain: false, ..seen(600) };
    for (shown, stays) in [(seen(90), 90), (certain, 50)] {
        let n = u16::from(!shown.uncertain);
        assert!(journal.progress(epoch, &chain.entity, effect(n), shown).await.unwrap());
        let row = &journal.outbox_of(&chain.entity).await.unwrap()[usize::from(n)];
        let Progress { due, attempts, called_off, .. } = row.progress;
        assert_eq!((due, attempts, called_off), (at(stays), 3, true), "{row:?}");
    }
    let knowing = Progress { called_off: true, ..seen(90) };
    assert!(journal.progress(epoch, &chain.entity, effect(0), knowing.clone()).await.unwrap());
    assert_eq!(journal.outbox_of(&chain.entity).await.unwrap()[0].progress, knowing);

    chain.write(&journal, "m3", 51, vec![settled(1, 0), settled(1, 1)]).await;
    assert!(!journal.progress(epoch, &chain.entity, effect(0), seen(70)).await.unwrap());
    assert_eq!(journal.due_effects("erp", at(999), 9).await.unwrap(), []);
    assert!(journal.depths().await.unwrap().is_empty());
}

pub(crate) async fn an_effect_that_is_issued_again_waits_once(journal: SharedJournal) {
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    chain.write(&journal, "m1", 1, vec![emitted(1, 0, "erp", 5)]).await;
    let again = |due| Change::Reissued(effect(1, 0, "erp", due));
    chain.write(&journal, "m2", 2, vec![settled(1, 0), again(7)]).await;
    assert_eq!(journal.depths().await.unwrap()["erp"].oldest, Some(at(7)));
    chain.write(&journal, "m3", 3, vec![again(9)]).await;
    let depth = journal.depths().await.unwrap()["erp"];
    assert_eq!((depth.waiting, depth.oldest), (1, Some(at(9))));
    assert_eq!(journal.due_effects("erp", at(99), 9).await.unwrap().len(), 1);
}

pub(crate) async fn timers_run_are_replaced_and_cleared(journal: SharedJournal) {
    take_all(&*journal).await;
    let (mut a, mut b) = (Chain::new("order/a"), Chain::new("order/b"));
    a.write(&journal, "m1", 1, vec![timer("escalate", 30), timer("remind", 10)]).await;
    b.write(&journal, "m1", 1, vec![timer("remind", 20)]).await;
    let names = |now, limit| {
        let journal = journal.clone();
        async move {
            let due = journal.due_timers(at(now), limit).await.unwrap();
            due.iter()
                .map(|row| format!("{}.{}@{}", row.entity.key(), row.name, row.token))
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(names(30, 9).await, ["a.remind@1", "b.remind@1", "a.escalate@1"]);
    assert_eq!(names(30, 1).await, ["a.remind@1"]);
    assert_eq!(names(9, 9).await, [""; 0]);
    assert_eq!(journal.next_timer(at(9)).await.unwrap(), Some(at(10)));
    assert_eq!(journal.next_timer(at(10)).await.unwrap(), Some(at(20)));
    assert_eq!(journal.next_timer(at(30)).await.unwrap(), None);

    a.write(&journal, "m2", 2, vec![timer("remind", 40), Change::TimerCleared { name: "escalate".into() }])
        .await;
    b.write(&journal, "m2", 2, vec![Change::TimerCleared { name: "none".into() }]).await;
    assert_eq!(names(99, 9).await, ["b.remind@1", "a.remind@2"]);
    assert_eq!(journal.next_timer(at(20)).await.unwrap(), Some(at(40)));
}

pub(crate) async fn exceptions_open_close_and_page(journal: SharedJournal) {
    take_all(&*journal).await;
    let (mut a, mut b) = (Chain::new("order/a"), Chain::new("supplier/a"));
    let (hold, dead) = (ExceptionClass::Hold, ExceptionClass::DeadLetter);
    a.write(&journal, "m1", 1, vec![opened(16, hold), opened(17, dead), opened(18, hold)]).await;
    b.write(&journal, "m1", 1, vec![opened(16, hold)]).await;
    let list = |kind: Option<&str>, class: Option<&str>, after: Option<&str>, limit| {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let filter = ExceptionFilter { kind: owned(kind), class: owned(class), after: owned(after), limit };
        let journal = journal.clone();
        async move { journal.exceptions(&filter).await.unwrap().iter().map(ExceptionRow::id).collect::<Vec<_>>() }
    };
    let all = ["order/a#16", "order/a#17", "order/a#18", "supplier/a#16"];
    assert_eq!(list(None, None, None, 9).await, all);
    assert_eq!(list(None, None, Some("order/a#16"), 2).await, all[1..3]);
    assert_eq!(list(Some("order"), Some("hold"), None, 9).await, ["order/a#16", "order/a#18"]);
    assert_eq!(list(Some("supplier"), None, Some("order/a#18"), 9).await, all[3..]);
    assert_eq!(list(Some("order"), None, Some("supplier/a#16"), 9).await, [""; 0]);
    assert_eq!(list(None, Some("late"), None, 9).await, [""; 0]);
    assert_eq!(list(None, None, None, 0).await, [""; 0]);
    assert_eq!(list(Some("ord"), None, None, 9).await, [""; 0]);

    a.write(&journal, "m2", 2, vec![closed(17), closed(99), opened(33, hold), closed(33)]).await;
    assert_eq!(list(None, None, None, 9).await, ["order/a#16", "order/a#18", "supplier/a#16"]);

    // More than a store looks at in one go, of another class than is asked for.
    let many = (1..=600).map(|n| opened(16 * n, dead)).collect();
    Chain::new("order/m").write(&journal, "m1", 1, many).await;
    Chain::new("order/z").write(&journal, "m1", 1, vec![opened(16, hold)]).await;
    assert_eq!(list(Some("order"), Some("hold"), Some("order/a#18"), 2).await, ["order/z#16"]);
    assert_eq!(list(Some("order"), Some("hold"), None, 2).await, ["order/a#16", "order/a#18"]);
    assert_eq!(list(None, None, Some("order/a#18"), 700).await.len(), 602);
}

pub(crate) async fn entities_are_found_by_their_terms(journal: SharedJournal) {
    take_all(&*journal).await;
    for (entity, terms) in [("order/b", ["x", "correlation:1"]), ("order/a", ["x", "correlation:12"])] {
        let mut chain = Chain::new(entity);
        let mut append = chain.next("m1", 1, vec![]);
        append.terms = terms.map(Arc::from).to_vec();
        chain.put(&journal, append).await;
        let mut again = chain.next("m2", 1, vec![]);
        again.terms = vec!["x".into()];
        chain.put(&journal, again).await;
    }
    assert_eq!(journal.find("x", 9).await.unwrap(), [id("order/a"), id("order/b")]);
    assert_eq!(journal.find("x", 1).await.unwrap(), [id("order/a")]);
    assert_eq!(journal.find("correlation:1", 9).await.unwrap(), [id("order/b")]);
    assert_eq!(journal.find("correlation", 9).await.unwrap(), []);
    assert_eq!(journal.find("", 9).await.unwrap(), []);
}

pub(crate) async fn heads_page_in_the_order_of_keys(journal: SharedJournal) {
    take_all(&*journal).await;
    for entity in ["order/a", "order/a!", "order/aa", "order/b", "orders/a", "order/ä"] {
        Chain::new(entity).now("open").write(&journal, "m1", 7, vec![]).await;
    }
    let keys = |after: Option<&'static str>, limit| {
        let journal = journal.clone();
        async move {
            let heads = journal.heads("order", after, limit).await.unwrap();
            heads.iter().map(|head| head.entity.key().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(keys(None, 9).await, ["a", "a!", "aa", "b", "ä"]);
    assert_eq!(keys(Some("a"), 2).await, ["a!", "aa"]);
    assert_eq!(keys(Some("ab"), 9).await, ["b", "ä"]);
    assert_eq!(keys(Some("ä"), 9).await, [""; 0]);
    let head = &journal.heads("orders", None, 9).await.unwrap()[0];
    assert_eq!((head.seq, &*head.status, head.ended, head.updated_at), (1, "open", false, at(7)));
}

pub(crate) async fn the_census_follows_every_entity(journal: SharedJournal) {
    take_all(&*journal).await;
    let (mut a, mut b) = (Chain::new("order/a").now("open"), Chain::new("order/b").now("open"));
    a.write(&journal, "m1", 1, vec![]).await;
    b.write(&journal, "m1", 1, vec![]).await;
    Chain::new("supplier/a").now("open").write(&journal, "m1", 1, vec![]).await;
    a = a.now("shipped");
    a.write(&journal, "m2", 2, vec![]).await;
    a.write(&journal, "m3", 3, vec![]).await;
    let count = |kind: &str, status: &str, n| ((kind.to_owned(), status.to_owned()), n);
    let expected = [count("order", "open", 1), count("order", "shipped", 1), count("supplier", "open", 1)];
    assert_eq!(journal.census().await.unwrap(), BTreeMap::from(expected));
    b = b.now("shipped");
    b.write(&journal, "m2", 2, vec![Change::Ended { ending: Ending::Completed }]).await;
    let expected = [count("order", "shipped", 2), count("supplier", "open", 1)];
    assert_eq!(journal.census().await.unwrap(), BTreeMap::from(expected));
}

pub(crate) async fn a_definition_never_changes(journal: SharedJournal) {
    journal.keep_definition("order", 1, "states: [a]").await.unwrap();
    journal.keep_definition("order", 2, "states: [a, b]").await.unwrap();
    journal.keep_definition("order", 1, "states: [a]").await.unwrap();
    let changed = journal.keep_definition("order", 1, "states: [b]").await;
    assert!(matches!(&changed, Err(Error::Open(text)) if text.contains("version 1 of process `order`")));
    let kept = journal.definitions().await.unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[&("order".to_owned(), 1)], "states: [a]");
}

pub(crate) async fn an_order_stays_until_it_is_taken_back(journal: SharedJournal) {
    use syncline::journal::{ORDER_KEY_MAX, ORDER_MAX, ORDERS_MAX};
    assert!(journal.orders().await.unwrap().is_empty());
    journal.order("connector/erp/paused", Some("ops: until six")).await.unwrap();
    journal.order("connector/erp/paused", Some("ops: until seven")).await.unwrap();
    journal.order("shard/7/pin", Some("b")).await.unwrap();
    let kept = journal.orders().await.unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept["connector/erp/paused"], "ops: until seven");
    journal.order("connector/erp/paused", None).await.unwrap();
    journal.order("connector/crm/paused", None).await.unwrap();
    assert_eq!(journal.orders().await.unwrap().into_keys().collect::<Vec<_>>(), ["shard/7/pin"]);
    for (key, text, said) in [
        ("k".repeat(ORDER_KEY_MAX + 1), "x".to_owned(), "key"),
        ("k".to_owned(), "x".repeat(ORDER_MAX + 1), "text"),
    ] {
        let refused = journal.order(&key, Some(&text)).await;
        assert!(matches!(&refused, Err(Error::Open(why)) if why.contains(said)), "{refused:?}");
    }
    for n in 1..ORDERS_MAX {
        journal.order(&format!("n/{n}"), Some("")).await.unwrap();
    }
    let refused = journal.order("one/more", Some("")).await;
    assert!(matches!(&refused, Err(Error::Open(why)) if why.contains("1024 orders")), "{refused:?}");
    journal.order("shard/7/pin", Some("c")).await.unwrap();
}

pub(crate) async fn the_newest_snapshot_wins_and_the_tail_follows_it(journal: SharedJournal) {
    let epoch = take_all(&*journal).await[0].epoch;
    let mut chain = Chain::new("order/a");
    let mut hashes = vec![Hash::default()];
    for n in 1..=6 {
        chain.write(&journal, &format!("m{n}"), n, vec![]).await;
        hashes.push(chain.hash);
    }
    let snapshot =
        |seq: usize, text: &'static str| Snapshot { seq: seq as u64, hash: hashes[seq], frame: text.into() };
    for (seq, text, kept) in [(2, "two", 2), (5, "five", 5), (3, "three", 5), (6, "six", 6)] {
        journal.save_snapshot(epoch, &chain.entity, snapshot(seq, text)).await.unwrap();
        let loaded = journal.load(&chain.entity).await.unwrap();
        assert_eq!(loaded.snapshot.unwrap().seq, kept);
        let tail: Vec<u64> =
            loaded.tail.iter().map(|frame| codec::decode_record(frame).unwrap().seq).collect();
        assert_eq!(tail, (kept + 1..=6).collect::<Vec<_>>());
    }
    assert_eq!(journal.records(&chain.entity, 1, 99).await.unwrap().len(), 6);
}

pub(crate) async fn a_snapshot_of_another_history_is_refused(journal: SharedJournal) {
    let epoch = take_all(&*journal).await[0].epoch;
    let mut chain = Chain::new("order/a");
    chain.write(&journal, "m1", 1, vec![]).await;
    for (seq, hash) in [(2, chain.hash), (1, Hash::of(b"other"))] {
        let snapshot = Snapshot { seq, hash, frame: "s".into() };
        let refused = journal.save_snapshot(epoch, &chain.entity, snapshot).await;
        assert!(matches!(refused, Err(Error::Conflict { found: 1, .. })), "{refused:?}");
    }
    assert_eq!(journal.load(&chain.entity).await.unwrap().snapshot, None);
}

pub(crate) async fn a_long_journal_is_cut_only_where_its_snapshot_holds_it(journal: SharedJournal) {
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    let trim = async |keep| journal.trim(Epoch(1), &id("order/a"), keep).await;
    let left = async || journal.records(&id("order/a"), 1, 100).await.unwrap().len();
    assert_eq!(trim(0).await.unwrap(), 0, "there is nothing");
    let mut hashes = vec![Hash::default()];
    for n in 1..=20 {
        chain.write(&journal, &format!("m{n}"), n, vec![]).await;
        hashes.push(chain.hash);
    }
    assert_eq!((trim(5).await.unwrap(), left().await), (0, 20), "no snapshot holds any of them");
    let snapshot =
        |seq: u64| Snapshot { seq, hash: hashes[usize::try_from(seq).unwrap()], frame: "s".into() };
    journal.save_snapshot(Epoch(1), &chain.entity, snapshot(12)).await.unwrap();
    assert_eq!((trim(5).await.unwrap(), left().await), (12, 8), "it holds the first twelve");
    assert_eq!(trim(5).await.unwrap(), 0);
    let Loaded { snapshot: kept, tail } = journal.load(&chain.entity).await.unwrap();
    assert_eq!((kept, tail.len()), (Some(snapshot(12)), 8));
    journal.save_snapshot(Epoch(1), &chain.entity, snapshot(20)).await.unwrap();
    assert_eq!((trim(5).await.unwrap(), left().await), (3, 5), "five are kept");
    assert_eq!(trim(100).await.unwrap(), 0);
    assert_eq!(journal.records(&chain.entity, 17, 2).await.unwrap().len(), 2);
    // What was thrown away is still known, and the chain goes on.
    let again = Chain::new("order/a").next("m1", 21, vec![]);
    assert!(matches!(journal.append(again).await.unwrap(), Appended::Duplicate(_)));
    chain.write(&journal, "m21", 21, vec![]).await;
    assert_eq!(left().await, 6);
    take_all(&*journal).await;
    assert!(fenced(&trim(0).await));
    assert_eq!(left().await, 6);
}

pub(crate) async fn compaction_throws_away_what_is_past_its_time(journal: SharedJournal) {
    let epoch = take_all(&*journal).await[0].epoch;
    let ended = || vec![Change::Ended { ending: Ending::Completed }];
    let mut chains = ["order/a", "order/b", "order/c", "order/d"].map(Chain::new);
    for (place, chain) in chains.iter_mut().enumerate() {
        chain.write(&journal, "m1", 1, vec![]).await;
        let changes = if place == 3 { vec![] } else { ended() };
        chain.write(&journal, "m2", 10 * (1 + i64::try_from(place).unwrap()), changes).await;
        if place != 1 {
            let snapshot = Snapshot { seq: 2, hash: chain.hash, frame: "state".into() };
            journal.save_snapshot(epoch, &chain.entity, snapshot).await.unwrap();
        }
    }
    // a ended at 10; b, at 20, has no snapshot; c ended at 30; d goes on.
    assert_eq!(journal.compact(at(0), at(30)).await.unwrap(), Compacted { dedup: 0, records: 2 });
    assert_eq!(journal.compact(at(0), at(30)).await.unwrap(), Compacted::default());
    let loaded = journal.load(&id("order/a")).await.unwrap();
    assert_eq!((loaded.snapshot.unwrap().seq, loaded.tail.len()), (2, 0));
    assert_eq!(journal.records(&id("order/b"), 0, 9).await.unwrap().len(), 2);

    // What was ended may go on, and ends again.
    chains[0].write(&journal, "m3", 40, ended()).await;
    assert_eq!(journal.load(&id("order/a")).await.unwrap().tail.len(), 1);
    assert_eq!(journal.compact(at(0), at(99)).await.unwrap(), Compacted { dedup: 0, records: 2 });
    let snapshot = Snapshot { seq: 2, hash: chains[1].hash, frame: "state".into() };
    journal.save_snapshot(epoch, &id("order/b"), snapshot).await.unwrap();
    assert_eq!(journal.compact(at(1002), at(99)).await.unwrap(), Compacted { dedup: 4, records: 2 });
    assert_eq!(journal.compact(at(9999), at(99)).await.unwrap(), Compacted { dedup: 5, records: 0 });
    assert_eq!(journal.heads("order", None, 9).await.unwrap().len(), 4);
}

pub(crate) async fn a_refused_append_leaves_nothing(journal: SharedJournal) {
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a").now("open");
    chain
        .write(
            &journal,
            "m1",
            1,
            vec![emitted(1, 0, "erp", 5), timer("t", 5), opened(16, ExceptionClass::Hold)],
        )
        .await;
    let before = everything(&journal).await;

    let full = |chain: &Chain, message: &str| {
        let changes = vec![
            emitted(2, 0, "tax", 1),
            settled(1, 0),
            timer("u", 3),
            Change::TimerCleared { name: "t".into() },
            opened(32, ExceptionClass::Late),
            closed(16),
            Change::Ended { ending: Ending::Failed },
        ];
        let mut append = chain.clone().now("gone").next(message, 2, changes);
        append.terms = vec!["correlation:1".into()];
        append.dedup.push(key("business:x", "1", None));
        append
    };
    let old = Chain { epoch: Epoch(0), ..chain.clone() };
    assert!(fenced(&journal.append(full(&old, "m2")).await));
    assert!(matches!(journal.append(full(&chain, "m1")).await, Ok(Appended::Duplicate(_))));
    let ahead = Chain { seq: 4, ..chain.clone() };
    assert!(matches!(journal.append(full(&ahead, "m2")).await, Err(Error::Conflict { .. })));
    let other = Chain { hash: Hash::of(b"other"), ..chain.clone() };
    assert!(matches!(journal.append(full(&other, "m2")).await, Err(Error::Conflict { .. })));
    assert_eq!(everything(&journal).await, before);
    assert_eq!(journal.compact(at(1_000), Timestamp(i64::MAX)).await.unwrap(), Compacted::default());

    // None of its keys was remembered either.
    let whole = full(&chain, "m2");
    chain.put(&journal, whole).await;
}

pub(crate) async fn of_two_writers_one_wins(journal: SharedJournal) {
    take_all(&*journal).await;
    let mut chain = Chain::new("order/a");
    for round in 0..50 {
        let [one, two] = ["one", "two"].map(|who| chain.next(&format!("{who}{round}"), round, vec![]));
        let (first, second) = tokio::join!(journal.append(one.clone()), journal.append(two.clone()));
        match (&first, &second) {
            (Ok(Appended::Written), Err(Error::Conflict { .. })) => chain.follow(&one),
            (Err(Error::Conflict { .. }), Ok(Appended::Written)) => chain.follow(&two),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(journal.load(&chain.entity).await.unwrap().tail.len(), 50);
}

pub(crate) async fn ten_thousand_appends_at_once_stay_in_order(journal: SharedJournal) {
    const TASKS: usize = 64;
    const ENTITIES: usize = 100;
    take_all(&*journal).await;
    let entity = |n: usize| format!("order/{n}");
    let chains: Arc<Vec<_>> =
        Arc::new((0..ENTITIES).map(|n| tokio::sync::Mutex::new(Chain::new(&entity(n)))).collect());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (journal, chains) = (journal.clone(), chains.clone());
        tasks.spawn(async move {
            for n in (task..10_000).step_by(TASKS) {
                let mut chain = chains[(n * 7) % ENTITIES].lock().await;
                let changes = vec![emitted(chain.seq + 1, 0, "erp", 5), settled(chain.seq, 0)];
                chain.write(&journal, &format!("m{n}"), 1, changes).await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    for n in 0..ENTITIES {
        let tail = journal.load(&id(&entity(n))).await.unwrap().tail;
        let mut prev = Hash::default();
        for (place, frame) in tail.iter().enumerate() {
            let record = codec::decode_record(frame).unwrap();
            assert_eq!((record.seq, record.prev), (place as u64 + 1, prev));
            prev = codec::record_hash(frame).unwrap();
        }
        assert_eq!(tail.len(), 100);
    }
    assert_eq!(journal.depths().await.unwrap()["erp"].waiting, ENTITIES as u64);
    assert_eq!(journal.census().await.unwrap().values().sum::<u64>(), ENTITIES as u64);
    assert_eq!(journal.compact(at(1002), at(0)).await.unwrap().dedup, 10_000);
}

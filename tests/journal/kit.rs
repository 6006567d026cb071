//! Short ways to write down records and rows.

use std::sync::Arc;
use std::time::Duration;

use syncline::codec;
use syncline::journal::{Append, Appended, DedupKey, Grant, Journal, SharedJournal};
use syncline_actors::decision::{Answer, Change, Effect, Exception, ExceptionClass, Verdict};
use syncline_actors::envelope::{Body, Envelope, Event, OutcomeClass};
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::Rows;
use syncline_actors::record::{Hash, Record};
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

/// An entity id from its text.
pub(crate) fn id(text: &str) -> EntityId {
    EntityId::parse(text).unwrap()
}

/// Seconds since the epoch.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1000)
}

/// Takes every shard.
pub(crate) async fn take_all(journal: &dyn Journal) -> Vec<Grant> {
    let shards: Vec<ShardId> = ShardId::all().collect();
    journal.acquire(&shards, &NodeId("n1".into())).await.unwrap()
}

/// An entity's journal as its owner knows it.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) entity: EntityId,
    pub(crate) epoch: Epoch,
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    pub(crate) status: Arc<str>,
}

impl Chain {
    /// An entity without records, under epoch 1.
    pub(crate) fn new(entity: &str) -> Self {
        Self { entity: id(entity), epoch: Epoch(1), seq: 0, hash: Hash::default(), status: "new".into() }
    }

    /// In this status from the next record on.
    pub(crate) fn now(mut self, status: &str) -> Self {
        self.status = status.into();
        self
    }

    /// The next record, as an append.
    pub(crate) fn next(&self, message: &str, second: i64, changes: Vec<Change>) -> Append {
        let answer = Answer { seq: self.seq + 1, status: self.status.clone(), verdict: Verdict::Applied };
        let record = Record {
            seq: self.seq + 1,
            epoch: self.epoch,
            prev: self.hash,
            envelope: envelope(&self.entity, message, second),
            changes,
            answer: answer.clone(),
        };
        let (frame, hash) = codec::encode_record(&record).unwrap();
        Append {
            entity: self.entity.clone(),
            epoch: self.epoch,
            seq: record.seq,
            prev: self.hash,
            hash,
            frame,
            at: at(second),
            dedup: vec![key("source:crm", message, Some(second + 1000))],
            answer,
            ended: record.changes.iter().any(|change| matches!(change, Change::Ended { .. })),
            rows: Rows::of(&record),
            terms: Vec::new(),
        }
    }

    /// Follows `append`, which was written.
    pub(crate) fn follow(&mut self, append: &Append) {
        (self.seq, self.hash) = (append.seq, append.hash);
    }

    /// Writes the next record; it must not be refused or known.
    pub(crate) async fn write(
        &mut self,
        journal: &SharedJournal,
        message: &str,
        second: i64,
        changes: Vec<Change>,
    ) {
        let append = self.next(message, second, changes);
        self.put(journal, append).await;
    }

    /// Writes `append`; it must not be refused or known.
    pub(crate) async fn put(&mut self, journal: &SharedJournal, append: Append) {
        assert_eq!(journal.append(append.clone()).await.unwrap(), Appended::Written);
        self.follow(&append);
    }
}

/// A deduplication key.
pub(crate) fn key(scope: &str, id: &str, until: Option<i64>) -> DedupKey {
    DedupKey { scope: scope.into(), id: id.into(), expires: until.map(at) }
}

fn envelope(subject: &EntityId, message: &str, second: i64) -> Envelope {
    Envelope {
        id: message.into(),
        source: "crm".into(),
        subject: subject.clone(),
        correlation_id: "c-1".into(),
        causation_id: None,
        traceparent: None,
        time: None,
        at: at(second),
        remember_ms: Some(Duration::from_hours(1).as_secs()),
        body: Body::Event(Event { name: "order.changed".into(), data: Value::Text(message.into()) }),
        evidence: None,
    }
}

/// An effect of the record `seq`.
pub(crate) fn effect(seq: u64, n: u16, connector: &str, due: i64) -> Effect {
    Effect {
        id: EffectId { seq, n },
        name: "create_order".into(),
        connector: connector.into(),
        operation: "orders.create".into(),
        input: Value::Text(format!("{seq}.{n}").into()),
        undoes: None,
        due: at(due),
    }
}

/// The change that emits it.
pub(crate) fn emitted(seq: u64, n: u16, connector: &str, due: i64) -> Change {
    Change::Emitted(effect(seq, n, connector, due))
}

/// The change that settles it.
pub(crate) fn settled(seq: u64, n: u16) -> Change {
    Change::Settled { effect: EffectId { seq, n }, class: OutcomeClass::Ok, result: Value::Null }
}

/// The change that opens an exception.
pub(crate) fn opened(number: u64, class: ExceptionClass) -> Change {
    Change::Opened(Exception {
        number,
        class,
        effect: None,
        summary: "the tax class is missing".into(),
        detail: Value::Null,
        owner: "finance".into(),
    })
}

/// The change that closes it.
pub(crate) fn closed(exception: u64) -> Change {
    Change::Closed { exception, by: "ada".into(), reason: "corrected".into() }
}

/// The change that sets a timer.
pub(crate) fn timer(name: &str, due: i64) -> Change {
    Change::TimerSet { name: name.into(), due: at(due) }
}

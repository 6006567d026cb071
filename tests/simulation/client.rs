//! Those who send: each tells its messages one after the other, and each message again until it is acknowledged, and at times
//! after that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use syncline::host::{Error, Lane, Reply};
use syncline_actors::decision::{Answer, Verdict};
use syncline_actors::envelope::{Body, Envelope};
use syncline_actors::id::EntityId;

use crate::book::{Book, business_key};
use crate::ground::Ground;

/// How long ids are remembered: longer than any sender here tries.
const REMEMBER_MS: u64 = 3_600_000;

/// A message that a client wants to have taken in.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) entity: EntityId,
    pub(crate) source: &'static str,
    pub(crate) id: String,
    pub(crate) body: Body,
    pub(crate) lane: Lane,
}

impl Op {
    fn name(&self) -> String {
        format!("{} {}:{} {}", self.entity, self.source, self.id, self.body.name())
    }

    fn envelope(&self, ground: &Ground) -> Envelope {
        Envelope {
            id: self.id.as_str().into(),
            source: self.source.into(),
            subject: self.entity.clone(),
            correlation_id: format!("flow-{}", self.entity.key()).into(),
            causation_id: None,
            traceparent: None,
            time: None,
            at: ground.now(),
            remember_ms: (self.source == "shop").then_some(REMEMBER_MS),
            body: self.body.clone(),
            evidence: None,
        }
    }
}

/// What clients know: it survives every crash of the node.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) acks: BTreeMap<(EntityId, &'static str, String), Ack>,
    /// By entity: the highest place that is acknowledged.
    pub(crate) highest: BTreeMap<EntityId, u64>,
    /// Entities that have lost what was acknowledged, in a way that is beyond what is promised: their order begins anew.
    pub(crate) rewound: BTreeSet<EntityId>,
    /// Messages that are sent and not acknowledged.
    pub(crate) open: u64,
    /// Accepted from outside and not answered, by incarnation and entity.
    accepted: BTreeMap<(u64, EntityId), usize>,
}

#[derive(Debug)]
pub(crate) struct Ack {
    op: Op,
    pub(crate) answer: Answer,
}

impl Notes {
    /// Notes an acknowledgement. `floor`: what was acknowledged of the entity before the message was first sent.
    fn acked(&mut self, op: &Op, answer: &Answer, floor: u64, book: &Book) -> Result<(), String> {
        let key = (op.entity.clone(), op.source, op.id.clone());
        if let Some(first) = self.acks.get(&key) {
            if first.answer != *answer {
                return Err(format!("I5: {} is answered {answer:?}, before {:?}", op.name(), first.answer));
            }
            return Ok(());
        }
        let own = holds(op, answer, book)?;
        if own && answer.seq <= floor && !self.rewound.contains(&op.entity) {
            return Err(format!(
                "I6: {} is record {}, sent after record {floor} was acked",
                op.name(),
                answer.seq
            ));
        }
        let highest = self.highest.entry(op.entity.clone()).or_default();
        *highest = (*highest).max(answer.seq);
        self.acks.insert(key, Ack { op: op.clone(), answer: answer.clone() });
        Ok(())
    }

    /// Whatever was acknowledged is there.
    pub(crate) fn check(&self, book: &Book) -> Result<(), String> {
        self.acks.values().try_for_each(|ack| holds(&ack.op, &ack.answer, book).map(drop))
    }
}

/// Whether the record that the answer names holds the message itself, or one of the same business key.
fn holds(op: &Op, answer: &Answer, book: &Book) -> Result<bool, String> {
    let lost = || format!("I1: {} was acked as record {}, which does not hold it", op.name(), answer.seq);
    let kept = book.entities.get(&op.entity).ok_or_else(lost)?;
    let record = kept.record(answer.seq).ok_or_else(lost)?;
    if record.answer != *answer {
        return Err(format!("I5: {} was told {answer:?}, its record says {:?}", op.name(), record.answer));
    }
    let own = kept.message(op.source, &op.id);
    if let Some(own) = own {
        return if own.seq == answer.seq { Ok(true) } else { Err(lost()) };
    }
    let key = business_key(&op.body);
    if key.is_some() && key == business_key(&record.envelope.body) { Ok(false) } else { Err(lost()) }
}

/// How one delivery went.
enum Outcome {
    Acked(Reply),
    /// Nobody knows what became of it.
    Lost,
    /// It was not taken in; the sender is to wait so long.
    Refused(Duration),
}

/// Delivers `op` until it is acknowledged, then perhaps a few times more.
pub(crate) async fn perform(ground: Arc<Ground>, op: Op) -> Answer {
    ground.notes().open += 1;
    let floor = ground.notes().highest.get(&op.entity).copied().unwrap_or_default();
    if ground.trouble("twice at once", 150) {
        let (ground, op) = (ground.clone(), op.clone());
        tokio::spawn(async move {
            let pause = ground.chance("twice pause", |chance| chance.millis(0, 300));
            tokio::time::sleep(pause).await;
            ground.count("client: sent twice at once");
            deliver(&ground, &op, floor).await;
        });
    }
    let mut tries = 0_u32;
    let answer = loop {
        tries += 1;
        match deliver(&ground, &op, floor).await {
            Outcome::Acked(reply) => break reply.answer,
            Outcome::Lost => backoff(&ground, tries, Duration::from_millis(50)).await,
            Outcome::Refused(after) => backoff(&ground, tries, after).await,
        }
    };
    ground.notes().open -= 1;
    let again = ground.trouble("again", 200);
    if again {
        let (ground, op) = (ground.clone(), op.clone());
        tokio::spawn(async move {
            let pause = ground.chance("again pause", |chance| chance.millis(0, 60_000));
            tokio::time::sleep(pause).await;
            ground.count("client: sent again after the ack");
            deliver(&ground, &op, floor).await;
        });
    }
    answer
}

async fn backoff(ground: &Ground, tries: u32, least: Duration) {
    let most = 50_u64.saturating_mul(1 << tries.min(6));
    let pause = ground.chance("backoff", |chance| chance.millis(0, most));
    tokio::time::sleep(least.min(Duration::from_secs(2)) + pause).await;
}

/// One delivery, over a network that loses and delays.
async fn deliver(ground: &Arc<Ground>, op: &Op, floor: u64) -> Outcome {
    let (lost, ack_lost) = (
        ground.trouble("request lost", ground.temper.network),
        ground.trouble("ack lost", ground.temper.network),
    );
    let way = ground.chance("way", |chance| chance.millis(0, 20));
    tokio::time::sleep(way).await;
    if lost {
        ground.count("client: request lost");
        return Outcome::Lost;
    }
    let Some(node) = ground.node() else { return Outcome::Lost };
    let patience = ground.chance("patience", |chance| chance.millis(500, 8_000));
    let asked = take_in(ground, &node, op);
    let answer = tokio::select! {
        biased;
        () = node.life.until_over() => return Outcome::Lost,
        answer = tokio::time::timeout(patience, asked) => answer,
    };
    let Ok(answer) = answer else {
        ground.count("client: lost patience");
        return Outcome::Lost;
    };
    node.bounds();
    match answer {
        Ok(reply) => {
            tokio::select! {
                biased;
                () = node.life.until_over() => return Outcome::Lost,
                () = node.life.point("before an ack") => {}
            }
            if ack_lost {
                ground.count("client: ack lost");
                return Outcome::Lost;
            }
            acked(ground, op, &reply, floor);
            Outcome::Acked(reply)
        }
        Err(error) => refused(ground, op, &error),
    }
}

fn acked(ground: &Ground, op: &Op, reply: &Reply, floor: u64) {
    ground.count(if reply.duplicate { "ack: duplicate" } else { "ack: first" });
    ground.count(match &reply.answer.verdict {
        Verdict::Applied => "verdict: applied",
        Verdict::Deferred => "verdict: deferred",
        Verdict::Ignored => "verdict: ignored",
        Verdict::Rejected(_) => "verdict: rejected",
    });
    let (word, seq) = (reply.answer.verdict.word(), reply.answer.seq);
    ground.line(&format!("ack {} #{seq} {word}{}", op.name(), if reply.duplicate { " again" } else { "" }));
    let checked = {
        let book = ground.book();
        ground.notes().acked(op, &reply.answer, floor, &book)
    };
    ground.check(checked);
}

fn refused(ground: &Ground, op: &Op, error: &Error) -> Outcome {
    ground.line(&format!("refused {}: {error}", op.name()));
    match error {
        Error::Busy { retry_after, .. } => {
            ground.count("client: told to come back");
            return Outcome::Refused(*retry_after);
        }
        Error::Unavailable(text) if text.contains("left before it answered") => {
            ground.violated(format!("an actor dropped what it was given: {text}"));
        }
        error if !error.is_transient() => {
            ground.violated(format!("{} is refused for good: {error}", op.name()));
        }
        _ => ground.count("client: unavailable"),
    }
    Outcome::Lost
}

/// Asks the host, and counts what it has accepted: a message that waits while time passes is in an entity's mailbox.
async fn take_in(ground: &Arc<Ground>, node: &crate::node::Running, op: &Op) -> Result<Reply, Error> {
    let mut asked = std::pin::pin!(node.deliver(op.envelope(ground), op.lane));
    if let Ok(answer) = tokio::time::timeout(Duration::from_millis(1), &mut asked).await {
        return answer;
    }
    let _accepted =
        (op.lane == Lane::Outside).then(|| Accepted::new(ground.clone(), node.life.number, &op.entity));
    asked.await
}

struct Accepted(Arc<Ground>, (u64, EntityId));

impl Accepted {
    fn new(ground: Arc<Ground>, by: u64, entity: &EntityId) -> Self {
        let key = (by, entity.clone());
        let mut notes = ground.notes();
        let accepted = notes.accepted.entry(key.clone()).or_default();
        *accepted += 1;
        let (accepted, most) = (*accepted, ground.temper.entity_in_flight_max);
        drop(notes);
        if accepted > most {
            ground.violated(format!(
                "I13: {accepted} messages wait in the mailbox of {entity}, at most {most} may"
            ));
        }
        Self(ground, key)
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        *self.0.notes().accepted.get_mut(&self.1).expect("it was counted") -= 1;
    }
}

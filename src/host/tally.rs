//! What the standing balance counts, in the append of the record that it is about.

use syncline_actors::decision::{Change, Verdict};
use syncline_actors::envelope::Envelope;
use syncline_actors::letter;
use syncline_actors::outbox::Tally;
use syncline_actors::record::Record;

use super::core::Core;
use super::delivery::Delivery;
use super::resident::Resident;
use super::{Error, QUARANTINE};
use crate::codec;

/// Who sends from inside: what they send was not received.
const OURS: [&str; 6] = ["timer", "delivery", "operator", "schedule", "entity", "quarantine"];

/// What a source is counted as: a configured one by its name, callers of the API together, and senders of events together.
pub fn label(source: &str) -> &str {
    source.split_once(':').map_or(source, |(kind, _)| kind)
}

/// Whether a message is counted: it was received. What entities tell one another, or pass on in the name of a source, was not.
fn counts(envelope: &Envelope) -> bool {
    !OURS.contains(&&*envelope.source) && !envelope.id.starts_with(letter::PREFIX)
}

impl Resident {
    /// Counters of `record`. A message that had its turn is looked up: its own record says who sent it.
    pub(super) async fn tallies(
        &self,
        core: &Core,
        record: &Record,
        delivery: &Delivery,
    ) -> Result<Vec<String>, Error> {
        let mut tallies = Vec::new();
        let source = &record.envelope.source;
        if delivery.lane.is_outside() && counts(&record.envelope) {
            let tally = match &record.answer.verdict {
                _ if record.envelope.subject.kind() == QUARANTINE => Tally::Quarantined,
                Verdict::Applied => Tally::Applied,
                Verdict::Ignored => Tally::Ignored,
                Verdict::Rejected(_) => Tally::Rejected,
                Verdict::Deferred => Tally::Deferred,
            };
            tallies.push(tally.key(&delivery.via, label(source)));
        }
        for change in &record.changes {
            let Change::Resumed { id } = change else { continue };
            let Some(waiting) = self.state.deferred.iter().find(|waiting| waiting.id == *id) else {
                continue;
            };
            let entity = &record.envelope.subject;
            let frames = core.journal("records", core.journal.records(entity, waiting.seq, 1)).await;
            let frames = frames.map_err(|error| Error::of(entity, &error))?;
            // An entity that ended long ago has no records left, and nothing resumes in it.
            let first = frames.first().and_then(|frame| codec::decode_record(frame).ok());
            if let Some(first) = first.filter(|first| counts(&first.envelope)) {
                tallies.push(Tally::Resumed.key(&core.config.node.0, label(&first.envelope.source)));
            }
        }
        Ok(tallies)
    }
}

#[cfg(test)]
mod tests {
    use syncline_actors::envelope::{Body, Event};
    use syncline_actors::id::{EffectId, EntityId};
    use syncline_actors::time::Timestamp;
    use syncline_actors::value::Value;

    use super::*;

    #[test]
    fn what_nobody_has_sent_is_not_counted() {
        let sender = EntityId::new("reconcile", "1:erp:order").expect("a legal id");
        let taken = letter::message_id(&sender, EffectId { seq: 4, n: 7 });
        let of = |source: &str, id: &str| Envelope {
            id: id.into(),
            source: source.into(),
            subject: EntityId::new("order", "SO-1").expect("a legal id"),
            correlation_id: "".into(),
            causation_id: None,
            traceparent: None,
            time: None,
            at: Timestamp(0),
            remember_ms: None,
            body: Body::Event(Event { name: "order.confirmed".into(), data: Value::Null }),
            evidence: None,
        };
        assert!(counts(&of("erp", "evt-1")) && counts(&of("api:ada", "k1")));
        assert!(!counts(&of("erp", &taken)), "in the name of a system, by ourselves");
        assert!(OURS.iter().all(|ours| !counts(&of(ours, "1"))));
    }
}

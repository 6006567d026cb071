//! What must hold in the end, of whatever world.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use syncline::codec;
use syncline::journal::Loaded;
use syncline_actors::entity::State;
use syncline_actors::envelope::OutcomeClass;
use syncline_actors::id::EntityId;

use crate::book::Kept;
use crate::ground::Ground;

/// A timer that runs by its entity's records is not long overdue, whatever the store lists.
pub(crate) fn overdue(ground: &Ground) {
    let now = ground.now();
    let book = ground.book();
    let timers =
        book.entities.iter().flat_map(|(id, kept)| kept.state.timers.iter().map(move |timer| (id, timer)));
    for (id, (name, (_, due))) in timers {
        if now.since(*due) > Duration::from_secs(10) {
            ground.violated(format!("I10: {name} of {id} was due at {due} and has not fired at {now}"));
        }
    }
}

/// Every effect has ended as its calls and their results say, or waits in the store: `outbox` has the keys of those.
pub(crate) fn effects(ground: &Ground, outbox: &BTreeSet<String>) {
    let (ledger, book) = (ground.ledger(), ground.book());
    for (key, known) in &book.effects {
        let (applied, calls) = (ledger.applied(key), ledger.calls(key));
        let holds = match known.ended {
            None => outbox.contains(key),
            Some(OutcomeClass::Ok) => applied == 1 && calls >= 1,
            Some(OutcomeClass::Failed) => applied == 0 && calls >= 1,
            Some(OutcomeClass::Cancelled) => applied == 0,
            Some(OutcomeClass::Dead) => applied <= 1,
        };
        if !holds && !ground.forgives(key) {
            let ended = known.ended;
            ground.violated(format!(
                "I8: {key} ended {ended:?}, was sent {calls} times and applied {applied} times"
            ));
        }
    }
    for key in ledger.keys().filter(|key| !book.effects.contains_key(*key) && !ground.forgives(key)) {
        ground.violated(format!("I8: {key} was applied, and no record has emitted it"));
    }
}

/// What the store holds of an entity is what has landed, and its snapshot with its tail gives what the records give from empty.
pub(crate) fn is_kept(
    entity: &EntityId,
    kept: &Kept,
    loaded: &Loaded,
    stored: &[Bytes],
) -> Result<(), String> {
    let decode = |frame: &Bytes| codec::decode_record(frame).map_err(|why| format!("I4: {entity}: {why}"));
    let stored = stored.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    let folded = loaded.snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
    // Compaction takes records that are in a snapshot, from the first on.
    let gone = kept.records.len().checked_sub(stored.len()).filter(|gone| *gone as u64 <= folded);
    if gone.is_none_or(|gone| kept.records[gone..] != stored[..]) {
        let (landed, stored) = (kept.records.len(), stored.len());
        return Err(format!("I1: of {landed} records of {entity} the store has {stored}, or others"));
    }
    let mut state = State::default();
    if let Some(snapshot) = &loaded.snapshot {
        state = codec::decode_state(&snapshot.frame).map_err(|why| format!("I7: {entity}: {why}"))?;
    }
    for frame in &loaded.tail {
        state.fold(&decode(frame)?);
    }
    if codec::encode_state(&state) == codec::encode_state(&kept.state) {
        Ok(())
    } else {
        Err(format!("I7: {entity} from its snapshot is not what its records give"))
    }
}

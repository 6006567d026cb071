//! Drift as people look at it: what this node has counted, and what waits in quarantine for it.

use std::collections::BTreeMap;

use syncline_actors::outbox::ExceptionRow;
use syncline_actors::value::Value;

use crate::api::Drift;
use crate::ingress::drift::{Key, Seen};

/// Entities that are named with one kind of drift.
const ENTITIES_MAX: usize = 20;

type Place = (String, String, String, String);

/// What was counted and what waits, side by side.
pub(super) fn report(seen: &[(Key, Seen)], held: &[ExceptionRow]) -> Vec<Drift> {
    let mut all: BTreeMap<Place, Drift> = BTreeMap::new();
    for ((source, event_type, kind, path), seen) in seen {
        let place = (source.clone(), event_type.clone(), kind.word().to_owned(), path.clone());
        let drift = entry(&mut all, place);
        drift.said.clone_from(&seen.said);
        (drift.count, drift.held) = (seen.count, seen.held);
        (drift.first, drift.last) = (Some(seen.first.to_string()), Some(seen.last.to_string()));
    }
    for row in held {
        for (place, said, entity) in of_row(row) {
            let drift = entry(&mut all, place);
            drift.waiting += 1;
            if drift.said.is_empty() {
                drift.said = said;
            }
            if !entity.is_empty() && drift.entities.len() < ENTITIES_MAX && !drift.entities.contains(&entity)
            {
                drift.entities.push(entity);
            }
        }
    }
    all.into_values().collect()
}

fn entry(all: &mut BTreeMap<Place, Drift>, place: Place) -> &mut Drift {
    let (source, event_type, kind, path) = place.clone();
    all.entry(place).or_insert_with(|| Drift { source, event_type, kind, path, ..Drift::default() })
}

/// What a message in quarantine is held for: place, words, and the entity it was meant for.
fn of_row(row: &ExceptionRow) -> Vec<(Place, String, String)> {
    let Some(about) = row.exception.detail.get("missing") else { return Vec::new() };
    let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_text).unwrap_or_default().to_owned();
    let drifts = about.get("drift").and_then(Value::as_list).unwrap_or_default();
    let of_drift = |drift: &Value| {
        let place = (text(about, "source"), text(about, "type"), text(drift, "kind"), text(drift, "path"));
        (place, text(drift, "said"), text(about, "entity"))
    };
    drifts.iter().map(of_drift).collect()
}

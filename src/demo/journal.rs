//! What the node's journal holds at the end: every entity of every kind, and what became of every message from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use syncline_actors::id::EntityId;
use syncline_actors::letter;

use super::agree::Seen;
use super::{Error, KINDS, Kind, watch};
use crate::api::{Entry, Operate};
use crate::host::QUARANTINE;

/// Entities, or records of one, that are asked for at a time.
const PAGE: usize = 500;

/// Entities that are read at the same time.
const AT_ONCE: usize = 16;

/// What became of messages from outside, by their ids.
#[derive(Debug, Default)]
pub(super) struct Messages(BTreeMap<String, String>);

impl Messages {
    /// Whether the journal has it, for so many entities. One of several is known by a number after its id.
    pub(super) fn has(&self, id: &str, parts: usize) -> bool {
        (0..parts).all(|part| self.0.contains_key(&named(id, part)))
    }

    /// Messages of which this became.
    pub(super) fn of(&self, verdict: &str) -> u64 {
        let first_parts = self.0.iter().filter(|(id, _)| !is_further_part(id));
        first_parts.filter(|(_, found)| *found == verdict).count() as u64
    }

    fn note(&mut self, entry: &Entry, verdict: Option<&str>) {
        if is_outside(&entry.source) && !entry.message_id.starts_with(letter::PREFIX) {
            self.0.insert(entry.message_id.clone(), verdict.unwrap_or(&entry.verdict).to_owned());
        }
    }
}

fn named(id: &str, part: usize) -> String {
    if part == 0 { id.to_owned() } else { format!("{id}#{part}") }
}

fn is_further_part(id: &str) -> bool {
    id.rsplit_once('#').is_some_and(|(_, part)| part.parse::<usize>().is_ok())
}

/// Only of senders and of those who call the API; effects, timers and people at exceptions have other books.
fn is_outside(source: &str) -> bool {
    !matches!(source, "timer" | "delivery" | "operator" | "schedule" | "entity" | "quarantine")
}

/// Reads every entity of every kind, and hands each on as it comes. What became of the messages.
pub(super) async fn read(
    operate: &Arc<dyn Operate>,
    mut hand_on: impl FnMut(&'static Kind, &Seen),
) -> Result<Messages, Error> {
    let mut messages = Messages::default();
    for kind in KINDS {
        let entities = all(operate, kind.name).await?;
        let read = entities.into_iter().map(|id| entity(operate, kind, id));
        let mut read = futures::stream::iter(read).buffered(AT_ONCE);
        while let Some((seen, entries)) = read.try_next().await? {
            for entry in &entries {
                messages.note(entry, None);
            }
            hand_on(kind, &seen);
        }
    }
    // What a system addresses by an id of its own is told there.
    for id in all(operate, letter::XREF).await? {
        for entry in timeline(operate, &id).await? {
            messages.note(&entry, None);
        }
    }
    for id in all(operate, QUARANTINE).await? {
        for entry in operate.timeline(&id, 1, 1).await?.items {
            messages.note(&entry, Some("quarantined"));
        }
    }
    Ok(messages)
}

async fn all(operate: &Arc<dyn Operate>, kind: &str) -> Result<Vec<EntityId>, Error> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = operate.entities(kind, after.as_deref(), PAGE).await?;
        found.extend(page.items.iter().filter_map(|head| EntityId::parse(&head.id).ok()));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}

async fn entity(operate: &Arc<dyn Operate>, kind: &Kind, id: EntityId) -> Result<(Seen, Vec<Entry>), Error> {
    let entity = operate.entity(&id).await?;
    let entries = timeline(operate, &id).await?;
    let mut shown = (kind.hidden)(&id);
    if !shown.is_empty() {
        let told = [serde_json::to_string(&entity), serde_json::to_string(&entries)];
        let told = told.into_iter().flatten().collect::<String>();
        shown.retain(|whole| told.contains(whole));
    }
    let (fields, waiting) = (watch::fields(&entity), entity.waiting.len() as u64);
    Ok((Seen { id, state: entity.status, reached: entity.reached, fields, waiting, shown }, entries))
}

async fn timeline(operate: &Arc<dyn Operate>, id: &EntityId) -> Result<Vec<Entry>, Error> {
    let (mut entries, mut from) = (Vec::new(), 1);
    loop {
        let page = operate.timeline(id, from, PAGE).await?;
        let full = page.items.len() == PAGE;
        entries.extend(page.items);
        match page.next.filter(|_| full).and_then(|next| next.parse().ok()) {
            Some(next) => from = next,
            None => return Ok(entries),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_for_two_entities_is_one_message_and_lost_when_one_part_is() {
        let of =
            |ids: &[&str]| Messages(ids.iter().map(|id| ((*id).to_owned(), "applied".to_owned())).collect());
        let both = of(&["de.example|1", "de.example|1#1"]);
        assert!(both.has("de.example|1", 2) && both.of("applied") == 1);
        assert!(!of(&["de.example|1"]).has("de.example|1", 2));
    }
}

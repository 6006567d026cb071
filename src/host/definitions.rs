//! Definitions that live instances need and no file has any more: the store keeps the text of each version ever used.

use syncline_actors::document::Reader;
use syncline_actors::process::{Catalog, parse};

use crate::journal::{Error, SharedJournal};

/// Adds what the store keeps and `catalog` lacks. A text that this program does not read is told, loudly: its instances wait.
pub(super) async fn add_kept(catalog: &mut Catalog, journal: &SharedJournal) -> Result<(), Error> {
    for ((kind, version), text) in journal.definitions().await? {
        if catalog.version(&kind, version).is_some() {
            continue;
        }
        let reader = Reader::default();
        let node = reader.read(&format!("{kind}, version {version}, as the store keeps it"), &text);
        if let Some(process) = node.and_then(|node| parse::parse(&node, &text, &reader)) {
            catalog.keep(process);
        } else {
            let problems = reader.problems();
            tracing::error!(alarm = true, kind, version, "a kept definition cannot be read: {problems}");
        }
    }
    Ok(())
}

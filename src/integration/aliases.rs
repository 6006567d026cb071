//! Sources that name entities by ids of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use syncline_actors::letter::XREF;
use syncline_actors::process::{Catalog, Target, check};
use syncline_actors::subscription;

use super::Loader;
use crate::ingress::source::Source;

impl Loader<'_> {
    /// Where a source addresses entities by ids of its own, the cross-reference is told what it calls them.
    pub(super) fn cross_reference(&self, catalog: &mut Catalog, sources: &BTreeMap<Arc<str>, Source>) {
        let mut linked = BTreeSet::new();
        for source in sources.values() {
            let sends = source.messages.values().flat_map(|meaning| &meaning.send);
            for send in sends.filter(|send| send.by_alias) {
                let kind = &*send.process.value;
                let Some(process) = catalog.newest(kind) else { continue }; // it is told by who checks the source
                let has_ids = process.record && process.fields.contains_key(subscription::IDS);
                let links = check::sends(process)
                    .any(|(_, send)| matches!(&send.to, Target::Key { process, .. } if **process == *XREF));
                if has_ids {
                    if linked.insert((kind, &*source.name)) {
                        let link = subscription::cross_reference(kind, &source.name);
                        catalog.subscribe(kind, &Arc::new(link));
                    }
                } else if !links {
                    let message =
                        format!("nothing says which `{kind}` `{}` means by an id of its own", source.name);
                    let fix = format!(
                        "make `{kind}` a record with `ids: map`, or let it send `xref.linked` to `{{process: xref, key: …}}`"
                    );
                    send.process.refuse(self.reader, message, fix);
                }
            }
        }
    }
}

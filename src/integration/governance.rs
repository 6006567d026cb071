//! Versions of schemas against one another: what the declared compatibility forbids, with file, JSON pointer, whom it breaks and the
//! fix.

use std::collections::BTreeSet;

use syncline_actors::document::{Node, Place, Problem, Reader};
use syncline_actors::schema::{Finding, Schema, findings, in_order};

use super::{Files, Loader};
use crate::ingress::gate::Schemas;
use crate::ingress::source::{Meaning, Source};

impl Loader<'_> {
    /// Keywords that are none: they check nothing, and nobody notices.
    pub(super) fn check_keywords(&self, schemas: &Schemas) {
        for key in schemas.names() {
            let outside = schemas.model(key).into_iter().flat_map(|(_, outside)| outside);
            for outside in outside.filter(|outside| outside.is_slip) {
                let place = self.place(key, &outside.at);
                let problem = Problem::error(place, outside.at.as_str(), outside.message.as_str());
                self.reader.note(problem.fix(outside.fix.as_str()));
            }
        }
    }

    /// What a source's messages promise of their versions.
    pub(super) fn check_versions(&self, source: &Source, schemas: &Schemas) {
        for (event_type, meaning) in &source.messages {
            self.check_upcasts(meaning);
            let mode = meaning.versions.compatibility;
            if meaning.schemas.len() < 2 || !(mode.backward || mode.forward) {
                continue;
            }
            self.check_comparable(meaning, schemas);
            for finding in verdicts(meaning, schemas) {
                self.note(&finding, event_type, meaning);
            }
        }
    }

    fn check_upcasts(&self, meaning: &Meaning) {
        let newest = meaning.schemas.keys().max_by(|a, b| in_order(a, b));
        for (version, upcast) in &meaning.versions.upcasts {
            let known = meaning.schemas.keys().cloned().collect::<Vec<_>>().join(", ");
            let (message, fix) = if !meaning.schemas.contains_key(version) {
                let message = format!("there is no schema version {version} to lift");
                (message, format!("name one that has a schema: {known}"))
            } else if newest == Some(version) {
                let message = format!("version {version} is the newest: there is nothing to lift it to");
                (message, "delete it, or name an older version".to_owned())
            } else {
                continue;
            };
            self.reader.note(Problem::error(upcast.place.clone(), upcast.path.as_str(), message).fix(fix));
        }
    }

    fn check_comparable(&self, meaning: &Meaning, schemas: &Schemas) {
        for file in meaning.schemas.values() {
            let outside = schemas.model(&file.value).into_iter().flat_map(|(_, outside)| outside);
            for outside in outside.filter(|outside| !outside.is_slip) {
                let place = self.place(&file.value, &outside.at);
                let problem = Problem::error(place, outside.at.as_str(), outside.message.as_str());
                self.reader.note(problem.fix(outside.fix.as_str()));
            }
        }
    }

    fn note(&self, finding: &Finding, event_type: &str, meaning: &Meaning) {
        let found = &finding.found;
        let pointer = if finding.is_backward { &found.reader_at } else { &found.writer_at };
        let Some(newer) = meaning.schemas.get(&finding.newer) else { return };
        let message = format!("{event_type}: {}: {}", finding.whom(), found.message);
        let fix = if finding.is_backward {
            format!("{}; or lift version {} by an `upcast`", found.fix, finding.older)
        } else {
            found.fix.clone()
        };
        let place = self.place(&newer.value, &format!("{pointer}/{}", found.keyword));
        self.reader.note(Problem::error(place, format!("{pointer}/{}", found.keyword), message).fix(fix));
    }

    /// Where a JSON pointer leads to in a schema's file, or as near as there is something.
    fn place(&self, key: &str, pointer: &str) -> Place {
        let name = format!("schemas/{key}");
        place(self.files, &name, &(self.named)(&name), pointer)
    }
}

/// Where a JSON pointer leads to in a file. JSON is read as the YAML it is, for its places only.
fn place(files: &Files, name: &str, shown: &str, pointer: &str) -> Place {
    let start = Place::start_of(shown);
    let Some(node) = files.get(name).and_then(|text| Reader::default().read(shown, text)) else {
        return start;
    };
    let mut at: &Node = &node;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        let item = || at.as_list()?.get(part.parse::<usize>().ok()?);
        match at.get(&part).or_else(item) {
            Some(inner) => at = inner,
            None => break,
        }
    }
    at.place.clone()
}

/// What the compatibility that a message declares forbids between its versions.
pub fn verdicts(meaning: &Meaning, schemas: &Schemas) -> Vec<Finding> {
    let mut versions: Vec<(String, Schema)> = meaning
        .schemas
        .iter()
        .filter_map(|(version, file)| Some((version.clone(), schemas.model(&file.value)?.0.clone())))
        .collect();
    versions.sort_by(|(a, _), (b, _)| in_order(a, b));
    let lifted: BTreeSet<String> = meaning.versions.upcasts.keys().cloned().collect();
    findings(&versions, meaning.versions.compatibility, &exempt(meaning), &lifted)
}

/// Where a message says its own version, which differs from version to version.
pub(super) fn exempt(meaning: &Meaning) -> Vec<String> {
    let references =
        meaning.version.as_ref().map(syncline_actors::expr::Expr::references).unwrap_or_default();
    let of_body = references.iter().filter(|path| path.first().is_some_and(|root| root == "body"));
    of_body.map(|path| path[1..].iter().flat_map(|part| ["/", part]).collect()).collect()
}

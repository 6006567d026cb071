//! What the expressions of a source look at, held against the schemas of its messages: a name that no schema declares is most often a
//! slip of the pen, which would quarantine every message at run time, or leave out in silence what was meant to be there.

use std::collections::BTreeMap;

use syncline_actors::document::{Kind, Node, Problem, suggest};
use syncline_actors::expr::{Expr, Names};
use syncline_actors::schema::Schema;

use super::Loader;
use crate::ingress::gate::Schemas;
use crate::ingress::source::{NAMES, Source};

/// What names stand for: the body, and the items of loops; any of several schemas, as a message has several versions.
type Sight<'s> = BTreeMap<String, Vec<&'s Schema>>;

impl Loader<'_> {
    /// Everything in `node`, the file of `source`, that reads what no schema of its message has.
    pub(super) fn check_reads(&self, node: &Node, source: &Source, schemas: &Schemas) {
        for (event_type, meaning) in &source.messages {
            let models: Option<Vec<&Schema>> =
                meaning.schemas.values().map(|file| Some(schemas.model(&file.value)?.0)).collect();
            let Some(models) = models.filter(|models| !models.is_empty()) else { continue };
            let Some(message) = node.get("messages").and_then(|messages| messages.get(event_type)) else {
                continue;
            };
            let sight = Sight::from([("body".to_owned(), models)]);
            for part in ["version", "send"].iter().filter_map(|part| Some((part, message.get(part)?))) {
                self.reads(part.1, &format!("messages[{event_type:?}].{}", part.0), &sight);
            }
        }
    }

    fn reads(&self, node: &Node, path: &str, sight: &Sight<'_>) {
        match &node.kind {
            Kind::Map(entries) if node.get("each").is_some() => {
                let inner = with_items(node, sight);
                for (key, part) in entries {
                    let sight = if matches!(&*key.text, "where" | "map") { &inner } else { sight };
                    self.reads(part, &format!("{path}.{}", key.text), sight);
                }
            }
            Kind::Map(entries) => {
                // These are names, not expressions.
                let said =
                    entries.iter().filter(|(key, _)| !matches!(&*key.text, "event" | "command" | "process"));
                said.for_each(|(key, part)| self.reads(part, &format!("{path}.{}", key.text), sight));
            }
            Kind::List(items) => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(i, item)| self.reads(item, &format!("{path}[{i}]"), sight));
            }
            Kind::Text(text) => self.expression_reads(node, path, text, sight),
            _ => {}
        }
    }

    fn expression_reads(&self, node: &Node, path: &str, text: &str, sight: &Sight<'_>) {
        for reference in references(text, sight) {
            let Some((root, members)) = reference.split_first() else { continue };
            let Some(schemas) = sight.get(root) else { continue };
            if let Err(Unknown { at, near }) =
                members.iter().try_fold(schemas.clone(), |found, part| member(&found, part))
            {
                let message =
                    format!("`{}` reads `{at}`, which no schema of the message has", reference.join("."));
                let fix = near.map_or_else(
                    || format!("declare `{at}` in the schema, or delete it here"),
                    |near| format!("did you mean `{near}`? else declare `{at}` in the schema"),
                );
                self.reader.note(Problem::warning(node.place.clone(), path, message).fix(fix));
            }
        }
    }
}

/// What an expression looks at; nothing of one that does not read, which is told elsewhere.
fn references(text: &str, sight: &Sight<'_>) -> Vec<Vec<String>> {
    let names = Names::new(NAMES.into_iter().chain(sight.keys().map(String::as_str)));
    Expr::compile(text, &names).map(|expr| expr.references()).unwrap_or_default()
}

/// A member that no schema has.
struct Unknown {
    at: String,
    near: Option<String>,
}

/// What stands under `part`, in any of these schemas; nothing is known where one of them does not say what it has.
fn member<'s>(schemas: &[&'s Schema], part: &str) -> Result<Vec<&'s Schema>, Unknown> {
    let (mut found, mut names) = (Vec::new(), Vec::new());
    for schema in schemas {
        match schema {
            Schema::Never => {}
            Schema::Of(rules) if !rules.properties.is_empty() => {
                let required = rules.required.contains(part).then_some(&Schema::Any);
                found.extend(rules.properties.get(part).or(required));
                names.extend(rules.properties.keys().map(String::as_str));
            }
            _ => found.push(&Schema::Any),
        }
    }
    if found.is_empty() && !schemas.is_empty() {
        return Err(Unknown { at: part.to_owned(), near: suggest(part, names).map(ToOwned::to_owned) });
    }
    Ok(found)
}

/// The same names and the item of the loop, as far as its list is a plain path.
fn with_items<'s>(each: &Node, sight: &Sight<'s>) -> Sight<'s> {
    let text = |key| each.get(key).and_then(Node::as_text);
    let mut inner = sight.clone();
    let Some(name) = text("as") else { return inner };
    inner.remove(name); // it stands for the item now
    let list = text("each").map(str::trim);
    let plain = list.and_then(|list| references(list, sight).into_iter().find(|path| path.join(".") == list));
    let found = plain.and_then(|path| {
        let (root, members) = path.split_first()?;
        let found = members.iter().try_fold(sight.get(root)?.clone(), |found, part| member(&found, part));
        Some(found.ok()?.into_iter().map(items).collect())
    });
    inner.insert(name.to_owned(), found.unwrap_or_else(|| vec![&Schema::Any]));
    inner
}

fn items(list: &Schema) -> &Schema {
    list.rules().map_or(&Schema::Any, |rules| &rules.items)
}

#[cfg(test)]
mod tests {
    use crate::integration::tests::problems_with;

    const CRM: &str = "sources/crm.yaml";

    #[test]
    fn a_name_that_no_schema_has_is_told_where_it_stands() {
        for (from, to, told) in [
            (
                "\"body.data.CurrencyIsoCode\"",
                "\"body.data.CurrencyIsoCod\"",
                "config/sources/crm.yaml:25:21  warning: messages[\"opportunity.confirmed\"].send[0].map.currency: `body.data.CurrencyIsoCod` reads `CurrencyIsoCod`, which no schema of the message has\n    fix: did you mean `CurrencyIsoCode`?",
            ),
            ("\"body.data.OrderNumber__c\"", "\"body.data.OrderNo\"", "reads `OrderNo`"),
            ("\"item.ProductCode\"", "\"item.ProduktCode\"", "did you mean `ProductCode`?"),
            (
                "each: body.data.OpportunityLineItems",
                "each: body.data.OpportunityLineItem",
                "did you mean `OpportunityLineItems`?",
            ),
            ("\"body.timestamp\"", "\"body.timestmp\"", "did you mean `timestamp`?"),
            (
                "default(body.schema_version, 1)",
                "default(body.schema_verson, 1)",
                "did you mean `schema_version`?",
            ),
        ] {
            let seen = problems_with(CRM, from, to);
            assert!(seen.contains(told), "{told}\n---\n{seen}");
        }
    }

    #[test]
    fn what_is_declared_anywhere_or_not_described_at_all_is_not_told() {
        for (from, to) in [
            (
                "\"body.data.CurrencyIsoCode\"",
                "\"has(body.data.Amount) ? body.data.CurrencyIsoCode : 'EUR'\"",
            ),
            (
                "\"body.data.CurrencyIsoCode\"",
                "\"body.data.OpportunityLineItems.map(item, item.ProductCode)[0]\"",
            ),
            ("\"body.data.CurrencyIsoCode\"", "\"headers['x-anything']\""),
        ] {
            assert_eq!(problems_with(CRM, from, to), "", "{to}");
        }
    }
}

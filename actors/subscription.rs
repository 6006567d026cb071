//! Who wants the changes of a record: a system that is told what it asks for, whenever that has changed.
//!
//! A subscription stands in the file of its connector, so that a new system is a new file and nothing else. The record in the middle
//! is canonical; each system has one mapping of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::document::{Item, Kind, Place, Reader};
use crate::expr::{Expr, Names};
use crate::letter::{LINKED, XREF};
use crate::mapping::Mapping;
use crate::process::ENTITY;
use crate::reading;

/// Prefix of the effects that bring a system up to date: `sync_erp`.
pub const EFFECT: &str = "sync_";

/// The field of a record that holds the ids it has in other systems, by system.
pub const IDS: &str = "ids";

/// A system that wants the changes of a kind of record.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The system: the name of its connector; `xref:<system>` for the ids that it has there.
    pub system: Arc<str>,
    /// Who is called.
    pub connector: Arc<str>,
    /// The name of its effect: `sync_<system>`.
    pub effect: Arc<str>,
    /// Which records it wants; all when there is none.
    pub when: Option<Expr>,
    /// The operation that tells it.
    pub operation: Arc<str>,
    /// The operation for a record that it has not given an id yet, if that is another.
    pub create: Option<Arc<str>>,
    /// What it is told, besides `id`, the record's id in that system or null.
    pub input: Mapping,
    /// The record's id in that system, from its answer.
    pub id: Option<Expr>,
    /// Whether the record counts as in sync only when this system has it.
    pub required: bool,
    /// The team that looks when it does not take it.
    pub owner: Arc<str>,
    /// The fields that are looked at, and `entity` if something of it is.
    pub looks_at: BTreeSet<String>,
    /// Where it is defined.
    pub place: Place,
}

impl Subscription {
    /// The operation for a record with or without an id in that system.
    pub fn operation(&self, has_id: bool) -> &Arc<str> {
        self.create.as_ref().filter(|_| !has_id).unwrap_or(&self.operation)
    }

    /// The operations that it calls.
    pub fn operations(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.operation).chain(&self.create)
    }

    /// Where in the record its id in that system is kept.
    pub fn id_path(&self) -> String {
        format!("{IDS}.{}", self.system)
    }
}

/// Reads what the connector `system` says it wants of the records of `kind`. What is wrong goes to the item's reader.
pub fn parse(kind: &str, system: &str, owner: &str, item: &Item<'_>) -> Option<Subscription> {
    let mut fields = item.fields()?;
    let names = Names::new([kind, "entity"]); // no `now`: it would have changed at every look
    let when = fields.optional("when").map(|item| reading::guard(&item, &names));
    let operation = fields.text("operation");
    let create = fields.optional_text("create");
    let with = fields.required("with");
    let input = with.as_ref().filter(|with| is_map(with)).and_then(|with| reading::mapping(with, &names));
    let id = fields.optional("id").map(|item| reading::expr(&item, &Names::new(["result"])));
    let required = fields.boolean("required", true);
    fields.finish();
    if let Some(clash) = with.as_ref().and_then(|with| with.node().get("id")) {
        let message = "`id` is given by the program: the record's id in this system, or null";
        Item::at(clash, format!("{}.with.id", item.path()), item.reader()).refuse(message, "delete it");
    }
    let (when, input) = (given(when)?, input?);
    let looks_at = looks_at(kind, when.as_ref(), &input);
    Some(Subscription {
        system: system.into(),
        connector: system.into(),
        effect: format!("{EFFECT}{system}").into(),
        operation: operation?.value.into(),
        create: create.map(|create| create.value.into()),
        id: given(id)?,
        when,
        input,
        required,
        owner: owner.into(),
        looks_at,
        place: item.place().clone(),
    })
}

/// The cross-reference as a subscriber: it is told what `system` calls each record of `kind`, so that what is addressed by that id
/// finds its entity.
pub fn cross_reference(kind: &str, system: &str) -> Subscription {
    let text = format!(
        r#"{{
        when: "default({kind}.ids.{system}, '') != ''",
        operation: {LINKED},
        required: false,
        with: {{
          to: "'{XREF}/' + (entity.key.startsWith('@') ? split(entity.key, ':')[0] + ':' : '') + '{system}:{kind}:' + string({kind}.ids.{system})",
          event: "'{LINKED}'",
          data: {{entity: "'{kind}/' + entity.key"}}}}}}"#
    );
    let reader = Reader::default();
    let node = reader.read("the cross-reference", &text).expect("it is YAML");
    let read = parse(kind, &format!("{XREF}:{system}"), "", &Item::root(&node, &reader));
    let read =
        read.unwrap_or_else(|| panic!("the cross-reference of `{kind}` reads: {:?}", reader.problems()));
    Subscription { connector: ENTITY.into(), ..read }
}

/// Nothing said is nothing; what was said and does not read leaves no subscription.
#[expect(clippy::option_option, reason = "absent and unreadable are two things")]
fn given<T>(said: Option<Option<T>>) -> Option<Option<T>> {
    match said {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

fn is_map(with: &Item<'_>) -> bool {
    let is_map = matches!(with.node().kind, Kind::Map(_)) && with.node().get("each").is_none();
    if !is_map {
        let message = format!("{} stands where a map belongs", with.node().describe());
        with.refuse(message, "write `with: {name: \"customer.name\"}`");
    }
    is_map
}

fn looks_at(kind: &str, when: Option<&Expr>, input: &Mapping) -> BTreeSet<String> {
    let paths = when.iter().flat_map(|when| when.references()).chain(input.references());
    let seen = |path: Vec<String>| match (path.first()?.as_str(), path.get(1)) {
        (root, member) if root == kind => member.cloned(),
        // Its kind, its key and when it began stay as they are.
        ("entity", Some(member)) if matches!(member.as_str(), "kind" | "key" | "began_at") => None,
        (root, _) => Some(root.to_owned()),
    };
    paths.filter_map(seen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Scope;
    use crate::letter::{self, Letter};
    use crate::value::Value;

    fn read(text: &str) -> (Option<Subscription>, String) {
        let reader = Reader::default();
        let node = reader.read("erp.yaml", text).expect("it is YAML");
        let read = parse("customer", "erp", "finance", &Item::root(&node, &reader));
        (read, reader.into_problems().to_string())
    }

    #[test]
    fn a_subscription_knows_what_it_looks_at() {
        let text = "when: \"customer.active && entity.status != 'new'\"\noperation: update\ncreate: make\n\
                    with: {key: entity.key, name: customer.name, city: customer.billing.city}\nid: result.id\n";
        let (read, told) = read(text);
        let read = read.unwrap_or_else(|| panic!("{told}"));
        assert_eq!(
            read.looks_at.iter().map(String::as_str).collect::<Vec<_>>(),
            ["active", "billing", "entity", "name"]
        );
        assert_eq!((&**read.operation(false), &**read.operation(true)), ("make", "update"));
        assert_eq!((&*read.effect, read.id_path().as_str(), read.required), ("sync_erp", "ids.erp", true));
    }

    #[test]
    fn a_cross_reference_is_told_the_id_and_the_entity() {
        let link = cross_reference("customer", "erp");
        assert_eq!((&*link.system, &*link.connector, &*link.effect), ("xref:erp", ENTITY, "sync_xref:erp"));
        assert_eq!(link.looks_at.iter().map(String::as_str).collect::<Vec<_>>(), ["ids"]);
        let ids = |id: Value| Value::map([("ids", Value::map([("erp", id)]))]);
        let told = |key: &str, id: Value| {
            let (customer, entity) = (ids(id), Value::map([("key", Value::from(key))]));
            let scope = Scope::new().with("customer", &customer).with("entity", &entity);
            let wanted = link.when.as_ref().is_some_and(|when| when.eval_bool(&scope) == Ok(true));
            wanted.then(|| Letter::read(&link.input.eval(&scope).expect("it maps")).expect("it is a letter"))
        };
        assert_eq!(told("C-7", Value::Null), None);
        for (key, id, alias) in [
            ("C-7", Value::from("10017"), letter::alias("erp", "customer", "10017")),
            ("@eu:C-7", Value::from("10017"), letter::alias("erp", "customer", "@eu:10017")),
        ] {
            let letter = told(key, id).expect("it is told");
            assert_eq!(Ok(letter.to), alias);
            assert_eq!(letter.body.name(), "xref.linked");
            let entity = letter.body.data().and_then(|data| data.get("entity").cloned());
            assert_eq!(entity, Some(Value::from(format!("customer/{key}"))));
        }
    }

    #[test]
    fn what_does_not_read_is_told() {
        for (text, told) in [
            ("with: {}\n", "the key `operation` is missing"),
            ("operation: update\n", "the key `with` is missing"),
            ("operation: update\nwith: customer.name\n", "stands where a map belongs"),
            ("operation: update\nwith: {id: entity.key}\n", "`id` is given by the program"),
            ("operation: update\nwith: {a: order.name}\n", "order"),
            ("operation: update\nwith: {}\nid: body.id\n", "body"),
            ("operation: update\nwith: {}\nwenn: \"true\"\n", "wenn"),
        ] {
            let (_, found) = read(text);
            assert!(found.contains(told), "{told}\n---\n{found}");
        }
    }
}

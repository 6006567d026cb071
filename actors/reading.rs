//! What every kind of definition shares when it is read: owners, expressions and mappings.

use crate::document::{Fields, Item, Kind, Problem, Reader, Spanned};
use crate::expr::{Expr, Names};
use crate::mapping::Mapping;
use crate::process::Owner;
use crate::value::{Entries, Value};

/// `{team: …, escalate: …}`: who answers for it.
pub fn owner(mut fields: Fields<'_>) -> Owner {
    let team = fields.text("team").map(|team| team.value.into()).unwrap_or_default();
    let escalate = fields.optional_text("escalate").map(|to| to.value.into()).unwrap_or_default();
    fields.finish();
    Owner { team, escalate }
}

/// Notes an error about a text that has been read.
pub fn refuse(reader: &Reader, text: &Spanned<String>, message: impl Into<String>, fix: impl Into<String>) {
    reader.note(Problem::error(text.place.clone(), text.path.clone(), message).fix(fix));
}

/// Compiles an expression; what is wrong with it is reported where it stands.
pub fn expr(item: &Item<'_>, names: &Names) -> Option<Expr> {
    let text = item.text()?;
    match Expr::compile(&text.value, names) {
        Ok(expr) => Some(expr),
        Err(error) => {
            let fix = error.hint().unwrap_or_else(|| "correct the expression".to_owned());
            item.refuse(error.to_string(), fix);
            None
        }
    }
}

/// Compiles an expression that must be true or false, as far as that shows before it runs.
pub fn guard(item: &Item<'_>, names: &Names) -> Option<Expr> {
    let guard = expr(item, names)?;
    if let Err(error) = guard.check_bool() {
        item.refuse(error.to_string(), "compare something: `order.total > 100`, `status == 200`");
        return None;
    }
    Some(guard)
}

/// Compiles a mapping: text is an expression, maps and lists are structure, `{each, as, where, map}` goes through a list. A key
/// that ends in `?` may be absent. Numbers, booleans and null stand for themselves.
pub fn mapping(item: &Item<'_>, names: &Names) -> Option<Mapping> {
    match &item.node().kind {
        Kind::Text(_) => expr(item, names).map(Mapping::expr),
        Kind::Null => Some(Mapping::literal(Value::Null)),
        Kind::Bool(_) | Kind::Number(_) => {
            if let Some(value) = value(item.node()) {
                Some(Mapping::literal(value))
            } else {
                item.refuse("the number has too many digits", "write at most 28 digits, or put it in quotes");
                None
            }
        }
        Kind::List(_) => {
            let items: Vec<Option<Mapping>> = item.list()?.iter().map(|item| mapping(item, names)).collect();
            items.into_iter().collect::<Option<Vec<_>>>().map(Mapping::list)
        }
        Kind::Map(_) if item.node().get("each").is_some() => each(item, names),
        Kind::Map(_) => {
            let read = |(key, item): (Spanned<String>, Item<'_>)| {
                let inner = mapping(&item, names)?;
                Some(match key.value.strip_suffix('?') {
                    Some(name) => (name.to_owned(), Mapping::optional(inner)),
                    None => (key.value, inner),
                })
            };
            let entries: Vec<Option<(String, Mapping)>> = item.entries()?.into_iter().map(read).collect();
            entries.into_iter().collect::<Option<Vec<_>>>().map(Mapping::map)
        }
    }
}

fn each(item: &Item<'_>, names: &Names) -> Option<Mapping> {
    let mut fields = item.fields()?;
    let list = fields.required("each").and_then(|item| expr(&item, names));
    let name = fields.text("as");
    let inner = name.as_ref().map(|name| names.and(&name.value));
    let filter = fields.optional("where").zip(inner.as_ref()).map(|(item, inner)| guard(&item, inner));
    let map = fields.required("map").zip(inner.as_ref()).and_then(|(item, inner)| mapping(&item, inner));
    fields.finish();
    let filter = match filter {
        Some(filter) => Some(filter?),
        None => None,
    };
    Some(Mapping::each(list?, &name?.value, filter, map?))
}

/// A document's node as data: numbers exact, a number of more than 28 digits is none.
pub fn value(node: &crate::document::Node) -> Option<Value> {
    Some(match &node.kind {
        Kind::Null => Value::Null,
        Kind::Bool(value) => Value::Bool(*value),
        Kind::Number(text) => Value::from_json(text.as_bytes(), 64).ok()?,
        Kind::Text(text) => Value::from(text.as_str()),
        Kind::List(nodes) => Value::list(nodes.iter().map(value).collect::<Option<Vec<_>>>()?),
        Kind::Map(entries) => {
            let entry =
                |(key, node): &(crate::document::Key, _)| Some((key.text.as_str().into(), value(node)?));
            let entries = entries.iter().map(entry).collect::<Option<Entries>>()?;
            Value::Map(std::sync::Arc::new(entries))
        }
    })
}

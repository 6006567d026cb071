//! What every kind of definition shares when it is read: owners, expressions and mappings.

use crate::document::{Fields, Kind, Node, Problem, Problems, Severity, Spanned};
use crate::expr::{Expr, Names};
use crate::mapping::Mapping;
use crate::process::Owner;
use crate::value::Value;

/// `{team: …, escalate: …}`: who answers for it.
pub fn owner(node: &Node, path: &str, problems: &Problems) -> Owner {
    let Some(fields) = Fields::of(node, path, problems) else { return Owner::default() };
    let team = fields.text("team").map(|team| team.value.into()).unwrap_or_default();
    let escalate = fields.optional_text("escalate").map(|to| to.value.into()).unwrap_or_default();
    fields.finish();
    Owner { team, escalate }
}

/// Compiles an expression; what is wrong with it is reported where it stands.
pub fn expr(text: &Spanned<String>, names: &Names, problems: &Problems) -> Option<Expr> {
    match Expr::compile(&text.value, names) {
        Ok(expr) => Some(expr),
        Err(error) => {
            problems.push(Problem {
                place: text.place.clone(),
                path: text.path.clone(),
                message: error.to_string(),
                fix: error.hint(),
                severity: Severity::Error,
            });
            None
        }
    }
}

/// Compiles a mapping: text is an expression, maps and lists are structure, `{each, as, where, map}` goes through a list. A key
/// that ends in `?` may be absent. Numbers, booleans and null stand for themselves.
pub fn mapping(node: &Node, path: &str, names: &Names, problems: &Problems) -> Option<Mapping> {
    match &node.kind {
        Kind::Text(text) => {
            let text = Spanned { value: text.clone(), place: node.place.clone(), path: path.to_owned() };
            expr(&text, names, problems).map(Mapping::expr)
        }
        Kind::Null => Some(Mapping::literal(Value::Null)),
        Kind::Bool(_) | Kind::Number(_) => Some(Mapping::literal(node.to_value())),
        Kind::List(nodes) => {
            let read = |(index, node)| mapping(node, &format!("{path}[{index}]"), names, problems);
            let items: Vec<Option<Mapping>> = nodes.iter().enumerate().map(read).collect();
            items.into_iter().collect::<Option<Vec<_>>>().map(Mapping::list)
        }
        Kind::Map(_) if node.get("each").is_some() => each(node, path, names, problems),
        Kind::Map(_) => {
            let read = |(key, node): (crate::document::Entry, &Node)| {
                let inner = mapping(node, &format!("{path}.{}", key.text), names, problems)?;
                Some(match key.text.strip_suffix('?') {
                    Some(name) => (name.to_owned(), Mapping::optional(inner)),
                    None => (key.text.clone(), inner),
                })
            };
            let entries: Vec<Option<(String, Mapping)>> = node.entries().map(read).collect();
            entries.into_iter().collect::<Option<Vec<_>>>().map(Mapping::map)
        }
    }
}

fn each(node: &Node, path: &str, names: &Names, problems: &Problems) -> Option<Mapping> {
    let fields = Fields::of(node, path, problems)?;
    let list = fields.text("each").and_then(|text| expr(&text, names, problems));
    let item = fields.text("as")?;
    let inner = names.and(&item.value);
    let filter = match fields.optional_text("where") {
        Some(text) => Some(expr(&text, &inner, problems)?),
        None => None,
    };
    let map = fields.node("map").and_then(|map| mapping(map, &fields.path_of("map"), &inner, problems));
    fields.finish();
    Some(Mapping::each(list?, &item.value, filter, map?))
}

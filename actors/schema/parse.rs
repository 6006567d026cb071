//! From JSON to a [`Schema`]: what can be compared, and the names of what cannot.

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};

use super::{Range, Rules, Schema, Type, decimal};
use crate::document::suggest;

/// Sub-schemas that one schema may come to when its references are written out.
const NODES_MAX: usize = 20_000;

/// Keywords that say something for people, or where other parts are, and nothing of values.
const REMARKS: [&str; 14] = [
    "$schema",
    "$id",
    "$anchor",
    "$defs",
    "$comment",
    "$vocabulary",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
];

/// Keywords whose meaning is compared.
const COMPARED: [&str; 18] = [
    "type",
    "const",
    "enum",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "pattern",
];

/// Keywords of 2020-12 that are checked when a message comes, but whose change nobody can judge.
const OTHERS: [&str; 24] = [
    "$ref",
    "$dynamicRef",
    "$dynamicAnchor",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependentRequired",
    "prefixItems",
    "contains",
    "minContains",
    "maxContains",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentEncoding",
    "contentMediaType",
];

/// What of a schema is not understood here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// Where, as a JSON pointer into the file.
    pub at: String,
    /// What it is.
    pub message: String,
    /// What to do.
    pub fix: String,
    /// Whether it is no keyword at all: a slip, whatever versions there are. Else it only cannot be compared.
    pub is_slip: bool,
}

/// Compiles a schema. What lies outside of the part that is compared is named, and counts as no rule.
pub fn parse(root: &Json) -> (Schema, Vec<Outside>) {
    let mut parser = Parser { root, outside: Vec::new(), under: Vec::new(), nodes: 0 };
    let schema = parser.schema(root, "");
    // One place may be reached by several references.
    let mut seen = BTreeSet::new();
    parser.outside.retain(|outside| seen.insert((outside.at.clone(), outside.message.clone())));
    (schema, parser.outside)
}

struct Parser<'j> {
    root: &'j Json,
    outside: Vec<Outside>,
    /// The references being followed.
    under: Vec<String>,
    nodes: usize,
}

impl<'j> Parser<'j> {
    fn schema(&mut self, json: &'j Json, at: &str) -> Schema {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            if self.nodes == NODES_MAX + 1 {
                self.cannot(at, "the schema is too large to be compared when its references are written out");
            }
            return Schema::Any;
        }
        match json {
            Json::Bool(false) => Schema::Never,
            Json::Object(members) if members.contains_key("$ref") => self.reference(members, at),
            Json::Object(members) => Schema::Of(Box::new(self.rules(members, at))),
            // `true`; of anything else that is no schema, whoever compiles it for checking says what is wrong with it.
            _ => Schema::Any,
        }
    }

    fn reference(&mut self, members: &'j Map<String, Json>, at: &str) -> Schema {
        let beside = members.keys().find(|key| *key != "$ref" && !REMARKS.contains(&key.as_str()));
        if let Some(beside) = beside {
            self.cannot(
                at,
                &format!("`{beside}` beside `$ref` cannot be compared; write it into the definition"),
            );
            return Schema::Any;
        }
        let Some(target) = members["$ref"].as_str() else { return Schema::Any };
        let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(found) = found else {
            self.cannot(at, &format!("`$ref: {target}` leads out of the file"));
            return Schema::Any;
        };
        if self.under.iter().any(|under| under == target) {
            self.cannot(at, &format!("`{target}` contains itself, which cannot be compared"));
            return Schema::Any;
        }
        self.under.push(target.to_owned());
        let schema = self.schema(found, target.trim_start_matches('#'));
        self.under.pop();
        schema
    }

    fn rules(&mut self, members: &'j Map<String, Json>, at: &str) -> Rules {
        for key in members.keys() {
            self.keyword(key, at);
        }
        let whole = |key: &str| members.get(key).and_then(Json::as_u64);
        let number = |key: &str| members.get(key).and_then(number);
        let mut rules = Rules {
            types: members.get("type").map_or_else(|| Type::ALL.into(), types),
            values: values(members),
            count: Range { min: whole("minItems"), max: whole("maxItems") },
            length: Range { min: whole("minLength"), max: whole("maxLength") },
            size: Range { min: number("minimum"), max: number("maximum") },
            strict: Range { min: number("exclusiveMinimum"), max: number("exclusiveMaximum") },
            multiple_of: number("multipleOf"),
            pattern: members.get("pattern").and_then(Json::as_str).map(str::to_owned),
            unique: members.get("uniqueItems").and_then(Json::as_bool).unwrap_or_default(),
            ..Rules::none(at)
        };
        for (name, property) in members.get("properties").and_then(Json::as_object).into_iter().flatten() {
            let at = format!("{at}/properties/{}", escaped(name));
            rules.properties.insert(name.clone(), self.schema(property, &at));
        }
        let required = members.get("required").and_then(Json::as_array).into_iter().flatten();
        rules.required = required.filter_map(Json::as_str).map(str::to_owned).collect();
        if let Some(rest) = members.get("additionalProperties") {
            rules.rest = self.schema(rest, &format!("{at}/additionalProperties"));
        }
        if let Some(items) = members.get("items") {
            rules.items = self.schema(items, &format!("{at}/items"));
        }
        rules
    }

    fn keyword(&mut self, key: &str, at: &str) {
        if COMPARED.contains(&key) || REMARKS.contains(&key) {
            return;
        }
        let place = format!("{at}/{}", escaped(key));
        if OTHERS.contains(&key) {
            return self.cannot(&place, &format!("a change of `{key}` cannot be judged"));
        }
        let known = COMPARED.iter().chain(&OTHERS).chain(&REMARKS).copied();
        let fix = match suggest(key, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "delete it, or write it as `$comment`".to_owned(),
        };
        let message = format!("`{key}` is no keyword of JSON Schema 2020-12, so it checks nothing");
        self.outside.push(Outside { at: place, message, fix, is_slip: true });
    }

    fn cannot(&mut self, at: &str, message: &str) {
        self.outside.push(Outside {
            at: at.to_owned(),
            message: message.to_owned(),
            fix: format!(
                "use only {}, or declare `compatibility: none` for the message",
                COMPARED.join(", ")
            ),
            is_slip: false,
        });
    }
}

fn types(json: &Json) -> BTreeSet<Type> {
    let words: Vec<&str> = match json {
        Json::String(word) => vec![word],
        Json::Array(words) => words.iter().filter_map(Json::as_str).collect(),
        _ => return Type::ALL.into(),
    };
    let is_number = words.contains(&"number");
    let allows = |kind: &Type| words.contains(&kind.word()) || (is_number && *kind == Type::Integer);
    Type::ALL.into_iter().filter(allows).collect()
}

/// The only values allowed; of `const` and `enum` together those that both allow.
fn values(members: &Map<String, Json>) -> Option<Vec<Json>> {
    let all = members.get("enum").and_then(Json::as_array).cloned();
    match (members.get("const"), all) {
        (Some(one), Some(all)) => Some(all.into_iter().filter(|value| same(value, one)).collect()),
        (Some(one), None) => Some(vec![one.clone()]),
        (None, all) => all,
    }
}

/// Whether two values are one to JSON Schema: numbers by what they are, not by how they are written.
pub(super) fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a == b || decimal(a).is_some_and(|a| Some(a) == decimal(b)),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn number(json: &Json) -> Option<Decimal> {
    json.as_number().and_then(decimal)
}

/// A name as part of a JSON pointer.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

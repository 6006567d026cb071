//! `config/schemas/**.json`, broken: what is no JSON, and what is no JSON Schema.

use serde_json::{Value, json};
use syncline_actors::document::Problem;

use super::{problems, shipped, text};

fn schemas() -> impl Iterator<Item = (String, String)> {
    shipped().into_iter().filter(|(name, _)| name.starts_with("schemas/"))
}

/// What is told of the shipped files with `text` as the schema `name`, if it is told of the schema.
fn told(name: &str, text: &str) -> Vec<Problem> {
    let mut files = shipped();
    // What else there is says nothing of a schema, and takes long to read.
    files.retain(|other, _| other.starts_with("schemas/") || other.starts_with("sources/"));
    files.insert(name.to_owned(), text.to_owned());
    problems(&files).into_iter().filter(|problem| *problem.place.file == format!("config/{name}")).collect()
}

#[test]
fn a_schema_that_is_no_json_is_told_where_it_ends() {
    for (name, whole) in schemas() {
        // Without its last line break it is as whole as before.
        let is_cut = |text: &str| serde_json::from_str::<Value>(text).is_err();
        for cut in text::cuts(&whole).into_iter().step_by(7).filter(|cut| is_cut(&cut.text)) {
            let told = told(&name, &cut.text);
            let near = |problem: &Problem| problem.place.line.abs_diff(cut.line) <= 1;
            assert!(told.iter().any(near), "{name} cut in line {}: {told:?}", cut.line);
        }
        for (what, text) in
            [("empty", ""), ("YAML", "type: object\n"), ("a comment", "// none\n{}"), ("two", "{}{}")]
        {
            assert!(!told(&name, text).is_empty(), "{name}: {what}");
        }
    }
}

/// GAP: the line is always the first, and a keyword that stands twice or is misspelt is not told.
#[test]
fn a_keyword_of_the_wrong_kind_is_told() {
    for (name, whole) in schemas() {
        let whole: Value = serde_json::from_str(&whole).expect("it is JSON");
        for (keyword, value) in [
            ("type", json!("strng")),
            ("type", json!(17)),
            ("required", json!("data")),
            ("required", json!([1])),
            ("properties", json!([])),
            ("properties", json!({"data": {"type": "txt"}})),
            ("properties", json!({"data": {"maxLength": -1}})),
            ("properties", json!({"data": {"pattern": "["}})),
            ("properties", json!({"data": {"$ref": "gone.json"}})),
            ("additionalProperties", json!("no")),
            ("$schema", json!(17)),
            ("$ref", json!("#/$defs/gone")),
        ] {
            let mut broken = whole.clone();
            broken[keyword] = value.clone();
            assert!(!told(&name, &broken.to_string()).is_empty(), "{name}: {keyword}: {value}");
        }
    }
}

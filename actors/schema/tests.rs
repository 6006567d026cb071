use serde_json::{Value as Json, json};

use super::*;

fn schema(json: &Json) -> Schema {
    let (schema, outside) = parse(json);
    assert_eq!(outside, [], "{json}");
    schema
}

/// Keyword and path of everything that a reader of `reader` refuses of what a writer of `writer` sends.
fn refused(writer: &Json, reader: &Json) -> Vec<String> {
    let sides = Sides { writer: "1", reader: "2", reader_is_newer: true };
    let found = compare(&schema(writer), &schema(reader), sides, &[]);
    found.iter().map(|found| format!("{} {}", found.keyword, found.path)).collect()
}

#[test]
fn nothing_is_refused_of_what_is_as_it_was() {
    let rich = json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {
            "a": {"type": ["string", "null"], "minLength": 1, "pattern": "^x"},
            "b": {"type": "number", "minimum": 0.5, "exclusiveMaximum": 9, "multipleOf": 0.5},
            "c": {"type": "array", "items": {"$ref": "#/$defs/line"}, "maxItems": 3, "uniqueItems": true},
            "d": {"enum": ["x", 1, null]}
        },
        "$defs": {"line": {"type": "object", "properties": {"n": {"const": 1}}}}
    });
    assert_eq!(refused(&rich, &rich), [""; 0]);
}

#[test]
fn each_way_to_break_a_sender_is_found() {
    let map = |inner: Json| json!({"properties": {"a": inner}});
    for (writer, reader, told) in [
        (json!({"type": "number"}), json!({"type": "string"}), "type "),
        (json!({"type": "number"}), json!({"type": "integer"}), "type "),
        (json!({}), json!({"type": "object"}), "type "),
        (json!({"type": "string"}), json!({"type": "string", "minLength": 1}), "minLength "),
        (json!({"type": "string", "maxLength": 5}), json!({"type": "string", "maxLength": 4}), "maxLength "),
        (json!({"type": "string"}), json!({"type": "string", "pattern": "^a"}), "pattern "),
        (
            json!({"type": "number", "minimum": 0}),
            json!({"type": "number", "exclusiveMinimum": 0}),
            "minimum ",
        ),
        (json!({"type": "number", "maximum": 2.5}), json!({"type": "number", "maximum": 2.25}), "maximum "),
        (
            json!({"type": "number", "multipleOf": 3}),
            json!({"type": "number", "multipleOf": 2}),
            "multipleOf ",
        ),
        (json!({"enum": ["a", "b"]}), json!({"enum": ["a"]}), "enum "),
        (json!({"type": "string"}), json!({"type": "string", "const": "a"}), "enum "),
        (json!({"enum": ["ab"]}), json!({"type": "string", "maxLength": 1}), "enum "),
        (json!({"type": "array"}), json!({"type": "array", "minItems": 1}), "minItems "),
        (json!({"type": "array"}), json!({"type": "array", "uniqueItems": true}), "uniqueItems "),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"type": "array", "items": {"type": "null"}}),
            "type /*",
        ),
        (map(json!({"type": "string"})), map(json!({"type": "null"})), "type /a"),
        (json!({"type": "object"}), json!({"type": "object", "required": ["a"]}), "required /a"),
        (
            json!({"type": "object"}),
            json!({"type": "object", "additionalProperties": false}),
            "additionalProperties /*",
        ),
        (
            json!({"type": "object", "additionalProperties": false, "properties": {"a": true}}),
            json!({"type": "object", "additionalProperties": false}),
            "additionalProperties /a",
        ),
        // The older content model is open: anything may have been sent under the new name.
        (
            json!({"type": "object"}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            "type /a",
        ),
    ] {
        assert_eq!(refused(&writer, &reader), [told], "{writer} read by {reader}");
    }
}

#[test]
fn what_a_reader_does_not_mind_is_not_told() {
    for (writer, reader) in [
        (json!({"type": "integer"}), json!({"type": "number"})),
        (json!({"type": "string", "minLength": 2}), json!({"type": ["string", "null"], "minLength": 1})),
        (json!({"enum": [1, 2]}), json!({"type": "integer", "minimum": 1})),
        (json!({"const": 1}), json!({"enum": [1.0, "x"]})),
        (json!({"type": "number", "multipleOf": 4}), json!({"type": "number", "multipleOf": 2})),
        (json!({"type": "object", "required": ["a"]}), json!({"type": "object"})),
        // A closed model sends nothing under a name that it does not know.
        (
            json!({"type": "object", "additionalProperties": false}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
        ),
        (json!(false), json!({"type": "string"})),
        (json!({"type": "array", "maxItems": 0}), json!({"type": "array", "items": {"type": "string"}})),
    ] {
        assert_eq!(refused(&writer, &reader), [""; 0], "{writer} read by {reader}");
    }
}

fn versions(all: &[Json]) -> Vec<(String, Schema)> {
    all.iter().enumerate().map(|(n, json)| ((n + 1).to_string(), schema(json))).collect()
}

fn mode(word: &str) -> Compatibility {
    MODES.iter().find(|(name, _)| *name == word).expect("it is a mode").1
}

fn told(all: &[(String, Schema)], mode: Compatibility) -> Vec<String> {
    let found = findings(all, mode, &[], &BTreeSet::new());
    found.iter().map(|f| format!("{}{}{}", f.older, if f.is_backward { ">" } else { "<" }, f.newer)).collect()
}

#[test]
fn a_mode_asks_for_its_directions_and_pairs() {
    let closed = |extra: &str| json!({"type": "object", "additionalProperties": false, "properties": {"a": true, (extra): true}});
    let wide = json!({"type": "object", "additionalProperties": false, "properties": {"a": true}});
    let all = versions(&[wide.clone(), closed("b"), closed("b")]);
    assert_eq!(told(&all, mode("backward")), [""; 0]);
    assert_eq!(told(&all, mode("forward")), ["1<2"]);
    assert_eq!(told(&all, mode("full")), ["1<2"]);
    assert_eq!(told(&all, mode("forward_transitive")), ["1<2", "1<3"]);
    assert_eq!(told(&all, mode("none")), [""; 0]);
    let all = versions(&[closed("b"), wide.clone(), wide]);
    assert_eq!(told(&all, mode("backward")), ["1>2"]);
    assert_eq!(told(&all, mode("full_transitive")), ["1>2", "1>3"]);
    let lifted = BTreeSet::from(["1".to_owned()]);
    assert_eq!(findings(&all, mode("backward_transitive"), &[], &lifted), [], "an up-caster answers for it");
}

#[test]
fn undeclared_properties_may_be_taken_as_absent_and_the_versions_own_number_is_let_be() {
    let version = |n: u32, more: Json| {
        let mut schema = json!({"type": "object", "properties": {"v": {"const": n}}});
        for (name, property) in more.as_object().expect("it is a map") {
            schema["properties"][name] = property.clone();
        }
        schema
    };
    let all = versions(&[version(1, json!({})), version(2, json!({"a": {"type": "string"}}))]);
    let backward = mode("backward");
    assert_eq!(told(&all, backward), ["1>2", "1>2"], "the number and the new property");
    let found = findings(&all, backward, &["/v".to_owned()], &BTreeSet::new());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].found.message.contains("open content model"), "{found:?}");
    let declared = Compatibility { declared_only: true, ..backward };
    assert_eq!(findings(&all, declared, &["/v".to_owned()], &BTreeSet::new()), []);
}

#[test]
fn what_cannot_be_compared_is_named_with_its_place() {
    let (_, outside) = parse(&json!({
        "properties": {"a": {"oneOf": [{}]}, "b": {"$ref": "#/$defs/self"}, "c/d": {"minimun": 1}},
        "$defs": {"self": {"items": {"$ref": "#/$defs/self"}}}
    }));
    let told: Vec<_> = outside.iter().map(|o| (o.at.as_str(), o.is_slip)).collect();
    assert_eq!(
        told,
        [("/properties/a/oneOf", false), ("/$defs/self/items", false), ("/properties/c~1d/minimun", true)]
    );
    assert_eq!(outside[2].fix, "did you mean `minimum`?");
}

#[test]
fn references_that_multiply_end() {
    let mut defs = serde_json::Map::new();
    for n in 0..30 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        defs.insert(format!("d{n}"), json!({"properties": {"a": next, "b": next}}));
    }
    defs.insert("d30".to_owned(), json!({"type": "string"}));
    let (_, outside) = parse(&json!({"$ref": "#/$defs/d0", "$defs": defs}));
    assert!(outside.iter().any(|o| o.message.contains("too large")), "{outside:?}");
}

#[test]
fn versions_are_ordered_as_people_do() {
    let mut names = ["10", "2", "1.10", "1.9", "beta"];
    names.sort_by(|a, b| in_order(a, b));
    assert_eq!(names, ["1.9", "1.10", "2", "10", "beta"]);
}

//! The laws of schema compatibility, held against the validator that checks messages: where nothing is found, whatever is valid for the
//! writer is valid for the reader.

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use syncline_actors::schema::{MODES, Schema, Sides, compare, findings, parse};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Schemas of the part that is compared, small enough that two of them often have to do with each other.
fn schema(depth: u32) -> BoxedStrategy<Json> {
    let types = prop::sample::subsequence(
        vec!["null", "boolean", "integer", "number", "string", "array", "object"],
        1..4,
    );
    let scalar = prop_oneof![
        Just(json!(true)),
        types.prop_map(|types| json!({"type": types})),
        (0..4i64, 0..4i64)
            .prop_map(|(min, more)| json!({"type": "number", "minimum": min, "maximum": min + more})),
        (0..4i64).prop_map(|min| json!({"type": "integer", "exclusiveMinimum": min})),
        prop::sample::select(vec![1, 2, 3, 4, 6])
            .prop_map(|step| json!({"type": "integer", "multipleOf": step})),
        (0..3u64, 0..3u64)
            .prop_map(|(min, more)| json!({"type": "string", "minLength": min, "maxLength": min + more})),
        Just(json!({"type": "string", "pattern": "^x"})),
        prop::sample::subsequence(vec![json!("x"), json!("xy"), json!(1), json!(2.0), json!(null)], 1..4)
            .prop_map(|values| json!({"enum": values})),
        prop::sample::select(vec![json!("x"), json!(1)]).prop_map(|value| json!({"const": value})),
    ];
    if depth == 0 {
        return scalar.boxed();
    }
    let list = (schema(depth - 1), 0..2u64, 0..3u64, any::<bool>()).prop_map(|(items, min, more, unique)| {
        json!({"type": "array", "items": items, "minItems": min, "maxItems": min + more, "uniqueItems": unique})
    });
    let rest = prop_oneof![3 => Just(json!(true)), 3 => Just(json!(false)), 1 => schema(depth - 1)];
    let properties =
        prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), schema(depth - 1), 0..3);
    let required = prop::sample::subsequence(NAMES.to_vec(), 0..3);
    let map =
        (properties, required, rest, any::<bool>()).prop_map(|(properties, required, rest, is_typed)| {
            let mut map =
                json!({"properties": properties, "required": required, "additionalProperties": rest});
            if is_typed {
                map["type"] = json!("object");
            }
            map
        });
    prop_oneof![2 => scalar, 1 => list, 4 => map].boxed()
}

/// A schema a little different from another.
fn changed(schema: &Json, with: &Json, at: usize) -> Json {
    let mut changed = schema.clone();
    let Some(members) = changed.as_object_mut() else { return with.clone() };
    let keys: Vec<String> = members.keys().cloned().collect();
    match (keys.get(at % (keys.len() + 1)), with.as_object()) {
        (Some(key), _) if key == "properties" => {
            let inner = members[key].as_object_mut().expect("it is a map");
            inner.insert(NAMES[at % 3].to_owned(), with.clone());
        }
        (Some(key), Some(others)) if others.contains_key(key) => {
            drop(members.insert(key.clone(), others[key].clone()));
        }
        (Some(key), _) => drop(members.remove(key)),
        (None, Some(others)) => members.extend(others.clone()),
        (None, None) => {}
    }
    changed
}

fn document(depth: u32) -> BoxedStrategy<Json> {
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-1..8i64).prop_map(Json::from),
        prop::sample::select(vec![0.5, 1.5, 2.0, 2.5]).prop_map(Json::from),
        prop::sample::select(vec!["", "x", "y", "xy", "xyz"]).prop_map(Json::from),
    ];
    if depth == 0 {
        return scalar.boxed();
    }
    let list = prop::collection::vec(document(depth - 1), 0..4).prop_map(Json::from);
    let map = prop::collection::btree_map(
        prop::sample::select(vec!["a", "b", "c", "d"]),
        document(depth - 1),
        0..4,
    )
    .prop_map(|entries| {
        Json::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())
    });
    prop_oneof![2 => scalar, 1 => list, 3 => map].boxed()
}

fn compiled(json: &Json) -> Schema {
    let (schema, outside) = parse(json);
    assert_eq!(outside, [], "{json}");
    schema
}

fn breaks(writer: &Json, reader: &Json) -> Vec<syncline_actors::schema::Break> {
    let sides = Sides { writer: "1", reader: "2", reader_is_newer: true };
    compare(&compiled(writer), &compiled(reader), sides, &[])
}

fn valid(schema: &Json) -> impl Fn(&Json) -> bool {
    let validator = jsonschema::validator_for(schema).expect("it is a schema");
    move |document| validator.is_valid(document)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn what_is_not_told_does_not_happen(
        old in schema(2), with in schema(1), at in 0..8usize,
        documents in prop::collection::vec(document(2), 60),
    ) {
        let new = changed(&old, &with, at);
        let (by_old, by_new) = (valid(&old), valid(&new));
        if breaks(&old, &new).is_empty() {
            for document in documents.iter().filter(|document| by_old(document)) {
                prop_assert!(by_new(document), "{document} is valid under {old}, not under {new}");
            }
        }
        if breaks(&new, &old).is_empty() {
            for document in documents.iter().filter(|document| by_new(document)) {
                prop_assert!(by_old(document), "{document} is valid under {new}, not under {old}");
            }
        }
    }

    #[test]
    fn a_schema_breaks_nobody_who_has_it(schema in schema(2)) {
        prop_assert_eq!(breaks(&schema, &schema), []);
    }

    #[test]
    fn what_is_full_is_backward_and_forward(old in schema(2), with in schema(1), at in 0..8usize) {
        let versions = [("1".to_owned(), compiled(&old)), ("2".to_owned(), compiled(&changed(&old, &with, at)))];
        let count = |word: &str| {
            let mode = MODES.iter().find(|(name, _)| *name == word).expect("it is a mode").1;
            findings(&versions, mode, &[], &std::collections::BTreeSet::new()).len()
        };
        prop_assert_eq!(count("full"), count("backward") + count("forward"));
    }
}

/// The law is about something: many of the changes are harmless, and many of the documents are valid.
#[test]
fn the_law_is_tried_on_changes_that_matter() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let strategy = (schema(2), schema(1), 0..8usize, prop::collection::vec(document(2), 60));
    let (mut harmless, mut told) = (0, 0);
    for _ in 0..400 {
        let (old, with, at, documents) = strategy.new_tree(&mut runner).expect("it generates").current();
        let new = changed(&old, &with, at);
        let is_valid = valid(&old);
        if old != new && documents.iter().any(is_valid) {
            *if breaks(&old, &new).is_empty() { &mut harmless } else { &mut told } += 1;
        }
    }
    assert!(harmless > 40 && told > 40, "{harmless} harmless, {told} told");
}

//! Our values as the schema validator sees them: lent, not converted.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, JsonNumber, Node, NodeIdentity, Object};
use syncline_actors::value::{Entries, SmolStr, Value};

/// The representation of instances that validators are built for.
#[derive(Debug)]
pub(super) struct Lent;

impl Json for Lent {
    type Node<'a> = &'a Value;
    type PreparedKey = String;
    type StringBuffer = Value;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(&Value) -> T) -> T {
        *buffer = Value::from(string);
        f(buffer)
    }
}

/// A number, exact.
pub(super) struct Number<'a>(&'a Value);

impl JsonNumber for Number<'_> {
    fn as_u64(&self) -> Option<u64> {
        if let Value::Int(int) = self.0 { u64::try_from(*int).ok() } else { None }
    }

    fn as_i64(&self) -> Option<i64> {
        if let Value::Int(int) = self.0 { Some(*int) } else { None }
    }

    fn as_f64(&self) -> Option<f64> {
        self.to_number().as_f64()
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.to_plain_text())
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        match self.0.to_serde_json() {
            serde_json::Value::Number(number) => Cow::Owned(number),
            other => unreachable!("a number is a number in JSON, not {other}"),
        }
    }

    fn is_integer(&self) -> bool {
        match self.0 {
            Value::Decimal(decimal) => decimal.is_integer(),
            _ => true,
        }
    }

    fn is_written_as_integer(&self) -> bool {
        matches!(self.0, Value::Int(_))
    }
}

impl<'a> Node<'a, Lent> for &'a Value {
    type Object = &'a Entries;
    type Array = &'a [Value];
    type Number = Number<'a>;

    fn as_object(&self) -> Option<Self::Object> {
        self.as_map()
    }

    fn as_array(&self) -> Option<Self::Array> {
        self.as_list()
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.as_text().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<Self::Number> {
        self.is_number().then_some(Number(self))
    }

    fn as_boolean(&self) -> Option<bool> {
        if let Value::Bool(value) = self { Some(*value) } else { None }
    }

    fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    fn is_number(&self) -> bool {
        matches!(self, Value::Int(_) | Value::Decimal(_))
    }

    fn json_type(&self) -> JsonType {
        match self {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Int(_) | Value::Decimal(_) => JsonType::Number,
            Value::Text(_) => JsonType::String,
            Value::List(_) => JsonType::Array,
            Value::Map(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &serde_json::Value) -> bool {
        match (self, expected) {
            (Value::Text(text), serde_json::Value::String(expected)) => **text == **expected,
            (Value::Text(_), _) | (_, serde_json::Value::String(_)) => false,
            _ => jsonschema::json::cmp::equal(&self.to_value(), expected),
        }
    }

    fn to_value(&self) -> Cow<'a, serde_json::Value> {
        Cow::Owned(self.to_serde_json())
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref::<Value>(self).addr()))
    }
}

impl<'a> Object<'a, Lent> for &'a Entries {
    type Node = &'a Value;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        BTreeMap::len(self)
    }

    fn get(&self, key: &String) -> Option<&'a Value> {
        BTreeMap::get(self, key.as_str())
    }

    fn members(&self) -> Members<'a> {
        Members(self.iter())
    }
}

/// The members of an object.
pub(super) struct Members<'a>(btree_map::Iter<'a, SmolStr, Value>);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (name.as_str(), value))
    }
}

impl<'a> Array<'a, Lent> for &'a [Value] {
    type Node = &'a Value;
    type ElementsIter = std::slice::Iter<'a, Value>;

    fn len(&self) -> usize {
        <[Value]>::len(self)
    }

    fn elements(&self) -> Self::ElementsIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn schemas() -> Vec<serde_json::Value> {
        vec![
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}, "b": {"type": ["string", "null"], "minLength": 2}}, "additionalProperties": false}),
            json!({"type": "array", "uniqueItems": true, "items": {"enum": ["x", "xx", 1, 1.5, null, true, {"a": 1}]}}),
            json!({"oneOf": [{"type": "number", "multipleOf": 0.5, "maximum": 3}, {"type": "string", "pattern": "^x+$"}, {"const": [1]}]}),
            json!({"$defs": {"t": {"type": ["object", "integer", "boolean"], "additionalProperties": {"$ref": "#/$defs/t"}, "propertyNames": {"maxLength": 1}}}, "$ref": "#/$defs/t"}),
        ]
    }

    fn instance() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|b| json!(b)),
            (-4..5_i64).prop_map(|n| json!(n)),
            (-8..9_i64)
                .prop_map(|n| serde_json::from_str(&format!("{}.{}", n / 2, n.abs() % 2 * 5)).unwrap()),
            "x{0,3}".prop_map(|text| json!(text)),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
                prop::collection::btree_map("[abc]{1,2}", inner, 0..4).prop_map(|entries| json!(entries)),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_of_ours_is_judged_as_the_json_it_was_read_from(instance in instance()) {
            let value = Value::from_json(instance.to_string().as_bytes(), 1 << 20).unwrap();
            for schema in schemas() {
                let lent = jsonschema::options_for::<Lent>().build(&schema).unwrap();
                let plain = jsonschema::validator_for(&schema).unwrap();
                prop_assert_eq!(lent.is_valid(&value), plain.is_valid(&instance), "{} under {}", &instance, &schema);
                let ours: Vec<_> = lent
                    .iter_errors(&value)
                    .map(|error| format!("{} {}", error.instance_path(), error.masked()))
                    .collect();
                let plain: Vec<_> = plain
                    .iter_errors(&instance)
                    .map(|error| format!("{} {}", error.instance_path(), error.masked()))
                    .collect();
                prop_assert_eq!(ours, plain);
            }
        }
    }
}

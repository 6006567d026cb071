use proptest::prelude::*;

use super::*;

fn json(text: &str) -> Result<Value, JsonError> {
    Value::from_json(text.as_bytes(), 1 << 20)
}

#[test]
fn numbers_are_kept_exactly_or_refused() {
    assert_eq!(json("1.10").expect("fits").to_json(), "1.10");
    assert_eq!(json("12345678901234567890123").expect("fits").to_json(), "12345678901234567890123");
    assert_eq!(json("-0.001").expect("fits").to_json(), "-0.001");
    assert_eq!(json("1.5e3").expect("fits").to_json(), "1500");
    assert_eq!(json("25e-4").expect("fits").to_json(), "0.0025");
    assert!(matches!(json("1e400"), Err(JsonError::Inexact { .. })));
    assert!(matches!(json("0.12345678901234567890123456789012"), Err(JsonError::Inexact { .. })));
    assert!(matches!(json("123456789012345678901234567890123"), Err(JsonError::Inexact { .. })));
}

#[test]
fn what_is_not_json_says_where() {
    assert!(
        matches!(json("{\"a\":1,\"b\":2,\"a\":3}"), Err(JsonError::DuplicateKey { key, .. }) if key == "a")
    );
    assert!(matches!(json("[1,2"), Err(JsonError::Malformed { at: 4, .. })));
    assert!(matches!(json("{} x"), Err(JsonError::Malformed { at: 3, .. })));
    assert!(matches!(json(&"[".repeat(5000)), Err(JsonError::TooDeep { .. })));
    assert!(matches!(Value::from_json(b"\"\xff\"", 10), Err(JsonError::Malformed { .. })));
    assert!(matches!(Value::from_json(b"[1,2,3]", 6), Err(JsonError::TooLong { bytes: 7, max: 6 })));
    assert!(matches!(json(""), Err(JsonError::Malformed { .. })));
    assert!(matches!(json("NaN"), Err(JsonError::Malformed { .. })));
}

#[test]
fn numbers_are_equal_by_what_they_are() {
    assert_eq!(json("1"), json("1.00"));
    assert_ne!(json("1"), json("\"1\""));
}

#[test]
fn a_path_is_set_and_found() {
    let mut value = Value::Null;
    value.set_path("a.b", Value::Int(1));
    value.set_path("a.c", Value::from("x"));
    assert_eq!(value.to_json(), "{\"a\":{\"b\":1,\"c\":\"x\"}}");
    assert_eq!(value.path("a.b"), Some(&Value::Int(1)));
    assert_eq!(json("[[5]]").expect("JSON").path("0.0"), Some(&Value::Int(5)));
    assert_eq!(value.path("a.b.c"), None);
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (any::<i64>(), 0_u32..20).prop_map(|(n, scale)| Value::Decimal(Decimal::new(n, scale))),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..5).prop_map(|map| Value::Map(Arc::new(map))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in values()) {
        prop_assert_eq!(Value::from_json(value.to_json().as_bytes(), usize::MAX), Ok(value));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = Value::from_json(&bytes, 1 << 16);
    }
}

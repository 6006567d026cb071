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
fn a_short_text_takes_no_room_but_its_own() {
    assert_eq!(size_of::<Value>(), 24);
    assert_eq!(Value::from("ORD-2026-0000123456789").weight(), 24);
    assert!(Value::from("a text of twenty-five bytes").weight() > 24);
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

#[test]
fn text_that_is_no_text_is_refused() {
    for bytes in [
        &b"\"\xc0\xaf\""[..],    // a slash, overlong
        b"\"\xed\xa0\x80\"",     // half a surrogate pair as UTF-8
        b"\"\xf4\x90\x80\x80\"", // past the last character
        b"\"\xe2\x82\"",         // cut short
        b"{\"\xff\":1}",         // in a key
        b"\xef\xbb\xbf{}",       // a byte order mark
        br#""\ud83d""#,          // half a pair, escaped
        br#""\ude00""#,          // the other half
        br#""\ud83d\u0041""#,    // half a pair and a letter
        br#""\ude00\ud83d""#,    // the wrong way round
        br#"{"\ud83d":1}"#,      // in a key
        br#""\u12""#,            // cut short
        br#""\x41""#,            // no escape of JSON
        b"\"a\nb\"",             // a line break as it is
        b"\"a\0b\"",             // a zero as it is
        b"\"a",                  // not closed
    ] {
        let refused = Value::from_json(bytes, 1 << 10);
        assert!(matches!(refused, Err(JsonError::Malformed { .. })), "{}: {refused:?}", bytes.escape_ascii());
    }
    assert_eq!(json(r#""\ud83d\ude00""#).expect("a whole pair").as_text(), Some("\u{1f600}"));
}

#[test]
fn a_key_stands_twice_however_it_is_written_and_wherever() {
    for text in
        [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"a":1,"c":[],"a":null}}]"#, r#"{"":1,"":2}"#]
    {
        assert!(matches!(json(text), Err(JsonError::DuplicateKey { .. })), "{text}");
    }
    assert!(json(r#"{"a":{"a":1},"A":{"a":2}}"#).is_ok(), "the same key on two levels is two keys");
}

#[test]
fn limits_hold_to_the_byte_and_to_the_level() {
    assert!(Value::from_json(b"[1,2,3]", 7).is_ok());
    assert!(Value::from_json(b"", 0).is_err());
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |levels: usize| format!("{}1{}", open.repeat(levels), close.repeat(levels));
        assert!(json(&nested(DEPTH_MAX)).is_ok());
        assert!(matches!(json(&nested(DEPTH_MAX + 1)), Err(JsonError::TooDeep { .. })));
        assert!(matches!(json(&open.repeat(100_000)), Err(JsonError::TooDeep { .. })));
    }
}

#[test]
fn what_json_calls_no_number_is_none() {
    for text in [
        "NaN",
        "[NaN]",
        "-NaN",
        "Infinity",
        "-Infinity",
        "[1,Infinity]",
        "nan",
        "inf",
        "+1",
        "01",
        "-",
        "1.",
        ".5",
        "-.5",
        "1e",
        "1e+",
        "0x1F",
        "1_000",
        "1,5",
        "--1",
    ] {
        assert!(matches!(json(text), Err(JsonError::Malformed { .. })), "{text}: {:?}", json(text));
    }
}

#[test]
fn a_number_of_any_size_is_exact_or_refused() {
    for text in [
        "1e29",
        "-1e400",
        "1e-29",
        "1e-400",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "79228162514264337593543950336",
        "123456789012345678901234567890e1",
        "0.00000000000000000000000000001",
    ] {
        assert!(matches!(json(text), Err(JsonError::Inexact { .. })), "{text}: {:?}", json(text));
    }
    for digits in [100, 1_000, 100_000] {
        let refused = json(&format!("[{}]", "9".repeat(digits))).expect_err("it is too long").to_string();
        assert!(refused.len() < 200, "what is told of it is cut: {refused}");
    }
    for (text, kept) in [
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("79228162514264337593543950335", "79228162514264337593543950335"),
        ("0e400", "0"),
        ("1E+2", "100"),
        ("1e-28", "0.0000000000000000000000000001"),
    ] {
        assert_eq!(json(text).map(|value| value.to_json()), Ok(kept.to_owned()), "{text}");
    }
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
            prop::collection::btree_map(".*", inner, 0..5).prop_map(Value::map),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in values()) {
        prop_assert_eq!(Value::from_json(value.to_json().as_bytes(), usize::MAX), Ok(value));
    }

    /// What is taken is JSON to everyone else, and the number is the number that was written.
    #[test]
    fn what_is_taken_is_json(text in r#"[\[\]{}:,"\\a0-9eE.+\- nulNtrfsIfiy]{0,40}"#) {
        if json(&text).is_ok() {
            prop_assert!(serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok(), "{}", text);
        }
    }

    /// Digits come back as they were, less zeros that say nothing and the exponent.
    #[test]
    fn digits_are_never_rounded(whole in "[1-9][0-9]{0,40}", fraction in "[0-9]{0,40}", negative: bool) {
        let dot = if fraction.is_empty() { "" } else { "." };
        let text = format!("{}{whole}{dot}{fraction}", if negative { "-" } else { "" });
        match json(&text) {
            Ok(value) => prop_assert_eq!(value.to_json(), text.as_str()),
            Err(error) => prop_assert!(matches!(error, JsonError::Inexact { .. }), "{}", error),
        }
        let digits = whole.len() + fraction.len();
        prop_assert!(digits > 28 || json(&text).is_ok(), "{} digits fit", digits);
    }

    /// Every cut of what reads is refused with a place inside of it, or reads as a shorter number.
    #[test]
    fn what_is_cut_off_is_refused_where_it_ends(value in values(), cut: prop::sample::Index) {
        let text = value.to_json();
        let cut = &text.as_bytes()[..cut.index(text.len())];
        match Value::from_json(cut, usize::MAX) {
            Ok(shorter) => prop_assert!(shorter.as_decimal().is_some()),
            Err(JsonError::Malformed { at, .. }) => prop_assert!(at <= cut.len()),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = Value::from_json(&bytes, 1 << 16);
    }
}

use super::*;
use crate::document::Reader;
use proptest::prelude::*;

/// The place, path and message of the first mistake in `text`.
#[track_caller]
fn mistake(text: &str) -> String {
    let problem = parse("x.yaml", text).expect_err(text);
    assert!(problem.fix.is_some(), "{problem}");
    problem.to_string().lines().next().unwrap().to_owned()
}

fn json(text: &str) -> String {
    parse("x.yaml", text).unwrap_or_else(|problem| panic!("{problem}")).to_json()
}

#[test]
fn words_of_old_yaml_are_text() {
    assert_eq!(
        json("on: yes\noff: No\nY: n\ntrue: true\n1: False\n"),
        r#"{"on":"yes","off":"No","Y":"n","true":true,"1":false}"#
    );
}

#[test]
fn numbers_are_those_of_json_and_the_rest_is_text() {
    assert_eq!(
        json("[0, -1, 1.50, 1e3, 12345678901234567890.10]"),
        "[0,-1,1.50,1e3,12345678901234567890.10]"
    );
    assert_eq!(
        json("[007, +49301234, 0x1F, .5, 1., 1_000, .inf, .nan, 12:30, 2026-11-30]"),
        r#"["007","+49301234","0x1F",".5","1.","1_000",".inf",".nan","12:30","2026-11-30"]"#
    );
    assert_eq!(json("[\"1\", '007', 'true', \"null\"]"), r#"["1","007","true","null"]"#);
}

#[test]
fn nothing_is_null() {
    assert_eq!(json("a:\nb: ~\nc: null\nd: [~]\n"), r#"{"a":null,"b":null,"c":null,"d":[null]}"#);
    assert_eq!(json(""), "null");
    assert_eq!(json("# only a comment\n"), "null");
    assert_eq!(json("---\n"), "null");
}

#[test]
fn a_value_left_out_is_where_its_key_is() {
    let node = parse("x.yaml", "a: 1\nempty:\n\n\nb:\n  -\n  - x\n").unwrap();
    assert_eq!(node.get("empty").unwrap().place.to_string(), "x.yaml:2:1");
    assert_eq!(node.get("b").unwrap().as_list().unwrap()[0].place.to_string(), "x.yaml:6:4");
}

#[test]
fn block_text_is_text() {
    assert_eq!(json("a: |\n  1\n  x: y\nb: >-\n  c\n  d\n"), r#"{"a":"1\u000ax: y\u000a","b":"c d"}"#);
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    assert_eq!(
        mistake("a: 1\nb: {c: 1, c: 2}\n"),
        "x.yaml:2:11  b.c: the key `c` stands here again, first in line 2"
    );
    assert_eq!(mistake("a: 1\n\"a\": 1\n"), "x.yaml:2:1  a: the key `a` stands here again, first in line 1");
}

#[test]
fn anchors_aliases_tags_and_merge_keys_are_refused() {
    assert_eq!(mistake("a: &x 1\n"), "x.yaml:1:4  a: anchors (`&name`) are not read");
    let alias = "aliases (`*name`) are not read: a few lines of them can expand to gigabytes";
    assert_eq!(mistake("a: *x\n"), format!("x.yaml:1:4  a: {alias}"), "an alias to nothing");
    assert_eq!(parse("x.yaml", "a: &x 1\nb: *x\n").unwrap_err().place.line, 1);
    let reader = Reader::default();
    assert!(reader.read("x.yaml", "a: &x 1\nb: *x\n").is_none());
    assert_eq!(reader.problems().len(), 2);
    assert!(reader.problems().to_string().contains(&format!("x.yaml:2:4  b: {alias}")));
    assert_eq!(mistake("a: !order.paid\n"), "x.yaml:1:4  a: the tag `!order.paid` is not read");
    assert_eq!(mistake("a: {<<: {b: 1}}\n"), "x.yaml:1:5  a[\"<<\"]: merge keys (`<<`) are not read");
}

#[test]
fn only_one_document_is_read() {
    assert_eq!(mistake("a: 1\n---\nb: 2\n"), "x.yaml:2:1  a second document begins here");
    assert_eq!(json("---\na: 1\n...\n"), r#"{"a":1}"#);
}

#[test]
fn keys_are_text() {
    assert_eq!(mistake("? [a]\n: 1\n"), "x.yaml:1:3  a list or map cannot be a key");
    assert_eq!(mistake("a: {{b}}\n"), "x.yaml:1:5  a: a list or map cannot be a key");
    assert_eq!(mistake(": 1\n"), "x.yaml:1:1  a `:` has no key before it");
    let long = "k".repeat(257);
    assert!(mistake(&format!("{long}: 1\n")).contains("a key has 257 bytes, more than 256"));
}

#[test]
fn mistakes_of_syntax_are_told_in_plain_words() {
    let misfit = "what begins here fits nothing above it";
    let colon = "a `:` stands where no key can be";
    let bracket = "a `[` or `{` and its closing partner do not fit, or a comma is missing";
    let tab = "a tab stands where only spaces may";
    for (text, told) in [
        ("a: b: c\n", format!("x.yaml:1:5  {colon}")),
        ("a: 1\n b: 2\n", format!("x.yaml:2:3  {colon}")),
        ("a:\n  - b\n c: 1\n", format!("x.yaml:3:2  {misfit}")),
        ("- a\nb: 1\n", format!("x.yaml:2:1  {misfit}")),
        ("a: @x\n", "x.yaml:1:4  a: text cannot begin with `@`".to_owned()),
        ("a: %x\n", "x.yaml:1:4  a: text cannot begin with `%`".to_owned()),
        ("a: 'b\n", "x.yaml:1:4  a: a quote is opened here and never closed".to_owned()),
        ("a: \"\\q\"\n", "x.yaml:1:4  a: this text holds an unknown escape after `\\`".to_owned()),
        ("a: [1, 2\n", format!("x.yaml:2:1  a: {bracket}")),
        ("a: {b: c ? d : e}\n", format!("x.yaml:1:14  a: {bracket}")),
        ("a: }\n", format!("x.yaml:1:4  a: {bracket}")),
        ("a: 'b' == c\n", "x.yaml:1:8  a: more text follows a closing quote".to_owned()),
        ("a: 'it's'\n", "x.yaml:1:8  a: more text follows a closing quote".to_owned()),
        ("a: {b: 1} c\n", format!("x.yaml:1:11  {misfit}")),
        ("a: - b\n", "x.yaml:1:4  a: a list item (`- `) cannot begin here".to_owned()),
        (
            "a: ,b\n",
            "x.yaml:1:4  a: a value is missing here, or its text begins with a character that has a meaning"
                .to_owned(),
        ),
        ("a: |x\n b\n", "x.yaml:1:4  a: the text of `|` or `>` does not begin in the next line".to_owned()),
        (
            "a: b #c\n  d\n",
            "x.yaml:1:6  a comment begins here, and the next line goes on with the text before it".to_owned(),
        ),
        (
            "a: \"b\nc\"",
            "x.yaml:1:4  a: the text in quotes goes on in a line that is not indented".to_owned(),
        ),
        ("a:\n- b\nc", "x.yaml:4:1  a: no `: ` follows a word in the lines above".to_owned()),
        ("'a'\nb: 1\n", "x.yaml:2:1  more follows where the document has ended".to_owned()),
        ("a:\n\tb: 1\n", format!("x.yaml:2:2  a: {tab}")),
        (
            "a: |\n\tb\n",
            "x.yaml:1:4  a: a tab stands in or right after this, where only spaces may".to_owned(),
        ),
    ] {
        assert_eq!(mistake(text), told, "{text:?}");
    }
}

#[test]
fn lines_and_columns_hold_with_crlf_bom_and_unicode() {
    let text = "\u{feff}ü: {é: [1,\r\n  {ß: 2}]}\r\nb: \"𝄞\"   \r\nc: [ä, x]\r\n";
    let node = parse("x.yaml", text).unwrap();
    let place = |node: &Node| node.place.to_string();
    assert_eq!(place(&node), "x.yaml:1:1");
    let list = node.get("ü").unwrap().get("é").unwrap().as_list().unwrap();
    assert_eq!(place(&list[0]), "x.yaml:1:9");
    assert_eq!(place(list[1].get("ß").unwrap()), "x.yaml:2:7");
    assert_eq!(place(&node.get("c").unwrap().as_list().unwrap()[1]), "x.yaml:4:8");
    assert_eq!(node.get("b").unwrap().as_text(), Some("𝄞"));
}

#[test]
fn control_characters_are_refused_with_their_place() {
    assert_eq!(
        mistake("a: 1\r\nb: \0c: 2\n"),
        "x.yaml:2:4  the control character U+0000 cannot stand in a file"
    );
    assert_eq!(mistake("a: \u{1b}[2J\n"), "x.yaml:1:4  the control character U+001B cannot stand in a file");
}

#[test]
fn size_and_depth_are_bounded() {
    assert_eq!(
        mistake(&"#".repeat(SIZE_MAX + 1)),
        "x.yaml:1:1  the file has 1048577 bytes, more than 1048576"
    );
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse("x.yaml", &nested(DEPTH_MAX)).is_ok());
    assert!(mistake(&nested(DEPTH_MAX + 2)).contains("lists and maps stand more than 64 levels deep"));
    assert!(mistake(&nested(10_000)).contains("lists and maps stand more than 64 levels deep"));
    assert!(mistake(&"- ".repeat(100_000)).contains("lists and maps stand more than 64 levels deep"));
}

#[test]
fn only_so_many_problems_are_noted() {
    let reader = Reader::default();
    assert!(reader.read("x.yaml", &"a: 1\n".repeat(10_000)).is_none());
    assert_eq!(reader.problems().len(), PROBLEMS_MAX);
}

#[test]
fn bytes_that_are_not_utf8_have_a_place() {
    let reader = Reader::default();
    assert!(reader.read_bytes("x.yaml", b"a: 1\nb: \xff\n").is_none());
    assert!(reader.read_bytes("y.yaml", b"\xc3").is_none());
    assert_eq!(
        reader.problems().to_string(),
        "x.yaml:2:4  the byte 0xff is not UTF-8\n    fix: save the file as UTF-8\n\n\
         y.yaml:1:1  the byte 0xc3 is not UTF-8\n    fix: save the file as UTF-8"
    );
    assert!(reader.read_bytes("z.yaml", "ü: 1".as_bytes()).is_some());
}

/// What YAML is made of, so that chance meets its rules.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        ": ",
        ":",
        "- ",
        "-",
        "\n",
        "\r\n",
        "\r",
        " ",
        "  ",
        "\t",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        "\"",
        "|",
        ">",
        "#",
        "&x",
        "*x",
        "!t",
        "!!str ",
        "<<",
        "? ",
        "%YAML 1.2\n",
        "---",
        "...",
        "\\",
        "\u{feff}",
        "ü",
        "1",
        "~",
        "@",
        "\u{85}",
        "\u{2028}",
        "|2-\n",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let reader = Reader::default();
        let node = reader.read_bytes("x.yaml", &bytes);
        prop_assert!(node.is_some() || reader.problems().is_fatal());
        let _ = parse("x.yaml", &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_yaml_never_panics_and_problems_lie_in_the_text(text in yaml_like()) {
        match parse("x.yaml", &text) {
            Ok(node) => { prop_assert!(serde_json::from_str::<serde_json::Value>(&node.to_json()).is_ok()); }
            Err(problem) => {
                let lines = text.split(['\r', '\n', '\u{85}', '\u{2028}']).count();
                prop_assert!(problem.place.line as usize <= lines + 1 && problem.place.column >= 1, "{}", problem);
            }
        }
    }

    #[test]
    fn quoted_text_comes_back_as_it_was(text in "\\PC{0,40}") {
        let written = serde_json::to_string(&text).unwrap();
        let node = parse("x.yaml", &format!("a: {written}\n")).unwrap();
        prop_assert_eq!(node.get("a").unwrap().as_text(), Some(text.as_str()));
    }
}

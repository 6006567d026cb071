use super::*;
use rust_decimal::Decimal;

/// What reading `text` as one document with `read` notes, each as `line:column  path: message | fix`.
fn problems(text: &str, read: impl FnOnce(&mut Fields<'_>)) -> Vec<String> {
    let reader = Reader::default();
    if let Some(node) = reader.read("x.yaml", text)
        && let Some(mut fields) = Item::root(&node, &reader).fields()
    {
        read(&mut fields);
        fields.finish();
    }
    let show = |problem: &Problem| {
        let (place, fix) = (&problem.place, problem.fix.as_deref().expect("each problem has a fix"));
        format!("{}:{}  {}: {} | {fix}", place.line, place.column, problem.path, problem.message)
    };
    reader.problems().iter().map(show).collect()
}

/// The one problem that `read` notes in `text`.
#[track_caller]
fn problem(text: &str, read: impl FnOnce(&mut Fields<'_>)) -> String {
    let mut all = problems(text, read);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn every_kind_of_value_is_read_with_its_place_and_path() {
    let text = "name: \"007\"\nflag: true\ncount: 3\nprice: 1.50\nwait: 1h30m\nkind: ok\nlist: [a, b]\nmap: {x: 1}\nfree: {k: v}\n";
    let found = problems(text, |fields| {
        let name = fields.text("name").unwrap();
        assert_eq!(
            (name.value.as_str(), name.place.to_string().as_str(), name.path.as_str()),
            ("007", "x.yaml:1:7", "name")
        );
        assert!(fields.boolean("flag", false));
        assert_eq!(fields.number::<u32>("count").unwrap().value, 3);
        assert_eq!(fields.number::<Decimal>("price").unwrap().value.to_string(), "1.50");
        assert_eq!(fields.duration("wait").unwrap().value.as_secs(), 5400);
        assert!(fields.choice("kind", &[("ok", true), ("bad", false)]).unwrap().value);
        let list = fields.texts("list");
        assert_eq!((list[1].value.as_str(), list[1].path.as_str()), ("b", "list[1]"));
        let mut map = fields.map("map").unwrap();
        assert_eq!(map.number::<u8>("x").unwrap().path, "map.x");
        map.finish();
        let free = fields.entries("free").unwrap();
        assert_eq!((free[0].0.value.as_str(), free[0].1.text().unwrap().value.as_str()), ("k", "v"));
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_is_optional_may_be_left_out() {
    let found = problems("{}", |fields| {
        assert!(fields.optional_text("a").is_none());
        assert!(fields.optional_number::<u8>("b").is_none());
        assert!(fields.optional_duration("c").is_none());
        assert!(fields.optional_choice("d", &[("x", ())]).is_none());
        assert!(fields.optional_map("e").is_none());
        assert!(fields.optional_list("f").is_empty() && fields.optional_entries("g").is_empty());
        assert!(fields.boolean("h", true));
        assert!(fields.node("i").is_none());
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_missing_key_is_named_at_its_parent() {
    assert_eq!(
        problem("x:\n  other: 1\n", |fields| {
            let mut map = fields.map("x").unwrap();
            map.text("connector");
            map.rest();
            map.finish();
        }),
        "2:3  x: the key `connector` is missing | add `connector: …`"
    );
}

#[test]
fn a_misspelled_key_is_suggested_both_ways() {
    assert_eq!(
        problems("conector: erp\nother: 1\n", |fields| {
            fields.text("connector");
            fields.optional_text("call");
        }),
        [
            "1:1  : the key `connector` is missing | add `connector: …`; is `conector` meant as it?",
            "1:1  conector: the key `conector` is unknown | did you mean `connector`? Known keys: `call`, `connector`",
            "2:1  other: the key `other` is unknown | remove it. Known keys: `call`, `connector`",
        ]
    );
}

#[test]
fn a_document_that_is_no_map_is_refused() {
    let fix = "write `key: value` lines, indented below the key";
    assert_eq!(problem("[a]", |_| ()), format!("1:1  : expected a map, found a list | {fix}"));
    assert_eq!(problem("", |_| ()), format!("1:1  : expected a map, found nothing | {fix}"));
    assert_eq!(
        problem("a:\n  b: c\n", |fields| assert!(fields.map("a").unwrap().map("b").is_none())),
        format!("2:6  a.b: expected a map, found the text `c` | {fix}")
    );
    assert_eq!(
        problem("a: 5\n", |fields| drop(fields.entries("a"))),
        format!("1:4  a: expected a map, found the number `5` | {fix}")
    );
}

#[test]
fn text_must_be_text() {
    let text = |text: &str| problem(text, |fields| drop(fields.text("a")));
    assert_eq!(
        text("a: 10115"),
        "1:4  a: expected text, found the number `10115` | put it in quotes: \"10115\""
    );
    assert_eq!(text("a: true"), "1:4  a: expected text, found `true` | put it in quotes: \"true\"");
    assert_eq!(text("a: ''"), "1:4  a: expected text, found the text `` | write a value");
    assert_eq!(
        text("a: #order-desk"),
        "1:1  a: expected text, found nothing | write a value; text that begins with `#` needs quotes"
    );
    assert_eq!(text("a: {{x}}").split(" | ").next(), Some("1:5  a: a list or map cannot be a key"));
    assert_eq!(
        text("a: [x]"),
        "1:4  a: expected text, found a list | write one value; text that begins with `[` or `{` needs quotes"
    );
}

#[test]
fn a_boolean_is_true_or_false() {
    let boolean = |text: &str| problem(text, |fields| _ = fields.boolean("a", true));
    assert_eq!(
        boolean("a: yes"),
        "1:4  a: expected `true` or `false`, found the text `yes` | write `true`, without quotes"
    );
    assert_eq!(
        boolean("a: 'false'"),
        "1:4  a: expected `true` or `false`, found the text `false` | write `false`, without quotes"
    );
    assert_eq!(
        boolean("a: 1"),
        "1:4  a: expected `true` or `false`, found the number `1` | write `true` or `false`"
    );
}

#[test]
fn a_number_says_what_it_may_be() {
    let byte = |text: &str| problem(text, |fields| drop(fields.number::<u8>("a")));
    let range = "a whole number from 0 to 255";
    assert_eq!(byte("a: -1"), format!("1:4  a: expected {range}, found the number `-1` | write {range}"));
    assert_eq!(byte("a: 256"), format!("1:4  a: expected {range}, found the number `256` | write {range}"));
    assert_eq!(byte("a: 1.5"), format!("1:4  a: expected {range}, found the number `1.5` | write {range}"));
    assert_eq!(byte("a: many"), format!("1:4  a: expected {range}, found the text `many` | write {range}"));
    assert_eq!(
        byte("a: 007"),
        format!(
            "1:4  a: expected {range}, found the text `007` | write it without quotes, leading zeros or `+`"
        )
    );
    assert_eq!(
        problem("a: 0", |fields| drop(fields.number::<std::num::NonZeroU32>("a"))),
        "1:4  a: expected a whole number from 1 to 4294967295, found the number `0` | \
         write a whole number from 1 to 4294967295"
    );
    assert_eq!(
        problem("a: 11", |fields| drop(fields.optional_number_within("a", 1_u8..=10))),
        "1:4  a: `11` is outside of 1 to 10 | write a number from 1 to 10"
    );
}

#[test]
fn a_duration_shows_examples() {
    let fix = "write a whole number and a unit, e.g. `250ms`, `10s`, `5m`, `4h`, `2d` or `1h30m`";
    let duration = |text: &str| problem(text, |fields| drop(fields.duration("a")));
    assert_eq!(duration("a: 10"), format!("1:4  a: the duration `10` has no unit | {fix}"));
    assert_eq!(duration("a: 10 s"), format!("1:4  a: `10 s` is not a duration | {fix}"));
    assert_eq!(duration("a: [1s]"), format!("1:4  a: expected a duration, found a list | {fix}"));
}

#[test]
fn a_choice_lists_what_is_allowed_and_the_nearest() {
    let choices = [("ignore", 1), ("defer", 2), ("reject", 3)];
    let choice = |text: &str| problem(text, |fields| drop(fields.choice("a", &choices)));
    assert_eq!(
        choice("a: ignor"),
        "1:4  a: `ignor` is not allowed here | did you mean `ignore`? Allowed: `ignore`, `defer`, `reject`"
    );
    assert_eq!(
        choice("a: panic"),
        "1:4  a: `panic` is not allowed here | write one of `ignore`, `defer`, `reject`"
    );
    assert_eq!(
        choice("a:"),
        "1:1  a: nothing is not allowed here | write one of `ignore`, `defer`, `reject`"
    );
}

#[test]
fn a_list_is_not_a_single_value() {
    assert_eq!(
        problem("a: x", |fields| drop(fields.list("a"))),
        "1:4  a: expected a list, found the text `x` | write `[a, b]`, or one `- item` a line below the key"
    );
}

#[test]
fn the_rest_is_known() {
    let found = problems("a: 1\nb: 2\nc: 3\n", |fields| {
        fields.node("b");
        let names: Vec<String> = fields.rest().into_iter().map(|(name, _)| name.value).collect();
        assert_eq!(names, ["a", "c"]);
        assert!(fields.rest().is_empty());
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn five_mistakes_are_five_problems_in_order() {
    let text = "\
process: order
version: one
version: 2
states:
  tax:
    enter: [calculate_tax]
    on:
      - {when: calculate_tax.ok, goto: booking}
      - {when: calculate_tax.failed, gaurd: \"attempts > 3\", goto: held}
      - {when: 5, goto: held}
    wait: 10
";
    let found = problems(text, |fields| {
        fields.text("process");
        fields.number::<u32>("version");
        for (_, state) in fields.entries("states").unwrap() {
            let mut state = state.fields().unwrap();
            state.texts("enter");
            for item in state.list("on").unwrap() {
                let mut on = item.fields().unwrap();
                on.text("when");
                on.optional_text("guard");
                on.text("goto");
                on.finish();
            }
            state.duration("wait");
            state.finish();
        }
    });
    assert_eq!(
        found,
        [
            "2:10  version: expected a whole number from 0 to 4294967295, found the text `one` | \
             write a whole number from 0 to 4294967295",
            "3:1  version: the key `version` stands here again, first in line 2 | keep one of the two",
            "9:38  states.tax.on[1].gaurd: the key `gaurd` is unknown | did you mean `guard`? \
             Known keys: `goto`, `guard`, `when`",
            "10:16  states.tax.on[2].when: expected text, found the number `5` | put it in quotes: \"5\"",
            "11:11  states.tax.wait: the duration `10` has no unit | write a whole number and a unit, \
             e.g. `250ms`, `10s`, `5m`, `4h`, `2d` or `1h30m`",
        ]
    );
}

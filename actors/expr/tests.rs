use proptest::prelude::*;

use super::*;

fn order() -> Value {
    let json = br#"{"id":"SO-1","amount":0.10,"qty":2,"big":12345678901234567890123,"none":null,"open":true,
        "lines":[{"sku":"A","qty":2,"price":"1.50","tax":"P1"},{"sku":"B","qty":1,"price":"0.35"}],"customer":{"name":"ACME"}}"#;
    Value::from_json(json, 4096).expect("JSON")
}

fn eval(source: &str) -> Result<Value, ExprError> {
    let value = order();
    Expr::compile(source, &Names::new(["order"]))?.eval(&Scope::new().with("order", &value))
}

fn shown(source: &str) -> String {
    match eval(source) {
        Ok(value) => value.to_json(),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn numbers_are_exact_from_either_side() {
    for (source, expected) in [
        ("order.amount + 0.2 == 0.3", "true"),
        ("0.1 + 0.2 == 0.3", "true"),
        ("1 + order.amount", "1.10"),
        ("order.amount * 3", "0.30"),
        ("100 * order.amount", "10.00"),
        ("order.qty * dec('1.50')", "3.00"),
        ("order.qty + 1", "3"),
        ("1 + 2", "3"),
        ("7 / 2", "3.5"),
        ("6 / 2", "3"),
        ("order.big + 1", "12345678901234567890124"),
        ("-order.amount", "-0.10"),
        ("(dec('2.5')).round(0)", "3"),
        ("dec('1.005').round(2)", "1.01"),
        ("dec(1).round(2)", "1.00"),
        ("sum(order.lines.map(l, dec(l.price) * l.qty)).round(2)", "3.35"),
        ("int('7')", "7"),
        ("order.qty % 2 == 0", "true"),
    ] {
        assert_eq!(shown(source), expected, "{source}");
    }
}

#[test]
fn numbers_compare_from_either_side() {
    for source in [
        "order.qty > 1",
        "1 < order.qty",
        "2 == order.qty",
        "order.qty == 2",
        "order.amount < 1",
        "0 < order.amount",
        "0.1 == order.amount",
        "order.amount == 0.1",
        "order.qty in [1, 2]",
        "2 in [order.qty]",
        "size(order.lines) == 2",
        "2 == size(order.lines)",
        "order.lines[0].qty == order.qty",
        "order.qty != 3",
        "3 != order.qty",
        "size(order.lines) > 1",
        "order.lines.map(l, l.qty) == [2, 1]",
        "[2, 1] == order.lines.map(l, l.qty)",
        "order.none == null",
        "order.open && !false",
        "order.id == 'SO-1'",
        "'SO-1' == order.id",
        "'customer' in order",
        "order.lines[order.qty - 1].sku == 'B'",
    ] {
        assert_eq!(shown(source), "true", "{source}");
    }
}

#[test]
fn text_and_lists_are_worked_with() {
    for (source, expected) in [
        ("'order ' + order.id", "\"order SO-1\""),
        ("'n = ' + string(order.qty)", "\"n = 2\""),
        ("join(order.lines.map(l, l.sku), ', ')", "\"A, B\""),
        ("order.lines.filter(l, !has(l.tax)).map(l, l.sku)", "[\"B\"]"),
        ("order.lines.all(l, l.qty > 0)", "true"),
        ("order.lines.exists(l, l.sku == 'B')", "true"),
        ("order.id.startsWith('SO') && order.id.contains('-')", "true"),
        ("order.id.substring(3, 4)", "\"1\""),
        ("upper(order.customer.name) + lower('X').trim()", "\"ACMEx\""),
        ("order.id.split('-').last()", "\"1\""),
        ("order.id.replace('-', '/')", "\"SO/1\""),
        ("keys(order.customer)", "[\"name\"]"),
        ("{'a': order.qty, 'b': [order.id]}", "{\"a\":2,\"b\":[\"SO-1\"]}"),
        ("urlencode('a b/ü')", "\"a%20b%2F%C3%BC\""),
        ("order.open ? 'yes' : 'no'", "\"yes\""),
        ("order.customer", "{\"name\":\"ACME\"}"),
        ("order.id.matches('^SO-[0-9]+$')", "true"),
        ("sha256('')", "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\""),
    ] {
        assert_eq!(shown(source), expected, "{source}");
    }
}

#[test]
fn what_may_be_absent_has_a_default() {
    for (source, expected) in [
        ("default(order.missing, 'x')", "\"x\""),
        ("default(order.customer.vat.id, 'x')", "\"x\""),
        ("default(order.none, 'x')", "\"x\""),
        ("default(order.qty, 9)", "2"),
        ("default(order.qty, 9) + 1", "3"),
        ("coalesce(order.a, order.b, order.id)", "\"SO-1\""),
        ("has(order.customer.name) && !has(order.customer.vat)", "true"),
        ("order.lines.map(l, default(l.tax, '-'))", "[\"P1\",\"-\"]"),
    ] {
        assert_eq!(shown(source), expected, "{source}");
    }
}

#[test]
fn errors_say_what_was_missing_and_what_was_seen() {
    for (source, expected) in [
        ("order.customer.vat == 'x'", "there is no `order.customer.vat`"),
        ("order.id + 1", "the two sides of `+` do not fit together, where order.id = \"SO-1\""),
        ("order.qty / 0", "2 / 0: division by zero"),
        ("orde.id", "there is no `orde` here"),
        ("uper(order.id)", "there is no function uper()"),
        (
            "dec('x')",
            "dec() wants a number of at most 28 digits, or text that is one, and was given text (\"x\")",
        ),
        ("order.id > 1", "`>` does not work on (string, int)"),
        ("upper()", "upper() takes 1 argument(s), 0 given"),
        ("order.id ==", "does not read"),
        ("order.lines.map(a, order.lines.map(b, order.lines.map(c, c)))", "loops within loops"),
        ("order.big * order.big", "too large to be exact"),
        ("1.2345678901234567", "too many digits"),
    ] {
        let said = shown(source);
        assert!(said.starts_with("error: ") && said.contains(expected), "{source}: {said}");
    }
}

#[test]
fn hints_say_what_to_do() {
    let hint = |source: &str| eval(source).expect_err(source).hint().unwrap_or_default();
    assert_eq!(hint("orde.id"), "did you mean `order`?");
    assert_eq!(hint("uper(order.id)"), "did you mean upper()?");
    assert!(hint("order.vat").contains("default(order.vat, …)"));
    assert!(hint("order.id = 1").contains("`==`"));
}

#[test]
fn a_guard_is_true_or_false() {
    let value = order();
    let guard = Expr::compile("order.id", &Names::new(["order"])).expect("compiles");
    let error = guard.eval_bool(&Scope::new().with("order", &value)).expect_err("text is no guard");
    assert_eq!(error.to_string(), "`order.id` is text (\"SO-1\"), not true or false");
}

#[test]
fn references_name_what_is_looked_at() {
    let expr = Expr::compile(
        "order.lines.filter(l, l.qty > order.min.qty).size() > 0 && has(order.id)",
        &Names::new(["order"]),
    );
    let references: Vec<String> =
        expr.expect("compiles").references().iter().map(|path| path.join(".")).collect();
    assert_eq!(references, ["order.lines", "order.min.qty", "order.id"]);
}

#[test]
fn sources_are_bounded() {
    let names = Names::new(["order"]);
    assert!(Expr::compile(&"1+".repeat(3000), &names).is_err());
    assert!(Expr::compile(&format!("{}1{}", "(".repeat(200), ")".repeat(200)), &names).is_err());
    assert!(Expr::compile(&format!("{}1{}", "[".repeat(500), "]".repeat(500)), &names).is_err());
    let long = Value::list((0..=ITEMS_MAX).map(|n| Value::Int(i64::try_from(n).expect("small"))));
    let order = Value::map([("lines", long)]);
    let all = Expr::compile("order.lines.all(l, l >= 0)", &names).expect("compiles");
    assert!(all.eval(&Scope::new().with("order", &order)).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(source in "[a-z0-9.'()\\[\\]{}+*/%<>=!&|?:, \"-]{0,60}") {
        let value = order();
        if let Ok(expr) = Expr::compile(&source, &Names::new(["order", "a"])) {
            let _ = expr.eval(&Scope::new().with("order", &value).with("a", &value));
        }
    }

    #[test]
    fn no_combination_of_values_makes_it_panic(
        left in prop::sample::select(vec!["order.id", "order.qty", "order.amount", "order.none", "order.lines", "order.open", "1", "'a'", "[1]", "{}", "order.big"]),
        operator in prop::sample::select(vec!["+", "-", "*", "/", "%", "<", ">=", "==", "!=", "in", "&&"]),
        right in prop::sample::select(vec!["order.id", "order.qty", "order.amount", "order.none", "order.lines", "order.open", "0", "'a'", "[1]", "{}", "order.big"]),
    ) {
        let _ = eval(&format!("{left} {operator} {right}"));
    }
}

#[test]
fn an_error_does_not_show_what_is_masked() {
    let (mask, iban) = (Mask::new(["iban"]), "DE89370400440532013000");
    let payee = Value::map([("iban", Value::from(iban)), ("name", Value::from("Bolt"))]);
    let scope = Scope::new().masking(&mask).with("payee", &payee);
    for source in ["payee.iban + 1", "dec(payee.iban)", "payee.name + payee", "payee.iban.gone"] {
        let told =
            Expr::compile(source, &Names::new(["payee"])).unwrap().eval(&scope).unwrap_err().to_string();
        assert!(!told.contains(iban), "{told}");
    }
    let told = Expr::compile("payee.iban + 1", &Names::new(["payee"]))
        .unwrap()
        .eval(&scope)
        .unwrap_err()
        .to_string();
    assert!(told.contains("payee.iban = \"•••• 3000\""), "{told}");
}

#[test]
fn a_member_in_brackets_is_one_like_any_other() {
    for (source, expected) in [
        ("order['id']", "\"SO-1\""),
        ("default(order['tax-id'], 'none')", "\"none\""),
        ("default(order['ship-to'].city, '')", "\"\""),
        ("default(order['customer'].name, '')", "\"ACME\""),
        ("order['lines'][1]['sku']", "\"B\""),
    ] {
        assert_eq!(shown(source), expected, "{source}");
    }
    assert!(shown("order['tax-id']").contains("there is no `order.tax-id`"), "{}", shown("order['tax-id']"));
    let references =
        Expr::compile("order['tax-id'] + order.id", &Names::new(["order"])).unwrap().references();
    assert_eq!(references, [["order", "tax-id"], ["order", "id"]]);
}

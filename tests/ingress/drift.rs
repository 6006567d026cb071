//! Versions and drift: what is lifted, what is counted, what is held, and for whom it was meant.

use syncline::ingress::drift::Kind;
use syncline_actors::envelope::Body;
use syncline_actors::value::Value;

use super::world::World;

const V1: &str = r#"{"type": "object", "required": ["id", "total"], "additionalProperties": false,
    "properties": {"type": {"type": "string"}, "v": {"const": 1}, "id": {"type": "string"}, "total": {"type": "string"},
        "note": {"type": "string"}}}"#;
const V2: &str = r#"{"type": "object", "required": ["v", "id", "price"],
    "properties": {"type": {"type": "string"}, "v": {"const": 2}, "id": {"type": "string"},
        "price": {"type": "object", "required": ["amount", "currency"],
            "properties": {"amount": {"type": "number"}, "currency": {"enum": ["EUR", "USD"]}}},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}}}}"#;

/// A source whose messages have two versions; `more` stands in the message's definition.
fn source(more: &str) -> String {
    format!(
        r#"
source: shop
owner: {{team: commerce, escalate: commerce-desk}}
preset: standard-webhooks
secrets: [{{id: current, ref: "env:CURRENT"}}]
messages:
  sold:
    version: "default(body.v, 1)"
    schemas: {{"1": sold.1.json, "2": sold.2.json}}
    {more}
    send:
      - event: order.sold
        to: {{process: order, key: "body.id"}}
        map: {{amount: "dec(body.price.amount)", currency: "body.price.currency", note?: "body.note"}}
"#
    )
}

const LIFT: &str = r#"upcast:
      "1":
        set: {v: "2", price: {amount: "dec(body.total)", currency: "'EUR'"}}
        remove: [total]"#;

fn world(more: &str) -> World {
    let schemas = [("sold.1.json", V1), ("sold.2.json", V2)];
    World::with_schemas(&[&source(more)], &schemas, 10_000, 1 << 20)
}

/// Kind, place and whether it was held, of all drift seen.
fn seen(world: &World) -> Vec<(Kind, String, u64, u64)> {
    world
        .ingress
        .drift()
        .into_iter()
        .map(|((_, _, kind, path), seen)| (kind, path, seen.count, seen.held))
        .collect()
}

fn data(world: &World) -> Vec<Value> {
    let all = world.delivered();
    let data = all.iter().filter_map(|envelope| match &envelope.body {
        Body::Event(event) => Some(event.data.clone()),
        _ => None,
    });
    data.collect()
}

fn value(json: &str) -> Value {
    Value::from_json(json.as_bytes(), 1000).expect("it is JSON")
}

#[tokio::test]
async fn an_old_version_is_lifted_before_it_is_mapped() {
    let world = world(LIFT);
    world.hook("m1", br#"{"type":"sold","id":"A","total":"10.10","note":"old"}"#).await;
    world.hook("m2", br#"{"type":"sold","v":2,"id":"B","price":{"amount":7,"currency":"USD"}}"#).await;
    assert!(world.kept().is_empty(), "{:?}", world.kept());
    let expected = [
        value(r#"{"amount":10.10,"currency":"EUR","note":"old"}"#),
        value(r#"{"amount":7,"currency":"USD"}"#),
    ];
    assert_eq!(data(&world), expected);
}

#[tokio::test]
async fn what_cannot_be_lifted_is_kept_with_the_reason() {
    for (upcast, told) in [
        (LIFT, "up-caster from version 1 to 2: `price`: amount = `dec(body.total)`"),
        (
            r#"upcast: {"1": {map: {v: "2", id: "body.id"}}}"#,
            "up-caster from version 1 to 2: what comes of it breaks its schema: the body: \"price\" is a required property",
        ),
    ] {
        let world = world(upcast);
        world.hook("m1", br#"{"type":"sold","id":"A","total":"ten"}"#).await;
        let kept = world.kept();
        assert!(kept["mapping"][0].reason.contains(told), "{}", kept["mapping"][0].reason);
        assert_eq!(&*kept["mapping"][0].meant_for, "order/A");
    }
}

#[tokio::test]
async fn a_version_that_nobody_knows_is_kept() {
    let world = world(LIFT);
    world.hook("m1", br#"{"type":"sold","v":3,"id":"A"}"#).await;
    assert_eq!(world.kept()["schema"][0].reason, "`sold` has no schema version 3; known: 1, 2");
    assert_eq!(&*world.kept()["schema"][0].meant_for, "order/A");
    assert!(seen(&world).is_empty());
}

#[tokio::test]
async fn a_new_field_is_counted_and_goes_on_where_the_content_model_is_open() {
    let world = world(LIFT);
    let body = br#"{"type":"sold","v":2,"id":"B","price":{"amount":7,"currency":"USD","tier":1},"x/y":1,"lines":[{"sku":"S"},{"sku":"T","n":1},{"n":2}]}"#;
    world.hook("m1", body).await;
    world.hook("m2", body).await;
    assert_eq!(world.delivered().len(), 2);
    let new = |path: &str| (Kind::NewField, path.to_owned(), 2, 0);
    assert_eq!(seen(&world), [new("/lines/*/n"), new("/price/tier"), new("/x~1y")]);
}

#[tokio::test]
async fn drift_is_held_or_goes_on_as_the_policy_says() {
    let good = r#"{"type":"sold","v":2,"id":"B","price":{"amount":7,"currency":"USD"}}"#;
    for (policy, body, kind, path, is_held) in [
        ("", good.replace("\"amount\":7", "\"amount\":\"7\""), Kind::TypeChange, "/price/amount", true),
        (
            "type_change: accept",
            good.replace("\"amount\":7", "\"amount\":\"7\""),
            Kind::TypeChange,
            "/price/amount",
            false,
        ),
        ("", good.replace("USD", "CHF"), Kind::NewValue, "/price/currency", true),
        ("new_enum_value: accept", good.replace("USD", "CHF"), Kind::NewValue, "/price/currency", false),
        ("new_field: hold", good.replace("\"id\"", "\"new\":1,\"id\""), Kind::NewField, "/new", true),
        // A closed content model holds what it does not know unless the policy says otherwise.
        ("", r#"{"type":"sold","id":"B","total":"7","new":1}"#.to_owned(), Kind::NewField, "/new", true),
        (
            "new_field: accept",
            r#"{"type":"sold","id":"B","total":"7","new":1}"#.to_owned(),
            Kind::NewField,
            "/new",
            false,
        ),
    ] {
        let world = world(&format!("drift: {{{policy}}}\n    {LIFT}"));
        world.hook("m1", body.as_bytes()).await;
        assert_eq!(seen(&world), [(kind, path.to_owned(), 1, u64::from(is_held))], "{policy}: {body}");
        assert_eq!(
            (world.kept().len(), world.delivered().len()),
            if is_held { (1, 0) } else { (0, 1) },
            "{policy}: {body}"
        );
        if is_held {
            let aside = &world.kept()["schema"][0];
            assert_eq!(aside.drift.path("0.path").and_then(Value::as_text), Some(path), "{:?}", aside.drift);
            assert_eq!(aside.drift.path("0.kind").and_then(Value::as_text), Some(kind.word()));
            assert_eq!(&*aside.meant_for, "order/B");
        }
    }
}

#[tokio::test]
async fn what_the_policy_lets_pass_saves_nothing_else() {
    let world = world(
        "drift: {missing_field: accept, type_change: accept, new_enum_value: accept, new_field: accept}",
    );
    let body = br#"{"type":"sold","v":2,"id":"B","price":{"amount":[],"currency":"USD"}}"#;
    world.hook("m1", body).await;
    // It goes past the schema and fails where it is mapped: kept all the same.
    assert_eq!(world.kept().keys().collect::<Vec<_>>(), [&"mapping"]);
}

#[tokio::test]
async fn a_field_that_may_have_been_renamed_is_told_so() {
    let world = world("");
    world.hook("m1", br#"{"type":"sold","v":2,"id":"B","price":{"amount":7,"curr":"USD"}}"#).await;
    let kept = world.kept();
    let reason = &kept["schema"][0].reason;
    assert!(reason.contains("/price/currency is missing; was it renamed to /price/curr?"), "{reason}");
    let places: Vec<_> = seen(&world).into_iter().map(|(kind, path, ..)| (kind, path)).collect();
    assert_eq!(
        places,
        [(Kind::NewField, "/price/curr".to_owned()), (Kind::MissingField, "/price/currency".to_owned())]
    );
}

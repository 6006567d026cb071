//! How a record of a system compares with the entity that it is of. Pure: nothing is asked or sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_actors::entity::State;
use syncline_actors::expr::Scope;
use syncline_actors::id::EntityId;
use syncline_actors::mask::Mask;
use syncline_actors::value::Value;

use crate::delivery::contract::{List, Reconcile};

/// How a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drift {
    /// It agrees.
    Equal,
    /// A field says something else.
    Differs,
    /// The system does not have it.
    Missing,
    /// Something about it is still on its way there: it is looked at another time.
    Stale,
}

impl Drift {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Stale => "stale",
        }
    }
}

/// A field that does not agree.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Differing {
    pub(super) name: String,
    pub(super) ours: Value,
    pub(super) theirs: Value,
    pub(super) is_theirs: bool,
}

/// What a comparison has found, and what can be done about it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) class: Drift,
    pub(super) fields: Vec<Differing>,
    /// The call that makes the system right: operation and input.
    pub(super) repair: Option<Value>,
    /// What the entity is told.
    pub(super) take: Option<Value>,
}

impl Found {
    /// What the run is told, and keeps: masked fields by their end. `repair`: the call that is made; `taken`: whether the entity took
    /// what the system says.
    pub(super) fn told(&self, key: &str, mask: &Mask, repair: Option<Value>, taken: bool) -> Value {
        let field = |field: &Differing| {
            Value::map([
                ("field", Value::from(&*field.name)),
                ("ours", mask.shown_at(&field.name, &field.ours)),
                ("theirs", mask.shown_at(&field.name, &field.theirs)),
                ("owner", Value::from(if field.is_theirs { "them" } else { "us" })),
            ])
        };
        let done = if repair.is_some() {
            "repair"
        } else if taken {
            "taken"
        } else {
            "none"
        };
        let wrong = matches!(self.class, Drift::Differs | Drift::Missing);
        // What we own is repaired, what they own taken: where both differ, both must be done.
        let ours = self.class == Drift::Missing || self.fields.iter().any(|field| !field.is_theirs);
        let theirs = self.fields.iter().any(|field| field.is_theirs);
        let open = wrong && ((ours && repair.is_none()) || (theirs && !taken));
        Value::map([
            ("class", Value::from(self.class.word())),
            ("repair", repair.unwrap_or_default()),
            ("taken", Value::Bool(taken)),
            ("open", Value::Bool(open)),
            (
                "drift",
                Value::map([
                    ("key", Value::from(key)),
                    ("class", Value::from(self.class.word())),
                    ("fields", Value::list(self.fields.iter().map(field))),
                    ("done", Value::from(done)),
                ]),
            ),
        ])
    }
}

/// Where the key of the entity stands in what an operation is given, and whether what differs is repaired. No operation looks there.
const KEY: &str = "$entity";
const APPLIES: &str = "$applies";

/// What the operation is given, with what the answer is compared with.
pub(super) fn item(input: &Value, key: &str, applies: bool) -> Value {
    let mut all = input.as_map().cloned().unwrap_or_default();
    all.insert(KEY.into(), Value::from(key));
    all.insert(APPLIES.into(), Value::Bool(applies));
    Value::Map(Arc::new(all))
}

pub(super) fn of_item(input: &Value) -> (String, bool) {
    let key = input.get(KEY).map(Value::to_plain_text).unwrap_or_default();
    (key, input.get(APPLIES).and_then(Value::as_bool).unwrap_or(false))
}

/// What expressions see of an entity.
struct Seen<'s> {
    kind: &'s str,
    fields: &'s Value,
    entity: Value,
}

impl<'s> Seen<'s> {
    fn of(how: &'s Reconcile, entity: &EntityId, state: &'s State) -> Self {
        let about = Value::map([("key", Value::from(entity.key())), ("status", Value::from(&*state.status))]);
        Self { kind: &how.kind.value, fields: &state.fields, entity: about }
    }

    fn scope(&self) -> Scope<'_> {
        Scope::new().with(self.kind, self.fields).with("entity", &self.entity)
    }
}

/// What the operation that reads the entity's record is given; none when the system need not know the entity, or it cannot be said.
pub(super) fn asked(how: &Reconcile, entity: &EntityId, state: &State) -> Option<Value> {
    let seen = Seen::of(how, entity, state);
    let wanted = how.when.as_ref().is_none_or(|when| when.eval_bool(&seen.scope()).unwrap_or(false));
    if wanted { how.with.eval(&seen.scope()).ok() } else { None }
}

/// Compares what the system says with an entity.
///
/// # Errors
/// When an expression over the answer fails: the connector's file and the system do not fit.
pub(super) fn compare(
    system: &str,
    how: &Reconcile,
    mask: &Mask,
    entity: &EntityId,
    state: &State,
    result: &Value,
) -> Result<Found, String> {
    let seen = Seen::of(how, entity, state);
    let scope = || seen.scope().masking(mask).with("result", result);
    let nothing = |class| Found { class, fields: Vec::new(), repair: None, take: None };
    if state.pending.values().any(|effect| *effect.connector == *system) {
        return Ok(nothing(Drift::Stale));
    }
    let absent = match &how.absent {
        Some(absent) => absent.eval_bool(&scope()).map_err(|error| error.to_string())?,
        None => result.is_null(),
    };
    let repair = |fields: &[Differing]| {
        let wrong = absent || fields.iter().any(|field| !field.is_theirs);
        let call = how.repair.as_ref().filter(|_| wrong)?;
        let input = call.with.eval(&scope()).ok()?;
        Some(Value::map([("operation", Value::from(&*call.call.value)), ("input", input)]))
    };
    if absent {
        return Ok(Found { repair: repair(&[]), ..nothing(Drift::Missing) });
    }
    let mut fields = Vec::new();
    for field in &how.fields {
        // What the entity does not have yet says nothing.
        let ours = field.ours.eval(&seen.scope()).unwrap_or_default();
        let theirs = field.theirs.eval(&scope()).map_err(|error| error.to_string())?;
        if !same(&ours, &theirs) {
            fields.push(Differing {
                name: field.name.value.clone(),
                ours,
                theirs,
                is_theirs: field.is_theirs,
            });
        }
    }
    if fields.is_empty() {
        return Ok(nothing(Drift::Equal));
    }
    let take = how.take.as_ref().filter(|_| fields.iter().any(|field| field.is_theirs));
    let take = take.and_then(|take| take.map.eval(&scope()).ok());
    Ok(Found { class: Drift::Differs, repair: repair(&fields), take, fields })
}

/// Whether two values say the same: numbers by value, whatever their digits and whether one of them is text.
fn same(ours: &Value, theirs: &Value) -> bool {
    if ours == theirs {
        return true;
    }
    let number =
        |value: &Value| value.as_decimal().or_else(|| value.as_text().and_then(Value::parse_decimal));
    match (ours.as_text(), theirs.as_text()) {
        (Some(_), Some(_)) => false,
        _ => number(ours).zip(number(theirs)).is_some_and(|(ours, theirs)| ours == theirs),
    }
}

/// The keys on a page of the system's records, and where the next one begins.
pub(super) fn page(
    list: &List,
    cursor: &Value,
    result: &Value,
) -> Result<(Vec<String>, Option<Value>), String> {
    let scope = || Scope::new().with("result", result).with("cursor", cursor);
    let items = list.items.eval(&scope()).map_err(|error| error.to_string())?;
    let items = items.as_list().ok_or_else(|| format!("`{}` gives no list", list.items.source()))?;
    let key = |item: &Value| {
        let key = list.key.eval(&Scope::new().with("item", item));
        key.map(|key| key.to_plain_text()).map_err(|error| error.to_string())
    };
    let keys = items.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let next = list.cursor.as_ref().map(|expr| expr.eval(&scope()).map_err(|error| error.to_string()));
    Ok((keys, next.transpose()?.filter(|next| !next.is_null())))
}

/// How often each field is among those that do not agree, of the drift that a run names.
pub(crate) fn by_field(drift: &Value) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let fields = drift.as_list().unwrap_or_default().iter().filter_map(|one| one.get("fields")?.as_list());
    for field in fields.flatten().filter_map(|field| field.get("field")) {
        *counts.entry(field.to_plain_text()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use syncline_actors::decision::Effect;
    use syncline_actors::id::EffectId;
    use syncline_actors::time::Timestamp;

    use super::*;
    use crate::delivery::contract;

    const ERP: &str = r#"
connector: erp
owner: {team: erp, escalate: erp-desk}
base_url: http://127.0.0.1:1
auth: {scheme: none}
operations:
  get: {method: GET, path: "/orders/{input.id}"}
  put: {method: PUT, path: "/orders/{input.id}", idempotency: natural}
reconcile:
  order:
    policy: apply
    read: get
    with: {id: order.erp_id}
    when: "has(order.erp_id)"
    absent: "default(result.absent, false)"
    fields:
      total: {ours: order.total, theirs: result.total}
      terms: {ours: order.terms, theirs: result.terms, owner: them}
    repair: {call: put, with: {id: order.erp_id, total: order.total}}
    take: {event: order.terms_changed, map: {terms: result.terms}}
"#;

    fn how() -> Arc<Reconcile> {
        let connector = contract::read("erp.yaml", ERP).unwrap_or_else(|problems| panic!("{problems:#?}"));
        connector.reconcile[0].clone()
    }

    fn json(text: &str) -> Value {
        Value::from_json(text.as_bytes(), 1 << 20).expect("it is JSON")
    }

    fn state(fields: &str) -> State {
        State { version: 1, status: "booked".into(), fields: json(fields), ..State::default() }
    }

    fn found(fields: &str, result: &str) -> Found {
        let entity = EntityId::new("order", "SO-1").expect("a legal id");
        compare("erp", &how(), &Mask::default(), &entity, &state(fields), &json(result)).expect("it compares")
    }

    #[test]
    fn what_the_system_need_not_know_is_not_asked_for() {
        let entity = EntityId::new("order", "SO-1").expect("a legal id");
        assert_eq!(asked(&how(), &entity, &state("{}")), None);
        let asked = asked(&how(), &entity, &state(r#"{"erp_id":"7"}"#)).expect("it is asked for");
        assert_eq!(asked, json(r#"{"id":"7"}"#));
        assert_eq!(of_item(&item(&asked, "SO-1", true)), ("SO-1".to_owned(), true));
    }

    #[test]
    fn numbers_agree_by_value() {
        let ours = r#"{"erp_id":"7","total":"10.10","terms":"net 30"}"#;
        for total in ["10.10", "\"10.1\"", "10.100"] {
            let theirs = format!(r#"{{"total":{total},"terms":"net 30"}}"#);
            let class = found(&ours.replace("\"10.10\"", "10.1"), &theirs).class;
            assert_eq!(class, Drift::Equal, "{total}");
        }
    }

    #[test]
    fn our_field_is_repaired_and_theirs_is_taken() {
        let ours = r#"{"erp_id":"7","total":10.10,"terms":"net 30"}"#;
        let found_ours = found(ours, r#"{"total":9,"terms":"net 30"}"#);
        assert_eq!((found_ours.class, found_ours.take.is_some()), (Drift::Differs, false));
        assert_eq!(found_ours.repair, Some(json(r#"{"operation":"put","input":{"id":"7","total":10.10}}"#)));
        let found_theirs = found(ours, r#"{"total":10.1,"terms":"net 60"}"#);
        assert_eq!(found_theirs.repair, None, "what the system owns is never overwritten");
        assert_eq!(found_theirs.take, Some(json(r#"{"terms":"net 60"}"#)));
        let told = found_theirs.told("SO-1", &Mask::default(), None, false);
        assert_eq!(told.get("open"), Some(&Value::Bool(true)), "held until somebody decides");
        assert_eq!(
            found_theirs.told("SO-1", &Mask::default(), None, true).get("open"),
            Some(&Value::Bool(false))
        );
        let both = found(ours, r#"{"total":9,"terms":"net 60"}"#);
        let told = both.told("SO-1", &Mask::default(), both.repair.clone(), false);
        assert_eq!(told.get("open"), Some(&Value::Bool(true)), "one of the two is not enough");
        let drift = Value::list([told.get("drift").expect("it tells").clone()]);
        assert_eq!(by_field(&drift), BTreeMap::from([("terms".to_owned(), 1), ("total".to_owned(), 1)]));
    }

    #[test]
    fn what_is_not_there_is_missing_and_what_is_on_its_way_is_stale() {
        let ours = r#"{"erp_id":"7","total":1,"terms":"x"}"#;
        let missing = found(ours, r#"{"absent":true}"#);
        assert!(missing.class == Drift::Missing && missing.repair.is_some());
        let mut waiting = state(ours);
        let id = EffectId { seq: 3, n: 0 };
        let effect = Effect {
            id,
            name: "put".into(),
            connector: "erp".into(),
            operation: "put".into(),
            input: Value::Null,
            undoes: None,
            due: Timestamp(0),
        };
        waiting.pending.insert(id, effect);
        let entity = EntityId::new("order", "SO-1").expect("a legal id");
        let mask = Mask::default();
        let stale =
            compare("erp", &how(), &mask, &entity, &waiting, &json(r#"{"total":9}"#)).expect("it compares");
        assert_eq!((stale.class, stale.repair), (Drift::Stale, None));
        assert!(
            compare("erp", &how(), &mask, &entity, &state(ours), &json(r#"{"total":9}"#)).is_err(),
            "no `terms`"
        );
    }

    #[test]
    fn what_is_masked_is_compared_whole_and_told_by_its_end() {
        let ours = r#"{"erp_id":"7","total":1,"terms":"DE89370400440532013000"}"#;
        let theirs = r#"{"total":1,"terms":"DE02120300000000202051"}"#;
        let (mask, found) = (Mask::new(["terms"]), found(ours, theirs));
        assert_eq!(
            found.take,
            Some(json(r#"{"terms":"DE02120300000000202051"}"#)),
            "the entity gets all of it"
        );
        let told = found.told("SO-1", &mask, None, true).to_json();
        assert!(told.contains("•••• 3000") && told.contains("•••• 2051"), "{told}");
        assert!(!told.contains("DE89") && !told.contains("DE02"), "{told}");
        let entity = EntityId::new("order", "SO-1").expect("a legal id");
        let theirs = json(r#"{"total":{"terms":"DE02120300000000202051"}}"#);
        let why = compare("erp", &how(), &mask, &entity, &state(ours), &theirs).expect_err("no `terms`");
        assert!(!why.contains("DE02"), "{why}");
    }
}

//! What an expression may call besides CEL's own: exact numbers, text, lists.
#![expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "every function has the signature of the table"
)]

use cel::common::types::{CelBool, CelInt, CelOptional, CelString, DYN_TYPE};
use cel::common::value::CowVal;
use cel::{Env, ExecutionError};
use rust_decimal::{Decimal, RoundingStrategy};

use super::val::{number, take};
use crate::record::Hash;
use crate::value::Value;

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// A function of ours: its name in expressions, how many arguments it takes (a method's target among them), and what it does.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) arguments: usize,
    run: for<'b, 'v> fn(Args<'b, 'v>) -> Answer<'b, 'v>,
}

/// Every function of ours. `a.f(b)` and `f(a, b)` are the same.
pub(super) static FUNCTIONS: [Function; 23] = [
    Function { name: "dec", arguments: 1, run: dec },
    Function { name: "round", arguments: 2, run: round },
    Function { name: "string", arguments: 1, run: string },
    Function { name: "int", arguments: 1, run: int },
    Function {
        name: "abs",
        arguments: 1,
        run: |args| decimal(&args[0], "abs").map(|d| give(Value::Decimal(d.abs()))),
    },
    Function { name: "sum", arguments: 1, run: sum },
    Function { name: "join", arguments: 2, run: join },
    Function { name: "split", arguments: 2, run: split },
    Function {
        name: "upper",
        arguments: 1,
        run: |args| Ok(text_of(text(&args[0], "upper")?.to_uppercase())),
    },
    Function {
        name: "lower",
        arguments: 1,
        run: |args| Ok(text_of(text(&args[0], "lower")?.to_lowercase())),
    },
    Function {
        name: "trim",
        arguments: 1,
        run: |args| Ok(text_of(text(&args[0], "trim")?.trim().to_owned())),
    },
    Function { name: "substring", arguments: 3, run: substring },
    Function { name: "replace", arguments: 3, run: replace },
    Function {
        name: "masked",
        arguments: 1,
        run: |args| Ok(text_of(crate::mask::masked(&text(&args[0], "masked")?))),
    },
    Function { name: "keys", arguments: 1, run: keys },
    Function {
        name: "urlencode",
        arguments: 1,
        run: |args| Ok(text_of(urlencode(&text(&args[0], "urlencode")?))),
    },
    Function { name: "sha256", arguments: 1, run: sha256 },
    Function { name: "@default", arguments: 2, run: default },
    Function {
        name: "@number",
        arguments: 1,
        run: |mut args| Ok(number(args[0].as_ref()).map_or_else(|| args.remove(0), give)),
    },
    Function { name: "@native", arguments: 1, run: native },
    Function {
        name: "@equal",
        arguments: 2,
        run: |args| Ok(bool_of(take(args[0].as_ref())? == take(args[1].as_ref())?)),
    },
    Function {
        name: "@unequal",
        arguments: 2,
        run: |args| Ok(bool_of(take(args[0].as_ref())? != take(args[1].as_ref())?)),
    },
    Function { name: "last", arguments: 1, run: last },
];

/// CEL's own, and ours.
pub(super) fn env() -> Env {
    let mut env = Env::stdlib();
    for function in &FUNCTIONS {
        let name = internal(function.name);
        env.add_overload(&name, &name, (0..function.arguments).map(|_| DYN_TYPE).collect(), function.run)
            .expect("the names of the functions are distinct");
    }
    env
}

/// The name under which a function is known to the interpreter: one that no expression can write.
pub(super) fn internal(name: &str) -> String {
    if name.starts_with('@') { name.to_owned() } else { format!("@{name}") }
}

fn give<'b, 'v>(value: Value) -> CowVal<'b, 'v> {
    match value {
        Value::Text(text) => text_of(text.to_string()),
        Value::Bool(value) => bool_of(value),
        other => CowVal::owned(other),
    }
}

fn text_of<'b, 'v>(text: String) -> CowVal<'b, 'v> {
    CowVal::owned(CelString::from(text))
}

fn bool_of<'b, 'v>(value: bool) -> CowVal<'b, 'v> {
    CowVal::owned(CelBool::from(value))
}

fn wrong(function: &str, found: &Value, wanted: &str) -> ExecutionError {
    let message =
        format!("{function}() wants {wanted}, and was given {} ({})", found.kind_name(), found.preview(40));
    ExecutionError::function_error(function, message)
}

fn text(value: &CowVal<'_, '_>, function: &str) -> Result<String, ExecutionError> {
    match take(value.as_ref())? {
        Value::Text(text) => Ok(text.to_string()),
        other => Err(wrong(function, &other, "text")),
    }
}

fn decimal(value: &CowVal<'_, '_>, function: &str) -> Result<Decimal, ExecutionError> {
    let value = take(value.as_ref())?;
    let found = match &value {
        Value::Text(text) => Value::parse_decimal(text.trim()),
        other => other.as_decimal(),
    };
    found.ok_or_else(|| wrong(function, &value, "a number of at most 28 digits, or text that is one"))
}

fn list(value: &CowVal<'_, '_>, function: &str) -> Result<std::sync::Arc<Vec<Value>>, ExecutionError> {
    match take(value.as_ref())? {
        Value::List(list) => Ok(list),
        other => Err(wrong(function, &other, "a list")),
    }
}

fn count(value: &CowVal<'_, '_>, function: &str) -> Result<u32, ExecutionError> {
    let value = take(value.as_ref())?;
    let found = value.as_int().and_then(|int| u32::try_from(int).ok());
    found.ok_or_else(|| wrong(function, &value, "a whole number from 0"))
}

fn dec<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    decimal(&args[0], "dec").map(|decimal| give(Value::Decimal(decimal)))
}

/// Half away from zero, as invoices round unless they say otherwise, with the scale asked for: `2.5.round(0)` is 3.
fn round<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let scale = count(&args[1], "round")?;
    let number = decimal(&args[0], "round")?;
    let mut rounded = number.round_dp_with_strategy(scale, RoundingStrategy::MidpointAwayFromZero);
    rounded.rescale(scale);
    Ok(give(Value::Decimal(rounded)))
}

fn string<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    take(args[0].as_ref()).map(|value| text_of(value.to_plain_text()))
}

fn int<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let number = decimal(&args[0], "int")?.trunc();
    let int = i64::try_from(number)
        .map_err(|_too_large| wrong("int", &Value::Decimal(number), "a number that fits 64 bits"));
    int.map(|int| CowVal::owned(CelInt::from(int)))
}

fn sum<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let items = list(&args[0], "sum")?;
    let mut total = Decimal::ZERO;
    for item in items.iter() {
        let item = item.as_decimal().ok_or_else(|| wrong("sum", item, "a list of numbers"))?;
        let next = total.checked_add(item);
        total =
            next.ok_or_else(|| ExecutionError::function_error("sum", "the sum is too large to be exact"))?;
    }
    Ok(give(Value::Decimal(total)))
}

fn join<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let between = text(&args[1], "join")?;
    let items: Vec<String> = list(&args[0], "join")?.iter().map(Value::to_plain_text).collect();
    Ok(text_of(items.join(&between)))
}

fn split<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let (all, at) = (text(&args[0], "split")?, text(&args[1], "split")?);
    Ok(give(Value::list(all.split(at.as_str()).map(Value::from))))
}

fn last<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    Ok(give(list(&args[0], "last")?.last().cloned().unwrap_or_default()))
}

fn substring<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let (from, to) = (count(&args[1], "substring")? as usize, count(&args[2], "substring")? as usize);
    let all = text(&args[0], "substring")?;
    Ok(text_of(all.chars().skip(from).take(to.saturating_sub(from)).collect()))
}

fn replace<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let (all, what, by) =
        (text(&args[0], "replace")?, text(&args[1], "replace")?, text(&args[2], "replace")?);
    Ok(text_of(all.replace(&what, &by)))
}

fn keys<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    match take(args[0].as_ref())? {
        Value::Map(map) => Ok(give(Value::list(map.keys().map(|key| Value::from(key.as_str()))))),
        other => Err(wrong("keys", &other, "a map")),
    }
}

fn sha256<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    Ok(text_of(Hash::of(text(&args[0], "sha256")?.as_bytes()).to_string()))
}

/// All but letters, digits and `-_.~` as percent escapes of their bytes (RFC 3986).
fn urlencode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The first argument unless it is absent or null, else the second.
fn default<'b, 'v>(mut args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let given = match args[0].downcast_ref::<CelOptional<'_>>() {
        Some(optional) => optional.inner().map_or(Ok(Value::Null), take)?,
        None => take(args[0].as_ref())?,
    };
    Ok(if given.is_null() { args.remove(1) } else { give(given) })
}

/// A number of ours as the interpreter's own where it is whole: its list literals know no other.
fn native<'b, 'v>(mut args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let whole = args[0].downcast_ref::<Value>().and_then(Value::as_int);
    Ok(whole.map_or_else(|| args.remove(0), |int| CowVal::owned(CelInt::from(int))))
}

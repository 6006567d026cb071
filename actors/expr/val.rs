//! Our values as the interpreter sees them: lent, not converted.
//!
//! Text, booleans and null are handed over as the interpreter's own, because its operators know no others; a text is borrowed, not
//! copied. Numbers, lists and maps stay ours, so that decimals are exact and nothing is built for a path that is not looked at.

use std::any::Any;
use std::cmp::Ordering;

use cel::ExecutionError;
use cel::common::traits::{
    Adder, Comparer, Container, Divider, Indexer, Iterable, Modder, Multiplier, Negator, Sizer, Subtractor,
};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelNull, CelOptional, CelString, CelUInt, DYN_TYPE, LIST_TYPE, MAP_TYPE, Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use rust_decimal::Decimal;

use super::ITEMS_MAX;
use crate::value::Value;

static LIST: Type = LIST_TYPE;
static MAP: Type = MAP_TYPE;
static NUMBER: Type = Type::new_unspecified_type("number");
static ANY: Type = DYN_TYPE;
static TRUE: CelBool = CelBool::TRUE;
static FALSE: CelBool = CelBool::FALSE;
static NULL: CelNull = CelNull;

/// Lends a value to the interpreter.
pub(super) fn lend<'b, 'v>(value: &'b Value) -> CowVal<'b, 'v>
where
    'b: 'v,
{
    match value {
        Value::Text(text) => CowVal::owned(CelString::from(&**text)),
        Value::Bool(true) => CowVal::Borrowed(&TRUE),
        Value::Bool(false) => CowVal::Borrowed(&FALSE),
        Value::Null => CowVal::Borrowed(&NULL),
        other => CowVal::Borrowed(other),
    }
}

/// Takes a result back.
pub(super) fn take(found: &dyn Val) -> Result<Value, ExecutionError> {
    if let Some(value) = found.downcast_ref::<Value>() {
        return Ok(value.clone());
    }
    if let Some(text) = found.downcast_ref::<CelString<'_>>() {
        return Ok(Value::from(text.inner()));
    }
    if let Some(value) = found.downcast_ref::<CelBool>() {
        return Ok(Value::Bool(*value.inner()));
    }
    if let Some(number) = number(found) {
        return Ok(number);
    }
    if found.downcast_ref::<CelNull>().is_some() {
        return Ok(Value::Null);
    }
    if let Some(optional) = found.downcast_ref::<CelOptional<'_>>() {
        return optional.inner().map_or(Ok(Value::Null), take);
    }
    if let Some(map) = found.downcast_ref::<cel::common::types::CelMap<'_>>() {
        let entries = map.inner().iter();
        let entries =
            entries.map(|(key, value)| Ok((take(key.inner())?.to_plain_text(), take(value.as_ref())?)));
        return entries.collect::<Result<Vec<_>, ExecutionError>>().map(Value::map);
    }
    if let Some(list) = found.as_iterable() {
        let (mut items, mut iter) = (Vec::new(), list.iter());
        while let Some(item) = iter.next() {
            items.push(take(item)?);
        }
        return Ok(Value::from(items));
    }
    Err(ExecutionError::function_error(
        "result",
        format!("a {} is no business data", found.get_type().name()),
    ))
}

/// A whole number or a decimal, whoever it comes from. Doubles are none: they are not exact.
pub(super) fn number(found: &dyn Val) -> Option<Value> {
    if let Some(value @ (Value::Int(_) | Value::Decimal(_))) = found.downcast_ref::<Value>() {
        return Some(value.clone());
    }
    if let Some(int) = found.downcast_ref::<CelInt>() {
        return Some(Value::Int(*int.inner()));
    }
    let uint = found.downcast_ref::<CelUInt>()?;
    Some(
        i64::try_from(*uint.inner())
            .map_or_else(|_| Value::Decimal(Decimal::from(*uint.inner())), Value::Int),
    )
}

impl StaticVal for Value {}

impl Val for Value {
    fn get_type(&self) -> &Type {
        match self {
            Self::List(_) => &LIST,
            Self::Map(_) => &MAP,
            Self::Int(_) | Self::Decimal(_) => &NUMBER,
            Self::Null | Self::Bool(_) | Self::Text(_) => &ANY,
        }
    }

    fn cel_type() -> &'static Type {
        &ANY
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        matches!(self, Self::Int(_) | Self::Decimal(_) | Self::List(_)).then_some(self as &dyn Adder)
    }

    fn as_subtractor<'b, 'v>(&'b self) -> Option<&'b (dyn Subtractor + 'v)>
    where
        Self: 'v,
    {
        self.as_decimal().map(|_| self as &dyn Subtractor)
    }

    fn as_multiplier<'b, 'v>(&'b self) -> Option<&'b (dyn Multiplier + 'v)>
    where
        Self: 'v,
    {
        self.as_decimal().map(|_| self as &dyn Multiplier)
    }

    fn as_divider<'b, 'v>(&'b self) -> Option<&'b (dyn Divider + 'v)>
    where
        Self: 'v,
    {
        self.as_decimal().map(|_| self as &dyn Divider)
    }

    fn as_modder<'b, 'v>(&'b self) -> Option<&'b (dyn Modder + 'v)>
    where
        Self: 'v,
    {
        self.as_decimal().map(|_| self as &dyn Modder)
    }

    fn as_negator<'b, 'v>(&'b self) -> Option<&'b (dyn Negator + 'v)>
    where
        Self: 'v,
    {
        self.as_decimal().map(|_| self as &dyn Negator)
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        self.as_decimal().map(|_| self as &dyn Comparer)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        matches!(self, Self::List(_) | Self::Map(_)).then_some(self as &dyn Container)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        matches!(self, Self::List(_) | Self::Map(_)).then_some(self as &dyn Indexer)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        // A longer list is refused rather than cut: `limits` names the error.
        matches!(self, Self::List(list) if list.len() <= ITEMS_MAX).then_some(self as &dyn Iterable)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        matches!(self, Self::List(_) | Self::Map(_)).then_some(self as &dyn Sizer)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        match self {
            Self::Int(_) | Self::Decimal(_) => number(other).is_some_and(|other| *self == other),
            _ => take(other).is_ok_and(|other| *self == other),
        }
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        match self {
            Self::Text(text) => Box::new(CelString::from(text.to_string())),
            Self::Bool(value) => Box::new(CelBool::from(*value)),
            Self::Null => Box::new(CelNull),
            other => Box::new(other.clone()),
        }
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// Computes with two numbers: whole where both are and the result fits, exact in any case, or an error.
fn compute<'b, 'v>(
    operator: &'static str,
    left: &Value,
    right: &(dyn Val + '_),
    whole: impl FnOnce(i64, i64) -> Option<i64>,
    exact: impl FnOnce(Decimal, Decimal) -> Option<Decimal>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let Some(right) = number(right) else {
        let hint = if right.downcast_ref::<CelDouble>().is_some() {
            " (a double is not exact: use dec('…'))"
        } else {
            ""
        };
        let message =
            format!("`{operator}` needs two numbers, the right side is {}{hint}", right.get_type().name());
        return Err(ExecutionError::function_error(operator, message));
    };
    if let (Value::Int(a), Value::Int(b)) = (left, &right)
        && let Some(result) = whole(*a, *b)
    {
        return Ok(CowVal::owned(Value::Int(result)));
    }
    let both = left.as_decimal().zip(right.as_decimal());
    let result = both.and_then(|(a, b)| exact(a, b));
    result.map(|result| CowVal::owned(Value::Decimal(result))).ok_or_else(|| {
        let zero = right.as_decimal().is_some_and(|b| b.is_zero()) && matches!(operator, "/" | "%");
        let why = if zero { "division by zero" } else { "the result is too large to be exact" };
        ExecutionError::function_error(operator, format!("{left} {operator} {right}: {why}"))
    })
}

impl Adder for Value {
    fn add<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        if let Self::List(list) = self {
            let Self::List(more) = take(rhs)? else {
                return Err(ExecutionError::function_error("+", "a list can only be joined with a list"));
            };
            return Ok(CowVal::owned(Self::list(list.iter().chain(more.iter()).cloned())));
        }
        compute("+", self, rhs, i64::checked_add, Decimal::checked_add)
    }
}

impl Subtractor for Value {
    fn sub<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        compute("-", self, rhs, i64::checked_sub, Decimal::checked_sub)
    }
}

impl Multiplier for Value {
    fn mul<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        compute("*", self, rhs, i64::checked_mul, Decimal::checked_mul)
    }
}

impl Divider for Value {
    /// Whole numbers that divide without rest stay whole; anything else is a decimal of 28 digits, so name the rounding.
    fn div<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let whole = |a: i64, b: i64| (a.checked_rem(b)? == 0).then(|| a.checked_div(b)).flatten();
        compute("/", self, rhs, whole, |a, b| a.checked_div(b).map(|result| result.normalize()))
    }
}

impl Modder for Value {
    fn modulo<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        compute("%", self, rhs, i64::checked_rem, Decimal::checked_rem)
    }
}

impl Negator for Value {
    fn negate<'v>(&self) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        compute("-", &Value::Int(0), self, i64::checked_sub, Decimal::checked_sub).map(CowVal::into_owned)
    }
}

impl Comparer for Value {
    fn compare(&self, rhs: &dyn Val) -> Result<Ordering, ExecutionError> {
        let both = self.as_decimal().zip(number(rhs).and_then(|right| right.as_decimal()));
        both.map(|(left, right)| left.cmp(&right)).ok_or_else(|| {
            let message = format!("a number cannot be compared with {}", rhs.get_type().name());
            ExecutionError::function_error("compare", message)
        })
    }
}

impl Container for Value {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        let value = take(value)?;
        Ok(match self {
            Self::List(list) => list.contains(&value),
            Self::Map(map) => value.as_text().is_some_and(|key| map.contains_key(key)),
            _ => false,
        })
    }
}

impl Indexer for Value {
    fn get<'b, 'v>(&'b self, field: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let found = match self {
            Self::Map(map) => field.downcast_ref::<CelString<'_>>().map(|key| map.get(key.inner())),
            Self::List(list) => {
                let index = number(field).and_then(|number| number.as_int());
                index.map(|index| usize::try_from(index).ok().and_then(|index| list.get(index)))
            }
            _ => None,
        };
        match found {
            Some(Some(value)) => Ok(inside(value)),
            _ => Err(ExecutionError::no_such_key(&take(field)?.to_plain_text())),
        }
    }

    fn steal<'v>(self: Box<Self>, field: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Indexer::get(&*self, field).map(CowVal::into_owned)
    }
}

/// A value inside another. Unlike [`lend`] it may outlive nothing but the other, so text is shared by count, not by reference.
fn inside<'v>(value: &Value) -> CowVal<'_, 'v> {
    match value {
        Value::Text(_) => CowVal::Owned(value.clone_as_boxed()),
        Value::Bool(true) => CowVal::Borrowed(&TRUE),
        Value::Bool(false) => CowVal::Borrowed(&FALSE),
        Value::Null => CowVal::Borrowed(&NULL),
        other => CowVal::Borrowed(other),
    }
}

impl Sizer for Value {
    fn size(&self) -> CelInt {
        let size = match self {
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            _ => 0,
        };
        CelInt::from(i64::try_from(size).unwrap_or(i64::MAX))
    }
}

impl Iterable for Value {
    fn iter<'b, 'v>(&'b self) -> Box<dyn cel::common::traits::Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Items(self.as_list().unwrap_or_default().iter()))
    }
}

struct Items<'b>(std::slice::Iter<'b, Value>);

impl<'b, 'v> cel::common::traits::Iterator<'b, 'v> for Items<'b> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|value| value as &dyn Val)
    }
}

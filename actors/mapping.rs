//! Mappings: structure in YAML, values in expressions.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::expr::{Expr, ExprError, ITEMS_MAX, Scope};
use crate::value::{Entries, SmolStr, Value};

/// How data of one shape becomes data of another.
#[derive(Debug, Clone)]
pub struct Mapping(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Expr(Expr),
    Literal(Value),
    Optional(Box<Mapping>),
    List(Vec<Mapping>),
    Map(Vec<(SmolStr, Mapping)>),
    Each(Box<Each>),
}

#[derive(Debug, Clone)]
struct Each {
    list: Expr,
    name: String,
    filter: Option<Expr>,
    map: Mapping,
}

/// Why a mapping gives nothing. `target` is where in the result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if target.is_empty() { String::new() } else { format!("{target} = ") })]
pub struct MappingError {
    /// Path in the result, e.g. `lines[2].sku`; empty for the whole.
    pub target: String,
    /// What is wrong there.
    pub problem: String,
}

impl Mapping {
    /// The value of an expression.
    pub fn expr(expr: Expr) -> Self {
        Self(Kind::Expr(expr))
    }

    /// A value that is always the same.
    pub fn literal(value: Value) -> Self {
        Self(Kind::Literal(value))
    }

    /// An entry of a map that is left out when its source is absent or null.
    #[must_use]
    pub fn optional(inner: Self) -> Self {
        Self(Kind::Optional(Box::new(inner)))
    }

    /// A list of so many items.
    pub fn list(items: Vec<Self>) -> Self {
        Self(Kind::List(items))
    }

    /// A map with these keys.
    pub fn map(entries: Vec<(String, Self)>) -> Self {
        Self(Kind::Map(entries.into_iter().map(|(key, mapping)| (key.into(), mapping)).collect()))
    }

    /// An item for each item of a list, which `name` stands for, that passes the filter.
    pub fn each(list: Expr, name: &str, filter: Option<Expr>, map: Self) -> Self {
        Self(Kind::Each(Box::new(Each { list, name: name.to_owned(), filter, map })))
    }

    /// What it always gives, as [`Value::kind_name`]; none where that depends on what an expression gives.
    pub fn kind_name(&self) -> Option<&'static str> {
        match &self.0 {
            Kind::Literal(value) => Some(value.kind_name()),
            Kind::List(_) | Kind::Each(_) => Some("list"),
            Kind::Map(_) => Some("map"),
            Kind::Optional(inner) => inner.kind_name(),
            Kind::Expr(_) => None,
        }
    }

    /// The expression, if it is nothing else, optional or not.
    pub fn as_expr(&self) -> Option<&Expr> {
        match &self.0 {
            Kind::Expr(expr) => Some(expr),
            Kind::Optional(inner) => inner.as_expr(),
            _ => None,
        }
    }

    /// What it gives in `scope`.
    ///
    /// # Errors
    /// [`MappingError`]: which target, which expression, what was missing. An absent source of an entry that is not optional is
    /// one; nothing is left out in silence.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value, MappingError> {
        match &self.0 {
            Kind::Expr(expr) => expr.eval(scope).map_err(|error| at("", &error)),
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Optional(inner) => inner.eval(scope),
            Kind::List(items) => {
                let item = |(index, item): (usize, &Self)| {
                    item.eval(scope).map_err(|e| e.below(&format!("[{index}]")))
                };
                items.iter().enumerate().map(item).collect::<Result<Vec<_>, _>>().map(Value::from)
            }
            Kind::Map(entries) => {
                let mut all = Entries::new();
                for (key, mapping) in entries {
                    if let Some(value) = mapping.entry(scope).map_err(|error| error.below(key))? {
                        all.insert(key.clone(), value);
                    }
                }
                Ok(Value::Map(Arc::new(all)))
            }
            Kind::Each(each) => each.eval(scope),
        }
    }

    /// What it gives in `scope`: none where it is optional and something that it looks at is absent or null.
    ///
    /// # Errors
    /// As [`Mapping::eval`].
    pub fn given(&self, scope: &Scope<'_>) -> Result<Option<Value>, MappingError> {
        self.entry(scope)
    }

    /// An optional entry is none when all it looks at is absent or null; any other error stands.
    fn entry(&self, scope: &Scope<'_>) -> Result<Option<Value>, MappingError> {
        let Kind::Optional(inner) = &self.0 else { return self.eval(scope).map(Some) };
        let absent = |path: &Vec<String>| {
            let root = path.first().and_then(|root| scope.get(root));
            let found = root.and_then(|root| path[1..].iter().try_fold(root, |value, part| value.get(part)));
            found.is_none_or(Value::is_null)
        };
        if inner.sources().iter().any(absent) {
            return Ok(None);
        }
        inner.eval(scope).map(|value| (!value.is_null()).then_some(value))
    }

    /// What decides whether it is there: for a loop, its list; for a map, what must be there for it.
    fn sources(&self) -> Vec<Vec<String>> {
        match &self.0 {
            Kind::Expr(expr) => expr.references(),
            Kind::Map(entries) => entries.iter().flat_map(|(_, inner)| inner.sources()).collect(),
            Kind::Each(each) => each.list.references(),
            _ => Vec::new(),
        }
    }

    /// Each of its expressions with the name that its value stands under; `name` where that is the whole.
    pub fn leaves<'m>(&'m self, name: &'m str) -> Vec<(&'m str, &'m Expr)> {
        match &self.0 {
            Kind::Expr(expr) => vec![(name, expr)],
            Kind::Literal(_) => Vec::new(),
            Kind::Optional(inner) => inner.leaves(name),
            Kind::List(items) => items.iter().flat_map(|item| item.leaves(name)).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|(key, mapping)| mapping.leaves(key)).collect(),
            Kind::Each(each) => [(name, &each.list)].into_iter().chain(each.map.leaves(name)).collect(),
        }
    }

    /// Each of its expressions, and whether what it looks at may be absent.
    pub fn exprs(&self, see: &mut impl FnMut(&Expr, bool)) {
        self.exprs_below(false, see);
    }

    fn exprs_below(&self, is_optional: bool, see: &mut impl FnMut(&Expr, bool)) {
        match &self.0 {
            Kind::Expr(expr) => see(expr, is_optional),
            Kind::Literal(_) => {}
            Kind::Optional(inner) => inner.exprs_below(true, see),
            Kind::List(items) => items.iter().for_each(|item| item.exprs_below(is_optional, see)),
            Kind::Map(entries) => entries.iter().for_each(|(_, inner)| inner.exprs_below(is_optional, see)),
            Kind::Each(each) => {
                see(&each.list, is_optional);
                each.filter.iter().for_each(|filter| see(filter, is_optional));
                each.map.exprs_below(is_optional, see);
            }
        }
    }

    /// The keys of the map that it gives, and whether each may be left out; none where it gives something else.
    pub fn keys(&self) -> Option<BTreeMap<&str, bool>> {
        let Kind::Map(entries) = &self.0 else { return None };
        Some(
            entries.iter().map(|(key, inner)| (key.as_str(), matches!(inner.0, Kind::Optional(_)))).collect(),
        )
    }

    /// What its expressions look at, as [`Expr::references`], less the names of its own loops.
    pub fn references(&self) -> Vec<Vec<String>> {
        match &self.0 {
            Kind::Expr(expr) => expr.references(),
            Kind::Literal(_) => Vec::new(),
            Kind::Optional(inner) => inner.references(),
            Kind::List(items) => items.iter().flat_map(Self::references).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|(_, mapping)| mapping.references()).collect(),
            Kind::Each(each) => {
                let filter = each.filter.iter().flat_map(Expr::references);
                let inner =
                    filter.chain(each.map.references()).filter(|path| path.first() != Some(&each.name));
                each.list.references().into_iter().chain(inner).collect()
            }
        }
    }
}

impl Each {
    fn eval(&self, scope: &Scope<'_>) -> Result<Value, MappingError> {
        let list = self.list.eval(scope).map_err(|error| at("", &error))?;
        let Some(items) = list.as_list() else {
            let problem = format!(
                "`{}` is {} ({}), not a list",
                self.list.source(),
                list.kind_name(),
                list.preview(40)
            );
            return Err(MappingError { target: String::new(), problem });
        };
        if items.len() > ITEMS_MAX {
            let problem = format!(
                "`{}` has {} items, at most {ITEMS_MAX} are allowed",
                self.list.source(),
                items.len()
            );
            return Err(MappingError { target: String::new(), problem });
        }
        let mut mapped = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let inner = scope.clone().with(&self.name, item);
            if let Some(filter) = &self.filter
                && !filter.eval_bool(&inner).map_err(|error| at(&format!("[{index}]"), &error))?
            {
                continue;
            }
            mapped.push(self.map.eval(&inner).map_err(|error| error.below(&format!("[{index}]")))?);
        }
        Ok(Value::from(mapped))
    }
}

fn at(target: &str, error: &ExprError) -> MappingError {
    MappingError { target: target.to_owned(), problem: error.to_string() }
}

impl MappingError {
    fn below(self, key: &str) -> Self {
        let target = match self.target.as_str() {
            "" => key.to_owned(),
            inner if inner.starts_with('[') => format!("{key}{inner}"),
            inner => format!("{key}.{inner}"),
        };
        Self { target, ..self }
    }
}

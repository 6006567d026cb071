//! Expressions: CEL behind one type of ours.
//!
//! CEL ends by design. What it lacks is added here: exact decimals (a number of ours never becomes a float), bounds on the
//! source's length, its depth, the nesting of its loops and the lists they run over, and errors that name what was missing.
//! Nothing is converted before an evaluation: our values are lent to the interpreter as they are (`expr/val.rs`).

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use cel::common::ast::IdedExpr;
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError};

use crate::mask::{Mask, masked as masked_text};
use crate::value::Value;

mod functions;
mod rewrite;
mod val;

/// Longest source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 4096;
/// Deepest nesting of a source.
pub const DEPTH_MAX: u16 = 48;
/// Loops within loops.
pub const LOOPS_MAX: usize = 2;
/// Longest list that a loop runs over.
pub const ITEMS_MAX: usize = 10_000;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(functions::env()));

/// A compiled expression. Cheap to clone.
#[derive(Clone)]
pub struct Expr(Arc<Compiled>);

struct Compiled {
    source: String,
    program: IdedExpr,
    references: Vec<Vec<String>>,
    /// Whether it is nothing but its one reference, e.g. `data.customer.id`: then it needs no interpreter.
    is_path: bool,
}

/// Why an expression cannot be compiled, or has no value. Says what it saw; the values it shows are cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExprError {
    message: String,
    hint: Option<String>,
}

impl ExprError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What to do about it, where that is plain.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ExprError {}

/// The names an expression may use.
#[derive(Debug, Clone, Default)]
pub struct Names(Vec<String>);

impl Names {
    /// These names.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        Self(names.into_iter().map(str::to_owned).collect())
    }

    /// These and one more: the item of a loop.
    #[must_use]
    pub fn and(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([name.to_owned()]).collect())
    }

    fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(String::as_str)
    }
}

/// A value that is made when it is first looked at: most expressions look at few of the names they may use.
pub trait Later: Sync {
    /// The value.
    fn get(&self) -> &Value;
}

/// What is made of something borrowed, by a function of its own.
pub struct Made<'m, T> {
    from: &'m T,
    make: fn(&T) -> Value,
    value: OnceLock<Value>,
}

impl<'m, T> Made<'m, T> {
    /// What `make` makes of `from`, later.
    pub fn new(from: &'m T, make: fn(&T) -> Value) -> Self {
        Self { from, make, value: OnceLock::new() }
    }
}

impl<T> fmt::Debug for Made<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("value", &self.value).finish_non_exhaustive()
    }
}

impl<T: Sync> Later for Made<'_, T> {
    fn get(&self) -> &Value {
        self.value.get_or_init(|| (self.make)(self.from))
    }
}

impl Later for Value {
    fn get(&self) -> &Value {
        self
    }
}

/// What an evaluation sees: values by name, lent.
#[derive(Clone, Default)]
pub struct Scope<'v> {
    values: Vec<(&'v str, &'v dyn Later)>,
    mask: Option<&'v Mask>,
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.iter().map(|(name, _)| name)).finish()
    }
}

impl<'v> Scope<'v> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { values: Vec::with_capacity(10), mask: None }
    }

    /// What an error must not show of them.
    #[must_use]
    pub fn masking(mut self, mask: &'v Mask) -> Self {
        self.mask = Some(mask).filter(|mask| !mask.is_empty());
        self
    }

    /// One value more; it hides an earlier one of its name.
    #[must_use]
    pub fn with(mut self, name: &'v str, value: &'v dyn Later) -> Self {
        self.values.push((name, value));
        self
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&'v Value> {
        self.values.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| value.get())
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        self.get(variable).map(val::lend)
    }
}

impl Expr {
    /// Compiles `source`, which may use `names`. O(bytes).
    ///
    /// # Errors
    /// What is wrong and, where it is plain, a hint: bad syntax, an unknown name or function, too long, too deep, a number that
    /// would not be exact.
    pub fn compile(source: &str, names: &Names) -> Result<Self, ExprError> {
        if source.len() > SOURCE_BYTES_MAX {
            let message =
                format!("the expression has {} bytes, at most {SOURCE_BYTES_MAX} are allowed", source.len());
            return Err(ExprError::new(message).with_hint("split it: assign a part to a field first"));
        }
        let parser = ENV.parser().max_recursion_depth(DEPTH_MAX);
        let parsed = parser.parse(source).map_err(|errors| syntax(source, &errors))?;
        let (program, references) = rewrite::rewrite(parsed, names)?;
        let is_path = matches!(&references[..], [path] if path.join(".") == source.trim());
        Ok(Self(Arc::new(Compiled { source: source.to_owned(), program, references, is_path })))
    }

    /// Its value in `scope`. Deterministic: no clock, no chance, nothing outside of the scope.
    ///
    /// # Errors
    /// A path that is not there, types that do not fit, a number that would not be exact, a list that is too long.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value, ExprError> {
        if self.0.is_path
            && let Some(value) = look_up(&self.0.references[0], scope)
        {
            return Ok(value.clone());
        }
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(scope);
        let found =
            cel::Value::resolve_val(&self.0.program, &context).map_err(|error| self.failed(&error, scope))?;
        val::take(found.as_ref()).map_err(|error| self.failed(&error, scope))
    }

    /// Its value in `scope`, or none when what it looks at is not there, or when it gives null.
    ///
    /// # Errors
    /// As [`Expr::eval`], save for an absent path.
    pub fn eval_optional(&self, scope: &Scope<'_>) -> Result<Option<Value>, ExprError> {
        match self.eval(scope) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_null())),
            Err(_) if self.0.references.iter().any(|path| is_absent(path, scope)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its value in `scope`, which must be true or false.
    ///
    /// # Errors
    /// As [`Expr::eval`], and when the value is something else.
    pub fn eval_bool(&self, scope: &Scope<'_>) -> Result<bool, ExprError> {
        match self.eval(scope)? {
            Value::Bool(value) => Ok(value),
            other => {
                let message = format!(
                    "`{}` is {} ({}), not true or false",
                    self.source(),
                    other.kind_name(),
                    other.preview(40)
                );
                Err(ExprError::new(message).with_hint("compare it with something, e.g. `== true`"))
            }
        }
    }

    /// Whether it can be true or false: one that looks at nothing is tried.
    ///
    /// # Errors
    /// As [`Expr::eval_bool`].
    pub fn check_bool(&self) -> Result<(), ExprError> {
        if self.0.references.is_empty() { self.eval_bool(&Scope::new()).map(|_| ()) } else { Ok(()) }
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// What it looks at: for each reference the name and the members after it, e.g. `["data", "customer", "id"]`. Names of its
    /// own loops are left out.
    pub fn references(&self) -> Vec<Vec<String>> {
        self.0.references.clone()
    }

    /// Says an error with what was seen: which path is missing, which values did not fit.
    fn failed(&self, error: &ExecutionError, scope: &Scope<'_>) -> ExprError {
        let message = match error {
            ExecutionError::NoSuchKey(key) => return self.missing(key, scope),
            ExecutionError::NoSuchOverload(overload) => said_overload(&overload.to_string()),
            ExecutionError::FunctionError { message, .. } => message.clone(),
            ExecutionError::UnsupportedBinaryOperator(operator, ..) => {
                format!("the two sides of `{}` do not fit together", symbol(operator))
            }
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
                "division by zero".to_owned()
            }
            ExecutionError::IndexOutOfBounds(index) => format!("the list has no item {index:?}"),
            ExecutionError::Overflow(..) => "the result is too large to be exact".to_owned(),
            other => other.to_string(),
        };
        let seen = self.seen(scope);
        ExprError::new(self.hide(format!("`{}`: {message}{seen}", self.source()), scope))
    }

    /// A sentence that a function may have put a value into, as it may be shown.
    fn hide(&self, told: String, scope: &Scope<'_>) -> String {
        let Some(mask) = scope.mask else { return told };
        let masked = self.0.references.iter().filter(|path| mask.covers(&path.join(".")));
        masked.filter_map(|path| look_up(path, scope)).fold(told, |told, value| {
            let text = value.to_plain_text();
            if text.is_empty() { told } else { told.replace(&text, &masked_text(&text)) }
        })
    }

    fn missing(&self, key: &str, scope: &Scope<'_>) -> ExprError {
        let absent = self
            .0
            .references
            .iter()
            .find(|path| is_absent(path, scope) && path.iter().any(|part| part == key));
        let path = absent.map_or_else(|| key.to_owned(), |path| path.join("."));
        ExprError::new(format!("`{}`: there is no `{path}`", self.source()))
            .with_hint(format!("if it may be absent, write `default({path}, …)` or `has({path})`"))
    }

    /// The values of the references, so that the reader need not guess.
    fn seen(&self, scope: &Scope<'_>) -> String {
        let value = |path: &Vec<String>| {
            let (path, found) = (path.join("."), look_up(path, scope)?);
            let shown = scope.mask.map(|mask| mask.shown_at(&path, found));
            Some(format!("{path} = {}", shown.as_ref().unwrap_or(found).preview(40)))
        };
        let values: Vec<String> = self.0.references.iter().filter_map(value).take(4).collect();
        if values.is_empty() { String::new() } else { format!(", where {}", values.join(", ")) }
    }
}

fn is_absent(path: &[String], scope: &Scope<'_>) -> bool {
    look_up(path, scope).is_none()
}

/// What a reference leads to.
fn look_up<'v>(path: &[String], scope: &Scope<'v>) -> Option<&'v Value> {
    let (root, members) = path.split_first()?;
    members.iter().try_fold(scope.get(root)?, |value, member| value.get(member))
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({})", self.source())
    }
}

/// A syntax error in one line: the parser's first, without its drawing.
fn syntax(source: &str, errors: &cel::ParseErrors) -> ExprError {
    let said = errors.to_string();
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it cannot be read");
    let first = first.trim_start_matches("ERROR: ").trim_start_matches("<input>:");
    let error = ExprError::new(format!("`{}` does not read: {first}", Value::from(source).preview(80)));
    if source.contains('=') && !source.contains("==") {
        return error.with_hint("to compare, write `==`");
    }
    error.with_hint("text goes in single quotes: 'like this'")
}

fn said_overload(said: &str) -> String {
    let said = said.strip_prefix("found no matching overload for ").unwrap_or(said);
    let Some((function, types)) = said.split_once(" applied to ") else { return said.to_owned() };
    let function = function.trim_matches('\'').replace('_', " ");
    format!("`{}` does not work on {}", function.trim().trim_start_matches('@'), types.trim_matches('\''))
}

fn symbol(operator: &str) -> &str {
    match operator {
        "add" => "+",
        "sub" => "-",
        "mul" => "*",
        "div" => "/",
        "rem" => "%",
        other => other,
    }
}

#[cfg(test)]
mod tests;

//! An expression of a contract: compiled once, with errors as text. All that this module tree knows of expressions and JSON.

use std::sync::Arc;

use syncline_actors::expr::{Expr, Names, Scope};
use syncline_actors::value::Value;

/// A compiled expression and the text it came from.
#[derive(Debug, Clone)]
pub struct Formula {
    expr: Expr,
    source: Arc<str>,
}

impl Formula {
    /// Compiles an expression that may name `known`. The error says what is wrong with it.
    pub fn compile(source: &str, known: &[&str]) -> Result<Self, String> {
        let expr =
            Expr::compile(source, &Names::new(known.iter().copied())).map_err(|error| error.to_string())?;
        Ok(Self { expr, source: source.into() })
    }

    /// [`Formula::compile`] for what must be true or false, as far as that shows before it runs.
    pub fn compile_bool(source: &str, known: &[&str]) -> Result<Self, String> {
        let formula = Self::compile(source, known)?;
        formula.expr.check_bool().map_err(|error| error.to_string())?;
        Ok(formula)
    }

    /// The expression.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The text it came from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its value. The error says why there is none.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        self.expr.eval(scope).map_err(|error| format!("`{}`: {error}", self.source))
    }

    /// Whether it is true. The error says why that cannot be told.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, String> {
        match self.eval(scope)? {
            Value::Bool(holds) => Ok(holds),
            _ => Err(format!("`{}` is neither true nor false", self.source)),
        }
    }
}

/// Reads JSON, exactly. `None` when it is not that.
pub(super) fn from_json(bytes: &[u8]) -> Option<Value> {
    Value::from_json(bytes, bytes.len()).ok()
}

/// Writes JSON.
pub(super) fn to_json(value: &Value) -> String {
    value.to_json()
}

//! A call with varying parts, and how it is made from an effect.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use syncline_actors::expr::Scope;
use syncline_actors::value::Value;

use super::auth::{encode, form_body};
use super::formula::{Formula, to_json};

/// A call with its varying parts as expressions over `input`, `key` and `correlation_id`.
#[derive(Debug, Clone)]
pub struct Template {
    /// Method.
    pub method: Method,
    /// Path after the base URL.
    pub path: Vec<Piece>,
    /// Query parameters.
    pub query: Vec<(String, Formula)>,
    /// Headers.
    pub headers: Vec<(HeaderName, Formula)>,
    /// Body.
    pub body: BodyTemplate,
}

/// A part of a path.
#[derive(Debug, Clone)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// A value, percent-encoded.
    Value(Formula),
}

/// How a body is made.
#[derive(Debug, Clone)]
pub enum BodyTemplate {
    /// There is none.
    None,
    /// JSON.
    Json(Tree),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, Formula)>),
}

/// A tree of expressions: what a body or a result is made of.
#[derive(Debug, Clone)]
pub enum Tree {
    /// A value as written: a number, a truth value or null.
    Literal(Value),
    /// A value.
    Leaf(Formula),
    /// A map.
    Map(Vec<(String, Tree)>),
    /// A list.
    List(Vec<Tree>),
}

/// The parts of a call, without base URL and credentials.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Template {
    /// Makes a call of this template. The error says which part could not be made, and why.
    pub(super) fn build(&self, scope: &Scope<'_>) -> Result<Built, String> {
        let mut headers = self.built_headers(scope)?;
        let body = match &self.body {
            BodyTemplate::None => Bytes::new(),
            BodyTemplate::Json(tree) => {
                default_type(&mut headers, "application/json");
                let value = tree.eval(scope).map_err(|why| format!("body: {why}"))?;
                Bytes::from(to_json(&value))
            }
            BodyTemplate::Form(fields) => {
                default_type(&mut headers, "application/x-www-form-urlencoded");
                Bytes::from(pairs(fields, scope, "form")?)
            }
        };
        Ok(Built { method: self.method.clone(), target: self.target(scope)?, headers, body })
    }

    /// Every expression in it.
    pub fn formulas(&self, see: &mut impl FnMut(&Formula)) {
        for piece in &self.path {
            if let Piece::Value(formula) = piece {
                see(formula);
            }
        }
        self.query.iter().for_each(|(_, formula)| see(formula));
        self.headers.iter().for_each(|(_, formula)| see(formula));
        match &self.body {
            BodyTemplate::None => {}
            BodyTemplate::Json(tree) => tree.formulas(see),
            BodyTemplate::Form(fields) => fields.iter().for_each(|(_, formula)| see(formula)),
        }
    }

    fn target(&self, scope: &Scope<'_>) -> Result<String, String> {
        let mut target = String::new();
        for piece in &self.path {
            match piece {
                Piece::Text(text) => target.push_str(text),
                Piece::Value(expr) => {
                    let text = text_of(expr, scope).map_err(|why| format!("path: {why}"))?;
                    // An empty part would name the collection, and dots would climb out of it.
                    if text.is_empty() || text == "." || text == ".." {
                        return Err(format!("path: `{}` is {text:?}, which names nothing", expr.source()));
                    }
                    target.push_str(&encode(&text));
                }
            }
        }
        if !self.query.is_empty() {
            let query = pairs(&self.query, scope, "query")?;
            let mark = if target.contains('?') { '&' } else { '?' };
            let _ = write!(target, "{mark}{query}");
        }
        Ok(target)
    }

    fn built_headers(&self, scope: &Scope<'_>) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, expr) in &self.headers {
            let text = text_of(expr, scope).map_err(|why| format!("header {name}: {why}"))?;
            let Ok(value) = HeaderValue::from_str(&text) else {
                return Err(format!("header {name}: the value has a character that headers may not have"));
            };
            headers.insert(HeaderName::clone(name), value);
        }
        Ok(headers)
    }
}

impl Tree {
    fn formulas(&self, see: &mut impl FnMut(&Formula)) {
        match self {
            Self::Literal(_) => {}
            Self::Leaf(formula) => see(formula),
            Self::Map(parts) => parts.iter().for_each(|(_, part)| part.formulas(see)),
            Self::List(parts) => parts.iter().for_each(|part| part.formulas(see)),
        }
    }

    /// The names of what it gives; none where an expression gives it.
    pub fn names(&self) -> Option<impl Iterator<Item = &str>> {
        let Self::Map(parts) = self else { return None };
        Some(parts.iter().map(|(name, _)| name.as_str()))
    }

    /// The value of this tree. The error says which part could not be made, and why.
    pub(super) fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Leaf(expr) => expr.eval(scope),
            Self::Map(parts) => {
                let made: Result<_, String> = parts
                    .iter()
                    .map(|(name, part)| {
                        let value = part.eval(scope).map_err(|why| format!("{name}: {why}"))?;
                        Ok((name.as_str().into(), value))
                    })
                    .collect();
                Ok(Value::Map(Arc::new(made?)))
            }
            Self::List(parts) => {
                let made: Result<_, String> = parts.iter().map(|part| part.eval(scope)).collect();
                Ok(Value::List(Arc::new(made?)))
            }
        }
    }
}

fn default_type(headers: &mut HeaderMap, media: &'static str) {
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(media));
}

fn pairs(fields: &[(String, Formula)], scope: &Scope<'_>, what: &str) -> Result<String, String> {
    let mut made = Vec::with_capacity(fields.len());
    for (name, expr) in fields {
        let text = text_of(expr, scope).map_err(|why| format!("{what} {name}: {why}"))?;
        made.push((name.as_str(), text));
    }
    Ok(form_body(made.iter().map(|(name, text)| (*name, text.as_str()))))
}

/// The value of an expression as text: what stands in a path, a query or a header.
fn text_of(expr: &Formula, scope: &Scope<'_>) -> Result<String, String> {
    let value = expr.eval(scope)?;
    match value {
        Value::Null | Value::List(_) | Value::Map(_) => {
            Err(format!("`{}` gives no text, number or truth value", expr.source()))
        }
        value => Ok(plain_text(&value)),
    }
}

/// A value as people and headers write it: text bare, all else as JSON.
pub(super) fn plain_text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        value => to_json(value),
    }
}

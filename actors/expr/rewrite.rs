//! From what CEL parsed to what we run: names checked, doubles made exact, `default` made lazy, numbers made ours.
//!
//! CEL's own integers know nothing of our decimals, so an operator whose left side is not plainly ours gets it wrapped; what is
//! written `a.f(b)` or `f(a, b)` becomes a call of one of our functions under a name that no expression can write.

use cel::common::ast::{CallExpr, EntryExpr, Expr as Ast, IdedExpr, LiteralValue, SelectExpr, operators};
use cel::common::types::CelString;

use super::functions::{FUNCTIONS, internal};
use super::{ExprError, LOOPS_MAX, Names};
use crate::document::suggest;

/// CEL's own functions that an expression may call.
const OWN: [&str; 9] =
    ["size", "contains", "startsWith", "endsWith", "matches", "type", "bool", "hasValue", "orValue"];
/// Macros and special forms, named in suggestions.
const SPECIAL: [&str; 8] = ["has", "all", "exists", "exists_one", "map", "filter", "default", "coalesce"];

/// Rewrites `parsed`; answers with what it references besides its own loops.
pub(super) fn rewrite(parsed: IdedExpr, names: &Names) -> Result<(IdedExpr, Vec<Vec<String>>), ExprError> {
    let mut rewriter = Rewriter { names, loops: Vec::new(), nesting: 0, references: Vec::new() };
    let program = rewriter.expr(parsed)?;
    Ok((program, rewriter.references))
}

struct Rewriter<'n> {
    names: &'n Names,
    loops: Vec<String>,
    nesting: usize,
    references: Vec<Vec<String>>,
}

impl Rewriter<'_> {
    fn expr(&mut self, node: IdedExpr) -> Result<IdedExpr, ExprError> {
        let IdedExpr { id, expr } = member(node);
        let expr = match expr {
            Ast::Ident(name) => {
                self.refer(vec![name.clone()])?;
                Ast::Ident(name)
            }
            Ast::Select(select) => self.select(id, Ast::Select(select))?,
            Ast::Literal(LiteralValue::Double(double)) => exact(*double.inner())?,
            Ast::Call(call) => self.call(call)?,
            Ast::List(mut list) => {
                list.elements = self.all(list.elements)?;
                Ast::List(list)
            }
            Ast::Map(mut map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        entry.key = self.expr(std::mem::take(&mut entry.key))?;
                        entry.value = self.expr(std::mem::take(&mut entry.value))?;
                    }
                }
                Ast::Map(map)
            }
            Ast::Comprehension(comprehension) => self.comprehension(*comprehension)?,
            Ast::Struct(_) => return Err(ExprError::new("a message literal `Name{…}` has no meaning here")),
            other => other,
        };
        Ok(IdedExpr { id, expr })
    }

    fn all(&mut self, nodes: Vec<IdedExpr>) -> Result<Vec<IdedExpr>, ExprError> {
        nodes.into_iter().map(|node| self.expr(node)).collect()
    }

    /// A chain of members is one reference, and stays as it is: `a.b.c`.
    fn select(&mut self, id: u64, expr: Ast) -> Result<Ast, ExprError> {
        let node = IdedExpr { id, expr };
        if let Some(path) = chain(&node) {
            self.refer(path)?;
            return Ok(node.expr);
        }
        let Ast::Select(mut select) = node.expr else { unreachable!("it was given as a select") };
        *select.operand = self.expr(*select.operand)?;
        Ok(Ast::Select(select))
    }

    fn refer(&mut self, path: Vec<String>) -> Result<(), ExprError> {
        let root = &path[0];
        if self.loops.contains(root) {
            return Ok(());
        }
        if self.names.iter().any(|name| name == root) {
            self.references.push(path);
            return Ok(());
        }
        let error = ExprError::new(format!("there is no `{root}` here"));
        let known = self
            .names
            .iter()
            .chain(self.loops.iter().map(String::as_str).filter(|name| !name.starts_with('@')));
        Err(if let Some(near) = suggest(root, known.clone()) {
            error.with_hint(format!("did you mean `{near}`?"))
        } else {
            let names: Vec<&str> = known.collect();
            error.with_hint(format!("text goes in single quotes; the names are: {}", names.join(", ")))
        })
    }

    fn comprehension(&mut self, mut it: cel::common::ast::ComprehensionExpr) -> Result<Ast, ExprError> {
        it.iter_range = self.expr(it.iter_range)?;
        self.nesting += 1;
        if self.nesting > LOOPS_MAX {
            let message = format!("loops within loops within loops: at most {LOOPS_MAX} are allowed");
            return Err(ExprError::new(message).with_hint("assign the inner list to a field first"));
        }
        let before = self.loops.len();
        self.loops.extend([it.iter_var.clone(), it.accu_var.clone()]);
        self.loops.extend(it.iter_var2.clone());
        it.accu_init = self.expr(it.accu_init)?;
        it.loop_cond = self.expr(it.loop_cond)?;
        it.loop_step = self.expr(it.loop_step)?;
        it.result = self.expr(it.result)?;
        self.loops.truncate(before);
        self.nesting -= 1;
        Ok(Ast::Comprehension(Box::new(it)))
    }

    fn call(&mut self, call: CallExpr) -> Result<Ast, ExprError> {
        let CallExpr { func_name, target, args } = call;
        if target.is_none() && matches!(func_name.as_str(), "default" | "coalesce") {
            return self.default(args);
        }
        let target = target.map(|target| self.expr(*target)).transpose()?;
        let mut args = self.all(args)?;
        if is_operator(&func_name) {
            return Ok(operator(func_name, target, args));
        }
        let given = args.len() + usize::from(target.is_some());
        if let Some(ours) = FUNCTIONS.iter().find(|function| function.name == func_name) {
            if ours.arguments != given {
                let message = format!("{func_name}() takes {} argument(s), {given} given", ours.arguments);
                return Err(ExprError::new(message));
            }
            args.splice(0..0, target);
            return Ok(invoke(&internal(ours.name), args));
        }
        if OWN.contains(&func_name.as_str()) {
            return Ok(Ast::Call(CallExpr { func_name, target: target.map(Box::new), args }));
        }
        let known =
            FUNCTIONS.iter().map(|f| f.name).chain(OWN).chain(SPECIAL).filter(|name| !name.starts_with('@'));
        let error = ExprError::new(format!("there is no function {func_name}()"));
        Err(match suggest(&func_name, known.clone()) {
            Some(near) => error.with_hint(format!("did you mean {near}()?")),
            None => error.with_hint(format!("there are: {}", known.collect::<Vec<_>>().join(", "))),
        })
    }

    /// `default(a.b.c, x)` looks at `a.b.c` without insisting; `coalesce(a, b, c)` is the same over several.
    fn default(&mut self, mut args: Vec<IdedExpr>) -> Result<Ast, ExprError> {
        if args.len() < 2 {
            return Err(ExprError::new("default() takes what may be absent, and what counts then"));
        }
        let last = args.pop().expect("there are two or more");
        let mut value = self.expr(last)?;
        while let Some(arg) = args.pop() {
            let arg = member(arg);
            let path = chain(&arg);
            let lenient = if let Some(path) = path.filter(|path| path.len() > 1) {
                self.refer(path)?;
                optional(arg)
            } else {
                self.expr(arg)?
            };
            value = IdedExpr { id: lenient.id, expr: invoke("@default", vec![lenient, value]) };
        }
        Ok(value.expr)
    }
}

/// `a['b']` is `a.b`, for names that no member can have: `a['tax-id']`.
fn member(node: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = node;
    let select = |operand: IdedExpr, field: String| {
        let operand = Box::new(member(operand));
        Ast::Select(SelectExpr { operand, field, test: false })
    };
    let expr = match expr {
        Ast::Select(found) if !found.test => select(*found.operand, found.field),
        Ast::Call(CallExpr { func_name, target: None, mut args }) if func_name == operators::INDEX => {
            let key = match args.last().map(|key| &key.expr) {
                Some(Ast::Literal(LiteralValue::String(key))) if args.len() == 2 => key.inner().to_owned(),
                _ => return IdedExpr { id, expr: Ast::Call(CallExpr { func_name, target: None, args }) },
            };
            select(args.swap_remove(0), key)
        }
        other => other,
    };
    IdedExpr { id, expr }
}

/// The path of `a.b.c`, or of `has(a.b.c)`.
fn chain(node: &IdedExpr) -> Option<Vec<String>> {
    match &node.expr {
        Ast::Ident(name) => Some(vec![name.clone()]),
        Ast::Select(select) => {
            let mut path = chain(&select.operand)?;
            path.push(select.field.clone());
            Some(path)
        }
        _ => None,
    }
}

/// `a.b.c` as `a.?b.?c`: absent instead of an error.
fn optional(node: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = node;
    let Ast::Select(select) = expr else { return IdedExpr { id, expr } };
    let field = Ast::Literal(LiteralValue::String(CelString::from(select.field)));
    let args = vec![optional(*select.operand), IdedExpr { id, expr: field }];
    IdedExpr { id, expr: invoke(operators::OPT_SELECT, args) }
}

fn invoke(name: &str, args: Vec<IdedExpr>) -> Ast {
    Ast::Call(CallExpr { func_name: name.to_owned(), target: None, args })
}

fn is_operator(name: &str) -> bool {
    name.starts_with('_') || name.starts_with('@') || name.starts_with('!') || name == operators::NEGATE
}

/// Makes the left side one that knows our numbers.
fn operator(func_name: String, target: Option<IdedExpr>, mut args: Vec<IdedExpr>) -> Ast {
    let left_is_ours = args.first().is_some_and(|left| {
        matches!(left.expr, Ast::Ident(_) | Ast::Select(_) | Ast::Literal(LiteralValue::String(_)))
    });
    let wrap = |args: &mut Vec<IdedExpr>, with: &str| {
        let left = std::mem::take(&mut args[0]);
        args[0] = IdedExpr { id: left.id, expr: invoke(with, vec![left]) };
    };
    match func_name.as_str() {
        operators::EQUALS if !left_is_ours => return invoke("@equal", args),
        operators::NOT_EQUALS if !left_is_ours => return invoke("@unequal", args),
        operators::IN => wrap(&mut args, "@native"),
        operators::ADD
        | operators::SUBSTRACT
        | operators::MULTIPLY
        | operators::DIVIDE
        | operators::MODULO
        | operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS
            if !left_is_ours =>
        {
            wrap(&mut args, "@number");
        }
        _ => {}
    }
    Ast::Call(CallExpr { func_name, target: target.map(Box::new), args })
}

/// A literal with a fraction means the decimal that was written. CEL has read it as a double, which tells it back as long as
/// there are at most 15 digits.
fn exact(double: f64) -> Result<Ast, ExprError> {
    let written = format!("{double}");
    if written.bytes().filter(u8::is_ascii_digit).count() > 15 || !double.is_finite() {
        let error = ExprError::new(format!("the number {written} has too many digits to be exact"));
        return Err(error.with_hint("write it as text: dec('…')"));
    }
    let text = Ast::Literal(LiteralValue::String(CelString::from(written)));
    Ok(invoke(&internal("dec"), vec![IdedExpr { id: 0, expr: text }]))
}

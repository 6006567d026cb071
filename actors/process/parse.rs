//! Reads a definition from YAML into a compiled [`Process`], and says everything that does not read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    EffectDef, FailurePath, Field, FieldKind, Hold, MessageDef, Milestone, OutOfTurn, Owner, Process,
    StateDef, Transition, Trigger,
};
use crate::decide::NAMES;
use crate::decision::Ending;
use crate::document::{Fields, Item, Kind, Node, Reader, Spanned};
use crate::envelope::OutcomeClass;
use crate::expr::{Expr, Names};
use crate::id::check_kind;
use crate::mapping::Mapping;
use crate::reading;
use crate::value::Value;

mod send;
mod timers;

pub(crate) use timers::read as read_time;

/// Compiles the definition in `node`, read from `text`. What is wrong goes to `reader`; `None` when so much is wrong that
/// checking what is left makes no sense. Call [`check`](super::check::check) on what comes back.
pub fn parse(node: &Node, text: &str, reader: &Reader) -> Option<Process> {
    let mut top = Item::root(node, reader).fields()?;
    let name = top.text("process")?;
    if let Err(error) = check_kind(&name.value) {
        reading::refuse(
            reader,
            &name,
            error.to_string(),
            "use lower-case letters, digits and `_`, e.g. `order`",
        );
        return None;
    }
    let version = top.required("version").and_then(|item| item.number_within(1_u32..=1_000_000));
    let parser = Parser { names: Names::new(NAMES.into_iter().chain([name.value.as_str()])) };
    let initial = top.text("initial");
    let process = Process {
        version: version.map_or(1, |version| version.value),
        title: top.optional_text("title").map_or_else(|| name.value.clone(), |title| title.value),
        owner: top.map("owner").map_or_else(Owner::default, reading::owner),
        initial: initial.as_ref().map(|initial| initial.value.as_str().into()).unwrap_or_default(),
        initial_place: initial.map_or_else(|| node.place.clone(), |initial| initial.place),
        fields: fields(top.optional_entries("fields")),
        search: names(&mut top, "search"),
        messages: parser.each(top.entries("messages"), Parser::message),
        effects: parser.each(top.entries("effects"), Parser::effect),
        states: parser.states(top.entries("states")),
        anywhere: parser.triggers(top.optional_entries("anywhere")),
        milestones: parser.each(Some(top.optional_entries("milestones")), Parser::milestone),
        text: text.into(),
        place: node.place.clone(),
        name: name.value.into(),
    };
    top.finish();
    Some(process)
}

type Entries<'n> = Vec<(Spanned<String>, Item<'n>)>;
type Assignments = Vec<(Arc<str>, Mapping)>;

struct Parser {
    names: Names,
}

impl Parser {
    /// Reads named definitions, each of them a map.
    fn each<T>(
        &self,
        entries: Option<Entries<'_>>,
        read: impl Fn(&Self, &mut Fields<'_>) -> Option<T>,
    ) -> BTreeMap<Arc<str>, T> {
        let mut all = BTreeMap::new();
        for (name, item) in entries.unwrap_or_default() {
            let Some(mut fields) = item.fields() else { continue };
            if let Some(read) = read(self, &mut fields) {
                all.insert(Arc::from(name.value), read);
            }
            fields.finish();
        }
        all
    }

    fn message(&self, fields: &mut Fields<'_>) -> Option<MessageDef> {
        let place = fields.item().place().clone();
        let is_command = fields.choice("is", &[("command", true), ("event", false)]);
        let ways =
            [("defer", OutOfTurn::Defer), ("ignore", OutOfTurn::Ignore), ("reject", OutOfTurn::Reject)];
        let starts = fields.boolean("starts", false);
        let business_key = self.optional_expr(fields, "business_key");
        let out_of_turn = fields.optional_choice("out_of_turn", &ways);
        let is_command = is_command?.value;
        // What asks is told no; what tells has happened and may only have come too soon.
        let usual = if is_command { OutOfTurn::Reject } else { OutOfTurn::Defer };
        Some(MessageDef {
            is_command,
            starts,
            business_key,
            out_of_turn: out_of_turn.map_or(usual, |way| way.value),
            place,
        })
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is one of the readers that `each` is given")]
    fn effect(&self, fields: &mut Fields<'_>) -> Option<EffectDef> {
        let place = fields.item().place().clone();
        let send = fields.optional("send").map(|item| self.send(&item));
        let call = match send {
            None => fields.text("call"),
            Some(_) => fields.optional_text("call"),
        };
        let input = match fields.optional("with") {
            Some(with) => self.input(&with),
            None => Some(Mapping::map(Vec::<(String, Mapping)>::new())),
        };
        let keep = self.assignments(fields.optional_entries("keep"));
        let undo = fields.optional_text("undo").map(|undo| undo.value.into());
        let ways = [("exception", FailurePath::Exception), ("ignore", FailurePath::Ignore)];
        let failure =
            fields.optional_choice("failure", &ways).map_or(FailurePath::Transition, |way| way.value);
        let (connector, operation) = match &send {
            Some(send) => {
                Self::refuse_call(fields, call);
                send::names(send.as_ref())
            }
            None => Self::operation(fields, call),
        };
        let input = input.unwrap_or_else(|| Mapping::literal(Value::Null));
        let send = send.flatten().map(Box::new);
        Some(EffectDef { connector, operation, input, send, keep, undo, failure, place })
    }

    /// What does not read stands for something all the same, or every state that calls it would be told of.
    fn operation(fields: &Fields<'_>, call: Option<Spanned<String>>) -> (Arc<str>, Arc<str>) {
        let call = call.unwrap_or_else(|| fields.item().spanned(".".to_owned()));
        let (connector, operation) = call.value.split_once('.').unwrap_or_else(|| {
            let message = format!("`{}` names no operation", call.value);
            reading::refuse(fields.item().reader(), &call, message, "write `call: connector.operation`");
            (".", "")
        });
        (connector.into(), operation.into())
    }

    /// A map of what the operation asks for, or one expression that gives it.
    fn input(&self, with: &Item<'_>) -> Option<Mapping> {
        if !matches!(with.node().kind, Kind::Map(_) | Kind::Text(_)) {
            let message = format!("{} stands where a map belongs", with.node().describe());
            with.refuse(message, "write `with: {name: \"expression\"}`, or delete it");
            return None;
        }
        reading::mapping(with, &self.names)
    }

    fn states(&self, entries: Option<Entries<'_>>) -> BTreeMap<Arc<str>, StateDef> {
        let mut states = BTreeMap::new();
        for (name, item) in entries.unwrap_or_default() {
            let Some(mut fields) = item.fields() else { continue };
            states.insert(Arc::from(name.value.as_str()), self.state(&mut fields, &name.value));
            fields.finish();
        }
        states
    }

    fn state(&self, fields: &mut Fields<'_>, name: &str) -> StateDef {
        let endings =
            [("completed", Ending::Completed), ("cancelled", Ending::Cancelled), ("failed", Ending::Failed)];
        StateDef {
            set: self.assignments(fields.optional_entries("set")),
            call: names(fields, "call"),
            always: fields.optional("always").map(|item| self.transitions(&item)).unwrap_or_default(),
            on: self.triggers(fields.optional_entries("on")),
            timers: self.timers(fields, name),
            hold: fields.optional_map("hold").and_then(|hold| self.hold(hold)),
            // What is there and does not read stands for something: its absence would be reported as a mistake nobody made.
            end: fields
                .optional("end")
                .map(|end| end.choice(&endings).map_or(Ending::Completed, |end| end.value)),
            place: fields.item().place().clone(),
        }
    }

    fn triggers(&self, entries: Entries<'_>) -> BTreeMap<Trigger, Vec<Transition>> {
        entries.into_iter().map(|(name, item)| (trigger(&name.value), self.transitions(&item))).collect()
    }

    /// One transition, or a list of them to be tried in order.
    fn transitions(&self, item: &Item<'_>) -> Vec<Transition> {
        match item.node().as_list() {
            Some(_) => {
                item.list().unwrap_or_default().iter().filter_map(|item| self.transition(item)).collect()
            }
            None => self.transition(item).into_iter().collect(),
        }
    }

    fn transition(&self, item: &Item<'_>) -> Option<Transition> {
        let mut fields = item.fields()?;
        let transition = self.transition_of(&mut fields);
        fields.finish();
        Some(transition)
    }

    fn transition_of(&self, fields: &mut Fields<'_>) -> Transition {
        Transition {
            when: fields.optional("when").and_then(|item| self.guard(&item)),
            set: self.assignments(fields.optional_entries("set")),
            call: names(fields, "call"),
            undo: self.optional_expr(fields, "undo"),
            to: fields.optional_text("to").map(|to| to.value.into()),
            except: names(fields, "except"),
            place: fields.item().place().clone(),
        }
    }

    /// A guard; one that does not read never holds.
    fn guard(&self, item: &Item<'_>) -> Option<Expr> {
        reading::guard(item, &self.names).or_else(|| Expr::compile("false", &self.names).ok())
    }

    fn hold(&self, mut fields: Fields<'_>) -> Option<Hold> {
        let reason = fields.required("reason").and_then(|item| reading::expr(&item, &self.names));
        let missing = self.optional_expr(&mut fields, "missing");
        let owner = fields.optional_text("owner").map(|owner| owner.value.into()).unwrap_or_default();
        fields.finish();
        Some(Hold { reason: reason?, missing, owner })
    }

    #[expect(clippy::unused_self, reason = "it is one of the readers that `each` is given")]
    fn milestone(&self, fields: &mut Fields<'_>) -> Option<Milestone> {
        let place = fields.item().place().clone();
        let reached_in: Vec<Arc<str>> = names(fields, "reached_in");
        if reached_in.is_empty() {
            fields.item().refuse("nothing reaches the milestone", "write `reached_in: [STATE]`");
        }
        let escalate = names(fields, "escalate");
        let within = fields.duration("within")?;
        if within.value.is_zero() {
            let item = fields.item();
            within.refuse(
                item.reader(),
                "a milestone within no time is always missed",
                "write e.g. `within: 4h`",
            );
        }
        Some(Milestone { reached_in, within: within.value, escalate, place })
    }

    fn assignments(&self, entries: Entries<'_>) -> Assignments {
        let read = |(name, item): (Spanned<String>, Item<'_>)| {
            let mapping = reading::mapping(&item, &self.names);
            (Arc::from(name.value), mapping.unwrap_or_else(|| Mapping::literal(Value::Null)))
        };
        entries.into_iter().map(read).collect()
    }

    fn optional_expr(&self, fields: &mut Fields<'_>, key: &str) -> Option<Expr> {
        reading::expr(&fields.optional(key)?, &self.names)
    }
}

fn fields(entries: Entries<'_>) -> BTreeMap<String, Field> {
    let kinds = [
        ("text", FieldKind::Text),
        ("number", FieldKind::Number),
        ("bool", FieldKind::Bool),
        ("list", FieldKind::List),
        ("map", FieldKind::Map),
        ("any", FieldKind::Any),
    ];
    let read = |(name, item): (Spanned<String>, Item<'_>)| {
        let kind = item.choice(&kinds).map_or(FieldKind::Any, |kind| kind.value);
        (name.value, Field { kind })
    };
    entries.into_iter().map(read).collect()
}

fn names(fields: &mut Fields<'_>, key: &str) -> Vec<Arc<str>> {
    fields.texts(key).into_iter().map(|name| name.value.into()).collect()
}

/// `effect.ok` and its like, one of the words, or else a message.
fn trigger(text: &str) -> Trigger {
    let classes = [OutcomeClass::Ok, OutcomeClass::Failed, OutcomeClass::Dead, OutcomeClass::Cancelled];
    if let Some((effect, word)) = text.rsplit_once('.')
        && let Some(class) = classes.into_iter().find(|class| class.word() == word)
    {
        return Trigger::Effect(effect.into(), class);
    }
    match text {
        "settled" => Trigger::Settled,
        "compensated" => Trigger::Compensated,
        "retry" => Trigger::Retry,
        message => Trigger::Message(message.into()),
    }
}

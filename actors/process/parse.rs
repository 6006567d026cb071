//! Reads a definition from YAML into a compiled [`Process`], and says everything that does not read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    After, EffectDef, FailurePath, Field, FieldKind, Hold, MessageDef, Milestone, OutOfTurn, Owner, Process, StateDef,
    Transition, Trigger,
};
use crate::decide::NAMES;
use crate::decision::Ending;
use crate::document::{Fields, Kind, Node, Problems, parse_duration};
use crate::envelope::OutcomeClass;
use crate::expr::{Expr, Names};
use crate::id::check_kind;
use crate::mapping::Mapping;
use crate::reading;

/// Compiles the definition in `node`, read from `text`. What is wrong goes to `problems`; `None` when so much is wrong that
/// checking what is left makes no sense. Call [`check`](super::check::check) on what comes back.
pub fn parse(node: &Node, text: &str, problems: &Problems) -> Option<Process> {
    let top = Fields::of(node, "", problems)?;
    let name = top.text("process")?;
    if let Err(error) = check_kind(&name.value) {
        top.wrong("process", error.to_string(), "use lower-case letters, digits and `_`, e.g. `order`");
        return None;
    }
    let version = top.number::<u32>("version").filter(|version| {
        let positive = *version > 0;
        if !positive {
            top.wrong("version", "versions count from 1".to_owned(), "write `version: 1`");
        }
        positive
    });
    let parser = Parser { names: Names::new(NAMES.into_iter().chain([name.value.as_str()])), problems };
    let process = Process {
        version: version.unwrap_or(1),
        title: top.optional_text("title").map_or_else(|| name.value.clone(), |title| title.value),
        owner: parser.owner(&top),
        initial: top.text("initial").map(|initial| initial.value.into()).unwrap_or_default(),
        fields: parser.fields(&top),
        messages: parser.each(top.map("messages"), |parser, fields, _| parser.message(fields)),
        effects: parser.each(top.map("effects"), |parser, fields, node| parser.effect(fields, node)),
        states: parser.states(&top),
        anywhere: top.optional_map("anywhere").map(|on| parser.triggers(on, "anywhere")).unwrap_or_default(),
        milestones: top
            .optional_map("milestones")
            .map(|all| parser.each(Some(all), |parser, fields, node| parser.milestone(fields, node)))
            .unwrap_or_default(),
        uses_steps: false,
        text: text.into(),
        place: node.place.clone(),
        name: name.value.into(),
    };
    top.finish();
    let uses_steps = mentions_steps(&process);
    Some(Process { uses_steps, ..process })
}

struct Parser<'p> {
    names: Names,
    problems: &'p Problems,
}

type Assignments = Vec<(Arc<str>, Mapping)>;

impl Parser<'_> {
    fn owner(&self, top: &Fields<'_>) -> Owner {
        top.map("owner").map(|node| reading::owner(node, "owner", self.problems)).unwrap_or_default()
    }

    /// Reads a map of named definitions, each of them a map.
    fn each<T>(
        &self,
        node: Option<&Node>,
        read: impl Fn(&Self, &Fields<'_>, &Node) -> Option<T>,
    ) -> BTreeMap<Arc<str>, T> {
        let mut all = BTreeMap::new();
        for (key, node) in node.into_iter().flat_map(Node::entries) {
            let Some(fields) = Fields::of(node, &key.path, self.problems) else { continue };
            if let Some(read) = read(self, &fields, node) {
                all.insert(Arc::from(key.text.as_str()), read);
            }
            fields.finish();
        }
        all
    }

    fn fields(&self, top: &Fields<'_>) -> BTreeMap<String, Field> {
        let kinds = [
            ("text", FieldKind::Text),
            ("number", FieldKind::Number),
            ("bool", FieldKind::Bool),
            ("list", FieldKind::List),
            ("map", FieldKind::Map),
            ("any", FieldKind::Any),
        ];
        let Some(node) = top.optional_map("fields") else { return BTreeMap::new() };
        let Some(fields) = Fields::of(node, "fields", self.problems) else { return BTreeMap::new() };
        let names: Vec<String> = node.entries().map(|(key, _)| key.text.clone()).collect();
        let read = |name: String| fields.choice(&name, &kinds).map(|kind| (name, Field { kind }));
        names.into_iter().filter_map(read).collect()
    }

    fn message(&self, fields: &Fields<'_>) -> Option<MessageDef> {
        let is_command = fields.choice("is", &[("command", true), ("event", false)])?;
        let ways = [("defer", OutOfTurn::Defer), ("ignore", OutOfTurn::Ignore), ("reject", OutOfTurn::Reject)];
        // What asks is told no; what tells has happened and may only have come too soon.
        let usual = if is_command { OutOfTurn::Reject } else { OutOfTurn::Defer };
        Some(MessageDef {
            is_command,
            starts: fields.boolean("starts", false),
            business_key: self.optional_expr(fields, "business_key"),
            out_of_turn: fields.optional_choice("out_of_turn", &ways).unwrap_or(usual),
        })
    }

    fn effect(&self, fields: &Fields<'_>, node: &Node) -> Option<EffectDef> {
        let call = fields.text("call");
        let input = match fields.optional_node("with") {
            Some(with) => reading::mapping(with, &fields.path_of("with"), &self.names, self.problems),
            None => Some(Mapping::map([])),
        };
        let keep = self.assignments(fields, "keep");
        let undo = fields.optional_text("undo").map(|undo| undo.value.into());
        let ways = [("exception", FailurePath::Exception), ("ignore", FailurePath::Ignore)];
        let failure = fields.optional_choice("failure", &ways).unwrap_or(FailurePath::Transition);
        let call = call?;
        let Some((connector, operation)) = call.value.split_once('.') else {
            fields.wrong("call", format!("`{}` names no operation", call.value), "write `call: connector.operation`");
            return None;
        };
        Some(EffectDef {
            connector: connector.into(),
            operation: operation.into(),
            input: input?,
            keep,
            undo,
            failure,
            place: node.place.clone(),
        })
    }

    fn states(&self, top: &Fields<'_>) -> BTreeMap<Arc<str>, StateDef> {
        let mut states = BTreeMap::new();
        for (key, node) in top.map("states").into_iter().flat_map(Node::entries) {
            let Some(fields) = Fields::of(node, &key.path, self.problems) else { continue };
            states.insert(Arc::from(key.text.as_str()), self.state(&fields, &key.text, node));
            fields.finish();
        }
        states
    }

    fn state(&self, fields: &Fields<'_>, name: &str, node: &Node) -> StateDef {
        let endings =
            [("completed", Ending::Completed), ("cancelled", Ending::Cancelled), ("failed", Ending::Failed)];
        StateDef {
            set: self.assignments(fields, "set"),
            call: fields.names("call"),
            always: fields.optional_node("always").map(|n| self.transitions(n, &fields.path_of("always"))).unwrap_or_default(),
            on: fields.optional_map("on").map(|on| self.triggers(on, &fields.path_of("on"))).unwrap_or_default(),
            after: fields.optional_map("after").map(|all| self.timers(all, name, fields)).unwrap_or_default(),
            hold: fields.optional_map("hold").and_then(|hold| self.hold(hold, &fields.path_of("hold"))),
            end: fields.optional_choice("end", &endings),
            place: node.place.clone(),
        }
    }

    fn triggers(&self, on: &Node, path: &str) -> BTreeMap<Trigger, Vec<Transition>> {
        let read = |(key, node): (crate::document::Entry, &Node)| {
            (trigger(&key.text), self.transitions(node, &format!("{path}.{}", key.text)))
        };
        on.entries().map(read).collect()
    }

    fn timers(&self, all: &Node, state: &str, fields: &Fields<'_>) -> Vec<After> {
        let mut timers = Vec::new();
        for (key, node) in all.entries() {
            match parse_duration(&key.text) {
                Ok(within) => timers.push(After {
                    name: format!("{state}.{}", key.text).into(),
                    within,
                    then: self.transitions(node, &key.path),
                }),
                Err(error) => fields.wrong("after", format!("`{}`: {error}", key.text), "write e.g. `after: {4h: {to: …}}`"),
            }
        }
        timers
    }

    /// One transition, or a list of them to be tried in order.
    fn transitions(&self, node: &Node, path: &str) -> Vec<Transition> {
        match &node.kind {
            Kind::List(nodes) => nodes
                .iter()
                .enumerate()
                .filter_map(|(index, node)| self.transition(node, &format!("{path}[{index}]")))
                .collect(),
            _ => self.transition(node, path).into_iter().collect(),
        }
    }

    fn transition(&self, node: &Node, path: &str) -> Option<Transition> {
        let fields = Fields::of(node, path, self.problems)?;
        let transition = Transition {
            when: self.optional_expr(&fields, "when"),
            set: self.assignments(&fields, "set"),
            call: fields.names("call"),
            undo: self.optional_expr(&fields, "undo"),
            to: fields.optional_text("to").map(|to| to.value.into()),
            except: fields.names("except"),
            place: node.place.clone(),
        };
        fields.finish();
        Some(transition)
    }

    fn hold(&self, node: &Node, path: &str) -> Option<Hold> {
        let fields = Fields::of(node, path, self.problems)?;
        let reason = fields.text("reason").and_then(|text| reading::expr(&text, &self.names, self.problems));
        let missing = self.optional_expr(&fields, "missing");
        let owner = fields.optional_text("owner").map(|owner| owner.value.into()).unwrap_or_default();
        fields.finish();
        Some(Hold { reason: reason?, missing, owner })
    }

    fn milestone(&self, fields: &Fields<'_>, node: &Node) -> Option<Milestone> {
        let reached_in = fields.names("reached_in");
        if reached_in.is_empty() {
            fields.wrong("reached_in", "nothing reaches the milestone".to_owned(), "write `reached_in: [STATE]`");
        }
        let escalate = fields.names("escalate");
        Some(Milestone { reached_in, within: fields.duration("within")?, escalate, place: node.place.clone() })
    }

    fn assignments(&self, fields: &Fields<'_>, key: &str) -> Assignments {
        let path = fields.path_of(key);
        let Some(node) = fields.optional_map(key) else { return Vec::new() };
        let read = |(entry, node): (crate::document::Entry, &Node)| {
            let mapping = reading::mapping(node, &format!("{path}.{}", entry.text), &self.names, self.problems)?;
            Some((Arc::from(entry.text.as_str()), mapping))
        };
        node.entries().filter_map(read).collect()
    }

    fn optional_expr(&self, fields: &Fields<'_>, key: &str) -> Option<Expr> {
        let text = fields.optional_text(key)?;
        reading::expr(&text, &self.names, self.problems)
    }
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

/// Whether any expression looks at `steps`.
fn mentions_steps(process: &Process) -> bool {
    // The text is asked, not each expression: a mention in a comment costs a map, a missed one would cost the truth.
    process.text.contains("steps")
}

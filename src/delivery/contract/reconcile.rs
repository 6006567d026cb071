//! `reconcile:` of a connector: for each kind of entity, how its record in the system is read back, what of it must agree with the entity,
//! and what is done when it does not.

use std::sync::Arc;

use syncline_actors::document::{Fields, Item, Spanned};
use syncline_actors::expr::{Expr, Names};
use syncline_actors::mapping::Mapping;
use syncline_actors::reading;
use syncline_actors::schedule::Schedule;

/// How records of one kind are reconciled with a system.
#[derive(Debug, Clone)]
pub struct Reconcile {
    /// The kind of the entities.
    pub kind: Spanned<String>,
    /// When; only on demand where nothing says it.
    pub schedule: Option<Schedule>,
    /// Whether what differs is repaired or only told.
    pub applies: bool,
    /// The operation that reads one record back.
    pub read: Spanned<String>,
    /// What it is given, over the entity.
    pub with: Mapping,
    /// Which entities the system should know; all where nothing says it.
    pub when: Option<Expr>,
    /// How the answer says that there is no such record.
    pub absent: Option<Expr>,
    /// What must agree.
    pub fields: Vec<Compared>,
    /// What is done when the system is wrong.
    pub repair: Option<Repair>,
    /// What the entity is told when the system, which owns the field, says otherwise.
    pub take: Option<Take>,
    /// How the system's own records are listed, to find those of no entity.
    pub list: Option<List>,
}

/// A field that must agree.
#[derive(Debug, Clone)]
pub struct Compared {
    /// Its name in reports.
    pub name: Spanned<String>,
    /// What the entity says.
    pub ours: Expr,
    /// What the system says.
    pub theirs: Expr,
    /// Whether the system is its owner: then it is right.
    pub is_theirs: bool,
}

/// A call that makes the system right.
#[derive(Debug, Clone)]
pub struct Repair {
    /// The operation.
    pub call: Spanned<String>,
    /// What it is given.
    pub with: Mapping,
}

/// A message that makes the entity right.
#[derive(Debug, Clone)]
pub struct Take {
    /// Its type, an event of the process.
    pub event: Spanned<String>,
    /// Its data.
    pub map: Mapping,
}

/// A list of the system's records, page after page.
#[derive(Debug, Clone)]
pub struct List {
    /// The operation; it is given `cursor`.
    pub call: Spanned<String>,
    /// Where the records stand in its result.
    pub items: Expr,
    /// The key of the entity that a record is of.
    pub key: Expr,
    /// Where the next page begins; null at the end.
    pub cursor: Option<Expr>,
}

/// Reads `reconcile:`; what is wrong goes to the reader.
pub(super) fn read(fields: &mut Fields<'_>) -> Vec<Arc<Reconcile>> {
    let entries = fields.optional_entries("reconcile");
    entries.iter().filter_map(|(kind, item)| one(kind, item)).map(Arc::new).collect()
}

fn one(kind: &Spanned<String>, item: &Item<'_>) -> Option<Reconcile> {
    let mut fields = item.fields()?;
    // A kind's fields stand under its name; a name that CEL does not allow is told of where the process is.
    let ours = Names::new(["entity", kind.value.as_str()]);
    let both = ours.and("result");
    let schedule = if fields.optional("every").is_some() || fields.optional("at").is_some() {
        Schedule::read(&mut fields)
    } else {
        None
    };
    let policy = fields.optional_choice("policy", &[("propose", false), ("apply", true)]);
    let read = fields.text("read");
    let with = fields.required("with").and_then(|item| reading::mapping(&item, &ours));
    let when = fields.optional("when").and_then(|item| reading::guard(&item, &ours));
    let absent = fields.optional("absent").and_then(|item| reading::guard(&item, &both));
    let compared = fields.entries("fields").unwrap_or_default();
    let compared: Vec<Compared> =
        compared.iter().filter_map(|(name, item)| field(name, item, &ours, &both)).collect();
    let repair = fields.optional_map("repair").and_then(|fields| repair(fields, &both));
    let take = fields.optional_map("take").and_then(|fields| take(fields, &both));
    let list = fields.optional_map("list").and_then(list);
    let (is_theirs, is_ours) =
        (compared.iter().any(|field| field.is_theirs), compared.iter().any(|field| !field.is_theirs));
    if take.is_some() && !is_theirs {
        fields
            .item()
            .refuse("nothing is taken over: no field is `owner: them`", "say which, or delete `take`");
    }
    if repair.is_some() && !is_ours {
        fields.item().refuse("nothing is repaired: every field is `owner: them`", "delete `repair`");
    }
    fields.finish();
    Some(Reconcile {
        kind: kind.clone(),
        schedule,
        applies: policy.is_some_and(|policy| policy.value),
        read: read?,
        with: with?,
        when,
        absent,
        fields: compared,
        repair,
        take,
        list,
    })
}

fn field(name: &Spanned<String>, item: &Item<'_>, ours: &Names, both: &Names) -> Option<Compared> {
    let mut fields = item.fields()?;
    let own = fields.required("ours").and_then(|item| reading::expr(&item, ours));
    let theirs = fields.required("theirs").and_then(|item| reading::expr(&item, both));
    let owner = fields.optional_choice("owner", &[("us", false), ("them", true)]);
    fields.finish();
    let is_theirs = owner.is_some_and(|owner| owner.value);
    Some(Compared { name: name.clone(), ours: own?, theirs: theirs?, is_theirs })
}

fn repair(mut fields: Fields<'_>, both: &Names) -> Option<Repair> {
    let call = fields.text("call");
    let with = fields.required("with").and_then(|item| reading::mapping(&item, both));
    fields.finish();
    Some(Repair { call: call?, with: with? })
}

fn take(mut fields: Fields<'_>, both: &Names) -> Option<Take> {
    let event = fields.text("event");
    let map = fields.required("map").and_then(|item| reading::mapping(&item, both));
    fields.finish();
    Some(Take { event: event?, map: map? })
}

fn list(mut fields: Fields<'_>) -> Option<List> {
    let (page, record) = (Names::new(["result", "cursor"]), Names::new(["item"]));
    let call = fields.text("call");
    let items = fields.required("items").and_then(|item| reading::expr(&item, &page));
    let key = fields.required("key").and_then(|item| reading::expr(&item, &record));
    let cursor = fields.optional("cursor").and_then(|item| reading::expr(&item, &page));
    fields.finish();
    Some(List { call: call?, items: items?, key: key?, cursor })
}

//! A source that is asked rather than listened to: `poll:` of its file, and what becomes of a page.
//!
//! The call itself is an effect of the entity `poll/<source>` and leaves as any other, under the connector's contract. Here its answer
//! is read: each item becomes a message of the source, with an id that is the same whenever the item is read again.

use sha2::{Digest as _, Sha256};
use syncline_actors::class::{Class, Latency};
use syncline_actors::document::{Fields, Item, Spanned};
use syncline_actors::expr::{Expr, Names, Scope};
use syncline_actors::reading;
use syncline_actors::schedule::Schedule;
use syncline_actors::value::Value;

use super::Ingress;
use super::feed::{Counts, Piece};

/// Pages of one run where the source does not say.
const PAGES: u32 = 100;

/// Most items of one page. A connector reads answers up to a size; this bounds what they may hold.
const ITEMS_MAX: usize = 10_000;

/// How a source is polled.
#[derive(Debug)]
pub struct Poll {
    /// The connector and the operation to call, as `connector.operation`.
    pub call: Spanned<String>,
    /// When.
    pub schedule: Schedule,
    /// Pages of one run, at most: what is left is for the next one.
    pub pages: u32,
    /// The first cursor.
    pub start: Value,
    /// Where the items stand in the operation's result.
    pub items: Expr,
    /// Where the next page begins; the cursor stays where it is null or nothing says it.
    pub cursor: Option<Expr>,
    /// Whether there is another page now; the result's own `more` where nothing says it.
    pub more: Option<Expr>,
    /// What tells an item from every other state of it; a hash of it where nothing says it.
    pub id: Option<Expr>,
    /// Which of the source's messages an item is.
    pub message: Spanned<String>,
}

impl Poll {
    /// Reads `poll:`; what is wrong goes to the reader.
    pub(super) fn read(mut fields: Fields<'_>) -> Option<Self> {
        let about = |names: &[&'static str]| Names::new(names.iter().copied());
        let expr = |item: &Item<'_>, names: &[&'static str]| reading::expr(item, &about(names));
        let call = fields.text("call");
        let schedule = Schedule::read(&mut fields);
        let pages = fields.optional_number_within("pages", 1_u32..=100_000);
        let start = fields.optional("start").and_then(|item| reading::value(item.node())).unwrap_or_default();
        let items = fields.required("items").and_then(|item| expr(&item, &["result", "cursor"]));
        let cursor = fields.optional("cursor").and_then(|item| expr(&item, &["result", "cursor"]));
        let more = fields.optional("more").and_then(|item| expr(&item, &["result", "cursor"]));
        let id = fields.optional("id").and_then(|item| expr(&item, &["item"]));
        let message = fields.text("message");
        let reader = fields.item().reader();
        fields.finish();
        let call = call?;
        if call.value.split_once('.').is_none() {
            let text = format!("`{}` names no operation", call.value);
            reading::refuse(reader, &call, text, "write `call: connector.operation`");
            return None;
        }
        let pages = pages.map_or(PAGES, |pages| pages.value);
        Some(Self {
            call,
            schedule: schedule?,
            pages,
            start,
            items: items?,
            cursor,
            more,
            id,
            message: message?,
        })
    }

    /// The connector and the operation to call.
    pub fn target(&self) -> (&str, &str) {
        self.call.value.split_once('.').unwrap_or((&self.call.value, ""))
    }
}

/// Why a page is not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// It is not what the source's file says: a person must look. Nothing of it was taken.
    Unusable(String),
    /// Not all of it could be made durable now: read it again.
    Later(String),
}

impl Ingress {
    /// Makes everything in a page of `source` durable: `result` is what the operation's outcome gave, `cursor` where the page began.
    /// What the entity is told: the next cursor, whether there is more, and what became of the items.
    ///
    /// # Errors
    /// See [`Unread`].
    pub async fn page(&self, source: &str, cursor: &Value, result: &Value) -> Result<Value, Unread> {
        let unusable = |what: String| Unread::Unusable(what);
        let door = self
            .doors
            .get(source)
            .ok_or_else(|| unusable(format!("there is no source `{source}` any more")))?;
        let poll = door
            .source
            .poll
            .as_ref()
            .ok_or_else(|| unusable(format!("source `{source}` is not polled any more")))?;
        let scope = Scope::new().with("result", result).with("cursor", cursor);
        let eval = |what: &str, expr: &Expr| {
            expr.eval(&scope).map_err(|error| unusable(format!("`poll.{what}`: {error}")))
        };
        let items = eval("items", &poll.items)?;
        let items = match items.as_list() {
            Some(items) if items.len() <= ITEMS_MAX => items,
            Some(items) => {
                return Err(unusable(format!(
                    "a page has {} items, at most {ITEMS_MAX} are read",
                    items.len()
                )));
            }
            None => return Err(unusable(format!("`poll.items` gives {}, not a list", items.kind_name()))),
        };
        let next = poll.cursor.as_ref().map(|expr| eval("cursor", expr)).transpose()?;
        let more = match &poll.more {
            Some(expr) => eval("more", expr)?.as_bool().unwrap_or(false),
            None => result.get("more").and_then(Value::as_bool).unwrap_or(false),
        };
        let pieces =
            items.iter().map(|item| poll.piece(item)).collect::<Result<Vec<_>, _>>().map_err(unusable)?;
        let class = Class { latency: door.source.class.latency.max(Latency::Minutes), ..door.source.class };
        let fates = Box::pin(self.feed(door, &pieces, class)).await.map_err(Unread::Later)?;
        let mut counts = Counts::default();
        for (fate, _) in &fates {
            counts.add(*fate);
        }
        let next = next.filter(|next| !next.is_null()).unwrap_or_else(|| cursor.clone());
        // A page that leads nowhere would be read for ever.
        let more = more && (next != *cursor);
        Ok(told(&next, more, items.len(), &counts))
    }
}

fn told(cursor: &Value, more: bool, read: usize, counts: &Counts) -> Value {
    let number = |count: usize| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
    Value::map([
        ("cursor", cursor.clone()),
        ("more", Value::Bool(more)),
        ("read", number(read)),
        ("accepted", number(counts.accepted)),
        ("duplicate", number(counts.duplicate)),
        ("quarantined", number(counts.quarantined)),
        ("rejected", number(counts.rejected)),
    ])
}

impl Poll {
    fn piece(&self, item: &Value) -> Result<Piece, String> {
        let raw = item.to_json();
        let id = match &self.id {
            Some(expr) => expr
                .eval(&Scope::new().with("item", item))
                .map_err(|error| format!("`poll.id`: {error}"))?
                .to_plain_text(),
            None => hex::encode(&Sha256::digest(&raw)[..16]),
        };
        Ok(Piece {
            id: format!("poll:{id}"),
            event_type: self.message.value.clone(),
            raw: raw.into(),
            for_ever: true,
        })
    }
}

//! What a reader of one schema refuses of what a writer of another may send.

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use serde_json::Value as Json;

use super::parse::{escaped, same};
use super::{Range, Rules, Schema, Type, decimal};

/// Which versions are compared.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'s> {
    /// The version that is sent.
    pub writer: &'s str,
    /// The version by which it is read.
    pub reader: &'s str,
    /// Whether the reader's is the newer one, which can still be changed.
    pub reader_is_newer: bool,
}

/// A document that the writer may send and the reader refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Where in the message, as a JSON pointer; `*` stands for every item of a list.
    pub path: String,
    /// Where in the writer's schema, as a JSON pointer.
    pub writer_at: String,
    /// Where in the reader's schema.
    pub reader_at: String,
    /// The keyword that is broken.
    pub keyword: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do, in the newer schema.
    pub fix: String,
}

/// Everything that `writer` allows and `reader` refuses, one for each place and keyword; properties in `exempt`, given as pointers into
/// the message, are not looked at. O(size of both).
pub fn compare(writer: &Schema, reader: &Schema, sides: Sides<'_>, exempt: &[String]) -> Vec<Break> {
    let mut comparison = Comparison { sides, exempt, found: Vec::new() };
    comparison.schemas(
        writer,
        reader,
        &Place { path: String::new(), writer: String::new(), reader: String::new() },
    );
    comparison.found
}

struct Comparison<'c> {
    sides: Sides<'c>,
    exempt: &'c [String],
    found: Vec<Break>,
}

#[derive(Clone)]
struct Place {
    path: String,
    writer: String,
    reader: String,
}

impl Place {
    fn below(&self, part: &str) -> Self {
        Self { path: format!("{}/{}", self.path, escaped(part)), ..self.clone() }
    }

    fn shown(&self) -> String {
        if self.path.is_empty() { "the message".to_owned() } else { format!("`{}`", self.path) }
    }
}

impl Comparison<'_> {
    fn schemas(&mut self, writer: &Schema, reader: &Schema, place: &Place) {
        if self.exempt.contains(&place.path) {
            return;
        }
        let none = Rules::none(&place.writer);
        match (writer, reader) {
            (Schema::Never, _) | (_, Schema::Any) => {}
            (_, Schema::Never) => self.note(
                place,
                "additionalProperties",
                format!(
                    "{} may be sent as {}, and {} forbids it",
                    place.shown(),
                    self.writer(),
                    self.reader()
                ),
                "allow it, or open the content model",
            ),
            (Schema::Any, Schema::Of(reader)) => self.rules(&none, reader, place),
            (Schema::Of(writer), Schema::Of(reader)) => self.rules(writer, reader, place),
        }
    }

    fn rules(&mut self, writer: &Rules, reader: &Rules, place: &Place) {
        let place = Place { writer: writer.at.clone(), reader: reader.at.clone(), ..place.clone() };
        let types = sent(writer);
        if self.values(writer, reader, &place) {
            return;
        }
        if !types.is_subset(&reader.types) {
            let refused: Vec<&str> = types.difference(&reader.types).map(|kind| kind.word()).collect();
            let message = format!(
                "{} may be {} in {}, and {} wants {}",
                place.shown(),
                refused.join(" or "),
                self.writer(),
                self.reader(),
                words(&reader.types)
            );
            self.note(&place, "type", message, "allow the types of both versions");
        }
        if types.contains(&Type::Text) {
            self.range(&writer.length, &reader.length, &place, ["minLength", "maxLength"]);
            if let Some(pattern) = reader.pattern.as_ref().filter(|_| reader.pattern != writer.pattern) {
                let message = format!(
                    "{} must match `{pattern}` in {}, not in {}",
                    place.shown(),
                    self.reader(),
                    self.writer()
                );
                self.note(
                    &place,
                    "pattern",
                    message,
                    "keep the pattern: whether one allows more than another cannot be judged",
                );
            }
        }
        if types.contains(&Type::Integer) || types.contains(&Type::Fraction) {
            self.numbers(writer, reader, &place);
        }
        if types.contains(&Type::List) {
            self.lists(writer, reader, &place);
        }
        if types.contains(&Type::Map) {
            self.maps(writer, reader, &place);
        }
    }

    /// Whether all is said: the writer sends one of a few values, and each was looked at; or the reader takes only some.
    fn values(&mut self, writer: &Rules, reader: &Rules, place: &Place) -> bool {
        let list = |values: &[&Json]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match (&writer.values, &reader.values) {
            (None, None) => false,
            (None, Some(allowed)) => {
                let allowed: Vec<&Json> = allowed.iter().collect();
                let message = format!(
                    "{} is one of {} in {}, and not bound to them in {}",
                    place.shown(),
                    list(&allowed),
                    self.reader(),
                    self.writer()
                );
                self.note(place, "enum", message, "leave it free, or bind both versions to the same values");
                false
            }
            (Some(sent), allowed) => {
                let takes = |value: &&Json| {
                    allowed.as_ref().is_none_or(|all| all.iter().any(|one| same(one, value)))
                        && admits(reader, writer, value)
                };
                let refused: Vec<&Json> = sent.iter().filter(|value| !takes(value)).collect();
                if !refused.is_empty() {
                    let message = format!(
                        "{} may be {} in {}, which {} does not take",
                        place.shown(),
                        list(&refused),
                        self.writer(),
                        self.reader()
                    );
                    self.note(place, "enum", message, "allow the values of both versions");
                }
                // Values that are lists or maps have insides that are bound by more than a list of values.
                sent.iter().all(|value| !matches!(Type::of(value), Type::List | Type::Map))
            }
        }
    }

    fn numbers(&mut self, writer: &Rules, reader: &Rules, place: &Place) {
        let edges = |rules: &Rules| {
            (
                edge(rules.size.min, rules.strict.min, std::cmp::max),
                edge(rules.size.max, rules.strict.max, std::cmp::min),
            )
        };
        let ((writer_min, writer_max), (reader_min, reader_max)) = (edges(writer), edges(reader));
        if let Some((bound, strict)) = reader_min
            && writer_min
                .is_none_or(|(own, own_strict)| own < bound || (own == bound && strict && !own_strict))
        {
            self.bound(place, "minimum", "at least", bound);
        }
        if let Some((bound, strict)) = reader_max
            && writer_max
                .is_none_or(|(own, own_strict)| own > bound || (own == bound && strict && !own_strict))
        {
            self.bound(place, "maximum", "at most", bound);
        }
        if let Some(step) = reader.multiple_of.filter(|step| !step.is_zero()) {
            let fits = writer
                .multiple_of
                .is_some_and(|own| own.checked_rem(step).is_some_and(|rest| rest.is_zero()));
            if !fits {
                let message = format!(
                    "{} must be a multiple of {step} in {}, not in {}",
                    place.shown(),
                    self.reader(),
                    self.writer()
                );
                self.note(place, "multipleOf", message, "leave it out, or keep it as it was");
            }
        }
    }

    fn bound(&mut self, place: &Place, keyword: &'static str, how: &str, bound: Decimal) {
        let message =
            format!("{} is {how} {bound} in {}, not in {}", place.shown(), self.reader(), self.writer());
        self.note(place, keyword, message, "let the bound be as wide as in the other version");
    }

    fn range(
        &mut self,
        writer: &Range<u64>,
        reader: &Range<u64>,
        place: &Place,
        keywords: [&'static str; 2],
    ) {
        if reader.min.unwrap_or_default() > writer.min.unwrap_or_default() {
            self.bound(place, keywords[0], "at least (in length)", reader.min.unwrap_or_default().into());
        }
        if let Some(most) = reader.max.filter(|most| writer.max.is_none_or(|own| own > *most)) {
            self.bound(place, keywords[1], "at most (in length)", most.into());
        }
    }

    fn lists(&mut self, writer: &Rules, reader: &Rules, place: &Place) {
        self.range(&writer.count, &reader.count, place, ["minItems", "maxItems"]);
        if reader.unique && !writer.unique && writer.count.max.is_none_or(|most| most > 1) {
            let message = format!(
                "the items of {} must differ in {}, not in {}",
                place.shown(),
                self.reader(),
                self.writer()
            );
            self.note(place, "uniqueItems", message, "leave it out");
        }
        if writer.count.max != Some(0) {
            self.schemas(&writer.items, &reader.items, &place.below("*"));
        }
    }

    fn maps(&mut self, writer: &Rules, reader: &Rules, place: &Place) {
        for name in reader.required.difference(&writer.required) {
            let place = place.below(name);
            if self.exempt.contains(&place.path) {
                continue;
            }
            let message = format!(
                "{} is required in {}, and may be absent in {}",
                place.shown(),
                self.reader(),
                self.writer()
            );
            self.note(
                &place,
                "required",
                message,
                "take it out of `required`, or require it in both versions",
            );
        }
        let names: BTreeSet<&String> = writer.properties.keys().chain(reader.properties.keys()).collect();
        for name in names {
            let place = place.below(name);
            let sent = writer.properties.get(name).unwrap_or(&writer.rest);
            let read = reader.properties.get(name).unwrap_or(&reader.rest);
            let undeclared = !writer.properties.contains_key(name) && writer.rest == Schema::Any;
            let before = self.found.len();
            self.schemas(sent, read, &place);
            if undeclared && !self.exempt.contains(&place.path) {
                self.open(before, name);
            }
        }
        self.schemas(&writer.rest, &reader.rest, &place.below("*"));
    }

    /// What was found since `before` is because nothing was said of a property, and so anything could be sent under its name.
    fn open(&mut self, before: usize, name: &str) {
        let writer = self.writer();
        for found in &mut self.found[before..] {
            found.message = format!(
                "{}: {writer} has an open content model, so anything may be sent as `{name}`",
                found.message
            );
            "close the older content model, or write `compatibility: {mode: …, undeclared: absent}` if senders send nothing they have not declared".clone_into(&mut found.fix);
        }
    }

    fn note(&mut self, place: &Place, keyword: &'static str, message: String, fix: &str) {
        let where_ = if self.sides.reader_is_newer { self.sides.reader } else { self.sides.writer };
        self.found.push(Break {
            path: place.path.clone(),
            writer_at: place.writer.clone(),
            reader_at: place.reader.clone(),
            keyword,
            message,
            fix: format!("in version {where_}: {fix}"),
        });
    }

    fn writer(&self) -> String {
        format!("version {}", self.sides.writer)
    }

    fn reader(&self) -> String {
        format!("version {}", self.sides.reader)
    }
}

/// The types that may be sent: those allowed, less those of which no value is.
fn sent(rules: &Rules) -> BTreeSet<Type> {
    match &rules.values {
        None => rules.types.clone(),
        Some(values) => values.iter().map(Type::of).filter(|kind| rules.types.contains(kind)).collect(),
    }
}

/// The tighter of a bound and a strict bound, and whether it is strict.
fn edge(
    size: Option<Decimal>,
    strict: Option<Decimal>,
    tighter: fn(Decimal, Decimal) -> Decimal,
) -> Option<(Decimal, bool)> {
    match (size, strict) {
        (None, None) => None,
        (Some(size), None) => Some((size, false)),
        (None, Some(strict)) => Some((strict, true)),
        (Some(size), Some(strict)) => {
            let bound = tighter(size, strict);
            Some((bound, bound == strict))
        }
    }
}

/// Whether the reader takes one value, as far as types and bounds go. A pattern it takes only where the writer has the same.
fn admits(reader: &Rules, writer: &Rules, value: &Json) -> bool {
    let within = |n: u64, range: &Range<u64>| {
        range.min.is_none_or(|min| n >= min) && range.max.is_none_or(|max| n <= max)
    };
    if !reader.types.contains(&Type::of(value)) {
        return false;
    }
    match value {
        Json::String(text) => {
            within(text.chars().count() as u64, &reader.length)
                && (reader.pattern.is_none() || reader.pattern == writer.pattern)
        }
        Json::Number(number) => decimal(number).is_some_and(|number| {
            let low = edge(reader.size.min, reader.strict.min, std::cmp::max);
            let high = edge(reader.size.max, reader.strict.max, std::cmp::min);
            low.is_none_or(|(bound, strict)| number > bound || (number == bound && !strict))
                && high.is_none_or(|(bound, strict)| number < bound || (number == bound && !strict))
                && reader
                    .multiple_of
                    .is_none_or(|step| number.checked_rem(step).is_some_and(|rest| rest.is_zero()))
        }),
        _ => true,
    }
}

fn words(types: &BTreeSet<Type>) -> String {
    let number = types.contains(&Type::Fraction);
    let shown = types.iter().filter(|kind| !(number && **kind == Type::Integer));
    let words: Vec<&str> = shown.map(|kind| kind.word()).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" or ") }
}

//! From what an authentic sender wrote to what the entities here understand: schema gate, then mapping.
//!
//! Nothing is dropped and nothing is guessed. What does not pass says why, in words for the person who will mend it, and is kept
//! whole by the caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_actors::document::{Problem, Reader};
use syncline_actors::envelope::{Body, Command, Envelope, Event, Evidence};
use syncline_actors::expr::{Expr, ExprError, Later, Made, Scope};
use syncline_actors::id::EntityId;
use syncline_actors::letter::Letter;
use syncline_actors::schema::{self, Outside, Schema};
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::drift::{self, Book, Drift, Policy, Shape};
use super::source::{Meaning, Send, Source};
use super::versions;

mod instance;

/// One message of a delivery, verified and identified.
pub struct Received<'r> {
    /// The sender's id for it.
    pub id: &'r str,
    /// Equal for two deliveries of it.
    pub dedupe: &'r str,
    /// The sender's type for it.
    pub event_type: &'r str,
    /// What it says.
    pub body: &'r Value,
    /// The request's headers, lower-case, as a map.
    pub headers: &'r dyn Later,
    /// When it came.
    pub at: Timestamp,
    /// Trace context as received.
    pub traceparent: Option<Arc<str>>,
    /// The bytes it came in.
    pub evidence: Evidence,
}

impl std::fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Received")
            .field("id", &self.id)
            .field("event_type", &self.event_type)
            .finish_non_exhaustive()
    }
}

/// Why an authentic message is not understood. It is kept whole in the quarantine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// The source has no such type.
    #[error(
        "source `{source_name}` has no message type `{event_type}`: add it to config/sources/{source_name}.yaml, or tell the sender to stop"
    )]
    Type {
        /// The source.
        source_name: String,
        /// The type.
        event_type: String,
    },
    /// The type has no schema of this version.
    #[error("`{event_type}` has no schema version {version}; known: {known}")]
    Version {
        /// The type.
        event_type: String,
        /// The version asked for.
        version: String,
        /// The versions there are.
        known: String,
    },
    /// It breaks its schema.
    #[error("`{event_type}` breaks its schema {schema}: {problems}")]
    Schema {
        /// The type.
        event_type: String,
        /// The schema's file.
        schema: String,
        /// What is wrong, at most five.
        problems: String,
        /// How it has come away from the schema.
        drift: Vec<Drift>,
    },
    /// It could not be mapped.
    #[error("`{event_type}` cannot be mapped: {problem}")]
    Mapping {
        /// The type.
        event_type: String,
        /// Which expression, on what.
        problem: String,
    },
    /// It leads to no entity.
    #[error("`{event_type}` leads to no entity: {problem}")]
    Key {
        /// The type.
        event_type: String,
        /// What is wrong with the key.
        problem: String,
    },
}

/// The compiled schemas of all sources, by file.
#[derive(Debug, Default)]
pub struct Schemas {
    compiled: BTreeMap<String, Compiled>,
    book: Book,
}

/// A schema: to check messages by, to compare with others, and what it knows.
#[derive(Debug)]
struct Compiled {
    validator: jsonschema::Validator<instance::Lent>,
    model: Schema,
    outside: Vec<Outside>,
    shape: Shape,
}

impl Schemas {
    /// Compiles one schema, known as `key` from now on. What is wrong goes to `reader`, named by `file`.
    pub fn add(&mut self, key: &str, text: &str, file: &str, reader: &Reader) {
        let schema = match serde_json::from_str(text) {
            Ok(schema) => schema,
            Err(error) => {
                let place = syncline_actors::document::Place {
                    file: file.into(),
                    line: u32::try_from(error.line().max(1)).unwrap_or(u32::MAX),
                    column: u32::try_from(error.column().max(1)).unwrap_or(u32::MAX),
                };
                return reader
                    .note(Problem::error(place, "", format!("not JSON: {error}")).fix("correct the file"));
            }
        };
        match jsonschema::options_for::<instance::Lent>().build(&schema) {
            Ok(validator) => {
                let (model, outside) = schema::parse(&schema);
                // Where a part is not understood, a property may be declared there.
                let is_understood = outside.iter().all(|outside| outside.is_slip);
                let shape = if is_understood { Shape::of(&model) } else { Shape::default() };
                let compiled = Compiled { validator, model, outside, shape };
                self.compiled.insert(key.to_owned(), compiled);
            }
            Err(error) => {
                let place = syncline_actors::document::Place::start_of(file);
                let path = error.instance_path().to_string();
                let problem = Problem::error(place, path, format!("not a JSON Schema: {error}"));
                reader.note(problem.fix("see https://json-schema.org/draft/2020-12"));
            }
        }
    }

    /// Whether there is a schema of this path.
    pub fn has(&self, key: &str) -> bool {
        self.compiled.contains_key(key)
    }

    /// All paths, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.compiled.keys().map(String::as_str)
    }

    /// A schema as far as it can be compared, and what of it cannot.
    pub fn model(&self, key: &str) -> Option<(&Schema, &[Outside])> {
        self.compiled.get(key).map(|compiled| (&compiled.model, compiled.outside.as_slice()))
    }

    /// The drift seen so far.
    pub fn drift(&self) -> &Book {
        &self.book
    }

    /// How `body` differs from its schema in ways that are let pass.
    ///
    /// # Errors
    /// What it is held for, in words, and all of its drift.
    fn check(&self, file: &str, body: &Value, policy: Policy) -> Result<Vec<Drift>, (String, Vec<Drift>)> {
        let Some(compiled) = self.compiled.get(file) else {
            return Err(("the schema is not loaded".to_owned(), Vec::new()));
        };
        let new_fields = compiled.shape.new_fields(body, policy);
        if compiled.validator.is_valid(body) {
            if new_fields.iter().any(|drift| drift.is_held) {
                return Err((said_of(&new_fields), new_fields));
            }
            return Ok(new_fields);
        }
        let drift = drift::of_errors(compiled.validator.iter_errors(body), new_fields, policy);
        if !drift.iter().any(|drift| drift.is_held) {
            return Ok(drift);
        }
        let mut all: Vec<String> = compiled.validator.iter_errors(body).take(5).map(|e| said(&e)).collect();
        all.extend(
            drift.iter().filter(|drift| drift.said.contains("renamed")).map(|drift| drift.said.clone()),
        );
        Err((all.join("; "), drift))
    }
}

fn said_of(drift: &[Drift]) -> String {
    drift.iter().take(5).map(|drift| drift.said.as_str()).collect::<Vec<_>>().join("; ")
}

/// A schema error in words, without the value: payloads do not belong in logs.
fn said(error: &jsonschema::ValidationError<'_>) -> String {
    let path = error.instance_path().to_string();
    let place = if path.is_empty() { "the body".to_owned() } else { path };
    format!("{place}: {}", error.masked())
}

/// The canonical messages that `received` becomes. None is a mistake of the mapping and not understood either.
///
/// # Errors
/// [`NotUnderstood`]: nothing was made of it; keep it.
pub fn understand(
    source: &Source,
    schemas: &Schemas,
    received: &Received<'_>,
) -> Result<Vec<Envelope>, NotUnderstood> {
    let Some(meaning) = source.messages.get(received.event_type) else {
        let (source_name, event_type) = (source.name.to_string(), received.event_type.to_owned());
        return Err(NotUnderstood::Type { source_name, event_type });
    };
    let told = (received.id, received.event_type);
    let message = Made::new(&told, |(id, event_type)| {
        Value::map([("id", Value::from(*id)), ("type", Value::from(*event_type))])
    });
    let now = Made::new(&received.at, |at| Value::from(at.to_string()));
    let about = Scope::new().with("headers", received.headers).with("message", &message).with("now", &now);
    let version =
        check_schema(source, meaning, schemas, received, &about.clone().with("body", received.body))?;
    let lifted = lift(meaning, schemas, received, version, &about)?;
    let about = about.with("body", lifted.as_ref().unwrap_or(received.body));
    let mut envelopes = Vec::with_capacity(meaning.send.len());
    for (index, send) in meaning.send.iter().enumerate() {
        envelopes.extend(envelope(source, send, index, received, &about)?);
    }
    if envelopes.is_empty() {
        let problem = "no `send` of it applies, so nothing would come of it".to_owned();
        return Err(NotUnderstood::Mapping { event_type: received.event_type.to_owned(), problem });
    }
    Ok(envelopes)
}

/// The version of the message; none where its type has no schemas.
fn check_schema(
    source: &Source,
    meaning: &Meaning,
    schemas: &Schemas,
    received: &Received<'_>,
    scope: &Scope<'_>,
) -> Result<Option<String>, NotUnderstood> {
    if meaning.schemas.is_empty() {
        return Ok(None);
    }
    let event_type = || received.event_type.to_owned();
    let version = match &meaning.version {
        Some(version) => evaluate(version, scope, received.event_type)?.to_plain_text(),
        None => "1".to_owned(),
    };
    let Some(file) = meaning.schemas.get(&version) else {
        let known = meaning.schemas.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(NotUnderstood::Version { event_type: event_type(), version, known });
    };
    let checked = schemas.check(&file.value, received.body, meaning.versions.drift);
    let (Ok(drift) | Err((_, drift))) = &checked;
    schemas.book.note(&source.name, received.event_type, drift, received.at);
    match checked {
        Ok(_) => Ok(Some(version)),
        Err((problems, drift)) => {
            let (event_type, schema) = (event_type(), file.value.clone());
            Err(NotUnderstood::Schema { event_type, schema, problems, drift })
        }
    }
}

/// The body as the newest version that up-casters lead to has it; none where there is nothing to lift.
fn lift(
    meaning: &Meaning,
    schemas: &Schemas,
    received: &Received<'_>,
    version: Option<String>,
    about: &Scope<'_>,
) -> Result<Option<Value>, NotUnderstood> {
    let Some(mut version) = version else { return Ok(None) };
    let mut lifted: Option<Value> = None;
    while let Some(upcast) = meaning.versions.upcasts.get(&version) {
        let Some(next) = versions::next(&version, meaning.schemas.keys()) else { break };
        let body = lifted.as_ref().unwrap_or(received.body);
        let not = |problem: String| NotUnderstood::Mapping {
            event_type: received.event_type.to_owned(),
            problem: format!("up-caster from version {version} to {next}: {problem}"),
        };
        let further = upcast.apply(body, &about.clone().with("body", body)).map_err(&not)?;
        let checked = schemas.check(&meaning.schemas[next].value, &further, meaning.versions.drift);
        checked.map_err(|(problems, _)| not(format!("what comes of it breaks its schema: {problems}")))?;
        (lifted, version) = (Some(further), next.clone());
    }
    Ok(lifted)
}

/// The entity that a message would have gone to, as far as that can be told of one that is not understood.
pub fn meant_for(source: &Source, received: &Received<'_>) -> Option<EntityId> {
    let send = source.messages.get(received.event_type)?.send.first()?;
    let message = Value::map([("id", Value::from(received.id)), ("type", Value::from(received.event_type))]);
    let now = Value::from(received.at.to_string());
    let scope = Scope::new().with("body", received.body).with("headers", received.headers);
    let key = send.key.eval(&scope.with("message", &message).with("now", &now)).ok()?;
    send.subject(&source.name, &key.to_plain_text()).ok()
}

fn envelope(
    source: &Source,
    send: &Send,
    index: usize,
    received: &Received<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Envelope>, NotUnderstood> {
    let event_type = received.event_type;
    if let Some(when) = &send.when
        && !when.eval_bool(scope).map_err(|error| not_mapped(event_type, when, &error))?
    {
        return Ok(None);
    }
    let key = evaluate(&send.key, scope, event_type)?.to_plain_text();
    let subject = send.subject(&source.name, &key).map_err(|error| NotUnderstood::Key {
        event_type: event_type.to_owned(),
        problem: error.to_string(),
    })?;
    let data = send.map.eval(scope).map_err(|error| NotUnderstood::Mapping {
        event_type: event_type.to_owned(),
        problem: error.to_string(),
    })?;
    let time = match &send.time {
        Some(time) => Timestamp::parse(&evaluate(time, scope, event_type)?.to_plain_text()),
        None => None,
    };
    let correlation_id = match &send.correlation {
        Some(correlation) => evaluate(correlation, scope, event_type)?.to_plain_text(),
        None => subject.to_string(),
    };
    let name: Arc<str> = send.name.value.as_str().into();
    let body = if send.is_command {
        Body::Command(Command { name, data })
    } else {
        Body::Event(Event { name, data })
    };
    let body = if send.by_alias {
        Letter::passed(subject.clone(), body, &source.name, &correlation_id)
    } else {
        body
    };
    Ok(Some(Envelope {
        // One delivery may become several messages: each has an id of its own, the same at every delivery.
        id: if index == 0 { received.dedupe.into() } else { format!("{}#{index}", received.dedupe).into() },
        source: source.name.clone(),
        subject,
        correlation_id: correlation_id.into(),
        causation_id: None,
        traceparent: received.traceparent.clone(),
        time,
        at: received.at,
        remember_ms: Some(u64::try_from(source.retention.as_millis()).unwrap_or(u64::MAX)),
        body,
        evidence: Some(received.evidence.clone()),
    }))
}

fn evaluate(expr: &Expr, scope: &Scope<'_>, event_type: &str) -> Result<Value, NotUnderstood> {
    expr.eval(scope).map_err(|error| not_mapped(event_type, expr, &error))
}

fn not_mapped(event_type: &str, expr: &Expr, error: &ExprError) -> NotUnderstood {
    let problem = format!("`{}`: {error}", expr.source());
    NotUnderstood::Mapping { event_type: event_type.to_owned(), problem }
}

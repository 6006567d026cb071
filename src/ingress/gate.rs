//! From what an authentic sender wrote to what the entities here understand: schema gate, then mapping.
//!
//! Nothing is dropped and nothing is guessed. What does not pass says why, in words for the person who will mend it, and is kept
//! whole by the caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_actors::document::{Problem, Reader};
use syncline_actors::envelope::{Body, Command, Envelope, Event, Evidence};
use syncline_actors::expr::{Expr, ExprError, Scope};
use syncline_actors::id::EntityId;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

use super::source::{Meaning, Send, Source};

/// One message of a delivery, verified and identified.
#[derive(Debug)]
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
    pub headers: &'r Value,
    /// When it came.
    pub at: Timestamp,
    /// Trace context as received.
    pub traceparent: Option<Arc<str>>,
    /// The bytes it came in.
    pub evidence: Evidence,
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
    validators: BTreeMap<String, jsonschema::Validator>,
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
        match jsonschema::validator_for(&schema) {
            Ok(validator) => drop(self.validators.insert(key.to_owned(), validator)),
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
        self.validators.contains_key(key)
    }

    /// All paths, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.validators.keys().map(String::as_str)
    }

    fn check(&self, file: &str, body: &Value) -> Result<(), String> {
        let Some(validator) = self.validators.get(file) else {
            return Err("the schema is not loaded".to_owned());
        };
        let instance = body.to_serde_json();
        if validator.is_valid(&instance) {
            return Ok(());
        }
        let all: Vec<String> = validator.iter_errors(&instance).take(5).map(|e| said(&e)).collect();
        Err(all.join("; "))
    }
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
    let event_type = received.event_type.to_owned();
    let Some(meaning) = source.messages.get(received.event_type) else {
        return Err(NotUnderstood::Type { source_name: source.name.to_string(), event_type });
    };
    let message = Value::map([("id", Value::from(received.id)), ("type", Value::from(received.event_type))]);
    let now = Value::from(received.at.to_string());
    let scope = || {
        Scope::new()
            .with("body", received.body)
            .with("headers", received.headers)
            .with("message", &message)
            .with("now", &now)
    };
    check_schema(meaning, schemas, received, &scope())?;
    let mut envelopes = Vec::with_capacity(meaning.send.len());
    for (index, send) in meaning.send.iter().enumerate() {
        envelopes.extend(envelope(source, send, index, received, &scope())?);
    }
    if envelopes.is_empty() {
        let problem = "no `send` of it applies, so nothing would come of it".to_owned();
        return Err(NotUnderstood::Mapping { event_type, problem });
    }
    Ok(envelopes)
}

fn check_schema(
    meaning: &Meaning,
    schemas: &Schemas,
    received: &Received<'_>,
    scope: &Scope<'_>,
) -> Result<(), NotUnderstood> {
    if meaning.schemas.is_empty() {
        return Ok(());
    }
    let event_type = received.event_type.to_owned();
    let version = match &meaning.version {
        Some(version) => evaluate(version, scope, &event_type)?.to_plain_text(),
        None => "1".to_owned(),
    };
    let Some(file) = meaning.schemas.get(&version) else {
        let known = meaning.schemas.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(NotUnderstood::Version { event_type, version, known });
    };
    schemas.check(&file.value, received.body).map_err(|problems| NotUnderstood::Schema {
        event_type,
        schema: file.value.clone(),
        problems,
    })
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
    let subject = EntityId::new(&send.process.value, &key).map_err(|error| NotUnderstood::Key {
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
        body: if send.is_command {
            Body::Command(Command { name, data })
        } else {
            Body::Event(Event { name, data })
        },
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

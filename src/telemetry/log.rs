//! How logs are written: to standard error, for people or as JSON, with the ids of the flow as fields.
//!
//! Never log a payload or a secret: payloads are in the journal, where access is controlled.

use std::io::IsTerminal as _;

use syncline_actors::envelope::Envelope;
use tracing::{Span, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat, LogLevel};

/// Why logs are not written as wished.
#[derive(Debug, thiserror::Error)]
#[error("logs are set up already; start them once in a process")]
pub struct AlreadyStarted(#[source] tracing_subscriber::util::TryInitError);

/// Begins to write this process's logs to standard error.
///
/// # Errors
/// When they were begun before.
pub fn start(log: Log) -> Result<(), AlreadyStarted> {
    let colour = std::io::stderr().is_terminal();
    match log.format {
        LogFormat::Pretty => pretty(log.level, colour, std::io::stderr).try_init(),
        LogFormat::Json => json(log.level, std::io::stderr).try_init(),
    }
    .map_err(AlreadyStarted)
}

/// The span of a message: all that is logged within it carries the entity, the message's id and the flow's.
pub fn message_span(envelope: &Envelope) -> Span {
    tracing::info_span!(
        "message",
        entity = %envelope.subject,
        message_id = %envelope.id,
        correlation_id = %envelope.correlation_id,
    )
}

/// Syncline at `level`; libraries from `warn` on.
fn filter(level: LogLevel) -> EnvFilter {
    let level = level.word();
    EnvFilter::new(format!("warn,syncline={level},syncline_actors={level}"))
}

fn pretty<W>(level: LogLevel, colour: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_ansi(colour)
        .with_target(false)
        .with_writer(writer)
        .finish()
}

fn json<W>(level: LogLevel, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Debug, Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn some_work() {
        let span = tracing::info_span!("message", entity = "order/SO-1", correlation_id = "9f2c");
        span.in_scope(|| tracing::info!(connector = "erp", "calling"));
        tracing::debug!("too much detail");
        tracing::info!(target: "hyper", "a library's chatter");
        tracing::warn!(target: "hyper", "a library's warning");
    }

    #[test]
    fn json_is_one_object_a_line_with_the_ids_of_the_flow() {
        let written = Written::default();
        let writer = written.clone();
        tracing::subscriber::with_default(json(LogLevel::Info, move || writer.clone()), some_work);
        let lines: Vec<serde_json::Value> =
            written.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0]["message"], "calling");
        assert_eq!(lines[0]["connector"], "erp");
        assert_eq!(lines[0]["span"]["correlation_id"], "9f2c");
        assert_eq!(lines[0]["span"]["entity"], "order/SO-1");
        assert_eq!(lines[1]["message"], "a library's warning");
    }

    #[test]
    fn pretty_is_for_people_and_without_colour_in_a_file() {
        let written = Written::default();
        let writer = written.clone();
        tracing::subscriber::with_default(pretty(LogLevel::Debug, false, move || writer.clone()), some_work);
        let text = written.text();
        assert!(text.contains("calling") && text.contains("correlation_id=\"9f2c\""), "{text}");
        assert!(text.contains("too much detail") && !text.contains("chatter"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

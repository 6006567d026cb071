//! `POST /v1/batches/{source}`: a file of rows, each a message of the source. An operator brings it, which is what makes it authentic.
//!
//! It is read as it comes, so a file may be of any size. Each row has the same id whenever it comes: brought again from the beginning or
//! from the middle, by whoever and after whatever crash, it is a duplicate.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use syncline_actors::class::{Class, Latency};
use syncline_actors::document::{Fields, Spanned};
use syncline_actors::expr::Names;
use syncline_actors::expr::{Expr, Scope};
use syncline_actors::reading;
use syncline_actors::value::Value;

use super::door::Door;
use super::feed::{Counts, Fate, Piece};
use super::rows::{Format, Header, Row, Rows};
use super::{Ingress, Shared};
use crate::api::{BatchReport, RowFate};
use crate::problem::Problem;

/// How long nothing of a file may come.
const IDLE: Duration = Duration::from_secs(30);

/// Rows made durable before more of the file is read.
const PART: usize = 256;

/// What a source's file says of batches.
#[derive(Debug)]
pub struct Batch {
    /// Which of the source's messages a row is.
    pub message: Spanned<String>,
    /// What tells a row from every other; the file and the line where nothing says it.
    pub id: Option<Expr>,
}

impl Batch {
    /// Reads `batch:`; what is wrong goes to the reader.
    pub(super) fn read(mut fields: Fields<'_>) -> Option<Self> {
        let message = fields.text("message");
        let names = Names::new(["body"]);
        let id = fields.optional("id").and_then(|item| reading::expr(&item, &names));
        fields.finish();
        Some(Self { message: message?, id })
    }
}

/// What is asked for.
struct Asked {
    format: Format,
    delimiter: u8,
    /// What the file is known by.
    file: String,
    /// The line at which the rows of this request begin.
    line: u64,
    message: Option<String>,
}

pub(super) async fn receive(
    State(ingress): Shared,
    Path(source): Path<String>,
    Query(asked): Query<BTreeMap<String, String>>,
    request: Request<Body>,
) -> Response {
    match Box::pin(serve(&ingress, &source, asked, request)).await {
        Ok(report) => Json(report).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn serve(
    ingress: &Ingress,
    source: &str,
    asked: BTreeMap<String, String>,
    request: Request<Body>,
) -> Result<BatchReport, Problem> {
    let (parts, body) = request.into_parts();
    let who = (ingress.admit)(&parts.headers)?;
    let door = ingress
        .doors
        .get(source)
        .ok_or_else(|| Problem::not_found(format!("there is no source `{source}`")))?;
    let mut intake = Intake::new(ingress, door, Asked::read(asked)?)?;
    let mut stream = body.into_data_stream();
    loop {
        let next = tokio::time::timeout(IDLE, stream.next()).await;
        let next = next.map_err(|_elapsed| intake.broken("nothing of the file came for a while"))?;
        let Some(part) = next else { break };
        let part =
            part.map_err(|error| intake.broken(&format!("the file could not be read to its end: {error}")))?;
        intake.rows.push(&part);
        intake.work().await?;
    }
    let last = intake.rows.last();
    intake.end(last).await?;
    tracing::info!(source, who = who.0, file = intake.asked.file, report = ?intake.report.rows, "a batch was taken in");
    Ok(intake.report)
}

impl Asked {
    fn read(mut asked: BTreeMap<String, String>) -> Result<Self, Problem> {
        let format = match asked.remove("format").as_deref() {
            Some("csv") => Format::Csv,
            Some("ndjson") => Format::Ndjson,
            _ => {
                return Err(Problem::malformed(
                    "say how the file is written: `format=csv` or `format=ndjson`",
                ));
            }
        };
        let file = asked.remove("file").filter(|file| (1..=128).contains(&file.len())).ok_or_else(|| {
            Problem::malformed("say by what the file is known, at most 128 characters: `file=<hash or name>`; its rows have their ids from it")
        })?;
        let delimiter = match asked.remove("delimiter").as_deref().map(str::as_bytes) {
            None => b',',
            Some([one]) if *one != b'"' && !one.is_ascii_alphanumeric() => *one,
            Some(_) => return Err(Problem::malformed("`delimiter` is one character, e.g. `delimiter=;`")),
        };
        let line = match asked.remove("line").map(|line| line.parse::<u64>()) {
            None => 1,
            Some(Ok(line)) if line > 0 => line,
            Some(_) => return Err(Problem::malformed("`line` is the number of a line, from 1")),
        };
        let message = asked.remove("message");
        if let Some(other) = asked.keys().next() {
            let known = "format, file, message, delimiter, line";
            return Err(Problem::malformed(format!("there is no parameter `{other}` here; known: {known}")));
        }
        Ok(Self { format, delimiter, file, line, message })
    }
}

/// A file on its way in.
struct Intake<'i> {
    ingress: &'i Ingress,
    door: &'i Door,
    asked: Asked,
    message: String,
    rows: Rows,
    header: Option<Header>,
    waiting: Vec<(u64, Piece)>,
    report: BatchReport,
    counts: Counts,
}

impl<'i> Intake<'i> {
    fn new(ingress: &'i Ingress, door: &'i Door, asked: Asked) -> Result<Self, Problem> {
        let source = &door.source;
        let only = || (source.messages.len() == 1).then(|| source.messages.keys().next().cloned()).flatten();
        let declared = || source.batch.as_ref().map(|batch| batch.message.value.clone());
        let names = || source.messages.keys().cloned().collect::<Vec<_>>().join(", ");
        let message = asked.message.clone().or_else(declared).or_else(only).ok_or_else(|| {
            Problem::malformed(format!("say which message a row is: `message=TYPE`, one of {}", names()))
        })?;
        if !source.messages.contains_key(&message) {
            let detail = format!("source `{}` has no message `{message}`, only {}", source.name, names());
            return Err(Problem::malformed(detail));
        }
        let first = if asked.format == Format::Csv { 1 } else { asked.line };
        Ok(Self {
            rows: Rows::new(asked.format, first),
            ingress,
            door,
            asked,
            message,
            header: None,
            waiting: Vec::new(),
            report: BatchReport::default(),
            counts: Counts::default(),
        })
    }

    async fn work(&mut self) -> Result<(), Problem> {
        while let Some(row) = self.rows.take().map_err(|error| self.broken(&error.to_string()))? {
            self.take(&row)?;
            if self.waiting.len() >= PART {
                self.feed().await?;
            }
        }
        Ok(())
    }

    async fn end(&mut self, last: Option<Row>) -> Result<(), Problem> {
        if let Some(row) = last {
            self.take(&row)?;
        }
        self.feed().await
    }

    fn take(&mut self, row: &Row) -> Result<(), Problem> {
        let raw = match (&self.header, self.asked.format) {
            (None, Format::Csv) => {
                let header = Header::read(row, self.asked.delimiter);
                self.header = Some(header.map_err(|error| Problem::malformed(error.to_string()))?);
                if self.asked.line > 1 {
                    // The names of the columns come first, whatever line the rows begin at.
                    self.rows.goes_on_at(self.asked.line);
                }
                return Ok(());
            }
            (Some(header), Format::Csv) => header.json(row),
            (_, Format::Ndjson) => Ok(row.raw.clone()),
        };
        match raw.and_then(|raw| self.piece(row.line, raw)) {
            Ok(piece) => self.waiting.push((row.line, piece)),
            Err(why) => self.note(row.line, Fate::Rejected, Some(why)),
        }
        Ok(())
    }

    fn piece(&self, line: u64, raw: bytes::Bytes) -> Result<Piece, String> {
        let declared = self.door.source.batch.as_ref().and_then(|batch| batch.id.as_ref());
        let id = match declared {
            None => format!("batch:{}:{line}", self.asked.file),
            Some(expr) => {
                let body =
                    Value::from_json(&raw, raw.len()).map_err(|error| format!("it is not JSON: {error}"))?;
                let id = expr.eval(&Scope::new().with("body", &body));
                id.map_err(|error| format!("`batch.id`: {error}"))?.to_plain_text()
            }
        };
        Ok(Piece { id, event_type: self.message.clone(), raw, for_ever: true })
    }

    async fn feed(&mut self) -> Result<(), Problem> {
        let (lines, pieces): (Vec<u64>, Vec<Piece>) = std::mem::take(&mut self.waiting).into_iter().unzip();
        let class = Class { latency: Latency::Batch, ..self.door.source.class };
        let fed = Box::pin(self.ingress.feed(self.door, &pieces, class)).await;
        let fates = fed.map_err(|why| self.away(lines.first().copied(), &why))?;
        for (line, (fate, why)) in lines.into_iter().zip(fates) {
            self.note(line, fate, why);
        }
        Ok(())
    }

    fn note(&mut self, line: u64, fate: Fate, why: Option<String>) {
        self.counts.add(fate);
        let Counts { accepted, duplicate, quarantined, rejected } = self.counts;
        let report = &mut self.report;
        report.rows += 1;
        (report.accepted, report.duplicate) = (accepted as u64, duplicate as u64);
        (report.quarantined, report.rejected) = (quarantined as u64, rejected as u64);
        if matches!(fate, Fate::Accepted | Fate::Duplicate) {
            return;
        }
        if report.lines.len() < BatchReport::LINES_MAX {
            let why = why.unwrap_or_default();
            report.lines.push(RowFate { line, fate: fate.word().to_owned(), why });
        } else {
            report.untold += 1;
        }
    }

    /// The file cannot be read on; what came before stays.
    fn broken(&self, why: &str) -> Problem {
        Problem::unprocessable(why.to_owned()).with("report", self.so_far())
    }

    /// Not now; bringing the file again from `line` on, or from its beginning, is right.
    fn away(&self, line: Option<u64>, why: &str) -> Problem {
        let problem =
            Problem::busy(StatusCode::SERVICE_UNAVAILABLE, 1, why.to_owned()).with("report", self.so_far());
        match line {
            Some(line) => problem.with("line", line),
            None => problem,
        }
    }

    fn so_far(&self) -> serde_json::Value {
        serde_json::to_value(&self.report).unwrap_or_default()
    }
}

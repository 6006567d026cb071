//! `syncline batch`: brings a file of rows to a node, part by part.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::client::{Client, To};
use super::output::{Output, note};
use super::paint::Style;
use super::{Failure, show};
use crate::api::BatchReport;
use crate::ingress::rows::{Format, Row, Rows};

/// Bytes of a part, at most, unless one row is longer.
const PART: usize = 128 * 1024;

/// Bytes read at once.
const READ: usize = 64 * 1024;

const EXAMPLES: &str = "\
Examples:
  syncline batch orders.csv --source shop
  syncline batch orders.ndjson --source crm --message opportunity.confirmed
  syncline batch orders.csv --source shop --delimiter ';' --from-line 120001   go on where it was cut off
Bringing a file again is harmless: rows that are known are counted as duplicates.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The file: CSV with the names of the columns in its first row, or one JSON value a line.
    file: PathBuf,
    /// The source whose messages the rows are, as `config/sources/` names it.
    #[arg(long)]
    source: String,
    /// How the file is written; by its name unless given.
    #[arg(long, value_enum)]
    format: Option<Written>,
    /// Which of the source's messages a row is, where its file does not say.
    #[arg(long, value_name = "TYPE")]
    message: Option<String>,
    /// What stands between the cells of a CSV file: one character, or `tab`.
    #[arg(long, default_value = ",")]
    delimiter: String,
    /// Begin with the row of this line.
    #[arg(long, default_value_t = 1)]
    from_line: u64,
    /// Go on trying for so long while the node does not answer.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    patience: Duration,
    #[command(flatten)]
    to: To,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Written {
    Csv,
    Ndjson,
}

impl Args {
    fn format(&self) -> Result<(Format, &'static str), Failure> {
        let by_name = || match self.file.extension().and_then(|ending| ending.to_str()) {
            Some("csv" | "CSV") => Some(Written::Csv),
            Some("ndjson" | "jsonl") => Some(Written::Ndjson),
            _ => None,
        };
        match self.format.or_else(by_name) {
            Some(Written::Csv) => Ok((Format::Csv, "csv")),
            Some(Written::Ndjson) => Ok((Format::Ndjson, "ndjson")),
            None => {
                Err(Failure::Input("say how the file is written: --format csv or --format ndjson".to_owned()))
            }
        }
    }

    fn delimiter(&self) -> &str {
        if matches!(&*self.delimiter, "tab" | "\\t") { "\t" } else { &self.delimiter }
    }

    /// The command that goes on at a line.
    fn again(&self, line: u64) -> String {
        let mut again = format!("syncline batch {} --source {}", self.file.display(), self.source);
        match self.format {
            Some(Written::Csv) => again.push_str(" --format csv"),
            Some(Written::Ndjson) => again.push_str(" --format ndjson"),
            None => {}
        }
        if let Some(message) = &self.message {
            let _ = write!(again, " --message {message}");
        }
        if self.delimiter != "," {
            let _ = write!(again, " --delimiter '{}'", self.delimiter);
        }
        format!("{again} --from-line {line}")
    }

    fn open(&self) -> Result<File, Failure> {
        File::open(&self.file).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &std::io::Error) -> Failure {
        Failure::Input(format!("cannot read {}: {error}", self.file.display()))
    }

    /// What the file is known by: its hash, so that the same rows have the same ids whatever it is called.
    fn hash(&self) -> Result<String, Failure> {
        let (mut file, mut hash, mut buffer) = (self.open()?, Sha256::new(), vec![0; READ]);
        loop {
            match file.read(&mut buffer).map_err(|error| self.unreadable(&error))? {
                0 => return Ok(hex::encode(&hash.finalize()[..16])),
                read => hash.update(&buffer[..read]),
            }
        }
    }
}

/// The parts of a file, each as the body of one request.
struct Parts<'a> {
    args: &'a Args,
    file: File,
    rows: Rows,
    ended: bool,
    /// The names of the columns, which every part begins with.
    header: Option<Row>,
    /// A row that did not fit into the part before.
    left: Option<Row>,
}

impl Parts<'_> {
    fn row(&mut self) -> Result<Option<Row>, Failure> {
        loop {
            let unreadable = |error: crate::ingress::rows::Error| Failure::Input(error.to_string());
            if let Some(row) = self.rows.take().map_err(unreadable)? {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            let mut buffer = vec![0; READ];
            let read = self.file.read(&mut buffer).map_err(|error| self.args.unreadable(&error))?;
            if read == 0 {
                self.ended = true;
                return Ok(self.rows.last());
            }
            self.rows.push(&buffer[..read]);
        }
    }

    /// The line of the first row, and the body. Empty lines between rows stay, so that the node counts as the file does.
    fn part(&mut self) -> Result<Option<(u64, Vec<u8>)>, Failure> {
        let mut body = self.header.as_ref().map(|header| ended(&header.raw)).unwrap_or_default();
        let (mut first, mut next) = (None, None);
        loop {
            let row = match self.left.take() {
                Some(row) => Some(row),
                None => self.row()?,
            };
            let Some(row) = row else { break };
            if row.line < self.args.from_line {
                continue;
            }
            let skipped = usize::try_from(row.line.saturating_sub(next.unwrap_or(row.line))).unwrap_or(PART);
            if first.is_some() && body.len() + row.raw.len() + skipped > PART {
                self.left = Some(row);
                break;
            }
            first.get_or_insert(row.line);
            next = Some(row.line + row.raw.split(|byte| *byte == b'\n').count() as u64);
            body.resize(body.len() + skipped, b'\n');
            body.extend(ended(&row.raw));
        }
        Ok(first.map(|line| (line, body)))
    }
}

fn ended(raw: &[u8]) -> Vec<u8> {
    [raw, b"\n"].concat()
}

pub(super) async fn run(args: Args, out: Output) -> Result<(), Failure> {
    let (format, word) = args.format()?;
    let file = args.hash()?;
    let client = Client::new(&args.to)?;
    let rows = Rows::new(format, 1);
    let mut parts = Parts { args: &args, file: args.open()?, rows, ended: false, header: None, left: None };
    if format == Format::Csv {
        parts.header = parts.row()?;
    }
    let (mut report, delimiter) = (BatchReport::default(), args.delimiter());
    while let Some((line, body)) = parts.part()? {
        let at = line.to_string();
        let mut query = vec![("format", word), ("file", &*file), ("line", &*at)];
        if format == Format::Csv {
            query.push(("delimiter", delimiter));
        }
        if let Some(message) = &args.message {
            query.push(("message", message));
        }
        let path = ["v1", "batches", &args.source];
        match client.bring::<BatchReport>(&path, &query, body, args.patience).await {
            Ok(part) => report.add(part),
            // Nothing was taken in: there is nothing to tell, and nothing to go on from.
            Err(failure) if report.rows == 0 => return Err(failure),
            Err(failure) => {
                let so_far = show::batch(&report, out);
                let again = format!("go on with: {}", args.again(line));
                note(format!("{so_far}\n{}", out.paint(Style::Dim, &again)));
                return Err(failure);
            }
        }
    }
    out.value(&report, |report| show::batch(report, out))?;
    if report.quarantined + report.rejected > 0 { Err(Failure::Told) } else { Ok(()) }
}

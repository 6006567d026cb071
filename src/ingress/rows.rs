//! The rows of a file as it comes, a part at a time: CSV (RFC 4180) and NDJSON. Memory holds one row.

use std::collections::BTreeSet;

use bytes::{Buf as _, Bytes, BytesMut};
use syncline_actors::value::Value;

/// Longest row, in bytes.
pub const ROW_MAX: usize = 1 << 20;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values, the names of the columns first.
    Csv,
    /// One JSON value a line.
    Ndjson,
}

/// A row as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line it begins in, from 1.
    pub line: u64,
    /// Its bytes, without the end of the line.
    pub raw: Bytes,
}

/// Why a file cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No end of the row is in sight.
    #[error("the row of line {line} is longer than {ROW_MAX} bytes; is a quote missing?")]
    TooLong {
        /// Where it begins.
        line: u64,
    },
    /// The names of the columns are of no use.
    #[error("line {line}: {why}")]
    Header {
        /// Where they stand.
        line: u64,
        /// What is wrong.
        why: String,
    },
}

/// Finds rows in bytes that come in parts.
#[derive(Debug)]
pub struct Rows {
    format: Format,
    buffer: BytesMut,
    /// Bytes of the buffer that were looked at.
    seen: usize,
    quoted: bool,
    /// Lines before the row at hand, and within it.
    line: u64,
    inside: u64,
}

impl Rows {
    /// Of a file whose first line is `line`.
    pub fn new(format: Format, line: u64) -> Self {
        Self { format, buffer: BytesMut::new(), seen: 0, quoted: false, line, inside: 0 }
    }

    /// The next row begins in this line of the file, whatever came before.
    pub fn goes_on_at(&mut self, line: u64) {
        self.line = line;
    }

    /// More of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole row, if there is one. Empty lines are passed over.
    ///
    /// # Errors
    /// [`Error::TooLong`]: nothing more can be read.
    pub fn take(&mut self) -> Result<Option<Row>, Error> {
        while self.seen < self.buffer.len() {
            let byte = self.buffer[self.seen];
            self.seen += 1;
            match byte {
                b'"' if self.format == Format::Csv => self.quoted = !self.quoted,
                b'\n' if self.quoted => self.inside += 1,
                b'\n' => {
                    let raw = self.buffer.split_to(self.seen - 1).freeze();
                    self.buffer.advance(1);
                    if let Some(row) = self.row(raw) {
                        return Ok(Some(row));
                    }
                }
                _ => {}
            }
        }
        if self.buffer.len() > ROW_MAX { Err(Error::TooLong { line: self.line }) } else { Ok(None) }
    }

    /// What is left when the file has ended: a last row without an end of line.
    pub fn last(&mut self) -> Option<Row> {
        let raw = self.buffer.split().freeze();
        self.row(raw)
    }

    fn row(&mut self, raw: Bytes) -> Option<Row> {
        let line = self.line;
        self.line += 1 + self.inside;
        (self.seen, self.inside, self.quoted) = (0, 0, false);
        let raw = if raw.ends_with(b"\r") { raw.slice(..raw.len() - 1) } else { raw };
        let blank = raw.iter().all(u8::is_ascii_whitespace);
        (!blank).then_some(Row { line, raw })
    }
}

/// The names of the columns of a CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    names: Vec<String>,
    delimiter: u8,
}

impl Header {
    /// Reads the first row.
    ///
    /// # Errors
    /// When a name is missing or there twice.
    pub fn read(row: &Row, delimiter: u8) -> Result<Self, Error> {
        let wrong = |why: String| Error::Header { line: row.line, why };
        let raw = row.raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&row.raw);
        let names = cells(raw, delimiter).map_err(wrong)?;
        let names: Vec<String> =
            names.into_iter().map(|cell| cell.unwrap_or_default().trim().to_owned()).collect();
        let mut known = BTreeSet::new();
        for name in &names {
            if name.is_empty() {
                return Err(wrong("a column has no name: the first row must have one for each".to_owned()));
            }
            if !known.insert(name) {
                return Err(wrong(format!("the column `{name}` is there twice")));
            }
        }
        Ok(Self { names, delimiter })
    }

    /// A row as JSON: every cell is text, digit for digit; an empty one is left out unless it is quoted.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub fn json(&self, row: &Row) -> Result<Bytes, String> {
        let cells = cells(&row.raw, self.delimiter)?;
        if cells.len() != self.names.len() {
            return Err(format!("it has {} cells, and there are {} columns", cells.len(), self.names.len()));
        }
        let pairs = self.names.iter().zip(cells);
        let pairs = pairs.filter_map(|(name, cell)| Some((name.as_str(), Value::from(cell?.as_str()))));
        Ok(Value::map(pairs).to_json().into())
    }
}

/// The cells of a row; none where a cell is empty and not quoted.
fn cells(raw: &[u8], delimiter: u8) -> Result<Vec<Option<String>>, String> {
    let text = std::str::from_utf8(raw).map_err(|_error| "it is not UTF-8".to_owned())?;
    let mut cells = Vec::new();
    let mut rest = text;
    loop {
        let (cell, after) = if let Some(inner) = rest.strip_prefix('"') {
            let (cell, after) = quoted(inner)?;
            (Some(cell), after)
        } else {
            let end = rest.bytes().position(|byte| byte == delimiter).unwrap_or(rest.len());
            let cell = &rest[..end];
            if cell.contains('"') {
                return Err("a quote stands within a cell that does not begin with one".to_owned());
            }
            ((!cell.is_empty()).then(|| cell.to_owned()), &rest[end..])
        };
        cells.push(cell);
        match after.as_bytes().first() {
            None => return Ok(cells),
            Some(byte) if *byte == delimiter => rest = &after[1..],
            Some(_) => return Err("something follows a closing quote".to_owned()),
        }
    }
}

/// A cell after its opening quote, and what follows its closing one.
fn quoted(mut rest: &str) -> Result<(String, &str), String> {
    let mut cell = String::new();
    loop {
        let end = rest.find('"').ok_or_else(|| "a quote is not closed".to_owned())?;
        cell.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                cell.push('"');
                rest = after;
            }
            None => return Ok((cell, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(format: Format, parts: &[&[u8]]) -> Vec<(u64, String)> {
        let mut rows = Rows::new(format, 1);
        let mut found = Vec::new();
        for part in parts {
            rows.push(part);
            while let Some(row) = rows.take().expect("short rows") {
                found.push(row);
            }
        }
        found.extend(rows.last());
        found.into_iter().map(|row| (row.line, String::from_utf8_lossy(&row.raw).into_owned())).collect()
    }

    #[test]
    fn rows_tell_the_line_they_begin_in() {
        let text = b"id,note\r\n1,\"two\nlines\"\r\n\r\n2,end";
        let told = all(Format::Csv, &[text]);
        let rows = [(1, "id,note"), (2, "1,\"two\nlines\""), (5, "2,end")];
        assert_eq!(told, rows.map(|(line, text)| (line, text.to_owned())));
        assert_eq!(
            all(Format::Ndjson, &[b"{\"a\":\"\\\"\"}\n", b"{}\n"]).len(),
            2,
            "a quote is nothing in JSON lines"
        );
    }

    #[test]
    fn cells_are_text_digit_for_digit() {
        let row = |line, raw: &'static str| Row { line, raw: raw.into() };
        let header = Header::read(&row(1, "\u{feff}order,amount,note,empty"), b',').expect("a header");
        let json = header.json(&row(2, r#"SO-1,1000000000000000.10,"say ""hi"", then","""#)).expect("a row");
        assert_eq!(
            json,
            r#"{"amount":"1000000000000000.10","empty":"","note":"say \"hi\", then","order":"SO-1"}"#
        );
        assert_eq!(header.json(&row(3, "SO-2,,,")).expect("a row"), r#"{"order":"SO-2"}"#);
        for (raw, why) in [
            ("SO-3,1", "it has 2 cells, and there are 4 columns"),
            ("a\"b,1,2,3", "a quote stands within a cell"),
            ("\"a\"b,1,2,3", "something follows"),
            ("\"a,1,2,3", "not closed"),
        ] {
            assert!(header.json(&row(4, raw)).expect_err(raw).contains(why), "{raw}");
        }
        assert!(
            Header::read(&row(1, "a,b,a"), b',').is_err() && Header::read(&row(1, "a,,b"), b',').is_err()
        );
    }

    #[test]
    fn a_row_without_end_is_told_and_not_kept() {
        let mut rows = Rows::new(Format::Csv, 1);
        rows.push(b"a,b\n1,\"");
        assert!(rows.take().expect("a row").is_some());
        rows.push(&vec![b'\n'; ROW_MAX + 1]);
        assert_eq!(rows.take(), Err(Error::TooLong { line: 2 }));
    }

    proptest! {
        /// However the file is cut, its rows are the same.
        #[test]
        fn parts_do_not_matter(text in "[ab,\"\n\r]{0,60}", cut in 0_usize..60) {
            let bytes = text.as_bytes();
            let (left, right) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(all(Format::Csv, &[left, right]), all(Format::Csv, &[bytes]));
        }

        /// What was written as a quoted cell is read as it was.
        #[test]
        fn quoted_cells_come_back(cells in proptest::collection::vec("[a-z,\"\n;]{0,8}", 1..5)) {
            let names: Vec<String> = (0..cells.len()).map(|n| format!("c{n}")).collect();
            let line: Vec<String> = cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
            let text = format!("{}\n{}\n", names.join(","), line.join(","));
            let rows = all(Format::Csv, &[text.as_bytes()]);
            let row = |at: usize| Row { line: 1, raw: rows[at].1.clone().into() };
            let json = Header::read(&row(0), b',').unwrap().json(&row(1)).unwrap();
            let value = Value::from_json(&json, 1 << 20).unwrap();
            for (name, cell) in names.iter().zip(&cells) {
                prop_assert_eq!(value.get(name).and_then(Value::as_text), Some(cell.as_str()));
            }
        }
    }
}

//! The built program, run with an environment of its own.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The results as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Panics unless it ended so.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// A command line that is not run yet: from the root of the repository, with no variable of ours set.
pub(crate) struct Line(Command);

/// `syncline` and what follows it, one word each.
pub(crate) fn syncline<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Line {
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncline"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(words).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SYNCLINE_") {
            command.env_remove(name);
        }
    }
    Line(command)
}

impl Line {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Ran {
        ran(&self.0.output().unwrap())
    }

    /// Runs it to its end with `text` as standard input.
    pub(crate) fn run_with(mut self, text: &str) -> Ran {
        let mut child =
            self.0.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        ran(&child.wait_with_output().unwrap())
    }

    /// The process itself, for tests that do something while it runs.
    pub(crate) fn command(self) -> Command {
        self.0
    }
}

fn ran(output: &std::process::Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A copy of the shipped integration that may be broken; it is gone with the value.
pub(crate) struct Copy(tempfile::TempDir);

impl Copy {
    pub(crate) fn new() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        copy_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config"), copy.0.path());
        copy
    }

    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The same with the first `old` of a file replaced, which must be there.
    pub(crate) fn with(self, file: &str, old: &str, new: &str) -> Self {
        let text = std::fs::read_to_string(self.file(file)).unwrap();
        assert!(text.contains(old), "{file} has no {old:?}");
        std::fs::write(self.file(file), text.replacen(old, new, 1)).unwrap();
        self
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

//! docs/tutorial.md, word for word: what it shows stands in config/examples/rma, its commands are run in their order in one shell, and
//! what they print is what it says they print. Only the ports are others.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a command may take to print what the tutorial says.
const PATIENCE: Duration = Duration::from_mins(1);

/// Said by the shell after each block.
const END: &str = "--- the block has ended ---";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A fenced block: its language, and its text.
struct Block {
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let page = fs::read_to_string(root().join("docs/tutorial.md")).expect("the tutorial is there");
    let parts: Vec<&str> = page.split("```").collect();
    assert!(parts.len() % 2 == 1 && parts.len() > 20, "every block ends");
    let block = |part: &&str| {
        let (language, text) = part.split_once('\n').expect("a block has a language");
        Block { language: language.to_owned(), text: text.to_owned() }
    };
    parts.iter().skip(1).step_by(2).map(block).collect()
}

/// Whether the lines of `expected` stand in `found`, in this order; `…` stands for anything.
fn shows(found: &str, expected: &str) -> bool {
    let mut lines = found.lines();
    expected.lines().filter(|line| !line.trim().is_empty()).all(|wanted| lines.any(|line| fits(line, wanted)))
}

fn fits(line: &str, wanted: &str) -> bool {
    let mut parts = wanted.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        (rest, open) = (&rest[at + part.len()..], part.is_empty());
    }
    open || rest.trim().is_empty()
}

/// One shell for the whole tutorial; what it has started ends with it.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn open(directory: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port is free");
        let (node, sandbox) = (free(), free());
        std::os::unix::fs::symlink(root().join("config"), directory.join("config"))
            .expect("it can be linked");
        let programs = directory.join("bin");
        fs::create_dir(&programs).expect("it can be made");
        let program = env!("CARGO_BIN_EXE_syncline");
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = sandbox ]; then shift; exec {program} sandbox --listen {sandbox} --target http://{node} \"$@\"; fi\nexec {program} \"$@\"\n"
        );
        let wrapper = programs.join("syncline");
        fs::write(&wrapper, script).expect("it can be written");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("it can be run");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("bash");
        command
            .current_dir(directory)
            .env("PATH", path)
            .env("SYNCLINE_NODE", format!("http://{node}"))
            .env("SYNCLINE_HTTP__LISTEN", node.to_string());
        for system in ["erp", "support", "notify"] {
            let url = format!("http://{sandbox}/{system}");
            command.env(format!("SYNCLINE_{}_URL", system.to_uppercase()), url);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash is there");
        let mut input = child.stdin.take().expect("it is piped");
        writeln!(input, "exec 2>&1").expect("bash reads");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, input, output }
    }

    /// Runs a block; what it printed.
    fn run(&mut self, text: &str) -> String {
        writeln!(self.input, "{text}\necho '{END}'").expect("bash reads");
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).expect("bash writes text") > 0,
                "bash has ended: {printed}"
            );
            if line.trim_end() == END {
                return printed;
            }
            printed.push_str(&line);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The group: what was started in the background is in it.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn every_command_prints_what_the_tutorial_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut shell = Shell::open(directory.path());
    let blocks = blocks();
    let mut compared = 0;
    for (at, block) in blocks.iter().enumerate().filter(|(_, block)| block.language == "sh") {
        let expected = blocks.get(at + 1).filter(|next| next.language == "text");
        #[expect(
            clippy::disallowed_methods,
            reason = "a test that waits for real programs looks at the real clock"
        )]
        let late = {
            let until = Instant::now() + PATIENCE;
            move || Instant::now() >= until
        };
        let mut printed = shell.run(&block.text);
        let Some(expected) = expected else { continue };
        compared += 1;
        while !shows(&printed, &expected.text) {
            assert!(!late(), "{}\nprints\n{printed}\nand not\n{}", block.text, expected.text);
            std::thread::sleep(Duration::from_millis(200));
            printed = shell.run(&block.text);
        }
    }
    assert!(compared >= 8, "the outputs were not found");
}

#[test]
fn what_it_shows_stands_in_the_example() {
    let example = root().join("config/examples/rma");
    let read = |file: &str| fs::read_to_string(example.join(file)).expect("it is there");
    let shown: Vec<String> =
        blocks().into_iter().filter(|block| block.language == "yaml").map(|block| block.text).collect();
    let process = read("processes/rma.yaml");
    assert_eq!(shown[..3].join("\n"), process, "the first three blocks are the whole process");
    assert!(process.lines().count() < 60, "it is short");
    for (block, file) in
        shown[3..].iter().zip(["connectors/credits.yaml", "processes/rma.test.yaml", "sources/desk.yaml"])
    {
        assert!(read(file).contains(block.as_str()), "{file} has no\n{block}");
    }
    assert_eq!(shown.len(), 6);
}

#[test]
fn a_line_fits_what_is_written_of_it() {
    for (line, wanted, fitting) in [
        ("4 files checked", "4 files checked", true),
        ("4 files checked", "4 files", false),
        ("status   awaited", "…awaited…", true),
        ("status   awaited", "…awaited", true),
        ("status   awaited since", "…awaited", false),
        ("a b", "b", false),
    ] {
        assert_eq!(fits(line, wanted), fitting, "{line} / {wanted}");
    }
    assert!(shows("a\nb\nc", "a\n\nc") && !shows("a\nb", "b\na"));
}

//! A Redis server of one test: its own process, port and directory.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use syncline::journal::redis::Options;
use tokio::time::Instant;

/// For anything that must happen at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server. It ends with the test.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    directory: tempfile::TempDir,
    settings: Vec<String>,
}

/// What a journal needs of a server.
pub(crate) const SOUND: &[&str] =
    &["--appendonly", "yes", "--appendfsync", "always", "--aof-load-truncated", "no"];

impl Server {
    /// A server that keeps what it acknowledges.
    pub(crate) fn start() -> Self {
        Self::with(SOUND)
    }

    /// A server with these settings.
    pub(crate) fn with(settings: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        // A free port may be taken by someone else before the server has it.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = spawn(port, directory.path(), &settings);
            if is_up(&mut child, port) {
                return Self { child, port, directory, settings };
            }
        }
        panic!("redis-server does not start with {settings:?}");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How a journal opens it; anyone may take any shard.
    pub(crate) fn options(&self) -> Options {
        Options {
            urls: vec![self.url()],
            lease: Duration::ZERO,
            cluster: "test".to_owned(),
            ..Options::default()
        }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on what it has kept.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, self.directory.path(), &self.settings);
        assert!(is_up(&mut self.child, self.port), "the port was taken meanwhile");
    }

    /// Says something to it in Redis's own words, and returns the answer as text.
    pub(crate) fn say(&self, words: &[&str]) -> String {
        say(self.port, words)
    }

    /// Asks until the answer is as it should be.
    pub(crate) fn until(&self, words: &str, is: impl Fn(&str) -> bool) {
        let words: Vec<&str> = words.split(' ').collect();
        let began = Instant::now();
        while !is(&self.say(&words)) {
            assert!(began.elapsed() < PATIENCE, "{words:?}: {}", self.say(&words));
        }
    }

    /// Makes it a replica of `primary`.
    pub(crate) fn follow(&self, primary: &Self) {
        self.say(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
        self.until("INFO", |info| info.contains("master_link_status:up"));
    }

    /// Until `replica` has all that this server has.
    pub(crate) fn until_replicated(&self, replica: &Self) {
        let offset = |info: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
            line.map(|offset| offset.trim().to_owned())
        };
        let there = offset(&self.say(&["INFO"]));
        let behind = |info: &str| offset(info).unwrap().parse::<u64>().unwrap();
        let there: u64 = there.unwrap().parse().unwrap();
        replica.until("INFO", |info| behind(info) >= there);
    }

    /// Stops the process as it is.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", &format!("kill {signal} {id}")]).status().unwrap().success());
    }
}

/// Says something to the server at `port`.
pub(crate) fn say(port: u16, words: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-p", &port.to_string()]).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, directory: &Path, settings: &[String]) -> Child {
    let started = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(directory)
        .args(settings)
        .stdout(Stdio::null())
        .spawn();
    started
        .expect("redis-server cannot be started: scripts/test installs it, or `apt-get install redis-server`")
}

fn is_up(child: &mut Child, port: u16) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        let answers = TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut stream| {
            use std::io::{Read as _, Write as _};
            let mut answer = [0; 5];
            stream.write_all(b"PING\r\n").is_ok()
                && stream.read_exact(&mut answer).is_ok()
                && &answer == b"+PONG"
        });
        if answers {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

//! A Redis server of one test: its own process, port and directory.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use syncline::journal::redis::{Options, Tier};
use tokio::time::Instant;

/// For anything that must happen at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server. It ends with the test.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// What its command begins with.
    before: Vec<String>,
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    directory: tempfile::TempDir,
    settings: Vec<String>,
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A master of a Redis Cluster.
const MASTER: &[&str] = &[
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "2000",
];

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
        // A free port may be taken by someone else before the server has it.
        let started = free_ports().take(20).find_map(|port| Self::at(Vec::new(), HERE, port, settings));
        started.unwrap_or_else(|| panic!("redis-server does not start with {settings:?}"))
    }

    /// A server at this address, whose command begins with `before`; none when it does not start.
    pub(crate) fn at(before: Vec<String>, host: IpAddr, port: u16, settings: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let child = spawn(&before, (host, port), directory.path(), &settings);
        let mut server = Self { child, before, host, port, directory, settings };
        server.is_up().then_some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}:{}", self.host, self.port)
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

    /// The same, where so many replicas must have what is acknowledged.
    pub(crate) fn options_replicated(&self, replicas: u8) -> Options {
        let wait = Duration::from_secs(2);
        Options { tier: Tier::Replicated { replicas, wait, flushed: false }, ..self.options() }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on what it has kept.
    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same as a replica of `primary` from the first moment on.
    pub(crate) fn restart_behind(&mut self, primary: &Self) {
        self.restart_with(&["--replicaof", &primary.host.to_string(), &primary.port.to_string()]);
        self.until("INFO", |info| info.contains("master_link_status:up"));
    }

    fn restart_with(&mut self, more: &[&str]) {
        let settings: Vec<_> =
            self.settings.iter().cloned().chain(more.iter().map(|&s| s.to_owned())).collect();
        self.child = spawn(&self.before, (self.host, self.port), self.directory.path(), &settings);
        assert!(self.is_up(), "the port was taken meanwhile");
    }

    /// Says something to it in Redis's own words, and returns the answer as text.
    pub(crate) fn say(&self, words: &[&str]) -> String {
        say_to(self.host, self.port, words)
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
        self.say(&["REPLICAOF", &primary.host.to_string(), &primary.port.to_string()]);
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

    /// Whether it has come up; not when it ended.
    fn is_up(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let answers = TcpStream::connect((self.host, self.port)).is_ok_and(|mut stream| {
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

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", &format!("kill {signal} {id}")]).status().unwrap().success());
    }
}

/// Says something to the server of this machine at `port`.
pub(crate) fn say(port: u16, words: &[&str]) -> String {
    say_to(HERE, port, words)
}

fn say_to(host: IpAddr, port: u16, words: &[&str]) -> String {
    let (host, port) = (host.to_string(), port.to_string());
    let output = Command::new("redis-cli").args(["-h", &host, "-p", &port]).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that are free now, and that nobody is given who asks for any: a server that is killed finds its own again. Its port for other
/// servers of a cluster is 10000 further on, and free as well.
fn free_ports() -> impl Iterator<Item = u16> {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind((HERE, port)).is_ok();
    let any = || {
        let asked = ASKED.fetch_add(1, Ordering::Relaxed);
        let mixed =
            (u64::from(std::process::id()) << 32 | u64::from(asked)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        10_000 + u16::try_from((mixed >> 32) % 12_000).expect("a remainder of 12000 fits")
    };
    std::iter::repeat_with(any).filter(move |port| is_free(*port) && is_free(*port + 10_000))
}

fn spawn(before: &[String], address: (IpAddr, u16), directory: &Path, settings: &[String]) -> Child {
    let (host, port) = (address.0.to_string(), address.1.to_string());
    let own = "redis-server".to_owned();
    let words: Vec<_> = before.iter().chain([&own]).collect();
    let started = Command::new(words[0])
        .args(&words[1..])
        .args(["--port", &port, "--bind", &host, "--protected-mode", "no", "--save", "", "--dir"])
        .arg(directory)
        .args(settings)
        .stdout(Stdio::null())
        .spawn();
    started
        .expect("redis-server cannot be started: scripts/test installs it, or `apt-get install redis-server`")
}

/// A primary and its replica, in step.
pub(crate) fn pair() -> (Server, Server) {
    let (primary, replica) = (Server::start(), Server::start());
    replica.follow(&primary);
    primary.until("INFO", |info| info.contains("state=online"));
    (primary, replica)
}

/// Three masters of a Redis Cluster that hold all slots.
pub(crate) fn three_masters() -> Vec<Server> {
    redis_cluster(0)
}

/// The same, each with a replica that is in step: the masters first.
pub(crate) fn three_masters_with_replicas() -> Vec<Server> {
    let servers = redis_cluster(1);
    for master in &servers[..3] {
        master.until("INFO", |info| info.contains("state=online"));
    }
    servers
}

fn redis_cluster(replicas: usize) -> Vec<Server> {
    let servers: Vec<_> = (0..3 * (1 + replicas)).map(|_| Server::with(MASTER)).collect();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]);
    create.args(servers.iter().map(|server| format!("{}:{}", server.host, server.port)));
    let made = create.args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    for server in &servers {
        server.until("CLUSTER INFO", |info| info.contains("cluster_state:ok"));
    }
    servers
}

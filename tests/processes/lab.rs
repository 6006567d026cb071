//! A network of its own for each node, on this machine: namespaces on a bridge, cut by the packet filter within each.
//!
//! What the test says to a node, and what a node says to the systems, goes over sockets in the file system, which no cut touches: only
//! the ways between nodes and to the store are cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Programs that must be there.
const TOOLS: [&str; 4] = ["ip", "nft", "socat", "openssl"];

/// Where nodes listen for each other.
pub(crate) const PORT: u16 = 7946;

/// A bridge with a namespace for each node. It is taken down at the end.
#[derive(Debug)]
pub(crate) struct Lab {
    tag: u32,
    count: u8,
    relays: Vec<Child>,
    directory: tempfile::TempDir,
}

fn run(words: &[&str]) -> Result<(), String> {
    let done =
        Command::new(words[0]).args(&words[1..]).output().map_err(|error| format!("{words:?}: {error}"))?;
    let told = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    if done.status.success() { Ok(()) } else { Err(format!("{words:?}: {told}")) }
}

impl Lab {
    /// So many networks; the reason when this machine does not allow it.
    pub(crate) fn new(count: u8) -> Result<Self, String> {
        for tool in TOOLS {
            let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
            if !found.is_ok_and(|found| found.status.success()) {
                return Err(format!("`{tool}` is not installed"));
            }
        }
        let lab = Self {
            tag: std::process::id() % 60_000,
            count,
            relays: Vec::new(),
            directory: tempfile::tempdir().map_err(|error| error.to_string())?,
        };
        lab.build()?;
        Ok(lab)
    }

    fn build(&self) -> Result<(), String> {
        let bridge = self.bridge();
        run(&["ip", "link", "add", &bridge, "type", "bridge"])?;
        run(&["ip", "addr", "add", &format!("{}/24", self.store()), "dev", &bridge])?;
        run(&["ip", "link", "set", &bridge, "up"])?;
        for n in 0..self.count {
            let (space, cable) = (self.space(n), format!("slv{n}x{}", self.tag));
            run(&["ip", "netns", "add", &space])?;
            run(&["ip", "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            run(&["ip", "link", "set", &cable, "master", &bridge, "up"])?;
            run(&["ip", "-n", &space, "addr", "add", &format!("{}/24", self.address(n)), "dev", "eth0"])?;
            run(&["ip", "-n", &space, "link", "set", "eth0", "up"])?;
            run(&["ip", "-n", &space, "link", "set", "lo", "up"])?;
            // Whether the packet filter works shows only when it is used.
            self.cut(n, &[Cut::In(None)])?;
            self.heal(n)?;
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("slb{}", self.tag)
    }

    /// The namespace of node `n`.
    pub(crate) fn space(&self, n: u8) -> String {
        format!("sln{n}x{}", self.tag)
    }

    fn ip(&self, last: u8) -> Ipv4Addr {
        let [high, low] = u16::try_from(self.tag).expect("below 60,000").to_be_bytes();
        Ipv4Addr::new(10, high, low, last)
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> Ipv4Addr {
        self.ip(1)
    }

    /// Where node `n` is.
    pub(crate) fn address(&self, n: u8) -> Ipv4Addr {
        self.ip(11 + n)
    }

    /// Makes the same address on loopback lead from inside `n` to outside, or from outside to inside.
    pub(crate) fn relay(&mut self, n: u8, address: SocketAddr, outwards: bool) {
        let socket = self.directory.path().join(format!("{n}-{}", address.port()));
        let from = format!("TCP-LISTEN:{},bind=127.0.0.1,fork,reuseaddr,backlog=128", address.port());
        let here = format!("UNIX-LISTEN:{},fork,backlog=128", socket.display());
        let (to, there) = (format!("UNIX-CONNECT:{}", socket.display()), format!("TCP:{address}"));
        let space = self.space(n);
        let inside = ["ip", "netns", "exec", &space, "socat"];
        let outside = ["socat"];
        let (entry, exit): (&[&str], &[&str]) =
            if outwards { (&inside, &outside) } else { (&outside, &inside) };
        for (program, a, b) in [(exit, &here, &there), (entry, &from, &to)] {
            let relay =
                Command::new(program[0]).args(&program[1..]).args([a, b]).stderr(Stdio::null()).spawn();
            self.relays.push(relay.expect("socat is there"));
        }
    }

    /// Cuts the ways of node `n`.
    pub(crate) fn cut(&self, n: u8, cuts: &[Cut]) -> Result<(), String> {
        let space = self.space(n);
        let nft = |words: &[&str]| run(&[&["ip", "netns", "exec", &space, "nft"], words].concat());
        nft(&["add", "table", "inet", "cut"])?;
        for hook in ["input", "output"] {
            nft(&[
                "add",
                "chain",
                "inet",
                "cut",
                hook,
                &format!("{{ type filter hook {hook} priority 0 ; }}"),
            ])?;
        }
        for cut in cuts {
            match cut {
                Cut::In(None) => nft(&["add", "rule", "inet", "cut", "input", "iifname", "eth0", "drop"])?,
                Cut::Out(None) => nft(&["add", "rule", "inet", "cut", "output", "oifname", "eth0", "drop"])?,
                Cut::In(Some(from)) => {
                    nft(&["add", "rule", "inet", "cut", "input", "ip", "saddr", &from.to_string(), "drop"])?;
                }
                Cut::Out(Some(to)) => {
                    nft(&["add", "rule", "inet", "cut", "output", "ip", "daddr", &to.to_string(), "drop"])?;
                }
            }
        }
        Ok(())
    }

    /// All ways of node `n` are open again.
    pub(crate) fn heal(&self, n: u8) -> Result<(), String> {
        run(&["ip", "netns", "exec", &self.space(n), "nft", "delete", "table", "inet", "cut"])
    }

    /// Certificates of the nodes, in a directory.
    pub(crate) fn certificates(&self, names: &[&str]) -> &Path {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/certificates.sh");
        let made = Command::new("sh")
            .arg(script)
            .arg(self.directory.path())
            .arg("syncline")
            .args(names)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.directory.path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for relay in &mut self.relays {
            let _ = relay.kill();
            let _ = relay.wait();
        }
        for n in 0..self.count {
            let _ = run(&["ip", "netns", "del", &self.space(n)]);
        }
        let _ = run(&["ip", "link", "del", &self.bridge()]);
    }
}

/// A way that is cut: of packets that come in or go out, from or to one address or all.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    In(Option<Ipv4Addr>),
    Out(Option<Ipv4Addr>),
}

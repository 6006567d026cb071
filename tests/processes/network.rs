//! A network of a test's own: each process in a network namespace, all joined by a bridge on which what passes can be cut.
//!
//! ```text
//! this test ── veth ─┐
//!  a ───────── veth ─┼─ bridge, in a namespace of its own; nftables drops what is cut, without a word, as a network does
//!  b ───────── veth ─┘
//! ```
//! It needs root, iproute2, nftables, openssl for the certificates, and a kernel that has them all. Everything is removed at the end, also when the test fails, and
//! what a run that was killed has left is removed by the next one.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Every name of ours begins with it; then comes the process that made it.
const PREFIX: &str = "syncline-";

/// For a probe that nothing answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Namespaces and what joins them, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Network {
    /// `syncline-<process>`.
    id: String,
    /// The third byte of its addresses.
    subnet: u8,
    members: Vec<String>,
}

impl Network {
    /// A network of this test and `members`.
    ///
    /// # Errors
    /// Why this machine does not allow it. Nothing stays.
    pub(crate) fn start(members: &[&str]) -> Result<Self, String> {
        sweep()?;
        let id = format!("{PREFIX}{}", std::process::id());
        let subnet = u8::try_from(std::process::id() % 256).unwrap();
        // It ends what is there when anything fails from here on.
        let mut network =
            Self { id, subnet, members: members.iter().map(|&member| member.to_owned()).collect() };
        network.build()?;
        network.probe()?;
        Ok(network)
    }

    fn build(&mut self) -> Result<(), String> {
        let (hub, link) = (self.hub(), self.link());
        run(&format!("ip netns add {hub}"))?;
        run(&format!("ip -n {hub} link add hub type bridge"))?;
        run(&format!("ip -n {hub} link set hub up"))?;
        run(&format!("ip link add {link} type veth peer name test netns {hub}"))?;
        run(&format!("ip -n {hub} link set test master hub up"))?;
        run(&format!("ip link set {link} up"))?;
        self.take_subnet(&link)?;
        for member in self.members.clone() {
            let (space, address) = (self.space(&member), self.address(&member));
            run(&format!("ip netns add {space}"))?;
            run(&format!("ip -n {hub} link add to-{member} type veth peer name eth0 netns {space}"))?;
            run(&format!("ip -n {hub} link set to-{member} master hub up"))?;
            run(&format!("ip -n {space} addr add {address}/24 dev eth0"))?;
            run(&format!("ip -n {space} link set lo up"))?;
            run(&format!("ip -n {space} link set eth0 up"))?;
        }
        for rule in [
            "add table bridge cut",
            "add set bridge cut ways { type ipv4_addr . ipv4_addr; }",
            "add chain bridge cut pass { type filter hook forward priority 0; }",
            "add rule bridge cut pass ip saddr . ip daddr @ways drop",
        ] {
            self.rule(rule)?;
        }
        Ok(())
    }

    /// Takes addresses that nobody on this machine has: some for tests (RFC 2544).
    fn take_subnet(&mut self, link: &str) -> Result<(), String> {
        let mut why = String::new();
        for _ in 0..=u8::MAX {
            let (here, subnet) = (self.here(), self.subnet);
            run(&format!("ip addr add {here}/32 dev {link}"))?;
            match run(&format!("ip route add 198.18.{subnet}.0/24 dev {link} src {here}")) {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
            run(&format!("ip addr del {here}/32 dev {link}"))?;
            self.subnet = subnet.wrapping_add(1);
        }
        Err(why)
    }

    /// That a member reaches this test: a firewall of the machine may be in the way.
    fn probe(&self) -> Result<(), String> {
        let Some(member) = self.members.first() else { return Ok(()) };
        let listener = TcpListener::bind((self.here(), 0)).map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let connect = format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port());
        let [program, before @ ..] = &self.inside(member)[..] else { return Err("no command".to_owned()) };
        let seconds = PATIENCE.as_secs().to_string();
        let mut there = Command::new(program);
        there.args(before).args(["timeout", &seconds, "bash", "-c", &connect]);
        let there = there.output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&there.stderr).into_owned();
        if there.status.success() {
            Ok(())
        } else {
            Err(format!("{member} does not reach this test: {said}"))
        }
    }

    /// Where this test is.
    pub(crate) fn here(&self) -> IpAddr {
        Ipv4Addr::new(198, 18, self.subnet, 1).into()
    }

    /// Where a member is.
    pub(crate) fn address(&self, member: &str) -> IpAddr {
        let place = self.members.iter().position(|known| known == member).expect("it is a member");
        Ipv4Addr::new(198, 18, self.subnet, u8::try_from(place + 2).expect("they are few")).into()
    }

    /// What a command of a member begins with.
    pub(crate) fn inside(&self, member: &str) -> Vec<String> {
        ["ip", "netns", "exec", &self.space(member)].map(str::to_owned).into()
    }

    /// From now on nothing passes from the first of each pair to the second.
    pub(crate) fn cut(&self, ways: &[(&str, &str)]) {
        let ways: Vec<_> =
            ways.iter().map(|(from, to)| format!("{} . {}", self.address(from), self.address(to))).collect();
        self.rule(&format!("add element bridge cut ways {{ {} }}", ways.join(", "))).unwrap();
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.rule("flush set bridge cut ways").unwrap();
    }

    fn rule(&self, rule: &str) -> Result<(), String> {
        let hub = self.hub();
        asked(Command::new("ip").args(["netns", "exec", &hub, "nft", rule]), rule)
    }

    fn hub(&self) -> String {
        self.space("hub")
    }

    fn space(&self, member: &str) -> String {
        format!("{}-{member}", self.id)
    }

    /// At most 15 letters: the limit of the kernel.
    fn link(&self) -> String {
        self.id.replace(PREFIX, "sl")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for member in self.members.iter().map(String::as_str).chain(["hub"]) {
            // Both ends of a link go with either.
            let _ = run(&format!("ip netns del {}", self.space(member)));
        }
        let _ = run(&format!("ip link del {}", self.link()));
    }
}

/// Removes what runs that are over have left.
fn sweep() -> Result<(), String> {
    let listed = Command::new("ip").args(["netns", "list"]).output();
    let listed = listed.map_err(|error| format!("`ip` (iproute2) cannot be started: {error}"))?;
    for name in String::from_utf8_lossy(&listed.stdout).lines().filter_map(|line| line.split(' ').next()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            run(&format!("ip netns del {name}"))?;
        }
    }
    Ok(())
}

/// Runs a command whose words have no spaces in them.
pub(crate) fn run(line: &str) -> Result<(), String> {
    let mut words = line.split(' ');
    asked(Command::new(words.next().unwrap_or_default()).args(words), line)
}

fn asked(command: &mut Command, line: &str) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("`{line}` cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`{line}`: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

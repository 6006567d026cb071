//! What processes of this machine cost: processor time and memory, from Linux' `/proc` (proc(5)).

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

/// Ticks per second where `getconf CLK_TCK` cannot be asked: what Linux has on every common architecture.
const TICKS_PER_SECOND: u64 = 100;

/// One process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    /// Its id.
    pub pid: u32,
    /// The name of its program, at most 15 bytes.
    pub name: String,
    /// User and system time of all its threads since its start, in steps of a tick (10 ms).
    pub cpu: Duration,
    /// Memory it holds now, in bytes.
    pub rss_bytes: u64,
    /// The most it ever held, in bytes.
    pub rss_peak_bytes: u64,
}

/// What one process used while messages were measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Usage {
    /// Its id.
    pub pid: u32,
    /// The name of its program.
    pub name: String,
    /// Processor time, in seconds.
    pub cpu_s: f64,
    /// Processor time per message that was answered or failed, in microseconds.
    pub cpu_us_per_message: f64,
    /// Processors it kept busy on average.
    pub cores: f64,
    /// Memory it held at the end, in bytes.
    pub rss_bytes: u64,
    /// The most it ever held, in bytes.
    pub rss_peak_bytes: u64,
}

/// Reads processes.
#[derive(Debug)]
pub(super) struct Meter {
    pids: Vec<u32>,
    ticks_per_second: u64,
}

impl Meter {
    /// For these processes.
    pub(super) fn new(pids: Vec<u32>) -> Self {
        let asked = Command::new("getconf").arg("CLK_TCK").output().ok();
        let ticks = asked.and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok());
        Self { pids, ticks_per_second: ticks.filter(|ticks| *ticks > 0).unwrap_or(TICKS_PER_SECOND) }
    }

    /// All processes now; one that is gone is left out.
    pub(super) fn read(&self) -> Vec<Sample> {
        self.pids.iter().filter_map(|pid| self.sample(*pid)).collect()
    }

    /// The first process that is not there.
    pub(super) fn missing(&self) -> Option<u32> {
        self.pids.iter().copied().find(|pid| self.sample(*pid).is_none())
    }

    fn sample(&self, pid: u32) -> Option<Sample> {
        let file = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let (name, ticks) = name_and_ticks(&file("stat")?)?;
        let status = file("status")?;
        let cpu = Duration::from_millis(ticks.saturating_mul(1000) / self.ticks_per_second);
        let [rss_bytes, rss_peak_bytes] = ["VmRSS:", "VmHWM:"].map(|key| bytes(&status, key).unwrap_or(0));
        Some(Sample { pid, name, cpu, rss_bytes, rss_peak_bytes })
    }
}

/// What was used between two samples of one process, by `messages` messages in `elapsed`.
pub(super) fn usage(before: &Sample, after: &Sample, messages: u64, elapsed: Duration) -> Usage {
    let cpu = after.cpu.saturating_sub(before.cpu);
    Usage {
        pid: after.pid,
        name: after.name.clone(),
        cpu_s: cpu.as_secs_f64(),
        cpu_us_per_message: super::ratio(cpu.as_secs_f64() * 1e6, super::real(messages)),
        cores: super::ratio(cpu.as_secs_f64(), elapsed.as_secs_f64()),
        rss_bytes: after.rss_bytes,
        rss_peak_bytes: after.rss_peak_bytes,
    }
}

/// Of `/proc/PID/stat`. The name stands in parentheses and may hold spaces and parentheses itself; user and system time are
/// fields 14 and 15 of the whole, counted from 1.
fn name_and_ticks(stat: &str) -> Option<(String, u64)> {
    let (_, rest) = stat.split_once('(')?;
    let (name, fields) = rest.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((name.to_owned(), user.saturating_add(system)))
}

/// Of `/proc/PID/status`: `VmRSS:     2184 kB`.
fn bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_a_name_with_parentheses() {
        let stat = "71 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 1234 56 17 18 20 0 4 0 100 0 0";
        assert_eq!(name_and_ticks(stat), Some(("a) b (c".to_owned(), 1290)));
        assert_eq!(name_and_ticks("71 (cut off) S 1 2"), None);
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    4096 kB\nVmRSS:\t    2184 kB\n";
        assert_eq!([bytes(status, "VmRSS:"), bytes(status, "VmHWM:")], [Some(2_236_416), Some(4_194_304)]);
        assert_eq!(bytes("Name:\tkthreadd\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_is_there_and_process_zero_is_not() {
        let own = std::process::id();
        let meter = Meter::new(vec![own, 0]);
        let samples = meter.read();
        assert_eq!(samples.iter().map(|sample| sample.pid).collect::<Vec<_>>(), [own]);
        assert!(samples[0].rss_bytes > 0 && samples[0].rss_peak_bytes >= samples[0].rss_bytes);
        assert_eq!(meter.missing(), Some(0));
    }

    #[test]
    fn cost_is_the_difference_per_message() {
        let at = |ms| Sample {
            pid: 1,
            name: "node".into(),
            cpu: Duration::from_millis(ms),
            rss_bytes: 1,
            rss_peak_bytes: 2,
        };
        let usage = usage(&at(500), &at(2500), 100_000, Duration::from_secs(4));
        assert!(
            (usage.cpu_us_per_message - 20.0).abs() < 1e-9 && (usage.cores - 0.5).abs() < 1e-9,
            "{usage:?}"
        );
    }
}

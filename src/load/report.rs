//! What a run showed, for people and for scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::pacer::Window;
use super::process::{Sample, Usage, usage};
use super::tally::{Failure, Latencies, Percentiles, Tally};
use super::{Pace, Plan, ratio, real};

/// The pacer may be so late for one message in a hundred, in microseconds, before the report says so.
const LATE_MAX_US: f64 = 1000.0;

/// The figures of a run. All counts and times leave out the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Begins the id of every message.
    pub run_id: String,
    /// Where the messages went.
    pub url: String,
    /// Whether messages were sent at settled times (open loop) or as fast as the answers came.
    pub open_loop: bool,
    /// Connections.
    pub connections: usize,
    /// From the first message to the last answer, at least the planned duration in an open loop; in seconds.
    pub elapsed_s: f64,
    /// Messages per second that were due. In a closed loop, that were sent.
    pub intended_per_second: f64,
    /// Answers per second.
    pub achieved_per_second: f64,
    /// From the intended time to the answer, of the messages answered with 2xx. None when there was none.
    pub latency: Option<Percentiles>,
    /// The same for all messages however they ended; for those never sent, the time they waited.
    pub latency_all: Option<Percentiles>,
    /// From the intended time to the sending: the part of the latency spent waiting for a free connection.
    pub waited: Option<Percentiles>,
    /// How late the generator itself was. Part of each latency.
    pub late: Option<Percentiles>,
    /// Messages that were due.
    pub intended: u64,
    /// Messages answered with 2xx.
    pub acked: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Messages without an answer.
    pub failures: BTreeMap<Failure, u64>,
    /// Messages that were due and for which no connection came free.
    pub unsent: u64,
    /// Messages that repeat an earlier one.
    pub duplicates: u64,
    /// Messages of the warm-up.
    pub warm_up: u64,
    /// Connections that had to be made again.
    pub reconnects: u64,
    /// The processes that were measured.
    pub processes: Vec<Usage>,
    /// The generator's own cost.
    pub generator: Option<Usage>,
    /// Why the figures are to be taken with care.
    pub warnings: Vec<String>,
}

/// What a run measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) window: Window,
    pub(super) tally: Tally,
    pub(super) late: Latencies,
    pub(super) before: Vec<Sample>,
    pub(super) after: Vec<Sample>,
    /// Between the two samples.
    pub(super) sampled_for: Duration,
}

impl Report {
    pub(super) fn new(plan: &Plan, measured: &Measured) -> Self {
        let Measured { window, tally, late, before, after, sampled_for } = measured;
        let open_loop = plan.pace != Pace::Closed;
        let until_last = tally.last.map_or(Duration::ZERO, |last| last - window.counts_from);
        let elapsed = if open_loop { until_last.max(plan.duration) } else { until_last };
        let ended = tally.answered() + tally.failed();
        let mut processes: Vec<Usage> = after
            .iter()
            .filter_map(|after| Some((before.iter().find(|before| before.pid == after.pid)?, after)))
            .map(|(before, after)| usage(before, after, ended, *sampled_for))
            .collect();
        let own = processes.iter().rposition(|usage| usage.pid == std::process::id());
        let generator = own.map(|own| processes.remove(own));
        let mut report = Self {
            run_id: plan.run_id.clone(),
            url: plan.url.clone(),
            open_loop,
            connections: plan.connections,
            elapsed_s: elapsed.as_secs_f64(),
            intended_per_second: ratio(
                real(tally.intended()),
                if open_loop { plan.duration } else { elapsed }.as_secs_f64(),
            ),
            achieved_per_second: ratio(real(tally.answered()), elapsed.as_secs_f64()),
            latency: tally.accepted.percentiles(),
            latency_all: tally.all.percentiles(),
            waited: tally.waited.percentiles(),
            late: late.percentiles(),
            intended: tally.intended(),
            acked: tally.acked(),
            statuses: tally.statuses.clone(),
            failures: tally.failures.clone(),
            unsent: tally.unsent,
            duplicates: tally.duplicates,
            warm_up: tally.warm_up,
            reconnects: tally.reconnects,
            processes,
            generator,
            warnings: Vec::new(),
        };
        report.warnings = report.doubts(plan);
        report
    }

    /// What makes the figures less than they seem.
    fn doubts(&self, plan: &Plan) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.open_loop && self.achieved_per_second < 0.99 * self.intended_per_second {
            doubts
                .push("the target did not keep up: the latencies grow with the length of the run".to_owned());
        }
        if self.acked < self.intended {
            let others = self.intended - self.acked;
            doubts.push(format!("{others} messages were not accepted; only `all` has their latencies"));
        }
        if self.late.is_some_and(|late| late.p99_us > LATE_MAX_US) {
            doubts.push("the generator was late itself: the machine is too busy for this rate".to_owned());
        }
        let threads = u32::try_from(plan.threads).map_or(f64::MAX, f64::from);
        if self.generator.as_ref().is_some_and(|own| own.cores > 0.9 * threads) {
            doubts.push(
                "the generator used all of its threads: the target may be faster; raise --threads".to_owned(),
            );
        }
        for pid in plan.cpu_of.iter().filter(|pid| !self.processes.iter().any(|usage| usage.pid == **pid)) {
            doubts.push(format!("process {pid} ended during the run; its cost is unknown"));
        }
        doubts
    }

    /// Pretty JSON, one key a line.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has nothing that JSON cannot hold")
    }

    /// For people.
    pub fn to_table(&self) -> String {
        let mut parts = vec![self.rates(), self.latencies(), self.ends(), self.costs()];
        parts.extend(self.warnings.iter().map(|warning| format!("! {warning}")));
        parts.retain(|part| !part.is_empty());
        parts.join("\n\n")
    }

    fn rates(&self) -> String {
        let (pace, sent) = if self.open_loop {
            ("open loop", format!("intended {:.0}/s, achieved", self.intended_per_second))
        } else {
            ("closed loop", "achieved".to_owned())
        };
        format!(
            "run {} to {}: {pace}, {} connections, {:.1} s\n{sent} {:.0}/s",
            self.run_id, self.url, self.connections, self.elapsed_s, self.achieved_per_second,
        )
    }

    fn latencies(&self) -> String {
        let mut table = table(&["latency, ms", "p50", "p90", "p99", "p99.9", "max"]);
        let waits = [("waited", self.waited), ("late", self.late)];
        let rows = [("accepted", self.latency), ("all", self.latency_all)];
        for (name, percentiles) in rows.into_iter().chain(waits.into_iter().filter(|_| self.open_loop)) {
            let Some(of) = percentiles else { continue };
            let values = [of.p50_us, of.p90_us, of.p99_us, of.p99_9_us, of.max_us];
            let cells = values.map(|us| format!("{:.3}", us / 1000.0));
            table.add_row(std::iter::once(name.to_owned()).chain(cells));
        }
        table.to_string()
    }

    fn ends(&self) -> String {
        let mut table = table(&["messages", "count"]);
        let mut row = |name: String, count: u64| {
            table.add_row([name, count.to_string()]);
        };
        row(if self.open_loop { "intended" } else { "sent" }.to_owned(), self.intended);
        self.statuses.iter().for_each(|(status, count)| row(format!("answered {status}"), *count));
        self.failures.iter().for_each(|(failure, count)| row(format!("failed: {}", failure.name()), *count));
        let others = [
            ("never sent", self.unsent),
            ("duplicates among them", self.duplicates),
            ("reconnects", self.reconnects),
            ("warm-up, not counted", self.warm_up),
        ];
        others
            .iter()
            .filter(|(_, count)| *count > 0)
            .for_each(|(name, count)| row((*name).to_owned(), *count));
        table.to_string()
    }

    fn costs(&self) -> String {
        let mut table = table(&["process", "pid", "CPU µs/message", "cores", "RSS MiB", "peak MiB"]);
        let generator = self.generator.iter().map(|usage| ("generator", usage));
        for (name, usage) in self.processes.iter().map(|usage| (usage.name.as_str(), usage)).chain(generator)
        {
            table.add_row([
                name.to_owned(),
                usage.pid.to_string(),
                format!("{:.1}", usage.cpu_us_per_message),
                format!("{:.2}", usage.cores),
                mib(usage.rss_bytes),
                mib(usage.rss_peak_bytes),
            ]);
        }
        table.to_string()
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", real(bytes) / 1_048_576.0)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tally::End;
    use tokio::time::Instant;

    const MS: Duration = Duration::from_millis(1);

    fn plan(pace: Pace) -> Plan {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
        Plan { pace, ..Plan::new("http://127.0.0.1:1/hooks/load", secret.into(), "run-1") }
    }

    /// A run of a thousand messages in ten seconds; the n-th was answered after n milliseconds, save the last ten.
    fn report(pace: Pace, other: End) -> Report {
        let start = Instant::now();
        let mut tally = Tally::default();
        for n in 1..=1000_u32 {
            let end = if n > 990 { other } else { End::Answered(200) };
            let due = start + 5 * MS * n;
            tally.record(end, due, Some(due), due + MS * n);
        }
        let sample = |cpu| Sample {
            pid: 7,
            name: "node".into(),
            cpu: Duration::from_secs(cpu),
            rss_bytes: 1 << 20,
            rss_peak_bytes: 1 << 21,
        };
        let until = start + Duration::from_secs(10);
        let window = Window { start, counts_from: start, until, give_up: until };
        let (before, after, late) = (vec![sample(1)], vec![sample(3)], Latencies::default());
        let measured = Measured { window, tally, late, before, after, sampled_for: Duration::from_secs(10) };
        Report::new(&plan(pace), &measured)
    }

    fn open() -> Pace {
        Pace::Open { rate: 100.0, steps: Vec::new(), spikes: Vec::new() }
    }

    fn near(value: f64, expected: f64) -> bool {
        (value / expected - 1.0).abs() < 0.002
    }

    #[test]
    fn an_open_loop_is_measured_over_its_planned_time_and_a_closed_one_until_its_last_answer() {
        let open = report(open(), End::Answered(200));
        assert!(near(open.achieved_per_second, 100.0) && near(open.elapsed_s, 10.0), "{open:?}");
        let closed = report(Pace::Closed, End::Answered(200));
        assert!(near(closed.achieved_per_second, 1000.0 / 6.0) && near(closed.elapsed_s, 6.0), "{closed:?}");
    }

    #[test]
    fn percentiles_and_cost_are_told_in_both_forms() {
        let report = report(open(), End::Answered(200));
        let latency = report.latency.expect("messages were accepted");
        assert!(near(latency.p50_us, 500e3) && near(latency.p99_us, 990e3), "{latency:?}");
        assert!(near(report.processes[0].cpu_us_per_message, 2000.0), "{:?}", report.processes);
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
        assert_eq!(json["statuses"]["200"], 1000);
        let table = report.to_table();
        for part in ["990.", "answered 200", "2000.0", "intended 100/s, achieved 100/s"] {
            assert!(table.contains(part), "{part}:\n{table}");
        }
        assert_eq!(report.warnings, Vec::<String>::new());
    }

    #[test]
    fn what_was_not_accepted_is_warned_of_and_does_not_flatter() {
        for (end, word) in [
            (End::Answered(503), "answered 503"),
            (End::Failed(Failure::Timeout), "timed out"),
            (End::Unsent, "never sent"),
        ] {
            let report = report(open(), end);
            assert_eq!((report.intended, report.acked), (1000, 990));
            assert!(report.latency.expect("some").max_us < 991e3, "{end:?}");
            assert!(near(report.latency_all.expect("some").max_us, 1000e3), "{end:?}");
            assert!(report.warnings.iter().any(|told| told.contains("10 messages")), "{:?}", report.warnings);
            assert!(report.to_table().contains(word), "{word}");
        }
    }
}

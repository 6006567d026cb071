//! `syncline load`, as it is typed.

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::{Clock as _, SystemClock};
use crate::secret::SecretRef;

use super::{Distribution, Error, Pace, Plan, Spike, Step, run};

/// Send signed webhooks at a settled rate and measure latency from the time each was due.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where to.
    #[arg(default_value = "http://127.0.0.1:7171/hooks/load")]
    pub url: String,
    /// The source's secret, as a reference: `env:NAME` or `file:/path`. It holds `whsec_` and base64.
    #[arg(long, value_name = "REF", default_value = "env:SYNCLINE_LOAD_SECRET")]
    pub secret: SecretRef,
    /// Messages per second.
    #[arg(long, default_value_t = 2000.0)]
    pub rate: f64,
    /// Another rate from some time on, e.g. `4000@20s`. May be repeated.
    #[arg(long, value_name = "RATE@AT", conflicts_with = "closed")]
    pub step: Vec<Step>,
    /// A multiple of the rate for some time, e.g. `5x@10s+5s`. May be repeated.
    #[arg(long, value_name = "FACTORx@AT+LENGTH", conflicts_with = "closed")]
    pub spike: Vec<Spike>,
    /// Send the next message when the last one was answered, instead of at a rate: tells the highest throughput.
    #[arg(long, conflicts_with = "rate")]
    pub closed: bool,
    /// For how long messages are due and measured.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// For how long messages are sent before, unmeasured.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// Connections, each with one request in flight at most.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Threads of the generator. More cost the target more on the same machine.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// For connecting, and for one request.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Entities that the messages are about.
    #[arg(long, default_value_t = 10_000)]
    pub entities: u32,
    /// How the messages are spread over them: `uniform` or `zipf:EXPONENT`.
    #[arg(long, default_value = "uniform")]
    pub distribution: Distribution,
    /// Share of messages that repeat an earlier one, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub duplicates: f64,
    /// Processes whose processor time and memory are measured.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub cpu_of: Vec<u32>,
    /// File that gets a line `ID<TAB>KEY` for every 2xx as it arrives.
    #[arg(long, value_name = "FILE")]
    pub acked: Option<PathBuf>,
    /// Begins the id of every message; made of the time when it is not given.
    #[arg(long)]
    pub run_id: Option<String>,
    /// Settles which entity each message is for and which are duplicates.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// What is to be done; reads the secret.
    ///
    /// # Errors
    /// The reference to the secret leads nowhere.
    pub fn plan(&self) -> Result<Plan, Error> {
        let run_id = self.run_id.clone().unwrap_or_else(|| format!("load-{:x}", SystemClock.now().0));
        let pace = if self.closed {
            Pace::Closed
        } else {
            Pace::Open { rate: self.rate, steps: self.step.clone(), spikes: self.spike.clone() }
        };
        Ok(Plan {
            url: self.url.clone(),
            secret: self.secret.resolve()?,
            run_id,
            seed: self.seed,
            pace,
            duration: self.duration,
            warm_up: self.warm_up,
            connections: self.connections,
            threads: self.threads,
            timeout: self.timeout,
            entities: self.entities,
            distribution: self.distribution,
            duplicates: self.duplicates,
            cpu_of: self.cpu_of.clone(),
            acked: self.acked.clone(),
        })
    }

    /// Runs it; the report as it is to be printed.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn execute(&self) -> Result<String, Error> {
        let report = run(self.plan()?).await?;
        Ok(if self.json { report.to_json() } else { report.to_table() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    fn typed(words: &str) -> Result<Args, clap::Error> {
        Ok(Typed::try_parse_from(std::iter::once("load").chain(words.split_whitespace()))?.args)
    }

    #[test]
    fn without_arguments_it_is_two_thousand_a_second_for_ten_seconds() {
        let args = typed("").expect("nothing is required");
        assert!(!args.closed && (args.rate - 2000.0).abs() < 1e-9);
        assert_eq!(args.duration, Duration::from_secs(10));
    }

    #[test]
    fn what_is_typed_is_planned() {
        // The secret is read when the plan is made; a file that this repository has stands for one.
        let words = "--secret file:Cargo.toml --spike 5x@10s+5s --step 4000@20s --distribution zipf:1.1 --duplicates 0.01 \
                     --cpu-of 1,2 --run-id a --acked ids.txt";
        let plan = typed(words).expect("it is right").plan().expect("the file is there");
        let Pace::Open { steps, spikes, .. } = &plan.pace else { panic!("{:?}", plan.pace) };
        assert_eq!((steps.len(), spikes.len()), (1, 1));
        assert_eq!((plan.cpu_of, plan.distribution), (vec![1, 2], Distribution::Zipf(1.1)));
        let closed = typed("--closed --secret file:Cargo.toml").expect("it is right").plan();
        assert_eq!(closed.expect("the file is there").pace, Pace::Closed);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_an_example() {
        for (words, told) in [
            ("--spike 5@10s", "5x@10s+5s"),
            ("--step 5", "4000@20s"),
            ("--distribution normal", "zipf:1.1"),
            ("--closed --rate 5", "cannot be used with"),
            ("--secret whsec_abc", "env:NAME"),
        ] {
            let error = typed(words).expect_err(words).to_string();
            assert!(error.contains(told), "{words}: {error}");
        }
    }
}

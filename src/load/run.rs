//! One run from its plan to its report.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::crew::{Crew, lock};
use super::pacer::{Due, Window, pace};
use super::process::Meter;
use super::report::{Measured, Report};
use super::schedule::Schedule;
use super::tally::{Latencies, Tally};
use super::{Error, Pace, Plan};

/// Runs a plan. Dropping the future ends the run soon.
///
/// # Errors
/// The plan makes no sense, or the target is not there: then nothing was sent. Failures of single messages are no errors, but
/// figures of the report.
pub async fn run(plan: Plan) -> Result<Report, Error> {
    let (due, queue) = mpsc::unbounded_channel();
    let times = times(&plan)?;
    let crew = Arc::new(Crew::new(&plan, queue).await?);
    let meter = Meter::new(plan.cpu_of.iter().copied().chain([std::process::id()]).collect());
    if let Some(pid) = meter.missing() {
        return Err(Error::NoProcess(pid));
    }

    let (go, begun) = watch::channel(None);
    let (connecting, mut connected) = mpsc::channel::<()>(1);
    let threads = plan.threads.clamp(1, plan.connections);
    let mut tallies = Vec::new();
    for index in 0..threads {
        let connections = plan.connections / threads + usize::from(index < plan.connections % threads);
        tallies.push(start(&crew, connections, &begun, &connecting)?);
    }
    drop(connecting);
    let _ = connected.recv().await; // nothing is ever sent: it ends when every connection was tried
    let start = Instant::now();
    let until = start + plan.warm_up + plan.duration;
    let window = Window { start, counts_from: start + plan.warm_up, until, give_up: until + plan.timeout };
    go.send_replace(Some(window));
    let late = start_pacer(times, window, due, begun)?;

    sleep_until(window.counts_from).await;
    let (before, before_at) = (meter.read(), Instant::now());
    let mut total = Tally::default();
    for tally in tallies {
        total.add(&ended(tally.await)?);
    }
    let (after, after_at) = (meter.read(), Instant::now());
    let late = ended(late.await)?;
    crew.check_acked()?;
    let sampled_for = after_at - before_at;
    Ok(Report::new(&plan, &Measured { window, tally: total, late, before, after, sampled_for }))
}

/// What a thread handed back.
fn ended<T>(handed: Result<T, oneshot::error::RecvError>) -> Result<T, Error> {
    handed.ok().ok_or_else(|| Error::Worker("one of its threads panicked".to_owned()))
}

/// The intended times, warm-up first; none in a closed loop.
fn times(plan: &Plan) -> Result<Box<dyn Iterator<Item = Duration> + Send>, Error> {
    if plan.connections == 0 || plan.duration.is_zero() || plan.timeout.is_zero() {
        return Err(Error::Plan("connections, duration and time-out must be above zero".to_owned()));
    }
    let Pace::Open { rate, steps, spikes } = &plan.pace else { return Ok(Box::new(std::iter::empty())) };
    let warm_up = Schedule::new(*rate, &[], &[], plan.warm_up).map_err(Error::Plan)?;
    let measured = Schedule::new(*rate, steps, spikes, plan.duration).map_err(Error::Plan)?;
    let later = plan.warm_up;
    Ok(Box::new(warm_up.times().chain(measured.times().map(move |time| later + time))))
}

/// One thread with its connections; their tally when all are done.
fn start(
    crew: &Arc<Crew>,
    connections: usize,
    begun: &watch::Receiver<Option<Window>>,
    connecting: &mpsc::Sender<()>,
) -> Result<oneshot::Receiver<Tally>, Error> {
    let failed = |error: io::Error| Error::Worker(format!("no thread could be started: {error}"));
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (done, tally) = oneshot::channel();
    let (crew, begun, connecting) = (crew.clone(), begun.clone(), connecting.clone());
    let work = async move {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(crew.clone().work(tally.clone(), begun.clone(), connecting.clone()));
        }
        drop(connecting);
        tasks.join_all().await;
        lock(&tally).clone()
    };
    thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || {
            let _ = done.send(runtime.block_on(work)); // nobody listens when the run was dropped
        })
        .map_err(failed)?;
    Ok(tally)
}

fn start_pacer(
    times: Box<dyn Iterator<Item = Duration> + Send>,
    window: Window,
    due: mpsc::UnboundedSender<Due>,
    begun: watch::Receiver<Option<Window>>,
) -> Result<oneshot::Receiver<Latencies>, Error> {
    let (done, late) = oneshot::channel();
    thread::Builder::new()
        .name("load-pacer".to_owned())
        .spawn(move || {
            let _ = done.send(pace(times, window, &due, &begun));
        })
        .map_err(|error| Error::Worker(format!("no thread could be started: {error}")))?;
    Ok(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_comes_before_and_spikes_count_from_its_end() {
        let spike = "3x@1s+1s".parse().expect("a spike");
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
        let plan = Plan {
            pace: Pace::Open { rate: 10.0, steps: Vec::new(), spikes: vec![spike] },
            warm_up: Duration::from_secs(2),
            duration: Duration::from_secs(3),
            ..Plan::new("http://127.0.0.1:1/", secret.into(), "run-1")
        };
        let times: Vec<Duration> = times(&plan).expect("the plan is right").collect();
        let within = |second| times.iter().filter(|time| time.as_secs() == second).count();
        assert_eq!([0, 1, 2, 3, 4, 5].map(within), [10, 10, 10, 30, 10, 0]);
    }
}

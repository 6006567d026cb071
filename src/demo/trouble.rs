//! What goes wrong: all the time and everywhere, and, in the middle, the tax engine and the node itself.

use tokio::sync::watch::Receiver;

use super::stage::Stage;
use super::watch::{Pause, waiting};
use super::{Error, Plan, Progress, Tell};
use crate::sandbox::{Fault, Plan as Faults, RetryAfter, Sandbox};

/// The system that is away for a while.
const AWAY: &str = "tax";

/// Calls that wait for it when the node is killed.
const WAITING: u64 = 20;

/// What goes wrong all the time, everywhere.
pub(super) fn faults(sandbox: &Sandbox, plan: &Plan) -> Result<(), Error> {
    for system in Sandbox::systems() {
        sandbox.set_faults(system, of(sandbox, system, plan))?;
    }
    Ok(())
}

/// What goes wrong all the time with this system.
fn of(sandbox: &Sandbox, system: &str, plan: &Plan) -> Vec<Faults> {
    // Where much is played, one that asks to be left alone for a second has hundreds of calls wait for it.
    let (busy, expired) = if plan.is_large() { (0.001, 0.005) } else { (0.01, 0.02) };
    let mut plans = usual(busy);
    plans.extend(special(system));
    let some =
        [(Fault::Duplicates, 0.2), (Fault::Reorder { within_ms: 400 }, 0.25), (Fault::ExpiredToken, expired)];
    // Not every system tells anything, or has tokens.
    let fits = |fault| sandbox.set_faults(system, vec![Faults::always(fault)]).is_ok();
    plans.extend(
        some.into_iter().filter(|(fault, _)| fits(*fault)).map(|(fault, rate)| sometimes(fault, rate)),
    );
    plans
}

fn sometimes(fault: Fault, rate: f64) -> Faults {
    Faults::always(fault).at_rate(rate)
}

fn status(code: u16, retry_after: RetryAfter) -> Fault {
    Fault::Status { code, retry_after }
}

fn usual(busy: f64) -> Vec<Faults> {
    vec![
        sometimes(Fault::CommitThenCut, 0.03),
        sometimes(Fault::CommitThenStatus { code: 500 }, 0.02),
        sometimes(Fault::CutBefore, 0.02),
        sometimes(status(500, RetryAfter::Absent), 0.02),
        sometimes(status(503, RetryAfter::Absent), 0.01),
        sometimes(status(429, RetryAfter::Seconds(1)), busy),
        sometimes(Fault::LateAnswer { ms: 300 }, 0.02),
        // Later than any connector waits.
        sometimes(Fault::LateAnswer { ms: 25_000 }, 0.01).times(3),
    ]
}

/// What this system in particular is known for.
fn special(system: &str) -> Option<Faults> {
    Some(match system {
        "erp" | "bank" => sometimes(Fault::CommitThenCut, 0.05),
        "itsm" => sometimes(Fault::CommitThenCut, 0.1),
        "sourcing" => sometimes(status(424, RetryAfter::Absent), 0.03),
        AWAY => sometimes(status(503, RetryAfter::Absent), 0.05),
        _ => return None,
    })
}

/// The tax engine goes away when some instances have ended; with calls waiting for it the node is killed and started again; then both are
/// back. How many faults were dealt that the sandbox does not count any more.
pub(super) async fn scenes(
    stage: &Stage,
    plan: &Plan,
    mut ended: Receiver<u64>,
    tell: &Tell,
) -> Result<u64, Error> {
    let scene = |text: &str| tell(Progress::Scene(text.to_owned()));
    let (all, wanted) = (plan.instances(), WAITING.min(plan.orders / 8).max(1));
    let mut forgotten = 0;
    let mut now = |plans: &dyn Fn() -> Vec<Faults>| {
        let before = stage.sandbox.faults_dealt();
        stage.sandbox.set_faults(AWAY, plans())?;
        forgotten += before.saturating_sub(stage.sandbox.faults_dealt());
        Ok::<_, Error>(())
    };
    let _ = ended.wait_for(|ended| *ended >= all / 8).await;
    now(&|| vec![Faults::always(Fault::Outage)])?;
    scene("the tax engine is away");
    // Enough calls may never come to wait for it: then what else is played goes on, and is half over in the end.
    tokio::select! {
        () = calls_wait(stage, wanted) => {}
        _ = ended.wait_for(|ended| *ended >= all / 2) => {}
    }
    stage.kill().await;
    scene("the node is killed");
    stage.revive().await?;
    scene("the node is back, with everything that it acknowledged");
    now(&|| of(&stage.sandbox, AWAY, plan))?;
    scene("the tax engine is back");
    Ok(forgotten)
}

/// Waits until so many calls wait for the system that is away.
async fn calls_wait(stage: &Stage, wanted: u64) {
    let mut pause = Pause::default();
    loop {
        if let Some(operate) = stage.operate().await
            && waiting(&*operate, Some(AWAY)).await.is_ok_and(|waiting| waiting >= wanted)
        {
            return;
        }
        pause.wait().await;
    }
}

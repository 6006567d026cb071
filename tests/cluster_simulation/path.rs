//! The way between a node and the store: it takes time, is cut, and a crash may come at each end of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use syncline::journal::Error;
use syncline::journal::memory::Way;

use crate::bugs::Bug;
use crate::ground::Ground;
use crate::life::Life;

/// How long a call is tried while the store does not answer; the settings' own.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Calls that write nothing.
const READS: &[&str] = &[
    "holder",
    "holdings",
    "load",
    "records",
    "due_effects",
    "next_effect",
    "outbox_of",
    "depths",
    "due_timers",
    "next_timer",
    "exceptions",
    "find",
    "heads",
    "census",
    "tallies",
    "definitions",
    "orders",
];

/// Nothing is in the way.
#[derive(Debug)]
pub(crate) struct Straight;

#[async_trait]
impl Way for Straight {
    async fn there(&self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    async fn back(&self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }
}

/// The way of one incarnation.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) ground: Arc<Ground>,
    pub(crate) life: Arc<Life>,
    pub(crate) me: usize,
}

impl Path {
    fn failed(&self, call: &str, why: &'static str) -> Error {
        self.ground.count(why);
        self.ground.line(&format!("n{} {call}: {why}", self.me));
        Error::Unavailable(format!("the simulated store at `{call}`: {why}"))
    }

    /// Fails when the store is not reached.
    async fn reach(&self, call: &'static str) -> Result<(), Error> {
        self.ground.net.awake(self.me).await;
        self.life.alive().await;
        if !self.ground.net.is_away(self.me) {
            return Ok(());
        }
        tokio::time::sleep(PATIENCE).await;
        self.ground.net.awake(self.me).await;
        self.life.alive().await;
        if self.ground.net.is_away(self.me) { Err(self.failed(call, "store: not reached")) } else { Ok(()) }
    }

    async fn on_the_way(&self) {
        let time = self.ground.chance("store way", |chance| chance.millis(0, 3));
        tokio::time::sleep(time + self.ground.net.store_slowness()).await;
    }
}

#[async_trait]
impl Way for Path {
    async fn there(&self, call: &'static str) -> Result<(), Error> {
        self.life.point(call).await;
        self.reach(call).await?;
        self.on_the_way().await;
        let writes = !READS.contains(&call);
        if writes && self.ground.net.refuses_writes() {
            return Err(self.failed(call, "store: refused, no memory"));
        }
        if writes && self.ground.trouble("store before", self.ground.temper.store) {
            return Err(self.failed(call, "store: write failed"));
        }
        self.reach(call).await
    }

    async fn back(&self, call: &'static str) -> Result<(), Error> {
        self.on_the_way().await;
        self.reach(call).await?;
        self.life.point(call).await;
        let lost = !READS.contains(&call) && self.ground.trouble("store after", self.ground.temper.store);
        if lost { Err(self.failed(call, "store: write done, answer lost")) } else { Ok(()) }
    }

    fn keeps_tail(&self) -> bool {
        !matches!(self.ground.bug, Some(Bug::TailNotSentAgain | Bug::RollbackTriedAgain))
    }
}

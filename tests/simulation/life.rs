//! The life of one incarnation of a node: it may end at any step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::ground::Ground;

/// The life of one incarnation: from its death on nothing of it reaches the world.
#[derive(Debug)]
pub(crate) struct Life {
    ground: Arc<Ground>,
    /// Which incarnation it is.
    pub(crate) number: u64,
    over: Flag,
}

/// Raised once. Those who wait for it go on in the order in which they came; with `watch`, tokio would throw dice.
#[derive(Debug, Default)]
pub(crate) struct Flag {
    up: AtomicBool,
    waiting: Notify,
}

impl Flag {
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn raise(&self) {
        self.up.store(true, Ordering::Relaxed);
        self.waiting.notify_waiters();
    }

    pub(crate) async fn until_up(&self) {
        let mut raised = std::pin::pin!(self.waiting.notified());
        raised.as_mut().enable();
        if !self.is_up() {
            raised.await;
        }
    }
}

impl Life {
    pub(crate) fn new(ground: Arc<Ground>) -> Arc<Self> {
        let number = ground.next_life();
        Arc::new(Self { ground, number, over: Flag::default() })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.is_up()
    }

    pub(crate) fn end(&self) {
        self.over.raise();
    }

    /// Returns when it is over.
    pub(crate) async fn until_over(&self) {
        self.over.until_up().await;
    }

    /// A point where a crash may come. Whoever passes it after the end goes no further.
    pub(crate) async fn point(&self, place: &'static str) {
        if !self.is_over() && self.ground.crashes_now() {
            self.ground.count("crash");
            self.ground.line(&format!("CRASH {place}"));
            self.end();
        }
        self.alive().await;
    }

    /// Whoever asks after the end goes no further.
    pub(crate) async fn alive(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }
}

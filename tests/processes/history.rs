//! What the clients of a real cluster did and were told: each request with its answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use syncline::clock::{Clock as _, SystemClock};
use syncline::sandbox::Emitter;
use syncline::sandbox::opportunity::{Opportunity, Variant};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::node::CRM;

/// Orders that are sent at the same time.
const AT_ONCE: usize = 16;

/// From one order to the next.
const EVERY: Duration = Duration::from_millis(100);

/// Before a request is sent again.
const PAUSE: Duration = Duration::from_millis(20);

/// What the CRM tells of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Confirmed,
    Amended,
}

impl What {
    pub(crate) fn id(self, order: &Opportunity) -> String {
        order.message_id(match self {
            Self::Confirmed => "confirmed",
            Self::Amended => "amended",
        })
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The order's number.
    pub(crate) order: String,
    /// The message's id.
    pub(crate) message: String,
    pub(crate) begun: Instant,
    pub(crate) answered: Instant,
    /// The answer's status; none when no answer came.
    pub(crate) status: Option<u16>,
}

impl Asked {
    pub(crate) fn is_acked(&self) -> bool {
        self.status == Some(200)
    }
}

/// What a test knows of the orders that come in, and when they end.
#[derive(Debug)]
pub(crate) struct Load {
    acked: watch::Sender<u64>,
    over: watch::Sender<bool>,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self { acked: watch::Sender::new(0), over: watch::Sender::new(false) }
    }

    /// Orders that are acknowledged as a whole.
    pub(crate) fn acked(&self) -> u64 {
        *self.acked.borrow()
    }

    /// Until so many more are.
    pub(crate) async fn more(&self, count: u64) {
        let enough = self.acked() + count;
        self.acked.subscribe().wait_for(|count| *count >= enough).await.unwrap();
    }

    /// No further orders.
    pub(crate) fn end(&self) {
        self.over.send_replace(true);
    }

    fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

/// A CRM that remembers.
#[derive(Debug)]
pub(crate) struct Client {
    emitter: Emitter,
    asked: Mutex<Vec<Asked>>,
}

impl Client {
    pub(crate) fn new(target: &str) -> Self {
        let secrets = BTreeMap::from([("crm".to_owned(), SecretString::from(CRM))]);
        let emitter = Emitter::new(target, &secrets, Arc::new(SystemClock)).unwrap();
        Self { emitter, asked: Mutex::default() }
    }

    /// Sends it once; the status of the answer.
    pub(crate) async fn send(&self, order: &Opportunity, what: What) -> Option<u16> {
        let now = SystemClock.now();
        let body = match what {
            What::Confirmed => order.confirmed(now),
            What::Amended => order.amended(now),
        };
        let (message, begun) = (what.id(order), Instant::now());
        let status = self.emitter.send("crm", &body, &message).await.ok();
        let (order, answered) = (order.order_number(), Instant::now());
        self.asked.lock().unwrap().push(Asked { order, message, begun, answered, status });
        status
    }

    async fn send_until_acked(&self, order: &Opportunity, what: What) {
        while self.send(order, what).await != Some(200) {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends one order after the other, several at the same time, until it is told to stop; those orders. Each is confirmed, then
    /// amended, then confirmed again, which is a duplicate; each message until it is acknowledged.
    pub(crate) async fn send_orders(&self, load: &Load) -> Vec<Opportunity> {
        use futures::StreamExt as _;
        let send = async |order: Opportunity| {
            for what in [What::Confirmed, What::Amended, What::Confirmed] {
                self.send_until_acked(&order, what).await;
            }
            load.acked.send_modify(|count| *count += 1);
            order
        };
        let mut pace = tokio::time::interval(EVERY);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let paced = futures::stream::unfold((1, pace), async |(number, mut pace)| {
            pace.tick().await;
            let more = !load.is_over();
            more.then(|| (Opportunity::new(number, Variant::Normal), (number + 1, pace)))
        });
        paced.map(send).buffer_unordered(AT_ONCE).collect().await
    }

    /// Every request until now.
    pub(crate) fn history(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

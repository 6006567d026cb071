//! What goes on by itself beside messages: the schedules of polled sources and of reconciliation, and the balance.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::balance::{Balance, Till};
use super::cluster::Router;
use super::harvest::Harvester;
use super::polls::Polls;
use super::reconcile::Reconciler;
use crate::clock::SharedClock;
use crate::ingress::Ingress;
use crate::integration::Integration;
use crate::journal::{Error, SharedJournal};

/// Made before the ways in and out, and begun when they are there.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) harvester: Arc<Harvester>,
    pub(super) reconciler: Arc<Reconciler>,
    pub(super) balance: Arc<Balance>,
    polls: Polls,
}

/// What an integration says of schedules and owners, taken before its parts go where they are used.
#[derive(Debug)]
pub(super) struct Said {
    plans: Vec<super::reconcile::Plan>,
    polled: Vec<super::polls::Polled>,
    owners: BTreeMap<String, String>,
}

impl Said {
    pub(super) fn by(integration: &Integration) -> Self {
        let sources = integration.sources.values();
        Self {
            plans: Reconciler::plans(integration.connectors.values()),
            polled: Polls::said(sources.clone()),
            owners: sources.map(|source| (source.name.to_string(), source.owner.team.to_string())).collect(),
        }
    }
}

impl Standing {
    /// `till` counts what is answered from now on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn open(
        said: Said,
        router: &Router,
        journal: &SharedJournal,
        clock: &SharedClock,
        till: Arc<Till>,
    ) -> Result<Self, Error> {
        Ok(Self {
            harvester: Arc::default(),
            polls: Polls::new(router.host(), journal, clock, said.polled),
            reconciler: Arc::new(Reconciler::new(router, journal, clock, said.plans)),
            balance: Balance::open(router, journal, clock, till, said.owners).await?,
        })
    }

    /// Goes on until `stopping`.
    pub(super) fn begin(self, ingress: &Arc<Ingress>, stopping: &watch::Receiver<bool>) -> JoinHandle<()> {
        let Self { harvester, reconciler, balance, polls } = self;
        let _ = harvester.ingress.set(ingress.clone());
        let _ = harvester.reconciler.set(reconciler.clone());
        let stopping = stopping.clone();
        tokio::spawn(async move {
            let polls = Box::pin(polls.run(stopping.clone()));
            let runs = Box::pin(reconciler.run(stopping.clone()));
            let balance = Box::pin(balance.run(stopping));
            tokio::join!(polls, runs, balance);
        })
    }
}

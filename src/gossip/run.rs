//! The task behind [`super::Gossip`]: it waits for datagrams, timers and commands, and performs what the swarm says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use syncline_actors::id::{Epoch, ShardId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::card::{Card, Members};
use super::datagrams::Datagrams;
use super::key::KeyRing;
use super::swarm::Swarm;
use super::{SharedStats, seal};

/// After so many datagrams in a row it is looked whether a timer is due: a flood must not stop the probes.
const BURST_MAX: u32 = 64;

/// Pause after the socket failed, so that a broken one does not take a whole core.
const BROKEN_PAUSE: Duration = Duration::from_millis(100);

/// What the owner of a [`super::Gossip`] wants.
#[derive(Debug)]
pub(super) enum Command {
    TellEpochs(Vec<(ShardId, Epoch)>),
    UpdateCard(Box<Card>),
    ReplaceKeys(KeyRing),
    Leave(oneshot::Sender<()>),
}

/// The task and where its results go.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) swarm: Swarm,
    pub(super) datagrams: Arc<dyn Datagrams>,
    pub(super) members: watch::Sender<Arc<Members>>,
    pub(super) rejoins: watch::Sender<u64>,
    pub(super) stats: SharedStats,
}

impl Runner {
    /// Runs until the node leaves, or nobody can give a command any more.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let (found, mut lookups) = mpsc::channel(1);
        let mut buffer = vec![0; seal::DATAGRAM_MAX + 1];
        let mut burst = 0;
        loop {
            if burst >= BURST_MAX {
                burst = 0;
                self.swarm.wake(Instant::now());
            }
            self.perform(&found).await;
            tokio::select! {
                biased;
                command = inbox.recv() => match command {
                    None => return,
                    Some(Command::Leave(done)) => {
                        self.swarm.leave(Instant::now());
                        self.perform(&found).await;
                        let _nobody_waits = done.send(());
                        return;
                    }
                    Some(command) => self.obey(command),
                },
                Some(addrs) = lookups.recv() => self.swarm.resolved(addrs, Instant::now()),
                received = self.datagrams.recv_from(&mut buffer) => {
                    burst += 1;
                    self.hear(received.map(|(length, from)| (&buffer[..length], from))).await;
                }
                () = tokio::time::sleep_until(self.swarm.due()) => {
                    burst = 0;
                    self.swarm.wake(Instant::now());
                }
            }
        }
    }

    async fn hear(&mut self, received: std::io::Result<(&[u8], SocketAddr)>) {
        match received {
            Ok((datagram, from)) => self.swarm.hear(datagram, from, Instant::now()),
            Err(error) => {
                tracing::warn!(%error, "the gossip socket failed; it is tried again");
                tokio::time::sleep(BROKEN_PAUSE).await;
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::TellEpochs(epochs) => self.swarm.tell_epochs(&epochs),
            Command::UpdateCard(card) => self.swarm.update_card(*card),
            Command::ReplaceKeys(keys) => self.swarm.replace_keys(keys),
            Command::Leave(_) => unreachable!("leaving ends the task where it is received"),
        }
    }

    /// Sends, looks up and publishes what the swarm wants.
    async fn perform(&mut self, found: &mpsc::Sender<Vec<SocketAddr>>) {
        for outgoing in self.swarm.take_outgoing() {
            match self.datagrams.send_to(&outgoing.datagram, outgoing.to).await {
                Ok(()) => self.swarm.stats.sent += 1,
                Err(error) => {
                    tracing::debug!(to = %outgoing.to, %error, "a datagram was not sent");
                    self.swarm.stats.unsent += 1;
                }
            }
        }
        if let Some(names) = self.swarm.take_lookup() {
            tokio::spawn(look_up(self.datagrams.clone(), names, found.clone()));
        }
        if let Some(members) = self.swarm.take_members() {
            self.members.send_if_modified(|known| {
                let differs = *known != members;
                *known = members;
                differs
            });
        }
        let rejoins = self.swarm.rejoins;
        self.rejoins.send_if_modified(|known| std::mem::replace(known, rejoins) != rejoins);
        self.stats.set(self.swarm.stats);
    }
}

/// Looks up all `names`. Answers that come while an earlier one still waits are dropped: the next call asks again.
async fn look_up(datagrams: Arc<dyn Datagrams>, names: Vec<String>, found: mpsc::Sender<Vec<SocketAddr>>) {
    let mut addrs = Vec::new();
    for name in names {
        match datagrams.resolve(&name).await {
            Ok(resolved) => addrs.extend(resolved),
            Err(error) => tracing::debug!(%name, %error, "a seed's name stands for no address now"),
        }
    }
    let _full = found.try_send(addrs);
}

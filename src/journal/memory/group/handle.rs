//! The store of a group as one run of a node has it open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{ExceptionRow, OutboxRow, Progress, TimerRow};
use syncline_actors::time::Timestamp;
use tokio::sync::watch;

use super::{Group, Landed, Server, Way};
use crate::journal::recovery::{self, Again, Recovers, Tail};
use crate::journal::share::{Ask, Share};
use crate::journal::{
    Append, Appended, Compacted, Depth, Error, ExceptionFilter, Grant, Head, Holding, Journal, Loaded,
    Snapshot,
};

/// What is said of a shard in doubt.
const IN_DOUBT: &str = "the store has changed: what was acknowledged is being looked for";

/// The store of a group as one run of a node has it open.
#[derive(Debug)]
pub struct Handle {
    group: Group,
    way: Arc<dyn Way>,
    boot: u64,
    /// The node that took shards here.
    node: Mutex<Option<NodeId>>,
    held: Mutex<BTreeMap<ShardId, Epoch>>,
    doubted: Mutex<BTreeSet<ShardId>>,
    heard: Mutex<BTreeMap<ShardId, Epoch>>,
    tail: Mutex<Tail<Append>>,
    met: Mutex<u64>,
    changes: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds it")
}

fn in_doubt<T>() -> Result<T, Error> {
    Err(Error::Unavailable(IN_DOUBT.to_owned()))
}

impl Handle {
    /// Opens the store for run `boot` of a node.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(group: &Group, boot: u64, way: Arc<dyn Way>) -> Arc<Self> {
        let met = group.lock().identity;
        let handle = Arc::new(Self {
            group: group.clone(),
            way,
            boot,
            node: Mutex::default(),
            held: Mutex::default(),
            doubted: Mutex::default(),
            heard: Mutex::default(),
            tail: Mutex::default(),
            met: Mutex::new(met),
            changes: watch::Sender::new(0),
        });
        tokio::spawn(recovery::watch(Arc::downgrade(&handle), handle.changes.subscribe()));
        handle
    }

    /// Every shard held is in doubt from the moment on that another server is met.
    fn meet(&self, identity: u64) {
        if std::mem::replace(&mut *lock(&self.met), identity) != identity {
            self.changed();
        }
    }

    fn changed(&self) {
        let held: Vec<_> = lock(&self.held).keys().copied().collect();
        lock(&self.doubted).extend(held);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// What the store says. One that knows only an earlier epoch of a shard held here has lost its end, whatever server it is.
    fn said<T>(&self, shard: ShardId, said: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Fenced { current, held, .. }) = &said
            && current < held
            && lock(&self.held).get(&shard) == Some(held)
        {
            self.changed();
        }
        if self.is_doubted(shard) { in_doubt() } else { said }
    }

    fn is_doubted(&self, shard: ShardId) -> bool {
        lock(&self.doubted).contains(&shard)
    }

    /// A call goes there, is carried out and answered. It is carried out in its own time, whether or not its caller still waits.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Group) -> Landed<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (way, group) = (self.way.clone(), self.group.clone());
        let landing = tokio::spawn(async move {
            way.there(what).await?;
            Ok::<_, Error>(work(&group))
        });
        let landed = landing.await.expect("no call panics")?;
        if self.group.waits {
            tokio::time::sleep_until(landed.replicated).await;
        }
        self.way.back(what).await?;
        let (identity, met) = (self.group.lock().identity, *lock(&self.met));
        self.meet(identity);
        // Another took the server's place before the replica was known to have it, or was met, and looked at, before this answer came.
        if identity != landed.identity && (self.group.waits || met != landed.identity) {
            return Err(Error::Unavailable("the connection broke".to_owned()));
        }
        Ok(landed.outcome)
    }

    /// The same of a shard, about which nothing is said while it is in doubt.
    async fn trusted<T: Send + 'static>(
        &self,
        shard: ShardId,
        what: &'static str,
        work: impl FnOnce(&Group) -> Landed<Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        if self.is_doubted(shard) {
            return in_doubt();
        }
        let outcome = self.call(what, work).await?;
        self.said(shard, outcome)
    }

    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Server) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.call(what, |group| group.read(read)).await
    }

    /// Reads rows of the shards that are held here.
    async fn rows<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Server, &dyn Fn(ShardId) -> bool) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let held = lock(&self.held).clone();
        self.read(what, move |server| read(server, &|shard| held.contains_key(&shard))).await
    }

    fn outgrown(&self, shard: ShardId, held: Epoch) -> Result<(), Error> {
        match lock(&self.heard).get(&shard) {
            Some(&current) if current > held => Err(Error::Fenced { shard, held, current }),
            _ => Ok(()),
        }
    }

    async fn take(&self, shards: Vec<(ShardId, Epoch)>, node: NodeId) -> Result<Vec<Grant>, Error> {
        let by = (node, self.boot);
        let lease_ms = u64::try_from(self.group.lease.as_millis()).unwrap_or(u64::MAX);
        let work = move |group: &Group| {
            let (now, granted_to) = (group.now_ms(), by.clone());
            let landed = group.write(move |server| {
                let taken = shards.iter().filter_map(|(shard, above)| {
                    let epoch = server.acquire(*shard, &by, *above, now, lease_ms)?;
                    Some(Grant { shard: *shard, epoch })
                });
                taken.collect::<Vec<_>>()
            });
            for grant in &landed.outcome {
                group.witness.granted(*grant, &granted_to.0, granted_to.1);
            }
            landed
        };
        self.call("acquire", work).await
    }

    fn above(&self, shards: &[ShardId]) -> Vec<(ShardId, Epoch)> {
        let heard = lock(&self.heard);
        shards.iter().map(|shard| (*shard, heard.get(shard).copied().unwrap_or_default())).collect()
    }

    fn by(&self) -> Result<(NodeId, u64), Error> {
        let node = lock(&self.node).clone();
        node.map(|node| (node, self.boot))
            .ok_or_else(|| Error::Unavailable("no shard was taken yet".to_owned()))
    }

    /// Writes an append at the store, and tells the witness what became of it.
    fn land(
        group: &Group,
        append: Append,
        by: &(NodeId, u64),
        again: bool,
    ) -> Landed<Result<Appended, Error>> {
        let told = append.clone();
        let is_there = move |server: &Server, append: &Append| {
            again && server.store.position(&append.entity) == (append.seq, append.hash)
        };
        let landed = group.write(move |server| {
            if is_there(server, &append) {
                return (Ok(Appended::Written), false);
            }
            let outcome = server.append(append.clone());
            let is_new = matches!(outcome, Ok(Appended::Written));
            (outcome, is_new)
        });
        let (outcome, is_new) = landed.outcome;
        match &outcome {
            Ok(Appended::Written) if is_new => group.witness.written(&told, (&by.0, by.1)),
            Ok(_) => group.witness.not_written(&told, "known"),
            Err(Error::Fenced { .. }) => group.witness.not_written(&told, "fenced"),
            Err(Error::Conflict { .. }) => group.witness.not_written(&told, "conflict"),
            Err(_) => group.witness.not_written(&told, "suspect"),
        }
        Landed { outcome, identity: landed.identity, replicated: landed.replicated }
    }
}

#[async_trait]
impl Recovers for Handle {
    type Append = Append;

    fn held(&self) -> MutexGuard<'_, BTreeMap<ShardId, Epoch>> {
        lock(&self.held)
    }

    fn doubted(&self) -> Vec<ShardId> {
        lock(&self.doubted).iter().copied().collect()
    }

    fn trust(&self, shard: ShardId) {
        lock(&self.doubted).remove(&shard);
    }

    fn tail(&self) -> MutexGuard<'_, Tail<Append>> {
        lock(&self.tail)
    }

    fn is_ours(&self, stored: &Holding) -> bool {
        stored.node == *lock(&self.node) && stored.boot == self.boot
    }

    fn outgrow(&self, grant: Grant) {
        self.hear(&[grant]);
    }

    async fn holding(&self, shard: ShardId) -> Result<Holding, Error> {
        let holding = move |group: &Group| {
            let now = group.now_ms();
            group.read(move |server| server.holding(shard, now))
        };
        self.call("holder", holding).await
    }

    async fn retake(&self, shard: ShardId, above: Epoch) -> Result<Epoch, Error> {
        let (node, _) = self.by()?;
        let taken = self.take(vec![(shard, above)], node).await?;
        let taken = taken.first().map(|grant| grant.epoch);
        taken.ok_or_else(|| Error::Unavailable(format!("shard {shard} cannot be taken again yet")))
    }

    async fn append_again(&self, shard: ShardId, epoch: Epoch, append: &Append) -> Result<Again, Error> {
        let (by, append) = (self.by()?, Append { epoch, ..append.clone() });
        let hash = append.hash;
        let before = self.position(&append.entity).await?;
        let landed = self.call("append", move |group| Self::land(group, append, &by, true)).await?;
        match landed {
            Ok(Appended::Written) if before.1 == hash => Ok(Again::There),
            Ok(Appended::Written) => Ok(Again::Written),
            Ok(Appended::Duplicate(_)) => Ok(Again::There),
            Err(error @ (Error::Fenced { .. } | Error::Suspect { .. })) => Err(error),
            Err(error) => Ok(Again::Misfit(format!("{shard}: {error}"))),
        }
    }

    async fn give_back(&self, grant: Grant) -> Result<(), Error> {
        self.call("release", move |group| group.write(move |server| server.release(grant))).await
    }

    async fn mark(&self, shard: ShardId, why: &str) -> Result<(), Error> {
        let why = why.to_owned();
        let mark = move |group: &Group| {
            let told = why.clone();
            let landed = group.write(move |server| server.suspect(shard, &why));
            group.witness.suspected(shard, &told);
            landed
        };
        self.call("suspect", mark).await
    }
}

impl Handle {
    async fn position(&self, entity: &EntityId) -> Result<(u64, syncline_actors::record::Hash), Error> {
        let entity = entity.clone();
        self.read("holder", move |server| server.store.position(&entity)).await
    }

    async fn renew_all(&self, grants: &[Grant]) -> Result<Vec<Result<(), Error>>, Error> {
        let (asked, lease) = (grants.to_vec(), self.group.lease);
        let renew = move |group: &Group| {
            let until = group.now_ms() + u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
            group.write(move |server| {
                asked.iter().map(|grant| server.renew(*grant, until)).collect::<Vec<_>>()
            })
        };
        self.call("renew", renew).await
    }

    /// What a renewal means to a shard here.
    fn renewed(&self, grant: Grant, renewed: Result<(), Error>) -> Result<(), Error> {
        let renewed = self.said(grant.shard, renewed);
        if let Err(Error::Fenced { .. }) = renewed {
            recovery::let_go(self, grant);
        }
        renewed
    }
}

#[async_trait]
impl Journal for Handle {
    async fn acquire(&self, shards: &[ShardId], node: &NodeId) -> Result<Vec<Grant>, Error> {
        *lock(&self.node) = Some(node.clone());
        let free: Vec<_> = shards.iter().copied().filter(|shard| !self.is_doubted(*shard)).collect();
        let grants = self.take(self.above(&free), node.clone()).await?;
        lock(&self.held).extend(grants.iter().map(|grant| (grant.shard, grant.epoch)));
        self.hear(&grants);
        Ok(grants)
    }

    async fn renew(&self, grants: &[Grant]) -> Vec<Result<(), Error>> {
        let ours: Vec<_> = grants.iter().copied().filter(|g| !self.is_doubted(g.shard)).collect();
        let mut renewed = match self.renew_all(&ours).await {
            Ok(renewed) => ours.into_iter().zip(renewed).collect::<Vec<_>>(),
            Err(error) => {
                let text = error.to_string();
                return grants.iter().map(|_| Err(Error::Unavailable(text.clone()))).collect();
            }
        };
        let answers = grants.iter().map(|grant| {
            self.outgrown(grant.shard, grant.epoch)?;
            match renewed.iter().position(|(of, _)| of == grant) {
                Some(place) => self.renewed(*grant, renewed.swap_remove(place).1),
                None => in_doubt(),
            }
        });
        answers.collect()
    }

    async fn release(&self, grants: &[Grant]) -> Result<(), Error> {
        for grant in grants {
            recovery::let_go(self, *grant);
        }
        let grants = grants.iter().filter(|grant| self.outgrown(grant.shard, grant.epoch).is_ok());
        let released = join_all(grants.map(|grant| {
            let grant = *grant;
            self.trusted(grant.shard, "release", move |group| {
                group.write(move |server| {
                    server.release(grant);
                    Ok(())
                })
            })
        }));
        released.await.into_iter().collect()
    }

    fn hear(&self, epochs: &[Grant]) {
        let mut heard = lock(&self.heard);
        for Grant { shard, epoch } in epochs {
            let known = heard.entry(*shard).or_default();
            *known = (*known).max(*epoch);
        }
    }

    async fn holdings(&self) -> Result<Vec<Holding>, Error> {
        let holdings = |group: &Group| {
            let now = group.now_ms();
            group.read(|server| ShardId::all().map(|shard| server.holding(shard, now)).collect())
        };
        self.call("holdings", holdings).await
    }

    async fn suspect(&self, shard: ShardId, why: &str) -> Result<(), Error> {
        self.mark(shard, why).await
    }

    async fn accept(&self, shard: ShardId) -> Result<(), Error> {
        lock(&self.tail).forget(shard);
        let accept = move |group: &Group| {
            let landed = group.write(move |server| server.suspect(shard, ""));
            group.witness.accepted(shard);
            landed
        };
        self.call("suspect", accept).await
    }

    async fn append(&self, append: Append) -> Result<Appended, Error> {
        let shard = append.entity.shard();
        self.outgrown(shard, append.epoch)?;
        // Who never took a shard is refused like anyone who does not hold it.
        let by = self.by().unwrap_or_else(|_nobody| (NodeId("".into()), self.boot));
        let kept = append.clone();
        let land = move |group: &Group| Self::land(group, append, &by, false);
        let appended = self.trusted(shard, "append", land).await?;
        if appended == Appended::Written && self.way.keeps_tail() {
            lock(&self.tail).keep(shard, kept.frame.len(), kept);
        }
        Ok(appended)
    }

    async fn load(&self, entity: &EntityId) -> Result<Loaded, Error> {
        let id = entity.clone();
        let load = move |group: &Group| group.read(|server| Ok(server.store.load(&id)));
        self.trusted(entity.shard(), "load", load).await
    }

    async fn records(&self, entity: &EntityId, from: u64, limit: usize) -> Result<Vec<Bytes>, Error> {
        let id = entity.clone();
        let read = move |group: &Group| group.read(|server| Ok(server.store.records(&id, from, limit)));
        self.trusted(entity.shard(), "records", read).await
    }

    async fn save_snapshot(&self, epoch: Epoch, entity: &EntityId, snapshot: Snapshot) -> Result<(), Error> {
        let (shard, id) = (entity.shard(), entity.clone());
        self.outgrown(shard, epoch)?;
        let save = move |group: &Group| {
            group.write(move |server| {
                server.whole(shard, epoch)?;
                server.store.save_snapshot(epoch, &id, snapshot.clone())
            })
        };
        self.trusted(shard, "save_snapshot", save).await
    }

    async fn trim(&self, epoch: Epoch, entity: &EntityId, keep: u64) -> Result<u64, Error> {
        let (shard, id) = (entity.shard(), entity.clone());
        self.outgrown(shard, epoch)?;
        let trim = move |group: &Group| {
            group.write(move |server| {
                server.whole(shard, epoch)?;
                server.store.trim(epoch, &id, keep)
            })
        };
        self.trusted(shard, "trim", trim).await
    }

    async fn due_effects(
        &self,
        connector: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, Error> {
        let connector = connector.to_owned();
        let due = move |server: &Server, of: &dyn Fn(ShardId) -> bool| {
            server.store.due_effects(&connector, now, limit, of)
        };
        self.rows("due_effects", due).await
    }

    async fn next_effect(&self, connector: &str, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let connector = connector.to_owned();
        self.rows("next_effect", move |server, of| server.store.next_effect(&connector, now, of)).await
    }

    async fn outbox_of(&self, entity: &EntityId) -> Result<Vec<OutboxRow>, Error> {
        let id = entity.clone();
        let outbox = move |group: &Group| group.read(|server| Ok(server.store.outbox_of(&id)));
        self.trusted(entity.shard(), "outbox_of", outbox).await
    }

    async fn progress(
        &self,
        epoch: Epoch,
        entity: &EntityId,
        effect: EffectId,
        progress: Progress,
    ) -> Result<bool, Error> {
        let (shard, id) = (entity.shard(), entity.clone());
        self.outgrown(shard, epoch)?;
        let keep = move |group: &Group| {
            group.write(move |server| {
                server.whole(shard, epoch)?;
                server.store.progress(epoch, &id, effect, progress.clone())
            })
        };
        self.trusted(shard, "progress", keep).await
    }

    async fn depths(&self) -> Result<BTreeMap<String, Depth>, Error> {
        self.rows("depths", |server, of| server.store.depths(of)).await
    }

    async fn due_timers(&self, now: Timestamp, limit: usize) -> Result<Vec<TimerRow>, Error> {
        self.rows("due_timers", move |server, of| server.store.due_timers(now, limit, of)).await
    }

    async fn next_timer(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.rows("next_timer", move |server, of| server.store.next_timer(now, of)).await
    }

    async fn exceptions(&self, filter: &ExceptionFilter) -> Result<Vec<ExceptionRow>, Error> {
        let filter = filter.clone();
        self.read("exceptions", move |server| server.store.exceptions(&filter)).await
    }

    async fn find(&self, term: &str, limit: usize) -> Result<Vec<EntityId>, Error> {
        let term = term.to_owned();
        self.read("find", move |server| server.store.find(&term, limit)).await
    }

    async fn heads(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Head>, Error> {
        let (kind, after) = (kind.to_owned(), after.map(ToOwned::to_owned));
        self.read("heads", move |server| server.store.heads(&kind, after.as_deref(), limit)).await
    }

    async fn tallies(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.read("tallies", |server| server.store.tallies.clone()).await
    }

    async fn census(&self) -> Result<BTreeMap<(String, String), u64>, Error> {
        self.read("census", |server| server.store.census()).await
    }

    async fn definitions(&self) -> Result<BTreeMap<(String, u32), String>, Error> {
        self.read("definitions", |server| server.store.definitions.clone()).await
    }

    async fn orders(&self) -> Result<BTreeMap<String, String>, Error> {
        self.read("orders", |server| server.store.orders.clone()).await
    }

    async fn order(&self, key: &str, value: Option<&str>) -> Result<(), Error> {
        let (key, value) = (key.to_owned(), value.map(ToOwned::to_owned));
        let order =
            move |group: &Group| group.write(move |server| server.store.order(&key, value.as_deref()));
        self.call("order", order).await?
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn share(&self, ask: &Ask) -> Result<Share, Error> {
        let ask = ask.clone();
        let share = move |group: &Group| {
            let now = i64::try_from(group.now_ms()).unwrap_or(i64::MAX);
            group.write(move |server| server.store.share(&ask, now))
        };
        self.call("share", share).await
    }

    async fn keep_definition(&self, kind: &str, version: u32, text: &str) -> Result<(), Error> {
        let (kind, text) = (kind.to_owned(), text.to_owned());
        let keep = move |group: &Group| {
            group.write(move |server| server.store.keep_definition(&kind, version, &text))
        };
        self.call("keep_definition", keep).await?
    }

    async fn compact(&self, now: Timestamp, ended_before: Timestamp) -> Result<Compacted, Error> {
        let held = lock(&self.held).clone();
        let compact = move |group: &Group| {
            group.write(move |server| {
                server.store.compact(now, ended_before, &|shard| held.contains_key(&shard))
            })
        };
        self.call("compact", compact).await
    }
}

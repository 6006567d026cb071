//! What operators have ordered, kept in the store: it holds on all nodes, and over restarts.
//!
//! ```text
//! connector/<name>/paused     calls of the connector do not start
//! shard/<number>/pin          the shard is on that node as long as it may be
//! node/<name>/drain           that run of the node gives its shards away
//! placement/paused            nothing moves for the sake of balance
//! ```
//! Each node looks every second, and at once when it was told itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use syncline_actors::id::{NodeId, ShardId};
use syncline_actors::placement::{Regions, planner};
use syncline_actors::time::Timestamp;
use tokio::sync::{Notify, watch};

use super::balance;
use super::cluster::Cluster;
use crate::delivery::Delivery;
use crate::journal::{Error, SharedJournal};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

const PLACEMENT: &str = "placement/paused";

/// Not orders of anybody: the regions that were ever listed, each an entry of its own, so that two nodes that begin to list different
/// ones at the same time overwrite nothing.
const REGIONS: &str = "cluster/region/";

/// Whether what is kept under this key is an order of somebody's, or what another part of the node keeps in the same place.
fn is_order(key: &str) -> bool {
    ![REGIONS, balance::KEPT].iter().any(|other| key.starts_with(other))
}

/// An order with who gave it. Unknown fields are another version's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// Who gave it.
    pub(super) by: String,
    /// Why.
    pub(super) reason: String,
    /// When, RFC 3339.
    pub(super) at: String,
    /// The node that it names, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    /// Which run of the node it is about, if of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) boot: Option<u64>,
}

/// All orders that hold now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Orders {
    pub(super) connectors: BTreeMap<String, Order>,
    pub(super) pins: BTreeMap<ShardId, Order>,
    pub(super) drains: BTreeMap<String, Order>,
    pub(super) placement: Option<Order>,
}

impl Orders {
    fn read(kept: &BTreeMap<String, String>) -> Self {
        let mut orders = Self::default();
        for (key, text) in kept.iter().filter(|(key, _)| is_order(key)) {
            let Ok(order) = serde_json::from_str::<Order>(text) else {
                tracing::error!(
                    key,
                    text,
                    "an order cannot be read; remove it, or use the version that gave it"
                );
                continue;
            };
            match key.split('/').collect::<Vec<_>>()[..] {
                ["connector", name, "paused"] => {
                    orders.connectors.insert(name.to_owned(), order);
                }
                ["shard", number, "pin"] => {
                    if let Ok(number) = number.parse() {
                        orders.pins.insert(ShardId(number), order);
                    }
                }
                ["node", name, "drain"] => {
                    orders.drains.insert(name.to_owned(), order);
                }
                _ if key == PLACEMENT => orders.placement = Some(order),
                _ => tracing::warn!(key, "an order is not known to this version"),
            }
        }
        orders
    }

    /// Whether this run of the node is to give its shards away.
    pub(super) fn drains(&self, node: &NodeId, boot: u64) -> bool {
        self.drains.get(&*node.0).is_some_and(|order| order.boot.is_none_or(|of| of == boot))
    }

    fn of_placement(&self) -> planner::Orders {
        let pin = |(shard, order): (&ShardId, &Order)| Some((*shard, NodeId(order.node.as_deref()?.into())));
        planner::Orders { pins: self.pins.iter().filter_map(pin).collect(), paused: self.placement.is_some() }
    }
}

/// What an order is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    Connector(&'a str),
    Shard(ShardId),
    Node(&'a str),
    Placement,
}

impl About<'_> {
    fn key(self) -> String {
        match self {
            Self::Connector(name) => format!("connector/{name}/paused"),
            Self::Shard(shard) => format!("shard/{shard}/pin"),
            Self::Node(name) => format!("node/{name}/drain"),
            Self::Placement => PLACEMENT.to_owned(),
        }
    }
}

/// Gives orders, and shows those that hold.
#[derive(Debug)]
pub(super) struct Desk {
    journal: SharedJournal,
    bell: Arc<Notify>,
    known: watch::Sender<Arc<Orders>>,
    placement: watch::Sender<Arc<planner::Orders>>,
}

impl Desk {
    pub(super) fn new(journal: SharedJournal) -> Self {
        Self {
            journal,
            bell: Arc::default(),
            known: watch::channel(Arc::default()).0,
            placement: watch::channel(Arc::default()).0,
        }
    }

    /// What holds, as far as this node has looked.
    pub(super) fn known(&self) -> Arc<Orders> {
        self.known.borrow().clone()
    }

    /// What placement is told, from now on.
    pub(super) fn of_placement(&self) -> watch::Receiver<Arc<planner::Orders>> {
        self.placement.subscribe()
    }

    /// Keeps an order, or takes it back. On all nodes it holds within a second; here at once, when this returns.
    pub(super) async fn give(&self, about: About<'_>, order: Option<&Order>) -> Result<(), Error> {
        let text = order.map(|order| serde_json::to_string(order).expect("an order is written as JSON"));
        self.journal.order(&about.key(), text.as_deref()).await?;
        self.look().await
    }

    /// The regions that are listed. The store remembers them, as what was bound to one must stay there.
    pub(super) async fn settle_regions(&self, listed: &[String]) -> Result<Regions, super::Error> {
        let regions = Regions::new(listed.iter().map(String::as_str)).map_err(|wrong| {
            not_these(wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        let kept = self.kept_regions().await?;
        covered(&regions, &kept)?;
        for name in regions.names().filter(|name| !kept.contains(*name)) {
            self.journal.order(&format!("{REGIONS}{name}"), Some("served")).await?;
            tracing::info!(region = name, "the region is served from now on, and stays listed for ever");
        }
        // Of two nodes that list different regions and start at the same time, one sees both here.
        covered(&regions, &self.kept_regions().await?)?;
        Ok(regions)
    }

    async fn kept_regions(&self) -> Result<BTreeSet<String>, Error> {
        let orders = self.journal.orders().await?;
        Ok(orders.keys().filter_map(|key| key.strip_prefix(REGIONS)).map(str::to_owned).collect())
    }

    /// Looks at what holds.
    pub(super) async fn look(&self) -> Result<(), Error> {
        let orders = Arc::new(Orders::read(&self.journal.orders().await?));
        let placement = Arc::new(orders.of_placement());
        self.placement.send_if_modified(|known| std::mem::replace(known, placement.clone()) != placement);
        self.known.send_replace(orders);
        self.bell.notify_one();
        Ok(())
    }

    /// Looks every second and does what is ordered, until `stop`.
    pub(super) async fn obey(
        self: Arc<Self>,
        delivery: Arc<Delivery>,
        cluster: Option<Arc<Cluster>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut held: BTreeMap<String, Order> = BTreeMap::new();
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "orders are not known now; those known hold");
            }
            let orders = self.known();
            pause(&delivery, &held, &orders.connectors);
            held.clone_from(&orders.connectors);
            if let Some(cluster) = &cluster {
                cluster.set_draining(orders.drains(cluster.node(), cluster.boot()));
            }
            // What `look` rang just now is not news.
            let _ = tokio::time::timeout(Duration::ZERO, self.bell.notified()).await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.bell.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}

/// Pauses and resumes what was not so before.
fn pause(delivery: &Delivery, before: &BTreeMap<String, Order>, now: &BTreeMap<String, Order>) {
    for name in now.keys().filter(|name| !before.contains_key(*name)) {
        if !delivery.pause(name) {
            tracing::warn!(connector = name, "a connector is paused that this node does not have");
        }
    }
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        delivery.resume(name);
    }
}

/// An order of `by` that names nobody.
pub(super) fn order(by: &str, reason: &str, at: Timestamp) -> Order {
    Order { by: by.to_owned(), reason: reason.to_owned(), at: at.to_string(), node: None, boot: None }
}

/// Nodes that know different regions must not run together: who does not know one could hold its shards.
fn covered(regions: &Regions, kept: &BTreeSet<String>) -> Result<(), super::Error> {
    let missing: Vec<_> = kept.iter().filter(|name| !regions.serves(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(not_these(format!(
        "`{}` was served before and is not listed any more: what is bound to it would have no place; list it again",
        missing.join("`, `")
    )))
}

fn not_these(why: String) -> super::Error {
    super::Error::Setting { key: "cluster.regions", why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::memory::Memory;

    fn given() -> Order {
        order("ops", "the ERP is being moved", Timestamp(0))
    }

    #[tokio::test]
    async fn an_order_holds_for_whoever_looks_and_is_taken_back() {
        let journal: SharedJournal = Arc::new(Memory::new());
        let (here, there) = (Desk::new(journal.clone()), Desk::new(journal));
        here.give(About::Connector("erp"), Some(&given())).await.unwrap();
        here.give(About::Shard(ShardId(7)), Some(&Order { node: Some("b".into()), ..given() }))
            .await
            .unwrap();
        here.give(About::Placement, Some(&given())).await.unwrap();
        here.give(About::Node("c"), Some(&Order { boot: Some(3), ..given() })).await.unwrap();
        there.look().await.unwrap();
        let known = there.known();
        assert_eq!(known, here.known());
        assert_eq!(known.connectors["erp"].by, "ops");
        let placement = known.of_placement();
        assert!(placement.paused);
        assert_eq!(placement.pins[&ShardId(7)], NodeId("b".into()));
        let c = NodeId("c".into());
        assert!(known.drains(&c, 3) && !known.drains(&c, 4), "a restart ends it");
        here.give(About::Connector("erp"), None).await.unwrap();
        there.look().await.unwrap();
        assert!(there.known().connectors.is_empty());
    }

    #[test]
    fn what_other_parts_keep_is_no_order() {
        for key in ["cluster/region/eu", "balance:node-1"] {
            assert!(!is_order(key), "{key}");
        }
        for key in ["connector/erp/paused", "shard/7/pin", "node/c/drain", PLACEMENT, "of/another/version"] {
            assert!(is_order(key), "{key}");
        }
    }

    #[tokio::test]
    async fn a_region_that_was_served_stays_listed() {
        let journal: SharedJournal = Arc::new(Memory::new());
        let desk = Desk::new(journal);
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(desk.settle_regions(&[]).await.unwrap().is_empty());
        desk.settle_regions(&list(&["eu"])).await.unwrap();
        desk.settle_regions(&list(&["us", "eu"])).await.unwrap();
        let told = desk.settle_regions(&list(&["us"])).await.unwrap_err().to_string();
        assert!(told.contains("`cluster.regions`") && told.contains("`eu` was served before"), "{told}");
        assert_eq!(desk.kept_regions().await.unwrap().len(), 2);
        let told = desk.settle_regions(&list(&["jp", "us"])).await.unwrap_err().to_string();
        assert!(told.contains("`eu` was served before"), "{told}");
        assert_eq!(desk.kept_regions().await.unwrap().len(), 2, "who is refused adds nothing");
        desk.look().await.unwrap();
        assert_eq!(*desk.known(), Orders::default(), "it is no order");
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        let kept = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        let text = serde_json::to_string(&given()).unwrap();
        let orders = Orders::read(&BTreeMap::from([
            kept("connector/erp/paused", "yes"),
            kept("shard/many/pin", &text),
            kept("moon/phase", &text),
            kept("placement/paused", &text),
        ]));
        assert_eq!(orders, Orders { placement: Some(given()), ..Orders::default() });
    }
}

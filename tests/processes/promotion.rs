//! A replica that lacks the end, or everything, becomes the primary of three nodes that are at work: repaired, or loud.

use serde_json::json;

use crate::history::{Client, Load, What};
use crate::node::{Node, PATIENCE};
use crate::store::Store;
use crate::world::{Kind, World, all_ends_well, sandbox};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Orders that are acknowledged before the replica stops hearing of them, from then to its promotion, and after.
const IN_STEP: u64 = 8;
const BEHIND: u64 = 12;
const AFTER: u64 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn the_end_that_a_promoted_replica_lacks_is_written_again_by_the_nodes_that_held_it() {
    let sandbox = sandbox(1).await;
    let world = World::on(Store::group("redis"), Kind::Cluster, &NAMES, &sandbox, &[]).await;
    let (client, load) = (Client::new(&world.balancer.url()), Load::new());
    let promoting = async {
        load.more(IN_STEP).await;
        world.store.lock().await.part();
        load.more(BEHIND).await;
        world.store.lock().await.promote();
        load.more(AFTER).await;
        load.end();
    };
    let both = async { tokio::join!(client.send_orders(&load), promoting) };
    let both = tokio::time::timeout(PATIENCE, both).await;
    let (orders, ()) = both.unwrap_or_else(|_elapsed| panic!("it does not go on\n{}", world.told()));
    all_ends_well(1, &sandbox, &world, &orders, &client.history()).await;
    let alarms = |node: &Node| {
        let log = node.log();
        let again = log.lines().filter(|line| line.contains("they were written again"));
        again.filter(|line| line.contains("alarm")).count()
    };
    let alarms: usize = world.nodes.iter().map(alarms).sum();
    assert!(alarms > 0, "what was lost was repaired in silence\n{}", world.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_that_has_nothing_makes_its_shards_suspect_until_an_admin_accepts_it() {
    let sandbox = sandbox(1).await;
    let world = World::on(Store::group("redis"), Kind::Cluster, &NAMES, &sandbox, &[]).await;
    let client = Client::new(&world.balancer.url());
    let (load, again) = (Load::new(), Load::new());
    let some = async |load: &Load| {
        load.more(IN_STEP).await;
        load.end();
    };
    let (before, ()) = tokio::join!(client.send_orders(&load), some(&load));
    {
        let mut store = world.store.lock().await;
        store.part();
        store.servers[1].say(&["CONFIG", "SET", "replica-read-only", "no"]);
        store.servers[1].say(&["FLUSHALL"]);
        store.promote();
    }
    let suspects = async {
        loop {
            let status = world.ask("/v1/cluster").await.unwrap_or_default();
            let suspects = status["suspect"].as_array().map_or(0, Vec::len);
            if suspects == 256 {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let status = tokio::time::timeout(PATIENCE, suspects).await;
    let status = status.unwrap_or_else(|_elapsed| panic!("it is not loud\n{}", world.told()));
    assert!(
        status["suspect"][0]["why"].as_str().unwrap().contains("nothing of the shard is left"),
        "{status}"
    );
    for order in &before {
        let answer = client.send(order, What::Confirmed).await;
        assert_ne!(answer, Some(200), "a suspect shard acknowledges");
    }
    accept_all(&world).await;
    let both = async { tokio::join!(client.send_orders(&again), some(&again)) };
    let sent = tokio::time::timeout(PATIENCE, both).await;
    assert!(sent.is_ok(), "it does not go on\n{}", world.told());
}

/// As an admin does, shard by shard, at any node.
async fn accept_all(world: &World) {
    for shard in 0..256 {
        let accept = json!({"shard": shard, "reason": "a test has wiped it"});
        let accepted = world.nodes[shard % world.nodes.len()].tell("/v1/cluster/accept", &accept).await;
        assert!(accepted.is_ok(), "{shard}: {accepted:?}");
    }
}

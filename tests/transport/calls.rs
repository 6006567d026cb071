//! Requests, answers, and what a caller learns when there is none.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use syncline::transport::{Config, Error, Peer};
use syncline_actors::id::NodeId;
use tokio::time::Instant;

use super::net::{Net, Weather};
use super::world::{Node, SECOND, plan};

async fn pair(net: &Arc<Net>) -> (Arc<Node>, Node) {
    (Arc::new(plan("n1").start(net.clone()).await), plan("n2").start(net.clone()).await)
}

#[tokio::test]
async fn three_nodes_answer_each_other() {
    let net = Net::new();
    let mut nodes = Vec::new();
    for name in ["n1", "n2", "n3"] {
        nodes.push(plan(name).start(net.clone()).await);
    }
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.peer != from.peer) {
            let answer = from.ask(to, "hello").await.unwrap();
            assert_eq!(answer, format!("{} < {}: hello", to.peer.node, from.peer.node));
        }
    }
    let stats = nodes[0].transport.stats();
    assert_eq!((stats.connections_out, stats.connections_in), (2, 2));
    assert_eq!((stats.calls.answered, stats.handled, stats.in_flight_out, stats.in_flight_in), (2, 2, 0, 0));
    assert!(stats.bytes_sent > 0 && stats.bytes_received > 0, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_once_stay_within_the_bound_and_all_are_answered() {
    let net = Net::new();
    let few = |name| plan(name).with(|config| config.limits.in_flight_max = 64);
    let (one, two) = (Arc::new(few("n1").start(net.clone()).await), few("n2").start(net.clone()).await);
    let calls = (0..1_000).map(|n| {
        let (one, peer) = (one.clone(), two.peer.clone());
        tokio::spawn(async move {
            loop {
                match one.transport.call(&peer, format!("{n}").into(), 10 * SECOND).await {
                    Err(Error::Busy { retry_after, .. }) => tokio::time::sleep(retry_after).await,
                    ended => return (n, ended),
                }
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        let (n, ended) = call.await.unwrap();
        assert_eq!(ended.unwrap(), format!("n2 < n1: {n}"));
    }
    let most = two.desk.most.load(Ordering::Relaxed);
    assert!((32..=64).contains(&most), "{most} at the same time");
    let (asked, answered) = (one.transport.stats(), two.transport.stats());
    assert!(asked.calls.busy > 0, "{asked:?}");
    assert_eq!((asked.calls.answered, answered.handled, answered.turned_away), (1_000, 1_000, 0));
    assert!(asked.writes < asked.frames_sent / 2, "calls that wait leave together: {asked:?}");
}

#[tokio::test]
async fn the_side_that_answers_holds_its_own_bound() {
    let net = Net::new();
    let one = Arc::new(plan("n1").start(net.clone()).await);
    let two = plan("n2").with(|config| config.limits.in_flight_max = 1).start(net).await;
    let held = one.begin(&two, "hold").await;
    let busy = one.ask(&two, "x").await.unwrap_err();
    assert!(matches!(busy, Error::Busy { retry_after, .. } if retry_after > Duration::ZERO), "{busy:?}");
    two.desk.gate.add_permits(1);
    assert_eq!(held.await.unwrap().unwrap(), "held");
    one.ask(&two, "x").await.unwrap();
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_too() {
    let net = Net::new();
    let small = |config: &mut Config| {
        (config.limits.payload_max, config.limits.in_flight_bytes_max) = (100, 100);
    };
    let (one, two) = (plan("n1").with(small).start(net.clone()).await, plan("n2").start(net).await);
    let one = Arc::new(one);
    let held = one.begin(&two, "hold").await;
    let call = |bytes| one.transport.call(&two.peer, vec![b'x'; bytes].into(), SECOND);
    assert!(matches!(call(97).await, Err(Error::Busy { .. })), "4 bytes are held");
    assert!(matches!(call(101).await, Err(Error::TooLarge { bytes: 101, max: 100 })));
    two.desk.gate.add_permits(1);
    held.await.unwrap().unwrap();
    let too_long_with_its_prefix = call(97).await;
    assert!(matches!(too_long_with_its_prefix, Err(Error::Unknown { .. })), "{too_long_with_its_prefix:?}");
    call(50).await.unwrap();
}

#[tokio::test]
async fn a_slow_request_holds_up_nobody() {
    let (one, two) = pair(&Net::new()).await;
    let held = one.begin(&two, "hold").await;
    assert_eq!(one.ask(&two, "x").await.unwrap(), "n2 < n1: x");
    two.desk.gate.add_permits(1);
    assert_eq!(held.await.unwrap().unwrap(), "held");
}

#[tokio::test(start_paused = true)]
async fn the_calls_of_a_connection_that_dies_end_at_once_as_unknown() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    let held = one.begin(&two, "hold").await;
    let before = Instant::now();
    net.set(Weather::Broken);
    let ended = held.await.unwrap();
    assert!(matches!(&ended, Err(Error::Unknown { why, .. }) if why.contains("closed")), "{ended:?}");
    assert!(before.elapsed() < SECOND / 10, "{:?}", before.elapsed());
    net.set(Weather::Fair);
    one.ask(&two, "x").await.expect("a new connection is opened");
}

#[tokio::test(start_paused = true)]
async fn the_calls_to_a_node_that_stops_end_at_once_as_unknown() {
    let (one, two) = pair(&Net::new()).await;
    let held = one.begin(&two, "hold").await;
    let before = Instant::now();
    let peer = two.peer.clone();
    drop(two);
    let ended = held.await.unwrap();
    assert!(matches!(&ended, Err(Error::Unknown { .. })), "{ended:?}");
    let after = one.ask_within(&peer, "x", SECOND).await;
    assert!(matches!(&after, Err(Error::NotSent { .. })), "{after:?}");
    assert!(before.elapsed() < SECOND / 10, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_given_up_before_the_deadline() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    let held = one.begin(&two, "hold").await;
    tokio::time::sleep(5 * SECOND).await;
    assert!(!held.is_finished(), "pings keep a connection that only waits");
    net.set(Weather::Frozen);
    let before = Instant::now();
    let ended = held.await.unwrap();
    assert!(matches!(&ended, Err(Error::Unknown { why, .. }) if why.contains("heard")), "{ended:?}");
    assert!(before.elapsed() <= 2 * SECOND, "{:?}", before.elapsed());
    let mut there = two.desk.now.subscribe();
    there.wait_for(|now| *now == 1).await.expect("a handler is never broken off");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_stays() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    one.ask(&two, "x").await.unwrap();
    tokio::time::sleep(600 * SECOND).await;
    one.ask(&two, "x").await.unwrap();
    assert_eq!(net.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_replaced() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    one.ask(&two, "x").await.unwrap();
    tokio::time::sleep(3_601 * SECOND).await;
    one.ask(&two, "x").await.unwrap();
    assert_eq!(net.attempts(), 2);
    tokio::time::sleep(SECOND).await;
    assert_eq!((one.transport.stats().connections_out, two.transport.stats().connections_in), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_listens_calls_fail_at_once_and_nobody_knocks_all_the_time() {
    let net = Net::new();
    let one = plan("n1").start(net.clone()).await;
    let nobody = Peer { node: NodeId("n9".into()), address: "127.0.0.1:9".parse().unwrap() };
    let before = Instant::now();
    for _ in 0..1_000 {
        let ended = one.ask_within(&nobody, "x", SECOND).await;
        assert!(matches!(&ended, Err(Error::NotSent { .. })), "{ended:?}");
    }
    assert_eq!((before.elapsed(), net.attempts()), (Duration::ZERO, 1));
    while before.elapsed() < 10 * SECOND {
        one.ask_within(&nobody, "x", SECOND).await.unwrap_err();
        tokio::time::sleep(SECOND / 100).await;
    }
    assert!((6..=20).contains(&net.attempts()), "pauses double up to 2 s: {}", net.attempts());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_is_found_again() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    one.ask(&two, "x").await.unwrap();
    let at = two.peer.address;
    drop(two);
    let gone = Peer { node: NodeId("n2".into()), address: at };
    tokio::time::sleep(SECOND).await;
    one.ask_within(&gone, "x", SECOND).await.unwrap_err();
    let later = |config: &mut Config| (config.listen, config.boot) = (at, 2);
    let two = plan("n2").with(later).start(net.clone()).await;
    tokio::time::sleep(SECOND / 10).await;
    one.ask(&two, "x").await.unwrap();
}

#[tokio::test]
async fn a_node_that_has_moved_is_asked_at_its_new_address_at_once() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    let wrong = Peer { address: "127.0.0.1:9".parse().unwrap(), ..two.peer.clone() };
    one.ask_within(&wrong, "x", SECOND).await.unwrap_err();
    one.ask(&two, "x").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_while_the_peer_works_is_unknown() {
    let (one, two) = pair(&Net::new()).await;
    let before = Instant::now();
    let ended = one.ask_within(&two.peer, "hold", SECOND).await;
    assert!(matches!(&ended, Err(Error::Unknown { why, .. }) if why.contains("deadline")), "{ended:?}");
    assert_eq!(before.elapsed(), SECOND);
    two.desk.gate.add_permits(1);
    two.desk.now.subscribe().wait_for(|now| *now == 0).await.unwrap();
    assert_eq!(one.ask(&two, "x").await.unwrap(), "n2 < n1: x", "a late answer is nobody else's");
    assert_eq!(one.transport.stats().in_flight_out, 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_before_anything_is_sent_is_not_sent() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    net.set(Weather::Frozen);
    let ended = one.ask_within(&two.peer, "x", SECOND).await;
    assert!(matches!(&ended, Err(Error::NotSent { .. })), "{ended:?}");
    net.set(Weather::Fair);
    one.ask(&two, "x").await.expect("the attempt went on without its first caller");
    let ended = one.ask_within(&two.peer, "x", Duration::ZERO).await;
    assert!(matches!(&ended, Err(Error::NotSent { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_caller_that_leaves_gives_its_place_back() {
    let net = Net::new();
    let one = Arc::new(plan("n1").with(|config| config.limits.in_flight_max = 1).start(net.clone()).await);
    let two = plan("n2").start(net).await;
    let held = one.begin(&two, "hold").await;
    held.abort();
    assert!(held.await.unwrap_err().is_cancelled());
    assert_eq!(one.transport.stats().in_flight_out, 0);
    assert_eq!(one.ask(&two, "x").await.unwrap(), "n2 < n1: x");
}

#[tokio::test]
async fn a_handler_that_panics_or_says_too_much_ends_one_call() {
    let (one, two) = pair(&Net::new()).await;
    for payload in ["panic", "large"] {
        let ended = one.ask(&two, payload).await;
        assert!(matches!(&ended, Err(Error::Unknown { why, .. }) if why.contains("handler")), "{ended:?}");
    }
    assert_eq!(one.ask(&two, "x").await.unwrap(), "n2 < n1: x");
    assert_eq!(two.transport.stats().in_flight_in, 0);
}

#[tokio::test]
async fn the_smaller_payload_limit_of_two_nodes_holds() {
    let net = Net::new();
    let one = plan("n1").start(net.clone()).await;
    let two = plan("n2").with(|config| config.limits.payload_max = 1_000).start(net).await;
    let call = |bytes: usize| one.transport.call(&two.peer, Bytes::from(vec![0; bytes]), SECOND);
    assert_eq!(call(1_001).await, Err(Error::TooLarge { bytes: 1_001, max: 1_000 }));
    assert_eq!(call(2 << 20).await, Err(Error::TooLarge { bytes: 2 << 20, max: 1 << 20 }));
    call(900).await.unwrap();
    assert_eq!(one.transport.stats().calls.too_large, 2);
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_in_hand_and_takes_nothing_more() {
    let (one, two) = pair(&Net::new()).await;
    let held = one.begin(&two, "hold").await;
    assert!(!two.transport.drain(SECOND).await, "one is in hand");
    let ended = one.ask(&two, "x").await;
    assert!(matches!(&ended, Err(Error::NotSent { why, .. }) if why.contains("draining")), "{ended:?}");
    assert_eq!(two.ask(&one, "x").await.unwrap(), "n1 < n2: x", "a node that drains may still ask");
    two.desk.gate.add_permits(1);
    assert!(two.transport.drain(SECOND).await);
    assert_eq!(held.await.unwrap().unwrap(), "held");
}

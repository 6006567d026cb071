//! What comes over a connection whose other end is no node: first words, made by hand, and bytes that mean nothing.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use syncline::transport::{Error, Network, Peer, Refusal, Versions};
use syncline_actors::id::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::net::Net;
use super::world::{SECOND, plan, refusal};

/// The first word of a node.
pub(crate) fn hello(cluster: &str, node: &str, (min, max): (u16, u16), boot: u64) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u16(min);
    body.put_u16(max);
    body.put_u64(boot);
    body.put_u32(1 << 20);
    for name in [cluster, node] {
        body.put_u8(u8::try_from(name.len()).unwrap());
        body.put_slice(name.as_bytes());
    }
    let mut word = BytesMut::from(&b"SYNT\x01"[..]);
    word.put_u16(u16::try_from(body.len()).unwrap());
    word.put_slice(&body);
    word.put_u32(crc32c::crc32c(&word));
    word
}

/// Reads a refusal: its number and text.
pub(crate) async fn refused(stream: &mut (impl AsyncRead + Unpin)) -> (u8, String) {
    let mut header = [0; 7];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(&header[..5], b"SYNT\x02", "no refusal");
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[5], header[6]]))];
    stream.read_exact(&mut body).await.unwrap();
    (body[0], String::from_utf8(body[1..].to_vec()).unwrap())
}

fn frame(kind: u8, id: u64, millis: u32, payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_u8(kind);
    frame.put_u64(id);
    frame.put_u32(millis);
    frame.put_u32(u32::try_from(payload.len()).unwrap());
    frame.put_slice(payload);
    frame.put_u32(crc32c::crc32c(&frame));
    frame
}

#[tokio::test]
async fn versions_that_overlap_speak_and_others_name_both_ranges() {
    let net = Net::new();
    let of = |name, min, max| plan(name).with(move |config| config.versions = Versions { min, max });
    let old = of("n1", 1, 1).start(net.clone()).await;
    let next = of("n2", 1, 2).start(net.clone()).await;
    let far = of("n3", 2, 3).start(net).await;
    old.ask(&next, "x").await.unwrap();
    next.ask(&old, "x").await.unwrap();
    next.ask(&far, "x").await.unwrap();
    for ended in [old.ask(&far, "x").await, far.ask(&old, "x").await] {
        let (kind, why) = refusal(ended);
        assert_eq!(kind, Refusal::Version);
        assert!(why.contains("1 to 1") && why.contains("2 to 3") && why.contains("n1"), "{why}");
    }
}

#[tokio::test]
async fn another_cluster_is_refused_with_both_names() {
    let net = Net::new();
    let one = plan("n1").start(net.clone()).await;
    let two = plan("n2").with(|config| config.cluster = "test".to_owned()).start(net).await;
    let (kind, why) = refusal(one.ask(&two, "x").await);
    assert_eq!(kind, Refusal::Cluster);
    assert!(why.contains("`prod`") && why.contains("`test`"), "{why}");
}

#[tokio::test]
async fn another_node_at_the_address_is_not_asked() {
    let net = Net::new();
    let (one, three) = (plan("n1").start(net.clone()).await, plan("n3").start(net).await);
    let wrong = Peer { node: NodeId("n2".into()), address: three.peer.address };
    let (kind, why) = refusal(one.ask_within(&wrong, "x", SECOND).await);
    assert_eq!(kind, Refusal::Name);
    assert!(why.contains("n3") && why.contains("n2"), "{why}");
}

#[tokio::test]
async fn two_nodes_of_one_name_are_told() {
    let net = Net::new();
    let one = plan("n1").start(net.clone()).await;
    let twin = plan("n1").with(|config| config.boot = 9).start(net).await;
    let (kind, why) = refusal(one.ask(&twin, "x").await);
    assert_eq!(kind, Refusal::Name);
    assert!(why.contains("own name"), "{why}");
}

#[tokio::test]
async fn a_ghost_is_refused_and_a_later_life_ends_its_connections() {
    let net = Net::new();
    let (one, old) = (plan("n1").start(net.clone()).await, plan("n2").start(net.clone()).await);
    old.ask(&one, "x").await.unwrap();
    let again = plan("n2").with(|config| config.boot = 2).start(net).await;
    again.ask(&one, "x").await.unwrap();
    let ended = async {
        loop {
            match old.ask(&one, "x").await {
                Err(Error::Refused { refusal: Refusal::Life, why, .. }) => return why,
                // Until its old connection has been closed.
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let why = tokio::time::timeout(10 * SECOND, ended).await.unwrap();
    assert!(why.contains("life 2") && why.contains("n2"), "{why}");
    again.ask(&one, "x").await.expect("the living node is heard");
}

#[tokio::test]
async fn bytes_that_mean_nothing_end_their_connection_and_nothing_else() {
    let net = Net::new();
    let (one, two) = (plan("n1").start(net.clone()).await, plan("n2").start(net.clone()).await);
    let hello = |node| hello("prod", node, (1, 1), 1);
    let after_hello = |bytes: &[u8]| [&hello("n7")[..], bytes].concat();
    let mut broken = frame(1, 1, 1_000, b"x");
    broken[18] ^= 1;
    for bytes in [
        vec![0; 5_000],
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"SYNT\x01\xff\xff".to_vec(),
        hello("n\n7").to_vec(),
        after_hello(&[0xff; 40]),
        after_hello(&frame(1, 1, 1_000, &vec![0; 2 << 20])[..17]),
        after_hello(&broken),
        after_hello(&frame(2, 1, 0, b"an answer that nobody asked for")),
    ] {
        let mut stream = net.connect(one.peer.address).await.unwrap();
        let _it_may_be_closed = stream.write_all(&bytes).await;
        let mut said = Vec::new();
        tokio::time::timeout(SECOND, stream.read_to_end(&mut said)).await.expect("it is closed").unwrap();
        two.ask(&one, "x").await.unwrap();
    }
    assert_eq!(one.transport.stats().handled, 8);
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_is_not_kept() {
    let net = Net::new();
    let one = plan("n1").start(net.clone()).await;
    let mut silent = net.connect(one.peer.address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0, "no hello");
    let mut idle = net.connect(one.peer.address).await.unwrap();
    idle.write_all(&hello("prod", "n7", (1, 1), 1)).await.unwrap();
    let mut said = Vec::new();
    idle.read_to_end(&mut said).await.unwrap();
    assert!(said.starts_with(b"SYNT\x01"), "the hello was answered, then nothing came");
    assert_eq!(one.transport.stats().connections_in, 0);
}

#[tokio::test]
async fn a_request_that_comes_too_late_is_not_begun() {
    let net = Net::new();
    let one = plan("n1").start(net.clone()).await;
    let mut stream = net.connect(one.peer.address).await.unwrap();
    stream.write_all(&hello("prod", "n7", (1, 1), 1)).await.unwrap();
    stream.write_all(&frame(1, 77, 0, b"x")).await.unwrap();
    let mut said = vec![0; hello("prod", "n1", (1, 1), 1).len()];
    stream.read_exact(&mut said).await.unwrap();
    let late = frame(5, 77, 0, b"");
    let mut said = vec![0; late.len()];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(said, late);
    let stats = one.transport.stats();
    assert_eq!((stats.handled, stats.turned_away, stats.in_flight_in), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn places_for_connections_are_bounded_and_come_back() {
    let net = Net::new();
    let one = plan("n1").with(|config| config.limits.connections_max = 2).start(net.clone()).await;
    let two = plan("n2").start(net.clone()).await;
    let silent = [net.connect(one.peer.address).await.unwrap(), net.connect(one.peer.address).await.unwrap()];
    tokio::task::yield_now().await;
    let ended = two.ask_within(&one.peer, "x", SECOND).await;
    assert!(matches!(&ended, Err(Error::NotSent { .. })), "{ended:?}");
    // The next call may share the attempt that still waits for a place.
    let answered = async {
        while two.ask(&one, "x").await.is_err() {
            tokio::time::sleep(SECOND / 10).await;
        }
    };
    tokio::time::timeout(20 * SECOND, answered).await.expect("who says nothing loses its place");
    drop(silent);
    let _unused: Arc<Net> = net;
}

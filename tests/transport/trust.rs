//! Mutual TLS over TCP: who is let in, who is not and what is said, and certificates that change while nodes run.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use syncline::clock::Clock;
use syncline::transport::{Error, Network, Peer, Refusal, StartError, Tcp};
use syncline_actors::id::NodeId;
use syncline_actors::time::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::authority::{Authority, Place, client};
use super::strangers::{hello, refused};
use super::world::{Node, Plan, SECOND, plan, refusal, until};

fn with(name: &str, place: &Place) -> Plan {
    Plan { tls: Some(place.files()), ..plan(name) }
}

async fn start(name: &str, place: &Place) -> Node {
    with(name, place).start(Arc::new(Tcp)).await
}

async fn fails(name: &str, place: &Place) -> String {
    with(name, place).try_start(Arc::new(Tcp)).await.map(|_| ()).unwrap_err().to_string()
}

/// A clock that stands.
#[derive(Debug)]
struct Standing(&'static str);

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::parse(self.0).unwrap()
    }
}

#[tokio::test]
async fn three_nodes_of_one_authority_answer_each_other() {
    let ca = Authority::new("prod");
    let places = ["n1", "n2", "n3"].map(|name| ca.files(name));
    let nodes = [start("n1", &places[0]).await, start("n2", &places[1]).await, start("n3", &places[2]).await];
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.peer != from.peer) {
            let answer = from.ask(to, "hello").await.unwrap();
            assert_eq!(answer, format!("{} < {}: hello", to.peer.node, from.peer.node));
        }
    }
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused_on_both_sides() {
    let (ca, other) = (Authority::new("prod"), Authority::new("other"));
    let (place, foreign) = (ca.files("n1"), other.files("n2"));
    let (one, two) = (start("n1", &place).await, start("n2", &foreign).await);
    let (kind, why) = refusal(one.ask(&two, "x").await);
    assert_eq!(kind, Refusal::Certificate);
    assert!(why.contains("authority that is not in the ca file"), "{why}");

    // It trusts us, but we do not trust it: the other side says so.
    foreign.write("ca.pem", &(other.pem() + &ca.pem()));
    assert!(two.transport.reload().unwrap());
    let (kind, why) = refusal(two.ask(&one, "x").await);
    assert_eq!(kind, Refusal::Certificate);
    assert!(why.contains("UnknownCA"), "{why}");
    until(|| one.transport.stats().refused == 1).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_by_name() {
    let ca = Authority::new("both");
    let (place, test) = (ca.files("n1"), Place::new(&ca.pem(), &ca.issue("n2.test")));
    let one = start("n1", &place).await;
    let two = with("n2", &test).with(|config| config.cluster = "test".to_owned()).start(Arc::new(Tcp)).await;
    let (kind, why) = refusal(one.ask(&two, "x").await);
    assert_eq!(kind, Refusal::Certificate);
    assert!(why.contains("n2.test") && why.contains("`n2.prod`"), "{why}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_both_sides() {
    let ca = Authority::new("prod");
    let old = Place::new(&ca.pem(), &ca.issue_until("n1.prod", 2030));
    let good = ca.files("n2");
    let in_2029 = Plan { clock: Arc::new(Standing("2029-12-31T23:59:00Z")), ..with("n1", &old) };
    let in_2030 = Plan { clock: Arc::new(Standing("2030-01-01T00:01:00Z")), ..with("n2", &good) };
    let (one, two) = (in_2029.start(Arc::new(Tcp)).await, in_2030.start(Arc::new(Tcp)).await);
    let (kind, why) = refusal(two.ask(&one, "x").await);
    assert_eq!((kind, why.as_str()), (Refusal::Certificate, "the certificate has expired"));
    let (kind, why) = refusal(one.ask(&two, "x").await);
    assert_eq!(kind, Refusal::Certificate);
    assert!(why.contains("CertificateExpired"), "{why}");
}

#[tokio::test]
async fn whoever_answers_must_be_the_node_that_is_meant() {
    let ca = Authority::new("prod");
    let places = ["n1", "n3"].map(|name| ca.files(name));
    let (one, three) = (start("n1", &places[0]).await, start("n3", &places[1]).await);
    let old_address = Peer { node: NodeId("n2".into()), address: three.peer.address };
    let (kind, why) = refusal(one.ask_within(&old_address, "x", SECOND).await);
    assert_eq!(kind, Refusal::Certificate);
    assert!(why.contains("n3.prod") && why.contains("`n2.prod`"), "{why}");
}

#[tokio::test]
async fn whoever_calls_must_be_the_node_that_it_says() {
    let ca = Authority::new("prod");
    let place = ca.files("n1");
    let one = start("n1", &place).await;
    for (pair, said, expected) in [
        (ca.issue("n3.prod"), "n2", "names [n3.prod"),
        (ca.issue("n2.test"), "n2", "names [n2.test"),
        (ca.issue("*.prod"), "n2", ""),
        (ca.issue("*.eu.prod"), "n2.eu", "cannot stand in a certificate"),
    ] {
        let stream = Tcp.connect(one.peer.address).await.unwrap();
        let name = ServerName::try_from("n1.prod").unwrap();
        let mut stream = client(&ca.pem(), Some(&pair)).connect(name, stream).await.unwrap();
        stream.write_all(&hello("prod", said, (1, 1), 1)).await.unwrap();
        let (kind, why) = refused(&mut stream).await;
        assert_eq!(kind, 4, "{why}");
        assert!(why.contains(expected), "{why}");
    }
}

#[tokio::test]
async fn a_wildcard_is_no_name() {
    let ca = Authority::new("prod");
    let in_eu = |config: &mut syncline::transport::Config| config.cluster = "prod.eu".to_owned();
    let wild = Place::new(&ca.pem(), &ca.issue("*.prod.eu"));
    let why =
        with("n1", &wild).with(in_eu).try_start(Arc::new(Tcp)).await.map(|_| ()).unwrap_err().to_string();
    assert!(why.contains("any node") && why.contains("`n1.prod.eu`"), "{why}");
}

#[tokio::test]
async fn without_a_certificate_nobody_is_heard() {
    let ca = Authority::new("prod");
    let place = ca.files("n1");
    let one = start("n1", &place).await;
    let stream = Tcp.connect(one.peer.address).await.unwrap();
    let name = ServerName::try_from("n1.prod").unwrap();
    let mut stream = client(&ca.pem(), None).connect(name, stream).await.unwrap();
    stream.write_all(&hello("prod", "n2", (1, 1), 1)).await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");

    let mut plain = Tcp.connect(one.peer.address).await.unwrap();
    plain.write_all(&hello("prod", "n2", (1, 1), 1)).await.unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).await.unwrap();
    assert!(said.len() < 16, "an alert at most: {said:?}");
}

#[tokio::test]
async fn a_node_without_tls_and_one_with_it_do_not_speak() {
    let ca = Authority::new("prod");
    let place = ca.files("n1");
    let (one, plain) = (start("n1", &place).await, plan("n2").start(Arc::new(Tcp)).await);
    let brief = |node: &Node| Peer { ..node.peer.clone() };
    let ended = one.ask_within(&brief(&plain), "x", 10 * SECOND).await;
    assert!(matches!(&ended, Err(Error::NotSent { .. } | Error::Refused { .. })), "{ended:?}");
    let ended = plain.ask_within(&brief(&one), "x", 10 * SECOND).await;
    assert!(matches!(&ended, Err(Error::NotSent { .. })), "{ended:?}");
}

#[tokio::test]
async fn plain_bytes_never_leave_the_machine() {
    let open = |config: &mut syncline::transport::Config| config.listen = "0.0.0.0:0".parse().unwrap();
    let refused = plan("n1").with(open).try_start(Arc::new(Tcp)).await.map(|_| ());
    assert!(matches!(&refused, Err(StartError::Plain(_))), "{refused:?}");
    let one = plan("n1").start(Arc::new(Tcp)).await;
    let far = Peer { node: NodeId("n2".into()), address: "192.0.2.1:7000".parse().unwrap() };
    let (kind, why) = refusal(one.ask_within(&far, "x", SECOND).await);
    assert_eq!(kind, Refusal::Plain);
    assert!(why.contains("192.0.2.1:7000"), "{why}");
}

#[tokio::test]
async fn files_that_peers_would_refuse_are_refused_at_the_start() {
    let (ca, other) = (Authority::new("prod"), Authority::new("other"));
    let good = ca.issue("n1.prod");
    let place = Place::new(&ca.pem(), &ca.issue("n2.prod"));
    let why = fails("n1", &place).await;
    assert!(why.contains("cert.pem") && why.contains("n2.prod") && why.contains("`n1.prod`"), "{why}");
    place.replace(&other.issue("n1.prod"));
    assert!(fails("n1", &place).await.contains("authority that is not in the ca file"));
    place.replace(&ca.issue_until("n1.prod", 2021));
    assert!(fails("n1", &place).await.contains("has expired"));
    place.replace(&good);
    place.write("key.pem", &ca.issue("n1.prod").key);
    assert!(fails("n1", &place).await.contains("does not belong to the certificate"));
    place.write("key.pem", "nothing");
    assert!(fails("n1", &place).await.contains("PRIVATE KEY"));
    std::fs::remove_file(place.path().join("ca.pem")).unwrap();
    assert!(fails("n1", &place).await.contains("ca.pem"));
    place.write("ca.pem", &ca.pem());
    place.replace(&good);
    assert!(fails("N1", &place).await.contains("`N1` cannot stand in a certificate"));
    start("n1", &place).await;
}

#[tokio::test]
async fn certificates_that_are_replaced_are_used_for_new_connections() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let places = ["n1", "n2"].map(|name| old.files(name));
    let (one, two) = (start("n1", &places[0]).await, start("n2", &places[1]).await);
    one.ask(&two, "x").await.unwrap();
    assert!(!two.transport.reload().unwrap(), "nothing has changed");

    // Half of a pair, as when the files are being written: the former pair stays in use.
    let pair = new.issue("n2.prod");
    places[1].write("ca.pem", &(old.pem() + &new.pem()));
    places[1].write("cert.pem", &pair.cert);
    let why = two.transport.reload().unwrap_err().to_string();
    assert!(why.contains("does not belong"), "{why}");
    let third = old.files("n3");
    start("n3", &third).await.ask(&two, "x").await.expect("the former pair is in use");

    places[1].replace(&pair);
    assert!(two.transport.reload().unwrap());
    let fourth = new.files("n4");
    start("n4", &fourth).await.ask(&two, "x").await.expect("the new pair is in use");
    one.ask(&two, "x").await.expect("the old connection stays");
    assert_eq!(one.transport.stats().connections_out, 1);
}

#[tokio::test]
async fn replaced_files_are_found_without_being_told() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (place, other) = (old.files("n1"), new.files("n2"));
    let quick = |config: &mut syncline::transport::Config| {
        config.limits.reload_every = Duration::from_millis(20);
        config.limits.backoff_max = Duration::from_millis(20);
    };
    let one = with("n1", &place).with(quick).start(Arc::new(Tcp)).await;
    let two = with("n2", &other).with(quick).start(Arc::new(Tcp)).await;
    refusal(two.ask(&one, "x").await);
    place.write("ca.pem", &new.pem());
    place.replace(&new.issue("n1.prod"));
    let answered = async {
        while two.ask(&one, "x").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(20 * SECOND, answered).await.expect("the new files are found");
}

#[tokio::test]
async fn a_thousand_calls_at_once_over_tls_are_all_answered() {
    let ca = Authority::new("prod");
    let places = ["n1", "n2"].map(|name| ca.files(name));
    let (one, two) = (Arc::new(start("n1", &places[0]).await), start("n2", &places[1]).await);
    let calls = (0..1_000).map(|n| {
        let (one, peer) = (one.clone(), two.peer.clone());
        let payload = format!("{n} {}", "x".repeat(n));
        tokio::spawn(async move {
            let answer = one.transport.call(&peer, payload.clone().into(), 30 * SECOND).await.unwrap();
            assert_eq!(answer, format!("n2 < n1: {payload}"));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let stats = one.transport.stats();
    assert_eq!((stats.calls.answered, stats.connections_out), (1_000, 1));
}

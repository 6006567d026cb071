//! The listener, as clients meet it: over raw TCP, with good and bad manners.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use syncline::serve::{Ending, Limits, Listener};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here takes; a test that needs it has failed.
const LONG: Duration = Duration::from_secs(20);

const LIMITS: Limits = Limits { header_timeout: LONG, request_timeout: LONG, connections_max: 64 };

const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";

/// A listener that serves until it is told to stop.
struct Running {
    address: SocketAddr,
    ending: watch::Sender<Ending>,
    ended: JoinHandle<bool>,
}

impl Running {
    async fn start(router: Router, limits: Limits, drain_for: Duration) -> Self {
        Self::serve(listener(None).await, router, limits, drain_for)
    }

    fn serve(listener: Listener, router: Router, limits: Limits, drain_for: Duration) -> Self {
        let address = listener.address();
        let (ending, seen) = watch::channel(Ending::Not);
        let ended = tokio::spawn(listener.serve(router, limits, seen, drain_for));
        Self { address, ending, ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }

    /// Stops it; whether all connections ended in time.
    async fn stop(self) -> bool {
        self.ending.send(Ending::Now).expect("it runs");
        timeout(LONG, self.ended).await.expect("it ends").expect("it does not panic")
    }
}

async fn listener(tls: Option<(&Path, &Path)>) -> Listener {
    Listener::bind(([127, 0, 0, 1], 0).into(), tls).await.expect("a port is free")
}

fn hello() -> Router {
    Router::new().route("/hello", get(async || "hello"))
}

/// A route that says when it is asked and answers when it is told.
fn gated() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (asked, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ask, tell) = (asked.clone(), told.clone());
    let handler = async move || {
        ask.notify_one();
        tell.notified().await;
        "done"
    };
    (Router::new().route("/hello", get(handler)), asked, told)
}

/// All that comes until the connection is closed.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the connection is closed") {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8(bytes).expect("it is text")
}

async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(REQUEST).await.expect("it listens");
    rest(stream).await
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_headers_is_cut() {
    let limits = Limits { header_timeout: Duration::from_millis(100), ..LIMITS };
    let running = Running::start(hello(), limits, LONG).await;
    for sent in ["", "P", "PRI * HTTP/2.0\r\n", "GET /hello HTTP/1.1\r\nX-Slow: ", "GET"] {
        let mut stream = running.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(!answer.contains("200"), "{sent:?}: {answer}");
    }
    assert!(ask(&mut running.connect().await).await.ends_with("hello"));
    assert!(running.stop().await);
}

#[tokio::test]
async fn connections_over_the_cap_wait_and_are_then_served() {
    let (router, asked, told) = gated();
    let limits = Limits { connections_max: 1, ..LIMITS };
    let running = Running::start(router, limits, LONG).await;
    let mut first = running.connect().await;
    first.write_all(REQUEST).await.unwrap();
    asked.notified().await;
    let mut second = running.connect().await;
    second.write_all(REQUEST).await.unwrap();
    assert!(timeout(Duration::from_millis(100), asked.notified()).await.is_err(), "it did not wait");
    told.notify_one();
    assert!(rest(&mut first).await.ends_with("done"));
    asked.notified().await;
    told.notify_one();
    assert!(rest(&mut second).await.ends_with("done"));
}

#[tokio::test]
async fn a_request_past_its_deadline_is_answered_with_503() {
    let (router, asked, _told) = gated();
    let limits = Limits { request_timeout: Duration::from_millis(50), ..LIMITS };
    let running = Running::start(router, limits, LONG).await;
    let answer = ask(&mut running.connect().await).await.to_ascii_lowercase();
    asked.notified().await;
    assert!(answer.starts_with("http/1.1 503"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 2\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
    assert!(answer.contains("no answer after 50ms"), "{answer}");
}

#[tokio::test]
async fn a_handler_that_panics_answers_500_and_serves_on() {
    async fn panics() -> &'static str {
        panic!("on purpose")
    }
    let router = hello().route("/broken", get(panics));
    let running = Running::start(router, LIMITS, LONG).await;
    let mut stream = running.connect().await;
    stream.write_all(b"GET /broken HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("#broken"), "{answer}");
    assert!(ask(&mut running.connect().await).await.ends_with("hello"));
}

#[tokio::test]
async fn draining_ends_what_is_in_flight_and_refuses_what_is_new() {
    let (router, asked, told) = gated();
    let running = Running::start(router, LIMITS, LONG).await;
    let mut stream = running.connect().await;
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
    asked.notified().await;
    let mut idle = running.connect().await;
    running.ending.send(Ending::Now).unwrap();
    assert_eq!(rest(&mut idle).await, "", "who asked for nothing is let go");
    assert!(TcpStream::connect(running.address).await.is_err(), "it still listens");
    told.notify_one();
    assert!(rest(&mut stream).await.ends_with("done"), "the connection is closed after the answer");
    assert!(timeout(LONG, running.ended).await.unwrap().unwrap());
}

#[tokio::test]
async fn with_the_end_near_all_is_served_and_each_answer_sends_its_client_elsewhere() {
    const KEPT: &[u8] = b"GET /hello HTTP/1.1\r\nHost: here\r\n\r\n";
    let running = Running::start(hello(), LIMITS, LONG).await;
    let mut before = running.connect().await;
    before.write_all(KEPT).await.unwrap();
    let mut answer = [0; 256];
    let first = timeout(LONG, before.read(&mut answer)).await.expect("it is answered").unwrap();
    assert!(!String::from_utf8_lossy(&answer[..first]).contains("close"), "the connection stays");
    running.ending.send(Ending::Soon).unwrap();
    for mut stream in [before, running.connect().await] {
        stream.write_all(KEPT).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    }
    assert!(running.stop().await);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let (router, asked, _told) = gated();
    let running = Running::start(router, LIMITS, Duration::from_millis(50)).await;
    let mut stream = running.connect().await;
    stream.write_all(REQUEST).await.unwrap();
    asked.notified().await;
    assert!(!running.stop().await);
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_request_carries_the_address_of_its_peer() {
    let handler = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
    let running = Running::start(Router::new().route("/hello", get(handler)), LIMITS, LONG).await;
    let mut stream = running.connect().await;
    let own = stream.local_addr().unwrap().to_string();
    assert!(ask(&mut stream).await.ends_with(&own));
}

#[tokio::test]
async fn an_address_in_use_is_explained() {
    let first = listener(None).await;
    let error = Listener::bind(first.address(), None).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{} is in use: another process listens there; set http.listen to another port or stop the other process",
            first.address()
        )
    );
    let error = Listener::bind("192.0.2.1:7171".parse().unwrap(), None).await.unwrap_err().to_string();
    assert!(
        error.starts_with("192.0.2.1:7171 is not an address of this machine; set http.listen"),
        "{error}"
    );
}

/// A certificate for `localhost` and its key, in files.
struct Pair {
    dir: tempfile::TempDir,
    pem: String,
}

impl Pair {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("it is a name");
        let dir = tempfile::tempdir().expect("there is room");
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).expect("there is room");
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).expect("there is room");
        Self { dir, pem: made.cert.pem() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn connector(&self, alpn: &[&[u8]]) -> tokio_rustls::TlsConnector {
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};
        let mut roots = rustls::RootCertStore::empty();
        let cert = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("it was just made");
        roots.add(cert).expect("it was just made");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        tokio_rustls::TlsConnector::from(Arc::new(config))
    }
}

#[tokio::test]
async fn tls_speaks_http_2_and_http_1() {
    let pair = Pair::new();
    let listener = listener(Some((&pair.path("cert.pem"), &pair.path("key.pem")))).await;
    let running = Running::serve(listener, hello(), LIMITS, LONG);
    let name = ServerName::try_from("localhost").unwrap();

    let old = pair.connector(&[b"http/1.1"]);
    let mut stream = old.connect(name.clone(), running.connect().await).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hello"), "{answer}");

    let new = pair.connector(&[b"h2", b"http/1.1"]);
    let stream = new.connect(name, running.connect().await).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("https://localhost/hello").body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = send.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert!(running.stop().await, "an idle HTTP/2 connection is told to go");
    timeout(LONG, connection).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut() {
    let pair = Pair::new();
    let listener = listener(Some((&pair.path("cert.pem"), &pair.path("key.pem")))).await;
    let limits = Limits { header_timeout: Duration::from_millis(50), ..LIMITS };
    let running = Running::serve(listener, hello(), limits, LONG);
    assert_eq!(rest(&mut running.connect().await).await, "");
}

#[tokio::test]
async fn files_that_are_no_certificate_or_key_are_explained() {
    let pair = Pair::new();
    let (cert, key) = (pair.path("cert.pem"), pair.path("key.pem"));
    let (other, empty, locked) = (Pair::new(), pair.path("empty.pem"), pair.path("locked.pem"));
    std::fs::write(&empty, "").unwrap();
    let block = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(&locked, block).unwrap();
    for (cert, key, place, said) in [
        (&cert, &pair.path("none.pem"), "http.tls.key", "check the path and who may read it"),
        (&cert, &empty, "http.tls.key", "no PEM block `BEGIN PRIVATE KEY`"),
        (&cert, &cert, "http.tls.key", "no PEM block `BEGIN PRIVATE KEY`"),
        (&cert, &locked, "http.tls.key", "decrypt it"),
        (&cert, &other.path("key.pem"), "http.tls.key", "does not belong to the certificate in"),
        (&key, &key, "http.tls.cert", "no PEM block `BEGIN CERTIFICATE`"),
        (&empty, &key, "http.tls.cert", "no PEM block `BEGIN CERTIFICATE`"),
    ] {
        let address = ([127, 0, 0, 1], 0).into();
        let error = Listener::bind(address, Some((cert, key))).await.unwrap_err().to_string();
        let file = if place.ends_with("key") { key } else { cert };
        assert!(error.starts_with(&format!("{place} = {}: ", file.display())), "{error}");
        assert!(error.contains(said), "{said}: {error}");
    }
}

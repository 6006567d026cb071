//! Real HTTP: what each way of going wrong is told as, and what the wire never does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use syncline::delivery::wire::{HttpWire, Request, Wire as _, WireError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a server does with a connection once it has read a request.
#[derive(Clone)]
enum Does {
    Answers(Vec<u8>),
    Cuts,
    CutsInBody,
    Hangs,
    HangsInBody,
}

struct Server {
    at: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    heads: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Server {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            at: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            heads: Arc::default(),
        };
        let (connections, requests, heads) =
            (server.connections.clone(), server.requests.clone(), server.heads.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, does.clone(), requests.clone(), heads.clone()));
            }
        });
        server
    }

    fn request(&self) -> Request {
        Request {
            connector: "erp".into(),
            operation: "create".into(),
            method: Method::POST,
            url: format!("http://{}/orders", self.at),
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{\"a\":1}"),
            timeout: Duration::from_millis(500),
            response_max: 1024,
            allow_private: false,
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    does: Does,
    requests: Arc<AtomicUsize>,
    heads: Arc<std::sync::Mutex<Vec<String>>>,
) {
    let mut read = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(n) => read.extend_from_slice(&chunk[..n]),
        }
        // Every request of these tests ends with this body.
        if !read.ends_with(b"{\"a\":1}") {
            continue;
        }
        requests.fetch_add(1, Ordering::SeqCst);
        heads.lock().unwrap().push(String::from_utf8_lossy(&read).into_owned());
        read.clear();
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        match &does {
            Does::Answers(bytes) => stream.write_all(bytes).await.unwrap(),
            Does::Cuts => return,
            Does::CutsInBody => return stream.write_all(half).await.unwrap(),
            Does::Hangs => std::future::pending().await,
            Does::HangsInBody => {
                stream.write_all(half).await.unwrap();
                std::future::pending::<()>().await;
            }
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Does {
    let length = body.len();
    Does::Answers(
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes(),
    )
}

#[tokio::test]
async fn an_answer_comes_whole_and_the_connection_is_used_again() {
    let server = Server::start(answer("201 Created", "Location: /orders/7\r\n", "{\"id\":7}")).await;
    let wire = HttpWire::new().unwrap();
    for _ in 0..3 {
        let got = wire.send(server.request()).await.unwrap();
        assert_eq!((got.status, &got.body[..], got.cut), (201, &b"{\"id\":7}"[..], false));
        assert_eq!(got.headers["location"], "/orders/7");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    let head = server.heads.lock().unwrap()[0].to_lowercase();
    assert!(
        head.starts_with("post /orders http/1.1\r\n") && head.contains("user-agent: syncline/"),
        "{head}"
    );
    assert!(!head.contains("accept-encoding"), "nothing packed is asked for: {head}");
}

#[tokio::test]
async fn a_time_out_is_uncertain_wherever_it_strikes() {
    for does in [Does::Hangs, Does::HangsInBody] {
        let server = Server::start(does).await;
        let got = HttpWire::new().unwrap().send(server.request()).await;
        assert_eq!(got, Err(WireError::Lost("timed out".to_owned())));
    }
}

#[tokio::test]
async fn a_cut_connection_is_uncertain_and_the_call_is_not_repeated() {
    for does in [Does::Cuts, Does::CutsInBody] {
        let server = Server::start(does).await;
        let got = HttpWire::new().unwrap().send(server.request()).await;
        assert!(matches!(got, Err(WireError::Lost(_))), "{got:?}");
        assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_refused_connection_an_unknown_name_and_a_failed_handshake_are_surely_not_sent() {
    let wire = HttpWire::new().unwrap();
    let server = Server::start(answer("200 OK", "", "plain")).await;
    let mut request = server.request();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    request.url = format!("http://{free}/orders");
    let got = wire.send(request.clone()).await;
    assert!(matches!(got, Err(WireError::Unsent(_))), "{got:?}");
    request.url = "http://no-such-host.invalid/".to_owned();
    let got = wire.send(request.clone()).await;
    assert!(matches!(got, Err(WireError::Unsent(_))), "{got:?}");
    // A server that answers a TLS handshake with plain HTTP.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    request.url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let got = wire.send(request).await;
    assert!(matches!(got, Err(WireError::Unsent(_))), "{got:?}");
}

#[tokio::test]
async fn a_big_body_is_cut_and_said_to_be() {
    for (length, cut) in [(1023, false), (1024, false), (1025, true), (100_000, true)] {
        let server = Server::start(answer("200 OK", "", &"x".repeat(length))).await;
        let got = HttpWire::new().unwrap().send(server.request()).await.unwrap();
        assert_eq!((got.body.len(), got.cut), (length.min(1024), cut), "{length}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let other = Server::start(answer("200 OK", "", "elsewhere")).await;
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let to = format!("Location: http://{}/\r\n", other.at);
        let server = Server::start(answer(status, &to, "")).await;
        let got = HttpWire::new().unwrap().send(server.request()).await.unwrap();
        assert_eq!(got.status.to_string(), status[..3]);
    }
    assert_eq!(other.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_error_does_not_tell_the_query() {
    let server = Server::start(Does::Cuts).await;
    let mut request = server.request();
    request.url.push_str("?token=canary");
    let got = HttpWire::new().unwrap().send(request).await;
    assert!(!format!("{got:?}").contains("canary"), "{got:?}");
}

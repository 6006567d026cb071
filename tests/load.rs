//! The load generator against servers that misbehave in known ways: does it tell what really happened?

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use syncline::load::{self, Distribution, Error, Failure, Pace, Plan};
use tokio::net::TcpListener;
use tokio::sync::{Notify, RwLock};

const MS: Duration = Duration::from_millis(1);
const STALL: Duration = Duration::from_millis(200);

/// A server in this process.
async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn plan(address: SocketAddr, pace: Pace) -> Plan {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
    Plan { pace, ..Plan::new(format!("http://{address}/hooks/load"), secret.into(), "test") }
}

fn open(rate: f64) -> Pace {
    Pace::Open { rate, steps: Vec::new(), spikes: Vec::new() }
}

/// Answers at once, but for 200 ms nobody when the 100th request came.
fn stalling() -> Router {
    let (count, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(RwLock::new(())));
    let hook = move || async move {
        if count.fetch_add(1, Ordering::SeqCst) == 99 {
            let _all_wait = gate.write().await;
            tokio::time::sleep(STALL).await; // this is the stall
        } else {
            drop(gate.read().await);
        }
        StatusCode::OK
    };
    Router::new().route("/hooks/load", post(hook))
}

/// The check against coordinated omission: a stall of 200 ms at 500/s holds up a hundred of a thousand messages, so the slowest
/// hundredth waited for most of it. A generator that waits for answers sees one slow message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_is_charged_for_everything_that_was_due_meanwhile() {
    for connections in [1, 8] {
        let address = serve(stalling()).await;
        let plan = Plan { connections, duration: 2000 * MS, ..plan(address, open(500.0)) };
        let report = load::run(plan).await.expect("the server is there");
        assert_eq!((report.intended, report.acked), (1000, 1000), "{}", report.to_table());
        let latency = report.latency.expect("all were accepted");
        assert!(latency.p99_us > 150e3, "{connections} connections\n{}", report.to_table());
        assert!(latency.max_us >= 199e3, "{connections} connections\n{}", report.to_table());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_loop_leaves_the_stall_out_of_all_but_one_message() {
    let address = serve(stalling()).await;
    let plan = Plan { connections: 1, duration: 1000 * MS, ..plan(address, Pace::Closed) };
    let report = load::run(plan).await.expect("the server is there");
    let latency = report.latency.expect("all were accepted");
    assert!(latency.max_us >= 199e3 && latency.p99_us < 150e3, "{}", report.to_table());
}

/// What a server did, by what it says itself.
#[derive(Debug, Default)]
struct Ledger {
    requests: AtomicU64,
    acked: Mutex<BTreeSet<String>>,
}

impl Ledger {
    /// In turn: three answers of 2xx, a 503, an answer cut off in the middle; and every hundredth request is never answered.
    async fn answer(&self, headers: HeaderMap) -> Response {
        let turn = self.requests.fetch_add(1, Ordering::SeqCst);
        if turn % 100 == 99 {
            return std::future::pending().await;
        }
        let status = match turn % 5 {
            0 | 1 => StatusCode::OK,
            2 => StatusCode::ACCEPTED,
            3 => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
            _ => {
                let cut = futures::stream::once(async { Err::<&str, _>(std::io::Error::other("cut")) });
                return Body::from_stream(cut).into_response();
            }
        };
        let id = headers["webhook-id"].to_str().expect("an id is text");
        self.acked.lock().expect("no test panicked here").insert(id.to_owned());
        status.into_response()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_counted_once_and_the_acked_file_holds_exactly_the_2xx() {
    let ledger = Arc::new(Ledger::default());
    let hook = {
        let ledger = ledger.clone();
        move |headers: HeaderMap| async move { ledger.answer(headers).await }
    };
    let address = serve(Router::new().route("/hooks/load", post(hook))).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("acked");
    let plan = Plan {
        duration: 1000 * MS,
        timeout: 1000 * MS,
        connections: 32,
        distribution: Distribution::Zipf(1.1),
        duplicates: 0.05,
        cpu_of: vec![std::process::id()],
        acked: Some(file.clone()),
        ..plan(address, open(1000.0))
    };
    let report = load::run(plan).await.expect("the server is there");

    let told = report.to_table();
    let failed: u64 = report.failures.values().sum();
    let answered: u64 = report.statuses.values().sum();
    assert_eq!(report.intended, 1000, "{told}");
    assert_eq!(answered + failed + report.unsent, 1000, "{told}");
    assert_eq!(ledger.requests.load(Ordering::SeqCst), answered + failed, "{told}");
    assert_eq!(
        (report.statuses[&200], report.statuses[&202], report.statuses[&503]),
        (400, 200, 200),
        "{told}"
    );
    assert_eq!((report.failures[&Failure::Closed], report.failures[&Failure::Timeout]), (190, 10), "{told}");
    // Each failure costs a connection; the last one of each is not made again.
    assert!((200 - 32..=200).contains(&report.reconnects), "{told}");
    assert!(report.duplicates.abs_diff(50) < 25, "{told}");
    assert_eq!(report.processes.len(), 1, "{told}");

    let lines = std::fs::read_to_string(file).expect("it was written");
    let lines: Vec<(&str, &str)> =
        lines.lines().map(|line| line.split_once('\t').expect("id and key")).collect();
    assert_eq!(lines.len(), 600);
    let ids: BTreeSet<String> = lines.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(ids, *ledger.acked.lock().expect("no test panicked here"));
    assert!(lines.iter().all(|(id, key)| id.starts_with("test-") && key.starts_with("LOAD-")), "{lines:?}");
}

#[tokio::test]
async fn a_server_that_dies_costs_messages_but_not_the_run() {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let server = server.expect("a runtime");
    let (count, enough) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let hook = {
        let enough = enough.clone();
        move || async move {
            if count.fetch_add(1, Ordering::SeqCst) == 100 {
                enough.notify_one();
            }
            StatusCode::OK
        }
    };
    let app = Router::new().route("/hooks/load", post(hook));
    let address = server.spawn(serve(app)).await.expect("it started");
    let plan = Plan { duration: 1000 * MS, timeout: 500 * MS, ..plan(address, open(500.0)) };
    let run = tokio::spawn(load::run(plan));
    enough.notified().await;
    server.shutdown_background();
    let report = run.await.expect("no panic").expect("the server was there");
    let failed: u64 = report.failures.values().sum();
    assert!(report.acked >= 100 && report.failures[&Failure::Connect] > 0, "{}", report.to_table());
    assert_eq!(report.acked + failed + report.unsent, 500, "{}", report.to_table());
    assert!(report.warnings.iter().any(|told| told.contains("not accepted")), "{}", report.to_table());
}

#[tokio::test]
async fn a_server_that_answers_nobody_ends_the_run_after_its_time_out() {
    let hook = || std::future::pending::<StatusCode>();
    let address = serve(Router::new().route("/hooks/load", post(hook))).await;
    let plan = Plan { duration: 200 * MS, timeout: 200 * MS, connections: 2, ..plan(address, open(1000.0)) };
    let report = load::run(plan).await.expect("the server is there");
    let failed = report.failures[&Failure::Timeout];
    assert!(report.unsent > 100, "{}", report.to_table());
    assert_eq!((report.acked, failed + report.unsent), (0, 200), "{}", report.to_table());
    assert!(report.latency_all.expect("all waited").p50_us > 100e3, "{}", report.to_table());
}

#[tokio::test]
async fn what_cannot_run_is_refused_before_anything_is_sent() {
    let requests = Arc::new(AtomicU64::new(0));
    let hook = {
        let requests = requests.clone();
        move || async move { requests.fetch_add(1, Ordering::SeqCst).to_string() }
    };
    let address = serve(Router::new().route("/hooks/load", post(hook))).await;
    let good = || plan(address, open(10.0));
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let free = nobody.local_addr().expect("it is bound");
    drop(nobody);
    let refused = [
        load::run(plan(free, Pace::Closed)).await,
        load::run(Plan { cpu_of: vec![0], ..good() }).await,
        load::run(Plan { connections: 0, ..good() }).await,
        load::run(Plan { pace: open(-1.0), ..good() }).await,
        load::run(Plan { acked: Some("/proc/no/such/file".into()), ..good() }).await,
    ];
    let refused = refused.map(|result| result.expect_err("it makes no sense"));
    assert!(
        matches!(
            &refused,
            [Error::Unreachable(..), Error::NoProcess(0), Error::Plan(_), Error::Plan(_), Error::Acked(..)]
        ),
        "{refused:?}"
    );
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

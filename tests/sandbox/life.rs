//! The sandbox starts, stops, and says why when it cannot.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use syncline::clock::SystemClock;
use syncline::sandbox::{Error, Sandbox, SandboxConfig};
use tokio::net::TcpListener;

use crate::world::World;

#[tokio::test]
async fn a_port_in_use_is_named_with_the_fix() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = SandboxConfig::local(Arc::new(SystemClock));
    config.listen = taken.local_addr().unwrap();
    let error = Sandbox::start(config).await.unwrap_err();
    assert!(matches!(error, Error::Listen { .. }), "{error:?}");
    let told = error.to_string();
    assert!(
        told.contains(&taken.local_addr().unwrap().to_string()) && told.contains("another port"),
        "{told}"
    );
}

#[tokio::test]
async fn a_target_that_cannot_be_called_stops_the_start() {
    let mut config = SandboxConfig::local(Arc::new(SystemClock));
    config.target = Some("node:7171".to_owned());
    let told = Sandbox::start(config).await.unwrap_err().to_string();
    assert!(told.contains("`node:7171` is no target"), "{told}");
}

#[tokio::test]
async fn a_stopped_sandbox_gives_its_port_back_at_once() {
    let world = World::new().await;
    let healthy = world.http(Method::GET, "/healthz", &[], "").await;
    assert_eq!(healthy.status, 200);
    let stopped = tokio::time::timeout(Duration::from_secs(1), world.sandbox.stop()).await;
    assert!(stopped.is_ok(), "connections that are idle do not hold it");
    TcpListener::bind(world.sandbox.address()).await.unwrap();
    assert!(world.attempt(Method::GET, "/healthz", &[], "").await.is_err());
    world.sandbox.stop().await;
}

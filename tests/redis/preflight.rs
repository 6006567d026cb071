//! A server that would lose what is acknowledged is not used, and the refusal says what to set.

use std::time::Duration;

use syncline::journal::redis::{Library, Options, Redis, Tier};
use syncline::journal::{Error, SharedJournal};

use crate::kit::take_all;
use crate::server::{SOUND, Server};

async fn refusal(options: Options) -> String {
    match Redis::open(options).await {
        Err(Error::Open(text)) => text,
        other => panic!("it was not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_would_lose_something_is_refused_with_what_to_set() {
    for (settings, said) in [
        (&["--appendonly", "no"][..], "`appendonly` is off"),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], "`appendfsync` is `everysec`"),
        (
            &["--appendonly", "yes", "--appendfsync", "always", "--no-appendfsync-on-rewrite", "yes"],
            "rewrite",
        ),
        (
            &["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "allkeys-lru"],
            "`noeviction`",
        ),
        (&["--appendonly", "yes", "--appendfsync", "always", "--cluster-enabled", "yes"], "cluster_mode"),
    ] {
        let server = Server::with(settings);
        let text = refusal(server.options()).await;
        assert!(text.contains(said) && text.contains(&server.port.to_string()), "{settings:?}: {text}");
    }
}

#[tokio::test]
async fn a_replica_is_no_store_and_replicas_must_be_there() {
    let primary = Server::start();
    let replica = Server::start();
    replica.follow(&primary);
    assert!(refusal(replica.options()).await.contains("it is a `slave`"));
    let replicated = |replicas| {
        let tier = Tier::Replicated { replicas, wait: Duration::from_millis(500), flushed: false };
        Options { tier, ..primary.options() }
    };
    primary.until("INFO", |info| info.contains("state=online"));
    Redis::open(replicated(1)).await.unwrap();
    assert!(refusal(replicated(2)).await.contains("1 of 2 replicas are in step"));
    // Whether they have flushed it: this server can tell, or says that it cannot.
    let tier = Tier::Replicated { replicas: 1, wait: Duration::from_secs(2), flushed: true };
    let flushed = Redis::open(Options { tier, ..primary.options() }).await;
    if primary.say(&["COMMAND", "INFO", "WAITAOF"]).contains("waitaof") {
        let journal: SharedJournal = flushed.unwrap();
        take_all(&*journal).await;
    } else {
        assert!(flushed.is_err_and(|error| error.to_string().contains("replicas_flush")));
    }
}

#[tokio::test]
async fn whoever_may_not_load_the_functions_is_told_who_can() {
    let server = Server::start();
    server.say(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-function", "-config", "-eval"]);
    let options = || Options {
        user: Some("app".to_owned()),
        password: Some("secret".into()),
        trust_store_durability: true,
        ..server.options()
    };
    let text = refusal(options()).await;
    assert!(text.contains("syncline store functions"), "{text}");
    // An admin loads them; the node has all it needs then, and does not ask for the right to configure.
    server.say(&["FUNCTION", "LOAD", Library::default().text()]);
    Redis::open(options()).await.unwrap();
    // But it must be told to trust what it cannot see.
    let text = refusal(Options { trust_store_durability: false, ..options() }).await;
    assert!(text.contains("trust_store_durability"), "{text}");
    let wrong = Options { password: Some("guess".into()), ..options() };
    let Err(error) = Redis::open(wrong).await else { panic!("it was let in") };
    assert!(error.to_string().contains("Password") && !error.to_string().contains("guess"), "{error}");
}

#[tokio::test]
async fn another_text_under_the_library_s_name_is_refused() {
    let server = Server::start();
    let own = Library::default();
    let other =
        own.text().replace("return {'OK'}", "return {'OK' }").replacen(own.hash(), &"0".repeat(64), 1);
    server.say(&["FUNCTION", "LOAD", &other]);
    let text = refusal(server.options()).await;
    assert!(text.contains("are not this program's") && text.contains("one release"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let server = Server::with(SOUND);
    let options = server.options();
    drop(server);
    match Redis::open(options.clone()).await {
        Err(Error::Unavailable(text)) => assert!(text.contains(&options.urls[0][8..]), "{text}"),
        other => panic!("{other:?}"),
    }
}

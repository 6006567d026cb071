//! What the library gives of a connector's budget is what the rules give, whatever is asked in whatever order.

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use redis::ConnectionLike as _;
use syncline::journal::Journal as _;
use syncline::journal::redis::Redis;
use syncline::journal::share::{Ask, Share, ShareRate, Shares};

use crate::server::Server;

/// Histories, and asks in each.
const HISTORIES: u64 = 60;
const ASKS: usize = 60;

fn asked(rng: &mut StdRng, rate: Option<ShareRate>, slots_max: u32) -> Ask {
    let rarely =
        |rng: &mut StdRng, most: u64| if rng.random_bool(0.1) { rng.random_range(1..=most) } else { 0 };
    Ask {
        connector: "erp".to_owned(),
        node: ["a#1", "b#1", "c#7", "c#8"][rng.random_range(0..4)].to_owned(),
        rate,
        slots_max,
        tokens: rng.random_range(0..6),
        back: u32::try_from(rarely(rng, 3)).unwrap(),
        using: rng.random_range(0..4),
        want: rng.random_range(0..7),
        throttled_ms: rarely(rng, 400),
        open_ms: rarely(rng, 900),
        closed: rng.random_bool(0.1),
        tries: rng.random_bool(0.6),
        lease_ms: 600,
    }
}

/// The call as the journal makes it, with a time.
fn call(connection: &mut redis::Connection, key: &str, ask: &Ask, now: i64) -> Share {
    let rate = ask.rate.unwrap_or(ShareRate { calls: 0, per_ms: 0, burst: 0 });
    let mut command = redis::cmd("FCALL");
    command.arg("syncline_v1_share").arg(1).arg(key).arg(&ask.node);
    command.arg(rate.calls).arg(rate.per_ms).arg(rate.burst);
    command.arg(ask.slots_max).arg(ask.tokens).arg(ask.back).arg(ask.using).arg(ask.want);
    command.arg(ask.throttled_ms).arg(ask.open_ms).arg(u8::from(ask.closed)).arg(u8::from(ask.tries));
    command.arg(ask.lease_ms).arg(u8::from(ask.rate.is_some())).arg(now);
    let given: Vec<u64> = redis::from_redis_value(connection.req_command(&command).unwrap()).unwrap();
    let small = |at: usize| u32::try_from(given[at]).unwrap();
    Share {
        tokens: small(0),
        slots: small(1),
        closed_ms: given[2],
        broken: given[3] == 1,
        trial: given[4] == 1,
        token_in_ms: given[5],
    }
}

#[tokio::test]
async fn the_library_gives_what_the_rules_give() {
    let server = Server::start();
    let journal = Redis::open(server.options()).await.unwrap();
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut some = [0_u32; 4];
    for seed in 0..HISTORIES {
        let mut rng = StdRng::seed_from_u64(seed);
        let rate = ShareRate { calls: rng.random_range(1..40), per_ms: 1_000, burst: rng.random_range(1..5) };
        let rate = Some(rate).filter(|_| seed % 4 != 0);
        let slots_max = rng.random_range(1..6);
        let (mut rules, mut now) = (Shares::default(), 1_795_000_000_000 + i64::from(rng.next_u32() % 5_000));
        let key = format!("history:{seed}");
        for at in 0..ASKS {
            let ask = asked(&mut rng, rate, slots_max);
            let (expected, given) = (rules.give(&ask, now), call(&mut connection, &key, &ask, now));
            assert_eq!(given, expected, "history {seed}, ask {at}: {ask:?} at {now}");
            for (count, was) in some.iter_mut().zip([
                given.trial,
                given.broken,
                given.slots < ask.want && given.slots > 0,
                given.token_in_ms > 0,
            ]) {
                *count += u32::from(was);
            }
            now += rng.random_range(0..250);
        }
    }
    assert!(
        some.iter().all(|count| *count > 50),
        "trials, broken, short of slots, short of tokens: {some:?}"
    );

    let ask = Ask {
        slots_max: 2,
        tokens: 9,
        want: 9,
        lease_ms: 5_000,
        connector: "crm".to_owned(),
        ..Ask::default()
    };
    let share = journal.share(&Ask { node: "a#1".to_owned(), ..ask.clone() }).await.unwrap();
    assert_eq!((share.tokens, share.slots), (9, 2), "without a rate there are as many as are wanted");
    let share = journal.share(&Ask { node: "b#1".to_owned(), ..ask.clone() }).await.unwrap();
    assert_eq!(share.slots, 0);
    let other =
        journal.share(&Ask { connector: "erp".to_owned(), node: "b#1".to_owned(), ..ask }).await.unwrap();
    assert_eq!(other.slots, 2, "each connector has its own");
}

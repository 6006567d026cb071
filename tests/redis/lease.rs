//! What the library does with a shard's lease is what the rules do, whatever is asked in whatever order.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redis::{ConnectionLike as _, Value};
use syncline::journal::redis::Redis;
use syncline_actors::id::{Epoch, NodeId};
use syncline_actors::lease::Lease;
use syncline_actors::time::Timestamp;

use crate::server::Server;

/// Histories, and steps in each.
const HISTORIES: u64 = 60;
const STEPS: usize = 60;

/// A lease is over at once or never, so that the server's clock, which nobody can set, decides nothing.
const TIMES: [Duration; 2] = [Duration::ZERO, Duration::from_hours(1)];
const NOW: Timestamp = Timestamp(0);

fn say(connection: &mut redis::Connection, function: &str, key: &str, words: &[String]) -> Vec<String> {
    let mut command = redis::cmd("FCALL");
    command.arg(format!("syncline_v1_{function}")).arg(1).arg(key).arg(words);
    let Value::Array(said) = connection.req_command(&command).unwrap() else { panic!("it is a list") };
    said.into_iter().map(|word| redis::from_redis_value(word).unwrap()).collect()
}

#[tokio::test]
async fn the_library_does_with_a_lease_what_the_rules_do() {
    let server = Server::start();
    let _loaded = Redis::open(server.options()).await.unwrap();
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut some = [0_u32; 5];
    for seed in 0..HISTORIES {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut rules, key) = (Lease::default(), format!("{{history.{seed}}}:l"));
        for at in 0..STEPS {
            let (node, boot) = (["a", "b", "c"][rng.random_range(0..3)], rng.random_range(1..4_u64));
            let ttl = TIMES[rng.random_range(0..2)];
            let ms = ttl.as_millis().to_string();
            // Mostly the epoch that there is, or one near it.
            let epoch = Epoch((rules.epoch.0 + rng.random_range(0..3)).saturating_sub(1));
            let told = match rng.random_range(0..5) {
                0..=1 => {
                    let heard = if rng.random_bool(0.2) { rng.random_range(0..40) } else { 0 };
                    let words = [node.to_owned(), boot.to_string(), ms, heard.to_string()];
                    let said = say(&mut connection, "acquire", &key, &words);
                    let expected = match rules.take((&NodeId(node.into()), boot), NOW, ttl, Epoch(heard)) {
                        Ok(epoch) => vec!["OK".to_owned(), epoch.to_string()],
                        Err(holder) => {
                            vec!["HELD".to_owned(), rules.epoch.to_string(), holder.node.to_string()]
                        }
                    };
                    some[usize::from(said[0] == "HELD")] += 1;
                    (said[..expected.len()].to_vec(), expected)
                }
                2..=3 => {
                    let said = say(&mut connection, "renew", &key, &[epoch.to_string(), ms]);
                    let expected = match rules.renew(epoch, NOW, ttl) {
                        Ok(()) => vec!["OK".to_owned()],
                        Err(current) => vec!["FENCED".to_owned(), current.to_string()],
                    };
                    some[2 + usize::from(said[0] == "FENCED")] += 1;
                    (said, expected)
                }
                _ => {
                    some[4] += u32::from(rules.admit(epoch).is_ok());
                    rules.give_back(epoch);
                    (say(&mut connection, "release", &key, &[epoch.to_string()]), vec!["OK".to_owned()])
                }
            };
            assert_eq!(told.0, told.1, "history {seed}, step {at}");
        }
    }
    assert!(some.iter().all(|count| *count > 50), "taken, held, renewed, fenced, given back: {some:?}");
}

//! Clusters of nodes on a simulated network: what gossip promises, over many seeds. `SEED=n` runs one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use syncline::gossip::{Card, Config, Gossip, Seed};
use syncline_actors::id::{Epoch, ShardId};

#[path = "gossip/net.rs"]
mod net;
#[path = "gossip/world.rs"]
mod world;

use world::{addr, all, card, config, holds_for, name, names, ring, secs, simulate};

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

/// The value below which `share` of `times` lie.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a small count"
    )]
    let at = ((times.len() as f64 * share).ceil() as usize).max(1) - 1;
    times[at]
}

#[test]
fn nodes_that_share_a_seed_find_each_other() {
    for seed in seeds(20) {
        for count in [1, 3, 5] {
            let took = simulate(seed, async |mut world| world.join(count).await);
            assert!(took <= secs(3), "SEED={seed}: {count} nodes took {took:?}");
        }
    }
}

#[test]
fn a_killed_node_is_noticed_within_five_seconds() {
    for count in [3, 5] {
        let mut took: Vec<Duration> = seeds(100)
            .into_iter()
            .map(|seed| {
                simulate(seed, async |mut world| {
                    world.join(count).await;
                    let uptime = StdRng::seed_from_u64(seed).random_range(10_000..20_000);
                    tokio::time::sleep(Duration::from_millis(uptime)).await;
                    world.kill(1);
                    world.whole(secs(20)).await
                })
            })
            .collect();
        let (p50, p99) = (quantile(&mut took, 0.5), quantile(&mut took, 0.99));
        println!("{count} nodes: a dead one is known to all after p50 {p50:?}, p99 {p99:?}");
        assert!(p99 <= secs(5), "{count} nodes: p99 {p99:?}");
    }
}

#[test]
fn a_cluster_split_into_single_nodes_heals() {
    let mut took: Vec<Duration> = seeds(100)
        .into_iter()
        .map(|seed| {
            simulate(seed, async |mut world| {
                world.join(3).await;
                world.split(&[&[0], &[1], &[2]]);
                for node in 0..3 {
                    world.until(&[node], &[node], secs(20)).await;
                }
                let apart = StdRng::seed_from_u64(seed).random_range(1_000..40_000);
                tokio::time::sleep(Duration::from_millis(apart)).await;
                world.net.heal();
                let took = world.whole(secs(12)).await;
                let rejoined = world.running().iter().any(|node| *world.node(*node).rejoins().borrow() > 0);
                assert!(rejoined, "SEED={seed}: nobody was told to revalidate its leases");
                took
            })
        })
        .collect();
    let (p50, max) = (quantile(&mut took, 0.5), quantile(&mut took, 1.0));
    println!("1|1|1 heals after p50 {p50:?}, max {max:?}");
}

#[test]
fn a_split_into_two_parts_heals_wherever_the_seeds_are() {
    for seed in seeds(20) {
        for groups in [[&[0, 1, 2][..], &[3, 4]], [&[0, 3], &[1, 2, 4]], [&[0, 1, 3, 4], &[2]]] {
            simulate(seed, async |mut world| {
                world.join(5).await;
                world.split(&groups);
                for group in groups {
                    world.until(group, group, secs(20)).await;
                }
                world.net.heal();
                world.whole(secs(17)).await;
            });
        }
    }
}

#[test]
fn a_path_cut_in_one_direction_takes_nobody_out() {
    for seed in seeds(20) {
        simulate(seed, async |mut world| {
            world.join(3).await;
            world.net.cut(addr(0), addr(1));
            let watched = (0..3)
                .map(|node| holds_for(world.node(node).members(), secs(60), |members| members.count() == 3));
            assert!(all(watched).await, "SEED={seed}: others could still ask for them");
        });
    }
}

#[test]
fn a_node_that_hears_nobody_is_out_and_comes_back() {
    for seed in seeds(20) {
        simulate(seed, async |mut world| {
            world.join(3).await;
            world.net.cut(addr(0), addr(2));
            world.net.cut(addr(1), addr(2));
            world.until(&[0, 1], &[0, 1], secs(20)).await;
            world.net.heal();
            world.whole(secs(12)).await;
            assert!(*world.node(2).rejoins().borrow() > 0, "SEED={seed}");
        });
    }
}

#[test]
fn a_process_that_stood_still_is_told_to_revalidate_its_leases() {
    for seed in seeds(20) {
        simulate(seed, async |mut world| {
            world.join(3).await;
            world.net.pause(addr(2));
            world.until(&[0, 1], &[0, 1], secs(20)).await;
            tokio::time::sleep(secs(30)).await;
            let mut rejoins = world.node(2).rejoins();
            world.net.resume(addr(2));
            let told = tokio::time::timeout(secs(1), rejoins.wait_for(|rejoins| *rejoins > 0)).await.is_ok();
            assert!(told, "SEED={seed}");
            world.whole(secs(2)).await;
        });
    }
}

#[test]
fn nodes_find_and_keep_each_other_at_five_percent_loss() {
    let mut lost = 0;
    for seed in seeds(60) {
        lost += simulate(seed, async |mut world| {
            world.net.lose(0.05);
            world.join(3).await;
            let mut members = world.node(0).members();
            let (until, mut lost) = (tokio::time::Instant::now() + secs(60), 0);
            while let Ok(Ok(())) = tokio::time::timeout_at(until, members.changed()).await {
                lost += usize::from(members.borrow_and_update().count() < 3);
            }
            world.whole(secs(12)).await;
            lost
        });
    }
    println!("the living were taken for dead {lost} times in an hour of one node's view");
    assert!(lost <= 6, "{lost}");
}

#[test]
fn a_restarted_node_is_known_as_another_process() {
    for seed in seeds(20) {
        simulate(seed, async |mut world| {
            world.join(3).await;
            world.kill(1);
            tokio::time::sleep(Duration::from_millis(200)).await;
            world.start_as(1, Config { card: Card { weight: 300, ..card(1) }, ..config(1, 2) });
            let is_new = |members: &syncline::gossip::Members| {
                members.count() == 3
                    && members.get(&name(1)).is_some_and(|n1| n1.boot == 2 && n1.card.weight == 300)
            };
            let took = world.until_all(&[0, 1, 2], secs(3), is_new).await;
            assert!(took <= secs(3), "SEED={seed}: {took:?}");
        });
    }
}

#[test]
fn a_node_that_leaves_is_gone_at_once() {
    for seed in seeds(20) {
        simulate(seed, async |mut world| {
            world.join(5).await;
            world.node(3).leave().await;
            world.kill(3);
            let took = world.whole(secs(1)).await;
            assert!(took <= Duration::from_millis(500), "SEED={seed}: {took:?}");
        });
    }
}

#[test]
fn a_node_with_another_key_or_of_another_cluster_never_gets_in() {
    simulate(1, async |mut world| {
        world.join(3).await;
        world.start_as(3, Config { keys: ring(&[8]), ..config(3, 1) });
        world.start_as(4, Config { cluster: "test".to_owned(), ..config(4, 1) });
        for node in [3, 4] {
            assert!(holds_for(world.node(node).members(), secs(30), |members| members.count() == 1).await);
        }
        for node in 0..3 {
            assert_eq!(names(&world.node(node).members().borrow()), [name(0), name(1), name(2)]);
            let stats = world.node(node).stats();
            assert!(stats.unauthentic > 0 && stats.other_cluster > 0, "{stats:?}");
            assert_eq!((stats.malformed, stats.replayed, stats.namesakes), (0, 0, 0), "{stats:?}");
        }
    });
}

#[test]
fn a_late_node_learns_every_card_and_epoch_even_of_the_dead() {
    for seed in seeds(10) {
        simulate(seed, async |mut world| {
            world.join(4).await;
            let told: Vec<(ShardId, Epoch)> =
                ShardId::all().map(|shard| (shard, Epoch(u64::from(shard.0) + 5))).collect();
            world.node(3).tell_epochs(&told);
            tokio::time::sleep(secs(10)).await;
            world.kill(3);
            world.whole(secs(10)).await;
            tokio::time::sleep(secs(60)).await;
            world.start(4, 1);
            world.whole(secs(3)).await;
            tokio::time::sleep(secs(5)).await;
            let heard: Vec<(ShardId, Epoch)> = world.node(4).epochs().into_iter().collect();
            assert_eq!(heard, told, "SEED={seed}");
        });
    }
}

#[test]
fn a_short_cut_costs_nobody_and_what_was_told_into_it_is_told_again() {
    let (mut ran, mut stayed) = (0, 0);
    for seed in seeds(30) {
        ran += 1;
        stayed += simulate(seed, async |mut world| {
            world.join(3).await;
            tokio::time::sleep(secs(10)).await;
            let all_stay = |node| holds_for(world.node(node).members(), secs(12), |all| all.count() == 3);
            let watched = tokio::spawn(all([0, 1, 2].map(all_stay)));
            world.split(&[&[0], &[1], &[2]]);
            world.node(0).tell_epochs(&[(ShardId(9), Epoch(8))]);
            world.node(0).update_card(Card { draining: true, ..card(0) }).unwrap();
            tokio::time::sleep(Duration::from_millis(2_500)).await; // every transmission is spent by then
            world.net.heal();
            let drains = |members: &syncline::gossip::Members| {
                members.get(&name(0)).is_some_and(|member| member.card.draining)
            };
            world.until_all(&[1, 2], secs(7), drains).await;
            assert_eq!(world.node(1).epochs()[&ShardId(9)], Epoch(8), "SEED={seed}");
            let stayed = watched.await.unwrap();
            let rejoins: u64 = (0..3).map(|node| *world.node(node).rejoins().borrow()).sum();
            u64::from(stayed && rejoins == 0)
        });
    }
    println!("a cut of 2.5 s: {stayed} of {ran} clusters took nobody for dead");
    assert!(stayed * 10 >= ran * 9 || ran == 1, "{stayed} of {ran}");
}

#[test]
fn epochs_only_grow() {
    simulate(1, async |mut world| {
        world.join(3).await;
        let shard = ShardId(9);
        world.node(0).tell_epochs(&[(shard, Epoch(8))]);
        assert_eq!(world.node(0).epochs()[&shard], Epoch(8), "the teller knows it at once");
        world.node(1).tell_epochs(&[(shard, Epoch(7))]);
        tokio::time::sleep(secs(3)).await;
        for node in 0..3 {
            assert_eq!(world.node(node).epochs()[&shard], Epoch(8));
        }
    });
}

#[test]
fn a_changed_card_reaches_everybody_soon() {
    for seed in seeds(20) {
        simulate(seed, async |mut world| {
            world.join(5).await;
            tokio::time::sleep(secs(30)).await;
            world.node(2).update_card(Card { draining: true, ..card(2) }).unwrap();
            let drains = |members: &syncline::gossip::Members| {
                members.get(&name(2)).is_some_and(|member| member.card.draining)
            };
            world.until_all(&[0, 1, 2, 3, 4], secs(2), drains).await;
        });
    }
}

#[test]
fn a_node_cannot_change_another_s_card() {
    simulate(1, async |mut world| {
        world.join(1).await;
        assert!(world.node(0).update_card(card(1)).is_err());
        assert!(world.node(0).update_card(Card { region: Some(String::new()), ..card(0) }).is_err());
        world.node(0).leave().await;
        assert!(world.node(0).update_card(card(0)).is_err(), "it has left");
    });
}

#[test]
fn the_key_is_changed_while_all_run() {
    simulate(1, async |mut world| {
        world.join(3).await;
        let watched: Vec<_> = (0..3)
            .map(|node| {
                let members = world.node(node).members();
                tokio::spawn(holds_for(members, secs(90), |members| members.count() == 3))
            })
            .collect();
        for keys in [&[7, 8][..], &[8, 7], &[8]] {
            for node in 0..3 {
                world.node(node).replace_keys(ring(keys)).unwrap();
                tokio::time::sleep(secs(7)).await;
            }
        }
        for watched in watched {
            assert!(watched.await.unwrap(), "nobody was lost");
        }
        for node in 0..3 {
            assert_eq!(world.node(node).stats().unauthentic, 0);
        }
        world.start_as(3, Config { keys: ring(&[7]), ..config(3, 1) });
        assert!(holds_for(world.node(3).members(), secs(10), |members| members.count() == 1).await);
    });
}

#[test]
fn a_datagram_that_is_sent_again_is_dropped() {
    simulate(1, async |mut world| {
        world.join(3).await;
        let own = world.net.tapped();
        for sent in &own {
            world.net.send(sent.clone());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let replayed: u64 = (0..3).map(|node| world.node(node).stats().replayed).sum();
        // Those that went to a node before it ran were heard by nobody, and may be new to it.
        assert!(replayed > own.len() as u64 / 2, "{replayed} of {}", own.len());
        world.whole(secs(1)).await;
    });
}

#[test]
fn two_processes_under_one_name_are_noticed() {
    simulate(1, async |mut world| {
        world.join(2).await;
        world.start_as(2, Config { card: card(1), ..config(2, 2) });
        tokio::time::sleep(secs(10)).await;
        assert!(world.node(1).stats().namesakes > 0);
    });
}

#[test]
fn a_seed_given_by_name_is_looked_up_until_it_answers() {
    simulate(1, async |mut world| {
        world.start(0, 1);
        let by_name = || vec![Seed::Name("nodes:7946".to_owned())];
        world.start_as(4, Config { seeds: by_name(), ..config(4, 1) });
        assert!(holds_for(world.node(4).members(), secs(10), |members| members.count() == 1).await);
        world.net.name("nodes:7946", &[addr(4), addr(3)]);
        assert!(holds_for(world.node(4).members(), secs(10), |members| members.count() == 1).await);
        world.net.name("nodes:7946", &[addr(4), addr(0)]);
        world.whole(secs(3)).await;
    });
}

#[test]
fn an_address_that_was_another_node_s_keeps_nobody_out() {
    simulate(1, async |mut world| {
        world.start(0, 1);
        world.start(1, 900);
        world.whole(secs(5)).await;
        world.kill(1);
        world.until(&[0], &[0], secs(10)).await;
        world.start_as(1, Config { card: card(5), ..config(1, 1) });
        world.until_all(&[0, 1], secs(6), |members| names(members) == [name(0), name(5)]).await;
    });
}

#[test]
fn a_node_that_cannot_take_part_is_not_started() {
    simulate(1, async |world| {
        let refused =
            |config: Config| Gossip::start(config, world.net.link(addr(0)), 1).unwrap_err().to_string();
        let zero = Config { advertise: "0.0.0.0:7946".parse().unwrap(), ..config(0, 1) };
        assert!(refused(zero).contains("advertise this machine's address"));
        let nameless = Config { cluster: String::new(), ..config(0, 1) };
        assert!(refused(nameless).contains("the cluster"));
        let long = Card { zone: Some("x".repeat(64)), ..card(0) };
        assert!(refused(Config { card: long, ..config(0, 1) }).contains("the zone"));
    });
}

#[test]
fn a_quiet_cluster_says_little() {
    simulate(1, async |mut world| {
        world.join(3).await;
        let told: Vec<_> = ShardId::all().map(|shard| (shard, Epoch(1))).collect();
        world.node(0).tell_epochs(&told);
        tokio::time::sleep(secs(60)).await;
        let before = world.net.tapped().len();
        tokio::time::sleep(secs(100)).await;
        let sent = &world.net.tapped()[before..];
        let bytes: usize = sent.iter().map(|(_, _, datagram)| datagram.len()).sum();
        let (count, bytes) = (sent.len() / 300, bytes / 300);
        println!("a node with 256 epochs sends {count} datagrams and {bytes} bytes a second");
        assert!(count <= 10 && bytes <= 5_000, "{count} datagrams, {bytes} bytes");
        assert!(sent.iter().all(|(_, _, datagram)| datagram.len() <= 1_200));
    });
}

#[test]
fn one_seed_gives_one_run() {
    let run = || {
        simulate(5, async |mut world| {
            world.net.lose(0.05);
            world.join(3).await;
            world.kill(2);
            tokio::time::sleep(secs(30)).await;
            world.net.tapped()
        })
    };
    assert_eq!(run(), run());
}

#[tokio::test]
async fn nodes_find_each_other_over_udp() {
    use std::sync::Arc;
    use syncline::gossip::Udp;

    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(Udp::bind("127.0.0.1:0".parse().unwrap()).await.unwrap());
    }
    let seed = Seed::Name(format!("localhost:{}", sockets[0].local_addr().unwrap().port()));
    let nodes: Vec<Gossip> = sockets
        .into_iter()
        .enumerate()
        .map(|(n, socket)| {
            let config =
                Config { advertise: socket.local_addr().unwrap(), seeds: vec![seed.clone()], ..config(n, 1) };
            Gossip::start(config, Arc::new(socket), n as u64).unwrap()
        })
        .collect();
    for node in &nodes {
        let mut members = node.members();
        let seen = members.wait_for(|members| members.count() == 3);
        tokio::time::timeout(secs(20), seen).await.expect("all three are up in time").unwrap();
    }
    nodes[2].leave().await;
    for node in &nodes[..2] {
        let mut members = node.members();
        let seen = members.wait_for(|members| names(members) == [name(0), name(1)]);
        tokio::time::timeout(secs(20), seen).await.expect("the farewell was heard").unwrap();
    }
}

//! What every journal promises, shown on each implementation; then what only the store on disk can break.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "journal/compare.rs"]
mod compare;
#[path = "journal/disk.rs"]
mod disk;
#[path = "journal/group.rs"]
mod group;
#[path = "journal/kit.rs"]
mod kit;
#[path = "journal/opening.rs"]
mod opening;
#[path = "journal/power.rs"]
mod power;
#[path = "redis/server.rs"]
#[expect(dead_code, reason = "tests/redis.rs kills and promotes servers; here they only run")]
mod server;
#[path = "journal/sim.rs"]
mod sim;
#[path = "journal/suite.rs"]
mod suite;

/// Runs every law on every implementation.
macro_rules! on_every_journal {
    ($($law:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $law() {
                super::suite::$law(std::sync::Arc::new(syncline::journal::memory::Memory::new())).await;
            })*
        }
        mod shared_memory {
            $(#[tokio::test]
            async fn $law() {
                super::suite::$law(super::group::open()).await;
            })*
        }
        mod redb {
            $(#[tokio::test]
            async fn $law() {
                let place = tempfile::tempdir().unwrap();
                let redb = syncline::journal::redb::Redb::open(place.path().join("store.redb"), Default::default());
                super::suite::$law(std::sync::Arc::new(redb.unwrap())).await;
            })*
        }
        mod redis {
            $(#[tokio::test]
            async fn $law() {
                let server = super::server::Server::start();
                let redis = syncline::journal::redis::Redis::open(server.options()).await;
                super::suite::$law(redis.unwrap()).await;
            })*
        }
        mod redis_of_many {
            /// Each law has a store of its own: all keys begin with the cluster's name.
            async fn every_law(options: syncline::journal::redis::Options) {
                $({
                    let law = stringify!($law);
                    eprintln!("{law}");
                    let options = syncline::journal::redis::Options { cluster: law.to_owned(), ..options.clone() };
                    let redis = syncline::journal::redis::Redis::open(options).await;
                    super::suite::$law(redis.unwrap()).await;
                })*
            }

            #[tokio::test]
            async fn every_law_holds_on_a_redis_cluster() {
                let servers = super::server::three_masters();
                let options = servers[0].options();
                every_law(syncline::journal::redis::Options { cluster_mode: true, ..options }).await;
            }

            #[tokio::test]
            async fn every_law_holds_on_a_primary_with_its_replica() {
                let (primary, _replica) = super::server::pair();
                every_law(primary.options_replicated(1)).await;
            }
        }
    };
}

on_every_journal! {
    an_old_epoch_writes_nothing
    epochs_only_grow
    a_chain_has_no_gap
    a_duplicate_gets_the_first_answer
    a_business_key_counts_whatever_the_message_id
    a_key_is_forgotten_after_its_time
    keys_count_within_their_entity
    effects_wait_until_they_are_settled
    effects_wait_in_the_lane_of_their_latency
    what_came_of_messages_is_counted_with_their_records
    effects_come_in_the_order_in_which_they_are_due
    progress_is_kept_and_does_not_undo_a_call_off
    an_effect_that_is_issued_again_waits_once
    timers_run_are_replaced_and_cleared
    exceptions_open_close_and_page
    entities_are_found_by_their_terms
    heads_page_in_the_order_of_keys
    the_census_follows_every_entity
    a_definition_never_changes
    an_order_stays_until_it_is_taken_back
    the_newest_snapshot_wins_and_the_tail_follows_it
    a_snapshot_of_another_history_is_refused
    a_long_journal_is_cut_only_where_its_snapshot_holds_it
    compaction_throws_away_what_is_past_its_time
    a_refused_append_leaves_nothing
    of_two_writers_one_wins
    ten_thousand_appends_at_once_stay_in_order
}

//! Whatever goes wrong on the way: the effect ends well, and the system applied it once.

use std::time::Duration;

use http::Method;
use syncline::delivery::wire::WireError;
use syncline::sandbox::{Fault, Plan, RetryAfter, SECRET};
use syncline_actors::envelope::OutcomeClass;

use crate::operations::{CUSTOMER, reserve, sales_order, ship, tax, ticket};
use crate::world::{Order, World};

/// Everything that changes something, in an order in which it can be done, with its input.
fn changes(order: &str) -> Vec<(&'static str, String)> {
    let status = format!(
        r#"{{"external_id":"{order}","opportunity_id":"O","erp_number":"N","status":"Booked","total":1.50}}"#
    );
    vec![
        ("erp.upsert_customer", CUSTOMER.to_owned()),
        ("warehouse.reserve", reserve(order, &["SKU-1"])),
        ("tax.calculate", tax(order, "P0000000")),
        ("erp.create_sales_order", sales_order(order)),
        ("crm.update_order", status),
        ("erp.create_invoice", r#"{"external_id":"I-1","sales_order_id":"10001","total":1}"#.to_owned()),
        ("support.create_ticket", ticket(order)),
        ("notify.send", r#"{"to":"a@customer.example","subject":"s","text":"t"}"#.to_owned()),
        ("warehouse.ship", ship(order)),
        ("warehouse.recall", format!(r#"{{"order_number":"{order}"}}"#)),
        ("erp.close_sales_order", r#"{"id":"10001"}"#.to_owned()),
        ("tax.void", format!(r#"{{"code":"{order}"}}"#)),
        ("warehouse.release", format!(r#"{{"reservation_id":"R-{order}"}}"#)),
    ]
}

/// Does everything while each operation meets `plan`, and sees it applied once.
async fn all_once(world: &World, plan: &Plan) {
    once_each(world, plan, changes("SO-1")).await;
}

/// Does each change while its operation meets `plan`, and sees it applied once.
pub(crate) async fn once_each(world: &World, plan: &Plan, changes: Vec<(&'static str, String)>) {
    let order: Order<'_> = world.order("SO-1");
    for (call, input) in changes {
        let (system, operation) = call.split_once('.').unwrap();
        world.faults(system, plan.clone().on(&[operation]));
        let outcome = order.call(call, &input).await;
        assert_eq!(outcome.class, OutcomeClass::Ok, "{call} under {plan:?}: {outcome:?}");
        assert_eq!(world.applied(system, operation), 1, "{call} under {plan:?}");
        world.sandbox.clear_faults();
    }
    assert_eq!(world.sandbox.ledger().violations, []);
}

/// A world that ships too late for anything to leave.
async fn slow_warehouse() -> World {
    World::shipping_after(Duration::from_mins(10)).await
}

#[tokio::test]
async fn an_answer_that_is_cut_off_twice_ends_in_one_application() {
    let world = slow_warehouse().await;
    all_once(&world, &Plan::always(Fault::CommitThenCut).times(2)).await;
    let repeated: u64 = world.sandbox.summary().total.duplicates;
    assert!(repeated >= 2 * 10, "most calls were made three times: {repeated}");
    // What can be asked is asked, not sent again.
    let sales_orders = &world.sandbox.summary().operations["erp.create_sales_order"];
    assert_eq!((sales_orders.applied, sales_orders.duplicates), (1, 0));
    assert_eq!(world.requests("erp.find_sales_order"), 1);
}

#[tokio::test]
async fn a_cut_connection_brings_no_answer_at_all() {
    let world = World::new().await;
    for (fault, applied) in [(Fault::CommitThenCut, 1), (Fault::CutBefore, 1)] {
        world.faults("warehouse", Plan::always(fault).times(1));
        let headers = [("x-api-key", SECRET), ("idempotency-key", &*format!("{fault:?}"))];
        let body = r#"{"order_number":"SO-1","lines":[{"sku":"A","quantity":1}]}"#;
        let got = world.attempt(Method::POST, "/warehouse/v1/reservations", &headers, body).await;
        assert!(matches!(got, Err(WireError::Lost(_))), "{got:?}");
        assert_eq!(world.applied("warehouse", "reserve"), applied, "after {fault:?}");
    }
}

#[tokio::test]
async fn a_failure_after_the_application_ends_in_one_application() {
    let world = slow_warehouse().await;
    all_once(&world, &Plan::always(Fault::CommitThenStatus { code: 500 }).times(1)).await;
}

#[tokio::test]
async fn a_connection_cut_before_anything_was_applied_is_tried_again() {
    let world = slow_warehouse().await;
    all_once(&world, &Plan::always(Fault::CutBefore).times(2)).await;
    assert_eq!(world.sandbox.summary().total.duplicates, 0, "nothing had been applied");
}

#[tokio::test]
async fn errors_of_the_system_pass() {
    let world = slow_warehouse().await;
    let retry_after = RetryAfter::Absent;
    let kinds = [500, 502, 503].map(|code| Fault::Status { code, retry_after });
    let plan = Plan { kinds: kinds.to_vec(), ..Plan::always(Fault::Outage).times(3) };
    all_once(&world, &plan).await;
}

#[tokio::test]
async fn an_answer_after_the_caller_gave_up_ends_in_one_application() {
    let world = World::with(|connectors| {
        for name in ["erp", "support", "warehouse"] {
            connectors.get(name).timeout = Duration::from_millis(200);
        }
    })
    .await;
    let order = world.order("SO-1");
    order.ok("erp.upsert_customer", CUSTOMER).await;
    for system in ["erp", "support", "warehouse"] {
        world.faults(system, Plan::always(Fault::LateAnswer { ms: 60_000 }).times(1));
    }
    order.ok("warehouse.reserve", &reserve("SO-1", &["SKU-1"])).await;
    order.ok("support.create_ticket", &ticket("SO-1")).await;
    order.ok("erp.create_sales_order", &sales_order("SO-1")).await;
    assert_eq!(world.sandbox.summary().total.applied, 4);
    assert_eq!(world.requests("erp.find_sales_order"), 1);
}

#[tokio::test]
async fn an_expired_token_is_fetched_anew() {
    let world = World::new().await;
    let order = world.order("SO-1");
    order.ok("crm.get_account", r#"{"account_id":"ACC-1"}"#).await;
    assert_eq!(world.requests("crm.token"), 1);
    world.faults("crm", Plan::always(Fault::ExpiredToken).times(1));
    let outcome = order.call("crm.get_account", r#"{"account_id":"ACC-1"}"#).await;
    assert_eq!(outcome.class, OutcomeClass::Ok);
    assert_eq!((world.requests("crm.token"), world.requests("crm.get_account")), (2, 3));
    world.faults("erp", Plan::always(Fault::ExpiredToken).times(1));
    order.ok("erp.upsert_customer", CUSTOMER).await;
    assert_eq!((world.requests("erp.token"), world.applied("erp", "upsert_customer")), (2, 1));
}

#[tokio::test]
async fn a_token_that_expires_under_many_calls_at_once_refuses_none_of_them_for_good() {
    let world = World::new().await;
    world.faults("crm", Plan::always(Fault::ExpiredToken).at_rate(0.3));
    let orders: Vec<_> = (0..60).map(|n| world.order(&format!("SO-{n}"))).collect();
    let read = |order| async move { Order::ok(order, "crm.get_account", r#"{"account_id":"ACC-1"}"#).await };
    futures::future::join_all(orders.iter().map(read)).await;
    assert!(world.requests("crm.token") >= 2, "at least one expired");
}

#[tokio::test]
async fn a_system_that_names_a_time_is_left_alone_until_then() {
    let world = World::new().await;
    let wait = |retry_after| Plan::always(Fault::Status { code: 429, retry_after }).times(1);
    world.faults("tax", wait(RetryAfter::Seconds(1)));
    world.faults("support", wait(RetryAfter::Date(1)));
    let order = world.order("SO-1");
    let (taxed, ticketed) = (tax("SO-1", "P0000000"), ticket("SO-1"));
    let began = tokio::time::Instant::now();
    tokio::join!(order.ok("tax.calculate", &taxed), order.ok("support.create_ticket", &ticketed));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(990), "both waited: {took:?}");
    assert_eq!((world.requests("tax.calculate"), world.requests("support.create_ticket")), (2, 2));
}

#[tokio::test]
async fn a_rate_limit_slows_but_loses_nothing() {
    let world = World::new().await;
    world.faults("notify", Plan::always(Fault::RateLimit { calls: 2, per_ms: 400 }));
    let orders: Vec<_> = (0..5).map(|n| world.order(&format!("SO-{n}"))).collect();
    let calls = orders.iter().map(|order| {
        let input = format!(r#"{{"to":"{}@customer.example","subject":"s","text":"t"}}"#, order.key);
        async move { order.ok("notify.send", &input).await }
    });
    futures::future::join_all(calls).await;
    assert_eq!(world.applied("notify", "send"), 5);
    assert!(world.requests("notify.send") > 5, "some were refused first");
}

#[tokio::test]
async fn an_outage_lasts_until_it_is_cleared_and_touches_no_other_system() {
    let world = World::new().await;
    world.faults("tax", Plan::always(Fault::Outage));
    let order = world.order("SO-1");
    let input = tax("SO-1", "P0000000");
    let meanwhile = async {
        world.until(|ledger| ledger.requests.get("tax.calculate").is_some_and(|n| *n >= 3)).await;
        world.order("SO-2").ok("warehouse.reserve", &reserve("SO-2", &["SKU-1"])).await;
        assert_eq!(world.applied("tax", "calculate"), 0);
        world.sandbox.clear_faults();
    };
    let (outcome, ()) = tokio::join!(order.call("tax.calculate", &input), meanwhile);
    assert_eq!(outcome.class, OutcomeClass::Ok);
    assert_eq!(world.applied("tax", "calculate"), 1);
}

//! Employees, from the hire to the day they leave, and back.

use std::sync::Arc;

use syncline::sandbox::worker::{Variant, Worker};
use syncline_actors::value::Value;

use crate::Must;
use crate::books::{Books, Seen};
use crate::stage::Stage;

const KIND: &str = "employee";

/// An employment, by its number.
pub(crate) async fn play(stage: Arc<Stage>, number: u64) -> Vec<Must> {
    let (variant, start, must): (_, _, &'static [&'static str]) = match number % 10 {
        0 => (Variant::NoDepartment, "2026-01-01", &["employed"]),
        1 => (Variant::NoTaxId, "2026-01-01", &["employed"]),
        2 => (Variant::TakenName, "2026-01-01", &["preparation_hold"]),
        3 | 7 => (Variant::Normal, "2099-01-01", &["rescinded"]),
        4 => (Variant::Normal, "2099-01-01", &["ready"]),
        5 => (Variant::Normal, "2026-01-01", &["left"]),
        _ => (Variant::Normal, "2026-01-01", &["employed"]),
    };
    let worker = Worker::new(number, variant);
    let key = worker.id();
    let now = Stage::now();
    let until = async |state: &'static str| stage.until(KIND, &key, &[state]).await;
    let send =
        async |body: serde_json::Value, what: &str| stage.send("hr", &body, &worker.message_id(what)).await;
    send(worker.hired(1, start, now), "hired").await;
    match number % 10 {
        0 => {
            until("incomplete_hold").await;
            send(worker.changed(now), "changed").await;
        }
        1 => {
            stage.release(KIND, &key, "payroll_data_hold", "employed").await;
        }
        3 => {
            until("ready").await;
            send(worker.rescinded(now), "rescinded").await;
        }
        5 | 6 => {
            until("employed").await;
            send(worker.terminated("2026-02-01", now), "terminated").await;
            until("returning").await;
            send(worker.returned(now), "returned").await;
            until("left").await;
            if number % 10 == 6 {
                send(worker.hired(2, start, now), "hired2").await;
            }
        }
        // In the middle of the preparation, wherever it is.
        7 => send(worker.rescinded(now), "rescinded").await,
        8 => {
            until("employed").await;
            send(worker.changed(now), "changed").await;
            until("employed").await;
        }
        _ => {}
    }
    stage.until(KIND, &key, must).await;
    vec![Must::new(KIND, &key, must)]
}

/// Account, payroll and equipment of an employee.
pub(crate) fn check(books: &mut Books, seen: &Seen) {
    let (key, engagement) = (seen.key(), seen.text("engagement"));
    if matches!(&*seen.state, "rescinded" | "preparation_hold") {
        return undone(books, seen, &engagement);
    }
    let gone = seen.state == "left";
    books.agrees(
        seen,
        "directory",
        "user",
        key,
        &[
            ("userName", seen.field("user_name")),
            ("displayName", seen.field("name")),
            ("department", seen.field("department")),
            ("active", seen.field("directory_active")),
            ("active", Value::Bool(seen.state == "employed")),
        ],
    );
    books.agrees(
        seen,
        "payroll",
        "engagement",
        &engagement,
        &[
            ("name", seen.field("name")),
            ("department", seen.field("department")),
            ("salary", seen.field("salary")),
            ("currency", seen.field("currency")),
            ("start_date", seen.field("start_date")),
            ("taxId", seen.field("tax_id")),
            ("status", seen.field("payroll_status")),
            ("status", Value::from(if gone { "ended" } else { "active" })),
        ],
    );
    let ids = |field: &str| Value::list([seen.field(field)]);
    books.agrees(seen, "support", "ticket", &format!("EQ-{engagement}"), &[("ids", ids("equipment_ticket"))]);
    if gone {
        books.agrees(
            seen,
            "support",
            "ticket",
            &format!("RT-{engagement}"),
            &[("ids", ids("return_ticket"))],
        );
    }
    if seen.state != "ready" {
        let told: &[&str] = match (&*seen.state, engagement.ends_with("-E2")) {
            ("left", _) => &["Onboarding", "Offboarding"],
            (_, true) => &["Onboarding", "Offboarding", "Onboarding"],
            _ => &["Onboarding"],
        };
        let told = Value::list(told.iter().map(|kind| Value::from(*kind)));
        books.agrees(seen, "hr", "worker", key, &[("events", told)]);
    }
}

/// Nothing is left of a hire that did not come about: equipment that was asked for is called off.
fn undone(books: &mut Books, seen: &Seen, engagement: &str) {
    books.absent(seen, "directory", "user", seen.key());
    if books.record("payroll", "engagement", engagement).is_some() {
        books.agrees(seen, "payroll", "engagement", engagement, &[("status", Value::from("rescinded"))]);
    }
    let asked = books.record("support", "ticket", &format!("EQ-{engagement}")).is_some();
    let called_off = books.record("support", "ticket", &format!("EQX-{engagement}")).is_some();
    books.holds(seen, "equipment", asked == called_off, &format!("asked {asked}, called off {called_off}"));
}

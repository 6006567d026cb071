//! Employees, from the hire to the day they leave, and back.

use std::sync::Arc;

use syncline_actors::value::Value;

use super::agree::{Audit, Seen};
use super::stage::Stage;
use super::{Must, Stuck};
use crate::clock::{Clock as _, SystemClock};
use crate::sandbox::worker::{Variant, Worker};

pub(super) const KIND: &str = "employee";

/// What is special about an employment, by its number, its first day, and where it must stand.
fn case(number: u64) -> (Variant, &'static str, &'static [&'static str]) {
    match number % 10 {
        0 => (Variant::NoDepartment, "2026-01-01", &["employed"]),
        1 => (Variant::NoTaxId, "2026-01-01", &["employed"]),
        2 => (Variant::TakenName, "2026-01-01", &["preparation_hold"]),
        3 | 7 => (Variant::Normal, "2099-01-01", &["rescinded"]),
        4 => (Variant::Normal, "2099-01-01", &["ready"]),
        5 => (Variant::Normal, "2026-01-01", &["left"]),
        _ => (Variant::Normal, "2026-01-01", &["employed"]),
    }
}

/// An employment, by its number.
pub(super) async fn play(stage: Arc<Stage>, number: u64) -> Result<Vec<Must>, Stuck> {
    let (variant, start, must) = case(number);
    let worker = Worker::new(number, variant);
    let key = worker.id();
    let now = SystemClock.now();
    let until = async |state: &'static str| stage.until(KIND, &key, &[state]).await;
    let send =
        async |body: serde_json::Value, what: &str| stage.send("hr", &body, &worker.message_id(what)).await;
    send(worker.hired(1, start, now), "hired").await?;
    match number % 10 {
        0 => {
            until("incomplete_hold").await?;
            send(worker.changed(now), "changed").await?;
        }
        1 => {
            stage.release(KIND, &key, "payroll_data_hold", "employed").await?;
        }
        3 => {
            until("ready").await?;
            send(worker.rescinded(now), "rescinded").await?;
        }
        5 | 6 => {
            until("employed").await?;
            send(worker.terminated("2026-02-01", now), "terminated").await?;
            until("returning").await?;
            send(worker.returned(now), "returned").await?;
            until("left").await?;
            if number % 10 == 6 {
                send(worker.hired(2, start, now), "hired2").await?;
            }
        }
        // In the middle of the preparation, wherever it is.
        7 => send(worker.rescinded(now), "rescinded").await?,
        8 => {
            until("employed").await?;
            send(worker.changed(now), "changed").await?;
            until("employed").await?;
        }
        _ => {}
    }
    Ok(vec![stage.ends(KIND, &key, must).await?])
}

/// Account, payroll and equipment of an employee.
pub(super) fn check(audit: &mut Audit, seen: &Seen) {
    let (key, engagement) = (seen.key(), seen.text("engagement"));
    if matches!(&*seen.state, "rescinded" | "preparation_hold") {
        return undone(audit, seen, &engagement);
    }
    let gone = seen.state == "left";
    audit.agrees(
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
    audit.agrees(
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
    let equipment = [("sys_id", seen.field("equipment_ticket")), ("request_state", Value::from("requested"))];
    audit.agrees(seen, "itsm", "request", &format!("EQ-{engagement}"), &equipment);
    if gone {
        let back =
            [("sys_id", seen.field("return_ticket")), ("request_state", Value::from("closed_complete"))];
        audit.agrees(seen, "itsm", "request", &format!("RT-{engagement}"), &back);
    }
    if seen.state != "ready" {
        let told: &[&str] = match (&*seen.state, engagement.ends_with("-E2")) {
            ("left", _) => &["Onboarding", "Offboarding"],
            (_, true) => &["Onboarding", "Offboarding", "Onboarding"],
            _ => &["Onboarding"],
        };
        let told = Value::list(told.iter().map(|kind| Value::from(*kind)));
        audit.agrees(seen, "hr", "worker", key, &[("events", told)]);
    }
}

/// Nothing is left of a hire that did not come about: equipment that was asked for is called off.
fn undone(audit: &mut Audit, seen: &Seen, engagement: &str) {
    audit.absent(seen, "directory", "user", seen.key());
    if audit.record("payroll", "engagement", engagement).is_some() {
        audit.agrees(seen, "payroll", "engagement", engagement, &[("status", Value::from("rescinded"))]);
    }
    let asked = format!("EQ-{engagement}");
    if audit.record("itsm", "request", &asked).is_some() {
        let called_off = [("request_state", Value::from("closed_cancelled"))];
        audit.agrees(seen, "itsm", "request", &asked, &called_off);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_variant_is_among_ten() {
        let variants: BTreeSet<_> = (1..=10).map(|number| case(number).0).collect();
        assert_eq!(variants, Variant::ALL.into_iter().collect());
    }
}

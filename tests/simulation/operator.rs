//! The person who looks at exceptions.

use std::sync::Arc;
use std::time::Duration;

use syncline::host::Lane;
use syncline_actors::decision::{ExceptionClass, Verdict};
use syncline_actors::envelope::{Action, Body, Intervention};
use syncline_actors::outbox::ExceptionRow;
use syncline_actors::value::Value;

use crate::client::{Op, perform};
use crate::ground::Ground;
use crate::vendor;

/// Looks at the exceptions now and then, and does what a careful person would.
pub(crate) async fn operate(ground: Arc<Ground>) {
    let mut number = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        for row in ground.exceptions().await {
            // What is under way at a vendor has had its effect by then.
            if ground.now().since(row.opened_at) < Duration::from_secs(10) {
                continue;
            }
            number += 1;
            let action = act(&ground, &row);
            ground.count("operator");
            let reason = row.exception.class.word().into();
            let body = Body::Intervention(Intervention { by: "operator".into(), reason, action });
            let op = Op {
                entity: row.entity.clone(),
                source: "operator",
                id: format!("i-{number}"),
                body,
                lane: Lane::Inside,
            };
            let answer = perform(ground.clone(), op).await;
            if let Verdict::Rejected(why) = answer.verdict {
                ground.line(&format!("the operator is told: {why}"));
            }
        }
    }
}

fn act(ground: &Ground, row: &ExceptionRow) -> Action {
    let exception = row.exception.number;
    let key = row.exception.effect.map(|effect| effect.idempotency_key(&row.entity));
    let applied = key.as_deref().is_some_and(|key| ground.ledger().applied(key) > 0);
    let by_hand = |result| Action::Resolve { exception, result };
    match (row.exception.class, key) {
        (ExceptionClass::DeadLetter | ExceptionClass::Compensation, Some(key)) if applied => {
            by_hand(Value::map([("id", Value::from(vendor::result(&key)))]))
        }
        (ExceptionClass::Failure, Some(_)) => by_hand(Value::map([("id", Value::from("by hand"))])),
        (ExceptionClass::Hold | ExceptionClass::DeadLetter | ExceptionClass::Compensation, _) => {
            Action::Retry { exception, set: Value::Null }
        }
        _ => by_hand(Value::Null),
    }
}

//! Amendments of subscriptions: one at a time, in all systems or in none.

use std::sync::Arc;

use syncline_actors::value::Value;

use super::agree::{Audit, Seen};
use super::stage::Stage;
use super::{Must, Stuck, subscription};
use crate::clock::{Clock as _, SystemClock};
use crate::sandbox::contract::{Change, Contract, Variant};

pub(super) const KIND: &str = "amendment";

/// A subscription with two amendments, one after the other; of some the first is refused by a system, and undone.
pub(super) async fn play(stage: Arc<Stage>, number: u64) -> Result<Vec<Must>, Stuck> {
    let contract = Contract { prefix: "AMS".to_owned(), number, variant: Variant::Normal };
    let refused = number.is_multiple_of(4);
    let key = subscription::quote(&stage, &contract).await?;
    let (first, second) = (contract.amendment(1), contract.amendment(2));
    let one = contract.amended(Change { number: 1, refused }, SystemClock.now());
    stage.send("cpq", &one, &contract.message_id("amended1")).await?;
    // From here on it is in the queue of its subscription, or beyond.
    stage
        .until(
            KIND,
            &first,
            &["waiting", "reading", "applying", "confirming", "applied", "undoing", "undone_hold"],
        )
        .await?;
    let two = contract.amended(Change { number: 2, refused: false }, SystemClock.now());
    stage.send("cpq", &two, &contract.message_id("amended2")).await?;
    let ends: &'static [&'static str] = if refused { &["undone_hold"] } else { &["applied"] };
    Ok(vec![
        stage.ends(KIND, &first, ends).await?,
        stage.ends(KIND, &second, &["applied"]).await?,
        stage.ends(subscription::KIND, &key, &["active"]).await?,
    ])
}

/// What an amendment changed is checked with its subscription, whose fields it changed; here, what it was told and told itself.
pub(super) fn check(audit: &mut Audit, seen: &Seen) {
    if seen.state == "applied" {
        let quote = [
            ("SBQQ__Status__c", Value::from("Activated")),
            ("Subscription__c", seen.field("subscription_id")),
        ];
        audit.agrees(seen, "cpq", "quote", &seen.text("quote_id"), &quote);
    }
    // The second was the last to have its turn: what it says stands.
    if seen.key().ends_with("-AM2") {
        let key = seen.text("subscription_id");
        audit.agrees(
            seen,
            "billing",
            "subscription",
            &key,
            &[("amount", seen.field("amount")), ("lines", seen.field("lines"))],
        );
        audit.agrees(seen, "success", "entitlement", &key, &[("level", seen.field("level"))]);
        audit.agrees(seen, "success", "forecast", &key, &[("amount", seen.field("amount"))]);
        audit.agrees(seen, "revenue", "treatment", &key, &[("amount", seen.field("amount"))]);
    }
}

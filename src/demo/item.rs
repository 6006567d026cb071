//! Items: the ERP says only that something has changed, others write what they may, and warehouse and shop are told.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use syncline_actors::value::Value;

use super::agree::{Audit, Seen};
use super::stage::Stage;
use super::{Must, Stuck};
use crate::clock::{Clock as _, SystemClock};

pub(super) const KIND: &str = "item";

/// As it is typed in at the ERP, the `change`th time.
fn typed(number: u64, change: u64) -> Json {
    json!({
        "displayName": name(number, change),
        "basePrice": format!("{}.{:02}", 10 + (number + change) % 90, (number * 7 + change) % 100),
        "currency": {"refName": if number.is_multiple_of(3) { "GBP" } else { "EUR" }},
        "taxSchedule": {"refName": format!("P{:07}", change)},
    })
}

fn name(number: u64, change: u64) -> String {
    format!("Bolt {number}, form {change}")
}

/// An item, by its number.
pub(super) async fn play(stage: Arc<Stage>, number: u64) -> Result<Vec<Must>, Stuck> {
    let ending = if matches!(number % 8, 2 | 3) { "-MISSING" } else { "" };
    let key = format!("IT-{number:06}{ending}");
    let types = |change: u64| stage.types("erp", &format!("screen/items/{key}"), &typed(number, change));
    let ready = async || stage.until(KIND, &key, &["ready"]).await;
    let called = async |name: &str| {
        stage.when(KIND, &key, |fields| fields.path("name") == Some(&Value::from(name))).await
    };
    let says = async |who: &str, what: &str, data: Json| {
        let id = format!("{what} {key} {}", data["revision"]);
        stage.event(who, (KIND, &key), &format!("item.{what}"), &id, &data).await
    };
    let touched = json!({"type": "item.updated", "timestamp": SystemClock.now().to_string(), "data": {"externalId": key}});
    match number % 8 {
        // Again and again, faster than it is read.
        1 => {
            for change in 1..=4 {
                types(change)?;
            }
            called(&name(number, 4)).await?;
        }
        // The ERP tells of it before it has it.
        2 => {
            stage.send("erp", &touched, &format!("msg_{key}")).await?;
            stage.until(KIND, &key, &["missing"]).await?;
            types(1)?;
        }
        // It is there in the moment in which it is not found.
        3 => {
            stage.send("erp", &touched, &format!("msg_{key}")).await?;
            types(1)?;
        }
        // Texts come from somewhere else, the newest first.
        4 => {
            types(1)?;
            ready().await?;
            for (revision, text) in [("2027-01-03", "Round and shiny"), ("2027-01-02", "Round")] {
                says("pim", "changed", json!({"revision": revision, "description": text})).await?;
            }
            types(2)?;
            called(&name(number, 2)).await?;
        }
        // It is weighed; the price is not for everybody to say.
        5 => {
            types(1)?;
            ready().await?;
            for (revision, weight) in [("2027-01-01", "0.250"), ("2027-01-02", "0.275")] {
                says("scales", "changed", json!({"revision": revision, "weight": weight})).await?;
            }
            let price = json!({"revision": "2027-01-01", "price": "0.01"});
            Stage::refused(
                says("pim", "changed", price).await?,
                &format!("a price of {key} from elsewhere"),
            )?;
        }
        // It is wanted before anybody has told of it.
        6 => {
            says("portal", "wanted", json!({})).await?;
            ready().await?;
            types(1)?;
            called(&name(number, 1)).await?;
        }
        // Somebody gives it another name: a person takes it, and the ERP follows, or keeps the ERP's.
        7 => {
            types(1)?;
            ready().await?;
            says("pim", "changed", json!({"revision": "2027-01-01", "name": name(number, 9)})).await?;
            let take = !(number / 8).is_multiple_of(2);
            stage.settle(KIND, &key, take).await?;
            if take {
                called(&name(number, 9)).await?;
                types(9)?;
            }
        }
        _ => types(1)?,
    }
    Ok(vec![stage.ends(KIND, &key, &["ready"]).await?])
}

/// What ERP, warehouse and shop hold of an item.
pub(super) fn check(audit: &mut Audit, seen: &Seen) {
    let key = seen.key();
    let field = |path: &str| seen.field(path);
    audit.agrees(
        seen,
        "erp",
        "item",
        key,
        &[
            ("id", field("ids.erp")),
            ("itemId", Value::from(key)),
            ("displayName", field("name")),
            ("basePrice", field("price")),
            ("currency.refName", field("currency")),
            ("taxSchedule.refName", field("tax_class")),
        ],
    );
    audit.agrees(seen, "warehouse", "item", key, &[("name", field("name")), ("weight", field("weight"))]);
    let text = if field("description").is_null() { Value::from("") } else { field("description") };
    let variant = Value::map([("sku", Value::from(key)), ("price", field("price"))]);
    audit.agrees(
        seen,
        "shop",
        "product",
        &seen.text("ids.shop"),
        &[("title", field("name")), ("descriptionHtml", text), ("variants", Value::list([variant]))],
    );
}

//! Every operation by which systems are told of records, with the results that come back, and the orders of the second company.

use crate::world::World;

pub(crate) const ACCOUNT: &str = r#"{"account_id":"ACC-1","erp_number":"CUST-ACC-1","credit_limit":500.00,"payment_terms":"Net 30","id":null}"#;
pub(crate) const ITEM: &str = r#"{"sku":"SKU-1","name":"Bolt","weight":0.25,"id":null}"#;
pub(crate) const PARTNER: &str =
    r#"{"external_id":"ACC-1","name":"Company ACC-1","email":"a@customer.example","id":null}"#;
pub(crate) const SHOPPER: &str =
    r#"{"external_id":"ACC-1","name":"Company ACC-1","email":"a@customer.example","phone":null,"id":null}"#;
pub(crate) const PRODUCT: &str = r#"{"sku":"SKU-1","title":"Bolt","text":"","price":19.90,"id":null}"#;
pub(crate) const SHOP_ORDER: &str =
    r#"{"id":"gid://shopify/Order/1","status":"booked","note":"SAP order 1"}"#;
pub(crate) const FULFILMENT: &str =
    r#"{"fulfillment_order":"gid://shopify/FulfillmentOrder/1","carrier":"DHL","tracking_number":"T1"}"#;

pub(crate) fn s4_order(order: &str) -> String {
    format!(
        r#"{{"external_id":"{order}","sold_to":"1000001","currency":"EUR","total":119.80,
        "lines":[{{"sku":"SKU-1","quantity":2,"amount":119.80}}]}}"#
    )
}

#[tokio::test]
async fn the_second_erp_knows_partners_by_our_number_and_wants_decimals_as_text() {
    let world = World::new().await;
    let order = world.order("SO-1");
    assert_eq!(order.ok("s4.find_partner", PARTNER).await.to_json(), r#"{"id":null}"#);
    let strange = order.refused("s4.create_sales_order", &s4_order("SO-1")).await;
    assert_eq!(strange, "SD/318: Sold-to party 1000001 not maintained for sales area");
    assert_eq!(order.ok("s4.create_partner", PARTNER).await.to_json(), r#"{"id":"1000001"}"#);
    assert_eq!(order.ok("s4.find_partner", PARTNER).await.to_json(), r#"{"id":"1000001"}"#);
    let quoted = PARTNER.replace("ACC-1\",\"name", "O'Hara\",\"name");
    assert_eq!(order.ok("s4.create_partner", &quoted).await.to_json(), r#"{"id":"1000002"}"#);
    assert_eq!(order.ok("s4.find_partner", &quoted).await.to_json(), r#"{"id":"1000002"}"#);
    assert_eq!(order.ok("s4.create_sales_order", &s4_order("SO-1")).await.to_json(), r#"{"id":"1"}"#);
    let dear = s4_order("SO-2").replace("\"total\":119.80", "\"total\":1000000.01");
    assert!(
        order.refused("s4.create_sales_order", &dear).await.contains("1000000.01 exceeds the credit limit")
    );
    let blocked = PARTNER.replace("ACC-1\",", "ACC-REFUSED\",");
    assert!(order.refused("s4.create_partner", &blocked).await.contains("blocked centrally"));
    assert!(order.refused("s4.close_sales_order", r#"{"id":"9"}"#).await.contains("does not exist"));
    assert_eq!(world.sandbox.ledger().violations, []);
}

#[tokio::test]
async fn the_shop_says_no_with_status_200_and_keeps_its_own_ids() {
    let world = World::new().await;
    let order = world.order("SO-1");
    let made = order.ok("shop.set_customer", SHOPPER).await.to_json();
    assert_eq!(made, r#"{"id":"gid://shopify/Customer/7000"}"#);
    assert_eq!(order.ok("shop.set_customer", SHOPPER).await.to_json(), made);
    let theirs = SHOPPER.replace("\"id\":null", "\"id\":\"gid://shopify/Customer/7\"");
    assert_eq!(
        order.ok("shop.set_customer", &theirs).await.to_json(),
        r#"{"id":"gid://shopify/Customer/7"}"#
    );
    let bounced = SHOPPER.replace("@customer", "@bounce");
    assert_eq!(order.refused("shop.set_customer", &bounced).await, "email Email is invalid");
    let nameless = PRODUCT.replace("Bolt", "");
    assert_eq!(order.refused("shop.set_product", &nameless).await, "title can't be blank");
    let nowhere = SHOP_ORDER.replace("Order/1", "Draft/1");
    assert_eq!(order.refused("shop.update_order", &nowhere).await, "id Order does not exist");
    order.ok("shop.create_fulfillment", FULFILMENT).await;
    order.ok("shop.create_fulfillment", FULFILMENT).await;
    assert_eq!(world.sandbox.ledger().violations.len(), 1, "nobody asked before the second");
}

#[tokio::test]
async fn records_are_told_to_the_crm_and_the_warehouse_and_read_from_the_erp() {
    let world = World::new().await;
    let order = world.order("SO-1");
    order.ok("crm.update_account", ACCOUNT).await;
    assert!(
        order
            .refused("crm.update_account", &ACCOUNT.replace("ACC-1\",", "ACC-MISSING\","))
            .await
            .contains("NOT_FOUND")
    );
    order.ok("warehouse.put_item", ITEM).await;
    assert!(order.refused("warehouse.put_item", &ITEM.replace("Bolt", "")).await.contains("needs a name"));
    let item = order.ok("erp.get_item", r#"{"sku":"SKU-1"}"#).await;
    assert_eq!(
        item.to_json(),
        r#"{"currency":"EUR","id":"ITEM-SKU-1","name":"Item SKU-1","price":"19.90","tax_class":"P0000000"}"#
    );
    assert_eq!(
        order.refused("erp.get_item", r#"{"sku":"X-MISSING"}"#).await,
        "the ERP has no item X-MISSING"
    );
}

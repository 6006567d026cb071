//! What is given, held against what is looked at: by the process that a message is for, by the operation that is called, by the process
//! that gets the answer. What somebody cannot do without must be there, and what nobody reads is often a slip.

use std::collections::BTreeMap;

use syncline_actors::document::{Place, Problem, suggest};
use syncline_actors::mapping::Mapping;
use syncline_actors::process::{Process, check};

use super::Loader;
use crate::delivery::contract::Operation;

/// Where something is given: the place, and the path to it.
pub(super) type At<'a> = (&'a Place, &'a str);

/// Who looks at it, in the words of a sentence.
struct Reader {
    /// E.g. ``process `order` ``.
    who: String,
    /// E.g. `` of `order.confirmed` ``.
    of: String,
    /// What it is called there: `data`, `input`.
    root: &'static str,
}

impl Loader<'_> {
    /// What a message gives its receiver.
    pub(super) fn check_message_gives(&self, at: At<'_>, map: &Mapping, receiver: &Process, message: &str) {
        let (Some(given), Some(read)) = (map.keys(), check::reads(receiver, message)) else { return };
        let who = format!("process `{}`", receiver.name);
        self.check_given(at, &given, &read, &Reader { who, of: format!(" of `{message}`"), root: "data" });
    }

    /// What a call gives its operation. `own` is given by the program.
    pub(super) fn check_call_gives(
        &self,
        at: At<'_>,
        map: &Mapping,
        (connector, called): (&str, &Operation),
        own: &[&str],
    ) {
        let (Some(mut given), Some(read)) = (map.keys(), called.takes()) else { return };
        given.extend(own.iter().map(|name| (*name, false)));
        let who = format!("operation `{connector}.{}`", called.name);
        self.check_given(at, &given, &read, &Reader { who, of: String::new(), root: "input" });
    }

    /// What an answer gives whoever looks at it.
    pub(super) fn check_answer_gives<'n>(
        &self,
        (place, path): At<'_>,
        read: impl IntoIterator<Item = &'n str>,
        (connector, called): (&str, &Operation),
    ) {
        let Some(given) = called.gives() else { return };
        for name in read.into_iter().filter(|name| !given.contains(name)) {
            let message = format!("`{connector}.{}` gives no `{name}`", called.name);
            let fix = match suggest(name, given.iter().copied()) {
                Some(near) => format!("did you mean `result.{near}`?"),
                None if given.is_empty() => {
                    "add it to `result` of the operation: it gives nothing".to_owned()
                }
                None => {
                    let known = given.iter().copied().collect::<Vec<_>>().join(", ");
                    format!("add it to `result` of the operation, which gives: {known}")
                }
            };
            self.reader.note(Problem::warning(place.clone(), path, message).fix(fix));
        }
    }

    fn check_given(
        &self,
        (place, path): At<'_>,
        given: &BTreeMap<&str, bool>,
        read: &BTreeMap<String, bool>,
        Reader { who, of, root }: &Reader,
    ) {
        let unread = || given.keys().copied().filter(|key| !read.contains_key(*key));
        for (name, needed) in read {
            let (message, fix) = match (given.get(name.as_str()), suggest(name, unread())) {
                (Some(true), _) if *needed => (
                    format!("`{name}` may be absent here, and {who} cannot do without it{of}"),
                    format!("write `{name}:`, or `default({root}.{name}, …)` where it is read"),
                ),
                (None, Some(near)) => (
                    format!("{who} reads no `{near}`{of}, and `{name}`, which is not given"),
                    format!("write `{name}` instead of `{near}`"),
                ),
                (None, None) if *needed => (
                    format!("{who} cannot do without `{name}`{of}, and it is not given"),
                    format!("add `{name}: …`, or write `default({root}.{name}, …)` where it is read"),
                ),
                _ => continue,
            };
            self.reader.note(Problem::warning(place.clone(), path, message).fix(fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::integration::tests::problems_with;

    #[test]
    fn what_a_receiver_needs_and_does_not_get_is_told() {
        let crm = "sources/crm.yaml";
        for (file, from, to, told) in [
            (
                crm,
                "          currency: \"body.data.CurrencyIsoCode\"\n",
                "",
                "process `order` cannot do without `currency` of `order.confirmed`, and it is not given",
            ),
            (
                crm,
                "          currency: ",
                "          curency: ",
                "process `order` reads no `curency` of `order.confirmed`, and `currency`, which is not given\n    fix: write `currency` instead of `curency`",
            ),
            (
                crm,
                "          currency: ",
                "          currency?: ",
                "`currency` may be absent here, and process `order` cannot do without it",
            ),
            (
                "processes/order.yaml",
                "\"data.currency\"",
                "\"data.curency\"",
                "process `order` reads no `currency` of `order.confirmed`, and `curency`, which is not given",
            ),
            (
                "processes/amendment.yaml",
                "with: {amendment: \"entity.key\"",
                "with: {amendmet: \"entity.key\"",
                "process `subscription` reads no `amendmet` of",
            ),
            (
                "processes/order.yaml",
                "      order_number: \"entity.key\"\n      lines",
                "      order_no: \"entity.key\"\n      lines",
                "effects.reserve_stock.with: operation `warehouse.reserve` cannot do without `order_number`, and it is not given",
            ),
            (
                "connectors/warehouse.yaml",
                "input.ship_to",
                "input.shipto",
                "operation `warehouse.reserve` reads no `ship_to`, and `shipto`, which is not given",
            ),
            (
                "processes/order.yaml",
                "sales_order_number: \"result.number\"",
                "sales_order_number: \"result.nmber\"",
                "effects.create_sales_order: `erp.create_sales_order` gives no `nmber`\n    fix: did you mean `result.number`?",
            ),
            (
                "connectors/erp.yaml",
                "      name: customer.name\n",
                "",
                "subscribes.customer.with: operation `erp.upsert_customer` cannot do without `name`, and it is not given",
            ),
            (
                "connectors/erp.yaml",
                "    with: {external_id: entity.key}\n",
                "    with: {key: entity.key}\n",
                "reconcile.order.with: operation `erp.read_sales_order` cannot do without `external_id`, and it is not given",
            ),
            (
                "connectors/erp.yaml",
                "theirs: result.status",
                "theirs: result.state",
                "reconcile.order.fields.status.theirs: `erp.read_sales_order` gives no `state`",
            ),
            (
                "connectors/erp.yaml",
                "cursor: result.next",
                "cursor: result.nxt",
                "reconcile.order.list: `erp.list_sales_orders` gives no `nxt`\n    fix: did you mean `result.next`?",
            ),
            (
                "connectors/crm.yaml",
                "        external_id: entity.key\n        opportunity_id: order.opportunity_id\n        status: \"entity.status",
                "        external_ids: entity.key\n        opportunity_id: order.opportunity_id\n        status: \"entity.status",
                "reconcile.order.repair.with: operation `crm.update_order` reads no `external_ids`, and `external_id`, which is not given",
            ),
            (
                "connectors/erp.yaml",
                "    id: result.id\n",
                "    id: result.idd\n",
                "subscribes.customer.id: `erp.upsert_customer` gives no `idd`",
            ),
        ] {
            let seen = problems_with(file, from, to);
            assert!(seen.contains(told), "{told}\n---\n{seen}");
        }
    }

    #[test]
    fn what_a_receiver_can_do_without_need_not_be_given() {
        let without = [
            (
                "sources/crm.yaml",
                "          reason: \"default(body.data.Reason__c, 'cancelled in the CRM')\"\n",
                "          other: \"1\"\n",
            ),
            ("sources/crm.yaml", "          phone?: \"body.data.Phone\"\n", ""),
        ];
        for (file, from, to) in without {
            assert_eq!(problems_with(file, from, to), "", "{from}");
        }
    }
}

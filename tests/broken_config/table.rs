//! Mistakes as people make them, each with what is told of it, word for word.

/// A file, what stands there, what stands there instead, and all that is told.
pub(crate) type Mistake = (&'static str, &'static str, &'static str, &'static str);

pub(crate) const MISTAKES: &[Mistake] = &[
    (
        "processes/order.yaml",
        "initial: received",
        "initial: recieved",
        "config/processes/order.yaml:10:10  initial: there is no state `recieved`\n\
         \x20   fix: did you mean `received`?",
    ),
    (
        "processes/order.yaml",
        "  currency: text",
        "  currency: string",
        "config/processes/order.yaml:18:13  fields.currency: `string` is not allowed here\n\
         \x20   fix: write one of `text`, `number`, `bool`, `list`, `map`, `any`",
    ),
    (
        "processes/order.yaml",
        "is: event, starts: true",
        "is: event",
        "config/processes/order.yaml:6:1  messages: no message starts an instance\n\
         \x20   fix: mark the message that begins an instance with `starts: true`",
    ),
    (
        "processes/order.yaml",
        "call: erp.create_sales_order",
        "call: erp.create_sale_order",
        "config/processes/order.yaml:93:5  call: erp.create_sale_order: there is no operation of connector `erp` `create_sale_order`\n\
         \x20   fix: did you mean `create_sales_order`?",
    ),
    (
        "processes/order.yaml",
        "call: erp.create_sales_order",
        "call: create_sales_order",
        "config/processes/order.yaml:93:11  effects.create_sales_order.call: `create_sales_order` names no operation\n\
         \x20   fix: write `call: connector.operation`",
    ),
    (
        "processes/order.yaml",
        "undo: release_stock",
        "undo: relase_stock",
        "config/processes/order.yaml:57:5  effects.reserve_stock.undo: there is no effect `relase_stock`\n\
         \x20   fix: did you mean `release_stock`?\n\
         config/processes/order.yaml:66:5  warning: effects.release_stock: effect `release_stock` is never called\n\
         \x20   fix: call it, or delete it\n\
         config/processes/order.yaml:66:5  effects.release_stock.with: `step` means nothing here\n\
         \x20   fix: `step` is what is being undone: it is only there in an effect that another names in `undo`; assign what you need to a field with `set` or `keep` first",
    ),
    (
        "processes/order.yaml",
        "  cancelling:\n    on:",
        "  cancelling:\n    commit: true\n    on:",
        "config/processes/order.yaml:364:5  anywhere[\"order.cancel\"]: what was done is undone, but the state that follows lets it stand\n\
         \x20   fix: let `to` name a state without `commit: true`",
    ),
    (
        "processes/order.yaml",
        "\"order.customer_id\"",
        "\"order.costumer_id\"",
        "config/processes/order.yaml:93:5  effects.create_sales_order.with: there is no field `costumer_id`\n\
         \x20   fix: did you mean `customer_id`?",
    ),
    (
        "processes/order.yaml",
        "{to: account_check}\n\n  # The customer",
        "{to: acount_check}\n\n  # The customer",
        "config/processes/order.yaml:238:14  states.account_hold.on.retry: there is no state `acount_check`\n\
         \x20   fix: did you mean `account_check`?",
    ),
    (
        "processes/order.yaml",
        "when: \"!result.active\"\n          to",
        "when: \"result.active = false\"\n          to",
        "config/processes/order.yaml:210:17  states.account_check.on[\"check_account.ok\"][0].when: `\"result.active = false\"` does not read: 1:15: Syntax error: token recognition error at: '= '\n\
         \x20   fix: to compare, write `==`",
    ),
    (
        "processes/order.yaml",
        "        - when: \"!result.active\"\n          to",
        "        - to",
        "config/processes/order.yaml:211:11  states.account_check.on[\"check_account.ok\"]: this transition is never taken: the one before it has no guard\n\
         \x20   fix: give the one before it a `when`, or delete this one",
    ),
    (
        "processes/order.yaml",
        "      create_invoice.ok: {to: closing}",
        "      create_invoice.okay: {to: closing}",
        "config/processes/order.yaml:340:28  states.invoicing.on: there is no message `create_invoice.okay`\n\
         \x20   fix: did you mean `create_invoice.ok`?",
    ),
    (
        "processes/order.yaml",
        "      calculate_tax.failed: {to: tax_hold}\n",
        "",
        "config/processes/order.yaml:307:5  states.tax: state `tax` does not say what happens when `calculate_tax` fails\n\
         \x20   fix: add `calculate_tax.failed:` under `on`, or `failure: exception` to the effect\n\
         config/processes/order.yaml:312:5  states.tax_hold: state `tax_hold` can never be reached\n\
         \x20   fix: lead a transition to it with `to`, or delete it",
    ),
    (
        "processes/order.yaml",
        "with: {reservation_id: \"step.result.reservation_id\"}",
        "with: {reservation_id: \"result.reservation_id\"}",
        "config/processes/order.yaml:66:5  effects.release_stock.with: `result` means nothing here\n\
         \x20   fix: `result` and `error` are an effect's answer: they are only there on its transitions and in `keep`; assign what you need to a field with `set` or `keep` first",
    ),
    (
        "processes/order.yaml",
        "\"dec(data.amount)\"",
        "\"dce(data.amount)\"",
        "config/processes/order.yaml:198:19  states.received.on[\"order.confirmed\"].set.amount: there is no function dce()\n\
         \x20   fix: did you mean dec()?",
    ),
    (
        "processes/order.yaml",
        "billing: \"data.billing\"",
        "billing: \"data.billing",
        "config/processes/order.yaml:201:20  states.received.on[\"order.confirmed\"].set.billing: the text in quotes goes on in a line that is not indented\n\
         \x20   fix: close the quote, or indent that line",
    ),
    (
        "processes/order.yaml",
        "      4h: {to",
        "      4 h: {to",
        "config/processes/order.yaml:287:7  states.backorder.after[\"4 h\"]: `4 h` is not a duration\n\
         \x20   fix: write e.g. `after: {4h: {to: …}}`",
    ),
    (
        "processes/order.yaml",
        "within: 3d",
        "within: 3 days",
        "config/processes/order.yaml:370:46  milestones.shipped.within: `3 days` is not a duration\n\
         \x20   fix: write a whole number and a unit, e.g. `250ms`, `10s`, `5m`, `4h`, `2d` or `1h30m`\n\
         config/slos/order-shipped.yaml:15:65  spec.indicator.spec.ratioMetric.good.metricSource.spec.milestone: there is no milestone of process `order` `shipped`\n\
         \x20   fix: add it, or use one of: booked",
    ),
    (
        "processes/order.yaml",
        "  completed: {end: completed}",
        "  completed: {end: done}",
        "config/processes/order.yaml:347:20  states.completed.end: `done` is not allowed here\n\
         \x20   fix: write one of `completed`, `cancelled`, `failed`",
    ),
    (
        "processes/order.yaml",
        "    undo: \"order.cancel_reason\"\n",
        "",
        "config/processes/order.yaml:350:5  states.cancelling.on.compensated: state `cancelling` waits for `compensated`, and nothing that leads to it undoes\n\
         \x20   fix: give the transition that leads to it `undo: \"'why'\"`",
    ),
    (
        "processes/order.yaml",
        "    keep: {reservation_id: \"result.reservation_id\"}\n",
        "",
        "config/processes/order.yaml:132:5  warning: effects.request_shipment: field `reservation_id` is read here, and nothing assigns it\n\
         \x20   fix: assign it with `set` or `keep`",
    ),
    (
        "processes/order.yaml",
        "anywhere:",
        "anywere:",
        "config/processes/order.yaml:40:17  messages.order.cancel: no state has a transition for message `order.cancel`\n\
         \x20   fix: add `order.cancel:` under the `on` of a state, or delete the message\n\
         config/processes/order.yaml:124:5  warning: effects.report_cancelled: field `cancel_reason` is read here, and nothing assigns it\n\
         \x20   fix: assign it with `set` or `keep`\n\
         config/processes/order.yaml:350:5  states.cancelling: state `cancelling` can never be reached\n\
         \x20   fix: lead a transition to it with `to`, or delete it\n\
         config/processes/order.yaml:350:5  states.cancelling.on.compensated: state `cancelling` waits for `compensated`, and nothing that leads to it undoes\n\
         \x20   fix: give the transition that leads to it `undo: \"'why'\"`\n\
         config/processes/order.yaml:353:14  states.cancelled: state `cancelled` can never be reached\n\
         \x20   fix: lead a transition to it with `to`, or delete it\n\
         config/processes/order.yaml:355:1  anywere: the key `anywere` is unknown\n\
         \x20   fix: did you mean `anywhere`? Known keys: `anywhere`, `class`, `effects`, `fields`, `initial`, `messages`, `milestones`, `owner`, `process`, `record`, `states`, `title`, `version`",
    ),
    (
        "processes/order.yaml",
        "milestones:",
        "states: {}\nmilestones:",
        "config/processes/order.yaml:368:1  states: the key `states` stands here again, first in line 190\n\
         \x20   fix: keep one of the two",
    ),
    (
        "sources/crm.yaml",
        "preset: standard-webhooks",
        "preset: standard-webhook",
        "config/sources/crm.yaml:9:9  preset: there is no preset `standard-webhook`\n\
         \x20   fix: did you mean `standard-webhooks`?",
    ),
    (
        "sources/crm.yaml",
        "ref: \"env:SYNCLINE_CRM_SECRET\"}",
        "ref: \"whsec_abc\"}",
        "config/sources/crm.yaml:11:24  secrets[0].ref: it must be a reference, not the secret itself: write `env:NAME` for an environment variable, or `file:/path` for a file\n\
         \x20   fix: write `env:NAME` or `file:/path`, never the secret itself",
    ),
    (
        "sources/crm.yaml",
        "\"body.data.OrderNumber__c\"}",
        "\"bdy.data.OrderNumber__c\"}",
        "config/sources/crm.yaml:20:35  messages[\"opportunity.confirmed\"].send[0].to.key: there is no `bdy` here\n\
         \x20   fix: did you mean `body`?",
    ),
    (
        "sources/crm.yaml",
        "event: order.confirmed",
        "event: order.confirmd",
        "config/sources/crm.yaml:19:16  messages[\"opportunity.confirmed\"].send[0].event: there is no message of process `order` `order.confirmd`\n\
         \x20   fix: did you mean `order.confirmed`?",
    ),
    (
        "sources/crm.yaml",
        "amount: \"dec(body.data.Amount)\"",
        "amount: \"dec(body.data.Amount, 2)\"",
        "config/sources/crm.yaml:26:19  messages[\"opportunity.confirmed\"].send[0].map.amount: dec() takes 1 argument(s), 2 given\n\
         \x20   fix: correct the expression",
    ),
    (
        "sources/crm.yaml",
        "as: item\n            map:\n              sku: \"item",
        "as: itm\n            map:\n              sku: \"item",
        "config/sources/crm.yaml:43:20  messages[\"opportunity.confirmed\"].send[0].map.lines.map.sku: there is no `item` here\n\
         \x20   fix: did you mean `itm`?\n\
         config/sources/crm.yaml:44:25  messages[\"opportunity.confirmed\"].send[0].map.lines.map.quantity: there is no `item` here\n\
         \x20   fix: did you mean `itm`?\n\
         config/sources/crm.yaml:45:27  messages[\"opportunity.confirmed\"].send[0].map.lines.map.unit_price: there is no `item` here\n\
         \x20   fix: did you mean `itm`?\n\
         config/sources/crm.yaml:46:27  messages[\"opportunity.confirmed\"].send[0].map.lines.map[\"tax_class?\"]: there is no `item` here\n\
         \x20   fix: did you mean `itm`?",
    ),
    (
        "connectors/warehouse.yaml",
        "rate: 200/s",
        "rate: 200",
        "config/connectors/warehouse.yaml:14:33  limits.rate: `200` is no rate\n\
         \x20   fix: write calls per second, minute or hour: `50/s`, `600/m`, `1000/h`",
    ),
    (
        "connectors/warehouse.yaml",
        "timeout: 10s",
        "timeout: 10",
        "config/connectors/warehouse.yaml:15:10  timeout: the duration `10` has no unit\n\
         \x20   fix: write a whole number and a unit, e.g. `250ms`, `10s`, `5m`, `4h`, `2d` or `1h30m`",
    ),
    (
        "connectors/warehouse.yaml",
        "timeout: 10s",
        "timeout: -10s",
        "config/connectors/warehouse.yaml:15:10  timeout: `-10s` is not a duration\n\
         \x20   fix: write a whole number and a unit, e.g. `250ms`, `10s`, `5m`, `4h`, `2d` or `1h30m`",
    ),
    (
        "connectors/warehouse.yaml",
        "value: {ref: \"env:SYNCLINE_WAREHOUSE_API_KEY\", default: sandbox-secret}",
        "value: sandbox-secret",
        "config/connectors/warehouse.yaml:13:10  auth.value: a secret stands in the file\n\
         \x20   fix: write `{ref: env:NAME}`, and set NAME where the node runs",
    ),
    (
        "connectors/warehouse.yaml",
        "path: /v1/reservations\n",
        "path: v1/reservations\n",
        "config/connectors/warehouse.yaml:24:11  operations.reserve.path: the path `v1/reservations` has no leading slash\n\
         \x20   fix: write `/v1/reservations`\n\
         config/processes/order.yaml:57:5  call: warehouse.reserve: there is no operation of connector `warehouse` `reserve`\n\
         \x20   fix: add it, or use one of: put_item, recall, release, ship",
    ),
    (
        "connectors/warehouse.yaml",
        "    headers: {Idempotency-Key: key}\n    body: {order_number: input.order_number, lines",
        "    body: {order_number: input.order_number, lines",
        "config/connectors/warehouse.yaml:23:5  operations.reserve: `idempotency: header`, but nothing that is sent holds `key`\n\
         \x20   fix: send it, e.g. `headers: {Idempotency-Key: key}`",
    ),
    (
        "connectors/warehouse.yaml",
        "is: retry, detail: neither",
        "is: again, detail: neither",
        "config/connectors/warehouse.yaml:32:37  operations.reserve.outcomes[3].is: `again` is not allowed here\n\
         \x20   fix: write one of `ok`, `failed`, `retry`, `busy`, `throttled`, `reauthenticate`",
    ),
    (
        "connectors/warehouse.yaml",
        "scheme: api_key",
        "scheme: apikey",
        "config/connectors/warehouse.yaml:11:11  auth.scheme: `apikey` is not allowed here\n\
         \x20   fix: did you mean `api_key`? Allowed: `none`, `basic`, `api_key`, `bearer`, `oauth2_client_credentials`",
    ),
    (
        "connectors/warehouse.yaml",
        "is: busy}",
        "is: busy, result: {id: body.id}}",
        "config/connectors/warehouse.yaml:30:118  operations.reserve.outcomes[1].result: only `is: ok` has a result\n\
         \x20   fix: remove `result`",
    ),
    (
        "connectors/warehouse.yaml",
        "  release:\n",
        "  relase:\n",
        "config/processes/order.yaml:66:5  call: warehouse.release: there is no operation of connector `warehouse` `release`\n\
         \x20   fix: did you mean `relase`?",
    ),
    (
        "sources/crm.yaml",
        "latency: realtime",
        "latency: real",
        "config/sources/crm.yaml:8:18  class.latency: `real` is not allowed here\n\
         \x20   fix: write one of `realtime`, `minutes`, `batch`",
    ),
    (
        "sources/crm.yaml",
        "preset: standard-webhooks\n",
        "preset: standard-webhooks\npoll: {call: crm.list, every: 5m, items: result.items, message: order.new}\n",
        "config/sources/crm.yaml:10:14  poll.call: there is no operation of connector `crm` `list`\n\
         \x20   fix: add it, or use one of: get_account, get_order, update_account, update_order\n\
         config/sources/crm.yaml:10:65  poll.message: there is no message of source `crm` `order.new`\n\
         \x20   fix: add it, or use one of: account.changed, opportunity.amended, opportunity.cancelled, opportunity.confirmed",
    ),
    (
        "sources/crm.yaml",
        "preset: standard-webhooks\n",
        "preset: standard-webhooks\npoll: {call: crm.get_account, at: [\"2:00\"], items: result.items, message: opportunity.confirmed}\n",
        "config/sources/crm.yaml:10:36  poll.at[0]: `2:00` is no time of day\n\
         \x20   fix: write hours and minutes in UTC: \"02:00\"",
    ),
    (
        "sources/crm.yaml",
        "preset: standard-webhooks\n",
        "preset: standard-webhooks\nbatch: {message: opportunity.confirm, id: bdy.id}\n",
        "config/sources/crm.yaml:10:18  batch.message: there is no message of source `crm` `opportunity.confirm`\n\
         \x20   fix: did you mean `opportunity.confirmed`?\n\
         config/sources/crm.yaml:10:43  batch.id: there is no `bdy` here\n\
         \x20   fix: did you mean `body`?",
    ),
    (
        "connectors/warehouse.yaml",
        "failure_tolerance: 15m",
        "failure_tolerance: 15",
        "config/connectors/warehouse.yaml:7:47  class.failure_tolerance: the duration `15` has no unit\n\
         \x20   fix: write a whole number and a unit, e.g. `250ms`, `10s`, `5m`, `4h`, `2d` or `1h30m`",
    ),
];

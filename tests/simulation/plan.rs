//! What the clients of a run have to tell: orders that are placed, noted, released, cancelled and shipped, one after the other and at
//! the same time.

use std::sync::Arc;
use std::time::Duration;

use syncline::host::Lane;
use syncline_actors::envelope::{Body, Command, Event};
use syncline_actors::id::EntityId;
use syncline_actors::value::Value;

use crate::chance::Chance;
use crate::client::{Op, perform};
use crate::ground::Ground;

fn event(name: &str, data: Value) -> Body {
    Body::Event(Event { name: name.into(), data })
}

fn command(name: &str) -> Body {
    Body::Command(Command { name: name.into(), data: Value::Null })
}

fn op(entity: &EntityId, id: String, body: Body) -> Op {
    Op { entity: entity.clone(), source: "shop", id, body, lane: Lane::Outside }
}

pub(crate) fn order(number: u64) -> EntityId {
    EntityId::new("order", &format!("O-{number}")).expect("a legal key")
}

/// Starts the clients.
pub(crate) fn plan(ground: &Arc<Ground>, chance: &mut Chance) {
    for number in 0..ground.temper.entities {
        let (entity, key) = (order(number), format!("O-{number}"));
        let placed = |id: &str, risky| {
            let data = Value::map([
                ("reference", Value::from(format!("R-{number}"))),
                ("risky", Value::Bool(risky)),
            ]);
            op(&entity, format!("{key}-{id}"), event("order.placed", data))
        };
        let noted = |id: &str, n: u64| {
            let data = Value::map([("n", Value::Int(i64::try_from(n).unwrap()))]);
            op(&entity, format!("{key}-{id}-{n}"), event("order.noted", data))
        };
        let shipped = |id: &str| {
            let data = Value::map([("parcel", Value::from(format!("P-{number}")))]);
            op(&entity, format!("{key}-{id}"), event("parcel.shipped", data))
        };
        let risky = chance.per_mille(250);
        let mut first = vec![placed("placed", risky)];
        first.extend((0..chance.below(5)).map(|n| noted("a", n)));
        if chance.per_mille(400) {
            first.push(op(&entity, format!("{key}-released"), command("order.released")));
        }
        let cancel = op(&entity, format!("{key}-cancel"), command("order.cancel"));
        match chance.below(4) {
            0 => first.push(cancel),
            1 => client(ground, chance, vec![cancel], 60_000),
            _ => {}
        }
        client(ground, chance, first, 20_000);
        client(ground, chance, vec![placed("placed-again", risky)], 60_000);
        let second = (0..chance.below(8)).map(|n| noted("b", n)).collect();
        client(ground, chance, second, 30_000);
        let mut last = vec![shipped("shipped")];
        if chance.per_mille(500) {
            last.push(shipped("shipped-again"));
        }
        client(ground, chance, last, 60_000);
        if chance.per_mille(200) {
            let at = chance.within(0, 40_000);
            for n in 0..chance.within(5, 40) {
                start(ground, Duration::from_millis(at), vec![noted("burst", n)]);
            }
        }
    }
}

fn client(ground: &Arc<Ground>, chance: &mut Chance, ops: Vec<Op>, latest: u64) {
    start(ground, chance.millis(0, latest), ops);
}

/// Starts a client that tells `ops` one after the other.
fn start(ground: &Arc<Ground>, after: Duration, ops: Vec<Op>) {
    let ground = ground.clone();
    ground.notes().open += 1;
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        for op in ops {
            perform(ground.clone(), op).await;
            let pause = ground.chance("pause", |chance| chance.millis(0, 3_000));
            tokio::time::sleep(pause).await;
        }
        ground.notes().open -= 1;
    });
}

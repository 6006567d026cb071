//! Those who read: what they are told has all that was acknowledged before they asked.

use std::sync::Arc;
use std::time::Duration;

use syncline_actors::id::EntityId;

use crate::book::print;
use crate::ground::Ground;
use crate::plan::order;

/// Reads whatever entity from whatever node.
pub(crate) async fn read(ground: Arc<Ground>) {
    loop {
        let (pause, number) =
            ground.chance("read", |chance| (chance.millis(50, 1_500), chance.below(ground.temper.entities)));
        tokio::time::sleep(pause).await;
        read_one(&ground, &order(number)).await;
    }
}

async fn read_one(ground: &Arc<Ground>, entity: &EntityId) {
    let Some(node) = ground.node() else { return };
    let floor = ground.notes().highest.get(entity).copied().unwrap_or_default();
    let answer = tokio::select! {
        biased;
        () = node.life.until_over() => return,
        answer = tokio::time::timeout(Duration::from_secs(8), node.state(entity)) => answer,
    };
    let Ok(Ok(state)) = answer else {
        ground.count("read: no answer");
        return;
    };
    ground.count("read: answered");
    let seq = state.as_ref().map_or(0, |state| state.seq);
    let forgotten = ground.losses().forgotten(entity);
    if let Some(left) = forgotten {
        ground.give_up(entity, left);
    }
    let is_rewound = ground.notes().rewound.contains(entity);
    if is_rewound || ground.losses().is_unclear(entity.shard(), ground.now()) {
        return;
    }
    ground.line(&format!("read {entity} #{seq} from n{}, at least #{floor}", node.index));
    if seq < floor {
        return ground.violated(format!(
            "I11: a strong read of {entity} from n{} tells record {seq}, and {floor} was acked before",
            node.index
        ));
    }
    let Some(state) = state else { return };
    let book = ground.book();
    let place = usize::try_from(seq).unwrap() - 1;
    let expected = book.entities.get(entity).and_then(|kept| kept.prints.get(place)).copied();
    drop(book);
    if expected.is_some_and(|expected| expected != print(&state)) {
        ground.violated(format!("I7: n{} tells of {entity} what its {seq} records do not give", node.index));
    }
}

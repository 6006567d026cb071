//! Which nodes have called, in which life, and how much each has in hand here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use syncline_actors::id::NodeId;
use tokio::sync::watch;

use super::bounds::Bounds;

/// Callers without connections are forgotten beyond this many.
const REMEMBERED_MAX: usize = 1_024;

/// Every node that has called, with the newest of its lives.
#[derive(Default)]
pub(super) struct Callers(Mutex<BTreeMap<NodeId, Caller>>);

struct Caller {
    boot: watch::Sender<u64>,
    bounds: Arc<Bounds>,
}

/// What the connections of one node share.
pub(super) struct Entered {
    pub(super) bounds: Arc<Bounds>,
    /// The newest life: a connection of an older one ends.
    pub(super) newest: watch::Receiver<u64>,
}

impl Callers {
    /// Notes a connection of `node` in its life `boot`; `Err` is a later life that is known already.
    pub(super) fn enter(
        &self,
        node: &NodeId,
        boot: u64,
        bounds: impl FnOnce() -> Bounds,
    ) -> Result<Entered, u64> {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= REMEMBERED_MAX {
            callers.retain(|_, caller| caller.boot.receiver_count() > 0 || caller.bounds.used() > 0);
        }
        let caller = callers
            .entry(node.clone())
            .or_insert_with(|| Caller { boot: watch::channel(boot).0, bounds: Arc::new(bounds()) });
        let known = *caller.boot.borrow();
        if boot < known {
            return Err(known);
        }
        if boot > known {
            caller.boot.send_replace(boot);
        }
        Ok(Entered { bounds: caller.bounds.clone(), newest: caller.boot.subscribe() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_life_ends_the_earlier_and_a_ghost_is_told() {
        let callers = Callers::default();
        let enter = |boot| callers.enter(&NodeId("n1".into()), boot, || Bounds::new(2, 100));
        let first = enter(5).map_err(|_refused| "the first").expect("nobody is known");
        let again = enter(5).map_err(|_refused| "again").expect("the same life");
        assert!(Arc::ptr_eq(&first.bounds, &again.bounds), "the bound is the node's, not the connection's");
        let later = enter(6).map_err(|_refused| "later").expect("a later life");
        assert_eq!((*first.newest.borrow(), *later.newest.borrow()), (6, 6));
        assert_eq!(enter(5).err(), Some(6));
    }
}

//! Takes what polls and reconciliation have read to where it belongs.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use syncline_actors::outbox::OutboxRow;
use syncline_actors::value::Value;

use super::reconcile::Reconciler;
use crate::delivery::harvest::{Harvest, Harvested};
use crate::host::{POLL, RECONCILE};
use crate::ingress::Ingress;
use crate::ingress::poll::Unread;

/// Made before what it stands on, and told of it as soon as that is there.
#[derive(Debug, Default)]
pub(super) struct Harvester {
    pub(super) ingress: OnceLock<Arc<Ingress>>,
    pub(super) reconciler: OnceLock<Arc<Reconciler>>,
}

#[async_trait]
impl Harvest for Harvester {
    fn is_for(&self, row: &OutboxRow) -> bool {
        matches!(row.entity.kind(), POLL | RECONCILE)
    }

    async fn harvest(&self, row: &OutboxRow, result: &Value) -> Harvested {
        let (Some(ingress), Some(reconciler)) = (self.ingress.get(), self.reconciler.get()) else {
            return Harvested::Later("the node has just begun".to_owned());
        };
        if row.entity.kind() == RECONCILE {
            return Box::pin(reconciler.harvest(&row.entity, &row.effect, result)).await;
        }
        let cursor = row.effect.input.get("cursor").cloned().unwrap_or_default();
        match Box::pin(ingress.page(row.entity.key(), &cursor, result)).await {
            Ok(told) => Harvested::Told(told),
            Err(Unread::Unusable(why)) => Harvested::Unusable(why),
            Err(Unread::Later(why)) => Harvested::Later(why),
        }
    }
}

//! How recovery asks Redis; what it does stands in [`crate::journal::recovery`].

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use syncline_actors::id::{Epoch, NodeId, ShardId};

use super::functions::Call;
use super::reply::{self, Said};
use super::shared::lock;
use super::{Redis, request};
use crate::journal::recovery::{Again, Recovers, Tail};
use crate::journal::{Error, Grant, Holding, Journal as _};

#[async_trait]
impl Recovers for Redis {
    type Append = Arc<Call>;

    fn held(&self) -> MutexGuard<'_, BTreeMap<ShardId, Epoch>> {
        self.shared.held()
    }

    fn doubted(&self) -> Vec<ShardId> {
        self.shared.doubted()
    }

    fn trust(&self, shard: ShardId) {
        self.shared.trust(shard);
    }

    fn tail(&self) -> MutexGuard<'_, Tail<Arc<Call>>> {
        lock(&self.tail)
    }

    fn is_ours(&self, stored: &Holding) -> bool {
        stored.node == *lock(&self.node) && stored.boot == self.shared.options.boot
    }

    fn outgrow(&self, grant: Grant) {
        self.hear(&[grant]);
    }

    async fn holding(&self, shard: ShardId) -> Result<Holding, Error> {
        let call = Call::reading("holder", self.shared.names.lease(shard));
        request::read_holding(shard, self.read_shard(shard, &self.reading(&call)).await?)
    }

    async fn retake(&self, shard: ShardId, above: Epoch) -> Result<Epoch, Error> {
        let node: NodeId = lock(&self.node)
            .clone()
            .ok_or_else(|| Error::Unavailable("no shard was taken yet".to_owned()))?;
        let mut call = Call::writing("acquire", self.shared.names.lease(shard));
        call.push(node.0.as_bytes()).number(self.shared.options.boot).number(self.lease_ms()).number(above.0);
        match reply::said("acquire", shard, above, self.write_in_doubt(shard, Arc::new(call)).await?)? {
            Said::Done(Some(epoch)) => Ok(Epoch(reply::number("acquire", epoch)?)),
            other => Err(Error::Unavailable(format!("shard {shard} cannot be taken again yet: {other:?}"))),
        }
    }

    async fn append_again(&self, shard: ShardId, epoch: Epoch, append: &Arc<Call>) -> Result<Again, Error> {
        let call = Arc::new(Call::clone(append).under(epoch.0));
        match reply::said("append", shard, epoch, self.write_in_doubt(shard, call).await?)? {
            Said::Done(None) => Ok(Again::Written),
            Said::Done(Some(_)) | Said::Known(_) => Ok(Again::There),
            other => Ok(Again::Misfit(format!("{other:?}"))),
        }
    }

    async fn give_back(&self, Grant { shard, epoch }: Grant) -> Result<(), Error> {
        let give_back = Call::fenced("release", self.shared.names.lease(shard), epoch.0);
        self.write_in_doubt(shard, Arc::new(give_back)).await.map(drop)
    }

    async fn mark(&self, shard: ShardId, why: &str) -> Result<(), Error> {
        tracing::error!(alarm = true, %shard, why, "acknowledged records are lost: the shard takes nothing in until a person accepts it");
        let call = Call::writing("suspect", self.shared.names.lease(shard)).arg(why);
        self.write_in_doubt(shard, Arc::new(call)).await.map(drop)
    }
}

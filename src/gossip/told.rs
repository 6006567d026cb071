//! What travels along with the probes: cards, and the highest epoch of each shard that anybody has heard of.
//!
//! Both only grow: a card by (boot counter, version), an epoch by itself. So they may come late, twice or in any order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BufMut as _;
use foca::{BroadcastHandler, Invalidates};
use syncline_actors::id::{Epoch, NodeId, SHARDS, ShardId};

use super::card::Card;
use super::peer::Peer;
use super::wire::{Malformed, Reader};

/// Cards of nodes that are not up are dropped beyond this many.
const CARDS_MAX: usize = 1_024;

const CARD: u8 = 1;
const EPOCH: u8 = 2;

/// A card, and when it was written: the larger is the newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dated {
    pub(super) boot: u64,
    pub(super) version: u64,
    pub(super) card: Card,
}

/// The newest of all that was told.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) cards: BTreeMap<NodeId, Dated>,
    pub(super) epochs: BTreeMap<ShardId, Epoch>,
    /// Whether a card has changed since this was last reset.
    pub(super) changed: bool,
}

impl Heard {
    /// Notes a card; whether it is news.
    pub(super) fn card(&mut self, dated: Dated) -> bool {
        let date = |dated: &Dated| (dated.boot, dated.version);
        let known = self.cards.get(&dated.card.node);
        let full = known.is_none() && self.cards.len() >= CARDS_MAX;
        let is_news = !full && known.is_none_or(|known| date(known) < date(&dated));
        if is_news {
            self.cards.insert(dated.card.node.clone(), dated);
            self.changed = true;
        }
        is_news
    }

    /// Notes an epoch; whether it is news.
    pub(super) fn epoch(&mut self, shard: ShardId, epoch: Epoch) -> bool {
        let known = self.epochs.entry(shard).or_default();
        let is_news = *known < epoch;
        *known = epoch.max(*known);
        is_news
    }
}

/// What was heard, shared by the task that hears and those who ask.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedHeard(Arc<Mutex<Heard>>);

impl SharedHeard {
    /// Nothing panics while it is held, and a half of a map is still a map.
    pub(super) fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thing that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Card(Dated),
    Epoch(ShardId, Epoch),
}

impl Item {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        match self {
            Self::Card(dated) => {
                bytes.put_u8(CARD);
                bytes.put_u64(dated.boot);
                bytes.put_u64(dated.version);
                dated.card.put(&mut bytes);
            }
            Self::Epoch(shard, epoch) => {
                bytes.put_u8(EPOCH);
                bytes.put_u16(shard.0);
                bytes.put_u64(epoch.0);
            }
        }
        bytes
    }

    /// `None` when a newer node tells what this one does not know.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut from = Reader(bytes);
        match from.u8()? {
            CARD => {
                let (boot, version) = (from.u64()?, from.u64()?);
                Ok(Some(Self::Card(Dated { boot, version, card: Card::read(&mut from)? })))
            }
            EPOCH => match (ShardId(from.u16()?), Epoch(from.u64()?)) {
                (shard, _) if shard.0 >= SHARDS => Err(Malformed("there is no such shard")),
                (shard, epoch) => Ok(Some(Self::Epoch(shard, epoch))),
            },
            _ => Ok(None),
        }
    }
}

/// What an item is about: of two, the one that came later replaces the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    Card(NodeId),
    Epoch(ShardId),
}

impl Invalidates for About {
    fn invalidates(&self, other: &Self) -> bool {
        self == other
    }
}

/// Passes news on, and drops what is known.
#[derive(Debug)]
pub(super) struct Teller {
    pub(super) own: NodeId,
    pub(super) heard: SharedHeard,
}

impl BroadcastHandler<Peer> for Teller {
    type Key = About;
    type Error = Malformed;

    /// Without a sender it is ours: told as often as we wish.
    fn receive_item(&mut self, data: &[u8], sender: Option<&Peer>) -> Result<Option<About>, Malformed> {
        let Some(item) = Item::decode(data)? else { return Ok(None) };
        let mut heard = self.heard.lock();
        let (about, is_news) = match item {
            Item::Card(dated) if dated.card.node == self.own && sender.is_some() => return Ok(None),
            Item::Card(dated) => (About::Card(dated.card.node.clone()), heard.card(dated)),
            Item::Epoch(shard, epoch) => (About::Epoch(shard), heard.epoch(shard, epoch)),
        };
        Ok((is_news || sender.is_none()).then_some(about))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::card::tests::card;
    use super::super::peer::Life;
    use super::*;

    fn teller() -> Teller {
        Teller { own: NodeId("n1".into()), heard: SharedHeard::default() }
    }

    fn peer() -> Peer {
        let addr = "127.0.0.1:1".parse().unwrap();
        Peer { node: NodeId("n2".into()), addr, life: Life::default() }
    }

    fn dated(node: &str, boot: u64, version: u64) -> Item {
        Item::Card(Dated { boot, version, card: card(node) })
    }

    #[test]
    fn news_is_passed_on_once_and_old_news_never() {
        let mut teller = teller();
        let mut hear = |item: Item| teller.receive_item(&item.encode(), Some(&peer())).unwrap();
        let about = Some(About::Card(NodeId("n2".into())));
        assert_eq!(hear(dated("n2", 1, 5)), about);
        assert_eq!(hear(dated("n2", 1, 5)), None);
        assert_eq!(hear(dated("n2", 1, 4)), None);
        assert_eq!(hear(dated("n2", 2, 0)), about, "a restart begins anew");
        assert_eq!(hear(dated("n2", 1, 6)), None);
        assert_eq!(hear(Item::Epoch(ShardId(3), Epoch(9))), Some(About::Epoch(ShardId(3))));
        assert_eq!(hear(Item::Epoch(ShardId(3), Epoch(8))), None);
        assert_eq!(teller.heard.lock().epochs[&ShardId(3)], Epoch(9));
    }

    #[test]
    fn what_we_say_of_ourselves_is_ours_alone_and_said_as_often_as_we_wish() {
        let mut teller = teller();
        assert_eq!(teller.receive_item(&dated("n1", 9, 9).encode(), Some(&peer())), Ok(None));
        assert!(teller.heard.lock().cards.is_empty());
        let own = dated("n1", 1, 1).encode();
        assert!(teller.receive_item(&own, None).unwrap().is_some());
        assert!(teller.receive_item(&own, None).unwrap().is_some());
    }

    #[test]
    fn what_a_newer_node_tells_is_passed_over() {
        assert_eq!(teller().receive_item(&[200, 1, 2, 3], Some(&peer())), Ok(None));
        let beyond = Item::Epoch(ShardId(SHARDS), Epoch(1)).encode();
        assert!(teller().receive_item(&beyond, Some(&peer())).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(kind in 0..4_u8, rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = teller().receive_item(&[&[kind], &rest[..]].concat(), Some(&peer()));
        }
    }
}

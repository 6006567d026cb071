//! Leases as rules: who may take a shard and under which epoch, and for how long its holder may rely on it.
//!
//! The epoch decides who may write; the lease only decides who should try (Kleppmann, "How to do distributed locking", 2016: a lock that
//! expires needs a token that the resource checks). A store keeps one [`Lease`] a shard and tells the time; `functions.lua` does in Redis
//! what stands here, and a test holds the two against each other.

use std::time::Duration;

use crate::id::{Epoch, NodeId};
use crate::time::Timestamp;

/// What a store knows of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease {
    /// The last epoch there was: each is larger than all before.
    pub epoch: Epoch,
    /// Who has it; none when it was given back or never taken.
    pub holder: Option<Holder>,
}

/// Who has a shard, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The node.
    pub node: NodeId,
    /// Which start of it.
    pub boot: u64,
    /// By the store's clock. From then on anyone may take it.
    pub until: Timestamp,
}

impl Lease {
    /// `node` wants the shard for `ttl`. It gets it when nobody has it, when the lease has run out, or when it is its own from this or an
    /// earlier start. The new epoch is above the last and above `heard`, which somebody has had: a store that lost its end may not know
    /// it.
    ///
    /// # Errors
    /// Who has it. Nothing has changed.
    pub fn take(
        &mut self,
        (node, boot): (&NodeId, u64),
        now: Timestamp,
        ttl: Duration,
        heard: Epoch,
    ) -> Result<Epoch, Holder> {
        if let Some(holder) = &self.holder
            && holder.until > now
            && !(holder.node == *node && boot >= holder.boot)
        {
            return Err(holder.clone());
        }
        self.epoch = Epoch(self.epoch.max(heard).0 + 1);
        self.holder = Some(Holder { node: node.clone(), boot, until: now.plus(ttl) });
        Ok(self.epoch)
    }

    /// Whoever has it under `epoch` keeps it for `ttl` from now on, also when the time was over and nobody else came.
    ///
    /// # Errors
    /// The epoch there is: the caller's is over.
    pub fn renew(&mut self, epoch: Epoch, now: Timestamp, ttl: Duration) -> Result<(), Epoch> {
        self.admit(epoch)?;
        if let Some(holder) = &mut self.holder {
            holder.until = now.plus(ttl);
        }
        Ok(())
    }

    /// Whoever has it under `epoch` gives it back. The number of the epoch after it is used up, so that nobody can guess one that
    /// counts. Under another epoch nothing happens.
    pub fn give_back(&mut self, epoch: Epoch) {
        if self.admit(epoch).is_ok() {
            *self = Self { epoch: Epoch(epoch.0 + 1), holder: None };
        }
    }

    /// Whether something may be written under `epoch`.
    ///
    /// # Errors
    /// The epoch there is.
    pub fn admit(&self, epoch: Epoch) -> Result<(), Epoch> {
        if self.epoch == epoch && self.holder.is_some() { Ok(()) } else { Err(self.epoch) }
    }
}

/// Whether the holder of a lease that it last asked for `age` ago may rely on it: answer, read from memory as the truth, start calls.
/// `give_up` is below the lease's time by the store's clock, and `age` is counted from before the question was sent, so that whoever
/// takes the shard next begins after this one has stopped.
pub fn is_certain(age: Duration, give_up: Duration) -> bool {
    age <= give_up
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_secs(4);

    fn node(name: &str) -> NodeId {
        NodeId(name.into())
    }

    #[test]
    fn a_shard_changes_hands_when_it_is_given_back_when_its_time_is_over_and_when_its_node_starts_again() {
        let (a, b) = (node("a"), node("b"));
        let at = |seconds: i64| Timestamp(seconds * 1_000);
        let mut lease = Lease::default();
        assert_eq!(lease.take((&a, 1), at(0), TTL, Epoch(0)), Ok(Epoch(1)));
        assert_eq!(lease.take((&b, 9), at(3), TTL, Epoch(0)).unwrap_err().node, a);
        assert_eq!(lease.renew(Epoch(1), at(3), TTL), Ok(()));
        assert!(lease.take((&b, 9), at(6), TTL, Epoch(0)).is_err(), "it was renewed");
        assert_eq!(lease.take((&b, 9), at(7), TTL, Epoch(0)), Ok(Epoch(2)), "at the end of its time");
        assert_eq!(lease.renew(Epoch(1), at(7), TTL), Err(Epoch(2)));
        lease.give_back(Epoch(1));
        assert_eq!(lease.admit(Epoch(2)), Ok(()), "a former holder gives nothing back");
        lease.give_back(Epoch(2));
        assert_eq!(lease.admit(Epoch(3)), Err(Epoch(3)), "nobody has it");
        assert_eq!(lease.take((&a, 2), at(8), TTL, Epoch(40)), Ok(Epoch(41)), "above what was heard of");
        assert!(lease.take((&a, 1), at(8), TTL, Epoch(0)).is_err(), "an earlier start of the node");
        assert_eq!(lease.take((&a, 3), at(8), TTL, Epoch(0)), Ok(Epoch(42)));
    }

    #[test]
    fn a_holder_stops_before_another_may_begin() {
        let give_up = Duration::from_millis(2_500);
        assert!(is_certain(give_up, give_up) && !is_certain(Duration::from_millis(2_501), give_up));
    }

    proptest! {
        /// Of all who were ever given a shard only the last may write, whatever they do.
        #[test]
        fn epochs_only_grow_and_one_admits(steps in prop::collection::vec((0..3_u8, 0..4_u8, 0..3_u64, 0..9_i64), 1..60)) {
            let (mut lease, mut given, mut now) = (Lease::default(), vec![Epoch(0)], Timestamp(0));
            for (who, what, boot, passed) in steps {
                now = now.plus(Duration::from_secs(passed.unsigned_abs()));
                let last = *given.last().expect("it begins with one");
                match what {
                    0 | 1 => {
                        if let Ok(epoch) = lease.take((&node(&who.to_string()), boot), now, TTL, Epoch(boot)) {
                            prop_assert!(epoch > last);
                            given.push(epoch);
                        }
                    }
                    2 => drop(lease.renew(last, now, TTL)),
                    _ => lease.give_back(last),
                }
                for former in &given[..given.len() - 1] {
                    prop_assert!(lease.admit(*former).is_err(), "{former:?} of {given:?}");
                }
            }
        }
    }
}

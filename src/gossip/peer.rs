//! A life of a node: what SWIM takes for a member.

use std::net::SocketAddr;

use syncline_actors::id::NodeId;

/// Which life of a node: starts count first, then returns of a process that was declared down. The larger one is the living one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Life {
    /// The boot counter.
    pub(super) boot: u64,
    /// How often this process was declared down and came back.
    pub(super) rejoin: u32,
}

/// A node, where it is reached, and its life.
///
/// Its name tells it from others, not its address: addresses are given to other nodes when containers move, and then a dead node
/// with many starts behind it would keep its heir out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) addr: SocketAddr,
    pub(super) life: Life,
}

impl Peer {
    /// Whoever is reached at `addr`: all that is known of a seed.
    pub(super) fn anyone_at(addr: SocketAddr) -> Self {
        Self { node: NodeId("".into()), addr, life: Life::default() }
    }

    /// Whether this is only an address.
    pub(super) fn is_anyone(&self) -> bool {
        self.node.0.is_empty()
    }
}

impl foca::Identity for Peer {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        let rejoin = self.life.rejoin.checked_add(1)?;
        Some(Self { life: Life { rejoin, ..self.life }, ..self.clone() })
    }

    fn addr(&self) -> NodeId {
        self.node.clone()
    }

    /// The address breaks a tie, so that of two processes under one name all nodes believe in the same.
    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.life, self.addr) > (adversary.life, adversary.addr)
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity as _;

    use super::*;

    #[test]
    fn a_later_life_wins() {
        let life = |boot, rejoin| Peer {
            node: NodeId("n1".into()),
            addr: "127.0.0.1:1".parse().unwrap(),
            life: Life { boot, rejoin },
        };
        let first = life(1, 0);
        let again = first.renew().unwrap();
        assert_eq!(again, life(1, 1));
        assert!(again.win_addr_conflict(&first) && !first.win_addr_conflict(&again));
        assert!(life(2, 0).win_addr_conflict(&again), "a start counts more than a return");
        assert_eq!(life(1, u32::MAX).renew(), None);
    }
}

//! Which datagrams of a sender were seen: each counts once, however often the network or an attacker brings it.

use std::collections::BTreeMap;

use syncline_actors::id::NodeId;

/// How far behind the newest a datagram may come and still be told from a repeated one.
const WIDTH: u64 = 128;

/// One process of a sender. A restart has a larger boot counter; the salt tells two with the same counter apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) boot: u64,
    pub(super) salt: u64,
}

/// What was seen of every sender. Grows with the names of nodes, and only those who hold a key can name one.
#[derive(Debug, Default)]
pub(super) struct Windows(BTreeMap<NodeId, Window>);

/// The newest number of a process, and one bit for each of the [`WIDTH`] numbers up to it.
#[derive(Debug)]
struct Window {
    process: Process,
    newest: u64,
    seen: u128,
}

impl Windows {
    /// Whether datagram number `seq` of this process is new; it is noted. False when it was seen, is too far behind to tell, or
    /// is of a process that a later one has followed.
    pub(super) fn admit(&mut self, sender: &NodeId, process: Process, seq: u64) -> bool {
        match self.0.get_mut(sender) {
            Some(window) if window.process == process => window.admit(seq),
            Some(window) if window.process.boot >= process.boot => false,
            _ => {
                self.0.insert(sender.clone(), Window { process, newest: seq, seen: 1 });
                true
            }
        }
    }
}

impl Window {
    fn admit(&mut self, seq: u64) -> bool {
        if seq > self.newest {
            let ahead = seq - self.newest;
            self.seen = if ahead < WIDTH { self.seen << ahead | 1 } else { 1 };
            self.newest = seq;
            return true;
        }
        let behind = self.newest - seq;
        if behind >= WIDTH {
            return false;
        }
        let bit = 1 << behind;
        let is_new = self.seen & bit == 0;
        self.seen |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn node() -> NodeId {
        NodeId("n1".into())
    }

    proptest! {
        #[test]
        fn each_number_counts_once_in_whatever_order_it_comes(steps in prop::collection::vec(0..400_u64, 1..300)) {
            let (mut windows, mut seen) = (Windows::default(), BTreeSet::new());
            let process = Process { boot: 1, salt: 9 };
            for seq in steps {
                let newest = seen.last().copied().unwrap_or(seq);
                let expected = !seen.contains(&seq) && newest.saturating_sub(seq) < WIDTH;
                prop_assert_eq!(windows.admit(&node(), process, seq), expected);
                if expected { seen.insert(seq); }
            }
        }
    }

    #[test]
    fn a_restart_counts_anew_and_its_former_life_is_over() {
        let mut windows = Windows::default();
        let (first, second) = (Process { boot: 1, salt: 9 }, Process { boot: 2, salt: 4 });
        assert!(windows.admit(&node(), first, 500));
        assert!(windows.admit(&node(), second, 1));
        assert!(!windows.admit(&node(), first, 501));
        assert!(windows.admit(&node(), second, 2));
    }

    #[test]
    fn two_processes_cannot_share_a_boot_counter() {
        let mut windows = Windows::default();
        assert!(windows.admit(&node(), Process { boot: 1, salt: 9 }, 1));
        assert!(!windows.admit(&node(), Process { boot: 1, salt: 4 }, 1));
    }
}

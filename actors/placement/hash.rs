//! The hash behind placement, in integers only: floating-point logarithms differ between machines and libraries, and two nodes
//! that disagree in the last bit would want the same shard.
//!
//! ```text
//! h    = mix(fnv1a(name of the node) ^ mix(number of the shard))     64 bits, fixed for ever: golden values below
//! cost = -log2(max(h, 1) / 2^64)                                     32 fractional bits, by repeated squaring
//! the lowest cost / weight wins; compared by cross-multiplication, exactly
//! ```

use std::cmp::Ordering;

use crate::id::{NodeId, ShardId};
use crate::placement::Candidate;

/// How much a shard wants a node: the least is preferred. Total and the same everywhere; bids of one shard by two nodes never
/// tie, because names differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bid<'a> {
    cost: u64,
    weight: u16,
    node: &'a NodeId,
}

impl<'a> Bid<'a> {
    /// What `candidate` bids for `shard`. Its weight must not be 0.
    pub(super) fn of(shard: ShardId, candidate: &'a Candidate) -> Self {
        debug_assert!(candidate.weight > 0, "who takes none bids for none");
        let node = &candidate.node;
        Self { cost: cost(hash(shard, node)), weight: candidate.weight, node }
    }
}

impl Ord for Bid<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Below 2^39 times below 2^16: no overflow.
        let [mine, theirs] = [self.cost * u64::from(other.weight), other.cost * u64::from(self.weight)];
        mine.cmp(&theirs).then_with(|| self.node.cmp(other.node)).then(self.weight.cmp(&other.weight))
    }
}

impl PartialOrd for Bid<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn hash(shard: ShardId, node: &NodeId) -> u64 {
    let name = node.0.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(name ^ mix(u64::from(shard.0)))
}

/// One step of `SplitMix64` (Steele, Lea and Flood, 2014): every bit of the answer depends on every bit of `x`.
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `-log2(h / 2^64)` with 32 fractional bits, from 1 to `64 << 32`. The binary digits of a logarithm are which of the repeated
/// squares of the mantissa reach 2.
fn cost(h: u64) -> u64 {
    let h = h.max(1);
    let mut mantissa = h << h.leading_zeros(); // in [1, 2), as a fraction of 2^63
    let mut digits = 0_u64;
    for _ in 0..32 {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63; // in [1, 4)
        let reached = square >> 64; // 0 or 1
        digits = (digits << 1) | u64::from(reached == 1);
        mantissa = u64::try_from(square >> reached).expect("halved when it reached 2, it is below 2^64");
    }
    let log2 = (u64::from(h.ilog2()) << 32) | digits;
    (64 << 32) - log2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_for_ever() {
        // Nodes of different versions must agree: a change here moves shards during every rolling upgrade.
        let of = |shard, node: &str| hash(ShardId(shard), &NodeId(node.into()));
        let golden =
            [of(0, "node-1"), of(1, "node-1"), of(255, "node-1"), of(0, "node-2"), of(77, "ä"), of(0, "")];
        assert_eq!(
            golden,
            [
                0x3ea0_0346_63d3_1c45,
                0xba40_3918_cbd2_23c2,
                0xee3c_09e4_b706_6296,
                0xfd75_5701_e6e5_21d1,
                0x132b_f399_3692_17e5,
                0x5b21_f68f_fa77_f14c
            ],
            "{golden:#x?}"
        );
    }

    #[test]
    fn a_cost_is_the_logarithm_in_fixed_point() {
        assert_eq!([cost(0), cost(1), cost(1 << 32), cost(1 << 63)], [64 << 32, 64 << 32, 32 << 32, 1 << 32]);
        assert_eq!(cost(u64::MAX), 1);
        let golden = [cost(3), cost(0xdead_beef), cost(0x8000_0000_0000_0001), cost(0xc0ff_ee00_0000_0000)];
        assert_eq!(golden, [0x3e_6a3f_e5c7, 0x20_3380_8cff, 0x1_0000_0000, 0x6854_dec3], "{golden:#x?}");
        for n in 1..2_000_u64 {
            let h = mix(n);
            #[expect(clippy::cast_precision_loss, reason = "the float is only what we compare with")]
            let float = (64.0 - (h as f64).log2()) * 2.0_f64.powi(32);
            #[expect(clippy::cast_precision_loss, reason = "a cost is below 2^39")]
            let off = (cost(h) as f64 - float).abs();
            assert!(off < 8.0, "{h:#x}: off by {off} of 2^-32");
        }
    }

    #[test]
    fn a_larger_hash_never_costs_more() {
        let mut hashes: Vec<u64> = (0..5_000).map(mix).chain([0, 1, 2, u64::MAX - 1, u64::MAX]).collect();
        hashes.sort_unstable();
        assert!(hashes.windows(2).all(|pair| cost(pair[0]) >= cost(pair[1])));
    }
}

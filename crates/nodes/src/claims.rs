//! Which pods the machines on their way were bought for, remembered by shape.
//!
//! Owns the fingerprint of a shape and the merging of claims. Without them pods of one pool's machines could take the
//! room of another's, and the pods that it was bought for would be bought for twice.

use crate::round::Round;
use model::{PodShape, PoolId};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// Shapes that one order remembers; a cluster with more differing pods in one order serves the rest as they come.
const MOST_SHAPES: usize = 256;

/// FNV-1a: the same on every run, which the standard hashers do not promise.
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A number that equal shapes share and others hardly ever do.
pub(crate) fn fingerprint(shape: &PodShape) -> u64 {
    let mut hasher = Fnv::default();
    shape.hash(&mut hasher);
    hasher.finish()
}

/// What the open order of a pool claims already, with more of its pods.
pub(crate) fn with_more(
    round: &Round<'_>,
    pool: &PoolId,
    more: impl IntoIterator<Item = (u64, u32)>,
) -> BTreeMap<u64, u32> {
    let mut claims = round.ledger.scale_ups.get(pool).map(|order| order.claims.clone()).unwrap_or_default();
    for (shape, count) in more {
        if claims.len() < MOST_SHAPES || claims.contains_key(&shape) {
            let claimed = claims.entry(shape).or_default();
            *claimed = claimed.saturating_add(count);
        }
    }
    claims
}

//! Seeded randomness, a separate stream for each purpose.
//!
//! A scenario that gains a burst must not shift the noise of its waves, so nothing shares a generator.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The generator of one purpose under a seed.
pub(crate) fn stream(seed: u64, purpose: &str) -> ChaCha8Rng {
    // FNV-1a: stable by definition, unlike the standard library's hashers.
    let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(hash);
    rng
}

/// Seconds to the next event of a Poisson process with this mean distance; at least one.
pub(crate) fn wait_seconds(rng: &mut ChaCha8Rng, mean_seconds: u64) -> u64 {
    let u: f64 = rng.random_range(0.0..1.0);
    (-(1.0 - u).ln() * mean_seconds as f64).round().max(1.0) as u64
}

/// Roughly normal with standard deviation 1: the sum of uniform numbers, within ±3.5.
pub(crate) fn bell(rng: &mut ChaCha8Rng) -> f64 {
    let sum: f64 = (0..12).map(|_| rng.random_range(0.0..1.0)).sum();
    (sum - 6.0).clamp(-3.5, 3.5)
}

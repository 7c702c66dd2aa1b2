//! Waits between attempts: bounded, doubling, and spread by a seeded generator so that a run can be repeated.
//!
//! Owns the arithmetic of waiting; who waits for what is the callers'.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// Doublings after which the wait stays at its limit whatever the first wait was.
const MOST_DOUBLINGS: u32 = 16;

#[derive(Clone, Debug)]
pub struct Backoff {
    random: ChaCha8Rng,
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    pub fn new(seed: u64, first: Duration, longest: Duration) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), first, longest, attempts: 0 }
    }

    /// The next wait: between half of and the whole doubled time, never over the limit.
    pub fn wait(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.attempts.min(MOST_DOUBLINGS)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        whole.mul_f64(self.random.random_range(0.5..=1.0))
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Begins again with the first wait.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A seed for one named purpose out of a run's seed, so that purposes do not share a sequence.
pub fn seed_for(seed: u64, purpose: &str) -> u64 {
    // FNV-1a: stable over versions and platforms, which the standard hasher does not promise.
    purpose.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_repeat_with_the_seed() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed, Duration::from_millis(500), Duration::from_secs(30));
            (0..40).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        assert!(waits(3).iter().all(|wait| *wait <= Duration::from_secs(30)));
        assert!(waits(3)[39] >= Duration::from_secs(15));
        assert_ne!(seed_for(1, "pods"), seed_for(1, "nodes"));
    }
}

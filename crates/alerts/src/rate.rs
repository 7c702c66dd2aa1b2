//! How many requests a second are taken: a bucket of tokens that fills with time.

use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// A bucket. The monotonic clock fills it, so a stepped wall clock neither opens nor closes it.
pub(crate) struct Bucket {
    per_second: f64,
    most: f64,
    filled: Mutex<(f64, Instant)>,
}

impl Bucket {
    /// A full bucket for a rate and for `burst` seconds' worth of requests at once.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let per_second = f64::from(per_second.max(1));
        let most = per_second * f64::from(burst.max(1));
        Self { per_second, most, filled: Mutex::new((most, Instant::now())) }
    }

    /// Takes a token, if one is there.
    pub(crate) fn take(&self) -> bool {
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (tokens, at) = *filled;
        let tokens = (tokens + now.duration_since(at).as_secs_f64() * self.per_second).min(self.most);
        let taken = tokens >= 1.0;
        *filled = (if taken { tokens - 1.0 } else { tokens }, now);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_then_the_rate_holds() {
        let bucket = Bucket::new(2, 5);
        assert_eq!((0..50).filter(|_| bucket.take()).count(), 10);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((0..50).filter(|_| bucket.take()).count(), 2);
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!((0..50).filter(|_| bucket.take()).count(), 10);
    }
}

//! The one clock that every component of the shell is passed: real time, or the simulator's.
//!
//! Wall time is a starting moment plus what tokio's clock has measured since. On a runtime with paused time that
//! clock jumps to the next timer, so the same components run through weeks in seconds; on a normal runtime it is
//! monotonic, so a stepped system clock cannot make a lease look longer than it is.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// Longest sleep that is asked of the timer at once (its wheel ends after about two years).
const LONGEST_SLEEP: Duration = Duration::from_hours(365 * 24);

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    started: Instant,
    /// Seconds that it shows in one second.
    rate: u32,
}

impl Clock {
    /// A clock that shows `base` now. Must be called inside a tokio runtime when its time is paused.
    pub fn starting_at(base: Timestamp) -> Self {
        Self { base, started: Instant::now(), rate: 1 }
    }

    /// The same clock, faster: for trials on a cluster whose schedules would take hours. At least 1.
    #[must_use]
    pub fn at_rate(self, rate: u32) -> Self {
        Self { rate: rate.max(1), ..self }
    }

    /// A clock on the system's present time.
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the system clock")]
    pub fn system() -> Self {
        Self::starting_at(Timestamp::now())
    }

    pub fn now(&self) -> Timestamp {
        let elapsed = self.started.elapsed().saturating_mul(self.rate);
        let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
        self.base.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// Sleeps until the clock shows `at`; returns at once where that is past.
    pub async fn sleep_until(&self, at: Timestamp) {
        while let Ok(left) = Duration::try_from(at.duration_since(self.now())) {
            if left.is_zero() {
                return;
            }
            // A fast clock's rest of a moment is waited for as the timer can.
            let left = if self.rate > 1 { (left / self.rate).max(Duration::from_millis(1)) } else { left };
            tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn paused_time_jumps_to_the_moment_waited_for() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::starting_at(start);
        clock.sleep_until("2027-06-01T00:00:00Z".parse().unwrap()).await;
        assert_eq!(clock.now(), "2027-06-01T00:00:00Z".parse().unwrap());
        clock.sleep_until(start).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_clock_shows_an_hour_in_a_minute() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (clock, begun) = (Clock::starting_at(start).at_rate(60), Instant::now());
        clock.sleep_until("2026-01-01T01:00:00Z".parse().unwrap()).await;
        assert_eq!(begun.elapsed().as_secs(), 60);
    }
}

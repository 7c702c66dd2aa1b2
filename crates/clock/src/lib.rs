//! The one clock that every component of the shell is passed: real time, or the simulator's.
//!
//! Wall time is a starting moment plus what tokio's clock has measured since. On a runtime with paused time that
//! clock jumps to the next timer, so the same components run through weeks in seconds; on a normal runtime it is
//! monotonic between two looks at the system's clock. What is found wrong there (a step, a machine that slept) is taken
//! over at once and said; lengths that must not depend on it, as of a Lease, are measured in tokio's time.

use jiff::{SignedDuration, Timestamp};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Longest sleep that is asked of the timer at once (its wheel ends after about two years).
const LONGEST_SLEEP: Duration = Duration::from_hours(365 * 24);

/// Between two looks at the system's clock.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Less is drift, which the next start puts right.
const LEAST_JUMP: SignedDuration = SignedDuration::from_secs(2);
/// What the system's clock was set by since the process began.
static SYSTEM_JUMPS: AtomicI64 = AtomicI64::new(0);

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    started: Instant,
    /// Seconds that it shows in one second.
    rate: u32,
    /// Milliseconds by which it was set since.
    jumps: Option<&'static AtomicI64>,
}

impl Clock {
    /// A clock that shows `base` now. Must be called inside a tokio runtime when its time is paused.
    pub fn starting_at(base: Timestamp) -> Self {
        Self { base, started: Instant::now(), rate: 1, jumps: None }
    }

    /// The same clock, faster: for trials on a cluster whose schedules would take hours. At least 1.
    #[must_use]
    pub fn at_rate(self, rate: u32) -> Self {
        Self { rate: rate.max(1), ..self }
    }

    /// A clock on the system's present time.
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the system clock")]
    pub fn system() -> Self {
        Self::starting_at(Timestamp::now()).jumping_by(&SYSTEM_JUMPS)
    }

    /// The same clock, set by so many milliseconds whenever their number changes.
    #[must_use]
    pub fn jumping_by(self, jumps: &'static AtomicI64) -> Self {
        Self { jumps: Some(jumps), ..self }
    }

    /// Takes over what the system's clock is set by, as long as it is polled.
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the system clock")]
    pub async fn follow_system(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(by) = self.take_over(Timestamp::now()) {
                tracing::warn!(
                    seconds = by.as_secs(),
                    "the system's clock jumped; waits end by the new time"
                );
            }
        }
    }

    /// Shows `real` from now on, where that is another time than what it shows.
    fn take_over(&self, real: Timestamp) -> Option<SignedDuration> {
        let by = real.duration_since(self.now());
        let milliseconds = i64::try_from(by.as_millis()).ok().filter(|_| by.abs() >= LEAST_JUMP)?;
        self.jumps?.fetch_add(milliseconds, Ordering::Relaxed);
        Some(by)
    }

    /// The same clock, wrong by so much: ahead, or behind where it is negative.
    #[must_use]
    pub fn ahead_by(self, by: SignedDuration) -> Self {
        Self { base: self.base.saturating_add(by).unwrap_or(self.base), ..self }
    }

    pub fn now(&self) -> Timestamp {
        let elapsed = self.started.elapsed().saturating_mul(self.rate);
        let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
        let shown = self.base.saturating_add(elapsed).unwrap_or(Timestamp::MAX);
        let jumps = self.jumps.map_or(0, |jumps| jumps.load(Ordering::Relaxed));
        shown.saturating_add(SignedDuration::from_millis(jumps)).unwrap_or(shown)
    }

    /// Sleeps until the clock shows `at`; returns at once where that is past.
    pub async fn sleep_until(&self, at: Timestamp) {
        while let Ok(left) = Duration::try_from(at.duration_since(self.now())) {
            if left.is_zero() {
                return;
            }
            // A fast clock's rest of a moment is waited for as the timer can.
            let left = if self.rate > 1 { (left / self.rate).max(Duration::from_millis(1)) } else { left };
            // One that may jump forward is looked at again.
            let longest = if self.jumps.is_some() { LOOK_EVERY } else { LONGEST_SLEEP };
            tokio::time::sleep(left.min(longest)).await;
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
    async fn a_jump_is_taken_over_and_ends_waits() {
        static JUMPS: AtomicI64 = AtomicI64::new(0);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let clock = Clock::starting_at(at("2026-01-01T00:00:00Z")).jumping_by(&JUMPS);
        assert_eq!(clock.take_over(at("2026-01-01T00:00:01Z")), None, "that is drift");
        let begun = Instant::now();
        let waiting = tokio::spawn(async move { clock.sleep_until(at("2026-01-01T02:00:00Z")).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(clock.take_over(at("2026-01-01T03:00:00Z")).is_some());
        waiting.await.unwrap();
        assert!(begun.elapsed() <= LOOK_EVERY);
        assert!(clock.take_over(at("2025-12-31T23:00:00Z")).is_some_and(|by| by.is_negative()));
        assert_eq!(clock.now().as_second(), at("2025-12-31T23:00:00Z").as_second());
        assert_eq!(Clock::starting_at(at("2026-01-01T00:00:00Z")).take_over(Timestamp::MAX), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_clock_shows_an_hour_in_a_minute() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (clock, begun) = (Clock::starting_at(start).at_rate(60), Instant::now());
        clock.sleep_until("2026-01-01T01:00:00Z".parse().unwrap()).await;
        assert_eq!(begun.elapsed().as_secs(), 60);
    }
}

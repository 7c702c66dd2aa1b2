//! Limits on the calls to one API outside: a rate, a time-out, bounded retries, a circuit breaker.
//!
//! Owns when a call may be made and how often it is tried. What a call is, and which answers mean that the other side
//! is ill, its client says. One of these stands in front of one API, so an ill cloud delays no other.

pub mod backoff;

use backoff::{Backoff, seed_for};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Waits between the tries of one call.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Time that one try may take.
    pub timeout: Duration,
    /// Calls begun in one second at most.
    pub per_second: u32,
    /// Tries of a call that only reads. Orders are tried once here: whoever gives them tries again.
    pub tries: u32,
    /// Failures in a row after which no call is made for `rest`.
    pub breaker_failures: u32,
    pub rest: Duration,
    /// Of the spread of waits.
    pub seed: u64,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            per_second: 10,
            tries: 3,
            breaker_failures: 5,
            rest: Duration::from_secs(30),
            seed: 0,
        }
    }
}

/// A call that brought no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The API's own code; empty where no answer came.
    pub code: Arc<str>,
    pub message: Arc<str>,
    pub kind: FailureKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The other side is ill, busy, or was not reached: the same call may succeed later.
    Ill,
    /// It is well and asks to wait: another activity runs, a conflict.
    Busy,
    /// We may not do this.
    Denied,
    /// What was asked for does not exist.
    Missing,
    /// It will not do this, and asking again changes nothing.
    Refused,
}

impl Failure {
    pub fn new(kind: FailureKind, code: impl AsRef<str>, message: impl AsRef<str>) -> Self {
        Self { code: Arc::from(code.as_ref()), message: Arc::from(message.as_ref()), kind }
    }

    /// Worth another try after a wait.
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, FailureKind::Ill | FailureKind::Busy)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.code.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// The calls to one API.
pub struct Calls {
    limits: CallLimits,
    state: Mutex<State>,
}

struct State {
    next_turn: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    closed_until: Option<Instant>,
    last_failure: Arc<str>,
    /// Calls made, so that each has waits of its own.
    made: u64,
}

impl Calls {
    pub fn new(limits: CallLimits) -> Self {
        let state =
            State { next_turn: None, failures: 0, closed_until: None, last_failure: Arc::from(""), made: 0 };
        Self { limits, state: Mutex::new(state) }
    }

    /// Makes a call that changes nothing, trying again while the other side is ill.
    pub async fn read<T, F>(&self, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let purpose = format!("call {}", self.state().made);
        let mut backoff = Backoff::new(seed_for(self.limits.seed, &purpose), FIRST_WAIT, LONGEST_WAIT);
        loop {
            match self.once(call()).await {
                Err(failure) if failure.kind == FailureKind::Ill => {
                    let wait = backoff.wait();
                    if backoff.attempts() >= self.limits.tries || self.resting().is_some() {
                        return Err(failure);
                    }
                    tokio::time::sleep(wait).await;
                }
                other => return other,
            }
        }
    }

    /// Makes one try, at its turn, within the time-out, unless the breaker is open.
    pub async fn once<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        if let Some(failure) = self.resting() {
            return Err(failure);
        }
        let turn = self.turn();
        tokio::time::sleep_until(turn).await;
        let limit = self.limits.timeout;
        let result = tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} ms", limit.as_millis());
            Err(Failure::new(FailureKind::Ill, "", message))
        });
        self.note(result.as_ref().err());
        result
    }

    fn turn(&self) -> Instant {
        let gap = Duration::from_secs(1) / self.limits.per_second.max(1);
        let mut state = self.state();
        let now = Instant::now();
        let turn = state.next_turn.map_or(now, |next| next.max(now));
        state.next_turn = Some(turn + gap);
        state.made = state.made.wrapping_add(1);
        turn
    }

    fn resting(&self) -> Option<Failure> {
        let state = self.state();
        let left =
            state.closed_until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let message = format!(
            "{} calls in a row failed, the last with \"{}\": no call is made for another {} s",
            state.failures,
            state.last_failure,
            left.as_secs() + 1
        );
        Some(Failure::new(FailureKind::Ill, "", message))
    }

    fn note(&self, failure: Option<&Failure>) {
        let mut state = self.state();
        match failure.filter(|failure| failure.kind == FailureKind::Ill) {
            None => {
                state.failures = 0;
                state.closed_until = None;
            }
            Some(failure) => {
                state.failures = state.failures.saturating_add(1);
                state.last_failure = Arc::from(failure.to_string());
                // One more failure after a rest begins the next rest at once.
                if state.failures >= self.limits.breaker_failures {
                    state.closed_until = Some(Instant::now() + self.limits.rest);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that a task died between plain assignments: the values are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn ill() -> Failure {
        Failure::new(FailureKind::Ill, "Throttling", "too many")
    }

    #[tokio::test(start_paused = true)]
    async fn reads_are_tried_again_and_refusals_are_not() {
        let calls = Calls::new(CallLimits::default());
        let tries = AtomicU32::new(0);
        let flaky = || async { if tries.fetch_add(1, Ordering::Relaxed) < 2 { Err(ill()) } else { Ok(7) } };
        assert_eq!(calls.read(flaky).await, Ok(7));
        assert_eq!(tries.load(Ordering::Relaxed), 3);
        let refused = Failure::new(FailureKind::Denied, "Forbidden", "no");
        let asked = AtomicU32::new(0);
        let refusing = || async {
            asked.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(refused.clone())
        };
        assert_eq!(calls.read(refusing).await, Err(refused.clone()));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ill_api_is_left_alone_for_the_rest_and_then_asked_once() {
        let limits = CallLimits { breaker_failures: 2, ..CallLimits::default() };
        let calls = Calls::new(limits);
        let sent = AtomicU32::new(0);
        let fail = || async {
            sent.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(ill())
        };
        for _ in 0..5 {
            assert!(calls.once(fail()).await.is_err());
        }
        assert_eq!(sent.load(Ordering::Relaxed), 2);
        tokio::time::sleep(limits.rest + Duration::from_secs(1)).await;
        assert!(calls.once(fail()).await.is_err());
        let why = calls.once(fail()).await.unwrap_err();
        assert_eq!(sent.load(Ordering::Relaxed), 3);
        assert!(why.message.contains("Throttling: too many"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_keep_their_rate_and_their_time_out() {
        let calls = Calls::new(CallLimits { per_second: 4, ..CallLimits::default() });
        let begun = Instant::now();
        for _ in 0..9 {
            assert_eq!(calls.once(async { Ok(1) }).await, Ok(1));
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
        let silent = calls.once(std::future::pending::<Result<(), Failure>>()).await.unwrap_err();
        assert_eq!(silent.kind, FailureKind::Ill);
        assert!(silent.message.contains("10000 ms"));
    }
}
